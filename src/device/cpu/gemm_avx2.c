/* gemm_avx2.c - the matrix micro-kernel in AVX2: 6 rows x 16 columns of sums in 12 registers, twice per panel. */
#include "device/cpu/kernels.h"

#include <immintrin.h>

enum { MR = 6, STRIP = 16 };

#define INLINE static inline __attribute__((always_inline))

/* Inlined with a constant number of rows and the loops unrolled, so that the sums live in registers. */
INLINE void strip_f32(float *c, int64_t ldc, const float *a, int64_t lda, int count, int64_t length, const float *b,
                      bool accumulate, const char *soon)
{
    __m256 left[MR], right[MR];
#pragma GCC unroll 6
    for (int r = 0; r < count; r++) {
        left[r] = right[r] = _mm256_setzero_ps();
    }
    for (int64_t k = 0; k < length; k++, b += CPU_NR) {
        __m256 w0 = _mm256_loadu_ps(b), w1 = _mm256_loadu_ps(b + 8);
        _mm_prefetch(soon + k * CPU_SOON, _MM_HINT_T1);
#pragma GCC unroll 6
        for (int r = 0; r < count; r++) {
            __m256 x = _mm256_broadcast_ss(a + r * lda + k);
            left[r] = _mm256_fmadd_ps(x, w0, left[r]);
            right[r] = _mm256_fmadd_ps(x, w1, right[r]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < count; r++) {
        float *row = c + r * ldc;
        _mm256_storeu_ps(row, accumulate ? _mm256_add_ps(_mm256_loadu_ps(row), left[r]) : left[r]);
        _mm256_storeu_ps(row + 8, accumulate ? _mm256_add_ps(_mm256_loadu_ps(row + 8), right[r]) : right[r]);
    }
}

#define CASE(n)                                                    \
    case n:                                                        \
        strip_f32(c, ldc, a, lda, n, length, b, accumulate, soon); \
        break;

void cpu_gemm_f32_avx2(float *c, int64_t ldc, const void *rows, int64_t lda, int count, int64_t length,
                       const void *panel, bool accumulate, const char *soon)
{
    const float *a = rows, *b = panel;
    for (int strip = 0; strip < CPU_NR; strip += STRIP, c += STRIP, b += STRIP) switch (count) {
            CASE(1)
            CASE(2)
            CASE(3)
            CASE(4)
            CASE(5)
            CASE(6)
        }
}
