/* bench_kernels.c - how fast the CPU device's operations are, and what share of the processor's peak that is.
 *
 *   bench_kernels [-i isa] [-p f32|bf16] [-t threads] [-o operation] [-r repeats]
 *
 * Each line is the best of several runs: other programs only ever make a run slower. With -t 1 the processor time of
 * the thread is measured instead of the time on the wall, for machines that are busy with other things. The peak is
 * measured too: a loop of independent fused multiply-adds of the widest vectors, on as many threads.
 *
 * Where oneDNN was found, products also run there, with the instructions of `isa`: `repeats` pairs of one run here and
 * one there, and the median of the pairs' ratios is printed (above 1: we are faster). */
#include "device/device.h"
#include "device/rates.h"
#include "yardstick.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- operations ---------------------------------------------------------------------------------------------- */

typedef struct bench {
    ace_device *dev;
    bool alone;           /* one thread: measure its processor time */
    double peak, seconds; /* GFLOP/s; of one operation, at least */
    const char *only;
    int threads, repeats;
} bench;

typedef struct operation {
    const char *name;
    ace_mat y, x, k, v, rope;
    ace_weight *w, *bias, *alpha, *inv_beta;
    ace_conv conv;
    ace_attention_shape attention;
    int64_t keys; /* of one of the caches that k and v hold one after the other */
    void (*run)(ace_device *dev, const struct operation *op);
    yardstick *other; /* the same by oneDNN, or NULL */
} operation;

static bool read_pattern(void *context, int64_t first, int64_t count, ace_dtype dtype, void *rows, ace_error *error)
{
    (void)error;
    int64_t k = *(int64_t *)context;
    for (int64_t i = 0; i < count * k; i++) {
        uint32_t hash = (uint32_t)(first * k + i) * 2654435761u;
        float v = (float)(hash >> 8) * 0x1p-24f * 0.125f - 0.0625f;
        if (dtype == ACE_BF16)
            ((uint16_t *)rows)[i] = ace_f32_to_bf16(v);
        else
            ((float *)rows)[i] = v;
    }
    return true;
}

static ace_weight *weight(bench *b, ace_weight_kind kind, int64_t n, int64_t k, int taps)
{
    return ace_weight_new(b->dev, &(ace_weight_desc){.kind = kind, .name = "bench", .n = n, .k = k, .taps = taps},
                          read_pattern, &k);
}

static ace_mat matrix(bench *b, ace_dtype dtype, int64_t rows, int64_t cols)
{
    ace_error error = {0};
    ace_mat m = ace_scratch(b->dev, dtype, rows, cols);
    float *host = malloc((size_t)(rows * cols) * sizeof *host);
    if (host && read_pattern(&cols, 0, rows, ACE_F32, host, &error)) {
        for (int64_t i = 0; i < rows * cols; i++) host[i] *= 16;
        ace_upload(b->dev, m, host);
    }
    free(host);
    return m;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, by_value);
    return values[count / 2];
}

/* oneDNN's threads go on spinning for some milliseconds: they are given time to fall asleep. */
static void settle(void)
{
    nanosleep(&(struct timespec){0, 15000000}, NULL);
}

static void compare(bench *b, operation *op)
{
    enum { MOST = 99 };
    double ratios[MOST], ours[MOST], theirs[MOST];
    int count = b->repeats < 5 ? 5 : b->repeats > MOST ? MOST : b->repeats;
    for (int i = -1; i < count; i++) {
        settle();
        double start = rates_clock(b->alone);
        op->run(b->dev, op);
        double middle = rates_clock(b->alone);
        yardstick_run(op->other);
        double end = rates_clock(b->alone);
        if (i < 0) continue;
        ours[i] = middle - start;
        theirs[i] = end - middle;
        ratios[i] = theirs[i] / ours[i];
    }
    printf("%-44s %9.3f ms, oneDNN %.3f ms: %.2f x oneDNN (medians of %d pairs; %s)\n", "", median(ours, count) * 1e3,
           median(theirs, count) * 1e3, median(ratios, count), count, yardstick_implementation(op->other));
}

