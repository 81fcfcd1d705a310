/* The sampler against the vectors of lm.md 9.8, an independent sampler in Python, and its own probabilities. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lm/lm_sampling.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const float example[] = {2.0f, 1.0f, 0.5f, 0.0f, -1.0f, 1.0f};
enum { EXAMPLE = 6, GRID = 200000 };

static lm_sampler open_sampler(int64_t capacity)
{
    ace_error error = {0};
    lm_sampler sampler;
    if (!lm_sampler_open(&sampler, capacity, &error)) fail_msg("%s", error.message);
    return sampler;
}

static lm_sampling options(float temperature, int top_k, float top_p)
{
    return (lm_sampling){temperature, top_k, top_p, 1, 1};
}

/* The share of a grid of uniform numbers that chooses each candidate. */
static void shares(const float *values, int count, lm_sampling sampling, double *share)
{
    lm_sampler sampler = open_sampler(count);
    for (int i = 0; i < count; i++) share[i] = 0;
    for (int g = 0; g < GRID; g++) {
        int64_t chosen = lm_sample(&sampler, values, count, &sampling, (g + 0.5) / GRID);
        assert_in_range(chosen, 0, count - 1);
        share[chosen] += 1.0 / GRID;
    }
    lm_sampler_close(&sampler);
}

static void the_vectors_of_the_specification(void **state)
{
    (void)state;
    const struct {
        lm_sampling sampling;
        double expected[EXAMPLE];
    } cases[] = {
        {options(0.85f, 0, 0.9f), {0.559294, 0.172467, 0.095772, 0, 0, 0.172467}},
        {options(0.85f, 3, 1), {0.618532, 0.190734, 0, 0, 0, 0.190734}},
        {options(0.85f, 2, 1), {0.618532, 0.190734, 0, 0, 0, 0.190734}},
        {options(2.0f, 0, 0.9f), {0.327514, 0.198647, 0.154707, 0.120486, 0, 0.198647}},
        {options(0.85f, 3, 0.8f), {0.764313, 0.235687, 0, 0, 0, 0}},
        {options(0.85f, 0, 0.4f), {1, 0, 0, 0, 0, 0}},
        {options(0, 0, 1), {1, 0, 0, 0, 0, 0}},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        double share[EXAMPLE];
        shares(example, EXAMPLE, cases[c].sampling, share);
        for (int i = 0; i < EXAMPLE; i++)
            if (!(fabs(share[i] - cases[c].expected[i]) <= 2.0 / GRID + 1e-6) ||
                (share[i] > 0) != (cases[c].expected[i] > 0))
                fail_msg("case %zu, id %d: %.6f, expected %.6f", c, i, share[i], cases[c].expected[i]);
    }
}

static void guidance_and_penalty(void **state)
{
    (void)state;
    const float u[] = {1, 1.5f, 0, 0.5f},
                expected[3][4] = {{2, 1, 0.5f, 0}, {3, 0.5f, 1, -0.5f}, {3.5f, 0.25f, 1.25f, -0.75f}};
    const float scales[] = {1, 2, 2.5f};
    for (int s = 0; s < 3; s++) {
        float c[] = {2, 1, 0.5f, 0};
        lm_guide(c, u, 4, scales[s]);
        for (int i = 0; i < 4; i++) assert_float_equal(c[i], expected[s][i], 0);
    }
    float values[EXAMPLE];
    memcpy(values, example, sizeof values);
    const int32_t ids[EXAMPLE] = {5, 60, 64, 65, 130, 140};
    const uint64_t seen[3] = {1u << 5, 0, 1u << 2}; /* 5 and 130 */
    lm_penalize(values, ids, EXAMPLE, seen, 1.2f);
    assert_float_equal(values[0], 1.666667f, 1e-6);
    assert_float_equal(values[4], -1.2f, 1e-6);
    for (int i = 1; i < EXAMPLE; i++)
        if (i != 4) assert_float_equal(values[i], example[i], 0);
}

