/* product_f32.cu - products of float32: one chain of fused multiply-adds for each sum. */
#include "device/cuda/kernels/product_tile.h"

template <class S> GPU_KERNEL(S::THREADS, S::BLOCKS) void product_of_f32(product_task t)
{
    GPU_DYNAMIC_SHARED(char, shared);
    make_tile<S>(t, shared);
}

template <int TY, int TX, int TM, int TN, int STAGES>
using shape = product_shape<plain_math<of_f32, TY, TX, TM, TN>, GPU_PLAIN_F32, 1, STAGES>;

typedef shape<8, 8, 2, 4, 4> tile_16x32;
typedef shape<16, 8, 4, 8, 3> tile_64x64;
typedef shape<16, 16, 8, 4, 2> tile_128x64;

static const product_kernel kernels[] = {
    PRODUCT_KERNEL(product_of_f32, tile_16x32, 0.4f),
    PRODUCT_KERNEL(product_of_f32, tile_64x64, 0.8f),
    PRODUCT_KERNEL(product_of_f32, tile_128x64, 1.0f),
};

namespace
{

template <gpu_form FORM> struct forms {
    typedef product_shape<plain_math<of_f32, 8, 8, 2, 4>, FORM, 1, 3> tile_16x32;
    typedef product_shape<plain_math<of_f32, 8, 8, 8, 4>, FORM, 1, 3> tile_64x32;
    static product_family family()
    {
        static const product_kernel kernels[] = {
            PRODUCT_KERNEL(product_of_f32, tile_16x32, 0.4f),
            PRODUCT_KERNEL(product_of_f32, tile_64x32, 1.0f),
        };
        return {kernels, sizeof kernels / sizeof *kernels};
    }
};

} // namespace

product_family product_f32(gpu_form form)
{
    product_family family = {kernels, sizeof kernels / sizeof *kernels};
    return form == GPU_PLAIN_F32 ? family : product_expanded_family<forms>(form);
}
