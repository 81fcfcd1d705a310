/* Weights in 8 bits, in 4 bits and in GGUF's blocks: products against what device.h says of each form, computed here in
 * double precision; and what must not happen (other bits with other neighbours, numbers made of NaN, overflow). */
#define SLOW_WHEN_EMULATED
#include "block_test.h"
#include "epilogue_test.h"

enum { SCRATCH = 64 << 20, FORMS = 6, GROUP = 32 };

static const struct form_case {
    const char *label;
    ace_weight_form form;
    ace_dtype blocks;
    int64_t multiple; /* of k */
} forms[FORMS] = {
    {"int8", ACE_FORM_INT8, ACE_F32, 1},      {"int4", ACE_FORM_INT4, ACE_F32, 32},
    {"Q8_0", ACE_FORM_BLOCKS, ACE_Q8_0, 32},  {"Q4_K", ACE_FORM_BLOCKS, ACE_Q4_K, 256},
    {"Q5_K", ACE_FORM_BLOCKS, ACE_Q5_K, 256}, {"Q6_K", ACE_FORM_BLOCKS, ACE_Q6_K, 256},
};

/* ---- weights ------------------------------------------------------------------------------------------------- */

/* A weight before and after. `kept` [n][k]: the values that products are to use: int8 as whole numbers, with a scale
 * for each row; else the weights themselves. */
typedef struct quantised {
    ace_weight *w;
    const struct form_case *form;
    int64_t n, k;
    float *values;   /* [n][k] as read, or NULL */
    uint8_t *blocks; /* rows of blocks as read, or NULL */
    double *kept;
    float *scale;
} quantised;

static size_t row_bytes(const quantised *q)
{
    return (size_t)(q->k / ace_dtype_block(q->form->blocks)) * ace_dtype_block_bytes(q->form->blocks);
}

static bool read_quantised(void *context, int64_t first, int64_t count, ace_dtype dtype, void *rows, ace_error *error)
{
    const quantised *q = context;
    (void)error;
    if (q->blocks) {
        assert_int_equal(dtype, q->form->blocks);
        memcpy(rows, q->blocks + (size_t)first * row_bytes(q), (size_t)count * row_bytes(q));
        return true;
    }
    for (int64_t i = 0; i < count * q->k; i++) {
        float v = q->values[first * q->k + i];
        if (dtype == ACE_BF16)
            ((uint16_t *)rows)[i] = ace_f32_to_bf16(v);
        else
            ((float *)rows)[i] = v;
    }
    return true;
}

static void random_blocks_of(random_state *r, quantised *q)
{
    size_t size = ace_dtype_block_bytes(q->form->blocks), count = (size_t)q->n * row_bytes(q) / size;
    q->blocks = must(malloc(count * size));
    random_blocks(r, q->form->blocks, q->blocks, count);
}

static void keep_int8(quantised *q)
{
    q->scale = must(malloc((size_t)q->n * sizeof *q->scale));
    for (int64_t i = 0; i < q->n; i++) {
        float most = 0;
        for (int64_t j = 0; j < q->k; j++) most = fmaxf(most, fabsf(q->values[i * q->k + j]));
        bool zero = most < 0x1p-100f;
        float inverse = zero ? 0 : 127.0f / most;
        q->scale[i] = zero ? 0 : most / 127.0f;
        for (int64_t j = 0; j < q->k; j++) {
            float scaled = q->values[i * q->k + j] * inverse;
            q->kept[i * q->k + j] = rintf(scaled);
        }
    }
}

