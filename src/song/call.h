/* call.h - one call of the public interface in progress: who is told what, and when it will be done. */
#ifndef ACE_SONG_CALL_H
#define ACE_SONG_CALL_H

#include "song/engine.h"
#include "song/planner.h"

typedef struct call {
    ace_engine *engine;
    const ace_callbacks *callbacks;
    job_warnings warnings;
    double started;       /* ace_clock() */
    double audio_seconds; /* of all songs; 0 while unknown */

    /* the stage that is running */
    ace_stage stage;
    double stage_started;
} call;

/* callbacks may be NULL. Warnings nobody asks for go to the engine's. */
void call_begin(call *c, ace_engine *engine, const ace_callbacks *callbacks);

/* A stop asks for one call to end; the next call is a new wish. */
void call_end(call *c);

/* Tells that `done` of `total` units are done; rate 0: what the clock says. remaining: seconds of the whole call,
 * negative while unknown. */
void call_report(call *c, ace_stage stage, const char *unit, int64_t done, int64_t total, double rate,
                 double remaining);

/* Lets a planner report to the call. */
planner_watch call_planner_watch(call *c);

#endif
