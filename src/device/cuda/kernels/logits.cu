/* y[m][i] = x[m] . table[id of i]: the head of a language model, where few rows meet very many of the table.
 *
 * The speed is that of reading the table. A warp takes four rows of it at a time, so that each lane has four loads on
 * their way, for one, two or four rows of x. Lane l multiplies columns 8 l .. 8 l + 7, and again 256 further on, in
 * ascending order, then the lanes add theirs: one order, however many rows and columns there are. */
#include "device/cuda/kernels/rows.h"
#include "device/cuda/kernels/table.h"

namespace
{

enum { THREADS = 128, WARPS = THREADS / 32, NEAR = 8, TABLE_ROWS = 4, BLOCK_COLUMNS = WARPS * TABLE_ROWS };

struct logits_args {
    gpu_embedding e;
    int64_t first_row; /* of x and y */
    int aligned;
};

/* Eight values, as two groups. */
GPU_DEVICE void load_near(float v[NEAR], const void *data, gpu_type type, int64_t index, int64_t count, bool aligned)
{
    if (type == GPU_BF16 && aligned && count >= NEAR) {
        uint4 pairs = *(const uint4 *)((const uint16_t *)data + index);
        const uint32_t words[4] = {pairs.x, pairs.y, pairs.z, pairs.w};
        for (int i = 0; i < 4; i++) {
            v[2 * i] = gpu_bf16_low(words[i]);
            v[2 * i + 1] = gpu_bf16_high(words[i]);
        }
        return;
    }
    rows_load(v, data, type, index, count, aligned);
    rows_load(v + ROWS_GROUP, data, type, index + ROWS_GROUP, count - ROWS_GROUP, aligned);
}

template <int M> GPU_KERNEL(THREADS) void logits_kernel(logits_args a)
{
    int64_t k = a.e.x.cols, count = a.e.count;
    int64_t first = (int64_t)blockIdx.x * BLOCK_COLUMNS + threadIdx.x / 32 * TABLE_ROWS;
    int64_t lane = threadIdx.x % 32;
    if (first >= count) return; /* the whole warp */

    int64_t from[TABLE_ROWS];
    for (int r = 0; r < TABLE_ROWS; r++) {
        int64_t i = gpu_min(first + r, count - 1); /* the last one again, and not stored */
        from[r] = (a.e.has_ids ? a.e.ids[i] : a.e.first + i) * a.e.table.stride;
    }
    float sum[TABLE_ROWS][M];
    for (int r = 0; r < TABLE_ROWS; r++)
        for (int m = 0; m < M; m++) sum[r][m] = 0;
    for (int64_t col = lane * NEAR; col < k; col += 32 * NEAR) {
        float w[TABLE_ROWS][NEAR], x[NEAR];
#pragma unroll
        for (int r = 0; r < TABLE_ROWS; r++)
            load_near(w[r], a.e.table.data, a.e.table.type, from[r] + col, k - col, a.aligned);
#pragma unroll
        for (int m = 0; m < M; m++) {
            load_near(x, a.e.x.data, GPU_F32, (a.first_row + m) * a.e.x.stride + col, k - col, a.aligned);
#pragma unroll
            for (int r = 0; r < TABLE_ROWS; r++)
#pragma unroll
                for (int i = 0; i < NEAR; i++) sum[r][m] = gpu_fma(x[i], w[r][i], sum[r][m]);
        }
    }
#pragma unroll
    for (int r = 0; r < TABLE_ROWS; r++)
#pragma unroll
        for (int m = 0; m < M; m++) {
            float total = rows_warp_sum(sum[r][m]);
            if (lane == 0 && first + r < count)
                ((float *)a.e.y.data)[(a.first_row + m) * a.e.y.stride + first + r] = total;
        }
}

} // namespace

int gpu_kernel_logits(gpu_stream *s, const gpu_embedding *e)
{
    if (e->count < 1) return 0;
    int wide = (uintptr_t)e->table.data % 16 == 0 && e->table.stride * (int64_t)rows_element(e->table.type) % 16 == 0;
    logits_args a = {*e, 0, wide && rows_aligned(e->x)};
    dim3 grid((unsigned)((e->count + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS));
    int error = 0;
    while (!error && a.first_row < e->x.rows) {
        int64_t left = e->x.rows - a.first_row;
        if (left >= 4) {
            error = gpu_launch(logits_kernel<4>, grid, THREADS, 0, s, a);
            a.first_row += 4;
        } else if (left >= 2) {
            error = gpu_launch(logits_kernel<2>, grid, THREADS, 0, s, a);
            a.first_row += 2;
        } else {
            error = gpu_launch(logits_kernel<1>, grid, THREADS, 0, s, a);
            a.first_row += 1;
        }
    }
    return error;
}
