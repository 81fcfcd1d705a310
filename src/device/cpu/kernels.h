/* kernels.h - the inner loops of the CPU device, one table of them per instruction set.
 *
 * What may differ between two instruction sets is speed and rounding, never meaning. Within one set an output element
 * is computed by the same operations in the same order wherever it stands: tiles of fewer rows, windows and threads
 * change nothing. */
#ifndef ACE_DEVICE_CPU_KERNELS_H
#define ACE_DEVICE_CPU_KERNELS_H

#include "device/cpu/attention_few.h"
#include "device/cpu/attention_tiles.h"
#include "device/cpu/meanwhile.h"
#include "device/cpu/quantised.h"
#include "device/device.h"

enum {
    CPU_NR = 32,     /* columns of a panel of packed weights */
    CPU_KC = 256,    /* most products of an element in one kernel call: a panel of these fits the first-level cache */
    CPU_MR_MAX = 12, /* most rows of a tile, over all instruction sets */
    CPU_SOON = 8,    /* bytes fetched ahead per step of k */
    CPU_KEYS = 64,   /* keys of an attention block */
    CPU_DOTS = 4,    /* most rows on either side of `dots` */
    CPU_FEW_ROWS = 4 /* most rows of `few_rows` */
};

/* C[count][32] (+)= A[count][length] . B, the matrix micro-kernel.
 *   c          rows `ldc` floats apart; overwritten, or added to if `accumulate`
 *   a          rows `lda` values apart, float32 or bfloat16
 *   count      1 .. mr rows
 *   b          float32 [length][32], or bfloat16 in pairs [length / 2][32][2] (`length` is even)
 *   soon       memory of which CPU_SOON * length bytes will be read before long: the kernel asks for them on its way
 * The products of an element are summed in rising order of k, whatever `count` is, and that sum is stored or added: in
 * chunks of CPU_KC, long sums round less than in one piece. */
typedef void cpu_gemm_kernel(float *c, int64_t ldc, const void *a, int64_t lda, int count, int64_t length,
                             const void *b, bool accumulate, const char *soon);

/* Matrix units that multiply tiles: rows of 64 bytes, which are 32 values of bf16 for A. */
enum {
    CPU_TILE = 32,      /* rows and columns of the sums that a kernel call computes, and values of k in a step */
    CPU_TILE_LINE = 64, /* bytes of a row of A in a step */
    CPU_TILE_STEP_BYTES = CPU_TILE * CPU_TILE_LINE /* of a panel in a step: [16][32][2] */
};

/* C[rows][32] (+)= A . B over `steps` times 32 values of k.
 *   c           [32][32], of which whole halves of 16 rows and columns are written that hold a wanted element
 *   a, lines    row i of step s begins at a + (lines[s] + i) * 64; whole halves of 16 rows are read
 *   rows, cols  1 .. 32 that are wanted
 *   b           the panel's pairs from the first step on
 *   meanwhile   what is done once per step: the unit works by itself, so that the core has time for something else
 * Each step adds to an element the sum of its 32 products, in an order that is the hardware's but always the same.
 * Subnormal values count as zero. */
typedef void cpu_tile_kernel(float *c, const char *a, const int32_t *lines, int64_t steps, const char *b,
                             bool accumulate, int64_t rows, int64_t cols, cpu_meanwhile *meanwhile);

typedef struct cpu_tiles {
    /* A thread calls these around its calls of the others: the unit's registers are set up, and given back. */
    void (*begin)(void);
    void (*begin_few)(int rows); /* begin() for calls of at most `rows` <= 16 rows: of A and C no others are touched */
    void (*end)(void);
    /* Each leaves the first-level cache to one operand, which is used again soon: that is B in the first, A in the
     * second. The results are the same. */
    cpu_tile_kernel *stream_a, *stream_b;
    /* The same bits for 1 .. CPU_FEW_ROWS rows of x, bf16 values as float32, `ldx` apart, of which `steps` times 32 are
     * read; c[rows][32] is overwritten. Without the unit, and faster where B comes from memory. */
    void (*few_rows)(float *c, const float *x, int64_t ldx, int rows, int64_t steps, const char *b);
} cpu_tiles;

/* ace_epilogue with its vectors as plain pointers. Absent parts are NULL or have no rows. */
typedef struct cpu_epilogue {
    const float *bias, *gate, *alpha, *inv_beta;
    bool silu;
    bool gated; /* the first 16 columns of a panel are gate, the others up: 16 columns of silu(gate) * up come out */
    ace_mat y, residual, act;
} cpu_epilogue;

