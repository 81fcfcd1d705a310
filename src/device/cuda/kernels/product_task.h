/* product_task.h - what a kernel for products is told, and the few words that all of them share.
 *
 * All of them move operands as segments: 128 bytes along k of a row, in eight chunks of 16 bytes. In shared memory
 * chunk c of row r lies at place c ^ (r & 7) of its row, so that neither the copies, which write along a row, nor the
 * reading, which goes down the rows, meet in a bank. */
#ifndef ACE_DEVICE_CUDA_KERNELS_PRODUCT_TASK_H
#define ACE_DEVICE_CUDA_KERNELS_PRODUCT_TASK_H

#include "device/cuda/kernels/language.h"

enum { SEGMENT = 128, CHUNK = 16, CHUNKS = SEGMENT / CHUNK };

/* A matrix that the epilogue reads or writes. */
typedef struct product_mat {
    void *data; /* NULL: absent */
    int64_t stride;
    int bf16;
    int aligned; /* four neighbours, of which the first has a column divisible by 4, may be accessed at once */
} product_mat;

typedef struct product_task {
    /* x: tap t of row m is row first + m * stride + t * dilation of x, zeros where there is none */
    const char *x;
    int64_t x_pitch;         /* in bytes */
    int64_t x_step;          /* between the rows of x that a thread loads for one segment, in bytes */
    int x_rows, first, rows; /* no row that is asked for has a number beyond 31 bits */
    int stride, dilation, taps;
    int channels, padded; /* of a tap; beyond `channels` there are zeros */
    int x_aligned;        /* every row starts at an address divisible by 16 */
    /* w */
    const char *w;
    int64_t w_pitch, w_step; /* as of x */
    int w_rows;
    const void *scales;         /* INT8, INT4 */
    const int32_t *w_exponents; /* half: rows are multiplied as 2^exponent times what they are, */
    const int32_t *x_exponents; /* and so are those of x that a row of the result needs */
    int segments;               /* of k */
    /* the result */
    const float *x_scales; /* INT8: of each row of x */
    int cols;              /* of y: features, where w is gated */
    int gated, silu;
    product_mat y, residual, act;
    const float *bias, *gate, *alpha, *inv_beta;
    /* the grid */
    unsigned row_tiles, col_tiles;
} product_task;

/* One kernel of several that do the same with tiles of other sizes. `speed`: of its arithmetic where it fills all
 * multiprocessors, the fastest being 1; reasoned, not measured. */
typedef struct product_kernel {
    void (*kernel)(product_task);
    int rows, cols, threads;
    size_t shared_bytes;
    float speed;
} product_kernel;

#define PRODUCT_KERNEL(kernel, shape, speed)                                                            \
    {                                                                                                   \
        kernel<shape>, shape::math::ROWS, shape::math::COLS, shape::THREADS, shape::SHARED_BYTES, speed \
    }

/* Kernels of an arithmetic, in ascending size of their tiles. */
typedef struct product_family {
    const product_kernel *kernels;
    int count;
} product_family;

/* The family of a form that is expanded, out of one class for each form. */
template <template <gpu_form> class FORMS> product_family product_expanded_family(gpu_form form)
{
    switch (form) {
    case GPU_INT4:
        return FORMS<GPU_INT4>::family();
    case GPU_Q8_0:
        return FORMS<GPU_Q8_0>::family();
    case GPU_Q4_K:
        return FORMS<GPU_Q4_K>::family();
    case GPU_Q5_K:
        return FORMS<GPU_Q5_K>::family();
    case GPU_Q6_K:
        return FORMS<GPU_Q6_K>::family();
    default:
        return {NULL, 0};
    }
}

/* The families; count 0 where there is none for the form. */
product_family product_bf16(gpu_form form);
product_family product_half(gpu_form form); /* of bf16, before capability 8.0 */
product_family product_f32(gpu_form form);
product_family product_int8(void);
product_family product_int8_held(void); /* before capability 8.0 */

/* Rows of x become bytes and scales in `room`: see product_int8.cu. */
size_t product_int8_room(const gpu_weight *w, int64_t rows);
int product_int8_quantise(gpu_stream *stream, const gpu_product *p, product_task *task);

/* The exponents of the rows of x, in `room`: see product_half.cu. */
size_t product_half_room(int64_t rows);
int product_half_scale(gpu_stream *stream, const gpu_product *p, product_task *task);

/* A T at an address that is aligned for it, whatever the memory was written as. */
template <class T> GPU_DEVICE T load_as(const void *at)
{
#ifdef __CUDACC__
    return *(const T *)at;
#else
    T value;
    memcpy(&value, at, sizeof value);
    return value;
#endif
}

template <class T> GPU_DEVICE void store_as(void *at, T value)
{
#ifdef __CUDACC__
    *(T *)at = value;
#else
    memcpy(at, &value, sizeof value);
#endif
}

/* 2^n for n in [-126, 127] */
GPU_DEVICE float power_of_two(int n)
{
    return gpu_float_of((uint32_t)(n + 127) << 23);
}

/* Eight bfloat16 become half, multiplied by a power of two that leaves the greatest of their row below 2^16. Exact from
 * 2^-17 on, since half has three bits more; what is smaller is rounded to units of 2^-24. */
GPU_DEVICE uint4 half_of_bf16(uint4 v, float power)
{
    uint32_t *pairs[4] = {&v.x, &v.y, &v.z, &v.w};
#pragma unroll
    for (int i = 0; i < 4; i++)
        *pairs[i] = gpu_pack_half(gpu_bf16_low(*pairs[i]) * power, gpu_bf16_high(*pairs[i]) * power);
    return v;
}

/* Where chunk `chunk` of row `row` lies in a segment of many rows. */
GPU_DEVICE int place_of(int row, int chunk)
{
    return row * SEGMENT + ((chunk ^ (row & 7)) * CHUNK);
}

/* Which tile a block makes. Blocks that run at the same time share rows of x and of w in the second-level cache: eight
 * tiles of rows take all columns before the next eight begin. */
GPU_DEVICE void tile_of_block(const product_task &t, unsigned *row_tile, unsigned *col_tile)
{
    const unsigned at_once = 8;
    unsigned group = blockIdx.x / (at_once * t.col_tiles), within = blockIdx.x % (at_once * t.col_tiles);
    unsigned height = gpu_min(at_once, t.row_tiles - group * at_once);
    *row_tile = group * at_once + within % height;
    *col_tile = within / height;
}

#endif
