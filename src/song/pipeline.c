#include "song/pipeline.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

void pipeline_init(pipeline *p, ace_device *dev, const ace_checkpoint *checkpoint, ace_weight_form form,
                   const pipeline_fit *fit)
{
    *p = (pipeline){.dev = dev, .checkpoint = checkpoint, .form = form, .fit = *fit};
}

/* ---- what is loaded ------------------------------------------------------------------------------------------ */

static void load_encoders(pipeline *p, bool detokenizer)
{
    const ace_checkpoint *c = p->checkpoint;
    const ace_part *text = c->parts[ACE_PART_TEXT_ENCODER], *dit_part = c->parts[ACE_PART_DIT];
    layer_storage storage = {.streamed = p->fit.stream_text};
    if (!p->has_text) qwen3_load(&p->text, p->dev, text, &c->text_encoder, &storage);
    p->has_text = true;
    if (!p->has_condition) condition_encoder_load(&p->condition, p->dev, dit_part, &c->dit);
    p->has_condition = true;
    if (!p->has_detokenizer && detokenizer) {
        audio_detokenizer_load(&p->detokenizer, p->dev, dit_part, &c->dit);
        p->has_detokenizer = true;
    }
}

static void unload_encoders(pipeline *p)
{
    if (p->has_text) qwen3_free(&p->text);
    if (p->has_condition) condition_encoder_free(&p->condition);
    if (p->has_detokenizer) audio_detokenizer_free(&p->detokenizer);
    p->has_text = p->has_condition = p->has_detokenizer = false;
}

static void load_dit(pipeline *p)
{
    const ace_checkpoint *c = p->checkpoint;
    if (p->has_dit) return;
    p->has_dit = true;
    layer_storage storage = {.streamed = p->fit.stream_dit, .form = p->form};
    dit_load(&p->dit, p->dev, c->parts[ACE_PART_DIT], &c->dit, &storage);
}

static void unload_dit(pipeline *p)
{
    if (p->has_dit) dit_free(&p->dit);
    p->has_dit = false;
}

static bool load_decoder(pipeline *p, ace_error *error)
{
    const ace_checkpoint *c = p->checkpoint;
    if (!p->decoder && ace_device_ok(p->dev, error))
        p->decoder = vae_decoder_load(p->dev, c->parts[ACE_PART_VAE], &c->vae, error);
    return p->decoder != NULL;
}

static void unload_decoder(pipeline *p)
{
    vae_decoder_free(p->decoder);
    p->decoder = NULL;
}

void pipeline_unload(pipeline *p)
{
    unload_encoders(p);
    unload_dit(p);
    unload_decoder(p);
    p->wants_detokenizer = false;
}

void pipeline_set_fit(pipeline *p, const pipeline_fit *fit)
{
    if (fit->evict || fit->stream_text != p->fit.stream_text) unload_encoders(p);
    if (fit->evict || fit->stream_dit != p->fit.stream_dit) unload_dit(p);
    if (fit->evict) unload_decoder(p);
    p->fit = *fit;
}

/* ---- a run in progress --------------------------------------------------------------------------------------- */

typedef struct run {
    pipeline *p;
    ace_device *dev;
    const song_job *job;
    const pipeline_watch *watch;
    ace_stage_cost *costs;
    ace_error *error;

    ace_stage stage;
    double started;
    ace_device_stats before;

    int64_t channels;
    ace_mark conditions;          /* above it lies what conditions the song */
    float *latents;               /* [batch][frames][channels]; NULL on the meter, like all host memory below */
    int sources;                  /* distinct ones: one for all songs, or one for each */
    float *source[JOB_MAX_BATCH]; /* [frames][channels] each: decoded codes, or silence */
    float *plain_source;          /* silence, for the second condition */
    ace_mat enc, plain_enc;       /* packed conditions; plain_enc.rows is 0 when there is no second one */
} run;

static void report(const run *r, int64_t done, int64_t total)
{
    static const char *const units[ACE_STAGE_COUNT] = {[ACE_STAGE_LOAD] = "parts",
                                                       [ACE_STAGE_CONDITION] = "conditions",
                                                       [ACE_STAGE_DIFFUSION] = "steps",
                                                       [ACE_STAGE_DECODE] = "frames"};
    if (r->watch->progress && !ace_device_is_meter(r->dev))
        r->watch->progress(r->watch->user, r->stage, units[r->stage], done, total);
}

