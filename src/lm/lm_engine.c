#include "lm/lm_engine.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

enum {
    DEFAULT_PASS = 512,
    MAX_ROWS = 2 * LM_MAX_ITEMS,
    MAX_DISCARDS = 8 /* times that one place may be asked about: more is a constraint that never ends */
};

/* One sequence of the cache and what it has yet to read. Row i is the conditional one of item i, row limits.items + i
 * the unconditional one. */
typedef struct lm_row {
    qwen3_sequence sequence;
    const int32_t *pending;
    int64_t count;
} lm_row;

struct lm_session {
    const qwen3_lm *model;
    ace_device *dev;
    lm_session_limits limits;
    int row_count;
    int64_t vocabulary, reused;
    ace_mark mark;
    qwen3_cache cache;
    lm_row rows[MAX_ROWS];
    ace_mat hidden;   /* F32 [rows][hidden]: the state after the last token that each row has read */
    ace_mat states;   /* F32 [rows][hidden]: what a pass returns */
    ace_mat selected; /* F32 [rows][hidden]: the states of those that choose */
    int32_t *read;    /* the token in each row of the cache */
    int32_t *pass_ids;
    uint64_t *seen; /* bits of the tokens that each item has written */
    lm_chooser chooser;
};

/* ---- free text ------------------------------------------------------------------------------------------------- */

static void free_next(void *context, lm_next *next)
{
    const lm_free_text *text = context;
    *next = (lm_next){.kind = text->ended ? LM_NEXT_DONE : LM_NEXT_CHOOSE,
                      .allowed = {&text->vocabulary, 1},
                      .steps = text->end < 0 ? INT64_MAX : 1};
}

static bool free_accept(void *context, int32_t token)
{
    lm_free_text *text = context;
    text->ended = token == text->end;
    return !text->ended;
}

lm_constraint lm_constraint_free_text(lm_free_text *text)
{
    text->ended = false;
    return (lm_constraint){.context = text, .next = free_next, .accept = free_accept};
}

/* ---- the session ----------------------------------------------------------------------------------------------- */

int64_t lm_rows_needed(int items, int64_t prompt, int64_t negative, int64_t tokens)
{
    return items * (prompt + tokens) + (negative ? items * (negative + tokens) : 0);
}

static bool limits_fit(const lm_session_limits *l, ace_error *error)
{
    int rows = l->items * (l->guided ? 2 : 1);
    if (l->items >= 1 && l->items <= LM_MAX_ITEMS && l->rows >= 1 && l->positions >= 1 && l->pass >= rows) return true;
    return ace_fail(error, ACE_ERROR_INTERNAL, "the planner was opened with limits that do not fit: this is a bug");
}

static bool take_host_memory(lm_session *s, ace_error *error)
{
    static const char what[] = "the planner's working memory";
    size_t words = (size_t)(s->vocabulary + 63) / 64;
    s->read = ace_calloc((size_t)s->limits.rows, sizeof *s->read, what, error);
    s->pass_ids = s->read ? ace_calloc((size_t)s->limits.pass, sizeof *s->pass_ids, what, error) : NULL;
    s->seen = s->pass_ids ? ace_calloc((size_t)s->limits.items * words, sizeof *s->seen, what, error) : NULL;
    return s->seen != NULL;
}

static bool take_scratch(lm_session *s, ace_error *error)
{
    const lm_session_limits *l = &s->limits;
    int64_t hidden = s->model->config.stack.hidden;
    s->cache = qwen3_cache_new(s->model, l->rows, l->positions, l->pass);
    s->hidden = ace_scratch(s->dev, ACE_F32, s->row_count, hidden);
    s->states = ace_scratch(s->dev, ACE_F32, s->row_count, hidden);
    s->selected = ace_scratch(s->dev, ACE_F32, s->row_count, hidden);
    return lm_chooser_open(&s->chooser, s->model, l->items, l->guided, error);
}

/* On the meter: products with quantised weights, and all of old GPUs, take working memory while they run. The pass of
 * most tokens takes most, and whatever is read and written later fits into that, too. */
