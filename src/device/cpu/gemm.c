/* gemm.c - linear layers and convolutions: which tile of the product is computed when, and by whom.
 *
 * A task is a block of rows times one panel of 32 columns. Its rows of x stay in the second-level cache while the
 * threads go through the panels; the panel passes through the first-level cache in chunks of at most CPU_KC products
 * per element, and the sums wait in the workspace between chunks. A convolution is the same product with a row
 * pointer per tap (implicit GEMM): no gathered copy of x is ever made.
 *
 * Where the CPU has no fast product of bf16, a chunk of the panel and the rows of a tile are expanded to float32 in
 * the first-level cache: exact, and the memory still moves only two bytes a value. */
#include "device/cpu/cpu.h"

enum {
    BLOCK_BYTES = 1 << 20, /* of x in a task: half of a common second-level cache */
    BLOCK_ROWS = 192,      /* most rows in a task */
};

static const float zero_row[CPU_KC]; /* positions outside the signal */

typedef struct product {
    const cpu_backend *cpu;
    cpu_gemm_kernel *kernel;
    bool expand; /* bf16 operands become float32 on their way to the kernel */
    ace_mat x;
    ace_conv conv;
    const char *weights;
    size_t panel_bytes, k_bytes; /* of a panel; of one value of k in it */
    int taps;
    int64_t channels, rows, block, panels, panel_cols, cols;
    cpu_epilogue epilogue;
} product;

static const void *input_row(const product *p, int64_t m, int tap, int64_t channel)
{
    int64_t row =
        (m + p->conv.out_first) * p->conv.stride + (int64_t)tap * p->conv.dilation - p->conv.padding - p->conv.x_first;
    if (row < 0 || row >= p->x.rows) return zero_row;
    return (const char *)ace_mat_row(p->x, row) + (size_t)channel * ace_mat_element(p->x);
}

/* A thread's workspace. */
typedef struct buffers {
    float c[BLOCK_ROWS * CPU_NR];
    float a[CPU_KC * CPU_MR_MAX], b[CPU_KC * CPU_NR]; /* of one chunk, expanded from bf16 */
} buffers;
_Static_assert(sizeof(buffers) <= CPU_WORKSPACE, "a product needs more workspace");

/* Part of k: taps [tap, tap + segments) x channels [channel, channel + length). */
typedef struct chunk {
    int tap, segments;
    int64_t channel, length;
} chunk;

/* a[segment][row] = where the rows of a tile begin in x, or in a float32 copy. */
static void tile_rows(const product *p, const chunk *k, int64_t first, int count, const void **a, float *copies)
{
    for (int s = 0; s < k->segments; s++)
        for (int r = 0; r < count; r++, a++) {
            *a = input_row(p, first + r, k->tap + s, k->channel);
            if (!p->expand || *a == zero_row) continue;
            p->cpu->kernels->convert(copies, ACE_F32, *a, ACE_BF16, k->length);
            *a = copies;
            copies += k->length;
        }
}

/* Adds one chunk of k for all rows of the task. */
static void multiply_chunk(const product *p, buffers *own, int64_t first, int64_t rows, const chunk *k,
                           const char *panel, size_t panel_bytes)
{
    int mr = p->cpu->kernels->mr;
    const void *a[CPU_SEGMENTS * CPU_MR_MAX], *b = panel;
    if (p->expand) {
        p->cpu->kernels->expand(own->b, b, k->segments, k->length);
        b = own->b;
    }
    int64_t tiles = cpu_divide_up(rows, mr);
    size_t ahead = panel_bytes / (size_t)tiles + 64;
    for (int64_t tile = 0; tile < tiles; tile++) {
        int count = (int)cpu_min(mr, rows - tile * mr);
        tile_rows(p, k, first + tile * mr, count, a, own->a);
        /* The next chunk follows this one in memory: each tile asks for its share of it. */
        const char *next = panel + panel_bytes + (size_t)tile * ahead;
        for (size_t i = 0; i < ahead; i += 64) __builtin_prefetch(next + i, 0, 2);
        p->kernel(own->c + tile * mr * CPU_NR, CPU_NR, a, count, k->segments, k->length, b,
                  k->tap > 0 || k->channel > 0);
    }
}