static void measure(bench *b, operation *op, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void measure(bench *b, operation *op, const char *format, ...)
{
    char name[96];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name, sizeof name, format, arguments);
    va_end(arguments);
    ace_device_stats before = ace_device_get_stats(b->dev);
    op->run(b->dev, op);
    ace_device_stats after = ace_device_get_stats(b->dev);
    double flops = after.flops - before.flops, bytes = after.bytes_moved - before.bytes_moved, best = INFINITY;
    double end = rates_clock(b->alone) + b->seconds;
    for (int i = 0; i < 3 || rates_clock(b->alone) < end; i++) {
        double start = rates_clock(b->alone);
        op->run(b->dev, op);
        best = fmin(best, rates_clock(b->alone) - start);
    }
    printf("%-44s %9.3f ms %8.1f GFLOP/s %5.1f %% of peak %7.1f GB/s\n", name, best * 1e3, flops / best * 1e-9,
           100 * flops / best * 1e-9 / b->peak, bytes / best * 1e-9);
    if (op->other) compare(b, op);
    yardstick_free(op->other);
    op->other = NULL;
    fflush(stdout);
}

static void run_linear(ace_device *dev, const operation *op)
{
    ace_linear(dev, op->y, op->x, op->w, NULL);
}

static void run_gated(ace_device *dev, const operation *op)
{
    ace_linear_silu_mul(dev, op->y, op->x, op->w);
}

static void run_conv(ace_device *dev, const operation *op)
{
    ace_snake_weights snake = {op->alpha, op->inv_beta};
    ace_epilogue e = {.bias = op->bias, .snake = &snake, .act = op->y};
    ace_conv1d(dev, (ace_mat){.dtype = ACE_F32}, op->x, op->w, &op->conv, &e);
}

static void run_attention(ace_device *dev, const operation *op)
{
    ace_attention(dev, op->y, op->x, op->k, op->v, &op->attention);
}

static void run_cached_attention(ace_device *dev, const operation *op)
{
    for (int64_t first = 0; first < op->k.rows; first += op->keys)
        ace_attention(dev, op->y, op->x, ace_rows(op->k, first, op->keys), ace_rows(op->v, first, op->keys),
                      &op->attention);
}

static void run_norm(ace_device *dev, const operation *op)
{
    ace_rms_norm(dev, op->y, op->x, op->w, 1e-6f, (ace_mat){.dtype = ACE_F32}, (ace_mat){.dtype = ACE_F32});
}

static void run_rope(ace_device *dev, const operation *op)
{
    ace_head_norm_rope(dev, op->y, 128, op->w, 1e-6f, op->rope, 0);
}

static void run_snake(ace_device *dev, const operation *op)
{
    ace_snake(dev, op->y, op->x, &(ace_snake_weights){op->alpha, op->inv_beta});
}

static void run_copy(ace_device *dev, const operation *op)
{
    ace_copy(dev, op->y, op->x);
}

static bool wanted(const bench *b, const char *name)
{
    return !b->only || strstr(name, b->only);
}

static void linears(bench *b)
{
    static const int64_t shapes[][3] = {
        {750, 2048, 6144}, {750, 6144, 2048}, {1500, 2048, 2048}, {375, 2048, 12288}, {1, 2048, 6144}};
    ace_dtype act = ace_device_act(b->dev);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int64_t m = shapes[i][0], k = shapes[i][1], n = shapes[i][2];
        ace_mark mark = ace_scratch_mark(b->dev);
        operation op = {.y = ace_scratch(b->dev, act, m, n),
                        .x = matrix(b, act, m, k),
                        .w = weight(b, ACE_WEIGHT_PRODUCT, n, k, 1),
                        .run = run_linear};
        op.other = yardstick_linear(act == ACE_BF16 ? YARDSTICK_BF16 : YARDSTICK_F32, m, k, n, b->threads);
        measure(b, &op, "linear %lld x %lld x %lld", (long long)m, (long long)k, (long long)n);
        ace_weight_free(b->dev, op.w);
        ace_scratch_release(b->dev, mark);
    }
}

/* Ours from bf16 or float32 to the same, quantised and scaled on the way; oneDNN only the product, in the kinds of
 * bytes that it offers: the fastest of them is what to hold ours against. */
