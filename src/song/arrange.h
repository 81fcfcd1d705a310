/* arrange.h - what a request will do on an engine, and how it is fitted into the memory that is allowed. Decided in one
 * place, so that a plan and a run cannot differ. */
#ifndef ACE_SONG_ARRANGE_H
#define ACE_SONG_ARRANGE_H

#include "song/engine.h"
#include "song/fit.h"
#include "song/planning.h"

/* How the planner works. */
typedef struct planner_fit {
    bool alone;  /* what songs were made with is unloaded before */
    int at_once; /* songs whose codes are written together */
    planner_setup setup;
    planner_needs needs;
    size_t peak;       /* bytes of all memory while it works */
    size_t own;        /* of these, bytes that would be needed with nothing else loaded */
    ace_error refusal; /* ACE_ERROR_MEMORY: it does not fit, and this is the smallest way; ACE_OK: it does */
} planner_fit;

/* What the request wants of the planner, which on a card too small for it works only when it is asked. `planned_for`:
 * see engine_has_planner(). */
bool arrange_wishes(const ace_engine *engine, const ace_request *asked, bool planned_for, planning_wish *wish,
                    ace_error *error);

/* Finds how the planner works within `limit` bytes (0: none) and within the tier's share for it; fit->refusal says when
 * it does not. Where it needs too much, the rows of its table that stand for text are fetched when they are needed;
 * then as many of its layers as must are streamed, or its songs take turns, whichever takes less time. Nothing is
 * loaded or unloaded. */
bool arrange_planner(ace_engine *engine, const ace_request *asked, const planning_wish *wish, size_t limit,
                     planner_fit *fit, ace_error *error);

/* The same for one run of these limits. */
bool arrange_words(ace_engine *engine, const lm_session_limits *limits, planner_fit *fit, ace_error *error);

/* What becomes of a request whose planner is refused: an error when it insists on one, else a warning, and true: it is
 * made without. */
bool arrange_without_planner(const ace_request *asked, const planner_fit *fit, const job_warnings *warnings,
                             ace_error *error);

/* Finds how the songs are made within `limit` bytes. The planner's weights stay for the next song if that costs this
 * one nothing. As fit_choose(). */
bool arrange_songs(const ace_engine *engine, const song_job *job, size_t limit, size_t planner_weights,
                   pipeline_fit *fit, bool *planner_stays, pipeline_needs *needs, ace_error *error);

#endif
