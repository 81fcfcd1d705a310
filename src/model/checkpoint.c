#include "model/checkpoint.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "model/checkpoint_config.h"
#include "model/checkpoint_lm.h"
#include "model/checkpoint_scan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

enum { SEARCH_DEPTH = 3, NEAR_DEPTH = 2, MODEL, OVERRIDES, NEAR = OVERRIDES + ACE_PART_COUNT, SCANS };
enum { REQUIRED_PARTS = ACE_PART_LM };

/* The search for a checkpoint: what lies in the model's directory, where each override points, and near the DiT. */
typedef struct search {
    const ace_checkpoint_paths *paths;
    checkpoint_scan scans[SCANS];
    const found_model *chosen[ACE_PART_COUNT];
    ace_checkpoint *checkpoint;
    ace_error *error;
} search;

static const char *const part_options[ACE_PART_COUNT] = {"--dit", "--text-encoder", "--vae", "--lm"};

/* ---- choosing --------------------------------------------------------------------------------------------------- */

static bool fail_several(const checkpoint_scan *scan, found_kind kind, ace_error *error)
{
    ace_text found = {0};
    scan_describe(scan, (int)kind, &found);
    char *list = ace_text_take(&found, error);
    if (list)
        ace_fail(error, ACE_ERROR_MODEL, "there are several models to choose from (%s): name one with %s", list,
                 part_options[kind]);
    free(list);
    return false;
}

/* Takes the one model of a kind in a scan; none is no failure. */
static bool choose(search *s, const checkpoint_scan *scan, found_kind kind)
{
    const found_model *found = NULL;
    if (scan_count(scan, kind, &found) > 1) return fail_several(scan, kind, s->error);
    s->chosen[kind] = found;
    return true;
}

/* An override names a file or directory, as it is or below the model's directory; it must hold the part. */
static bool search_override(search *s, found_kind kind, const char *path)
{
    checkpoint_scan *scan = &s->scans[OVERRIDES + kind];
    char *inside = NULL;
    if (!ace_path_exists(path) && s->paths->model) {
        inside = ace_path_join(s->paths->model, path, s->error);
        if (!inside) return false;
    }
    const char *place = inside && ace_path_exists(inside) ? inside : path;
    bool ok = scan_path(scan, place, SEARCH_DEPTH, s->error) && choose(s, scan, kind);
    if (ok && !s->chosen[kind]) {
        ace_text found = {0};
        scan_describe(scan, SCAN_ANY_KIND, &found);
        char *list = ace_text_take(&found, s->error);
        ok = ace_fail(s->error, ACE_ERROR_MODEL, "%s '%s' holds no %s (found: %s)", part_options[kind], path,
                      found_kind_name(kind), list ? list : "");
        free(list);
    }
    free(inside);
    return ok;
}

/* The directory above the one in which the DiT lies, where its companions often are: as the path says, so that a
 * link to a DiT belongs where the link is. Caller frees. */
static char *near_directory(const found_model *dit, ace_error *error)
{
    const char *path = dit->directory, *slash = strrchr(path, '/'), *last = slash ? slash + 1 : path;
    if (!*last || strcmp(last, ".") == 0 || strcmp(last, "..") == 0) return ace_path_join(path, "..", error);
    ace_text above = {0};
    if (slash)
        ace_text_bytes(&above, path, slash == path ? 1 : (size_t)(slash - path));
    else
        ace_text_add(&above, ".");
    return ace_text_take(&above, error);
}

static bool fail_missing(search *s, found_kind kind)
{
    static const char *const remedies[REQUIRED_PARTS] = {
        "download ACE-Step/Ace-Step1.5 and name its directory with --model",
        "put the directory Qwen3-Embedding-0.6B of ACE-Step/Ace-Step1.5 there, or name it with --text-encoder",
        "put the directory vae of ACE-Step/Ace-Step1.5 there, or name it with --vae",
    };
    const checkpoint_scan *near = &s->scans[NEAR];
    ace_text found = {0};
    scan_describe(&s->scans[s->paths->model ? MODEL : OVERRIDES], SCAN_ANY_KIND, &found);
    char *list = ace_text_take(&found, s->error);
    const char *unreadable = near->unreadable.status ? near->unreadable.message : "";
    if (list)
        ace_fail(s->error, ACE_ERROR_MODEL, "no %s in '%s' (found: %s)%s%s; %s", found_kind_name(kind),
                 s->paths->model ? s->paths->model : s->paths->dit, list, *unreadable ? "; not readable: " : "",
                 unreadable, remedies[kind]);
    free(list);
    return false;
}

