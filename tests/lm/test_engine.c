/* The planner's engine: against transformers, and items of a batch against themselves alone. */
#include "lm/engine_fixture.h"

#include "device/backend.h"
#include "lm/lm_engine.h"

#include <stdatomic.h>
#include <time.h>

enum { STEPS = 100, MAX_PROMPT = 64, BATCH = 4 };
static const char *const names[] = {"engine-tied", "engine-untied"};
static const ace_cpu_options f32 = {.precision = ACE_F32, .threads = 1}, bf16 = {.precision = ACE_BF16, .threads = 2};
static const lm_sampling greedy = {0, 0, 1, 1, 1};

/* A session on the device within exactly what the meter planned for it. */
static lm_session *open_session(const tiny_lm *lm, const lm_session_limits *limits)
{
    ace_error error = {0};
    ace_device_reset_peak(lm->meter);
    ace_scratch_reserve(lm->meter, 0, 0, NULL);
    lm_session *planned = lm_session_open(&lm->planned, limits, &error);
    if (!planned) fail_msg("%s", error.message);
    size_t peak = ace_device_get_stats(lm->meter).scratch_peak;
    lm_session_close(planned);
    assert_int_equal(ace_device_get_stats(lm->meter).scratch_bytes, 0);
    assert_true(ace_scratch_reserve(lm->dev, peak, ace_device_get_stats(lm->meter).host_peak, &error));
    ace_device_reset_peak(lm->dev);
    lm_session *session = lm_session_open(&lm->model, limits, &error);
    if (!session) fail_msg("%s", error.message);
    /* what products take while they run is planned, too */
    assert_true(ace_device_get_stats(lm->dev).scratch_peak <= peak);
    return session;
}

static void close_session(const tiny_lm *lm, lm_session *session)
{
    size_t peak = ace_device_get_stats(lm->dev).scratch_peak;
    lm_session_close(session);
    assert_int_equal(ace_device_get_stats(lm->dev).scratch_peak, peak);
    assert_int_equal(ace_device_get_stats(lm->dev).scratch_bytes, 0);
}

static void must_write(lm_session *session, lm_item *items, int count, const lm_write_options *options)
{
    ace_error error = {0};
    if (!lm_write(session, items, count, options, &error)) fail_msg("%s", error.message);
}

static void check_ids(const char *what, const int32_t *ours, const int32_t *expected, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (ours[i] != expected[i])
            fail_msg("%s: token %lld is %d, expected %d", what, (long long)i, (int)ours[i], (int)expected[i]);
}

/* ---- against transformers -------------------------------------------------------------------------------------- */

static void compare_with_transformers(const char *name, const char *golden, lm_token_range range, lm_sampling sampling,
                                      int64_t pass)
{
    tiny_lm lm = open_tiny_lm(name, &f32);
    int64_t prompt_count, negative_count, count;
    int32_t *prompt = lm_golden_ids(&lm, "prompt", &prompt_count);
    int32_t *negative = lm_golden_ids(&lm, "negative", &negative_count);
    int32_t *expected = lm_golden_ids(&lm, golden, &count), *tokens = calloc((size_t)count, sizeof *tokens);
    lm_session *session = open_session(
        &lm, &(lm_session_limits){1, true, lm_rows_needed(1, prompt_count, negative_count, count), 400, pass});
    lm_free_text text = {range, -1, false};
    lm_item item = {.prompt = prompt,
                    .prompt_count = prompt_count,
                    .constraint = lm_constraint_free_text(&text),
                    .seed = 0x123456789ABCDEF,
                    .tokens = tokens};
    must_write(session, &item, 1,
               &(lm_write_options){.sampling = sampling,
                                   .stream = LM_STREAM_CODES,
                                   .max_tokens = count,
                                   .negative = negative,
                                   .negative_count = negative_count});
    assert_int_equal(item.count, count);
    assert_false(item.complete);
    check_ids(golden, tokens, expected, count);
    close_session(&lm, session);
    free(prompt);
    free(negative);
    free(expected);
    free(tokens);
    close_tiny_lm(&lm);
}

