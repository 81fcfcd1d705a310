/* The planner of a checkpoint: found in every layout, chosen by a rule, refused when it contradicts itself, and never
 * in the way of what needs none. */
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "model/layouts.h"

#include "model/checkpoint.h"
#include "model/checkpoint_names.h"
#include "text/bpe.h"

#include <fcntl.h>

#define TURBO TINY_CHECKPOINTS "/turbo"
#define PLANNER TINY_CHECKPOINTS "/turbo-planner"
#define PLANNER_GGUF TINY_CHECKPOINTS "/turbo-planner-gguf"
#define LM "/acestep-5Hz-lm-tiny"
#define ENCODER "/Qwen3-Embedding-0.6B"

enum { NAMED_CODES = 65535, TOKENIZER_LIMIT = 64 << 20 };

static ace_checkpoint *open_lm(const char *model, const char *lm)
{
    ace_error error = {0};
    ace_checkpoint *c = checkpoint_open(&(ace_checkpoint_paths){.model = model, .lm = lm}, &error);
    if (!c) fail_msg("%s", error.message);
    return c;
}

static void expect_words(const ace_error *error, ace_status status, va_list words)
{
    for (const char *word; (word = va_arg(words, const char *));)
        if (!strstr(error->message, word)) fail_msg("no \"%s\" in: %s", word, error->message);
    if (error->status != status) fail_msg("status %d: %s", error->status, error->message);
}

/* Must fail with that status and a message that has all the words (ending in NULL). */
static void refuse(const char *model, const char *lm, ace_status status, ...)
{
    ace_error error = {0};
    va_list words;
    assert_null(checkpoint_open(&(ace_checkpoint_paths){.model = model, .lm = lm}, &error));
    va_start(words, status);
    expect_words(&error, status, words);
    va_end(words);
}

/* Must open without a planner, and say why in such words to those who want one. */
static void open_without(const char *model, ace_status status, ...)
{
    ace_error error = {0}, again = {0};
    va_list words;
    ace_checkpoint *c = open_lm(model, NULL);
    char hash[33];
    assert_false(c->has_lm);
    assert_null(c->parts[ACE_PART_LM]);
    assert_null(part_find(c->parts[ACE_PART_LM], "norm.weight"));
    assert_false(checkpoint_lm_hash(c, hash, NULL));
    assert_false(checkpoint_need_lm(c, &error));
    assert_null(checkpoint_lm_tokenizer(c, &again));
    assert_string_equal(error.message, again.message);
    va_start(words, status);
    expect_words(&error, status, words);
    va_end(words);
    checkpoint_close(c);
}

/* The planner of the official tiny checkpoint, whatever the layout. */
static void expect_planner(const ace_checkpoint *c)
{
    if (!c->has_lm) fail_msg("%s", c->lm_problem.message);
    ace_checkpoint *o = open_lm(PLANNER, NULL);
    assert_true(checkpoint_need_lm(c, NULL) && c->lm.tied_head);
    assert_memory_equal(&c->lm.stack, &o->lm.stack, sizeof c->lm.stack);
    assert_int_equal(c->lm.vocab_size, o->lm.vocab_size);
    assert_int_equal(tensors_count(o->lm_tensors), 2 + 11 * o->lm.stack.layers);
    for (size_t i = 0; i < tensors_count(o->lm_tensors); i++) {
        const ace_tensor *wanted = tensors_at(o->lm_tensors, i),
                         *found = part_find(c->parts[ACE_PART_LM], wanted->name);
        if (!found) fail_msg("%s is missing", wanted->name);
        assert_int_equal(found->bytes, wanted->bytes);
        assert_memory_equal(found->data, wanted->data, wanted->bytes);
    }
    checkpoint_close(o);
}

static void expect_ids(const ace_tokenizer *tokenizer, const char *text, const int32_t *wanted, size_t count)
{
    ace_error error = {0};
    ace_ids ids = {0};
    if (!tokenizer_encode(tokenizer, text, strlen(text), &ids, &error)) fail_msg("%s", error.message);
    assert_int_equal(ids.count, count);
    assert_memory_equal(ids.data, wanted, count * sizeof *wanted);
    ace_ids_free(&ids);
}

/* The text vocabulary is the text encoder's, the audio codes follow it. */
static void expect_tokenizer(const ace_checkpoint *c)
{
    static const char sample[] = "<|im_start|>user\n# Lyric\n[Verse 1]\nüber Straßen, 夜の歌<|im_end|>\n<think>";
    ace_error error = {0};
    ace_tokenizer *lm = checkpoint_lm_tokenizer(c, &error);
    if (!lm) fail_msg("%s", error.message);
    ace_tokenizer *text = checkpoint_tokenizer(c, &error);
    ace_ids ids = {0};
    assert_true(tokenizer_encode(text, sample, sizeof sample - 1, &ids, &error));
    expect_ids(lm, sample, ids.data, ids.count);
    int32_t first = c->lm.vocab_size - NAMED_CODES;
    assert_int_equal(first, c->text_encoder.vocab_size);
    assert_int_equal(tokenizer_audio_first(lm), first);
    assert_int_equal(tokenizer_audio_count(lm), NAMED_CODES);
    assert_int_equal(tokenizer_limit(lm), c->lm.vocab_size);
    expect_ids(lm, "<|audio_code_7|><|audio_code_63999|>", (int32_t[]){first + 7, first + 63999}, 2);
    ace_ids_free(&ids);
    tokenizer_close(text);
    tokenizer_close(lm);
}

