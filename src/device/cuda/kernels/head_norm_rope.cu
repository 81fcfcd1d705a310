/* In place on rows of heads: x = w * x / sqrt(mean(x^2) + eps) over each head, then rotation of the pairs (i, i + d /
 * 2) by the angles of the row: a' = a cos - b sin, b' = b cos + a sin.
 *
 * A warp for each head. Lane l treats pairs 2 l and 2 l + 1, and again 64 further on; it squares what it reads in this
 * order, and the lanes add theirs: one order for all heads. It writes only what it alone has read. */
#include "device/cuda/kernels/rows.h"
#include "device/cuda/kernels/table.h"

namespace
{

enum { THREADS = 128, HEADS_OF_BLOCK = THREADS / 32 };

struct head_args {
    gpu_head_norm n;
    int64_t heads; /* of a row */
};

GPU_DEVICE float load_value(gpu_mat m, int64_t index)
{
    return m.type == GPU_BF16 ? gpu_bf16_to_float(((const uint16_t *)m.data)[index]) : ((const float *)m.data)[index];
}

GPU_DEVICE void store_value(gpu_mat m, int64_t index, float v)
{
    if (m.type == GPU_BF16)
        ((uint16_t *)m.data)[index] = gpu_float_to_bf16(v);
    else
        ((float *)m.data)[index] = v;
}

GPU_KERNEL(THREADS) void head_norm_rope_kernel(head_args o)
{
    int64_t head = (int64_t)blockIdx.x * HEADS_OF_BLOCK + threadIdx.x / 32;
    if (head >= o.n.x.rows * o.heads) return; /* the whole warp */
    int64_t row = head / o.heads, half = o.n.head_dim / 2;
    int64_t start = row * o.n.x.stride + head % o.heads * o.n.head_dim;
    int64_t first = threadIdx.x % 32 * 2;

    float sum = 0;
    for (int64_t i = first; i < half; i += 64)
        for (int64_t j = i; j < i + 2 && j < half; j++) {
            float a = load_value(o.n.x, start + j), b = load_value(o.n.x, start + half + j);
            sum = gpu_fma(a, a, sum);
            sum = gpu_fma(b, b, sum);
        }
    float factor = gpu_rsqrt(rows_warp_sum(sum) / (float)o.n.head_dim + o.n.eps);

    const float *angles = nullptr;
    if (o.n.rope.data) angles = (const float *)o.n.rope.data + (o.n.first_position + row) * o.n.rope.stride;
    for (int64_t i = first; i < half; i += 64)
        for (int64_t j = i; j < i + 2 && j < half; j++) {
            float a = load_value(o.n.x, start + j) * factor * o.n.w[j];
            float b = load_value(o.n.x, start + half + j) * factor * o.n.w[half + j];
            if (angles) {
                float turned = gpu_fma(-b, angles[half + j], a * angles[j]);
                b = gpu_fma(a, angles[half + j], b * angles[j]);
                a = turned;
            }
            store_value(o.n.x, start + j, a);
            store_value(o.n.x, start + half + j, b);
        }
}

} // namespace

int gpu_kernel_head_norm_rope(gpu_stream *s, const gpu_head_norm *n)
{
    if (n->x.rows < 1 || n->x.cols < 1) return 0;
    head_args o = {*n, n->x.cols / n->head_dim};
    int64_t blocks = (n->x.rows * o.heads + HEADS_OF_BLOCK - 1) / HEADS_OF_BLOCK;
    return gpu_launch(head_norm_rope_kernel, dim3((unsigned)blocks), THREADS, 0, s, o);
}