static void random_numbers_are_counted(void **state)
{
    (void)state;
    assert_float_equal(lm_uniform(42, LM_STREAM_CODES, 0), (0x65fe70a6 + 0.5) / 4294967296.0, 0);
    assert_float_equal(lm_uniform(42, LM_STREAM_CODES, 1), (0x8fe60f5c + 0.5) / 4294967296.0, 0);
    assert_true(lm_uniform(42, LM_STREAM_TEXT, 0) != lm_uniform(42, LM_STREAM_CODES, 0));
    assert_true(lm_uniform(42, LM_STREAM_TEXT, 0) != lm_uniform(42 + ((uint64_t)1 << 32), LM_STREAM_TEXT, 0));
}

/* noise() of the script, rounded on odd lines. */
static void make_values(float *values, int count, int line, float spread)
{
    for (int i = 0; i < count; i++) {
        uint32_t h = (uint32_t)i + (uint32_t)line * 0x9E3779B9u;
        h = (h ^ (h >> 16)) * 0x85EBCA6Bu;
        h = (h ^ (h >> 13)) * 0xC2B2AE35u;
        h ^= h >> 16;
        values[i] = (float)((double)(h >> 8) / (1 << 23) - 1) * spread;
        if (line % 2) values[i] = rintf(values[i] * 8) / 8;
    }
}

static void an_independent_sampler_agrees(void **state)
{
    (void)state;
    FILE *file = fopen(TEST_DATA "/lm/engine-sampling.txt", "r");
    assert_non_null(file);
    lm_sampler sampler = open_sampler(400);
    int count, top_k, position, expected, lines = 0, different = 0;
    float spread, temperature, top_p, values[400];
    while (fscanf(file, "%d %f %f %d %f %d %d", &count, &spread, &temperature, &top_k, &top_p, &position, &expected) ==
           7) {
        assert_in_range(count, 1, 400);
        make_values(values, count, lines, spread);
        lm_sampling sampling = options(temperature, top_k, top_p);
        double r = lm_uniform((uint64_t)lines, LM_STREAM_TEXT, (uint32_t)position);
        int64_t chosen = lm_sample(&sampler, values, count, &sampling, r);
        if (chosen != expected) fail_msg("line %d: %lld, expected %d", lines + 1, (long long)chosen, expected);
        different += expected != 0;
        lines++;
    }
    fclose(file);
    lm_sampler_close(&sampler);
    assert_int_equal(lines, 1500);
    assert_true(different > 1000);
}

static void draws_follow_the_probabilities(void **state)
{
    (void)state;
    enum { COUNT = 40, DRAWS = 200000 };
    float values[COUNT];
    double weights[COUNT], total = 0, chi2 = 0;
    int64_t drawn[COUNT] = {0};
    make_values(values, COUNT, 4, 2);
    lm_sampling sampling = options(0.85f, 0, 1);
    lm_sampler sampler = open_sampler(COUNT);
    for (int i = 0; i < COUNT; i++) total += weights[i] = exp((double)values[i] / (double)0.85f);
    for (int d = 0; d < DRAWS; d++)
        drawn[lm_sample(&sampler, values, COUNT, &sampling, lm_uniform(99, LM_STREAM_CODES, (uint32_t)d))]++;
    for (int i = 0; i < COUNT; i++) {
        double expected = weights[i] / total * DRAWS;
        assert_true(expected > 50);
        chi2 += (drawn[i] - expected) * (drawn[i] - expected) / expected;
    }
    print_message("chi-square of %d draws over %d candidates: %.1f\n", DRAWS, COUNT, chi2);
    assert_true(chi2 < 72.1); /* 39 degrees of freedom: exceeded by chance once in 1000 */
    assert_true(chi2 > 16);   /* and fallen below once in 1000 */
    lm_sampler_close(&sampler);
}

/* As many candidates as there are codes: what the nucleus keeps is what sorting would keep. */
static int descending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

