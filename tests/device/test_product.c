/* Linear layers and convolutions: against double precision, and against themselves cut up differently. */
#include "epilogue_test.h"

enum { SCRATCH = 64 << 20 };

/* Runs conv1d (or linear) with the epilogue and compares every element. */
static void check_product(ace_device *dev, random_state *r, int64_t rows, int64_t x_rows, int64_t channels, int64_t n,
                          int taps, const ace_conv *conv, unsigned bits)
{
    ace_mark mark = ace_scratch_mark(dev);
    int64_t k = channels * taps;
    host_weight w = make_weight(dev, r, ACE_WEIGHT_PRODUCT, n, k, taps, -1, 1);
    fenced x = fence(dev, r, ace_device_act(dev), x_rows, channels, -1, 1);
    epilogue_case e = random_epilogue(dev, r, rows, n, bits);
    fenced y = fence(dev, r, (bits & 128) ? ace_device_act(dev) : ACE_F32, rows, n, 0, 0);
    ace_snake_weights snake;
    ace_epilogue epilogue = epilogue_of(&e, &snake);
    ace_mat stored = e.store ? y.mat : (ace_mat){.dtype = y.mat.dtype};
    if (conv)
        ace_conv1d(dev, stored, x.mat, w.w, conv, &epilogue);
    else
        ace_linear(dev, stored, x.mat, w.w, bits ? &epilogue : NULL);
    fetch(dev, &y);
    if (e.has_snake) fetch(dev, &e.act);
    ace_conv c = conv ? *conv : (ace_conv){.stride = 1, .dilation = 1};
    for (int64_t m = 0; m < rows; m++)
        for (int64_t o = 0; o < n; o++) {
            double sum = 0, magnitude = 0;
            for (int tap = 0; tap < taps; tap++) {
                int64_t row = (m + c.out_first) * c.stride + tap * c.dilation - c.padding - c.x_first;
                if (row < 0 || row >= x_rows) continue;
                for (int64_t i = 0; i < channels; i++) {
                    double p = (double)w.values[o * k + tap * channels + i] * x.host[row * channels + i];
                    sum += p;
                    magnitude += fabs(p);
                }
            }
            check_element(&e, &y, finish(&e, sum, sum_tolerance(magnitude, k), m, o, n), m, o);
        }
    free(x.host);
    free(y.host);
    drop_epilogue(dev, &e);
    drop_weight(dev, &w);
    ace_scratch_release(dev, mark);
}

static void linear_is_exact_enough(void **state)
{
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    random_state r = {1};
    static const int64_t edges[] = {1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 31, 32, 33, 63, 64, 65};
    enum { EDGES = sizeof edges / sizeof *edges };
    for (int i = 0; i < EDGES; i++) check_product(dev, &r, edges[i], edges[i], 40, 40, 1, NULL, 0);
    for (int i = 0; i < EDGES; i++) check_product(dev, &r, 5, 5, edges[i], 37, 1, NULL, 0);
    for (int i = 0; i < EDGES; i++) check_product(dev, &r, 5, 5, 37, edges[i], 1, NULL, 0);
    for (int i = 0; i < 40; i++) {
        int64_t m = random_int(&r, 1, 70), k = random_int(&r, 1, 90), n = random_int(&r, 1, 70);
        check_product(dev, &r, m, m, k, n, 1, NULL, 0);
    }
    /* past the blocks of rows and the chunks of k */
    check_product(dev, &r, 195, 195, 17, 33, 1, NULL, 0);
    check_product(dev, &r, 9, 9, 255, 35, 1, NULL, 0);
    check_product(dev, &r, 9, 9, 257, 35, 1, NULL, 0);
    check_product(dev, &r, 14, 14, 1027, 300, 1, NULL, 0);
    /* channels in several passes, blocks of rows and groups of panels; weights that stay in a cache, and not */
    check_product(dev, &r, 40, 40, 5301, 35, 1, NULL, 0);
    check_product(dev, &r, 21, 21, 2700, 700, 1, NULL, 1 | 8 | 128);
    check_product(dev, &r, 300, 300, 65, 97, 1, NULL, 1 | 8 | 16 | 32);
    check_product(dev, &r, 300, 300, 65, 2100, 1, NULL, 0);
    ace_device_close(dev);
}