/* What int4 keeps is seen by multiplying unit vectors, which is exact. */
static void keep_int4(ace_device *dev, quantised *q)
{
    ace_mark mark = ace_scratch_mark(dev);
    float *unit = must(calloc((size_t)(q->k * q->k), sizeof *unit)),
          *y = must(malloc(sizeof *y * (size_t)(q->k * q->n)));
    ace_mat x = ace_scratch(dev, ace_device_act(dev), q->k, q->k), out = ace_scratch(dev, ACE_F32, q->k, q->n);
    for (int64_t i = 0; i < q->k; i++) unit[i * q->k + i] = 1;
    ace_upload(dev, x, unit);
    ace_linear(dev, out, x, q->w, NULL);
    ace_download(dev, y, out);
    check_ok(dev);
    for (int64_t i = 0; i < q->n; i++)
        for (int64_t j = 0; j < q->k; j++) q->kept[i * q->k + j] = y[j * q->n + i];
    free(unit);
    free(y);
    ace_scratch_release(dev, mark);
}

static void keep_blocks(const ace_device *dev, quantised *q)
{
    ace_dtype type = q->form->blocks;
    int block = ace_dtype_block(type);
    for (int64_t i = 0; i < q->n * q->k; i++)
        q->kept[i] = as_stored(
            block_value(type, q->blocks + (size_t)(i / block) * ace_dtype_block_bytes(type), (int)(i % block)),
            ace_device_act(dev));
}

static ace_weight *new_weight(ace_device *dev, quantised *q, bool gated)
{
    ace_weight_desc desc = {.kind = gated ? ACE_WEIGHT_GATED : ACE_WEIGHT_PRODUCT,
                            .name = "test",
                            .n = q->n,
                            .k = q->k,
                            .taps = 1,
                            .form = q->form->form,
                            .blocks = q->form->blocks};
    return ace_weight_new(dev, &desc, read_quantised, q);
}

/* int4 of a gated weight must be that of the same weight ungated. */
static quantised make_quantised(ace_device *dev, random_state *r, const struct form_case *form, int64_t n, int64_t k,
                                bool gated)
{
    quantised q = {.form = form, .n = n, .k = k, .kept = must(malloc((size_t)(n * k) * sizeof *q.kept))};
    if (form->form == ACE_FORM_BLOCKS) {
        random_blocks_of(r, &q);
        keep_blocks(dev, &q);
    } else {
        q.values = must(malloc((size_t)(n * k) * sizeof *q.values));
        for (int64_t i = 0; i < n * k; i++) q.values[i] = random_float(r, -1, 1);
        for (int64_t j = 0; j < k && n > 2; j++) q.values[2 * k + j] = 0; /* a row of zeros is nothing special */
    }
    if (form->form == ACE_FORM_INT8) keep_int8(&q);
    if (form->form == ACE_FORM_INT4) {
        q.w = new_weight(dev, &q, false);
        check_ok(dev);
        keep_int4(dev, &q);
        ace_weight_free(dev, q.w);
    }
    q.w = new_weight(dev, &q, gated);
    check_ok(dev);
    return q;
}

static void drop_quantised(ace_device *dev, quantised *q)
{
    ace_weight_free(dev, q->w);
    free(q->values);
    free(q->blocks);
    free(q->kept);
    free(q->scale);
}

static int64_t fitting_k(const struct form_case *f, int64_t k)
{
    return (k + f->multiple - 1) / f->multiple * f->multiple;
}

/* Row m of x times row n of the weight, as the form defines it, and what the sum may be off by. */
static double expected_sum(const quantised *q, const float *x, int64_t n, double *tolerance)
{
    const double *w = q->kept + n * q->k;
    double sum = 0, magnitude = 0;
    if (q->form->form == ACE_FORM_INT8) {
        float most = 0;
        for (int64_t i = 0; i < q->k; i++) most = fmaxf(most, fabsf(x[i]));
        float inverse = most < 0x1p-100f ? 0 : 127.0f / most, scale = most < 0x1p-100f ? 0 : most / 127.0f;
        for (int64_t i = 0; i < q->k; i++) {
            float scaled = x[i] * inverse;
            sum += w[i] * rintf(scaled);
        }
        sum *= (double)scale * q->scale[n];
        *tolerance = 3 * 0x1p-24 * fabs(sum); /* one rounding of the integer, two of the scales */
        return sum;
    }
    for (int64_t i = 0; i < q->k; i++) {
        sum += w[i] * x[i];
        magnitude += fabs(w[i] * x[i]);
    }
    *tolerance = sum_tolerance(magnitude, q->k);
    return sum;
}

