/* rows_template.h - the kernels that go along a row, written once in the vocabulary of vector.h.
 *
 * Included by rows_generic.c, rows_avx2.c and rows_avx512.c, each compiled for its instruction set: the functions are
 * static, and the table at the end of each of those files is what the rest of the device sees. */
#include "device/cpu/kernels.h"
#include "device/cpu/vector.h"

#include "device/cpu/few_rows_template.h"
#include "device/cpu/quantised_template.h"

#include "device/cpu/blocks_template.h"

static inline __attribute__((always_inline)) vf snake(vf x, const float *alpha, const float *inv_beta, int64_t n)
{
    vf s = vf_sin_squared(vf_mul(vf_load_n(alpha, n), x));
    return vf_fma(s, vf_load_n(inv_beta, n), x);
}

/* ---- the epilogue of products ------------------------------------------------------------------------------------ */

#define EPILOGUE_INLINE static inline __attribute__((always_inline))

/* What there is to do. */
enum { BIAS = 1, SILU = 2, GATE = 4, RESIDUAL = 8, STORE = 16, SNAKE = 32, Y_BF16 = 64, ACT_BF16 = 128, BYTES = 256 };

/* What it begins with: sums of float32 [rows][32], or (BYTES) of int8. */
typedef struct epilogue_sums {
    const float *c;
    cpu_int8_sums bytes;
} epilogue_sums;

/* The scales of some columns. */
typedef struct epilogue_columns {
    vi offset;
    vf scale;
} epilogue_columns;

EPILOGUE_INLINE epilogue_columns epilogue_columns_of(const epilogue_sums *s, int64_t i, unsigned parts)
{
    epilogue_columns columns = {{0}, vf_set1(0)};
    if (!(parts & BYTES)) return columns;
    memcpy(&columns.offset, s->bytes.columns->offset + i, sizeof columns.offset);
    columns.scale = vf_load_n(s->bytes.columns->scale + i, VF_LANES);
    return columns;
}

/* Columns from i on of row m. */
EPILOGUE_INLINE vf epilogue_load(const epilogue_sums *s, int64_t m, int64_t i, const epilogue_columns *columns,
                                 unsigned parts)
{
    if (!(parts & BYTES)) return vf_load_n(s->c + m * CPU_NR + i, VF_LANES);
    vi sum;
    memcpy(&sum, s->bytes.c + m * CPU_NR + i, sizeof sum);
    return vf_mul(vf_mul(vf_from_int(sum - columns->offset), columns->scale), vf_set1(s->bytes.row_scale[m]));
}

static unsigned epilogue_parts(const cpu_epilogue *e)
{
    unsigned parts = 0;
    if (e->bias) parts |= BIAS;
    if (e->silu) parts |= SILU;
    if (e->gate) parts |= GATE;
    if (e->residual.rows) parts |= RESIDUAL;
    if (e->y.rows) parts |= STORE;
    if (e->y.rows && e->y.dtype == ACE_BF16) parts |= Y_BF16;
    if (e->alpha) parts |= SNAKE;
    if (e->alpha && e->act.dtype == ACE_BF16) parts |= ACT_BF16;
    return parts;
}

EPILOGUE_INLINE void epilogue_store(ace_mat m, bool bf16, int64_t row, int64_t col, vf v, int64_t n)
{
    if (bf16)
        vf_store_bf16((uint16_t *)m.data + row * m.stride + col, v, n);
    else
        vf_store_n((float *)m.data + row * m.stride + col, v, n);
}