static bool meter_widest_pass(lm_session *s, ace_error *error)
{
    qwen3_sequence sequences[2 * LM_MAX_ITEMS];
    qwen3_span spans[2 * LM_MAX_ITEMS];
    const lm_session_limits *l = &s->limits;
    int64_t longest = l->positions < l->rows ? l->positions : l->rows, left = l->pass;
    int count = 0;
    if (!ace_device_is_meter(s->dev)) return true;
    for (; count < s->row_count && left > 0; count++) {
        sequences[count] = (qwen3_sequence){.capacity = longest}; /* one above the other: nothing is computed */
        spans[count] = (qwen3_span){&sequences[count], left < longest ? left : longest};
        left -= spans[count].count;
    }
    qwen3_lm_extend(s->model, &s->cache, ace_rows(s->hidden, 0, count), NULL, spans, count);
    return ace_device_ok(s->dev, error);
}

lm_session *lm_session_open(const qwen3_lm *model, const lm_session_limits *limits, ace_error *error)
{
    lm_session *s = ace_calloc(1, sizeof *s, "the planner's session", error);
    if (!s) return NULL;
    s->model = model;
    s->dev = model->weights.dev;
    s->mark = ace_scratch_mark(s->dev);
    s->limits = *limits;
    if (s->limits.pass == 0) s->limits.pass = DEFAULT_PASS;
    s->row_count = limits->items * (limits->guided ? 2 : 1);
    s->vocabulary = model->config.vocab_size;
    if (limits_fit(&s->limits, error) && take_host_memory(s, error) && take_scratch(s, error) &&
        meter_widest_pass(s, error))
        return s;
    lm_session_close(s);
    return NULL;
}

void lm_session_close(lm_session *s)
{
    if (!s) return;
    ace_scratch_release(s->dev, s->mark);
    lm_chooser_close(&s->chooser);
    free(s->read);
    free(s->pass_ids);
    free(s->seen);
    free(s);
}

int64_t lm_session_reused(const lm_session *s)
{
    return s->reused;
}

/* ---- reading --------------------------------------------------------------------------------------------------- */

/* The next pass: as many of the rows' pending tokens as fit it. Returns the number of spans, 0 when nothing is pending.
 */
static int gather_pass(lm_session *s, qwen3_span *spans, int *of_row)
{
    int count = 0;
    int64_t tokens = 0;
    for (int r = 0; r < s->row_count && tokens < s->limits.pass; r++) {
        lm_row *row = &s->rows[r];
        if (row->count == 0) continue;
        int64_t room = s->limits.pass - tokens, now = row->count < room ? row->count : room;
        memcpy(s->pass_ids + tokens, row->pending, (size_t)now * sizeof *s->pass_ids);
        memcpy(s->read + row->sequence.first + row->sequence.length, row->pending, (size_t)now * sizeof *s->read);
        spans[count] = (qwen3_span){&row->sequence, now};
        of_row[count++] = r;
        tokens += now;
    }
    return count;
}

/* Every row reads what it has pending. */
static bool read_pending(lm_session *s, ace_error *error)
{
    qwen3_span spans[MAX_ROWS];
    int of_row[MAX_ROWS], count;
    while ((count = gather_pass(s, spans, of_row)) > 0) {
        qwen3_lm_extend(s->model, &s->cache, ace_rows(s->states, 0, count), s->pass_ids, spans, count);
        for (int i = 0; i < count; i++) {
            lm_row *row = &s->rows[of_row[i]];
            row->pending += spans[i].count;
            row->count -= spans[i].count;
            if (row->count == 0) ace_copy(s->dev, ace_rows(s->hidden, of_row[i], 1), ace_rows(s->states, i, 1));
        }
        if (!ace_device_ok(s->dev, error)) return false;
    }
    return true;
}

/* ---- a call ---------------------------------------------------------------------------------------------------- */

/* Where one item of the call is. */
typedef struct lm_writer {
    bool active;
    int64_t read; /* of its tokens */
    int discards; /* since the last token that was kept */
    lm_next next; /* CHOOSE or LOOK */
} lm_writer;

typedef struct lm_call {
    lm_session *s;
    lm_item *items;
    int count;
    const lm_write_options *options;
    bool guided;
    lm_writer writers[LM_MAX_ITEMS];
} lm_call;

static lm_row *row_of(const lm_call *c, int item, int branch)
{
    return &c->s->rows[item + branch * c->s->limits.items];
}

static int branches(const lm_call *c)
{
    return c->guided ? 2 : 1;
}