static void int8_linears(bench *b)
{
    static const int64_t shapes[][3] = {{750, 2048, 6144}, {750, 6144, 2048}, {1500, 2048, 2048}, {375, 2048, 12288}};
    static const struct {
        yardstick_kind kind;
        const char *name;
    } kinds[] = {{YARDSTICK_INT8, "s8 -> s32"},
                 {YARDSTICK_INT8_ROUNDED, "s8 -> bf16"},
                 {YARDSTICK_U8, "u8 -> s32"},
                 {YARDSTICK_U8_ROUNDED, "u8 -> bf16"}};
    ace_dtype act = ace_device_act(b->dev);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int64_t m = shapes[i][0], k = shapes[i][1], n = shapes[i][2];
        ace_mark mark = ace_scratch_mark(b->dev);
        operation op = {.y = ace_scratch(b->dev, act, m, n), .x = matrix(b, act, m, k), .run = run_linear};
        op.w = ace_weight_new(
            b->dev,
            &(ace_weight_desc){
                .kind = ACE_WEIGHT_PRODUCT, .name = "bench", .n = n, .k = k, .taps = 1, .form = ACE_FORM_INT8},
            read_pattern, &k);
        for (size_t j = 0; j < sizeof kinds / sizeof *kinds; j++) {
            op.other = yardstick_linear(kinds[j].kind, m, k, n, b->threads);
            measure(b, &op, "int8 %lld x %lld x %lld, oneDNN %s", (long long)m, (long long)k, (long long)n,
                    op.other ? kinds[j].name : "cannot");
        }
        ace_weight_free(b->dev, op.w);
        ace_scratch_release(b->dev, mark);
    }
}

/* ---- quantised weights --------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    ace_weight_form form;
    ace_dtype blocks;
} forms[] = {{"plain", ACE_FORM_PLAIN, ACE_F32},  {"int8", ACE_FORM_INT8, ACE_F32},
             {"int4", ACE_FORM_INT4, ACE_F32},    {"Q8_0", ACE_FORM_BLOCKS, ACE_Q8_0},
             {"Q4_K", ACE_FORM_BLOCKS, ACE_Q4_K}, {"Q5_K", ACE_FORM_BLOCKS, ACE_Q5_K},
             {"Q6_K", ACE_FORM_BLOCKS, ACE_Q6_K}};
enum { FORMS = sizeof forms / sizeof *forms };

/* Rows of values, or of blocks: scales around 2^-8, as those of a model are far from subnormal, and any other bytes. */
static bool read_form(void *context, int64_t first, int64_t count, ace_dtype dtype, void *rows, ace_error *error)
{
    int64_t k = *(int64_t *)context, block = ace_dtype_block(dtype);
    if (block == 1) return read_pattern(context, first, count, dtype, rows, error);
    size_t size = ace_dtype_block_bytes(dtype), blocks = (size_t)(count * k / block);
    for (size_t i = 0; i < blocks; i++) {
        uint8_t *bytes = (uint8_t *)rows + i * size;
        for (size_t j = 0; j < size; j++) bytes[j] = (uint8_t)((i * size + j) * 2654435761u >> 24);
        bytes[dtype == ACE_Q6_K ? 209 : 1] = 0x1c; /* the upper byte of d */
        if (dtype == ACE_Q4_K || dtype == ACE_Q5_K) bytes[3] = 0x1c;
    }
    return true;
}

static void make_forms(bench *b, operation ops[FORMS], size_t bytes[FORMS], int64_t k, int64_t n, bool is_gated)
{
    for (int f = 0; f < FORMS; f++) {
        size_t before = ace_device_get_stats(b->dev).weight_bytes;
        ops[f].run = is_gated ? run_gated : run_linear;
        ops[f].w = ace_weight_new(b->dev,
                                  &(ace_weight_desc){.kind = is_gated ? ACE_WEIGHT_GATED : ACE_WEIGHT_PRODUCT,
                                                     .name = "bench",
                                                     .n = n,
                                                     .k = k,
                                                     .taps = 1,
                                                     .form = forms[f].form,
                                                     .blocks = forms[f].blocks},
                                  read_form, &k);
        bytes[f] = ace_device_get_stats(b->dev).weight_bytes - before;
    }
}

