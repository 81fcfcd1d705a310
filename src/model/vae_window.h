/* vae_window.h - which positions of which level a window of the VAE needs: interval arithmetic, no tensors.
 *
 * A level is the signal at one rate, from audio to latents. A window is planned backwards, from the output positions
 * that are wanted to the input positions that they depend on; every interval is clipped to its level, because beyond
 * the ends each convolution sees zeros, not values that could be computed. (vae-audio.md 8, 10 option 2) */
#ifndef ACE_MODEL_VAE_WINDOW_H
#define ACE_MODEL_VAE_WINDOW_H

#include "model/config.h"

enum { VAE_UNITS = 3 }; /* residual units in a block */

/* Positions [first, end) of a level. */
typedef struct vae_span {
    int64_t first, end;
} vae_span;

static inline int64_t vae_span_length(vae_span span)
{
    return span.end - span.first;
}

/* Dilation of residual unit j: 1, 3, 9. */
int vae_dilation(int unit);

/* One block: three residual units, in the decoder after a transposed convolution, in the encoder before a strided
 * one. units[0] is what the first unit reads, units[j] what unit j leaves. `resampled` are the rows that the resampling
 * convolution computes; in the decoder a row stands for `stride` positions (see ace_conv). */
typedef struct vae_block_window {
    vae_span resampled;
    vae_span units[VAE_UNITS + 1];
} vae_block_window;

typedef struct vae_window {
    vae_span input; /* rows that the first convolution reads */
    vae_span entry; /* rows that it computes */
    vae_block_window blocks[CONFIG_MAX_VAE_BLOCKS];
    vae_span output; /* rows that the last convolution computes */
} vae_window;

/* What the decoder needs to turn latent frames `core` of a signal of `frames` frames into samples. */
vae_window vae_window_decode(const vae_config *config, int64_t frames, vae_span core);

/* The end of such a window: what blocks `from` and later need to make the positions `output` of the audio. Sets
 * window->output and window->blocks[from ..] and returns the positions that block `from` reads. */
vae_span vae_window_decode_end(const vae_config *config, int64_t frames, int from, vae_span output, vae_window *window);

/* What the encoder needs for the latent frames `core` of a signal of `samples` samples. */
vae_window vae_window_encode(const vae_config *config, int64_t samples, vae_span core);

/* Channels at level 0 (audio rate) to level config->blocks (latent rate). */
int64_t vae_width(const vae_config *config, int level);

/* The first of the decoder's blocks whose rates are so high that they run piece after piece of a window. */
int vae_decoder_first_piecewise(const vae_config *config);

/* Stride of block i of the decoder, whose blocks run from the latent rate up. */
int vae_decoder_stride(const vae_config *config, int block);

#endif
