/* allowance.h - what the machine allows an engine: memory, and the limits of a card's tier where one computes or is
 * pretended.
 *
 * On the CPU no tier limits anything: the memory plan tells what fits, and it is the memory that was free when the
 * engine was opened. (A person's tier file may give the CPU limits of its own.) A card is kept to in full, whether it
 * computes or MAX_CUDA_VRAM pretends it: its memory, its longest song, its largest batch, its planner or none
 * (gpu-tiers.md S-08 to S-21). Of a card that computes, only what is free is used, whatever is pretended. */
#ifndef ACE_SONG_ALLOWANCE_H
#define ACE_SONG_ALLOWANCE_H

#include "song/job.h"

typedef struct allowance {
    ace_machine *machine;
    size_t memory;           /* bytes; 0: no limit, or not known before the card is open */
    bool tiered;             /* a tier's limits hold */
    int max_duration;        /* seconds that the planner may choose */
    size_t planner_share;    /* bytes that the planner may take of the memory; 0: all of it */
    bool planner_by_default; /* else only for a request or an option that asks for it */
} allowance;

/* Looks at the machine and chooses `device` (as in ace_machine_options). An explicit options->memory_limit and
 * options->lm win over what is found. */
bool allowance_open(allowance *a, const ace_engine_options *options, const char *device, ace_error *error);

/* Once the card that computes is open: `free` bytes of it are free, beside the `taken` bytes that count in the memory
 * allowed. ACE_ERROR_MEMORY when nothing is left. */
bool allowance_limit_to_card(allowance *a, size_t free, size_t taken, ace_error *error);

void allowance_close(allowance *a); /* safe on a zeroed one */

/* Tells which planner there is, for its share of the tier's memory (gpu-tiers.md S-07). NULL: none. */
void allowance_set_planner(allowance *a, const char *name);

/* Reduces the duration and the batch of a request to the tier's limits, with a warning each. Audio codes that the
 * request brings decide its duration: they are cut. */
bool allowance_reduce(const allowance *a, ace_request *request, bool with_planner, const job_warnings *warnings,
                      ace_error *error);

#endif
