/* lm_engine.h - the planner writes: prompts go in, tokens come out, several items at a time (lm.md 5, 8).
 *
 * All items of a call, and the unconditional rows of guidance, go through the model together, so that each weight is
 * read once a step. A prompt that several items share is computed once; what a prompt shares with the one before it
 * (the plan is the beginning of the prompt for the codes) is not computed again. Runs of forced tokens are read in one
 * pass, and the head is computed for the allowed tokens only. Where the device chooses, tokens that are known to be
 * accepted are read by the model before the host knows them: the host follows a few tokens behind. None of this shows
 * in the result: an item gets what it gets alone. */
#ifndef ACE_LM_LM_ENGINE_H
#define ACE_LM_LM_ENGINE_H

#include "lm/lm_chooser.h"

/* ---- what may be written --------------------------------------------------------------------------------------- */

typedef enum lm_next_kind {
    LM_NEXT_FORCED, /* these tokens: accept() is told each of them */
    LM_NEXT_CHOOSE, /* one of `allowed`, sampled: accept() is told which */
    LM_NEXT_LOOK,   /* look() is told the best of `allowed`; then next() is asked again */
    LM_NEXT_DONE    /* the text is complete */
} lm_next_kind;

typedef struct lm_next {
    lm_next_kind kind;
    const int32_t *forced; /* at least one */
    int64_t forced_count;
    lm_token_set allowed; /* not empty; valid until the next call for this item */
    int64_t steps;        /* CHOOSE: so many tokens, one after the other, may be chosen from `allowed` and are accepted,
                             whatever they are, `allowed` being valid for so long; 0 and 1: this one */
} lm_next;

/* The rules of one item's text: a grammar, or none. */
typedef struct lm_constraint {
    void *context;
    void (*next)(void *context, lm_next *next);
    /* The allowed id with the highest value after guidance and before temperature, the lowest of equals; `tied` when
     * there are equals. May be NULL where next() never says LOOK. */
    void (*look)(void *context, int32_t best, bool tied);
    /* False: the token is not part of the text, and next() is asked again for its place. Only for chosen tokens. */
    bool (*accept)(void *context, int32_t token);
} lm_constraint;

/* Any token of a vocabulary, until `end` is chosen, which is not part of the text (-1: never). */
typedef struct lm_free_text {
    lm_token_range vocabulary;
    int32_t end;
    bool ended;
} lm_free_text;

lm_constraint lm_constraint_free_text(lm_free_text *text);

/* ---- a session ------------------------------------------------------------------------------------------------- */

typedef struct lm_session_limits {
    int items;         /* most items of a call, 1 ... LM_MAX_ITEMS */
    bool guided;       /* calls may use guidance */
    int64_t rows;      /* tokens of all sequences together: see lm_rows_needed() */
    int64_t positions; /* the longest prompt with the longest text */
    int64_t pass;      /* most tokens computed at once: what bounds the working memory; 0: 512 */
} lm_session_limits;

/* Rows of a call: `prompt` is the longest prompt of `items` items that write up to `tokens` each; `negative` the length
 * of the unconditional prompt, 0 without guidance. */
int64_t lm_rows_needed(int items, int64_t prompt, int64_t negative, int64_t tokens);

typedef struct lm_session lm_session;

/* Takes its memory on top of the scratch stack of the model's device, all that it will ever use: on the meter this call
 * alone gives the plan. `model` must outlive the session. NULL with an error. */
lm_session *lm_session_open(const qwen3_lm *model, const lm_session_limits *limits, ace_error *error);

/* Gives the scratch back. NULL is allowed. */
void lm_session_close(lm_session *session);

/* Tokens of the last call's prompt that were found in the session and not computed again. */
int64_t lm_session_reused(const lm_session *session);

/* ---- writing --------------------------------------------------------------------------------------------------- */

typedef struct lm_item {
    const int32_t *prompt;
    int64_t prompt_count; /* at least 1 */
    lm_constraint constraint;
    uint64_t seed;
    int32_t *tokens; /* out: room for options.max_tokens */
    int64_t count;   /* out */
    bool complete;   /* out: the constraint said DONE; false: max_tokens came first */
} lm_item;

typedef struct lm_progress {
    int64_t tokens, max_tokens; /* of the longest item */
    double seconds;             /* since the first token was due, prompts excluded */
} lm_progress;

typedef struct lm_write_options {
    lm_sampling sampling;
    lm_stream stream;
    int64_t max_tokens;      /* of each item, at least 1 */
    const int32_t *negative; /* the unconditional prompt; used iff sampling.guidance > 1 */
    int64_t negative_count;
    void (*progress)(void *user, const lm_progress *progress); /* after every step; may be NULL */
    void *user;
} lm_write_options;

/* Writes all items. On the meter every choice is the lowest allowed id. Errors: ACE_CANCELLED by the device's flag,
 * ACE_ERROR_USAGE for options out of range, ACE_ERROR_MODEL when the values are not finite numbers. */
bool lm_write(lm_session *session, lm_item *items, int count, const lm_write_options *options, ace_error *error);

#endif
