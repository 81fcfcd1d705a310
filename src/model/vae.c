#include "model/vae.h"

#include "model/vae_window.h"

enum { VAE_FAR = 1 << 12 }; /* frames: a signal so long that its middle sees no end */

int64_t vae_hop(const vae_config *config)
{
    int64_t hop = 1;
    for (int i = 0; i < config->blocks; i++) hop *= config->strides[i];
    return hop;
}

int64_t vae_frames(const vae_config *config, int64_t samples)
{
    if (samples <= 0) return 0;
    int64_t frames = samples / vae_hop(config);
    return frames ? frames : 1;
}

/* Latent frames whose working memory at the widest level of a window stays within `budget` bytes: `channels` with one
 * residual value and two activations each, `rows` a frame and `halo` more. Below a few frames the halos cost more than
 * they save, so very wide configurations may exceed the budget. */
static int64_t window_within(int64_t budget, int64_t channels, ace_dtype act, int64_t rows, int64_t halo)
{
    const int64_t least = 8, most = 512;
    int64_t row = channels * (4 + 2 * (int64_t)ace_dtype_block_bytes(act));
    int64_t window = (budget / row - halo) / rows;
    return window < least ? least : window > most ? most : window;
}

int64_t vae_decode_window(const vae_config *config, ace_dtype act)
{
    vae_window inside = vae_window_decode(config, VAE_FAR, (vae_span){VAE_FAR / 2, VAE_FAR / 2 + 1});
    int end = vae_decoder_first_piecewise(config);
    int64_t rows = 1;
    for (int i = 0; i < end; i++) rows *= vae_decoder_stride(config, i);
    vae_span widest = end > 0 ? inside.blocks[end - 1].units[0] : inside.entry;
    return window_within((int64_t)48 << 20, vae_width(config, config->blocks - end), act, rows,
                         vae_span_length(widest) - rows);
}

int64_t vae_encode_window(const vae_config *config, ace_dtype act)
{
    vae_window inside = vae_window_encode(config, VAE_FAR * vae_hop(config), (vae_span){VAE_FAR / 2, VAE_FAR / 2 + 1});
    return window_within((int64_t)384 << 20, config->hidden, act, vae_hop(config),
                         vae_span_length(inside.entry) - vae_hop(config));
}
