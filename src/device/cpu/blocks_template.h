/* blocks_template.h - weights in 4 bits and in GGUF's blocks: their values, written into panels for the kernels of
 * products, or multiplied on the spot with a few rows, whose speed is that of reading weights. In the vocabulary of
 * vector.h; included by rows_template.h.
 *
 * All formats are scales times small whole numbers, minus something. The numbers of a group of 32 values of k and 32
 * columns are put together as bytes first, 4 * VF_LANES at a time; what follows is the same for all. */

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

enum { GROUP_BYTES = CPU_EXPAND * 32 };

/* Bytes, and the same as pairs, which can be shifted: a mask takes away what came from the neighbour. */
typedef uint8_t byte_lanes __attribute__((vector_size(4 * VF_LANES)));
typedef uint16_t pair_lanes __attribute__((vector_size(4 * VF_LANES)));

Q_INLINE byte_lanes load_bytes(const uint8_t *p)
{
    byte_lanes v;
    memcpy(&v, p, sizeof v);
    return v;
}

Q_INLINE byte_lanes shifted(byte_lanes v, int left, uint8_t mask)
{
    pair_lanes pairs;
    memcpy(&pairs, &v, sizeof v);
    pairs = left >= 0 ? pairs << left : pairs >> -left;
    memcpy(&v, &pairs, sizeof v);
    return v & mask;
}

/* The lower or the upper half of each byte. */
Q_INLINE byte_lanes nibbles(byte_lanes v, bool upper)
{
    return shifted(v, upper ? -4 : 0, 15);
}

/* number[i] = four bits of low[i], and above them those of high[i] that `mask` shows after a shift, minus `less`. */
Q_INLINE void put_together(uint8_t *number, const uint8_t *low, bool upper, const uint8_t *high, int left, uint8_t mask,
                           uint8_t less)
{
    for (int i = 0; i < GROUP_BYTES; i += 4 * VF_LANES) {
        byte_lanes v = nibbles(load_bytes(low + i), upper);
        if (high) v |= shifted(load_bytes(high + i), left, mask);
        v -= less;
        memcpy(number + i, &v, sizeof v);
    }
}

/* The numbers of group `part`, int8 [32][32 columns], in `room` unless they lie so in the block. Those of INT4 are even
 * values first, then odd ones.
 *
 * Q8_0, 32 values in 34 bytes: half d; int8 q[32].  d * q
 *
 * Q4_K, 256 values in 144 bytes: half d, dmin; scales[12]; nibbles q[128]. Q5_K, 176 bytes: between scales and nibbles
 * fifth bits h[32]. Group j of 32 values: (d * scale_j) * q - (dmin * min_j); even groups are low nibbles, odd groups
 * high ones; bit j of h[l] is the fifth bit of value l of group j.
 *
 * Q6_K, 256 values in 210 bytes: low nibbles ql[128]; upper two bits qh[64]; int8 scales[16]; half d.
 * (d * scale) * (q - 32), a scale for 16 values. Each half of 128 values has 64 bytes of ql and 32 of qh; its quarter j
 * (32 values) takes nibble j / 2 of ql[32 * (j % 2) + l] and bits 2j of qh[l]. */
Q_INLINE const uint8_t *numbers(uint8_t *room, ace_dtype blocks, const uint8_t *planes, int part)
{
    bool odd = part & 1;
    int quarter = part & 3;
    const uint8_t *half, *fifth;
    switch (blocks) {
    case ACE_Q8_0:
        return planes + 2 * 32;
    case ACE_Q4_K:
        put_together(room, planes + (16 + 32 * (part / 2)) * 32, odd, NULL, 0, 0, 0);
        break;
    case ACE_Q5_K:
        fifth = planes + 16 * 32;
        put_together(room, planes + (48 + 32 * (part / 2)) * 32, odd, fifth, 4 - part, 16, 0);
        break;
    case ACE_Q6_K:
        half = planes + (64 * (part / 4) + 32 * (quarter & 1)) * 32;
        put_together(room, half, quarter > 1, planes + (128 + 32 * (part / 4)) * 32, 4 - 2 * quarter, 48, 32);
        break;
    default:
        for (int i = 0; i < GROUP_BYTES / 2; i += 4 * VF_LANES) {
            byte_lanes both = load_bytes(planes + 2 * 32 + i);
            byte_lanes even = nibbles(both, false) - 8, odd_ones = nibbles(both, true) - 8;
            memcpy(room + i, &even, sizeof even);
            memcpy(room + GROUP_BYTES / 2 + i, &odd_ones, sizeof odd_ones);
        }
    }
    return room;
}

