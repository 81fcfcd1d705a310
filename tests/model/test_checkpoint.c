/* Checkpoints in every layout are the same checkpoint; incomplete and contradictory ones are errors that say so. */
#include "base/file.h"
#include "base/memory.h"
#include "model/layouts.h"

#include "model/checkpoint.h"
#include "text/bpe.h"

#define TURBO TINY_CHECKPOINTS "/turbo"
#define TURBO_DIT TURBO "/acestep-v15-turbo"
#define XL TINY_CHECKPOINTS "/xl-base"
#define XL_DIT XL "/acestep-v15-xl-base"
#define ENCODER "/Qwen3-Embedding-0.6B"

static ace_checkpoint *open_paths(const char *model, const char *dit, const char *text_encoder, const char *vae)
{
    ace_error error = {0};
    ace_checkpoint *c = checkpoint_open(&(ace_checkpoint_paths){model, dit, text_encoder, vae, NULL}, &error);
    if (!c) fail_msg("%s", error.message);
    return c;
}

/* Must fail with that status and a message that has all the words (ending in NULL). */
static void refuse(const char *model, const char *dit, ace_status status, ...)
{
    ace_error error = {0};
    assert_null(checkpoint_open(&(ace_checkpoint_paths){.model = model, .dit = dit}, &error));
    va_list words;
    va_start(words, status);
    for (const char *word; (word = va_arg(words, const char *));)
        if (!strstr(error.message, word)) fail_msg("no \"%s\" in: %s", word, error.message);
    va_end(words);
    if (error.status != status) fail_msg("status %d: %s", error.status, error.message);
}

/* Same dimensions, same tensors under the official names, same silence. */
static void expect_same(const ace_checkpoint *c, const char *official)
{
    ace_error error = {0};
    ace_checkpoint *o = open_paths(official, NULL, NULL, NULL);
    assert_memory_equal(&c->dit, &o->dit, sizeof c->dit);
    assert_memory_equal(&c->text_encoder.stack, &o->text_encoder.stack, sizeof c->text_encoder.stack);
    assert_int_equal(c->text_encoder.vocab_size, o->text_encoder.vocab_size);
    assert_memory_equal(&c->vae, &o->vae, sizeof c->vae);
    size_t compared = 0;
    for (size_t f = 0; f < o->file_count; f++) {
        for (size_t i = 0; i < tensors_count(o->files[f]); i++) {
            const ace_tensor *wanted = tensors_at(o->files[f], i), *found = NULL;
            if (wanted == o->silence) continue;
            for (int part = 0; part < ACE_PART_COUNT; part++)
                if (part_find(o->parts[part], wanted->name) == wanted) found = part_find(c->parts[part], wanted->name);
            if (!found) fail_msg("%s is missing", wanted->name);
            assert_int_equal(found->count, wanted->count);
            assert_int_equal(found->dtype, wanted->dtype);
            assert_memory_equal(found->data, wanted->data, wanted->bytes);
            compared++;
        }
    }
    assert_true(compared > 600);
    size_t values = 40 * (size_t)c->dit.latent_channels;
    float *a = calloc(values, sizeof *a), *b = calloc(values, sizeof *b);
    assert_true(checkpoint_silence(c, 1480, 40, a, &error) && checkpoint_silence(o, 1480, 40, b, &error));
    assert_memory_equal(a, b, values * sizeof *a);
    free(a);
    free(b);
    checkpoint_close(o);
}

/* ---- official ------------------------------------------------------------------------------------------------------
 */

