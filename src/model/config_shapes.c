/* Dimensions from the tensors themselves: where a file has no config, and to see that a config belongs to its file. */
#include "base/error.h"
#include "model/checkpoint.h"
#include "model/config.h"

#include <stdio.h>
#include <string.h>

enum { NAME_SIZE = 160, MODULE_SIZE = 64 };

/* ---- reading shapes -------------------------------------------------------------------------------------------- */

/* Shapes of a part, read one after the other; the first failure is kept. */
typedef struct shapes {
    const ace_part *part;
    ace_error *error;
    bool ok;
} shapes;

static const ace_tensor *find(shapes *s, const char *name)
{
    const ace_tensor *tensor = s->ok ? part_find(s->part, name) : NULL;
    if (s->ok && !tensor)
        s->ok = ace_fail(s->error, ACE_ERROR_MODEL,
                         "'%s': tensor \"%s\" is missing: the file is incomplete or not of this kind of model",
                         part_path(s->part), name);
    return tensor;
}

/* Dimension `dim` of a tensor of `rank`; 0 after a failure. */
static int size_of(shapes *s, const char *name, int rank, int dim)
{
    const ace_tensor *tensor = find(s, name);
    if (!tensor) return 0;
    if (tensor->rank != rank || tensor->shape[dim] < 1 || tensor->shape[dim] > 1 << 24) {
        s->ok = ace_fail(s->error, ACE_ERROR_MODEL,
                         "'%s': tensor \"%s\" has %d dimensions and %lld elements, "
                         "unlike that tensor of any model known",
                         tensor->path, name, tensor->rank, (long long)tensor->count);
        return 0;
    }
    return (int)tensor->shape[dim];
}

/* Elements of a tensor of any rank divided by `by`. */
static int count_of(shapes *s, const char *name, int by)
{
    const ace_tensor *tensor = find(s, name);
    if (!tensor || by < 1) return 0;
    if (tensor->count < 1 || tensor->count > 1 << 24 || tensor->count % by) {
        s->ok = ace_fail(s->error, ACE_ERROR_MODEL, "'%s': tensor \"%s\" has %lld elements, no multiple of %d",
                         tensor->path, name, (long long)tensor->count, by);
        return 0;
    }
    return (int)(tensor->count / by);
}

static void layer_name(char name[NAME_SIZE], const char *prefix, int layer, const char *tensor)
{
    snprintf(name, NAME_SIZE, "%slayers.%d.%s", prefix, layer, tensor);
}

/* Layers of a stack: how many follow each other from 0. */
static int layers_of(shapes *s, const char *prefix, const char *probe)
{
    char name[NAME_SIZE];
    int count = 0;
    for (bool there = s->ok; there && count <= CONFIG_MAX_LAYERS; count += there) {
        layer_name(name, prefix, count, probe);
        there = part_find(s->part, name) != NULL;
    }
    return count;
}

/* A size that must equal what the config says. */
static void expect(shapes *s, const char *key, int64_t wanted, int found, const char *tensor)
{
    if (s->ok && found != wanted)
        s->ok = ace_fail(s->error, ACE_ERROR_MODEL,
                         "'%s': by its config %s is %lld, but by tensor \"%s\" it is %d: the config belongs to another "
                         "model",
                         part_path(s->part), key, (long long)wanted, tensor, found);
}

static void expect_size(shapes *s, const char *key, int64_t wanted, const char *tensor, int rank, int dim)
{
    int found = size_of(s, tensor, rank, dim);
    expect(s, key, wanted, found, tensor);
}

/* ---- stacks ---------------------------------------------------------------------------------------------------- */

/* heads x head_dim and so on from layer 0 of a stack; `attention` is "self_attn". */
static void stack_from_shapes(shapes *s, transformer_config *c, const char *prefix)
{
    char name[NAME_SIZE];
    layer_name(name, prefix, 0, "self_attn.q_norm.weight");
    c->head_dim = count_of(s, name, 1);
    layer_name(name, prefix, 0, "self_attn.q_proj.weight");
    c->hidden = size_of(s, name, 2, 1);
    int rows = size_of(s, name, 2, 0);
    c->heads = c->head_dim ? rows / c->head_dim : 0;
    layer_name(name, prefix, 0, "self_attn.k_proj.weight");
    rows = size_of(s, name, 2, 0);
    c->kv_heads = c->head_dim ? rows / c->head_dim : 0;
    layer_name(name, prefix, 0, "mlp.gate_proj.weight");
    c->intermediate = size_of(s, name, 2, 0);
    c->layers = layers_of(s, prefix, "self_attn.q_proj.weight");
    c->rms_norm_eps = 1e-6f;
    c->rope_theta = 1e6;
}

