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
    ace_mat logits; /* the conditional rows of all items, then the unconditional ones */
    int branches;   /* 2 with guidance, else 1 */
} lm_question;

static void queue_choice(const lm_chooser *c, const lm_question *q, const lm_choice *choices, int count, int place)
{
    const lm_sampling *s = q->sampling;
    ace_sampling rules = {s->guidance, s->temperature, s->top_k, s->top_p};
    ace_mat unconditional = {0}, chosen = ace_rows(c->choices, 0, count);
    double uniform[LM_MAX_ITEMS];
    for (int i = 0; i < count; i++) uniform[i] = choices[i].uniform;
    if (q->branches == 2) unconditional = ace_rows(q->logits, count, count);
    ace_sample(c->dev, chosen, ace_rows(q->logits, 0, count), unconditional, &rules, uniform);
    ace_send_choices(c->dev, place, chosen);
}

static bool receive_choice(const lm_chooser *c, const lm_candidates *from, lm_choice *choices, int count, int place,
                           ace_error *error)
{
    float host[2 * LM_MAX_ITEMS] = {0}; /* as it stays on the meter */
    ace_receive_choices(c->dev, place, host, count);
    for (int i = 0; i < count; i++) {
        choices[i].id = candidate_id(from, (int64_t)host[2 * i]);
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
        for (int b = 0; b < q->branches; b++) ace_download(c->dev, c->values[b], ace_rows(q->logits, b * count + i, 1));
        if (!ace_device_ok(c->dev, error)) return false;
        choose_from_values(c, q, &choices[i]);
    }
    return true;
}

/* The head's values of the candidates. */
static lm_question ask(lm_chooser *c, lm_token_set allowed, ace_mat states, const lm_sampling *sampling)
{
    lm_question q = {.from = list_candidates(c, allowed, sampling->repetition_penalty != 1),
                     .sampling = sampling,
                     .branches = sampling->guidance > 1 ? 2 : 1};
    q.logits = (ace_mat){c->logits.data, ACE_F32, states.rows, q.from.count, q.from.count};
    qwen3_lm_logits(c->model, q.logits, states, q.from.first, q.from.ids, q.from.count);
    return q;
}

static bool device_chooses(const lm_chooser *c, lm_token_set allowed, const lm_sampling *sampling)
{
    return ace_device_samples(c->dev) && sampling->repetition_penalty == 1 &&
           lm_token_set_size(allowed) <= ACE_SAMPLE_COLUMNS;
}

bool lm_choose(lm_chooser *c, lm_token_set allowed, ace_mat states, const lm_sampling *sampling, lm_choice *choices,
               int count, ace_error *error)
{
    lm_question q = ask(c, allowed, states, sampling);
    if (!device_chooses(c, allowed, sampling)) return choose_on_host(c, &q, choices, count, error);
    queue_choice(c, &q, choices, count, 0);
    return receive_choice(c, &q.from, choices, count, 0, error);
}

/* ---- choices that the host does not wait for --------------------------------------------------------------------- */

bool lm_chooses_ahead(const lm_chooser *c, lm_token_set allowed, const lm_sampling *sampling)
{
    return device_chooses(c, allowed, sampling) && allowed.count == 1 &&
           qwen3_lm_takes_choices(c->model, allowed.ranges[0].first, lm_token_set_size(allowed));
}

void lm_choose_ahead(lm_chooser *c, lm_token_set allowed, ace_mat states, const lm_sampling *sampling,
                     const lm_choice *choices, int count, int place)
{
    lm_question q = ask(c, allowed, states, sampling);
    queue_choice(c, &q, choices, count, place);
}

bool lm_choice_arrives(const lm_chooser *c, lm_token_set allowed, lm_choice *choices, int count, int place,
                       ace_error *error)
{
    lm_candidates from = {.first = allowed.ranges[0].first};
    return receive_choice(c, &from, choices, count, place, error);
}
