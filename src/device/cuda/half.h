/* half.h - weights as GPUs before compute capability 8.0 multiply them: rows of half, times a power of two (gpu.h). */
#ifndef ACE_DEVICE_CUDA_HALF_H
#define ACE_DEVICE_CUDA_HALF_H

#include "base/dtype.h"

#include <stdint.h>

/* The exponent of a row of `n` bfloat16. */
int32_t half_exponent(const uint16_t *row, int64_t n);

/* `n` bfloat16 as half, times 2^exponent: to nearest even, infinity and NaN as such. */
void half_row(uint16_t *to, const uint16_t *row, int64_t n, int32_t exponent);

/* The exponent of a row of INT4, of which these are the `n` scales, as bfloat16. */
int32_t half_exponent_of_int4(const uint16_t *scales, int64_t n);

/* The exponent of a row of `n` blocks of GGUF. */
int32_t half_exponent_of_blocks(ace_dtype dtype, const uint8_t *row, int64_t n);

#endif
