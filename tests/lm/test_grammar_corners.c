/* The grammar where the walks never or hardly ever go: what must not happen, what is not said, and what is equal. */
#include "lm/lm_grammar_constraint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SMALL TEST_DATA "/text/tokenizer.json"

typedef struct session {
    lm_grammar *grammar;
    lm_grammar_plan *plan;
    lm_grammar_state state;
    lm_grammar_step step;
} session;

static int open_tokenizer(void **state)
{
    ace_error error = {0};
    *state = tokenizer_open_json(SMALL, &error);
    return *state ? 0 : -1;
}

static int close_tokenizer(void **state)
{
    tokenizer_close(*state);
    return 0;
}

static int32_t token_of(const ace_tokenizer *tokenizer, const char *text)
{
    ace_error error = {0};
    ace_ids ids = {0};
    assert_true(tokenizer_encode(tokenizer, text, strlen(text), &ids, &error));
    assert_int_equal(ids.count, 1);
    int32_t id = ids.data[0];
    ace_ids_free(&ids);
    return id;
}

/* The token of one byte. */
static int32_t byte_token(const ace_tokenizer *tokenizer, char byte)
{
    for (int32_t id = 0; id < tokenizer_limit(tokenizer); id++) {
        size_t n = 0;
        const char *bytes = tokenizer_token_bytes(tokenizer, id, &n);
        if (bytes && n == 1 && bytes[0] == byte) return id;
    }
    fail_msg("no token for byte %d", byte);
    return -1;
}

static session begin(const ace_tokenizer *tokenizer, lm_grammar_options options, lm_grammar_request request)
{
    ace_error error = {0};
    session s = {.grammar = lm_grammar_new(tokenizer, &options, &error)};
    if (s.grammar) s.plan = lm_grammar_plan_new(s.grammar, &request, &error);
    if (!s.plan) fail_msg("%s", error.message);
    lm_grammar_begin(&s.state, s.plan);
    lm_grammar_next(&s.state, &s.step);
    return s;
}

static void end(session *s)
{
    lm_grammar_plan_free(s->plan);
    lm_grammar_free(s->grammar);
}

static void take_run(session *s)
{
    while (s->step.kind == LM_STEP_FORCED) {
        for (size_t i = 0; i < s->step.forced_count; i++) assert_true(lm_grammar_accept(&s->state, s->step.forced[i]));
        lm_grammar_next(&s->state, &s->step);
    }
}

static void choose(session *s, int32_t token)
{
    take_run(s);
    assert_int_equal(s->step.kind, LM_STEP_CHOOSE);
    assert_true(lm_token_set_contains(s->step.allowed, token));
    assert_true(lm_grammar_accept(&s->state, token));
    lm_grammar_next(&s->state, &s->step);
}

/* A caller that does not keep to the rules writes a value that is none: the line ends, and all goes on (4.5). */
static void a_dead_end_ends_the_line(void **state)
{
    const ace_tokenizer *tokenizer = *state;
    for (int profile = 0; profile < 2; profile++) {
        lm_profile which = profile ? LM_PROFILE_OFFICIAL : LM_PROFILE_DEFAULT;
        lm_grammar_request request = {.phase = LM_PHASE_COT, .stop_at_reasoning = true, .skip_caption = true};
        session s = begin(tokenizer, (lm_grammar_options){.profile = which}, request);
        take_run(&s);
        assert_int_equal(s.step.kind, LM_STEP_CHOOSE);
        assert_true(lm_grammar_accept(&s.state, token_of(tokenizer, "z")));
        lm_grammar_next(&s.state, &s.step);
        assert_int_equal(s.step.kind, LM_STEP_FORCED);
        assert_int_equal(s.step.forced[0], token_of(tokenizer, "\n"));
        take_run(&s);
        assert_int_equal(s.state.field, LM_DURATION);
        end(&s);
    }
}

/* 600 s is the longest song when nothing is said. */
static void without_a_maximum_it_is_600(void **state)
{
    const ace_tokenizer *tokenizer = *state;
    lm_metadata given = {0};
    assert_true(lm_metadata_set_text(&given, LM_BPM, lm_slice_of("120"), NULL));
    lm_grammar_request request = {.phase = LM_PHASE_COT, .skip_caption = true, .given = &given};
    session s = begin(tokenizer, (lm_grammar_options){0}, request);
    int32_t zero = token_of(tokenizer, "0");
    choose(&s, token_of(tokenizer, "6"));
    choose(&s, zero);
    assert_true(lm_token_set_contains(s.step.allowed, zero));
    assert_int_equal(lm_token_set_size(s.step.allowed), 2); /* 600, and the end of 60 */
    choose(&s, zero);
    assert_int_equal(s.step.kind, LM_STEP_FORCED);
    assert_int_equal(s.step.forced[0], token_of(tokenizer, "\n"));
    end(&s);
    lm_metadata_free(&given);
}

