#include "lm/lm_sampling.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/philox.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

lm_sampling lm_sampling_default(void)
{
    return (lm_sampling){.temperature = 0.85f, .top_p = 0.9f, .repetition_penalty = 1.0f, .guidance = 2.0f};
}

bool lm_sampling_check(const lm_sampling *s, ace_error *error)
{
    if (!(s->temperature >= 0 && s->temperature <= 100))
        return ace_fail(error, ACE_ERROR_USAGE, "the planner's temperature is %g: choose 0 to 100",
                        (double)s->temperature);
    if (s->top_k < 0) return ace_fail(error, ACE_ERROR_USAGE, "the planner's top_k is %d: choose 0 or more", s->top_k);
    if (!(s->top_p > 0 && s->top_p <= 1))
        return ace_fail(error, ACE_ERROR_USAGE, "the planner's top_p is %g: choose more than 0 and at most 1",
                        (double)s->top_p);
    if (!(s->repetition_penalty > 0 && s->repetition_penalty <= 100))
        return ace_fail(error, ACE_ERROR_USAGE,
                        "the planner's repetition penalty is %g: choose more than 0 and at most 100",
                        (double)s->repetition_penalty);
    if (!(s->guidance >= 1 && s->guidance <= 100))
        return ace_fail(error, ACE_ERROR_USAGE, "the planner's guidance is %g: choose 1 (off) to 100",
                        (double)s->guidance);
    return true;
}

double lm_uniform(uint64_t seed, lm_stream stream, uint32_t position)
{
    uint32_t random[4];
    philox4x32_10((const uint32_t[]){position, 0, (uint32_t)stream, 0},
                  (const uint32_t[]){(uint32_t)seed, (uint32_t)(seed >> 32)}, random);
    return ((double)random[0] + 0.5) * 0x1p-32;
}

void lm_penalize(float *values, const int32_t *ids, int64_t count, const uint64_t *seen, float penalty)
{
    for (int64_t i = 0; i < count; i++)
        if (seen[ids[i] / 64] >> (ids[i] % 64) & 1)
            values[i] = values[i] >= 0 ? values[i] / penalty : values[i] * penalty;
}

void lm_guide(float *conditional, const float *unconditional, int64_t count, float scale)
{
    for (int64_t i = 0; i < count; i++) conditional[i] = unconditional[i] + scale * (conditional[i] - unconditional[i]);
}

/* ---- order ------------------------------------------------------------------------------------------------------- */

/* A candidate in the order of preference: larger values first, then lower ids. No two are equal. */
typedef struct lm_ranked {
    float value;
    int32_t index;
} lm_ranked;

static bool ahead(lm_ranked a, lm_ranked b)
{
    return a.value > b.value || (a.value == b.value && a.index < b.index);
}

static void swap(lm_ranked *a, lm_ranked *b)
{
    lm_ranked t = *a;
    *a = *b;
    *b = t;
}

/* Puts the candidates of [low, high) that are ahead of a middling one before it, the others behind it; returns where it
 * is now. */
static int64_t partition(lm_ranked *r, int64_t low, int64_t high)
{
    int64_t middle = low + (high - low) / 2, last = high - 1;
    if (ahead(r[middle], r[low])) swap(&r[middle], &r[low]);
    if (ahead(r[last], r[low])) swap(&r[last], &r[low]);
    if (ahead(r[middle], r[last])) swap(&r[middle], &r[last]);
    /* the median of the three is the last one now */
    int64_t at = low;
    for (int64_t i = low; i < last; i++)
        if (ahead(r[i], r[last])) swap(&r[i], &r[at++]);
    swap(&r[at], &r[last]);
    return at;
}

/* The k-th candidate in the order of preference, counted from 0 (quickselect). */
static lm_ranked ranked_at(lm_ranked *r, int64_t count, int64_t k)
{
    for (int64_t low = 0, high = count;;) {
        int64_t at = partition(r, low, high);
        if (at == k) return r[at];
        if (at < k)
            low = at + 1;
        else
            high = at;
    }
}

/* The last candidate in the order of preference before which lies less than `mass` of weight, `before` of it before
 * them all: quickselect by weight instead of by number, so that nothing is sorted. */
static lm_ranked ranked_at_mass(lm_ranked *r, int64_t count, const double *weights, double before, double mass)
{
    int64_t low = 0, high = count;
    while (high - low > 1) {
        int64_t at = partition(r, low, high);
        double inside = 0;
        for (int64_t i = low; i < at; i++) inside += weights[r[i].index];
        if (at > low && before + inside >= mass) {
            high = at;
            continue;
        }
        before += inside + weights[r[at].index];
        if (before >= mass || at + 1 == high) return r[at];
        low = at + 1;
    }
    return r[low];
}

/* ---- bins -------------------------------------------------------------------------------------------------------- */

/* Candidates by their distance from the largest value, so that what a cut falls into is found without touching them all
 * again. A larger value is never in a later bin. */
enum { BINS = 4096, BINS_PER_NAT = 64 };

typedef struct lm_bins {
    double mass[BINS];
    int32_t count[BINS];
    float best, scale;
} lm_bins;

