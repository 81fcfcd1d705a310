/* What a language model's steps are made of: products of a few rows, and dot products with rows of a table. */
#define SLOW_WHEN_EMULATED
#include "device_test.h"

enum { SCRATCH = 64 << 20, ROUNDS = 40 };

typedef struct head_case {
    int64_t rows, n, k, first, count;
    bool gathered;
    int32_t ids[300];
} head_case;

static head_case random_head(random_state *r, int round)
{
    head_case c = {.rows = random_int(r, 1, 19), .n = random_int(r, 1, 300), .k = random_int(r, 1, 700)};
    c.gathered = round & 1;
    c.first = random_int(r, 0, c.n - 1);
    c.count = random_int(r, 1, c.gathered ? 300 : c.n - c.first);
    for (int64_t i = 0; i < c.count; i++) c.ids[i] = (int32_t)random_int(r, 0, c.n - 1);
    return c;
}

static void check_logits(const fenced *y, const fenced *x, const host_weight *table, const head_case *c)
{
    for (int64_t m = 0; m < c->rows; m++)
        for (int64_t i = 0; i < c->count; i++) {
            const float *w = table->values + (c->gathered ? c->ids[i] : c->first + i) * c->k;
            double sum = 0, magnitude = 0;
            for (int64_t k = 0; k < c->k; k++) {
                sum += (double)w[k] * x->host[m * c->k + k];
                magnitude += fabs((double)w[k] * x->host[m * c->k + k]);
            }
            check_close("logit", m, i, y->host[m * c->count + i], sum, 0x1p-23 * (4 + (double)c->k / 8) * magnitude);
        }
}

static void logits(void **state)
{
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    random_state r = {11};
    for (int round = 0; round < ROUNDS; round++) {
        ace_mark mark = ace_scratch_mark(dev);
        head_case c = random_head(&r, round);
        host_weight table = make_weight(dev, &r, ACE_WEIGHT_TABLE, c.n, c.k, 1, -1, 1);
        fenced x = fence(dev, &r, ACE_F32, c.rows, c.k, -1, 1), y = fence(dev, &r, ACE_F32, c.rows, c.count, 0, 0);
        ace_logits(dev, y.mat, x.mat, table.w, c.first, c.gathered ? c.ids : NULL, c.count);
        fetch(dev, &y);
        check_logits(&y, &x, &table, &c);

        /* any row and any column alone */
        int64_t m = random_int(&r, 0, c.rows - 1), i = random_int(&r, 0, c.count - 1);
        fenced one = fence(dev, &r, ACE_F32, 1, 1, 0, 0);
        ace_logits(dev, one.mat, ace_rows(x.mat, m, 1), table.w, c.gathered ? c.ids[i] : c.first + i, NULL, 1);
        fetch(dev, &one);
        check_same("a logit alone", one.host, &y.host[m * c.count + i], 1);
        free(one.host);
        free(x.host);
        free(y.host);
        drop_weight(dev, &table);
        ace_scratch_release(dev, mark);
    }
    ace_device_close(dev);
}

static void logits_refuse_what_does_not_fit(void **state)
{
    ace_device *dev = open_device(*state, 1, SCRATCH, NULL);
    random_state r = {12};
    host_weight table = make_weight(dev, &r, ACE_WEIGHT_TABLE, 10, 8, 1, -1, 1);
    host_weight linear = make_weight(dev, &r, ACE_WEIGHT_PRODUCT, 10, 8, 1, -1, 1);
    ace_mat x = ace_scratch(dev, ACE_F32, 2, 8), y = ace_scratch(dev, ACE_F32, 2, 3);
    const int32_t beyond[] = {0, 10, 1}, negative[] = {0, 1, -1};
    for (int bad = 0; bad < 7; bad++) {
        ace_error error = {0};
        ace_mat wrong = bad == 4 ? ace_cols(x, 0, 7) : bad == 5 ? ace_rows(x, 0, 1) : x;
        const int32_t *ids = bad == 1 ? beyond : bad == 2 ? negative : NULL;
        ace_logits(dev, y, wrong, bad == 3 ? linear.w : table.w, bad == 0 ? 8 : 0, ids, bad == 6 ? 2 : 3);
        assert_false(ace_device_ok(dev, &error));
        assert_int_equal(error.status, ACE_ERROR_INTERNAL);
        ace_device_clear(dev);
    }
    ace_logits(dev, y, x, table.w, 7, NULL, 3);
    check_ok(dev);
    drop_weight(dev, &table);
    drop_weight(dev, &linear);
    ace_device_close(dev);
}

/* Ordinary values; subnormal ones; those whose products are subnormal; those whose sums exceed the largest number. */
static const float sizes_of_x[] = {1, 0x1p-124f, 0x1p-66f, 0x1p65f}, sizes_of_w[] = {1, 1, 0x1p-66f, 0x1p60f};

/* The kernel for few rows must give the bits of the one for many. */
static void a_few_rows_of_a_product_are_those_of_many(void **state)
{
    enum { ROWS = 210 };
    ace_device *dev = open_device(*state, 2, SCRATCH, NULL);
    random_state r = {13};
    for (int round = 0; round < ROUNDS; round++) {
        ace_mark mark = ace_scratch_mark(dev);
        int64_t k = random_int(&r, 1, 900), n = random_int(&r, 1, 200);
        float size = sizes_of_w[round % 4], size_of_x = sizes_of_x[round % 4];
        host_weight w = make_weight(dev, &r, ACE_WEIGHT_PRODUCT, n, k, 1, -size, size);
        host_weight gated = make_weight(dev, &r, ACE_WEIGHT_GATED, 2 * n, k, 1, -size, size);
        fenced x = fence(dev, &r, ace_device_act(dev), ROWS, k, -size_of_x, size_of_x);
        fenced many[2] = {fence(dev, &r, ACE_F32, ROWS, n, 0, 0), fence(dev, &r, ace_device_act(dev), ROWS, n, 0, 0)};
        ace_linear(dev, many[0].mat, x.mat, w.w, NULL);
        ace_linear_silu_mul(dev, many[1].mat, x.mat, gated.w);
        for (int i = 0; i < 2; i++) fetch(dev, &many[i]);
        for (int64_t count = 1; count <= 17; count += 1 + round % 3) {
            int64_t first = random_int(&r, 0, ROWS - count);
            fenced few[2] = {fence(dev, &r, ACE_F32, count, n, 0, 0),
                             fence(dev, &r, ace_device_act(dev), count, n, 0, 0)};
            ace_linear(dev, few[0].mat, ace_rows(x.mat, first, count), w.w, NULL);
            ace_linear_silu_mul(dev, few[1].mat, ace_rows(x.mat, first, count), gated.w);
            for (int i = 0; i < 2; i++) {
                fetch(dev, &few[i]);
                check_same("few rows", few[i].host, many[i].host + first * n, count * n);
                free(few[i].host);
            }
        }
        for (int i = 0; i < 2; i++) free(many[i].host);
        free(x.host);
        drop_weight(dev, &w);
        drop_weight(dev, &gated);
        ace_scratch_release(dev, mark);
    }
    ace_device_close(dev);
}

int main(void)
{
    static const device_test tests[] = {
        {"logits", logits},
        {"logits refuse what does not fit", logits_refuse_what_does_not_fit},
        {"a few rows of a product are those of many", a_few_rows_of_a_product_are_those_of_many},
    };
    return run_device_tests("few rows", tests, sizeof tests / sizeof *tests);
}
