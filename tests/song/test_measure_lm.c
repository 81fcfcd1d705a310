/* What the planner's speed is measured from: options that are out of range are refused, the figures agree with each
 * other, and the memory is what was planned. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <acestep.h>

#include <math.h>
#include <string.h>

static void options_out_of_range_are_refused(void **state)
{
    (void)state;
    static const ace_measure_lm_options bad[] = {
        {.lm = "2B"},
        {.precision = "f16"},
        {.threads = -1},
        {.songs = 9},
        {.songs = -1},
        {.prompt = 10000},
        {.codes = 1},
        {.guidance = 0.5},
        {.guidance = NAN},
        {.codes = 3001},
        {.prompt = -5},
        {.threads = 5000},
        {.guidance = 1e300},
        {.quantization = "int3"},
        {.quantization = "keep"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ace_error error = {0};
        ace_lm_speed speed;
        assert_false(ace_measure_lm(&bad[i], &speed, &error));
        assert_int_equal(error.status, ACE_ERROR_USAGE);
        assert_true(strlen(error.message) > 10);
    }
}

/* 28 layers of 15,730,944 weights in bf16 and their norms in float32 (lm.md 7), 64,000 rows of 1024 values; keys and
 * values of 112 KiB a token. */
static void figures_agree(void **state)
{
    (void)state;
    ace_error error = {0};
    ace_lm_speed s;
    const ace_measure_lm_options options = {.songs = 2, .prompt = 40, .codes = 3, .threads = 1};
    if (!ace_measure_lm(&options, &s, &error)) fail_msg("%s", error.message);
    assert_true(fabs(s.weight_bytes - (881e6 + 131e6)) < 1e6);
    /* two songs, guidance: 40 tokens of the one prompt, 33 of the other, and on average 1.5 codes behind each */
    assert_true(fabs(s.step_bytes - s.weight_bytes - 2 * (40 + 33 + 2 * 1.5) * 112 * 1024) < 1);
    assert_int_equal(s.prompt_tokens, 73);
    double prompt_gflop = 73 * 0.881; /* the layers alone, lm.md 7 */
    assert_true(s.prompt_gflop > prompt_gflop && s.prompt_gflop < 1.2 * prompt_gflop);
    assert_true(s.prompt_seconds > 0 && s.step_seconds > 0 && s.before.read > 0 && s.after.read > 0);
    double read = fmax(s.before.read, s.after.read), multiply = fmax(s.before.multiply, s.after.multiply);
    assert_true(fabs(s.step_share - s.step_bytes * 1e-9 / s.step_seconds / read) < 1e-9);
    assert_true(fabs(s.prompt_share - s.prompt_gflop / s.prompt_seconds / multiply) < 1e-9);
    assert_true(s.fastest_share >= s.step_share * 0.999);
    assert_true(s.planned_peak > 1000000000 && s.planned_peak == s.measured_peak);
    assert_non_null(strstr(s.device, "1 thread"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_out_of_range_are_refused),
        cmocka_unit_test(figures_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
