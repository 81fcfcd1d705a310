/* sampler.c - the sampling loop (dit.md 11): see sampler.h. */
#include "diffusion/sampler.h"

#include "base/dtype.h"
#include "base/error.h"
#include "diffusion/velocity.h"

#include <math.h>
#include <string.h>

static bool guidance_on(const sampler_options *o)
{
    return !o->is_turbo && o->guidance_scale > 1;
}

static bool guided_at(const sampler_options *o, float t)
{
    return guidance_on(o) && t >= (float)o->cfg_interval_start && t <= (float)o->cfg_interval_end;
}

/* Whether step has Heun's second evaluation: turbo's last step, straight to the clean latent, has none. */
static bool has_corrector(const sampler_options *o, const flow_schedule *s, int step)
{
    return o->solver == SOLVER_HEUN && !(o->is_turbo && step == s->steps - 1);
}

/* ---- work memory --------------------------------------------------------------------------------------------- */

/* Where each buffer lies in the work memory, in floats; those that the options do not need have no length. */
typedef struct layout {
    size_t v;              /* [batch] items: velocity, conditional at first */
    size_t uncond;         /* [batch] */
    size_t momentum;       /* [batch] APG */
    size_t past[2];        /* [batch] final velocities of the steps before */
    size_t ahead, v_ahead; /* [batch] Heun's predicted state, and the velocity there */
    size_t clean;          /* one item: x - v*t of this step, for DCW */
    size_t spare;          /* one item: noise drawn anew, STORK4's result */
    size_t lines;          /* DCW */
    size_t total;
} layout;

static int past_needed(const sampler_options *o)
{
    int solver = solver_history(o->solver);
    return solver > 0 ? solver : o->velocity_ema_factor > 0;
}

static size_t reserve(size_t *total, bool needed, size_t floats)
{
    size_t at = *total;
    if (needed) *total += floats;
    return at;
}

static layout layout_of(const sampler_options *o, int batch, int64_t frames)
{
    const size_t item = (size_t)frames * LATENT_CHANNELS, all = item * (size_t)batch;
    const bool heun = o->solver == SOLVER_HEUN;
    layout l = {0};
    l.v = reserve(&l.total, true, all);
    l.uncond = reserve(&l.total, guidance_on(o), all);
    l.momentum = reserve(&l.total, guidance_on(o) && o->guidance == GUIDANCE_APG, all);
    for (int i = 0; i < 2; i++) l.past[i] = reserve(&l.total, i < past_needed(o), all);
    l.ahead = reserve(&l.total, heun, all);
    l.v_ahead = reserve(&l.total, heun, all);
    l.clean = reserve(&l.total, dcw_active(&o->dcw), item);
    l.spare = reserve(&l.total, true, item);
    l.lines = reserve(&l.total, true, dcw_floats(&o->dcw, (size_t)frames));
    return l;
}

static bool check_shape(int batch, int64_t frames, ace_error *error)
{
    if (batch < 1 || batch > SAMPLER_MAX_BATCH)
        return ace_fail(error, ACE_ERROR_USAGE, "a batch of %d: it must be 1 to %d", batch, SAMPLER_MAX_BATCH);
    if (frames < 1 || frames > SAMPLER_MAX_FRAMES)
        return ace_fail(error, ACE_ERROR_USAGE, "%lld latent frames: 1 to %d can be sampled", (long long)frames,
                        SAMPLER_MAX_FRAMES);
    return true;
}

bool sampler_floats(const sampler_options *options, int batch, int64_t frames, size_t *floats, ace_error *error)
{
    if (!check_shape(batch, frames, error)) return false;
    *floats = layout_of(options, batch, frames).total;
    return true;
}

/* ---- one run --------------------------------------------------------------------------------------------------- */

typedef struct run {
    const sampler_options *options;
    const sampler_input *input;
    const sampler_model *model;
    flow_schedule schedule;
    int cover_steps;  /* from this step on the second condition is used */
    int inject_steps; /* after each of the first so many steps the kept part of the source is put back */
    size_t item;      /* floats of an item */
    bool dry;
    float *x, *v, *uncond, *momentum, *past[2], *ahead, *v_ahead, *clean, *spare, *lines;
    int past_count;
    float past_dt[2];
} run;