/* ---- layouts ----------------------------------------------------------------------------------------------------- */

static void an_official_directory(void **state)
{
    (void)state;
    ace_checkpoint *c = open_lm(PLANNER, NULL);
    expect_planner(c);
    expect_tokenizer(c);
    assert_string_equal(c->lm_name, "acestep-5Hz-lm-tiny");
    assert_int_equal(c->lm_path_count, 1);
    assert_string_equal(c->lm_paths[0], PLANNER LM "/model.safetensors");
    assert_string_equal(part_path(c->parts[ACE_PART_LM]), c->lm_paths[0]);
    assert_int_not_equal(c->lm.stack.heads * c->lm.stack.head_dim, c->lm.stack.hidden);
    checkpoint_close(c);
    c = open_lm(PLANNER "/acestep-v15-turbo", NULL); /* near the DiT */
    expect_planner(c);
    checkpoint_close(c);
}

static void gguf_files(void **state)
{
    (void)state;
    ace_checkpoint *c = open_lm(PLANNER_GGUF, NULL);
    assert_string_equal(c->lm_name, "acestep-5Hz-lm-tiny-BF16");
    expect_planner(c);
    expect_tokenizer(c);
    checkpoint_close(c);
}

static ace_tensors *open_set(const char *path)
{
    ace_error error = {0};
    ace_tensors *tensors = tensors_open(path, &error);
    if (!tensors) fail_msg("%s", error.message);
    return tensors;
}

/* The parts of the turbo checkpoint, linked. */
static void link_parts(const char *root)
{
    make_link(TURBO "/acestep-v15-turbo", place("%s/acestep-v15-turbo", root));
    make_link(TURBO ENCODER, place("%s/text", root));
    make_link(TURBO "/vae", place("%s/vae", root));
}

static void a_comfyui_file(void **state)
{
    workshop *w = *state;
    ace_tensors *lm = open_set(PLANNER LM "/model.safetensors");
    link_parts(w->root);
    make_directory(place("%s/text_encoders", w->root));
    write_safetensors(place("%s/text_encoders/qwen_1.7b_ace15.safetensors", w->root),
                      &(renamed_set){lm, "model.", with_prefix}, 1);
    ace_checkpoint *c = open_lm(w->root, NULL);
    assert_string_equal(c->lm_name, "qwen_1.7b_ace15");
    expect_planner(c);
    expect_tokenizer(c); /* the text encoder's, and the rule */
    checkpoint_close(c);
    tensors_close(lm);
}

/* Planner, text encoder and the rest in one file: told apart by their vocabularies. */
static void an_all_in_one_file(void **state)
{
    workshop *w = *state;
    ace_tensors *dit = open_set(TURBO "/acestep-v15-turbo/model.safetensors"),
                *text = open_set(TURBO ENCODER "/model.safetensors"),
                *vae = open_set(TURBO "/vae/diffusion_pytorch_model.safetensors"),
                *lm = open_set(PLANNER LM "/model.safetensors");
    const renamed_set sets[] = {{dit, "model.diffusion_model.", with_prefix},
                                {lm, "text_encoders.qwen3_06b.transformer.model.", with_prefix},
                                {text, "text_encoders.qwen3_2b.transformer.model.", with_prefix},
                                {vae, "vae.", with_prefix}};
    write_safetensors(place("%s/aio.safetensors", w->root), sets, 4);
    make_link(TURBO "/acestep-v15-turbo/silence_latent.pt", place("%s/silence_latent.pt", w->root));
    make_link(TURBO ENCODER "/tokenizer.json", place("%s/tokenizer.json", w->root));
    ace_checkpoint *c = open_lm(w->root, NULL);
    expect_planner(c);
    expect_tokenizer(c);
    assert_int_equal(c->file_count, 2); /* it, and the silence */
    checkpoint_close(c);
    tensors_close(dit);
    tensors_close(text);
    tensors_close(vae);
    tensors_close(lm);
}

static bool in_first_shard(char buffer[256], const char *name, const char *first)
{
    snprintf(buffer, 256, "%s", name);
    return (strstr(name, "layers.") != NULL) == (strcmp(first, "layers") == 0);
}

