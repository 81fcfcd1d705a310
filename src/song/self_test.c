/* self_test.c - computations whose answers are known beforehand: whole numbers small enough that every precision and
 * every instruction set must get them exactly right. */
#include "song/self_test.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/philox.h"
#include "song/compute.h"
#include "vram/machine.h"

#include <acestep.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct report {
    void (*line)(void *user, bool passed, const char *check, const char *detail);
    void *user;
    bool passed;
} report;

static void say(report *r, bool passed, const char *check, const char *detail)
{
    if (!passed) r->passed = false;
    if (r->line) r->line(r->user, passed, check, detail);
}

/* ---- the machine --------------------------------------------------------------------------------------------- */

static void check_processor(report *r)
{
    char detail[160];
    snprintf(detail, sizeof detail, "%d CPUs usable;%s%s%s%s", ace_cpu_count(),
             __builtin_cpu_supports("avx2") ? " AVX2" : "", __builtin_cpu_supports("fma") ? " FMA" : "",
             __builtin_cpu_supports("avx512f") ? " AVX-512" : "",
             __builtin_cpu_supports("avx512bf16") ? " AVX512-BF16" : "");
    say(r, true, "processor", detail);
}

static void check_memory(report *r)
{
    char detail[160] = "unknown", name[64];
    double kib, total = 0, available = 0;
    FILE *file = fopen("/proc/meminfo", "re");
    while (file && fscanf(file, "%63s %lf kB ", name, &kib) == 2) {
        if (strcmp(name, "MemTotal:") == 0) total = kib;
        if (strcmp(name, "MemAvailable:") == 0) available = kib;
    }
    if (file) fclose(file);
    if (total > 0)
        snprintf(detail, sizeof detail, "%.1f GiB, %.1f GiB available", total / 1048576, available / 1048576);
    say(r, true, "memory", detail);
}

/* ---- arithmetic ---------------------------------------------------------------------------------------------- */

