/* tier_test.c - acestep tier-test: what each size of memory can do, planned and measured. */
#include "tier_trial.h"

#include <stdlib.h>
#include <string.h>

enum { TRIALS_PER_SIZE = 11 };

/* ---- options --------------------------------------------------------------------------------------------------- */

static bool set_sizes(void *target, const char *value, ace_error *error)
{
    tier_test *t = target;
    t->size_count = 0;
    for (const char *p = value; *p;) {
        char *end;
        size_t n = strcspn(p, ",");
        double gib = strtod(p, &end);
        bool plain = strspn(p, "0123456789.") == n;
        if (n == 0 || n >= TIER_SIZE_TEXT || end != p + n || !plain || !(gib >= 0.5 && gib <= 1024))
            return cli_misused(error, "--tiers cannot be '%.60s': give sizes in GB, such as 4,8,16", value);
        if (t->size_count == TIER_SIZES) return cli_misused(error, "--tiers has more than %d sizes", TIER_SIZES);
        snprintf(t->sizes[t->size_count++], TIER_SIZE_TEXT, "%.*s", (int)n, p);
        p += n;
        if (*p == ',' && !*++p) return cli_misused(error, "--tiers cannot end with a comma");
    }
    return t->size_count > 0 || cli_misused(error, "--tiers needs sizes in GB, such as 4,8,16");
}

static bool set_synthetic(void *target, const char *value, ace_error *error)
{
    if (strcmp(value, "2b") != 0 && strcmp(value, "xl") != 0)
        return cli_misused(error, "--synthetic cannot be '%.40s': give 2b or xl", value);
    ((tier_test *)target)->synthetic = value;
    return true;
}

#define TEXT_OPTION(member)                                                     \
    static bool set_##member(void *target, const char *value, ace_error *error) \
    {                                                                           \
        (void)error;                                                            \
        ((tier_test *)target)->member = value;                                  \
        return true;                                                            \
    }
TEXT_OPTION(duration)
TEXT_OPTION(steps)
TEXT_OPTION(output)
TEXT_OPTION(profile_file)

#define SWITCH(member)                                                          \
    static bool set_##member(void *target, const char *value, ace_error *error) \
    {                                                                           \
        (void)value;                                                            \
        (void)error;                                                            \
        return ((tier_test *)target)->member = true;                            \
    }
SWITCH(with_lm)
SWITCH(boundary)
SWITCH(batch_boundary)
SWITCH(plan_only)
SWITCH(json)
SWITCH(quiet)
SWITCH(replace)

static const cli_option options[] = {
    {"--tiers", NULL, "SIZES", "sizes of memory in GB (default 4,6,8,12,16,24,48)", set_sizes},
    {"--duration", NULL, "SECONDS", "length of the song (default 30)", set_duration},
    {"--steps", NULL, "N", "diffusion steps (default: the checkpoint's preset)", set_steps},
    {"--with-lm", NULL, NULL, "the language model plans first, where the tier offers one", set_with_lm},
    {"--boundary", NULL, NULL, "also without quantization and with everything kept loaded", set_boundary},
    {"--batch-boundary", NULL, NULL, "also 1, 2, 4 and 8 songs at once, without and with language model",
     set_batch_boundary},
    {"--plan-only", NULL, NULL, "run nothing: plans of real dimensions, in seconds", set_plan_only},
    {"--synthetic", NULL, "NAME", "2b (default) or xl: random weights, no files needed", set_synthetic},
    {"--output", "-o", "FILE", "write the records as JSON", set_output},
    {"--write-profile", NULL, "FILE", "with --plan-only: write what is proved as the tier profile 'measured'",
     set_profile_file},
    {"--force", "-f", NULL, "overwrite an existing file", set_replace},
    {"--json", NULL, NULL, "one JSON object on standard output", set_json},
    {"--quiet", "-q", NULL, "no progress", set_quiet},
};
enum { OPTIONS = sizeof options / sizeof *options };

