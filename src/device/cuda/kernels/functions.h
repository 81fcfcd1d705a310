/* functions.h - exponential, sine, activations: the same arithmetic, operation for operation, on the GPU and in the
 * emulator, so that what they give does not depend on a library. The compiler must not contract a * b + c by itself
 * (nvcc: -fmad=false; g++: -ffp-contract=off); where a fused product is wanted it is asked for. Included by language.h.
 */
#ifndef ACE_DEVICE_CUDA_KERNELS_FUNCTIONS_H
#define ACE_DEVICE_CUDA_KERNELS_FUNCTIONS_H

/* a * 2^n for n in [-252, 254], in two factors, so that infinity comes out. */
GPU_DEVICE float gpu_scale2(float a, int n)
{
    int half = n >> 1;
    return a * gpu_float_of((uint32_t)(half + 127) << 23) * gpu_float_of((uint32_t)(n - half + 127) << 23);
}

/* e^r - 1 for |r| <= ln(2) / 2: the Taylor polynomial of degree 7, whose remainder is below 2^-27. */
GPU_DEVICE float gpu_exp_small_minus_1(float r)
{
    float p = 1.0f / 5040.0f;
    p = gpu_fma(p, r, 1.0f / 720.0f);
    p = gpu_fma(p, r, 1.0f / 120.0f);
    p = gpu_fma(p, r, 1.0f / 24.0f);
    p = gpu_fma(p, r, 1.0f / 6.0f);
    p = gpu_fma(p, r, 0.5f);
    return gpu_fma(r * r, p, r);
}

/* e^x, to 2 units in the last place: Cody-Waite reduction by ln 2. Exactly 1 at 0; what would be subnormal is 0; NaN
 * stays NaN. */
GPU_DEVICE float gpu_exp(float x)
{
    float kept = x < -87.33f ? -87.33f : x > 100.0f ? 100.0f : x; /* NaN passes */
    float n = rintf(kept * 0x1.715476p+0f);
    float r = gpu_fma(-n, 0x1.62e4p-1f, kept); /* 15 bits: n times it is exact */
    r = gpu_fma(-n, 0x1.7f7d1cp-20f, r);
    float whole = x == x ? n : 0.0f; /* NaN is no integer */
    float e = gpu_scale2(gpu_exp_small_minus_1(r) + 1.0f, (int)whole);
    return x < -87.33f ? 0.0f : e;
}

/* e^x for |x| <= 700 in double, to 1 unit in the last place: the same reduction, and the Taylor polynomial of degree
 * 13, whose remainder is below 2^-57. Exactly 1 at 0. */
GPU_DEVICE double gpu_exp_double(double x)
{
    double n = rint(x * 0x1.71547652b82fep+0);
    double r = fma(-n, 0x1.62e42feep-1, x); /* 32 bits: n times it is exact */
    r = fma(-n, 0x1.a39ef35793c76p-33, r);
    double p = 1.0 / 6227020800.0;
    p = fma(p, r, 1.0 / 479001600.0);
    p = fma(p, r, 1.0 / 39916800.0);
    p = fma(p, r, 1.0 / 3628800.0);
    p = fma(p, r, 1.0 / 362880.0);
    p = fma(p, r, 1.0 / 40320.0);
    p = fma(p, r, 1.0 / 5040.0);
    p = fma(p, r, 1.0 / 720.0);
    p = fma(p, r, 1.0 / 120.0);
    p = fma(p, r, 1.0 / 24.0);
    p = fma(p, r, 1.0 / 6.0);
    p = fma(p, r, 0.5);
    p = fma(p, r, 1.0);
    p = fma(p, r, 1.0);
    return p * gpu_double_of((uint64_t)(1023 + (int)n) << 52);
}

/* 2^x, in the same way; 0 below -126. */
GPU_DEVICE float gpu_exp2(float x)
{
    float kept = x < -126.0f ? -126.0f : x > 140.0f ? 140.0f : x;
    float n = rintf(kept);
    float f = kept - n; /* exact */
    float high = f * 0x1.62e43p-1f;
    /* ln 2 in two parts, the error of the first product included */
    float r = high + gpu_fma(f, 0x1.62e43p-1f, -high) + f * -0x1.05c61p-29f;
    float whole = x == x ? n : 0.0f;
    float e = gpu_scale2(gpu_exp_small_minus_1(r) + 1.0f, (int)whole);
    return x < -126.0f ? 0.0f : e;
}

/* The few arguments for which the reduction below does not do, apart, so that its registers and stack are no part of
 * every kernel. */
GPU_DEVICE_APART float gpu_sin_squared_of_huge(float z)
{
    float s = sinf(z);
    return s * s;
}

/* sin(z)^2, to 4 units in the last place. z is reduced to r in [-pi/2, pi/2] by n half turns, which change no more than
 * the sign of the sine. Then it is q (1 + q p(q)) with q = r^2, p being the polynomial of degree 4 with the smallest
 * relative error (2^-25.7). NaN for what is not finite. */
GPU_DEVICE float gpu_sin_squared(float z)
{
    float r;
    if (fabsf(z) <= 1000.0f) {
        /* pi in three parts: n <= 319 times the first, of 15 bits, and the difference from z are exact; the other two
         * round once each */
        float n = rintf(z * 0x1.45f306p-2f);
        r = gpu_fma(-n, 0x1.921cp+1f, z);
        r = gpu_fma(-n, 0x1.daa222p-14f, r);
        r = gpu_fma(n, 0x1.2e7b96p-39f, r);
    } else if (fabsf(z) <= 0x1p40f) {
        double n = rint((double)z * 0x1.45f306dc9c883p-2);
        r = (float)fma(-n, 0x1.1a62633145c07p-53, fma(-n, 0x1.921fb54442d18p+1, (double)z));
    } else {
        return gpu_sin_squared_of_huge(z);
    }
    float q = r * r;
    float p = -0x1.e5f626p-19f;
    p = gpu_fma(p, q, 0x1.241e9ap-13f);
    p = gpu_fma(p, q, -0x1.9fcccap-9f);
    p = gpu_fma(p, q, 0x1.6c13fep-5f);
    p = gpu_fma(p, q, -0x1.555544p-2f);
    return gpu_fma(p, q, 1.0f) * q;
}

/* x / (1 + e^-x) */
GPU_DEVICE float gpu_silu(float x)
{
    return x / (1.0f + gpu_exp(0.0f - x));
}

/* x + sin(alpha x)^2 * inv_beta */
GPU_DEVICE float gpu_snake(float x, float alpha, float inv_beta)
{
    return gpu_fma(gpu_sin_squared(alpha * x), inv_beta, x);
}

#endif
