/* The walk through a plan: spec/lm.md 4.5 to 4.9, one function for what may come and one for what came. */
#include "lm/lm_grammar.h"

#include "lm/lm_grammar_tables.h"
#include "text/unicode.h"

#include <string.h>

/* Where a sequence is. */
enum {
    PLACE_RUN,       /* in a forced text: state.run, state.at */
    PLACE_VALUE,     /* in the value of state.field */
    PLACE_THINK_END, /* before </think>, or <|im_end|> in its place */
    PLACE_LYRICS,
    PLACE_CODES,
    PLACE_DONE
};

static bool is_official(const lm_grammar_state *state)
{
    return state->plan->grammar->profile == LM_PROFILE_OFFICIAL;
}

static uint8_t traits_of(const lm_grammar_state *state, int32_t token)
{
    const lm_grammar *grammar = state->plan->grammar;
    return token >= 0 && token < grammar->limit ? grammar->traits[token] : 0;
}

/* ---- from place to place -------------------------------------------------------------------------------------- */

static void enter_run(lm_grammar_state *state, int run)
{
    state->place = PLACE_RUN;
    state->run = run;
    state->at = 0;
}

static void enter_value(lm_grammar_state *state, lm_field field)
{
    state->place = PLACE_VALUE;
    state->field = field;
    state->at = 0;
    state->node = LM_TRIE_ROOT;
    state->count = 0;
    state->chosen = -1;
    state->looked = state->force = false;
    state->blank = true;
    state->after_newline = state->ending = false;
    if (field == LM_GENRES && state->plan->grammar->has_genres)
        state->genre = state->genre_tail = lm_genres_all(&state->plan->grammar->genres);
}

static void enter_codes(lm_grammar_state *state)
{
    state->place = PLACE_CODES;
    state->count = 0;
    /* official goes on to <|im_end|>; the default profile knows that there is nothing to wait for */
    if (!is_official(state) && state->plan->codes == 0) state->place = PLACE_DONE;
}

/* To the next field that is not skipped, or to the end. */
static void enter_next(lm_grammar_state *state)
{
    lm_field next = state->field + 1;
    while (next < LM_FIELD_COUNT && state->plan->skip[next]) next++;
    if (next < LM_FIELD_COUNT)
        enter_run(state, (int)next);
    else
        state->place = PLACE_THINK_END;
}

/* The value of the field is complete. Official's table has no way out of a skipped field, into which only a caption
 * that names it can lead: it stays there. */
static void end_value(lm_grammar_state *state)
{
    if (!state->plan->skip[state->field]) enter_next(state);
}

void lm_grammar_begin(lm_grammar_state *state, const lm_grammar_plan *plan)
{
    *state = (lm_grammar_state){.plan = plan, .chosen = -1};
    if (plan->phase == LM_PHASE_CODES)
        enter_codes(state);
    else
        enter_run(state, LM_RUN_THINK);
}

/* ---- what may come -------------------------------------------------------------------------------------------- */

/* What may come next: one token, or a set to choose from or to look at. */
typedef struct rule {
    lm_step_kind kind;
    int32_t token; /* FORCED */
    lm_token_set allowed;
} rule;

static rule only(int32_t token)
{
    return (rule){.kind = LM_STEP_FORCED, .token = token};
}

static rule one_of(lm_step_kind kind, lm_token_set set)
{
    if (set.count == 1 && set.ranges[0].end - set.ranges[0].first == 1) return only(set.ranges[0].first);
    return (rule){.kind = kind, .allowed = set};
}

static rule choose_from(const lm_grammar *grammar, lm_table_set set)
{
    return one_of(LM_STEP_CHOOSE, grammar->sets[set]);
}

static rule trie_rule(const lm_grammar_state *state)
{
    const lm_grammar *grammar = state->plan->grammar;
    const lm_trie *trie = &grammar->tries[state->field];
    lm_token_set set = lm_trie_allowed(trie, state->node);
    if (set.count == 0) return only(grammar->newline);
    if (state->field != LM_LANGUAGE || state->node != LM_TRIE_ROOT) return one_of(LM_STEP_CHOOSE, set);
    return state->chosen >= 0 ? only(state->chosen) : one_of(LM_STEP_LOOK, set); /* greedy, whatever the temperature */
}

static rule caption_rule(const lm_grammar_state *state)
{
    const lm_grammar *grammar = state->plan->grammar;
    if (is_official(state)) { /* D3 */
        if (state->after_newline) return one_of(LM_STEP_LOOK, grammar->sets[LM_SET_ALL]);
        if (state->ending) return choose_from(grammar, LM_SET_ALL);
    }
    if (state->count >= LM_MAX_CAPTION_TOKENS) return only(grammar->newline);
    return choose_from(grammar, LM_SET_CAPTION);
}

