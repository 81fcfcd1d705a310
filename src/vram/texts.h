/* texts.h - what a user reads about the machine, in English, Korean, Japanese and Chinese: one table, one row a text.
 */
#ifndef ACE_VRAM_TEXTS_H
#define ACE_VRAM_TEXTS_H

#include "base/text.h"

typedef enum texts_language { TEXTS_EN, TEXTS_KO, TEXTS_JA, TEXTS_ZH, TEXTS_LANGUAGES } texts_language;

typedef enum texts_key {
    TEXT_COMMA,
    /* devices */
    TEXT_DEVICES,
    TEXT_MEMORY_FREE, /* total, free */
    TEXT_MEMORY_TOTAL,
    TEXT_MEMORY_UNKNOWN,
    TEXT_MEMORY_SHARED,
    TEXT_MEMORY_HOST, /* total, available */
    TEXT_LIMITED,
    TEXT_THREADS,
    TEXT_CAPABILITY,
    TEXT_DRIVER,
    TEXT_USED_BY,
    TEXT_USED_MORE,
    TEXT_UNUSABLE,
    TEXT_TRUNCATED,
    TEXT_DRIVER_SILENT,
    TEXT_PROBLEM, /* and one for each detect_problem, in its order; {0} is the detail */
    TEXT_PROBLEM_LAST = TEXT_PROBLEM + 14,
    /* what holds */
    TEXT_ON_CPU,
    TEXT_ON_CARD,          /* device, name */
    TEXT_PLUGIN,           /* path */
    TEXT_SIMULATED,        /* GB, variable */
    TEXT_LIMITS_CPU,       /* GB */
    TEXT_LIMITS_SIMULATED, /* GB, tier, range */
    TEXT_LIMITS_CARD,      /* device, GB, tier, range */
    TEXT_CARD_TIER,        /* device, GB, tier, range */
    TEXT_CHOSEN_TIER,      /* tier */
    TEXT_PROFILE,
    TEXT_NOT_MEASURED,
    TEXT_FILE_USED,
    TEXT_MEASURE_HINT,
    /* a tier */
    TEXT_TIER,
    TEXT_UNLIMITED,
    TEXT_FROM,
    TEXT_ABOVE,
    TEXT_BELOW,
    TEXT_UP_TO,
    TEXT_RANGE_JOIN,
    TEXT_MINUTES,
    TEXT_SECONDS,
    TEXT_LONGEST, /* with, without */
    TEXT_LARGEST,
    TEXT_LM_MODELS,
    TEXT_NONE,
    TEXT_LM_START,
    TEXT_YES,
    TEXT_NO,
    TEXT_ON,
    TEXT_OFF,
    TEXT_AUTO,
    TEXT_LM_RECOMMENDED,
    TEXT_LM_SHARE,
    TEXT_NO_LIMIT,
    TEXT_OPTIONS,
    TEXT_ORIGIN, /* and one for each settings_origin, in its order */
    TEXT_ORIGIN_LAST = TEXT_ORIGIN + 3,
    TEXT_PLAN_DECIDES,
    TEXT_WHAT_IS_AUTOMATIC,
    TEXT_ADVICE_LINE,
    TEXT_ADVICE, /* and one for each tiers_advice, in its order */
    TEXT_ADVICE_LAST = TEXT_ADVICE + 2,
    /* tables */
    TEXT_HEAD_TIER,
    TEXT_HEAD_MEMORY,
    TEXT_HEAD_LM,
    TEXT_HEAD_START,
    TEXT_HEAD_DURATION,
    TEXT_HEAD_BATCH,
    TEXT_HEAD_SHARE,
    TEXT_HEAD_ADVICE,
    TEXT_COUNT
} texts_key;

/* Never NULL. */
const char *texts_get(texts_language language, texts_key key);

/* Appends a text with {0}, {1}, ... replaced by the strings that follow, which NULL ends. */
void texts_add(ace_text *out, texts_language language, texts_key key, ...) __attribute__((sentinel));

/* "en", "ko", "ja", "zh" (also with a territory, "zh_CN"). False for any other. */
bool texts_find_language(const char *name, texts_language *language);

/* The language of LC_ALL, LC_MESSAGES or LANG, the first that is set; English for languages that the table lacks and
 * for character sets other than UTF-8. */
texts_language texts_language_of(const char *(*variable)(const char *name));

#endif
