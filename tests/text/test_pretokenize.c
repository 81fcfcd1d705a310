/* The pre-tokenizer's cuts, by hand from the alternatives of its expression (spec/lm.md 2.3). '|' marks a cut. */
#include "text/pretokenize.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void check(const char *marked)
{
    char text[256];
    size_t n = 0, ends[64], count = 0, at = 0;
    for (const char *p = marked; *p; p++) {
        if (*p == '|')
            ends[count++] = n;
        else
            text[n++] = *p;
    }
    ends[count++] = n;
    for (size_t i = 0; i < count; i++) {
        size_t end = pretokenize_next(text, n, at);
        if (end != ends[i]) fail_msg("'%s': piece %zu ends at byte %zu, not %zu", marked, i, end, ends[i]);
        at = end;
    }
    assert_int_equal(at, n);
}

static void test_contractions(void **state)
{
    (void)state;
    check("it|'s");
    check("'t|was");
    check("DON|'T");
    check("y|'all|'d|'ve");
    check("he|'ll|o");
    check("'LL|'Re|'vE");
    check("a|'x");
    check("a|'\u017f|x"); /* long s is an s */
    check("don|’t");
    check("'''|s");
    check("'l");
    check("'");
}

static void test_words_and_numbers(void **state)
{
    (void)state;
    check("Hello| world|!|1|2|3");
    check("(word|-word|_under|_score|__");
    check("\tword| |\tword"); /* the run gives its last whitespace to the word */
    check("\u00e9t\u00e9|½|²|٣|Ⅷ| \u4e2d\u6587");
    check("e|\u0301e|\u0301\u0301|e"); /* a mark is "other": one joins the letter behind it, two do not */
}

static void test_symbols_and_spaces(void **state)
{
    (void)state;
    check(" ...!!!\n\n|Next");
    check("a|  | b");
    check("a|  \n|  | b");
    check("x|\n\n \n");
    check("x|   ");
    check("1| |2");
    check("1| | |2");
    check(" !|\t|!");
    check("!\r\n\n|a");
    check("!| \n|a");
    check("\u3000|\u3000a");
    check("a|\xc2\x85\n|\u2028b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contractions),
        cmocka_unit_test(test_words_and_numbers),
        cmocka_unit_test(test_symbols_and_spaces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