static void an_official_directory(void **state)
{
    (void)state;
    ace_error error = {0};
    ace_checkpoint *c = open_paths(TURBO, NULL, NULL, NULL);
    assert_string_equal(c->dit_name, "acestep-v15-turbo");
    assert_true(c->dit.is_turbo && c->dit.turbo_known && !c->dit.timbre_token && !c->synthetic);
    assert_int_equal(part_find(c->parts[ACE_PART_DIT], "decoder.proj_in.1.bias")->count, c->dit.dit.hidden);
    assert_null(part_find(c->parts[ACE_PART_DIT], "decoder.proj_in.2.bias"));
    assert_int_equal(part_find(c->parts[ACE_PART_TEXT_ENCODER], "embed_tokens.weight")->shape[0],
                     c->text_encoder.vocab_size);
    assert_non_null(part_find(c->parts[ACE_PART_VAE], "decoder.conv1.weight_v"));
    assert_non_null(strstr(part_path(c->parts[ACE_PART_VAE]), "vae/diffusion_pytorch_model.safetensors"));
    ace_tokenizer *tokenizer = checkpoint_tokenizer(c, &error);
    assert_non_null(tokenizer);
    tokenizer_close(tokenizer);
    checkpoint_close(c);
}

static void xl_shards(void **state)
{
    (void)state;
    ace_checkpoint *c = open_paths(XL, NULL, NULL, NULL);
    assert_string_equal(c->dit_name, "acestep-v15-xl-base");
    assert_true(!c->dit.is_turbo && c->dit.turbo_known && c->dit.timbre_token);
    assert_int_not_equal(c->dit.encoder.hidden, c->dit.dit.hidden);
    assert_int_equal(part_find(c->parts[ACE_PART_DIT], "decoder.proj_in.1.bias")->dtype, ACE_F32);
    checkpoint_close(c);
}

static void silence_is_frame_major_and_repeats(void **state)
{
    (void)state;
    ace_error error = {0};
    ace_checkpoint *c = open_paths(TURBO, NULL, NULL, NULL);
    ace_tensors *file = tensors_open(TURBO_DIT "/silence_latent.pt", &error);
    const ace_tensor *raw = tensors_find(file, "data");
    int64_t channels = c->dit.latent_channels, length = raw->count / channels, count = length + 300;
    float *all = calloc((size_t)raw->count, sizeof *all), *frames = calloc((size_t)(count * channels), sizeof *frames);
    assert_true(tensor_read(raw, 0, raw->count, all, &error));
    assert_true(checkpoint_silence(c, 7, count, frames, &error));
    for (int64_t f = 0; f < count; f++)
        for (int64_t k = 0; k < channels; k++)
            assert_true(frames[f * channels + k] == all[k * length + (f + 7) % length]);
    free(all);
    free(frames);
    tensors_close(file);
    checkpoint_close(c);
}

static void the_hash_is_of_the_weights_not_of_the_place(void **state)
{
    workshop *w = *state;
    char a[33], b[33], other[33];
    make_link(TURBO, place("%s/copy", w->root));
    ace_checkpoint *one = open_paths(TURBO, NULL, NULL, NULL),
                   *two = open_paths(place("%s/copy", w->root), NULL, NULL, NULL),
                   *three = open_paths(XL, NULL, NULL, NULL);
    assert_true(checkpoint_hash(one, a, NULL));
    assert_true(checkpoint_hash(two, b, NULL));
    assert_true(checkpoint_hash(three, other, NULL));
    assert_int_equal(strlen(a), 32);
    assert_string_equal(a, b);
    assert_string_not_equal(a, other);
    checkpoint_close(one);
    checkpoint_close(two);
    checkpoint_close(three);
}

/* ---- where parts may lie ---------------------------------------------------------------------------------------- */

