/* attention_amx.c - the inner loops of attention on AMX, in the layouts of cpu_attention_tiles.
 *
 * Both products are computed as their transposes: scores S^T = K Q^T with the keys as rows of A, and O^T += V^T P^T
 * with the values as rows of A. So a row of sixteen values holds the same key, or the same dimension, of sixteen
 * queries: the softmax works on whole vectors without looking into them, and two neighbouring rows of P^T in bf16 are
 * at once a row of pairs of B.
 *
 * Weights are powers of two, 2^(s log2(e) scale - m). The reference m of a query is a whole number, so that what was
 * summed under another is multiplied by an exact power of two; and it only moves when a score is 2^8 times above it,
 * for float32 has room enough. The sum of a query's weights is that of the weights as rounded to bf16, so that what
 * they are multiplied by adds up to one. */
#include "device/cpu/attention_tiles.h"
#include "device/cpu/vector.h"

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* The intrinsics do not tell every compiler what memory a tile load reads. */
#define MEMORY_IS_WRITTEN() __asm__ volatile("" ::: "memory")

enum { LANES = CPU_LANES, KEYS = CPU_TILE_KEYS, LINE = 64, TILE = 16 * LINE, STEP = 32 };

/* The operand of LDTILECFG: eight tiles of 16 rows of 64 bytes. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

#define EIGHT(x) x, x, x, x, x, x, x, x
static const tile_config all_full = {.palette = 1, .row_bytes = {EIGHT(LINE)}, .rows = {EIGHT(16)}};

static void begin(void)
{
    _tile_loadconfig(&all_full);
}

static void end(void)
{
    _tile_release();
}

/* ---- layouts ----------------------------------------------------------------------------------------------------- */

/* Sixteen rows of 32 values become 16 rows of 16 pairs. */
INLINE void transpose_pairs(char *to, int64_t distance, __m512i rows[16])
{
    vf words[16];
    for (int i = 0; i < 16; i++) words[i] = _mm512_castsi512_ps(rows[i]);
    vf_transpose(words);
    for (int i = 0; i < 16; i++) _mm512_storeu_ps((float *)(to + i * distance), words[i]);
}

__attribute__((flatten)) static void pack_queries(uint16_t *packed, const uint16_t *const *rows, int count, int64_t n)
{
    for (int64_t col = 0; col < n; col += STEP) {
        __m512i block[LANES];
        for (int i = 0; i < LANES; i++)
            block[i] = i < count ? _mm512_loadu_si512(rows[i] + col) : _mm512_setzero_si512();
        transpose_pairs((char *)(packed + col * LANES), LINE, block);
    }
}

INLINE void ask_for(const uint16_t *row, int64_t n)
{
    for (int64_t i = 0; i < n; i += STEP) __builtin_prefetch(row + i, 0, 2);
}

static void pack_keys(uint16_t *tiles, const uint16_t *k, int64_t stride, int64_t count, int64_t n,
                      const uint16_t *soon)
{
    int64_t rows = (count + STEP - 1) / STEP * STEP;
    for (int64_t j = 0; j < rows; j++) {
        ask_for(soon + j * stride, n);
        for (int64_t col = 0; col < n; col += STEP)
            _mm512_storeu_si512(tiles + col * KEYS + j * STEP,
                                j < count ? _mm512_loadu_si512(k + j * stride + col) : _mm512_setzero_si512());
    }
}

/* 32 keys of 32 dimensions: pairs of keys side by side, then 16 x 16 pairs are transposed. */
INLINE void transpose_values(uint16_t *to, const uint16_t *v, int64_t stride, int64_t count)
{
    const __m512i low = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37,
                                         5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    __m512i left[16], right[16];
    for (int i = 0; i < 16; i++) {
        const uint16_t *row = v + 2 * i * stride;
        __m512i a = 2 * i < count ? _mm512_loadu_si512(row) : _mm512_setzero_si512();
        __m512i b = 2 * i + 1 < count ? _mm512_loadu_si512(row + stride) : _mm512_setzero_si512();
        left[i] = _mm512_permutex2var_epi16(a, low, b);
        right[i] = _mm512_permutex2var_epi16(a, high, b);
    }
    transpose_pairs((char *)to, LINE, left);
    transpose_pairs((char *)to + TILE, LINE, right);
}

