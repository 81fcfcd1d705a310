/* gguf.c - the files that acestep.cpp's converter makes of a checkpoint (dit.md 1.8): GGUF version 3, all tensors BF16
 * except the silence latent, the config as keys and as its whole JSON, the tokenizer's tokens and merges.
 *
 * The format (ggml, docs/gguf.md), little-endian: "GGUF", version, counts of tensors and keys; the keys; name,
 * dimensions (fastest first), type and offset of each tensor; the data, each tensor at a multiple of 32. */
#include "tiny.h"

#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>

enum { U32 = 4, I32 = 5, F32 = 6, BOOL = 7, STRING = 8, ARRAY = 9 }; /* types of values */
enum { TENSOR_F32 = 0, TENSOR_Q8_0 = 8, TENSOR_Q4_K = 12, TENSOR_Q5_K = 13, TENSOR_Q6_K = 14, TENSOR_BF16 = 30 };
enum { ALIGNMENT = 32 };

typedef struct writer {
    ace_text keys, infos, data;
    uint64_t key_count, tensor_count;
    const char *architecture;
} writer;

static void put(ace_text *out, int bytes, uint64_t value)
{
    char little[8];
    for (int b = 0; b < bytes; b++) little[b] = (char)(uint8_t)(value >> (8 * b));
    ace_text_bytes(out, little, (size_t)bytes);
}

static void put_float(ace_text *out, float value)
{
    uint32_t word;
    memcpy(&word, &value, 4);
    put(out, 4, word);
}

static void put_string(ace_text *out, const char *bytes, size_t length)
{
    put(out, 8, length);
    ace_text_bytes(out, bytes, length);
}

static void align(ace_text *out)
{
    while (!out->failed && out->length % ALIGNMENT != 0) put(out, 1, 0);
}

/* ---- keys ---- */

/* A key and the type of its value, which the caller puts next. "%" in `key` stands for the architecture. */
static void key(writer *w, const char *name, uint32_t type)
{
    char full[96];
    if (name[0] == '%') {
        snprintf(full, sizeof full, "%s%s", w->architecture, name + 1);
    } else {
        snprintf(full, sizeof full, "%s", name);
    }
    put_string(&w->keys, full, strlen(full));
    put(&w->keys, 4, type);
    w->key_count++;
}

static void key_string(writer *w, const char *name, const char *value)
{
    key(w, name, STRING);
    put_string(&w->keys, value, strlen(value));
}

static void key_number(writer *w, const char *name, int value)
{
    key(w, name, U32);
    put(&w->keys, 4, (uint64_t)value);
}

static void key_float(writer *w, const char *name, float value)
{
    key(w, name, F32);
    put_float(&w->keys, value);
}

static void begin(writer *w, const char *architecture, const char *name)
{
    w->architecture = architecture;
    key_string(w, "general.architecture", architecture);
    key_string(w, "general.name", name);
}

static void key_stack(writer *w, const tiny_stack *stack, int vocab_size)
{
    key_number(w, "%.block_count", stack->layers);
    key_number(w, "%.embedding_length", stack->hidden);
    key_number(w, "%.feed_forward_length", stack->intermediate);
    key_number(w, "%.attention.head_count", stack->heads);
    key_number(w, "%.attention.head_count_kv", stack->kv_heads);
    key_number(w, "%.attention.key_length", stack->head_dim);
    key_number(w, "%.vocab_size", vocab_size);
    key_number(w, "%.context_length", 32768);
    key_float(w, "%.attention.layer_norm_rms_epsilon", 1e-6f);
    key_float(w, "%.rope.freq_base", 1e6f);
}

static void key_config(writer *w, ace_text *json)
{
    key_string(w, "acestep.config_json", json->data == NULL ? "" : json->data);
    w->keys.failed |= json->failed;
    ace_text_free(json);
}

static void key_dit(writer *w, const tiny_dit_shape *shape)
{
    static const int levels[] = {8, 8, 8, 5, 5, 5};
    key_stack(w, &shape->dit, 64003);
    key_number(w, "acestep.in_channels", TINY_IN_CHANNELS);
    key_number(w, "acestep.audio_acoustic_hidden_dim", TINY_LATENT_CHANNELS);
    key_number(w, "acestep.patch_size", TINY_PATCH);
    key_number(w, "acestep.sliding_window", TINY_WINDOW);
    key_number(w, "acestep.fsq_dim", shape->encoder.hidden);
    key_number(w, "acestep.text_hidden_dim", TINY_TEXT_HIDDEN);
    key_number(w, "acestep.timbre_hidden_dim", TINY_LATENT_CHANNELS);
    key_number(w, "acestep.num_lyric_encoder_hidden_layers", TINY_LYRIC_LAYERS);
    key_number(w, "acestep.num_timbre_encoder_hidden_layers", TINY_TIMBRE_LAYERS);
    key_number(w, "acestep.num_audio_decoder_hidden_layers", shape->dit.layers);
    key_number(w, "acestep.num_attention_pooler_hidden_layers", TINY_POOLER_LAYERS);
    if (shape->xl) {
        key_number(w, "acestep.encoder_hidden_size", shape->encoder.hidden);
        key_number(w, "acestep.encoder_intermediate_size", shape->encoder.intermediate);
        key_number(w, "acestep.encoder_num_attention_heads", shape->encoder.heads);
        key_number(w, "acestep.encoder_num_key_value_heads", shape->encoder.kv_heads);
    }
    if (shape->turbo) {
        key(w, "acestep.is_turbo", BOOL);
        put(&w->keys, 1, 1);
    }
    key(w, "acestep.fsq_input_levels", ARRAY);
    put(&w->keys, 4, I32);
    put(&w->keys, 8, sizeof levels / sizeof *levels);
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) put(&w->keys, 4, (uint64_t)levels[i]);
}