static void shards(void **state)
{
    workshop *w = *state;
    ace_tensors *lm = open_set(PLANNER LM "/model.safetensors");
    ace_text index = {0};
    link_parts(w->root);
    const char *directory = make_directory(place("%s/acestep-5Hz-lm-4B", w->root));
    for (int shard = 1; shard <= 2; shard++)
        write_safetensors(place("%s/model-%05d-of-00002.safetensors", directory, shard),
                          &(renamed_set){lm, shard == 1 ? "layers" : "rest", in_first_shard}, 1);
    for (size_t i = 0; i < tensors_count(lm); i++) {
        const char *name = tensors_at(lm, i)->name;
        ace_text_format(&index, "%s\"%s\":\"model-%05d-of-00002.safetensors\"", i ? "," : "{\"weight_map\":{", name,
                        strstr(name, "layers.") ? 1 : 2);
    }
    ace_text_add(&index, "}}");
    write_text(place("%s/model.safetensors.index.json", directory), index.data);
    ace_text_free(&index);
    ace_checkpoint *c = open_lm(w->root, NULL);
    assert_string_equal(c->lm_name, "acestep-5Hz-lm-4B");
    expect_planner(c); /* and its config from the shapes */
    assert_int_equal(c->lm_path_count, 1);
    checkpoint_close(c);
    tensors_close(lm);
}

/* ---- telling planner and text encoder apart -------------------------------------------------------------------------
 */

static void rows_tell(void **state)
{
    (void)state;
    static const int64_t planners[] = {217204, 215643, 66073, 64256, 151642, 1 << 24},
                         encoders[] = {151643, 151669, 151936, 215642, 64255, 538, 1, 0};
    for (size_t i = 0; i < sizeof planners / sizeof *planners; i++) assert_true(names_rows_hold_codes(planners[i]));
    for (size_t i = 0; i < sizeof encoders / sizeof *encoders; i++) assert_false(names_rows_hold_codes(encoders[i]));
}

static void write_lm_gguf(const char *path, const ace_tensors *tensors, const char *architecture)
{
    gguf_keys keys = {0};
    key_string(&keys, "general.architecture", architecture);
    write_gguf(path, tensors, &keys, NULL, 0);
}

/* What a GGUF file says of itself counts more than its rows. */
static void an_architecture_tells(void **state)
{
    workshop *w = *state;
    ace_tensors *lm = open_set(PLANNER LM "/model.safetensors"), *text = open_set(TURBO ENCODER "/model.safetensors");
    const char *path = place("%s/model.gguf", w->root);
    write_lm_gguf(path, lm, "acestep-text-enc");
    refuse(TURBO, path, ACE_ERROR_MODEL, "--lm", "holds no 5 Hz planner", "text encoder '", NULL);
    write_lm_gguf(path, text, "acestep-lm");
    refuse(TURBO, path, ACE_ERROR_MODEL, "vocabulary of 538", "64000", NULL);
    write_lm_gguf(path, lm, "acestep-lm");
    ace_checkpoint *c = open_lm(TURBO, path);
    expect_planner(c);
    expect_tokenizer(c);
    checkpoint_close(c);
    tensors_close(lm);
    tensors_close(text);
}

/* ---- absent, named, several -------------------------------------------------------------------------------------- */

static void a_planner_may_be_absent(void **state)
{
    (void)state;
    open_without(TURBO, ACE_ERROR_MODEL, "no 5 Hz planner", TURBO, "acestep-5Hz-lm-1.7B", "--lm", NULL);
}

static void a_planner_may_be_named(void **state)
{
    workshop *w = *state;
    static const char *const places[] = {PLANNER LM, PLANNER LM "/model.safetensors", PLANNER,
                                         PLANNER_GGUF "/acestep-5Hz-lm-tiny-BF16.gguf"};
    for (int i = 0; i < 4; i++) {
        ace_checkpoint *c = open_lm(TURBO, places[i]);
        expect_planner(c);
        expect_tokenizer(c);
        assert_int_equal(c->lm_path_count, 1);
        checkpoint_close(c);
    }
    link_parts(w->root);
    make_link(PLANNER LM, place("%s/mine", w->root));
    ace_checkpoint *c = open_lm(w->root, "mine");
    expect_planner(c);
    checkpoint_close(c);
    refuse(TURBO, TURBO ENCODER, ACE_ERROR_MODEL, "--lm", "holds no 5 Hz planner", "text encoder '", NULL);
    refuse(TURBO, "/nonexistent", ACE_ERROR_IO, "/nonexistent", NULL);
}

/* A planner as wide and deep as that, all zeros and never read: a file of holes. */
static void write_hollow(const char *path, int hidden, int layers)
{
    const struct {
        const char *name;
        int64_t rows, cols; /* cols 0: a vector */
    } first[] = {{"embed_tokens.weight", 64256, hidden},
                 {"norm.weight", hidden, 0},
                 {"layers.0.self_attn.q_norm.weight", 128, 0},
                 {"layers.0.self_attn.k_proj.weight", 1024, hidden},
                 {"layers.0.mlp.gate_proj.weight", 3072, hidden}};
    ace_text header = {0};
    int64_t at = 0, next;
    for (int i = 0; i < 5; i++, at = next) {
        next = at + 2 * first[i].rows * (first[i].cols ? first[i].cols : 1);
        ace_text_format(&header, "%s\"%s\":{\"dtype\":\"BF16\",\"shape\":[%lld", i ? "," : "{", first[i].name,
                        (long long)first[i].rows);
        if (first[i].cols) ace_text_format(&header, ",%lld", (long long)first[i].cols);
        ace_text_format(&header, "],\"data_offsets\":[%lld,%lld]}", (long long)at, (long long)next);
    }
    for (int i = 0; i < layers; i++, at = next) {
        next = at + 2 * (int64_t)2048 * hidden;
        ace_text_format(&header,
                        ",\"layers.%d.self_attn.q_proj.weight\":{\"dtype\":\"BF16\",\"shape\":[2048,%d],"
                        "\"data_offsets\":[%lld,%lld]}",
                        i, hidden, (long long)at, (long long)next);
    }
    ace_text_add(&header, "}");
    uint64_t n = header.length;
    ace_text file = {0};
    ace_text_bytes(&file, (const char *)&n, 8);
    ace_text_bytes(&file, header.data, header.length);
    write_bytes(path, file.data, file.length);
    assert_int_equal(truncate(path, (off_t)(8 + n) + at), 0);
    ace_text_free(&header);
    ace_text_free(&file);
}

