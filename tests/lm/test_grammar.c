/* The grammar by hand: the vectors of spec/lm.md 9.5 and 9.6, each place where the default profile differs from the
 * official one, and the promises about durations and codes. What needs Qwen3's vocabulary is skipped without it. */
#include "lm/lm_grammar_constraint.h"

#include "base/file.h"
#include "base/memory.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define SMALL TEST_DATA "/text/tokenizer.json"
#define QWEN3 SHARED_DATA "/qwen3-tokenizer/tokenizer.json"
#define GENRES TEST_DATA "/lm/grammar_genres.txt"

enum { NEWLINE = 198, SPACE = 220, DIGIT_0 = 15, EOS = 151645, PAD = 151643, CODE_0 = 151669, ROWS = 217204 };

typedef struct fixture {
    ace_tokenizer *small, *qwen3; /* qwen3 is NULL when it is not there */
} fixture;

static int open_tokenizers(void **state)
{
    static fixture f;
    ace_error error = {0};
    f.small = tokenizer_open_json(SMALL, &error);
    if (ace_path_exists(QWEN3)) {
        f.qwen3 = tokenizer_open_json(QWEN3, &error);
        if (!f.qwen3 || !tokenizer_set_audio_codes(f.qwen3, CODE_0, 65535, &error)) return -1;
    }
    *state = &f;
    return f.small ? 0 : -1;
}

static int close_tokenizers(void **state)
{
    fixture *f = *state;
    tokenizer_close(f->small);
    tokenizer_close(f->qwen3);
    return 0;
}

static const ace_tokenizer *need_qwen3(void **state)
{
    fixture *f = *state;
    if (!f->qwen3) {
        print_message("skipped: %s is not there\n", QWEN3);
        skip();
    }
    return f->qwen3;
}

/* ---- a session: a grammar, a plan and a state ----------------------------------------------------------------- */

typedef struct session {
    const ace_tokenizer *tokenizer;
    lm_grammar *grammar;
    lm_grammar_plan *plan;
    lm_grammar_state state;
    lm_grammar_step step;
} session;

static session begin_with(const ace_tokenizer *tokenizer, lm_grammar_options options, lm_grammar_request request)
{
    ace_error error = {0};
    session s = {.tokenizer = tokenizer};
    s.grammar = lm_grammar_new(tokenizer, &options, &error);
    if (!s.grammar) fail_msg("%s", error.message);
    s.plan = lm_grammar_plan_new(s.grammar, &request, &error);
    if (!s.plan) fail_msg("%s", error.message);
    lm_grammar_begin(&s.state, s.plan);
    lm_grammar_next(&s.state, &s.step);
    return s;
}

static session begin(const ace_tokenizer *tokenizer, lm_profile profile, lm_grammar_request request)
{
    return begin_with(tokenizer, (lm_grammar_options){.profile = profile}, request);
}

static void end(session *s)
{
    lm_grammar_plan_free(s->plan);
    lm_grammar_free(s->grammar);
}

static void give(lm_metadata *given, lm_field field, const char *text)
{
    assert_true(lm_metadata_set_text(given, field, lm_slice_of(text), NULL));
}

/* Accepts the forced tokens that are due. */
static void take_run(session *s)
{
    while (s->step.kind == LM_STEP_FORCED) {
        for (size_t i = 0; i < s->step.forced_count; i++) assert_true(lm_grammar_accept(&s->state, s->step.forced[i]));
        lm_grammar_next(&s->state, &s->step);
    }
}

/* Chooses these tokens one after the other; each must be allowed. Runs in between are taken. */
static void choose(session *s, const int32_t *tokens, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        take_run(s);
        if (s->step.kind == LM_STEP_LOOK) {
            lm_grammar_look(&s->state, tokens[i], false);
            lm_grammar_next(&s->state, &s->step);
        }
        if (s->step.kind == LM_STEP_FORCED) { /* what was looked at is forced */
            assert_int_equal(s->step.forced[0], tokens[i]);
            assert_true(lm_grammar_accept(&s->state, tokens[i]));
        } else {
            assert_int_equal(s->step.kind, LM_STEP_CHOOSE);
            assert_true(lm_token_set_contains(s->step.allowed, tokens[i]));
            assert_true(lm_grammar_accept(&s->state, tokens[i]));
        }
        lm_grammar_next(&s->state, &s->step);
    }
}

