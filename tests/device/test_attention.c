/* Attention: every mask, head grouping and odd length against double precision; rows against rows computed alone. */
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

/* One query of one head: out[head_dim]; returns the largest |score|. */
static double reference(const operands *x, const ace_attention_shape *s, int64_t i, int head, double *out)
{
    int64_t queries = x->q.mat.rows, keys = x->k.mat.rows, d = s->head_dim, kv = head / (s->heads / s->kv_heads);
    double *score = must(malloc((size_t)keys * sizeof *score));
    double highest = -INFINITY, largest = 0, total = 0;
    for (int64_t j = 0; j < keys; j++) {
        score[j] = -INFINITY;
        if (!attends(s, i, j, queries, keys)) continue;
        double sum = 0;
        for (int64_t c = 0; c < d; c++)
            sum += (double)x->q.host[(i * s->heads + head) * d + c] * x->k.host[(j * s->kv_heads + kv) * d + c];
        score[j] = sum * s->scale;
        highest = fmax(highest, score[j]);
        largest = fmax(largest, fabs(score[j]));
    }
    memset(out, 0, (size_t)d * sizeof *out);
    for (int64_t j = 0; j < keys; j++) {
        double p = score[j] == -INFINITY ? 0 : exp(score[j] - highest);
        total += p;
        for (int64_t c = 0; c < d; c++) out[c] += p * x->v.host[(j * s->kv_heads + kv) * d + c];
    }
    for (int64_t c = 0; c < d && total > 0; c++) out[c] /= total;
    free(score);
    return largest;
}

static void check_attention(ace_device *dev, random_state *r, const ace_attention_shape *s, int64_t queries,
                            int64_t keys, float range)
{
    size_t mark = ace_scratch_mark(dev);
    operands x = make_operands(dev, r, s, queries, keys, range);
    ace_attention(dev, x.o.mat, x.q.mat, x.k.mat, x.v.mat, s);
    fetch(dev, &x.o);
    double *want = must(malloc((size_t)s->head_dim * sizeof *want));
    for (int64_t i = 0; i < queries; i++)
        for (int head = 0; head < s->heads; head++) {
            /* an error e of a score changes its weight by a factor of about 1 + e */
            double tolerance = 2e-6 * (1 + reference(&x, s, i, head, want));
            for (int64_t c = 0; c < s->head_dim; c++) {
                int64_t col = head * s->head_dim + c;
                check_close("o", i, col, x.o.host[i * s->heads * s->head_dim + col], want[c],
                            tolerance + storing(want[c], x.o.mat.dtype));
            }
        }
    free(want);
    drop_operands(&x);
    ace_scratch_release(dev, mark);
}

static void attention_is_exact_enough(void **state)
{
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    random_state r = {1};
    static const int heads[][2] = {{1, 1}, {2, 2}, {4, 2}, {4, 1}, {6, 2}, {7, 1}};
    static const int dims[] = {2, 6, 16, 30, 32, 64, 128, 130, 256};
    for (int mask = ACE_MASK_FULL; mask <= ACE_MASK_CAUSAL; mask++)
        for (size_t h = 0; h < sizeof heads / sizeof *heads; h++)
            for (size_t d = 0; d < sizeof dims / sizeof *dims; d++) {
                int64_t queries = random_int(&r, 1, 90), keys = random_int(&r, 1, 200);
                ace_attention_shape s = {
                    heads[h][0],          heads[h][1], dims[d], 1 / sqrtf((float)dims[d]), (ace_attention_mask)mask,
                    random_int(&r, 0, 90)};
                if (mask != ACE_MASK_FULL && keys < queries) keys = queries;
                check_attention(dev, &r, &s, queries, keys, 2);
            }
    ace_device_close(dev);
}

/* Lengths around the blocks of 32 and 64 keys and 128 rows. */
static void block_edges(void **state)
{
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    random_state r = {2};
    static const int64_t lengths[] = {1, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200};
    enum { LENGTHS = sizeof lengths / sizeof *lengths };
    for (int i = 0; i < LENGTHS; i++)
        for (int mask = ACE_MASK_FULL; mask <= ACE_MASK_CAUSAL; mask++) {
            ace_attention_shape s = {2, 1, 16, 0.25f, (ace_attention_mask)mask, lengths[(i + 4) % LENGTHS]};
            check_attention(dev, &r, &s, lengths[i], lengths[i], 1);
            check_attention(dev, &r, &s, 1, lengths[i], 1);
        }
    ace_device_close(dev);
}

/* Scores of several thousands: only differences to the maximum may enter an exponential. */
static void huge_scores(void **state)
{
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    random_state r = {3};
    ace_attention_shape s = {2, 1, 32, 1, ACE_MASK_FULL, 0};
    check_attention(dev, &r, &s, 40, 150, 30);
    ace_device_close(dev);
}

