/* attention_mma.cu - attention of bfloat16 on the tensor cores, in float32 sums.
 *
 * A warp has 16 or 32 rows, a block of threads four warps, which walk together over the keys, 64 at a time:
 *     S = Q K^T (m16n8k16; the keys, row by row in shared memory, are B's columns as they lie there)
 *     weights 2^(S scale - top) in registers, rounded to bf16; the accumulators of S are laid out as the operand A of
 *     the next product needs them
 *     O_b = P V (V by ldmatrix.trans), 16 dimensions at a time, each added to O at once; the sum of the weights is
 *     one more product, with a column of ones, so it is the sum of what was rounded.
 * Values come while keys are multiplied, and the next keys while values are: two barriers for each block of keys.
 *
 * In shared memory the 16 bytes c of row r lie at place c ^ (r & 7) of their row, so that neither copies nor ldmatrix
 * meet in a bank. Q [rows][D], K [64][D], V [64][D]; D is head_dim filled up with zeros to 64, 128 or 256.
 *
 * For a few queries (language models that write) the keys are shared out: a warp has one block of keys, and leaves its
 * part for attention_merge. */
#include "device/cuda/kernels/attention.h"

enum { CHUNK = 8 /* elements of 16 bytes */, WARPS = 4, PAIRS = ATTENTION_KEYS / 16 };

#if GPU_ARCH >= 800 /* older ones have attention_fma.cu */

/* The element of a tile of rows of D. */
template <int D> GPU_DEVICE uint16_t *place(uint16_t *tile, int row, int chunk)
{
    return tile + row * D + (chunk ^ (row & 7)) * CHUNK;
}

/* Brings 16 bytes, or zeros: `wanted` of the elements exist. */
GPU_DEVICE void bring(uint16_t *to, const uint16_t *from, int wanted, bool aligned)
{
    if (aligned) {
        gpu_copy16_async(to, from, wanted >= CHUNK);
        return;
    }
#pragma unroll 1
    for (int i = 0; i < CHUNK; i++) to[i] = i < wanted ? from[i] : (uint16_t)0;
}

template <int D, int THREADS>
GPU_DEVICE void bring_queries(uint16_t *tile, const attention_task &t, int kv_head, int first, int rows)
{
    const uint16_t *q = (const uint16_t *)t.q.data;
    int chunk = (int)threadIdx.x % (D / CHUNK);
    for (int r = (int)threadIdx.x / (D / CHUNK); r < rows; r += THREADS / (D / CHUNK)) {
        int wanted = first + r < t.rows ? t.head_dim - chunk * CHUNK : 0;
        int64_t at = wanted > 0 ? attention_row(t, t.q, kv_head, first + r) + chunk * CHUNK : 0;
        bring(place<D>(tile, r, chunk), q + at, wanted, t.aligned);
    }
}

/* A block of keys, or of values. */
template <int D, int THREADS>
GPU_DEVICE void bring_block(uint16_t *tile, const attention_task &t, const gpu_mat &m, int kv_head, int first)
{
    enum { STEP = THREADS / (D / CHUNK) };
    int chunk = (int)threadIdx.x % (D / CHUNK), row = (int)threadIdx.x / (D / CHUNK);
    int there = t.head_dim - chunk * CHUNK;
    const uint16_t *from =
        (const uint16_t *)m.data + (first + row) * m.stride + (int64_t)kv_head * t.head_dim + chunk * CHUNK;
    if (t.aligned) {
        int end = there > 0 ? t.keys - first : 0;
#pragma unroll
        for (int r = row; r < row + ATTENTION_KEYS; r += STEP, from += STEP * m.stride)
            gpu_copy16_async(place<D>(tile, r, chunk), from, r < end);
        return;
    }
#pragma unroll 1
    for (int r = row; r < ATTENTION_KEYS; r += STEP, from += STEP * m.stride)
        bring(place<D>(tile, r, chunk), from, first + r < t.keys ? there : 0, false);
}

