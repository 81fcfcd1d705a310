/* simulate.h - pretending a card of another size: MAX_CUDA_VRAM=8, and its siblings for Apple and Intel. A tool for
 * developers and for trying limits, never a remedy. The value is taken literally and announced loudly. */
#ifndef ACE_VRAM_SIMULATE_H
#define ACE_VRAM_SIMULATE_H

#include <acestep.h>

enum { SIMULATE_SENTENCES = 4, SIMULATE_SENTENCE = 400 };

typedef struct simulation {
    bool active;
    double gib;
    char variable[24]; /* "MAX_CUDA_VRAM"; "--vram" */
    char value[32];    /* as it was written */
    int count;         /* warnings: one that announces the simulation, one for each value that was ignored */
    char warnings[SIMULATE_SENTENCES][SIMULATE_SENTENCE];
} simulation;

/* A number of GiB as text: digits with an optional decimal point, blanks around it, above 0 and at most 1048576.
 * No exponent, no unit, no sign, whatever the locale. */
bool simulate_parse(const char *text, double *gib);

/* The first usable of MAX_CUDA_VRAM, MAX_MPS_VRAM, MAX_XPU_VRAM, read through `variable` (NULL result: not set). An
 * empty value counts as not set; one that is not a number is reported and ignored. `option` (NULL: none) is a value
 * from the command line, which comes first; the caller has checked it. */
simulation simulate_read(const char *(*variable)(const char *name), const char *option);

#endif
