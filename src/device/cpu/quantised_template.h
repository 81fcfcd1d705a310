/* quantised_template.h - rounding to 8 and 4 bits and back, in the vocabulary of vector.h. Included by rows_template.h.
 */
#include "device/cpu/quantised.h"

/* Lanes of int32. The operators of the language work on them. */
typedef int32_t vi __attribute__((vector_size(4 * VF_LANES)));

/* Lanes of int16, twice as many. */
typedef int16_t vh __attribute__((vector_size(4 * VF_LANES)));

#define Q_INLINE static inline __attribute__((always_inline))

/* ---- a few more words -------------------------------------------------------------------------------------------- */

Q_INLINE vi vi_bits(vf v)
{
    vi bits;
    memcpy(&bits, &v, sizeof v);
    return bits;
}

Q_INLINE vf vi_as_float(vi bits)
{
    vf v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

#if defined(__AVX512F__)
Q_INLINE vi vi_load_u8(const uint8_t *p)
{
    return (vi)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
}

Q_INLINE vi vi_load_i8(const uint8_t *p)
{
    return (vi)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
}

Q_INLINE vf vf_from_int(vi v)
{
    return _mm512_cvtepi32_ps((__m512i)v);
}

Q_INLINE vh vh_max(vh a, vh b)
{
    return (vh)_mm512_max_epi16((__m512i)a, (__m512i)b);
}

/* The low bytes, or the low halves, of all lanes. */
Q_INLINE void vi_store_u8(uint8_t *p, vi v)
{
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8((__m512i)v));
}

Q_INLINE void vi_store_u16(uint16_t *p, vi v)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16((__m512i)v));
}
#elif defined(__AVX2__)
Q_INLINE vi vi_load_u8(const uint8_t *p)
{
    return (vi)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
}

Q_INLINE vi vi_load_i8(const uint8_t *p)
{
    return (vi)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p));
}

Q_INLINE vf vf_from_int(vi v)
{
    return _mm256_cvtepi32_ps((__m256i)v);
}

Q_INLINE vh vh_max(vh a, vh b)
{
    return (vh)_mm256_max_epi16((__m256i)a, (__m256i)b);
}

Q_INLINE __m128i low_halves(vi v)
{
    const __m256i order = _mm256_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1, 0, 1, 4, 5, 8, 9,
                                           12, 13, -1, -1, -1, -1, -1, -1, -1, -1);
    __m256i halves = _mm256_shuffle_epi8((__m256i)v, order);
    return _mm_unpacklo_epi64(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
}

Q_INLINE void vi_store_u8(uint8_t *p, vi v)
{
    __m128i halves = _mm_and_si128(low_halves(v), _mm_set1_epi16(0xff));
    _mm_storel_epi64((__m128i *)p, _mm_packus_epi16(halves, halves));
}

Q_INLINE void vi_store_u16(uint16_t *p, vi v)
{
    _mm_storeu_si128((__m128i *)p, low_halves(v));
}
#else
Q_INLINE vi vi_load_u8(const uint8_t *p)
{
    return (vi){p[0], p[1], p[2], p[3]};
}

Q_INLINE vi vi_load_i8(const uint8_t *p)
{
    return (vi){(int8_t)p[0], (int8_t)p[1], (int8_t)p[2], (int8_t)p[3]};
}

Q_INLINE vf vf_from_int(vi v)
{
    return (vf){(float)v[0], (float)v[1], (float)v[2], (float)v[3]};
}

Q_INLINE vh vh_max(vh a, vh b)
{
    vh more = a > b;
    return (a & more) | (b & ~more);
}

Q_INLINE void vi_store_u8(uint8_t *p, vi v)
{
    for (int i = 0; i < VF_LANES; i++) p[i] = (uint8_t)v[i];
}

Q_INLINE void vi_store_u16(uint16_t *p, vi v)
{
    for (int i = 0; i < VF_LANES; i++) p[i] = (uint16_t)v[i];
}
#endif

/* ---- 8 bits ------------------------------------------------------------------------------------------------------ */

/* Below this the reciprocal of a scale could overflow. */
static const float TINIEST = 0x1p-100f;

/* max |x|; NaN when a value is infinite or NaN. Without their signs bf16 are in the order of their bits. */
Q_INLINE float magnitude_of_bf16(const uint16_t *x, int64_t k)
{
    enum { LANES = 2 * VF_LANES };
    vh highest = {0};
    int16_t lanes[LANES];
    int64_t whole = k / LANES * LANES;
    for (int64_t i = 0; i < whole; i += LANES) {
        vh v;
        memcpy(&v, x + i, sizeof v);
        highest = vh_max(v & INT16_MAX, highest);
    }
    memcpy(lanes, &highest, sizeof lanes);
    int most = 0;
    for (int i = 0; i < LANES; i++) most = lanes[i] > most ? lanes[i] : most;
    for (int64_t i = whole; i < k; i++) most = (x[i] & INT16_MAX) > most ? x[i] & INT16_MAX : most;
    return most < 0x7f80 ? ace_bf16_to_f32((uint16_t)most) : NAN;
}

