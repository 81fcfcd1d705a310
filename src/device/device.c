#include "device/backend.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>

/* ---- the sticky failure -------------------------------------------------------------------------------------- */

static bool running(ace_device *dev)
{
    if (dev->failure.status != ACE_OK) return false;
    if (dev->stop && atomic_load_explicit(dev->stop, memory_order_relaxed))
        return ace_fail(&dev->failure, ACE_CANCELLED, "stopped");
    return true;
}

bool ace_device_ok(const ace_device *dev, ace_error *error)
{
    if (dev->failure.status == ACE_OK) return true;
    return ace_fail(error, dev->failure.status, "%s", dev->failure.message);
}

void ace_device_clear(ace_device *dev)
{
    dev->failure = (ace_error){0};
}

void ace_device_fail(ace_device *dev, const ace_error *error)
{
    if (dev->failure.status == ACE_OK) dev->failure = *error;
}

/* Checks a condition that only a bug in model code can break. */
static bool require(ace_device *dev, bool condition, const char *operation, const char *what)
{
    if (!condition)
        ace_fail(&dev->failure, ACE_ERROR_INTERNAL, "%s called with %s: this is a bug, please report it", operation,
                 what);
    return condition;
}

/* ---- opening ------------------------------------------------------------------------------------------------- */

void ace_device_close(ace_device *dev)
{
    if (!dev) return;
    if (dev->scratch) dev->ops->scratch_free(dev, dev->scratch);
    free(dev->host);
    dev->ops->close(dev);
    free(dev);
}

const char *ace_device_name(const ace_device *dev)
{
    return dev->name;
}

bool ace_device_is_meter(const ace_device *dev)
{
    return dev->meter;
}

size_t ace_device_near_bytes(const ace_device *dev)
{
    return dev->near_bytes;
}

bool ace_device_prefers_int8(const ace_device *dev)
{
    return dev->prefers_int8;
}

ace_dtype ace_device_act(const ace_device *dev)
{
    return dev->act;
}

/* ---- counts -------------------------------------------------------------------------------------------------- */

ace_device_stats ace_device_get_stats(const ace_device *dev)
{
    return dev->stats;
}

static void raise_peak(ace_device *dev)
{
    ace_device_stats *s = &dev->stats;
    if (s->scratch_bytes > s->scratch_peak) s->scratch_peak = s->scratch_bytes;
    if (s->scratch_bytes > s->scratch_held) s->scratch_held = s->scratch_bytes;
    size_t total = s->weight_bytes + s->scratch_held + s->workspace;
    if (total > s->total_peak) s->total_peak = total;
}

void ace_device_reset_peak(ace_device *dev)
{
    dev->stats.scratch_peak = 0;
    dev->stats.total_peak = 0;
    raise_peak(dev);
}

void ace_device_set_limit(ace_device *dev, size_t bytes)
{
    dev->limit = bytes;
}

/* Whether weights and scratch of these sizes stay within the limit. */
static bool within_limit(const ace_device *dev, size_t weights, size_t scratch, const char *what, ace_error *error)
{
    size_t total = weights + scratch + dev->stats.workspace;
    return dev->limit == 0 || dev->meter || total <= dev->limit ||
           ace_fail(error, ACE_ERROR_MEMORY,
                    "%s would take %.2f GiB of memory, %.2f GiB are allowed: ask for a shorter song or fewer at once, "
                    "or allow more",
                    what, (double)total / 1073741824.0, (double)dev->limit / 1073741824.0);
}

static void count_work(ace_device *dev, double flops, double bytes)
{
    dev->stats.flops += flops;
    dev->stats.bytes_moved += bytes;
}

void ace_meter_repeat(ace_device *dev, double flops, double bytes_moved)
{
    if (dev->meter) count_work(dev, flops, bytes_moved);
}

void ace_meter_repeat_loading(ace_device *dev, double bytes_loaded)
{
    if (dev->meter) dev->stats.bytes_loaded += bytes_loaded;
}

static double mat_bytes(ace_mat m)
{
    return m.dtype < ACE_DTYPE_COUNT ? (double)m.rows * (double)m.cols * (double)ace_mat_element(m) : 0;
}

/* ---- scratch ------------------------------------------------------------------------------------------------- */

