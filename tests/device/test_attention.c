/* Attention: every mask, head grouping and odd length against double precision; rows against rows computed alone. */
#define SLOW_WHEN_EMULATED
#include "device_test.h"

enum { SCRATCH = 64 << 20 };

static bool attends(const ace_attention_shape *s, int64_t i, int64_t j, int64_t queries, int64_t keys)
{
    if (s->mask == ACE_MASK_BAND) return llabs(i - j) <= s->radius;
    return s->mask == ACE_MASK_FULL || j <= i + (keys - queries);
}

typedef struct operands {
    fenced q, k, v, o;
} operands;

static operands make_operands(ace_device *dev, random_state *r, const ace_attention_shape *s, int64_t queries,
                              int64_t keys, float range)
{
    ace_dtype act = ace_device_act(dev);
    operands x;
    x.q = fence(dev, r, act, queries, (int64_t)s->heads * s->head_dim, -range, range);
    x.k = fence(dev, r, act, keys, (int64_t)s->kv_heads * s->head_dim, -range, range);
    x.v = fence(dev, r, act, keys, (int64_t)s->kv_heads * s->head_dim, -1, 1);
    x.o = fence(dev, r, act, queries, (int64_t)s->heads * s->head_dim, 0, 0);
    return x;
}

static void drop_operands(operands *x)
{
    free(x->q.host);
    free(x->k.host);
    free(x->v.host);
    free(x->o.host);
}

/* What one query of one head should get, and what bounds its error. */
typedef struct expected {
    double *out, *size, *spread; /* per dimension: sum of w v, of w |v|, of w |v - out| with the weights w */
    double score, products;      /* largest |score|, and sum of |products| that made a score */
} expected;

static expected make_expected(const ace_attention_shape *s)
{
    expected e = {0};
    e.out = must(malloc((size_t)s->head_dim * 3 * sizeof *e.out));
    e.size = e.out + s->head_dim;
    e.spread = e.size + s->head_dim;
    return e;
}

static void reference(const operands *x, const ace_attention_shape *s, int64_t i, int head, expected *e)
{
    int64_t queries = x->q.mat.rows, keys = x->k.mat.rows, d = s->head_dim, kv = head / (s->heads / s->kv_heads);
    const float *v = x->v.host + kv * d;
    double *weight = must(malloc((size_t)keys * sizeof *weight));
    double highest = -INFINITY, total = 0;
    e->score = e->products = 0;
    for (int64_t j = 0; j < keys; j++) {
        weight[j] = -INFINITY;
        if (!attends(s, i, j, queries, keys)) continue;
        double sum = 0, products = 0;
        for (int64_t c = 0; c < d; c++) {
            double p = (double)x->q.host[(i * s->heads + head) * d + c] * x->k.host[(j * s->kv_heads + kv) * d + c];
            sum += p;
            products += fabs(p);
        }
        weight[j] = sum * s->scale;
        highest = fmax(highest, weight[j]);
        e->score = fmax(e->score, fabs(weight[j]));
        e->products = fmax(e->products, products * s->scale);
    }
    for (int64_t j = 0; j < keys; j++) {
        weight[j] = weight[j] == -INFINITY ? 0 : exp(weight[j] - highest);
        total += weight[j];
    }
    memset(e->out, 0, (size_t)d * 3 * sizeof *e->out);
    for (int64_t j = 0; j < keys && total > 0; j++)
        for (int64_t c = 0; c < d; c++) {
            e->out[c] += weight[j] / total * v[j * s->kv_heads * d + c];
            e->size[c] += weight[j] / total * fabs((double)v[j * s->kv_heads * d + c]);
        }
    for (int64_t j = 0; j < keys && total > 0; j++)
        for (int64_t c = 0; c < d; c++)
            e->spread[c] += weight[j] / total * fabs(v[j * s->kv_heads * d + c] - e->out[c]);
    free(weight);
}

