/* json_pull.h - reading JSON value by value, without building a tree.
 *
 * A tokenizer.json has half a million strings; a tree of them takes longer to build than everything else that happens
 * at start-up. The reader walks the text once and hands out strings where they stand, unescaped in place. The text
 * must be valid UTF-8. The first violation of RFC 8259, and nesting beyond JSON_PULL_DEPTH, is the error; from then on
 * every function returns false. */
#ifndef ACE_TEXT_JSON_PULL_H
#define ACE_TEXT_JSON_PULL_H

#include <acestep.h>

enum { JSON_PULL_DEPTH = 32 };

typedef struct json_slice {
    const char *data; /* UTF-8, not NUL-terminated; may contain NUL */
    size_t length;
} json_slice;

typedef struct json_pull {
    char *text;
    size_t at, n;
    int depth;
    bool first; /* no member or item of the container just entered has been read */
    bool failed;
    ace_error *error;
} json_pull;

/* Starts reading the n bytes, which the reader changes (see json_pull_string). */
json_pull json_pull_begin(char *text, size_t n, ace_error *error);

/* What stands next: one of { [ " t f n, '0' for a number, '\0' for anything else. */
char json_pull_peek(json_pull *json);

/* Enters an object ('{') or array ('['), which must stand next. */
bool json_pull_enter(json_pull *json, char bracket);

/* Inside an object: the key of the next member, whose value must then be read or skipped; false when the object has
 * ended (and has been left) or on an error. json_pull_item() does the same for arrays. */
bool json_pull_key(json_pull *json, json_slice *key);
bool json_pull_item(json_pull *json);

/* Read the value that stands next. The slice points into the text: reading the same string twice is not possible. */
bool json_pull_string(json_pull *json, json_slice *string);
bool json_pull_integer(json_pull *json, int64_t *value);
bool json_pull_bool(json_pull *json, bool *value);

/* Passes over any value. The text is not changed. */
bool json_pull_skip(json_pull *json);

/* True when only whitespace is left. */
bool json_pull_end(json_pull *json);

bool json_slice_is(json_slice slice, const char *text);

#endif
