#include "model/checkpoint_scan.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_VISITED = 20000, MAX_DESCRIBED = 8 };

const char *found_kind_name(found_kind kind)
{
    static const char *const names[FOUND_KINDS] = {"DiT", "text encoder", "VAE", "5 Hz planner"};
    return names[kind];
}

void scan_free(checkpoint_scan *scan)
{
    for (size_t i = 0; i < scan->set_count; i++) tensors_close(scan->sets[i]);
    for (size_t i = 0; i < scan->count; i++) {
        free(scan->models[i].path);
        free(scan->models[i].directory);
    }
    for (size_t i = 0; i < scan->silence_count; i++) free(scan->silences[i]);
    free(scan->sets);
    free(scan->models);
    free(scan->silences);
    *scan = (checkpoint_scan){0};
}

/* ---- one file ------------------------------------------------------------------------------------------------- */

static bool ends_with(const char *name, const char *ending)
{
    size_t n = strlen(name), e = strlen(ending);
    return n > e && strcmp(name + n - e, ending) == 0;
}

static bool add_model(checkpoint_scan *scan, const found_model *model, const char *path, ace_error *error)
{
    found_model *grown = ace_realloc(scan->models, scan->count + 1, sizeof *grown, "a list of models", error);
    if (!grown) return false;
    scan->models = grown;
    found_model *added = &grown[scan->count];
    *added = *model;
    added->path = ace_strdup(path, error);
    added->directory = ace_path_directory(path, error);
    scan->count++;
    return added->path && added->directory;
}

static bool add_set(checkpoint_scan *scan, ace_tensors *tensors, ace_error *error)
{
    ace_tensors **grown = ace_realloc(scan->sets, scan->set_count + 1, sizeof *grown, "a list of files", error);
    if (!grown) {
        tensors_close(tensors);
        return false;
    }
    scan->sets = grown;
    grown[scan->set_count++] = tensors;
    return true;
}

static bool scan_weights(checkpoint_scan *scan, const char *path, ace_error *error)
{
    ace_error problem = {0};
    ace_tensors *tensors = tensors_open(path, &problem);
    if (!tensors) {
        if (problem.status == ACE_ERROR_MEMORY || !scan->tolerant)
            return ace_fail(error, problem.status, "%s", problem.message);
        if (scan->unreadable.status == ACE_OK) scan->unreadable = problem;
        return true;
    }
    if (!add_set(scan, tensors, error)) return false;
    bool ok = true;
    for (int kind = 0; ok && kind < FOUND_KINDS; kind++) {
        found_model model = {.kind = (found_kind)kind, .tensors = tensors};
        if (names_find(tensors, model.kind, model.prefix)) ok = add_model(scan, &model, path, error);
    }
    if (ok && names_is_diffusers(tensors)) {
        found_model model = {.kind = FOUND_DIT, .tensors = tensors, .diffusers = true};
        ok = add_model(scan, &model, path, error);
    }
    return ok;
}

static bool add_silence(checkpoint_scan *scan, const char *path, ace_error *error)
{
    char **grown = ace_realloc(scan->silences, scan->silence_count + 1, sizeof *grown, "a list of files", error);
    if (!grown) return false;
    scan->silences = grown;
    grown[scan->silence_count] = ace_strdup(path, error);
    return grown[scan->silence_count] && ++scan->silence_count;
}

static bool is_index(const char *name)
{
    return ends_with(name, ".safetensors.index.json");
}

/* "...-00001-of-00004.safetensors", which its index opens. */
static bool is_shard(const char *name)
{
    static const char pattern[] = "-#####-of-#####.safetensors";
    size_t n = strlen(name), p = sizeof pattern - 1;
    if (n < p) return false;
    for (size_t i = 0; i < p; i++) {
        char c = name[n - p + i];
        if (pattern[i] == '#' ? c < '0' || c > '9' : c != pattern[i]) return false;
    }
    return true;
}

static bool is_weights(const char *name)
{
    return ends_with(name, ".safetensors") || ends_with(name, ".gguf") || is_index(name);
}

/* ---- directories ---------------------------------------------------------------------------------------------- */

static bool scan_entry(checkpoint_scan *scan, const char *directory, const char *name, bool skip_shards, int depth,
                       ace_error *error)
{
    if (name[0] == '.' || (skip_shards && is_shard(name))) return true;
    if (++scan->visited > MAX_VISITED)
        return ace_fail(error, ACE_ERROR_USAGE,
                        "'%s' is among more than %d files: name the directory of the checkpoint itself", directory,
                        MAX_VISITED);
    char *path = ace_path_join(directory, name, error);
    if (!path) return false;
    bool ok = true;
    if (ace_path_is_directory(path))
        ok = depth == 0 || scan_path(scan, path, depth - 1, error);
    else if (is_weights(name))
        ok = scan_weights(scan, path, error);
    else if (strcmp(name, "silence_latent.pt") == 0)
        ok = add_silence(scan, path, error);
    free(path);
    return ok;
}

bool scan_path(checkpoint_scan *scan, const char *path, int depth, ace_error *error)
{
    if (!ace_path_is_directory(path)) return scan_weights(scan, path, error);
    ace_names names;
    ace_error problem = {0};
    if (!ace_list_directory(path, &names, &problem))
        return (scan->tolerant && problem.status != ACE_ERROR_MEMORY) ||
               ace_fail(error, problem.status, "%s", problem.message);
    bool indexed = false, ok = true;
    for (size_t i = 0; i < names.count; i++) indexed = indexed || is_index(names.names[i]);
    for (size_t i = 0; ok && i < names.count; i++) ok = scan_entry(scan, path, names.names[i], indexed, depth, error);
    ace_names_free(&names);
    return ok;
}

/* ---- what was found --------------------------------------------------------------------------------------------- */

size_t scan_count(const checkpoint_scan *scan, found_kind kind, const found_model **first)
{
    size_t count = 0;
    for (size_t i = 0; i < scan->count; i++)
        if (scan->models[i].kind == kind && count++ == 0) *first = &scan->models[i];
    return count;
}

void scan_describe(const checkpoint_scan *scan, int only_kind, ace_text *text)
{
    size_t described = 0, more = 0;
    for (size_t i = 0; i < scan->count; i++) {
        const found_model *model = &scan->models[i];
        if (only_kind != SCAN_ANY_KIND && model->kind != (found_kind)only_kind) continue;
        if (described < MAX_DESCRIBED)
            ace_text_format(text, "%s%s '%s'", described ? ", " : "", found_kind_name(model->kind), model->path);
        else
            more++;
        described++;
    }
    if (more) ace_text_format(text, " and %zu more", more);
    if (!described) ace_text_add(text, "no model");
}
