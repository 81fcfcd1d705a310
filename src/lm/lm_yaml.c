#include "lm/lm_yaml.h"

#include "base/memory.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

enum { WIDTH = 80, INDENT = 2 };

/* A value as code points: all columns and places count in them. */
typedef struct code_points {
    uint32_t *data;
    size_t count;
} code_points;

static bool decode(lm_slice text, code_points *points, ace_error *error)
{
    points->data = ace_calloc(text.length, sizeof *points->data, "a metadata value", error);
    if (!points->data) return false;
    for (size_t at = 0; at < text.length;) points->data[points->count++] = unicode_next(text.data, &at);
    return true;
}

/* ---- classes of characters --------------------------------------------------------------------------------- */

static bool is_break(uint32_t c)
{
    return c == '\n' || c == 0x85 || c == 0x2028 || c == 0x2029;
}

/* What separates an indicator (":", "#", "-") from text. */
static bool is_blank(uint32_t c)
{
    return c == '\0' || c == ' ' || c == '\t' || c == '\r' || is_break(c);
}

/* Characters that only double quotes can carry. */
static bool is_special(uint32_t c)
{
    if (c == '\n' || (c >= 0x20 && c <= 0x7e) || c == 0x85) return false;
    return !((c >= 0xa0 && c <= 0xfffd) || (c >= 0x10000 && c < 0x10ffff)) || c == 0xfeff;
}

static bool among(uint32_t c, const char *characters)
{
    return c > 0 && c < 0x80 && strchr(characters, (int)c);
}

/* ---- would YAML 1.1 read it as something else than a string? ------------------------------------------------ */

static const char digit[] = "0123456789", digit_or_line[] = "0123456789_";

/* Passes over characters of a set, at least `least`; false when there are fewer. */
static bool skip(const char **p, const char *set, size_t least)
{
    size_t n = strspn(*p, set);
    *p += n;
    return n >= least;
}

static bool skip_one(const char **p, const char *set)
{
    if (!**p || !strchr(set, **p)) return false;
    ++*p;
    return true;
}

/* One or two digits. */
static bool skip_short(const char **p)
{
    return skip_one(p, digit) && (skip_one(p, digit) || true);
}

static bool skip_two(const char **p)
{
    return skip_one(p, digit) && skip_one(p, digit);
}

/* ":5" or ":59", once or more: base 60. */
static bool skip_sexagesimal(const char **p)
{
    if (**p != ':') return false;
    while (**p == ':') {
        ++*p;
        bool tens = skip_one(p, "012345");
        if (!skip_one(p, digit) && !tens) return false;
    }
    return true;
}

static bool one_of(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(text, *words) == 0) return true;
    return false;
}

static bool is_integer(const char *p)
{
    skip_one(&p, "+-");
    if (*p == '0') {
        p++;
        if (*p == '\0') return true;
        if (*p == 'b') return p++, skip(&p, "01_", 1) && !*p;
        if (*p == 'x') return p++, skip(&p, "0123456789abcdefABCDEF_", 1) && !*p;
        return skip(&p, "01234567_", 1) && !*p;
    }
    if (!skip_one(&p, "123456789")) return false;
    skip(&p, digit_or_line, 0);
    return !*p || (skip_sexagesimal(&p) && !*p);
}

static bool is_float(const char *p)
{
    static const char *const infinite[] = {".inf", ".Inf", ".INF", NULL};
    static const char *const none[] = {".nan", ".NaN", ".NAN", NULL};
    if (one_of(p, none)) return true;
    bool sign = skip_one(&p, "+-");
    if (one_of(p, infinite)) return true;
    bool whole = skip_one(&p, digit);
    if (whole) skip(&p, digit_or_line, 0);
    if (whole && *p == ':') return skip_sexagesimal(&p) && skip_one(&p, ".") && skip(&p, digit_or_line, 0) && !*p;
    if (!skip_one(&p, ".")) return false;
    if (!whole && (sign || !skip_one(&p, digit))) return false;
    skip(&p, digit_or_line, 0);
    if (!skip_one(&p, "eE")) return !*p;
    return skip_one(&p, "+-") && skip(&p, digit, 1) && !*p;
}

