/* Checkpoints of the real dimensions whose weights are random numbers made when they are read: speed and memory are
 * measured without a download. Scales are chosen so that signals keep their size on the way through. */
#include "base/error.h"
#include "base/memory.h"
#include "model/checkpoint_names.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { SYNTHETIC_SEED = 15, SILENCE_FRAMES = 15000, NAME_SIZE = 128 };

/* A set under construction: after the first failure nothing more is added. */
typedef struct builder {
    ace_tensors *tensors;
    ace_error *error;
    bool ok;
} builder;

typedef struct shape {
    int rank;
    int64_t size[3];
} shape;

static void add(builder *b, ace_dtype dtype, double deviation, double center, shape s, const char *format, ...)
    __attribute__((format(printf, 6, 7)));

static void add(builder *b, ace_dtype dtype, double deviation, double center, shape s, const char *format, ...)
{
    char name[NAME_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    b->ok = b->ok && tensors_add_synthetic(b->tensors, name, dtype, s.rank, s.size, (float)deviation, (float)center,
                                           SYNTHETIC_SEED, b->error);
}

/* A Linear that keeps the size of a unit-variance input times `gain`. */
static void add_linear(builder *b, int64_t out, int64_t in, double gain, bool bias, const char *name)
{
    add(b, ACE_BF16, gain / sqrt((double)in), 0, (shape){2, {out, in}}, "%s.weight", name);
    if (bias) add(b, ACE_BF16, 0.02, 0, (shape){1, {out}}, "%s.bias", name);
}

static void add_norm(builder *b, int64_t n, const char *name)
{
    add(b, ACE_BF16, 0.05, 1, (shape){1, {n}}, "%s.weight", name);
}

/* ---- transformer stacks ---------------------------------------------------------------------------------------- */

static void add_attention(builder *b, const transformer_config *c, const char *prefix)
{
    int64_t q = (int64_t)c->heads * c->head_dim, kv = (int64_t)c->kv_heads * c->head_dim;
    const struct {
        const char *name;
        int64_t out, in;
    } projections[] = {
        {"q_proj", q, c->hidden}, {"k_proj", kv, c->hidden}, {"v_proj", kv, c->hidden}, {"o_proj", c->hidden, q}};
    char name[NAME_SIZE];
    for (int i = 0; i < 4; i++) {
        snprintf(name, sizeof name, "%s.%s", prefix, projections[i].name);
        add_linear(b, projections[i].out, projections[i].in, 0.5, false, name);
    }
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "%s.%s", prefix, i ? "k_norm" : "q_norm");
        add_norm(b, c->head_dim, name);
    }
}

static void add_mlp(builder *b, const transformer_config *c, const char *prefix)
{
    char name[NAME_SIZE];
    snprintf(name, sizeof name, "%s.gate_proj", prefix);
    add_linear(b, c->intermediate, c->hidden, 1, false, name);
    snprintf(name, sizeof name, "%s.up_proj", prefix);
    add_linear(b, c->intermediate, c->hidden, 1, false, name);
    snprintf(name, sizeof name, "%s.down_proj", prefix);
    add_linear(b, c->hidden, c->intermediate, 0.5, false, name);
}

/* `layers` layers below the prefix ("encoder.lyric_encoder.") and the norm behind them. */
static void add_encoder_stack(builder *b, const transformer_config *c, int layers, const char *prefix)
{
    char name[NAME_SIZE];
    for (int i = 0; i < layers; i++) {
        snprintf(name, sizeof name, "%slayers.%d.input_layernorm", prefix, i);
        add_norm(b, c->hidden, name);
        snprintf(name, sizeof name, "%slayers.%d.post_attention_layernorm", prefix, i);
        add_norm(b, c->hidden, name);
        snprintf(name, sizeof name, "%slayers.%d.self_attn", prefix, i);
        add_attention(b, c, name);
        snprintf(name, sizeof name, "%slayers.%d.mlp", prefix, i);
        add_mlp(b, c, name);
    }
    snprintf(name, sizeof name, "%snorm", prefix);
    add_norm(b, c->hidden, name);
}