static void hollow_planner(const workshop *w, const char *name, int hidden, int layers)
{
    make_directory(place("%s/%s", w->root, name));
    write_hollow(place("%s/%s/model.safetensors", w->root, name), hidden, layers);
}

/* Of several, the official default is the 1.7B; where that does not decide, a person does. */
static void of_several_one_is_chosen(void **state)
{
    workshop *w = *state;
    link_parts(w->root);
    hollow_planner(w, "acestep-5Hz-lm-0.6B", 1024, 28);
    ace_checkpoint *c = open_lm(w->root, NULL);
    assert_true(c->has_lm);
    assert_string_equal(c->lm_name, "acestep-5Hz-lm-0.6B");
    checkpoint_close(c);
    hollow_planner(w, "acestep-5Hz-lm-4B", 2560, 36);
    open_without(w->root, ACE_ERROR_MODEL, "several planners", "lm-0.6B/model", "lm-4B/model", "--lm", NULL);
    hollow_planner(w, "my-large", 2048, 28);
    c = open_lm(w->root, NULL);
    assert_true(c->has_lm);
    assert_string_equal(c->lm_name, "my-large");
    assert_int_equal(c->lm.stack.hidden, 2048);
    assert_int_equal(c->lm_path_count, 3);
    assert_string_equal(c->lm_paths[1], place("%s/acestep-5Hz-lm-4B/model.safetensors", w->root));
    checkpoint_close(c);
    c = open_lm(w->root, "acestep-5Hz-lm-4B");
    assert_string_equal(c->lm_name, "acestep-5Hz-lm-4B");
    assert_int_equal(c->lm.stack.layers, 36);
    checkpoint_close(c);
    hollow_planner(w, "zz-27-layers", 2048, 27);
    hollow_planner(w, "zz-29-layers", 2048, 29);
    c = open_lm(w->root, NULL);
    assert_string_equal(c->lm_name, "my-large");
    checkpoint_close(c);
    hollow_planner(w, "another", 2048, 28);
    open_without(w->root, ACE_ERROR_MODEL, "several planners", "my-large", "another", "--lm", NULL);
    c = open_lm(w->root, NULL);
    assert_int_equal(c->lm_path_count, 6);
    checkpoint_close(c);
    refuse(TURBO, w->root, ACE_ERROR_MODEL, "several", "--lm", NULL);
}

/* What is there besides does not change what a song is made of. */
static void a_planner_changes_nothing_else(void **state)
{
    workshop *w = *state;
    char with[33], without[33], lm[33], copy[33];
    ace_checkpoint *a = open_lm(PLANNER, NULL), *b = open_lm(TURBO, NULL);
    assert_memory_equal(&a->dit, &b->dit, sizeof a->dit);
    assert_int_equal(a->file_count, b->file_count);
    assert_true(checkpoint_hash(a, with, NULL) && checkpoint_hash(b, without, NULL));
    assert_string_equal(with, without);
    assert_true(checkpoint_lm_hash(a, lm, NULL));
    assert_string_not_equal(lm, with);
    make_link(PLANNER LM, place("%s/elsewhere", w->root));
    ace_checkpoint *c = open_lm(TURBO, place("%s/elsewhere", w->root));
    assert_true(checkpoint_lm_hash(c, copy, NULL));
    assert_string_equal(lm, copy);
    checkpoint_close(a);
    checkpoint_close(b);
    checkpoint_close(c);
}

/* ---- damaged and contradictory -----------------------------------------------------------------------------------
 */

/* A checkpoint whose planner has its config edited, in root/lm. */
static void edited(const workshop *w, const char *old, const char *new)
{
    remove_tree(w->root);
    make_directory(place("%s", w->root));
    link_parts(w->root);
    make_directory(place("%s/lm", w->root));
    make_link(PLANNER LM "/model.safetensors", place("%s/lm/model.safetensors", w->root));
    edit_text(PLANNER LM "/config.json", place("%s/lm/config.json", w->root), old, new);
}

