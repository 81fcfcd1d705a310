/* A model with four query heads a key head, as the 4B has, that is wider than its heads together: against transformers,
 * in the middle of a batch. */
#include "lm/engine_fixture.h"

#include "lm/lm_engine.h"

#include <string.h>

static const char name[] = "engine-wide";
static const ace_cpu_options f32 = {.precision = ACE_F32, .threads = 1};

enum { BATCH = 4, REFERENCE = 2 /* the item of which transformers knows the text */ };

/* ---- logits ---------------------------------------------------------------------------------------------------- */

/* Four sequences, of which REFERENCE is the known one, begun together and continued token by token: its logits at
 * every step. */
static void read_together(const tiny_lm *lm, int32_t *const ids[BATCH], int64_t prompt, int64_t steps, float *logits)
{
    ace_error error = {0};
    int64_t hidden = lm->config.stack.hidden, vocabulary = lm->config.vocab_size, all = prompt + steps;
    assert_true(ace_scratch_reserve(lm->dev, (size_t)16 << 20, (size_t)16 << 20, &error));
    qwen3_cache cache = qwen3_cache_new(&lm->model, BATCH * all, all, BATCH * prompt);
    ace_mat states = ace_scratch(lm->dev, ACE_F32, BATCH, hidden), y = ace_scratch(lm->dev, ACE_F32, BATCH, vocabulary);
    qwen3_sequence sequences[BATCH];
    float *rows = new_floats(BATCH * vocabulary);
    for (int i = 0; i < BATCH; i++) sequences[i] = (qwen3_sequence){.first = i * all, .capacity = all};
    for (int64_t step = 0; step <= steps; step++) {
        qwen3_span spans[BATCH];
        int32_t *pass = malloc((size_t)(BATCH * prompt) * sizeof *pass);
        assert_non_null(pass);
        int64_t count = 0;
        for (int i = 0; i < BATCH; i++) {
            int64_t first = step ? prompt + step - 1 : 0, from = i == REFERENCE || step ? first : 2 * i;
            /* the others' prompts are shorter: their positions are not the reference's */
            spans[i] = (qwen3_span){&sequences[i], (step ? 1 : prompt) - (from - first)};
            memcpy(pass + count, ids[i] + from, (size_t)spans[i].count * sizeof *pass);
            count += spans[i].count;
        }
        qwen3_lm_extend(&lm->model, &cache, states, pass, spans, BATCH);
        qwen3_lm_logits(&lm->model, y, states, 0, NULL, vocabulary);
        ace_download(lm->dev, rows, y);
        assert_device_ok(lm->dev);
        memcpy(logits + step * vocabulary, rows + REFERENCE * vocabulary, (size_t)vocabulary * sizeof *rows);
        free(pass);
    }
    free(rows);
    ace_scratch_release(lm->dev, (ace_mark){0});
}

static void logits_in_a_batch_are_transformers(void **state)
{
    (void)state;
    for (int isa = ACE_ISA_AUTO; isa <= ACE_ISA_AVX512; isa++) {
        ace_error error = {0};
        ace_cpu_options options = {.precision = ACE_F32, .threads = 2, .isa = (ace_isa)isa};
        ace_device *probe = ace_cpu_open(&options, &error);
        if (!probe) continue; /* not on this CPU */
        ace_device_close(probe);
        tiny_lm lm = open_tiny_lm(name, &options);
        int64_t prompt, steps, count, vocabulary = lm.config.vocab_size;
        int32_t *head = lm_golden_ids(&lm, "prompt", &prompt), *tail = lm_golden_ids(&lm, "forced", &steps);
        float *expected = lm_golden(&lm, "logits", &count), *logits = new_floats(count);
        assert_int_equal(count, (steps + 1) * vocabulary);
        int32_t *ids[BATCH];
        for (int i = 0; i < BATCH; i++) {
            ids[i] = malloc((size_t)(prompt + steps) * sizeof *ids[i]);
            assert_non_null(ids[i]);
            memcpy(ids[i], head, (size_t)prompt * sizeof *head);
            memcpy(ids[i] + prompt, tail, (size_t)steps * sizeof *tail);
            for (int64_t t = 0; i != REFERENCE && t < prompt + steps; t++)
                ids[i][t] = (int32_t)((ids[i][t] + 17 * (i + 1)) % vocabulary);
        }
        read_together(&lm, ids, prompt, steps, logits);
        double worst = 0, largest = 0;
        for (int64_t i = 0; i < count; i++) {
            largest = fmax(largest, fabs((double)expected[i]));
            worst = fmax(worst, fabs((double)expected[i] - (double)logits[i]));
            assert_true(isfinite(logits[i]));
        }
        print_message("%s: %lld steps, logits up to %.1f, error %.1e\n", ace_device_name(lm.dev), (long long)steps,
                      largest, worst);
        assert_true(largest > 1);
        assert_true(worst <= 1e-4);
        for (int i = 0; i < BATCH; i++) free(ids[i]);
        free(head);
        free(tail);
        free(expected);
        free(logits);
        close_tiny_lm(&lm);
    }
}