static void companions_are_found_near_the_dit_or_where_they_are_named(void **state)
{
    workshop *w = *state;
    ace_checkpoint *c = open_paths(TURBO_DIT, NULL, NULL, NULL);
    expect_same(c, TURBO);
    checkpoint_close(c);
    c = open_paths(TURBO_DIT "/model.safetensors", NULL, NULL, NULL);
    expect_same(c, TURBO);
    checkpoint_close(c);
    c = open_paths(NULL, TURBO_DIT, NULL, NULL);
    expect_same(c, TURBO);
    checkpoint_close(c);
    c = open_paths(TURBO, "acestep-v15-turbo", NULL, NULL);
    expect_same(c, TURBO);
    checkpoint_close(c);
    make_directory(place("%s/deep", w->root));
    make_link(TURBO_DIT, place("%s/deep/dit", w->root));
    refuse(place("%s/deep/dit", w->root), NULL, ACE_ERROR_MODEL, "no text encoder", "--text-encoder", NULL);
    c = open_paths(place("%s/deep/dit", w->root), NULL, TURBO ENCODER, TURBO "/vae");
    expect_same(c, TURBO);
    checkpoint_close(c);
    make_link(TURBO_DIT, place("%s/deep/another", w->root));
    make_link(TURBO ENCODER, place("%s/deep/text", w->root));
    refuse(place("%s/deep", w->root), NULL, ACE_ERROR_MODEL, "several", "/dit/model.safetensors",
           "/another/model.safetensors", "--dit", NULL);
    refuse(place("%s/deep", w->root), "text", ACE_ERROR_MODEL, "--dit 'text' holds no DiT", "text encoder", NULL);
    refuse(place("%s/deep", w->root), "dit", ACE_ERROR_MODEL, "no VAE", "--vae", NULL);
    make_link(TURBO "/vae", place("%s/deep/sound", w->root));
    c = open_paths(place("%s/deep", w->root), "dit", NULL, NULL);
    expect_same(c, TURBO);
    checkpoint_close(c);
}

static void what_is_missing_is_named(void **state)
{
    workshop *w = *state;
    make_directory(place("%s/in", w->root));
    char *here = make_directory(place("%s/in/here", w->root));
    refuse(here, NULL, ACE_ERROR_MODEL, "no DiT", "found: no model", "Ace-Step1.5", NULL);
    refuse("/nonexistent", NULL, ACE_ERROR_IO, "/nonexistent", NULL);
    refuse(NULL, NULL, ACE_ERROR_USAGE, "--model", NULL);
    make_link(TURBO ENCODER, place("%s/text", here));
    make_link(TURBO "/vae", place("%s/vae", here));
    refuse(here, NULL, ACE_ERROR_MODEL, "no DiT", "text encoder '", "VAE '", NULL);
    make_directory(place("%s/dit", here));
    make_link(TURBO_DIT "/model.safetensors", place("%s/dit/model.safetensors", here));
    make_link(TURBO_DIT "/config.json", place("%s/dit/config.json", here));
    refuse(here, NULL, ACE_ERROR_MODEL, "silence_latent.pt", "download", NULL);
    make_link(TURBO_DIT "/silence_latent.pt", place("%s/silence_latent.pt", here));
    ace_checkpoint *c = open_paths(here, NULL, NULL, NULL);
    checkpoint_close(c);
    unlink(place("%s/text", here));
    make_directory(place("%s/text", here));
    make_link(TURBO ENCODER "/model.safetensors", place("%s/text/model.safetensors", here));
    refuse(here, NULL, ACE_ERROR_MODEL, "tokenizer.json", NULL);
    make_link(TURBO ENCODER "/tokenizer.json", place("%s/tokenizer.json", here));
    c = open_paths(here, NULL, NULL, NULL); /* and the text encoder's config from its shapes */
    expect_same(c, TURBO);
    checkpoint_close(c);
}

