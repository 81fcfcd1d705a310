/* attention.c - softmax(q k^T * scale + mask) v without ever storing the scores whole.
 *
 * Flash attention (Dao 2022) on the matrix micro-kernel. A task is a block of queries of up to four query heads that
 * share a key head. For each block of CPU_KEYS keys it packs keys and values as panels, multiplies, brings the running
 * maximum and sum of each row up to date (online softmax) and adds the weighted values. Key blocks begin at fixed
 * positions, and a block outside a row's mask is not computed for that row: so a row's result does not depend on
 * the rows it shares a task with. Everything between q, k, v and o is float32.
 *
 * A few queries, such as those of a language model that writes, take as long as keys and values take to come from
 * memory. Then a task has all queries of several key heads, and reads each key and each value once, where it lies and
 * in the order of memory. It computes the same sums in the same order: the same bits.
 *
 * On a matrix unit of tiles the same tasks are computed by attention_tiles.c and attention_few.c. */
#include "device/cpu/attention.h"

#include "base/error.h"

#include <math.h>
#include <string.h>

enum { TASK_ROWS = 144, TASK_HEADS = 4, STREAM_ROWS = 8 };

/* A thread's workspace. */
typedef struct buffers {
    float q[TASK_ROWS * ATTENTION_HEAD_DIM];   /* scaled queries, rows of head_dim */
    float o[TASK_ROWS * ATTENTION_HEAD_DIM];   /* weighted values so far, rows of `width` */
    float s[TASK_ROWS * CPU_KEYS];             /* scores, then their exponentials */
    float keys[CPU_KEYS * ATTENTION_HEAD_DIM]; /* panels of 32 keys: [key / 32][head_dim][32] */
    float values[CPU_KEYS * ATTENTION_HEAD_DIM];
    uint16_t pairs[CPU_NR * ATTENTION_HEAD_DIM]; /* a panel of 32 keys: [head_dim / 2][32][2] */
    float maximum[TASK_ROWS], sum[TASK_ROWS];
} buffers;
_Static_assert(sizeof(buffers) <= CPU_WORKSPACE, "attention needs more workspace");

/* head_dim rounded up to whole panels */
static int64_t width_of(const attention *at)
{
    return cpu_divide_up(at->shape->head_dim, CPU_NR) * CPU_NR;
}

/* C[rows][32] (+)= A[rows][length] . panel for all rows of a task. */
static void multiply(const attention *at, float *c, int64_t ldc, const float *a, int64_t lda, int64_t rows,
                     int64_t length, const float *panel, bool accumulate)
{
    int mr = at->cpu->kernels->mr;
    for (int64_t first = 0; first < rows; first += mr) {
        int count = (int)cpu_min(mr, rows - first);
        at->cpu->kernels->gemm_f32(c + first * ldc, ldc, a + first * lda, lda, count, length, panel, accumulate,
                                   (const char *)panel);
    }
}

static void begin_rows(const attention *at, const attention_share *t, void *own)
{
    buffers *b = own;
    const cpu_kernels *kernels = at->cpu->kernels;
    int64_t d = at->shape->head_dim, rows = t->heads * t->queries;
    for (int64_t h = 0; h < t->heads; h++)
        for (int64_t i = 0; i < t->queries; i++) {
            float *row = b->q + (t->base + i * t->heads + h) * d;
            kernels->convert(row, ACE_F32, attention_element(at->q, t->query + i, (t->head + h) * d), at->q.dtype, d);
            kernels->scale(row, ACE_F32, row, at->shape->scale, d);
        }
    memset(b->o + t->base * width_of(at), 0, (size_t)(rows * width_of(at)) * sizeof *b->o);
    for (int64_t r = t->base; r < t->base + rows; r++) {
        b->maximum[r] = -INFINITY;
        b->sum[r] = 0;
    }
}

/* The task's queries that attend to some key of [first, first + count). For every mask they are consecutive. */
static attention_range attending(const attention *at, const attention_share *t, int64_t first, int64_t count)
{
    attention_range queries = {0, t->queries - 1};
    while (queries.first <= queries.last) {
        attention_range keys = attention_attended(at, t->query + queries.first);
        if (keys.first < first + count && keys.last >= first) break;
        queries.first++;
    }
    while (queries.last >= queries.first) {
        attention_range keys = attention_attended(at, t->query + queries.last);
        if (keys.first < first + count && keys.last >= first) break;
        queries.last--;
    }
    return queries;
}

/* Asks for the rows of a head that come next: they are so far apart that no hardware sees them coming. */
static void fetch_rows(ace_mat m, int64_t first, int64_t count, int64_t col, int64_t n)
{
    size_t bytes = (size_t)n * ace_mat_element(m);
    for (int64_t row = first; row < cpu_min(first + count, m.rows); row++)
        for (size_t i = 0; i < bytes; i += 64)
            __builtin_prefetch((const char *)attention_element(m, row, col) + i, 0, 2);
}

