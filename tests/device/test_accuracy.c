/* A table of errors at the sizes of the model, against double precision with unrounded inputs: what bf16 costs is in
 * it.
 *
 * The limits are about twice what rounding must give. A sum of n random terms in order passes through n partial sums,
 * each of which rounds by 2.6e-8 of its size (RMS): relative to the result that is 2.6e-8 * sqrt(n / 2), 3e-7 for the
 * chunks of 256 in which products are summed on the CPU; GPUs sum all of them in one chain. bf16 rounds each operand
 * by 1.7e-3 (RMS). int8 rounds both operands by a step of 1/127 of the greatest of a row, which is 3.4 deviations here:
 * 1.1e-2 in all. int4 rounds in steps of an eighth of the greatest of 32 values, 2.6 deviations: 9e-2. */
#include "block_test.h"

enum { SCRATCH = 64 << 20 };

typedef struct errors {
    double max, squares, reference; /* largest error; sums of squares of errors and of expected values */
    int64_t count;
} errors;

static void add_error(errors *e, float got, double want)
{
    double d = got - want;
    e->max = fmax(e->max, fabs(d));
    e->squares += d * d;
    e->reference += want * want;
    e->count++;
}

/* Prints a line, both relative to the RMS of what is expected, and checks the RMS error. */
static void report(const config *c, const char *operation, const errors *e, double limit)
{
    double relative = sqrt(e->squares / e->reference), max = e->max / sqrt(e->reference / (double)e->count);
    print_message("%-16s %-34s relative max %.2e   RMS %.2e\n", c->label, operation, max, relative);
    assert_true(relative < limit);
}

/* Values that are not rounded to bf16 on the host, and roughly normal. */
static float *values(random_state *r, int64_t count, float deviation)
{
    float *v = must(malloc((size_t)count * sizeof *v));
    for (int64_t i = 0; i < count; i++) {
        float sum = 0;
        for (int j = 0; j < 6; j++) sum += random_float(r, -1, 1);
        v[i] = sum * 0.7071f * deviation; /* six uniforms on [-1, 1]: variance 2 */
    }
    return v;
}

static ace_weight *weight(ace_device *dev, ace_weight_kind kind, float *v, int64_t n, int64_t k, int taps)
{
    host_weight h = {.values = v, .n = n, .k = k};
    ace_weight *w = ace_weight_new(dev, &(ace_weight_desc){.kind = kind, .name = "test", .n = n, .k = k, .taps = taps},
                                   read_host, &h);
    check_ok(dev);
    return w;
}

static ace_mat upload(ace_device *dev, ace_dtype dtype, int64_t rows, int64_t cols, const float *host)
{
    ace_mat m = ace_scratch(dev, dtype, rows, cols);
    ace_upload(dev, m, host);
    return m;
}

static double dot(const float *a, const float *b, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

static void products(void **state)
{
    enum { M = 12, K = 2048, N = 64 };
    const config *c = *state;
    ace_device *dev = open_device(c, 2, SCRATCH, NULL);
    bool bf16 = c->precision == ACE_BF16;
    double chain = c->capability ? sqrt(K / 256.0) : 1; /* how much longer sums are than chunks */
    random_state r = {1};
    float *x = values(&r, M * K, 1), *w = values(&r, 2 * N * K, 0.02f), *y = must(malloc(sizeof(float) * M * N));
    ace_weight *linear = weight(dev, ACE_WEIGHT_PRODUCT, w, N, K, 1);
    ace_weight *gated = weight(dev, ACE_WEIGHT_GATED, w, 2 * N, K, 1);
    ace_mat in = upload(dev, c->precision, M, K, x), out = ace_scratch(dev, ACE_F32, M, N);
    ace_linear(dev, out, in, linear, NULL);
    ace_download(dev, y, out);
    errors e = {0};
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) add_error(&e, y[m * N + n], dot(x + m * K, w + n * K, K));
    report(c, "linear, K 2048", &e, bf16 ? 5e-3 : 6e-7 * chain);

    out = ace_scratch(dev, c->precision, M, N);
    ace_linear_silu_mul(dev, out, in, gated);
    ace_download(dev, y, out);
    e = (errors){0};
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) {
            double z = dot(x + m * K, w + n * K, K), up = dot(x + m * K, w + (N + n) * K, K);
            add_error(&e, y[m * N + n], z / (1 + exp(-z)) * up);
        }
    report(c, "gated, K 2048", &e, bf16 ? 1e-2 : 1e-6 * chain);
    ace_weight_free(dev, linear);
    ace_weight_free(dev, gated);
    free(x);
    free(w);
    free(y);
    ace_device_close(dev);
}

