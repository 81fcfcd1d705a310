/* What is promised of tiers (gpu-tiers.md), through the library calls that every entry point makes: the command line,
 * the server's /release_task and /v1/chat/completions and the page hand a request to ace_generate(), ace_plan_memory()
 * or ace_compose(), from fields, from JSON, or from a saved file. */
#include "song_fixture.h"

#include "song/engine.h"
#include "support/place.h"
#include "vram/machine.h"

#include <unistd.h>

static const double GIB = 1073741824.0;

/* Every warning, one a line. */
typedef struct heard {
    int count;
    char text[4096];
} heard;

static void hear(void *user, const char *sentence)
{
    heard *h = user;
    size_t used = strlen(h->text);
    h->count++;
    snprintf(h->text + used, sizeof h->text - used, "%s\n", sentence);
}

static void heard_all(const heard *h, const char *const words[])
{
    for (int i = 0; words[i]; i++)
        if (!strstr(h->text, words[i])) fail_msg("no '%s' in: %s", words[i], h->text);
}

/* An engine on a card that is pretended. */
static ace_engine *open_on_card(const char *gib, const char *tiny, const char *synthetic, heard *h)
{
    char path[1024];
    ace_error error = {0};
    snprintf(path, sizeof path, "%s/%s", TINY_CHECKPOINTS, tiny ? tiny : "");
    ace_engine_options options = {.model = tiny ? path : NULL,
                                  .synthetic = synthetic,
                                  .precision = "bf16",
                                  .threads = 1,
                                  .warning = h ? hear : NULL,
                                  .user = h};
    setenv("MAX_CUDA_VRAM", gib, 1);
    ace_engine *engine = ace_engine_open(&options, &error);
    unsetenv("MAX_CUDA_VRAM");
    if (!engine) fail_msg("%s", error.message);
    return engine;
}

/* ---- limits at every entry ------------------------------------------------------------------------------------------
 */

/* The ways in which a request arrives. */
typedef enum arrival { BY_FIELDS, BY_JSON, BY_REQUEST_FILE, BY_SIDECAR, ARRIVALS } arrival;

static ace_request *arrive(arrival way, const char *json)
{
    char path[256];
    ace_error error = {0};
    ace_request *request = ace_request_new(&error), *saved = ace_request_new(&error);
    assert_non_null(request);
    assert_true(ace_request_set_json(saved, json, strlen(json), &error));
    bool ok = true;
    switch (way) {
    case BY_FIELDS:
        ace_request_free(request);
        request = saved;
        return request;
    case BY_JSON:
        ok = ace_request_set_json(request, json, strlen(json), &error);
        break;
    case BY_REQUEST_FILE:
        snprintf(path, sizeof path, "%s/saved.json", place);
        ok = ace_request_save(saved, path, true, &error) && ace_request_load(request, path, &error);
        unlink(path);
        break;
    default: {
        char *text = ace_request_to_json(saved, &error);
        ok = text && ace_request_read(request, text, strlen(text), &error);
        free(text);
    }
    }
    if (!ok) fail_msg("%s", error.message);
    ace_request_free(saved);
    return request;
}

/* What the tiny checkpoint makes of it. */
static void generates(const char *json, arrival way, double seconds, int songs, const char *const words[])
{
    heard h = {0};
    ace_error error = {0};
    ace_result result;
    ace_engine *engine = open_on_card("4", "turbo", NULL, NULL);
    ace_request *request = arrive(way, json);
    ace_callbacks callbacks = {.user = &h, .warning = hear};
    if (!ace_generate(engine, request, &callbacks, &result, &error)) fail_msg("%s", error.message);
    assert_int_equal(result.count, songs);
    assert_int_equal(result.songs[0].frames, (int64_t)(seconds * 48000));
    heard_all(&h, words);
    ace_result_free(&result);
    ace_request_free(request);
    ace_engine_close(engine);
}

static const char too_much[] =
    "{\"caption\": \"long\", \"duration\": 181, \"batch_size\": 2, \"seed\": 3, \"inference_steps\": 1}";
static const char *const both[] = {"the requested duration is 181 s", "reduced to 180 s",
                                   "the requested batch size is 2", "reduced to 1", NULL};

/* Of the command line there is tests/cli/test_limits.sh, too. */
static void S_11_a_song_keeps_to_the_limits(void **state)
{
    (void)state;
    generates(too_much, BY_FIELDS, 180, 1, both);
}