static void begin(run *r, ace_stage stage, int64_t total)
{
    r->stage = stage;
    r->started = ace_clock();
    ace_scratch_trim(r->dev);
    ace_device_reset_peak(r->dev);
    r->before = ace_device_get_stats(r->dev);
    report(r, 0, total);
}

/* Closes the books of the stage. False with the first failure of the device, if there was one. */
static bool end(run *r)
{
    ace_device_stats after = ace_device_get_stats(r->dev);
    r->costs[r->stage] = (ace_stage_cost){.seconds = ace_clock() - r->started,
                                          .flops = after.flops - r->before.flops,
                                          .bytes_moved = after.bytes_moved - r->before.bytes_moved,
                                          .bytes_loaded = after.bytes_loaded - r->before.bytes_loaded,
                                          .weight_bytes = after.weight_bytes,
                                          .scratch_bytes = after.scratch_peak,
                                          .peak_bytes = after.total_peak};
    return ace_device_ok(r->dev, r->error);
}

/* ---- load ---------------------------------------------------------------------------------------------------- */

static bool needs_detokenizer(const run *r)
{
    return r->p->wants_detokenizer || r->job->code_count > 0;
}

/* Everything, unless the stages load what they need. */
static bool load(run *r)
{
    pipeline *p = r->p;
    int parts = p->fit.evict ? 1 : 3;
    begin(r, ACE_STAGE_LOAD, parts);
    load_encoders(p, needs_detokenizer(r));
    report(r, 1, parts);
    if (p->fit.evict) return end(r);
    load_dit(p);
    report(r, 2, parts);
    bool ok = load_decoder(p, r->error);
    report(r, 3, parts);
    return end(r) && ok;
}

/* ---- condition ----------------------------------------------------------------------------------------------- */

/* enc = lyrics, timbre of silence, caption (dit.md 3). */
static void encode_condition(run *r, ace_mat enc, const job_tokens *caption)
{
    pipeline *p = r->p;
    const dit_config *config = &p->checkpoint->dit;
    ace_dtype act = ace_device_act(r->dev);
    bool meter = ace_device_is_meter(r->dev);
    ace_mark mark = ace_scratch_mark(r->dev);

    ace_mat text = ace_scratch(r->dev, act, caption->count, config->text_hidden);
    qwen3_forward(&p->text, text, meter ? NULL : caption->ids, caption->count);
    ace_mat lyric = ace_scratch(r->dev, act, r->job->lyrics.count, config->text_hidden);
    qwen3_embed(&p->text, lyric, meter ? NULL : r->job->lyrics.ids, r->job->lyrics.count);

    ace_mat timbre = ace_scratch(r->dev, ACE_F32, 1, config->encoder.hidden);
    float *silence = ace_scratch_host(r->dev, config->timbre_frames * r->channels);
    if (silence) {
        ace_error error = {0};
        if (!checkpoint_silence(p->checkpoint, 0, config->timbre_frames, silence, &error))
            ace_device_fail(r->dev, &error);
    }
    condition_encoder_timbre(&p->condition, timbre, silence, config->timbre_frames);
    condition_encoder_forward(&p->condition, enc, lyric, timbre, text);
    ace_scratch_release(r->dev, mark);
}

/* Host latents of all frames: silence from frame `first` on. */
static float *silent_latents(run *r, int64_t first)
{
    float *latents = ace_scratch_host(r->dev, r->job->frames * r->channels);
    ace_error error = {0};
    if (latents &&
        !checkpoint_silence(r->p->checkpoint, 0, r->job->frames - first, latents + first * r->channels, &error))
        ace_device_fail(r->dev, &error);
    return latents;
}