static rule listed_genres_rule(const lm_grammar_state *state)
{
    const lm_grammar_plan *plan = state->plan;
    const lm_grammar *grammar = plan->grammar;
    memset(plan->bits, 0, ((size_t)grammar->limit / 64 + 1) * sizeof *plan->bits);
    bool start = is_official(state) ? state->blank : state->count == 0;
    lm_genres_allowed(&grammar->genres, state->genre, start, plan->bits);
    if (lm_genres_complete(&grammar->genres, state->genre))
        plan->bits[grammar->newline / 64] |= (uint64_t)1 << (grammar->newline % 64);
    lm_token_set set = lm_token_set_from_bits(plan->bits, grammar->limit, plan->ranges);
    return set.count == 0 ? only(grammar->newline) : one_of(LM_STEP_CHOOSE, set);
}

static rule free_genres_rule(const lm_grammar_state *state)
{
    const lm_grammar *grammar = state->plan->grammar;
    bool official = is_official(state);
    if (!official && state->count >= LM_MAX_GENRES_TOKENS) return only(grammar->newline);
    if (state->blank) return choose_from(grammar, LM_SET_GENRES_START);
    if (!state->looked) return one_of(LM_STEP_LOOK, grammar->sets[LM_SET_GENRES]);
    return state->force ? only(grammar->newline) : choose_from(grammar, LM_SET_GENRES);
}

static rule value_rule(const lm_grammar_state *state)
{
    const ace_ids *given = &state->plan->given[state->field];
    if (given->count > 0) return only(given->data[state->at]);
    switch (state->field) {
    case LM_CAPTION:
        return caption_rule(state);
    case LM_GENRES:
        return state->plan->grammar->has_genres ? listed_genres_rule(state) : free_genres_rule(state);
    default:
        return trie_rule(state);
    }
}

static rule codes_rule(const lm_grammar_state *state)
{
    const lm_grammar *grammar = state->plan->grammar;
    if (state->plan->codes < 0) return choose_from(grammar, LM_SET_CODES_OR_END);
    return state->count < state->plan->codes ? choose_from(grammar, LM_SET_CODES) : only(grammar->end);
}

static rule rule_at(const lm_grammar_state *state)
{
    const lm_grammar *grammar = state->plan->grammar;
    switch (state->place) {
    case PLACE_RUN:
        return only(grammar->runs[state->run].ids[state->at]);
    case PLACE_VALUE:
        return value_rule(state);
    case PLACE_THINK_END:
        return only(state->plan->stop_at_reasoning ? grammar->end : grammar->think_end);
    case PLACE_LYRICS:
        return choose_from(grammar, LM_SET_LYRICS);
    case PLACE_CODES:
        return codes_rule(state);
    default:
        return (rule){.kind = LM_STEP_DONE};
    }
}

/* How many codes are chosen in a row from here on, all from the same set; 1 anywhere else. */
static int64_t codes_ahead(const lm_grammar_state *state)
{
    return state->place == PLACE_CODES && state->count < state->plan->codes ? state->plan->codes - state->count : 1;
}

void lm_grammar_next(const lm_grammar_state *state, lm_grammar_step *step)
{
    lm_grammar_state ahead = *state; /* a run goes on until there is something to decide */
    step->forced_count = 0;
    rule next = rule_at(&ahead);
    while (next.kind == LM_STEP_FORCED && step->forced_count < LM_MAX_RUN) {
        step->forced[step->forced_count++] = next.token;
        lm_grammar_accept(&ahead, next.token);
        next = rule_at(&ahead);
    }
    step->repeats = codes_ahead(state);
    step->kind = step->forced_count > 0 ? LM_STEP_FORCED : next.kind;
    step->allowed = step->forced_count > 0 ? (lm_token_set){0} : next.allowed;
}

void lm_grammar_look(lm_grammar_state *state, int32_t best, bool tied)
{
    if (state->place != PLACE_VALUE) return;
    if (state->field == LM_LANGUAGE) {
        state->chosen = best;
    } else if (state->field == LM_GENRES) {
        state->looked = true;
        state->force = best == state->plan->grammar->newline && !(tied && is_official(state));
    } else if (state->field == LM_CAPTION) {
        state->after_newline = false;
        if (traits_of(state, best) & LM_TRAIT_INDENT) return; /* a continuation line */
        state->ending = true;
        state->name_length = 0;
        state->name_lost = false;
    }
}

/* ---- what came ------------------------------------------------------------------------------------------------ */

/* official: the field name behind a caption, without white space in front and with any other as one space, which
 * changes nothing in what it is compared with. */
static void add_to_name(lm_grammar_state *state, const char *bytes, size_t n)
{
    if (!bytes || !ace_utf8_valid(bytes, n, NULL)) state->name_lost = true;
    for (size_t at = 0; at < n && !state->name_lost;) {
        const char *from = bytes + at;
        bool space = lm_is_space(unicode_next(bytes, &at));
        size_t length = space ? 1 : (size_t)(bytes + at - from);
        if (space && (state->name_length == 0 || state->name[state->name_length - 1] == ' ')) continue;
        state->name_lost = state->name_length + length > sizeof state->name;
        if (state->name_lost) return;
        memcpy(state->name + state->name_length, space ? " " : from, length);
        state->name_length = (uint8_t)(state->name_length + length);
    }
}

