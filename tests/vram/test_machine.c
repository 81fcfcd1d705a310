/* The machine as its users meet it: what is found, which limits hold, what is printed, in four languages. */
#include "base/memory.h"
#include "vram/fake_machine.h"

#include <jansson.h>

#define LIBRARY(name) FAKE_LIBRARIES "/" name ".so"

static void has(const char *text, const char *words)
{
    if (!strstr(text, words)) fail_msg("no '%s' in:\n%s", words, text);
}

static void has_not(const char *text, const char *words)
{
    if (strstr(text, words)) fail_msg("'%s' in:\n%s", words, text);
}

/* The report; the caller frees. */
static char *report(const ace_machine *machine, ace_report kind, const char *language)
{
    ace_error error = {0};
    char *text = ace_machine_report(machine, kind, language, &error);
    if (!text) fail_msg("%s", error.message);
    assert_true(ace_utf8_valid(text, strlen(text), NULL));
    return text;
}

static json_t *json_report(const ace_machine *machine)
{
    char *text = report(machine, ACE_REPORT_JSON, "en");
    json_error_t problem;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &problem);
    if (!root) fail_msg("%s in:\n%s", problem.text, text);
    free(text);
    return root;
}

/* A value by its path: "limits.with_lm.max_batch". */
static const json_t *at(const json_t *value, const char *path)
{
    char keys[128], *rest = NULL;
    snprintf(keys, sizeof keys, "%s", path);
    for (char *key = strtok_r(keys, ".", &rest); key; key = strtok_r(NULL, ".", &rest)) {
        value = *key >= '0' && *key <= '9' && json_is_array(value) ? json_array_get(value, (size_t)atoi(key))
                                                                   : json_object_get(value, key);
        if (!value) fail_msg("there is no %s", path);
    }
    return value;
}

/* ---- detection and what it sets ---- */

static void S_01_the_card_and_its_tier_are_known_without_a_model(void **state)
{
    (void)state;
    detect_places places = fake_machine();
    places.nvml = LIBRARY("nvml-one-card");
    ace_machine *machine = fake_open(&places, (ace_machine_options){0});
    assert_true(machine->has_card);
    assert_string_equal(machine->card.tier->id, "tier5");               /* 11.9 GiB, half a GiB of tolerance */
    assert_true(machine->card.gib > 11.9 && machine->card.gib < 11.92); /* the report stays with the truth */
    char *text = report(machine, ACE_REPORT_TEXT, "en");
    has(text, "cuda:0  NVIDIA Fake 12G: 11.9 GB, 8.0 GB free");
    has(text, "The tier of cuda:0 (11.9 GB), were it used: Tier 5 (from 12 GB to below 16 GB)");
    has(text, "used by pid 4712 (2.9 GB)");
    has(text, "computed on the CPU");
    has(text,
        "NVIDIA Fake 12G (cuda:0) is not used: the plug-in for NVIDIA GPUs (libacestep-cuda.so) is not installed");
    assert_string_equal(fake_warnings, "");
    free(text);
    ace_machine_close(machine);
}

