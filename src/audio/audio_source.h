/* audio_source.h - any audio file as the models hear it: 48 kHz, two channels, in [-1, 1] (vae-audio.md 15).
 *
 * The order is the official program's: decode, mono doubled or the first two of many channels, resample
 * (audio_resample.h), clamp. No level is changed. Opening decodes the file once from end to end, because neither the
 * length that a header claims nor the health of what follows it can be trusted, and what comes next may cost minutes:
 * the length is exact and damage is found first. Memory does not depend on the length. */
#ifndef ACE_AUDIO_SOURCE_H
#define ACE_AUDIO_SOURCE_H

#include "audio/audio_format.h"

#include <stdatomic.h>

typedef struct audio_source audio_source;

typedef struct audio_source_info {
    const char *path;
    int64_t frames;     /* at AUDIO_SAMPLE_RATE, >= 1: exactly what audio_source_read() will give */
    bool truncated;     /* the file goes on beyond the limit */
    bool silent;        /* every |x| < 1e-6: the official program's rule (vae-audio.md 17) */
    int rate, channels; /* of the file */
    double claimed;     /* seconds, as the file's header has it; what is behind the limit was not looked at */
} audio_source_info;

/* Opens and examines a file, of which the first `limit` seconds are used (> 0; a week at most). `stop`, which may be
 * NULL, ends the examination with ACE_CANCELLED when it becomes true. NULL with an error: ACE_ERROR_IO for a file that
 * cannot be opened, ACE_ERROR_FORMAT for one that cannot be decoded, is damaged, has samples that are not finite, or
 * holds no audio at all. */
audio_source *audio_source_open(const char *path, double limit, const atomic_bool *stop, ace_error *error);

/* Valid as long as the source. */
const audio_source_info *audio_source_describe(const audio_source *source);

/* The next n frames, interleaved stereo; *got is less than n only at the end. A file that no longer is what it was when
 * it was opened is ACE_ERROR_FORMAT. */
bool audio_source_read(audio_source *source, float *frames, size_t n, size_t *got, ace_error *error);

/* Back to the first frame. */
bool audio_source_rewind(audio_source *source, ace_error *error);

/* NULL is allowed. */
void audio_source_close(audio_source *source);

#endif
