/* Tags: every text comes back exactly from every container, other readers find it, and damaged files give an error. */
#include "audio/audio_tags.h"

#include "audio_support.h"

#include <sndfile.h>

#define PIECE "{\"가사\": \"비가 내리면\\n夜の街で\", \"🎵\": \"𝄞 Ünïcödé\"}, "

/* At least n bytes of Korean, Japanese, emoji and JSON punctuation; free(). */
static char *long_text(size_t n)
{
    size_t piece = strlen(PIECE), count = n / piece + 1;
    char *text = calloc(count * piece + 1, 1);
    for (size_t i = 0; i < count; i++) memcpy(text + i * piece, PIECE, piece);
    return text;
}

static const char *write_tagged(char path[512], const char *directory, audio_format format, const audio_tags *tags)
{
    snprintf(path, 512, "%s/tagged%s", directory, audio_format_extension(format));
    audio_writer_options options = {.format = format, .rate = 48000, .replace = true, .tags = *tags};
    float *signal = make_signal(9601);
    ace_error error = {0};
    unlink(path);
    assert_ok(write_song(path, &options, signal, 9601, 0, &error), error);
    free(signal);
    return path;
}

static void assert_text(const char *got, const char *want)
{
    if (!want)
        assert_null(got);
    else {
        assert_non_null(got);
        assert_int_equal(strlen(got), strlen(want));
        assert_string_equal(got, want);
    }
}

static void assert_frames(const char *path)
{
    SF_INFO info = {0};
    SNDFILE *file = sf_open(path, SFM_READ, &info);
    assert_non_null(file);
    assert_int_equal(info.frames, 9601);
    float *samples = malloc(2 * 9601 * sizeof *samples);
    assert_int_equal(sf_readf_float(file, samples, 9601), 9601);
    free(samples);
    sf_close(file);
}

static void test_round_trip(void **state)
{
    char path[512];
    /* The lengths around 255 and 65025 are where Ogg's segments and pages end. */
    static const size_t lengths[] = {1, 200, 10000, 64800, 65300, 1000000, AUDIO_TAG_LIMIT - 200};
    for (int f = 0; f < AUDIO_FORMAT_COUNT; f++) {
        for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
            char *text = long_text(lengths[k]);
            audio_tags tags = {
                .title = "비 오는 날 🌧", .artist = "アーティスト", .software = "acestep 0.1.0", .comment = text};
            write_tagged(path, *state, f, &tags);
            assert_frames(path);
            audio_tags back;
            ace_error error = {0};
            assert_ok(audio_tags_read(&back, path, &error), error);
            assert_text(back.title, tags.title);
            assert_text(back.artist, tags.artist);
            assert_text(back.comment, tags.comment);
            /* libsndfile adds its name to what it writes into a FLAC. */
            assert_non_null(back.software);
            assert_int_equal(strncmp(back.software, tags.software, strlen(tags.software)), 0);
            audio_tags_free(&back);
            free(text);
        }
    }
}

/* Comment packets around the 65025 bytes that fill an Ogg page exactly. */
static void test_ogg_lacing(void **state)
{
    char path[512];
    char *text = calloc(66000, 1);
    memset(text, 'x', 65999);
    for (size_t n = 64500; n<65600; n += n> 64700 && n < 65300 ? 1 : 41) {
        text[n] = 0;
        audio_tags tags = {.comment = text}, back;
        ace_error error = {0};
        write_tagged(path, *state, AUDIO_OPUS, &tags);
        assert_ok(audio_tags_read(&back, path, &error), error);
        assert_text(back.comment, text);
        audio_tags_free(&back);
        SF_INFO info = {0};
        SNDFILE *file = sf_open(path, SFM_READ, &info);
        assert_non_null(file);
        assert_int_equal(info.frames, 9601);
        assert_text(sf_get_string(file, SF_STR_COMMENT), text);
        sf_close(file);
        text[n] = 'x';
    }
    free(text);
}

static void test_absent_and_empty(void **state)
{
    char path[512];
    for (int f = 0; f < AUDIO_FORMAT_COUNT; f++) {
        for (int kind = 0; kind < 3; kind++) {
            audio_tags tags = {0}, back;
            if (kind == 1) tags = (audio_tags){.title = "", .artist = "", .software = "", .comment = ""};
            if (kind == 2) tags.comment = "{}";
            ace_error error = {0};
            write_tagged(path, *state, f, &tags);
            assert_frames(path);
            assert_ok(audio_tags_read(&back, path, &error), error);
            assert_null(back.title);
            assert_null(back.artist);
            assert_null(back.software);
            assert_text(back.comment, kind == 2 ? "{}" : NULL);
            audio_tags_free(&back);
        }
    }
}

/* libsndfile (libFLAC, libogg, libmpg123 behind it) finds the same texts where it can. */
static void test_other_readers(void **state)
{
    char path[512];
    char *text = long_text(10000);
    for (int f = 0; f < AUDIO_FORMAT_COUNT; f++) {
        bool wav = f <= AUDIO_WAV32; /* libsndfile reads at most 2 kB there */
        audio_tags tags = {.title = "비 오는 날", .artist = "アーティスト", .software = "acestep", .comment = text};
        if (wav) tags.comment = PIECE;
        write_tagged(path, *state, f, &tags);
        SF_INFO info = {0};
        SNDFILE *file = sf_open(path, SFM_READ, &info);
        assert_non_null(file);
        assert_text(sf_get_string(file, SF_STR_TITLE), tags.title);
        assert_text(sf_get_string(file, SF_STR_ARTIST), tags.artist);
        assert_text(sf_get_string(file, SF_STR_COMMENT), tags.comment);
        sf_close(file);
    }
    free(text);
}

