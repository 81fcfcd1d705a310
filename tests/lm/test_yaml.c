/* The YAML emitter against PyYAML: random texts by hash, and the table of spec/lm.md 9.4. */
#include "random_case.h"

#include "base/memory.h"
#include "lm/lm_yaml.h"

static void yaml_case(random_case *random, ace_text *out)
{
    ace_text text = {0};
    case_text(random, &text);
    assert_true(lm_yaml_write(out, "caption", (lm_slice){case_string(&text), text.length}, NULL));
    ace_text_free(&text);
}

static void random_texts_are_pyyamls(void **state)
{
    (void)state;
    case_check("yaml", CASE_YAML, yaml_case);
}

static void assert_yaml(const char *key, const char *value, size_t n, const char *wanted)
{
    ace_text out = {0};
    assert_true(lm_yaml_write(&out, key, (lm_slice){value, n}, NULL));
    assert_string_equal(out.data, wanted);
    ace_text_free(&out);
}

static void known_texts(void **state)
{
    (void)state;
    static const char *const table[][3] = {
        {"language", "no", "language: 'no'\n"},
        {"timesignature", "1:30", "timesignature: '1:30'\n"},
        {"timesignature", "12/8", "timesignature: 12/8\n"},
        {"bpm", "120.5", "bpm: '120.5'\n"},
        {"bpm", "N/A", "bpm: N/A\n"},
        {"keyscale", "B\u266d major", "keyscale: B\u266d major\n"},
        {"caption", "", "caption: ''\n"},
        {"caption", "Rock: heavy guitars", "caption: 'Rock: heavy guitars'\n"},
        {"caption", "'Quoted by the model: it''s odd'", "caption: '''Quoted by the model: it''''s odd'''\n"},
        {"caption", "\"Double\" quoted start", "caption: '\"Double\" quoted start'\n"},
        {"caption", "ends with colon:", "caption: 'ends with colon:'\n"},
        {"caption", "has #hash and a #tag", "caption: 'has #hash and a #tag'\n"},
        {"caption", "C# major feel", "caption: C# major feel\n"},
        {"caption", "a - b, c; d [e] {f}", "caption: a - b, c; d [e] {f}\n"},
        {"caption", "- starts with dash", "caption: '- starts with dash'\n"},
        {"caption", "-starts", "caption: -starts\n"},
        {"caption", "?maybe", "caption: ?maybe\n"},
        {"caption", "? maybe", "caption: '? maybe'\n"},
        {"caption", "2024-05-01", "caption: '2024-05-01'\n"},
        {"caption", "1e3", "caption: 1e3\n"},
        {"caption", ".5", "caption: '.5'\n"},
        {"caption", "0x1F", "caption: '0x1F'\n"},
        {"caption", "1_000", "caption: '1_000'\n"},
        {"caption", "12:30:45", "caption: '12:30:45'\n"},
        {"caption", "tab\there", "caption: \"tab\\there\"\n"},
        {"caption", "emoji \U0001f3b5 inside", "caption: emoji \U0001f3b5 inside\n"},
        {"caption", "tab\t\U0001f3b5", "caption: \"tab\\t\\U0001F3B5\"\n"},
        {"caption", "bom\ufeffx", "caption: \"bom\\uFEFFx\"\n"},
        {"caption", " lead", "caption: ' lead'\n"},
        {"caption", "two\nlines", "caption: 'two\n\n  lines'\n"},
        {"caption", "two \nlines", "caption: \"two \\nlines\"\n"},
        {"caption", "--- doc", "caption: '--- doc'\n"},
        {"caption", "...", "caption: '...'\n"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        assert_yaml(table[i][0], table[i][1], strlen(table[i][1]), table[i][2]);
    assert_yaml("caption", "a\0b", 3, "caption: \"a\\0b\"\n");
}

static void lines_fold_behind_column_80(void **state)
{
    (void)state;
    ace_text text = {0}, wanted = {0};
    for (int i = 0; i < 40; i++) ace_text_add(&text, i ? " word" : "word");
    ace_text_add(&wanted, "caption:");
    for (int i = 0; i < 40; i++) ace_text_add(&wanted, i == 15 || i == 31 ? "\n  word" : " word");
    ace_text_add(&wanted, "\n");
    assert_yaml("caption", text.data, text.length, wanted.data);
    text.length = wanted.length = 0;
    /* columns count characters: 90 of them are one word, three bytes each */
    for (int i = 0; i < 90; i++) ace_text_add(&text, "中");
    ace_text_add(&wanted, "caption: ");
    ace_text_add(&wanted, text.data);
    ace_text_add(&text, " 中文 字");
    ace_text_add(&wanted, "\n  中文 字\n");
    assert_yaml("caption", text.data, text.length, wanted.data);
    ace_text_free(&text);
    ace_text_free(&wanted);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    for (long n = 1; n < 20; n++) {
        ace_text out = {0};
        ace_error error = {0};
        ace_fault_arm(n);
        bool ok = lm_yaml_write(&out, "caption", lm_slice_of("a: \tb"), &error);
        ace_fault_arm(0);
        if (!ok) assert_int_equal(error.status, ACE_ERROR_MEMORY);
        if (ok && !out.failed) {
            assert_true(n > 2);
            assert_string_equal(out.data, "caption: \"a: \\tb\"\n");
        }
        ace_text_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_texts_are_pyyamls),
        cmocka_unit_test(known_texts),
        cmocka_unit_test(lines_fold_behind_column_80),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
