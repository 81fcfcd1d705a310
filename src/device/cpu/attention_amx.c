/* attention_amx.c - the inner loops of attention on AMX, in the layouts of cpu_attention_tiles.
 *
 * Both products are computed as their transposes: scores S^T = K Q^T with the keys as rows of A, and O^T += V^T P^T
 * with the values as rows of A. So a row of sixteen values holds the same key, or the same dimension, of sixteen
 * queries: the softmax works on whole vectors without looking into them, and two neighbouring rows of P^T in bf16 are
 * at once a row of pairs of B. */
#include "device/cpu/attention_softmax.h"
#include "device/cpu/attention_tiles.h"
#include "device/cpu/vector.h"

#include <immintrin.h>
#include <string.h>

enum {
    LANES = CPU_LANES,
    KEYS = CPU_ATTENTION_STRETCH,
    LINE = 64,        /* bytes of a row of a tile */
    TILE = 16 * LINE, /* bytes of a tile */
    STEP = 32,        /* products that one tile product adds to a sum; keys and dimensions of two tiles side by side */
    UNIT = 4          /* keys whose weights are computed between tile products, at least */
};

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

static void pack_keys(uint16_t *tiles, const uint16_t *k, int64_t stride, int64_t count, int64_t n)
{
    for (int64_t first = 0; first < count; first += STEP, tiles += STEP * n) {
        for (int64_t j = 0; j < STEP; j++)
            for (int64_t col = 0; col < n; col += STEP)
                _mm512_storeu_si512(tiles + col * STEP + j * STEP,
                                    first + j < count ? _mm512_loadu_si512(k + (first + j) * stride + col)
                                                      : _mm512_setzero_si512());
    }
}

/* 32 keys of 32 dimensions: pairs of keys side by side, then 16 x 16 pairs are transposed. */
INLINE void transpose_values(uint16_t *to, const uint16_t *v, int64_t stride, int64_t count)
{
    __m512i left[16], right[16];
    for (int i = 0; i < 16; i++) {
        const uint16_t *row = v + 2 * i * stride;
        __m512i a = 2 * i < count ? _mm512_loadu_si512(row) : _mm512_setzero_si512();
        __m512i b = 2 * i + 1 < count ? _mm512_loadu_si512(row + stride) : _mm512_setzero_si512();
        pair_values(a, b, &left[i], &right[i]);
    }
    transpose_pairs((char *)to, LINE, left);
    transpose_pairs((char *)to + TILE, LINE, right);
}

__attribute__((flatten)) static void pack_values(uint16_t *tiles, const uint16_t *v, int64_t stride, int64_t count,
                                                 int64_t n)
{
    for (int64_t first = 0; first < count; first += STEP, tiles += STEP * n) {
        for (int64_t col = 0; col < n; col += STEP)
            if (count - first >= STEP)
                transpose_values(tiles + col * STEP, v + first * stride + col, stride, STEP);
            else
                transpose_values(tiles + col * STEP, v + first * stride + col, stride, count - first);
    }
}

/* ---- products ---------------------------------------------------------------------------------------------------- */

/* A stretch of 32 or 64 keys. */
typedef struct stretch {
    int64_t first, count;
    float *s;    /* [groups][KEYS][16], scores */
    uint16_t *p; /* [groups][KEYS / 2][16][2], weights */
} stretch;

/* Tile products that are yet to be computed: the weighted values of one stretch, 32 dimensions in a piece of work, then
 * the scores of another, 32 keys in a piece. Of each piece two by two tiles are multiplied at a time, or two by one for
 * one group: tiles 0 1 / 2 3 are sums, 4 and 5 A, 6 and 7 B. */
typedef struct products {
    const cpu_attention_rows *rows;
    const cpu_attention_keys *keys;
    int64_t n;
    stretch values, scores;
    int64_t row, key; /* where they are */
    int64_t pieces;   /* left to do */
} products;

INLINE void multiply_step(const char *a, const char *b, int64_t next_group, bool both)
{
    _tile_loadd(6, b, LINE);
    _tile_stream_loadd(4, a, LINE);
    if (both) _tile_loadd(7, b + next_group, LINE);
    _tile_stream_loadd(5, a + TILE, LINE);
    _tile_dpbf16ps(0, 4, 6);
    if (both) _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    if (both) _tile_dpbf16ps(3, 5, 7);
}