/* n columns of a vector, from column `col` of the row on. */
EPILOGUE_INLINE void epilogue_vector(vf p, int64_t row, int64_t col, int64_t n, const cpu_epilogue *e, unsigned parts)
{
    if (parts & BIAS) p = vf_add(p, vf_load_n(e->bias + col, n));
    if (parts & SILU) p = vf_silu(p);
    if (parts & GATE) p = vf_mul(p, vf_load_n(e->gate + col, n));
    if (parts & RESIDUAL) p = vf_add(p, vf_load_n((const float *)e->residual.data + row * e->residual.stride + col, n));
    if (parts & STORE) epilogue_store(e->y, parts & Y_BF16, row, col, p, n);
    if (parts & SNAKE)
        epilogue_store(e->act, parts & ACT_BF16, row, col, snake(p, e->alpha + col, e->inv_beta + col, n), n);
}

/* `whole`: all columns of the vectors are wanted. */
EPILOGUE_INLINE void epilogue_columns_rows(const epilogue_sums *sums, int64_t row, int64_t rows, int64_t col,
                                           int64_t cols, bool whole, const cpu_epilogue *e, unsigned parts)
{
    for (int64_t i = 0; i < cols; i += VF_LANES) {
        const epilogue_columns columns = epilogue_columns_of(sums, i, parts);
        for (int64_t m = 0; m < rows; m++)
            epilogue_vector(epilogue_load(sums, m, i, &columns, parts), row + m, col + i, whole ? VF_LANES : cols - i,
                            e, parts);
    }
}

/* With constant parts nothing is asked for every vector, and the layers' constants stay in registers. */
EPILOGUE_INLINE void epilogue_rows(const epilogue_sums *sums, int64_t row, int64_t rows, int64_t col, int64_t cols,
                                   const cpu_epilogue *shared, unsigned parts)
{
    const cpu_epilogue own = *shared; /* which no store can change */
    const epilogue_sums own_sums = *sums;
    if (cols == CPU_NR)
        epilogue_columns_rows(&own_sums, row, rows, col, CPU_NR, true, &own, parts);
    else
        epilogue_columns_rows(&own_sums, row, rows, col, cols, false, &own, parts);
}

EPILOGUE_INLINE void gated_rows(const epilogue_sums *shared_sums, int64_t row, int64_t rows, int64_t col, int64_t cols,
                                const cpu_epilogue *shared, unsigned parts)
{
    const cpu_epilogue own = *shared, *e = &own;
    const epilogue_sums own_sums = *shared_sums, *sums = &own_sums;
    for (int64_t i = 0; i < cols; i += VF_LANES) {
        const epilogue_columns gate = epilogue_columns_of(sums, i, parts);
        const epilogue_columns up = epilogue_columns_of(sums, CPU_NR / 2 + i, parts);
        for (int64_t m = 0; m < rows; m++) {
            vf p = vf_silu(epilogue_load(sums, m, i, &gate, parts));
            p = vf_mul(p, epilogue_load(sums, m, CPU_NR / 2 + i, &up, parts));
            epilogue_store(e->y, parts & Y_BF16, row + m, col + i, p, cols - i);
        }
    }
}

/* The kinds of epilogue that the models have, each a function of its own, whose constants stay in registers. */
#define EPILOGUE(name, parts)                                                                                     \
    static __attribute__((noinline)) void name(const epilogue_sums *sums, int64_t row, int64_t rows, int64_t col, \
                                               int64_t cols, const cpu_epilogue *e)                               \
    {                                                                                                             \
        epilogue_rows(sums, row, rows, col, cols, e, parts);                                                      \
    }
#define GATED(name, parts)                                                                                        \
    static __attribute__((noinline)) void name(const epilogue_sums *sums, int64_t row, int64_t rows, int64_t col, \
                                               int64_t cols, const cpu_epilogue *e)                               \
    {                                                                                                             \
        gated_rows(sums, row, rows, col, cols, e, parts);                                                         \
    }

