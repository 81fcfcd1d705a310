#include "song/request.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- fields -------------------------------------------------------------------------------------------------- */

size_t ace_field_count(void)
{
    return FIELD_COUNT;
}

const ace_field *ace_field_at(size_t index)
{
    return index < FIELD_COUNT ? &request_fields[index].doc : NULL;
}

/* Whether `word` stands in a list " a b c ". */
static bool listed(const char *list, const char *word)
{
    size_t n = strlen(word);
    if (!list || n == 0) return false;
    for (const char *p = list; (p = strstr(p, word)); p++)
        if (p[-1] == ' ' && p[n] == ' ') return true;
    return false;
}

static int find_field(const char *name, ace_error *error)
{
    for (int i = 0; i < FIELD_COUNT; i++)
        if (strcmp(request_fields[i].doc.name, name) == 0 ||
            (!strchr(name, ' ') && listed(request_fields[i].aliases, name)))
            return i;
    ace_fail(error, ACE_ERROR_USAGE, "there is no request field '%.64s': `acestep generate --help` lists them", name);
    return -1;
}

static bool fail_value(const field_spec *spec, const char *value, ace_error *error)
{
    return ace_fail(error, ACE_ERROR_USAGE, "%s cannot be '%.80s': give %s", spec->doc.name, value, spec->doc.values);
}

/* ---- life ---------------------------------------------------------------------------------------------------- */

ace_request *ace_request_new(ace_error *error)
{
    return ace_calloc(1, sizeof(ace_request), "a request", error);
}

void ace_request_free(ace_request *request)
{
    if (!request) return;
    for (int i = 0; i < FIELD_COUNT; i++) free(request->values[i].text);
    free(request->planning);
    free(request);
}

ace_request *request_copy(const ace_request *request, ace_error *error)
{
    ace_request *copy = ace_request_new(error);
    if (!copy) return NULL;
    *copy = *request;
    for (int i = 0; i < FIELD_COUNT; i++) copy->values[i].text = NULL;
    copy->planning = NULL;
    if (request->planning && !(copy->planning = ace_strdup(request->planning, error))) {
        ace_request_free(copy);
        return NULL;
    }
    for (int i = 0; i < FIELD_COUNT; i++) {
        if (!request->values[i].text) continue;
        copy->values[i].text = ace_strdup(request->values[i].text, error);
        if (!copy->values[i].text) {
            ace_request_free(copy);
            return NULL;
        }
    }
    return copy;
}

/* ---- typed access -------------------------------------------------------------------------------------------- */

bool request_is_set(const ace_request *request, request_field field)
{
    return request->values[field].set;
}

const char *request_text(const ace_request *request, request_field field, const char *unset)
{
    return request->values[field].set ? request->values[field].text : unset;
}

double request_number(const ace_request *request, request_field field, double unset)
{
    return request->values[field].set ? request->values[field].number : unset;
}

int64_t request_integer(const ace_request *request, request_field field, int64_t unset)
{
    return request->values[field].set ? request->values[field].integer : unset;
}

bool request_bool(const ace_request *request, request_field field, bool unset)
{
    return request->values[field].set ? request->values[field].number != 0 : unset;
}

void request_clear(ace_request *request, request_field field)
{
    free(request->values[field].text);
    request->values[field] = (field_value){0};
}

bool request_put_text(ace_request *request, request_field field, const char *value, ace_error *error)
{
    char *copy = ace_strdup(value, error);
    if (!copy) return false;
    free(request->values[field].text);
    request->values[field] = (field_value){.set = true, .text = copy};
    return true;
}

void request_put_number(ace_request *request, request_field field, double value)
{
    request->values[field] = (field_value){.set = true, .number = value};
}

void request_put_integer(ace_request *request, request_field field, int64_t value)
{
    request->values[field] = (field_value){.set = true, .integer = value};
}

void request_put_bool(ace_request *request, request_field field, bool value)
{
    request->values[field] = (field_value){.set = true, .number = value};
}

/* ---- checked setting ----------------------------------------------------------------------------------------- */

static bool valid_keyscale(const char *text)
{
    const char *p = text;
    if (*p < 'A' || *p > 'G') return false;
    p++;
    if (*p == '#' || *p == 'b')
        p++;
    else if (strncmp(p, "\u266f", 3) == 0 || strncmp(p, "\u266d", 3) == 0)
        p += 3;
    return strcmp(p, " major") == 0 || strcmp(p, " minor") == 0;
}

