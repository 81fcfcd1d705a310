#include "text/unicode.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

typedef struct range {
    uint32_t first, last;
} range;

/* True when one of the sorted ranges holds the code point. */
static bool in_ranges(const range *ranges, size_t count, uint32_t c)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (c > ranges[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && c >= ranges[low].first;
}

#define IN(ranges, c) in_ranges(ranges, sizeof(ranges) / sizeof((ranges)[0]), c)

/* ---- classes ----------------------------------------------------------------------------------------------- */

/* Letters and numbers of Unicode 15.1 and 16, which the reference's regular expressions know and utf8proc before 2.10
 * does not. */
static const range young_letters[] = {
    {0x1c89, 0x1c8a},   {0xa7cb, 0xa7cd},   {0xa7da, 0xa7dc},   {0x105c0, 0x105f3}, {0x10d4a, 0x10d65},
    {0x10d6f, 0x10d85}, {0x10ec2, 0x10ec4}, {0x11380, 0x11389}, {0x1138b, 0x1138b}, {0x1138e, 0x1138e},
    {0x11390, 0x113b5}, {0x113b7, 0x113b7}, {0x113d1, 0x113d1}, {0x113d3, 0x113d3}, {0x11bc0, 0x11be0},
    {0x13460, 0x143fa}, {0x16100, 0x1611d}, {0x16d40, 0x16d6c}, {0x18cff, 0x18cff}, {0x1e5d0, 0x1e5ed},
    {0x1e5f0, 0x1e5f0}, {0x2ebf0, 0x2ee5d},
};
static const range young_numbers[] = {
    {0x10d40, 0x10d49}, {0x116d0, 0x116e3}, {0x11bf0, 0x11bf9}, {0x16130, 0x16139},
    {0x16d70, 0x16d79}, {0x1ccf0, 0x1ccf9}, {0x1e5f1, 0x1e5fa},
};

static bool is_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

uint32_t unicode_lower(uint32_t c)
{
    if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
}

unicode_class unicode_classify(uint32_t c)
{
    if (c < 0x80) {
        if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') return UNICODE_LETTER;
        if (c >= '0' && c <= '9') return UNICODE_NUMBER;
        return is_space(c) ? UNICODE_SPACE : UNICODE_OTHER;
    }
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return UNICODE_LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return UNICODE_NUMBER;
    case UTF8PROC_CATEGORY_CN:
        if (IN(young_letters, c)) return UNICODE_LETTER;
        return IN(young_numbers, c) ? UNICODE_NUMBER : UNICODE_OTHER;
    default:
        return is_space(c) ? UNICODE_SPACE : UNICODE_OTHER;
    }
}

/* ---- normalisation ----------------------------------------------------------------------------------------- */

/* Code points with a combining class that were assigned after Unicode 9. The reference's tables end there, so it takes
 * them for class 0: they stay in place, and nothing composes or moves across them. */
static const range young_marks[] = {
    {0x07fd, 0x07fd},   {0x0898, 0x089f},   {0x08ca, 0x08d3},   {0x09fe, 0x09fe},   {0x0c3c, 0x0c3c},
    {0x0d3b, 0x0d3c},   {0x0eba, 0x0eba},   {0x1715, 0x1715},   {0x1abf, 0x1ace},   {0x1df6, 0x1dfa},
    {0xa82c, 0xa82c},   {0x10d24, 0x10d27}, {0x10eab, 0x10eac}, {0x10efd, 0x10eff}, {0x10f46, 0x10f50},
    {0x10f82, 0x10f85}, {0x11070, 0x11070}, {0x1133b, 0x1133b}, {0x1145e, 0x1145e}, {0x11839, 0x1183a},
    {0x1193d, 0x1193e}, {0x11943, 0x11943}, {0x119e0, 0x119e0}, {0x11a34, 0x11a34}, {0x11a47, 0x11a47},
    {0x11a99, 0x11a99}, {0x11d42, 0x11d42}, {0x11d44, 0x11d45}, {0x11d97, 0x11d97}, {0x11f41, 0x11f42},
    {0x16ff0, 0x16ff1}, {0x1e08f, 0x1e08f}, {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef},
    {0x1e4ec, 0x1e4ef},
};

/* Dives Akuru U+11938 = U+11935 U+11930 (Unicode 13) is the one composition younger than the reference's tables. */
enum { YOUNG_COMPOSITE = 0x11938, YOUNG_COMPOSITE_TAIL = 0x11930 };

static int combining_class(utf8proc_int32_t c)
{
    if (c < 0x300) return 0;
    int combining = utf8proc_get_property(c)->combining_class;
    return combining != 0 && IN(young_marks, (uint32_t)c) ? 0 : combining;
}

/* The code point before the first trailing Hangul consonant: no jamo, but utf8proc 2.8 composes it away. */
enum { HANGUL_TRAILING_BASE = 0x11a7 };

/* True when nothing before the code point composes with it or with what follows it. */
static bool starts_composition(utf8proc_int32_t c)
{
    return c == YOUNG_COMPOSITE_TAIL || c == HANGUL_TRAILING_BASE ||
           (utf8proc_get_property(c)->combining_class != 0 && combining_class(c) == 0);
}

typedef struct code_points {
    utf8proc_int32_t *data, *spare; /* both of `capacity` */
    size_t count, capacity;
} code_points;

