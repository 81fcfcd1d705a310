/* Recorded steps (device/cuda/record.h) on an emulated GPU: what comes again runs as a graph, with the same bytes, and
 * whatever has changed is not run from an old one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/backend.h"
#include "device/cuda/cuda.h"
#include "device/cuda/emulation/emulated_gpu.h"
#include "device/cuda/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 64 << 10, SCRATCH = 8 << 20, WIDTH = 64, HEAD = 16, HEADS = WIDTH / HEAD, ROWS = 5, OPERATIONS = 10 };

static void set_gpu(bool delayed)
{
    gpu_emulated_settings s = gpu_emulated_defaults();
    s.total_bytes = (size_t)1 << 30;
    s.page_bytes = PAGE;
    s.delayed = delayed;
    gpu_emulated_set(&s);
}

static int set_up(void **state)
{
    (void)state;
    unsetenv("ACESTEP_CUDA_GRAPHS");
    set_gpu(true);
    gpu_emulated_fail_at(0, 0);
    ace_fault_arm(0);
    return 0;
}

static void assert_nothing_left(void)
{
    gpu_emulated_counts now = gpu_emulated_count();
    assert_int_equal(now.committed, 0);
    assert_int_equal(now.graphs, 0);
    assert_int_equal(now.host_bytes, 0);
    assert_int_equal(now.streams, 0);
    assert_int_equal(now.events, 0);
    assert_int_equal(now.contexts, 0);
}

static ace_device *open_device(const atomic_bool *stop)
{
    ace_error error = {0};
    ace_device *dev =
        ace_cuda_open(&(ace_cuda_options){.precision = ACE_BF16, .stop = stop, .gpu = gpu_emulated()}, &error);
    if (!dev) fail_msg("%s", error.message);
    assert_true(ace_scratch_reserve(dev, SCRATCH, 1 << 20, &error));
    return dev;
}

static void check_ok(const ace_device *dev)
{
    ace_error error = {0};
    if (!ace_device_ok(dev, &error)) fail_msg("%s", error.message);
}

/* ---- a step ------------------------------------------------------------------------------------------------------ */

static bool read_values(void *context, int64_t first, int64_t count, ace_dtype dtype, void *rows, ace_error *error)
{
    const int64_t *of = context; /* k, seed */
    (void)error;
    for (int64_t i = 0; i < count * of[0]; i++) {
        uint32_t h = ((uint32_t)(first * of[0] + i) + (uint32_t)of[1] * 7919u) * 2654435761u;
        float v = (float)(h >> 8) * 0x1p-25f - 0.25f;
        if (dtype == ACE_BF16)
            ((uint16_t *)rows)[i] = ace_f32_to_bf16(v);
        else
            ((float *)rows)[i] = v;
    }
    return true;
}

static ace_weight *weight(ace_device *dev, ace_weight_kind kind, int64_t n, int64_t k, int64_t seed)
{
    ace_weight_desc d = {.kind = kind, .name = "a test's weight", .n = n, .k = k, .taps = 1};
    return ace_weight_new(dev, &d, read_values, (int64_t[]){k, seed});
}

/* Every operation that can be recorded, on matrices that are there already. */
typedef struct step {
    ace_device *dev;
    ace_weight *norm, *head_norm, *product, *gated, *vector;
    ace_mat x, h, q, mlp, rope;
} step;

static void load(step *s)
{
    s->norm = weight(s->dev, ACE_WEIGHT_VECTOR, WIDTH, 1, 1);
    s->head_norm = weight(s->dev, ACE_WEIGHT_VECTOR, HEAD, 1, 2);
    s->product = weight(s->dev, ACE_WEIGHT_PRODUCT, WIDTH, WIDTH, 3);
    s->gated = weight(s->dev, ACE_WEIGHT_GATED, 2 * WIDTH, WIDTH, 4);
    s->vector = weight(s->dev, ACE_WEIGHT_VECTOR, WIDTH, 1, 5);
}

static void unload(step *s)
{
    ace_weight *const all[] = {s->norm, s->head_norm, s->product, s->gated, s->vector};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) ace_weight_free(s->dev, all[i]);
}

static void place(step *s, int64_t rows)
{
    s->x = ace_scratch(s->dev, ACE_F32, rows, WIDTH);
    s->h = ace_scratch(s->dev, ACE_BF16, rows, WIDTH);
    s->q = ace_scratch(s->dev, ACE_BF16, rows, WIDTH);
    s->mlp = ace_scratch(s->dev, ACE_BF16, rows, WIDTH);
    s->rope = ace_scratch(s->dev, ACE_F32, rows, HEAD);
    float *host = calloc((size_t)rows, HEAD * sizeof *host);
    assert_non_null(host);
    for (int64_t i = 0; i < rows * HEAD; i++) host[i] = (float)(i % HEAD) * 0.0625f;
    ace_upload(s->dev, s->rope, host);
    free(host);
}

