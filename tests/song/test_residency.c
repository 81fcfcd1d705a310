/* However a song is fitted into memory, it is the same song, and needs what was planned. */
#include "made_song.h"

#include "base/memory.h"
#include "song/engine.h"
#include "song/fit.h"

#include <malloc.h>

/* The plan promised what the song then took: bytes exactly, and work too, whose sums are of whole numbers. */
static void as_promised(ace_engine *engine, const ace_request *request, ace_memory_plan *plan, const made *m)
{
    ace_error error = {0};
    if (!ace_plan_memory(engine, request, plan, &error)) fail_msg("%s", error.message);
    assert_int_equal(plan->peak, m->measured);
    for (int i = 0; i < ACE_STAGE_WRITE; i++) {
        if (plan->stages[i].flops != m->stages[i].flops || plan->stages[i].bytes_moved != m->stages[i].bytes_moved)
            fail_msg("%s: %.0f flops and %.0f bytes planned, %.0f and %.0f counted", ace_stage_name((ace_stage)i),
                     plan->stages[i].flops, plan->stages[i].bytes_moved, m->stages[i].flops, m->stages[i].bytes_moved);
        if (plan->stages[i].peak_bytes != m->stages[i].peak_bytes ||
            plan->stages[i].scratch_bytes != m->stages[i].scratch_bytes ||
            plan->stages[i].weight_bytes != m->stages[i].weight_bytes)
            fail_msg("%s: %zu (%zu and %zu) bytes planned, %zu (%zu and %zu) measured", ace_stage_name((ace_stage)i),
                     plan->stages[i].peak_bytes, plan->stages[i].weight_bytes, plan->stages[i].scratch_bytes,
                     m->stages[i].peak_bytes, m->stages[i].weight_bytes, m->stages[i].scratch_bytes);
    }
}

static void same_song(const char *variant, const char *precision, const char *quantization)
{
    static const pipeline_fit fits[] = {
        {.evict = true},
        {.vae_window = 9},
        {.stream_dit = true},
        {.stream_text = true},
        {.one_by_one = true},
        {.evict = true, .stream_dit = true, .stream_text = true, .one_by_one = true, .vae_window = 8},
    };
    ace_error error = {0};
    ace_engine *engine = open_quantized(variant, precision, quantization, false);
    ace_request *request = make_request("caption", "a song", "lyrics", "[Verse]\nla la\n", "duration", "10", "seed",
                                        "7", "batch_size", "2", "audio_codes", "1,2,3,4,5,6,7,8",
                                        "audio_cover_strength", "0.5", "inference_steps", "3", NULL);
    made plain, again;
    if (!make(engine, request, &plain, &error)) fail_msg("%s", error.message);
    assert_int_equal(plain.planned, plain.measured);
    for (size_t i = 0; i < sizeof fits / sizeof *fits; i++) {
        pipeline_set_fit(&engine->pipeline, &fits[i]);
        engine->fit = fits[i];
        for (int warm = 0; warm < 2; warm++) {
            if (!make(engine, request, &again, &error)) fail_msg("%zu: %s", i, error.message);
            assert_int_equal(again.planned, again.measured);
            as_promised(engine, request, &(ace_memory_plan){0}, &again);
            assert_int_equal(again.count, plain.count);
            assert_memory_equal(again.samples, plain.samples, (size_t)plain.count * sizeof *plain.samples);
            if (fits[i].evict) assert_true(again.measured < plain.measured);
            free(again.samples);
        }
    }
    free(plain.samples);
    ace_request_free(request);
    ace_engine_close(engine);
}

static void every_fit_makes_the_same_song(void **state)
{
    static const char *const cases[][3] = {
        {"turbo", "f32", "none"},
        {"xl-base", "bf16", "none"},
        {"turbo-gguf", "bf16", "none"},
        {"base", "bf16", "int8"},
        {"turbo", "f32", "int4"},
        {"xl-turbo-blocks", "bf16", "keep"},
        /* with sanitizers as far as here */
        {"base", "bf16", "none"},
        {"turbo", "f32", "int8"},
        {"base", "bf16", "int4"},
        {"xl-base", "bf16", "int4"},
    };
    (void)state;
    for (int i = 0; i < (SANITIZED ? 6 : 10); i++) same_song(cases[i][0], cases[i][1], cases[i][2]);
}

