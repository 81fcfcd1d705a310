/* machine_card.c - whether songs are computed on the card that was chosen, and if not, why, in one sentence. */
#include "base/error.h"
#include "vram/machine.h"
#include "vram/report_parts.h"

#include <stdio.h>
#include <string.h>

/* Cards that no library of the system listed, but a plug-in that was named by hand shows: before the CPU. */
static void add_cards_of_plugin(ace_machine *machine, ace_error *error)
{
    detect_machine *m = &machine->detected;
    cuda_card card;
    if (!cuda_plugin_start(&machine->plugin, error)) return;
    for (int i = 0; i < machine->plugin.devices && m->count < DETECT_DEVICES; i++) {
        if (!cuda_plugin_look(&machine->plugin, i, &card, error)) break;
        m->devices[m->count] = m->devices[m->count - 1];
        detect_device *d = &m->devices[m->count++ - 1];
        *d = (detect_device){.kind = DETECT_NVIDIA, .number = i, .total_known = true, .free_known = true};
        snprintf(d->id, sizeof d->id, "cuda:%d", i);
        snprintf(d->name, sizeof d->name, "%s", card.name);
        snprintf(d->driver, sizeof d->driver, "%s", card.driver);
        d->total = card.total;
        d->free = card.free < card.total ? card.free : card.total;
        d->capability[0] = card.capability[0];
        d->capability[1] = card.capability[1];
    }
}

void machine_find_cards(ace_machine *machine, const detect_places *places, const char *device)
{
    const detect_machine *m = &machine->detected;
    bool nvidia = m->driver_problem != DETECT_FINE;
    const char *named = places->variable("ACESTEP_CUDA_PLUGIN");
    ace_error error = {0};
    device_wish wish;
    bool asked = (named && *named) || (device_parse(device, &wish, &error) && wish.word == DEVICE_CUDA);
    for (int i = 0; i < m->count; i++) nvidia = nvidia || m->devices[i].kind == DETECT_NVIDIA;
    if (!nvidia && !asked) return; /* nobody needs it */
    error = (ace_error){0};
    if (cuda_plugin_open(&machine->plugin, named, &error) && !nvidia) add_cards_of_plugin(machine, &error);
    snprintf(machine->plugin_problem, sizeof machine->plugin_problem, "%s", error.message);
}

static void say_unused(ace_machine *machine, const detect_device *d, const char *why)
{
    snprintf(machine->unused, sizeof machine->unused, "%s%s%s%s is not used: %s", d->name, d->id[0] ? " (" : "", d->id,
             d->id[0] ? ")" : "", why);
}

/* The first card that could be meant, and what is wrong with it. One that the user hid is not meant. */
static void explain_absence(ace_machine *machine)
{
    for (int i = 0; i < machine->detected.count; i++) {
        const detect_device *d = &machine->detected.devices[i];
        ace_text why = {0};
        if (d->kind != DETECT_NVIDIA || d->problem == DETECT_HIDDEN) continue;
        if (d->problem != DETECT_FINE)
            report_problem(d, TEXTS_EN, &why);
        else
            ace_text_format(&why, "its compute capability is %d.%d, and 7.5 is the least", d->capability[0],
                            d->capability[1]);
        if (why.data) say_unused(machine, d, why.data);
        ace_text_free(&why);
        return;
    }
}

void machine_consult_plugin(ace_machine *machine)
{
    const detect_device *d = &machine->detected.devices[machine->device];
    ace_error error = {0};
    char why[MACHINE_WARNING];
    if (d->kind != DETECT_NVIDIA) {
        if (machine->wish == DEVICE_AUTO) explain_absence(machine);
        if (machine->wish == DEVICE_AUTO && !machine->unused[0] && machine->plugin_problem[0])
            snprintf(machine->unused, sizeof machine->unused, "%s", machine->plugin_problem);
        return;
    }
    if (machine->plugin_problem[0]) {
        say_unused(machine, d, machine->plugin_problem);
    } else if (!cuda_plugin_start(&machine->plugin, &error)) {
        snprintf(machine->plugin_problem, sizeof machine->plugin_problem, "%s", error.message);
        say_unused(machine, d, error.message);
    } else if (d->number >= machine->plugin.devices) {
        snprintf(why, sizeof why,
                 "CUDA shows only %d of the NVIDIA cards that are there: see CUDA_VISIBLE_DEVICES, or the container's "
                 "settings",
                 machine->plugin.devices);
        say_unused(machine, d, why);
    } else {
        machine->computes = true;
    }
}