/* The parts that are not there are looked for near the DiT. */
static bool search_near(search *s)
{
    char *near = near_directory(s->chosen[ACE_PART_DIT], s->error);
    s->scans[NEAR].tolerant = true;
    bool ok = near && scan_path(&s->scans[NEAR], near, NEAR_DEPTH, s->error);
    free(near);
    for (int kind = ACE_PART_TEXT_ENCODER; ok && kind < REQUIRED_PARTS; kind++) {
        if (s->chosen[kind]) continue;
        ok = choose(s, &s->scans[NEAR], (found_kind)kind) && (s->chosen[kind] || fail_missing(s, (found_kind)kind));
    }
    return ok;
}

/* The planner that was named, or else one of those that the search for the parts met. */
static bool search_lm(search *s)
{
    const checkpoint_scan *scan = &s->scans[MODEL];
    const found_model *first = NULL;
    if (s->paths->lm) {
        scan = &s->scans[OVERRIDES + ACE_PART_LM];
        if (!search_override(s, FOUND_PLANNER, s->paths->lm)) return false;
    } else {
        if (scan_count(scan, FOUND_PLANNER, &first) == 0) scan = &s->scans[NEAR];
        const char *where = s->paths->model ? s->paths->model : s->paths->dit;
        s->chosen[ACE_PART_LM] = lm_choose_found(scan, where, &s->checkpoint->lm_problem);
        if (s->checkpoint->lm_problem.status == ACE_ERROR_MEMORY)
            return ace_fail(s->error, ACE_ERROR_MEMORY, "%s", s->checkpoint->lm_problem.message);
    }
    return lm_list(s->checkpoint, scan, s->error);
}

static bool search_parts(search *s)
{
    const char *overrides[REQUIRED_PARTS] = {s->paths->dit, s->paths->text_encoder, s->paths->vae};
    if (!s->paths->model && !s->paths->dit)
        return ace_fail(s->error, ACE_ERROR_USAGE, "no checkpoint was named: pass --model DIRECTORY");
    if (s->paths->model && !scan_path(&s->scans[MODEL], s->paths->model, SEARCH_DEPTH, s->error)) return false;
    for (int kind = 0; kind < REQUIRED_PARTS; kind++) {
        bool ok = overrides[kind] ? search_override(s, (found_kind)kind, overrides[kind])
                                  : choose(s, &s->scans[MODEL], (found_kind)kind);
        if (!ok) return false;
    }
    if (!s->chosen[ACE_PART_DIT]) return fail_missing(s, FOUND_DIT);
    bool complete = s->chosen[ACE_PART_TEXT_ENCODER] && s->chosen[ACE_PART_VAE];
    return (complete || search_near(s)) && search_lm(s);
}

/* ---- building --------------------------------------------------------------------------------------------------- */

static bool among_files(const ace_checkpoint *checkpoint, const ace_tensors *tensors)
{
    for (size_t i = 0; i < checkpoint->file_count; i++)
        if (checkpoint->files[i] == tensors) return true;
    return false;
}

/* Makes the checkpoint the owner of a set. */
static bool own(ace_checkpoint *checkpoint, ace_tensors *tensors, ace_error *error)
{
    if (among_files(checkpoint, tensors)) return true;
    ace_tensors **grown =
        ace_realloc(checkpoint->files, checkpoint->file_count + 1, sizeof *grown, "a list of files", error);
    if (!grown) return false;
    checkpoint->files = grown;
    grown[checkpoint->file_count++] = tensors;
    return true;
}

/* Takes a set from the scan that opened it. */
static void take(search *s, const ace_tensors *tensors)
{
    for (int scan = 0; scan < SCANS; scan++)
        for (size_t i = 0; i < s->scans[scan].set_count; i++)
            if (s->scans[scan].sets[i] == tensors) s->scans[scan].sets[i] = NULL;
}

/* Moves a set from the scan that opened it to the checkpoint. */
static bool adopt(search *s, ace_tensors *tensors)
{
    if (!own(s->checkpoint, tensors, s->error)) return false;
    take(s, tensors);
    return true;
}

