#include "vram/json_place.h"

#include <stdbool.h>
#include <string.h>

json_path json_path_with(json_path path, const char *key)
{
    if (path.count < JSON_PLACE_DEPTH) path.keys[path.count++] = key;
    return path;
}

/* A place in a text that is known to be valid JSON; the bounds are checked all the same. */
typedef struct cursor {
    const char *text;
    size_t n, at;
} cursor;

static char here(const cursor *c)
{
    return c->at < c->n ? c->text[c->at] : '\0';
}

static void skip_blanks(cursor *c)
{
    while (c->at < c->n && strchr(" \t\r\n", c->text[c->at])) c->at++;
}

/* Behind the closing quote of the string at the cursor. */
static void skip_string(cursor *c)
{
    for (c->at++; c->at < c->n && c->text[c->at] != '"'; c->at++)
        if (c->text[c->at] == '\\') c->at++;
    if (c->at < c->n) c->at++;
}

/* Behind the value at the cursor. */
static void skip_value(cursor *c)
{
    int depth = 0;
    do {
        char byte = here(c);
        if (byte == '"') {
            skip_string(c);
        } else {
            if (byte == '{' || byte == '[') depth++;
            if (byte == '}' || byte == ']') depth--;
            c->at++;
        }
        /* a number or a word goes on until what separates values */
    } while (c->at < c->n && (depth > 0 || !strchr(",}] \t\r\n", here(c))));
}

/* From the object at the cursor to the value of `key`, or to the key itself. False, and the cursor stays, if it is not
 * there. */
static bool enter(cursor *c, const char *key, bool of_key)
{
    cursor in = *c;
    size_t length = strlen(key);
    if (here(&in) != '{') return false;
    in.at++;
    while (in.at < in.n) {
        skip_blanks(&in);
        if (here(&in) != '"') return false;
        size_t name = in.at;
        skip_string(&in);
        bool found = in.at - name == length + 2 && memcmp(in.text + name + 1, key, length) == 0;
        skip_blanks(&in);
        in.at++; /* the colon */
        skip_blanks(&in);
        if (found) {
            c->at = of_key ? name : in.at;
            return true;
        }
        skip_value(&in);
        skip_blanks(&in);
        if (here(&in) != ',') return false;
        in.at++;
    }
    return false;
}

void json_place(const char *text, size_t n, const json_path *path, int of_key, int *line, int *column)
{
    cursor c = {text, n, 0};
    skip_blanks(&c);
    for (int i = 0; i < path->count; i++)
        if (!enter(&c, path->keys[i], of_key && i == path->count - 1)) break;
    *line = 1;
    *column = 1;
    for (size_t i = 0; i < c.at && i < n; i++) {
        *column = text[i] == '\n' ? 1 : *column + 1;
        if (text[i] == '\n') (*line)++;
    }
}
