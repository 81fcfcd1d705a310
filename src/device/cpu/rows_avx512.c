/* rows_avx512.c - the kernels for CPUs with AVX-512, with its products of bytes and of bfloat16. */
#include "device/cpu/rows_template.h"

const cpu_kernels cpu_kernels_avx512 = {
    .isa = ACE_ISA_AVX512,
    .key = "avx512",
    .label = "AVX-512",
    .mr = 12,
    .gemm_f32 = cpu_gemm_f32_avx512,
    .int8 = &cpu_int8_avx2,
    ROW_KERNELS,
};

const cpu_kernels cpu_kernels_avx512_vnni = {
    .isa = ACE_ISA_AVX512_VNNI,
    .key = "avx512vnni",
    .label = "AVX-512 VNNI",
    .mr = 12,
    .gemm_f32 = cpu_gemm_f32_avx512,
    .int8 = &cpu_int8_avx512_vnni,
    ROW_KERNELS,
};

const cpu_kernels cpu_kernels_avx512_bf16 = {
    .isa = ACE_ISA_AVX512_BF16,
    .key = "avx512bf16",
    .label = "AVX-512 BF16",
    .mr = 12,
    .gemm_f32 = cpu_gemm_f32_avx512,
    .gemm_bf16 = cpu_gemm_bf16_avx512,
    .int8 = &cpu_int8_avx512_vnni,
    ROW_KERNELS,
};
