/* json.h - reading JSON from outside: strict text, limited depth, and getters whose errors name file and key. */
#ifndef ACE_FORMATS_JSON_H
#define ACE_FORMATS_JSON_H

#include <acestep.h>

#include <jansson.h>

/* Parses n bytes as one JSON value. Strict: UTF-8, no duplicate keys, no NUL, nothing behind the value, nesting at most
 * `depth`. `where` names the source in messages (a path, "the request"). The caller releases with json_decref().
 * NULL with ACE_ERROR_FORMAT. */
json_t *json_parse(const char *bytes, size_t n, int depth, const char *where, ace_error *error);

/* The same from a file of at most `limit` bytes. */
json_t *json_parse_file(const char *path, size_t limit, int depth, ace_error *error);

/* Getters for an optional key of an object. When the key is absent or null, *value is left as it is: set the default
 * before. A value of another type or outside [min, max] is ACE_ERROR_FORMAT. */
bool json_get_int(const json_t *object, const char *where, const char *key, int64_t min, int64_t max, int64_t *value,
                  ace_error *error);
bool json_get_number(const json_t *object, const char *where, const char *key, double min, double max, double *value,
                     ace_error *error);
bool json_get_bool(const json_t *object, const char *where, const char *key, bool *value, ace_error *error);

/* *value points into the object. */
bool json_get_string(const json_t *object, const char *where, const char *key, const char **value, ace_error *error);
bool json_get_array(const json_t *object, const char *where, const char *key, const json_t **value, ace_error *error);
bool json_get_object(const json_t *object, const char *where, const char *key, const json_t **value, ace_error *error);

/* True when the key is there and not null. */
bool json_has(const json_t *object, const char *key);

/* "string", "integer", ... */
const char *json_type_text(const json_t *value);

#endif
