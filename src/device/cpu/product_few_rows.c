/* product_few_rows.c - linear layers of bf16 for so few rows that they take as long as the weights take to come from
 * memory, where other products go to a matrix unit of tiles (product_tiles.c), with the same bits. */
#include "device/cpu/cpu.h"

#include <string.h>

enum {
    TASKS = 4,     /* for each thread */
    GROUP = 16,    /* most panels of a task: what finishes them would disturb the reading of weights */
    MOST_K = 16384 /* longer sums are tiles' */
};

/* A thread's workspace. */
typedef struct buffers {
    float x[CPU_FEW_ROWS * MOST_K]; /* the rows, filled up with zeros to whole steps */
    float c[GROUP][CPU_FEW_ROWS * CPU_TILE];
} buffers;
_Static_assert(sizeof(buffers) <= CPU_WORKSPACE, "a product of few rows needs more workspace");

typedef struct product {
    const cpu_backend *cpu;
    const ace_device *dev;
    const cpu_product *p;
    int64_t steps, cols, panel_cols, panels, group;
    size_t panel_bytes;
} product;

static void convert_rows(const product *t, float *x)
{
    int64_t k = t->p->w->desc.k, ldx = t->steps * CPU_TILE;
    for (int64_t r = 0; r < t->p->rows; r++, x += ldx) {
        t->cpu->kernels->convert(x, ACE_F32, ace_mat_row(t->p->x, r), ACE_BF16, k);
        memset(x + k, 0, (size_t)(ldx - k) * sizeof *x);
    }
}

static void panels_task(void *context, int64_t index, int worker)
{
    const product *t = context;
    buffers *own = cpu_workspace(t->cpu, worker);
    int64_t first = index * t->group, end = cpu_min(first + t->group, t->panels);
    convert_rows(t, own->x);
    for (int64_t i = 0; first + i < end && !cpu_stopped(t->dev); i++)
        t->cpu->kernels->tiles->few_rows(own->c[i], own->x, t->steps * CPU_TILE, (int)t->p->rows, t->steps,
                                         (const char *)t->p->w->data + (size_t)(first + i) * t->panel_bytes);
    for (int64_t i = 0; first + i < end; i++) {
        int64_t col = (first + i) * t->panel_cols;
        t->cpu->kernels->epilogue(own->c[i], 0, t->p->rows, col, cpu_min(t->panel_cols, t->cols - col),
                                  &t->p->epilogue);
    }
}

bool cpu_has_few_rows(const cpu_product *p)
{
    const ace_conv *conv = &p->conv;
    bool linear = p->w->desc.taps == 1 && conv->stride == 1 && conv->out_first - conv->padding == conv->x_first;
    return linear && p->rows <= CPU_FEW_ROWS && p->rows <= p->x.rows && p->w->desc.k <= MOST_K;
}

void cpu_multiply_few_rows(ace_device *dev, const cpu_product *p)
{
    const ace_weight_desc *w = &p->w->desc;
    product t = {.cpu = cpu_of(dev),
                 .dev = dev,
                 .p = p,
                 .steps = cpu_divide_up(w->k, CPU_TILE),
                 .cols = p->epilogue.gated ? w->n / 2 : w->n,
                 .panel_cols = cpu_panel_cols(w->kind),
                 .panel_bytes = cpu_panel_bytes(cpu_of(dev), p->w->dtype, w->k, 1)};
    t.panels = cpu_divide_up(t.cols, t.panel_cols);
    t.group = cpu_min(GROUP, cpu_divide_up(t.panels, TASKS * t.cpu->threads));
    cpu_run(dev, cpu_divide_up(t.panels, t.group), panels_task, &t);
}