/* Every form once a round, so that all see the same machine: median times, and the median of each round's ratio to the
 * plain one. `ms`: numbers of rows, up to a zero. */
static void compare_forms(bench *b, const int64_t *ms, int64_t k, int64_t n, bool is_gated)
{
    enum { MOST = 99 };
    static double times[FORMS][MOST], ratios[MOST];
    int count = b->repeats < 5 ? 5 : b->repeats > MOST ? MOST : b->repeats;
    ace_dtype act = ace_device_act(b->dev);
    size_t bytes[FORMS] = {0};
    operation ops[FORMS] = {0};
    make_forms(b, ops, bytes, k, n, is_gated);
    for (; *ms; ms++) {
        ace_mark mark = ace_scratch_mark(b->dev);
        ace_mat x = matrix(b, act, *ms, k), y = ace_scratch(b->dev, act, *ms, is_gated ? n / 2 : n);
        for (int i = -1; i < count; i++)
            for (int f = 0; f < FORMS; f++) {
                ops[f].x = x;
                ops[f].y = y;
                double start = rates_clock(b->alone);
                ops[f].run(b->dev, &ops[f]);
                if (i >= 0) times[f][i] = rates_clock(b->alone) - start;
            }
        for (int f = FORMS - 1; f >= 0; f--) { /* the plain one last: medians sort */
            for (int i = 0; i < count; i++) ratios[i] = times[0][i] / times[f][i];
            double ratio = median(ratios, count), time = median(times[f], count);
            printf("%s %lld x %lld x %lld %-6s %14.3f ms %8.1f GFLOP/s %7.1f GB/s of weights, %.2f x plain\n",
                   is_gated ? "gated" : "linear", (long long)*ms, (long long)k, (long long)n, forms[f].name, time * 1e3,
                   2e-9 * (double)(*ms * k * n) / time, (double)bytes[f] / time * 1e-9, ratio);
        }
        fflush(stdout);
        ace_scratch_release(b->dev, mark);
    }
    for (int f = 0; f < FORMS; f++) ace_weight_free(b->dev, ops[f].w);
}

