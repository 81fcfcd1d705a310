/* attention_few.c - attention of a few queries in bf16 on a machine with a matrix unit: the bits of attention_tiles.c,
 * in the time that keys and values take to come from memory. */
#include "device/cpu/attention.h"

#include <math.h>

enum { TASK_ROWS = 64 };
_Static_assert((int)CPU_FEW_HEAD_DIM >= (int)ATTENTION_HEAD_DIM, "some heads are too wide for few queries");

/* A thread's workspace. */
typedef struct buffers {
    uint16_t q[TASK_ROWS * ATTENTION_HEAD_DIM];
    float o[TASK_ROWS * ATTENTION_HEAD_DIM];
    float reference[TASK_ROWS], sum[TASK_ROWS];
    cpu_attention_few_work work;
} buffers;
_Static_assert(sizeof(buffers) <= CPU_WORKSPACE, "attention of few queries needs more workspace");

static const cpu_attention_few *few_of(const attention *at)
{
    return at->cpu->kernels->attention_few;
}

static void enter(const attention *at, void *own)
{
    buffers *b = own;
    for (int i = 0; i < CPU_FEW_LANES * CPU_ATTENTION_STRETCH; i++) b->work.weights[i] = 0;
    few_of(at)->begin();
}

static void leave(const attention *at)
{
    few_of(at)->end();
}

static void begin(const attention *at, const attention_share *t, void *own)
{
    buffers *b = own;
    int64_t d = at->shape->head_dim;
    const uint16_t *rows[CPU_FEW_LANES];
    int count = (int)attention_rows(t);
    for (int i = 0; i < count; i++) rows[i] = attention_row(at, t, at->q, i);
    few_of(at)->queries(b->q + t->base * d, rows, count, d);
    for (int64_t i = t->base * d; i < (t->base + CPU_FEW_LANES) * d; i++) b->o[i] = 0;
    for (int64_t r = t->base; r < t->base + CPU_FEW_LANES; r++) {
        b->reference[r] = -INFINITY;
        b->sum[r] = 0;
    }
}

static void add(const attention *at, const attention_share *t, void *own, const attention_block *block)
{
    buffers *b = own;
    int64_t d = at->shape->head_dim;
    cpu_attention_few_keys keys = {.k = block->k,
                                   .v = block->v,
                                   .soon_k = block->soon_k,
                                   .soon_v = block->soon_v,
                                   .k_stride = at->k.stride,
                                   .v_stride = at->v.stride,
                                   .count = block->count};
    cpu_attention_few_rows rows = {.count = (int)attention_rows(t),
                                   .q = b->q + t->base * d,
                                   .o = b->o + t->base * d,
                                   .reference = b->reference + t->base,
                                   .sum = b->sum + t->base};
    bool some = false;
    for (int i = 0; i < rows.count; i++) {
        attention_range seen = attention_attended(at, t->query + i / t->heads);
        rows.from[i] = (int32_t)cpu_min(block->count, cpu_max(0, seen.first - block->first));
        rows.to[i] = (int32_t)cpu_max(rows.from[i], cpu_min(block->count, seen.last + 1 - block->first));
        some |= rows.from[i] < rows.to[i];
    }
    if (some) few_of(at)->attend(&rows, &keys, d, at->shape->scale * ATTENTION_LOG2_E, &b->work);
}

static void finish(const attention *at, const attention_share *t, void *own)
{
    const buffers *b = own;
    int64_t d = at->shape->head_dim;
    for (int64_t i = 0; i < attention_rows(t); i++)
        few_of(at)->finish(attention_row(at, t, at->o, i), b->o + (t->base + i) * d, b->sum[t->base + i], d);
}

const attention_way *cpu_attention_of_few(void)
{
    static const attention_way way = {.keys = CPU_ATTENTION_STRETCH,
                                      .rows = TASK_ROWS,
                                      .heads = CPU_FEW_LANES,
                                      .granularity = CPU_FEW_LANES,
                                      .few = CPU_FEW_LANES,
                                      .enter = enter,
                                      .leave = leave,
                                      .begin = begin,
                                      .add = add,
                                      .finish = finish};
    return &way;
}
