/* few_rows_template.h - products and attention of a few rows, whose speed is that of reading weights, keys and values:
 * a language model writes one token a time. Included by rows_template.h, in the vocabulary of vector.h. */

#define FEW_INLINE static inline __attribute__((always_inline))

/* ---- with a packed panel ----------------------------------------------------------------------------------------- */

/* Rows of which the sums fit the registers, and columns of a strip. */
enum { PAIRS_ROWS = VF_LANES == 16 ? 8 : 4, PAIRS_STRIP = 2 * VF_LANES };

typedef struct pair_sums {
    vf left[PAIRS_ROWS], right[PAIRS_ROWS];
} pair_sums;

FEW_INLINE void pairs_step(pair_sums *t, const float *a, int64_t lda, int rows, vf left, vf right)
{
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        vf x = vf_set1(a[r * lda]);
        t->left[r] = vf_fma(x, left, t->left[r]);
        t->right[r] = vf_fma(x, right, t->right[r]);
    }
}

FEW_INLINE void pairs_store(float *c, vf sum, bool accumulate)
{
    vf_store_n(c, accumulate ? vf_add(vf_load_n(c, VF_LANES), sum) : sum, VF_LANES);
}

/* `rows` is a constant wherever this is inlined, so that the sums live in registers. */
FEW_INLINE void pairs_strip(float *c, int64_t ldc, const float *a, int64_t lda, int rows, int64_t length,
                            const uint16_t *b, bool accumulate, const char *soon)
{
    pair_sums t;
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) t.left[r] = t.right[r] = vf_set1(0);
    for (int64_t k = 0; k < length; k += 2, b += 2 * CPU_NR, soon += 4 * CPU_NR) {
        const uint16_t *next = b + 2 * VF_LANES;
        __builtin_prefetch(soon);
        __builtin_prefetch(soon + 64);
        pairs_step(&t, a + k, lda, rows, vf_load_even(b), vf_load_even(next));
        if (k + 1 < length) pairs_step(&t, a + k + 1, lda, rows, vf_load_odd(b), vf_load_odd(next));
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++) {
        pairs_store(c + r * ldc, t.left[r], accumulate);
        pairs_store(c + r * ldc + VF_LANES, t.right[r], accumulate);
    }
}

#define PAIRS_CASE(n)                                                \
    case n:                                                          \
        pairs_strip(c, ldc, a, lda, n, length, b, accumulate, soon); \
        break;

static void pairs_rows(float *c, int64_t ldc, const float *a, int64_t lda, int rows, int64_t length, const uint16_t *b,
                       bool accumulate, const char *soon)
{
    switch (rows) {
        PAIRS_CASE(1)
        PAIRS_CASE(2)
        PAIRS_CASE(3)
        PAIRS_CASE(4)
#if defined(__AVX512F__)
        PAIRS_CASE(5)
        PAIRS_CASE(6)
        PAIRS_CASE(7)
        PAIRS_CASE(8)
#endif
    }
}

static void gemm_pairs(float *c, int64_t ldc, const void *rows, int64_t lda, int count, int64_t length, const void *b,
                       bool accumulate, const char *soon)
{
    const float *a = rows;
    for (int first = 0; first < count; first += PAIRS_ROWS) {
        int now = count - first < PAIRS_ROWS ? count - first : PAIRS_ROWS;
        for (int col = 0; col < CPU_NR; col += PAIRS_STRIP)
            pairs_rows(c + first * ldc + col, ldc, a + first * lda, lda, now, length, (const uint16_t *)b + 2 * col,
                       accumulate, soon);
    }
}

/* ---- with rows of a table ---------------------------------------------------------------------------------------- */

