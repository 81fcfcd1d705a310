/* The operations that treat each row by itself, and the functions (exp, sin) behind them. */
#include "device_test.h"

#include <float.h>

enum { SCRATCH = 64 << 20, ROUNDS = 60 };

typedef struct shape {
    int64_t rows, cols;
    ace_dtype to;
} shape;

static shape random_shape(ace_device *dev, random_state *r)
{
    shape s = {random_int(r, 1, 40), random_int(r, 1, 150), random_int(r, 0, 1) ? ACE_F32 : ace_device_act(dev)};
    return s;
}

static void norm(void **state)
{
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    random_state r = {1};
    for (int round = 0; round < ROUNDS; round++) {
        ace_mark mark = ace_scratch_mark(dev);
        shape s = random_shape(dev, &r);
        if (round == 0) s = (shape){3, 5000, ACE_F32};
        host_weight w = make_weight(dev, &r, ACE_WEIGHT_VECTOR, s.cols, 1, 1, -2, 2);
        fenced x = fence(dev, &r, ACE_F32, s.rows, s.cols, -3, 3), y = fence(dev, &r, s.to, s.rows, s.cols, 0, 0);
        fenced scale = fence(dev, &r, ACE_F32, 1, s.cols, -1, 1), shift = fence(dev, &r, ACE_F32, 1, s.cols, -1, 1);
        bool scaled = round & 1, shifted = round & 2;
        ace_rms_norm(dev, y.mat, x.mat, w.w, 1e-6f, scaled ? scale.mat : (ace_mat){0},
                     shifted ? shift.mat : (ace_mat){0});
        fetch(dev, &y);
        for (int64_t m = 0; m < s.rows; m++) {
            const float *row = x.host + m * s.cols;
            double mean = 0;
            for (int64_t i = 0; i < s.cols; i++) mean += (double)row[i] * row[i] / (double)s.cols;
            for (int64_t i = 0; i < s.cols; i++) {
                double p = w.values[i] * row[i] / sqrt(mean + (double)1e-6f);
                double want = p * (scaled ? 1 + (double)scale.host[i] : 1) + (shifted ? (double)shift.host[i] : 0);
                check_close("y", m, i, y.host[m * s.cols + i], want,
                            1e-6 * (2 * fabs(p) + fabs(want)) + storing(want, s.to));
            }
        }
        free(x.host);
        free(y.host);
        free(scale.host);
        free(shift.host);
        drop_weight(dev, &w);
        ace_scratch_release(dev, mark);
    }
    ace_device_close(dev);
}

static void head_norm_and_rope(void **state)
{
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    random_state r = {2};
    for (int round = 0; round < ROUNDS; round++) {
        ace_mark mark = ace_scratch_mark(dev);
        int64_t d = 2 * random_int(&r, 1, 70), heads = random_int(&r, 1, 5), rows = random_int(&r, 1, 30);
        int64_t first = random_int(&r, 0, 9), cols = heads * d, half = d / 2;
        ace_dtype type = (round & 2) ? ACE_F32 : ace_device_act(dev);
        host_weight w = make_weight(dev, &r, ACE_WEIGHT_VECTOR, d, 1, 1, -2, 2);
        fenced x = fence(dev, &r, type, rows, cols, -3, 3), rope = fence(dev, &r, ACE_F32, rows + first + 3, d, -1, 1);
        float *before = must(malloc(sizeof(float) * (size_t)(rows * cols)));
        memcpy(before, x.host, sizeof(float) * (size_t)(rows * cols));
        bool turned = round & 1;
        ace_head_norm_rope(dev, x.mat, (int)d, w.w, 1e-6f, turned ? rope.mat : (ace_mat){0}, turned ? first : 0);
        fetch(dev, &x);
        for (int64_t at = 0; at < rows * heads; at++) {
            const float *head = before + at * d, *angle = rope.host + (at / heads + first) * d;
            double mean = 0;
            for (int64_t i = 0; i < d; i++) mean += (double)head[i] * head[i] / (double)d;
            for (int64_t i = 0; i < d; i++) {
                double scale = 1 / sqrt(mean + (double)1e-6f), c = turned ? angle[i % half] : 1;
                double s = turned ? angle[half + i % half] : 0;
                double a = head[i % half] * scale * w.values[i % half];
                double b = head[half + i % half] * scale * w.values[half + i % half];
                double want = i < half ? a * c - b * s : b * c + a * s;
                check_close("x", at / heads, at % heads * d + i, x.host[at * d + i], want,
                            1e-6 * (fabs(a) + fabs(b)) + 1e-7 + storing(want, type));
            }
        }
        free(before);
        free(x.host);
        free(rope.host);
        drop_weight(dev, &w);
        ace_scratch_release(dev, mark);
    }
    ace_device_close(dev);
}

