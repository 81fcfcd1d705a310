/* The device as a whole: opening, counts, the meter, failures, and stopping. */
#include "device_test.h"

#include "base/clock.h"
#include "base/memory.h"

#include <pthread.h>

enum { SCRATCH = 64 << 20 };

/* ---- opening ------------------------------------------------------------------------------------------------- */

static void names_and_choice(void **state)
{
    const config *c = *state;
    ace_device *dev = open_device(c, 2, 0, NULL);
    const char *name = ace_device_name(dev);
    assert_non_null(strstr(name, c->precision == ACE_BF16 ? ", bf16, 2 threads)" : ", f32, 2 threads)"));
    assert_int_equal(ace_device_act(dev), c->precision);
    assert_false(ace_device_is_meter(dev));
    ace_device_close(dev);

    /* the variable says the same, but only where the caller leaves the choice open */
    char key[32], found[96];
    snprintf(key, sizeof key, "%.*s", (int)strcspn(c->label, " "), c->label);
    assert_int_equal(setenv("ACESTEP_ISA", key, 1), 0);
    ace_error error = {0};
    dev = ace_cpu_open(&(ace_cpu_options){.precision = c->precision, .threads = 1}, &error);
    assert_non_null(dev);
    snprintf(found, sizeof found, "%s", ace_device_name(dev));
    ace_device_close(dev);
    assert_int_equal(setenv("ACESTEP_ISA", "generic", 1), 0);
    dev = ace_cpu_open(&(ace_cpu_options){.precision = c->precision, .threads = 1, .isa = c->isa}, &error);
    assert_string_equal(ace_device_name(dev), found);
    ace_device_close(dev);
    assert_int_equal(unsetenv("ACESTEP_ISA"), 0);
}

static void bad_options(void **state)
{
    (void)state;
    ace_error error = {0};
    assert_int_equal(setenv("ACESTEP_ISA", "sse9", 1), 0);
    assert_null(ace_cpu_open(&(ace_cpu_options){.precision = ACE_F32, .threads = 1}, &error));
    assert_int_equal(unsetenv("ACESTEP_ISA"), 0);
    assert_int_equal(error.status, ACE_ERROR_USAGE);
    assert_non_null(strstr(error.message, "sse9"));
    assert_non_null(strstr(error.message, "supports generic"));

    error = (ace_error){0};
    assert_null(ace_cpu_open(&(ace_cpu_options){.precision = ACE_F16, .threads = 1}, &error));
    assert_int_equal(error.status, ACE_ERROR_USAGE);
    error = (ace_error){0};
    assert_null(ace_cpu_open(&(ace_cpu_options){.precision = ACE_F32, .threads = -1}, &error));
    assert_int_equal(error.status, ACE_ERROR_USAGE);
    error = (ace_error){0};
    assert_null(ace_cpu_open(&(ace_cpu_options){.precision = ACE_F32, .threads = 1, .isa = (ace_isa)99}, &error));
    assert_int_equal(error.status, ACE_ERROR_DEVICE);
    assert_non_null(strstr(error.message, "supports generic"));
}

/* ---- counts -------------------------------------------------------------------------------------------------- */

static int64_t round_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b * b;
}

/* The layout of device/cpu/weights.c: panels of 32 columns, bf16 in pairs per tap, for AMX in tiles of 32. */
static size_t packed_bytes(const config *c, ace_weight_kind kind, int64_t n, int64_t k, int taps)
{
    ace_dtype dtype = c->precision;
    int64_t columns = kind == ACE_WEIGHT_GATED ? round_up(n / 2, 16) * 2 : round_up(n, 32);
    int64_t deep = dtype == ACE_BF16 ? taps * round_up(k / taps, c->isa == ACE_ISA_AMX ? 32 : 2) : k;
    return (size_t)(columns * deep) * (dtype == ACE_BF16 ? 2 : 4);
}

