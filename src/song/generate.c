/* A request becomes songs: planned first, where there is a planner, then made. */
#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"
#include "song/call.h"
#include "song/fit.h"
#include "song/planning.h"

#include <stdlib.h>
#include <string.h>

/* ---- making ---------------------------------------------------------------------------------------------------- */

/* A song being made: for progress, and to pass audio on. */
typedef struct making {
    call call;
    ace_result *result;
    int64_t total_audio_frames;
    double computing_since;
    pipeline_needs needs;
    void (*latents)(void *user, const float *latents);
} making;

/* Seconds still to come: the work left, at the speed of the work done. The stages' FLOPs are known from the plan. */
static double remaining(const making *m, ace_stage stage, int64_t done, int64_t total, double now)
{
    if (stage == ACE_STAGE_LOAD) return -1;
    double before = 0, here = total > 0 ? (double)done / (double)total : 1;
    for (int i = 0; i < (int)stage; i++) before += m->needs.stages[i].flops;
    double worked = before + here * m->needs.stages[stage].flops, spent = now - m->computing_since;
    return worked > 0.005 * m->needs.total_flops ? spent * (m->needs.total_flops - worked) / worked : -1;
}

static void on_progress(void *user, ace_stage stage, const char *unit, int64_t done, int64_t total)
{
    making *m = user;
    double now = ace_clock();
    if (stage == ACE_STAGE_LOAD) m->computing_since = now;
    call_report(&m->call, stage, unit, done, total, 0, remaining(m, stage, done, total, now));
}

static bool on_audio(void *user, int item, int64_t first, int64_t count, const float *samples, ace_error *error)
{
    const making *m = user;
    const ace_callbacks *callbacks = m->call.callbacks;
    ace_song *song = &m->result->songs[item];
    song->frames = first + count;
    for (int64_t i = 0; i < 2 * count; i++) {
        float magnitude = samples[i] < 0 ? -samples[i] : samples[i];
        if (magnitude > song->peak) song->peak = magnitude;
    }
    ace_audio audio = {
        .item = item, .first = first, .count = count, .total = m->total_audio_frames, .samples = samples};
    return !callbacks->audio || callbacks->audio(callbacks->user, &audio, error);
}

static void on_latents(void *user, const float *latents)
{
    const making *m = user;
    m->latents(m->call.callbacks->user, latents);
}

static void raise_peak(size_t *peak, size_t bytes)
{
    if (bytes > *peak) *peak = bytes;
}

/* The planner's weights stay for the next song if that costs this one nothing. */
static bool choose_fit(const ace_engine *engine, const song_job *job, size_t planner_weights, pipeline_fit *fit,
                       bool *planner_stays, pipeline_needs *needs, ace_error *error)
{
    ace_error crowded = {0};
    const pipeline *p = &engine->pipeline;
    *planner_stays = fit_choose(p, job, &engine->fit, engine->limit, planner_weights, fit, needs, &crowded) &&
                     (planner_weights == 0 || fit_same(fit, &engine->fit));
    return *planner_stays || fit_choose(p, job, &engine->fit, engine->limit, 0, fit, needs, error);
}

static bool run_job(const song_job *job, making *m, ace_error *error)
{
    ace_engine *engine = m->call.engine;
    pipeline *p = &engine->pipeline;
    ace_result *result = m->result;
    ace_stage_cost costs[ACE_STAGE_COUNT] = {0};
    pipeline_fit fit;
    bool planner_stays;
    if (!choose_fit(engine, job, planner_weight_bytes(engine->planner), &fit, &planner_stays, &m->needs, error))
        return false;
    if (!planner_stays) planner_unload(engine->planner);
    pipeline_set_fit(p, &fit);
    if (!ace_scratch_reserve(engine->dev, m->needs.scratch, error)) return false;
    raise_peak(&result->planned_peak, m->needs.total_peak);
    pipeline_watch watch = {
        .user = m, .progress = on_progress, .audio = on_audio, .latents = m->latents ? on_latents : NULL};
    bool ok = pipeline_run(p, job, &watch, costs, error);
    double planner_loading = result->stages[ACE_STAGE_LOAD].seconds;
    for (int i = 0; i < ACE_STAGE_COUNT; i++) {
        raise_peak(&result->measured_peak, costs[i].peak_bytes);
        if (i != ACE_STAGE_PLAN) result->stages[i] = costs[i];
    }
    result->stages[ACE_STAGE_LOAD].seconds += planner_loading;
    ace_scratch_reserve(engine->dev, 0, NULL);
    return ok;
}

/* ---- planning -------------------------------------------------------------------------------------------------- */

/* Bytes at the height of planning: what is loaded now, and what that adds. */
static size_t planning_peak(const ace_engine *engine, const planner_needs *needs)
{
    ace_device_stats stats = ace_device_get_stats(engine->dev);
    return stats.workspace + stats.weight_bytes + needs->weights + needs->scratch;
}

