/* The promises about lengths, with the grammar at work: a planned duration is never beyond the maximum, the number of
 * codes is what the duration asks for, and what the engine writes is what the grammar allows. */
#include "lm/engine_fixture.h"

#include "lm/lm_grammar_constraint.h"

#include <string.h>

#define SMALL TEST_DATA "/text/tokenizer.json"

enum { SEEDS = 1000, MAX_TEXT = 400 };
static const int maxima[] = {240, 360, 480, 600};
enum { MAXIMA = sizeof maxima / sizeof *maxima };

static ace_tokenizer *open_small(void)
{
    ace_error error = {0};
    ace_tokenizer *tokenizer = tokenizer_open_json(SMALL, &error);
    if (!tokenizer) fail_msg("%s", error.message);
    return tokenizer;
}

static lm_grammar *open_grammar(const ace_tokenizer *tokenizer, lm_profile profile, int maximum)
{
    ace_error error = {0};
    lm_grammar *grammar = lm_grammar_new(tokenizer, &(lm_grammar_options){profile, maximum, NULL}, &error);
    if (!grammar) fail_msg("%s", error.message);
    return grammar;
}

static lm_grammar_plan *make_plan(const lm_grammar *grammar, const lm_grammar_request *request)
{
    ace_error error = {0};
    lm_grammar_plan *plan = lm_grammar_plan_new(grammar, request, &error);
    if (!plan) fail_msg("%s", error.message);
    return plan;
}

/* ---- durations ------------------------------------------------------------------------------------------------- */

static int digit_of(const ace_tokenizer *tokenizer, int32_t id)
{
    size_t n = 0;
    const char *bytes = tokenizer_token_bytes(tokenizer, id, &n);
    return bytes && n == 1 && bytes[0] >= '0' && bytes[0] <= '9' ? bytes[0] - '0' : -1;
}

/* A model that likes large digits and does not like to stop: the sampler's choice. Its taste is stronger in some seeds
 * than in others, so that all lengths of numbers occur. */
static int32_t sample_large(const ace_tokenizer *tokenizer, lm_sampler *sampler, lm_token_set set, uint64_t seed,
                            uint32_t position)
{
    static const float temperatures[] = {0, 0.85f, 5, 15};
    float values[16];
    int32_t ids[16];
    int64_t count = 0;
    for (size_t r = 0; r < set.count; r++)
        for (int32_t id = set.ranges[r].first; id < set.ranges[r].end; id++) {
            int digit = digit_of(tokenizer, id);
            assert_true(count < 16); /* numbers are all that is chosen here */
            ids[count] = id;
            values[count++] = digit < 0 ? -20 : 3 * (float)digit;
        }
    lm_sampling sampling = {temperatures[seed % 4], 0, 1, 1, 1};
    int64_t at = lm_sample(sampler, values, count, &sampling, lm_uniform(seed, LM_STREAM_TEXT, position));
    assert_true(at >= 0 && at < count);
    return ids[at];
}

static long sampled_duration(const ace_tokenizer *tokenizer, lm_sampler *sampler, const lm_grammar_plan *plan,
                             uint64_t seed)
{
    lm_grammar_state state;
    lm_grammar_step step;
    int32_t text[MAX_TEXT];
    size_t count = 0;
    lm_grammar_step last = {.repeats = 1}; /* what it says of the steps that follow is so */
    lm_grammar_begin(&state, plan);
    for (lm_grammar_next(&state, &step); step.kind != LM_STEP_DONE; lm_grammar_next(&state, &step)) {
        assert_true(step.repeats >= 1 && (last.repeats == 1 || step.repeats == last.repeats - 1));
        assert_true(last.repeats == 1 || (step.kind == LM_STEP_CHOOSE && step.allowed.ranges == last.allowed.ranges));
        last = step;
        if (step.kind == LM_STEP_LOOK) {
            lm_grammar_look(&state, step.allowed.ranges[0].first, false);
            continue;
        }
        if (step.kind == LM_STEP_CHOOSE) {
            step.forced[0] = sample_large(tokenizer, sampler, step.allowed, seed, (uint32_t)count);
            step.forced_count = 1;
        }
        for (size_t i = 0; i < step.forced_count; i++) {
            assert_true(count < MAX_TEXT);
            assert_true(lm_grammar_accept(&state, step.forced[i]));
            text[count++] = step.forced[i];
        }
    }
    ace_error error = {0};
    ace_text decoded = {0};
    assert_true(tokenizer_decode(tokenizer, text, count, &decoded, &error));
    static const char name[] = "\nduration: ";
    const char *duration = strstr(decoded.data, name);
    assert_non_null(duration);
    char *rest;
    long seconds = strtol(duration + strlen(name), &rest, 10);
    assert_int_equal(*rest, '\n');
    ace_text_free(&decoded);
    return seconds;
}