/* The rows of a warp: TILES tiles of 16, of which lane 4 g + c has rows g and g + 8, columns 2 c and 2 c + 1 of eight.
 */
typedef struct warp_rows {
    int first;                       /* row of the key head */
    attention_range by_some, by_all; /* keys that some of the rows see, and all */
} warp_rows;

template <int TILES> GPU_DEVICE warp_rows rows_from(const attention_task &t, int first)
{
    attention_range low = attention_seen(t, first), high = attention_seen(t, first + TILES * 16 - 1);
    return {first, {low.first, high.last}, {high.first, low.last}};
}

/* Whether the rows have anything to do with the block of keys. */
GPU_DEVICE bool sees(const warp_rows &w, const attention_task &t, int first)
{
    return w.first < t.rows && w.by_some.first < first + ATTENTION_KEYS && w.by_some.last >= first;
}

/* s[tile][8 keys][4] = Q K^T */
template <int D, int TILES>
GPU_DEVICE void multiply_keys(float (&s)[TILES][2 * PAIRS][4], uint16_t *q, uint16_t *k, int lane)
{
#pragma unroll
    for (int i = 0; i < TILES; i++)
#pragma unroll
        for (int n = 0; n < 2 * PAIRS; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) s[i][n][e] = 0;
#pragma unroll 2
    for (int step = 0; step < D / 16; step++) {
        uint32_t a[TILES][4];
#pragma unroll
        for (int i = 0; i < TILES; i++) gpu_load_matrix_x4(a[i], place<D>(q, i * 16 + lane % 16, 2 * step + lane / 16));
#pragma unroll
        for (int n = 0; n < PAIRS; n++) {
            uint32_t b[4];
            gpu_load_matrix_x4(b, place<D>(k, n * 16 + lane / 16 * 8 + lane % 8, 2 * step + lane / 8 % 2));
#pragma unroll
            for (int i = 0; i < TILES; i++) {
                gpu_mma_bf16(s[i][2 * n], a[i], b);
                gpu_mma_bf16(s[i][2 * n + 1], a[i], b + 2);
            }
        }
    }
}

/* Scores become -infinity where a row does not see the key. */
template <int TILES>
GPU_DEVICE void hide(float (&s)[TILES][2 * PAIRS][4], const attention_task &t, const warp_rows &w, int first, int lane)
{
    if (first >= w.by_all.first && first + ATTENTION_KEYS - 1 <= w.by_all.last) return;
    lane = gpu_shuffle(lane, lane); /* so that the ranges below are not kept in registers from block to block */
#pragma unroll
    for (int i = 0; i < TILES; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            attention_range seen = attention_seen(t, w.first + i * 16 + half * 8 + lane / 4);
#pragma unroll
            for (int n = 0; n < 2 * PAIRS; n++)
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    int key = first + n * 8 + lane % 4 * 2 + e;
                    if (key < seen.first || key > seen.last) s[i][n][2 * half + e] = -INFINITY;
                }
        }
}

/* Scores become weights, in pairs; top[tile][half]: their references, -infinity where nothing is seen. */
template <int TILES>
GPU_DEVICE void weigh(uint32_t (&p)[TILES][PAIRS][4], float (&top)[TILES][2], float (&s)[TILES][2 * PAIRS][4],
                      float scale)
{
#pragma unroll
    for (int i = 0; i < TILES; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float highest = -INFINITY; /* fmaxf() passes NaN by: weights and sums have it */
#pragma unroll
            for (int n = 0; n < 2 * PAIRS; n++)
                highest = fmaxf(highest, fmaxf(s[i][n][2 * half], s[i][n][2 * half + 1]));
            highest = fmaxf(highest, gpu_shuffle_xor(highest, 1));
            highest = fmaxf(highest, gpu_shuffle_xor(highest, 2));
            top[i][half] = highest * scale;
            float base = attention_base(top[i][half]);
#pragma unroll
            for (int n = 0; n < 2 * PAIRS; n++) {
                float low = attention_exp2<true>(gpu_fma(s[i][n][2 * half], scale, -base));
                float high = attention_exp2<true>(gpu_fma(s[i][n][2 * half + 1], scale, -base));
                p[i][n / 2][n % 2 * 2 + half] = gpu_pack_bf16(low, high);
            }
        }
}

