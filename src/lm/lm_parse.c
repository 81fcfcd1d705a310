#include "lm/lm_parse.h"

#include "base/error.h"
#include "base/memory.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_CODE = 63999 };

#define CODE_OPEN "<|audio_code_"
#define CODE_CLOSE "|>"
#define NOT_FOUND SIZE_MAX

/* ---- text -------------------------------------------------------------------------------------------------- */

static size_t find(lm_slice text, const char *what, size_t from)
{
    if (from > text.length) return NOT_FOUND;
    const char *found = memmem(text.data + from, text.length - from, what, strlen(what));
    return found ? (size_t)(found - text.data) : NOT_FOUND;
}

static lm_slice part(lm_slice text, size_t start, size_t end)
{
    return (lm_slice){text.data + start, end - start};
}

static bool starts_with(lm_slice text, const char *what)
{
    size_t n = strlen(what);
    return text.length >= n && memcmp(text.data, what, n) == 0;
}

/* The next line of *rest, without its LF; false when there is none. "a\n" has two lines, as str.split() says. */
static bool next_line(lm_slice *rest, lm_slice *line)
{
    if (!rest->data) return false;
    size_t end = find(*rest, "\n", 0);
    bool last = end == NOT_FOUND;
    *line = part(*rest, 0, last ? rest->length : end);
    *rest = last ? (lm_slice){0} : part(*rest, end + 1, rest->length);
    return true;
}

/* The length of what must not be read at the start of the text: a NUL, or, in the default profile, a token that ends a
 * turn. 0 for anything else. */
static size_t unwanted(lm_profile profile, lm_slice text)
{
    static const char *const ends[] = {"<|im_end|>", "<|endoftext|>"};
    if (text.data[0] == '\0') return 1;
    if (text.data[0] != '<' || profile == LM_PROFILE_OFFICIAL) return 0;
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (starts_with(text, ends[i])) return strlen(ends[i]);
    return 0;
}

/* Appends the text without what is unwanted. A NUL leaves U+FFFD behind. */
static bool clean(lm_profile profile, const char *bytes, size_t n, ace_text *out, ace_error *error)
{
    lm_slice all = {bytes, n};
    size_t bad, start = 0;
    if (!ace_utf8_valid(bytes, n, &bad))
        return ace_fail(error, ACE_ERROR_USAGE, "the language model's text is not UTF-8 at byte %zu", bad);
    for (size_t at = 0; at < n;) {
        size_t skip = unwanted(profile, part(all, at, n));
        if (skip > 0) {
            ace_text_bytes(out, bytes + start, at - start);
            if (bytes[at] == '\0') lm_append(out, 0xfffd);
            start = at + skip;
        }
        at += skip > 0 ? skip : 1;
    }
    ace_text_bytes(out, bytes + start, n - start);
    if (out->failed) return ace_fail_memory(error, "the language model's text", n);
    return true;
}

/* ---- YAML's quotes ----------------------------------------------------------------------------------------- */

static size_t backslashes_before(const ace_text *text)
{
    size_t n = 0;
    while (n < text->length && text->data[text->length - 1 - n] == '\\') n++;
    return n;
}

/* Without the white space that YAML knows, at both ends. */
static lm_slice trim_blanks(lm_slice line)
{
    while (line.length > 0 && strchr(" \t\r", line.data[0])) line = part(line, 1, line.length);
    while (line.length > 0 && strchr(" \t\r", line.data[line.length - 1])) line.length--;
    return line;
}

/* Appends the lines of a quoted scalar as one: trimmed, blank ones left out, a space between two of them; in double
 * quotes a backslash at the end of a line joins it to the next without one. */
static void fold_quoted(lm_slice value, bool escapes, ace_text *out)
{
    lm_slice line;
    for (bool first = true; next_line(&value, &line);) {
        line = trim_blanks(line);
        if (line.length == 0) continue;
        if (!first && escapes && backslashes_before(out) % 2 == 1)
            out->data[--out->length] = '\0';
        else if (!first)
            ace_text_add(out, " ");
        ace_text_bytes(out, line.data, line.length);
        first = false;
    }
}

