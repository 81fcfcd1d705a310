/* The CUDA device as a whole, on an emulated GPU: opening, memory, weights that come and go, stopping, faults. What the
 * operations compute is tested with those of the other devices. */
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

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 64 << 10, SCRATCH = 8 << 20 };

/* Every test begins with a fresh GPU. */
static int set_up(void **state)
{
    (void)state;
    gpu_emulated_settings s = gpu_emulated_defaults();
    s.total_bytes = (size_t)1 << 30;
    s.page_bytes = PAGE;
    gpu_emulated_set(&s);
    gpu_emulated_fail_at(0, 0);
    ace_fault_arm(0);
    return 0;
}

static void set_delayed(bool delayed)
{
    gpu_emulated_settings s = gpu_emulated_defaults();
    s.total_bytes = (size_t)1 << 30;
    s.page_bytes = PAGE;
    s.delayed = delayed;
    gpu_emulated_set(&s);
}

static void assert_nothing_left(void)
{
    gpu_emulated_counts now = gpu_emulated_count();
    assert_int_equal(now.committed, 0);
    assert_int_equal(now.reserved, 0);
    assert_int_equal(now.host_bytes, 0);
    assert_int_equal(now.streams, 0);
    assert_int_equal(now.events, 0);
    assert_int_equal(now.contexts, 0);
}

static ace_device *try_open(ace_dtype precision, const atomic_bool *stop, ace_error *error)
{
    return ace_cuda_open(&(ace_cuda_options){.precision = precision, .stop = stop, .gpu = gpu_emulated()}, error);
}

static ace_device *open_device(ace_dtype precision, const atomic_bool *stop)
{
    ace_error error = {0};
    ace_device *dev = try_open(precision, stop, &error);
    if (!dev) fail_msg("%s", error.message);
    assert_true(ace_scratch_reserve(dev, SCRATCH, 1 << 20, &error));
    return dev;
}

static void close_device(ace_device *dev)
{
    ace_device_close(dev);
    assert_nothing_left();
}

static void check_ok(const ace_device *dev)
{
    ace_error error = {0};
    if (!ace_device_ok(dev, &error)) fail_msg("%s", error.message);
}

/* ---- weights ----------------------------------------------------------------------------------------------------- */

/* Small whole numbers, exact in every precision, that depend on `seed`. */
typedef struct numbers {
    int64_t k;
    int seed;
} numbers;

static float number(const numbers *n, int64_t row, int64_t col)
{
    uint32_t h = (uint32_t)(row * n->k + col) * 2654435761u + (uint32_t)n->seed * 40503u;
    return (float)((int)(h >> 16) % 9 - 4);
}

static bool read_numbers(void *context, int64_t first, int64_t count, ace_dtype dtype, void *rows, ace_error *error)
{
    const numbers *n = context;
    (void)error;
    for (int64_t i = 0; i < count * n->k; i++) {
        float v = number(n, first + i / n->k, i % n->k);
        if (dtype == ACE_BF16)
            ((uint16_t *)rows)[i] = ace_f32_to_bf16(v);
        else
            ((float *)rows)[i] = v;
    }
    return true;
}

static ace_weight_desc product_desc(int64_t n, int64_t k)
{
    return (ace_weight_desc){.kind = ACE_WEIGHT_PRODUCT, .name = "a test's weight", .n = n, .k = k, .taps = 1};
}

static ace_weight *new_weight(ace_device *dev, const ace_weight_desc *d, int seed)
{
    return ace_weight_new(dev, d, read_numbers, &(numbers){d->k, seed});
}

/* x[m][c] = 1 where c = m + shift: the product is then some columns of the weight. */
static ace_mat unit_rows(ace_device *dev, int64_t rows, int64_t cols, int64_t shift)
{
    ace_mat x = ace_scratch(dev, ace_device_act(dev), rows, cols);
    float *host = calloc((size_t)(rows * cols), sizeof *host);
    assert_non_null(host);
    for (int64_t m = 0; m < rows; m++) host[m * cols + m + shift] = 1;
    ace_upload(dev, x, host);
    free(host); /* nobody may read it any more */
    return x;
}