/* ---- texts ----------------------------------------------------------------------------------------------------- */

typedef struct writing {
    const char *golden;
    lm_token_range range;
    lm_sampling sampling;
} writing;

static lm_item text_item(lm_free_text *text, const int32_t *prompt, int64_t count, int32_t *tokens)
{
    return (lm_item){.prompt = prompt,
                     .prompt_count = count,
                     .constraint = lm_constraint_free_text(text),
                     .seed = 0x123456789ABCDEF,
                     .tokens = tokens};
}

static void must_write(const tiny_lm *lm, lm_item *items, int count, bool guided, const lm_write_options *options)
{
    ace_error error = {0};
    lm_session_limits limits = {count, guided, lm_rows_needed(count, 64, options->negative_count, options->max_tokens),
                                400, 0};
    assert_true(ace_scratch_reserve(lm->dev, (size_t)32 << 20, (size_t)32 << 20, &error));
    lm_session *session = lm_session_open(&lm->model, &limits, &error);
    if (!session || !lm_write(session, items, count, options, &error)) fail_msg("%s", error.message);
    lm_session_close(session);
}

/* One item of four, whose prompts have four lengths, is transformers' text; the others are what they are alone. */
static void check_batch(const writing *w)
{
    tiny_lm lm = open_tiny_lm(name, &f32);
    int64_t prompt_count, negative_count, count;
    int32_t *prompt = lm_golden_ids(&lm, "prompt", &prompt_count);
    int32_t *negative = lm_golden_ids(&lm, "negative", &negative_count);
    int32_t *expected = lm_golden_ids(&lm, w->golden, &count);
    const int64_t lengths[BATCH] = {9, prompt_count - 1, prompt_count, 20};
    lm_free_text texts[BATCH];
    lm_item items[BATCH];
    int32_t *tokens[BATCH], *alone = calloc((size_t)count, sizeof *alone);
    lm_write_options options = {.sampling = w->sampling,
                                .stream = LM_STREAM_CODES,
                                .max_tokens = count,
                                .negative = negative,
                                .negative_count = negative_count};
    bool guided = w->sampling.guidance > 1;
    for (int i = 0; i < BATCH; i++) {
        tokens[i] = calloc((size_t)count, sizeof *tokens[i]);
        texts[i] = (lm_free_text){w->range, -1, false};
        items[i] = text_item(&texts[i], prompt, lengths[i], tokens[i]);
    }
    must_write(&lm, items, BATCH, guided, &options);
    int different = 0;
    for (int i = 0; i < BATCH; i++) {
        lm_free_text text = {w->range, -1, false};
        lm_item item = text_item(&text, prompt, lengths[i], alone);
        must_write(&lm, &item, 1, guided, &options);
        assert_int_equal(item.count, count);
        assert_int_equal(items[i].count, count);
        assert_memory_equal(tokens[i], alone, (size_t)count * sizeof *alone);
        different += memcmp(alone, expected, (size_t)count * sizeof *alone) != 0;
    }
    for (int64_t t = 0; t < count; t++)
        if (tokens[REFERENCE][t] != expected[t])
            fail_msg("%s: token %lld is %d, expected %d", w->golden, (long long)t, (int)tokens[REFERENCE][t],
                     (int)expected[t]);
    assert_int_equal(different, BATCH - 1);
    for (int i = 0; i < BATCH; i++) free(tokens[i]);
    free(alone);
    free(prompt);
    free(negative);
    free(expected);
    close_tiny_lm(&lm);
}

static void texts_in_a_batch_are_transformers(void **state)
{
    (void)state;
    static const writing writings[] = {{"greedy", {0, 200}, {0, 0, 1, 1, 1}},
                                       {"guided", {40, 200}, {0, 0, 1, 1, 2.5f}},
                                       {"sampled", {40, 200}, {0.85f, 50, 0.9f, 1, 2.5f}}};
    for (size_t i = 0; i < sizeof writings / sizeof *writings; i++) check_batch(&writings[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_in_a_batch_are_transformers),
        cmocka_unit_test(texts_in_a_batch_are_transformers),
    };
    return cmocka_run_group_tests_name("lm/engine_wide", tests, NULL, NULL);
}
