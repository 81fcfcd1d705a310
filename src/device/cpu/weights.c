/* weights.c - reading weights and laying them out for the matrix kernel.
 *
 * PRODUCT and GATED weights are stored as panels of 32 output columns, so that the kernel reads each panel from its
 * first byte to its last. In a panel, with C = k / taps channels:
 *   F32   [taps][C][32]
 *   BF16  [taps][ceil(C / 2)][32][2]: the pairs that AVX512-BF16 and AMX multiply, an odd last channel with a zero;
 *         for AMX, C is filled up with zeros to the 32 of a tile
 * A GATED panel holds 16 gate columns, then the 16 up columns of the same features. Columns past the end are zero. */
#include "base/error.h"
#include "device/cpu/cpu.h"

#include <pthread.h>
#include <stdlib.h>

enum { TASK_BYTES = 1 << 20 }; /* rows of a table or vector read by one task */

/* Values that a column of a panel has for a tap. */
static int64_t values_per_tap(const cpu_backend *cpu, ace_dtype dtype, int64_t channels)
{
    int64_t multiple = dtype != ACE_BF16 ? 1 : cpu->kernels->tiles ? CPU_TILE : 2;
    return cpu_divide_up(channels, multiple) * multiple;
}

size_t cpu_panel_bytes(const cpu_backend *cpu, ace_dtype dtype, int64_t k, int taps)
{
    return (size_t)(taps * values_per_tap(cpu, dtype, k / taps)) * CPU_NR * ace_dtype_block_bytes(dtype);
}

static bool is_packed(ace_weight_kind kind)
{
    return kind == ACE_WEIGHT_PRODUCT || kind == ACE_WEIGHT_GATED;
}

static int64_t panel_count(const ace_weight_desc *d)
{
    return d->kind == ACE_WEIGHT_GATED ? cpu_divide_up(d->n / 2, CPU_NR / 2) : cpu_divide_up(d->n, CPU_NR);
}

size_t cpu_weight_bytes(const ace_device *dev, const ace_weight_desc *desc)
{
    ace_dtype dtype = ace_weight_stored_dtype(dev, desc);
    if (desc->form != ACE_FORM_PLAIN) return (size_t)panel_count(desc) * cpu_quantised_panel_bytes(desc);
    if (is_packed(desc->kind))
        return (size_t)panel_count(desc) * cpu_panel_bytes(cpu_of(dev), dtype, desc->k, desc->taps);
    return (size_t)desc->n * (size_t)desc->k * ace_dtype_block_bytes(dtype);
}

struct cpu_packing {
    const cpu_backend *cpu;
    ace_weight *w;
    ace_row_reader reader;
    void *context;
    int64_t rows_per_task; /* of a table or vector */
    atomic_bool failed;
    pthread_mutex_t lock; /* of the error */
    ace_error error;
};

bool cpu_packing_read(cpu_packing *p, int64_t first, int64_t count, ace_dtype dtype, void *rows)
{
    ace_error error = {0};
    return p->reader(p->context, first, count, dtype, rows, &error) || cpu_packing_fail(p, &error);
}

bool cpu_packing_fail(cpu_packing *p, const ace_error *error)
{
    pthread_mutex_lock(&p->lock);
    if (p->error.status == ACE_OK) p->error = *error;
    if (p->error.status == ACE_OK) ace_fail(&p->error, ACE_ERROR_IO, "a weight cannot be read");
    pthread_mutex_unlock(&p->lock);
    atomic_store(&p->failed, true);
    return false;
}

/* `count` rows of k values go to the columns of the panel from `column` on. Blocks of 16 values: their lines of the
 * panel stay in the first-level cache until every row has written its part. */
static void scatter_f32(float *panel, int column, const float *rows, int64_t count, int64_t k)
{
    for (int64_t k0 = 0; k0 < k; k0 += 16) {
        int64_t k1 = cpu_min(k0 + 16, k);
        for (int64_t r = 0; r < count; r++)
            for (int64_t i = k0; i < k1; i++) panel[i * CPU_NR + column + r] = rows[r * k + i];
    }
}

/* `count` rows of 16 pairs each. */
static void scatter_16_pairs(uint16_t *panel, const uint16_t *rows, int64_t count, int64_t k)
{
    for (int64_t r = 0; r < count; r++)
        for (int64_t p = 0; p < 16; p++) {
            uint32_t pair;
            memcpy(&pair, rows + r * k + 2 * p, sizeof pair);
            memcpy(panel + (p * CPU_NR + r) * 2, &pair, sizeof pair);
        }
}

