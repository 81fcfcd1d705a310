/* y = x, converting. Bound by memory; see rows.h for who copies what. Where x goes on among the rows of y may stand in
 * device memory. */
#include "device/cuda/kernels/rows.h"
#include "device/cuda/kernels/table.h"

namespace
{

struct copy_args {
    gpu_mat y, x;
    rows_shape shape;
    const float *first; /* row of y; NULL: 0 */
};

GPU_KERNEL(ROWS_THREADS) void copy_kernel(copy_args a)
{
    int64_t row, col;
    if (!rows_place(&a.shape, &row, &col)) return;
    int64_t to = row;
    if (a.first) to += gpu_max(0, gpu_min((int)*a.first, (int)(a.y.rows - a.x.rows)));
    float v[ROWS_GROUP];
    rows_load(v, a.x.data, a.x.type, row * a.x.stride + col, a.shape.cols - col, a.shape.aligned);
    rows_store(a.y.data, a.y.type, to * a.y.stride + col, a.shape.cols - col, a.shape.aligned, v);
}

} // namespace

int gpu_kernel_copy(gpu_stream *s, gpu_mat y, gpu_mat x)
{
    if (y.rows < 1 || y.cols < 1) return 0;
    copy_args a = {y, x, rows_shape_of(y, rows_aligned(y) && rows_aligned(x)), nullptr};
    return gpu_launch(copy_kernel, rows_grid(a.shape), ROWS_THREADS, 0, s, a);
}

int gpu_kernel_append(gpu_stream *s, gpu_mat y, gpu_mat x, const float *first)
{
    enum { INVALID_VALUE = 1, MOST = 1 << 24 /* what a float counts to */ };
    if (x.rows < 1 || x.cols < 1) return 0;
    if (x.rows > y.rows || y.rows > MOST || x.cols != y.cols) return INVALID_VALUE;
    copy_args a = {y, x, rows_shape_of(x, rows_aligned(y) && rows_aligned(x)), first};
    return gpu_launch(copy_kernel, rows_grid(a.shape), ROWS_THREADS, 0, s, a);
}
