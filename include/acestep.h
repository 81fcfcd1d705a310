/* acestep.h - the public interface of libacestep: songs from captions with ACE-Step 1.5 checkpoints.
 *
 * The journey: open an engine on a checkpoint, fill in a request, generate. Every function that can fail returns
 * false or NULL and fills an ace_error with a status and one sentence: what is wrong, where, and what to do.
 *
 * Threads: one engine serves one call at a time. Different engines are independent. Nothing here is global. */
#ifndef ACESTEP_H
#define ACESTEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default) /* what the shared library shows is what this header declares */

/* ---- errors ------------------------------------------------------------------------------------------------ */

/* The values are also the exit codes of the `acestep` program. */
typedef enum ace_status {
    ACE_OK = 0,
    ACE_ERROR_USAGE = 2,     /* the request or an option is invalid */
    ACE_ERROR_IO = 3,        /* a file cannot be found, read or written */
    ACE_ERROR_FORMAT = 4,    /* a file is damaged or not what it claims to be */
    ACE_ERROR_MODEL = 5,     /* a checkpoint is incomplete, contradicts itself, or cannot do what is asked */
    ACE_ERROR_MEMORY = 6,    /* not enough memory */
    ACE_ERROR_NUMERIC = 7,   /* the model produced NaN, infinity or nothing: noise is never presented as music */
    ACE_ERROR_DEVICE = 8,    /* a compute device failed or is missing */
    ACE_ERROR_INTERNAL = 70, /* a bug in this program */
    ACE_CANCELLED = 130      /* the caller asked to stop */
} ace_status;

typedef struct ace_error {
    ace_status status;
    char message[1024]; /* UTF-8, one sentence, never empty when status is not ACE_OK */
} ace_error;

/* "0.1.0" */
const char *ace_version(void);

/* ---- the engine -------------------------------------------------------------------------------------------- */

/* A checkpoint opened on a device. Opening maps the files and checks them; weights are loaded by the first song and
 * kept for the next. */
typedef struct ace_engine ace_engine;

typedef struct ace_engine_options {
    const char *model; /* directory or file that holds the checkpoint, searched by content; required */
    const char *dit;   /* overrides for its parts, file or directory; NULL: as found */
    const char *text_encoder;
    const char *vae;
    const char *lm;        /* the planner; "none": do without */
    const char *genres;    /* file of the genres that the planner may write, one a line; NULL: any */
    const char *recipe;    /* "turbo" or "base" (base and sft), for a file that does not say; else NULL */
    const char *synthetic; /* "2b" or "xl", with a planner "2b+1.7B": random weights, no files; for benchmarks only */
    /* NULL or "auto": a graphics card that can be used (NVIDIA's, with the plug-in), else the CPU, with a warning when
     * a card is there; "cpu"; "cuda", "cuda:1": that one, or an error */
    const char *device;
    const char *precision; /* NULL or "bf16" (as the official program on a GPU), "f32" (as on a CPU) */

    /* How the attention and MLP weights of the diffusion transformer's layers are stored, and of the planner's. NULL or
     * "none": in the precision above. "int8", "int4": quantised at loading, a half and a quarter of bf16's memory; the
     * song is another one, a little or somewhat further from the exact one. "keep": as the GGUF file's own blocks, with
     * the result of "none" and the memory of the file; without such blocks "none", with a warning. */
    const char *quantization, *lm_quantization;

    int threads;              /* 0: all CPUs this process may use */
    int vae_window;           /* latent frames (1/25 s) decoded at a time; 0: default. Never changes the result. */
    const char *tier_profile; /* of a pretended card's limits, as in ace_machine_options */
    size_t memory_limit;      /* bytes of weights and working memory; 0: none. Costs time, never changes the result. */
    void (*warning)(void *user, const char *sentence); /* may be NULL */
    void *user;
} ace_engine_options;

ace_engine *ace_engine_open(const ace_engine_options *options, ace_error *error);
void ace_engine_close(ace_engine *engine); /* NULL is allowed */

/* Makes the running call return ACE_CANCELLED within a fraction of a second; also the next one if none is running.
 * May be called from any thread and from a signal handler. */
void ace_engine_stop(ace_engine *engine);

/* What an engine runs. The texts live as long as the engine. */
typedef struct ace_engine_info {
    const char *checkpoint; /* name of the DiT's directory or file */
    const char *dit_path, *text_encoder_path, *vae_path;
    const char *lm;                             /* name of the planner, NULL: there is none */
    const char *lm_path;                        /* NULL with it */
    const char *lm_problem;                     /* why there is none and what to do; NULL when there is one */
    const char *device;                         /* "cpu (AVX-512, bf16, 2 threads)" */
    const char *precision;                      /* "bf16" or "f32" */
    const char *quantization, *lm_quantization; /* "none", "int8", "int4" or "keep" */
    bool turbo;                                 /* the recipe: turbo, or base and sft */
    bool random_weights;                        /* synthetic: never music */
    int dit_layers, dit_width;
    int sample_rate; /* Hz */
} ace_engine_info;

