/* limits.h - the one place where a request is measured against the machine. A duration or a batch above the limit is
 * never an error and never silent: it is reduced, and a sentence says so. Every entry point (command line, library,
 * server, page) takes values and sentence from here.
 *
 * Wiring takes two calls: machine_limits_basis() once (machine.h), limits_request() for each request. */
#ifndef ACE_VRAM_LIMITS_H
#define ACE_VRAM_LIMITS_H

#include "vram/tiers.h"

typedef enum limits_source {
    LIMITS_CARD,      /* memory of a graphics card */
    LIMITS_SIMULATED, /* memory that a person asked to pretend */
    LIMITS_CPU        /* memory available to this process; never called a tier */
} limits_source;

/* What the limits follow from. The tier belongs to the table. */
typedef struct limits_basis {
    const tier *tier;
    double gib; /* as detected or simulated, never rounded to a boundary */
    limits_source source;
} limits_basis;

/* What decides a value that is over the limit, for the sentence. */
typedef enum limits_origin { LIMITS_ASKED, LIMITS_SOURCE_AUDIO } limits_origin;

enum { LIMITS_SENTENCE = 512 };

/* "" while nothing was reduced. */
typedef struct limits_result {
    double duration; /* seconds */
    int batch;
    char duration_warning[LIMITS_SENTENCE];
    char batch_warning[LIMITS_SENTENCE];
} limits_result;

double limits_max_duration(const limits_basis *basis, bool with_lm);
int limits_max_batch(const limits_basis *basis, bool with_lm);

/* Reduces a duration (seconds; of the source or reference audio when no other was given) and a batch to the limits.
 * A warning states five facts: what was asked, the memory in GB, the limit, whether it is the one with or without the
 * language model, and that the value was reduced to it. A pure function. */
void limits_request(const limits_basis *basis, bool with_lm, double duration, limits_origin origin, int batch,
                    limits_result *result);

/* The longest duration the language model may itself choose, for its grammar: the tier's limit with the language model,
 * in whole seconds, at least 10. */
int limits_lm_duration(const limits_basis *basis);

#endif
