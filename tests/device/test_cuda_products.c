/* The GPU's products, kernel by kernel, on the emulated GPU: every form of weight against double precision, all kernels
 * against each other bit by bit, few rows against many. Matrices are allocated exactly, so that a sanitizer sees
 * what reads or writes beside them. */
#include "base/dtype.h"
#include "device/cuda/emulation/emulated_gpu.h"
#include "device/cuda/kernels/product.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const float CANARY = -12345.0f;

/* ---- the emulated GPU -------------------------------------------------------------------------------------------- */

typedef struct machine {
    const gpu *g;
    gpu_context *context;
    gpu_stream *stream;
    int capability;
} machine;

static void must_work(const machine *m, int error)
{
    if (error) fail_msg("%s", m->g->message(error));
}

static machine open_machine(int capability, gpu_emulated_order order)
{
    gpu_emulated_settings settings = gpu_emulated_defaults();
    settings.capability[0] = capability / 10;
    settings.capability[1] = capability % 10;
    settings.order = order;
    settings.seed = 7;
    gpu_emulated_set(&settings);
    machine m = {.g = gpu_emulated(), .capability = capability};
    gpu_properties properties;
    must_work(&m, m.g->open(0, &m.context, &properties));
    must_work(&m, m.g->stream_open(m.context, &m.stream));
    return m;
}

static void close_machine(machine *m)
{
    m->g->stream_close(m->stream);
    m->g->close(m->context);
}

/* ---- random things ------------------------------------------------------------------------------------------------
 */

static uint64_t random_bits(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u; /* SplitMix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static int64_t random_int(uint64_t *state, int64_t low, int64_t high)
{
    return low + (int64_t)(random_bits(state) % (uint64_t)(high - low + 1));
}

static float random_float(uint64_t *state, float low, float high)
{
    return low + (high - low) * ((float)(random_bits(state) >> 40) * 0x1p-24f);
}

static void *must(void *p)
{
    if (!p) fail_msg("no memory for the test");
    return p;
}

/* From malloc(), which may be one whose memory a GPU can use. */
static void *zeros(size_t bytes)
{
    return memset(must(malloc(bytes)), 0, bytes);
}

static float stored(float v, gpu_type type)
{
    return type == GPU_BF16 ? ace_bf16_to_f32(ace_f32_to_bf16(v)) : v;
}

/* rows x cols, allocated exactly; of one half all rows start at addresses divisible by 16, of the other they may start
 * anywhere. Canary between the rows. `values` may be NULL: all canary. */
typedef struct matrix {
    char *memory;
    gpu_mat mat;
} matrix;

static void put(const gpu_mat *m, int64_t row, int64_t col, float v)
{
    int64_t at = row * m->stride + col;
    if (m->type == GPU_BF16)
        ((uint16_t *)m->data)[at] = ace_f32_to_bf16(v);
    else
        ((float *)m->data)[at] = v;
}

static float get(const gpu_mat *m, int64_t row, int64_t col)
{
    int64_t at = row * m->stride + col;
    return m->type == GPU_BF16 ? ace_bf16_to_f32(((uint16_t *)m->data)[at]) : ((float *)m->data)[at];
}

static matrix new_matrix(uint64_t *r, gpu_type type, int64_t rows, int64_t cols, float *values)
{
    size_t element = type == GPU_BF16 ? 2 : 4;
    int64_t left = 0, stride = cols + random_int(r, 0, 9);
    if (random_int(r, 0, 1)) { /* half of all are aligned */
        left = random_int(r, 0, 7);
    } else {
        stride = (stride + 7) / 8 * 8;
    }
    size_t bytes = (size_t)((rows - 1) * stride + cols + left) * element;
    matrix m = {.memory = must(malloc(bytes))}; /* which malloc aligns to 16 */
    m.mat = (gpu_mat){m.memory + (size_t)left * element, rows, cols, stride, type};
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < stride && i * stride + j < (rows - 1) * stride + cols; j++)
            put(&m.mat, i, j, values && j < cols ? values[i * cols + j] : CANARY);
    return m;
}

static void check_fence(const matrix *m)
{
    for (int64_t i = 0; i + 1 < m->mat.rows; i++)
        for (int64_t j = m->mat.cols; j < m->mat.stride; j++)
            if (get(&m->mat, i, j) != stored(CANARY, m->mat.type)) fail_msg("written beside a matrix, row %d", (int)i);
}

