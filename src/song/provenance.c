#include "song/provenance.h"

#include "audio/audio_tags.h"
#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "song/request.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { JSON_LIMIT = 8 << 20 };

/* What was asked of which planner, now or when the plan was made. Not needed to make the song again, but to make
 * another.
 */
static bool add_planning(json_t *root, const provenance *p, ace_error *error)
{
    json_t *planning = NULL;
    if (p->asked) {
        char *asked = ace_request_to_json(p->asked, error);
        if (!asked) return false;
        planning = json_pack("{s:s?, s:s, s:o}", "planner", p->planner, "quantization", p->lm_quantization, "asked",
                             json_loads(asked, 0, NULL));
        free(asked);
    } else if (p->request->planning) {
        planning = json_loads(p->request->planning, 0, NULL);
    } else {
        return true;
    }
    return (planning && json_object_set_new(root, "planning", planning) == 0) ||
           ace_fail_memory(error, "the song's description", 0);
}

/* Keeps the planning of the song that a request is read from. */
static bool keep_planning(ace_request *request, const json_t *planning, ace_error *error)
{
    if (!json_is_object(planning)) return true;
    char *text = json_dumps(planning, JSON_REAL_PRECISION(17));
    if (!text) return ace_fail_memory(error, "a request", 0);
    free(request->planning);
    request->planning = text;
    return true;
}

/* What the song was made with, to tell when it is made with something else. Songs of before there was a choice do not
 * say. */
static void keep_expectations(ace_request *request, const json_t *model)
{
    const char *hash = json_string_value(json_object_get(model, "xxh3_128"));
    const char *precision = json_string_value(json_object_get(model, "precision"));
    const char *quantization = json_string_value(json_object_get(model, "quantization"));
    song_origin *origin = &request->origin;
    if (hash) snprintf(origin->model, sizeof origin->model, "%s", hash);
    if (precision) snprintf(origin->precision, sizeof origin->precision, "%s", precision);
    if (quantization) snprintf(origin->quantization, sizeof origin->quantization, "%s", quantization);
}

char *provenance_to_json(const provenance *p, ace_error *error)
{
    char *request = ace_request_to_json(p->request, error);
    if (!request) return NULL;
    json_t *fields = json_loads(request, 0, NULL);
    free(request);
    json_t *root =
        json_pack("{s:s+, s:o, s:{s:s, s:s, s:s, s:s, s:b}, s:{s:i, s:I, s:f}}", "program", "acestep ", ace_version(),
                  "request", fields, "model", "name", p->model, "xxh3_128", p->model_hash, "precision", p->precision,
                  "quantization", p->quantization, "random_weights", p->synthetic, "audio", "sample_rate", 48000,
                  "frames", (json_int_t)p->frames, "decoded_peak", (double)p->peak);
    if (root && !add_planning(root, p, error)) {
        json_decref(root);
        return NULL;
    }
    char *json = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(root);
    if (!json) ace_fail_memory(error, "the song's description", 0);
    return json;
}

bool ace_request_read(ace_request *request, const char *json, size_t length, ace_error *error)
{
    json_error_t at;
    json_t *root = json_loadb(json, length, JSON_REJECT_DUPLICATES, &at);
    if (!root)
        return ace_fail(error, ACE_ERROR_FORMAT, "not valid JSON: %s (line %d, column %d)", at.text, at.line,
                        at.column);
    json_t *fields = json_object_get(root, "request");
    bool ok;
    if (json_is_object(fields)) {
        char *dumped = json_dumps(fields, JSON_REAL_PRECISION(17));
        ok = dumped ? ace_request_set_json(request, dumped, strlen(dumped), error)
                    : ace_fail_memory(error, "a request", length);
        free(dumped);
        ok = ok && keep_planning(request, json_object_get(root, "planning"), error);
        if (ok) keep_expectations(request, json_object_get(root, "model"));
    } else {
        ok = ace_request_set_json(request, json, length, error);
    }
    json_decref(root);
    return ok;
}

/* Whether the file looks like JSON: its first non-blank byte is a brace. */
static bool is_json(const char *path, ace_error *error)
{
    ace_map map;
    if (!ace_map_open(&map, path, error)) return false;
    size_t i = 0;
    while (i < map.size && strchr(" \t\r\n", map.data[i])) i++;
    bool json = i < map.size && map.data[i] == '{';
    ace_map_close(&map);
    return json;
}

static bool read_json_file(ace_request *request, const char *path, ace_error *error)
{
    size_t size;
    char *json = ace_read_file(path, JSON_LIMIT, &size, error);
    bool ok = json && ace_request_read(request, json, size, error);
    free(json);
    return ok || ace_fail_in(error, "%s", path);
}

static bool read_sidecar(ace_request *request, const char *song, ace_error *error)
{
    ace_text path = {0};
    ace_text_format(&path, "%s.json", song);
    char *sidecar = ace_text_take(&path, error);
    bool ok = sidecar && (ace_path_exists(sidecar) ||
                          ace_fail(error, ACE_ERROR_USAGE,
                                   "'%s' carries no request and there is no '%s': it was not made by this "
                                   "program, or another one removed its tags",
                                   song, sidecar));
    ok = ok && read_json_file(request, sidecar, error);
    free(sidecar);
    return ok;
}

bool ace_request_save(const ace_request *request, const char *path, bool replace, ace_error *error)
{
    ace_new_file file;
    char *json = ace_request_to_json(request, error);
    bool ok = json && ace_new_file_begin(&file, path, replace, error);
    if (ok) {
        ok = ace_write_all(file.fd, json, strlen(json), path, error) && ace_write_all(file.fd, "\n", 1, path, error) &&
             ace_new_file_sync(&file, error);
        if (ok)
            ok = ace_new_file_commit(&file, error);
        else
            ace_new_file_abandon(&file);
    }
    free(json);
    return ok;
}

bool ace_request_load(ace_request *request, const char *path, ace_error *error)
{
    ace_error unreadable = {0};
    if (is_json(path, &unreadable)) return read_json_file(request, path, error);
    if (unreadable.status != ACE_OK) return ace_fail(error, unreadable.status, "%s", unreadable.message);
    audio_tags tags;
    if (!audio_tags_read(&tags, path, error)) return false;
    bool ok = tags.comment ? ace_request_read(request, tags.comment, strlen(tags.comment), error) ||
                                 ace_fail_in(error, "the tags of '%s'", path)
                           : read_sidecar(request, path, error);
    audio_tags_free(&tags);
    return ok;
}