/* Opens the weights of a sibling directory of a diffusers transformer. */
static ace_tensors *open_piece(const char *root, const char *directory, ace_error *error)
{
    static const char *const names[] = {"diffusion_pytorch_model.safetensors.index.json",
                                        "diffusion_pytorch_model.safetensors"};
    char path[4096];
    for (int i = 0; i < 2; i++) {
        int n = snprintf(path, sizeof path, "%s/../%s/%s", root, directory, names[i]);
        if (n > 0 && (size_t)n < sizeof path && (i == 1 || ace_path_exists(path))) return tensors_open(path, error);
    }
    ace_fail(error, ACE_ERROR_IO, "the path of '%s' is too long", root);
    return NULL;
}

static bool add_diffusers(search *s, ace_part *part, const found_model *model)
{
    if (!part_add_diffusers(part, model->tensors, DIFFUSERS_TRANSFORMER, s->error)) return false;
    for (int piece = DIFFUSERS_CONDITION_ENCODER; piece <= DIFFUSERS_DETOKENIZER; piece++) {
        const char *directory = names_diffusers_directory((diffusers_piece)piece);
        ace_tensors *tensors = open_piece(model->directory, directory, s->error);
        if (!tensors) return false;
        if (!own(s->checkpoint, tensors, s->error)) {
            tensors_close(tensors);
            return false;
        }
        if (!part_add_diffusers(part, tensors, (diffusers_piece)piece, s->error)) return false;
    }
    return true;
}

static bool build_part(search *s, int kind)
{
    const found_model *model = s->chosen[kind];
    ace_part *part = s->checkpoint->parts[kind] = part_new(model->path, s->error);
    if (!part || !adopt(s, model->tensors)) return false;
    bool ok =
        model->diffusers ? add_diffusers(s, part, model) : part_add(part, model->tensors, model->prefix, s->error);
    return ok && part_finish(part, s->error);
}

/* "acestep-v15-turbo": the name of the file, or of its directory where the file's name says nothing. */
static char *model_name(const found_model *model, ace_error *error)
{
    const char *slash = strrchr(model->path, '/'), *file = slash ? slash + 1 : model->path;
    if (model->diffusers || strncmp(file, "model", 5) == 0 || strncmp(file, "diffusion_pytorch_model", 23) == 0) {
        char *directory = ace_path_join(model->directory, model->diffusers ? ".." : "", error);
        char *real = directory ? realpath(directory, NULL) : NULL;
        const char *last = real ? strrchr(real, '/') : NULL;
        char *name = directory ? ace_strdup(last && last[1] ? last + 1 : directory, error) : NULL;
        free(directory);
        free(real);
        return name;
    }
    const char *dot = strrchr(file, '.');
    ace_text name = {0};
    ace_text_bytes(&name, file, dot ? (size_t)(dot - file) : strlen(file));
    return ace_text_take(&name, error);
}

static bool read_configs(search *s)
{
    ace_checkpoint *c = s->checkpoint;
    c->dit_name = model_name(s->chosen[ACE_PART_DIT], s->error);
    if (!c->dit_name ||
        !found_dit_config(s->chosen[ACE_PART_DIT], c->parts[ACE_PART_DIT], c->dit_name, &c->dit, s->error) ||
        !found_text_encoder_config(s->chosen[ACE_PART_TEXT_ENCODER], c->parts[ACE_PART_TEXT_ENCODER], &c->text_encoder,
                                   s->error) ||
        !found_vae_config(s->chosen[ACE_PART_VAE], c->parts[ACE_PART_VAE], &c->vae, s->error))
        return false;
    if (c->text_encoder.stack.hidden != c->dit.text_hidden)
        return ace_fail(s->error, ACE_ERROR_MODEL,
                        "the text encoder '%s' is %d wide, but the DiT '%s' expects %d: name another with "
                        "--text-encoder",
                        part_path(c->parts[ACE_PART_TEXT_ENCODER]), c->text_encoder.stack.hidden,
                        part_path(c->parts[ACE_PART_DIT]), c->dit.text_hidden);
    if (c->vae.latent_channels != c->dit.latent_channels)
        return ace_fail(s->error, ACE_ERROR_MODEL,
                        "the VAE '%s' has %d latent channels, but the DiT '%s' expects %d: name another with --vae",
                        part_path(c->parts[ACE_PART_VAE]), c->vae.latent_channels, part_path(c->parts[ACE_PART_DIT]),
                        c->dit.latent_channels);
    return true;
}

static bool read_lm(ace_checkpoint *c, const found_model *model, ace_error *error)
{
    ace_part *part = c->parts[ACE_PART_LM] = part_new(model->path, error);
    c->lm_name = model_name(model, error);
    c->lm_directory = ace_strdup(model->directory, error);
    return part && c->lm_name && c->lm_directory && part_add(part, model->tensors, model->prefix, error) &&
           part_add_head(part, model->tensors, model->prefix, error) && part_finish(part, error) &&
           found_lm_config(model, part, &c->lm, error);
}

