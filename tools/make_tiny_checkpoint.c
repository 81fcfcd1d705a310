/* make-tiny-checkpoint - writes a small ACE-Step 1.5 checkpoint with random weights.
 *
 * It has every part and every tensor name of an official download, only narrow and shallow (a few megabytes), and is
 * the same, byte for byte, wherever it is made. What comes out of it is noise: it exists so that the whole program can
 * be tested, end to end, against the reference implementations. */
#include "tiny/tiny.h"

#include "base/error.h"
#include "base/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static const char USAGE[] =
    "usage: make-tiny-checkpoint DIRECTORY [--variant NAME] [--layout NAME] [--planner]\n"
    "\n"
    "Writes a tiny ACE-Step 1.5 checkpoint with random weights (noise, not music) into DIRECTORY, which is created.\n"
    "\n"
    "  --variant   turbo (default), base, sft, xl-turbo, xl-base, xl-sft\n"
    "  --layout    official (default): acestep-v15-NAME/, vae/, Qwen3-Embedding-0.6B/\n"
    "              comfyui: split_files/{diffusion_models,text_encoders,vae}/\n"
    "              gguf: acestep-v15-NAME-BF16.gguf, vae-BF16.gguf, Qwen3-Embedding-0.6B-BF16.gguf\n"
    "              gguf-blocks: the same, the DiT wider, always XL turbo, and in Q8_0, Q4_K, Q5_K and Q6_K, the "
    "planner\n"
    "              in Q8_0\n"
    "  --planner   also a 5 Hz planner: acestep-5Hz-lm-tiny/, text_encoders/qwen_tiny_ace15.safetensors or\n"
    "              acestep-5Hz-lm-tiny-BF16.gguf\n";

typedef enum layout { OFFICIAL, COMFYUI, GGUF, GGUF_BLOCKS, LAYOUTS } layout;

static bool make_directory(const char *path, ace_error *error)
{
    if (mkdir(path, 0777) == 0 || (errno == EEXIST && ace_path_is_directory(path))) return true;
    return ace_fail(error, ACE_ERROR_IO, "cannot create the directory %s: %s", path, strerror(errno));
}

/* Creates parent/name; caller frees. */
static char *subdirectory(const char *parent, const char *name, ace_error *error)
{
    char *path = ace_path_join(parent, name, error);
    if (path != NULL && !make_directory(path, error)) {
        free(path);
        return NULL;
    }
    return path;
}

static bool write_dit(const char *root, const tiny_dit_shape *shape, ace_error *error)
{
    enum { XL_SHARDS = 4 };
    tiny_model model = {0};
    ace_text config = {0};
    tiny_dit_tensors(&model, shape);
    tiny_dit_config(&config, shape);
    char *directory = subdirectory(root, shape->directory, error);
    bool ok = directory != NULL && tiny_write_text(directory, "config.json", &config, error) &&
              tiny_write_silence(directory, error);
    if (ok && shape->xl) {
        ok = tiny_write_shards(directory, &model, XL_SHARDS, ACE_F32, error);
    } else if (ok) {
        ok = tiny_write_safetensors(directory, "model.safetensors", &model, "", ACE_BF16, error);
    }
    free(directory);
    ace_text_free(&config);
    tiny_model_free(&model);
    return ok;
}

static bool write_text_encoder(const char *root, const tiny_bpe *bpe, ace_error *error)
{
    tiny_model model = {0};
    ace_text config = {0}, tokenizer = {0};
    tiny_text_encoder_tensors(&model, tiny_bpe_vocab_size(bpe));
    tiny_text_encoder_config(&config, tiny_bpe_vocab_size(bpe));
    tiny_bpe_json(&tokenizer, bpe);
    char *directory = subdirectory(root, "Qwen3-Embedding-0.6B", error);
    bool ok = directory != NULL && tiny_write_text(directory, "config.json", &config, error) &&
              tiny_write_text(directory, "tokenizer.json", &tokenizer, error) &&
              tiny_write_safetensors(directory, "model.safetensors", &model, "", ACE_BF16, error);
    free(directory);
    ace_text_free(&config);
    ace_text_free(&tokenizer);
    tiny_model_free(&model);
    return ok;
}

static bool write_planner(const char *root, const tiny_bpe *bpe, ace_error *error)
{
    tiny_model model = {0};
    ace_text config = {0}, tokenizer = {0}, added = {0};
    int vocab_size = tiny_bpe_vocab_size(bpe) + TINY_AUDIO_CODES;
    tiny_planner_tensors(&model, vocab_size);
    tiny_planner_config(&config, vocab_size);
    tiny_bpe_planner_json(&tokenizer, bpe);
    tiny_bpe_planner_added_json(&added, bpe);
    char *directory = subdirectory(root, "acestep-5Hz-lm-tiny", error);
    bool ok = directory != NULL && tiny_write_text(directory, "config.json", &config, error) &&
              tiny_write_text(directory, "tokenizer.json", &tokenizer, error) &&
              tiny_write_text(directory, "added_tokens.json", &added, error) &&
              tiny_write_safetensors(directory, "model.safetensors", &model, "", ACE_BF16, error);
    free(directory);
    ace_text_free(&config);
    ace_text_free(&tokenizer);
    ace_text_free(&added);
    tiny_model_free(&model);
    return ok;
}

static bool write_vae(const char *root, ace_error *error)
{
    tiny_model model = {0};
    ace_text config = {0};
    tiny_vae_tensors(&model);
    tiny_vae_config(&config);
    char *directory = subdirectory(root, "vae", error);
    bool ok = directory != NULL && tiny_write_text(directory, "config.json", &config, error) &&
              tiny_write_safetensors(directory, "diffusion_pytorch_model.safetensors", &model, "", ACE_BF16, error);
    free(directory);
    ace_text_free(&config);
    tiny_model_free(&model);
    return ok;
}

