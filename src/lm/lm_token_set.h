/* lm_token_set.h - a set of token ids: what may come next.
 *
 * Kept as sorted ranges, because that is what the sets of the planner are (64,000 neighbouring codes, the whole text
 * vocabulary without a few ids, ten digits) and what a head restricted to some of its rows wants. */
#ifndef ACE_LM_TOKEN_SET_H
#define ACE_LM_TOKEN_SET_H

#include <acestep.h>

/* The ids first <= id < end. */
typedef struct lm_token_range {
    int32_t first, end;
} lm_token_range;

/* Ascending, neither empty nor touching. Somebody else's memory. */
typedef struct lm_token_set {
    const lm_token_range *ranges;
    size_t count;
} lm_token_set;

bool lm_token_set_contains(lm_token_set set, int32_t id);

/* How many ids there are. */
int64_t lm_token_set_size(lm_token_set set);

/* Writes the ids of the bits that are set in words[0 ... limit/64] as ranges (at most limit / 2 + 1 of them). */
lm_token_set lm_token_set_from_bits(const uint64_t *words, int32_t limit, lm_token_range *ranges);

#endif
