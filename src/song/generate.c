/* A request becomes songs: planned first, where there is a planner, then made. */
#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"
#include "song/arrange.h"
#include "song/call.h"

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

static bool run_job(const song_job *job, making *m, ace_error *error)
{
    ace_engine *engine = m->call.engine;
    pipeline *p = &engine->pipeline;
    ace_result *result = m->result;
    ace_stage_cost costs[ACE_STAGE_COUNT] = {0};
    pipeline_fit fit;
    bool planner_stays;
    if (!arrange_songs(engine, job, engine->limit, planner_weight_bytes(engine->planner), &fit, &planner_stays,
                       &m->needs, error))
        return false;
    if (!planner_stays) planner_unload(engine->planner);
    pipeline_set_fit(p, &fit);
    if (!ace_scratch_reserve(engine->dev, m->needs.scratch, m->needs.host, error)) return false;
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
    ace_scratch_reserve(engine->dev, 0, 0, NULL);
    return ok;
}

/* ---- planning -------------------------------------------------------------------------------------------------- */

/* The request is made as it is. */
static bool plan_nothing(const ace_request *asked, song_plan *plan, ace_error *error)
{
    plan->request = request_copy(asked, error);
    if (plan->request) planning_done(plan->request);
    return plan->request != NULL;
}

/* Plans the request as far as it wants to be planned; plan->request is then what is to be made. */
static bool plan_request(call *c, ace_request *asked, ace_result *result, song_plan *plan, ace_error *error)
{
    ace_engine *engine = c->engine;
    planning_wish wish;
    planner_fit fit;
    *plan = (song_plan){0};
    if (!arrange_wishes(engine, asked, false, &wish, error) ||
        !allowance_reduce(&engine->allowance, asked, planning_wanted(&wish), &c->warnings, error))
        return false;
    if (!planning_wanted(&wish)) return plan_nothing(asked, plan, error);
    if (!arrange_planner(engine, asked, &wish, engine->limit, &fit, error)) return false;
    if (fit.refusal.status != ACE_OK)
        return arrange_without_planner(asked, &fit, &c->warnings, error) && plan_nothing(asked, plan, error);
    if (fit.alone) pipeline_unload(&engine->pipeline);
    wish.at_once = fit.at_once;
    result->planned = true;
    result->planned_peak = fit.peak;
    planner_watch watch = call_planner_watch(c);
    bool ok =
        planning_run(engine->planner, asked, &wish, &fit.setup, &c->warnings, &watch, result->stages, plan, error);
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
    ace_request *asked = engine_has_planner(engine, false, error) ? song_request(request, &c.warnings, error) : NULL;
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
