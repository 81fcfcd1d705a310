#include "text/json_pull.h"

#include "base/error.h"

#include <stdint.h>
#include <string.h>

json_pull json_pull_begin(char *text, size_t n, ace_error *error)
{
    return (json_pull){.text = text, .n = n, .error = error};
}

static bool fail(json_pull *json, const char *expected)
{
    json->failed = true;
    return ace_fail(json->error, ACE_ERROR_FORMAT, "damaged JSON at byte %zu: expected %s; download the file again",
                    json->at, expected);
}

/* The next byte that is not whitespace, '\0' at the end. */
static char next_byte(json_pull *json)
{
    while (json->at < json->n) {
        char c = json->text[json->at];
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t') return c;
        json->at++;
    }
    return '\0';
}

char json_pull_peek(json_pull *json)
{
    if (json->failed) return '\0';
    char c = next_byte(json);
    if (c == '-' || (c >= '0' && c <= '9')) return '0';
    return c == '{' || c == '[' || c == '"' || c == 't' || c == 'f' || c == 'n' ? c : '\0';
}

bool json_pull_enter(json_pull *json, char bracket)
{
    if (json->failed) return false;
    if (next_byte(json) != bracket) return fail(json, bracket == '{' ? "an object" : "an array");
    if (json->depth == JSON_PULL_DEPTH) return fail(json, "less nesting");
    json->at++;
    json->depth++;
    json->first = true;
    return true;
}

/* Moves to the next member or item, or leaves the container. */
static bool advance(json_pull *json, char closing)
{
    if (json->failed) return false;
    bool first = json->first;
    json->first = false;
    char c = next_byte(json);
    if (c == closing) {
        json->at++;
        json->depth--;
        return false;
    }
    if (!first) {
        if (c != ',') return fail(json, closing == '}' ? "',' or '}'" : "',' or ']'");
        json->at++;
    }
    return true;
}

bool json_pull_key(json_pull *json, json_slice *key)
{
    if (!advance(json, '}') || !json_pull_string(json, key)) return false;
    if (next_byte(json) != ':') return fail(json, "':'");
    json->at++;
    return true;
}

bool json_pull_item(json_pull *json)
{
    return advance(json, ']');
}

/* Four hexadecimal digits, -1 when they are not. */
static int32_t hexadecimal(const char *p)
{
    int32_t value = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i], lower = (char)(c | 0x20);
        if (c >= '0' && c <= '9')
            value = value * 16 + (c - '0');
        else if (lower >= 'a' && lower <= 'f')
            value = value * 16 + (lower - 'a' + 10);
        else
            return -1;
    }
    return value;
}

/* Reads the escape whose backslash is at json->at and moves behind it; -1 when it is none. */
static int32_t escape(json_pull *json)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char *p = json->text + json->at;
    size_t left = json->n - json->at;
    if (left < 2) return -1;
    const char *name = p[1] ? strchr(names, p[1]) : NULL;
    if (name) {
        json->at += 2;
        return values[name - names];
    }
    if (p[1] != 'u' || left < 6) return -1;
    int32_t c = hexadecimal(p + 2);
    if (c < 0xd800 || c > 0xdfff) {
        if (c >= 0) json->at += 6;
        return c;
    }
    if (c > 0xdbff || left < 12 || p[6] != '\\' || p[7] != 'u') return -1;
    int32_t low = hexadecimal(p + 8);
    if (low < 0xdc00 || low > 0xdfff) return -1;
    json->at += 12;
    return 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
}

/* Writes c as UTF-8; returns the bytes written, never more than its escape had. */
static size_t put(char *out, int32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t length = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const int lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = length - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)(lead[length] | c);
    return length;
}

