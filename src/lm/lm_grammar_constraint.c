#include "lm/lm_grammar_constraint.h"

static void next(void *context, lm_next *answer)
{
    static const lm_next_kind kinds[] = {[LM_STEP_FORCED] = LM_NEXT_FORCED,
                                         [LM_STEP_CHOOSE] = LM_NEXT_CHOOSE,
                                         [LM_STEP_LOOK] = LM_NEXT_LOOK,
                                         [LM_STEP_DONE] = LM_NEXT_DONE};
    lm_grammar_item *item = context;
    lm_grammar_next(&item->state, &item->step);
    *answer = (lm_next){.kind = kinds[item->step.kind],
                        .forced = item->step.forced,
                        .forced_count = (int64_t)item->step.forced_count,
                        .allowed = item->step.allowed,
                        .steps = item->step.repeats};
}

static void look(void *context, int32_t best, bool tied)
{
    lm_grammar_item *item = context;
    lm_grammar_look(&item->state, best, tied);
}

static bool accept(void *context, int32_t token)
{
    lm_grammar_item *item = context;
    return lm_grammar_accept(&item->state, token);
}

lm_constraint lm_grammar_constraint(lm_grammar_item *item, const lm_grammar_plan *plan)
{
    lm_grammar_begin(&item->state, plan);
    return (lm_constraint){.context = item, .next = next, .look = look, .accept = accept};
}