/* Heads of whole tiles, in bf16, on AMX; on GPUs that multiply bf16 all. */
static bool on_tiles(const config *c, const ace_attention_shape *s)
{
    if (c->capability) return c->capability >= 80 && c->precision == ACE_BF16;
    return c->isa == ACE_ISA_AMX && c->precision == ACE_BF16 && s->head_dim % 32 == 0;
}

/* In float32: an error e of a score changes its weight by a factor of about 1 + e.
 *
 * On tiles a weight w comes out as w (1 + e) with |e| <= E, which is made of half a place of bf16 (2^-8 of the smallest
 * mantissa), the polynomial's 8.6e-5, and the error of the score, whose products are added in sums of 16 and of
 * head_dim / 32, on GPUs one after the other. As the weights are divided by their own sum, the output is off by
 *     sum w (1 + e) v / sum w (1 + e) - out = sum w e (v - out) / (1 + sum w e), at most E / (1 - E) sum w |v - out|.
 * Adding up weights and weighted values rounds at most 100 + keys / 32 times. */
static double tolerance_of(const config *c, const expected *e, const ace_attention_shape *s, int64_t keys, int64_t i)
{
    if (!on_tiles(c, s)) return 2e-6 * (1 + e->score);
    int sums = c->capability ? s->head_dim : 20 + s->head_dim / 32;
    double score = 0x1p-24 * (sums * e->products + 4 * e->score);
    double each = 0x1p-8 + 8.6e-5 + score;
    return each / (1 - each) * e->spread[i] + 0x1p-24 * (100 + (double)keys / 32) * e->size[i];
}

static void compare(const config *c, const operands *x, const ace_attention_shape *s)
{
    expected e = make_expected(s);
    for (int64_t i = 0; i < x->q.mat.rows; i++)
        for (int head = 0; head < s->heads; head++) {
            reference(x, s, i, head, &e);
            for (int64_t d = 0; d < s->head_dim; d++) {
                int64_t col = head * s->head_dim + d;
                check_close("o", i, col, x->o.host[i * s->heads * s->head_dim + col], e.out[d],
                            tolerance_of(c, &e, s, x->k.mat.rows, d) + storing(e.out[d], x->o.mat.dtype));
            }
        }
    free(e.out);
}

static void check_attention(const config *c, ace_device *dev, random_state *r, const ace_attention_shape *s,
                            int64_t queries, int64_t keys, float range)
{
    ace_mark mark = ace_scratch_mark(dev);
    operands x = make_operands(dev, r, s, queries, keys, range);
    ace_attention(dev, x.o.mat, x.q.mat, x.k.mat, x.v.mat, s);
    fetch(dev, &x.o);
    compare(c, &x, s);
    drop_operands(&x);
    ace_scratch_release(dev, mark);
}

static void attention_is_exact_enough(void **state)
{
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    random_state r = {1};
    static const int heads[][2] = {{1, 1}, {2, 2}, {4, 2}, {4, 1}, {6, 2}, {7, 1}, {12, 1}};
    static const int dims[] = {2, 6, 16, 30, 32, 64, 128, 130, 256};
    for (int mask = ACE_MASK_FULL; mask <= ACE_MASK_CAUSAL; mask++)
        for (size_t h = 0; h < sizeof heads / sizeof *heads; h++)
            for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
                int64_t queries = random_int(&r, 1, 90), keys = random_int(&r, 1, 200);
                ace_attention_shape s = {
                    heads[h][0],          heads[h][1], dims[d], 1 / sqrtf((float)dims[d]), (ace_attention_mask)mask,
                    random_int(&r, 0, 90)};
                if (mask != ACE_MASK_FULL && keys < queries) keys = queries;
                check_attention(*state, dev, &r, &s, queries, keys, 2);
            }
    ace_device_close(dev);
}

