/* velocity.c - see velocity.h. */
#include "diffusion/velocity.h"

#include <math.h>

static double norm(const float *x, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += (double)x[i] * x[i];
    return sqrt(sum);
}

void velocity_clamp(float *v, const float *x, float threshold, size_t count)
{
    double scale = threshold * (norm(x, count) + 1e-10) / (norm(v, count) + 1e-10);
    if (scale >= 1) return;
    for (size_t i = 0; i < count; i++) v[i] *= (float)scale;
}

void velocity_smooth(float *v, const float *previous, float factor, size_t count)
{
    for (size_t i = 0; i < count; i++) v[i] = (1.0f - factor) * v[i] + factor * previous[i];
}
