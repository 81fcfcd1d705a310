#include "vram/limits.h"

#include <stdio.h>
#include <string.h>

double limits_max_duration(const limits_basis *basis, bool with_lm)
{
    return basis->tier->max_duration[with_lm];
}

int limits_max_batch(const limits_basis *basis, bool with_lm)
{
    return basis->tier->max_batch[with_lm];
}

int limits_lm_duration(const limits_basis *basis)
{
    int limit = basis->tier->max_duration[1];
    return limit < 10 ? 10 : limit;
}

/* "8.0 GB of GPU memory (tier 4)", "5.2 GB of available memory (CPU)". */
static const char *memory_text(const limits_basis *basis, char text[96])
{
    char tier_text[32];
    int number = tiers_number(basis->tier);
    snprintf(tier_text, sizeof tier_text, number ? "tier %d" : "the unlimited tier", number);
    if (!number && strcmp(basis->tier->id, "unlimited") != 0)
        snprintf(tier_text, sizeof tier_text, "%s", basis->tier->id);
    if (basis->source == LIMITS_CPU)
        snprintf(text, 96, "%.1f GB of memory for the CPU", basis->gib);
    else
        snprintf(text, 96, "%.1f GB of %sGPU memory (%s)", basis->gib,
                 basis->source == LIMITS_SIMULATED ? "simulated " : "", tier_text);
    return text;
}

/* What to do about it: the language model costs memory, so without it there may be more. */
static const char *remedy_text(bool with_lm, double without, double limit, const char *unit, char text[96])
{
    text[0] = '\0';
    if (with_lm && without > limit) snprintf(text, 96, "; without the language model %g%s are allowed", without, unit);
    return text;
}

static const char *lm_text(bool with_lm)
{
    return with_lm ? "with the language model" : "without the language model";
}

void limits_request(const limits_basis *basis, bool with_lm, double duration, limits_origin origin, int batch,
                    limits_result *result)
{
    char memory[96], remedy[96];
    double longest = limits_max_duration(basis, with_lm);
    int largest = limits_max_batch(basis, with_lm);
    *result = (limits_result){.duration = duration, .batch = batch};
    memory_text(basis, memory);
    if (!(duration <= longest)) {
        result->duration = longest;
        snprintf(result->duration_warning, LIMITS_SENTENCE,
                 "%s %g s, but %s allow at most %g s %s, so the duration is reduced to %g s%s",
                 origin == LIMITS_SOURCE_AUDIO ? "the source audio lasts" : "the requested duration is", duration,
                 memory, longest, lm_text(with_lm), longest,
                 remedy_text(with_lm, limits_max_duration(basis, false), longest, " s", remedy));
    }
    if (batch > largest) {
        result->batch = largest;
        snprintf(result->batch_warning, LIMITS_SENTENCE,
                 "the requested batch size is %d, but %s allow at most %d %s, so the batch size is reduced to %d%s",
                 batch, memory, largest, lm_text(with_lm), largest,
                 remedy_text(with_lm, limits_max_batch(basis, false), largest, "", remedy));
    }
}
