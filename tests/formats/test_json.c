/* Strict JSON with clear errors. */
#include "formats/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static json_t *parse(const char *text, ace_error *error)
{
    *error = (ace_error){0};
    return json_parse(text, strlen(text), 4, "here", error);
}

static void only_strict_json_is_read(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{}", NULL},
        {" [1, 2.5, \"a\", null, true] ", NULL},
        {"3", NULL},
        {"\"[[[[[[\"", NULL},
        {"\"\\\"[[[[[[\"", NULL},
        {"[[[[1]]]]", NULL},
        {"[[[[[1]]]]]", "nested deeper than 4"},
        {"{\"a\":1,\"a\":2}", "duplicate"},
        {"{} x", "line 1"},
        {"", "line 1"},
        {"\n\n{,}", "line 3"},
        {"\"\xff\"", "decode byte"},
        {"\"\xed\xa0\x80\"", "decode byte"},
        {"\"\\u0000\"", "not valid JSON"},
        {"{'a':1}", "not valid JSON"},
        {"[1,]", "not valid JSON"},
        {"NaN", "not valid JSON"},
        {"[1e999]", "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ace_error error;
        json_t *value = parse(cases[i].text, &error);
        if (!cases[i].message != !!value) fail_msg("%s: %s", cases[i].text, error.message);
        if (cases[i].message) {
            assert_int_equal(error.status, ACE_ERROR_FORMAT);
            if (!strstr(error.message, cases[i].message) || !strstr(error.message, "here"))
                fail_msg("%s: %s", cases[i].text, error.message);
        }
        json_decref(value);
    }
    /* bytes behind a NUL are bytes, not the end */
    ace_error error = {0};
    assert_null(json_parse("{}\0{}", 5, 4, "here", &error));
}

static void getters_keep_defaults_and_name_what_is_wrong(void **state)
{
    (void)state;
    ace_error error;
    json_t *o = parse("{\"i\":7,\"r\":2.5,\"s\":\"x\",\"b\":true,\"n\":null,\"a\":[1],\"o\":{\"k\":1}}", &error);
    assert_non_null(o);
    int64_t i = 1;
    double r = 1;
    bool b = false;
    const char *s = "d";
    const json_t *a = NULL, *inner = NULL;
    assert_true(json_get_int(o, "f", "i", 0, 7, &i, &error) && i == 7);
    assert_true(json_get_int(o, "f", "absent", 0, 7, &i, &error) && i == 7);
    assert_true(json_get_int(o, "f", "n", 0, 7, &i, &error) && i == 7);
    assert_true(json_get_number(o, "f", "r", 0, 3, &r, &error) && r == 2.5);
    assert_true(json_get_number(o, "f", "i", 0, 7, &r, &error) && r == 7);
    assert_true(json_get_bool(o, "f", "b", &b, &error) && b);
    assert_true(json_get_string(o, "f", "s", &s, &error) && strcmp(s, "x") == 0);
    assert_true(json_get_array(o, "f", "a", &a, &error) && json_array_size(a) == 1);
    assert_true(json_get_object(o, "f", "o", &inner, &error) && json_has(inner, "k"));
    assert_false(json_has(o, "n"));
    assert_false(json_has(o, "absent"));
    assert_int_equal(error.status, ACE_OK);

    assert_false(json_get_int(o, "f", "i", 0, 6, &i, &error));
    assert_string_equal(error.message, "f: \"i\" is 7, outside 0 to 6");
    error = (ace_error){0};
    assert_false(json_get_int(o, "f", "r", 0, 6, &i, &error));
    assert_string_equal(error.message, "f: \"r\" must be an integer, but it is a number with a fraction");
    error = (ace_error){0};
    assert_false(json_get_number(o, "f", "r", 3, 6, &r, &error));
    assert_string_equal(error.message, "f: \"r\" is 2.5, outside 3 to 6");
    error = (ace_error){0};
    assert_false(json_get_bool(o, "f", "s", &b, &error));
    assert_string_equal(error.message, "f: \"s\" must be true or false, but it is a string");
    error = (ace_error){0};
    assert_false(json_get_string(o, "f", "a", &s, &error));
    assert_false(json_get_array(o, "f", "o", &a, NULL));
    assert_false(json_get_object(o, "f", "i", &inner, NULL));
    assert_string_equal(error.message, "f: \"a\" must be a string, but it is an array");
    json_decref(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_strict_json_is_read),
        cmocka_unit_test(getters_keep_defaults_and_name_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
