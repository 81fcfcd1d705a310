/* Audio tokenizer, detokenizer and their quantiser against the official ones. */
#include "model/model_fixture.h"

#include "model/audio_tokenizer.h"

enum { FRAMES = 33, GROUPS = 7, CODES = 7, FSQ_SAMPLES = 500, BOOK_STEP = 97, LONG_GROUPS = 150 };

typedef struct codes_run {
    bench bench;
    audio_tokenizer tokenizers[2]; /* on the device, on the meter */
    audio_detokenizer detokenizers[2];
    int64_t window, channels;
    int64_t frames, count;
    float *latents, *silence, *decoded;
    int32_t *codes, *given;
} codes_run;

static void encode(void *context, ace_device *dev, int which)
{
    (void)dev;
    codes_run *run = context;
    audio_tokenizer_encode(&run->tokenizers[which], which ? NULL : run->codes, which ? NULL : run->latents, run->frames,
                           which ? NULL : run->silence);
}

static void decode(void *context, ace_device *dev, int which)
{
    (void)dev;
    codes_run *run = context;
    audio_detokenizer_decode(&run->detokenizers[which], which ? NULL : run->decoded, which ? NULL : run->given,
                             run->count);
}

/* Room for the longest of the tests; the goldens' sizes are set. */
static codes_run open_run(const char *variant, ace_dtype precision, int threads)
{
    ace_error error = {0};
    codes_run run = {.bench = open_bench(variant, precision, threads), .frames = FRAMES, .count = CODES};
    const dit_config *config = &run.bench.checkpoint->dit;
    const ace_part *part = run.bench.checkpoint->parts[ACE_PART_DIT];
    ace_device *devices[2] = {run.bench.dev, run.bench.meter};
    for (int i = 0; i < 2; i++) {
        audio_tokenizer_load(&run.tokenizers[i], devices[i], part, config);
        audio_detokenizer_load(&run.detokenizers[i], devices[i], part, config);
        assert_device_ok(devices[i]);
    }
    assert_int_equal(ace_device_get_stats(run.bench.dev).weight_bytes,
                     ace_device_get_stats(run.bench.meter).weight_bytes);
    run.window = config->pool_window;
    run.channels = config->latent_channels;
    run.latents = noise(TOKENIZER_SEED, LONG_GROUPS * run.window * run.channels);
    run.silence = new_floats(run.window * run.channels);
    if (!checkpoint_silence(run.bench.checkpoint, 0, run.window, run.silence, &error)) fail_msg("%s", error.message);
    run.decoded = new_floats(LONG_GROUPS * run.window * run.channels);
    run.codes = calloc(LONG_GROUPS, sizeof *run.codes);
    run.given = calloc(LONG_GROUPS, sizeof *run.given);
    assert_true(run.codes && run.given);
    for (int i = 0; i < LONG_GROUPS; i++) run.given[i] = (i * 9973 + 4711) % 64000;
    return run;
}

static void close_run(codes_run *run)
{
    free(run->latents);
    free(run->silence);
    free(run->decoded);
    free(run->codes);
    free(run->given);
    for (int i = 0; i < 2; i++) {
        audio_tokenizer_free(&run->tokenizers[i]);
        audio_detokenizer_free(&run->detokenizers[i]);
    }
    close_bench(&run->bench);
}

/* ---- the quantiser ----------------------------------------------------------------------------------------------- */

static void codes_of_any_values_are_the_references(void **state)
{
    (void)state;
    bench b = open_bench("turbo", ACE_F32, 1);
    const dit_config *config = &b.checkpoint->dit;
    assert_int_equal(config->fsq_count, 6);
    float *expected = golden(&b, "fsq.codes", FSQ_SAMPLES), *z = noise(FSQ_SEED, FSQ_SAMPLES * 6);
    for (int i = 0; i < FSQ_SAMPLES * 6; i++) z[i] *= 3;
    for (int i = 0; i < FSQ_SAMPLES; i++) assert_int_equal(fsq_index(config, z + 6 * i), (int32_t)expected[i]);
    free(z);
    free(expected);
    close_bench(&b);
}

static void values_of_codes_are_the_references(void **state)
{
    (void)state;
    enum { SAMPLES = (64000 + BOOK_STEP - 1) / BOOK_STEP };
    bench b = open_bench("turbo", ACE_F32, 1);
    float *expected = golden(&b, "fsq.book", SAMPLES * 6), values[6];
    for (int i = 0; i < SAMPLES; i++) {
        fsq_values(&b.checkpoint->dit, i * BOOK_STEP, values);
        assert_same_bytes(values, expected + 6 * i, 6);
    }
    free(expected);
    close_bench(&b);
}

/* What the soft clamp turns into a code's own values must give the code again. */
static void every_code_survives_the_round_trip(void **state)
{
    (void)state;
    bench b = open_bench("turbo", ACE_F32, 1);
    const dit_config *config = &b.checkpoint->dit;
    assert_int_equal(fsq_codes(config), 64000);
    for (int32_t i = 0; i < 64000; i++) {
        float values[6], unclamped[6];
        fsq_values(config, i, values);
        for (int d = 0; d < 6; d++) {
            float limit = 1 + 1 / (float)(config->fsq_levels[d] - 1);
            assert_true(values[d] >= -1 && values[d] <= 1);
            unclamped[d] = limit * atanhf(values[d] / limit);
        }
        assert_int_equal(fsq_index(config, unclamped), i);
    }
    close_bench(&b);
}

