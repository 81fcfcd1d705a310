/* Every audio code of the planner through Qwen3's tokenizer, text to id to text: with a file that lists the codes, as
 * the planner's checkpoints do, and with one that does not. */
#include "base/file.h"
#include "base/memory.h"
#include "text/bpe.h"

#include <inttypes.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define QWEN3 SHARED_DATA "/qwen3-tokenizer/tokenizer.json"

enum { FIRST = 151669, COUNT = 65535, LITERAL = 32 };

static void need_qwen3(void)
{
    if (ace_path_exists(QWEN3)) return;
    print_message("skipped: %s is not there\n", QWEN3);
    skip();
}

static int literal_of(char *text, int32_t number)
{
    return snprintf(text, LITERAL, "<|audio_code_%" PRId32 "|>", number);
}

/* The file as it is saved after a planner's tokens were added to it. */
static ace_tokenizer *open_with_listed_codes(void)
{
    json_t *json = json_load_file(QWEN3, 0, NULL);
    assert_non_null(json);
    json_t *added = json_object_get(json, "added_tokens");
    for (int32_t n = 0; n < COUNT; n++) {
        char literal[LITERAL];
        literal_of(literal, n);
        json_array_append_new(added,
                              json_pack("{si ss sb sb sb sb sb}", "id", FIRST + n, "content", literal, "single_word", 0,
                                        "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 0));
    }
    char *text = json_dumps(json, JSON_COMPACT);
    assert_non_null(text);
    ace_error error = {0};
    ace_tokenizer *tokenizer = tokenizer_open_memory(text, strlen(text), &error);
    if (!tokenizer) fail_msg("%s", error.message);
    free(text);
    json_decref(json);
    return tokenizer;
}

static ace_tokenizer *open_and_set_codes(void)
{
    ace_error error = {0};
    ace_tokenizer *tokenizer = tokenizer_open_json(QWEN3, &error);
    if (!tokenizer || !tokenizer_set_audio_codes(tokenizer, FIRST, COUNT, &error)) fail_msg("%s", error.message);
    return tokenizer;
}

static void check_ids(const ace_tokenizer *tokenizer, const ace_text *text, const int32_t *wanted, size_t count)
{
    ace_error error = {0};
    ace_ids ids = {0};
    ace_text back = {0};
    if (!tokenizer_encode(tokenizer, text->data, text->length, &ids, &error)) fail_msg("%s", error.message);
    assert_int_equal(ids.count, count);
    assert_memory_equal(ids.data, wanted, count * sizeof *wanted);
    if (!tokenizer_decode(tokenizer, ids.data, ids.count, &back, &error)) fail_msg("%s", error.message);
    assert_int_equal(back.length, text->length);
    assert_memory_equal(back.data, text->data, text->length);
    ace_text_free(&back);
    ace_ids_free(&ids);
}

static void check_every_code(ace_tokenizer *tokenizer)
{
    assert_int_equal(tokenizer_audio_first(tokenizer), FIRST);
    assert_int_equal(tokenizer_audio_count(tokenizer), COUNT);
    assert_int_equal(tokenizer_limit(tokenizer), FIRST + COUNT);
    int32_t *ids = malloc(COUNT * sizeof *ids);
    assert_non_null(ids);
    ace_text all = {0};
    for (int32_t n = 0; n < COUNT; n++) { /* one at a time */
        char literal[LITERAL];
        ace_text one = {.data = literal, .length = (size_t)literal_of(literal, n)};
        ids[n] = FIRST + n;
        check_ids(tokenizer, &one, &ids[n], 1);
        assert_int_equal(tokenizer_added(tokenizer, literal), FIRST + n);
        ace_text_add(&all, literal);
    }
    check_ids(tokenizer, &all, ids, COUNT); /* and all in a row */
    ace_text_free(&all);
    free(ids);
}

/* What looks like a code but is none is text, which comes back as it was. */
static void check_near_misses(const ace_tokenizer *tokenizer)
{
    static const char *const texts[] = {"<|audio_code_65535|>", "<|audio_code_00|>", "<|audio_code_-1|>",
                                        "<|audio_code_|>",      "<|audio_code_1|",   "<|AUDIO_CODE_1|>"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        ace_error error = {0};
        ace_ids ids = {0};
        ace_text back = {0};
        assert_int_equal(tokenizer_added(tokenizer, texts[i]), -1);
        assert_true(tokenizer_encode(tokenizer, texts[i], strlen(texts[i]), &ids, &error));
        assert_true(ids.count > 1);
        for (size_t at = 0; at < ids.count; at++) assert_true(ids.data[at] < FIRST);
        assert_true(tokenizer_decode(tokenizer, ids.data, ids.count, &back, &error));
        assert_string_equal(back.data, texts[i]);
        ace_text_free(&back);
        ace_ids_free(&ids);
    }
}

static void codes_that_the_file_lists(void **state)
{
    (void)state;
    need_qwen3();
    ace_tokenizer *tokenizer = open_with_listed_codes();
    check_every_code(tokenizer);
    check_near_misses(tokenizer);
    tokenizer_close(tokenizer);
}

static void codes_that_the_file_does_not_list(void **state)
{
    (void)state;
    need_qwen3();
    ace_tokenizer *tokenizer = open_and_set_codes();
    check_every_code(tokenizer);
    check_near_misses(tokenizer);
    tokenizer_close(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(codes_that_the_file_lists),
        cmocka_unit_test(codes_that_the_file_does_not_list),
    };
    return cmocka_run_group_tests_name("text/audio_codes", tests, NULL, NULL);
}