/* As the page's fields, the two routes' JSON, a saved parameter file, a song's sidecar. */
static void A_03_however_a_request_arrives_it_is_reduced_and_told(void **state)
{
    (void)state;
    for (arrival way = BY_FIELDS; way < ARRIVALS; way++) {
        heard h = {0};
        ace_error error = {0};
        ace_memory_plan plan;
        ace_engine *engine = open_on_card("4", "turbo", NULL, &h);
        ace_request *request = arrive(way, too_much);
        if (!ace_plan_memory(engine, request, &plan, &error)) fail_msg("%s", error.message);
        assert_true(plan.duration == 180 && plan.batch == 1);
        heard_all(&h, both);
        ace_request_free(request);
        ace_engine_close(engine);
    }
}

static void S_11_a_composition_keeps_to_the_limits(void **state)
{
    (void)state;
    heard h = {0};
    ace_error error = {0};
    ace_composition c;
    ace_engine *engine = open_on_card("4", "turbo-planner", NULL, NULL);
    ace_request *request = make_request("caption", "long", "duration", "200", "batch_size", "3", "seed", "3", "bpm",
                                        "90", "keyscale", "C major", "timesignature", "4", "thinking", "true", NULL);
    static const char *const words[] = {"200 s", "reduced to 180 s", "batch size is 3", "with the language model",
                                        NULL};
    ace_callbacks callbacks = {.user = &h, .warning = hear};
    if (!ace_compose(engine, request, &callbacks, &c, &error)) fail_msg("%s", error.message);
    assert_int_equal(c.count, 1);
    char *duration = ace_request_get(c.songs[0], "duration", &error);
    assert_string_equal(duration, "180");
    free(duration);
    heard_all(&h, words);
    ace_composition_free(&c);
    ace_request_free(request);
    ace_engine_close(engine);
}

/* Audio codes are what this version takes as a source: they decide the length, and are cut. */
static void S_12_audio_codes_that_are_too_long_are_cut_and_told(void **state)
{
    (void)state;
    enum { SECONDS = 200, CODES = SECONDS * 5 };
    char json[CODES * 2 + 128] = "{\"seed\": 3, \"inference_steps\": 1, \"audio_codes\": \"7";
    for (int i = 1; i < CODES; i++) strcat(json, ",7");
    strcat(json, "\"}");
    static const char *const words[] = {"the source audio lasts 200 s", "reduced to 180 s", NULL};
    generates(json, BY_JSON, 180, 1, words);
}

/* ---- the planner ----------------------------------------------------------------------------------------------------
 */

/* The same checkpoint with a planner beside it: nothing of the planner is opened until it is asked for. */
static void S_15_up_to_6_GB_no_planner_is_opened_by_itself(void **state)
{
    (void)state;
    static const char *const sizes[] = {"4", "5", "6"};
    for (int i = 0; i < 3; i++) {
        ace_error error = {0};
        ace_result result;
        ace_engine *engine = open_on_card(sizes[i], "turbo-planner", NULL, NULL);
        ace_request *request = make_request("duration", "10", "seed", "3", "inference_steps", "1", NULL);
        if (!ace_generate(engine, request, NULL, &result, &error)) fail_msg("%s", error.message);
        assert_false(result.planned);
        assert_null(engine->planner);
        ace_result_free(&result);
        assert_true(ace_request_set(request, "thinking", "true", &error)); /* disabled by default is not impossible */
        if (!ace_generate(engine, request, NULL, &result, &error)) fail_msg("%s", error.message);
        assert_true(result.planned);
        ace_result_free(&result);
        ace_request_free(request);
        ace_engine_close(engine);
    }
}

/* ---- the largest that each tier promises
 * ------------------------------------------------------------------------------ */

/* Real dimensions, planned; the plan is what the run takes, to the byte (song/residency, song/planned_songs, and the
 * runs of acestep tier-test). Where the tier offers no language model it is asked for explicitly. */
