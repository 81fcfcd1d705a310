/* tokenizer.h - what a tokenizer is made of: shared by the files that build one and the file that uses it. */
#ifndef ACE_TEXT_TOKENIZER_H
#define ACE_TEXT_TOKENIZER_H

#include "text/bpe_model.h"

enum { TOKENIZER_MAX_ADDED = 4096 };

/* A token that is matched literally, before anything else is done to the text. */
typedef struct added_token {
    char *literal; /* owned, `length` bytes */
    size_t length;
    int32_t id;
    bool normalized; /* looked for in the normalised text, not in the raw one */
} added_token;

struct ace_tokenizer {
    bpe_model model;
    added_token *added;
    size_t added_count;
    bool any_normalized, audio_normalized;
    int32_t audio_first, audio_count; /* <|audio_code_N|> = audio_first + N; first is -1 when there are none */
    int32_t appended;                 /* by the post-processor, -1 for none */
};

ace_tokenizer *tokenizer_new(ace_error *error);

/* Adds a literal token (copied). An <|audio_code_N|> must be the next one, N = audio_count. When the vocabulary has a
 * token of that id or those bytes, both must be the same. While bpe_model_find() works only. */
bool tokenizer_add(ace_tokenizer *tokenizer, int64_t id, const char *literal, size_t length, bool normalized,
                   ace_error *error);

#endif
