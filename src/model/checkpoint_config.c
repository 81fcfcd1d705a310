#include "model/checkpoint_config.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "formats/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONFIG_LIMIT = 4 << 20, CONFIG_DEPTH = 32 };

/* ---- finding the text ------------------------------------------------------------------------------------------- */

/* A config as JSON text; `text` is NULL when there is none. */
typedef struct config_text {
    char *text;
    size_t size;
    char *where;
} config_text;

static void free_text(config_text *config)
{
    free(config->text);
    free(config->where);
    *config = (config_text){0};
}

/* Whether a config.json is of that kind of model: several files may share a directory. */
static bool belongs(const json_t *root, found_kind kind)
{
    static const char *const types[FOUND_KINDS] = {"acestep", "qwen3", "AutoencoderOobleck", "qwen3"};
    const char *type = json_string_value(json_object_get(root, "model_type"));
    if (!type) type = json_string_value(json_object_get(root, "_class_name"));
    if (type) return strcmp(type, types[kind]) == 0 || (kind == FOUND_DIT && strncmp(type, "AceStep", 7) == 0);
    return kind == FOUND_DIT && json_has(root, "audio_acoustic_hidden_dim");
}

static bool read_beside(const found_model *model, config_text *config, ace_error *error)
{
    config->where = ace_path_join(model->directory, "config.json", error);
    if (!config->where) return false;
    if (!ace_path_exists(config->where)) return true;
    char *text = ace_read_file(config->where, CONFIG_LIMIT, &config->size, error);
    json_t *root = text ? json_parse(text, config->size, CONFIG_DEPTH, config->where, error) : NULL;
    bool ok = root != NULL;
    if (ok && belongs(root, model->kind))
        config->text = text;
    else
        free(text);
    json_decref(root);
    return ok;
}

static bool find_text(const found_model *model, config_text *config, ace_error *error)
{
    *config = (config_text){0};
    const char *metadata = tensors_metadata(model->tensors, "acestep.config_json");
    if (!metadata) return read_beside(model, config, error);
    config->text = ace_strdup(metadata, error);
    config->where = ace_strdup(model->path, error);
    config->size = strlen(metadata);
    return config->text && config->where;
}

/* ---- GGUF keys without the whole config -----------------------------------------------------------------------------
 */

static void gguf_number_key(const ace_tensors *tensors, const char *suffix, double *value)
{
    char key[160];
    const char *architecture = tensors_metadata(tensors, "general.architecture");
    if (!architecture) return;
    snprintf(key, sizeof key, "%.100s.%s", architecture, suffix);
    tensors_metadata_number(tensors, key, value);
}

static void gguf_stack_keys(const ace_tensors *tensors, transformer_config *stack)
{
    double epsilon = (double)stack->rms_norm_eps;
    gguf_number_key(tensors, "attention.layer_norm_rms_epsilon", &epsilon);
    gguf_number_key(tensors, "rope.freq_base", &stack->rope_theta);
    stack->rms_norm_eps = epsilon > 0 && epsilon < 1 ? (float)epsilon : 0; /* 0 is refused as invalid */
}

/* What shapes cannot tell. is_turbo is only written when it is true, so a file of ours that lacks it is none. */
static void gguf_dit_keys(const ace_tensors *tensors, dit_config *config)
{
    const char *architecture = tensors_metadata(tensors, "general.architecture");
    if (!architecture || strcmp(architecture, "acestep-dit") != 0) return;
    double window = config->sliding_window, turbo = 0;
    gguf_stack_keys(tensors, &config->dit);
    config->encoder.rms_norm_eps = config->dit.rms_norm_eps;
    config->encoder.rope_theta = config->dit.rope_theta;
    tensors_metadata_number(tensors, "acestep.sliding_window", &window);
    tensors_metadata_number(tensors, "acestep.is_turbo", &turbo);
    config->sliding_window = window >= 1 && window <= 1 << 20 ? (int)window : 0;
    config->is_turbo = turbo != 0;
    config->turbo_known = true;
}

