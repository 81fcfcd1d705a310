/* model_fixture.h - what the tests of the models share: tiny checkpoints, the goldens that the official modules made
 * from them (tools/reference/make_model_goldens.py), and runs within exactly the scratch that the meter planned. */
#ifndef TESTS_MODEL_MODEL_FIXTURE_H
#define TESTS_MODEL_MODEL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "device/device.h"
#include "model/checkpoint.h"
#include "support/compute.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* As in the script. */
enum {
    TEXT_SEED = 1,
    LYRIC_SEED,
    TIMBRE_SEED_A,
    TIMBRE_SEED_B,
    ENC_SEED,
    CONTEXT_SEED,
    X_SEED,
    TOKENIZER_SEED,
    FSQ_SEED
};

/* The inputs that the goldens were made from: `count` values in [-1, 1), caller frees. */
static inline float *noise(uint32_t seed, int64_t count)
{
    float *values = malloc((size_t)count * sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < count; i++) {
        uint32_t h = (uint32_t)i + seed * 0x9E3779B9u;
        h = (h ^ (h >> 16)) * 0x85EBCA6Bu;
        h = (h ^ (h >> 16)) * 0xC2B2AE35u;
        h ^= h >> 16;
        values[i] = (float)((double)(h >> 8) / (1 << 23) - 1);
    }
    return values;
}

static inline float *new_floats(int64_t count)
{
    float *values = calloc((size_t)count, sizeof *values);
    assert_non_null(values);
    return values;
}

/* ---- a checkpoint with its goldens, a device and the meter that plans for it ------------------------------------- */

static const char *const variants[] = {"turbo", "xl-turbo"};
enum { VARIANTS = 2 };

typedef struct bench {
    const char *variant;
    ace_checkpoint *checkpoint;
    ace_tensors *goldens;
    ace_device *dev, *meter;
} bench;

static inline bench open_bench(const char *variant, ace_dtype precision, int threads)
{
    char path[1024];
    ace_error error = {0};
    bench b = {.variant = variant};
    snprintf(path, sizeof path, "%s/%s", TINY_CHECKPOINTS, variant);
    b.checkpoint = checkpoint_open(&(ace_checkpoint_paths){.model = path}, &error);
    if (!b.checkpoint) fail_msg("%s", error.message);
    snprintf(path, sizeof path, "%s/model/%s.safetensors", TEST_DATA, variant);
    b.goldens = tensors_open(path, &error);
    if (!b.goldens) fail_msg("%s", error.message);
    b.dev = open_compute(&(ace_cpu_options){.precision = precision, .threads = threads}, &error);
    if (!b.dev) fail_msg("%s", error.message);
    b.meter = ace_meter_open(b.dev, &error);
    if (!b.meter) fail_msg("%s", error.message);
    return b;
}

/* All weights must have been freed. */
static inline void close_bench(bench *b)
{
    assert_int_equal(ace_device_get_stats(b->dev).weight_bytes, 0);
    assert_int_equal(ace_device_get_stats(b->meter).weight_bytes, 0);
    ace_device_close(b->meter);
    ace_device_close(b->dev);
    tensors_close(b->goldens);
    checkpoint_close(b->checkpoint);
}

static inline void assert_device_ok(const ace_device *dev)
{
    ace_error error = {0};
    if (!ace_device_ok(dev, &error)) fail_msg("%s", error.message);
}

/* The device has failed with `status` and a sentence that holds `part`; it works again afterwards. */
static inline void assert_device_failed(ace_device *dev, ace_status status, const char *part)
{
    ace_error error = {0};
    assert_false(ace_device_ok(dev, &error));
    if (error.status != status || !strstr(error.message, part))
        fail_msg("wanted status %d and \"%s\", got %d: %s", status, part, error.status, error.message);
    ace_device_clear(dev);
}

/* A forward of some model: `which` says whether dev is the device (0) or the meter (1). */
typedef void forward_function(void *context, ace_device *dev, int which);

/* Runs the forward on the meter, then on the device within exactly the scratch that the meter saw. */
static inline void run_planned(bench *b, forward_function *forward, void *context)
{
    ace_error error = {0};
    ace_device_reset_peak(b->meter);
    ace_scratch_reserve(b->meter, 0, 0, NULL);
    forward(context, b->meter, 1);
    assert_device_ok(b->meter);
    assert_int_equal(ace_device_get_stats(b->meter).scratch_bytes, 0);
    size_t planned = ace_device_get_stats(b->meter).scratch_peak, host = ace_device_get_stats(b->meter).host_peak;
    assert_true(planned > 0);

    if (!ace_scratch_reserve(b->dev, planned, host, &error)) fail_msg("%s", error.message);
    ace_device_reset_peak(b->dev);
    forward(context, b->dev, 0);
    assert_device_ok(b->dev);
    assert_int_equal(ace_device_get_stats(b->dev).scratch_bytes, 0);
    assert_int_equal(ace_device_get_stats(b->dev).scratch_peak, planned);
    assert_int_equal(ace_device_get_stats(b->dev).host_peak, host);
}

/* ---- comparing --------------------------------------------------------------------------------------------------- */

/* The values of a golden tensor, which must be `count`; caller frees. */
static inline float *golden(const bench *b, const char *name, int64_t count)
{
    ace_error error = {0};
    const ace_tensor *tensor = tensors_find(b->goldens, name);
    if (!tensor) fail_msg("no golden %s for %s", name, b->variant);
    assert_int_equal(tensor->count, count);
    float *values = new_floats(count);
    if (!tensor_read(tensor, 0, count, values, &error)) fail_msg("%s", error.message);
    return values;
}

/* float32: max |a - b| / max |b| <= 1e-5. bfloat16: cosine >= 0.9995. */
static inline void assert_close(const bench *b, const char *what, const float *ours, const float *expected,
                                int64_t count)
{
    double worst = 0, largest = 0, ab = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < count; i++) {
        double x = ours[i], y = expected[i];
        worst = fmax(worst, fabs(x - y));
        largest = fmax(largest, fabs(y));
        ab += x * y;
        aa += x * x;
        bb += y * y;
        if (!isfinite(x)) fail_msg("%s, %s: value %lld is not finite", b->variant, what, (long long)i);
    }
    double error = worst / largest, cosine = ab / sqrt(aa * bb);
    bool f32 = ace_device_act(b->dev) == ACE_F32;
    assert_true(largest > 0.01);
    print_message("%-9s %-5s %-24s relative error %.1e, cosine 1 - %.1e\n", b->variant, f32 ? "f32" : "bf16", what,
                  error, 1 - cosine);
    if (f32 ? !(error <= 1e-5) : !(cosine >= 0.9995)) fail_msg("%s, %s: too far from the reference", b->variant, what);
}

static inline void assert_golden(const bench *b, const char *name, const float *ours, int64_t count)
{
    float *expected = golden(b, name, count);
    assert_close(b, name, ours, expected, count);
    free(expected);
}

static inline void assert_same_bytes(const float *a, const float *b, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0)
            fail_msg("value %lld of %lld is %.9g in one run and %.9g in the other", (long long)i, (long long)count,
                     (double)a[i], (double)b[i]);
}

/* The matrix of rows x cols in act dtype, on top of the stack, with host values in it (ignored on the meter). */
static inline ace_mat uploaded(ace_device *dev, const float *values, int64_t rows, int64_t cols)
{
    ace_mat m = ace_scratch(dev, ace_device_act(dev), rows, cols);
    ace_upload(dev, m, values);
    return m;
}

#endif
