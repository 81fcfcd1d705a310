/* guidance.h - combining a conditional and an unconditional velocity (dit.md 12). One item [frames, 64] at a time. */
#ifndef ACE_DIFFUSION_GUIDANCE_H
#define ACE_DIFFUSION_GUIDANCE_H

#include <stdbool.h>
#include <stddef.h>

typedef enum guidance_kind {
    GUIDANCE_APG, /* adaptive projected guidance with momentum: the default */
    GUIDANCE_CFG, /* plain classifier-free guidance */
    GUIDANCE_ADG  /* angle-based dynamic guidance */
} guidance_kind;

/* "apg", "cfg", "adg"; NULL for a value outside the enum. */
const char *guidance_name(guidance_kind kind);
bool guidance_from_name(const char *name, guidance_kind *kind);

/* All three replace v_cond by the guided velocity.
 *
 * APG: diff = v_cond - v_uncond - 0.75*diff_before, its norm over time limited to 2.5 per channel, minus its projection
 * on v_cond over time (float64). `momentum` [frames, 64] is diff before the limit: zero it before a song, it is updated
 * here. v_uncond is overwritten. */
void guidance_apg(float *v_cond, float *v_uncond, float *momentum, float scale, size_t frames);

/* v_uncond + scale*(v_cond - v_uncond). */
void guidance_cfg(float *v_cond, const float *v_uncond, float scale, size_t frames);

/* ADG at noise level t > 0: per frame, the angle between the two predicted clean latents is scaled and clipped to
 * 3.14/6. `x` is the state the velocities were computed at. */
void guidance_adg(float *v_cond, const float *v_uncond, const float *x, float t, float scale, size_t frames);

#endif
