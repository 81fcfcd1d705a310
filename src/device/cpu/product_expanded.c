/* product_expanded.c - linear layers with weights in 4 bits or blocks, on a matrix unit that multiplies tiles of bf16.
 *
 * Many rows: some panels at a time are expanded to bf16, once and by all threads, and multiplied like any others.
 * Few rows: the time is that of reading and expanding the weights. A task takes some panels through the first-level
 * cache, where the core expands a chunk while the unit multiplies the one before.
 *
 * Both give the same bits, because both take the steps of k one after the other. (Without such a unit gemm.c expands
 * each chunk for each block of rows: there products take so long that this costs little.) */
#include "device/cpu/cpu.h"

#include <string.h>

enum {
    FEW_ROWS = CPU_TILE,
    FEW_MOST_K = 32768,    /* whose rows fit the workspace */
    CHUNK_STEPS = 8,       /* of 32 values of k */
    ROOM_BYTES = 16 << 20, /* for expanded panels */
    AHEAD = 4096           /* bytes that weights are asked for ahead */
};

/* A thread's workspace. */
typedef struct buffers {
    char x[FEW_MOST_K * CPU_TILE * 2]; /* [steps][rows][32] */
    char b[2][CHUNK_STEPS * CPU_TILE_STEP_BYTES];
    float c[CPU_TILE * CPU_TILE];
} buffers;
_Static_assert(sizeof(buffers) <= CPU_WORKSPACE, "a product of expanded weights needs more workspace");

typedef struct expanded_product {
    const cpu_backend *cpu;
    const ace_device *dev;
    const cpu_product *p;
    int64_t steps, panels, panel_cols, cols, group;
    ace_dtype blocks;
    int parts;          /* steps of a block */
    size_t block_bytes; /* of 32 columns */
    int64_t first;      /* many rows: the first panel in the room */
    char *room;
} expanded_product;

static expanded_product describe(const ace_device *dev, const ace_weight_desc *d)
{
    bool int4 = d->form == ACE_FORM_INT4;
    expanded_product t = {
        .cpu = cpu_of(dev),
        .dev = dev,
        .steps = d->k / CPU_EXPAND,
        .panel_cols = cpu_panel_cols(d->kind),
        .cols = d->kind == ACE_WEIGHT_GATED ? d->n / 2 : d->n,
        .blocks = int4 ? ACE_U8 : d->blocks,
        .parts = int4 ? 1 : ace_dtype_block(d->blocks) / CPU_EXPAND,
        .block_bytes = CPU_NR * (int4 ? CPU_INT4_BYTES : ace_dtype_block_bytes(d->blocks)),
    };
    t.panels = cpu_divide_up(t.cols, t.panel_cols);
    return t;
}

/* Step number `step` of all panels one after the other, as they lie in memory. */
static void expand_step(const expanded_product *t, int64_t step, char *pairs)
{
    const uint8_t *block = (const uint8_t *)t->p->w->data + (size_t)(step / t->parts) * t->block_bytes;
    t->cpu->kernels->quantised->expand(pairs, CPU_EXPANDED_PAIRS, t->blocks, block, (int)(step % t->parts));
}

/* ---- many rows --------------------------------------------------------------------------------------------------- */

static int64_t panels_at_once(const expanded_product *t)
{
    return cpu_max(1, cpu_min(t->panels, ROOM_BYTES / (t->steps * CPU_TILE_STEP_BYTES)));
}

static bool few_rows(const expanded_product *t, int64_t rows)
{
    return rows <= FEW_ROWS && t->steps * CPU_EXPAND <= FEW_MOST_K;
}

size_t cpu_expanded_scratch(const ace_device *dev, const ace_weight_desc *d, int64_t rows)
{
    expanded_product t = describe(dev, d);
    if (!cpu_expands_to_tiles(dev) || few_rows(&t, rows)) return 0;
    return (size_t)(panels_at_once(&t) * t.steps * CPU_TILE_STEP_BYTES);
}

static void panel_task(void *context, int64_t index, int worker)
{
    const expanded_product *t = context;
    (void)worker;
    char *panel = t->room + index * t->steps * CPU_TILE_STEP_BYTES;
    for (int64_t i = 0; i < t->steps; i++)
        expand_step(t, (t->first + index) * t->steps + i, panel + i * CPU_TILE_STEP_BYTES);
}

static const float *from(const float *vector, int64_t col)
{
    return vector ? vector + col : NULL;
}

/* Columns [col, col + count) of the result. */
static cpu_epilogue epilogue_of(const cpu_epilogue *e, int64_t col, int64_t count)
{
    cpu_epilogue part = *e;
    part.bias = from(e->bias, col);
    part.gate = from(e->gate, col);
    part.alpha = from(e->alpha, col);
    part.inv_beta = from(e->inv_beta, col);
    if (e->y.rows) part.y = ace_cols(e->y, col, count);
    if (e->residual.rows) part.residual = ace_cols(e->residual, col, count);
    if (e->act.rows) part.act = ace_cols(e->act, col, count);
    return part;
}

