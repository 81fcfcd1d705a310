/* text.h - a growable UTF-8 string. */
#ifndef ACE_BASE_TEXT_H
#define ACE_BASE_TEXT_H

#include <acestep.h>

/* Zero-initialise to start empty. After a failed append `failed` is set, later appends do nothing, and text_take()
 * reports it: callers append freely and check once. */
typedef struct ace_text {
    char *data; /* NUL-terminated when not NULL */
    size_t length, capacity;
    bool failed;
} ace_text;

void ace_text_bytes(ace_text *text, const char *bytes, size_t n);
void ace_text_add(ace_text *text, const char *string);
void ace_text_format(ace_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Hands the string over (caller frees; never NULL on success, "" when empty) and resets `text`. NULL with an error
 * when an append had failed for lack of memory. */
char *ace_text_take(ace_text *text, ace_error *error);

void ace_text_free(ace_text *text);

/* True when the n bytes are well-formed UTF-8 (no surrogates, no overlong forms, at most U+10FFFF). On failure
 * *offset, if not NULL, is the first bad byte. */
bool ace_utf8_valid(const char *bytes, size_t n, size_t *offset);

#endif