/* A planner that nobody named is left out with a reason; one that was named is refused for the same reason. */
static void a_config_must_belong_to_its_tensors(void **state)
{
    workshop *w = *state;
    static const struct {
        const char *old, *new;
        ace_status status;
        const char *words[2];
    } cases[] = {
        {"\"hidden_size\": 32", "\"hidden_size\": 64", ACE_ERROR_MODEL, {"64", "32"}},
        {"\"intermediate_size\": 96", "\"intermediate_size\": 3072", ACE_ERROR_MODEL, {"intermediate", "3072"}},
        {"\"num_attention_heads\": 6", "\"num_attention_heads\": 4", ACE_ERROR_MODEL, {"num_attention_heads", "64"}},
        {"\"num_attention_heads\": 6", "\"num_attention_heads\": 7", ACE_ERROR_MODEL, {"7", "evenly"}},
        {"\"num_key_value_heads\": 2", "\"num_key_value_heads\": 0", ACE_ERROR_MODEL, {"num_key_value_heads", "0"}},
        {"\"num_hidden_layers\": 4", "\"num_hidden_layers\": 3", ACE_ERROR_MODEL, {"layers is 3", "it is 4"}},
        {"\"num_hidden_layers\": 4", "\"num_hidden_layers\": -4", ACE_ERROR_MODEL, {"num_hidden_layers", "-4"}},
        {"\"num_hidden_layers\": 4", "\"num_hidden_layers\": 1e30", ACE_ERROR_FORMAT, {"num_hidden_layers", "lm"}},
        {"\"num_hidden_layers\": 4", "\"num_hidden_layers\": \"4\"", ACE_ERROR_FORMAT, {"num_hidden_layers", "lm"}},
        {"\"head_dim\": 16", "\"head_dim\": 32", ACE_ERROR_MODEL, {"head_dim", "192"}},
        {"\"attention_bias\": false", "\"attention_bias\": true", ACE_ERROR_MODEL, {"attention_bias", "config.json"}},
        {"\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"yarn\"}", ACE_ERROR_MODEL, {"yarn", "default"}},
        {"\"rope_theta\": 1000000", "\"rope_theta\": -1", ACE_ERROR_MODEL, {"rope_theta", "-1"}},
        {"\"use_sliding_window\": false", "\"use_sliding_window\": true", ACE_ERROR_MODEL, {"use_sliding", "true"}},
        {"\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\"", ACE_ERROR_MODEL, {"gelu", "silu"}},
        {"\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false", ACE_ERROR_MODEL, {"lm_head", "tie_word"}},
        {"{", "{,", ACE_ERROR_FORMAT, {"not valid JSON", "lm/config.json"}},
        {"}", "", ACE_ERROR_FORMAT, {"not valid JSON", "lm/config.json"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        edited(w, cases[i].old, cases[i].new);
        open_without(w->root, cases[i].status, cases[i].words[0], cases[i].words[1], NULL);
        refuse(w->root, "lm", cases[i].status, cases[i].words[0], cases[i].words[1], NULL);
    }
    edited(w, "\"vocab_size\": 66073", "\"vocab_size\": 217204"); /* the tensor is right, not the config */
    ace_checkpoint *c = open_lm(w->root, NULL);
    expect_planner(c);
    checkpoint_close(c);
    edited(w, "\"rope_theta\": 1000000", "\"rope_theta\": 5000000");
    c = open_lm(w->root, NULL);
    assert_true(c->lm.stack.rope_theta == 5e6);
    checkpoint_close(c);
}

/* As for every part: what cannot be read might have been the model that was meant. */
static void a_damaged_file_is_not_passed_over(void **state)
{
    workshop *w = *state;
    link_parts(w->root);
    make_directory(place("%s/lm", w->root));
    write_text(place("%s/lm/model.safetensors", w->root), "12345678{}");
    refuse(w->root, NULL, ACE_ERROR_FORMAT, "lm/model.safetensors", "damaged", NULL);
    refuse(TURBO, place("%s/lm", w->root), ACE_ERROR_FORMAT, "lm/model.safetensors", "damaged", NULL);
}

static bool without_gate(char buffer[256], const char *name, const char *argument)
{
    snprintf(buffer, 256, "%s%s", argument, name);
    return strcmp(name, "layers.0.mlp.gate_proj.weight") != 0;
}

static void a_missing_tensor_is_named(void **state)
{
    workshop *w = *state;
    ace_tensors *lm = open_set(PLANNER LM "/model.safetensors");
    const char *path = place("%s/lm.safetensors", w->root);
    write_safetensors(path, &(renamed_set){lm, "", without_gate}, 1);
    refuse(TURBO, path, ACE_ERROR_MODEL, "layers.0.mlp.gate_proj.weight", NULL);
    link_parts(w->root);
    open_without(w->root, ACE_ERROR_MODEL, "layers.0.mlp.gate_proj.weight", NULL);
    tensors_close(lm);
}

/* ---- the head ---------------------------------------------------------------------------------------------------- */

static bool only_embedding_as(char buffer[256], const char *name, const char *as)
{
    snprintf(buffer, 256, "%s", as);
    return strcmp(name, "embed_tokens.weight") == 0;
}

static bool only_norm_as(char buffer[256], const char *name, const char *as)
{
    snprintf(buffer, 256, "%s", as);
    return strcmp(name, "norm.weight") == 0;
}

static void an_untied_head(void **state)
{
    workshop *w = *state;
    ace_tensors *lm = open_set(PLANNER LM "/model.safetensors");
    static const char *const prefixes[] = {"", "model.", "text_encoders.q.transformer.model."};
    static const char *const heads[] = {"lm_head.weight", "lm_head.weight",
                                        "text_encoders.q.transformer.lm_head.weight"};
    const char *path = place("%s/model.safetensors", w->root);
    for (int i = 0; i < 3; i++) {
        const renamed_set sets[] = {{lm, prefixes[i], with_prefix}, {lm, heads[i], only_embedding_as}};
        write_safetensors(path, sets, 2);
        ace_checkpoint *c = open_lm(TURBO, path);
        assert_false(c->lm.tied_head);
        const ace_tensor *head = part_find(c->parts[ACE_PART_LM], "lm_head.weight");
        assert_non_null(head);
        assert_int_equal(head->shape[0], c->lm.vocab_size);
        checkpoint_close(c);
    }
    /* the config decides */
    make_link(PLANNER LM "/config.json", place("%s/config.json", w->root));
    ace_checkpoint *c = open_lm(TURBO, path);
    assert_true(c->lm.tied_head);
    checkpoint_close(c);
    unlink(place("%s/config.json", w->root));
    const renamed_set wrong[] = {{lm, "model.", with_prefix}, {lm, "lm_head.weight", only_norm_as}};
    write_safetensors(path, wrong, 2);
    refuse(TURBO, path, ACE_ERROR_MODEL, "lm_head.weight", "66073 x 32", NULL);
    tensors_close(lm);
}

/* ---- the tokenizer ------------------------------------------------------------------------------------------------
 */

/* The tokenizer of a planner in root/lm with these companions (NULL: none); NULL with *error when it is refused. */
static ace_tokenizer *tokenizer_with(const workshop *w, const char *tokenizer_json, const char *added_tokens,
                                     ace_error *error)
{
    remove_tree(w->root);
    make_directory(place("%s", w->root));
    make_directory(place("%s/lm", w->root));
    make_link(PLANNER LM "/model.safetensors", place("%s/lm/model.safetensors", w->root));
    if (tokenizer_json) make_link(tokenizer_json, place("%s/lm/tokenizer.json", w->root));
    if (added_tokens) write_text(place("%s/lm/added_tokens.json", w->root), added_tokens);
    *error = (ace_error){0};
    ace_checkpoint *c = open_lm(TURBO, place("%s/lm", w->root));
    ace_tokenizer *tokenizer = checkpoint_lm_tokenizer(c, error);
    checkpoint_close(c);
    return tokenizer;
}

static void refuse_tokenizer(const workshop *w, const char *tokenizer_json, const char *added_tokens, ace_status status,
                             ...)
{
    ace_error error;
    va_list words;
    assert_null(tokenizer_with(w, tokenizer_json, added_tokens, &error));
    va_start(words, status);
    expect_words(&error, status, words);
    va_end(words);
}

static void added_tokens_are_heeded(void **state)
{
    workshop *w = *state;
    static const char own[] = PLANNER LM "/tokenizer.json", text[] = TURBO ENCODER "/tokenizer.json";
    ace_error error;
    static const char *const agreeing[] = {NULL, "{}", "{\"<|im_end|>\": 514}",
                                           "{\"<|audio_code_0|>\": 538, \"<|audio_code_65534|>\": 66072}"};
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 3; k++) {
            ace_tokenizer *t = tokenizer_with(w, k == 0 ? own : k == 1 ? text : NULL, agreeing[i], &error);
            if (!t) fail_msg("%s", error.message);
            assert_int_equal(tokenizer_audio_first(t), 538);
            assert_int_equal(tokenizer_audio_count(t), NAMED_CODES);
            tokenizer_close(t);
        }
    }
    /* where the tokenizer lists no codes, the base comes from the file (lm.md 2.6) */
    ace_tokenizer *t = tokenizer_with(w, text, "{\"<|audio_code_0|>\": 600}", &error);
    if (!t) fail_msg("%s", error.message);
    assert_int_equal(tokenizer_audio_first(t), 600);
    assert_int_equal(tokenizer_audio_count(t), 66073 - 600);
    tokenizer_close(t);
}

