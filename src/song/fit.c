#include "song/fit.h"

#include "base/error.h"
#include "model/vae.h"

enum { SMALLEST_WINDOW = 8, MEASURES = 8 };

/* Whether the measure changes anything; `fit` then has it taken. */
static bool take_measure(const pipeline *p, const song_job *job, int measure, pipeline_fit *fit)
{
    pipeline_fit before = *fit;
    int window =
        fit->vae_window ? fit->vae_window : (int)vae_decode_window(&p->checkpoint->vae, ace_device_act(p->dev));
    switch (measure) {
    case 0:
        fit->evict = true;
        return !before.evict;
    case 1:
    case 2:
    case 3:
        fit->vae_window = window / 2;
        return window / 2 >= SMALLEST_WINDOW;
    case 4:
        fit->stream_dit = true;
        return !before.stream_dit;
    case 5:
        fit->stream_text = true;
        return !before.stream_text;
    case 6:
        fit->one_by_one = true;
        return !before.one_by_one && (job->batch > 1 || job->sampler.guidance_scale > 1);
    default:
        return false;
    }
}

static bool judge(const pipeline *p, const song_job *job, const pipeline_fit *fit, size_t others, pipeline_needs *needs,
                  ace_error *error)
{
    pipeline candidate;
    pipeline_init(&candidate, p->dev, p->checkpoint, fit);
    candidate.has_detokenizer = p->has_detokenizer && !fit->evict;
    if (!pipeline_plan(&candidate, job, needs, error)) return false;
    needs->total_peak += others;
    return true;
}

static bool does_not_fit(const song_job *job, const pipeline_needs *needs, size_t limit, ace_error *error)
{
    static const double gib = 1073741824.0;
    ace_stage worst = ACE_STAGE_LOAD;
    for (int i = 0; i < ACE_STAGE_COUNT; i++)
        if (needs->stages[i].peak_bytes > needs->stages[worst].peak_bytes) worst = (ace_stage)i;
    return ace_fail(error, ACE_ERROR_MEMORY,
                    "%d song%s of %.1f s need %.2f GiB of memory even in the most sparing way, most of it in the stage "
                    "'%s', and %.2f GiB are allowed: ask for a shorter song%s, or allow more",
                    job->batch, job->batch == 1 ? "" : "s", (double)job->frames / 25, (double)needs->total_peak / gib,
                    ace_stage_name(worst), (double)limit / gib, job->batch == 1 ? "" : " or fewer at once");
}

bool fit_choose(const pipeline *p, const song_job *job, const pipeline_fit *asked, size_t limit, size_t others,
                pipeline_fit *fit, pipeline_needs *needs, ace_error *error)
{
    *fit = *asked;
    if (!judge(p, job, fit, others, needs, error)) return false;
    for (int measure = 0; measure < MEASURES && limit > 0 && needs->total_peak > limit; measure++) {
        pipeline_fit candidate = *fit;
        pipeline_needs sparing;
        if (!take_measure(p, job, measure, &candidate)) continue;
        if (!judge(p, job, &candidate, others, &sparing, error)) return false;
        if (sparing.total_peak >= needs->total_peak) continue;
        *fit = candidate;
        *needs = sparing;
    }
    return limit == 0 || needs->total_peak <= limit || does_not_fit(job, needs, limit, error);
}
