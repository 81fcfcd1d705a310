/* y = silu(x) = x / (1 + e^-x), x in float32. Bound by memory; see rows.h for who treats what. */
#include "device/cuda/kernels/rows.h"
#include "device/cuda/kernels/table.h"

namespace
{

struct silu_args {
    gpu_mat y, x;
    rows_shape shape;
};

GPU_KERNEL(ROWS_THREADS) void silu_kernel(silu_args a)
{
    int64_t row, col;
    if (!rows_place(&a.shape, &row, &col)) return;
    float v[ROWS_GROUP];
    rows_load(v, a.x.data, GPU_F32, row * a.x.stride + col, a.shape.cols - col, a.shape.aligned);
    for (int i = 0; i < ROWS_GROUP; i++) v[i] = gpu_silu(v[i]);
    rows_store(a.y.data, a.y.type, row * a.y.stride + col, a.shape.cols - col, a.shape.aligned, v);
}

} // namespace

int gpu_kernel_silu(gpu_stream *s, gpu_mat y, gpu_mat x)
{
    if (y.rows < 1 || y.cols < 1) return 0;
    silu_args a = {y, x, rows_shape_of(y, rows_aligned(y) && rows_aligned(x))};
    return gpu_launch(silu_kernel, rows_grid(a.shape), ROWS_THREADS, 0, s, a);
}
