/* dit.c - the DiT file of a tiny checkpoint: diffusion transformer, condition encoder, audio tokenizer, detokenizer
 * (names and shapes: dit.md 1.6), and its config.json (dit.md 1.2). */
#include "tiny.h"

#include <stdio.h>

enum { POOL_WINDOW = 5, FSQ_DIMENSIONS = 6, TIME_FREQUENCIES = 256, TIMBRE_FRAMES = 750 };

tiny_dit_shape tiny_dit_shape_of(tiny_variant variant)
{
    static const struct {
        bool xl, turbo;
        const char *directory, *modeling_file, *version;
    } variants[TINY_VARIANTS] = {
        [TINY_TURBO] = {false, true, "acestep-v15-turbo", "modeling_acestep_v15_turbo", "turbo"},
        [TINY_BASE] = {false, false, "acestep-v15-base", "modeling_acestep_v15_base", "base"},
        [TINY_SFT] = {false, false, "acestep-v15-sft", "modeling_acestep_v15_base", "sft"},
        [TINY_XL_TURBO] = {true, true, "acestep-v15-xl-turbo", "modeling_acestep_v15_xl_turbo", "turbo"},
        [TINY_XL_BASE] = {true, false, "acestep-v15-xl-base", "modeling_acestep_v15_xl_base", "base"},
        [TINY_XL_SFT] = {true, false, "acestep-v15-xl-sft", "modeling_acestep_v15_xl_base", "sft"},
    };
    /* As in the released models, heads * head_dim is the width of the 2B DiT and of both encoders, but not of the XL
     * DiT; two query heads share a key head, four in the XL DiT. */
    static const tiny_stack narrow = {4, 64, 192, 4, 2, 16}, wide = {6, 80, 304, 8, 2, 16};
    return (tiny_dit_shape){.xl = variants[variant].xl,
                            .turbo = variants[variant].turbo,
                            .directory = variants[variant].directory,
                            .modeling_file = variants[variant].modeling_file,
                            .version = variants[variant].version,
                            .dit = variants[variant].xl ? wide : narrow,
                            .encoder = narrow};
}

tiny_dit_shape tiny_dit_shape_for_blocks(void)
{
    tiny_dit_shape shape = tiny_dit_shape_of(TINY_XL_TURBO);
    shape.dit = (tiny_stack){4, 256, 512, 16, 8, 16};
    return shape;
}

/* A tensor of rank 3. */
static void add_cube(tiny_model *model, const char *name, double deviation, int64_t a, int64_t b, int64_t c)
{
    tiny_add(model, deviation, 0, 3, (int64_t[]){a, b, c}, "%s", name);
}

static void add_time_embedder(tiny_model *model, const char *prefix, int64_t hidden)
{
    char name[96];
    snprintf(name, sizeof name, "%s.linear_1", prefix);
    tiny_add_linear(model, name, hidden, TIME_FREQUENCIES, 1, true);
    snprintf(name, sizeof name, "%s.linear_2", prefix);
    tiny_add_linear(model, name, hidden, hidden, 0.7, true);
    snprintf(name, sizeof name, "%s.time_proj", prefix);
    tiny_add_linear(model, name, 6 * hidden, hidden, 0.7, true);
}

static void add_dit_layer(tiny_model *model, int layer, const tiny_stack *stack)
{
    static const char *const norms[] = {"self_attn_norm", "cross_attn_norm", "mlp_norm"};
    char name[96];
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "decoder.layers.%d.%s.weight", layer, norms[i]);
        tiny_add_norm(model, name, stack->hidden);
    }
    snprintf(name, sizeof name, "decoder.layers.%d.self_attn", layer);
    tiny_add_attention(model, name, stack);
    snprintf(name, sizeof name, "decoder.layers.%d.cross_attn", layer);
    tiny_add_attention(model, name, stack);
    snprintf(name, sizeof name, "decoder.layers.%d.mlp", layer);
    tiny_add_mlp(model, name, stack);
    snprintf(name, sizeof name, "decoder.layers.%d.scale_shift_table", layer);
    add_cube(model, name, 0.4, 1, 6, stack->hidden);
}

