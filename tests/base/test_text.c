#include "base/dtype.h"
#include "base/error.h"
#include "base/text.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void texts_grow(void **state)
{
    (void)state;
    ace_text text = {0};
    for (int i = 0; i < 1000; i++) ace_text_format(&text, "%d,", i);
    ace_error error = {0};
    char *all = ace_text_take(&text, &error);
    assert_int_equal(strlen(all), 10 * 2 + 90 * 3 + 900 * 4);
    assert_memory_equal(all + strlen(all) - 8, "998,999,", 8);
    free(all);
    all = ace_text_take(&text, &error);
    assert_string_equal(all, "");
    free(all);
}

static void utf8_is_what_unicode_says(void **state)
{
    (void)state;
    static const char *const good[] = {"",
                                       "a",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf"};
    static const char *const bad[] = {"\x80",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xe0\x9f\xbf",
                                      "\xed\xa0\x80",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "\xc2",
                                      "\xe2\x82",
                                      "\xf0\x9f\x98"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) assert_true(ace_utf8_valid(good[i], strlen(good[i]), NULL));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[16] = "ok";
        size_t at = 0;
        strcat(text, bad[i]);
        assert_false(ace_utf8_valid(text, strlen(text), &at));
        assert_int_equal(at, 2);
    }
}

static void the_first_cause_of_an_error_is_kept(void **state)
{
    (void)state;
    ace_error error = {0};
    assert_false(ace_fail(&error, ACE_ERROR_IO, "first %d", 1));
    assert_false(ace_fail(&error, ACE_ERROR_USAGE, "second"));
    ace_fail_in(&error, "in %s", "here");
    assert_int_equal(error.status, ACE_ERROR_IO);
    assert_string_equal(error.message, "in here: first 1");
    assert_false(ace_fail(NULL, ACE_ERROR_IO, "nobody listens"));
}

static void bf16_rounds_to_nearest_even(void **state)
{
    (void)state;
    assert_int_equal(ace_f32_to_bf16(1.0f), 0x3f80);
    assert_int_equal(ace_f32_to_bf16(1.0f + 0x1p-8f), 0x3f80);            /* a tie, to even */
    assert_int_equal(ace_f32_to_bf16(1.0f + 0x1p-7f + 0x1p-8f), 0x3f82);  /* a tie, to even */
    assert_int_equal(ace_f32_to_bf16(1.0f + 0x1p-8f + 0x1p-20f), 0x3f81); /* above the tie */
    assert_int_equal(ace_f32_to_bf16(-INFINITY), 0xff80);
    assert_true(isnan(ace_bf16_to_f32(ace_f32_to_bf16(NAN))));
    for (unsigned v = 0; v < 0x10000; v++) {
        float f = ace_bf16_to_f32((uint16_t)v);
        if (!isnan(f)) assert_int_equal(ace_f32_to_bf16(f), v);
    }
}

static void halves_are_exact(void **state)
{
    (void)state;
    assert_true(ace_f16_to_f32(0x3c00) == 1.0f);
    assert_true(ace_f16_to_f32(0xc000) == -2.0f);
    assert_true(ace_f16_to_f32(0x7bff) == 65504.0f);
    assert_true(ace_f16_to_f32(0x0001) == 0x1p-24f);
    assert_true(ace_f16_to_f32(0x03ff) == 0x3ffp-24f);
    assert_true(ace_f16_to_f32(0x0400) == 0x1p-14f);
    assert_true(isinf(ace_f16_to_f32(0x7c00)) && isnan(ace_f16_to_f32(0x7e00)));
    assert_true(signbit(ace_f16_to_f32(0x8000)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_grow),
        cmocka_unit_test(utf8_is_what_unicode_says),
        cmocka_unit_test(the_first_cause_of_an_error_is_kept),
        cmocka_unit_test(bf16_rounds_to_nearest_even),
        cmocka_unit_test(halves_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