static void drop_lm(ace_checkpoint *c)
{
    part_free(c->parts[ACE_PART_LM]);
    free(c->lm_name);
    free(c->lm_directory);
    if (!among_files(c, c->lm_tensors)) tensors_close(c->lm_tensors);
    c->parts[ACE_PART_LM] = NULL;
    c->lm_name = c->lm_directory = NULL;
    c->lm_tensors = NULL;
    c->lm = (qwen3_config){0};
    c->has_lm = false;
}

/* The planner comes last, when it is known whether it shares a file with a part. One that nobody named and that cannot
 * be used is left out: songs do not need it. */
static bool build_lm(search *s)
{
    ace_checkpoint *c = s->checkpoint;
    const found_model *model = s->chosen[ACE_PART_LM];
    ace_error problem = {0};
    if (!model) return true;
    c->lm_tensors = model->tensors;
    take(s, model->tensors);
    c->has_lm = read_lm(c, model, &problem);
    if (c->has_lm) return true;
    drop_lm(c);
    if (s->paths->lm || problem.status == ACE_ERROR_MEMORY)
        return ace_fail(s->error, problem.status, "%s", problem.message);
    c->lm_problem = problem;
    return true;
}

/* ---- companions -------------------------------------------------------------------------------------------------- */

/* directory/name if that exists, else NULL; false only on an error. */
static bool existing(const char *directory, const char *name, char **path, ace_error *error)
{
    *path = ace_path_join(directory, name, error);
    if (!*path) return false;
    if (ace_path_exists(*path)) return true;
    free(*path);
    *path = NULL;
    return true;
}

static bool find_tokenizer(search *s)
{
    ace_checkpoint *c = s->checkpoint;
    const found_model *encoder = s->chosen[ACE_PART_TEXT_ENCODER];
    if (!existing(encoder->directory, "tokenizer.json", &c->tokenizer_path, s->error)) return false;
    if (c->tokenizer_path) return true;
    if (tensors_metadata_array_count(encoder->tensors, "tokenizer.ggml.tokens") > 0) {
        c->tokenizer_tensors = encoder->tensors;
        return true;
    }
    if (!existing(encoder->directory, "../tokenizer/tokenizer.json", &c->tokenizer_path, s->error)) return false;
    if (c->tokenizer_path) return true;
    if (s->paths->model && !existing(s->paths->model, "tokenizer.json", &c->tokenizer_path, s->error)) return false;
    if (c->tokenizer_path) return true;
    return ace_fail(s->error, ACE_ERROR_MODEL,
                    "no tokenizer for the text encoder '%s': put the tokenizer.json of Qwen3-Embedding-0.6B into '%s'",
                    encoder->path, encoder->directory);
}

/* The path of silence_latent.pt: beside the DiT, or else the first that the search met. */
static bool find_silence_file(search *s, char **path)
{
    if (!existing(s->chosen[ACE_PART_DIT]->directory, "silence_latent.pt", path, s->error)) return false;
    for (int scan = 0; !*path && scan < SCANS; scan++) {
        if (s->scans[scan].silence_count == 0) continue;
        *path = ace_strdup(s->scans[scan].silences[0], s->error);
        return *path != NULL;
    }
    return true;
}

/* A latent is a matrix with leading dimensions of 1: channels x frames in .pt files, frames x channels elsewhere. */
static bool silence_shape(const ace_tensor *silence, int64_t *rows, int64_t *columns)
{
    if (silence->rank < 2) return false;
    *rows = silence->shape[silence->rank - 2];
    *columns = silence->shape[silence->rank - 1];
    return *rows > 0 && *columns > 0 && *rows <= INT64_MAX / *columns && *rows * *columns == silence->count;
}