INLINE void store_sums(float *c, int64_t next_group, bool both)
{
    _tile_stored(0, c, LINE);
    _tile_stored(2, c + 16 * LANES, LINE);
    if (both) _tile_stored(1, c + next_group, LINE);
    if (both) _tile_stored(3, c + next_group + 16 * LANES, LINE);
}

/* Rows of 32 keys, of which the first ones stand at `row`, that these groups ask for. */
INLINE void ask_soon(const cpu_attention_soon *soon, const uint16_t *row)
{
    for (int64_t j = soon->first; j < soon->first + soon->count; j++) __builtin_prefetch(row + j * soon->stride, 0, 2);
}

/* o[groups][32 dimensions][16] += values times their weights. */
INLINE void multiply_values(products *w, bool both)
{
    const cpu_attention_keys *keys = w->keys;
    int64_t next = w->n * LANES;
    float *o = w->rows->o + w->row * LANES;
    const char *b = (const char *)w->values.p;
    _tile_loadd(0, o, LINE);
    if (both) _tile_loadd(1, o + next, LINE);
    _tile_loadd(2, o + 16 * LANES, LINE);
    if (both) _tile_loadd(3, o + next + 16 * LANES, LINE);
    for (int64_t key = w->values.first; key < w->values.first + w->values.count; key += STEP, b += TILE) {
        multiply_step((const char *)(keys->values + key * w->n + w->row * STEP), b, KEYS * LANES * 2, both);
        ask_soon(&keys->soon_values, keys->soon_values.at + key * keys->soon_values.stride + w->row);
    }
    store_sums(o, next, both);
    w->row += STEP;
}

/* s[groups][32 keys][16] = keys times queries. */
INLINE void multiply_keys(products *w, bool both)
{
    const cpu_attention_keys *keys = w->keys;
    int64_t key = w->scores.first + w->key;
    const uint16_t *a = keys->keys + key * w->n, *b = w->rows->q;
    _tile_zero(0);
    if (both) _tile_zero(1);
    _tile_zero(2);
    if (both) _tile_zero(3);
    for (int64_t col = 0; col < w->n; col += STEP) {
        multiply_step((const char *)(a + col * STEP), (const char *)(b + col * LANES), w->n * LANES * 2, both);
        ask_soon(&keys->soon_keys, keys->soon_keys.at + key * keys->soon_keys.stride + col);
    }
    store_sums(w->scores.s + w->key * LANES, KEYS * LANES, both);
    w->key += STEP;
}

INLINE void do_piece(products *w, bool both)
{
    w->pieces--;
    if (w->row < w->n)
        multiply_values(w, both);
    else
        multiply_keys(w, both);
}

/* Sets out the products of the values of one stretch and the scores of another; either may have no keys. */
INLINE void set_out(products *w, stretch values, stretch scores)
{
    w->values = values;
    w->scores = scores;
    w->row = values.count > 0 ? 0 : w->n;
    w->key = 0;
    w->pieces = (w->n - w->row + scores.count) / STEP;
}

INLINE void do_the_rest(products *w, bool both)
{
    while (w->pieces > 0) do_piece(w, both);
}

/* ---- softmax ----------------------------------------------------------------------------------------------------- */

/* Scores outside [from, to) of their lane become minus infinity. */
static void mask_scores(const stretch *t, float *s, const int32_t *from, const int32_t *to)
{
    __m512i low = _mm512_loadu_si512(from), high = _mm512_loadu_si512(to);
    for (int64_t i = 0; i < t->count; i++) {
        __m512i here = _mm512_set1_epi32((int)(t->first + i));
        __mmask16 seen = _mm512_mask_cmplt_epi32_mask(_mm512_cmple_epi32_mask(low, here), here, high);
        float *at = s + i * LANES;
        _mm512_storeu_ps(at, _mm512_mask_loadu_ps(_mm512_set1_ps(-INFINITY), seen, at));
    }
}

INLINE __m512 highest_score(const float *s, int64_t count)
{
    __m512 highest[4];
    for (int i = 0; i < 4; i++) highest[i] = _mm512_set1_ps(-INFINITY);
    for (int64_t key = 0; key < count; key += 4)
        for (int i = 0; i < 4; i++) highest[i] = _mm512_max_ps(_mm512_loadu_ps(s + (key + i) * LANES), highest[i]);
    return _mm512_max_ps(_mm512_max_ps(highest[0], highest[1]), _mm512_max_ps(highest[2], highest[3]));
}