ace_engine_info ace_engine_get_info(const ace_engine *engine);

/* ---- the request ------------------------------------------------------------------------------------------- */

/* What song is wanted. Fields have the names of ACE-Step's API; a field that was not set takes the checkpoint's preset.
 * ace_field_at() lists them all with their ranges and meaning. */
typedef struct ace_request ace_request;

ace_request *ace_request_new(ace_error *error);
void ace_request_free(ace_request *request); /* NULL is allowed */

/* Sets one field from text ("60", "true", "C major"). Checks type and range; the request is unchanged on error. */
bool ace_request_set(ace_request *request, const char *field, const char *value, ace_error *error);

/* Sets the fields of a JSON object; unknown names and wrong types are errors. */
bool ace_request_set_json(ace_request *request, const char *json, size_t length, ace_error *error);

/* The request as one JSON object of the fields that are set. Caller frees. */
char *ace_request_to_json(const ace_request *request, ace_error *error);

/* Writes that to a file, which appears complete or not at all. */
bool ace_request_save(const ace_request *request, const char *path, bool replace, ace_error *error);

/* The value of a field as text ("" when unset). Caller frees. */
char *ace_request_get(const ace_request *request, const char *field, ace_error *error);

typedef struct ace_field {
    const char *name;
    const char *values; /* "10 to 600 seconds", "true or false", "euler, heun, ..." */
    const char *preset; /* what an unset field means */
    const char *meaning;
} ace_field;

size_t ace_field_count(void);
const ace_field *ace_field_at(size_t index); /* NULL beyond the end */

/* ---- generating -------------------------------------------------------------------------------------------- */

typedef enum ace_stage {
    ACE_STAGE_LOAD,      /* units: parts of the checkpoint */
    ACE_STAGE_LISTEN,    /* a recording becomes audio codes; units: latent frames */
    ACE_STAGE_PLAN,      /* the planner writes; units: tokens of its text, then audio codes */
    ACE_STAGE_CONDITION, /* text, lyrics, timbre, audio codes */
    ACE_STAGE_DIFFUSION, /* units: steps */
    ACE_STAGE_DECODE,    /* units: latent frames of all songs */
    ACE_STAGE_WRITE,     /* units: audio frames of all songs */
    ACE_STAGE_COUNT
} ace_stage;

const char *ace_stage_name(ace_stage stage); /* "load", "listen", "plan", ... */

typedef struct ace_progress {
    ace_stage stage;
    int64_t done, total;    /* units of the stage; total is 0 while unknown */
    const char *unit;       /* "codes", "tokens", "steps", ... */
    double rate;            /* units per second in this stage; 0 while unknown */
    double elapsed;         /* seconds since the call began */
    double stage_remaining; /* seconds of this stage still to come, estimated; negative while unknown */
    double remaining;       /* seconds of the whole call still to come, estimated; negative while unknown */
    double audio_seconds;   /* of all songs of the request; 0 while unknown */
} ace_progress;

/* 48 kHz interleaved stereo in order of time, item after item, as the decoder makes it: before the limiter and the
 * -1 dBFS rule, which need the whole song. `samples` is valid during the call. */
typedef struct ace_audio {
    int item;
    int64_t first, count, total; /* frames (one sample per channel) */
    const float *samples;
} ace_audio;

/* All members may be NULL. They are called from the thread that called ace_generate. */
typedef struct ace_callbacks {
    void *user; /* of ace_generate and the planner's functions alike */
    void (*progress)(void *user, const ace_progress *progress);
    void (*warning)(void *user, const char *sentence);
    bool (*audio)(void *user, const ace_audio *audio, ace_error *error); /* false with an error set ends the call */
} ace_callbacks;

/* What a stage took. */
typedef struct ace_stage_cost {
    double seconds, flops, bytes_moved;
    double bytes_loaded;  /* of weights made: again and again where layers are streamed */
    size_t weight_bytes;  /* loaded when the stage ended */
    size_t scratch_bytes; /* most working memory in use during the stage */
    size_t peak_bytes;    /* most memory of all kinds during the stage: weights, working memory, fixed workspace */
} ace_stage_cost;

