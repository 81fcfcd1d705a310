#include "tier_trial.h"

#include <stdlib.h>
#include <string.h>

static const double GIB = 1073741824.0;

const char *tier_variant_name(tier_variant variant)
{
    static const char *const names[] = {"default", "no-quant", "no-offload", "batch"};
    return names[variant];
}

bool tier_succeeded(const tier_trial *trial)
{
    return trial->outcome == TIER_PLANNED || trial->outcome == TIER_DONE;
}

/* Whether weights are quantized, which they are only when it is asked for. */
static bool quantizes(const tier_test *test)
{
    const char *dit = test->engine.quantization, *lm = test->engine.lm_quantization;
    return (dit && strcmp(dit, "none") != 0) || (lm && strcmp(lm, "none") != 0);
}

bool tier_is_default_run(const tier_test *test, const tier_trial *trial)
{
    return trial->variant == TIER_NO_OFFLOAD || (trial->variant == TIER_NO_QUANT && !quantizes(test));
}

/* ---- the engine of a trial ------------------------------------------------------------------------------------- */

/* The simulation is what this command does: only what else there is to say is told. */
static void warning(void *user, const char *sentence)
{
    const tier_trial *trial = user;
    if (strncmp(sentence, "SIMULATION", 10) != 0) fprintf(stderr, "warning: %s GB: %s\n", trial->size, sentence);
}

static void silence(void *user, const char *sentence)
{
    (void)user, (void)sentence;
}

/* Which tier it is and which language model it has. */
static bool look_up_tier(const tier_test *test, tier_trial *trial, ace_error *error)
{
    ace_tier tier;
    ace_machine_options options = {.profile = test->engine.tier_profile, .warning = silence};
    ace_machine *machine = ace_machine_open(&options, error);
    bool ok = machine && ace_machine_tier_of(machine, trial->gib, &tier, error);
    if (ok) {
        const char *lm = test->engine.lm && test->synthetic ? test->engine.lm : tier.lm_model;
        snprintf(trial->tier, sizeof trial->tier, "%s", tier.id);
        trial->limit_batch = tier.max_batch[trial->with_lm];
        if (trial->with_lm && !lm) {
            ok = trial->variant != TIER_BATCH; /* which is about the language model */
            if (!ok) trial->outcome = TIER_UNTRIED;
            snprintf(ok ? trial->note : trial->error, ok ? sizeof trial->note : sizeof trial->error,
                     "the tier offers no language model%s", ok ? ", so it is tried without" : "");
            trial->with_lm = false;
        }
        if (ok && trial->with_lm) snprintf(trial->lm, sizeof trial->lm, "%s", lm);
    }
    ace_machine_close(machine);
    return ok;
}

/* With the limits of the tier, or within its memory alone; `loud`: what the engine warns of is told. */
static ace_engine *open_engine(const tier_test *test, tier_trial *trial, bool loud, ace_error *error)
{
    char variant[96];
    ace_engine_options options = test->engine;
    if (test->synthetic) {
        snprintf(variant, sizeof variant, "%s%s%s", test->synthetic, trial->with_lm ? "+" : "", trial->lm);
        options.synthetic = variant;
        options.lm = NULL;
    }
    if (!trial->with_lm) options.lm = "none";
    if (trial->variant == TIER_NO_QUANT) options.quantization = options.lm_quantization = NULL;
    options.warning = loud ? warning : silence;
    options.user = trial;
    if (trial->variant == TIER_BATCH)
        options.memory_limit = (size_t)(trial->gib * GIB);
    else
        setenv("MAX_CUDA_VRAM", trial->size, 1);
    ace_engine *engine = ace_engine_open(&options, error);
    unsetenv("MAX_CUDA_VRAM");
    if (!engine) return NULL;
    ace_engine_info info = ace_engine_get_info(engine);
    trial->opened = true;
    snprintf(trial->checkpoint, sizeof trial->checkpoint, "%s", info.checkpoint);
    snprintf(trial->device, sizeof trial->device, "%s", info.device);
    snprintf(trial->precision, sizeof trial->precision, "%s", info.precision);
    snprintf(trial->quantization, sizeof trial->quantization, "%s", info.quantization);
    if (trial->with_lm && info.lm) snprintf(trial->lm, sizeof trial->lm, "%s", info.lm);
    return engine;
}

/* The same song at every size. Random weights plan no words, so the metadata are given. */
static ace_request *make_request(const tier_test *test, const tier_trial *trial, ace_error *error)
{
    static const char lyrics[] =
        "[Verse]\nA line to sing that is as long as lines of songs are\nAnd one more line to follow it\n"
        "[Chorus]\nThis is the part that everybody knows\nThis is the part that everybody knows\n";
    char batch[16];
    const char *fields[][2] = {{"caption", "upbeat city pop, female vocal, bright synths, funky bass"},
                               {"lyrics", lyrics},
                               {"seed", "1"},
                               {"duration", test->duration},
                               {"batch_size", batch},
                               {"thinking", trial->with_lm ? "true" : "false"},
                               {"inference_steps", test->steps},
                               {"bpm", test->synthetic ? "112" : NULL},
                               {"keyscale", test->synthetic ? "C major" : NULL},
                               {"timesignature", test->synthetic ? "4" : NULL}};
    snprintf(batch, sizeof batch, "%d", trial->batch);
    ace_request *request = ace_request_new(error);
    for (size_t i = 0; request && i < sizeof fields / sizeof *fields; i++) {
        if (!fields[i][1] || ace_request_set(request, fields[i][0], fields[i][1], error)) continue;
        ace_request_free(request);
        return NULL;
    }
    return request;
}

