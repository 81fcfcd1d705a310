/* noise_torch_cpu.c - torch's normal numbers on the CPU, to the bit.
 *
 * On x86 with AVX2 (and with AVX-512, which uses the same code) torch does not call the C library: it evaluates
 * logarithm, sine and cosine with the single precision polynomials of the Cephes library, eight lanes at a time, built
 * with fused multiply-add. Which products are fused decides the last bit; the order below was found by comparison with
 * torch and is checked against it in the tests. fmaf() is exact everywhere, with or without such an instruction. */
#include "diffusion/mt19937.h"
#include "diffusion/noise.h"

#include <math.h>
#include <string.h>

/* Cephes logf for 0 < x <= 1, x normal. */
static float cephes_log(float x)
{
    static const float p[9] = {7.0376836292e-2f,  -1.1514610310e-1f, 1.1676998740e-1f,
                               -1.2420140846e-1f, 1.4249322787e-1f,  -1.6668057665e-1f,
                               2.0000714765e-1f,  -2.4999993993e-1f, 3.3333331174e-1f};
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    float e = (float)((int)(bits >> 23) - 126);
    bits = (bits & 0x807fffffu) | 0x3f000000u;
    memcpy(&x, &bits, sizeof bits); /* the mantissa, in [1/2, 1) */
    if (x < 0.707106781186547524f) {
        e -= 1.0f;
        x = (x - 1.0f) + x;
    } else {
        x -= 1.0f;
    }
    float z = x * x;
    float y = p[0];
    for (int i = 1; i < 9; i++) y = fmaf(y, x, p[i]);
    y = fmaf(y * x, z, e * -2.12194440e-4f);
    y = fmaf(z, -0.5f, y);
    return fmaf(e, 0.693359375f, x + y);
}

/* Cephes sinf and cosf for x >= 0. */
static void cephes_sincos(float x, float *sine, float *cosine)
{
    int octant = ((int)(x * 1.27323954473516f) + 1) & ~1;
    float y = (float)octant;
    x = fmaf(y, -0.78515625f, x); /* pi/4 in three parts */
    x = fmaf(y, -2.4187564849853515625e-4f, x);
    x = fmaf(y, -3.77489497744594108e-8f, x);
    float z = x * x;

    float c = fmaf(2.443315711809948e-5f, z, -1.388731625493765e-3f);
    c = fmaf(c, z, 4.166664568298827e-2f);
    c = fmaf(c * z, z, z * -0.5f) + 1.0f;

    float s = fmaf(-1.9515295891e-4f, z, 8.3321608736e-3f);
    s = fmaf(s, z, -1.6666654611e-1f);
    s = fmaf(s * z, x, x);

    bool swap = octant & 2;
    float sine_value = swap ? c : s, cosine_value = swap ? s : c;
    *sine = octant & 4 ? -sine_value : sine_value;
    *cosine = (octant - 2) & 4 ? cosine_value : -cosine_value;
}

void noise_torch_cpu(uint64_t seed, float *values, size_t count)
{
    mt19937 mt;
    mt19937_seed(&mt, (uint32_t)seed);
    for (size_t b = 0; b + 16 <= count; b += 16) {
        float uniform[16];
        for (int i = 0; i < 16; i++) uniform[i] = (float)(mt19937_next(&mt) & 0xffffffu) * 0x1p-24f;
        for (int i = 0; i < 8; i++) {
            float radius = sqrtf(-2.0f * cephes_log(1.0f - uniform[i]));
            float sine, cosine;
            cephes_sincos(6.28318530717958647693f * uniform[i + 8], &sine, &cosine);
            values[b + i] = radius * cosine + 0.0f; /* torch's *std + mean: makes -0 a 0 */
            values[b + i + 8] = radius * sine + 0.0f;
        }
    }
}