static void every_epilogue_combination(void **state)
{
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    random_state r = {2};
    for (unsigned bits = 0; bits < 256; bits++) {
        int64_t m = random_int(&r, 1, 20);
        check_product(dev, &r, m, m, random_int(&r, 1, 40), random_int(&r, 1, 70), 1, NULL, bits);
    }
    ace_device_close(dev);
}

static void convolution_is_exact_enough(void **state)
{
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    random_state r = {3};
    static const int taps[] = {1, 2, 3, 7}, strides[] = {1, 2, 4, 10}, dilations[] = {1, 3, 9};
    for (int t = 0; t < 4; t++)
        for (int s = 0; s < 4; s++)
            for (int d = 0; d < 3; d++)
                for (int repeat = 0; repeat < 3; repeat++) {
                    int64_t rows = random_int(&r, 1, 45), x_rows = random_int(&r, 1, 200);
                    ace_conv conv = {.stride = strides[s], .dilation = dilations[d]};
                    conv.padding = (int)random_int(&r, 0, (taps[t] - 1) * dilations[d]);
                    conv.x_first = random_int(&r, 0, 60);
                    conv.out_first = random_int(&r, 0, 60 / conv.stride);
                    check_product(dev, &r, rows, x_rows, random_int(&r, 1, 20), random_int(&r, 1, 40), taps[t], &conv,
                                  (unsigned)random_int(&r, 0, 255));
                }
    /* chunks that end inside a row, and rows of an odd number of channels */
    ace_conv conv = {.stride = 1, .dilation = 2, .padding = 6};
    check_product(dev, &r, 30, 30, 301, 40, 7, &conv, 1);
    check_product(dev, &r, 30, 30, 128, 40, 7, &conv, 1);
    check_product(dev, &r, 30, 30, 51, 40, 20, &conv, 1);
    check_product(dev, &r, 300, 300, 33, 70, 7, &conv, 1 | 16 | 32);
    /* several passes, at a stride and with a reach */
    check_product(dev, &r, 33, 250, 1500, 35, 3, &(ace_conv){.stride = 1, .dilation = 100, .padding = 100}, 1);
    check_product(dev, &r, 35, 400, 700, 18, 6, &(ace_conv){.stride = 25, .dilation = 3, .padding = 7}, 1);
    ace_device_close(dev);
}

static void residual_may_be_the_output(void **state)
{
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    random_state r = {4};
    host_weight w = make_weight(dev, &r, ACE_WEIGHT_PRODUCT, 75, 50, 1, -1, 1);
    fenced x = fence(dev, &r, ace_device_act(dev), 40, 50, -1, 1), y = fence(dev, &r, ACE_F32, 40, 75, -1, 1);
    float *before = must(malloc(sizeof(float) * 40 * 75));
    memcpy(before, y.host, sizeof(float) * 40 * 75);
    ace_linear(dev, y.mat, x.mat, w.w, &(ace_epilogue){.residual = y.mat});
    fetch(dev, &y);
    for (int m = 0; m < 40; m++)
        for (int n = 0; n < 75; n++) {
            double sum = before[m * 75 + n];
            for (int k = 0; k < 50; k++) sum += (double)x.host[m * 50 + k] * w.values[n * 50 + k];
            check_close("y", m, n, y.host[m * 75 + n], sum, 2e-5);
        }
    free(before);
    free(x.host);
    free(y.host);
    drop_weight(dev, &w);
    ace_device_close(dev);
}

