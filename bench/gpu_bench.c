/* gpu_bench.c - how fast the CUDA device computes what songs are made of, at the real models' sizes, and whether its
 * memory is what is planned. Needs nothing but this repository and a plug-in: tools/gpu-check builds and runs it.
 *
 *   gpu_bench small|real
 *
 * prints one JSON object a line. Times are of the wall, from queueing to the end of the last of several repetitions; a
 * share of the chip's peak is given for chips whose data sheet says what it is. "small" is for the emulated GPU. */
#include "base/clock.h"
#include "base/error.h"
#include "device/cuda/cuda.h"
#include "device/cuda/emulation/emulated_gpu.h"
#include "device/cuda/record.h"
#include "device/device.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct bench {
    ace_device *dev;
    const gpu *gpu;
    bool small, failed;
    double peak_flops, peak_bytes; /* a second; 0: unknown */
    double least;                  /* seconds that are measured */
} bench;

/* bf16 products with float32 sums, dense, and memory, as the data sheets say. */
static void find_peak(bench *b, const char *name)
{
    static const struct {
        const char *name;
        double tflops, gbytes;
    } chips[] = {{"H200", 989, 4800},  {"H100 PCIe", 756, 2000}, {"H100 NVL", 835, 3900}, {"H100", 989, 3350},
                 {"A100", 312, 2039},  {"L40S", 362, 864},       {"L40", 181, 864},       {"L4", 121, 300},
                 {"A10", 125, 600},    {"RTX 4090", 165, 1008},  {"RTX 3090", 71, 936},   {"RTX 5090", 210, 1792},
                 {"B200", 2250, 8000}, {"A6000", 155, 768}};
    for (size_t i = 0; i < sizeof chips / sizeof *chips; i++) {
        if (!strstr(name, chips[i].name)) continue;
        b->peak_flops = chips[i].tflops * 1e12;
        b->peak_bytes = chips[i].gbytes * 1e9;
        return;
    }
}

/* ---- data ------------------------------------------------------------------------------------------------------ */

static bool read_pattern(void *context, int64_t first, int64_t count, ace_dtype dtype, void *rows, ace_error *error)
{
    int64_t k = *(const int64_t *)context;
    (void)error;
    for (int64_t i = 0; i < count * k; i++) {
        uint32_t hash = (uint32_t)(first * k + i) * 2654435761u;
        float v = (float)(hash >> 8) * 0x1p-24f * 0.0625f - 0.03125f;
        if (dtype == ACE_BF16)
            ((uint16_t *)rows)[i] = ace_f32_to_bf16(v);
        else
            ((float *)rows)[i] = v;
    }
    return true;
}

static ace_weight *weight(bench *b, ace_weight_kind kind, int64_t n, int64_t k, int taps, ace_weight_form form)
{
    ace_weight_desc desc = {.kind = kind, .name = "bench", .n = n, .k = k, .taps = taps, .form = form};
    return ace_weight_new(b->dev, &desc, read_pattern, &k);
}

static ace_mat matrix(bench *b, ace_dtype dtype, int64_t rows, int64_t cols)
{
    ace_mat m = ace_scratch(b->dev, dtype, rows, cols);
    float *host = malloc((size_t)(rows * cols) * sizeof *host);
    if (host) read_pattern(&cols, 0, rows, ACE_F32, host, NULL);
    if (host) ace_upload(b->dev, m, host);
    free(host);
    return m;
}

/* Waits for all that was queued. */
static void finish(bench *b, ace_mat any)
{
    float one;
    any.rows = any.cols = 1;
    ace_download(b->dev, &one, any);
}

/* ---- measuring --------------------------------------------------------------------------------------------------- */

typedef struct work {
    const char *stage;
    char name[96];
    void (*run)(bench *b, void *data);
    void *data;
    ace_mat waited; /* what the work writes */
} work;