/* Lengths around the blocks of 32, 64 and 128 keys, and of 16, 32 and 128 rows. */
static void block_edges(void **state)
{
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    random_state r = {2};
    static const int64_t lengths[] = {1, 15, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200, 257};
    enum { LENGTHS = sizeof lengths / sizeof *lengths };
    for (int i = 0; i < LENGTHS; i++)
        for (int mask = ACE_MASK_FULL; mask <= ACE_MASK_CAUSAL; mask++) {
            ace_attention_shape s = {2, 1, 16, 0.25f, (ace_attention_mask)mask, lengths[(i + 4) % LENGTHS]};
            for (int dim = 16; dim <= 32; dim += 16) {
                s.head_dim = dim;
                check_attention(*state, dev, &r, &s, lengths[i], lengths[i], 1);
                check_attention(*state, dev, &r, &s, 1, lengths[i], 1);
            }
        }
    ace_device_close(dev);
}

/* Scores of several thousands: only differences to the maximum may enter an exponential. */
static void huge_scores(void **state)
{
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    random_state r = {3};
    ace_attention_shape s = {2, 1, 32, 1, ACE_MASK_FULL, 0};
    check_attention(*state, dev, &r, &s, 40, 150, 30);
    ace_device_close(dev);
}

static void attend_rows(ace_device *dev, const operands *x, const ace_attention_shape *s, int64_t first, int64_t count,
                        int64_t keys, float *host)
{
    ace_mark mark = ace_scratch_mark(dev);
    ace_mat o = ace_scratch(dev, ace_device_act(dev), count, x->q.mat.cols);
    ace_attention(dev, o, ace_rows(x->q.mat, first, count), ace_rows(x->k.mat, 0, keys), ace_rows(x->v.mat, 0, keys),
                  s);
    ace_download(dev, host, o);
    check_ok(dev);
    ace_scratch_release(dev, mark);
}

static void scale_values(ace_device *dev, operands *x, float factor)
{
    for (int64_t i = 0; i < x->v.mat.rows * x->v.mat.cols; i++) x->v.host[i] *= factor;
    ace_upload(dev, x->v.mat, x->v.host);
}

/* Full: any rows alone. Causal: the last rows of a longer sequence, as a cache would hold it. Band: the first rows with
 * fewer keys. */
static void compare_rows_alone(const config *c, ace_device *dev, random_state *r, int dim, float range, float values)
{
    enum { ROWS = 330, HEADS = 4 };
    int64_t width = HEADS * (int64_t)dim;
    float *whole = must(malloc(sizeof(float) * (size_t)(ROWS * width)));
    float *part = must(malloc(sizeof(float) * (size_t)(ROWS * width)));
    for (int mask = ACE_MASK_FULL; mask <= ACE_MASK_CAUSAL; mask++) {
        ace_attention_shape s = {HEADS, 2, dim, 0.2f, (ace_attention_mask)mask, 70};
        ace_mark mark = ace_scratch_mark(dev);
        operands x = make_operands(dev, r, &s, ROWS, ROWS, range);
        scale_values(dev, &x, values);
        attend_rows(dev, &x, &s, 0, ROWS, ROWS, whole);
        for (int i = 0; i < tries(c, 150, 8); i++) {
            int64_t first = mask == ACE_MASK_BAND ? 0 : random_int(r, 0, ROWS - 1);
            int64_t count = random_int(r, 1, i % 3 ? ROWS - first : 1), keys = ROWS;
            if (mask == ACE_MASK_CAUSAL) keys = first + count;
            if (mask == ACE_MASK_BAND) keys = count + s.radius < ROWS ? count + s.radius : ROWS;
            attend_rows(dev, &x, &s, first, count, keys, part);
            check_same("rows of attention alone", whole + first * width, part, count * width);
        }
        drop_operands(&x);
        ace_scratch_release(dev, mark);
    }
    free(whole);
    free(part);
}

/* With scores that jump far, and with products that underflow to -0, too. */
static void rows_do_not_see_each_other(void **state)
{
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    random_state r = {4};
    for (int dim = 48; dim <= 64; dim += 16) {
        compare_rows_alone(*state, dev, &r, dim, 2, 1);
        compare_rows_alone(*state, dev, &r, dim, 8, 1);
        compare_rows_alone(*state, dev, &r, dim, 8, 0x1p-124f);
    }
    ace_device_close(dev);
}