static int64_t prompt_count(const lm_call *c, int item, int branch)
{
    return branch ? c->options->negative_count : c->items[item].prompt_count;
}

static const int32_t *prompt_of(const lm_call *c, int item, int branch)
{
    return branch ? c->options->negative : c->items[item].prompt;
}

static int64_t common_prefix(const int32_t *a, int64_t a_count, const int32_t *b, int64_t b_count)
{
    int64_t n = 0;
    while (n < a_count && n < b_count && a[n] == b[n]) n++;
    return n;
}

static bool call_fits(const lm_call *c, ace_error *error)
{
    const lm_session *s = c->s;
    const lm_write_options *o = c->options;
    if (!lm_sampling_check(&o->sampling, error)) return false;
    bool fits = c->count >= 1 && c->count <= s->limits.items && o->max_tokens >= 1 && (!c->guided || s->limits.guided);
    int64_t rows = 0;
    for (int i = 0; fits && i < c->count; i++)
        for (int b = 0; fits && b < branches(c); b++) {
            int64_t needed = prompt_count(c, i, b) + o->max_tokens;
            rows += needed;
            fits = prompt_count(c, i, b) >= 1 && needed <= s->limits.positions && rows <= s->limits.rows;
        }
    if (fits) return true;
    return ace_fail(
        error, ACE_ERROR_USAGE,
        "the planner has memory for %lld tokens in %d texts of up to %lld each, which these prompts and %lld "
        "new tokens exceed: ask for a shorter song, a shorter text or fewer songs at once",
        (long long)s->limits.rows, s->limits.items, (long long)s->limits.positions, (long long)o->max_tokens);
}

/* Gives every row its part of the cache. Row 0 is always at its beginning, and keeps what it can use of the last call:
 * all but the last token of the prompt, whose state must be computed. */
static void lay_out(const lm_call *c)
{
    lm_session *s = c->s;
    const lm_item *item = &c->items[0];
    s->reused = common_prefix(s->read, s->rows[0].sequence.length, item->prompt, item->prompt_count - 1);
    memset(s->rows, 0, sizeof s->rows);
    int64_t first = 0;
    for (int b = 0; b < branches(c); b++)
        for (int i = 0; i < c->count; i++) {
            int64_t capacity = prompt_count(c, i, b) + c->options->max_tokens;
            row_of(c, i, b)->sequence = (qwen3_sequence){.first = first, .capacity = capacity};
            first += capacity;
        }
    s->rows[0].sequence.length = s->reused;
}

/* Row (item, branch) takes what its prompt shares with item 0's; its state too if that is all of it. */
static void share_prompt(const lm_call *c, int item, int branch)
{
    lm_session *s = c->s;
    lm_row *row = row_of(c, item, branch);
    const lm_row *from = row_of(c, 0, branch);
    int64_t count = prompt_count(c, item, branch), all = prompt_count(c, 0, branch);
    int64_t same = common_prefix(prompt_of(c, item, branch), count, prompt_of(c, 0, branch), all);
    bool whole = same == count && same == all;
    if (same == count && !whole) same--;
    if (same > 0) {
        qwen3_cache_copy(s->model, &s->cache, &row->sequence, &from->sequence, same);
        memcpy(s->read + row->sequence.first, s->read + from->sequence.first, (size_t)same * sizeof *s->read);
    }
    row->pending = prompt_of(c, item, branch) + same;
    row->count = count - same;
    if (whole) ace_copy(s->dev, ace_rows(s->hidden, row - s->rows, 1), ace_rows(s->hidden, from - s->rows, 1));
}

static bool read_prompts(const lm_call *c, ace_error *error)
{
    for (int b = 0; b < branches(c); b++) {
        lm_row *row = row_of(c, 0, b);
        row->pending = prompt_of(c, 0, b) + row->sequence.length;
        row->count = prompt_count(c, 0, b) - row->sequence.length;
    }
    if (!read_pending(c->s, error)) return false;
    for (int b = 0; b < branches(c); b++)
        for (int i = 1; i < c->count; i++) share_prompt(c, i, b);
    return read_pending(c->s, error);
}

/* ---- one token ------------------------------------------------------------------------------------------------- */

static uint64_t *seen_by(const lm_session *s, int item)
{
    return s->seen + (size_t)item * ((size_t)(s->vocabulary + 63) / 64);
}