static void gated_product(void **state)
{
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    ace_dtype act = ace_device_act(dev);
    random_state r = {5};
    for (int i = 0; i < 25; i++) {
        ace_mark mark = ace_scratch_mark(dev);
        int64_t m = random_int(&r, 1, 30), k = random_int(&r, 1, 300), f = random_int(&r, 1, 70);
        host_weight w = make_weight(dev, &r, ACE_WEIGHT_GATED, 2 * f, k, 1, -1, 1);
        fenced x = fence(dev, &r, act, m, k, -1, 1), y = fence(dev, &r, act, m, f, 0, 0);
        ace_linear_silu_mul(dev, y.mat, x.mat, w.w);
        fetch(dev, &y);
        for (int64_t row = 0; row < m; row++)
            for (int64_t n = 0; n < f; n++) {
                double gate = 0, up = 0, gates = 0, ups = 0;
                for (int64_t j = 0; j < k; j++) {
                    double a = (double)x.host[row * k + j] * w.values[n * k + j];
                    double b = (double)x.host[row * k + j] * w.values[(f + n) * k + j];
                    gate += a, up += b, gates += fabs(a), ups += fabs(b);
                }
                double unit = 0x1p-24 * (8 + 2 * sqrt((double)k)), want = silu(gate) * up;
                double tolerance = unit * (1.2 * gates * fabs(up) + fabs(silu(gate)) * ups) + 1e-6 * fabs(want) + 1e-7;
                check_close("y", row, n, y.host[row * f + n], want, tolerance + storing(want, act));
            }
        free(x.host);
        free(y.host);
        drop_weight(dev, &w);
        ace_scratch_release(dev, mark);
    }
    ace_device_close(dev);
}

/* Huge, tiny and subnormal values side by side. The processors' products of bf16 take subnormal operands for zero. */
static void extreme_values(void **state)
{
    enum { ROWS = 45, K = 150, COLS = 40 };
    static const float extremes[] = {0x1p-130f, -0x1p-127f, 0x1p-126f, 0, -0.0f, 1, -1, 1e-18f, 0.3f, 1e17f, -0x1p55f};
    enum { EXTREMES = sizeof extremes / sizeof *extremes, TINY = 3 };
    const config *c = *state;
    ace_device *dev = open_device(c, 2, SCRATCH, NULL);
    bool flushes = c->isa >= ACE_ISA_AVX512_BF16 && c->precision == ACE_BF16;
    bool half = c->capability == 75; /* rounds to 2^-40 of each row's greatest: device/cuda/kernels/product_half.cu */
    random_state r = {11};
    float *x = must(malloc(sizeof *x * ROWS * K)), *y = must(malloc(sizeof *y * ROWS * COLS));
    host_weight w = {.values = must(malloc(sizeof *w.values * COLS * K)), .n = COLS, .k = K};
    for (int i = 0; i < ROWS * K; i++) { /* every third row has nothing but the tiny ones */
        int64_t choice = random_int(&r, 0, (i / K % 3 == 2 ? TINY : EXTREMES) - 1);
        x[i] = as_stored(extremes[choice], c->precision);
    }
    for (int i = 0; i < COLS * K; i++) w.values[i] = as_stored(extremes[random_int(&r, 0, EXTREMES - 1)], c->precision);
    w.w = ace_weight_new(dev,
                         &(ace_weight_desc){.kind = ACE_WEIGHT_PRODUCT, .name = "test", .n = COLS, .k = K, .taps = 1},
                         read_host, &w);
    ace_mat in = ace_scratch(dev, c->precision, ROWS, K), out = ace_scratch(dev, ACE_F32, ROWS, COLS);
    ace_upload(dev, in, x);
    ace_linear(dev, out, in, w.w, NULL);
    ace_download(dev, y, out);
    check_ok(dev);
    for (int m = 0; m < ROWS; m++)
        for (int n = 0; n < COLS; n++) {
            double sum = 0, magnitude = 0, most_x = 0, most_w = 0;
            for (int k = 0; k < K; k++) {
                float a = x[m * K + k], b = w.values[n * K + k];
                most_x = fmax(most_x, fabs((double)a));
                most_w = fmax(most_w, fabs((double)b));
                bool zero = flushes && (fpclassify(a) == FP_SUBNORMAL || fpclassify(b) == FP_SUBNORMAL);
                double p = zero ? 0 : (double)a * b;
                sum += p;
                magnitude += fabs(p);
            }
            double lost = 2 * K * 0x1p-126; /* products and sums that are subnormal themselves */
            if (half) lost += 2.001 * K * 0x1p-40 * most_x * most_w;
            check_close("y", m, n, y[m * COLS + n], sum, 0x1p-24 * (8 + 2 * sqrt(K)) * magnitude + lost);
        }
    free(x);
    free(y);
    drop_weight(dev, &w);
    ace_device_close(dev);
}