/* The latents that the DiT sees as its source: the plan's codes decoded, then silence (dit.md 7.4, 8). */
static float *decode_source(run *r, const song_codes *list)
{
    int64_t whole = list->count * r->p->checkpoint->dit.pool_window;
    float *source = silent_latents(r, whole);
    if (list->count == 0) return source;
    ace_mark mark = ace_scratch_mark(r->dev);
    float *latents = ace_scratch_host(r->dev, whole * r->channels);
    audio_detokenizer_decode(&r->p->detokenizer, latents, latents ? list->codes : NULL, list->count);
    if (latents) memcpy(source, latents, (size_t)(whole * r->channels) * sizeof *latents);
    ace_scratch_release(r->dev, mark);
    return source;
}

static void make_sources(run *r)
{
    static const song_codes nothing;
    r->sources = r->job->list_count > 0 ? r->job->list_count : 1;
    for (int i = 0; i < r->sources; i++)
        r->source[i] = decode_source(r, r->job->list_count > 0 ? &r->job->lists[i] : &nothing);
}

/* The source of an item of the batch. */
static int source_of(const run *r, int item)
{
    return r->sources > 1 ? item : 0;
}

static bool condition(run *r)
{
    const song_job *job = r->job;
    ace_dtype act = ace_device_act(r->dev);
    int64_t units = job->plain_caption.count > 0 ? 3 : 2, rows = job->lyrics.count + 1 + job->caption.count;
    int64_t width = r->p->checkpoint->dit.encoder.hidden;
    begin(r, ACE_STAGE_CONDITION, units);
    r->enc = ace_scratch(r->dev, act, rows, width);
    encode_condition(r, r->enc, &job->caption);
    report(r, 1, units);
    if (job->plain_caption.count > 0) {
        r->plain_enc = ace_scratch(r->dev, act, rows, width);
        encode_condition(r, r->plain_enc, &job->plain_caption);
        r->plain_source = silent_latents(r, 0);
        report(r, 2, units);
    }
    make_sources(r);
    report(r, units, units);
    if (r->p->fit.evict) unload_encoders(r->p);
    return end(r);
}

/* ---- diffusion ----------------------------------------------------------------------------------------------- */

/* What a call of the DiT cost on the meter: another one with as many conditions, that begins with as much scratch in
 * use and as much held, costs the same and has the same peak. (The second call of a song holds what the first one took:
 * where layers are streamed, that may be the peak.) */
typedef struct metered_call {
    bool known, uncond;
    size_t used, held, host;
    double flops, bytes_moved, bytes_loaded;
} metered_call;

typedef struct diffusion {
    run *r;
    metered_call metered;
    dit_schedule schedule;
    dit_condition null_condition; /* length 0 without guidance */
    ace_mark mark;                /* above this on the stack lies what depends on the condition */
    dit_condition condition;
    dit_context contexts[JOB_MAX_BATCH]; /* of each source */
} diffusion;

/* Source latents and a chunk mask of ones, side by side (dit.md 7.5, 8). */
static dit_context make_context(run *r, const float *source)
{
    int64_t frames = r->job->frames, channels = r->channels;
    float *context = ace_scratch_host(r->dev, frames * 2 * channels);
    for (int64_t t = 0; context && t < frames; t++) {
        float *row = context + t * 2 * channels;
        memcpy(row, source + t * channels, (size_t)channels * sizeof *row);
        for (int64_t c = 0; c < channels; c++) row[channels + c] = 1;
    }
    return dit_context_new(&r->p->dit, context, frames);
}

static void set_condition(diffusion *d, bool plain)
{
    run *r = d->r;
    ace_scratch_release(r->dev, d->mark);
    d->condition = dit_condition_new(&r->p->dit, plain ? r->plain_enc : r->enc);
    for (int i = 0; i < r->sources; i++) d->contexts[i] = make_context(r, plain ? r->plain_source : r->source[i]);
}

/* True on the meter when such a call was counted before. */
static bool repeat_call(const diffusion *d, bool uncond)
{
    const metered_call *m = &d->metered;
    ace_device_stats now = ace_device_get_stats(d->r->dev);
    if (!m->known || m->uncond != uncond || m->used != now.scratch_bytes || m->held != now.scratch_held ||
        m->host != now.host_bytes)
        return false;
    ace_meter_repeat(d->r->dev, m->flops, m->bytes_moved);
    ace_meter_repeat_loading(d->r->dev, m->bytes_loaded);
    return true;
}