/* The same of float32. */
Q_INLINE float magnitude_of_f32(const float *x, int64_t k)
{
    vf highest = vf_set1(0), lowest = vf_set1(0), bad = vf_set1(0);
    for (int64_t i = 0; i < k; i += VF_LANES) {
        vf v = vf_load_n(x + i, k - i);
        highest = vf_max(v, highest);
        lowest = vf_min(v, lowest);
        bad = vf_fma(v, vf_set1(0), bad);
    }
    float up = vf_highest(highest), down = vf_highest(vf_sub(vf_set1(0), lowest));
    return (up > down ? up : down) + vf_sum(bad);
}

/* round(v * inverse) + 128 in the low bits: what is added to this number is rounded to an integer, its last bit. */
Q_INLINE vi byte_of(vf v, vf inverse)
{
    return vi_bits(vf_add(vf_mul(v, inverse), vf_set1(0x1.8p23f + CPU_INT8_ZERO)));
}

Q_INLINE void store_bytes(void *bytes, int64_t at, bool wide, vi v)
{
    if (wide)
        vi_store_u16((uint16_t *)bytes + at, v & 0xff);
    else
        vi_store_u8((uint8_t *)bytes + at, v);
}

/* Slab after slab, in each all rows: what is written is in the order of memory. */
Q_INLINE void quantise_as(char *bytes, int64_t distance, bool wide, const char *x, int64_t stride, ace_dtype dtype,
                          int64_t k, int rows, float *scales)
{
    float inverse[CPU_QUANTISE_ROWS];
    int64_t element = dtype == ACE_BF16 ? 2 : 4, width = wide ? 2 : 1;
    for (int r = 0; r < rows; r++) {
        const void *row = x + r * stride * element;
        float magnitude = dtype == ACE_BF16 ? magnitude_of_bf16(row, k) : magnitude_of_f32(row, k);
        bool usable = magnitude >= TINIEST;
        inverse[r] = usable ? 127.0f / magnitude : 0;
        scales[r] = usable ? magnitude / 127.0f : magnitude < TINIEST ? 0 : magnitude;
    }
    for (int64_t s = 0; s < k; s += CPU_SLAB, bytes += distance * width)
        for (int r = 0; r < rows; r++) {
            const char *row = inverse[r] > 0 ? x + r * stride * element : NULL; /* infinity times zero is not zero */
            vf factor = vf_set1(inverse[r]);
            for (int64_t i = 0; i < CPU_SLAB; i += VF_LANES) {
                vf v = row ? vf_load_as(row, dtype, s + i, k - s - i) : vf_set1(0);
                store_bytes(bytes + r * CPU_SLAB * width, i, wide, byte_of(v, factor));
            }
        }
}

static void quantise_rows(void *bytes, int64_t distance, bool wide, const void *x, int64_t stride, ace_dtype dtype,
                          int64_t k, int rows, float *scales)
{
    if (dtype == ACE_BF16 && wide)
        quantise_as(bytes, distance, true, x, stride, ACE_BF16, k, rows, scales);
    else if (dtype == ACE_BF16)
        quantise_as(bytes, distance, false, x, stride, ACE_BF16, k, rows, scales);
    else if (wide)
        quantise_as(bytes, distance, true, x, stride, ACE_F32, k, rows, scales);
    else
        quantise_as(bytes, distance, false, x, stride, ACE_F32, k, rows, scales);
}

/* Four values a lane: VF_LANES rows become columns. The sums of the columns are added up on the way. */
__attribute__((flatten)) static void pack_quads(int8_t *panel, int32_t *offset, const uint8_t *rows, int64_t stride,
                                                int64_t slabs)
{
    for (int first = 0; first < 32; first += VF_LANES, rows += VF_LANES * stride, panel += 4 * VF_LANES) {
        vi sums = vi_bits(vf_set1(0));
        for (int64_t at = 0; at < slabs * CPU_SLAB; at += 4 * VF_LANES) {
            vf block[VF_LANES];
            for (int i = 0; i < VF_LANES; i++) memcpy(&block[i], rows + i * stride + at, sizeof block[i]);
            vf_transpose(block);
            for (int i = 0; i < VF_LANES; i++) {
                vi quads = vi_bits(block[i]) ^ (vi)(vi_bits(vf_set1(0)) + (int32_t)0x80808080);
                sums += ((quads << 24) >> 24) + ((quads << 16) >> 24) + ((quads << 8) >> 24) + (quads >> 24);
                memcpy(panel + (at / 4 + i) * 4 * 32, &quads, sizeof quads);
            }
        }
        sums *= CPU_INT8_ZERO;
        memcpy(offset + first, &sums, sizeof sums);
    }
}

/* ---- 4 bits: a group of 32 values in each lane ------------------------------------------------------------------- */

enum { SCALE_STEP = 1 << 19 /* between two float32 of five significant bits */ };

typedef struct lane_groups {
    vf w[CPU_EXPAND];
} lane_groups;

