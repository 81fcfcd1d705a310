/* transformer.h - the two residual branches that every transformer here is made of: self-attention with head norms and
 * rotary positions, and the gated MLP (dit.md 2.4, 2.6). With a modulation they are the DiT's, without one Qwen3's. */
#ifndef ACE_MODEL_TRANSFORMER_H
#define ACE_MODEL_TRANSFORMER_H

#include "model/weights.h"

/* What stands around a branch: x += gate * branch(norm(x) * (1 + scale) + shift). The rows are F32 [1][hidden]; all
 * zero where the branch has none. */
typedef struct transformer_branch {
    const ace_weight *norm;
    ace_mat scale, shift, gate;
} transformer_branch;

typedef struct self_attention {
    const ace_weight *qkv, *q_norm, *k_norm, *output;
} self_attention;

typedef struct gated_mlp {
    const ace_weight *gate_up, *down;
} gated_mlp;

/* "<prefix>q_proj.weight" and so on. */
void self_attention_load(self_attention *attention, ace_weight_set *set, const char *prefix,
                         const transformer_config *shape);
void gated_mlp_load(gated_mlp *mlp, ace_weight_set *set, const char *prefix, const transformer_config *shape);

/* Which sequences the rows of x are, and what each token sees. */
typedef struct attention_span {
    int64_t items, length; /* x has items * length rows, one sequence after the other */
    ace_mat rope;          /* at least `length` positions */
    ace_attention_mask mask;
    int64_t radius;
} attention_span;

/* In place on x: F32 [items * length][hidden]. */
void self_attention_forward(ace_device *dev, const self_attention *attention, const transformer_config *shape,
                            const transformer_branch *branch, ace_mat x, const attention_span *span);

/* In place on x: F32 [rows][hidden]. */
void gated_mlp_forward(ace_device *dev, const gated_mlp *mlp, const transformer_config *shape,
                       const transformer_branch *branch, ace_mat x);

/* The attention of a shape: heads, scale 1 / sqrt(head_dim). */
ace_attention_shape transformer_attention(const transformer_config *shape, ace_attention_mask mask, int64_t radius);

/* Widths of queries, and of keys (and of values). */
static inline int64_t transformer_q_width(const transformer_config *shape)
{
    return (int64_t)shape->heads * shape->head_dim;
}

static inline int64_t transformer_kv_width(const transformer_config *shape)
{
    return (int64_t)shape->kv_heads * shape->head_dim;
}

#endif
