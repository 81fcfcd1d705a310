/* Limits, warnings and settings: what a request may ask for on each machine, and what a person may insist on. */
#include "vram/limits.h"
#include "vram/settings.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static tiers_table *table;

static int open_table(void **state)
{
    (void)state;
    ace_error error = {0};
    table = tiers_built_in(&error);
    return table ? 0 : -1;
}

static int close_table(void **state)
{
    (void)state;
    tiers_free(table);
    return 0;
}

static limits_basis card(double gib)
{
    return (limits_basis){tiers_select(&table->profiles[0], gib, false), gib, LIMITS_CARD};
}

static void has(const char *sentence, const char *words)
{
    if (!strstr(sentence, words)) fail_msg("no '%s' in: %s", words, sentence);
}

/* ---- limits ---- */

static void S_08_a_long_song_is_shortened_and_told(void **state)
{
    (void)state;
    limits_basis basis = card(8);
    limits_result result;
    limits_request(&basis, true, 300, LIMITS_ASKED, 1, &result);
    assert_true(result.duration == 240);
    assert_string_not_equal(result.duration_warning, "");
    assert_string_equal(result.batch_warning, "");
    limits_request(&basis, false, 300, LIMITS_ASKED, 1, &result);
    assert_true(result.duration == 300);
    assert_string_equal(result.duration_warning, "");
    /* the limit itself is allowed */
    limits_request(&basis, true, 240, LIMITS_ASKED, 2, &result);
    assert_true(result.duration == 240 && result.batch == 2);
    assert_string_equal(result.duration_warning, "");
    assert_string_equal(result.batch_warning, "");
    limits_request(&basis, true, nextafter(240, 241), LIMITS_ASKED, 2, &result);
    assert_true(result.duration == 240);
    assert_string_not_equal(result.duration_warning, "");
}

static void S_09_a_large_batch_is_reduced_and_told(void **state)
{
    (void)state;
    limits_basis basis = card(8);
    limits_result result;
    limits_request(&basis, false, 60, LIMITS_ASKED, 8, &result);
    assert_int_equal(result.batch, 4);
    has(result.batch_warning, "batch size is 8");
    has(result.batch_warning, "reduced to 4");
    assert_string_equal(result.duration_warning, "");
}

static void S_10_a_warning_states_five_facts(void **state)
{
    (void)state;
    limits_basis basis = card(7.8);
    limits_result result;
    limits_request(&basis, true, 301.5, LIMITS_ASKED, 7, &result);
    has(result.duration_warning, "301.5 s");                 /* what was asked */
    has(result.duration_warning, "7.8 GB of GPU memory");    /* the memory as it is, not the boundary */
    has(result.duration_warning, "at most 240 s");           /* the limit */
    has(result.duration_warning, "with the language model"); /* which of the two */
    has(result.duration_warning, "reduced to 240 s");        /* what was done */
    has(result.duration_warning, "without the language model 360 s are allowed"); /* and what to do */
    has(result.batch_warning, "batch size is 7");
    has(result.batch_warning, "7.8 GB");
    has(result.batch_warning, "at most 2 with the language model");
    has(result.batch_warning, "reduced to 2");
    limits_request(&basis, false, 400, LIMITS_ASKED, 7, &result);
    has(result.duration_warning, "at most 360 s without the language model, so");
    assert_null(strstr(result.duration_warning, "are allowed"));
    assert_null(strstr(result.duration_warning, "simulated"));
}

static void S_12_the_source_audio_counts_when_no_duration_is_given(void **state)
{
    (void)state;
    limits_basis basis = card(8);
    limits_result result;
    limits_request(&basis, false, 400, LIMITS_SOURCE_AUDIO, 1, &result);
    assert_true(result.duration == 360);
    has(result.duration_warning, "the source audio lasts 400 s");
}

