/* sampler_options.c - the presets, and what a request may ask of a checkpoint. */
#include "diffusion/sampler.h"

#include "base/error.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

enum {
    TURBO_STEPS = 8,
    BASE_STEPS = 50,
};
static const double TURBO_SHIFT = 3, BASE_SHIFT = 1, BASE_GUIDANCE = 7;

sampler_options sampler_defaults(bool is_turbo)
{
    return (sampler_options){
        .is_turbo = is_turbo,
        .steps = is_turbo ? TURBO_STEPS : BASE_STEPS,
        .shift = is_turbo ? TURBO_SHIFT : BASE_SHIFT,
        .turbo_step_limit = SCHEDULE_TURBO_STEPS,
        .guidance = GUIDANCE_APG,
        .guidance_scale = is_turbo ? 1 : BASE_GUIDANCE,
        .cfg_interval_end = 1,
        .solver = SOLVER_EULER,
        .stork_substeps = 10,
        .dcw = {.enabled = true, .mode = DCW_DOUBLE, .wavelet = DCW_HAAR, .scaler = 0.05, .high_scaler = 0.02},
        .noise = NOISE_TORCH_CUDA,
        .sde_noise = NOISE_ACE,
        .cover_strength = 1,
        .repaint_mode = REPAINT_BALANCED,
        .repaint_strength = 0.5,
        .latent_rescale = 1,
    };
}

bool sampler_schedule(const sampler_options *options, flow_schedule *schedule, ace_error *error)
{
    const sampler_options *o = options;
    bool ok;
    if (o->timesteps && o->is_turbo)
        ok = schedule_turbo_custom(o->timesteps, o->timestep_count, schedule, error);
    else if (o->timesteps)
        ok = schedule_base_custom(o->timesteps, o->timestep_count, schedule, error);
    else if (o->is_turbo)
        ok = schedule_turbo(o->steps, o->shift, schedule, error);
    else
        ok = schedule_base(o->steps, o->shift, schedule, error);
    if (ok && o->cover_noise_strength > 0) schedule_start_at(schedule, o->cover_noise_strength);
    return ok;
}

typedef struct warn_target {
    sampler_warn *warn;
    void *context;
} warn_target;

