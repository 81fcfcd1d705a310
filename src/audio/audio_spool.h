/* audio_spool.h - a whole song on disk instead of in memory, until its peak is known.
 *
 * The level of a song depends on the peak of all its samples (audio_level.h), but windows arrive one by one. They wait
 * in a temporary file without a name, which vanishes with the process whatever happens. Frames are interleaved stereo
 * float32: frame i is frames[2i] (left) and frames[2i + 1] (right). */
#ifndef ACE_AUDIO_SPOOL_H
#define ACE_AUDIO_SPOOL_H

#include <acestep.h>

/* Read the fields, change them only through the functions. */
typedef struct audio_spool {
    int fd;         /* -1 when closed */
    char *path;     /* for messages: the output beside which the spool lies */
    int64_t frames; /* appended so far */
    float peak;     /* max |x| of all samples appended so far; 0 when empty */
} audio_spool;

/* An empty spool in the directory of `path`, which should be the song's output path: the same disk must hold both. */
bool audio_spool_open(audio_spool *spool, const char *path, ace_error *error);

/* Appends n frames. A NaN or infinite sample is ACE_ERROR_NUMERIC naming its second, and nothing is appended. After
 * a failed write (full disk: ACE_ERROR_IO) the frames count and peak are unchanged and the append may be repeated. */
bool audio_spool_append(audio_spool *spool, const float *frames, size_t n, ace_error *error);

/* Reads the n frames from frame `first` on; a range outside the spool is ACE_ERROR_INTERNAL. */
bool audio_spool_read(const audio_spool *spool, int64_t first, float *frames, size_t n, ace_error *error);

/* The magnitude |x| number `rank` (from 0) in ascending order of all samples of both channels, exactly; reads the spool
 * twice. */
bool audio_spool_rank(const audio_spool *spool, int64_t rank, float *magnitude, ace_error *error);

/* Removes the spool; safe on a zeroed, failed or closed one. */
void audio_spool_close(audio_spool *spool);

#endif