static void attend_rows(ace_device *dev, const operands *x, const ace_attention_shape *s, int64_t first, int64_t count,
                        int64_t keys, float *host)
{
    size_t mark = ace_scratch_mark(dev);
    ace_mat o = ace_scratch(dev, ace_device_act(dev), count, x->q.mat.cols);
    ace_attention(dev, o, ace_rows(x->q.mat, first, count), ace_rows(x->k.mat, 0, keys), ace_rows(x->v.mat, 0, keys),
                  s);
    ace_download(dev, host, o);
    check_ok(dev);
    ace_scratch_release(dev, mark);
}

/* Full: any rows alone. Causal: the last rows of a longer sequence, as a cache would hold it. Band: the first rows with
 * fewer keys. */
static void rows_do_not_see_each_other(void **state)
{
    enum { ROWS = 330, WIDTH = 4 * 48 };
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    random_state r = {4};
    float *whole = must(malloc(sizeof(float) * ROWS * WIDTH)), *part = must(malloc(sizeof(float) * ROWS * WIDTH));
    for (int mask = ACE_MASK_FULL; mask <= ACE_MASK_CAUSAL; mask++) {
        ace_attention_shape s = {4, 2, 48, 0.2f, (ace_attention_mask)mask, 70};
        size_t mark = ace_scratch_mark(dev);
        operands x = make_operands(dev, &r, &s, ROWS, ROWS, 2);
        attend_rows(dev, &x, &s, 0, ROWS, ROWS, whole);
        for (int i = 0; i < 25; i++) {
            int64_t first = mask == ACE_MASK_BAND ? 0 : random_int(&r, 0, ROWS - 1);
            int64_t count = random_int(&r, 1, ROWS - first), keys = ROWS;
            if (mask == ACE_MASK_CAUSAL) keys = first + count;
            if (mask == ACE_MASK_BAND) keys = count + s.radius < ROWS ? count + s.radius : ROWS;
            attend_rows(dev, &x, &s, first, count, keys, part);
            check_same("rows of attention alone", whole + first * WIDTH, part, count * WIDTH);
        }
        drop_operands(&x);
        ace_scratch_release(dev, mark);
    }
    free(whole);
    free(part);
    ace_device_close(dev);
}

/* What a language model that writes asks for: the last one to four queries of every length, which have a path of their
 * own. With any number of threads it has the bits of all queries together, and agrees with double precision. */
static void few_queries(void **state)
{
    enum { ROWS = 300, KV_HEADS = 3, LAST = 4 };
    static const int groups[] = {1, 2, 4}, dims[] = {30, 128, 17};
    for (int threads = 1; threads <= 3; threads++)
        for (int g = 0; g < 3; g++) {
            ace_device *dev = open_device(*state, threads, SCRATCH, NULL);
            random_state r = {7};
            ace_attention_shape s = {KV_HEADS * groups[g], KV_HEADS, dims[g], 0.2f, ACE_MASK_CAUSAL, 0};
            int64_t width = (int64_t)s.heads * s.head_dim;
            operands x = make_operands(dev, &r, &s, ROWS, ROWS, 2);
            float *whole = must(malloc(sizeof(float) * (size_t)(ROWS * width)));
            float *last = must(malloc(sizeof(float) * (size_t)(LAST * width)));
            attend_rows(dev, &x, &s, 0, ROWS, ROWS, whole);
            for (int64_t keys = 1; keys <= ROWS; keys += threads == 1 ? 1 : 7) {
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
                    check_attention(dev, &r, &s, random_int(&r, 1, LAST), random_int(&r, LAST, ROWS), 2);
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

/* A query that no key reaches gets zeros, a NaN among the keys is not hidden, and heads too wide are refused. */
static void corner_cases(void **state)
{
    ace_device *dev = open_device(*state, 1, SCRATCH, NULL);
    random_state r = {6};
    ace_attention_shape s = {1, 1, 16, 0.25f, ACE_MASK_BAND, 3};
    operands x = make_operands(dev, &r, &s, 20, 5, 1);
    float out[20 * 16];
    attend_rows(dev, &x, &s, 0, 20, 5, out);
    for (int i = 0; i < 20; i++)
        for (int c = 0; c < 16; c++) assert_int_equal(out[i * 16 + c] == 0, i > 7);
    x.k.host[2 * 16 + 5] = NAN;
    ace_upload(dev, ace_scratch(dev, ACE_F32, 1, 1), out);
    ace_mat k = ace_scratch(dev, ace_device_act(dev), 5, 16);
    ace_upload(dev, k, x.k.host);
    ace_attention(dev, x.o.mat, x.q.mat, k, x.v.mat, &s);
    fetch(dev, &x.o);
    for (int i = 0; i < 20; i++) assert_int_equal(isnan(x.o.host[i * 16]), i <= 5);
    drop_operands(&x);

    s = (ace_attention_shape){1, 1, 258, 1, ACE_MASK_FULL, 0};
    x = make_operands(dev, &r, &s, 3, 3, 1);
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
        {"no keys, NaN, and heads too wide", corner_cases},
    };
    return run_device_tests("device/attention", tests, sizeof tests / sizeof *tests);
}
