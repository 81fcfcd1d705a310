/* tiers.h - the tier table: which memory selects which tier, and what a tier allows and sets. It is data: the built-in
 * table is data/tiers.json, and a file of the user's may replace any value of it. docs/gpu.md shows the table.
 *
 * Every "GB" of a boundary is GiB (2^30 bytes), as in the official program. */
#ifndef ACE_VRAM_TIERS_H
#define ACE_VRAM_TIERS_H

#include <acestep.h>

enum { TIERS_MAX = 16, TIERS_FILE_LIMIT = 1 << 20 };

/* ---- one tier ---- */

/* The sizes of the 5 Hz language model, smallest first. */
typedef enum tiers_lm { TIERS_LM_NONE = -1, TIERS_LM_0_6B, TIERS_LM_1_7B, TIERS_LM_4B, TIERS_LM_COUNT } tiers_lm;

const char *tiers_lm_name(tiers_lm lm); /* "0.6B"; "none" */

/* The size that a model's name or path contains (acestep-5Hz-lm-1.7B); TIERS_LM_NONE if none. */
tiers_lm tiers_lm_find(const char *name);

typedef enum tiers_choice { TIERS_OFF, TIERS_ON, TIERS_AUTO } tiers_choice;

const char *tiers_choice_name(tiers_choice choice); /* "off", "on", "auto" */

typedef enum tiers_option {
    TIERS_FLASH_ATTENTION,
    TIERS_CPU_OFFLOAD,
    TIERS_COMPILE,
    TIERS_QUANTIZATION,
    TIERS_OPTION_COUNT
} tiers_option;

const char *tiers_option_name(tiers_option option); /* "flash_attention" */

/* What the tier's users are told: the diffusion transformer alone, a small language model, a large one. */
typedef enum tiers_advice { TIERS_ADVICE_DIT_ONLY, TIERS_ADVICE_SMALL_LM, TIERS_ADVICE_LARGE_LM } tiers_advice;

/* The values of a tier, as the file names them. */
typedef enum tiers_key {
    TIERS_KEY_START, /* "from_gib" (that amount belongs to the tier) or "above_gib" (it does not) */
    TIERS_KEY_TOLERANCE,
    TIERS_KEY_LM_MODELS,
    TIERS_KEY_INIT_LM,
    TIERS_KEY_LM_MODEL,
    TIERS_KEY_LM_SHARE,
    TIERS_KEY_DURATION_WITH_LM,
    TIERS_KEY_DURATION_WITHOUT_LM,
    TIERS_KEY_BATCH_WITH_LM,
    TIERS_KEY_BATCH_WITHOUT_LM,
    TIERS_KEY_OPTIONS, /* the four, in the order of tiers_option */
    TIERS_KEY_ADVICE = TIERS_KEY_OPTIONS + TIERS_OPTION_COUNT,
    TIERS_KEY_COUNT
} tiers_key;

/* Where a value was read: in the user's file at this line and column, or in the built-in table when line is 0. */
typedef struct tiers_place {
    int line, column;
} tiers_place;

typedef struct tier {
    char id[16];         /* "tier4", "unlimited" */
    double start;        /* GiB; the tier ends where the next one starts */
    bool start_included; /* whether `start` itself belongs to it */
    double tolerance;    /* GiB that a detected card may lack of `start`: cards report less than their label says */
    unsigned lm_models;  /* bit 1 << tiers_lm: the language models offered */
    tiers_lm lm_model;   /* the one recommended, or TIERS_LM_NONE */
    bool init_lm;        /* whether the language model is started by default */
    bool lm_unlimited;   /* the language model may use any share of the memory */
    double lm_share[TIERS_LM_COUNT]; /* else GiB for weights, KV cache and work buffers of each size offered */
    int max_duration[2];             /* seconds; [1] with the language model, [0] without */
    int max_batch[2];                /* songs of one request, likewise */
    tiers_choice options[TIERS_OPTION_COUNT];
    tiers_advice advice;
    tiers_place places[TIERS_KEY_COUNT];
} tier;

/* The number of a tier called "tier4", else 0. */
int tiers_number(const tier *t);

/* ---- the table ---- */

typedef struct tiers_profile {
    char name[16]; /* "seed", "measured" */
    bool measured; /* false: its values are not the result of a measurement */
    int count;
    tier tiers[TIERS_MAX]; /* smallest memory first */
} tiers_profile;

enum { TIERS_PROFILES = 2 };

typedef struct tiers_table {
    char *file; /* the user's file, NULL if the table is the built-in one */
    char default_profile[16];
    bool cpu_uses_total; /* the memory of songs on the CPU: all there is, else what is available now */
    tier cpu;            /* what holds for them, whatever the memory; it has no start and no tolerance */
    tiers_place default_profile_place, cpu_memory_place;
    tiers_profile profiles[TIERS_PROFILES];
} tiers_table;

/* The built-in table. NULL for lack of memory. */
tiers_table *tiers_built_in(ace_error *error);

/* The built-in table with the values of a user's file in place of its own. A file that is not JSON, has an unknown key,
 * a value of the wrong type or out of range, or that makes a table that contradicts itself (tiers that overlap or leave
 * a gap, limits that fall as memory grows, a recommended model that is not offered) is ACE_ERROR_FORMAT with file,
 * line, column and what is wrong. */
tiers_table *tiers_load(const char *path, ace_error *error);

/* The same from bytes; `name` is the file's name in messages and origins. */
tiers_table *tiers_parse(const char *bytes, size_t n, const char *name, ace_error *error);

void tiers_free(tiers_table *table); /* NULL is allowed */

/* A profile by name, NULL: the default one. NULL with ACE_ERROR_USAGE when there is none of that name. */
const tiers_profile *tiers_find_profile(const tiers_table *table, const char *name, ace_error *error);

/* ---- choosing ---- */

/* The tier of a card with `gib` GiB. A detected amount (not `literal`) that falls short of a tier's start by no more
 * than its tolerance counts as that start; a simulated one is taken as it is. NULL when gib is not a positive number:
 * then there is no card, and the CPU's limits apply. */
const tier *tiers_select(const tiers_profile *profile, double gib, bool literal);

const tier *tiers_find(const tiers_profile *profile, const char *id); /* NULL if there is none */

#endif
