#include "song/allowance.h"

#include "base/error.h"
#include "song/planning.h"
#include "song/prompt.h"
#include "vram/machine.h"

#include <stdlib.h>
#include <string.h>

/* Of the memory that is available, what is used; the rest is left to others, and on a card to its driver. */
static const double SHARE = 0.95, GIB = 1073741824.0;

bool allowance_open(allowance *a, const ace_engine_options *options, const char *device, ace_error *error)
{
    *a = (allowance){.memory = options->memory_limit, .planner_by_default = true};
    ace_machine_options machine = {.device = device,
                                   .profile = options->tier_profile,
                                   .lm = options->lm,
                                   .warning = options->warning,
                                   .user = options->user};
    a->machine = ace_machine_open(&machine, error);
    if (!a->machine) return false;
    const limits_basis *basis = machine_limits_basis(a->machine);
    a->tiered = basis->source != LIMITS_CPU;
    if (a->memory == 0 && basis->gib > 0 && basis->source != LIMITS_CARD)
        a->memory = (size_t)(basis->gib * GIB * (a->tiered ? 1 : SHARE));
    a->max_duration = limits_lm_duration(basis);
    if (a->tiered) a->planner_by_default = a->machine->settings.init_lm;
    return true;
}

void allowance_close(allowance *a)
{
    ace_machine_close(a->machine);
    *a = (allowance){0};
}

bool allowance_limit_to_card(allowance *a, size_t free, size_t taken, ace_error *error)
{
    size_t most = (size_t)((double)free * SHARE) + taken;
    if (a->memory == 0 || a->memory > most) a->memory = most;
    return a->memory > taken ||
           ace_fail(error, ACE_ERROR_MEMORY,
                    "the graphics card's context alone takes %.2f GiB of its memory, and %.2f GiB are allowed: allow "
                    "more, close other programs that use the card, or use --device cpu",
                    (double)taken / GIB, (double)a->memory / GIB);
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

/* Reduces what was asked for to what `longest` seconds and the codes, if there are any, leave of it. */
static bool shorten(ace_request *r, song_codes *own, double longest, ace_error *error)
{
    if (own->count == 0) {
        request_put_number(r, FIELD_DURATION, longest);
        return true;
    }
    own->count = (int64_t)(longest * LM_CODES_PER_SECOND);
    return planning_put_codes(r, own, error);
}

bool allowance_reduce(const allowance *a, ace_request *r, bool with_planner, const job_warnings *warnings,
                      ace_error *error)
{
    limits_result reduced;
    song_codes own = {0};
    if (!prompt_parse_codes(request_text(r, FIELD_AUDIO_CODES, ""), &own.codes, &own.count, error)) return false;
    double duration = own.count > 0 ? (double)own.count / LM_CODES_PER_SECOND : request_number(r, FIELD_DURATION, 0);
    int batch = (int)request_integer(r, FIELD_BATCH_SIZE, 1);
    limits_request(machine_limits_basis(a->machine), with_planner, duration,
                   own.count > 0 ? LIMITS_SOURCE_AUDIO : LIMITS_ASKED, batch, &reduced);
    bool ok = reduced.duration == duration || shorten(r, &own, reduced.duration, error);
    if (reduced.batch != batch) request_put_integer(r, FIELD_BATCH_SIZE, reduced.batch);
    warn(warnings, reduced.duration_warning);
    warn(warnings, reduced.batch_warning);
    free(own.codes);
    return ok;
}