static void the_nucleus_of_many_candidates(void **state)
{
    (void)state;
    enum { COUNT = 64000 };
    float *values = malloc(COUNT * sizeof *values), *sorted = malloc(COUNT * sizeof *values);
    assert_true(values && sorted);
    lm_sampler sampler = open_sampler(COUNT);
    for (int line = 0; line < 6; line++) {
        make_values(values, COUNT, 2 * line, line < 3 ? 0.01f : 20);
        memcpy(sorted, values, COUNT * sizeof *values);
        qsort(sorted, COUNT, sizeof *sorted, descending);
        double total = 0, mass = 0;
        for (int i = 0; i < COUNT; i++) total += exp((double)sorted[i] - (double)sorted[0]);
        int kept = 0;
        while (mass < (double)0.9f * total) mass += exp((double)sorted[kept++] - (double)sorted[0]);
        lm_sampling sampling = options(1, 0, 0.9f);
        float lowest = INFINITY;
        for (int d = 0; d < 300; d++) {
            double r = lm_uniform((uint64_t)line, LM_STREAM_CODES, (uint32_t)d);
            float v = values[lm_sample(&sampler, values, COUNT, &sampling, r)];
            if (v < lowest) lowest = v;
        }
        assert_true(lowest >= sorted[kept - 1]);
        assert_true(lowest <= sorted[kept / 2]);
        int64_t last = 0; /* the last kept id is what the largest uniform number draws */
        for (int i = 0; i < COUNT; i++)
            if (values[i] >= sorted[kept - 1]) last = i;
        assert_int_equal(lm_sample(&sampler, values, COUNT, &sampling, 1 - 0x1p-53), last);
    }
    lm_sampler_close(&sampler);
    free(values);
    free(sorted);
}

/* The definition of lm.md 5.1 and 5.7, word for word: everything sorted, nothing clever. */
typedef struct ranked {
    float value;
    int index;
    double weight;
} ranked;

static int by_preference(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    int order = (x->value < y->value) - (x->value > y->value);
    return order ? order : x->index - y->index;
}

static int by_index(const void *a, const void *b)
{
    return ((const ranked *)a)->index - ((const ranked *)b)->index;
}

static int64_t sample_by_sorting(const float *values, int count, lm_sampling sampling, double r)
{
    ranked *all = malloc((size_t)count * sizeof *all);
    assert_non_null(all);
    for (int i = 0; i < count; i++) all[i] = (ranked){values[i], i, 0};
    qsort(all, (size_t)count, sizeof *all, by_preference);
    float best = all[0].value;
    for (int i = 0; i < count; i++)
        all[i].weight = exp(((double)all[i].value - (double)best) / (double)sampling.temperature);
    int kept = count;
    if (sampling.top_k > 0 && sampling.top_k < count)
        for (kept = sampling.top_k; kept < count && all[kept].value == all[sampling.top_k - 1].value;) kept++;
    double total = 0, mass = 0, sum = 0;
    for (int i = 0; i < kept; i++) total += all[i].weight;
    if (sampling.top_p < 1) {
        int nucleus = 0;
        while (nucleus < kept && mass < (double)sampling.top_p * total) mass += all[nucleus++].weight;
        kept = nucleus;
    }
    qsort(all, (size_t)kept, sizeof *all, by_index);
    total = 0;
    for (int i = 0; i < kept; i++) total += all[i].weight;
    int at = 0;
    for (; at < kept; at++) {
        sum += all[at].weight;
        if (sum > r * total) break;
    }
    while (at == kept || all[at].weight == 0) at--; /* rounding left none: the last that can be drawn */
    int64_t chosen = all[at].index;
    free(all);
    return chosen;
}

