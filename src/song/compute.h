/* compute.h - the device that songs are computed on: the graphics card that the machine chose, or the CPU. */
#ifndef ACE_SONG_COMPUTE_H
#define ACE_SONG_COMPUTE_H

#include "device/device.h"

#include <acestep.h>

typedef struct compute_options {
    ace_dtype precision;
    int threads;             /* of the CPU device */
    const atomic_bool *stop; /* as in ace_cpu_options */
} compute_options;

/* Opens the device that computes on this machine. It borrows the machine's plug-in, so the machine must stay open. */
ace_device *compute_open(const ace_machine *machine, const compute_options *options, ace_error *error);

/* Bytes of the computing card that are free now. 0 when it is the CPU that computes, or the card does not say. */
size_t compute_free_bytes(const ace_machine *machine);

#endif
