/* The alternatives of the expression in their order, each as the set of texts it can match here (spec/lm.md 2.3). */
#include "text/pretokenize.h"

#include "text/unicode.h"

/* 's 't 're 've 'm 'll 'd in any case: the bytes behind the apostrophe at p, 0 when there is none. Case folding makes
 * U+017F (long s) an s; no other code point outside ASCII folds to one of these letters. */
static size_t contraction(const char *p, size_t n)
{
    if (n >= 2 && (unsigned char)p[0] == 0xc5 && (unsigned char)p[1] == 0xbf) return 2;
    char a = n >= 1 ? (char)(p[0] | 0x20) : '\0';
    char b = n >= 2 ? (char)(p[1] | 0x20) : '\0';
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 1;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return 2;
    return 0;
}

/* The end of the run of code points of one class that starts at `at`. */
static size_t end_of_run(const char *text, size_t n, size_t at, unicode_class class)
{
    for (size_t next = at; at < n; at = next)
        if (unicode_classify(unicode_next(text, &next)) != class) break;
    return at;
}

/* The end of `\s*[\r\n]+|\s+(?!\S)|\s+` for the whitespace at `at`: through the run's last line break, if it has one;
 * else the run, but for the last code point when text follows it. */
static size_t end_of_space(const char *text, size_t n, size_t at)
{
    size_t line_break = at, last = at, end = at;
    for (size_t next = at; end < n; end = next) {
        uint32_t c = unicode_next(text, &next);
        if (unicode_classify(c) != UNICODE_SPACE) break;
        if (c == '\r' || c == '\n') line_break = next;
        last = end;
    }
    if (line_break > at) return line_break;
    return end < n && last > at ? last : end;
}

size_t pretokenize_next(const char *text, size_t n, size_t at)
{
    size_t second = at;
    uint32_t c = unicode_next(text, &second);
    if (c == '\'') {
        size_t length = contraction(text + second, n - second);
        if (length > 0) return second + length;
    }
    unicode_class class = unicode_classify(c);
    if (class == UNICODE_LETTER) return end_of_run(text, n, second, UNICODE_LETTER);
    if (class == UNICODE_NUMBER) return second;
    if (c != '\r' && c != '\n') {
        size_t end = end_of_run(text, n, second, UNICODE_LETTER);
        if (end > second) return end;
    }
    if (class == UNICODE_OTHER || c == ' ') {
        size_t end = end_of_run(text, n, second, UNICODE_OTHER);
        if (class == UNICODE_OTHER || end > second) {
            while (end < n && (text[end] == '\r' || text[end] == '\n')) end++;
            return end;
        }
    }
    return end_of_space(text, n, at);
}
