/* gemm_generic.c - the matrix micro-kernel for any CPU: 4 rows x 8 columns of sums in vectors of four floats. */
#include "device/cpu/kernels.h"
#include "device/cpu/vector_generic.h"

enum { MR = 4, STRIP = 8, VECTORS = STRIP / VF_LANES };

static inline __attribute__((always_inline)) void strip_f32(float *c, int64_t ldc, const float *a, int64_t lda,
                                                            int count, int64_t length, const float *b, bool accumulate,
                                                            const char *soon)
{
    vf sums[MR][VECTORS];
    for (int r = 0; r < count; r++)
        for (int j = 0; j < VECTORS; j++) sums[r][j] = vf_set1(0);
    for (int64_t k = 0; k < length; k++, b += CPU_NR) {
        __builtin_prefetch(soon + k * CPU_SOON);
        for (int j = 0; j < VECTORS; j++) {
            vf w = vf_load_n(b + j * VF_LANES, VF_LANES);
            for (int r = 0; r < count; r++) sums[r][j] = vf_fma(vf_set1(a[r * lda + k]), w, sums[r][j]);
        }
    }
    for (int r = 0; r < count; r++)
        for (int j = 0; j < VECTORS; j++) {
            float *at = c + r * ldc + j * VF_LANES;
            vf_store_n(at, accumulate ? vf_add(vf_load_n(at, VF_LANES), sums[r][j]) : sums[r][j], VF_LANES);
        }
}

/* A constant number of rows lets the compiler keep the sums in registers. */
#define FOR_COUNT                                                  \
    switch (count) {                                               \
    case 1:                                                        \
        strip_f32(c, ldc, a, lda, 1, length, b, accumulate, soon); \
        break;                                                     \
    case 2:                                                        \
        strip_f32(c, ldc, a, lda, 2, length, b, accumulate, soon); \
        break;                                                     \
    case 3:                                                        \
        strip_f32(c, ldc, a, lda, 3, length, b, accumulate, soon); \
        break;                                                     \
    default:                                                       \
        strip_f32(c, ldc, a, lda, 4, length, b, accumulate, soon); \
        break;                                                     \
    }

void cpu_gemm_f32_generic(float *c, int64_t ldc, const void *rows, int64_t lda, int count, int64_t length,
                          const void *panel, bool accumulate, const char *soon)
{
    const float *a = rows, *b = panel;
    for (int strip = 0; strip < CPU_NR; strip += STRIP, c += STRIP, b += STRIP) FOR_COUNT
}
