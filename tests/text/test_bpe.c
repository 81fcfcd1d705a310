/* The tokenizer against Hugging Face `tokenizers`: the goldens of tools/reference/make_tokenizer_goldens.py. */
#include "random_text.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "formats/tensors.h"
#include "text/bpe.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#define SMALL TEST_DATA "/text/tokenizer.json"
#define QWEN3 SHARED_DATA "/qwen3-tokenizer/tokenizer.json"

enum { BLOCK = 1000 };

static ace_tokenizer *open_or_fail(const char *path)
{
    ace_error error = {0};
    ace_tokenizer *tokenizer = tokenizer_open_json(path, &error);
    if (!tokenizer) fail_msg("%s", error.message);
    return tokenizer;
}

/* NULL, after saying so, when the machine does not have Qwen3's file. */
static ace_tokenizer *open_qwen3(void)
{
    if (ace_path_exists(QWEN3)) return open_or_fail(QWEN3);
    print_message("skipped: no Qwen3 tokenizer\n");
    return NULL;
}

static ace_ids encode(const ace_tokenizer *tokenizer, const char *text, size_t n)
{
    ace_error error = {0};
    ace_ids ids = {0};
    if (!tokenizer_encode(tokenizer, text, n, &ids, &error)) fail_msg("%s", error.message);
    return ids;
}

static ace_text decode(const ace_tokenizer *tokenizer, ace_ids ids)
{
    ace_error error = {0};
    ace_text text = {0};
    if (!tokenizer_decode(tokenizer, ids.data, ids.count, &text, &error)) fail_msg("%s", error.message);
    return text;
}

static void assert_ids(const ace_tokenizer *tokenizer, const char *text, size_t n, const int32_t *wanted, size_t count)
{
    ace_ids ids = encode(tokenizer, text, n);
    for (size_t i = 0; i < count && i < ids.count; i++)
        if (ids.data[i] != wanted[i])
            fail_msg("'%s': token %zu is %d, not %d", text, i, (int)ids.data[i], (int)wanted[i]);
    if (ids.count != count) fail_msg("'%s': %zu tokens, not %zu", text, ids.count, count);
    ace_ids_free(&ids);
}

/* ---- goldens ----------------------------------------------------------------------------------------------- */

static json_t *read_goldens(void)
{
    json_error_t why;
    json_t *goldens = json_load_file(TEST_DATA "/text/goldens.json", JSON_ALLOW_NUL, &why);
    if (!goldens) fail_msg("%s", why.text);
    assert_true(json_array_size(goldens) > 700);
    return goldens;
}

/* Checks every golden that has a list under `key`; returns how many. */
static size_t check_goldens(const ace_tokenizer *tokenizer, const char *key)
{
    json_t *goldens = read_goldens();
    size_t checked = 0;
    for (size_t g = 0; g < json_array_size(goldens); g++) {
        json_t *golden = json_array_get(goldens, g), *text = json_object_get(golden, "text");
        json_t *list = json_object_get(golden, key), *back = json_object_get(golden, "back");
        if (!list) continue;
        size_t count = json_array_size(list);
        int32_t *wanted = calloc(count + 1, sizeof *wanted);
        for (size_t i = 0; i < count; i++) wanted[i] = (int32_t)json_integer_value(json_array_get(list, i));
        assert_ids(tokenizer, json_string_value(text), json_string_length(text), wanted, count);
        ace_text decoded = decode(tokenizer, (ace_ids){wanted, count, count});
        if (strcmp(key, "normalized") != 0) {
            assert_int_equal(decoded.length, json_string_length(back));
            if (decoded.length > 0) assert_memory_equal(decoded.data, json_string_value(back), decoded.length);
        }
        ace_text_free(&decoded);
        free(wanted);
        checked++;
    }
    json_decref(goldens);
    return checked;
}

static void test_strings_small(void **state)
{
    (void)state;
    ace_tokenizer *tokenizer = open_or_fail(SMALL);
    assert_true(check_goldens(tokenizer, "small") > 700);
    tokenizer_close(tokenizer);
}

static void test_strings_qwen3(void **state)
{
    (void)state;
    ace_tokenizer *tokenizer = open_qwen3();
    if (!tokenizer) return;
    assert_true(check_goldens(tokenizer, "qwen3") > 650);
    tokenizer_close(tokenizer);
}