/* ---- scales ------------------------------------------------------------------------------------------------------ */

/* VF_LANES bytes of plane `i`, from column `col` on. */
Q_INLINE vi plane(const uint8_t *planes, int i, int col)
{
    return vi_load_u8(planes + i * 32 + col);
}

/* Half precision in two planes, subnormals too; packing has refused infinity and NaN. */
#if defined(__AVX512F__)
Q_INLINE vf plane_half(const uint8_t *planes, int i, int col)
{
    __m128i low = _mm_loadu_si128((const __m128i *)(planes + i * 32 + col));
    __m128i high = _mm_loadu_si128((const __m128i *)(planes + (i + 1) * 32 + col));
    return _mm512_cvtph_ps(_mm256_set_m128i(_mm_unpackhi_epi8(low, high), _mm_unpacklo_epi8(low, high)));
}
#elif defined(__AVX2__)
Q_INLINE vf plane_half(const uint8_t *planes, int i, int col)
{
    __m128i low = _mm_loadl_epi64((const __m128i *)(planes + i * 32 + col));
    __m128i high = _mm_loadl_epi64((const __m128i *)(planes + (i + 1) * 32 + col));
    return _mm256_cvtph_ps(_mm_unpacklo_epi8(low, high));
}
#else
/* The exponent is moved by a multiplication, which subnormals survive. */
Q_INLINE vf plane_half(const uint8_t *planes, int i, int col)
{
    vi bits = plane(planes, i, col) | plane(planes, i + 1, col) << 8;
    vf magnitude = vf_mul(vi_as_float((bits & 0x7fff) << 13), vf_set1(0x1p112f));
    return vi_as_float(vi_bits(magnitude) | (bits & 0x8000) << 16);
}
#endif

/* Six-bit scale and minimum `part` of the eight that Q4_K and Q5_K keep in 12 bytes. */
Q_INLINE void scale_and_minimum(const uint8_t *planes, int part, int col, vf *scale, vf *minimum)
{
    vi s, m;
    if (part < 4) {
        s = plane(planes, part, col) & 63;
        m = plane(planes, part + 4, col) & 63;
    } else {
        vi both = plane(planes, part + 4, col);
        s = (both & 15) | (plane(planes, part - 4, col) >> 6) << 4;
        m = both >> 4 | (plane(planes, part, col) >> 6) << 4;
    }
    *scale = vf_from_int(s);
    *minimum = vf_from_int(m);
}

/* Of VF_LANES columns: a value is its number times a scale, one for each half of the group, plus what is added. */
typedef struct group_of_columns {
    vf scale[2], added;
} group_of_columns;

