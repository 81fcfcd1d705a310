/* tier_trial.h - what acestep tier-test tries at one size of memory, and what came out. */
#ifndef ACE_CLI_TIER_TRIAL_H
#define ACE_CLI_TIER_TRIAL_H

#include "cli.h"

#include <stdio.h>

enum { TIER_SIZES = 16, TIER_SIZE_TEXT = 16 };

/* What is wanted of all trials. */
typedef struct tier_test {
    ace_engine_options engine; /* first: the engine's option setters write here */
    const char *synthetic;     /* "2b", "xl": the dimensions, where there is no checkpoint */
    int size_count;
    char sizes[TIER_SIZES][TIER_SIZE_TEXT]; /* GiB as they were written: MAX_CUDA_VRAM takes them literally */
    const char *duration, *steps;           /* of the song, as the request's fields take them */
    const char *output, *profile_file;
    bool with_lm, boundary, batch_boundary, plan_only, json, quiet, replace;
} tier_test;

typedef enum tier_variant {
    TIER_DEFAULT,    /* as the tier sets it */
    TIER_NO_QUANT,   /* weights as the checkpoint has them */
    TIER_NO_OFFLOAD, /* everything stays loaded */
    TIER_BATCH       /* the memory alone, without the tier's limits */
} tier_variant;

const char *tier_variant_name(tier_variant variant); /* "default", "no-quant", "no-offload", "batch" */

typedef enum tier_outcome {
    TIER_UNTRIED, /* `error` says why */
    TIER_REFUSED, /* no plan fits; `error` says what would be needed */
    TIER_PLANNED, /* a plan fits; it was not run: `note` says why */
    TIER_FAILED,  /* it was run and failed: `error` */
    TIER_DONE
} tier_outcome;

typedef struct tier_trial {
    const char *size;
    double gib;
    tier_variant variant;
    bool asked_lm; /* with the language model */
    bool with_lm;  /* the same, where the tier offers one */
    int batch;
    double duration; /* asked for; plan.duration is what the tier allows of it */
    double estimate; /* seconds; 0 while unknown */

    tier_outcome outcome;
    bool opened; /* the engine could be opened */
    char tier[16], lm[64], checkpoint[128], device[128], precision[16], quantization[16];
    int limit_batch; /* the tier's own largest */
    ace_memory_plan plan;
    double seconds, load, lm_seconds, condition, dit, vae; /* of the run */
    size_t measured;                                       /* peak bytes */
    ace_status status;
    char error[1024], note[256];
} tier_trial;

/* Whether there is a plan, or more. */
bool tier_succeeded(const tier_trial *trial);

/* Whether it is what the default does already, where it is possible: the program unloads only what does not fit and
 * quantizes only when it is told to. */
bool tier_is_default_run(const tier_test *test, const tier_trial *trial);

/* Opens the engine as a card of that size would, and plans. `speed` is measured when it is still zero. */
void tier_plan_trial(const tier_test *test, tier_trial *trial, ace_speed *speed);

/* Runs what was planned. False when a person stopped it. */
bool tier_run_trial(const tier_test *test, tier_trial *trial);

/* ---- what is told (tier_report.c) ---- */

/* A table for people, the rows to submit and the analysis. */
void tier_print(const tier_test *test, const tier_trial *trials, int count);

/* One JSON object. `complete` is false where a person stopped the test. */
bool tier_write_json(FILE *file, const tier_test *test, const tier_trial *trials, int count, bool complete);

/* ---- the measured profile (tier_profile.c) ---- */

/* Has every tier's limits proved by plans of real dimensions and writes them as a tier file. Returns the exit code. */
int tier_write_profile(const tier_test *test);

/* Writes a file that appears complete or not at all, and replaces none unless `replace`. */
bool tier_save(const char *path, bool replace, const char *text, size_t n, ace_error *error);

/* ACE_ERROR_IO when a file may not be replaced. */
bool tier_may_save(const char *path, bool replace, ace_error *error);

#endif