/* Added tokens with "normalized": true are looked for in the normalised text. */
static void test_strings_normalized_added_tokens(void **state)
{
    (void)state;
    ace_error error = {0};
    size_t n;
    char *json = ace_read_file(SMALL, 1 << 20, &n, &error);
    assert_non_null(json);
    static const char from[] = "\"normalized\":false", to[] = "\"normalized\":true ";
    int changed = 0;
    for (char *p = json; (p = strstr(p, from)); p += strlen(to), changed++) memcpy(p, to, strlen(to));
    assert_int_equal(changed, 126);
    ace_tokenizer *tokenizer = tokenizer_open_memory(json, n, &error);
    if (!tokenizer) fail_msg("%s", error.message);
    assert_true(check_goldens(tokenizer, "normalized") > 700);
    tokenizer_close(tokenizer);
    free(json);
}

/* ---- random strings ---------------------------------------------------------------------------------------- */

/* The hash of the ids of one block of random strings, and of what they decode to. */
static void hash_block(const ace_tokenizer *tokenizer, int block, const random_ranges *ranges, uint64_t hashes[2])
{
    uint64_t state = (uint64_t)block;
    hashes[0] = hashes[1] = RANDOM_HASH;
    for (int i = 0; i < BLOCK; i++) {
        ace_text text = {0};
        random_text(&state, block % RANDOM_MIXES, ranges, &text);
        assert_false(text.failed);
        ace_ids ids = encode(tokenizer, text.data, text.length);
        ace_text back = decode(tokenizer, ids);
        int32_t count = (int32_t)ids.count;
        hashes[0] = random_hash(random_hash(hashes[0], &count, 4), ids.data, ids.count * 4);
        hashes[1] = random_hash(hashes[1], back.data, back.length + 1);
        ace_text_free(&text);
        ace_text_free(&back);
        ace_ids_free(&ids);
    }
}

static void check_random(const ace_tokenizer *tokenizer, bool qwen3)
{
    static random_ranges ranges;
    assert_true(random_ranges_read(&ranges, TEST_DATA "/text/ranges.txt"));
    FILE *file = fopen(TEST_DATA "/text/random.txt", "r");
    assert_non_null(file);
    int block, blocks = 0;
    unsigned long long small[2], large[2];
    while (fscanf(file, "encode %d %llx %llx %llx %llx ", &block, &small[0], &small[1], &large[0], &large[1]) == 5) {
        uint64_t hashes[2];
        hash_block(tokenizer, block, &ranges, hashes);
        if (hashes[0] != (qwen3 ? large : small)[0]) fail_msg("ids of random block %d differ", block);
        if (hashes[1] != (qwen3 ? large : small)[1]) fail_msg("decoded text of random block %d differs", block);
        blocks++;
    }
    fclose(file);
    assert_int_equal(blocks, 105);
}

static void test_random_small(void **state)
{
    (void)state;
    ace_tokenizer *tokenizer = open_or_fail(SMALL);
    check_random(tokenizer, false);
    tokenizer_close(tokenizer);
}

static void test_random_qwen3(void **state)
{
    (void)state;
    ace_tokenizer *tokenizer = open_qwen3();
    if (!tokenizer) return;
    check_random(tokenizer, true);
    tokenizer_close(tokenizer);
}

/* Random ids are no UTF-8: the reference's replacement characters. */
static void test_random_decode(void **state)
{
    (void)state;
    ace_tokenizer *tokenizer = open_or_fail(SMALL);
    FILE *file = fopen(TEST_DATA "/text/random.txt", "r");
    assert_non_null(file);
    char line[256];
    int blocks = 0, block;
    unsigned long long wanted;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "decode %d %llx", &block, &wanted) != 2) continue;
        uint64_t random = 1000 + (uint64_t)block, hash = RANDOM_HASH;
        for (int i = 0; i < BLOCK; i++) {
            int32_t ids[20];
            size_t count = 1 + random_below(&random, 20);
            for (size_t k = 0; k < count; k++)
                ids[k] = (int32_t)random_below(&random,
                                               random_below(&random, 2) ? 256 : (unsigned)tokenizer_limit(tokenizer));
            ace_text text = decode(tokenizer, (ace_ids){ids, count, count});
            hash = random_hash(hash, text.data, text.length + 1);
            ace_text_free(&text);
        }
        if (hash != wanted) fail_msg("random id block %d decodes differently", block);
        blocks++;
    }
    fclose(file);
    assert_int_equal(blocks, 10);
    tokenizer_close(tokenizer);
}

/* ---- rules of the prompts ---------------------------------------------------------------------------------- */

