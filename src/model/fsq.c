#include "model/fsq.h"

#include <math.h>

int32_t fsq_codes(const dit_config *config)
{
    int32_t codes = 1;
    for (int d = 0; d < config->fsq_count; d++) codes *= config->fsq_levels[d];
    return codes;
}

/* The level of one value, 0 .. levels - 1, rounded step by step as the reference rounds in float32. */
static int32_t level_of(float z, int levels)
{
    float steps = (float)(levels - 1);
    float limit = 1.0f + 1.0f / steps;
    float soft = (float)tanh((double)(z / limit)) * limit;
    float hard = soft < -1.0f ? -1.0f : soft > 1.0f ? 1.0f : soft;
    return (int32_t)floorf(steps * (hard + 1.0f) / 2.0f + 0.5f);
}

int32_t fsq_index(const dit_config *config, const float *z)
{
    int32_t index = 0, basis = 1;
    for (int d = 0; d < config->fsq_count; d++) {
        index += basis * level_of(z[d], config->fsq_levels[d]);
        basis *= config->fsq_levels[d];
    }
    return index;
}

void fsq_values(const dit_config *config, int32_t index, float *values)
{
    for (int d = 0; d < config->fsq_count; d++) {
        int levels = config->fsq_levels[d];
        values[d] = (float)(index % levels) * (2.0f / (float)(levels - 1)) - 1.0f;
        index /= levels;
    }
}
