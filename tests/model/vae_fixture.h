/* vae_fixture.h - what the VAE's tests share: the goldens of tools/reference/make_vae_goldens.py, a stand-in for a
 * checkpoint's part in which single tensors can be withheld or replaced, and runs whose output is kept in memory. */
#ifndef TESTS_MODEL_VAE_FIXTURE_H
#define TESTS_MODEL_VAE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/memory.h"
#include "model/vae.h"
#include "model/vae_window.h"
#include "support/compute.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { DECODE_SEED = 1, ENCODE_SEED = 2, DECIMATION = 11 }; /* as in the script */

/* ---- the part ------------------------------------------------------------------------------------------------ */

/* Takes the place of checkpoint.c's: the loader sees the tensors of one file, except for one. */
struct ace_part {
    ace_tensors *tensors;
    const char *changed; /* this name finds `replacement`, which may be NULL */
    const ace_tensor *replacement;
};

const ace_tensor *part_find(const ace_part *part, const char *name)
{
    if (part->changed && strcmp(part->changed, name) == 0) return part->replacement;
    return tensors_find(part->tensors, name);
}

const char *part_path(const ace_part *part)
{
    (void)part;
    return "the test's VAE";
}

/* ---- goldens ------------------------------------------------------------------------------------------------- */

typedef struct golden {
    const char *name;
    vae_config config;
} golden;

static const golden goldens[] = {
    {"official_strides", {2, 4, 8, 5, {1, 1, 2, 2, 4}, {2, 4, 4, 6, 10}, 48000}},
    {"three_blocks", {1, 3, 6, 3, {1, 3, 2}, {6, 2, 4}, 48000}},
    {"one_block", {2, 2, 4, 1, {2}, {4}, 48000}},
};

static inline ace_part open_golden(const golden *g)
{
    char path[512];
    ace_error error = {0};
    snprintf(path, sizeof path, "%s/vae/%s.safetensors", TEST_DATA, g->name);
    ace_part part = {.tensors = tensors_open(path, &error)};
    if (!part.tensors) fail_msg("%s", error.message);
    return part;
}

static inline void close_golden(ace_part *part)
{
    tensors_close(part->tensors);
}

/* The inputs that the goldens were made from: `count` values in [-1, 1), caller frees. */
static inline float *noise(uint32_t seed, int64_t count)
{
    float *values = malloc((size_t)count * sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < count; i++) {
        uint32_t h = (uint32_t)i + seed * 0x9E3779B9u;
        h = (h ^ (h >> 16)) * 0x85EBCA6Bu;
        h = (h ^ (h >> 16)) * 0xC2B2AE35u;
        h ^= h >> 16;
        values[i] = (float)((double)(h >> 8) / (1 << 23) - 1);
    }
    return values;
}

/* ---- devices ------------------------------------------------------------------------------------------------- */

static inline ace_device *open_dev(ace_dtype precision, int threads)
{
    ace_error error = {0};
    ace_device *dev = open_compute(&(ace_cpu_options){.precision = precision, .threads = threads}, &error);
    if (!dev) fail_msg("%s", error.message);
    return dev;
}

static inline ace_device *open_meter(const ace_device *like)
{
    ace_error error = {0};
    ace_device *meter = ace_meter_open(like, &error);
    if (!meter) fail_msg("%s", error.message);
    return meter;
}

/* ---- runs ---------------------------------------------------------------------------------------------------- */

/* One direction of a VAE on a device, and on the meter that plans for it. */
typedef struct codec {
    vae_config config;
    bool decodes;
    ace_device *dev, *meter;
    vae_decoder *decoder, *metered_decoder;
    vae_encoder *encoder, *metered_encoder;
} codec;

static inline codec open_codec(const golden *g, const ace_part *part, bool decodes, ace_dtype precision, int threads)
{
    ace_error error = {0};
    codec c = {.config = g->config, .decodes = decodes, .dev = open_dev(precision, threads)};
    c.meter = open_meter(c.dev);
    if (decodes) {
        c.decoder = vae_decoder_load(c.dev, part, &g->config, &error);
        c.metered_decoder = vae_decoder_load(c.meter, part, &g->config, &error);
        if (!c.decoder || !c.metered_decoder) fail_msg("%s", error.message);
    } else {
        c.encoder = vae_encoder_load(c.dev, part, &g->config, &error);
        c.metered_encoder = vae_encoder_load(c.meter, part, &g->config, &error);
        if (!c.encoder || !c.metered_encoder) fail_msg("%s", error.message);
    }
    assert_int_equal(ace_device_get_stats(c.dev).weight_bytes, ace_device_get_stats(c.meter).weight_bytes);
    return c;
}