/* A planner is not mistaken for the text encoder. */
static void planners_are_left_alone(void **state)
{
    workshop *w = *state;
    enum { VOCABULARY = 217204 };
    static const char rest[] =
        "\"layers.0.self_attn.q_proj.weight\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[217204,217205]},"
        "\"layers.0.self_attn.q_norm.weight\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[217205,217206]},"
        "\"norm.weight\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[217206,217207]}}";
    ace_text file = {0}, header = {0};
    ace_text_format(&header, "{\"embed_tokens.weight\":{\"dtype\":\"U8\",\"shape\":[%d,1],\"data_offsets\":[0,%d]},%s",
                    VOCABULARY, VOCABULARY, rest);
    uint64_t n = header.length;
    ace_text_bytes(&file, (const char *)&n, 8);
    ace_text_bytes(&file, header.data, header.length);
    for (int i = 0; i < VOCABULARY + 3; i++) ace_text_bytes(&file, "", 1);
    make_directory(place("%s/acestep-5Hz-lm-1.7B", w->root));
    write_bytes(place("%s/acestep-5Hz-lm-1.7B/model.safetensors", w->root), file.data, file.length);
    ace_text_free(&file);
    ace_text_free(&header);
    make_link(TURBO_DIT, place("%s/acestep-v15-turbo", w->root));
    make_link(TURBO "/vae", place("%s/vae", w->root));
    refuse(w->root, NULL, ACE_ERROR_MODEL, "no text encoder", "5 Hz planner '", NULL);
    make_link(TURBO ENCODER, place("%s/text", w->root));
    ace_checkpoint *c = open_paths(w->root, NULL, NULL, NULL);
    expect_same(c, TURBO);
    checkpoint_close(c);
}

/* ---- contradictions -----------------------------------------------------------------------------------------------
 */

/* The turbo checkpoint with one text of one part's config replaced. */
static void edited(workshop *w, const char *part, const char *old, const char *new)
{
    static const char *const parts[] = {"acestep-v15-turbo", "vae", "Qwen3-Embedding-0.6B"};
    static const char *const files[] = {"model.safetensors", "diffusion_pytorch_model.safetensors",
                                        "model.safetensors"};
    remove_tree(w->root);
    make_directory(w->root);
    for (int i = 0; i < 3; i++) {
        if (strcmp(parts[i], part) != 0) {
            make_link(place(TURBO "/%s", parts[i]), place("%s/%s", w->root, parts[i]));
            continue;
        }
        make_directory(place("%s/%s", w->root, part));
        make_link(place(TURBO "/%s/%s", part, files[i]), place("%s/%s/%s", w->root, part, files[i]));
        make_link(TURBO_DIT "/silence_latent.pt", place("%s/%s/silence_latent.pt", w->root, part));
        make_link(TURBO ENCODER "/tokenizer.json", place("%s/%s/tokenizer.json", w->root, part));
        edit_text(place(TURBO "/%s/config.json", part), place("%s/%s/config.json", w->root, part), old, new);
    }
}

static void a_config_must_belong_to_its_tensors(void **state)
{
    workshop *w = *state;
    static const char dit[] = "acestep-v15-turbo";
    edited(w, dit, "\"hidden_size\": 64", "\"hidden_size\": 80");
    refuse(w->root, NULL, ACE_ERROR_MODEL, "80", "64", "another model", NULL);
    edited(w, dit, "\"num_attention_heads\": 4", "\"num_attention_heads\": 8");
    refuse(w->root, NULL, ACE_ERROR_MODEL, "num_attention_heads", "128", "64", NULL);
    edited(w, dit, "\"text_hidden_dim\": 48", "\"text_hidden_dim\": 1024");
    refuse(w->root, NULL, ACE_ERROR_MODEL, "text_hidden_dim is 1024", "48", NULL);
    edited(w, dit, "\"num_lyric_encoder_hidden_layers\": 4", "\"num_lyric_encoder_hidden_layers\": 3");
    refuse(w->root, NULL, ACE_ERROR_MODEL, "the number of layers is 3", "it is 4", "lyric_encoder", NULL);
    edited(w, dit, "\"num_timbre_encoder_hidden_layers\": 4", "\"num_timbre_encoder_hidden_layers\": 2");
    refuse(w->root, NULL, ACE_ERROR_MODEL, "the number of layers is 2", "it is 4", "timbre_encoder", NULL);
    edited(w, dit, "\"is_turbo\": true", "\"is_turbo\": \"yes\"");
    refuse(w->root, NULL, ACE_ERROR_FORMAT, "is_turbo", "config.json", NULL);
    edited(w, dit, "{", "{,");
    refuse(w->root, NULL, ACE_ERROR_FORMAT, "not valid JSON", "config.json", NULL);
    edited(w, "vae", "\"audio_channels\": 2", "\"audio_channels\": 1");
    refuse(w->root, NULL, ACE_ERROR_MODEL, "audio_channels is 1", "it is 2", NULL);
    edited(w, "vae", "10\n", "20\n");
    refuse(w->root, NULL, ACE_ERROR_MODEL, "downsampling_ratio", "40", "20", NULL);
    edited(w, "Qwen3-Embedding-0.6B", "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2");
    refuse(w->root, NULL, ACE_ERROR_MODEL, "the number of layers is 2", "it is 3", NULL);
    edited(w, "Qwen3-Embedding-0.6B", "\"vocab_size\": ", "\"vocab_size\": 1");
    ace_checkpoint *c = open_paths(w->root, NULL, NULL, NULL); /* the tensor is right, not the config */
    expect_same(c, TURBO);
    checkpoint_close(c);
}

