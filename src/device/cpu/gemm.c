/* gemm.c - linear layers and convolutions: which tile of the product is computed when, and by whom.
 *
 * A task is a block of rows times a few panels of 32 columns. It goes through k in chunks of at most CPU_KC products
 * per element: the block's values of the chunk are copied side by side (rows of x lie a power of two apart, which would
 * make them compete for the same few lines of the first-level cache), then each panel's chunk passes through the
 * first-level cache once while the tiles of the block are multiplied with it. The sums wait in the workspace between
 * chunks. In a convolution a tap is a shifted row of x (implicit GEMM): x is never unfolded as a whole.
 *
 * Where the CPU has no fast product of bf16, the copies are expanded to float32: that is exact, and memory still moves
 * only two bytes per value. */
#include "device/cpu/cpu.h"

#include <string.h>

enum {
    BLOCK_ROWS = 192, /* of a task: a multiple of every tile height */
    GROUP = 16,       /* most panels of a task */
    FEW_ROWS = 16,    /* up to so many the expansion of a panel costs more than it saves */
    FEW_AHEAD = 2048, /* bytes of a panel asked for ahead of their use, then */
    FETCH_ROWS = 6,   /* how far ahead of being copied rows of x are fetched */
};

/* A thread's workspace. */
typedef struct buffers {
    float c[GROUP][BLOCK_ROWS * CPU_NR];
    float a[BLOCK_ROWS * CPU_KC]; /* the block's rows, this chunk of k only */
    float b[CPU_KC * CPU_NR];     /* a panel's chunk, expanded from bf16 */
} buffers;
_Static_assert(sizeof(buffers) <= CPU_WORKSPACE, "a product needs more workspace");

typedef struct product {
    const cpu_backend *cpu;
    const ace_device *dev;
    cpu_gemm_kernel *kernel;
    ace_dtype multiplied; /* what the kernel reads: float32, or bf16 if it can */
    ace_mat x;
    ace_conv conv;
    const ace_weight *w;
    size_t panel_bytes;
    int64_t channels, rows, panels, panel_cols, cols, group, groups;
    cpu_epilogue epilogue;
} product;

/* Part of k: taps [tap, tap + taps) x channels [channel, channel + channels). */
typedef struct chunk {
    int tap, taps;
    int64_t channel, channels;
    int64_t stored;   /* values per column and tap in the packed panel: bf16 come in pairs */
    int64_t length;   /* products per element that the kernel computes */
    size_t at, bytes; /* where in a panel, and how much of it */
} chunk;

/* The row of x that tap `tap` of output row m reads; NULL outside the signal. */
static const char *input_row(const product *p, int64_t m, int tap)
{
    int64_t row =
        (m + p->conv.out_first) * p->conv.stride + (int64_t)tap * p->conv.dilation - p->conv.padding - p->conv.x_first;
    return row < 0 || row >= p->x.rows ? NULL : ace_mat_row(p->x, row);
}

/* `n` values of x, and zeros up to `padded`, as the kernel wants them. */
static void copy_values(const product *p, void *y, const char *x, int64_t n, int64_t padded)
{
    size_t size = ace_dtype_block_bytes(p->multiplied);
    if (!x)
        n = 0;
    else if (p->multiplied == p->x.dtype)
        memcpy(y, x, (size_t)n * size);
    else
        p->cpu->kernels->convert(y, p->multiplied, x, p->x.dtype, n);
    if (n < padded) memset((char *)y + (size_t)n * size, 0, (size_t)(padded - n) * size);
}

/* Rows of x are far apart: no hardware sees the next one coming. */
static void fetch_values(const char *x, size_t bytes)
{
    for (size_t i = 0; x && i < bytes; i += 64) __builtin_prefetch(x + i);
}

static void copy_block(const product *p, const chunk *k, int64_t first, int64_t rows, void *copies)
{
    size_t size = ace_dtype_block_bytes(p->multiplied), offset = (size_t)k->channel * ace_mat_element(p->x);
    size_t bytes = (size_t)k->channels * ace_mat_element(p->x);
    int64_t per_tap = k->length / k->taps;
    char *y = copies;
    for (int64_t m = first; m < first + rows; m++)
        for (int tap = k->tap; tap < k->tap + k->taps; tap++, y += (size_t)per_tap * size) {
            const char *x = input_row(p, m, tap), *soon = input_row(p, m + FETCH_ROWS, tap);
            fetch_values(soon ? soon + offset : NULL, bytes);
            copy_values(p, y, x ? x + offset : NULL, k->channels, per_tap);
        }
}

/* Whether the weights are in 4 bits or blocks. */
static bool is_expanded(const product *p)
{
    return p->w->desc.form != ACE_FORM_PLAIN;
}

