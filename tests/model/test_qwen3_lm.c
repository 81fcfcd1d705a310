/* The writing Qwen3 against transformers' Qwen3ForCausalLM, and against itself read in other pieces. */
#include "lm/engine_fixture.h"

static const char *const names[] = {"engine-tied", "engine-untied"};

static ace_device *device_of(const tiny_lm *lm, int which)
{
    return which ? lm->meter : lm->dev;
}

static const qwen3_lm *model_of(const tiny_lm *lm, int which)
{
    return which ? &lm->planned : &lm->model;
}

/* A sequence read in pieces: `pieces` lengths, the last repeated until the ids are used up. After each piece its logits
 * go to `logits` (NULL: not wanted), rows of the whole vocabulary. */
typedef struct reading {
    const tiny_lm *lm;
    const int32_t *ids;
    int64_t count, pieces[4];
    float *logits;
} reading;

static void read_in_pieces(const reading *r, int which)
{
    ace_device *dev = device_of(r->lm, which);
    int64_t hidden = r->lm->config.stack.hidden, vocabulary = r->lm->config.vocab_size, row = 0;
    ace_mark mark = ace_scratch_mark(dev);
    qwen3_cache cache = qwen3_cache_new(model_of(r->lm, which), r->count, r->count, r->count);
    ace_mat state = ace_scratch(dev, ACE_F32, 1, hidden), logits = ace_scratch(dev, ACE_F32, 1, vocabulary);
    qwen3_sequence sequence = {.capacity = r->count};
    for (int i = 0; sequence.length < r->count; i += i < 3) {
        int64_t left = r->count - sequence.length, piece = r->pieces[i] < left ? r->pieces[i] : left;
        const int32_t *ids = r->ids + sequence.length;
        qwen3_lm_extend(model_of(r->lm, which), &cache, state, which ? NULL : ids, &(qwen3_span){&sequence, piece}, 1);
        qwen3_lm_logits(model_of(r->lm, which), logits, state, 0, NULL, vocabulary);
        if (r->logits) ace_download(dev, r->logits + row++ * vocabulary, logits);
        if (!ace_device_ok(dev, NULL)) break;
    }
    ace_scratch_release(dev, mark);
}

static void read_planned(reading *r)
{
    ace_error error = {0};
    ace_device_reset_peak(r->lm->meter);
    ace_scratch_reserve(r->lm->meter, 0, 0, NULL);
    read_in_pieces(r, 1);
    assert_device_ok(r->lm->meter);
    size_t planned = ace_device_get_stats(r->lm->meter).scratch_peak;
    assert_true(ace_scratch_reserve(r->lm->dev, planned, ace_device_get_stats(r->lm->meter).host_peak, &error));
    ace_device_reset_peak(r->lm->dev);
    read_in_pieces(r, 0);
    assert_device_ok(r->lm->dev);
    assert_int_equal(ace_device_get_stats(r->lm->dev).scratch_peak, planned);
}

static int32_t *prompt_and_forced(const tiny_lm *lm, int64_t *prompt, int64_t *all)
{
    int64_t forced;
    int32_t *a = lm_golden_ids(lm, "prompt", prompt), *b = lm_golden_ids(lm, "forced", &forced);
    *all = *prompt + forced;
    a = realloc(a, (size_t)*all * sizeof *a);
    assert_non_null(a);
    memcpy(a + *prompt, b, (size_t)forced * sizeof *a);
    free(b);
    return a;
}

static void check_logits(const char *name, const ace_cpu_options *options, double tolerance)
{
    tiny_lm lm = open_tiny_lm(name, options);
    int64_t prompt, all, count, vocabulary = lm.config.vocab_size;
    int32_t *ids = prompt_and_forced(&lm, &prompt, &all);
    float *expected = lm_golden(&lm, "logits", &count);
    assert_int_equal(count, (all - prompt + 1) * vocabulary);
    float *logits = new_floats(count);
    reading r = {.lm = &lm, .ids = ids, .count = all, .pieces = {prompt, 1, 1, 1}, .logits = logits};
    read_planned(&r);
    double largest = 0, worst = 0;
    for (int64_t i = 0; i < count; i++) {
        largest = fmax(largest, fabs((double)expected[i]));
        worst = fmax(worst, fabs((double)expected[i] - (double)logits[i]));
        if (!isfinite(logits[i])) fail_msg("%s: logit %lld is not finite", name, (long long)i);
    }
    print_message("%-13s %-40s prefill and %lld steps: relative error %.1e\n", name, ace_device_name(lm.dev),
                  (long long)(all - prompt), worst / largest);
    assert_true(largest > 1);
    if (!(worst <= tolerance * largest)) fail_msg("%s: too far from the reference", name);
    free(ids);
    free(expected);
    free(logits);
    close_tiny_lm(&lm);
}

