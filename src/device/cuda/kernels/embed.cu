/* y[i] = table[ids[i]], converting. The ids travel with the launch, or are columns that sample.cu has chosen. Bound by
 * memory; see rows.h for who copies what. */
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

struct embed_choices_args {
    gpu_mat y, table, choices;
    int64_t first;
    rows_shape shape;
};

GPU_KERNEL(ROWS_THREADS) void embed_choices_kernel(embed_choices_args a)
{
    int64_t row, col;
    if (!rows_place(&a.shape, &row, &col)) return;
    float chosen = ((const float *)a.choices.data)[row % a.choices.rows * a.choices.stride];
    int64_t left = a.shape.cols - col, id = gpu_min(a.first + (int64_t)gpu_max(chosen, 0.0f), a.table.rows - 1);
    float v[ROWS_GROUP];
    rows_load(v, a.table.data, a.table.type, id * a.table.stride + col, left, a.shape.aligned);
    rows_store(a.y.data, a.y.type, row * a.y.stride + col, left, a.shape.aligned, v);
}

} // namespace

int gpu_kernel_embed_choices(gpu_stream *s, gpu_mat y, gpu_mat table, int64_t first, gpu_mat choices)
{
    if (y.rows < 1 || y.cols < 1) return 0;
    embed_choices_args a = {y, table, choices, first, rows_shape_of(y, rows_aligned(y) && rows_aligned(table))};
    return gpu_launch(embed_choices_kernel, rows_grid(a.shape), ROWS_THREADS, 0, s, a);
}

int gpu_kernel_embed(gpu_stream *s, const gpu_embedding *e)
{
    if (e->count < 1 || e->y.cols < 1) return 0;
    gpu_mat y = e->y;
    y.rows = e->count;
    embed_args a = {*e, rows_shape_of(y, rows_aligned(y) && rows_aligned(e->table))};
    return gpu_launch(embed_kernel, rows_grid(a.shape), ROWS_THREADS, 0, s, a);
}
