/* gemm_int8_avx2vnni.c - the product of bytes in AVX2 with VNNI: 6 rows x 16 columns of sums in 12 registers, twice per
 * panel. VPDPBUSD adds four products of an unsigned and a signed byte in 32 bits. */
#include "device/cpu/kernels.h"

#include <immintrin.h>
#include <string.h>

enum { MR = 6, STRIP = 16 };

#define INLINE static inline __attribute__((always_inline))

/* Inlined with a constant number of rows and the loops unrolled, so that the sums live in registers. */
INLINE void strip(int32_t *c, const uint8_t *a, int64_t distance, int count, int64_t slabs, const int8_t *b,
                  bool accumulate, const char *soon)
{
    __m256i left[MR], right[MR];
#pragma GCC unroll 6
    for (int r = 0; r < count; r++) {
        left[r] = right[r] = _mm256_setzero_si256();
    }
    for (int64_t s = 0; s < slabs; s++, a += distance)
        for (int k = 0; k < CPU_SLAB; k += 4, b += 4 * CPU_NR, soon += 4 * STRIP) {
            __m256i w0 = _mm256_loadu_si256((const __m256i *)b), w1 = _mm256_loadu_si256((const __m256i *)(b + 32));
            _mm_prefetch(soon, _MM_HINT_T0);
#pragma GCC unroll 6
            for (int r = 0; r < count; r++) {
                int32_t quad;
                memcpy(&quad, a + r * CPU_SLAB + k, sizeof quad);
                __m256i x = _mm256_set1_epi32(quad);
                left[r] = _mm256_dpbusd_avx_epi32(left[r], x, w0);
                right[r] = _mm256_dpbusd_avx_epi32(right[r], x, w1);
            }
        }
#pragma GCC unroll 6
    for (int r = 0; r < count; r++) {
        __m256i *at = (__m256i *)(void *)(c + r * CPU_NR);
        _mm256_storeu_si256(at, accumulate ? _mm256_add_epi32(_mm256_loadu_si256(at), left[r]) : left[r]);
        at++;
        _mm256_storeu_si256(at, accumulate ? _mm256_add_epi32(_mm256_loadu_si256(at), right[r]) : right[r]);
    }
}

#define CASE(n)                                               \
    case n:                                                   \
        strip(c, a, distance, n, slabs, b, accumulate, soon); \
        break;

/* Each strip asks for half of the lines. */
static void multiply(int32_t *c, const void *rows, int64_t distance, int count, int64_t slabs, const int8_t *b,
                     bool accumulate, const char *soon)
{
    const uint8_t *a = rows;
    for (int col = 0; col < CPU_NR; col += STRIP, c += STRIP, b += 4 * STRIP, soon += slabs * CPU_SLAB_BYTES / 2)
        switch (count) {
            CASE(1)
            CASE(2)
            CASE(3)
            CASE(4)
            CASE(5)
            CASE(6)
        }
}

const cpu_int8 cpu_int8_avx2_vnni = {.rows = MR, .multiply = multiply};