static void A_04_a_sampled_duration_is_never_beyond_the_maximum(void **state)
{
    (void)state;
    ace_error error = {0};
    ace_tokenizer *tokenizer = open_small();
    lm_sampler sampler;
    assert_true(lm_sampler_open(&sampler, 16, &error));
    lm_metadata given = {0};
    assert_true(lm_metadata_set_text(&given, LM_KEYSCALE, lm_slice_of("C major"), NULL));
    lm_grammar_request request = {LM_PHASE_COT, true, true, true, true, &given, 0};
    for (int run = 0; run < 2 * MAXIMA; run++) {
        int maximum = maxima[run / 2];
        lm_grammar *grammar = open_grammar(tokenizer, run % 2 ? LM_PROFILE_OFFICIAL : LM_PROFILE_DEFAULT, maximum);
        lm_grammar_plan *plan = make_plan(grammar, &request);
        long longest = 0;
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            long seconds = sampled_duration(tokenizer, &sampler, plan, seed);
            if (seconds < LM_MIN_DURATION || seconds > maximum) fail_msg("%ld s, at most %d", seconds, maximum);
            if (seconds > longest) longest = seconds;
        }
        if (longest < maximum - 20) fail_msg("at most %d s, but no duration above %ld s was tried", maximum, longest);
        lm_grammar_plan_free(plan);
        lm_grammar_free(grammar);
    }
    lm_metadata_free(&given);
    lm_sampler_close(&sampler);
    tokenizer_close(tokenizer);
}

/* ---- through the engine ---------------------------------------------------------------------------------------- */

/* A random model that knows the tokenizer's ids. */
typedef struct stand_in {
    tiny_lm lm;
    ace_tensors *made;
} stand_in;

static stand_in open_stand_in(const ace_tokenizer *tokenizer)
{
    static const ace_cpu_options f32 = {.precision = ACE_F32, .threads = 1};
    ace_error error = {0};
    stand_in s = {.lm = open_tiny_lm("engine-untied", &f32), .made = tensors_new_synthetic(&error)};
    int64_t vocabulary = tokenizer_limit(tokenizer);
    for (size_t i = 0; i < tensors_count(s.lm.weights); i++) {
        const ace_tensor *t = tensors_at(s.lm.weights, i);
        int64_t shape[TENSOR_MAX_RANK];
        memcpy(shape, t->shape, sizeof shape);
        if (t->rank == 2 && shape[0] == s.lm.config.vocab_size) shape[0] = vocabulary;
        float center = t->rank == 1 ? 1 : 0, scale = t->rank == 1 ? 0.2f : 0.3f;
        assert_true(tensors_add_synthetic(s.made, t->name, ACE_F32, t->rank, shape, scale, center, 5, &error));
    }
    qwen3_lm_free(&s.lm.model);
    part_free(s.lm.part);
    s.lm.part = part_new("a stand-in", &error);
    assert_true(part_add(s.lm.part, s.made, "", &error) && part_finish(s.lm.part, &error));
    s.lm.config.vocab_size = (int)vocabulary;
    qwen3_lm_load(&s.lm.model, s.lm.dev, s.lm.part, &s.lm.config, NULL);
    assert_device_ok(s.lm.dev);
    return s;
}

