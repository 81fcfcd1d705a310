/* attention.c - softmax(q k^T * scale + mask) v without ever storing the scores whole.
 *
 * Flash attention (Dao 2022) on the matrix micro-kernel. A task is a block of queries of up to four query heads that
 * share a key head. For each block of CPU_KEYS keys it packs keys and values as panels, multiplies, brings the running
 * maximum and sum of each row up to date (online softmax) and adds the weighted values. Key blocks begin at fixed
 * positions, and a block outside a row's mask is not computed for that row: so a row's result does not depend on
 * the rows it shares a task with. Everything between q, k, v and o is float32. */
#include "device/cpu/cpu.h"

#include "base/error.h"

#include <math.h>
#include <string.h>

enum { TASK_ROWS = 144, TASK_HEADS = 4, MAX_HEAD_DIM = 256 };

/* A thread's workspace. */
typedef struct buffers {
    float q[TASK_ROWS * MAX_HEAD_DIM];   /* scaled queries, rows of head_dim */
    float o[TASK_ROWS * MAX_HEAD_DIM];   /* weighted values so far, rows of `width` */
    float s[TASK_ROWS * CPU_KEYS];       /* scores, then their exponentials */
    float keys[CPU_KEYS * MAX_HEAD_DIM]; /* panels of 32 keys: [key / 32][head_dim][32] */
    float values[CPU_KEYS * MAX_HEAD_DIM];
    float maximum[TASK_ROWS], sum[TASK_ROWS];
} buffers;
_Static_assert(sizeof(buffers) <= CPU_WORKSPACE, "attention needs more workspace");

typedef struct attention {
    const ace_device *dev;
    const cpu_backend *cpu;
    ace_mat o, q, k, v;
    const ace_attention_shape *shape;
    int64_t width; /* head_dim rounded up to whole panels */
    int64_t group; /* query heads per key head */
    int64_t task_heads, task_queries, head_blocks, query_blocks;
} attention;

/* One task's share: rows are (query, head) pairs, row = query * heads + head, so that the rows of a range of queries
 * lie together. */
typedef struct share {
    int64_t kv_head, head, heads, query, queries;
} share;

typedef struct range {
    int64_t first, last; /* inclusive; empty if last < first */
} range;

static void *element(ace_mat m, int64_t row, int64_t col)
{
    return (char *)ace_mat_row(m, row) + (size_t)col * ace_mat_element(m);
}