static bool append(lm_call *c, int i, int32_t token, ace_error *error)
{
    lm_item *item = &c->items[i];
    if (token < 0 || token >= c->s->vocabulary)
        return ace_fail(error, ACE_ERROR_MODEL,
                        "token %d does not exist in the planner's vocabulary of %lld: tokenizer and planner are not "
                        "from the same checkpoint",
                        (int)token, (long long)c->s->vocabulary);
    item->tokens[item->count++] = token;
    seen_by(c->s, i)[token / 64] |= (uint64_t)1 << (token % 64);
    c->writers[i].discards = 0;
    return true;
}

/* Tells the constraint about a token that was chosen; appends it if it is part of the text. */
static bool settle(lm_call *c, int i, int32_t token, ace_error *error)
{
    const lm_constraint *rules = &c->items[i].constraint;
    if (rules->accept(rules->context, token)) return append(c, i, token, error);
    if (++c->writers[i].discards <= MAX_DISCARDS) return true;
    return ace_fail(error, ACE_ERROR_INTERNAL, "the planner's grammar discards every token: this is a bug");
}

static bool append_forced(lm_call *c, int i, const lm_next *next, ace_error *error)
{
    lm_item *item = &c->items[i];
    for (int64_t t = 0; t < next->forced_count && item->count < c->options->max_tokens; t++) {
        item->constraint.accept(item->constraint.context, next->forced[t]);
        if (!append(c, i, next->forced[t], error)) return false;
    }
    return true;
}

static bool set_fits(lm_token_set set, int64_t vocabulary, ace_error *error)
{
    if (set.count > 0 && set.ranges[0].first >= 0 && set.ranges[set.count - 1].end <= vocabulary &&
        lm_token_set_size(set) > 0)
        return true;
    return ace_fail(error, ACE_ERROR_MODEL,
                    "the planner's grammar allows tokens beyond its vocabulary of %lld: tokenizer and planner are not "
                    "from the same checkpoint",
                    (long long)vocabulary);
}

/* Writes what needs no model: forced runs, and choices from one. Stops at a choice that needs the model, or at the end.
 */
static bool advance(lm_call *c, int i, ace_error *error)
{
    lm_item *item = &c->items[i];
    lm_writer *writer = &c->writers[i];
    const lm_constraint *rules = &item->constraint;
    for (;;) {
        lm_next *next = &writer->next;
        *next = (lm_next){.kind = LM_NEXT_DONE};
        rules->next(rules->context, next);
        item->complete = next->kind == LM_NEXT_DONE;
        writer->active = !item->complete && item->count < c->options->max_tokens;
        if (!writer->active) return true;
        if (next->kind == LM_NEXT_FORCED) {
            if (!append_forced(c, i, next, error)) return false;
            continue;
        }
        if (!set_fits(next->allowed, c->s->vocabulary, error)) return false;
        if (lm_token_set_size(next->allowed) > 1) return true;
        int32_t only = next->allowed.ranges[0].first;
        if (next->kind == LM_NEXT_LOOK)
            rules->look(rules->context, only, false);
        else if (!settle(c, i, only, error))
            return false;
    }
}

/* ---- choosing -------------------------------------------------------------------------------------------------- */

static bool same_set(lm_token_set a, lm_token_set b)
{
    return a.count == b.count && memcmp(a.ranges, b.ranges, a.count * sizeof *a.ranges) == 0;
}

static bool same_question(const lm_next *a, const lm_next *b)
{
    return a->kind == b->kind && same_set(a->allowed, b->allowed);
}

static bool fail_not_finite(const lm_call *c, int i, ace_error *error)
{
    return ace_fail(error, ACE_ERROR_MODEL,
                    "the planner's values for token %lld are not finite numbers: its weights are damaged, or too large "
                    "for this precision (try --precision f32)",
                    (long long)c->items[i].count);
}

/* Tells the constraint what was chosen, or which is the best. */
static bool decide(lm_call *c, int i, const lm_choice *choice, ace_error *error)
{
    const lm_constraint *rules = &c->items[i].constraint;
    if (choice->id < 0) return fail_not_finite(c, i, error);
    if (c->writers[i].next.kind == LM_NEXT_CHOOSE) return settle(c, i, choice->id, error);
    rules->look(rules->context, choice->id, choice->tied);
    return true;
}

