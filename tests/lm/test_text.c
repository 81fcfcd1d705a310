/* Blanks, digits and numbers are Python's: every value here was computed by CPython 3.11 (Unicode 14). */
#include "lm/lm_text.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* Of every code point that is a digit or white space: itself, three bytes, and digit + 1 with 0x80 for white space. */
static void every_digit_and_every_space(void **state)
{
    (void)state;
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    int digits = 0, spaces = 0;
    for (uint32_t c = 0; c < 0x110000; c++) {
        if (c >= 0xd800 && c <= 0xdfff) continue;
        int digit = lm_digit(c);
        bool space = lm_is_space(c);
        unsigned what = (unsigned)(digit + 1) | (space ? 0x80 : 0);
        if (what == 0) continue;
        digits += digit >= 0;
        spaces += space;
        unsigned bytes[] = {c & 255, c >> 8 & 255, c >> 16, what};
        for (int i = 0; i < 4; i++) hash = (hash ^ bytes[i]) * 0x100000001b3u;
    }
    assert_int_equal(digits, 660);
    assert_int_equal(spaces, 29);
    assert_true(hash == 0xffe356a7cf83f691u);
}

static void integers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t value;
    } good[] = {{"1", 1},
                {"+1", 1},
                {"-0", 0},
                {"007", 7},
                {"1_0", 10},
                {" 12\u00a0", 12},
                {"１２", 12},
                {"٣", 3},
                {"𝟎", 0},
                {"9223372036854775807", INT64_MAX},
                {"-9223372036854775808", INT64_MIN}};
    static const char *const bad[] = {"1__0",
                                      "_1",
                                      "1_",
                                      "+ 1",
                                      "",
                                      "1.0",
                                      "0x1",
                                      "--1",
                                      "1 2",
                                      "²",
                                      "-",
                                      "9223372036854775808",
                                      "-9223372036854775809"};
    int64_t value;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(lm_integer(lm_slice_of(good[i].text), &value));
        assert_true(value == good[i].value);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_false(lm_integer(lm_slice_of(bad[i]), &value));
}

static void numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double value;
    } good[] = {{"1.5", 1.5},
                {".5", 0.5},
                {"5.", 5},
                {"1e3", 1000},
                {"1E+3", 1000},
                {"1_0.5_0", 10.5},
                {"1e1_0", 1e10},
                {"-1.5", -1.5},
                {"+.5e-1", 0.05},
                {"٣.٥", 3.5},
                {"1e-400", 0},
                {"\t7\u3000", 7},
                {"9223372036854775808", 0x1p63}};
    static const char *const bad[] = {".", "1e", "1_.5", "1._5", "1__0.", "1.5f", "0x10", "1,5", "1 .5", "e5", "-", "",
                                      "²",
                                      /* Python reads these, but they are no lengths of songs */
                                      "inf", "nan", "1e400"};
    double value;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(lm_number(lm_slice_of(good[i].text), &value));
        assert_true(value == good[i].value);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_false(lm_number(lm_slice_of(bad[i]), &value));
    char zeros[201];
    memset(zeros, '0', 200);
    zeros[200] = '\0';
    assert_false(lm_number(lm_slice_of(zeros), &value)); /* longer than any number needs to be */
}

static void words(void **state)
{
    (void)state;
    assert_true(lm_is_word(lm_slice_of("KeyScale"), "keyscale") && lm_is_word(lm_slice_of("\u212aey"), "key"));
    assert_false(lm_is_word(lm_slice_of("key"), "keys") || lm_is_word(lm_slice_of("keys"), "key"));
    assert_false(lm_is_word(lm_slice_of("bp\u1e43"), "bpm") || lm_is_word(lm_slice_of(""), "bpm"));
    assert_true(lm_blank(NULL) && lm_blank("") && lm_blank(" \u2003\x1f\n"));
    assert_false(lm_blank("\u200b")); /* ZERO WIDTH SPACE is none */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_digit_and_every_space),
        cmocka_unit_test(integers),
        cmocka_unit_test(numbers),
        cmocka_unit_test(words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
