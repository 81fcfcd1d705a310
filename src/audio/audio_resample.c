#include "audio/audio_resample.h"

#include "base/error.h"
#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Frames that may be put at once before output must be taken; sums that make up an output value. */
enum { BLOCK = 4096, LANES = 4 };

/* lowpass_filter_width and rolloff, torchaudio's defaults */
static const double ZERO_CROSSINGS = 6, ROLLOFF = 0.99;

/* With o = from / gcd and n = to / gcd, o frames in become n frames out: output frame f * n + i, of phase i, is
 *
 *   y = sum_j kernel[i][j] * x[f * o + first[i] + j]        x is zero before its start and behind its end.
 *
 * torchaudio's kernel has 2 * width + o taps in every row, all but these outside the window and zero. */
struct audio_resampler {
    int64_t o, n;
    int taps;       /* a multiple of LANES */
    float *kernel;  /* [n][taps] */
    int32_t *first; /* [n], ascending; negative at the start */

    float *frames; /* [capacity][2]: input, the first of it zeros from before the start */
    size_t capacity, count;
    int64_t position; /* input frame at frames[0] */

    int64_t phase, start; /* of the next output frame: i, f * o */
    int64_t in, out;      /* frames taken in, handed out */
    bool ended;
};

static int64_t gcd(int64_t a, int64_t b)
{
    while (b) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* The coefficient of the input frame that lies `offset` after the first of the o frames to which phase i belongs.
 * The phase is rounded to float32 as in torchaudio: at 44.1 kHz that shows in the fifth digit. */
static float coefficient(int64_t o, int64_t n, int64_t i, int64_t offset)
{
    double base = (double)(o < n ? o : n) * ROLLOFF;
    float phase = -(float)i / (float)n;
    double t = ((double)phase + (double)offset / (double)o) * base;
    t = fmax(-ZERO_CROSSINGS, fmin(ZERO_CROSSINGS, t));
    double window = cos(t * M_PI / ZERO_CROSSINGS / 2);
    double sinc = t == 0 ? 1 : sin(t * M_PI) / (t * M_PI);
    return (float)(sinc * (window * window * (base / (double)o)));
}

/* Input frames from the middle of the window to its end. */
static double half_width(const audio_resampler *r)
{
    return ZERO_CROSSINGS * (double)r->o / ((double)(r->o < r->n ? r->o : r->n) * ROLLOFF);
}

static void fill_kernel(audio_resampler *r)
{
    double reach = half_width(r);
    for (int64_t i = 0; i < r->n; i++) {
        int64_t first = (int64_t)floor((double)r->o * (double)i / (double)r->n - reach);
        r->first[i] = (int32_t)first;
        for (int j = 0; j < r->taps; j++) r->kernel[i * r->taps + j] = coefficient(r->o, r->n, i, first + j);
    }
}

static bool allocate(audio_resampler *r, ace_error *error)
{
    /* the open window is 2 * reach wide; its floor and the rounding of the phase add less than a tap each */
    double reach = r->o == r->n ? 0 : half_width(r);
    r->taps = ((int)ceil(2 * reach) + 2 + LANES - 1) / LANES * LANES;
    r->capacity = (size_t)r->taps + BLOCK;
    r->kernel = ace_calloc((size_t)r->n, (size_t)r->taps * sizeof *r->kernel, "a resampling filter", error);
    r->first = ace_calloc((size_t)r->n, sizeof *r->first, "a resampling filter", error);
    r->frames = ace_calloc(r->capacity, AUDIO_CHANNELS * sizeof *r->frames, "a resampling block", error);
    return r->kernel && r->first && r->frames;
}

audio_resampler *audio_resampler_new(int from, int to, ace_error *error)
{
    int low = from < to ? from : to, high = from < to ? to : from;
    if (low < AUDIO_RATE_MIN || high > AUDIO_RATE_MAX) {
        ace_fail(error, ACE_ERROR_USAGE, "cannot resample from %d to %d frames per second: %d to %d are possible", from,
                 to, AUDIO_RATE_MIN, AUDIO_RATE_MAX);
        return NULL;
    }
    audio_resampler *r = ace_calloc(1, sizeof *r, "the resampler", error);
    if (!r) return NULL;
    int64_t divisor = gcd(from, to);
    r->o = from / divisor;
    r->n = to / divisor;
    if (!allocate(r, error)) {
        audio_resampler_free(r);
        return NULL;
    }
    if (from != to) {
        fill_kernel(r);
        r->position = r->first[0];
        r->count = (size_t)-r->position;
    } else {
        r->kernel[0] = 1; /* torchaudio does not filter either */
    }
    return r;
}

void audio_resampler_free(audio_resampler *r)
{
    if (!r) return;
    free(r->kernel);
    free(r->first);
    free(r->frames);
    free(r);
}

/* The first input frame that is still needed. */
static int64_t needed(const audio_resampler *r)
{
    return r->start + r->first[r->phase];
}

/* Moves what is still needed to the front. A step is shorter than the window, so it never lies ahead of the input. */
static void make_room(audio_resampler *r)
{
    size_t done = (size_t)(needed(r) - r->position);
    r->count -= done;
    memmove(r->frames, r->frames + done * AUDIO_CHANNELS, r->count * AUDIO_CHANNELS * sizeof *r->frames);
    r->position += (int64_t)done;
}

size_t audio_resampler_put(audio_resampler *r, const float *frames, size_t n)
{
    if (r->count + n > r->capacity) make_room(r);
    if (n > r->capacity - r->count) n = r->capacity - r->count;
    memcpy(r->frames + r->count * AUDIO_CHANNELS, frames, n * AUDIO_CHANNELS * sizeof *frames);
    r->count += n;
    r->in += (int64_t)n;
    return n;
}

void audio_resampler_end(audio_resampler *r)
{
    r->ended = true;
}

/* Zeros behind the end, as many as fit. */
static void pad(audio_resampler *r)
{
    make_room(r);
    size_t n = r->capacity - r->count;
    memset(r->frames + r->count * AUDIO_CHANNELS, 0, n * AUDIO_CHANNELS * sizeof *r->frames);
    r->count = r->capacity;
}

/* LANES sums a channel, so that additions need not wait for each other. */
static void convolve(const audio_resampler *r, float *y)
{
    const float *k = r->kernel + r->phase * r->taps, *x = r->frames + (needed(r) - r->position) * AUDIO_CHANNELS;
    double left[LANES] = {0}, right[LANES] = {0};
    for (int j = 0; j < r->taps; j += LANES)
        for (int lane = 0; lane < LANES; lane++) {
            left[lane] += (double)k[j + lane] * (double)x[2 * (j + lane)];
            right[lane] += (double)k[j + lane] * (double)x[2 * (j + lane) + 1];
        }
    y[0] = (float)((left[0] + left[1]) + (left[2] + left[3]));
    y[1] = (float)((right[0] + right[1]) + (right[2] + right[3]));
}

/* Whether the next output frame exists: one beyond the end of a signal that has ended does not. */
static bool goes_on(const audio_resampler *r)
{
    return !r->ended || r->out * r->o < r->in * r->n;
}

size_t audio_resampler_take(audio_resampler *r, float *frames, size_t n)
{
    size_t given = 0;
    while (given < n && goes_on(r)) {
        if (needed(r) + r->taps > r->position + (int64_t)r->count) {
            if (!r->ended) break;
            pad(r);
        }
        convolve(r, frames + given * AUDIO_CHANNELS);
        given++;
        r->out++;
        if (++r->phase < r->n) continue;
        r->phase = 0;
        r->start += r->o;
    }
    return given;
}
