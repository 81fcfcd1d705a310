/* However the planner's weights are stored, and however often it is asked, it writes the same codes and takes what was
 * planned: layers streamed, rows fetched, plans that turn out longer, twenty songs and refusals between them. */
#include "made_song.h"

#include "base/memory.h"
#include "song/engine.h"
#include "song/planning.h"

#include <malloc.h>
#include <unistd.h>

/* A planner that is asked for codes only: what it takes is known to the byte. */
#define METADATA "bpm", "96", "keyscale", "F# minor", "timesignature", "4"

static void allow(ace_engine *engine, size_t limit)
{
    engine->limit = limit;
    ace_device_set_limit(engine->dev, limit);
}

/* From the most memory to the least, byte by byte where the plan changes: the same song, in what was planned. */
static void songs_within(const char *precision)
{
    ace_error error = {0};
    ace_memory_plan plan;
    made plain, within;
    ace_engine *engine = open_engine("turbo-planner", precision, 1, 0);
    ace_request *request = make_request("caption", "a song", "lyrics", "[Verse]\nla la la", "duration", "10", "seed",
                                        "7", "batch_size", "2", "inference_steps", "1", METADATA, NULL);
    if (!make(engine, request, &plain, &error)) fail_msg("%s", error.message);
    if (!ace_plan_memory(engine, request, &plan, &error)) fail_msg("%s", error.message);
    assert_int_equal(plan.peak, plain.measured);
    int streamed = 0, fetched = 0, turns = 0, tries = 0;
    for (size_t limit = plan.peak - 1, least = plan.least; limit >= least; limit = plan.peak - 1, tries++) {
        allow(engine, limit);
        if (!ace_plan_memory(engine, request, &plan, &error)) fail_msg("%s", error.message);
        assert_true(plan.planner && plan.peak <= limit && plan.least == least);
        streamed += plan.planner_streamed > 0;
        fetched += plan.planner_fetches;
        turns += plan.planner_songs == 1;
        if (!make(engine, request, &within, &error)) fail_msg("%zu: %s", limit, error.message);
        assert_int_equal(within.planned, within.measured);
        assert_int_equal(within.measured, plan.peak);
        assert_int_equal(within.count, plain.count);
        assert_memory_equal(within.samples, plain.samples, (size_t)plain.count * sizeof *plain.samples);
        free(within.samples);
    }
    printf("%s: %d limits, %d of them streamed, %d fetched, %d in turns\n", precision, tries, streamed, fetched, turns);
    assert_true(streamed > 2 && fetched > 2 && turns > 2);
    allow(engine, plan.least - 1);
    assert_true(ace_request_set(request, "thinking", "true", &error));
    assert_false(ace_plan_memory(engine, request, &plan, &error));
    assert_int_equal(error.status, ACE_ERROR_MEMORY);
    free(plain.samples);
    ace_request_free(request);
    ace_engine_close(engine);
}

static void every_limit_makes_the_same_song(void **state)
{
    (void)state;
    songs_within("bf16");
    if (!SANITIZED) songs_within("f32");
}

/* ---- a plan that turns out longer ------------------------------------------------------------------------------ */

enum { CODES = 40, SHORT_PROMPT = 30, LONG_PROMPT = 140 };

static lm_session_limits limits_for(int64_t prompt)
{
    return (lm_session_limits){.items = 1, .rows = prompt + CODES, .positions = prompt + CODES};
}

/* Codes after a prompt of text; the memory is that of `prompt` tokens, and grows to `later` unless that is 0. */
static song_codes codes_after(ace_engine *engine, int64_t prompt, int64_t later, size_t *planned, size_t *peak)
{
    ace_error error = {0};
    ace_ids ids = {0};
    song_codes list;
    planner_needs needs;
    ace_stage_cost costs[ACE_STAGE_COUNT] = {0};
    planner *p = engine_planner(engine, &error);
    planner_setup setup = {.limits = limits_for(prompt)};
    for (int i = 0; i < LONG_PROMPT; i++) assert_true(ace_ids_append(&ids, i % 200, &error));
    planner_task task = {.profile = LM_PROFILE_DEFAULT,
                         .rules = {.phase = LM_PHASE_CODES, .duration = 10},
                         .prompt = &ids,
                         .sampling = lm_sampling_default()};
    task.sampling.guidance = 1;
    setup.limits.rows += 50 - CODES; /* ten seconds have fifty codes */
    setup.limits.positions += 50 - CODES;
    assert_true(planner_plan(p, &setup, &needs, &error));
    *planned = planner_bytes(&needs) + ace_device_get_stats(engine->dev).workspace;
    if (!planner_begin(p, &setup, NULL, &error)) fail_msg("%s", error.message);
    lm_session_limits larger = limits_for(later + 50 - CODES);
    if (later && !planner_rearrange(p, &larger, &error)) fail_msg("%s", error.message);
    if (!planner_write_codes(p, &task, &(uint64_t){5}, 1, &list, &error)) fail_msg("%s", error.message);
    planner_end(p, costs);
    *peak = costs[ACE_STAGE_PLAN].peak_bytes;
    ace_ids_free(&ids);
    return list;
}

