/* rows_amx.c - the kernels for CPUs with AMX: those for AVX-512, but bf16 is rounded by an instruction that all these
 * CPUs have. */
#define VF_ROUNDS_BF16
#include "device/cpu/rows_template.h"

const cpu_kernels cpu_kernels_amx = {
    .isa = ACE_ISA_AMX,
    .key = "amx",
    .label = "AMX",
    .mr = 12,
    .gemm_f32 = cpu_gemm_f32_avx512,
    .tiles = &cpu_tiles_amx,
    .attention_few = &cpu_attention_few_amx,
    .attention_tiles = &cpu_attention_tiles_amx,
    .int8_tiles = &cpu_int8_tiles_amx,
    .int8 = &cpu_int8_avx512_vnni,
    ROW_KERNELS,
};