/* spec/lm.md 1.5 */
static void test_prompts_qwen3(void **state)
{
    (void)state;
    ace_tokenizer *tokenizer = open_qwen3();
    if (!tokenizer) return;
    static const char lyrics[] = "# Languages\nunknown\n\n# Lyric\n[Instrumental]<|endoftext|>";
    static const int32_t wanted[] = {2,   54964, 198,   16088, 271, 2,      15953, 2216,
                                     198, 58,    56324, 278,   60,  151643, 151643};
    ace_error error = {0};
    ace_ids ids = {0};
    assert_int_equal(tokenizer_appended(tokenizer), -1);
    assert_int_equal(tokenizer_limit(tokenizer), 151669);
    assert_true(tokenizer_encode_prompt(tokenizer, lyrics, strlen(lyrics), 2048, &ids, &error));
    assert_int_equal(ids.count, 15);
    assert_memory_equal(ids.data, wanted, sizeof wanted);
    assert_true(tokenizer_encode_prompt(tokenizer, lyrics, strlen(lyrics), 4, &ids, &error));
    assert_int_equal(ids.count, 19);
    assert_memory_equal(ids.data + 15, wanted, 3 * sizeof *wanted);
    assert_int_equal(ids.data[18], 151643);
    ace_ids_free(&ids);

    assert_true(tokenizer_set_audio_codes(tokenizer, 151669, 65535, &error));
    static const char codes[] = "<|audio_code_0|><|audio_code_63999|><|audio_code_65534|>";
    static const int32_t code_ids[] = {151669, 215668, 217203};
    assert_ids(tokenizer, codes, strlen(codes), code_ids, 3);
    assert_int_equal(tokenizer_limit(tokenizer), 217204);
    assert_int_equal(tokenizer_added(tokenizer, "<|audio_code_65534|>"), 217203);
    assert_int_equal(tokenizer_added(tokenizer, "<|audio_code_65535|>"), -1);
    ace_text text = decode(tokenizer, (ace_ids){(int32_t[]){151669, 215668, 217203}, 3, 3});
    assert_string_equal(text.data, codes);
    ace_text_free(&text);
    tokenizer_close(tokenizer);
}

static void test_prompt_is_cut_and_ended(void **state)
{
    (void)state;
    ace_tokenizer *tokenizer = open_or_fail(SMALL);
    int32_t end = tokenizer_added(tokenizer, "<|endoftext|>");
    assert_int_equal(end, 2000);
    assert_int_equal(tokenizer_appended(tokenizer), end);
    ace_error error = {0};
    static const char text[] = "one two three four five six seven eight nine ten";
    ace_ids whole = encode(tokenizer, text, strlen(text));
    for (size_t limit = 1; limit < whole.count + 4; limit++) {
        ace_ids ids = {0};
        assert_true(ace_ids_append(&ids, 7, &error));
        assert_true(tokenizer_encode_prompt(tokenizer, text, strlen(text), limit, &ids, &error));
        size_t kept = limit - 1 < whole.count ? limit - 1 : whole.count;
        assert_int_equal(ids.count, kept + 2);
        assert_int_equal(ids.data[0], 7);
        if (kept > 0) assert_memory_equal(ids.data + 1, whole.data, kept * 4);
        assert_int_equal(ids.data[kept + 1], end);
        ace_ids_free(&ids);
    }
    ace_ids ids = {0};
    assert_false(tokenizer_encode_prompt(tokenizer, text, strlen(text), 0, &ids, &error));
    assert_int_equal(error.status, ACE_ERROR_USAGE);
    ace_ids_free(&whole);
    tokenizer_close(tokenizer);
}