static bool read_blocks(void *context, int64_t first, int64_t count, ace_dtype dtype, void *rows, ace_error *error)
{
    const host_weight *h = context;
    size_t bytes = (size_t)(h->k / ace_dtype_block(dtype)) * ace_dtype_block_bytes(dtype);
    (void)error;
    memcpy(rows, (const uint8_t *)(const void *)h->values + (size_t)first * bytes, (size_t)count * bytes);
    return true;
}

/* int8 and int4 against the weights that they were made of, GGUF's blocks against the values that they stand for. */
static void quantised_products(void **state)
{
    enum { M = 12, K = 2048, N = 64 };
    static const struct {
        const char *name;
        ace_weight_form form;
        ace_dtype blocks;
        double limit; /* 0: that of the precision */
    } forms[] = {{"int8, K 2048", ACE_FORM_INT8, ACE_F32, 2e-2}, {"int4, K 2048", ACE_FORM_INT4, ACE_F32, 0.15},
                 {"Q8_0, K 2048", ACE_FORM_BLOCKS, ACE_Q8_0, 0}, {"Q4_K, K 2048", ACE_FORM_BLOCKS, ACE_Q4_K, 0},
                 {"Q5_K, K 2048", ACE_FORM_BLOCKS, ACE_Q5_K, 0}, {"Q6_K, K 2048", ACE_FORM_BLOCKS, ACE_Q6_K, 0}};
    const config *c = *state;
    ace_device *dev = open_device(c, 2, SCRATCH, NULL);
    double chain = c->capability ? sqrt(K / 256.0) : 1;
    random_state r = {5};
    float *x = values(&r, M * K, 1), *w = values(&r, N * K, 0.02f), *y = must(malloc(sizeof(float) * M * N));
    uint8_t *bytes = must(malloc((size_t)N * K * 2));
    ace_mat in = upload(dev, c->precision, M, K, x), out = ace_scratch(dev, ACE_F32, M, N);
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++) {
        bool blocks = forms[f].form == ACE_FORM_BLOCKS;
        int block = ace_dtype_block(forms[f].blocks);
        size_t size = ace_dtype_block_bytes(forms[f].blocks);
        if (blocks) random_blocks(&r, forms[f].blocks, bytes, (size_t)(N * K / block));
        for (int i = 0; blocks && i < N * K; i++)
            w[i] = block_value(forms[f].blocks, bytes + (size_t)(i / block) * size, i % block);
        host_weight h = {.values = blocks ? (float *)(void *)bytes : w, .n = N, .k = K};
        ace_weight_desc desc = {.kind = ACE_WEIGHT_PRODUCT,
                                .name = "test",
                                .n = N,
                                .k = K,
                                .taps = 1,
                                .form = forms[f].form,
                                .blocks = forms[f].blocks};
        ace_weight *quantised = ace_weight_new(dev, &desc, blocks ? read_blocks : read_host, &h);
        check_ok(dev);
        ace_linear(dev, out, in, quantised, NULL);
        ace_download(dev, y, out);
        check_ok(dev);
        errors e = {0};
        for (int m = 0; m < M; m++)
            for (int n = 0; n < N; n++) add_error(&e, y[m * N + n], dot(x + m * K, w + n * K, K));
        report(c, forms[f].name, &e,
               forms[f].limit > 0         ? forms[f].limit
               : c->precision == ACE_BF16 ? 5e-3
                                          : 6e-7 * chain);
        ace_weight_free(dev, quantised);
    }
    free(x);
    free(w);
    free(y);
    free(bytes);
    ace_device_close(dev);
}

