/* gemm_generic.c - the matrix micro-kernel for any CPU: 4 rows x 8 columns of sums in vectors of four floats. */
#include "device/cpu/kernels.h"
#include "device/cpu/vector_generic.h"

enum { MR = 4, STRIP = 8, VECTORS = STRIP / VF_LANES };

/* Two floats of a bf16 pair that is held in 32 bits: the even value, then the odd one. */
static inline vf even_of(vf_bits pairs)
{
    return (vf)(pairs << 16);
}

static inline vf odd_of(vf_bits pairs)
{
    return (vf)(pairs & (vf_bits){-65536, -65536, -65536, -65536});
}

static inline vf_bits load_bits(const void *p)
{
    vf_bits v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* Two bf16 values at p as 32 bits; the second is zero in an odd tail. */
static inline int32_t load_pair(const uint16_t *p, bool whole)
{
    uint32_t pair = whole ? (uint32_t)p[0] | (uint32_t)p[1] << 16 : p[0];
    int32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
}

static inline __attribute__((always_inline)) void start(vf sums[][VECTORS], const float *c, int64_t ldc, int count,
                                                        bool accumulate)
{
    for (int r = 0; r < count; r++)
        for (int j = 0; j < VECTORS; j++)
            sums[r][j] = accumulate ? vf_load_n(c + r * ldc + j * VF_LANES, VF_LANES) : vf_set1(0);
}

static inline __attribute__((always_inline)) void finish(vf sums[][VECTORS], float *c, int64_t ldc, int count)
{
    for (int r = 0; r < count; r++)
        for (int j = 0; j < VECTORS; j++) vf_store_n(c + r * ldc + j * VF_LANES, sums[r][j], VF_LANES);
}

static inline __attribute__((always_inline)) void strip_f32(float *c, int64_t ldc, const void *const *a, int count,
                                                            int segments, int64_t length, const float *b,
                                                            bool accumulate)
{
    vf sums[MR][VECTORS];
    start(sums, c, ldc, count, accumulate);
    for (int s = 0; s < segments; s++)
        for (int64_t k = 0; k < length; k++, b += CPU_NR)
            for (int j = 0; j < VECTORS; j++) {
                vf w = vf_load_n(b + j * VF_LANES, VF_LANES);
                for (int r = 0; r < count; r++)
                    sums[r][j] = vf_fma(vf_set1(((const float *)a[s * count + r])[k]), w, sums[r][j]);
            }
    finish(sums, c, ldc, count);
}

static inline __attribute__((always_inline)) void strip_bf16(float *c, int64_t ldc, const void *const *a, int count,
                                                             int segments, int64_t length, const uint16_t *b,
                                                             bool accumulate)
{
    vf sums[MR][VECTORS];
    start(sums, c, ldc, count, accumulate);
    for (int s = 0; s < segments; s++)
        for (int64_t k = 0; k < length; k += 2, b += 2 * CPU_NR)
            for (int r = 0; r < count; r++) {
                int32_t pair = load_pair((const uint16_t *)a[s * count + r] + k, k + 1 < length);
                vf_bits x = {pair, pair, pair, pair};
                for (int j = 0; j < VECTORS; j++) {
                    vf_bits w = load_bits(b + 2 * j * VF_LANES);
                    sums[r][j] = vf_fma(even_of(x), even_of(w), sums[r][j]);
                    sums[r][j] = vf_fma(odd_of(x), odd_of(w), sums[r][j]);
                }
            }
    finish(sums, c, ldc, count);
}

/* A constant number of rows lets the compiler keep the sums in registers. */
#define FOR_COUNT(strip)                                      \
    switch (count) {                                          \
    case 1:                                                   \
        strip(c, ldc, a, 1, segments, length, b, accumulate); \
        break;                                                \
    case 2:                                                   \
        strip(c, ldc, a, 2, segments, length, b, accumulate); \
        break;                                                \
    case 3:                                                   \
        strip(c, ldc, a, 3, segments, length, b, accumulate); \
        break;                                                \
    default:                                                  \
        strip(c, ldc, a, 4, segments, length, b, accumulate); \
        break;                                                \
    }

void cpu_gemm_f32_generic(float *c, int64_t ldc, const void *const *a, int count, int segments, int64_t length,
                          const void *panel, bool accumulate)
{
    const float *b = panel;
    for (int strip = 0; strip < CPU_NR; strip += STRIP, c += STRIP, b += STRIP) FOR_COUNT(strip_f32)
}

void cpu_gemm_bf16_generic(float *c, int64_t ldc, const void *const *a, int count, int segments, int64_t length,
                           const void *panel, bool accumulate)
{
    const uint16_t *b = panel;
    for (int strip = 0; strip < CPU_NR; strip += STRIP, c += STRIP, b += 2 * STRIP) FOR_COUNT(strip_bf16)
}