static void expand_chunk(const product *p, void *panel, const void *stored, const chunk *k)
{
    ace_dtype blocks = p->w->dtype;
    int64_t parts = blocks == ACE_U8 ? 1 : ace_dtype_block(blocks) / CPU_EXPAND;
    size_t block_bytes = CPU_NR * (blocks == ACE_U8 ? CPU_INT4_BYTES : ace_dtype_block_bytes(blocks));
    cpu_expanded to = p->multiplied == ACE_BF16 ? CPU_EXPANDED_PAIRS
                      : p->x.dtype == ACE_BF16  ? CPU_EXPANDED_ROUNDED
                                                : CPU_EXPANDED_F32;
    for (int64_t i = 0; i < k->channels / CPU_EXPAND; i++)
        p->cpu->kernels->quantised->expand(
            (char *)panel + (size_t)(i * CPU_EXPAND * CPU_NR) * ace_dtype_block_bytes(p->multiplied), to, blocks,
            (const uint8_t *)stored + (size_t)(i / parts) * block_bytes, (int)(i % parts));
}

/* Adds the products of one chunk and one panel to the sums of all rows of the block. */
static void multiply_chunk(const product *p, buffers *own, int64_t panel, float *c, int64_t rows, const chunk *k)
{
    const cpu_kernels *kernels = p->cpu->kernels;
    const char *stored = (const char *)p->w->data + (size_t)panel * p->panel_bytes + k->at;
    const void *b = stored;
    if (is_expanded(p)) {
        expand_chunk(p, own->b, b, k);
        b = own->b;
    } else if (p->multiplied != p->w->dtype) {
        kernels->expand(own->b, b, k->taps, k->channels);
        b = own->b;
    }
    int64_t tiles = cpu_divide_up(rows, kernels->mr);
    size_t tile_bytes = (size_t)(kernels->mr * k->length) * ace_dtype_block_bytes(p->multiplied);
    /* Each tile asks for its share of the panel's next chunk, which follows this one in memory; after the last chunk,
     * of the panel that the next task will likely begin with. */
    bool last = k->at + k->bytes == p->panel_bytes;
    const char *soon = stored + (last ? (size_t)p->group * p->panel_bytes - k->at : k->bytes);
    for (int64_t tile = 0; tile < tiles; tile++)
        p->kernel(c + tile * kernels->mr * CPU_NR, CPU_NR, (const char *)own->a + (size_t)tile * tile_bytes, k->length,
                  (int)cpu_min(kernels->mr, rows - tile * kernels->mr), k->length, b, k->at > 0,
                  soon + tile * k->length * CPU_SOON);
}

/* The chunk after *k, or the first one if *k is zero; false at the end. */
static bool next_chunk(const product *p, chunk *k)
{
    size_t at = k->at + k->bytes;
    if (at == p->panel_bytes) return false;
    int64_t taps_at_once = cpu_max(1, CPU_KC / (p->channels + p->channels % 2));
    if (k->channels == 0 || k->channel + k->channels == p->channels) {
        k->tap += k->taps;
        k->channel = 0;
    } else {
        k->channel += k->channels;
    }
    k->taps = (int)cpu_min(taps_at_once, p->w->desc.taps - k->tap);
    k->channels = cpu_min(CPU_KC, p->channels - k->channel);
    k->stored = p->w->dtype == ACE_F32 ? k->channels : (k->channels + 1) / 2 * 2;
    k->length = k->taps * (p->multiplied == ACE_BF16 ? k->stored : k->channels);
    k->at = at;
    k->bytes = is_expanded(p) ? p->panel_bytes * (size_t)k->channels / (size_t)p->channels
                              : (size_t)(k->taps * k->stored * CPU_NR) * ace_dtype_block_bytes(p->w->dtype);
    return true;
}

/* The epilogue, a few rows of all panels at a time: what it writes to a row of y is longer then, and kinder to memory.
 */
static void finish_block(const product *p, const buffers *own, int64_t first, int64_t rows, int64_t first_panel,
                         int64_t panels)
{
    enum { STRIP = 16 };
    for (int64_t m = 0; m < rows; m += STRIP)
        for (int64_t i = 0; i < panels; i++) {
            int64_t col = (first_panel + i) * p->panel_cols;
            p->cpu->kernels->epilogue(own->c[i] + m * CPU_NR, first + m, cpu_min(STRIP, rows - m), col,
                                      cpu_min(p->panel_cols, p->cols - col), &p->epilogue);
        }
}

static void product_task(void *context, int64_t index, int worker)
{
    const product *p = context;
    buffers *own = cpu_workspace(p->cpu, worker);
    int64_t first_panel = index % p->groups * p->group, first = index / p->groups * BLOCK_ROWS;
    int64_t panels = cpu_min(p->group, p->panels - first_panel), rows = cpu_min(BLOCK_ROWS, p->rows - first);
    for (chunk k = {0}; next_chunk(p, &k);) {
        if (cpu_stopped(p->dev)) return;
        copy_block(p, &k, first, rows, own->a);
        for (int64_t i = 0; i < panels && !cpu_stopped(p->dev); i++)
            multiply_chunk(p, own, first_panel + i, own->c[i], rows, &k);
    }
    finish_block(p, own, first, rows, first_panel, panels);
}