static bool is_date(const char *p)
{
    return skip_two(&p) && skip_two(&p) && skip_one(&p, "-") && skip_two(&p) && skip_one(&p, "-") && skip_two(&p) &&
           !*p;
}

static bool is_timestamp(const char *p)
{
    if (!(skip_two(&p) && skip_two(&p) && skip_one(&p, "-") && skip_short(&p) && skip_one(&p, "-") && skip_short(&p)))
        return false;
    if (!skip_one(&p, "Tt") && !skip(&p, " \t", 1)) return false;
    if (!(skip_short(&p) && skip_one(&p, ":") && skip_two(&p) && skip_one(&p, ":") && skip_two(&p))) return false;
    if (skip_one(&p, ".")) skip(&p, digit, 0);
    if (!*p) return true;
    skip(&p, " \t", 0);
    if (skip_one(&p, "Z")) return !*p;
    if (!skip_one(&p, "+-") || !skip_short(&p)) return false;
    return !*p || (skip_one(&p, ":") && skip_two(&p) && !*p);
}

/* `text` has no NUL and is not empty. */
static bool is_other_type(const char *text)
{
    static const char *const words[] = {"yes", "Yes", "YES",   "no",    "No",    "NO",   "true", "True", "TRUE",
                                        "on",  "On",  "ON",    "off",   "Off",   "OFF",  "~",    "null", "Null",
                                        "=",   "<<",  "false", "False", "FALSE", "NULL", NULL};
    return one_of(text, words) || is_integer(text) || is_float(text) || is_date(text) || is_timestamp(text);
}

/* ---- choosing a style -------------------------------------------------------------------------------------- */

typedef enum style { PLAIN, SINGLE, DOUBLE } style;

static bool needs_quotes(code_points text)
{
    const uint32_t *c = text.data;
    size_t n = text.count;
    if (n >= 3 && c[0] == c[1] && c[1] == c[2] && (c[0] == '-' || c[0] == '.')) return true;
    if (among(c[0], "#,[]{}&*!|>'\"%@`")) return true;
    if (among(c[0], "?:-") && (n == 1 || is_blank(c[1]))) return true;
    if (c[0] == ' ' || c[n - 1] == ' ') return true;
    for (size_t i = 0; i < n; i++) {
        if (is_break(c[i])) return true;
        if (i > 0 && c[i] == ':' && (i + 1 == n || is_blank(c[i + 1]))) return true;
        if (i > 0 && c[i] == '#' && is_blank(c[i - 1])) return true;
    }
    return false;
}

static bool needs_escapes(code_points text)
{
    for (size_t i = 0; i < text.count; i++) {
        if (is_special(text.data[i])) return true;
        if (i == 0) continue;
        uint32_t before = text.data[i - 1], c = text.data[i];
        if ((before == ' ' && is_break(c)) || (is_break(before) && c == ' ')) return true;
    }
    return false;
}

static style choose_style(code_points points, const char *text)
{
    if (points.count == 0) return SINGLE;
    if (needs_escapes(points)) return DOUBLE;
    return needs_quotes(points) || is_other_type(text) ? SINGLE : PLAIN;
}

/* ---- writing ----------------------------------------------------------------------------------------------- */

typedef struct writer {
    ace_text *out;
    size_t column;
} writer;

static void put(writer *w, const char *ascii)
{
    ace_text_add(w->out, ascii);
    w->column += strlen(ascii);
}

static void put_points(writer *w, code_points text, size_t start, size_t end)
{
    for (size_t i = start; i < end; i++) lm_append(w->out, text.data[i]);
    w->column += end - start;
}

static void put_fold(writer *w)
{
    ace_text_add(w->out, "\n  ");
    w->column = INDENT;
}

/* The end of the run of characters that begins at i: a word, spaces, or breaks. */
static size_t run_end(code_points text, size_t i)
{
    bool space = text.data[i] == ' ', line = is_break(text.data[i]);
    while (i < text.count && (text.data[i] == ' ') == space && is_break(text.data[i]) == line) i++;
    return i;
}

