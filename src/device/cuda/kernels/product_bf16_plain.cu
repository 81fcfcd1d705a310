/* product_bf16_plain.cu - products of bfloat16 on GPUs whose matrix instructions have no such type (capability 7.5):
 * one chain of fused multiply-adds for each sum, in float32, so that nothing can overflow. Compiled for newer ones,
 * too, which can so be tested as if they were old. */
#include "device/cuda/kernels/product_tile.h"

template <class S> GPU_KERNEL(S::THREADS, S::BLOCKS) void product_of_bf16_plain(product_task t)
{
    GPU_DYNAMIC_SHARED(char, shared);
    make_tile<S>(t, shared);
}

typedef of_bf16 type;
#define PRODUCT_OF product_of_bf16_plain
#include "device/cuda/kernels/product_plain.h"

product_family product_bf16_without_matrices(gpu_form form)
{
    return form == GPU_PLAIN_BF16 ? plain_family<GPU_PLAIN_BF16>() : product_expanded_family<forms>(form);
}
