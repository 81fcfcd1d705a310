/* planning.h - what the planner is asked for a request, and the request that its answer makes of it (lm.md 3.3). */
#ifndef ACE_SONG_PLANNING_H
#define ACE_SONG_PLANNING_H

#include "song/job.h"
#include "song/planner.h"

/* What a request wants of the planner. */
typedef struct planning_wish {
    bool metadata; /* the missing ones */
    bool caption;  /* rewritten */
    bool language; /* detected */
    bool codes;
    int at_once; /* songs whose codes are written together; 0: all. Does not show in the result */
} planning_wish;

/* `available`: there is a planner. Nothing is wished for that the request has. ACE_ERROR_MODEL with `problem` when
 * codes are demanded and there is none to write them. */
bool planning_wishes(const ace_request *request, bool available, const ace_error *problem, planning_wish *wish,
                     ace_error *error);

static inline bool planning_wanted(const planning_wish *wish)
{
    return wish->metadata || wish->codes;
}

/* The planner's settings of a request, for codes or, where other presets hold, for text. */
lm_profile planning_profile(const ace_request *request);
lm_sampling planning_sampling(const ace_request *request, bool codes);
/* Texts are borrowed; an instrumental has the lyrics that say so. */
lm_request planning_request(const ace_request *request);

/* A request planned: with all that the planner chose, and the codes of each of its songs. */
typedef struct song_plan {
    ace_request *request;
    int count; /* of code lists: 0, or one for each song */
    song_codes lists[JOB_MAX_BATCH];
} song_plan;

void song_plan_free(song_plan *plan);

/* The memory of planning `request`, which has a seed: enough for whatever length the planner may choose. */
bool planning_limits(planner *p, const ace_request *request, const planning_wish *wish, lm_session_limits *limits,
                     ace_error *error);

/* Adds the work of planning to a cost, for an estimate of the time: of a plan whose text has the usual length, and
 * codes for `duration` seconds. */
bool planning_count_work(planner *p, const ace_request *request, const planning_wish *wish, const planner_setup *setup,
                         double duration, ace_stage_cost *cost, ace_error *error);

/* Plans, with the memory of `setup`, whose limits are those of planning_limits(). costs as in planner_end(). Missing
 * metadata are chosen once, with the seed of the first song. */
bool planning_run(planner *p, const ace_request *request, const planning_wish *wish, const planner_setup *setup,
                  const job_warnings *warnings, const planner_watch *watch, ace_stage_cost costs[ACE_STAGE_COUNT],
                  song_plan *plan, ace_error *error);

/* Marks a request as one that leaves nothing to the planner. */
void planning_done(ace_request *request);

/* Puts what the planner wrote into a request: caption, lyrics and metadata that are not empty. What the request cannot
 * hold (a key that is none) is left out with a warning. */
bool planning_put_song(ace_request *request, const lm_song *song, const job_warnings *warnings, ace_error *error);

/* Puts codes into a request, as the planner writes them. */
bool planning_put_codes(ace_request *request, const song_codes *list, ace_error *error);

#endif