static void name_it(work *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void name_it(work *w, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vsnprintf(w->name, sizeof w->name, format, values);
    va_end(values);
}

static void put_share(const char *name, double rate, double peak)
{
    if (peak > 0)
        printf(",\"%s\":%.4f", name, rate / peak);
    else
        printf(",\"%s\":null", name);
}

static void measure(bench *b, const work *w)
{
    ace_error error = {0};
    ace_device_stats before = ace_device_get_stats(b->dev);
    w->run(b, w->data);
    ace_device_stats after = ace_device_get_stats(b->dev);
    finish(b, w->waited);
    double flops = after.flops - before.flops, bytes = after.bytes_moved - before.bytes_moved, best = 1e30;
    double end = ace_clock() + b->least;
    for (int i = 0, repeats = 1; i < 3 || ace_clock() < end; i++) {
        double start = ace_clock();
        for (int k = 0; k < repeats; k++) w->run(b, w->data);
        finish(b, w->waited);
        double seconds = (ace_clock() - start) / repeats;
        if (seconds < best) best = seconds;
        if (!b->small && seconds * repeats < 0.02 && repeats < 256) repeats *= 4;
        if (!ace_device_ok(b->dev, &error)) break;
    }
    if (!ace_device_ok(b->dev, &error)) {
        printf("{\"stage\":\"%s\",\"what\":\"%s\",\"error\":\"%.300s\"}\n", w->stage, w->name, error.message);
        b->failed = true;
        return;
    }
    printf("{\"stage\":\"%s\",\"what\":\"%s\",\"ms\":%.5f,\"tflops\":%.3f,\"gbytes_per_s\":%.1f", w->stage, w->name,
           best * 1e3, flops / best * 1e-12, bytes / best * 1e-9);
    put_share("share_of_multiply", flops / best, b->peak_flops);
    put_share("share_of_read", bytes / best, b->peak_bytes);
    printf("}\n");
    fflush(stdout);
}

static size_t free_bytes(bench *b)
{
    gpu_context *context = NULL;
    gpu_properties properties;
    size_t available = 0, total = 0;
    if (b->gpu->open(0, &context, &properties) != 0) return 0;
    if (b->gpu->memory(context, &available, &total) != 0) available = 0;
    b->gpu->close(context);
    return available;
}

static void check(bench *b, bool passed, const char *what, double is, double most)
{
    printf("{\"check\":\"%s\",\"passed\":%s,\"mib\":%.1f,\"most_mib\":%.1f}\n", what, passed ? "true" : "false",
           is / 1048576, most / 1048576);
    if (!passed) b->failed = true;
}

/* ---- single operations ---------------------------------------------------------------------------------------------
 */

typedef struct operation {
    ace_mat y, x, k, v;
    ace_weight *w;
    ace_conv conv;
    ace_attention_shape attention;
} operation;

static void run_linear(bench *b, void *data)
{
    const operation *o = data;
    ace_linear(b->dev, o->y, o->x, o->w, NULL);
}

static void run_gated(bench *b, void *data)
{
    const operation *o = data;
    ace_linear_silu_mul(b->dev, o->y, o->x, o->w);
}

static void run_conv(bench *b, void *data)
{
    const operation *o = data;
    ace_conv1d(b->dev, o->y, o->x, o->w, &o->conv, NULL);
}

static void run_attention(bench *b, void *data)
{
    const operation *o = data;
    ace_attention(b->dev, o->y, o->x, o->k, o->v, &o->attention);
}

static void products(bench *b)
{
    static const char *const forms[] = {"bf16", "int8", "int4"};
    static const int64_t shapes[][3] = {{2048, 2048, 3000}, {12288, 2048, 3000}, {2048, 6144, 3000}, /* DiT, 240 s */
                                        {12288, 2048, 750}, {12288, 2048, 1000},                  /* 60 s; a prompt */
                                        {12288, 2048, 1},   {12288, 2048, 2},    {2048, 6144, 2}, /* planner */
                                        {12288, 2048, 8},   {12288, 2048, 16}};
    ace_dtype act = ace_device_act(b->dev);
    for (int form = 0; form < 3; form++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            int64_t shrink = b->small ? 32 : 1, n = shapes[i][0] / shrink, k = shapes[i][1] / shrink;
            int64_t m = shapes[i][2] > 64 ? shapes[i][2] / shrink : shapes[i][2];
            bool gated = n == 12288 / shrink;
            ace_mark mark = ace_scratch_mark(b->dev);
            operation o = {.y = ace_scratch(b->dev, act, m, gated ? n / 2 : n), .x = matrix(b, act, m, k)};
            o.w = weight(b, gated ? ACE_WEIGHT_GATED : ACE_WEIGHT_PRODUCT, n, k, 1, (ace_weight_form)form);
            work w = {"product", "", gated ? run_gated : run_linear, &o, o.y};
            name_it(&w, "%s %lld x %lld, %lld rows%s", forms[form], (long long)n, (long long)k, (long long)m,
                    gated ? ", gated" : "");
            measure(b, &w);
            ace_weight_free(b->dev, o.w);
            ace_scratch_release(b->dev, mark);
        }
}

/* Residual units of the VAE's decoder, a window of 10 s. */
static void convolutions(bench *b)
{
    static const int64_t shapes[][2] = {{480000, 128}, {240000, 256}, {60000, 512}, {15000, 1024}, {2500, 2048}};
    ace_dtype act = ace_device_act(b->dev);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int64_t rows = b->small ? shapes[i][0] / 1000 : shapes[i][0], channels = b->small ? 32 : shapes[i][1];
        ace_mark mark = ace_scratch_mark(b->dev);
        operation o = {.y = ace_scratch(b->dev, act, rows, channels),
                       .x = matrix(b, act, rows, channels),
                       .conv = {.stride = 1, .dilation = 3, .padding = 9}};
        o.w = weight(b, ACE_WEIGHT_PRODUCT, channels, 7 * channels, 7, ACE_FORM_PLAIN);
        work w = {"convolution", "", run_conv, &o, o.y};
        name_it(&w, "7 taps, %lld channels, %lld rows", (long long)channels, (long long)rows);
        measure(b, &w);
        ace_weight_free(b->dev, o.w);
        ace_scratch_release(b->dev, mark);
    }
}

