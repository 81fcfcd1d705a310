/* What tokenizer_open_json() accepts, and what it says about the rest. */
#include "base/file.h"
#include "base/memory.h"
#include "text/bpe.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SMALL TEST_DATA "/text/tokenizer.json"

static json_t *small_json(void)
{
    json_t *json = json_load_file(SMALL, 0, NULL);
    assert_non_null(json);
    return json;
}

static ace_tokenizer *open_tree(const json_t *json, ace_error *error)
{
    char *text = json_dumps(json, JSON_COMPACT);
    assert_non_null(text);
    ace_tokenizer *tokenizer = tokenizer_open_memory(text, strlen(text), error);
    free(text);
    return tokenizer;
}

/* The tokenizer must open and encode like the small one. */
static void check_same(const json_t *json)
{
    static const char text[] = "# Lyric\nI'm dancing <|im_end|> <|audio_code_42|> cafe\u0301 夜空に  響く \n";
    ace_error error = {0};
    ace_tokenizer *same = open_tree(json, &error), *small = tokenizer_open_json(SMALL, &error);
    if (!same || !small) fail_msg("%s", error.message);
    ace_ids a = {0}, b = {0};
    assert_true(tokenizer_encode(same, text, strlen(text), &a, &error));
    assert_true(tokenizer_encode(small, text, strlen(text), &b, &error));
    assert_true(a.count == b.count && a.count > 20);
    assert_memory_equal(a.data, b.data, a.count * sizeof *a.data);
    ace_ids_free(&a);
    ace_ids_free(&b);
    tokenizer_close(same);
    tokenizer_close(small);
}

static void test_merges_as_lines(void **state)
{
    (void)state;
    json_t *json = small_json(), *lines = json_array(), *merge;
    size_t i;
    json_array_foreach(json_object_get(json_object_get(json, "model"), "merges"), i, merge)
        json_array_append_new(lines, json_sprintf("%s %s", json_string_value(json_array_get(merge, 0)),
                                                  json_string_value(json_array_get(merge, 1))));
    json_object_set_new(json_object_get(json, "model"), "merges", lines);
    check_same(json);
    json_decref(json);
}

/* Sections in another order, escapes for everything, whitespace everywhere. */
static void test_any_spelling(void **state)
{
    (void)state;
    ace_error error = {0};
    json_t *json = small_json(), *model = json_object_get(json, "model"), *other = json_object(),
           *reordered = json_object();
    json_object_set(reordered, "merges", json_object_get(model, "merges"));
    json_object_set(reordered, "vocab", json_object_get(model, "vocab"));
    json_object_set_new(other, "model", reordered);
    static const char *const rest[] = {"decoder", "post_processor", "added_tokens", "pre_tokenizer", "normalizer"};
    for (size_t i = 0; i < 5; i++) json_object_set(other, rest[i], json_object_get(json, rest[i]));
    check_same(other);
    char *text = json_dumps(other, JSON_ENSURE_ASCII | JSON_INDENT(7));
    assert_non_null(strstr(text, "\\u0120"));
    ace_tokenizer *tokenizer = tokenizer_open_memory(text, strlen(text), &error);
    if (!tokenizer) fail_msg("%s", error.message);
    assert_int_equal(tokenizer_limit(tokenizer), 2126);
    assert_int_equal(tokenizer_appended(tokenizer), 2000);
    tokenizer_close(tokenizer);
    free(text);
    json_decref(other);
    json_decref(json);
}

