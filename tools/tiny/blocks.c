/* blocks.c - Linears in GGUF blocks: any bytes are blocks, so they are made, not quantised. Scales are chosen so that
 * the values have the tensor's deviation, more or less (layouts: formats/dequant.c). */
#include "tiny.h"

#include "base/memory.h"

#include <math.h>

/* To half precision, nearest, of 0 <= v < 65504. */
static uint16_t to_half(double v)
{
    int exponent;
    frexp(v, &exponent); /* v = m * 2^exponent, 0.5 <= m < 1 */
    if (exponent < -13) return (uint16_t)lrint(v * 0x1p24);
    return (uint16_t)(lrint(ldexp(v, 11 - exponent)) + ((int64_t)(exponent + 13) << 10));
}

static void put_half(uint8_t *at, double v)
{
    uint16_t bits = to_half(v);
    at[0] = (uint8_t)bits;
    at[1] = (uint8_t)(bits >> 8);
}

/* Eight scales and eight minima of six bits become 32 to 63: the highest bit of the first four pairs is bit 5, that of
 * the others bit 7 of the same bytes. */
static void raise_scales(uint8_t scales[12])
{
    for (int j = 0; j < 8; j++) scales[j] |= 0xa0;
}

/* The halves of block `index`, whose other bytes are noise. The deviations of noise in the unit of d: 74 of bytes; of
 * nibbles 4.6, of five bits 9.2, around their middle, times a scale of about 48; of six bits 18.5 with one of about 74.
 */
static void set_scales(uint8_t *block, ace_dtype dtype, double deviation)
{
    switch (dtype) {
    case ACE_Q8_0:
        put_half(block, deviation / 74);
        break;
    case ACE_Q4_K:
        put_half(block, deviation / (4.6 * 48));
        put_half(block + 2, 7.5 * deviation / (4.6 * 48));
        raise_scales(block + 4);
        break;
    case ACE_Q5_K:
        put_half(block, deviation / (9.2 * 48));
        put_half(block + 2, 15.5 * deviation / (9.2 * 48));
        raise_scales(block + 4);
        break;
    default: /* ACE_Q6_K */
        put_half(block + 208, deviation / (18.5 * 74));
        break;
    }
}

uint8_t *tiny_blocks(const tiny_tensor *tensor, ace_dtype dtype, size_t *bytes, ace_error *error)
{
    size_t count = 1, size = ace_dtype_block_bytes(dtype);
    for (int d = 0; d < tensor->rank; d++) count *= (size_t)tensor->shape[d];
    *bytes = count / (size_t)ace_dtype_block(dtype) * size;
    uint8_t *blocks = ace_calloc(*bytes, 1, tensor->name, error);
    if (blocks == NULL) return NULL;
    tiny_noise_bytes(tensor->name, blocks, *bytes);
    for (size_t i = 0; i < *bytes; i += size) set_scales(blocks + i, dtype, tensor->deviation);
    return blocks;
}