/* The states of a group, as a chooser wants them. */
static ace_mat states_of(const lm_call *c, const int *group, int members)
{
    lm_session *s = c->s;
    int rows = 0;
    for (int b = 0; b < branches(c); b++)
        for (int g = 0; g < members; g++)
            ace_copy(s->dev, ace_rows(s->selected, rows++, 1),
                     ace_rows(s->hidden, row_of(c, group[g], b) - s->rows, 1));
    return ace_rows(s->selected, 0, rows);
}

/* The choice that an item has to make after `ahead` more tokens. */
static lm_choice choice_of(const lm_call *c, int i, int64_t ahead)
{
    const lm_item *item = &c->items[i];
    return (lm_choice){.seen = seen_by(c->s, i),
                       .uniform = lm_uniform(item->seed, c->options->stream, (uint32_t)(item->count + ahead))};
}

/* The items of `group` decide; all have the same question. */
static bool decide_group(lm_call *c, const int *group, int members, ace_error *error)
{
    lm_session *s = c->s;
    const lm_next *question = &c->writers[group[0]].next;
    lm_sampling sampling = c->options->sampling;
    lm_choice choices[LM_MAX_ITEMS];
    if (question->kind == LM_NEXT_LOOK) sampling.temperature = 0; /* the best */
    for (int g = 0; g < members; g++) choices[g] = choice_of(c, group[g], 0);
    ace_mat states = states_of(c, group, members);
    if (!lm_choose(&s->chooser, question->allowed, states, &sampling, choices, members, error)) return false;
    for (int g = 0; g < members; g++)
        if (!decide(c, group[g], &choices[g], error)) return false;
    return true;
}

static bool decide_all(lm_call *c, ace_error *error)
{
    bool decided[LM_MAX_ITEMS] = {false};
    for (int i = 0; i < c->count; i++) {
        int group[LM_MAX_ITEMS], members = 0;
        for (int j = i; j < c->count; j++) {
            if (!c->writers[j].active || decided[j]) continue;
            if (members > 0 && !same_question(&c->writers[group[0]].next, &c->writers[j].next)) continue;
            if (members == 0 && j != i) break;
            decided[j] = true;
            group[members++] = j;
        }
        if (members > 0 && !decide_group(c, group, members, error)) return false;
    }
    return true;
}

/* ---- writing --------------------------------------------------------------------------------------------------- */

/* True while some item is not at its end. */
static bool advance_all(lm_call *c, bool *ok, ace_error *error)
{
    bool any = false;
    for (int i = 0; i < c->count && *ok; i++) {
        if (!c->writers[i].active) continue;
        *ok = advance(c, i, error);
        any = any || c->writers[i].active;
    }
    return any && *ok;
}

/* What the active items have written since, both of their rows must read. */
static bool read_written(lm_call *c, ace_error *error)
{
    for (int i = 0; i < c->count; i++) {
        lm_writer *writer = &c->writers[i];
        if (!writer->active) continue;
        for (int b = 0; b < branches(c); b++) {
            lm_row *row = row_of(c, i, b);
            row->pending = c->items[i].tokens + writer->read;
            row->count = c->items[i].count - writer->read;
        }
        writer->read = c->items[i].count;
    }
    return read_pending(c->s, error);
}

static void report(const lm_call *c, double start)
{
    lm_progress progress = {.max_tokens = c->options->max_tokens, .seconds = ace_clock() - start};
    for (int i = 0; i < c->count; i++)
        if (c->items[i].count > progress.tokens) progress.tokens = c->items[i].count;
    if (c->options->progress) c->options->progress(c->options->user, &progress);
}

/* ---- runs: choices that the host does not wait for --------------------------------------------------------------- */

/* All active items, which choose from the same set `length` times. */
typedef struct lm_run {
    int group[LM_MAX_ITEMS], members;
    int64_t length;
    lm_token_set allowed;
} lm_run;

/* False when the next token is to be decided by itself. */
static bool find_run(const lm_call *c, lm_run *run)
{
    *run = (lm_run){.length = INT64_MAX};
    for (int i = 0; i < c->count; i++) {
        const lm_next *next = &c->writers[i].next;
        if (!c->writers[i].active) continue;
        if (run->members > 0 && !same_question(&c->writers[run->group[0]].next, next)) return false;
        int64_t left = c->options->max_tokens - c->items[i].count, steps = next->steps < left ? next->steps : left;
        if (next->kind != LM_NEXT_CHOOSE || steps < 2) return false;
        if (steps < run->length) run->length = steps;
        run->allowed = next->allowed;
        run->group[run->members++] = i;
    }
    return lm_chooses_ahead(&c->s->chooser, run->allowed, &c->options->sampling);
}

