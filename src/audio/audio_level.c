#include "audio/audio_level.h"

#include "audio/audio_format.h"
#include "base/error.h"

#include <math.h>

#define SILENT_PEAK 1e-6f /* quieter songs are not normalised */

audio_level_options audio_level_defaults(void)
{
    return (audio_level_options){.normalize = true, .peak_db = -1.0};
}

float audio_level_limit(float peak)
{
    return peak > 1.0f ? peak : 1.0f;
}

static bool fade_frames(int64_t *frames, double seconds, int rate, int64_t length, ace_error *error)
{
    if (!(seconds >= 0.0 && seconds <= 3600.0))
        return ace_fail(error, ACE_ERROR_USAGE, "a fade of %g s is not possible: give 0 to 3600 seconds", seconds);
    int64_t wanted = llrint(seconds * rate);
    *frames = wanted < length ? wanted : length;
    return true;
}

bool audio_level_plan(audio_level *level, const audio_level_options *options, float peak, int64_t frames, int rate,
                      ace_error *error)
{
    if (!(options->peak_db <= 0.0 && options->peak_db >= -200.0))
        return ace_fail(error, ACE_ERROR_USAGE, "a peak of %g dBFS is not possible: give -200 to 0", options->peak_db);
    if (!(peak >= 0.0f) || isinf(peak))
        return ace_fail(error, ACE_ERROR_NUMERIC, "the song's peak is %g: no level can be set", (double)peak);
    *level = (audio_level){.limit = audio_level_limit(peak), .gain = 1.0f, .frames = frames};
    if (!fade_frames(&level->fade_in, options->fade_in, rate, frames, error) ||
        !fade_frames(&level->fade_out, options->fade_out, rate, frames, error))
        return false;
    float limited = peak / level->limit;
    /* The reciprocal first, as the official float32 arithmetic does: the same bits. */
    if (options->normalize && !(limited < SILENT_PEAK))
        level->gain = (1.0f / limited) * (float)pow(10.0, options->peak_db / 20.0);
    return true;
}

bool audio_level_plan_percentile(audio_level *level, float reference, int64_t frames, ace_error *error)
{
    if (!(reference >= 0.0f) || isinf(reference))
        return ace_fail(error, ACE_ERROR_NUMERIC, "the song's reference level is %g: no level can be set",
                        (double)reference);
    bool silent = reference < SILENT_PEAK;
    *level = (audio_level){.limit = 1.0f, .gain = silent ? 1.0f : 1.0f / reference, .clip = !silent, .frames = frames};
    return true;
}

int64_t audio_level_percentile_rank(int64_t samples, int millionths)
{
    return (int64_t)((double)(samples - 1) * (1.0 - (double)millionths / 1e6));
}

/* Element i of torch.linspace(from, to, n) in float32: both ends are exact, the halves count from their own end, and
 * the product is not rounded before the sum (PyTorch's vector code fuses them; without that the last bit differs). */
static float linspace(float from, float to, int64_t n, int64_t i)
{
    if (n == 1) return from;
    float step = (to - from) / (float)(n - 1);
    return i < n / 2 ? fmaf(step, (float)i, from) : fmaf(-step, (float)(n - 1 - i), to);
}

void audio_level_apply(const audio_level *level, int64_t first, float *frames, size_t n)
{
    int64_t fade_out_start = level->frames - level->fade_out;
    for (size_t k = 0; k < n; k++) {
        int64_t i = first + (int64_t)k;
        for (int c = 0; c < AUDIO_CHANNELS; c++) {
            float x = frames[k * AUDIO_CHANNELS + (size_t)c] / level->limit * level->gain;
            if (level->clip) x = fminf(fmaxf(x, -1.0f), 1.0f);
            if (i < level->fade_in) x *= linspace(0.0f, 1.0f, level->fade_in, i);
            if (i >= fade_out_start) x *= linspace(1.0f, 0.0f, level->fade_out, i - fade_out_start);
            frames[k * AUDIO_CHANNELS + (size_t)c] = x;
        }
    }
}
