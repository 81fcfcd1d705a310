#include "song/engine.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

const char *ace_version(void)
{
    return ACE_VERSION;
}

const char *ace_stage_name(ace_stage stage)
{
    static const char *const names[ACE_STAGE_COUNT] = {"load", "condition", "diffusion", "decode", "write"};
    return (unsigned)stage < ACE_STAGE_COUNT ? names[stage] : "unknown";
}

/* ---- opening ------------------------------------------------------------------------------------------------- */

static bool open_device(ace_engine *engine, const ace_engine_options *o, ace_error *error)
{
    ace_cpu_options cpu = {.precision = ACE_BF16, .threads = o->threads, .stop = &engine->stop};
    if (o->device && strcmp(o->device, "cpu") != 0)
        return ace_fail(error, ACE_ERROR_DEVICE, "there is no device '%.32s' in this build: use cpu", o->device);
    if (o->precision && strcmp(o->precision, "f32") == 0)
        cpu.precision = ACE_F32;
    else if (o->precision && strcmp(o->precision, "bf16") != 0)
        return ace_fail(error, ACE_ERROR_USAGE, "precision cannot be '%.32s': give bf16 or f32", o->precision);
    if (o->threads < 0 || o->threads > 1024)
        return ace_fail(error, ACE_ERROR_USAGE, "threads cannot be %d: give 1 to 1024, or 0 for all", o->threads);
    engine->dev = ace_cpu_open(&cpu, error);
    return engine->dev != NULL;
}

static bool open_checkpoint(ace_engine *engine, const ace_engine_options *o, ace_error *error)
{
    if (o->synthetic) {
        engine->checkpoint = checkpoint_open_synthetic(o->synthetic, error);
        return engine->checkpoint != NULL;
    }
    if (!o->model && !(o->dit && o->text_encoder && o->vae))
        return ace_fail(error, ACE_ERROR_USAGE, "no checkpoint was named: pass --model DIRECTORY");
    ace_checkpoint_paths paths = {.model = o->model, .dit = o->dit, .text_encoder = o->text_encoder, .vae = o->vae};
    engine->checkpoint = checkpoint_open(&paths, error);
    if (!engine->checkpoint) return false;
    engine->tokenizer = checkpoint_tokenizer(engine->checkpoint, error);
    return engine->tokenizer != NULL;
}

/* A wrong recipe gives noise that passes for music, so it is never guessed. */
static bool settle_recipe(ace_engine *engine, const char *recipe, ace_error *error)
{
    dit_config *config = &engine->checkpoint->dit;
    const char *path = part_path(engine->checkpoint->parts[ACE_PART_DIT]);
    if (!recipe)
        return config->turbo_known ||
               ace_fail(error, ACE_ERROR_MODEL,
                        "'%s' does not say which recipe it was trained for: pass --recipe turbo, or --recipe base for "
                        "base and sft models",
                        path);
    bool turbo = strcmp(recipe, "turbo") == 0;
    if (!turbo && strcmp(recipe, "base") != 0)
        return ace_fail(error, ACE_ERROR_USAGE, "recipe cannot be '%.32s': give turbo or base", recipe);
    if (config->turbo_known && config->is_turbo != turbo)
        return ace_fail(error, ACE_ERROR_USAGE, "'%s' says that it is a %s model: leave --recipe away", path,
                        config->is_turbo ? "turbo" : "base or sft");
    config->is_turbo = turbo;
    return true;
}

ace_engine *ace_engine_open(const ace_engine_options *options, ace_error *error)
{
    ace_engine *engine = ace_calloc(1, sizeof *engine, "the engine", error);
    if (!engine) return NULL;
    engine->warning = options->warning;
    engine->user = options->user;
    bool ok = (options->vae_window >= 0 && options->vae_window <= 15000) ||
              ace_fail(error, ACE_ERROR_USAGE, "the VAE window cannot be %d frames: give 1 to 15000, or 0",
                       options->vae_window);
    if (!ok || !open_checkpoint(engine, options, error) || !settle_recipe(engine, options->recipe, error) ||
        !open_device(engine, options, error)) {
        ace_engine_close(engine);
        return NULL;
    }
    pipeline_init(&engine->pipeline, engine->dev, engine->checkpoint, options->vae_window);
    return engine;
}

void ace_engine_close(ace_engine *engine)
{
    if (!engine) return;
    if (engine->dev) pipeline_unload(&engine->pipeline);
    ace_device_close(engine->dev);
    tokenizer_close(engine->tokenizer);
    checkpoint_close(engine->checkpoint);
    free(engine);
}

void ace_engine_stop(ace_engine *engine)
{
    atomic_store(&engine->stop, true);
}

bool engine_hash(ace_engine *engine, ace_error *error)
{
    if (engine->hash[0] || checkpoint_hash(engine->checkpoint, engine->hash, &engine->stop)) return true;
    atomic_store(&engine->stop, false);
    return ace_fail(error, ACE_CANCELLED, "stopped");
}

ace_engine_info ace_engine_get_info(const ace_engine *engine)
{
    const ace_checkpoint *c = engine->checkpoint;
    return (ace_engine_info){.checkpoint = c->dit_name,
                             .dit_path = part_path(c->parts[ACE_PART_DIT]),
                             .text_encoder_path = part_path(c->parts[ACE_PART_TEXT_ENCODER]),
                             .vae_path = part_path(c->parts[ACE_PART_VAE]),
                             .device = ace_device_name(engine->dev),
                             .precision = ace_device_act(engine->dev) == ACE_F32 ? "f32" : "bf16",
                             .turbo = c->dit.is_turbo,
                             .random_weights = c->synthetic,
                             .dit_layers = c->dit.dit.layers,
                             .dit_width = c->dit.dit.hidden,
                             .sample_rate = c->vae.sample_rate};
}

