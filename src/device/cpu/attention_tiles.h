/* attention_tiles.h - the inner loops of attention on a matrix unit that multiplies tiles of bf16, summing in float32.
 *
 * A row is a query of one head; rows come in groups of 16, one in each lane of a vector, and unused lanes count as
 * queries of zeros. `n`: head_dim, of whole tiles of 32. */
#ifndef ACE_DEVICE_CPU_ATTENTION_TILES_H
#define ACE_DEVICE_CPU_ATTENTION_TILES_H

#include <stdbool.h>
#include <stdint.h>

enum {
    CPU_LANES = 16,     /* rows of a group */
    CPU_TILE_KEYS = 128 /* keys of a block, in layouts that hold so many even where fewer exist */
};

/* One or two groups, and what they have summed so far. */
typedef struct cpu_attention_rows {
    int groups;
    const uint16_t *q;        /* [groups][n / 2][16][2] */
    float *o;                 /* [groups][n][16], weighted values */
    float *reference, *sum;   /* [groups][16]: weights are 2^(score * log2(e) - reference), and their sum */
    bool masked;              /* a row attends only to the block's keys [from, to) */
    const int32_t *from, *to; /* [groups][16] */
} cpu_attention_rows;

/* Keys [first, first + count) of a block, both multiples of 32. */
typedef struct cpu_attention_keys {
    const uint16_t *keys;   /* [n / 32][CPU_TILE_KEYS][32] */
    const uint16_t *values; /* [CPU_TILE_KEYS / 32][n][32], transposed: each row has a dimension of 32 keys */
    int64_t first, count;
} cpu_attention_keys;

typedef struct cpu_attention_work {
    float s[2 * CPU_TILE_KEYS * CPU_LANES];    /* scores of two groups: [2][CPU_TILE_KEYS][16] */
    uint16_t p[2 * CPU_TILE_KEYS * CPU_LANES]; /* their weights: [2][CPU_TILE_KEYS / 2][16][2] */
} cpu_attention_work;

typedef struct cpu_attention_tiles {
    /* A thread calls these around its calls of the others, as in cpu_tiles. */
    void (*begin)(void);
    void (*end)(void);
    /* Packs `count` <= 16 rows of queries; missing ones are zero. */
    void (*queries)(uint16_t *packed, const uint16_t *const *rows, int count, int64_t n);
    /* Packs `count` rows, `stride` apart, and zeros up to the next multiple of 32; asks for as many from `soon` on. */
    void (*keys)(uint16_t *packed, const uint16_t *k, int64_t stride, int64_t count, int64_t n, const uint16_t *soon);
    void (*values)(uint16_t *packed, const uint16_t *v, int64_t stride, int64_t count, int64_t n, const uint16_t *soon);
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