static void a_tokenizer_must_belong_to_its_planner(void **state)
{
    workshop *w = *state;
    static const char own[] = PLANNER LM "/tokenizer.json", text[] = TURBO ENCODER "/tokenizer.json";
    refuse_tokenizer(w, own, "{\"<|audio_code_0|>\": 539}", ACE_ERROR_MODEL, "539", "538", "planner '", NULL);
    refuse_tokenizer(w, own, "{\"<|audio_code_65534|>\": 66071}", ACE_ERROR_MODEL, "66071", "538", NULL);
    refuse_tokenizer(w, text, "{\"<|audio_code_0|>\": 538, \"<|audio_code_65534|>\": 1}", ACE_ERROR_MODEL, "538", NULL);
    refuse_tokenizer(w, text, "{\"<|audio_code_0|>\": 2074}", ACE_ERROR_MODEL, "2074", "66073", NULL);
    refuse_tokenizer(w, text, "{\"<|audio_code_0|>\": 9223372036854775807}", ACE_ERROR_MODEL, "no place", NULL);
    refuse_tokenizer(w, text, "{\"<|audio_code_0|>\": 100}", ACE_ERROR_MODEL, "another meaning", NULL);
    refuse_tokenizer(w, text, "{\"<|audio_code_0|>\": -1}", ACE_ERROR_FORMAT, "added_tokens.json", "-1", NULL);
    refuse_tokenizer(w, text, "{\"<|audio_code_0|>\": \"538\"}", ACE_ERROR_FORMAT, "added_tokens.json", NULL);
    refuse_tokenizer(w, text, "{\"<|audio_code_0|>\": 538", ACE_ERROR_FORMAT, "added_tokens.json", NULL);
    refuse_tokenizer(w, text, "[538]", ACE_ERROR_FORMAT, "added_tokens.json", NULL);
    refuse_tokenizer(w, text, "{\"\xff\": 538}", ACE_ERROR_FORMAT, "added_tokens.json", "UTF-8", NULL);
    refuse_tokenizer(w, text, "", ACE_ERROR_FORMAT, "added_tokens.json", NULL);
    refuse_tokenizer(w, PLANNER LM "/config.json", NULL, ACE_ERROR_MODEL, "Qwen", NULL);
}

