/* product_expand.h - weights in 4 bits and in GGUF's blocks become values of the type that is multiplied.
 *
 * A tile's rows of w come from global memory as they lie there, in units of whole blocks, and each thread expands
 * sixteen neighbours at a time into a segment in shared memory. All arithmetic is that of the CPU (formats of the
 * blocks: device/cpu/quantised_template.h): values are exact in float32 but for one rounding in Q4_K, Q5_K (of the
 * difference) and Q6_K (of the product), and are then rounded once to bfloat16 where that is multiplied, or half in its
 * place. */
#ifndef ACE_DEVICE_CUDA_KERNELS_PRODUCT_EXPAND_H
#define ACE_DEVICE_CUDA_KERNELS_PRODUCT_EXPAND_H

#include "device/cuda/kernels/product_task.h"

/* Values and bytes of a block. */
constexpr int block_values(gpu_form form)
{
    return form == GPU_INT4 || form == GPU_Q8_0 ? 32 : 256;
}

constexpr int block_bytes(gpu_form form)
{
    return form == GPU_INT4 ? 16 : form == GPU_Q8_0 ? 34 : form == GPU_Q4_K ? 144 : form == GPU_Q5_K ? 176 : 210;
}

/* Sixteen bits at an even address, little-endian. */
GPU_DEVICE unsigned pair_at(const char *at)
{
    return load_as<uint16_t>(at);
}

GPU_DEVICE float half_at(const char *at)
{
    return gpu_half_to_float(load_as<uint16_t>(at));
}

/* Byte i of a word. */
GPU_DEVICE int byte_of(unsigned word, int i)
{
    return (int)(word >> 8 * i & 255);
}

/* Values k .. k + 15 of a unit of blocks, of which k is a multiple of 16. `scale`: INT4 only. */
template <gpu_form FORM> GPU_DEVICE void expand(float v[16], const char *unit, int k, float scale);

/* Values are kept eight higher. */
template <> __device__ __forceinline__ void expand<GPU_INT4>(float v[16], const char *unit, int k, float scale)
{
    uint2 nibbles = load_as<uint2>(unit + k / 2);
#pragma unroll
    for (int i = 0; i < 16; i++) {
        unsigned word = i < 8 ? nibbles.x : nibbles.y;
        v[i] = (float)((int)(word >> 4 * (i % 8) & 15) - 8) * scale;
    }
}

/* half d; int8 q[32]: d q */
template <> __device__ __forceinline__ void expand<GPU_Q8_0>(float v[16], const char *unit, int k, float)
{
    const char *block = unit + k / 32 * 34, *q = block + 2 + k % 32;
    float d = half_at(block);
#pragma unroll
    for (int i = 0; i < 16; i += 2) {
        unsigned two = pair_at(q + i);
        v[i] = (float)(int8_t)(two & 255) * d;
        v[i + 1] = (float)(int8_t)(two >> 8) * d;
    }
}

/* Six-bit scale and minimum j of eight, which lie in 12 bytes. */
GPU_DEVICE void scale_and_minimum(const char *at, int j, float *scale, float *minimum)
{
    const uint8_t *s = (const uint8_t *)at;
    int low = s[j < 4 ? j : j + 4], high = s[j < 4 ? j + 4 : j], upper = s[j < 4 ? j : j - 4];
    *scale = (float)(j < 4 ? low & 63 : (low & 15) | upper >> 6 << 4);
    *minimum = (float)(j < 4 ? high & 63 : low >> 4 | high >> 6 << 4);
}

/* half d, dmin; scales[12]; FIFTH: fifth bits[32]; nibbles[128]. Group j of 32 values: (d scale) q - (dmin minimum);
 * even groups are low nibbles, odd groups high ones; bit j of byte l is the fifth bit of value l of group j. */