static void write_plain(writer *w, code_points text)
{
    put(w, " ");
    for (size_t i = 0, end; i < text.count; i = end) {
        end = run_end(text, i);
        if (text.data[i] == ' ' && end == i + 1 && w->column > WIDTH)
            put_fold(w);
        else
            put_points(w, text, i, end);
    }
}

/* A run of breaks that starts with LF gets one LF more: a single one would read back as a space. */
static void write_breaks(writer *w, code_points text, size_t start, size_t end)
{
    if (text.data[start] == '\n') ace_text_add(w->out, "\n");
    for (size_t i = start; i < end; i++) lm_append(w->out, text.data[i]);
    ace_text_add(w->out, "  ");
    w->column = INDENT;
}

static void write_single(writer *w, code_points text)
{
    put(w, " '");
    for (size_t i = 0, end; i < text.count; i = end) {
        end = run_end(text, i);
        if (is_break(text.data[i])) {
            write_breaks(w, text, i, end);
        } else if (text.data[i] == ' ') {
            if (end == i + 1 && w->column > WIDTH && end < text.count)
                put_fold(w);
            else
                put_points(w, text, i, end);
        } else {
            for (; i < end; i++) {
                put_points(w, text, i, i + 1);
                if (text.data[i] == '\'') put(w, "'");
            }
        }
    }
    put(w, "'");
}

static bool is_escaped(uint32_t c)
{
    if (c == '"' || c == '\\' || c == 0x2028 || c == 0x2029 || c == 0xfeff) return true;
    return !((c >= 0x20 && c <= 0x7e) || (c >= 0xa0 && c <= 0xfffd));
}

static void put_escape(writer *w, uint32_t c)
{
    static const struct {
        uint32_t code_point;
        const char *escape;
    } named[] = {{0, "\\0"},     {7, "\\a"},    {8, "\\b"},      {9, "\\t"},     {10, "\\n"},
                 {11, "\\v"},    {12, "\\f"},   {13, "\\r"},     {27, "\\e"},    {'"', "\\\""},
                 {'\\', "\\\\"}, {0x85, "\\N"}, {0x2028, "\\L"}, {0x2029, "\\P"}};
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++)
        if (named[i].code_point == c) {
            put(w, named[i].escape);
            return;
        }
    size_t before = w->out->length;
    ace_text_format(w->out, c <= 0xff ? "\\x%02X" : c <= 0xffff ? "\\u%04X" : "\\U%08X", (unsigned)c);
    w->column += w->out->length - before;
}

/* The place where a line is folded is looked for at every character, also at one that was just escaped. */
static void write_double(writer *w, code_points text)
{
    put(w, " \"");
    size_t start = 0; /* of what is not yet written */
    for (size_t end = 0; end < text.count; end++) {
        uint32_t c = text.data[end];
        if (is_escaped(c)) {
            put_points(w, text, start, end);
            put_escape(w, c);
            start = end + 1;
        }
        if (end == 0 || end + 1 >= text.count || (c != ' ' && start < end)) continue;
        size_t pending = start < end ? end - start : 0;
        /* an escape just written leaves start behind end: one column less, as the reference counts */
        if (w->column + pending - (start > end ? 1 : 0) <= WIDTH) continue;
        put_points(w, text, start, start + pending);
        start += pending;
        put(w, "\\");
        put_fold(w);
        if (text.data[start] == ' ') put(w, "\\");
    }
    put_points(w, text, start, text.count);
    put(w, "\"");
}

bool lm_yaml_write(ace_text *out, const char *key, lm_slice value, ace_error *error)
{
    char *text = NULL;
    code_points points = {0};
    bool ok = (text = ace_calloc(value.length + 1, 1, "a metadata value", error)) && decode(value, &points, error);
    if (ok) {
        memcpy(text, value.data, value.length);
        ace_text_format(out, "%s:", key);
        writer w = {out, strlen(key) + 1};
        style chosen = choose_style(points, text);
        (chosen == PLAIN ? write_plain : chosen == SINGLE ? write_single : write_double)(&w, points);
        ace_text_add(out, "\n");
    }
    free(text);
    free(points.data);
    return ok;
}
