#include "formats/json.h"

#include "base/error.h"
#include "base/file.h"

#include <stdlib.h>
#include <string.h>

/* The deepest nesting of brackets outside strings. The parser recurses, so this is checked before it starts. */
static bool depth_within(const char *bytes, size_t n, int limit)
{
    int depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < n; i++) {
        char c = bytes[i];
        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '{' || c == '[') {
            if (++depth > limit) return false;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return true;
}

json_t *json_parse(const char *bytes, size_t n, int depth, const char *where, ace_error *error)
{
    if (!depth_within(bytes, n, depth)) {
        ace_fail(error, ACE_ERROR_FORMAT, "%s: JSON nested deeper than %d levels is refused", where, depth);
        return NULL;
    }
    json_error_t problem;
    json_t *value = json_loadb(bytes, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &problem);
    if (value) return value;
    if (json_error_code(&problem) == json_error_out_of_memory)
        ace_fail_memory(error, where, n);
    else
        ace_fail(error, ACE_ERROR_FORMAT, "%s: not valid JSON at line %d, column %d: %s", where, problem.line,
                 problem.column, problem.text);
    return NULL;
}

json_t *json_parse_file(const char *path, size_t limit, int depth, ace_error *error)
{
    size_t n = 0;
    char *bytes = ace_read_file(path, limit, &n, error);
    json_t *value = bytes ? json_parse(bytes, n, depth, path, error) : NULL;
    free(bytes);
    return value;
}

bool json_has(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return value && !json_is_null(value);
}

const char *json_type_text(const json_t *value)
{
    if (!value) return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number with a fraction";
    case JSON_TRUE:
    case JSON_FALSE:
        return "true or false";
    case JSON_NULL:
        break;
    }
    return "null";
}

static bool wrong_type(const char *where, const char *key, const json_t *value, const char *wanted, ace_error *error)
{
    return ace_fail(error, ACE_ERROR_FORMAT, "%s: \"%s\" must be %s, but it is %s", where, key, wanted,
                    json_type_text(value));
}

bool json_get_int(const json_t *object, const char *where, const char *key, int64_t min, int64_t max, int64_t *value,
                  ace_error *error)
{
    if (!json_has(object, key)) return true;
    const json_t *found = json_object_get(object, key);
    if (!json_is_integer(found)) return wrong_type(where, key, found, "an integer", error);
    int64_t number = json_integer_value(found);
    if (number < min || number > max)
        return ace_fail(error, ACE_ERROR_FORMAT, "%s: \"%s\" is %lld, outside %lld to %lld", where, key,
                        (long long)number, (long long)min, (long long)max);
    *value = number;
    return true;
}

bool json_get_number(const json_t *object, const char *where, const char *key, double min, double max, double *value,
                     ace_error *error)
{
    if (!json_has(object, key)) return true;
    const json_t *found = json_object_get(object, key);
    if (!json_is_number(found)) return wrong_type(where, key, found, "a number", error);
    double number = json_number_value(found);
    if (!(number >= min && number <= max))
        return ace_fail(error, ACE_ERROR_FORMAT, "%s: \"%s\" is %g, outside %g to %g", where, key, number, min, max);
    *value = number;
    return true;
}

bool json_get_bool(const json_t *object, const char *where, const char *key, bool *value, ace_error *error)
{
    if (!json_has(object, key)) return true;
    const json_t *found = json_object_get(object, key);
    if (!json_is_boolean(found)) return wrong_type(where, key, found, "true or false", error);
    *value = json_is_true(found);
    return true;
}

bool json_get_string(const json_t *object, const char *where, const char *key, const char **value, ace_error *error)
{
    if (!json_has(object, key)) return true;
    const json_t *found = json_object_get(object, key);
    if (!json_is_string(found)) return wrong_type(where, key, found, "a string", error);
    *value = json_string_value(found);
    return true;
}

bool json_get_array(const json_t *object, const char *where, const char *key, const json_t **value, ace_error *error)
{
    if (!json_has(object, key)) return true;
    const json_t *found = json_object_get(object, key);
    if (!json_is_array(found)) return wrong_type(where, key, found, "an array", error);
    *value = found;
    return true;
}

bool json_get_object(const json_t *object, const char *where, const char *key, const json_t **value, ace_error *error)
{
    if (!json_has(object, key)) return true;
    const json_t *found = json_object_get(object, key);
    if (!json_is_object(found)) return wrong_type(where, key, found, "an object", error);
    *value = found;
    return true;
}