#define CHOOSE(s, ...) \
    choose(s, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

/* What may be chosen now is exactly this. */
static void check_allowed(const session *s, const int32_t *ids, size_t count)
{
    assert_int_equal(s->step.kind == LM_STEP_CHOOSE || s->step.kind == LM_STEP_LOOK, true);
    for (size_t i = 0; i < count; i++)
        if (!lm_token_set_contains(s->step.allowed, ids[i])) fail_msg("token %d is not allowed", (int)ids[i]);
    assert_int_equal(lm_token_set_size(s->step.allowed), count);
}

#define ALLOWED(s, ...) \
    check_allowed(s, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

/* The forced run is exactly this. */
static void check_run(const session *s, const int32_t *ids, size_t count)
{
    assert_int_equal(s->step.kind, LM_STEP_FORCED);
    assert_int_equal(s->step.forced_count, count);
    for (size_t i = 0; i < count; i++) assert_int_equal(s->step.forced[i], ids[i]);
}

#define RUN(s, ...) \
    check_run(s, (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static const lm_grammar_request phase1 = {.phase = LM_PHASE_COT, .stop_at_reasoning = true, .skip_genres = true};
static const lm_grammar_request understand = {.phase = LM_PHASE_UNDERSTAND};

/* ---- an oracle: the walk-throughs of 9.6 ------------------------------------------------------------------------ */

/* Greedy decoding of a model that knows one text by heart. It recognises the line that it is in by its start ("keysc"),
 * or, at the start of a line, by the whole line before it, and puts all its mass on the natural next token. Where it
 * recognises nothing its best token is the first allowed one. Appends the tokens; returns their text (to be freed). */
static const char *recall(const char *known, const char *written)
{
    const char *line = strrchr(written, '\n');
    line = line ? line + 1 : written;
    bool fresh = *line == '\0';
    const char *key = fresh && line > written ? line - 1 : line;
    while (fresh && key > written && key[-1] != '\n') key--;
    for (const char *at = known; at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL)
        if (strncmp(at, key, strlen(key)) == 0) return at + strlen(key);
    return "";
}

static int32_t wish(const ace_tokenizer *tokenizer, const char *known, const ace_ids *written)
{
    ace_error error = {0};
    ace_text text = {0};
    ace_ids next = {0};
    assert_true(tokenizer_decode(tokenizer, written->data, written->count, &text, &error));
    const char *rest = recall(known, text.data ? text.data : "");
    assert_true(tokenizer_encode(tokenizer, rest, strlen(rest), &next, &error));
    int32_t id = next.count > 0 ? next.data[0] : -1;
    ace_ids_free(&next);
    ace_text_free(&text);
    return id;
}

static char *oracle(const ace_tokenizer *tokenizer, lm_profile profile, const lm_grammar_request *request,
                    const char *known, ace_ids *out)
{
    session s = begin(tokenizer, profile, *request);
    ace_error error = {0};
    for (; s.step.kind != LM_STEP_DONE && out->count < 400; lm_grammar_next(&s.state, &s.step)) {
        if (s.step.kind == LM_STEP_FORCED) {
            for (size_t i = 0; i < s.step.forced_count; i++) {
                assert_true(ace_ids_append(out, s.step.forced[i], NULL));
                lm_grammar_accept(&s.state, s.step.forced[i]);
            }
            continue;
        }
        int32_t best = wish(tokenizer, known, out);
        if (!lm_token_set_contains(s.step.allowed, best)) best = s.step.allowed.ranges[0].first;
        if (s.step.kind == LM_STEP_LOOK)
            lm_grammar_look(&s.state, best, false);
        else if (lm_grammar_accept(&s.state, best))
            assert_true(ace_ids_append(out, best, NULL));
    }
    ace_text text = {0};
    assert_true(tokenizer_decode(tokenizer, out->data, out->count, &text, &error));
    end(&s);
    return ace_text_take(&text, &error);
}

#define CAPTION "A calm piano piece with soft strings and a slow build that never\n  quite resolves."
#define TARGET(between)                                \
    "<think>\nbpm: 96\ncaption: " CAPTION "\n" between \
    "keyscale: F# minor\nlanguage: en\ntimesignature: 4\n</think>\n\n# Lyric\n"

static void check_ids(const ace_ids *ids, const int32_t *expected, size_t count)
{
    assert_int_equal(ids->count, count);
    assert_memory_equal(ids->data, expected, count * sizeof *expected);
}

static void test_walk_a_nothing_given(void **state)
{
    const ace_tokenizer *qwen3 = need_qwen3(state);
    static const int32_t expected[] = {151667, 198,   17808, 76,    25,   220,   24,   21,    198,  23347, 25,
                                       362,    19300, 26278, 6573,  448,  8413,  9069, 323,   264,  6301,  1936,
                                       429,    2581,  198,   220,   5008, 63297, 624,  17021, 25,   220,   16,
                                       20,     19,    198,   10563, 2246, 25,    434,  2,     8922, 198,   11528,
                                       25,     662,   198,   15136, 622,  1568,  25,   220,   19,   198,   151645};
    for (int official = 0; official < 2; official++) {
        ace_ids ids = {0};
        char *text = oracle(qwen3, official ? LM_PROFILE_OFFICIAL : LM_PROFILE_DEFAULT, &phase1,
                            TARGET("duration: 154\n"), &ids);
        int32_t want[55];
        memcpy(want, expected, sizeof want);
        if (!official) { /* D1 */
            want[2] = 65;
            want[3] = 5187;
        }
        check_ids(&ids, want, 55);
        free(text);
        ace_ids_free(&ids);
    }
}

static void test_walk_b_given_and_skipped(void **state)
{
    const ace_tokenizer *qwen3 = need_qwen3(state);
    static const int32_t expected[] = {151667, 198, 17808, 76,  25,   220, 16,    17,   15,  198,   17021,
                                       25,     220, 16,    20,  19,   198, 10563, 2246, 25,  356,   2,
                                       3598,   198, 15136, 622, 1568, 25,  220,   19,   198, 151645};
    lm_metadata given = {0};
    give(&given, LM_BPM, "120");
    give(&given, LM_KEYSCALE, "C# major");
    lm_grammar_request request = phase1;
    request.given = &given;
    request.skip_caption = request.skip_language = true;
    ace_ids ids = {0};
    char *text = oracle(qwen3, LM_PROFILE_OFFICIAL, &request, TARGET("duration: 154\n"), &ids);
    check_ids(&ids, expected, 32);
    assert_string_equal(text, "<think>\nbpm: 120\nduration: 154\nkeyscale: C# major\ntimesignature: 4\n<|im_end|>");
    free(text);
    ace_ids_free(&ids);
    lm_metadata_free(&given);
}

/* C, on the small tokenizer too: values are forced as they are, valid or not. */
static void test_walk_c_given_as_they_are(void **state)
{
    const fixture *f = *state;
    lm_metadata given = {0};
    give(&given, LM_CAPTION, "My own caption.");
    give(&given, LM_KEYSCALE, "Am");
    give(&given, LM_LANGUAGE, "xx");
    lm_grammar_request request = phase1;
    request.given = &given;
    for (int i = 0; i < 4; i++) {
        const ace_tokenizer *tokenizer = i / 2 ? f->qwen3 : f->small;
        if (!tokenizer) continue;
        ace_ids ids = {0};
        char *text = oracle(tokenizer, i % 2 ? LM_PROFILE_OFFICIAL : LM_PROFILE_DEFAULT, &request,
                            TARGET("duration: 154\n"), &ids);
        assert_non_null(strstr(text, "\ncaption: My own caption.\nduration: 154\n"));
        assert_non_null(strstr(text, "\nkeyscale: Am\nlanguage: xx\ntimesignature: 4\n"));
        free(text);
        ace_ids_free(&ids);
    }
    lm_metadata_free(&given);
}

/* D5 in walk-through D: without a list, official loses the key. */
static void test_d5_genres_without_a_list(void **state)
{
    const ace_tokenizer *qwen3 = need_qwen3(state);
    /* the last line lets the oracle go on where it is led astray */
    const char *target = TARGET("duration: 154\ngenres: Neoclassical\n") "eyscale: F# minor\n";
    ace_ids ids = {0};
    char *text = oracle(qwen3, LM_PROFILE_OFFICIAL, &understand, target, &ids);
    assert_non_null(
        strstr(text, "\ngenres: Neoclassical\neyscale: F# minor\nlanguage: en\ntimesignature: 4\n</think>"));
    bool found = false;
    for (size_t i = 0; i + 3 < ids.count; i++)
        found |= ids.data[i] == 198 && ids.data[i + 1] == 1195 && ids.data[i + 2] == 12445 && ids.data[i + 3] == 25;
    assert_true(found);
    free(text);
    ids.count = 0;
    text = oracle(qwen3, LM_PROFILE_DEFAULT, &understand, target, &ids);
    assert_non_null(
        strstr(text, "\ngenres: Neoclassical\nkeyscale: F# minor\nlanguage: en\ntimesignature: 4\n</think>"));
    free(text);
    ace_ids_free(&ids);
}

/* D3 in walk-through E: a caption that is followed by another field than duration. */
static void test_d3_field_after_caption(void **state)
{
    const ace_tokenizer *qwen3 = need_qwen3(state);
    ace_ids ids = {0};
    char *text = oracle(qwen3, LM_PROFILE_OFFICIAL, &phase1, TARGET(""), &ids);
    assert_non_null(strstr(text, "resolves.\nkeyscale: F# minor\n"));
    assert_null(strstr(text, "duration:"));
    free(text);
    ids.count = 0;
    text = oracle(qwen3, LM_PROFILE_DEFAULT, &phase1, TARGET(""), &ids);
    assert_non_null(strstr(text, "resolves.\nduration: "));
    assert_non_null(strstr(text, "\nkeyscale: F# minor\n"));
    free(text);
    ace_ids_free(&ids);
}

/* D4 in walk-through F: a caption that is followed by something unknown. */
static void test_d4_unknown_field_after_caption(void **state)
{
    const ace_tokenizer *qwen3 = need_qwen3(state);
    ace_ids ids = {0};
    char *text = oracle(qwen3, LM_PROFILE_OFFICIAL, &phase1, TARGET("mood: sad\nduration: 154\n"), &ids);
    assert_non_null(strstr(text, "resolves.\nmood:duration:"));
    free(text);
    ids.count = 0;
    text = oracle(qwen3, LM_PROFILE_DEFAULT, &phase1, TARGET("mood: sad\nduration: 154\n"), &ids);
    assert_non_null(strstr(text, "resolves.\nduration:"));
    assert_null(strstr(text, "mood"));
    free(text);
    ace_ids_free(&ids);
}

/* ---- 9.5 and the other differences --------------------------------------------------------------------------------
 */

#define DIGITS(first, last) digits(&s, first, last)

static void digits(const session *s, int first, int last)
{
    int32_t ids[10];
    for (int d = first; d <= last; d++) ids[d - first] = DIGIT_0 + d;
    check_allowed(s, ids, (size_t)(last - first + 1));
}

static void test_d1_names_as_the_tokenizer_writes_them(void **state)
{
    const ace_tokenizer *qwen3 = need_qwen3(state);
    session s = begin(qwen3, LM_PROFILE_OFFICIAL, phase1);
    RUN(&s, 151667, 198, 17808, 76, 25, 220);
    end(&s);
    s = begin(qwen3, LM_PROFILE_DEFAULT, phase1);
    RUN(&s, 151667, 198, 65, 5187, 25, 220);
    end(&s);
}

static void test_bpm(void **state)
{
    session s = begin(need_qwen3(state), LM_PROFILE_DEFAULT, phase1);
    take_run(&s);
    DIGITS(1, 9);
    session start = s;
    CHOOSE(&s, DIGIT_0 + 1);
    DIGITS(0, 9);
    CHOOSE(&s, DIGIT_0);
    DIGITS(0, 9); /* 10 is too slow */
    s.state = start.state, s.step = start.step;
    CHOOSE(&s, DIGIT_0 + 3);
    DIGITS(0, 9);
    session three = s;
    CHOOSE(&s, DIGIT_0);
    ALLOWED(&s, NEWLINE, DIGIT_0);
    CHOOSE(&s, DIGIT_0);
    RUN(&s, NEWLINE, 23347, 25); /* 300 is the end, and the next name follows in the same run */
    s.state = three.state, s.step = three.step;
    CHOOSE(&s, DIGIT_0 + 1);
    RUN(&s, NEWLINE, 23347, 25);
    end(&s);
}

static void test_duration_ends_at_the_maximum(void **state)
{
    const ace_tokenizer *qwen3 = need_qwen3(state);
    lm_metadata given = {0};
    give(&given, LM_BPM, "120");
    lm_grammar_request request = phase1;
    request.given = &given;
    request.skip_caption = true;
    static const struct {
        int maximum, first, second;
    } cases[] = {{600, 6, 0}, {480, 4, 8}, {360, 3, 6}, {240, 2, 4}};
    for (size_t i = 0; i < 4; i++) {
        session s = begin_with(qwen3, (lm_grammar_options){.max_duration = cases[i].maximum}, request);
        RUN(&s, 151667, 198, 65, 5187, 25, 220, 16, 17, 15, 198, 17021, 25, 220);
        take_run(&s);
        CHOOSE(&s, DIGIT_0 + cases[i].first, DIGIT_0 + cases[i].second);
        ALLOWED(&s, NEWLINE, DIGIT_0);
        CHOOSE(&s, DIGIT_0);
        RUN(&s, NEWLINE, 10563, 2246, 25);
        end(&s);
    }
    lm_metadata_free(&given);
}

/* Everything in front of `field` given, the caption left out. */
static session begin_at(const ace_tokenizer *tokenizer, lm_profile profile, lm_field field, lm_metadata *given)
{
    static const char *const values[] = {"120", "A song", "60", "Pop", "C major", "en", "4"};
    for (lm_field f = 0; f < field; f++) give(given, f, values[f]);
    lm_grammar_request request = understand;
    request.given = given;
    session s = begin(tokenizer, profile, request);
    take_run(&s);
    lm_metadata_free(given);
    return s;
}

static void test_keyscale_timesignature_language(void **state)
{
    const ace_tokenizer *qwen3 = need_qwen3(state);
    lm_metadata given = {0};
    session s = begin_at(qwen3, LM_PROFILE_DEFAULT, LM_KEYSCALE, &given), start = s;
    ALLOWED(&s, 356, 362, 422, 425, 434, 468, 479, 3680, 11988, 25570);
    CHOOSE(&s, 356);
    ALLOWED(&s, 3598, 8922, 2, 65, 145346, 145761);
    s.state = start.state, s.step = start.step;
    CHOOSE(&s, 362);
    ALLOWED(&s, 3598, 8922, 2, 145346, 145761);
    s.state = start.state, s.step = start.step;
    CHOOSE(&s, 3680);
    ALLOWED(&s, 3598, 8922);
    CHOOSE(&s, 3598);
    RUN(&s, NEWLINE, 11528, 25);
    take_run(&s);
    assert_int_equal(s.step.kind, LM_STEP_LOOK); /* the language is greedy */
    assert_int_equal(lm_token_set_size(s.step.allowed), LM_LANGUAGE_COUNT);
    lm_grammar_look(&s.state, 379, false);
    lm_grammar_next(&s.state, &s.step);
    RUN(&s, 379, 361, NEWLINE, 15136, 622, 1568, 25, SPACE); /* yue, and all that follows from it */
    take_run(&s);
    ALLOWED(&s, 17, 18, 19, 21);
    CHOOSE(&s, 21);
    RUN(&s, NEWLINE, 151668);
    end(&s);
}

static void test_d12_no_control_tokens_in_a_caption(void **state)
{
    const ace_tokenizer *qwen3 = need_qwen3(state);
    lm_metadata given = {0};
    session s = begin_at(qwen3, LM_PROFILE_OFFICIAL, LM_CAPTION, &given);
    assert_int_equal(lm_token_set_size(s.step.allowed), 153203);
    assert_true(lm_token_set_contains(s.step.allowed, EOS));
    assert_true(lm_token_set_contains(s.step.allowed, CODE_0 + 64000));
    assert_false(lm_token_set_contains(s.step.allowed, 63));
    assert_false(lm_token_set_contains(s.step.allowed, CODE_0 + 63999));
    CHOOSE(&s, EOS);
    assert_int_equal(s.step.kind, LM_STEP_DONE);
    end(&s);
    s = begin_at(qwen3, LM_PROFILE_DEFAULT, LM_CAPTION, &given);
    assert_int_equal(lm_token_set_size(s.step.allowed), 151642);
    assert_false(lm_token_set_contains(s.step.allowed, 63));
    assert_false(lm_token_set_contains(s.step.allowed, PAD));
    assert_true(lm_token_set_contains(s.step.allowed, PAD - 1));
    end(&s);
    s = begin_at(qwen3, LM_PROFILE_DEFAULT, LM_GENRES, &given); /* and none in genres */
    CHOOSE(&s, 11598);
    assert_int_equal(s.step.kind, LM_STEP_LOOK);
    assert_int_equal(lm_token_set_size(s.step.allowed), PAD);
    end(&s);
}

static void test_d3_discarded_token(void **state)
{
    lm_metadata given = {0};
    session s = begin_at(need_qwen3(state), LM_PROFILE_DEFAULT, LM_CAPTION, &given);
    CHOOSE(&s, 362, 624);                             /* " A", ".\n" */
    CHOOSE(&s, SPACE, 5008, NEWLINE);                 /* an indented line goes on with it */
    assert_false(lm_grammar_accept(&s.state, 10563)); /* "keys" does not */
    lm_grammar_next(&s.state, &s.step);
    RUN(&s, 17021, 25, SPACE);
    end(&s);
}

static void test_caption_of_512_tokens(void **state)
{
    const ace_tokenizer *qwen3 = need_qwen3(state);
    lm_metadata given = {0};
    for (int ends_in_newline = 0; ends_in_newline < 2; ends_in_newline++) {
        session s = begin_at(qwen3, LM_PROFILE_DEFAULT, LM_CAPTION, &given);
        for (int i = 0; i < 511; i++) CHOOSE(&s, 5008);
        CHOOSE(&s, ends_in_newline ? 624 : 5008);
        if (ends_in_newline)
            RUN(&s, 17021, 25, SPACE);
        else
            RUN(&s, NEWLINE, 17021, 25, SPACE);
        end(&s);
    }
    session s = begin_at(qwen3, LM_PROFILE_OFFICIAL, LM_CAPTION, &given);
    for (int i = 0; i < 512; i++) CHOOSE(&s, 5008);
    RUN(&s, NEWLINE); /* official looks at the best token before it knows whether the caption is over */
    take_run(&s);
    assert_int_equal(s.step.kind, LM_STEP_LOOK);
    assert_int_equal(lm_token_set_size(s.step.allowed), ROWS);
    end(&s);
}

static void test_free_genres_are_limited(void **state)
{
    lm_metadata given = {0};
    session s = begin_at(need_qwen3(state), LM_PROFILE_DEFAULT, LM_GENRES, &given);
    assert_false(lm_token_set_contains(s.step.allowed, NEWLINE)); /* not while there is nothing */
    CHOOSE(&s, SPACE);
    assert_false(lm_token_set_contains(s.step.allowed, NEWLINE));
    for (int i = 1; i < LM_MAX_GENRES_TOKENS; i++) {
        if (s.step.kind == LM_STEP_LOOK) lm_grammar_look(&s.state, 11598, false);
        lm_grammar_next(&s.state, &s.step);
        CHOOSE(&s, 11598);
    }
    RUN(&s, NEWLINE, 10563, 2246, 25);
    end(&s);
}

static void test_official_newline_must_be_strictly_best(void **state)
{
    const ace_tokenizer *qwen3 = need_qwen3(state);
    lm_metadata given = {0};
    for (int tied = 0; tied < 2; tied++) {
        session s = begin_at(qwen3, LM_PROFILE_OFFICIAL, LM_GENRES, &given);
        CHOOSE(&s, 11598);
        assert_int_equal(s.step.kind, LM_STEP_LOOK);
        lm_grammar_look(&s.state, NEWLINE, tied);
        lm_grammar_next(&s.state, &s.step);
        assert_int_equal(s.step.kind, tied ? LM_STEP_CHOOSE : LM_STEP_FORCED);
        end(&s);
    }
}

/* The list {pop, Pop Rock, "k-pop, hyperpop"} of 9.5. */
static void test_d5_genres_with_a_list(void **state)
{
    const ace_tokenizer *qwen3 = need_qwen3(state);
    char path[] = "/tmp/ace-genres-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    ace_error error = {0};
    static const char list[] = "# a comment\npop\n\n Pop Rock \r\nk-pop, hyperpop";
    assert_true(ace_write_all(fd, list, strlen(list), path, &error));
    lm_metadata given = {0};
    give(&given, LM_DURATION, "60");
    lm_grammar_request request = {.phase = LM_PHASE_UNDERSTAND, .skip_caption = true, .given = &given};
    give(&given, LM_BPM, "100");
    session s = begin_with(qwen3, (lm_grammar_options){LM_PROFILE_OFFICIAL, 0, path}, request), start = s;
    take_run(&s);
    ALLOWED(&s, 42, 47, 74, 79, 2045, 5368, 8374, 11598, 32904, 47262, 148831);
    start = s;
    CHOOSE(&s, 74);
    ALLOWED(&s, 12, 2268, 6913, 9299, 10452, 40252, 69127, 74388);
    s.state = start.state;
    lm_grammar_accept(&s.state, 10400); /* "zz" leads nowhere */
    lm_grammar_next(&s.state, &s.step);
    RUN(&s, NEWLINE, 10563, 2246, 25);
    end(&s);
    /* default: one leading space, and the genre as a whole */
    s = begin_with(qwen3, (lm_grammar_options){LM_PROFILE_DEFAULT, 0, path}, request);
    take_run(&s);
    assert_true(lm_token_set_contains(s.step.allowed, 11598)); /* "Pop" */
    assert_true(lm_token_set_contains(s.step.allowed, 10254)); /* " Pop" */
    assert_true(lm_token_set_contains(s.step.allowed, SPACE));
    assert_false(lm_token_set_contains(s.step.allowed, 256)); /* two spaces */
    CHOOSE(&s, 10254);
    assert_true(lm_token_set_contains(s.step.allowed, NEWLINE));
    assert_true(lm_token_set_contains(s.step.allowed, 9127));   /* " Rock" */
    assert_false(lm_token_set_contains(s.step.allowed, 35052)); /* "Rock" */
    CHOOSE(&s, 9127);
    RUN(&s, NEWLINE, 10563, 2246, 25);
    end(&s);
    close(fd);
    unlink(path);
    lm_metadata_free(&given);
}

/* ---- durations, codes, phases -------------------------------------------------------------------------------------
 */

static uint64_t next_random(uint64_t *random)
{
    uint64_t z = *random += 0x9e3779b97f4a7c15u; /* SplitMix64 */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Logits that prefer the largest digit, and a digit to the end of the number; one token in eight is any other. */
static int32_t largest(const ace_tokenizer *tokenizer, lm_token_set set, uint64_t *random)
{
    int64_t nth = (int64_t)(next_random(random) % (uint64_t)lm_token_set_size(set));
    bool any = next_random(random) % 8 == 0;
    int32_t best = -1;
    int best_digit = -1;
    for (size_t i = 0; i < set.count; i++)
        for (int32_t id = set.ranges[i].first; id < set.ranges[i].end; id++, nth--) {
            size_t n;
            const char *bytes = tokenizer_token_bytes(tokenizer, id, &n);
            int digit = bytes && n == 1 && bytes[0] >= '0' && bytes[0] <= '9' ? bytes[0] : 0;
            if (any ? nth == 0 : digit > best_digit) {
                best = id;
                best_digit = digit;
            }
        }
    return best;
}

/* The seconds that such a model plans. */
static long planned_duration(const lm_grammar *grammar, const ace_tokenizer *tokenizer,
                             const lm_grammar_request *request, uint64_t random)
{
    ace_error error = {0};
    lm_grammar_plan *plan = lm_grammar_plan_new(grammar, request, &error);
    assert_non_null(plan);
    lm_grammar_state s;
    lm_grammar_step step;
    ace_ids ids = {0};
    lm_grammar_begin(&s, plan);
    for (lm_grammar_next(&s, &step); step.kind != LM_STEP_DONE; lm_grammar_next(&s, &step)) {
        if (step.kind == LM_STEP_LOOK) {
            lm_grammar_look(&s, step.allowed.ranges[0].first, false);
            continue;
        }
        if (step.kind == LM_STEP_CHOOSE) {
            step.forced[0] = largest(tokenizer, step.allowed, &random);
            step.forced_count = 1;
        }
        for (size_t i = 0; i < step.forced_count; i++) {
            assert_true(lm_grammar_accept(&s, step.forced[i]));
            assert_true(ace_ids_append(&ids, step.forced[i], NULL));
        }
    }
    ace_text text = {0};
    assert_true(tokenizer_decode(tokenizer, ids.data, ids.count, &text, &error));
    static const char name[] = "\nduration: ";
    const char *duration = strstr(text.data, name);
    assert_non_null(duration);
    char *rest;
    long seconds = strtol(duration + strlen(name), &rest, 10);
    assert_int_equal(*rest, '\n');
    ace_text_free(&text);
    ace_ids_free(&ids);
    lm_grammar_plan_free(plan);
    return seconds;
}

static void test_duration_never_beyond_the_maximum(void **state)
{
    const fixture *f = *state;
    const ace_tokenizer *tokenizer = f->qwen3 ? f->qwen3 : f->small;
    lm_metadata given = {0};
    give(&given, LM_BPM, "120");
    lm_grammar_request request = phase1;
    request.given = &given;
    request.skip_caption = true;
    long longest = 0;
    lm_grammar *grammar = NULL;
    ace_error error = {0};
    for (int run = 0; run < 2000; run++) { /* 1,000 seeds in each profile */
        lm_profile profile = run < 1000 ? LM_PROFILE_DEFAULT : LM_PROFILE_OFFICIAL;
        int maximum = 10 + run / 20 * 7919 % 591; /* another one for each twenty */
        if (run % 20 == 0) {
            lm_grammar_free(grammar);
            grammar = lm_grammar_new(tokenizer, &(lm_grammar_options){profile, maximum, NULL}, &error);
            if (!grammar) fail_msg("%s", error.message);
        }
        long seconds = planned_duration(grammar, tokenizer, &request, (uint64_t)run);
        if (seconds < 10 || seconds > maximum) fail_msg("%ld s, at most %d", seconds, maximum);
        if (seconds > longest) longest = seconds;
    }
    lm_grammar_free(grammar);
    assert_true(longest > 300); /* large numbers were really chosen */
    lm_metadata_free(&given);
}

/* D17: exactly floor(5 * duration) codes, whatever the model would rather do. Official then forces the end; the default
 * profile is done, and has limited the duration first. */
static void test_d17_number_of_codes(void **state)
{
    const fixture *f = *state;
    static const struct {
        double duration;
        int64_t official, limited;
    } cases[] = {{30, 150, 150},  {30.5, 152, 152},  {0.1, 0, 50},      {5, 25, 50},
                 {154, 770, 770}, {600, 3000, 2400}, {900, 4500, 2400}, {10.19, 50, 50}};
    for (int profile = 0; profile < 2; profile++) {
        lm_profile which = profile ? LM_PROFILE_OFFICIAL : LM_PROFILE_DEFAULT;
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            lm_grammar_request request = {.phase = LM_PHASE_CODES, .duration = cases[i].duration};
            session s = begin_with(f->small, (lm_grammar_options){which, 480, NULL}, request);
            int32_t first = tokenizer_audio_first(f->small), eos = tokenizer_added(f->small, "<|im_end|>");
            int64_t count = 0, expected = profile ? cases[i].official : cases[i].limited;
            assert_int_equal(lm_grammar_plan_codes(s.plan), expected);
            for (; s.step.kind == LM_STEP_CHOOSE; lm_grammar_next(&s.state, &s.step)) {
                assert_int_equal(s.step.allowed.count, 1); /* one range: what a restricted head wants */
                assert_int_equal(s.step.allowed.ranges[0].first, first);
                assert_int_equal(lm_token_set_size(s.step.allowed), tokenizer_audio_count(f->small));
                lm_grammar_accept(&s.state, first + (int32_t)(count++ % 100));
            }
            assert_int_equal(count, expected);
            if (profile) {
                RUN(&s, eos);
                take_run(&s);
            }
            assert_int_equal(s.step.kind, LM_STEP_DONE);
            end(&s);
        }
    }
}

/* D11: without a duration the model may stop at any time. D13: never a code behind the codebook. */
static void test_d11_d13_codes_without_a_duration(void **state)
{
    const ace_tokenizer *qwen3 = need_qwen3(state);
    session s = begin(qwen3, LM_PROFILE_DEFAULT, (lm_grammar_request){.phase = LM_PHASE_CODES});
    assert_int_equal(lm_grammar_plan_codes(s.plan), -1);
    assert_int_equal(lm_token_set_size(s.step.allowed), 64001);
    assert_true(lm_token_set_contains(s.step.allowed, CODE_0 + 63999));
    assert_false(lm_token_set_contains(s.step.allowed, CODE_0 + 64000));
    CHOOSE(&s, CODE_0, CODE_0 + 7, EOS);
    assert_int_equal(s.step.kind, LM_STEP_DONE);
    end(&s);
}

/* D13 and D21 behind </think>: official blocks 64,000 codes and stops on <|im_end|>; the default profile blocks all
 * audio tokens and stops on <|endoftext|> too. */
static void test_d13_d21_lyrics(void **state)
{
    const ace_tokenizer *qwen3 = need_qwen3(state);
    for (int official = 0; official < 2; official++) {
        lm_metadata given = {0};
        session s = begin_at(qwen3, official ? LM_PROFILE_OFFICIAL : LM_PROFILE_DEFAULT, LM_FIELD_COUNT, &given);
        assert_int_equal(s.step.kind, LM_STEP_CHOOSE);
        assert_int_equal(lm_token_set_size(s.step.allowed), official ? 153204 : CODE_0);
        CHOOSE(&s, 2, PAD);
        assert_int_equal(s.step.kind, official ? LM_STEP_CHOOSE : LM_STEP_DONE);
        end(&s);
    }
}

/* All fields given: one run from <think> to the end, in pieces of LM_MAX_RUN. */
static void test_everything_given_is_one_run(void **state)
{
    const fixture *f = *state;
    static const char *const values[] = {"120", "A song", "60", "Pop", "C major", "en", "4"};
    lm_metadata given = {0};
    for (lm_field field = 0; field < LM_FIELD_COUNT; field++) give(&given, field, values[field]);
    lm_grammar_request request = {.phase = LM_PHASE_COT, .stop_at_reasoning = true, .given = &given};
    session s = begin(f->small, LM_PROFILE_DEFAULT, request);
    ace_ids ids = {0};
    for (; s.step.kind == LM_STEP_FORCED; lm_grammar_next(&s.state, &s.step))
        for (size_t i = 0; i < s.step.forced_count; i++) {
            assert_true(ace_ids_append(&ids, s.step.forced[i], NULL));
            lm_grammar_accept(&s.state, s.step.forced[i]);
        }
    assert_int_equal(s.step.kind, LM_STEP_DONE);
    ace_text text = {0};
    ace_error error = {0};
    assert_true(tokenizer_decode(f->small, ids.data, ids.count, &text, &error));
    assert_string_equal(text.data, "<think>\nbpm: 120\ncaption: A song\nduration: 60\ngenres: Pop\nkeyscale: C major\n"
                                   "language: en\ntimesignature: 4\n<|im_end|>");
    ace_text_free(&text);
    ace_ids_free(&ids);
    end(&s);
    lm_metadata_free(&given);
}

/* A state is a plain struct: two copies of it go their own ways. */
static void test_states_are_independent(void **state)
{
    session s = begin(need_qwen3(state), LM_PROFILE_DEFAULT, phase1);
    take_run(&s);
    lm_grammar_state other = s.state;
    CHOOSE(&s, DIGIT_0 + 3, DIGIT_0 + 1);
    lm_grammar_step step;
    lm_grammar_next(&other, &step);
    assert_int_equal(step.kind, LM_STEP_CHOOSE);
    assert_int_equal(lm_token_set_size(step.allowed), 9);
    RUN(&s, NEWLINE, 23347, 25);
    end(&s);
}

/* What the engine sees of a plan is what the plan says. */
static void test_constraint(void **state)
{
    session s = begin(need_qwen3(state), LM_PROFILE_DEFAULT, phase1);
    lm_grammar_item item;
    lm_constraint rules = lm_grammar_constraint(&item, s.plan);
    lm_next next;
    static const int32_t choices[] = {DIGIT_0 + 9, DIGIT_0 + 6, 362, 624,  10563,
                                      DIGIT_0 + 6, DIGIT_0 + 1, 356, 3598, 662};
    size_t chosen = 0;
    for (rules.next(rules.context, &next); next.kind != LM_NEXT_DONE; rules.next(rules.context, &next)) {
        assert_int_equal(next.kind == LM_NEXT_FORCED, s.step.kind == LM_STEP_FORCED);
        assert_int_equal(next.kind == LM_NEXT_LOOK, s.step.kind == LM_STEP_LOOK);
        if (next.kind == LM_NEXT_FORCED) {
            check_run(&s, next.forced, (size_t)next.forced_count);
            for (int64_t i = 0; i < next.forced_count; i++) assert_true(rules.accept(rules.context, next.forced[i]));
            take_run(&s);
            continue;
        }
        assert_int_equal(lm_token_set_size(next.allowed), lm_token_set_size(s.step.allowed));
        int32_t token = chosen < sizeof choices / sizeof *choices ? choices[chosen++] : DIGIT_0 + 4;
        if (next.kind == LM_NEXT_LOOK) {
            rules.look(rules.context, token, false);
            lm_grammar_look(&s.state, token, false);
        } else {
            assert_true(lm_token_set_contains(next.allowed, token));
            assert_int_equal(rules.accept(rules.context, token), lm_grammar_accept(&s.state, token));
        }
        lm_grammar_next(&s.state, &s.step);
    }
    assert_int_equal(s.step.kind, LM_STEP_DONE);
    assert_int_equal(chosen, sizeof choices / sizeof *choices);
    end(&s);
}

/* ---- refusals ------------------------------------------------------------------------------------------------- */

static void refuse_options(const ace_tokenizer *tokenizer, lm_grammar_options options, ace_status status,
                           const char *part)
{
    ace_error error = {0};
    assert_null(lm_grammar_new(tokenizer, &options, &error));
    assert_int_equal(error.status, status);
    if (!strstr(error.message, part)) fail_msg("\"%s\" does not say \"%s\"", error.message, part);
}

static void refuse_request(const lm_grammar *grammar, lm_grammar_request request, const char *part)
{
    ace_error error = {0};
    assert_null(lm_grammar_plan_new(grammar, &request, &error));
    assert_int_equal(error.status, ACE_ERROR_USAGE);
    if (!strstr(error.message, part)) fail_msg("\"%s\" does not say \"%s\"", error.message, part);
}

static void write_list(const char *path, const char *bytes)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    fputs(bytes, file);
    fclose(file);
}

static void test_refusals(void **state)
{
    const fixture *f = *state;
    refuse_options(f->small, (lm_grammar_options){.max_duration = 9}, ACE_ERROR_USAGE, "9 s");
    refuse_options(f->small, (lm_grammar_options){.max_duration = 601}, ACE_ERROR_USAGE, "601 s");
    refuse_options(f->small, (lm_grammar_options){.genres_path = "/nowhere/genres.txt"}, ACE_ERROR_IO, "genres.txt");
    char path[] = "/tmp/ace-genres-XXXXXX";
    close(mkstemp(path));
    lm_grammar_options list = {.genres_path = path};
    write_list(path, "pop\nro\xff"
                     "ck\n");
    refuse_options(f->small, list, ACE_ERROR_FORMAT, "not UTF-8 at byte 6");
    write_list(path, "# nothing\n \n");
    refuse_options(f->small, list, ACE_ERROR_FORMAT, "names no genre");
    write_list(path, "pop\nr\xef\xbf\xbd"
                     "ck\n");
    refuse_options(f->small, list, ACE_ERROR_FORMAT, "line 2");
    char wide[600];
    memset(wide, 'a', sizeof wide - 1);
    wide[sizeof wide - 1] = '\0';
    write_list(path, wide);
    refuse_options(f->small, list, ACE_ERROR_FORMAT, "line 1");
    unlink(path);

    ace_error error = {0};
    lm_grammar *grammar = lm_grammar_new(f->small, &(lm_grammar_options){0}, &error);
    assert_non_null(grammar);
    refuse_request(grammar, (lm_grammar_request){.phase = LM_PHASE_CODES, .duration = (double)NAN}, "nan");
    refuse_request(grammar, (lm_grammar_request){.phase = LM_PHASE_CODES, .duration = 1e300}, "1e+300");
    lm_metadata given = {0};
    give(&given, LM_KEYSCALE, "C<|im_end|>");
    refuse_request(grammar, (lm_grammar_request){.given = &given}, "keyscale contains a control token");
    lm_metadata_free(&given);
    lm_grammar_free(grammar);
}

/* A tokenizer without audio codes is not a planner's. */
static void test_other_tokenizers_are_refused(void **state)
{
    (void)state;
    if (!ace_path_exists(QWEN3)) skip();
    ace_error error = {0};
    ace_tokenizer *plain = tokenizer_open_json(QWEN3, &error);
    assert_non_null(plain);
    refuse_options(plain, (lm_grammar_options){0}, ACE_ERROR_MODEL, "no audio codes");
    tokenizer_close(plain);
}

/* Wherever memory or a file is refused there is an error and nothing is left behind (the sanitizer looks). */
static void test_faults(void **state)
{
    const fixture *f = *state;
    lm_metadata given = {0};
    give(&given, LM_KEYSCALE, "C major");
    lm_grammar_request request = understand;
    request.given = &given;
    long n = 1;
    for (bool done = false; !done; n += n < 200 ? 1 : 37) {
        ace_error error = {0};
        ace_fault_arm(n);
        lm_grammar *grammar = lm_grammar_new(f->small, &(lm_grammar_options){.genres_path = GENRES}, &error);
        lm_grammar_plan *plan = grammar ? lm_grammar_plan_new(grammar, &request, &error) : NULL;
        long calls = ace_fault_arm(0);
        done = plan != NULL;
        if (done) assert_true(calls < n);
        if (!done) assert_true(error.status == ACE_ERROR_MEMORY || error.status == ACE_ERROR_IO);
        lm_grammar_plan_free(plan);
        lm_grammar_free(grammar);
    }
    assert_true(n > 100);
    lm_metadata_free(&given);
}

static void test_opens_fast(void **state)
{
    const ace_tokenizer *qwen3 = need_qwen3(state);
    for (int genres = 0; genres < 2; genres++) {
        clock_t start = clock();
        ace_error error = {0};
        lm_grammar *grammar =
            lm_grammar_new(qwen3, &(lm_grammar_options){.genres_path = genres ? GENRES : NULL}, &error);
        print_message("the grammar%s opened in %.3f s\n", genres ? " with genres" : "",
                      (double)(clock() - start) / CLOCKS_PER_SEC);
        assert_non_null(grammar);
        lm_grammar_free(grammar);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_walk_a_nothing_given),
        cmocka_unit_test(test_walk_b_given_and_skipped),
        cmocka_unit_test(test_walk_c_given_as_they_are),
        cmocka_unit_test(test_d5_genres_without_a_list),
        cmocka_unit_test(test_d3_field_after_caption),
        cmocka_unit_test(test_d4_unknown_field_after_caption),
        cmocka_unit_test(test_d1_names_as_the_tokenizer_writes_them),
        cmocka_unit_test(test_bpm),
        cmocka_unit_test(test_duration_ends_at_the_maximum),
        cmocka_unit_test(test_keyscale_timesignature_language),
        cmocka_unit_test(test_d12_no_control_tokens_in_a_caption),
        cmocka_unit_test(test_d3_discarded_token),
        cmocka_unit_test(test_caption_of_512_tokens),
        cmocka_unit_test(test_free_genres_are_limited),
        cmocka_unit_test(test_official_newline_must_be_strictly_best),
        cmocka_unit_test(test_d5_genres_with_a_list),
        cmocka_unit_test(test_duration_never_beyond_the_maximum),
        cmocka_unit_test(test_d17_number_of_codes),
        cmocka_unit_test(test_d11_d13_codes_without_a_duration),
        cmocka_unit_test(test_d13_d21_lyrics),
        cmocka_unit_test(test_everything_given_is_one_run),
        cmocka_unit_test(test_states_are_independent),
        cmocka_unit_test(test_constraint),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_other_tokenizers_are_refused),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_opens_fast),
    };
    return cmocka_run_group_tests_name("lm/grammar", tests, open_tokenizers, close_tokenizers);
}
