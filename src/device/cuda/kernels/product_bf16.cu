/* product_bf16.cu - products of bfloat16 with matrix instructions: plain weights. */
#include "device/cuda/kernels/product_tile.h"

template <class S> GPU_KERNEL(S::THREADS, S::BLOCKS) void product_of_bf16(product_task t)
{
#if GPU_ARCH >= 800
    GPU_DYNAMIC_SHARED(char, shared);
    make_tile<S>(t, shared);
#endif
}

template <int WARPS_M, int WARPS_N, int MT, int NT, int SEGMENTS, int STAGES>
using shape = product_shape<matrix_math<of_bf16, WARPS_M, WARPS_N, MT, NT>, GPU_PLAIN_BF16, SEGMENTS, STAGES>;

typedef shape<1, 2, 1, 1, 2, 4> tile_16x16;
typedef shape<1, 4, 1, 1, 2, 4> tile_16x32;
typedef shape<2, 2, 1, 2, 2, 4> tile_32x32;
typedef shape<4, 1, 2, 2, 1, 4> tile_128x16; /* of audio channels out of many samples */
typedef shape<2, 2, 2, 4, 1, 4> tile_64x64;
typedef shape<2, 4, 4, 4, 1, 3> tile_128x128;
typedef shape<2, 4, 4, 8, 1, 3> tile_128x256;

static const product_kernel kernels[] = {
    PRODUCT_KERNEL(product_of_bf16, tile_16x16, 0.14f),  PRODUCT_KERNEL(product_of_bf16, tile_16x32, 0.2f),
    PRODUCT_KERNEL(product_of_bf16, tile_32x32, 0.3f),   PRODUCT_KERNEL(product_of_bf16, tile_128x16, 0.3f),
    PRODUCT_KERNEL(product_of_bf16, tile_64x64, 0.5f),   PRODUCT_KERNEL(product_of_bf16, tile_128x128, 0.85f),
    PRODUCT_KERNEL(product_of_bf16, tile_128x256, 1.0f),
};

product_family product_bf16_expanded(gpu_form form);

product_family product_bf16(gpu_form form)
{
    product_family family = {kernels, sizeof kernels / sizeof *kernels};
    return form == GPU_PLAIN_BF16 ? family : product_bf16_expanded(form);
}
