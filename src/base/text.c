#include "base/text.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool reserve(ace_text *text, size_t extra)
{
    if (text->failed) return false;
    size_t need;
    if (__builtin_add_overflow(text->length, extra + 1, &need)) return !(text->failed = true);
    if (need <= text->capacity) return true;
    size_t capacity = need < 64 ? 64 : need + need / 2;
    char *data = ace_realloc(text->data, capacity, 1, "text", NULL);
    if (!data) return !(text->failed = true);
    text->data = data;
    text->capacity = capacity;
    return true;
}

void ace_text_bytes(ace_text *text, const char *bytes, size_t n)
{
    if (!reserve(text, n)) return;
    memcpy(text->data + text->length, bytes, n);
    text->length += n;
    text->data[text->length] = '\0';
}

void ace_text_add(ace_text *text, const char *string)
{
    ace_text_bytes(text, string, strlen(string));
}

void ace_text_format(ace_text *text, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0) {
        text->failed = true;
    } else if (reserve(text, (size_t)n)) {
        vsnprintf(text->data + text->length, (size_t)n + 1, format, again);
        text->length += (size_t)n;
    }
    va_end(again);
}

char *ace_text_take(ace_text *text, ace_error *error)
{
    bool ok = reserve(text, 0);
    char *data = text->data;
    if (ok) data[text->length] = '\0';
    if (!ok) {
        free(data);
        data = NULL;
        ace_fail_memory(error, "text", text->length);
    }
    *text = (ace_text){0};
    return data;
}

void ace_text_free(ace_text *text)
{
    free(text->data);
    *text = (ace_text){0};
}

/* Length of the well-formed sequence at p (1..4), 0 if there is none within n bytes. */
static size_t sequence(const unsigned char *p, size_t n)
{
    if (p[0] < 0x80) return 1;
    size_t length = p[0] >= 0xc2 && p[0] < 0xe0   ? 2
                    : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
                    : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                                  : 0;
    if (length == 0 || length > n) return 0;
    for (size_t i = 1; i < length; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if (p[0] == 0xe0 && p[1] < 0xa0) return 0;
    if (p[0] == 0xed && p[1] > 0x9f) return 0;
    if (p[0] == 0xf0 && p[1] < 0x90) return 0;
    if (p[0] == 0xf4 && p[1] > 0x8f) return 0;
    return length;
}

bool ace_utf8_valid(const char *bytes, size_t n, size_t *offset)
{
    for (size_t i = 0; i < n;) {
        size_t length = sequence((const unsigned char *)bytes + i, n - i);
        if (length == 0) {
            if (offset) *offset = i;
            return false;
        }
        i += length;
    }
    return true;
}
