/* Random walks through the grammar against the official class, in both profiles: what is allowed at every position, and
 * what is chosen there. tests/data/lm/grammar.json holds what the reference says. */
#include "lm/grammar_walk.h"

#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#define SMALL TEST_DATA "/text/tokenizer.json"
#define QWEN3 SHARED_DATA "/qwen3-tokenizer/tokenizer.json"
#define GENRES TEST_DATA "/lm/grammar_genres.txt"

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
            int count = walk_run(world, grammar, number * 1000000 + (uint64_t)walk, hash_step, &hash, &error);
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
            open_grammar(world, json_array_get(json_object_get(world->mine, "blocks"), c.number / 1000000));
        ace_error error = {0};
        if (walk_run(world, grammar, c.number, compare_step, &c, &error) < 0) fail_msg("%s", error.message);
        assert_int_equal(c.at, json_array_size(c.steps));
        lm_grammar_free(grammar);
    }
}

/* ---- the two tokenizers --------------------------------------------------------------------------------------- */

static void check_tokenizer(const ace_tokenizer *tokenizer, const char *name)
{
    json_t *goldens = json_load_file(TEST_DATA "/lm/grammar.json", 0, NULL);
    assert_non_null(goldens);
    walk_world world;
    walk_world_open(&world, tokenizer, goldens, name);
    assert_non_null(world.mine);
    assert_int_equal(world.limit, json_integer_value(json_object_get(world.mine, "limit")));
    clock_t start = clock();
    check_readable(&world);
    int64_t steps = check_blocks(&world);
    print_message("%lld steps of random walks in %.1f s\n", (long long)steps,
                  (double)(clock() - start) / CLOCKS_PER_SEC);
    walk_world_close(&world);
    json_decref(goldens);
}

static void test_small(void **state)
{
    (void)state;
    ace_error error = {0};
    ace_tokenizer *tokenizer = tokenizer_open_json(SMALL, &error);
    if (!tokenizer) fail_msg("%s", error.message);
    check_tokenizer(tokenizer, "small");
    tokenizer_close(tokenizer);
}

static void test_qwen3(void **state)
{
    (void)state;
    if (!ace_path_exists(QWEN3)) {
        print_message("skipped: %s is not there\n", QWEN3);
        skip();
    }
    ace_error error = {0};
    ace_tokenizer *tokenizer = tokenizer_open_json(QWEN3, &error);
    if (!tokenizer || !tokenizer_set_audio_codes(tokenizer, 151669, 65535, &error)) fail_msg("%s", error.message);
    check_tokenizer(tokenizer, "qwen3");
    tokenizer_close(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_small), cmocka_unit_test(test_qwen3)};
    return cmocka_run_group_tests_name("lm/grammar_walks", tests, NULL, NULL);
}
