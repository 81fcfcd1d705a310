/* lm_sampling.h - from the planner's values for the allowed tokens to one token (lm.md 5).
 *
 * Candidates are arrays in ascending order of token id: values[i] belongs to the i-th allowed id. All functions are
 * pure: what they return depends on their arguments alone, so an item of a batch gets what it gets alone. */
#ifndef ACE_LM_LM_SAMPLING_H
#define ACE_LM_LM_SAMPLING_H

#include <acestep.h>

typedef struct lm_sampling {
    float temperature;        /* 0: the largest value, the lowest id of equals */
    int top_k;                /* 0: off */
    float top_p;              /* in (0, 1]; 1: off */
    float repetition_penalty; /* > 0; 1: off */
    float guidance;           /* >= 1; 1: off, no unconditional rows are computed */
} lm_sampling;

/* What the official program uses when nothing is said: 0.85, off, 0.9, off, 2. */
lm_sampling lm_sampling_default(void);

/* ACE_ERROR_USAGE naming the value that is out of range. */
bool lm_sampling_check(const lm_sampling *sampling, ace_error *error);

/* The stream of random numbers that a phase draws from. */
typedef enum lm_stream { LM_STREAM_TEXT = 1, LM_STREAM_CODES = 2 } lm_stream;

/* The uniform number in (0, 1) for the token at `position` of its phase: Philox, counter (position, 0, stream, 0), key
 * seed (lm.md 5.7). Item i of a request uses seed + i. */
double lm_uniform(uint64_t seed, lm_stream stream, uint32_t position);

/* Step 1: values of ids whose bit is set in `seen` become v / penalty if v >= 0, else v * penalty. */
void lm_penalize(float *values, const int32_t *ids, int64_t count, const uint64_t *seen, float penalty);

/* Step 2, classifier-free guidance: conditional = unconditional + scale * (conditional - unconditional). */
void lm_guide(float *conditional, const float *unconditional, int64_t count, float scale);

/* Memory for the sampling of up to `capacity` candidates. */
typedef struct lm_sampler {
    int64_t capacity;
    double *weights;
    struct lm_ranked *ranked;
    struct lm_bins *bins;
} lm_sampler;

bool lm_sampler_open(lm_sampler *sampler, int64_t capacity, ace_error *error);
void lm_sampler_close(lm_sampler *sampler); /* safe on a zeroed one and twice */

/* Steps 5 to 8 (temperature, top-k, top-p, draw): the index of the chosen candidate. -1 when a value is not finite or
 * there is none. `sampling`'s penalty and guidance are not looked at. */
int64_t lm_sample(lm_sampler *sampler, const float *values, int64_t count, const lm_sampling *sampling, double uniform);

#endif