/* Without a post-processor that appends, nothing is appended. */
static void test_appended_token_is_read(void **state)
{
    (void)state;
    ace_error error = {0};
    json_t *json = small_json(), *processors = json_object_get(json_object_get(json, "post_processor"), "processors");
    json_t *template = json_incref(json_array_get(processors, 1));
    json_object_set(json, "post_processor", template);
    ace_tokenizer *tokenizer = open_tree(json, &error);
    if (!tokenizer) fail_msg("%s", error.message);
    assert_int_equal(tokenizer_appended(tokenizer), 2000);
    tokenizer_close(tokenizer);
    json_array_remove(json_object_get(template, "single"), 1);
    tokenizer = open_tree(json, &error);
    if (!tokenizer) fail_msg("%s", error.message);
    assert_int_equal(tokenizer_appended(tokenizer), -1);
    tokenizer_close(tokenizer);
    json_object_set_new(json, "post_processor", json_null());
    tokenizer = open_tree(json, &error);
    if (!tokenizer) fail_msg("%s", error.message);
    assert_int_equal(tokenizer_appended(tokenizer), -1);
    tokenizer_close(tokenizer);
    json_decref(template);
    json_decref(json);
}

/* Each case sets the value at a path ("a/0/b"; the last part may be new) and names the status and a word of the
 * message; a value of NULL removes it. */
static const struct {
    const char *path, *value;
    ace_status status;
    const char *word;
} refused[] = {
    {"normalizer", "null", ACE_ERROR_MODEL, "NFC"},
    {"normalizer/type", "\"NFKC\"", ACE_ERROR_MODEL, "NFC"},
    {"pre_tokenizer", "null", ACE_ERROR_MODEL, "pre-tokenizer"},
    {"pre_tokenizer/pretokenizers/0/pattern/Regex", "\"\\\\w+|\\\\s+\"", ACE_ERROR_MODEL, "pre-tokenizes"},
    {"pre_tokenizer/pretokenizers/0/pattern", "{\"String\":\" \"}", ACE_ERROR_MODEL, "fixed string"},
    {"pre_tokenizer/pretokenizers/0/behavior", "\"Removed\"", ACE_ERROR_MODEL, "pre-tokenizes"},
    {"pre_tokenizer/pretokenizers/0/invert", "true", ACE_ERROR_MODEL, "pre-tokenizes"},
    {"pre_tokenizer/pretokenizers/1/use_regex", "true", ACE_ERROR_MODEL, "pre-tokenizes"},
    {"pre_tokenizer/pretokenizers/1/add_prefix_space", "true", ACE_ERROR_MODEL, "pre-tokenizes"},
    {"pre_tokenizer/pretokenizers", "[]", ACE_ERROR_MODEL, "pre-tokenizes"},
    {"decoder", "null", ACE_ERROR_MODEL, "decoder"},
    {"decoder", NULL, ACE_ERROR_MODEL, "lacks"},
    {"decoder/type", "\"WordPiece\"", ACE_ERROR_MODEL, "decoder"},
    {"post_processor/processors/0/type", "\"BertProcessing\"", ACE_ERROR_MODEL, "post-processor"},
    {"post_processor/processors/1/single",
     "[{\"SpecialToken\":{\"id\":\"x\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}]", ACE_ERROR_MODEL,
     "behind the text"},
    {"post_processor/processors/1/special_tokens/<|endoftext|>/ids", "[2000,2001]", ACE_ERROR_MODEL, "define"},
    {"post_processor/processors/1/special_tokens/<|endoftext|>/ids", "[5000]", ACE_ERROR_MODEL, "does not have"},
    {"post_processor/processors/1/special_tokens", "{}", ACE_ERROR_MODEL, "define"},
    {"model/type", "\"Unigram\"", ACE_ERROR_MODEL, "BPE"},
    {"model/dropout", "0.1", ACE_ERROR_MODEL, "random"},
    {"model/unk_token", "\"<unk>\"", ACE_ERROR_MODEL, "unknown token"},
    {"model/continuing_subword_prefix", "\"##\"", ACE_ERROR_MODEL, "inside"},
    {"model/end_of_word_suffix", "\"</w>\"", ACE_ERROR_MODEL, "end of words"},
    {"model/byte_fallback", "true", ACE_ERROR_MODEL, "bytes"},
    {"model/ignore_merges", "true", ACE_ERROR_MODEL, "whole words"},
    {"model/merges", NULL, ACE_ERROR_MODEL, "no merges"},
    {"model/vocab", NULL, ACE_ERROR_MODEL, "no vocabulary"},
    {"model/vocab/a", NULL, ACE_ERROR_MODEL, "0x61"},
    {"model/vocab/new", "5", ACE_ERROR_FORMAT, "id 5 is used twice"},
    {"model/vocab/new", "-1", ACE_ERROR_FORMAT, "id -1"},
    {"model/vocab/new", "99999999", ACE_ERROR_FORMAT, "99999999"},
    {"model/vocab/new", "1.5", ACE_ERROR_FORMAT, "integer"},
    {"model/vocab/ new", "3000", ACE_ERROR_MODEL, "byte alphabet"},
    {"model/vocab/", "3000", ACE_ERROR_MODEL, "empty"},
    {"model/merges/7", "[\"a\"]", ACE_ERROR_FORMAT, "merge 7"},
    {"model/merges/7", "[\"a\",\"b\",\"c\"]", ACE_ERROR_MODEL, "three"},
    {"model/merges/7", "\"a\"", ACE_ERROR_FORMAT, "merge 7"},
    {"model/merges/7", "[\"zq\",\"qz\"]", ACE_ERROR_FORMAT, "merge 7"},
    {"model/merges/7", "[\"\",\"a\"]", ACE_ERROR_FORMAT, "merge 7"},
    {"added_tokens/3/lstrip", "true", ACE_ERROR_MODEL, "trim"},
    {"added_tokens/3/single_word", "true", ACE_ERROR_MODEL, "trim"},
    {"added_tokens/3/id", "7", ACE_ERROR_FORMAT, "another token"},
    {"added_tokens/3/id", "2001", ACE_ERROR_FORMAT, "twice"},
    {"added_tokens/3/id", "-5", ACE_ERROR_FORMAT, "impossible"},
    {"added_tokens/3/id", NULL, ACE_ERROR_FORMAT, "impossible"},
    {"added_tokens/3/content", "\"\"", ACE_ERROR_FORMAT, "empty"},
    {"added_tokens/3/content", "\"a\"", ACE_ERROR_FORMAT, "in the vocabulary"},
    {"added_tokens/3/content", "\"<think>\"", ACE_ERROR_FORMAT, "twice"},
    {"added_tokens/30/content", "\"<|audio_code_98|>\"", ACE_ERROR_FORMAT, "audio_code_98"},
    {"added_tokens/30/id", "9000", ACE_ERROR_FORMAT, "audio_code_4"},
    {"added_tokens/30/normalized", "true", ACE_ERROR_FORMAT, "audio_code_4"},
};