/* ---- the DiT file (dit.md 1.6) ----------------------------------------------------------------------------------- */

static void add_time_embedder(builder *b, int64_t hidden, const char *prefix)
{
    char name[NAME_SIZE];
    snprintf(name, sizeof name, "%s.linear_1", prefix);
    add_linear(b, hidden, 256, 1, true, name);
    snprintf(name, sizeof name, "%s.linear_2", prefix);
    add_linear(b, hidden, hidden, 1, true, name);
    snprintf(name, sizeof name, "%s.time_proj", prefix);
    add_linear(b, 6 * hidden, hidden, 0.3, true, name);
}

static void add_dit_layer(builder *b, const transformer_config *c, int layer)
{
    static const char *const norms[] = {"self_attn_norm", "cross_attn_norm", "mlp_norm"};
    static const char *const attentions[] = {"self_attn", "cross_attn"};
    char name[NAME_SIZE];
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "decoder.layers.%d.%s", layer, norms[i]);
        add_norm(b, c->hidden, name);
    }
    for (int i = 0; i < 2; i++) {
        snprintf(name, sizeof name, "decoder.layers.%d.%s", layer, attentions[i]);
        add_attention(b, c, name);
    }
    snprintf(name, sizeof name, "decoder.layers.%d.mlp", layer);
    add_mlp(b, c, name);
    add(b, ACE_BF16, 1 / sqrt((double)c->hidden), 0, (shape){3, {1, 6, c->hidden}},
        "decoder.layers.%d.scale_shift_table", layer);
}

static void add_decoder(builder *b, const dit_config *c)
{
    int64_t hidden = c->dit.hidden, patch = c->patch_size, latent = c->latent_channels;
    add(b, ACE_BF16, 1 / sqrt((double)(c->in_channels * patch)), 0, (shape){3, {hidden, c->in_channels, patch}},
        "decoder.proj_in.1.weight");
    add(b, ACE_BF16, 0.02, 0, (shape){1, {hidden}}, "decoder.proj_in.1.bias");
    add_time_embedder(b, hidden, "decoder.time_embed");
    add_time_embedder(b, hidden, "decoder.time_embed_r");
    add_linear(b, hidden, c->encoder.hidden, 1, true, "decoder.condition_embedder");
    for (int i = 0; i < c->dit.layers; i++) add_dit_layer(b, &c->dit, i);
    add_norm(b, hidden, "decoder.norm_out");
    add(b, ACE_BF16, 1 / sqrt((double)hidden), 0, (shape){3, {hidden, latent, patch}}, "decoder.proj_out.1.weight");
    add(b, ACE_BF16, 0.02, 0, (shape){1, {latent}}, "decoder.proj_out.1.bias");
    add(b, ACE_BF16, 1 / sqrt((double)hidden), 0, (shape){3, {1, 2, hidden}}, "decoder.scale_shift_table");
}

static void add_encoders(builder *b, const dit_config *c)
{
    int64_t hidden = c->encoder.hidden, latent = c->latent_channels;
    add_linear(b, hidden, c->text_hidden, 1, false, "encoder.text_projector");
    add_linear(b, hidden, c->text_hidden, 1, true, "encoder.lyric_encoder.embed_tokens");
    add_encoder_stack(b, &c->encoder, c->lyric_layers, "encoder.lyric_encoder.");
    add_linear(b, hidden, latent, 1, true, "encoder.timbre_encoder.embed_tokens");
    add(b, ACE_BF16, 1, 0, (shape){3, {1, 1, hidden}}, "encoder.timbre_encoder.special_token");
    add_encoder_stack(b, &c->encoder, c->timbre_layers, "encoder.timbre_encoder.");
    add(b, ACE_BF16, 1, 0, (shape){3, {1, 1, hidden}}, "null_condition_emb");
}