/* What the request wants of the planner, which on a card too small for it works only when it is asked. */
static bool wishes(const ace_engine *engine, const ace_request *asked, planning_wish *wish, ace_error *error)
{
    ace_error problem = {0};
    bool available = engine_has_planner(engine, &problem);
    if (available && !engine->allowance.planner_by_default && !request_bool(asked, FIELD_THINKING, false))
        available = false;
    return planning_wishes(asked, available, &problem, wish, error);
}

/* The request is made as it is. */
static bool plan_nothing(const ace_request *asked, song_plan *plan, ace_error *error)
{
    plan->request = request_copy(asked, error);
    if (plan->request) planning_done(plan->request);
    return plan->request != NULL;
}

/* Where memory is short the planner works alone. */
static bool make_room(ace_engine *engine, const planner_needs *needs, ace_error *error)
{
    if (engine->limit == 0 || planning_peak(engine, needs) <= engine->limit) return true;
    pipeline_unload(&engine->pipeline);
    size_t peak = planning_peak(engine, needs);
    return peak <= engine->limit ||
           ace_fail(error, ACE_ERROR_MEMORY,
                    "the planner needs %.2f GiB of memory and %.2f GiB are allowed: take a smaller one, ask for a "
                    "shorter song or fewer at once, or do without (--lm none)",
                    (double)peak / 1073741824.0, (double)engine->limit / 1073741824.0);
}

/* Plans the request as far as it wants to be planned; plan->request is then what is to be made. */
static bool plan_request(call *c, ace_request *asked, ace_result *result, song_plan *plan, ace_error *error)
{
    ace_engine *engine = c->engine;
    ace_error too_large = {0};
    planning_wish wish;
    lm_session_limits limits;
    planner_needs needs;
    *plan = (song_plan){0};
    if (!wishes(engine, asked, &wish, error)) return false;
    allowance_reduce(&engine->allowance, asked, planning_wanted(&wish), &c->warnings);
    if (!planning_wanted(&wish)) return plan_nothing(asked, plan, error);
    planner *p = engine_planner(engine, error);
    if (!p || !planning_limits(p, asked, &wish, &limits, error) || !planner_plan(p, &limits, &needs, error))
        return false;
    if (!make_room(engine, &needs, &too_large)) {
        if (request_bool(asked, FIELD_THINKING, false))
            return ace_fail(error, too_large.status, "%s", too_large.message);
        if (c->warnings.warn) c->warnings.warn(c->warnings.user, too_large.message);
        return plan_nothing(asked, plan, error);
    }
    result->planned = true;
    result->planned_peak = planning_peak(engine, &needs);
    planner_watch watch = call_planner_watch(c);
    bool ok = planning_run(p, asked, &wish, &c->warnings, &watch, result->stages, plan, error);
    for (int i = 0; i < ACE_STAGE_COUNT; i++) raise_peak(&result->measured_peak, result->stages[i].peak_bytes);
    return ok;
}

/* The request that makes exactly song i: its own seed and codes, alone. */
static ace_request *request_of_song(const ace_request *whole, int i, const song_codes *lists, int list_count,
                                    ace_error *error)
{
    ace_request *r = request_copy(whole, error);
    if (!r) return NULL;
    request_put_integer(r, FIELD_SEED, request_integer(whole, FIELD_SEED, 0) + i);
    request_put_integer(r, FIELD_BATCH_SIZE, 1);
    if (list_count > 0 && !planning_put_codes(r, &lists[list_count > 1 ? i : 0], error)) {
        ace_request_free(r);
        return NULL;
    }
    return r;
}

void ace_composition_free(ace_composition *composition)
{
    for (int i = 0; i < composition->count; i++) ace_request_free(composition->songs[i]);
    *composition = (ace_composition){0};
}

bool ace_compose(ace_engine *engine, const ace_request *request, const ace_callbacks *callbacks,
                 ace_composition *composition, ace_error *error)
{
    call c;
    song_plan plan = {0};
    ace_result unread = {0};
    call_begin(&c, engine, callbacks);
    *composition = (ace_composition){0};
    ace_request *asked = engine_has_planner(engine, error) ? song_request(request, &c.warnings, error) : NULL;
    bool ok = asked && plan_request(&c, asked, &unread, &plan, error);
    int songs = ok ? (int)request_integer(asked, FIELD_BATCH_SIZE, 1) : 0;
    for (int i = 0; ok && i < songs; i++) {
        composition->songs[i] = request_of_song(plan.request, i, plan.lists, plan.count, error);
        ok = composition->songs[i] != NULL;
        composition->count += ok;
    }
    if (!ok) ace_composition_free(composition);
    song_plan_free(&plan);
    ace_request_free(asked);
    call_end(&c);
    return ok;
}

