/* tier_info.c - what a tier is, for who sees the public header only: the command that measures tiers, the page. */
#include "vram/machine.h"

#include "base/error.h"

#include <math.h>

static ace_tier describe(const tier *t)
{
    ace_tier info = {.id = t->id, .init_lm = t->init_lm};
    int count = 0;
    for (tiers_lm lm = 0; lm < TIERS_LM_COUNT; lm++)
        if (t->lm_models & 1u << lm) info.lm_models[count++] = tiers_lm_name(lm);
    if (t->lm_model != TIERS_LM_NONE) info.lm_model = tiers_lm_name(t->lm_model);
    for (int with_lm = 0; with_lm < 2; with_lm++) {
        info.max_duration[with_lm] = t->max_duration[with_lm];
        info.max_batch[with_lm] = t->max_batch[with_lm];
    }
    /* a tolerated card belongs to the tier too; where the start itself does not, every larger amount does */
    info.smallest = t->start - t->tolerance;
    if (!t->start_included && t->tolerance == 0) info.smallest = nextafter(t->start, INFINITY);
    return info;
}

bool ace_machine_tier_at(const ace_machine *machine, int index, ace_tier *result)
{
    if (index < 0 || index >= machine->profile->count) return false;
    *result = describe(&machine->profile->tiers[index]);
    return true;
}

bool ace_machine_tier_of(const ace_machine *machine, double gib, ace_tier *result, ace_error *error)
{
    const tier *found = tiers_select(machine->profile, gib, true);
    if (!found) return ace_fail(error, ACE_ERROR_USAGE, "no card has %g GB of memory: give a number above 0", gib);
    *result = describe(found);
    return true;
}

bool ace_machine_memory(const ace_machine *machine, size_t *total, size_t *available)
{
    const detect_device *d =
        machine->computes ? &machine->detected.devices[machine->device] : detect_cpu(&machine->detected);
    *total = d->total_known ? (size_t)d->total : 0;
    *available = d->free_known ? (size_t)d->free : *total;
    return *total > 0;
}