static void set_path(json_t *json, const char *path, const char *value)
{
    char part[128];
    json_t *parent = json;
    for (;;) {
        /* '<|endoftext|>' and the like hold no slash; the last part may be empty */
        size_t n = strcspn(path, "/");
        memcpy(part, path, n);
        part[n] = '\0';
        path += n;
        if (*path == '\0') break;
        path++;
        parent = json_is_array(parent) ? json_array_get(parent, (size_t)atoi(part)) : json_object_get(parent, part);
        assert_non_null(parent);
    }
    if (!value) {
        assert_int_equal(json_object_del(parent, part), 0);
        return;
    }
    json_t *v = json_loads(value, JSON_DECODE_ANY, NULL);
    assert_non_null(v);
    if (json_is_array(parent))
        assert_int_equal(json_array_set_new(parent, (size_t)atoi(part), v), 0);
    else
        assert_int_equal(json_object_set_new(parent, part, v), 0);
}

static void test_what_is_not_implemented_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        ace_error error = {0};
        json_t *json = small_json();
        set_path(json, refused[i].path, refused[i].value);
        if (open_tree(json, &error)) fail_msg("%s = %s was accepted", refused[i].path, refused[i].value);
        if (error.status != refused[i].status || !strstr(error.message, refused[i].word))
            fail_msg("%s = %s: status %d, '%s'", refused[i].path, refused[i].value, (int)error.status, error.message);
        json_decref(json);
    }
}

