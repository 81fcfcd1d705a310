/* schedule.c - see schedule.h. */
#include "diffusion/schedule.h"

#include "base/error.h"

#include <math.h>

/* The union of the eight-step schedules with shift 1, 2 and 3: what the turbo checkpoints were distilled on. */
static const double TURBO_TIMESTEPS[] = {1.0,
                                         0.9545454545454546,
                                         0.9333333333333333,
                                         0.9,
                                         0.875,
                                         0.8571428571428571,
                                         0.8333333333333334,
                                         0.7692307692307693,
                                         0.75,
                                         0.6666666666666666,
                                         0.6428571428571429,
                                         0.625,
                                         0.5454545454545454,
                                         0.5,
                                         0.4,
                                         0.375,
                                         0.3,
                                         0.25,
                                         0.2222222222222222,
                                         0.125};
enum { TURBO_TIMESTEP_COUNT = sizeof TURBO_TIMESTEPS / sizeof *TURBO_TIMESTEPS };

static bool check_steps(int steps, int limit, double shift, ace_error *error)
{
    if (steps < 1 || steps > limit)
        return ace_fail(error, ACE_ERROR_USAGE, "%d steps: this checkpoint takes 1 to %d", steps, limit);
    if (!(shift > 0) || !isfinite(shift))
        return ace_fail(error, ACE_ERROR_USAGE, "a shift of %g: it must be a positive number, usually 1 to 5", shift);
    return true;
}

/* Strictly falling values in [0, 1]; `what` names the list's use. */
static bool check_timesteps(const double *t, size_t count, ace_error *error)
{
    for (size_t i = 0; i < count; i++) {
        if (!(t[i] >= 0 && t[i] <= 1))
            return ace_fail(error, ACE_ERROR_USAGE, "timestep %zu is %g: timesteps lie between 1 and 0", i + 1, t[i]);
        if (i > 0 && !(t[i] < t[i - 1]))
            return ace_fail(error, ACE_ERROR_USAGE, "timestep %zu (%g) is not below the one before it (%g)", i + 1,
                            t[i], t[i - 1]);
    }
    return true;
}

bool schedule_turbo(int steps, double shift, flow_schedule *schedule, ace_error *error)
{
    if (!check_steps(steps, SCHEDULE_TURBO_MAX_STEPS, shift, error)) return false;
    schedule->steps = steps;
    for (int i = 0; i < steps; i++) {
        double t = 1.0 - (double)i / steps;
        if (shift != 1) t = shift * t / (1 + (shift - 1) * t);
        schedule->t[i] = (float)t;
    }
    schedule->t[steps] = 0;
    return true;
}

static double nearest_turbo_timestep(double t)
{
    double nearest = TURBO_TIMESTEPS[0];
    for (int i = 1; i < TURBO_TIMESTEP_COUNT; i++)
        if (fabs(TURBO_TIMESTEPS[i] - t) < fabs(nearest - t)) nearest = TURBO_TIMESTEPS[i];
    return nearest;
}

bool schedule_turbo_custom(const double *timesteps, size_t count, flow_schedule *schedule, ace_error *error)
{
    while (count > 0 && timesteps[count - 1] == 0) count--;
    if (count == 0) return ace_fail(error, ACE_ERROR_USAGE, "the list of timesteps has no value above 0");
    if (count > SCHEDULE_TURBO_MAX_STEPS)
        return ace_fail(error, ACE_ERROR_USAGE, "%zu timesteps: a turbo checkpoint takes at most %d", count,
                        SCHEDULE_TURBO_MAX_STEPS);
    if (!check_timesteps(timesteps, count, error)) return false;
    schedule->steps = (int)count;
    for (size_t i = 0; i < count; i++) schedule->t[i] = (float)nearest_turbo_timestep(timesteps[i]);
    schedule->t[count] = 0;
    return true;
}

bool schedule_base(int steps, double shift, flow_schedule *schedule, ace_error *error)
{
    if (!check_steps(steps, SCHEDULE_MAX_STEPS, shift, error)) return false;
    schedule->steps = steps;
    /* torch.linspace counts from both ends towards the middle, with fused multiply-add */
    float step = -1.0f / (float)steps;
    int half = (steps + 1) / 2;
    for (int i = 0; i <= steps; i++) {
        float t = i < half ? fmaf(step, (float)i, 1.0f) : -step * (float)(steps - i);
        if (shift != 1) t = (float)shift * t / (1.0f + (float)(shift - 1) * t);
        schedule->t[i] = t;
    }
    return true;
}

bool schedule_base_custom(const double *timesteps, size_t count, flow_schedule *schedule, ace_error *error)
{
    if (count < 2)
        return ace_fail(error, ACE_ERROR_USAGE, "%zu timesteps: at least two are needed, the last usually 0", count);
    if (count > SCHEDULE_MAX_STEPS + 1)
        return ace_fail(error, ACE_ERROR_USAGE, "%zu timesteps: at most %d are possible", count,
                        SCHEDULE_MAX_STEPS + 1);
    if (!check_timesteps(timesteps, count, error)) return false;
    schedule->steps = (int)count - 1;
    for (size_t i = 0; i < count; i++) schedule->t[i] = (float)timesteps[i];
    return true;
}

void schedule_start_at(flow_schedule *schedule, double cover_noise_strength)
{
    double level = 1 - cover_noise_strength;
    int start = 0;
    for (int i = 1; i < schedule->steps; i++)
        if (fabs(schedule->t[i] - level) < fabs(schedule->t[start] - level)) start = i;
    schedule->steps -= start;
    for (int i = 0; i <= schedule->steps; i++) schedule->t[i] = schedule->t[i + start];
}
