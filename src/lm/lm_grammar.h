/* lm_grammar.h - constrained decoding: which tokens the planner may write next (spec/lm.md 4).
 *
 * The planner writes seven fields in a fixed order between <think> and </think>, and then lyrics or audio codes. A
 * grammar is the tables of that language for one tokenizer; a plan is one request's use of it (what is forced, what is
 * left out, how many codes); a state is the place of one sequence in its plan, a small struct that may be copied. The
 * engine asks and tells:
 *
 *     lm_grammar_begin(&state, plan);
 *     for (;;) {
 *         lm_grammar_next(&state, &step);
 *         switch (step.kind) {
 *         case LM_STEP_FORCED: accept each of step.forced, and feed the run to the model as one prefill; break;
 *         case LM_STEP_LOOK:   tell lm_grammar_look() the best id of step.allowed; break;      (same logits)
 *         case LM_STEP_CHOOSE: sample from step.allowed; feed the token only if it is accepted; break;
 *         case LM_STEP_DONE:   return;
 *         }
 *     }
 *
 * The last run of a sequence may end in <|im_end|>, which is no part of its text; when next() says DONE after a run was
 * accepted, the run need not be fed to the model at all. */
#ifndef ACE_LM_GRAMMAR_H
#define ACE_LM_GRAMMAR_H

#include "lm/lm_metadata.h"
#include "lm/lm_profile.h"
#include "lm/lm_token_set.h"
#include "text/bpe.h"

enum {
    LM_CODES = 64000, /* entries of the audio codebook: 8*8*8*5*5*5 */
    LM_CODES_PER_SECOND = 5,
    LM_MIN_DURATION = 10, /* seconds */
    LM_MAX_DURATION = 600,
    LM_MAX_CAPTION_TOKENS = 512,
    LM_MAX_GENRES_TOKENS = 64, /* without a list, default profile */
    LM_MAX_RUN = 64            /* forced tokens that one step can hold; longer runs take several steps */
};

typedef struct lm_grammar lm_grammar;
typedef struct lm_grammar_plan lm_grammar_plan;

typedef struct lm_grammar_options {
    lm_profile profile;
    int max_duration;        /* the longest song in seconds that the model may choose, 10 to 600; 0 means 600 */
    const char *genres_path; /* one genre a line; NULL: genres are free text */
} lm_grammar_options;

/* The tables for a planner's tokenizer, which must outlive them. ACE_ERROR_MODEL when the tokenizer is not a planner's.
 * Immutable afterwards: any number of threads may use it. */
lm_grammar *lm_grammar_new(const ace_tokenizer *tokenizer, const lm_grammar_options *options, ace_error *error);
void lm_grammar_free(lm_grammar *grammar);

typedef enum lm_phase {
    LM_PHASE_COT,        /* metadata; then nothing (stop_at_reasoning) or audio codes */
    LM_PHASE_UNDERSTAND, /* metadata, then free text: the lyrics */
    LM_PHASE_CODES       /* audio codes only; the prompt holds the metadata */
} lm_phase;

typedef struct lm_grammar_request {
    lm_phase phase;
    bool stop_at_reasoning; /* <|im_end|> in place of </think> */
    bool skip_caption, skip_genres, skip_language;
    const lm_metadata *given; /* values that are forced, not chosen; NULL for none. Not kept */
    double duration;          /* seconds of audio codes; <= 0: until the model stops */
} lm_grammar_request;

/* ACE_ERROR_USAGE when the duration is not a number of seconds, or when a given value holds control tokens (default
 * profile). The grammar must outlive the plan. */
lm_grammar_plan *lm_grammar_plan_new(const lm_grammar *grammar, const lm_grammar_request *request, ace_error *error);
void lm_grammar_plan_free(lm_grammar_plan *plan);

/* How many audio codes the plan asks for, -1: as many as the model likes. official: floor(5 * duration); default: the
 * same after the duration was limited to 10 ... max_duration seconds. */
int64_t lm_grammar_plan_codes(const lm_grammar_plan *plan);

/* A prefix of genres in the sorted list: the entries first <= i < end start with its `length` bytes. */
typedef struct lm_genre_prefix {
    uint32_t first, end, length;
} lm_genre_prefix;

/* The place of one sequence. Copy freely; the members are lm_grammar.c's business. */
typedef struct lm_grammar_state {
    const lm_grammar_plan *plan;
    int place;
    lm_field field;
    int run;            /* which forced text */
    uint32_t at;        /* in it, or in the given value */
    uint32_t node;      /* in the field's trie */
    int64_t count;      /* tokens of the caption or the genres, or audio codes */
    int32_t chosen;     /* the language's first token once looked at, else -1 */
    bool looked, force; /* genres: the best token was looked at, and it is the newline */
    bool blank;         /* nothing but white space so far */
    bool after_newline, ending;
    lm_genre_prefix genre, genre_tail; /* without and with trailing white space */
    char name[48];                     /* official: the field name that the model writes after its caption */
    uint8_t name_length;
    bool name_lost; /* it is too long or too odd to be one */
} lm_grammar_state;

typedef enum lm_step_kind { LM_STEP_FORCED, LM_STEP_CHOOSE, LM_STEP_LOOK, LM_STEP_DONE } lm_step_kind;

typedef struct lm_grammar_step {
    lm_step_kind kind;
    int32_t forced[LM_MAX_RUN]; /* FORCED: these tokens, in this order */
    size_t forced_count;
    lm_token_set allowed; /* CHOOSE, LOOK; valid until the next call for a state of the same plan */
    int64_t repeats;      /* CHOOSE: so many tokens are chosen from `allowed`, whatever they are; at least 1 */
} lm_grammar_step;

void lm_grammar_begin(lm_grammar_state *state, const lm_grammar_plan *plan);

void lm_grammar_next(const lm_grammar_state *state, lm_grammar_step *step);

/* The answer to LM_STEP_LOOK: the id of step.allowed with the highest value after guidance and before temperature, the
 * lowest of equals; `tied` when there are equals. The same position is asked about again by next(). */
void lm_grammar_look(lm_grammar_state *state, int32_t best, bool tied);

/* A token was chosen or forced. False when the grammar discards a chosen token: it is not part of the text, and the
 * next step, from the same logits, is a forced run (spec/lm.md 4.7). */
bool lm_grammar_accept(lm_grammar_state *state, int32_t token);

#endif