static void print_help(void)
{
    printf(
        "acestep tier-test - what each size of memory can do: planned, run and measured\n"
        "\n"
        "  Every size is pretended (as MAX_CUDA_VRAM does) and kept to: no more memory is taken, whatever computes.\n"
        "  Sizes above this machine's memory are planned, not run. No checkpoint is needed: without --model, weights\n"
        "  of the published dimensions are made of random numbers. The song is thrown away.\n"
        "\n"
        "  All sizes, planned in seconds; three of them, run (minutes on a CPU):\n"
        "    acestep tier-test --plan-only\n"
        "    acestep tier-test --tiers 4,6,8 --duration 10\n"
        "  The XL model with the language model of each tier; your own checkpoint:\n"
        "    acestep tier-test --synthetic xl --with-lm --tiers 8,16\n"
        "    acestep tier-test --model checkpoints --tiers 8\n"
        "  From which size is everything kept loaded? How many songs fit at once?\n"
        "    acestep tier-test --boundary --plan-only\n"
        "    acestep tier-test --batch-boundary --plan-only --duration 240\n"
        "  A result to send in (see docs/gpu.md), kept as JSON too:\n"
        "    acestep tier-test --tiers 8 --with-lm -o my-8gb.json\n"
        "  A tier table of what is proved, to use it:\n"
        "    acestep tier-test --plan-only --write-profile measured.json\n"
        "    acestep gpu --tiers measured.json --profile measured\n"
        "\n");
    cli_print_options(options, OPTIONS);
    printf("  %-28s %s\n", "--lm SIZE", "with random weights: 0.6B, 1.7B or 4B (default: the tier's)");
    printf("\nThe model and how it runs\n");
    cli_print_options(cli_engine_options, cli_engine_option_count);
}

/* ---- the trials ------------------------------------------------------------------------------------------------ */

static void add(const tier_test *test, tier_trial *trials, int *count, int size, tier_variant variant, bool with_lm,
                int batch)
{
    tier_trial *t = &trials[(*count)++];
    *t = (tier_trial){.size = test->sizes[size],
                      .gib = strtod(test->sizes[size], NULL),
                      .variant = variant,
                      .asked_lm = with_lm,
                      .with_lm = with_lm,
                      .batch = batch,
                      .duration = strtod(test->duration, NULL)};
}

static int list_trials(const tier_test *test, tier_trial *trials)
{
    int count = 0;
    for (int i = 0; i < test->size_count; i++) {
        add(test, trials, &count, i, TIER_DEFAULT, test->with_lm, 1);
        if (test->boundary) {
            add(test, trials, &count, i, TIER_NO_QUANT, test->with_lm, 1);
            add(test, trials, &count, i, TIER_NO_OFFLOAD, test->with_lm, 1);
        }
        for (int lm = 0; lm < 2 && test->batch_boundary; lm++)
            for (int batch = 1; batch <= 8; batch *= 2) add(test, trials, &count, i, TIER_BATCH, lm, batch);
    }
    return count;
}

static void give_up(tier_trial *trial, const tier_trial *fewer)
{
    memcpy(trial->tier, fewer->tier, sizeof trial->tier);
    trial->limit_batch = fewer->limit_batch;
    snprintf(trial->error, sizeof trial->error, "fewer at once could not be made");
}

/* Of a batch the next size is tried only where the last one succeeded. */
static void plan_trials(const tier_test *test, tier_trial *trials, int count)
{
    ace_speed speed = {0};
    for (int i = 0; i < count; i++) {
        tier_trial *t = &trials[i];
        if (t->variant == TIER_BATCH && t->batch > 1 && !tier_succeeded(t - 1)) give_up(t, t - 1);
        tier_plan_trial(test, t, &speed);
    }
}

/* What was measured holds for the same run under another name. */
static void take_over(tier_trial *trial, const tier_trial *from)
{
    trial->outcome = from->outcome;
    trial->status = from->status;
    trial->seconds = from->seconds;
    trial->load = from->load;
    trial->lm_seconds = from->lm_seconds;
    trial->condition = from->condition;
    trial->dit = from->dit;
    trial->vae = from->vae;
    trial->measured = from->measured;
    memcpy(trial->error, from->error, sizeof trial->error);
}

/* Estimates are scaled by what the runs so far took. */
static double seconds_to_come(const tier_test *test, const tier_trial *trials, int first, int count)
{
    double estimated = 0, took = 0, left = 0;
    for (int i = 0; i < first; i++) {
        if (trials[i].outcome != TIER_DONE || tier_is_default_run(test, &trials[i])) continue;
        estimated += trials[i].estimate;
        took += trials[i].seconds;
    }
    for (int i = first; i < count; i++)
        if (trials[i].outcome == TIER_PLANNED && !tier_is_default_run(test, &trials[i])) left += trials[i].estimate;
    return estimated > 0 ? left * took / estimated : left;
}

static void announce(const tier_test *test, const tier_trial *trials, int i, int count)
{
    char time[32];
    const tier_trial *t = &trials[i];
    if (test->quiet) return;
    fprintf(stderr, "%d of %d: %s GB, %s%s%s, %d song%s of %g s; all that is left takes about %s\n", i + 1, count,
            t->size, tier_variant_name(t->variant), t->with_lm ? ", planner " : "", t->lm, t->plan.batch,
            t->plan.batch == 1 ? "" : "s", t->plan.duration,
            cli_minutes(seconds_to_come(test, trials, i, count), time));
}