/* The initial noise of an item, drawn into `spare` unless the caller gave it. */
static const float *initial_noise(const run *r, int b)
{
    if (r->input->noise) return r->input->noise + (size_t)b * r->item;
    noise_fill(r->options->noise, r->input->seeds[b], r->options->noise_threads, r->spare, r->item);
    return r->spare;
}

/* Fresh noise for SDE step `step`, into `spare`: our own generator's stream, or acestep.cpp's recipe. */
static const float *sde_noise(const run *r, int b, int step)
{
    uint64_t seed = r->input->seeds[b], stream = (uint64_t)step + 1;
    if (r->options->sde_noise == NOISE_ACE) {
        noise_ace(seed, stream, r->spare, r->item);
    } else {
        noise_torch_cuda(seed + stream, 0, r->spare, r->item);
        for (size_t i = 0; i < r->item; i++) r->spare[i] = ace_bf16_to_f32(ace_f32_to_bf16(r->spare[i]));
    }
    return r->spare;
}

/* True when all items are finite; else the error names the place. */
static bool check_finite(const run *r, const float *values, const char *what, int step, ace_error *error)
{
    for (size_t i = 0; i < r->item * (size_t)r->input->batch; i++) {
        if (isfinite(values[i])) continue;
        size_t frame = i % r->item / LATENT_CHANNELS;
        return ace_fail(error, ACE_ERROR_NUMERIC,
                        "step %d of %d: %s is %s at item %zu, frame %zu, channel %zu; nothing of this song is usable",
                        step + 1, r->schedule.steps, what, isnan(values[i]) ? "not a number" : "infinite", i / r->item,
                        frame, i % LATENT_CHANNELS);
    }
    return true;
}

/* Combines the two velocities of one item at t into v. */
static void guide(const run *r, bool corrector, float t, const float *x, int b, float *v)
{
    const sampler_options *o = r->options;
    const size_t at = (size_t)b * r->item, frames = (size_t)r->input->frames;
    const float scale = (float)o->guidance_scale;
    if (o->guidance == GUIDANCE_APG && !corrector)
        guidance_apg(v, r->uncond + at, r->momentum + at, scale, frames);
    else if (o->guidance == GUIDANCE_ADG && t > 0)
        guidance_adg(v, r->uncond + at, x, t, scale, frames);
    else /* APG's corrector too, so that the momentum moves once per step */
        guidance_cfg(v, r->uncond + at, scale, frames);
}

/* The final velocity v at x: model, guidance, norm clamp, and smoothing with `previous` (NULL: none). */
static bool evaluate(run *r, int step, bool corrector, const float *x, const float *previous, float *v,
                     ace_error *error)
{
    const sampler_options *o = r->options;
    const int t_index = step + (corrector ? 1 : 0);
    const float t = r->schedule.t[t_index];
    const bool guided = guided_at(o, t);
    const sampler_call call = {.step = step,
                               .steps = r->schedule.steps,
                               .corrector = corrector,
                               .t_index = t_index,
                               .t = t,
                               .non_cover = step >= r->cover_steps,
                               .new_condition = !corrector && (step == 0 || step == r->cover_steps),
                               .uncond = guided,
                               .batch = r->input->batch,
                               .frames = r->input->frames,
                               .x = x,
                               .v_cond = v,
                               .v_uncond = guided ? r->uncond : NULL};
    if (!r->model->velocity(r->model->context, &call, error)) return false;
    if (r->dry) return true;
    if (!check_finite(r, v, "the model's velocity", step, error)) return false;
    if (guided && !check_finite(r, r->uncond, "the model's unconditional velocity", step, error)) return false;
    for (int b = 0; b < r->input->batch; b++) {
        const size_t at = (size_t)b * r->item;
        if (guided) guide(r, corrector, t, x + at, b, v + at);
        if (o->velocity_norm_threshold > 0) velocity_clamp(v + at, x + at, (float)o->velocity_norm_threshold, r->item);
        if (o->velocity_ema_factor > 0 && previous)
            velocity_smooth(v + at, previous + at, (float)o->velocity_ema_factor, r->item);
    }
    return true;
}

