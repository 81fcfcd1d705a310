/* Songs that were planned first: what the planner chose is what is made, whatever the threads and the batch, in exactly
 * the memory that was planned; and what happens when planning goes wrong in the middle. */
#include "base/memory.h"
#include "song/song_fixture.h"

#include <math.h>

/* Planned in a moment: a random model seldom ends a caption of its own. */
#define QUICK "use_cot_caption", "false", "inference_steps", "1"
#define METADATA "bpm", "96", "keyscale", "F# minor", "timesignature", "4"

static ace_engine *open_without_planner(const char *variant)
{
    char path[1024];
    ace_error error = {0};
    snprintf(path, sizeof path, "%s/%s", TINY_CHECKPOINTS, variant);
    ace_engine_options options = {.model = path, .precision = "f32", .threads = 1, .lm = "none"};
    ace_engine *engine = ace_engine_open(&options, &error);
    if (!engine) fail_msg("%s", error.message);
    return engine;
}

static char *value_of(const ace_request *request, const char *field)
{
    ace_error error = {0};
    char *value = ace_request_get(request, field, &error);
    assert_non_null(value);
    return value;
}

static void set(ace_request *request, const char *field, const char *value)
{
    ace_error error = {0};
    if (!ace_request_set(request, field, value, &error)) fail_msg("%s", error.message);
}

static ace_composition compose(ace_engine *engine, const ace_request *request)
{
    ace_error error = {0};
    ace_composition c;
    if (!ace_compose(engine, request, NULL, &c, &error)) fail_msg("%s", error.message);
    return c;
}

/* How many codes a request has. */
static int code_count(const ace_request *request)
{
    char *codes = value_of(request, "audio_codes");
    int count = 0;
    for (const char *p = codes; (p = strstr(p, "<|audio_code_")); p++) count++;
    free(codes);
    return count;
}

static void assert_same_field(const ace_request *a, const ace_request *b, const char *field)
{
    char *one = value_of(a, field), *other = value_of(b, field);
    assert_string_equal(one, other);
    free(one);
    free(other);
}

/* ---- songs ----------------------------------------------------------------------------------------------------- */

typedef struct song {
    int64_t frames;
    float *samples;
    ace_result result;
} song;

static bool keep(void *user, const ace_audio *audio, ace_error *error)
{
    song *s = user;
    (void)error;
    if (audio->item > 0) return true;
    if (audio->first == 0) s->samples = malloc((size_t)audio->total * 2 * sizeof(float));
    assert_non_null(s->samples);
    memcpy(s->samples + 2 * audio->first, audio->samples, (size_t)audio->count * 2 * sizeof(float));
    s->frames = audio->first + audio->count;
    return true;
}

/* The first song of a request. */
static song generate(ace_engine *engine, const ace_request *request)
{
    song s = {0};
    ace_error error = {0};
    ace_callbacks callbacks = {.user = &s, .audio = keep};
    if (!ace_generate(engine, request, &callbacks, &s.result, &error)) fail_msg("%s", error.message);
    return s;
}

static void song_free(song *s)
{
    free(s->samples);
    ace_result_free(&s->result);
}

static bool same_audio(const song *a, const song *b)
{
    return a->frames == b->frames && memcmp(a->samples, b->samples, (size_t)a->frames * 2 * sizeof(float)) == 0;
}

/* ---- the same codes -------------------------------------------------------------------------------------------- */

static void an_item_of_a_batch_has_the_codes_of_the_plan_alone(void **state)
{
    (void)state;
    static const char *const precisions[] = {"f32", "bf16"}, *const guidance[] = {"1", "2.5"};
    for (int p = 0; p < 2; p++) {
        ace_engine *engine = open_engine("turbo-planner", precisions[p], 1 + p, 0);
        for (int g = 0; g < 2; g++) {
            ace_request *request = make_request("caption", "one of many", METADATA, "duration", "12.4", "seed", "41",
                                                "batch_size", "3", "lm_cfg_scale", guidance[g], NULL);
            ace_composition all = compose(engine, request);
            assert_int_equal(all.count, 3);
            set(request, "batch_size", "1");
            for (int i = 0; i < 3; i++) {
                char seed[16];
                snprintf(seed, sizeof seed, "%d", 41 + i);
                set(request, "seed", seed);
                ace_composition one = compose(engine, request);
                assert_same_field(one.songs[0], all.songs[i], "audio_codes");
                assert_same_field(one.songs[0], all.songs[i], "seed");
                ace_composition_free(&one);
            }
            char *first = value_of(all.songs[0], "audio_codes"), *second = value_of(all.songs[1], "audio_codes");
            assert_string_not_equal(first, second);
            free(first);
            free(second);
            ace_composition_free(&all);
            ace_request_free(request);
        }
        ace_engine_close(engine);
    }
}