/* A number of `digits` hexadecimal digits at *p; moves behind it. False when it is no character. */
static bool hexadecimal(const char **p, const char *end, int digits, uint32_t *c)
{
    *c = 0;
    for (; digits > 0; digits--, ++*p) {
        if (*p == end || !strchr("0123456789abcdefABCDEF", **p)) return false;
        unsigned value = (unsigned)**p | 0x20u;
        *c = *c << 4 | (value >= 'a' ? value - 'a' + 10 : value & 0xfu);
    }
    return *c > 0 && *c <= 0x10ffff && (*c < 0xd800 || *c > 0xdfff);
}

/* What stands behind a backslash, at *p < end; moves behind it. */
static bool unescape(const char **p, const char *end, ace_text *out)
{
    static const char letters[] = "abtnvfreNLP_\"\\/ \t";
    static const uint32_t meanings[] = {7,      8,      9,    10,  11,   12,  13,  27,  0x85,
                                        0x2028, 0x2029, 0xa0, '"', '\\', '/', ' ', '\t'};
    char letter = *(*p)++;
    uint32_t c = 0;
    const char *known = letter ? strchr(letters, letter) : NULL;
    if (known)
        c = meanings[known - letters];
    else if (letter == '0')
        c = 0xfffd; /* NUL, which no text of ours may contain */
    else if (letter != 'x' && letter != 'u' && letter != 'U')
        return false;
    else if (!hexadecimal(p, end, letter == 'x' ? 2 : letter == 'u' ? 4 : 8, &c))
        return false;
    lm_append(out, c);
    return true;
}

/* Appends what a well-formed quoted scalar means; false, and nothing appended, when the value is none. */
static bool unquote(lm_slice value, ace_text *out)
{
    value = lm_trim(value);
    if (value.length < 2 || (value.data[0] != '\'' && value.data[0] != '"')) return false;
    char quote = value.data[0];
    ace_text folded = {0}, meaning = {0};
    fold_quoted(value, quote == '"', &folded);
    bool ok = !folded.failed && folded.length >= 2 && folded.data[folded.length - 1] == quote;
    const char *p = ok ? folded.data + 1 : NULL, *end = ok ? folded.data + folded.length - 1 : NULL;
    while (ok && p < end) {
        char c = *p++;
        if (quote == '"' && c == '\\')
            ok = p < end && unescape(&p, end, &meaning);
        else if (c != quote)
            ace_text_bytes(&meaning, &c, 1);
        else if (quote == '\'' && p < end && *p == '\'')
            ace_text_bytes(&meaning, p++, 1);
        else
            ok = false;
    }
    out->failed = out->failed || folded.failed || meaning.failed;
    if (ok && meaning.length > 0) ace_text_bytes(out, meaning.data, meaning.length);
    ace_text_free(&folded);
    ace_text_free(&meaning);
    return ok;
}

/* ---- metadata ---------------------------------------------------------------------------------------------- */

/* The field being read. */
typedef struct reader {
    lm_profile profile;
    const lm_metadata *given;
    lm_metadata *metadata;
    lm_slice key;   /* empty: no field is open */
    ace_text lines; /* of its value, LF between them */
    bool any;
} reader;

static bool field_of(lm_slice key, lm_field *field)
{
    for (*field = 0; *field < LM_FIELD_COUNT; ++*field)
        if (lm_is_word(key, lm_field_name(*field))) return true;
    return false;
}

/* False for a value that its field cannot have. */
static bool is_possible(const reader *r, lm_field field, lm_slice value)
{
    if (r->profile == LM_PROFILE_OFFICIAL || (r->given && lm_metadata_has(r->given, field))) return true;
    if (field == LM_KEYSCALE) return lm_is_keyscale(value);
    if (field == LM_LANGUAGE) return lm_is_language(value);
    if (field == LM_TIMESIGNATURE) return lm_is_timesignature(value);
    return true;
}

static bool store_value(reader *r, lm_field field, lm_slice value, ace_error *error)
{
    int64_t integer;
    if ((field == LM_BPM || field == LM_DURATION) && lm_integer(value, &integer)) {
        lm_metadata_set_integer(r->metadata, field, integer);
        return true;
    }
    if (is_possible(r, field, value)) return lm_metadata_set_text(r->metadata, field, value, error);
    lm_metadata_clear(r->metadata, field); /* the last line about a field counts, also a wrong one */
    return true;
}

/* Appends the lines of a caption without quotes as one: trimmed as the reference does, blank ones left out. */
static void join_lines(lm_slice value, ace_text *out)
{
    lm_slice line;
    for (bool first = true; next_line(&value, &line);) {
        line = lm_trim(line);
        if (line.length == 0) continue;
        if (!first) ace_text_add(out, " ");
        ace_text_bytes(out, line.data, line.length);
        first = false;
    }
}

