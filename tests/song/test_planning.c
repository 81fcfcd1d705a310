/* The planner against the official program: the same requests, the same tiny planner, in float32 and without chance
 * (tools/reference/make_planning_goldens.py), in both profiles. Not a token may differ. */
#include "song/song_fixture.h"

#include "base/memory.h"
#include "lm/lm_parse.h"
#include "lm/lm_prompt.h"
#include "model/checkpoint.h"
#include "song/planning.h"

#include <jansson.h>

static json_t *load_cases(void)
{
    json_error_t problem;
    json_t *cases = json_load_file(TEST_DATA "/song/planning.json", 0, &problem);
    if (!cases) fail_msg("planning.json: %s", problem.text);
    assert_true(json_array_size(cases) >= 39);
    return cases;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static bool listed(const json_t *list, const char *word)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_array_get(list, i)), word) == 0) return true;
    return false;
}

/* ---- what we make of a request --------------------------------------------------------------------------------- */

static ace_request *request_of(const json_t *test, const char *profile)
{
    ace_error error = {0};
    char *json = json_dumps(json_object_get(test, "request"), 0);
    ace_request *request = make_request("seed", "1", "lm_temperature", "0", "lm_cfg_scale", "1", NULL);
    if (!ace_request_set_json(request, json, strlen(json), &error)) fail_msg("%s", error.message);
    assert_true(ace_request_set(request, "lm_profile", profile, &error));
    free(json);
    return request;
}

typedef struct heard {
    int count;
    char words[8][256];
} heard;

static void hear(void *user, const char *sentence)
{
    heard *h = user;
    assert_true(h->count < 8);
    snprintf(h->words[h->count++], sizeof h->words[0], "%s", sentence);
}

static bool heard_of(const heard *h, const char *word)
{
    for (int i = 0; i < h->count; i++)
        if (strstr(h->words[i], word)) return true;
    return false;
}

/* The songs of a case: one, or one for each of a batch. */
static int use_planner(ace_engine *engine, const json_t *test, const char *profile, heard *h, ace_request *songs[8])
{
    ace_error error = {0};
    ace_callbacks callbacks = {.user = h, .warning = hear};
    ace_request *request = request_of(test, profile);
    const char *use = text_of(test, "use"), *name = text_of(test, "name");
    int count = 1;
    songs[0] = NULL;
    if (strcmp(use, "compose") == 0) {
        ace_composition c;
        if (!ace_compose(engine, request, &callbacks, &c, &error)) fail_msg("%s, %s: %s", name, profile, error.message);
        count = c.count;
        memcpy(songs, c.songs, sizeof c.songs);
    } else if (strcmp(use, "write") == 0) {
        songs[0] = ace_write(engine, request, &callbacks, &error);
    } else if (strcmp(use, "format") == 0) {
        songs[0] = ace_format(engine, request, &callbacks, &error);
    } else {
        songs[0] = ace_understand(engine, NULL, request, &callbacks, &error);
    }
    if (!songs[0]) fail_msg("%s, %s: %s", name, profile, error.message);
    ace_request_free(request);
    return count;
}

static char *value_of(const ace_request *request, const char *field)
{
    ace_error error = {0};
    char *value = ace_request_get(request, field, &error);
    assert_non_null(value);
    return value;
}

static void check_field(const char *where, const ace_request *song, const json_t *golden, const char *field)
{
    json_t *expected = listed(json_object_get(golden, "refused"), field)
                           ? NULL
                           : json_object_get(json_object_get(golden, "song"), field);
    char *value = value_of(song, field);
    bool same = json_is_number(expected) ? *value && strtod(value, NULL) == json_number_value(expected)
                                         : strcmp(value, expected ? json_string_value(expected) : "") == 0;
    /* no language and the language "unknown" are one */
    if (strcmp(field, "vocal_language") == 0 && !same)
        same = (!*value || strcmp(value, "unknown") == 0) &&
               (!expected || strcmp(json_string_value(expected), "unknown") == 0);
    if (!same) {
        char *theirs = expected ? json_dumps(expected, JSON_ENCODE_ANY | JSON_ENSURE_ASCII) : NULL;
        fail_msg("%s: %s is\n%.400s\nand not\n%.400s", where, field, value, theirs ? theirs : "unset");
    }
    free(value);
}

static void check_codes(const char *where, const ace_request *song, const json_t *expected)
{
    ace_error error = {0};
    char *text = value_of(song, "audio_codes");
    int32_t *codes;
    size_t count, clamped;
    if (!lm_parse_codes(text, strlen(text), &codes, &count, &clamped, &error)) fail_msg("%s: %s", where, error.message);
    for (size_t i = 0; i < count && i < json_array_size(expected); i++)
        if (codes[i] != json_integer_value(json_array_get(expected, i)))
            fail_msg("%s: code %zu of %zu is %d and not %lld", where, i, count, codes[i],
                     (long long)json_integer_value(json_array_get(expected, i)));
    if (count != json_array_size(expected))
        fail_msg("%s: %zu codes and not %zu", where, count, json_array_size(expected));
    free(codes);
    free(text);
}