/* OPERATIONS of them, which change x. */
static void operate(const step *s)
{
    static const ace_mat none;
    ace_attention_shape heads = {HEADS, HEADS, HEAD, 0.25f, ACE_MASK_FULL, 0};
    ace_snake_weights snake = {s->vector, s->vector};
    ace_rms_norm(s->dev, s->h, s->x, s->norm, 1e-6f, none, none);
    ace_linear(s->dev, s->q, s->h, s->product, &(ace_epilogue){.bias = s->vector});
    ace_head_norm_rope(s->dev, s->q, HEAD, s->head_norm, 1e-6f, s->rope, 0);
    ace_attention(s->dev, s->h, s->q, s->q, s->q, &heads);
    ace_linear(s->dev, s->x, s->h, s->product, &(ace_epilogue){.residual = s->x});
    ace_snake(s->dev, s->h, s->x, &snake);
    ace_linear_silu_mul(s->dev, s->mlp, s->h, s->gated);
    ace_add_vector(s->dev, s->x, s->x, s->vector);
    ace_silu(s->dev, s->h, s->x);
    ace_copy(s->dev, s->q, s->mlp);
}

static void repeat(const step *s)
{
    ace_repeat_begin(s->dev);
    operate(s);
    ace_repeat_end(s->dev);
}

static void start(const step *s, float first)
{
    float *host = calloc((size_t)s->x.rows, WIDTH * sizeof *host);
    assert_non_null(host);
    for (int64_t i = 0; i < s->x.rows * WIDTH; i++) host[i] = first + (float)(i % 23) * 0.125f;
    ace_upload(s->dev, s->x, host);
    free(host);
}

typedef struct result {
    float x[ROWS * WIDTH], q[ROWS * WIDTH];
} result;

static void fetch(const step *s, result *r)
{
    memset(r, 0, sizeof *r);
    ace_download(s->dev, r->x, s->x);
    ace_download(s->dev, r->q, s->q);
    check_ok(s->dev);
}

/* What the step makes of a start without recording. */
static void expect(float first, result *r)
{
    step s = {.dev = open_device(NULL)};
    load(&s);
    place(&s, ROWS);
    start(&s, first);
    operate(&s);
    fetch(&s, r);
    unload(&s);
    ace_device_close(s.dev);
}

static void assert_step(const step *s, float first, const result *expected)
{
    result is;
    start(s, first);
    repeat(s);
    fetch(s, &is);
    assert_memory_equal(&is, expected, sizeof is);
}

static long launched_graphs(void)
{
    return gpu_emulated_count().graph_launches;
}

/* ---- steps that come again --------------------------------------------------------------------------------------- */

/* The first is queued plainly, the second is recorded, and from then on one command is all. */
static void test_again(void **unused)
{
    (void)unused;
    result expected[4];
    for (int i = 0; i < 4; i++) expect((float)i, &expected[i]);
    step s = {.dev = open_device(NULL)};
    load(&s);
    place(&s, ROWS);
    for (int i = 0; i < 4; i++) {
        result is;
        start(&s, (float)i);
        long graphs = launched_graphs(), commands = gpu_emulated_count().commands;
        repeat(&s);
        assert_int_equal(launched_graphs() - graphs, i > 0);
        if (i > 0) assert_int_equal(gpu_emulated_count().commands - commands, 1);
        if (i == 0) assert_true(gpu_emulated_count().commands - commands >= OPERATIONS);
        fetch(&s, &is);
        assert_memory_equal(&is, &expected[i], sizeof is);
    }
    assert_int_equal(gpu_emulated_count().graphs, 1);
    assert_true(ace_cuda_recorded_steps(s.dev) == 3);
    unload(&s);
    ace_device_close(s.dev);
    assert_nothing_left();
}

/* Counts are those of the operations, however they are done. */
static void test_counts(void **unused)
{
    (void)unused;
    ace_device_stats stats[2];
    for (int recorded = 0; recorded < 2; recorded++) {
        step s = {.dev = open_device(NULL)};
        load(&s);
        place(&s, ROWS);
        start(&s, 1);
        for (int i = 0; i < 5; i++) (recorded ? repeat : operate)(&s);
        check_ok(s.dev);
        stats[recorded] = ace_device_get_stats(s.dev);
        unload(&s);
        ace_device_close(s.dev);
    }
    assert_memory_equal(&stats[0], &stats[1], sizeof stats[0]);
}

/* Matrices of another shape or at another address are another step; the old one is still known. */
static void test_other_matrices(void **unused)
{
    (void)unused;
    result expected;
    expect(1, &expected);
    step low = {.dev = open_device(NULL)}, small, high;
    load(&low);
    small = high = low;
    place(&low, ROWS);
    place(&small, ROWS - 2);
    place(&high, ROWS);
    for (int i = 0; i < 3; i++) {
        start(&small, 1);
        repeat(&small);
        assert_step(&high, 1, &expected);
        assert_step(&low, 1, &expected);
    }
    assert_int_equal(gpu_emulated_count().graphs, 3);
    start(&high, 7);
    long graphs = launched_graphs();
    assert_step(&low, 1, &expected);
    assert_int_equal(launched_graphs() - graphs, 1);
    result untouched, sevens;
    expect(7, &sevens);
    repeat(&high);
    fetch(&high, &untouched);
    assert_memory_equal(&untouched, &sevens, sizeof sevens);
    unload(&low);
    ace_device_close(low.dev);
    assert_nothing_left();
}

