/* attention_softmax.h - what attention on AMX has for many queries and for few, above all the arithmetic of softmax: so
 * their bits are the same. For files that are compiled for AVX-512.
 *
 * Weights are powers of two, 2^(s log2(e) scale - m). The reference m of a query is a whole number, so that what was
 * summed under another is multiplied by an exact power of two; and it only moves when a score is 2^8 times above it,
 * for float32 has room enough. The sum of a query's weights is that of the weights as rounded to bf16, so that what
 * they are multiplied by adds up to one. */
#ifndef ACE_DEVICE_CPU_ATTENTION_SOFTMAX_H
#define ACE_DEVICE_CPU_ATTENTION_SOFTMAX_H

#include <immintrin.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))

/* The intrinsics do not tell every compiler what memory a tile load reads. */
#define MEMORY_IS_WRITTEN() __asm__ volatile("" ::: "memory")

/* The operand of LDTILECFG. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

/* The values of two keys, 32 dimensions, as pairs: those of the first 16 dimensions and of the others. */
INLINE void pair_values(__m512i a, __m512i b, __m512i *left, __m512i *right)
{
    const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37,
                                         5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    *left = _mm512_permutex2var_epi16(a, low, b);
    *right = _mm512_permutex2var_epi16(a, _mm512_add_epi16(low, _mm512_set1_epi16(16)), b);
}

/* 2^(s * scale - reference), whose upper sixteen bits are it rounded to bf16, half upwards. The polynomial is the
 * minimax one of degree 3 for 2^f on [0, 1) that is 1 at 0 (relative error 8.6e-5); the half that rounds is added to
 * its constant, the whole part to its exponent. Below 2^-126 those sixteen bits are zero or subnormal, which the
 * products take for zero. NaN stays NaN. */
INLINE __m512i rounded_weight(__m512 s, __m512 scale, __m512 reference)
{
    const __m512 magic = _mm512_set1_ps(0x1.8p23f); /* what is added to it is rounded to an integer: its last bits */
    __m512 x = _mm512_max_ps(_mm512_set1_ps(-127), _mm512_fmsub_ps(s, scale, reference));
    __m512 shifted = _mm512_add_round_ps(x, magic, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    __m512 f = _mm512_sub_ps(x, _mm512_sub_ps(shifted, magic));
    __m512 p = _mm512_fmadd_ps(f, _mm512_set1_ps(0x1.3baa98p-4f), _mm512_set1_ps(0x1.d23792p-3f));
    p = _mm512_fmadd_ps(f, p, _mm512_set1_ps(0x1.63e658p-1f));
    p = _mm512_fmadd_ps(f, p, _mm512_set1_ps(1 + 0x1p-8f));
    return _mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(shifted), 23));
}

/* Online softmax (Milakov and Gimelshein 2018): the reference of one row in each lane, as it was and as scores that
 * come make it. */
typedef struct softmax {
    __m512 now;
    __m512 reference, shrink; /* what weights are taken from; what was summed before must be multiplied by shrink */
    bool moved;
} softmax;

/* highest: of the scores that come, times the scale. Minus infinity means that nothing was attended yet; subtracting 0
 * instead keeps 2^-infinity = 0 and avoids infinity - infinity. */
INLINE softmax refer(__m512 highest, __m512 before)
{
    enum { ROOM = 8 };
    const __m512 one = _mm512_set1_ps(1), nothing = _mm512_set1_ps(-INFINITY);
    /* not below the exact product, so that no exponent can be far above 0, however large the scores */
    highest = _mm512_fmadd_ps(_mm512_abs_ps(highest), _mm512_set1_ps(0x1p-22f), highest);
    __mmask16 moved = _mm512_cmp_ps_mask(highest, _mm512_add_ps(before, _mm512_set1_ps(ROOM)), _CMP_GT_OQ);
    __m512 now = _mm512_mask_roundscale_ps(before, moved, highest, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
    return (softmax){.now = now,
                     .reference = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(now, nothing, _CMP_NEQ_UQ), now),
                     .shrink = _mm512_mask_scalef_ps(one, moved, one, _mm512_sub_ps(before, now)),
                     .moved = moved != 0};
}

/* bf16 in the upper sixteen bits, rounded to nearest even like ace_f32_to_bf16(). */
INLINE __m512i rounded_bits(__m512 v)
{
    __m512i bits = _mm512_castps_si512(v), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    return _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
}

#endif