static void a_damaged_file_is_not_passed_over(void **state)
{
    workshop *w = *state;
    make_link(TURBO_DIT, place("%s/good", w->root));
    make_link(TURBO ENCODER, place("%s/text", w->root));
    make_link(TURBO "/vae", place("%s/vae", w->root));
    make_directory(place("%s/bad", w->root));
    write_text(place("%s/bad/model.safetensors", w->root), "12345678{}");
    refuse(w->root, NULL, ACE_ERROR_FORMAT, "bad/model.safetensors", "damaged", NULL);
}

/* Near the DiT an unreadable file is nobody's fault, but it is mentioned when a part is missing. */
static void a_damaged_companion_is_mentioned(void **state)
{
    workshop *w = *state;
    make_link(TURBO_DIT, place("%s/dit", w->root));
    make_link(TURBO "/vae", place("%s/vae", w->root));
    make_directory(place("%s/text", w->root));
    write_text(place("%s/text/model.safetensors", w->root), "12345678{}");
    refuse(place("%s/dit", w->root), NULL, ACE_ERROR_MODEL, "no text encoder", "not readable", "text/model.safetensors",
           NULL);
    make_link(TURBO ENCODER, place("%s/whole", w->root));
    ace_checkpoint *c = open_paths(place("%s/dit", w->root), NULL, NULL, NULL);
    expect_same(c, TURBO);
    checkpoint_close(c);
}

/* ---- ComfyUI -------------------------------------------------------------------------------------------------------
 */

typedef struct parts {
    ace_tensors *dit, *text, *vae, *silence;
} parts;

static parts open_parts(const char *dit)
{
    ace_error error = {0};
    parts p = {tensors_open(dit, &error), tensors_open(TURBO ENCODER "/model.safetensors", &error),
               tensors_open(TURBO "/vae/diffusion_pytorch_model.safetensors", &error),
               tensors_open(TURBO_DIT "/silence_latent.pt", &error)};
    assert_true(p.dit && p.text && p.vae && p.silence);
    return p;
}

static void close_parts(parts *p)
{
    tensors_close(p->dit);
    tensors_close(p->text);
    tensors_close(p->vae);
    tensors_close(p->silence);
}