static void a_batch_shares_its_metadata(void **state)
{
    (void)state;
    static const char *const fields[] = {"bpm", "keyscale", "timesignature", "vocal_language", "caption", "duration"};
    ace_engine *engine = open_engine("turbo-planner", "f32", 1, 0);
    ace_request *request =
        make_request("caption", "a family", "duration", "10", "seed", "7", "batch_size", "3", QUICK, NULL);
    ace_composition all = compose(engine, request);
    set(request, "batch_size", "1");
    ace_composition one = compose(engine, request);
    for (size_t f = 0; f < sizeof fields / sizeof *fields; f++)
        for (int i = 0; i < 3; i++) assert_same_field(all.songs[i], one.songs[0], fields[f]);
    assert_same_field(all.songs[0], one.songs[0], "audio_codes");
    ace_composition_free(&all);
    ace_composition_free(&one);
    ace_request_free(request);
    ace_engine_close(engine);
}

static void threads_do_not_matter(void **state)
{
    (void)state;
    static const char *const precisions[] = {"f32", "bf16"};
    ace_error error = {0};
    ace_request *request = make_request("caption", "threads", "lyrics", "[Verse]\nla la la", "duration", "10", "seed",
                                        "5", "lm_cfg_scale", "2", NULL);
    for (int p = SANITIZED; p < 2; p++) {
        char *first = NULL;
        for (int threads = 1; threads <= 3; threads++) {
            ace_engine *engine = open_engine("turbo-planner", precisions[p], threads, 0);
            for (int again = 0; again < 2; again++) {
                ace_composition c = compose(engine, request);
                char *json = ace_request_to_json(c.songs[0], &error);
                assert_non_null(json);
                if (first) assert_string_equal(json, first);
                if (first) free(json);
                if (!first) first = json;
                ace_composition_free(&c);
            }
            ace_engine_close(engine);
        }
        free(first);
    }
    ace_request_free(request);
}

static void a_song_has_five_codes_a_second(void **state)
{
    (void)state;
    static const struct {
        const char *duration, *profile;
        int codes;
    } cases[] = {{"10", "default", 50},     {"10.19", "default", 50},  {"12.4", "default", 62},
                 {"30.5", "default", 152},  {"12.399", "default", 61}, {"12.4", "official", 62},
                 {"30.5", "official", 152}, {"60", "default", 300},    {"59.999", "official", 299}};
    ace_engine *engine = open_engine("turbo-planner", "f32", 1, 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ace_request *request =
            make_request("caption", "length", METADATA, "seed", "3", "lm_profile", cases[i].profile, NULL);
        set(request, "duration", cases[i].duration);
        ace_composition c = compose(engine, request);
        assert_int_equal(code_count(c.songs[0]), cases[i].codes);
        ace_composition_free(&c);
        ace_request_free(request);
    }
    /* a length that the planner chooses */
    ace_request *request = make_request("caption", "any length", "seed", "9", QUICK, NULL);
    ace_composition c = compose(engine, request);
    char *duration = value_of(c.songs[0], "duration");
    assert_true(strtod(duration, NULL) >= 10 && strtod(duration, NULL) <= 600);
    assert_int_equal(code_count(c.songs[0]), (int)floor(5 * strtod(duration, NULL)));
    free(duration);
    ace_composition_free(&c);
    ace_request_free(request);
    ace_engine_close(engine);
}

/* ---- what was planned is what is made -------------------------------------------------------------------------- */