static void close_stand_in(stand_in *s)
{
    close_tiny_lm(&s->lm);
    tensors_close(s->made);
}

static lm_session *open_session(const stand_in *s, int items, int64_t tokens)
{
    ace_error error = {0};
    assert_true(ace_scratch_reserve(s->lm.dev, (size_t)64 << 20, (size_t)64 << 20, &error));
    lm_session_limits limits = {items, false, lm_rows_needed(items, 3, 0, tokens), tokens + 3, 0};
    lm_session *session = lm_session_open(&s->lm.model, &limits, &error);
    if (!session) fail_msg("%s", error.message);
    return session;
}

static const int32_t prompt[] = {70, 71, 72};

static void the_engine_writes_as_many_codes_as_the_duration_asks_for(void **state)
{
    (void)state;
    ace_tokenizer *tokenizer = open_small();
    stand_in s = open_stand_in(tokenizer);
    double durations[16] = {10, 30.5, 154, 600, 10.19, 11.999};
    uint64_t random = 1;
    for (int i = 6; i < 16; i++) durations[i] = 10 + (double)((random *= 6364136223846793005u) >> 40) / (1 << 24) * 110;
    lm_session *session = open_session(&s, 1, 3010);
    int32_t first = tokenizer_audio_first(tokenizer), end = first + tokenizer_audio_count(tokenizer);
    int32_t eos = tokenizer_added(tokenizer, "<|im_end|>"), *tokens = calloc(3010, sizeof *tokens);
    for (int profile = 0; profile < 2; profile++) {
        lm_grammar *grammar = open_grammar(tokenizer, profile ? LM_PROFILE_OFFICIAL : LM_PROFILE_DEFAULT, 600);
        for (int i = 0; i < 16; i++) {
            ace_error error = {0};
            lm_grammar_request request = {.phase = LM_PHASE_CODES, .duration = durations[i]};
            lm_grammar_plan *plan = make_plan(grammar, &request);
            lm_grammar_item rules;
            lm_item item = {prompt, 3, lm_grammar_constraint(&rules, plan), (uint64_t)i, tokens, 0, false};
            lm_next next;
            item.constraint.next(item.constraint.context, &next);
            int64_t steps = next.steps;
            lm_write_options options = {
                .sampling = {0.85f, 0, 0.9f, 1, 1}, .stream = LM_STREAM_CODES, .max_tokens = 3010};
            if (!lm_write(session, &item, 1, &options, &error)) fail_msg("%s", error.message);
            int64_t expected = (int64_t)floor(5 * durations[i]), codes = 0;
            assert_int_equal(steps, expected); /* all of them are one run */
            while (codes < item.count && tokens[codes] >= first && tokens[codes] < end) codes++;
            if (codes != expected) fail_msg("%.17g s: %lld codes", durations[i], (long long)codes);
            assert_true(item.complete);
            assert_int_equal(item.count, codes + profile); /* official ends in <|im_end|> */
            if (profile) assert_int_equal(tokens[codes], eos);
            lm_grammar_plan_free(plan);
        }
        lm_grammar_free(grammar);
    }
    free(tokens);
    lm_session_close(session);
    close_stand_in(&s);
    tokenizer_close(tokenizer);
}