/* A single argument is another: each is noticed. What comes second has other values, so that a result tells. */
static void test_other_arguments(void **unused)
{
    (void)unused;
    enum { VARIANTS = 25 };
    static const ace_mat none;
    step s = {.dev = open_device(NULL)}, t;
    load(&s);
    place(&s, ROWS);
    t = s;
    place(&t, ROWS);
    t.norm = weight(s.dev, ACE_WEIGHT_VECTOR, WIDTH, 1, 11);
    t.head_norm = weight(s.dev, ACE_WEIGHT_VECTOR, HEAD, 1, 12);
    t.product = weight(s.dev, ACE_WEIGHT_PRODUCT, WIDTH, WIDTH, 13);
    t.vector = weight(s.dev, ACE_WEIGHT_VECTOR, WIDTH, 1, 15);
    ace_mat z = ace_scratch(s.dev, ACE_F32, ROWS, WIDTH), row = ace_scratch(s.dev, ACE_F32, 2, WIDTH);
    for (int round = 0; round < 3; round++)
        for (int v = 0; v < VARIANTS; v++) {
            float expected[6][ROWS * WIDTH], is[6][ROWS * WIDTH], rows[2 * WIDTH];
            for (int recorded = 0; recorded < 2; recorded++) {
                const ace_mat made[6] = {s.x, s.h, s.q, t.x, t.h, z};
                for (int i = 0; i < 2 * WIDTH; i++) rows[i] = (float)(i / WIDTH + 1) + (float)(i % 5) * 0.25f;
                ace_upload(s.dev, row, rows);
                start(&s, 1);
                start(&t, 3);
                ace_copy(s.dev, s.h, t.x);
                ace_copy(s.dev, t.h, s.x);
                ace_copy(s.dev, s.q, t.x);
                ace_copy(s.dev, z, s.x);
                ace_attention_shape heads = {HEADS,
                                             HEADS,
                                             HEAD,
                                             v == 1 ? 0.5f : 0.25f,
                                             v == 2 ? ACE_MASK_BAND : v == 3 ? ACE_MASK_CAUSAL : ACE_MASK_FULL,
                                             1};
                ace_epilogue e = {.bias = v == 4   ? s.vector
                                          : v == 5 ? t.vector
                                                   : NULL,
                                  .silu = v == 6,
                                  .gate = v == 7   ? ace_rows(row, 0, 1)
                                          : v == 8 ? ace_rows(row, 1, 1)
                                                   : none,
                                  .residual = v == 9    ? s.x
                                              : v == 10 ? t.x
                                                        : none};
                ace_mat scale = v == 11 ? ace_rows(row, 0, 1) : v == 12 ? ace_rows(row, 1, 1) : none;
                ace_snake_weights snake = {v == 13 ? t.vector : s.vector, v == 14 ? t.vector : s.vector};
                if (recorded) ace_repeat_begin(s.dev);
                ace_rms_norm(s.dev, s.h, v == 15 ? t.x : s.x, v == 16 ? t.norm : s.norm, v == 17 ? 1.0f : 1e-6f, scale,
                             none);
                ace_linear(s.dev, z, v == 18 ? t.h : s.h, v == 19 ? t.product : s.product, &e);
                ace_copy(s.dev, s.q, z);
                ace_head_norm_rope(s.dev, s.q, HEAD, v == 20 ? t.head_norm : s.head_norm, 1e-6f,
                                   v == 21 ? none : s.rope, 0);
                ace_attention(s.dev, s.h, s.q, v == 22 ? t.h : s.q, s.q, &heads);
                ace_add(s.dev, v == 23 ? t.x : s.x, s.x, ace_rows(row, v == 24, 1));
                ace_snake(s.dev, z, z, &snake);
                if (recorded) ace_repeat_end(s.dev);
                for (int i = 0; i < 6; i++) ace_download(s.dev, recorded ? is[i] : expected[i], made[i]);
            }
            check_ok(s.dev);
            if (memcmp(is, expected, sizeof is) != 0) fail_msg("variant %d, time %d", v, round);
        }
    assert_int_equal(gpu_emulated_count().graphs, VARIANTS);
    ace_weight_free(s.dev, t.norm);
    ace_weight_free(s.dev, t.head_norm);
    ace_weight_free(s.dev, t.product);
    ace_weight_free(s.dev, t.vector);
    unload(&s);
    ace_device_close(s.dev);
    assert_nothing_left();
}