static void greedy_text_is_transformers(void **state)
{
    (void)state;
    compare_with_transformers(names[0], "greedy", (lm_token_range){0, 256}, greedy, 0);
    compare_with_transformers(names[1], "greedy", (lm_token_range){0, 211}, greedy, 5);
}

static void guided_text_is_transformers(void **state)
{
    (void)state;
    lm_sampling guided = {0, 0, 1, 1, 2.5f};
    for (int i = 0; i < 2; i++) compare_with_transformers(names[i], "guided", (lm_token_range){40, 200}, guided, 16);
}

static void sampled_text_is_transformers(void **state)
{
    (void)state;
    lm_sampling sampled = {0.85f, 50, 0.9f, 1, 2.5f};
    for (int i = 0; i < 2; i++) compare_with_transformers(names[i], "sampled", (lm_token_range){40, 200}, sampled, 0);
}

/* ---- batches --------------------------------------------------------------------------------------------------- */

/* Items with prompts that share nothing, a part, or all, and texts that end at different places. */
typedef struct batch {
    int32_t prompts[BATCH][MAX_PROMPT], tokens[BATCH][STEPS];
    lm_free_text texts[BATCH];
    lm_item items[BATCH];
} batch;

static void make_batch(batch *b, bool same_prompts)
{
    static const int lengths[BATCH] = {40, 40, 23, 57};
    for (int i = 0; i < BATCH; i++) {
        for (int t = 0; t < MAX_PROMPT; t++) b->prompts[i][t] = (t * 37 + (same_prompts || t < 20 ? 0 : i * 11)) % 211;
        b->texts[i] = (lm_free_text){{3, 200}, i == 3 ? -1 : 100 + 20 * i, false};
        b->items[i] = (lm_item){.prompt = b->prompts[i],
                                .prompt_count = same_prompts ? 40 : lengths[i],
                                .constraint = lm_constraint_free_text(&b->texts[i]),
                                .seed = 1000 + (uint64_t)i,
                                .tokens = b->tokens[i]};
    }
}

static void compare_batch(const ace_cpu_options *cpu, bool same_prompts, lm_sampling sampling)
{
    static const int32_t negative[] = {5, 6, 7, 8, 9, 10, 11, 12, 13};
    tiny_lm lm = open_tiny_lm(names[0], cpu);
    bool guided = sampling.guidance > 1;
    lm_write_options options = {.sampling = sampling,
                                .stream = LM_STREAM_CODES,
                                .max_tokens = STEPS,
                                .negative = negative,
                                .negative_count = 9};
    lm_session_limits limits = {BATCH, guided, lm_rows_needed(BATCH, MAX_PROMPT, 9, STEPS), MAX_PROMPT + STEPS, 0};
    batch together = {0}, alone = {0};
    make_batch(&together, same_prompts);
    make_batch(&alone, same_prompts);
    lm_session *session = open_session(&lm, &limits);
    must_write(session, together.items, BATCH, &options);
    close_session(&lm, session);
    int ended = 0, different = 0;
    for (int i = 0; i < BATCH; i++) {
        limits = (lm_session_limits){1, guided, lm_rows_needed(1, MAX_PROMPT, 9, STEPS), MAX_PROMPT + STEPS, 7};
        session = open_session(&lm, &limits);
        must_write(session, &alone.items[i], 1, &options);
        close_session(&lm, session);
        assert_int_equal(together.items[i].count, alone.items[i].count);
        assert_int_equal(together.items[i].complete, alone.items[i].complete);
        check_ids("an item alone", together.tokens[i], alone.tokens[i], alone.items[i].count);
        ended += alone.items[i].complete;
        different += i > 0 && memcmp(alone.tokens[i], alone.tokens[0], sizeof alone.tokens[0]) != 0;
    }
    print_message("%d of %d texts ended by themselves\n", ended, BATCH);
    assert_true(different == BATCH - 1 || (same_prompts && sampling.temperature <= 0));
    close_tiny_lm(&lm);
}