static void weight_sizes(void **state)
{
    const config *c = *state;
    ace_device *dev = open_device(c, 2, SCRATCH, NULL);
    random_state r = {1};
    for (int i = 0; i < 200; i++) {
        int taps = (int)random_int(&r, 1, 7);
        int64_t n = 2 * random_int(&r, 1, 50), k = taps * random_int(&r, 1, 30);
        size_t element = c->precision == ACE_BF16 ? 2 : 4;
        host_weight w[4] = {make_weight(dev, &r, ACE_WEIGHT_PRODUCT, n, k, taps, -1, 1),
                            make_weight(dev, &r, ACE_WEIGHT_GATED, n, k, 1, -1, 1),
                            make_weight(dev, &r, ACE_WEIGHT_VECTOR, n, 1, 1, -1, 1),
                            make_weight(dev, &r, ACE_WEIGHT_TABLE, n, k, 1, -1, 1)};
        assert_int_equal(ace_device_get_stats(dev).weight_bytes, packed_bytes(c, ACE_WEIGHT_PRODUCT, n, k, taps) +
                                                                     packed_bytes(c, ACE_WEIGHT_GATED, n, k, 1) +
                                                                     (size_t)n * 4 + (size_t)(n * k) * element);
        for (int j = 0; j < 4; j++) drop_weight(dev, &w[j]);
        assert_int_equal(ace_device_get_stats(dev).weight_bytes, 0);
    }
    ace_device_close(dev);
}

/* A little of everything, as a model would call it. `host` is NULL on the meter. */
static void play(ace_device *dev, float *host)
{
    random_state r = {2};
    ace_dtype act = ace_device_act(dev);
    host_weight w = make_weight(dev, &r, ACE_WEIGHT_PRODUCT, 96, 7 * 33, 7, -1, 1);
    host_weight square = make_weight(dev, &r, ACE_WEIGHT_PRODUCT, 96, 96, 1, -1, 1);
    host_weight gated = make_weight(dev, &r, ACE_WEIGHT_GATED, 100, 96, 1, -1, 1);
    host_weight vector = make_weight(dev, &r, ACE_WEIGHT_VECTOR, 96, 1, 1, 0.5f, 1);
    host_weight head = make_weight(dev, &r, ACE_WEIGHT_VECTOR, 24, 1, 1, 0.5f, 1);
    host_weight table = make_weight(dev, &r, ACE_WEIGHT_TABLE, 10, 33, 1, -1, 1);
    int32_t ids[40];
    for (int i = 0; i < 40; i++) ids[i] = i % 10;
    ace_mat x = ace_scratch(dev, act, 40, 33), y = ace_scratch(dev, ACE_F32, 40, 96), a = ace_scratch(dev, act, 40, 96);
    ace_snake_weights snake = {vector.w, vector.w};
    ace_embed(dev, x, table.w, ids, 40);
    ace_conv1d(dev, y, x, w.w, &(ace_conv){.stride = 1, .dilation = 1, .padding = 3},
               &(ace_epilogue){.bias = vector.w, .snake = &snake, .act = a});
    ace_linear(dev, y, a, square.w, &(ace_epilogue){.silu = true, .residual = y, .gate = ace_rows(y, 0, 1)});
    ace_mark mark = ace_scratch_mark(dev);
    ace_mat o = ace_scratch(dev, act, 40, 96), f = ace_scratch(dev, act, 40, 50), z = ace_scratch(dev, ACE_F32, 40, 96);
    ace_scratch_host(dev, 77);
    ace_attention_shape shape = {4, 4, 24, 0.2f, ACE_MASK_BAND, 5};
    ace_rms_norm(dev, a, y, vector.w, 1e-6f, (ace_mat){0}, (ace_mat){0});
    ace_head_norm_rope(dev, a, 24, head.w, 1e-6f, (ace_mat){0}, 0);
    ace_attention(dev, o, a, a, a, &shape);
    ace_linear_silu_mul(dev, f, o, gated.w);
    ace_silu(dev, z, y);
    ace_snake(dev, a, z, &snake);
    ace_add(dev, z, z, y);
    ace_add_vector(dev, z, z, vector.w);
    ace_copy(dev, o, z);
    ace_upload(dev, z, host);
    ace_scratch_release(dev, mark);
    ace_download(dev, host, y);
    ace_scratch_release(dev, (ace_mark){0});
    drop_weight(dev, &table);
    drop_weight(dev, &head);
    drop_weight(dev, &vector);
    drop_weight(dev, &gated);
    drop_weight(dev, &square);
    drop_weight(dev, &w);
    check_ok(dev);
}

