/* solver.c - see solver.h. STORK4 is in solver_stork4.c. */
#include "diffusion/solver.h"

#include <string.h>

static const char *const NAMES[] = {[SOLVER_EULER] = "euler",
                                    [SOLVER_HEUN] = "heun",
                                    [SOLVER_SDE] = "sde",
                                    [SOLVER_DPM3M] = "dpm3m",
                                    [SOLVER_STORK4] = "stork4"};
enum { KINDS = sizeof NAMES / sizeof *NAMES };

const char *solver_name(solver_kind kind)
{
    return (unsigned)kind < KINDS ? NAMES[kind] : NULL;
}

bool solver_from_name(const char *name, solver_kind *kind)
{
    for (unsigned i = 0; i < KINDS; i++) {
        if (strcmp(name, NAMES[i]) == 0) {
            *kind = (solver_kind)i;
            return true;
        }
    }
    return false;
}

int solver_history(solver_kind kind)
{
    return kind == SOLVER_DPM3M || kind == SOLVER_STORK4 ? 2 : 0;
}

void solver_euler(float *x, const float *v, float dt, size_t count)
{
    for (size_t i = 0; i < count; i++) x[i] -= v[i] * dt;
}

void solver_sde(float *x, const float *v, const float *noise, float t, float t_next, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float clean = x[i] - v[i] * t;
        x[i] = t_next * noise[i] + (1.0f - t_next) * clean;
    }
}

/* The coefficients are those of equal steps, also when the steps differ: that is what acestep.cpp computes. */
void solver_dpm3m(float *x, const float *v, const solver_past *past, float dt, size_t count)
{
    if (past->count == 0) {
        solver_euler(x, v, dt, count);
    } else if (past->count == 1) {
        for (size_t i = 0; i < count; i++) x[i] -= (1.5f * v[i] - 0.5f * past->v[0][i]) * dt;
    } else {
        const float c0 = 23.0f / 12, c1 = 16.0f / 12, c2 = 5.0f / 12;
        for (size_t i = 0; i < count; i++) x[i] -= (c0 * v[i] - c1 * past->v[0][i] + c2 * past->v[1][i]) * dt;
    }
}
