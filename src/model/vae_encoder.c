/* vae_encoder.c - samples to latents. (vae-audio.md 5, 6)
 *
 *   h = conv1(samples)                                   48000 rows a second
 *   for each block:  h = h + conv2(snake2(conv1(snake1(h))))   three times, dilation 1, 3, 9
 *                    h = conv1(snake1(h))                strided
 *   mean, scale = conv2(snake1(h))                       25 rows a second
 *
 * Every snake is the epilogue of the operation before it. */
#include "base/error.h"
#include "base/memory.h"
#include "model/vae_stream.h"
#include "model/vae_units.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct encoder_block {
    vae_unit units[VAE_UNITS];
    ace_snake_weights snake1;
    vae_conv conv1;
} encoder_block;

struct vae_encoder {
    ace_weight_set set;
    vae_config config;
    vae_conv conv1;
    encoder_block blocks[CONFIG_MAX_VAE_BLOCKS];
    ace_snake_weights snake1;
    vae_conv conv2;
};

/* Columns of the last convolution: mean and scale of each latent channel. */
static int64_t moments(const vae_config *c)
{
    return 2 * (int64_t)c->latent_channels;
}

/* ---- loading ------------------------------------------------------------------------------------------------- */

static void load_block(vae_encoder *e, int i)
{
    const vae_config *c = &e->config;
    int64_t in = vae_width(c, i), out = vae_width(c, i + 1);
    char block[32], name[64];
    snprintf(block, sizeof block, "encoder.block.%d", i);
    vae_load_units(&e->set, e->blocks[i].units, in, 1, block);
    snprintf(name, sizeof name, "%s.snake1", block);
    e->blocks[i].snake1 = vae_load_snake(&e->set, in, 1, name);
    snprintf(name, sizeof name, "%s.conv1", block);
    e->blocks[i].conv1 = vae_load_conv(&e->set, out, in, 2 * c->strides[i], true, name);
}

vae_encoder *vae_encoder_load(ace_device *dev, const ace_part *part, const vae_config *config, ace_error *error)
{
    if (!vae_config_check(config, error)) return NULL;
    vae_encoder *e = ace_calloc(1, sizeof *e, "the VAE encoder", error);
    if (!e) return NULL;
    e->config = *config;
    weights_begin(&e->set, dev, part);
    e->conv1 = vae_load_conv(&e->set, vae_width(config, 0), config->audio_channels, 7, true, "encoder.conv1");
    for (int i = 0; i < config->blocks; i++) load_block(e, i);
    e->snake1 = vae_load_snake(&e->set, vae_width(config, config->blocks), 1, "encoder.snake1");
    e->conv2 = vae_load_conv(&e->set, moments(config), vae_width(config, config->blocks), 3, true, "encoder.conv2");
    if (ace_device_ok(dev, error)) return e;
    vae_encoder_free(e);
    return NULL;
}

void vae_encoder_free(vae_encoder *encoder)
{
    if (!encoder) return;
    weights_free(&encoder->set);
    free(encoder);
}

/* ---- one window ---------------------------------------------------------------------------------------------- */

/* What encode_window() puts into the buffers. */
static vae_sizes window_sizes(const vae_encoder *e, const vae_window *window)
{
    const vae_config *c = &e->config;
    vae_sizes sizes = {0};
    vae_grow(&sizes.spare, vae_span_length(window->input), c->audio_channels);
    vae_grow(&sizes.active, vae_span_length(window->entry), vae_width(c, 0));
    vae_grow(&sizes.residual, vae_span_length(window->entry), vae_width(c, 0));
    for (int i = 0; i < c->blocks; i++) {
        const vae_block_window *block = &window->blocks[i];
        vae_grow(&sizes.spare, vae_span_length(block->units[1]), vae_width(c, i));
        vae_grow(&sizes.spare, vae_span_length(block->resampled), vae_width(c, i + 1));
        vae_grow(&sizes.residual, vae_span_length(block->resampled), vae_width(c, i + 1));
        vae_swap_sizes(&sizes);
    }
    vae_grow(&sizes.residual, vae_span_length(window->output), moments(c));
    if (c->blocks % 2 == 1) vae_swap_sizes(&sizes);
    return sizes;
}

/* residual, x: input of the block and its activation by units[0].snake1, positions block->units[0], in
 * buffers->residual and ->active. Returns the output activated by `next`, in buffers->active; buffers->residual keeps
 * the output itself unless the block is the last. */