typedef struct ace_song {
    uint64_t seed;
    int64_t frames;       /* audio frames at 48 kHz: exactly the length of the file */
    float peak;           /* of the decoded audio, before limiter and normalisation */
    char path[4096];      /* the file written; "" when none was */
    ace_request *request; /* makes exactly this song without a planner; released with ace_result_free */
} ace_song;

typedef struct ace_result {
    int count;
    ace_song songs[8];
    ace_stage_cost stages[ACE_STAGE_COUNT];
    double seconds;
    bool planned;                       /* a planner has worked on the request */
    size_t planned_peak, measured_peak; /* bytes of weights, working memory and fixed workspace */
    ace_request *request;               /* the request with every field resolved; release with ace_result_free */
    char model_hash[33];                /* XXH3-128 of the weights, hex; "" unless a file was written */
} ace_result;

void ace_result_free(ace_result *result);

/* Generates the songs of a request and hands their audio to callbacks->audio. The same request gives the same bytes.
 * `result` (required) is filled as far as the call came and must be freed in any case. */
bool ace_generate(ace_engine *engine, const ace_request *request, const ace_callbacks *callbacks, ace_result *result,
                  ace_error *error);

/* How ace_generate would use memory, and what it gives up to stay within what is allowed: time, never the result. Bytes
 * count weights, working memory and fixed workspace. */
typedef struct ace_memory_plan {
    size_t peak;    /* at the height of the call */
    size_t limit;   /* that it may take; 0: none */
    size_t fastest; /* the peak where nothing is given up */
    size_t least;   /* the smallest limit within which the same request still runs */

    bool evicts;       /* what a stage has used is unloaded before the next one */
    bool streams_dit;  /* the layers of the diffusion transformer are loaded one at a time, in every step */
    bool streams_text; /* those of the text encoder, once */
    bool one_by_one;   /* the songs of a batch, and the halves of guidance, take turns */
    int vae_window;    /* latent frames (1/25 s) decoded at a time */

    bool planner;           /* a planner works first */
    bool planner_alone;     /* everything else is unloaded for it */
    int planner_songs;      /* whose codes it writes at a time */
    size_t planner_peak;    /* while it works */
    size_t planner_weights; /* of this: its weights */
    size_t planner_cache;   /* of this: keys and values */
    int planner_layers;     /* that it has, and how many of them are loaded one at a time, for every token anew */
    int planner_streamed;
    bool planner_fetches; /* the rows of its table that stand for text are read from the file when they are needed */

    double duration; /* seconds of each song after all limits; the longest where the planner chooses */
    int batch;
    ace_stage_cost stages[ACE_STAGE_COUNT]; /* seconds are 0; the work of ACE_STAGE_PLAN is that of a usual plan */
} ace_memory_plan;

/* Plans the memory of a request without running anything. The peak is exact for a song whose length and texts are
 * given, and holds for whatever a planner may choose. What limits reduce is told through the engine's warning. When the
 * request does not fit it is ACE_ERROR_MEMORY, and of the plan limit, least, duration and batch are known. */
bool ace_plan_memory(ace_engine *engine, const ace_request *request, ace_memory_plan *plan, ace_error *error);

/* What the engine's device computes and reads in a second, measured in a second or two with products like the model's
 * and with its own code on a part of a song of `duration` seconds: for estimates. Takes memory of some hundred MiB for
 * it, in a process that has loaded nothing yet. */
typedef struct ace_speed {
    double flops, bytes;
    double load;              /* bytes of weights made ready from memory; from a disk it may take longer */
    double diffusion, decode; /* FLOP/s of these stages; 0: there was no memory to measure them */
} ace_speed;

bool ace_measure_speed(ace_engine *engine, double duration, ace_speed *speed, ace_error *error);

/* Seconds that a stage will take, of a plan for about the duration that was measured: after making its weights ready,
 * of which streamed layers need much, it is bound by arithmetic or by reading. Negative while the speed is unknown, and
 * for loading, which depends on where the files lie. */
double ace_estimate(const ace_stage_cost *cost, ace_stage stage, const ace_speed *speed);

typedef struct ace_output {
    const char *path;   /* file name; of a batch, "song.flac" becomes "song-1.flac", "song-2.flac", ... */
    const char *format; /* NULL: by the extension of path; else wav, wav24, wav32, flac, mp3, opus */
    bool replace;       /* overwrite existing files */
    bool no_sidecar;    /* do not write path + ".json" beside each song */
} ace_output;

/* ace_generate, writing each song to a file with its request in the tags and in a sidecar JSON. Files appear complete
 * or not at all; callbacks->audio is called too when given. */
