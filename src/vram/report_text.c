/* report_text.c - what `acestep gpu` prints for people. */
#include "vram/report_parts.h"

#include <stdio.h>
#include <string.h>

static void line(ace_text *out)
{
    ace_text_add(out, "\n");
}

/* ---- devices ---- */

static void device_memory(const detect_device *d, texts_language language, ace_text *out)
{
    report_phrase total = report_gib(detect_gib(d->total)), free = report_gib(detect_gib(d->free));
    bool cpu = d->kind == DETECT_CPU;
    if (d->shared) texts_add(out, language, TEXT_MEMORY_SHARED, NULL);
    if (d->shared && d->total_known) ace_text_add(out, texts_get(language, TEXT_COMMA));
    if (d->total_known && d->free_known)
        texts_add(out, language, cpu ? TEXT_MEMORY_HOST : TEXT_MEMORY_FREE, total.s, free.s, NULL);
    else if (d->total_known)
        texts_add(out, language, TEXT_MEMORY_TOTAL, total.s, NULL);
    else if (!d->shared)
        texts_add(out, language, TEXT_MEMORY_UNKNOWN, NULL);
}

static void device_details(const detect_device *d, texts_language language, ace_text *out)
{
    char version[32];
    if (d->limited) {
        ace_text_add(out, texts_get(language, TEXT_COMMA));
        texts_add(out, language, TEXT_LIMITED, NULL);
    }
    if (d->threads > 0) {
        ace_text_add(out, texts_get(language, TEXT_COMMA));
        texts_add(out, language, TEXT_THREADS, report_number(d->threads).s, NULL);
    }
    if (d->capability[0] > 0) {
        snprintf(version, sizeof version, "%d.%d", d->capability[0], d->capability[1]);
        ace_text_add(out, texts_get(language, TEXT_COMMA));
        texts_add(out, language, TEXT_CAPABILITY, version, NULL);
    }
    if (d->driver[0]) {
        ace_text_add(out, texts_get(language, TEXT_COMMA));
        texts_add(out, language, TEXT_DRIVER, d->driver, NULL);
    }
}

static void device_users(const detect_device *d, texts_language language, ace_text *out)
{
    ace_text list = {0};
    for (int i = 0; i < d->user_count; i++) {
        const detect_user *user = &d->users[i];
        ace_text_format(&list, "%s%s", i ? ", " : "", user->name[0] ? user->name : "pid");
        if (!user->name[0]) ace_text_format(&list, " %d", user->pid);
        if (user->bytes > 0) ace_text_format(&list, " (%.1f GB)", detect_gib(user->bytes));
    }
    if (d->more_users) {
        ace_text_add(&list, list.length ? ", " : "");
        texts_add(&list, language, TEXT_USED_MORE, NULL);
    }
    if (list.length) {
        ace_text_add(out, "    ");
        texts_add(out, language, TEXT_USED_BY, list.data, NULL);
        line(out);
    }
    ace_text_free(&list);
}

static void device(const detect_device *d, texts_language language, ace_text *out)
{
    ace_text_format(out, "  %s  %s: ", d->id[0] ? d->id : "-", d->name);
    device_memory(d, language, out);
    device_details(d, language, out);
    if (d->pci[0]) ace_text_format(out, " [%s]", d->pci);
    line(out);
    device_users(d, language, out);
    if (d->problem == DETECT_FINE) return;
    ace_text problem = {0};
    report_problem(d, language, &problem);
    ace_text_add(out, "    ");
    texts_add(out, language, TEXT_UNUSABLE, problem.data ? problem.data : "", NULL);
    line(out);
    ace_text_free(&problem);
}

static void devices(const ace_machine *machine, texts_language language, ace_text *out)
{
    const detect_machine *detected = &machine->detected;
    texts_add(out, language, TEXT_DEVICES, NULL);
    line(out);
    for (int i = 0; i < detected->count; i++) device(&detected->devices[i], language, out);
    if (detected->truncated) {
        ace_text_add(out, "  ");
        texts_add(out, language, TEXT_TRUNCATED, NULL);
        line(out);
    }
    if (detected->driver_problem != DETECT_FINE) {
        ace_text_add(out, "  ");
        texts_add(out, language, TEXT_DRIVER_SILENT, detected->driver_detail, NULL);
        line(out);
    }
}

/* ---- limits and settings ---- */

static void limits(const limits_basis *basis, texts_language language, ace_text *out)
{
    const tier *t = basis->tier;
    ace_text_add(out, "  ");
    texts_add(out, language, TEXT_LONGEST, report_duration(t->max_duration[1], language).s,
              report_duration(t->max_duration[0], language).s, NULL);
    ace_text_add(out, "\n  ");
    texts_add(out, language, TEXT_LARGEST, report_number(t->max_batch[1]).s, report_number(t->max_batch[0]).s, NULL);
    line(out);
}

static const char *choice_text(tiers_choice choice, texts_language language)
{
    return texts_get(language, choice == TIERS_ON ? TEXT_ON : choice == TIERS_OFF ? TEXT_OFF : TEXT_AUTO);
}