static void attentions(bench *b)
{
    static const struct {
        const char *name;
        ace_attention_mask mask;
        int64_t queries, keys;
    } shapes[] = {{"full", ACE_MASK_FULL, 3000, 3000},     {"band of 128", ACE_MASK_BAND, 3000, 3000},
                  {"full", ACE_MASK_FULL, 7500, 7500},     {"cross", ACE_MASK_FULL, 3000, 700},
                  {"causal", ACE_MASK_CAUSAL, 1000, 1000}, {"decode", ACE_MASK_CAUSAL, 1, 2000}};
    ace_dtype act = ace_device_act(b->dev);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int64_t shrink = b->small ? 50 : 1, queries = (shapes[i].queries + shrink - 1) / shrink;
        int64_t keys = shapes[i].keys / shrink;
        ace_mark mark = ace_scratch_mark(b->dev);
        operation o = {.y = ace_scratch(b->dev, act, queries, 2048),
                       .x = matrix(b, act, queries, 2048),
                       .k = matrix(b, act, keys, 1024),
                       .v = matrix(b, act, keys, 1024),
                       .attention = {16, 8, 128, 0.088388f, shapes[i].mask, 128}};
        work w = {"attention", "", run_attention, &o, o.y};
        name_it(&w, "%s, %lld of %lld, 16/8 heads of 128", shapes[i].name, (long long)queries, (long long)keys);
        measure(b, &w);
        ace_scratch_release(b->dev, mark);
    }
}

/* ---- a stack of layers ---------------------------------------------------------------------------------------------
 */

/* The operations of a transformer layer of the DiT (with cross-attention) or of the planner, at its size. */
typedef struct layer {
    ace_weight *norm, *head_norm, *q, *k, *v, *o, *cross_q, *cross_o, *gate_up, *down;
} layer;

typedef struct stack {
    int layers, heads, kv_heads;
    int64_t width, inner, rows, keys, condition;
    ace_attention_mask mask;
    layer *all;
    ace_mat x, h, q, k, v, o, mlp, rope, cross_k, cross_v;
} stack;