static void songs_are_limited_by_what_computes_them(void **state)
{
    (void)state;
    detect_places places = fake_machine();
    places.nvml = LIBRARY("nvml-good");
    ace_machine *machine = fake_open(&places, (ace_machine_options){0});
    /* two cards: the one with most free memory counts, for its tier; the CPU's memory counts for songs made now */
    assert_string_equal(machine->detected.devices[machine->device].id, "cuda:1");
    assert_string_equal(machine->card.tier->id, "unlimited");
    const limits_basis *basis = machine_limits_basis(machine);
    assert_int_equal(basis->source, LIMITS_CPU);
    assert_true(basis->gib == 20);
    assert_string_equal(basis->tier->id, "cpu"); /* no tier, however much memory */
    json_t *root = json_report(machine);
    assert_string_equal(json_string_value(at(root, "computes_on")), "cpu");
    assert_string_equal(json_string_value(at(root, "device")), "cuda:1");
    assert_true(json_is_null(at(root, "limits.tier")));
    assert_string_equal(json_string_value(at(root, "limits.source")), "cpu");
    assert_string_equal(json_string_value(at(root, "card_limits.tier")), "unlimited");
    assert_string_equal(json_string_value(at(root, "device_map.summary")), "dit:1, vae:1, text_encoder:1, lm:0");
    assert_true(json_is_true(at(root, "device_map.multi_device")));
    assert_int_equal(json_integer_value(at(root, "devices.0.users.0.pid")), 4712);
    json_decref(root);
    ace_machine_close(machine);
    machine = fake_open(&places, (ace_machine_options){.device = "cuda:0"});
    assert_string_equal(machine->card.tier->id, "tier5");
    assert_int_equal(machine->parts[MAPPING_LM], machine->device);
    ace_machine_close(machine);
    machine = fake_open(&places, (ace_machine_options){.gpu_mapping = "dit:0,lm:1"});
    assert_string_equal(machine->card.tier->id, "tier5"); /* D-5: of the card that runs the DiT */
    ace_machine_close(machine);
    machine = fake_open(&places, (ace_machine_options){.device = "cpu"});
    assert_false(machine->has_card);
    ace_machine_close(machine);
    fake_environment("ACESTEP_DEVICE", "cuda:0", "ACESTEP_GPU_MAPPING", "single:1", NULL);
    machine = fake_open(&places, (ace_machine_options){0});
    assert_string_equal(machine->card.tier->id, "unlimited");
    ace_machine_close(machine);
    machine = fake_open(&places, (ace_machine_options){.gpu_mapping = "single:0"}); /* the option outweighs */
    assert_string_equal(machine->card.tier->id, "tier5");
    ace_machine_close(machine);
}

static void S_03_each_tier_sets_what_it_promises(void **state)
{
    (void)state;
    static const struct {
        const char *gib, *tier;
        int models, with_lm[2], without_lm[2];
        bool init;
    } rows[] = {{"4", "tier1", 0, {180, 1}, {180, 1}, false},    {"6", "tier2", 0, {360, 1}, {360, 1}, false},
                {"7", "tier3", 1, {240, 1}, {360, 2}, false},    {"8", "tier4", 1, {240, 2}, {360, 4}, false},
                {"12", "tier5", 2, {240, 2}, {360, 4}, true},    {"16", "tier6", 3, {480, 4}, {480, 8}, true},
                {"24", "unlimited", 3, {600, 8}, {600, 8}, true}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ace_machine *machine = fake_simulated(rows[i].gib);
        json_t *root = json_report(machine);
        assert_string_equal(json_string_value(at(root, "limits.tier")), rows[i].tier);
        assert_int_equal(json_integer_value(at(root, "limits.with_lm.max_duration")), rows[i].with_lm[0]);
        assert_int_equal(json_integer_value(at(root, "limits.with_lm.max_batch")), rows[i].with_lm[1]);
        assert_int_equal(json_integer_value(at(root, "limits.without_lm.max_duration")), rows[i].without_lm[0]);
        assert_int_equal(json_integer_value(at(root, "limits.without_lm.max_batch")), rows[i].without_lm[1]);
        assert_int_equal(json_array_size(at(root, "settings.lm_models")), rows[i].models);
        assert_int_equal(json_is_true(at(root, "settings.init_lm.value")), rows[i].init);
        assert_string_equal(json_string_value(at(root, "settings.init_lm.origin")), "tier");
        /* S-17: the four options */
        assert_string_equal(json_string_value(at(root, "settings.flash_attention.value")), "on");
        assert_string_equal(json_string_value(at(root, "settings.cpu_offload.value")), "on");
        assert_string_equal(json_string_value(at(root, "settings.compile.value")), "on");
        assert_string_equal(json_string_value(at(root, "settings.quantization.value")), "on");
        json_decref(root);
        ace_machine_close(machine);
    }
}

