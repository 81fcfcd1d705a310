/* product_bf16_expanded.cu - products of bfloat16 with matrix instructions: weights in 4 bits and in blocks. */
#include "device/cuda/kernels/product_tile.h"

template <class S> GPU_KERNEL(S::THREADS, S::BLOCKS) void product_of_expanded(product_task t)
{
#if GPU_ARCH >= 800
    GPU_DYNAMIC_SHARED(char, shared);
    make_tile<S>(t, shared);
#endif
}

namespace
{

template <gpu_form FORM> struct forms {
    typedef product_shape<matrix_math<of_bf16, 1, 4, 1, 1>, FORM, 2, 3> tile_16x32;
    typedef product_shape<matrix_math<of_bf16, 2, 2, 2, 4>, FORM, 1, 3> tile_64x64;
    typedef product_shape<matrix_math<of_bf16, 4, 2, 2, 4>, FORM, 1, 3> tile_128x64;
    static product_family family()
    {
        static const product_kernel kernels[] = {
            PRODUCT_KERNEL(product_of_expanded, tile_16x32, 0.2f),
            PRODUCT_KERNEL(product_of_expanded, tile_64x64, 0.6f),
            PRODUCT_KERNEL(product_of_expanded, tile_128x64, 1.0f),
        };
        return {kernels, sizeof kernels / sizeof *kernels};
    }
};

} // namespace

product_family product_bf16_expanded(gpu_form form)
{
    return product_expanded_family<forms>(form);
}