static void assert_columns(ace_device *dev, ace_mat y, int64_t shift, const numbers *n)
{
    float *host = calloc((size_t)(y.rows * y.cols), sizeof *host);
    assert_non_null(host);
    ace_download(dev, host, y);
    check_ok(dev);
    for (int64_t i = 0; i < y.rows * y.cols; i++)
        if (host[i] != number(n, i % y.cols, i / y.cols + shift))
            fail_msg("row %lld, column %lld: %g", (long long)(i / y.cols), (long long)(i % y.cols), (double)host[i]);
    free(host);
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static void refuses(ace_status status, const char *part, const ace_cuda_options *options)
{
    ace_error error = {0};
    ace_device *dev = ace_cuda_open(options, &error);
    assert_null(dev);
    if (error.status != status || !strstr(error.message, part)) fail_msg("%d: %s", error.status, error.message);
    assert_nothing_left();
}

static void test_opening(void **unused)
{
    (void)unused;
    ace_device *dev = open_device(ACE_BF16, NULL);
    assert_string_equal(ace_device_name(dev), "cuda:0 emulated GPU (bf16)");
    assert_int_equal(ace_device_act(dev), ACE_BF16);
    assert_true(ace_device_near_bytes(dev) > 0);
    close_device(dev);

    gpu other = *gpu_emulated();
    other.abi = GPU_ABI + 1;
    ace_cuda_options options = {.precision = ACE_F32, .gpu = &other};
    refuses(ACE_ERROR_DEVICE, "same build", &options);
    options = (ace_cuda_options){.precision = ACE_F32, .device = 1, .gpu = gpu_emulated()};
    refuses(ACE_ERROR_USAGE, "no GPU 1", &options);
    options = (ace_cuda_options){.precision = ACE_F16, .gpu = gpu_emulated()};
    refuses(ACE_ERROR_USAGE, "F32 or BF16", &options);
    gpu_emulated_settings s = gpu_emulated_defaults();
    s.total_bytes = s.context_bytes + 1;
    gpu_emulated_set(&s);
    options = (ace_cuda_options){.precision = ACE_F32, .gpu = gpu_emulated()};
    refuses(ACE_ERROR_MEMORY, "are free", &options);
}

/* ---- transfers --------------------------------------------------------------------------------------------------- */

/* There and back, packed and not, of both types, larger than what passes at once. */
static void test_transfers(void **unused)
{
    (void)unused;
    const struct {
        int64_t rows, cols, stride;
    } shapes[] = {{1, 1, 1}, {3, 5, 5}, {7, 33, 64}, {1, 1200000, 1200000}, {1300, 1000, 1000}, {1100, 1000, 1003}};
    for (int delayed = 0; delayed < 2; delayed++)
        for (int act = 0; act < 2; act++)
            for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
                set_delayed(delayed);
                ace_error error = {0};
                ace_device *dev = try_open(ACE_BF16, NULL, &error);
                int64_t rows = shapes[s].rows, cols = shapes[s].cols, count = rows * cols;
                assert_true(ace_scratch_reserve(dev, SCRATCH, 0, &error));
                ace_mat whole = ace_scratch(dev, act ? ACE_BF16 : ACE_F32, rows, shapes[s].stride);
                ace_mat m = ace_cols(whole, shapes[s].stride - cols, cols);
                float *there = malloc((size_t)count * sizeof *there), *back = malloc((size_t)count * sizeof *back);
                assert_true(there && back);
                for (int64_t i = 0; i < count; i++) there[i] = (float)(i % 251) - 100;
                ace_upload(dev, m, there);
                float first = there[0];
                memset(there, 0, (size_t)count * sizeof *there); /* it may be reused */
                there[0] = first;
                ace_download(dev, back, m);
                check_ok(dev);
                for (int64_t i = 0; i < count; i++) assert_true(back[i] == (float)(i % 251) - 100);
                free(there);
                free(back);
                close_device(dev);
            }
}