static void every_tier_and_state(void **state)
{
    (void)state;
    const tiers_profile *profile = &table->profiles[0];
    for (int i = 0; i < profile->count; i++) {
        for (int with_lm = 0; with_lm < 2; with_lm++) {
            limits_basis basis = {&profile->tiers[i], profile->tiers[i].start + 0.1, LIMITS_CARD};
            limits_result result;
            double longest = limits_max_duration(&basis, with_lm);
            int largest = limits_max_batch(&basis, with_lm);
            limits_request(&basis, with_lm, 600, LIMITS_ASKED, 8, &result);
            assert_true(result.duration == longest && result.batch == largest);
            assert_int_equal(result.duration_warning[0] == '\0', longest == 600);
            assert_int_equal(result.batch_warning[0] == '\0', largest == 8);
            limits_request(&basis, with_lm, longest, LIMITS_ASKED, largest, &result);
            assert_true(result.duration == longest && result.batch == largest);
            assert_string_equal(result.duration_warning, "");
        }
    }
}

static void the_cpu_is_never_called_a_tier(void **state)
{
    (void)state;
    /* a person's own limit for it; the built-in ones are the program's own */
    tier own = table->cpu;
    own.max_duration[0] = 400;
    limits_basis basis = {&own, 5.25, LIMITS_CPU};
    limits_result result;
    limits_request(&basis, false, 500, LIMITS_ASKED, 8, &result);
    has(result.duration_warning, "5.2 GB of memory for the CPU");
    assert_null(strstr(result.duration_warning, "tier"));
    assert_null(strstr(result.batch_warning, "tier"));
}

static void simulated_memory_is_called_simulated(void **state)
{
    (void)state;
    limits_basis basis = {tiers_select(&table->profiles[0], 4, true), 4, LIMITS_SIMULATED};
    limits_result result;
    limits_request(&basis, false, 500, LIMITS_ASKED, 8, &result);
    has(result.duration_warning, "4.0 GB of simulated GPU memory (tier 1)");
    has(result.batch_warning, "simulated");
}

static void numbers_that_are_none_are_limited_too(void **state)
{
    (void)state;
    limits_basis basis = card(80);
    limits_result result;
    limits_request(&basis, true, NAN, LIMITS_ASKED, 1, &result);
    assert_true(result.duration == 600);
    limits_request(&basis, true, INFINITY, LIMITS_ASKED, 2147483647, &result);
    assert_true(result.duration == 600);
    assert_int_equal(result.batch, 8);
}

static void S_13_the_planner_may_not_choose_a_longer_song(void **state)
{
    (void)state;
    static const struct {
        double gib;
        int seconds;
    } rows[] = {{3, 180}, {5, 360}, {7, 240}, {8, 240}, {12, 240}, {16, 480}, {24, 600}, {141, 600}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        limits_basis basis = card(rows[i].gib);
        assert_int_equal(limits_lm_duration(&basis), rows[i].seconds);
    }
}

/* ---- settings ---- */

static const char *variables[8];

static const char *variable(const char *name)
{
    for (int i = 0; variables[i]; i += 2)
        if (strcmp(variables[i], name) == 0) return variables[i + 1];
    return NULL;
}

static settings decide(const limits_basis *basis, const char *init_lm, const char *lm_model)
{
    settings s;
    ace_error error = {0};
    settings_wish wish = {init_lm, lm_model};
    if (!settings_decide(basis, variable, &wish, &s, &error)) fail_msg("%s", error.message);
    return s;
}

static int no_variables(void **state)
{
    (void)state;
    variables[0] = NULL;
    return 0;
}

static void S_15_the_language_model_is_off_up_to_tier_4(void **state)
{
    (void)state;
    static const struct {
        double gib;
        bool init;
        tiers_lm model;
    } rows[] = {{4, false, TIERS_LM_NONE}, {5, false, TIERS_LM_NONE}, {6, false, TIERS_LM_NONE},
                {7, false, TIERS_LM_0_6B}, {8, false, TIERS_LM_0_6B}, {12, true, TIERS_LM_0_6B},
                {16, true, TIERS_LM_1_7B}, {24, true, TIERS_LM_4B}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        limits_basis basis = card(rows[i].gib);
        settings s = decide(&basis, NULL, NULL);
        assert_int_equal(s.init_lm, rows[i].init);
        assert_int_equal(s.lm_model, rows[i].model);
        assert_string_equal(settings_origin_name(s.init_lm_origin), "tier");
        assert_string_equal(s.warning, "");
    }
}

