/* make-real-size-checkpoint - writes a checkpoint of the published dimensions with random weights: gigabytes of noise,
 * for measuring memory and speed where weights must come from files (streamed layers, cold starts). Its tokenizers are
 * the small ones of make-tiny-checkpoint. */
#include "tiny/tiny.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "model/checkpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static const char USAGE[] =
    "usage: make-real-size-checkpoint DIRECTORY VARIANT\n"
    "\n"
    "Writes random weights of the published dimensions (noise, not music) into DIRECTORY, which is created. VARIANT is "
    "2b\n"
    "or xl, with a planner 2b+0.6B, xl+4B and so on. A part that is there already is left as it is.\n";

enum { CHUNK = 1 << 20 }; /* elements converted at a time */

static bool make_directory(const char *path, ace_error *error)
{
    if (mkdir(path, 0777) == 0 || (errno == EEXIST && ace_path_is_directory(path))) return true;
    return ace_fail(error, ACE_ERROR_IO, "cannot create the directory %s: %s", path, strerror(errno));
}

/* ---- safetensors ------------------------------------------------------------------------------------------------- */

/* Whether a tensor goes into a file of weights: the silence latent has a file of its own. */
static bool is_weight(const ace_tensor *tensor)
{
    return strcmp(tensor->name, "silence_latent") != 0;
}

static char *header_of(const ace_tensors *tensors, size_t *length, ace_error *error)
{
    ace_text header = {0};
    size_t offset = 0;
    ace_text_add(&header, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < tensors_count(tensors); i++) {
        const ace_tensor *tensor = tensors_at(tensors, i);
        if (!is_weight(tensor)) continue;
        ace_text_format(&header, ",\"%s\":{\"dtype\":\"BF16\",\"shape\":[", tensor->name);
        for (int d = 0; d < tensor->rank; d++)
            ace_text_format(&header, d ? ",%lld" : "%lld", (long long)tensor->shape[d]);
        ace_text_format(&header, "],\"data_offsets\":[%zu,%zu]}", offset, offset + 2 * (size_t)tensor->count);
        offset += 2 * (size_t)tensor->count;
    }
    ace_text_add(&header, "}");
    while (!header.failed && header.length % 8 != 0) ace_text_add(&header, " ");
    *length = header.length;
    return ace_text_take(&header, error);
}

/* bfloat16 values lie in memory as in the file: this tool is for little-endian machines, as the program is. */
static bool write_values(int fd, const ace_tensor *tensor, uint16_t *values, const char *path, ace_error *error)
{
    for (int64_t done = 0; done < tensor->count; done += CHUNK) {
        int64_t now = tensor->count - done < CHUNK ? tensor->count - done : CHUNK;
        if (!tensor_read_bf16(tensor, done, now, values, error) ||
            !ace_write_all(fd, values, 2 * (size_t)now, path, error))
            return false;
    }
    return true;
}

static bool write_weights(const char *directory, const char *name, const ace_tensors *tensors, ace_error *error)
{
    struct stat info;
    size_t length = 0;
    ace_new_file file;
    char *path = ace_path_join(directory, name, error);
    bool ok = path != NULL;
    if (!ok || stat(path, &info) == 0) {
        free(path);
        return ok;
    }
    char *header = header_of(tensors, &length, error);
    uint16_t *values = header ? ace_calloc(CHUNK, sizeof *values, "a part of a tensor", error) : NULL;
    uint8_t size[8];
    for (int b = 0; b < 8; b++) size[b] = (uint8_t)((uint64_t)length >> (8 * b));
    ok = values && ace_new_file_begin(&file, path, true, error);
    if (ok) {
        ok = ace_write_all(file.fd, size, sizeof size, path, error) &&
             ace_write_all(file.fd, header, length, path, error);
        for (size_t i = 0; ok && i < tensors_count(tensors); i++)
            if (is_weight(tensors_at(tensors, i)))
                ok = write_values(file.fd, tensors_at(tensors, i), values, path, error);
        ok = ok && ace_new_file_commit(&file, error);
        ace_new_file_abandon(&file);
    }
    free(values);
    free(header);
    free(path);
    return ok;
}

/* ---- configs ----------------------------------------------------------------------------------------------------- */

static void describe_stack(ace_text *json, const transformer_config *stack)
{
    ace_text_format(json,
                    "{\"hidden_size\": %d, \"intermediate_size\": %d, \"num_hidden_layers\": %d, "
                    "\"num_attention_heads\": %d, \"num_key_value_heads\": %d, \"head_dim\": %d",
                    stack->hidden, stack->intermediate, stack->layers, stack->heads, stack->kv_heads, stack->head_dim);
}