/* ---- against the definition ---------------------------------------------------------------------------------- */

static void check_linear(ace_device *dev, random_state *r, const struct form_case *form, int64_t rows, int64_t k,
                         int64_t n, unsigned bits)
{
    ace_mark mark = ace_scratch_mark(dev);
    k = fitting_k(form, k);
    quantised q = make_quantised(dev, r, form, n, k, false);
    fenced x = fence(dev, r, ace_device_act(dev), rows, k, -1, 1);
    epilogue_case e = random_epilogue(dev, r, rows, n, bits);
    fenced y = fence(dev, r, (bits & 128) ? ace_device_act(dev) : ACE_F32, rows, n, 0, 0);
    ace_snake_weights snake;
    ace_epilogue epilogue = epilogue_of(&e, &snake);
    ace_linear(dev, e.store ? y.mat : (ace_mat){.dtype = y.mat.dtype}, x.mat, q.w, bits ? &epilogue : NULL);
    fetch(dev, &y);
    if (e.has_snake) fetch(dev, &e.act);
    for (int64_t m = 0; m < rows; m++)
        for (int64_t i = 0; i < n; i++) {
            double tolerance, sum = expected_sum(&q, x.host + m * k, i, &tolerance);
            check_element(&e, &y, finish(&e, sum, tolerance, m, i, n), m, i);
        }
    free(x.host);
    free(y.host);
    drop_epilogue(dev, &e);
    drop_quantised(dev, &q);
    ace_scratch_release(dev, mark);
}

static void linear_layers(void **state)
{
    static const int64_t edges[] = {1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 16, 17, 31, 32, 33, 40};
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    random_state r = {21};
    for (int f = 0; f < FORMS; f++) {
        for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
            check_linear(dev, &r, &forms[f], edges[i], 96, 40, 0);
            check_linear(dev, &r, &forms[f], 5, edges[i] + 50, 37, 0);
            check_linear(dev, &r, &forms[f], 5, 64, edges[i], 0);
        }
        /* past the blocks of rows, the chunks of k, the groups of panels */
        check_linear(dev, &r, &forms[f], 300, 70, 35, 0);
        check_linear(dev, &r, &forms[f], 14, 1100, 300, 1 | 8 | 128);
        check_linear(dev, &r, &forms[f], 260, 600, 1100, 0);
    }
    check_linear(dev, &r, &forms[0], 4200, 5, 3, 1 | 8); /* more rows than are quantised at a time */
    if (((const config *)*state)->isa == ACE_ISA_AMX)    /* and more panels than are expanded at a time */
        check_linear(dev, &r, &forms[2], 33, 8192, 1300, 1 | 4 | 8 | 16 | 32);
    ace_device_close(dev);
}

static void every_epilogue(void **state)
{
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    random_state r = {22};
    for (int f = 0; f < FORMS; f++)
        for (unsigned bits = 0; bits<256; bits += forms[f].multiple> 32 ? 7 : 1)
            check_linear(dev, &r, &forms[f], random_int(&r, 1, 20), random_int(&r, 1, 100), random_int(&r, 1, 70),
                         bits);
    ace_device_close(dev);
}