static float *random_values(uint64_t *r, int64_t count, float low, float high, gpu_type type)
{
    float *v = must(malloc((size_t)(count + 1) * sizeof *v));
    for (int64_t i = 0; i < count; i++) v[i] = stored(random_float(r, low, high), type);
    return v;
}

/* ---- weights ------------------------------------------------------------------------------------------------------
 */

typedef struct weight {
    gpu_weight w;
    char *data, *scales;
    int32_t *exponents;
    double *values; /* [n][taps * channels] as they are multiplied; INT8: without the scale */
    int64_t k;
} weight;

static int64_t up(int64_t a, int64_t b)
{
    return (a + b - 1) / b * b;
}

/* Where row n of the matrix stands: gate rows are 0 .. F-1, up rows F .. 2F-1. */
static int64_t place_of(const gpu_weight *w, int64_t n)
{
    int64_t f = w->n / 2;
    if (!w->gated) return n;
    int64_t i = n < f ? n : n - f;
    return i / 8 * 16 + i % 8 + (n < f ? 0 : 8);
}

static double half(const uint8_t *b)
{
    return ace_f16_to_f32((uint16_t)(b[0] | b[1] << 8));
}

/* One value of a block as GGUF defines it, rounded as float32 arithmetic does. */
static float block_value(gpu_form form, const uint8_t *b, int i)
{
    if (form == GPU_Q8_0) return (float)half(b) * (float)(int8_t)b[2 + i];
    if (form == GPU_Q6_K) {
        int quarter = i % 128 / 32, l = i % 32;
        int low = b[64 * (i / 128) + 32 * (quarter % 2) + l] >> (quarter < 2 ? 0 : 4) & 15;
        int high = b[128 + 32 * (i / 128) + l] >> 2 * quarter & 3;
        return (float)(half(b + 208) * (int8_t)b[192 + i / 16]) * (float)((low | high << 4) - 32);
    }
    const uint8_t *s = b + 4, *nibbles = b + (form == GPU_Q5_K ? 48 : 16);
    int j = i / 32, l = i % 32;
    int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
    int minimum = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4;
    int q = nibbles[32 * (j / 2) + l] >> (j % 2 ? 4 : 0) & 15;
    if (form == GPU_Q5_K) q += 16 * (b[16 + l] >> j & 1);
    return (float)(half(b) * scale * q - half(b + 2) * minimum);
}

static void fill_plain(uint64_t *r, weight *w, gpu_type type)
{
    size_t element = type == GPU_BF16 ? 2 : 4;
    for (int64_t n = 0; n < w->w.n; n++)
        for (int tap = 0; tap < w->w.taps; tap++)
            for (int64_t c = 0; c < w->w.channels; c++) {
                float v = stored(random_float(r, -1, 1), type);
                char *at =
                    w->data + (size_t)place_of(&w->w, n) * w->w.row_bytes + (size_t)(tap * w->w.padded + c) * element;
                uint16_t rounded = ace_f32_to_bf16(v);
                memcpy(at, type == GPU_BF16 ? (void *)&rounded : (void *)&v, element);
                w->values[n * w->k + tap * w->w.channels + c] = v;
            }
}

/* To nearest even, as IEEE 754 says. */
static uint16_t half_bits(double v)
{
    unsigned sign = signbit(v) ? 0x8000 : 0;
    if (isnan(v)) return 0x7e00;
    if (isinf(v)) return (uint16_t)(sign | 0x7c00);
    int e = v == 0 || ilogb(v) < -14 ? -14 : ilogb(v);
    unsigned units = (unsigned)nearbyint(ldexp(fabs(v), 10 - e)); /* 1024 .. 2048 of normal values */
    unsigned bits = units < 1024 ? units : (unsigned)(e + 15) * 1024 + units - 1024;
    if (bits > 0x7bff) fail_msg("%g is too much for half", v);
    return (uint16_t)(sign | bits);
}

/* What a row needs where it is multiplied as half. */
static int exponent_of(const double *row, int64_t k)
{
    double most = 0;
    for (int64_t i = 0; i < k; i++) most = isfinite(row[i]) ? fmax(most, fabs(row[i])) : INFINITY;
    int exponent = most > 0 ? 15 - (isinf(most) ? 128 : ilogb(most)) : 126;
    return exponent < 126 ? exponent : 126;
}

