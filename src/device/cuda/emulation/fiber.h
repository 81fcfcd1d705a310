/* fiber.h - stacks that take turns: a switch costs a few nanoseconds, and AddressSanitizer is told of it. */
#ifndef ACE_DEVICE_CUDA_EMULATION_FIBER_H
#define ACE_DEVICE_CUDA_EMULATION_FIBER_H

#include <cstddef>

struct fiber;

/* The fiber that stands for the caller's own stack. */
fiber *fiber_of_thread();

/* A fiber that runs `entry` from its first switch on; entry never returns. */
fiber *fiber_new(void (*entry)());
void fiber_free(fiber *f); /* one that is not running */

/* Makes it start again with its entry; what it was doing is forgotten. */
void fiber_restart(fiber *f);

/* Leaves `from`, which is running, for `to`; returns when somebody switches back. */
void fiber_switch(fiber *from, fiber *to);

/* What an entry calls first. */
void fiber_entered();

#endif
