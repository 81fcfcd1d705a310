/* device_test.h - what the tests of the devices share: every test runs for every instruction set and precision, on
 * matrices that lie inside larger ones filled with a canary, against references computed here in double precision. */
#ifndef DEVICE_TEST_H
#define DEVICE_TEST_H

#include "device/cuda/cuda.h"
#include "device/cuda/emulation/emulated_gpu.h"
#include "device/device.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- one test per instruction set and precision -------------------------------------------------------------- */

typedef struct config {
    ace_isa isa;
    ace_dtype precision;
    const char *label;
    int capability; /* of the emulated GPU, 90 for 9.0; 0: the CPU device */
    gpu_emulated_order order;
} config;

#define CPU(isa, precision, label)                     \
    {                                                  \
        isa, precision, label, 0, GPU_EMULATED_FORWARD \
    }

static const config configs[] = {
    CPU(ACE_ISA_GENERIC, ACE_F32, "generic f32"),
    CPU(ACE_ISA_GENERIC, ACE_BF16, "generic bf16"),
    CPU(ACE_ISA_AVX2, ACE_F32, "avx2 f32"),
    CPU(ACE_ISA_AVX2, ACE_BF16, "avx2 bf16"),
    CPU(ACE_ISA_AVX512, ACE_F32, "avx512 f32"),
    CPU(ACE_ISA_AVX512, ACE_BF16, "avx512 bf16"),
    CPU(ACE_ISA_AVX512_BF16, ACE_F32, "avx512bf16 f32"),
    CPU(ACE_ISA_AVX512_BF16, ACE_BF16, "avx512bf16 bf16"),
    CPU(ACE_ISA_AMX, ACE_F32, "amx f32"),
    CPU(ACE_ISA_AMX, ACE_BF16, "amx bf16"),
    /* kernels of a GPU, run by the emulator; nothing happens before it is waited for, and threads take turns in orders
     * that no GPU promises to avoid */
    {ACE_ISA_GENERIC, ACE_F32, "cuda f32 (emulated 9.0)", 90, GPU_EMULATED_SHUFFLED},
    {ACE_ISA_GENERIC, ACE_BF16, "cuda bf16 (emulated 9.0)", 90, GPU_EMULATED_FORWARD},
    {ACE_ISA_GENERIC, ACE_BF16, "cuda bf16 (emulated 7.5)", 75, GPU_EMULATED_REVERSE},
    /* products of bytes are all that these add to the others */
    CPU(ACE_ISA_AVX2_VNNI, ACE_F32, "avx2vnni f32"),
    CPU(ACE_ISA_AVX2_VNNI, ACE_BF16, "avx2vnni bf16"),
    CPU(ACE_ISA_AVX512_VNNI, ACE_F32, "avx512vnni f32"),
    CPU(ACE_ISA_AVX512_VNNI, ACE_BF16, "avx512vnni bf16"),
};
enum {
    ALL_CONFIGS = sizeof configs / sizeof *configs,
    CONFIGS = ALL_CONFIGS - 4,
    CPU_CONFIGS = CONFIGS - 3, /* the first ones */
    MAX_TESTS = 16
};

typedef struct device_test {
    const char *name;
    void (*run)(void **state);
} device_test;

/* Opens the device of a config with `threads` threads and room for `scratch` bytes; skips the test where the CPU
 * cannot run it. */
static inline ace_device *open_device(const config *c, int threads, size_t scratch, const atomic_bool *stop)
{
    ace_error error = {0};
    ace_device *dev;
    if (c->capability) {
        gpu_emulated_settings settings = gpu_emulated_defaults();
        settings.capability[0] = c->capability / 10;
        settings.capability[1] = c->capability % 10;
        settings.delayed = 1;
        settings.order = c->order;
        gpu_emulated_set(&settings);
        dev =
            ace_cuda_open(&(ace_cuda_options){.precision = c->precision, .gpu = gpu_emulated(), .stop = stop}, &error);
    } else {
        dev = ace_cpu_open(
            &(ace_cpu_options){.precision = c->precision, .threads = threads, .isa = c->isa, .stop = stop}, &error);
    }
    if (!dev && error.status == ACE_ERROR_DEVICE) {
        print_message("%s: skipped: %s\n", c->label, error.message);
        skip();
    }
    if (!dev) fail_msg("%s", error.message);
    assert_true(ace_scratch_reserve(dev, scratch, 0, &error));
    return dev;
}