/* Reads a string. When `string` is NULL the text stays as it is. */
static bool read_string(json_pull *json, json_slice *string)
{
    if (json->failed) return false;
    if (next_byte(json) != '"') return fail(json, "a string");
    char *start = json->text + ++json->at, *out = start;
    while (json->at < json->n) {
        size_t plain = json->at;
        while (plain < json->n && (unsigned char)json->text[plain] >= 0x20 && json->text[plain] != '"' &&
               json->text[plain] != '\\')
            plain++;
        size_t length = plain - json->at;
        if (string && out != json->text + json->at) memmove(out, json->text + json->at, length);
        out += length;
        json->at = plain;
        if (plain == json->n) break;
        if (json->text[plain] == '"') {
            json->at++;
            if (string) *string = (json_slice){start, (size_t)(out - start)};
            return true;
        }
        if (json->text[plain] != '\\') return fail(json, "no control character in a string");
        int32_t c = escape(json);
        if (c < 0) return fail(json, "a valid escape");
        if (string) out += put(out, c);
    }
    return fail(json, "the end of a string");
}

bool json_pull_string(json_pull *json, json_slice *string)
{
    return read_string(json, string);
}

/* Passes over digits, at least one. */
static bool digits(json_pull *json)
{
    size_t start = json->at;
    while (json->at < json->n && json->text[json->at] >= '0' && json->text[json->at] <= '9') json->at++;
    return json->at > start;
}

static bool at_byte(const json_pull *json, char a, char b)
{
    return json->at < json->n && (json->text[json->at] == a || json->text[json->at] == b);
}

static bool skip_number(json_pull *json)
{
    if (at_byte(json, '-', '-')) json->at++;
    bool zero = at_byte(json, '0', '0');
    size_t start = json->at;
    if (!digits(json) || (zero && json->at > start + 1)) return fail(json, "a number");
    if (at_byte(json, '.', '.')) {
        json->at++;
        if (!digits(json)) return fail(json, "a number");
    }
    if (at_byte(json, 'e', 'E')) {
        json->at++;
        if (at_byte(json, '+', '-')) json->at++;
        if (!digits(json)) return fail(json, "a number");
    }
    return true;
}

bool json_pull_integer(json_pull *json, int64_t *value)
{
    if (json_pull_peek(json) != '0') return fail(json, "an integer");
    size_t start = json->at;
    if (!skip_number(json)) return false;
    bool negative = json->text[start] == '-';
    int64_t magnitude = 0;
    for (size_t i = start + negative; i < json->at; i++) {
        char c = json->text[i];
        if (c < '0' || c > '9' || __builtin_mul_overflow(magnitude, 10, &magnitude) ||
            __builtin_add_overflow(magnitude, c - '0', &magnitude)) {
            json->at = start;
            return fail(json, "an integer");
        }
    }
    *value = negative ? -magnitude : magnitude;
    return true;
}

static bool skip_word(json_pull *json, const char *word)
{
    size_t length = strlen(word);
    if (json->n - json->at < length || memcmp(json->text + json->at, word, length) != 0) return fail(json, word);
    json->at += length;
    return true;
}

bool json_pull_bool(json_pull *json, bool *value)
{
    char c = json_pull_peek(json);
    if (c != 't' && c != 'f') return fail(json, "true or false");
    *value = c == 't';
    return skip_word(json, *value ? "true" : "false");
}

bool json_pull_skip(json_pull *json)
{
    switch (json_pull_peek(json)) {
    case '{':
        json_pull_enter(json, '{');
        while (advance(json, '}')) {
            if (!read_string(json, NULL)) return false;
            if (next_byte(json) != ':') return fail(json, "':'");
            json->at++;
            if (!json_pull_skip(json)) return false;
        }
        return !json->failed;
    case '[':
        json_pull_enter(json, '[');
        while (advance(json, ']'))
            if (!json_pull_skip(json)) return false;
        return !json->failed;
    case '"':
        return read_string(json, NULL);
    case '0':
        return skip_number(json);
    case 't':
        return skip_word(json, "true");
    case 'f':
        return skip_word(json, "false");
    case 'n':
        return skip_word(json, "null");
    default:
        return fail(json, "a value");
    }
}

bool json_pull_end(json_pull *json)
{
    if (json->failed) return false;
    next_byte(json);
    return json->at == json->n || fail(json, "the end of the file");
}

bool json_slice_is(json_slice slice, const char *text)
{
    return slice.length == strlen(text) && memcmp(slice.data, text, slice.length) == 0;
}