/* A copy of the planner's tokenizer.json without what stands between two texts. */
static const char *cut_tokenizer(const workshop *w, const char *from, const char *to)
{
    ace_error error = {0};
    size_t n;
    const char *path = place("%s.json", w->root);
    char *text = ace_read_file(PLANNER LM "/tokenizer.json", TOKENIZER_LIMIT, &n, &error);
    assert_non_null(text);
    char *begin = strstr(text, from), *end = begin ? strstr(begin, to) : NULL;
    assert_non_null(end);
    ace_text cut = {0};
    ace_text_bytes(&cut, text, (size_t)(begin - text));
    ace_text_add(&cut, end);
    write_bytes(path, cut.data, cut.length);
    ace_text_free(&cut);
    free(text);
    return path;
}

static void a_tokenizer_must_be_complete(void **state)
{
    workshop *w = *state;
    const char *path = cut_tokenizer(w, ",\n    {\"id\": 64537, \"content\"", "\n  ],");
    refuse_tokenizer(w, path, NULL, ACE_ERROR_MODEL, "63999 audio codes", "64000", NULL);
    path = cut_tokenizer(w, ",\n    {\"id\": 64538, \"content\"", "\n  ],");
    ace_error error;
    ace_tokenizer *t = tokenizer_with(w, path, NULL, &error);
    assert_int_equal(tokenizer_audio_count(t), NAMES_AUDIO_CODES);
    tokenizer_close(t);
    path = cut_tokenizer(w, "\n    {\"id\": 536, \"content\"", "\n    {\"id\": 537");
    refuse_tokenizer(w, path, NULL, ACE_ERROR_MODEL, "no <think>", NULL);
    unlink(path);
}

/* 64,256 rows: neither the codes that the tokenizer lists nor the 64,000 behind its 538 tokens of text have a place. */
static void a_vocabulary_must_hold_the_tokens(void **state)
{
    workshop *w = *state;
    static const char *const tokenizers[] = {PLANNER LM "/tokenizer.json", TURBO ENCODER "/tokenizer.json"};
    static const char *const words[][2] = {{"up to 66072", "only 64256"}, {"from id 538", "no place"}};
    hollow_planner(w, "hollow", 1024, 28);
    for (int i = 0; i < 2; i++) {
        ace_error error = {0};
        make_link(tokenizers[i], place("%s/hollow/tokenizer.json", w->root));
        ace_checkpoint *c = open_lm(TURBO, place("%s/hollow", w->root));
        assert_null(checkpoint_lm_tokenizer(c, &error));
        assert_int_equal(error.status, ACE_ERROR_MODEL);
        if (!strstr(error.message, words[i][0]) || !strstr(error.message, words[i][1])) fail_msg("%s", error.message);
        checkpoint_close(c);
        unlink(place("%s/hollow/tokenizer.json", w->root));
    }
}

/* ---- synthetic, faults --------------------------------------------------------------------------------------------
 */

