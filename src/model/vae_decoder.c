/* vae_decoder.c - latents to samples. (vae-audio.md 7)
 *
 *   h = conv1(latents)                                   25 rows a second
 *   for each block:  h = conv_t1(snake1(h))              x stride
 *                    h = h + conv2(snake2(conv1(snake1(h))))   three times, dilation 1, 3, 9
 *   samples = conv2(snake1(h))                           48000 rows a second
 *
 * Every snake is the epilogue of the operation before it.
 *
 * Nearly all of the memory traffic is at the last two rates, whose blocks have few channels and many rows. So these run
 * in pieces of a window that are small enough to stay in the caches near the cores from one operation to the next. */
#include "base/error.h"
#include "base/memory.h"
#include "model/vae_stream.h"
#include "model/vae_units.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct decoder_block {
    ace_snake_weights snake1; /* epilogue of what comes before the block */
    vae_conv conv_t1;
    vae_unit units[VAE_UNITS];
} decoder_block;

struct vae_decoder {
    ace_weight_set set;
    vae_config config;
    vae_conv conv1;
    decoder_block blocks[CONFIG_MAX_VAE_BLOCKS];
    ace_snake_weights snake1;
    vae_conv conv2;
};

/* ---- loading ------------------------------------------------------------------------------------------------- */

static void load_block(vae_decoder *d, int i)
{
    const vae_config *c = &d->config;
    int stride = vae_decoder_stride(c, i);
    int64_t in = vae_width(c, c->blocks - i), out = vae_width(c, c->blocks - i - 1);
    char block[32], name[64];
    snprintf(block, sizeof block, "decoder.block.%d", i);
    snprintf(name, sizeof name, "%s.snake1", block);
    d->blocks[i].snake1 = vae_load_snake(&d->set, in, 1, name);
    snprintf(name, sizeof name, "%s.conv_t1", block);
    d->blocks[i].conv_t1 = vae_load_transposed(&d->set, in, out, stride, name);
    vae_load_units(&d->set, d->blocks[i].units, out, stride, block);
}

vae_decoder *vae_decoder_load(ace_device *dev, const ace_part *part, const vae_config *config, ace_error *error)
{
    if (!vae_config_check(config, error)) return NULL;
    vae_decoder *d = ace_calloc(1, sizeof *d, "the VAE decoder", error);
    if (!d) return NULL;
    d->config = *config;
    weights_begin(&d->set, dev, part);
    d->conv1 =
        vae_load_conv(&d->set, vae_width(config, config->blocks), config->latent_channels, 7, true, "decoder.conv1");
    for (int i = 0; i < config->blocks; i++) load_block(d, i);
    d->snake1 = vae_load_snake(&d->set, vae_width(config, 0), 1, "decoder.snake1");
    d->conv2 = vae_load_conv(&d->set, config->audio_channels, vae_width(config, 0), 7, false, "decoder.conv2");
    if (ace_device_ok(dev, error)) return d;
    vae_decoder_free(d);
    return NULL;
}

void vae_decoder_free(vae_decoder *decoder)
{
    if (!decoder) return;
    weights_free(&decoder->set);
    free(decoder);
}

/* ---- one window ---------------------------------------------------------------------------------------------- */

/* Positions of the audio in a piece: what its operations work on is one residual value and two activations of each
 * channel. */
static int64_t piece_length(const vae_decoder *d)
{
    size_t position = (size_t)d->config.hidden * (4 + 2 * ace_dtype_block_bytes(ace_device_act(d->set.dev)));
    int64_t fitting = (int64_t)(ace_device_near_bytes(d->set.dev) / position);
    const int64_t least = 512; /* below, the halos cost more than the caches save */
    return fitting > least ? fitting : least;
}

/* The piece of a window's output that begins at `first`; the signal has `frames` latent frames. Returns what its first
 * block reads. */
static vae_span plan_piece(const vae_decoder *d, int64_t frames, vae_span output, int64_t first, vae_window *piece)
{
    int64_t end = first + piece_length(d);
    return vae_window_decode_end(&d->config, frames, vae_decoder_first_piecewise(&d->config),
                                 (vae_span){first, end < output.end ? end : output.end}, piece);
}

/* What the blocks [from, end) put into the buffers, grown from what is there when they begin. */
static void grow_blocks(vae_sizes *sizes, const vae_config *c, const vae_block_window *blocks, int from, int end)
{
    for (int i = from; i < end; i++) {
        const vae_block_window *block = &blocks[i];
        int64_t rows = vae_span_length(block->resampled) * vae_decoder_stride(c, i);
        int64_t width = vae_width(c, c->blocks - i - 1);
        vae_grow(&sizes->residual, rows, width);
        vae_grow(&sizes->spare, rows, width);
        vae_swap_sizes(sizes);
        vae_grow(&sizes->spare, vae_span_length(block->units[1]), width);
    }
    if ((end - from) % 2 == 1) vae_swap_sizes(sizes);
}

