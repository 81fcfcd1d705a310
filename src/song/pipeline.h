/* pipeline.h - a job becomes audio on a device: load, condition, diffuse, decode. The same code runs on the meter,
 * which is the plan. */
#ifndef ACE_SONG_PIPELINE_H
#define ACE_SONG_PIPELINE_H

#include "device/device.h"
#include "model/audio_tokenizer.h"
#include "model/condition_encoder.h"
#include "model/dit.h"
#include "model/qwen3.h"
#include "model/vae.h"
#include "song/job.h"

/* How a job is fitted into memory, at the price of time. None of it shows in the result. */
typedef struct pipeline_fit {
    bool evict;       /* the weights of a stage are loaded when it begins and freed when it ends */
    bool stream_dit;  /* a layer of the DiT is loaded when it is needed, and freed */
    bool stream_text; /* the same of the text encoder */
    bool one_by_one;  /* the songs of a batch and the halves of guidance go through the DiT in turns */
    int vae_window;   /* latent frames; 0: default */
} pipeline_fit;

typedef struct pipeline {
    ace_device *dev;
    const ace_checkpoint *checkpoint;
    pipeline_fit fit;
    ace_weight_form form; /* of the DiT's layers; unlike the fit, it shows in the result */

    /* what is loaded; kept from one job to the next */
    bool has_text, has_condition, has_dit, has_detokenizer;
    bool wants_detokenizer; /* loads it whether a job needs it or not */
    qwen3 text;
    condition_encoder condition;
    dit dit;
    audio_detokenizer detokenizer;
    vae_decoder *decoder;
} pipeline;

/* Who watches. All may be NULL; they are not called on the meter. */
typedef struct pipeline_watch {
    void *user;
    /* A unit of a stage is done; also called with done = 0 when a stage begins. */
    void (*progress)(void *user, ace_stage stage, const char *unit, int64_t done, int64_t total);
    /* Decoded audio frames [first, first + count) of an item; false with an error stops. */
    bool (*audio)(void *user, int item, int64_t first, int64_t count, const float *samples, ace_error *error);
    /* For tests: the final latents, [batch][frames][channels] */
    void (*latents)(void *user, const float *latents);
} pipeline_watch;

/* Nothing is loaded yet. The device and the checkpoint are the caller's and must outlive the pipeline. */
void pipeline_init(pipeline *p, ace_device *dev, const ace_checkpoint *checkpoint, ace_weight_form form,
                   const pipeline_fit *fit);
void pipeline_unload(pipeline *p);

/* Unloads what is loaded otherwise than `fit` says. */
void pipeline_set_fit(pipeline *p, const pipeline_fit *fit);

/* Runs a job. Scratch must be reserved for it (see pipeline_plan) and is all released afterwards. costs: one per stage,
 * may be NULL. */
bool pipeline_run(pipeline *p, const song_job *job, const pipeline_watch *watch, ace_stage_cost costs[ACE_STAGE_COUNT],
                  ace_error *error);

typedef struct pipeline_needs {
    size_t scratch, host, total_peak;       /* bytes; host: for ace_scratch_reserve(), not in the peak */
    ace_stage_cost stages[ACE_STAGE_COUNT]; /* seconds are not known */
    double total_flops;
} pipeline_needs;

/* What pipeline_run(p, job) will need on p's device with all that p has loaded: a run on the meter. */
bool pipeline_plan(const pipeline *p, const song_job *job, pipeline_needs *needs, ace_error *error);

#endif