/* ---- bit identity -------------------------------------------------------------------------------------------- */

typedef struct layer {
    host_weight w, bias, alpha, inv_beta, gated;
    fenced x;
    int64_t rows, channels, cols;
    int taps;
} layer;

static layer make_layer(ace_device *dev, uint64_t seed, int64_t rows, int64_t channels, int64_t cols, int taps)
{
    random_state r = {seed};
    layer l = {.rows = rows, .channels = channels, .cols = cols, .taps = taps};
    l.w = make_weight(dev, &r, ACE_WEIGHT_PRODUCT, cols, channels * taps, taps, -1, 1);
    l.gated = make_weight(dev, &r, ACE_WEIGHT_GATED, cols * 2, channels, 1, -1, 1);
    l.bias = make_weight(dev, &r, ACE_WEIGHT_VECTOR, cols, 1, 1, -1, 1);
    l.alpha = make_weight(dev, &r, ACE_WEIGHT_VECTOR, cols, 1, 1, 0.5f, 2);
    l.inv_beta = make_weight(dev, &r, ACE_WEIGHT_VECTOR, cols, 1, 1, 0.5f, 2);
    l.x = fence(dev, &r, ace_device_act(dev), rows, channels, -1, 1);
    return l;
}

static void drop_layer(ace_device *dev, layer *l)
{
    drop_weight(dev, &l->w);
    drop_weight(dev, &l->gated);
    drop_weight(dev, &l->bias);
    drop_weight(dev, &l->alpha);
    drop_weight(dev, &l->inv_beta);
    free(l->x.host);
}

/* Output rows [first, first + count) of the convolution from input rows [x_first, x_first + x_count). */
static void convolve(ace_device *dev, const layer *l, int64_t first, int64_t count, int64_t x_first, int64_t x_count,
                     float *host)
{
    ace_mark mark = ace_scratch_mark(dev);
    ace_mat y = ace_scratch(dev, ACE_F32, count, l->cols), act = ace_scratch(dev, ACE_F32, count, l->cols);
    ace_snake_weights snake = {l->alpha.w, l->inv_beta.w};
    ace_conv conv = {x_first, first, 1, 3, 3 * (l->taps / 2)};
    ace_conv1d(dev, y, ace_rows(l->x.mat, x_first, x_count), l->w.w, &conv,
               &(ace_epilogue){.bias = l->bias.w, .silu = true, .snake = &snake, .act = act});
    ace_download(dev, host, act);
    check_ok(dev);
    ace_scratch_release(dev, mark);
}

static void gate(ace_device *dev, const layer *l, int64_t first, int64_t count, float *host)
{
    ace_mark mark = ace_scratch_mark(dev);
    ace_mat y = ace_scratch(dev, ace_device_act(dev), count, l->cols);
    ace_linear_silu_mul(dev, y, ace_rows(l->x.mat, first, count), l->gated.w);
    ace_download(dev, host, y);
    check_ok(dev);
    ace_scratch_release(dev, mark);
}

static void threads_change_nothing(void **state)
{
    enum { ROWS = 421, COLS = 131 };
    float *one = must(malloc(sizeof(float) * ROWS * COLS)), *more = must(malloc(sizeof(float) * ROWS * COLS));
    for (int threads = 1; threads <= 3; threads++) {
        ace_device *dev = open_device(*state, threads, SCRATCH, NULL);
        layer l = make_layer(dev, 6, ROWS, 37, COLS, 5);
        convolve(dev, &l, 0, ROWS, 0, ROWS, threads == 1 ? one : more);
        if (threads > 1) check_same("a convolution with more threads", one, more, ROWS * COLS);
        drop_layer(dev, &l);
        ace_device_close(dev);
    }
    free(one);
    free(more);
}