/* D5: in the default profile a line feed as good as another token ends the genres; official wants it to be better. */
static void d5_an_equal_line_feed_ends_the_genres(void **state)
{
    const ace_tokenizer *tokenizer = *state;
    lm_metadata given = {0};
    assert_true(lm_metadata_set_text(&given, LM_BPM, lm_slice_of("120"), NULL));
    assert_true(lm_metadata_set_text(&given, LM_DURATION, lm_slice_of("30"), NULL));
    lm_grammar_request request = {.phase = LM_PHASE_UNDERSTAND, .skip_caption = true, .given = &given};
    int32_t newline = token_of(tokenizer, "\n");
    for (int profile = 0; profile < 2; profile++) {
        lm_profile which = profile ? LM_PROFILE_OFFICIAL : LM_PROFILE_DEFAULT;
        session s = begin(tokenizer, (lm_grammar_options){.profile = which}, request);
        choose(&s, token_of(tokenizer, "z"));
        assert_int_equal(s.step.kind, LM_STEP_LOOK);
        lm_grammar_item item;
        lm_constraint rules = lm_grammar_constraint(&item, s.plan);
        item.state = s.state;
        rules.look(rules.context, newline, true);
        lm_grammar_look(&s.state, newline, true);
        lm_grammar_next(&s.state, &s.step);
        lm_next next;
        rules.next(rules.context, &next); /* the engine's way says the same */
        assert_int_equal(next.kind, profile ? LM_NEXT_CHOOSE : LM_NEXT_FORCED);
        assert_int_equal(s.step.kind, profile ? LM_STEP_CHOOSE : LM_STEP_FORCED);
        if (!profile) assert_int_equal(s.step.forced[0], newline);
        end(&s);
    }
    lm_metadata_free(&given);
}

/* Official: the field that the model names behind its caption, letter by letter. */
static lm_field named(const ace_tokenizer *tokenizer, const char *name)
{
    lm_metadata given = {0};
    assert_true(lm_metadata_set_text(&given, LM_BPM, lm_slice_of("9"), NULL));
    lm_grammar_request request = {.phase = LM_PHASE_COT, .skip_genres = true, .given = &given};
    session s = begin(tokenizer, (lm_grammar_options){.profile = LM_PROFILE_OFFICIAL}, request);
    choose(&s, token_of(tokenizer, "x"));
    choose(&s, token_of(tokenizer, "\n"));
    assert_int_equal(s.step.kind, LM_STEP_LOOK);
    lm_grammar_look(&s.state, byte_token(tokenizer, name[0]), false);
    lm_grammar_next(&s.state, &s.step);
    for (const char *byte = name; *byte; byte++) choose(&s, byte_token(tokenizer, *byte));
    bool forced = s.step.kind == LM_STEP_FORCED && s.step.forced[0] != token_of(tokenizer, " ");
    lm_field field = s.state.field;
    end(&s);
    lm_metadata_free(&given);
    return forced ? LM_FIELD_COUNT : field; /* forced: none that it knows, so the next one's name is written */
}

/* As the official class has it: neither a space within a name nor a character in pieces is overlooked. */
static void official_knows_whole_names_only(void **state)
{
    const ace_tokenizer *tokenizer = *state;
    assert_int_equal(named(tokenizer, "duration:"), LM_DURATION);
    assert_int_equal(named(tokenizer, "Keyscale:"), LM_KEYSCALE);
    assert_int_equal(named(tokenizer, "d uration:"), LM_FIELD_COUNT);
    /* KELVIN SIGN, of which the lower case is k, is known when it is one token; as three it is three times U+FFFD */
    assert_int_equal(named(tokenizer, "\xe2\x84\xaa"
                                      "eyscale:"),
                     LM_FIELD_COUNT);
}

/* Official injects what it is given, and <|im_end|> in it ends the text; the default profile refuses it. */
static void official_takes_control_tokens_as_given(void **state)
{
    const ace_tokenizer *tokenizer = *state;
    lm_metadata given = {0};
    assert_true(lm_metadata_set_text(&given, LM_BPM, lm_slice_of("9<|im_end|>"), NULL));
    lm_grammar_request request = {.phase = LM_PHASE_COT, .given = &given};
    session s = begin(tokenizer, (lm_grammar_options){.profile = LM_PROFILE_OFFICIAL}, request);
    assert_int_equal(s.step.kind, LM_STEP_FORCED);
    assert_int_equal(s.step.forced[s.step.forced_count - 1], tokenizer_added(tokenizer, "<|im_end|>"));
    take_run(&s);
    assert_int_equal(s.step.kind, LM_STEP_DONE);
    end(&s);
    ace_error error = {0};
    lm_grammar *grammar = lm_grammar_new(tokenizer, &(lm_grammar_options){0}, &error);
    assert_non_null(grammar);
    assert_null(lm_grammar_plan_new(grammar, &request, &error));
    assert_int_equal(error.status, ACE_ERROR_USAGE);
    lm_grammar_free(grammar);
    lm_metadata_free(&given);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dead_end_ends_the_line),
        cmocka_unit_test(without_a_maximum_it_is_600),
        cmocka_unit_test(d5_an_equal_line_feed_ends_the_genres),
        cmocka_unit_test(official_knows_whole_names_only),
        cmocka_unit_test(official_takes_control_tokens_as_given),
    };
    return cmocka_run_group_tests_name("lm/grammar_corners", tests, open_tokenizer, close_tokenizer);
}
