/* provenance.h - how a song says what made it: one JSON object, in its tags and beside it, from which it can be made
 * again. It holds nothing of time, place or machine: the same request gives the same bytes. */
#ifndef ACE_SONG_PROVENANCE_H
#define ACE_SONG_PROVENANCE_H

#include <acestep.h>

typedef struct provenance {
    const ace_request *request; /* resolved, of this one song */
    const ace_request *asked;   /* before a planner worked on it; NULL: none did */
    const char *planner;        /* its name */
    const char *model;          /* name of the checkpoint */
    const char *model_hash;
    const char *precision;       /* "bf16" or "f32" */
    const char *quantization;    /* of the DiT's layers: "none", "int8", "int4" or "keep" */
    const char *lm_quantization; /* of the planner's, when it worked on the request */
    bool synthetic;
    int64_t frames; /* audio frames at 48 kHz */
    float peak;     /* before limiter and normalisation */
} provenance;

/* Caller frees. */
char *provenance_to_json(const provenance *p, ace_error *error);

#endif
