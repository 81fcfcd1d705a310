/* gemm_int8_avx512vnni.c - the product of bytes in AVX-512 with VNNI: 12 rows x 32 columns of sums in 24 registers.
 * VPDPBUSD adds four products of an unsigned and a signed byte in 32 bits. */
#include "device/cpu/kernels.h"

#include <immintrin.h>
#include <string.h>

enum { MR = 12 };

#define INLINE static inline __attribute__((always_inline))

/* Inlined with a constant number of rows and the loops unrolled, so that the sums live in registers. */
INLINE void tile(int32_t *c, const uint8_t *a, int64_t distance, int count, int64_t slabs, const int8_t *b,
                 bool accumulate, const char *soon)
{
    __m512i left[MR], right[MR];
#pragma GCC unroll 12
    for (int r = 0; r < count; r++) {
        left[r] = right[r] = _mm512_setzero_si512();
    }
    for (int64_t s = 0; s < slabs; s++, a += distance)
        for (int k = 0; k < CPU_SLAB; k += 4, b += 4 * CPU_NR, soon += 4 * CPU_NR) {
            __m512i w0 = _mm512_loadu_si512(b), w1 = _mm512_loadu_si512(b + 64);
            _mm_prefetch(soon, _MM_HINT_T0);
            _mm_prefetch(soon + 64, _MM_HINT_T0);
#pragma GCC unroll 12
            for (int r = 0; r < count; r++) {
                int32_t quad;
                memcpy(&quad, a + r * CPU_SLAB + k, sizeof quad);
                __m512i x = _mm512_set1_epi32(quad);
                left[r] = _mm512_dpbusd_epi32(left[r], x, w0);
                right[r] = _mm512_dpbusd_epi32(right[r], x, w1);
            }
        }
#pragma GCC unroll 12
    for (int r = 0; r < count; r++) {
        int32_t *at = c + r * CPU_NR;
        _mm512_storeu_si512(at, accumulate ? _mm512_add_epi32(_mm512_loadu_si512(at), left[r]) : left[r]);
        at += 16;
        _mm512_storeu_si512(at, accumulate ? _mm512_add_epi32(_mm512_loadu_si512(at), right[r]) : right[r]);
    }
}

#define CASE(n)                                              \
    case n:                                                  \
        tile(c, a, distance, n, slabs, b, accumulate, soon); \
        break;

static void multiply(int32_t *c, const void *rows, int64_t distance, int count, int64_t slabs, const int8_t *b,
                     bool accumulate, const char *soon)
{
    const uint8_t *a = rows;
    switch (count) {
        CASE(1)
        CASE(2)
        CASE(3)
        CASE(4)
        CASE(5)
        CASE(6)
        CASE(7)
        CASE(8)
        CASE(9)
        CASE(10)
        CASE(11)
        CASE(12)
    }
}

const cpu_int8 cpu_int8_avx512_vnni = {.rows = MR, .multiply = multiply};