EPILOGUE(store_f32, STORE)
EPILOGUE(store_bf16, STORE | Y_BF16)
EPILOGUE(bias_f32, BIAS | STORE)
EPILOGUE(bias_bf16, BIAS | STORE | Y_BF16)
EPILOGUE(residual_f32, RESIDUAL | STORE)
EPILOGUE(gate_residual_f32, GATE | RESIDUAL | STORE)
EPILOGUE(bias_snake, BIAS | SNAKE | ACT_BF16)
EPILOGUE(bias_f32_snake, BIAS | STORE | SNAKE | ACT_BF16)
EPILOGUE(bias_residual_snake, BIAS | RESIDUAL | SNAKE | ACT_BF16)
EPILOGUE(bias_residual_f32_snake, BIAS | RESIDUAL | STORE | SNAKE | ACT_BF16)
GATED(gated_f32, STORE)
GATED(gated_bf16, STORE | Y_BF16)
EPILOGUE(bytes_store_bf16, BYTES | STORE | Y_BF16)
EPILOGUE(bytes_residual_f32, BYTES | RESIDUAL | STORE)
EPILOGUE(bytes_gate_residual_f32, BYTES | GATE | RESIDUAL | STORE)
GATED(bytes_gated_f32, BYTES | STORE)
GATED(bytes_gated_bf16, BYTES | STORE | Y_BF16)

/* Others take the last line, more slowly. */
static void epilogue_tile(const float *c, int64_t row, int64_t rows, int64_t col, int64_t cols, const cpu_epilogue *e)
{
    const epilogue_sums sums = {.c = c};
    unsigned parts = epilogue_parts(e);
    if (e->gated) {
        (parts & Y_BF16 ? gated_bf16 : gated_f32)(&sums, row, rows, col, cols, e);
        return;
    }
    switch (parts) {
    case STORE:
        store_f32(&sums, row, rows, col, cols, e);
        break;
    case STORE | Y_BF16:
        store_bf16(&sums, row, rows, col, cols, e);
        break;
    case BIAS | STORE:
        bias_f32(&sums, row, rows, col, cols, e);
        break;
    case BIAS | STORE | Y_BF16:
        bias_bf16(&sums, row, rows, col, cols, e);
        break;
    case RESIDUAL | STORE:
        residual_f32(&sums, row, rows, col, cols, e);
        break;
    case GATE | RESIDUAL | STORE:
        gate_residual_f32(&sums, row, rows, col, cols, e);
        break;
    case BIAS | SNAKE | ACT_BF16:
        bias_snake(&sums, row, rows, col, cols, e);
        break;
    case BIAS | STORE | SNAKE | ACT_BF16:
        bias_f32_snake(&sums, row, rows, col, cols, e);
        break;
    case BIAS | RESIDUAL | SNAKE | ACT_BF16:
        bias_residual_snake(&sums, row, rows, col, cols, e);
        break;
    case BIAS | RESIDUAL | STORE | SNAKE | ACT_BF16:
        bias_residual_f32_snake(&sums, row, rows, col, cols, e);
        break;
    default:
        epilogue_rows(&sums, row, rows, col, cols, e, parts);
    }
}

static void epilogue_bytes(const cpu_int8_sums *bytes, int64_t row, int64_t rows, int64_t col, int64_t cols,
                           const cpu_epilogue *e)
{
    const epilogue_sums sums = {.bytes = *bytes};
    unsigned parts = epilogue_parts(e);
    if (e->gated) {
        (parts & Y_BF16 ? bytes_gated_bf16 : bytes_gated_f32)(&sums, row, rows, col, cols, e);
        return;
    }
    switch (parts) {
    case STORE | Y_BF16:
        bytes_store_bf16(&sums, row, rows, col, cols, e);
        break;
    case RESIDUAL | STORE:
        bytes_residual_f32(&sums, row, rows, col, cols, e);
        break;
    case GATE | RESIDUAL | STORE:
        bytes_gate_residual_f32(&sums, row, rows, col, cols, e);
        break;
    default:
        epilogue_rows(&sums, row, rows, col, cols, e, BYTES | parts);
    }
}

/* ---- along a row ------------------------------------------------------------------------------------------------- */