/* ---- the kinds --------------------------------------------------------------------------------------------- */

/* A diffusers transformer's config knows nothing of the other directories: only what shapes cannot tell is taken. */
static bool merge_diffusers(dit_config *config, const config_text *text, ace_error *error)
{
    dit_config told;
    if (!dit_config_parse(&told, text->text, text->size, text->where, error)) return false;
    config->sliding_window = told.sliding_window;
    memcpy(config->sliding, told.sliding, sizeof config->sliding);
    config->dit.rms_norm_eps = config->encoder.rms_norm_eps = told.dit.rms_norm_eps;
    config->dit.rope_theta = config->encoder.rope_theta = told.dit.rope_theta;
    config->is_turbo = told.is_turbo;
    config->turbo_known = told.turbo_known;
    return true;
}

bool found_dit_config(const found_model *model, const ace_part *part, const char *name, dit_config *config,
                      ace_error *error)
{
    config_text text;
    bool ok = find_text(model, &text, error);
    if (ok && text.text && !model->diffusers) {
        ok = dit_config_parse(config, text.text, text.size, text.where, error);
    } else if (ok) {
        ok = dit_config_from_shapes(config, part, error);
        if (ok && text.text) ok = merge_diffusers(config, &text, error);
        if (ok && !text.text) gguf_dit_keys(model->tensors, config);
    }
    int recipe = config_recipe_of_name(name);
    if (ok && !config->turbo_known && recipe >= 0) {
        config->turbo_known = true;
        config->is_turbo = recipe == 1;
    }
    free_text(&text);
    return ok && dit_config_valid(config, model->path, error) && dit_config_check(config, part, error);
}

static bool found_qwen3_config(const found_model *model, const ace_part *part, qwen3_config *config, ace_error *error)
{
    config_text text;
    bool ok = find_text(model, &text, error);
    if (ok && text.text) {
        ok = qwen3_config_parse(config, text.text, text.size, text.where, error);
    } else if (ok) {
        ok = qwen3_config_from_shapes(config, part, error);
        if (ok) gguf_stack_keys(model->tensors, &config->stack);
    }
    free_text(&text);
    return ok && qwen3_config_valid(config, model->path, error) && qwen3_config_check(config, part, error);
}

bool found_text_encoder_config(const found_model *model, const ace_part *part, qwen3_config *config, ace_error *error)
{
    return found_qwen3_config(model, part, config, error);
}

bool found_lm_config(const found_model *model, const ace_part *part, qwen3_config *config, ace_error *error)
{
    if (!found_qwen3_config(model, part, config, error)) return false;
    if (!names_rows_hold_codes(config->vocab_size))
        return ace_fail(error, ACE_ERROR_MODEL,
                        "the planner '%s' has a vocabulary of %d, without room for %d audio codes", model->path,
                        config->vocab_size, NAMES_AUDIO_CODES);
    const ace_tensor *head = part_find(part, "lm_head.weight");
    if (config->tied_head) return true;
    if (!head)
        return ace_fail(
            error, ACE_ERROR_MODEL,
            "the planner '%s' has no lm_head.weight, but its config says that the head is not the embedding "
            "(tie_word_embeddings false): one of the two belongs to another model",
            model->path);
    if (head->rank != 2 || head->shape[0] != config->vocab_size || head->shape[1] != config->stack.hidden)
        return ace_fail(error, ACE_ERROR_MODEL, "the planner '%s': lm_head.weight is not a matrix of %d x %d",
                        model->path, config->vocab_size, config->stack.hidden);
    return true;
}

bool found_vae_config(const found_model *model, const ace_part *part, vae_config *config, ace_error *error)
{
    config_text text;
    bool ok = find_text(model, &text, error);
    if (ok)
        ok = text.text ? vae_config_parse(config, text.text, text.size, text.where, error)
                       : vae_config_from_shapes(config, part, error);
    free_text(&text);
    return ok && vae_config_check_tensors(config, part, error);
}
