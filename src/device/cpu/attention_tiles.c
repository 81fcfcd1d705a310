/* attention_tiles.c - attention of bf16 on a matrix unit that multiplies tiles.
 *
 * A task packs each block of keys and values once, and passes all its groups of 16 rows by it, two at a time. Keys of
 * which a group attends to none are left out in multiples of 32, from the beginning and the end of a block; with them
 * its sums would have the same bits, because a weight of 0 adds 0 to them.
 */
#include "device/cpu/attention.h"

#include <math.h>

enum { TASK_ROWS = 384, TASK_HEADS = 8, BLOCK_KEYS = 256, STEP = CPU_TILE };

/* A thread's workspace. */
typedef struct buffers {
    uint16_t q[TASK_ROWS * ATTENTION_HEAD_DIM];
    float o[TASK_ROWS * ATTENTION_HEAD_DIM];
    uint16_t keys[BLOCK_KEYS * ATTENTION_HEAD_DIM], values[BLOCK_KEYS * ATTENTION_HEAD_DIM];
    cpu_attention_work work;
    float reference[TASK_ROWS], sum[TASK_ROWS];
} buffers;
_Static_assert(sizeof(buffers) <= CPU_WORKSPACE, "attention on tiles needs more workspace");

static const cpu_attention_tiles *tiles_of(const attention *at)
{
    return at->cpu->kernels->attention_tiles;
}

static void enter(const attention *at, void *own)
{
    (void)own;
    tiles_of(at)->begin();
}

static void leave(const attention *at)
{
    tiles_of(at)->end();
}

/* The rows of q or o that belong to a group; returns how many there are. */
static int group_rows(const attention *at, const attention_share *t, ace_mat m, int64_t first, uint16_t *rows[])
{
    int count = (int)cpu_min(CPU_LANES, attention_rows(t) - first);
    for (int i = 0; i < count; i++) rows[i] = attention_row(at, t, m, first + i);
    return count;
}

static void begin(const attention *at, const attention_share *t, void *own)
{
    buffers *b = own;
    int64_t d = at->shape->head_dim;
    for (int64_t r = 0; r < attention_rows(t); r += CPU_LANES) {
        uint16_t *rows[CPU_LANES];
        int count = group_rows(at, t, at->q, r, rows);
        float *o = b->o + (t->base + r) * d;
        tiles_of(at)->queries(b->q + (t->base + r) * d, (const uint16_t *const *)rows, count, d);
        for (int64_t i = 0; i < CPU_LANES * d; i++) o[i] = 0;
        for (int i = 0; i < CPU_LANES; i++) {
            b->reference[t->base + r + i] = -INFINITY;
            b->sum[t->base + r + i] = 0;
        }
    }
}

/* Which keys of a block the lanes of some groups attend to, relative to its beginning. */
typedef struct seen {
    int32_t from[2 * CPU_LANES], to[2 * CPU_LANES];
    int64_t least, least_end, most_end; /* lowest `from` and highest and lowest `to` */
    int64_t most;                       /* highest `from` */
} seen;

/* Unused lanes see what the last row does. */
static void see(const attention *at, const attention_share *t, const attention_block *keys, int64_t first, int lanes,
                seen *s)
{
    s->least = s->least_end = keys->count;
    s->most = s->most_end = 0;
    for (int i = 0; i < lanes; i++) {
        int64_t row = cpu_min(first + i, attention_rows(t) - 1);
        attention_range attended = attention_attended(at, t->query + row / t->heads);
        int64_t from = cpu_min(keys->count, cpu_max(0, attended.first - keys->first));
        int64_t to = cpu_max(from, cpu_min(keys->count, attended.last + 1 - keys->first));
        s->from[i] = (int32_t)from;
        s->to[i] = (int32_t)to;
        if (from < to) s->least = cpu_min(s->least, from);
        s->most = cpu_max(s->most, from);
        s->least_end = cpu_min(s->least_end, to);
        s->most_end = cpu_max(s->most_end, to);
    }
}

static void add(const attention *at, const attention_share *t, void *own, const attention_block *keys)
{
    buffers *b = own;
    const cpu_attention_tiles *tiles = tiles_of(at);
    int64_t d = at->shape->head_dim;
    float scale = at->shape->scale * ATTENTION_LOG2_E;
    tiles->keys(b->keys, keys->k, at->k.stride, keys->count, d);
    tiles->values(b->values, keys->v, at->v.stride, keys->count, d);
    /* each pair of groups asks for its share of what will be packed next */
    int64_t pairs = cpu_divide_up(attention_rows(t), 2 * CPU_LANES), asked = cpu_divide_up(STEP, pairs);
    cpu_attention_keys packed = {.keys = b->keys, .values = b->values};
    packed.soon_keys = (cpu_attention_soon){keys->soon_k, at->k.stride, 0, asked};
    packed.soon_values = (cpu_attention_soon){keys->soon_v, at->v.stride, 0, asked};
    for (int64_t r = 0; r < attention_rows(t); r += 2 * CPU_LANES) {
        int groups = attention_rows(t) - r > CPU_LANES ? 2 : 1;
        int64_t row = t->base + r;
        seen s;
        see(at, t, keys, r, groups * CPU_LANES, &s);
        if (s.most_end <= s.least) continue;
        packed.first = s.least / STEP * STEP;
        packed.end = cpu_divide_up(s.most_end, STEP) * STEP;
        tiles->attend(&(cpu_attention_rows){.groups = groups,
                                            .q = b->q + row * d,
                                            .o = b->o + row * d,
                                            .reference = b->reference + row,
                                            .sum = b->sum + row,
                                            .all_from = s.most,
                                            .all_to = s.least_end,
                                            .from = s.from,
                                            .to = s.to},
                      &packed, d, scale, &b->work);
        packed.soon_keys.first += packed.soon_keys.count;
        packed.soon_values.first += packed.soon_values.count;
    }
}

static void finish(const attention *at, const attention_share *t, void *own)
{
    const buffers *b = own;
    for (int64_t r = 0; r < attention_rows(t); r += CPU_LANES) {
        uint16_t *rows[CPU_LANES];
        int count = group_rows(at, t, at->o, r, rows);
        tiles_of(at)->finish(rows, count, b->o + (t->base + r) * at->shape->head_dim, b->sum + t->base + r,
                             at->shape->head_dim);
    }
}

const attention_way *cpu_attention_on_tiles(const attention *at)
{
    static const attention_way way = {.keys = BLOCK_KEYS,
                                      .rows = TASK_ROWS,
                                      .heads = TASK_HEADS,
                                      .granularity = CPU_LANES,
                                      .few = CPU_LANES,
                                      .enter = enter,
                                      .leave = leave,
                                      .begin = begin,
                                      .add = add,
                                      .finish = finish};
    const ace_attention_shape *shape = at->shape;
    bool fits = at->cpu->kernels->attention_tiles && at->q.dtype == ACE_BF16 && shape->head_dim % CPU_TILE == 0 &&
                shape->scale > 0 && isfinite(shape->scale);
    if (!fits) return NULL;
    return at->q.rows * at->group <= CPU_FEW_LANES ? cpu_attention_of_few() : &way;
}
