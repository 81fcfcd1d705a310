#include "model/audio_tokenizer.h"

#include "base/error.h"

#include <math.h>

/* Codes computed at a time. Codes are independent, so the number does not show in the result. */
enum { BLOCK_CODES = 64 };

static int64_t block_of(int64_t codes)
{
    return codes < BLOCK_CODES ? codes : BLOCK_CODES;
}

/* Column block j of a matrix whose rows are `width` columns wide blocks: token j of every group. */
static ace_mat token_of_groups(ace_mat tokens, int64_t groups, int64_t length, int64_t j)
{
    return ace_cols(ace_reshape(tokens, groups, length * tokens.cols), j * tokens.cols, tokens.cols);
}

/* ---- latents to codes ---------------------------------------------------------------------------------------- */

void audio_tokenizer_load(audio_tokenizer *tokenizer, ace_device *dev, const ace_part *part, const dit_config *config)
{
    *tokenizer = (audio_tokenizer){.config = *config};
    ace_weight_set *set = &tokenizer->weights;
    int64_t hidden = config->encoder.hidden;
    encoder_masks masks = {.sliding = config->sliding, .radius = config->sliding_window};
    weights_begin(set, dev, part);

    tokenizer->acoustic_proj =
        weights_linear(set, hidden, config->latent_channels, "tokenizer.audio_acoustic_proj.weight");
    tokenizer->acoustic_bias = weights_vector(set, hidden, "tokenizer.audio_acoustic_proj.bias");
    tokenizer->embed = weights_linear(set, hidden, hidden, "tokenizer.attention_pooler.embed_tokens.weight");
    tokenizer->embed_bias = weights_vector(set, hidden, "tokenizer.attention_pooler.embed_tokens.bias");
    tokenizer->token = weights_table(set, 1, hidden, "tokenizer.attention_pooler.special_token");
    encoder_stack_load(&tokenizer->pooler, set, "tokenizer.attention_pooler.", &config->encoder, config->pooler_layers,
                       &masks, NULL);
    tokenizer->project_in =
        weights_linear(set, config->fsq_count, config->fsq_dim, "tokenizer.quantizer.project_in.weight");
    tokenizer->project_in_bias = weights_vector(set, config->fsq_count, "tokenizer.quantizer.project_in.bias");
}

void audio_tokenizer_free(audio_tokenizer *tokenizer)
{
    weights_free(&tokenizer->weights);
}

/* x[groups * (1 + window)][hidden] = the special token, then the embedded frames, of each group. */
static void embed_groups(const audio_tokenizer *tokenizer, ace_mat x, ace_mat frames, int64_t groups)
{
    static const int32_t zeros[BLOCK_CODES];
    ace_device *dev = tokenizer->weights.dev;
    ace_mark mark = ace_scratch_mark(dev);
    int64_t window = tokenizer->config.pool_window;
    ace_mat projected = ace_scratch(dev, ace_device_act(dev), frames.rows, x.cols);

    ace_linear(dev, projected, frames, tokenizer->acoustic_proj, &(ace_epilogue){.bias = tokenizer->acoustic_bias});
    ace_embed(dev, token_of_groups(x, groups, window + 1, 0), tokenizer->token, zeros, groups);
    for (int64_t j = 0; j < window; j++)
        ace_linear(dev, token_of_groups(x, groups, window + 1, j + 1), token_of_groups(projected, groups, window, j),
                   tokenizer->embed, &(ace_epilogue){.bias = tokenizer->embed_bias});
    ace_scratch_release(dev, mark);
}

/* z[groups][fsq_count] F32 from frames[groups * window][latent_channels]. */
static void pool_groups(const audio_tokenizer *tokenizer, ace_mat z, ace_mat frames, int64_t groups)
{
    ace_device *dev = tokenizer->weights.dev;
    const transformer_config *shape = &tokenizer->config.encoder;
    ace_mark mark = ace_scratch_mark(dev);
    int64_t length = tokenizer->config.pool_window + 1;
    ace_mat x = ace_scratch(dev, ACE_F32, groups * length, shape->hidden);
    ace_mat pooled = ace_scratch(dev, ace_device_act(dev), groups, shape->hidden);

    embed_groups(tokenizer, x, frames, groups);
    encoder_stack_forward(dev, &tokenizer->pooler, x, groups, length);
    ace_rms_norm(dev, pooled, token_of_groups(x, groups, length, 0), tokenizer->pooler.norm, shape->rms_norm_eps,
                 (ace_mat){0}, (ace_mat){0});
    ace_linear(dev, z, pooled, tokenizer->project_in, &(ace_epilogue){.bias = tokenizer->project_in_bias});
    ace_scratch_release(dev, mark);
}

