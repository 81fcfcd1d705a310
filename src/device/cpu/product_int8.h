/* product_int8.h - what the two files of products of int8 share. */
#ifndef ACE_DEVICE_CPU_PRODUCT_INT8_H
#define ACE_DEVICE_CPU_PRODUCT_INT8_H

#include "device/cpu/cpu.h"

typedef struct int8_product {
    const cpu_backend *cpu;
    const ace_device *dev;
    const cpu_product *p;
    const cpu_int8 *int8;
    int64_t first, rows; /* of the segment */
    int64_t tile_rows;   /* of the kernel that is used */
    int64_t k, slabs, panels, panel_cols, cols;
    int64_t group, groups, block_rows, blocks; /* how it is shared out */
    size_t panel_bytes;
    float *scales; /* of the segment's rows */
    char *bytes;   /* [tiles of rows][slabs][tile_rows][64] */
} int8_product;

static inline int64_t int8_byte_size(const int8_product *t)
{
    return t->int8->wide ? 2 : 1;
}

static inline const char *int8_panel(const int8_product *t, int64_t panel)
{
    return (const char *)t->p->w->data + (size_t)panel * t->panel_bytes;
}

/* Slab `slab` of the tile of rows that begins with `row`. */
static inline char *int8_rows(const int8_product *t, int64_t row, int64_t slab)
{
    return t->bytes + (row / t->tile_rows * t->slabs + slab) * t->tile_rows * CPU_SLAB * int8_byte_size(t);
}

/* The sums [rows][32] of a panel, whose first row is `first` of the segment, become results. */
void int8_finish(const int8_product *t, const int32_t *sums, int64_t first, int64_t rows, int64_t panel);

/* product_int8_tiles.c: the segment, whose rows are quantised. */
void int8_multiply_tiles(ace_device *dev, int8_product *t);

#endif