/* Stores the open field, if any, and closes it. */
static bool store(reader *r, ace_error *error)
{
    lm_field field;
    bool ok = true;
    if (r->key.length > 0 && r->any && field_of(r->key, &field)) {
        lm_slice value = {r->lines.data ? r->lines.data : "", r->lines.length};
        ace_text text = {0};
        if (r->profile != LM_PROFILE_OFFICIAL && unquote(value, &text)) {
            value = (lm_slice){text.data ? text.data : "", text.length};
        } else if (field == LM_CAPTION) {
            join_lines(value, &text);
            value = (lm_slice){text.data ? text.data : "", text.length};
        } else {
            value = lm_trim(value);
        }
        ok = !text.failed && !r->lines.failed ? store_value(r, field, value, error)
                                              : ace_fail_memory(error, "metadata", r->lines.length);
        ace_text_free(&text);
    }
    r->key = (lm_slice){0};
    r->lines.length = 0;
    r->any = false;
    return ok;
}

static void add_line(reader *r, lm_slice line)
{
    if (r->any) ace_text_add(&r->lines, "\n");
    ace_text_bytes(&r->lines, line.data, line.length);
    r->any = true;
}

static bool read_line(reader *r, lm_slice line, ace_error *error)
{
    lm_slice trimmed = lm_trim(line);
    if (starts_with(trimmed, "<")) return true;
    const char *colon = memchr(line.data, ':', line.length);
    if (colon && trimmed.data == line.data) {
        if (!store(r, error)) return false;
        size_t at = (size_t)(colon - line.data);
        lm_slice value = part(line, at + 1, line.length);
        r->key = lm_trim(part(line, 0, at));
        if (lm_trim(value).length > 0) add_line(r, value);
    } else if ((starts_with(line, " ") || starts_with(line, "\t")) && r->key.length > 0) {
        add_line(r, line);
    }
    return true;
}

/* The content of the first <tag>...</tag>, trimmed; false when there is none. */
static bool inside(lm_slice text, const char *open, const char *close, lm_slice *content)
{
    size_t start = find(text, open, 0);
    if (start == NOT_FOUND) return false;
    start += strlen(open);
    size_t end = find(text, close, start);
    if (end == NOT_FOUND) return false;
    *content = lm_trim(part(text, start, end));
    return true;
}

bool lm_parse_metadata(lm_profile profile, const char *text, size_t n, const lm_metadata *given, lm_metadata *metadata,
                       ace_error *error)
{
    ace_text cleaned = {0};
    reader r = {.profile = profile, .given = given, .metadata = metadata};
    bool ok = clean(profile, text, n, &cleaned, error);
    lm_slice all = {cleaned.data ? cleaned.data : "", cleaned.length}, reasoning = {0}, line;
    if (!inside(all, "<think>", "</think>", &reasoning)) inside(all, "<reasoning>", "</reasoning>", &reasoning);
    if (reasoning.length == 0) {
        size_t codes = find(all, CODE_OPEN, 0);
        reasoning = lm_trim(part(all, 0, codes == NOT_FOUND ? all.length : codes));
    }
    while (ok && next_line(&reasoning, &line)) ok = read_line(&r, line, error);
    ok = ok && store(&r, error);
    if (!ok) lm_metadata_free(metadata);
    ace_text_free(&r.lines);
    ace_text_free(&cleaned);
    return ok;
}

/* ---- lyrics ------------------------------------------------------------------------------------------------ */

static size_t skip_spaces(lm_slice text, size_t at)
{
    for (size_t next = at; next < text.length; at = next)
        if (!lm_is_space(unicode_next(text.data, &next))) break;
    return at;
}

/* One character that equals the lower-case ASCII letter but for case; Unicode's dotless and dotted i count as i and the
 * long s as s, as they do in the reference's regular expressions. */
static bool skip_letter(lm_slice text, size_t *at, char letter)
{
    if (*at >= text.length) return false;
    size_t next = *at;
    uint32_t c = unicode_next(text.data, &next);
    if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
    if (c == 0x130 || c == 0x131) c = 'i';
    if (c == 0x17f) c = 's';
    if (c != (unsigned char)letter) return false;
    *at = next;
    return true;
}

static bool skip_letters(lm_slice text, size_t *at, const char *letters)
{
    for (; *letters; letters++)
        if (!skip_letter(text, at, *letters)) return false;
    return true;
}