static void what_the_planner_chose_reaches_the_song(void **state)
{
    (void)state;
    static const char *const fields[] = {
        "bpm", "keyscale", "timesignature", "vocal_language", "duration", "lyrics", "audio_codes", "caption", "seed"};
    /* another value of each that must make another song */
    static const char *const others[] = {"31", "E# minor", NULL, "la", NULL, "[Verse]\nother words"};
    ace_engine *planner = open_engine("turbo-planner", "f32", 1, 0), *none = open_without_planner("turbo-planner");
    ace_request *request = make_request("lyrics", "[Verse]\nmy own words", "duration", "10", "seed", "11", NULL);
    song planned = generate(planner, request);
    assert_true(planned.result.planned);
    const ace_request *plan = planned.result.songs[0].request;
    assert_int_equal(code_count(plan), 50);
    assert_same_field(plan, request, "lyrics");
    assert_same_field(plan, request, "duration");

    /* the values by hand, without a planner */
    ace_request *by_hand = make_request("thinking", "false", NULL);
    for (size_t f = 0; f < sizeof fields / sizeof *fields; f++) {
        char *value = value_of(plan, fields[f]);
        if (!*value) fail_msg("the planner chose no %s", fields[f]);
        set(by_hand, fields[f], value);
        free(value);
    }
    song made = generate(none, by_hand);
    assert_false(made.result.planned);
    assert_true(same_audio(&planned, &made));
    song_free(&made);

    for (size_t f = 0; f < sizeof others / sizeof *others; f++) {
        char *value = value_of(by_hand, fields[f]);
        const char *other = others[f];
        if (strcmp(fields[f], "timesignature") == 0) other = strcmp(value, "4") == 0 ? "3" : "4";
        if (other) {
            assert_string_not_equal(value, other);
            set(by_hand, fields[f], other);
            song changed = generate(none, by_hand);
            if (same_audio(&planned, &changed)) fail_msg("another %s makes the same song", fields[f]);
            song_free(&changed);
            set(by_hand, fields[f], value);
        }
        free(value);
    }

    /* and the song's own request makes it again: with a planner, without, and with a checkpoint that has none */
    ace_engine *engines[] = {planner, none, open_without_planner("turbo")};
    for (int i = 0; i < 3; i++) {
        song again = generate(engines[i], plan);
        assert_false(again.result.planned);
        assert_true(same_audio(&planned, &again));
        song_free(&again);
    }
    ace_engine_close(engines[2]);
    song_free(&planned);
    ace_request_free(by_hand);
    ace_request_free(request);
    ace_engine_close(planner);
    ace_engine_close(none);
}

static void a_composition_is_what_would_be_generated(void **state)
{
    (void)state;
    ace_error error = {0};
    ace_engine *engine = open_engine("turbo-planner", "bf16", 1, 0);
    ace_request *request = make_request("caption", "in two steps", "duration", "10", "seed", "4", "batch_size", "2",
                                        "instrumental", "true", QUICK, NULL);
    song whole = generate(engine, request);
    ace_composition c = compose(engine, request);
    assert_int_equal(c.count, 2);
    for (int i = 0; i < 2; i++) assert_same_field(c.songs[i], whole.result.songs[i].request, "audio_codes");
    char *instrumental = value_of(c.songs[0], "instrumental");
    assert_string_equal(instrumental, "true");
    free(instrumental);
    song made = generate(engine, c.songs[0]);
    assert_false(made.result.planned);
    assert_true(same_audio(&whole, &made));

    /* a plan of a plan is that plan */
    ace_composition again = compose(engine, c.songs[1]);
    char *one = ace_request_to_json(again.songs[0], &error), *other = ace_request_to_json(c.songs[1], &error);
    assert_string_equal(one, other);
    free(one);
    free(other);
    ace_composition_free(&again);
    ace_composition_free(&c);
    song_free(&made);
    song_free(&whole);
    ace_request_free(request);
    ace_engine_close(engine);
}

/* ---- memory ---------------------------------------------------------------------------------------------------- */