static void snake_and_silu(void **state)
{
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    random_state r = {3};
    for (int round = 0; round < ROUNDS; round++) {
        ace_mark mark = ace_scratch_mark(dev);
        shape s = random_shape(dev, &r);
        host_weight alpha = make_weight(dev, &r, ACE_WEIGHT_VECTOR, s.cols, 1, 1, 0.1f, 20);
        host_weight inv_beta = make_weight(dev, &r, ACE_WEIGHT_VECTOR, s.cols, 1, 1, 0.1f, 9);
        fenced x = fence(dev, &r, ACE_F32, s.rows, s.cols, -9, 9), y = fence(dev, &r, s.to, s.rows, s.cols, 0, 0);
        ace_snake(dev, y.mat, x.mat, &(ace_snake_weights){alpha.w, inv_beta.w});
        fetch(dev, &y);
        for (int64_t i = 0; i < s.rows * s.cols; i++) {
            /* the product alpha x is rounded once: sin^2 turns that into up to |alpha x| times its unit */
            double z = (double)alpha.values[i % s.cols] * x.host[i], b = inv_beta.values[i % s.cols];
            double want = x.host[i] + sin(z) * sin(z) * b;
            check_close("snake", i / s.cols, i % s.cols, y.host[i], want,
                        0x1p-24 * (fabs(z) * b + 4 * b + fabs(want)) + storing(want, s.to));
        }
        ace_silu(dev, y.mat, x.mat);
        fetch(dev, &y);
        for (int64_t i = 0; i < s.rows * s.cols; i++) {
            double want = x.host[i] / (1 + exp(-(double)x.host[i]));
            check_close("silu", i / s.cols, i % s.cols, y.host[i], want, 3e-7 * fabs(want) + storing(want, s.to));
        }
        free(x.host);
        free(y.host);
        drop_weight(dev, &alpha);
        drop_weight(dev, &inv_beta);
        ace_scratch_release(dev, mark);
    }
    ace_device_close(dev);
}

static void copies_and_sums(void **state)
{
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    ace_dtype act = ace_device_act(dev);
    random_state r = {4};
    for (int round = 0; round < ROUNDS; round++) {
        ace_mark mark = ace_scratch_mark(dev);
        shape s = random_shape(dev, &r);
        fenced x = fence(dev, &r, (round & 1) ? ACE_F32 : act, s.rows, s.cols, -3, 3);
        fenced y = fence(dev, &r, s.to, s.rows, s.cols, 0, 0);
        ace_copy(dev, y.mat, x.mat);
        fetch(dev, &y);
        for (int64_t i = 0; i < s.rows * s.cols; i++) assert_true(y.host[i] == as_stored(x.host[i], s.to));

        bool broadcast = round & 2;
        fenced a = fence(dev, &r, ACE_F32, s.rows, s.cols, -3, 3), sum = fence(dev, &r, ACE_F32, s.rows, s.cols, 0, 0);
        fenced b = fence(dev, &r, ACE_F32, broadcast ? 1 : s.rows, s.cols, -3, 3);
        ace_add(dev, sum.mat, a.mat, b.mat);
        fetch(dev, &sum);
        for (int64_t i = 0; i < s.rows * s.cols; i++)
            assert_true(sum.host[i] == a.host[i] + b.host[broadcast ? i % s.cols : i]);

        host_weight v = make_weight(dev, &r, ACE_WEIGHT_VECTOR, s.cols, 1, 1, -1, 1);
        ace_add_vector(dev, a.mat, a.mat, v.w); /* in place */
        float *before = a.host;
        a.host = must(malloc(sizeof(float) * (size_t)(s.rows * s.cols)));
        fetch(dev, &a);
        for (int64_t i = 0; i < s.rows * s.cols; i++) assert_true(a.host[i] == before[i] + v.values[i % s.cols]);
        free(before);
        free(x.host);
        free(y.host);
        free(a.host);
        free(b.host);
        free(sum.host);
        drop_weight(dev, &v);
        ace_scratch_release(dev, mark);
    }
    ace_device_close(dev);
}

