/* dtype.h - element types of tensors, and conversion between the plain ones. */
#ifndef ACE_BASE_DTYPE_H
#define ACE_BASE_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum ace_dtype {
    ACE_F32,
    ACE_F16,
    ACE_BF16,
    ACE_F64,
    ACE_I8,
    ACE_U8,
    ACE_I16,
    ACE_I32,
    ACE_I64,
    ACE_BOOL,
    /* GGUF blocks; exact layouts in formats/dequant.c */
    ACE_Q8_0,
    ACE_Q4_K,
    ACE_Q5_K,
    ACE_Q6_K,
    /* a file's type that nothing here computes with; such a tensor cannot be read */
    ACE_UNSUPPORTED,
    ACE_DTYPE_COUNT
} ace_dtype;

/* "F32", "BF16", "Q4_K", ... */
const char *ace_dtype_name(ace_dtype dtype);

/* Elements per block (1 for plain types) and bytes per block. */
int ace_dtype_block(ace_dtype dtype);
size_t ace_dtype_block_bytes(ace_dtype dtype);

static inline float ace_bf16_to_f32(uint16_t v)
{
    uint32_t bits = (uint32_t)v << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

/* Round to nearest even; NaN stays NaN. */
static inline uint16_t ace_f32_to_bf16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/* IEEE half to single, exact, subnormals included. */
float ace_f16_to_f32(uint16_t v);

#endif
