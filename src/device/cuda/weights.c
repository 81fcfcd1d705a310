/* weights.c - reading weights and laying them out as gpu.h wants them.
 *
 * A weight is made piece by piece: threads read rows and pack them into a slot of host memory, from which they are
 * copied while the next slot is filled. Values and scales of INT8 and INT4 are made by the loops that make them for the
 * CPU: the same numbers. */
#include "base/error.h"
#include "base/memory.h"
#include "device/cpu/cpu.h"
#include "device/cuda/half.h"
#include "device/cuda/state.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    TURN = 8,               /* rows of gate, then as many of up */
    UNIT = 2 * TURN,        /* rows that are packed together: those that INT4 is made of at a time */
    TASK_BYTES = 256 << 10, /* of a task, more or less */
    INT4_GROUP = 32,
    INT4_GROUP_BYTES = 16,
    ZEROS_OF_INT4 = 0x88
};

/* ---- layout -------------------------------------------------------------------------------------------------- */

/* Rows as they are stored. Tables and vectors are plain rows, too, of k values. */
typedef struct layout {
    int64_t rows, channels, padded;
    int taps;
    size_t row_bytes, scale_bytes, exponent_bytes, element;
    gpu_form form;
    bool gated;
} layout;

static gpu_form form_of(const ace_weight_desc *d, ace_dtype dtype)
{
    switch (dtype) {
    case ACE_I8:
        return GPU_INT8;
    case ACE_Q8_0:
        return GPU_Q8_0;
    case ACE_Q4_K:
        return GPU_Q4_K;
    case ACE_Q5_K:
        return GPU_Q5_K;
    case ACE_Q6_K:
        return GPU_Q6_K;
    default:
        return d->form == ACE_FORM_INT4 ? GPU_INT4 : dtype == ACE_BF16 ? GPU_PLAIN_BF16 : GPU_PLAIN_F32;
    }
}

/* Whether products with the weight are of half, with an exponent for each row. */
static bool is_half(const ace_device *dev, gpu_form form)
{
    return cuda_of(dev)->properties.capability[0] < 8 && dev->act == ACE_BF16 && form != GPU_INT8;
}

static layout layout_of(const ace_device *dev, const ace_weight_desc *d)
{
    ace_dtype dtype = ace_weight_stored_dtype(dev, d);
    layout l = {.rows = d->n, .taps = d->taps, .form = form_of(d, dtype), .element = ace_dtype_block_bytes(dtype)};
    if (d->kind == ACE_WEIGHT_TABLE || d->kind == ACE_WEIGHT_VECTOR) {
        l.taps = 1;
        l.channels = l.padded = d->k;
        l.row_bytes = (size_t)d->k * l.element;
        return l;
    }
    if (is_half(dev, l.form)) {
        l.exponent_bytes = sizeof(int32_t);
        if (l.form == GPU_PLAIN_BF16) l.form = GPU_PLAIN_F16;
    }
    l.gated = d->kind == ACE_WEIGHT_GATED;
    if (l.gated) l.rows = (int64_t)cuda_up((size_t)d->n / 2, TURN) * 2;
    l.channels = d->k / d->taps;
    l.padded = (int64_t)cuda_up((size_t)l.channels, GPU_K_TILE);
    switch (l.form) {
    case GPU_INT4:
        l.row_bytes = (size_t)l.padded / INT4_GROUP * INT4_GROUP_BYTES;
        l.scale_bytes = (size_t)l.padded / INT4_GROUP * sizeof(uint16_t);
        break;
    case GPU_INT8:
        l.row_bytes = (size_t)l.padded;
        l.scale_bytes = sizeof(float);
        break;
    case GPU_PLAIN_F32:
    case GPU_PLAIN_BF16:
    case GPU_PLAIN_F16:
        l.row_bytes = (size_t)(l.taps * l.padded) * l.element;
        break;
    default: /* blocks */
        l.row_bytes = cuda_up((size_t)(d->k / ace_dtype_block(dtype)) * l.element, 16);
    }
    return l;
}

