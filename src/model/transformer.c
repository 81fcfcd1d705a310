#include "model/transformer.h"

#include <math.h>
#include <stdio.h>

/* Rows of the MLP computed at a time: what bounds its scratch, which would otherwise be the largest of the model. Rows
 * are independent, so the number does not show in the result. */
enum { MLP_ROWS = 512 };

void self_attention_load(self_attention *attention, ace_weight_set *set, const char *prefix,
                         const transformer_config *shape)
{
    int64_t q = transformer_q_width(shape), kv = transformer_kv_width(shape);
    char names[6][160];
    static const char *const tensors[6] = {"q_proj", "k_proj", "v_proj", "q_norm", "k_norm", "o_proj"};
    for (int i = 0; i < 6; i++) snprintf(names[i], sizeof names[i], "%s%s.weight", prefix, tensors[i]);

    attention->qkv = weights_linear_stack(set, shape->hidden,
                                          (const ace_linear_part[]){{names[0], q}, {names[1], kv}, {names[2], kv}}, 3);
    attention->q_norm = weights_vector(set, shape->head_dim, names[3]);
    attention->k_norm = weights_vector(set, shape->head_dim, names[4]);
    attention->output = weights_linear(set, shape->hidden, q, names[5]);
}

void gated_mlp_load(gated_mlp *mlp, ace_weight_set *set, const char *prefix, const transformer_config *shape)
{
    char gate[160], up[160], down[160];
    snprintf(gate, sizeof gate, "%sgate_proj.weight", prefix);
    snprintf(up, sizeof up, "%sup_proj.weight", prefix);
    snprintf(down, sizeof down, "%sdown_proj.weight", prefix);
    mlp->gate_up = weights_gated(set, shape->intermediate, shape->hidden, gate, up);
    mlp->down = weights_linear(set, shape->hidden, shape->intermediate, down);
}

ace_attention_shape transformer_attention(const transformer_config *shape, ace_attention_mask mask, int64_t radius)
{
    return (ace_attention_shape){.heads = shape->heads,
                                 .kv_heads = shape->kv_heads,
                                 .head_dim = shape->head_dim,
                                 .scale = 1.0f / sqrtf((float)shape->head_dim),
                                 .mask = mask,
                                 .radius = radius};
}

/* What the items of a self-attention share. */
typedef struct attending {
    ace_device *dev;
    const self_attention *attention;
    const transformer_config *shape;
    const attention_span *span;
    ace_mat mixed, qkv;
} attending;

static void attend(const attending *a, int64_t item)
{
    float eps = a->shape->rms_norm_eps;
    int64_t q_width = transformer_q_width(a->shape), kv_width = transformer_kv_width(a->shape);
    ace_attention_shape heads = transformer_attention(a->shape, a->span->mask, a->span->radius);
    ace_mat rows = ace_rows(a->qkv, item * a->span->length, a->span->length);
    ace_mat q = ace_cols(rows, 0, q_width);
    ace_mat k = ace_cols(rows, q_width, kv_width);
    ace_mat v = ace_cols(rows, q_width + kv_width, kv_width);
    ace_head_norm_rope(a->dev, q, a->shape->head_dim, a->attention->q_norm, eps, a->span->rope, 0);
    ace_head_norm_rope(a->dev, k, a->shape->head_dim, a->attention->k_norm, eps, a->span->rope, 0);
    ace_attention(a->dev, ace_rows(a->mixed, item * a->span->length, a->span->length), q, k, v, &heads);
}

/* All items; they are the same to the meter, which counts one of them as often. */
static void attend_all(const attending *a)
{
    ace_device_stats before = ace_device_get_stats(a->dev);
    int64_t computed = ace_device_is_meter(a->dev) && a->span->items > 1 ? 1 : a->span->items;
    for (int64_t item = 0; item < computed; item++) attend(a, item);
    ace_device_stats after = ace_device_get_stats(a->dev);
    double others = (double)(a->span->items - computed);
    ace_meter_repeat(a->dev, others * (after.flops - before.flops), others * (after.bytes_moved - before.bytes_moved));
}

void self_attention_forward(ace_device *dev, const self_attention *attention, const transformer_config *shape,
                            const transformer_branch *branch, ace_mat x, const attention_span *span)
{
    ace_mark mark = ace_scratch_mark(dev);
    ace_dtype act = ace_device_act(dev);
    int64_t q_width = transformer_q_width(shape), kv_width = transformer_kv_width(shape);

    ace_mat mixed = ace_scratch(dev, act, x.rows, q_width);
    ace_mat qkv = ace_scratch(dev, act, x.rows, q_width + 2 * kv_width);
    ace_mat normed = ace_scratch(dev, act, x.rows, x.cols);

    ace_rms_norm(dev, normed, x, branch->norm, shape->rms_norm_eps, branch->scale, branch->shift);
    ace_linear(dev, qkv, normed, attention->qkv, NULL);
    attend_all(&(attending){dev, attention, shape, span, mixed, qkv});
    ace_linear(dev, x, mixed, attention->output, &(ace_epilogue){.gate = branch->gate, .residual = x});
    ace_scratch_release(dev, mark);
}

void gated_mlp_forward(ace_device *dev, const gated_mlp *mlp, const transformer_config *shape,
                       const transformer_branch *branch, ace_mat x)
{
    ace_mark mark = ace_scratch_mark(dev);
    ace_dtype act = ace_device_act(dev);
    int64_t block = x.rows < MLP_ROWS ? x.rows : MLP_ROWS;
    ace_mat normed_block = ace_scratch(dev, act, block, x.cols);
    ace_mat product_block = ace_scratch(dev, act, block, shape->intermediate);

    for (int64_t first = 0; first < x.rows; first += block) {
        int64_t count = x.rows - first < block ? x.rows - first : block;
        ace_mat rows = ace_rows(x, first, count);
        ace_mat normed = ace_rows(normed_block, 0, count), product = ace_rows(product_block, 0, count);
        ace_rms_norm(dev, normed, rows, branch->norm, shape->rms_norm_eps, branch->scale, branch->shift);
        ace_linear_silu_mul(dev, product, normed, mlp->gate_up);
        ace_linear(dev, rows, product, mlp->down, &(ace_epilogue){.gate = branch->gate, .residual = rows});
    }
    ace_scratch_release(dev, mark);
}
