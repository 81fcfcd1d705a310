/* values.c - the numbers in a tiny checkpoint.
 *
 * They must be the same bytes on every machine, so nothing here may round differently anywhere: integers, and the
 * operations that IEEE 754 defines exactly (+, *, sqrt, conversion). No logarithms or cosines: the bell shape comes
 * from a sum of four uniforms. */
#include "tiny.h"

#include "base/memory.h"

#include <math.h>
#include <stdlib.h>

/* FNV-1a, 64 bits. */
static uint64_t hash_name(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *name; name++) {
        hash ^= (uint8_t)*name;
        hash *= 0x100000001b3u;
    }
    return hash;
}

/* The finaliser of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014). */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static double noise_at(uint64_t hash, uint64_t index)
{
    uint64_t bits = mix(hash + (index + 1) * 0x9e3779b97f4a7c15u);
    int64_t sum = 0;
    for (int i = 0; i < 4; i++) sum += (int64_t)((bits >> (16 * i)) & 0xffffu);
    sum = 2 * sum - 4 * 65535;            /* centred, in half units: an odd or even integer up to 262140 */
    return (double)sum * (1.0 / 75674.6); /* 2 * sqrt(4 * 65536^2 / 12) = 75674.5...: variance 1 */
}

double tiny_noise(const char *name, uint64_t index)
{
    return noise_at(hash_name(name), index);
}

void tiny_noise_bytes(const char *name, uint8_t *bytes, size_t count)
{
    uint64_t hash = hash_name(name), bits = 0;
    for (size_t i = 0; i < count; i++, bits >>= 8) {
        if (i % 8 == 0) bits = mix(hash + (i / 8 + 1) * 0x9e3779b97f4a7c15u);
        bytes[i] = (uint8_t)bits;
    }
}

uint8_t *tiny_values(const tiny_tensor *tensor, ace_dtype dtype, size_t *bytes, ace_error *error)
{
    size_t count = 1, width = dtype == ACE_F32 ? 4 : 2;
    for (int d = 0; d < tensor->rank; d++) count *= (size_t)tensor->shape[d];
    uint8_t *values = ace_calloc(count, width, tensor->name, error);
    if (values == NULL) return NULL;

    uint64_t hash = hash_name(tensor->name);
    for (size_t i = 0; i < count; i++) {
        float value = (float)(tensor->center + tensor->deviation * noise_at(hash, i));
        uint32_t word;
        memcpy(&word, &value, 4);
        if (dtype != ACE_F32) word = ace_f32_to_bf16(value);
        for (size_t b = 0; b < width; b++) values[i * width + b] = (uint8_t)(word >> (8 * b));
    }
    *bytes = count * width;
    return values;
}