static void gated_products(void **state)
{
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    ace_dtype act = ace_device_act(dev);
    random_state r = {23};
    for (int round = 0; round < 8 * FORMS; round++) {
        ace_mark mark = ace_scratch_mark(dev);
        const struct form_case *form = &forms[round % FORMS];
        int64_t rows = random_int(&r, 1, 40), k = fitting_k(form, random_int(&r, 1, 300)), f = random_int(&r, 1, 70);
        quantised q = make_quantised(dev, &r, form, 2 * f, k, true);
        fenced x = fence(dev, &r, act, rows, k, -1, 1), y = fence(dev, &r, act, rows, f, 0, 0);
        ace_linear_silu_mul(dev, y.mat, x.mat, q.w);
        fetch(dev, &y);
        for (int64_t m = 0; m < rows; m++)
            for (int64_t n = 0; n < f; n++) {
                double a, b, gate = expected_sum(&q, x.host + m * k, n, &a), up;
                up = expected_sum(&q, x.host + m * k, f + n, &b);
                double want = silu(gate) * up;
                double tolerance = 1.2 * a * fabs(up) + fabs(silu(gate)) * b + 1e-6 * fabs(want) + 1e-7;
                check_close("y", m, n, y.host[m * f + n], want, tolerance + storing(want, act));
            }
        free(x.host);
        free(y.host);
        drop_quantised(dev, &q);
        ace_scratch_release(dev, mark);
    }
    ace_device_close(dev);
}

/* ---- what four bits keep ------------------------------------------------------------------------------------- */

static double group_error(const float *w, double scale)
{
    double error = 0;
    for (int i = 0; i < GROUP; i++) {
        double q = fmin(7, fmax(-8, nearbyint(w[i] / scale)));
        error += (w[i] - q * scale) * (w[i] - q * scale);
    }
    return error;
}

/* The least squared error over the four scales of five significant bits that device.h names. */
static double best_error(const float *w)
{
    int at = 0, exponent;
    for (int i = 1; i < GROUP; i++)
        if (fabsf(w[i]) > fabsf(w[at])) at = i;
    double best = INFINITY, mantissa = frexp(fabs((double)w[at]) / 8, &exponent);
    for (int step = -1; step <= 2; step++) {
        double units = round(mantissa * 32) + step; /* in [16, 32]: of which 32 is the next power of two */
        if (units > 32) units = 32 + 2 * (units - 32);
        if (units < 16) units = 16 - (16 - units) / 2;
        best = fmin(best, group_error(w, copysign(ldexp(units, exponent - 5), -w[at])));
    }
    return best;
}

static void four_bits(void **state)
{
    enum { N = 70, K = 256 };
    const config *c = *state;
    /* as half, rows keep what is not less than 2^-40 of their greatest value (device/cuda/kernels/product_half.cu) */
    int sizes = c->capability == 75 ? 20 : 60;
    ace_device *dev = open_device(c, 2, SCRATCH, NULL);
    random_state r = {24};
    for (int round = 0; round < 3; round++) {
        quantised q = {.form = &forms[1], .n = N, .k = K, .values = must(malloc(sizeof(float) * N * K))};
        q.kept = must(malloc(sizeof(double) * N * K));
        for (int i = 0; i < N * K; i++) /* groups of very different sizes */
            q.values[i] = random_float(&r, -1, 1) * random_float(&r, 0, 1) * ldexpf(1, i / GROUP % sizes - sizes / 2);
        memset(q.values + GROUP, 0, GROUP * sizeof(float));
        q.w = new_weight(dev, &q, false);
        check_ok(dev);
        keep_int4(dev, &q);
        for (int g = 0; g < N * K / GROUP; g++) {
            double error = 0, size = 0;
            for (int i = g * GROUP; i < (g + 1) * GROUP; i++) {
                error += (q.kept[i] - q.values[i]) * (q.kept[i] - q.values[i]);
                size += (double)q.values[i] * q.values[i];
                assert_true((float)q.kept[i] == as_stored((float)q.kept[i], ACE_BF16));
            }
            if (size == 0)
                assert_true(error == 0);
            else
                check_close("the squared error of a group", g, 0, (float)(error / size),
                            best_error(q.values + g * GROUP) / size, 1e-5);
        }
        drop_quantised(dev, &q);
    }
    ace_device_close(dev);
}