/* official: the field that the model has named, LM_FIELD_COUNT when it is none that may follow a caption. */
static lm_field named_field(const lm_grammar_state *state)
{
    if (state->name_lost) return LM_FIELD_COUNT;
    lm_slice name = lm_trim((lm_slice){state->name, state->name_length});
    while (name.length > 0 && name.data[name.length - 1] == ':') name.length--;
    name = lm_trim(name);
    for (lm_field field = LM_DURATION; field < LM_FIELD_COUNT; field++)
        if (lm_is_word(name, lm_field_name(field))) return field;
    return LM_FIELD_COUNT;
}

static void accept_official_caption(lm_grammar_state *state, int32_t token)
{
    uint8_t traits = traits_of(state, token);
    state->count++;
    state->after_newline = traits & LM_TRAIT_NEWLINE;
    if (!state->ending) return;
    size_t n = 0;
    const char *bytes = tokenizer_token_bytes(state->plan->grammar->tokenizer, token, &n);
    add_to_name(state, bytes, bytes ? n : 0);
    if (!(traits & LM_TRAIT_COLON)) return;
    lm_field field = named_field(state);
    if (field < LM_FIELD_COUNT)
        enter_value(state, field); /* the fields in between are lost */
    else
        enter_next(state); /* on the same line (D4) */
}

/* A line that is not indented is not the caption's: the token is discarded, and the next field's name takes its place
 * (spec/lm.md 4.7). */
static bool accept_caption(lm_grammar_state *state, int32_t token)
{
    uint8_t traits = traits_of(state, token);
    if (state->after_newline && !(traits & LM_TRAIT_INDENT)) {
        enter_next(state);
        return false;
    }
    state->count++;
    state->after_newline = traits & LM_TRAIT_NEWLINE;
    if (state->after_newline && state->count >= LM_MAX_CAPTION_TOKENS) enter_next(state);
    return true;
}

/* Without a list: official ends at a newline, the default profile at whatever ends the line. */
static void accept_free_genres(lm_grammar_state *state, int32_t token)
{
    const lm_grammar *grammar = state->plan->grammar;
    uint8_t traits = traits_of(state, token);
    bool official = is_official(state), lost = official && state->force && !state->plan->skip[LM_GENRES];
    state->looked = state->force = false;
    if (lost) { /* the state had advanced before the newline was written (spec/lm.md 4.8) */
        enter_run(state, LM_RUN_EYSCALE);
    } else if (token == grammar->newline || (!official && (traits & LM_TRAIT_NEWLINE))) {
        end_value(state);
    } else {
        state->count++;
        state->blank = state->blank && (traits & LM_TRAIT_BLANK);
    }
}

static void accept_listed_genres(lm_grammar_state *state, int32_t token)
{
    const lm_grammar *grammar = state->plan->grammar;
    if (token == grammar->newline) {
        end_value(state);
        return;
    }
    size_t n = 0;
    const char *bytes = tokenizer_token_bytes(grammar->tokenizer, token, &n);
    bool start = is_official(state) ? state->blank : state->count == 0;
    if (bytes) lm_genres_write(&grammar->genres, bytes, n, start, &state->genre, &state->genre_tail);
    state->count++;
    state->blank = state->blank && (traits_of(state, token) & LM_TRAIT_BLANK);
}

static bool accept_value(lm_grammar_state *state, int32_t token)
{
    const lm_grammar *grammar = state->plan->grammar;
    size_t given = state->plan->given[state->field].count;
    if (given > 0) {
        if (++state->at == given) enter_next(state);
        return true;
    }
    if (state->field == LM_CAPTION && !is_official(state)) return accept_caption(state, token);
    if (state->field == LM_CAPTION)
        accept_official_caption(state, token);
    else if (state->field == LM_GENRES && grammar->has_genres)
        accept_listed_genres(state, token);
    else if (state->field == LM_GENRES)
        accept_free_genres(state, token);
    else if (token == grammar->newline)
        end_value(state);
    else
        state->node = lm_trie_step(&grammar->tries[state->field], state->node, token);
    return true;
}

static void accept_run(lm_grammar_state *state)
{
    if (++state->at < state->plan->grammar->runs[state->run].count) return;
    if (state->run == LM_RUN_THINK)
        enter_run(state, LM_BPM);
    else
        enter_value(state, state->run == LM_RUN_EYSCALE ? LM_KEYSCALE : (lm_field)state->run);
}

static void accept_code(lm_grammar_state *state)
{
    state->count++;
    if (!is_official(state) && state->count == state->plan->codes) state->place = PLACE_DONE;
}

bool lm_grammar_accept(lm_grammar_state *state, int32_t token)
{
    const lm_grammar *grammar = state->plan->grammar;
    if (token == grammar->end || (token == grammar->pad && !is_official(state))) { /* D21 */
        state->place = PLACE_DONE;
        return true;
    }
    switch (state->place) {
    case PLACE_RUN:
        accept_run(state);
        return true;
    case PLACE_VALUE:
        return accept_value(state, token);
    case PLACE_THINK_END:
        state->place = PLACE_LYRICS;
        if (state->plan->phase != LM_PHASE_UNDERSTAND) enter_codes(state);
        return true;
    case PLACE_CODES:
        accept_code(state);
        return true;
    default:
        return true;
    }
}
