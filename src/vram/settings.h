/* settings.h - what is set without asking, what a person set, and which of the two holds: an explicit setting always
 * wins over the tier's, and is told when the tier advises against it. */
#ifndef ACE_VRAM_SETTINGS_H
#define ACE_VRAM_SETTINGS_H

#include "vram/limits.h"

typedef enum settings_origin { SETTINGS_TIER, SETTINGS_FILE, SETTINGS_ENVIRONMENT, SETTINGS_USER } settings_origin;

const char *settings_origin_name(settings_origin origin); /* "tier", "file", "env", "user" */

/* What a person asked for on the command line or in the page. */
typedef struct settings_wish {
    const char *init_lm;  /* NULL or "auto": as the tier; "true" or "false" (also yes, no, on, off, 1, 0) */
    const char *lm_model; /* NULL: as the tier; else a name that contains 0.6B, 1.7B or 4B */
} settings_wish;

typedef struct settings {
    bool init_lm;
    settings_origin init_lm_origin;
    tiers_lm lm_model; /* TIERS_LM_NONE when the language model is not started and none was named */
    settings_origin lm_model_origin;
    char warning[LIMITS_SENTENCE]; /* "" or why the tier advises against it */
} settings;

/* Decides from the tier, the environment (ACESTEP_INIT_LLM and ACESTEP_LM_MODEL_PATH through `variable`, which may be
 * NULL) and the wish, in rising order of weight. A word that means nothing is ACE_ERROR_USAGE. */
bool settings_decide(const limits_basis *basis, const char *(*variable)(const char *name), const settings_wish *wish,
                     settings *result, ace_error *error);

/* Refuses `feature` ("thinking", "formatting lyrics") with ACE_ERROR_USAGE when the language model is off. */
bool settings_need_lm(const settings *s, const limits_basis *basis, const char *feature, ace_error *error);

#endif
