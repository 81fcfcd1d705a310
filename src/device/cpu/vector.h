/* vector.h - a small vocabulary of float vectors, so that the row kernels are written once for all instruction sets.
 *
 * `vf` holds VF_LANES floats. Loads and stores with `n` touch only the first n lanes (n may exceed VF_LANES: all);
 * lanes that are not loaded are zero. vf_max and vf_min return b where a or b is NaN. This header means what the
 * compiler's flags for the including file say: include it from *_generic.c, *_avx2.c and *_avx512.c only. */
#ifndef ACE_DEVICE_CPU_VECTOR_H
#define ACE_DEVICE_CPU_VECTOR_H

#include "base/dtype.h"

#include <math.h>
#include <stdbool.h>

/* pi in three floats, each the nearest to what the ones before leave over. */
#define VF_PI_HIGH 0x1.921fb6p+1f
#define VF_PI_MIDDLE (-0x1.777a5cp-24f)
#define VF_PI_LOW (-0x1.ee59dap-49f)

#if defined(__AVX512F__)
#include "device/cpu/vector_avx512.h"
#elif defined(__AVX2__)
#include "device/cpu/vector_avx2.h"
#else
#include "device/cpu/vector_generic.h"
#endif

/* n values at p, which is of type F32 or BF16. */
static inline vf vf_load_as(const void *p, ace_dtype dtype, int64_t i, int64_t n)
{
    return dtype == ACE_BF16 ? vf_load_bf16((const uint16_t *)p + i, n) : vf_load_n((const float *)p + i, n);
}

static inline void vf_store_as(void *p, ace_dtype dtype, int64_t i, vf v, int64_t n)
{
    if (dtype == ACE_BF16)
        vf_store_bf16((uint16_t *)p + i, v, n);
    else
        vf_store_n((float *)p + i, v, n);
}

/* ---- functions ----------------------------------------------------------------------------------------------- */

/* e^x. Cody-Waite reduction by ln 2, then the Taylor polynomial of degree 7 on [-ln2/2, ln2/2] (its remainder is below
 * 2^-27); 2^n in two factors, so that infinity comes out. Exactly 1 at 0. Results that would be subnormal are zero:
 * they are slow to compute with, and nothing next to the 1 that both users of this function add or divide by. */
static inline vf vf_exp(vf x)
{
    vf kept = vf_max(vf_set1(-87.33f), vf_min(vf_set1(100.0f), x));
    vf n = vf_round(vf_mul(kept, vf_set1(0x1.715476p+0f)));
    vf r = vf_fnma(n, vf_set1(0x1.62e4p-1f), kept); /* 15 bits: n times it is exact */
    r = vf_fnma(n, vf_set1(0x1.7f7d1cp-20f), r);
    vf p = vf_set1(1.0f / 5040.0f);
    p = vf_fma(p, r, vf_set1(1.0f / 720.0f));
    p = vf_fma(p, r, vf_set1(1.0f / 120.0f));
    p = vf_fma(p, r, vf_set1(1.0f / 24.0f));
    p = vf_fma(p, r, vf_set1(1.0f / 6.0f));
    p = vf_fma(p, r, vf_set1(0.5f));
    p = vf_fma(vf_mul(r, r), p, r);
    return vf_zero_below(vf_scale2(vf_add(p, vf_set1(1.0f)), n), x, -87.33f);
}

static inline vf vf_silu(vf x)
{
    return vf_div(x, vf_add(vf_set1(1.0f), vf_exp(vf_sub(vf_set1(0.0f), x))));
}

/* sin(z)^2. z is reduced to r in [-pi/2, pi/2] by n half turns, which change no more than the sign of the sine. Then it
 * is q (1 + q p(q)) with q = r^2, p being the polynomial of degree 4 with the smallest relative error (2^-25.7, found
 * by Remez' algorithm and a search among the neighbouring floats). Lanes beyond the range in which the reduction is
 * exact are left to libm. */
static inline vf vf_sin_squared(vf z)
{
    const vf magic = vf_set1(0x1.8p23f); /* what is added to it is rounded to an integer */
    vf r = vf_minus_pi_times(z, vf_sub(vf_fma(z, vf_set1(0x1.45f306p-2f), magic), magic));
    vf q = vf_mul(r, r);
    vf p = vf_set1(-0x1.e5f626p-19f);
    p = vf_fma(p, q, vf_set1(0x1.241e9ap-13f));
    p = vf_fma(p, q, vf_set1(-0x1.9fcccap-9f));
    p = vf_fma(p, q, vf_set1(0x1.6c13fep-5f));
    p = vf_fma(p, q, vf_set1(-0x1.555544p-2f));
    vf s = vf_mul(vf_fma(p, q, vf_set1(1.0f)), q);
    if (vf_any_beyond(z, 30000.0f)) {
        float in[VF_LANES], out[VF_LANES];
        vf_store_n(in, z, VF_LANES);
        vf_store_n(out, s, VF_LANES);
        for (int i = 0; i < VF_LANES; i++)
            if (!(fabsf(in[i]) <= 30000.0f)) out[i] = sinf(in[i]) * sinf(in[i]);
        s = vf_load_n(out, VF_LANES);
    }
    return s;
}

#endif
