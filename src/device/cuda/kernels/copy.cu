/* y = x, converting. Bound by memory; see rows.h for who copies what. */
#include "device/cuda/kernels/rows.h"
#include "device/cuda/kernels/table.h"

namespace
{

struct copy_args {
    gpu_mat y, x;
    rows_shape shape;
};

GPU_KERNEL(ROWS_THREADS) void copy_kernel(copy_args a)
{
    int64_t row, col;
    if (!rows_place(&a.shape, &row, &col)) return;
    float v[ROWS_GROUP];
    rows_load(v, a.x.data, a.x.type, row * a.x.stride + col, a.shape.cols - col, a.shape.aligned);
    rows_store(a.y.data, a.y.type, row * a.y.stride + col, a.shape.cols - col, a.shape.aligned, v);
}

} // namespace

int gpu_kernel_copy(gpu_stream *s, gpu_mat y, gpu_mat x)
{
    if (y.rows < 1 || y.cols < 1) return 0;
    copy_args a = {y, x, rows_shape_of(y, rows_aligned(y) && rows_aligned(x))};
    return gpu_launch(copy_kernel, rows_grid(a.shape), ROWS_THREADS, 0, s, a);
}
