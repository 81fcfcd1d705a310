/* attention_tiles.h - the inner loops of attention on a matrix unit that multiplies tiles of bf16, summing in float32.
 *
 * A row is a query of one head; rows come in groups of 16, one in each lane of a vector, and unused lanes count as
 * queries of zeros. `n`: head_dim, of whole tiles of 32. */
#ifndef ACE_DEVICE_CPU_ATTENTION_TILES_H
#define ACE_DEVICE_CPU_ATTENTION_TILES_H

#include <stdbool.h>
#include <stdint.h>

enum {
    CPU_LANES = 16,            /* rows of a group */
    CPU_ATTENTION_STRETCH = 64 /* keys after which the reference of the weights may move */
};

/* One or two groups, and what they have summed so far. */
typedef struct cpu_attention_rows {
    int groups;
    const uint16_t *q;        /* [groups][n / 2][16][2] */
    float *o;                 /* [groups][n][16], weighted values */
    float *reference, *sum;   /* [groups][16]: weights are 2^(score * log2(e) - reference), and their sum */
    const int32_t *from, *to; /* [groups][16]: a row attends only to the block's keys [from, to) */
    int64_t all_from, all_to; /* to these attend all rows */
} cpu_attention_rows;

/* Rows that will be packed next: of each 32, `count` from the `first` on are asked for. */
typedef struct cpu_attention_soon {
    const uint16_t *at;
    int64_t stride, first, count;
} cpu_attention_soon;

/* Keys [first, end) of a block, both multiples of 32. */
typedef struct cpu_attention_keys {
    const uint16_t *keys;   /* [key / 32][n / 32][32][32] */
    const uint16_t *values; /* [key / 32][n][32], transposed: each row has a dimension of 32 keys */
    int64_t first, end;
    cpu_attention_soon soon_keys, soon_values;
} cpu_attention_keys;

/* Scores and weights of two stretches and two groups: [2][CPU_ATTENTION_STRETCH][16], and in pairs of keys. */
typedef struct cpu_attention_work {
    float s[2][2 * CPU_ATTENTION_STRETCH * CPU_LANES];
    uint16_t p[2][2 * CPU_ATTENTION_STRETCH * CPU_LANES];
} cpu_attention_work;

typedef struct cpu_attention_tiles {
    /* A thread calls these around its calls of the others, as in cpu_tiles. */
    void (*begin)(void);
    void (*end)(void);
    /* Packs `count` <= 16 rows of queries; missing ones are zero. */
    void (*queries)(uint16_t *packed, const uint16_t *const *rows, int count, int64_t n);
    /* Pack `count` rows, `stride` apart, and zeros up to the next multiple of 32. */
    void (*keys)(uint16_t *packed, const uint16_t *k, int64_t stride, int64_t count, int64_t n);
    void (*values)(uint16_t *packed, const uint16_t *v, int64_t stride, int64_t count, int64_t n);
    /* Adds those keys to the rows. scale: of scores, times log2(e); above 0. */
    void (*attend)(const cpu_attention_rows *rows, const cpu_attention_keys *keys, int64_t n, float scale,
                   cpu_attention_work *work);
    /* Writes `count` <= 16 rows of a group, o / sum in bf16; zeros where the sum is 0. */
    void (*finish)(uint16_t *const *rows, int count, const float *o, const float *sum, int64_t n);
} cpu_attention_tiles;

#if defined(__x86_64__)
extern const cpu_attention_tiles cpu_attention_tiles_amx;
#endif

#endif
