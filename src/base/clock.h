/* clock.h - elapsed time, for progress and benchmarks only: no result depends on it. */
#ifndef ACE_BASE_CLOCK_H
#define ACE_BASE_CLOCK_H

#include <time.h>

/* Seconds since an arbitrary start, monotonic. */
static inline double ace_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

#endif
