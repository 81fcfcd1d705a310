/* quantise.c - from rows of a matrix to the panels of a quantised weight: see quantised.h.
 *
 * A task makes one panel. The rows of its 32 columns wait in the workspace until they are all there and can be turned
 * into columns: already in 8 bits, or in the file's blocks, or, for 4 bits, as they were read. */
#include "device/cpu/cpu.h"

#include "base/error.h"

#include <math.h>
#include <string.h>

/* What a thread works on. */
typedef struct making {
    cpu_packing *p;
    const cpu_quantised *kernels;
    const ace_weight_desc *desc;
    uint8_t *waiting; /* [32][stride]; 4 bits: [16][stride] */
    int64_t stride;   /* bytes of a row there */
    float *values;    /* 8 bits: behind them rows that are read, */
    int64_t at_once;  /* as many as there is room for, */
    float *scale;     /* and the scales of the columns */
} making;

/* Bytes of a row in blocks. */
static int64_t blocks_bytes(const ace_weight_desc *d)
{
    if (d->form == ACE_FORM_INT4) return d->k / CPU_EXPAND * CPU_INT4_BYTES;
    return d->k / ace_dtype_block(d->blocks) * (int64_t)ace_dtype_block_bytes(d->blocks);
}

size_t cpu_quantised_panel_bytes(const ace_weight_desc *d)
{
    if (d->form == ACE_FORM_INT8) return (size_t)cpu_slabs(d->k) * CPU_SLAB_BYTES + sizeof(cpu_int8_columns);
    return (size_t)blocks_bytes(d) * CPU_NR;
}

int64_t cpu_quantised_most_k(const ace_weight_desc *d)
{
    if (d->form == ACE_FORM_INT4) return CPU_WORKSPACE / (CPU_INT4_ROWS * (int64_t)sizeof(float));
    return CPU_INT8_MOST_K;
}

/* Readers refuse such weights themselves. Should one not, no number must be made of what is none. */
static bool refuse(making *m, int64_t row, const char *what)
{
    ace_error error = {0};
    ace_fail(&error, ACE_ERROR_MODEL, "row %lld of a weight %s: it cannot be quantised", (long long)row, what);
    return cpu_packing_fail(m->p, &error);
}

/* ---- the file's blocks ------------------------------------------------------------------------------------------- */

static bool is_finite_half(const uint8_t *half)
{
    return (half[1] & 0x7c) != 0x7c;
}

bool cpu_scales_are_finite(const ace_weight_desc *d, const uint8_t *row)
{
    bool two = d->blocks == ACE_Q4_K || d->blocks == ACE_Q5_K;
    int64_t size = (int64_t)ace_dtype_block_bytes(d->blocks), at = d->blocks == ACE_Q6_K ? 208 : 0;
    for (const uint8_t *block = row; block < row + blocks_bytes(d); block += size)
        if (!is_finite_half(block + at) || (two && !is_finite_half(block + 2))) return false;
    return true;
}

/* Rows [first, first + count) of the matrix become columns from `column` on. */
static bool wait_for_blocks(making *m, int64_t first, int64_t count, int64_t column)
{
    uint8_t *rows = m->waiting + column * m->stride;
    if (!cpu_packing_read(m->p, first, count, m->desc->blocks, rows)) return false;
    for (int64_t i = 0; i < count; i++)
        if (!cpu_scales_are_finite(m->desc, rows + i * m->stride)) return refuse(m, first + i, "has an infinite scale");
    return true;
}

/* Byte i of all rows side by side, 64 bytes of each row at a time. */
static void blocks_to_planes(const making *m, void *panel)
{
    uint8_t *planes = panel;
    for (int64_t i0 = 0; i0 < m->stride; i0 += 64)
        for (int64_t col = 0; col < CPU_NR; col++)
            for (int64_t i = i0; i < cpu_min(i0 + 64, m->stride); i++)
                planes[i * CPU_NR + col] = m->waiting[col * m->stride + i];
}

/* ---- 4 bits ------------------------------------------------------------------------------------------------------ */

