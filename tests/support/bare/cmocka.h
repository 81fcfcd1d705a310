/* cmocka.h - the few words of cmocka that tests/device uses, for machines that have nothing but compilers: only
 * tools/gpu-check puts this in cmocka's place. CHECK_ONLY=WORDS runs the tests whose name contains them. */
#ifndef TESTS_SUPPORT_BARE_CMOCKA_H
#define TESTS_SUPPORT_BARE_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*test_func)(void **state);
    int (*setup_func)(void **state);
    int (*teardown_func)(void **state);
    void *initial_state;
};

static jmp_buf bare_leave;

enum { BARE_FAILED = 1, BARE_SKIPPED };

__attribute__((noreturn, unused)) static void bare_fail(const char *file, int line, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    printf("%s:%d: ", file, line);
    vprintf(format, values);
    printf("\n");
    va_end(values);
    longjmp(bare_leave, BARE_FAILED);
}

__attribute__((unused)) static int bare_run(const char *group, const struct CMUnitTest *tests, size_t count,
                                            int (*setup)(void **state), int (*teardown)(void **state))
{
    const char *only = getenv("CHECK_ONLY");
    void *shared = NULL;
    volatile int passed = 0, failed = 0, skipped = 0;
    if (setup && setup(&shared) != 0) return 1;
    for (volatile size_t i = 0; i < count; i++) {
        const struct CMUnitTest *t = &tests[i];
        void *state = t->initial_state ? t->initial_state : shared;
        if (only && !strstr(t->name, only)) continue;
        int left = setjmp(bare_leave);
        if (left == 0) {
            if (t->setup_func && t->setup_func(&state) != 0) bare_fail(t->name, 0, "its preparation failed");
            t->test_func(&state);
            if (t->teardown_func && t->teardown_func(&state) != 0) bare_fail(t->name, 0, "its end failed");
            passed++;
        } else if (left == BARE_SKIPPED) {
            skipped++;
        } else {
            failed++;
            printf("FAILED: %s\n", t->name);
        }
        fflush(stdout);
    }
    if (teardown && teardown(&shared) != 0) failed++;
    printf("%s: %d passed, %d skipped, %d failed\n", group, passed, skipped, failed);
    return failed;
}

#define cmocka_unit_test(f)     \
    {                           \
#f, f, NULL, NULL, NULL \
    }
#define cmocka_unit_test_setup(f, setup) \
    {                                    \
#f, f, setup, NULL, NULL         \
    }
#define _cmocka_run_group_tests(name, tests, count, setup, teardown) bare_run(name, tests, count, setup, teardown)
#define cmocka_run_group_tests_name(name, tests, setup, teardown) \
    bare_run(name, tests, sizeof tests / sizeof *(tests), setup, teardown)
#define cmocka_run_group_tests(tests, setup, teardown) cmocka_run_group_tests_name(#tests, tests, setup, teardown)

#define print_message printf
#define skip() longjmp(bare_leave, BARE_SKIPPED)
#define fail_msg(...) bare_fail(__FILE__, __LINE__, __VA_ARGS__)
#define bare_require(condition, text)                                \
    do {                                                             \
        if (!(condition)) bare_fail(__FILE__, __LINE__, "%s", text); \
    } while (0)
#define assert_true(a) bare_require(a, #a)
#define assert_false(a) bare_require(!(a), "not: " #a)
#define assert_null(a) bare_require(!(a), #a " is NULL")
#define assert_non_null(a) bare_require((a) != NULL, #a " is not NULL")
#define assert_ptr_equal(a, b) bare_require((const void *)(a) == (const void *)(b), #a " = " #b)
#define assert_string_equal(a, b) bare_require(strcmp(a, b) == 0, #a " = " #b)
#define assert_memory_equal(a, b, n) bare_require(memcmp(a, b, n) == 0, #a " = " #b)
#define assert_int_equal(a, b)                                                                                   \
    do {                                                                                                         \
        long long bare_a = (long long)(a), bare_b = (long long)(b);                                              \
        if (bare_a != bare_b) bare_fail(__FILE__, __LINE__, "%s = %lld, not %lld (%s)", #a, bare_a, bare_b, #b); \
    } while (0)
#define assert_int_not_equal(a, b) bare_require((long long)(a) != (long long)(b), #a " differs from " #b)

#endif
