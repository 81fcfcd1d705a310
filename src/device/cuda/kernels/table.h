/* table.h - the launchers of all kernels: what the struct gpu of the plug-in and that of the emulation point to. */
#ifndef ACE_DEVICE_CUDA_KERNELS_TABLE_H
#define ACE_DEVICE_CUDA_KERNELS_TABLE_H

#include "device/cuda/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

size_t gpu_kernel_product_room(const gpu_weight *w, gpu_type x, const int capability[2], int64_t rows);
int gpu_kernel_product(gpu_stream *s, const gpu_product *p);
size_t gpu_kernel_attention_room(const gpu_attention *a);
int gpu_kernel_attention(gpu_stream *s, const gpu_attention *a);
int gpu_kernel_rms_norm(gpu_stream *s, const gpu_norm *n);
int gpu_kernel_head_norm_rope(gpu_stream *s, const gpu_head_norm *n);
int gpu_kernel_snake(gpu_stream *s, gpu_mat y, gpu_mat x, const float *alpha, const float *inv_beta);
int gpu_kernel_embed(gpu_stream *s, const gpu_embedding *e);
int gpu_kernel_logits(gpu_stream *s, const gpu_embedding *e);
int gpu_kernel_sample(gpu_stream *s, const gpu_sampling *sampling);
int gpu_kernel_embed_choices(gpu_stream *s, gpu_mat y, gpu_mat table, int64_t first, gpu_mat choices);
int gpu_kernel_copy(gpu_stream *s, gpu_mat y, gpu_mat x);
int gpu_kernel_append(gpu_stream *s, gpu_mat y, gpu_mat x, const float *first);
int gpu_kernel_add(gpu_stream *s, gpu_mat y, gpu_mat a, gpu_mat b);
int gpu_kernel_silu(gpu_stream *s, gpu_mat y, gpu_mat x);

#ifdef __cplusplus
}
#endif

#endif
