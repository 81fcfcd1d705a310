/* gemm_int8_avx2.c - the product of bytes in AVX2, for processors without VNNI: 4 rows x 8 columns of sums in 8
 * registers, four times per panel.
 *
 * VPMADDUBSW, the product of bytes, adds two products in 16 bits and saturates: it is not used. The weights are
 * extended to int16 on their way (x is stored so), and VPMADDWD adds two products in 32 bits. So a column has two sums,
 * of the first and the second pair of each four values of k, which are added at the end. */
#include "device/cpu/kernels.h"

#include <immintrin.h>
#include <string.h>

enum { MR = 4, STRIP = 8 };

#define INLINE static inline __attribute__((always_inline))

/* Sums of columns 0 .. 3 and 4 .. 7: s0 t0 s1 t1 | s2 t2 s3 t3 become s0 s1 s4 s5 | s2 s3 s6 s7, and these are sorted.
 */
INLINE __m256i add_pairs(__m256i left, __m256i right)
{
    return _mm256_permute4x64_epi64(_mm256_hadd_epi32(left, right), 0xd8);
}

/* Inlined with a constant number of rows and the loops unrolled, so that the sums live in registers. */
INLINE void strip(int32_t *c, const int16_t *a, int64_t distance, int count, int64_t slabs, const int8_t *b,
                  bool accumulate, const char *soon)
{
    __m256i left[MR], right[MR];
#pragma GCC unroll 4
    for (int r = 0; r < count; r++) {
        left[r] = right[r] = _mm256_setzero_si256();
    }
    for (int64_t s = 0; s < slabs; s++, a += distance)
        for (int k = 0; k < CPU_SLAB; k += 4, b += 4 * CPU_NR, soon += STRIP * 4) {
            __m256i w0 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)b));
            __m256i w1 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(b + 16)));
            _mm_prefetch(soon, _MM_HINT_T0);
#pragma GCC unroll 4
            for (int r = 0; r < count; r++) {
                int64_t quad;
                memcpy(&quad, a + r * CPU_SLAB + k, sizeof quad);
                __m256i x = _mm256_set1_epi64x(quad);
                left[r] = _mm256_add_epi32(left[r], _mm256_madd_epi16(x, w0));
                right[r] = _mm256_add_epi32(right[r], _mm256_madd_epi16(x, w1));
            }
        }
#pragma GCC unroll 4
    for (int r = 0; r < count; r++) {
        __m256i *at = (__m256i *)(void *)(c + r * CPU_NR), sum = add_pairs(left[r], right[r]);
        _mm256_storeu_si256(at, accumulate ? _mm256_add_epi32(_mm256_loadu_si256(at), sum) : sum);
    }
}

#define CASE(n)                                               \
    case n:                                                   \
        strip(c, a, distance, n, slabs, b, accumulate, soon); \
        break;

/* Each strip asks for a quarter of the lines. */
static void multiply(int32_t *c, const void *rows, int64_t distance, int count, int64_t slabs, const int8_t *b,
                     bool accumulate, const char *soon)
{
    const int16_t *a = rows;
    for (int col = 0; col < CPU_NR; col += STRIP, c += STRIP, b += 4 * STRIP, soon += slabs * CPU_SLAB_BYTES / 4)
        switch (count) {
            CASE(1)
            CASE(2)
            CASE(3)
            CASE(4)
        }
}

const cpu_int8 cpu_int8_avx2 = {.rows = MR, .wide = true, .multiply = multiply};