static void unreserve(ace_device *dev)
{
    if (dev->scratch) dev->ops->scratch_free(dev, dev->scratch);
    free(dev->host);
    dev->scratch = dev->host = NULL;
    dev->scratch_limit = dev->host_limit = 0;
    dev->stats.scratch_held = 0;
}

bool ace_scratch_reserve(ace_device *dev, size_t bytes, size_t host, ace_error *error)
{
    static const char what[] = "the working memory of this request";
    ace_device_stats *s = &dev->stats;
    if (s->scratch_bytes != 0 || s->host_bytes != 0)
        return dev->meter ||
               ace_fail(error, ACE_ERROR_INTERNAL, "scratch reserved while in use: this is a bug, please report it");
    s->host_peak = 0;
    if (dev->meter) return true;
    unreserve(dev);
    if (!dev->apart) host = 0;
    if (bytes > 0) dev->scratch = dev->ops->scratch_reserve(dev, bytes, what, error);
    if (host > 0 && (dev->scratch || bytes == 0)) dev->host = ace_alloc_aligned(host, ACE_SCRATCH_ALIGN, what, error);
    if ((bytes > 0 && !dev->scratch) || (host > 0 && !dev->host)) {
        unreserve(dev);
        return false;
    }
    dev->scratch_limit = bytes;
    dev->host_limit = host;
    return true;
}

void ace_scratch_trim(ace_device *dev)
{
    ace_device_stats *s = &dev->stats;
    if (dev->scratch && s->scratch_held > s->scratch_bytes)
        dev->ops->scratch_discard(dev, dev->scratch + s->scratch_bytes, s->scratch_held - s->scratch_bytes);
    s->scratch_held = s->scratch_bytes;
}

ace_mark ace_scratch_mark(const ace_device *dev)
{
    return (ace_mark){dev->stats.scratch_bytes, dev->stats.host_bytes};
}

void ace_scratch_release(ace_device *dev, ace_mark mark)
{
    dev->stats.scratch_bytes = mark.device;
    dev->stats.host_bytes = mark.host;
}

/* The top of a stack when `bytes` more lie on it. False with the failure when they go beyond its limit. */
static bool raised(ace_device *dev, size_t top, size_t limit, size_t bytes, size_t *end)
{
    size_t padded = (bytes + ACE_SCRATCH_ALIGN - 1) / ACE_SCRATCH_ALIGN * ACE_SCRATCH_ALIGN;
    if (padded < bytes || padded > limit - top)
        return ace_fail(&dev->failure, ACE_ERROR_INTERNAL,
                        "working memory of %zu bytes exceeded by a request for %zu more: this is a bug in the plan, "
                        "please report it",
                        limit, bytes);
    *end = top + padded;
    return true;
}

/* Whether there may be, and is, memory for so much scratch. */
static bool hold(ace_device *dev, size_t bytes)
{
    if (bytes <= dev->stats.scratch_held) return true;
    return within_limit(dev, dev->stats.weight_bytes, bytes, "the working memory", &dev->failure) &&
           (!dev->scratch || !dev->ops->scratch_grow || dev->ops->scratch_grow(dev, bytes, &dev->failure));
}

/* The address of `bytes` on top of the stack; NULL on the meter and after a failure. */
static void *push(ace_device *dev, size_t bytes)
{
    size_t start = dev->stats.scratch_bytes, end = start;
    if (!running(dev) || !raised(dev, start, dev->scratch_limit, bytes, &end) || !hold(dev, end)) return NULL;
    dev->stats.scratch_bytes = end;
    raise_peak(dev);
    return dev->scratch ? dev->scratch + start : NULL;
}

/* The same on the second stack. */
static void *push_host(ace_device *dev, size_t bytes)
{
    ace_device_stats *s = &dev->stats;
    size_t start = s->host_bytes;
    if (!running(dev) || !raised(dev, start, dev->host_limit, bytes, &s->host_bytes)) return NULL;
    if (s->host_bytes > s->host_peak) s->host_peak = s->host_bytes;
    return dev->host ? dev->host + start : NULL;
}

