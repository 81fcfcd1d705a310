/* audio_resample.h - another sample rate, exactly as torchaudio's Resample with its defaults makes it, which is what
 * the official program uses: a sinc of 6 zero crossings under a Hann window, cut off at 0.99 of the lower Nyquist
 * frequency (vae-audio.md 16.1; J. O. Smith, Digital Audio Resampling). The coefficients are rounded as there, so that
 * outputs agree to the rounding of its float32 sums; here sums are in double, always in the same order.
 *
 * Streams: frames go in and come out in blocks of any size, and the result does not depend on the sizes. Equal rates
 * pass through untouched. */
#ifndef ACE_AUDIO_RESAMPLE_H
#define ACE_AUDIO_RESAMPLE_H

#include "audio/audio_format.h"

enum { AUDIO_RATE_MIN = 1000, AUDIO_RATE_MAX = 768000 };

typedef struct audio_resampler audio_resampler;

/* For interleaved stereo at `from` frames per second, which become `to` a second; both AUDIO_RATE_MIN to
 * AUDIO_RATE_MAX, or ACE_ERROR_USAGE. The coefficients of 44.1 to 48 kHz take 10 kB; those of rates without a common
 * divisor, one row for each of up to 768000 phases, at most 55 MB. */
audio_resampler *audio_resampler_new(int from, int to, ace_error *error);

/* Takes in up to n frames and returns how many: fewer, possibly none, while output waits to be taken. */
size_t audio_resampler_put(audio_resampler *resampler, const float *frames, size_t n);

/* Says that no more goes in: the rest of the output becomes available, ceil(frames in * to / from) in all. torchaudio
 * computes that length in float32 and gives one frame less of many recordings that are longer than some 20 seconds. */
void audio_resampler_end(audio_resampler *resampler);

/* Hands out up to n frames and returns how many: none when more input is needed or, after the end, when all is out. */
size_t audio_resampler_take(audio_resampler *resampler, float *frames, size_t n);

/* NULL is allowed. */
void audio_resampler_free(audio_resampler *resampler);

#endif