static void add_audio_tokenizer(builder *b, const dit_config *c)
{
    int64_t hidden = c->encoder.hidden, latent = c->latent_channels;
    add_linear(b, hidden, latent, 1, true, "tokenizer.audio_acoustic_proj");
    add_linear(b, hidden, hidden, 1, true, "tokenizer.attention_pooler.embed_tokens");
    add(b, ACE_BF16, 1, 0, (shape){3, {1, 1, hidden}}, "tokenizer.attention_pooler.special_token");
    add_encoder_stack(b, &c->encoder, c->pooler_layers, "tokenizer.attention_pooler.");
    add_linear(b, c->fsq_count, c->fsq_dim, 1, true, "tokenizer.quantizer.project_in");
    add_linear(b, c->fsq_dim, c->fsq_count, 1, true, "tokenizer.quantizer.project_out");
    add_linear(b, hidden, hidden, 1, true, "detokenizer.embed_tokens");
    add(b, ACE_BF16, 1, 0, (shape){3, {1, c->pool_window, hidden}}, "detokenizer.special_tokens");
    add_encoder_stack(b, &c->encoder, c->pooler_layers, "detokenizer.");
    add_linear(b, latent, hidden, 1, true, "detokenizer.proj_out");
}

static void add_dit(builder *b, const ace_checkpoint *c)
{
    add_decoder(b, &c->dit);
    add_encoders(b, &c->dit);
    add_audio_tokenizer(b, &c->dit);
    add(b, ACE_F32, 0.5, 0, (shape){2, {SILENCE_FRAMES, c->dit.latent_channels}}, "silence_latent");
}

/* ---- the text encoder and the planner (lm.md 1.1) -----------------------------------------------------------------
 */

static void add_qwen3(builder *b, const qwen3_config *q)
{
    add(b, ACE_BF16, 0.05, 0, (shape){2, {q->vocab_size, q->stack.hidden}}, "embed_tokens.weight");
    add_encoder_stack(b, &q->stack, q->stack.layers, "");
}

static void add_text_encoder(builder *b, const ace_checkpoint *c)
{
    add_qwen3(b, &c->text_encoder);
}

static void add_lm(builder *b, const ace_checkpoint *c)
{
    add_qwen3(b, &c->lm);
}

/* ---- the VAE (vae-audio.md 2) ------------------------------------------------------------------------------------ */

/* A weight-normalised convolution: the norm of each kernel, and so the size of the output, is `gain`. */
static void add_conv(builder *b, int64_t first, int64_t second, int64_t kernel, double gain, int64_t bias,
                     const char *name)
{
    add(b, ACE_BF16, 0.05 * gain, gain, (shape){3, {first, 1, 1}}, "%s.weight_g", name);
    add(b, ACE_BF16, 0.1, 0, (shape){3, {first, second, kernel}}, "%s.weight_v", name);
    if (bias) add(b, ACE_BF16, 0.02, 0, (shape){1, {bias}}, "%s.bias", name);
}

/* alpha and beta are logarithms; with beta 0 the snake would add up to 1 to every value, so it is kept a bit larger. */
static void add_snake(builder *b, int64_t channels, const char *name)
{
    add(b, ACE_BF16, 0.3, 0, (shape){3, {1, channels, 1}}, "%s.alpha", name);
    add(b, ACE_BF16, 0.3, 0.5, (shape){3, {1, channels, 1}}, "%s.beta", name);
}

static void add_residual_units(builder *b, int64_t channels, const char *block)
{
    char name[NAME_SIZE];
    for (int unit = 1; unit <= 3; unit++) {
        for (int i = 1; i <= 2; i++) {
            snprintf(name, sizeof name, "%s.res_unit%d.snake%d", block, unit, i);
            add_snake(b, channels, name);
            snprintf(name, sizeof name, "%s.res_unit%d.conv%d", block, unit, i);
            add_conv(b, channels, channels, i == 1 ? 7 : 1, i == 1 ? 0.8 : 0.3, channels, name);
        }
    }
}