/* Gives the rows exponents, and plain ones the values as half, times 2^exponent. */
static void make_half(weight *w, int64_t rows)
{
    w->w.exponents = w->exponents = zeros((size_t)rows * sizeof *w->exponents);
    if (w->w.form == GPU_PLAIN_BF16) w->w.form = GPU_PLAIN_F16;
    for (int64_t n = 0; n < w->w.n; n++) {
        const double *row = w->values + n * w->k;
        int exponent = w->exponents[place_of(&w->w, n)] = exponent_of(row, w->k);
        if (w->w.form != GPU_PLAIN_F16) continue;
        for (int64_t i = 0; i < w->k; i++) {
            int64_t at = i / w->w.channels * w->w.padded + i % w->w.channels;
            ((uint16_t *)(void *)(w->data + (size_t)place_of(&w->w, n) * w->w.row_bytes))[at] =
                half_bits(ldexp(row[i], exponent));
        }
    }
}

static void fill_int8(uint64_t *r, weight *w, int64_t rows)
{
    w->scales = zeros((size_t)rows * sizeof(float));
    for (int64_t n = 0; n < w->w.n; n++) {
        ((float *)(void *)w->scales)[place_of(&w->w, n)] = random_float(r, 0.001f, 0.02f);
        for (int64_t c = 0; c < w->k; c++) {
            int v = (int)random_int(r, -127, 127);
            w->data[(size_t)place_of(&w->w, n) * w->w.row_bytes + (size_t)c] = (char)v;
            w->values[n * w->k + c] = v;
        }
    }
}

static void fill_int4(uint64_t *r, weight *w, int64_t rows)
{
    int64_t groups = w->w.padded / 32;
    w->scales = zeros((size_t)(rows * groups) * 2);
    for (int64_t n = 0; n < w->w.n; n++)
        for (int64_t c = 0; c < w->k; c += 32) {
            /* of five significant bits, as device.h has them */
            float scale =
                ldexpf((float)random_int(r, 16, 31), (int)random_int(r, -9, -6)) * (random_int(r, 0, 1) ? 1.0f : -1.0f);
            ((uint16_t *)(void *)w->scales)[place_of(&w->w, n) * groups + c / 32] = ace_f32_to_bf16(scale);
            for (int i = 0; i < 32; i++) {
                int q = (int)random_int(r, -8, 7);
                w->data[(size_t)place_of(&w->w, n) * w->w.row_bytes + (size_t)(c + i) / 2] |=
                    (char)((q + 8) << (i % 2 ? 4 : 0));
                w->values[n * w->k + c + i] = (double)scale * q;
            }
        }
}

static void fill_blocks(uint64_t *r, weight *w, gpu_type x, int block, int bytes)
{
    gpu_form form = w->w.form;
    for (int64_t n = 0; n < w->w.n; n++)
        for (int64_t i = 0; i < w->k / block; i++) {
            uint8_t *b = (uint8_t *)w->data + (size_t)place_of(&w->w, n) * w->w.row_bytes + i * bytes;
            for (int j = 0; j < bytes; j++) b[j] = (uint8_t)random_bits(r);
            uint8_t *high =
                b + (form == GPU_Q6_K ? 209 : 1); /* halves between 2^-11 and 2^-6, now and then subnormal */
            *high = (uint8_t)((*high & 0x83) | (random_int(r, 0, 19) ? random_int(r, 4, 8) << 2 : 0));
            if (form == GPU_Q4_K || form == GPU_Q5_K) b[3] = (uint8_t)((b[3] & 0x83) | 0x18);
            for (int j = 0; j < block; j++) w->values[n * w->k + i * block + j] = stored(block_value(form, b, j), x);
        }
}

static weight new_weight(uint64_t *r, gpu_form form, gpu_type x, int64_t n, int64_t channels, int taps, bool gated,
                         bool half)
{
    static const int values[] = {1, 1, 1, 1, 32, 32, 256, 256, 256}, bytes[] = {4, 2, 2, 1, 16, 34, 144, 176, 210};
    int block = values[form];
    channels = up(channels, block);
    bool blocks = form >= GPU_Q8_0;
    weight w = {.w = {.n = n, .channels = channels, .padded = blocks ? channels : up(channels, GPU_K_TILE)},
                .k = channels * taps};
    w.w.taps = taps;
    w.w.gated = gated;
    w.w.form = form;
    w.w.row_bytes = (size_t)up(taps * w.w.padded / block * bytes[form], 16);
    int64_t rows = gated ? up(n / 2, 8) * 2 : n;
    w.w.data = w.data = zeros((size_t)rows * w.w.row_bytes);
    w.values = must(malloc((size_t)(n * w.k) * sizeof *w.values));
    if (form == GPU_PLAIN_F32 || form == GPU_PLAIN_BF16)
        fill_plain(r, &w, form == GPU_PLAIN_BF16 ? GPU_BF16 : GPU_F32);
    else if (form == GPU_INT8)
        fill_int8(r, &w, rows);
    else if (form == GPU_INT4)
        fill_int4(r, &w, rows);
    else
        fill_blocks(r, &w, x, block, bytes[form]);
    w.w.scales = w.scales;
    if (half && form != GPU_INT8 && x == GPU_BF16) make_half(&w, rows);
    return w;
}