/* s[rows][CPU_KEYS] = the products of the rows with the keys of the block. */
static void multiply_keys(const attention *at, buffers *b, const attention_block *keys, int64_t row, int64_t rows)
{
    const cpu_kernels *kernels = at->cpu->kernels;
    int64_t d = at->shape->head_dim, stride = at->k.stride;
    for (int64_t half = 0; half < keys->count; half += CPU_NR) {
        float *s = b->s + row * CPU_KEYS + half;
        const float *q = b->q + row * d;
        int64_t count = cpu_min(CPU_NR, keys->count - half);
        if (at->streamed && at->k.dtype == ACE_BF16) {
            kernels->keys_pairs(b->pairs, (const uint16_t *)keys->k + half * stride, stride, count, d,
                                (const uint16_t *)keys->soon_k + half * stride);
            kernels->gemm_pairs(s, CPU_KEYS, q, d, (int)rows, d, b->pairs, false, (const char *)b->pairs);
        } else {
            float *panel = b->keys + half * d;
            kernels->keys_pack(panel, (const char *)keys->k + (size_t)(half * stride) * ace_mat_element(at->k),
                               at->k.dtype, stride, count, d);
            multiply(at, s, CPU_KEYS, q, d, rows, d, panel, false);
        }
    }
}

/* Scores of the block's keys, minus infinity where the mask or the end of the keys forbids. */
static void score(const attention *at, const attention_share *t, buffers *b, const attention_block *keys,
                  attention_range queries)
{
    multiply_keys(at, b, keys, t->base + queries.first * t->heads, (queries.last - queries.first + 1) * t->heads);
    for (int64_t i = queries.first; i <= queries.last; i++) {
        attention_range seen = attention_attended(at, t->query + i);
        int64_t from = cpu_min(CPU_KEYS, cpu_max(0, seen.first - keys->first));
        int64_t to = cpu_max(from, cpu_min(keys->count, seen.last + 1 - keys->first));
        for (int64_t r = t->base + i * t->heads; r < t->base + (i + 1) * t->heads; r++) {
            float *s = b->s + r * CPU_KEYS;
            for (int64_t j = 0; j < from; j++) s[j] = -INFINITY;
            for (int64_t j = to; j < CPU_KEYS; j++) s[j] = -INFINITY;
        }
    }
}

static void accumulate_values(const attention *at, const attention_share *t, buffers *b, const attention_block *keys,
                              attention_range queries)
{
    const cpu_kernels *kernels = at->cpu->kernels;
    int64_t d = at->shape->head_dim, row = t->base + queries.first * t->heads;
    int64_t rows = (queries.last - queries.first + 1) * t->heads;
    for (int64_t r = row; r < row + rows; r++) {
        float factor = kernels->softmax(b->s + r * CPU_KEYS, &b->maximum[r], &b->sum[r]);
        float *o = b->o + r * width_of(at);
        if (factor != 1.0f) kernels->scale(o, ACE_F32, o, factor, width_of(at));
    }
    float *o = b->o + row * width_of(at);
    const float *s = b->s + row * CPU_KEYS;
    if (at->streamed) {
        kernels->values_add(o, width_of(at), s, CPU_KEYS, (int)rows, keys->v, at->v.dtype, at->v.stride, keys->count, d,
                            keys->soon_v);
        return;
    }
    kernels->values_pack(b->values, keys->v, at->v.dtype, at->v.stride, keys->count, CPU_KEYS, d);
    for (int64_t col = 0; col < width_of(at); col += CPU_NR)
        multiply(at, o + col, width_of(at), s, CPU_KEYS, rows, CPU_KEYS, b->values + col * CPU_KEYS, true);
}

/* Keys that are masked add 0 to a sum, which turns -0 into 0, if their block is computed at all: here it always is. */
static void store_outputs(const attention *at, const attention_share *t, void *own)
{
    buffers *b = own;
    int64_t d = at->shape->head_dim;
    for (int64_t h = 0; h < t->heads; h++)
        for (int64_t i = 0; i < t->queries; i++) {
            int64_t r = t->base + i * t->heads + h;
            float *o = b->o + r * width_of(at);
            /* a query that attends to nothing gets zeros */
            float factor = b->sum[r] == 0.0f ? 0.0f : 1.0f / b->sum[r];
            for (int64_t c = 0; c < d; c++) o[c] += 0.0f;
            at->cpu->kernels->scale(attention_element(at->o, t->query + i, (t->head + h) * d), at->o.dtype, o, factor,
                                    d);
        }
}

static void add_block(const attention *at, const attention_share *t, void *own, const attention_block *keys)
{
    buffers *b = own;
    attention_range queries = attending(at, t, keys->first, keys->count);
    if (queries.last < queries.first) return;
    if (!at->streamed) {
        int64_t d = at->shape->head_dim;
        fetch_rows(at->k, keys->first + CPU_KEYS, CPU_KEYS, t->kv_head * d, d);
        fetch_rows(at->v, keys->first + CPU_KEYS, CPU_KEYS, t->kv_head * d, d);
    }
    score(at, t, b, keys, queries);
    accumulate_values(at, t, b, keys, queries);
}