static void a_longer_plan_takes_no_more_memory(void **state)
{
    (void)state;
    size_t planned, peak, small, small_peak;
    ace_engine *engine = open_engine("turbo-planner", "bf16", 1, 0);
    song_codes whole = codes_after(engine, LONG_PROMPT, 0, &planned, &peak);
    assert_int_equal(peak, planned);
    song_codes grown = codes_after(engine, SHORT_PROMPT, LONG_PROMPT, &small, &small_peak);
    assert_true(small < planned); /* or the memory need not have been found elsewhere */
    if (small_peak > small) fail_msg("%zu bytes planned, %zu taken", small, small_peak);
    assert_int_equal(grown.count, 50);
    assert_int_equal(grown.count, whole.count);
    assert_memory_equal(grown.codes, whole.codes, (size_t)whole.count * sizeof *whole.codes);
    free(whole.codes);
    free(grown.codes);

    /* where there is no way it is an error, and the next run is right */
    ace_error error = {0};
    planner *p = engine_planner(engine, &error);
    planner_setup setup = {.limits = limits_for(SHORT_PROMPT)};
    lm_session_limits huge = limits_for(100000);
    if (!planner_begin(p, &setup, NULL, &error)) fail_msg("%s", error.message);
    assert_false(planner_rearrange(p, &huge, &error));
    assert_int_equal(error.status, ACE_ERROR_MEMORY);
    assert_non_null(strstr(error.message, "were planned"));
    planner_end(p, NULL);
    assert_int_equal(ace_device_get_stats(engine->dev).scratch_bytes, 0);
    whole = codes_after(engine, LONG_PROMPT, 0, &planned, &peak);
    assert_int_equal(peak, planned);
    free(whole.codes);
    ace_engine_close(engine);
}

/* ---- many songs ------------------------------------------------------------------------------------------------ */

