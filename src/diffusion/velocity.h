/* velocity.h - taming a predicted velocity before the solver uses it (dit.md 11.1). One item at a time. */
#ifndef ACE_DIFFUSION_VELOCITY_H
#define ACE_DIFFUSION_VELOCITY_H

#include <stddef.h>

/* v *= min(1, threshold * (|x| + 1e-10) / (|v| + 1e-10)), Euclidean norms over the item. */
void velocity_clamp(float *v, const float *x, float threshold, size_t count);

/* v = (1 - factor)*v + factor*previous. */
void velocity_smooth(float *v, const float *previous, float factor, size_t count);

#endif