Q_INLINE group_of_columns group_at(ace_dtype blocks, const uint8_t *planes, int part, int col)
{
    group_of_columns g = {.added = vf_set1(0)};
    vf d, scale, minimum;
    switch (blocks) {
    case ACE_Q8_0:
        g.scale[0] = g.scale[1] = plane_half(planes, 0, col);
        break;
    case ACE_Q4_K:
    case ACE_Q5_K:
        scale_and_minimum(planes + 4 * 32, part, col, &scale, &minimum);
        g.scale[0] = g.scale[1] = vf_mul(plane_half(planes, 0, col), scale);
        g.added = vf_sub(vf_set1(0), vf_mul(plane_half(planes, 2, col), minimum));
        break;
    case ACE_Q6_K:
        d = plane_half(planes, 208, col);
        for (int i = 0; i < 2; i++)
            g.scale[i] = vf_mul(d, vf_from_int(vi_load_i8(planes + (192 + 2 * part + i) * 32 + col)));
        break;
    default:
        g.scale[0] = g.scale[1] = vi_as_float(plane(planes, 0, col) << 16 | plane(planes, 1, col) << 24);
    }
    return g;
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

/* To the nearest bf16, ties to even, |v| < 2^111: Veltkamp's splitting of a number (Dekker 1971), whose ties are even
 * with 24 and 8 bits, as all 2^23 fractions show. */
Q_INLINE vf rounded(vf v)
{
    vf large = vf_mul(v, vf_set1(0x1p16f + 1));
    return vf_sub(large, vf_sub(large, v));
}

/* Value i, whose numbers of all columns are at `number`. Products of scales and numbers have at most 22 bits: a fused
 * addition rounds as often as one of its own. */
Q_INLINE vf value_of(const uint8_t *number, int col, int i, const group_of_columns *g, bool round)
{
    vf v = vf_fma(vf_from_int(vi_load_i8(number + col)), g->scale[i / 16], g->added);
    return round ? rounded(v) : v;
}

/* Where the numbers of value i are, which is even, and those of the next. */
Q_INLINE int even_row(ace_dtype blocks, int i)
{
    return (blocks == ACE_U8 ? i / 2 : i) * 32;
}

Q_INLINE int odd_row(ace_dtype blocks, int i)
{
    return (blocks == ACE_U8 ? i / 2 + CPU_EXPAND / 2 : i + 1) * 32;
}

/* ---- into panels ------------------------------------------------------------------------------------------------- */

Q_INLINE void store_values(void *panel, cpu_expanded to, int i, int col, vf even, vf odd)
{
    if (to == CPU_EXPANDED_PAIRS) {
        vi pair = ((vi_bits(even) >> 16) & 0xffff) | vi_bits(odd);
        memcpy((uint16_t *)panel + (i / 2 * 32 + col) * 2, &pair, sizeof pair);
        return;
    }
    vf_store_n((float *)panel + i * 32 + col, even, VF_LANES);
    vf_store_n((float *)panel + (i + 1) * 32 + col, odd, VF_LANES);
}

/* `to` and `round` are constants wherever this is inlined. */
Q_INLINE void expand_as(void *panel, cpu_expanded to, bool round, ace_dtype blocks, const uint8_t *planes, int part)
{
    uint8_t room[GROUP_BYTES];
    const uint8_t *number = numbers(room, blocks, planes, part);
    const int next = odd_row(blocks, 0), step = even_row(blocks, 2);
    for (int col = 0; col < 32; col += VF_LANES) {
        group_of_columns g = group_at(blocks, planes, part, col);
        const uint8_t *at = number;
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++)
            for (int i = 16 * half; i < 16 * half + 16; i += 2, at += step)
                store_values(panel, to, i, col, value_of(at, col, 16 * half, &g, round),
                             value_of(at + next, col, 16 * half, &g, round));
    }
}

/* INT4 needs no rounding: bf16 has its values. */
static void expand_group(void *panel, cpu_expanded to, ace_dtype blocks, const uint8_t *planes, int part)
{
    bool exact = blocks == ACE_U8;
    if (to == CPU_EXPANDED_PAIRS && exact)
        expand_as(panel, CPU_EXPANDED_PAIRS, false, blocks, planes, part);
    else if (to == CPU_EXPANDED_PAIRS)
        expand_as(panel, CPU_EXPANDED_PAIRS, true, blocks, planes, part);
    else if (to == CPU_EXPANDED_ROUNDED && !exact)
        expand_as(panel, CPU_EXPANDED_ROUNDED, true, blocks, planes, part);
    else
        expand_as(panel, CPU_EXPANDED_F32, false, blocks, planes, part);
}

