/* bpe.h - the Qwen tokenizer: text to token ids and back, equal to Hugging Face `tokenizers` on the same file.
 *
 * Byte-level byte-pair encoding (Sennrich et al. 2016; Radford et al. 2019): the text is split at added tokens
 * ("<|im_end|>"), each stretch between them is normalised to NFC, cut into pieces by the pre-tokenizer's rules, and the
 * UTF-8 bytes of a piece are merged pair by pair, best rank first.
 *
 * A tokenizer is immutable after it was opened: any number of threads may encode and decode with it at once. */
#ifndef ACE_TEXT_BPE_H
#define ACE_TEXT_BPE_H

#include "base/text.h"

#include <acestep.h>

struct ace_tensors;

typedef struct ace_tokenizer ace_tokenizer;

/* A growable list of token ids. Zero-initialise to start empty; release with ace_ids_free(). */
typedef struct ace_ids {
    int32_t *data;
    size_t count, capacity;
} ace_ids;

bool ace_ids_append(ace_ids *ids, int32_t id, ace_error *error);
void ace_ids_free(ace_ids *ids);

/* Opens a Hugging Face tokenizer.json. Refused with ACE_ERROR_FORMAT when it is damaged or contradicts itself, with
 * ACE_ERROR_MODEL when it asks for something else than NFC, the Qwen2 pre-tokenizer and byte-level BPE. */
ace_tokenizer *tokenizer_open_json(const char *path, ace_error *error);

/* The same from the n bytes of such a file. */
ace_tokenizer *tokenizer_open_memory(const char *json, size_t n, ace_error *error);

/* A list of strings that somebody else owns: at(context, i, &length) gives the bytes of string i < count, or NULL. */
typedef struct tokenizer_strings {
    size_t count;
    const char *(*at)(const void *context, size_t i, size_t *length);
    const void *context;
} tokenizer_strings;

/* Builds a tokenizer from a vocabulary in id order and its merges ("left right", best first), both in the byte
 * alphabet. Tokens that are neither a single byte nor the result of a merge are added tokens, taken literally
 * ("[PAD151670]" and the like are fillers, not tokens). When there are none, the 26 added tokens of Qwen3 get the ids
 * that follow the vocabulary (spec/lm.md 2.5), because converters leave them out. The strings are not kept. */
ace_tokenizer *tokenizer_from_arrays(const tokenizer_strings *tokens, const tokenizer_strings *merges,
                                     ace_error *error);

/* The same from the metadata of a GGUF file (tokenizer.ggml.tokens, tokenizer.ggml.merges). */
ace_tokenizer *tokenizer_open_gguf(const struct ace_tensors *tensors, ace_error *error);

void tokenizer_close(ace_tokenizer *tokenizer);

/* Makes <|audio_code_0|> ... <|audio_code_{count-1}|> the tokens first ... first+count-1: for planner checkpoints whose
 * tokenizer file does not list them (spec/lm.md 2.6). An error when the ids are taken or the file has other ones. */
bool tokenizer_set_audio_codes(ace_tokenizer *tokenizer, int32_t first, int32_t count, ace_error *error);

/* The id of <|audio_code_0|>, -1 when there are no audio codes; and how many there are. */
int32_t tokenizer_audio_first(const ace_tokenizer *tokenizer);
int32_t tokenizer_audio_count(const ace_tokenizer *tokenizer);

/* One more than the largest token id. */
int32_t tokenizer_limit(const ace_tokenizer *tokenizer);

/* The id of the added token with exactly this text ("<|im_end|>", "<|audio_code_7|>"), -1 when there is none. */
int32_t tokenizer_added(const ace_tokenizer *tokenizer, const char *literal);

/* The token that the file's post-processor appends to every sequence (the embedding model's does), -1 when none. */
int32_t tokenizer_appended(const ace_tokenizer *tokenizer);

/* The bytes of one token, which need not be whole characters; NULL for an id without a token and for audio codes.
 * Valid while the tokenizer lives; not NUL-terminated. */
const char *tokenizer_token_bytes(const ace_tokenizer *tokenizer, int32_t id, size_t *length);

/* Appends the ids of the n bytes of UTF-8 at `text` (which may contain NUL); nothing is added before or after them.
 * Takes time linear in n but for a logarithm. Text that is not UTF-8 is ACE_ERROR_USAGE naming the byte; on any error
 * `ids` is as it was. */
bool tokenizer_encode(const ace_tokenizer *tokenizer, const char *text, size_t n, ace_ids *ids, ace_error *error);

/* The text encoder's rule (spec/lm.md 1.5): appends the first max_tokens - 1 ids of the text, and then the token that
 * the file appends, or else <|endoftext|>. */
bool tokenizer_encode_prompt(const ace_tokenizer *tokenizer, const char *text, size_t n, size_t max_tokens,
                             ace_ids *ids, ace_error *error);

/* Appends the text of `count` ids: added tokens literally, bytes that are not UTF-8 as U+FFFD (one for each maximal
 * part of a character, as Unicode 3.9 recommends). An id without a token is ACE_ERROR_USAGE. */
bool tokenizer_decode(const ace_tokenizer *tokenizer, const int32_t *ids, size_t count, ace_text *text,
                      ace_error *error);

#endif