static inline void check_ok(const ace_device *dev)
{
    ace_error error = {0};
    if (!ace_device_ok(dev, &error)) fail_msg("%s", error.message);
}

/* With sanitizers the emulator takes many minutes for suites of large matrices, which say so with SLOW_WHEN_EMULATED:
 * there device/cuda_* look after what its kernels read and write. */
static inline bool is_left_out(const config *c)
{
#if defined(SLOW_WHEN_EMULATED) && defined(__SANITIZE_ADDRESS__)
    return c->capability != 0;
#else
    (void)c;
    return false;
#endif
}

/* How often to try what is random: seldom where it takes long, and where sanitizers look after memory. */
static inline int tries(const config *c, int often, int seldom)
{
#if defined(__SANITIZE_ADDRESS__)
    (void)c, (void)often;
    return seldom;
#else
    return c->capability ? seldom : often;
#endif
}

/* `first` .. `end`: of the configs. */
static inline int run_configs(const char *room, const device_test *tests, int count, int first, int end)
{
    static char names[MAX_TESTS * ALL_CONFIGS][96];
    static struct CMUnitTest all[MAX_TESTS * ALL_CONFIGS];
    int total = 0;
    for (int t = 0; t < count; t++)
        for (int c = first; c < end; c++) {
            if (is_left_out(&configs[c])) {
                if (t == 0) print_message("%s: skipped: too slow with sanitizers\n", configs[c].label);
                continue;
            }
            snprintf(names[total], sizeof names[total], "%s [%s]", tests[t].name, configs[c].label);
            all[total] = (struct CMUnitTest){names[total], tests[t].run, NULL, NULL, (void *)(uintptr_t)&configs[c]};
            total++;
        }
    return _cmocka_run_group_tests(room, all, (size_t)total, NULL, NULL);
}

static inline int run_device_tests(const char *room, const device_test *tests, int count)
{
#ifdef TEST_RACES
    return run_configs(room, tests, count, CPU_CONFIGS, CONFIGS);
#else
    return run_configs(room, tests, count, 0, CONFIGS);
#endif
}

static inline int run_cpu_tests(const char *room, const device_test *tests, int count)
{
    return run_configs(room, tests, count, 0, CPU_CONFIGS);
}

static inline int run_quantised_tests(const char *room, const device_test *tests, int count)
{
    return run_configs(room, tests, count, 0, ALL_CONFIGS);
}

/* ---- random numbers ------------------------------------------------------------------------------------------ */

typedef struct random_state {
    uint64_t state;
} random_state;

static inline uint64_t random_bits(random_state *r)
{
    uint64_t z = r->state += 0x9e3779b97f4a7c15u; /* SplitMix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static inline int64_t random_int(random_state *r, int64_t low, int64_t high)
{
    return low + (int64_t)(random_bits(r) % (uint64_t)(high - low + 1));
}

static inline float random_float(random_state *r, float low, float high)
{
    return low + (high - low) * ((float)(random_bits(r) >> 40) * 0x1p-24f);
}

static inline float as_stored(float v, ace_dtype dtype)
{
    return dtype == ACE_BF16 ? ace_bf16_to_f32(ace_f32_to_bf16(v)) : v;
}

/* ---- matrices with a fence ----------------------------------------------------------------------------------- */

static const float CANARY = -12345.0f; /* not exact in bf16: compared after the same rounding */

/* `mat` is a view of some rows and columns of `whole`, which is canary all around. `host` holds its values, rounded to
 * its type, packed. */
typedef struct fenced {
    ace_mat whole, mat;
    int64_t top, left;
    float *host;
} fenced;

static inline void *must(void *p)
{
    if (!p) fail_msg("no memory for the test");
    return p;
}

static inline fenced fence(ace_device *dev, random_state *r, ace_dtype dtype, int64_t rows, int64_t cols, float low,
                           float high)
{
    fenced f = {.top = random_int(r, 0, 2), .left = random_int(r, 0, 9)};
    int64_t height = rows + f.top + random_int(r, 1, 3), width = cols + f.left + random_int(r, 0, 9);
    f.whole = ace_scratch(dev, dtype, height, width);
    f.mat = ace_cols(ace_rows(f.whole, f.top, rows), f.left, cols);
    float *all = must(malloc((size_t)(height * width) * sizeof *all));
    f.host = must(malloc((size_t)(rows * cols + 1) * sizeof *f.host));
    for (int64_t i = 0; i < height * width; i++) all[i] = CANARY;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            float v = as_stored(random_float(r, low, high), dtype);
            f.host[i * cols + j] = all[(i + f.top) * width + j + f.left] = v;
        }
    ace_upload(dev, f.whole, all);
    free(all);
    return f;
}

