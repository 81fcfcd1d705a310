/* audio_level.h - the level of a finished song: limiter, peak normalisation, fades (spec/vae-audio.md §18).
 *
 * First a plan is computed from the song's peak and length, then it is applied block by block. Every sample depends on
 * its own position only, so the result does not depend on how the song is cut into blocks. All arithmetic on samples is
 * float32 with the official program's order of operations. */
#ifndef ACE_AUDIO_LEVEL_H
#define ACE_AUDIO_LEVEL_H

#include <acestep.h>

typedef struct audio_level_options {
    bool normalize;           /* scale so that the song's peak is peak_db */
    double peak_db;           /* dBFS, <= 0 */
    double fade_in, fade_out; /* seconds, >= 0; cut to the song's length */
} audio_level_options;

/* The official defaults: peak at -1 dBFS, no fades. */
audio_level_options audio_level_defaults(void);

/* What happens to the sample x of frame i: x / limit * gain (* ceiling applied when clip) * fade_in(i) * fade_out(i).
 */
typedef struct audio_level {
    float limit;      /* the limiter's divisor: the decoded peak, at least 1 */
    float gain;       /* the normalisation's factor; 1 when there is none */
    bool clip;        /* clamp to [-1, 1] after the gain: only the percentile rule needs it */
    int64_t frames;   /* length of the song */
    int64_t fade_in;  /* frames of the fade at the start: linspace(0, 1, fade_in), both ends included */
    int64_t fade_out; /* frames of the fade at the end: linspace(1, 0, fade_out), both ends included */
} audio_level;

/* The limiter's divisor for a decoded peak: max(peak, 1). The repaint splice happens between the limiter and the
 * normalisation, on samples already divided by this. */
float audio_level_limit(float peak);

/* The plan for a song of `frames` frames at `rate` frames per second whose samples have max |x| = `peak` (finite,
 * before the limiter). Peaks below 1e-6 are not normalised: silence stays silence. Options that are not finite or out
 * of range are ACE_ERROR_USAGE. */
bool audio_level_plan(audio_level *level, const audio_level_options *options, float peak, int64_t frames, int rate,
                      ace_error *error);

/* acestep.cpp's rule instead of the above (spec/vae-audio.md §21): x * (1 / reference) clamped to [-1, 1], no fades.
 * The reference is the magnitude that audio_spool_rank() finds for audio_level_percentile_rank(). */
bool audio_level_plan_percentile(audio_level *level, float reference, int64_t frames, ace_error *error);

/* Which of `samples` magnitudes in ascending order is the reference when `millionths` (0..999) of them may clip:
 * floor((samples - 1) * (1 - millionths / 10^6)). */
int64_t audio_level_percentile_rank(int64_t samples, int millionths);

/* Applies the plan in place to n interleaved stereo frames of which the first is frame `first` of the song. */
void audio_level_apply(const audio_level *level, int64_t first, float *frames, size_t n);

#endif
