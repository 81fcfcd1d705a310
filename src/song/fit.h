/* fit.h - making a job fit into memory: speed is given up for it, quality never.
 *
 * Measures are taken in this order, each only if it helps the stage that needs most, until the job fits: unload what a
 * stage has used; halve the window of the VAE; stream the layers of the DiT, then those of the text encoder; let songs
 * and the halves of guidance take turns. (The planner, which works alone, has its own measures: arrange.h.) Every
 * candidate is judged by running the pipeline on the meter. */
#ifndef ACE_SONG_FIT_H
#define ACE_SONG_FIT_H

#include "song/pipeline.h"

/* Finds how `job` runs within `limit` bytes (0: no limit), starting from what was asked for. `others` are bytes of
 * weights on the device that are not the pipeline's. *needs, whose total_peak includes `others`, is that of the chosen
 * fit, or of the smallest one with ACE_ERROR_MEMORY when none fits; the error says what takes most and what would help.
 * The pipeline is not touched. */
bool fit_choose(const pipeline *p, const song_job *job, const pipeline_fit *asked, size_t limit, size_t others,
                pipeline_fit *fit, pipeline_needs *needs, ace_error *error);

/* Finds the smallest way, with nothing else on the device, and what it needs. */
bool fit_smallest(const pipeline *p, const song_job *job, const pipeline_fit *asked, pipeline_fit *fit,
                  pipeline_needs *needs, ace_error *error);

static inline bool fit_same(const pipeline_fit *a, const pipeline_fit *b)
{
    return a->evict == b->evict && a->stream_dit == b->stream_dit && a->stream_text == b->stream_text &&
           a->one_by_one == b->one_by_one && a->vae_window == b->vae_window;
}

#endif
