/* attention.cu - softmax(q k^T * scale + mask) v: which kernel does it, and the adding of the parts of a few queries.
 *
 * The kernel follows from the types, the head's width and the GPU alone, so that a query's result does not depend on
 * how many there are. Few queries of many keys are shared out by blocks of keys: each leaves its part in the room, and
 * attention_merge adds them in the order, and with the operations, in which the walking kernels do. */
#include "device/cuda/kernels/attention.h"
#include "device/cuda/kernels/table.h"

enum { MOST = 1 << 30 /* queries, keys and rows */ };

/* A block of threads for each row of each key head; a thread for each dimension. What one after the other is added
 * comes from memory in batches, all of one at once. */
template <bool ROUNDED> GPU_KERNEL(ATTENTION_HEAD_DIM) void attention_merge(attention_task t)
{
    enum { BATCH = 16 };
    int row = (int)blockIdx.x, kv_head = (int)blockIdx.y, dim = (int)threadIdx.x;
    if (dim >= t.head_dim) return;
    attention_shorten(&t);
    attention_range blocks = attention_blocks(t, row, 1);
    attention_sum total = {-INFINITY, 0};
    float o = 0;
#pragma unroll 1
    for (int first = blocks.first; first <= blocks.last; first += BATCH) {
        float top[BATCH], sum[BATCH], part[BATCH];
#pragma unroll
        for (int i = 0; i < BATCH; i++) {
            int64_t at = attention_part(t, kv_head, gpu_min(first + i, blocks.last), row);
            top[i] = t.stats[2 * at];
            sum[i] = t.stats[2 * at + 1];
            part[i] = t.parts[at * t.head_dim + dim];
        }
#pragma unroll
        for (int i = 0; i < BATCH; i++) {
            if (first + i > blocks.last) break;
            attention_factors f = attention_add<ROUNDED>(&total, top[i], sum[i]);
            o = gpu_fma(part[i], f.block, o * f.before);
        }
    }
    attention_store(t.o, attention_row(t, t.o, kv_head, row) + dim, attention_result(o, attention_end(total.sum)));
}

static int64_t blocks_of(int64_t keys)
{
    return (keys + ATTENTION_KEYS - 1) / ATTENTION_KEYS;
}

static bool few(const gpu_attention *a)
{
    return a->kv_heads > 0 && a->q.rows <= ATTENTION_FEW_ROWS / (a->heads / a->kv_heads) && a->k.rows > ATTENTION_KEYS;
}

/* Numbers of floats in the room. */
static int64_t parts_of(const gpu_attention *a)
{
    return blocks_of(a->k.rows) * a->q.rows * a->heads * a->head_dim;
}

static int64_t stats_of(const gpu_attention *a)
{
    return blocks_of(a->k.rows) * a->q.rows * a->heads * 2;
}

size_t gpu_kernel_attention_room(const gpu_attention *a)
{
    return few(a) ? (size_t)(parts_of(a) + stats_of(a)) * sizeof(float) : 0;
}

static bool is_sound(const gpu_attention *a)
{
    if (a->heads < 1 || a->kv_heads < 1 || a->heads % a->kv_heads || a->head_dim < 1) return false;
    if (a->head_dim > ATTENTION_HEAD_DIM) return false;
    if (a->q.type != a->k.type || a->k.type != a->v.type || a->v.type != a->o.type) return false;
    int64_t width = (int64_t)a->heads * a->head_dim, kv_width = (int64_t)a->kv_heads * a->head_dim;
    if (a->q.cols != width || a->o.cols != width || a->k.cols != kv_width || a->v.cols != kv_width) return false;
    if (a->o.rows != a->q.rows || a->k.rows != a->v.rows) return false;
    int64_t group = a->heads / a->kv_heads;
    if (a->q.rows > MOST / (group * group) || a->k.rows > MOST || a->kv_heads > 65535) return false;
    if (a->keys && !(a->room && few(a))) return false;
    return a->scale > 0 && a->scale < INFINITY;
}

/* Whether every row, and every head of it, begins at a multiple of `bytes`. */
static bool is_aligned(const gpu_mat *m, int head_dim, size_t bytes)
{
    size_t element = m->type == GPU_F32 ? sizeof(float) : sizeof(uint16_t);
    return (uintptr_t)m->data % bytes == 0 && (size_t)m->stride * element % bytes == 0 &&
           (size_t)head_dim * element % bytes == 0;
}

static attention_task task_of(const gpu_attention *a)
{
    attention_task t = {};
    t.o = a->o;
    t.q = a->q;
    t.k = a->k;
    t.v = a->v;
    t.group = a->heads / a->kv_heads;
    t.ungroup = (uint32_t)(((1ull << 31) + (uint64_t)t.group - 1) / (uint64_t)t.group);
    t.kv_heads = a->kv_heads;
    t.head_dim = a->head_dim;
    t.rows = (int)a->q.rows * t.group;
    t.keys = (int)a->k.rows;
    t.past = (int)(a->k.rows - a->q.rows);
    t.radius = a->radius < 0 ? -1 : a->radius > MOST ? (int)MOST : (int)a->radius;
    t.mask = a->mask;
    t.scale = a->scale * 0x1.715476p+0f;
    t.aligned =
        is_aligned(&a->q, a->head_dim, 16) && is_aligned(&a->k, a->head_dim, 16) && is_aligned(&a->v, a->head_dim, 16);
    t.o_aligned = is_aligned(&a->o, a->head_dim, 16);
    t.blocks = (int)blocks_of(a->k.rows);
    if (a->room && few(a)) {
        t.parts = (float *)a->room;
        t.stats = t.parts + parts_of(a);
        t.length = a->keys;
    }
    return t;
}

int gpu_kernel_attention(gpu_stream *s, const gpu_attention *a)
{
    enum { INVALID_VALUE = 1 /* as the runtime numbers it */ };
    if (!is_sound(a)) return INVALID_VALUE;
    if (a->q.rows == 0) return 0;
    attention_task t = task_of(a);
    bool by_mma = t.q.type == GPU_BF16 && gpu_stream_capability(s) >= 80;
    int error = by_mma ? attention_by_mma(s, t) : attention_by_fma(s, t);
    if (error || !t.parts) return error;
    dim3 grid((unsigned)t.rows, (unsigned)t.kv_heads);
    int threads = (t.head_dim + 31) / 32 * 32;
    return by_mma ? gpu_launch(attention_merge<true>, grid, threads, 0, s, t)
                  : gpu_launch(attention_merge<false>, grid, threads, 0, s, t);
}
