/* yardstick.h - the same products by oneDNN, where its development package was found at build time. */
#ifndef BENCH_YARDSTICK_H
#define BENCH_YARDSTICK_H

#include "device/device.h"

#include <stdint.h>

typedef struct yardstick yardstick;

/* INT8: bytes of either sign times bytes that have one, in 32 bits, and that is the result: nothing is quantised or
 * scaled. U8 leaves out the sign of x. ROUNDED: the sums times a scale for each column become bf16. */
typedef enum yardstick_kind {
    YARDSTICK_F32,
    YARDSTICK_BF16,
    YARDSTICK_INT8,
    YARDSTICK_INT8_ROUNDED,
    YARDSTICK_U8,
    YARDSTICK_U8_ROUNDED
} yardstick_kind;

/* Instructions that oneDNN may use, before it is used for the first time. */
void yardstick_limit(ace_isa isa);

/* y[m][n] = x[m][k] . W[n][k]^T, weights in the layout oneDNN likes best, on `threads` threads (0: all).
 * NULL without oneDNN, or if it cannot. */
yardstick *yardstick_linear(yardstick_kind kind, int64_t m, int64_t k, int64_t n, int threads);

/* What oneDNN runs, "brgemm:avx512_core_amx". */
const char *yardstick_implementation(const yardstick *y);

/* Convolution of seven taps, `rows` long, `channels` to as many, padded to the same length, with bias. bf16. */
yardstick *yardstick_conv(int64_t rows, int64_t channels, int dilation, int threads);

void yardstick_run(yardstick *y);
void yardstick_free(yardstick *y);

#endif
