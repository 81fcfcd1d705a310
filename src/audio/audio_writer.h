/* audio_writer.h - writes one audio file: open, write blocks, then finish or abandon.
 *
 * The file appears under its name only when it is complete (base/file.h); until then, and after any failure, there is
 * none. The same samples, options and tags give the same bytes: nothing in the file depends on time or chance. */
#ifndef ACE_AUDIO_WRITER_H
#define ACE_AUDIO_WRITER_H

#include "audio/audio_format.h"
#include "audio/audio_tags.h"

typedef struct audio_writer_options {
    audio_format format;
    int rate;        /* frames per second; AUDIO_SAMPLE_RATE for songs */
    int mp3_kbps;    /* 128, 192, 256 or 320; 0 means 128 */
    int opus_kbps;   /* both channels together, 12..510; 0 means 128 */
    bool replace;    /* an existing file of that name is replaced, otherwise it is an error */
    audio_tags tags; /* borrowed during audio_writer_open() only */
} audio_writer_options;

typedef struct audio_writer audio_writer;

/* Begins the file `path`. NULL with an error: an existing file without `replace`, a bit rate that is not offered
 * (ACE_ERROR_USAGE), a tag that is too long or not UTF-8, a format that libsndfile cannot write. */
audio_writer *audio_writer_open(const char *path, const audio_writer_options *options, ace_error *error);

/* Appends n interleaved stereo frames. Integer formats round to nearest (ties to even) with full scale 2^(bits-1), and
 * clip; no dither. The lossy formats clip to [-1, 1]; "wav32" stores the floats as they are. NaN and infinity are
 * ACE_ERROR_NUMERIC. After a failure every later call fails with the first cause. */
bool audio_writer_write(audio_writer *writer, const float *frames, size_t n, ace_error *error);

/* Completes the file and gives it its name. Frees the writer, whatever happens; on failure no file is left. A file
 * without a single frame is ACE_ERROR_NUMERIC. */
bool audio_writer_finish(audio_writer *writer, ace_error *error);

/* Frees the writer and removes what it wrote. NULL is allowed. */
void audio_writer_abandon(audio_writer *writer);

#endif
