#include "model/vae_window.h"

#include "model/vae.h"

int vae_dilation(int unit)
{
    static const int dilations[VAE_UNITS] = {1, 3, 9};
    return dilations[unit];
}

int64_t vae_width(const vae_config *config, int level)
{
    return level == 0 ? config->hidden : (int64_t)config->hidden * config->multiples[level - 1];
}

int vae_decoder_stride(const vae_config *config, int block)
{
    return config->strides[config->blocks - 1 - block];
}

int vae_decoder_first_piecewise(const vae_config *config)
{
    return config->blocks > 2 ? config->blocks - 2 : 0;
}

static vae_span clip(vae_span span, int64_t length)
{
    if (span.first < 0) span.first = 0;
    if (span.end > length) span.end = length;
    return span;
}

/* What a convolution that reads `halo` positions on each side needs. */
static vae_span widen(vae_span span, int64_t halo, int64_t length)
{
    return clip((vae_span){span.first - halo, span.end + halo}, length);
}

/* Backwards through the residual units, whose dilated convolutions have 7 taps. */
static void plan_units(vae_block_window *block, vae_span wanted, int64_t length)
{
    block->units[VAE_UNITS] = wanted;
    for (int j = VAE_UNITS - 1; j >= 0; j--)
        block->units[j] = widen(block->units[j + 1], (int64_t)3 * vae_dilation(j), length);
}

vae_span vae_window_decode_end(const vae_config *config, int64_t frames, int from, vae_span output, vae_window *window)
{
    int64_t length = frames * vae_hop(config);
    window->output = output;
    vae_span wanted = widen(output, 3, length);
    for (int i = config->blocks - 1; i >= from; i--) {
        vae_block_window *block = &window->blocks[i];
        int64_t stride = vae_decoder_stride(config, i);
        plan_units(block, wanted, length);
        /* Row m is the positions from m * stride - stride / 2 on and reads inputs m - 1 and m. */
        block->resampled = (vae_span){(block->units[0].first + stride / 2) / stride,
                                      (block->units[0].end - 1 + stride / 2) / stride + 1};
        length /= stride;
        wanted = clip((vae_span){block->resampled.first - 1, block->resampled.end}, length);
    }
    return wanted;
}

vae_window vae_window_decode(const vae_config *config, int64_t frames, vae_span core)
{
    vae_window window = {0};
    int64_t hop = vae_hop(config);
    window.entry = vae_window_decode_end(config, frames, 0, (vae_span){core.first * hop, core.end * hop}, &window);
    window.input = widen(window.entry, 3, frames);
    return window;
}

vae_window vae_window_encode(const vae_config *config, int64_t samples, vae_span core)
{
    vae_window window = {0};
    int64_t hop = vae_hop(config), lengths[CONFIG_MAX_VAE_BLOCKS + 1];
    lengths[0] = samples < hop ? hop : samples;
    for (int i = 0; i < config->blocks; i++) lengths[i + 1] = lengths[i] / config->strides[i];

    window.output = core;
    vae_span wanted = widen(core, 1, lengths[config->blocks]);
    for (int i = config->blocks - 1; i >= 0; i--) {
        vae_block_window *block = &window.blocks[i];
        int64_t stride = config->strides[i];
        block->resampled = wanted;
        /* Position n reads the 2 * stride inputs from n * stride - stride / 2 on. */
        vae_span read = {wanted.first * stride - stride / 2, (wanted.end - 1) * stride - stride / 2 + 2 * stride};
        plan_units(block, clip(read, lengths[i]), lengths[i]);
        wanted = block->units[0];
    }
    window.entry = wanted;
    window.input = widen(wanted, 3, samples);
    return window;
}
