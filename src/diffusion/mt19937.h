/* mt19937.h - the Mersenne Twister with 32-bit output (Matsumoto and Nishimura, 1998), as torch's CPU generator. */
#ifndef ACE_DIFFUSION_MT19937_H
#define ACE_DIFFUSION_MT19937_H

#include <stdint.h>

enum { MT19937_WORDS = 624 };

typedef struct mt19937 {
    uint32_t state[MT19937_WORDS];
    int next; /* index of the next word to hand out; MT19937_WORDS: regenerate first */
} mt19937;

/* Knuth's initialiser. */
void mt19937_seed(mt19937 *mt, uint32_t seed);
uint32_t mt19937_next(mt19937 *mt);

#endif