/* With sanitizers a request is planned in one profile, the next one in the other. */
static bool is_tried(const json_t *test, size_t nth, const char *profile)
{
    if (!json_object_get(test, profile)) return false;
    bool both = json_object_get(test, "official") && json_object_get(test, "default");
    return !SANITIZED || !both || (nth % 2 == 0) == (strcmp(profile, "official") == 0);
}

/* ---- beside theirs --------------------------------------------------------------------------------------------- */

static void check_case(ace_engine *engine, const json_t *test, const char *profile)
{
    static const char *const fields[] = {"bpm",           "keyscale", "caption",       "lyrics",
                                         "timesignature", "duration", "vocal_language"};
    const json_t *golden = json_object_get(test, profile);
    char where[128];
    heard h = {0};
    ace_request *songs[8];
    int count = use_planner(engine, test, profile, &h, songs);
    bool compose = strcmp(text_of(test, "use"), "compose") == 0;
    const json_t *batch = json_object_get(json_object_get(test, "request"), "batch_size");
    assert_int_equal(count, batch ? json_integer_value(batch) : 1);
    for (int i = 0; i < count; i++) {
        snprintf(where, sizeof where, "%s, %s, song %d", text_of(test, "name"), profile, i + 1);
        for (size_t f = 0; f < sizeof fields / sizeof *fields; f++) {
            check_field(where, songs[i], golden, fields[f]);
            assert_int_equal(heard_of(&h, fields[f]), listed(json_object_get(golden, "refused"), fields[f]));
        }
        if (compose) check_codes(where, songs[i], json_object_get(golden, "codes"));
        ace_request_free(songs[i]);
    }
}

static void the_planner_plans_as_the_official_program_does(void **state)
{
    const char *profile = *state;
    json_t *cases = load_cases();
    ace_engine *engine = open_engine("turbo-planner", "f32", 1, 0);
    int compared = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        if (!is_tried(json_array_get(cases, i), i, profile)) continue;
        check_case(engine, json_array_get(cases, i), profile);
        compared++;
    }
    assert_true(compared >= (SANITIZED ? 15 : 33));
    ace_engine_close(engine);
    json_decref(cases);
}

/* Each difference of the profiles that a random model can meet is met by some request. */
static void the_requests_meet_the_differences(void **state)
{
    (void)state;
    static const char *const names[] = {"D1", "D3", "D5", "D8", "D10", "D12", "D13", "D23"};
    json_t *cases = load_cases();
    int same = 0;
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        bool met = false;
        for (size_t i = 0; i < json_array_size(cases); i++)
            met |= listed(json_object_get(json_object_get(json_array_get(cases, i), "default"), "met"), names[n]);
        if (!met) fail_msg("no request meets %s", names[n]);
    }
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *ours = json_object_get(json_array_get(cases, i), "default");
        const json_t *theirs = json_object_get(json_array_get(cases, i), "official");
        if (!ours || !theirs || json_array_size(json_object_get(ours, "met")) > 0) continue;
        assert_true(json_equal(json_object_get(ours, "song"), json_object_get(theirs, "song")));
        assert_true(json_equal(json_object_get(ours, "codes"), json_object_get(theirs, "codes")));
        same++;
    }
    assert_true(same >= 3);
    json_decref(cases);
}

/* ---- prompts, token by token ----------------------------------------------------------------------------------- */

static void check_prompt(const char *where, const ace_tokenizer *tokenizer, char *prompt, const json_t *expected)
{
    ace_error error = {0};
    ace_ids ids = {0};
    if (!prompt || !lm_prompt_encode(tokenizer, prompt, 0, PLANNER_CONTEXT, &ids, &error))
        fail_msg("%s: %s", where, error.message);
    assert_int_equal(ids.count, json_array_size(expected));
    for (size_t i = 0; i < ids.count; i++)
        if (ids.data[i] != json_integer_value(json_array_get(expected, i)))
            fail_msg("%s: token %zu is %d", where, i, ids.data[i]);
    ace_ids_free(&ids);
    free(prompt);
}

