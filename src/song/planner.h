/* planner.h - a checkpoint's language model, ready to write: its tokenizer, its grammar, its weights and the memory of
 * a run. What it is asked, and what its answers mean, is planning.c's and writing.c's business. */
#ifndef ACE_SONG_PLANNER_H
#define ACE_SONG_PLANNER_H

#include "lm/lm_engine.h"
#include "lm/lm_grammar.h"
#include "song/job.h"

/* Most tokens of a prompt and what is written after it: ten minutes of codes and the longest lyrics that singers can
 * sing in them. */
enum { PLANNER_CONTEXT = 12288 };

typedef struct planner_options {
    int max_duration;        /* seconds that it may choose, 10 to 600 */
    const char *genres_path; /* as in ace_engine_options; must live as long as the planner */
    ace_weight_form form;    /* of its layers */
} planner_options;

typedef struct planner planner;

/* Opens the tokenizer of the checkpoint's planner; weights are loaded by the first run and kept for the next. The
 * device and the checkpoint must outlive it. A planner of random weights has no tokenizer: it reads one token a byte
 * and writes audio codes; text of it is ACE_ERROR_MODEL. So is a checkpoint without a planner. */
planner *planner_open(const ace_checkpoint *checkpoint, ace_device *dev, const planner_options *options,
                      ace_error *error);

/* Frees the weights too. NULL is allowed. */
void planner_close(planner *p);

int planner_max_duration(const planner *p);

/* Of the weights that are loaded now; 0 for NULL. */
size_t planner_weight_bytes(const planner *p);

/* Frees the weights; the next run loads them again. NULL is allowed. */
void planner_unload(planner *p);

/* Appends the ids of a prompt that leaves room for `answer` tokens; see lm_prompt_encode(). */
bool planner_encode(const planner *p, const char *prompt, int64_t answer, ace_ids *ids, ace_error *error);

/* ---- a run ----------------------------------------------------------------------------------------------------- */

/* Who watches; the members may be NULL. */
typedef struct planner_watch {
    void *user;
    /* A unit of ACE_STAGE_LOAD or ACE_STAGE_PLAN is done; total is 0 while unknown, rate in units per second. */
    void (*progress)(void *user, ace_stage stage, const char *unit, int64_t done, int64_t total, double rate);
} planner_watch;

/* How a run uses memory. Only time depends on what is streamed and fetched. */
typedef struct planner_setup {
    lm_session_limits limits;
    int streamed; /* of its layers, spread evenly: they are loaded one after the other, in every pass, and freed */
    bool fetches; /* of embedding and head only the rows of audio codes stay; others are read when they are needed */
} planner_setup;

int planner_layers(const planner *p);

/* Bytes that a run takes, loaded or not: the meter's word for planner_begin(). */
typedef struct planner_needs {
    size_t weights; /* that stay */
    size_t passing; /* what is streamed and fetched, at its largest */
    size_t scratch;
    size_t host;  /* of the host's memory, beside these: for ace_scratch_reserve() */
    size_t cache; /* of the scratch: keys and values */
} planner_needs;

static inline size_t planner_bytes(const planner_needs *needs)
{
    return needs->weights + needs->passing + needs->scratch;
}

bool planner_plan(planner *p, const planner_setup *setup, planner_needs *needs, ace_error *error);

/* Finds how little of the weights must be streamed and fetched for setup->limits to fit into `most` bytes (0: any
 * number); the rows of text are the first to be fetched. Where it does not fit, as *needs then tells, everything is. */
bool planner_settle(planner *p, size_t most, planner_setup *setup, planner_needs *needs, ace_error *error);

/* The first coarser form of the layers in which a run of these limits would fit into `most` bytes; PLAIN when there is
 * none. That costs quality, so it is only ever advised. */
ace_weight_form planner_form_that_fits(const planner *p, const lm_session_limits *limits, size_t most);

/* Loads the weights, if they are not loaded as `setup` says, and takes the memory of a run: all that it will ever take.
 * No other scratch may be in use on the device. costs: of load and plan, filled by planner_end(). After a failure
 * nothing needs ending. */
bool planner_begin(planner *p, const planner_setup *setup, const planner_watch *watch, ace_error *error);

/* Goes on with a run in larger limits and no more memory than it has: more of the weights is streamed, and where that
 * is not enough, less is computed at once. What was read is read again. ACE_ERROR_MEMORY when there is no way. After a
 * failure the run must be ended. */
bool planner_rearrange(planner *p, const lm_session_limits *limits, ace_error *error);

/* Gives the memory of the run back; the device can serve again, whatever happened. */
void planner_end(planner *p, ace_stage_cost costs[ACE_STAGE_COUNT]);

/* What is written and how. */
typedef struct planner_task {
    lm_profile profile;
    lm_grammar_request rules;
    const ace_ids *prompt;
    const ace_ids *negative; /* used iff sampling.guidance > 1 */
    lm_sampling sampling;    /* the official profile never applies top_p and the penalty (lm.md 5.4) */
    int64_t max_tokens;
    int at_once; /* most songs whose codes are written together; 0: all. Does not show in the result */
} planner_task;

/* Writes text, special tokens included. Caller frees. */
char *planner_write_text(planner *p, const planner_task *task, uint64_t seed, ace_error *error);

/* Writes the audio codes of `songs` songs, song i with seeds[i]. lists[i].codes: caller frees; on failure nothing needs
 * freeing. */
bool planner_write_codes(planner *p, const planner_task *task, const uint64_t *seeds, int songs, song_codes *lists,
                         ace_error *error);

/* How many codes such a task writes at most (lm.md 4.9). */
bool planner_code_budget(planner *p, const planner_task *task, int64_t *codes, ace_error *error);

/* Adds to a cost the work of reading a prompt and writing `tokens` audio codes of each of `items` items, with weights
 * streamed and fetched as in `setup`, whose limits are not looked at. */
typedef struct planner_work {
    int items;
    bool guided;
    int64_t prompt, tokens;
} planner_work;

bool planner_count_work(const planner *p, const planner_setup *setup, const planner_work *work, ace_stage_cost *cost,
                        ace_error *error);

#endif
