/* bpe_model.h - a byte-level BPE vocabulary and its merges: from the bytes of one piece to its ids. */
#ifndef ACE_TEXT_BPE_MODEL_H
#define ACE_TEXT_BPE_MODEL_H

#include "text/bpe.h"

enum {
    BPE_MAX_ID = (1 << 20) - 1,    /* bounds the tables that a damaged file can ask for; Qwen's largest is 217,203 */
    BPE_MAX_MERGES = (1 << 22) - 1 /* the same for merges */
};

typedef struct bpe_token {
    uint32_t at, length; /* in bpe_model.bytes; length 0: no token has this id */
} bpe_token;

typedef struct bpe_merge {
    int32_t left, right, result;
} bpe_merge;

/* One entry of the merge table: the pair, its rank (the place in the list, less is better) and what it becomes. */
typedef struct bpe_slot {
    int32_t left, right; /* left < 0: empty */
    int32_t rank, result;
} bpe_slot;

typedef struct bpe_model {
    char *bytes; /* of all tokens, one after the other */
    size_t bytes_used, bytes_capacity;
    bpe_token *tokens; /* by id */
    size_t token_limit, token_capacity, token_count;
    int32_t byte_ids[256];
    bpe_merge *merges; /* while it is built */
    size_t merge_count, merge_capacity;
    int32_t *index; /* while it is built: open addressing, token bytes -> id, -1 empty */
    size_t index_mask;
    bpe_slot *slots; /* open addressing, pair -> merge */
    size_t slot_mask;
} bpe_model;

/* Building, in this order: every token, index(), every merge, finish(). Zero-initialise before. Strings are in the byte
 * alphabet of spec/lm.md 2.4; a symbol outside of it is an error. free() is safe at any time. */
bool bpe_model_add_token(bpe_model *model, int64_t id, const char *symbols, size_t n, ace_error *error);
bool bpe_model_index(bpe_model *model, ace_error *error);
bool bpe_model_add_merge(bpe_model *model, const char *left, size_t left_n, const char *right, size_t right_n,
                         ace_error *error);
bool bpe_model_finish(bpe_model *model, ace_error *error);
void bpe_model_free(bpe_model *model);

/* "left right" with exactly one space, as merges are written in merges.txt, older tokenizer.json files and GGUF. */
bool bpe_model_add_merge_line(bpe_model *model, const char *line, size_t n, ace_error *error);

/* The id of the token with these bytes, -1 when there is none. Between index() and finish() only. */
int32_t bpe_model_find(const bpe_model *model, const char *bytes, size_t n);

/* Writes the bytes that n symbols stand for (at most n) and returns how many; -1 when a symbol is not in the byte
 * alphabet. `out` may be `symbols`, or NULL to ask only. */
ptrdiff_t bpe_symbols_to_bytes(const char *symbols, size_t n, char *out);

/* Working memory of bpe_encode_piece(), kept from piece to piece. Zero-initialise; release with bpe_scratch_free(). */
typedef struct bpe_scratch {
    int32_t *id, *previous, *next; /* the piece as a linked list of tokens, by the position of their first byte */
    uint64_t *heap;                /* candidate merges, rank << 32 | position */
    size_t heap_count, capacity;
} bpe_scratch;

void bpe_scratch_free(bpe_scratch *scratch);

/* Appends the ids of one piece of n bytes, 1 <= n <= INT32_MAX / 4: while any two neighbours are in the merge list, the
 * pair of lowest rank, leftmost first, becomes one token. O(n log n). */
bool bpe_encode_piece(const bpe_model *model, const char *piece, size_t n, bpe_scratch *scratch, ace_ids *ids,
                      ace_error *error);

#endif
