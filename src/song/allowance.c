#include "song/allowance.h"

#include "base/error.h"
#include "vram/machine.h"

#include <string.h>

/* Of the memory that is available, what is left to others. */
static const double SHARE = 0.95, GIB = 1073741824.0;

bool allowance_open(allowance *a, const ace_engine_options *options, ace_error *error)
{
    *a = (allowance){.memory = options->memory_limit, .planner_by_default = true};
    ace_machine_options machine = {
        .profile = options->tier_profile, .warning = options->warning, .user = options->user};
    a->machine = ace_machine_open(&machine, error);
    if (!a->machine) return false;
    const limits_basis *basis = machine_limits_basis(a->machine);
    a->tiered = basis->source == LIMITS_SIMULATED;
    if (a->memory == 0 && basis->gib > 0) a->memory = (size_t)(basis->gib * GIB * (a->tiered ? 1 : SHARE));
    a->max_duration = limits_lm_duration(basis);
    if (a->tiered) {
        a->planner_by_default = options->lm || a->machine->settings.init_lm;
    }
    return true;
}

void allowance_close(allowance *a)
{
    ace_machine_close(a->machine);
    *a = (allowance){0};
}

void allowance_set_planner(allowance *a, const char *name)
{
    const tier *t = machine_limits_basis(a->machine)->tier;
    a->planner_share = 0;
    if (!name || !a->tiered || t->lm_unlimited) return;
    tiers_lm size = tiers_lm_find(name);
    a->planner_share = (size_t)(t->lm_share[size == TIERS_LM_NONE ? TIERS_LM_0_6B : size] * GIB);
}

static void warn(const job_warnings *warnings, const char *sentence)
{
    if (*sentence && warnings->warn) warnings->warn(warnings->user, sentence);
}

void allowance_reduce(const allowance *a, ace_request *r, bool with_planner, const job_warnings *warnings)
{
    limits_result reduced;
    double duration = request_number(r, FIELD_DURATION, 0);
    int batch = (int)request_integer(r, FIELD_BATCH_SIZE, 1);
    limits_request(machine_limits_basis(a->machine), with_planner, duration, LIMITS_ASKED, batch, &reduced);
    if (reduced.duration != duration) request_put_number(r, FIELD_DURATION, reduced.duration);
    if (reduced.batch != batch) request_put_integer(r, FIELD_BATCH_SIZE, reduced.batch);
    warn(warnings, reduced.duration_warning);
    warn(warnings, reduced.batch_warning);
}
