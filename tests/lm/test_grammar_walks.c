/* Random walks through the grammar against the official class, in both profiles: what is allowed at every position, and
 * what is chosen there. tests/data/lm/grammar.json holds what the reference says; with the argument "-", standard input
 * says it of any number of walks (tools/reference/walk_lm_grammar.py). */
#include "lm/grammar_walk.h"

#include "base/file.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#define SMALL TEST_DATA "/text/tokenizer.json"
#define QWEN3 SHARED_DATA "/qwen3-tokenizer/tokenizer.json"
#define GENRES TEST_DATA "/lm/grammar_genres.txt"

enum { BLOCK_WALKS = 1000000 }; /* walk n belongs to block n / BLOCK_WALKS */

typedef struct hashing {
    const walk_world *world;
    uint64_t value;
} hashing;

static void hash_step(void *context, lm_token_set allowed, int32_t token, bool discarded)
{
    (void)discarded;
    hashing *hash = context;
    hash->value = walk_mix(hash->value ^ walk_set_hash(hash->world, allowed));
    hash->value = walk_mix(hash->value + (uint64_t)token);
}

static lm_grammar *open_grammar(const walk_world *world, const json_t *block)
{
    lm_grammar_options options = {
        .profile = strcmp(json_string_value(json_object_get(block, "profile")), "official") == 0 ? LM_PROFILE_OFFICIAL
                                                                                                 : LM_PROFILE_DEFAULT,
        .max_duration = (int)json_integer_value(json_object_get(block, "max_duration")),
        .genres_path = json_is_true(json_object_get(block, "genres")) ? GENRES : NULL};
    ace_error error = {0};
    lm_grammar *grammar = lm_grammar_new(world->tokenizer, &options, &error);
    if (!grammar) fail_msg("%s", error.message);
    return grammar;
}

static int64_t check_blocks(const walk_world *world)
{
    const json_t *blocks = json_object_get(world->mine, "blocks"), *block;
    size_t number;
    int64_t total = 0;
    int wrong = 0;
    json_array_foreach(blocks, number, block)
    {
        lm_grammar *grammar = open_grammar(world, block);
        uint64_t value = 0;
        int64_t steps = 0, walks = json_integer_value(json_object_get(block, "walks"));
        for (int64_t walk = 0; walk < walks; walk++) {
            hashing hash = {.world = world};
            ace_error error = {0};
            int count = walk_run(world, grammar, number * BLOCK_WALKS + (uint64_t)walk, hash_step, &hash, &error);
            if (count < 0) fail_msg("%s", error.message);
            steps += count;
            value = walk_mix(value ^ hash.value);
        }
        lm_grammar_free(grammar);
        char text[32];
        snprintf(text, sizeof text, "%016llx", (unsigned long long)value);
        const char *expected = json_string_value(json_object_get(block, "hash"));
        if (strcmp(text, expected) != 0 || steps != json_integer_value(json_object_get(block, "steps"))) {
            print_message("block %zu (%s): %lld steps, hash %s; the reference: %lld steps, hash %s\n", number,
                          json_string_value(json_object_get(block, "profile")), (long long)steps, text,
                          (long long)json_integer_value(json_object_get(block, "steps")), expected);
            wrong++;
        }
        total += steps;
    }
    assert_int_equal(wrong, 0);
    assert_true(total > 0);
    return total;
}

/* ---- the walks that are kept in full: where a hash only says that something is wrong, these say what ------------- */

typedef struct comparing {
    const walk_world *world;
    const json_t *steps;
    const char *text;
    size_t at;
    uint64_t number;
} comparing;

static void compare_step(void *context, lm_token_set allowed, int32_t token, bool discarded)
{
    comparing *c = context;
    if (discarded) return;
    const json_t *step = json_array_get(c->steps, c->at);
    int64_t count = json_integer_value(json_array_get(step, 0)), id = json_integer_value(json_array_get(step, 1));
    if (!step || count != lm_token_set_size(allowed) || id != token)
        fail_msg("walk %llu, token %zu: %lld allowed, %d chosen; the reference: %lld allowed, %lld chosen, in\n%s",
                 (unsigned long long)c->number, c->at, (long long)lm_token_set_size(allowed), (int)token,
                 (long long)count, (long long)id, c->text);
    c->at++;
}