FEW_INLINE void dots_of(float *y, int64_t ldy, const float *x, int64_t ldx, int rows, const void *const *w, int count,
                        ace_dtype dtype, int64_t k, bool fetch)
{
    vf sums[CPU_DOTS][CPU_DOTS];
    size_t size = dtype == ACE_BF16 ? 2 : 4;
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < count; c++) sums[r][c] = vf_set1(0);
    for (int64_t i = 0; i + VF_LANES <= k; i += VF_LANES) {
        vf values[CPU_DOTS];
#pragma GCC unroll 4
        for (int c = 0; c < count; c++) {
            if (fetch) __builtin_prefetch((const char *)w[c] + (size_t)(i + CPU_DOTS * k) * size);
            values[c] = vf_load_as(w[c], dtype, i, VF_LANES);
        }
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            vf v = vf_load_n(x + r * ldx + i, VF_LANES);
#pragma GCC unroll 4
            for (int c = 0; c < count; c++) sums[r][c] = vf_fma(v, values[c], sums[r][c]);
        }
    }
    int64_t left = k % VF_LANES, whole = k - left;
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int c = 0; c < count; c++) {
            if (left > 0)
                sums[r][c] =
                    vf_fma(vf_load_n(x + r * ldx + whole, left), vf_load_as(w[c], dtype, whole, left), sums[r][c]);
            y[r * ldy + c] = vf_sum(sums[r][c]);
        }
}

FEW_INLINE void dots_of_type(float *y, int64_t ldy, const float *x, int64_t ldx, int rows, const void *const *w,
                             int count, ace_dtype dtype, int64_t k, bool fetch)
{
    if (count < CPU_DOTS) {
        for (int c = 0; c < count; c++)
            for (int r = 0; r < rows; r++)
                dots_of(y + r * ldy + c, ldy, x + r * ldx, ldx, 1, w + c, 1, dtype, k, fetch);
        return;
    }
    switch (rows) {
    case 1:
        dots_of(y, ldy, x, ldx, 1, w, CPU_DOTS, dtype, k, fetch);
        break;
    case 2:
        dots_of(y, ldy, x, ldx, 2, w, CPU_DOTS, dtype, k, fetch);
        break;
    case 3:
        dots_of(y, ldy, x, ldx, 3, w, CPU_DOTS, dtype, k, fetch);
        break;
    default:
        dots_of(y, ldy, x, ldx, CPU_DOTS, w, CPU_DOTS, dtype, k, fetch);
    }
}

static void dots_block(float *y, int64_t ldy, const float *x, int64_t ldx, int rows, const void *const *w, int count,
                       ace_dtype dtype, int64_t k, bool fetch)
{
    if (dtype == ACE_BF16)
        dots_of_type(y, ldy, x, ldx, rows, w, count, ACE_BF16, k, fetch);
    else
        dots_of_type(y, ldy, x, ldx, rows, w, count, ACE_F32, k, fetch);
}

/* ---- with keys and values where they lie ------------------------------------------------------------------------- */

/* 2 * VF_LANES bf16 values as they are, or the first n and zeros. */
FEW_INLINE vf load_pairs(const uint16_t *p, int64_t n)
{
    uint16_t part[2 * VF_LANES] = {0};
    vf v;
    if (n < 2 * VF_LANES) {
        memcpy(part, p, (size_t)n * sizeof *p);
        p = part;
    }
    memcpy(&v, p, sizeof v);
    return v;
}

/* VF_LANES keys become columns of the panel. A pair moves as one lane: half as many lanes as values. */
FEW_INLINE void keys_strip(uint16_t *panel, const uint16_t *k, int64_t stride, int64_t count, int64_t n,
                           const uint16_t *soon)
{
    for (int64_t i = 0; i < n; i += 2 * VF_LANES) {
        vf block[VF_LANES];
#pragma GCC unroll 16
        for (int64_t row = 0; row < VF_LANES; row++) {
            __builtin_prefetch(soon + row * stride + i, 0, 2);
            block[row] = row < count ? load_pairs(k + row * stride + i, n - i) : vf_set1(0);
        }
        vf_transpose(block);
        for (int64_t row = 0; row < VF_LANES && i + 2 * row < n; row++)
            memcpy(panel + (i / 2 + row) * 2 * CPU_NR, &block[row], sizeof block[row]);
    }
}

/* flatten: the block of a transposition lives in registers only where it is inlined. */
__attribute__((flatten)) static void keys_pairs(uint16_t *panel, const uint16_t *k, int64_t stride, int64_t count,
                                                int64_t n, const uint16_t *soon)
{
    for (int64_t j = 0; j < CPU_NR; j += VF_LANES, panel += 2 * VF_LANES, count -= VF_LANES) {
        if (count >= VF_LANES)
            keys_strip(panel, k, stride, VF_LANES, n, soon);
        else
            keys_strip(panel, k, stride, count, n, soon);
        k += VF_LANES * stride;
        soon += VF_LANES * stride;
    }
}