static void check_stack(shapes *s, const transformer_config *c, int layers, const char *prefix)
{
    char name[NAME_SIZE];
    int found = layers_of(s, prefix, "self_attn.q_proj.weight");
    layer_name(name, prefix, found, "*");
    expect(s, "the number of layers", layers, found, name);
    layer_name(name, prefix, 0, "self_attn.q_proj.weight");
    expect_size(s, "num_attention_heads * head_dim", (int64_t)c->heads * c->head_dim, name, 2, 0);
    expect_size(s, "the hidden size", c->hidden, name, 2, 1);
    layer_name(name, prefix, 0, "self_attn.k_proj.weight");
    expect_size(s, "num_key_value_heads * head_dim", (int64_t)c->kv_heads * c->head_dim, name, 2, 0);
    layer_name(name, prefix, 0, "self_attn.q_norm.weight");
    expect_size(s, "head_dim", c->head_dim, name, 1, 0);
    layer_name(name, prefix, 0, "mlp.gate_proj.weight");
    expect_size(s, "the intermediate size", c->intermediate, name, 2, 0);
}

/* ---- DiT ------------------------------------------------------------------------------------------------------- */

bool dit_config_from_shapes(dit_config *c, const ace_part *part, ace_error *error)
{
    shapes s = {part, error, true};
    transformer_config lyric = {0};
    *c = (dit_config){.sliding_window = 128, .timbre_frames = 750};
    stack_from_shapes(&s, &c->dit, "decoder.");
    stack_from_shapes(&s, &lyric, "encoder.lyric_encoder.");
    c->encoder = lyric;
    c->lyric_layers = lyric.layers;
    c->timbre_layers = layers_of(&s, "encoder.timbre_encoder.", "self_attn.q_proj.weight");
    c->pooler_layers = layers_of(&s, "tokenizer.attention_pooler.", "self_attn.q_proj.weight");
    c->in_channels = size_of(&s, "decoder.proj_in.1.weight", 3, 1);
    c->patch_size = size_of(&s, "decoder.proj_in.1.weight", 3, 2);
    c->latent_channels = count_of(&s, "decoder.proj_out.1.bias", 1);
    c->text_hidden = size_of(&s, "encoder.text_projector.weight", 2, 1);
    c->pool_window = count_of(&s, "detokenizer.special_tokens", c->encoder.hidden);
    c->fsq_dim = size_of(&s, "tokenizer.quantizer.project_in.weight", 2, 1);
    c->fsq_count = size_of(&s, "tokenizer.quantizer.project_in.weight", 2, 0);
    static const int levels[6] = {8, 8, 8, 5, 5, 5};
    memcpy(c->fsq_levels, levels, sizeof levels);
    if (s.ok && c->fsq_count != 6)
        s.ok = ace_fail(error, ACE_ERROR_MODEL,
                        "'%s': its audio codes have %d dimensions, whose levels only a config can tell: put the "
                        "config.json of the model beside it",
                        part_path(part), c->fsq_count);
    for (int i = 0; i < CONFIG_MAX_LAYERS; i++) c->sliding[i] = i % 2 == 0;
    c->timbre_token = c->encoder.hidden != c->dit.hidden;
    return s.ok && dit_config_valid(c, part_path(part), error);
}

bool dit_config_check(const dit_config *c, const ace_part *part, ace_error *error)
{
    shapes s = {part, error, true};
    check_stack(&s, &c->dit, c->dit.layers, "decoder.");
    check_stack(&s, &c->encoder, c->lyric_layers, "encoder.lyric_encoder.");
    check_stack(&s, &c->encoder, c->timbre_layers, "encoder.timbre_encoder.");
    check_stack(&s, &c->encoder, c->pooler_layers, "tokenizer.attention_pooler.");
    check_stack(&s, &c->encoder, c->pooler_layers, "detokenizer.");
    expect_size(&s, "in_channels", c->in_channels, "decoder.proj_in.1.weight", 3, 1);
    expect_size(&s, "patch_size", c->patch_size, "decoder.proj_in.1.weight", 3, 2);
    expect_size(&s, "audio_acoustic_hidden_dim", c->latent_channels, "decoder.proj_out.1.weight", 3, 1);
    expect_size(&s, "encoder_hidden_size", c->encoder.hidden, "decoder.condition_embedder.weight", 2, 1);
    expect_size(&s, "text_hidden_dim", c->text_hidden, "encoder.text_projector.weight", 2, 1);
    expect_size(&s, "audio_acoustic_hidden_dim", c->latent_channels, "encoder.timbre_encoder.embed_tokens.weight", 2,
                1);
    expect_size(&s, "the number of fsq_input_levels", c->fsq_count, "tokenizer.quantizer.project_in.weight", 2, 0);
    expect_size(&s, "fsq_dim", c->fsq_dim, "tokenizer.quantizer.project_in.weight", 2, 1);
    expect(&s, "pool_window_size", c->pool_window, count_of(&s, "detokenizer.special_tokens", c->encoder.hidden),
           "detokenizer.special_tokens");
    return s.ok;
}

