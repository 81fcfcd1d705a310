/* repaint.h - keeping the part of a song that is not to be repainted (dit.md 14.3, 14.4). One item at a time;
 * mask[frame] is 1 where the song is generated and 0 where the source is kept. */
#ifndef ACE_DIFFUSION_REPAINT_H
#define ACE_DIFFUSION_REPAINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum repaint_mode { REPAINT_BALANCED, REPAINT_CONSERVATIVE, REPAINT_AGGRESSIVE } repaint_mode;

/* "balanced", "conservative", "aggressive"; NULL for a value outside the enum. */
const char *repaint_mode_name(repaint_mode mode);
bool repaint_mode_from_name(const char *name, repaint_mode *mode);

/* What a mode means. `strength` in [0, 1] matters in mode balanced: 1 keeps nothing but the plain conditioning. */
typedef struct repaint_plan {
    double injection_ratio;   /* share of the steps after which the source is put back */
    int crossfade_frames;     /* of the latents, at each boundary */
    double crossfade_seconds; /* of the waveform, at each boundary */
    bool splice;              /* put the source's waveform back outside the range */
} repaint_plan;

repaint_plan repaint_plan_for(repaint_mode mode, double strength);

/* Steps 0 .. cutoff-1 of `steps` inject: round-half-to-even(ratio * steps). */
int repaint_cutoff(double injection_ratio, int steps);

/* Where mask is 0: x = t*noise + (1 - t)*clean. */
void repaint_inject(float *x, const float *clean, const float *noise, const uint8_t *mask, float t, size_t frames);

/* After the last step: x where mask is 1, clean where it is 0, with linear ramps of up to `crossfade` frames outside
 * the outermost generated frames. Does nothing when crossfade is 0: then what the model made outside stays. */
void repaint_blend(float *x, const float *clean, const uint8_t *mask, int crossfade, size_t frames);

#endif
