/* y = w * x / sqrt(mean(x^2) + eps) [ * (1 + scale) + shift ], x in float32.
 *
 * A block of 256 threads for each row. Thread t squares columns 4 t .. 4 t + 3, and again 1024 further on, in ascending
 * order; then the lanes of a warp add theirs, and all threads the sums of the 8 warps: one order for all rows. The
 * second pass finds the row in the caches. */
#include "device/cuda/kernels/rows.h"
#include "device/cuda/kernels/table.h"

namespace
{

enum { WARPS = ROWS_THREADS / 32 };

struct norm_args {
    gpu_norm n;
    int aligned;
};

GPU_KERNEL(ROWS_THREADS) void rms_norm_kernel(norm_args a)
{
    GPU_SHARED(float, sums, WARPS);
    int64_t row = blockIdx.x, cols = a.n.x.cols, start = row * a.n.x.stride;
    float v[ROWS_GROUP], sum = 0;
    for (int64_t col = ROWS_GROUP * (int64_t)threadIdx.x; col < cols; col += ROWS_GROUP * ROWS_THREADS) {
        rows_load(v, a.n.x.data, GPU_F32, start + col, cols - col, a.aligned);
        for (int i = 0; i < ROWS_GROUP; i++) sum = gpu_fma(v[i], v[i], sum);
    }
    sum = rows_warp_sum(sum);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
    __syncthreads();
    sum = 0;
    for (int i = 0; i < WARPS; i++) sum += sums[i];
    float factor = gpu_rsqrt(sum / (float)cols + a.n.eps);

    for (int64_t col = ROWS_GROUP * (int64_t)threadIdx.x; col < cols; col += ROWS_GROUP * ROWS_THREADS) {
        int64_t left = cols - col;
        float w[ROWS_GROUP], scale[ROWS_GROUP], shift[ROWS_GROUP];
        rows_load(v, a.n.x.data, GPU_F32, start + col, left, a.aligned);
        rows_load(w, a.n.w, GPU_F32, col, left, a.aligned);
        for (int i = 0; i < ROWS_GROUP; i++) v[i] = v[i] * factor * w[i];
        if (a.n.scale) {
            rows_load(scale, a.n.scale, GPU_F32, col, left, a.aligned);
            for (int i = 0; i < ROWS_GROUP; i++) v[i] = gpu_fma(v[i], scale[i], v[i]);
        }
        if (a.n.shift) {
            rows_load(shift, a.n.shift, GPU_F32, col, left, a.aligned);
            for (int i = 0; i < ROWS_GROUP; i++) v[i] += shift[i];
        }
        rows_store(a.n.y.data, a.n.y.type, row * a.n.y.stride + col, left, a.aligned, v);
    }
}

} // namespace

int gpu_kernel_rms_norm(gpu_stream *s, const gpu_norm *n)
{
    if (n->y.rows < 1 || n->y.cols < 1) return 0;
    int aligned = rows_aligned(n->y) && rows_aligned(n->x) && rows_aligned_vector(n->w) &&
                  rows_aligned_vector(n->scale) && rows_aligned_vector(n->shift);
    norm_args a = {*n, aligned};
    return gpu_launch(rms_norm_kernel, dim3((unsigned)n->y.rows), ROWS_THREADS, 0, s, a);
}