static void S_16_what_a_person_sets_wins_and_is_told(void **state)
{
    (void)state;
    limits_basis small = card(8), large = card(24);
    settings s = decide(&small, "true", "acestep-5Hz-lm-4B");
    assert_true(s.init_lm);
    assert_int_equal(s.lm_model, TIERS_LM_4B);
    assert_string_equal(settings_origin_name(s.init_lm_origin), "user");
    assert_string_equal(settings_origin_name(s.lm_model_origin), "user");
    has(s.warning, "4B");
    has(s.warning, "8.0 GB");
    has(s.warning, "0.6B is the one for");
    has(s.warning, "may run out of memory");
    /* what the tier offers is no reason to warn */
    assert_string_equal(decide(&small, "true", NULL).warning, "");
    /* nor is a model that is not started */
    assert_string_equal(decide(&small, "false", "4B").warning, "");
    s = decide(&large, "no", NULL);
    assert_false(s.init_lm);
    assert_string_equal(settings_origin_name(s.init_lm_origin), "user");
}

static void S_16_a_tier_without_language_model_can_be_overridden(void **state)
{
    (void)state;
    limits_basis basis = card(5);
    settings s = decide(&basis, "1", NULL);
    assert_true(s.init_lm);
    assert_int_equal(s.lm_model, TIERS_LM_0_6B);
    has(s.warning, "5.0 GB of GPU memory");
    has(s.warning, "may run out of memory");
    /* then the limits with the language model are those without (S-05) */
    limits_result result;
    limits_request(&basis, true, 600, LIMITS_ASKED, 4, &result);
    assert_true(result.duration == 360 && result.batch == 1);
}

static void the_command_line_outweighs_the_environment_and_that_the_tier(void **state)
{
    (void)state;
    limits_basis basis = card(16);
    variables[0] = "ACESTEP_INIT_LLM", variables[1] = "False";
    variables[2] = "ACESTEP_LM_MODEL_PATH", variables[3] = "acestep-5Hz-lm-0.6B", variables[4] = NULL;
    settings s = decide(&basis, NULL, NULL);
    assert_false(s.init_lm);
    assert_int_equal(s.lm_model, TIERS_LM_0_6B);
    assert_string_equal(settings_origin_name(s.init_lm_origin), "env");
    assert_string_equal(settings_origin_name(s.lm_model_origin), "env");
    s = decide(&basis, "on", "1.7B");
    assert_true(s.init_lm);
    assert_int_equal(s.lm_model, TIERS_LM_1_7B);
    assert_string_equal(settings_origin_name(s.init_lm_origin), "user");
    variables[1] = "auto", variables[3] = "";
    s = decide(&basis, "auto", NULL);
    assert_true(s.init_lm);
    assert_string_equal(settings_origin_name(s.init_lm_origin), "tier");
}

static void values_of_a_file_say_so(void **state)
{
    (void)state;
    static const char text[] =
        "{\"cpu\": {\"init_lm\": false}, \"profiles\": {\"seed\": {\"tiers\": {\"tier4\": {\"init_lm\": true}}}}}";
    ace_error error = {0};
    tiers_table *mine = tiers_parse(text, strlen(text), "x.json", &error);
    assert_non_null(mine);
    limits_basis basis = {tiers_find(&mine->profiles[0], "tier4"), 8, LIMITS_CARD};
    settings s;
    assert_true(settings_decide(&basis, NULL, NULL, &s, &error));
    assert_true(s.init_lm);
    assert_string_equal(settings_origin_name(s.init_lm_origin), "file");
    assert_string_equal(settings_origin_name(s.lm_model_origin), "tier");
    basis = (limits_basis){&mine->cpu, 8, LIMITS_CPU};
    assert_true(settings_decide(&basis, NULL, NULL, &s, &error));
    assert_false(s.init_lm);
    assert_string_equal(settings_origin_name(s.init_lm_origin), "file");
    basis.tier = &table->cpu;
    assert_true(settings_decide(&basis, NULL, NULL, &s, &error));
    assert_true(s.init_lm);
    assert_string_equal(settings_origin_name(s.init_lm_origin), "tier");
    tiers_free(mine);
}