__attribute__((flatten)) static void pack_values(uint16_t *tiles, const uint16_t *v, int64_t stride, int64_t count,
                                                 int64_t n, const uint16_t *soon)
{
    for (int64_t first = 0; first < count; first += STEP, tiles += STEP * n) {
        for (int64_t j = first; j < first + STEP; j++) ask_for(soon + j * stride, n);
        for (int64_t col = 0; col < n; col += STEP)
            if (count - first >= STEP)
                transpose_values(tiles + col * STEP, v + first * stride + col, stride, STEP);
            else
                transpose_values(tiles + col * STEP, v + first * stride + col, stride, count - first);
    }
}

/* ---- products ---------------------------------------------------------------------------------------------------- */

/* Tiles 0 1 / 2 3 are sums, 4 and 5 A, 6 and 7 B; `both` groups of queries, or one. */

/* s[groups][KEYS][16] = the products of keys [first, first + count) with the queries. */
INLINE void multiply_keys(float *s, const char *keys, const char *q, int64_t n, int64_t first, int64_t count, bool both)
{
    int64_t steps = n / STEP;
    for (int64_t key = first; key < first + count; key += STEP) {
        _tile_zero(0);
        _tile_zero(2);
        if (both) _tile_zero(1);
        if (both) _tile_zero(3);
        for (int64_t step = 0; step < steps; step++) {
            const char *a = keys + (step * KEYS + key) * LINE, *b = q + step * TILE;
            _tile_loadd(4, a, LINE);
            _tile_loadd(6, b, LINE);
            _tile_loadd(5, a + TILE, LINE);
            if (both) _tile_loadd(7, b + steps * TILE, LINE);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(2, 5, 6);
            if (both) _tile_dpbf16ps(1, 4, 7);
            if (both) _tile_dpbf16ps(3, 5, 7);
        }
        float *to = s + key * LANES;
        _tile_stored(0, to, LINE);
        _tile_stored(2, to + 16 * LANES, LINE);
        if (both) _tile_stored(1, to + KEYS * LANES, LINE);
        if (both) _tile_stored(3, to + (KEYS + 16) * LANES, LINE);
    }
}

/* o[groups][n][16] += values of keys [first, first + count) times their weights p[groups][KEYS / 2][16][2]. */
INLINE void multiply_values(float *o, const char *values, const char *p, int64_t n, int64_t first, int64_t count,
                            bool both)
{
    for (int64_t row = 0; row < n; row += 32) {
        float *at = o + row * LANES, *next = at + n * LANES;
        _tile_loadd(0, at, LINE);
        _tile_loadd(2, at + 16 * LANES, LINE);
        if (both) _tile_loadd(1, next, LINE);
        if (both) _tile_loadd(3, next + 16 * LANES, LINE);
        for (int64_t key = first; key < first + count; key += STEP) {
            const char *a = values + (key / STEP * n + row) * LINE, *b = p + key / 2 * LINE;
            _tile_loadd(4, a, LINE);
            _tile_loadd(6, b, LINE);
            _tile_loadd(5, a + TILE, LINE);
            if (both) _tile_loadd(7, b + KEYS / 2 * LINE, LINE);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(2, 5, 6);
            if (both) _tile_dpbf16ps(1, 4, 7);
            if (both) _tile_dpbf16ps(3, 5, 7);
        }
        _tile_stored(0, at, LINE);
        _tile_stored(2, at + 16 * LANES, LINE);
        if (both) _tile_stored(1, next, LINE);
        if (both) _tile_stored(3, next + 16 * LANES, LINE);
    }
}

/* ---- softmax ----------------------------------------------------------------------------------------------------- */

/* Scores outside [from, to) of their lane become minus infinity. */
static void mask_scores(float *s, int64_t first, int64_t count, const int32_t *from, const int32_t *to)
{
    __m512i low = _mm512_loadu_si512(from), high = _mm512_loadu_si512(to);
    for (int64_t key = first; key < first + count; key++) {
        __m512i here = _mm512_set1_epi32((int)key);
        __mmask16 seen = _mm512_mask_cmplt_epi32_mask(_mm512_cmple_epi32_mask(low, here), here, high);
        float *at = s + key * LANES;
        _mm512_storeu_ps(at, _mm512_mask_loadu_ps(_mm512_set1_ps(-INFINITY), seen, at));
    }
}

