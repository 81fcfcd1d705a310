/* vae.c - the Oobleck VAE of a tiny checkpoint (vae-audio.md 2): every width is a sixteenth of the real one, except the
 * 64 latent channels and the 128 numbers (mean and scale) that the encoder ends in. */
#include "tiny.h"

#include <math.h>
#include <stdio.h>

enum { HIDDEN = 8, BLOCKS = 5, AUDIO_CHANNELS = 2 };
static const int MULTIPLES[BLOCKS] = {1, 2, 4, 8, 16}, STRIDES[BLOCKS] = {2, 4, 4, 6, 10};

/* A weight-normalised convolution: the size of its output follows from g alone. */
static void add_conv(tiny_model *model, const char *name, int64_t first, int64_t second, int64_t kernel, double g,
                     int64_t bias)
{
    tiny_add(model, 0.1 * g, g, 3, (int64_t[]){first, 1, 1}, "%s.weight_g", name);
    tiny_add(model, 0.3, 0, 3, (int64_t[]){first, second, kernel}, "%s.weight_v", name);
    if (bias > 0) tiny_add(model, 0.05, 0, 1, &bias, "%s.bias", name);
}

/* alpha and beta are logarithms (vae-audio.md 4). beta is centred above 0, so that the positive mean of sin^2 does not
 * outgrow the signal. */
static void add_snake(tiny_model *model, const char *name, int64_t channels)
{
    tiny_add(model, 0.4, 0.2, 3, (int64_t[]){1, channels, 1}, "%s.alpha", name);
    tiny_add(model, 0.4, 0.5, 3, (int64_t[]){1, channels, 1}, "%s.beta", name);
}

static void add_residual_units(tiny_model *model, const char *block, int64_t channels)
{
    char name[96];
    for (int unit = 1; unit <= 3; unit++) {
        snprintf(name, sizeof name, "%s.res_unit%d.snake1", block, unit);
        add_snake(model, name, channels);
        snprintf(name, sizeof name, "%s.res_unit%d.conv1", block, unit);
        add_conv(model, name, channels, channels, 7, 0.8, channels);
        snprintf(name, sizeof name, "%s.res_unit%d.snake2", block, unit);
        add_snake(model, name, channels);
        snprintf(name, sizeof name, "%s.res_unit%d.conv2", block, unit);
        add_conv(model, name, channels, channels, 1, 0.3, channels);
    }
}

/* Channels between block `level - 1` and block `level` of the encoder. */
static int64_t width(int level)
{
    return HIDDEN * (level == 0 ? 1 : MULTIPLES[level - 1]);
}

static void add_encoder(tiny_model *model)
{
    char block[64], name[96];
    add_conv(model, "encoder.conv1", HIDDEN, AUDIO_CHANNELS, 7, 1.5, HIDDEN);
    for (int i = 0; i < BLOCKS; i++) {
        snprintf(block, sizeof block, "encoder.block.%d", i);
        add_residual_units(model, block, width(i));
        snprintf(name, sizeof name, "%s.snake1", block);
        add_snake(model, name, width(i));
        snprintf(name, sizeof name, "%s.conv1", block);
        add_conv(model, name, width(i + 1), width(i), 2 * STRIDES[i], 0.8, width(i + 1));
    }
    add_snake(model, "encoder.snake1", width(BLOCKS));
    add_conv(model, "encoder.conv2", 2 * TINY_LATENT_CHANNELS, width(BLOCKS), 3, 1, 2 * TINY_LATENT_CHANNELS);
}

static void add_decoder(tiny_model *model)
{
    char block[64], name[96];
    add_conv(model, "decoder.conv1", width(BLOCKS), TINY_LATENT_CHANNELS, 7, 1, width(BLOCKS));
    for (int i = 0; i < BLOCKS; i++) {
        int level = BLOCKS - i, stride = STRIDES[level - 1];
        int64_t in = width(level), out = width(level - 1);
        snprintf(block, sizeof block, "decoder.block.%d", i);
        snprintf(name, sizeof name, "%s.snake1", block);
        add_snake(model, name, in);
        /* Transposed: g belongs to the input channel, whose norm is spread over out * 2 stride taps; an output sees two
         * taps of each input channel. */
        snprintf(name, sizeof name, "%s.conv_t1", block);
        add_conv(model, name, in, out, 2 * stride, 0.8 * sqrt((double)(out * stride) / (double)in), out);
        add_residual_units(model, block, out);
    }
    add_snake(model, "decoder.snake1", HIDDEN);
    add_conv(model, "decoder.conv2", AUDIO_CHANNELS, HIDDEN, 7, 0.1, 0);
}

void tiny_vae_tensors(tiny_model *model)
{
    add_encoder(model);
    add_decoder(model);
    tiny_model_sort(model);
}

static void json_numbers(ace_text *json, const char *key, const int *numbers, int count)
{
    ace_text_format(json, "  \"%s\": [\n", key);
    for (int i = 0; i < count; i++) ace_text_format(json, "    %d%s\n", numbers[i], i + 1 < count ? "," : "");
    ace_text_add(json, "  ],\n");
}

void tiny_vae_config(ace_text *json)
{
    ace_text_format(json,
                    "{\n  \"_class_name\": \"AutoencoderOobleck\",\n  \"_diffusers_version\": \"0.34.0\",\n"
                    "  \"audio_channels\": %d,\n",
                    AUDIO_CHANNELS);
    json_numbers(json, "channel_multiples", MULTIPLES, BLOCKS);
    ace_text_format(json, "  \"decoder_channels\": %d,\n  \"decoder_input_channels\": %d,\n", HIDDEN,
                    TINY_LATENT_CHANNELS);
    json_numbers(json, "downsampling_ratios", STRIDES, BLOCKS);
    ace_text_format(json, "  \"encoder_hidden_size\": %d,\n  \"sampling_rate\": 48000\n}\n", HIDDEN);
}
