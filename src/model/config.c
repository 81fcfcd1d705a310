#include "model/config.h"

#include "base/error.h"
#include "formats/json.h"

#include <stdio.h>
#include <string.h>

enum { CONFIG_DEPTH = 32 };

/* ---- ranges -------------------------------------------------------------------------------------------------- */

/* One number of a config and the values that make sense for it: wide enough for any model to come, narrow enough that
 * no product of two of them overflows. */
typedef struct range {
    const char *key;
    int64_t value, min, max;
} range;

static bool check_ranges(const range *ranges, size_t count, const char *where, ace_error *error)
{
    for (size_t i = 0; i < count; i++)
        if (ranges[i].value < ranges[i].min || ranges[i].value > ranges[i].max)
            return ace_fail(error, ACE_ERROR_MODEL, "%s: %s is %lld, but must lie in %lld to %lld", where,
                            ranges[i].key, (long long)ranges[i].value, (long long)ranges[i].min,
                            (long long)ranges[i].max);
    return true;
}

#define CHECK_RANGES(ranges, where, error) check_ranges(ranges, sizeof ranges / sizeof *ranges, where, error)

static bool stack_valid(const transformer_config *c, const char *prefix, const char *where, ace_error *error)
{
    char what[512];
    snprintf(what, sizeof what, "%s%s%s", where, *prefix ? ", " : "", prefix);
    const range ranges[] = {
        {"num_hidden_layers", c->layers, 1, CONFIG_MAX_LAYERS}, {"hidden_size", c->hidden, 1, 65536},
        {"intermediate_size", c->intermediate, 1, 262144},      {"num_attention_heads", c->heads, 1, 1024},
        {"num_key_value_heads", c->kv_heads, 1, 1024},          {"head_dim", c->head_dim, 2, 1024},
    };
    if (!CHECK_RANGES(ranges, what, error)) return false;
    if (c->heads % c->kv_heads != 0)
        return ace_fail(error, ACE_ERROR_MODEL, "%s: %d attention heads cannot share %d key-value heads evenly", what,
                        c->heads, c->kv_heads);
    if (c->head_dim % 2 != 0)
        return ace_fail(error, ACE_ERROR_MODEL, "%s: head_dim %d is odd, but rotary positions need pairs", what,
                        c->head_dim);
    if (!(c->rms_norm_eps > 0 && c->rms_norm_eps <= 0.01f))
        return ace_fail(error, ACE_ERROR_MODEL, "%s: rms_norm_eps is %g, but must lie in 0 to 0.01", what,
                        (double)c->rms_norm_eps);
    if (!(c->rope_theta >= 1 && c->rope_theta <= 1e12))
        return ace_fail(error, ACE_ERROR_MODEL, "%s: rope_theta is %g, but must lie in 1 to 1e12", what, c->rope_theta);
    return true;
}

bool dit_config_valid(const dit_config *c, const char *where, ace_error *error)
{
    if (!stack_valid(&c->dit, "", where, error) || !stack_valid(&c->encoder, "encoder", where, error)) return false;
    const range ranges[] = {
        {"num_lyric_encoder_hidden_layers", c->lyric_layers, 1, CONFIG_MAX_LAYERS},
        {"num_timbre_encoder_hidden_layers", c->timbre_layers, 1, CONFIG_MAX_LAYERS},
        {"num_attention_pooler_hidden_layers", c->pooler_layers, 1, CONFIG_MAX_LAYERS},
        {"audio_acoustic_hidden_dim", c->latent_channels, 1, 4096},
        {"patch_size", c->patch_size, 1, 16},
        {"text_hidden_dim", c->text_hidden, 1, 65536},
        {"sliding_window", c->sliding_window, 1, 1 << 20},
        {"timbre_fix_frame", c->timbre_frames, 1, 15000},
        {"pool_window_size", c->pool_window, 1, 64},
        {"fsq_dim", c->fsq_dim, 1, 65536},
        {"the number of fsq_input_levels", c->fsq_count, 1, CONFIG_MAX_FSQ},
    };
    if (!CHECK_RANGES(ranges, where, error)) return false;
    if (c->in_channels != 3 * c->latent_channels)
        return ace_fail(error, ACE_ERROR_MODEL,
                        "%s: in_channels is %d, but source, mask and noisy latents of %d channels make %d", where,
                        c->in_channels, c->latent_channels, 3 * c->latent_channels);
    int64_t codes = 1;
    for (int i = 0; i < c->fsq_count; i++) {
        if (c->fsq_levels[i] < 2 || c->fsq_levels[i] > 65535 || (codes *= c->fsq_levels[i]) > 1 << 30)
            return ace_fail(error, ACE_ERROR_MODEL,
                            "%s: fsq_input_levels must be 2 to 65535 each and make at most 2^30 codes, but number %d "
                            "is %d",
                            where, i, c->fsq_levels[i]);
    }
    return true;
}

