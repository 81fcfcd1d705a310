/* measure_quantization.c - how far a diffusion transformer with quantised layers is from the exact one: the same
 * weights, the same inputs, every step of a turbo song, in float32 and in each form. */
#include "base/error.h"
#include "base/memory.h"
#include "diffusion/noise.h"
#include "diffusion/schedule.h"
#include "song/compute.h"
#include "song/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { STEPS = ACE_QUANTIZATION_STEPS, CONDITION_ROWS = 192, NOISE_SEED = 1, CONDITION_SEED = 2, MOST_ITEMS = 2 };

static const double SHIFT = 3; /* of the turbo preset */

typedef struct measurement {
    ace_engine *engine;
    const dit_config *config;
    const ace_part *part;
    int64_t frames, n; /* n = frames * channels: values of a latent */
    flow_schedule schedule;
    float *context, *condition; /* [frames][2 * channels], [CONDITION_ROWS][encoder width] */
    float *x, *v, *end;         /* of the exact run: [STEPS][n] each, and [n] after the last step */
} measurement;

/* A device with the model on it in one of its forms. */
typedef struct trial {
    ace_device *dev;
    dit model;
    layer_storage storage;
} trial;

/* ---- inputs ------------------------------------------------------------------------------------------------------ */

static float *floats(int64_t count, ace_error *error)
{
    return ace_calloc((size_t)count, sizeof(float), "a measurement", error);
}

/* A song without a source, whose condition is noise: of unit size, as behind the encoders' last norm. */
static bool make_inputs(measurement *m, ace_error *error)
{
    const dit_config *c = m->config;
    int64_t channels = c->latent_channels, given = c->in_channels - channels;
    m->n = m->frames * channels;
    m->context = floats(m->frames * given, error);
    m->condition = m->context ? floats(CONDITION_ROWS * (int64_t)c->encoder.hidden, error) : NULL;
    m->x = m->condition ? floats(STEPS * m->n, error) : NULL;
    m->v = m->x ? floats(STEPS * m->n, error) : NULL;
    m->end = m->v ? floats(m->n, error) : NULL;
    if (!m->end || !schedule_turbo(STEPS, SHIFT, &m->schedule, error)) return false;
    noise_ace(NOISE_SEED, 0, m->x, (size_t)m->n);
    noise_ace(CONDITION_SEED, 0, m->condition, (size_t)(CONDITION_ROWS * (int64_t)c->encoder.hidden));
    if (!checkpoint_silence(m->engine->checkpoint, 0, m->frames, m->end, error)) return false;
    for (int64_t t = 0; t < m->frames; t++)
        for (int64_t i = 0; i < given; i++) m->context[t * given + i] = i < channels ? m->end[t * channels + i] : 1;
    return true;
}

static void free_inputs(measurement *m)
{
    free(m->context);
    free(m->condition);
    free(m->x);
    free(m->v);
    free(m->end);
}

/* ---- one model --------------------------------------------------------------------------------------------------- */

/* What does not change from step to step, left on the scratch stack. */
typedef struct prepared {
    dit_schedule schedule;
    dit_condition condition;
    dit_context context;
} prepared;

static prepared prepare(const measurement *m, const trial *t)
{
    bool meter = ace_device_is_meter(t->dev);
    prepared p = {.schedule = dit_schedule_new(&t->model, meter ? NULL : m->schedule.t, STEPS)};
    ace_mat enc = ace_scratch(t->dev, ace_device_act(t->dev), CONDITION_ROWS, m->config->encoder.hidden);
    ace_upload(t->dev, enc, m->condition);
    p.condition = dit_condition_new(&t->model, enc);
    p.context = dit_context_new(&t->model, meter ? NULL : m->context, m->frames);
    return p;
}

/* The velocities of `count` latents; x and v are NULL on the meter. */
static void evaluate(const trial *t, const prepared *p, int step, float *const *x, float *const *v, int count)
{
    dit_item items[MOST_ITEMS];
    for (int i = 0; i < count; i++) items[i] = (dit_item){&p->context, &p->condition, x ? x[i] : NULL, v ? v[i] : NULL};
    dit_velocity(&t->model, &p->schedule, step, items, count, NULL);
}

/* Weights, scratch and peak of evaluating `count` latents on a device like `dev`. */
static bool plan(const measurement *m, const ace_device *dev, const layer_storage *storage, int count,
                 ace_device_stats *stats, ace_error *error)
{
    trial *t = ace_calloc(1, sizeof *t, "a plan", error);
    if (t) t->dev = ace_meter_open(dev, error);
    bool ok = t && t->dev;
    if (ok) {
        dit_load(&t->model, t->dev, m->part, m->config, storage);
        stats->weight_bytes = ace_device_get_stats(t->dev).weight_bytes;
        prepared p = prepare(m, t);
        evaluate(t, &p, 0, NULL, NULL, count);
        size_t weights = stats->weight_bytes;
        ok = ace_device_ok(t->dev, error);
        *stats = ace_device_get_stats(t->dev);
        stats->weight_bytes = weights;
        ace_scratch_release(t->dev, (ace_mark){0});
        dit_free(&t->model);
        ace_device_close(t->dev);
    }
    free(t);
    return ok;
}

static void close_trial(trial *t)
{
    if (!t) return;
    dit_free(&t->model);
    ace_device_close(t->dev);
    free(t);
}

/* Loads the model in a form, its layers streamed where they do not all fit; tells what it takes with all of them and
 * one song. */
