/* rows_avx2.c - the kernels for CPUs with AVX2 and FMA. */
#include "device/cpu/rows_template.h"

const cpu_kernels cpu_kernels_avx2 = {
    .isa = ACE_ISA_AVX2,
    .key = "avx2",
    .label = "AVX2",
    .mr = 6,
    .gemm_f32 = cpu_gemm_f32_avx2,
    ROW_KERNELS,
};
