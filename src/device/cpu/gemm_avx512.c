/* gemm_avx512.c - the matrix micro-kernel in AVX-512: 12 rows x 32 columns of sums in 24 registers.
 *
 * Per step of k two loads of the panel and one broadcast per row feed two multiply-adds per row, so that the
 * multipliers are the limit and not the loads. */
#include "device/cpu/kernels.h"

#include <immintrin.h>
#include <string.h>

enum { MR = 12 };

#define INLINE static inline __attribute__((always_inline))

/* Sums of a tile: columns 0..15 and 16..31 of each row. Every function that touches them is inlined with a constant
 * number of rows and its loops unrolled, so that they live in registers. */
typedef struct sums {
    __m512 left[MR], right[MR];
} sums;

INLINE void start(sums *t, int count)
{
#pragma GCC unroll 12
    for (int r = 0; r < count; r++) t->left[r] = t->right[r] = _mm512_setzero_ps();
}

INLINE void finish(const sums *t, float *c, int64_t ldc, int count, bool accumulate)
{
#pragma GCC unroll 12
    for (int r = 0; r < count; r++) {
        float *row = c + r * ldc;
        _mm512_storeu_ps(row, accumulate ? _mm512_add_ps(_mm512_loadu_ps(row), t->left[r]) : t->left[r]);
        _mm512_storeu_ps(row + 16, accumulate ? _mm512_add_ps(_mm512_loadu_ps(row + 16), t->right[r]) : t->right[r]);
    }
}

INLINE void tile_f32(float *c, int64_t ldc, const void *rows, int64_t lda, int count, int64_t length, const void *panel,
                     bool accumulate, const char *soon)
{
    const float *a = rows, *b = panel;
    sums t;
    start(&t, count);
    for (int64_t k = 0; k < length; k++, b += CPU_NR) {
        __m512 left = _mm512_loadu_ps(b), right = _mm512_loadu_ps(b + 16);
        _mm_prefetch(soon + k * CPU_SOON, _MM_HINT_T1);
#pragma GCC unroll 12
        for (int r = 0; r < count; r++) {
            __m512 x = _mm512_set1_ps(a[r * lda + k]);
            t.left[r] = _mm512_fmadd_ps(x, left, t.left[r]);
            t.right[r] = _mm512_fmadd_ps(x, right, t.right[r]);
        }
    }
    finish(&t, c, ldc, count, accumulate);
}

/* Two bf16 values in every lane. VDPBF16PS takes subnormal ones, and makes subnormal results, zero. */
INLINE __m512bh broadcast_pair(const uint16_t *p)
{
    int32_t pair;
    memcpy(&pair, p, sizeof pair);
    return (__m512bh)_mm512_set1_epi32(pair);
}

INLINE void tile_bf16(float *c, int64_t ldc, const void *rows, int64_t lda, int count, int64_t length,
                      const void *panel, bool accumulate, const char *soon)
{
    const uint16_t *a = rows, *b = panel;
    sums t;
    start(&t, count);
    for (int64_t k = 0; k < length; k += 2, b += 2 * CPU_NR) {
        __m512bh left = (__m512bh)_mm512_loadu_si512(b), right = (__m512bh)_mm512_loadu_si512(b + CPU_NR);
        _mm_prefetch(soon + k * CPU_SOON, _MM_HINT_T1);
#pragma GCC unroll 12
        for (int r = 0; r < count; r++) {
            __m512bh x = broadcast_pair(a + r * lda + k);
            t.left[r] = _mm512_dpbf16_ps(t.left[r], x, left);
            t.right[r] = _mm512_dpbf16_ps(t.right[r], x, right);
        }
    }
    finish(&t, c, ldc, count, accumulate);
}

#define CASE(tile, n)                                         \
    case n:                                                   \
        tile(c, ldc, a, lda, n, length, b, accumulate, soon); \
        break;
#define CASES(tile) \
    CASE(tile, 1)   \
    CASE(tile, 2)   \
    CASE(tile, 3)   \
    CASE(tile, 4)   \
    CASE(tile, 5)   \
    CASE(tile, 6)   \
    CASE(tile, 7)   \
    CASE(tile, 8)   \
    CASE(tile, 9)   \
    CASE(tile, 10)  \
    CASE(tile, 11)  \
    CASE(tile, 12)

void cpu_gemm_f32_avx512(float *c, int64_t ldc, const void *a, int64_t lda, int count, int64_t length, const void *b,
                         bool accumulate, const char *soon)
{
    switch (count) {
        CASES(tile_f32)
    }
}

void cpu_gemm_bf16_avx512(float *c, int64_t ldc, const void *a, int64_t lda, int count, int64_t length, const void *b,
                          bool accumulate, const char *soon)
{
    switch (count) {
        CASES(tile_bf16)
    }
}
