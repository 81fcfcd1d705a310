/* The planner under a tier's limit: whatever the model would like, its grammar lets it choose no longer song, and no
 * more audio codes than such a song has. The model is played by one that wants the largest number, and by chance. */
#include "base/text.h"
#include "lm/lm_grammar.h"
#include "vram/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SEEDS = 1000, STEPS_MAX = 4096 };

static const double sizes[] = {3, 5, 7, 8, 12, 16, 24};
enum { SIZES = sizeof sizes / sizeof *sizes };

static tiers_table *table;
static ace_tokenizer *tokenizer;

static int open_all(void **state)
{
    (void)state;
    ace_error error = {0};
    table = tiers_built_in(&error);
    tokenizer = tokenizer_open_json(TEST_DATA "/text/tokenizer.json", &error);
    return table && tokenizer ? 0 : -1;
}

static int close_all(void **state)
{
    (void)state;
    tiers_free(table);
    tokenizer_close(tokenizer);
    return 0;
}

static lm_grammar *grammar_of(double gib, int *limit)
{
    limits_basis basis = {tiers_select(&table->profiles[0], gib, false), gib, LIMITS_CARD};
    ace_error error = {0};
    *limit = limits_lm_duration(&basis);
    lm_grammar *grammar = lm_grammar_new(tokenizer, &(lm_grammar_options){.max_duration = *limit}, &error);
    if (!grammar) fail_msg("%s", error.message);
    return grammar;
}

static uint32_t below(uint64_t *random, uint32_t n)
{
    *random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*random >> 33) % n;
}

/* The digit that a token is, -1 if it is none. */
static int digit_of(int32_t id)
{
    size_t length;
    const char *bytes = tokenizer_token_bytes(tokenizer, id, &length);
    return bytes && length == 1 && *bytes >= '0' && *bytes <= '9' ? *bytes - '0' : -1;
}

/* The largest digit that is allowed, or, where none is or chance says so, any token. */
static int32_t greedy(lm_token_set allowed, uint64_t *random, bool by_chance)
{
    int32_t best = -1;
    int most = -1;
    int64_t at = 0, size = lm_token_set_size(allowed), wanted = below(random, (uint32_t)size);
    for (size_t r = 0; r < allowed.count; r++) {
        for (int32_t id = allowed.ranges[r].first; id < allowed.ranges[r].end; id++, at++) {
            int digit = digit_of(id);
            if (at == wanted && by_chance) return id;
            if (at == wanted && most < 0) best = id;
            if (digit > most) most = digit, best = id;
        }
    }
    return best;
}

/* Writes a plan; its text is appended. Returns the number of audio codes. */
static int64_t write_plan(const lm_grammar_plan *plan, uint64_t *random, bool by_chance, ace_text *text)
{
    lm_grammar_state state;
    lm_grammar_step step;
    int64_t codes = 0;
    int32_t first_code = tokenizer_audio_first(tokenizer);
    lm_grammar_begin(&state, plan);
    for (int steps = 0; steps < STEPS_MAX; steps++) {
        lm_grammar_next(&state, &step);
        if (step.kind == LM_STEP_DONE) return codes;
        int32_t chosen = step.kind == LM_STEP_FORCED ? 0 : greedy(step.allowed, random, by_chance && below(random, 2));
        if (step.kind == LM_STEP_LOOK) {
            lm_grammar_look(&state, chosen, false);
            continue;
        }
        size_t count = step.kind == LM_STEP_FORCED ? step.forced_count : 1;
        for (size_t i = 0; i < count; i++) {
            int32_t id = step.kind == LM_STEP_FORCED ? step.forced[i] : chosen;
            size_t length;
            const char *bytes = tokenizer_token_bytes(tokenizer, id, &length);
            if (id >= first_code) codes++;
            if (bytes) ace_text_bytes(text, bytes, length);
            assert_true(lm_grammar_accept(&state, id));
        }
    }
    fail_msg("a plan without an end: %.80s", text->data);
    return -1;
}

static int duration_in(const char *text)
{
    const char *line = strstr(text, "duration:");
    assert_non_null(line);
    return atoi(line + strlen("duration:"));
}

static void S_13_no_longer_song_can_be_chosen(void **state)
{
    (void)state;
    ace_error error = {0};
    lm_grammar_request request = {LM_PHASE_COT, true, true, true, true, NULL, 0};
    for (int i = 0; i < SIZES; i++) {
        int limit, longest = 0;
        lm_grammar *grammar = grammar_of(sizes[i], &limit);
        lm_grammar_plan *plan = lm_grammar_plan_new(grammar, &request, &error);
        assert_non_null(plan);
        uint64_t random = (uint64_t)i;
        for (int seed = 0; seed < SEEDS; seed++) {
            ace_text text = {0};
            write_plan(plan, &random, seed > 0, &text);
            int duration = duration_in(text.data);
            if (duration > limit || duration < LM_MIN_DURATION)
                fail_msg("%g GB: %d s is outside 10 to %d", sizes[i], duration, limit);
            if (duration > longest) longest = duration;
            ace_text_free(&text);
        }
        assert_int_equal(longest, limit); /* the limit itself can be reached: the test does press against it */
        lm_grammar_plan_free(plan);
        lm_grammar_free(grammar);
    }
}

static void S_14_no_more_codes_than_such_a_song_has(void **state)
{
    (void)state;
    ace_error error = {0};
    for (int i = 0; i < SIZES; i++) {
        int limit;
        lm_grammar *grammar = grammar_of(sizes[i], &limit);
        lm_grammar_request request = {.phase = LM_PHASE_CODES, .duration = 100000};
        lm_grammar_plan *plan = lm_grammar_plan_new(grammar, &request, &error);
        assert_non_null(plan);
        assert_int_equal(lm_grammar_plan_codes(plan), LM_CODES_PER_SECOND * limit);
        uint64_t random = 1;
        ace_text text = {0};
        assert_int_equal(write_plan(plan, &random, true, &text), LM_CODES_PER_SECOND * limit);
        ace_text_free(&text);
        lm_grammar_plan_free(plan);
        lm_grammar_free(grammar);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(S_13_no_longer_song_can_be_chosen),
        cmocka_unit_test(S_14_no_more_codes_than_such_a_song_has),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