/* Rows of the matrix become half a panel's columns, missing ones zeros. */
static bool make_groups(making *m, int64_t first, int64_t count, uint8_t *planes)
{
    float *rows = (float *)(void *)m->waiting;
    int64_t k = m->desc->k;
    if (count > 0 && !cpu_packing_read(m->p, first, count, ACE_F32, rows)) return false;
    for (int64_t i = 0; i < count; i++)
        if (!m->kernels->finite(rows + i * k, k)) return refuse(m, first + i, "has a value that is not finite");
    memset(rows + count * k, 0, (size_t)((CPU_INT4_ROWS - count) * k) * sizeof *rows);
    m->kernels->groups(planes, rows, k);
    return true;
}

/* ---- 8 bits ------------------------------------------------------------------------------------------------------ */

static bool wait_for_bytes(making *m, int64_t first, int64_t count, int64_t column)
{
    int64_t k = m->desc->k;
    for (int64_t done = 0; done < count; done += m->at_once) {
        int64_t now = cpu_min(m->at_once, count - done);
        if (!cpu_packing_read(m->p, first + done, now, ACE_F32, m->values)) return false;
        for (int64_t i = 0; i < now; i++) {
            int64_t col = column + done + i;
            m->kernels->rows(m->waiting + col * m->stride, CPU_SLAB, false, m->values + i * k, k, ACE_F32, k, 1,
                             &m->scale[col]);
            if (!isfinite(m->scale[col])) return refuse(m, first + done + i, "has a value that is not finite");
        }
    }
    return true;
}

static void bytes_to_panel(const making *m, char *panel)
{
    int64_t slabs = cpu_slabs(m->desc->k);
    cpu_int8_columns columns;
    memcpy(columns.scale, m->scale, sizeof columns.scale);
    m->kernels->pack((int8_t *)panel, columns.offset, m->waiting, m->stride, slabs);
    memcpy(panel + slabs * CPU_SLAB_BYTES, &columns, sizeof columns);
}

/* ------------------------------------------------------------------------------------------------------------------ */

/* A panel's columns are rows [first, first + count) of the matrix; of a GATED one, `up` is the first of as many more.
 */
static bool make_panel(making *m, int64_t first, int64_t count, bool gated, int64_t up, void *panel)
{
    int64_t half = CPU_NR / 2;
    if (m->desc->form == ACE_FORM_INT4) {
        uint8_t *planes = panel;
        int64_t left = cpu_min(count, half);
        return make_groups(m, first, left, planes) &&
               make_groups(m, gated ? up : first + half, gated ? left : count - left, planes + half);
    }
    bool int8 = m->desc->form == ACE_FORM_INT8;
    bool (*wait)(making *, int64_t, int64_t, int64_t) = int8 ? wait_for_bytes : wait_for_blocks;
    if (count < (gated ? half : CPU_NR)) memset(m->waiting, int8 ? CPU_INT8_ZERO : 0, (size_t)(CPU_NR * m->stride));
    if (!wait(m, first, count, 0) || (gated && !wait(m, up, count, half))) return false;
    if (int8)
        bytes_to_panel(m, panel);
    else
        blocks_to_planes(m, panel);
    return true;
}

bool cpu_quantise_panel(cpu_packing *p, const cpu_backend *cpu, const ace_weight_desc *d, int64_t index, void *panel,
                        int worker)
{
    float scale[CPU_NR] = {0};
    int64_t stride = d->form == ACE_FORM_INT8 ? cpu_slabs(d->k) * CPU_SLAB : blocks_bytes(d);
    making m = {.p = p,
                .kernels = cpu->kernels->quantised,
                .desc = d,
                .waiting = cpu_workspace(cpu, worker),
                .stride = stride,
                .scale = scale};
    m.values = (float *)(void *)(m.waiting + CPU_NR * stride);
    m.at_once = (CPU_WORKSPACE - CPU_NR * stride) / (d->k * (int64_t)sizeof(float));
    bool gated = d->kind == ACE_WEIGHT_GATED;
    int64_t columns = cpu_panel_cols(d->kind), features = gated ? d->n / 2 : d->n, first = index * columns;
    return make_panel(&m, first, cpu_min(columns, features - first), gated, features + first, panel);
}
