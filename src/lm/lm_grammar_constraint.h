/* lm_grammar_constraint.h - a plan of the grammar as the rules of one of the engine's items. */
#ifndef ACE_LM_GRAMMAR_CONSTRAINT_H
#define ACE_LM_GRAMMAR_CONSTRAINT_H

#include "lm/lm_engine.h"
#include "lm/lm_grammar.h"

typedef struct lm_grammar_item {
    lm_grammar_state state;
    lm_grammar_step step;
} lm_grammar_item;

/* The rules of an item at the start of `plan`. Both must live as long as they are used. Items may share a plan, except
 * one that writes genres from a list: its token sets are the plan's memory. */
lm_constraint lm_grammar_constraint(lm_grammar_item *item, const lm_grammar_plan *plan);

#endif
