/* product_few_rows.c - linear layers for so few rows that they take as long as the weights take to come from memory,
 * with the bits of the products of many rows: weights of bf16, where those go to a matrix unit of tiles
 * (product_tiles.c); and weights in 4 bits or blocks, whose values are used on the spot, where those are expanded. */
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
    cpu_expanded as; /* of weights that are not plain: what products of many rows would read */
} product;

static void convert_rows(const product *t, float *x)
{
    int64_t k = t->p->w->desc.k, ldx = t->steps * CPU_TILE;
    for (int64_t r = 0; r < t->p->rows; r++, x += ldx) {
        t->cpu->kernels->convert(x, ACE_F32, ace_mat_row(t->p->x, r), t->p->x.dtype, k);
        memset(x + k, 0, (size_t)(ldx - k) * sizeof *x);
    }
}

static void multiply_panel(const product *t, float *c, const float *x, int64_t panel)
{
    const cpu_kernels *kernels = t->cpu->kernels;
    const ace_weight *w = t->p->w;
    const char *data = (const char *)w->data + (size_t)panel * t->panel_bytes;
    int64_t ldx = t->steps * CPU_TILE;
    if (w->desc.form == ACE_FORM_PLAIN)
        kernels->tiles->few_rows(c, x, ldx, (int)t->p->rows, t->steps, data);
    else
        kernels->quantised->multiply_blocks(c, x, ldx, (int)t->p->rows, w->desc.k, t->as, w->dtype,
                                            (const uint8_t *)data);
}

static void panels_task(void *context, int64_t index, int worker)
{
    const product *t = context;
    buffers *own = cpu_workspace(t->cpu, worker);
    int64_t first = index * t->group, end = cpu_min(first + t->group, t->panels);
    convert_rows(t, own->x);
    for (int64_t i = 0; first + i < end && !cpu_stopped(t->dev); i++) multiply_panel(t, own->c[i], own->x, first + i);
    for (int64_t i = 0; first + i < end; i++) {
        int64_t col = (first + i) * t->panel_cols;
        t->cpu->kernels->epilogue(own->c[i], 0, t->p->rows, col, cpu_min(t->panel_cols, t->cols - col),
                                  &t->p->epilogue);
    }
}

bool cpu_has_few_rows(const ace_device *dev, const cpu_product *p)
{
    const cpu_kernels *kernels = cpu_of(dev)->kernels;
    ace_weight_form form = p->w->desc.form;
    if (form == ACE_FORM_INT8 || (form == ACE_FORM_PLAIN && !(kernels->tiles && p->w->dtype == ACE_BF16))) return false;
    if (form != ACE_FORM_PLAIN && p->x.dtype == ACE_BF16 && kernels->gemm_bf16) return false; /* adds up otherwise */
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
                 .panel_bytes = w->form == ACE_FORM_PLAIN ? cpu_panel_bytes(cpu_of(dev), p->w->dtype, w->k, 1)
                                                          : cpu_quantised_panel_bytes(w),
                 .as = p->x.dtype == ACE_F32         ? CPU_EXPANDED_F32
                       : cpu_of(dev)->kernels->tiles ? CPU_EXPANDED_PAIRS
                                                     : CPU_EXPANDED_ROUNDED};
    t.panels = cpu_divide_up(t.cols, t.panel_cols);
    t.group = cpu_min(GROUP, cpu_divide_up(t.panels, TASKS * t.cpu->threads));
    cpu_run(dev, cpu_divide_up(t.panels, t.group), panels_task, &t);
}
