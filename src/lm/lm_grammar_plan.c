/* A request becomes a plan: its given values as tokens, its duration as a number of codes. */
#include "lm/lm_grammar_tables.h"

#include "base/error.h"
#include "base/memory.h"

#include <math.h>
#include <stdlib.h>

/* Official takes what the user wrote, control tokens and all; the default profile refuses what would end the text. */
static bool check_given(const lm_grammar *grammar, lm_field field, const ace_ids *ids, ace_error *error)
{
    if (grammar->profile == LM_PROFILE_OFFICIAL) return true;
    for (size_t i = 0; i < ids->count; i++)
        if (!(grammar->traits[ids->data[i]] & LM_TRAIT_TEXT))
            return ace_fail(error, ACE_ERROR_USAGE, "the given %s contains a control token: leave it out",
                            lm_field_name(field));
    return true;
}

/* The tokens of " value\n", encoded on their own: a full stop at the end may fuse with the newline (spec/lm.md 4.7). */
static bool encode_given(lm_grammar_plan *plan, const lm_metadata *given, ace_error *error)
{
    for (lm_field field = 0; given && field < LM_FIELD_COUNT; field++) {
        if (!lm_metadata_has(given, field)) continue;
        ace_text text = {0};
        ace_text_add(&text, " ");
        lm_value_write(&text, &given->fields[field]);
        ace_text_add(&text, "\n");
        ace_ids *ids = &plan->given[field];
        bool ok = !text.failed || ace_fail_memory(error, "a given field", text.length);
        ok = ok && (tokenizer_encode(plan->grammar->tokenizer, text.data, text.length, ids, error) ||
                    ace_fail_in(error, "the given %s", lm_field_name(field)));
        ok = ok && check_given(plan->grammar, field, ids, error);
        ace_text_free(&text);
        if (!ok) return false;
    }
    return true;
}

static bool count_codes(lm_grammar_plan *plan, double duration, ace_error *error)
{
    enum { LONGEST = 1000000 }; /* seconds; far beyond any use, and all counts stay small */
    plan->codes = -1;
    if (isnan(duration) || duration > LONGEST)
        return ace_fail(error, ACE_ERROR_USAGE, "a duration of %g s: give seconds from %d to %d", duration,
                        LM_MIN_DURATION, plan->grammar->max_duration);
    if (duration <= 0) return true;
    if (plan->grammar->profile == LM_PROFILE_DEFAULT)
        duration = fmin(fmax(duration, LM_MIN_DURATION), plan->grammar->max_duration);
    plan->codes = (int64_t)(duration * LM_CODES_PER_SECOND);
    return true;
}

lm_grammar_plan *lm_grammar_plan_new(const lm_grammar *grammar, const lm_grammar_request *request, ace_error *error)
{
    lm_grammar_plan *plan = ace_calloc(1, sizeof *plan, "a plan for the planner", error);
    if (!plan) return NULL;
    plan->grammar = grammar;
    plan->phase = request->phase;
    plan->stop_at_reasoning = request->stop_at_reasoning;
    plan->skip[LM_CAPTION] = request->skip_caption;
    plan->skip[LM_GENRES] = request->skip_genres;
    plan->skip[LM_LANGUAGE] = request->skip_language;
    bool ok = encode_given(plan, request->given, error) && count_codes(plan, request->duration, error);
    if (ok && grammar->has_genres) {
        plan->bits = ace_calloc((size_t)grammar->limit / 64 + 1, sizeof *plan->bits, "the genres", error);
        plan->ranges = ace_calloc((size_t)grammar->limit / 2 + 1, sizeof *plan->ranges, "the genres", error);
        ok = plan->bits && plan->ranges;
    }
    if (ok) return plan;
    lm_grammar_plan_free(plan);
    return NULL;
}

void lm_grammar_plan_free(lm_grammar_plan *plan)
{
    if (!plan) return;
    for (lm_field field = 0; field < LM_FIELD_COUNT; field++) ace_ids_free(&plan->given[field]);
    free(plan->bits);
    free(plan->ranges);
    free(plan);
}

int64_t lm_grammar_plan_codes(const lm_grammar_plan *plan)
{
    return plan->codes;
}