/* ---- bit identity -------------------------------------------------------------------------------------------- */

static void multiply_rows(ace_device *dev, const quantised *w, const quantised *gated, ace_mat x, float *linear,
                          float *gates)
{
    ace_mark mark = ace_scratch_mark(dev);
    ace_mat y = ace_scratch(dev, ACE_F32, x.rows, w->n),
            g = ace_scratch(dev, ace_device_act(dev), x.rows, gated->n / 2);
    ace_linear(dev, y, x, w->w, NULL);
    ace_linear_silu_mul(dev, g, x, gated->w);
    ace_download(dev, linear, y);
    ace_download(dev, gates, g);
    check_ok(dev);
    ace_scratch_release(dev, mark);
}

static void rows_and_threads_change_nothing(void **state)
{
    enum { ROWS = 210, COLS = 90 };
    float *all[2], *some[2];
    for (int i = 0; i < 2; i++) {
        all[i] = must(malloc(sizeof(float) * ROWS * COLS));
        some[i] = must(malloc(sizeof(float) * ROWS * COLS));
    }
    for (int f = 0; f < FORMS; f++)
        for (int threads = 1; threads <= 3; threads++) {
            ace_device *dev = open_device(*state, threads, SCRATCH, NULL);
            random_state r = {25};
            int64_t k = fitting_k(&forms[f], 700);
            quantised w = make_quantised(dev, &r, &forms[f], COLS, k, false);
            quantised gated = make_quantised(dev, &r, &forms[f], 2 * COLS, k, true);
            fenced x = fence(dev, &r, ace_device_act(dev), ROWS, k, -1, 1);
            multiply_rows(dev, &w, &gated, x.mat, threads == 1 ? all[0] : some[0], threads == 1 ? all[1] : some[1]);
            for (int i = 0; i < 2 && threads > 1; i++) check_same("with more threads", all[i], some[i], ROWS * COLS);
            for (int64_t count = 1; count <= 40 && threads == 2; count++) {
                int64_t first = random_int(&r, 0, ROWS - count);
                multiply_rows(dev, &w, &gated, ace_rows(x.mat, first, count), some[0], some[1]);
                for (int i = 0; i < 2; i++) check_same("some rows alone", all[i] + first * COLS, some[i], count * COLS);
            }
            free(x.host);
            drop_quantised(dev, &w);
            drop_quantised(dev, &gated);
            ace_device_close(dev);
        }
    for (int i = 0; i < 2; i++) {
        free(all[i]);
        free(some[i]);
    }
}

/* ---- extremes ------------------------------------------------------------------------------------------------ */

/* Nothing saturates and nothing overflows where all bytes are as large as they get. */
static void largest_integers(void **state)
{
    enum { ROWS = 18, COLS = 36 };
    static const int64_t lengths[] = {12288, 65536};
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    for (int l = 0; l < 2; l++) {
        ace_mark mark = ace_scratch_mark(dev);
        int64_t k = lengths[l];
        quantised q = {.form = &forms[0], .n = COLS, .k = k, .values = must(malloc(sizeof(float) * COLS * (size_t)k))};
        float *x = must(malloc(sizeof(float) * ROWS * (size_t)k)), y[ROWS * COLS];
        for (int64_t i = 0; i < k; i++) { /* signs: all the same, alternating, in pairs; of columns and rows alike */
            const float signs[4] = {1, -1, i % 2 ? 1 : -1, i % 4 < 2 ? 1 : -1};
            for (int n = 0; n < COLS; n++) q.values[n * k + i] = signs[n % 4];
            for (int m = 0; m < ROWS; m++) x[m * k + i] = signs[m % 4];
        }
        q.w = new_weight(dev, &q, false);
        ace_mat in = ace_scratch(dev, ace_device_act(dev), ROWS, k), out = ace_scratch(dev, ACE_F32, ROWS, COLS);
        ace_upload(dev, in, x);
        ace_linear(dev, out, in, q.w, NULL);
        ace_download(dev, y, out);
        check_ok(dev);
        for (int m = 0; m < ROWS; m++)
            for (int n = 0; n < COLS; n++) {
                int a = m % 4, b = n % 4;
                double want = a == b ? (double)k : a < 2 && b < 2 ? -(double)k : 0;
                check_close("y", m, n, y[m * COLS + n], want, 1e-6 * (double)k);
            }
        free(x);
        drop_quantised(dev, &q);
        ace_scratch_release(dev, mark);
    }
    ace_device_close(dev);
}

