#include "model/checkpoint_names.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Text vocabularies: Qwen's without its added tokens (lm.md 2.5), and the least that a byte-level BPE has. */
enum { QWEN_VOCABULARY = 151643, LEAST_VOCABULARY = 256 };

/* ---- recognising --------------------------------------------------------------------------------------------- */

/* True when name is prefix + ending; the prefix is copied. */
static bool split(const char *name, const char *ending, char prefix[NAMES_PREFIX_SIZE])
{
    size_t n = strlen(name), e = strlen(ending);
    if (n < e || n - e >= NAMES_PREFIX_SIZE || strcmp(name + n - e, ending) != 0) return false;
    if (n > e && name[n - e - 1] != '.') return false;
    memcpy(prefix, name, n - e);
    prefix[n - e] = '\0';
    return true;
}

static bool has(const ace_tensors *tensors, const char *prefix, const char *name)
{
    char whole[NAMES_PREFIX_SIZE + 64];
    snprintf(whole, sizeof whole, "%s%s", prefix, name);
    return tensors_find(tensors, whole) != NULL;
}

/* Embedding stacks inside the DiT have a bias; a language model's table has none. */
static bool is_language_model(const ace_tensors *tensors, const char *prefix)
{
    return !has(tensors, prefix, "embed_tokens.bias") && has(tensors, prefix, "layers.0.self_attn.q_proj.weight") &&
           has(tensors, prefix, "layers.0.self_attn.q_norm.weight") && has(tensors, prefix, "norm.weight");
}

bool names_rows_hold_codes(int64_t rows)
{
    return rows - (rows >= QWEN_VOCABULARY ? QWEN_VOCABULARY : LEAST_VOCABULARY) >= NAMES_AUDIO_CODES;
}

static bool is_planner(const ace_tensors *tensors, const ace_tensor *embedding)
{
    const char *architecture = tensors_metadata(tensors, "general.architecture");
    if (architecture && strcmp(architecture, "acestep-lm") == 0) return true;
    if (architecture && strcmp(architecture, "acestep-text-enc") == 0) return false;
    return embedding->rank == 2 && names_rows_hold_codes(embedding->shape[0]);
}

bool names_find(const ace_tensors *tensors, found_kind kind, char prefix[NAMES_PREFIX_SIZE])
{
    static const char *const endings[FOUND_KINDS] = {
        [FOUND_DIT] = "decoder.layers.0.self_attn.q_proj.weight",
        [FOUND_TEXT_ENCODER] = "embed_tokens.weight",
        [FOUND_VAE] = "decoder.block.0.conv_t1.bias",
        [FOUND_PLANNER] = "embed_tokens.weight",
    };
    for (size_t i = 0; i < tensors_count(tensors); i++) {
        const ace_tensor *tensor = tensors_at(tensors, i);
        if (!split(tensor->name, endings[kind], prefix)) continue;
        if (kind == FOUND_DIT || kind == FOUND_VAE) return true;
        if (is_planner(tensors, tensor) == (kind == FOUND_PLANNER) && is_language_model(tensors, prefix)) return true;
    }
    return false;
}

const char *names_diffusers_directory(diffusers_piece piece)
{
    static const char *const names[] = {NULL, "transformer", "condition_encoder", "audio_tokenizer",
                                        "audio_token_detokenizer"};
    return names[piece];
}

bool names_is_diffusers(const ace_tensors *tensors)
{
    return tensors_find(tensors, "layers.0.self_attn.to_q.weight") && tensors_find(tensors, "proj_in_conv.weight") &&
           tensors_find(tensors, "time_embed_r.linear_1.weight");
}

/* ---- parts --------------------------------------------------------------------------------------------------- */

typedef struct part_entry {
    const char *name; /* into the tensor's own name, or `owned` */
    char *owned;      /* a name that had to be composed */
    const ace_tensor *tensor;
} part_entry;

struct ace_part {
    char *path;
    part_entry *entries; /* sorted by name once finished */
    size_t count, capacity;
};

ace_part *part_new(const char *path, ace_error *error)
{
    ace_part *part = ace_calloc(1, sizeof *part, "a model part", error);
    if (!part) return NULL;
    part->path = ace_strdup(path, error);
    if (part->path) return part;
    free(part);
    return NULL;
}

void part_free(ace_part *part)
{
    if (!part) return;
    for (size_t i = 0; i < part->count; i++) free(part->entries[i].owned);
    free(part->entries);
    free(part->path);
    free(part);
}

