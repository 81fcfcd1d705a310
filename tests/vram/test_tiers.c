/* The tier table: what is promised (S-01 ... of the specification), its boundaries, and files of the user's. */
#include "support/place.h"
#include "vram/tiers.h"

#include <math.h>
#include <string.h>

static tiers_table *table;

static int open_table(void **state)
{
    ace_error error = {0};
    table = tiers_built_in(&error);
    return table ? make_place(state) : -1;
}

static int close_table(void **state)
{
    tiers_free(table);
    return remove_place(state);
}

static const tiers_profile *seed(void)
{
    return tiers_find_profile(table, "seed", NULL);
}

/* ---- what is promised ---- */

/* Every row of table 1.4, each a test of its own: what a card reports, and its tier. */
typedef struct table_row {
    const char *name;
    double gib;
    const char *id;
} table_row;

#define ROW(gib, id)                                  \
    {                                                 \
        "S_02_table_1_4_" #gib "_GiB_is_" id, gib, id \
    }
static const table_row table_rows[] = {
    ROW(2.0, "tier1"),
    ROW(3.9, "tier1"),
    ROW(4.0, "tier1"),
    ROW(4.01, "tier2"),
    ROW(5.6, "tier2"),
    ROW(6.0, "tier2"),
    ROW(6.01, "tier3"),
    ROW(7.6, "tier4"),
    ROW(7.99, "tier4"),
    ROW(8.0, "tier4"),
    ROW(11.6, "tier5"),
    ROW(11.99, "tier5"),
    ROW(12.0, "tier5"),
    ROW(14.7, "tier5"),
    ROW(15.49, "tier5"),
    ROW(15.5, "tier6"),
    ROW(15.99, "tier6"),
    ROW(16.0, "tier6"),
    ROW(19.9, "tier6"),
    ROW(20.0, "tier6"),
    ROW(23.5, "unlimited"),
    ROW(23.99, "unlimited"),
    ROW(24.0, "unlimited"),
    ROW(24.01, "unlimited"),
    ROW(48, "unlimited"),
    ROW(80, "unlimited"),
    ROW(141, "unlimited"),
    ROW(1e300, "unlimited"),
    ROW(INFINITY, "unlimited"),
    /* the tolerance reaches half a GiB down, to the hair, and only from 8, 12, 16 and 24 */
    ROW(7.5, "tier4"),
    ROW(7.4999, "tier3"),
    ROW(11.5, "tier5"),
    ROW(11.4999, "tier4"),
    ROW(23.4999, "tier6"),
    ROW(3.99, "tier1"),
    ROW(5.99, "tier2"),
    ROW(1e-9, "tier1"),
};
enum { TABLE_ROWS = sizeof table_rows / sizeof *table_rows };

static void S_02_row_of_table_1_4(void **state)
{
    const table_row *row = *state;
    const tier *t = tiers_select(seed(), row->gib, false);
    assert_non_null(t);
    assert_string_equal(t->id, row->id);
}

static void S_02_there_are_seven_tiers(void **state)
{
    (void)state;
    assert_int_equal(seed()->count, 7);
}

static void A_01_neither_nan_nor_a_negative_number_is_a_tier(void **state)
{
    (void)state;
    static const double none[] = {0, -0.0, -1, -INFINITY, NAN};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        assert_null(tiers_select(seed(), none[i], false));
        assert_null(tiers_select(seed(), none[i], true));
    }
}

