/* schedule.h - the timesteps of a sampling run (dit.md 10, 14.2). */
#ifndef ACE_DIFFUSION_SCHEDULE_H
#define ACE_DIFFUSION_SCHEDULE_H

#include <acestep.h>

enum {
    SCHEDULE_MAX_STEPS = 200, /* base, sft */
    SCHEDULE_TURBO_STEPS = 8, /* what the turbo checkpoints were distilled for; the official handler clamps to it */
    SCHEDULE_TURBO_MAX_STEPS = 20, /* what the official turbo code can do */
};

/* t[0] > t[1] > ... > t[steps]: step i goes from t[i] to t[i + 1]. t[steps] is 0 except for custom base timesteps.
 * (Custom turbo timesteps may repeat a value after they were mapped; such a step has length 0, as in the official
 * program.) */
typedef struct flow_schedule {
    int steps;
    float t[SCHEDULE_MAX_STEPS + 1];
} flow_schedule;

/* Turbo: t_i = f(1 - i/steps), f(t) = shift*t / (1 + (shift-1)*t), computed in double. 1 <= steps <= 20. */
bool schedule_turbo(int steps, double shift, flow_schedule *schedule, ace_error *error);

/* Turbo with explicit timesteps: trailing zeros are dropped, every value is replaced by the nearest of the 20 values
 * the distillation used (the first of two equally near ones). 1 to 20 strictly falling values in (0, 1]. */
bool schedule_turbo_custom(const double *timesteps, size_t count, flow_schedule *schedule, ace_error *error);

/* Base and sft: torch.linspace(1, 0, steps + 1) and the shift, every operation in float32 as on the CPU. */
bool schedule_base(int steps, double shift, flow_schedule *schedule, ace_error *error);

/* Base and sft with explicit timesteps, used as given with the final value (normally 0): count - 1 steps. Strictly
 * falling values in [0, 1]. */
bool schedule_base_custom(const double *timesteps, size_t count, flow_schedule *schedule, ace_error *error);

/* Start from the source (cover_noise_strength > 0): drops the steps before the t nearest to 1 - strength. The run then
 * starts from t[0]*noise + (1 - t[0])*source. */
void schedule_start_at(flow_schedule *schedule, double cover_noise_strength);

#endif
