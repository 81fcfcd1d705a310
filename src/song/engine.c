#include "song/engine.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"
#include "song/compute.h"
#include "song/self_test.h"
#include "vram/machine.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *ace_version(void)
{
    return ACE_VERSION;
}

const char *ace_stage_name(ace_stage stage)
{
    static const char *const names[ACE_STAGE_COUNT] = {"load",      "listen", "plan", "condition",
                                                       "diffusion", "decode", "write"};
    return (unsigned)stage < ACE_STAGE_COUNT ? names[stage] : "unknown";
}

/* ---- opening ------------------------------------------------------------------------------------------------- */

static void warn(const ace_engine *engine, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void warn(const ace_engine *engine, const char *format, ...)
{
    char sentence[1400];
    va_list values;
    va_start(values, format);
    vsnprintf(sentence, sizeof sentence, format, values);
    va_end(values);
    if (engine->warning) engine->warning(engine->user, sentence);
}

/* The card, where the machine says that it computes. What was asked for by name must be had; else the CPU steps in, and
 * it is told why. */
static bool open_card(ace_engine *engine, const ace_engine_options *o, const compute_options *compute, ace_error *error)
{
    allowance *a = &engine->allowance;
    bool asked = a->machine->wish == DEVICE_CUDA;
    ace_error problem = {0};
    if (!a->machine->computes && asked) return ace_fail(error, ACE_ERROR_DEVICE, "%s", a->machine->unused);
    if (!a->machine->computes) {
        if (a->machine->unused[0]) warn(engine, "%s; songs are computed on the CPU", a->machine->unused);
        return true;
    }
    engine->dev = compute_open(a->machine, compute, &problem);
    if (engine->dev && !self_test_device(engine->dev, &problem)) { /* noise must not pass for music */
        ace_device_close(engine->dev);
        engine->dev = NULL;
    }
    if (engine->dev) {
        size_t taken = ace_device_get_stats(engine->dev).workspace;
        return allowance_limit_to_card(a, compute_free_bytes(a->machine), taken, error);
    }
    if (asked || problem.status != ACE_ERROR_DEVICE) return ace_fail(error, problem.status, "%s", problem.message);
    warn(engine, "%s; songs are computed on the CPU", problem.message);
    allowance_close(a);
    return allowance_open(a, o, "cpu", error);
}

static bool open_device(ace_engine *engine, const ace_engine_options *o, ace_error *error)
{
    compute_options compute = {.precision = ACE_BF16, .threads = o->threads, .stop = &engine->stop};
    if (o->precision && strcmp(o->precision, "f32") == 0)
        compute.precision = ACE_F32;
    else if (o->precision && strcmp(o->precision, "bf16") != 0)
        return ace_fail(error, ACE_ERROR_USAGE, "precision cannot be '%.32s': give bf16 or f32", o->precision);
    if (o->threads < 0 || o->threads > 1024)
        return ace_fail(error, ACE_ERROR_USAGE, "threads cannot be %d: give 1 to 1024, or 0 for all", o->threads);
    if (!open_card(engine, o, &compute, error)) return false;
    if (!engine->dev) engine->dev = compute_open(engine->allowance.machine, &compute, error);
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
    ace_checkpoint_paths paths = {.model = o->model,
                                  .dit = o->dit,
                                  .text_encoder = o->text_encoder,
                                  .vae = o->vae,
                                  .lm = engine->planner_wanted ? o->lm : NULL};
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

/* "keep" has nothing to keep where the file holds no blocks. */
static bool settle_form(const ace_engine *engine, ace_part_kind kind, const char *prefix, const char *option,
                        const char *name, ace_weight_form *form, ace_error *error)
{
    if (!quantization_parse(name, option, form, error)) return false;
    const ace_part *part = engine->checkpoint->parts[kind];
    if (*form != ACE_FORM_BLOCKS || !part || part_has_blocks(part, prefix)) return true;
    *form = ACE_FORM_PLAIN;
    warn(engine,
         "%s keep keeps nothing: '%.600s' is not a quantised GGUF file, so its weights are loaded as without it",
         option, part_path(part));
    return true;
}

/* What of the options shows in the result besides the precision. */
static bool settle_forms(ace_engine *engine, const ace_engine_options *o, ace_error *error)
{
    return settle_form(engine, ACE_PART_DIT, "decoder.layers.", "--quantization", o->quantization, &engine->form,
                       error) &&
           settle_form(engine, ACE_PART_LM, "layers.", "--lm-quantization", o->lm_quantization,
                       &engine->planner_options.form, error);
}

/* Quality is never traded unasked, but that there is something to be had is told. */
static void advise_form(const ace_engine *engine, const ace_engine_options *o)
{
    if (o->quantization || o->precision || !ace_device_prefers_int8(engine->dev)) return;
    warn(engine, "on this CPU --quantization int8 makes the diffusion about three times as fast and changes the song a "
                 "little; --quantization none keeps it as it is, without this line");
}

ace_engine *ace_engine_open(const ace_engine_options *options, ace_error *error)
{
    ace_engine *engine = ace_calloc(1, sizeof *engine, "the engine", error);
    if (!engine) return NULL;
    engine->warning = options->warning;
    engine->user = options->user;
    engine->threads = options->threads;
    engine->planner_wanted = !options->lm || strcmp(options->lm, "none") != 0;
    if (options->genres && !(engine->genres = ace_strdup(options->genres, error))) {
        ace_engine_close(engine);
        return NULL;
    }
    engine->planner_options.genres_path = engine->genres;
    bool ok = (options->vae_window >= 0 && options->vae_window <= 15000) ||
              ace_fail(error, ACE_ERROR_USAGE, "the VAE window cannot be %d frames: give 1 to 15000, or 0",
                       options->vae_window);
    ok = ok && allowance_open(&engine->allowance, options, options->device, error);
    if (!ok || !open_checkpoint(engine, options, error) || !settle_recipe(engine, options->recipe, error) ||
        !settle_forms(engine, options, error) || !open_device(engine, options, error)) {
        ace_engine_close(engine);
        return NULL;
    }
    advise_form(engine, options);
    engine->planner_options.max_duration = engine->allowance.max_duration;
    allowance_set_planner(&engine->allowance, engine->checkpoint->lm_name);
    engine->fit.vae_window = options->vae_window;
    engine->limit = engine->allowance.memory;
    ace_device_set_limit(engine->dev, engine->limit);
    pipeline_init(&engine->pipeline, engine->dev, engine->checkpoint, engine->form, &engine->fit);
    return engine;
}

void ace_engine_close(ace_engine *engine)
{
    if (!engine) return;
    planner_close(engine->planner);
    if (engine->dev) pipeline_unload(&engine->pipeline);
    ace_device_close(engine->dev);
    tokenizer_close(engine->tokenizer);
    checkpoint_close(engine->checkpoint);
    allowance_close(&engine->allowance);
    free(engine->genres);
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

static bool may_use_planner(const ace_engine *engine, ace_error *problem)
{
    if (!engine->planner_wanted)
        return ace_fail(problem, ACE_ERROR_MODEL, "the planner was refused: leave --lm none away");
    return checkpoint_need_lm(engine->checkpoint, problem);
}

bool engine_has_planner(const ace_engine *engine, bool planned_for, ace_error *problem)
{
    ace_error unread;
    if (!problem) problem = &unread;
    return may_use_planner(engine, problem) &&
           (planned_for || !engine->checkpoint->synthetic ||
            ace_fail(problem, ACE_ERROR_MODEL, "a planner of random weights has no tokenizer, so it writes no words"));
}

planner *engine_planner(ace_engine *engine, ace_error *error)
{
    if (!engine->planner && may_use_planner(engine, error))
        engine->planner = planner_open(engine->checkpoint, engine->dev, &engine->planner_options, error);
    return engine->planner;
}

ace_engine_info ace_engine_get_info(const ace_engine *engine)
{
    const ace_checkpoint *c = engine->checkpoint;
    bool lm = engine_has_planner(engine, false, NULL);
    return (ace_engine_info){.checkpoint = c->dit_name,
                             .dit_path = part_path(c->parts[ACE_PART_DIT]),
                             .text_encoder_path = part_path(c->parts[ACE_PART_TEXT_ENCODER]),
                             .vae_path = part_path(c->parts[ACE_PART_VAE]),
                             .lm = lm ? c->lm_name : NULL,
                             .lm_path = lm ? part_path(c->parts[ACE_PART_LM]) : NULL,
                             .lm_problem = lm                       ? NULL
                                           : engine->planner_wanted ? c->lm_problem.message
                                                                    : "refused",
                             .device = ace_device_name(engine->dev),
                             .precision = ace_device_act(engine->dev) == ACE_F32 ? "f32" : "bf16",
                             .quantization = quantization_name(engine->form),
                             .lm_quantization = quantization_name(engine->planner_options.form),
                             .turbo = c->dit.is_turbo,
                             .random_weights = c->synthetic,
                             .dit_layers = c->dit.dit.layers,
                             .dit_width = c->dit.dit.hidden,
                             .sample_rate = c->vae.sample_rate};
}
