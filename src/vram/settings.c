#include "vram/settings.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

const char *settings_origin_name(settings_origin origin)
{
    static const char *const names[] = {"tier", "file", "env", "user"};
    return names[origin];
}

/* 1 yes, 0 no, -1 "auto" or nothing, -2 not a word for any of them. */
static int truth(const char *word)
{
    static const char *const yes[] = {"true", "yes", "on", "1"}, *const no[] = {"false", "no", "off", "0"};
    if (!word || !*word || strcasecmp(word, "auto") == 0) return -1;
    for (int i = 0; i < 4; i++) {
        if (strcasecmp(word, yes[i]) == 0) return 1;
        if (strcasecmp(word, no[i]) == 0) return 0;
    }
    return -2;
}

/* Takes over `word` (whether to start the language model) from `origin` if it says anything. */
static bool take_init(const char *word, const char *name, settings_origin origin, settings *s, ace_error *error)
{
    int value = truth(word);
    if (value == -2)
        return ace_fail(error, ACE_ERROR_USAGE, "%s cannot be '%.40s': choose auto, true or false", name, word);
    if (value >= 0) {
        s->init_lm = value == 1;
        s->init_lm_origin = origin;
    }
    return true;
}

static bool take_model(const char *model, const char *name, settings_origin origin, settings *s, ace_error *error)
{
    if (!model || !*model) return true;
    s->lm_model = tiers_lm_find(model);
    s->lm_model_origin = origin;
    return s->lm_model != TIERS_LM_NONE ||
           ace_fail(error, ACE_ERROR_USAGE, "%s cannot be '%.80s': give a name that contains 0.6B, 1.7B or 4B", name,
                    model);
}

static settings_origin origin_of(tiers_place place)
{
    return place.line ? SETTINGS_FILE : SETTINGS_TIER;
}

static void advise(const limits_basis *basis, settings *s)
{
    const tier *t = basis->tier;
    const char *who = s->init_lm_origin == SETTINGS_USER || s->lm_model_origin == SETTINGS_USER
                          ? "was asked for"
                          : "is set in the environment";
    const char *memory = basis->source == LIMITS_CPU ? "memory for the CPU" : "GPU memory";
    if (!s->init_lm || t->lm_models & 1u << s->lm_model) return;
    if (t->lm_models == 0)
        snprintf(s->warning, sizeof s->warning,
                 "the language model %s is started because it %s, though %.1f GB of %s are too little for any "
                 "language model beside the song; it may run out of memory",
                 tiers_lm_name(s->lm_model), who, basis->gib, memory);
    else
        snprintf(s->warning, sizeof s->warning,
                 "the language model %s is started because it %s, though %s is the one for %.1f GB of %s; it may run "
                 "out of memory",
                 tiers_lm_name(s->lm_model), who, tiers_lm_name(t->lm_model), basis->gib, memory);
}

bool settings_decide(const limits_basis *basis, const char *(*variable)(const char *name), const settings_wish *wish,
                     settings *result, ace_error *error)
{
    const tier *t = basis->tier;
    *result = (settings){.init_lm = t->init_lm,
                         .init_lm_origin = origin_of(t->places[TIERS_KEY_INIT_LM]),
                         .lm_model = t->lm_model,
                         .lm_model_origin = origin_of(t->places[TIERS_KEY_LM_MODEL])};
    if (variable &&
        (!take_init(variable("ACESTEP_INIT_LLM"), "ACESTEP_INIT_LLM", SETTINGS_ENVIRONMENT, result, error) ||
         !take_model(variable("ACESTEP_LM_MODEL_PATH"), "ACESTEP_LM_MODEL_PATH", SETTINGS_ENVIRONMENT, result, error)))
        return false;
    if (wish && (!take_init(wish->init_lm, "--init-lm", SETTINGS_USER, result, error) ||
                 !take_model(wish->lm_model, "--lm-model", SETTINGS_USER, result, error)))
        return false;
    /* asked to start one where the tier has none to recommend: the smallest */
    if (result->init_lm && result->lm_model == TIERS_LM_NONE) result->lm_model = TIERS_LM_0_6B;
    advise(basis, result);
    return true;
}

bool settings_need_lm(const settings *s, const limits_basis *basis, const char *feature, ace_error *error)
{
    if (s->init_lm) return true;
    bool chosen = s->init_lm_origin == SETTINGS_USER || s->init_lm_origin == SETTINGS_ENVIRONMENT;
    if (chosen)
        return ace_fail(error, ACE_ERROR_USAGE, "%s needs the language model, which was switched off: switch it on",
                        feature);
    return ace_fail(error, ACE_ERROR_USAGE,
                    "%s needs the language model, which is off by default with %.1f GB of %s: switch it "
                    "on or do without %s",
                    feature, basis->gib, basis->source == LIMITS_CPU ? "memory for the CPU" : "GPU memory", feature);
}
