/* --device, --gpu-mapping and the simulation variables: what they may be, and what they choose. */
#include "vram/mapping.h"
#include "vram/simulate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define GIB (UINT64_C(1) << 30)

/* cuda:0 has 24 GiB, 6 of them free; cuda:1 12 with 11 free; then one that is broken, an AMD card, and the CPU. */
static detect_machine machine(void)
{
    detect_machine m = {.count = 5};
    m.devices[0] = (detect_device){DETECT_NVIDIA, 0, "cuda:0", .total_known = true, .free_known = true};
    m.devices[1] = m.devices[2] = m.devices[0];
    m.devices[0].total = 24 * GIB, m.devices[0].free = 6 * GIB;
    m.devices[1].total = 12 * GIB, m.devices[1].free = 11 * GIB;
    m.devices[1].number = 1;
    snprintf(m.devices[1].id, sizeof m.devices[1].id, "cuda:1");
    m.devices[2].number = -1, m.devices[2].problem = DETECT_LOST, m.devices[2].free = 80 * GIB;
    m.devices[3] = (detect_device){DETECT_AMD, 0, "amd:0", .problem = DETECT_REPORT_ONLY, .free = 80 * GIB};
    m.devices[4] = (detect_device){.kind = DETECT_CPU, .id = "cpu"};
    return m;
}

static int chosen(const detect_machine *m, const char *text)
{
    device_wish wish;
    ace_error error = {0};
    int index = -1;
    if (!device_parse(text, &wish, &error) || !device_choose(m, wish, &index, &error)) return -(int)error.status;
    return index;
}

static void the_device_with_most_free_memory_wins(void **state)
{
    (void)state;
    detect_machine m = machine();
    assert_int_equal(chosen(&m, NULL), 1);
    assert_int_equal(chosen(&m, ""), 1);
    assert_int_equal(chosen(&m, "auto"), 1);
    assert_int_equal(chosen(&m, "cuda"), 1);
    assert_int_equal(chosen(&m, "cuda:0"), 0);
    assert_int_equal(chosen(&m, " cuda:1 "), 1);
    assert_int_equal(chosen(&m, "cpu"), 4);
    m.devices[1].free = 6 * GIB; /* the first of equals */
    assert_int_equal(chosen(&m, "auto"), 0);
    m.devices[0].problem = m.devices[1].problem = DETECT_HIDDEN;
    assert_int_equal(chosen(&m, "auto"), 4);
}

static void a_device_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    detect_machine m = machine();
    static const char *const absent[] = {"cuda:2", "cuda:255", "mps", "xpu", "xpu:0"};
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        device_wish wish;
        ace_error error = {0};
        int index;
        assert_true(device_parse(absent[i], &wish, &error));
        assert_false(device_choose(&m, wish, &index, &error));
        assert_int_equal(error.status, ACE_ERROR_DEVICE);
        assert_non_null(strstr(error.message, "cuda:0, cuda:1"));
    }
    m.devices[0].problem = m.devices[1].problem = DETECT_HIDDEN;
    assert_int_equal(chosen(&m, "cuda"), -ACE_ERROR_DEVICE);
    static const char *const words[] = {"gpu",     "CUDA",     "cuda:",    "cuda:x",
                                        "cuda:-1", "cuda:256", "cuda:0:1", "cpu:0",
                                        "auto:1",  "cuda 0",   "mps:0",    "cuda:99999999999999999999"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (chosen(&m, words[i]) != -ACE_ERROR_USAGE) fail_msg("accepted: %s", words[i]);
}

