/* product_half.cu - products of bfloat16 on GPUs whose matrix instructions have half but not bfloat16 (capability 7.5).
 *
 * Half has three significant bits more than bfloat16 and three bits less for the exponent. So each row of x, and of w,
 * is multiplied by a power of two, which brings its greatest value to [2^15, 2^16); then values down to 2^-32 of the
 * greatest are exact, smaller ones are rounded to 2^-40 of it and lose themselves there. Sums are float32 and are
 * multiplied by the two powers at the end (product_epilogue.h). What that may add to the error of a sum over K terms:
 *     2 K 2^-40 max |x| max |w|, each of its row,
 * less than float32 rounds a sum by, where the greatest of both meet. A row whose greatest is below 2^-111 is
 * multiplied by 2^126, with which no bfloat16 loses anything. Infinity and NaN stay what they are; of the finite values
 * beside them little is left, and they do not matter.
 *
 * The power of a row of x is that of all rows that a row of the result needs, however many taps see them: so it depends
 * on no neighbour. Rows of w have theirs from when they were loaded (gpu.h). Compiled for all GPUs, so that newer ones
 * can be tested as if they were old. */
#include "device/cuda/kernels/product_tile.h"

/* ---- exponents of the rows of x -------------------------------------------------------------------------------- */

enum { SCALE_THREADS = 128 };

typedef struct scale_task {
    product_task of;
    int *exponents;
    int lanes; /* of a warp, that take a row: a power of two */
} scale_task;

/* The greater of two pairs of bfloat16 without their signs. */
GPU_DEVICE uint32_t greater_of(uint32_t a, uint32_t b)
{
    return gpu_max(a & 0x7fffu, b & 0x7fffu) | gpu_max(a & 0x7fff0000u, b & 0x7fff0000u);
}

/* Of floats without their sign the greater is the greater as an integer, NaN above infinity. */
GPU_DEVICE uint32_t greatest_of_row(const product_task &t, const char *row, int lane, int lanes)
{
    uint32_t most = 0;
#pragma unroll 1
    for (int channel = lane * 8; channel < t.channels; channel += lanes * 8) {
        int values = t.channels - channel;
        uint4 v = t.x_aligned && values >= 8 ? load_as<uint4>(row + channel * 2)
                                             : load_chunk_slowly<2>(row + channel * 2, values);
        most = greater_of(most, greater_of(greater_of(v.x, v.y), greater_of(v.z, v.w)));
    }
    return gpu_max(most & 0xffffu, most >> 16);
}

/* Up to a warp takes a row of the result. */
GPU_KERNEL(SCALE_THREADS) void scale_rows(scale_task s)
{
    const product_task &t = s.of;
    int lane = (int)threadIdx.x & (s.lanes - 1);
    int row = (int)(((int64_t)blockIdx.x * SCALE_THREADS + (int)threadIdx.x) / s.lanes);
    int most = 0;
#pragma unroll 1
    for (int tap = 0; tap < t.taps; tap++) {
        int from = t.first + row * t.stride + tap * t.dilation;
        if (row >= t.rows || from < 0 || from >= t.x_rows) continue;
        most = gpu_max(most, (int)greatest_of_row(t, t.x + from * t.x_pitch, lane, s.lanes));
    }
    for (int mask = s.lanes / 2; mask > 0; mask /= 2) most = gpu_max(most, gpu_shuffle_xor(most, mask));
    if (lane == 0 && row < t.rows) s.exponents[row] = gpu_min(126, 127 + 15 - (most >> 7));
}

size_t product_half_room(int64_t rows)
{
    return (size_t)rows * sizeof(int);
}

int product_half_scale(gpu_stream *stream, const gpu_product *p, product_task *task)
{
    scale_task s = {*task, (int *)p->room, 1};
    while (s.lanes < 32 && s.lanes * 8 < task->channels) s.lanes *= 2;
    int64_t blocks = (p->rows * s.lanes + SCALE_THREADS - 1) / SCALE_THREADS;
    task->x_exponents = s.exponents;
    return gpu_launch(scale_rows, dim3((unsigned)blocks), SCALE_THREADS, 0, stream, s);
}

/* ---- the product ------------------------------------------------------------------------------------------------- */

template <class S> GPU_KERNEL(S::THREADS, S::BLOCKS) void product_of_half(product_task t)
{
    GPU_DYNAMIC_SHARED(char, shared);
    make_tile<S>(t, shared);
}

typedef held_shape<matrix_math<of_half, 1, 4, 1, 1>, 1, 1> tile_16x32;
typedef held_shape<matrix_math<of_half, 2, 2, 2, 4>, 2, 1> tile_64x64;
typedef held_shape<matrix_math<of_half, 2, 4, 4, 4>, 1, 2> tile_128x128;

static const product_kernel kernels[] = {
    PRODUCT_KERNEL(product_of_half, tile_16x32, 0.2f),
    PRODUCT_KERNEL(product_of_half, tile_64x64, 0.6f),
    PRODUCT_KERNEL(product_of_half, tile_128x128, 1.0f),
};

namespace
{

template <gpu_form FORM> struct forms {
    typedef product_shape<matrix_math<of_half, 1, 4, 1, 1>, FORM, 1, 3> tile_16x32;
    typedef product_shape<matrix_math<of_half, 2, 2, 2, 4>, FORM, 1, 3> tile_64x64;
    static product_family family()
    {
        static const product_kernel kernels[] = {
            PRODUCT_KERNEL(product_of_half, tile_16x32, 0.3f),
            PRODUCT_KERNEL(product_of_half, tile_64x64, 1.0f),
        };
        return {kernels, sizeof kernels / sizeof *kernels};
    }
};

} // namespace

product_family product_half(gpu_form form)
{
    product_family family = {kernels, sizeof kernels / sizeof *kernels};
    return form == GPU_PLAIN_F16 ? family : product_expanded_family<forms>(form);
}
