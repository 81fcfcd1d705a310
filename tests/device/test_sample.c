/* Choosing on the device: against the host's sampler (lm/lm_sampling.c), and both against the definition of lm.md 5.1
 * in long double, everything sorted. That says, too, how near a choice is to becoming another one: only where that is
 * within 1e-12 may the device differ. */
#include "device_test.h"

#include "lm/lm_sampling.h"

enum { MOST_ROWS = 37, SCRATCH = 64 << 20 };

static const double NEAR = 1e-12; /* of the sum of all weights */

/* ---- the definition ---------------------------------------------------------------------------------------------- */

typedef struct ranked {
    float value;
    int64_t column;
    long double weight;
} ranked;

static int by_preference(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    int order = (x->value < y->value) - (x->value > y->value);
    return order ? order : (x->column > y->column) - (x->column < y->column);
}

static int by_column(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    return (x->column > y->column) - (x->column < y->column);
}

typedef struct definition {
    int64_t column;
    double margin; /* to the nearest sum at which the choice would be another one, of the sum of all */
} definition;

static void come_nearer(definition *d, long double distance)
{
    if (fabsl(distance) < d->margin) d->margin = (double)fabsl(distance);
}

/* values: finite. top_p: that of `s`, or a little beside it. */
static definition define(const float *values, int64_t count, const ace_sampling *s, double uniform, long double top_p)
{
    definition d = {-1, INFINITY};
    ranked *all = must(malloc((size_t)count * sizeof *all));
    for (int64_t i = 0; i < count; i++) all[i] = (ranked){values[i], i, 0};
    qsort(all, (size_t)count, sizeof *all, by_preference);
    int64_t kept = count;
    if (s->top_k > 0 && s->top_k < count)
        for (kept = s->top_k; kept < count && all[kept].value == all[s->top_k - 1].value;) kept++;
    long double total = 0, sum = 0;
    for (int64_t i = 0; i < kept; i++) {
        all[i].weight = s->temperature > 0
                            ? expl(((long double)all[i].value - all[0].value) / (long double)s->temperature)
                            : i == 0;
        total += all[i].weight;
    }
    if (s->top_p < 1) {
        int64_t nucleus = 0;
        while (nucleus < kept && sum < top_p * total) {
            if (nucleus > 0) come_nearer(&d, (sum - top_p * total) / total);
            sum += all[nucleus++].weight;
        }
        if (nucleus < kept) come_nearer(&d, (sum - top_p * total) / total);
        kept = nucleus;
    }
    qsort(all, (size_t)kept, sizeof *all, by_column);
    total = sum = 0;
    for (int64_t i = 0; i < kept; i++) total += all[i].weight;
    for (int64_t i = 0; i < kept; i++) {
        sum += all[i].weight;
        if (i + 1 < kept) come_nearer(&d, sum / total - uniform);
        if (d.column < 0 && sum > uniform * total) d.column = all[i].column;
    }
    free(all);
    return d;
}

