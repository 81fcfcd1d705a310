#include "audio/audio_reader.h"

#include "audio/audio_format.h"
#include "base/error.h"
#include "base/memory.h"

#include <errno.h>
#include <math.h>
#include <sndfile.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { BLOCK = 4096, CHANNELS_MAX = 64, RATE_MIN = 1000, RATE_MAX = 768000 };

struct audio_reader {
    SNDFILE *file;
    SF_INFO info;
    char *path;
    float *block;     /* [BLOCK][file's channels] */
    int64_t position; /* frames read so far */
};

/* libsndfile would wait for ever at a pipe and play with devices, so only regular files are opened. */
static bool check_regular(const char *path, ace_error *error)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return ace_fail(error, ACE_ERROR_IO, "cannot open '%s': %s; check the path", path, strerror(errno));
    if (!S_ISREG(info.st_mode))
        return ace_fail(error, ACE_ERROR_IO, "'%s' is not a regular file: give the path of a file", path);
    return true;
}

static bool check_info(const SF_INFO *info, const char *path, ace_error *error)
{
    /* libsndfile takes some extensions (.vox, .gsm) at their word and would decode anything: noise, not music. */
    if ((info->format & SF_FORMAT_TYPEMASK) == SF_FORMAT_RAW)
        return ace_fail(error, ACE_ERROR_FORMAT, "'%s' has no header that tells its format: convert it to WAV or FLAC",
                        path);
    if (info->channels < 1 || info->channels > CHANNELS_MAX)
        return ace_fail(error, ACE_ERROR_FORMAT, "'%s' claims %d channels: 1 to %d are read", path, info->channels,
                        CHANNELS_MAX);
    if (info->samplerate < RATE_MIN || info->samplerate > RATE_MAX)
        return ace_fail(error, ACE_ERROR_FORMAT, "'%s' claims %d frames per second: %d to %d are read", path,
                        info->samplerate, RATE_MIN, RATE_MAX);
    return true;
}

audio_reader *audio_reader_open(const char *path, ace_error *error)
{
    if (!check_regular(path, error)) return NULL;
    audio_reader *r = ace_calloc(1, sizeof *r, "the audio reader", error);
    if (r) r->path = ace_strdup(path, error);
    bool ok = r && r->path;
    if (ok) {
        r->file = sf_open(path, SFM_READ, &r->info);
        ok = r->file
                 ? check_info(&r->info, path, error)
                 : ace_fail(error, ACE_ERROR_FORMAT, "'%s' cannot be decoded: %s; convert it to WAV, FLAC, MP3 or Ogg",
                            path, sf_strerror(NULL));
    }
    if (ok) r->block = ace_calloc((size_t)BLOCK * (size_t)r->info.channels, sizeof(float), "an audio block", error);
    if (ok && r->block) return r;
    audio_reader_close(r);
    return NULL;
}

int audio_reader_rate(const audio_reader *r)
{
    return r->info.samplerate;
}

int audio_reader_channels(const audio_reader *r)
{
    return r->info.channels;
}

int64_t audio_reader_frames(const audio_reader *r)
{
    return r->info.frames;
}

bool audio_reader_read(audio_reader *r, float *frames, size_t n, size_t *got, ace_error *error)
{
    size_t channels = (size_t)r->info.channels, right = channels > 1 ? 1 : 0;
    *got = 0;
    while (*got < n) {
        size_t want = n - *got < BLOCK ? n - *got : BLOCK;
        sf_count_t read = sf_readf_float(r->file, r->block, (sf_count_t)want);
        if (sf_error(r->file) != SF_ERR_NO_ERROR)
            return ace_fail(error, ACE_ERROR_FORMAT, "'%s' is damaged near second %.3f: %s", r->path,
                            (double)r->position / r->info.samplerate, sf_strerror(r->file));
        if (read <= 0) break;
        for (size_t i = 0; i < (size_t)read; i++) {
            float *frame = frames + (*got + i) * AUDIO_CHANNELS;
            frame[0] = r->block[i * channels];
            frame[1] = r->block[i * channels + right];
            if (!isfinite(frame[0]) || !isfinite(frame[1]))
                return ace_fail(error, ACE_ERROR_FORMAT, "'%s' has a sample that is not a number at second %.3f",
                                r->path, ((double)r->position + (double)i) / r->info.samplerate);
        }
        *got += (size_t)read;
        r->position += read;
    }
    return true;
}

void audio_reader_close(audio_reader *r)
{
    if (!r) return;
    if (r->file) sf_close(r->file);
    free(r->path);
    free(r->block);
    free(r);
}

/* Reads until the end, growing with what is really there: the header's length is only a claim. */
static bool read_all(audio_clip *clip, audio_reader *r, int64_t limit, ace_error *error)
{
    size_t capacity = 0, got;
    do {
        if ((size_t)clip->count == capacity) {
            capacity = capacity ? capacity * 2 : (size_t)r->info.samplerate * 4;
            float *grown = ace_realloc(clip->frames, capacity, AUDIO_CHANNELS * sizeof(float), "a recording", error);
            if (!grown) return false;
            clip->frames = grown;
        }
        size_t room = capacity - (size_t)clip->count;
        if (!audio_reader_read(r, clip->frames + clip->count * AUDIO_CHANNELS, room, &got, error)) return false;
        clip->count += (int64_t)got;
        if (clip->count > limit)
            return ace_fail(error, ACE_ERROR_USAGE, "'%s' is longer than the %.0f s that are allowed: cut it", r->path,
                            (double)limit / r->info.samplerate);
    } while (got > 0);
    if (clip->count == 0) return ace_fail(error, ACE_ERROR_FORMAT, "'%s' holds no audio", r->path);
    return true;
}

bool audio_read_file(audio_clip *clip, const char *path, double seconds, ace_error *error)
{
    *clip = (audio_clip){0};
    audio_reader *r = audio_reader_open(path, error);
    if (!r) return false;
    clip->rate = r->info.samplerate;
    bool ok = read_all(clip, r, llrint(seconds * r->info.samplerate), error);
    audio_reader_close(r);
    if (!ok) {
        free(clip->frames);
        *clip = (audio_clip){0};
    }
    return ok;
}
