/* doctor.c - acestep doctor: is this computer able, are the files sound, does the program compute right? */
#include "cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct doctor {
    ace_engine_options engine; /* first: the engine's option setters write here */
    bool json;
    int checks, failed;
    ace_status model_status;
} doctor;

static bool set_json(void *target, const char *value, ace_error *error)
{
    (void)value;
    (void)error;
    return ((doctor *)target)->json = true;
}

static const cli_option options[] = {{"--json", NULL, NULL, "one JSON object per check on standard output", set_json}};

static void line(void *user, bool passed, const char *check, const char *detail)
{
    doctor *d = user;
    d->checks++;
    if (!passed) d->failed++;
    if (!d->json) {
        printf("%s  %-28s %s\n", passed ? "ok  " : "FAIL", check, detail);
        return;
    }
    printf("{\"check\":");
    cli_json_string(check);
    printf(",\"passed\":%s,\"detail\":", passed ? "true" : "false");
    cli_json_string(detail);
    printf("}\n");
}

/* The checkpoint opens, and a plan for a minute of music can be made. */
static void check_model(doctor *d)
{
    ace_error error = {0};
    cli_find_model(&d->engine);
    if (!d->engine.model) {
        line(d, true, "model files", "none given: pass --model PATH to check a checkpoint");
        return;
    }
    ace_engine *engine = ace_engine_open(&d->engine, &error);
    ace_request *request = engine ? ace_request_new(&error) : NULL;
    ace_memory_plan plan;
    bool ok = request && ace_request_set(request, "duration", "60", &error) &&
              ace_plan_memory(engine, request, &plan, &error);
    d->model_status = error.status;
    if (!engine) {
        line(d, false, "model files", error.message);
        return;
    }
    ace_engine_info info = ace_engine_get_info(engine);
    char detail[4096];
    snprintf(detail, sizeof detail, "%s, %s recipe, %d layers of %d", info.checkpoint,
             info.turbo ? "turbo" : "base or sft", info.dit_layers, info.dit_width);
    line(d, true, "model", detail);
    line(d, true, "diffusion transformer", info.dit_path);
    line(d, true, "text encoder", info.text_encoder_path);
    line(d, true, "VAE", info.vae_path);
    line(d, true, "planner", info.lm ? info.lm_path : info.lm_problem);
    line(d, true, "runs on", info.device);
    static const double gib = 1073741824.0;
    if (ok)
        snprintf(detail, sizeof detail, "%.2f GiB for a song of 60 s, at least %.2f GiB", (double)plan.peak / gib,
                 (double)plan.least / gib);
    line(d, ok, "memory needed", ok ? detail : error.message);
    ace_request_free(request);
    ace_engine_close(engine);
}

int command_doctor(int count, char **arguments)
{
    ace_error error = {0};
    bool help;
    doctor d = {0};
    cli_parser parser = {.options = options, .count = 1, .target = &d};
    if (!cli_parse(&parser, count, arguments, &help, &error)) return cli_fail(&error, false);
    if (help) {
        printf("acestep doctor - check this computer, the model files, and the program itself\n"
               "\n"
               "  acestep doctor\n"
               "  acestep doctor --model checkpoints\n"
               "\n");
        cli_print_options(options, 1);
        cli_print_options(cli_engine_options, cli_engine_option_count);
        return 0;
    }
    ace_self_test(line, &d);
    check_model(&d);
    if (!d.json) printf("%d checks, %d failed\n", d.checks, d.failed);
    if (d.model_status != ACE_OK) return (int)d.model_status;
    return d.failed ? ACE_ERROR_DEVICE : 0;
}
