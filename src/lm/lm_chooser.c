#include "lm/lm_chooser.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>

bool lm_chooser_open(lm_chooser *c, const qwen3_lm *model, int items, bool guided, ace_error *error)
{
    ace_device *dev = model->weights.dev;
    int64_t vocabulary = model->config.vocab_size;
    *c = (lm_chooser){.model = model, .dev = dev, .vocabulary = vocabulary};
    c->ids = ace_calloc((size_t)vocabulary, sizeof *c->ids, "the planner's working memory", error);
    /* on the meter nothing is sampled */
    if (!c->ids || (!ace_device_is_meter(dev) && !lm_sampler_open(&c->sampler, vocabulary, error))) return false;
    c->logits = ace_scratch(dev, ACE_F32, items * (guided ? 2 : 1), vocabulary);
    if (ace_device_samples(dev)) c->choices = ace_scratch(dev, ACE_F32, items, 2);
    for (int i = 0; i < 2; i++) c->values[i] = ace_scratch_host(dev, vocabulary);
    return ace_device_ok(dev, error);
}

void lm_chooser_close(lm_chooser *c)
{
    lm_sampler_close(&c->sampler);
    free(c->ids);
    c->ids = NULL;
}

/* ---- candidates -------------------------------------------------------------------------------------------------- */

/* What is chosen from: `first` ... where the ids are neighbours, else `ids`. */
typedef struct lm_candidates {
    const int32_t *ids;
    int32_t first;
    int64_t count;
} lm_candidates;

static lm_candidates list_candidates(lm_chooser *c, lm_token_set set, bool need_ids)
{
    lm_candidates all = {.first = set.ranges[0].first, .count = lm_token_set_size(set)};
    if (set.count == 1 && !need_ids) return all;
    int64_t n = 0;
    for (size_t r = 0; r < set.count; r++)
        for (int32_t id = set.ranges[r].first; id < set.ranges[r].end; id++) c->ids[n++] = id;
    all.ids = c->ids;
    return all;
}

/* -1 stays -1. */
static int32_t candidate_id(const lm_candidates *from, int64_t index)
{
    if (index < 0) return -1;
    return from->ids ? from->ids[index] : from->first + (int32_t)index;
}

/* ---- choosing ---------------------------------------------------------------------------------------------------- */

/* What all items of a call share. */
typedef struct lm_question {
    lm_candidates from;
    const lm_sampling *sampling;
    ace_mat logits; /* of one item after the other */
    int branches;   /* rows of an item */
} lm_question;

static bool choose_on_device(const lm_chooser *c, const lm_question *q, lm_choice *choices, int count, ace_error *error)
{
    const lm_sampling *s = q->sampling;
    ace_sampling rules = {s->guidance, s->temperature, s->top_k, s->top_p};
    ace_mat values = q->logits, unconditional = {0}, chosen = ace_rows(c->choices, 0, count);
    float host[2 * LM_MAX_ITEMS] = {0};
    double uniform[LM_MAX_ITEMS];
    for (int i = 0; i < count; i++) uniform[i] = choices[i].uniform;
    if (q->branches == 2) { /* every other row */
        values = ace_reshape(q->logits, count, 2 * q->from.count);
        unconditional = ace_cols(values, q->from.count, q->from.count);
        values = ace_cols(values, 0, q->from.count);
    }
    ace_sample(c->dev, chosen, values, unconditional, &rules, uniform);
    ace_download(c->dev, host, chosen);
    for (int i = 0; i < count; i++) {
        choices[i].id = candidate_id(&q->from, (int64_t)host[2 * i]);
        choices[i].tied = host[2 * i + 1] != 0;
    }
    return ace_device_ok(c->dev, error);
}

static bool is_tied(const float *values, int64_t count, int64_t best)
{
    for (int64_t i = 0; i < count; i++)
        if (i != best && values[i] == values[best]) return true;
    return false;
}

/* One item's, its values being on the host (NULL on the meter). */
static void choose_from_values(lm_chooser *c, const lm_question *q, lm_choice *choice)
{
    const lm_sampling *s = q->sampling;
    float *values = c->values[0];
    int64_t count = q->from.count;
    if (values && s->repetition_penalty != 1)
        lm_penalize(values, q->from.ids, count, choice->seen, s->repetition_penalty);
    if (values && q->branches == 2) lm_guide(values, c->values[1], count, s->guidance);
    int64_t index = values ? lm_sample(&c->sampler, values, count, s, choice->uniform) : 0;
    choice->id = candidate_id(&q->from, index);
    choice->tied = values && index >= 0 && s->temperature == 0 && is_tied(values, count, index);
}

static bool choose_on_host(lm_chooser *c, const lm_question *q, lm_choice *choices, int count, ace_error *error)
{
    for (int i = 0; i < count; i++) {
        for (int b = 0; b < q->branches; b++)
            ace_download(c->dev, c->values[b], ace_rows(q->logits, i * q->branches + b, 1));
        if (!ace_device_ok(c->dev, error)) return false;
        choose_from_values(c, q, &choices[i]);
    }
    return true;
}

bool lm_choose(lm_chooser *c, lm_token_set allowed, ace_mat states, const lm_sampling *sampling, lm_choice *choices,
               int count, ace_error *error)
{
    bool penalized = sampling->repetition_penalty != 1;
    lm_question q = {.from = list_candidates(c, allowed, penalized),
                     .sampling = sampling,
                     .branches = sampling->guidance > 1 ? 2 : 1};
    q.logits = (ace_mat){c->logits.data, ACE_F32, states.rows, q.from.count, q.from.count};
    qwen3_lm_logits(c->model, q.logits, states, q.from.first, q.from.ids, q.from.count);
    bool device = ace_device_samples(c->dev) && !penalized && q.from.count <= ACE_SAMPLE_COLUMNS;
    return device ? choose_on_device(c, &q, choices, count, error) : choose_on_host(c, &q, choices, count, error);
}
