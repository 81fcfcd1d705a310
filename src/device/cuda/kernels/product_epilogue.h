/* product_epilogue.h - from the sums of a tile to what device.h wants stored.
 *
 * The sums go through shared memory, from where each thread takes four neighbouring columns of some rows: so a warp
 * reads and writes whole lines, the columns' constants are loaded once, and the code is there once and not for every
 * register of a fragment. */
#ifndef ACE_DEVICE_CUDA_KERNELS_PRODUCT_EPILOGUE_H
#define ACE_DEVICE_CUDA_KERNELS_PRODUCT_EPILOGUE_H

#include "device/cuda/kernels/product_task.h"

enum { SUMS_PAD = 8 /* words between the rows of sums, which keep the fragments' rows in different banks */ };

/* `count` (1 .. 4) values of a vector, the others zero. Vectors are not always aligned. */
GPU_DEVICE void load_constants(float v[4], const float *vector, int col, int count)
{
#pragma unroll
    for (int i = 0; i < 4; i++) v[i] = vector && i < count ? vector[col + i] : 0.0f;
}

GPU_DEVICE void store_values(const product_mat &m, int row, int col, const float v[4], int count)
{
    int64_t at = row * m.stride + col;
    if (m.bf16) {
        uint16_t *to = (uint16_t *)m.data + at;
        if (m.aligned && count == 4) {
            store_as(to, make_uint2(gpu_pack_bf16(v[0], v[1]), gpu_pack_bf16(v[2], v[3])));
            return;
        }
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (i < count) to[i] = gpu_float_to_bf16(v[i]);
        return;
    }
    float *to = (float *)m.data + at;
    if (m.aligned && count == 4) {
        store_as(to, make_float4(v[0], v[1], v[2], v[3]));
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (i < count) to[i] = v[i];
}

GPU_DEVICE void add_residual(float v[4], const product_mat &m, int row, int col, int count)
{
    const float *from = (const float *)m.data + row * m.stride + col;
    if (m.aligned && count == 4) {
        float4 r = load_as<float4>(from);
        v[0] += r.x, v[1] += r.y, v[2] += r.z, v[3] += r.w;
        return;
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (i < count) v[i] += from[i];
}

/* ---- what sums are to be multiplied with, of a row of x and one of w -----------------------------------------------
 */

struct unscaled {
    typedef int scale;
    static __device__ __forceinline__ int of_row(const product_task &, int) { return 0; }
    static __device__ __forceinline__ int of_col(const product_task &, int) { return 0; }
    static __device__ __forceinline__ float apply(uint32_t sum, int, int) { return gpu_float_of(sum); }
};

/* Integers: sum * column scale * row scale, as the CPU multiplies. */
struct by_factors {
    typedef float scale;
    static __device__ __forceinline__ float of_row(const product_task &t, int row) { return t.x_scales[row]; }
    static __device__ __forceinline__ float of_col(const product_task &t, int col)
    {
        return ((const float *)t.scales)[col];
    }
    static __device__ __forceinline__ float apply(uint32_t sum, float row, float col)
    {
        return (float)(int32_t)sum * col * row;
    }
};

/* Both were multiplied by powers of two. The sum is at least 2^-48 if it is not zero, and less than 2^63: so it rounds
 * once at most, where the result is subnormal. */
struct by_exponents {
    typedef int scale;
    static __device__ __forceinline__ int of_row(const product_task &t, int row) { return t.x_exponents[row]; }
    static __device__ __forceinline__ int of_col(const product_task &t, int col) { return t.w_exponents[col]; }
    static __device__ __forceinline__ float apply(uint32_t sum, int row, int col)
    {
        return gpu_scale2(gpu_float_of(sum), -(row + col));
    }
};

/* Of `count` columns. */
template <class SCALES>
GPU_DEVICE void load_scales(typename SCALES::scale v[4], const product_task &t, int col, int count)
{
#pragma unroll
    for (int i = 0; i < 4; i++) v[i] = i < count ? SCALES::of_col(t, col + i) : 0;
}

/* Four sums as they lie in shared memory. */
template <class SCALES>
GPU_DEVICE void load_sums(float v[4], const char *sums, typename SCALES::scale row, const typename SCALES::scale col[4])
{
    uint4 s = load_as<uint4>(sums);
    v[0] = SCALES::apply(s.x, row, col[0]);
    v[1] = SCALES::apply(s.y, row, col[1]);
    v[2] = SCALES::apply(s.z, row, col[2]);
    v[3] = SCALES::apply(s.w, row, col[3]);
}

/* ---- the epilogue --------------------------------------------------------------------------------------------------
 */

/* sums: [ROWS][COLS + SUMS_PAD] words in shared memory, of the tile that begins with output row `row` and row
 * `first` of w. */
template <int ROWS, int COLS, int THREADS, class SCALES>
GPU_DEVICE void finish_plain(const product_task &t, const char *sums, int row, int first)
{
    const int across = COLS / 4;
    int c = (int)threadIdx.x % across * 4;
    int col = first + c, count = gpu_min(4, t.cols - col);
    if (count <= 0) return;
    float bias[4], gate[4], alpha[4], inv_beta[4];
    typename SCALES::scale scales[4];
    load_constants(bias, t.bias, col, count);
    load_constants(gate, t.gate, col, count);
    load_constants(alpha, t.alpha, col, count);
    load_constants(inv_beta, t.inv_beta, col, count);
    load_scales<SCALES>(scales, t, col, count);
#pragma unroll 1
    for (int r = (int)threadIdx.x / across; r < ROWS; r += THREADS / across) {
        int m = row + r;
        if (m >= t.rows) return;
        float v[4];
        load_sums<SCALES>(v, sums + (r * (COLS + SUMS_PAD) + c) * 4, SCALES::of_row(t, m), scales);
        if (t.bias) {
#pragma unroll
            for (int i = 0; i < 4; i++) v[i] += bias[i];
        }
        if (t.silu) {
#pragma unroll
            for (int i = 0; i < 4; i++) v[i] = gpu_silu(v[i]);
        }
        if (t.gate) {
#pragma unroll
            for (int i = 0; i < 4; i++) v[i] *= gate[i];
        }
        if (t.residual.data) add_residual(v, t.residual, m, col, count);
        if (t.y.data) store_values(t.y, m, col, v, count);
        if (t.alpha) {
#pragma unroll
            for (int i = 0; i < 4; i++) v[i] = gpu_snake(v[i], alpha[i], inv_beta[i]);
            store_values(t.act, m, col, v, count);
        }
    }
}

/* The same of a gated weight, whose rows stand in turns of eight: y = silu(gate) * up. */
template <int ROWS, int COLS, int THREADS, class SCALES>
GPU_DEVICE void finish_gated(const product_task &t, const char *sums, int row, int first)
{
    const int across = COLS / 8;
    int feature = (int)threadIdx.x % across * 4, c = feature / 8 * 16 + feature % 8;
    int col = first / 2 + feature, count = gpu_min(4, t.cols - col);
    if (count <= 0) return;
    typename SCALES::scale gate_scales[4], up_scales[4];
    load_scales<SCALES>(gate_scales, t, first + c, count);
    load_scales<SCALES>(up_scales, t, first + c + 8, count);
#pragma unroll 1
    for (int r = (int)threadIdx.x / across; r < ROWS; r += THREADS / across) {
        int m = row + r;
        if (m >= t.rows) return;
        const char *at = sums + (r * (COLS + SUMS_PAD) + c) * 4;
        float gate[4], up[4];
        typename SCALES::scale row_scale = SCALES::of_row(t, m);
        load_sums<SCALES>(gate, at, row_scale, gate_scales);
        load_sums<SCALES>(up, at + 8 * 4, row_scale, up_scales);
#pragma unroll
        for (int i = 0; i < 4; i++) up[i] *= gpu_silu(gate[i]);
        store_values(t.y, m, col, up, count);
    }
}

#endif