/* Bytes of the process that lie in memory; what the allocator keeps for later is given back first. */
static size_t resident(void)
{
    long pages = 0;
    malloc_trim(0);
    FILE *file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*d %ld", &pages), 1);
    fclose(file);
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* A song that one of its allocations is refused: an error, or a song all the same. */
static void make_with_a_refusal(ace_engine *engine, const ace_request *request, long nth)
{
    made m;
    ace_error error = {0};
    ace_fault_arm(nth);
    bool ok = make(engine, request, &m, &error);
    ace_fault_arm(0);
    assert_true(ok || (error.status != ACE_OK && error.message[0] != '\0'));
    free(m.samples);
}

/* Whether the process keeps what is freed for a while, as under AddressSanitizer. */
#if defined(__SANITIZE_ADDRESS__)
enum { KEEPS_FREED = 1 };
#else
enum { KEEPS_FREED = 0 };
#endif

static void twenty_planned_songs_do_not_grow(void **state)
{
    (void)state;
    enum { SONGS = SANITIZED ? 8 : 20, LIMITS = 3, SETTLED = 5 };
    ace_error error = {0};
    ace_memory_plan plan;
    made first, m;
    ace_engine *engine = open_engine("turbo-planner", "bf16", 2, 0);
    ace_request *request = make_request("caption", "a song", "duration", "10", "seed", "7", "batch_size", "2",
                                        "inference_steps", "1", METADATA, NULL);
    if (!ace_plan_memory(engine, request, &plan, &error)) fail_msg("%s", error.message);
    const size_t limits[LIMITS] = {0, (plan.least + plan.fastest) / 2, plan.least};
    ace_fault_arm(0);
    if (!make(engine, request, &first, &error)) fail_msg("%s", error.message);
    long calls = ace_fault_arm(0);
    ace_device_stats idle[LIMITS];
    size_t before = 0;
    for (int i = 0; i < SONGS; i++) {
        int l = i % LIMITS;
        allow(engine, limits[l]);
        if (i % 2) make_with_a_refusal(engine, request, calls * (i + 1) / SONGS);
        if (!make(engine, request, &m, &error)) fail_msg("song %d: %s", i, error.message);
        assert_int_equal(m.count, first.count);
        assert_memory_equal(m.samples, first.samples, (size_t)first.count * sizeof *first.samples);
        free(m.samples);
        ace_device_stats now = ace_device_get_stats(engine->dev);
        if (i >= LIMITS) {
            assert_int_equal(now.weight_bytes, idle[l].weight_bytes);
            assert_int_equal(now.scratch_bytes, 0);
            assert_int_equal(now.scratch_held, idle[l].scratch_held);
        }
        idle[l] = now;
        if (i == SETTLED || i == SONGS - 1) {
            allow(engine, limits[LIMITS - 1]); /* to be compared, songs must end alike */
            if (!make(engine, request, &m, &error)) fail_msg("%s", error.message);
            free(m.samples);
            size_t bytes = resident();
            printf("after %d songs: %zu bytes of the process in memory\n", i + 1, bytes);
            if (!KEEPS_FREED && before && bytes > before + (1 << 20)) fail_msg("%zu bytes, %zu before", bytes, before);
            before = bytes;
        }
    }
    free(first.samples);
    ace_request_free(request);
    ace_engine_close(engine);
}

/* ---- ten minutes ----------------------------------------------------------------------------------------------- */

typedef struct long_song {
    uint64_t hash;
    int64_t frames;
} long_song;

static bool hash_audio(void *user, const ace_audio *audio, ace_error *error)
{
    long_song *song = user;
    (void)error;
    for (int64_t i = 0; i < 2 * audio->count; i++) {
        uint32_t bits;
        memcpy(&bits, &audio->samples[i], sizeof bits);
        song->hash = (song->hash ^ bits) * UINT64_C(1099511628211);
    }
    song->frames += audio->count;
    return true;
}

static size_t make_long(ace_engine *engine, const ace_request *request, long_song *song)
{
    ace_error error = {0};
    ace_result result;
    ace_callbacks callbacks = {.user = song, .audio = hash_audio};
    *song = (long_song){.hash = 14695981039346656037u};
    if (!ace_generate(engine, request, &callbacks, &result, &error)) fail_msg("%s", error.message);
    assert_int_equal(result.planned_peak, result.measured_peak);
    size_t peak = result.measured_peak;
    ace_result_free(&result);
    return peak;
}

/* Ten minutes, planned and made in the least memory: the bytes of the song without a limit. With sanitizers one song is
 * made, in the least memory. */
static void ten_minutes_in_the_least_memory(void **state)
{
    (void)state;
    static const char *const variants[] = {"turbo-planner", "xl-turbo"};
    for (int i = 0; i < (SANITIZED ? 1 : 2); i++) {
        ace_error error = {0};
        ace_memory_plan plan;
        long_song plain = {0}, within;
        ace_engine *engine = open_engine(variants[i], "bf16", 1, 0);
        ace_request *request =
            make_request("caption", "a song", "duration", "600", "seed", "7", "inference_steps", "1", METADATA, NULL);
        size_t most = SANITIZED ? SIZE_MAX : make_long(engine, request, &plain);
        if (!ace_plan_memory(engine, request, &plan, &error)) fail_msg("%s", error.message);
        allow(engine, plan.least);
        size_t least = make_long(engine, request, &within);
        printf("%s: %zu bytes at most, %zu at least\n", variants[i], most, least);
        assert_true(least <= plan.least && least < most);
        assert_int_equal(within.frames, 600 * 48000);
        if (!SANITIZED) assert_true(within.frames == plain.frames && within.hash == plain.hash);
        ace_request_free(request);
        ace_engine_close(engine);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_limit_makes_the_same_song),
        cmocka_unit_test(a_longer_plan_takes_no_more_memory),
        cmocka_unit_test(twenty_planned_songs_do_not_grow),
        cmocka_unit_test(ten_minutes_in_the_least_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