static void drop_weight(weight *w)
{
    free(w->data);
    free(w->scales);
    free(w->exponents);
    free(w->values);
}

/* ---- a product and what it must be --------------------------------------------------------------------------------
 */

typedef struct product_case {
    gpu_form form;
    gpu_type type; /* of x */
    int64_t rows, x_rows, channels, n;
    int taps;
    bool gated, half; /* the latter: bfloat16 is multiplied as half */
    int64_t x_first, out_first;
    int stride, dilation, padding;
    unsigned parts; /* of the epilogue */
} product_case;

enum { BIAS = 1, SILU = 2, GATE = 4, RESIDUAL = 8, SNAKE = 16, STORE = 32, Y_BF16 = 64, ACT_BF16 = 128 };

typedef struct product_data {
    product_case c;
    weight w;
    matrix x, residual, y, act;
    float *values, *bias, *gate, *alpha, *inv_beta, *added;
    int64_t cols;
} product_data;

static product_data new_product(uint64_t *r, product_case c)
{
    product_data d = {.c = c};
    d.w = new_weight(r, c.form, c.type, c.n, c.channels, c.taps, c.gated, c.half);
    d.c.channels = d.w.w.channels;
    d.cols = c.gated ? c.n / 2 : c.n;
    d.values = random_values(r, c.x_rows * d.c.channels, -1, 1, c.type);
    d.x = new_matrix(r, c.type, c.x_rows, d.c.channels, d.values);
    d.y = new_matrix(r, c.parts & Y_BF16 ? GPU_BF16 : GPU_F32, c.rows, d.cols, NULL);
    d.act = new_matrix(r, c.parts & ACT_BF16 ? GPU_BF16 : GPU_F32, c.rows, d.cols, NULL);
    d.bias = random_values(r, d.cols, -2, 2, GPU_F32);
    d.gate = random_values(r, d.cols, -2, 2, GPU_F32);
    d.alpha = random_values(r, d.cols, 0.1f, 3, GPU_F32);
    d.inv_beta = random_values(r, d.cols, 0.1f, 3, GPU_F32);
    d.added = random_values(r, c.rows * d.cols, -2, 2, GPU_F32);
    d.residual = new_matrix(r, GPU_F32, c.rows, d.cols, d.added);
    return d;
}

static void drop_product(product_data *d)
{
    drop_weight(&d->w);
    free(d->x.memory);
    free(d->residual.memory);
    free(d->y.memory);
    free(d->act.memory);
    free(d->values);
    free(d->bias);
    free(d->gate);
    free(d->alpha);
    free(d->inv_beta);
    free(d->added);
}

/* Rows [first, first + count) of the result, into y and act from their first rows on. */
static gpu_product product_of(const product_data *d, int64_t first, int64_t count)
{
    const product_case *c = &d->c;
    gpu_product p = {.x = d->x.mat,
                     .w = d->w.w,
                     .rows = count,
                     .x_first = c->x_first,
                     .out_first = c->out_first + first,
                     .stride = c->stride,
                     .dilation = c->dilation,
                     .padding = c->padding};
    bool snake = c->parts & SNAKE;
    if (!snake || (c->parts & STORE)) p.y = d->y.mat;
    if (snake) p.act = d->act.mat;
    p.y.rows = p.act.rows = count;
    if (c->gated) return p;
    if (c->parts & BIAS) p.bias = d->bias;
    p.silu = (c->parts & SILU) != 0;
    if (c->parts & GATE) p.gate = d->gate;
    if (c->parts & RESIDUAL) p.residual = d->residual.mat;
    if (p.residual.data) p.residual.data = (float *)p.residual.data + first * p.residual.stride;
    p.alpha = snake ? d->alpha : NULL;
    p.inv_beta = snake ? d->inv_beta : NULL;
    return p;
}