/* Moves one item from t to t_next by the solver; v becomes the velocity that was used (Heun: the mean). */
static void solve(const run *r, int step, int b, float *x, float *v)
{
    const sampler_options *o = r->options;
    const float t = r->schedule.t[step], t_next = r->schedule.t[step + 1], dt = t - t_next;
    const size_t at = (size_t)b * r->item;
    solver_past past = {.count = r->past_count};
    for (int i = 0; i < r->past_count; i++) {
        past.v[i] = r->past[i] + at;
        past.dt[i] = r->past_dt[i];
    }
    solver_kind solver = o->solver;
    if (step == r->schedule.steps - 1 && solver != SOLVER_HEUN && t_next == 0) solver = SOLVER_EULER;
    switch (solver) {
    case SOLVER_EULER:
        solver_euler(x, v, dt, r->item);
        break;
    case SOLVER_HEUN:
        if (has_corrector(o, &r->schedule, step))
            for (size_t i = 0; i < r->item; i++) v[i] = 0.5f * (v[i] + r->v_ahead[at + i]);
        solver_euler(x, v, dt, r->item);
        break;
    case SOLVER_SDE:
        solver_sde(x, v, sde_noise(r, b, step), t, t_next, r->item);
        break;
    case SOLVER_DPM3M:
        solver_dpm3m(x, v, &past, dt, r->item);
        break;
    case SOLVER_STORK4:
        solver_stork4(x, v, &past, t, t_next, o->stork_substeps, r->spare, r->item);
        break;
    }
}

/* Everything of a step that follows the model, for one item. */
static void finish_step(const run *r, int step, int b)
{
    const sampler_options *o = r->options;
    const float t = r->schedule.t[step], t_next = r->schedule.t[step + 1];
    const size_t at = (size_t)b * r->item, frames = (size_t)r->input->frames;
    float *x = r->x + at, *v = r->v + at;
    const bool correct = dcw_active(&o->dcw);
    if (correct)
        for (size_t i = 0; i < r->item; i++) r->clean[i] = x[i] - v[i] * t;
    solve(r, step, b, x, v);
    if (correct) dcw_apply(&o->dcw, t, x, r->clean, frames, r->lines);
    if (step < r->inject_steps)
        repaint_inject(x, r->input->repaint_clean + at, initial_noise(r, b),
                       r->input->repaint_mask + (size_t)b * frames, t_next, frames);
}

/* This step's velocity becomes the most recent past one; the buffers change places. */
static void remember(run *r, int step)
{
    const int depth = past_needed(r->options);
    if (depth == 0) return;
    float *oldest = r->past[depth - 1];
    if (depth == 2) {
        r->past[1] = r->past[0];
        r->past_dt[1] = r->past_dt[0];
    }
    r->past[0] = r->v;
    r->past_dt[0] = r->schedule.t[step] - r->schedule.t[step + 1];
    r->v = oldest;
    if (r->past_count < depth) r->past_count++;
}

static bool take_step(run *r, int step, ace_error *error)
{
    if (!evaluate(r, step, false, r->x, r->past_count > 0 ? r->past[0] : NULL, r->v, error)) return false;
    if (has_corrector(r->options, &r->schedule, step)) {
        if (!r->dry) {
            const size_t all = r->item * (size_t)r->input->batch;
            memcpy(r->ahead, r->x, all * sizeof *r->ahead);
            solver_euler(r->ahead, r->v, r->schedule.t[step] - r->schedule.t[step + 1], all);
        }
        if (!evaluate(r, step, true, r->ahead, r->v, r->v_ahead, error)) return false;
    }
    if (r->dry) return true;
    for (int b = 0; b < r->input->batch; b++) finish_step(r, step, b);
    remember(r, step);
    return check_finite(r, r->x, "the latent", step, error);
}

/* The state at t[0]: noise, or noise mixed with the source. */
static bool start(run *r, ace_error *error)
{
    const float t = r->schedule.t[0];
    for (int b = 0; b < r->input->batch; b++) {
        const size_t at = (size_t)b * r->item;
        const float *noise = initial_noise(r, b);
        if (r->options->cover_noise_strength > 0)
            for (size_t i = 0; i < r->item; i++) r->x[at + i] = t * noise[i] + (1.0f - t) * r->input->source[at + i];
        else
            memcpy(r->x + at, noise, r->item * sizeof *noise);
    }
    return check_finite(r, r->x, "the first latent", 0, error);
}