static void values_beyond_the_range_take_the_outer_levels(void **state)
{
    (void)state;
    bench b = open_bench("turbo", ACE_F32, 1);
    const float low[6] = {-1e30f, -100, -50, -30, -20, -1e9f}, high[6] = {1e30f, 100, 50, 30, 20, 1e9f};
    assert_int_equal(fsq_index(&b.checkpoint->dit, low), 0);
    assert_int_equal(fsq_index(&b.checkpoint->dit, high), 63999);
    close_bench(&b);
}

/* ---- the models -------------------------------------------------------------------------------------------------- */

static void codes_of_latents_are_the_references(void **state)
{
    (void)state;
    for (int v = 0; v < VARIANTS; v++) {
        codes_run run = open_run(variants[v], ACE_F32, 1);
        run_planned(&run.bench, encode, &run);
        float *expected = golden(&run.bench, "tokenizer.codes", GROUPS);
        for (int i = 0; i < GROUPS; i++) assert_int_equal(run.codes[i], (int32_t)expected[i]);
        free(expected);
        close_run(&run);
    }
}

static void check_decoder(ace_dtype precision)
{
    for (int v = 0; v < VARIANTS; v++) {
        codes_run run = open_run(variants[v], precision, 1);
        run_planned(&run.bench, decode, &run);
        assert_golden(&run.bench, "detokenizer.latents", run.decoded, CODES * run.window * run.channels);
        close_run(&run);
    }
}

static void latents_of_codes_are_the_references_in_f32(void **state)
{
    (void)state;
    check_decoder(ACE_F32);
}

static void latents_of_codes_are_near_the_references_in_bf16(void **state)
{
    (void)state;
    check_decoder(ACE_BF16);
}

/* More codes than are computed at a time: each must come out as if it were alone. */
static void a_code_does_not_depend_on_the_others(void **state)
{
    (void)state;
    codes_run run = open_run("turbo", ACE_F32, 1);
    int64_t width = run.window * run.channels;
    run.frames = LONG_GROUPS * run.window;
    run.count = LONG_GROUPS;
    run_planned(&run.bench, encode, &run);
    run_planned(&run.bench, decode, &run);
    float *latents = run.latents, *decoded = run.decoded, alone[5 * 64];
    int32_t *codes = run.codes, *given = run.given, code = -1;
    assert_int_equal(width, 5 * 64);
    for (int i = 0; i < LONG_GROUPS; i += 7) {
        run.latents = latents + i * width, run.codes = &code, run.frames = run.window;
        run_planned(&run.bench, encode, &run);
        assert_int_equal(code, codes[i]);
        run.given = given + i, run.decoded = alone, run.count = 1;
        run_planned(&run.bench, decode, &run);
        assert_same_bytes(alone, decoded + i * width, width);
    }
    run.latents = latents, run.decoded = decoded, run.codes = codes, run.given = given;
    close_run(&run);
}

static void threads_do_not_change_a_byte(void **state)
{
    (void)state;
    for (int p = 0; p < 2; p++) {
        codes_run one = open_run("turbo", p ? ACE_BF16 : ACE_F32, 1);
        codes_run two = open_run("turbo", p ? ACE_BF16 : ACE_F32, 2);
        codes_run *runs[2] = {&one, &two};
        for (int i = 0; i < 2; i++) {
            runs[i]->frames = LONG_GROUPS * runs[i]->window;
            runs[i]->count = LONG_GROUPS;
            run_planned(&runs[i]->bench, encode, runs[i]);
            run_planned(&runs[i]->bench, decode, runs[i]);
        }
        assert_memory_equal(one.codes, two.codes, LONG_GROUPS * sizeof *one.codes);
        assert_same_bytes(one.decoded, two.decoded, LONG_GROUPS * one.window * one.channels);
        close_run(&one);
        close_run(&two);
    }
}

static void a_code_that_does_not_exist_is_an_error(void **state)
{
    (void)state;
    ace_error error = {0};
    codes_run run = open_run("turbo", ACE_F32, 1);
    assert_true(ace_scratch_reserve(run.bench.dev, 1 << 20, 1 << 20, &error));
    const int32_t bad[] = {64000, -1, INT32_MAX, INT32_MIN};
    for (int i = 0; i < 4; i++) {
        run.given[3] = bad[i];
        decode(&run, run.bench.dev, 0);
        assert_device_failed(run.bench.dev, ACE_ERROR_USAGE, "position 3");
    }
    close_run(&run);
}

static void latents_that_are_not_numbers_give_no_codes(void **state)
{
    (void)state;
    ace_error error = {0};
    codes_run run = open_run("turbo", ACE_F32, 1);
    assert_true(ace_scratch_reserve(run.bench.dev, 1 << 20, 1 << 20, &error));
    run.latents[17] = NAN;
    encode(&run, run.bench.dev, 0);
    assert_device_failed(run.bench.dev, ACE_ERROR_NUMERIC, "not finite");
    close_run(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_of_any_values_are_the_references),
        cmocka_unit_test(values_of_codes_are_the_references),
        cmocka_unit_test(every_code_survives_the_round_trip),
        cmocka_unit_test(values_beyond_the_range_take_the_outer_levels),
        cmocka_unit_test(codes_of_latents_are_the_references),
        cmocka_unit_test(latents_of_codes_are_the_references_in_f32),
        cmocka_unit_test(latents_of_codes_are_near_the_references_in_bf16),
        cmocka_unit_test(a_code_does_not_depend_on_the_others),
        cmocka_unit_test(threads_do_not_change_a_byte),
        cmocka_unit_test(a_code_that_does_not_exist_is_an_error),
        cmocka_unit_test(latents_that_are_not_numbers_give_no_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
