/* attention_fma.cu - attention in float32 from end to end, of float32 or of bfloat16 that a GPU before capability 8.0
 * cannot multiply on its tensor cores.
 *
 * 256 threads have a tile of 16 RT rows and walk over the keys, 64 at a time. Thread (y, x) of 16 x 16 has rows
 * RT y .. RT y + RT - 1; of the scores keys 4 x .. 4 x + 3, of the result dimensions 4 x .. 4 x + 3 of each 64. Scores
 * are summed in ascending dimension and weighted values in ascending key, each in one chain of FMA, so that RT makes no
 * difference. Operands come through shared memory in slices of 32 dimensions, and values in slices of 32 keys:
 *     queries [32][16 RT + 4], keys [32][68], weights [64][16 RT + 4], values [32][68]
 * transposed where they are read in fours.
 *
 * With parts, a block of threads has one block of keys only, and leaves its part for attention_merge. */
#include "device/cuda/kernels/attention.h"

enum { THREADS = 256, SLICE = 32, WIDE = ATTENTION_KEYS + 4 };

GPU_DEVICE float number(const float *at)
{
    return *at;
}

GPU_DEVICE float number(const uint16_t *at)
{
    return gpu_bf16_to_float(*at);
}

/* The slices in shared memory; tall: 16 RT + 4. */
typedef struct slices {
    float *queries, *keys, *weights, *values;
} slices;

template <typename T, int RT>
GPU_DEVICE void bring_scored(const slices &b, const attention_task &t, int kv_head, int first_row, int first_key,
                             int dim)
{
    enum { ROWS = 16 * RT, TALL = ROWS + 4 };
    const T *q = (const T *)t.q.data, *k = (const T *)t.k.data;
    int d = (int)threadIdx.x % SLICE;
    bool there = dim + d < t.head_dim;
    for (int r = (int)threadIdx.x / SLICE; r < ROWS; r += THREADS / SLICE)
        b.queries[d * TALL + r] = there && first_row + r < t.rows
                                      ? number(q + attention_row(t, t.q, kv_head, first_row + r) + dim + d)
                                      : 0.0f;
    for (int r = (int)threadIdx.x / SLICE; r < ATTENTION_KEYS; r += THREADS / SLICE)
        b.keys[d * WIDE + r] = there && first_key + r < t.keys
                                   ? number(k + (first_key + r) * t.k.stride + (int64_t)kv_head * t.head_dim + dim + d)
                                   : 0.0f;
}

template <typename T>
GPU_DEVICE void bring_values(const slices &b, const attention_task &t, int kv_head, int first_key, int dim)
{
    enum { DIMS = 64 };
    const T *v = (const T *)t.v.data;
    int d = (int)threadIdx.x % DIMS;
    for (int r = (int)threadIdx.x / DIMS; r < SLICE; r += THREADS / DIMS)
        b.values[r * WIDE + d] =
            dim + d < t.head_dim && first_key + r < t.keys
                ? number(v + (first_key + r) * t.v.stride + (int64_t)kv_head * t.head_dim + dim + d)
                : 0.0f;
}

/* sum[RT][4] += the products of a column of `tall` and a row of `wide`, both beginning at this thread's own, for `n` of
 * them, in ascending order */
template <int RT> GPU_DEVICE void multiply(float (&sum)[RT][4], const float *tall, const float *wide, int n)
{
    enum { TALL = 16 * RT + 4 };
#pragma unroll 4
    for (int d = 0; d < n; d++) {
        float a[RT], w[4];
#pragma unroll
        for (int i = 0; i < RT; i++) a[i] = tall[d * TALL + i];
#pragma unroll
        for (int j = 0; j < 4; j++) w[j] = wide[d * WIDE + j];
#pragma unroll
        for (int i = 0; i < RT; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) sum[i][j] = gpu_fma(a[i], w[j], sum[i][j]);
    }
}

