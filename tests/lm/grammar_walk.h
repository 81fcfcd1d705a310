/* grammar_walk.h - the random walks of tools/reference/lm_grammar_walks.py: every draw is the same. */
#ifndef ACE_TESTS_GRAMMAR_WALK_H
#define ACE_TESTS_GRAMMAR_WALK_H

#include "lm/lm_grammar.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { WALK_LONG = 700, WALK_SHORT = 100, WALK_SEED = 20260401, WALK_BOOSTS = 8, WALK_MAX_TEXTS = 64 };

static inline uint64_t walk_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* SplitMix64 (Steele, Lea, Flood 2014), a number below n. */
static inline uint32_t walk_below(uint64_t *state, uint32_t n)
{
    return (uint32_t)((walk_mix(*state += 0x9e3779b97f4a7c15u) >> 11) % n);
}

/* What all walks of a tokenizer share. */
typedef struct walk_world {
    const ace_tokenizer *tokenizer;
    const json_t *goldens, *mine; /* the file, and its part about this tokenizer */
    int32_t limit;
    uint64_t *sums; /* sums[i]: of the hashes of the ids below i */
    float *table;   /* 2 * limit random values */
} walk_world;

static inline void walk_world_open(walk_world *world, const ace_tokenizer *tokenizer, const json_t *goldens,
                                   const char *name)
{
    *world = (walk_world){.tokenizer = tokenizer, .goldens = goldens, .mine = json_object_get(goldens, name)};
    world->limit = tokenizer_limit(tokenizer);
    world->sums = calloc((size_t)world->limit + 1, sizeof *world->sums);
    world->table = calloc(2 * (size_t)world->limit, sizeof *world->table);
    for (int32_t i = 0; i < 2 * world->limit; i++) {
        uint64_t hash = walk_mix((uint64_t)(i + 1) * 0x9e3779b97f4a7c15u);
        if (i < world->limit) world->sums[i + 1] = world->sums[i] + hash;
        world->table[i] = (float)(hash >> 42);
    }
}

static inline void walk_world_close(walk_world *world)
{
    free(world->sums);
    free(world->table);
}

static inline uint64_t walk_set_hash(const walk_world *world, lm_token_set set)
{
    uint64_t hash = 0;
    for (size_t i = 0; i < set.count; i++) hash += world->sums[set.ranges[i].end] - world->sums[set.ranges[i].first];
    return hash;
}

/* The values of one position: the table from `shift` on, but for the boosted ids, of which later ones count. */
typedef struct walk_logits {
    const float *table;
    int32_t ids[WALK_BOOSTS];
    float values[WALK_BOOSTS];
    int count;
} walk_logits;

static inline float walk_value(const walk_logits *logits, int32_t id)
{
    for (int i = logits->count - 1; i >= 0; i--)
        if (logits->ids[i] == id) return logits->values[i];
    return logits->table[id];
}

/* The best allowed id, the lowest of equals; *tied tells whether there are equals. A boosted id is better than any
 * that is not. */
static inline int32_t walk_best(const walk_logits *logits, lm_token_set allowed, bool *tied)
{
    int32_t best = -1;
    float value = 0;
    *tied = false;
    for (int i = 0; i < logits->count; i++) {
        int32_t id = logits->ids[i];
        float v = walk_value(logits, id);
        if (!lm_token_set_contains(allowed, id) || id == best) continue;
        *tied = best >= 0 && (v > value ? false : v == value || *tied);
        if (best < 0 || v > value || (v == value && id < best)) best = id;
        if (v > value) value = v;
    }
    if (best >= 0) return best;
    for (size_t r = 0; r < allowed.count; r++)
        for (int32_t id = allowed.ranges[r].first; id < allowed.ranges[r].end; id++) {
            float v = logits->table[id];
            if (best < 0 || v > value) {
                best = id;
                value = v;
                *tied = false;
            } else if (v == value) {
                *tied = true;
            }
        }
    return best;
}

/* A script is written to the end once it was begun, whatever the grammar makes of it. */
typedef struct walk_script {
    const json_t *ids;
    size_t at;
} walk_script;