static void run_stack(bench *b, void *data)
{
    const stack *s = data;
    const ace_mat none = {.dtype = ACE_F32};
    ace_attention_shape shape = {s->heads, s->kv_heads, 128, 0.088388f, s->mask, 128};
    ace_epilogue add = {.residual = s->x};
    int64_t past = s->keys - s->rows;
    for (int i = 0; i < s->layers; i++) {
        const layer *l = &s->all[i];
        ace_mat k = ace_rows(s->k, past, s->rows), v = ace_rows(s->v, past, s->rows);
        ace_rms_norm(b->dev, s->h, s->x, l->norm, 1e-6f, none, none);
        ace_linear(b->dev, s->q, s->h, l->q, NULL);
        ace_linear(b->dev, k, s->h, l->k, NULL);
        ace_linear(b->dev, v, s->h, l->v, NULL);
        ace_head_norm_rope(b->dev, s->q, 128, l->head_norm, 1e-6f, s->rope, past);
        ace_head_norm_rope(b->dev, k, 128, l->head_norm, 1e-6f, s->rope, past);
        if (s->condition) shape.mask = i % 2 ? ACE_MASK_FULL : ACE_MASK_BAND;
        ace_attention(b->dev, s->o, s->q, s->k, s->v, &shape);
        ace_linear(b->dev, s->x, s->o, l->o, &add);
        if (s->condition) {
            ace_attention_shape cross = {s->heads, s->kv_heads, 128, 0.088388f, ACE_MASK_FULL, 0};
            ace_rms_norm(b->dev, s->h, s->x, l->norm, 1e-6f, none, none);
            ace_linear(b->dev, s->q, s->h, l->cross_q, NULL);
            ace_attention(b->dev, s->o, s->q, s->cross_k, s->cross_v, &cross);
            ace_linear(b->dev, s->x, s->o, l->cross_o, &add);
        }
        ace_rms_norm(b->dev, s->h, s->x, l->norm, 1e-6f, none, none);
        ace_linear_silu_mul(b->dev, s->mlp, s->h, l->gate_up);
        ace_linear(b->dev, s->x, s->mlp, l->down, &add);
    }
}

static void make_layer(bench *b, const stack *s, layer *l, ace_weight_form form)
{
    int64_t q = (int64_t)s->heads * 128, kv = (int64_t)s->kv_heads * 128, d = s->width;
    l->norm = weight(b, ACE_WEIGHT_VECTOR, d, 1, 1, ACE_FORM_PLAIN);
    l->head_norm = weight(b, ACE_WEIGHT_VECTOR, 128, 1, 1, ACE_FORM_PLAIN);
    l->q = weight(b, ACE_WEIGHT_PRODUCT, q, d, 1, form);
    l->k = weight(b, ACE_WEIGHT_PRODUCT, kv, d, 1, form);
    l->v = weight(b, ACE_WEIGHT_PRODUCT, kv, d, 1, form);
    l->o = weight(b, ACE_WEIGHT_PRODUCT, d, q, 1, form);
    if (s->condition) {
        l->cross_q = weight(b, ACE_WEIGHT_PRODUCT, q, d, 1, form);
        l->cross_o = weight(b, ACE_WEIGHT_PRODUCT, d, q, 1, form);
    }
    l->gate_up = weight(b, ACE_WEIGHT_GATED, 2 * s->inner, d, 1, form);
    l->down = weight(b, ACE_WEIGHT_PRODUCT, d, s->inner, 1, form);
}

static void free_layer(bench *b, layer *l)
{
    ace_weight *const all[] = {l->norm, l->head_norm, l->q,       l->k,       l->v,
                               l->o,    l->cross_q,   l->cross_o, l->gate_up, l->down};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) ace_weight_free(b->dev, all[i]);
}

static void run_recorded_stack(bench *b, void *data)
{
    ace_repeat_begin(b->dev);
    run_stack(b, data);
    ace_repeat_end(b->dev);
}

/* What the stack makes of the same numbers, plainly and recorded. */
static bool same_bytes(bench *b, const stack *s)
{
    size_t bytes = (size_t)(s->rows * s->width) * sizeof(float);
    float *start = malloc(bytes), *made[2] = {malloc(bytes), malloc(bytes)};
    bool same =
        start && made[0] && made[1] && read_pattern((void *)(uintptr_t)&s->width, 0, s->rows, ACE_F32, start, NULL);
    for (int recorded = 0; same && recorded < 2; recorded++) {
        ace_upload(b->dev, s->x, start);
        (recorded ? run_recorded_stack : run_stack)(b, (void *)(uintptr_t)s);
        ace_download(b->dev, made[recorded], s->x);
    }
    same = same && ace_device_ok(b->dev, NULL) && memcmp(made[0], made[1], bytes) == 0;
    free(start);
    free(made[0]);
    free(made[1]);
    return same;
}