/* The known-answer vector of Philox4x32-10 for counter and key zero, published with Random123. */
static void check_philox(report *r)
{
    static const uint32_t known[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    uint32_t counter[4] = {0}, key[2] = {0}, out[4];
    philox4x32_10(counter, key, out);
    bool same = memcmp(out, known, sizeof known) == 0;
    say(r, same, "noise generator", same ? "Philox4x32-10 gives its published values" : "Philox4x32-10 is wrong");
}

/* A whole number from -3 to 3 that looks random. */
static float digit(int64_t i)
{
    uint32_t h = (uint32_t)i * 2654435761u;
    return (float)((int)((h >> 16) % 7) - 3);
}

enum { ROWS = 37, INPUTS = 130, OUTPUTS = 65, TAPS = 3, CHANNELS = 10, KEYS = 64, HEAD = 32 };

static bool read_digits(void *context, int64_t first, int64_t count, ace_dtype dtype, void *rows, ace_error *error)
{
    int64_t width = *(const int64_t *)context;
    (void)error;
    for (int64_t i = 0; i < count * width; i++) {
        float value = digit(first * width + i);
        if (dtype == ACE_F32)
            ((float *)rows)[i] = value;
        else
            ((uint16_t *)rows)[i] = ace_f32_to_bf16(value);
    }
    return true;
}

/* y = x W^T with x, W of whole numbers: exact in every order of summation. */
static bool product_is_exact(ace_device *dev, float *host)
{
    int64_t k = INPUTS;
    ace_weight_desc desc = {.kind = ACE_WEIGHT_PRODUCT, .name = "self test", .n = OUTPUTS, .k = k, .taps = 1};
    ace_weight *w = ace_weight_new(dev, &desc, read_digits, &k);
    ace_mark mark = ace_scratch_mark(dev);
    ace_mat x = ace_scratch(dev, ace_device_act(dev), ROWS, k), y = ace_scratch(dev, ACE_F32, ROWS, OUTPUTS);
    for (int64_t i = 0; i < ROWS * k; i++) host[i] = digit(i + 1000);
    ace_upload(dev, x, host);
    ace_linear(dev, y, x, w, NULL);
    ace_download(dev, host, y);
    ace_scratch_release(dev, mark);
    ace_weight_free(dev, w);
    bool exact = ace_device_ok(dev, NULL);
    for (int64_t i = 0; i < ROWS * OUTPUTS && exact; i++) {
        float sum = 0;
        for (int64_t c = 0; c < k; c++) sum += digit(i / OUTPUTS * k + c + 1000) * digit(i % OUTPUTS * k + c);
        exact = host[i] == sum;
    }
    return exact;
}

static bool convolution_is_exact(ace_device *dev, float *host)
{
    int64_t k = TAPS * CHANNELS;
    ace_weight_desc desc = {.kind = ACE_WEIGHT_PRODUCT, .name = "self test", .n = OUTPUTS, .k = k, .taps = TAPS};
    ace_weight *w = ace_weight_new(dev, &desc, read_digits, &k);
    ace_mark mark = ace_scratch_mark(dev);
    ace_mat x = ace_scratch(dev, ace_device_act(dev), ROWS, CHANNELS), y = ace_scratch(dev, ACE_F32, ROWS, OUTPUTS);
    for (int64_t i = 0; i < ROWS * CHANNELS; i++) host[i] = digit(i + 2000);
    ace_upload(dev, x, host);
    ace_conv conv = {.stride = 1, .dilation = 9, .padding = 9};
    ace_conv1d(dev, y, x, w, &conv, NULL);
    ace_download(dev, host, y);
    ace_scratch_release(dev, mark);
    ace_weight_free(dev, w);
    bool exact = ace_device_ok(dev, NULL);
    for (int64_t i = 0; i < ROWS * OUTPUTS && exact; i++) {
        float sum = 0;
        for (int64_t tap = 0; tap < TAPS; tap++) {
            int64_t row = i / OUTPUTS + tap * 9 - 9;
            for (int64_t c = 0; c < CHANNELS && row >= 0 && row < ROWS; c++)
                sum += digit(row * CHANNELS + c + 2000) * digit(i % OUTPUTS * k + tap * CHANNELS + c);
        }
        exact = host[i] == sum;
    }
    return exact;
}

/* Queries of zero attend to all keys alike: the answer is the mean of 64 whole numbers, exact in binary. */
static bool attention_is_exact(ace_device *dev, float *host)
{
    ace_mark mark = ace_scratch_mark(dev);
    ace_dtype act = ace_device_act(dev);
    ace_mat q = ace_scratch(dev, act, ROWS, HEAD), k = ace_scratch(dev, act, KEYS, HEAD),
            v = ace_scratch(dev, act, KEYS, HEAD);
    ace_mat o = ace_scratch(dev, act, ROWS, HEAD);
    memset(host, 0, sizeof *host * ROWS * HEAD);
    ace_upload(dev, q, host);
    for (int64_t i = 0; i < KEYS * HEAD; i++) host[i] = digit(i);
    ace_upload(dev, k, host);
    ace_upload(dev, v, host);
    ace_attention_shape shape = {.heads = 1, .kv_heads = 1, .head_dim = HEAD, .scale = 1, .mask = ACE_MASK_FULL};
    ace_attention(dev, o, q, k, v, &shape);
    ace_download(dev, host, o);
    ace_scratch_release(dev, mark);
    bool exact = ace_device_ok(dev, NULL);
    for (int64_t i = 0; i < ROWS * HEAD && exact; i++) {
        float sum = 0;
        for (int64_t j = 0; j < KEYS; j++) sum += digit(j * HEAD + i % HEAD);
        float mean = sum / KEYS;
        exact = host[i] == (act == ACE_F32 ? mean : ace_bf16_to_f32(ace_f32_to_bf16(mean)));
    }
    return exact;
}

/* Whether the device gets all of it right, in words, too. */
static bool is_exact(ace_device *dev, char detail[256], ace_error *error)
{
    ace_error problem = {0};
    float *host = ace_calloc((size_t)ROWS * INPUTS, sizeof *host, "the self test", &problem);
    bool ok = host && ace_scratch_reserve(dev, 1 << 20, 0, &problem);
    bool product = ok && product_is_exact(dev, host), conv = ok && convolution_is_exact(dev, host);
    bool attention = ok && attention_is_exact(dev, host);
    if (ok) ace_device_ok(dev, &problem);
    free(host);
    snprintf(detail, 256, "matrix product %s, convolution %s, attention %s%s%.100s", product ? "exact" : "WRONG",
             conv ? "exact" : "WRONG", attention ? "exact" : "WRONG", problem.status ? ": " : "", problem.message);
    if (problem.status) return ace_fail(error, problem.status, "%s", problem.message);
    return ace_scratch_reserve(dev, 0, 0, error) && product && conv && attention;
}

bool self_test_device(ace_device *dev, ace_error *error)
{
    char detail[256];
    ace_error problem = {0};
    if (is_exact(dev, detail, &problem)) return true;
    if (problem.status) return ace_fail(error, problem.status, "%s", problem.message);
    return ace_fail(error, ACE_ERROR_DEVICE,
                    "%s does not compute right (%s): update its driver, or use another device (--device cpu)",
                    ace_device_name(dev), detail);
}

/* `dev` may be NULL: then `problem` says why it could not be opened. Closes it. */
static void check_arithmetic(report *r, const char *check, ace_device *dev, ace_error *problem)
{
    char detail[256];
    if (!dev) {
        say(r, problem->status == ACE_ERROR_DEVICE, check,
            problem->status == ACE_ERROR_DEVICE ? "not on this processor" : problem->message);
        return;
    }
    bool exact = is_exact(dev, detail, problem);
    say(r, exact, check, detail);
    ace_device_close(dev);
}

static void check_processor_arithmetic(report *r, ace_isa isa, const char *isa_name, ace_dtype precision)
{
    char check[64];
    ace_error error = {0};
    ace_cpu_options options = {.precision = precision, .isa = isa};
    snprintf(check, sizeof check, "arithmetic %s %s", isa_name, ace_dtype_name(precision));
    check_arithmetic(r, check, ace_cpu_open(&options, &error), &error);
}

/* ---- the graphics card --------------------------------------------------------------------------------------- */

static void check_card_arithmetic(report *r, const ace_machine *machine, ace_dtype precision)
{
    char check[64];
    ace_error error = {0};
    compute_options options = {.precision = precision};
    snprintf(check, sizeof check, "arithmetic %s %s", machine->detected.devices[machine->device].id,
             ace_dtype_name(precision));
    ace_device *dev = compute_open(machine, &options, &error);
    if (dev)
        check_arithmetic(r, check, dev, &error);
    else
        say(r, false, check, error.message);
}

/* A card that is there and not used is no failure of this program's, but is told. */
static void check_card(report *r)
{
    ace_error error = {0};
    ace_machine *machine = ace_machine_open(NULL, &error);
    if (!machine) {
        say(r, false, "graphics card", error.message);
        return;
    }
    if (machine->computes) {
        const detect_device *d = &machine->detected.devices[machine->device];
        char detail[256];
        snprintf(detail, sizeof detail, "%s, %s, compute capability %d.%d", d->id, d->name, d->capability[0],
                 d->capability[1]);
        say(r, true, "graphics card", detail);
        say(r, true, "plug-in for NVIDIA GPUs", machine->plugin.path);
        check_card_arithmetic(r, machine, ACE_F32);
        check_card_arithmetic(r, machine, ACE_BF16);
    } else {
        say(r, true, "graphics card", machine->unused[0] ? machine->unused : "no NVIDIA GPU is used");
    }
    ace_machine_close(machine);
}

bool ace_self_test(void (*line)(void *user, bool passed, const char *check, const char *detail), void *user)
{
    static const struct {
        ace_isa isa;
        const char *name;
    } isas[] = {{ACE_ISA_GENERIC, "generic"},
                {ACE_ISA_AVX2, "AVX2"},
                {ACE_ISA_AVX512, "AVX-512"},
                {ACE_ISA_AVX512_BF16, "AVX512-BF16"},
                {ACE_ISA_AMX, "AMX"}};
    report r = {line, user, true};
    check_processor(&r);
    check_memory(&r);
    check_philox(&r);
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        check_processor_arithmetic(&r, isas[i].isa, isas[i].name, ACE_F32);
        check_processor_arithmetic(&r, isas[i].isa, isas[i].name, ACE_BF16);
    }
    check_card(&r);
    return r.passed;
}