/* The array of `count` strings that `string` appends to an empty text. */
static void key_strings(writer *w, const char *name, const tiny_bpe *bpe, int count,
                        void (*string)(ace_text *out, const tiny_bpe *bpe, int i))
{
    key(w, name, ARRAY);
    put(&w->keys, 4, STRING);
    put(&w->keys, 8, (uint64_t)count);
    for (int i = 0; i < count; i++) {
        ace_text text = {0};
        string(&text, bpe, i);
        w->keys.failed |= text.failed;
        if (!text.failed) put_string(&w->keys, text.data, text.length);
        ace_text_free(&text);
    }
}

/* ---- tensors ---- */

static void info(writer *w, const char *name, int rank, const int64_t *shape, uint32_t type)
{
    align(&w->data);
    put_string(&w->infos, name, strlen(name));
    put(&w->infos, 4, (uint64_t)rank);
    for (int d = rank - 1; d >= 0; d--) put(&w->infos, 8, (uint64_t)shape[d]);
    put(&w->infos, 4, type);
    put(&w->infos, 8, w->data.length);
    w->tensor_count++;
}

static uint32_t number_of(ace_dtype dtype)
{
    switch (dtype) {
    case ACE_Q8_0:
        return TENSOR_Q8_0;
    case ACE_Q4_K:
        return TENSOR_Q4_K;
    case ACE_Q5_K:
        return TENSOR_Q5_K;
    case ACE_Q6_K:
        return TENSOR_Q6_K;
    default:
        return TENSOR_BF16;
    }
}

static ace_dtype always_bf16(const tiny_tensor *tensor)
{
    (void)tensor;
    return ACE_BF16;
}

/* The embedding is never in blocks of less than eight bits, and here in none. */
static ace_dtype q8_0(const tiny_tensor *tensor)
{
    bool table = strcmp(tensor->name, "embed_tokens.weight") == 0;
    return tensor->rank == 2 && !table && tensor->shape[1] % 32 == 0 ? ACE_Q8_0 : ACE_BF16;
}

/* A type for each layer of the DiT; v_proj and down_proj of every other one are finer (dit.md 1.8). */
static ace_dtype mixed_blocks(const tiny_tensor *tensor)
{
    static const ace_dtype types[] = {ACE_Q8_0, ACE_Q4_K, ACE_Q5_K, ACE_Q4_K};
    int layer;
    bool in_layer = sscanf(tensor->name, "decoder.layers.%d.", &layer) == 1;
    if (!in_layer || tensor->rank != 2) return q8_0(tensor);
    bool finer = strstr(tensor->name, "v_proj") != NULL || strstr(tensor->name, "down_proj") != NULL;
    return finer && layer % 2 == 1 ? ACE_Q6_K : types[layer % 4];
}

static void add_model(writer *w, tiny_model *model, ace_dtype (*type)(const tiny_tensor *tensor), ace_error *error)
{
    w->data.failed |= model->failed;
    for (size_t i = 0; i < model->count && !w->data.failed; i++) {
        const tiny_tensor *tensor = &model->tensors[i];
        size_t bytes;
        ace_dtype dtype = type(tensor);
        uint8_t *values = dtype == ACE_BF16 ? tiny_values(tensor, ACE_BF16, &bytes, error)
                                            : tiny_blocks(tensor, dtype, &bytes, error);
        info(w, tensor->name, tensor->rank, tensor->shape, number_of(dtype));
        if (values != NULL) ace_text_bytes(&w->data, (const char *)values, bytes);
        w->data.failed |= values == NULL;
        free(values);
    }
    tiny_model_free(model);
}

/* Frame by frame, unlike silence_latent.pt. */
static void add_silence(writer *w)
{
    info(w, "silence_latent", 2, (int64_t[]){TINY_SILENCE_FRAMES, TINY_LATENT_CHANNELS}, TENSOR_F32);
    for (int t = 0; t < TINY_SILENCE_FRAMES; t++)
        for (int c = 0; c < TINY_LATENT_CHANNELS; c++) put_float(&w->data, tiny_silence(c, t));
}