static void sorting_would_choose_the_same(void **state)
{
    (void)state;
    enum { MOST = 3000, ROUNDS = 3000 };
    static const float temperatures[] = {0.01f, 0.5f, 0.85f, 1, 3, 100},
                       top_ps[] = {1e-6f, 0.1f, 0.5f, 0.9f, 0.999f, 1};
    static const float spreads[] = {0, 0.001f, 1, 10, 300};
    lm_sampler sampler = open_sampler(MOST);
    float *values = malloc(MOST * sizeof *values);
    assert_non_null(values);
    for (int i = 0; i < ROUNDS; i++) {
        uint32_t h[4];
        for (int j = 0; j < 4; j++) h[j] = (uint32_t)(lm_uniform((uint64_t)i, LM_STREAM_CODES, (uint32_t)j) * 0x1p31);
        int count = 1 + (int)(h[0] % (i % 10 ? 60 : MOST));
        make_values(values, count, i, spreads[h[1] % 5]); /* of odd rounds many are equal */
        lm_sampling sampling =
            options(temperatures[h[2] % 6], h[2] / 6 % 3 ? 0 : 1 + (int)(h[3] % 70), top_ps[h[3] / 70 % 6]);
        for (int j = 0; j < 8; j++) {
            double r = j ? lm_uniform((uint64_t)i, LM_STREAM_TEXT, (uint32_t)j) : 1 - 0x1p-53;
            int64_t chosen = lm_sample(&sampler, values, count, &sampling, r);
            int64_t expected = sample_by_sorting(values, count, sampling, r);
            if (chosen != expected)
                fail_msg("round %d, %d candidates, temperature %g, top-k %d, top-p %g: %lld, by sorting %lld", i, count,
                         (double)sampling.temperature, sampling.top_k, (double)sampling.top_p, (long long)chosen,
                         (long long)expected);
        }
    }
    free(values);
    lm_sampler_close(&sampler);
}

static void what_is_not_a_number_is_refused(void **state)
{
    (void)state;
    lm_sampler sampler = open_sampler(EXAMPLE);
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int at = 0; at < EXAMPLE; at++)
        for (int b = 0; b < 3; b++)
            for (int greedy = 0; greedy < 2; greedy++) {
                float values[EXAMPLE];
                memcpy(values, example, sizeof values);
                values[at] = bad[b];
                lm_sampling sampling = options(greedy ? 0 : 1, 0, 0.9f);
                assert_int_equal(lm_sample(&sampler, values, EXAMPLE, &sampling, 0.5), -1);
            }
    lm_sampling sampling = options(1, 0, 1);
    assert_int_equal(lm_sample(&sampler, example, 0, &sampling, 0.5), -1);
    const float huge[] = {3e38f, -3e38f, 2.9e38f};
    sampling = options(1e-30f, 0, 0.9f);
    assert_int_equal(lm_sample(&sampler, huge, 3, &sampling, 0.999), 0);
    lm_sampler_close(&sampler);
}

static void options_out_of_range_are_refused(void **state)
{
    (void)state;
    ace_error error = {0};
    lm_sampling good = lm_sampling_default();
    assert_true(lm_sampling_check(&good, &error));
    const lm_sampling bad[] = {{-1, 0, 1, 1, 1},   {NAN, 0, 1, 1, 1}, {1, -1, 1, 1, 1},      {1, 0, 0, 1, 1},
                               {1, 0, 1.1f, 1, 1}, {1, 0, NAN, 1, 1}, {1, 0, 1, 0, 1},       {1, 0, 1, NAN, 1},
                               {1, 0, 1, 1, 0.5f}, {1, 0, 1, 1, NAN}, {1, 0, 1, 1, INFINITY}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        error = (ace_error){0};
        assert_false(lm_sampling_check(&bad[i], &error));
        assert_int_equal(error.status, ACE_ERROR_USAGE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_vectors_of_the_specification), cmocka_unit_test(guidance_and_penalty),
        cmocka_unit_test(random_numbers_are_counted),       cmocka_unit_test(an_independent_sampler_agrees),
        cmocka_unit_test(draws_follow_the_probabilities),   cmocka_unit_test(sorting_would_choose_the_same),
        cmocka_unit_test(the_nucleus_of_many_candidates),   cmocka_unit_test(what_is_not_a_number_is_refused),
        cmocka_unit_test(options_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
