/* Levels: bit for bit the official program's (tools/reference/audio_level.py), whatever the blocks. */
#include "audio/audio_level.h"

#include "audio/audio_spool.h"
#include "audio_support.h"

static float peak_of(const float *x, size_t samples)
{
    float peak = 0.0f;
    for (size_t i = 0; i < samples; i++) peak = fmaxf(peak, fabsf(x[i]));
    return peak;
}

static void test_equals_official(void **state)
{
    (void)state;
    FILE *file = fopen(TEST_DATA "/audio/level.txt", "r");
    assert_non_null(file);
    double db, fade_in, fade_out;
    int frames, cases = 0;
    while (fscanf(file, "%lf %lf %lf %d", &db, &fade_in, &fade_out, &frames) == 4) {
        assert_in_range(frames, 1, 1000);
        float in[2000], want[2000];
        for (int i = 0; i < frames; i++)
            assert_int_equal(fscanf(file, "%f %f %f %f", in + 2 * i, in + 2 * i + 1, want + 2 * i, want + 2 * i + 1),
                             4);
        audio_level_options options = {
            .normalize = db <= 0.0, .peak_db = db <= 0.0 ? db : -1.0, .fade_in = fade_in, .fade_out = fade_out};
        audio_level level;
        ace_error error = {0};
        assert_ok(audio_level_plan(&level, &options, peak_of(in, 2 * (size_t)frames), frames, 48000, &error), error);
        /* As one block, and frame by frame. */
        float whole[2000];
        memcpy(whole, in, sizeof whole);
        audio_level_apply(&level, 0, whole, (size_t)frames);
        for (int i = 0; i < frames; i++) audio_level_apply(&level, i, in + 2 * i, 1);
        assert_memory_equal(whole, in, (size_t)frames * 2 * sizeof *in);
        for (int i = 0; i < 2 * frames; i++)
            if (whole[i] != want[i])
                fail_msg("case %d, sample %d: %a instead of %a", cases, i, (double)whole[i], (double)want[i]);
        cases++;
    }
    fclose(file);
    assert_int_equal(cases, 9);
}

static void test_default_peak(void **state)
{
    (void)state;
    const float scales[] = {0.001f, 0.4f, 1.0f, 1.3f, 900.0f};
    for (int s = 0; s < 5; s++) {
        float *signal = make_signal(48000);
        for (int i = 0; i < 96000; i++) signal[i] *= scales[s];
        audio_level_options options = audio_level_defaults();
        audio_level level;
        ace_error error = {0};
        assert_ok(audio_level_plan(&level, &options, peak_of(signal, 96000), 48000, 48000, &error), error);
        audio_level_apply(&level, 0, signal, 48000);
        float peak = peak_of(signal, 96000);
        assert_true(fabs((double)peak - pow(10.0, -1.0 / 20.0)) < 1e-6);
        assert_true(fabs((double)peak - 0.891251) < 1e-6);
        free(signal);
    }
}

static void test_percentile(void **state)
{
    /* The ramp k / 100 (k = 1..100) twice: with 10 % of clipping the reference is sample floor(199 * 0.9) = 179. */
    (void)state;
    assert_int_equal(audio_level_percentile_rank(200, 100000), 179);
    assert_int_equal(audio_level_percentile_rank(28800000, 10), 28799711);
    assert_int_equal(audio_level_percentile_rank(100, 0), 99);
    float frames[200];
    for (int i = 0; i < 200; i++) frames[i] = (i % 2 ? -1.0f : 1.0f) * (float)(i / 2 + 1) / 100.0f;
    float reference = frames[178];
    audio_level level;
    ace_error error = {0};
    assert_ok(audio_level_plan_percentile(&level, reference, 100, &error), error);
    audio_level_apply(&level, 0, frames, 100);
    assert_true(fabsf(frames[178] - 1.0f) < 1e-6f && frames[199] == -1.0f && frames[198] == 1.0f);
    assert_true(fabs((double)frames[0] - 0.01 / 0.9) < 1e-8);
    float quiet[2] = {1e-7f, -1e-7f};
    assert_ok(audio_level_plan_percentile(&level, 1e-7f, 1, &error), error);
    audio_level_apply(&level, 0, quiet, 1);
    assert_true(quiet[0] == 1e-7f && quiet[1] == -1e-7f);
    assert_fails(audio_level_plan_percentile(&level, NAN, 1, &error), error, ACE_ERROR_NUMERIC, "nan");
}

static void test_refuses(void **state)
{
    (void)state;
    audio_level level;
    ace_error error = {0};
    const audio_level_options bad[] = {{true, 0.1, 0, 0},   {true, NAN, 0, 0},  {true, -INFINITY, 0, 0},
                                       {true, -1, -1, 0},   {true, -1, 0, NAN}, {true, -1, INFINITY, 0},
                                       {false, -1, 0, -0.1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_fails(audio_level_plan(&level, &bad[i], 0.5f, 100, 48000, &error), error, ACE_ERROR_USAGE, "possible");
    audio_level_options options = audio_level_defaults();
    assert_fails(audio_level_plan(&level, &options, NAN, 100, 48000, &error), error, ACE_ERROR_NUMERIC, "nan");
    assert_fails(audio_level_plan(&level, &options, INFINITY, 100, 48000, &error), error, ACE_ERROR_NUMERIC, "inf");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_official),
        cmocka_unit_test(test_default_peak),
        cmocka_unit_test(test_percentile),
        cmocka_unit_test(test_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
