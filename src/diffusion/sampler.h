/* sampler.h - from noise to a latent: the loop that ties schedule, model, guidance, solver and corrections together
 * (dit.md 11). It knows no model: the velocity is a callback. It allocates nothing: the caller gives its memory.
 *
 *     sampler_options options = sampler_defaults(is_turbo);         the checkpoint's preset
 *     ... what the request says ...
 *     sampler_validate(&options, warn, context, error)              refuses, or adapts and warns
 *     sampler_schedule(&options, &schedule, error)                  how many steps: for progress and time estimates
 *     sampler_floats(&options, batch, frames, &floats, error)       the plan counts this
 *     sampler_run(&options, &input, &model, work, latents, error)
 *
 * Items of a batch never influence each other here. Everything is float32 except where dit.md 11.4 asks for more, and
 * deterministic. */
#ifndef ACE_DIFFUSION_SAMPLER_H
#define ACE_DIFFUSION_SAMPLER_H

#include "diffusion/dcw.h"
#include "diffusion/guidance.h"
#include "diffusion/latent.h"
#include "diffusion/noise.h"
#include "diffusion/repaint.h"
#include "diffusion/schedule.h"
#include "diffusion/solver.h"

#include <acestep.h>

enum {
    SAMPLER_MAX_BATCH = 64,
    SAMPLER_MAX_FRAMES = 1 << 24,
};

/* Everything of a request that concerns sampling (dit.md 7.1). */
typedef struct sampler_options {
    bool is_turbo; /* of the checkpoint: set by sampler_defaults, not by the request */

    /* schedule */
    int steps;               /* turbo: 1 to turbo_step_limit; base, sft: 1 to SCHEDULE_MAX_STEPS */
    double shift;            /* > 0 */
    const double *timesteps; /* explicit timesteps instead of steps and shift, or NULL; the caller's */
    size_t timestep_count;
    int turbo_step_limit; /* 8 as the official handler; at most 20 for a caller who knows */

    /* guidance: active when guidance_scale > 1; base and sft only */
    guidance_kind guidance;
    double guidance_scale;
    double cfg_interval_start, cfg_interval_end; /* guidance only while start <= t <= end */

    solver_kind solver;
    int stork_substeps;                                  /* 10, 5 or 2 */
    double velocity_norm_threshold, velocity_ema_factor; /* 0 is off */
    dcw_options dcw;

    /* noise */
    noise_kind noise;
    uint64_t noise_threads; /* NOISE_TORCH_CUDA: see noise.h; 0 is GPU independent */
    noise_kind sde_noise;   /* NOISE_ACE, or NOISE_TORCH_CUDA for acestep.cpp's: seed + step + 1, rounded to bf16 */

    /* source and masks */
    double cover_strength;       /* from step int(steps*strength) on the second condition is used; 1: never */
    double cover_noise_strength; /* 0: start from noise; towards 1: from the source latents */
    repaint_mode repaint_mode;
    double repaint_strength;

    /* at the end: latent*rescale + shift */
    double latent_rescale, latent_shift;
} sampler_options;

/* The checkpoint's preset (dit.md 1.1). Turbo: 8 steps, shift 3, no guidance. Base, sft: 50 steps, shift 1, APG 7.
 * Both: Euler, DCW double 0.05 / 0.02 haar. */
sampler_options sampler_defaults(bool is_turbo);

/* Called with one sentence for each thing that was adapted or leaves the checkpoint's preset. May be NULL. */
typedef void sampler_warn(void *context, const char *sentence);

/* Checks all options. What the checkpoint cannot do and the official program quietly adapts is adapted with a warning:
 * guidance on turbo becomes none, turbo steps beyond turbo_step_limit become the limit, turbo timesteps move to the
 * nearest distilled ones. Leaving the checkpoint's preset warns. Anything else that is impossible, out of range or not
 * a number is ACE_ERROR_USAGE. */
bool sampler_validate(sampler_options *options, sampler_warn *warn, void *context, ace_error *error);

/* The timesteps of a run with these (validated) options. */
bool sampler_schedule(const sampler_options *options, flow_schedule *schedule, ace_error *error);

/* How often the model is called, and how many of the calls ask for the unconditional velocity too. */
typedef struct sampler_cost {
    int calls, uncond_calls;
} sampler_cost;
sampler_cost sampler_model_calls(const sampler_options *options, const flow_schedule *schedule);

/* One request to the model: the velocity at (x, t) of every item. */
typedef struct sampler_call {
    int step, steps;
    bool corrector;     /* Heun's second evaluation of the step */
    int t_index;        /* the timestep's place in the schedule: step, or step + 1 for the corrector */
    float t;            /* schedule.t[t_index] */
    bool non_cover;     /* use the second condition (encoder states and context): dit.md 14.1 */
    bool new_condition; /* first call with this condition: the cross-attention's keys and values must be recomputed */
    bool uncond;        /* v_uncond is wanted too: run both in one batch if you can */
    int batch;
    int64_t frames;
    const float *x;  /* [batch, frames, 64]; NULL in a dry run, like the two below */
    float *v_cond;   /* [batch, frames, 64], to be filled */
    float *v_uncond; /* the same, with null_condition_emb; NULL unless uncond */
} sampler_call;

typedef struct sampler_model {
    void *context;
    /* Fills the velocities; false with an error stops the run. */
    bool (*velocity)(void *context, const sampler_call *call, ace_error *error);
    /* Before step 0, 1, ... and once with step == steps; false cancels (ACE_CANCELLED). May be NULL. */
    bool (*progress)(void *context, int step, int steps);
} sampler_model;

typedef struct sampler_input {
    int batch;
    int64_t frames;
    const uint64_t *seeds;       /* [batch] */
    const float *noise;          /* [batch, frames, 64] instead of drawing it from the seeds; or NULL */
    const float *source;         /* [batch, frames, 64] clean source latents; needed when cover_noise_strength > 0 */
    const float *repaint_clean;  /* [batch, frames, 64] what is kept outside the mask; with repaint_mask */
    const uint8_t *repaint_mask; /* [batch, frames], 1 = generate; NULL when nothing is repainted */
} sampler_input;

/* Floats of work memory that sampler_run needs. */
bool sampler_floats(const sampler_options *options, int batch, int64_t frames, size_t *floats, ace_error *error);

/* Samples into latents [batch, frames, 64] with validated options. With latents == NULL (work and all arrays of the
 * input may be NULL then) it is a dry run: only the model calls are made, the same in number, order and flags.
 * ACE_ERROR_NUMERIC when the model or a step produces NaN or infinity (naming step, item, frame and channel) or when
 * an item ends all zero. */
bool sampler_run(const sampler_options *options, const sampler_input *input, const sampler_model *model, float *work,
                 float *latents, ace_error *error);

#endif
