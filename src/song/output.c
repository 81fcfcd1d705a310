/* output.c - songs become files: each waits in a spool until its peak is known, then is levelled and encoded. */
#include "audio/audio_level.h"
#include "audio/audio_spool.h"
#include "audio/audio_writer.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "song/engine.h"
#include "song/provenance.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 8192 }; /* frames levelled and encoded at a time */

typedef struct output_run {
    ace_engine *engine;
    const ace_request *asked;
    const ace_output *output;
    const ace_callbacks *callbacks;
    ace_result *result;
    audio_format format;
    audio_spool spool; /* of the item being decoded */
    double started, write_seconds;
    int64_t written;
} output_run;

/* "song.flac" for one song, "song-2.flac" for the second of several. */
static bool item_path(const char *path, int item, int count, char *name, size_t size, ace_error *error)
{
    const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
    int stem = dot && dot > path && (!slash || dot > slash + 1) ? (int)(dot - path) : (int)strlen(path);
    int n = count > 1 ? snprintf(name, size, "%.*s-%d%s", stem, path, item + 1, path + stem)
                      : snprintf(name, size, "%s", path);
    return (n > 0 && (size_t)n < size) ||
           ace_fail(error, ACE_ERROR_USAGE, "the output path is too long: choose a shorter one");
}

static char *sidecar_path(const char *song, ace_error *error)
{
    ace_text path = {0};
    ace_text_format(&path, "%s.json", song);
    return ace_text_take(&path, error);
}

/* Everything that would stop the songs from being written is found before minutes are spent on them. */
static bool check_targets(const ace_output *output, int count, ace_error *error)
{
    for (int i = 0; i < count; i++) {
        char name[sizeof((ace_song *)0)->path];
        ace_new_file probe;
        if (!item_path(output->path, i, count, name, sizeof name, error) ||
            !ace_new_file_begin(&probe, name, output->replace, error))
            return false;
        ace_new_file_abandon(&probe);
        if (output->no_sidecar) continue;
        char *sidecar = sidecar_path(name, error);
        bool ok = sidecar && ace_new_file_begin(&probe, sidecar, output->replace, error);
        if (ok) ace_new_file_abandon(&probe);
        free(sidecar);
        if (!ok) return false;
    }
    return true;
}

static void report(output_run *o)
{
    if (!o->callbacks->progress) return;
    ace_progress progress = {.stage = ACE_STAGE_WRITE,
                             .done = o->written,
                             .total = o->result->count * o->spool.frames,
                             .unit = "frames",
                             .elapsed = ace_clock() - o->started,
                             .stage_remaining = -1,
                             .remaining = -1,
                             .audio_seconds = (double)(o->result->count * o->spool.frames) / (double)AUDIO_SAMPLE_RATE};
    o->callbacks->progress(o->callbacks->user, &progress);
}

/* Levels the spooled song and encodes it block by block. */
static bool encode(output_run *o, audio_writer *writer, const audio_level *level, ace_error *error)
{
    float *block = ace_calloc(2 * BLOCK, sizeof *block, "a block of audio", error);
    bool ok = block != NULL;
    for (int64_t first = 0; ok && first < o->spool.frames; first += BLOCK) {
        size_t n = (size_t)(o->spool.frames - first < BLOCK ? o->spool.frames - first : BLOCK);
        ok = audio_spool_read(&o->spool, first, block, n, error);
        if (ok) audio_level_apply(level, first, block, n);
        ok = ok && audio_writer_write(writer, block, n, error);
        if (ok && atomic_load(&o->engine->stop)) ok = ace_fail(error, ACE_CANCELLED, "stopped");
        o->written += (int64_t)n;
        if (first % (BLOCK * 16) == 0) report(o);
    }
    free(block);
    return ok;
}

static char *describe(const output_run *o, int item, ace_error *error)
{
    ace_engine_info info = ace_engine_get_info(o->engine);
    ace_request *request = o->result->songs[item].request;
    if (!request_put_text(request, FIELD_FORMAT, audio_format_name(o->format), error)) return NULL;
    provenance p = {.request = request,
                    .asked = o->result->planned ? o->asked : NULL,
                    .planner = info.lm,
                    .model = info.checkpoint,
                    .model_hash = o->engine->hash,
                    .precision = info.precision,
                    .quantization = info.quantization,
                    .lm_quantization = info.lm_quantization,
                    .synthetic = info.random_weights,
                    .frames = o->spool.frames,
                    .peak = o->spool.peak};
    return provenance_to_json(&p, error);
}

/* The sidecar is on disk before the song gets its name: only giving it its own name is left to fail after that, and
 * then the song, whose tags say the same, stays. */
static bool begin_sidecar(ace_new_file *file, const output_run *o, const char *song, const char *json, ace_error *error)
{
    *file = (ace_new_file){.fd = -1};
    if (o->output->no_sidecar) return true;
    char *path = sidecar_path(song, error);
    bool ok = path && ace_new_file_begin(file, path, o->output->replace, error) &&
              ace_write_all(file->fd, json, strlen(json), path, error) &&
              ace_write_all(file->fd, "\n", 1, path, error) && ace_new_file_sync(file, error);
    free(path);
    return ok;
}

