/* bench.c - acestep bench: what every stage costs at the real model's size. */
#include "bench_lm.h"
#include "bench_quantization.h"
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct bench {
    ace_engine_options engine; /* first: the engine's option setters write here */
    ace_request *request;
    ace_measure_lm_options lm; /* of --stage lm; its own options are 0 where they were not given */
    const char *stage;         /* measured alone; NULL: all */
    const char *duration;      /* as given */
    bool json;
} bench;

static bool set_variant(void *target, const char *value, ace_error *error)
{
    (void)error;
    ((bench *)target)->engine.synthetic = value;
    return true;
}

static bool set_json(void *target, const char *value, ace_error *error)
{
    (void)value;
    (void)error;
    return ((bench *)target)->json = true;
}

#define FIELD(name)                                                              \
    static bool set_##name(void *target, const char *value, ace_error *error)    \
    {                                                                            \
        return ace_request_set(((bench *)target)->request, #name, value, error); \
    }
FIELD(inference_steps)

static bool set_duration(void *target, const char *value, ace_error *error)
{
    (void)error;
    ((bench *)target)->duration = value;
    return true;
}

static bool set_stage(void *target, const char *value, ace_error *error)
{
    if (strcmp(value, "lm") != 0 && strcmp(value, "quantization") != 0)
        return cli_misused(error, "--stage cannot be '%.40s': give lm or quantization", value);
    ((bench *)target)->stage = value;
    return true;
}

static bool set_count(int *target, const char *name, const char *value, ace_error *error)
{
    char *end;
    long n = strtol(value, &end, 10);
    if (end == value || *end || n < 1 || n > 1000000)
        return cli_misused(error, "%s cannot be '%.40s': give a whole number", name, value);
    *target = (int)n;
    return true;
}

static bool set_batch(void *target, const char *value, ace_error *error)
{
    bench *b = target;
    return ace_request_set(b->request, "batch_size", value, error) && set_count(&b->lm.songs, "--batch", value, error);
}

static bool set_prompt(void *target, const char *value, ace_error *error)
{
    return set_count(&((bench *)target)->lm.prompt, "--prompt", value, error);
}

static bool set_codes(void *target, const char *value, ace_error *error)
{
    return set_count(&((bench *)target)->lm.codes, "--codes", value, error);
}

static bool set_guidance(void *target, const char *value, ace_error *error)
{
    char *end;
    double guidance = strtod(value, &end);
    if (end == value || *end || !(guidance >= 1 && guidance <= 100))
        return cli_misused(error, "--guidance cannot be '%.40s': give a number from 1 (off) to 100", value);
    ((bench *)target)->lm.guidance = guidance;
    return true;
}

static const cli_option options[] = {
    {"--variant", NULL, "NAME", "2b (default) or xl: real dimensions, random weights, no files needed", set_variant},
    {"--duration", NULL, "SECONDS", "length of the song (default 30; with --stage quantization 10)", set_duration},
    {"--steps", NULL, "N", "diffusion steps (default: the preset, 8)", set_inference_steps},
    {"--batch", NULL, "N", "songs at once (default 1)", set_batch},
    {"--stage", NULL, "NAME",
     "lm: only the planner, --lm 0.6B (default), 1.7B or 4B, random weights; quantization:\n"
     "                               how far int8 and int4 are from the exact model, in each step",
     set_stage},
    {"--prompt", NULL, "N", "with --stage lm: tokens of the prompt (default 1000)", set_prompt},
    {"--codes", NULL, "N", "with --stage lm: codes to write, 5 a second (default 100)", set_codes},
    {"--guidance", NULL, "X", "with --stage lm: 1 is off (default 2)", set_guidance},
    {"--json", NULL, NULL, "one JSON object on standard output", set_json},
};
enum { OPTIONS = sizeof options / sizeof *options };

static void print_help(void)
{
    printf("acestep bench - measure every stage of making a song\n"
           "\n"
           "  Real dimensions of the 2B turbo model, random weights made in memory (the result is noise and is thrown "
           "away):\n"
           "    acestep bench\n"
           "    acestep bench --variant xl --duration 60 --precision f32\n"
           "  A checkpoint of yours:\n"
           "    acestep bench --model checkpoints\n"
           "  The planner alone, next to what this machine's memory and multipliers can do:\n"
           "    acestep bench --stage lm --lm 1.7B --batch 2\n"
           "  What int8 and int4 do to your checkpoint, in songs of 10 s:\n"
           "    acestep bench --stage quantization --model checkpoints\n"
           "\n");
    cli_print_options(options, OPTIONS);
    cli_print_options(cli_engine_options, cli_engine_option_count);
}

static double audio_seconds(const ace_result *result)
{
    double seconds = 0;
    for (int i = 0; i < result->count; i++) seconds += (double)result->songs[i].frames / 48000;
    return seconds;
}

/* What the machine can do at best, before the song and after it; zeros where a card computes, whose best is not
 * measured. */
typedef struct machine_rates {
    ace_machine_rates before, after;
} machine_rates;

/* Of a stage's arithmetic in what the machine multiplies at best. The loop runs on all threads without waiting. */
static double share(const ace_stage_cost *c, const machine_rates *m)
{
    double most = m->before.multiply > m->after.multiply ? m->before.multiply : m->after.multiply;
    return c->seconds > 0 && most > 0 ? c->flops * 1e-9 / c->seconds / most : 0;
}

static void print_json(const ace_result *result, const ace_engine_info *info, const machine_rates *m)
{
    printf("{\"checkpoint\":");
    cli_json_string(info->checkpoint);
    printf(",\"device\":");
    cli_json_string(info->device);
    printf(",\"random_weights\":%s,\"seconds\":%.4f,\"audio_s\":%.3f,\"planned_peak_bytes\":%zu,\"measured_peak_"
           "bytes\":%zu,"
           "\"stages\":{",
           info->random_weights ? "true" : "false", result->seconds, audio_seconds(result), result->planned_peak,
           result->measured_peak);
    for (int i = 0; i < ACE_STAGE_WRITE; i++) {
        const ace_stage_cost *c = &result->stages[i];
        printf("%s\"%s\":{\"seconds\":%.4f,\"gflop\":%.3f,\"gflop_per_s\":%.2f,\"share_of_multiply\":%.4f,"
               "\"bytes_moved\":%.0f,\"weight_bytes\":%zu,\"scratch_bytes\":%zu}",
               i ? "," : "", ace_stage_name((ace_stage)i), c->seconds, c->flops * 1e-9,
               c->flops * 1e-9 / (c->seconds + 1e-9), share(c, m), c->bytes_moved, c->weight_bytes, c->scratch_bytes);
    }
    printf("},");
    bench_machine_json(&m->before, &m->after);
    printf("}\n");
}

static void print_table(const ace_result *result, const ace_engine_info *info, const machine_rates *m, int threads)
{
    static const double mib = 1048576.0;
    printf("%s on %s\n", info->checkpoint, info->device);
    if (m->before.multiply > 0) bench_machine_text(&m->before, &m->after, threads);
    printf("%-10s %9s %11s %9s %9s %9s %13s %13s\n", "stage", "seconds", "GFLOP", "GFLOP/s", "of peak", "GB moved",
           "weights MiB", "working MiB");
    for (int i = 0; i < ACE_STAGE_WRITE; i++) {
        const ace_stage_cost *c = &result->stages[i];
        printf("%-10s %9.2f %11.1f %9.1f %7.1f %% %9.2f %13.1f %13.1f\n", ace_stage_name((ace_stage)i), c->seconds,
               c->flops * 1e-9, c->flops * 1e-9 / (c->seconds + 1e-9), 100 * share(c, m), c->bytes_moved * 1e-9,
               (double)c->weight_bytes / mib, (double)c->scratch_bytes / mib);
    }
    double computing = result->seconds - result->stages[ACE_STAGE_LOAD].seconds, audio = audio_seconds(result);
    printf("%.2f s of audio in %.2f s after loading: %.3fx realtime\n", audio, computing, audio / computing);
    printf("peak memory: planned %zu bytes, measured %zu bytes%s\n", result->planned_peak, result->measured_peak,
           result->planned_peak == result->measured_peak ? " (equal)" : " (DIFFERENT: a bug)");
}

/* The planner alone. */
static int run_lm(bench *b)
{
    ace_error error = {0};
    ace_measure_lm_options *o = &b->lm;
    if (b->engine.device && strcmp(b->engine.device, "cpu") != 0) {
        cli_misused(&error, "the planner alone is measured on the CPU, not on '%.32s': leave --device away",
                    b->engine.device);
        return cli_fail(&error, b->json);
    }
    o->lm = b->engine.lm ? b->engine.lm : "0.6B";
    o->precision = b->engine.precision;
    o->quantization = b->engine.lm_quantization;
    o->threads = b->engine.threads;
    if (o->songs == 0) o->songs = 1;
    if (o->prompt == 0) o->prompt = 1000;
    if (o->codes == 0) o->codes = 100;
    if (o->guidance == 0) o->guidance = 2;
    return bench_lm(o, b->json);
}

/* The diffusion transformer in all its forms. */
static int run_quantization(bench *b)
{
    b->engine.lm = "none";
    if (!b->engine.model && !b->engine.synthetic) b->engine.synthetic = "2b";
    char *end = NULL;
    double duration = b->duration ? strtod(b->duration, &end) : 10;
    if (end && (end == b->duration || *end || !(duration >= 1 && duration <= 600))) {
        ace_error error = {0};
        cli_misused(&error, "--duration cannot be '%.40s': give 1 to 600 seconds", b->duration);
        return cli_fail(&error, b->json);
    }
    return bench_quantization(&b->engine, duration, b->json);
}

static int run(bench *b)
{
    ace_error error = {0};
    if (!ace_request_set(b->request, "duration", b->duration ? b->duration : "30", &error))
        return cli_fail(&error, b->json);
    ace_result result = {0};
    cli_progress progress;
    machine_rates machine = {0};
    cli_progress_begin(&progress, false, b->json);
    if (!b->engine.model && !b->engine.synthetic) b->engine.synthetic = "2b";
    ace_engine *engine = ace_engine_open(&b->engine, &error);
    if (!engine) return cli_fail(&error, b->json);
    cli_interrupt_stops(engine);
    ace_callbacks callbacks = cli_progress_callbacks(&progress);
    ace_engine_info info = ace_engine_get_info(engine);
    int threads = b->engine.threads;
    bool cpu = strncmp(info.device, "cpu", 3) == 0;
    bool ok = (!cpu || ace_measure_machine(info.device, threads, &machine.before, &error)) &&
              ace_generate(engine, b->request, &callbacks, &result, &error) &&
              (!cpu || ace_measure_machine(info.device, threads, &machine.after, &error));
    cli_progress_end(&progress);
    if (ok && b->json) print_json(&result, &info, &machine);
    if (ok && !b->json) print_table(&result, &info, &machine, threads);
    cli_interrupt_stops(NULL);
    int code = ok ? 0 : cli_fail(&error, b->json);
    ace_result_free(&result);
    ace_engine_close(engine);
    return code;
}

int command_bench(int count, char **arguments)
{
    ace_error error = {0};
    bool help;
    bench b = {.request = ace_request_new(&error)};
    static const char lyrics[] =
        "[Verse]\nA line to sing that is as long as lines of songs are\nAnd one more line to follow it\n"
        "[Chorus]\nThis is the part that everybody knows\nThis is the part that everybody knows\n";
    bool ok =
        b.request && ace_request_set(b.request, "seed", "1", &error) &&
        ace_request_set(b.request, "caption", "upbeat city pop, female vocal, bright synths, funky bass", &error) &&
        ace_request_set(b.request, "lyrics", lyrics, &error);
    cli_parser parser = {.options = options, .count = OPTIONS, .target = &b};
    int code;
    if (!ok || !cli_parse(&parser, count, arguments, &help, &error)) {
        code = cli_fail(&error, b.json);
    } else if (help) {
        print_help();
        code = 0;
    } else if (b.stage && strcmp(b.stage, "lm") == 0) {
        code = run_lm(&b);
    } else if (b.stage) {
        code = run_quantization(&b);
    } else if (b.lm.prompt || b.lm.codes || b.lm.guidance != 0) {
        cli_misused(&error, "--prompt, --codes and --guidance go with --stage lm");
        code = cli_fail(&error, b.json);
    } else {
        code = run(&b);
    }
    ace_request_free(b.request);
    return code;
}