static void quantise(const audio_tokenizer *tokenizer, int32_t *codes, const float *z, int64_t groups)
{
    int count = tokenizer->config.fsq_count;
    for (int64_t i = 0; i < groups * count; i++) {
        if (isfinite(z[i])) continue;
        ace_error error = {0};
        ace_fail(&error, ACE_ERROR_NUMERIC, "the audio tokenizer produced a value that is not finite");
        ace_device_fail(tokenizer->weights.dev, &error);
        return;
    }
    for (int64_t i = 0; i < groups; i++) codes[i] = fsq_index(&tokenizer->config, z + i * count);
}

void audio_tokenizer_encode(const audio_tokenizer *tokenizer, int32_t *codes, const float *latents, int64_t frames,
                            const float *silence)
{
    ace_device *dev = tokenizer->weights.dev;
    const dit_config *config = &tokenizer->config;
    ace_mark mark = ace_scratch_mark(dev);
    int64_t window = config->pool_window, channels = config->latent_channels;
    int64_t total = (frames + window - 1) / window, block = block_of(total);
    ace_mat frames_block = ace_scratch(dev, ace_device_act(dev), block * window, channels);
    ace_mat z_block = ace_scratch(dev, ACE_F32, block, config->fsq_count);
    float *z = ace_scratch_host(dev, block * config->fsq_count);

    for (int64_t first = 0; first < total; first += block) {
        int64_t groups = total - first < block ? total - first : block;
        int64_t have = frames - first * window < groups * window ? frames - first * window : groups * window;
        ace_mat rows = ace_rows(frames_block, 0, groups * window), z_rows = ace_rows(z_block, 0, groups);
        ace_upload(dev, ace_rows(rows, 0, have), latents ? latents + first * window * channels : NULL);
        ace_upload(dev, ace_rows(rows, have, groups * window - have), silence);
        pool_groups(tokenizer, z_rows, rows, groups);
        ace_download(dev, z, z_rows);
        if (z && ace_device_ok(dev, NULL)) quantise(tokenizer, codes + first, z, groups);
    }
    ace_scratch_release(dev, mark);
}

/* ---- codes to latents ---------------------------------------------------------------------------------------- */

void audio_detokenizer_load(audio_detokenizer *detokenizer, ace_device *dev, const ace_part *part,
                            const dit_config *config)
{
    *detokenizer = (audio_detokenizer){.config = *config};
    ace_weight_set *set = &detokenizer->weights;
    int64_t hidden = config->encoder.hidden;
    encoder_masks masks = {.sliding = config->sliding, .radius = config->sliding_window};
    weights_begin(set, dev, part);

    detokenizer->project_out =
        weights_linear(set, config->fsq_dim, config->fsq_count, "tokenizer.quantizer.project_out.weight");
    detokenizer->project_out_bias = weights_vector(set, config->fsq_dim, "tokenizer.quantizer.project_out.bias");
    detokenizer->embed = weights_linear(set, hidden, config->fsq_dim, "detokenizer.embed_tokens.weight");
    detokenizer->embed_bias = weights_vector(set, hidden, "detokenizer.embed_tokens.bias");
    detokenizer->tokens = weights_table(set, config->pool_window, hidden, "detokenizer.special_tokens");
    encoder_stack_load(&detokenizer->stack, set, "detokenizer.", &config->encoder, config->pooler_layers, &masks, NULL);
    detokenizer->proj_out = weights_linear(set, config->latent_channels, hidden, "detokenizer.proj_out.weight");
    detokenizer->proj_out_bias = weights_vector(set, config->latent_channels, "detokenizer.proj_out.bias");
}

void audio_detokenizer_free(audio_detokenizer *detokenizer)
{
    weights_free(&detokenizer->weights);
}