static void logits_are_the_references(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++)
        for (int isa = ACE_ISA_AUTO; isa <= ACE_ISA_AVX512; isa++) {
            ace_error error = {0};
            ace_cpu_options options = {.precision = ACE_F32, .threads = 1, .isa = (ace_isa)isa};
            ace_device *probe = ace_cpu_open(&options, &error);
            if (!probe) continue; /* not on this CPU */
            ace_device_close(probe);
            check_logits(names[i], &options, 1e-5);
        }
}

static void logits_are_near_the_references_in_bf16(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) check_logits(names[i], &(ace_cpu_options){.precision = ACE_BF16, .threads = 2}, 0.05);
}

/* On a GPU the steps of a token run from one recording: all but the first. */
static void assert_recorded(long steps, long expected)
{
#ifdef TEST_ON_GPU
    assert_int_equal(steps, expected);
#else
    (void)expected;
    assert_int_equal(steps, 0);
#endif
}

static void pieces_do_not_change_a_bit(void **state)
{
    (void)state;
    static const int64_t cuts[][4] = {{200, 200, 200, 200}, {1, 1, 1, 1}, {3, 64, 1, 17}, {65, 31, 33, 2}};
    for (int p = 0; p < 2; p++) {
        tiny_lm lm = open_tiny_lm(names[0], &(ace_cpu_options){.precision = p ? ACE_BF16 : ACE_F32, .threads = 2});
        int64_t prompt, all, vocabulary = lm.config.vocab_size;
        int32_t *ids = prompt_and_forced(&lm, &prompt, &all);
        float *whole = new_floats(vocabulary), *steps = new_floats(all * vocabulary);
        for (int c = 0; c < 4; c++) {
            reading r = {.lm = &lm, .ids = ids, .count = 200, .logits = steps};
            memcpy(r.pieces, cuts[c], sizeof r.pieces);
            long recorded = test_recorded_steps(lm.dev);
            read_planned(&r);
            if (c == 1) assert_recorded(test_recorded_steps(lm.dev) - recorded, 199);
            int64_t rows = 0, length = 0;
            for (int i = 0; length < 200; i += i < 3, rows++) length += cuts[c][i];
            const float *last = steps + (rows - 1) * vocabulary;
            if (c == 0)
                memcpy(whole, last, (size_t)vocabulary * sizeof *whole);
            else
                assert_same_bytes(last, whole, vocabulary);
        }
        free(ids);
        free(whole);
        free(steps);
        close_tiny_lm(&lm);
    }
}

static void chosen_rows_of_the_head_are_those_of_the_whole(void **state)
{
    (void)state;
    ace_error error = {0};
    tiny_lm lm = open_tiny_lm(names[0], &(ace_cpu_options){.precision = ACE_BF16, .threads = 2});
    enum { CHOSEN = 7, FIRST = 41, RANGE = 133, ROWS = 5 };
    static const int32_t chosen[CHOSEN] = {0, 1, 17, 100, 101, 254, 255};
    int64_t hidden = lm.config.stack.hidden, vocabulary = lm.config.vocab_size;
    assert_true(ace_scratch_reserve(lm.dev, 1 << 20, 1 << 20, &error));
    float *values = noise(3, ROWS * hidden), *whole = new_floats(ROWS * vocabulary), *part = new_floats(ROWS * RANGE);
    ace_mat x = ace_scratch(lm.dev, ACE_F32, ROWS, hidden), y = ace_scratch(lm.dev, ACE_F32, ROWS, vocabulary);
    ace_mat some = ace_scratch(lm.dev, ACE_F32, ROWS, CHOSEN), range = ace_scratch(lm.dev, ACE_F32, ROWS, RANGE);
    ace_upload(lm.dev, x, values);
    qwen3_lm_logits(&lm.model, y, x, 0, NULL, vocabulary);
    ace_download(lm.dev, whole, y);
    qwen3_lm_logits(&lm.model, some, x, 0, chosen, CHOSEN);
    ace_download(lm.dev, part, some);
    for (int m = 0; m < ROWS; m++)
        for (int i = 0; i < CHOSEN; i++)
            assert_same_bytes(&part[m * CHOSEN + i], &whole[m * vocabulary + chosen[i]], 1);
    qwen3_lm_logits(&lm.model, range, x, FIRST, NULL, RANGE);
    ace_download(lm.dev, part, range);
    for (int m = 0; m < ROWS; m++) assert_same_bytes(part + m * RANGE, whole + m * vocabulary + FIRST, RANGE);
    assert_device_ok(lm.dev);
    ace_scratch_release(lm.dev, (ace_mark){0});
    free(values);
    free(whole);
    free(part);
    close_tiny_lm(&lm);
}

