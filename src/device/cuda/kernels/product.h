/* product.h - products by a chosen kernel: for tests and measurements. */
#ifndef ACE_DEVICE_CUDA_KERNELS_PRODUCT_H
#define ACE_DEVICE_CUDA_KERNELS_PRODUCT_H

#include "device/cuda/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

/* gpu_kernel_product() with kernel number `kernel` of those that the stream's device has for this weight and type of x,
 * in ascending size of their tiles; -1: the one that promises to be done first. All give the same bytes. An error
 * number where there are fewer kernels, or where this one needs more shared memory than there is. */
int gpu_kernel_product_with(gpu_stream *s, const gpu_product *p, int kernel);

#ifdef __cplusplus
}
#endif

#endif
