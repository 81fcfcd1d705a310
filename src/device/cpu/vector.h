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
 * 2^-27); 2^n in two factors, so that subnormal results and infinity come out. Exactly 1 at 0. */
static inline vf vf_exp(vf x)
{
    x = vf_max(vf_set1(-110.0f), vf_min(vf_set1(100.0f), x));
    vf n = vf_round(vf_mul(x, vf_set1(0x1.715476p+0f)));
    vf r = vf_fnma(n, vf_set1(0x1.62e4p-1f), x); /* 15 bits: n times it is exact */
    r = vf_fnma(n, vf_set1(0x1.7f7d1cp-20f), r);
    vf p = vf_set1(1.0f / 5040.0f);
    p = vf_fma(p, r, vf_set1(1.0f / 720.0f));
    p = vf_fma(p, r, vf_set1(1.0f / 120.0f));
    p = vf_fma(p, r, vf_set1(1.0f / 24.0f));
    p = vf_fma(p, r, vf_set1(1.0f / 6.0f));
    p = vf_fma(p, r, vf_set1(0.5f));
    p = vf_fma(vf_mul(r, r), p, r);
    return vf_scale2(vf_add(p, vf_set1(1.0f)), n);
}

static inline vf vf_silu(vf x)
{
    return vf_div(x, vf_add(vf_set1(1.0f), vf_exp(vf_sub(vf_set1(0.0f), x))));
}

/* sin(z)^2, period pi: z is reduced to [-pi/2, pi/2], then the odd polynomial of degree 13. Lanes beyond the range in
 * which the reduction is exact are left to libm. */
static inline vf vf_sin_squared(vf z)
{
    vf n = vf_round(vf_mul(z, vf_set1((float)0.31830988618379067154)));
    vf r = vf_minus_pi_times(z, n);
    vf q = vf_mul(r, r);
    vf p = vf_set1(1.6059043836821614599e-10f); /* 1/13! */
    p = vf_fma(p, q, vf_set1(-2.5052108385441718775e-8f));
    p = vf_fma(p, q, vf_set1(2.7557319223985890653e-6f));
    p = vf_fma(p, q, vf_set1(-1.9841269841269841270e-4f));
    p = vf_fma(p, q, vf_set1(8.3333333333333333333e-3f));
    p = vf_fma(p, q, vf_set1(-1.6666666666666666667e-1f));
    vf s = vf_fma(vf_mul(r, q), p, r);
    if (vf_any_beyond(z, 30000.0f)) {
        float in[VF_LANES], out[VF_LANES];
        vf_store_n(in, z, VF_LANES);
        vf_store_n(out, s, VF_LANES);
        for (int i = 0; i < VF_LANES; i++)
            if (!(fabsf(in[i]) <= 30000.0f)) out[i] = sinf(in[i]);
        s = vf_load_n(out, VF_LANES);
    }
    return vf_mul(s, s);
}

#endif
