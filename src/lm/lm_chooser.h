/* lm_chooser.h - from the model's states to one id for each item: the head's values for the allowed ids, penalty,
 * guidance, and the choice (lm.md 5.1).
 *
 * Where the device samples, only what was chosen comes back from it. Elsewhere, and with a repetition penalty, which
 * needs to know what was written, the values do, and lm_sampling.h chooses. */
#ifndef ACE_LM_LM_CHOOSER_H
#define ACE_LM_LM_CHOOSER_H

#include "lm/lm_sampling.h"
#include "lm/lm_token_set.h"
#include "model/qwen3_lm.h"

enum { LM_MAX_ITEMS = 16 };

typedef struct lm_chooser {
    const qwen3_lm *model;
    ace_device *dev;
    int64_t vocabulary;
    ace_mat logits;   /* F32, room for the whole vocabulary of every row */
    ace_mat choices;  /* F32 [items][2], as ace_sample() leaves them; where the device samples */
    float *values[2]; /* host: of one item, conditional and unconditional */
    int32_t *ids;     /* the allowed ones, where they are no neighbours */
    lm_sampler sampler;
} lm_chooser;

/* Takes scratch of the model's device for up to `items` items, each with one row of values, or two when guided. False
 * with an error; close() is due in any case. */
bool lm_chooser_open(lm_chooser *chooser, const qwen3_lm *model, int items, bool guided, ace_error *error);
void lm_chooser_close(lm_chooser *chooser); /* safe on a zeroed one; the scratch stays */

/* One item's choice. */
typedef struct lm_choice {
    const uint64_t *seen; /* bits of the ids that it has written */
    double uniform;       /* lm_uniform() */
    int32_t id;           /* out; -1 when a value is not finite */
    bool tied;            /* out: with temperature 0, whether another id has the same value; else false */
} lm_choice;

/* `count` items choose from `allowed`. states: F32, the conditional states of all items, then, with guidance, the
 * unconditional ones. On the meter the lowest id is chosen. False with an error. */
bool lm_choose(lm_chooser *chooser, lm_token_set allowed, ace_mat states, const lm_sampling *sampling,
               lm_choice *choices, int count, ace_error *error);

/* ---- choices that the host does not wait for -----------------------------------------------------------------------
 */

/* Whether such choices may be made from `allowed`, and be read by the model (qwen3_lm_extend_choices) before the host
 * knows them. Then allowed.ranges[0] is all of it. */
bool lm_chooses_ahead(const lm_chooser *chooser, lm_token_set allowed, const lm_sampling *sampling);

/* Queues what lm_choose() does, for one of ACE_SENDS places. chooser->choices has the columns, counted from
 * allowed.ranges[0].first, for what is queued next. */
void lm_choose_ahead(lm_chooser *chooser, lm_token_set allowed, ace_mat states, const lm_sampling *sampling,
                     const lm_choice *choices, int count, int place);

/* Waits for the choices of that place, and completes them. False with an error. */
bool lm_choice_arrives(const lm_chooser *chooser, lm_token_set allowed, lm_choice *choices, int count, int place,
                       ace_error *error);

#endif