static void the_meter_counts_the_same(void **state)
{
    ace_error error = {0};
    ace_device *dev = open_device(*state, 2, 0, NULL), *meter = ace_meter_open(dev, &error);
    assert_non_null(meter);
    assert_true(ace_device_is_meter(meter));
    play(meter, NULL);
    ace_device_stats planned = ace_device_get_stats(meter);
    /* exactly what the meter says is enough, and not a byte less */
    float host[40 * 96] = {0};
    assert_true(ace_scratch_reserve(dev, planned.scratch_peak, 0, &error));
    play(dev, host);
    ace_device_stats measured = ace_device_get_stats(dev);
    assert_int_equal(planned.scratch_peak, measured.scratch_peak);
    assert_int_equal(planned.total_peak, measured.total_peak);
    assert_int_equal(planned.workspace, measured.workspace);
    assert_int_equal(planned.weight_bytes, 0);
    assert_int_equal(measured.weight_bytes, 0);
    assert_int_equal(measured.scratch_bytes, 0);
    assert_true(planned.flops > 0 && planned.flops == measured.flops);
    assert_true(planned.bytes_moved > 0 && planned.bytes_moved == measured.bytes_moved);

    assert_true(ace_scratch_reserve(dev, planned.scratch_peak - 64, 0, &error));
    ace_scratch(dev, ACE_F32, 1, (int64_t)planned.scratch_peak / 4);
    assert_false(ace_device_ok(dev, &error));
    assert_int_equal(error.status, ACE_ERROR_INTERNAL);
    ace_device_close(meter);
    ace_device_close(dev);
}

/* ---- failures ------------------------------------------------------------------------------------------------ */

static void no_memory_at_any_point(void **state)
{
    const config *c = *state;
    ace_device_close(open_device(c, 2, 0, NULL)); /* skips */
    bool opened = false;
    for (long n = 1; !opened; n++) {
        ace_error error = {0};
        ace_fault_arm(n);
        ace_device *dev =
            ace_cpu_open(&(ace_cpu_options){.precision = c->precision, .threads = 2, .isa = c->isa}, &error);
        ace_fault_arm(0);
        opened = dev != NULL;
        if (!opened) assert_int_equal(error.status, ACE_ERROR_MEMORY);
        ace_device_close(dev);
        assert_true(n < 20);
    }
    ace_device *dev = open_device(c, 2, 0, NULL);
    float values[64] = {0};
    host_weight h = {.values = values, .n = 4, .k = 16};
    ace_weight_desc desc = {.kind = ACE_WEIGHT_PRODUCT, .name = "the.weight", .n = 4, .k = 16, .taps = 1};
    ace_weight *w = NULL;
    for (long n = 1; !w; n++) {
        ace_fault_arm(n);
        w = ace_weight_new(dev, &desc, read_host, &h);
        ace_fault_arm(0);
        ace_error error = {0};
        assert_int_equal(ace_device_ok(dev, &error), w != NULL);
        if (!w) assert_int_equal(error.status, ACE_ERROR_MEMORY);
        assert_true(w || ace_device_get_stats(dev).weight_bytes == 0);
        ace_device_clear(dev);
        assert_true(n < 20);
    }
    ace_weight_free(dev, w);
    ace_fault_arm(1);
    ace_error error = {0};
    assert_false(ace_scratch_reserve(dev, 1000, 0, &error));
    ace_fault_arm(0);
    assert_int_equal(error.status, ACE_ERROR_MEMORY);
    ace_device_close(dev);
}

typedef struct counting_reader {
    atomic_int seen[600];
    int64_t bad_row;
} counting_reader;

static bool read_counting(void *context, int64_t first, int64_t count, ace_dtype dtype, void *rows, ace_error *error)
{
    counting_reader *r = context;
    memset(rows, 0, (size_t)count * 40 * ace_dtype_block_bytes(dtype));
    for (int64_t i = first; i < first + count; i++) {
        atomic_fetch_add(&r->seen[i], 1);
        if (i == r->bad_row) {
            error->status = ACE_ERROR_FORMAT;
            snprintf(error->message, sizeof error->message, "row %lld is damaged", (long long)i);
            return false;
        }
    }
    return true;
}

