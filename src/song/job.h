/* job.h - a request made definite for one checkpoint: every choice taken, every text tokenised, every length known. */
#ifndef ACE_SONG_JOB_H
#define ACE_SONG_JOB_H

#include "diffusion/sampler.h"
#include "model/checkpoint.h"
#include "song/request.h"
#include "text/bpe.h"

enum { JOB_MAX_BATCH = 8 };

typedef struct job_tokens {
    int32_t *ids;
    int64_t count;
} job_tokens;

typedef struct song_codes {
    int32_t *codes; /* owned */
    int64_t count;
} song_codes;

typedef struct song_job {
    ace_request *request; /* every field set */
    sampler_options sampler;
    flow_schedule schedule;
    double *timesteps; /* behind sampler.timesteps */
    int batch;
    uint64_t seeds[JOB_MAX_BATCH];
    int64_t frames; /* latent frames of every song */

    job_tokens caption, lyrics;
    job_tokens plain_caption; /* for the steps after audio_cover_strength; count 0: not needed (dit.md 14.1) */
    int list_count;           /* of audio codes: 0, 1 for all songs, or one for each */
    song_codes lists[JOB_MAX_BATCH];
    int64_t code_count; /* of the longest list */
} song_job;

typedef struct job_warnings {
    void (*warn)(void *user, const char *sentence); /* may be NULL */
    void *user;
} job_warnings;

/* The request as it will be followed: a copy with a seed, drawn from the system if it has none, that leaves room for
 * one for each song, and without control characters in its texts, which no model has learned to read; a warning says
 * how many. NULL with an error. */
ace_request *song_request(const ace_request *request, const job_warnings *warnings, ace_error *error);

/* Takes all decisions for a request of song_request(). `planned` are the codes of each song, which the job takes over
 * and empties; with `planned_count` 0 those of the request, if it has any, are for all. `tokenizer` is NULL for a
 * synthetic checkpoint, whose tokens are then made from the bytes. On failure nothing needs freeing. */
bool song_job_prepare(song_job *job, const ace_request *request, song_codes *planned, int planned_count,
                      const ace_checkpoint *checkpoint, const ace_tokenizer *tokenizer, const job_warnings *warnings,
                      ace_error *error);
void song_job_free(song_job *job);

#endif