template <bool FIFTH> GPU_DEVICE void expand_k(float v[16], const char *block, int k)
{
    int j = k / 32, l = k % 32;
    float scale, minimum;
    scale_and_minimum(block + 4, j, &scale, &minimum);
    float ds = half_at(block) * scale, dm = half_at(block + 2) * minimum;
    uint4 nibbles = load_as<uint4>(block + (FIFTH ? 48 : 16) + 32 * (j / 2) + l), fifths = make_uint4(0, 0, 0, 0);
    if (FIFTH) fifths = load_as<uint4>(block + 16 + l);
#pragma unroll
    for (int i = 0; i < 16; i++) {
        unsigned four = i < 4 ? nibbles.x : i < 8 ? nibbles.y : i < 12 ? nibbles.z : nibbles.w;
        unsigned five = i < 4 ? fifths.x : i < 8 ? fifths.y : i < 12 ? fifths.z : fifths.w;
        int q = byte_of(four, i % 4) >> 4 * (j & 1) & 15;
        if (FIFTH) q |= (byte_of(five, i % 4) >> j & 1) << 4;
        v[i] = ds * (float)q - dm;
    }
}

template <> __device__ __forceinline__ void expand<GPU_Q4_K>(float v[16], const char *unit, int k, float)
{
    expand_k<false>(v, unit + k / 256 * 144, k % 256);
}

template <> __device__ __forceinline__ void expand<GPU_Q5_K>(float v[16], const char *unit, int k, float)
{
    expand_k<true>(v, unit + k / 256 * 176, k % 256);
}

/* low nibbles[128]; upper two bits[64]; int8 scales[16]; half d: (d scale) (q - 32), a scale for 16 values. Each half
 * of 128 values has 64 bytes of nibbles and 32 of upper bits; its quarter j takes nibble j / 2 of byte 32 (j % 2) + l
 * and bits 2 j of upper byte l. */
template <> __device__ __forceinline__ void expand<GPU_Q6_K>(float v[16], const char *unit, int k, float)
{
    const char *block = unit + k / 256 * 210;
    k %= 256;
    int half = k / 128, quarter = k % 128 / 32, l = k % 32;
    const char *low = block + 64 * half + 32 * (quarter & 1) + l, *high = block + 128 + 32 * half + l;
    float scale = half_at(block + 208) * (float)(int8_t)load_as<uint8_t>(block + 192 + k / 16);
#pragma unroll
    for (int i = 0; i < 16; i += 2) {
        unsigned four = pair_at(low + i) >> (quarter < 2 ? 0 : 4), two = pair_at(high + i) >> 2 * quarter;
        v[i] = scale * (float)((int)((four & 15) | (two & 3) << 4) - 32);
        v[i + 1] = scale * (float)((int)((four >> 8 & 15) | (two >> 8 & 3) << 4) - 32);
    }
}

/* Sixteen values of type T into a row of a segment, the first being value k of it: two or four chunks. `power`: that by
 * which half is multiplied. */
template <class T> GPU_DEVICE void store_expanded(char *segment, int row, int k, const float v[16], float power)
{
    const int ELEMENT = T::ELEMENT;
#pragma unroll
    for (int c = 0; c < ELEMENT; c++) {
        uint4 chunk;
        if (ELEMENT == 2)
            chunk = make_uint4(gpu_pack_bf16(v[8 * c], v[8 * c + 1]), gpu_pack_bf16(v[8 * c + 2], v[8 * c + 3]),
                               gpu_pack_bf16(v[8 * c + 4], v[8 * c + 5]), gpu_pack_bf16(v[8 * c + 6], v[8 * c + 7]));
        else
            chunk = make_uint4(gpu_bits_of(v[4 * c]), gpu_bits_of(v[4 * c + 1]), gpu_bits_of(v[4 * c + 2]),
                               gpu_bits_of(v[4 * c + 3]));
        if (T::HALF) chunk = half_of_bf16(chunk, power);
        store_as(segment + place_of(row, k * ELEMENT / CHUNK + c), chunk);
    }
}

#endif
