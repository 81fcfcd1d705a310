/* The plan of a request's memory: the decisions of ace_generate(), taken on the meter. */
#include "base/error.h"
#include "base/memory.h"
#include "song/arrange.h"

#include <stdlib.h>

/* One request being planned. */
typedef struct planning_of {
    ace_engine *engine;
    ace_request *asked; /* as it is followed, after the tier's limits */
    job_warnings warnings;
    planning_wish wish;
    planner_fit lm;
    ace_memory_plan *plan;
} planning_of;

static void raise_to(size_t *bytes, size_t to)
{
    if (to > *bytes) *bytes = to;
}

/* ---- the planner ----------------------------------------------------------------------------------------------- */

/* Stands for what the planner would make of the request: the longest song that it may choose, codes of that length. */
static bool assume_plan(const planning_of *g, song_plan *plan, ace_error *error)
{
    const ace_request *asked = g->asked;
    double longest = g->engine->allowance.max_duration;
    plan->request = request_copy(asked, error);
    if (!plan->request) return false;
    if (g->wish.metadata && !request_is_set(asked, FIELD_DURATION))
        request_put_number(plan->request, FIELD_DURATION, longest);
    if (!g->wish.codes) return true;
    double duration = request_number(plan->request, FIELD_DURATION, longest);
    int songs = (int)request_integer(asked, FIELD_BATCH_SIZE, 1);
    for (; plan->count < songs; plan->count++) {
        song_codes *list = &plan->lists[plan->count];
        list->count = (int64_t)(duration * LM_CODES_PER_SECOND);
        list->codes = ace_calloc((size_t)list->count, sizeof *list->codes, "audio codes", error);
        if (!list->codes) return false;
    }
    return true;
}

static bool plan_planner(planning_of *g, ace_error *error)
{
    ace_memory_plan *plan = g->plan;
    planner_fit smallest;
    if (!planning_wanted(&g->wish)) return true;
    if (!arrange_planner(g->engine, g->asked, &g->wish, 1, &smallest, error) ||
        !arrange_planner(g->engine, g->asked, &g->wish, g->engine->limit, &g->lm, error))
        return false;
    if (g->lm.refusal.status != ACE_OK) {
        g->wish = (planning_wish){0};
        if (arrange_without_planner(g->asked, &g->lm, &g->warnings, error)) return true;
        plan->least = smallest.own;
        return false;
    }
    plan->least = smallest.own;
    const planner_needs *needs = &g->lm.needs;
    plan->planner = true;
    plan->planner_alone = g->lm.alone;
    plan->planner_songs = g->wish.codes ? g->lm.at_once : 0;
    plan->planner_peak = plan->peak = plan->fastest = g->lm.peak;
    plan->planner_weights = needs->weights;
    plan->planner_cache = needs->cache;
    plan->planner_layers = planner_layers(g->engine->planner);
    plan->planner_streamed = g->lm.setup.streamed;
    plan->planner_fetches = g->lm.setup.fetches;
    return true;
}

static bool count_planner(const planning_of *g, ace_error *error)
{
    ace_stage_cost *cost = &g->plan->stages[ACE_STAGE_PLAN];
    planning_wish turns = g->wish;
    turns.at_once = g->lm.at_once;
    cost->weight_bytes = g->plan->planner_weights;
    cost->scratch_bytes = g->lm.needs.scratch;
    cost->peak_bytes = g->plan->planner_peak;
    return planning_count_work(g->engine->planner, g->asked, &turns, &g->lm.setup, g->plan->duration, cost, error);
}

/* ---- the songs ------------------------------------------------------------------------------------------------- */

/* What the songs would need with nothing given up, unless that is known, and with everything. */
static bool bounds(const planning_of *g, const song_job *job, const pipeline_fit *chosen, bool known, ace_error *error)
{
    ace_memory_plan *plan = g->plan;
    const pipeline *p = &g->engine->pipeline;
    pipeline_fit unread;
    pipeline_needs needs;
    if (!known && !fit_choose(p, job, &g->engine->fit, 0, plan->planner_weights, &unread, &needs, error)) return false;
    if (!known) raise_to(&plan->fastest, needs.total_peak);
    if (!fit_smallest(p, job, chosen, &unread, &needs, error)) return false;
    raise_to(&plan->least, needs.total_peak);
    return true;
}

static bool plan_songs(const planning_of *g, const song_job *job, ace_error *error)
{
    ace_engine *engine = g->engine;
    ace_memory_plan *plan = g->plan;
    pipeline_fit fit;
    pipeline_needs needs;
    bool planner_stays;
    if (!arrange_songs(engine, job, engine->limit, plan->planner_weights, &fit, &planner_stays, &needs, error)) {
        if (error->status == ACE_ERROR_MEMORY) raise_to(&plan->least, needs.total_peak);
        return false;
    }
    plan->evicts = fit.evict;
    plan->streams_dit = fit.stream_dit;
    plan->streams_text = fit.stream_text;
    plan->one_by_one = fit.one_by_one;
    plan->vae_window =
        fit.vae_window ? fit.vae_window : (int)vae_decode_window(&engine->checkpoint->vae, ace_device_act(engine->dev));
    if (plan->vae_window > job->frames) plan->vae_window = (int)job->frames;
    raise_to(&plan->peak, needs.total_peak);
    for (int i = 0; i < ACE_STAGE_COUNT; i++)
        if (i != ACE_STAGE_PLAN) plan->stages[i] = needs.stages[i];
    for (int i = 0; i < ACE_STAGE_COUNT; i++) plan->stages[i].seconds = 0;
    bool nothing_given_up = planner_stays && fit_same(&fit, &engine->fit);
    if (nothing_given_up) raise_to(&plan->fastest, needs.total_peak);
    return bounds(g, job, &fit, nothing_given_up, error);
}

/* ---- the whole ------------------------------------------------------------------------------------------------- */

static bool plan_request(planning_of *g, ace_error *error)
{
    ace_engine *engine = g->engine;
    song_plan assumed = {0};
    song_job job;
    if (!arrange_wishes(engine, g->asked, true, &g->wish, error) ||
        !allowance_reduce(&engine->allowance, g->asked, planning_wanted(&g->wish), &g->warnings, error))
        return false;
    g->plan->batch = (int)request_integer(g->asked, FIELD_BATCH_SIZE, 1);
    g->plan->duration = request_number(g->asked, FIELD_DURATION, 0);
    bool ok = plan_planner(g, error) && assume_plan(g, &assumed, error) &&
              song_job_prepare(&job, assumed.request, assumed.lists, assumed.count, engine->checkpoint,
                               engine->tokenizer, &g->warnings, error);
    song_plan_free(&assumed);
    if (!ok) return false;
    g->plan->duration = (double)(job.frames * vae_hop(&engine->checkpoint->vae)) / engine->checkpoint->vae.sample_rate;
    ok = plan_songs(g, &job, error) && (!g->plan->planner || count_planner(g, error));
    song_job_free(&job);
    return ok;
}

bool ace_plan_memory(ace_engine *engine, const ace_request *request, ace_memory_plan *plan, ace_error *error)
{
    planning_of g = {.engine = engine, .warnings = {engine->warning, engine->user}, .plan = plan};
    *plan = (ace_memory_plan){.limit = engine->limit};
    g.asked = song_request(request, &g.warnings, error);
    bool ok = g.asked && plan_request(&g, error);
    ace_request_free(g.asked);
    return ok;
}