/* w / scale, rounded to what four bits hold. */
Q_INLINE vf four_bits(vf w, vf inverse)
{
    const vf magic = vf_set1(0x1.8p23f);
    vf q = vf_sub(vf_add(vf_mul(w, inverse), magic), magic);
    return vf_max(vf_set1(-8), vf_min(vf_set1(7), q));
}

/* 1 / scale; 0 where that is 0. */
Q_INLINE vf inverse_of(vf scale)
{
    vi none = vi_bits(scale) << 1 == 0;
    return vi_as_float(vi_bits(vf_div(vf_set1(1), scale)) & ~none);
}

/* The squared errors with these scales. Four sums, for the processor to work on at the same time. */
Q_INLINE vf group_error(const lane_groups *g, vf scale)
{
    vf sums[4] = {vf_set1(0), vf_set1(0), vf_set1(0), vf_set1(0)}, inverse = inverse_of(scale);
    for (int i = 0; i < CPU_EXPAND; i += 4)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            vf e = vf_fnma(four_bits(g->w[i + j], inverse), scale, g->w[i + j]);
            sums[j] = vf_fma(e, e, sums[j]);
        }
    return vf_add(vf_add(sums[0], sums[2]), vf_add(sums[1], sums[3]));
}

Q_INLINE vi vi_set1(int32_t a)
{
    return (vi){0} + a;
}

/* Where the mask is all ones a, else b. */
Q_INLINE vi vi_choose(vi mask, vi a, vi b)
{
    return (a & mask) | (b & ~mask);
}

/* The best of four neighbours: five significant bits near max |w| / 8, of the sign that takes the greatest value to -8.
 * With so few bits the product with a value of four is exact in bf16. 0 for a group of next to nothing. */
Q_INLINE vf group_scales(const lane_groups *g)
{
    vf high = g->w[0], low = g->w[0];
    for (int i = 1; i < CPU_EXPAND; i++) {
        high = vf_max(g->w[i], high);
        low = vf_min(g->w[i], low);
    }
    vf down = vf_sub(vf_set1(0), low), most = vf_max(high, down);
    vi usable = vi_bits(most) >= vi_bits(vf_set1(TINIEST)); /* as integers: both are positive */
    vi sign = vi_choose(vi_bits(vf_max(vf_sub(high, down), vf_set1(0))) != 0, vi_set1(INT32_MIN), vi_set1(0));
    vi bits = ((vi_bits(vf_mul(most, vf_set1(0.125f))) + SCALE_STEP / 2) & ~(SCALE_STEP - 1)) - SCALE_STEP;
    vi best = vi_bits(vf_set1(INFINITY)), scale = vi_set1(0);
    const vi limit = vi_bits(vf_set1(0x1p125f)); /* -8 times what is below is finite */
    for (int i = 0; i < 4; i++, bits += SCALE_STEP) {
        vi candidate = vi_choose(usable & (bits < limit), bits | sign, vi_set1(0));
        vi error = vi_bits(group_error(g, vi_as_float(candidate)));
        vi better = error < best; /* as integers: both are positive */
        best = vi_choose(better, error, best);
        scale = vi_choose(better, candidate, scale);
    }
    return vi_as_float(scale);
}

/* VF_LANES rows become columns of a block's planes. */
Q_INLINE void quantise_lanes(uint8_t *planes, const float *rows, int64_t stride)
{
    lane_groups g;
    for (int k = 0; k < CPU_EXPAND; k += VF_LANES) {
        vf block[VF_LANES];
        for (int i = 0; i < VF_LANES; i++) block[i] = vf_load_n(rows + i * stride + k, VF_LANES);
        vf_transpose(block);
        for (int i = 0; i < VF_LANES; i++) g.w[k + i] = block[i];
    }
    vf scale = group_scales(&g), inverse = inverse_of(scale);
    vi_store_u8(planes, vi_bits(scale) >> 16 & 0xff);
    vi_store_u8(planes + CPU_NR, vi_bits(scale) >> 24 & 0xff);
    for (int i = 0; i < CPU_EXPAND / 2; i++) {
        const vf magic = vf_set1(0x1.8p23f + 8);
        vi even = vi_bits(vf_add(four_bits(g.w[2 * i], inverse), magic)) & 15;
        vi odd = vi_bits(vf_add(four_bits(g.w[2 * i + 1], inverse), magic)) & 15;
        vi_store_u8(planes + (2 + i) * CPU_NR, even | odd << 4);
    }
}

__attribute__((flatten)) static void quantise_groups(uint8_t *planes, const float *rows, int64_t k)
{
    for (int64_t at = 0; at < k; at += CPU_EXPAND, rows += CPU_EXPAND, planes += CPU_INT4_BYTES * CPU_NR)
        for (int i = 0; i < CPU_INT4_ROWS; i += VF_LANES) quantise_lanes(planes + i, rows + i * k, k);
}

static bool row_is_finite(const float *values, int64_t k)
{
    return isfinite(magnitude_of_f32(values, k));
}
