/* goldens.h - the reference values of tools/reference/make_diffusion_goldens.py, and comparing with them. */
#ifndef TEST_DIFFUSION_GOLDENS_H
#define TEST_DIFFUSION_GOLDENS_H

#include "base/error.h"
#include "formats/json.h"
#include "formats/tensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct goldens {
    ace_tensors *tensors;
    json_t *document;
} goldens;

static inline int goldens_open(void **state)
{
    static goldens all;
    ace_error error = {0};
    all.tensors = tensors_open(TEST_DATA "/diffusion/goldens.safetensors", &error);
    all.document = json_parse_file(TEST_DATA "/diffusion/goldens.json", 1 << 22, 16, &error);
    if (!all.tensors || !all.document) fprintf(stderr, "%s\n", error.message);
    *state = &all;
    return all.tensors && all.document ? 0 : -1;
}

static inline int goldens_close(void **state)
{
    goldens *all = *state;
    tensors_close(all->tensors);
    json_decref(all->document);
    return 0;
}

/* The part of the document of that name. */
static inline json_t *golden_part(void **state, const char *name)
{
    json_t *part = json_object_get(((goldens *)*state)->document, name);
    assert_non_null(part);
    return part;
}

/* A tensor's values; *count elements. Free them. The name is printf-style. */
__attribute__((format(printf, 3, 4))) static inline float *golden_tensor(void **state, size_t *count,
                                                                         const char *format, ...)
{
    char name[128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name, sizeof name, format, arguments);
    va_end(arguments);
    const ace_tensor *tensor = tensors_find(((goldens *)*state)->tensors, name);
    if (!tensor) fail_msg("no golden tensor %s", name);
    float *values = malloc((size_t)tensor->count * sizeof *values);
    ace_error error = {0};
    assert_true(tensor_read(tensor, 0, tensor->count, values, &error));
    if (count) *count = (size_t)tensor->count;
    return values;
}

static inline double json_number(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

static inline int json_whole(const json_t *object, const char *key)
{
    return (int)json_integer_value(json_object_get(object, key));
}

static inline const char *json_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    assert_non_null(text);
    return text;
}

static inline uint64_t json_u64(const json_t *object, const char *key)
{
    return strtoull(json_text(object, key), NULL, 10);
}

/* Largest difference over the largest value expected. */
static inline double relative_error(const float *values, const float *expected, size_t count)
{
    double difference = 0, scale = 0;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(values[i])) return INFINITY;
        difference = fmax(difference, fabs((double)values[i] - expected[i]));
        scale = fmax(scale, fabs((double)expected[i]));
    }
    return scale > 0 ? difference / scale : difference;
}

static inline void assert_close(const char *name, const float *values, const float *expected, size_t count,
                                double limit)
{
    double error = relative_error(values, expected, count);
    if (!(error <= limit)) fail_msg("%s: relative error %.3g, allowed %.3g", name, error, limit);
}

#endif