/* Both rows of every item read the token that was chosen last. */
static ace_mat read_choices(const lm_call *c, const lm_run *run)
{
    lm_session *s = c->s;
    qwen3_span spans[MAX_ROWS];
    int rows = 0;
    for (int b = 0; b < branches(c); b++)
        for (int g = 0; g < run->members; g++) spans[rows++] = (qwen3_span){&row_of(c, run->group[g], b)->sequence, 1};
    ace_mat states = ace_rows(s->states, 0, rows);
    qwen3_lm_extend_choices(s->model, &s->cache, states, run->allowed.ranges[0].first,
                            ace_rows(s->chooser.choices, 0, run->members), spans, rows);
    return states;
}

/* One token of every item has come. */
static bool take_choices(lm_call *c, const lm_run *run, int place, ace_error *error)
{
    lm_choice choices[LM_MAX_ITEMS];
    if (!lm_choice_arrives(&c->s->chooser, run->allowed, choices, run->members, place, error)) return false;
    for (int g = 0; g < run->members; g++) {
        int i = run->group[g];
        int64_t before = c->items[i].count;
        if (!decide(c, i, &choices[g], error)) return false;
        if (c->items[i].count == before)
            return ace_fail(error, ACE_ERROR_INTERNAL,
                            "the planner's grammar discards a token of a run: this is a bug, please report it");
        for (int b = 0; b < branches(c); b++) {
            int64_t at = row_of(c, i, b)->sequence.first + prompt_count(c, i, b) + before;
            c->s->read[at] = choices[g].id;
        }
    }
    return true;
}

/* The model reads ahead of the host by at most ACE_SENDS tokens, so that a stop is heard and progress is seen. */
static bool write_run(lm_call *c, const lm_run *run, double start, ace_error *error)
{
    ace_mat states = states_of(c, run->group, run->members);
    for (int64_t queued = 0, taken = 0; taken < run->length;) {
        if (queued < run->length && queued - taken < ACE_SENDS) {
            lm_choice choices[LM_MAX_ITEMS];
            for (int g = 0; g < run->members; g++) choices[g] = choice_of(c, run->group[g], queued - taken);
            if (queued > 0) states = read_choices(c, run);
            lm_choose_ahead(&c->s->chooser, run->allowed, states, &c->options->sampling, choices, run->members,
                            (int)(queued++ % ACE_SENDS));
        } else {
            if (!take_choices(c, run, (int)(taken++ % ACE_SENDS), error)) return false;
            report(c, start);
        }
    }
    for (int g = 0; g < run->members; g++) /* all but the last */
        c->writers[run->group[g]].read = c->items[run->group[g]].count - 1;
    return true;
}

static bool write_all(lm_call *c, ace_error *error)
{
    if (!read_prompts(c, error)) return false;
    bool ok = true;
    double start = ace_clock();
    while (advance_all(c, &ok, error)) {
        lm_run run;
        ok = read_written(c, error);
        if (ok && find_run(c, &run)) {
            ok = write_run(c, &run, start, error);
        } else if (ok) {
            ok = decide_all(c, error);
            if (ok) report(c, start);
        }
    }
    return ok;
}

bool lm_write(lm_session *s, lm_item *items, int count, const lm_write_options *options, ace_error *error)
{
    lm_call c = {.s = s, .items = items, .count = count, .options = options, .guided = options->sampling.guidance > 1};
    if (!ace_device_ok(s->dev, error) || !call_fits(&c, error)) return false;
    for (int i = 0; i < count; i++) {
        items[i].count = 0;
        items[i].complete = false;
        c.writers[i].active = true;
    }
    memset(s->seen, 0, (size_t)s->limits.items * ((size_t)(s->vocabulary + 63) / 64) * sizeof *s->seen);
    lay_out(&c);
    bool ok = write_all(&c, error);
    /* what a failed pass has left in the cache is nothing to build on */
    if (!ok) s->rows[0].sequence.length = 0;
    return ok;
}