static void embeddings(void **state)
{
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    random_state r = {5};
    for (int round = 0; round < ROUNDS; round++) {
        ace_mark mark = ace_scratch_mark(dev);
        shape s = random_shape(dev, &r);
        int64_t n = random_int(&r, 1, 50);
        host_weight table = make_weight(dev, &r, ACE_WEIGHT_TABLE, n, s.cols, 1, -1, 1);
        fenced y = fence(dev, &r, s.to, s.rows, s.cols, 0, 0);
        int32_t ids[40];
        for (int64_t i = 0; i < s.rows; i++) ids[i] = (int32_t)random_int(&r, 0, n - 1);
        ace_embed(dev, y.mat, table.w, ids, s.rows);
        fetch(dev, &y);
        for (int64_t i = 0; i < s.rows; i++)
            for (int64_t j = 0; j < s.cols; j++)
                assert_true(y.host[i * s.cols + j] == as_stored(table.values[ids[i] * s.cols + j], s.to));
        free(y.host);
        drop_weight(dev, &table);
        ace_scratch_release(dev, mark);
    }
    ace_device_close(dev);
}

/* Every bf16 and many float32 values survive the way through the device as the scalar conversion says, but for
 * subnormals where AMX is, which become zero as in its products. */
static void conversions(void **state)
{
    enum { COUNT = 1 << 16 };
    const config *c = *state;
    bool flushes = c->isa == ACE_ISA_AMX && c->precision == ACE_BF16;
    ace_device *dev = open_device(*state, 1, SCRATCH, NULL);
    ace_mat y = ace_scratch(dev, ACE_F32, COUNT / 64, 64), z = ace_scratch(dev, ace_device_act(dev), COUNT / 64, 64);
    uint32_t *bits = must(malloc(COUNT * sizeof *bits));
    float *in = must(malloc(COUNT * sizeof *in)), *out = must(malloc(COUNT * sizeof *out));
    random_state r = {6};
    for (int round = 0; round < 8; round++) {
        static const uint32_t low[] = {0, 0x7fff, 0x8000, 0x8001, 0xffff};
        for (uint32_t i = 0; i < COUNT; i++)
            bits[i] = i << 16 | (round < 5 ? low[round] : (uint32_t)(random_bits(&r) & 0xffff));
        memcpy(in, bits, COUNT * sizeof *in);
        ace_upload(dev, y, in);
        ace_copy(dev, z, y);
        ace_download(dev, out, z);
        check_ok(dev);
        for (int i = 0; i < COUNT; i++) {
            float want = as_stored(in[i], ace_device_act(dev));
            bool flushed = flushes && fabsf(in[i]) < FLT_MIN && out[i] == 0 && signbit(out[i]) == signbit(in[i]);
            assert_true(flushed || memcmp(&want, &out[i], sizeof want) == 0);
        }
    }
    free(bits);
    free(in);
    free(out);
    ace_device_close(dev);
}

/* ---- the functions ------------------------------------------------------------------------------------------- */

static double unit_of(double v)
{
    return v == 0 ? 0x1p-149 : fmax(0x1p-149, ldexp(1, ilogb(v) - 23));
}

/* silu over its whole range, in units of the last place. Its exp is good to 2 units; the sum and quotient round. */
static void silu_sweep(void **state)
{
    enum { ROWS = 1000, COLS = 512 };
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    ace_mat x = ace_scratch(dev, ACE_F32, ROWS, COLS), y = ace_scratch(dev, ACE_F32, ROWS, COLS);
    float *in = must(malloc(sizeof(float) * ROWS * COLS)), *out = must(malloc(sizeof(float) * ROWS * COLS));
    for (int i = 0; i < ROWS * COLS; i++) in[i] = -104.0f + 208.0f * (float)i / (ROWS * COLS);
    in[0] = INFINITY, in[1] = NAN, in[2] = 0.0f, in[3] = 3e38f, in[4] = -3e38f, in[5] = 1e-40f;
    ace_upload(dev, x, in);
    ace_silu(dev, y, x);
    ace_download(dev, out, y);
    check_ok(dev);
    assert_true(out[0] == INFINITY && isnan(out[1]) && out[2] == 0 && out[3] == 3e38f && out[4] == 0);
    double worst = 0;
    for (int i = 5; i < ROWS * COLS; i++) {
        double want = in[i] / (1 + exp(-(double)in[i]));
        if (in[i] < -87) { /* the result is subnormal or the exponential overflows: absolutely nothing */
            assert_true(fabs(out[i] - want) < 1e-36);
            continue;
        }
        worst = fmax(worst, fabs(out[i] - want) / unit_of(want));
    }
    print_message("silu on [-87, 104]: at most %.2f units in the last place\n", worst);
    assert_true(worst < 3);
    free(in);
    free(out);
    ace_device_close(dev);
}