/* What a language model that writes asks for: the last one to four queries of every length, which have a path of their
 * own. With any number of threads it has the bits of all queries together, and agrees with double precision. Where it
 * takes long each group meets every third length, so that three of them meet all; a GPU has no threads. */
static void few_queries(void **state)
{
    enum { ROWS = 300, KV_HEADS = 3, LAST = 4 };
    static const int groups[] = {1, 2, 4, 4, 9}, dims[] = {30, 128, 17, 64, 32};
    const config *c = *state;
    for (int threads = 1; threads <= (c->capability ? 1 : 3); threads++)
        for (int g = 0; g < 5; g++) {
            ace_device *dev = open_device(*state, threads, SCRATCH, NULL);
            random_state r = {7};
            ace_attention_shape s = {KV_HEADS * groups[g], KV_HEADS, dims[g], 0.2f, ACE_MASK_CAUSAL, 0};
            int64_t width = (int64_t)s.heads * s.head_dim;
            operands x = make_operands(dev, &r, &s, ROWS, ROWS, 2);
            float *whole = must(malloc(sizeof(float) * (size_t)(ROWS * width)));
            float *last = must(malloc(sizeof(float) * (size_t)(LAST * width)));
            attend_rows(dev, &x, &s, 0, ROWS, ROWS, whole);
            int first = tries(c, 1, 1 + g % 3), step = threads == 1 ? tries(c, 1, 3) : 7;
            for (int64_t keys = first; keys <= ROWS; keys += step) {
                int64_t count = keys < LAST ? keys : 1 + keys % LAST;
                attend_rows(dev, &x, &s, keys - count, count, keys, last);
                check_same("the last queries alone", whole + (keys - count) * width, last, count * width);
            }
            free(whole);
            free(last);
            drop_operands(&x);
            for (int mask = ACE_MASK_FULL; mask <= ACE_MASK_CAUSAL; mask++)
                for (int i = 0; i < 4; i++) {
                    s.mask = (ace_attention_mask)mask;
                    s.radius = random_int(&r, 0, 90);
                    check_attention(*state, dev, &r, &s, random_int(&r, 1, LAST), random_int(&r, LAST, ROWS), 2);
                }
            ace_device_close(dev);
        }
}

static void threads_change_nothing(void **state)
{
    enum { ROWS = 300, WIDTH = 4 * 32 };
    float *one = must(malloc(sizeof(float) * ROWS * WIDTH)), *more = must(malloc(sizeof(float) * ROWS * WIDTH));
    for (int threads = 1; threads <= 3; threads++) {
        ace_device *dev = open_device(*state, threads, SCRATCH, NULL);
        random_state r = {5};
        ace_attention_shape s = {4, 2, 32, 0.2f, ACE_MASK_BAND, 70};
        operands x = make_operands(dev, &r, &s, ROWS, ROWS, 2);
        attend_rows(dev, &x, &s, 0, ROWS, ROWS, threads == 1 ? one : more);
        if (threads > 1) check_same("attention with more threads", one, more, ROWS * WIDTH);
        drop_operands(&x);
        ace_device_close(dev);
    }
    free(one);
    free(more);
}

/* The context of a long song, and of a planner that has written long. */
static void thousands_of_keys(void **state)
{
    enum { KEYS = 4500, ROWS = 20, WIDTH = 2 * 32 };
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    random_state r = {8};
    for (int mask = ACE_MASK_FULL; mask <= ACE_MASK_CAUSAL; mask += ACE_MASK_CAUSAL - ACE_MASK_FULL) {
        ace_attention_shape s = {2, 1, 32, 0.2f, (ace_attention_mask)mask, 0};
        operands x = make_operands(dev, &r, &s, ROWS, KEYS, 3);
        float last[WIDTH];
        ace_attention(dev, x.o.mat, x.q.mat, x.k.mat, x.v.mat, &s);
        fetch(dev, &x.o);
        compare(*state, &x, &s);
        attend_rows(dev, &x, &s, ROWS - 1, 1, KEYS, last);
        check_same("the last query alone", x.o.host + (ROWS - 1) * WIDTH, last, WIDTH);
        drop_operands(&x);
    }
    ace_device_close(dev);
}

