#include "lm/lm_text.h"

#include "text/unicode.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The zeros of the scripts that have decimal digits; one to nine follow each of them. */
static const uint32_t zeros[] = {
    0x30,    0x660,   0x6f0,   0x7c0,   0x966,   0x9e6,   0xa66,   0xae6,   0xb66,   0xbe6,   0xc66,
    0xce6,   0xd66,   0xde6,   0xe50,   0xed0,   0xf20,   0x1040,  0x1090,  0x17e0,  0x1810,  0x1946,
    0x19d0,  0x1a80,  0x1a90,  0x1b50,  0x1bb0,  0x1c40,  0x1c50,  0xa620,  0xa8d0,  0xa900,  0xa9d0,
    0xa9f0,  0xaa50,  0xabf0,  0xff10,  0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0,
    0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x16a60,
    0x16ac0, 0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0};

lm_slice lm_slice_of(const char *text)
{
    return (lm_slice){text ? text : "", text ? strlen(text) : 0};
}

bool lm_slice_is(lm_slice slice, const char *text)
{
    return slice.length == strlen(text) && memcmp(slice.data, text, slice.length) == 0;
}

bool lm_is_space(uint32_t c)
{
    return (c >= 0x1c && c <= 0x1f) || unicode_classify(c) == UNICODE_SPACE;
}

void lm_append(ace_text *out, uint32_t c)
{
    char bytes[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint32_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n - 1; i > 0; i--, c >>= 6) bytes[i] = (char)(0x80 | (c & 0x3f));
    bytes[0] = (char)(lead[n] | c);
    ace_text_bytes(out, bytes, n);
}

int lm_digit(uint32_t c)
{
    for (size_t i = 0; i < sizeof zeros / sizeof zeros[0] && zeros[i] <= c; i++)
        if (c - zeros[i] < 10) return (int)(c - zeros[i]);
    return -1;
}

lm_slice lm_trim(lm_slice text)
{
    size_t at = 0, start = text.length, end = text.length;
    bool inside = false;
    while (at < text.length) {
        size_t from = at;
        if (lm_is_space(unicode_next(text.data, &at))) continue;
        if (!inside) start = from;
        inside = true;
        end = at;
    }
    return (lm_slice){text.data + start, end - start};
}

bool lm_is_word(lm_slice text, const char *lower)
{
    size_t at = 0;
    while (at < text.length && *lower) {
        uint32_t c = unicode_next(text.data, &at);
        if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
        if (c == 0x212a) c = 'k'; /* KELVIN SIGN, the only other character whose lower case is ASCII alone */
        if (c != (unsigned char)*lower++) return false;
    }
    return at == text.length && *lower == '\0';
}

bool lm_blank(const char *text)
{
    return lm_trim(lm_slice_of(text)).length == 0;
}

static bool is_control(uint32_t c)
{
    if (c == '\t' || c == '\n' || c == '\r' || c == 0x85) return false;
    return c < 0x20 || (c >= 0x7f && c < 0xa0);
}

char *lm_without_controls(const char *text, size_t *removed, ace_error *error)
{
    lm_slice all = lm_slice_of(text);
    ace_text out = {0};
    *removed = 0;
    for (size_t at = 0, start = 0; at <= all.length;) {
        size_t from = at;
        bool control = at < all.length && is_control(unicode_next(all.data, &at));
        if (!control && from < all.length) continue;
        ace_text_bytes(&out, all.data + start, from - start);
        if (from == all.length) break;
        ++*removed;
        start = at;
    }
    return ace_text_take(&out, error);
}

size_t lm_digits_end(lm_slice text, size_t at)
{
    for (size_t next = at; next < text.length; at = next)
        if (lm_digit(unicode_next(text.data, &next)) < 0) break;
    return at;
}

bool lm_integer(lm_slice text, int64_t *value)
{
    text = lm_trim(text);
    size_t at = 0;
    bool negative = text.length > 0 && text.data[0] == '-', digit_before = false;
    if (negative || (text.length > 0 && text.data[0] == '+')) at = 1;
    int64_t sum = 0;
    while (at < text.length) {
        uint32_t c = unicode_next(text.data, &at);
        int digit = lm_digit(c);
        if (c == '_' ? !digit_before : digit < 0) return false;
        digit_before = digit >= 0;
        if (!digit_before) continue;
        if (__builtin_mul_overflow(sum, (int64_t)10, &sum) ||
            __builtin_add_overflow(sum, (int64_t)(negative ? -digit : digit), &sum))
            return false;
    }
    if (!digit_before) return false;
    *value = sum;
    return true;
}

/* Passes over digits with single underscores between them, copying them to *out; false when there are none or an
 * underscore is not between two digits. */
static bool copy_digits(lm_slice text, size_t *at, char **out)
{
    bool any = false;
    for (;;) {
        size_t from = *at, next = from, end = lm_digits_end(text, from);
        if (end == from) return false;
        while (next < end) *(*out)++ = (char)('0' + lm_digit(unicode_next(text.data, &next)));
        any = true;
        *at = end;
        if (end >= text.length || text.data[end] != '_') return any;
        (*at)++;
    }
}

bool lm_number(lm_slice text, double *value)
{
    char ascii[128];
    text = lm_trim(text);
    if (text.length == 0 || text.length >= sizeof ascii) return false;
    char *out = ascii;
    size_t at = 0;
    if (text.data[0] == '-' || text.data[0] == '+') *out++ = text.data[at++];
    size_t digits = lm_digits_end(text, at);
    bool whole = digits > at, fraction = false;
    if (whole && !copy_digits(text, &at, &out)) return false;
    if (at < text.length && text.data[at] == '.') {
        *out++ = text.data[at++];
        fraction = lm_digits_end(text, at) > at;
        if (fraction && !copy_digits(text, &at, &out)) return false;
    }
    if (!whole && !fraction) return false;
    if (at < text.length && (text.data[at] | 0x20) == 'e') {
        *out++ = text.data[at++];
        if (at < text.length && (text.data[at] == '-' || text.data[at] == '+')) *out++ = text.data[at++];
        if (!copy_digits(text, &at, &out)) return false;
    }
    *out = '\0';
    if (at != text.length) return false;
    *value = strtod(ascii, NULL);
    return isfinite(*value);
}
