/* product_tiles.c - linear layers and convolutions of bf16 on a matrix unit that multiplies tiles.
 *
 * The unit is so fast that everything turns on where its operands come from. A tile load is quick only where its rows
 * lie side by side, and one of the two operands must come from the first-level cache.
 *
 * A task is a block of rows times some panels of 32 columns. First it copies the rows of x that the block reads, in
 * slabs of 32 channels: [slab][position][32]. Positions outside the signal are zero. Output rows that follow each other
 * read positions that follow each other, at every tap; with a stride this takes one run of positions per phase,
 * position i of the input standing at (i mod stride) * run + i / stride. So a convolution is never unfolded. Then there
 * are two orders:
 *   - Weights too large for the second-level cache: panel by panel, each in chunks of k that fit the first-level cache
 *     and meet all tiles of the block there. The sums wait in memory between chunks.
 *   - Weights that stay in the second-level cache: tile by tile, whose inputs stay in the first-level cache while all
 *     panels pass by.
 * While the unit multiplies, the core has little to do. Between the steps it finishes what was multiplied before (the
 * epilogue) in strips of a few rows, and asks for the memory that comes next.
 *
 * Both orders give the same bits: the sums take the same steps one after the other. If a block of x is too large, its
 * channels are cut into passes whose number depends on the layer alone. */
#include "device/cpu/cpu.h"

#include "base/error.h"

#include <string.h>

enum {
    BLOCK_ROWS = 256, /* of a task, at most */
    WIDE_ROWS = 192,  /* of rows of more than WIDE_SLABS: with panels and sums it fits the second-level cache */
    WIDE_SLABS = 32,
    PACK_LINES = 320 * 64,       /* of 32 channels: a block of 2048 channels with the reach of a convolution of seven
                                    taps and dilation 9 */
    GROUP = 32,                  /* most panels of a task whose channels are cut into passes */
    CHUNK_STEPS = 20,            /* of 32 values of k: with these a panel fills two thirds of the first-level cache */
    RESIDENT_STEPS = 1024,       /* most steps of an element in the second order */
    RESIDENT_BYTES = 1152 << 10, /* most weights in the second order */
    RESIDENT_PANELS = 64,        /* most panels in the second order */
    TOGETHER = 4,                /* panels finished together in the first order: longer pieces of rows to write */
    WIDE_TOGETHER = 2,           /* the same of wide rows */
    STRIP = 4,                   /* rows finished at a time */
    HALF_TILE = CPU_TILE / 2,
    SOON_BYTES = 8 << 10, /* how far ahead weights are asked for that pass by once */
    SOON_LINES = 8,       /* of each step's 32, that are asked for */
    NOTHING = -1
};

/* A thread's workspace. */
typedef struct buffers {
    char x[PACK_LINES * CPU_TILE_LINE];    /* [slab][position] of this pass */
    float c[GROUP][BLOCK_ROWS * CPU_TILE]; /* sums of a panel, some waiting to be finished */
    int32_t lines[RESIDENT_STEPS];         /* of a kernel call, see cpu_tile_kernel */
    int64_t held;                          /* first row of the block that was copied last, or NOTHING */
} buffers;
_Static_assert(GROUP >= 2 * TOGETHER, "sums are overwritten that are not finished");
_Static_assert(2 * RESIDENT_PANELS * CPU_TILE <= GROUP * BLOCK_ROWS, "the sums of two rows of tiles have no room");
_Static_assert(sizeof(buffers) <= CPU_WORKSPACE, "a product of tiles needs more workspace");

typedef struct tiling {
    const cpu_backend *cpu;
    const ace_device *dev;
    const cpu_product *p;
    int64_t channels, slabs, pass_slabs; /* slabs of x in all, and in a pass */
    int64_t taps, steps, chunk_steps;    /* steps: of a pass with all slabs */
    int64_t cols, panel_cols, panels, group, groups;
    int64_t block_rows, blocks;
    int64_t together; /* panels finished together */
    size_t panel_bytes;
    bool resident;
} tiling;

/* A task's rows [first, first + rows) and the slabs [slab, slab + slabs) of the pass. */
typedef struct block {
    int64_t first, rows;
    int64_t run, positions; /* per phase, and in all */
    int64_t slab, slabs;
} block;

static int64_t round_up(int64_t a, int64_t b)
{
    return cpu_divide_up(a, b) * b;
}

/* ---- the input ----------------------------------------------------------------------------------------------- */

/* Positions per phase that `rows` output rows read, in whole halves of a tile unless the rows do not fill one. */
static int64_t run_length(const ace_conv *conv, int64_t taps, int64_t rows)
{
    int64_t read = rows <= HALF_TILE ? rows : round_up(rows, HALF_TILE);
    int64_t span = (read - 1) * conv->stride + (taps - 1) * conv->dilation + 1;
    return cpu_divide_up(span, conv->stride);
}

