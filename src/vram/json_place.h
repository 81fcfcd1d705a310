/* json_place.h - the line and column of a value in a JSON text. jansson reads values but forgets where they stood. */
#ifndef ACE_VRAM_JSON_PLACE_H
#define ACE_VRAM_JSON_PLACE_H

#include <stddef.h>

enum { JSON_PLACE_DEPTH = 8 };

/* The keys that lead to a value, outermost first. The path of a whole document is empty. */
typedef struct json_path {
    const char *keys[JSON_PLACE_DEPTH];
    int count;
} json_path;

/* `path` with `key` behind it; keys beyond JSON_PLACE_DEPTH are dropped. */
json_path json_path_with(json_path path, const char *key);

/* Line and column (bytes), both from 1, at which the value of `path` begins; of its key when `of_key`. The text must
 * have been accepted by jansson. When the path cannot be followed (a key spelt with escapes) the nearest value above is
 * given. */
void json_place(const char *text, size_t n, const json_path *path, int of_key, int *line, int *column);

#endif
