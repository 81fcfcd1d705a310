#include "song/arrange.h"

#include "base/error.h"

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
    return ace_fail(error, ACE_ERROR_MODEL,
                    "a planner of random weights writes audio codes and no words: give bpm, keyscale, timesignature and "
                    "duration, or do without planning (thinking false)");
}

/* ---- the planner ----------------------------------------------------------------------------------------------- */

static bool measure(ace_engine *engine, planner *p, const ace_request *asked, const planning_wish *wish, int at_once,
                    planner_fit *fit, ace_error *error)
{
    planning_wish turns = *wish;
    turns.at_once = at_once;
    *fit = (planner_fit){.at_once = at_once};
    if (!planning_limits(p, asked, &turns, &fit->limits, error) || !planner_plan(p, &fit->limits, &fit->needs, error))
        return false;
    ace_device_stats stats = ace_device_get_stats(engine->dev);
    fit->own = stats.workspace + planner_weight_bytes(p) + fit->needs.weights + fit->needs.scratch;
    fit->peak = stats.workspace + stats.weight_bytes + fit->needs.weights + fit->needs.scratch;
    return true;
}

static void refuse(planner_fit *fit, size_t most, bool share)
{
    ace_fail(&fit->refusal, ACE_ERROR_MEMORY,
             "the planner needs %.2f GiB of memory and %.2f GiB are allowed%s: take a smaller one, ask for a shorter "
             "song, or do without (--lm none)",
             (double)fit->own / GIB, (double)most / GIB, share ? " for it in this tier" : "");
}

bool arrange_planner(ace_engine *engine, const ace_request *asked, const planning_wish *wish, size_t limit,
                     planner_fit *fit, ace_error *error)
{
    size_t share = engine->allowance.planner_share;
    bool by_share = share > 0 && (limit == 0 || share < limit);
    size_t most = by_share ? share : limit;
    planner *p = engine_planner(engine, error);
    int at_once = (int)request_integer(asked, FIELD_BATCH_SIZE, 1);
    if (!p || !measure(engine, p, asked, wish, at_once, fit, error)) return false;
    while (most > 0 && fit->own > most && at_once > 1) {
        at_once = (at_once + 1) / 2;
        if (!measure(engine, p, asked, wish, at_once, fit, error)) return false;
    }
    fit->alone = limit > 0 && fit->peak > limit;
    if (fit->alone) fit->peak = fit->own;
    if (most > 0 && fit->own > most) refuse(fit, most, by_share);
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