/* `n` channels and zeros up to 32. */
static inline void copy_line(char *line, const uint16_t *x, int64_t n)
{
    if (n >= CPU_TILE) {
        memcpy(line, x, CPU_TILE_LINE);
        return;
    }
    memset(line, 0, CPU_TILE_LINE);
    memcpy(line, x, (size_t)n * sizeof *x);
}

static void copy_block(const tiling *t, const block *b, char *copy)
{
    const ace_conv *conv = &t->p->conv;
    const ace_mat *x = &t->p->x;
    int64_t first = (b->first + conv->out_first) * conv->stride - conv->padding - conv->x_first;
    int64_t channel = b->slab * CPU_TILE, channels = cpu_min(b->slabs * CPU_TILE, t->channels - channel);
    for (int64_t i = 0; i < b->positions; i++) {
        int64_t row = first + i, at = i % conv->stride * b->run + i / conv->stride;
        char *line = copy + at * CPU_TILE_LINE;
        const uint16_t *values = row < 0 || row >= x->rows ? NULL : (const uint16_t *)ace_mat_row(*x, row) + channel;
        for (int64_t c = 0; c < channels; c += CPU_TILE, line += b->positions * CPU_TILE_LINE)
            if (values)
                copy_line(line, values + c, channels - c);
            else
                memset(line, 0, CPU_TILE_LINE);
    }
}

/* ---- the product --------------------------------------------------------------------------------------------- */

/* Steps [first, first + count) of a pass, the first of which reads `slab` of the pass at `tap`. Where a pass has but
 * some of the slabs, a chunk stays within a tap: so its part of the panel is one piece. */
typedef struct chunk {
    int64_t first, count, tap, slab;
} chunk;

/* The chunk after `before`; its count is 0 at the end. */
static chunk next_chunk(const tiling *t, const block *b, chunk before)
{
    chunk next = {before.first + before.count, t->chunk_steps, before.tap, before.slab + before.count};
    for (; next.slab >= b->slabs; next.slab -= b->slabs) next.tap++;
    if (b->slabs < t->slabs) next.count = cpu_min(next.count, b->slabs - next.slab);
    next.count = cpu_min(next.count, t->taps * b->slabs - next.first);
    return next;
}

static const char *chunk_weights(const tiling *t, const block *b, int64_t panel, chunk k)
{
    int64_t step = k.tap * t->slabs + b->slab + k.slab;
    return (const char *)t->p->w->data + (size_t)panel * t->panel_bytes + (size_t)step * CPU_TILE_STEP_BYTES;
}

static void chunk_lines(const tiling *t, const block *b, chunk k, int32_t *lines)
{
    const ace_conv *conv = &t->p->conv;
    for (int64_t i = 0; i < k.count; k.tap++, k.slab = 0) {
        int64_t reach = k.tap * conv->dilation, at = reach % conv->stride * b->run + reach / conv->stride;
        for (; k.slab < b->slabs && i < k.count; k.slab++) lines[i++] = (int32_t)(k.slab * b->positions + at);
    }
}

static int64_t panel_width(const tiling *t, int64_t panel)
{
    return t->p->epilogue.gated ? CPU_TILE : cpu_min(CPU_TILE, t->cols - panel * CPU_TILE);
}

/* ---- between the steps ------------------------------------------------------------------------------------------- */

/* Sums that wait for the epilogue: rows [row, row + rows) of the panels [panel, panel + panels), those of a panel
 * `distance` floats after those of the one before. */
typedef struct sums {
    const float *c;
    int64_t distance, row, rows, panel, panels;
} sums;

typedef struct chores {
    const tiling *t;
    sums waiting;
    cpu_meanwhile meanwhile;
} chores;

/* Strip `strip` of one panel after the other, then the rows below. */
static void finish_strip(void *context, int64_t strip)
{
    const chores *k = context;
    const tiling *t = k->t;
    const sums *s = &k->waiting;
    int64_t row = strip / s->panels * STRIP, i = strip % s->panels, col = (s->panel + i) * t->panel_cols;
    t->cpu->kernels->epilogue(s->c + i * s->distance + row * CPU_TILE, s->row + row, cpu_min(STRIP, s->rows - row), col,
                              cpu_min(t->panel_cols, t->cols - col), &t->p->epilogue);
}

/* Takes new sums, which the next `steps` steps shall finish, when the ones before are done with. */
static void wait_for_epilogue(chores *k, sums s, int64_t steps)
{
    cpu_finish_pieces(&k->meanwhile.work);
    k->waiting = s;
    k->meanwhile.work = (cpu_pieces){
        .finish = finish_strip, .context = k, .count = cpu_divide_up(s.rows, STRIP) * s.panels, .steps = steps};
}