/* Takes over `owned`, also on failure. */
static bool add(ace_part *part, const ace_tensor *tensor, const char *name, char *owned, ace_error *error)
{
    if (part->count == part->capacity) {
        size_t capacity = part->capacity ? 2 * part->capacity : 64;
        part_entry *grown = ace_realloc(part->entries, capacity, sizeof *grown, "a model part", error);
        if (!grown) {
            free(owned);
            return false;
        }
        part->entries = grown;
        part->capacity = capacity;
    }
    part->entries[part->count++] = (part_entry){name, owned, tensor};
    return true;
}

bool part_add(ace_part *part, const ace_tensors *tensors, const char *prefix, ace_error *error)
{
    size_t n = strlen(prefix);
    for (size_t i = 0; i < tensors_count(tensors); i++) {
        const ace_tensor *tensor = tensors_at(tensors, i);
        if (strncmp(tensor->name, prefix, n) == 0 && !add(part, tensor, tensor->name + n, NULL, error)) return false;
    }
    return true;
}

bool part_add_head(ace_part *part, const ace_tensors *tensors, const char *prefix, ace_error *error)
{
    static const char body[] = "model.";
    char outside[NAMES_PREFIX_SIZE], name[NAMES_PREFIX_SIZE + 64];
    if (!split(prefix, body, outside)) return true;
    snprintf(name, sizeof name, "%slm_head.weight", outside);
    const ace_tensor *head = tensors_find(tensors, name);
    return !head || add(part, head, head->name + strlen(outside), NULL, error);
}

/* The official name of a tensor in a diffusers directory; caller frees. */
static char *official_name(const char *name, diffusers_piece piece, ace_error *error)
{
    static const char *const prefixes[] = {"", "decoder.", "encoder.", "tokenizer.", "detokenizer."};
    static const char *const renames[][2] = {
        {"proj_in_conv.", "proj_in.1."}, {"proj_out_conv.", "proj_out.1."},
        {".to_q.", ".q_proj."},          {".to_k.", ".k_proj."},
        {".to_v.", ".v_proj."},          {".to_out.0.", ".o_proj."},
        {".norm_q.", ".q_norm."},        {".norm_k.", ".k_norm."},
    };
    ace_text official = {0};
    bool top = strcmp(name, "null_condition_emb") == 0 || strcmp(name, "silence_latent") == 0;
    ace_text_add(&official, top ? "" : prefixes[piece]);
    while (*name) {
        size_t i = 0, count = sizeof renames / sizeof *renames;
        while (i < count && strncmp(name, renames[i][0], strlen(renames[i][0])) != 0) i++;
        if (i < count) {
            ace_text_add(&official, renames[i][1]);
            name += strlen(renames[i][0]);
        } else {
            ace_text_bytes(&official, name++, 1);
        }
    }
    return ace_text_take(&official, error);
}

bool part_add_diffusers(ace_part *part, const ace_tensors *tensors, diffusers_piece piece, ace_error *error)
{
    for (size_t i = 0; i < tensors_count(tensors); i++) {
        const ace_tensor *tensor = tensors_at(tensors, i);
        char *name = official_name(tensor->name, piece, error);
        if (!name || !add(part, tensor, name, name, error)) return false;
    }
    return true;
}

static int entry_order(const void *a, const void *b)
{
    return strcmp(((const part_entry *)a)->name, ((const part_entry *)b)->name);
}

bool part_finish(ace_part *part, ace_error *error)
{
    if (part->count) qsort(part->entries, part->count, sizeof *part->entries, entry_order);
    for (size_t i = 1; i < part->count; i++)
        if (entry_order(&part->entries[i - 1], &part->entries[i]) == 0)
            return ace_fail(error, ACE_ERROR_MODEL, "'%s': tensor \"%s\" occurs twice", part->path,
                            part->entries[i].name);
    return true;
}

const ace_tensor *part_find(const ace_part *part, const char *official_name)
{
    part_entry key = {.name = official_name};
    const part_entry *entry =
        part && part->count ? bsearch(&key, part->entries, part->count, sizeof key, entry_order) : NULL;
    return entry ? entry->tensor : NULL;
}

bool part_has_blocks(const ace_part *part, const char *prefix)
{
    for (size_t i = 0; i < part->count; i++)
        if (strncmp(part->entries[i].name, prefix, strlen(prefix)) == 0 &&
            ace_dtype_block(part->entries[i].tensor->dtype) > 1)
            return true;
    return false;
}

const char *part_path(const ace_part *part)
{
    return part->path;
}