static void add_dit(tiny_model *model, const tiny_dit_shape *shape)
{
    int64_t hidden = shape->dit.hidden;
    add_cube(model, "decoder.proj_in.1.weight", 0.05, hidden, TINY_IN_CHANNELS, TINY_PATCH); /* 1 / sqrt(192 * 2) */
    tiny_add(model, 0.1, 0, 1, &hidden, "decoder.proj_in.1.bias");
    add_time_embedder(model, "decoder.time_embed", hidden);
    add_time_embedder(model, "decoder.time_embed_r", hidden);
    tiny_add_linear(model, "decoder.condition_embedder", hidden, shape->encoder.hidden, 1, true);
    for (int i = 0; i < shape->dit.layers; i++) add_dit_layer(model, i, &shape->dit);
    tiny_add_norm(model, "decoder.norm_out.weight", hidden);
    add_cube(model, "decoder.proj_out.1.weight", 0.08, hidden, TINY_LATENT_CHANNELS, TINY_PATCH);
    tiny_add(model, 0.1, 0, 1, (int64_t[]){TINY_LATENT_CHANNELS}, "decoder.proj_out.1.bias");
    add_cube(model, "decoder.scale_shift_table", 0.4, 1, 2, hidden);
}

static void add_condition_encoder(tiny_model *model, const tiny_stack *stack)
{
    int64_t hidden = stack->hidden;
    tiny_add_linear(model, "encoder.text_projector", hidden, TINY_TEXT_HIDDEN, 1, false);
    tiny_add_linear(model, "encoder.lyric_encoder.embed_tokens", hidden, TINY_TEXT_HIDDEN, 1, true);
    tiny_add_encoder_stack(model, "encoder.lyric_encoder.", stack, TINY_LYRIC_LAYERS);
    tiny_add_linear(model, "encoder.timbre_encoder.embed_tokens", hidden, TINY_LATENT_CHANNELS, 1, true);
    add_cube(model, "encoder.timbre_encoder.special_token", 1, 1, 1, hidden);
    tiny_add_encoder_stack(model, "encoder.timbre_encoder.", stack, TINY_TIMBRE_LAYERS);
    add_cube(model, "null_condition_emb", 1, 1, 1, hidden);
}

static void add_audio_tokenizer(tiny_model *model, const tiny_stack *stack)
{
    int64_t hidden = stack->hidden;
    tiny_add_linear(model, "tokenizer.audio_acoustic_proj", hidden, TINY_LATENT_CHANNELS, 1, true);
    tiny_add_linear(model, "tokenizer.attention_pooler.embed_tokens", hidden, hidden, 1, true);
    add_cube(model, "tokenizer.attention_pooler.special_token", 1, 1, 1, hidden);
    tiny_add_encoder_stack(model, "tokenizer.attention_pooler.", stack, TINY_POOLER_LAYERS);
    tiny_add_linear(model, "tokenizer.quantizer.project_in", FSQ_DIMENSIONS, hidden, 1, true);
    tiny_add_linear(model, "tokenizer.quantizer.project_out", hidden, FSQ_DIMENSIONS, 1, true);

    tiny_add_linear(model, "detokenizer.embed_tokens", hidden, hidden, 1, true);
    add_cube(model, "detokenizer.special_tokens", 1, 1, POOL_WINDOW, hidden);
    tiny_add_encoder_stack(model, "detokenizer.", stack, TINY_POOLER_LAYERS);
    tiny_add_linear(model, "detokenizer.proj_out", TINY_LATENT_CHANNELS, hidden, 1, true);
}

void tiny_dit_tensors(tiny_model *model, const tiny_dit_shape *shape)
{
    add_dit(model, shape);
    add_condition_encoder(model, &shape->encoder);
    add_audio_tokenizer(model, &shape->encoder);
    tiny_model_sort(model);
}

