/* few_rows_amx.c - what the tile kernel computes, for so few rows that it is the weights' way from memory that takes
 * the time: vectors keep more lines on their way than tile loads do.
 *
 * The bits are those of TDPBF16PS (see gemm_amx.c): per step of 32 values of k the 16 even and the 16 odd products of
 * an element are summed one after the other, both sums are added, and that is added to the element. A product of two
 * bf16 is exact in float32, so that a fused multiply-add rounds as often as the unit does. Subnormal values count as
 * zero, to which this thread's arithmetic is set for the time of a call. */
#include "device/cpu/kernels.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

enum {
    LANES = 16,
    PAIRS = CPU_TILE / 2,         /* of values of k in a step */
    SUBNORMALS_ARE_ZERO = 0x8040, /* FTZ and DAZ of MXCSR */
    SOON_BYTES = 1 << 10          /* how far ahead weights are asked for */
};

INLINE __m512 even(__m512i pairs)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
}

INLINE __m512 odd(__m512i pairs)
{
    return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000)));
}

/* One step: adds its products to the sums [row][half of the columns]. `rows` is a constant wherever this is inlined. */
INLINE void add_step(__m512 sums[CPU_FEW_ROWS][2], const float *x, int64_t ldx, int rows, const char *b)
{
    __m512 evens[CPU_FEW_ROWS][2], odds[CPU_FEW_ROWS][2];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        for (int half = 0; half < 2; half++) evens[r][half] = odds[r][half] = _mm512_setzero_ps();
#pragma GCC unroll 1
    for (int pair = 0; pair < PAIRS; pair++, b += 2 * CPU_TILE_LINE) {
        __builtin_prefetch(b + SOON_BYTES);
        __builtin_prefetch(b + SOON_BYTES + CPU_TILE_LINE);
        __m512i left = _mm512_loadu_si512(b), right = _mm512_loadu_si512(b + CPU_TILE_LINE);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            __m512 first = _mm512_set1_ps(x[r * ldx + 2 * pair]), second = _mm512_set1_ps(x[r * ldx + 2 * pair + 1]);
            evens[r][0] = _mm512_fmadd_ps(first, even(left), evens[r][0]);
            evens[r][1] = _mm512_fmadd_ps(first, even(right), evens[r][1]);
            odds[r][0] = _mm512_fmadd_ps(second, odd(left), odds[r][0]);
            odds[r][1] = _mm512_fmadd_ps(second, odd(right), odds[r][1]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        for (int half = 0; half < 2; half++)
            sums[r][half] = _mm512_add_ps(sums[r][half], _mm512_add_ps(evens[r][half], odds[r][half]));
}

INLINE void multiply_rows(float *c, const float *x, int64_t ldx, int rows, int64_t steps, const char *b)
{
    __m512 sums[CPU_FEW_ROWS][2];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
    for (int64_t step = 0; step < steps; step++, x += CPU_TILE, b += CPU_TILE_STEP_BYTES)
        add_step(sums, x, ldx, rows, b);
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        for (int half = 0; half < 2; half++) _mm512_storeu_ps(c + r * CPU_TILE + half * LANES, sums[r][half]);
}

/* A function of its own, so that no arithmetic is moved to where the thread's is as usual. */
static __attribute__((noinline)) void multiply(float *c, const float *x, int64_t ldx, int rows, int64_t steps,
                                               const char *b)
{
    switch (rows) {
    case 1:
        multiply_rows(c, x, ldx, 1, steps, b);
        break;
    case 2:
        multiply_rows(c, x, ldx, 2, steps, b);
        break;
    case 3:
        multiply_rows(c, x, ldx, 3, steps, b);
        break;
    default:
        multiply_rows(c, x, ldx, 4, steps, b);
    }
}

void cpu_few_rows_amx(float *c, const float *x, int64_t ldx, int rows, int64_t steps, const char *b)
{
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | SUBNORMALS_ARE_ZERO);
    multiply(c, x, ldx, rows, steps, b);
    _mm_setcsr(before);
}