/* Channels below level 0 (the audio side) and above each block. */
static int64_t width(const vae_config *c, int level)
{
    return (int64_t)c->hidden * (level ? c->multiples[level - 1] : 1);
}

static void add_vae_encoder(builder *b, const vae_config *c)
{
    char block[64], name[NAME_SIZE];
    add_conv(b, c->hidden, c->audio_channels, 7, 1.5, c->hidden, "encoder.conv1");
    for (int i = 0; i < c->blocks; i++) {
        snprintf(block, sizeof block, "encoder.block.%d", i);
        add_residual_units(b, width(c, i), block);
        snprintf(name, sizeof name, "%s.snake1", block);
        add_snake(b, width(c, i), name);
        snprintf(name, sizeof name, "%s.conv1", block);
        add_conv(b, width(c, i + 1), width(c, i), 2 * c->strides[i], 0.8, width(c, i + 1), name);
    }
    add_snake(b, width(c, c->blocks), "encoder.snake1");
    add_conv(b, 2 * c->latent_channels, width(c, c->blocks), 3, 1, 2 * c->latent_channels, "encoder.conv2");
}

static void add_vae_decoder(builder *b, const vae_config *c)
{
    char block[64], name[NAME_SIZE];
    add_conv(b, width(c, c->blocks), c->latent_channels, 7, 1, width(c, c->blocks), "decoder.conv1");
    for (int i = 0; i < c->blocks; i++) {
        int level = c->blocks - i, stride = c->strides[level - 1];
        int64_t in = width(c, level), out = width(c, level - 1);
        snprintf(block, sizeof block, "decoder.block.%d", i);
        snprintf(name, sizeof name, "%s.snake1", block);
        add_snake(b, in, name);
        /* g belongs to an input channel, whose norm is spread over 2 * stride * out weights; an output sums two taps of
         * every input channel */
        snprintf(name, sizeof name, "%s.conv_t1", block);
        add_conv(b, in, out, 2 * stride, 0.8 * sqrt((double)(out * stride) / (double)in), out, name);
        add_residual_units(b, out, block);
    }
    add_snake(b, width(c, 0), "decoder.snake1");
    add_conv(b, c->audio_channels, width(c, 0), 7, 0.1, 0, "decoder.conv2");
}

static void add_vae(builder *b, const ace_checkpoint *c)
{
    add_vae_encoder(b, &c->vae);
    add_vae_decoder(b, &c->vae);
}

/* ---- the checkpoint --------------------------------------------------------------------------------------------- */

/* The published dimensions of the planners: vocabulary, layers, width, and so on (lm.md 1.1). */
static const struct {
    const char *name;
    qwen3_config config;
} planners[] = {
    {"0.6B", {{28, 1024, 3072, 16, 8, 128, 1e-6f, 1e6}, 217204, true}},
    {"1.7B", {{28, 2048, 6144, 16, 8, 128, 1e-6f, 1e6}, 217204, true}},
    {"4B", {{36, 2560, 9728, 32, 8, 128, 1e-6f, 1e6}, 217204, true}},
};

enum { PLANNERS = sizeof planners / sizeof *planners };

/* The DiT of a variant, "2b", and the planner behind a plus sign, -1 for none: false when one is unknown. */
static bool split_variant(const char *variant, bool *xl, int *planner)
{
    const char *plus = strchr(variant, '+');
    size_t n = plus ? (size_t)(plus - variant) : strlen(variant);
    *xl = n == 2 && strncmp(variant, "xl", n) == 0;
    *planner = -1;
    for (int i = 0; plus && i < PLANNERS; i++)
        if (strcmp(plus + 1, planners[i].name) == 0) *planner = i;
    return (*xl || (n == 2 && strncmp(variant, "2b", n) == 0)) && (!plus || *planner >= 0);
}

