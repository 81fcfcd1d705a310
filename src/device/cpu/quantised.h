/* quantised.h - weights in 8 and 4 bits and in GGUF's blocks: how they lie in memory, and the inner loops for them.
 *
 * INT8. A panel of 32 columns is int8 [slabs][16][32][4]: slabs of 64 values of k (zeros past its end), in which four
 * neighbours along k lie side by side, as the processors' products of bytes want them. Behind it: float scale[32] and
 * int32 offset[32], which is 128 times the sum of the column. Rows of x are quantised to int8 too and stored 128
 * higher, as the unsigned bytes that those products take: the sums come out too high by just the offset.
 *
 * INT4 and BLOCKS. A panel is [blocks of k][bytes of a block][32 columns]: byte i of the blocks of all columns side by
 * side, so that loops go along the columns whatever the format. A block of INT4 is 18 bytes for 32 values: the scale
 * as bf16, then byte i with value 2i + 8 in its low half and value 2i + 1 + 8 in its high half. A kernel for products
 * never sees this: 32 values of k at a time are expanded to what it multiplies. */
#ifndef ACE_DEVICE_CPU_QUANTISED_H
#define ACE_DEVICE_CPU_QUANTISED_H

#include "base/dtype.h"
#include "device/cpu/meanwhile.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CPU_SLAB = 64,            /* values of k in a slab */
    CPU_SLAB_BYTES = 64 * 32, /* of a panel of INT8 */
    CPU_INT8_ZERO = 128,      /* how a zero of x is stored */
    CPU_INT8_MOST_K = 65536,  /* with more the sums could pass 31 bits: 255 * 127 * k */
    CPU_QUANTISE_ROWS = 8,    /* most rows of x that are quantised together */
    CPU_EXPAND = 32,          /* values of k that are expanded at a time */
    CPU_INT4_ROWS = 16,       /* that are quantised together */
    CPU_INT4_BYTES = 18       /* of a block of 32 */
};

static inline int64_t cpu_slabs(int64_t k)
{
    return (k + CPU_SLAB - 1) / CPU_SLAB;
}

/* Behind the values of a panel of INT8. */
typedef struct cpu_int8_columns {
    float scale[32];
    int32_t offset[32];
} cpu_int8_columns;

/* Sums of a panel, which stand for (sum - offset) * column scale * row scale. */
typedef struct cpu_int8_sums {
    const int32_t *c;       /* [rows][32] */
    const float *row_scale; /* of these rows */
    const cpu_int8_columns *columns;
} cpu_int8_sums;

/* C[count][32] (+)= A . B over `slabs` slabs, all integers.
 *   c         rows of 32; overwritten, or added to if `accumulate`
 *   a         value k of slab s of row i is number s * distance + i * 64 + k: bytes, or int16 if the kernel is `wide`
 *   count     1 .. rows of the kernel
 *   b         the panel's first slab
 *   soon      memory that will be read before long, as much as of b */
typedef void cpu_int8_kernel(int32_t *c, const void *a, int64_t distance, int count, int64_t slabs, const int8_t *b,
                             bool accumulate, const char *soon);

typedef struct cpu_int8 {
    int rows;  /* of a full tile */
    bool wide; /* x as int16: where the processor has no product of bytes that keeps all bits */
    cpu_int8_kernel *multiply;
} cpu_int8;

/* The same on a matrix unit: up to 32 rows, of which whole halves of 16 are read and written. A step of `meanwhile`
 * is a slab. */
typedef struct cpu_int8_tiles {
    void (*multiply)(int32_t *c, const char *a, int64_t distance, int64_t rows, int64_t slabs, const int8_t *b,
                     bool accumulate, cpu_meanwhile *meanwhile);
} cpu_int8_tiles;

/* What 32 x 32 expanded weights are written as. ROUNDED: float32 with the values that bf16 has. */
typedef enum cpu_expanded { CPU_EXPANDED_F32, CPU_EXPANDED_ROUNDED, CPU_EXPANDED_PAIRS } cpu_expanded;

typedef struct cpu_quantised {
    /* 1 .. CPU_QUANTISE_ROWS rows of k values, `stride` apart, become bytes, value by value
     * round(x * (127 / max |x|)) + 128, ties to even. The slabs of 64 of a row are `distance` values apart, and 64
     * those of neighbouring rows; the last slab is filled up with zeros. scales: max |x| / 127; 0 when max |x| is below
     * 2^-100, NaN when a value is infinite or NaN; both with all bytes zeros. */
    void (*rows)(void *bytes, int64_t distance, bool wide, const void *x, int64_t stride, ace_dtype dtype, int64_t k,
                 int rows, float *scales);
    /* 32 rows of bytes, `stride` apart, become the values of a panel, and their offsets. */
    void (*pack)(int8_t *panel, int32_t *offset, const uint8_t *rows, int64_t stride, int64_t slabs);
    /* CPU_INT4_ROWS rows of k values (a multiple of 32), all finite, become so many columns of blocks of INT4. */
    void (*groups)(uint8_t *planes, const float *rows, int64_t k);
    bool (*finite)(const float *values, int64_t k);
    /* Group `part` of 32 values of k of a block, [bytes][32 columns], becomes float [32][32] or pairs [16][32][2].
     * `blocks` is the type of the block, ACE_U8 for INT4. */
    void (*expand)(void *panel, cpu_expanded to, ace_dtype blocks, const uint8_t *planes, int part);
    /* c[rows][32] = x . panel for 1 .. 4 rows of x, `ldx` apart, k a multiple of the block: the bits of expanding and
     * the kernel for many rows, without writing down what was expanded. `as`: what that kernel would read. PAIRS, only
     * where a matrix unit multiplies tiles, gives that unit's bits, for values of bf16 in x. */
    void (*multiply_blocks)(float *c, const float *x, int64_t ldx, int rows, int64_t k, cpu_expanded as,
                            ace_dtype blocks, const uint8_t *planes);
} cpu_quantised;

extern const cpu_int8 cpu_int8_generic;

#if defined(__x86_64__)
extern const cpu_int8 cpu_int8_avx2, cpu_int8_avx2_vnni, cpu_int8_avx512_vnni;
extern const cpu_int8_tiles cpu_int8_tiles_amx;
#endif

#endif