/* sin(z)^2 alone: x is so small against alpha = 2^100 that it does not show in x + sin(alpha x)^2. */
static double sine_error(ace_device *dev, const float *z, int64_t rows, int64_t cols)
{
    ace_mark mark = ace_scratch_mark(dev);
    host_weight alpha = {.n = cols, .k = 1}, one = alpha;
    float *in = must(malloc(sizeof(float) * (size_t)(rows * cols))),
          *out = must(malloc(sizeof(float) * (size_t)(rows * cols)));
    alpha.values = must(malloc(sizeof(float) * (size_t)cols));
    one.values = must(malloc(sizeof(float) * (size_t)cols));
    for (int64_t i = 0; i < cols; i++) alpha.values[i] = 0x1p100f, one.values[i] = 1;
    const ace_weight_desc desc = {.kind = ACE_WEIGHT_VECTOR, .name = "test", .n = cols, .k = 1, .taps = 1};
    alpha.w = ace_weight_new(dev, &desc, read_host, &alpha);
    one.w = ace_weight_new(dev, &desc, read_host, &one);
    for (int64_t i = 0; i < rows * cols; i++) in[i] = z[i] * 0x1p-100f;
    ace_mat x = ace_scratch(dev, ACE_F32, rows, cols), y = ace_scratch(dev, ACE_F32, rows, cols);
    ace_upload(dev, x, in);
    ace_snake(dev, y, x, &(ace_snake_weights){alpha.w, one.w});
    ace_download(dev, out, y);
    check_ok(dev);
    double worst = 0;
    for (int64_t i = 0; i < rows * cols; i++) {
        double s = sin((double)z[i]), want = s * s + in[i];
        worst = fmax(worst, fabs(out[i] - want) / unit_of(want));
    }
    free(in);
    free(out);
    drop_weight(dev, &alpha);
    drop_weight(dev, &one);
    ace_scratch_release(dev, mark);
    return worst;
}

static void sine_sweep(void **state)
{
    enum { ROWS = 2000, COLS = 500 };
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    float *z = must(malloc(sizeof(float) * ROWS * COLS));
    random_state r = {7};
    static const float ranges[] = {1, 10, 100, 1e4f, 3e4f, 1e8f};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        for (int j = 0; j < ROWS * COLS; j++) z[j] = random_float(&r, -ranges[i], ranges[i]);
        /* the floats nearest to multiples of pi / 2, where reduction is hardest */
        for (int j = 0; j < ROWS * COLS / 4; j++) z[j] = (float)(rint((double)z[j] / (M_PI / 2)) * (M_PI / 2));
        double worst = sine_error(dev, z, ROWS, COLS);
        print_message("sin^2 on [-%g, %g]: at most %.2f units in the last place\n", (double)ranges[i],
                      (double)ranges[i], worst);
        /* In units of 2^-24, relative: the reduction rounds twice and the sine once, the square doubles that and
         * rounds, the sum with x rounds: 8 of them, 4 units in the last place of a mantissa of 1. The polynomial's own
         * rounding is small against these. */
        assert_true(worst < 4.25);
    }
    free(z);
    ace_device_close(dev);
}

int main(void)
{
    static const device_test tests[] = {
        {"rms_norm with and without modulation", norm},
        {"head_norm_rope with and without rotation", head_norm_and_rope},
        {"snake and silu", snake_and_silu},
        {"copy, add and add_vector", copies_and_sums},
        {"embed", embeddings},
        {"conversions round as the scalar ones", conversions},
        {"silu over its whole range", silu_sweep},
        {"sin^2 up to large arguments", sine_sweep},
    };
    return run_device_tests("device/rows", tests, sizeof tests / sizeof *tests);
}