/* Keys that a query attends to. */
static range attended(const attention *at, int64_t query)
{
    const ace_attention_shape *shape = at->shape;
    range keys = {0, at->k.rows - 1};
    if (shape->mask == ACE_MASK_BAND) {
        keys.first = cpu_max(0, query - shape->radius);
        keys.last = cpu_min(keys.last, query + shape->radius);
    } else if (shape->mask == ACE_MASK_CAUSAL) {
        keys.last = query + at->k.rows - at->q.rows;
    }
    return keys;
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

static void load_queries(const attention *at, const share *t, buffers *b)
{
    const cpu_kernels *kernels = at->cpu->kernels;
    int64_t d = at->shape->head_dim;
    for (int64_t h = 0; h < t->heads; h++)
        for (int64_t i = 0; i < t->queries; i++) {
            float *row = b->q + (i * t->heads + h) * d;
            kernels->convert(row, ACE_F32, element(at->q, t->query + i, (t->head + h) * d), at->q.dtype, d);
            kernels->scale(row, ACE_F32, row, at->shape->scale, d);
        }
}

/* The task's queries that attend to some key of [first, first + count). For every mask they are consecutive. */
static range attending(const attention *at, const share *t, int64_t first, int64_t count)
{
    range queries = {0, t->queries - 1};
    while (queries.first <= queries.last) {
        range keys = attended(at, t->query + queries.first);
        if (keys.first < first + count && keys.last >= first) break;
        queries.first++;
    }
    while (queries.last >= queries.first) {
        range keys = attended(at, t->query + queries.last);
        if (keys.first < first + count && keys.last >= first) break;
        queries.last--;
    }
    return queries;
}

/* Asks for the rows of a head that come next: they are so far apart that no hardware sees them coming, and with few
 * queries reading them is all there is to do. */
static void fetch_rows(ace_mat m, int64_t first, int64_t count, int64_t col, int64_t n)
{
    size_t bytes = (size_t)n * ace_mat_element(m);
    for (int64_t row = first; row < cpu_min(first + count, m.rows); row++)
        for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch((const char *)element(m, row, col) + i, 0, 2);
}

/* Scores of the keys [first, first + count), minus infinity where the mask or the end of the keys forbids. */
static void score(const attention *at, const share *t, buffers *b, int64_t first, int64_t count, range queries)
{
    int64_t d = at->shape->head_dim, row = queries.first * t->heads;
    int64_t rows = (queries.last - queries.first + 1) * t->heads;
    for (int64_t half = 0; half < count; half += CPU_NR) {
        float *panel = b->keys + half * d;
        at->cpu->kernels->keys_pack(panel, element(at->k, first + half, t->kv_head * d), at->k.dtype, at->k.stride,
                                    cpu_min(CPU_NR, count - half), d);
        multiply(at, b->s + row * CPU_KEYS + half, CPU_KEYS, b->q + row * d, d, rows, d, panel, false);
    }
    for (int64_t i = queries.first; i <= queries.last; i++) {
        range keys = attended(at, t->query + i);
        int64_t from = cpu_min(CPU_KEYS, cpu_max(0, keys.first - first));
        int64_t to = cpu_max(from, cpu_min(count, keys.last + 1 - first));
        for (int64_t r = i * t->heads; r < (i + 1) * t->heads; r++) {
            float *s = b->s + r * CPU_KEYS;
            for (int64_t j = 0; j < from; j++) s[j] = -INFINITY;
            for (int64_t j = to; j < CPU_KEYS; j++) s[j] = -INFINITY;
        }
    }
}

static void accumulate_values(const attention *at, const share *t, buffers *b, int64_t first, int64_t count,
                              range queries)
{
    const cpu_kernels *kernels = at->cpu->kernels;
    int64_t d = at->shape->head_dim, row = queries.first * t->heads;
    int64_t rows = (queries.last - queries.first + 1) * t->heads;
    for (int64_t r = row; r < row + rows; r++) {
        float factor = kernels->softmax(b->s + r * CPU_KEYS, &b->maximum[r], &b->sum[r]);
        float *o = b->o + r * at->width;
        if (factor != 1.0f) kernels->scale(o, ACE_F32, o, factor, at->width);
    }
    kernels->values_pack(b->values, element(at->v, first, t->kv_head * d), at->v.dtype, at->v.stride, count, CPU_KEYS,
                         d);
    for (int64_t col = 0; col < at->width; col += CPU_NR)
        multiply(at, b->o + row * at->width + col, at->width, b->s + row * CPU_KEYS, CPU_KEYS, rows, CPU_KEYS,
                 b->values + col * CPU_KEYS, true);
}

static void store_outputs(const attention *at, const share *t, const buffers *b)
{
    int64_t d = at->shape->head_dim;
    for (int64_t h = 0; h < t->heads; h++)
        for (int64_t i = 0; i < t->queries; i++) {
            int64_t r = i * t->heads + h;
            /* a query that attends to nothing gets zeros */
            float factor = b->sum[r] == 0.0f ? 0.0f : 1.0f / b->sum[r];
            at->cpu->kernels->scale(element(at->o, t->query + i, (t->head + h) * d), at->o.dtype, b->o + r * at->width,
                                    factor, d);
        }
}

static void attention_task(void *context, int64_t index, int worker)
{
    const attention *at = context;
    buffers *b = cpu_workspace(at->cpu, worker);
    share t;
    t.query = index % at->query_blocks * at->task_queries;
    t.queries = cpu_min(at->task_queries, at->q.rows - t.query);
    index /= at->query_blocks;
    int64_t head_in_group = index % at->head_blocks * at->task_heads;
    t.kv_head = index / at->head_blocks;
    t.head = t.kv_head * at->group + head_in_group;
    t.heads = cpu_min(at->task_heads, at->group - head_in_group);

    int64_t rows = t.heads * t.queries;
    load_queries(at, &t, b);
    memset(b->o, 0, (size_t)(rows * at->width) * sizeof *b->o);
    for (int64_t r = 0; r < rows; r++) {
        b->maximum[r] = -INFINITY;
        b->sum[r] = 0;
    }
    int64_t first = attended(at, t.query).first, last = attended(at, t.query + t.queries - 1).last;
    for (int64_t key = first / CPU_KEYS * CPU_KEYS; key <= last && !cpu_stopped(at->dev); key += CPU_KEYS) {
        int64_t count = cpu_min(CPU_KEYS, at->k.rows - key);
        range queries = attending(at, &t, key, count);
        if (queries.last < queries.first) continue;
        fetch_rows(at->k, key + CPU_KEYS, CPU_KEYS, t.kv_head * at->shape->head_dim, at->shape->head_dim);
        fetch_rows(at->v, key + CPU_KEYS, CPU_KEYS, t.kv_head * at->shape->head_dim, at->shape->head_dim);
        score(at, &t, b, key, count, queries);
        accumulate_values(at, &t, b, key, count, queries);
    }
    store_outputs(at, &t, b);
}

void cpu_attention(ace_device *dev, ace_mat o, ace_mat q, ace_mat k, ace_mat v, const ace_attention_shape *shape)
{
    if (shape->head_dim > MAX_HEAD_DIM) {
        ace_fail(&dev->failure, ACE_ERROR_MODEL,
                 "attention heads of %d dimensions are too wide for this program: at most %d", shape->head_dim,
                 MAX_HEAD_DIM);
        return;
    }
    attention at = {.dev = dev, .cpu = cpu_of(dev), .o = o, .q = q, .k = k, .v = v, .shape = shape};
    at.width = cpu_divide_up(shape->head_dim, CPU_NR) * CPU_NR;
    at.group = shape->heads / shape->kv_heads;
    at.task_heads = cpu_min(TASK_HEADS, at.group);
    at.task_queries = TASK_ROWS / at.task_heads;
    at.head_blocks = cpu_divide_up(at.group, at.task_heads);
    at.query_blocks = cpu_divide_up(q.rows, at.task_queries);
    cpu_run(dev, shape->kv_heads * at.head_blocks * at.query_blocks, attention_task, &at);
}
