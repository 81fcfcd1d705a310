/* report_tables.c - the tier table: for the guides in docs/, and with the origin of every value. */
#include "vram/report_parts.h"

#include <stdio.h>
#include <string.h>

/* ---- tables of the guides ---- */

void report_tables(const ace_machine *machine, texts_language language, ace_text *out)
{
    static const texts_key head[] = {TEXT_HEAD_TIER, TEXT_HEAD_MEMORY, TEXT_HEAD_DURATION, TEXT_HEAD_BATCH,
                                     TEXT_HEAD_LM,   TEXT_HEAD_START,  TEXT_HEAD_SHARE};
    const tiers_profile *profile = machine->profile;
    for (size_t i = 0; i < sizeof head / sizeof *head; i++) ace_text_format(out, "| %s ", texts_get(language, head[i]));
    ace_text_add(out, "|\n|---|---|---|---|---|---|---|\n");
    for (int i = 0; i < profile->count; i++) {
        const tier *t = &profile->tiers[i];
        ace_text_format(out, "| %s | %s | ", report_tier_name(t, language).s, report_range(profile, t, language).s);
        report_phrase with = report_duration(t->max_duration[1], language);
        report_phrase without = report_duration(t->max_duration[0], language);
        if (t->max_duration[0] == t->max_duration[1])
            ace_text_format(out, "%s | ", without.s);
        else
            ace_text_format(out, "%s / %s | ", with.s, without.s);
        if (t->max_batch[0] == t->max_batch[1])
            ace_text_format(out, "%d", t->max_batch[0]);
        else
            ace_text_format(out, "%d / %d", t->max_batch[1], t->max_batch[0]);
        ace_text_format(out, " | %s | %s | %s |\n", report_lm_models(t, language).s,
                        texts_get(language, t->init_lm ? TEXT_YES : TEXT_NO), report_lm_share(t, language).s);
    }
    ace_text_format(out, "\n| %s | %s |\n|---|---|\n", texts_get(language, TEXT_HEAD_TIER),
                    texts_get(language, TEXT_HEAD_ADVICE));
    for (int i = 0; i < profile->count; i++)
        ace_text_format(out, "| %s | %s |\n", report_tier_name(&profile->tiers[i], language).s,
                        texts_get(language, TEXT_ADVICE + profile->tiers[i].advice));
}

/* ---- the table with its origins ---- */

static void origin(const ace_machine *machine, tiers_place place, ace_text *out)
{
    if (place.line)
        ace_text_format(out, "from %s line %d\n", machine->table->file, place.line);
    else
        ace_text_add(out, "from the built-in table\n");
}

static void value(const ace_machine *machine, const tier *t, tiers_key key, const char *name, const char *text,
                  ace_text *out)
{
    ace_text_format(out, "  %-24s %-28s ", name, text);
    origin(machine, t->places[key], out);
}

static void share_text(const tier *t, char text[64])
{
    snprintf(text, 64, "%s", t->lm_unlimited ? "null" : "{}");
    for (tiers_lm lm = 0, first = 0; lm < TIERS_LM_COUNT && !t->lm_unlimited; lm++) {
        if (!(t->lm_models & 1u << lm)) continue;
        size_t used = first++ ? strlen(text) - 1 : 1;
        snprintf(text + used, 64 - used, "%s\"%s\": %g}", used > 1 ? ", " : "", tiers_lm_name(lm), t->lm_share[lm]);
    }
}

static void models_text(const tier *t, char text[64])
{
    snprintf(text, 64, "[]");
    for (tiers_lm lm = 0, first = 0; lm < TIERS_LM_COUNT; lm++) {
        if (!(t->lm_models & 1u << lm)) continue;
        size_t used = first++ ? strlen(text) - 1 : 1;
        snprintf(text + used, 64 - used, "%s\"%s\"]", used > 1 ? ", " : "", tiers_lm_name(lm));
    }
}

static void tier_origins(const ace_machine *machine, const tier *t, ace_text *out)
{
    static const char *const advice[] = {"dit_only", "small_lm", "large_lm"};
    char text[64];
    ace_text_format(out, "%s\n", t->id);
    if (t != &machine->table->cpu) { /* which has neither */
        value(machine, t, TIERS_KEY_START, t->start_included ? "from_gib" : "above_gib", report_number(t->start).s,
              out);
        value(machine, t, TIERS_KEY_TOLERANCE, "tolerance_gib", report_number(t->tolerance).s, out);
    }
    models_text(t, text);
    value(machine, t, TIERS_KEY_LM_MODELS, "lm_models", text, out);
    value(machine, t, TIERS_KEY_INIT_LM, "init_lm", t->init_lm ? "true" : "false", out);
    snprintf(text, sizeof text, t->lm_model == TIERS_LM_NONE ? "null" : "\"%s\"", tiers_lm_name(t->lm_model));
    value(machine, t, TIERS_KEY_LM_MODEL, "lm_model", text, out);
    share_text(t, text);
    value(machine, t, TIERS_KEY_LM_SHARE, "lm_share_gib", text, out);
    const struct {
        tiers_key key;
        const char *name;
        int number;
    } numbers[] = {{TIERS_KEY_DURATION_WITH_LM, "max_duration_with_lm", t->max_duration[1]},
                   {TIERS_KEY_DURATION_WITHOUT_LM, "max_duration_without_lm", t->max_duration[0]},
                   {TIERS_KEY_BATCH_WITH_LM, "max_batch_with_lm", t->max_batch[1]},
                   {TIERS_KEY_BATCH_WITHOUT_LM, "max_batch_without_lm", t->max_batch[0]}};
    for (int i = 0; i < 4; i++)
        value(machine, t, numbers[i].key, numbers[i].name, report_number(numbers[i].number).s, out);
    for (tiers_option o = 0; o < TIERS_OPTION_COUNT; o++) {
        snprintf(text, sizeof text, "\"%s\"", tiers_choice_name(t->options[o]));
        value(machine, t, TIERS_KEY_OPTIONS + o, tiers_option_name(o), text, out);
    }
    snprintf(text, sizeof text, "\"%s\"", advice[t->advice]);
    value(machine, t, TIERS_KEY_ADVICE, "advice", text, out);
}

void report_origins(const ace_machine *machine, ace_text *out)
{
    const tiers_table *table = machine->table;
    ace_text_format(out, "%-26s %-28s ", "default_profile", table->default_profile);
    origin(machine, table->default_profile_place, out);
    ace_text_format(out, "%-26s %-28s ", "cpu memory", table->cpu_uses_total ? "total" : "available");
    origin(machine, table->cpu_memory_place, out);
    tier_origins(machine, &table->cpu, out);
    ace_text_format(out, "\nprofile %s%s\n", machine->profile->name,
                    machine->profile->measured ? "" : " (not measured with this program)");
    for (int i = 0; i < machine->profile->count; i++) tier_origins(machine, &machine->profile->tiers[i], out);
}
