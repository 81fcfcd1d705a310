/* operations.c - the operations of device.h as calls of kernels. */
#include "base/error.h"
#include "device/cuda/state.h"

/* ---- operands ------------------------------------------------------------------------------------------------ */

gpu_mat cuda_mat_of(ace_mat m)
{
    if (m.rows == 0) return (gpu_mat){0};
    return (gpu_mat){m.data, m.rows, m.cols, m.stride, m.dtype == ACE_BF16 ? GPU_BF16 : GPU_F32};
}

/* Notes that the operation which is queued next uses the weight. */
static const void *use(ace_device *dev, const ace_weight *w)
{
    if (!w) return NULL;
    ((ace_weight *)(uintptr_t)w)->used = cuda_of(dev)->queued + 1; /* no part of its value */
    return w->data;
}

static gpu_mat table_of(ace_device *dev, const ace_weight *w)
{
    return (gpu_mat){(void *)(uintptr_t)use(dev, w), w->desc.n, w->desc.k, w->desc.k,
                     w->dtype == ACE_BF16 ? GPU_BF16 : GPU_F32};
}

/* The row of a matrix that may be absent. */
static const float *row_of(ace_mat m)
{
    return m.rows ? m.data : NULL;
}

/* Fills the operand of an operation that may be recorded, leaving what is between its members. */
static void put(gpu_mat *to, ace_mat m)
{
    if (m.rows == 0) return;
    to->data = m.data;
    to->rows = m.rows;
    to->cols = m.cols;
    to->stride = m.stride;
    to->type = m.dtype == ACE_BF16 ? GPU_BF16 : GPU_F32;
}

static void put_weight(gpu_weight *to, ace_device *dev, const ace_weight *w)
{
    gpu_weight from = cuda_weight_of(dev, &w->desc, use(dev, w));
    to->data = from.data;
    to->scales = from.scales;
    to->exponents = from.exponents;
    to->row_bytes = from.row_bytes;
    to->n = from.n;
    to->channels = from.channels;
    to->padded = from.padded;
    to->taps = from.taps;
    to->gated = from.gated;
    to->form = from.form;
}

/* ---- products ------------------------------------------------------------------------------------------------ */

size_t cuda_product_scratch(const ace_device *dev, const ace_weight_desc *desc, int64_t rows)
{
    const cuda_backend *c = cuda_of(dev);
    gpu_weight w = cuda_weight_of(dev, desc, NULL);
    return c->gpu->product_room(&w, dev->act == ACE_BF16 ? GPU_BF16 : GPU_F32, c->properties.capability, rows);
}

void cuda_conv1d(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w, const ace_conv *conv,
                 const ace_epilogue *e, void *room)
{
    gpu_product *p = &cuda_operation_new(dev, CUDA_PRODUCT)->of.product;
    put(&p->y, y);
    put(&p->x, x);
    put_weight(&p->w, dev, w);
    p->rows = y.rows ? y.rows : e->act.rows;
    p->x_first = conv->x_first;
    p->out_first = conv->out_first;
    p->stride = conv->stride;
    p->dilation = conv->dilation;
    p->padding = conv->padding;
    p->bias = use(dev, e->bias);
    p->silu = e->silu;
    p->gate = row_of(e->gate);
    put(&p->residual, e->residual);
    p->room = room;
    if (e->snake) {
        p->alpha = use(dev, e->snake->alpha);
        p->inv_beta = use(dev, e->snake->inv_beta);
        put(&p->act, e->act);
    }
    cuda_operate(dev);
}

void cuda_linear_silu_mul(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w, void *room)
{
    gpu_product *p = &cuda_operation_new(dev, CUDA_PRODUCT)->of.product;
    put(&p->y, y);
    put(&p->x, x);
    put_weight(&p->w, dev, w);
    p->rows = y.rows;
    p->stride = p->dilation = 1;
    p->room = room;
    cuda_operate(dev);
}

/* ---- attention ----------------------------------------------------------------------------------------------- */

enum { HEAD_DIM = 256 }; /* the widest heads that kernels treat */

/* A few queries of many keys are faster with room for partial results. One query of a language model has it: 32 heads
 * of 128, and as many keys as a planner reads. */