static int bin_of(const lm_bins *bins, float value)
{
    float at = (bins->best - value) * bins->scale;
    return at < BINS - 1 ? (int)at : BINS - 1; /* not a number (0 times infinity): all are in the last one */
}

/* Sorts the candidates that have a weight into bins. */
static void fill_bins(const lm_sampler *s, const float *values, int64_t count, float best, float temperature)
{
    lm_bins *bins = s->bins;
    memset(bins, 0, sizeof *bins);
    bins->best = best;
    bins->scale = BINS_PER_NAT / temperature;
    for (int64_t i = 0; i < count; i++) {
        int bin = bin_of(bins, values[i]);
        bins->mass[bin] += s->weights[i];
        bins->count[bin] += s->weights[i] > 0;
    }
}

/* Makes s->ranked the candidates of one bin; returns their number. */
static int64_t rank_bin(const lm_sampler *s, const float *values, int64_t count, int bin)
{
    int64_t ranked = 0;
    for (int64_t i = 0; i < count && ranked < s->bins->count[bin]; i++)
        if (bin_of(s->bins, values[i]) == bin && s->weights[i] > 0)
            s->ranked[ranked++] = (lm_ranked){values[i], (int32_t)i};
    return ranked;
}

/* ---- choosing ---------------------------------------------------------------------------------------------------- */

bool lm_sampler_open(lm_sampler *s, int64_t capacity, ace_error *error)
{
    static const char what[] = "the planner's sampler";
    *s = (lm_sampler){.capacity = capacity};
    s->weights = ace_calloc((size_t)capacity, sizeof *s->weights, what, error);
    s->ranked = s->weights ? ace_calloc((size_t)capacity, sizeof *s->ranked, what, error) : NULL;
    s->bins = s->ranked ? ace_calloc(1, sizeof *s->bins, what, error) : NULL;
    return s->bins != NULL;
}

void lm_sampler_close(lm_sampler *s)
{
    free(s->weights);
    free(s->ranked);
    free(s->bins);
    *s = (lm_sampler){0};
}

/* The index of the largest value, the first of equals; -1 when there is none or one is not finite. */
static int64_t largest(const float *values, int64_t count)
{
    int64_t best = count > 0 ? 0 : -1;
    for (int64_t i = 0; i < count; i++) {
        if (!isfinite(values[i])) return -1;
        if (values[i] > values[best]) best = i;
    }
    return best;
}

/* Zeroes the weights of what is not among the k largest; equals of the k-th are all kept. */
static void keep_top_k(const lm_sampler *s, const float *values, int64_t count, int64_t k)
{
    int64_t before = 0;
    int bin = 0;
    while (bin < BINS && before + s->bins->count[bin] < k) before += s->bins->count[bin++];
    if (bin == BINS) return; /* there are not so many */
    int64_t ranked = rank_bin(s, values, count, bin);
    float threshold = ranked_at(s->ranked, ranked, k - 1 - before).value;
    for (int64_t i = 0; i < count; i++)
        if (values[i] < threshold) s->weights[i] = 0;
}

/* Zeroes the weights of what has p of the weight ahead of it. */
static void keep_top_p(const lm_sampler *s, const float *values, int64_t count, double p)
{
    double total = 0, before = 0;
    for (int64_t i = 0; i < count; i++) total += s->weights[i];
    int bin = 0, last = BINS - 1;
    while (s->bins->count[last] == 0) last--;
    while (bin < last && before + s->bins->mass[bin] < p * total) before += s->bins->mass[bin++];
    int64_t ranked = rank_bin(s, values, count, bin);
    lm_ranked cut = ranked_at_mass(s->ranked, ranked, s->weights, before, p * total);
    for (int64_t i = 0; i < count; i++)
        if (values[i] <= cut.value && ahead(cut, (lm_ranked){values[i], (int32_t)i})) s->weights[i] = 0;
}

int64_t lm_sample(lm_sampler *s, const float *values, int64_t count, const lm_sampling *sampling, double uniform)
{
    int64_t best = largest(values, count);
    if (best < 0 || count > s->capacity || sampling->temperature <= 0) return count > s->capacity ? -1 : best;

    /* Temperature in double precision, after the largest value was taken away: no temperature makes it overflow. */
    for (int64_t i = 0; i < count; i++)
        s->weights[i] = exp(((double)values[i] - (double)values[best]) / (double)sampling->temperature);
    if (sampling->top_k > 0) {
        fill_bins(s, values, count, values[best], sampling->temperature);
        keep_top_k(s, values, count, sampling->top_k);
    }
    if (sampling->top_p < 1) {
        fill_bins(s, values, count, values[best], sampling->temperature);
        keep_top_p(s, values, count, (double)sampling->top_p);
    }

    double total = 0, sum = 0;
    for (int64_t i = 0; i < count; i++) total += s->weights[i];
    int64_t chosen = best;
    for (int64_t i = 0; i < count; i++) {
        if (s->weights[i] <= 0) continue;
        chosen = i;
        sum += s->weights[i];
        if (sum > uniform * total) break;
    }
    return chosen;
}