/* ---- the two orders ---------------------------------------------------------------------------------------------- */

/* One panel with all tiles of the block. The next chunk, wherever it is, is asked for meanwhile. */
static void multiply_panel(const tiling *t, const block *b, buffers *own, chores *k, int64_t panel, float *c)
{
    int64_t tiles = cpu_divide_up(b->rows, CPU_TILE), width = panel_width(t, panel);
    for (chunk now = next_chunk(t, b, (chunk){0}), next; now.count > 0; now = next) {
        next = next_chunk(t, b, now);
        const char *weights = chunk_weights(t, b, panel, now);
        const char *soon =
            next.count > 0 ? chunk_weights(t, b, panel, next) : chunk_weights(t, b, panel + 1, (chunk){0});
        int64_t bytes = (next.count > 0 ? next.count : now.count) * CPU_TILE_STEP_BYTES;
        k->meanwhile.soon = cpu_ask_for_pages(soon, bytes, tiles * now.count);
        if (tiles == 1) {
            /* the weights pass by once, as fast as memory gives them: it is enough to ask for the beginning of each
             * step's a little ahead, the processor goes on by itself */
            k->meanwhile.soon = (cpu_requests){.from = weights + SOON_BYTES,
                                               .apart = CPU_LINE,
                                               .advance = CPU_TILE_STEP_BYTES,
                                               .lines = SOON_LINES,
                                               .times = 1,
                                               .steps = 1};
        }
        chunk_lines(t, b, now, own->lines);
        for (int64_t tile = 0; tile < tiles; tile++) {
            int64_t row = tile * CPU_TILE;
            t->cpu->kernels->tiles->stream_a(c + row * CPU_TILE, own->x + row * CPU_TILE_LINE, own->lines, now.count,
                                             weights, b->slab > 0 || now.first > 0, b->rows - row, width,
                                             &k->meanwhile);
        }
    }
}

/* First order. */
static void panel_by_panel(const tiling *t, block *b, buffers *own, int64_t first_panel, int64_t panels)
{
    bool several = t->pass_slabs < t->slabs;
    chores k = {.t = t};
    int64_t steps = t->together * t->taps * t->pass_slabs * cpu_divide_up(b->rows, CPU_TILE);
    for (b->slab = 0; b->slab < t->slabs; b->slab += b->slabs) {
        b->slabs = cpu_min(t->pass_slabs, t->slabs - b->slab);
        bool last = b->slab + b->slabs == t->slabs;
        if (several || own->held != b->first) copy_block(t, b, own->x);
        own->held = b->first;
        for (int64_t i = 0; i < panels && !cpu_stopped(t->dev); i++) {
            int64_t together = i % t->together + 1, place = several ? i : i % (2 * t->together);
            multiply_panel(t, b, own, &k, first_panel + i, own->c[place]);
            if (last && (together == t->together || i + 1 == panels))
                wait_for_epilogue(&k,
                                  (sums){own->c[place - together + 1], BLOCK_ROWS * CPU_TILE, b->first, b->rows,
                                         first_panel + i - together + 1, together},
                                  steps);
        }
    }
    cpu_finish_pieces(&k.meanwhile.work);
}

/* Second order. */
static void tile_by_tile(const tiling *t, block *b, buffers *own)
{
    enum { TILE_SUMS = CPU_TILE * CPU_TILE };
    chunk all = {.count = t->steps};
    chores k = {.t = t};
    b->slabs = t->slabs;
    copy_block(t, b, own->x);
    chunk_lines(t, b, all, own->lines);
    for (int64_t row = 0; row < b->rows && !cpu_stopped(t->dev); row += CPU_TILE) {
        float *c = own->c[0] + row / CPU_TILE % 2 * t->panels * TILE_SUMS;
        for (int64_t panel = 0; panel < t->panels; panel++)
            t->cpu->kernels->tiles->stream_b(c + panel * TILE_SUMS, own->x + row * CPU_TILE_LINE, own->lines, t->steps,
                                             chunk_weights(t, b, panel, all), false, b->rows - row,
                                             panel_width(t, panel), &k.meanwhile);
        wait_for_epilogue(&k, (sums){c, TILE_SUMS, b->first + row, cpu_min(CPU_TILE, b->rows - row), 0, t->panels},
                          t->panels * t->steps);
    }
    cpu_finish_pieces(&k.meanwhile.work);
}

/* Asks for the first weights of a task whose rows make one tile, which takes as long as its weights take to come. */
static void ask_for_first(const tiling *t, int64_t panel)
{
    const char *weights = (const char *)t->p->w->data + (size_t)panel * t->panel_bytes;
    for (size_t i = 0; i < SOON_BYTES && i < t->panel_bytes; i += 64) __builtin_prefetch(weights + i, 0, 2);
}

