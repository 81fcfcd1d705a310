/* qwen3.h - a Qwen3 decoder run over whole sequences: the text encoder (lm.md 1.3, 1.5). */
#ifndef ACE_MODEL_QWEN3_H
#define ACE_MODEL_QWEN3_H

#include "model/encoder_stack.h"

typedef struct qwen3 {
    qwen3_config config;
    ace_weight_set weights;
    const ace_weight *embed_tokens;
    encoder_stack stack;
} qwen3;

/* Failures stick in `dev`; free() is due in any case. `part` must outlive the call only, unless layers are streamed.
 * The embedding is never quantised. */
void qwen3_load(qwen3 *model, ace_device *dev, const ace_part *part, const qwen3_config *config,
                const layer_storage *storage);
void qwen3_free(qwen3 *model);

/* y[count][hidden] = the last hidden state after the final norm of every token. y: F32 or act dtype, allocated by the
 * caller. ids: host; NULL on the meter. An id beyond the vocabulary is an ACE_ERROR_MODEL in the device. */
void qwen3_forward(const qwen3 *model, ace_mat y, const int32_t *ids, int64_t count);

/* y[count][hidden] = rows of the embedding table: what the lyric encoder is fed. */
void qwen3_embed(const qwen3 *model, ace_mat y, const int32_t *ids, int64_t count);

#endif
