/* S-07: the planner keeps to the tier's share for its weights, keys and values, and working memory. */
#include "song_fixture.h"

#include "song/arrange.h"

typedef struct heard {
    int warnings;
    char last[1024];
} heard;

static void hear(void *user, const char *sentence)
{
    heard *h = user;
    h->warnings++;
    snprintf(h->last, sizeof h->last, "%s", sentence);
}

static char *codes_of(ace_engine *engine, const ace_request *request, int songs, ace_error *error)
{
    ace_composition c;
    if (!ace_compose(engine, request, NULL, &c, error)) return NULL;
    assert_int_equal(c.count, songs);
    char *all = calloc(1, 65536);
    for (int i = 0; i < c.count; i++) {
        char *codes = ace_request_get(c.songs[i], "audio_codes", error);
        assert_true(strlen(codes) > 40);
        strncat(all, codes, 65535 - strlen(all));
        free(codes);
    }
    ace_composition_free(&c);
    return all;
}

static void whatever_the_share_they_are_the_same_songs(void **state)
{
    (void)state;
    enum { SONGS = 5 };
    ace_error error = {0};
    ace_engine *engine = open_engine("turbo-planner", "bf16", 1, 0);
    ace_request *request = make_request("caption", "a song", "seed", "3", "duration", "20", "batch_size", "5", NULL);
    char *together = codes_of(engine, request, SONGS, &error);
    if (!together) fail_msg("%s", error.message);
    ace_memory_plan whole, plan;
    if (!ace_plan_memory(engine, request, &whole, &error)) fail_msg("%s", error.message);
    assert_int_equal(whole.planner_songs, SONGS);
    assert_int_equal(whole.planner_streamed, 0);
    int turns = 0, streams = 0, fetches = 0;
    for (size_t share = whole.planner_peak - 1; share >= whole.least; share = plan.planner_peak - 1) {
        engine->allowance.planner_share = share;
        if (!ace_plan_memory(engine, request, &plan, &error)) fail_msg("%s", error.message);
        assert_true(plan.planner && plan.planner_peak <= share);
        turns += plan.planner_songs < SONGS;
        streams += plan.planner_streamed > 0;
        fetches += plan.planner_fetches;
        printf("%zu bytes: %d songs at a time, %d of %d layers streamed%s\n", plan.planner_peak, plan.planner_songs,
               plan.planner_streamed, plan.planner_layers, plan.planner_fetches ? ", rows fetched" : "");
        char *again = codes_of(engine, request, SONGS, &error);
        if (!again) fail_msg("%s", error.message);
        assert_string_equal(again, together);
        free(again);
    }
    assert_true(turns > 0 && streams > 0 && fetches > 0);
    free(together);
    ace_request_free(request);
    ace_engine_close(engine);
}

static void S_07_one_song_too_large_is_refused_before_anything_is_loaded(void **state)
{
    (void)state;
    ace_error error = {0};
    ace_engine *engine = open_engine("turbo-planner", "bf16", 1, 0);
    heard h = {0};
    engine->warning = hear;
    engine->user = &h;
    ace_request *request = make_request("caption", "a song", "seed", "3", "duration", "20", NULL);
    ace_memory_plan plan;
    engine->allowance.planner_share = 1 << 16;
    if (!ace_plan_memory(engine, request, &plan, &error)) fail_msg("%s", error.message);
    assert_false(plan.planner);
    assert_int_equal(h.warnings, 1);
    assert_non_null(strstr(h.last, "allowed for it in this tier"));
    assert_true(ace_request_set(request, "thinking", "true", &error));
    assert_false(ace_plan_memory(engine, request, &plan, &error));
    assert_int_equal(error.status, ACE_ERROR_MEMORY);
    assert_true(plan.least > 1 << 16);
    ace_result result;
    error = (ace_error){0};
    assert_false(ace_generate(engine, request, NULL, &result, &error));
    assert_int_equal(error.status, ACE_ERROR_MEMORY);
    ace_result_free(&result);
    assert_int_equal(ace_device_get_stats(engine->dev).weight_bytes, 0);
    ace_request_free(request);
    ace_engine_close(engine);
}

/* The promised shares, at the real sizes: on a pretended card of 16 GB no planner takes more than 3, 8 and 12 GB. */
static void S_07_the_shares_of_a_tier_hold(void **state)
{
    (void)state;
    static const struct {
        const char *variant;
        double share;
    } rows[] = {{"2b+0.6B", 3}, {"2b+1.7B", 8}, {"2b+4B", 12}};
    for (int i = 0; i < 3; i++) {
        ace_error error = {0};
        ace_memory_plan plan;
        setenv("MAX_CUDA_VRAM", "16", 1);
        ace_engine_options options = {.synthetic = rows[i].variant, .threads = 2};
        ace_engine *engine = ace_engine_open(&options, &error);
        if (!engine) fail_msg("%s", error.message);
        assert_true((double)engine->allowance.planner_share == rows[i].share * 1073741824.0);
        ace_request *request = make_request("caption", "a song", "duration", "480", "batch_size", "4", NULL);
        if (!ace_plan_memory(engine, request, &plan, &error)) fail_msg("%s", error.message);
        assert_true(plan.planner && plan.planner_peak <= engine->allowance.planner_share);
        printf("%s: %.2f of %g GiB, %d songs at a time\n", rows[i].variant, (double)plan.planner_peak / 1073741824.0,
               rows[i].share, plan.planner_songs);
        ace_request_free(request);
        ace_engine_close(engine);
        unsetenv("MAX_CUDA_VRAM");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_the_share_they_are_the_same_songs),
        cmocka_unit_test(S_07_one_song_too_large_is_refused_before_anything_is_loaded),
        cmocka_unit_test(S_07_the_shares_of_a_tier_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
