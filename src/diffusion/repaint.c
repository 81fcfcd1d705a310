/* repaint.c - see repaint.h. */
#include "diffusion/repaint.h"

#include "diffusion/latent.h"

#include <math.h>
#include <string.h>

static const char *const NAMES[] = {
    [REPAINT_BALANCED] = "balanced", [REPAINT_CONSERVATIVE] = "conservative", [REPAINT_AGGRESSIVE] = "aggressive"};
enum { MODES = sizeof NAMES / sizeof *NAMES };

const char *repaint_mode_name(repaint_mode mode)
{
    return (unsigned)mode < MODES ? NAMES[mode] : NULL;
}

bool repaint_mode_from_name(const char *name, repaint_mode *mode)
{
    for (unsigned i = 0; i < MODES; i++) {
        if (strcmp(name, NAMES[i]) == 0) {
            *mode = (repaint_mode)i;
            return true;
        }
    }
    return false;
}

repaint_plan repaint_plan_for(repaint_mode mode, double strength)
{
    if (mode == REPAINT_AGGRESSIVE) return (repaint_plan){0};
    double keep = mode == REPAINT_CONSERVATIVE ? 1.0 : 1.0 - fmin(fmax(strength, 0), 1);
    return (repaint_plan){.injection_ratio = keep,
                          .crossfade_frames = (int)nearbyint(25 * keep), /* half to even, as Python rounds */
                          .crossfade_seconds = 0.05 * keep,
                          .splice = true};
}

int repaint_cutoff(double injection_ratio, int steps)
{
    return (int)nearbyint(injection_ratio * steps);
}

void repaint_inject(float *x, const float *clean, const float *noise, const uint8_t *mask, float t, size_t frames)
{
    for (size_t f = 0; f < frames; f++) {
        if (mask[f]) continue;
        for (size_t i = f * LATENT_CHANNELS; i < (f + 1) * LATENT_CHANNELS; i++)
            x[i] = t * noise[i] + (1.0f - t) * clean[i];
    }
}

/* x = m*x + (1 - m)*clean for one frame. */
static void mix(float *x, const float *clean, float m)
{
    for (int c = 0; c < LATENT_CHANNELS; c++) x[c] = m * x[c] + (1.0f - m) * clean[c];
}

void repaint_blend(float *x, const float *clean, const uint8_t *mask, int crossfade, size_t frames)
{
    if (crossfade <= 0) return;
    size_t left = 0, right = frames; /* the outermost generated frames */
    while (left < frames && !mask[left]) left++;
    while (right > left && !mask[right - 1]) right--;
    size_t c = (size_t)crossfade;
    size_t before = 0, after = 0; /* lengths of the ramps; none when nothing is generated */
    if (left < right) {
        before = left < c ? left : c;
        after = frames - right < c ? frames - right : c;
    }
    for (size_t f = 0; f < frames; f++) {
        float m = mask[f] ? 1.0f : 0.0f;
        if (left < right && f < left && f + before >= left)
            m = (float)(f + before - left + 1) / (float)(before + 1);
        else if (left < right && f >= right && f < right + after)
            m = 1.0f - (float)(f - right + 1) / (float)(after + 1);
        if (m != 1.0f) mix(x + f * LATENT_CHANNELS, clean + f * LATENT_CHANNELS, m);
    }
}