bool qwen3_config_valid(const qwen3_config *c, const char *where, ace_error *error)
{
    const range ranges[] = {{"vocab_size", c->vocab_size, 1, 1 << 24}};
    return stack_valid(&c->stack, "", where, error) && CHECK_RANGES(ranges, where, error);
}

bool vae_config_valid(const vae_config *c, const char *where, ace_error *error)
{
    const range ranges[] = {
        {"audio_channels", c->audio_channels, 1, 8},
        {"decoder_input_channels", c->latent_channels, 1, 4096},
        {"decoder_channels", c->hidden, 1, 4096},
        {"the number of downsampling_ratios", c->blocks, 1, CONFIG_MAX_VAE_BLOCKS},
        {"sampling_rate", c->sample_rate, 8000, 192000},
    };
    if (!CHECK_RANGES(ranges, where, error)) return false;
    int64_t hop = 1;
    for (int i = 0; i < c->blocks; i++) {
        const range block[] = {{"a channel_multiple", c->multiples[i], 1, 256},
                               {"a downsampling_ratio", c->strides[i], 2, 64}};
        if (!CHECK_RANGES(block, where, error)) return false;
        if (c->strides[i] % 2 != 0)
            return ace_fail(error, ACE_ERROR_MODEL, "%s: the downsampling ratio %d is odd, which is not supported",
                            where, c->strides[i]);
        hop *= c->strides[i];
    }
    if (hop > 1 << 20)
        return ace_fail(error, ACE_ERROR_MODEL, "%s: the downsampling ratios multiply to %lld samples a frame", where,
                        (long long)hop);
    return true;
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

/* A JSON object that is read key by key; after the first failure nothing more is read. */
typedef struct reader {
    const json_t *root;
    const char *where;
    ace_error *error;
    bool ok;
} reader;

static void read_int(reader *r, const char *key, int *value)
{
    int64_t number = *value;
    r->ok = r->ok && json_get_int(r->root, r->where, key, INT32_MIN, INT32_MAX, &number, r->error);
    *value = (int)number;
}

/* A number in single precision; range-checked later, so that only what float cannot hold is refused here. */
static void read_float(reader *r, const char *key, float *value)
{
    double number = (double)*value;
    r->ok = r->ok && json_get_number(r->root, r->where, key, -1e30, 1e30, &number, r->error);
    *value = (float)number;
}

static bool read_bool(reader *r, const char *key, bool fallback)
{
    bool value = fallback;
    r->ok = r->ok && json_get_bool(r->root, r->where, key, &value, r->error);
    return value;
}

static const char *read_string(reader *r, const char *key)
{
    const char *value = NULL;
    r->ok = r->ok && json_get_string(r->root, r->where, key, &value, r->error);
    return value;
}

/* An array of at most `max` integers; *count is what it was when the key is absent. */
static void read_ints(reader *r, const char *key, int *values, int max, int *count)
{
    const json_t *array = NULL;
    r->ok = r->ok && json_get_array(r->root, r->where, key, &array, r->error);
    if (!r->ok || !array) return;
    size_t n = json_array_size(array);
    r->ok = n >= 1 && n <= (size_t)max;
    for (size_t i = 0; r->ok && i < n; i++) {
        const json_t *value = json_array_get(array, i);
        int64_t number = json_is_integer(value) ? json_integer_value(value) : -1;
        r->ok = number >= 0 && number <= INT32_MAX;
        if (r->ok) values[i] = (int)number;
    }
    if (!r->ok)
        ace_fail(r->error, ACE_ERROR_FORMAT, "%s: \"%s\" must be an array of 1 to %d positive integers", r->where, key,
                 max);
    *count = (int)n;
}

/* A value that this program supports only as `wanted`. */
static void require_string(reader *r, const char *key, const char *wanted)
{
    const char *value = read_string(r, key);
    if (r->ok && value && strcmp(value, wanted) != 0)
        r->ok = ace_fail(r->error, ACE_ERROR_MODEL, "%s: %s is \"%s\", but only \"%s\" is supported", r->where, key,
                         value, wanted);
}

static void require_false(reader *r, const char *key)
{
    if (read_bool(r, key, false) && r->ok)
        r->ok = ace_fail(r->error, ACE_ERROR_MODEL, "%s: %s is true, which is not supported", r->where, key);
}

/* rope_theta is at the top, or, in files of newer writers, in rope_parameters or rope_scaling, which may also ask for a
 * scaling that we do not compute. */
static void read_rope(reader *r, double *theta)
{
    static const char *const objects[] = {"rope_scaling", "rope_parameters"};
    static const char *const types[] = {"rope_type", "type"};
    r->ok = r->ok && json_get_number(r->root, r->where, "rope_theta", -1e30, 1e30, theta, r->error);
    for (int i = 0; i < 2; i++) {
        reader inner = *r;
        inner.root = NULL;
        inner.ok = r->ok && json_get_object(r->root, r->where, objects[i], &inner.root, r->error);
        for (int k = 0; k < 2 && inner.root; k++) require_string(&inner, types[k], "default");
        if (inner.ok && inner.root)
            inner.ok = json_get_number(inner.root, r->where, "rope_theta", -1e30, 1e30, theta, r->error);
        r->ok = inner.ok;
    }
}

static bool begin(reader *r, const char *json, size_t n, const char *where, ace_error *error)
{
    json_t *root = json_parse(json, n, CONFIG_DEPTH, where, error);
    if (root && !json_is_object(root)) {
        ace_fail(error, ACE_ERROR_FORMAT, "%s: a config must be a JSON object", where);
        json_decref(root);
        root = NULL;
    }
    *r = (reader){root, where, error, root != NULL};
    return r->ok;
}

static bool end(reader *r)
{
    json_decref((json_t *)(uintptr_t)r->root);
    return r->ok;
}

static void read_stack(reader *r, transformer_config *c)
{
    read_int(r, "num_hidden_layers", &c->layers);
    read_int(r, "hidden_size", &c->hidden);
    read_int(r, "intermediate_size", &c->intermediate);
    read_int(r, "num_attention_heads", &c->heads);
    read_int(r, "num_key_value_heads", &c->kv_heads);
    read_int(r, "head_dim", &c->head_dim);
    read_float(r, "rms_norm_eps", &c->rms_norm_eps);
    read_rope(r, &c->rope_theta);
    require_false(r, "attention_bias");
    require_string(r, "hidden_act", "silu");
}

/* ---- DiT ------------------------------------------------------------------------------------------------------- */

static void read_layer_types(reader *r, dit_config *c)
{
    const json_t *types = NULL;
    for (int i = 0; i < CONFIG_MAX_LAYERS; i++) c->sliding[i] = i % 2 == 0;
    r->ok = r->ok && json_get_array(r->root, r->where, "layer_types", &types, r->error);
    if (!r->ok || !types) return;
    if (json_array_size(types) != (size_t)c->dit.layers) {
        r->ok = ace_fail(r->error, ACE_ERROR_MODEL, "%s: layer_types has %zu entries, but num_hidden_layers is %d",
                         r->where, json_array_size(types), c->dit.layers);
        return;
    }
    int deepest = c->lyric_layers > c->timbre_layers ? c->lyric_layers : c->timbre_layers;
    if (c->pooler_layers > deepest) deepest = c->pooler_layers;
    if (deepest > c->dit.layers) {
        r->ok = ace_fail(r->error, ACE_ERROR_MODEL, "%s: layer_types has %d entries, but an encoder has %d layers",
                         r->where, c->dit.layers, deepest);
        return;
    }
    for (int i = 0; r->ok && i < c->dit.layers && i < CONFIG_MAX_LAYERS; i++) {
        const char *type = json_string_value(json_array_get(types, (size_t)i));
        c->sliding[i] = type && strcmp(type, "sliding_attention") == 0;
        if (!c->sliding[i] && (!type || strcmp(type, "full_attention") != 0))
            r->ok = ace_fail(r->error, ACE_ERROR_MODEL,
                             "%s: entry %d of layer_types is neither \"sliding_attention\" nor \"full_attention\"",
                             r->where, i);
    }
}

int config_recipe_of_name(const char *name)
{
    if (!name) return -1;
    if (strstr(name, "turbo")) return 1;
    return strstr(name, "base") || strstr(name, "sft") ? 0 : -1;
}

/* Whether the model is a turbo one: is_turbo says so, or in its absence the version or the name of its code. */
static void read_recipe(reader *r, dit_config *c)
{
    const char *version = read_string(r, "model_version"), *code = NULL;
    const json_t *map = NULL;
    c->turbo_known = json_has(r->root, "is_turbo");
    c->is_turbo = read_bool(r, "is_turbo", false);
    if (r->ok) r->ok = json_get_object(r->root, r->where, "auto_map", &map, r->error);
    if (r->ok && map) r->ok = json_get_string(map, r->where, "AutoModel", &code, r->error);
    int recipe = config_recipe_of_name(version);
    if (recipe < 0) recipe = config_recipe_of_name(code);
    if (c->turbo_known || recipe < 0) return;
    c->turbo_known = true;
    c->is_turbo = recipe == 1;
}

/* The values of the 2B checkpoint, which are also the defaults of the official configuration class. */
static const dit_config dit_defaults = {
    .dit = {24, 2048, 6144, 16, 8, 128, 1e-6f, 1e6},
    .lyric_layers = 8,
    .timbre_layers = 4,
    .pooler_layers = 2,
    .latent_channels = 64,
    .in_channels = 192,
    .patch_size = 2,
    .text_hidden = 1024,
    .sliding_window = 128,
    .timbre_frames = 750,
    .pool_window = 5,
    .fsq_dim = 2048,
    .fsq_levels = {8, 8, 8, 5, 5, 5},
    .fsq_count = 6,
};

bool dit_config_parse(dit_config *c, const char *json, size_t n, const char *where, ace_error *error)
{
    reader r;
    *c = dit_defaults;
    if (!begin(&r, json, n, where, error)) return false;
    read_stack(&r, &c->dit);
    c->encoder = c->dit;
    read_int(&r, "encoder_hidden_size", &c->encoder.hidden);
    read_int(&r, "encoder_intermediate_size", &c->encoder.intermediate);
    read_int(&r, "encoder_num_attention_heads", &c->encoder.heads);
    read_int(&r, "encoder_num_key_value_heads", &c->encoder.kv_heads);
    read_int(&r, "num_lyric_encoder_hidden_layers", &c->lyric_layers);
    read_int(&r, "num_timbre_encoder_hidden_layers", &c->timbre_layers);
    read_int(&r, "num_attention_pooler_hidden_layers", &c->pooler_layers);
    read_int(&r, "audio_acoustic_hidden_dim", &c->latent_channels);
    read_int(&r, "in_channels", &c->in_channels);
    read_int(&r, "patch_size", &c->patch_size);
    read_int(&r, "text_hidden_dim", &c->text_hidden);
    read_int(&r, "sliding_window", &c->sliding_window);
    read_int(&r, "timbre_fix_frame", &c->timbre_frames);
    read_int(&r, "pool_window_size", &c->pool_window);
    read_int(&r, "fsq_dim", &c->fsq_dim);
    read_ints(&r, "fsq_input_levels", c->fsq_levels, CONFIG_MAX_FSQ, &c->fsq_count);
    c->encoder.layers = c->lyric_layers;
    read_layer_types(&r, c);
    read_recipe(&r, c);
    if (!read_bool(&r, "use_sliding_window", true)) memset(c->sliding, 0, sizeof c->sliding);
    int timbre_channels = c->latent_channels, quantizers = 1;
    read_int(&r, "timbre_hidden_dim", &timbre_channels);
    read_int(&r, "fsq_input_num_quantizers", &quantizers);
    if (r.ok && (timbre_channels != c->latent_channels || quantizers != 1))
        r.ok = ace_fail(error, ACE_ERROR_MODEL,
                        "%s: timbre_hidden_dim %d must equal audio_acoustic_hidden_dim %d, and "
                        "fsq_input_num_quantizers %d must be 1",
                        where, timbre_channels, c->latent_channels, quantizers);
    c->timbre_token = c->encoder.hidden != c->dit.hidden;
    return end(&r) && dit_config_valid(c, where, error);
}

/* ---- Qwen3 ----------------------------------------------------------------------------------------------------- */

bool qwen3_config_parse(qwen3_config *c, const char *json, size_t n, const char *where, ace_error *error)
{
    reader r;
    *c = (qwen3_config){.stack = {28, 1024, 3072, 16, 8, 128, 1e-6f, 1e6}, .vocab_size = 151669};
    if (!begin(&r, json, n, where, error)) return false;
    read_stack(&r, &c->stack);
    read_int(&r, "vocab_size", &c->vocab_size);
    c->tied_head = read_bool(&r, "tie_word_embeddings", true);
    require_false(&r, "use_sliding_window");
    return end(&r) && qwen3_config_valid(c, where, error);
}

/* ---- VAE ------------------------------------------------------------------------------------------------------- */

bool vae_config_parse(vae_config *c, const char *json, size_t n, const char *where, ace_error *error)
{
    reader r;
    *c = (vae_config){2, 64, 128, 5, {1, 2, 4, 8, 16}, {2, 4, 4, 6, 10}, 48000};
    if (!begin(&r, json, n, where, error)) return false;
    require_string(&r, "_class_name", "AutoencoderOobleck");
    read_int(&r, "audio_channels", &c->audio_channels);
    read_int(&r, "decoder_input_channels", &c->latent_channels);
    read_int(&r, "decoder_channels", &c->hidden);
    read_int(&r, "sampling_rate", &c->sample_rate);
    int encoder_hidden = c->hidden, multiples = c->blocks;
    read_int(&r, "encoder_hidden_size", &encoder_hidden);
    read_ints(&r, "downsampling_ratios", c->strides, CONFIG_MAX_VAE_BLOCKS, &c->blocks);
    read_ints(&r, "channel_multiples", c->multiples, CONFIG_MAX_VAE_BLOCKS, &multiples);
    if (r.ok && (encoder_hidden != c->hidden || multiples != c->blocks))
        r.ok = ace_fail(error, ACE_ERROR_MODEL,
                        "%s: encoder_hidden_size %d must equal decoder_channels %d, and the %d channel_multiples must "
                        "be as many as the %d downsampling_ratios",
                        where, encoder_hidden, c->hidden, multiples, c->blocks);
    return end(&r) && vae_config_valid(c, where, error);
}