/* ---- generating ------------------------------------------------------------------------------------------------ */

/* What the songs are, before they are made. */
static bool describe_songs(const song_job *job, ace_result *result, ace_error *error)
{
    result->count = job->batch;
    result->request = request_copy(job->request, error);
    for (int i = 0; result->request && i < job->batch; i++) {
        result->songs[i].seed = job->seeds[i];
        result->songs[i].request = request_of_song(job->request, i, job->lists, job->list_count, error);
        if (!result->songs[i].request) return false;
    }
    return result->request != NULL;
}

bool engine_generate(ace_engine *engine, const ace_request *request, const ace_callbacks *callbacks,
                     void (*latents)(void *user, const float *latents), ace_result *result, ace_error *error)
{
    *result = (ace_result){0};
    making m = {.result = result, .latents = latents};
    song_plan plan = {0};
    song_job job;
    call_begin(&m.call, engine, callbacks);
    ace_request *asked = song_request(request, &m.call.warnings, error);
    bool ok = asked && plan_request(&m.call, asked, result, &plan, error);
    ace_request_free(asked);
    ok = ok && song_job_prepare(&job, plan.request, plan.lists, plan.count, engine->checkpoint, engine->tokenizer,
                                &m.call.warnings, error);
    if (ok) {
        const vae_config *vae = &engine->checkpoint->vae;
        m.total_audio_frames = job.frames * vae_hop(vae);
        m.call.audio_seconds = (double)(job.batch * m.total_audio_frames) / vae->sample_rate;
        ok = describe_songs(&job, result, error) && run_job(&job, &m, error);
        song_job_free(&job);
    }
    song_plan_free(&plan);
    call_end(&m.call);
    result->seconds = ace_clock() - m.call.started;
    return ok;
}

bool ace_generate(ace_engine *engine, const ace_request *request, const ace_callbacks *callbacks, ace_result *result,
                  ace_error *error)
{
    return engine_generate(engine, request, callbacks, NULL, result, error);
}

void ace_result_free(ace_result *result)
{
    ace_request_free(result->request);
    result->request = NULL;
    for (int i = 0; i < result->count; i++) {
        ace_request_free(result->songs[i].request);
        result->songs[i].request = NULL;
    }
}

/* ---- the peak before -------------------------------------------------------------------------------------------- */

/* Stands for what the planner would make of the request: the longest song that it may choose, codes of that length. */
static bool assume_plan(planner *p, const ace_request *asked, const planning_wish *wish, song_plan *plan,
                        ace_error *error)
{
    plan->request = request_copy(asked, error);
    if (!plan->request) return false;
    if (wish->metadata && !request_is_set(asked, FIELD_DURATION))
        request_put_number(plan->request, FIELD_DURATION, planner_max_duration(p));
    if (!wish->codes) return true;
    double duration = request_number(plan->request, FIELD_DURATION, planner_max_duration(p));
    int songs = (int)request_integer(asked, FIELD_BATCH_SIZE, 1);
    for (; plan->count < songs; plan->count++) {
        song_codes *list = &plan->lists[plan->count];
        list->count = (int64_t)(duration * LM_CODES_PER_SECOND);
        list->codes = ace_calloc((size_t)list->count, sizeof *list->codes, "audio codes", error);
        if (!list->codes) return false;
    }
    return true;
}

bool ace_plan_peak(ace_engine *engine, const ace_request *request, size_t *bytes, ace_error *error)
{
    planning_wish wish;
    lm_session_limits limits;
    planner_needs lm_needs = {0};
    pipeline_needs needs;
    song_plan plan = {0};
    song_job job;
    planner *p = NULL;
    *bytes = 0;
    ace_request *asked = song_request(request, &(job_warnings){0}, error);
    bool ok = asked && wishes(engine, asked, &wish, error);
    if (ok) allowance_reduce(&engine->allowance, asked, planning_wanted(&wish), &(job_warnings){0});
    if (ok && planning_wanted(&wish)) {
        p = engine_planner(engine, error);
        ok = p && planning_limits(p, asked, &wish, &limits, error) && planner_plan(p, &limits, &lm_needs, error);
        if (ok) *bytes = planning_peak(engine, &lm_needs);
    }
    ok = ok && assume_plan(p, asked, &wish, &plan, error) &&
         song_job_prepare(&job, plan.request, plan.lists, plan.count, engine->checkpoint, engine->tokenizer,
                          &(job_warnings){0}, error);
    if (ok) {
        pipeline_fit fit;
        bool planner_stays;
        size_t planner_weights = planner_weight_bytes(engine->planner) + lm_needs.weights;
        ok = choose_fit(engine, &job, planner_weights, &fit, &planner_stays, &needs, error);
        if (ok) raise_peak(bytes, needs.total_peak);
        song_job_free(&job);
    }
    song_plan_free(&plan);
    ace_request_free(asked);
    return ok;
}