/* The published dimensions; a config of no keys has those of the 2B model. */
static bool set_dimensions(ace_checkpoint *c, const char *variant, ace_error *error)
{
    static const char xl_json[] = "{\"hidden_size\": 2560, \"intermediate_size\": 9728, \"num_hidden_layers\": 32, "
                                  "\"num_attention_heads\": 32, \"encoder_hidden_size\": 2048, "
                                  "\"encoder_intermediate_size\": 6144, \"encoder_num_attention_heads\": 16, "
                                  "\"encoder_num_key_value_heads\": 8, \"is_turbo\": true}";
    static const char b2_json[] = "{\"is_turbo\": true}";
    bool xl;
    int planner;
    if (!split_variant(variant, &xl, &planner))
        return ace_fail(
            error, ACE_ERROR_USAGE,
            "there is no synthetic checkpoint \"%.40s\": choose 2b or xl, and for a planner add +0.6B, +1.7B "
            "or +4B",
            variant);
    const char *config = xl ? xl_json : b2_json;
    c->has_lm = planner >= 0;
    if (c->has_lm) c->lm = planners[planner].config;
    char name[32];
    snprintf(name, sizeof name, "synthetic-%s-turbo", xl ? "xl" : "2b");
    c->dit_name = ace_strdup(name, error);
    snprintf(name, sizeof name, "synthetic-lm-%s", c->has_lm ? planners[planner].name : "");
    c->lm_name = c->has_lm ? ace_strdup(name, error) : NULL;
    if (!c->has_lm)
        ace_fail(&c->lm_problem, ACE_ERROR_USAGE,
                 "the synthetic checkpoint \"%s\" has no planner: add +0.6B, +1.7B or +4B", variant);
    return c->dit_name && (c->lm_name || !c->has_lm) &&
           dit_config_parse(&c->dit, config, strlen(config), "synthetic", error) &&
           qwen3_config_parse(&c->text_encoder, "{}", 2, "synthetic", error) &&
           vae_config_parse(&c->vae, "{}", 2, "synthetic", error);
}

static ace_part *new_part(ace_tensors *tensors, const char *name, ace_error *error)
{
    ace_part *part = part_new(name, error);
    if (part && part_add(part, tensors, "", error) && part_finish(part, error)) return part;
    part_free(part);
    return NULL;
}

static bool build(ace_checkpoint *c, ace_error *error)
{
    static void (*const adders[ACE_PART_COUNT])(builder *, const ace_checkpoint *) = {add_dit, add_text_encoder,
                                                                                      add_vae, add_lm};
    c->files = ace_calloc(ACE_PART_COUNT, sizeof *c->files, "a checkpoint", error);
    if (!c->files) return false;
    for (int kind = 0; kind < ACE_PART_COUNT; kind++) {
        bool lm = kind == ACE_PART_LM;
        if (lm && !c->has_lm) continue;
        builder b = {tensors_new_synthetic(error), error, true};
        if (!b.tensors) return false;
        if (lm)
            c->lm_tensors = b.tensors;
        else
            c->files[c->file_count++] = b.tensors;
        adders[kind](&b, c);
        c->parts[kind] = b.ok ? new_part(b.tensors, lm ? c->lm_name : c->dit_name, error) : NULL;
        if (!c->parts[kind]) return false;
    }
    c->silence = part_find(c->parts[ACE_PART_DIT], "silence_latent");
    return dit_config_check(&c->dit, c->parts[ACE_PART_DIT], error) &&
           qwen3_config_check(&c->text_encoder, c->parts[ACE_PART_TEXT_ENCODER], error) &&
           vae_config_check_tensors(&c->vae, c->parts[ACE_PART_VAE], error) &&
           (!c->has_lm || qwen3_config_check(&c->lm, c->parts[ACE_PART_LM], error));
}

ace_checkpoint *checkpoint_open_synthetic(const char *variant, ace_error *error)
{
    ace_checkpoint *checkpoint = ace_calloc(1, sizeof *checkpoint, "a checkpoint", error);
    if (!checkpoint) return NULL;
    checkpoint->synthetic = true;
    if (set_dimensions(checkpoint, variant, error) && build(checkpoint, error)) return checkpoint;
    checkpoint_close(checkpoint);
    return NULL;
}