/* False where there is no such kernel. */
static bool run(const machine *m, const product_data *d, int64_t first, int64_t count, int kernel)
{
    gpu_product p = product_of(d, first, count);
    const int capability[2] = {m->capability / 10, m->capability % 10};
    size_t bytes = m->g->product_room(&p.w, p.x.type, capability, count);
    p.room = must(malloc(bytes + 1));
    int error = kernel < 0 ? m->g->product(m->stream, &p) : gpu_kernel_product_with(m->stream, &p, kernel);
    if (!error) must_work(m, m->g->stream_wait(m->stream));
    free(p.room);
    if (error && kernel < 0) must_work(m, error);
    check_fence(&d->y);
    check_fence(&d->act);
    return !error;
}

static double silu(double z)
{
    return z / (1 + exp(-z));
}

static double unit_of(double v, gpu_type type)
{
    return v == 0 ? 0 : 1.01 * ldexp(1, ilogb(v) - (type == GPU_BF16 ? 8 : 24));
}

/* The sum, and what it may be off by. A chain of K terms rounds K times, mostly in both directions. As half, terms are
 * off by 2^-40 of the greatest of either row (kernels/product_half.cu). */
static double reference(const product_data *d, int64_t m, int64_t n, double *tolerance)
{
    const product_case *c = &d->c;
    double sum = 0, magnitude = 0, most_x = 0, most_w = 0;
    float scale = 1, inverse = 1;
    if (c->form == GPU_INT8) {
        float most = 0;
        for (int64_t i = 0; i < c->channels; i++) most = fmaxf(most, fabsf(d->values[m * c->channels + i]));
        scale = most / 127.0f;
        inverse = 127.0f / most;
    }
    for (int tap = 0; tap < c->taps; tap++) {
        int64_t row = (m + c->out_first) * c->stride + tap * c->dilation - c->padding - c->x_first;
        if (row < 0 || row >= c->x_rows) continue;
        for (int64_t i = 0; i < c->channels; i++) {
            float x = d->values[row * c->channels + i], scaled = x * inverse;
            double p = d->w.values[n * d->w.k + tap * c->channels + i] * (c->form == GPU_INT8 ? rintf(scaled) : x);
            sum += p;
            magnitude += fabs(p);
            most_x = fmax(most_x, fabs((double)x));
            most_w = fmax(most_w, fabs(d->w.values[n * d->w.k + tap * c->channels + i]));
        }
    }
    *tolerance = 0x1p-24 * (8 + 2 * sqrt((double)d->w.k)) * magnitude + 0x1p-149;
    if (d->w.exponents) *tolerance += 2.001 * 0x1p-40 * (double)d->w.k * most_x * most_w;
    if (c->form != GPU_INT8) return sum;
    sum *= (double)scale * ((const float *)(const void *)d->w.scales)[place_of(&d->w.w, n)];
    *tolerance = 3 * 0x1p-24 * fabs(sum);
    return sum;
}

static void check_close(const char *what, int64_t m, int64_t n, float got, double expected, double tolerance)
{
    if (!(fabs((double)got - expected) <= tolerance))
        fail_msg("%s at row %d, column %d: %.9g, expected %.9g, off by %.3g of %.3g", what, (int)m, (int)n, (double)got,
                 expected, fabs((double)got - expected), tolerance);
}

static void check_element(const product_data *d, int64_t m, int64_t n)
{
    unsigned parts = d->c.parts;
    double tolerance, p = reference(d, m, n, &tolerance);
    if (d->c.gated) {
        double t, second = reference(d, m, d->cols + n, &t), want = silu(p) * second;
        tolerance = 1.2 * tolerance * fabs(second) + fabs(silu(p)) * t + 1e-6 * fabs(want) + 1e-7;
        check_close("y", m, n, get(&d->y.mat, m, n), want, tolerance + unit_of(want, d->y.mat.type));
        return;
    }
    if (parts & BIAS) p += d->bias[n];
    if (parts & SILU) {
        p = silu(p);
        tolerance = 1.2 * tolerance + 4e-7 * fabs(p);
    }
    if (parts & GATE) {
        p *= d->gate[n];
        tolerance *= fabs((double)d->gate[n]);
    }
    if (parts & RESIDUAL) p += d->added[m * d->cols + n];
    tolerance += 2e-7 * (fabs(p) + 1);
    bool snake = parts & SNAKE;
    if (!snake || (parts & STORE))
        check_close("y", m, n, get(&d->y.mat, m, n), p, tolerance + unit_of(p, d->y.mat.type));
    if (!snake) return;
    double a = d->alpha[n], b = d->inv_beta[n], s = sin(a * p), want = p + s * s * b;
    tolerance = tolerance * (1 + fabs(a * b)) + 1e-6 * (fabs(b) + fabs(p) + fabs(a * p * b));
    check_close("act", m, n, get(&d->act.mat, m, n), want, tolerance + unit_of(want, d->act.mat.type));
}

