/* guidance.c - see guidance.h. */
#include "diffusion/guidance.h"

#include "diffusion/latent.h"

#include <math.h>
#include <string.h>

static const char *const NAMES[] = {[GUIDANCE_APG] = "apg", [GUIDANCE_CFG] = "cfg", [GUIDANCE_ADG] = "adg"};
enum { KINDS = sizeof NAMES / sizeof *NAMES };

const char *guidance_name(guidance_kind kind)
{
    return (unsigned)kind < KINDS ? NAMES[kind] : NULL;
}

bool guidance_from_name(const char *name, guidance_kind *kind)
{
    for (unsigned i = 0; i < KINDS; i++) {
        if (strcmp(name, NAMES[i]) == 0) {
            *kind = (guidance_kind)i;
            return true;
        }
    }
    return false;
}

/* sums[c] = sum over time of a[t][c] * b[t][c]. */
static void dot_over_time(const float *a, const float *b, size_t frames, double sums[LATENT_CHANNELS])
{
    for (int c = 0; c < LATENT_CHANNELS; c++) sums[c] = 0;
    for (size_t t = 0; t < frames; t++)
        for (int c = 0; c < LATENT_CHANNELS; c++)
            sums[c] += (double)a[t * LATENT_CHANNELS + c] * b[t * LATENT_CHANNELS + c];
}

/* Sadat et al., "Eliminating oversaturation and artifacts of high guidance scales", arXiv:2410.02416, with eta = 0. */
void guidance_apg(float *v_cond, float *v_uncond, float *momentum, float scale, size_t frames)
{
    enum { C = LATENT_CHANNELS };
    const size_t count = frames * C;
    float *diff = v_uncond;
    for (size_t i = 0; i < count; i++) {
        momentum[i] = (v_cond[i] - v_uncond[i]) - 0.75f * momentum[i];
        diff[i] = momentum[i];
    }

    double sums[C];
    dot_over_time(diff, diff, frames, sums);
    float limit[C];
    for (int c = 0; c < C; c++) {
        double norm = sqrt(sums[c]);
        limit[c] = norm > 2.5 ? (float)(2.5 / norm) : 1.0f;
    }
    for (size_t t = 0; t < frames; t++)
        for (int c = 0; c < C; c++) diff[t * C + c] *= limit[c];

    double inverse[C], along[C]; /* unit vector e = v_cond * inverse; along = <diff, e> */
    dot_over_time(v_cond, v_cond, frames, sums);
    for (int c = 0; c < C; c++) inverse[c] = 1 / fmax(sqrt(sums[c]), 1e-12);
    dot_over_time(diff, v_cond, frames, along);
    for (int c = 0; c < C; c++) along[c] *= inverse[c];
    for (size_t t = 0; t < frames; t++) {
        for (int c = 0; c < C; c++) {
            size_t i = t * C + c;
            float orthogonal = (float)(diff[i] - along[c] * (v_cond[i] * inverse[c]));
            v_cond[i] += (scale - 1.0f) * orthogonal;
        }
    }
}

void guidance_cfg(float *v_cond, const float *v_uncond, float scale, size_t frames)
{
    for (size_t i = 0; i < frames * LATENT_CHANNELS; i++) v_cond[i] = v_uncond[i] + scale * (v_cond[i] - v_uncond[i]);
}

/* One frame of ADG. hc and hu are the clean latents that the two velocities predict. */
static void adg_frame(float *v_cond, const float *v_uncond, const float *x, float t, double weight)
{
    enum { C = LATENT_CHANNELS };
    float hc[C], hu[C], diff[C];
    double cc = 0, uu = 0, cu = 0, du = 0;
    for (int c = 0; c < C; c++) {
        hc[c] = x[c] - t * v_cond[c];
        hu[c] = x[c] - t * v_uncond[c];
        diff[c] = hc[c] - hu[c];
        cc += (double)hc[c] * hc[c];
        uu += (double)hu[c] * hu[c];
        cu += (double)hc[c] * hu[c];
        du += (double)diff[c] * hu[c];
    }
    if (cc == 0 || uu == 0) return; /* no angle: nothing to guide */
    const double clip = 3.14 / 6;   /* sic: not pi */
    double cosine = fmin(fmax(cu / (sqrt(cc) * sqrt(uu)), -1.0 + 1e-6), 1.0 - 1e-6);
    double angle = acos(cosine), scaled = fmin(fmax(weight * angle, -clip), clip);
    double sine = sin(angle);
    double stretch = sine > 1e-3 ? sin(scaled) / sine : weight;
    float parallel = (float)(du / (uu + 1e-8));
    for (int c = 0; c < C; c++) {
        float perpendicular = diff[c] - parallel * hu[c];
        double guided = cos(scaled) * hc[c] + perpendicular * stretch;
        v_cond[c] = (float)((x[c] - guided) / t);
    }
}

void guidance_adg(float *v_cond, const float *v_uncond, const float *x, float t, float scale, size_t frames)
{
    double weight = fmax(scale - 1.0, 0.0) + 1e-3;
    for (size_t f = 0; f < frames; f++) {
        size_t i = f * LATENT_CHANNELS;
        adg_frame(v_cond + i, v_uncond + i, x + i, t, weight);
    }
}
