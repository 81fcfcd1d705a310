#include "model/vae.h"

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

int64_t vae_default_window(const vae_config *config, ace_dtype act)
{
    /* Per position at the audio rate: one residual value and two activations of each channel. Below a few frames the
     * halos cost more than they save, so very wide configurations may exceed the bound. */
    const int64_t budget = (int64_t)192 << 20, least = 8, most = 512;
    int64_t position = config->hidden * (4 + 2 * (int64_t)ace_dtype_block_bytes(act));
    int64_t window = budget / (position * vae_hop(config));
    return window < least ? least : window > most ? most : window;
}
