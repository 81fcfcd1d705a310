/* Values of tensors that no file holds: element i is a function of (name, seed, i) alone, so any range can be read in
 * any order, by any thread. */
#include "formats/tensors_build.h"

#include <xxhash.h>

/* One step of splitmix64 (Steele, Lea, Flood 2014): a good 64-bit mix of a counter. */
static inline uint64_t mix(uint64_t v)
{
    v += 0x9e3779b97f4a7c15u;
    v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9u;
    v = (v ^ v >> 27) * 0x94d049bb133111ebu;
    return v ^ v >> 31;
}

/* The sum of four uniform numbers: bell-shaped, bounded by 3.46 deviations. Its variance is 4/12. */
static inline float bell(uint64_t bits)
{
    uint32_t sum = (uint32_t)(bits & 0xffff) + (uint32_t)(bits >> 16 & 0xffff) + (uint32_t)(bits >> 32 & 0xffff) +
                   (uint32_t)(bits >> 48);
    const float unit = 1.7320508f / 65536.0f;
    return (float)((int32_t)sum - 131070) * unit;
}

void synthetic_values(const ace_tensor *tensor, int64_t first, int64_t count, float *values)
{
    uint64_t key = mix(XXH3_64bits_withSeed(tensor->name, strlen(tensor->name), tensor->seed));
    for (int64_t i = 0; i < count; i++)
        values[i] = tensor->center + tensor->scale * bell(mix(key + (uint64_t)(first + i) * 0x9e3779b97f4a7c15u));
}