static bool finish(const run *r, ace_error *error)
{
    const sampler_options *o = r->options;
    const repaint_plan plan = repaint_plan_for(o->repaint_mode, o->repaint_strength);
    for (int b = 0; b < r->input->batch; b++) {
        const size_t frames = (size_t)r->input->frames, at = (size_t)b * r->item;
        float *x = r->x + at;
        if (r->input->repaint_mask)
            repaint_blend(x, r->input->repaint_clean + at, r->input->repaint_mask + (size_t)b * frames,
                          plan.crossfade_frames, frames);
        bool zero = true;
        for (size_t i = 0; i < r->item; i++) zero = zero && x[i] == 0;
        if (zero)
            return ace_fail(error, ACE_ERROR_NUMERIC,
                            "the latent of item %d is zero everywhere: the checkpoint's weights are probably damaged",
                            b);
        if (o->latent_rescale != 1 || o->latent_shift != 0)
            for (size_t i = 0; i < r->item; i++) x[i] = x[i] * (float)o->latent_rescale + (float)o->latent_shift;
    }
    return check_finite(r, r->x, "the final latent", r->schedule.steps - 1, error);
}

static bool check_input(const sampler_options *o, const sampler_input *input, ace_error *error)
{
    const char *missing = NULL;
    if (!input->seeds && (!input->noise || o->solver == SOLVER_SDE)) missing = "the items' seeds";
    if (o->cover_noise_strength > 0 && !input->source) missing = "the source latents that cover_noise_strength needs";
    if (!input->repaint_mask != !input->repaint_clean) missing = "one of the repaint mask and the latents it keeps";
    if (missing) return ace_fail(error, ACE_ERROR_INTERNAL, "the sampler was not given %s", missing);
    return true;
}

static void place_buffers(run *r, float *work)
{
    const layout l = layout_of(r->options, r->input->batch, r->input->frames);
    r->v = work + l.v;
    r->uncond = work + l.uncond;
    r->momentum = work + l.momentum;
    for (int i = 0; i < 2; i++) r->past[i] = work + l.past[i];
    r->ahead = work + l.ahead;
    r->v_ahead = work + l.v_ahead;
    r->clean = work + l.clean;
    r->spare = work + l.spare;
    r->lines = work + l.lines;
    if (guidance_on(r->options) && r->options->guidance == GUIDANCE_APG)
        memset(r->momentum, 0, r->item * (size_t)r->input->batch * sizeof *r->momentum);
}

static int count_inject_steps(const sampler_options *o, const sampler_input *input, int steps)
{
    if (!input->repaint_mask) return 0;
    int count = repaint_cutoff(repaint_plan_for(o->repaint_mode, o->repaint_strength).injection_ratio, steps);
    /* turbo's last step ends at the clean latent, where the official loop no longer injects */
    return o->is_turbo && count >= steps ? steps - 1 : count;
}

bool sampler_run(const sampler_options *options, const sampler_input *input, const sampler_model *model, float *work,
                 float *latents, ace_error *error)
{
    run r = {.options = options, .input = input, .model = model, .x = latents, .dry = latents == NULL};
    if (!check_shape(input->batch, input->frames, error)) return false;
    if (!sampler_schedule(options, &r.schedule, error)) return false;
    const int steps = r.schedule.steps;
    r.item = (size_t)input->frames * LATENT_CHANNELS;
    r.cover_steps = (int)(steps * options->cover_strength);
    if (!r.dry) {
        if (!check_input(options, input, error)) return false;
        r.inject_steps = count_inject_steps(options, input, steps);
        place_buffers(&r, work);
        if (!start(&r, error)) return false;
    }
    for (int step = 0; step <= steps; step++) {
        if (model->progress && !model->progress(model->context, step, steps))
            return ace_fail(error, ACE_CANCELLED, "cancelled after %d of %d steps", step, steps);
        if (step < steps && !take_step(&r, step, error)) return false;
    }
    return r.dry || finish(&r, error);
}

sampler_cost sampler_model_calls(const sampler_options *options, const flow_schedule *schedule)
{
    sampler_cost cost = {0};
    for (int step = 0; step < schedule->steps; step++) {
        for (int corrector = 0; corrector <= has_corrector(options, schedule, step); corrector++) {
            cost.calls++;
            cost.uncond_calls += guided_at(options, schedule->t[step + corrector]);
        }
    }
    return cost;
}