static void a_literal_amount_has_no_tolerance(void **state)
{
    (void)state;
    static const struct {
        double gib;
        const char *id;
    } rows[] = {{7.9, "tier3"},   {8, "tier4"},      {11.99, "tier4"}, {12, "tier5"},   {15.99, "tier5"},
                {23.99, "tier6"}, {24, "unlimited"}, {4, "tier1"},     {4.01, "tier2"}, {6, "tier2"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_string_equal(tiers_select(seed(), rows[i].gib, true)->id, rows[i].id);
}

/* Table 1.2, cell by cell. */
typedef struct promise {
    const char *id;
    const char *models; /* a digit for each language model: 0 0.6B, 1 1.7B, 2 4B */
    int duration[2], batch[2];
    double shares[3];
    bool unlimited, init_lm;
} promise;

static const promise promises[] = {
    {"tier1", "", {180, 180}, {1, 1}, {0}, false, false},
    {"tier2", "", {360, 360}, {1, 1}, {0}, false, false},
    {"tier3", "0", {360, 240}, {2, 1}, {3}, false, false},
    {"tier4", "0", {360, 240}, {4, 2}, {3}, false, false},
    {"tier5", "01", {360, 240}, {4, 2}, {3, 8}, false, true},
    {"tier6", "012", {480, 480}, {8, 4}, {3, 8, 12}, false, true},
    {"unlimited", "012", {600, 600}, {8, 8}, {0}, true, true},
};

static void S_05_every_cell_of_the_promised_table(void **state)
{
    (void)state;
    for (int i = 0; i < 7; i++) {
        const promise *p = &promises[i];
        const tier *t = &seed()->tiers[i];
        assert_string_equal(t->id, p->id);
        for (int with_lm = 0; with_lm < 2; with_lm++) {
            assert_int_equal(t->max_duration[with_lm], p->duration[with_lm]);
            assert_int_equal(t->max_batch[with_lm], p->batch[with_lm]);
        }
        unsigned models = 0;
        for (const char *m = p->models; *m; m++) models |= 1u << (*m - '0');
        assert_int_equal(t->lm_models, models);
        assert_int_equal(t->lm_unlimited, p->unlimited);
        for (int lm = 0; lm < 3 && !p->unlimited; lm++) assert_true(t->lm_share[lm] == p->shares[lm]);
    }
}

static void S_06_the_language_model_starts_from_tier_5(void **state)
{
    (void)state;
    for (int i = 0; i < 7; i++) assert_int_equal(seed()->tiers[i].init_lm, promises[i].init_lm);
}

static void S_17_four_options_are_on_in_the_seed_profile(void **state)
{
    (void)state;
    for (int i = 0; i < 7; i++)
        for (int o = 0; o < TIERS_OPTION_COUNT; o++) assert_int_equal(seed()->tiers[i].options[o], TIERS_ON);
}

/* The advice of every tier that begins where `from` says, up to `below`. */
static void advised(double from, double below, tiers_advice advice)
{
    int found = 0;
    for (int i = 0; i < 7; i++) {
        if (seed()->tiers[i].start < from || seed()->tiers[i].start >= below) continue;
        assert_int_equal(seed()->tiers[i].advice, advice);
        found++;
    }
    assert_true(found >= 2);
}

static void S_22_below_8_GB_the_diffusion_model_alone(void **state)
{
    (void)state;
    advised(0, 8, TIERS_ADVICE_DIT_ONLY);
}

static void S_23_from_8_to_16_GB_the_small_language_model(void **state)
{
    (void)state;
    advised(8, 16, TIERS_ADVICE_SMALL_LM);
}

static void S_24_from_16_GB_a_larger_language_model(void **state)
{
    (void)state;
    advised(16, INFINITY, TIERS_ADVICE_LARGE_LM);
}

/* What plans prove is never less than what is promised, and promises without a proof in them stay as they are. */
static void the_measured_profile_keeps_every_promise(void **state)
{
    (void)state;
    const tiers_profile *measured = tiers_find_profile(table, "measured", NULL);
    assert_true(measured->measured);
    assert_int_equal(measured->count, seed()->count);
    for (int i = 0; i < 7; i++) {
        const tier *proved = &measured->tiers[i], *promised = &seed()->tiers[i];
        assert_string_equal(proved->id, promised->id);
        assert_true(proved->start == promised->start && proved->start_included == promised->start_included);
        assert_int_equal(proved->lm_models & promised->lm_models, promised->lm_models);
        for (int lm = 0; lm < 2; lm++) {
            assert_true(proved->max_duration[lm] >= promised->max_duration[lm]);
            assert_true(proved->max_batch[lm] >= promised->max_batch[lm]);
        }
        assert_int_equal(proved->init_lm, promised->init_lm);
        assert_int_equal(proved->advice, promised->advice);
        assert_memory_equal(proved->options, promised->options, sizeof proved->options);
    }
}

static void a_profile_is_found_by_name(void **state)
{
    (void)state;
    assert_ptr_equal(tiers_find_profile(table, NULL, NULL), seed());
    ace_error error = {0};
    assert_null(tiers_find_profile(table, "fast", &error));
    assert_int_equal(error.status, ACE_ERROR_USAGE);
}

static void names(void **state)
{
    (void)state;
    assert_int_equal(tiers_lm_find("acestep-5Hz-lm-0.6B"), TIERS_LM_0_6B);
    assert_int_equal(tiers_lm_find("/models/acestep-5Hz-lm-1.7B/"), TIERS_LM_1_7B);
    assert_int_equal(tiers_lm_find("4B"), TIERS_LM_4B);
    assert_int_equal(tiers_lm_find("lm-14B"), TIERS_LM_NONE);
    assert_int_equal(tiers_lm_find("lm-1.4B"), TIERS_LM_NONE);
    assert_int_equal(tiers_lm_find("lm"), TIERS_LM_NONE);
    assert_int_equal(tiers_number(&seed()->tiers[3]), 4);
    assert_int_equal(tiers_number(&seed()->tiers[6]), 0);
}

/* ---- files of the user's ---- */

static void S_26_one_number_in_a_file_changes_the_limit(void **state)
{
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/tiers.json", place);
    FILE *file = fopen(path, "wb");
    fputs("{\"profiles\": {\"seed\": {\"tiers\": {\"tier3\": {\"max_batch_without_lm\": 3}}}}}", file);
    fclose(file);
    ace_error error = {0};
    tiers_table *mine = tiers_load(path, &error);
    if (!mine) fail_msg("%s", error.message);
    const tiers_profile *profile = tiers_find_profile(mine, NULL, NULL);
    const tier *t = tiers_find(profile, "tier3");
    assert_int_equal(t->max_batch[0], 3);
    assert_int_equal(t->max_batch[1], 1);
    assert_string_equal(mine->file, path);
    tiers_free(mine);
    assert_null(tiers_load("/nonexistent/tiers.json", &error));
}

static void S_27_every_value_knows_where_it_comes_from(void **state)
{
    (void)state;
    static const char text[] = "{\n"
                               "  \"comment\": \"{ \\\"tier4\\\": [\",\n"
                               "  \"default_profile\": \"measured\",\n"
                               "  \"cpu\": {\"memory\": \"total\"},\n"
                               "  \"profiles\": {\"seed\": {\"tiers\": {\n"
                               "    \"tier5\": {\"comment\": [1, {\"a\": \"}\"}], \"lm_models\": [\"0.6B\"],\n"
                               "              \"lm_share_gib\":\n"
                               "                {\"0.6B\": 2.5}},\n"
                               "    \"unlimited\": {\"above_gib\": 30}\n"
                               "  }}}\n"
                               "}\n";
    ace_error error = {0};
    tiers_table *mine = tiers_parse(text, strlen(text), "mine.json", &error);
    if (!mine) fail_msg("%s", error.message);
    assert_string_equal(mine->default_profile, "measured");
    assert_int_equal(mine->default_profile_place.line, 3);
    assert_true(mine->cpu_uses_total);
    assert_int_equal(mine->cpu_memory_place.line, 4);
    assert_int_equal(mine->cpu.places[TIERS_KEY_INIT_LM].line, 0);
    const tiers_profile *profile = tiers_find_profile(mine, "seed", NULL);
    const tier *t = tiers_find(profile, "tier5");
    assert_int_equal(t->places[TIERS_KEY_LM_MODELS].line, 6);
    assert_int_equal(t->places[TIERS_KEY_LM_MODELS].column, 56);
    assert_int_equal(t->places[TIERS_KEY_LM_SHARE].line, 8);
    assert_int_equal(t->places[TIERS_KEY_BATCH_WITH_LM].line, 0);
    assert_int_equal(t->lm_models, 1);
    assert_true(t->lm_share[0] == 2.5 && t->lm_share[1] == 0);
    assert_int_equal(tiers_find(profile, "unlimited")->places[TIERS_KEY_START].line, 9);
    assert_string_equal(tiers_select(profile, 30, true)->id, "tier6");
    assert_string_equal(tiers_select(profile, 30.1, true)->id, "unlimited");
    /* the tolerance snaps to the boundary from below even where the boundary itself is not included */
    assert_string_equal(tiers_select(profile, 29.5, false)->id, "unlimited");
    tiers_free(mine);
}

#define SEED(tiers) "{\"profiles\": {\"seed\": {\"tiers\": {" tiers "}}}}"

static void S_28_a_broken_file_is_rejected_with_its_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *place, *words;
    } files[] = {
        /* not JSON, not a table */
        {"", "line 1", "not valid JSON"},
        {"{\n \"format\": 1,\n}", "line 3", "not valid JSON"},
        {"[]", ":1:1:", "must be an object"},
        {"{\"a\": 1, \"a\": 2}", "line 1", "duplicate"},
        {"{\"comment\": [[[[[[[[1]]]]]]]]}", "x.json", "nested deeper"},
        /* keys and names */
        {"{\n  \"boundaries\": []}", ":2:3:", "no key \"boundaries\" in a tier file"},
        {"{\"profiles\": {\n\"fast\": {}}}", ":2:1:", "no profile \"fast\""},
        {"{\"profiles\": {\"seed\": {\n\n  \"based_on\": \"seed\"}}}", ":3:3:", "no key \"based_on\" in a profile"},
        {SEED("\n\"tier7\": {}"), ":2:1:", "no tier \"tier7\" in the profile seed"},
        {SEED("\n \"tier4\": {\"max_batch\": 4}"), ":2:12:", "no key \"max_batch\" in a tier"},
        {SEED("\"tier4\": {\"lm_share_gib\": {\n\"8B\": 3}}"), ":2:1:", "no language model \"8B\""},
        {SEED("\"tier4\": {\"lm_models\": [\"8B\"]}"), ":1:", "choose one of 0.6B, 1.7B, 4B"},
        {"{\"cpu\": {\n\"free\": 1}}", ":2:1:", "no key \"free\""},
        /* types and ranges */
        {"{\"format\": 2}", ":1:12:", "\"format\" is 2, outside 1 to 1"},
        {SEED("\"tier4\": {\"max_batch_with_lm\": 9}"), ":1:", "\"max_batch_with_lm\" is 9, outside 1 to 8"},
        {SEED("\"tier4\": {\"max_batch_with_lm\": 2.5}"), ":1:", "must be a whole number"},
        {SEED("\"tier4\": {\"max_duration_with_lm\": 9}"), ":1:", "outside 10 to 600"},
        {SEED("\"tier4\": {\"max_duration_with_lm\": \"240\"}"), ":1:", "must be a whole number, but it is a string"},
        {SEED("\"tier4\": {\"max_duration_with_lm\": 999999999999999999}"), ":1:", "outside 10 to 600"},
        {SEED("\"tier4\": {\"tolerance_gib\": -0.1}"), ":1:", "outside 0 to 4"},
        {SEED("\"tier4\": {\"from_gib\": -8}"), ":1:", "outside 0 to"},
        {SEED("\"tier4\": {\"from_gib\": 1e400}"), "line 1", "not valid JSON"},
        {SEED("\"tier4\": {\"init_lm\": 1}"), ":1:", "must be true or false"},
        {SEED("\"tier4\": {\"advice\": \"buy\"}"), ":1:", "choose one of dit_only, small_lm, large_lm"},
        {SEED("\"tier4\": {\"quantization\": true}"), ":1:", "must be a word in quotes"},
        {SEED("\"tier4\": {\"quantization\": \"int8\"}"), ":1:", "choose one of off, on, auto"},
        {SEED("\"tier4\": {\"lm_share_gib\": {\"0.6B\": 0}}"), ":1:", "outside 0.1 to 1024"},
        {SEED("\"tier4\": {\"from_gib\": 8, \n \"above_gib\": 8}"), ":2:2:", "not both"},
        {SEED("\"tier4\": []"), ":1:", "must be an object"},
        {"{\"default_profile\": \"fast\"}", ":1:", "choose one of seed, measured"},
        {"{\"cpu\": {\"memory\": \"swap\"}}", ":1:", "choose one of available, total"},
        /* gaps and overlaps */
        {SEED("\n\"tier1\": {\"from_gib\": 1}"), ":2:23:", "gap"},
        {SEED("\n\"tier4\": {\"from_gib\": 6}"), ":2:23:", "tier4 overlaps tier3"},
        {SEED("\n\"tier4\": {\"from_gib\": 12}"), ":2:23:", "tier5 overlaps tier4"},
        {SEED("\n\"tier4\": {\"from_gib\": 6.2}"), ":2:23:", "tolerance"},
        {SEED("\n\"tier4\": {\"tolerance_gib\": 2}"), ":2:28:", "tolerance"},
        /* limits that fall as memory grows */
        {SEED("\n\"tier5\": {\"max_duration_without_lm\": 300}"), ":2:38:", "360 s without the language model"},
        {SEED("\n\"tier3\": {\"max_duration_with_lm\": 250}"), ":2:35:", "tier4 only 240 s"},
        {SEED("\n\"tier4\": {\"max_batch_with_lm\": 4}, \"tier6\": {\n\"max_batch_with_lm\": 2}"),
         ":2:32:", "batch of 4 with"},
        {SEED("\"tier5\": {\n\"max_batch_without_lm\": 2}"), ":2:25:", "tier4 allows a batch of 4 without"},
        {SEED("\"tier5\": {\n\"max_duration_with_lm\": 400}"),
         ":2:25:", "400 s with the language model, but only 360 s"},
        {SEED("\"tier3\": {\n\"max_batch_with_lm\": 3}"), ":2:22:", "batch of 3 with the language model, but only 2"},
        /* language models that do not fit together */
        {SEED("\"tier4\": {\n\"lm_model\": \"4B\"}"), ":2:13:", "recommends the language model 4B"},
        {SEED("\"tier5\": {\n\"lm_models\": [\"1.7B\"]}"), ":2:14:", "recommends the language model 0.6B"},
        {SEED("\"tier1\": {\n\"init_lm\": true}"), ":2:12:", "recommends none"},
        {SEED("\"tier4\": {\n\"lm_models\": [\"0.6B\", \"4B\"]}"), ":2:14:", "offers the language model 4B without"},
        {SEED("\"tier4\": {\n\"lm_share_gib\": {\"0.6B\": 3, \"4B\": 5}}"),
         ":2:17:", "does not offer the language model 4B"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        ace_error error = {0};
        tiers_table *broken = tiers_parse(files[i].text, strlen(files[i].text), "x.json", &error);
        tiers_free(broken);
        if (broken) fail_msg("accepted: %s", files[i].text);
        assert_int_equal(error.status, ACE_ERROR_FORMAT);
        bool named = strncmp(error.message, "x.json", 6) == 0;
        if (!named || !strstr(error.message, files[i].place) || !strstr(error.message, files[i].words))
            fail_msg("%s\ngives: %s\nwithout '%s' or '%s'", files[i].text, error.message, files[i].place,
                     files[i].words);
    }
}

static void harmless_files_change_nothing(void **state)
{
    (void)state;
    static const char *const texts[] = {"{}", "{\"format\": 1, \"comment\": null}", SEED(""), SEED("\"tier4\": {}"),
                                        "{\"profiles\": {\"comment\": 1, \"measured\": {}}}"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        ace_error error = {0};
        tiers_table *same = tiers_parse(texts[i], strlen(texts[i]), "x.json", &error);
        if (!same) fail_msg("%s: %s", texts[i], error.message);
        assert_memory_equal(same->profiles, table->profiles, sizeof table->profiles);
        tiers_free(same);
    }
}

static void a_key_with_escapes_has_the_place_of_what_is_around_it(void **state)
{
    (void)state;
    static const char text[] =
        "{\"profiles\": {\"seed\": {\n \"tiers\": {\"tier4\":\n  {\"max_b\\u0061tch_with_lm\": 9}}}}}";
    ace_error error = {0};
    assert_null(tiers_parse(text, strlen(text), "x.json", &error));
    assert_non_null(strstr(error.message, "x.json:3:3: \"max_batch_with_lm\" is 9"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(S_02_there_are_seven_tiers),
        cmocka_unit_test(A_01_neither_nan_nor_a_negative_number_is_a_tier),
        cmocka_unit_test(a_literal_amount_has_no_tolerance),
        cmocka_unit_test(S_05_every_cell_of_the_promised_table),
        cmocka_unit_test(S_06_the_language_model_starts_from_tier_5),
        cmocka_unit_test(S_17_four_options_are_on_in_the_seed_profile),
        cmocka_unit_test(S_22_below_8_GB_the_diffusion_model_alone),
        cmocka_unit_test(S_23_from_8_to_16_GB_the_small_language_model),
        cmocka_unit_test(S_24_from_16_GB_a_larger_language_model),
        cmocka_unit_test(the_measured_profile_keeps_every_promise),
        cmocka_unit_test(a_profile_is_found_by_name),
        cmocka_unit_test(names),
        cmocka_unit_test(S_26_one_number_in_a_file_changes_the_limit),
        cmocka_unit_test(S_27_every_value_knows_where_it_comes_from),
        cmocka_unit_test(S_28_a_broken_file_is_rejected_with_its_line),
        cmocka_unit_test(harmless_files_change_nothing),
        cmocka_unit_test(a_key_with_escapes_has_the_place_of_what_is_around_it),
    };
    struct CMUnitTest rows[TABLE_ROWS] = {0};
    for (int i = 0; i < TABLE_ROWS; i++)
        rows[i] = (struct CMUnitTest){
            .name = table_rows[i].name, .test_func = S_02_row_of_table_1_4, .initial_state = (void *)&table_rows[i]};
    int failed = cmocka_run_group_tests_name("table 1.4", rows, open_table, close_table);
    failed += cmocka_run_group_tests(tests, open_table, close_table);
    return failed;
}