/* The least and the most that a request can be given, and everything between. */
static void the_limit_is_kept(void **state)
{
    (void)state;
    ace_error error = {0};
    ace_engine *engine = open_engine("base", "bf16", 1, 0);
    ace_request *request = make_request("caption", "a song", "duration", "10", "seed", "7", "batch_size", "2",
                                        "inference_steps", "2", NULL);
    made plain, within;
    if (!make(engine, request, &plain, &error)) fail_msg("%s", error.message);
    size_t most = plain.measured, least = 0;
    for (size_t limit = most; !least; limit -= 4096) {
        engine->limit = limit;
        ace_device_set_limit(engine->dev, limit);
        error = (ace_error){0};
        if (make(engine, request, &within, &error)) {
            assert_int_equal(within.planned, within.measured);
            assert_true(within.measured <= limit);
            assert_memory_equal(within.samples, plain.samples, (size_t)plain.count * sizeof *plain.samples);
            limit = within.measured < limit - 65536 ? within.measured : limit - 65536;
        } else {
            assert_int_equal(error.status, ACE_ERROR_MEMORY);
            assert_non_null(strstr(error.message, "GiB"));
            least = limit;
        }
        free(within.samples);
    }
    printf("%zu bytes at most, no less than %zu\n", most, least);
    assert_true(least < most);
    /* the plan knows where that is: there it runs, and a byte below it does not */
    ace_memory_plan plan;
    for (int byte = 0; byte < 2; byte++) {
        size_t limit = byte ? plan.least - 1 : most - 1;
        engine->limit = limit;
        ace_device_set_limit(engine->dev, limit);
        assert_int_equal(ace_plan_memory(engine, request, &plan, &error), !byte);
        assert_int_equal(plan.fastest, byte ? plan.fastest : most);
        assert_int_equal(plan.limit, limit);
    }
    assert_int_equal(error.status, ACE_ERROR_MEMORY);
    engine->limit = plan.least;
    ace_device_set_limit(engine->dev, plan.least);
    error = (ace_error){0};
    if (!make(engine, request, &within, &error)) fail_msg("%s", error.message);
    assert_int_equal(within.measured, plan.least);
    as_promised(engine, request, &plan, &within);
    assert_true(plan.evicts && plan.peak == plan.least);
    free(within.samples);
    engine->limit = 0;
    ace_device_set_limit(engine->dev, 0);
    if (!make(engine, request, &within, &error)) fail_msg("%s", error.message);
    assert_memory_equal(within.samples, plain.samples, (size_t)plain.count * sizeof *plain.samples);
    free(within.samples);
    free(plain.samples);
    ace_request_free(request);
    ace_engine_close(engine);
}

/* The device's own cap, where the plan was not asked. */
static void S_21_the_device_refuses_more(void **state)
{
    (void)state;
    ace_error error = {0};
    ace_engine *engine = open_engine("turbo", "bf16", 1, 0);
    ace_request *request = make_request("caption", "a song", "duration", "10", "seed", "7", NULL);
    made m;
    if (!make(engine, request, &m, &error)) fail_msg("%s", error.message);
    free(m.samples);
    pipeline_unload(&engine->pipeline);
    ace_device_set_limit(engine->dev, m.measured - 1);
    assert_false(make(engine, request, &m, &error));
    free(m.samples);
    assert_int_equal(error.status, ACE_ERROR_MEMORY);
    assert_non_null(strstr(error.message, "are allowed"));
    ace_device_set_limit(engine->dev, m.planned);
    if (!make(engine, request, &m, &error)) fail_msg("%s", error.message);
    free(m.samples);
    ace_request_free(request);
    ace_engine_close(engine);
}

/* S-21: the pretended card's memory is kept to, with the same song. */
static void S_21_a_pretended_card_is_no_larger_than_it_says(void **state)
{
    (void)state;
    ace_error error = {0};
    ace_request *request =
        make_request("caption", "a song", "duration", "10", "seed", "7", "inference_steps", "2", NULL);
    ace_engine *engine = open_engine("base", "bf16", 1, 0);
    made plain, within;
    if (!make(engine, request, &plain, &error)) fail_msg("%s", error.message);
    ace_engine_close(engine);
    static const double gib = 0.02;
    assert_int_equal(setenv("MAX_CUDA_VRAM", "0.02", 1), 0);
    engine = open_engine("base", "bf16", 1, 0);
    unsetenv("MAX_CUDA_VRAM");
    assert_true((double)plain.measured > gib * 1073741824.0);
    if (!make(engine, request, &within, &error)) fail_msg("%s", error.message);
    assert_true((double)within.measured <= gib * 1073741824.0);
    assert_int_equal(within.measured, within.planned);
    assert_memory_equal(within.samples, plain.samples, (size_t)plain.count * sizeof *plain.samples);
    free(within.samples);
    free(plain.samples);
    ace_request_free(request);
    ace_engine_close(engine);
}