/* Whether rounding within NEAR may lead to this column. */
static bool may_be(const float *values, int64_t count, const ace_sampling *s, double uniform, float column)
{
    for (int u = -1; u <= 1; u++)
        for (int p = -1; p <= 1; p++)
            if (column ==
                (float)define(values, count, s, uniform + u * NEAR, s->top_p * (1 + p * (long double)NEAR)).column)
                return true;
    return false;
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

typedef struct sample_case {
    int64_t rows, cols;
    bool guided;
    ace_sampling s;
    double uniform[MOST_ROWS];
} sample_case;

static lm_sampling host_options(const ace_sampling *s)
{
    return (lm_sampling){s->temperature, s->top_k, s->top_p, 1, s->guidance};
}

/* What the host looks at: the values after guidance. The caller frees. */
static float *guided_values(const sample_case *c, const fenced *values, const fenced *unconditional)
{
    float *guided = must(malloc((size_t)(c->rows * c->cols) * sizeof *guided));
    memcpy(guided, values->host, (size_t)(c->rows * c->cols) * sizeof *guided);
    if (c->guided) lm_guide(guided, unconditional->host, c->rows * c->cols, c->s.guidance);
    return guided;
}

static bool is_tied(const float *values, int64_t count, int64_t column)
{
    for (int64_t i = 0; i < count; i++)
        if (i != column && values[i] == values[column]) return true;
    return false;
}

typedef struct tally {
    int64_t rows, near, not_first;
} tally;

/* One call; every row against the host and the definition. */
static void check_case(ace_device *dev, random_state *r, const sample_case *c, fenced *values, fenced *unconditional,
                       tally *count)
{
    static const ace_mat none;
    ace_error error = {0};
    lm_sampler sampler;
    lm_sampling options = host_options(&c->s);
    fenced choices = fence(dev, r, ACE_F32, c->rows, 2, 7, 8);
    float *guided = guided_values(c, values, unconditional);
    ace_sample(dev, choices.mat, values->mat, c->guided ? unconditional->mat : none, &c->s, c->uniform);
    fetch(dev, &choices);
    assert_true(lm_sampler_open(&sampler, c->cols, &error));
    for (int64_t m = 0; m < c->rows; m++) {
        const float *row = guided + m * c->cols;
        float got = choices.host[2 * m], tied = choices.host[2 * m + 1];
        int64_t host = lm_sample(&sampler, row, c->cols, &options, c->uniform[m]);
        definition d = {-1, INFINITY};
        if (host >= 0) d = define(row, c->cols, &c->s, c->uniform[m], c->s.top_p);
        bool near = d.margin <= NEAR;
        bool right = near ? may_be(row, c->cols, &c->s, c->uniform[m], got) : got == (float)host && host == d.column;
        if (!right)
            fail_msg("row %lld of %lld, %lld columns, guidance %g, temperature %g, top-k %d, top-p %g, uniform %.17g: "
                     "the device chooses %g, the host %lld, the definition %lld, which is within %g of another one",
                     (long long)m, (long long)c->rows, (long long)c->cols, c->guided ? (double)c->s.guidance : 0,
                     (double)c->s.temperature, c->s.top_k, (double)c->s.top_p, c->uniform[m], (double)got,
                     (long long)host, (long long)d.column, d.margin);
        bool expect_tie = host >= 0 && c->s.temperature == 0 && is_tied(row, c->cols, host);
        if (tied != (expect_tie ? 1.0f : 0.0f)) fail_msg("row %lld: tied is %g", (long long)m, (double)tied);
        count->rows++;
        count->near += near;
        count->not_first += host > 0;
    }
    lm_sampler_close(&sampler);
    free(guided);
    free(choices.host);
}

/* Makes the values of a matrix others, by a rule for each. */
typedef float (*value_rule)(random_state *r, int64_t column, float value);

static void change(ace_device *dev, random_state *r, fenced *x, value_rule rule)
{
    for (int64_t i = 0; i < x->mat.rows * x->mat.cols; i++) x->host[i] = rule(r, i % x->mat.cols, x->host[i]);
    ace_upload(dev, x->mat, x->host);
}

static float as_it_is(random_state *r, int64_t column, float v)
{
    (void)r, (void)column;
    return v;
}
static float all_equal(random_state *r, int64_t column, float v)
{
    (void)r, (void)column, (void)v;
    return -1.25f;
}
static float both_zeros(random_state *r, int64_t column, float v)
{
    (void)column, (void)v;
    return random_int(r, 0, 1) ? 0.0f : -0.0f;
}
static float rounded(random_state *r, int64_t column, float v)
{
    (void)r, (void)column;
    return rintf(v);
}
static float huge(random_state *r, int64_t column, float v)
{
    (void)r, (void)column;
    return v > 0 ? 3e38f : -3e38f;
}
static float one_above(random_state *r, int64_t column, float v)
{
    (void)r;
    return column == 3 ? 500.0f : v;
}
static float subnormal(random_state *r, int64_t column, float v)
{
    (void)r, (void)column;
    return v * 1e-39f;
}
static float neighbours(random_state *r, int64_t column, float v)
{
    (void)column, (void)v;
    float near = 1;
    for (int64_t i = random_int(r, 0, 3); i > 0; i--) near = nextafterf(near, 2);
    return near;
}
static float long_tail(random_state *r, int64_t column, float v)
{
    (void)r, (void)v;
    return column % 50 == 7 ? 1.0f : -30.0f - (float)(column % 13);
}

static const value_rule rules[] = {as_it_is,  rounded,   all_equal,  both_zeros, huge,
                                   one_above, subnormal, neighbours, long_tail,  rounded};
enum { RULES = sizeof rules / sizeof *rules };

static sample_case random_case(random_state *r, int64_t most_columns)
{
    static const float temperatures[] = {0, 1e-30f, 1e-3f, 0.1f, 0.5f, 0.85f, 1, 3, 100};
    static const float top_ps[] = {1e-7f, 0.1f, 0.25f, 0.5f, 0.9f, 0.9f, 0.999f, 0x1.fffffep-1f, 1, 1};
    static const float guidances[] = {1, 1.5f, 2, 7.3f, 100};
    sample_case c = {.rows = random_int(r, 1, MOST_ROWS), .cols = random_int(r, 1, most_columns)};
    c.guided = random_int(r, 0, 1);
    c.s.guidance = guidances[random_int(r, 0, 4)];
    c.s.temperature = temperatures[random_int(r, 0, 8)];
    c.s.top_p = top_ps[random_int(r, 0, 9)];
    switch (random_int(r, 0, 5)) {
    case 0:
        c.s.top_k = 1;
        break;
    case 1:
        c.s.top_k = (int)random_int(r, 2, 50);
        break;
    case 2:
        c.s.top_k = (int)(c.cols + random_int(r, -1, 1));
        break;
    default:
        break;
    }
    for (int64_t m = 0; m < c.rows; m++) c.uniform[m] = ((double)(random_bits(r) >> 32) + 0.5) * 0x1p-32;
    c.uniform[0] = random_int(r, 0, 1) ? 0.5 * 0x1p-32 : 1 - 0.5 * 0x1p-32; /* the smallest and the largest one */
    return c;
}

static void run_case(ace_device *dev, random_state *r, const sample_case *c, value_rule rule, tally *count)
{
    ace_mark mark = ace_scratch_mark(dev);
    static const float ranges[] = {0.01f, 1, 10, 60};
    float range = ranges[random_int(r, 0, 3)];
    fenced values = fence(dev, r, ACE_F32, c->rows, c->cols, -range, range);
    fenced unconditional = fence(dev, r, ACE_F32, c->rows, c->cols, -range, range);
    change(dev, r, &values, rule);
    if (rule == all_equal || rule == both_zeros) change(dev, r, &unconditional, rule);
    check_case(dev, r, c, &values, &unconditional, count);
    free(values.host);
    free(unconditional.host);
    ace_scratch_release(dev, mark);
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

static void rows_are_chosen_as_by_the_host(void **state)
{
    const config *device = *state; /* each has rows of its own */
    ace_device *dev = open_device(*state, 1, SCRATCH, NULL);
    random_state r = {21 + (uint64_t)device->capability * 2 + (device->precision == ACE_F32)};
    tally count = {0};
    for (int round = 0; round < 220; round++) {
        sample_case c = random_case(&r, round % 4 == 0 ? 3000 : round % 4 == 1 ? 12 : 300);
        run_case(dev, &r, &c, rules[round % RULES], &count);
    }
    print_message("%lld rows, of which %lld near the border of another choice\n", (long long)count.rows,
                  (long long)count.near);
    assert_true(count.rows > 3500 && count.not_first > count.rows / 3 && count.near < count.rows / 20);
    ace_device_close(dev);
}

/* All codes, all of the vocabulary, and the most that is promised. */
static void long_rows_are_chosen_as_by_the_host(void **state)
{
    static const int64_t widths[] = {64000, 64000, 217204, 64000, ACE_SAMPLE_COLUMNS, 262145};
    ace_device *dev = open_device(*state, 1, SCRATCH, NULL);
    random_state r = {22};
    tally count = {0};
    for (int round = 0; round < 6; round++) {
        sample_case c = random_case(&r, 10);
        c.rows = 2;
        c.cols = widths[round];
        c.s = (ace_sampling){2, 0.85f, round == 3 ? 200 : 0, round == 5 ? 1 : 0.9f};
        run_case(dev, &r, &c, round == 1 ? rounded : as_it_is, &count);
    }
    assert_int_equal(count.near, 0);
    ace_device_close(dev);
}

/* Uniform numbers a little beside those at which the choice changes: the sums are right to less than that. */
static void borders_are_where_they_should_be(void **state)
{
    ace_device *dev = open_device(*state, 1, SCRATCH, NULL);
    random_state r = {23};
    for (int round = 0; round < 12; round++) {
        ace_mark mark = ace_scratch_mark(dev);
        tally count = {0};
        sample_case c = random_case(&r, 2500);
        c.guided = false;
        c.s.temperature = 0.5f + (float)(round % 5);
        fenced values = fence(dev, &r, ACE_F32, c.rows, c.cols, -4, 4);
        for (int64_t m = 0; m < c.rows; m++) { /* between what is chosen and the next one, from below and above */
            const float *row = values.host + m * c.cols;
            double low = 0, high = 1;
            int64_t at = define(row, c.cols, &c.s, c.uniform[m], c.s.top_p).column;
            for (int i = 0; i < 60; i++) {
                double middle = (low + high) / 2;
                if (define(row, c.cols, &c.s, middle, c.s.top_p).column <= at)
                    low = middle;
                else
                    high = middle;
            }
            if (low < 0.999999) c.uniform[m] = low + (m % 2 ? 2e-12 : -2e-12);
        }
        check_case(dev, &r, &c, &values, &values, &count);
        assert_true(count.near <= 1);
        free(values.host);
        ace_scratch_release(dev, mark);
    }
    ace_device_close(dev);
}

static void what_is_not_finite_is_told(void **state)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY, -NAN};
    static const int64_t places[] = {0, 1, 777, 1023, 1024, 2999};
    ace_device *dev = open_device(*state, 1, SCRATCH, NULL);
    random_state r = {24};
    for (int round = 0; round < 48; round++) {
        ace_mark mark = ace_scratch_mark(dev);
        sample_case c = random_case(&r, 10);
        c.rows = 3;
        c.cols = 3000;
        c.guided = true;
        fenced values = fence(dev, &r, ACE_F32, c.rows, c.cols, -4, 4);
        fenced unconditional = fence(dev, &r, ACE_F32, c.rows, c.cols, -4, 4);
        fenced choices = fence(dev, &r, ACE_F32, c.rows, 2, 7, 8);
        fenced *broken = round % 2 ? &values : &unconditional;
        broken->host[c.cols + places[round % 6]] = bad[round / 6 % 4];
        ace_upload(dev, broken->mat, broken->host);
        ace_sample(dev, choices.mat, values.mat, unconditional.mat, &c.s, c.uniform);
        fetch(dev, &choices);
        assert_true(choices.host[0] >= 0 && choices.host[4] >= 0);
        assert_true(choices.host[2] == -1 && choices.host[3] == 0);
        free(values.host);
        free(unconditional.host);
        free(choices.host);
        ace_scratch_release(dev, mark);
    }
    ace_device_close(dev);
}