bool ace_generate_files(ace_engine *engine, const ace_request *request, const ace_output *output,
                        const ace_callbacks *callbacks, ace_result *result, ace_error *error);

/* Sets a request from the tags of a song, from its sidecar or from a request JSON file: whatever `path` is. */
bool ace_request_load(ace_request *request, const char *path, ace_error *error);

/* The same from the text of a sidecar or a request JSON. */
bool ace_request_read(ace_request *request, const char *json, size_t length, ace_error *error);

/* ---- the planner ------------------------------------------------------------------------------------------- */

/* A checkpoint's language model (info.lm) writes what a song is made from. The results are requests that ace_generate
 * takes: keep them, edit them, generate them. The caller frees them with ace_request_free(). ACE_ERROR_MODEL when there
 * is no planner. The seed of a request without one is drawn and set in the result. Of the callbacks, progress and
 * warning are called. */

typedef struct ace_composition {
    int count;             /* the request's batch_size */
    ace_request *songs[8]; /* each for one song, with nothing left to plan: caption, metadata, audio_codes, seed */
} ace_composition;

void ace_composition_free(ace_composition *composition);

/* The plan of a request: missing metadata, and the audio codes of every song. What ace_generate does first. */
bool ace_compose(ace_engine *engine, const ace_request *request, const ace_callbacks *callbacks,
                 ace_composition *composition, ace_error *error);

/* A caption, lyrics and metadata for an idea, which is the request's caption; its instrumental and vocal_language are
 * kept to. */
ace_request *ace_write(ace_engine *engine, const ace_request *idea, const ace_callbacks *callbacks, ace_error *error);

/* The request's caption and lyrics written out and structured, and metadata that fit; its own metadata are kept. */
ace_request *ace_format(ace_engine *engine, const ace_request *draft, const ace_callbacks *callbacks, ace_error *error);

/* Caption, lyrics, metadata and audio codes of a recording, of which at most 600 s are listened to; with `path` NULL of
 * the request's audio_codes. Of the request only the planner's settings are used. */
ace_request *ace_understand(ace_engine *engine, const char *path, const ace_request *request,
                            const ace_callbacks *callbacks, ace_error *error);

/* ---- the machine ------------------------------------------------------------------------------------------- */

/* Which devices there are and how much memory they have, which tier that is, what it allows and sets. No model is
 * opened. */
typedef struct ace_machine ace_machine;

typedef struct ace_machine_options {
    const char *device;      /* NULL, "auto", "cpu", "cuda", "cuda:1": whose tier counts */
    const char *gpu_mapping; /* NULL, "auto", "single:1", "dit:0,vae:0,text_encoder:0,lm:1" */
    const char *tiers;       /* file whose values replace built-in ones; NULL: ACESTEP_TIERS, or the user's own file */
    const char *profile; /* "seed" (what is promised), "measured"; NULL: ACESTEP_TIER_PROFILE, or as the table says */
    const char *tier;    /* NULL: by memory; "tier1" ... "unlimited" */
    const char *lm;      /* a language model that was asked for, as in ace_engine_options; "none": none */
    const char *vram;    /* GB of a card to pretend, "8"; NULL: MAX_CUDA_VRAM, or the real memory */
    bool strict;         /* a broken tiers file is an error, not a warning */
    void (*warning)(void *user, const char *sentence); /* may be NULL */
    void *user;
} ace_machine_options;

ace_machine *ace_machine_open(const ace_machine_options *options, ace_error *error); /* options may be NULL */
void ace_machine_close(ace_machine *machine);                                        /* NULL is allowed */

typedef enum ace_report {
    ACE_REPORT_TEXT,  /* for people: devices, limits, settings, advice */
    ACE_REPORT_JSON,  /* the same for programs */
    ACE_REPORT_TIERS, /* every value of the table and where it comes from */
    ACE_REPORT_TABLES /* the table as Markdown, for the guides */
} ace_report;

/* `language` is "en", "ko", "ja" or "zh"; NULL: that of the environment (LC_ALL, LC_MESSAGES, LANG). Caller frees. */
char *ace_machine_report(const ace_machine *machine, ace_report kind, const char *language, ace_error *error);

/* A row of the tier table. */
typedef struct ace_tier {
    const char *id;           /* "tier4", "unlimited" */
    double smallest;          /* GiB of the smallest card that belongs to it; 0 for the first tier */
    const char *lm_models[4]; /* the language models offered, smallest first: "0.6B", "1.7B", NULL */
    const char *lm_model;     /* the one recommended; NULL: none */
    bool init_lm;             /* it is started by default */
    int max_duration[2];      /* seconds: [0] without the language model, [1] with it */
    int max_batch[2];         /* songs at a time, likewise */
} ace_tier;