static bool size_of(int64_t rows, int64_t cols, ace_dtype dtype, size_t *bytes)
{
    return rows >= 0 && cols >= 0 && ace_mul_size((size_t)rows, (size_t)cols, bytes) &&
           ace_mul_size(*bytes, ace_dtype_block_bytes(dtype), bytes);
}

ace_mat ace_scratch(ace_device *dev, ace_dtype dtype, int64_t rows, int64_t cols)
{
    ace_mat m = {NULL, dtype, rows, cols, cols};
    size_t bytes = 0;
    bool fits = size_of(rows, cols, dtype, &bytes);
    if (require(dev, fits, "ace_scratch", "an impossible size")) m.data = push(dev, bytes);
    return m;
}

float *ace_scratch_host(ace_device *dev, int64_t count)
{
    size_t bytes = 0;
    bool fits = size_of(1, count, ACE_F32, &bytes);
    if (!require(dev, fits, "ace_scratch_host", "an impossible size")) return NULL;
    return dev->apart ? push_host(dev, bytes) : push(dev, bytes);
}

/* A view that reaches outside its matrix gets a size that no operation accepts. */
static bool inside(int64_t first, int64_t count, int64_t size)
{
    return first >= 0 && count >= 0 && first <= size && count <= size - first;
}

ace_mat ace_rows(ace_mat m, int64_t first, int64_t count)
{
    if (!inside(first, count, m.rows)) return (ace_mat){m.data, m.dtype, -1, m.cols, m.stride};
    if (m.data) m.data = ace_mat_row(m, first);
    m.rows = count;
    return m;
}

ace_mat ace_cols(ace_mat m, int64_t first, int64_t count)
{
    if (!inside(first, count, m.cols)) return (ace_mat){m.data, m.dtype, -1, m.cols, m.stride};
    if (m.data) m.data = (char *)m.data + (size_t)first * ace_mat_element(m);
    m.cols = count;
    return m;
}

ace_mat ace_reshape(ace_mat m, int64_t rows, int64_t cols)
{
    bool possible = m.stride == m.cols && rows * cols == m.rows * m.cols;
    return (ace_mat){m.data, m.dtype, possible ? rows : -1, cols, cols};
}

/* ---- checks -------------------------------------------------------------------------------------------------- */

static bool is(ace_mat m, int64_t rows, int64_t cols)
{
    return m.rows == rows && m.cols == cols && m.stride >= m.cols;
}

static bool f32_or_act(const ace_device *dev, ace_mat m)
{
    return m.dtype == ACE_F32 || m.dtype == dev->act;
}

static bool vector_of(const ace_weight *w, int64_t n)
{
    return !w || (w->desc.kind == ACE_WEIGHT_VECTOR && w->desc.n == n);
}

static bool row_of(ace_mat m, int64_t n)
{
    return m.rows == 0 || (m.dtype == ACE_F32 && is(m, 1, n));
}

static bool snake_fits(const ace_snake_weights *snake, int64_t n)
{
    return snake->alpha && snake->inv_beta && vector_of(snake->alpha, n) && vector_of(snake->inv_beta, n);
}

/* Optional matrices are absent when all zero: the meter's matrices have no data, so rows tell. */
static bool residual_fits(ace_mat m, int64_t rows, int64_t cols)
{
    return m.rows == 0 || (m.dtype == ACE_F32 && is(m, rows, cols));
}

static bool epilogue_fits(const ace_device *dev, const ace_epilogue *e, int64_t rows, int64_t cols)
{
    if (!vector_of(e->bias, cols) || !row_of(e->gate, cols) || !residual_fits(e->residual, rows, cols)) return false;
    if (!e->snake) return true;
    return is(e->act, rows, cols) && f32_or_act(dev, e->act) && snake_fits(e->snake, cols);
}

/* True when the call is to be carried out by the backend. */
static bool proceed(ace_device *dev, bool fits, const char *operation, int64_t rows)
{
    return running(dev) && require(dev, fits && rows >= 0, operation, "matrices that do not fit") && rows > 0 &&
           !dev->meter;
}

/* ---- transfers ----------------------------------------------------------------------------------------------- */

void ace_upload(ace_device *dev, ace_mat y, const float *host)
{
    if (proceed(dev, f32_or_act(dev, y), "ace_upload", y.rows)) dev->ops->upload(dev, y, host);
}