static void multiply_many(ace_device *dev, expanded_product *t)
{
    int64_t at_once = panels_at_once(t);
    for (t->first = 0; t->first < t->panels && dev->failure.status == ACE_OK; t->first += at_once) {
        int64_t panels = cpu_min(at_once, t->panels - t->first), col = t->first * t->panel_cols;
        int64_t cols = cpu_min(panels * t->panel_cols, t->cols - col);
        cpu_run(dev, panels, panel_task, t);
        ace_weight part = {.desc = t->p->w->desc, .dtype = ACE_BF16, .data = t->room};
        part.desc.form = ACE_FORM_PLAIN;
        part.desc.n = t->p->epilogue.gated ? 2 * cols : cols;
        cpu_product product = *t->p;
        product.w = &part;
        product.epilogue = epilogue_of(&t->p->epilogue, col, cols);
        if (dev->failure.status == ACE_OK) cpu_multiply_tiles(dev, &product);
    }
}

/* ---- few rows ---------------------------------------------------------------------------------------------------- */

/* What is expanded while the unit multiplies: steps from `step` on. */
typedef struct expanding {
    const expanded_product *t;
    int64_t step;
    char *to;
} expanding;

static void expand_next(void *context, int64_t index)
{
    const expanding *e = context;
    int64_t step = e->step + index;
    const char *soon = (const char *)e->t->p->w->data + (size_t)step * e->t->block_bytes / (size_t)e->t->parts + AHEAD;
    for (size_t i = 0; i < e->t->block_bytes / (size_t)e->t->parts; i += 64) __builtin_prefetch(soon + i);
    expand_step(e->t, step, e->to + index * CPU_TILE_STEP_BYTES);
}

/* `count` of them, one in each step. */
static cpu_meanwhile expand_meanwhile(expanding *e, int64_t count)
{
    return (cpu_meanwhile){.work = {.finish = expand_next, .context = e, .count = count, .steps = count}};
}

static void copy_rows(const expanded_product *t, int64_t height, char *x)
{
    for (int64_t m = 0; m < t->p->rows; m++) {
        const char *row = ace_mat_row(t->p->x, m);
        for (int64_t i = 0; i < t->steps; i++)
            memcpy(x + (i * height + m) * CPU_TILE_LINE, row + i * CPU_TILE_LINE, CPU_TILE_LINE);
    }
}

static void few_rows_task(void *context, int64_t index, int worker)
{
    const expanded_product *t = context;
    buffers *own = cpu_workspace(t->cpu, worker);
    int64_t first = index * t->group, end = cpu_min(first + t->group, t->panels), rows = t->p->rows;
    int64_t height = rows > CPU_TILE / 2 ? CPU_TILE : CPU_TILE / 2;
    int32_t lines[CHUNK_STEPS];
    copy_rows(t, height, own->x);
    expanding e = {t, first * t->steps, own->b[0]};
    cpu_meanwhile meanwhile = expand_meanwhile(&e, cpu_min(CHUNK_STEPS, t->steps));
    cpu_finish_pieces(&meanwhile.work);
    t->cpu->kernels->tiles->begin();
    for (int64_t panel = first, chunk = 0; panel < end && !cpu_stopped(t->dev); panel++) {
        int64_t col = panel * t->panel_cols, cols = cpu_min(t->panel_cols, t->cols - col);
        for (int64_t step = 0, count; step < t->steps; step += count, chunk++) {
            count = cpu_min(CHUNK_STEPS, t->steps - step);
            for (int64_t i = 0; i < count; i++) lines[i] = (int32_t)((step + i) * height);
            int64_t rest = t->steps - step - count;
            e.step += meanwhile.work.count;
            e.to = own->b[(chunk + 1) % 2];
            meanwhile = expand_meanwhile(&e, cpu_min(CHUNK_STEPS, rest > 0 ? rest : panel + 1 < end ? t->steps : 0));
            t->cpu->kernels->tiles->stream_a(own->c, own->x, lines, count, own->b[chunk % 2], step > 0, rows, CPU_TILE,
                                             &meanwhile);
            cpu_finish_pieces(&meanwhile.work);
        }
        t->cpu->kernels->epilogue(own->c, 0, rows, col, cols, &t->p->epilogue);
    }
    t->cpu->kernels->tiles->end();
}

void cpu_multiply_expanded(ace_device *dev, const cpu_product *p, void *room)
{
    enum { TASKS = 8 }; /* per thread */
    expanded_product t = describe(dev, &p->w->desc);
    t.p = p;
    t.room = room;
    if (!few_rows(&t, p->rows)) {
        multiply_many(dev, &t);
        return;
    }
    t.group = cpu_divide_up(t.panels, TASKS * t.cpu->threads);
    cpu_run(dev, cpu_divide_up(t.panels, t.group), few_rows_task, &t);
}