static bool write_song(output_run *o, int item, ace_error *error)
{
    const ace_request *r = o->result->request;
    char name[sizeof((ace_song *)0)->path];
    audio_level level;
    audio_level_options options = {.normalize = request_bool(r, FIELD_NORMALIZE, true),
                                   .peak_db = request_number(r, FIELD_NORMALIZE_DB, -1),
                                   .fade_in = request_number(r, FIELD_FADE_IN, 0),
                                   .fade_out = request_number(r, FIELD_FADE_OUT, 0)};
    if (!item_path(o->output->path, item, o->result->count, name, sizeof name, error) ||
        !audio_level_plan(&level, &options, o->spool.peak, o->spool.frames, AUDIO_SAMPLE_RATE, error))
        return false;
    char *json = describe(o, item, error);
    if (!json) return false;

    audio_writer_options writing = {.format = o->format,
                                    .rate = AUDIO_SAMPLE_RATE,
                                    .mp3_kbps = atoi(request_text(r, FIELD_MP3_BITRATE, "128k")),
                                    .replace = o->output->replace,
                                    .tags = {.title = (char *)(uintptr_t)request_text(r, FIELD_CAPTION, ""),
                                             .software = (char *)(uintptr_t) "acestep " ACE_VERSION,
                                             .comment = json}};
    ace_new_file sidecar;
    bool ok = begin_sidecar(&sidecar, o, name, json, error);
    audio_writer *writer = ok ? audio_writer_open(name, &writing, error) : NULL;
    ok = writer && encode(o, writer, &level, error);
    if (ok)
        ok = audio_writer_finish(writer, error);
    else
        audio_writer_abandon(writer);
    if (ok) snprintf(o->result->songs[item].path, sizeof o->result->songs[item].path, "%s", name);
    if (ok && !o->output->no_sidecar)
        ok = ace_new_file_commit(&sidecar, error);
    else
        ace_new_file_abandon(&sidecar);
    free(json);
    return ok;
}

static bool take_audio(void *user, const ace_audio *audio, ace_error *error)
{
    output_run *o = user;
    if (o->callbacks->audio && !o->callbacks->audio(o->callbacks->user, audio, error)) return false;
    if (audio->first == 0 && !audio_spool_open(&o->spool, o->output->path, error)) return false;
    if (!audio_spool_append(&o->spool, audio->samples, (size_t)audio->count, error)) return false;
    if (audio->first + audio->count < audio->total) return true;
    double start = ace_clock();
    bool ok = write_song(o, audio->item, error);
    audio_spool_close(&o->spool);
    o->write_seconds += ace_clock() - start;
    return ok;
}

static void pass_progress(void *user, const ace_progress *progress)
{
    const output_run *o = user;
    if (o->callbacks->progress) o->callbacks->progress(o->callbacks->user, progress);
}

static void pass_warning(void *user, const char *sentence)
{
    const output_run *o = user;
    if (o->callbacks->warning)
        o->callbacks->warning(o->callbacks->user, sentence);
    else if (o->engine->warning)
        o->engine->warning(o->engine->user, sentence);
}

/* Blocks that are kept give the result of weights that are not quantised here. */
static bool exact(const char *quantization)
{
    return strcmp(quantization, "none") == 0 || strcmp(quantization, "keep") == 0;
}

/* The same request makes the same song only with the same weights in the same arithmetic. */
static void compare_with_origin(output_run *o, const song_origin *origin)
{
    ace_engine_info info = ace_engine_get_info(o->engine);
    char sentence[128];
    if (origin->model[0] && strcmp(origin->model, o->engine->hash) != 0)
        pass_warning(o, "the weights differ from those that made the original: this is another song");
    const char *was[2] = {origin->precision, origin->quantization}, *is[2] = {info.precision, info.quantization};
    const char *const options[2] = {"--precision", "--quantization"};
    for (int i = 0; i < 2; i++) {
        if (!was[i][0] || strcmp(was[i], is[i]) == 0 || (exact(was[i]) && exact(is[i]))) continue;
        snprintf(sentence, sizeof sentence, "the original was made with %s %s: with %s this is not quite the same song",
                 options[i], was[i], is[i]);
        pass_warning(o, sentence);
    }
}

bool ace_generate_files(ace_engine *engine, const ace_request *request, const ace_output *output,
                        const ace_callbacks *callbacks, ace_result *result, ace_error *error)
{
    static const ace_callbacks nobody;
    output_run o = {.engine = engine,
                    .asked = request,
                    .output = output,
                    .callbacks = callbacks ? callbacks : &nobody,
                    .result = result,
                    .spool = {.fd = -1},
                    .started = ace_clock()};
    *result = (ace_result){0};
    const char *format = output->format ? output->format : request_text(request, FIELD_FORMAT, NULL);
    if (!audio_format_choose(output->path, format, &o.format, error) || !audio_format_check(o.format, error) ||
        !check_targets(output, (int)request_integer(request, FIELD_BATCH_SIZE, 1), error))
        return false;
    /* the first reading of the files, from the disk perhaps: loading them afterwards is quick */
    if (o.callbacks->progress)
        o.callbacks->progress(
            o.callbacks->user,
            &(ace_progress){
                .stage = ACE_STAGE_LOAD, .total = 1, .unit = "parts", .stage_remaining = -1, .remaining = -1});
    if (!engine_hash(engine, error)) return false;
    ace_callbacks own = {.user = &o, .progress = pass_progress, .warning = pass_warning, .audio = take_audio};
    bool ok = ace_generate(engine, request, &own, result, error);
    audio_spool_close(&o.spool);
    /* writing happens while the decoder waits: its time is not the decoder's */
    result->stages[ACE_STAGE_WRITE].seconds = o.write_seconds;
    result->stages[ACE_STAGE_DECODE].seconds -= o.write_seconds;
    result->seconds = ace_clock() - o.started;
    snprintf(result->model_hash, sizeof result->model_hash, "%s", engine->hash);
    if (ok) compare_with_origin(&o, &request->origin);
    return ok;
}