static void readers_are_asked_once_and_believed(void **state)
{
    ace_device *dev = open_device(*state, 3, 0, NULL);
    for (int kind = ACE_WEIGHT_PRODUCT; kind <= ACE_WEIGHT_TABLE; kind++) {
        if (kind == ACE_WEIGHT_VECTOR) continue; /* rows of one value: not what this reader makes */
        counting_reader r = {.bad_row = -1};
        ace_weight_desc desc = {.kind = (ace_weight_kind)kind, .name = "w", .n = 600, .k = 40, .taps = 1};
        ace_weight *w = ace_weight_new(dev, &desc, read_counting, &r);
        assert_non_null(w);
        for (int i = 0; i < 600; i++) assert_int_equal(atomic_load(&r.seen[i]), 1);
        ace_weight_free(dev, w);
        r.bad_row = 417;
        assert_null(ace_weight_new(dev, &desc, read_counting, &r));
        ace_error error = {0};
        assert_false(ace_device_ok(dev, &error));
        assert_int_equal(error.status, ACE_ERROR_FORMAT);
        assert_string_equal(error.message, "row 417 is damaged");
        ace_device_clear(dev);
    }
    ace_device_close(dev);
}

static void misuse_is_caught_and_sticks(void **state)
{
    ace_device *dev = open_device(*state, 1, SCRATCH, NULL);
    ace_dtype act = ace_device_act(dev);
    random_state r = {3};
    host_weight w = make_weight(dev, &r, ACE_WEIGHT_PRODUCT, 8, 12, 1, -1, 1);
    ace_mat x = ace_scratch(dev, act, 5, 12), y = ace_scratch(dev, ACE_F32, 5, 9),
            good = ace_scratch(dev, ACE_F32, 5, 8);
    float host[5 * 8];
    for (int i = 0; i < 40; i++) host[i] = 7;
    ace_upload(dev, good, host);
    ace_linear(dev, y, x, w.w, NULL); /* 9 columns for a weight of 8 */
    ace_silu(dev, good, good);        /* does nothing any more */
    ace_error error = {0};
    assert_false(ace_device_ok(dev, &error));
    assert_int_equal(error.status, ACE_ERROR_INTERNAL);
    assert_non_null(strstr(error.message, "ace_linear"));
    ace_device_clear(dev);
    ace_download(dev, host, good);
    for (int i = 0; i < 40; i++) assert_true(host[i] == 7);
    /* views that reach outside, a snake without its weights, and act rows that are not x's */
    ace_snake_weights none = {NULL, NULL};
    ace_mat bad[] = {ace_rows(good, 3, 3), ace_rows(good, -1, 2), ace_cols(good, 1, 8), ace_reshape(good, 5, 7)};
    for (int i = 0; i < 4; i++) {
        ace_silu(dev, bad[i], bad[i]);
        assert_false(ace_device_ok(dev, &error));
        ace_device_clear(dev);
    }
    ace_snake(dev, good, good, &none);
    assert_false(ace_device_ok(dev, &error));
    ace_device_clear(dev);
    ace_linear(dev, good, x, w.w, &(ace_epilogue){.snake = &none, .act = good});
    assert_false(ace_device_ok(dev, &error));
    ace_device_clear(dev);
    host_weight one = make_weight(dev, &r, ACE_WEIGHT_VECTOR, 8, 1, 1, 1, 1);
    ace_linear(dev, (ace_mat){0}, x, w.w,
               &(ace_epilogue){.snake = &(ace_snake_weights){one.w, one.w}, .act = ace_rows(good, 0, 4)});
    assert_false(ace_device_ok(dev, &error));
    ace_device_clear(dev);
    drop_weight(dev, &one);
    int32_t outside = 12;
    host_weight table = make_weight(dev, &r, ACE_WEIGHT_TABLE, 12, 8, 1, -1, 1);
    ace_embed(dev, ace_rows(good, 0, 1), table.w, &outside, 1);
    assert_false(ace_device_ok(dev, &error));
    ace_device_clear(dev);
    drop_weight(dev, &table);
    drop_weight(dev, &w);
    ace_device_close(dev);
}

/* The matrix unit's workspace bounds how far a convolution may reach; nothing that a model has comes near. */
static void endless_reach_is_refused(void **state)
{
    const config *c = *state;
    bool bounded = c->isa == ACE_ISA_AMX && c->precision == ACE_BF16;
    ace_device *dev = open_device(c, 1, SCRATCH, NULL);
    random_state r = {5};
    host_weight w = make_weight(dev, &r, ACE_WEIGHT_PRODUCT, 8, 24, 2, -1, 1);
    ace_mat x = ace_scratch(dev, c->precision, 5, 12), y = ace_scratch(dev, ACE_F32, 5, 8);
    float zeros[60] = {0};
    ace_upload(dev, x, zeros);
    ace_conv conv = {.stride = 1, .dilation = 10000};
    ace_conv1d(dev, y, x, w.w, &conv, NULL);
    check_ok(dev);
    conv.dilation = 1000000;
    ace_conv1d(dev, y, x, w.w, &conv, NULL);
    ace_error error = {0};
    assert_int_equal(ace_device_ok(dev, &error), !bounded);
    if (bounded) {
        assert_int_equal(error.status, ACE_ERROR_MODEL);
        assert_non_null(strstr(error.message, "dilation 1000000"));
    }
    ace_device_clear(dev);
    drop_weight(dev, &w);
    ace_device_close(dev);
}

