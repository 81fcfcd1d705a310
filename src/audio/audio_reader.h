/* audio_reader.h - any audio file that libsndfile decodes, as interleaved stereo float32 (spec/vae-audio.md §15).
 *
 * Integer samples are scaled by 1/2^(bits-1). Mono is duplicated; of more than two channels the first two are taken.
 * Samples may lie outside [-1, 1] (float files, lossy decoders): the official program clamps after resampling, so the
 * caller does. Nothing is resampled here. */
#ifndef ACE_AUDIO_READER_H
#define ACE_AUDIO_READER_H

#include <acestep.h>

typedef struct audio_reader audio_reader;

/* Opens a file; one that is missing is ACE_ERROR_IO, one that cannot be decoded or has an absurd rate or channel count
 * ACE_ERROR_FORMAT. */
audio_reader *audio_reader_open(const char *path, ace_error *error);

int audio_reader_rate(const audio_reader *reader);       /* frames per second */
int audio_reader_channels(const audio_reader *reader);   /* of the file */
int64_t audio_reader_frames(const audio_reader *reader); /* as the file claims; it may hold fewer */

/* Decodes up to n frames; *got is less than n only at the end. NaN or infinity in the file is ACE_ERROR_FORMAT. */
bool audio_reader_read(audio_reader *reader, float *frames, size_t n, size_t *got, ace_error *error);

void audio_reader_close(audio_reader *reader);

/* A whole recording in memory; free(frames). */
typedef struct audio_clip {
    float *frames; /* [count][2] */
    int64_t count;
    int rate;
} audio_clip;

/* Reads a whole file, refusing one longer than `seconds` (ACE_ERROR_USAGE) or without a single frame
 * (ACE_ERROR_FORMAT). */
bool audio_read_file(audio_clip *clip, const char *path, double seconds, ace_error *error);

#endif