static void product_task(void *context, int64_t index, int worker)
{
    const product *p = context;
    buffers *own = cpu_workspace(p->cpu, worker);
    int64_t panel = index % p->panels, first = index / p->panels * p->block;
    int64_t rows = cpu_min(p->block, p->rows - first);
    const char *b = p->weights + (size_t)panel * p->panel_bytes;
    int taps_at_once = (int)cpu_max(1, cpu_min(CPU_SEGMENTS, CPU_KC / p->channels));
    for (int tap = 0; tap < p->taps; tap += taps_at_once) {
        int segments = (int)cpu_min(taps_at_once, p->taps - tap);
        for (int64_t channel = 0; channel < p->channels; channel += CPU_KC) {
            int64_t length = cpu_min(CPU_KC, p->channels - channel);
            int64_t stored = p->x.dtype == ACE_BF16 ? (length + 1) / 2 * 2 : length;
            size_t bytes = (size_t)(segments * stored) * p->k_bytes;
            multiply_chunk(p, own, first, rows, &(chunk){tap, segments, channel, length}, b, bytes);
            b += bytes;
        }
    }
    int64_t col = panel * p->panel_cols;
    p->cpu->kernels->epilogue(own->c, first, rows, col, cpu_min(p->panel_cols, p->cols - col), &p->epilogue);
}

static void multiply(ace_device *dev, ace_mat x, const ace_weight *w, const ace_conv *conv, int64_t rows,
                     const cpu_epilogue *epilogue)
{
    const cpu_backend *cpu = cpu_of(dev);
    int64_t channels = w->desc.k / w->desc.taps, mr = cpu->kernels->mr;
    int64_t panel_cols = cpu_panel_cols(w->desc.kind), cols = epilogue->gated ? w->desc.n / 2 : w->desc.n;
    int64_t row_bytes = channels * (int64_t)ace_mat_element(x) * cpu_min(conv->stride, w->desc.taps);
    int64_t block = cpu_min(BLOCK_ROWS, cpu_max(BLOCK_BYTES / row_bytes, 4 * mr)) / mr * mr;
    bool native = x.dtype == ACE_BF16 && cpu->kernels->gemm_bf16;
    product p = {
        .cpu = cpu,
        .kernel = native ? cpu->kernels->gemm_bf16 : cpu->kernels->gemm_f32,
        .expand = x.dtype == ACE_BF16 && !native,
        .x = x,
        .conv = *conv,
        .weights = w->data,
        .panel_bytes = cpu_panel_bytes(w->dtype, w->desc.k, w->desc.taps),
        .k_bytes = CPU_NR * ace_dtype_block_bytes(w->dtype),
        .taps = w->desc.taps,
        .channels = channels,
        .rows = rows,
        .block = block,
        .panels = cpu_divide_up(cols, panel_cols),
        .panel_cols = panel_cols,
        .cols = cols,
        .epilogue = *epilogue,
    };
    cpu_run(dev, cpu_divide_up(rows, block) * p.panels, product_task, &p);
}

static const float *vector(const ace_weight *w)
{
    return w ? w->data : NULL;
}

void cpu_conv1d(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w, const ace_conv *conv, const ace_epilogue *e)
{
    cpu_epilogue epilogue = {
        .bias = vector(e->bias),
        .gate = e->gate.rows ? e->gate.data : NULL,
        .alpha = e->snake ? vector(e->snake->alpha) : NULL,
        .inv_beta = e->snake ? vector(e->snake->inv_beta) : NULL,
        .silu = e->silu,
        .y = y,
        .residual = e->residual,
        .act = e->act,
    };
    multiply(dev, x, w, conv, y.rows ? y.rows : e->act.rows, &epilogue);
}

void cpu_linear_silu_mul(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w)
{
    static const ace_conv linear = {.stride = 1, .dilation = 1};
    multiply(dev, x, w, &linear, y.rows, &(cpu_epilogue){.gated = true, .y = y});
}