/* Rows with NaN or infinity give no number in any column, next to nothing gives zero, huge and tiny rows are as good as
 * others. */
static void hostile_rows(void **state)
{
    enum { ROWS = 20, K = 256, COLS = 40 };
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    random_state r = {26};
    for (int f = 0; f < FORMS; f++) {
        ace_mark mark = ace_scratch_mark(dev);
        bool int8 = forms[f].form == ACE_FORM_INT8;
        quantised q = make_quantised(dev, &r, &forms[f], COLS, K, false);
        float x[ROWS * K], y[ROWS * COLS];
        for (int i = 0; i < ROWS * K; i++) x[i] = as_stored(random_float(&r, -1, 1), ace_device_act(dev));
        for (int i = 0; i < K; i++) {
            x[1 * K + i] = 0;
            x[2 * K + i] *= 0x1p-110f;
            x[3 * K + i] *= 0x1p100f;
            x[4 * K + i] *= 0x1p-90f;
        }
        x[7 * K + 3] = NAN;
        x[9 * K + K - 1] = INFINITY;
        x[11 * K] = -INFINITY;
        x[13 * K] = INFINITY;
        x[13 * K + 1] = -INFINITY;
        ace_mat in = ace_scratch(dev, ace_device_act(dev), ROWS, K), out = ace_scratch(dev, ACE_F32, ROWS, COLS);
        ace_upload(dev, in, x);
        ace_linear(dev, out, in, q.w, NULL);
        ace_download(dev, y, out);
        for (int m = 0; m < ROWS; m++)
            for (int n = 0; n < COLS; n++) {
                float got = y[m * COLS + n];
                bool nan = m == 7 || (int8 && (m == 9 || m == 11 || m == 13));
                if (nan) {
                    assert_true(isnan(got));
                } else if (m == 9 || m == 11 || m == 13) {
                    assert_true(!isfinite(got) || (n == 2 && q.values) || forms[f].form == ACE_FORM_BLOCKS);
                } else if (m != 2 || int8) {
                    double tolerance, sum = expected_sum(&q, x + m * K, n, &tolerance);
                    check_close("y", m, n, got, sum, tolerance);
                }
            }
        drop_quantised(dev, &q);
        ace_scratch_release(dev, mark);
    }
    ace_device_close(dev);
}

static void check_refused(ace_device *dev, quantised *q, ace_status status, const char *words)
{
    ace_error error = {0};
    size_t before = ace_device_get_stats(dev).weight_bytes;
    assert_null(new_weight(dev, q, false));
    assert_false(ace_device_ok(dev, &error));
    assert_int_equal(error.status, status);
    assert_non_null(strstr(error.message, words));
    assert_int_equal(ace_device_get_stats(dev).weight_bytes, before);
    ace_device_clear(dev);
}

static void bad_weights_are_refused(void **state)
{
    enum { N = 35, K = 256 };
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    random_state r = {27};
    for (int f = 0; f < FORMS; f++) {
        quantised q = make_quantised(dev, &r, &forms[f], N, K, false);
        ace_weight_free(dev, q.w);
        q.w = NULL;
        if (q.values) {
            q.values[33 * K + 200] = f ? INFINITY : NAN;
        } else {
            static const int at[FORMS] = {0, 0, 1, 3, 1, 209};
            q.blocks[33 * row_bytes(&q) + (size_t)at[f]] = 0x7c;
        }
        check_refused(dev, &q, ACE_ERROR_MODEL, "row 33");
        drop_quantised(dev, &q);
    }
    ace_device_close(dev);
}

