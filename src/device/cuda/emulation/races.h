/* races.h - finds threads of a block that use the same bytes of shared memory, one of them writing, with no barrier
 * between them. Atomic operations race with all others but not with each other. Works where the kernels were compiled
 * with -fsanitize=thread, whose calls races.cpp takes for itself.
 */
#ifndef ACE_DEVICE_CUDA_EMULATION_RACES_H
#define ACE_DEVICE_CUDA_EMULATION_RACES_H

#include <cstddef>

enum { RACES_THREADS = 1024 };

/* What is known of a byte of shared memory: who wrote, who read it and who used it in an atomic way last, and after how
 * many barriers of the block and of the warp. Threads are counted from 1, so that zeros say nobody. */
struct race_access {
    unsigned block_barriers, warp_barriers;
    unsigned short thread, of_warps; /* 2: more than one warp has read since the barrier; 1: more than one thread */
};

struct race_byte {
    race_access write, read, atomic;
};

enum race_kind { RACE_READ, RACE_WRITE, RACE_ATOMIC };

/* Notes an access of `thread` (from 0 on). The other thread when it races, else -1. */
int races_note(race_byte *byte, int thread, unsigned block_barriers, unsigned warp_barriers, race_kind kind);

/* Of emulator.cpp: memory that the kernel uses. */
void emulator_accessed(const void *address, size_t bytes, race_kind kind);

#endif