static bool set_text(ace_request *request, int field, const char *value, ace_error *error)
{
    const field_spec *spec = &request_fields[field];
    size_t n = strlen(value), bad;
    if (spec->kind == FIELD_CHOICE) {
        if (strchr(value, ' ') || !listed(spec->choices, value)) return fail_value(spec, value, error);
    } else if (n > (size_t)spec->max) {
        return ace_fail(error, ACE_ERROR_USAGE, "%s has %zu bytes, more than the %.0f allowed: shorten it",
                        spec->doc.name, n, spec->max);
    } else if (!ace_utf8_valid(value, n, &bad)) {
        return ace_fail(error, ACE_ERROR_USAGE, "%s is not UTF-8 text (byte %zu): save it as UTF-8", spec->doc.name,
                        bad);
    } else if (field == FIELD_KEYSCALE && *value && !valid_keyscale(value)) {
        return fail_value(spec, value, error);
    }
    return request_put_text(request, (request_field)field, value, error);
}

static bool set_number(ace_request *request, int field, double value, const char *shown, ace_error *error)
{
    const field_spec *spec = &request_fields[field];
    if (!isfinite(value) || value < spec->min || value > spec->max) return fail_value(spec, shown, error);
    request_put_number(request, (request_field)field, value);
    return true;
}

static bool set_integer(ace_request *request, int field, int64_t value, const char *shown, ace_error *error)
{
    const field_spec *spec = &request_fields[field];
    if ((double)value < spec->min || (double)value > spec->max) return fail_value(spec, shown, error);
    request_put_integer(request, (request_field)field, value);
    return true;
}

bool ace_request_set(ace_request *request, const char *name, const char *value, ace_error *error)
{
    int field = find_field(name, error);
    if (field < 0) return false;
    const field_spec *spec = &request_fields[field];
    char *end = NULL;
    errno = 0;
    switch (spec->kind) {
    case FIELD_TEXT:
    case FIELD_CHOICE:
        return set_text(request, field, value, error);
    case FIELD_BOOL: {
        bool yes = listed(" 1 true yes on ", value), no = listed(" 0 false no off ", value);
        if ((!yes && !no) || strchr(value, ' ')) return fail_value(spec, value, error);
        request_put_bool(request, (request_field)field, yes);
        return true;
    }
    case FIELD_INTEGER: {
        long long n = strtoll(value, &end, 10);
        if (end == value || *end || errno) return fail_value(spec, value, error);
        return set_integer(request, field, n, value, error);
    }
    case FIELD_NUMBER: {
        double n = strtod(value, &end);
        if (end == value || *end) return fail_value(spec, value, error);
        return set_number(request, field, n, value, error);
    }
    }
    return false;
}

/* ---- JSON ---------------------------------------------------------------------------------------------------- */

static bool set_from_json(ace_request *request, int field, const json_t *value, ace_error *error)
{
    const field_spec *spec = &request_fields[field];
    char shown[64] = "";
    if (json_is_integer(value)) snprintf(shown, sizeof shown, "%lld", (long long)json_integer_value(value));
    if (json_is_real(value)) snprintf(shown, sizeof shown, "%.17g", json_real_value(value));
    switch (spec->kind) {
    case FIELD_TEXT:
    case FIELD_CHOICE:
        if (json_is_string(value)) {
            if (strlen(json_string_value(value)) != json_string_length(value))
                return ace_fail(error, ACE_ERROR_USAGE, "%s holds a NUL character: remove it", spec->doc.name);
            return set_text(request, field, json_string_value(value), error);
        }
        if (spec->kind == FIELD_CHOICE && json_is_integer(value)) return set_text(request, field, shown, error);
        break;
    case FIELD_BOOL:
        if (json_is_boolean(value)) {
            request_put_bool(request, (request_field)field, json_is_true(value));
            return true;
        }
        break;
    case FIELD_INTEGER:
        if (json_is_integer(value)) return set_integer(request, field, json_integer_value(value), shown, error);
        if (json_is_real(value) && json_real_value(value) == floor(json_real_value(value)) &&
            fabs(json_real_value(value)) < 9.0e15)
            return set_integer(request, field, (int64_t)json_real_value(value), shown, error);
        break;
    case FIELD_NUMBER:
        if (json_is_number(value)) return set_number(request, field, json_number_value(value), shown, error);
        break;
    }
    return ace_fail(error, ACE_ERROR_USAGE, "%s has the wrong JSON type: give %s", spec->doc.name, spec->doc.values);
}