static void allow(ace_engine *engine, size_t limit)
{
    engine->limit = limit;
    ace_device_set_limit(engine->dev, limit);
}

/* An allocation that fails while layers come and go: an error or the same song, and the next song is right. */
static void A_05_every_refusal_under_a_limit_is_survived(void **state)
{
    (void)state;
    enum { TRIES = 60 };
    ace_error error = {0};
    ace_memory_plan plan;
    ace_engine *engine = open_engine("turbo", "bf16", 1, 0);
    ace_request *request = make_request("caption", "a song", "duration", "10", "seed", "7", "batch_size", "2",
                                        "audio_codes", "1,2,3", "inference_steps", "2", NULL);
    made plain, again;
    if (!make(engine, request, &plain, &error)) fail_msg("%s", error.message);
    if (!ace_plan_memory(engine, request, &plan, &error)) fail_msg("%s", error.message);
    allow(engine, plan.least);
    if (!make(engine, request, &again, &error)) fail_msg("%s", error.message);
    free(again.samples);
    size_t idle = ace_device_get_stats(engine->dev).weight_bytes;
    ace_fault_arm(0);
    if (!make(engine, request, &again, &error)) fail_msg("%s", error.message);
    free(again.samples);
    long calls = ace_fault_arm(0);
    int noticed = 0;
    assert_true(calls > TRIES);
    for (int i = 0; i < TRIES; i++) {
        long n = i < TRIES / 4 ? i + 1 : calls - (calls - TRIES / 4) * (TRIES - 1 - i) / (TRIES - TRIES / 4);
        error = (ace_error){0};
        ace_fault_arm(n);
        bool ok = make(engine, request, &again, &error);
        ace_fault_arm(0);
        if (!ok) {
            noticed++;
            assert_true(error.status != ACE_OK && error.message[0] != '\0');
            free(again.samples);
            assert_int_equal(ace_device_get_stats(engine->dev).weight_bytes, idle);
            assert_int_equal(ace_device_get_stats(engine->dev).scratch_bytes, 0);
            ace_error after = {0};
            if (!make(engine, request, &again, &after)) fail_msg("after fault %ld of %ld: %s", n, calls, after.message);
        }
        assert_memory_equal(again.samples, plain.samples, (size_t)plain.count * sizeof *plain.samples);
        assert_true(again.measured <= plan.least);
        free(again.samples);
    }
    printf("%d of %d refusals were errors\n", noticed, TRIES);
    assert_true(noticed > TRIES / 2);
    free(plain.samples);
    ace_request_free(request);
    ace_engine_close(engine);
}

static void A_09_twenty_songs_do_not_grow(void **state)
{
    (void)state;
    enum { SONGS = SANITIZED ? 8 : 20, LIMITS = 4 };
    ace_error error = {0};
    ace_memory_plan plan;
    ace_device_stats idle[LIMITS];
    size_t used[LIMITS];
    ace_engine *engine = open_engine("xl-turbo", "bf16", 2, 0);
    ace_request *request = make_request("caption", "a song", "duration", "10", "seed", "7", "batch_size", "2",
                                        "inference_steps", "1", NULL);
    if (!ace_plan_memory(engine, request, &plan, &error)) fail_msg("%s", error.message);
    const size_t limits[LIMITS] = {0, plan.fastest - 1, (plan.least + plan.fastest) / 2, plan.least};
    for (int i = 0; i < SONGS; i++) {
        made m;
        int l = i % LIMITS;
        allow(engine, limits[l]);
        if (!make(engine, request, &m, &error)) fail_msg("song %d: %s", i, error.message);
        free(m.samples);
        ace_device_stats now = ace_device_get_stats(engine->dev);
        size_t host = mallinfo2().uordblks;
        if (i >= LIMITS) {
            assert_int_equal(now.weight_bytes, idle[l].weight_bytes);
            assert_int_equal(now.scratch_bytes, 0);
            assert_int_equal(now.scratch_held, idle[l].scratch_held);
            if (host > used[l] + 16384) fail_msg("song %d: %zu bytes in use at idle, %zu before", i, host, used[l]);
        }
        if (i < 2 * LIMITS) used[l] = host;
        idle[l] = now;
    }
    ace_request_free(request);
    ace_engine_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_fit_makes_the_same_song),
                                       cmocka_unit_test(the_limit_is_kept),
                                       cmocka_unit_test(S_21_the_device_refuses_more),
                                       cmocka_unit_test(S_21_a_pretended_card_is_no_larger_than_it_says),
                                       cmocka_unit_test(A_05_every_refusal_under_a_limit_is_survived),
                                       cmocka_unit_test(A_09_twenty_songs_do_not_grow)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