/* The task of a product of few rows, which takes as long as its panels take to come from memory: each is read from its
 * first byte to its last, and expanded on its way through the registers. The rows wait in the workspace,
 * [chunk][row][k].
 */
static void few_rows_task(void *context, int64_t index, int worker)
{
    const product *p = context;
    buffers *own = cpu_workspace(p->cpu, worker);
    int64_t first = index * p->group, panels = cpu_min(p->group, p->panels - first);
    for (chunk k = {0}; next_chunk(p, &k);) copy_block(p, &k, 0, p->rows, own->a + k.channel * p->rows);
    for (int64_t i = 0; i < panels && !cpu_stopped(p->dev); i++)
        for (chunk k = {0}; next_chunk(p, &k);) {
            const char *b = (const char *)p->w->data + (size_t)(first + i) * p->panel_bytes + k.at;
            p->cpu->kernels->gemm_pairs(own->c[i], CPU_NR, own->a + k.channel * p->rows, k.length, (int)p->rows,
                                        k.length, b, k.at > 0, b + FEW_AHEAD);
        }
    finish_block(p, own, 0, p->rows, first, panels);
}

static bool few_rows(const product *p)
{
    return !is_expanded(p) && p->multiplied != p->w->dtype && p->w->desc.taps == 1 && p->rows <= FEW_ROWS &&
           p->rows * p->channels <= BLOCK_ROWS * CPU_KC;
}

size_t cpu_product_scratch(const ace_device *dev, const ace_weight_desc *desc, int64_t rows)
{
    return desc->form == ACE_FORM_PLAIN  ? 0
           : desc->form == ACE_FORM_INT8 ? cpu_int8_scratch(dev, desc, rows)
                                         : cpu_expanded_scratch(dev, desc, rows);
}

static void multiply(ace_device *dev, ace_mat x, const ace_weight *w, const ace_conv *conv, int64_t rows,
                     const cpu_epilogue *epilogue, void *room)
{
    const cpu_backend *cpu = cpu_of(dev);
    const cpu_product whole = {.x = x, .w = w, .conv = *conv, .rows = rows, .epilogue = *epilogue};
    if (w->desc.form == ACE_FORM_INT8) {
        cpu_multiply_int8(dev, &whole, room);
        return;
    }
    if (cpu_has_few_rows(dev, &whole)) {
        cpu_multiply_few_rows(dev, &whole);
        return;
    }
    if (w->desc.form != ACE_FORM_PLAIN && cpu_expands_to_tiles(dev)) {
        cpu_multiply_expanded(dev, &whole, room);
        return;
    }
    if (cpu->kernels->tiles && w->dtype == ACE_BF16) {
        cpu_multiply_tiles(dev, &whole);
        return;
    }
    bool bf16 = x.dtype == ACE_BF16 && cpu->kernels->gemm_bf16;
    product p = {
        .cpu = cpu,
        .dev = dev,
        .kernel = bf16 ? cpu->kernels->gemm_bf16 : cpu->kernels->gemm_f32,
        .multiplied = bf16 ? ACE_BF16 : ACE_F32,
        .x = x,
        .conv = *conv,
        .w = w,
        .panel_bytes = w->desc.form == ACE_FORM_PLAIN ? cpu_panel_bytes(cpu, w->dtype, w->desc.k, w->desc.taps)
                                                      : cpu_quantised_panel_bytes(&w->desc),
        .channels = w->desc.k / w->desc.taps,
        .rows = rows,
        .panel_cols = cpu_panel_cols(w->desc.kind),
        .cols = epilogue->gated ? w->desc.n / 2 : w->desc.n,
        .epilogue = *epilogue,
    };
    p.panels = cpu_divide_up(p.cols, p.panel_cols);
    int64_t blocks = cpu_divide_up(rows, BLOCK_ROWS);
    /* Few and large tasks copy less, but every thread must have some. */
    p.group = cpu_max(1, cpu_min(GROUP, p.panels * blocks / (4 * cpu->threads)));
    p.groups = cpu_divide_up(p.panels, p.group);
    cpu_run(dev, blocks * p.groups, few_rows(&p) ? few_rows_task : product_task, &p);
}

static const float *vector(const ace_weight *w)
{
    return w ? w->data : NULL;
}

void cpu_conv1d(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w, const ace_conv *conv, const ace_epilogue *e,
                void *room)
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
    multiply(dev, x, w, conv, y.rows ? y.rows : e->act.rows, &epilogue, room);
}

void cpu_linear_silu_mul(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w, void *room)
{
    static const ace_conv linear = {.stride = 1, .dilation = 1};
    multiply(dev, x, w, &linear, y.rows, &(cpu_epilogue){.gated = true, .y = y}, room);
}
