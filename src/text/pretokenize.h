/* pretokenize.h - where the pre-tokenizer of Qwen2 and Qwen3 cuts a text. */
#ifndef ACE_TEXT_PRETOKENIZE_H
#define ACE_TEXT_PRETOKENIZE_H

#include <stddef.h>

/* The regular expression that pretokenize_next() computes, as tokenizer.json spells it. */
#define PRETOKENIZE_PATTERN                                                                             \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" \
    "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* The end of the piece that starts at byte `at` < n of the valid UTF-8 text; call again from there. `at` must be the
 * start of the text or an end returned before. All pieces together are the text; finding them takes linear time. */
size_t pretokenize_next(const char *text, size_t n, size_t at);

#endif
