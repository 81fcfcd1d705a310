/* rows_avx2.c - the kernels for CPUs with AVX2 and FMA, and with its product of bytes. */
#include "device/cpu/rows_template.h"

const cpu_kernels cpu_kernels_avx2 = {
    .isa = ACE_ISA_AVX2,
    .key = "avx2",
    .label = "AVX2",
    .mr = 6,
    .gemm_f32 = cpu_gemm_f32_avx2,
    .int8 = &cpu_int8_avx2,
    ROW_KERNELS,
};

const cpu_kernels cpu_kernels_avx2_vnni = {
    .isa = ACE_ISA_AVX2_VNNI,
    .key = "avx2vnni",
    .label = "AVX2 VNNI",
    .mr = 6,
    .gemm_f32 = cpu_gemm_f32_avx2,
    .int8 = &cpu_int8_avx2_vnni,
    ROW_KERNELS,
};