static void tile_task(void *context, int64_t index, int worker)
{
    const tiling *t = context;
    buffers *own = cpu_workspace(t->cpu, worker);
    block b = {.first = index % t->blocks * t->block_rows};
    int64_t panel = index / t->blocks * t->group;
    b.rows = cpu_min(t->block_rows, t->p->rows - b.first);
    b.run = run_length(&t->p->conv, t->taps, b.rows);
    b.positions = b.run * t->p->conv.stride;
    if (b.rows <= CPU_TILE) ask_for_first(t, panel);
    if (b.rows <= HALF_TILE)
        t->cpu->kernels->tiles->begin_few((int)b.rows);
    else
        t->cpu->kernels->tiles->begin();
    if (t->resident)
        tile_by_tile(t, &b, own);
    else
        panel_by_panel(t, &b, own, panel, cpu_min(t->group, t->panels - panel));
    t->cpu->kernels->tiles->end();
}

/* Blocks of equal height, and several tasks per thread. A block is copied by every thread that has a task of it, so
 * that groups are made only where there are too few blocks. */
static void share_out(tiling *t, int64_t most_rows)
{
    int64_t rows = t->p->rows, threads = t->cpu->threads;
    int64_t wanted = rows <= CPU_TILE ? 8 * threads : 2 * threads;
    t->resident = t->pass_slabs == t->slabs && rows >= CPU_TILE * wanted && t->steps <= RESIDENT_STEPS &&
                  t->panels <= RESIDENT_PANELS && t->panels * (int64_t)t->panel_bytes <= RESIDENT_BYTES;
    t->blocks = cpu_divide_up(rows, most_rows);
    if (t->resident) t->blocks = cpu_max(t->blocks, wanted);
    t->block_rows = round_up(cpu_divide_up(rows, t->blocks), CPU_TILE);
    t->blocks = cpu_divide_up(rows, t->block_rows);
    t->groups = t->resident ? 1 : cpu_groups(t->cpu, t->blocks, t->panels, wanted);
    t->group = cpu_divide_up(t->panels, t->groups);
    if (t->pass_slabs < t->slabs) t->group = cpu_min(t->group, GROUP);
    t->groups = cpu_divide_up(t->panels, t->group);
}

void cpu_multiply_tiles(ace_device *dev, const cpu_product *p)
{
    const ace_weight *w = p->w;
    tiling t = {
        .cpu = cpu_of(dev),
        .dev = dev,
        .p = p,
        .taps = w->desc.taps,
        .channels = w->desc.k / w->desc.taps,
        .cols = p->epilogue.gated ? w->desc.n / 2 : w->desc.n,
        .panel_cols = cpu_panel_cols(w->desc.kind),
        .panel_bytes = cpu_panel_bytes(cpu_of(dev), w->dtype, w->desc.k, w->desc.taps),
    };
    t.slabs = cpu_divide_up(t.channels, CPU_TILE);
    t.panels = cpu_divide_up(t.cols, t.panel_cols);
    int64_t most_rows = cpu_max(CPU_TILE, BLOCK_ROWS / p->conv.stride / CPU_TILE * CPU_TILE);
    int64_t positions = run_length(&p->conv, t.taps, most_rows) * p->conv.stride;
    if (positions > PACK_LINES) {
        ace_fail(&dev->failure, ACE_ERROR_MODEL,
                 "a convolution of %lld taps, stride %d and dilation %d is too wide for this program",
                 (long long)t.taps, p->conv.stride, p->conv.dilation);
        return;
    }
    t.pass_slabs = cpu_min(t.slabs, PACK_LINES / positions);
    t.pass_slabs = cpu_divide_up(t.slabs, cpu_divide_up(t.slabs, t.pass_slabs));
    t.steps = t.taps * t.slabs;
    int64_t together = t.pass_slabs < t.slabs ? t.pass_slabs : t.steps; /* what is cut into chunks of equal length */
    t.chunk_steps = cpu_divide_up(together, cpu_divide_up(together, CHUNK_STEPS));
    if (p->rows <= CPU_TILE && together <= RESIDENT_STEPS) t.chunk_steps = together; /* nothing is met again */
    bool wide = p->conv.stride == 1 && t.pass_slabs == t.slabs && t.slabs > WIDE_SLABS;
    if (wide) most_rows = WIDE_ROWS;
    t.together = wide ? WIDE_TOGETHER : TOGETHER;
    share_out(&t, most_rows);
    for (int worker = 0; worker < t.cpu->threads; worker++) ((buffers *)cpu_workspace(t.cpu, worker))->held = NOTHING;
    cpu_run(dev, t.blocks * t.groups, tile_task, &t);
}
