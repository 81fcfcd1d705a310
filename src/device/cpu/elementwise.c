/* elementwise.c - the operations that treat each row by itself: norms, rotations, activations, copies. */
#include "device/cpu/cpu.h"

/* The operands of a row operation; each uses the fields that it needs. */
typedef struct operands {
    const cpu_kernels *kernels;
    ace_mat y, a, b;
    const float *w, *v;
    const ace_weight *table;
    const int32_t *ids;
    float eps;
    int64_t head_dim, first_position;
    const float *source;
    float *target;
} operands;

static size_t row_bytes(ace_mat m)
{
    return (size_t)m.cols * ace_mat_element(m);
}

/* ---- transfers ----------------------------------------------------------------------------------------------- */

static void upload_rows(void *context, int64_t first, int64_t count)
{
    const operands *o = context;
    for (int64_t m = first; m < first + count; m++)
        o->kernels->convert(ace_mat_row(o->y, m), o->y.dtype, o->source + m * o->y.cols, ACE_F32, o->y.cols);
}

void cpu_upload(ace_device *dev, ace_mat y, const float *host)
{
    operands o = {.kernels = cpu_of(dev)->kernels, .y = y, .source = host};
    cpu_run_rows(dev, y.rows, row_bytes(y) + (size_t)y.cols * sizeof(float), upload_rows, &o);
}

static void download_rows(void *context, int64_t first, int64_t count)
{
    const operands *o = context;
    for (int64_t m = first; m < first + count; m++)
        o->kernels->convert(o->target + m * o->a.cols, ACE_F32, ace_mat_row(o->a, m), o->a.dtype, o->a.cols);
}

void cpu_download(ace_device *dev, float *host, ace_mat x)
{
    operands o = {.kernels = cpu_of(dev)->kernels, .a = x, .target = host};
    cpu_run_rows(dev, x.rows, row_bytes(x) + (size_t)x.cols * sizeof(float), download_rows, &o);
}

static void copy_rows(void *context, int64_t first, int64_t count)
{
    const operands *o = context;
    for (int64_t m = first; m < first + count; m++)
        o->kernels->convert(ace_mat_row(o->y, m), o->y.dtype, ace_mat_row(o->a, m), o->a.dtype, o->y.cols);
}

void cpu_copy(ace_device *dev, ace_mat y, ace_mat x)
{
    operands o = {.kernels = cpu_of(dev)->kernels, .y = y, .a = x};
    cpu_run_rows(dev, y.rows, row_bytes(y) + row_bytes(x), copy_rows, &o);
}

static void embed_rows(void *context, int64_t first, int64_t count)
{
    const operands *o = context;
    size_t bytes = (size_t)o->y.cols * ace_dtype_block_bytes(o->table->dtype);
    for (int64_t m = first; m < first + count; m++)
        o->kernels->convert(ace_mat_row(o->y, m), o->y.dtype, (const char *)o->table->data + (size_t)o->ids[m] * bytes,
                            o->table->dtype, o->y.cols);
}

void cpu_embed(ace_device *dev, ace_mat y, const ace_weight *table, const int32_t *ids, int64_t count)
{
    operands o = {.kernels = cpu_of(dev)->kernels, .y = y, .table = table, .ids = ids};
    cpu_run_rows(dev, count, 2 * row_bytes(y), embed_rows, &o);
}

/* ---- arithmetic ---------------------------------------------------------------------------------------------- */

static void add_rows(void *context, int64_t first, int64_t count)
{
    const operands *o = context;
    for (int64_t m = first; m < first + count; m++)
        o->kernels->add(ace_mat_row(o->y, m), ace_mat_row(o->a, m), ace_mat_row(o->b, o->b.rows == 1 ? 0 : m),
                        o->y.cols);
}

void cpu_add(ace_device *dev, ace_mat y, ace_mat a, ace_mat b)
{
    operands o = {.kernels = cpu_of(dev)->kernels, .y = y, .a = a, .b = b};
    cpu_run_rows(dev, y.rows, 3 * row_bytes(y), add_rows, &o);
}

static void silu_rows(void *context, int64_t first, int64_t count)
{
    const operands *o = context;
    for (int64_t m = first; m < first + count; m++)
        o->kernels->silu(ace_mat_row(o->y, m), o->y.dtype, ace_mat_row(o->a, m), o->y.cols);
}

void cpu_silu(ace_device *dev, ace_mat y, ace_mat x)
{
    operands o = {.kernels = cpu_of(dev)->kernels, .y = y, .a = x};
    cpu_run_rows(dev, y.rows, 4 * row_bytes(x), silu_rows, &o);
}

static void snake_rows(void *context, int64_t first, int64_t count)
{
    const operands *o = context;
    for (int64_t m = first; m < first + count; m++)
        o->kernels->snake(ace_mat_row(o->y, m), o->y.dtype, ace_mat_row(o->a, m), o->w, o->v, o->y.cols);
}

void cpu_snake(ace_device *dev, ace_mat y, ace_mat x, const ace_snake_weights *snake)
{
    operands o = {.kernels = cpu_of(dev)->kernels, .y = y, .a = x, .w = snake->alpha->data, .v = snake->inv_beta->data};
    cpu_run_rows(dev, y.rows, 4 * row_bytes(x), snake_rows, &o);
}

/* ---- norms --------------------------------------------------------------------------------------------------- */

static void rms_norm_rows(void *context, int64_t first, int64_t count)
{
    const operands *o = context;
    for (int64_t m = first; m < first + count; m++)
        o->kernels->rms_norm(ace_mat_row(o->y, m), o->y.dtype, ace_mat_row(o->a, m), o->w, o->eps, o->source, o->v,
                             o->y.cols);
}

void cpu_rms_norm(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w, float eps, ace_mat scale, ace_mat shift)
{
    operands o = {.kernels = cpu_of(dev)->kernels,
                  .y = y,
                  .a = x,
                  .w = w->data,
                  .eps = eps,
                  .source = scale.rows ? scale.data : NULL,
                  .v = shift.rows ? shift.data : NULL};
    cpu_run_rows(dev, y.rows, 2 * row_bytes(x), rms_norm_rows, &o);
}

static void head_norm_rope_rows(void *context, int64_t first, int64_t count)
{
    const operands *o = context;
    for (int64_t m = first; m < first + count; m++) {
        const float *angles = o->b.rows ? ace_mat_row(o->b, o->first_position + m) : NULL;
        for (int64_t col = 0; col < o->y.cols; col += o->head_dim)
            o->kernels->head_norm_rope((char *)ace_mat_row(o->y, m) + (size_t)col * ace_mat_element(o->y), o->y.dtype,
                                       o->w, o->eps, angles, o->head_dim);
    }
}

void cpu_head_norm_rope(ace_device *dev, ace_mat x, int head_dim, const ace_weight *w, float eps, ace_mat rope,
                        int64_t first_position)
{
    operands o = {.kernels = cpu_of(dev)->kernels,
                  .y = x,
                  .b = rope,
                  .w = w->data,
                  .eps = eps,
                  .head_dim = head_dim,
                  .first_position = first_position};
    cpu_run_rows(dev, x.rows, 2 * row_bytes(x), head_norm_rope_rows, &o);
}
