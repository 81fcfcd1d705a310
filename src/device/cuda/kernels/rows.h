/* rows.h - what the kernels that go along rows share: who treats which column, and loads and stores of four values at
 * once where addresses allow it.
 *
 * A block of 256 threads covers 2^shift groups of four neighbouring columns of each of its 256 / 2^shift rows, so that
 * narrow matrices fill blocks, too, and no thread divides. Matrices start and go on anywhere: a group is loaded at once
 * if the launcher found all operands aligned, else value by value, by the same thread and in the same order. */
#ifndef ACE_DEVICE_CUDA_KERNELS_ROWS_H
#define ACE_DEVICE_CUDA_KERNELS_ROWS_H

#include "device/cuda/kernels/language.h"

enum { ROWS_THREADS = 256, ROWS_GROUP = 4 };

typedef struct rows_shape {
    int64_t rows, cols;
    int shift;
    int aligned; /* groups of all operands may be loaded at once */
} rows_shape;

static inline size_t rows_element(gpu_type type)
{
    return type == GPU_BF16 ? 2 : 4;
}

/* Whether groups of four of every row can be loaded at once. */
static inline int rows_aligned(gpu_mat m)
{
    return (uintptr_t)m.data % (ROWS_GROUP * rows_element(m.type)) == 0 && (m.rows <= 1 || m.stride % ROWS_GROUP == 0);
}

/* The same of a float vector, or NULL. */
static inline int rows_aligned_vector(const float *v)
{
    return (uintptr_t)v % 16 == 0;
}

static inline rows_shape rows_shape_of(gpu_mat y, int aligned)
{
    rows_shape s = {y.rows, y.cols, 0, aligned};
    while (s.shift < 8 && (int64_t)ROWS_GROUP << s.shift < y.cols) s.shift++;
    return s;
}

static inline dim3 rows_grid(rows_shape s)
{
    int64_t height = ROWS_THREADS >> s.shift, width = (int64_t)ROWS_GROUP << s.shift;
    return dim3((unsigned)((s.rows + height - 1) / height), (unsigned)((s.cols + width - 1) / width));
}

/* The group of this thread: its row and first column. False when there is none. */
GPU_DEVICE bool rows_place(const rows_shape *s, int64_t *row, int64_t *col)
{
    int along = (int)threadIdx.x & ((1 << s->shift) - 1);
    *row = (int64_t)blockIdx.x * (ROWS_THREADS >> s->shift) + ((int)threadIdx.x >> s->shift);
    *col = (((int64_t)blockIdx.y << s->shift) + along) * ROWS_GROUP;
    return *row < s->rows && *col < s->cols;
}

/* Values [index, index + 4) of `data`, of which `count` exist; zeros for the others. */
GPU_DEVICE void rows_load(float v[ROWS_GROUP], const void *data, gpu_type type, int64_t index, int64_t count,
                          bool aligned)
{
    if (aligned && count >= ROWS_GROUP) {
        if (type == GPU_BF16) {
            uint2 pairs = *(const uint2 *)((const uint16_t *)data + index);
            v[0] = gpu_bf16_low(pairs.x);
            v[1] = gpu_bf16_high(pairs.x);
            v[2] = gpu_bf16_low(pairs.y);
            v[3] = gpu_bf16_high(pairs.y);
        } else {
            float4 four = *(const float4 *)((const float *)data + index);
            v[0] = four.x;
            v[1] = four.y;
            v[2] = four.z;
            v[3] = four.w;
        }
        return;
    }
    for (int i = 0; i < ROWS_GROUP; i++) {
        v[i] = 0;
        if (i >= count) continue;
        if (type == GPU_BF16)
            v[i] = gpu_bf16_to_float(((const uint16_t *)data)[index + i]);
        else
            v[i] = ((const float *)data)[index + i];
    }
}

GPU_DEVICE void rows_store(void *data, gpu_type type, int64_t index, int64_t count, bool aligned,
                           const float v[ROWS_GROUP])
{
    if (aligned && count >= ROWS_GROUP) {
        if (type == GPU_BF16) {
            uint32_t low = (uint32_t)gpu_float_to_bf16(v[1]) << 16 | gpu_float_to_bf16(v[0]);
            uint32_t high = (uint32_t)gpu_float_to_bf16(v[3]) << 16 | gpu_float_to_bf16(v[2]);
            *(uint2 *)((uint16_t *)data + index) = make_uint2(low, high);
        } else {
            *(float4 *)((float *)data + index) = make_float4(v[0], v[1], v[2], v[3]);
        }
        return;
    }
    for (int i = 0; i < ROWS_GROUP && i < count; i++) {
        if (type == GPU_BF16)
            ((uint16_t *)data)[index + i] = gpu_float_to_bf16(v[i]);
        else
            ((float *)data)[index + i] = v[i];
    }
}

/* The sum over the 32 lanes, in every lane, always in the same order. */
GPU_DEVICE float rows_warp_sum(float v)
{
    for (int mask = 16; mask > 0; mask >>= 1) v += gpu_shuffle_xor(v, mask);
    return v;
}

#endif
