#include "song/call.h"

#include "base/clock.h"

void call_begin(call *c, ace_engine *engine, const ace_callbacks *callbacks)
{
    static const ace_callbacks nobody;
    if (!callbacks) callbacks = &nobody;
    *c = (call){.engine = engine,
                .callbacks = callbacks,
                .warnings = {callbacks->warning ? callbacks->warning : engine->warning,
                             callbacks->warning ? callbacks->user : engine->user},
                .started = ace_clock(),
                .stage = ACE_STAGE_COUNT};
}

void call_end(call *c)
{
    atomic_store(&c->engine->stop, false);
}

void call_report(call *c, ace_stage stage, const char *unit, int64_t done, int64_t total, double rate, double remaining)
{
    double now = ace_clock();
    if (stage != c->stage || done == 0) {
        c->stage = stage;
        c->stage_started = now;
    }
    if (!c->callbacks->progress) return;
    if (rate <= 0 && done > 0 && now > c->stage_started) rate = (double)done / (now - c->stage_started);
    ace_progress progress = {.stage = stage,
                             .done = done,
                             .total = total,
                             .unit = unit,
                             .rate = rate,
                             .elapsed = now - c->started,
                             .stage_remaining = total > 0 && rate > 0 ? (double)(total - done) / rate : -1,
                             .remaining = remaining,
                             .audio_seconds = c->audio_seconds};
    c->callbacks->progress(c->callbacks->user, &progress);
}

static void on_planner(void *user, ace_stage stage, const char *unit, int64_t done, int64_t total, double rate)
{
    call_report(user, stage, unit, done, total, rate, -1);
}

planner_watch call_planner_watch(call *c)
{
    return (planner_watch){.user = c, .progress = on_planner};
}
