/* attention.h - what the two ways to compute attention share: attention.c walks over queries and keys, and multiplies
 * in float32; attention_tiles.c multiplies bf16 on a matrix unit, attention_few.c does so for few queries. */
#ifndef ACE_DEVICE_CPU_ATTENTION_H
#define ACE_DEVICE_CPU_ATTENTION_H

#include "device/cpu/cpu.h"

enum { ATTENTION_HEAD_DIM = 256 }; /* widest heads */
#define ATTENTION_LOG2_E 0x1.715476p+0f

typedef struct attention attention;

/* The queries of one key head that a task has: rows are (query, head) pairs, row = base + query * heads + head, so that
 * the rows of a range of queries lie together. */
typedef struct attention_share {
    int64_t kv_head, head, heads, query, queries, base;
} attention_share;

/* A block of keys of one key head, and the rows that will be read after it. */
typedef struct attention_block {
    int64_t first, count;
    const void *k, *v, *soon_k, *soon_v;
} attention_block;

typedef struct attention_range {
    int64_t first, last; /* inclusive; empty if last < first */
} attention_range;

/* How a task computes. `own`: the thread's workspace. */
typedef struct attention_way {
    int64_t keys;        /* of a block; blocks begin at their multiples */
    int64_t rows;        /* most rows of a task, of all its shares */
    int64_t heads;       /* most query heads of a task that share a key head */
    int64_t granularity; /* a share's rows begin at multiples of it */
    int64_t few;         /* with so many rows per key head or less, a task has all queries of some key heads */
    void (*enter)(const attention *at, void *own); /* before and after a task; may be NULL */
    void (*leave)(const attention *at);
    void (*begin)(const attention *at, const attention_share *t, void *own);
    void (*add)(const attention *at, const attention_share *t, void *own, const attention_block *keys);
    void (*finish)(const attention *at, const attention_share *t, void *own);
} attention_way;

struct attention {
    const ace_device *dev;
    const cpu_backend *cpu;
    const attention_way *way;
    ace_mat o, q, k, v;
    const ace_attention_shape *shape;
    int64_t group; /* query heads per key head */
    bool streamed; /* few queries: keys and values are used as fast as they come from memory */
    int64_t task_kv_heads, task_heads, task_queries, head_blocks, query_blocks;
};

static inline void *attention_element(ace_mat m, int64_t row, int64_t col)
{
    return (char *)ace_mat_row(m, row) + (size_t)col * ace_mat_element(m);
}

static inline int64_t attention_rows(const attention_share *t)
{
    return t->heads * t->queries;
}

/* Where the share's row number `i` begins in q or o. */
static inline void *attention_row(const attention *at, const attention_share *t, ace_mat m, int64_t i)
{
    return attention_element(m, t->query + i / t->heads, (t->head + i % t->heads) * at->shape->head_dim);
}

/* Keys that a query attends to. */
static inline attention_range attention_attended(const attention *at, int64_t query)
{
    const ace_attention_shape *shape = at->shape;
    attention_range keys = {0, at->k.rows - 1};
    if (shape->mask == ACE_MASK_BAND) {
        keys.first = cpu_max(0, query - shape->radius);
        keys.last = cpu_min(keys.last, query + shape->radius);
    } else if (shape->mask == ACE_MASK_CAUSAL) {
        keys.last = query + at->k.rows - at->q.rows;
    }
    return keys;
}

/* The way on tiles, or NULL if this device or these heads have none; that depends on nothing else. Few queries go
 * another way than many, to the same bits. */
const attention_way *cpu_attention_on_tiles(const attention *at);

/* attention_few.c: the way of shares of at most CPU_FEW_LANES rows. */
const attention_way *cpu_attention_of_few(void);

#endif