static void settings_lines(const ace_machine *machine, texts_language language, ace_text *out)
{
    const limits_basis *basis = machine->has_card ? &machine->card : &machine->basis;
    const settings *s = &machine->settings;
    const tier *t = basis->tier;
    ace_text_add(out, "  ");
    texts_add(out, language, TEXT_LM_MODELS, report_lm_models(t, language).s, NULL);
    ace_text_add(out, "\n  ");
    texts_add(out, language, TEXT_LM_START, texts_get(language, s->init_lm ? TEXT_YES : TEXT_NO), NULL);
    ace_text_format(out, " (%s)\n  ", texts_get(language, TEXT_ORIGIN + s->init_lm_origin));
    const char *model = s->lm_model == TIERS_LM_NONE ? texts_get(language, TEXT_NONE) : tiers_lm_name(s->lm_model);
    texts_add(out, language, TEXT_LM_RECOMMENDED, model, NULL);
    ace_text_format(out, " (%s)\n  ", texts_get(language, TEXT_ORIGIN + s->lm_model_origin));
    texts_add(out, language, TEXT_LM_SHARE, report_lm_share(t, language).s, NULL);
    ace_text_add(out, "\n  ");
    texts_add(out, language, TEXT_OPTIONS, choice_text(t->options[TIERS_FLASH_ATTENTION], language),
              choice_text(t->options[TIERS_CPU_OFFLOAD], language), choice_text(t->options[TIERS_COMPILE], language),
              choice_text(t->options[TIERS_QUANTIZATION], language), NULL);
    ace_text_add(out, "\n  ");
    texts_add(out, language, TEXT_WHAT_IS_AUTOMATIC, NULL);
    ace_text_add(out, "\n  ");
    texts_add(out, language, TEXT_ADVICE_LINE, texts_get(language, TEXT_ADVICE + t->advice), NULL);
    line(out);
}

/* "profile seed: its values are ...". */
static void source_of_values(const ace_machine *machine, texts_language language, ace_text *out)
{
    line(out);
    texts_add(out, language, TEXT_PROFILE, machine->profile->name, NULL);
    if (!machine->profile->measured) ace_text_format(out, ": %s", texts_get(language, TEXT_NOT_MEASURED));
    line(out);
    if (machine->table->file) {
        texts_add(out, language, TEXT_FILE_USED, machine->table->file, NULL);
        line(out);
    }
    texts_add(out, language, TEXT_MEASURE_HINT, NULL);
    line(out);
}

void report_text(const ace_machine *machine, texts_language language, ace_text *out)
{
    const limits_basis *basis = &machine->basis;
    const detect_device *card = &machine->detected.devices[machine->device];
    devices(machine, language, out);
    line(out);
    report_computing(machine, language, out);
    line(out);
    if (machine->unused[0]) {
        ace_text_format(out, "  %s\n", machine->unused);
    } else if (machine->plugin.gpu) {
        ace_text_add(out, "  ");
        texts_add(out, language, TEXT_PLUGIN, machine->plugin.path, NULL);
        line(out);
    }
    if (machine->simulated.active) {
        char variable[64];
        snprintf(variable, sizeof variable, "%s=%s", machine->simulated.variable, machine->simulated.value);
        texts_add(out, language, TEXT_SIMULATED, report_number(machine->simulated.gib).s, variable, NULL);
        line(out);
    }
    if (machine->chosen_tier) {
        const tier *chosen = machine->has_card ? machine->card.tier : basis->tier;
        texts_add(out, language, TEXT_CHOSEN_TIER, report_tier_name(chosen, language).s, NULL);
        line(out);
    }
    line(out);
    if (basis->source == LIMITS_CPU)
        texts_add(out, language, TEXT_LIMITS_CPU, report_gib(basis->gib).s, NULL);
    else if (basis->source == LIMITS_CARD)
        texts_add(out, language, TEXT_LIMITS_CARD, card->id, report_gib(basis->gib).s,
                  report_tier_name(basis->tier, language).s, report_range(machine->profile, basis->tier, language).s,
                  NULL);
    else
        texts_add(out, language, TEXT_LIMITS_SIMULATED, report_number(basis->gib).s,
                  report_tier_name(basis->tier, language).s, report_range(machine->profile, basis->tier, language).s,
                  NULL);
    line(out);
    limits(basis, language, out);
    if (basis->source == LIMITS_CPU) {
        ace_text_add(out, "  ");
        texts_add(out, language, TEXT_PLAN_DECIDES, NULL);
        line(out);
    }
    if (machine->has_card && !machine->computes) {
        line(out);
        texts_add(out, language, TEXT_CARD_TIER, card->id, report_gib(machine->card.gib).s,
                  report_tier_name(machine->card.tier, language).s,
                  report_range(machine->profile, machine->card.tier, language).s, NULL);
        line(out);
        limits(&machine->card, language, out);
    }
    settings_lines(machine, language, out);
    source_of_values(machine, language, out);
}