/* ---- multiplied on the spot -------------------------------------------------------------------------------------- */

/* How an element's products are added up: one after the other, or as a matrix unit of tiles does (few_rows_amx.c). */
typedef enum product_order { IN_ORDER, EVENS_AND_ODDS } product_order;

/* Vectors of columns whose sums fit the registers. */
enum { SPOT_VECTORS = 2, SPOT_STRIP = SPOT_VECTORS * VF_LANES };

/* Adds the products of a group to the sums [rows][32]. `rows`, `order` and `round` are constants wherever this is
 * inlined. */
Q_INLINE void spot_group(float *sums, const float *x, int64_t ldx, int rows, product_order order, bool round,
                         ace_dtype blocks, const uint8_t *planes, int part)
{
    uint8_t room[GROUP_BYTES];
    const uint8_t *number = numbers(room, blocks, planes, part);
    const int next = odd_row(blocks, 0), step = even_row(blocks, 2);
    for (int col = 0; col < 32; col += SPOT_STRIP) {
        group_of_columns g[SPOT_VECTORS];
        vf first[CPU_FEW_ROWS][SPOT_VECTORS], second[CPU_FEW_ROWS][SPOT_VECTORS];
#pragma GCC unroll 2
        for (int v = 0; v < SPOT_VECTORS; v++) {
            g[v] = group_at(blocks, planes, part, col + v * VF_LANES);
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++) {
                first[r][v] = order == IN_ORDER ? vf_load_n(sums + r * 32 + col + v * VF_LANES, VF_LANES) : vf_set1(0);
                second[r][v] = vf_set1(0);
            }
        }
        const uint8_t *at = number;
#pragma GCC unroll 2
        for (int half = 0; half < 2; half++)
#pragma GCC unroll 1
            for (int i = 16 * half; i < 16 * half + 16; i += 2, at += step)
#pragma GCC unroll 2
                for (int v = 0; v < SPOT_VECTORS; v++) {
                    vf even = value_of(at, col + v * VF_LANES, 16 * half, &g[v], round);
                    vf odd = value_of(at + next, col + v * VF_LANES, 16 * half, &g[v], round);
#pragma GCC unroll 4
                    for (int r = 0; r < rows; r++) {
                        vf *sum = order == IN_ORDER ? &first[r][v] : &second[r][v];
                        first[r][v] = vf_fma(vf_set1(x[r * ldx + i]), even, first[r][v]);
                        *sum = vf_fma(vf_set1(x[r * ldx + i + 1]), odd, *sum);
                    }
                }
#pragma GCC unroll 2
        for (int v = 0; v < SPOT_VECTORS; v++)
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++) {
                float *to = sums + r * 32 + col + v * VF_LANES;
                vf sum = order == IN_ORDER ? first[r][v]
                                           : vf_add(vf_load_n(to, VF_LANES), vf_add(first[r][v], second[r][v]));
                vf_store_n(to, sum, VF_LANES);
            }
    }
}

Q_INLINE void spot_rows(float *sums, const float *x, int64_t ldx, int rows, product_order order, bool round,
                        ace_dtype blocks, const uint8_t *planes, int part)
{
    switch (rows) {
    case 1:
        spot_group(sums, x, ldx, 1, order, round, blocks, planes, part);
        break;
    case 2:
        spot_group(sums, x, ldx, 2, order, round, blocks, planes, part);
        break;
    case 3:
        spot_group(sums, x, ldx, 3, order, round, blocks, planes, part);
        break;
    default:
        spot_group(sums, x, ldx, CPU_FEW_ROWS, order, round, blocks, planes, part);
    }
}

/* The parts of a panel of blocks one after the other. */
typedef struct group_walk {
    const uint8_t *block;
    int part, parts;
    size_t bytes, share; /* of a block of 32 columns, and of a group in it */
} group_walk;