enum { MAX_CANONICAL_DECOMPOSITION = 4 };

static bool decompose(const char *text, size_t n, code_points *points, ace_error *error)
{
    for (size_t at = 0; at < n;) {
        if (points->capacity - points->count < MAX_CANONICAL_DECOMPOSITION) {
            size_t capacity = points->capacity + points->capacity / 2 + 64;
            utf8proc_int32_t *grown = ace_realloc(points->data, capacity, sizeof *grown, "normalised text", error);
            if (!grown) return false;
            points->data = grown;
            points->capacity = capacity;
        }
        utf8proc_int32_t c = (utf8proc_int32_t)unicode_next(text, &at), *out = points->data + points->count;
        utf8proc_ssize_t length = 1;
        if (c < 0xc0 || c == YOUNG_COMPOSITE) {
            out[0] = c;
        } else {
            length = utf8proc_decompose_char(c, out, MAX_CANONICAL_DECOMPOSITION, UTF8PROC_DECOMPOSE, NULL);
            if (length < 0 || length > MAX_CANONICAL_DECOMPOSITION)
                return ace_fail(error, ACE_ERROR_INTERNAL, "U+%04X cannot be decomposed", (unsigned)c);
        }
        points->count += (size_t)length;
    }
    return true;
}

/* Canonical ordering: sorts every run of marks by combining class, stably. A counting sort, because the marks of a
 * hostile text can be one run. */
static bool order_marks(code_points *points, ace_error *error)
{
    for (size_t i = 0; i < points->count;) {
        size_t first = i, counts[256] = {0};
        bool sorted = true;
        for (int last = 0, class; i < points->count && (class = combining_class(points->data[i])) != 0; i++) {
            sorted = sorted && last <= class;
            last = class;
        }
        size_t n = i - first;
        i += n == 0;
        if (sorted) continue;
        if (!points->spare) {
            points->spare = ace_calloc(points->capacity, sizeof *points->spare, "normalised text", error);
            if (!points->spare) return false;
        }
        utf8proc_int32_t *run = points->data + first;
        for (size_t k = 0; k < n; k++) counts[combining_class(run[k])]++;
        for (size_t class = 0, start = 0; class < 256; class ++) {
            size_t count = counts[class];
            counts[class] = start;
            start += count;
        }
        for (size_t k = 0; k < n; k++) points->spare[counts[combining_class(run[k])]++] = run[k];
        memcpy(run, points->spare, n * sizeof *run);
    }
    return true;
}

/* Composes stretch by stretch and appends the result as UTF-8. */
static bool compose(code_points *points, ace_text *out, ace_error *error)
{
    for (size_t i = 0; i < points->count;) {
        size_t first = i++;
        while (i < points->count && !starts_composition(points->data[i])) i++;
        utf8proc_ssize_t length = utf8proc_normalize_utf32(points->data + first, (utf8proc_ssize_t)(i - first),
                                                           UTF8PROC_COMPOSE | UTF8PROC_STABLE);
        if (length < 0) return ace_fail(error, ACE_ERROR_INTERNAL, "text cannot be composed");
        for (size_t k = 0; k < (size_t)length; k++) {
            utf8proc_uint8_t bytes[4];
            utf8proc_ssize_t size = utf8proc_encode_char(points->data[first + k], bytes);
            ace_text_bytes(out, (const char *)bytes, (size_t)size);
        }
    }
    return !out->failed || ace_fail_memory(error, "normalised text", out->length);
}

bool unicode_surely_nfc(const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text;
    unsigned char highest = 0;
    for (size_t i = 0; i < n; i++) highest = p[i] > highest ? p[i] : highest;
    return highest < 0xcc; /* the lead byte of U+0300 */
}

bool unicode_nfc(const char *text, size_t n, ace_text *out, ace_error *error)
{
    code_points points = {0};
    bool ok = decompose(text, n, &points, error) && order_marks(&points, error) && compose(&points, out, error);
    free(points.data);
    free(points.spare);
    return ok;
}

/* ---- ill-formed text --------------------------------------------------------------------------------------- */

/* Bytes of the longest start of a well-formed sequence at the ill-formed p, at least 1. */
static size_t maximal_subpart(const unsigned char *p, size_t n)
{
    size_t length = p[0] >= 0xc2 && p[0] < 0xe0   ? 2
                    : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
                    : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                                  : 1;
    unsigned char low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    unsigned char high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    size_t i = 1;
    while (i < length && i < n && p[i] >= low && p[i] <= high) {
        low = 0x80;
        high = 0xbf;
        i++;
    }
    return i;
}

void unicode_append_lossy(const char *bytes, size_t n, ace_text *out)
{
    while (n > 0) {
        size_t good = n;
        bool valid = ace_utf8_valid(bytes, n, &good);
        if (valid) good = n;
        ace_text_bytes(out, bytes, good);
        bytes += good;
        n -= good;
        if (n == 0) break;
        ace_text_add(out, "\xef\xbf\xbd");
        size_t bad = maximal_subpart((const unsigned char *)bytes, n);
        bytes += bad;
        n -= bad;
    }
}

int unicode_excerpt(const char *text, size_t n)
{
    if (!ace_utf8_valid(text, n, NULL)) return 0;
    size_t at = 0;
    while (at < n) {
        size_t next = at;
        unicode_next(text, &next);
        if (next > 60) break;
        at = next;
    }
    return (int)at;
}
