/* The request: one table, checked at every door. */
#include "song/prompt.h"
#include "song/provenance.h"
#include "song/request.h"
#include "song/song_fixture.h"

static void good_values_are_kept_exactly(void **state)
{
    (void)state;
    static const char *const values[][2] = {
        {"duration", "10"},
        {"duration", "600"},
        {"duration", "33.3"},
        {"bpm", "30"},
        {"bpm", "300"},
        {"seed", "9223372036854775807"},
        {"seed", "0"},
        {"keyscale", "C major"},
        {"keyscale", "F# minor"},
        {"keyscale", "Bb major"},
        {"keyscale", "A♯ minor"},
        {"timesignature", "6"},
        {"vocal_language", "yue"},
        {"dcw_enabled", "false"},
        {"instrumental", "true"},
        {"solver", "stork4"},
        {"caption", "봄날의 재즈, 日本語, 中文 🎹"},
        {"guidance_scale", "1"},
        {"shift", "0.1"},
        {"fade_out_duration", "2.5"},
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        ace_error error = {0};
        ace_request *request = make_request(values[i][0], values[i][1], NULL);
        char *json = ace_request_to_json(request, &error);
        ace_request *copy = ace_request_new(&error);
        if (!ace_request_set_json(copy, json, strlen(json), &error)) fail_msg("%s", error.message);
        char *value = ace_request_get(copy, values[i][0], &error),
             *original = ace_request_get(request, values[i][0], &error);
        assert_string_equal(value, original);
        if (strcmp(values[i][0], "duration") != 0 || i < 2)
            assert_true(strcmp(value, values[i][1]) == 0 || atof(value) == atof(values[i][1]));
        free(value);
        free(original);
        free(json);
        ace_request_free(copy);
        ace_request_free(request);
    }
}

static void bad_values_are_refused_and_change_nothing(void **state)
{
    (void)state;
    static const char *const values[][2] = {
        {"duration", "0"},
        {"duration", "9.9"},
        {"duration", "601"},
        {"duration", "nan"},
        {"duration", "inf"},
        {"duration", ""},
        {"duration", "60s"},
        {"duration", "-60"},
        {"duration", "1e400"},
        {"bpm", "29"},
        {"bpm", "301"},
        {"bpm", "120.5"},
        {"seed", "-1"},
        {"seed", "9223372036854775808"},
        {"seed", "x"},
        {"keyscale", "H major"},
        {"keyscale", "C"},
        {"keyscale", "c major"},
        {"timesignature", "5"},
        {"timesignature", ""},
        {"vocal_language", "xx"},
        {"vocal_language", "en ko"},
        {"solver", "rk4"},
        {"dcw_enabled", "maybe"},
        {"batch_size", "0"},
        {"batch_size", "9"},
        {"inference_steps", "0"},
        {"caption", "\xff\xfe"},
        {"lyrics", "caf\xe9"},
        {"audio_format", "aac"},
        {"mp3_bitrate", "129k"},
        {"no_such_field", "1"},
        {"", "1"},
        {" ", "1"},
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        ace_error error = {0};
        ace_request *request = ace_request_new(&error);
        if (ace_request_set(request, values[i][0], values[i][1], &error))
            fail_msg("%s accepted '%s'", values[i][0], values[i][1]);
        assert_int_equal(error.status, ACE_ERROR_USAGE);
        assert_true(strlen(error.message) > 10);
        error = (ace_error){0};
        char *json = ace_request_to_json(request, &error);
        assert_string_equal(json, "{}");
        free(json);
        ace_request_free(request);
    }
}

static void bad_json_is_refused_and_changes_nothing(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "1",
        "null",
        "{\"bpm\":\"fast\"}",
        "{\"bpm\":1e9}",
        "{\"bpm\":120.5}",
        "{\"caption\":5}",
        "{\"duration\":\"60\"}",
        "{\"bpm\":120,\"bpm\":121}",
        "{\"nope\":1}",
        "{\"seed\":99999999999999999999}",
        "{\"instrumental\":1}",
        "{\"audio_codes\":[1,\"2\"]}",
        "{\"audio_codes\":{}}",
        "{\"caption\":\"a\\u0000b\"}",
        "{\"caption\":\"\\ud800\"}",
        "{\"bpm\":120}x",
        "{\"bpm\":100,\"duration\":601}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ace_error error = {0};
        ace_request *request = make_request("bpm", "77", NULL);
        if (ace_request_set_json(request, bad[i], strlen(bad[i]), &error)) fail_msg("accepted %s", bad[i]);
        assert_int_equal(error.status, ACE_ERROR_USAGE);
        error = (ace_error){0};
        char *bpm = ace_request_get(request, "bpm", &error);
        assert_string_equal(bpm, "77");
        free(bpm);
        ace_request_free(request);
    }
}