static void an_item_of_a_batch_is_what_it_is_alone(void **state)
{
    (void)state;
    for (int precision = 0; precision < 2; precision++)
        for (int same = 0; same < 2; same++) {
            const ace_cpu_options *cpu = precision ? &bf16 : &f32;
            compare_batch(cpu, same, (lm_sampling){1, 0, 1, 1, 2.0f});
            compare_batch(cpu, same, (lm_sampling){0.85f, 30, 0.9f, 1.1f, 1});
            compare_batch(cpu, same, greedy);
        }
}

static void what_the_device_chooses_is_what_the_host_chooses(void **state)
{
    static const int32_t negative[] = {5, 6, 7, 8, 9, 10, 11, 12, 13};
    static const lm_sampling samplings[] = {
        {0.85f, 0, 0.9f, 1, 2}, {1, 20, 0.95f, 1, 1}, {1.5f, 0, 1, 1, 3}, {0, 0, 1, 1, 2}};
    (void)state;
    tiny_lm lm = open_tiny_lm(names[0], &bf16);
    if (!ace_device_samples(lm.dev)) {
        close_tiny_lm(&lm);
        skip();
    }
    for (size_t k = 0; k < sizeof samplings / sizeof *samplings; k++) {
        bool guided = samplings[k].guidance > 1;
        lm_session_limits limits = {BATCH, guided, lm_rows_needed(BATCH, MAX_PROMPT, 9, STEPS), MAX_PROMPT + STEPS, 0};
        lm_write_options options = {.sampling = samplings[k],
                                    .stream = LM_STREAM_CODES,
                                    .max_tokens = STEPS / 6,
                                    .negative = negative,
                                    .negative_count = 9};
        batch of[2] = {0};
        for (int on_device = 0; on_device < 2; on_device++) {
            lm.dev->samples = lm.meter->samples = on_device;
            make_batch(&of[on_device], false);
            lm_session *session = open_session(&lm, &limits);
            must_write(session, of[on_device].items, BATCH, &options);
            close_session(&lm, session);
        }
        for (int i = 0; i < BATCH; i++) {
            assert_int_equal(of[0].items[i].count, of[1].items[i].count);
            check_ids("on the device", of[1].tokens[i], of[0].tokens[i], of[0].items[i].count);
        }
    }
    close_tiny_lm(&lm);
}

/* Free text that is asked about token by token. */
static void one_step_next(void *context, lm_next *next)
{
    lm_constraint_free_text(context).next(context, next);
    assert_true(next->steps == INT64_MAX);
    next->steps = 1;
}

/* Runs of tokens that the device reads before the host knows them, where there are such, give what single steps give,
 * and leave the session in the same order. */
static void a_run_is_what_its_steps_are(void **state)
{
    static const int32_t negative[] = {5, 6, 7, 8, 9, 10, 11, 12, 13};
    static const lm_sampling samplings[] = {{0.85f, 0, 0.9f, 1, 2}, {1, 20, 0.95f, 1, 1}, greedy};
    (void)state;
    tiny_lm lm = open_tiny_lm(names[0], &bf16);
    for (size_t k = 0; k < sizeof samplings / sizeof *samplings; k++) {
        bool guided = samplings[k].guidance > 1;
        lm_session_limits limits = {BATCH, guided, lm_rows_needed(BATCH, MAX_PROMPT + 40, 9, STEPS), 200, 0};
        lm_write_options options = {.sampling = samplings[k],
                                    .stream = LM_STREAM_CODES,
                                    .max_tokens = 11,
                                    .negative = negative,
                                    .negative_count = 9};
        batch of[2] = {0};
        int32_t after[2][MAX_PROMPT];
        for (int steps = 0; steps < 2; steps++) {
            batch *b = &of[steps];
            make_batch(b, false);
            for (int i = 0; i < BATCH; i++) b->texts[i].end = -1;
            for (int i = 0; steps && i < BATCH; i++) b->items[i].constraint.next = one_step_next;
            lm_session *session = open_session(&lm, &limits);
            must_write(session, b->items, BATCH, &options);
            /* what was written is the beginning of the next prompt */
            int32_t prompt[MAX_PROMPT + 40];
            memcpy(prompt, b->prompts[0], 40 * sizeof *prompt);
            memcpy(prompt + 40, b->tokens[0], 11 * sizeof *prompt);
            prompt[51] = 3;
            b->items[0].prompt = prompt;
            b->items[0].prompt_count = 52;
            b->items[0].tokens = after[steps];
            must_write(session, b->items, 1, &options);
            assert_int_equal(lm_session_reused(session), 50); /* the last token was not read */
            close_session(&lm, session);
        }
        check_ids("after a run", after[0], after[1], 11);
        for (int i = 0; i < BATCH; i++) {
            assert_int_equal(of[0].items[i].count, 11);
            assert_false(of[0].items[i].complete);
            check_ids("a run", of[0].tokens[i], of[1].tokens[i], 11);
        }
    }
    close_tiny_lm(&lm);
}

