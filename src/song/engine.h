/* engine.h - an open checkpoint on an open device. */
#ifndef ACE_SONG_ENGINE_H
#define ACE_SONG_ENGINE_H

#include "song/allowance.h"
#include "song/pipeline.h"
#include "song/planner.h"
#include "song/quantization.h"

struct ace_engine {
    atomic_bool stop;
    ace_checkpoint *checkpoint;
    ace_tokenizer *tokenizer; /* NULL: synthetic */
    ace_device *dev;
    ace_weight_form form; /* of the DiT's layers */
    int threads;          /* as asked for */
    pipeline pipeline;
    pipeline_fit fit; /* what was asked for: the most memory that a song may take */
    allowance allowance;
    size_t limit;        /* bytes of memory that a call may take, which the device keeps too; 0: none */
    bool planner_wanted; /* not refused by the options */
    planner_options planner_options;
    planner *planner; /* NULL before engine_planner() */
    char *genres;     /* behind planner_options */
    void (*warning)(void *user, const char *sentence);
    void *user;
    char hash[33]; /* of the weights, "" before engine_hash() */
};

/* Makes sure that engine->hash is known. False when the engine was stopped meanwhile. */
bool engine_hash(ace_engine *engine, ace_error *error);

/* Whether there is a planner that can write, or at least one of random weights, which can be `planned_for` and writes
 * audio codes only; if not, why (`problem` may be NULL). */
bool engine_has_planner(const ace_engine *engine, bool planned_for, ace_error *problem);

/* The planner, which is opened when it is first asked for. NULL with an error. */
planner *engine_planner(ace_engine *engine, ace_error *error);

/* A run as files and others need it: `latents` is for tests, the rest as in ace_generate. */
bool engine_generate(ace_engine *engine, const ace_request *request, const ace_callbacks *callbacks,
                     void (*latents)(void *user, const float *latents), ace_result *result, ace_error *error);

#endif
