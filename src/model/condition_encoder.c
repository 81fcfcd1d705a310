#include "model/condition_encoder.h"

void condition_encoder_load(condition_encoder *encoder, ace_device *dev, const ace_part *part, const dit_config *config)
{
    *encoder = (condition_encoder){.config = *config};
    ace_weight_set *set = &encoder->weights;
    const transformer_config *shape = &config->encoder;
    encoder_masks masks = {.sliding = config->sliding, .radius = config->sliding_window};
    weights_begin(set, dev, part);

    encoder->text_projector = weights_linear(set, shape->hidden, config->text_hidden, "encoder.text_projector.weight");

    encoder->lyric_embed =
        weights_linear(set, shape->hidden, config->text_hidden, "encoder.lyric_encoder.embed_tokens.weight");
    encoder->lyric_bias = weights_vector(set, shape->hidden, "encoder.lyric_encoder.embed_tokens.bias");
    encoder_stack_load(&encoder->lyric, set, "encoder.lyric_encoder.", shape, config->lyric_layers, &masks, NULL);

    encoder->timbre_embed =
        weights_linear(set, shape->hidden, config->latent_channels, "encoder.timbre_encoder.embed_tokens.weight");
    encoder->timbre_bias = weights_vector(set, shape->hidden, "encoder.timbre_encoder.embed_tokens.bias");
    if (config->timbre_token)
        encoder->timbre_token = weights_table(set, 1, shape->hidden, "encoder.timbre_encoder.special_token");
    encoder_stack_load(&encoder->timbre, set, "encoder.timbre_encoder.", shape, config->timbre_layers, &masks, NULL);
}

void condition_encoder_free(condition_encoder *encoder)
{
    weights_free(&encoder->weights);
}

void condition_encoder_timbre(const condition_encoder *encoder, ace_mat y, const float *latents, int64_t frames)
{
    static const int32_t first_row = 0;
    ace_device *dev = encoder->weights.dev;
    const transformer_config *shape = &encoder->config.encoder;
    ace_mark mark = ace_scratch_mark(dev);
    int64_t token = encoder->timbre_token ? 1 : 0;

    ace_mat x = ace_scratch(dev, ACE_F32, token + frames, shape->hidden);
    ace_mat reference = ace_scratch(dev, ace_device_act(dev), frames, encoder->config.latent_channels);
    ace_upload(dev, reference, latents);
    if (token) ace_embed(dev, ace_rows(x, 0, 1), encoder->timbre_token, &first_row, 1);
    ace_linear(dev, ace_rows(x, token, frames), reference, encoder->timbre_embed,
               &(ace_epilogue){.bias = encoder->timbre_bias});
    encoder_stack_forward(dev, &encoder->timbre, x, 1, token + frames);
    /* the special token's output, or the first frame's where there is none */
    ace_rms_norm(dev, y, ace_rows(x, 0, 1), encoder->timbre.norm, shape->rms_norm_eps, (ace_mat){0}, (ace_mat){0});
    ace_scratch_release(dev, mark);
}

static void encode_lyric(const condition_encoder *encoder, ace_mat y, ace_mat lyric)
{
    ace_device *dev = encoder->weights.dev;
    const transformer_config *shape = &encoder->config.encoder;
    ace_mark mark = ace_scratch_mark(dev);
    ace_mat x = ace_scratch(dev, ACE_F32, lyric.rows, shape->hidden);

    ace_linear(dev, x, lyric, encoder->lyric_embed, &(ace_epilogue){.bias = encoder->lyric_bias});
    encoder_stack_forward(dev, &encoder->lyric, x, 1, lyric.rows);
    ace_rms_norm(dev, y, x, encoder->lyric.norm, shape->rms_norm_eps, (ace_mat){0}, (ace_mat){0});
    ace_scratch_release(dev, mark);
}

void condition_encoder_forward(const condition_encoder *encoder, ace_mat y, ace_mat lyric, ace_mat timbre, ace_mat text)
{
    ace_device *dev = encoder->weights.dev;
    encode_lyric(encoder, ace_rows(y, 0, lyric.rows), lyric);
    ace_copy(dev, ace_rows(y, lyric.rows, timbre.rows), timbre);
    ace_linear(dev, ace_rows(y, lyric.rows + timbre.rows, text.rows), text, encoder->text_projector, NULL);
}