/* ---- constraints ----------------------------------------------------------------------------------------------- */

/* A script of what next() says; each step once. */
typedef struct script_step {
    lm_next_kind kind;
    const int32_t *forced;
    int64_t count;
    lm_token_range allowed[3];
    size_t ranges;
    bool discard;  /* what is chosen */
    int64_t steps; /* that are said to follow each other */
} script_step;

typedef struct script {
    const script_step *steps;
    int at, looks;
    int32_t looked, chosen[32];
    int choices;
} script;

static void script_next(void *context, lm_next *next)
{
    const script *s = context;
    const script_step *step = &s->steps[s->at];
    *next = (lm_next){step->kind, step->forced, step->count, {step->allowed, step->ranges}, step->steps};
}

static void script_look(void *context, int32_t best, bool tied)
{
    script *s = context;
    assert_int_equal(s->steps[s->at].kind, LM_NEXT_LOOK);
    assert_false(tied);
    s->looked = best;
    s->looks++;
    s->at++;
}

static bool script_accept(void *context, int32_t token)
{
    script *s = context;
    const script_step *step = &s->steps[s->at];
    if (step->kind == LM_NEXT_FORCED) {
        if (token == step->forced[step->count - 1]) s->at++;
        return true;
    }
    assert_int_equal(step->kind, LM_NEXT_CHOOSE);
    s->chosen[s->choices++] = token;
    s->at++;
    return !step->discard;
}

static int64_t write_script(lm_session *session, const int32_t *prompt, int64_t prompt_count, script *s,
                            int64_t max_tokens, int32_t *tokens, bool *complete)
{
    lm_item item = {.prompt = prompt,
                    .prompt_count = prompt_count,
                    .constraint = {s, script_next, script_look, script_accept},
                    .seed = 5,
                    .tokens = tokens};
    must_write(session, &item, 1,
               &(lm_write_options){.sampling = greedy, .stream = LM_STREAM_TEXT, .max_tokens = max_tokens});
    if (complete) *complete = item.complete;
    return item.count;
}

/* The first `count` free greedy tokens after a prompt. */
static void free_tokens(const tiny_lm *lm, const int32_t *prompt, int64_t prompt_count, lm_token_range range,
                        int32_t *tokens, int64_t count)
{
    lm_session *session = open_session(lm, &(lm_session_limits){1, false, 400, 400, 0});
    lm_free_text text = {range, -1, false};
    lm_item item = {prompt, prompt_count, lm_constraint_free_text(&text), 1, tokens, 0, false};
    must_write(session, &item, 1,
               &(lm_write_options){.sampling = greedy, .stream = LM_STREAM_TEXT, .max_tokens = count});
    close_session(lm, session);
}

