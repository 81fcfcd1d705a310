/* qwen3_lm.h - a Qwen3 decoder that writes: the planner language models (lm.md 1).
 *
 * Several sequences are extended in one pass, so that each weight is read once for all of them. What a token gets
 * depends on its own sequence only: the same bits whether its prompt came in one piece or token by token, alone or
 * beside others. */
#ifndef ACE_MODEL_QWEN3_LM_H
#define ACE_MODEL_QWEN3_LM_H

#include "model/encoder_stack.h"
#include "model/token_table.h"

typedef struct qwen3_lm {
    qwen3_config config;
    ace_weight_set weights;
    token_table embedding, own_head; /* own_head: where the head is not tied to the embedding */
    encoder_stack stack;
} qwen3_lm;

/* What of a planner is on the device, and in which form. All zero, as a NULL pointer to it: everything. None of it but
 * the layers' form shows in the result. */
typedef struct qwen3_lm_storage {
    layer_storage layers;
    int64_t first_row, rows; /* of embedding and head: the rows that stay; rows 0: all. Others are fetched each time */
} qwen3_lm_storage;

/* Loads "layers.N.*", "norm.weight", "embed_tokens.weight" and, when the config says that the head is not tied,
 * "lm_head.weight". Embedding and head are never quantised. Failures stick in `dev`; free() is due in any case. `part`
 * must outlive the model unless everything stays on the device. */
void qwen3_lm_load(qwen3_lm *model, ace_device *dev, const ace_part *part, const qwen3_config *config,
                   const qwen3_lm_storage *storage);
void qwen3_lm_free(qwen3_lm *model);

/* Keys and values of all sequences, and the working memory of a pass: nothing is allocated while writing. */
typedef struct qwen3_cache {
    int64_t rows, kv_width;
    int64_t most_tokens;                    /* in one pass */
    ace_mat keys_values[CONFIG_MAX_LAYERS]; /* act [rows][>= 2 * kv_width]: keys after norm and rotation, then values */
    ace_mat rope;                           /* F32 [positions][head_dim] */
    ace_mat angles;                         /* F32 [most_tokens][head_dim]: the rows of `rope` of this pass's tokens */
    ace_mat x;                              /* F32 [most_tokens][hidden]: the residual stream */
    ace_mat normed, qkv, mixed, product;    /* act [most_tokens][..] */
    ace_mat numbers; /* F32 [1][..]: where the token of each span goes, then how many keys it has */
} qwen3_cache;

/* A cache for `rows` tokens of all sequences together, positions below `positions`, left on top of the scratch stack of
 * the model's device. */
qwen3_cache qwen3_cache_new(const qwen3_lm *model, int64_t rows, int64_t positions, int64_t most_tokens);

/* A sequence owns rows [first, first + capacity) of the cache, of which `length` are written; the position of a token
 * is the number of those before it. */
typedef struct qwen3_sequence {
    int64_t first, capacity, length;
} qwen3_sequence;

/* The next `count` >= 1 tokens of a sequence. */
typedef struct qwen3_span {
    qwen3_sequence *sequence;
    int64_t count;
} qwen3_span;

/* Appends the tokens of `spans`, whose ids lie one span after the other in `ids` (host; NULL on the meter), to their
 * sequences, each of which occurs once. y: F32 [span_count][hidden], the state of each span's last token after the
 * final norm. An id beyond the vocabulary is an ACE_ERROR_MODEL in the device, a full sequence an ACE_ERROR_INTERNAL.
 */
void qwen3_lm_extend(const qwen3_lm *model, qwen3_cache *cache, ace_mat y, const int32_t *ids, const qwen3_span *spans,
                     int span_count);

/* Whether the next may be called with choices among these ids. */
bool qwen3_lm_takes_choices(const qwen3_lm *model, int64_t first, int64_t count);

/* The same of one token for each sequence, which only the device knows yet: sequence i gets the id first + the column
 * that row i % choices.rows of `choices` names (ace_sample()). */
void qwen3_lm_extend_choices(const qwen3_lm *model, qwen3_cache *cache, ace_mat y, int64_t first, ace_mat choices,
                             const qwen3_span *spans, int span_count);

/* Makes the first `length` tokens of `to` those of `from`. */
void qwen3_cache_copy(const qwen3_lm *model, qwen3_cache *cache, qwen3_sequence *to, const qwen3_sequence *from,
                      int64_t length);

/* y[m][i] = the logit of ids[i], or of first + i where ids is NULL, after state x[m]. x: F32 as from extend; y: F32. */
void qwen3_lm_logits(const qwen3_lm *model, ace_mat y, ace_mat x, int64_t first, const int32_t *ids, int64_t count);

#endif
