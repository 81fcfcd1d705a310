/* report_parts.h - phrases that the reports share. */
#ifndef ACE_VRAM_REPORT_PARTS_H
#define ACE_VRAM_REPORT_PARTS_H

#include "vram/machine.h"

/* A short string by value, so that it may stand among the arguments of texts_add(). */
typedef struct report_phrase {
    char s[256];
} report_phrase;

report_phrase report_gib(double gib);                                                             /* "12.0" */
report_phrase report_number(double n);                                                            /* "12", "7.5" */
report_phrase report_tier_name(const tier *t, texts_language language);                           /* "Tier 4" */
report_phrase report_range(const tiers_profile *profile, const tier *t, texts_language language); /* "8 to 12 GB" */
report_phrase report_duration(int seconds, texts_language language);                              /* "4 min" */
report_phrase report_lm_models(const tier *t, texts_language language);                           /* "0.6B, 1.7B" */
report_phrase report_lm_share(const tier *t, texts_language language);                            /* "0.6B: 3 GB" */

/* Which device computes. */
void report_computing(const ace_machine *machine, texts_language language, ace_text *out);

/* The sentence for a device's problem. */
void report_problem(const detect_device *device, texts_language language, ace_text *out);

#endif
