/* plan.c - acestep plan: how a request would use memory, and about how long it would take, before anything runs. */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct plan {
    cli_wish wish; /* first: option setters write here */
    const char *vram;
    bool json;
} plan;

static bool set_variant(void *target, const char *value, ace_error *error)
{
    (void)error;
    ((plan *)target)->wish.engine.synthetic = value;
    return true;
}

static bool set_vram(void *target, const char *value, ace_error *error)
{
    (void)error;
    ((plan *)target)->vram = value;
    return true;
}

static bool set_json(void *target, const char *value, ace_error *error)
{
    (void)value;
    (void)error;
    return ((plan *)target)->json = true;
}

static const cli_option options[] = {
    {"--vram", NULL, "GB", "pretend a graphics card of that size (as MAX_CUDA_VRAM does)", set_vram},
    {"--variant", NULL, "NAME", "2b (default), xl, or with a planner 2b+0.6B, xl+4B: real dimensions, no files",
     set_variant},
    {"--json", NULL, NULL, "one JSON object on standard output", set_json},
};
enum { OPTIONS = sizeof options / sizeof *options };

static void print_help(void)
{
    printf("acestep plan - how a request would use memory, stage by stage, without running anything\n"
           "\n"
           "  A song of your checkpoint's; four of ten minutes; within 4 GB:\n"
           "    acestep plan \"slow piano\" --model checkpoints\n"
           "    acestep plan --model checkpoints --duration 600 --batch 4\n"
           "    acestep plan --model checkpoints --memory 4\n"
           "  The published models' dimensions, without files, and a card of 8 GB with its tier's limits:\n"
           "    acestep plan --variant xl+0.6B --vram 8 --thinking --duration 240\n"
           "  What quantised weights would save:\n"
           "    acestep plan --variant xl --quantization int8\n"
           "\n");
    cli_print_options(options, OPTIONS);
    printf("\nThe request\n");
    cli_print_options(cli_request_options, cli_request_option_count);
    printf("\nThe model and how it runs\n");
    cli_print_options(cli_engine_options, cli_engine_option_count);
    printf("\nThe song (unset: the checkpoint's preset)\n");
    cli_print_fields();
}

static void warning(void *user, const char *sentence)
{
    (void)user;
    fprintf(stderr, "warning: %s\n", sentence);
}

/* ---- what is known of a stage ---------------------------------------------------------------------------------- */

static bool has_work(const ace_stage_cost *cost)
{
    return cost->peak_bytes > 0;
}

static const char *residency(const ace_memory_plan *p, ace_stage stage)
{
    switch (stage) {
    case ACE_STAGE_LOAD:
        return p->evicts ? "the encoders only" : "everything, resident";
    case ACE_STAGE_PLAN:
        if (p->planner_streamed == p->planner_layers) return "the planner alone, streamed layer by layer";
        if (p->planner_streamed > 0) return "the planner alone, partly streamed";
        return p->planner_alone ? "the planner alone" : "the planner";
    case ACE_STAGE_CONDITION:
        if (p->streams_text) return "encoders, text encoder streamed layer by layer";
        return p->evicts ? "encoders, unloaded afterwards" : "resident";
    case ACE_STAGE_DIFFUSION:
        if (p->streams_dit) return "diffusion transformer, streamed layer by layer";
        return p->evicts ? "diffusion transformer, unloaded afterwards" : "resident";
    case ACE_STAGE_DECODE:
        return p->evicts ? "VAE, unloaded afterwards" : "resident";
    default:
        return "";
    }
}

/* How the weights of a stage's layers are stored. */
static const char *form(const ace_memory_plan *p, const ace_engine_info *info, ace_stage stage)
{
    const char *quantization = "none";
    if (stage == ACE_STAGE_DIFFUSION || (stage == ACE_STAGE_LOAD && !p->evicts)) quantization = info->quantization;
    if (stage == ACE_STAGE_PLAN) quantization = info->lm_quantization;
    if (strcmp(quantization, "none") == 0) return info->precision;
    if (stage == ACE_STAGE_LOAD) return "mixed";
    return strcmp(quantization, "keep") == 0 ? "blocks" : quantization;
}

/* ---- printing -------------------------------------------------------------------------------------------------- */

static double gib(size_t bytes)
{
    return (double)bytes / 1073741824.0;
}