/* The smallest vocabularies: what comes first is what is wrong. */
static void test_first_token_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *json, *word;
    } cases[] = {
        {"{\"model\":{\"vocab\":{\"\":0}}}", "empty"},
        {"{\"model\":{\"vocab\":{}}}", "0x00"},
        {"{\"model\":{\"vocab\":{\"\u6b4c\u6b4c\u6b4c\u6b4c\u6b4c\u6b4c\u6b4c\u6b4c\u6b4c\u6b4c\u6b4c\u6b4c"
         "\u6b4c\u6b4c\u6b4c\u6b4c\u6b4c\u6b4c\u6b4c\u6b4c\u6b4c\":0}}}",
         "alphabet"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ace_error error = {0};
        assert_null(tokenizer_open_memory(cases[i].json, strlen(cases[i].json), &error));
        assert_int_equal(error.status, ACE_ERROR_MODEL);
        if (!strstr(error.message, cases[i].word)) fail_msg("%s", error.message);
        assert_true(ace_utf8_valid(error.message, strlen(error.message), NULL));
    }
}

/* Prefixes of the file, bytes replaced: an error or a tokenizer, never a crash. */
static void test_damaged_files(void **state)
{
    (void)state;
    ace_error error = {0};
    size_t n;
    char *json = ace_read_file(SMALL, 1 << 20, &n, &error);
    assert_non_null(json);
    for (size_t cut = 0; cut + 2 < n; cut += cut < 2000 ? 1 : 499) {
        error = (ace_error){0};
        assert_null(tokenizer_open_memory(json, cut, &error));
        assert_int_equal(error.status, ACE_ERROR_FORMAT);
        assert_true(strlen(error.message) > 10);
    }
    for (size_t at = 0; at < n; at += at < 1500 ? 1 : 307) {
        char good = json[at];
        static const char bad[] = {'"', '\xff', '\0', '}', '9'};
        for (size_t b = 0; b < sizeof bad; b++) {
            error = (ace_error){0};
            json[at] = bad[b];
            ace_tokenizer *tokenizer = tokenizer_open_memory(json, n, &error);
            assert_true(!tokenizer == (error.status != ACE_OK));
            if (bad[b] == '\xff' || bad[b] == '\0') assert_null(tokenizer);
            tokenizer_close(tokenizer);
        }
        json[at] = good;
    }
    free(json);
    error = (ace_error){0};
    assert_null(tokenizer_open_json(TEST_DATA "/text/none.json", &error));
    assert_int_equal(error.status, ACE_ERROR_IO);
    assert_null(tokenizer_open_json(TEST_DATA "/text/ranges.txt", &(ace_error){0}));
}

static void test_memory_faults(void **state)
{
    (void)state;
    long faults = 0;
    for (long n = 1;; n++) {
        ace_error error = {0};
        ace_fault_arm(n);
        ace_tokenizer *tokenizer = tokenizer_open_json(SMALL, &error);
        ace_fault_arm(0);
        if (tokenizer) {
            tokenizer_close(tokenizer);
            break;
        }
        assert_true(error.status == ACE_ERROR_MEMORY || error.status == ACE_ERROR_IO);
        faults++;
    }
    assert_true(faults > 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merges_as_lines),        cmocka_unit_test(test_any_spelling),
        cmocka_unit_test(test_appended_token_is_read), cmocka_unit_test(test_what_is_not_implemented_is_refused),
        cmocka_unit_test(test_first_token_is_wrong),   cmocka_unit_test(test_damaged_files),
        cmocka_unit_test(test_memory_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