static void rows_do_not_see_each_other(void **state)
{
    enum { ROWS = 210, COLS = 77 };
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    layer l = make_layer(dev, 7, ROWS, 601, COLS, 1);
    float *whole = must(malloc(sizeof(float) * ROWS * COLS)), *part = must(malloc(sizeof(float) * ROWS * COLS));
    float *gated = must(malloc(sizeof(float) * ROWS * COLS));
    convolve(dev, &l, 0, ROWS, 0, ROWS, whole);
    gate(dev, &l, 0, ROWS, gated);
    for (int64_t count = 1; count <= 25; count++)
        for (int64_t first = 0; first + count <= ROWS; first += 17) {
            convolve(dev, &l, first, count, first, count, part);
            check_same("rows of a product alone", whole + first * COLS, part, count * COLS);
            gate(dev, &l, first, count, part);
            check_same("rows of a gated product alone", gated + first * COLS, part, count * COLS);
        }
    free(whole);
    free(part);
    free(gated);
    drop_layer(dev, &l);
    ace_device_close(dev);
}

static void windows_equal_the_whole(void **state)
{
    enum { ROWS = 400, COLS = 45, REACH = 9 };
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    layer l = make_layer(dev, 8, ROWS, 43, COLS, 7);
    float *whole = must(malloc(sizeof(float) * ROWS * COLS)), *part = must(malloc(sizeof(float) * ROWS * COLS));
    convolve(dev, &l, 0, ROWS, 0, ROWS, whole);
    random_state r = {9};
    for (int i = 0; i < 60; i++) {
        int64_t first = random_int(&r, 0, ROWS - 1), count = random_int(&r, 1, ROWS - first);
        int64_t x_first = first > REACH ? first - REACH : 0;
        int64_t x_last = first + count + REACH < ROWS ? first + count + REACH : ROWS;
        convolve(dev, &l, first, count, x_first, x_last - x_first, part);
        check_same("a window of a convolution", whole + first * COLS, part, count * COLS);
    }
    free(whole);
    free(part);
    drop_layer(dev, &l);
    ace_device_close(dev);
}

/* NaN and infinity come through, and only where they belong. */
static void bad_values_are_not_hidden(void **state)
{
    ace_device *dev = open_device(*state, 1, SCRATCH, NULL);
    layer l = make_layer(dev, 10, 20, 30, 40, 1);
    float *host = l.x.host, y[20 * 40];
    host[7 * 30 + 3] = NAN;
    host[9 * 30 + 29] = INFINITY;
    ace_mat x = ace_scratch(dev, ace_device_act(dev), 20, 30), out = ace_scratch(dev, ACE_F32, 20, 40);
    ace_upload(dev, x, host);
    ace_linear(dev, out, x, l.w.w, NULL);
    ace_download(dev, y, out);
    for (int m = 0; m < 20; m++)
        for (int n = 0; n < 40; n++) {
            if (m == 7)
                assert_true(isnan(y[m * 40 + n]));
            else if (m == 9)
                assert_false(isfinite(y[m * 40 + n]) && l.w.values[n * 30 + 29] != 0);
            else
                assert_true(isfinite(y[m * 40 + n]));
        }
    drop_layer(dev, &l);
    ace_device_close(dev);
}

int main(void)
{
    static const device_test tests[] = {
        {"a linear layer agrees with double precision", linear_is_exact_enough},
        {"every combination of epilogues", every_epilogue_combination},
        {"a convolution agrees with double precision", convolution_is_exact_enough},
        {"the residual may be the output", residual_may_be_the_output},
        {"a gated product agrees with double precision", gated_product},
        {"extreme values agree with double precision", extreme_values},
        {"the number of threads changes no bit", threads_change_nothing},
        {"a row does not depend on its neighbours", rows_do_not_see_each_other},
        {"a window of a convolution equals the whole", windows_equal_the_whole},
        {"NaN and infinity are not hidden", bad_values_are_not_hidden},
    };
    return run_device_tests("device/product", tests, sizeof tests / sizeof *tests);
}