Q_INLINE group_walk walk_groups(ace_dtype blocks, const uint8_t *planes)
{
    group_walk w = {.block = planes, .parts = blocks == ACE_U8 ? 1 : ace_dtype_block(blocks) / CPU_EXPAND};
    w.bytes = (size_t)32 * (blocks == ACE_U8 ? CPU_INT4_BYTES : ace_dtype_block_bytes(blocks));
    w.share = w.bytes / (size_t)w.parts;
    return w;
}

/* Asks for what will be read a block later, or 2 KiB, and goes on to the next group. */
Q_INLINE void next_group(group_walk *w)
{
    const uint8_t *soon = w->block + (size_t)w->part * w->share + (w->bytes > 2048 ? w->bytes : 2048);
    for (size_t i = 0; i < w->share; i += 64) __builtin_prefetch(soon + i);
    if (++w->part == w->parts) {
        w->block += w->bytes;
        w->part = 0;
    }
}

/* As the kernels of float32 add up: in chunks of CPU_KC. */
static void multiply_blocks_in_order(float *c, const float *x, int64_t ldx, int rows, int64_t k, bool round,
                                     ace_dtype blocks, const uint8_t *planes)
{
    group_walk w = walk_groups(blocks, planes);
    for (int64_t first = 0; first < k; first += CPU_KC) {
        float sums[CPU_FEW_ROWS * 32] = {0};
        int64_t end = k < first + CPU_KC ? k : first + CPU_KC;
        for (int64_t at = first; at < end; at += CPU_EXPAND) {
            if (round)
                spot_rows(sums, x + at, ldx, rows, IN_ORDER, true, blocks, w.block, w.part);
            else
                spot_rows(sums, x + at, ldx, rows, IN_ORDER, false, blocks, w.block, w.part);
            next_group(&w);
        }
        for (int i = 0; i < rows * 32; i += VF_LANES) {
            vf sum = vf_load_n(sums + i, VF_LANES);
            vf_store_n(c + i, first == 0 ? sum : vf_add(vf_load_n(c + i, VF_LANES), sum), VF_LANES);
        }
    }
}

#if defined(VF_ROUNDS_BF16)
/* A function of its own, so that no arithmetic is moved to where the thread's is as usual. */
static __attribute__((noinline)) void multiply_blocks_in_tiles(float *c, const float *x, int64_t ldx, int rows,
                                                               int64_t k, ace_dtype blocks, const uint8_t *planes)
{
    group_walk w = walk_groups(blocks, planes);
    memset(c, 0, (size_t)rows * 32 * sizeof *c);
    for (int64_t at = 0; at < k; at += CPU_EXPAND) {
        if (blocks == ACE_U8)
            spot_rows(c, x + at, ldx, rows, EVENS_AND_ODDS, false, blocks, w.block, w.part);
        else
            spot_rows(c, x + at, ldx, rows, EVENS_AND_ODDS, true, blocks, w.block, w.part);
        next_group(&w);
    }
}
#endif

static void multiply_blocks(float *c, const float *x, int64_t ldx, int rows, int64_t k, cpu_expanded as,
                            ace_dtype blocks, const uint8_t *planes)
{
#if defined(VF_ROUNDS_BF16)
    if (as == CPU_EXPANDED_PAIRS) {
        enum { SUBNORMALS_ARE_ZERO = 0x8040 }; /* FTZ and DAZ of MXCSR */
        unsigned before = _mm_getcsr();
        _mm_setcsr(before | SUBNORMALS_ARE_ZERO);
        multiply_blocks_in_tiles(c, x, ldx, rows, k, blocks, planes);
        _mm_setcsr(before);
        return;
    }
#endif
    multiply_blocks_in_order(c, x, ldx, rows, k, as == CPU_EXPANDED_ROUNDED && blocks != ACE_U8, blocks, planes);
}

static const cpu_quantised quantised_kernels = {
    .rows = quantise_rows,
    .pack = pack_quads,
    .groups = quantise_groups,
    .finite = row_is_finite,
    .expand = expand_group,
    .multiply_blocks = multiply_blocks,
};
