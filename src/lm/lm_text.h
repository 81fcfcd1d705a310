/* lm_text.h - what the reference implementation's language (Python) calls blank, a digit and a number.
 *
 * The planner's prompts and answers pass through its str.strip(), str.isdigit(), int() and float(); their rules for
 * Unicode decide which bytes a model sees. All text is valid UTF-8. */
#ifndef ACE_LM_TEXT_H
#define ACE_LM_TEXT_H

#include "base/text.h"

#include <acestep.h>

/* A stretch of somebody else's text. */
typedef struct lm_slice {
    const char *data;
    size_t length;
} lm_slice;

lm_slice lm_slice_of(const char *text); /* NULL is empty */
bool lm_slice_is(lm_slice slice, const char *text);

/* str.isspace() of one character: White_Space of Unicode and U+001C to U+001F. */
bool lm_is_space(uint32_t code_point);

/* Appends one character as UTF-8; it must not be a surrogate. */
void lm_append(ace_text *out, uint32_t code_point);

/* The value of a decimal digit of any script (general category Nd of Unicode 14), -1 for anything else. */
int lm_digit(uint32_t code_point);

/* str.strip(). */
lm_slice lm_trim(lm_slice text);

/* True when text.lower() is this word of ASCII letters, digits and punctuation. */
bool lm_is_word(lm_slice text, const char *lower);

/* True for NULL and for text of nothing but white space. */
bool lm_blank(const char *text);

/* A copy without control characters, which no model has learned to read: C0, DEL and C1 but for TAB, LF, CR and U+0085.
 * *removed counts them, so that the caller can say so. Caller frees. NULL text is empty. */
char *lm_without_controls(const char *text, size_t *removed, ace_error *error);

/* The end of the decimal digits (of any script) that start at byte `at`. */
size_t lm_digits_end(lm_slice text, size_t at);

/* int(text): white space around, a sign, digits of any script with single underscores between them. False when the
 * reference would refuse, and when the value does not fit. */
bool lm_integer(lm_slice text, int64_t *value);

/* float(text), finite values of at most 127 bytes only. */
bool lm_number(lm_slice text, double *value);

#endif
