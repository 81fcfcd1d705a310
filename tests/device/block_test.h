/* block_test.h - GGUF's blocks for tests: random ones, and their values. */
#ifndef BLOCK_TEST_H
#define BLOCK_TEST_H

#include "device_test.h"

/* One value of a block as GGUF defines it. */
static inline float block_value(ace_dtype type, const uint8_t *b, int i)
{
    float first = ace_f16_to_f32((uint16_t)(b[0] | b[1] << 8)), second = ace_f16_to_f32((uint16_t)(b[2] | b[3] << 8));
    if (type == ACE_Q8_0) return first * (float)(int8_t)b[2 + i];
    if (type == ACE_Q6_K) {
        int half = i / 128, in_half = i % 128, quarter = in_half / 32, l = in_half % 32;
        int low = b[64 * half + 32 * (quarter % 2) + l] >> (quarter < 2 ? 0 : 4) & 15;
        int high = b[128 + 32 * half + l] >> 2 * quarter & 3;
        float d = ace_f16_to_f32((uint16_t)(b[208] | b[209] << 8)) * (float)(int8_t)b[192 + i / 16];
        return d * (float)((low | high << 4) - 32);
    }
    const uint8_t *s = b + 4, *nibbles = b + (type == ACE_Q5_K ? 48 : 16);
    int j = i / 32, l = i % 32;
    int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
    int minimum = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4;
    int q = nibbles[32 * (j / 2) + l] >> (j % 2 ? 4 : 0) & 15;
    if (type == ACE_Q5_K) q += 16 * (b[16 + l] >> j & 1);
    float product = first * (float)scale * (float)q;
    return product - second * (float)minimum;
}

static inline void random_blocks(random_state *r, ace_dtype type, uint8_t *blocks, size_t count)
{
    size_t size = ace_dtype_block_bytes(type);
    for (size_t i = 0; i < count * size; i++) blocks[i] = (uint8_t)random_bits(r);
    for (size_t i = 0; i < count; i++) { /* halves between 2^-11 and 2^-6, of either sign; now and then subnormal */
        uint8_t *b = blocks + i * size, *high = b + (type == ACE_Q6_K ? 209 : 1);
        *high = (uint8_t)((*high & 0x83) | (random_int(r, 0, 19) ? random_int(r, 4, 8) << 2 : 0));
        b[3] = (uint8_t)(type == ACE_Q8_0 || type == ACE_Q6_K ? b[3] : (b[3] & 0x83) | 0x18);
    }
}

#endif