/* ---- the CPU as a profile of its own (D-3) ---- */

/* The table of tiers says nothing about it, however little memory there is: the plan of a song's memory does. */
static void no_tier_limits_the_cpu(void **state)
{
    (void)state;
    static const struct {
        const char *available;
        double gib;
    } rows[] = {{"MemAvailable: 1048576 kB", 1},
                {"MemAvailable: 8388608 kB", 8},
                {"MemAvailable: 0 kB", 0},
                {"MemFree: 8388608 kB", 32}}; /* not told: what there is in all */
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        detect_places places = fake_machine();
        char text[128];
        snprintf(text, sizeof text, "MemTotal: 33554432 kB\n%s\n", rows[i].available);
        fake_file("proc/meminfo", text);
        ace_machine *machine = fake_open(&places, (ace_machine_options){0});
        const tier *cpu = machine->basis.tier;
        assert_string_equal(cpu->id, "cpu");
        assert_true(cpu->max_duration[0] == 600 && cpu->max_duration[1] == 600);
        assert_true(cpu->max_batch[0] == 8 && cpu->max_batch[1] == 8);
        assert_int_equal(cpu->lm_models, 7);
        assert_true(machine->basis.gib > rows[i].gib - 0.01 && machine->basis.gib < rows[i].gib + 0.01);
        assert_true(machine->settings.init_lm);
        char *report_text = report(machine, ACE_REPORT_TEXT, "en");
        has_not(report_text, "Tier");
        has(report_text, "Limits of the CPU");
        has(report_text, "acestep plan");
        free(report_text);
        ace_machine_close(machine);
    }
    detect_places places = fake_machine();
    fake_file("mine.json", "{\"cpu\": {\"memory\": \"total\", \"init_lm\": false, \"max_duration_without_lm\": 600, "
                           "\"max_duration_with_lm\": 60}}");
    char path[128];
    snprintf(path, sizeof path, "%s/mine.json", place);
    ace_machine *machine = fake_open(&places, (ace_machine_options){.tiers = path});
    assert_int_equal(machine->basis.tier->max_duration[1], 60);
    assert_false(machine->settings.init_lm);
    ace_machine_close(machine);
    places.proc = "/nonexistent"; /* a machine that tells nothing has no limit of memory either */
    machine = fake_open(&places, (ace_machine_options){0});
    assert_string_equal(machine->basis.tier->id, "cpu");
    assert_true(machine->basis.gib == 0);
    ace_machine_close(machine);
}

/* ---- simulation ---- */

