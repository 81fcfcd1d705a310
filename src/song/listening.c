#include "song/listening.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"
#include "model/vae_window.h"

#include <stdlib.h>
#include <string.h>

void listening_init(listening *l, ace_device *dev, const ace_checkpoint *checkpoint, int64_t window)
{
    *l = (listening){.dev = dev, .checkpoint = checkpoint, .window = window};
}

void listening_unload(listening *l)
{
    if (l->has_tokenizer) audio_tokenizer_free(&l->tokenizer);
    vae_encoder_free(l->encoder);
    listening_init(l, l->dev, l->checkpoint, l->window);
}

int64_t listening_latents(const ace_checkpoint *checkpoint, int64_t frames)
{
    return vae_frames(&checkpoint->vae, frames);
}

int64_t listening_codes(const ace_checkpoint *checkpoint, int64_t frames)
{
    int64_t window = checkpoint->dit.pool_window;
    return (listening_latents(checkpoint, frames) + window - 1) / window;
}

/* ---- a run in progress --------------------------------------------------------------------------------------- */

typedef struct run {
    listening *l;
    ace_device *dev;
    const ace_checkpoint *checkpoint;
    audio_source *source; /* NULL on the meter, like all host memory below */
    int64_t samples;
    bool silent, wants_codes;
    int32_t *codes;
    const listening_watch *watch;
    ace_error *error;

    int64_t frames;
    float *latents; /* [frames][latent_channels] */

    /* The encoder asks for overlapping stretches of a source that only runs forwards: the end of what it got last. */
    float *tail;
    int64_t tail_room, tail_count;
    int64_t position; /* samples heard so far */
} run;

typedef struct book {
    double started;
    ace_device_stats before;
} book;

static book open_book(const run *r)
{
    ace_device_reset_peak(r->dev);
    return (book){ace_clock(), ace_device_get_stats(r->dev)};
}

/* False with the first failure of the device, if there was one. */
static bool close_book(const run *r, const book *b, ace_stage_cost *cost)
{
    ace_device_stats after = ace_device_get_stats(r->dev);
    *cost = (ace_stage_cost){.seconds = ace_clock() - b->started,
                             .flops = after.flops - b->before.flops,
                             .bytes_moved = after.bytes_moved - b->before.bytes_moved,
                             .bytes_loaded = after.bytes_loaded - b->before.bytes_loaded,
                             .weight_bytes = after.weight_bytes,
                             .scratch_bytes = after.scratch_peak};
    return ace_device_ok(r->dev, r->error);
}

static void report(const run *r, int64_t done)
{
    if (r->watch->progress && !ace_device_is_meter(r->dev)) r->watch->progress(r->watch->user, done, r->frames);
}

/* ---- load ---------------------------------------------------------------------------------------------------- */

static bool load(run *r, ace_stage_cost *cost)
{
    listening *l = r->l;
    const ace_checkpoint *c = r->checkpoint;
    if (c->vae.audio_channels != AUDIO_CHANNELS || c->vae.sample_rate != AUDIO_SAMPLE_RATE)
        return ace_fail(r->error, ACE_ERROR_MODEL,
                        "'%s' hears %d channels of %d samples a second: only 2 of 48000 are supported",
                        part_path(c->parts[ACE_PART_VAE]), c->vae.audio_channels, c->vae.sample_rate);
    book b = open_book(r);
    if (!l->encoder) l->encoder = vae_encoder_load(r->dev, c->parts[ACE_PART_VAE], &c->vae, r->error);
    if (l->encoder && r->wants_codes && !l->has_tokenizer) {
        audio_tokenizer_load(&l->tokenizer, r->dev, c->parts[ACE_PART_DIT], &c->dit);
        l->has_tokenizer = true;
    }
    return close_book(r, &b, cost) && l->encoder;
}

/* ---- audio to latents ---------------------------------------------------------------------------------------- */

/* The most samples that two neighbouring windows share. */
static int64_t overlap(const vae_config *vae, int64_t samples, int64_t frames, int64_t window)
{
    int64_t most = 0, end = 0;
    for (int64_t first = 0; first < frames; first += window) {
        vae_span core = {first, window < frames - first ? first + window : frames};
        vae_span input = vae_window_encode(vae, samples, core).input;
        if (end - input.first > most) most = end - input.first;
        end = input.end;
    }
    return most;
}

static bool hear(void *context, int64_t first, int64_t count, float *rows, ace_error *error)
{
    run *r = context;
    int64_t known = r->position - first;
    if (known < 0 || known > r->tail_count || known > count)
        return ace_fail(error, ACE_ERROR_INTERNAL, "the VAE encoder asked for audio that is not at hand");
    memcpy(rows, r->tail + (r->tail_count - known) * AUDIO_CHANNELS, (size_t)(known * AUDIO_CHANNELS) * sizeof *rows);
    size_t got;
    if (!audio_source_read(r->source, rows + known * AUDIO_CHANNELS, (size_t)(count - known), &got, error))
        return false;
    r->position = first + count;
    r->tail_count = count < r->tail_room ? count : r->tail_room;
    memcpy(r->tail, rows + (count - r->tail_count) * AUDIO_CHANNELS,
           (size_t)(r->tail_count * AUDIO_CHANNELS) * sizeof *rows);
    return true;
}