/* The same as steps that come again, which run as graphs: how fast, whether right, and what memory they take. */
static void measure_recorded(bench *b, work *w, const char *plain)
{
    long before = ace_cuda_recorded_steps(b->dev);
    size_t most = (size_t)CUDA_RECORDED * CUDA_RECORDED_BYTES, available = free_bytes(b);
    w->run = run_recorded_stack;
    name_it(w, "%.70s, recorded", plain);
    measure(b, w);
    size_t now = free_bytes(b), used = available > now ? available - now : 0;
    check(b, ace_cuda_recorded_steps(b->dev) > before, "steps are recorded", 0, 0);
    check(b, used <= most, "memory of recorded steps", (double)used, (double)most);
    check(b, same_bytes(b, w->data), "recorded steps give the same bytes", 0, 0);
}

/* `recorded`: measured once more in that way. */
static void measure_stack(bench *b, stack s, ace_weight_form form, const char *stage, const char *name, bool recorded)
{
    enum { MOST = 32 };
    layer layers[MOST] = {{0}};
    ace_dtype act = ace_device_act(b->dev);
    ace_mark mark = ace_scratch_mark(b->dev);
    int64_t q = (int64_t)s.heads * 128, kv = (int64_t)s.kv_heads * 128;
    s.all = layers;
    for (int i = 0; i < s.layers; i++) make_layer(b, &s, &layers[i], form);
    s.x = matrix(b, ACE_F32, s.rows, s.width);
    s.h = matrix(b, act, s.rows, s.width);
    s.q = matrix(b, act, s.rows, q);
    s.o = matrix(b, act, s.rows, q);
    s.k = matrix(b, act, s.keys, kv);
    s.v = matrix(b, act, s.keys, kv);
    s.mlp = matrix(b, act, s.rows, s.inner);
    s.rope = matrix(b, ACE_F32, s.keys, 128);
    if (s.condition) s.cross_k = matrix(b, act, s.condition, kv);
    if (s.condition) s.cross_v = matrix(b, act, s.condition, kv);
    work w = {stage, "", run_stack, &s, s.x};
    name_it(&w, "%s, %d layers of %lld, %lld rows", name, s.layers, (long long)s.width, (long long)s.rows);
    char plain[sizeof w.name];
    memcpy(plain, w.name, sizeof plain);
    measure(b, &w);
    if (recorded) measure_recorded(b, &w, plain);
    for (int i = 0; i < s.layers; i++) free_layer(b, &layers[i]);
    ace_scratch_release(b->dev, mark);
}

static void stacks(bench *b)
{
    int64_t shrink = b->small ? 16 : 1;
    stack dit = {.layers = b->small ? 2 : 24,
                 .heads = b->small ? 2 : 16,
                 .kv_heads = b->small ? 1 : 8,
                 .width = 2048 / shrink,
                 .inner = 6144 / shrink,
                 .rows = b->small ? 32 : 3000,
                 .keys = b->small ? 32 : 3000,
                 .condition = b->small ? 16 : 700,
                 .mask = ACE_MASK_FULL};
    stack lm = {.layers = b->small ? 2 : 28,
                .heads = b->small ? 2 : 16,
                .kv_heads = b->small ? 1 : 8,
                .width = 2048 / shrink,
                .inner = 6144 / shrink,
                .rows = 1,
                .keys = b->small ? 64 : 1500,
                .mask = ACE_MASK_CAUSAL};
    measure_stack(b, dit, ACE_FORM_PLAIN, "dit", "one step of the 2B DiT, 240 s, bf16", false);
    measure_stack(b, dit, ACE_FORM_INT8, "dit", "one step of the 2B DiT, 240 s, int8", false);
    measure_stack(b, lm, ACE_FORM_PLAIN, "lm", "one token of the 1.7B planner, bf16", true);
    measure_stack(b, lm, ACE_FORM_INT4, "lm", "one token of the 1.7B planner, int4", true);
    lm.rows = lm.keys = b->small ? 64 : 1000;
    measure_stack(b, lm, ACE_FORM_PLAIN, "lm", "a prompt of the 1.7B planner, bf16", false);
    dit.rows = dit.keys = b->small ? 32 : 375;
    measure_stack(b, dit, ACE_FORM_PLAIN, "dit", "one step of the 2B DiT, 30 s, bf16", true);
    dit.rows = dit.keys = b->small ? 32 : 125;
    measure_stack(b, dit, ACE_FORM_PLAIN, "dit", "one step of the 2B DiT, 10 s, bf16", true);
}