void ace_download(ace_device *dev, float *host, ace_mat x)
{
    if (proceed(dev, f32_or_act(dev, x), "ace_download", x.rows)) dev->ops->download(dev, host, x);
}

/* ---- weights ------------------------------------------------------------------------------------------------- */

ace_dtype ace_weight_stored_dtype(const ace_device *dev, const ace_weight_desc *desc)
{
    switch (desc->kind) {
    case ACE_WEIGHT_PRODUCT:
    case ACE_WEIGHT_GATED:
        return desc->form == ACE_FORM_INT8     ? ACE_I8
               : desc->form == ACE_FORM_INT4   ? ACE_U8
               : desc->form == ACE_FORM_BLOCKS ? desc->blocks
                                               : dev->act;
    case ACE_WEIGHT_TABLE:
        return desc->keep_bf16 || dev->act == ACE_BF16 ? ACE_BF16 : ACE_F32;
    case ACE_WEIGHT_VECTOR:
        break;
    }
    return ACE_F32;
}

/* Whether the form can keep such a weight. */
static bool form_fits(const ace_weight_desc *d)
{
    bool linear = (d->kind == ACE_WEIGHT_PRODUCT || d->kind == ACE_WEIGHT_GATED) && d->taps == 1;
    switch (d->form) {
    case ACE_FORM_PLAIN:
        return true;
    case ACE_FORM_INT8:
        return linear;
    case ACE_FORM_INT4:
        return linear && d->k % 32 == 0;
    case ACE_FORM_BLOCKS:
        return linear &&
               (d->blocks == ACE_Q8_0 || d->blocks == ACE_Q4_K || d->blocks == ACE_Q5_K || d->blocks == ACE_Q6_K) &&
               d->k % ace_dtype_block(d->blocks) == 0;
    }
    return false;
}

ace_weight *ace_weight_new(ace_device *dev, const ace_weight_desc *desc, ace_row_reader reader, void *context)
{
    if (!running(dev)) return NULL;
    /* the bounds keep every product of sizes within 64 bits */
    bool fits = desc->n > 0 && desc->n < INT32_MAX && desc->k > 0 && desc->k < INT32_MAX / 8 && desc->taps > 0 &&
                desc->k % desc->taps == 0 && (desc->kind != ACE_WEIGHT_VECTOR || desc->k == 1) &&
                (desc->kind != ACE_WEIGHT_GATED || desc->n % 2 == 0) && form_fits(desc);
    if (!require(dev, fits, "ace_weight_new", desc->name)) return NULL;
    ace_error *failure = &dev->failure;
    ace_weight *w = ace_calloc(1, sizeof *w, "a weight", failure);
    if (!w) return NULL;
    w->desc = *desc;
    w->desc.name = NULL;
    w->dtype = ace_weight_stored_dtype(dev, desc);
    w->bytes = dev->ops->weight_bytes(dev, desc);
    if (!within_limit(dev, dev->stats.weight_bytes + w->bytes, dev->stats.scratch_held, desc->name, failure)) {
        free(w);
        return NULL;
    }
    if (!dev->meter) {
        w->data = dev->ops->alloc(dev, w->bytes, desc->name, failure);
        if (!w->data || !dev->ops->weight_pack(dev, w, reader, context, failure)) {
            if (w->data) dev->ops->free(dev, w->data);
            free(w);
            return NULL;
        }
    }
    dev->stats.weight_bytes += w->bytes;
    dev->stats.bytes_loaded += (double)w->bytes;
    raise_peak(dev);
    return w;
}

static bool same_description(const ace_weight_desc *a, const ace_weight_desc *b)
{
    return a->kind == b->kind && a->n == b->n && a->k == b->k && a->taps == b->taps && a->keep_bf16 == b->keep_bf16 &&
           a->form == b->form && (a->form != ACE_FORM_BLOCKS || a->blocks == b->blocks);
}

bool ace_weight_refill(ace_device *dev, ace_weight *w, const ace_weight_desc *desc, ace_row_reader reader,
                       void *context)
{
    if (!running(dev) || !same_description(&w->desc, desc)) return false;
    if (!dev->meter && !dev->ops->weight_pack(dev, w, reader, context, &dev->failure)) return false;
    dev->stats.bytes_loaded += (double)w->bytes;
    return true;
}