static void test_audio_codes(void **state)
{
    (void)state;
    ace_tokenizer *tokenizer = open_or_fail(SMALL);
    int32_t first = tokenizer_audio_first(tokenizer);
    assert_int_equal(first, 2026);
    assert_int_equal(tokenizer_audio_count(tokenizer), 100);
    assert_int_equal(tokenizer_limit(tokenizer), 2126);
    ace_error error = {0};
    assert_true(tokenizer_set_audio_codes(tokenizer, 2026, 100, &error));
    assert_false(tokenizer_set_audio_codes(tokenizer, 2026, 65535, &error));
    assert_int_equal(error.status, ACE_ERROR_MODEL);
    for (int32_t n = 0; n < 100; n++) {
        char literal[32];
        snprintf(literal, sizeof literal, "<|audio_code_%d|>", (int)n);
        assert_ids(tokenizer, literal, strlen(literal), &(int32_t){first + n}, 1);
        assert_int_equal(tokenizer_added(tokenizer, literal), first + n);
    }
    assert_int_equal(tokenizer_added(tokenizer, "<|audio_code_100|>"), -1);
    assert_int_equal(tokenizer_added(tokenizer, "<|audio_code_07|>"), -1);
    assert_int_equal(tokenizer_added(tokenizer, ""), -1);
    size_t length = 0;
    assert_memory_equal(tokenizer_token_bytes(tokenizer, 2025, &length), "</think>", 8);
    assert_int_equal(length, 8);
    assert_null(tokenizer_token_bytes(tokenizer, first, &length));
    assert_null(tokenizer_token_bytes(tokenizer, -1, &length));
    tokenizer_close(tokenizer);
}

/* ---- bad input --------------------------------------------------------------------------------------------- */

static void test_invalid_text_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t n;
        const char *where;
    } cases[] = {{"ab\xff", 3, "byte 2:"},
                 {"\xc3", 1, "byte 0:"},
                 {"<think>\xed\xa0\x80", 10, "byte 7:"},
                 {"x\xf4\x90\x80\x80", 5, "byte 1:"},
                 {"\xc0\x80", 2, "byte 0:"}};
    ace_tokenizer *tokenizer = open_or_fail(SMALL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ace_error error = {0};
        ace_ids ids = {0};
        assert_true(ace_ids_append(&ids, 5, NULL));
        assert_false(tokenizer_encode(tokenizer, cases[i].text, cases[i].n, &ids, &error));
        assert_int_equal(error.status, ACE_ERROR_USAGE);
        if (!strstr(error.message, cases[i].where)) fail_msg("%s", error.message);
        assert_int_equal(ids.count, 1);
        ace_ids_free(&ids);
    }
    static const int32_t unknown[] = {0, 2126};
    ace_error error = {0};
    ace_text text = {0};
    assert_false(tokenizer_decode(tokenizer, unknown, 2, &text, &error));
    assert_int_equal(error.status, ACE_ERROR_USAGE);
    if (!strstr(error.message, "2126")) fail_msg("%s", error.message);
    ace_text_free(&text);
    tokenizer_close(tokenizer);
}

/* Every allocation fails once: a clean error, the list untouched, nothing leaked (the sanitizer build sees to that). */
static void test_memory_faults(void **state)
{
    (void)state;
    static const char text[] =
        "cafe\u0301 \u0344a\u0327\u0301<|im_end|> <|audio_code_3|>"
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    ace_tokenizer *tokenizer = open_or_fail(SMALL);
    long faults = 0;
    for (long n = 1;; n++) {
        ace_error error = {0};
        ace_ids ids = {0};
        ace_text back = {0};
        ace_fault_arm(n);
        bool encoded = tokenizer_encode_prompt(tokenizer, text, strlen(text), 256, &ids, &error);
        bool decoded = encoded && tokenizer_decode(tokenizer, ids.data, ids.count, &back, &error);
        ace_fault_arm(0);
        if (!encoded) assert_int_equal(ids.count, 0);
        if (!decoded) assert_int_equal(error.status, ACE_ERROR_MEMORY);
        ace_ids_free(&ids);
        ace_text_free(&back);
        if (decoded) break;
        faults++;
    }
    assert_true(faults >= 8);
    tokenizer_close(tokenizer);
}

/* ---- speed ------------------------------------------------------------------------------------------------- */

/* A megabyte of anything takes seconds at most; a quadratic step would take hours. */
static void test_long_texts(void **state)
{
    (void)state;
    static const char *const units[] = {"a",
                                        "\n",
                                        " ",
                                        "'",
                                        "<",
                                        "<|audio_code_",
                                        "e\u0301\u0327\u0334",
                                        "\u0301\u0327",
                                        "\u0315\u0300\u05ae\u0301",
                                        "中文歌词，世界",
                                        "हिन्दी",
                                        "\u1100\u1161\u11a8",
                                        "upbeat city pop, female vocal\n"};
    ace_tokenizer *tokenizer = open_or_fail(SMALL);
    for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
        ace_text text = {0};
        while (text.length < 1000000) ace_text_add(&text, units[u]);
        clock_t start = clock();
        ace_ids ids = encode(tokenizer, text.data, text.length);
        double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        print_message("%5.1f MB/s  '%.20s' repeated\n", (double)text.length / seconds * 1e-6,
                      units[u][0] == '\n' ? "\\n" : units[u]);
        assert_true(seconds < 30.0);
        ace_text back = decode(tokenizer, ids);
        ace_ids again = encode(tokenizer, back.data, back.length);
        assert_int_equal(again.count, ids.count);
        assert_memory_equal(again.data, ids.data, ids.count * 4);
        ace_ids_free(&ids);
        ace_ids_free(&again);
        ace_text_free(&back);
        ace_text_free(&text);
    }
    tokenizer_close(tokenizer);
}