static void quantised(bench *b)
{
    static const int64_t shapes[][3] = {{750, 2048, 6144}, {750, 6144, 2048}, {1500, 2048, 2048}, {375, 2048, 12288}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        compare_forms(b, (int64_t[]){shapes[i][0], 0}, shapes[i][1], shapes[i][2], false);
    compare_forms(b, (int64_t[]){750, 0}, 2048, 12288, true);
}

/* What a planner does: few rows, and more weights (1.7 GB in all, 512 MB of bf16) than caches hold. */
static void few_rows(bench *b)
{
    compare_forms(b, (int64_t[]){1, 2, 3, 4, 8, 16, 0}, 2048, 131072, false);
}

static void gated(bench *b)
{
    ace_dtype act = ace_device_act(b->dev);
    ace_mark mark = ace_scratch_mark(b->dev);
    operation op = {.y = ace_scratch(b->dev, act, 750, 6144),
                    .x = matrix(b, act, 750, 2048),
                    .w = weight(b, ACE_WEIGHT_GATED, 12288, 2048, 1),
                    .run = run_gated};
    measure(b, &op, "gated 750 x 2048 x 2 x 6144");
    ace_weight_free(b->dev, op.w);
    ace_scratch_release(b->dev, mark);
}

static void convolution(bench *b, int64_t rows, int64_t channels, int dilation)
{
    ace_dtype act = ace_device_act(b->dev);
    ace_mark mark = ace_scratch_mark(b->dev);
    operation op = {.y = ace_scratch(b->dev, act, rows, channels),
                    .x = matrix(b, act, rows, channels),
                    .w = weight(b, ACE_WEIGHT_PRODUCT, channels, 7 * channels, 7),
                    .bias = weight(b, ACE_WEIGHT_VECTOR, channels, 1, 1),
                    .alpha = weight(b, ACE_WEIGHT_VECTOR, channels, 1, 1),
                    .inv_beta = weight(b, ACE_WEIGHT_VECTOR, channels, 1, 1),
                    .conv = {.stride = 1, .dilation = dilation, .padding = 3 * dilation},
                    .run = run_conv};
    if (act == ACE_BF16) op.other = yardstick_conv(rows, channels, dilation, b->threads);
    measure(b, &op, "conv %lld x %lld -> %lld, k7 d%d, bias, snake", (long long)rows, (long long)channels,
            (long long)channels, dilation);
    ace_weight_free(b->dev, op.w);
    ace_weight_free(b->dev, op.bias);
    ace_weight_free(b->dev, op.alpha);
    ace_weight_free(b->dev, op.inv_beta);
    ace_scratch_release(b->dev, mark);
}

static void convolutions(bench *b)
{
    static const int64_t shapes[][2] = {{48000, 128}, {24000, 256}, {12000, 512}, {3000, 1024}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int dilation = 1; dilation <= 9; dilation *= 3) convolution(b, shapes[i][0], shapes[i][1], dilation);
}

static void attentions(bench *b)
{
    ace_dtype act = ace_device_act(b->dev);
    for (int64_t s = 750; s <= 1500; s *= 2)
        for (int band = 0; band < 2; band++) {
            ace_mark mark = ace_scratch_mark(b->dev);
            operation op = {.y = ace_scratch(b->dev, act, s, 2048),
                            .x = matrix(b, act, s, 2048),
                            .k = matrix(b, act, s, 1024),
                            .v = matrix(b, act, s, 1024),
                            .attention = {16, 8, 128, 0.088388f, band ? ACE_MASK_BAND : ACE_MASK_FULL, 128},
                            .run = run_attention};
            measure(b, &op, "attention %lld, 16/8 heads of 128, %s", (long long)s, band ? "band 128" : "full");
            ace_scratch_release(b->dev, mark);
        }
}

/* A planner reads a prompt in one piece and then writes token by token, in every layer with other keys and values. */
static void planner_attentions(bench *b)
{
    static const int64_t shapes[][3] = {{1000, 1000, 1}, {512, 1000, 1}, {1, 1000, 14}, {2, 1000, 14}, {1, 100, 28}};
    ace_dtype act = ace_device_act(b->dev);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int64_t queries = shapes[i][0], keys = shapes[i][1], layers = shapes[i][2];
        ace_mark mark = ace_scratch_mark(b->dev);
        ace_mat cache = matrix(b, act, layers * keys, 2048);
        operation op = {.y = ace_scratch(b->dev, act, queries, 2048),
                        .x = matrix(b, act, queries, 2048),
                        .k = ace_cols(cache, 0, 1024),
                        .v = ace_cols(cache, 1024, 1024),
                        .attention = {16, 8, 128, 0.088388f, ACE_MASK_CAUSAL, 0},
                        .keys = keys,
                        .run = run_cached_attention};
        measure(b, &op, "%lld last of %lld, causal, x %lld layers", (long long)queries, (long long)keys,
                (long long)layers);
        ace_scratch_release(b->dev, mark);
    }
}

static void rows(bench *b)
{
    ace_dtype act = ace_device_act(b->dev);
    ace_mark mark = ace_scratch_mark(b->dev);
    operation op = {.y = ace_scratch(b->dev, act, 3000, 2048),
                    .x = matrix(b, ACE_F32, 3000, 2048),
                    .rope = matrix(b, ACE_F32, 3000, 128),
                    .w = weight(b, ACE_WEIGHT_VECTOR, 2048, 1, 1),
                    .alpha = weight(b, ACE_WEIGHT_VECTOR, 2048, 1, 1),
                    .inv_beta = weight(b, ACE_WEIGHT_VECTOR, 2048, 1, 1)};
    op.run = run_norm;
    measure(b, &op, "rms_norm 3000 x 2048");
    op.run = run_snake;
    measure(b, &op, "snake 3000 x 2048");
    op.run = run_copy;
    measure(b, &op, "copy 3000 x 2048");
    ace_weight_free(b->dev, op.w);
    op.w = weight(b, ACE_WEIGHT_VECTOR, 128, 1, 1);
    op.run = run_rope;
    measure(b, &op, "head_norm_rope 3000 x 16 heads of 128");
    ace_weight_free(b->dev, op.w);
    ace_weight_free(b->dev, op.alpha);
    ace_weight_free(b->dev, op.inv_beta);
    ace_scratch_release(b->dev, mark);
}