static void S_18_simulated_sizes_and_their_tiers(void **state)
{
    (void)state;
    static const char *const rows[][2] = {{"4", "tier1"},  {"8", "tier4"},   {"12", "tier5"},
                                          {"16", "tier6"}, {"7.9", "tier3"}, {"23.9", "tier6"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ace_machine *machine = fake_simulated(rows[i][0]);
        assert_string_equal(machine_limits_basis(machine)->tier->id, rows[i][1]);
        assert_int_equal(machine->basis.source, LIMITS_SIMULATED);
        ace_machine_close(machine);
    }
}

static void S_19_a_simulation_is_loud(void **state)
{
    (void)state;
    ace_machine *machine = fake_simulated("8");
    has(fake_warnings, "SIMULATION: MAX_CUDA_VRAM=8");
    char *text = report(machine, ACE_REPORT_TEXT, "en");
    has(text, "SIMULATED: MAX_CUDA_VRAM=8");
    free(text);
    json_t *root = json_report(machine);
    assert_string_equal(json_string_value(at(root, "simulated.variable")), "MAX_CUDA_VRAM");
    assert_int_equal(json_array_size(at(root, "warnings")), 1);
    json_decref(root);
    ace_machine_close(machine);
    machine = fake_simulated("abc"); /* reported, and the real memory is used */
    has(fake_warnings, "MAX_CUDA_VRAM=abc is ignored");
    assert_int_equal(machine->basis.source, LIMITS_CPU);
    assert_true(machine->basis.gib == 20);
    ace_machine_close(machine);
}

static void S_20_limits_and_warnings_of_every_tier_on_one_machine(void **state)
{
    (void)state;
    static const char *const sizes[] = {"4", "6", "7", "8", "12", "16", "24"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        detect_places places = fake_machine();
        places.nvml = LIBRARY("nvml-good"); /* a large card is there; the simulated one counts */
        ace_machine *machine = fake_open(&places, (ace_machine_options){.vram = sizes[i]});
        assert_false(machine->has_card);
        limits_result result;
        limits_request(machine_limits_basis(machine), false, 1e6, LIMITS_ASKED, 100, &result);
        const tier *t = &machine->profile->tiers[i];
        assert_true(result.duration == t->max_duration[0] && result.batch == t->max_batch[0]);
        has(result.duration_warning, "simulated");
        has(result.batch_warning, "simulated");
        ace_machine_close(machine);
    }
    detect_places places = fake_machine();
    ace_error error = {0};
    assert_null(machine_open_at(&(ace_machine_options){.vram = "much"}, &places, &error));
    assert_int_equal(error.status, ACE_ERROR_USAGE);
}

/* ---- the table ---- */

static char mine[128];

static detect_places machine_with_file(const char *text)
{
    detect_places places = fake_machine();
    fake_file("mine.json", text);
    snprintf(mine, sizeof mine, "%s/mine.json", place);
    return places;
}

static void S_27_the_table_is_printed_with_the_origin_of_each_value(void **state)
{
    (void)state;
    detect_places places =
        machine_with_file("{\"profiles\":\n {\"seed\": {\"tiers\": {\"unlimited\":\n {\"lm_model\": \"1.7B\"}}}}}");
    fake_environment("MAX_CUDA_VRAM", "24", NULL);
    ace_machine *machine = fake_open(&places, (ace_machine_options){.tiers = mine});
    char *text = report(machine, ACE_REPORT_TIERS, NULL), expected[256];
    snprintf(expected, sizeof expected, "lm_model                 \"1.7B\"                       from %s line 3\n",
             mine);
    has(text, expected);
    has(text, "lm_share_gib             {\"0.6B\": 3, \"1.7B\": 8}       from the built-in table\n");
    has(text, "lm_models                [\"0.6B\", \"1.7B\", \"4B\"]       from the built-in table\n");
    has(text, "above_gib                6                            from the built-in table\n");
    free(text);
    json_t *root = json_report(machine);
    assert_string_equal(json_string_value(at(root, "settings.lm_model.value")), "1.7B");
    assert_string_equal(json_string_value(at(root, "settings.lm_model.origin")), "file");
    assert_string_equal(json_string_value(at(root, "tiers_file")), mine);
    json_decref(root);
    ace_machine_close(machine);
}

static void S_28_a_broken_file_is_told_and_the_built_in_table_holds(void **state)
{
    (void)state;
    detect_places places =
        machine_with_file("{\"profiles\": {\"seed\": {\"tiers\": {\n\"tier4\": {\"max_batch_with_lm\": 0}}}}}");
    fake_environment("ACESTEP_TIERS", mine, "MAX_CUDA_VRAM", "8", NULL);
    ace_machine *machine = fake_open(&places, (ace_machine_options){0});
    has(fake_warnings, "rejected and the built-in table is used");
    has(fake_warnings, "mine.json:2:32: \"max_batch_with_lm\" is 0, outside 1 to 8");
    assert_int_equal(machine->basis.tier->max_batch[1], 2);
    ace_machine_close(machine);
    ace_error error = {0};
    assert_null(machine_open_at(&(ace_machine_options){.strict = true}, &places, &error));
    assert_int_equal(error.status, ACE_ERROR_FORMAT);
    error = (ace_error){0};
    assert_null(machine_open_at(&(ace_machine_options){.strict = true, .tiers = "/nonexistent"}, &places, &error));
    assert_int_equal(error.status, ACE_ERROR_IO);
}

static void the_users_own_file_is_found(void **state)
{
    (void)state;
    detect_places places = fake_machine();
    fake_file("home/.config/acestep/tiers.json", "{\"default_profile\": \"measured\"}");
    char home[128], config[128];
    snprintf(home, sizeof home, "%s/home", place);
    snprintf(config, sizeof config, "%s/home/.config", place);
    const char *const variables[][2] = {{"HOME", home}, {"XDG_CONFIG_HOME", config}};
    for (int i = 0; i < 2; i++) {
        fake_environment(variables[i][0], variables[i][1], NULL);
        ace_machine *machine = fake_open(&places, (ace_machine_options){0});
        assert_string_equal(machine->profile->name, "measured");
        ace_machine_close(machine);
    }
    fake_environment("XDG_CONFIG_HOME", "/nonexistent", "HOME", home, NULL);
    ace_machine *machine = fake_open(&places, (ace_machine_options){0});
    assert_string_equal(machine->profile->name, "seed");
    ace_machine_close(machine);
}

static void a_tier_can_be_chosen_by_hand(void **state)
{
    (void)state;
    detect_places places = fake_machine();
    places.nvml = LIBRARY("nvml-one-card");
    ace_machine *machine = fake_open(&places, (ace_machine_options){.tier = "tier2"});
    assert_string_equal(machine->card.tier->id, "tier2");
    assert_true(machine->card.gib > 11.9); /* L-11: the memory stays what it is */
    char *text = report(machine, ACE_REPORT_TEXT, "en");
    has(text, "Tier chosen by hand: Tier 2");
    free(text);
    ace_machine_close(machine);
    ace_error error = {0};
    assert_null(machine_open_at(&(ace_machine_options){.tier = "tier9"}, &places, &error));
    assert_int_equal(error.status, ACE_ERROR_USAGE);
    error = (ace_error){0};
    assert_null(machine_open_at(&(ace_machine_options){.profile = "fast"}, &places, &error));
    assert_int_equal(error.status, ACE_ERROR_USAGE);
    error = (ace_error){0};
    assert_null(machine_open_at(&(ace_machine_options){.device = "cuda:5"}, &places, &error));
    assert_int_equal(error.status, ACE_ERROR_DEVICE);
    error = (ace_error){0};
    assert_null(machine_open_at(&(ace_machine_options){.gpu_mapping = "lm:0"}, &places, &error));
    assert_int_equal(error.status, ACE_ERROR_USAGE);
}

static void S_16_the_environment_overrides_and_is_told(void **state)
{
    (void)state;
    detect_places places = fake_machine();
    fake_environment("MAX_CUDA_VRAM", "4", "ACESTEP_INIT_LLM", "true", "ACESTEP_LM_MODEL_PATH", "lm-4B", NULL);
    ace_machine *machine = fake_open(&places, (ace_machine_options){0});
    has(fake_warnings, "the language model 4B is started because it is set in the environment");
    json_t *root = json_report(machine);
    assert_string_equal(json_string_value(at(root, "settings.init_lm.origin")), "env");
    assert_true(json_is_true(at(root, "settings.init_lm.value")));
    json_decref(root);
    ace_machine_close(machine);
}

/* The library call of `acestep gpu` and of the server's status. */
static void S_16_a_language_model_asked_for_outweighs_the_tier_and_is_told(void **state)
{
    (void)state;
    detect_places places = fake_machine();
    fake_environment("MAX_CUDA_VRAM", "8", NULL);
    ace_machine *machine = fake_open(&places, (ace_machine_options){.lm = "checkpoints/acestep-5Hz-lm-4B"});
    has(fake_warnings, "the language model 4B is started because it was asked for, though 0.6B is the one for 8.0 GB");
    assert_true(machine->settings.init_lm);
    ace_machine_close(machine);
    fake_environment("MAX_CUDA_VRAM", "24", NULL);
    machine = fake_open(&places, (ace_machine_options){.lm = "none"});
    assert_false(machine->settings.init_lm);
    ace_machine_close(machine);
}

/* Where a value comes from stands in the status. */
static void A_07_every_override_shows_its_origin(void **state)
{
    (void)state;
    static const struct {
        const char *lm, *variable, *file, *origin;
    } rows[] = {{NULL, NULL, NULL, "tier"},
                {NULL, NULL, "{\"profiles\": {\"seed\": {\"tiers\": {\"tier4\": {\"init_lm\": true}}}}}", "file"},
                {NULL, "true", NULL, "env"},
                {"0.6B", "false", NULL, "user"}};
    char path[128];
    snprintf(path, sizeof path, "%s/mine.json", place);
    for (int i = 0; i < 4; i++) {
        detect_places places = fake_machine();
        if (rows[i].file) fake_file("mine.json", rows[i].file);
        fake_environment("MAX_CUDA_VRAM", "8", rows[i].variable ? "ACESTEP_INIT_LLM" : NULL, rows[i].variable, NULL);
        ace_machine *machine =
            fake_open(&places, (ace_machine_options){.lm = rows[i].lm, .tiers = rows[i].file ? path : NULL});
        json_t *root = json_report(machine);
        assert_string_equal(json_string_value(at(root, "settings.init_lm.origin")), rows[i].origin);
        assert_int_equal(json_is_true(at(root, "settings.init_lm.value")), i > 0);
        json_decref(root);
        ace_machine_close(machine);
    }
}

/* ---- languages ---- */

static void S_25_advice_in_four_languages_matches_the_tier(void **state)
{
    (void)state;
    static const char *const rows[][5] = {
        {"7", "Use the diffusion model alone", "확산 모델만", "拡散モデルだけ", "只用扩散模型"},
        {"8", "The 0.6B language model is", "0.6B 언어 모델이", "0.6B の言語モデルが", "0.6B 语言模型在"},
        {"16", "A larger language model", "더 큰 언어 모델", "より大きな言語モデル", "更大的语言模型"}};
    static const char *const languages[] = {"en", "ko", "ja", "zh"};
    for (int i = 0; i < 3; i++) {
        ace_machine *machine = fake_simulated(rows[i][0]);
        for (int k = 0; k < 4; k++) {
            char *text = report(machine, ACE_REPORT_TEXT, languages[k]);
            has(text, rows[i][k + 1]);
            for (int other = 0; other < 3; other++)
                if (other != i) has_not(text, rows[other][k + 1]);
            free(text);
        }
        ace_machine_close(machine);
    }
}

static void the_language_is_that_of_the_environment(void **state)
{
    (void)state;
    static const struct {
        const char *name, *value, *words;
    } rows[] = {{"LANG", "ko_KR.UTF-8", "장치"},
                {"LC_MESSAGES", "ja_JP.utf8", "デバイス"},
                {"LC_ALL", "zh_CN.UTF-8", "设备"},
                {"LANG", "zh", "设备"},
                {"LANG", "C", "Devices"},
                {"LANG", "ko_KR.eucKR", "Devices"},
                {"LANG", "kok_IN.UTF-8", "Devices"},
                {"LANG", "fr_FR.UTF-8", "Devices"},
                {"LANG", "", "Devices"}};
    detect_places places = fake_machine();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        fake_environment(rows[i].name, rows[i].value, NULL);
        ace_machine *machine = fake_open(&places, (ace_machine_options){0});
        char *text = report(machine, ACE_REPORT_TEXT, NULL);
        if (strncmp(text, rows[i].words, strlen(rows[i].words)) != 0) fail_msg("%s: %s", rows[i].value, text);
        free(text);
        ace_machine_close(machine);
    }
    fake_environment("LC_ALL", "", "LC_MESSAGES", "ja_JP.UTF-8", "LANG", "ko_KR.UTF-8", NULL);
    ace_machine *machine = fake_open(&places, (ace_machine_options){0});
    char *text = report(machine, ACE_REPORT_TEXT, NULL);
    has(text, "デバイス");
    free(text);
    ace_error error = {0};
    assert_null(ace_machine_report(machine, ACE_REPORT_TEXT, "fr", &error));
    assert_int_equal(error.status, ACE_ERROR_USAGE);
    ace_machine_close(machine);
}