/* `pairs` per tap, of which those past the channels are zero. */
static void scatter_bf16(uint16_t *panel, int column, const uint16_t *rows, int64_t count, int64_t k, int taps,
                         int64_t pairs)
{
    int64_t channels = k / taps;
    for (int tap = 0; tap < taps; tap++, rows += channels, panel += pairs * CPU_NR * 2)
        for (int64_t p0 = 0; p0 < pairs; p0 += 16) {
            if (2 * (p0 + 16) <= channels) {
                scatter_16_pairs(panel + (p0 * CPU_NR + column) * 2, rows + 2 * p0, count, k);
                continue;
            }
            for (int64_t r = 0; r < count; r++)
                for (int64_t p = p0; p < cpu_min(p0 + 16, pairs); p++) {
                    const uint16_t *x = rows + r * k + 2 * p;
                    uint16_t *pair = panel + (p * CPU_NR + column + r) * 2;
                    pair[0] = 2 * p < channels ? x[0] : 0;
                    pair[1] = 2 * p + 1 < channels ? x[1] : 0;
                }
        }
}

/* Reads rows [first, first + count) into the panel's columns from `column` on, as many at a time as the workspace
 * holds. */
static bool pack_columns(cpu_packing *p, void *panel, int column, int64_t first, int64_t count, int worker)
{
    const ace_weight_desc *d = &p->w->desc;
    void *rows = cpu_workspace(p->cpu, worker);
    int64_t pairs = values_per_tap(p->cpu, p->w->dtype, d->k / d->taps) / 2;
    int64_t at_once = CPU_WORKSPACE / (d->k * (int64_t)ace_dtype_block_bytes(p->w->dtype));
    for (int64_t done = 0; done < count; done += at_once) {
        int64_t now = cpu_min(at_once, count - done);
        if (!cpu_packing_read(p, first + done, now, p->w->dtype, rows)) return false;
        if (p->w->dtype == ACE_BF16)
            scatter_bf16(panel, column + (int)done, rows, now, d->k, d->taps, pairs);
        else
            scatter_f32(panel, column + (int)done, rows, now, d->k);
    }
    return true;
}

static void panel_task(void *context, int64_t index, int worker)
{
    cpu_packing *p = context;
    if (atomic_load(&p->failed)) return;
    const ace_weight_desc *d = &p->w->desc;
    if (d->form != ACE_FORM_PLAIN) {
        cpu_quantise_panel(p, p->cpu, d, index, (char *)p->w->data + (size_t)index * cpu_quantised_panel_bytes(d),
                           worker);
        return;
    }
    size_t bytes = cpu_panel_bytes(p->cpu, p->w->dtype, d->k, d->taps);
    char *panel = (char *)p->w->data + (size_t)index * bytes;
    int64_t columns = cpu_panel_cols(d->kind), features = d->kind == ACE_WEIGHT_GATED ? d->n / 2 : d->n;
    int64_t first = index * columns, count = cpu_min(columns, features - first);
    if (count < columns) memset(panel, 0, bytes);
    if (!pack_columns(p, panel, 0, first, count, worker)) return;
    if (d->kind == ACE_WEIGHT_GATED) pack_columns(p, panel, CPU_NR / 2, features + first, count, worker);
}

static void rows_task(void *context, int64_t index, int worker)
{
    cpu_packing *p = context;
    (void)worker;
    if (atomic_load(&p->failed)) return;
    int64_t first = index * p->rows_per_task, count = cpu_min(p->rows_per_task, p->w->desc.n - first);
    size_t row = (size_t)p->w->desc.k * ace_dtype_block_bytes(p->w->dtype);
    cpu_packing_read(p, first, count, p->w->dtype, (char *)p->w->data + (size_t)first * row);
}

bool cpu_weight_pack(ace_device *dev, ace_weight *w, ace_row_reader reader, void *context, ace_error *error)
{
    int64_t row = w->desc.k * (int64_t)ace_dtype_block_bytes(w->dtype);
    bool wide = w->desc.form == ACE_FORM_PLAIN ? row > CPU_WORKSPACE : w->desc.k > cpu_quantised_most_k(&w->desc);
    if (is_packed(w->desc.kind) && wide)
        return ace_fail(error, ACE_ERROR_MODEL, "a weight with rows of %lld values is too wide for this program",
                        (long long)w->desc.k);
    cpu_packing p = {.cpu = cpu_of(dev), .w = w, .reader = reader, .context = context};
    pthread_mutex_init(&p.lock, NULL);
    if (is_packed(w->desc.kind)) {
        cpu_run(dev, panel_count(&w->desc), panel_task, &p);
    } else {
        p.rows_per_task = cpu_max(1, TASK_BYTES / row);
        cpu_run(dev, cpu_divide_up(w->desc.n, p.rows_per_task), rows_task, &p);
    }
    pthread_mutex_destroy(&p.lock);
    if (p.error.status != ACE_OK) return ace_fail(error, p.error.status, "%s", p.error.message);
    return dev->failure.status == ACE_OK; /* stopped */
}