static ace_mat encode_block(const vae_encoder *e, int i, const vae_block_window *block, ace_mat x, vae_buffers *buffers,
                            const ace_snake_weights *next)
{
    const vae_config *c = &e->config;
    const encoder_block *b = &e->blocks[i];
    const ace_mat none = {0};
    ace_mat residual = vae_view(buffers->residual, x.rows, x.cols);
    x = vae_units_run(e->set.dev, b->units, block->units, residual, x, buffers, &b->snake1);

    int64_t rows = vae_span_length(block->resampled), out = vae_width(c, i + 1);
    ace_mat y = i + 1 < c->blocks ? vae_view(buffers->residual, rows, out) : none;
    ace_mat active = vae_view(buffers->spare, rows, out);
    ace_conv conv = {.x_first = block->units[VAE_UNITS].first,
                     .out_first = block->resampled.first,
                     .stride = c->strides[i],
                     .dilation = 1,
                     .padding = c->strides[i] / 2};
    ace_epilogue epilogue = {.bias = b->conv1.bias, .snake = next, .act = active};
    ace_conv1d(e->set.dev, y, x, b->conv1.weight, &conv, &epilogue);
    vae_swap(buffers);
    return active;
}

/* samples: act dtype, positions window->input, in buffers->spare. Returns mean and scale, F32, in buffers->residual. */
static ace_mat encode_window(const vae_encoder *e, const vae_window *window, ace_mat samples, vae_buffers *buffers)
{
    const vae_config *c = &e->config;
    ace_device *dev = e->set.dev;

    vae_span at = window->entry;
    ace_mat residual = vae_view(buffers->residual, vae_span_length(at), vae_width(c, 0));
    ace_mat x = vae_view(buffers->active, vae_span_length(at), vae_width(c, 0));
    ace_conv conv = {.x_first = window->input.first, .out_first = at.first, .stride = 1, .dilation = 1, .padding = 3};
    ace_epilogue epilogue = {.bias = e->conv1.bias, .snake = &e->blocks[0].units[0].snake1, .act = x};
    ace_conv1d(dev, residual, samples, e->conv1.weight, &conv, &epilogue);

    for (int i = 0; i < c->blocks; i++) {
        const ace_snake_weights *next = i + 1 < c->blocks ? &e->blocks[i + 1].units[0].snake1 : &e->snake1;
        x = encode_block(e, i, &window->blocks[i], x, buffers, next);
        at = window->blocks[i].resampled;
    }

    ace_mat y = vae_view(buffers->residual, vae_span_length(window->output), moments(c));
    ace_conv last = {.x_first = at.first, .out_first = window->output.first, .stride = 1, .dilation = 1, .padding = 1};
    ace_epilogue bias = {.bias = e->conv2.bias};
    ace_conv1d(dev, y, x, e->conv2.weight, &last, &bias);
    return y;
}

/* ---- the run ------------------------------------------------------------------------------------------------- */

/* Latent frames `core`, of which the first `cols` channels are handed out. Scratch is released by the caller. */
static bool run_window(const vae_encoder *e, int64_t samples, vae_span core, int64_t cols, const vae_stream *stream,
                       ace_error *error)
{
    const vae_config *c = &e->config;
    ace_device *dev = e->set.dev;
    vae_window window = vae_window_encode(c, samples, core);
    vae_sizes sizes = window_sizes(e, &window);
    int64_t input_rows = vae_span_length(window.input), output_rows = vae_span_length(window.output);
    float *staging = ace_scratch_host(dev, input_rows * c->audio_channels);
    float *output = ace_scratch_host(dev, output_rows * cols);
    vae_buffers buffers = vae_buffers_new(dev, &sizes);
    ace_mat input = vae_view(buffers.spare, input_rows, c->audio_channels);

    static const vae_blame fed = {"audio sample", "the recording is damaged"};
    static const vae_blame made = {"latent frame",
                                   "the VAE's weights are damaged, or the audio is far out of its range"};
    if (!vae_stream_input(dev, stream, window.input, input, staging, &fed, error)) return false;
    ace_mat y = ace_cols(encode_window(e, &window, input, &buffers), 0, cols);
    return vae_stream_output(dev, stream, window.output, y, output, &made, core.end, vae_frames(c, samples), error);
}

bool vae_encode(const vae_encoder *encoder, int64_t samples, vae_posterior posterior, const vae_stream *stream,
                ace_error *error)
{
    const vae_config *c = &encoder->config;
    ace_device *dev = encoder->set.dev;
    int64_t frames = vae_frames(c, samples);
    if (frames < 1 || frames > VAE_MAX_FRAMES || stream->window < 0)
        return ace_fail(error, ACE_ERROR_USAGE, "%lld samples cannot be encoded in windows of %lld latent frames",
                        (long long)samples, (long long)stream->window);
    int64_t window = stream->window ? stream->window : vae_encode_window(c, ace_device_act(dev));
    int64_t cols = posterior == VAE_MEAN ? c->latent_channels : moments(c);
    if (window > frames) window = frames;
    bool ok = true;
    for (int64_t first = 0; ok && first < frames; first += window) {
        int64_t end = window < frames - first ? first + window : frames;
        ace_mark mark = ace_scratch_mark(dev);
        ok = run_window(encoder, samples, (vae_span){first, end}, cols, stream, error);
        ace_scratch_release(dev, mark);
    }
    return ok;
}