static void diagnoses_are_sentences_in_every_language(void **state)
{
    (void)state;
    static const char *const words[] = {"driver library is missing", "라이브러리가 없습니다", "ライブラリがありません",
                                        "缺少 NVIDIA 驱动库"};
    static const char *const languages[] = {"en", "ko", "ja", "zh"};
    detect_places places = fake_machine();
    fake_card("0000:01:00.0", "0x10de\n", "0x2504\n", "x/nvidia");
    ace_machine *machine = fake_open(&places, (ace_machine_options){0});
    for (int i = 0; i < 4; i++) {
        char *text = report(machine, ACE_REPORT_TEXT, languages[i]);
        has(text, words[i]);
        has(text, "--gpus all"); /* what to do */
        free(text);
    }
    json_t *root = json_report(machine);
    assert_string_equal(json_string_value(at(root, "devices.0.problem")), "no_library");
    has(json_string_value(at(root, "devices.0.problem_text")), "Install NVIDIA's driver");
    json_decref(root);
    ace_machine_close(machine);
    /* a library that shows nothing, on a machine without a card on the bus */
    places = fake_machine();
    places.nvml = LIBRARY("nvml-not-loaded");
    machine = fake_open(&places, (ace_machine_options){0});
    char *text = report(machine, ACE_REPORT_TEXT, "en");
    has(text, "shows no card: Driver Not Loaded (NVML 9)");
    free(text);
    ace_machine_close(machine);
}