/* Copies from memory: what is measured is the packing. */
static bool read_copy(void *context, int64_t first, int64_t count, ace_dtype dtype, void *rows, ace_error *error)
{
    (void)error, (void)first;
    memcpy(rows, context, (size_t)(count * 2048 / ace_dtype_block(dtype)) * ace_dtype_block_bytes(dtype));
    return true;
}

/* GB/s of bf16 that the weight would have been read from, whatever it becomes. */
static void packing(bench *b)
{
    enum { N = 16384, K = 2048 };
    char *source = malloc((size_t)K * 64 * sizeof(float));
    if (source) memset(source, 0x3c, (size_t)K * 64 * sizeof(float));
    for (int f = 0; f < FORMS && source; f++) {
        double best = INFINITY;
        for (int i = 0; i < 5; i++) {
            double start = rates_clock(b->alone);
            ace_weight *w = ace_weight_new(b->dev,
                                           &(ace_weight_desc){.kind = ACE_WEIGHT_PRODUCT,
                                                              .name = "bench",
                                                              .n = N,
                                                              .k = K,
                                                              .taps = 1,
                                                              .form = forms[f].form,
                                                              .blocks = forms[f].blocks},
                                           read_copy, source);
            best = fmin(best, rates_clock(b->alone) - start);
            ace_weight_free(b->dev, w);
        }
        printf("weight_pack %d x %d %-23s %9.3f ms %35.1f GB/s of bf16\n", N, K, forms[f].name, best * 1e3,
               2.0 * N * K / best * 1e-9);
    }
    free(source);
}

static bool run_device(const ace_cpu_options *options, const char *only, int repeats)
{
    ace_error error = {0};
    bench b = {.dev = ace_cpu_open(options, &error),
               .alone = options->threads == 1,
               .seconds = 0.7,
               .only = only,
               .threads = options->threads,
               .repeats = repeats};
    if (!b.dev || !ace_scratch_reserve(b.dev, (size_t)256 << 20, 0, &error)) {
        fprintf(stderr, "%s\n", error.message);
        ace_device_close(b.dev);
        return false;
    }
    b.peak = rates_multiply(ace_device_name(b.dev), options->threads);
    printf("\n%s, peak %.0f GFLOP/s\n", ace_device_name(b.dev), b.peak);
    if (wanted(&b, "linear")) linears(&b);
    if (wanted(&b, "int8")) int8_linears(&b);
    if (wanted(&b, "gated")) gated(&b);
    if (wanted(&b, "quantised")) quantised(&b);
    if (wanted(&b, "few")) few_rows(&b);
    if (wanted(&b, "conv")) convolutions(&b);
    if (wanted(&b, "attention")) attentions(&b);
    if (wanted(&b, "attention")) planner_attentions(&b);
    if (wanted(&b, "rows")) rows(&b);
    if (wanted(&b, "pack")) packing(&b);
    bool ok = ace_device_ok(b.dev, &error);
    if (!ok) fprintf(stderr, "%s\n", error.message);
    ace_device_close(b.dev);
    return ok;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"auto",   "generic",    "avx2",       "avx2vnni",
                                        "avx512", "avx512vnni", "avx512bf16", "amx"};
    ace_cpu_options options = {0};
    const char *precision = NULL, *only = NULL;
    int repeats = 9;
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *value = argv[i + 1];
        if (strcmp(argv[i], "-i") == 0) {
            for (int isa = 0; isa <= ACE_ISA_AMX; isa++)
                if (strcmp(value, names[isa]) == 0) options.isa = (ace_isa)isa;
        } else if (strcmp(argv[i], "-t") == 0) {
            options.threads = atoi(value);
        } else if (strcmp(argv[i], "-p") == 0) {
            precision = value;
        } else if (strcmp(argv[i], "-o") == 0) {
            only = value;
        } else if (strcmp(argv[i], "-r") == 0) {
            repeats = atoi(value);
        }
    }
    yardstick_limit(options.isa);
    bool ok = true;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        options.precision = bf16 ? ACE_BF16 : ACE_F32;
        if (!precision || (strcmp(precision, "bf16") == 0) == bf16) ok = run_device(&options, only, repeats) && ok;
    }
    return ok ? 0 : 1;
}
