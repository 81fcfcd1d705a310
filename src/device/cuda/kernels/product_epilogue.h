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

/* Four sums as they lie in shared memory. With scales they are integers: sum * column scale * row scale, as the CPU
 * multiplies. */
template <bool INTEGER>
GPU_DEVICE void load_sums(float v[4], const char *sums, const float col_scale[4], float row_scale)
{
    if (INTEGER) {
        int4 s = load_as<int4>(sums);
        v[0] = (float)s.x * col_scale[0] * row_scale;
        v[1] = (float)s.y * col_scale[1] * row_scale;
        v[2] = (float)s.z * col_scale[2] * row_scale;
        v[3] = (float)s.w * col_scale[3] * row_scale;
    } else {
        float4 s = load_as<float4>(sums);
        v[0] = s.x, v[1] = s.y, v[2] = s.z, v[3] = s.w;
    }
}

/* sums: [ROWS][COLS + SUMS_PAD] words in shared memory, of the tile that begins with output row `row` and row
 * `first` of w. */
template <int ROWS, int COLS, int THREADS, bool INTEGER>
GPU_DEVICE void finish_plain(const product_task &t, const char *sums, int row, int first)
{
    const int across = COLS / 4;
    int c = (int)threadIdx.x % across * 4;
    int col = first + c, count = gpu_min(4, t.cols - col);
    if (count <= 0) return;
    float bias[4], gate[4], alpha[4], inv_beta[4], scale[4];
    load_constants(bias, t.bias, col, count);
    load_constants(gate, t.gate, col, count);
    load_constants(alpha, t.alpha, col, count);
    load_constants(inv_beta, t.inv_beta, col, count);
    if (INTEGER) load_constants(scale, (const float *)t.scales, col, count);
#pragma unroll 1
    for (int r = (int)threadIdx.x / across; r < ROWS; r += THREADS / across) {
        int m = row + r;
        if (m >= t.rows) return;
        float v[4];
        load_sums<INTEGER>(v, sums + (r * (COLS + SUMS_PAD) + c) * 4, scale, INTEGER ? t.x_scales[m] : 0.0f);
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
template <int ROWS, int COLS, int THREADS, bool INTEGER>
GPU_DEVICE void finish_gated(const product_task &t, const char *sums, int row, int first)
{
    const int across = COLS / 8;
    int feature = (int)threadIdx.x % across * 4, c = feature / 8 * 16 + feature % 8;
    int col = first / 2 + feature, count = gpu_min(4, t.cols - col);
    if (count <= 0) return;
    float gate_scale[4], up_scale[4];
    if (INTEGER) {
        load_constants(gate_scale, (const float *)t.scales, first + c, count);
        load_constants(up_scale, (const float *)t.scales, first + c + 8, count);
    }
#pragma unroll 1
    for (int r = (int)threadIdx.x / across; r < ROWS; r += THREADS / across) {
        int m = row + r;
        if (m >= t.rows) return;
        const char *at = sums + (r * (COLS + SUMS_PAD) + c) * 4;
        float gate[4], up[4], row_scale = INTEGER ? t.x_scales[m] : 0.0f;
        load_sums<INTEGER>(gate, at, gate_scale, row_scale);
        load_sums<INTEGER>(up, at + 8 * 4, up_scale, row_scale);
#pragma unroll
        for (int i = 0; i < 4; i++) up[i] *= gpu_silu(gate[i]);
        store_values(t.y, m, col, up, count);
    }
}

#endif
