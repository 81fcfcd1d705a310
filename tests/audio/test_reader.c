/* Reading foreign recordings: scaling, channels, rates, limits, damage. */
#include "audio/audio_reader.h"

#include "audio_support.h"

#include <sndfile.h>

/* A file of n frames whose sample of channel c in frame i is (i * channels + c + 1) << 16 in 32-bit terms. */
static void write_ramp(const char *path, int format, int rate, int channels, int n)
{
    SF_INFO info = {.samplerate = rate, .channels = channels, .format = format};
    SNDFILE *file = sf_open(path, SFM_WRITE, &info);
    if (!file) fail_msg("%s: %s", path, sf_strerror(NULL));
    int *samples = malloc((size_t)(n * channels) * sizeof *samples);
    for (int i = 0; i < n * channels; i++) samples[i] = (i % 30000 + 1) * 65536;
    assert_int_equal(sf_writef_int(file, samples, n), n);
    free(samples);
    sf_close(file);
}

static void test_channels_and_scale(void **state)
{
    char path[512];
    path_in(path, *state, "in.wav");
    static const int channels[] = {1, 2, 3, 6};
    for (int k = 0; k < 4; k++) {
        int n = 5003, c = channels[k];
        write_ramp(path, SF_FORMAT_WAV | SF_FORMAT_PCM_16, 44100, c, n);
        audio_clip clip;
        ace_error error = {0};
        assert_ok(audio_read_file(&clip, path, 1.0, &error), error);
        assert_int_equal(clip.rate, 44100);
        assert_int_equal(clip.count, n);
        for (int i = 0; i < n; i++) {
            int left = i * c, right = left + (c > 1);
            assert_true(clip.frames[2 * i] == (float)(left % 30000 + 1) / 32768.0f);
            assert_true(clip.frames[2 * i + 1] == (float)(right % 30000 + 1) / 32768.0f);
        }
        free(clip.frames);
        audio_reader *reader = audio_reader_open(path, &error);
        assert_int_equal(audio_reader_channels(reader), c);
        assert_int_equal(audio_reader_frames(reader), n);
        audio_reader_close(reader);
    }
}

static void test_kinds(void **state)
{
    char path[512];
    static const int formats[] = {SF_FORMAT_WAV | SF_FORMAT_PCM_U8,   SF_FORMAT_WAV | SF_FORMAT_PCM_24,
                                  SF_FORMAT_WAVEX | SF_FORMAT_PCM_32, SF_FORMAT_WAV | SF_FORMAT_FLOAT,
                                  SF_FORMAT_AIFF | SF_FORMAT_PCM_16,  SF_FORMAT_FLAC | SF_FORMAT_PCM_16,
                                  SF_FORMAT_OGG | SF_FORMAT_VORBIS,   SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III};
    for (int k = 0; k < 8; k++) {
        write_ramp(path_in(path, *state, "kind"), formats[k], 32000, 2, 9999);
        audio_clip clip;
        ace_error error = {0};
        assert_ok(audio_read_file(&clip, path, 1.0, &error), error);
        assert_int_equal(clip.rate, 32000);
        assert_int_equal(clip.count, 9999);
        free(clip.frames);
    }
}

static void test_refuses(void **state)
{
    char path[512];
    audio_clip clip;
    ace_error error = {0};
    write_ramp(path_in(path, *state, "long.wav"), SF_FORMAT_WAV | SF_FORMAT_PCM_16, 8000, 1, 8001);
    assert_fails(audio_read_file(&clip, path, 1.0, &error), error, ACE_ERROR_USAGE, "longer than the 1 s");
    assert_null(clip.frames);
    write_ramp(path, SF_FORMAT_WAV | SF_FORMAT_PCM_16, 8000, 1, 8000);
    assert_ok(audio_read_file(&clip, path, 1.0, &error), error);
    assert_int_equal(clip.count, 8000);
    free(clip.frames);
    write_ramp(path_in(path, *state, "empty.wav"), SF_FORMAT_WAV | SF_FORMAT_PCM_16, 8000, 1, 0);
    assert_fails(audio_read_file(&clip, path, 1.0, &error), error, ACE_ERROR_FORMAT, "no audio");
    write_ramp(path_in(path, *state, "slow.wav"), SF_FORMAT_WAV | SF_FORMAT_PCM_16, 999, 1, 10);
    assert_fails(audio_read_file(&clip, path, 1.0, &error), error, ACE_ERROR_FORMAT, "999 frames per second");
    assert_fails(audio_read_file(&clip, path_in(path, *state, "none.wav"), 1.0, &error), error, ACE_ERROR_IO,
                 "none.wav");
    assert_fails(audio_read_file(&clip, *state, 1.0, &error), error, ACE_ERROR_IO, "regular");
    assert_fails(audio_read_file(&clip, "/dev/zero", 1.0, &error), error, ACE_ERROR_IO, "regular");
    write_bytes(path_in(path, *state, "text.vox"), "this is not a sound", 19);
    assert_fails(audio_read_file(&clip, path, 1.0, &error), error, ACE_ERROR_FORMAT, "no header");
    write_bytes(path_in(path, *state, "text.wav"), "this is not a sound", 19);
    assert_fails(audio_read_file(&clip, path, 1.0, &error), error, ACE_ERROR_FORMAT, "cannot be decoded");
}

static void test_not_a_number(void **state)
{
    char path[512];
    SF_INFO info = {.samplerate = 48000, .channels = 2, .format = SF_FORMAT_WAV | SF_FORMAT_FLOAT};
    SNDFILE *file = sf_open(path_in(path, *state, "nan.wav"), SFM_WRITE, &info);
    float *samples = make_signal(48000);
    samples[2 * 36000 + 1] = NAN;
    sf_writef_float(file, samples, 48000);
    sf_close(file);
    free(samples);
    audio_clip clip;
    ace_error error = {0};
    assert_fails(audio_read_file(&clip, path, 2.0, &error), error, ACE_ERROR_FORMAT, "second 0.750");
}

/* Cut and flipped files: an error or fewer frames, never a crash and never more than the limit. */
static void test_damaged(void **state)
{
    char path[512], copy[512];
    path_in(copy, *state, "damaged");
    uint32_t random = 99;
    for (int f = 0; f < AUDIO_FORMAT_COUNT; f++) {
        path_in(path, *state, "whole");
        audio_writer_options options = {.format = f, .rate = 48000, .replace = true, .tags.comment = "{}"};
        float *signal = make_signal(6000);
        ace_error error = {0};
        assert_ok(write_song(path, &options, signal, 6000, 0, &error), error);
        free(signal);
        size_t size;
        char *bytes = ace_read_file(path, 1 << 20, &size, &error);
        for (int round = 0; round < 300; round++) {
            random = random * 1664525u + 1013904223u;
            size_t at = (random >> 8) % (round % 2 && size > 500 ? 500 : size), n = size;
            char old = bytes[at];
            if (round % 3 == 0)
                n = at;
            else
                bytes[at] = (char)(old ^ (1 << (random >> 4 & 7)));
            write_bytes(copy, bytes, n);
            bytes[at] = old;
            audio_clip clip;
            error = (ace_error){0};
            if (audio_read_file(&clip, copy, 1.0, &error))
                assert_in_range(clip.count, 1, (int64_t)clip.rate);
            else
                assert_true(error.status == ACE_ERROR_FORMAT || error.status == ACE_ERROR_USAGE);
            free(clip.frames);
        }
        free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_channels_and_scale), cmocka_unit_test(test_kinds),   cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_not_a_number),       cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
