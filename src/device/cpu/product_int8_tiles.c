/* product_int8_tiles.c - products of int8 on a matrix unit that multiplies tiles.
 *
 * As in product_tiles.c everything turns on where the operands come from, and the rows of x lie as tiles want them
 * already. A task is a block of rows times some panels. It goes panel by panel, each in chunks of k that fit the
 * first-level cache and meet all tiles of the block there; the sums wait in memory between chunks. Meanwhile the core
 * finishes what was multiplied before, a few rows at a time, and asks for the weights that come next. */
#include "device/cpu/product_int8.h"

enum {
    BLOCK_ROWS = 256,         /* of a task, at most */
    BLOCK_BYTES = 1280 << 10, /* of its rows of x, at most: they stay in the second-level cache */
    CHUNK_SLABS = 16,         /* of a panel: two thirds of the first-level cache */
    TOGETHER = 2,             /* panels finished together: longer pieces of rows to write */
    STRIP = 4                 /* rows finished at a time */
};

/* A thread's workspace. */
typedef struct buffers {
    int32_t c[2 * TOGETHER][BLOCK_ROWS * CPU_NR]; /* sums of a panel, some waiting to be finished */
} buffers;
_Static_assert(sizeof(buffers) <= CPU_WORKSPACE, "a product of int8 tiles needs more workspace");

/* What is done between the steps: sums that wait, of `panels` panels from `panel` on, BLOCK_ROWS * 32 apart, become
 * results. */
typedef struct chores {
    const int8_product *t;
    const int32_t *c;
    int64_t first, rows, panel, panels; /* rows [first, first + rows) */
    cpu_meanwhile meanwhile;
} chores;

/* Strip `strip` of one panel after the other, then the rows below. */
static void finish_strip(void *context, int64_t strip)
{
    const chores *k = context;
    int64_t row = strip / k->panels * STRIP, i = strip % k->panels;
    int8_finish(k->t, k->c + (i * BLOCK_ROWS + row) * CPU_NR, k->first + row, cpu_min(STRIP, k->rows - row),
                k->panel + i);
}

/* One panel with all tiles of the block. The chunk that comes next, wherever it is, is asked for meanwhile. */
static void multiply_panel(const int8_product *t, chores *k, int64_t panel, int32_t *c, int64_t first, int64_t rows)
{
    int64_t tiles = cpu_divide_up(rows, CPU_TILE);
    int64_t chunk = cpu_divide_up(t->slabs, cpu_divide_up(t->slabs, CHUNK_SLABS));
    for (int64_t slab = 0; slab < t->slabs; slab += chunk) {
        int64_t slabs = cpu_min(chunk, t->slabs - slab), bytes = slabs * CPU_SLAB_BYTES;
        const char *b = int8_panel(t, panel) + slab * CPU_SLAB_BYTES;
        k->meanwhile.soon = cpu_ask_for_pages(b + bytes, bytes, tiles * slabs);
        for (int64_t tile = 0; tile < tiles; tile++) {
            int64_t row = tile * CPU_TILE;
            t->cpu->kernels->int8_tiles->multiply(c + row * CPU_NR, int8_rows(t, first + row, slab),
                                                  CPU_TILE * CPU_SLAB, rows - row, slabs, (const int8_t *)b, slab > 0,
                                                  &k->meanwhile);
        }
    }
}

static void tile_task(void *context, int64_t index, int worker)
{
    const int8_product *t = context;
    buffers *own = cpu_workspace(t->cpu, worker);
    int64_t first = index % t->blocks * t->block_rows, first_panel = index / t->blocks * t->group;
    int64_t rows = cpu_min(t->block_rows, t->rows - first), panels = cpu_min(t->group, t->panels - first_panel);
    int64_t steps = TOGETHER * t->slabs * cpu_divide_up(rows, CPU_TILE);
    chores k = {.t = t, .first = first, .rows = rows};
    t->cpu->kernels->tiles->begin();
    for (int64_t i = 0; i < panels && !cpu_stopped(t->dev); i++) {
        int64_t together = i % TOGETHER + 1, place = i % (2 * TOGETHER);
        multiply_panel(t, &k, first_panel + i, own->c[place], first, rows);
        if (together < TOGETHER && i + 1 < panels) continue;
        cpu_finish_pieces(&k.meanwhile.work);
        k.c = own->c[place - together + 1];
        k.panel = first_panel + i - together + 1;
        k.panels = together;
        k.meanwhile.work = (cpu_pieces){
            .finish = finish_strip, .context = &k, .count = cpu_divide_up(rows, STRIP) * together, .steps = steps};
    }
    cpu_finish_pieces(&k.meanwhile.work);
    t->cpu->kernels->tiles->end();
}

/* Blocks of equal height, and several tasks per thread. */
void int8_multiply_tiles(ace_device *dev, int8_product *t)
{
    int64_t wanted = 2 * t->cpu->threads, fit = BLOCK_BYTES / (t->slabs * CPU_SLAB) / CPU_TILE * CPU_TILE;
    t->blocks = cpu_divide_up(t->rows, cpu_max(CPU_TILE, cpu_min(BLOCK_ROWS, fit)));
    t->block_rows = cpu_divide_up(cpu_divide_up(t->rows, t->blocks), CPU_TILE) * CPU_TILE;
    t->blocks = cpu_divide_up(t->rows, t->block_rows);
    t->groups = cpu_groups(t->cpu, t->blocks, t->panels, wanted);
    t->group = cpu_divide_up(t->panels, t->groups);
    t->groups = cpu_divide_up(t->panels, t->group);
    cpu_run(dev, t->blocks * t->groups, tile_task, t);
}