static void comfyui_files(void **state)
{
    workshop *w = *state;
    parts p = open_parts(TURBO_DIT "/model.safetensors");
    const char *top = make_directory(place("%s/split_files", w->root));
    make_directory(place("%s/diffusion_models", top));
    make_directory(place("%s/text_encoders", top));
    make_directory(place("%s/vae", top));
    const char *dit = place("%s/diffusion_models/acestep_v1.5_turbo.safetensors", top);
    write_safetensors(dit, &(renamed_set){p.dit, "", with_prefix}, 1);
    write_safetensors(place("%s/text_encoders/qwen_0.6b_ace15.safetensors", top),
                      &(renamed_set){p.text, "model.", with_prefix}, 1);
    write_safetensors(place("%s/vae/ace_1.5_vae.safetensors", top), &(renamed_set){p.vae, "", with_prefix}, 1);
    refuse(w->root, NULL, ACE_ERROR_MODEL, "silence_latent.pt", "ComfyUI", NULL);
    make_link(TURBO_DIT "/silence_latent.pt", place("%s/diffusion_models/silence_latent.pt", top));
    refuse(w->root, NULL, ACE_ERROR_MODEL, "tokenizer.json", "text_encoders", NULL);
    make_link(TURBO ENCODER "/tokenizer.json", place("%s/text_encoders/tokenizer.json", top));
    ace_checkpoint *c = open_paths(w->root, NULL, NULL, NULL);
    assert_string_equal(c->dit_name, "acestep_v1.5_turbo");
    /* shapes do not tell the radius of the window */
    assert_int_equal(c->dit.sliding_window, 128);
    ace_checkpoint *official = open_paths(TURBO, NULL, NULL, NULL);
    c->dit.sliding_window = official->dit.sliding_window;
    c->dit.timbre_frames = official->dit.timbre_frames;
    checkpoint_close(official);
    expect_same(c, TURBO);
    checkpoint_close(c);
    c = open_paths(dit, NULL, NULL, NULL);
    assert_true(c->dit.is_turbo && c->dit.turbo_known);
    checkpoint_close(c);
    assert_int_equal(rename(dit, place("%s/diffusion_models/mine.safetensors", top)), 0);
    c = open_paths(w->root, NULL, NULL, NULL);
    assert_false(c->dit.turbo_known);
    checkpoint_close(c);
    close_parts(&p);
}

static void comfyui_all_in_one(void **state)
{
    workshop *w = *state;
    parts p = open_parts(TURBO_DIT "/model.safetensors");
    const renamed_set sets[] = {{p.dit, "model.diffusion_model.", with_prefix},
                                {p.text, "text_encoders.qwen3_06b.transformer.model.", with_prefix},
                                {p.vae, "vae.", with_prefix}};
    write_safetensors(place("%s/ace_step_1.5_turbo_aio.safetensors", w->root), sets, 3);
    make_link(TURBO_DIT "/silence_latent.pt", place("%s/silence_latent.pt", w->root));
    make_link(TURBO ENCODER "/tokenizer.json", place("%s/tokenizer.json", w->root));
    make_link(TURBO_DIT "/config.json", place("%s/config.json", w->root));
    ace_checkpoint *c = open_paths(w->root, NULL, NULL, NULL);
    expect_same(c, TURBO);
    assert_int_equal(c->file_count, 2);
    checkpoint_close(c);
    c = open_paths(place("%s/ace_step_1.5_turbo_aio.safetensors", w->root), NULL, NULL, NULL);
    checkpoint_close(c);
    close_parts(&p);
}

/* ---- GGUF ---------------------------------------------------------------------------------------------------------
 */

static void write_gguf_dit(const char *path, const parts *p, const char *config_json, bool turbo, uint32_t window)
{
    gguf_keys keys = {0};
    key_string(&keys, "general.architecture", "acestep-dit");
    if (config_json) key_string(&keys, "acestep.config_json", config_json);
    if (turbo) key_true(&keys, "acestep.is_turbo");
    if (window) key_u32(&keys, "acestep.sliding_window", window);
    write_gguf(path, p->dit, &keys, tensors_find(p->silence, "data"), 64);
}