/* What only a bug in model code asks for. */
static void misuse_is_refused(void **state)
{
    ace_device *dev = open_device(*state, 1, SCRATCH, NULL);
    quantised q = {.form = &forms[1]};
    static const ace_weight_desc wrong[] = {
        {.kind = ACE_WEIGHT_TABLE, .n = 32, .k = 256, .taps = 1, .form = ACE_FORM_INT8},
        {.kind = ACE_WEIGHT_PRODUCT, .n = 32, .k = 256, .taps = 2, .form = ACE_FORM_INT8},
        {.kind = ACE_WEIGHT_PRODUCT, .n = 32, .k = 40, .taps = 1, .form = ACE_FORM_INT4},
        {.kind = ACE_WEIGHT_PRODUCT, .n = 32, .k = 224, .taps = 1, .form = ACE_FORM_BLOCKS, .blocks = ACE_Q4_K},
        {.kind = ACE_WEIGHT_PRODUCT, .n = 32, .k = 256, .taps = 1, .form = ACE_FORM_BLOCKS, .blocks = ACE_F32},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        ace_error error = {0};
        ace_weight_desc desc = wrong[i];
        desc.name = "test";
        assert_null(ace_weight_new(dev, &desc, read_quantised, &q));
        assert_false(ace_device_ok(dev, &error));
        assert_int_equal(error.status, ACE_ERROR_INTERNAL);
        ace_device_clear(dev);
    }
    ace_device_close(dev);
}

/* ---- the plan ------------------------------------------------------------------------------------------------ */

static ace_device_stats run_layer(ace_device *dev, quantised *w, quantised *gated, int64_t rows)
{
    ace_mark mark = ace_scratch_mark(dev);
    ace_weight *a = new_weight(dev, w, false), *b = new_weight(dev, gated, true);
    ace_mat x = ace_scratch(dev, ace_device_act(dev), rows, w->k), y = ace_scratch(dev, ACE_F32, rows, w->n);
    ace_mat g = ace_scratch(dev, ace_device_act(dev), rows, gated->n / 2);
    float *zeros = must(calloc((size_t)(rows * w->k), sizeof *zeros));
    ace_upload(dev, x, zeros);
    ace_linear(dev, y, x, a, NULL);
    ace_linear_silu_mul(dev, g, x, b);
    check_ok(dev);
    ace_device_stats stats = ace_device_get_stats(dev);
    assert_int_equal(stats.scratch_bytes, ace_scratch_mark(dev).device);
    ace_weight_free(dev, a);
    ace_weight_free(dev, b);
    ace_scratch_release(dev, mark);
    free(zeros);
    return stats;
}