static void forced_runs_looks_and_discards(void **state)
{
    (void)state;
    static const int32_t run[] = {10, 20, 30, 40, 50}, tail[] = {60, 61};
    static const script_step steps[] = {
        {.kind = LM_NEXT_FORCED, .forced = run, .count = 5},
        {.kind = LM_NEXT_LOOK, .allowed = {{3, 90}}, .ranges = 1},
        {.kind = LM_NEXT_CHOOSE, .allowed = {{3, 90}}, .ranges = 1, .discard = true},
        {.kind = LM_NEXT_CHOOSE, .allowed = {{100, 110}, {150, 151}, {180, 200}}, .ranges = 3},
        {.kind = LM_NEXT_CHOOSE, .allowed = {{77, 78}}, .ranges = 1}, /* one candidate: not computed */
        {.kind = LM_NEXT_CHOOSE, .allowed = {{0, 256}}, .ranges = 1},
        {.kind = LM_NEXT_FORCED, .forced = tail, .count = 2},
        {.kind = LM_NEXT_DONE},
    };
    tiny_lm lm = open_tiny_lm(names[0], &f32);
    int32_t prompt[MAX_PROMPT] = {1, 2, 3, 4, 5, 6, 7}, tokens[32], expected[4];
    bool complete;
    script s = {.steps = steps};
    lm_session *session = open_session(&lm, &(lm_session_limits){1, false, 60, 60, 4});
    int64_t count = write_script(session, prompt, 7, &s, 32, tokens, &complete);
    assert_int_equal(count, 10);
    assert_true(complete);
    check_ids("the run", tokens, run, 5);
    assert_int_equal(tokens[6], 77);
    check_ids("the tail", tokens + 8, tail, 2);

    close_session(&lm, session);
    memcpy(prompt + 7, run, sizeof run);
    free_tokens(&lm, prompt, 12, (lm_token_range){3, 90}, expected, 1);
    assert_int_equal(s.looks, 1);
    assert_int_equal(s.looked, expected[0]);
    assert_int_equal(s.chosen[0], expected[0]);
    assert_true((tokens[5] >= 100 && tokens[5] < 110) || tokens[5] == 150 || (tokens[5] >= 180 && tokens[5] < 200));
    prompt[12] = tokens[5];
    prompt[13] = 77;
    free_tokens(&lm, prompt, 14, (lm_token_range){0, 256}, expected, 1);
    assert_int_equal(tokens[7], expected[0]);

    /* the limit may fall inside a forced run */
    for (int64_t limit = 1; limit < 10; limit++) {
        int32_t cut[32];
        session = open_session(&lm, &(lm_session_limits){1, false, 60, 60, 0});
        s = (script){.steps = steps};
        assert_int_equal(write_script(session, prompt, 7, &s, limit, cut, &complete), limit);
        assert_false(complete);
        check_ids("up to the limit", cut, tokens, limit);
        close_session(&lm, session);
    }
    close_tiny_lm(&lm);
}

static void a_constraint_that_never_ends_is_an_error(void **state)
{
    (void)state;
    static script_step steps[20];
    for (int i = 0; i < 20; i++)
        steps[i] = (script_step){.kind = LM_NEXT_CHOOSE, .allowed = {{3, 90}}, .ranges = 1, .discard = true};
    ace_error error = {0};
    tiny_lm lm = open_tiny_lm(names[0], &f32);
    int32_t prompt[] = {1, 2, 3}, tokens[8];
    lm_session *session = open_session(&lm, &(lm_session_limits){1, false, 60, 60, 0});
    script s = {.steps = steps};
    lm_item item = {prompt, 3, {&s, script_next, script_look, script_accept}, 1, tokens, 0, false};
    lm_write_options options = {.sampling = greedy, .stream = LM_STREAM_TEXT, .max_tokens = 8};
    assert_false(lm_write(session, &item, 1, &options, &error));
    assert_int_equal(error.status, ACE_ERROR_INTERNAL);
    /* a run that was promised, and is not accepted; where there are no runs, the third token is chosen once more */
    for (int i = 0; i < 20; i++) steps[i].discard = i == 2;
    for (int i = 0; i < 20; i++) steps[i].steps = 20 - i;
    s = (script){.steps = steps};
    error = (ace_error){0};
    assert_true(lm_write(session, &item, 1, &options, &error) == !ace_device_samples(lm.dev));
    if (ace_device_samples(lm.dev)) assert_int_equal(error.status, ACE_ERROR_INTERNAL);
    steps[0].allowed[0] = (lm_token_range){200, 300}; /* beyond the vocabulary */
    s = (script){.steps = steps};
    error = (ace_error){0};
    assert_false(lm_write(session, &item, 1, &options, &error));
    assert_int_equal(error.status, ACE_ERROR_MODEL);
    close_session(&lm, session);
    close_tiny_lm(&lm);
}