static void gguf_directory(void **state)
{
    workshop *w = *state;
    parts p = open_parts(TURBO_DIT "/model.safetensors");
    char *dit_json = read_text(TURBO_DIT "/config.json"), *text_json = read_text(TURBO ENCODER "/config.json"),
         *vae_json = read_text(TURBO "/vae/config.json");
    static const char *const tokens[] = {"a", "b", "ab"}, *const merges[] = {"a b"};
    gguf_keys keys = {0};
    key_string(&keys, "general.architecture", "acestep-text-enc");
    key_string(&keys, "acestep.config_json", text_json);
    key_string(&keys, "tokenizer.ggml.model", "gpt2");
    key_strings(&keys, "tokenizer.ggml.tokens", tokens, 3);
    key_strings(&keys, "tokenizer.ggml.merges", merges, 1);
    write_gguf(place("%s/Qwen3-Embedding-0.6B-BF16.gguf", w->root), p.text, &keys, NULL, 0);
    keys = (gguf_keys){0};
    key_string(&keys, "general.architecture", "acestep-vae");
    key_string(&keys, "acestep.config_json", vae_json);
    write_gguf(place("%s/vae-BF16.gguf", w->root), p.vae, &keys, NULL, 0);
    const char *dit = place("%s/acestep-v15-mine-BF16.gguf", w->root);
    write_gguf_dit(dit, &p, dit_json, true, 0);
    ace_checkpoint *c = open_paths(w->root, NULL, NULL, NULL);
    expect_same(c, TURBO);
    assert_string_equal(c->dit_name, "acestep-v15-mine-BF16");
    assert_null(c->tokenizer_path);
    assert_int_equal(tensors_metadata_array_count(c->tokenizer_tensors, "tokenizer.ggml.tokens"), 3);
    checkpoint_close(c);
    /* without the whole config: shapes and keys; is_turbo is only written when it is true */
    write_gguf_dit(dit, &p, NULL, true, 77);
    c = open_paths(w->root, NULL, NULL, NULL);
    assert_true(c->dit.is_turbo && c->dit.turbo_known);
    assert_int_equal(c->dit.sliding_window, 77);
    checkpoint_close(c);
    write_gguf_dit(dit, &p, NULL, false, 0);
    c = open_paths(w->root, NULL, NULL, NULL);
    assert_true(!c->dit.is_turbo && c->dit.turbo_known);
    checkpoint_close(c);
    free(dit_json);
    free(text_json);
    free(vae_json);
    close_parts(&p);
}

/* ---- diffusers ----------------------------------------------------------------------------------------------------
 */

/* The names of one directory of a diffusers model (dit.md 1.7); `directory` begins with the official prefix. */
static bool diffusers_name(char buffer[256], const char *name, const char *prefix)
{
    static const char *const renames[][2] = {{"proj_in.1.", "proj_in_conv."}, {"proj_out.1.", "proj_out_conv."},
                                             {".q_proj.", ".to_q."},          {".k_proj.", ".to_k."},
                                             {".v_proj.", ".to_v."},          {".o_proj.", ".to_out.0."},
                                             {".q_norm.", ".norm_q."},        {".k_norm.", ".norm_k."}};
    size_t n = strlen(prefix);
    if (strcmp(name, "null_condition_emb") == 0 && strcmp(prefix, "encoder.") == 0)
        n = 0;
    else if (strncmp(name, prefix, n) != 0)
        return false;
    snprintf(buffer, 256, "%s", name + n);
    for (int i = 0; i < 8; i++) {
        char *at = strstr(buffer, renames[i][0]), rest[256];
        if (!at) continue;
        snprintf(rest, sizeof rest, "%s", at + strlen(renames[i][0]));
        snprintf(at, (size_t)(256 - (at - buffer)), "%s%s", renames[i][1], rest);
    }
    return true;
}

static void diffusers_directories(void **state)
{
    workshop *w = *state;
    static const char *const pieces[4][2] = {{"transformer", "decoder."},
                                             {"condition_encoder", "encoder."},
                                             {"audio_tokenizer", "tokenizer."},
                                             {"audio_token_detokenizer", "detokenizer."}};
    parts p = open_parts(XL_DIT "/model.safetensors.index.json");
    for (int i = 0; i < 4; i++) {
        make_directory(place("%s/%s", w->root, pieces[i][0]));
        write_safetensors(place("%s/%s/diffusion_pytorch_model.safetensors", w->root, pieces[i][0]),
                          &(renamed_set){p.dit, pieces[i][1], diffusers_name}, 1);
    }
    make_link(XL "/vae", place("%s/vae", w->root));
    make_link(XL ENCODER, place("%s/text_encoder", w->root));
    make_link(XL_DIT "/silence_latent.pt", place("%s/silence_latent.pt", w->root));
    edit_text(XL_DIT "/config.json", place("%s/transformer/config.json", w->root), "\"model_type\": \"acestep\"",
              "\"_class_name\": \"AceStepTransformer1DModel\"");
    ace_checkpoint *c = open_paths(w->root, NULL, NULL, NULL), *official = open_paths(XL, NULL, NULL, NULL);
    assert_non_null(strrchr(w->root, '/'));
    assert_string_equal(c->dit_name, strrchr(w->root, '/') + 1);
    c->dit.timbre_frames = official->dit.timbre_frames;
    checkpoint_close(official);
    expect_same(c, XL);
    checkpoint_close(c);
    remove_tree(place("%s/audio_tokenizer", w->root));
    refuse(w->root, NULL, ACE_ERROR_IO, "audio_tokenizer", NULL);
    close_parts(&p);
}

