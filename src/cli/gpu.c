/* gpu.c - acestep gpu: which devices there are, which tier, what it allows and sets, and what to do. */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct gpu {
    ace_engine_options engine; /* first: the engine's option setters write here; of these --device is used */
    ace_machine_options machine;
    ace_report report;
    const char *language;
} gpu;

#define TEXT_OPTION(member)                                                     \
    static bool set_##member(void *target, const char *value, ace_error *error) \
    {                                                                           \
        (void)error;                                                            \
        ((gpu *)target)->machine.member = value;                                \
        return true;                                                            \
    }
TEXT_OPTION(vram)
TEXT_OPTION(profile)
TEXT_OPTION(tier)
TEXT_OPTION(gpu_mapping)

static bool set_tiers(void *target, const char *value, ace_error *error)
{
    (void)error;
    gpu *g = target;
    g->machine.tiers = value;
    return g->machine.strict = true; /* whoever names a file here wants to know whether it is good */
}

static bool set_language(void *target, const char *value, ace_error *error)
{
    (void)error;
    ((gpu *)target)->language = value;
    return true;
}

static bool set_json(void *target, const char *value, ace_error *error)
{
    (void)value;
    (void)error;
    ((gpu *)target)->report = ACE_REPORT_JSON;
    return true;
}

static bool set_print(void *target, const char *value, ace_error *error)
{
    (void)value;
    (void)error;
    ((gpu *)target)->report = ACE_REPORT_TIERS;
    return true;
}

static bool set_tables(void *target, const char *value, ace_error *error)
{
    (void)error;
    ((gpu *)target)->report = ACE_REPORT_TABLES;
    ((gpu *)target)->language = value;
    return true;
}

static const cli_option options[] = {
    {"--json", NULL, NULL, "one JSON object, for programs", set_json},
    {"--lang", NULL, "NAME", "en, ko, ja or zh (default: the locale's)", set_language},
    {"--vram", NULL, "GB", "pretend a graphics card of that size (as MAX_CUDA_VRAM does)", set_vram},
    {"--tiers", NULL, "FILE", "values that replace built-in ones (or set ACESTEP_TIERS)", set_tiers},
    {"--tier", NULL, "NAME", "take the limits of tier1 to tier6 or unlimited", set_tier},
    {"--profile", NULL, "NAME", "seed or measured", set_profile},
    {"--print-tiers", NULL, NULL, "print the whole table and where each value comes from", set_print},
    {"--gpu-mapping", NULL, "MAP", "auto, single:N, or dit:0,vae:0,text_encoder:0,lm:1", set_gpu_mapping},
    {"--tables", NULL, "LANG", "print the tables of the guide in docs/", set_tables},
};
enum { OPTIONS = sizeof options / sizeof *options };

static void warning(void *user, const char *sentence)
{
    (void)user;
    fprintf(stderr, "warning: %s\n", sentence);
}

int command_gpu(int count, char **arguments)
{
    ace_error error = {0};
    bool help;
    gpu g = {.report = ACE_REPORT_TEXT};
    cli_parser parser = {.options = options, .count = OPTIONS, .target = &g};
    if (!cli_parse(&parser, count, arguments, &help, &error)) return cli_fail(&error, false);
    if (help) {
        printf("acestep gpu - devices, memory, tier, limits, and what is set for you; opens no model\n"
               "\n"
               "  acestep gpu\n"
               "  acestep gpu --lang ja\n"
               "  acestep gpu --vram 8                        what an 8 GB card would get\n"
               "  acestep gpu --tiers my.json --print-tiers   check a table of your own\n"
               "\n");
        cli_print_options(options, OPTIONS);
        printf("  %-28s %s\n", "--device NAME", "the device whose tier is shown: auto, cpu, cuda:N");
        printf("  %-28s %s\n", "--lm NAME", "a language model to start, whatever the tier: 0.6B, 1.7B, 4B, none");
        return 0;
    }
    g.machine.device = g.engine.device;
    g.machine.lm = g.engine.lm;
    g.machine.warning = g.report == ACE_REPORT_JSON ? NULL : warning; /* JSON holds the warnings itself */
    ace_machine *machine = ace_machine_open(&g.machine, &error);
    char *text = machine ? ace_machine_report(machine, g.report, g.language, &error) : NULL;
    ace_machine_close(machine);
    if (!text) return cli_fail(&error, g.report == ACE_REPORT_JSON);
    printf("%s%s", text, g.report == ACE_REPORT_JSON ? "\n" : "");
    free(text);
    if (fflush(stdout) == 0) return 0;
    fprintf(stderr, "acestep: cannot write to standard output: is the disk full?\n");
    return ACE_ERROR_IO;
}