void tiny_dit_config(ace_text *json, const tiny_dit_shape *shape)
{
    const tiny_stack *dit = &shape->dit, *encoder = &shape->encoder;
    ace_text_add(json, "{\n  \"architectures\": [\n    \"AceStepConditionGenerationModel\"\n  ],\n"
                       "  \"attention_bias\": false,\n  \"attention_dropout\": 0.0,\n");
    ace_text_format(json, "  \"audio_acoustic_hidden_dim\": %d,\n", TINY_LATENT_CHANNELS);
    ace_text_format(json,
                    "  \"auto_map\": {\n    \"AutoConfig\": \"configuration_acestep_v15.AceStepConfig\",\n"
                    "    \"AutoModel\": \"%s.AceStepConditionGenerationModel\"\n  },\n",
                    shape->modeling_file);
    ace_text_add(json, "  \"data_proportion\": 0.5,\n  \"dtype\": \"bfloat16\",\n");
    if (shape->xl) {
        ace_text_format(json,
                        "  \"encoder_hidden_size\": %d,\n  \"encoder_intermediate_size\": %d,\n"
                        "  \"encoder_num_attention_heads\": %d,\n  \"encoder_num_key_value_heads\": %d,\n",
                        encoder->hidden, encoder->intermediate, encoder->heads, encoder->kv_heads);
    }
    ace_text_format(
        json,
        "  \"fsq_dim\": %d,\n  \"fsq_input_levels\": [\n    8,\n    8,\n    8,\n    5,\n    5,\n    5\n  ],\n"
        "  \"fsq_input_num_quantizers\": 1,\n  \"head_dim\": %d,\n  \"hidden_act\": \"silu\",\n"
        "  \"hidden_size\": %d,\n  \"in_channels\": %d,\n  \"initializer_range\": 0.02,\n"
        "  \"intermediate_size\": %d,\n  \"is_turbo\": %s,\n  \"layer_types\": [\n",
        encoder->hidden, dit->head_dim, dit->hidden, TINY_IN_CHANNELS, dit->intermediate,
        shape->turbo ? "true" : "false");
    for (int i = 0; i < dit->layers; i++) {
        ace_text_format(json, "    \"%s_attention\"%s\n", i % 2 == 0 ? "sliding" : "full",
                        i + 1 < dit->layers ? "," : "");
    }
    ace_text_format(json,
                    "  ],\n  \"max_position_embeddings\": 32768,\n  \"model_type\": \"acestep\",\n"
                    "  \"model_version\": \"%s\",\n  \"num_attention_heads\": %d,\n"
                    "  \"num_attention_pooler_hidden_layers\": %d,\n  \"num_audio_decoder_hidden_layers\": %d,\n"
                    "  \"num_hidden_layers\": %d,\n  \"num_key_value_heads\": %d,\n"
                    "  \"num_lyric_encoder_hidden_layers\": %d,\n  \"num_timbre_encoder_hidden_layers\": %d,\n"
                    "  \"patch_size\": %d,\n  \"pool_window_size\": %d,\n",
                    shape->version, dit->heads, TINY_POOLER_LAYERS, dit->layers, dit->layers, dit->kv_heads,
                    TINY_LYRIC_LAYERS, TINY_TIMBRE_LAYERS, TINY_PATCH, POOL_WINDOW);
    ace_text_format(json,
                    "  \"rms_norm_eps\": 1e-06,\n  \"rope_scaling\": null,\n  \"rope_theta\": 1000000,\n"
                    "  \"sliding_window\": %d,\n  \"text_hidden_dim\": %d,\n  \"tie_word_embeddings\": true,\n"
                    "  \"timbre_fix_frame\": %d,\n  \"timbre_hidden_dim\": %d,\n  \"timestep_mu\": -0.4,\n"
                    "  \"timestep_sigma\": 1.0,\n  \"transformers_version\": \"4.57.6\",\n  \"use_cache\": true,\n"
                    "  \"use_sliding_window\": true,\n  \"vocab_size\": 64003\n}\n",
                    TINY_WINDOW, TINY_TEXT_HIDDEN, TIMBRE_FRAMES, TINY_LATENT_CHANNELS);
}