/* ---- synthetic, faults --------------------------------------------------------------------------------------------
 */

/* The published parameter and tensor counts (dit.md 1.3). */
static void synthetic_checkpoints_have_the_real_dimensions(void **state)
{
    (void)state;
    static const struct {
        const char *variant;
        int64_t parameters[ACE_PART_LM];
        size_t tensors[ACE_PART_LM];
    } cases[] = {{"2b", {2393872518, 595776512, 168695426}, {677, 310, 365}},
                 {"xl", {4987310726, 595776512, 168695426}, {829, 310, 365}}};
    ace_error error = {0};
    for (int i = 0; i < 2; i++) {
        ace_checkpoint *c = checkpoint_open_synthetic(cases[i].variant, &error);
        assert_non_null(c);
        assert_true(c->synthetic && c->dit.is_turbo && c->dit.turbo_known);
        for (int part = 0; part < ACE_PART_LM; part++) {
            int64_t parameters = 0;
            size_t tensors = 0;
            for (size_t k = 0; k < tensors_count(c->files[part]); k++) {
                const ace_tensor *t = tensors_at(c->files[part], k);
                if (t == c->silence) continue;
                parameters += t->count;
                tensors++;
            }
            assert_int_equal(parameters, cases[i].parameters[part]);
            assert_int_equal(tensors, cases[i].tensors[part]);
        }
        float frames[3 * 64];
        assert_true(checkpoint_silence(c, 14999, 3, frames, &error));
        assert_null(checkpoint_tokenizer(c, &error));
        error = (ace_error){0};
        checkpoint_close(c);
    }
    assert_null(checkpoint_open_synthetic("3b", &error));
    assert_int_equal(error.status, ACE_ERROR_USAGE);
}

static void every_refusal_of_the_system_is_survived(void **state)
{
    (void)state;
    ace_checkpoint *c = NULL;
    for (long n = 1; !c; n++) {
        ace_error error = {0};
        ace_fault_arm(n);
        c = checkpoint_open(&(ace_checkpoint_paths){.model = TURBO}, &error);
        ace_fault_arm(0);
        if (!c && error.status != ACE_ERROR_MEMORY && error.status != ACE_ERROR_IO)
            fail_msg("call %ld: %s", n, error.message);
        assert_true(n < 100000);
    }
    checkpoint_close(c);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_official_directory),
        TEST(xl_shards),
        TEST(silence_is_frame_major_and_repeats),
        TEST(the_hash_is_of_the_weights_not_of_the_place),
        TEST(companions_are_found_near_the_dit_or_where_they_are_named),
        TEST(what_is_missing_is_named),
        TEST(planners_are_left_alone),
        TEST(a_config_must_belong_to_its_tensors),
        TEST(a_damaged_file_is_not_passed_over),
        TEST(a_damaged_companion_is_mentioned),
        TEST(comfyui_files),
        TEST(comfyui_all_in_one),
        TEST(gguf_directory),
        TEST(diffusers_directories),
        TEST(synthetic_checkpoints_have_the_real_dimensions),
        TEST(every_refusal_of_the_system_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