/* ---- sessions -------------------------------------------------------------------------------------------------- */

static void a_prompt_that_goes_on_is_not_read_again(void **state)
{
    (void)state;
    tiny_lm lm = open_tiny_lm(names[0], &bf16);
    static const int32_t negative[] = {9, 8, 7};
    batch first, again, fresh;
    make_batch(&first, true);
    make_batch(&again, true);
    make_batch(&fresh, true);
    lm_session_limits limits = {2, true, lm_rows_needed(2, MAX_PROMPT + 30, 3, 40), 200, 0};
    lm_write_options plain = {.sampling = {0.85f, 0, 0.9f, 1, 1}, .stream = LM_STREAM_TEXT, .max_tokens = 20};
    lm_write_options guided = {.sampling = {0.85f, 0, 0.9f, 1, 2},
                               .stream = LM_STREAM_CODES,
                               .max_tokens = 40,
                               .negative = negative,
                               .negative_count = 3};
    lm_session *session = open_session(&lm, &limits);
    first.texts[0].end = -1;
    must_write(session, first.items, 1, &plain);
    assert_int_equal(lm_session_reused(session), 0);

    /* the next prompt is the last one and 15 of its 20 tokens, then others */
    int32_t prompt[MAX_PROMPT + 30];
    memcpy(prompt, first.prompts[0], 40 * sizeof *prompt);
    memcpy(prompt + 40, first.tokens[0], 15 * sizeof *prompt);
    for (int i = 55; i < 70; i++) prompt[i] = i == 55 ? (first.tokens[0][15] + 1) % 256 : i;
    for (int i = 0; i < 2; i++) {
        again.items[i].prompt = fresh.items[i].prompt = prompt;
        again.items[i].prompt_count = fresh.items[i].prompt_count = 70;
    }
    must_write(session, again.items, 2, &guided);
    assert_int_equal(lm_session_reused(session), 55);
    close_session(&lm, session);

    session = open_session(&lm, &limits);
    must_write(session, fresh.items, 2, &guided);
    assert_int_equal(lm_session_reused(session), 0);
    close_session(&lm, session);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(again.items[i].count, fresh.items[i].count);
        check_ids("with a prefix that was there", again.tokens[i], fresh.tokens[i], fresh.items[i].count);
    }
    close_tiny_lm(&lm);
}

/* On the meter every choice is the lowest id, so that a text of fixed length costs what it will cost. */
static void the_meter_counts_the_same_work(void **state)
{
    (void)state;
    tiny_lm lm = open_tiny_lm(names[0], &bf16);
    static const int32_t negative[] = {9, 8, 7};
    lm_session_limits limits = {BATCH, true, lm_rows_needed(BATCH, MAX_PROMPT, 3, STEPS), 200, 0};
    lm_write_options options = {.sampling = {1, 0, 1, 1, 2},
                                .stream = LM_STREAM_CODES,
                                .max_tokens = STEPS,
                                .negative = negative,
                                .negative_count = 3};
    ace_device_stats counted[2];
    lm_session *session = open_session(&lm, &limits);
    for (int which = 0; which < 2; which++) {
        ace_error error = {0};
        batch b;
        make_batch(&b, true);
        for (int i = 0; i < BATCH; i++) b.texts[i].end = -1;
        lm_session *s = which ? lm_session_open(&lm.planned, &limits, &error) : session;
        assert_non_null(s);
        ace_device_stats before = ace_device_get_stats(which ? lm.meter : lm.dev);
        must_write(s, b.items, BATCH, &options);
        counted[which] = ace_device_get_stats(which ? lm.meter : lm.dev);
        counted[which].flops -= before.flops;
        counted[which].bytes_moved -= before.bytes_moved;
        if (which) lm_session_close(s);
    }
    assert_true(counted[0].flops > 1e6);
    assert_true(fabs(counted[0].flops - counted[1].flops) <= 1e-9 * counted[0].flops);
    assert_true(fabs(counted[0].bytes_moved - counted[1].bytes_moved) <= 1e-9 * counted[0].bytes_moved);
    close_session(&lm, session);
    close_tiny_lm(&lm);
}