/* The end of the heading "# <word><one of optional>" with its line break and all blank lines behind it; 0 when the text
 * does not start with it. With `bare` it may also be all of the text. */
static size_t heading_end(lm_slice text, const char *word, const char *const *optional, bool bare)
{
    if (!starts_with(text, "#")) return 0;
    size_t at = skip_spaces(text, 1);
    if (!skip_letters(text, &at, word)) return 0;
    for (; *optional; optional++) {
        size_t longer = at;
        if (!skip_letters(text, &longer, *optional)) continue;
        at = longer;
        break;
    }
    size_t end = skip_spaces(text, at);
    if (bare && end == text.length) return end;
    while (end > at && text.data[end - 1] != '\n') end--;
    return end > at ? end : 0;
}

/* The text behind "# Languages", its lines, and the blank line or heading that ends them. */
static lm_slice without_languages(lm_slice text)
{
    static const char *const optional[] = {"s", NULL};
    size_t at = heading_end(text, "language", optional, false);
    if (at == 0) return text;
    lm_slice rest = part(text, at, text.length), line;
    while (rest.data && !starts_with(rest, "#")) {
        if (!next_line(&rest, &line) || lm_trim(line).length == 0) break;
    }
    return rest.data ? lm_trim(rest) : (lm_slice){"", 0};
}

char *lm_parse_lyrics(lm_profile profile, const char *text, size_t n, ace_error *error)
{
    static const char *const official[] = {"c", "|", "s", NULL}; /* the reference's pattern is [c|cs]? */
    static const char *const sensible[] = {"cs", "c", "|", "s", NULL};
    static const char close[] = "</think>", end_of_turn[] = "<|im_end|>";
    bool strict = profile == LM_PROFILE_OFFICIAL;
    ace_text cleaned = {0}, lyrics = {0};
    if (!clean(profile, text, n, &cleaned, error)) {
        ace_text_free(&cleaned);
        return NULL;
    }
    lm_slice all = {cleaned.data ? cleaned.data : "", cleaned.length}, rest = {"", 0};
    size_t at = find(all, close, 0);
    if (at != NOT_FOUND) rest = lm_trim(part(all, at + strlen(close), all.length));
    if (!strict) rest = without_languages(rest);
    rest = part(rest, heading_end(rest, "lyri", strict ? official : sensible, !strict), rest.length);
    rest = lm_trim(rest);
    size_t tail = strlen(end_of_turn);
    if (rest.length >= tail && memcmp(rest.data + rest.length - tail, end_of_turn, tail) == 0)
        rest = lm_trim(part(rest, 0, rest.length - tail));
    ace_text_bytes(&lyrics, rest.data, rest.length);
    ace_text_free(&cleaned);
    return ace_text_take(&lyrics, error);
}

/* ---- codes ------------------------------------------------------------------------------------------------- */

bool lm_parse_codes(const char *text, size_t n, int32_t **codes, size_t *count, size_t *clamped, ace_error *error)
{
    lm_slice all = {text, n};
    size_t bad, capacity = 0;
    *codes = NULL;
    *count = *clamped = 0;
    if (!ace_utf8_valid(text, n, &bad))
        return ace_fail(error, ACE_ERROR_USAGE, "the audio codes are not UTF-8 at byte %zu", bad);
    for (size_t at = find(all, CODE_OPEN, 0); at != NOT_FOUND; at = find(all, CODE_OPEN, at)) capacity++, at++;
    *codes = ace_calloc(capacity, sizeof **codes, "audio codes", error);
    if (!*codes) return false;
    for (size_t at = find(all, CODE_OPEN, 0); at != NOT_FOUND; at = find(all, CODE_OPEN, at)) {
        at += strlen(CODE_OPEN);
        size_t end = lm_digits_end(all, at);
        if (end == at || !starts_with(part(all, end, n), CODE_CLOSE)) continue;
        int64_t code;
        bool fits = lm_integer(part(all, at, end), &code) && code <= MAX_CODE;
        *clamped += !fits;
        (*codes)[(*count)++] = fits ? (int32_t)code : MAX_CODE;
        at = end;
    }
    return true;
}

void lm_write_codes(ace_text *out, const int32_t *codes, size_t count)
{
    for (size_t i = 0; i < count; i++) ace_text_format(out, CODE_OPEN "%d" CODE_CLOSE, (int)codes[i]);
}