/* Keys and values that grow by a row each time, over blocks of keys and of two lengths: one graph for all of them. */
static void check_growing(ace_dtype precision, int capability)
{
    enum { CAPACITY = 150, TOKENS = 140, AHEAD = 7, KV = 2 * HEAD };
    gpu_emulated_settings settings = gpu_emulated_defaults();
    settings.capability[0] = capability / 10;
    settings.capability[1] = capability % 10;
    settings.delayed = 1;
    gpu_emulated_set(&settings);
    ace_error error = {0};
    ace_device *dev = ace_cuda_open(&(ace_cuda_options){.precision = precision, .gpu = gpu_emulated()}, &error);
    assert_non_null(dev);
    assert_true(ace_scratch_reserve(dev, SCRATCH, 1 << 20, &error));
    ace_attention_shape heads = {HEADS, 2, HEAD, 0.25f, ACE_MASK_CAUSAL, 0};
    ace_mat cache[2][2], new_rows = ace_scratch(dev, precision, 2, KV), q = ace_scratch(dev, precision, 2, WIDTH);
    ace_mat o[2], numbers = ace_scratch(dev, ACE_F32, 1, 4);
    for (int recorded = 0; recorded < 2; recorded++) {
        o[recorded] = ace_scratch(dev, precision, 2, WIDTH);
        for (int i = 0; i < 2; i++) cache[recorded][i] = ace_scratch(dev, precision, CAPACITY, KV);
    }
    for (int token = 0; token < TOKENS; token++) {
        float values[2 * WIDTH], made[2][2 * WIDTH], at[4];
        for (int i = 0; i < 2 * WIDTH; i++) values[i] = (float)((i * 37 + token * 11) % 29) * 0.125f - 1.5f;
        ace_upload(dev, new_rows, values);
        ace_upload(dev, q, values);
        for (int i = 0; i < 2; i++) { /* the second sequence is some tokens shorter */
            int64_t first = token - (i ? AHEAD : 0);
            at[i] = (float)(first < 0 ? 0 : first);
            at[2 + i] = at[i] + 1;
        }
        ace_upload(dev, numbers, at);
        for (int recorded = 0; recorded < 2; recorded++) {
            long graphs = launched_graphs(), commands = gpu_emulated_count().commands;
            if (recorded) ace_repeat_begin(dev);
            for (int i = 0; i < 2; i++) {
                ace_number first = {(int64_t)at[i], ace_cols(numbers, i, 1)};
                ace_number keys = {(int64_t)at[2 + i], ace_cols(numbers, 2 + i, 1)};
                ace_append(dev, cache[recorded][i], ace_rows(new_rows, i, 1), first);
                ace_attention_growing(dev, ace_rows(o[recorded], i, 1), ace_rows(q, i, 1), cache[recorded][i],
                                      cache[recorded][i], &heads, keys);
            }
            if (recorded) ace_repeat_end(dev);
            if (recorded && token > 0) assert_int_equal(launched_graphs() - graphs, 1);
            if (recorded && token > 0) assert_int_equal(gpu_emulated_count().commands - commands, 1);
            ace_download(dev, made[recorded], o[recorded]);
        }
        check_ok(dev);
        if (memcmp(made[0], made[1], sizeof made[0]) != 0) fail_msg("token %d", token);
    }
    float rows[2][CAPACITY * KV];
    for (int i = 0; i < 2; i++) {
        int64_t count = TOKENS - (i ? AHEAD : 0);
        for (int k = 0; k < 2; k++) ace_download(dev, rows[k], ace_rows(cache[k][i], 0, count));
        assert_memory_equal(rows[0], rows[1], (size_t)(count * KV) * sizeof(float));
    }
    assert_int_equal(gpu_emulated_count().graphs, 1);
    ace_device_close(dev);
    assert_nothing_left();
}

static void test_growing(void **unused)
{
    (void)unused;
    check_growing(ACE_BF16, 90);
    check_growing(ACE_BF16, 75);
    check_growing(ACE_F32, 90);
}

