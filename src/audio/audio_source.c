#include "audio/audio_source.h"

#include "audio/audio_reader.h"
#include "audio/audio_resample.h"
#include "base/error.h"
#include "base/memory.h"

#include <math.h>
#include <stdlib.h>

enum { BLOCK = 4096, LONGEST = 7 * 24 * 3600 };

static const float SILENCE = 1e-6f;

struct audio_source {
    char *path;
    audio_source_info info;
    const atomic_bool *stop;
    int64_t given; /* frames read since the beginning */

    audio_reader *reader;
    audio_resampler *resampler;
    bool ended;         /* the resampler was told that the reader is at its end */
    size_t next, count; /* frames of `block` that the resampler has not taken yet */
    float block[BLOCK * AUDIO_CHANNELS];
};

static void close_stream(audio_source *s)
{
    if (s->reader) audio_reader_close(s->reader);
    audio_resampler_free(s->resampler);
    s->reader = NULL;
    s->resampler = NULL;
}

static bool open_stream(audio_source *s, ace_error *error)
{
    close_stream(s);
    s->ended = false;
    s->next = s->count = 0;
    s->given = 0;
    s->reader = audio_reader_open(s->path, error);
    if (s->reader) s->resampler = audio_resampler_new(audio_reader_rate(s->reader), AUDIO_SAMPLE_RATE, error);
    return s->resampler != NULL;
}

/* Brings more of the file into the resampler. */
static bool feed(audio_source *s, ace_error *error)
{
    if (s->stop && atomic_load(s->stop)) return ace_fail(error, ACE_CANCELLED, "stopped while '%s' was read", s->path);
    if (s->next == s->count) {
        s->next = 0;
        if (!audio_reader_read(s->reader, s->block, BLOCK, &s->count, error)) return false;
        if (s->count == 0) {
            audio_resampler_end(s->resampler);
            s->ended = true;
        }
    }
    s->next += audio_resampler_put(s->resampler, s->block + s->next * AUDIO_CHANNELS, s->count - s->next);
    return true;
}

/* Up to n frames, clamped; fewer only at the end of the file. */
static bool stream(audio_source *s, float *frames, size_t n, size_t *got, ace_error *error)
{
    *got = 0;
    while (*got < n) {
        size_t taken = audio_resampler_take(s->resampler, frames + *got * AUDIO_CHANNELS, n - *got);
        *got += taken;
        if (taken > 0) continue;
        if (s->ended) break;
        if (!feed(s, error)) return false;
    }
    for (size_t i = 0; i < *got * AUDIO_CHANNELS; i++) frames[i] = fmaxf(-1, fminf(1, frames[i]));
    return true;
}

/* Decodes the file up to `limit` frames, and one more, which shows that it goes on. */
static bool examine(audio_source *s, int64_t limit, ace_error *error)
{
    audio_source_info *info = &s->info;
    float frames[1024 * AUDIO_CHANNELS];
    size_t got = 1;
    info->silent = true;
    while (got > 0 && !info->truncated) {
        if (!stream(s, frames, 1024, &got, error)) return false;
        info->truncated = (int64_t)got > limit - info->frames;
        if (info->truncated) got = (size_t)(limit - info->frames);
        for (size_t i = 0; info->silent && i < got * AUDIO_CHANNELS; i++) info->silent = fabsf(frames[i]) < SILENCE;
        info->frames += (int64_t)got;
    }
    if (info->frames == 0) return ace_fail(error, ACE_ERROR_FORMAT, "'%s' holds no audio", s->path);
    return true;
}

audio_source *audio_source_open(const char *path, double limit, const atomic_bool *stop, ace_error *error)
{
    if (!(limit * AUDIO_SAMPLE_RATE >= 1)) {
        ace_fail(error, ACE_ERROR_USAGE, "at most %g s of '%s' are to be read: that is nothing", limit, path);
        return NULL;
    }
    audio_source *s = ace_calloc(1, sizeof *s, "an audio source", error);
    if (!s) return NULL;
    s->stop = stop;
    s->path = ace_strdup(path, error);
    bool ok = s->path && open_stream(s, error);
    if (ok) {
        s->info = (audio_source_info){
            .path = s->path, .rate = audio_reader_rate(s->reader), .channels = audio_reader_channels(s->reader)};
        s->info.claimed = (double)audio_reader_frames(s->reader) / s->info.rate;
        ok = examine(s, llrint(fmin(limit, LONGEST) * AUDIO_SAMPLE_RATE), error) && audio_source_rewind(s, error);
    }
    if (ok) return s;
    audio_source_close(s);
    return NULL;
}

const audio_source_info *audio_source_describe(const audio_source *s)
{
    return &s->info;
}

bool audio_source_read(audio_source *s, float *frames, size_t n, size_t *got, ace_error *error)
{
    int64_t left = s->info.frames - s->given;
    if ((int64_t)n > left) n = (size_t)left;
    if (!stream(s, frames, n, got, error)) return false;
    s->given += (int64_t)*got;
    if (*got < n) return ace_fail(error, ACE_ERROR_FORMAT, "'%s' was changed while it was read", s->path);
    return true;
}

bool audio_source_rewind(audio_source *s, ace_error *error)
{
    return open_stream(s, error);
}

void audio_source_close(audio_source *s)
{
    if (!s) return;
    close_stream(s);
    free(s->path);
    free(s);
}