static void check_readable(const walk_world *world)
{
    const json_t *walks = json_object_get(world->mine, "walks"), *walk;
    size_t i;
    assert_true(json_array_size(walks) >= 5);
    json_array_foreach(walks, i, walk)
    {
        comparing c = {.world = world,
                       .steps = json_object_get(walk, "steps"),
                       .text = json_string_value(json_object_get(walk, "text")),
                       .number = (uint64_t)json_integer_value(json_object_get(walk, "number"))};
        lm_grammar *grammar =
            open_grammar(world, json_array_get(json_object_get(world->mine, "blocks"), c.number / BLOCK_WALKS));
        ace_error error = {0};
        if (walk_run(world, grammar, c.number, compare_step, &c, &error) < 0) fail_msg("%s", error.message);
        assert_int_equal(c.at, json_array_size(c.steps));
        lm_grammar_free(grammar);
    }
}

/* ---- as many as one likes ---------------------------------------------------------------------------------------- */

/* Reads "walk tokens hash" a line until the end; false when a walk of ours is another one. */
static bool check_stream(const walk_world *world, FILE *lines)
{
    const json_t *blocks = json_object_get(world->mine, "blocks");
    lm_grammar *grammar = NULL;
    uint64_t number, expected, current = UINT64_MAX;
    int64_t walks = 0, total = 0, wrong = 0;
    int steps;
    while (fscanf(lines, "%" SCNu64 " %d %" SCNx64, &number, &steps, &expected) == 3) {
        if (number / BLOCK_WALKS != current) {
            current = number / BLOCK_WALKS;
            lm_grammar_free(grammar);
            grammar = open_grammar(world, json_array_get(blocks, current));
        }
        hashing hash = {.world = world};
        ace_error error = {0};
        int count = walk_run(world, grammar, number, hash_step, &hash, &error);
        if (count < 0) fail_msg("%s", error.message);
        if (count != steps || hash.value != expected) {
            printf("walk %" PRIu64 ": %d tokens, hash %016" PRIx64 "; the reference: %d tokens, hash %016" PRIx64 "\n",
                   number, count, hash.value, steps, expected);
            wrong++;
        }
        walks++;
        total += count;
    }
    lm_grammar_free(grammar);
    printf("%" PRId64 " walks compared, %" PRId64 " tokens: %" PRId64 " are different\n", walks, total, wrong);
    return feof(lines) && walks > 0 && wrong == 0;
}

/* ---- the two tokenizers --------------------------------------------------------------------------------------- */

typedef struct opened {
    ace_tokenizer *tokenizer;
    json_t *goldens;
    walk_world world;
} opened;

static opened open_world(const char *path, const char *name, bool add_codes)
{
    ace_error error = {0};
    opened o = {tokenizer_open_json(path, &error), json_load_file(TEST_DATA "/lm/grammar.json", 0, NULL), {0}};
    if (!o.tokenizer || (add_codes && !tokenizer_set_audio_codes(o.tokenizer, 151669, 65535, &error)))
        fail_msg("%s", error.message);
    assert_non_null(o.goldens);
    walk_world_open(&o.world, o.tokenizer, o.goldens, name);
    assert_non_null(o.world.mine);
    assert_int_equal(o.world.limit, json_integer_value(json_object_get(o.world.mine, "limit")));
    return o;
}

static void close_world(opened *o)
{
    walk_world_close(&o->world);
    json_decref(o->goldens);
    tokenizer_close(o->tokenizer);
}

static void check_tokenizer(const char *path, const char *name, bool add_codes)
{
    opened o = open_world(path, name, add_codes);
    clock_t start = clock();
    check_readable(&o.world);
    int64_t steps = check_blocks(&o.world);
    print_message("%lld steps of random walks in %.1f s\n", (long long)steps,
                  (double)(clock() - start) / CLOCKS_PER_SEC);
    close_world(&o);
}

static void test_small(void **state)
{
    (void)state;
    check_tokenizer(SMALL, "small", false);
}

static void test_qwen3(void **state)
{
    (void)state;
    if (!ace_path_exists(QWEN3)) {
        print_message("skipped: %s is not there\n", QWEN3);
        skip();
    }
    check_tokenizer(QWEN3, "qwen3", true);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "-") == 0) {
        opened o = open_world(QWEN3, "qwen3", true);
        bool same = check_stream(&o.world, stdin);
        close_world(&o);
        return same ? 0 : 1;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_small), cmocka_unit_test(test_qwen3)};
    return cmocka_run_group_tests_name("lm/grammar_walks", tests, NULL, NULL);
}
