/* product_f32.cu - products of float32: one chain of fused multiply-adds for each sum. */
#include "device/cuda/kernels/product_tile.h"

template <class S> GPU_KERNEL(S::THREADS, S::BLOCKS) void product_of_f32(product_task t)
{
    GPU_DYNAMIC_SHARED(char, shared);
    make_tile<S>(t, shared);
}

typedef of_f32 type;
#define PRODUCT_OF product_of_f32
#include "device/cuda/kernels/product_plain.h"

product_family product_f32(gpu_form form)
{
    return form == GPU_PLAIN_F32 ? plain_family<GPU_PLAIN_F32>() : product_expanded_family<forms>(form);
}