void ace_weight_free(ace_device *dev, ace_weight *w)
{
    if (!w) return;
    if (w->data) dev->ops->free(dev, w->data);
    dev->stats.weight_bytes -= w->bytes;
    free(w);
}

int64_t ace_weight_n(const ace_weight *weight)
{
    return weight->desc.n;
}

int64_t ace_weight_k(const ace_weight *weight)
{
    return weight->desc.k;
}

/* Scratch on top of the stack for the time of a product, which the meter counts, too. */
static void *product_room(ace_device *dev, const ace_weight *w, int64_t rows)
{
    size_t bytes = rows > 0 ? dev->ops->product_scratch(dev, &w->desc, rows) : 0;
    return bytes > 0 ? push(dev, bytes) : NULL;
}

/* ---- operations ---------------------------------------------------------------------------------------------- */

static void product(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w, const ace_conv *conv,
                    const ace_epilogue *e, const char *name)
{
    static const ace_epilogue nothing;
    if (!e) e = &nothing;
    if (!running(dev) || !require(dev, w && w->desc.kind == ACE_WEIGHT_PRODUCT, name, "no weight")) return;
    int64_t n = w->desc.n, k = w->desc.k;
    bool store = y.rows > 0 || !e->snake;
    int64_t rows = store ? y.rows : e->act.rows;
    bool fits = x.dtype == dev->act && x.cols * w->desc.taps == k && x.stride >= x.cols &&
                (!store || (is(y, rows, n) && f32_or_act(dev, y))) && epilogue_fits(dev, e, rows, n) &&
                conv->stride > 0 && conv->dilation > 0;
    if (running(dev) && fits)
        count_work(dev, 2.0 * (double)rows * (double)n * (double)k,
                   (double)w->bytes + mat_bytes(x) + mat_bytes(y) + mat_bytes(e->residual) + mat_bytes(e->act));
    ace_mark mark = ace_scratch_mark(dev);
    void *room = fits ? product_room(dev, w, rows) : NULL;
    if (proceed(dev, fits, name, rows)) dev->ops->conv1d(dev, y, x, w, conv, e, room);
    ace_scratch_release(dev, mark);
}

void ace_linear(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w, const ace_epilogue *epilogue)
{
    static const ace_conv linear = {.stride = 1, .dilation = 1};
    int64_t rows = y.rows == 0 && epilogue && epilogue->snake ? epilogue->act.rows : y.rows;
    if (!running(dev) ||
        !require(dev, w && w->desc.taps == 1 && x.rows == rows, "ace_linear", "matrices that do not fit"))
        return;
    product(dev, y, x, w, &linear, epilogue, "ace_linear");
}

void ace_conv1d(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w, const ace_conv *conv,
                const ace_epilogue *epilogue)
{
    product(dev, y, x, w, conv, epilogue, "ace_conv1d");
}

void ace_linear_silu_mul(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w)
{
    if (!running(dev) || !require(dev, w && w->desc.kind == ACE_WEIGHT_GATED, "ace_linear_silu_mul", "no gated weight"))
        return;
    bool fits = x.dtype == dev->act && y.dtype == dev->act && is(x, y.rows, w->desc.k) && is(y, y.rows, w->desc.n / 2);
    if (fits)
        count_work(dev, 2.0 * (double)y.rows * (double)w->desc.n * (double)w->desc.k,
                   (double)w->bytes + mat_bytes(x) + mat_bytes(y));
    ace_mark mark = ace_scratch_mark(dev);
    void *room = fits ? product_room(dev, w, y.rows) : NULL;
    if (proceed(dev, fits, "ace_linear_silu_mul", y.rows)) dev->ops->linear_silu_mul(dev, y, x, w, room);
    ace_scratch_release(dev, mark);
}

void ace_snake(ace_device *dev, ace_mat y, ace_mat x, const ace_snake_weights *snake)
{
    bool fits = x.dtype == ACE_F32 && f32_or_act(dev, y) && is(x, y.rows, y.cols) && is(y, y.rows, y.cols) &&
                snake_fits(snake, y.cols);
    count_work(dev, 0, mat_bytes(x) + mat_bytes(y));
    if (proceed(dev, fits, "ace_snake", y.rows)) dev->ops->snake(dev, y, x, snake);
}