static void test_opening_qwen3_is_quick(void **state)
{
    (void)state;
    clock_t start = clock();
    ace_tokenizer *tokenizer = open_qwen3();
    if (!tokenizer) return;
    print_message("Qwen3's tokenizer.json opened in %.3f s\n", (double)(clock() - start) / CLOCKS_PER_SEC);
    tokenizer_close(tokenizer);
}

/* ---- arrays ------------------------------------------------------------------------------------------------ */

typedef struct array {
    const char *strings[4096];
    size_t count;
} array;

static const char *array_at(const void *context, size_t i, size_t *length)
{
    const array *a = context;
    if (i >= a->count || !a->strings[i]) return NULL;
    *length = strlen(a->strings[i]);
    return a->strings[i];
}

/* The arrays that a converter writes: the tokens in id order with the added ones last, and the merges as lines. */
static json_t *read_arrays(array *tokens, array *merges, ace_text *lines)
{
    json_t *json = json_load_file(SMALL, 0, NULL);
    assert_non_null(json);
    json_t *model = json_object_get(json, "model"), *value;
    const char *key;
    *tokens = *merges = (array){0};
    json_object_foreach(json_object_get(model, "vocab"), key, value) tokens->strings[json_integer_value(value)] = key;
    size_t i, starts[4096];
    json_array_foreach(json_object_get(json, "added_tokens"), i, value)
        tokens->strings[json_integer_value(json_object_get(value, "id"))] =
        json_string_value(json_object_get(value, "content"));
    while (tokens->strings[tokens->count]) tokens->count++;
    json_array_foreach(json_object_get(model, "merges"), i, value)
    {
        starts[i] = lines->length;
        ace_text_format(lines, "%s %s", json_string_value(json_array_get(value, 0)),
                        json_string_value(json_array_get(value, 1)));
        ace_text_bytes(lines, "", 1);
    }
    merges->count = json_array_size(json_object_get(model, "merges"));
    for (i = 0; i < merges->count; i++) merges->strings[i] = lines->data + starts[i];
    return json;
}

static ace_tokenizer *open_arrays(const array *tokens, const array *merges, ace_error *error)
{
    tokenizer_strings t = {tokens->count, array_at, tokens}, m = {merges->count, array_at, merges};
    return tokenizer_from_arrays(&t, &m, error);
}

static void test_arrays(void **state)
{
    (void)state;
    static array tokens, merges;
    ace_text lines = {0};
    json_t *json = read_arrays(&tokens, &merges, &lines);
    assert_int_equal(tokens.count, 2126);
    ace_error error = {0};
    ace_tokenizer *tokenizer = open_arrays(&tokens, &merges, &error);
    if (!tokenizer) fail_msg("%s", error.message);
    assert_true(check_goldens(tokenizer, "small") > 700);
    assert_int_equal(tokenizer_audio_first(tokenizer), 2026);
    tokenizer_close(tokenizer);

    /* a vocabulary without added tokens gets Qwen3's, which are the small tokenizer's */
    tokens.count = 2000;
    tokenizer = open_arrays(&tokens, &merges, &error);
    if (!tokenizer) fail_msg("%s", error.message);
    assert_true(tokenizer_set_audio_codes(tokenizer, 2026, 100, &error));
    assert_true(check_goldens(tokenizer, "small") > 700);
    tokenizer_close(tokenizer);

    /* fillers are no tokens */
    tokens.strings[2000] = "[PAD2000]";
    tokens.strings[2001] = "<|endoftext|>";
    tokens.count = 2002;
    tokenizer = open_arrays(&tokens, &merges, &error);
    if (!tokenizer) fail_msg("%s", error.message);
    assert_int_equal(tokenizer_added(tokenizer, "<|endoftext|>"), 2001);
    assert_int_equal(tokenizer_added(tokenizer, "[PAD2000]"), -1);
    assert_false(tokenizer_set_audio_codes(tokenizer, 1990, 11, &error));
    assert_int_equal(error.status, ACE_ERROR_MODEL);
    tokenizer_close(tokenizer);

    static const char *const broken_merges[] = {"", "a", " a", "a ", "a  b", "a b c", "zz zz", "a \xff", NULL};
    for (size_t i = 0; i < sizeof broken_merges / sizeof broken_merges[0]; i++) {
        const char *good = merges.strings[100];
        merges.strings[100] = broken_merges[i];
        error = (ace_error){0};
        assert_null(open_arrays(&tokens, &merges, &error));
        assert_int_equal(error.status, ACE_ERROR_FORMAT);
        if (!strstr(error.message, "merge 100 ")) fail_msg("%s", error.message);
        merges.strings[100] = good;
    }
    tokens.strings[50] = NULL;
    error = (ace_error){0};
    assert_null(open_arrays(&tokens, &merges, &error));
    assert_int_equal(error.status, ACE_ERROR_FORMAT);
    ace_text_free(&lines);
    json_decref(json);
}

