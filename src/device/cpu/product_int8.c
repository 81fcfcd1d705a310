/* product_int8.c - linear layers whose weights are int8: see quantised.h.
 *
 * First the rows of x are quantised, once and by all threads, in slabs of 64 channels of a tile of rows, one after
 * the other as the kernel reads them, so that nothing is copied again. Then a task is a block of rows times some
 * panels, which go through k in chunks of slabs that fit the first-level cache. Sums are integers and exact, whoever
 * adds them up in whatever order; they become float32 at the end, (sum * column scale) * row scale, for the usual
 * epilogue.
 *
 * Long products are cut into segments of rows, so that the quantised rows take little memory. */
#include "device/cpu/product_int8.h"

enum {
    SEGMENT_ROWS = 2048,
    BLOCK_ROWS = 192, /* of a task: a multiple of every tile height */
    GROUP = 16,       /* most panels of a task */
    CHUNK_SLABS = 8,  /* of a panel: 16 KiB */
    FEW_ROWS = 12,    /* up to so many a matrix unit is not worth while: the time is that of reading the weights */
    STRIP = 16        /* rows finished at a time */
};

/* A thread's workspace. */
typedef struct buffers {
    int32_t c[GROUP][BLOCK_ROWS * CPU_NR];
} buffers;
_Static_assert(sizeof(buffers) <= CPU_WORKSPACE, "a product of int8 needs more workspace");

static bool on_tiles(const cpu_kernels *kernels, int64_t rows)
{
    return kernels->int8_tiles && rows > FEW_ROWS;
}

static int64_t tile_rows(const cpu_kernels *kernels, int64_t rows)
{
    return on_tiles(kernels, rows) ? CPU_TILE : kernels->int8->rows;
}

/* Rows of a segment, in whole tiles. */
static int64_t room_rows(int64_t rows, int64_t tile)
{
    return cpu_divide_up(cpu_min(rows, SEGMENT_ROWS), tile) * tile;
}

size_t cpu_int8_scratch(const ace_device *dev, const ace_weight_desc *d, int64_t rows)
{
    const cpu_kernels *kernels = cpu_of(dev)->kernels;
    int64_t bytes = cpu_slabs(d->k) * CPU_SLAB * (kernels->int8->wide ? 2 : 1);
    return (size_t)room_rows(rows, tile_rows(kernels, rows)) * (sizeof(float) + (size_t)bytes);
}

/* `count` times CPU_QUANTISE_ROWS rows. */
static void quantise_rows(void *context, int64_t first, int64_t count)
{
    const int8_product *t = context;
    int64_t end = cpu_min(t->rows, (first + count) * CPU_QUANTISE_ROWS);
    for (int64_t i = first * CPU_QUANTISE_ROWS, rows; i < end; i += rows) {
        int64_t in_tile = i % t->tile_rows;
        rows = cpu_min(cpu_min(CPU_QUANTISE_ROWS, end - i), t->tile_rows - in_tile);
        t->cpu->kernels->quantised->rows(int8_rows(t, i, 0) + in_tile * CPU_SLAB * int8_byte_size(t),
                                         t->tile_rows * CPU_SLAB, t->int8->wide, ace_mat_row(t->p->x, t->first + i),
                                         t->p->x.stride, t->p->x.dtype, t->k, (int)rows, t->scales + i);
    }
}

void int8_finish(const int8_product *t, const int32_t *sums, int64_t first, int64_t rows, int64_t panel)
{
    int64_t col = panel * t->panel_cols;
    const void *columns = int8_panel(t, panel) + t->slabs * CPU_SLAB_BYTES;
    const cpu_int8_sums whole = {.c = sums, .row_scale = t->scales + first, .columns = columns};
    t->cpu->kernels->epilogue_int8(&whole, t->first + first, rows, col, cpu_min(t->panel_cols, t->cols - col),
                                   &t->p->epilogue);
}

/* Slabs [slab, slab + slabs) of one panel with all rows of the block. */
static void multiply_chunk(const int8_product *t, int64_t panel, int32_t *c, int64_t first, int64_t rows, int64_t slab,
                           int64_t slabs)
{
    const char *weights = int8_panel(t, panel) + slab * CPU_SLAB_BYTES;
    for (int64_t row = 0; row < rows; row += t->tile_rows)
        t->int8->multiply(c + row * CPU_NR, int8_rows(t, first + row, slab), t->tile_rows * CPU_SLAB,
                          (int)cpu_min(t->tile_rows, rows - row), slabs, (const int8_t *)weights, slab > 0,
                          weights + slabs * CPU_SLAB_BYTES);
}

static void finish_block(const int8_product *t, buffers *own, int64_t first, int64_t rows, int64_t first_panel,
                         int64_t panels)
{
    for (int64_t m = 0; m < rows; m += STRIP)
        for (int64_t i = 0; i < panels; i++)
            int8_finish(t, own->c[i] + m * CPU_NR, first + m, cpu_min(STRIP, rows - m), first_panel + i);
}

static void block_task(void *context, int64_t index, int worker)
{
    const int8_product *t = context;
    buffers *own = cpu_workspace(t->cpu, worker);
    int64_t first_panel = index % t->groups * t->group, first = index / t->groups * BLOCK_ROWS;
    int64_t panels = cpu_min(t->group, t->panels - first_panel), rows = cpu_min(BLOCK_ROWS, t->rows - first);
    for (int64_t slab = 0; slab < t->slabs; slab += CHUNK_SLABS)
        for (int64_t i = 0; i < panels; i++) {
            if (cpu_stopped(t->dev)) return;
            multiply_chunk(t, first_panel + i, own->c[i], first, rows, slab, cpu_min(CHUNK_SLABS, t->slabs - slab));
        }
    finish_block(t, own, first, rows, first_panel, panels);
}

void cpu_multiply_int8(ace_device *dev, const cpu_product *p, void *room)
{
    const ace_weight_desc *d = &p->w->desc;
    int8_product t = {
        .cpu = cpu_of(dev),
        .dev = dev,
        .p = p,
        .int8 = cpu_of(dev)->kernels->int8,
        .tile_rows = tile_rows(cpu_of(dev)->kernels, p->rows),
        .k = d->k,
        .slabs = cpu_slabs(d->k),
        .panel_cols = cpu_panel_cols(d->kind),
        .cols = p->epilogue.gated ? d->n / 2 : d->n,
        .panel_bytes = cpu_quantised_panel_bytes(d),
        .bytes = room,
    };
    t.scales = (float *)(void *)int8_rows(&t, room_rows(p->rows, t.tile_rows), 0);
    t.panels = cpu_divide_up(t.cols, t.panel_cols);
    for (t.first = 0; t.first < p->rows && dev->failure.status == ACE_OK; t.first += SEGMENT_ROWS) {
        t.rows = cpu_min(SEGMENT_ROWS, p->rows - t.first);
        cpu_run_rows(dev, cpu_divide_up(t.rows, CPU_QUANTISE_ROWS),
                     (size_t)(CPU_QUANTISE_ROWS * d->k) * ace_mat_element(p->x), quantise_rows, &t);
        if (on_tiles(t.cpu->kernels, p->rows)) {
            int8_multiply_tiles(dev, &t);
            continue;
        }
        int64_t blocks = cpu_divide_up(t.rows, BLOCK_ROWS);
        t.group = cpu_max(1, cpu_min(GROUP, t.panels * blocks / (4 * t.cpu->threads)));
        t.groups = cpu_divide_up(t.panels, t.group);
        cpu_run(dev, blocks * t.groups, block_task, &t);
    }
}
