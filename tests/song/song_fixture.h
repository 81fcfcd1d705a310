/* song_fixture.h - what the tests of the song room share. */
#ifndef TESTS_SONG_SONG_FIXTURE_H
#define TESTS_SONG_SONG_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <acestep.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Two threads only where they may matter: on models as tiny as these they wait for each other most of the time, and
 * take the processors from the tests that run at the same time. */
static inline ace_engine *open_engine(const char *variant, const char *precision, int threads, int vae_window)
{
    char path[1024];
    ace_error error = {0};
    snprintf(path, sizeof path, "%s/%s", TINY_CHECKPOINTS, variant);
    ace_engine_options options = {.model = path, .precision = precision, .threads = threads, .vae_window = vae_window};
    ace_engine *engine = ace_engine_open(&options, &error);
    if (!engine) fail_msg("%s", error.message);
    return engine;
}

/* An engine that stores the layers of its models in a form, with a planner or without. */
static inline ace_engine *open_quantized(const char *variant, const char *precision, const char *quantization,
                                         bool planner)
{
    char path[1024];
    ace_error error = {0};
    snprintf(path, sizeof path, "%s/%s", TINY_CHECKPOINTS, variant);
    ace_engine_options options = {.model = path,
                                  .precision = precision,
                                  .quantization = quantization,
                                  .lm_quantization = quantization,
                                  .lm = planner ? NULL : "none",
                                  .threads = strcmp(precision, "f32") == 0 ? 2 : 1};
    ace_engine *engine = ace_engine_open(&options, &error);
    if (!engine) fail_msg("%s", error.message);
    return engine;
}

/* A request from pairs of field and value, ended by NULL. */
static inline ace_request *make_request(const char *field, ...)
{
    ace_error error = {0};
    ace_request *request = ace_request_new(&error);
    assert_non_null(request);
    va_list pairs;
    va_start(pairs, field);
    for (const char *name = field; name; name = va_arg(pairs, const char *))
        if (!ace_request_set(request, name, va_arg(pairs, const char *), &error)) fail_msg("%s", error.message);
    va_end(pairs);
    return request;
}

#endif