/* Host scratch is the host's. */
static void test_host_scratch(void **unused)
{
    (void)unused;
    ace_error error = {0};
    ace_device *dev = try_open(ACE_F32, NULL, &error), *meter = ace_meter_open(dev, &error);
    ace_device *both[] = {meter, dev};
    for (int d = 0; d < 2; d++) {
        ace_mark outer = ace_scratch_mark(both[d]);
        size_t planned = ace_device_get_stats(meter).host_peak;
        assert_true(ace_scratch_reserve(both[d], 4096, planned, &error));
        float *a = ace_scratch_host(both[d], 1000);
        ace_mark inner = ace_scratch_mark(both[d]);
        ace_scratch(both[d], ACE_F32, 10, 10);
        float *b = ace_scratch_host(both[d], 77);
        if (d == 0) assert_true(!a && !b);
        for (int i = 0; d == 1 && i < 77; i++) a[i] = b[i] = 1;
        ace_scratch_release(both[d], inner);
        float *again = ace_scratch_host(both[d], 3);
        if (d == 1) assert_ptr_equal(again, b);
        check_ok(both[d]);
        ace_device_stats s = ace_device_get_stats(both[d]);
        assert_int_equal(s.host_bytes, 4032 + 64);
        assert_int_equal(s.host_peak, 4032 + 320);
        assert_int_equal(s.scratch_peak, 448);
        assert_false(d == 1 && ace_scratch_reserve(dev, 1, 1, &error));
        ace_scratch_release(both[d], outer);
        assert_int_equal(ace_device_get_stats(both[d]).host_bytes, 0);
    }
    ace_scratch_host(dev, 2000);
    assert_false(ace_device_ok(dev, &error));
    ace_device_close(meter);
    close_device(dev);
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static uint32_t next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

static size_t promised(const ace_device *dev)
{
    ace_device_stats s = ace_device_get_stats(dev);
    return s.weight_bytes + s.scratch_held + s.workspace - gpu_emulated_defaults().context_bytes;
}

/* One step of a random life; the same on the meter and on the device. */
enum { LIVES = 200 };

typedef struct life {
    ace_device *dev;
    ace_weight *weights[LIVES];
    int seeds[LIVES];
    ace_mark marks[32];
    int depth;
} life;

static const ace_weight_form forms[] = {ACE_FORM_PLAIN, ACE_FORM_INT8, ACE_FORM_INT4};

static void step(life *l, uint32_t *state, int number_of_step)
{
    uint32_t what = next(state), size = next(state), i = next(state) % LIVES;
    if (what % 8 < 4) {
        if (l->weights[i]) {
            ace_weight_free(l->dev, l->weights[i]);
            l->weights[i] = NULL;
        } else {
            ace_weight_desc d = product_desc(1 + size % 300, 32 * (1 + size % 7));
            d.kind = size % 3 == 0 ? ACE_WEIGHT_GATED : size % 3 == 1 ? ACE_WEIGHT_PRODUCT : ACE_WEIGHT_VECTOR;
            if (d.kind == ACE_WEIGHT_VECTOR) d.k = 1;
            if (d.kind == ACE_WEIGHT_GATED) d.n *= 2;
            if (d.kind != ACE_WEIGHT_VECTOR) d.form = forms[size / 8 % 3];
            if (size % 50 == 0) d.n *= 10;
            l->seeds[i] = number_of_step;
            l->weights[i] = new_weight(l->dev, &d, number_of_step);
        }
    } else if (what % 8 < 6 && l->depth < 32) {
        l->marks[l->depth++] = ace_scratch_mark(l->dev);
        ace_scratch(l->dev, ACE_F32, 1 + size % 50, 1 + size % 500);
    } else if (what % 8 == 6 && l->depth > 0) {
        l->depth = (int)(size % (uint32_t)l->depth);
        ace_scratch_release(l->dev, l->marks[l->depth]);
    } else if (what % 8 == 7) {
        ace_scratch_trim(l->dev);
    }
}

static void end_life(life *l)
{
    ace_scratch_release(l->dev, (ace_mark){0});
    for (int i = 0; i < LIVES; i++) ace_weight_free(l->dev, l->weights[i]);
}

/* Vectors and plain products keep their values, wherever they were moved. */
static void assert_vectors(const life *l)
{
    for (int i = 0; i < LIVES; i++) {
        const ace_weight *w = l->weights[i];
        if (!w || w->desc.kind != ACE_WEIGHT_VECTOR) continue;
        const float *values = w->data; /* the emulated GPU's memory is the host's */
        numbers n = {1, l->seeds[i]};
        for (int64_t r = 0; r < w->desc.n; r++) assert_true(values[r] == number(&n, r, 0));
    }
}

/* The GPU's memory is never more than was promised, and the meter promises the same to the byte. */
static void test_memory_follows_the_plan(void **unused)
{
    (void)unused;
    for (uint32_t seed = 1; seed <= 6; seed++) {
        ace_error error = {0};
        life real = {.dev = try_open(seed % 2 ? ACE_F32 : ACE_BF16, NULL, &error)};
        life metered = {.dev = ace_meter_open(real.dev, &error)};
        uint32_t states[2] = {seed, seed};
        assert_true(ace_scratch_reserve(real.dev, (size_t)32 * 50 * 500 * 4, 0, &error));
        ace_device_reset_peak(metered.dev);
        gpu_emulated_reset_peak();
        for (int i = 0; i < 2000; i++) {
            step(&metered, &states[0], i);
            step(&real, &states[1], i);
            check_ok(real.dev);
            ace_device_stats a = ace_device_get_stats(metered.dev), b = ace_device_get_stats(real.dev);
            assert_memory_equal(&a, &b, sizeof a);
            if (gpu_emulated_count().committed > promised(real.dev)) fail_msg("step %d: more than promised", i);
            if (i % 200 == 0) assert_vectors(&real);
        }
        size_t peak = ace_device_get_stats(metered.dev).total_peak - gpu_emulated_defaults().context_bytes;
        if (gpu_emulated_count().committed_peak > peak) fail_msg("more than planned");
        print_message("seed %u: planned %zu, committed %zu\n", seed, peak, gpu_emulated_count().committed_peak);
        end_life(&metered);
        end_life(&real);
        assert_int_equal(ace_device_get_stats(real.dev).weight_bytes, 0);
        assert_true(ace_scratch_reserve(real.dev, 0, 0, &error));
        assert_true(gpu_emulated_count().committed == 4 << 20); /* the transit */
        ace_device_close(metered.dev);
        close_device(real.dev);
    }
}

static void test_out_of_memory(void **unused)
{
    (void)unused;
    gpu_emulated_settings s = gpu_emulated_defaults();
    s.total_bytes = s.context_bytes + (16 << 20);
    s.page_bytes = PAGE;
    gpu_emulated_set(&s);
    ace_error error = {0};
    ace_device *dev = try_open(ACE_F32, NULL, &error);
    assert_non_null(dev);
    ace_weight_desc d = product_desc(2048, 1024), vector = {ACE_WEIGHT_VECTOR, "small", 100, 1, .taps = 1};
    ace_weight *w = new_weight(dev, &d, 1); /* 8 MiB of the 12 that are left */
    assert_non_null(w);
    assert_null(new_weight(dev, &d, 2));
    assert_false(ace_device_ok(dev, &error));
    assert_int_equal(error.status, ACE_ERROR_MEMORY);
    if (!strstr(error.message, "4.0 of 316.0 MiB are free")) fail_msg("%s", error.message);
    ace_device_clear(dev);
    assert_true(ace_scratch_reserve(dev, 64 << 20, 0, &error));
    ace_scratch(dev, ACE_F32, 1, 1 << 20);
    check_ok(dev);
    ace_scratch(dev, ACE_F32, 1, 1 << 20);
    error = (ace_error){0};
    assert_false(ace_device_ok(dev, &error));
    assert_int_equal(error.status, ACE_ERROR_MEMORY);
    ace_device_clear(dev);
    ace_scratch_release(dev, (ace_mark){0});
    ace_scratch_trim(dev);
    ace_weight *small = new_weight(dev, &vector, 3); /* serves again */
    check_ok(dev);
    ace_weight_free(dev, small);
    ace_weight_free(dev, w);
    close_device(dev);
}

/* ---- weights that come and go ------------------------------------------------------------------------------------ */

/* Layers streamed into the memory of the one before: every product sees its own values, though nothing runs before it
 * must, and loading goes on while products wait. */
static void test_refill(void **unused)
{
    (void)unused;
    enum { LAYERS = 6, N = 40, K = 96, ROWS = 3 };
    for (int precision = 0; precision < 2; precision++) {
        set_delayed(true);
        ace_device *dev = open_device(precision ? ACE_BF16 : ACE_F32, NULL);
        ace_weight_desc d = product_desc(N, K), vector = {ACE_WEIGHT_VECTOR, "a bias", N, 1, .taps = 1};
        ace_weight_desc table = {ACE_WEIGHT_TABLE, "a table", 6000, 1024, .taps = 1}; /* longer than all slots */
        ace_weight *w = NULL, *bias = NULL, *t = NULL;
        ace_mat y[LAYERS], x = unit_rows(dev, ROWS, K, 5);
        for (int i = 0; i < LAYERS; i++) {
            numbers n = {K, i}, ones = {1, 100 + i}, tables = {1024, 300 + i};
            if (i == 0) {
                w = new_weight(dev, &d, n.seed);
                bias = new_weight(dev, &vector, ones.seed);
                t = new_weight(dev, &table, tables.seed);
            } else {
                assert_true(ace_weight_refill(dev, w, &d, read_numbers, &n));
                assert_true(ace_weight_refill(dev, bias, &vector, read_numbers, &ones));
                assert_true(ace_weight_refill(dev, t, &table, read_numbers, &tables));
            }
            y[i] = ace_scratch(dev, ACE_F32, ROWS, N);
            ace_linear(dev, y[i], x, w, &(ace_epilogue){.bias = bias});
        }
        float host[ROWS * N];
        for (int i = 0; i < LAYERS; i++) {
            numbers n = {K, i}, ones = {1, 100 + i};
            ace_download(dev, host, y[i]);
            check_ok(dev);
            for (int64_t j = 0; j < ROWS * N; j++)
                if (host[j] != number(&n, j % N, j / N + 5) + number(&ones, j % N, 0))
                    fail_msg("layer %d, value %lld: %g", i, (long long)j, (double)host[j]);
        }
        ace_weight_free(dev, w);
        ace_weight_free(dev, bias);
        ace_weight_free(dev, t);
        close_device(dev);
    }
}

/* A vector that was only added, which no operation names as a weight. */
static void test_refill_of_added(void **unused)
{
    (void)unused;
    enum { N = 30 };
    set_delayed(true);
    ace_device *dev = open_device(ACE_F32, NULL);
    ace_weight_desc vector = {ACE_WEIGHT_VECTOR, "a vector", N, 1, .taps = 1};
    ace_weight_desc table = {ACE_WEIGHT_TABLE, "a table", 6000, 1024, .taps = 1};
    ace_mat x = ace_scratch(dev, ACE_F32, 1, N), y = ace_scratch(dev, ACE_F32, 1, N);
    const float zeros[N] = {0};
    float host[N];
    ace_upload(dev, x, zeros);
    ace_weight *w = new_weight(dev, &vector, 1);
    ace_add_vector(dev, y, x, w);
    assert_true(ace_weight_refill(dev, w, &vector, read_numbers, &(numbers){1, 2}));
    ace_weight *t = new_weight(dev, &table, 3); /* has the slots, and with them w, copied */
    ace_download(dev, host, y);
    check_ok(dev);
    for (int i = 0; i < N; i++) assert_true(host[i] == number(&(numbers){1, 1}, i, 0));
    ace_add_vector(dev, y, x, w);
    ace_download(dev, host, y);
    for (int i = 0; i < N; i++) assert_true(host[i] == number(&(numbers){1, 2}, i, 0));
    ace_weight_free(dev, w);
    ace_weight_free(dev, t);
    close_device(dev);
}

/* A weight in the memory of one that was freed, while a product that used that has not run. The page stays, because of
 * a neighbour: giving it back would have waited. */
static void test_reuse(void **unused)
{
    (void)unused;
    set_delayed(true);
    ace_device *dev = open_device(ACE_F32, NULL);
    ace_weight_desc d = product_desc(8, 64), table = {ACE_WEIGHT_TABLE, "a table", 6000, 1024, .taps = 1};
    ace_weight *a = new_weight(dev, &d, 1), *neighbour = new_weight(dev, &d, 2);
    ace_mat x = unit_rows(dev, 2, 64, 0), y = ace_scratch(dev, ACE_F32, 2, 8), z = ace_scratch(dev, ACE_F32, 2, 8);
    ace_linear(dev, y, x, a, NULL);
    const void *place = a->data;
    long launches = gpu_emulated_count().launches;
    ace_weight_free(dev, a);
    assert_int_equal(gpu_emulated_count().launches, launches);
    ace_weight *b = new_weight(dev, &d, 3);
    assert_ptr_equal(b->data, place);
    ace_weight *t = new_weight(dev, &table, 4); /* has the slots, and with them b, copied */
    ace_linear(dev, z, x, b, NULL);
    assert_columns(dev, y, 0, &(numbers){64, 1});
    assert_columns(dev, z, 0, &(numbers){64, 3});
    ace_weight_free(dev, b);
    ace_weight_free(dev, t);
    ace_weight_free(dev, neighbour);
    close_device(dev);
}

/* Weights are moved while products of before have not run and their values are still on the way. */
static void test_moved(void **unused)
{
    (void)unused;
    enum { MANY = 160, N = 60, K = 64 };
    for (int delayed = 0; delayed < 2; delayed++) {
        set_delayed(delayed);
        ace_device *dev = open_device(ACE_F32, NULL);
        ace_weight_desc d = product_desc(N, K);
        ace_weight *w[MANY];
        ace_mat x = unit_rows(dev, 2, K, 9), y[MANY], z[MANY];
        for (int i = 0; i < MANY; i++) w[i] = new_weight(dev, &d, i);
        for (int i = 0; i < MANY; i += 6) ace_linear(dev, y[i] = ace_scratch(dev, ACE_F32, 2, N), x, w[i], NULL);
        const void *last = w[MANY - 4]->data;
        for (int i = 0; i < MANY; i++)
            if (i % 6 != 0) ace_weight_free(dev, w[i]);
        assert_true(w[MANY - 4]->data < last);
        for (int i = 0; i < MANY; i += 6) ace_linear(dev, z[i] = ace_scratch(dev, ACE_F32, 2, N), x, w[i], NULL);
        for (int i = 0; i < MANY; i += 6) {
            assert_columns(dev, y[i], 9, &(numbers){K, i});
            assert_columns(dev, z[i], 9, &(numbers){K, i});
            ace_weight_free(dev, w[i]);
        }
        close_device(dev);
    }
}

/* ---- the same numbers as on the CPU -------------------------------------------------------------------------------
 */

/* Values of many sizes; blocks of bytes with scales of any sign. */
static bool read_any(void *context, int64_t first, int64_t count, ace_dtype dtype, void *rows, ace_error *error)
{
    int64_t k = *(int64_t *)context;
    (void)error;
    if (ace_dtype_block(dtype) > 1) {
        int64_t bytes = k / ace_dtype_block(dtype) * (int64_t)ace_dtype_block_bytes(dtype);
        for (int64_t i = 0; i < count * bytes; i++) {
            uint32_t h = (uint32_t)(first * bytes + i + 1) * 2654435761u;
            ((uint8_t *)rows)[i] = (uint8_t)((h >> 20) & 0xbb); /* no half has an exponent of ones */
        }
        return true;
    }
    for (int64_t i = 0; i < count * k; i++) {
        uint32_t h = (uint32_t)(first * k + i + 1) * 2654435761u;
        float v = ((float)(h >> 8) / (1 << 23) - 1) * (h % 7 == 0 ? 3.0f : 0.3f);
        if (dtype == ACE_BF16)
            ((uint16_t *)rows)[i] = ace_f32_to_bf16(v);
        else
            ((float *)rows)[i] = v;
    }
    return true;
}

/* The values of a weight: its product with unit vectors. */
static void values_of(ace_device *dev, const ace_weight_desc *d, float *values)
{
    int64_t k = d->k;
    ace_weight *w = ace_weight_new(dev, d, read_any, &k);
    ace_mark mark = ace_scratch_mark(dev);
    ace_mat x = unit_rows(dev, k, k, 0);
    if (d->kind == ACE_WEIGHT_GATED) {
        ace_mat y = ace_scratch(dev, ace_device_act(dev), k, d->n / 2);
        ace_linear_silu_mul(dev, y, x, w);
        ace_download(dev, values, y);
    } else {
        ace_mat y = ace_scratch(dev, ACE_F32, k, d->n);
        ace_linear(dev, y, x, w, NULL);
        ace_download(dev, values, y);
    }
    check_ok(dev);
    ace_scratch_release(dev, mark);
    ace_weight_free(dev, w);
}

/* Quantised alike: one step of a weight would be thousands of times what is allowed here. */
static void test_forms(void **unused)
{
    (void)unused;
    const struct {
        ace_weight_form form;
        ace_dtype blocks;
        int64_t k;
    } kinds[] = {{ACE_FORM_PLAIN, 0, 70},         {ACE_FORM_INT8, 0, 70},           {ACE_FORM_INT4, 0, 96},
                 {ACE_FORM_BLOCKS, ACE_Q8_0, 96}, {ACE_FORM_BLOCKS, ACE_Q4_K, 256}, {ACE_FORM_BLOCKS, ACE_Q5_K, 256},
                 {ACE_FORM_BLOCKS, ACE_Q6_K, 256}};
    ace_error error = {0};
    ace_device *cpu = ace_cpu_open(&(ace_cpu_options){.precision = ACE_F32, .threads = 2}, &error);
    ace_device *dev = open_device(ACE_F32, NULL);
    assert_true(cpu && ace_scratch_reserve(cpu, SCRATCH, 0, &error));
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        for (int gated = 0; gated < 2; gated++) {
            ace_weight_desc d = product_desc(2 * 21, kinds[i].k);
            d.kind = gated ? ACE_WEIGHT_GATED : ACE_WEIGHT_PRODUCT;
            d.form = kinds[i].form;
            d.blocks = kinds[i].blocks;
            int64_t count = d.k * (gated ? d.n / 2 : d.n);
            float *ours = malloc((size_t)count * sizeof *ours), *theirs = malloc((size_t)count * sizeof *theirs);
            assert_true(ours && theirs);
            values_of(dev, &d, ours);
            values_of(cpu, &d, theirs);
            for (int64_t j = 0; j < count; j++) {
                double difference = (double)ours[j] - theirs[j], size = theirs[j] < 0 ? -theirs[j] : theirs[j];
                if (!(difference <= 1e-6 * size + 1e-9 && -difference <= 1e-6 * size + 1e-9))
                    fail_msg("kind %zu, gated %d, value %lld: %.9g, on the CPU %.9g", i, gated, (long long)j,
                             (double)ours[j], (double)theirs[j]);
            }
            free(ours);
            free(theirs);
        }
    ace_device_close(cpu);
    close_device(dev);
}

static bool read_infinity(void *context, int64_t first, int64_t count, ace_dtype dtype, void *rows, ace_error *error)
{
    read_any(context, first, count, dtype, rows, error);
    if (ace_dtype_block(dtype) > 1)
        ((uint8_t *)rows)[dtype == ACE_Q6_K ? 209 : 1] = 0x7c;
    else
        ((uint32_t *)rows)[0] = 0x7f800000;
    return true;
}

static bool read_error(void *context, int64_t first, int64_t count, ace_dtype dtype, void *rows, ace_error *error)
{
    (void)dtype;
    (void)rows;
    (void)count;
    return first != *(int64_t *)context && ace_fail(error, ACE_ERROR_FORMAT, "row %lld is damaged", (long long)first);
}

static void refuses_weight(ace_device *dev, const ace_weight_desc *d, ace_row_reader reader, int64_t *context,
                           ace_status status, const char *part)
{
    ace_error error = {0};
    assert_null(ace_weight_new(dev, d, reader, context));
    assert_false(ace_device_ok(dev, &error));
    if (error.status != status || !strstr(error.message, part)) fail_msg("%d: %s", error.status, error.message);
    ace_device_clear(dev);
    assert_int_equal(ace_device_get_stats(dev).weight_bytes, 0);
    assert_int_equal(gpu_emulated_count().committed, 4 << 20);
}

static void test_bad_weights(void **unused)
{
    (void)unused;
    ace_device *dev = open_device(ACE_F32, NULL);
    ace_weight_desc d = product_desc(20, 256);
    for (int form = ACE_FORM_INT8; form <= ACE_FORM_BLOCKS; form++)
        for (int blocks = 0; blocks < (form == ACE_FORM_BLOCKS ? 4 : 1); blocks++) {
            d.form = (ace_weight_form)form;
            d.blocks = (const ace_dtype[]){ACE_Q8_0, ACE_Q4_K, ACE_Q5_K, ACE_Q6_K}[blocks];
            refuses_weight(dev, &d, read_infinity, &d.k, ACE_ERROR_MODEL, "cannot be quantised");
        }
    d = product_desc(20, 256);
    int64_t none = -1;
    refuses_weight(dev, &d, read_error, &none, ACE_ERROR_FORMAT, "is damaged");
    d = product_desc(1, 300000);
    refuses_weight(dev, &d, read_any, &d.k, ACE_ERROR_MODEL, "too wide");
    close_device(dev);
}

/* ---- being ahead, and stopping ----------------------------------------------------------------------------------- */

/* Operations that are queued but not done are few, and a stop ends the waiting. */
static void test_ahead_and_stop(void **unused)
{
    (void)unused;
    atomic_bool stop = false;
    set_delayed(true);
    ace_device *dev = open_device(ACE_F32, &stop);
    ace_mat x = ace_scratch(dev, ACE_F32, 1, 8), y = ace_scratch(dev, ACE_F32, 1, 8);
    const float host[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    float back[8] = {0};
    ace_upload(dev, x, host);
    long before = gpu_emulated_count().launches;
    for (int i = 0; i < 2000; i++) ace_copy(dev, y, x);
    check_ok(dev);
    long done = gpu_emulated_count().launches - before;
    print_message("of 2000 operations %ld were done\n", done);
    assert_true(done < 2000 && 2000 - done <= 17 * 32);

    atomic_store(&stop, true);
    ace_copy(dev, y, x);
    ace_error error = {0};
    assert_false(ace_device_ok(dev, &error));
    assert_int_equal(error.status, ACE_CANCELLED);
    ace_device_clear(dev);
    atomic_store(&stop, false);
    ace_download(dev, back, y);
    check_ok(dev);
    assert_memory_equal(back, host, sizeof host);
    close_device(dev);
}

/* The flag is raised while the host waits for the GPU, and while it reads weights. */
static atomic_bool *raised;
static int raise_at;

static int passed_never(gpu_event *event)
{
    (void)event;
    if (--raise_at == 0) atomic_store(raised, true);
    return 0;
}

static bool read_and_stop(void *context, int64_t first, int64_t count, ace_dtype dtype, void *rows, ace_error *error)
{
    if (first > 1000) atomic_store(raised, true);
    return read_numbers(context, first, count, dtype, rows, error);
}

static void test_stop_while_waiting(void **unused)
{
    (void)unused;
    atomic_bool stop = false;
    raised = &stop;
    raise_at = 5;
    gpu stuck = *gpu_emulated();
    stuck.event_passed = passed_never;
    ace_error error = {0};
    ace_device *dev = ace_cuda_open(&(ace_cuda_options){.precision = ACE_F32, .stop = &stop, .gpu = &stuck}, &error);
    assert_non_null(dev);
    assert_true(ace_scratch_reserve(dev, SCRATCH, 0, &error));
    ace_mat x = ace_scratch(dev, ACE_F32, 1, 8);
    float host[8] = {0};
    ace_download(dev, host, x);
    assert_false(ace_device_ok(dev, &error));
    assert_int_equal(error.status, ACE_CANCELLED);
    ace_device_clear(dev);
    atomic_store(&stop, false);
    ace_scratch_release(dev, (ace_mark){0});
    close_device(dev);

    dev = open_device(ACE_F32, &stop);
    ace_weight_desc d = {ACE_WEIGHT_TABLE, "a table", 6000, 1024, .taps = 1};
    assert_null(ace_weight_new(dev, &d, read_and_stop, &(numbers){1024, 1}));
    error = (ace_error){0};
    assert_false(ace_device_ok(dev, &error));
    assert_int_equal(error.status, ACE_CANCELLED);
    assert_int_equal(ace_device_get_stats(dev).weight_bytes, 0);
    close_device(dev);
}

/* ---- faults ------------------------------------------------------------------------------------------------------ */

/* A short life with everything in it. False with the error of what failed. */
static bool live(ace_error *error)
{
    enum { N = 48, K = 64, ROWS = 3 };
    ace_device *dev = try_open(ACE_BF16, NULL, error);
    if (!dev) return false;
    ace_weight *w[40] = {0};
    float host[ROWS * K] = {1}, back[ROWS * N];
    bool ok = ace_scratch_reserve(dev, 1 << 20, 4096, error);
    ace_mat x = {0}, y = {0};
    if (ok) {
        ace_scratch_host(dev, 10);
        x = ace_scratch(dev, ACE_BF16, ROWS, K);
        y = ace_scratch(dev, ACE_F32, ROWS, N);
        ace_upload(dev, x, host);
        for (int i = 0; i < 40; i++) {
            ace_weight_desc d = product_desc(i % 5 ? 400 : N, K);
            d.form = forms[i % 3];
            w[i] = new_weight(dev, &d, i);
        }
        for (int i = 0; i < 40; i++)
            if (i % 5 != 0) {
                ace_weight_free(dev, w[i]);
                w[i] = NULL;
            }
        ace_linear(dev, y, x, w[0], NULL);
        if (w[15])
            ace_weight_refill(dev, w[15], &(ace_weight_desc){ACE_WEIGHT_PRODUCT, "again", N, K, .taps = 1},
                              read_numbers, &(numbers){K, 7});
        if (w[15]) ace_linear(dev, y, x, w[15], NULL);
        ace_download(dev, back, y);
        ok = ace_device_ok(dev, error);
        if (ok && back[0] != number(&(numbers){K, 7}, 0, 0)) fail_msg("a wrong result");
        ace_scratch_release(dev, (ace_mark){0});
        ace_scratch_trim(dev);
    }
    ace_device_clear(dev);
    for (int i = 0; i < 40; i++) ace_weight_free(dev, w[i]);
    assert_int_equal(ace_device_get_stats(dev).weight_bytes, 0);
    ace_device_close(dev);
    return ok;
}

/* Whatever call fails: an error that says so, or none where it does not matter, and nothing is left. */
static void test_gpu_faults(void **unused)
{
    (void)unused;
    ace_error error = {0};
    gpu_emulated_fail_at(0, 0);
    assert_true(live(&error));
    assert_nothing_left();
    long calls = gpu_emulated_fail_at(0, 0), failures = 0;
    for (long n = 1; n <= calls; n++) {
        error = (ace_error){0};
        gpu_emulated_fail_at(n, GPU_EMULATED_INJECTED);
        if (!live(&error)) {
            failures++;
            if (!strstr(error.message, "a failure that a test asked for")) fail_msg("call %ld: %s", n, error.message);
        }
        gpu_emulated_fail_at(0, 0);
        assert_nothing_left();
    }
    print_message("of %ld calls %ld were felt\n", calls, failures);
    assert_true(failures > calls / 2);
}

static void test_host_faults(void **unused)
{
    (void)unused;
    bool ok = false;
    long n = 1;
    for (; !ok; n++) {
        ace_error error = {0};
        ace_fault_arm(n);
        ok = live(&error);
        ace_fault_arm(0);
        if (!ok) assert_int_equal(error.status, ACE_ERROR_MEMORY);
        assert_nothing_left();
    }
    assert_true(n > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_opening, set_up),
        cmocka_unit_test_setup(test_transfers, set_up),
        cmocka_unit_test_setup(test_host_scratch, set_up),
        cmocka_unit_test_setup(test_memory_follows_the_plan, set_up),
        cmocka_unit_test_setup(test_out_of_memory, set_up),
        cmocka_unit_test_setup(test_refill, set_up),
        cmocka_unit_test_setup(test_refill_of_added, set_up),
        cmocka_unit_test_setup(test_reuse, set_up),
        cmocka_unit_test_setup(test_moved, set_up),
        cmocka_unit_test_setup(test_forms, set_up),
        cmocka_unit_test_setup(test_bad_weights, set_up),
        cmocka_unit_test_setup(test_ahead_and_stop, set_up),
        cmocka_unit_test_setup(test_stop_while_waiting, set_up),
        cmocka_unit_test_setup(test_gpu_faults, set_up),
        cmocka_unit_test_setup(test_host_faults, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
