/* attention_few.h - the inner loops of attention for so few queries that what takes the time is the way of keys and
 * values from memory: they are multiplied where they lie, and packed no more than the matrix unit needs.
 *
 * Every sum has the bits that cpu_attention_tiles gives it. `n`: head_dim, of whole tiles of 32, at most
 * CPU_FEW_HEAD_DIM. */
#ifndef ACE_DEVICE_CPU_ATTENTION_FEW_H
#define ACE_DEVICE_CPU_ATTENTION_FEW_H

#include "device/cpu/attention_tiles.h"

enum { CPU_FEW_LANES = 4, CPU_FEW_HEAD_DIM = 256 };

/* Up to CPU_FEW_LANES rows, each a query of one head, and what they have summed so far. */
typedef struct cpu_attention_few_rows {
    int count;
    const uint16_t *q;                              /* [n / 2][CPU_FEW_LANES][2], missing rows are zero */
    float *o;                                       /* [CPU_FEW_LANES][n], weighted values */
    float *reference, *sum;                         /* [CPU_FEW_LANES], as in cpu_attention_rows */
    int32_t from[CPU_FEW_LANES], to[CPU_FEW_LANES]; /* a row attends only to the keys [from, to) */
} cpu_attention_few_rows;

/* Up to CPU_ATTENTION_STRETCH keys and their values, and those that will be read next, of which no more is known than
 * where they would lie. */
typedef struct cpu_attention_few_keys {
    const uint16_t *k, *v, *soon_k, *soon_v;
    int64_t k_stride, v_stride, count;
} cpu_attention_few_keys;

typedef struct cpu_attention_few_work {
    float s[CPU_ATTENTION_STRETCH * CPU_FEW_LANES];           /* scores, [key][row] */
    uint16_t weights[CPU_FEW_LANES * CPU_ATTENTION_STRETCH];  /* [row][key] */
    uint16_t pairs[CPU_ATTENTION_STRETCH * CPU_FEW_HEAD_DIM]; /* values, [key / 32][n / 16][16][16][2]: pairs of keys */
    uint16_t last[16 * CPU_FEW_HEAD_DIM];                     /* keys that do not fill a tile, and zeros */
} cpu_attention_few_work;

typedef struct cpu_attention_few {
    /* A thread calls these around its calls of the others, and begin with zeros in the weights. */
    void (*begin)(void);
    void (*end)(void);
    /* Packs `count` rows of queries. */
    void (*queries)(uint16_t *packed, const uint16_t *const *rows, int count, int64_t n);
    /* Adds a stretch of keys to the rows. scale: of scores, times log2(e); above 0. */
    void (*attend)(const cpu_attention_few_rows *rows, const cpu_attention_few_keys *keys, int64_t n, float scale,
                   cpu_attention_few_work *work);
    /* Writes a row, o / sum in bf16; zeros where the sum is 0. */
    void (*finish)(uint16_t *row, const float *o, float sum, int64_t n);
} cpu_attention_few;

#if defined(__x86_64__)
extern const cpu_attention_few cpu_attention_few_amx;
#endif

#endif