static void expand_panel(float *panel, const uint16_t *pairs, int taps, int64_t length)
{
    for (int tap = 0; tap < taps; tap++)
        for (int64_t k = 0; k < length; k += 2, pairs += 2 * CPU_NR) {
            bool both = k + 1 < length;
            for (int i = 0; i < CPU_NR; i += VF_LANES) {
                vf_store_n(panel + i, vf_load_even(pairs + 2 * i), VF_LANES);
                if (both) vf_store_n(panel + CPU_NR + i, vf_load_odd(pairs + 2 * i), VF_LANES);
            }
            panel += both ? 2 * CPU_NR : CPU_NR;
        }
}

static void convert_row(void *y, ace_dtype to, const void *x, ace_dtype from, int64_t n)
{
    for (int64_t i = 0; i < n; i += VF_LANES) vf_store_as(y, to, i, vf_load_as(x, from, i, n - i), n - i);
}

static void snake_row(void *y, ace_dtype to, const float *x, const float *alpha, const float *inv_beta, int64_t n)
{
    for (int64_t i = 0; i < n; i += VF_LANES)
        vf_store_as(y, to, i, snake(vf_load_n(x + i, n - i), alpha + i, inv_beta + i, n - i), n - i);
}

/* 1 / sqrt(mean(x^2) + eps), in four interleaved sums to keep rounding small and the pipeline full. */
static float inverse_rms(const void *x, ace_dtype dtype, float eps, int64_t n)
{
    vf sums[4] = {vf_set1(0), vf_set1(0), vf_set1(0), vf_set1(0)};
    for (int64_t i = 0; i < n; i += 4 * VF_LANES)
        for (int j = 0; j < 4 && i + j * VF_LANES < n; j++) {
            vf v = vf_load_as(x, dtype, i + j * VF_LANES, n - i - j * VF_LANES);
            sums[j] = vf_fma(v, v, sums[j]);
        }
    float sum = vf_sum(vf_add(vf_add(sums[0], sums[2]), vf_add(sums[1], sums[3])));
    return 1.0f / sqrtf(sum / (float)n + eps);
}

static void rms_norm_row(void *y, ace_dtype to, const float *x, const float *w, float eps, const float *scale,
                         const float *shift, int64_t n)
{
    vf factor = vf_set1(inverse_rms(x, ACE_F32, eps, n));
    for (int64_t i = 0; i < n; i += VF_LANES) {
        vf v = vf_mul(vf_mul(vf_load_n(x + i, n - i), factor), vf_load_n(w + i, n - i));
        if (scale) v = vf_fma(v, vf_load_n(scale + i, n - i), v);
        if (shift) v = vf_add(v, vf_load_n(shift + i, n - i));
        vf_store_as(y, to, i, v, n - i);
    }
}

static void head_norm_rope_row(void *x, ace_dtype dtype, const float *w, float eps, const float *angles, int64_t n)
{
    vf factor = vf_set1(inverse_rms(x, dtype, eps, n));
    int64_t half = n / 2;
    for (int64_t i = 0; i < half; i += VF_LANES) {
        int64_t left = half - i;
        vf a = vf_mul(vf_mul(vf_load_as(x, dtype, i, left), factor), vf_load_n(w + i, left));
        vf b = vf_mul(vf_mul(vf_load_as(x, dtype, half + i, left), factor), vf_load_n(w + half + i, left));
        if (angles) {
            vf cosine = vf_load_n(angles + i, left), sine = vf_load_n(angles + half + i, left);
            vf turned = vf_fnma(b, sine, vf_mul(a, cosine));
            b = vf_fma(a, sine, vf_mul(b, cosine));
            a = turned;
        }
        vf_store_as(x, dtype, i, a, left);
        vf_store_as(x, dtype, half + i, b, left);
    }
}