static void end_badly(tier_trial *trial, tier_outcome outcome, const ace_error *error)
{
    trial->outcome = outcome;
    trial->status = error->status;
    snprintf(trial->error, sizeof trial->error, "%s", error->message);
}

/* ---- planning -------------------------------------------------------------------------------------------------- */

static double estimate(const ace_memory_plan *plan, const ace_speed *speed)
{
    double total = 0;
    for (int i = 0; i < ACE_STAGE_COUNT; i++) {
        double seconds = ace_estimate(&plan->stages[i], (ace_stage)i, speed);
        if (seconds > 0) total += seconds;
    }
    return total;
}

/* Everything stays loaded where the plan unloads nothing: by itself it unloads only what does not fit. */
static void judge_no_offload(tier_trial *trial)
{
    const ace_memory_plan *p = &trial->plan;
    if (p->fastest <= p->limit) {
        snprintf(trial->note, sizeof trial->note, "the same run as default, which unloads nothing here");
        return;
    }
    trial->outcome = TIER_REFUSED;
    trial->status = ACE_ERROR_MEMORY;
    snprintf(trial->error, sizeof trial->error, "%.2f GiB would keep everything loaded, %.2f GiB are allowed",
             (double)p->fastest / GIB, (double)p->limit / GIB);
}

void tier_plan_trial(const tier_test *test, tier_trial *trial, ace_speed *speed)
{
    ace_error error = {0};
    if (trial->outcome == TIER_UNTRIED && trial->error[0]) return;
    trial->outcome = TIER_REFUSED;
    if (!look_up_tier(test, trial, &error)) {
        if (error.status != ACE_OK) end_badly(trial, TIER_FAILED, &error);
        return;
    }
    ace_engine *engine = open_engine(test, trial, !tier_is_default_run(test, trial), &error);
    ace_request *request = engine ? make_request(test, trial, &error) : NULL;
    if (request && ace_plan_memory(engine, request, &trial->plan, &error)) {
        ace_error unmeasured = {0}; /* then there are no estimates */
        trial->outcome = TIER_PLANNED;
        if (speed->flops <= 0) ace_measure_speed(engine, trial->plan.duration, speed, &unmeasured);
        trial->estimate = estimate(&trial->plan, speed);
        if (trial->variant == TIER_NO_OFFLOAD) judge_no_offload(trial);
        if (trial->variant == TIER_NO_QUANT && !quantizes(test))
            snprintf(trial->note, sizeof trial->note, "the same run as default, which quantizes nothing by itself");
    } else {
        end_badly(trial, error.status == ACE_ERROR_MEMORY ? TIER_REFUSED : TIER_FAILED, &error);
    }
    ace_request_free(request);
    ace_engine_close(engine);
}

/* ---- running --------------------------------------------------------------------------------------------------- */

/* Larger cards than the machine has memory are planned only. */
static bool has_memory_for(tier_trial *trial)
{
    size_t total = 0, available = 0;
    ace_error error = {0};
    ace_machine_options options = {.warning = silence};
    ace_machine *machine = ace_machine_open(&options, &error);
    bool known = machine && ace_machine_memory(machine, &total, &available);
    ace_machine_close(machine);
    if (known && trial->gib * GIB > (double)total)
        snprintf(trial->note, sizeof trial->note, "planned, not run: this machine has %.1f GiB", (double)total / GIB);
    else if (known && trial->plan.peak > available)
        snprintf(trial->note, sizeof trial->note, "planned, not run: %.1f GiB are needed and %.1f GiB are free now",
                 (double)trial->plan.peak / GIB, (double)available / GIB);
    else
        return true;
    return false;
}

static void keep_result(tier_trial *trial, const ace_result *result)
{
    const ace_stage_cost *s = result->stages;
    trial->seconds = result->seconds;
    trial->measured = result->measured_peak;
    trial->load = s[ACE_STAGE_LOAD].seconds;
    trial->lm_seconds = s[ACE_STAGE_PLAN].seconds;
    trial->condition = s[ACE_STAGE_CONDITION].seconds;
    trial->dit = s[ACE_STAGE_DIFFUSION].seconds;
    trial->vae = s[ACE_STAGE_DECODE].seconds;
}

bool tier_run_trial(const tier_test *test, tier_trial *trial)
{
    ace_error error = {0};
    ace_result result = {0};
    cli_progress progress;
    if (!has_memory_for(trial)) return true;
    cli_progress_begin(&progress, false, test->quiet);
    ace_engine *engine = open_engine(test, trial, false, &error);
    ace_request *request = engine ? make_request(test, trial, &error) : NULL;
    bool ok = false;
    if (request) {
        ace_callbacks callbacks = cli_progress_callbacks(&progress);
        callbacks.warning = silence; /* told when it was planned */
        cli_interrupt_stops(engine);
        ok = ace_generate(engine, request, &callbacks, &result, &error);
        cli_interrupt_stops(NULL);
        cli_progress_end(&progress);
    }
    keep_result(trial, &result);
    trial->outcome = TIER_DONE;
    if (!ok) end_badly(trial, TIER_FAILED, &error);
    if (ok && result.measured_peak != trial->plan.peak)
        snprintf(trial->note, sizeof trial->note, "the measured peak is not the planned one");
    ace_result_free(&result);
    ace_request_free(request);
    ace_engine_close(engine);
    return error.status != ACE_CANCELLED;
}