/* Subnormal numbers may count as zero, and nothing worse. */
static void subnormal_values(void **state)
{
    const config *c = *state;
    ace_device *dev = open_device(c, 2, SCRATCH, NULL);
    random_state r = {9};
    ace_attention_shape s = {2, 1, 32, 0.2f, ACE_MASK_FULL, 0};
    operands x = make_operands(dev, &r, &s, 40, 70, 2);
    fenced *all[] = {&x.q, &x.k, &x.v};
    for (int m = 0; m < 3; m++) {
        for (int64_t i = 0; i < all[m]->mat.rows * all[m]->mat.cols; i += 1 + m)
            all[m]->host[i] = as_stored(random_float(&r, -0x1p-126f, 0x1p-126f), c->precision);
        ace_upload(dev, all[m]->mat, all[m]->host);
    }
    ace_attention(dev, x.o.mat, x.q.mat, x.k.mat, x.v.mat, &s);
    fetch(dev, &x.o);
    expected e = make_expected(&s);
    for (int64_t i = 0; i < 40 * 2; i++) {
        reference(&x, &s, i / 2, (int)(i % 2), &e);
        for (int64_t d = 0; d < 32; d++)
            check_close("o", i, d, x.o.host[i * 32 + d], e.out[d],
                        tolerance_of(c, &e, &s, 70, d) + storing(e.out[d], c->precision) + 0x1p-126);
    }
    free(e.out);
    drop_operands(&x);
    ace_device_close(dev);
}

/* A query that no key reaches gets zeros, and a NaN among the keys is not hidden. */
static void unreached(ace_device *dev, int dim)
{
    random_state r = {6};
    ace_attention_shape s = {1, 1, dim, 0.25f, ACE_MASK_BAND, 3};
    operands x = make_operands(dev, &r, &s, 20, 5, 1);
    float *out = must(malloc(sizeof(float) * 20 * (size_t)dim));
    attend_rows(dev, &x, &s, 0, 20, 5, out);
    for (int i = 0; i < 20; i++)
        for (int c = 0; c < dim; c++) assert_int_equal(out[i * dim + c] == 0, i > 7);
    x.k.host[2 * dim + 5] = NAN;
    ace_mat k = ace_scratch(dev, ace_device_act(dev), 5, dim);
    ace_upload(dev, k, x.k.host);
    ace_attention(dev, x.o.mat, x.q.mat, k, x.v.mat, &s);
    fetch(dev, &x.o);
    for (int i = 0; i < 20; i++) assert_int_equal(isnan(x.o.host[i * dim]), i <= 5);
    free(out);
    drop_operands(&x);
}

static void corner_cases(void **state)
{
    ace_device *dev = open_device(*state, 1, SCRATCH, NULL);
    random_state r = {10};
    unreached(dev, 16);
    unreached(dev, 32);

    ace_attention_shape s = {1, 1, 258, 1, ACE_MASK_FULL, 0};
    operands x = make_operands(dev, &r, &s, 3, 3, 1);
    ace_attention(dev, x.o.mat, x.q.mat, x.k.mat, x.v.mat, &s);
    ace_error error = {0};
    assert_false(ace_device_ok(dev, &error));
    assert_int_equal(error.status, ACE_ERROR_MODEL);
    drop_operands(&x);
    ace_device_close(dev);
}

int main(void)
{
    static const device_test tests[] = {
        {"attention agrees with double precision", attention_is_exact_enough},
        {"lengths around the edges of blocks", block_edges},
        {"scores of several thousands", huge_scores},
        {"a row does not depend on its neighbours", rows_do_not_see_each_other},
        {"a few queries have the bits of many", few_queries},
        {"the number of threads changes no bit", threads_change_nothing},
        {"thousands of keys", thousands_of_keys},
        {"subnormal values", subnormal_values},
        {"no keys, NaN, and heads too wide", corner_cases},
    };
    return run_device_tests("device/attention", tests, sizeof tests / sizeof *tests);
}