static void print_planner(const ace_memory_plan *p, const ace_speed *speed)
{
    printf("planner: weights %.3f GiB, keys and values %.3f GiB", gib(p->planner_weights), gib(p->planner_cache));
    if (p->planner_songs > 0)
        printf(", codes of %d song%s at a time", p->planner_songs, p->planner_songs == 1 ? "" : "s");
    printf("\n");
    if (p->planner_streamed > 0)
        printf("  %d of its %d layers are loaded anew for every token\n", p->planner_streamed, p->planner_layers);
    if (p->planner_fetches) printf("  rows of its table that stand for text are read when they are needed\n");
    double seconds = ace_estimate(&p->stages[ACE_STAGE_PLAN], ACE_STAGE_PLAN, speed);
    if (seconds > 0 && p->planner_songs > 0)
        printf("  about %.2f codes a second, 5 of which are a second of a song\n",
               5 * p->duration * p->batch / seconds);
}

/* Weights are those at the height of a stage, with the device's fixed workspace. */
static void print_table(const ace_memory_plan *p, const ace_engine_info *info, const ace_speed *speed)
{
    printf("%-10s %11s %11s %11s %11s %10s  %-6s %s\n", "stage", "weights GiB", "working GiB", "peak GiB", "TFLOP",
           "time", "stored", "weights");
    double total = 0;
    for (int i = 0; i < ACE_STAGE_WRITE; i++) {
        const ace_stage_cost *c = &p->stages[i];
        char time[32] = "-";
        double seconds = ace_estimate(c, (ace_stage)i, speed);
        if (!has_work(c)) continue;
        if (seconds >= 0) snprintf(time, sizeof time, "%.1f s", seconds);
        if (seconds >= 0) total += seconds;
        printf("%-10s %11.3f %11.3f %11.3f %11.3f %10s  %-6s %s\n", ace_stage_name((ace_stage)i),
               gib(c->peak_bytes - c->scratch_bytes), gib(c->scratch_bytes), gib(c->peak_bytes), c->flops * 1e-12, time,
               form(p, info, (ace_stage)i), residency(p, (ace_stage)i));
    }
    if (total > 0)
        printf(
            "about %.0f s on this computer, which is an estimate: loading, other programs and other cores are not in "
            "it\n",
            total);
}

static void print_text(const ace_memory_plan *p, const ace_engine_info *info, const ace_speed *speed)
{
    printf("%s on %s\n", info->checkpoint, info->device);
    printf("%d song%s of %.1f s, %s, VAE in windows of %d frames%s\n", p->batch, p->batch == 1 ? "" : "s", p->duration,
           info->precision, p->vae_window, p->one_by_one ? ", songs and guidance in turns" : "");
    if (p->planner) print_planner(p, speed);
    print_table(p, info, speed);
    printf("peak: %zu bytes (%.3f GiB)", p->peak, gib(p->peak));
    if (p->limit) printf(", %.3f GiB are allowed", gib(p->limit));
    printf("\n");
    if (p->peak < p->fastest)
        printf("with %.3f GiB nothing is unloaded, streamed or done in turns: faster, the same bytes\n",
               gib(p->fastest));
    if (p->least < p->peak) printf("with as little as %.3f GiB it still runs: slower, the same bytes\n", gib(p->least));
    if (p->least >= p->peak) printf("it cannot do with less\n");
}

static const char *truth(bool value)
{
    return value ? "true" : "false";
}