static void the_peak_is_exactly_the_planned_one(void **state)
{
    (void)state;
    static const char *const precisions[] = {"f32", "bf16"};
    static const char *const changes[][2] = {
        {"batch_size", "2"},  {"lm_cfg_scale", "1"}, {"duration", "12.4"},      {"thinking", "false"},
        {"thinking", "true"}, {"bpm", "96"},         {"lm_cfg_scale", "3"},     {"lm_negative_prompt", "low quality"},
        {"duration", "10"},   {"batch_size", "1"},   {"use_cot_metas", "false"}};
    for (int p = SANITIZED; p < 2; p++) {
        ace_request *request = make_request("caption", "memory", "lyrics", "[Verse]\nla la la", "duration", "10",
                                            "seed", "2", QUICK, NULL);
        ace_engine *engine = open_engine("turbo-planner", precisions[p], 1 + p, 0);
        for (size_t i = 0; i <= sizeof changes / sizeof *changes; i++) {
            ace_error error = {0};
            ace_memory_plan before;
            if (!ace_plan_memory(engine, request, &before, &error)) fail_msg("%s", error.message);
            song s = generate(engine, request);
            if (s.result.planned_peak != s.result.measured_peak)
                fail_msg("%s, after %zu changes: planned %zu, measured %zu", precisions[p], i, s.result.planned_peak,
                         s.result.measured_peak);
            if (before.peak < s.result.measured_peak)
                fail_msg("%s, after %zu changes: promised %zu, measured %zu", precisions[p], i, before.peak,
                         s.result.measured_peak);
            assert_int_equal(before.planner, s.result.planned);
            song_free(&s);
            if (i < sizeof changes / sizeof *changes) set(request, changes[i][0], changes[i][1]);
        }
        ace_engine_close(engine);
        ace_request_free(request);
    }
}

/* ---- progress and stopping -------------------------------------------------------------------------------------- */

typedef struct watcher {
    ace_engine *engine;
    const char *stop_unit; /* stop when this many units are done; NULL: never */
    int64_t stop_at;
    bool stopped;
    int after; /* reports of planning since then */
    int64_t tokens, codes, code_total;
    int rates;
} watcher;

static void watch(void *user, const ace_progress *progress)
{
    watcher *w = user;
    if (progress->stage != ACE_STAGE_PLAN) return;
    if (w->stopped) w->after++;
    bool codes = strcmp(progress->unit, "codes") == 0;
    if (!codes) assert_string_equal(progress->unit, "tokens");
    if (!codes) assert_int_equal(w->codes, 0); /* text comes first */
    int64_t *done = codes ? &w->codes : &w->tokens;
    assert_true(progress->done >= *done);
    *done = progress->done;
    if (codes) w->code_total = progress->total;
    if (codes && progress->rate > 0) {
        w->rates++;
        assert_true(progress->stage_remaining >= 0);
    }
    if (w->stop_unit && strcmp(progress->unit, w->stop_unit) == 0 && progress->done >= w->stop_at && !w->stopped) {
        ace_engine_stop(w->engine);
        w->stopped = true;
    }
}

static void progress_counts_codes_and_how_fast_they_come(void **state)
{
    (void)state;
    ace_error error = {0};
    ace_engine *engine = open_engine("turbo-planner", "bf16", 1, 0);
    ace_request *request =
        make_request("caption", "progress", "duration", "12", "seed", "6", "batch_size", "2", QUICK, NULL);
    watcher w = {0};
    ace_callbacks callbacks = {.user = &w, .progress = watch};
    ace_composition c;
    if (!ace_compose(engine, request, &callbacks, &c, &error)) fail_msg("%s", error.message);
    assert_int_equal(w.codes, 120);
    assert_int_equal(w.code_total, 120);
    assert_true(w.tokens > 0);
    assert_true(w.rates >= 50);
    ace_composition_free(&c);
    ace_request_free(request);
    ace_engine_close(engine);
}