void ace_rms_norm(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w, float eps, ace_mat scale, ace_mat shift)
{
    bool fits = w && x.dtype == ACE_F32 && f32_or_act(dev, y) && is(x, y.rows, y.cols) && is(y, y.rows, y.cols) &&
                vector_of(w, y.cols) && row_of(scale, y.cols) && row_of(shift, y.cols);
    count_work(dev, 0, mat_bytes(x) + mat_bytes(y));
    if (proceed(dev, fits, "ace_rms_norm", y.rows)) dev->ops->rms_norm(dev, y, x, w, eps, scale, shift);
}

void ace_head_norm_rope(ace_device *dev, ace_mat x, int head_dim, const ace_weight *w, float eps, ace_mat rope,
                        int64_t first_position)
{
    bool fits = w && f32_or_act(dev, x) && head_dim > 0 && head_dim % 2 == 0 && x.cols % head_dim == 0 &&
                is(x, x.rows, x.cols) && vector_of(w, head_dim) &&
                (rope.rows == 0 || (rope.dtype == ACE_F32 && rope.cols == head_dim && first_position >= 0 &&
                                    first_position + x.rows <= rope.rows));
    count_work(dev, 0, 2 * mat_bytes(x));
    if (proceed(dev, fits, "ace_head_norm_rope", x.rows))
        dev->ops->head_norm_rope(dev, x, head_dim, w, eps, rope, first_position);
}

/* Pairs (i, j) of a query and a key with j - i <= distance: the sum over i of i + distance + 1, kept within 0 and keys.
 */
static double pairs_within(int64_t queries, int64_t keys, int64_t distance)
{
    if (distance >= keys) return (double)queries * (double)keys;
    if (distance < -queries) return 0;
    int64_t first = distance < -1 ? -1 - distance : 0; /* until here 0 */
    int64_t end = keys - 1 - distance;                 /* from here on `keys` */
    if (end > queries) end = queries;
    double slope = (double)(end - first) * (double)(first + end - 1 + 2 * (distance + 1)) / 2;
    return slope + (double)(queries - end) * (double)keys;
}

/* Pairs (query, key) that the mask lets through. */
static double attended(const ace_attention_shape *s, int64_t queries, int64_t keys)
{
    switch (s->mask) {
    case ACE_MASK_BAND:
        return pairs_within(queries, keys, s->radius) - pairs_within(queries, keys, -s->radius - 1);
    case ACE_MASK_CAUSAL:
        return pairs_within(queries, keys, keys - queries);
    case ACE_MASK_FULL:
        break;
    }
    return (double)queries * (double)keys;
}

/* Whether the backend is to read the number in device memory. */
static bool reads_number(const ace_device *dev, ace_number n)
{
    return dev->repeating && n.at.rows == 1 && dev->ops->repeat_begin;
}

static bool number_fits(ace_number n)
{
    return n.value >= 0 && n.value <= 1 << 24 && (n.at.rows == 0 || (n.at.dtype == ACE_F32 && is(n.at, 1, 1)));
}

static void attend(ace_device *dev, ace_mat o, ace_mat q, ace_mat whole_k, ace_mat whole_v,
                   const ace_attention_shape *s, ace_number keys, const char *name)
{
    ace_mat k = ace_rows(whole_k, 0, keys.value), v = ace_rows(whole_v, 0, keys.value);
    int64_t width = (int64_t)s->heads * s->head_dim, kv_width = (int64_t)s->kv_heads * s->head_dim;
    bool fits = o.dtype == dev->act && q.dtype == dev->act && k.dtype == dev->act && v.dtype == dev->act &&
                s->kv_heads > 0 && s->heads % s->kv_heads == 0 && is(q, q.rows, width) && is(o, q.rows, width) &&
                is(k, k.rows, kv_width) && is(v, k.rows, kv_width) && k.rows > 0 &&
                (s->mask != ACE_MASK_CAUSAL || k.rows >= q.rows) && (s->mask != ACE_MASK_BAND || s->radius >= 0);
    if (running(dev) && fits)
        count_work(dev, 4.0 * (double)width * attended(s, q.rows, k.rows),
                   mat_bytes(q) + mat_bytes(k) + mat_bytes(v) + mat_bytes(o));
    if (!proceed(dev, fits, name, q.rows)) return;
    if (reads_number(dev, keys))
        dev->ops->attention_growing(dev, o, q, whole_k, whole_v, s, keys);
    else
        dev->ops->attention(dev, o, q, k, v, s);
}