static void every_text_is_there_in_every_language(void **state)
{
    (void)state;
    for (texts_key key = 0; key < TEXT_COUNT; key++) {
        for (texts_language language = 0; language < TEXTS_LANGUAGES; language++) {
            const char *english = texts_get(TEXTS_EN, key), *text = texts_get(language, key);
            if (!text || !*text) fail_msg("text %d is missing in language %d", (int)key, (int)language);
            assert_true(ace_utf8_valid(text, strlen(text), NULL));
            for (char digit = '0'; digit < '5'; digit++) {
                char hole[4] = {'{', digit, '}', '\0'};
                if (!strstr(english, hole) != !strstr(text, hole))
                    fail_msg("text %d in language %d has other values: %s", (int)key, (int)language, text);
            }
            bool same = language != TEXTS_EN && strcmp(english, text) == 0 && key != TEXT_COMMA &&
                        key != TEXT_RANGE_JOIN && key != TEXT_CAPABILITY;
            if (same) fail_msg("text %d is not translated: %s", (int)key, text);
        }
    }
    assert_int_equal(TEXT_PROBLEM_LAST - TEXT_PROBLEM, DETECT_PROBLEM_COUNT - 1);
}

static void a_hostile_name_stays_a_name(void **state)
{
    (void)state;
    detect_places places = fake_machine();
    fake_file("proc/cpuinfo", "model name\t: a\x1b[31mb\"c\\d\xff\n");
    ace_machine *machine = fake_open(&places, (ace_machine_options){0});
    assert_string_equal(detect_cpu(&machine->detected)->name, "a[31mb\"c\\d");
    json_t *root = json_report(machine);
    assert_string_equal(json_string_value(at(root, "devices.0.name")), "a[31mb\"c\\d");
    json_decref(root);
    ace_machine_close(machine);
}

