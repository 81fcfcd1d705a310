/* attention_few_amx.c - the inner loops of cpu_attention_few on AMX.
 *
 * Scores are computed as S^T = K Q^T, the keys being rows of A as they lie in memory, but weighted values as O += P V:
 * of V the unit wants pairs of keys side by side, which two neighbouring rows make without a transposition. An element
 * is the sum of the same products in the same order either way. The softmax has keys, not queries, in the lanes of its
 * vectors; only the sum of weights depends on an order, and keeps it. */
#include "device/cpu/attention_few.h"
#include "device/cpu/attention_softmax.h"

enum {
    ROWS = CPU_FEW_LANES,
    KEYS = CPU_ATTENTION_STRETCH,
    LANES = 16,
    LINE = 64,        /* bytes of a row of a tile of bf16 */
    TILE = 16 * LINE, /* bytes of such a tile */
    STEP = 32,        /* products that one tile product adds to a sum */
    SCORES = 4 * ROWS /* bytes of a row of a tile of scores, and of one of queries */
};

/* Tiles 0 and 1: scores of 16 keys each; 2: queries; 3 and 4: keys, or values; 5 and 6: weighted values; 7: weights. */
static const tile_config config = {.palette = 1,
                                   .row_bytes = {SCORES, SCORES, SCORES, LINE, LINE, LINE, LINE, LINE},
                                   .rows = {16, 16, 16, 16, 16, ROWS, ROWS, ROWS}};

static void begin(void)
{
    _tile_loadconfig(&config);
}

static void end(void)
{
    _tile_release();
}

static void pack_queries(uint16_t *packed, const uint16_t *const *rows, int count, int64_t n)
{
    for (int64_t col = 0; col < n; col += 2)
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < 2; j++) packed[col * ROWS + 2 * i + j] = i < count ? rows[i][col + j] : 0;
}

/* ---- products ---------------------------------------------------------------------------------------------------- */

INLINE void ask_for(const uint16_t *row, int64_t stride)
{
    for (int i = 0; i < 16; i++) __builtin_prefetch(row + i * stride, 0, 2);
}

/* Sixteen keys from `first` on; where there are fewer, a copy with zeros behind. */
INLINE const uint16_t *sixteen_keys(const cpu_attention_few_keys *keys, int64_t first, int64_t n, uint16_t *last,
                                    int64_t *stride)
{
    const uint16_t *k = keys->k + first * keys->k_stride;
    *stride = keys->k_stride;
    if (keys->count - first >= 16) return k;
    *stride = n;
    for (int64_t i = 0; i < 16; i++)
        for (int64_t col = 0; col < n; col += STEP)
            _mm512_storeu_si512(last + i * n + col, i < keys->count - first
                                                        ? _mm512_loadu_si512(k + i * keys->k_stride + col)
                                                        : _mm512_setzero_si512());
    return last;
}

/* Scores of 32 keys from `first` on, of which `both` halves or the first one hold keys. */
INLINE void multiply_keys(const cpu_attention_few_rows *rows, const cpu_attention_few_keys *keys, int64_t first,
                          int64_t n, cpu_attention_few_work *work, bool both)
{
    int64_t strides[2];
    const uint16_t *left = sixteen_keys(keys, first, n, work->last, &strides[0]), *right = NULL;
    if (both) right = sixteen_keys(keys, first + 16, n, work->last, &strides[1]);
    const uint16_t *soon = keys->soon_k + first * keys->k_stride;
    MEMORY_IS_WRITTEN();
    _tile_zero(0);
    if (both) _tile_zero(1);
    for (int64_t col = 0; col < n; col += STEP) {
        _tile_loadd(2, rows->q + col * ROWS, SCORES);
        _tile_loadd(3, left + col, strides[0] * 2);
        _tile_dpbf16ps(0, 3, 2);
        ask_for(soon + col, keys->k_stride);
        if (!both) continue;
        _tile_loadd(4, right + col, strides[1] * 2);
        _tile_dpbf16ps(1, 4, 2);
        ask_for(soon + 16 * keys->k_stride + col, keys->k_stride);
    }
    _tile_stored(0, work->s + first * ROWS, SCORES);
    if (both) _tile_stored(1, work->s + (first + 16) * ROWS, SCORES);
}

/* The values of `keys` in pairs; zeros for what is missing to whole steps. */
INLINE void pack_values(uint16_t *pairs, const cpu_attention_few_keys *keys, int64_t n)
{
    int64_t stride = keys->v_stride;
    for (int64_t key = 0; key < keys->count || key % STEP != 0; key += 2) {
        const uint16_t *v = keys->v + key * stride, *soon = keys->soon_v + key * stride;
        uint16_t *to = pairs + key / STEP * STEP * n + key % STEP * LANES;
        bool first = key < keys->count, second = key + 1 < keys->count;
        for (int64_t col = 0; col < n; col += STEP, v += STEP, soon += STEP, to += TILE) {
            __m512i a = first ? _mm512_loadu_si512(v) : _mm512_setzero_si512();
            __m512i b = second ? _mm512_loadu_si512(v + stride) : _mm512_setzero_si512();
            __m512i left, right;
            pair_values(a, b, &left, &right);
            _mm512_storeu_si512(to, left);
            _mm512_storeu_si512(to + TILE / 2, right);
            __builtin_prefetch(soon, 0, 2);
            __builtin_prefetch(soon + stride, 0, 2);
        }
    }
}