INLINE __m512 highest_score(const float *s, int64_t first, int64_t count)
{
    __m512 highest[4];
    for (int i = 0; i < 4; i++) highest[i] = _mm512_set1_ps(-INFINITY);
    for (int64_t key = first; key < first + count; key += 4)
        for (int i = 0; i < 4; i++) highest[i] = _mm512_max_ps(_mm512_loadu_ps(s + (key + i) * LANES), highest[i]);
    return _mm512_max_ps(_mm512_max_ps(highest[0], highest[1]), _mm512_max_ps(highest[2], highest[3]));
}

/* 2^(s * scale - reference), whose upper sixteen bits are it rounded to bf16, half upwards. The polynomial is the
 * minimax one of degree 3 for 2^f on [0, 1) that is 1 at 0 (relative error 8.6e-5); the half that rounds is added to
 * its constant, the whole part to its exponent. Below 2^-126 those sixteen bits are zero or subnormal, which the
 * products take for zero. NaN stays NaN. */
INLINE __m512i rounded_weight(__m512 s, __m512 scale, __m512 reference)
{
    const __m512 magic = _mm512_set1_ps(0x1.8p23f); /* what is added to it is rounded to an integer: its last bits */
    __m512 x = _mm512_max_ps(_mm512_set1_ps(-127), _mm512_fmsub_ps(s, scale, reference));
    __m512 shifted = _mm512_add_round_ps(x, magic, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    __m512 f = _mm512_sub_ps(x, _mm512_sub_ps(shifted, magic));
    __m512 p = _mm512_fmadd_ps(f, _mm512_set1_ps(0x1.3baa98p-4f), _mm512_set1_ps(0x1.d23792p-3f));
    p = _mm512_fmadd_ps(f, p, _mm512_set1_ps(0x1.63e658p-1f));
    p = _mm512_fmadd_ps(f, p, _mm512_set1_ps(1 + 0x1p-8f));
    return _mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(shifted), 23));
}

/* Writes the weights of the scores as pairs, and returns their sum. */
INLINE __m512 weigh(uint16_t *pairs, const float *s, int64_t first, int64_t count, __m512 scale, __m512 reference)
{
    const __m512bh ones = (__m512bh)_mm512_set1_epi32(0x3f803f80);
    const __m512i upper = _mm512_set1_epi32(-65536);
    __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int64_t key = first; key < first + count; key += 4)
        for (int i = 0; i < 2; i++) {
            const float *at = s + (key + 2 * i) * LANES;
            __m512i even = rounded_weight(_mm512_loadu_ps(at), scale, reference);
            __m512i odd = rounded_weight(_mm512_loadu_ps(at + LANES), scale, reference);
            __m512i pair = _mm512_or_si512(_mm512_srli_epi32(even, 16), _mm512_and_si512(odd, upper));
            _mm512_storeu_si512(pairs + (key + 2 * i) * LANES, pair);
            sums[i] = _mm512_dpbf16_ps(sums[i], (__m512bh)pair, ones);
        }
    return _mm512_add_ps(sums[0], sums[1]);
}

/* Online softmax (Milakov and Gimelshein 2018) of one group of queries: scores become weights, and what the group
 * summed so far is brought to a new reference if it must be. A reference of minus infinity means that nothing was
 * attended yet. */
