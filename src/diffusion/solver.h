/* solver.h - one step of the flow from t to t_next, given the velocity at t (dit.md 11, 16).
 *
 * Element-wise over `count` float32 values of one item, in place. Heun is two velocity evaluations and one Euler step
 * with their mean, so it lives in the sampler loop. */
#ifndef ACE_DIFFUSION_SOLVER_H
#define ACE_DIFFUSION_SOLVER_H

#include <stdbool.h>
#include <stddef.h>

typedef enum solver_kind {
    SOLVER_EULER,
    SOLVER_HEUN,  /* second order, two evaluations per step */
    SOLVER_SDE,   /* predicts the clean latent and adds fresh noise */
    SOLVER_DPM3M, /* Adams-Bashforth of order 1, 2, 3 on the step's history */
    SOLVER_STORK4 /* ROCK4 sub-steps on a Taylor extrapolation of the velocity */
} solver_kind;

/* "euler", "heun", "sde", "dpm3m", "stork4"; NULL for a value outside the enum. */
const char *solver_name(solver_kind kind);
bool solver_from_name(const char *name, solver_kind *kind);

/* How many earlier velocities the solver looks at. */
int solver_history(solver_kind kind);

/* x -= v * dt, dt = t - t_next. */
void solver_euler(float *x, const float *v, float dt, size_t count);

/* x = t_next*noise + (1 - t_next)*(x - v*t). */
void solver_sde(float *x, const float *v, const float *noise, float t, float t_next, size_t count);

/* The velocities before this one, most recent first, and the lengths of the steps that started from them. */
typedef struct solver_past {
    int count; /* 0, 1 or 2 */
    const float *v[2];
    float dt[2];
} solver_past;

void solver_dpm3m(float *x, const float *v, const solver_past *past, float dt, size_t count);

/* substeps is 10 (the default), 5 or 2; on a non-finite result the next smaller one is tried, at last Euler's step.
 * `scratch` holds `count` floats. The stability guards compare root mean squares over the `count` values, so an item's
 * result does not depend on its batch (acestep.cpp takes them over the batch). */
void solver_stork4(float *x, const float *v, const solver_past *past, float t, float t_next, int substeps,
                   float *scratch, size_t count);

#endif