static void words_that_mean_nothing_are_errors(void **state)
{
    (void)state;
    limits_basis basis = card(16);
    static const settings_wish wishes[] = {{"maybe", NULL}, {"2", NULL}, {NULL, "large"}, {NULL, "acestep-5Hz-lm-3B"}};
    for (size_t i = 0; i < sizeof wishes / sizeof *wishes; i++) {
        ace_error error = {0};
        settings s;
        assert_false(settings_decide(&basis, NULL, &wishes[i], &s, &error));
        assert_int_equal(error.status, ACE_ERROR_USAGE);
    }
    variables[0] = "ACESTEP_INIT_LLM", variables[1] = "perhaps", variables[2] = NULL;
    ace_error error = {0};
    settings s;
    assert_false(settings_decide(&basis, variable, NULL, &s, &error));
    has(error.message, "ACESTEP_INIT_LLM cannot be 'perhaps'");
}

static void S_04_what_needs_the_language_model_is_refused_clearly(void **state)
{
    (void)state;
    limits_basis small = card(4), large = card(24);
    static const char *const features[] = {"thinking", "sample creation", "formatting", "understanding"};
    for (size_t i = 0; i < 4; i++) {
        ace_error error = {0};
        settings off = decide(&small, NULL, NULL), forced = decide(&small, "true", NULL),
                 on = decide(&large, NULL, NULL);
        assert_false(settings_need_lm(&off, &small, features[i], &error));
        assert_int_equal(error.status, ACE_ERROR_USAGE);
        has(error.message, features[i]);
        has(error.message, "off by default with 4.0 GB");
        error = (ace_error){0};
        assert_true(settings_need_lm(&forced, &small, features[i], &error));
        assert_true(settings_need_lm(&on, &large, features[i], &error));
        settings refused = decide(&large, "false", NULL);
        assert_false(settings_need_lm(&refused, &large, features[i], &error));
        has(error.message, "was switched off");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(S_08_a_long_song_is_shortened_and_told),
        cmocka_unit_test(S_09_a_large_batch_is_reduced_and_told),
        cmocka_unit_test(S_10_a_warning_states_five_facts),
        cmocka_unit_test(S_12_the_source_audio_counts_when_no_duration_is_given),
        cmocka_unit_test(every_tier_and_state),
        cmocka_unit_test(the_cpu_is_never_called_a_tier),
        cmocka_unit_test(simulated_memory_is_called_simulated),
        cmocka_unit_test(numbers_that_are_none_are_limited_too),
        cmocka_unit_test(S_13_the_planner_may_not_choose_a_longer_song),
        cmocka_unit_test_setup(S_15_the_language_model_is_off_up_to_tier_4, no_variables),
        cmocka_unit_test_setup(S_16_what_a_person_sets_wins_and_is_told, no_variables),
        cmocka_unit_test_setup(S_16_a_tier_without_language_model_can_be_overridden, no_variables),
        cmocka_unit_test_setup(the_command_line_outweighs_the_environment_and_that_the_tier, no_variables),
        cmocka_unit_test_setup(values_of_a_file_say_so, no_variables),
        cmocka_unit_test_setup(words_that_mean_nothing_are_errors, no_variables),
        cmocka_unit_test_setup(S_04_what_needs_the_language_model_is_refused_clearly, no_variables),
    };
    return cmocka_run_group_tests(tests, open_table, close_table);
}