static void what_does_not_fit_is_refused(void **state)
{
    static const ace_mat none;
    ace_device *dev = open_device(*state, 1, SCRATCH, NULL);
    const double uniform[2] = {0.5, 0.5};
    ace_mat x = ace_scratch(dev, ACE_F32, 2, 8), y = ace_scratch(dev, ACE_F32, 2, 2);
    float zeros[16] = {0};
    ace_upload(dev, x, zeros);
    const ace_sampling good = {1, 1, 0, 1}, bad[] = {{1, -1, 0, 1}, {1, NAN, 0, 1},  {1, 1, -1, 1},
                                                     {1, 1, 0, 0},  {1, 1, 0, 1.5f}, {1, 1, 0, NAN}};
    for (int i = 0; i < 13; i++) {
        ace_error error = {0};
        ace_sample(dev, i == 6 ? ace_cols(y, 0, 1) : y,
                   i == 7   ? ace_rows(x, 0, 1)
                   : i == 8 ? ace_cols(x, 0, 0)
                            : x,
                   i == 9    ? ace_cols(x, 0, 7)
                   : i == 10 ? ace_rows(x, 0, 1)
                             : none,
                   i < 6 ? &bad[i] : &good, i == 11 ? NULL : uniform);
        if (i == 12) break;
        assert_false(ace_device_ok(dev, &error));
        assert_int_equal(error.status, ACE_ERROR_INTERNAL);
        ace_device_clear(dev);
    }
    check_ok(dev);
    ace_device_close(dev);
}