static void print_json(const ace_memory_plan *p, const ace_engine_info *info, const ace_speed *speed)
{
    printf("{\"fits\":true,\"checkpoint\":");
    cli_json_string(info->checkpoint);
    printf(",\"device\":");
    cli_json_string(info->device);
    printf(",\"precision\":\"%s\",\"quantization\":\"%s\",\"lm_quantization\":\"%s\",\"duration_s\":%.3f,\"batch\":%d,"
           "\"peak_bytes\":%zu,\"limit_bytes\":%zu,"
           "\"fastest_bytes\":%zu,\"least_bytes\":%zu,\"evicts\":%s,\"streams_dit\":%s,\"streams_text\":%s,"
           "\"one_by_one\":%s,\"vae_window\":%d",
           info->precision, info->quantization, info->lm_quantization, p->duration, p->batch, p->peak, p->limit,
           p->fastest, p->least, truth(p->evicts), truth(p->streams_dit), truth(p->streams_text), truth(p->one_by_one),
           p->vae_window);
    if (p->planner)
        printf(",\"planner\":{\"peak_bytes\":%zu,\"weight_bytes\":%zu,\"cache_bytes\":%zu,\"songs_at_once\":%d,"
               "\"alone\":%s,\"layers\":%d,\"streamed_layers\":%d,\"fetches_rows\":%s}",
               p->planner_peak, p->planner_weights, p->planner_cache, p->planner_songs, truth(p->planner_alone),
               p->planner_layers, p->planner_streamed, truth(p->planner_fetches));
    printf(",\"stages\":{");
    for (int i = 0, count = 0; i < ACE_STAGE_WRITE; i++) {
        const ace_stage_cost *c = &p->stages[i];
        double seconds = ace_estimate(c, (ace_stage)i, speed);
        if (!has_work(c)) continue;
        printf(
            "%s\"%s\":{\"stored\":\"%s\",\"weight_bytes\":%zu,\"scratch_bytes\":%zu,\"peak_bytes\":%zu,\"gflop\":%.3f,"
            "\"bytes_moved\":%.0f",
            count++ ? "," : "", ace_stage_name((ace_stage)i), form(p, info, (ace_stage)i), c->weight_bytes,
            c->scratch_bytes, c->peak_bytes, c->flops * 1e-9, c->bytes_moved);
        if (seconds >= 0) printf(",\"estimated_s\":%.2f", seconds);
        printf("}");
    }
    printf("}}\n");
}

/* It does not fit: what would. */
static int print_refusal(const plan *o, const ace_memory_plan *p, const ace_error *error)
{
    if (o->json) {
        printf("{\"fits\":false,\"duration_s\":%.3f,\"batch\":%d,\"limit_bytes\":%zu,\"least_bytes\":%zu,\"error\":",
               p->duration, p->batch, p->limit, p->least);
        cli_json_string(error->message);
        printf("}\n");
        return (int)error->status;
    }
    return cli_fail(error, false);
}

static int run(plan *o)
{
    ace_error error = {0};
    ace_memory_plan p;
    ace_speed speed;
    if (o->vram && setenv("MAX_CUDA_VRAM", o->vram, 1) != 0) {
        cli_misused(&error, "--vram cannot be '%.40s'", o->vram);
        return cli_fail(&error, o->json);
    }
    if (!o->wish.engine.model && !o->wish.engine.synthetic) o->wish.engine.synthetic = "2b";
    o->wish.engine.warning = warning;
    ace_engine *engine = ace_engine_open(&o->wish.engine, &error);
    if (!engine) return cli_fail(&error, o->json);
    int code = 0;
    if (ace_plan_memory(engine, o->wish.request, &p, &error)) {
        ace_engine_info info = ace_engine_get_info(engine);
        ace_error unmeasured = {0}; /* then there are no times */
        ace_measure_speed(engine, p.duration, &speed, &unmeasured);
        if (o->json)
            print_json(&p, &info, &speed);
        else
            print_text(&p, &info, &speed);
    } else {
        code =
            error.status == ACE_ERROR_MEMORY && p.least > 0 ? print_refusal(o, &p, &error) : cli_fail(&error, o->json);
    }
    if (fflush(stdout) != 0 && code == 0) code = ACE_ERROR_IO;
    ace_engine_close(engine);
    return code;
}

int command_plan(int count, char **arguments)
{
    ace_error error = {0};
    bool help;
    plan o = {.wish.request = ace_request_new(&error)};
    if (!o.wish.request) return cli_fail(&error, false);
    cli_parser parser = {.options = options,
                         .count = OPTIONS,
                         .more = cli_request_options,
                         .more_count = cli_request_option_count,
                         .target = &o,
                         .positional = cli_caption,
                         .unknown = cli_any_field};
    for (int i = 0; i < count; i++) o.json = o.json || strcmp(arguments[i], "--json") == 0;
    int code;
    if (!cli_parse(&parser, count, arguments, &help, &error)) {
        code = cli_fail(&error, o.json);
    } else if (help) {
        print_help();
        code = 0;
    } else {
        code = run(&o);
    }
    ace_request_free(o.wish.request);
    return code;
}
