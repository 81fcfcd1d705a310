/* y[i] = table[ids[i]], converting. The ids travel with the launch. Bound by memory; see rows.h for who copies what. */
#include "device/cuda/kernels/rows.h"
#include "device/cuda/kernels/table.h"

namespace
{

struct embed_args {
    gpu_embedding e;
    rows_shape shape;
};

GPU_KERNEL(ROWS_THREADS) void embed_kernel(embed_args a)
{
    int64_t row, col;
    if (!rows_place(&a.shape, &row, &col)) return;
    int64_t left = a.shape.cols - col, id = a.e.ids[row];
    float v[ROWS_GROUP];
    rows_load(v, a.e.table.data, a.e.table.type, id * a.e.table.stride + col, left, a.shape.aligned);
    rows_store(a.e.y.data, a.e.y.type, row * a.e.y.stride + col, left, a.shape.aligned, v);
}

} // namespace

int gpu_kernel_embed(gpu_stream *s, const gpu_embedding *e)
{
    if (e->count < 1 || e->y.cols < 1) return 0;
    gpu_mat y = e->y;
    y.rows = e->count;
    embed_args a = {*e, rows_shape_of(y, rows_aligned(y) && rows_aligned(e->table))};
    return gpu_launch(embed_kernel, rows_grid(a.shape), ROWS_THREADS, 0, s, a);
}