void ace_attention(ace_device *dev, ace_mat o, ace_mat q, ace_mat k, ace_mat v, const ace_attention_shape *shape)
{
    if (running(dev) && require(dev, k.rows == v.rows, "ace_attention", "matrices that do not fit"))
        attend(dev, o, q, k, v, shape, (ace_number){.value = k.rows}, "ace_attention");
}

void ace_embed(ace_device *dev, ace_mat y, const ace_weight *table, const int32_t *ids, int64_t count)
{
    bool fits = table && table->desc.kind == ACE_WEIGHT_TABLE && f32_or_act(dev, y) && is(y, count, table->desc.k);
    for (int64_t i = 0; fits && i < count && ids; i++) fits = ids[i] >= 0 && ids[i] < table->desc.n;
    count_work(dev, 0, 2 * mat_bytes(y));
    if (proceed(dev, fits && (ids || dev->meter), "ace_embed", count)) dev->ops->embed(dev, y, table, ids, count);
}

void ace_logits(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *table, int64_t first, const int32_t *ids,
                int64_t count)
{
    if (!running(dev) || !require(dev, table && table->desc.kind == ACE_WEIGHT_TABLE, "ace_logits", "no table")) return;
    int64_t n = table->desc.n, k = table->desc.k;
    bool fits = x.dtype == ACE_F32 && y.dtype == ACE_F32 && count >= 0 && is(x, y.rows, k) && is(y, y.rows, count) &&
                (ids || inside(first, count, n));
    for (int64_t i = 0; fits && ids && i < count; i++) fits = ids[i] >= 0 && ids[i] < n;
    if (fits)
        count_work(dev, 2.0 * (double)y.rows * (double)count * (double)k,
                   (double)(count * k) * (double)ace_dtype_block_bytes(table->dtype) + mat_bytes(x) + mat_bytes(y));
    if (proceed(dev, fits, "ace_logits", y.rows) && count > 0) dev->ops->logits(dev, y, x, table, first, ids);
}

bool ace_device_samples(const ace_device *dev)
{
    return dev->samples;
}

void ace_sample(ace_device *dev, ace_mat choices, ace_mat values, ace_mat unconditional, const ace_sampling *s,
                const double *uniform)
{
    bool fits = dev->samples && uniform && choices.dtype == ACE_F32 && values.dtype == ACE_F32 && values.cols >= 1 &&
                values.cols <= ACE_SAMPLE_COLUMNS && is(values, choices.rows, values.cols) &&
                is(choices, choices.rows, 2) && residual_fits(unconditional, values.rows, values.cols) &&
                s->temperature >= 0 && s->top_k >= 0 && s->top_p > 0 && s->top_p <= 1;
    count_work(dev, 0, mat_bytes(values) + mat_bytes(unconditional));
    if (proceed(dev, fits, "ace_sample", values.rows))
        dev->ops->sample(dev, choices, values, unconditional, s, uniform);
}

static bool are_choices(ace_mat m, int64_t rows)
{
    return m.dtype == ACE_F32 && is(m, rows, 2) && rows >= 1;
}

void ace_embed_choices(ace_device *dev, ace_mat y, const ace_weight *table, int64_t first, ace_mat choices)
{
    bool fits = dev->samples && table && table->desc.kind == ACE_WEIGHT_TABLE && f32_or_act(dev, y) &&
                is(y, y.rows, table->desc.k) && are_choices(choices, choices.rows) && y.rows % choices.rows == 0 &&
                first >= 0 && first < table->desc.n;
    count_work(dev, 0, 2 * mat_bytes(y));
    if (proceed(dev, fits, "ace_embed_choices", y.rows)) dev->ops->embed_choices(dev, y, table, first, choices);
}