static void remember_call(diffusion *d, bool uncond, const ace_device_stats *before)
{
    ace_device_stats after = ace_device_get_stats(d->r->dev);
    d->metered = (metered_call){.known = ace_device_is_meter(d->r->dev),
                                .uncond = uncond,
                                .used = before->scratch_bytes,
                                .held = before->scratch_held,
                                .host = before->host_bytes,
                                .flops = after.flops - before->flops,
                                .bytes_moved = after.bytes_moved - before->bytes_moved,
                                .bytes_loaded = after.bytes_loaded - before->bytes_loaded};
}

static bool velocity(void *context, const sampler_call *call, ace_error *error)
{
    diffusion *d = context;
    run *r = d->r;
    if (call->new_condition) set_condition(d, call->non_cover);
    dit_item items[2 * JOB_MAX_BATCH];
    int64_t n = call->frames * r->channels, count = 0;
    for (int half = 0; half < (call->uncond ? 2 : 1); half++) {
        float *v = half ? call->v_uncond : call->v_cond;
        for (int i = 0; i < call->batch; i++)
            items[count++] = (dit_item){.context = &d->contexts[source_of(r, i)],
                                        .condition = half ? &d->null_condition : &d->condition,
                                        .x = call->x ? call->x + i * n : NULL,
                                        .velocity = v ? v + i * n : NULL};
    }
    int64_t step = call->step + (call->corrector ? 1 : 0), at_once = r->p->fit.one_by_one ? 1 : count;
    if (repeat_call(d, call->uncond)) return ace_device_ok(r->dev, error);
    ace_device_stats before = ace_device_get_stats(r->dev);
    for (int64_t i = 0; i < count; i += at_once) dit_velocity(&r->p->dit, &d->schedule, step, items + i, at_once, NULL);
    remember_call(d, call->uncond, &before);
    return ace_device_ok(r->dev, error);
}

static bool step_done(void *context, int step, int steps)
{
    diffusion *d = context;
    report(d->r, step, steps);
    return ace_device_ok(d->r->dev, NULL);
}

/* The sampler wants a source for every item. */
static const float *sources(run *r)
{
    if (r->job->sampler.cover_noise_strength <= 0) return NULL;
    int64_t n = r->job->frames * r->channels;
    float *copies = ace_scratch_host(r->dev, r->job->batch * n);
    for (int i = 0; copies && i < r->job->batch; i++)
        memcpy(copies + i * n, r->source[source_of(r, i)], (size_t)n * sizeof *copies);
    return copies;
}

static bool diffuse(run *r)
{
    const song_job *job = r->job;
    ace_mark mark = ace_scratch_mark(r->dev);
    size_t floats = 0;
    begin(r, ACE_STAGE_DIFFUSION, job->schedule.steps);
    load_dit(r->p);
    if (!sampler_floats(&job->sampler, job->batch, job->frames, &floats, r->error)) return false;
    float *work = ace_scratch_host(r->dev, (int64_t)floats);
    const float *source = sources(r);

    diffusion d = {.r = r};
    bool meter = ace_device_is_meter(r->dev);
    d.schedule = dit_schedule_new(&r->p->dit, meter ? NULL : job->schedule.t, job->schedule.steps + 1);
    if (sampler_model_calls(&job->sampler, &job->schedule).uncond_calls > 0)
        d.null_condition = dit_null_condition_new(&r->p->dit);
    d.mark = ace_scratch_mark(r->dev);

    sampler_input input = {.batch = job->batch, .frames = job->frames, .seeds = job->seeds, .source = source};
    sampler_model model = {.context = &d, .velocity = velocity, .progress = step_done};
    ace_error failure = {0};
    bool ok = ace_device_ok(r->dev, &failure) && sampler_run(&job->sampler, &input, &model, work, r->latents, &failure);
    ace_scratch_release(r->dev, mark);
    /* a cancelled run and a failed device both speak through the device */
    if (!ok && ace_device_ok(r->dev, NULL)) ace_device_fail(r->dev, &failure);
    if (r->p->fit.evict) unload_dit(r->p);
    if (r->watch->latents && ok && r->latents) r->watch->latents(r->watch->user, r->latents);
    return end(r);
}