static void convolution(void **state)
{
    enum { ROWS = 40, C = 128, TAPS = 7, DILATION = 3 };
    const config *c = *state;
    ace_device *dev = open_device(c, 2, SCRATCH, NULL);
    random_state r = {2};
    float *x = values(&r, ROWS * C, 1), *w = values(&r, C * C * TAPS, 0.03f),
          *y = must(malloc(sizeof(float) * ROWS * C));
    float *alpha = must(malloc(sizeof(float) * C)), *inv_beta = must(malloc(sizeof(float) * C));
    for (int i = 0; i < C; i++) alpha[i] = random_float(&r, 0.5f, 3), inv_beta[i] = random_float(&r, 0.3f, 1);
    ace_weight *conv = weight(dev, ACE_WEIGHT_PRODUCT, w, C, C * TAPS, TAPS);
    ace_snake_weights snake = {weight(dev, ACE_WEIGHT_VECTOR, alpha, C, 1, 1),
                               weight(dev, ACE_WEIGHT_VECTOR, inv_beta, C, 1, 1)};
    ace_mat in = upload(dev, c->precision, ROWS, C, x), out = ace_scratch(dev, ACE_F32, ROWS, C);
    ace_conv1d(dev, (ace_mat){0}, in, conv, &(ace_conv){0, 0, 1, DILATION, DILATION * 3},
               &(ace_epilogue){.snake = &snake, .act = out});
    ace_download(dev, y, out);
    errors e = {0};
    for (int m = 0; m < ROWS; m++)
        for (int n = 0; n < C; n++) {
            double p = 0;
            for (int tap = 0; tap < TAPS; tap++) {
                int row = m + DILATION * (tap - 3);
                if (row >= 0 && row < ROWS) p += dot(x + row * C, w + (n * TAPS + tap) * C, C);
            }
            double s = sin(alpha[n] * p);
            add_error(&e, y[m * C + n], p + s * s * inv_beta[n]);
        }
    report(c, "convolution 128, k7, snake", &e, c->precision == ACE_BF16 ? 1e-2 : 1e-6);
    ace_weight_free(dev, conv);
    ace_weight_free(dev, (ace_weight *)(uintptr_t)snake.alpha);
    ace_weight_free(dev, (ace_weight *)(uintptr_t)snake.inv_beta);
    free(x);
    free(w);
    free(y);
    free(alpha);
    free(inv_beta);
    ace_device_close(dev);
}

static void attention(void **state)
{
    enum { S = 300, D = 128, HEADS = 2 };
    const config *c = *state;
    ace_device *dev = open_device(c, 2, SCRATCH, NULL);
    random_state r = {3};
    float *q = values(&r, S * D * HEADS, 1), *k = values(&r, S * D, 1), *v = values(&r, S * D, 1);
    float *y = must(malloc(sizeof(float) * S * D * HEADS));
    ace_mat o = ace_scratch(dev, c->precision, S, D * HEADS);
    ace_attention(dev, o, upload(dev, c->precision, S, D * HEADS, q), upload(dev, c->precision, S, D, k),
                  upload(dev, c->precision, S, D, v),
                  &(ace_attention_shape){HEADS, 1, D, 0.08838835f, ACE_MASK_FULL, 0});
    ace_download(dev, y, o);
    errors e = {0};
    double *p = must(malloc(sizeof *p * S));
    for (int64_t at = 0; at < S * HEADS; at++) {
        double total = 0;
        for (int64_t j = 0; j < S; j++) total += p[j] = exp(dot(q + at * D, k + j * D, D) * (double)0.08838835f);
        for (int64_t i = 0; i < D; i++) {
            double sum = 0;
            for (int64_t j = 0; j < S; j++) sum += p[j] * v[j * D + i];
            add_error(&e, y[at * D + i], sum / total);
        }
    }
    report(c, "attention, 300 keys, head of 128", &e, c->precision == ACE_BF16 ? 1e-2 : 1e-6);
    free(p);
    free(q);
    free(k);
    free(v);
    free(y);
    ace_device_close(dev);
}

static void norms(void **state)
{
    enum { ROWS = 30, N = 2048 };
    const config *c = *state;
    ace_device *dev = open_device(c, 2, SCRATCH, NULL);
    random_state r = {4};
    float *x = values(&r, ROWS * N, 3), *w = values(&r, N, 1), *y = must(malloc(sizeof(float) * ROWS * N));
    ace_weight *scale = weight(dev, ACE_WEIGHT_VECTOR, w, N, 1, 1);
    ace_mat out = ace_scratch(dev, c->precision, ROWS, N);
    ace_rms_norm(dev, out, upload(dev, ACE_F32, ROWS, N, x), scale, 1e-6f, (ace_mat){0}, (ace_mat){0});
    ace_download(dev, y, out);
    errors e = {0};
    for (int m = 0; m < ROWS; m++) {
        double factor = 1 / sqrt(dot(x + m * N, x + m * N, N) / N + (double)1e-6f);
        for (int n = 0; n < N; n++) add_error(&e, y[m * N + n], x[m * N + n] * factor * w[n]);
    }
    report(c, "rms_norm 2048", &e, c->precision == ACE_BF16 ? 4e-3 : 3e-7);
    ace_weight_free(dev, scale);
    free(x);
    free(w);
    free(y);
    ace_device_close(dev);
}

int main(void)
{
    static const device_test tests[] = {{"products", products},
                                        {"quantised products", quantised_products},
                                        {"convolution", convolution},
                                        {"attention", attention},
                                        {"norms", norms}};
    return run_quantised_tests("device/accuracy", tests, sizeof tests / sizeof *tests);
}
