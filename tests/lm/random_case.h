/* random_case.h - the random texts, answers and requests of tools/reference/make_lm_prompt_goldens.py: every draw is
 * the same. What they are made of is in tests/data/lm/text-fragments.json. */
#ifndef ACE_TESTS_RANDOM_CASE_H
#define ACE_TESTS_RANDOM_CASE_H

#include "lm/lm_parse.h"

#include <inttypes.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CASE_BLOCK = 1000, CASE_YAML = 0, CASE_PARSE = 1, CASE_PROMPT = 2 };

typedef struct random_case {
    uint64_t state;
    json_t *fragments;
} random_case;

static inline json_t *case_json(const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, TEST_DATA "/lm/%s", name);
    json_error_t why;
    json_t *json = json_load_file(path, JSON_ALLOW_NUL, &why);
    if (!json) fail_msg("%s: %s", path, why.text);
    return json;
}

/* SplitMix64 (Steele, Lea, Flood 2014), a number below n. */
static inline unsigned case_below(random_case *random, size_t n)
{
    uint64_t z = random->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (unsigned)(((z ^ (z >> 31)) >> 11) % n);
}

static inline json_t *case_item(json_t *list, random_case *random)
{
    return json_array_get(list, case_below(random, json_array_size(list)));
}

/* An entry of a list; `length` may be NULL when it has no NUL. */
static inline const char *case_pick(random_case *random, const char *name, size_t *length)
{
    json_t *item = case_item(json_object_get(json_object_get(random->fragments, "lists"), name), random);
    if (length) *length = json_string_length(item);
    return json_string_value(item);
}

static inline void case_add_pick(random_case *random, const char *name, ace_text *out)
{
    size_t length;
    const char *piece = case_pick(random, name, &length);
    ace_text_bytes(out, piece, length);
}

static inline void case_text(random_case *random, ace_text *out)
{
    json_t *kinds = json_object_get(random->fragments, "kinds"), *ranges = json_object_get(random->fragments, "ranges");
    size_t kind = case_below(random, json_array_size(kinds));
    json_t *turns = json_array_get(kinds, kind);
    size_t most = (size_t)json_integer_value(json_array_get(json_object_get(random->fragments, "lengths"), kind));
    unsigned count = 1 + case_below(random, most);
    for (unsigned i = 0; i < count; i++) {
        const char *name = json_string_value(json_array_get(turns, i % json_array_size(turns)));
        if (*name) {
            case_add_pick(random, name, out);
        } else {
            json_t *range = case_item(ranges, random);
            unsigned first = (unsigned)json_integer_value(json_array_get(range, 0));
            unsigned last = (unsigned)json_integer_value(json_array_get(range, 1));
            lm_append(out, first + case_below(random, last - first + 1));
        }
    }
}

static inline void case_maybe_text(random_case *random, ace_text *out)
{
    if (case_below(random, 12) > 0) case_text(random, out);
}

static inline void case_fill(random_case *random, json_t *piece, ace_text *out)
{
    if (strcmp(json_string_value(piece), "@") == 0)
        case_text(random, out);
    else
        ace_text_bytes(out, json_string_value(piece), json_string_length(piece));
}

/* What a model might answer; may contain NUL. */
static inline void case_answer(random_case *random, ace_text *out)
{
    static const unsigned damages[] = {400, 60, 15};
    json_t *lists = json_object_get(random->fragments, "lists"), *noise = json_object_get(lists, "noise");
    if (case_below(random, 5) == 0) {
        unsigned count = 1 + case_below(random, 30);
        for (unsigned i = 0; i < count; i++) case_fill(random, case_item(noise, random), out);
        return;
    }
    unsigned damage = damages[case_below(random, 3)];
    size_t i;
    json_t *piece;
    json_array_foreach(json_object_get(lists, "answer"), i, piece)
    {
        unsigned change = case_below(random, damage);
        if (change == 0) continue;
        if (change == 1) case_fill(random, piece, out);
        if (change == 2 || change == 3) case_fill(random, case_item(noise, random), out);
        if (change == 4) case_add_pick(random, "atoms", out);
        if (change != 3) case_fill(random, piece, out);
    }
}

static inline const char *case_string(const ace_text *text)
{
    return text->data ? text->data : "";
}

/* Metadata as the goldens show them. */
static inline void case_show(const lm_metadata *metadata, ace_text *out)
{
    for (lm_field field = 0; field < LM_FIELD_COUNT; field++) {
        const lm_value *value = &metadata->fields[field];
        if (value->kind == LM_ABSENT) continue;
        ace_text_format(out, "%s=%s:", lm_field_name(field), value->kind == LM_INTEGER ? "i" : "s");
        lm_value_write(out, value);
        ace_text_add(out, "\n");
    }
}

/* FNV-1a, 64 bits. */
static inline uint64_t case_hash(uint64_t hash, const ace_text *text)
{
    for (size_t i = 0; i < text->length; i++) hash = (hash ^ (unsigned char)text->data[i]) * 0x100000001b3u;
    return hash;
}

/* Fails at the first byte that is not the example's, showing what is around it. */
static inline void case_compare(const char *name, unsigned i, const ace_text *out, json_t *example)
{
    const char *ours = case_string(out), *theirs = json_string_value(example);
    size_t n = out->length, wanted = json_string_length(example), at = 0;
    if (n == wanted && memcmp(ours, theirs, n) == 0) return;
    while (at < n && at < wanted && ours[at] == theirs[at]) at++;
    size_t from = at > 150 ? at - 150 : 0;
    fail_msg("%s case %u differs at byte %zu:\n...%.300s\nbut should be\n...%.300s", name, i, at, ours + from,
             theirs + from);
}

/* Runs every block of a kind and compares: the first cases in full, blocks by hash. ACE_LM_HASHES names a directory
 * with more blocks than are committed. */
static inline void case_check(const char *name, unsigned kind, void (*run)(random_case *random, ace_text *out))
{
    json_t *fragments = case_json("text-fragments.json"), *all = case_json("text-examples.json");
    json_t *examples = json_object_get(all, name);
    assert_true(json_array_size(examples) >= 10);
    char path[4096];
    const char *more = getenv("ACE_LM_HASHES");
    snprintf(path, sizeof path, "%s/%s.txt", more ? more : TEST_DATA "/lm", name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    uint64_t wanted;
    unsigned block = 0;
    for (; fscanf(file, "%" SCNx64, &wanted) == 1; block++) {
        random_case random = {(uint64_t)kind << 32 | block, fragments};
        uint64_t hash = 0xcbf29ce484222325u;
        for (unsigned i = 0; i < CASE_BLOCK; i++) {
            ace_text out = {0};
            run(&random, &out);
            if (block == 0 && i < json_array_size(examples)) case_compare(name, i, &out, json_array_get(examples, i));
            hash = case_hash(hash, &out);
            ace_text_free(&out);
        }
        if (hash != wanted) fail_msg("%s block %u: a case differs", name, block);
    }
    fclose(file);
    assert_true(block >= 12);
    print_message("%s: %u cases equal the official program's\n", name, block * CASE_BLOCK);
    json_decref(fragments);
    json_decref(all);
}

#endif
