/* quantise.c - from rows of a matrix to the panels of a quantised weight: see quantised.h.
 *
 * A task makes one panel. The rows of its 32 columns wait in the workspace, already in 8 bits or in blocks, until they
 * are all there and can be turned into columns. */
#include "device/cpu/cpu.h"

#include "base/error.h"

#include <math.h>
#include <string.h>

/* What a thread works on. The rows that wait lie at the beginning of its workspace, behind them what is being read. */
typedef struct making {
    cpu_packing *p;
    const cpu_backend *cpu;
    const ace_weight_desc *desc;
    uint8_t *waiting; /* [32][stride] */
    int64_t stride;   /* bytes of a row there */
    float *values;    /* of rows that are read */
    int64_t at_once;  /* how many of them there is room for */
    float *scale;     /* of columns in 8 bits */
} making;

static bool is_int8(const ace_weight_desc *d)
{
    return d->form == ACE_FORM_INT8;
}

/* Bytes of a row in blocks. */
static int64_t blocks_bytes(const ace_weight_desc *d)
{
    if (d->form == ACE_FORM_INT4) return d->k / CPU_EXPAND * CPU_INT4_BYTES;
    return d->k / ace_dtype_block(d->blocks) * (int64_t)ace_dtype_block_bytes(d->blocks);
}

size_t cpu_quantised_panel_bytes(const ace_weight_desc *d)
{
    if (is_int8(d)) return (size_t)cpu_slabs(d->k) * CPU_SLAB_BYTES + sizeof(cpu_int8_columns);
    return (size_t)blocks_bytes(d) * CPU_NR;
}

/* Never reached with a healthy reader; a weight that is not a number must not become one. */
static bool refuse(making *m, int64_t row, const char *what)
{
    ace_error error = {0};
    ace_fail(&error, ACE_ERROR_MODEL, "row %lld of a weight %s: it cannot be quantised", (long long)row, what);
    return cpu_packing_fail(m->p, &error);
}

/* A GGUF block's scales in half precision: their bytes in the block. */
static int half_scales(ace_dtype blocks, int at[2])
{
    at[0] = blocks == ACE_Q6_K ? 208 : 0;
    at[1] = 2;
    return blocks == ACE_Q4_K || blocks == ACE_Q5_K ? 2 : 1;
}

static bool blocks_are_finite(const ace_weight_desc *d, const uint8_t *row)
{
    int at[2], count = half_scales(d->blocks, at);
    int64_t size = (int64_t)ace_dtype_block_bytes(d->blocks);
    for (int64_t i = 0; i < blocks_bytes(d); i += size)
        for (int j = 0; j < count; j++)
            if ((row[i + at[j] + 1] & 0x7c) == 0x7c) return false;
    return true;
}

/* Rows [first, first + count) of the matrix become columns from `column` on. */
static bool wait_for_blocks(making *m, int64_t first, int64_t count, int64_t column)
{
    uint8_t *rows = m->waiting + column * m->stride;
    if (!cpu_packing_read(m->p, first, count, m->desc->blocks, rows)) return false;
    for (int64_t i = 0; i < count; i++)
        if (!blocks_are_finite(m->desc, rows + i * m->stride)) return refuse(m, first + i, "has an infinite scale");
    return true;
}

static bool wait_for_values(making *m, int64_t first, int64_t count, int64_t column)
{
    const cpu_quantised *q = m->cpu->kernels->quantised;
    int64_t k = m->desc->k;
    for (int64_t done = 0; done < count; done += m->at_once) {
        int64_t now = cpu_min(m->at_once, count - done);
        if (!cpu_packing_read(m->p, first + done, now, ACE_F32, m->values)) return false;
        for (int64_t i = 0; i < now; i++) {
            uint8_t *row = m->waiting + (column + done + i) * m->stride;
            const float *values = m->values + i * k;
            if (is_int8(m->desc)) {
                float scale = m->scale[column + done + i] = q->row(row, CPU_SLAB, false, values, ACE_F32, k);
                if (!isfinite(scale)) return refuse(m, first + done + i, "has a value that is not finite");
            } else if (!q->groups(row, values, k)) {
                return refuse(m, first + done + i, "has a value that is not finite");
            }
        }
    }
    return true;
}

static bool wait_for_rows(making *m, int64_t first, int64_t count, int64_t column)
{
    return m->desc->form == ACE_FORM_BLOCKS ? wait_for_blocks(m, first, count, column)
                                            : wait_for_values(m, first, count, column);
}

/* Byte i of all rows side by side, 64 bytes of each row at a time. */
static void blocks_to_planes(uint8_t *planes, const making *m)
{
    for (int64_t i0 = 0; i0 < m->stride; i0 += 64)
        for (int64_t col = 0; col < CPU_NR; col++)
            for (int64_t i = i0; i < cpu_min(i0 + 64, m->stride); i++)
                planes[i * CPU_NR + col] = m->waiting[col * m->stride + i];
}

static void fill_panel(const making *m, void *panel)
{
    if (!is_int8(m->desc)) {
        blocks_to_planes(panel, m);
        return;
    }
    int64_t slabs = cpu_slabs(m->desc->k);
    cpu_int8_columns columns;
    memcpy(columns.scale, m->scale, sizeof columns.scale);
    m->cpu->kernels->quantised->pack(panel, columns.offset, m->waiting, m->stride, slabs);
    memcpy((char *)panel + slabs * CPU_SLAB_BYTES, &columns, sizeof columns);
}

bool cpu_quantise_panel(cpu_packing *p, const cpu_backend *cpu, const ace_weight_desc *d, int64_t index, void *panel,
                        int worker)
{
    float scale[CPU_NR] = {0};
    int64_t stride = is_int8(d) ? cpu_slabs(d->k) * CPU_SLAB : blocks_bytes(d);
    making m = {.p = p, .cpu = cpu, .desc = d, .waiting = cpu_workspace(cpu, worker), .stride = stride, .scale = scale};
    m.values = (float *)(void *)(m.waiting + CPU_NR * stride);
    m.at_once = cpu_min(CPU_NR, (CPU_WORKSPACE - CPU_NR * stride) / (d->k * (int64_t)sizeof(float)));
    bool gated = d->kind == ACE_WEIGHT_GATED;
    int64_t columns = cpu_panel_cols(d->kind), features = gated ? d->n / 2 : d->n;
    int64_t first = index * columns, count = cpu_min(columns, features - first);
    if (count < columns) memset(m.waiting, is_int8(d) ? CPU_INT8_ZERO : 0, (size_t)(CPU_NR * stride));
    if (!wait_for_rows(&m, first, count, 0)) return false;
    if (gated && !wait_for_rows(&m, features + first, count, CPU_NR / 2)) return false;
    fill_panel(&m, panel);
    return true;
}
