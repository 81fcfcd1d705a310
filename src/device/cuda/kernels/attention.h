/* attention.h - what the attention kernels share: the task, which keys a row sees, and how blocks of keys are added up.
 *
 * A row is a query of one of the query heads that share a key head: row = query * group + head in the group. So a tile
 * of rows reads each key and each value once for the whole group.
 *
 * The keys fall into blocks of 64, by their absolute number. Of each block a row gets a result of its own: the
 * reference `top` (its highest score times log2 e), the sum of the weights 2^(score log2 e - top) and the sum of the
 * values with these weights, none of which depends on any other block. Then the blocks are added in ascending order:
 *     top' = max(top, top_b), sum' = sum 2^(top - top') + sum_b 2^(top_b - top'), and o' in the same way
 * (flash attention, Dao 2022, with the rescaling that Milakov and Gimelshein 2018 found). A block of which a row sees
 * nothing has top_b = -infinity and changes nothing. So it makes no difference who computes a block, whether other rows
 * see it, or where the adding happens: in the kernel that walks over the keys, or, for a few queries, in one that adds
 * what many blocks of threads have left in the `room`. Only zeros may differ in their sign, up to the end, where all
 * become +0. */
#ifndef ACE_DEVICE_CUDA_KERNELS_ATTENTION_H
#define ACE_DEVICE_CUDA_KERNELS_ATTENTION_H

#include "device/cuda/kernels/language.h"

enum {
    ATTENTION_KEYS = 64,      /* of a block */
    ATTENTION_HEAD_DIM = 256, /* widest heads */
    ATTENTION_FEW_ROWS = 16   /* so many rows of a key head or less are few */
};

typedef struct attention_task {
    gpu_mat o, q, k, v;
    int group; /* query heads that share a key head */
    int kv_heads, head_dim;
    int rows, keys;   /* rows: queries * group */
    uint32_t ungroup; /* 2^31 / group, rounded up */
    int past;         /* CAUSAL: keys - queries */
    int radius;       /* BAND */
    gpu_mask mask;
    float scale;         /* of scores, times log2(e); above 0 */
    int aligned;         /* rows of q, k and v may be read in pieces of 16 bytes */
    int o_aligned;       /* those of o, too */
    int blocks;          /* of keys */
    float *parts;        /* [kv_heads][blocks][rows][head_dim], sums of weighted values; NULL: all at once */
    float *stats;        /* [kv_heads][blocks][rows][2]: top, sum */
    const float *length; /* with parts: how many of the keys there are; NULL: all */
} attention_task;

/* Keys [first, last] that a row sees; none when last < first. Both never fall from a row to the next. */
typedef struct attention_range {
    int first, last;
} attention_range;

/* row / group, exact as long as row * group < 2^31 */
GPU_DEVICE int attention_query(const attention_task &t, int row)
{
    return (int)((uint64_t)(uint32_t)row * t.ungroup >> 31);
}

/* Due first in kernels with parts: as many keys as there are now. Blocks of threads beyond them have nothing to do. */
GPU_DEVICE void attention_shorten(attention_task *t)
{
    if (!t->length) return;
    int keys = gpu_max(1, gpu_min((int)*t->length, t->keys));
    t->past -= t->keys - keys;
    t->keys = keys;
}

GPU_DEVICE attention_range attention_seen(const attention_task &t, int row)
{
    int query = attention_query(t, gpu_min(row, t.rows - 1));
    attention_range seen = {0, t.keys - 1};
    if (t.mask == GPU_MASK_BAND) {
        seen.first = gpu_max(0, query - t.radius);
        seen.last = gpu_min(seen.last, query + t.radius);
    } else if (t.mask == GPU_MASK_CAUSAL) {
        seen.last = gpu_min(seen.last, query + t.past);
    }
    return seen;
}

/* Blocks [first, last] that some of the rows see. */
GPU_DEVICE attention_range attention_blocks(const attention_task &t, int first_row, int rows)
{
    attention_range low = attention_seen(t, first_row), high = attention_seen(t, first_row + rows - 1);
    attention_range blocks = {low.first / ATTENTION_KEYS, high.last < 0 ? -1 : high.last / ATTENTION_KEYS};
    if (high.last < low.first) blocks.last = blocks.first - 1;
    return blocks;
}

/* Where a row lies in q or o, counted in elements. */
GPU_DEVICE int64_t attention_row(const attention_task &t, const gpu_mat &m, int kv_head, int row)
{
    int query = attention_query(t, row), head = kv_head * t.group + row - query * t.group;
    return query * m.stride + (int64_t)head * t.head_dim;
}

/* Where the part of a row lies, counted in rows of parts and stats. */
GPU_DEVICE int64_t attention_part(const attention_task &t, int kv_head, int block, int row)
{
    return ((int64_t)kv_head * t.blocks + block) * t.rows + row;
}

/* What to subtract: nothing while nothing was seen, so that 2^-infinity is 0 and infinity - infinity does not occur. */
GPU_DEVICE float attention_base(float top)
{
    return top == -INFINITY ? 0.0f : top;
}

/* 2^x by the kernels that round weights to bf16, and by those that do not. */
template <bool ROUNDED> GPU_DEVICE float attention_exp2(float x)
{
    return ROUNDED ? gpu_exp2_fast(x) : gpu_exp2(x);
}

/* What a row has added up, but for its values. */
typedef struct attention_sum {
    float top, sum;
} attention_sum;

/* By how much the values before, and those of the block, are to be multiplied. */
typedef struct attention_factors {
    float before, block;
} attention_factors;

template <bool ROUNDED> GPU_DEVICE attention_factors attention_add(attention_sum *s, float top, float sum)
{
    float now = fmaxf(s->top, top), base = attention_base(now);
    attention_factors f = {attention_exp2<ROUNDED>(s->top - base), attention_exp2<ROUNDED>(top - base)};
    s->top = now;
    s->sum = gpu_fma(sum, f.block, s->sum * f.before);
    return f;
}

/* What the values are multiplied with at the end; a row that sees nothing gets zeros. */
GPU_DEVICE float attention_end(float sum)
{
    return sum == 0.0f ? 0.0f : 1.0f / sum;
}

GPU_DEVICE float attention_result(float value, float end)
{
    return (value + 0.0f) * end;
}

GPU_DEVICE void attention_store(const gpu_mat &o, int64_t at, float value)
{
    if (o.type == GPU_F32)
        ((float *)o.data)[at] = value;
    else
        ((uint16_t *)o.data)[at] = gpu_float_to_bf16(value);
}

/* The kernels: of bf16 by mma, capability 8.0 and newer, and of both types by FMA. With t->parts the blocks of keys are
 * shared out and left there. */
int attention_by_mma(gpu_stream *s, const attention_task &t);
int attention_by_fma(gpu_stream *s, const attention_task &t);

#endif