static void say(const warn_target *to, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(const warn_target *to, const char *format, ...)
{
    if (!to->warn) return;
    char sentence[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    to->warn(to->context, sentence);
}

/* NaN fails every comparison, so it is out of every range. */
static bool check_range(const char *name, double value, double low, double high, ace_error *error)
{
    if (value >= low && value <= high) return true;
    return ace_fail(error, ACE_ERROR_USAGE, "%s is %g: it must lie between %g and %g", name, value, low, high);
}

static bool check_ranges(const sampler_options *o, ace_error *error)
{
    if (!check_range("shift", o->shift, 1e-3, 1e3, error) ||
        !check_range("guidance_scale", o->guidance_scale, 0, 100, error) ||
        !check_range("cfg_interval_start", o->cfg_interval_start, 0, 1, error) ||
        !check_range("cfg_interval_end", o->cfg_interval_end, 0, 1, error) ||
        !check_range("velocity_norm_threshold", o->velocity_norm_threshold, 0, 1e6, error) ||
        !check_range("velocity_ema_factor", o->velocity_ema_factor, 0, 0.99, error) ||
        !check_range("dcw_scaler", o->dcw.scaler, -10, 10, error) ||
        !check_range("dcw_high_scaler", o->dcw.high_scaler, -10, 10, error) ||
        !check_range("audio_cover_strength", o->cover_strength, 0, 1, error) ||
        !check_range("cover_noise_strength", o->cover_noise_strength, 0, 1, error) ||
        !check_range("repaint_strength", o->repaint_strength, 0, 1, error) ||
        !check_range("latent_shift", o->latent_shift, -100, 100, error) ||
        !check_range("latent_rescale", o->latent_rescale, 1e-3, 100, error))
        return false;
    if (o->cfg_interval_start > o->cfg_interval_end)
        return ace_fail(error, ACE_ERROR_USAGE, "cfg_interval_start (%g) lies above cfg_interval_end (%g)",
                        o->cfg_interval_start, o->cfg_interval_end);
    if (o->stork_substeps != 10 && o->stork_substeps != 5 && o->stork_substeps != 2)
        return ace_fail(error, ACE_ERROR_USAGE, "stork_substeps is %d: it must be 10, 5 or 2", o->stork_substeps);
    if (o->turbo_step_limit < 1 || o->turbo_step_limit > SCHEDULE_TURBO_MAX_STEPS)
        return ace_fail(error, ACE_ERROR_USAGE, "the limit of turbo steps is %d: it must lie between 1 and %d",
                        o->turbo_step_limit, SCHEDULE_TURBO_MAX_STEPS);
    return true;
}

static bool check_kinds(const sampler_options *o, ace_error *error)
{
    const char *unknown = NULL;
    if (!solver_name(o->solver)) unknown = "solver";
    if (!guidance_name(o->guidance)) unknown = "kind of guidance";
    if (!dcw_mode_name(o->dcw.mode)) unknown = "DCW mode";
    if (!dcw_wavelet_name(o->dcw.wavelet)) unknown = "wavelet";
    if (!noise_kind_name(o->noise)) unknown = "kind of noise";
    if (!repaint_mode_name(o->repaint_mode)) unknown = "repaint mode";
    if (unknown) return ace_fail(error, ACE_ERROR_USAGE, "the %s is not one this program knows", unknown);
    if (o->sde_noise != NOISE_ACE && o->sde_noise != NOISE_TORCH_CUDA)
        return ace_fail(error, ACE_ERROR_USAGE, "the noise of the SDE solver must be \"ace\" or \"torch-cuda\"");
    return true;
}

static void adapt_turbo(sampler_options *o, const warn_target *to)
{
    if (o->guidance_scale > 1) {
        say(to, "guidance %g is ignored: a turbo checkpoint has guidance distilled into its weights",
            o->guidance_scale);
        o->guidance_scale = 1;
    }
    if (!o->timesteps && o->steps > o->turbo_step_limit) {
        say(to, "%d steps become %d: a turbo checkpoint takes no more", o->steps, o->turbo_step_limit);
        o->steps = o->turbo_step_limit;
    }
}

static void warn_timesteps(const sampler_options *o, const flow_schedule *schedule, const warn_target *to)
{
    for (int i = 0; o->is_turbo && i < schedule->steps; i++)
        if ((float)o->timesteps[i] != schedule->t[i])
            say(to, "timestep %g becomes %g, the nearest one this turbo checkpoint was distilled on", o->timesteps[i],
                schedule->t[i]);
    if (schedule->t[0] != 1)
        say(to, "the timesteps start at %g, but the first latent is pure noise (1)", schedule->t[0]);
    if (schedule->t[schedule->steps] != 0)
        say(to, "the timesteps end at %g, not at 0: noise remains in the song", schedule->t[schedule->steps]);
}

static void warn_preset(const sampler_options *o, const warn_target *to)
{
    const sampler_options preset = sampler_defaults(o->is_turbo);
    const char *kind = o->is_turbo ? "turbo" : "base and sft";
    if (!o->timesteps && o->steps != preset.steps)
        say(to, "%d steps: %s checkpoints are made for %d", o->steps, kind, preset.steps);
    if (!o->timesteps && o->shift != preset.shift)
        say(to, "shift %g: most %s checkpoints are made for %g", o->shift, kind, preset.shift);
    if (o->guidance_scale != preset.guidance_scale)
        say(to, "guidance %g: %s checkpoints are made for %g", o->guidance_scale, kind, preset.guidance_scale);
}

bool sampler_validate(sampler_options *options, sampler_warn *warn, void *context, ace_error *error)
{
    const warn_target to = {warn, context};
    if (!check_kinds(options, error) || !check_ranges(options, error)) return false;
    if (options->is_turbo) adapt_turbo(options, &to);

    sampler_options whole = *options;
    whole.cover_noise_strength = 0;
    flow_schedule schedule;
    if (!sampler_schedule(&whole, &schedule, error)) return false;
    if (options->timesteps) warn_timesteps(options, &schedule, &to);
    warn_preset(options, &to);
    return true;
}