static bool finish(writer *w, const char *directory, const char *stem, const char *type, ace_error *error)
{
    char name[80];
    ace_text file = {.failed = w->keys.failed || w->infos.failed || w->data.failed};
    ace_text_add(&file, "GGUF");
    put(&file, 4, 3);
    put(&file, 8, w->tensor_count);
    put(&file, 8, w->key_count);
    if (!file.failed) {
        ace_text_bytes(&file, w->keys.data, w->keys.length);
        ace_text_bytes(&file, w->infos.data, w->infos.length);
        align(&file);
        ace_text_bytes(&file, w->data.data, w->data.length);
    }
    ace_text_free(&w->keys);
    ace_text_free(&w->infos);
    ace_text_free(&w->data);
    snprintf(name, sizeof name, "%s-%s.gguf", stem, type);
    return tiny_write_text(directory, name, &file, error);
}

/* ---- the files ---- */

static bool write_dit(const char *directory, const tiny_dit_shape *shape, const char *type,
                      ace_dtype (*types)(const tiny_tensor *tensor), ace_error *error)
{
    writer w = {0};
    tiny_model model = {0};
    ace_text config = {0};
    begin(&w, "acestep-dit", shape->directory);
    key_dit(&w, shape);
    tiny_dit_config(&config, shape);
    key_config(&w, &config);
    tiny_dit_tensors(&model, shape);
    add_model(&w, &model, types, error);
    add_silence(&w);
    return finish(&w, directory, shape->directory, type, error);
}

bool tiny_write_gguf_dit(const char *directory, const tiny_dit_shape *shape, ace_error *error)
{
    return write_dit(directory, shape, "BF16", always_bf16, error);
}

bool tiny_write_gguf_dit_blocks(const char *directory, const tiny_dit_shape *shape, ace_error *error)
{
    return write_dit(directory, shape, "Q4_K_M", mixed_blocks, error);
}

/* The vocabulary without added tokens and audio codes, which the converter leaves out. */
static void key_tokenizer(writer *w, const tiny_bpe *bpe)
{
    key_string(w, "tokenizer.ggml.model", "gpt2");
    key_strings(w, "tokenizer.ggml.tokens", bpe, tiny_bpe_token_count(bpe), tiny_bpe_token);
    key_strings(w, "tokenizer.ggml.merges", bpe, tiny_bpe_merge_count(bpe), tiny_bpe_merge);
}

bool tiny_write_gguf_text_encoder(const char *directory, const tiny_bpe *bpe, ace_error *error)
{
    static const char name[] = "Qwen3-Embedding-0.6B";
    writer w = {0};
    tiny_model model = {0};
    ace_text config = {0};
    tiny_stack stack = tiny_text_encoder_stack();
    begin(&w, "acestep-text-enc", name);
    key_stack(&w, &stack, tiny_bpe_vocab_size(bpe));
    tiny_text_encoder_config(&config, tiny_bpe_vocab_size(bpe));
    key_config(&w, &config);
    key_tokenizer(&w, bpe);
    tiny_text_encoder_tensors(&model, tiny_bpe_vocab_size(bpe));
    add_model(&w, &model, always_bf16, error);
    return finish(&w, directory, name, "BF16", error);
}

static bool write_planner(const char *directory, const tiny_bpe *bpe, const char *type,
                          ace_dtype (*types)(const tiny_tensor *tensor), ace_error *error)
{
    static const char name[] = "acestep-5Hz-lm-tiny";
    writer w = {0};
    tiny_model model = {0};
    ace_text config = {0};
    tiny_stack stack = tiny_planner_stack();
    int vocab_size = tiny_bpe_vocab_size(bpe) + TINY_AUDIO_CODES;
    begin(&w, "acestep-lm", name);
    key_stack(&w, &stack, vocab_size);
    tiny_planner_config(&config, vocab_size);
    key_config(&w, &config);
    key_tokenizer(&w, bpe);
    tiny_planner_tensors(&model, vocab_size);
    add_model(&w, &model, types, error);
    return finish(&w, directory, name, type, error);
}

bool tiny_write_gguf_planner(const char *directory, const tiny_bpe *bpe, ace_error *error)
{
    return write_planner(directory, bpe, "BF16", always_bf16, error);
}

bool tiny_write_gguf_planner_blocks(const char *directory, const tiny_bpe *bpe, ace_error *error)
{
    return write_planner(directory, bpe, "Q8_0", q8_0, error);
}

bool tiny_write_gguf_vae(const char *directory, ace_error *error)
{
    writer w = {0};
    tiny_model model = {0};
    ace_text config = {0};
    begin(&w, "acestep-vae", "vae");
    tiny_vae_config(&config);
    key_config(&w, &config);
    tiny_vae_tensors(&model);
    add_model(&w, &model, always_bf16, error);
    return finish(&w, directory, "vae", "BF16", error);
}