static bool find_silence(search *s)
{
    ace_checkpoint *c = s->checkpoint;
    c->silence = part_find(c->parts[ACE_PART_DIT], "silence_latent");
    char *path = NULL;
    if (!c->silence && !find_silence_file(s, &path)) return false;
    if (!c->silence && !path)
        return ace_fail(s->error, ACE_ERROR_MODEL,
                        "no silence latent for the DiT '%s': files of ComfyUI lack it; download silence_latent.pt from "
                        "the directory acestep-v15-turbo of ACE-Step/Ace-Step1.5 into '%s'",
                        s->chosen[ACE_PART_DIT]->path, s->chosen[ACE_PART_DIT]->directory);
    if (path) {
        ace_tensors *tensors = tensors_open(path, s->error);
        free(path);
        if (!tensors) return false;
        if (!own(c, tensors, s->error)) {
            tensors_close(tensors);
            return false;
        }
        c->silence = tensors_find(tensors, "data");
    }
    int64_t rows, columns, channels = c->dit.latent_channels;
    if (!c->silence || ace_dtype_block(c->silence->dtype) != 1 || !silence_shape(c->silence, &rows, &columns) ||
        (rows != channels && columns != channels))
        return ace_fail(s->error, ACE_ERROR_MODEL,
                        "'%s' holds no silence latent of %lld channels: download silence_latent.pt again",
                        c->silence ? c->silence->path : part_path(c->parts[ACE_PART_DIT]), (long long)channels);
    return true;
}

/* ---- the public door -----------------------------------------------------------------------------------------------
 */

ace_checkpoint *checkpoint_open(const ace_checkpoint_paths *paths, ace_error *error)
{
    ace_checkpoint *checkpoint = ace_calloc(1, sizeof *checkpoint, "a checkpoint", error);
    search *s = checkpoint ? ace_calloc(1, sizeof *s, "a search", error) : NULL;
    bool ok = s != NULL;
    if (ok) {
        s->paths = paths;
        s->checkpoint = checkpoint;
        s->error = error;
        ok = search_parts(s);
        for (int kind = 0; ok && kind < REQUIRED_PARTS; kind++) ok = build_part(s, kind);
        ok = ok && read_configs(s) && find_silence(s) && find_tokenizer(s) && build_lm(s);
        for (int scan = 0; scan < SCANS; scan++) scan_free(&s->scans[scan]);
    }
    free(s);
    if (ok) return checkpoint;
    checkpoint_close(checkpoint);
    return NULL;
}

void checkpoint_close(ace_checkpoint *checkpoint)
{
    if (!checkpoint) return;
    drop_lm(checkpoint);
    for (size_t i = 0; i < checkpoint->lm_path_count; i++) free(checkpoint->lm_paths[i]);
    free(checkpoint->lm_paths);
    for (int kind = 0; kind < ACE_PART_COUNT; kind++) part_free(checkpoint->parts[kind]);
    for (size_t i = 0; i < checkpoint->file_count; i++) tensors_close(checkpoint->files[i]);
    free(checkpoint->files);
    free(checkpoint->tokenizer_path);
    free(checkpoint->dit_name);
    free(checkpoint);
}

bool checkpoint_silence(const ace_checkpoint *checkpoint, int64_t first, int64_t count, float *frames, ace_error *error)
{
    const ace_tensor *silence = checkpoint->silence;
    int64_t channels = checkpoint->dit.latent_channels, length = silence->count / channels;
    bool square = silence->shape[silence->rank - 2] == channels && length == channels;
    bool channel_major = square ? strcmp(silence->name, "data") == 0 : silence->shape[silence->rank - 1] != channels;
    for (int64_t done = 0; done < count;) {
        int64_t from = (first + done) % length, n = length - from < count - done ? length - from : count - done;
        float *rows = frames + done * channels;
        if (!channel_major) {
            if (!tensor_read(silence, from * channels, n * channels, rows, error)) return false;
        } else {
            float chunk[256];
            if (n > (int64_t)(sizeof chunk / sizeof *chunk)) n = sizeof chunk / sizeof *chunk;
            for (int64_t c = 0; c < channels; c++) {
                if (!tensor_read(silence, c * length + from, n, chunk, error)) return false;
                for (int64_t t = 0; t < n; t++) rows[t * channels + c] = chunk[t];
            }
        }
        done += n;
    }
    return true;
}

bool checkpoint_hash(const ace_checkpoint *checkpoint, char hex[33], const atomic_bool *stop)
{
    char parts[33] = {0};
    XXH128_hash_t hash = XXH3_128bits("", 0);
    for (size_t i = 0; i < checkpoint->file_count; i++) {
        if (!tensors_hash(checkpoint->files[i], parts, stop)) return false;
        char both[16 + 32];
        memcpy(both, &hash, sizeof hash);
        memcpy(both + sizeof hash, parts, 32);
        hash = XXH3_128bits(both, sizeof both);
    }
    snprintf(hex, 33, "%016llx%016llx", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
    return true;
}