static void the_meter_agrees(void **state)
{
    static const int64_t bits[FORMS][2] = {{8, 64}, {5, 32}, {9, 32}, {5, 256}, {6, 256}, {7, 256}}; /* at most; of k */
    for (int f = 0; f < FORMS; f++)
        for (int64_t rows = 1; rows < 5000; rows = rows * 7 + 1) {
            ace_error error = {0};
            random_state r = {28};
            ace_device *dev = open_device(*state, 2, SCRATCH, NULL), *meter = ace_meter_open(dev, &error);
            quantised w = make_quantised(dev, &r, &forms[f], 70, fitting_k(&forms[f], 100), false);
            quantised gated = make_quantised(dev, &r, &forms[f], 90, w.k, true);
            ace_weight_free(dev, w.w);
            ace_weight_free(dev, gated.w);
            w.w = gated.w = NULL;
            ace_device_reset_peak(dev);
            ace_scratch_trim(dev);
            ace_device_stats planned = run_layer(meter, &w, &gated, rows), used = run_layer(dev, &w, &gated, rows);
            assert_int_equal(planned.weight_bytes, used.weight_bytes);
            assert_int_equal(planned.scratch_peak, used.scratch_peak);
            assert_int_equal(planned.scratch_held, used.scratch_held);
            /* and the weights are as small as they should be: whole panels of so many bits, and int8's scales */
            int64_t columns = 96 + 192, most = columns * (fitting_k(&forms[f], 100) + bits[f][1] - 1) / bits[f][1] *
                                               bits[f][1] * bits[f][0] / 8;
            assert_true((int64_t)used.weight_bytes <= most + (f == 0 ? columns * 8 : 0));
            drop_quantised(dev, &w);
            drop_quantised(dev, &gated);
            ace_device_close(meter);
            ace_device_close(dev);
        }
}

/* ---- quality ------------------------------------------------------------------------------------------------- */

static float gaussian(random_state *r)
{
    double u = ((double)(random_bits(r) >> 11) + 0.5) * 0x1p-53, v = (double)(random_bits(r) >> 11) * 0x1p-53;
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

/* The direction of a layer's result, against float64 with the weights as they were. */
static void quality(void **state)
{
    enum { ROWS = 24, K = 1024, COLS = 256 };
    static const double least[2] = {0.9999, 0.996};
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    for (int f = 0; f < 2; f++) {
        ace_mark mark = ace_scratch_mark(dev);
        random_state r = {29};
        quantised q = {.form = &forms[f], .n = COLS, .k = K, .values = must(malloc(sizeof(float) * COLS * K))};
        float *x = must(malloc(sizeof(float) * ROWS * K)), y[ROWS * COLS];
        for (int i = 0; i < COLS * K; i++) q.values[i] = 0.02f * gaussian(&r);
        for (int i = 0; i < ROWS * K; i++) x[i] = as_stored(gaussian(&r), ace_device_act(dev));
        q.w = new_weight(dev, &q, false);
        ace_mat in = ace_scratch(dev, ace_device_act(dev), ROWS, K), out = ace_scratch(dev, ACE_F32, ROWS, COLS);
        ace_upload(dev, in, x);
        ace_linear(dev, out, in, q.w, NULL);
        ace_download(dev, y, out);
        check_ok(dev);
        double dot = 0, got = 0, want = 0;
        for (int m = 0; m < ROWS; m++)
            for (int n = 0; n < COLS; n++) {
                double sum = 0;
                for (int k = 0; k < K; k++) sum += (double)x[m * K + k] * q.values[n * K + k];
                dot += sum * y[m * COLS + n];
                got += (double)y[m * COLS + n] * y[m * COLS + n];
                want += sum * sum;
            }
        double cosine = dot / sqrt(got * want);
        print_message("%s, %s: cosine %.6f\n", ((const config *)*state)->label, forms[f].label, cosine);
        assert_true(cosine > least[f]);
        free(x);
        drop_quantised(dev, &q);
        ace_scratch_release(dev, mark);
    }
    ace_device_close(dev);
}

int main(void)
{
    static const device_test tests[] = {
        {"linear layers are what their form says", linear_layers},
        {"every combination of epilogues", every_epilogue},
        {"gated products", gated_products},
        {"four bits keep what they can", four_bits},
        {"neither other rows nor threads change a bit", rows_and_threads_change_nothing},
        {"the largest integers", largest_integers},
        {"hostile rows", hostile_rows},
        {"bad weights are refused", bad_weights_are_refused},
        {"misuse is refused", misuse_is_refused},
        {"the meter agrees", the_meter_agrees},
        {"the direction of a result", quality},
    };
    return run_quantised_tests("device/quantised", tests, sizeof tests / sizeof *tests);
}