typedef struct watcher {
    atomic_bool stop;
    int64_t last, stop_at;
    double stopped;
} watcher;

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void watch(void *user, const lm_progress *progress)
{
    watcher *w = user;
    assert_int_equal(progress->tokens, w->last + 1);
    assert_int_equal(progress->max_tokens, STEPS);
    assert_true(progress->seconds >= 0);
    w->last = progress->tokens;
    if (w->last == w->stop_at) {
        w->stopped = seconds();
        atomic_store(&w->stop, true);
    }
}

static void stop_and_go_on(bool run)
{
    ace_error error = {0};
    watcher w = {.stop_at = 30};
    ace_cpu_options cpu = {.precision = ACE_BF16, .threads = 2, .stop = &w.stop};
    tiny_lm lm = open_tiny_lm(names[0], &cpu);
    lm_session_limits limits = {BATCH, false, lm_rows_needed(BATCH, MAX_PROMPT, 0, STEPS), 200, 0};
    lm_write_options options = {
        .sampling = {1, 0, 0.9f, 1, 1}, .stream = LM_STREAM_CODES, .max_tokens = STEPS, .progress = watch, .user = &w};
    batch stopped, whole, after;
    make_batch(&stopped, false);
    make_batch(&whole, false);
    make_batch(&after, false);
    for (int i = 0; run && i < BATCH; i++) stopped.texts[i].end = whole.texts[i].end = after.texts[i].end = -1;
    lm_session *session = open_session(&lm, &limits);
    assert_false(lm_write(session, stopped.items, BATCH, &options, &error));
    assert_int_equal(error.status, ACE_CANCELLED);
    assert_true(seconds() - w.stopped < 0.3);
    assert_int_equal(w.last, 30);
    assert_false(lm_write(session, stopped.items, BATCH, &options, &(ace_error){0})); /* until it is cleared */

    atomic_store(&w.stop, false);
    ace_device_clear(lm.dev);
    w = (watcher){.stop_at = -1};
    must_write(session, after.items, BATCH, &options);
    assert_int_equal(lm_session_reused(session), 0);
    assert_int_equal(w.last, STEPS);
    close_session(&lm, session);
    w = (watcher){.stop_at = -1};
    session = open_session(&lm, &limits);
    must_write(session, whole.items, BATCH, &options);
    for (int i = 0; i < BATCH; i++) check_ids("after a stop", after.tokens[i], whole.tokens[i], whole.items[i].count);
    close_session(&lm, session);
    close_tiny_lm(&lm);
}

static void stopping_is_prompt_and_leaves_the_session_in_order(void **state)
{
    (void)state;
    stop_and_go_on(false);
    stop_and_go_on(true);
}