static const attention_way in_float32 = {.keys = CPU_KEYS,
                                         .rows = TASK_ROWS,
                                         .heads = TASK_HEADS,
                                         .granularity = 1,
                                         .few = STREAM_ROWS,
                                         .begin = begin_rows,
                                         .add = add_block,
                                         .finish = store_outputs};

/* ---- tasks ------------------------------------------------------------------------------------------------------- */

static int64_t round_up(int64_t n, int64_t unit)
{
    return cpu_divide_up(n, unit) * unit;
}

/* The same queries of the next key head. */
static void next_head(const attention *at, attention_share *t)
{
    t->kv_head++;
    t->head += at->group;
    t->base += round_up(t->heads * t->queries, at->way->granularity);
}

/* The block of a key head; after it comes the same of the next head, or the next block of the head `then`. */
static attention_block block_of(const attention *at, int64_t first, int64_t kv_head, bool last, int64_t then)
{
    int64_t d = at->shape->head_dim, size = at->way->keys, soon = last ? cpu_min(first + size, at->k.rows - 1) : first;
    int64_t soon_head = last ? then : kv_head + 1;
    return (attention_block){.first = first,
                             .count = cpu_min(size, at->k.rows - first),
                             .k = attention_element(at->k, first, kv_head * d),
                             .v = attention_element(at->v, first, kv_head * d),
                             .soon_k = attention_element(at->k, soon, soon_head * d),
                             .soon_v = attention_element(at->v, soon, soon_head * d)};
}

/* One block of keys after the other; of each block one key head after the other, as they lie in memory. */
static void attention_task(void *context, int64_t index, int worker)
{
    const attention *at = context;
    const attention_way *way = at->way;
    void *own = cpu_workspace(at->cpu, worker);
    attention_share begin = {0};
    begin.query = index % at->query_blocks * at->task_queries;
    begin.queries = cpu_min(at->task_queries, at->q.rows - begin.query);
    index /= at->query_blocks;
    int64_t head_in_group = index % at->head_blocks * at->task_heads;
    begin.kv_head = index / at->head_blocks * at->task_kv_heads;
    begin.head = begin.kv_head * at->group + head_in_group;
    begin.heads = cpu_min(at->task_heads, at->group - head_in_group);
    int64_t end = cpu_min(begin.kv_head + at->task_kv_heads, at->shape->kv_heads);
    int64_t first = attention_attended(at, begin.query).first;
    int64_t last = attention_attended(at, begin.query + begin.queries - 1).last;

    if (way->enter) way->enter(at, own);
    for (attention_share t = begin; t.kv_head < end; next_head(at, &t)) way->begin(at, &t, own);
    for (int64_t key = first / at->way->keys * at->way->keys; key <= last && !cpu_stopped(at->dev);
         key += at->way->keys)
        for (attention_share t = begin; t.kv_head < end; next_head(at, &t)) {
            attention_block keys = block_of(at, key, t.kv_head, t.kv_head + 1 == end, begin.kv_head);
            way->add(at, &t, own, &keys);
        }
    for (attention_share t = begin; t.kv_head < end; next_head(at, &t)) way->finish(at, &t, own);
    if (way->leave) way->leave(at);
}

/* Few queries: neighbouring heads lie side by side; the longer a task's pieces of memory the better, but every thread
 * must have some. */
static void share_out_heads(attention *at)
{
    const attention_way *way = at->way;
    at->task_heads = at->group;
    at->task_queries = at->q.rows;
    int64_t room = way->rows / round_up(at->task_heads * at->task_queries, way->granularity);
    at->task_kv_heads = cpu_max(1, cpu_min(at->shape->kv_heads / (2 * at->cpu->threads), room));
}

void cpu_attention(ace_device *dev, ace_mat o, ace_mat q, ace_mat k, ace_mat v, const ace_attention_shape *shape)
{
    if (shape->head_dim > ATTENTION_HEAD_DIM) {
        ace_fail(&dev->failure, ACE_ERROR_MODEL,
                 "attention heads of %d dimensions are too wide for this program: at most %d", shape->head_dim,
                 ATTENTION_HEAD_DIM);
        return;
    }
    attention at = {.dev = dev, .cpu = cpu_of(dev), .o = o, .q = q, .k = k, .v = v, .shape = shape};
    at.group = shape->heads / shape->kv_heads;
    at.way = cpu_attention_on_tiles(&at);
    if (!at.way) at.way = &in_float32;
    at.streamed = q.rows * at.group <= at.way->few;
    if (at.streamed) {
        share_out_heads(&at);
    } else {
        at.task_heads = cpu_min(at.way->heads, at.group);
        at.task_queries = at.way->rows / at.task_heads;
        at.task_kv_heads = 1;
    }
    at.head_blocks = cpu_divide_up(at.group, at.task_heads);
    at.query_blocks = cpu_divide_up(q.rows, at.task_queries);
    cpu_run(dev, cpu_divide_up(shape->kv_heads, at.task_kv_heads) * at.head_blocks * at.query_blocks, attention_task,
            &at);
}
