/* engine_fixture.h - the tiny language models of tools/reference/make_lm_engine_goldens.py on a device and its meter.
 */
#ifndef TESTS_LM_ENGINE_FIXTURE_H
#define TESTS_LM_ENGINE_FIXTURE_H

#include "model/model_fixture.h"

#include "base/file.h"
#include "model/checkpoint_names.h"
#include "model/qwen3_lm.h"

typedef struct tiny_lm {
    const char *name;
    ace_tensors *weights, *goldens;
    ace_part *part;
    qwen3_config config;
    ace_device *dev, *meter;
    qwen3_lm model, planned; /* on the device, on the meter */
} tiny_lm;

static inline ace_tensors *open_lm_file(const char *name, const char *suffix)
{
    char path[1024];
    ace_error error = {0};
    snprintf(path, sizeof path, "%s/lm/%s%s.safetensors", TEST_DATA, name, suffix);
    ace_tensors *tensors = tensors_open(path, &error);
    if (!tensors) fail_msg("%s", error.message);
    return tensors;
}

static inline void read_lm_config(tiny_lm *lm)
{
    char path[1024], json[4096];
    ace_error error = {0};
    snprintf(path, sizeof path, "%s/lm/%s.json", TEST_DATA, lm->name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t n = fread(json, 1, sizeof json, file);
    fclose(file);
    if (!qwen3_config_parse(&lm->config, json, n, path, &error)) fail_msg("%s", error.message);
}

static inline tiny_lm open_tiny_lm(const char *name, const ace_cpu_options *options)
{
    ace_error error = {0};
    tiny_lm lm = {.name = name, .weights = open_lm_file(name, ""), .goldens = open_lm_file(name, "-golden")};
    read_lm_config(&lm);
    lm.part = part_new(name, &error);
    assert_true(lm.part && part_add(lm.part, lm.weights, "", &error) && part_finish(lm.part, &error));
    lm.dev = open_compute(options, &error);
    if (!lm.dev) fail_msg("%s", error.message);
    lm.meter = ace_meter_open(lm.dev, &error);
    assert_non_null(lm.meter);
    qwen3_lm_load(&lm.model, lm.dev, lm.part, &lm.config, NULL);
    qwen3_lm_load(&lm.planned, lm.meter, lm.part, &lm.config, NULL);
    assert_device_ok(lm.dev);
    assert_device_ok(lm.meter);
    assert_int_equal(ace_device_get_stats(lm.dev).weight_bytes, ace_device_get_stats(lm.meter).weight_bytes);
    return lm;
}

static inline void close_tiny_lm(tiny_lm *lm)
{
    qwen3_lm_free(&lm->model);
    qwen3_lm_free(&lm->planned);
    assert_int_equal(ace_device_get_stats(lm->dev).weight_bytes, 0);
    assert_int_equal(ace_device_get_stats(lm->dev).scratch_bytes, 0);
    ace_device_close(lm->meter);
    ace_device_close(lm->dev);
    part_free(lm->part);
    tensors_close(lm->weights);
    tensors_close(lm->goldens);
}

/* The values of a golden tensor; caller frees. */
static inline float *lm_golden(const tiny_lm *lm, const char *name, int64_t *count)
{
    ace_error error = {0};
    const ace_tensor *tensor = tensors_find(lm->goldens, name);
    if (!tensor) fail_msg("no golden %s for %s", name, lm->name);
    *count = tensor->count;
    float *values = new_floats(tensor->count);
    if (!tensor_read(tensor, 0, tensor->count, values, &error)) fail_msg("%s", error.message);
    return values;
}

/* The same as token ids. */
static inline int32_t *lm_golden_ids(const tiny_lm *lm, const char *name, int64_t *count)
{
    float *values = lm_golden(lm, name, count);
    int32_t *ids = malloc((size_t)*count * sizeof *ids);
    assert_non_null(ids);
    for (int64_t i = 0; i < *count; i++) ids[i] = (int32_t)values[i];
    free(values);
    return ids;
}

#endif