static void a_stop_between_tokens_is_noticed_at_once(void **state)
{
    (void)state;
    static const struct {
        const char *unit;
        int64_t at;
    } stops[] = {{"tokens", 1}, {"tokens", 8}, {"codes", 1}, {"codes", 20}, {"codes", 59}};
    ace_engine *engine = open_engine("turbo-planner", "bf16", 1, 0);
    ace_request *request = make_request("caption", "stop", "duration", "12", "seed", "6", QUICK, NULL);
    ace_composition whole = compose(engine, request);
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        for (int generating = 0; generating < 2; generating++) {
            ace_error error = {0};
            ace_composition c = {0};
            ace_result result = {0};
            watcher w = {.engine = engine, .stop_unit = stops[i].unit, .stop_at = stops[i].at};
            ace_callbacks callbacks = {.user = &w, .progress = watch};
            bool ok = generating ? ace_generate(engine, request, &callbacks, &result, &error)
                                 : ace_compose(engine, request, &callbacks, &c, &error);
            assert_true(w.stopped);
            if (ok) fail_msg("a stop after %d %s was not noticed", (int)stops[i].at, stops[i].unit);
            assert_int_equal(error.status, ACE_CANCELLED);
            assert_int_equal(w.after, 0);
            assert_int_equal(c.count, 0);
            assert_int_equal(result.count, 0);
            ace_result_free(&result);
        }
        ace_composition again = compose(engine, request);
        assert_same_field(again.songs[0], whole.songs[0], "audio_codes");
        ace_composition_free(&again);
    }
    ace_composition_free(&whole);
    ace_request_free(request);
    ace_engine_close(engine);
}

/* ---- refusals --------------------------------------------------------------------------------------------------- */

static void thinking_without_a_planner_is_an_error(void **state)
{
    (void)state;
    ace_engine *engines[] = {open_without_planner("turbo-planner"), open_engine("turbo", "f32", 1, 0)};
    static const char *const words[] = {"--lm none", "planner"};
    for (int i = 0; i < 2; i++) {
        ace_error error = {0};
        ace_result result;
        ace_composition c;
        ace_request *thinking =
            make_request("caption", "think", "duration", "10", "seed", "1", "thinking", "true", QUICK, NULL);
        assert_false(ace_generate(engines[i], thinking, NULL, &result, &error));
        assert_int_equal(error.status, ACE_ERROR_MODEL);
        if (!strstr(error.message, words[i])) fail_msg("no '%s' in: %s", words[i], error.message);
        ace_result_free(&result);
        error = (ace_error){0};
        assert_false(ace_compose(engines[i], thinking, NULL, &c, &error));
        assert_int_equal(error.status, ACE_ERROR_MODEL);
        ace_request *(*const words_of[])(ace_engine *, const ace_request *, const ace_callbacks *,
                                         ace_error *) = {ace_write, ace_format};
        for (int k = 0; k < 2; k++) {
            error = (ace_error){0};
            assert_null(words_of[k](engines[i], thinking, NULL, &error));
            assert_int_equal(error.status, ACE_ERROR_MODEL);
        }
        error = (ace_error){0};
        assert_null(ace_understand(engines[i], NULL, thinking, NULL, &error));
        assert_int_equal(error.status, ACE_ERROR_MODEL);

        ace_request *plain = make_request("caption", "think", "duration", "10", "seed", "1", QUICK, NULL);
        song s = generate(engines[i], plain);
        assert_false(s.result.planned);
        assert_int_equal(s.frames, 480000);
        assert_int_equal(code_count(s.result.songs[0].request), 0);
        song_free(&s);
        ace_request_free(plain);
        ace_request_free(thinking);
        ace_engine_close(engines[i]);
    }
}

static void seeds_leave_room_for_every_song(void **state)
{
    (void)state;
    ace_error error = {0};
    ace_composition c;
    ace_engine *engine = open_engine("turbo-planner", "f32", 1, 0);
    ace_request *request = make_request("caption", "seeds", METADATA, "duration", "10", "seed", "9223372036854775807",
                                        "batch_size", "2", NULL);
    assert_false(ace_compose(engine, request, NULL, &c, &error));
    assert_int_equal(error.status, ACE_ERROR_USAGE);
    assert_non_null(strstr(error.message, "leaves no room"));
    set(request, "seed", "9223372036854775806");
    c = compose(engine, request);
    char *last = value_of(c.songs[1], "seed");
    assert_string_equal(last, "9223372036854775807");
    free(last);
    ace_composition_free(&c);
    ace_request_free(request);
    ace_engine_close(engine);
}

static bool compose_anew(ace_engine *engine, const ace_request *request, ace_composition *c, ace_error *error)
{
    *error = (ace_error){0};
    return ace_compose(engine, request, NULL, c, error);
}

