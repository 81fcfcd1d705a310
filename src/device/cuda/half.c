/* half.c - the greatest value of a row decides its exponent: that value comes to lie in [2^15, 2^16). Of weights in 4
 * bits and in blocks it is the greatest that their scales allow. */
#include "device/cuda/half.h"

#include <math.h>

enum { MOST_EXPONENT = 126 /* 2^126 is a float, and leaves every bfloat16 exact that is small enough for it */ };

/* Of a row whose greatest value has these bits as bfloat16, without the sign. */
static int32_t exponent_of(unsigned greatest)
{
    int exponent = 127 + 15 - (int)(greatest >> 7);
    return exponent < MOST_EXPONENT ? exponent : MOST_EXPONENT;
}

/* The same of a float, rounded as values are. */
static int32_t exponent_of_float(float greatest)
{
    return exponent_of(ace_f32_to_bf16(greatest) & 0x7fffu);
}

int32_t half_exponent(const uint16_t *row, int64_t n)
{
    uint16_t greatest = 0;
    for (int64_t i = 0; i < n; i++) {
        uint16_t size = row[i] & 0x7fff;
        greatest = size > greatest ? size : greatest;
    }
    return exponent_of(greatest);
}

static uint32_t bits_of(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* Without branches, for the compiler's vectors. */
void half_row(uint16_t *to, const uint16_t *row, int64_t n, int32_t exponent)
{
    const uint32_t infinity = 0x7f800000, smallest_normal = (127 - 14) << 23;
    float power = ldexpf(1, exponent);
    for (int64_t i = 0; i < n; i++) {
        float size = ace_bf16_to_f32(row[i] & 0x7fff) * power;
        uint32_t bits = bits_of(size);
        uint32_t normal = (bits - ((127 - 15) << 23)) >> 13;    /* exact: bfloat16 has less bits */
        uint32_t subnormal = bits_of(size + 0.5f) - 0x3f000000; /* 0.5f counts in units of 2^-24 */
        uint32_t half = bits < smallest_normal ? subnormal : normal;
        half = bits == infinity ? 0x7c00 : bits > infinity ? 0x7e00 : half;
        to[i] = (uint16_t)(half | (row[i] & 0x8000u));
    }
}

int32_t half_exponent_of_int4(const uint16_t *scales, int64_t n)
{
    float greatest = 0;
    for (int64_t i = 0; i < n; i++) greatest = fmaxf(greatest, fabsf(ace_bf16_to_f32(scales[i])));
    return exponent_of_float(8 * greatest);
}

/* ---- blocks: formats/dequant.c ------------------------------------------------------------------------------- */

static float half_at(const uint8_t *at)
{
    return ace_f16_to_f32((uint16_t)(at[0] | at[1] << 8));
}

/* half d, dmin; six-bit scales and minima: d scale q - dmin minimum, for q from 0 to `most` */
static float greatest_of_k(const uint8_t *block, float most)
{
    const uint8_t *s = block + 4;
    float d = half_at(block), dmin = half_at(block + 2), greatest = 0;
    for (int j = 0; j < 8; j++) {
        int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
        int minimum = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4;
        float below = dmin * (float)minimum;
        greatest = fmaxf(greatest, fmaxf(fabsf(below), fabsf(d * (float)scale * most - below)));
    }
    return greatest;
}

/* d scale (q - 32) */
static float greatest_of_q6(const uint8_t *block)
{
    int greatest = 0;
    for (int i = 0; i < 16; i++) {
        int scale = (int8_t)block[192 + i];
        greatest = scale > greatest ? scale : -scale > greatest ? -scale : greatest;
    }
    return fabsf(half_at(block + 208)) * (float)greatest * 32;
}

static float greatest_of_block(ace_dtype dtype, const uint8_t *block)
{
    switch (dtype) {
    case ACE_Q4_K:
        return greatest_of_k(block, 15);
    case ACE_Q5_K:
        return greatest_of_k(block, 31);
    case ACE_Q6_K:
        return greatest_of_q6(block);
    default: /* Q8_0: half d; d q */
        return fabsf(half_at(block)) * 128;
    }
}

int32_t half_exponent_of_blocks(ace_dtype dtype, const uint8_t *row, int64_t n)
{
    float greatest = 0;
    size_t bytes = ace_dtype_block_bytes(dtype);
    for (int64_t i = 0; i < n; i++) greatest = fmaxf(greatest, greatest_of_block(dtype, row + (size_t)i * bytes));
    return exponent_of_float(greatest);
}
