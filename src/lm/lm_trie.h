/* lm_trie.h - the values of a field as a tree of tokens: which token may follow those written so far. */
#ifndef ACE_LM_TRIE_H
#define ACE_LM_TRIE_H

#include "lm/lm_token_set.h"

typedef struct lm_trie_node {
    int32_t token;           /* that leads here */
    uint32_t child, sibling; /* 0: none, for the root is nobody's child */
    bool complete;           /* the tokens from the root to here are a value */
    uint32_t set_at, set_count;
} lm_trie_node;

/* Zero-initialise to start empty; release with lm_trie_free(). */
typedef struct lm_trie {
    lm_trie_node *nodes; /* nodes[0] is the root */
    size_t count, capacity;
    lm_token_range *ranges;
} lm_trie;

enum { LM_TRIE_ROOT = 0, LM_TRIE_NOWHERE = INT32_MAX }; /* NOWHERE: no value starts with these tokens */

/* While it is built: one value of `count` tokens. */
bool lm_trie_add(lm_trie *trie, const int32_t *tokens, size_t count, ace_error *error);

/* After the last value. A complete value is followed by `terminator`, besides the longer values that start with it. */
bool lm_trie_finish(lm_trie *trie, int32_t terminator, ace_error *error);
void lm_trie_free(lm_trie *trie);

/* The tokens that may follow at `node`; empty at NOWHERE. */
lm_token_set lm_trie_allowed(const lm_trie *trie, uint32_t node);

uint32_t lm_trie_step(const lm_trie *trie, uint32_t node, int32_t token);

#endif