static void what_does_not_fit_is_an_error(void **state)
{
    (void)state;
    tiny_lm lm = open_tiny_lm(names[0], &f32);
    lm_session *session = open_session(&lm, &(lm_session_limits){1, false, 50, 50, 0});
    int32_t prompt[MAX_PROMPT] = {0}, tokens[STEPS];
    lm_free_text text = {{0, 256}, -1, false};
    lm_constraint rules = lm_constraint_free_text(&text);
    const struct {
        int64_t prompt, tokens;
        lm_sampling sampling;
    } bad[] = {{30, 21, greedy}, {0, 5, greedy}, {5, 0, greedy}, {5, 5, {0, 0, 1, 1, 2}}, {5, 5, {-1, 0, 1, 1, 1}}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ace_error error = {0};
        lm_item item = {prompt, bad[i].prompt, rules, 1, tokens, 0, false};
        lm_write_options options = {.sampling = bad[i].sampling, .stream = LM_STREAM_TEXT, .max_tokens = bad[i].tokens};
        assert_false(lm_write(session, &item, 1, &options, &error));
        assert_int_equal(error.status, ACE_ERROR_USAGE);
        assert_device_ok(lm.dev);
    }
    lm_item item = {prompt, 30, rules, 1, tokens, 0, false};
    lm_write_options options = {.sampling = greedy, .stream = LM_STREAM_TEXT, .max_tokens = 20};
    must_write(session, &item, 1, &options);
    prompt[29] = 256; /* not in the vocabulary */
    ace_error error = {0};
    assert_false(lm_write(session, &item, 1, &options, &error));
    assert_int_equal(error.status, ACE_ERROR_MODEL);
    ace_device_clear(lm.dev);
    close_session(&lm, session);
    close_tiny_lm(&lm);
}

/* The model's tensors with other values: a final norm so large that every logit overflows. */
static void values_that_are_not_finite_are_an_error(void **state)
{
    (void)state;
    ace_error error = {0};
    tiny_lm lm = open_tiny_lm(names[0], &f32);
    ace_tensors *made = tensors_new_synthetic(&error);
    for (size_t i = 0; i < tensors_count(lm.weights); i++) {
        const ace_tensor *t = tensors_at(lm.weights, i);
        float center = strcmp(t->name, "norm.weight") == 0 ? 3e38f : 0;
        assert_true(tensors_add_synthetic(made, t->name, ACE_F32, t->rank, t->shape, 5, center, 1, &error));
    }
    qwen3_lm_free(&lm.model);
    part_free(lm.part);
    lm.part = part_new("overflow", &error);
    assert_true(part_add(lm.part, made, "", &error) && part_finish(lm.part, &error));
    qwen3_lm_load(&lm.model, lm.dev, lm.part, &lm.config, NULL);
    assert_device_ok(lm.dev);
    for (int sampled = 0; sampled < 2; sampled++) {
        lm_session *session = open_session(&lm, &(lm_session_limits){1, false, 50, 50, 0});
        int32_t prompt[] = {1, 2, 3}, tokens[8];
        lm_free_text text = {{0, 256}, -1, false};
        lm_item item = {prompt, 3, lm_constraint_free_text(&text), 1, tokens, 0, false};
        lm_write_options options = {.sampling = greedy, .stream = LM_STREAM_TEXT, .max_tokens = 8};
        if (sampled) options.sampling = lm_sampling_default();
        options.sampling.guidance = 1;
        error = (ace_error){0};
        assert_false(lm_write(session, &item, 1, &options, &error));
        assert_int_equal(error.status, ACE_ERROR_MODEL);
        assert_non_null(strstr(error.message, "not finite"));
        close_session(&lm, session);
    }
    close_tiny_lm(&lm);
    tensors_close(made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_text_is_transformers),
        cmocka_unit_test(guided_text_is_transformers),
        cmocka_unit_test(sampled_text_is_transformers),
        cmocka_unit_test(an_item_of_a_batch_is_what_it_is_alone),
        cmocka_unit_test(what_the_device_chooses_is_what_the_host_chooses),
        cmocka_unit_test(a_run_is_what_its_steps_are),
        cmocka_unit_test(forced_runs_looks_and_discards),
        cmocka_unit_test(a_constraint_that_never_ends_is_an_error),
        cmocka_unit_test(a_prompt_that_goes_on_is_not_read_again),
        cmocka_unit_test(the_meter_counts_the_same_work),
        cmocka_unit_test(stopping_is_prompt_and_leaves_the_session_in_order),
        cmocka_unit_test(what_does_not_fit_is_an_error),
        cmocka_unit_test(values_that_are_not_finite_are_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