static bool heads_fit(ace_device *dev, const ace_attention_shape *s)
{
    return s->head_dim <= HEAD_DIM ||
           ace_fail(&dev->failure, ACE_ERROR_MODEL,
                    "attention heads of %d dimensions are too wide for this program: at most %d", s->head_dim,
                    HEAD_DIM);
}

static gpu_attention *new_attention(ace_device *dev, ace_mat o, ace_mat q, ace_mat k, ace_mat v,
                                    const ace_attention_shape *s)
{
    static const gpu_mask masks[] = {
        [ACE_MASK_FULL] = GPU_MASK_FULL, [ACE_MASK_BAND] = GPU_MASK_BAND, [ACE_MASK_CAUSAL] = GPU_MASK_CAUSAL};
    const cuda_backend *c = cuda_of(dev);
    gpu_attention *a = &cuda_operation_new(dev, CUDA_ATTENTION)->of.attention;
    put(&a->o, o);
    put(&a->q, q);
    put(&a->k, k);
    put(&a->v, v);
    a->heads = s->heads;
    a->kv_heads = s->kv_heads;
    a->head_dim = s->head_dim;
    a->scale = s->scale;
    a->mask = masks[s->mask];
    a->radius = s->radius;
    if (c->gpu->attention_room(a) <= CUDA_TRANSIT) a->room = c->transit;
    return a;
}

void cuda_attention(ace_device *dev, ace_mat o, ace_mat q, ace_mat k, ace_mat v, const ace_attention_shape *s)
{
    if (!heads_fit(dev, s)) return;
    new_attention(dev, o, q, k, v, s);
    cuda_operate(dev);
}

/* Where keys are not shared out there is no kernel for it: then it is another operation each time. */
void cuda_attention_growing(ace_device *dev, ace_mat o, ace_mat q, ace_mat k, ace_mat v, const ace_attention_shape *s,
                            ace_number keys)
{
    if (!heads_fit(dev, s)) return;
    gpu_attention *a = new_attention(dev, o, q, k, v, s);
    if (a->room && cuda_of(dev)->gpu->attention_room(a) > 0)
        a->keys = keys.at.data;
    else
        new_attention(dev, o, q, ace_rows(k, 0, keys.value), ace_rows(v, 0, keys.value), s);
    cuda_operate(dev);
}

/* ---- rows ---------------------------------------------------------------------------------------------------- */

void cuda_snake(ace_device *dev, ace_mat y, ace_mat x, const ace_snake_weights *snake)
{
    cuda_rows *r = &cuda_operation_new(dev, CUDA_SNAKE)->of.rows;
    put(&r->y, y);
    put(&r->x, x);
    r->alpha = use(dev, snake->alpha);
    r->inv_beta = use(dev, snake->inv_beta);
    cuda_operate(dev);
}

void cuda_rms_norm(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w, float eps, ace_mat scale, ace_mat shift)
{
    gpu_norm *n = &cuda_operation_new(dev, CUDA_NORM)->of.norm;
    put(&n->y, y);
    put(&n->x, x);
    n->w = use(dev, w);
    n->eps = eps;
    n->scale = row_of(scale);
    n->shift = row_of(shift);
    cuda_operate(dev);
}

void cuda_head_norm_rope(ace_device *dev, ace_mat x, int head_dim, const ace_weight *w, float eps, ace_mat rope,
                         int64_t first_position)
{
    gpu_head_norm *n = &cuda_operation_new(dev, CUDA_HEAD_NORM)->of.head_norm;
    put(&n->x, x);
    n->head_dim = head_dim;
    n->w = use(dev, w);
    n->eps = eps;
    put(&n->rope, rope);
    n->first_position = first_position;
    cuda_operate(dev);
}

void cuda_copy(ace_device *dev, ace_mat y, ace_mat x)
{
    cuda_rows *r = &cuda_operation_new(dev, CUDA_COPY)->of.rows;
    put(&r->y, y);
    put(&r->x, x);
    cuda_operate(dev);
}

void cuda_append(ace_device *dev, ace_mat y, ace_mat x, ace_number first)
{
    cuda_rows *r = &cuda_operation_new(dev, CUDA_APPEND)->of.rows;
    put(&r->y, y);
    put(&r->x, x);
    r->first = first.at.data;
    cuda_operate(dev);
}