INLINE void multiply_values(const cpu_attention_few_rows *rows, const cpu_attention_few_work *work, int64_t steps,
                            int64_t n)
{
    MEMORY_IS_WRITTEN();
    for (int64_t col = 0; col < n; col += STEP) {
        const uint16_t *pairs = work->pairs + col * STEP;
        _tile_loadd(5, rows->o + col, n * 4);
        _tile_loadd(6, rows->o + col + LANES, n * 4);
        for (int64_t step = 0; step < steps; step++, pairs += STEP * n) {
            _tile_loadd(7, work->weights + step * STEP, KEYS * 2);
            _tile_loadd(3, pairs, LINE);
            _tile_loadd(4, pairs + TILE / 2, LINE);
            _tile_dpbf16ps(5, 7, 3);
            _tile_dpbf16ps(6, 7, 4);
        }
        _tile_stored(5, rows->o + col, n * 4);
        _tile_stored(6, rows->o + col + LANES, n * 4);
    }
    MEMORY_IS_WRITTEN();
}

/* ---- softmax ----------------------------------------------------------------------------------------------------- */

/* The scores of a row for sixteen keys from `key` on, minus infinity outside [from, to). */
INLINE __m512 scores_of(const float *s, int64_t key, int row, int32_t from, int32_t to)
{
    const __m512i keys = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512i at = _mm512_add_epi32(keys, _mm512_set1_epi32((int)key));
    __mmask16 seen =
        _mm512_mask_cmplt_epi32_mask(_mm512_cmple_epi32_mask(_mm512_set1_epi32(from), at), at, _mm512_set1_epi32(to));
    return _mm512_mask_i32gather_ps(_mm512_set1_ps(-INFINITY), seen, _mm512_slli_epi32(at, 2), s + row, 4);
}

/* The sum of weights in the order of attention_amx.c: the pairs of even number and those of odd number, apart. */
INLINE float sum_of(const uint16_t *weights, int64_t count)
{
    const __m128bh ones = (__m128bh)_mm_set1_epi32(0x3f803f80);
    __m128 sums = _mm_setzero_ps();
    for (int64_t key = 0; key < count; key += 4)
        sums = _mm_dpbf16_ps(sums, (__m128bh)_mm_loadl_epi64((const __m128i *)(weights + key)), ones);
    return _mm_cvtss_f32(_mm_add_ss(sums, _mm_movehdup_ps(sums)));
}

/* Computes a row's weights of `count` keys, whole steps, and brings what it has summed up to date. */
INLINE void weigh(const cpu_attention_few_rows *rows, int row, int64_t count, int64_t n, __m512 scale,
                  cpu_attention_few_work *work)
{
    uint16_t *weights = work->weights + row * KEYS;
    __m512 s[KEYS / LANES], highest = _mm512_set1_ps(-INFINITY);
    for (int i = 0; i < count / LANES; i++) {
        s[i] = scores_of(work->s, i * LANES, row, rows->from[row], rows->to[row]);
        highest = _mm512_max_ps(s[i], highest);
    }
    highest = _mm512_mul_ps(_mm512_set1_ps(_mm512_reduce_max_ps(highest)), scale);
    softmax now = refer(highest, _mm512_set1_ps(rows->reference[row]));
    rows->reference[row] = _mm512_cvtss_f32(now.now);
    for (int i = 0; i < count / LANES; i++) {
        __m512i bits = rounded_weight(s[i], scale, now.reference);
        _mm256_storeu_si256((__m256i *)(weights + i * LANES), _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16)));
    }
    float shrink = _mm512_cvtss_f32(now.shrink);
    rows->sum[row] = fmaf(rows->sum[row], shrink, sum_of(weights, count));
    if (!now.moved) return;
    for (float *o = rows->o + row * n; o < rows->o + (row + 1) * n; o += LANES)
        _mm512_storeu_ps(o, _mm512_mul_ps(_mm512_loadu_ps(o), _mm512_set1_ps(shrink)));
}

static void attend(const cpu_attention_few_rows *rows, const cpu_attention_few_keys *keys, int64_t n, float factor,
                   cpu_attention_few_work *work)
{
    const __m512 scale = _mm512_set1_ps(factor);
    int64_t steps = (keys->count + STEP - 1) / STEP;
    for (int64_t first = 0; first < keys->count; first += STEP)
        if (keys->count - first > 16)
            multiply_keys(rows, keys, first, n, work, true);
        else
            multiply_keys(rows, keys, first, n, work, false);
    pack_values(work->pairs, keys, n);
    MEMORY_IS_WRITTEN();
    for (int row = 0; row < rows->count; row++) weigh(rows, row, steps * STEP, n, scale, work);
    multiply_values(rows, work, steps, n);
}

/* The zero that is added turns -0 into 0, as in attention_amx.c. */
static void finish(uint16_t *row, const float *o, float sum, int64_t n)
{
    __m512 zero = _mm512_setzero_ps(), inverse = _mm512_set1_ps(sum != 0 ? 1 / sum : 0);
    for (int64_t col = 0; col < n; col += LANES) {
        __m512i bits = rounded_bits(_mm512_fmadd_ps(_mm512_loadu_ps(o + col), inverse, zero));
        _mm256_storeu_si256((__m256i *)(row + col), _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16)));
    }
}

const cpu_attention_few cpu_attention_few_amx = {
    .begin = begin, .end = end, .queries = pack_queries, .attend = attend, .finish = finish};
