/* product_int8.cu - linear layers whose weights are int8.
 *
 * First the row of x that each row of the result needs becomes bytes with a scale of its own (device.h, ACE_FORM_INT8),
 * in the room: int8 [rows][padded], zeros beyond the channels, then float [rows]. Then tiles of exact integer sums; the
 * scales come in with the epilogue. */
#include "device/cuda/kernels/product_tile.h"

/* ---- rows to bytes ----------------------------------------------------------------------------------------------- */

enum { QUANTISE_THREADS = 128 };

typedef struct quantise_task {
    gpu_mat x;
    int64_t first, stride; /* row i of the room is row first + i * stride of x, zeros where there is none */
    int64_t padded;
    char *bytes;
    float *scales;
} quantise_task;

GPU_DEVICE float value_of(const gpu_mat &x, int64_t row, int64_t col)
{
    int64_t at = row * x.stride + col;
    return x.type == GPU_BF16 ? gpu_bf16_to_float(((const uint16_t *)x.data)[at]) : ((const float *)x.data)[at];
}

/* A block takes a row. Of floats without their sign the greater is the greater as an integer, NaN above infinity. */
GPU_KERNEL(QUANTISE_THREADS) void quantise_rows(quantise_task q)
{
    GPU_SHARED(uint32_t, greatest, QUANTISE_THREADS);
    int64_t row = blockIdx.x, from = q.first + row * q.stride;
    int64_t cols = from >= 0 && from < q.x.rows ? q.x.cols : 0;
    uint32_t most = 0;
    for (int64_t k = threadIdx.x; k < cols; k += QUANTISE_THREADS)
        most = gpu_max(most, gpu_bits_of(value_of(q.x, from, k)) & 0x7fffffffu);
    greatest[threadIdx.x] = most;
    for (unsigned half = QUANTISE_THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (threadIdx.x < half) greatest[threadIdx.x] = gpu_max(greatest[threadIdx.x], greatest[threadIdx.x + half]);
    }
    __syncthreads();
    most = greatest[0];
    float magnitude = gpu_float_of(most);
    bool finite = most < 0x7f800000u, usable = finite && magnitude >= 0x1p-100f;
    float inverse = usable ? 127.0f / magnitude : 0.0f;
    if (threadIdx.x == 0) q.scales[row] = usable ? magnitude / 127.0f : finite ? 0.0f : gpu_float_of(0x7fffffffu);
    for (int64_t k = 4 * (int64_t)threadIdx.x; k < q.padded; k += 4 * QUANTISE_THREADS) {
        uint32_t four = 0;
        for (int i = 0; i < 4; i++) {
            /* infinity times zero would not be zero */
            float v = usable && k + i < cols ? value_of(q.x, from, k + i) * inverse : 0.0f;
            four |= ((uint32_t)(int)rintf(v) & 255) << 8 * i;
        }
        store_as(q.bytes + row * q.padded + k, four);
    }
}

size_t product_int8_room(const gpu_weight *w, int64_t rows)
{
    return (size_t)rows * ((size_t)w->padded + sizeof(float));
}

int product_int8_quantise(gpu_stream *stream, const gpu_product *p, product_task *task)
{
    quantise_task q = {p->x, task->first, task->stride, p->w.padded, (char *)p->room, NULL};
    q.scales = (float *)(void *)(q.bytes + p->rows * p->w.padded);
    task->x = q.bytes;
    task->x_rows = task->rows;
    task->x_pitch = q.padded;
    task->x_aligned = (uintptr_t)p->room % CHUNK == 0;
    task->first = 0;
    task->stride = 1;
    task->channels = task->padded;
    task->x_scales = q.scales;
    return gpu_launch(quantise_rows, dim3((unsigned)p->rows), QUANTISE_THREADS, 0, stream, q);
}

/* ---- the product ------------------------------------------------------------------------------------------------- */

template <class S> GPU_KERNEL(S::THREADS, S::BLOCKS) void product_of_int8(product_task t)
{
#if GPU_ARCH >= 800
    GPU_DYNAMIC_SHARED(char, shared);
    make_tile<S>(t, shared);
#endif
}

typedef product_shape<matrix_math<of_s8, 1, 4, 1, 1>, GPU_INT8, 2, 4> tile_16x32;
typedef product_shape<matrix_math<of_s8, 2, 2, 2, 4>, GPU_INT8, 1, 4> tile_64x64;
typedef product_shape<matrix_math<of_s8, 2, 4, 4, 4>, GPU_INT8, 1, 3> tile_128x128;

product_family product_int8(void)
{
    static const product_kernel kernels[] = {
        PRODUCT_KERNEL(product_of_int8, tile_16x32, 0.2f),
        PRODUCT_KERNEL(product_of_int8, tile_64x64, 0.5f),
        PRODUCT_KERNEL(product_of_int8, tile_128x128, 1.0f),
    };
    return {kernels, sizeof kernels / sizeof *kernels};
}

/* Compiled for all GPUs, so that newer ones can be tested as if they were old. */
template <class S> GPU_KERNEL(S::THREADS, S::BLOCKS) void product_of_int8_held(product_task t)
{
    GPU_DYNAMIC_SHARED(char, shared);
    make_tile<S>(t, shared);
}

typedef held_shape<matrix_math<of_s8, 1, 4, 1, 1>, 1, 1> held_16x32;
typedef held_shape<matrix_math<of_s8, 2, 2, 2, 4>, 2, 1> held_64x64;
typedef held_shape<matrix_math<of_s8, 2, 4, 4, 4>, 1, 2> held_128x128;

product_family product_int8_held(void)
{
    static const product_kernel kernels[] = {
        PRODUCT_KERNEL(product_of_int8_held, held_16x32, 0.2f),
        PRODUCT_KERNEL(product_of_int8_held, held_64x64, 0.6f),
        PRODUCT_KERNEL(product_of_int8_held, held_128x128, 1.0f),
    };
    return {kernels, sizeof kernels / sizeof *kernels};
}