/* ---- the planner's choice -------------------------------------------------------------------------------------- */

typedef struct choice {
    ace_mat values, unconditional, choices;
} choice;

static void run_choice(bench *b, void *data)
{
    static const ace_sampling rules = {.guidance = 2, .temperature = 0.85f, .top_p = 0.9f};
    const choice *c = data;
    double uniform[8];
    for (int i = 0; i < 8; i++) uniform[i] = 0.1 * i + 0.05;
    ace_sample(b->dev, c->choices, c->values, c->unconditional, &rules, uniform);
}

static void choices(bench *b)
{
    int64_t codes = b->small ? 2000 : 64000, width = b->small ? 128 : 2048;
    ace_weight *table = weight(b, ACE_WEIGHT_TABLE, codes, width, 1, ACE_FORM_PLAIN);
    for (int64_t items = 1; items <= 8; items *= 8) {
        ace_mark mark = ace_scratch_mark(b->dev);
        choice c = {matrix(b, ACE_F32, items, codes), matrix(b, ACE_F32, items, codes), matrix(b, ACE_F32, items, 2)};
        ace_mat states = matrix(b, ACE_F32, items, width);
        ace_logits(b->dev, c.values, states, table, 0, NULL, codes);
        ace_logits(b->dev, c.unconditional, states, table, 0, NULL, codes);
        work w = {"lm", "", run_choice, &c, c.choices};
        name_it(&w, "%lld choices from %lld codes with guidance and top-p", (long long)items, (long long)codes);
        measure(b, &w);
        ace_scratch_release(b->dev, mark);
    }
    ace_weight_free(b->dev, table);
}

/* ---- memory
 * ---------------------------------------------------------------------------------------------------------- */

/* What the driver sees follows what the device counts; a limit is a hard cap; everything comes back. */
static void memory(bench *b)
{
    enum { WEIGHTS = 12 };
    ace_weight *all[WEIGHTS] = {0};
    ace_error error = {0};
    size_t workspace = ace_device_get_stats(b->dev).workspace, page = (size_t)2 << 20;
    int64_t n = b->small ? 512 : 8192;
    size_t before = free_bytes(b);
    for (int i = 0; i < WEIGHTS; i++) all[i] = weight(b, ACE_WEIGHT_PRODUCT, n, n, 1, ACE_FORM_PLAIN);
    size_t weights = ace_device_get_stats(b->dev).weight_bytes, used = before - free_bytes(b);
    check(b, before >= used && used <= weights + workspace, "memory in use follows the weights", (double)used,
          (double)(weights + workspace));
    check(b, used + 64 * page >= weights, "weights are in the card's memory", (double)used, (double)weights);
    ace_device_set_limit(b->dev, weights + workspace);
    ace_weight *refused = weight(b, ACE_WEIGHT_PRODUCT, n, n, 1, ACE_FORM_PLAIN);
    bool told = !refused && !ace_device_ok(b->dev, &error) && error.status == ACE_ERROR_MEMORY;
    check(b, told, "what exceeds the limit is refused", 0, 0);
    ace_device_clear(b->dev);
    ace_device_set_limit(b->dev, 0);
    for (int i = 0; i < WEIGHTS; i++) ace_weight_free(b->dev, all[i]);
    size_t left = before - free_bytes(b);
    check(b, left <= workspace, "memory comes back", (double)left, (double)workspace);
}

int main(int count, char **arguments)
{
    ace_error error = {0};
    bench b = {.gpu = gpu_emulated(), .small = count > 1 && strcmp(arguments[1], "small") == 0};
    ace_cuda_options options = {.precision = ACE_BF16, .gpu = b.gpu};
    b.least = b.small ? 0 : 0.3;
    b.dev = ace_cuda_open(&options, &error);
    if (!b.dev || !ace_scratch_reserve(b.dev, (size_t)(b.small ? 64 : 2048) << 20, 0, &error)) {
        printf("{\"error\":\"%.600s\"}\n", error.message);
        return 1;
    }
    find_peak(&b, ace_device_name(b.dev));
    printf("{\"device\":\"%s\"}\n", ace_device_name(b.dev));
    memory(&b);
    products(&b);
    convolutions(&b);
    attentions(&b);
    stacks(&b);
    choices(&b);
    ace_device_close(b.dev);
    return b.failed ? 1 : 0;
}