static void check_refusal(bool ok, long n, long calls, const ace_error *error)
{
    if (ok) fail_msg("fault %ld of %ld went unnoticed", n, calls);
    assert_int_not_equal(error->status, ACE_OK);
    if (error->status == ACE_ERROR_INTERNAL || !error->message[0]) fail_msg("fault %ld: %s", n, error->message);
}

/* The planner's first run opens its tokenizer and loads its weights: some refusals among its many calls, the first ones
 * and then spread over the rest. */
static void A_05_every_refusal_of_a_first_plan_is_an_error(void **state)
{
    (void)state;
    enum { TRIES = 24 };
    ace_error error;
    ace_composition c;
    ace_request *request = make_request("caption", "faults", "duration", "10", "seed", "1", QUICK, NULL);
    ace_engine *engine = open_engine("turbo-planner", "bf16", 1, 0);
    ace_fault_arm(0);
    if (!compose_anew(engine, request, &c, &error)) fail_msg("%s", error.message);
    long calls = ace_fault_arm(0);
    ace_composition_free(&c);
    ace_engine_close(engine);
    assert_true(calls > TRIES);
    for (int i = 0; i < TRIES; i++) {
        long n = i < TRIES / 2 ? i + 1 : calls - (calls - TRIES / 2) * (TRIES - 1 - i) / (TRIES - TRIES / 2);
        engine = open_engine("turbo-planner", "bf16", 1, 0);
        ace_fault_arm(n);
        bool ok = compose_anew(engine, request, &c, &error);
        ace_fault_arm(0);
        check_refusal(ok, n, calls, &error);
        ace_engine_close(engine);
    }
    ace_request_free(request);
}

/* All of them on a planner that is loaded, which then plans as before. */
static void A_05_every_refusal_of_a_later_plan_is_an_error_and_the_engine_works_on(void **state)
{
    (void)state;
    ace_error error;
    ace_composition whole, c;
    ace_request *request = make_request("caption", "faults", "duration", "10", "seed", "1", "batch_size", "2",
                                        "lm_negative_prompt", "noise", QUICK, NULL);
    ace_engine *engine = open_engine("turbo-planner", "bf16", 1, 0);
    if (!compose_anew(engine, request, &whole, &error)) fail_msg("%s", error.message);
    ace_fault_arm(0);
    if (!compose_anew(engine, request, &c, &error)) fail_msg("%s", error.message);
    long calls = ace_fault_arm(0);
    ace_composition_free(&c);
    for (long n = 1; n <= calls; n++) {
        ace_fault_arm(n);
        bool ok = compose_anew(engine, request, &c, &error);
        ace_fault_arm(0);
        check_refusal(ok, n, calls, &error);
        assert_int_equal(c.count, 0);
        if (n % 8 > 0 && n < calls) continue;
        if (!compose_anew(engine, request, &c, &error)) fail_msg("after fault %ld: %s", n, error.message);
        assert_same_field(c.songs[1], whole.songs[1], "audio_codes");
        assert_same_field(c.songs[1], whole.songs[1], "keyscale");
        ace_composition_free(&c);
    }
    ace_composition_free(&whole);
    ace_request_free(request);
    ace_engine_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_item_of_a_batch_has_the_codes_of_the_plan_alone),
        cmocka_unit_test(a_batch_shares_its_metadata),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(a_song_has_five_codes_a_second),
        cmocka_unit_test(what_the_planner_chose_reaches_the_song),
        cmocka_unit_test(a_composition_is_what_would_be_generated),
        cmocka_unit_test(the_peak_is_exactly_the_planned_one),
        cmocka_unit_test(progress_counts_codes_and_how_fast_they_come),
        cmocka_unit_test(a_stop_between_tokens_is_noticed_at_once),
        cmocka_unit_test(thinking_without_a_planner_is_an_error),
        cmocka_unit_test(seeds_leave_room_for_every_song),
        cmocka_unit_test(A_05_every_refusal_of_a_first_plan_is_an_error),
        cmocka_unit_test(A_05_every_refusal_of_a_later_plan_is_an_error_and_the_engine_works_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