static inline walk_logits walk_draw(const walk_world *world, uint64_t *random, walk_script *script, bool calm)
{
    const json_t *pool = json_object_get(world->mine, "pool"), *scripts = json_object_get(world->mine, "scripts");
    int32_t first_code = tokenizer_audio_first(world->tokenizer);
    walk_logits logits = {.table = world->table + walk_below(random, (uint32_t)world->limit)};
    logits.count = (int)walk_below(random, 6);
    for (int i = 0; i < logits.count; i++) {
        uint32_t kind = walk_below(random, 8);
        int32_t token;
        if (kind < 4)
            token =
                (int32_t)json_integer_value(json_array_get(pool, walk_below(random, (uint32_t)json_array_size(pool))));
        else if (kind < 6)
            token = (int32_t)walk_below(random, (uint32_t)world->limit);
        else
            token = first_code + (int32_t)walk_below(random, (uint32_t)(world->limit - first_code));
        if (calm) token = (int32_t)walk_below(random, (uint32_t)first_code);
        logits.ids[i] = token;
        logits.values[i] = 5e6f + 16 * (float)walk_below(random, 100000) + (float)i;
    }
    if (script->at == json_array_size(script->ids) && !calm && walk_below(random, 6) == 0)
        *script = (walk_script){json_array_get(scripts, walk_below(random, (uint32_t)json_array_size(scripts))), 0};
    if (script->at < json_array_size(script->ids)) {
        logits.ids[logits.count] = (int32_t)json_integer_value(json_array_get(script->ids, script->at++));
        logits.values[logits.count++] = 9e6f + 16 * (float)walk_below(random, 2);
    }
    return logits;
}

static inline lm_grammar_request walk_request(const walk_world *world, uint64_t *random, lm_metadata *given)
{
    const json_t *values = json_object_get(world->goldens, "values"),
                 *durations = json_object_get(world->goldens, "durations");
    uint32_t kind = walk_below(random, 8);
    lm_grammar_request request = {.stop_at_reasoning = kind < 3, .given = given};
    request.phase = kind < 3    ? LM_PHASE_COT
                    : kind < 6  ? LM_PHASE_UNDERSTAND
                    : kind == 6 ? LM_PHASE_COT
                                : LM_PHASE_CODES;
    request.skip_caption = walk_below(random, 4) == 0;
    request.skip_genres = walk_below(random, 2) == 0;
    request.skip_language = walk_below(random, 4) == 0;
    for (lm_field field = 0; field < LM_FIELD_COUNT; field++) {
        if (walk_below(random, 6) != 0) continue;
        const json_t *texts = json_object_get(values, lm_field_name(field));
        const char *text =
            json_string_value(json_array_get(texts, walk_below(random, (uint32_t)json_array_size(texts))));
        if (!lm_metadata_set_text(given, field, lm_slice_of(text), NULL)) abort();
    }
    if (request.phase == LM_PHASE_CODES && walk_below(random, 4) > 0)
        request.duration =
            json_number_value(json_array_get(durations, walk_below(random, (uint32_t)json_array_size(durations))));
    return request;
}

/* Called for each token of a walk with the ids that were allowed. */
typedef void (*walk_visit)(void *context, lm_token_set allowed, int32_t token, bool discarded);

/* Walk `number`; returns its number of tokens. */
static inline int walk_run(const walk_world *world, const lm_grammar *grammar, uint64_t number, walk_visit visit,
                           void *context, ace_error *error)
{
    uint64_t random = walk_mix(WALK_SEED + number);
    lm_metadata given = {0};
    lm_grammar_request request = walk_request(world, &random, &given);
    lm_grammar_plan *plan = lm_grammar_plan_new(grammar, &request, error);
    lm_metadata_free(&given);
    if (!plan) return -1;
    bool calm = walk_below(&random, 64) == 0, tied;
    walk_script script = {0};
    lm_grammar_state state;
    lm_grammar_step step;
    lm_grammar_begin(&state, plan);
    int count = 0, limit = calm ? WALK_LONG : WALK_SHORT;
    bool drawn = false;
    walk_logits logits = {0};
    for (lm_grammar_next(&state, &step); step.kind != LM_STEP_DONE && count < limit; lm_grammar_next(&state, &step)) {
        if (!drawn) logits = walk_draw(world, &random, &script, calm);
        drawn = true;
        if (step.kind == LM_STEP_LOOK) {
            int32_t best = walk_best(&logits, step.allowed, &tied);
            lm_grammar_look(&state, best, tied);
        } else if (step.kind == LM_STEP_CHOOSE) {
            int32_t token = walk_best(&logits, step.allowed, &tied);
            bool accepted = lm_grammar_accept(&state, token);
            visit(context, step.allowed, token, !accepted);
            drawn = !accepted;
            count += accepted;
        } else {
            for (size_t i = 0; i < step.forced_count && count < limit; i++) {
                if (!drawn) walk_draw(world, &random, &script, calm);
                drawn = false;
                lm_token_range one = {step.forced[i], step.forced[i] + 1};
                lm_grammar_accept(&state, step.forced[i]);
                visit(context, (lm_token_set){&one, 1}, step.forced[i], false);
                count++;
            }
        }
    }
    lm_grammar_plan_free(plan);
    return count;
}

#endif