static void test_refused_texts(void **state)
{
    char path[512];
    path_in(path, *state, "refused.flac");
    char *huge = calloc(AUDIO_TAG_LIMIT + 2, 1);
    memset(huge, 'a', AUDIO_TAG_LIMIT + 1);
    ace_error error = {0};
    audio_writer_options options = {.format = AUDIO_FLAC24, .rate = 48000};
    options.tags.comment = huge;
    assert_fails(audio_writer_open(path, &options, &error) != NULL, error, ACE_ERROR_USAGE, "comment");
    options.tags.comment = "ok \xed\xa0\x80";
    assert_fails(audio_writer_open(path, &options, &error) != NULL, error, ACE_ERROR_USAGE, "UTF-8");
    huge[97] = 0;
    options.tags = (audio_tags){.software = huge};
    assert_fails(audio_writer_open(path, &options, &error) != NULL, error, ACE_ERROR_USAGE, "96");
    free(huge);
    assert_false(ace_path_exists(path));
}

/* Tags as other programs write them: ID3v2.3 with UTF-16 and Latin-1, a comment with a description before the real one.
 */
static void test_foreign_id3(void **state)
{
    static const char bytes[] = "ID3\003\000\000\000\000\000\125"
                                /* title, UTF-16LE with its mark */
                                "TIT2"
                                "\000\000\000\013\000\000\001\377\376\104\276\064\330\036\335\041\000"
                                /* artist, Latin-1, terminated */
                                "TPE1"
                                "\000\000\000\005\000\000\000\132\157\353\000"
                                /* a player's own comment */
                                "COMM"
                                "\000\000\000\013\000\000\000\145\156\147\130\000\144\141\164\141\041"
                                /* the comment, UTF-16BE */
                                "COMM"
                                "\000\000\000\022\000\000\001\145\156\147\376\377\000\000\376\377\000\173\330\074"
                                "\337\265\000\175"
                                "\377\373\224\144";
    char path[512];
    audio_tags tags;
    ace_error error = {0};
    write_bytes(path_in(path, *state, "foreign.mp3"), bytes, sizeof bytes - 1);
    assert_ok(audio_tags_read(&tags, path, &error), error);
    assert_text(tags.title, "비𝄞!");
    assert_text(tags.artist, "Zoë");
    assert_text(tags.comment, "{🎵}");
    audio_tags_free(&tags);
}

static void test_not_audio(void **state)
{
    char path[512];
    audio_tags tags;
    ace_error error = {0};
    write_bytes(path_in(path, *state, "x.flac"), "", 0);
    assert_fails(audio_tags_read(&tags, path, &error), error, ACE_ERROR_FORMAT, "no WAV, FLAC, MP3 or Ogg");
    write_bytes(path, "hello world, this is text", 25);
    assert_fails(audio_tags_read(&tags, path, &error), error, ACE_ERROR_FORMAT, "x.flac");
    assert_fails(audio_tags_read(&tags, path_in(path, *state, "none.flac"), &error), error, ACE_ERROR_IO, "none.flac");
    assert_fails(audio_tags_read(&tags, *state, &error), error, ACE_ERROR_IO, "regular");
}

/* A file cut at any byte and one with flipped bits gives the true text, none, or an error in words: never a crash
 * (run with sanitizers), and never a wrong text where the container has a checksum. */
static void test_damaged_files(void **state)
{
    char path[512], copy_path[512];
    path_in(copy_path, *state, "damaged");
    uint32_t random = 12345;
    for (int f = 0; f < AUDIO_FORMAT_COUNT; f++) {
        audio_tags tags = {.title = "제목", .comment = PIECE};
        ace_error error = {0};
        size_t size;
        write_tagged(path, *state, f, &tags);
        char *bytes = ace_read_file(path, 1 << 20, &size, &error);
        assert_non_null(bytes);
        int errors = 0;
        for (size_t cut = 0; cut < size; cut += cut < 800 || cut + 400 > size ? 1 : 997) {
            audio_tags back;
            error = (ace_error){0};
            write_bytes(copy_path, bytes, cut);
            if (audio_tags_read(&back, copy_path, &error)) {
                if (back.comment) assert_string_equal(back.comment, PIECE);
            } else {
                errors++;
                assert_int_equal(error.status, ACE_ERROR_FORMAT);
                assert_null(back.comment);
            }
            audio_tags_free(&back);
        }
        assert_true(errors > 40);
        size_t front = size < 700 ? size : 700, back_part = size < 500 ? 0 : size - 500;
        for (int round = 0; round < 1000; round++) {
            random = random * 1664525u + 1013904223u;
            size_t at = random & 1 ? (random >> 8) % front : back_part + (random >> 8) % (size - back_part);
            char old = bytes[at];
            bytes[at] = (char)(old ^ (1 << (random >> 4 & 7)));
            write_bytes(copy_path, bytes, size);
            bytes[at] = old;
            audio_tags back;
            error = (ace_error){0};
            if (!audio_tags_read(&back, copy_path, &error))
                assert_int_equal(error.status, ACE_ERROR_FORMAT);
            else if (f == AUDIO_OPUS)
                assert_text(back.comment, PIECE);
            audio_tags_free(&back);
        }
        free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),       cmocka_unit_test(test_ogg_lacing),
        cmocka_unit_test(test_absent_and_empty), cmocka_unit_test(test_other_readers),
        cmocka_unit_test(test_refused_texts),    cmocka_unit_test(test_foreign_id3),
        cmocka_unit_test(test_not_audio),        cmocka_unit_test(test_damaged_files),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