/* What was chosen is read from the table before the host knows it, and comes to the host while other work is queued. */
static void choices_are_read_and_sent(void **state)
{
    enum { ROUNDS = 3 * ACE_SENDS, ROWS = 3, COLS = 40, N = 50, WIDTH = 37 };
    ace_device *dev = open_device(*state, 1, SCRATCH, NULL);
    random_state r = {25};
    const ace_sampling greedy = {1, 0, 0, 1};
    const double uniform[ROWS] = {0.5, 0.5, 0.5};
    host_weight table = make_weight(dev, &r, ACE_WEIGHT_TABLE, N, WIDTH, 1, -1, 1);
    ace_mat choices = ace_scratch(dev, ACE_F32, ROWS, 2);
    float expected[ROUNDS][ROWS];
    for (int round = 0; round < ROUNDS; round++) {
        ace_mark mark = ace_scratch_mark(dev);
        fenced values = fence(dev, &r, ACE_F32, ROWS, COLS, -1, 1);
        fenced y = fence(dev, &r, round % 2 ? ACE_F32 : ace_device_act(dev), 2 * ROWS, WIDTH, 0, 0);
        int64_t first = random_int(&r, 0, N - COLS);
        for (int m = 0; m < ROWS; m++) {
            int at = (int)random_int(&r, 0, COLS - 1);
            values.host[m * COLS + at] = 2;
            expected[round][m] = (float)at;
        }
        ace_upload(dev, values.mat, values.host);
        ace_sample(dev, choices, values.mat, (ace_mat){0}, &greedy, uniform);
        ace_send_choices(dev, round % ACE_SENDS, choices);
        ace_embed_choices(dev, y.mat, table.w, first, choices);
        if (round >= ACE_SENDS - 1) { /* the oldest, while others are on their way */
            int oldest = round - ACE_SENDS + 1;
            float host[2 * ROWS];
            ace_receive_choices(dev, oldest % ACE_SENDS, host, ROWS);
            check_ok(dev);
            for (int m = 0; m < ROWS; m++) assert_true(host[2 * m] == expected[oldest][m]);
        }
        fetch(dev, &y);
        for (int m = 0; m < 2 * ROWS; m++) {
            const float *row = table.values + (first + (int64_t)expected[round][m % ROWS]) * WIDTH;
            for (int i = 0; i < WIDTH; i++) assert_true(y.host[m * WIDTH + i] == as_stored(row[i], y.mat.dtype));
        }
        free(values.host);
        free(y.host);
        ace_scratch_release(dev, mark);
    }

    /* of what is not finite some row of the table is read; columns beyond it are its last one */
    fenced bad = fence(dev, &r, ACE_F32, ROWS, COLS, -1, 1);
    fenced y = fence(dev, &r, ACE_F32, ROWS, WIDTH, 0, 0);
    bad.host[0] = NAN;
    bad.host[2 * COLS - 1] = 2;
    ace_upload(dev, bad.mat, bad.host);
    ace_sample(dev, choices, bad.mat, (ace_mat){0}, &greedy, uniform);
    ace_embed_choices(dev, y.mat, table.w, N - 1, choices);
    fetch(dev, &y);
    for (int m = 0; m < 2; m++)
        for (int i = 0; i < WIDTH; i++) assert_true(y.host[m * WIDTH + i] == table.values[(N - 1) * WIDTH + i]);

    for (int wrong = 0; wrong < 9; wrong++) {
        ace_error error = {0};
        float host[2 * ROWS];
        ace_mat narrow = ace_cols(choices, 0, 1), some = ace_rows(choices, 0, 2);
        if (wrong < 4)
            ace_embed_choices(dev, y.mat, table.w,
                              wrong == 0   ? -1
                              : wrong == 1 ? N
                                           : 0,
                              wrong == 2   ? narrow
                              : wrong == 3 ? some
                                           : choices);
        else if (wrong < 7)
            ace_send_choices(dev, wrong == 4 ? -1 : wrong == 5 ? ACE_SENDS : 0, wrong == 6 ? narrow : choices);
        else
            ace_receive_choices(dev, wrong == 7 ? ACE_SENDS : 0, host, wrong == 8 ? ACE_SEND_ROWS + 1 : ROWS);
        assert_false(ace_device_ok(dev, &error));
        assert_int_equal(error.status, ACE_ERROR_INTERNAL);
        ace_device_clear(dev);
    }
    free(bad.host);
    free(y.host);
    drop_weight(dev, &table);
    ace_device_close(dev);
}