/* The one operation that may get the values of a weight as a matrix. */
void cuda_add(ace_device *dev, ace_mat y, ace_mat a, ace_mat b)
{
    cuda_backend *c = cuda_of(dev);
    cuda_rows *r = &cuda_operation_new(dev, CUDA_ADD)->of.rows;
    c->loose_used = c->queued + 1;
    put(&r->y, y);
    put(&r->x, a);
    put(&r->b, b);
    cuda_operate(dev);
}

void cuda_silu(ace_device *dev, ace_mat y, ace_mat x)
{
    cuda_rows *r = &cuda_operation_new(dev, CUDA_SILU)->of.rows;
    put(&r->y, y);
    put(&r->x, x);
    cuda_operate(dev);
}

/* ---- tables -------------------------------------------------------------------------------------------------- */

/* Numbers [first, ...) of `ids`, as many as fit into a call. */
static void take_ids(gpu_embedding *e, const int32_t *ids, int64_t first, int64_t count)
{
    e->count = (int)(count - first < GPU_IDS ? count - first : GPU_IDS);
    e->has_ids = 1;
    memcpy(e->ids, ids + first, (size_t)e->count * sizeof *ids);
}

void cuda_embed(ace_device *dev, ace_mat y, const ace_weight *table, const int32_t *ids, int64_t count)
{
    cuda_backend *c = cuda_of(dev);
    gpu_embedding e = {0};
    for (int64_t first = 0; first < count && cuda_begin(dev); first += e.count) {
        take_ids(&e, ids, first, count);
        e.y = cuda_mat_of(ace_rows(y, first, e.count));
        e.table = table_of(dev, table);
        cuda_queued(dev, c->gpu->embed(c->compute, &e), "in an embedding");
        if (dev->failure.status != ACE_OK) return;
    }
}

void cuda_logits(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *table, int64_t first, const int32_t *ids)
{
    cuda_backend *c = cuda_of(dev);
    gpu_embedding e = {.x = cuda_mat_of(x), .first = first, .count = (int)y.cols};
    for (int64_t col = 0; col < y.cols && cuda_begin(dev); col += e.count) {
        if (ids) take_ids(&e, ids, col, y.cols);
        e.y = cuda_mat_of(ace_cols(y, col, e.count));
        e.table = table_of(dev, table);
        cuda_queued(dev, c->gpu->logits(c->compute, &e), "in logits");
        if (dev->failure.status != ACE_OK) return;
    }
}

void cuda_embed_choices(ace_device *dev, ace_mat y, const ace_weight *table, int64_t first, ace_mat choices)
{
    cuda_backend *c = cuda_of(dev);
    if (!cuda_begin(dev)) return;
    gpu_mat rows = table_of(dev, table);
    cuda_queued(dev, c->gpu->embed_choices(c->compute, cuda_mat_of(y), rows, first, cuda_mat_of(choices)),
                "in an embedding");
}

/* ---- choosing ------------------------------------------------------------------------------------------------ */

_Static_assert(GPU_SAMPLE_ROWS *GPU_SAMPLE_ROOM <= CUDA_TRANSIT, "the transit is room for sampling");
_Static_assert((int)GPU_SAMPLE_COLUMNS == (int)ACE_SAMPLE_COLUMNS, "what device.h promises");

void cuda_sample(ace_device *dev, ace_mat choices, ace_mat values, ace_mat unconditional, const ace_sampling *sampling,
                 const double *uniform)
{
    cuda_backend *c = cuda_of(dev);
    gpu_sampling s = {.guidance = sampling->guidance,
                      .temperature = sampling->temperature,
                      .top_p = sampling->top_p,
                      .top_k = sampling->top_k,
                      .room = c->transit};
    for (int64_t first = 0, rows; first < values.rows && cuda_begin(dev); first += rows) {
        rows = values.rows - first < GPU_SAMPLE_ROWS ? values.rows - first : GPU_SAMPLE_ROWS;
        s.choices = cuda_mat_of(ace_rows(choices, first, rows));
        s.values = cuda_mat_of(ace_rows(values, first, rows));
        if (unconditional.rows) s.unconditional = cuda_mat_of(ace_rows(unconditional, first, rows));
        memcpy(s.uniform, uniform + first, (size_t)rows * sizeof *uniform);
        cuda_queued(dev, c->gpu->sample(c->compute, &s), "in a choice");
        if (dev->failure.status != ACE_OK) return;
    }
}
