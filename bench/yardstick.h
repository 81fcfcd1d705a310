/* yardstick.h - the same products by oneDNN, where its development package was found at build time. */
#ifndef BENCH_YARDSTICK_H
#define BENCH_YARDSTICK_H

#include <stdint.h>

typedef struct yardstick yardstick;

/* y[m][n] = x[m][k] . W[n][k]^T, all bf16, weights in the layout oneDNN likes best, on `threads` threads (0: all).
 * NULL without oneDNN, or if it cannot. */
yardstick *yardstick_linear(int64_t m, int64_t k, int64_t n, int threads);

/* Convolution of seven taps, `rows` long, `channels` to as many, padded to the same length, with bias. bf16. */
yardstick *yardstick_conv(int64_t rows, int64_t channels, int dilation, int threads);

void yardstick_run(yardstick *y);
void yardstick_free(yardstick *y);

#endif