/* Each token of the text, as the grammar sees it, is one that it allows there. */
static void check_allowed(const lm_grammar_plan *plan, const lm_item *item, uint64_t number)
{
    lm_grammar_state state;
    lm_grammar_step step;
    lm_grammar_begin(&state, plan);
    int64_t at = 0;
    for (lm_grammar_next(&state, &step); step.kind != LM_STEP_DONE && at < item->count;
         lm_grammar_next(&state, &step)) {
        int32_t token = item->tokens[at];
        if (step.kind == LM_STEP_LOOK) { /* a language, in what is asked for here */
            assert_true(lm_token_set_contains(step.allowed, token));
            lm_grammar_look(&state, token, false);
        } else if (step.kind == LM_STEP_CHOOSE) {
            if (!lm_token_set_contains(step.allowed, token))
                fail_msg("text %llu: token %lld is %d", (unsigned long long)number, (long long)at, (int)token);
            if (lm_grammar_accept(&state, token)) at++;
        } else {
            for (size_t i = 0; i < step.forced_count && at < item->count; i++, at++) {
                assert_int_equal(item->tokens[at], step.forced[i]);
                assert_true(lm_grammar_accept(&state, step.forced[i]));
            }
        }
    }
    assert_int_equal(at, item->count);
    assert_int_equal(item->complete, step.kind == LM_STEP_DONE);
}

static void check_metadata(const ace_tokenizer *tokenizer, const lm_item *item)
{
    ace_error error = {0};
    ace_text text = {0};
    assert_true(tokenizer_decode(tokenizer, item->tokens, (size_t)item->count, &text, &error));
    static const char *const numbers[] = {"\nbpm: ", "\nduration: ", "\ntimesignature: "};
    static const long least[] = {30, 10, 2}, most[] = {300, 480, 6};
    for (int i = 0; i < 3; i++) {
        const char *found = text.data ? strstr(text.data, numbers[i]) : NULL;
        if (!found) fail_msg("no%s in %s", numbers[i], text.data);
        long value = strtol(found + strlen(numbers[i]), NULL, 10);
        if (value < least[i] || value > most[i]) fail_msg("%s%ld", numbers[i], value);
    }
    ace_text_free(&text);
}

static void the_engine_writes_what_the_grammar_allows(void **state)
{
    (void)state;
    enum { ITEMS = 8, CALLS = 10 };
    ace_tokenizer *tokenizer = open_small();
    stand_in s = open_stand_in(tokenizer);
    lm_session *session = open_session(&s, ITEMS, MAX_TEXT);
    static int32_t tokens[ITEMS][MAX_TEXT];
    for (int call = 0; call < 2 * CALLS; call++) {
        ace_error error = {0};
        lm_grammar *grammar = open_grammar(tokenizer, call % 2 ? LM_PROFILE_OFFICIAL : LM_PROFILE_DEFAULT, 480);
        lm_grammar_request request = {LM_PHASE_COT, true, true, true, call % 3 == 0, NULL, 0};
        lm_grammar_plan *plan = make_plan(grammar, &request);
        lm_grammar_item rules[ITEMS];
        lm_item items[ITEMS];
        for (int i = 0; i < ITEMS; i++)
            items[i] = (lm_item){
                prompt, 3, lm_grammar_constraint(&rules[i], plan), (uint64_t)(100 * call + i), tokens[i], 0, false};
        lm_write_options options = {.sampling = {1.5f, 0, 1, 1, 1}, .stream = LM_STREAM_TEXT, .max_tokens = MAX_TEXT};
        if (!lm_write(session, items, ITEMS, &options, &error)) fail_msg("%s", error.message);
        for (int i = 0; i < ITEMS; i++) {
            check_allowed(plan, &items[i], items[i].seed);
            assert_true(items[i].complete);
            check_metadata(tokenizer, &items[i]);
        }
        lm_grammar_plan_free(plan);
        lm_grammar_free(grammar);
    }
    lm_session_close(session);
    close_stand_in(&s);
    tokenizer_close(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(A_04_a_sampled_duration_is_never_beyond_the_maximum),
        cmocka_unit_test(the_engine_writes_as_many_codes_as_the_duration_asks_for),
        cmocka_unit_test(the_engine_writes_what_the_grammar_allows),
    };
    return cmocka_run_group_tests_name("lm/grammar_limits", tests, NULL, NULL);
}