static bool is_place(const ace_device *dev, int place, int64_t rows)
{
    return dev->samples && place >= 0 && place < ACE_SENDS && rows >= 1 && rows <= ACE_SEND_ROWS;
}

void ace_send_choices(ace_device *dev, int place, ace_mat choices)
{
    bool fits = is_place(dev, place, choices.rows) && are_choices(choices, choices.rows) && choices.stride == 2;
    if (proceed(dev, fits, "ace_send_choices", choices.rows)) dev->ops->send_choices(dev, place, choices);
}

void ace_receive_choices(ace_device *dev, int place, float *host, int64_t rows)
{
    if (proceed(dev, is_place(dev, place, rows), "ace_receive_choices", rows))
        dev->ops->receive_choices(dev, place, host, rows);
}

void ace_copy(ace_device *dev, ace_mat y, ace_mat x)
{
    bool fits = f32_or_act(dev, x) && f32_or_act(dev, y) && is(x, y.rows, y.cols) && is(y, y.rows, y.cols);
    count_work(dev, 0, mat_bytes(x) + mat_bytes(y));
    if (proceed(dev, fits, "ace_copy", y.rows)) dev->ops->copy(dev, y, x);
}

void ace_add(ace_device *dev, ace_mat y, ace_mat a, ace_mat b)
{
    bool fits = y.dtype == ACE_F32 && a.dtype == ACE_F32 && b.dtype == ACE_F32 && is(a, y.rows, y.cols) &&
                is(y, y.rows, y.cols) && (is(b, y.rows, y.cols) || is(b, 1, y.cols));
    count_work(dev, 0, 3 * mat_bytes(y));
    if (proceed(dev, fits, "ace_add", y.rows)) dev->ops->add(dev, y, a, b);
}

void ace_add_vector(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *row)
{
    if (!running(dev) || !require(dev, row && row->desc.kind == ACE_WEIGHT_VECTOR, "ace_add_vector", "no vector"))
        return;
    ace_add(dev, y, x, (ace_mat){row->data, ACE_F32, 1, row->desc.n, row->desc.n});
}

void ace_silu(ace_device *dev, ace_mat y, ace_mat x)
{
    bool fits = x.dtype == ACE_F32 && f32_or_act(dev, y) && is(x, y.rows, y.cols) && is(y, y.rows, y.cols);
    count_work(dev, 0, mat_bytes(x) + mat_bytes(y));
    if (proceed(dev, fits, "ace_silu", y.rows)) dev->ops->silu(dev, y, x);
}

/* ---- steps that come again ----------------------------------------------------------------------------------- */

void ace_repeat_begin(ace_device *dev)
{
    if (!running(dev) || !require(dev, !dev->repeating, "ace_repeat_begin", "a step begun before")) return;
    dev->repeating = true;
    if (dev->ops->repeat_begin) dev->ops->repeat_begin(dev);
}

void ace_repeat_end(ace_device *dev)
{
    if (!dev->repeating) {
        if (running(dev)) require(dev, false, "ace_repeat_end", "no step begun");
        return;
    }
    dev->repeating = false;
    if (dev->ops->repeat_end) dev->ops->repeat_end(dev);
}

void ace_append(ace_device *dev, ace_mat y, ace_mat x, ace_number first)
{
    ace_mat to = ace_rows(y, first.value, x.rows);
    bool fits =
        f32_or_act(dev, x) && f32_or_act(dev, y) && is(to, x.rows, x.cols) && x.stride >= x.cols && number_fits(first);
    count_work(dev, 0, mat_bytes(x) + mat_bytes(to));
    if (!proceed(dev, fits, "ace_append", x.rows)) return;
    if (reads_number(dev, first))
        dev->ops->append(dev, y, x, first);
    else
        dev->ops->copy(dev, to, x);
}

void ace_attention_growing(ace_device *dev, ace_mat o, ace_mat q, ace_mat k, ace_mat v,
                           const ace_attention_shape *shape, ace_number keys)
{
    static const char name[] = "ace_attention_growing";
    if (running(dev) && require(dev, number_fits(keys) && k.rows == v.rows, name, "a number that does not fit"))
        attend(dev, o, q, k, v, shape, keys, name);
}