static bool keep(void *context, int64_t first, int64_t count, const float *rows, ace_error *error)
{
    run *r = context;
    int64_t channels = r->checkpoint->vae.latent_channels;
    (void)error;
    memcpy(r->latents + first * channels, rows, (size_t)(count * channels) * sizeof *rows);
    return true;
}

static bool window_done(void *context, int64_t done, int64_t total)
{
    (void)total;
    report(context, done);
    return true;
}

static bool encode(run *r)
{
    ace_mark mark = ace_scratch_mark(r->dev);
    const vae_config *vae = &r->checkpoint->vae;
    int64_t window = r->l->window > 0 ? r->l->window : vae_encode_window(vae, ace_device_act(r->dev));
    r->tail_room = overlap(vae, r->samples, r->frames, window);
    r->tail = ace_scratch_host(r->dev, r->tail_room * AUDIO_CHANNELS);
    if (r->source && !audio_source_rewind(r->source, r->error)) return false;
    vae_stream stream = {.window = window, .read = hear, .write = keep, .progress = window_done, .context = r};
    bool ok = ace_device_ok(r->dev, r->error) && vae_encode(r->l->encoder, r->samples, VAE_MEAN, &stream, r->error);
    ace_scratch_release(r->dev, mark);
    return ok;
}

/* ---- latents to codes ---------------------------------------------------------------------------------------- */

static bool tokenize(run *r)
{
    ace_mark mark = ace_scratch_mark(r->dev);
    int64_t window = r->checkpoint->dit.pool_window;
    float *silence = ace_scratch_host(r->dev, window * r->checkpoint->dit.latent_channels);
    bool ok = !silence || checkpoint_silence(r->checkpoint, 0, window, silence, r->error);
    if (ok) audio_tokenizer_encode(&r->l->tokenizer, r->codes, r->latents, r->frames, silence);
    ace_scratch_release(r->dev, mark);
    return ok;
}

/* ---- the whole ----------------------------------------------------------------------------------------------- */

static bool listen(run *r, float *latents, ace_stage_cost *cost)
{
    book b = open_book(r);
    int64_t count = r->frames * r->checkpoint->vae.latent_channels;
    report(r, 0);
    r->latents = ace_scratch_host(r->dev, count);
    bool ok = ace_device_ok(r->dev, r->error);
    if (ok && r->silent)
        ok = checkpoint_silence(r->checkpoint, 0, r->frames, r->latents, r->error);
    else if (ok)
        ok = encode(r);
    if (ok && r->wants_codes) ok = tokenize(r);
    ok = close_book(r, &b, cost) && ok;
    if (ok && latents) memcpy(latents, r->latents, (size_t)count * sizeof *latents);
    return ok;
}

static bool run_on(listening *l, run *r, float *latents, listening_costs *costs)
{
    listening_costs unread;
    if (!costs) costs = &unread;
    *costs = (listening_costs){0};
    r->l = l;
    r->dev = l->dev;
    r->checkpoint = l->checkpoint;
    r->frames = listening_latents(l->checkpoint, r->samples);
    ace_mark mark = ace_scratch_mark(l->dev);
    bool ok = load(r, &costs->load) && listen(r, latents, &costs->listen);
    ace_scratch_release(l->dev, mark);
    if (!ok) listening_unload(l);
    ace_device_clear(l->dev);
    return ok;
}

bool listening_run(listening *l, audio_source *source, const listening_result *result, const listening_watch *watch,
                   listening_costs *costs, ace_error *error)
{
    static const listening_watch nobody;
    const audio_source_info *info = audio_source_describe(source);
    if (info->silent && !result->silence_allowed)
        return ace_fail(error, ACE_ERROR_USAGE, "'%s' is silent: there is nothing to hear in it", info->path);
    run r = {.source = source,
             .samples = info->frames,
             .silent = info->silent,
             .wants_codes = result->codes != NULL,
             .codes = result->codes,
             .watch = watch ? watch : &nobody,
             .error = error};
    return run_on(l, &r, result->latents, costs);
}

bool listening_plan(const listening *l, int64_t frames, bool codes, listening_needs *needs, ace_error *error)
{
    static const listening_watch nobody;
    *needs = (listening_needs){0};
    ace_device *meter = ace_meter_open(l->dev, error);
    listening *copy = ace_calloc(1, sizeof *copy, "the plan", error);
    bool ok = meter && copy;
    if (ok) {
        listening_costs costs;
        run r = {.samples = frames, .wants_codes = codes, .watch = &nobody, .error = error};
        listening_init(copy, meter, l->checkpoint, l->window);
        ok = run_on(copy, &r, NULL, &costs);
        size_t loaded = costs.load.weight_bytes + costs.load.scratch_bytes;
        size_t peak = costs.listen.weight_bytes + costs.listen.scratch_bytes;
        needs->scratch = costs.listen.scratch_bytes;
        needs->host = ace_device_get_stats(meter).host_peak;
        needs->total_peak = ace_device_get_stats(meter).workspace + (peak > loaded ? peak : loaded);
        needs->flops = costs.load.flops + costs.listen.flops;
        listening_unload(copy);
    }
    free(copy);
    ace_device_close(meter);
    return ok;
}