static bool write_official(const char *root, const tiny_dit_shape *shape, const tiny_bpe *bpe, bool planner,
                           ace_error *error)
{
    return write_dit(root, shape, error) && write_text_encoder(root, bpe, error) && write_vae(root, error) &&
           (!planner || write_planner(root, bpe, error));
}

/* One single file of ComfyUI's repackaging: BF16, no config, no tokenizer, no silence latent (dit.md 1.9). */
static bool write_comfyui_file(const char *parent, const char *folder, const char *name, tiny_model *model,
                               const char *prefix, ace_error *error)
{
    char *directory = subdirectory(parent, folder, error);
    bool ok = directory != NULL && tiny_write_safetensors(directory, name, model, prefix, ACE_BF16, error);
    free(directory);
    tiny_model_free(model);
    return ok;
}

static bool write_comfyui(const char *root, const tiny_dit_shape *shape, const tiny_bpe *bpe, bool planner,
                          ace_error *error)
{
    char dit_name[64];
    snprintf(dit_name, sizeof dit_name, "acestep_v1.5%s_%s%s.safetensors", shape->xl ? "_xl" : "", shape->version,
             shape->xl ? "_bf16" : "");
    tiny_model dit = {0}, text_encoder = {0}, vae = {0}, lm = {0};
    tiny_dit_tensors(&dit, shape);
    tiny_text_encoder_tensors(&text_encoder, tiny_bpe_vocab_size(bpe));
    tiny_vae_tensors(&vae);
    if (planner) tiny_planner_tensors(&lm, tiny_bpe_vocab_size(bpe) + TINY_AUDIO_CODES);
    char *parent = subdirectory(root, "split_files", error);
    bool ok =
        parent != NULL && write_comfyui_file(parent, "diffusion_models", dit_name, &dit, "", error) &&
        write_comfyui_file(parent, "text_encoders", "qwen_0.6b_ace15.safetensors", &text_encoder, "model.", error) &&
        write_comfyui_file(parent, "vae", "ace_1.5_vae.safetensors", &vae, "", error) &&
        (!planner || write_comfyui_file(parent, "text_encoders", "qwen_tiny_ace15.safetensors", &lm, "model.", error));
    free(parent);
    tiny_model_free(&dit);
    tiny_model_free(&text_encoder);
    tiny_model_free(&vae);
    tiny_model_free(&lm);
    return ok;
}

static bool write_gguf(const char *root, const tiny_dit_shape *shape, const tiny_bpe *bpe, bool planner,
                       ace_error *error)
{
    return tiny_write_gguf_dit(root, shape, error) && tiny_write_gguf_text_encoder(root, bpe, error) &&
           tiny_write_gguf_vae(root, error) && (!planner || tiny_write_gguf_planner(root, bpe, error));
}

static bool write_gguf_blocks(const char *root, const tiny_bpe *bpe, bool planner, ace_error *error)
{
    tiny_dit_shape shape = tiny_dit_shape_for_blocks();
    return tiny_write_gguf_dit_blocks(root, &shape, error) && tiny_write_gguf_text_encoder(root, bpe, error) &&
           tiny_write_gguf_vae(root, error) && (!planner || tiny_write_gguf_planner_blocks(root, bpe, error));
}

/* The index of `value` among `count` names, or -1. */
static int choice(const char *value, const char *const *names, int count)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(value, names[i]) == 0) return i;
    }
    return -1;
}

int main(int argc, char **argv)
{
    static const char *const variants[] = {"turbo", "base", "sft", "xl-turbo", "xl-base", "xl-sft"};
    static const char *const layouts[] = {"official", "comfyui", "gguf", "gguf-blocks"};
    const char *root = NULL;
    int variant = TINY_TURBO, form = OFFICIAL;
    bool planner = false;
    for (int i = 1; i < argc; i++) {
        bool has_value = i + 1 < argc;
        if (has_value && strcmp(argv[i], "--variant") == 0) {
            variant = choice(argv[++i], variants, TINY_VARIANTS);
        } else if (has_value && strcmp(argv[i], "--layout") == 0) {
            form = choice(argv[++i], layouts, LAYOUTS);
        } else if (strcmp(argv[i], "--planner") == 0) {
            planner = true;
        } else if (root == NULL && argv[i][0] != '-') {
            root = argv[i];
        } else {
            variant = -1;
        }
    }
    if (root == NULL || variant < 0 || form < 0) {
        fputs(USAGE, stderr);
        return ACE_ERROR_USAGE;
    }

    ace_error error = {0};
    tiny_dit_shape shape = tiny_dit_shape_of((tiny_variant)variant);
    tiny_bpe *bpe = tiny_bpe_learn(&error);
    bool ok = bpe != NULL && make_directory(root, &error);
    if (ok && form == OFFICIAL) ok = write_official(root, &shape, bpe, planner, &error);
    if (ok && form == COMFYUI) ok = write_comfyui(root, &shape, bpe, planner, &error);
    if (ok && form == GGUF) ok = write_gguf(root, &shape, bpe, planner, &error);
    if (ok && form == GGUF_BLOCKS) ok = write_gguf_blocks(root, bpe, planner, &error);
    tiny_bpe_free(bpe);
    if (!ok) fprintf(stderr, "make-tiny-checkpoint: %s\n", error.message);
    return (int)error.status;
}