/* False when a person stopped it. */
static bool run_trials(const tier_test *test, tier_trial *trials, int count)
{
    for (int i = 0; i < count; i++) {
        tier_trial *t = &trials[i];
        if (t->outcome != TIER_PLANNED) continue;
        if (tier_is_default_run(test, t)) {
            const tier_trial *same = t;
            while (same->variant != TIER_DEFAULT) same--;
            take_over(t, same);
            continue;
        }
        announce(test, trials, i, count);
        if (!tier_run_trial(test, t)) return false;
    }
    return true;
}

/* ---- the command ----------------------------------------------------------------------------------------------- */

static bool save_json(const tier_test *test, const tier_trial *trials, int count, bool complete, ace_error *error)
{
    char *text = NULL;
    size_t n = 0;
    FILE *memory = open_memstream(&text, &n);
    bool ok = memory && tier_write_json(memory, test, trials, count, complete);
    if (memory) ok = fclose(memory) == 0 && ok;
    if (!ok) {
        error->status = ACE_ERROR_MEMORY;
        snprintf(error->message, sizeof error->message, "no memory for the records");
    }
    ok = ok && tier_save(test->output, test->replace, text, n, error);
    free(text);
    return ok;
}

static int conclude(const tier_test *test, const tier_trial *trials, int count, bool complete)
{
    ace_error error = {0};
    int code = complete ? 0 : ACE_CANCELLED;
    if (test->json)
        tier_write_json(stdout, test, trials, count, complete);
    else
        tier_print(test, trials, count);
    if (test->output && !save_json(test, trials, count, complete, &error)) code = cli_fail(&error, false);
    if (!complete) fprintf(stderr, "acestep: stopped; what is shown was done before\n");
    for (int i = 0; i < count && code == 0; i++)
        if (trials[i].outcome == TIER_FAILED) code = (int)trials[i].status;
    if (fflush(stdout) != 0 && code == 0) code = ACE_ERROR_IO;
    return code;
}

static int run(tier_test *test)
{
    ace_error error = {0};
    if (test->output && !tier_may_save(test->output, test->replace, &error)) return cli_fail(&error, false);
    tier_trial *trials = calloc((size_t)(test->size_count * TRIALS_PER_SIZE), sizeof *trials);
    if (!trials) {
        error = (ace_error){ACE_ERROR_MEMORY, "no memory for the records"};
        return cli_fail(&error, false);
    }
    int count = list_trials(test, trials);
    plan_trials(test, trials, count);
    bool complete = test->plan_only || run_trials(test, trials, count);
    int code = conclude(test, trials, count, complete);
    free(trials);
    return code;
}

/* A request that could never be made is refused before anything else. */
static bool check(const tier_test *test, ace_error *error)
{
    if (test->profile_file && !test->plan_only)
        return cli_misused(error, "--write-profile goes with --plan-only: a profile is proved by plans");
    if (test->engine.model && test->synthetic)
        return cli_misused(error, "--model and --synthetic exclude each other: give one of them");
    if (test->engine.memory_limit > 0)
        return cli_misused(error, "--memory has no place here: --tiers says what memory is tried");
    ace_machine *machine = ace_machine_open(&(ace_machine_options){.profile = test->engine.tier_profile}, error);
    if (!machine) return false;
    ace_machine_close(machine);
    ace_request *request = ace_request_new(error);
    bool ok = request && ace_request_set(request, "duration", test->duration, error) &&
              (!test->steps || ace_request_set(request, "inference_steps", test->steps, error));
    ace_request_free(request);
    return ok;
}

int command_tier_test(int count, char **arguments)
{
    ace_error error = {0};
    bool help;
    tier_test test = {.duration = "30"};
    cli_parser parser = {.options = options, .count = OPTIONS, .target = &test};
    set_sizes(&test, "4,6,8,12,16,24,48", &error);
    if (!cli_parse(&parser, count, arguments, &help, &error)) return cli_fail(&error, false);
    if (help) {
        print_help();
        return 0;
    }
    if (!check(&test, &error)) return cli_fail(&error, false);
    if (getenv("MAX_CUDA_VRAM")) fprintf(stderr, "warning: MAX_CUDA_VRAM is ignored: --tiers says what is pretended\n");
    unsetenv("MAX_CUDA_VRAM");
    if (!test.engine.model && !test.engine.dit && !test.synthetic) test.synthetic = "2b";
    return test.profile_file ? tier_write_profile(&test) : run(&test);
}