/* Their text of phase 1 is read, and becomes the prompt of phase 2. */
static void check_prompts(const json_t *test, const char *profile, const ace_tokenizer *tokenizer)
{
    ace_error error = {0};
    const json_t *golden = json_object_get(test, profile), *text = json_object_get(golden, "text");
    const json_t *prompt = json_object_get(golden, "prompt"), *codes = json_object_get(golden, "codes_prompt");
    const json_t *negative = json_object_get(golden, "negative_prompt");
    lm_profile kind = strcmp(profile, "official") == 0 ? LM_PROFILE_OFFICIAL : LM_PROFILE_DEFAULT;
    ace_request *request = request_of(test, profile);
    lm_request given = planning_request(request);
    lm_metadata own = {0}, planned = {0};
    const char *where = text_of(test, "name");
    assert_true(lm_metadata_for_generation(&given, &own, &error));
    if (prompt) check_prompt(where, tokenizer, lm_prompt_plan(given.caption, given.lyrics, &error), prompt);
    if (text) {
        const char *written = json_string_value(text);
        if (!lm_parse_metadata(kind, written, strlen(written), &own, &planned, &error)) fail_msg("%s", error.message);
    } else {
        assert_true(lm_metadata_copy(&planned, &own, &error));
    }
    if (codes) check_prompt(where, tokenizer, lm_prompt_codes(given.caption, given.lyrics, &planned, &error), codes);
    if (negative) {
        char *words = value_of(request, "lm_negative_prompt");
        check_prompt(where, tokenizer, lm_prompt_codes_unconditional(words, &error), negative);
        free(words);
    }
    lm_metadata_free(&own);
    lm_metadata_free(&planned);
    ace_request_free(request);
}

static void prompts_are_theirs_token_by_token(void **state)
{
    (void)state;
    ace_error error = {0};
    ace_checkpoint_paths paths = {.model = TINY_CHECKPOINTS "/turbo-planner"};
    ace_checkpoint *checkpoint = checkpoint_open(&paths, &error);
    ace_tokenizer *tokenizer = checkpoint ? checkpoint_lm_tokenizer(checkpoint, &error) : NULL;
    if (!tokenizer) fail_msg("%s", error.message);
    json_t *cases = load_cases();
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *test = json_array_get(cases, i);
        if (strcmp(text_of(test, "use"), "compose") != 0) continue;
        if (json_object_get(test, "official")) check_prompts(test, "official", tokenizer);
        if (json_object_get(test, "default")) check_prompts(test, "default", tokenizer);
    }
    json_decref(cases);
    tokenizer_close(tokenizer);
    checkpoint_close(checkpoint);
}

/* ---- what a request cannot hold -------------------------------------------------------------------------------- */

static void a_value_that_no_request_can_hold_is_left_out_with_a_warning(void **state)
{
    (void)state;
    char caption[] = "a\001 song\x7f", lyrics[] = "la", key[] = "Am", language[] = "xx", time[] = "12", none[] = "";
    lm_song song = {.caption = caption,
                    .lyrics = lyrics,
                    .keyscale = key,
                    .language = language,
                    .timesignature = time,
                    .bpm = 20,
                    .duration = 5};
    static const char *const wrong[] = {"keyscale", "vocal_language", "timesignature", "bpm", "duration"};
    heard h = {0};
    job_warnings warnings = {hear, &h};
    ace_error error = {0};
    ace_request *request = make_request("bpm", "90", "timesignature", "3", NULL);
    assert_true(planning_put_song(request, &song, &warnings, &error));
    assert_int_equal(h.count, 5);
    for (int i = 0; i < 5; i++)
        if (!heard_of(&h, wrong[i])) fail_msg("no warning of %s", wrong[i]);
    char *json = ace_request_to_json(request, &error);
    assert_non_null(json);
    json_t *object = json_loads(json, 0, NULL);
    assert_string_equal(text_of(object, "caption"), "a song");
    assert_string_equal(text_of(object, "lyrics"), "la");
    assert_int_equal(json_integer_value(json_object_get(object, "bpm")), 90);
    assert_null(json_object_get(object, "keyscale"));
    assert_null(json_object_get(object, "vocal_language"));
    assert_null(json_object_get(object, "duration"));
    json_decref(object);
    free(json);
    song = (lm_song){.caption = none, .lyrics = none, .keyscale = none, .language = none, .timesignature = none};
    assert_true(planning_put_song(request, &song, &warnings, &error));
    assert_int_equal(h.count, 5); /* nothing known is nothing wrong */
    ace_request_free(request);
}

int main(void)
{
    static char official[] = "official", ours[] = "default";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(the_planner_plans_as_the_official_program_does, official),
        cmocka_unit_test_prestate(the_planner_plans_as_the_official_program_does, ours),
        cmocka_unit_test(the_requests_meet_the_differences),
        cmocka_unit_test(prompts_are_theirs_token_by_token),
        cmocka_unit_test(a_value_that_no_request_can_hold_is_left_out_with_a_warning),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
