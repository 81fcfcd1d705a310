#include "song/fit.h"

#include "base/error.h"
#include "model/vae.h"
#include "song/quantization.h"

enum { SMALLEST_WINDOW = 8 };

typedef enum measure { EVICT, HALVE_WINDOW, STREAM_DIT, STREAM_TEXT, ONE_BY_ONE, MEASURES } measure;

/* Whether the measure can change anything in the stage that needs most; `fit` then has it taken. */
static bool take_measure(const pipeline *p, const song_job *job, measure m, ace_stage worst, pipeline_fit *fit)
{
    pipeline_fit before = *fit;
    int window =
        fit->vae_window ? fit->vae_window : (int)vae_decode_window(&p->checkpoint->vae, ace_device_act(p->dev));
    if (window > job->frames) window = (int)job->frames;
    switch (m) {
    case EVICT:
        fit->evict = true;
        return !before.evict;
    case HALVE_WINDOW:
        fit->vae_window = window / 2;
        return worst == ACE_STAGE_DECODE && window / 2 >= SMALLEST_WINDOW;
    case STREAM_DIT:
        fit->stream_dit = true;
        return worst == ACE_STAGE_DIFFUSION && !before.stream_dit;
    case STREAM_TEXT:
        fit->stream_text = true;
        return (worst == ACE_STAGE_LOAD || worst == ACE_STAGE_CONDITION) && !before.stream_text;
    case ONE_BY_ONE:
        fit->one_by_one = true;
        return worst == ACE_STAGE_DIFFUSION && !before.one_by_one &&
               (job->batch > 1 || job->sampler.guidance_scale > 1);
    case MEASURES:
        break;
    }
    return false;
}

/* The stage that needs most: the first of equals. */
static ace_stage worst_stage(const pipeline_needs *needs)
{
    ace_stage worst = ACE_STAGE_LOAD;
    for (int i = 0; i < ACE_STAGE_COUNT; i++)
        if (needs->stages[i].peak_bytes > needs->stages[worst].peak_bytes) worst = (ace_stage)i;
    return worst;
}

static bool judge(const pipeline *p, const song_job *job, const pipeline_fit *fit, size_t others, pipeline_needs *needs,
                  ace_error *error)
{
    pipeline candidate;
    pipeline_init(&candidate, p->dev, p->checkpoint, p->form, fit);
    candidate.has_detokenizer = p->has_detokenizer && !fit->evict;
    if (!pipeline_plan(&candidate, job, needs, error)) return false;
    needs->total_peak += others;
    return true;
}

/* Takes measures until the job fits or none is left. */
static bool take_measures(const pipeline *p, const song_job *job, const pipeline_fit *asked, size_t limit,
                          size_t others, pipeline_fit *fit, pipeline_needs *needs, ace_error *error)
{
    *fit = *asked;
    if (!judge(p, job, fit, others, needs, error)) return false;
    /* after a measure that helps the first ones may help again: another stage needs most now */
    for (int m = 0; m < MEASURES && limit > 0 && needs->total_peak > limit;) {
        pipeline_fit candidate = *fit;
        pipeline_needs sparing;
        if (!take_measure(p, job, (measure)m++, worst_stage(needs), &candidate)) continue;
        if (!judge(p, job, &candidate, others, &sparing, error)) return false;
        if (sparing.total_peak >= needs->total_peak) continue;
        *fit = candidate;
        *needs = sparing;
        m = 0;
    }
    return true;
}

/* The first coarser form of the DiT's layers in which the job would fit, PLAIN when there is none. That costs quality,
 * so it is only ever advised. */
static ace_weight_form form_that_fits(const pipeline *p, const song_job *job, const pipeline_fit *asked, size_t limit,
                                      size_t others)
{
    pipeline coarser;
    pipeline_fit fit;
    pipeline_needs needs;
    ace_error unread;
    if (p->form == ACE_FORM_INT4) return ACE_FORM_PLAIN;
    for (int form = p->form == ACE_FORM_INT8 ? ACE_FORM_INT4 : ACE_FORM_INT8; form <= ACE_FORM_INT4; form++) {
        pipeline_init(&coarser, p->dev, p->checkpoint, (ace_weight_form)form, &p->fit);
        if (take_measures(&coarser, job, asked, limit, others, &fit, &needs, &unread) && needs.total_peak <= limit)
            return (ace_weight_form)form;
    }
    return ACE_FORM_PLAIN;
}

static bool does_not_fit(const pipeline *p, const song_job *job, const pipeline_fit *asked, size_t limit, size_t others,
                         const pipeline_needs *needs, ace_error *error)
{
    static const double gib = 1073741824.0;
    /* no other stage has weights that a form concerns */
    ace_weight_form form =
        worst_stage(needs) == ACE_STAGE_DIFFUSION ? form_that_fits(p, job, asked, limit, others) : ACE_FORM_PLAIN;
    return ace_fail(error, ACE_ERROR_MEMORY,
                    "%d song%s of %.1f s need %.2f GiB of memory even in the most sparing way, most of it in the stage "
                    "'%s', and %.2f GiB are allowed: ask for a shorter song%s, or allow more%s%s%s",
                    job->batch, job->batch == 1 ? "" : "s", (double)job->frames / 25, (double)needs->total_peak / gib,
                    ace_stage_name(worst_stage(needs)), (double)limit / gib, job->batch == 1 ? "" : " or fewer at once",
                    form ? "; or give up some quality: with --quantization " : "", form ? quantization_name(form) : "",
                    form ? " it fits" : "");
}

bool fit_choose(const pipeline *p, const song_job *job, const pipeline_fit *asked, size_t limit, size_t others,
                pipeline_fit *fit, pipeline_needs *needs, ace_error *error)
{
    return take_measures(p, job, asked, limit, others, fit, needs, error) &&
           (limit == 0 || needs->total_peak <= limit || does_not_fit(p, job, asked, limit, others, needs, error));
}

bool fit_smallest(const pipeline *p, const song_job *job, const pipeline_fit *asked, pipeline_fit *fit,
                  pipeline_needs *needs, ace_error *error)
{
    return take_measures(p, job, asked, 1, 0, fit, needs, error);
}