/* The published parameter and tensor counts (lm.md 1.1). */
static void synthetic_planners_have_the_real_dimensions(void **state)
{
    (void)state;
    static const struct {
        const char *variant;
        int64_t parameters;
        size_t tensors;
        transformer_config stack;
    } cases[] = {{"2b+0.6B", 662884352, 310, {28, 1024, 3072, 16, 8, 128, 1e-6f, 1e6}},
                 {"2b+1.7B", 1854243840, 310, {28, 2048, 6144, 16, 8, 128, 1e-6f, 1e6}},
                 {"xl+4B", 4189554176, 398, {36, 2560, 9728, 32, 8, 128, 1e-6f, 1e6}}};
    ace_error error = {0};
    for (int i = 0; i < 3; i++) {
        ace_checkpoint *c = checkpoint_open_synthetic(cases[i].variant, &error);
        if (!c) fail_msg("%s", error.message);
        int64_t parameters = 0;
        for (size_t k = 0; k < tensors_count(c->lm_tensors); k++) {
            const ace_tensor *t = tensors_at(c->lm_tensors, k);
            assert_ptr_equal(part_find(c->parts[ACE_PART_LM], t->name), t);
            parameters += t->count;
        }
        assert_true(c->synthetic && c->has_lm && c->lm.tied_head);
        assert_int_equal(parameters, cases[i].parameters);
        assert_int_equal(tensors_count(c->lm_tensors), cases[i].tensors);
        assert_int_equal(c->lm.vocab_size, 217204);
        assert_int_equal(c->lm.stack.layers, cases[i].stack.layers);
        assert_int_equal(c->lm.stack.hidden, cases[i].stack.hidden);
        assert_int_equal(c->lm.stack.intermediate, cases[i].stack.intermediate);
        assert_int_equal(c->lm.stack.heads, cases[i].stack.heads);
        assert_int_equal(c->lm.stack.kv_heads, cases[i].stack.kv_heads);
        assert_int_equal(c->lm.stack.head_dim, cases[i].stack.head_dim);
        assert_string_equal(c->lm_name, place("synthetic-lm-%s", strchr(cases[i].variant, '+') + 1));
        assert_string_equal(c->dit_name, i < 2 ? "synthetic-2b-turbo" : "synthetic-xl-turbo");
        assert_null(checkpoint_lm_tokenizer(c, &error));
        error = (ace_error){0};
        /* the rest is what it is without a planner */
        char variant[3] = {cases[i].variant[0], cases[i].variant[1]}, with[33], without[33];
        ace_checkpoint *plain = checkpoint_open_synthetic(variant, &error);
        assert_false(plain->has_lm || checkpoint_need_lm(plain, &error));
        assert_non_null(strstr(error.message, "+1.7B"));
        error = (ace_error){0};
        assert_true(checkpoint_hash(c, with, NULL) && checkpoint_hash(plain, without, NULL));
        assert_string_equal(with, without);
        checkpoint_close(plain);
        checkpoint_close(c);
    }
    static const char *const unknown[] = {"2b+", "2b+1.7b", "2b+8B", "+4B", "3b+4B", "2b+4B+4B", "", "2", "2bb"};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        error = (ace_error){0};
        assert_null(checkpoint_open_synthetic(unknown[i], &error));
        assert_int_equal(error.status, ACE_ERROR_USAGE);
    }
}

static void every_refusal_of_the_system_is_survived(void **state)
{
    (void)state;
    ace_checkpoint *c = NULL;
    for (long n = 1; !c; n++) {
        ace_error error = {0};
        ace_fault_arm(n);
        c = checkpoint_open(&(ace_checkpoint_paths){.model = TURBO, .lm = PLANNER LM}, &error);
        ace_fault_arm(0);
        if (!c && error.status != ACE_ERROR_MEMORY && error.status != ACE_ERROR_IO)
            fail_msg("call %ld: %s", n, error.message);
        assert_true(n < 100000);
    }
    assert_true(c->has_lm);
    ace_tokenizer *tokenizer = NULL;
    for (long n = 1; !tokenizer; n++) {
        ace_error error = {0};
        ace_fault_arm(n);
        tokenizer = checkpoint_lm_tokenizer(c, &error);
        ace_fault_arm(0);
        if (!tokenizer && error.status != ACE_ERROR_MEMORY && error.status != ACE_ERROR_IO)
            fail_msg("call %ld: %s", n, error.message);
        assert_true(n < 100000);
    }
    tokenizer_close(tokenizer);
    checkpoint_close(c);
    /* a planner that nobody named: memory fails the whole, a file that cannot be read only the planner */
    bool whole = false;
    for (long n = 1; !whole; n++) {
        ace_error error = {0};
        ace_fault_arm(n);
        c = checkpoint_open(&(ace_checkpoint_paths){.model = PLANNER}, &error);
        ace_fault_arm(0);
        ace_status status = c ? c->lm_problem.status : error.status;
        whole = c && c->has_lm;
        if (!whole && status != ACE_ERROR_IO && (c || status != ACE_ERROR_MEMORY))
            fail_msg("call %ld: status %d %s", n, status, c ? c->lm_problem.message : error.message);
        checkpoint_close(c);
        assert_true(n < 100000);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_official_directory),
        TEST(gguf_files),
        TEST(a_comfyui_file),
        TEST(an_all_in_one_file),
        TEST(shards),
        TEST(rows_tell),
        TEST(an_architecture_tells),
        TEST(a_planner_may_be_absent),
        TEST(a_planner_may_be_named),
        TEST(of_several_one_is_chosen),
        TEST(a_planner_changes_nothing_else),
        TEST(a_config_must_belong_to_its_tensors),
        TEST(a_damaged_file_is_not_passed_over),
        TEST(a_missing_tensor_is_named),
        TEST(an_untied_head),
        TEST(added_tokens_are_heeded),
        TEST(a_tokenizer_must_belong_to_its_planner),
        TEST(a_tokenizer_must_be_complete),
        TEST(a_vocabulary_must_hold_the_tokens),
        TEST(synthetic_planners_have_the_real_dimensions),
        TEST(every_refusal_of_the_system_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
