/* unicode.h - what text needs to know about Unicode: code points, classes, lower case, NFC, and U+FFFD. */
#ifndef ACE_TEXT_UNICODE_H
#define ACE_TEXT_UNICODE_H

#include "base/text.h"

typedef enum unicode_class {
    UNICODE_OTHER,  /* marks, punctuation, symbols, controls, unassigned */
    UNICODE_LETTER, /* general category L */
    UNICODE_NUMBER, /* general category N */
    UNICODE_SPACE   /* property White_Space */
} unicode_class;

unicode_class unicode_classify(uint32_t code_point);

/* The code point at text[*at] of valid UTF-8; moves *at behind it. */
static inline uint32_t unicode_next(const char *text, size_t *at)
{
    const unsigned char *p = (const unsigned char *)text + *at;
    if (p[0] < 0x80) {
        *at += 1;
        return p[0];
    }
    if (p[0] < 0xe0) {
        *at += 2;
        return (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu);
    }
    if (p[0] < 0xf0) {
        *at += 3;
        return (p[0] & 0x0fu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
    }
    *at += 4;
    return (p[0] & 0x07u) << 18 | (p[1] & 0x3fu) << 12 | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
}

/* The simple lower case of a code point. */
uint32_t unicode_lower(uint32_t code_point);

/* True when the n bytes of valid UTF-8 hold no code point from U+0300 on: all such text is NFC (UAX #15). */
bool unicode_surely_nfc(const char *text, size_t n);

/* Appends the canonical composition (UAX #15, NFC) of the n bytes of valid UTF-8, in linear time. Like the reference
 * tokenizer's, the combining classes are those of Unicode 9: marks that are younger are never reordered. */
bool unicode_nfc(const char *text, size_t n, ace_text *out, ace_error *error);

/* Appends the n bytes, each maximal subpart of an ill-formed sequence replaced by one U+FFFD (Unicode 3.9, D93b). */
void unicode_append_lossy(const char *bytes, size_t n, ace_text *out);

/* How many of the n bytes a message may quote: whole characters, at most 60 bytes; none of text that is not UTF-8. */
int unicode_excerpt(const char *text, size_t n);

#endif