static void add_row(float *y, const float *a, const float *b, int64_t n)
{
    for (int64_t i = 0; i < n; i += VF_LANES)
        vf_store_n(y + i, vf_add(vf_load_n(a + i, n - i), vf_load_n(b + i, n - i)), n - i);
}

static void silu_row(void *y, ace_dtype to, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += VF_LANES) vf_store_as(y, to, i, vf_silu(vf_load_n(x + i, n - i)), n - i);
}

static void scale_row(void *y, ace_dtype to, const float *x, float factor, int64_t n)
{
    for (int64_t i = 0; i < n; i += VF_LANES)
        vf_store_as(y, to, i, vf_mul(vf_load_n(x + i, n - i), vf_set1(factor)), n - i);
}

static void pack_keys(float *panel, const void *k, ace_dtype dtype, int64_t stride, int64_t count, int64_t n)
{
    for (int64_t i = 0; i < n; i += VF_LANES)
        for (int64_t j = 0; j < CPU_NR; j += VF_LANES) {
            vf block[VF_LANES];
            for (int64_t row = 0; row < VF_LANES; row++)
                block[row] = j + row < count ? vf_load_as(k, dtype, (j + row) * stride + i, n - i) : vf_set1(0);
            vf_transpose(block);
            for (int64_t row = 0; row < VF_LANES && i + row < n; row++)
                vf_store_n(panel + (i + row) * CPU_NR + j, block[row], VF_LANES);
        }
}

static void pack_values(float *panels, const void *v, ace_dtype dtype, int64_t stride, int64_t count, int64_t rows,
                        int64_t n)
{
    for (int64_t first = 0; first < n; first += CPU_NR, panels += rows * CPU_NR)
        for (int64_t j = 0; j < rows; j++)
            for (int64_t i = 0; i < CPU_NR; i += VF_LANES) {
                int64_t left = j < count ? n - first - i : 0;
                vf row = left > 0 ? vf_load_as(v, dtype, j * stride + first + i, left) : vf_set1(0);
                vf_store_n(panels + j * CPU_NR + i, row, VF_LANES);
            }
}

/* Online softmax (Milakov and Gimelshein 2018). A maximum of -infinity means that nothing was attended yet; subtracting
 * 0 instead keeps exp(-infinity) = 0 and avoids infinity - infinity. */
static float softmax_row(float *s, float *maximum, float *sum)
{
    vf highest = vf_load_n(s, VF_LANES);
    for (int i = VF_LANES; i < CPU_KEYS; i += VF_LANES) highest = vf_max(vf_load_n(s + i, VF_LANES), highest);
    float before = *maximum, now = vf_highest(highest);
    if (!(now > before)) now = before;
    float base = now == -INFINITY ? 0.0f : now;
    vf total = vf_set1(0);
    for (int i = 0; i < CPU_KEYS; i += VF_LANES) {
        vf p = vf_exp(vf_sub(vf_load_n(s + i, VF_LANES), vf_set1(base)));
        vf_store_n(s + i, p, VF_LANES);
        total = vf_add(total, p);
    }
    float factor[VF_LANES];
    vf_store_n(factor, vf_exp(vf_set1(before - base)), VF_LANES);
    *maximum = now;
    *sum = *sum * factor[0] + vf_sum(total);
    return factor[0];
}

/* The fields of cpu_kernels that come from this file. */
#define ROW_KERNELS                                                                                                   \
    .expand = expand_panel, .epilogue = epilogue_tile, .epilogue_int8 = epilogue_bytes, .convert = convert_row,       \
    .snake = snake_row, .rms_norm = rms_norm_row, .head_norm_rope = head_norm_rope_row, .add = add_row,               \
    .silu = silu_row, .keys_pack = pack_keys, .values_pack = pack_values, .softmax = softmax_row, .scale = scale_row, \
    .gemm_pairs = gemm_pairs, .dots = dots_block, .keys_pairs = keys_pairs, .values_add = values_add,                 \
    .quantised = &quantised_kernels