/* What decode_beginning() puts into the buffers. */
static vae_sizes beginning_sizes(const vae_decoder *d, const vae_window *window)
{
    const vae_config *c = &d->config;
    vae_sizes sizes = {0};
    vae_grow(&sizes.spare, vae_span_length(window->input), c->latent_channels);
    vae_grow(&sizes.active, vae_span_length(window->entry), vae_width(c, c->blocks));
    grow_blocks(&sizes, c, window->blocks, 0, vae_decoder_first_piecewise(c));
    return sizes;
}

/* What decode_piece() puts into the buffers, at most. */
static vae_sizes piece_sizes(const vae_decoder *d, int64_t frames, vae_span output)
{
    vae_sizes sizes = {0};
    for (int64_t first = output.first; first < output.end; first += piece_length(d)) {
        vae_window piece;
        plan_piece(d, frames, output, first, &piece);
        grow_blocks(&sizes, &d->config, piece.blocks, vae_decoder_first_piecewise(&d->config), d->config.blocks);
    }
    return sizes;
}

/* x: activated input of the block, not in buffers->spare. Returns its output, activated by `next`, in buffers->active.
 */
static ace_mat decode_block(const vae_decoder *d, int i, const vae_block_window *block, int64_t x_first, ace_mat x,
                            vae_buffers *buffers, const ace_snake_weights *next)
{
    const decoder_block *b = &d->blocks[i];
    int stride = vae_decoder_stride(&d->config, i);
    int64_t rows = vae_span_length(block->resampled), out = vae_width(&d->config, d->config.blocks - i - 1);

    ace_mat residual = vae_view(buffers->residual, rows, stride * out);
    ace_mat active = vae_view(buffers->spare, rows, stride * out);
    ace_conv conv = {.x_first = x_first, .out_first = block->resampled.first, .stride = 1, .dilation = 1, .padding = 1};
    ace_epilogue epilogue = {.bias = b->conv_t1.bias, .snake = &b->units[0].snake1, .act = active};
    ace_conv1d(d->set.dev, residual, x, b->conv_t1.weight, &conv, &epilogue);
    vae_swap(buffers);

    /* Rows of `stride` positions each; the first may begin before the position that is wanted. */
    int64_t skip = block->units[0].first - (block->resampled.first * stride - stride / 2);
    int64_t positions = vae_span_length(block->units[0]);
    residual = ace_rows(ace_reshape(residual, rows * stride, out), skip, positions);
    active = ace_rows(ace_reshape(active, rows * stride, out), skip, positions);
    return vae_units_run(d->set.dev, b->units, block->units, residual, active, buffers, next);
}

/* The activation that follows block i. */
static const ace_snake_weights *snake_after(const vae_decoder *d, int i)
{
    return i + 1 < d->config.blocks ? &d->blocks[i + 1].snake1 : &d->snake1;
}

/* latents: act dtype, positions window->input, in buffers->spare. Returns what the first piecewise block reads, the
 * positions *at of its level, in buffers->active. */
static ace_mat decode_beginning(const vae_decoder *d, const vae_window *window, ace_mat latents, vae_buffers *buffers,
                                vae_span *at)
{
    const vae_config *c = &d->config;
    const ace_mat none = {0};
    *at = window->entry;
    ace_mat x = vae_view(buffers->active, vae_span_length(*at), vae_width(c, c->blocks));
    ace_conv conv = {.x_first = window->input.first, .out_first = at->first, .stride = 1, .dilation = 1, .padding = 3};
    ace_epilogue epilogue = {.bias = d->conv1.bias, .snake = &d->blocks[0].snake1, .act = x};
    ace_conv1d(d->set.dev, none, latents, d->conv1.weight, &conv, &epilogue);
    for (int i = 0; i < vae_decoder_first_piecewise(c); i++) {
        x = decode_block(d, i, &window->blocks[i], at->first, x, buffers, snake_after(d, i));
        *at = window->blocks[i].units[VAE_UNITS];
    }
    return x;
}

/* x: positions from x_first on of the level that the first piecewise block reads. samples: F32, positions
 * piece->output. */
static void decode_piece(const vae_decoder *d, const vae_window *piece, int64_t x_first, ace_mat x, ace_mat samples,
                         vae_buffers buffers)
{
    for (int i = vae_decoder_first_piecewise(&d->config); i < d->config.blocks; i++) {
        x = decode_block(d, i, &piece->blocks[i], x_first, x, &buffers, snake_after(d, i));
        x_first = piece->blocks[i].units[VAE_UNITS].first;
    }
    ace_conv conv = {.x_first = x_first, .out_first = piece->output.first, .stride = 1, .dilation = 1, .padding = 3};
    ace_conv1d(d->set.dev, samples, x, d->conv2.weight, &conv, NULL);
}