/* Numbers that are none, or beyond the matrices. */
static void test_bad_numbers(void **unused)
{
    (void)unused;
    ace_device *dev = open_device(NULL);
    ace_mat k = ace_scratch(dev, ACE_BF16, 10, HEAD), q = ace_scratch(dev, ACE_BF16, 1, HEAD);
    ace_mat at = ace_scratch(dev, ACE_F32, 1, 2), act = ace_scratch(dev, ACE_BF16, 1, 1);
    ace_attention_shape heads = {1, 1, HEAD, 0.25f, ACE_MASK_CAUSAL, 0};
    const ace_number bad[] = {{-1, {0}}, {11, {0}}, {0, {0}}, {3, at}, {3, act}, {(1 << 24) + 1, {0}}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        for (int append = 0; append < 2; append++) {
            if (append && bad[i].value == 0) continue;
            ace_error error = {0};
            if (append)
                ace_append(dev, k, q, bad[i]);
            else
                ace_attention_growing(dev, q, q, k, k, &heads, bad[i]);
            assert_false(ace_device_ok(dev, &error));
            assert_int_equal(error.status, ACE_ERROR_INTERNAL);
            ace_device_clear(dev);
        }
    ace_append(dev, k, q, (ace_number){10, {0}});
    assert_false(ace_device_ok(dev, NULL));
    ace_device_clear(dev);
    ace_append(dev, k, q, (ace_number){9, {0}});
    check_ok(dev);
    ace_device_close(dev);
}

/* ---- what does not belong to a step ------------------------------------------------------------------------------ */

/* Weights that lie elsewhere, or have other values, from one step to the next. */
static void test_moved_weights(void **unused)
{
    (void)unused;
    result expected;
    expect(1, &expected);
    enum { PAIRS = 40 };
    step s = {.dev = open_device(NULL)};
    ace_weight *small[PAIRS], *large[PAIRS];
    for (int i = 0; i < PAIRS; i++) {
        small[i] = weight(s.dev, ACE_WEIGHT_VECTOR, WIDTH, 1, 8);
        large[i] = weight(s.dev, ACE_WEIGHT_VECTOR, PAGE / 4, 1, 9);
    }
    load(&s);
    place(&s, ROWS);
    for (int i = 0; i < 3; i++) assert_step(&s, 1, &expected);
    const void *before = s.product->data;
    ace_repeat_begin(s.dev);
    operate(&s);
    for (int i = 0; i < PAIRS; i++) ace_weight_free(s.dev, large[i]); /* what is left is moved together */
    ace_repeat_end(s.dev);
    assert_true(s.product->data != before);
    for (int i = 0; i < 3; i++) assert_step(&s, 1, &expected);
    for (int i = 0; i < PAIRS; i++) ace_weight_free(s.dev, small[i]);

    /* weights made anew at the same places are the same step: the graph reads what is there */
    unload(&s);
    load(&s);
    for (int i = 0; i < 3; i++) assert_step(&s, 1, &expected);
    result once, is;
    ace_weight_desc d = {.kind = ACE_WEIGHT_PRODUCT, .name = "other values", .n = WIDTH, .k = WIDTH, .taps = 1};
    assert_true(ace_weight_refill(s.dev, s.product, &d, read_values, (int64_t[]){WIDTH, 77}));
    start(&s, 1);
    operate(&s);
    fetch(&s, &once);
    assert_memory_not_equal(&once, &expected, sizeof once);
    start(&s, 1);
    repeat(&s);
    fetch(&s, &is);
    assert_memory_equal(&is, &once, sizeof once);
    unload(&s);
    ace_device_close(s.dev);
    assert_nothing_left();
}

/* Transfers, weights that are filled again, and scratch that is given back, all in the midst of a step. Loading is
 * made to run ahead: one of the weights is longer than what copies run from. */
static void test_interrupted(void **unused)
{
    (void)unused;
    enum { LAYERS = 3, ROUNDS = 3 };
    result plain[ROUNDS], is;
    float host[ROWS * WIDTH];
    ace_weight_desc d = {.kind = ACE_WEIGHT_PRODUCT, .name = "streamed", .n = WIDTH, .k = WIDTH, .taps = 1};
    ace_weight_desc vector = {.kind = ACE_WEIGHT_VECTOR, .name = "streamed", .n = WIDTH, .k = 1, .taps = 1};
    ace_weight_desc long_table = {.kind = ACE_WEIGHT_TABLE, .name = "long", .n = 5000, .k = 2048, .taps = 1};
    for (int recorded = 0; recorded < 2; recorded++) {
        step s = {.dev = open_device(NULL)};
        load(&s);
        place(&s, ROWS);
        ace_weight *table = weight(s.dev, ACE_WEIGHT_TABLE, 5000, 2048, 1);
        for (int round = 0; round < ROUNDS; round++) {
            start(&s, 1);
            if (recorded) ace_repeat_begin(s.dev);
            for (int i = 0; i < LAYERS; i++) {
                operate(&s);
                assert_true(ace_weight_refill(s.dev, s.product, &d, read_values, (int64_t[]){WIDTH, i}));
                assert_true(ace_weight_refill(s.dev, table, &long_table, read_values, (int64_t[]){2048, i}));
                assert_true(ace_weight_refill(s.dev, s.vector, &vector, read_values, (int64_t[]){1, i}));
                operate(&s);
                ace_mark mark = ace_scratch_mark(s.dev);
                ace_mat much = ace_scratch(s.dev, ACE_F32, 1, 4 * PAGE);
                ace_copy(s.dev, ace_cols(much, 3 * PAGE, WIDTH), ace_rows(s.x, 0, 1));
                ace_copy(s.dev, ace_rows(s.x, 1, 1), ace_cols(much, 3 * PAGE, WIDTH));
                ace_scratch_release(s.dev, mark);
                ace_scratch_trim(s.dev);
                operate(&s);
                ace_download(s.dev, host, s.x);
                for (int k = 0; k < ROWS * WIDTH; k++) host[k] *= 0.5f;
                ace_upload(s.dev, s.x, host);
                ace_weight_free(s.dev, weight(s.dev, ACE_WEIGHT_PRODUCT, WIDTH, WIDTH, 3));
            }
            if (recorded) ace_repeat_end(s.dev);
            fetch(&s, recorded ? &is : &plain[round]);
            if (recorded) assert_memory_equal(&is, &plain[round], sizeof is);
        }
        assert_true(recorded ? gpu_emulated_count().graphs >= 2 : gpu_emulated_count().graphs == 0);
        ace_weight_free(s.dev, table);
        unload(&s);
        ace_device_close(s.dev);
        assert_nothing_left();
    }
}

/* Tables are not recorded, and come in their order. */
static void test_tables(void **unused)
{
    (void)unused;
    step s = {.dev = open_device(NULL)};
    load(&s);
    place(&s, ROWS);
    ace_weight *table = weight(s.dev, ACE_WEIGHT_TABLE, 100, WIDTH, 6);
    ace_mat logits = ace_scratch(s.dev, ACE_F32, ROWS, 100);
    float expected[ROWS * 100], is[ROWS * 100];
    for (int round = 0; round < 4; round++)
        for (int recorded = 0; recorded < 2; recorded++) {
            const int32_t ids[ROWS] = {1, 50, 99, round, 7};
            if (recorded) ace_repeat_begin(s.dev);
            ace_embed(s.dev, s.x, table, ids, ROWS);
            operate(&s);
            ace_logits(s.dev, logits, s.x, table, 0, NULL, 100);
            operate(&s);
            if (recorded) ace_repeat_end(s.dev);
            ace_download(s.dev, recorded ? is : expected, logits);
            check_ok(s.dev);
            if (recorded) assert_memory_equal(is, expected, sizeof is);
        }
    ace_weight_free(s.dev, table);
    unload(&s);
    ace_device_close(s.dev);
    assert_nothing_left();
}

/* ---- bounds ------------------------------------------------------------------------------------------------------ */

/* A step of more operations than a list holds is several graphs, in their order. */
static void test_long(void **unused)
{
    (void)unused;
    enum { MANY = CUDA_LIST + 100 };
    step s = {.dev = open_device(NULL)};
    load(&s);
    place(&s, ROWS);
    float host[ROWS * WIDTH], expected[ROWS * WIDTH];
    for (int round = 0; round < 4; round++)
        for (int recorded = 0; recorded < 2; recorded++) {
            start(&s, 1);
            if (recorded) ace_repeat_begin(s.dev);
            for (int i = 0; i < MANY; i++) ace_add(s.dev, s.x, s.x, ace_rows(s.x, 0, 1));
            if (recorded) ace_repeat_end(s.dev);
            ace_download(s.dev, recorded ? host : expected, s.x);
            check_ok(s.dev);
            if (recorded) assert_memory_equal(host, expected, sizeof host);
        }
    unload(&s);
    ace_device_close(s.dev);
    assert_nothing_left();
}

/* However many steps there are, what is remembered of them is bounded; one that comes again and again is. */
static void test_many(void **unused)
{
    (void)unused;
    enum { STEPS = 100, LENGTH = 100 };
    step s = {.dev = open_device(NULL)};
    load(&s);
    place(&s, ROWS);
    size_t before = gpu_emulated_count().committed;
    for (int i = 0; i < STEPS; i++) {
        ace_mat y = ace_scratch(s.dev, ACE_F32, 1, WIDTH);
        for (int again = 0; again < 2; again++) {
            long graphs = launched_graphs();
            ace_repeat_begin(s.dev);
            for (int k = 0; k < LENGTH; k++) ace_copy(s.dev, y, ace_rows(s.x, 0, 1));
            ace_repeat_end(s.dev);
            assert_int_equal(launched_graphs() - graphs, again);
            graphs = launched_graphs();
            repeat(&s);
            assert_int_equal(launched_graphs() - graphs, i > 0 || again);
        }
    }
    check_ok(s.dev);
    gpu_emulated_counts now = gpu_emulated_count();
    print_message("%d graphs of %zu bytes\n", now.graphs, now.committed - before);
    assert_true(now.graphs > 5 && now.graphs <= CUDA_RECORDED / LENGTH + 1);
    assert_true(now.committed - before <= (size_t)CUDA_RECORDED * CUDA_RECORDED_BYTES + 8 * PAGE);
    unload(&s);
    ace_device_close(s.dev);
    assert_nothing_left();
}

/* A step of a few operations, or of long ones, has nothing to win. */
static void test_not_worth_it(void **unused)
{
    (void)unused;
    step s = {.dev = open_device(NULL)};
    load(&s);
    place(&s, ROWS);
    for (int i = 0; i < 4; i++) {
        ace_repeat_begin(s.dev);
        for (int k = 0; k < 3; k++) ace_copy(s.dev, s.q, s.h);
        ace_repeat_end(s.dev);
    }
    assert_int_equal(gpu_emulated_count().graphs, 0);
    for (int i = 0; i < 4; i++) {
        ace_repeat_begin(s.dev);
        operate(&s);
        s.dev->stats.flops += 2e11; /* as if they were long */
        ace_repeat_end(s.dev);
    }
    check_ok(s.dev);
    assert_int_equal(gpu_emulated_count().graphs, 0);
    unload(&s);
    ace_device_close(s.dev);
}

static void test_switched_off(void **unused)
{
    (void)unused;
    result expected;
    expect(1, &expected);
    setenv("ACESTEP_CUDA_GRAPHS", "0", 1);
    step s = {.dev = open_device(NULL)};
    unsetenv("ACESTEP_CUDA_GRAPHS");
    load(&s);
    place(&s, ROWS);
    for (int i = 0; i < 4; i++) assert_step(&s, 1, &expected);
    assert_int_equal(gpu_emulated_count().graphs, 0);
    assert_true(ace_cuda_recorded_steps(s.dev) == 0);
    unload(&s);
    ace_device_close(s.dev);
    assert_nothing_left();
}

/* ---- failures ---------------------------------------------------------------------------------------------------- */

/* A step that the flag, or a mistake, breaks off does nothing any more; the next one is whole. */
static void test_broken_off(void **unused)
{
    (void)unused;
    result expected;
    expect(1, &expected);
    atomic_bool stop = false;
    step s = {.dev = open_device(&stop)};
    ace_error error = {0};
    load(&s);
    place(&s, ROWS);
    for (int i = 0; i < 3; i++) {
        start(&s, 1);
        long commands = gpu_emulated_count().commands;
        ace_repeat_begin(s.dev);
        ace_silu(s.dev, s.h, s.x);
        if (i == 0) ace_silu(s.dev, s.h, s.rope);
        if (i > 0) atomic_store(&stop, true);
        operate(&s);
        ace_repeat_end(s.dev);
        assert_int_equal(gpu_emulated_count().commands, commands);
        error = (ace_error){0};
        assert_false(ace_device_ok(s.dev, &error));
        assert_int_equal(error.status, i ? ACE_CANCELLED : ACE_ERROR_INTERNAL);
        ace_device_clear(s.dev);
        atomic_store(&stop, false);
        assert_step(&s, 1, &expected);
    }
    unload(&s);
    ace_device_close(s.dev);
    assert_nothing_left();
}

static void test_misuse(void **unused)
{
    (void)unused;
    ace_error error = {0};
    ace_device *devices[2] = {open_device(NULL), ace_cpu_open(&(ace_cpu_options){.precision = ACE_F32}, &error)};
    for (int i = 0; i < 2; i++) {
        ace_repeat_begin(devices[i]);
        ace_repeat_begin(devices[i]);
        error = (ace_error){0};
        assert_false(ace_device_ok(devices[i], &error));
        assert_int_equal(error.status, ACE_ERROR_INTERNAL);
        ace_repeat_end(devices[i]);
        ace_device_clear(devices[i]);
        ace_repeat_end(devices[i]);
        assert_false(ace_device_ok(devices[i], &error));
        ace_device_clear(devices[i]);
        ace_repeat_begin(devices[i]);
        ace_repeat_end(devices[i]);
        check_ok(devices[i]);
        ace_device_close(devices[i]);
    }
    assert_nothing_left();
}

/* Three steps in a row. False with the error of what failed. */
static bool live(const result *expected, ace_error *error)
{
    step s = {.dev = ace_cuda_open(&(ace_cuda_options){.precision = ACE_BF16, .gpu = gpu_emulated()}, error)};
    if (!s.dev) return false;
    bool ok = ace_scratch_reserve(s.dev, SCRATCH, 0, error);
    if (ok) {
        result is = {0};
        load(&s);
        if (ace_device_ok(s.dev, NULL)) {
            place(&s, ROWS);
            for (int i = 0; i < 4; i++) {
                start(&s, 1);
                repeat(&s);
            }
            ace_download(s.dev, is.x, s.x);
            ace_download(s.dev, is.q, s.q);
        }
        ok = ace_device_ok(s.dev, error);
        if (ok) assert_memory_equal(&is, expected, sizeof is);
        ace_scratch_release(s.dev, (ace_mark){0});
    }
    ace_device_clear(s.dev);
    unload(&s);
    ace_device_close(s.dev);
    return ok;
}

/* Whatever call fails: it is told, or a graph could not be made and was done without; the bytes are right where nothing
 * is told, and nothing is left. */
static void test_gpu_faults(void **unused)
{
    (void)unused;
    result expected;
    expect(1, &expected);
    for (int delayed = 0; delayed < 2; delayed++) {
        set_gpu(delayed);
        ace_error error = {0};
        gpu_emulated_fail_at(0, 0);
        assert_true(live(&expected, &error));
        long calls = gpu_emulated_fail_at(0, 0), felt = 0;
        for (long n = 1; n <= calls; n++) {
            error = (ace_error){0};
            gpu_emulated_fail_at(n, GPU_EMULATED_INJECTED);
            if (!live(&expected, &error)) {
                felt++;
                if (!strstr(error.message, "a failure that a test asked for"))
                    fail_msg("call %ld: %s", n, error.message);
            }
            gpu_emulated_fail_at(0, 0);
            assert_nothing_left();
        }
        print_message("of %ld calls %ld were felt\n", calls, felt);
        assert_true(felt > calls / 2);
    }
}

static void test_host_faults(void **unused)
{
    (void)unused;
    result expected;
    expect(1, &expected);
    bool ok = false;
    long n = 1, unfelt = 0, calls;
    ace_error error = {0};
    ace_fault_arm(0);
    assert_true(live(&expected, &error));
    calls = ace_fault_arm(0);
    for (; n <= calls; n++) {
        error = (ace_error){0};
        ace_fault_arm(n);
        ok = live(&expected, &error);
        ace_fault_arm(0);
        if (ok)
            unfelt++;
        else
            assert_int_equal(error.status, ACE_ERROR_MEMORY);
        assert_nothing_left();
    }
    assert_true(unfelt >= 1); /* remembering a list */
}

static int graph_calls, fail_graph_at;
static void *kept_graph;

static int failing_begin(gpu_stream *s)
{
    return ++graph_calls == fail_graph_at ? GPU_EMULATED_INJECTED : gpu_emulated()->graph_begin(s);
}

static int failing_end(gpu_stream *s, void **graph)
{
    int error = gpu_emulated()->graph_end(s, graph);
    if (error || ++graph_calls != fail_graph_at) return error;
    gpu_emulated()->graph_free(NULL, *graph);
    *graph = NULL;
    return GPU_EMULATED_INJECTED;
}

static int failing_silu(gpu_stream *s, gpu_mat y, gpu_mat x)
{
    return ++graph_calls == fail_graph_at ? GPU_EMULATED_INJECTED : gpu_emulated()->silu(s, y, x);
}

static int failing_launch(gpu_stream *s, void *graph)
{
    kept_graph = graph;
    return ++graph_calls == fail_graph_at ? GPU_EMULATED_INJECTED : gpu_emulated()->graph_launch(s, graph);
}

/* A graph that cannot be made: the steps go on plainly, and are right. One that cannot be launched is told. */
static void test_graph_faults(void **unused)
{
    (void)unused;
    result expected;
    expect(1, &expected);
    for (int what = 0; what < 4; what++) {
        gpu g = *gpu_emulated();
        graph_calls = 0;
        fail_graph_at = what == 2 ? 2 : 1; /* a kernel is queued plainly first, and then recorded */
        if (what == 0) g.graph_begin = failing_begin;
        if (what == 1) g.graph_end = failing_end;
        if (what == 2) g.silu = failing_silu;
        if (what == 3) g.graph_launch = failing_launch;
        ace_error error = {0};
        step s = {.dev = ace_cuda_open(&(ace_cuda_options){.precision = ACE_BF16, .gpu = &g}, &error)};
        assert_non_null(s.dev);
        assert_true(ace_scratch_reserve(s.dev, SCRATCH, 0, &error));
        load(&s);
        place(&s, ROWS);
        for (int i = 0; i < 5 && what < 3; i++) {
            assert_step(&s, 1, &expected);
            assert_int_equal(gpu_emulated_count().graphs, 0);
        }
        if (what < 3) assert_true(ace_cuda_recorded_steps(s.dev) == 0);
        if (what == 3) {
            start(&s, 1);
            repeat(&s);
            repeat(&s);
            assert_false(ace_device_ok(s.dev, &error));
            if (!strstr(error.message, "in a recorded step")) fail_msg("%s", error.message);
            assert_non_null(kept_graph);
            ace_device_clear(s.dev);
            assert_step(&s, 1, &expected);
        }
        unload(&s);
        ace_device_close(s.dev);
        assert_nothing_left();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_again, set_up),          cmocka_unit_test_setup(test_counts, set_up),
        cmocka_unit_test_setup(test_other_matrices, set_up), cmocka_unit_test_setup(test_other_arguments, set_up),
        cmocka_unit_test_setup(test_growing, set_up),        cmocka_unit_test_setup(test_bad_numbers, set_up),
        cmocka_unit_test_setup(test_moved_weights, set_up),  cmocka_unit_test_setup(test_interrupted, set_up),
        cmocka_unit_test_setup(test_tables, set_up),         cmocka_unit_test_setup(test_long, set_up),
        cmocka_unit_test_setup(test_many, set_up),           cmocka_unit_test_setup(test_not_worth_it, set_up),
        cmocka_unit_test_setup(test_switched_off, set_up),   cmocka_unit_test_setup(test_broken_off, set_up),
        cmocka_unit_test_setup(test_misuse, set_up),         cmocka_unit_test_setup(test_gpu_faults, set_up),
        cmocka_unit_test_setup(test_host_faults, set_up),    cmocka_unit_test_setup(test_graph_faults, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
