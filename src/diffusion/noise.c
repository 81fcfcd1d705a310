/* noise.c - see noise.h: torch's CUDA mapping, our own generator, and the choice between the kinds.
 * torch's CPU generator is in noise_torch_cpu.c. */
#include "diffusion/noise.h"

#include "base/philox.h"
#include "diffusion/portable_math.h"

#include <math.h>
#include <string.h>

static const char *const NAMES[] = {
    [NOISE_TORCH_CUDA] = "torch-cuda", [NOISE_TORCH_CPU] = "torch-cpu", [NOISE_ACE] = "ace"};
enum { KINDS = sizeof NAMES / sizeof *NAMES };

const char *noise_kind_name(noise_kind kind)
{
    return (unsigned)kind < KINDS ? NAMES[kind] : NULL;
}

bool noise_kind_from_name(const char *name, noise_kind *kind)
{
    for (unsigned i = 0; i < KINDS; i++) {
        if (strcmp(name, NAMES[i]) == 0) {
            *kind = (noise_kind)i;
            return true;
        }
    }
    return false;
}

/* One of the four numbers of curand_normal4: words (r0, r1) give numbers 0 (sine) and 1 (cosine), (r2, r3) 2 and 3.
 * Float32 at the same places as curand; logarithm, sine and cosine are those of the float32 argument, rounded. */
static float curand_normal(const uint32_t random[4], int number)
{
    const float to_turns = 0x1p-32f;
    const float to_angle = (float)(6.28318530717958647693 * 0x1p-32);
    const uint32_t *pair = random + (number & 2);
    float u = (float)pair[0] * to_turns + to_turns / 2;
    float angle = fmaf((float)pair[1], to_angle, to_angle / 2); /* nvcc fuses this */
    float radius = sqrtf(-2.0f * (float)portable_log(u));
    double sine, cosine;
    portable_sincos(angle, &sine, &cosine);
    return radius * (float)(number & 1 ? cosine : sine);
}

void noise_torch_cuda(uint64_t seed, uint64_t threads, float *values, size_t count)
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    if (threads == 0 || threads > count) threads = count;
    for (size_t k = 0; k < count; k++) {
        uint64_t subsequence = k % threads, turn = k / threads; /* the thread's numbers in order, four per call */
        uint64_t offset = turn / 4;
        const uint32_t counter[4] = {(uint32_t)offset, (uint32_t)(offset >> 32), (uint32_t)subsequence,
                                     (uint32_t)(subsequence >> 32)};
        uint32_t random[4];
        philox4x32_10(counter, key, random);
        values[k] = curand_normal(random, (int)(turn % 4));
    }
}

/* The pair of elements 2j and 2j + 1 of a stream comes from the block with counter (j, stream): two 53-bit uniforms,
 * the first in (0, 1], the second in [0, 1), and Box and Muller's formula in float64. */
void noise_ace(uint64_t seed, uint64_t stream, float *values, size_t count)
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (size_t k = 0; k < count; k += 2) {
        uint64_t j = k / 2;
        const uint32_t counter[4] = {(uint32_t)j, (uint32_t)(j >> 32), (uint32_t)stream, (uint32_t)(stream >> 32)};
        uint32_t random[4];
        philox4x32_10(counter, key, random);
        uint64_t a = (uint64_t)random[0] << 32 | random[1], b = (uint64_t)random[2] << 32 | random[3];
        double u = (double)((a >> 11) + 1) * 0x1p-53, turns = (double)(b >> 11) * 0x1p-53;
        double radius = sqrt(-2 * portable_log(u)), sine, cosine;
        portable_sincos_turns(turns, &sine, &cosine);
        values[k] = (float)(radius * cosine);
        if (k + 1 < count) values[k + 1] = (float)(radius * sine);
    }
}

void noise_fill(noise_kind kind, uint64_t seed, uint64_t threads, float *values, size_t count)
{
    switch (kind) {
    case NOISE_TORCH_CUDA:
        noise_torch_cuda(seed, threads, values, count);
        break;
    case NOISE_TORCH_CPU:
        noise_torch_cpu(seed, values, count);
        break;
    case NOISE_ACE:
        noise_ace(seed, 0, values, count);
        break;
    }
}
