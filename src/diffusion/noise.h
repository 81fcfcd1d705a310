/* noise.h - standard normal noise [frames, 64] from a seed (dit.md 9).
 *
 * The default is NOISE_TORCH_CUDA with threads = 0: a seed shared by users of the official program was almost always
 * drawn on a CUDA device, and this mapping gives what it drew there for songs short enough that every CUDA thread makes
 * one number (A100: 138 s, RTX 4090: 123 s), and the same numbers on every machine for longer ones. */
#ifndef ACE_DIFFUSION_NOISE_H
#define ACE_DIFFUSION_NOISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum noise_kind {
    NOISE_TORCH_CUDA, /* torch.randn(device="cuda"): Philox4x32-10, curand's float32 Box-Muller */
    NOISE_TORCH_CPU,  /* torch.randn on a CPU with AVX2: MT19937 of the seed's low 32 bits; bit-exact */
    NOISE_ACE         /* our own: Philox4x32-10 and Box-Muller in float64, with independent streams */
} noise_kind;

/* "torch-cuda", "torch-cpu", "ace"; NULL for a value outside the enum. */
const char *noise_kind_name(noise_kind kind);
bool noise_kind_from_name(const char *name, noise_kind *kind);

/* values[0..count) of torch.randn(count, generator=Generator("cuda").manual_seed(seed), device="cuda"). threads is
 * G of dit.md 9.2, the size of the saturated grid: min(ceil(count/256), SMs * floor(max threads per SM / 256)) * 256.
 * With threads = 0 or threads >= count element k is the first normal of subsequence k. Generator words and mapping are
 * exact; the last bits differ from a GPU, whose sine unit is approximate (about 2^-21). */
void noise_torch_cuda(uint64_t seed, uint64_t threads, float *values, size_t count);

/* values[0..count) of torch.randn(count, generator=Generator().manual_seed(seed)) in float32, for count a multiple of
 * 16 (64 channels always are). Bit-exact with what torch computes on x86 CPUs with AVX2 or AVX-512, on any machine. */
void noise_torch_cpu(uint64_t seed, float *values, size_t count);

/* Our own generator: element k of stream s depends on (seed, s, k) only, and has the same bits on every platform.
 * Stream 0 is for the initial noise, stream i + 1 for SDE step i, so no song's stream meets another's. */
void noise_ace(uint64_t seed, uint64_t stream, float *values, size_t count);

/* The initial noise of an item: one of the above (threads is for NOISE_TORCH_CUDA). */
void noise_fill(noise_kind kind, uint64_t seed, uint64_t threads, float *values, size_t count);

#endif