/* ---- stopping ------------------------------------------------------------------------------------------------ */

typedef struct stopper {
    atomic_bool stop;
    double at;
} stopper;

static void *stop_soon(void *context)
{
    stopper *s = context;
    nanosleep(&(struct timespec){0, 50000000}, NULL);
    s->at = ace_clock();
    atomic_store(&s->stop, true);
    return NULL;
}

typedef struct long_work {
    ace_mat x, y, act;
    ace_weight *w, *wide;
} long_work;

static void long_product(ace_device *dev, const long_work *l)
{
    ace_linear(dev, l->y, l->x, l->w, NULL);
}

static void long_convolution(ace_device *dev, const long_work *l)
{
    ace_conv1d(dev, l->y, l->x, l->wide, &(ace_conv){.stride = 1, .dilation = 1, .padding = 3}, NULL);
}

static void long_attention(ace_device *dev, const long_work *l)
{
    ace_attention(dev, l->act, l->x, l->x, l->x, &(ace_attention_shape){16, 16, 128, 0.1f, ACE_MASK_FULL, 0});
}

static void stops_quickly(void **state)
{
    static void (*const operations[])(ace_device *, const long_work *) = {long_product, long_convolution,
                                                                          long_attention};
    enum { ROWS = 12000, WIDTH = 2048 };
    stopper s = {0};
    ace_device *dev = open_device(*state, 2, (size_t)400 << 20, &s.stop);
    long_work l;
    ace_dtype act = ace_device_act(dev);
    float *row = must(calloc(WIDTH, sizeof *row));
    random_state r = {4};
    host_weight w = make_weight(dev, &r, ACE_WEIGHT_PRODUCT, WIDTH, WIDTH, 1, -1, 1);
    host_weight wide = make_weight(dev, &r, ACE_WEIGHT_PRODUCT, WIDTH, 3 * WIDTH, 3, -1, 1);
    l.w = w.w, l.wide = wide.w;
    l.x = ace_scratch(dev, act, ROWS, WIDTH);
    l.act = ace_scratch(dev, act, ROWS, WIDTH);
    l.y = ace_scratch(dev, ACE_F32, ROWS, WIDTH);
    for (int64_t i = 0; i < ROWS; i++) ace_upload(dev, ace_rows(l.x, i, 1), row);
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        double quickest = INFINITY;
        for (int attempt = 0; attempt < 3 && !(quickest < 0.3); attempt++) { /* a busy machine may delay one */
            pthread_t thread;
            atomic_store(&s.stop, false);
            assert_int_equal(pthread_create(&thread, NULL, stop_soon, &s), 0);
            do operations[i](dev, &l);
            while (ace_device_ok(dev, NULL));
            double end = ace_clock();
            pthread_join(thread, NULL);
            ace_error error = {0};
            assert_false(ace_device_ok(dev, &error));
            assert_int_equal(error.status, ACE_CANCELLED);
            atomic_store(&s.stop, false);
            ace_device_clear(dev);
            quickest = fmin(quickest, end - s.at);
        }
        assert_true(quickest < 0.3);
    }
    free(row);
    drop_weight(dev, &w);
    drop_weight(dev, &wide);
    ace_device_close(dev);
}

int main(void)
{
    static const device_test tests[] = {
        {"names, and how the instruction set is chosen", names_and_choice},
        {"bad options are named", bad_options},
        {"weights have the documented size", weight_sizes},
        {"the meter counts what the device counts", the_meter_counts_the_same},
        {"no memory at any point", no_memory_at_any_point},
        {"readers are asked once per row, and their errors kept", readers_are_asked_once_and_believed},
        {"misuse is caught and sticks", misuse_is_caught_and_sticks},
        {"only a convolution that reaches very far is refused", endless_reach_is_refused},
        {"a long operation stops within 0.3 s", stops_quickly},
    };
    return run_cpu_tests("device/cpu", tests, sizeof tests / sizeof *tests);
}
