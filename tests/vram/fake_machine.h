/* fake_machine.h - a machine of files under a temporary directory, with a management library from this build. */
#ifndef TESTS_VRAM_FAKE_MACHINE_H
#define TESTS_VRAM_FAKE_MACHINE_H

#include "support/place.h"
#include "vram/machine.h"

#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char fake_sys[96], fake_proc[96], fake_dev[96];

/* The environment of the fake machine: NAME, VALUE, ..., ended by NULL. */
static const char *fake_variables[16];

static const char *fake_variable(const char *name)
{
    for (int i = 0; fake_variables[i]; i += 2)
        if (strcmp(fake_variables[i], name) == 0) return fake_variables[i + 1];
    return NULL;
}

static inline void fake_environment(const char *name, ...)
{
    va_list more;
    int n = 0;
    va_start(more, name);
    for (const char *p = name; p && n < 15; p = va_arg(more, const char *)) fake_variables[n++] = p;
    va_end(more);
    fake_variables[n] = NULL;
}

/* Writes a file under the place, with the directories above it. */
static inline void fake_file(const char *path, const char *text)
{
    char whole[512], command[640];
    snprintf(whole, sizeof whole, "%s/%s", place, path);
    snprintf(command, sizeof command, "mkdir -p \"$(dirname '%s')\"", whole);
    assert_int_equal(system(command), 0);
    FILE *file = fopen(whole, "wb");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static inline void fake_link(const char *path, const char *target)
{
    char whole[512];
    snprintf(whole, sizeof whole, "%s/%s", place, path);
    unlink(whole);
    assert_int_equal(symlink(target, whole), 0);
}

/* An empty machine: 32 GiB of memory, 20 of it available, no card, no library, no variable. */
static inline detect_places fake_machine(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'/*", place);
    assert_int_equal(system(command), 0);
    snprintf(fake_sys, sizeof fake_sys, "%s/sys", place);
    snprintf(fake_proc, sizeof fake_proc, "%s/proc", place);
    snprintf(fake_dev, sizeof fake_dev, "%s/dev", place);
    fake_file("proc/meminfo", "MemTotal:       33554432 kB\nMemFree:  1048576 kB\nMemAvailable:   20971520 kB\n"
                              "SwapTotal:      99999999 kB\nSwapFree:       99999999 kB\n");
    fake_file("proc/cpuinfo", "processor\t: 0\nmodel name\t: Fake CPU 3000\nflags\t\t: fpu\n");
    fake_environment(NULL);
    return (detect_places){fake_sys,     fake_proc, fake_dev, "/nonexistent/libnvidia-ml.so", "/nonexistent/libcuda.so",
                           fake_variable};
}

/* A display card on the bus. */
static inline void fake_card(const char *pci, const char *vendor, const char *model, const char *driver)
{
    char path[128];
    snprintf(path, sizeof path, "sys/bus/pci/devices/%s/vendor", pci);
    fake_file(path, vendor);
    snprintf(path, sizeof path, "sys/bus/pci/devices/%s/device", pci);
    fake_file(path, model);
    snprintf(path, sizeof path, "sys/bus/pci/devices/%s/class", pci);
    fake_file(path, "0x030000\n");
    if (!driver) return;
    snprintf(path, sizeof path, "sys/bus/pci/devices/%s/driver", pci);
    fake_link(path, driver);
}

/* What sentences ace_machine_open() told. */
static char fake_warnings[4096];

static inline void fake_warning(void *user, const char *sentence)
{
    (void)user;
    strncat(fake_warnings, sentence, sizeof fake_warnings - strlen(fake_warnings) - 2);
    strcat(fake_warnings, "\n");
}

/* Opens the machine; fails the test when that fails. */
static inline ace_machine *fake_open(const detect_places *places, ace_machine_options options)
{
    ace_error error = {0};
    fake_warnings[0] = '\0';
    options.warning = fake_warning;
    ace_machine *machine = machine_open_at(&options, places, &error);
    if (!machine) fail_msg("%s", error.message);
    return machine;
}

/* A machine that MAX_CUDA_VRAM gives a card of that size. */
static inline ace_machine *fake_simulated(const char *gib)
{
    detect_places places = fake_machine();
    fake_environment("MAX_CUDA_VRAM", gib, NULL);
    return fake_open(&places, (ace_machine_options){0});
}

#endif
