/* rows_generic.c - the kernels for any CPU. */
#include "device/cpu/rows_template.h"

const cpu_kernels cpu_kernels_generic = {
    .isa = ACE_ISA_GENERIC,
    .key = "generic",
    .label = "generic",
    .mr = 4,
    .gemm_f32 = cpu_gemm_f32_generic,
    .int8 = &cpu_int8_generic,
    ROW_KERNELS,
};