/* ---- decode -------------------------------------------------------------------------------------------------- */

typedef struct decoding {
    run *r;
    int item;
} decoding;

static bool decoded(void *context, int64_t first, int64_t count, const float *samples, ace_error *error)
{
    decoding *d = context;
    const pipeline_watch *watch = d->r->watch;
    return !watch->audio || watch->audio(watch->user, d->item, first, count, samples, error);
}

static bool window_done(void *context, int64_t done, int64_t total)
{
    decoding *d = context;
    report(d->r, d->item * total + done, d->r->job->batch * total);
    return true;
}

static bool decode(run *r)
{
    const song_job *job = r->job;
    ace_scratch_release(r->dev, r->conditions); /* all that is left of the song is its latents */
    begin(r, ACE_STAGE_DECODE, job->batch * job->frames);
    bool ok = load_decoder(r->p, r->error);
    /* the songs of a batch have the same length: for the meter they are one song */
    int songs = ace_device_is_meter(r->dev) ? 1 : job->batch;
    for (int i = 0; i < songs && ok; i++) {
        decoding d = {r, i};
        vae_stream stream = {.window = r->p->fit.vae_window,
                             .rows = r->latents ? r->latents + i * job->frames * r->channels : NULL,
                             .write = decoded,
                             .progress = window_done,
                             .context = &d};
        ok = vae_decode(r->p->decoder, job->frames, &stream, r->error);
    }
    if (r->p->fit.evict) unload_decoder(r->p);
    ok = end(r) && ok;
    r->costs[ACE_STAGE_DECODE].flops *= job->batch / songs;
    r->costs[ACE_STAGE_DECODE].bytes_moved *= job->batch / songs;
    return ok;
}

/* ---- the whole ----------------------------------------------------------------------------------------------- */

bool pipeline_run(pipeline *p, const song_job *job, const pipeline_watch *watch, ace_stage_cost costs[ACE_STAGE_COUNT],
                  ace_error *error)
{
    static const pipeline_watch nobody;
    ace_stage_cost unread[ACE_STAGE_COUNT];
    run r = {.p = p,
             .dev = p->dev,
             .job = job,
             .watch = watch ? watch : &nobody,
             .costs = costs ? costs : unread,
             .error = error,
             .channels = p->checkpoint->dit.latent_channels};
    ace_mark mark = ace_scratch_mark(p->dev);
    bool ok = load(&r);
    if (ok) r.latents = ace_scratch_host(p->dev, job->batch * job->frames * r.channels);
    r.conditions = ace_scratch_mark(p->dev);
    ok = ok && condition(&r) && diffuse(&r) && decode(&r);
    ace_scratch_release(p->dev, mark);
    ace_scratch_trim(p->dev);
    if (!ok) pipeline_unload(p);
    ace_device_clear(p->dev);
    return ok;
}

bool pipeline_plan(const pipeline *p, const song_job *job, pipeline_needs *needs, ace_error *error)
{
    *needs = (pipeline_needs){0};
    ace_device *meter = ace_meter_open(p->dev, error);
    pipeline *copy = ace_calloc(1, sizeof *copy, "the plan", error);
    bool ok = meter && copy;
    if (ok) {
        pipeline_init(copy, meter, p->checkpoint, p->form, &p->fit);
        copy->wants_detokenizer = p->has_detokenizer;
        ok = pipeline_run(copy, job, NULL, needs->stages, error);
        for (int i = 0; ok && i < ACE_STAGE_COUNT; i++) {
            const ace_stage_cost *stage = &needs->stages[i];
            needs->total_flops += stage->flops;
            if (stage->scratch_bytes > needs->scratch) needs->scratch = stage->scratch_bytes;
            if (stage->peak_bytes > needs->total_peak) needs->total_peak = stage->peak_bytes;
        }
        needs->host = ace_device_get_stats(meter).host_peak;
        pipeline_unload(copy);
    }
    free(copy);
    ace_device_close(meter);
    return ok;
}