INLINE void shrink_rows(float *o, int64_t n, __m512 factor)
{
    for (int64_t row = 0; row < n; row++)
        _mm512_storeu_ps(o + row * LANES, _mm512_mul_ps(_mm512_loadu_ps(o + row * LANES), factor));
}

/* Writes the weights of the scores as pairs, and returns their sum. Meanwhile the matrix unit works: of `w`, `share`
 * pieces fall to each `pace` units. */
INLINE __m512 weigh(uint16_t *pairs, const float *s, int64_t count, __m512 scale, __m512 reference, products *w,
                    int64_t share, int64_t pace, bool both)
{
    const __m512bh ones = (__m512bh)_mm512_set1_epi32(0x3f803f80);
    const __m512i upper = _mm512_set1_epi32(-65536);
    __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    int64_t due = 0;
    for (int64_t key = 0; key < count; key += UNIT) {
        for (int i = 0; i < 2; i++) {
            const float *at = s + (key + 2 * i) * LANES;
            __m512i even = rounded_weight(_mm512_loadu_ps(at), scale, reference);
            __m512i odd = rounded_weight(_mm512_loadu_ps(at + LANES), scale, reference);
            __m512i pair = _mm512_or_si512(_mm512_srli_epi32(even, 16), _mm512_and_si512(odd, upper));
            _mm512_storeu_si512(pairs + (key + 2 * i) * LANES, pair);
            sums[i] = _mm512_dpbf16_ps(sums[i], (__m512bh)pair, ones);
        }
        for (due += share; due >= pace && w->pieces > 0; due -= pace) do_piece(w, both);
    }
    return _mm512_add_ps(sums[0], sums[1]);
}

/* ---- a block of keys --------------------------------------------------------------------------------------------- */

/* The stretch that holds key `first`, as far as it lies before `end`: in turns the first and second of the work. */
INLINE stretch stretch_at(cpu_attention_work *work, int64_t first, int64_t end)
{
    int64_t next = (first / KEYS + 1) * KEYS, turn = first / KEYS % 2;
    if (next > end) next = end;
    return (stretch){first, next > first ? next - first : 0, work->s[turn], work->p[turn]};
}

/* One stretch after the other. While the core computes the weights of one, the unit multiplies the values of the one
 * before and the scores of the one behind. */
INLINE void attend_groups(const cpu_attention_rows *rows, const cpu_attention_keys *keys, int64_t n, float factor,
                          cpu_attention_work *work, bool both)
{
    const __m512 scale = _mm512_set1_ps(factor);
    products w = {.rows = rows, .keys = keys, .n = n};
    stretch before = {0}, now = stretch_at(work, keys->first, keys->end), next;
    set_out(&w, before, now);
    do_the_rest(&w, both);
    for (; now.count > 0; before = now, now = next) {
        softmax groups[2];
        next = stretch_at(work, now.first + now.count, keys->end);
        MEMORY_IS_WRITTEN();
        for (int i = 0; i <= both; i++) {
            float *s = now.s + i * KEYS * LANES;
            if (now.first < rows->all_from || now.first + now.count > rows->all_to)
                mask_scores(&now, s, rows->from + i * LANES, rows->to + i * LANES);
            float *reference = rows->reference + i * LANES;
            groups[i] = refer(_mm512_mul_ps(highest_score(s, now.count), scale), _mm512_loadu_ps(reference));
            _mm512_storeu_ps(reference, groups[i].now);
        }
        set_out(&w, before, next);
        int64_t share = w.pieces, pace = now.count / UNIT * (1 + both);
        for (int i = 0; i <= both; i++) {
            float *sum = rows->sum + i * LANES;
            __m512 total = weigh(now.p + i * KEYS * LANES, now.s + i * KEYS * LANES, now.count, scale,
                                 groups[i].reference, &w, share, pace, both);
            _mm512_storeu_ps(sum, _mm512_fmadd_ps(_mm512_loadu_ps(sum), groups[i].shrink, total));
        }
        do_the_rest(&w, both);
        MEMORY_IS_WRITTEN();
        for (int i = 0; i <= both; i++)
            if (groups[i].moved) shrink_rows(rows->o + i * n * LANES, n, groups[i].shrink);
    }
    MEMORY_IS_WRITTEN();
    set_out(&w, before, (stretch){0});
    do_the_rest(&w, both);
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
