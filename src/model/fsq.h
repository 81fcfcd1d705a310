/* fsq.h - finite scalar quantisation: a few bounded values, a few levels each, one code for all of them (dit.md 4.2;
 * Mentzer et al., Finite Scalar Quantization: VQ-VAE Made Simple, 2023, in the symmetry-preserving form). */
#ifndef ACE_MODEL_FSQ_H
#define ACE_MODEL_FSQ_H

#include "model/config.h"

/* Number of codes: the product of config->fsq_levels. */
int32_t fsq_codes(const dit_config *config);

/* The code of config->fsq_count projected values z, none of them NaN. */
int32_t fsq_index(const dit_config *config, const float *z);

/* The config->fsq_count values in [-1, 1] of a code in [0, fsq_codes()). */
void fsq_values(const dit_config *config, int32_t index, float *values);

#endif