/* What stays on the device does not change a bit, and the meter knows the height of it. */
static void storage_does_not_change_a_bit(void **state)
{
    (void)state;
    enum { WHICH = 2 };
    for (int i = 0; i < 2; i++)
        for (int p = 0; p < 2; p++) {
            ace_error error = {0};
            tiny_lm lm = open_tiny_lm(names[i], &(ace_cpu_options){.precision = p ? ACE_BF16 : ACE_F32, .threads = 2});
            int64_t prompt, all, vocabulary = lm.config.vocab_size;
            int layers = lm.config.stack.layers;
            int32_t *ids = prompt_and_forced(&lm, &prompt, &all);
            float *plain = new_floats(all * vocabulary), *logits = new_floats(all * vocabulary);
            reading r = {.lm = &lm, .ids = ids, .count = all, .pieces = {prompt, 1, 1, 1}, .logits = plain};
            read_planned(&r);
            size_t everything = ace_device_get_stats(lm.dev).weight_bytes;
            r.logits = logits;
            const qwen3_lm_storage storages[] = {
                {.layers = {.streamed = true}},
                {.layers = {.streamed = true, .resident = layers - 1}},
                {.layers = {.streamed = true, .resident = layers}},
                {.first_row = 100, .rows = 50},
                {.first_row = vocabulary - 1, .rows = 1},
                {.layers = {.streamed = true, .resident = 1}, .first_row = 0, .rows = vocabulary / 2},
            };
            for (size_t s = 0; s < sizeof storages / sizeof *storages; s++) {
                ace_device *devices[WHICH] = {lm.dev, lm.meter};
                qwen3_lm *models[WHICH] = {&lm.model, &lm.planned};
                size_t peaks[WHICH], weights[WHICH];
                for (int d = 0; d < WHICH; d++) {
                    qwen3_lm_free(models[d]);
                    qwen3_lm_load(models[d], devices[d], lm.part, &lm.config, &storages[s]);
                    assert_device_ok(devices[d]);
                    weights[d] = ace_device_get_stats(devices[d]).weight_bytes;
                }
                assert_int_equal(weights[0], weights[1]);
                assert_true(weights[0] < everything || storages[s].layers.resident == layers);
                read_planned(&r);
                for (int d = 0; d < WHICH; d++) {
                    ace_device_stats stats = ace_device_get_stats(devices[d]);
                    peaks[d] = stats.total_peak;
                    assert_int_equal(stats.weight_bytes, weights[d]);
                }
                assert_int_equal(peaks[0], peaks[1]);
                for (int64_t at = 0; at < all - prompt + 1; at++)
                    assert_same_bytes(logits + at * vocabulary, plain + at * vocabulary, vocabulary);
                assert_true(ace_scratch_reserve(lm.dev, 0, 0, &error));
            }
            free(ids);
            free(plain);
            free(logits);
            close_tiny_lm(&lm);
        }
}