/* sums[tile][half] of the weights of a row */
template <int TILES> GPU_DEVICE void add_weights(float (&sums)[TILES][2], const uint32_t (&p)[TILES][PAIRS][4])
{
    static constexpr uint32_t one = 0x3f803f80; /* two of them */
    const uint32_t ones[2] = {one, one};
#pragma unroll
    for (int i = 0; i < TILES; i++) {
        float d[4] = {0, 0, 0, 0};
#pragma unroll
        for (int n = 0; n < PAIRS; n++) gpu_mma_bf16(d, p[i][n], ones);
        sums[i][0] = d[0];
        sums[i][1] = d[2];
    }
}

/* d[tile][8 dimensions][4] = P V for the 16 dimensions from 16 `pair` on */
template <int D, int TILES>
GPU_DEVICE void multiply_values(float (&d)[TILES][2][4], const uint32_t (&p)[TILES][PAIRS][4], uint16_t *v, int pair,
                                int lane)
{
#pragma unroll
    for (int i = 0; i < TILES; i++)
#pragma unroll
        for (int e = 0; e < 8; e++) d[i][e / 4][e % 4] = 0;
#pragma unroll
    for (int n = 0; n < PAIRS; n++) {
        uint32_t b[4];
        gpu_load_matrix_x4_transposed(b, place<D>(v, n * 16 + lane % 16, 2 * pair + lane / 16));
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            gpu_mma_bf16(d[i][0], p[i][n], b);
            gpu_mma_bf16(d[i][1], p[i][n], b + 2);
        }
    }
}

/* Of the four lanes that have the same rows of each tile, lane i of the four keeps the sum of half i % 2 of tile i / 2.
 * Adds the block to that, and gets the factors of all. */
template <int TILES>
GPU_DEVICE void add_rows(attention_factors (&f)[TILES][2], attention_sum *total, const float (&top)[TILES][2],
                         const float (&sums)[TILES][2], int lane)
{
    bool odd = lane % 2 > 0, upper = TILES > 1 && lane % 4 > 1;
    float first_top = odd ? top[0][1] : top[0][0], last_top = odd ? top[TILES - 1][1] : top[TILES - 1][0];
    float first_sum = odd ? sums[0][1] : sums[0][0], last_sum = odd ? sums[TILES - 1][1] : sums[TILES - 1][0];
    float own_top = upper ? last_top : first_top, own_sum = upper ? last_sum : first_sum;
    attention_factors own = attention_add<true>(total, own_top, own_sum);
#pragma unroll
    for (int i = 0; i < 2 * TILES; i++) {
        f[i / 2][i % 2].before = gpu_shuffle(own.before, lane / 4 * 4 + i);
        f[i / 2][i % 2].block = gpu_shuffle(own.block, lane / 4 * 4 + i);
    }
}

/* Writes a warp's rows of o, which lie in `tile` like queries. */
template <int D>
GPU_DEVICE void store_rows(const attention_task &t, uint16_t *tile, int kv_head, int first, int rows, int lane)
{
    int chunk = lane % (D / CHUNK), there = t.head_dim - chunk * CHUNK;
    uint16_t *o = (uint16_t *)t.o.data;
#pragma unroll 1
    for (int r = lane / (D / CHUNK); r < rows; r += 32 / (D / CHUNK)) {
        if (first + r >= t.rows || there <= 0) continue;
        uint16_t *to = o + attention_row(t, t.o, kv_head, first + r) + chunk * CHUNK, *from = place<D>(tile, r, chunk);
        if (t.o_aligned)
            *(uint4 *)to = *(const uint4 *)from;
        else
            for (int i = 0; i < CHUNK && i < there; i++) to[i] = from[i];
    }
}