static void mappings_of_the_official_program(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        mapping_form form;
        int card[MAPPING_PARTS];
    } rows[] = {
        {NULL, MAPPING_AUTO, {-1, -1, -1, -1}},
        {"", MAPPING_AUTO, {-1, -1, -1, -1}},
        {" Auto ", MAPPING_AUTO, {-1, -1, -1, -1}},
        {"single:3", MAPPING_SINGLE, {3, 3, 3, 3}},
        {"dit:0,vae:0,text_encoder:0,lm:1", MAPPING_EXPLICIT, {0, 0, 0, 1}},
        {"dit:2", MAPPING_EXPLICIT, {2, 2, 2, 2}},
        {"lm:1,dit:0", MAPPING_EXPLICIT, {0, 0, 0, 1}},
        {" dit:0 , vae:1 ,, ", MAPPING_EXPLICIT, {0, 1, 0, 0}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        gpu_mapping mapping;
        ace_error error = {0};
        if (!mapping_parse(rows[i].text, &mapping, &error)) fail_msg("%s: %s", rows[i].text, error.message);
        assert_int_equal(mapping.form, rows[i].form);
        assert_memory_equal(mapping.card, rows[i].card, sizeof mapping.card);
    }
    static const struct {
        const char *text, *words;
    } wrong[] = {
        {"vae:0,lm:1", "does not say where the diffusion transformer"},
        {",", "does not say where the diffusion transformer"},
        {"dit:0,dit:1", "names dit twice"},
        {"dit:0,unet:1", "names 'unet'"},
        {"dit:0,DIT:1", "names 'DIT'"},
        {"dit", "is not PART:NUMBER"},
        {"single", "is not PART:NUMBER"},
        {"single:", "must end in the number"},
        {"single:x", "must end in the number"},
        {"single:0,lm:1", "must end in the number"},
        {"dit:-1", "gives dit no card number"},
        {"dit:0 1", "gives dit no card number"},
        {"dit:cuda", "gives dit no card number"},
        {"dit:256", "gives dit no card number"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        gpu_mapping mapping;
        ace_error error = {0};
        assert_false(mapping_parse(wrong[i].text, &mapping, &error));
        assert_int_equal(error.status, ACE_ERROR_USAGE);
        if (!strstr(error.message, wrong[i].words)) fail_msg("%s: %s", wrong[i].text, error.message);
    }
}

static bool resolved(const detect_machine *m, const char *text, int devices[MAPPING_PARTS], ace_error *error)
{
    gpu_mapping mapping;
    *error = (ace_error){0};
    return mapping_parse(text, &mapping, error) && mapping_resolve(&mapping, m, devices, error);
}

static void parts_find_their_devices(void **state)
{
    (void)state;
    detect_machine m = machine();
    int devices[MAPPING_PARTS];
    ace_error error;
    assert_true(resolved(&m, "auto", devices, &error)); /* the roomiest for the song, the next for the language model */
    assert_memory_equal(devices, ((int[]){1, 1, 1, 0}), sizeof devices);
    assert_true(resolved(&m, "dit:0,lm:1", devices, &error));
    assert_memory_equal(devices, ((int[]){0, 0, 0, 1}), sizeof devices);
    assert_true(resolved(&m, "single:0", devices, &error));
    assert_memory_equal(devices, ((int[]){0, 0, 0, 0}), sizeof devices);
    assert_false(resolved(&m, "single:2", devices, &error));
    assert_int_equal(error.status, ACE_ERROR_DEVICE);
    assert_false(resolved(&m, "dit:0,vae:7", devices, &error));
    assert_non_null(strstr(error.message, "cuda:7"));
    m.devices[0].problem = DETECT_HIDDEN; /* one card left: everything on it */
    assert_true(resolved(&m, "auto", devices, &error));
    assert_memory_equal(devices, ((int[]){1, 1, 1, 1}), sizeof devices);
    m.devices[1].problem = DETECT_HIDDEN;
    assert_true(resolved(&m, "auto", devices, &error));
    assert_memory_equal(devices, ((int[]){4, 4, 4, 4}), sizeof devices);
}

/* ---- simulation ---- */

static const char *variables[8];

static const char *variable(const char *name)
{
    for (int i = 0; variables[i]; i += 2)
        if (strcmp(variables[i], name) == 0) return variables[i + 1];
    return NULL;
}

static simulation simulated(const char *name, const char *value)
{
    variables[0] = name, variables[1] = value, variables[2] = NULL;
    return simulate_read(variable, NULL);
}

static void S_18_the_variable_replaces_the_memory(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double gib;
    } rows[] = {{"4", 4},    {"8", 8},  {"12", 12},       {"16", 16},           {"7.9", 7.9}, {" 8.0 ", 8},
                {".5", 0.5}, {"8.", 8}, {"0.001", 0.001}, {"1048576", 1048576}, {"008", 8}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        simulation s = simulated("MAX_CUDA_VRAM", rows[i].text);
        if (!s.active || s.gib != rows[i].gib) fail_msg("'%s' is %g", rows[i].text, s.gib);
        assert_string_equal(s.variable, "MAX_CUDA_VRAM");
    }
    assert_true(simulated("MAX_MPS_VRAM", "8").active);
    assert_true(simulated("MAX_XPU_VRAM", "8").active);
    variables[0] = "MAX_XPU_VRAM", variables[1] = "16", variables[2] = "MAX_CUDA_VRAM", variables[3] = "8";
    variables[4] = NULL;
    assert_true(simulate_read(variable, NULL).gib == 8); /* CUDA's comes first */
    assert_true(simulate_read(variable, "12").gib == 12);
    assert_false(simulated("PATH", "8").active);
    assert_int_equal(simulated("PATH", "8").count, 0);
}

static void S_19_it_is_announced_and_nonsense_is_reported(void **state)
{
    (void)state;
    simulation s = simulated("MAX_CUDA_VRAM", "7.9");
    assert_int_equal(s.count, 1);
    assert_non_null(strstr(s.warnings[0], "SIMULATION: MAX_CUDA_VRAM=7.9"));
    assert_non_null(strstr(s.warnings[0], "7.9 GB"));
    static const char *const nonsense[] = {
        "abc",         "8GB", "8 GB", "-8",  "+8",      "0",     "0.0", "1e3",
        "0x8",         "nan", "inf",  "8,5", "1048577", "8.5.1", ".",   "12345678901234567890",
        "\xef\xbc\x98"};
    for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++) {
        s = simulated("MAX_CUDA_VRAM", nonsense[i]);
        if (s.active || s.count != 1) fail_msg("'%s' was taken", nonsense[i]);
        assert_non_null(strstr(s.warnings[0], "MAX_CUDA_VRAM="));
        assert_non_null(strstr(s.warnings[0], "is ignored"));
    }
    assert_int_equal(simulated("MAX_CUDA_VRAM", "").count, 0);
    assert_int_equal(simulated("MAX_CUDA_VRAM", "  ").count, 0);
    variables[0] = "MAX_CUDA_VRAM", variables[1] = "abc", variables[2] = "MAX_MPS_VRAM", variables[3] = "8";
    variables[4] = NULL;
    s = simulate_read(variable, NULL); /* the next one counts, and both are told */
    assert_true(s.active && s.gib == 8);
    assert_int_equal(s.count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_device_with_most_free_memory_wins),
        cmocka_unit_test(a_device_that_is_not_there_is_an_error),
        cmocka_unit_test(mappings_of_the_official_program),
        cmocka_unit_test(parts_find_their_devices),
        cmocka_unit_test(S_18_the_variable_replaces_the_memory),
        cmocka_unit_test(S_19_it_is_announced_and_nonsense_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