/* Bytes of a row, all that belongs to it included. */
static size_t bytes_of_stored_row(const layout *l)
{
    return l->row_bytes + l->scale_bytes + l->exponent_bytes;
}

size_t cuda_weight_bytes(const ace_device *dev, const ace_weight_desc *desc)
{
    layout l = layout_of(dev, desc);
    return cuda_up((size_t)l.rows * bytes_of_stored_row(&l), HEAP_ALIGN);
}

gpu_weight cuda_weight_of(const ace_device *dev, const ace_weight_desc *desc, const void *data)
{
    layout l = layout_of(dev, desc);
    const char *scales = data ? (const char *)data + (size_t)l.rows * l.row_bytes : NULL;
    const void *exponents = data ? scales + (size_t)l.rows * l.scale_bytes : NULL;
    return (gpu_weight){.data = data,
                        .scales = l.scale_bytes ? scales : NULL,
                        .exponents = l.exponent_bytes ? exponents : NULL,
                        .row_bytes = l.row_bytes,
                        .n = desc->n,
                        .channels = l.channels,
                        .padded = l.padded,
                        .taps = l.taps,
                        .gated = l.gated,
                        .form = l.form};
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

typedef struct packing {
    cuda_backend *c;
    const ace_weight *w;
    layout l;
    ace_row_reader reader;
    void *context;
    /* the piece that is made: rows [first, first + count) as they are stored */
    int64_t first, count, per_task;
    char *values, *scales; /* in the slot */
    int32_t *exponents;
    atomic_bool failed;
    pthread_mutex_t lock; /* of the error */
    ace_error error;
} packing;

static bool fail_packing(packing *p, const ace_error *error)
{
    pthread_mutex_lock(&p->lock);
    if (p->error.status == ACE_OK) p->error = *error;
    if (p->error.status == ACE_OK) ace_fail(&p->error, ACE_ERROR_IO, "a weight cannot be read");
    pthread_mutex_unlock(&p->lock);
    atomic_store(&p->failed, true);
    return false;
}

/* Readers refuse such weights themselves. Should one not, no number must be made of what is none. `stored` is the
 * number of the row as it is stored. */
static bool refuse(packing *p, int64_t stored, const char *what)
{
    ace_error error = {0};
    int64_t row = stored, half = stored / TURN % 2;
    if (p->l.gated) row = half * (p->w->desc.n / 2) + stored / (2 * TURN) * TURN + stored % TURN;
    ace_fail(&error, ACE_ERROR_MODEL, "row %lld of a weight %s: it cannot be quantised", (long long)row, what);
    return fail_packing(p, &error);
}

static bool read_rows(packing *p, int64_t first, int64_t count, ace_dtype dtype, void *rows)
{
    ace_error error = {0};
    return p->reader(p->context, first, count, dtype, rows, &error) || fail_packing(p, &error);
}

static size_t bytes_of_rows(const packing *p, int64_t count, ace_dtype dtype)
{
    return (size_t)(count * p->w->desc.k / ace_dtype_block(dtype)) * ace_dtype_block_bytes(dtype);
}

/* Reads up to a unit of rows as they are stored, from the first of a unit on; those that the matrix lacks are zeros. */
static bool read_unit(packing *p, int64_t first, int64_t count, ace_dtype dtype, char *rows)
{
    if (!p->l.gated) return read_rows(p, first, count, dtype, rows);
    int64_t features = p->w->desc.n / 2, feature = first / 2;
    int64_t has = features - feature < TURN ? features - feature : TURN;
    for (int half = 0; half < 2; half++, rows += bytes_of_rows(p, TURN, dtype)) {
        if (!read_rows(p, half * features + feature, has, dtype, rows)) return false;
        memset(rows + bytes_of_rows(p, has, dtype), 0, bytes_of_rows(p, TURN - has, dtype));
    }
    return true;
}

/* ---- packing ------------------------------------------------------------------------------------------------- */

static void pack_plain(const layout *l, char *to, const char *row)
{
    size_t bytes = (size_t)l->channels * l->element, padded = (size_t)l->padded * l->element;
    for (int tap = 0; tap < l->taps; tap++, row += bytes, to += padded) {
        memcpy(to, row, bytes);
        memset(to + bytes, 0, padded - bytes);
    }
}

static int32_t pack_half(const layout *l, char *to, const char *row)
{
    int32_t exponent = half_exponent((const uint16_t *)(const void *)row, l->taps * l->channels);
    size_t bytes = (size_t)l->channels * l->element, padded = (size_t)l->padded * l->element;
    for (int tap = 0; tap < l->taps; tap++, row += bytes, to += padded) {
        half_row((uint16_t *)(void *)to, (const uint16_t *)(const void *)row, l->channels, exponent);
        memset(to + bytes, 0, padded - bytes);
    }
    return exponent;
}

/* `stored`, here and below: the number of the first row as they are stored. */
static bool pack_blocks(packing *p, int64_t stored, char *to, const char *row)
{
    size_t bytes = bytes_of_rows(p, 1, p->w->dtype);
    if (!cpu_scales_are_finite(&p->w->desc, (const uint8_t *)row)) return refuse(p, stored, "has an infinite scale");
    memcpy(to, row, bytes);
    memset(to + bytes, 0, p->l.row_bytes - bytes);
    return true;
}

/* The loop makes bytes that are 128 higher. */
static bool pack_int8(packing *p, int64_t stored, char *to, float *scale, const float *row)
{
    p->c->quantised->rows(to, CPU_SLAB, false, row, p->l.channels, ACE_F32, p->l.channels, 1, scale);
    if (!isfinite(*scale)) return refuse(p, stored, "has a value that is not finite");
    for (int64_t k = 0; k < p->l.padded; k++) to[k] = (char)(to[k] ^ CPU_INT8_ZERO);
    return true;
}

/* A unit of rows. The loop makes columns of blocks: [k / 32][18 bytes][32 columns], of which the first 16 are ours. */
static bool pack_int4(packing *p, int64_t stored, char *to, uint16_t *scales, float *rows, int64_t count,
                      uint8_t *planes)
{
    int64_t k = p->l.channels, groups = k / INT4_GROUP, all = p->l.padded / INT4_GROUP;
    for (int64_t r = 0; r < count; r++)
        if (!p->c->quantised->finite(rows + r * k, k)) return refuse(p, stored + r, "has a value that is not finite");
    memset(rows + count * k, 0, (size_t)((UNIT - count) * k) * sizeof *rows);
    p->c->quantised->groups(planes, rows, k);
    for (int64_t r = 0; r < count; r++)
        for (int64_t g = 0; g < all; g++) {
            char *bytes = to + (size_t)r * p->l.row_bytes + g * INT4_GROUP_BYTES;
            const uint8_t *block = planes + g * CPU_INT4_BYTES * CPU_NR + r;
            if (g >= groups) {
                scales[r * all + g] = 0;
                memset(bytes, ZEROS_OF_INT4, INT4_GROUP_BYTES);
                continue;
            }
            scales[r * all + g] = (uint16_t)(block[0] | block[CPU_NR] << 8);
            for (int i = 0; i < INT4_GROUP_BYTES; i++) bytes[i] = (char)block[(2 + i) * CPU_NR];
        }
    return true;
}

/* The type in which rows are read to be packed. */
static ace_dtype read_as(const packing *p)
{
    return p->l.form == GPU_INT8 || p->l.form == GPU_INT4 ? ACE_F32 : p->w->dtype;
}

static size_t workspace_bytes(const packing *p)
{
    size_t planes = p->l.form == GPU_INT4 ? (size_t)(p->l.channels / INT4_GROUP) * CPU_INT4_BYTES * CPU_NR : 0;
    return cuda_up(bytes_of_rows(p, UNIT, read_as(p)), 64) + cuda_up(planes, 64);
}

/* The exponents of rows that are not half before they are expanded. */
static void pack_exponents(const packing *p, int32_t *to, const char *values, const char *scales, int64_t count)
{
    const layout *l = &p->l;
    int64_t groups = (int64_t)(l->scale_bytes / sizeof(uint16_t)), blocks = l->channels / ace_dtype_block(p->w->dtype);
    for (int64_t r = 0; r < count; r++, values += l->row_bytes, scales += l->scale_bytes)
        to[r] = l->form == GPU_INT4 ? half_exponent_of_int4((const uint16_t *)(const void *)scales, groups)
                                    : half_exponent_of_blocks(p->w->dtype, (const uint8_t *)values, l->taps * blocks);
}

/* `count` rows from number `at` of the piece on. */
static bool pack_rows(packing *p, int64_t at, int64_t count, int worker)
{
    const layout *l = &p->l;
    ace_dtype dtype = read_as(p);
    size_t bytes = bytes_of_rows(p, 1, dtype);
    char *rows = p->c->rows + (size_t)worker * p->c->rows_bytes, *to = p->values + (size_t)at * l->row_bytes;
    char *scales = p->scales + (size_t)at * l->scale_bytes;
    if (!read_unit(p, p->first + at, count, dtype, rows)) return false;
    if (l->form == GPU_INT4)
        return pack_int4(p, p->first + at, to, (uint16_t *)(void *)scales, (float *)(void *)rows, count,
                         (uint8_t *)rows + cuda_up((size_t)UNIT * bytes, 64));
    for (int64_t r = 0; r < count; r++, rows += bytes, to += l->row_bytes, scales += l->scale_bytes) {
        if (l->form == GPU_PLAIN_F32 || l->form == GPU_PLAIN_BF16)
            pack_plain(l, to, rows);
        else if (l->form == GPU_PLAIN_F16)
            p->exponents[at + r] = pack_half(l, to, rows);
        else if (l->form != GPU_INT8 && !pack_blocks(p, p->first + at + r, to, rows))
            return false;
        else if (l->form == GPU_INT8 &&
                 !pack_int8(p, p->first + at + r, to, (float *)(void *)scales, (const float *)(const void *)rows))
            return false;
    }
    return true;
}

static bool pack_unit(packing *p, int64_t at, int64_t count, int worker)
{
    const layout *l = &p->l;
    if (!pack_rows(p, at, count, worker)) return false;
    if (l->exponent_bytes && l->form != GPU_PLAIN_F16)
        pack_exponents(p, p->exponents + at, p->values + (size_t)at * l->row_bytes,
                       p->scales + (size_t)at * l->scale_bytes, count);
    return true;
}

/* Rows that are stored just as they are read. */
static bool is_direct(const layout *l)
{
    return (l->form == GPU_PLAIN_F32 || l->form == GPU_PLAIN_BF16) && l->padded == l->channels && !l->gated;
}

static void pack_task(void *context, int64_t index, int worker)
{
    packing *p = context;
    int64_t first = index * p->per_task, end = first + p->per_task < p->count ? first + p->per_task : p->count;
    if (atomic_load(&p->failed)) return;
    if (is_direct(&p->l)) {
        read_rows(p, p->first + first, end - first, p->w->dtype, p->values + (size_t)first * p->l.row_bytes);
        return;
    }
    for (int64_t at = first; at < end; at += UNIT)
        if (!pack_unit(p, at, end - at < UNIT ? end - at : UNIT, worker)) return;
}

/* ---- pieces -------------------------------------------------------------------------------------------------- */

static bool make_workspace(packing *p, ace_error *error)
{
    cuda_backend *c = p->c;
    size_t bytes = is_direct(&p->l) ? 0 : workspace_bytes(p);
    if (bytes <= c->rows_bytes) return true;
    free(c->rows);
    c->rows_bytes = 0;
    c->rows = ace_alloc_aligned((size_t)ace_pool_threads(c->pool) * bytes, 64, "rows of weights", error);
    if (c->rows) c->rows_bytes = bytes;
    return c->rows != NULL;
}

/* Makes a piece in a slot and queues the copies. */
static bool load_piece(ace_device *dev, packing *p)
{
    const layout *l = &p->l;
    cuda_backend *c = p->c;
    size_t values = (size_t)p->count * l->row_bytes, scales = (size_t)p->count * l->scale_bytes;
    size_t exponents = (size_t)p->count * l->exponent_bytes;
    p->values = cuda_stage(dev, &c->loading, cuda_up(values, 64) + scales + exponents);
    if (!p->values) return false;
    p->scales = p->values + cuda_up(values, 64);
    p->exponents = (int32_t *)(void *)(p->scales + scales);
    ace_pool_run(c->pool, (p->count + p->per_task - 1) / p->per_task, pack_task, p, dev->stop);
    if (dev->stop && atomic_load_explicit(dev->stop, memory_order_relaxed))
        return ace_fail(&dev->failure, ACE_CANCELLED, "stopped");
    if (atomic_load(&p->failed)) return false;
    char *to = (char *)p->w->data + (size_t)p->first * l->row_bytes;
    char *scales_to = (char *)p->w->data + (size_t)l->rows * l->row_bytes + (size_t)p->first * l->scale_bytes;
    char *exponents_to =
        (char *)p->w->data + (size_t)l->rows * (l->row_bytes + l->scale_bytes) + (size_t)p->first * l->exponent_bytes;
    c->arriving = true;
    int error = c->gpu->copy_in(c->copy, to, p->values, values);
    if (!error && scales > 0) error = c->gpu->copy_in(c->copy, scales_to, p->scales, scales);
    if (!error && exponents > 0) error = c->gpu->copy_in(c->copy, exponents_to, p->exponents, exponents);
    return cuda_check(dev, error, "while a weight was copied to it");
}

static bool load_pieces(ace_device *dev, packing *p)
{
    size_t row = bytes_of_stored_row(&p->l);
    int64_t most = (int64_t)((p->c->loading.bytes - 64) / row), unit = is_direct(&p->l) ? 1 : UNIT;
    most -= most % unit;
    p->per_task = (int64_t)((TASK_BYTES / row + unit) / unit) * unit;
    for (p->first = 0; p->first < p->l.rows; p->first += p->count) {
        p->count = p->l.rows - p->first < most ? p->l.rows - p->first : most;
        if (!load_piece(dev, p)) return false;
    }
    return true;
}

static bool is_too_wide(const packing *p)
{
    bool int8 = p->l.form == GPU_INT8;
    return bytes_of_stored_row(&p->l) * UNIT + 64 > p->c->loading.bytes || (int8 && p->w->desc.k > CPU_INT8_MOST_K);
}

bool cuda_weight_pack(ace_device *dev, ace_weight *w, ace_row_reader reader, void *context, ace_error *error)
{
    cuda_backend *c = cuda_of(dev);
    packing p = {.c = c, .w = w, .l = layout_of(dev, &w->desc), .reader = reader, .context = context};
    if (is_too_wide(&p))
        return ace_fail(error, ACE_ERROR_MODEL, "a weight with rows of %lld values is too wide for this program",
                        (long long)w->desc.k);
    heap_own(c->heap, (size_t)((char *)w->data - c->weights), w);
    if (!make_workspace(&p, error)) return false;
    uint64_t used = w->used > c->freed ? w->used : c->freed;
    pthread_mutex_init(&p.lock, NULL);
    bool ok = cuda_copy_after(dev, used > c->loose_used ? used : c->loose_used) && load_pieces(dev, &p);
    pthread_mutex_destroy(&p.lock);
    if (ok) return true;
    if (p.error.status != ACE_OK) return ace_fail(error, p.error.status, "%s", p.error.message);
    return ace_fail(error, dev->failure.status, "%s", dev->failure.message);
}