#endif

template <int D, int TILES> GPU_KERNEL(WARPS * 32) void attention_walk(attention_task t)
{
#if GPU_ARCH >= 800
    enum { THREADS = WARPS * 32, ROWS = WARPS * TILES * 16 };
    GPU_DYNAMIC_SHARED(char, shared);
    uint16_t *q = (uint16_t *)shared, *k = q + ROWS * D, *v = k + ATTENTION_KEYS * D;
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, kv_head = (int)blockIdx.y;
    /* of causal tiles the later ones see more: they begin first */
    unsigned tile = t.mask == GPU_MASK_CAUSAL ? gridDim.x - 1 - blockIdx.x : blockIdx.x;
    int first_row = (int)tile * ROWS;
    attention_range blocks = attention_blocks(t, first_row, ROWS);
    warp_rows w = rows_from<TILES>(t, first_row + warp * TILES * 16);
    uint16_t *own = q + warp * TILES * 16 * D;

    float o[TILES][D / 8][4];
    attention_sum total = {-INFINITY, 0}; /* of one row: see add_rows() */
#pragma unroll
    for (int i = 0; i < TILES; i++)
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) o[i][n][e] = 0;

    if (blocks.first <= blocks.last) {
        bring_queries<D, THREADS>(q, t, kv_head, first_row, ROWS);
        bring_block<D, THREADS>(k, t, t.k, kv_head, blocks.first * ATTENTION_KEYS);
    }
    gpu_copy_commit();
#pragma unroll 1
    for (int block = blocks.first; block <= blocks.last; block++) {
        int first = block * ATTENTION_KEYS;
        bool seen = sees(w, t, first);
        gpu_copy_wait<0>();
        __syncthreads(); /* keys are there, and nobody reads values */
        bring_block<D, THREADS>(v, t, t.v, kv_head, first);
        gpu_copy_commit();

        uint32_t p[TILES][PAIRS][4];
        attention_factors f[TILES][2];
        if (seen) {
            float s[TILES][2 * PAIRS][4], top[TILES][2], sums[TILES][2];
            multiply_keys<D, TILES>(s, own, k, lane);
            hide<TILES>(s, t, w, first, lane);
            weigh<TILES>(p, top, s, t.scale);
            add_weights<TILES>(sums, p);
            add_rows<TILES>(f, &total, top, sums, lane);
        }
        gpu_copy_wait<0>();
        __syncthreads(); /* values are there, and nobody reads keys */
        if (block < blocks.last) bring_block<D, THREADS>(k, t, t.k, kv_head, first + ATTENTION_KEYS);
        gpu_copy_commit();
        if (!seen) continue;
#pragma unroll
        for (int pair = 0; pair < D / 16; pair++) {
            float d[TILES][2][4];
            multiply_values<D, TILES>(d, p, v, pair, lane);
#pragma unroll
            for (int i = 0; i < TILES; i++)
#pragma unroll
                for (int e = 0; e < 8; e++) {
                    float *to = &o[i][2 * pair + e / 4][e % 4];
                    *to = gpu_fma(d[i][e / 4][e % 4], f[i][e % 4 / 2].block, *to * f[i][e % 4 / 2].before);
                }
        }
    }

    if (w.first >= t.rows) return;
    __syncwarp(); /* nobody reads the queries that were there */
    float own_end = attention_end(total.sum);
#pragma unroll
    for (int i = 0; i < TILES; i++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float end = gpu_shuffle(own_end, lane / 4 * 4 + i * 2 + half);
#pragma unroll
            for (int n = 0; n < D / 8; n++)
                *(uint32_t *)(place<D>(own, i * 16 + half * 8 + lane / 4, n) + lane % 4 * 2) = gpu_pack_bf16(
                    attention_result(o[i][n][2 * half], end), attention_result(o[i][n][2 * half + 1], end));
        }
    __syncwarp();
    store_rows<D>(t, own, kv_head, w.first, TILES * 16, lane);