static inline void close_codec(codec *c)
{
    vae_decoder_free(c->decoder);
    vae_decoder_free(c->metered_decoder);
    vae_encoder_free(c->encoder);
    vae_encoder_free(c->metered_encoder);
    assert_int_equal(ace_device_get_stats(c->dev).weight_bytes, 0);
    assert_int_equal(ace_device_get_stats(c->meter).weight_bytes, 0);
    ace_device_close(c->meter);
    ace_device_close(c->dev);
}

static inline int64_t input_cols(const codec *c)
{
    return c->decodes ? c->config.latent_channels : c->config.audio_channels;
}

/* Of an encoder: mean and scale. */
static inline int64_t output_cols(const codec *c)
{
    return c->decodes ? c->config.audio_channels : 2 * c->config.latent_channels;
}

static inline int64_t output_rows(const codec *c, int64_t length)
{
    return c->decodes ? length * vae_hop(&c->config) : vae_frames(&c->config, length);
}

static inline bool run_stream(const codec *c, bool on_meter, int64_t length, const vae_stream *stream, ace_error *error)
{
    if (c->decodes) return vae_decode(on_meter ? c->metered_decoder : c->decoder, length, stream, error);
    return vae_encode(on_meter ? c->metered_encoder : c->encoder, length, VAE_MEAN_AND_SCALE, stream, error);
}

/* Output rows, which must come in order and without gaps. */
typedef struct collector {
    float *rows;
    int64_t count, cols, total, windows;
    int64_t done; /* of the last progress call */
} collector;

static inline bool collect(void *context, int64_t first, int64_t count, const float *rows, ace_error *error)
{
    (void)error;
    collector *k = context;
    assert_int_equal(first, k->count);
    assert_true(count > 0 && count <= k->total - first);
    memcpy(k->rows + first * k->cols, rows, (size_t)(count * k->cols) * sizeof *rows);
    k->count += count;
    k->windows++;
    return true;
}

/* What the meter plans for a run, in bytes of scratch. */
static inline size_t planned_scratch(const codec *c, int64_t length, int64_t window)
{
    ace_error error = {0};
    ace_device_reset_peak(c->meter);
    ace_scratch_reserve(c->meter, 0, 0, NULL);
    if (!run_stream(c, true, length, &(vae_stream){.window = window}, &error)) fail_msg("%s", error.message);
    assert_int_equal(ace_device_get_stats(c->meter).scratch_bytes, 0);
    return ace_device_get_stats(c->meter).scratch_peak;
}

/* Runs `length` input rows in windows of `window` latent frames within exactly the scratch that was planned. Returns
 * output_rows() x output_cols() values, caller frees. */
static inline float *run_codec(const codec *c, const float *input, int64_t length, int64_t window)
{
    ace_error error = {0};
    size_t planned = planned_scratch(c, length, window);
    if (!ace_scratch_reserve(c->dev, planned, ace_device_get_stats(c->meter).host_peak, &error))
        fail_msg("%s", error.message);
    ace_device_reset_peak(c->dev);
    collector k = {.cols = output_cols(c), .total = output_rows(c, length)};
    k.rows = malloc((size_t)(k.total * k.cols) * sizeof *k.rows);
    assert_non_null(k.rows);
    vae_stream stream = {.window = window, .rows = input, .write = collect, .context = &k};
    if (!run_stream(c, false, length, &stream, &error)) fail_msg("%s", error.message);
    assert_int_equal(k.count, k.total);
    assert_int_equal(ace_device_get_stats(c->dev).scratch_peak, planned);
    assert_int_equal(ace_device_get_stats(c->dev).scratch_bytes, 0);
    return k.rows;
}

static inline void assert_same_bytes(const codec *c, const float *a, const float *b, int64_t length)
{
    size_t count = (size_t)(output_rows(c, length) * output_cols(c));
    for (size_t i = 0; i < count; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0)
            fail_msg("value %zu of %zu is %.9g in one run and %.9g in the other", i, count, (double)a[i], (double)b[i]);
}

#endif