/* x[groups * window][hidden] = embedded code + special token j, for every frame j of every code. */
static void expand_codes(const audio_detokenizer *detokenizer, ace_mat x, ace_mat values, int64_t groups)
{
    ace_device *dev = detokenizer->weights.dev;
    ace_mark mark = ace_scratch_mark(dev);
    int64_t window = detokenizer->config.pool_window;
    ace_mat quantised = ace_scratch(dev, ace_device_act(dev), groups, detokenizer->config.fsq_dim);
    ace_mat embedded = ace_scratch(dev, ACE_F32, groups, x.cols);
    ace_mat token = ace_scratch(dev, ACE_F32, 1, x.cols);

    ace_linear(dev, quantised, values, detokenizer->project_out,
               &(ace_epilogue){.bias = detokenizer->project_out_bias});
    ace_linear(dev, embedded, quantised, detokenizer->embed, &(ace_epilogue){.bias = detokenizer->embed_bias});
    for (int32_t j = 0; j < window; j++) {
        ace_embed(dev, token, detokenizer->tokens, &j, 1);
        ace_add(dev, token_of_groups(x, groups, window, j), embedded, token);
    }
    ace_scratch_release(dev, mark);
}

/* frames[groups * window][latent_channels] F32 from values[groups][fsq_count]. */
static void decode_groups(const audio_detokenizer *detokenizer, ace_mat frames, ace_mat values, int64_t groups)
{
    ace_device *dev = detokenizer->weights.dev;
    const transformer_config *shape = &detokenizer->config.encoder;
    ace_mark mark = ace_scratch_mark(dev);
    ace_mat x = ace_scratch(dev, ACE_F32, frames.rows, shape->hidden);
    ace_mat normed = ace_scratch(dev, ace_device_act(dev), frames.rows, shape->hidden);

    expand_codes(detokenizer, x, values, groups);
    encoder_stack_forward(dev, &detokenizer->stack, x, groups, detokenizer->config.pool_window);
    ace_rms_norm(dev, normed, x, detokenizer->stack.norm, shape->rms_norm_eps, (ace_mat){0}, (ace_mat){0});
    ace_linear(dev, frames, normed, detokenizer->proj_out, &(ace_epilogue){.bias = detokenizer->proj_out_bias});
    ace_scratch_release(dev, mark);
}

static bool codes_valid(const audio_detokenizer *detokenizer, const int32_t *codes, int64_t count)
{
    int32_t limit = fsq_codes(&detokenizer->config);
    for (int64_t i = 0; codes && i < count; i++) {
        if (codes[i] >= 0 && codes[i] < limit) continue;
        ace_error error = {0};
        ace_fail(&error, ACE_ERROR_USAGE, "audio code %d at position %lld does not exist: codes are 0 to %d",
                 (int)codes[i], (long long)i, (int)limit - 1);
        ace_device_fail(detokenizer->weights.dev, &error);
        return false;
    }
    return true;
}

void audio_detokenizer_decode(const audio_detokenizer *detokenizer, float *latents, const int32_t *codes, int64_t count)
{
    if (!codes_valid(detokenizer, codes, count)) return;
    ace_device *dev = detokenizer->weights.dev;
    const dit_config *config = &detokenizer->config;
    ace_mark mark = ace_scratch_mark(dev);
    int64_t window = config->pool_window, channels = config->latent_channels, block = block_of(count);
    ace_mat values_block = ace_scratch(dev, ace_device_act(dev), block, config->fsq_count);
    ace_mat frames_block = ace_scratch(dev, ACE_F32, block * window, channels);
    float *values = ace_scratch_host(dev, block * config->fsq_count);

    for (int64_t first = 0; first < count; first += block) {
        int64_t groups = count - first < block ? count - first : block;
        ace_mat value_rows = ace_rows(values_block, 0, groups), frames = ace_rows(frames_block, 0, groups * window);
        for (int64_t i = 0; values && i < groups; i++)
            fsq_values(config, codes[first + i], values + i * config->fsq_count);
        ace_upload(dev, value_rows, values);
        decode_groups(detokenizer, frames, value_rows, groups);
        ace_download(dev, latents ? latents + first * window * channels : NULL, frames);
    }
    ace_scratch_release(dev, mark);
}