/* ---- Qwen3 ----------------------------------------------------------------------------------------------------- */

bool qwen3_config_from_shapes(qwen3_config *c, const ace_part *part, ace_error *error)
{
    shapes s = {part, error, true};
    *c = (qwen3_config){.tied_head = part_find(part, "lm_head.weight") == NULL};
    stack_from_shapes(&s, &c->stack, "");
    c->vocab_size = size_of(&s, "embed_tokens.weight", 2, 0);
    return s.ok && qwen3_config_valid(c, part_path(part), error);
}

bool qwen3_config_check(qwen3_config *c, const ace_part *part, ace_error *error)
{
    shapes s = {part, error, true};
    check_stack(&s, &c->stack, c->stack.layers, "");
    expect_size(&s, "hidden_size", c->stack.hidden, "embed_tokens.weight", 2, 1);
    c->vocab_size = size_of(&s, "embed_tokens.weight", 2, 0);
    return s.ok && qwen3_config_valid(c, part_path(part), error);
}

/* ---- VAE ------------------------------------------------------------------------------------------------------- */

/* The name of a convolution's kernel, which torch stores in three ways (vae-audio.md 2). */
static void kernel_name(const ace_part *part, const char *module, char name[NAME_SIZE])
{
    static const char *const suffixes[] = {"weight", "parametrizations.weight.original1", "weight_v"};
    for (int i = 0; i < 3; i++) {
        snprintf(name, NAME_SIZE, "%s.%s", module, suffixes[i]);
        if (part_find(part, name)) return;
    }
}

static int kernel_size(shapes *s, const char *module, int dim)
{
    char name[NAME_SIZE];
    kernel_name(s->part, module, name);
    return size_of(s, name, 3, dim);
}

static int decoder_blocks(const ace_part *part)
{
    char name[NAME_SIZE];
    int count = 0;
    for (bool there = true; there && count <= CONFIG_MAX_VAE_BLOCKS; count += there) {
        snprintf(name, sizeof name, "decoder.block.%d.conv_t1.bias", count);
        there = part_find(part, name) != NULL;
    }
    return count;
}

bool vae_config_from_shapes(vae_config *c, const ace_part *part, ace_error *error)
{
    shapes s = {part, error, true};
    *c = (vae_config){.sample_rate = 48000, .blocks = decoder_blocks(part)};
    c->audio_channels = kernel_size(&s, "decoder.conv2", 0);
    c->hidden = kernel_size(&s, "decoder.conv2", 1);
    c->latent_channels = kernel_size(&s, "decoder.conv1", 1);
    for (int i = 0; s.ok && i < c->blocks && i < CONFIG_MAX_VAE_BLOCKS; i++) {
        char module[MODULE_SIZE];
        int block = c->blocks - 1 - i;
        snprintf(module, sizeof module, "decoder.block.%d.conv_t1", block);
        int kernel = kernel_size(&s, module, 2), width = kernel_size(&s, module, 0);
        if (s.ok && kernel % 2 != 0)
            s.ok = ace_fail(error, ACE_ERROR_MODEL, "'%s': the kernel of %s is %d long, not twice a stride",
                            part_path(part), module, kernel);
        c->strides[i] = kernel / 2;
        if (s.ok && width % c->hidden != 0)
            s.ok = ace_fail(error, ACE_ERROR_MODEL, "'%s': block %d of the decoder is %d wide, no multiple of %d",
                            part_path(part), block, width, c->hidden);
        c->multiples[i] = s.ok ? width / c->hidden : 0;
    }
    return s.ok && vae_config_valid(c, part_path(part), error);
}

static void expect_kernel(shapes *s, const char *key, int64_t wanted, const char *module, int dim)
{
    char name[NAME_SIZE];
    kernel_name(s->part, module, name);
    expect_size(s, key, wanted, name, 3, dim);
}

bool vae_config_check_tensors(const vae_config *c, const ace_part *part, ace_error *error)
{
    shapes s = {part, error, true};
    expect(&s, "the number of downsampling_ratios", c->blocks, decoder_blocks(part), "decoder.block.*.conv_t1.bias");
    expect_kernel(&s, "audio_channels", c->audio_channels, "decoder.conv2", 0);
    expect_kernel(&s, "decoder_channels", c->hidden, "decoder.conv2", 1);
    expect_kernel(&s, "decoder_input_channels", c->latent_channels, "decoder.conv1", 1);
    for (int i = 0; s.ok && i < c->blocks; i++) {
        char module[MODULE_SIZE];
        snprintf(module, sizeof module, "decoder.block.%d.conv_t1", c->blocks - 1 - i);
        expect_kernel(&s, "twice a downsampling_ratio", 2 * c->strides[i], module, 2);
        expect_kernel(&s, "decoder_channels * channel_multiple", (int64_t)c->hidden * c->multiples[i], module, 0);
    }
    return s.ok;
}