/* Ids in any order, kept and fetched ones side by side. */
static void fetched_rows_are_the_kept_ones(void **state)
{
    (void)state;
    enum { CHOSEN = 9, ROWS = 5 };
    static const int32_t chosen[CHOSEN] = {0, 100, 17, 101, 148, 149, 150, 254, 100};
    ace_error error = {0};
    tiny_lm lm = open_tiny_lm(names[0], &(ace_cpu_options){.precision = ACE_BF16, .threads = 2});
    qwen3_lm part;
    qwen3_lm_load(&part, lm.dev, lm.part, &lm.config, &(qwen3_lm_storage){.first_row = 100, .rows = 50});
    assert_device_ok(lm.dev);
    int64_t hidden = lm.config.stack.hidden;
    assert_true(ace_scratch_reserve(lm.dev, 1 << 20, 1 << 20, &error));
    float *values = noise(3, ROWS * hidden), *whole = new_floats(ROWS * CHOSEN), *fetched = new_floats(ROWS * CHOSEN);
    float *rows = new_floats(CHOSEN * hidden), *again = new_floats(CHOSEN * hidden);
    ace_mat x = ace_scratch(lm.dev, ACE_F32, ROWS, hidden), y = ace_scratch(lm.dev, ACE_F32, ROWS, CHOSEN);
    ace_mat e = ace_scratch(lm.dev, ACE_F32, CHOSEN, hidden);
    ace_upload(lm.dev, x, values);
    qwen3_lm_logits(&lm.model, y, x, 0, chosen, CHOSEN);
    ace_download(lm.dev, whole, y);
    qwen3_lm_logits(&part, y, x, 0, chosen, CHOSEN);
    ace_download(lm.dev, fetched, y);
    assert_same_bytes(fetched, whole, ROWS * CHOSEN);
    qwen3_lm_logits(&lm.model, y, x, 95, NULL, CHOSEN);
    ace_download(lm.dev, whole, y);
    qwen3_lm_logits(&part, y, x, 95, NULL, CHOSEN);
    ace_download(lm.dev, fetched, y);
    assert_same_bytes(fetched, whole, ROWS * CHOSEN);
    token_table_embed(&lm.model.embedding, e, chosen, CHOSEN);
    ace_download(lm.dev, rows, e);
    token_table_embed(&part.embedding, e, chosen, CHOSEN);
    ace_download(lm.dev, again, e);
    assert_same_bytes(again, rows, CHOSEN * hidden);
    assert_device_ok(lm.dev);
    ace_scratch_release(lm.dev, (ace_mark){0});
    qwen3_lm_free(&part);
    qwen3_lm_load(&part, lm.dev, lm.part, &lm.config, &(qwen3_lm_storage){.first_row = 1, .rows = 256});
    assert_device_failed(lm.dev, ACE_ERROR_INTERNAL, "beyond the end");
    qwen3_lm_free(&part);
    free(values);
    free(whole);
    free(fetched);
    free(rows);
    free(again);
    close_tiny_lm(&lm);
}

static void a_full_sequence_is_an_error(void **state)
{
    (void)state;
    ace_error error = {0};
    tiny_lm lm = open_tiny_lm(names[0], &(ace_cpu_options){.precision = ACE_F32, .threads = 1});
    const int32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    assert_true(ace_scratch_reserve(lm.dev, 1 << 20, 1 << 20, &error));
    qwen3_cache cache = qwen3_cache_new(&lm.model, 8, 16, 16);
    ace_mat y = ace_scratch(lm.dev, ACE_F32, 1, lm.config.stack.hidden);
    qwen3_sequence sequence = {.capacity = 8};
    qwen3_lm_extend(&lm.model, &cache, y, ids, &(qwen3_span){&sequence, 9}, 1);
    assert_device_failed(lm.dev, ACE_ERROR_INTERNAL, "planned");
    qwen3_lm_extend(&lm.model, &cache, y, ids, &(qwen3_span){&sequence, 8}, 1);
    assert_device_ok(lm.dev);
    qwen3_lm_extend(&lm.model, &cache, y, ids, &(qwen3_span){&sequence, 1}, 1);
    assert_device_failed(lm.dev, ACE_ERROR_INTERNAL, "planned");
    sequence = (qwen3_sequence){.capacity = 8};
    qwen3_lm_extend(&lm.model, &cache, y, (const int32_t[]){1, 100000}, &(qwen3_span){&sequence, 2}, 1);
    assert_device_failed(lm.dev, ACE_ERROR_MODEL, "vocabulary");
    ace_scratch_release(lm.dev, (ace_mark){0});
    close_tiny_lm(&lm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_the_references),
        cmocka_unit_test(logits_are_near_the_references_in_bf16),
        cmocka_unit_test(pieces_do_not_change_a_bit),
        cmocka_unit_test(chosen_rows_of_the_head_are_those_of_the_whole),
        cmocka_unit_test(storage_does_not_change_a_bit),
        cmocka_unit_test(fetched_rows_are_the_kept_ones),
        cmocka_unit_test(a_full_sequence_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