/* The tiers of the profile that holds, from the smallest; false beyond the last. The texts live as long as the
 * machine. */
bool ace_machine_tier_at(const ace_machine *machine, int index, ace_tier *result);

/* The tier of a card with exactly that memory. */
bool ace_machine_tier_of(const ace_machine *machine, double gib, ace_tier *result, ace_error *error);

/* Bytes of memory of the device that computes, and how many of them this program may have now. False while unknown. */
bool ace_machine_memory(const ace_machine *machine, size_t *total, size_t *available);

/* ---- diagnosis --------------------------------------------------------------------------------------------- */

/* Runs computations whose answers are known on every instruction set this machine has. `line` is called once per check
 * with its name and what came out. True when all passed. */
bool ace_self_test(void (*line)(void *user, bool passed, const char *check, const char *detail), void *user);

/* What this machine can do at best. */
typedef struct ace_machine_rates {
    double multiply; /* GFLOP/s of independent multiply-adds in the units that the device uses */
    double read;     /* GB/s from memory */
} ace_machine_rates;

/* Measures it by plain loops on `threads` threads (0: all CPUs this process may use; 1: in processor time). `device`:
 * as in ace_engine_info. Takes a block of 512 MiB to read. */
bool ace_measure_machine(const char *device, int threads, ace_machine_rates *rates, ace_error *error);

/* What a form of the diffusion transformer's layers costs in quality and takes in memory. */
enum { ACE_QUANTIZATION_STEPS = 8 };

typedef struct ace_quantization_effect {
    const char *precision, *quantization;  /* "bf16", "int8" */
    double cosine[ACE_QUANTIZATION_STEPS]; /* of the velocity of each step with the exact one at the same place */
    double song_cosine;                    /* of the latents after all steps, each run going its own way */
    size_t weight_bytes;                   /* of the diffusion transformer, all layers loaded */
    size_t peak_bytes;                     /* with the working memory of one song */
} ace_quantization_effect;

/* Runs the steps of a turbo song of `duration` seconds (noise as the condition) with the engine's weights in float32,
 * which is the exact run, then in the engine's precision, with the file's blocks if it has some, and in int8 and int4;
 * calls `line` with each, the exact one first. Layers are streamed where the memory allowed does not hold them. */
bool ace_measure_quantization(ace_engine *engine, double duration,
                              void (*line)(void *user, const ace_quantization_effect *effect), void *user,
                              ace_error *error);

/* What ace_measure_lm measures. */
typedef struct ace_measure_lm_options {
    const char *lm;        /* NULL or "0.6B", "1.7B", "4B": the planner's real dimensions, random weights, no files */
    const char *precision; /* NULL or "bf16", "f32" */
    const char *quantization; /* of its layers: NULL or "none", "int8", "int4" */
    int threads;              /* 0: all CPUs this process may use */
    int songs;                /* written at once, 1 to 8; 0: 1 */
    int prompt;               /* tokens of the prompt that all songs share, 1 to 8192; 0: 1000 */
    int codes;                /* of each song (5 make a second), 2 to 3000; 0: 100 */
    double guidance;          /* as lm_cfg_scale, 1 to 100 (1: off, half as many rows); 0: 2 */
} ace_measure_lm_options;

/* Seconds are of the processor with one thread, of the wall with more. Reading a prompt is bound by arithmetic, writing
 * by reading weights, keys and values: each stands next to what plain loops achieve on as many threads, measured before
 * and after. Shares are of the better of the two, since other programs only ever make a loop slower. */
typedef struct ace_lm_speed {
    char device[128];
    ace_machine_rates before, after;
    int64_t prompt_tokens;               /* with guidance also those of the unconditional prompt, of 33 */
    double prompt_seconds, prompt_gflop; /* until the first codes */
    double prompt_share;                 /* of the machine's multiply-adds */
    double step_seconds;                 /* one code of every song: the mean of all steps but the first */
    double weight_bytes;                 /* that a step reads: the layers, and the codes' rows of the head */
    double step_bytes;                   /* with the keys and values that it looks at, each byte once; the mean */
    double step_share;                   /* of the machine's reading */
    double fastest_share;                /* of the fastest step: on a busy machine what the program can do */
    size_t planned_peak, measured_peak;  /* bytes of weights, working memory and fixed workspace */
} ace_lm_speed;

/* Measures how fast the planner reads a prompt and writes codes, and what share of the machine that is. Takes the
 * memory of the weights and a block of 512 MiB to read. */
bool ace_measure_lm(const ace_measure_lm_options *options, ace_lm_speed *speed, ace_error *error);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
