#include "base/dtype.h"

static const struct {
    const char *name;
    int block;
    size_t bytes;
} types[ACE_DTYPE_COUNT] = {
    [ACE_F32] = {"F32", 1, 4},       [ACE_F16] = {"F16", 1, 2},       [ACE_BF16] = {"BF16", 1, 2},
    [ACE_F64] = {"F64", 1, 8},       [ACE_I8] = {"I8", 1, 1},         [ACE_U8] = {"U8", 1, 1},
    [ACE_I16] = {"I16", 1, 2},       [ACE_I32] = {"I32", 1, 4},       [ACE_I64] = {"I64", 1, 8},
    [ACE_BOOL] = {"BOOL", 1, 1},     [ACE_Q8_0] = {"Q8_0", 32, 34},   [ACE_Q4_K] = {"Q4_K", 256, 144},
    [ACE_Q5_K] = {"Q5_K", 256, 176}, [ACE_Q6_K] = {"Q6_K", 256, 210}, [ACE_UNSUPPORTED] = {"unsupported", 1, 0},
};

const char *ace_dtype_name(ace_dtype dtype)
{
    return (unsigned)dtype < ACE_DTYPE_COUNT ? types[dtype].name : "unknown";
}

int ace_dtype_block(ace_dtype dtype)
{
    return types[dtype].block;
}

size_t ace_dtype_block_bytes(ace_dtype dtype)
{
    return types[dtype].bytes;
}

float ace_f16_to_f32(uint16_t v)
{
    uint32_t sign = (uint32_t)(v & 0x8000u) << 16, exponent = (v >> 10) & 0x1fu, mantissa = v & 0x3ffu, bits;
    if (exponent == 0) {
        float magnitude = (float)mantissa * 0x1p-24f;
        memcpy(&bits, &magnitude, 4);
        bits |= sign;
    } else if (exponent == 31) {
        bits = sign | 0x7f800000u | mantissa << 13;
    } else {
        bits = sign | (exponent + 112) << 23 | mantissa << 13;
    }
    float f;
    memcpy(&f, &bits, 4);
    return f;
}