/* s[RT][4]: scores of this thread's rows and keys; -infinity where a row does not see a key */
template <typename T, int RT>
GPU_DEVICE void score(float (&s)[RT][4], const slices &b, const attention_task &t, int kv_head, int first_row,
                      int first_key)
{
    int x = (int)threadIdx.x % 16, y = (int)threadIdx.x / 16;
#pragma unroll
    for (int i = 0; i < RT; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) s[i][j] = 0;
#pragma unroll 1
    for (int dim = 0; dim < t.head_dim; dim += SLICE) {
        __syncthreads();
        bring_scored<T, RT>(b, t, kv_head, first_row, first_key, dim);
        __syncthreads();
        multiply<RT>(s, b.queries + y * RT, b.keys + x * 4, SLICE);
    }
#pragma unroll
    for (int i = 0; i < RT; i++) {
        attention_range seen = attention_seen(t, first_row + y * RT + i);
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int key = first_key + x * 4 + j;
            if (key < seen.first || key > seen.last) s[i][j] = -INFINITY;
        }
    }
}

/* Scores become weights in shared memory. The 16 threads of a row are half a warp. */
template <int RT> GPU_DEVICE void weigh(const slices &b, float (&s)[RT][4], attention_sum (&part)[RT], float scale)
{
    enum { TALL = 16 * RT + 4 };
    int x = (int)threadIdx.x % 16, y = (int)threadIdx.x / 16;
#pragma unroll
    for (int i = 0; i < RT; i++) {
        float highest = fmaxf(fmaxf(s[i][0], s[i][1]), fmaxf(s[i][2], s[i][3])); /* passes NaN by: the sum has it */
        for (int lanes = 1; lanes < 16; lanes *= 2) highest = fmaxf(highest, gpu_shuffle_xor(highest, lanes));
        if (!(highest == highest)) highest = -INFINITY; /* all are NaN */
        float top = highest * scale, base = attention_base(top), sum = 0;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float p = attention_exp2<false>(gpu_fma(s[i][j], scale, -base));
            b.weights[(x * 4 + j) * TALL + y * RT + i] = p;
            sum += p;
        }
        for (int lanes = 1; lanes < 16; lanes *= 2) sum += gpu_shuffle_xor(sum, lanes);
        part[i] = {top, sum};
    }
}

/* sum[RT][4]: weighted values of this thread's rows and its four of the 64 dimensions from `dim` on */
template <typename T, int RT>
GPU_DEVICE void add_values(float (&sum)[RT][4], const slices &b, const attention_task &t, int kv_head, int first_key,
                           int dim)
{
    enum { TALL = 16 * RT + 4 };
    int x = (int)threadIdx.x % 16, y = (int)threadIdx.x / 16;
#pragma unroll
    for (int i = 0; i < RT; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) sum[i][j] = 0;
#pragma unroll 1
    for (int key = 0; key < ATTENTION_KEYS; key += SLICE) {
        __syncthreads(); /* weights are there, and nobody reads other values */
        bring_values<T>(b, t, kv_head, first_key + key, dim);
        __syncthreads();
        multiply<RT>(sum, b.weights + key * TALL + y * RT, b.values + x * 4, SLICE);
    }
}

template <int RT>
GPU_DEVICE void leave_stats(const attention_task &t, const attention_sum (&part)[RT], int kv_head, int block,
                            int first_row)
{
    int x = (int)threadIdx.x % 16, y = (int)threadIdx.x / 16;
    for (int i = 0; i < RT; i++) {
        int row = first_row + y * RT + i;
        if (row >= t.rows || x > 0) continue;
        float *stats = t.stats + 2 * attention_part(t, kv_head, block, row);
        stats[0] = part[i].top;
        stats[1] = part[i].sum;
    }
}

template <int RT>
GPU_DEVICE void leave_part(const attention_task &t, const float (&sum)[RT][4], int kv_head, int block, int first_row,
                           int dim)
{
    int x = (int)threadIdx.x % 16, y = (int)threadIdx.x / 16;
    for (int i = 0; i < RT; i++) {
        int row = first_row + y * RT + i;
        for (int j = 0; j < 4; j++)
            if (row < t.rows && dim + x * 4 + j < t.head_dim)
                t.parts[attention_part(t, kv_head, block, row) * t.head_dim + dim + x * 4 + j] = sum[i][j];
    }
}