/* Devices that leave it to the host say so. */
static void the_cpu_leaves_it_to_the_host(void **state)
{
    ace_device *dev = open_device(*state, 1, SCRATCH, NULL);
    const double uniform[1] = {0.5};
    ace_error error = {0};
    ace_mat x = ace_scratch(dev, ACE_F32, 1, 8), y = ace_scratch(dev, ACE_F32, 1, 2);
    assert_false(ace_device_samples(dev));
    ace_sample(dev, y, x, (ace_mat){0}, &(ace_sampling){1, 1, 0, 1}, uniform);
    assert_false(ace_device_ok(dev, &error));
    assert_int_equal(error.status, ACE_ERROR_INTERNAL);
    ace_device_close(dev);
}

int main(void)
{
    static const device_test on_a_gpu[] = {
        {"rows are chosen as by the host", rows_are_chosen_as_by_the_host},
        {"long rows are chosen as by the host", long_rows_are_chosen_as_by_the_host},
        {"borders are where they should be", borders_are_where_they_should_be},
        {"what is not finite is told", what_is_not_finite_is_told},
        {"what does not fit is refused", what_does_not_fit_is_refused},
        {"choices are read and sent", choices_are_read_and_sent},
    };
    static const device_test elsewhere[] = {{"the CPU leaves it to the host", the_cpu_leaves_it_to_the_host}};
    int failed = run_configs("device/sample", on_a_gpu, 6, CPU_CONFIGS, CONFIGS);
    return failed + run_configs("device/sample", elsewhere, 1, 0, 1);
}