static void check_all(const product_data *d)
{
    for (int64_t m = 0; m < d->c.rows; m++)
        for (int64_t n = 0; n < d->cols; n++) check_element(d, m, n);
}

/* The result, y then act, whatever they are. */
static float *take(const product_data *d, int64_t rows)
{
    float *all = must(malloc((size_t)(2 * rows * d->cols + 1) * sizeof *all));
    for (int64_t m = 0; m < rows; m++)
        for (int64_t n = 0; n < d->cols; n++) {
            all[m * d->cols + n] = get(&d->y.mat, m, n);
            all[(rows + m) * d->cols + n] = get(&d->act.mat, m, n);
            put(&d->y.mat, m, n, CANARY);
            put(&d->act.mat, m, n, CANARY);
        }
    return all;
}

static void check_same(const char *what, const float *a, const float *b, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0)
            fail_msg("%s: value %d is %.9g in one and %.9g in the other", what, (int)i, (double)a[i], (double)b[i]);
}

/* By the kernel that is chosen, against the definition; by all others, and some rows alone, against that. */
static void check_product(const machine *machine, uint64_t *r, product_case c)
{
    c.half = machine->capability < 80;
    product_data d = new_product(r, c);
    run(machine, &d, 0, c.rows, -1);
    check_all(&d);
    float *want = take(&d, c.rows);
    for (int kernel = 0; run(machine, &d, 0, c.rows, kernel); kernel++) {
        float *got = take(&d, c.rows);
        check_same("another kernel", want, got, 2 * c.rows * d.cols);
        free(got);
    }
    int64_t count = random_int(r, 1, c.rows), first = random_int(r, 0, c.rows - count);
    run(machine, &d, first, count, -1);
    float *got = take(&d, count);
    check_same("rows alone", want + first * d.cols, got, count * d.cols);
    check_same("rows alone", want + (c.rows + first) * d.cols, got + count * d.cols, count * d.cols);
    free(got);
    free(want);
    drop_product(&d);
}

/* ---- tests ---------------------------------------------------------------------------------------------------------
 */

static product_case linear_case(gpu_form form, gpu_type type, int64_t rows, int64_t k, int64_t n, unsigned parts)
{
    return (product_case){.form = form,
                          .type = type,
                          .rows = rows,
                          .x_rows = rows,
                          .channels = k,
                          .n = n,
                          .taps = 1,
                          .stride = 1,
                          .dilation = 1,
                          .parts = parts};
}

static const int capabilities[] = {90, 86, 75};
enum { CAPABILITIES = 3 };

static void all_forms(const machine *m, uint64_t *r, void (*check)(const machine *, uint64_t *, gpu_form, gpu_type))
{
    for (int form = GPU_PLAIN_F32; form <= GPU_Q6_K; form++)
        for (int type = GPU_F32; type <= GPU_BF16; type++)
            if ((form != GPU_PLAIN_F32 || type == GPU_F32) && (form != GPU_PLAIN_BF16 || type == GPU_BF16) &&
                form != GPU_PLAIN_F16)
                check(m, r, (gpu_form)form, (gpu_type)type);
}