/* Grid: tiles of rows, key heads, and with parts blocks of keys. DT: 64 dimensions each. */
template <typename T, int RT, int DT> GPU_KERNEL(THREADS) void attention_in_float32(attention_task t)
{
    enum { ROWS = 16 * RT, TALL = ROWS + 4 };
    GPU_SHARED(float, queries, SLICE *TALL);
    GPU_SHARED(float, keys, SLICE *WIDE);
    GPU_SHARED(float, weights, ATTENTION_KEYS *TALL);
    GPU_SHARED(float, values, SLICE *WIDE);
    slices b = {queries, keys, weights, values};
    int x = (int)threadIdx.x % 16, y = (int)threadIdx.x / 16;
    int first_row = (int)blockIdx.x * ROWS, kv_head = (int)blockIdx.y;
    attention_shorten(&t);
    attention_range blocks = attention_blocks(t, first_row, ROWS);
    if (t.parts) {
        int own = (int)blockIdx.z;
        if (own < blocks.first || own > blocks.last) return;
        blocks = {own, own};
    }
    float o[DT][RT][4];
    attention_sum total[RT];
#pragma unroll
    for (int i = 0; i < RT; i++) {
        total[i] = {-INFINITY, 0};
#pragma unroll
        for (int c = 0; c < DT; c++)
#pragma unroll
            for (int j = 0; j < 4; j++) o[c][i][j] = 0;
    }
#pragma unroll 1
    for (int block = blocks.first; block <= blocks.last; block++) {
        int first = block * ATTENTION_KEYS;
        float s[RT][4];
        attention_sum part[RT];
        attention_factors f[RT];
        score<T, RT>(s, b, t, kv_head, first_row, first);
        weigh<RT>(b, s, part, t.scale);
        if (t.parts) leave_stats<RT>(t, part, kv_head, block, first_row);
#pragma unroll
        for (int i = 0; i < RT; i++) f[i] = attention_add<false>(&total[i], part[i].top, part[i].sum);
#pragma unroll
        for (int c = 0; c < DT; c++) {
            float sum[RT][4];
            add_values<T, RT>(sum, b, t, kv_head, first, c * 64);
            if (t.parts) leave_part<RT>(t, sum, kv_head, block, first_row, c * 64);
#pragma unroll
            for (int i = 0; i < RT; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) o[c][i][j] = gpu_fma(sum[i][j], f[i].block, o[c][i][j] * f[i].before);
        }
    }
    if (t.parts) return;
#pragma unroll
    for (int i = 0; i < RT; i++) {
        int row = first_row + y * RT + i;
        if (row >= t.rows) continue;
        float end = attention_end(total[i].sum);
        int64_t at = attention_row(t, t.o, kv_head, row);
#pragma unroll
        for (int c = 0; c < DT; c++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int dim = c * 64 + x * 4 + j;
                if (dim < t.head_dim) attention_store(t.o, at + dim, attention_result(o[c][i][j], end));
            }
    }
}

template <typename T, int RT, int DT> static int run(gpu_stream *s, const attention_task &t)
{
    enum { ROWS = 16 * RT };
    dim3 grid((unsigned)((t.rows + ROWS - 1) / ROWS), (unsigned)t.kv_heads, t.parts ? (unsigned)t.blocks : 1u);
    return gpu_launch(attention_in_float32<T, RT, DT>, grid, THREADS, 0, s, t);
}

template <typename T, int RT> static int run_rows(gpu_stream *s, const attention_task &t)
{
    if (t.head_dim <= 64) return run<T, RT, 1>(s, t);
    if (t.head_dim <= 128) return run<T, RT, 2>(s, t);
    return run<T, RT, 4>(s, t);
}

template <typename T> static int run_type(gpu_stream *s, const attention_task &t)
{
    return t.rows <= ATTENTION_FEW_ROWS ? run_rows<T, 1>(s, t) : run_rows<T, 4>(s, t);
}

int attention_by_fma(gpu_stream *s, const attention_task &t)
{
    return t.q.type == GPU_F32 ? run_type<float>(s, t) : run_type<uint16_t>(s, t);
}
