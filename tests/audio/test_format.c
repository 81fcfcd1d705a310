/* Names, extensions and what this libsndfile can write. */
#include "audio_support.h"

static void test_names(void **state)
{
    (void)state;
    ace_error error = {0};
    for (int i = 0; i < AUDIO_FORMAT_COUNT; i++) {
        audio_format format;
        assert_ok(audio_format_from_name(audio_format_name(i), &format, &error), error);
        assert_int_equal(format, i);
        assert_ok(audio_format_check(format, &error), error);
        char path[64];
        snprintf(path, sizeof path, "a.b/song%s", audio_format_extension(i));
        assert_ok(audio_format_choose(path, audio_format_name(i), &format, &error), error);
        assert_int_equal(format, i);
    }
}

static void test_unknown_name_lists_all(void **state)
{
    (void)state;
    audio_format format;
    ace_error error = {0};
    assert_false(audio_format_from_name("aac", &format, &error));
    assert_int_equal(error.status, ACE_ERROR_USAGE);
    for (int i = 0; i < AUDIO_FORMAT_COUNT; i++) assert_non_null(strstr(error.message, audio_format_name(i)));
}

static void test_extensions(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        audio_format format;
    } cases[] = {{"song.flac", AUDIO_FLAC24}, {"SONG.FLAC", AUDIO_FLAC24},     {"a.b/c.wav", AUDIO_WAV16},
                 {"x.mp3.opus", AUDIO_OPUS},  {"/tmp/.hidden.mp3", AUDIO_MP3}, {"노래.wav", AUDIO_WAV16}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        audio_format format;
        ace_error error = {0};
        assert_ok(audio_format_from_path(cases[i].path, &format, &error), error);
        assert_int_equal(format, cases[i].format);
    }
    static const char *const bad[] = {"song", "song.", "song.ogg", "a.flac/song", ".flac", "dir/.wav", ""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        audio_format format;
        ace_error error = {0};
        assert_fails(audio_format_from_path(bad[i], &format, &error), error, ACE_ERROR_USAGE, ".opus");
    }
}

static void test_name_must_not_lie(void **state)
{
    (void)state;
    audio_format format;
    ace_error error = {0};
    assert_fails(audio_format_choose("song.mp3", "wav24", &format, &error), error, ACE_ERROR_USAGE, ".wav");
    assert_ok(audio_format_choose("song.wav", "WAV24", &format, &error), error);
    assert_int_equal(format, AUDIO_WAV24);
    assert_ok(audio_format_choose("song.out", "opus", &format, &error), error);
    assert_int_equal(format, AUDIO_OPUS);
    assert_fails(audio_format_choose("song.out", NULL, &format, &error), error, ACE_ERROR_USAGE, ".flac");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_unknown_name_lists_all),
        cmocka_unit_test(test_extensions),
        cmocka_unit_test(test_name_must_not_lie),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