static void other_names_of_the_interfaces_are_known(void **state)
{
    (void)state;
    static const char json[] =
        "{\"prompt\":\"p\",\"audioDuration\":60,\"key_scale\":\"C major\",\"timeSignature\":\"4\",\"language\":\"ko\","
        "\"inferenceSteps\":4,\"audio_codes\":[1,2,3],\"bpm\":null}";
    ace_error error = {0};
    ace_request *request = ace_request_new(&error);
    if (!ace_request_set_json(request, json, strlen(json), &error)) fail_msg("%s", error.message);
    assert_string_equal(request_text(request, FIELD_CAPTION, NULL), "p");
    assert_true(request_number(request, FIELD_DURATION, 0) == 60);
    assert_string_equal(request_text(request, FIELD_AUDIO_CODES, NULL), "1,2,3");
    assert_int_equal(request_integer(request, FIELD_STEPS, 0), 4);
    assert_false(request_is_set(request, FIELD_BPM));
    ace_request_free(request);
}

static void the_table_documents_every_field(void **state)
{
    (void)state;
    assert_null(ace_field_at(ace_field_count()));
    for (size_t i = 0; i < ace_field_count(); i++) {
        const ace_field *f = ace_field_at(i);
        assert_true(f->name && *f->name && f->values && *f->values && f->preset && *f->preset && f->meaning &&
                    *f->meaning);
        if (request_fields[i].kind == FIELD_CHOICE) assert_true(request_fields[i].choices[0] == ' ');
        for (size_t j = 0; j < i; j++) assert_string_not_equal(f->name, ace_field_at(j)->name);
    }
}

/* dit.md 6.1 to 6.3, written out. */
static void prompts_are_what_the_model_was_trained_on(void **state)
{
    (void)state;
    ace_error error = {0};
    char *text =
        prompt_caption(PROMPT_TEXT2MUSIC, "chill lofi beats", &(prompt_metas){120, "4", "C major", 30.9}, &error);
    assert_string_equal(
        text,
        "# Instruction\nFill the audio semantic mask based on the given conditions:\n\n# Caption\nchill lofi beats\n\n"
        "# Metas\n- bpm: 120\n- timesignature: 4\n- keyscale: C major\n- duration: 30 seconds\n<|endoftext|>\n");
    free(text);
    text = prompt_caption("Do it", "", &(prompt_metas){0, " ", NULL, 0}, &error);
    assert_string_equal(
        text, "# Instruction\nDo it:\n\n# Caption\n\n\n# Metas\n- bpm: N/A\n- timesignature: N/A\n- keyscale: N/A\n"
              "- duration: 30 seconds\n<|endoftext|>\n");
    free(text);
    text = prompt_lyrics("ko", "[Verse]\n봄", &error);
    assert_string_equal(text, "# Languages\nko\n\n# Lyric\n[Verse]\n봄<|endoftext|>");
    free(text);
}

static void codes_come_as_tokens_or_as_a_list(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t count; /* -1: refused */
        int32_t first, last;
    } cases[] = {
        {"", 0, 0, 0},
        {" \n", 0, 0, 0},
        {"<|audio_code_0|><|audio_code_63999|>", 2, 0, 63999},
        {"plan: <|audio_code_12|> and <|audio_code_x|> <|audio_code_13|", 1, 12, 12},
        {"[1, 2,3]", 3, 1, 3},
        {"7 8\n9", 3, 7, 9},
        {"<|audio_code_64000|>", -1, 0, 0},
        {"1,2,64000", -1, 0, 0},
        {"1,-2", -1, 0, 0},
        {"one", -1, 0, 0},
        {"99999999999999999999999", -1, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ace_error error = {0};
        int32_t *codes;
        int64_t count;
        bool ok = prompt_parse_codes(cases[i].text, &codes, &count, &error);
        assert_int_equal(ok, cases[i].count >= 0);
        if (ok)
            assert_int_equal(count, cases[i].count);
        else
            assert_int_equal(error.status, ACE_ERROR_USAGE);
        if (ok && count > 0) {
            assert_int_equal(codes[0], cases[i].first);
            assert_int_equal(codes[count - 1], cases[i].last);
        }
        free(codes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_values_are_kept_exactly),
        cmocka_unit_test(bad_values_are_refused_and_change_nothing),
        cmocka_unit_test(bad_json_is_refused_and_changes_nothing),
        cmocka_unit_test(other_names_of_the_interfaces_are_known),
        cmocka_unit_test(the_table_documents_every_field),
        cmocka_unit_test(prompts_are_what_the_model_was_trained_on),
        cmocka_unit_test(codes_come_as_tokens_or_as_a_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
