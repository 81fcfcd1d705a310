/* y = x + sin(alpha x)^2 * inv_beta, with alpha and inv_beta for each column, x in float32. Bound by memory; see rows.h
 * for who treats what, and functions.h for the sine. */
#include "device/cuda/kernels/rows.h"
#include "device/cuda/kernels/table.h"

namespace
{

struct snake_args {
    gpu_mat y, x;
    const float *alpha, *inv_beta;
    rows_shape shape;
};

GPU_KERNEL(ROWS_THREADS) void snake_kernel(snake_args a)
{
    int64_t row, col;
    if (!rows_place(&a.shape, &row, &col)) return;
    int64_t left = a.shape.cols - col;
    float v[ROWS_GROUP], alpha[ROWS_GROUP], inv_beta[ROWS_GROUP];
    rows_load(v, a.x.data, GPU_F32, row * a.x.stride + col, left, a.shape.aligned);
    rows_load(alpha, a.alpha, GPU_F32, col, left, a.shape.aligned);
    rows_load(inv_beta, a.inv_beta, GPU_F32, col, left, a.shape.aligned);
    for (int i = 0; i < ROWS_GROUP; i++) v[i] = gpu_snake(v[i], alpha[i], inv_beta[i]);
    rows_store(a.y.data, a.y.type, row * a.y.stride + col, left, a.shape.aligned, v);
}

} // namespace

int gpu_kernel_snake(gpu_stream *s, gpu_mat y, gpu_mat x, const float *alpha, const float *inv_beta)
{
    if (y.rows < 1 || y.cols < 1) return 0;
    int aligned = rows_aligned(y) && rows_aligned(x) && rows_aligned_vector(alpha) && rows_aligned_vector(inv_beta);
    snake_args a = {y, x, alpha, inv_beta, rows_shape_of(y, aligned)};
    return gpu_launch(snake_kernel, rows_grid(a.shape), ROWS_THREADS, 0, s, a);
}