/* Brings the values back to `host`, and checks that the fence stands. */
static inline void fetch(ace_device *dev, fenced *f)
{
    int64_t height = f->whole.rows, width = f->whole.cols;
    float *all = must(malloc((size_t)(height * width) * sizeof *all));
    ace_download(dev, all, f->whole);
    check_ok(dev);
    for (int64_t i = 0; i < height; i++)
        for (int64_t j = 0; j < width; j++) {
            int64_t row = i - f->top, col = j - f->left;
            float v = all[i * width + j];
            if (row >= 0 && row < f->mat.rows && col >= 0 && col < f->mat.cols)
                f->host[row * f->mat.cols + col] = v;
            else if (v != as_stored(CANARY, f->whole.dtype))
                fail_msg("written outside the matrix: row %lld of %lld, column %lld of %lld", (long long)row,
                         (long long)f->mat.rows, (long long)col, (long long)f->mat.cols);
        }
    free(all);
}

/* ---- weights ------------------------------------------------------------------------------------------------- */

typedef struct host_weight {
    ace_weight *w;
    float *values; /* [n][k], rounded as stored */
    int64_t n, k;
} host_weight;

static inline bool read_host(void *context, int64_t first, int64_t count, ace_dtype dtype, void *rows, ace_error *error)
{
    const host_weight *h = context;
    (void)error;
    for (int64_t i = 0; i < count * h->k; i++) {
        float v = h->values[first * h->k + i];
        if (dtype == ACE_BF16)
            ((uint16_t *)rows)[i] = ace_f32_to_bf16(v);
        else
            ((float *)rows)[i] = v;
    }
    return true;
}

static inline host_weight make_weight(ace_device *dev, random_state *r, ace_weight_kind kind, int64_t n, int64_t k,
                                      int taps, float low, float high)
{
    host_weight h = {.n = n, .k = k};
    bool rounded = kind != ACE_WEIGHT_VECTOR && ace_device_act(dev) == ACE_BF16;
    h.values = must(malloc((size_t)(n * k) * sizeof *h.values));
    for (int64_t i = 0; i < n * k; i++)
        h.values[i] = as_stored(random_float(r, low, high), rounded ? ACE_BF16 : ACE_F32);
    h.w = ace_weight_new(dev, &(ace_weight_desc){.kind = kind, .name = "test", .n = n, .k = k, .taps = taps}, read_host,
                         &h);
    check_ok(dev);
    return h;
}

static inline void drop_weight(ace_device *dev, host_weight *h)
{
    ace_weight_free(dev, h->w);
    free(h->values);
}

/* ---- comparison ---------------------------------------------------------------------------------------------- */

/* Half a unit in the last place of v as `dtype`: what rounding it may add. bf16 has 8 significant bits, float32 has 24.
 */
static inline double storing(double v, ace_dtype dtype)
{
    return v == 0 ? 0 : 1.01 * ldexp(1, ilogb(v) - (dtype == ACE_BF16 ? 8 : 24));
}

static inline void check_close(const char *what, int64_t row, int64_t col, float got, double expected, double tolerance)
{
    if (!(fabs((double)got - expected) <= tolerance))
        fail_msg("%s at row %lld, column %lld: %.9g, expected %.9g, off by %.3g of %.3g", what, (long long)row,
                 (long long)col, (double)got, expected, fabs((double)got - expected), tolerance);
}

static inline void check_same(const char *what, const float *a, const float *b, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0)
            fail_msg("%s: value %lld is %.9g in one and %.9g in the other", what, (long long)i, (double)a[i],
                     (double)b[i]);
}

#endif