static void describe_dit(ace_text *json, const dit_config *config)
{
    const transformer_config *encoder = &config->encoder;
    describe_stack(json, &config->dit);
    if (encoder->hidden != config->dit.hidden)
        ace_text_format(json,
                        ", \"encoder_hidden_size\": %d, \"encoder_intermediate_size\": %d, "
                        "\"encoder_num_attention_heads\": %d, \"encoder_num_key_value_heads\": %d",
                        encoder->hidden, encoder->intermediate, encoder->heads, encoder->kv_heads);
    ace_text_format(json, ", \"model_type\": \"acestep\", \"is_turbo\": %s}\n", config->is_turbo ? "true" : "false");
}

static void describe_qwen3(ace_text *json, const qwen3_config *config, const char *architecture)
{
    describe_stack(json, &config->stack);
    ace_text_format(json,
                    ", \"architectures\": [\"%s\"], \"model_type\": \"qwen3\", \"rope_theta\": 1000000, "
                    "\"tie_word_embeddings\": true, \"vocab_size\": %d}\n",
                    architecture, config->vocab_size);
}

/* ---- the parts --------------------------------------------------------------------------------------------------- */

/* A directory with a config and, where there is one, a tokenizer. Caller frees the path. */
static char *new_part(const char *root, const char *name, ace_text *config, ace_text *tokenizer, ace_error *error)
{
    char *path = ace_path_join(root, name, error);
    if (path && make_directory(path, error) && tiny_write_text(path, "config.json", config, error) &&
        (!tokenizer || tiny_write_text(path, "tokenizer.json", tokenizer, error)))
        return path;
    free(path);
    return NULL;
}

static bool write_dit(const char *root, const ace_checkpoint *c, bool xl, ace_error *error)
{
    ace_text config = {0};
    describe_dit(&config, &c->dit);
    char *path = new_part(root, xl ? "acestep-v15-xl-turbo" : "acestep-v15-turbo", &config, NULL, error);
    bool ok = path && tiny_write_silence(path, error) &&
              write_weights(path, "model.safetensors", c->files[ACE_PART_DIT], error);
    free(path);
    return ok;
}

static bool write_text_encoder(const char *root, const ace_checkpoint *c, const tiny_bpe *bpe, ace_error *error)
{
    ace_text config = {0}, tokenizer = {0};
    describe_qwen3(&config, &c->text_encoder, "Qwen3ForCausalLM");
    tiny_bpe_json(&tokenizer, bpe);
    char *path = new_part(root, "Qwen3-Embedding-0.6B", &config, &tokenizer, error);
    bool ok = path && write_weights(path, "model.safetensors", c->files[ACE_PART_TEXT_ENCODER], error);
    free(path);
    return ok;
}

static bool write_vae(const char *root, const ace_checkpoint *c, ace_error *error)
{
    ace_text config = {0};
    ace_text_add(&config, "{\"_class_name\": \"AutoencoderOobleck\"}\n");
    char *path = new_part(root, "vae", &config, NULL, error);
    bool ok = path && write_weights(path, "diffusion_pytorch_model.safetensors", c->files[ACE_PART_VAE], error);
    free(path);
    return ok;
}

static bool write_planner(const char *root, const ace_checkpoint *c, const char *size, const tiny_bpe *bpe,
                          ace_error *error)
{
    ace_text config = {0}, tokenizer = {0};
    char name[64];
    snprintf(name, sizeof name, "acestep-5Hz-lm-%.16s", size);
    describe_qwen3(&config, &c->lm, "Qwen3Model");
    tiny_bpe_planner_json(&tokenizer, bpe);
    char *path = new_part(root, name, &config, &tokenizer, error);
    bool ok = path && write_weights(path, "model.safetensors", c->lm_tensors, error);
    free(path);
    return ok;
}

int main(int argc, char **argv)
{
    ace_error error = {0};
    if (argc != 3 || argv[1][0] == '-') {
        fputs(USAGE, stderr);
        return 2;
    }
    const char *root = argv[1], *plus = strchr(argv[2], '+');
    ace_checkpoint *c = checkpoint_open_synthetic(argv[2], &error);
    tiny_bpe *bpe = c ? tiny_bpe_learn(&error) : NULL;
    bool ok = bpe && make_directory(root, &error) && write_dit(root, c, strncmp(argv[2], "xl", 2) == 0, &error) &&
              write_text_encoder(root, c, bpe, &error) && write_vae(root, c, &error) &&
              (!plus || write_planner(root, c, plus + 1, bpe, &error));
    tiny_bpe_free(bpe);
    if (c) checkpoint_close(c);
    if (!ok) fprintf(stderr, "make-real-size-checkpoint: %s\n", error.message);
    return ok ? 0 : 1;
}
