/* vector_avx512.h - vector.h in AVX-512: sixteen floats, partial loads and stores by mask. */
#ifndef ACE_DEVICE_CPU_VECTOR_AVX512_H
#define ACE_DEVICE_CPU_VECTOR_AVX512_H

#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

enum { VF_LANES = 16 };
typedef __m512 vf;

static inline __mmask16 vf_first(int64_t n)
{
    return (__mmask16)(n >= 16 ? 0xffffu : (1u << (n < 0 ? 0 : n)) - 1u);
}

static inline vf vf_set1(float a)
{
    return _mm512_set1_ps(a);
}

static inline vf vf_load_n(const float *p, int64_t n)
{
    return n >= 16 ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps(vf_first(n), p);
}

static inline void vf_store_n(float *p, vf v, int64_t n)
{
    if (n >= 16)
        _mm512_storeu_ps(p, v);
    else
        _mm512_mask_storeu_ps(p, vf_first(n), v);
}

static inline vf vf_load_bf16(const uint16_t *p, int64_t n)
{
    __m256i half = n >= 16 ? _mm256_loadu_si256((const __m256i *)p) : _mm256_maskz_loadu_epi16(vf_first(n), p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

#if defined(VF_ROUNDS_BF16)
/* Turns subnormals into zero, as the products of AMX do. */
static inline __m256i vf_to_bf16(vf v)
{
    return (__m256i)_mm512_cvtneps_pbh(v);
}
#else
/* Rounds to nearest even like ace_f32_to_bf16(). */
static inline __m256i vf_to_bf16(vf v)
{
    __m512i bits = _mm512_castps_si512(v), high = _mm512_srli_epi32(bits, 16);
    __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    rounded = _mm512_srli_epi32(rounded, 16);
    __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    rounded = _mm512_mask_or_epi32(rounded, nan, high, _mm512_set1_epi32(0x40));
    return _mm512_cvtepi32_epi16(rounded);
}
#endif

static inline void vf_store_bf16(uint16_t *p, vf v, int64_t n)
{
    __m256i half = vf_to_bf16(v);
    if (n >= 16)
        _mm256_storeu_si256((__m256i *)p, half);
    else
        _mm256_mask_storeu_epi16(p, vf_first(n), half);
}

static inline vf vf_load_even(const uint16_t *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16));
}

static inline vf vf_load_odd(const uint16_t *p)
{
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32(-65536)));
}

static inline vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

static inline vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}

static inline vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}

static inline vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}

static inline vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline vf vf_fnma(vf a, vf b, vf c)
{
    return _mm512_fnmadd_ps(a, b, c);
}

static inline vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

static inline vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}

static inline vf vf_round(vf a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline vf vf_minus_pi_times(vf z, vf n)
{
    z = _mm512_fnmadd_ps(n, _mm512_set1_ps(VF_PI_HIGH), z);
    z = _mm512_fnmadd_ps(n, _mm512_set1_ps(VF_PI_MIDDLE), z);
    return _mm512_fnmadd_ps(n, _mm512_set1_ps(VF_PI_LOW), z);
}

static inline vf vf_scale2(vf a, vf n)
{
    return _mm512_scalef_ps(a, n);
}

static inline vf vf_zero_below(vf a, vf x, float limit)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, _mm512_set1_ps(limit), _CMP_NLT_UQ), a);
}

static inline bool vf_any_beyond(vf a, float limit)
{
    return _mm512_cmp_ps_mask(_mm512_abs_ps(a), _mm512_set1_ps(limit), _CMP_NLE_UQ) != 0;
}

/* Halves onto each other: the order of the sum is part of the result. */
static inline float vf_sum(vf a)
{
    __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

static inline float vf_highest(vf a)
{
    __m256 b = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

/* m[i] lane j becomes m[j] lane i: within quarters of four lanes, then the quarters. */
static inline void vf_transpose(vf m[VF_LANES])
{
    vf t[VF_LANES];
    for (int i = 0; i < 16; i += 4) {
        vf a = _mm512_unpacklo_ps(m[i], m[i + 1]), b = _mm512_unpackhi_ps(m[i], m[i + 1]);
        vf c = _mm512_unpacklo_ps(m[i + 2], m[i + 3]), d = _mm512_unpackhi_ps(m[i + 2], m[i + 3]);
        t[i] = _mm512_shuffle_ps(a, c, 0x44);
        t[i + 1] = _mm512_shuffle_ps(a, c, 0xee);
        t[i + 2] = _mm512_shuffle_ps(b, d, 0x44);
        t[i + 3] = _mm512_shuffle_ps(b, d, 0xee);
    }
    for (int i = 0; i < 4; i++) {
        vf a = _mm512_shuffle_f32x4(t[i], t[i + 4], 0x88), b = _mm512_shuffle_f32x4(t[i], t[i + 4], 0xdd);
        vf c = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0x88), d = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0xdd);
        m[i] = _mm512_shuffle_f32x4(a, c, 0x88);
        m[i + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
        m[i + 8] = _mm512_shuffle_f32x4(a, c, 0xdd);
        m[i + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
}

#endif
