/* rows_avx512.c - the kernels for CPUs with AVX-512, and with its bfloat16 product. */
#include "device/cpu/rows_template.h"

const cpu_kernels cpu_kernels_avx512 = {
    .isa = ACE_ISA_AVX512,
    .key = "avx512",
    .label = "AVX-512",
    .mr = 12,
    .gemm_f32 = cpu_gemm_f32_avx512,
    ROW_KERNELS,
};

const cpu_kernels cpu_kernels_avx512_bf16 = {
    .isa = ACE_ISA_AVX512_BF16,
    .key = "avx512bf16",
    .label = "AVX-512 BF16",
    .mr = 12,
    .gemm_f32 = cpu_gemm_f32_avx512,
    .gemm_bf16 = cpu_gemm_bf16_avx512,
    ROW_KERNELS,
};