/* Audio codes may come as a JSON list of integers. */
static bool set_code_list(ace_request *request, const json_t *list, ace_error *error)
{
    ace_text text = {0};
    size_t i;
    const json_t *code;
    bool ok = true;
    json_array_foreach((json_t *)(uintptr_t)list, i, code)
    {
        if (!json_is_integer(code)) {
            ok = ace_fail(error, ACE_ERROR_USAGE, "audio_codes holds something that is not an integer at place %zu", i);
            break;
        }
        ace_text_format(&text, "%s%lld", i ? "," : "", (long long)json_integer_value(code));
    }
    char *joined = ok ? ace_text_take(&text, error) : NULL;
    ok = joined && set_text(request, FIELD_AUDIO_CODES, joined, error);
    free(joined);
    ace_text_free(&text);
    return ok;
}

bool ace_request_set_json(ace_request *request, const char *json, size_t length, ace_error *error)
{
    json_error_t at;
    json_t *root = json_loadb(json, length, JSON_REJECT_DUPLICATES, &at);
    if (!root)
        return ace_fail(error, ACE_ERROR_USAGE, "the request is not valid JSON: %s (line %d, column %d)", at.text,
                        at.line, at.column);
    bool ok = json_is_object(root) ||
              ace_fail(error, ACE_ERROR_USAGE, "the request is JSON but not an object: put { } around its fields");
    ace_request *changed = ok ? request_copy(request, error) : NULL;
    ok = changed != NULL;
    const char *name;
    json_t *value;
    json_object_foreach(root, name, value)
    {
        int field = ok ? find_field(name, error) : -1;
        if (field < 0)
            ok = false;
        else if (field == FIELD_AUDIO_CODES && json_is_array(value))
            ok = set_code_list(changed, value, error);
        else if (!json_is_null(value))
            ok = set_from_json(changed, field, value, error);
        if (!ok) break;
    }
    if (ok) {
        ace_request swap = *request;
        *request = *changed;
        *changed = swap;
    }
    ace_request_free(changed);
    json_decref(root);
    return ok;
}

static json_t *value_to_json(const field_spec *spec, const field_value *value)
{
    switch (spec->kind) {
    case FIELD_TEXT:
    case FIELD_CHOICE:
        return json_string(value->text);
    case FIELD_BOOL:
        return json_boolean(value->number != 0);
    case FIELD_INTEGER:
        return json_integer(value->integer);
    case FIELD_NUMBER:
        return json_real(value->number);
    }
    return NULL;
}

/* 15 digits give back every number that a person typed; 17 every number. */
static size_t digits_needed(const ace_request *request)
{
    for (int i = 0; i < FIELD_COUNT; i++) {
        char shown[32];
        snprintf(shown, sizeof shown, "%.15g", request->values[i].number);
        if (strtod(shown, NULL) != request->values[i].number) return 17;
    }
    return 15;
}

char *ace_request_to_json(const ace_request *request, ace_error *error)
{
    json_t *root = json_object();
    bool ok = root != NULL;
    for (int i = 0; i < FIELD_COUNT && ok; i++)
        if (request->values[i].set)
            ok = json_object_set_new(root, request_fields[i].doc.name,
                                     value_to_json(&request_fields[i], &request->values[i])) == 0;
    char *json = ok ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(digits_needed(request))) : NULL;
    json_decref(root);
    if (!json) ace_fail_memory(error, "the request as JSON", 0);
    return json;
}

char *ace_request_get(const ace_request *request, const char *name, ace_error *error)
{
    int field = find_field(name, error);
    if (field < 0) return NULL;
    const field_value *value = &request->values[field];
    ace_text text = {0};
    if (value->set) {
        switch (request_fields[field].kind) {
        case FIELD_TEXT:
        case FIELD_CHOICE:
            ace_text_add(&text, value->text);
            break;
        case FIELD_BOOL:
            ace_text_add(&text, value->number != 0 ? "true" : "false");
            break;
        case FIELD_INTEGER:
            ace_text_format(&text, "%lld", (long long)value->integer);
            break;
        case FIELD_NUMBER:
            ace_text_format(&text, "%.17g", value->number);
            break;
        }
    }
    return ace_text_take(&text, error);
}