/* By hand: which merge comes first, and which added token of several that fit. */
static void test_order(void **state)
{
    (void)state;
    static array tokens, merges;
    ace_text lines = {0};
    json_t *json = read_arrays(&tokens, &merges, &lines);
    static const char *const more[] = {"bc", "ab", "bcd", "abc", "<ab", "<abcd>", "<abc"};
    static const char *const rules[] = {"b c", "a b", "bc d", "a bc"};
    tokens.count = 256; /* the byte alphabet */
    for (size_t i = 0; i < 7; i++) tokens.strings[tokens.count++] = more[i];
    merges.count = 4;
    for (size_t i = 0; i < 4; i++) merges.strings[i] = rules[i];
    ace_error error = {0};
    ace_tokenizer *tokenizer = open_arrays(&tokens, &merges, &error);
    if (!tokenizer) fail_msg("%s", error.message);
    ace_ids letters = encode(tokenizer, "a1b", 3);
    assert_int_equal(letters.count, 3);
    int32_t a = letters.data[0], b = letters.data[2];
    /* "b c" is merged before "a b", and then "bc d" before "a bc" */
    assert_ids(tokenizer, "abcd", 4, (int32_t[]){a, 258}, 2);
    assert_ids(tokenizer, "abc", 3, (int32_t[]){259}, 1);
    assert_ids(tokenizer, "ab", 2, (int32_t[]){257}, 1);
    assert_ids(tokenizer, "ababc", 5, (int32_t[]){257, 259}, 2);
    assert_ids(tokenizer, "<abcd><abc<abb", 14, (int32_t[]){261, 262, 260, b}, 4);
    ace_ids_free(&letters);
    tokenizer_close(tokenizer);
    ace_text_free(&lines);
    json_decref(json);
}

static void test_gguf(void **state)
{
    (void)state;
    ace_error error = {0};
    ace_tensors *tensors = tensors_open(TEST_DATA "/text/tokenizer.gguf", &error);
    if (!tensors) fail_msg("%s", error.message);
    ace_tokenizer *tokenizer = tokenizer_open_gguf(tensors, &error);
    if (!tokenizer) fail_msg("%s", error.message);
    assert_true(tokenizer_set_audio_codes(tokenizer, 2026, 100, &error));
    assert_true(check_goldens(tokenizer, "small") > 700);
    tokenizer_close(tokenizer);
    tensors_close(tensors);
    tensors = tensors_new_synthetic(&error); /* a set without tokenizer metadata */
    assert_non_null(tensors);
    assert_null(tokenizer_open_gguf(tensors, &error));
    assert_int_equal(error.status, ACE_ERROR_MODEL);
    tensors_close(tensors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strings_small),
        cmocka_unit_test(test_strings_qwen3),
        cmocka_unit_test(test_strings_normalized_added_tokens),
        cmocka_unit_test(test_random_small),
        cmocka_unit_test(test_random_qwen3),
        cmocka_unit_test(test_random_decode),
        cmocka_unit_test(test_prompts_qwen3),
        cmocka_unit_test(test_prompt_is_cut_and_ended),
        cmocka_unit_test(test_audio_codes),
        cmocka_unit_test(test_invalid_text_is_refused),
        cmocka_unit_test(test_memory_faults),
        cmocka_unit_test(test_long_texts),
        cmocka_unit_test(test_opening_qwen3_is_quick),
        cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_gguf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
