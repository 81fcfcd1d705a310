/* However a song is fitted into memory, it is the same song, and needs what was planned. */
#include "song_fixture.h"

#include "song/engine.h"
#include "song/fit.h"

typedef struct made {
    float *samples;
    int64_t count; /* of floats */
    size_t planned, measured;
    ace_stage_cost stages[ACE_STAGE_COUNT];
} made;

static bool keep(void *user, const ace_audio *audio, ace_error *error)
{
    made *m = user;
    (void)error;
    if (!m->samples) m->samples = calloc((size_t)(16 * audio->total), sizeof *m->samples); /* up to eight songs */
    memcpy(m->samples + 2 * (audio->item * audio->total + audio->first), audio->samples,
           (size_t)(2 * audio->count) * sizeof *m->samples);
    m->count += 2 * audio->count;
    return true;
}

static bool make(ace_engine *engine, const ace_request *request, made *m, ace_error *error)
{
    ace_result result;
    ace_callbacks callbacks = {.user = m, .audio = keep};
    *m = (made){0};
    bool ok = ace_generate(engine, request, &callbacks, &result, error);
    m->planned = result.planned_peak;
    m->measured = result.measured_peak;
    memcpy(m->stages, result.stages, sizeof m->stages);
    ace_result_free(&result);
    return ok;
}

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

static void same_song(const char *variant, const char *precision)
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
    ace_engine *engine = open_engine(variant, precision, 2, 0);
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
    static const char *const cases[][2] = {
        {"turbo", "f32"}, {"base", "bf16"}, {"xl-base", "bf16"}, {"turbo-gguf", "bf16"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) same_song(cases[i][0], cases[i][1]);
}

/* The least and the most that a request can be given, and everything between. */
static void the_limit_is_kept(void **state)
{
    (void)state;
    ace_error error = {0};
    ace_engine *engine = open_engine("base", "bf16", 2, 0);
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
static void the_device_refuses_more(void **state)
{
    (void)state;
    ace_error error = {0};
    ace_engine *engine = open_engine("turbo", "bf16", 2, 0);
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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_fit_makes_the_same_song),
                                       cmocka_unit_test(the_limit_is_kept), cmocka_unit_test(the_device_refuses_more)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