static void an_absurd_machine_is_still_a_report(void **state)
{
    (void)state;
    detect_places places =
        machine_with_file("{\"cpu\": {\"max_duration_with_lm\": 480, \"max_duration_without_lm\": 500}}");
    places.nvml = LIBRARY("nvml-absurd");
    fake_file("proc/self/cgroup", "0::/a\n");
    fake_file("sys/fs/cgroup/a/memory.max", "18253611008\n"); /* 17 GiB of the 32 */
    ace_machine *machine = fake_open(&places, (ace_machine_options){.tiers = mine});
    char *text = report(machine, ACE_REPORT_TEXT, "en");
    has(text, "There are more devices than are listed here.");
    has(text, "the driver's figures cannot be true (0 bytes, 0 free)");
    has(text, "it does not answer: GPU is lost (NVML 15)");
    has(text, "and others");
    has(text, "17.0 GB, 17.0 GB available, limited by a cgroup");
    has(text, "longest song: 8 min with the language model, 500 s without");
    free(text);
    json_t *root = json_report(machine);
    assert_int_equal(json_array_size(at(root, "devices")), DETECT_DEVICES);
    json_decref(root);
    ace_machine_close(machine);
}

/* ---- faults ---- */

static void every_refusal_of_memory_is_an_error_or_a_whole_answer(void **state)
{
    (void)state;
    detect_places places = machine_with_file("{\"profiles\": {}}");
    places.nvml = LIBRARY("nvml-good");
    fake_card("0000:01:00.0", "0x8086\n", "0x56a0\n", "x/i915");
    ace_machine_options options = {.tiers = mine, .strict = true};
    long calls = 0;
    for (long n = 0; n <= calls; n++) {
        ace_error error = {0};
        ace_fault_arm(n);
        ace_machine *machine = machine_open_at(&options, &places, &error);
        char *text = machine ? ace_machine_report(machine, ACE_REPORT_TEXT, "ko", &error) : NULL;
        char *tables = text ? ace_machine_report(machine, ACE_REPORT_TABLES, "ja", &error) : NULL;
        long counted = ace_fault_arm(0);
        if (n == 0) {
            calls = counted;
            assert_non_null(tables);
        }
        if (!tables) assert_int_not_equal(error.status, ACE_OK);
        free(text);
        free(tables);
        ace_machine_close(machine);
    }
    assert_true(calls > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(S_01_the_card_and_its_tier_are_known_without_a_model),
        cmocka_unit_test(songs_are_limited_by_what_computes_them),
        cmocka_unit_test(S_03_each_tier_sets_what_it_promises),
        cmocka_unit_test(no_tier_limits_the_cpu),
        cmocka_unit_test(S_18_simulated_sizes_and_their_tiers),
        cmocka_unit_test(S_19_a_simulation_is_loud),
        cmocka_unit_test(S_20_limits_and_warnings_of_every_tier_on_one_machine),
        cmocka_unit_test(S_27_the_table_is_printed_with_the_origin_of_each_value),
        cmocka_unit_test(S_28_a_broken_file_is_told_and_the_built_in_table_holds),
        cmocka_unit_test(the_users_own_file_is_found),
        cmocka_unit_test(a_tier_can_be_chosen_by_hand),
        cmocka_unit_test(S_16_the_environment_overrides_and_is_told),
        cmocka_unit_test(S_16_a_language_model_asked_for_outweighs_the_tier_and_is_told),
        cmocka_unit_test(A_07_every_override_shows_its_origin),
        cmocka_unit_test(S_25_advice_in_four_languages_matches_the_tier),
        cmocka_unit_test(the_language_is_that_of_the_environment),
        cmocka_unit_test(diagnoses_are_sentences_in_every_language),
        cmocka_unit_test(every_text_is_there_in_every_language),
        cmocka_unit_test(a_hostile_name_stays_a_name),
        cmocka_unit_test(an_absurd_machine_is_still_a_report),
        cmocka_unit_test(every_refusal_of_memory_is_an_error_or_a_whole_answer),
    };
    return cmocka_run_group_tests(tests, make_place, remove_place);
}