typedef struct cpu_kernels {
    ace_isa isa;
    const char *key;   /* as in ACESTEP_ISA */
    const char *label; /* as in the device's name */
    int mr;            /* rows of a full tile */
    cpu_gemm_kernel *gemm_f32;
    cpu_gemm_kernel *gemm_bf16; /* NULL: products of bf16 are expanded to float32 and use gemm_f32 */
    const cpu_tiles *tiles;     /* NULL: none; else products of bf16 go there */
    /* gemm_f32 on a panel of bf16 in pairs [(length + 1) / 2][32][2], which it expands on its way: for so few rows that
     * the panel is read only once. As much of `soon` as of `b` is fetched. The same bits as expand + gemm_f32. */
    cpu_gemm_kernel *gemm_pairs;
    /* Expands `taps` times `length` bf16 values per column, packed in pairs, to the float32 form of a panel. */
    void (*expand)(float *panel, const uint16_t *pairs, int taps, int64_t length);

    const cpu_quantised *quantised;
    const cpu_int8 *int8; /* products of int8 */
    const cpu_int8_tiles
        *int8_tiles; /* NULL: none; else those of many rows go there, between begin() and end() of `tiles` */

    /* Applies `e` to the tile c[rows][32] whose corner is (row, col) of the product; col counts columns of y, `cols` of
     * which exist in this panel. */
    void (*epilogue)(const float *c, int64_t row, int64_t rows, int64_t col, int64_t cols, const cpu_epilogue *e);
    /* The same of sums of bytes. */
    void (*epilogue_int8)(const cpu_int8_sums *sums, int64_t row, int64_t rows, int64_t col, int64_t cols,
                          const cpu_epilogue *e);

    /* n values, float32 or bfloat16 to either. */
    void (*convert)(void *y, ace_dtype to, const void *x, ace_dtype from, int64_t n);
    void (*snake)(void *y, ace_dtype to, const float *x, const float *alpha, const float *inv_beta, int64_t n);
    /* scale and shift may be NULL. */
    void (*rms_norm)(void *y, ace_dtype to, const float *x, const float *w, float eps, const float *scale,
                     const float *shift, int64_t n);
    /* One head, in place; angles: cosines, then sines, or NULL. */
    void (*head_norm_rope)(void *x, ace_dtype dtype, const float *w, float eps, const float *angles, int64_t n);
    void (*add)(float *y, const float *a, const float *b, int64_t n);
    void (*silu)(void *y, ace_dtype to, const float *x, int64_t n);
    /* y[m][n] = x[m] . w[n] over k values: `rows` <= CPU_DOTS rows of x, `count` <= CPU_DOTS rows w of type `dtype`.
     * The order of the sum depends on k alone. `fetch`: ask for the CPU_DOTS rows behind these, which are likely next.
     */
    void (*dots)(float *y, int64_t ldy, const float *x, int64_t ldx, int rows, const void *const *w, int count,
                 ace_dtype dtype, int64_t k, bool fetch);

    /* Attention. keys_pack: `count` <= 32 rows of n values, `stride` apart, become the panel [n][32] of float32 (the
     * transpose), missing rows zero. values_pack: `count` rows of n values become panels [n / 32][rows][32], missing
     * rows and columns zero. */
    void (*keys_pack)(float *panel, const void *k, ace_dtype dtype, int64_t stride, int64_t count, int64_t n);
    void (*values_pack)(float *panels, const void *v, ace_dtype dtype, int64_t stride, int64_t count, int64_t rows,
                        int64_t n);
    /* The same of a few queries, which take as long as keys and values take to come from memory; `soon`: rows as far
     * apart that are read next. keys_pairs: `count` <= 32 rows of n bf16 values become the panel of pairs
     * [(n + 1) / 2][32][2] of gemm_pairs, missing rows zero. values_add: o[r] += sum of s[r][j] * v[j] over j < `count`
     * in rising order, n columns: the bits of values_pack and gemm_f32. */
    void (*keys_pairs)(uint16_t *panel, const uint16_t *k, int64_t stride, int64_t count, int64_t n,
                       const uint16_t *soon);
    void (*values_add)(float *o, int64_t ldo, const float *s, int64_t lds, int rows, const void *v, ace_dtype dtype,
                       int64_t stride, int64_t count, int64_t n, const void *soon);
    /* One row of CPU_KEYS scores s becomes exp(s - maximum); *maximum and *sum are brought up to date. Returns the
     * factor by which what was summed under the old maximum must be multiplied. */
    float (*softmax)(float *s, float *maximum, float *sum);
    const cpu_attention_few *attention_few;     /* with attention_tiles */
    const cpu_attention_tiles *attention_tiles; /* NULL: none; else attention of bf16 goes there where it can */
    void (*scale)(void *y, ace_dtype to, const float *x, float factor, int64_t n);
} cpu_kernels;

cpu_gemm_kernel cpu_gemm_f32_generic;
extern const cpu_kernels cpu_kernels_generic;

#if defined(__x86_64__)
cpu_gemm_kernel cpu_gemm_f32_avx2, cpu_gemm_f32_avx512, cpu_gemm_bf16_avx512;
extern const cpu_kernels cpu_kernels_avx2;
extern const cpu_kernels cpu_kernels_avx2_vnni;
extern const cpu_kernels cpu_kernels_avx512;
extern const cpu_kernels cpu_kernels_avx512_vnni;
extern const cpu_kernels cpu_kernels_avx512_bf16;
extern const cpu_kernels cpu_kernels_amx;
extern const cpu_tiles cpu_tiles_amx;
void cpu_few_rows_amx(float *c, const float *x, int64_t ldx, int rows, int64_t steps, const char *b);
#endif

#endif
