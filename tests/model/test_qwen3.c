/* The text encoder against transformers' Qwen3Model. */
#include "model/model_fixture.h"

#include "model/qwen3.h"

enum { PROMPT_TOKENS = 33 };

typedef struct text_run {
    bench bench;
    qwen3 models[2]; /* on the device, on the meter */
    int64_t hidden;
    int64_t tokens;
    int32_t ids[PROMPT_TOKENS];
    float *states, *embedded;
} text_run;

static void forward(void *context, ace_device *dev, int which)
{
    text_run *run = context;
    ace_mark mark = ace_scratch_mark(dev);
    ace_mat y = ace_scratch(dev, ACE_F32, run->tokens, run->hidden);
    qwen3_forward(&run->models[which], y, which ? NULL : run->ids, run->tokens);
    ace_download(dev, run->states, y);
    qwen3_embed(&run->models[which], y, which ? NULL : run->ids, run->tokens);
    ace_download(dev, run->embedded, y);
    ace_scratch_release(dev, mark);
}

static text_run open_run(ace_dtype precision, int threads)
{
    text_run run = {.bench = open_bench("turbo", precision, threads), .tokens = PROMPT_TOKENS};
    const ace_checkpoint *checkpoint = run.bench.checkpoint;
    const qwen3_config *config = &checkpoint->text_encoder;
    qwen3_load(&run.models[0], run.bench.dev, checkpoint->parts[ACE_PART_TEXT_ENCODER], config, NULL);
    qwen3_load(&run.models[1], run.bench.meter, checkpoint->parts[ACE_PART_TEXT_ENCODER], config, NULL);
    assert_device_ok(run.bench.dev);
    assert_device_ok(run.bench.meter);
    assert_int_equal(ace_device_get_stats(run.bench.dev).weight_bytes,
                     ace_device_get_stats(run.bench.meter).weight_bytes);
    run.hidden = config->stack.hidden;
    for (int i = 0; i < PROMPT_TOKENS; i++) run.ids[i] = (i * 37 + 11) % config->vocab_size;
    run.states = new_floats(PROMPT_TOKENS * run.hidden);
    run.embedded = new_floats(PROMPT_TOKENS * run.hidden);
    return run;
}

static void close_run(text_run *run)
{
    free(run->states);
    free(run->embedded);
    qwen3_free(&run->models[0]);
    qwen3_free(&run->models[1]);
    close_bench(&run->bench);
}

static void hidden_states_are_the_references_in_f32(void **state)
{
    (void)state;
    text_run run = open_run(ACE_F32, 1);
    run_planned(&run.bench, forward, &run);
    assert_golden(&run.bench, "text.hidden", run.states, run.tokens * run.hidden);
    close_run(&run);
}

static void hidden_states_are_near_the_references_in_bf16(void **state)
{
    (void)state;
    text_run run = open_run(ACE_BF16, 1);
    run_planned(&run.bench, forward, &run);
    assert_golden(&run.bench, "text.hidden", run.states, run.tokens * run.hidden);
    close_run(&run);
}

static void embedded_tokens_are_rows_of_the_table(void **state)
{
    (void)state;
    text_run run = open_run(ACE_F32, 1);
    run_planned(&run.bench, forward, &run);
    float *expected = golden(&run.bench, "text.embed", run.tokens * run.hidden);
    assert_same_bytes(run.embedded, expected, run.tokens * run.hidden);
    free(expected);
    close_run(&run);
}

static void a_token_does_not_see_the_ones_behind_it(void **state)
{
    (void)state;
    text_run run = open_run(ACE_F32, 1);
    run_planned(&run.bench, forward, &run);
    float *whole = run.states;
    run.states = new_floats(PROMPT_TOKENS * run.hidden);
    run.tokens = 20;
    run_planned(&run.bench, forward, &run);
    assert_same_bytes(run.states, whole, run.tokens * run.hidden);
    free(whole);
    close_run(&run);
}

static void threads_do_not_change_a_byte(void **state)
{
    (void)state;
    for (int p = 0; p < 2; p++) {
        text_run one = open_run(p ? ACE_BF16 : ACE_F32, 1), two = open_run(p ? ACE_BF16 : ACE_F32, 2);
        run_planned(&one.bench, forward, &one);
        run_planned(&two.bench, forward, &two);
        assert_same_bytes(one.states, two.states, one.tokens * one.hidden);
        close_run(&one);
        close_run(&two);
    }
}

static void a_token_beyond_the_vocabulary_is_an_error(void **state)
{
    (void)state;
    ace_error error = {0};
    text_run run = open_run(ACE_F32, 1);
    assert_true(ace_scratch_reserve(run.bench.dev, 1 << 20, 1 << 20, &error));
    const int32_t bad[] = {run.bench.checkpoint->text_encoder.vocab_size, -1, INT32_MAX, INT32_MIN};
    for (int i = 0; i < 4; i++) {
        run.ids[7] = bad[i];
        forward(&run, run.bench.dev, 0);
        assert_device_failed(run.bench.dev, ACE_ERROR_MODEL, "vocabulary");
    }
    close_run(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hidden_states_are_the_references_in_f32),
        cmocka_unit_test(hidden_states_are_near_the_references_in_bf16),
        cmocka_unit_test(embedded_tokens_are_rows_of_the_table),
        cmocka_unit_test(a_token_does_not_see_the_ones_behind_it),
        cmocka_unit_test(threads_do_not_change_a_byte),
        cmocka_unit_test(a_token_beyond_the_vocabulary_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