static void check_shapes(const machine *m, uint64_t *r, gpu_form form, gpu_type type)
{
    static const int64_t shapes[][3] = {{1, 64, 16},    {2, 40, 37},   {16, 130, 33},  {17, 300, 40}, {33, 70, 70},
                                        {130, 200, 70}, {5, 520, 129}, {70, 600, 260}, {3, 1, 1}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        check_product(m, r, linear_case(form, type, shapes[i][0], shapes[i][1], shapes[i][2], 0));
}

static void linear_layers(void **state)
{
    (void)state;
    for (int i = 0; i < CAPABILITIES; i++) {
        machine m = open_machine(capabilities[i], GPU_EMULATED_SHUFFLED);
        uint64_t r = 1;
        all_forms(&m, &r, check_shapes);
        close_machine(&m);
    }
}

static void check_epilogues(const machine *m, uint64_t *r, gpu_form form, gpu_type type)
{
    bool plain = form == GPU_PLAIN_F32 || form == GPU_PLAIN_BF16;
    for (unsigned parts = 0; parts < 256; parts += plain ? 1 : 23) {
        product_case c =
            linear_case(form, type, random_int(r, 1, 20), random_int(r, 1, 70), random_int(r, 1, 70), parts);
        check_product(m, r, c);
    }
}

static void epilogues(void **state)
{
    (void)state;
    machine m = open_machine(90, GPU_EMULATED_REVERSE);
    uint64_t r = 2;
    all_forms(&m, &r, check_epilogues);
    close_machine(&m);
}

static void check_gated(const machine *m, uint64_t *r, gpu_form form, gpu_type type)
{
    for (int i = 0; i < 5; i++) {
        product_case c = linear_case(form, type, random_int(r, 1, 40), random_int(r, 1, 300),
                                     2 * random_int(r, 1, i ? 70 : 140), i & 1 ? Y_BF16 : 0);
        c.gated = true;
        check_product(m, r, c);
    }
}

static void gated(void **state)
{
    (void)state;
    for (int i = 0; i < CAPABILITIES; i++) {
        machine m = open_machine(capabilities[i], GPU_EMULATED_FORWARD);
        uint64_t r = 3;
        all_forms(&m, &r, check_gated);
        close_machine(&m);
    }
}

static void convolutions(void **state)
{
    static const int taps[] = {1, 2, 3, 7}, strides[] = {1, 2, 4, 10}, dilations[] = {1, 3, 9};
    (void)state;
    for (int i = 0; i < CAPABILITIES; i++) {
        machine m = open_machine(capabilities[i], GPU_EMULATED_SHUFFLED);
        uint64_t r = 4;
        for (int round = 0; round < 60; round++) {
            gpu_type type = round & 1 ? GPU_BF16 : GPU_F32;
            product_case c = linear_case(type == GPU_BF16 ? GPU_PLAIN_BF16 : GPU_PLAIN_F32, type, random_int(&r, 1, 60),
                                         round % 5 ? random_int(&r, 1, 20) : 192, random_int(&r, 1, 40),
                                         (unsigned)random_int(&r, 0, 255));
            c.x_rows = random_int(&r, 1, 200);
            c.taps = taps[random_int(&r, 0, 3)];
            c.stride = strides[random_int(&r, 0, 3)];
            c.dilation = dilations[random_int(&r, 0, 2)];
            c.padding = (int)random_int(&r, 0, (c.taps - 1) * c.dilation);
            c.x_first = random_int(&r, 0, 60);
            c.out_first = random_int(&r, 0, 60 / c.stride);
            check_product(&m, &r, c);
        }
        close_machine(&m);
    }
}

/* Rows with NaN or infinity give no number in int8, and next to nothing gives zero. */
static void hostile_rows(void **state)
{
    enum { ROWS = 20, K = 100, N = 40 };
    (void)state;
    for (int i = 0; i < CAPABILITIES; i++) {
        machine m = open_machine(capabilities[i], GPU_EMULATED_FORWARD);
        uint64_t r = 5;
        product_data d = new_product(&r, linear_case(GPU_INT8, GPU_BF16, ROWS, K, N, 0));
        for (int k = 0; k < K; k++) put(&d.x.mat, 2, k, d.values[2 * K + k] * 0x1p-110f);
        put(&d.x.mat, 3, 3, NAN);
        put(&d.x.mat, 5, K - 1, INFINITY);
        put(&d.x.mat, 6, 0, -INFINITY);
        run(&m, &d, 0, ROWS, -1);
        for (int row = 0; row < ROWS; row++)
            for (int n = 0; n < N; n++)
                if (row == 3 || row == 5 || row == 6)
                    assert_true(isnan(get(&d.y.mat, row, n)));
                else if (row == 2)
                    assert_true(get(&d.y.mat, row, n) == 0);
                else
                    check_element(&d, row, n);
        drop_product(&d);
        close_machine(&m);
    }
}

/* The extremes of bfloat16 as half: what each row of x and of w is made of. */
static const float extremes[][2] = {
    /* greatest, and the rest; the last ones are no numbers */
    {1, 1},
    {0, 0},
    {1e-30f, 1e-30f},
    {1e30f, 1e30f},
    {3e38f, 1},
    {1, 0x1p-32f},
    {1, 0x1p-38f},
    {1e30f, 1e-8f},
    {0x1p-133f, 0},
    {0x1p-127f, 0x1p-133f},
    {0x1p-112f, 0x1p-120f},
    {INFINITY, 1},
    {-INFINITY, 0},
    {NAN, 1},
};
enum { EXTREMES = sizeof extremes / sizeof *extremes };

/* One value is the greatest, a third are zeros, and the rest is what it is to be, with random signs. */
static void fill_extreme(uint64_t *r, float *row, int64_t k, const float what[2])
{
    for (int64_t i = 0; i < k; i++)
        row[i] = stored(what[1] * random_float(r, 0.5f, 1) * (float)random_int(r, -1, 1), GPU_BF16);
    row[random_int(r, 0, k - 1)] = stored(what[0], GPU_BF16);
}

static bool is_finite(const double *row, int64_t k)
{
    for (int64_t i = 0; i < k; i++)
        if (!isfinite(row[i])) return false;
    return true;
}

static void check_extreme(const product_data *d, int64_t m, int64_t n)
{
    double row[200], tolerance, got = get(&d->y.mat, m, n);
    for (int64_t i = 0; i < d->w.k; i++) row[i] = d->values[m * d->w.k + i];
    if (!is_finite(row, d->w.k) || !is_finite(d->w.values + n * d->w.k, d->w.k)) {
        if (isfinite(got)) fail_msg("row %d, column %d is finite: %g", (int)m, (int)n, got);
        return;
    }
    double want = reference(d, m, n, &tolerance);
    if (fabs(want) - tolerance > (double)0x1.fffffep127f)
        assert_true(isinf(got) && signbit(got) == signbit(want));
    else if (fabs(want) + tolerance < (double)0x1.fffffep127f)
        check_close("y", m, n, (float)got, want, tolerance + unit_of(want, GPU_F32));
}

static void extreme_rows(void **state)
{
    enum { K = 200, ALIKE = 3 };
    (void)state;
    machine m = open_machine(75, GPU_EMULATED_SHUFFLED);
    uint64_t r = 6;
    product_case c = linear_case(GPU_PLAIN_BF16, GPU_BF16, EXTREMES * ALIKE, K, EXTREMES * ALIKE, 0);
    c.half = true;
    product_data d = new_product(&r, c);
    for (int64_t i = 0; i < EXTREMES * ALIKE; i++) {
        float w[K];
        fill_extreme(&r, d.values + i * K, K, extremes[i % EXTREMES]);
        fill_extreme(&r, w, K, extremes[i % EXTREMES]);
        for (int64_t k = 0; k < K; k++) {
            put(&d.x.mat, i, k, d.values[i * K + k]);
            d.w.values[i * K + k] = w[k];
        }
    }
    free(d.w.exponents);
    make_half(&d.w, c.n);
    for (int kernel = 0; run(&m, &d, 0, c.rows, kernel); kernel++)
        for (int64_t row = 0; row < c.rows; row++)
            for (int64_t n = 0; n < c.n; n++) check_extreme(&d, row, n);
    drop_product(&d);
    close_machine(&m);
}

/* Every kernel in small, where every access to shared memory is looked at: with sums long enough for all stages to be
 * used again. */
static void check_races(const machine *m, uint64_t *r, gpu_form form, gpu_type type)
{
    product_case c = linear_case(form, type, 18, 600, 38, 0);
    c.gated = form % 2;
    check_product(m, r, c);
}

static void no_thread_races(void **state)
{
    (void)state;
    for (int i = 0; i < CAPABILITIES; i += 2) {
        machine m = open_machine(capabilities[i], GPU_EMULATED_SHUFFLED);
        uint64_t r = 7;
        all_forms(&m, &r, check_races);
        product_case c = linear_case(GPU_PLAIN_BF16, GPU_BF16, 20, 100, 30, BIAS | SNAKE);
        c.x_rows = 70;
        c.taps = c.stride = 3;
        check_product(&m, &r, c);
        close_machine(&m);
    }
}

#ifdef TEST_RACES
enum { RACES = 1 };
#else
enum { RACES = 0 };
#endif

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(extreme_rows), cmocka_unit_test(linear_layers), cmocka_unit_test(epilogues),
        cmocka_unit_test(gated),        cmocka_unit_test(convolutions),  cmocka_unit_test(hostile_rows),
    };
    static const struct CMUnitTest races[] = {cmocka_unit_test(no_thread_races)};
    return RACES ? cmocka_run_group_tests_name("device/cuda_products, races", races, NULL, NULL)
                 : cmocka_run_group_tests_name("device/cuda_products", tests, NULL, NULL);
}