static trial *open_trial(const measurement *m, ace_dtype precision, ace_weight_form form, int items,
                         ace_quantization_effect *effect, ace_error *error)
{
    ace_device_stats stats;
    trial *t = ace_calloc(1, sizeof *t, "a measurement", error);
    if (!t) return NULL;
    t->storage.form = form;
    compute_options compute = {.precision = precision, .threads = m->engine->threads, .stop = &m->engine->stop};
    t->dev = compute_open(m->engine->allowance.machine, &compute, error);
    bool ok = t->dev && plan(m, t->dev, &t->storage, 1, &stats, error);
    if (ok) {
        effect->weight_bytes = stats.weight_bytes;
        effect->peak_bytes = stats.total_peak;
        ok = plan(m, t->dev, &t->storage, items, &stats, error);
        t->storage.streamed = m->engine->limit > 0 && stats.total_peak > m->engine->limit;
        if (ok && t->storage.streamed) ok = plan(m, t->dev, &t->storage, items, &stats, error);
    }
    if (ok) {
        ace_device_set_limit(t->dev, m->engine->limit);
        ok = ace_scratch_reserve(t->dev, stats.scratch_peak, stats.host_peak, error);
    }
    if (ok) dit_load(&t->model, t->dev, m->part, m->config, &t->storage);
    if (ok && ace_device_ok(t->dev, error)) return t;
    close_trial(t);
    return NULL;
}

/* ---- runs -------------------------------------------------------------------------------------------------------- */

/* An Euler step to the next timestep: x + (t' - t) v. */
static void advance(const measurement *m, int step, float *next, const float *x, const float *v)
{
    float dt = m->schedule.t[step + 1] - m->schedule.t[step];
    for (int64_t i = 0; i < m->n; i++) next[i] = x[i] + dt * v[i];
}

static double cosine(const float *a, const float *b, int64_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < n; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}

/* The exact run, which all others are held against. */
static bool run_exact(const measurement *m, ace_quantization_effect *effect, ace_error *error)
{
    trial *t = open_trial(m, ACE_F32, ACE_FORM_PLAIN, 1, effect, error);
    if (!t) return false;
    prepared p = prepare(m, t);
    for (int i = 0; i < STEPS; i++) {
        float *x = m->x + i * m->n, *v = m->v + i * m->n;
        evaluate(t, &p, i, &x, &v, 1);
        advance(m, i, i + 1 < STEPS ? x + m->n : m->end, x, v);
        effect->cosine[i] = 1;
    }
    effect->song_cosine = 1;
    bool ok = ace_device_ok(t->dev, error);
    ace_scratch_release(t->dev, (ace_mark){0});
    close_trial(t);
    return ok;
}

/* Every step twice: where the exact run was, and where this one has got to. */
static bool run_form(const measurement *m, ace_dtype precision, ace_weight_form form, ace_quantization_effect *effect,
                     ace_error *error)
{
    float *own = floats(3 * m->n, error);
    trial *t = own ? open_trial(m, precision, form, 2, effect, error) : NULL;
    bool ok = t != NULL;
    if (ok) {
        float *v[2] = {own + m->n, own + 2 * m->n};
        memcpy(own, m->x, (size_t)m->n * sizeof *own);
        prepared p = prepare(m, t);
        for (int i = 0; i < STEPS; i++) {
            float *x[2] = {m->x + i * m->n, own};
            evaluate(t, &p, i, x, v, 2);
            effect->cosine[i] = cosine(v[0], m->v + i * m->n, m->n);
            advance(m, i, own, own, v[1]);
        }
        effect->song_cosine = cosine(own, m->end, m->n);
        ok = ace_device_ok(t->dev, error);
        ace_scratch_release(t->dev, (ace_mark){0});
    }
    close_trial(t);
    free(own);
    return ok;
}

/* Measures one form and reports it. */
static bool report(const measurement *m, ace_dtype precision, ace_weight_form form,
                   void (*line)(void *user, const ace_quantization_effect *effect), void *user, ace_error *error)
{
    bool exact = precision == ACE_F32 && form == ACE_FORM_PLAIN;
    ace_quantization_effect effect = {.precision = precision == ACE_F32 ? "f32" : "bf16",
                                      .quantization = quantization_name(form)};
    if (!(exact ? run_exact(m, &effect, error) : run_form(m, precision, form, &effect, error))) return false;
    for (int i = 0; i < STEPS; i++)
        if (!isfinite(effect.cosine[i]))
            return ace_fail(error, ACE_ERROR_NUMERIC, "the velocity of step %d in %s, %s, is nothing or not finite",
                            i + 1, effect.precision, effect.quantization);
    line(user, &effect);
    return true;
}

bool ace_measure_quantization(ace_engine *engine, double duration,
                              void (*line)(void *user, const ace_quantization_effect *effect), void *user,
                              ace_error *error)
{
    const ace_checkpoint *c = engine->checkpoint;
    measurement m = {.engine = engine, .config = &c->dit, .part = c->parts[ACE_PART_DIT]};
    if (!(duration >= 1 && duration <= 600))
        return ace_fail(error, ACE_ERROR_USAGE, "the duration cannot be %g s: give 1 to 600", duration);
    m.frames = (int64_t)(duration * 25);
    pipeline_unload(&engine->pipeline);
    ace_dtype own = ace_device_act(engine->dev);
    bool ok = make_inputs(&m, error) && report(&m, ACE_F32, ACE_FORM_PLAIN, line, user, error) &&
              (own == ACE_F32 || report(&m, own, ACE_FORM_PLAIN, line, user, error)) &&
              (!part_has_blocks(m.part, "decoder.layers.") || report(&m, own, ACE_FORM_BLOCKS, line, user, error)) &&
              report(&m, own, ACE_FORM_INT8, line, user, error) && report(&m, own, ACE_FORM_INT4, line, user, error);
    free_inputs(&m);
    atomic_store(&engine->stop, false);
    return ok;
}
