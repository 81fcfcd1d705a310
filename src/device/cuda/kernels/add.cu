/* y = a + b in float32, where b may have one row for all; y may be a or b. Bound by memory; see rows.h for who adds
 * what. */
#include "device/cuda/kernels/rows.h"
#include "device/cuda/kernels/table.h"

namespace
{

struct add_args {
    gpu_mat y, a, b;
    rows_shape shape;
};

GPU_KERNEL(ROWS_THREADS) void add_kernel(add_args o)
{
    int64_t row, col;
    if (!rows_place(&o.shape, &row, &col)) return;
    int64_t left = o.shape.cols - col;
    float v[ROWS_GROUP], w[ROWS_GROUP];
    rows_load(v, o.a.data, GPU_F32, row * o.a.stride + col, left, o.shape.aligned);
    rows_load(w, o.b.data, GPU_F32, (o.b.rows == 1 ? 0 : row * o.b.stride) + col, left, o.shape.aligned);
    for (int i = 0; i < ROWS_GROUP; i++) v[i] += w[i];
    rows_store(o.y.data, GPU_F32, row * o.y.stride + col, left, o.shape.aligned, v);
}

} // namespace

int gpu_kernel_add(gpu_stream *s, gpu_mat y, gpu_mat a, gpu_mat b)
{
    if (y.rows < 1 || y.cols < 1) return 0;
    add_args o = {y, a, b, rows_shape_of(y, rows_aligned(y) && rows_aligned(a) && rows_aligned(b))};
    return gpu_launch(add_kernel, rows_grid(o.shape), ROWS_THREADS, 0, s, o);
}
