/* Every way in which the plug-in for NVIDIA GPUs cannot be used gives a sentence that says what to do, and no crash. */
#include "base/file.h"
#include "device/cuda/plugin.h"
#include "support/place.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Opens and starts what `path` names; the error's message, "" when all went well. */
static const char *tried(const char *path)
{
    static ace_error error;
    cuda_plugin plugin = {0};
    error = (ace_error){0};
    bool ok = cuda_plugin_open(&plugin, path, &error) && cuda_plugin_start(&plugin, &error);
    if (ok) assert_true(plugin.devices > 0);
    if (!ok) assert_int_equal(error.status, ACE_ERROR_DEVICE);
    cuda_plugin_close(&plugin);
    assert_null(plugin.gpu);
    return error.message;
}

static void has(const char *message, const char *words)
{
    if (!strstr(message, words)) fail_msg("no '%s' in: %s", words, message);
}

static void none_is_installed(void **state)
{
    (void)state;
    has(tried(NULL), "is not installed");
    has(tried(""), "-DACE_CUDA=ON");
}

static void what_is_named_must_be_there(void **state)
{
    (void)state;
    char path[5000];
    has(tried("/nonexistent/libacestep-cuda.so"), "there is no file '/nonexistent/libacestep-cuda.so'");
    has(tried("libacestep-cuda.so"), "correct or unset it"); /* never the loader's search */
    has(tried("libc.so.6"), "there is no file");
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    has(tried(path), "longer than any path");
}

static void what_is_no_library_is_not_loaded(void **state)
{
    (void)state;
    char path[512];
    has(tried(place), "is no file");
    has(tried("/dev/zero"), "is no file");
    snprintf(path, sizeof path, "%s/pipe", place);
    assert_int_equal(mkfifo(path, 0600), 0);
    has(tried(path), "is no file");
    static const char *const texts[] = {"", "x", "\177ELF", "#!/bin/sh\nexit 1\n",
                                        "\177ELF\2\1\1\0\0\0\0\0\0\0\0\0\3\0>"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        snprintf(path, sizeof path, "%s/text", place);
        FILE *file = fopen(path, "wb");
        assert_non_null(file);
        fputs(texts[i], file);
        assert_int_equal(fclose(file), 0);
        has(tried(path), "cannot be the plug-in");
    }
    has(tried("/proc/self/exe"), "plug-in"); /* a program, which the loader refuses, too */
}

/* Tries `size` bytes as a file of its own: what is loaded once stays, and must not change under it. */
static bool is_refused(const uint8_t *bytes, size_t size)
{
    static int number;
    char path[512];
    snprintf(path, sizeof path, "%s/damaged-%d.so", place, number++);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    return *tried(path) != '\0';
}

/* Wherever a good file is cut, and wherever its headers are damaged: an error, unless what is gone is not needed. */
static void a_damaged_file_is_refused(void **state)
{
    (void)state;
    enum { HEADER = 64 };
    ace_map good;
    ace_error error = {0};
    assert_true(ace_map_open(&good, PLUGINS "/fake-good.so", &error));
    size_t refused = 0;
    for (size_t cut = 0; cut < good.size; cut += cut < 2048 ? 61 : 997) refused += is_refused(good.data, cut);
    assert_true(refused > 40);
    uint8_t *damaged = malloc(good.size);
    assert_non_null(damaged);
    refused = 0;
    for (size_t at = 16; at < HEADER; at++) {
        memcpy(damaged, good.data, good.size);
        damaged[at] = 0xff;
        refused += is_refused(damaged, good.size);
    }
    assert_true(refused > 10);
    free(damaged);
    ace_map_close(&good);
}

static void libraries_that_are_something_else(void **state)
{
    (void)state;
    has(tried(PLUGINS "/fake-nameless.so"), "is a library, but not the plug-in");
    has(tried(PLUGINS "/fake-nothing.so"), "is a library, but not the plug-in");
    has(tried(PLUGINS "/fake-other-version.so"), "is of another version of this program (its interface is number 999");
    has(tried(PLUGINS "/fake-hole.so"), "lacks functions");
    has(tried(PLUGINS "/fake-unresolved.so"), "acestep_nobody_has_this"); /* what the loader said */
}

static void a_driver_that_fails_is_told(void **state)
{
    (void)state;
    has(tried(PLUGINS "/fake-old-driver.so"), "no NVIDIA GPU can be used: the driver is older than CUDA 13");
    has(tried(PLUGINS "/fake-speechless.so"), "unknown error");
    has(tried(PLUGINS "/fake-no-cards.so"), "the driver shows none");
    has(tried(PLUGINS "/fake-minus-one.so"), "the driver shows none");
}

static void a_card_that_cannot_be_opened_is_told(void **state)
{
    (void)state;
    cuda_plugin plugin = {0};
    cuda_card card;
    ace_error error = {0};
    assert_true(cuda_plugin_open(&plugin, PLUGINS "/fake-good.so", &error));
    assert_true(cuda_plugin_start(&plugin, &error));
    assert_int_equal(plugin.devices, 1);
    assert_false(cuda_plugin_look(&plugin, 0, &card, &error));
    has(error.message, "cuda:0 cannot be opened: the driver is older");
    assert_string_equal(card.name, "");
    cuda_plugin_close(&plugin);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(none_is_installed),
        cmocka_unit_test(what_is_named_must_be_there),
        cmocka_unit_test(what_is_no_library_is_not_loaded),
        cmocka_unit_test(a_damaged_file_is_refused),
        cmocka_unit_test(libraries_that_are_something_else),
        cmocka_unit_test(a_driver_that_fails_is_told),
        cmocka_unit_test(a_card_that_cannot_be_opened_is_told),
    };
    return cmocka_run_group_tests(tests, make_place, remove_place);
}
