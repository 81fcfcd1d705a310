#include "song/arrange.h"

#include "base/error.h"
#include "song/quantization.h"

static const double GIB = 1073741824.0;

bool arrange_wishes(const ace_engine *engine, const ace_request *asked, bool planned_for, planning_wish *wish,
                    ace_error *error)
{
    ace_error problem = {0};
    bool insists = request_bool(asked, FIELD_THINKING, false);
    bool available = engine_has_planner(engine, planned_for || insists, &problem);
    if (available && !engine->allowance.planner_by_default && !insists) available = false;
    if (!planning_wishes(asked, available, &problem, wish, error)) return false;
    if (planned_for || !wish->metadata || !engine->checkpoint->synthetic) return true;
    return ace_fail(
        error, ACE_ERROR_MODEL,
        "a planner of random weights writes audio codes and no words: give bpm, keyscale, timesignature and "
        "duration, or do without planning (thinking false)");
}

/* ---- the planner ----------------------------------------------------------------------------------------------- */

/* Making a streamed layer ready takes about so many times as long as reading one that stays. */
static const double STREAMING = 6;

/* What a planner may take. */
typedef struct planner_room {
    size_t bytes; /* 0: no limit */
    bool share;   /* it is the tier's share */
} planner_room;

static planner_room room_of(const ace_engine *engine, size_t limit)
{
    size_t share = engine->allowance.planner_share;
    bool by_share = share > 0 && (limit == 0 || share < limit);
    return (planner_room){by_share ? share : limit, by_share};
}

static bool fits(const planner_fit *fit, planner_room room)
{
    return room.bytes == 0 || fit->own <= room.bytes;
}

/* Finds how the weights are stored for fit's limits. */
static bool settle(const ace_engine *engine, planner *p, planner_room room, planner_fit *fit, ace_error *error)
{
    ace_device_stats stats = ace_device_get_stats(engine->dev);
    size_t fixed = stats.workspace, most = room.bytes > fixed ? room.bytes - fixed : 1;
    if (!planner_settle(p, room.bytes ? most : 0, &fit->setup, &fit->needs, error)) return false;
    fit->own = fixed + planner_bytes(&fit->needs);
    fit->peak = fit->own + stats.weight_bytes - planner_weight_bytes(p);
    return true;
}

static void refuse(const ace_engine *engine, const planner *p, planner_room room, planner_fit *fit)
{
    size_t fixed = ace_device_get_stats(engine->dev).workspace;
    ace_weight_form form =
        room.bytes > fixed ? planner_form_that_fits(p, &fit->setup.limits, room.bytes - fixed) : ACE_FORM_PLAIN;
    ace_fail(
        &fit->refusal, ACE_ERROR_MEMORY,
        "the planner needs %.2f GiB of memory even with its layers streamed, one song at a time, and %.2f GiB are "
        "allowed%s, %zu bytes too few: take a smaller one, ask for a shorter song, or do without (--lm none)%s%s%s",
        (double)fit->own / GIB, (double)room.bytes / GIB, room.share ? " for it in this tier" : "",
        fit->own - room.bytes, form ? "; or give up some quality: with --lm-quantization " : "",
        form ? quantization_name(form) : "", form ? " it fits" : "");
}

/* Tells what came of it. */
static void judge(const ace_engine *engine, const planner *p, planner_room room, size_t limit, planner_fit *fit)
{
    fit->alone = limit > 0 && fit->peak > limit;
    if (fit->alone) fit->peak = fit->own;
    if (!fits(fit, room)) refuse(engine, p, room, fit);
}

/* The time of writing codes in turns, in units of reading one layer. */
static double time_of(const planner *p, const planner_fit *fit, int turns)
{
    return turns * (planner_layers(p) + (STREAMING - 1) * fit->setup.streamed);
}

bool arrange_planner(ace_engine *engine, const ace_request *asked, const planning_wish *wish, size_t limit,
                     planner_fit *fit, ace_error *error)
{
    planner *p = engine_planner(engine, error);
    planner_room room = room_of(engine, limit);
    int songs = wish->codes ? (int)request_integer(asked, FIELD_BATCH_SIZE, 1) : 1;
    double best = -1; /* negative: nothing fits yet */
    if (!p) return false;
    for (int at_once = songs, turns = 1; best < 0 || turns * planner_layers(p) < best;) {
        planning_wish together = *wish;
        planner_fit candidate = {.at_once = at_once};
        together.at_once = at_once;
        if (!planning_limits(p, asked, &together, &candidate.setup.limits, error) ||
            !settle(engine, p, room, &candidate, error))
            return false;
        double time = fits(&candidate, room) ? time_of(p, &candidate, turns) : -1;
        if (best < 0 || (time >= 0 && time < best)) *fit = candidate;
        if (time >= 0 && (best < 0 || time < best)) best = time;
        if (at_once == 1) break;
        at_once = (at_once + 1) / 2;
        turns = (songs + at_once - 1) / at_once;
    }
    judge(engine, p, room, limit, fit);
    return true;
}

bool arrange_words(ace_engine *engine, const lm_session_limits *limits, planner_fit *fit, ace_error *error)
{
    planner *p = engine_planner(engine, error);
    planner_room room = room_of(engine, engine->limit);
    *fit = (planner_fit){.at_once = 1, .setup.limits = *limits};
    if (!p || !settle(engine, p, room, fit, error)) return false;
    judge(engine, p, room, engine->limit, fit);
    return true;
}

bool arrange_without_planner(const ace_request *asked, const planner_fit *fit, const job_warnings *warnings,
                             ace_error *error)
{
    const ace_error *refusal = &fit->refusal;
    if (request_bool(asked, FIELD_THINKING, false)) return ace_fail(error, refusal->status, "%s", refusal->message);
    if (warnings->warn) warnings->warn(warnings->user, refusal->message);
    return true;
}

/* ---- the songs ------------------------------------------------------------------------------------------------- */

bool arrange_songs(const ace_engine *engine, const song_job *job, size_t limit, size_t planner_weights,
                   pipeline_fit *fit, bool *planner_stays, pipeline_needs *needs, ace_error *error)
{
    ace_error crowded = {0};
    const pipeline *p = &engine->pipeline;
    *planner_stays =
        planner_weights == 0 ||
        (fit_choose(p, job, &engine->fit, limit, planner_weights, fit, needs, &crowded) && fit_same(fit, &engine->fit));
    return (*planner_stays && planner_weights > 0) || fit_choose(p, job, &engine->fit, limit, 0, fit, needs, error);
}