/* Rows of weights, and vectors of values, of which the sums fit the registers. */
enum { VALUES_ROWS = 4, VALUES_WIDE = VF_LANES == 16 ? 8 : 4, VALUES_NARROW = VALUES_WIDE / 2 };

FEW_INLINE void values_strip(float *o, int64_t ldo, const float *s, int64_t lds, int rows, int vectors, const char *v,
                             ace_dtype dtype, int64_t stride, int64_t count, int64_t n, const char *soon)
{
    vf sums[VALUES_ROWS][VALUES_WIDE];
    size_t size = dtype == ACE_BF16 ? 2 : 4;
    int64_t bytes = stride * (int64_t)size;
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int c = 0; c < vectors; c++) sums[r][c] = vf_set1(0);
    for (int64_t j = 0; j < count; j++, v += bytes, soon += bytes) {
        vf x[VALUES_WIDE];
#pragma GCC unroll 8
        for (int c = 0; c < vectors; c++) x[c] = vf_load_as(v, dtype, c * VF_LANES, n - c * VF_LANES);
#pragma GCC unroll 8
        for (size_t i = 0; i < (size_t)(vectors * VF_LANES) * size; i += 64) __builtin_prefetch(soon + i, 0, 2);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            vf p = vf_set1(s[r * lds + j]);
#pragma GCC unroll 8
            for (int c = 0; c < vectors; c++) sums[r][c] = vf_fma(p, x[c], sums[r][c]);
        }
    }
    /* the zero is what the rows that are missing from a panel add to it */
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int c = 0; c < vectors; c++) {
            float *at = o + r * ldo + c * VF_LANES;
            int64_t left = n - c * VF_LANES;
            vf_store_n(at, vf_add(vf_load_n(at, left), vf_add(sums[r][c], vf_set1(0))), left);
        }
}

FEW_INLINE void values_of(float *o, int64_t ldo, const float *s, int64_t lds, int rows, const char *v, ace_dtype dtype,
                          int64_t stride, int64_t count, int64_t n, const char *soon)
{
    int vectors = rows <= 2 ? VALUES_WIDE : VALUES_NARROW;
    size_t size = dtype == ACE_BF16 ? 2 : 4;
    int64_t col = 0;
    for (; col + vectors * VF_LANES <= n; col += vectors * VF_LANES)
        values_strip(o + col, ldo, s, lds, rows, vectors, v + (size_t)col * size, dtype, stride, count,
                     vectors * VF_LANES, soon + (size_t)col * size);
    for (; col < n; col += VF_LANES)
        values_strip(o + col, ldo, s, lds, rows, 1, v + (size_t)col * size, dtype, stride, count, n - col,
                     soon + (size_t)col * size);
}

FEW_INLINE void values_of_type(float *o, int64_t ldo, const float *s, int64_t lds, int rows, const char *v,
                               ace_dtype dtype, int64_t stride, int64_t count, int64_t n, const char *soon)
{
    switch (rows) {
    case 1:
        values_of(o, ldo, s, lds, 1, v, dtype, stride, count, n, soon);
        break;
    case 2:
        values_of(o, ldo, s, lds, 2, v, dtype, stride, count, n, soon);
        break;
    case 3:
        values_of(o, ldo, s, lds, 3, v, dtype, stride, count, n, soon);
        break;
    default:
        values_of(o, ldo, s, lds, VALUES_ROWS, v, dtype, stride, count, n, soon);
    }
}

static void values_add(float *o, int64_t ldo, const float *s, int64_t lds, int rows, const void *v, ace_dtype dtype,
                       int64_t stride, int64_t count, int64_t n, const void *soon)
{
    for (int first = 0; first < rows; first += VALUES_ROWS) {
        int now = rows - first < VALUES_ROWS ? rows - first : VALUES_ROWS;
        if (dtype == ACE_BF16)
            values_of_type(o + first * ldo, ldo, s + first * lds, lds, now, v, ACE_BF16, stride, count, n, soon);
        else
            values_of_type(o + first * ldo, ldo, s + first * lds, lds, now, v, ACE_F32, stride, count, n, soon);
    }
}