#else
    (void)t;
#endif
}

/* A warp: one block of keys of one key head, for 16 rows or fewer. */
template <int D> GPU_KERNEL(32) void attention_part_of_keys(attention_task t)
{
#if GPU_ARCH >= 800
    GPU_DYNAMIC_SHARED(char, shared);
    uint16_t *q = (uint16_t *)shared, *k = q + ATTENTION_FEW_ROWS * D, *v = k + ATTENTION_KEYS * D;
    int lane = (int)threadIdx.x, block = (int)blockIdx.x, kv_head = (int)blockIdx.y, first = block * ATTENTION_KEYS;
    attention_shorten(&t);
    warp_rows w = rows_from<1>(t, 0);
    if (!sees(w, t, first)) return;
    bring_queries<D, 32>(q, t, kv_head, 0, ATTENTION_FEW_ROWS);
    bring_block<D, 32>(k, t, t.k, kv_head, first);
    gpu_copy_commit();
    bring_block<D, 32>(v, t, t.v, kv_head, first);
    gpu_copy_commit();

    float s[1][2 * PAIRS][4], top[1][2], sums[1][2];
    uint32_t p[1][PAIRS][4];
    gpu_copy_wait<1>();
    __syncwarp();
    multiply_keys<D, 1>(s, q, k, lane);
    hide<1>(s, t, w, first, lane);
    weigh<1>(p, top, s, t.scale);
    add_weights<1>(sums, p);
    gpu_copy_wait<0>();
    __syncwarp();
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int row = half * 8 + lane / 4;
        if (row < t.rows && lane % 4 == 0) {
            float *stats = t.stats + 2 * attention_part(t, kv_head, block, row);
            stats[0] = top[0][half];
            stats[1] = sums[0][half];
        }
    }
#pragma unroll
    for (int pair = 0; pair < D / 16; pair++) {
        float d[1][2][4];
        multiply_values<D, 1>(d, p, v, pair, lane);
#pragma unroll
        for (int e = 0; e < 8; e++) {
            int row = e % 4 / 2 * 8 + lane / 4, dim = pair * 16 + e / 4 * 8 + lane % 4 * 2 + e % 2;
            if (row < t.rows && dim < t.head_dim)
                t.parts[attention_part(t, kv_head, block, row) * t.head_dim + dim] = d[0][e / 4][e % 4];
        }
    }
#else
    (void)t;
#endif
}

template <int D, int TILES> static int walk(gpu_stream *s, const attention_task &t)
{
    enum { ROWS = WARPS * TILES * 16 };
    dim3 grid((unsigned)((t.rows + ROWS - 1) / ROWS), (unsigned)t.kv_heads);
    size_t shared = (size_t)(ROWS + 2 * ATTENTION_KEYS) * D * sizeof(uint16_t);
    return gpu_launch(attention_walk<D, TILES>, grid, WARPS * 32, shared, s, t);
}

template <int D> static int run(gpu_stream *s, const attention_task &t)
{
    if (t.parts) {
        dim3 grid((unsigned)t.blocks, (unsigned)t.kv_heads);
        size_t shared = (size_t)(ATTENTION_FEW_ROWS + 2 * ATTENTION_KEYS) * D * sizeof(uint16_t);
        return gpu_launch(attention_part_of_keys<D>, grid, 32, shared, s, t);
    }
    /* Twice the rows read half as often, but only as long as there is work for the whole GPU. */
    enum { TALL = WARPS * 32 };
    int64_t tall = (int64_t)(t.rows + TALL - 1) / TALL * t.kv_heads;
    if constexpr (D < 256)
        if (tall >= 2 * gpu_stream_properties(s)->multiprocessors) return walk<D, 2>(s, t);
    return walk<D, 1>(s, t);
}

int attention_by_mma(gpu_stream *s, const attention_task &t)
{
    if (t.head_dim <= 64) return run<64>(s, t);
    if (t.head_dim <= 128) return run<128>(s, t);
    return run<256>(s, t);
}