/* ---- generating ---------------------------------------------------------------------------------------------- */

/* What is going on, for progress and to pass audio on. */
typedef struct call {
    const ace_callbacks *callbacks;
    ace_result *result;
    int64_t total_audio_frames;
    double started, computing_since, audio_seconds;
    pipeline_needs needs;
    ace_stage stage;
    void (*latents)(void *user, const float *latents);
} call;

/* Seconds still to come: the work left, at the speed of the work done. The stages' FLOPs are known from the plan. */
static double remaining(const call *c, int64_t done, int64_t total, double now)
{
    if (c->stage == ACE_STAGE_LOAD) return -1;
    double before = 0, here = total > 0 ? (double)done / (double)total : 1;
    for (int i = 0; i < (int)c->stage; i++) before += c->needs.flops[i];
    double worked = before + here * c->needs.flops[c->stage], spent = now - c->computing_since;
    return worked > 0.005 * c->needs.total_flops ? spent * (c->needs.total_flops - worked) / worked : -1;
}

static void on_progress(void *user, ace_stage stage, int64_t done, int64_t total)
{
    call *c = user;
    double now = ace_clock();
    c->stage = stage;
    if (stage == ACE_STAGE_LOAD) c->computing_since = now;
    if (!c->callbacks->progress) return;
    ace_progress progress = {.stage = stage,
                             .done = done,
                             .total = total,
                             .elapsed = now - c->started,
                             .remaining = remaining(c, done, total, now),
                             .audio_seconds = c->audio_seconds};
    c->callbacks->progress(c->callbacks->user, &progress);
}

static bool on_audio(void *user, int item, int64_t first, int64_t count, const float *samples, ace_error *error)
{
    call *c = user;
    ace_song *song = &c->result->songs[item];
    song->frames = first + count;
    for (int64_t i = 0; i < 2 * count; i++) {
        float magnitude = samples[i] < 0 ? -samples[i] : samples[i];
        if (magnitude > song->peak) song->peak = magnitude;
    }
    ace_audio audio = {
        .item = item, .first = first, .count = count, .total = c->total_audio_frames, .samples = samples};
    return !c->callbacks->audio || c->callbacks->audio(c->callbacks->user, &audio, error);
}

static void on_latents(void *user, const float *latents)
{
    const call *c = user;
    c->latents(c->callbacks->user, latents);
}

static bool run_job(ace_engine *engine, const song_job *job, call *c, ace_error *error)
{
    pipeline *p = &engine->pipeline;
    ace_result *result = c->result;
    if (!pipeline_plan(p, job, &c->needs, error) || !ace_scratch_reserve(engine->dev, c->needs.scratch, error))
        return false;
    result->planned_peak = c->needs.total_peak;
    pipeline_watch watch = {
        .user = c, .progress = on_progress, .audio = on_audio, .latents = c->latents ? on_latents : NULL};
    bool ok = pipeline_run(p, job, &watch, result->stages, error);
    size_t workspace = ace_device_get_stats(engine->dev).workspace;
    for (int i = 0; i < ACE_STAGE_COUNT; i++) {
        size_t peak = workspace + result->stages[i].weight_bytes + result->stages[i].scratch_bytes;
        if (peak > result->measured_peak) result->measured_peak = peak;
    }
    ace_scratch_reserve(engine->dev, 0, NULL);
    return ok;
}

bool engine_generate(ace_engine *engine, const ace_request *request, const ace_callbacks *callbacks,
                     void (*latents)(void *user, const float *latents), ace_result *result, ace_error *error)
{
    static const ace_callbacks nobody;
    if (!callbacks) callbacks = &nobody;
    *result = (ace_result){0};
    call c = {.callbacks = callbacks, .result = result, .started = ace_clock(), .latents = latents};
    job_warnings warnings = {callbacks->warning ? callbacks->warning : engine->warning,
                             callbacks->warning ? callbacks->user : engine->user};
    song_job job;
    if (!song_job_prepare(&job, request, engine->checkpoint, engine->tokenizer, &warnings, error)) return false;
    c.total_audio_frames = job.frames * vae_hop(&engine->checkpoint->vae);
    c.audio_seconds = (double)(job.batch * c.total_audio_frames) / engine->checkpoint->vae.sample_rate;
    result->count = job.batch;
    for (int i = 0; i < job.batch; i++) result->songs[i].seed = job.seeds[i];
    result->request = job.request;
    job.request = NULL;
    bool ok = run_job(engine, &job, &c, error);
    /* a stop asks for one call to end; the next call is a new wish */
    atomic_store(&engine->stop, false);
    result->seconds = ace_clock() - c.started;
    song_job_free(&job);
    return ok;
}

bool ace_generate(ace_engine *engine, const ace_request *request, const ace_callbacks *callbacks, ace_result *result,
                  ace_error *error)
{
    return engine_generate(engine, request, callbacks, NULL, result, error);
}

void ace_result_free(ace_result *result)
{
    ace_request_free(result->request);
    result->request = NULL;
}

bool ace_plan_peak(ace_engine *engine, const ace_request *request, size_t *bytes, ace_error *error)
{
    song_job job;
    pipeline_needs needs;
    if (!song_job_prepare(&job, request, engine->checkpoint, engine->tokenizer, &(job_warnings){0}, error))
        return false;
    bool ok = pipeline_plan(&engine->pipeline, &job, &needs, error);
    *bytes = needs.total_peak;
    song_job_free(&job);
    return ok;
}
