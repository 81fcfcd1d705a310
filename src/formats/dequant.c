/* Elements of every type as float32. Block layouts and formulas are those of ggml's reference (ggml-quants): each
 * value is the product written in the comment, computed in float32 in this order. */
#include "base/bytes.h"
#include "base/dtype.h"
#include "formats/tensors_build.h"

/* ace_f16_to_f32 without branches, so that loops over it become vector code. */
static inline float half(uint16_t v)
{
    uint32_t sign = (uint32_t)(v & 0x8000u) << 16, magnitude = v & 0x7fffu;
    float subnormal = (float)(int32_t)magnitude * 0x1p-24f;
    uint32_t small, normal = (magnitude << 13) + (112u << 23), bits;
    memcpy(&small, &subnormal, 4);
    bits = magnitude < 0x400u ? small : magnitude >= 0x7c00u ? normal + (112u << 23) : normal;
    bits |= sign;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static void from_f16(const uint8_t *data, int64_t count, float *values)
{
    for (int64_t i = 0; i < count; i++) values[i] = half(bytes_le16(data + 2 * i));
}

static void from_bf16(const uint8_t *data, int64_t count, float *values)
{
    for (int64_t i = 0; i < count; i++) values[i] = ace_bf16_to_f32(bytes_le16(data + 2 * i));
}

static void from_f64(const uint8_t *data, int64_t count, float *values)
{
    for (int64_t i = 0; i < count; i++) {
        double v;
        memcpy(&v, data + 8 * i, sizeof v);
        values[i] = (float)v;
    }
}

/* Q8_0, 32 values in 34 bytes: half d; int8 q[32].  d * q */
static void from_q8_0(const uint8_t *data, int64_t count, float *values)
{
    for (int64_t i = 0; i < count; i += 32, data += 34, values += 32) {
        float d = half(bytes_le16(data));
        for (int j = 0; j < 32; j++) values[j] = (float)(int8_t)data[2 + j] * d;
    }
}

/* Scale and minimum j of the eight in the 12 bytes of Q4_K and Q5_K: six bits each, the upper two bits of the last four
 * pairs packed into the bytes of the first four. */
static inline void scale_min(const uint8_t *scales, int j, float *scale, float *min)
{
    int s, m;
    if (j < 4) {
        s = scales[j] & 63;
        m = scales[j + 4] & 63;
    } else {
        s = (scales[j + 4] & 15) | (scales[j - 4] >> 6) << 4;
        m = scales[j + 4] >> 4 | (scales[j] >> 6) << 4;
    }
    *scale = (float)s;
    *min = (float)m;
}

/* Q4_K, 256 values in 144 bytes: half d, dmin; scales[12]; nibbles q[128].
 * Group j of 32 values: (d * scale_j) * q - (dmin * min_j); even groups are low nibbles, odd groups high nibbles. */
static void from_q4_k(const uint8_t *data, int64_t count, float *values)
{
    for (int64_t i = 0; i < count; i += 256, data += 144) {
        float d = half(bytes_le16(data)), dmin = half(bytes_le16(data + 2));
        for (int j = 0; j < 8; j++, values += 32) {
            float scale, min;
            scale_min(data + 4, j, &scale, &min);
            const uint8_t *q = data + 16 + 32 * (j / 2);
            int shift = 4 * (j & 1);
            float ds = d * scale, dm = dmin * min;
            for (int l = 0; l < 32; l++) values[l] = ds * (float)(q[l] >> shift & 15) - dm;
        }
    }
}

/* Q5_K, 256 values in 176 bytes: half d, dmin; scales[12]; fifth bits h[32]; nibbles q[128].
 * As Q4_K with bit j of h[l] as the fifth bit of value l of group j. */
static void from_q5_k(const uint8_t *data, int64_t count, float *values)
{
    for (int64_t i = 0; i < count; i += 256, data += 176) {
        float d = half(bytes_le16(data)), dmin = half(bytes_le16(data + 2));
        const uint8_t *h = data + 16;
        for (int j = 0; j < 8; j++, values += 32) {
            float scale, min;
            scale_min(data + 4, j, &scale, &min);
            const uint8_t *q = data + 48 + 32 * (j / 2);
            int shift = 4 * (j & 1);
            float ds = d * scale, dm = dmin * min;
            for (int l = 0; l < 32; l++) values[l] = ds * (float)((q[l] >> shift & 15) + ((h[l] >> j & 1) << 4)) - dm;
        }
    }
}

/* Q6_K, 256 values in 210 bytes: low nibbles ql[128]; upper two bits qh[64]; int8 scales[16]; half d.
 * (d * scale) * (q - 32), a scale for 16 values. Each half of 128 values has 64 bytes of ql and 32 of qh; its quarter k
 * (32 values) takes nibble k/2 of ql[32 * (k % 2) + l] and bits 2k of qh[l]. */
static void from_q6_k(const uint8_t *data, int64_t count, float *values)
{
    for (int64_t i = 0; i < count; i += 256, data += 210) {
        float d = half(bytes_le16(data + 208));
        for (int part = 0; part < 8; part++, values += 32) {
            int k = part & 3;
            const uint8_t *ql = data + 64 * (part / 4) + 32 * (k & 1), *qh = data + 128 + 32 * (part / 4);
            for (int half_part = 0; half_part < 2; half_part++) {
                float scale = d * (float)(int8_t)data[192 + 2 * part + half_part];
                for (int l = 16 * half_part; l < 16 * half_part + 16; l++) {
                    int q = (ql[l] >> 4 * (k / 2) & 15) | (qh[l] >> 2 * k & 3) << 4;
                    values[l] = scale * (float)(q - 32);
                }
            }
        }
    }
}

static void from_integers(ace_dtype dtype, const uint8_t *data, int64_t count, float *values)
{
    for (int64_t i = 0; i < count; i++) {
        switch (dtype) {
        case ACE_I8:
            values[i] = (float)(int8_t)data[i];
            break;
        case ACE_I16:
            values[i] = (float)(int16_t)bytes_le16(data + 2 * i);
            break;
        case ACE_I32:
            values[i] = (float)(int32_t)bytes_le32(data + 4 * i);
            break;
        case ACE_I64:
            values[i] = (float)(int64_t)bytes_le64(data + 8 * i);
            break;
        case ACE_BOOL:
            values[i] = data[i] ? 1.0f : 0.0f;
            break;
        default:
            values[i] = (float)data[i];
            break;
        }
    }
}

void dequantize(ace_dtype dtype, const uint8_t *data, int64_t count, float *values)
{
    switch (dtype) {
    case ACE_F32:
        memcpy(values, data, (size_t)count * 4);
        break;
    case ACE_F16:
        from_f16(data, count, values);
        break;
    case ACE_BF16:
        from_bf16(data, count, values);
        break;
    case ACE_F64:
        from_f64(data, count, values);
        break;
    case ACE_Q8_0:
        from_q8_0(data, count, values);
        break;
    case ACE_Q4_K:
        from_q4_k(data, count, values);
        break;
    case ACE_Q5_K:
        from_q5_k(data, count, values);
        break;
    case ACE_Q6_K:
        from_q6_k(data, count, values);
        break;
    default:
        from_integers(dtype, data, count, values);
        break;
    }
}