INLINE void softmax(uint16_t *pairs, const float *s, int64_t first, int64_t count, float scale, float *reference,
                    float *sum, float *o, int64_t n)
{
    enum { ROOM = 8 };
    const __m512 nothing = _mm512_set1_ps(-INFINITY), factor = _mm512_set1_ps(scale);
    __m512 before = _mm512_loadu_ps(reference), now = before, total = _mm512_loadu_ps(sum);
    /* not below the exact product, so that no exponent can be far above 0, however large the scores */
    __m512 highest = _mm512_mul_ps(highest_score(s, first, count), factor);
    highest = _mm512_fmadd_ps(_mm512_abs_ps(highest), _mm512_set1_ps(0x1p-22f), highest);
    __mmask16 moved = _mm512_cmp_ps_mask(highest, _mm512_add_ps(before, _mm512_set1_ps(ROOM)), _CMP_GT_OQ);
    if (moved) {
        now = _mm512_mask_roundscale_ps(before, moved, highest, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC);
        __m512 shrink = _mm512_mask_scalef_ps(_mm512_set1_ps(1), moved, _mm512_set1_ps(1), _mm512_sub_ps(before, now));
        _mm512_storeu_ps(reference, now);
        total = _mm512_mul_ps(total, shrink);
        for (int64_t row = 0; row < n; row++)
            _mm512_storeu_ps(o + row * LANES, _mm512_mul_ps(_mm512_loadu_ps(o + row * LANES), shrink));
    }
    /* subtracting 0 instead keeps 2^-infinity = 0 and avoids infinity - infinity */
    __m512 base = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(now, nothing, _CMP_NEQ_UQ), now);
    _mm512_storeu_ps(sum, _mm512_add_ps(total, weigh(pairs, s, first, count, factor, base)));
}

/* ---- a block of keys --------------------------------------------------------------------------------------------- */

INLINE void attend_groups(const cpu_attention_rows *rows, const cpu_attention_keys *keys, int64_t n, float scale,
                          cpu_attention_work *work, bool both)
{
    multiply_keys(work->s, (const char *)keys->keys, (const char *)rows->q, n, keys->first, keys->count, both);
    for (int i = 0; i <= both; i++) {
        float *s = work->s + i * KEYS * LANES;
        if (rows->masked) mask_scores(s, keys->first, keys->count, rows->from + i * LANES, rows->to + i * LANES);
        softmax(work->p + i * KEYS * LANES, s, keys->first, keys->count, scale, rows->reference + i * LANES,
                rows->sum + i * LANES, rows->o + i * n * LANES, n);
    }
    MEMORY_IS_WRITTEN();
    multiply_values(rows->o, (const char *)keys->values, (const char *)work->p, n, keys->first, keys->count, both);
}

static void attend(const cpu_attention_rows *rows, const cpu_attention_keys *keys, int64_t n, float scale,
                   cpu_attention_work *work)
{
    MEMORY_IS_WRITTEN();
    if (rows->groups > 1)
        attend_groups(rows, keys, n, scale, work, true);
    else
        attend_groups(rows, keys, n, scale, work, false);
}

/* ---- results ----------------------------------------------------------------------------------------------------- */

/* Two rows of float32 become one of pairs, rounded to nearest even like ace_f32_to_bf16(). */
INLINE __m512i rounded_bits(__m512 v)
{
    __m512i bits = _mm512_castps_si512(v), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    return _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
}

/* The zero that is added turns -0 into 0: what keys that are masked add to a sum cannot show. */
__attribute__((flatten)) static void finish(uint16_t *const *rows, int count, const float *o, const float *sum,
                                            int64_t n)
{
    __m512 total = _mm512_loadu_ps(sum), zero = _mm512_setzero_ps();
    __mmask16 some = _mm512_cmp_ps_mask(total, zero, _CMP_NEQ_UQ);
    __m512 inverse = _mm512_maskz_div_ps(some, _mm512_set1_ps(1), total);
    for (int64_t col = 0; col < n; col += STEP) {
        __m512i pairs[16];
        float block[16][16];
        for (int i = 0; i < 16; i++) {
            const float *at = o + (col + 2 * i) * LANES;
            __m512i even = rounded_bits(_mm512_fmadd_ps(_mm512_loadu_ps(at), inverse, zero));
            __m512i odd = rounded_bits(_mm512_fmadd_ps(_mm512_loadu_ps(at + LANES), inverse, zero));
            pairs[i] = _mm512_or_si512(_mm512_srli_epi32(even, 16), _mm512_and_si512(odd, _mm512_set1_epi32(-65536)));
        }
        transpose_pairs((char *)block, LINE, pairs);
        for (int i = 0; i < count; i++) memcpy(rows[i] + col, block[i], LINE);
    }
}

const cpu_attention_tiles cpu_attention_tiles_amx = {.begin = begin,
                                                     .end = end,
                                                     .queries = pack_queries,
                                                     .keys = pack_keys,
                                                     .values = pack_values,
                                                     .attend = attend,
                                                     .finish = finish};