/* ---- the run ------------------------------------------------------------------------------------------------- */

/* Latent frames `core`. Scratch is released by the caller. */
static bool run_window(const vae_decoder *d, int64_t frames, const vae_window *window, vae_span core,
                       const vae_stream *stream, ace_error *error)
{
    const vae_config *c = &d->config;
    ace_device *dev = d->set.dev;
    vae_sizes sizes = beginning_sizes(d, window), in_piece = piece_sizes(d, frames, window->output);
    int64_t input_rows = vae_span_length(window->input), output_rows = vae_span_length(window->output);
    float *staging = ace_scratch_host(dev, input_rows * c->latent_channels);
    float *output = ace_scratch_host(dev, output_rows * c->audio_channels);
    ace_mat samples = ace_scratch(dev, ACE_F32, output_rows, c->audio_channels);
    vae_buffers buffers = vae_buffers_new(dev, &sizes), piece_buffers = vae_buffers_new(dev, &in_piece);
    ace_mat latents = vae_view(buffers.spare, input_rows, c->latent_channels);

    static const vae_blame fed = {"latent frame", "there is nothing the VAE could decode"};
    static const vae_blame made = {"sample", "the VAE's weights are damaged, or the latents are far out of its range"};
    if (!vae_stream_input(dev, stream, window->input, latents, staging, &fed, error)) return false;
    vae_span at;
    ace_mat x = decode_beginning(d, window, latents, &buffers, &at);
    for (int64_t first = window->output.first; first < window->output.end; first += piece_length(d)) {
        vae_window piece;
        plan_piece(d, frames, window->output, first, &piece);
        decode_piece(d, &piece, at.first, x,
                     ace_rows(samples, first - window->output.first, vae_span_length(piece.output)), piece_buffers);
    }
    return vae_stream_output(dev, stream, window->output, samples, output, &made, core.end, frames, error);
}

/* What a window cost on the meter: the next one costs the same if all its spans are as long. */
typedef struct metered_window {
    bool known;
    vae_window window;
    double flops, bytes_moved;
} metered_window;

static bool same_lengths(const vae_span *a, const vae_span *b, int count)
{
    for (int i = 0; i < count; i++)
        if (vae_span_length(a[i]) != vae_span_length(b[i])) return false;
    return true;
}

static bool same_sizes(const vae_window *a, const vae_window *b, int blocks)
{
    bool same = same_lengths(&a->input, &b->input, 1) && same_lengths(&a->entry, &b->entry, 1) &&
                same_lengths(&a->output, &b->output, 1);
    for (int i = 0; same && i < blocks; i++)
        same = same_lengths(&a->blocks[i].resampled, &b->blocks[i].resampled, 1) &&
               same_lengths(a->blocks[i].units, b->blocks[i].units, VAE_UNITS + 1);
    return same;
}

/* run_window(), of which the meter runs only the first of windows that cost the same. */
static bool run_or_count(const vae_decoder *d, int64_t frames, vae_span core, const vae_stream *stream,
                         metered_window *metered, ace_error *error)
{
    ace_device *dev = d->set.dev;
    vae_window window = vae_window_decode(&d->config, frames, core);
    if (metered->known && same_sizes(&metered->window, &window, d->config.blocks)) {
        ace_meter_repeat(dev, metered->flops, metered->bytes_moved);
        return true;
    }
    ace_device_stats before = ace_device_get_stats(dev);
    bool ok = run_window(d, frames, &window, core, stream, error);
    ace_device_stats after = ace_device_get_stats(dev);
    *metered = (metered_window){ace_device_is_meter(dev), window, after.flops - before.flops,
                                after.bytes_moved - before.bytes_moved};
    return ok;
}

bool vae_decode(const vae_decoder *decoder, int64_t frames, const vae_stream *stream, ace_error *error)
{
    ace_device *dev = decoder->set.dev;
    if (frames < 1 || frames > VAE_MAX_FRAMES || stream->window < 0)
        return ace_fail(error, ACE_ERROR_USAGE, "%lld latent frames cannot be decoded in windows of %lld",
                        (long long)frames, (long long)stream->window);
    int64_t window = stream->window ? stream->window : vae_decode_window(&decoder->config, ace_device_act(dev));
    if (window > frames) window = frames;
    metered_window metered = {0};
    bool ok = true;
    for (int64_t first = 0; ok && first < frames; first += window) {
        int64_t end = window < frames - first ? first + window : frames;
        ace_mark mark = ace_scratch_mark(dev);
        ok = run_or_count(decoder, frames, (vae_span){first, end}, stream, &metered, error);
        ace_scratch_release(dev, mark);
    }
    return ok;
}
