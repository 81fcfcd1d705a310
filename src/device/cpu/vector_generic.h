/* vector_generic.h - vector.h for any CPU: the compiler's own vectors of four floats, no fused multiply-add. */
#ifndef ACE_DEVICE_CPU_VECTOR_GENERIC_H
#define ACE_DEVICE_CPU_VECTOR_GENERIC_H

#include "base/dtype.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { VF_LANES = 4 };
typedef float vf __attribute__((vector_size(16)));
typedef int32_t vf_bits __attribute__((vector_size(16)));

static inline vf vf_set1(float a)
{
    return (vf){a, a, a, a};
}

static inline vf vf_load_n(const float *p, int64_t n)
{
    vf v = {0};
    if (n >= VF_LANES)
        memcpy(&v, p, sizeof v);
    else
        for (int64_t i = 0; i < n; i++) v[i] = p[i];
    return v;
}

static inline void vf_store_n(float *p, vf v, int64_t n)
{
    if (n >= VF_LANES)
        memcpy(p, &v, sizeof v);
    else
        for (int64_t i = 0; i < n; i++) p[i] = v[i];
}

static inline vf vf_load_bf16(const uint16_t *p, int64_t n)
{
    vf v = {0};
    for (int64_t i = 0; i < (n < VF_LANES ? n : VF_LANES); i++) v[i] = ace_bf16_to_f32(p[i]);
    return v;
}

static inline void vf_store_bf16(uint16_t *p, vf v, int64_t n)
{
    for (int64_t i = 0; i < (n < VF_LANES ? n : VF_LANES); i++) p[i] = ace_f32_to_bf16(v[i]);
}

/* The even ones, or the odd ones, of 2 * VF_LANES bf16 values. */
static inline vf vf_load_even(const uint16_t *p)
{
    return (vf){ace_bf16_to_f32(p[0]), ace_bf16_to_f32(p[2]), ace_bf16_to_f32(p[4]), ace_bf16_to_f32(p[6])};
}

static inline vf vf_load_odd(const uint16_t *p)
{
    return vf_load_even(p + 1);
}

static inline vf vf_add(vf a, vf b)
{
    return a + b;
}

static inline vf vf_sub(vf a, vf b)
{
    return a - b;
}

static inline vf vf_mul(vf a, vf b)
{
    return a * b;
}

static inline vf vf_div(vf a, vf b)
{
    return a / b;
}

/* a * b + c */
static inline vf vf_fma(vf a, vf b, vf c)
{
    return a * b + c;
}

/* c - a * b */
static inline vf vf_fnma(vf a, vf b, vf c)
{
    return c - a * b;
}

static inline vf vf_choose(vf_bits mask, vf a, vf b)
{
    return (vf)((mask & (vf_bits)a) | (~mask & (vf_bits)b));
}

static inline vf vf_max(vf a, vf b)
{
    return vf_choose((vf_bits)(a > b), a, b);
}

static inline vf vf_min(vf a, vf b)
{
    return vf_choose((vf_bits)(a < b), a, b);
}

/* To the nearest integer, for |a| < 2^22: adding 1.5 * 2^23 leaves no fraction bits. */
static inline vf vf_round(vf a)
{
    vf magic = vf_set1(0x1.8p23f);
    return a + magic - magic;
}

/* z - n * pi. In double precision, pi in two parts: n times the first, of 33 bits, is exact. */
static inline vf vf_minus_pi_times(vf z, vf n)
{
    vf r;
    for (int i = 0; i < VF_LANES; i++)
        r[i] = (float)((double)z[i] - (double)n[i] * 0x1.921fb544p+1 - (double)n[i] * 0x1.0b4611a626331p-33);
    return r;
}

/* a * 2^n for integral n in [-160, 150]. */
static inline vf vf_scale2(vf a, vf n)
{
    vf_bits whole = __builtin_convertvector(n, vf_bits), half = whole >> 1;
    return a * (vf)((half + 127) << 23) * (vf)((whole - half + 127) << 23);
}

/* a, but zero where x < limit. */
static inline vf vf_zero_below(vf a, vf x, float limit)
{
    return vf_choose((vf_bits)(x < vf_set1(limit)), vf_set1(0), a);
}

/* True when some lane is NaN or its magnitude is above the limit. */
static inline bool vf_any_beyond(vf a, float limit)
{
    for (int i = 0; i < VF_LANES; i++)
        if (!(fabsf(a[i]) <= limit)) return true;
    return false;
}

static inline float vf_sum(vf a)
{
    return (a[0] + a[2]) + (a[1] + a[3]);
}

static inline float vf_highest(vf a)
{
    vf b = vf_max(a, (vf){a[2], a[3], a[0], a[1]});
    return b[0] > b[1] ? b[0] : b[1];
}

/* m[i] lane j becomes m[j] lane i. */
static inline void vf_transpose(vf m[VF_LANES])
{
    for (int i = 0; i < VF_LANES; i++)
        for (int j = 0; j < i; j++) {
            float swap = m[i][j];
            m[i][j] = m[j][i];
            m[j][i] = swap;
        }
}

#endif