static void A_02_each_tier_holds_its_longest_songs_and_largest_batch(void **state)
{
    (void)state;
    static const struct {
        const char *gib, *tier, *lm;
    } rows[] = {{"4", "tier1", "0.6B"},  {"6", "tier2", "0.6B"},  {"7", "tier3", "0.6B"},   {"8", "tier4", "0.6B"},
                {"12", "tier5", "1.7B"}, {"16", "tier6", "1.7B"}, {"24", "unlimited", "4B"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int with_lm = 0; with_lm < 2; with_lm++) {
            char variant[32], duration[16], batch[16];
            heard h = {0};
            ace_error error = {0};
            ace_memory_plan plan;
            snprintf(variant, sizeof variant, "2b%s%s", with_lm ? "+" : "", with_lm ? rows[i].lm : "");
            ace_engine *engine = open_on_card(rows[i].gib, NULL, variant, NULL);
            const tier *t = machine_limits_basis(engine->allowance.machine)->tier;
            assert_string_equal(t->id, rows[i].tier);
            snprintf(duration, sizeof duration, "%d", t->max_duration[with_lm]);
            snprintf(batch, sizeof batch, "%d", t->max_batch[with_lm]);
            ace_request *request =
                make_request("caption", "a song", "lyrics", "[Verse]\nla\n", "seed", "1", "duration", duration,
                             "batch_size", batch, "thinking", with_lm ? "true" : "false", NULL);
            engine->warning = hear;
            engine->user = &h;
            if (!ace_plan_memory(engine, request, &plan, &error)) fail_msg("%s: %s", rows[i].tier, error.message);
            assert_int_equal(plan.planner, with_lm);
            assert_true(plan.duration == t->max_duration[with_lm] && plan.batch == t->max_batch[with_lm]);
            assert_true((double)plan.peak <= strtod(rows[i].gib, NULL) * GIB);
            assert_int_equal(h.count, 0); /* nothing was given up */
            ace_request_free(request);
            ace_engine_close(engine);
        }
}

/* ---- the decoder in a shortage
 * ---------------------------------------------------------------------------------------- */

typedef struct audio {
    float *samples;
    int64_t count;
} audio;

static bool keep(void *user, const ace_audio *part, ace_error *error)
{
    audio *a = user;
    (void)error;
    if (!a->samples) a->samples = calloc((size_t)part->total * 2, sizeof *a->samples);
    assert_non_null(a->samples);
    memcpy(a->samples + 2 * part->first, part->samples, (size_t)part->count * 2 * sizeof *part->samples);
    a->count = 2 * (part->first + part->count);
    return true;
}

/* Windows shrink first, before any layer is streamed; the audio is the same to the last bit. Its waveform is handed
 * over window by window and never held on the device, and the device here is the CPU: the later steps of the official
 * program, waveform to the host and decoding on the CPU, are what always happens. */
static void A_06_in_a_shortage_the_decoder_takes_smaller_windows(void **state)
{
    (void)state;
    ace_error error = {0};
    ace_memory_plan plan, most;
    ace_result result;
    ace_engine *engine = open_on_card("4", "turbo", NULL, NULL);
    ace_request *request = make_request("duration", "30", "seed", "3", "inference_steps", "1", NULL);
    audio whole = {0};
    ace_callbacks callbacks = {.user = &whole, .audio = keep};
    if (!ace_plan_memory(engine, request, &most, &error)) fail_msg("%s", error.message);
    if (!ace_generate(engine, request, &callbacks, &result, &error)) fail_msg("%s", error.message);
    ace_result_free(&result);
    int smaller = 0, window = most.vae_window;
    for (size_t limit = most.peak - 1; limit >= most.least; limit = plan.peak - 1) {
        engine->limit = limit;
        ace_device_set_limit(engine->dev, limit);
        if (!ace_plan_memory(engine, request, &plan, &error)) fail_msg("%s", error.message);
        assert_true(plan.peak <= limit && plan.vae_window <= window);
        if (plan.vae_window == window) continue;
        assert_true(smaller > 0 || !plan.streams_dit);
        audio windows = {0};
        callbacks.user = &windows;
        if (!ace_generate(engine, request, &callbacks, &result, &error)) fail_msg("%s", error.message);
        assert_int_equal(result.measured_peak, plan.peak);
        assert_int_equal(windows.count, whole.count);
        assert_memory_equal(windows.samples, whole.samples, (size_t)whole.count * sizeof *whole.samples);
        free(windows.samples);
        ace_result_free(&result);
        window = plan.vae_window;
        smaller++;
    }
    assert_true(smaller >= 2);
    free(whole.samples);
    ace_request_free(request);
    ace_engine_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(S_11_a_song_keeps_to_the_limits),
        cmocka_unit_test(A_03_however_a_request_arrives_it_is_reduced_and_told),
        cmocka_unit_test(S_11_a_composition_keeps_to_the_limits),
        cmocka_unit_test(S_12_audio_codes_that_are_too_long_are_cut_and_told),
        cmocka_unit_test(S_15_up_to_6_GB_no_planner_is_opened_by_itself),
        cmocka_unit_test(A_02_each_tier_holds_its_longest_songs_and_largest_batch),
        cmocka_unit_test(A_06_in_a_shortage_the_decoder_takes_smaller_windows),
    };
    return cmocka_run_group_tests(tests, make_place, remove_place);
}
