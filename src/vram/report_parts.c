#include "vram/report_parts.h"

#include <stdio.h>
#include <string.h>

/* The text made so far, as a phrase. */
static report_phrase phrase(ace_text *text)
{
    report_phrase p = {""};
    if (text->data) snprintf(p.s, sizeof p.s, "%s", text->data);
    ace_text_free(text);
    return p;
}

report_phrase report_gib(double gib)
{
    report_phrase p;
    snprintf(p.s, sizeof p.s, "%.1f", gib);
    return p;
}

report_phrase report_number(double n)
{
    report_phrase p;
    snprintf(p.s, sizeof p.s, "%g", n);
    return p;
}

report_phrase report_tier_name(const tier *t, texts_language language)
{
    ace_text text = {0};
    if (tiers_number(t))
        texts_add(&text, language, TEXT_TIER, report_number(tiers_number(t)).s, NULL);
    else if (strcmp(t->id, "unlimited") == 0)
        texts_add(&text, language, TEXT_UNLIMITED, NULL);
    else
        ace_text_add(&text, t->id);
    return phrase(&text);
}

report_phrase report_range(const tiers_profile *profile, const tier *t, texts_language language)
{
    ace_text text = {0};
    const tier *next = t + 1 < profile->tiers + profile->count ? t + 1 : NULL;
    bool lower = t->start > 0;
    if (lower) texts_add(&text, language, t->start_included ? TEXT_FROM : TEXT_ABOVE, report_number(t->start).s, NULL);
    if (lower && next) texts_add(&text, language, TEXT_RANGE_JOIN, NULL);
    if (next)
        texts_add(&text, language, next->start_included ? TEXT_BELOW : TEXT_UP_TO, report_number(next->start).s, NULL);
    return phrase(&text);
}

report_phrase report_duration(int seconds, texts_language language)
{
    ace_text text = {0};
    if (seconds % 60 == 0)
        texts_add(&text, language, TEXT_MINUTES, report_number(seconds / 60).s, NULL);
    else
        texts_add(&text, language, TEXT_SECONDS, report_number(seconds).s, NULL);
    return phrase(&text);
}

report_phrase report_lm_models(const tier *t, texts_language language)
{
    ace_text text = {0};
    for (tiers_lm lm = 0; lm < TIERS_LM_COUNT; lm++) {
        if (!(t->lm_models & 1u << lm)) continue;
        ace_text_format(&text, "%s%s", text.length ? ", " : "", tiers_lm_name(lm));
    }
    if (!text.length) texts_add(&text, language, TEXT_NONE, NULL);
    return phrase(&text);
}

report_phrase report_lm_share(const tier *t, texts_language language)
{
    ace_text text = {0};
    if (t->lm_unlimited) texts_add(&text, language, TEXT_NO_LIMIT, NULL);
    for (tiers_lm lm = 0; lm < TIERS_LM_COUNT && !t->lm_unlimited; lm++) {
        if (!(t->lm_models & 1u << lm)) continue;
        ace_text_format(&text, "%s%s: %g GB", text.length ? ", " : "", tiers_lm_name(lm), t->lm_share[lm]);
    }
    if (!text.length) texts_add(&text, language, TEXT_NONE, NULL);
    return phrase(&text);
}

void report_computing(const ace_machine *machine, texts_language language, ace_text *out)
{
    const detect_device *d = &machine->detected.devices[machine->device];
    if (machine->computes)
        texts_add(out, language, TEXT_ON_CARD, d->id, d->name, NULL);
    else
        texts_add(out, language, TEXT_ON_CPU, NULL);
}

void report_problem(const detect_device *device, texts_language language, ace_text *out)
{
    texts_add(out, language, TEXT_PROBLEM + device->problem, device->detail, NULL);
}
