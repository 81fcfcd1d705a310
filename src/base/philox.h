/* philox.h - the counter-based generator Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * SC11): 128 bits of counter and 64 of key give 128 random bits, with no state in between. */
#ifndef ACE_BASE_PHILOX_H
#define ACE_BASE_PHILOX_H

#include <stdint.h>

void philox4x32_10(const uint32_t counter[4], const uint32_t key[2], uint32_t random[4]);

#endif
