/* What the models hear of a file: rate, channels, range, limits, damage, silence. */
#include "audio/audio_source.h"

#include "audio/audio_reader.h"
#include "audio/audio_resample.h"
#include "audio_support.h"

#include "base/clock.h"
#include "base/memory.h"

#include <malloc.h>
#include <sndfile.h>

/* A file of float samples, scaled by `gain`: channel c of frame i is a tone of its own. */
static void write_tones(const char *path, int format, int rate, int channels, int64_t frames, double gain)
{
    SF_INFO info = {.samplerate = rate, .channels = channels, .format = format};
    SNDFILE *file = sf_open(path, SFM_WRITE, &info);
    if (!file) fail_msg("%s: %s", path, sf_strerror(NULL));
    sf_command(file, SFC_SET_CLIPPING, NULL, SF_TRUE);
    float *frame = malloc((size_t)channels * sizeof *frame);
    for (int64_t i = 0; i < frames; i++) {
        for (int c = 0; c < channels; c++)
            frame[c] = (float)(gain * sin(2 * M_PI * (200 + 100 * c) * (double)i / rate));
        assert_int_equal(sf_writef_float(file, frame, 1), 1);
    }
    free(frame);
    sf_close(file);
}

/* 48 kHz stereo, float. */
static void write_frames(const char *path, const float *frames, int64_t n)
{
    SF_INFO info = {.samplerate = 48000, .channels = 2, .format = SF_FORMAT_WAV | SF_FORMAT_FLOAT};
    SNDFILE *file = sf_open(path, SFM_WRITE, &info);
    if (!file) fail_msg("%s: %s", path, sf_strerror(NULL));
    assert_int_equal(sf_writef_float(file, frames, n), n);
    sf_close(file);
}

static audio_source *open_source(const char *path, double limit)
{
    ace_error error = {0};
    audio_source *source = audio_source_open(path, limit, NULL, &error);
    if (!source) fail_msg("%s", error.message);
    return source;
}

/* All of it, in blocks of `block` frames; free(). */
static float *read_all(audio_source *source, size_t block)
{
    ace_error error = {0};
    size_t frames = (size_t)audio_source_describe(source)->frames, at = 0, got = block;
    float *all = malloc((frames + block) * 2 * sizeof *all);
    assert_non_null(all);
    while (got == block) {
        if (!audio_source_read(source, all + 2 * at, at + block < frames ? block : frames - at, &got, &error))
            fail_msg("%s", error.message);
        at += got;
    }
    assert_int_equal(at, frames);
    return all;
}

/* ---- what is heard ----------------------------------------------------------------------------------------------- */

/* Against reader, resampler and clamp one after another. */
static void a_file_is_decoded_resampled_and_clamped(void **state)
{
    char path[512];
    path_in(path, *state, "in.wav");
    static const struct {
        int rate, channels, frames;
        double gain;
    } files[] = {{44100, 1, 30011, 0.5},
                 {48000, 2, 20000, 1.7},
                 {22050, 6, 9999, 0.9},
                 {96000, 3, 40001, 2.5},
                 {8000, 2, 1, 0.5}};
    for (size_t k = 0; k < sizeof files / sizeof *files; k++) {
        ace_error error = {0};
        write_tones(path, SF_FORMAT_WAV | SF_FORMAT_FLOAT, files[k].rate, files[k].channels, files[k].frames,
                    files[k].gain);
        audio_source *source = open_source(path, 60);
        const audio_source_info *info = audio_source_describe(source);
        int64_t length = ((int64_t)files[k].frames * 48000 + files[k].rate - 1) / files[k].rate;
        assert_int_equal(info->frames, length);
        assert_int_equal(info->rate, files[k].rate);
        assert_int_equal(info->channels, files[k].channels);
        assert_false(info->truncated);
        assert_true(info->claimed == (double)files[k].frames / files[k].rate);
        assert_string_equal(info->path, path);

        audio_clip clip;
        assert_ok(audio_read_file(&clip, path, 60, &error), error);
        audio_resampler *resampler = audio_resampler_new(files[k].rate, 48000, &error);
        float *expected = calloc((size_t)length * 2, sizeof *expected);
        size_t put = 0, got = 0;
        while (got < (size_t)length) {
            put += audio_resampler_put(resampler, clip.frames + 2 * put, (size_t)clip.count - put);
            if (put == (size_t)clip.count) audio_resampler_end(resampler);
            got += audio_resampler_take(resampler, expected + 2 * got, (size_t)length - got);
        }
        float peak = 0;
        for (int64_t i = 0; i < length * 2; i++) {
            peak = fmaxf(peak, fabsf(expected[i]));
            expected[i] = expected[i] > 1 ? 1 : expected[i] < -1 ? -1 : expected[i];
        }
        assert_true(files[k].gain < 1 || peak > 1.5);
        audio_resampler_free(resampler);

        static const size_t blocks[] = {1, 997, 4096, 100000};
        for (int b = 0; b < 4; b++) {
            float *heard = read_all(source, blocks[b]);
            assert_memory_equal(heard, expected, (size_t)length * 2 * sizeof *heard);
            size_t more;
            assert_ok(audio_source_read(source, heard, 1, &more, &error), error);
            assert_int_equal(more, 0);
            free(heard);
            assert_ok(audio_source_rewind(source, &error), error);
        }
        free(expected);
        free(clip.frames);
        audio_source_close(source);
    }
}

static void every_format_holds_as_much_as_was_found(void **state)
{
    char path[512];
    static const int formats[] = {SF_FORMAT_WAV | SF_FORMAT_PCM_16,         SF_FORMAT_WAVEX | SF_FORMAT_PCM_24,
                                  SF_FORMAT_FLAC | SF_FORMAT_PCM_24,        SF_FORMAT_AIFF | SF_FORMAT_PCM_16,
                                  SF_FORMAT_OGG | SF_FORMAT_VORBIS,         SF_FORMAT_OGG | SF_FORMAT_OPUS,
                                  SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III};
    for (size_t k = 0; k < sizeof formats / sizeof *formats; k++)
        for (int rate = 24000; rate <= 48000; rate += 24000) {
            write_tones(path_in(path, *state, "kind"), formats[k], rate, 2, 100003, 0.5);
            audio_source *source = open_source(path, 60);
            int64_t frames = audio_source_describe(source)->frames, real = 100003 * (48000 / rate);
            if (llabs(frames - real) > 4800) fail_msg("format %x has %lld frames", formats[k], (long long)frames);
            assert_false(audio_source_describe(source)->silent);
            free(read_all(source, 1000));
            audio_source_close(source);
        }
}

/* ---- length ------------------------------------------------------------------------------------------------------ */

static void a_limit_cuts_and_says_so(void **state)
{
    char path[512];
    path_in(path, *state, "long.wav");
    for (int rate = 44100; rate <= 48000; rate += 3900) {
        write_tones(path, SF_FORMAT_WAV | SF_FORMAT_PCM_16, rate, 1, rate * 2, 0.5);
        audio_source *whole = open_source(path, 2);
        assert_false(audio_source_describe(whole)->truncated);
        assert_int_equal(audio_source_describe(whole)->frames, 96000);
        float *all = read_all(whole, 4096);
        static const struct {
            double seconds;
            int64_t frames;
        } limits[] = {{1.9999791, 95999}, {1, 48000}, {0.0000209, 1}, {0.5, 24000}};
        for (int k = 0; k < 4; k++) {
            audio_source *cut = open_source(path, limits[k].seconds);
            const audio_source_info *info = audio_source_describe(cut);
            assert_true(info->truncated);
            assert_true(info->claimed == 2);
            assert_int_equal(info->frames, limits[k].frames);
            float *part = read_all(cut, 4096);
            assert_memory_equal(part, all, (size_t)info->frames * 2 * sizeof *part);
            free(part);
            audio_source_close(cut);
        }
        free(all);
        audio_source_close(whole);
    }
    ace_error error = {0};
    static const double nothing[] = {0, -1, NAN, 0.00001};
    for (int k = 0; k < 4; k++)
        assert_fails(audio_source_open(path, nothing[k], NULL, &error), error, ACE_ERROR_USAGE, "nothing");
}

/* The header is 44 bytes: what it says of the data is overwritten. */
static void write_lying_wav(const char *path, int rate, uint32_t claimed_bytes, size_t real_bytes)
{
    write_tones(path, SF_FORMAT_WAV | SF_FORMAT_PCM_16, rate, 1, (int64_t)real_bytes / 2, 0.5);
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    uint32_t riff = claimed_bytes > UINT32_MAX - 36 ? UINT32_MAX : claimed_bytes + 36;
    fseek(file, 4, SEEK_SET);
    assert_int_equal(fwrite(&riff, 4, 1, file), 1);
    fseek(file, 40, SEEK_SET);
    assert_int_equal(fwrite(&claimed_bytes, 4, 1, file), 1);
    fclose(file);
}

static void a_header_that_lies_is_not_believed(void **state)
{
    char path[512];
    path_in(path, *state, "lie.wav");
    static const uint32_t claims[] = {0xFFFFFFFFu, 0x7FFFFFFEu, 400000, 100000};
    for (int k = 0; k < 4; k++) {
        write_lying_wav(path, 48000, claims[k], 200000);
        audio_source *source = open_source(path, 600);
        const audio_source_info *info = audio_source_describe(source);
        assert_true(info->frames <= 100000);
        assert_true(info->frames >= 50000);
        assert_false(info->truncated);
        free(read_all(source, 4096));
        audio_source_close(source);
    }
}

/* A file that ends early: what is there is heard, exactly. */
static void a_file_cut_short_is_heard_as_far_as_it_goes(void **state)
{
    char path[512];
    path_in(path, *state, "cut.wav");
    write_tones(path, SF_FORMAT_WAV | SF_FORMAT_PCM_16, 48000, 2, 50000, 0.5);
    assert_int_equal(truncate(path, 44 + 30000 * 4), 0);
    audio_source *source = open_source(path, 600);
    assert_int_equal(audio_source_describe(source)->frames, 30000);
    free(read_all(source, 4096));
    audio_source_close(source);
}

/* An hour of 8 kHz, as a file with a hole. */
static void an_hour_takes_no_more_memory_than_a_second(void **state)
{
    char path[512];
    path_in(path, *state, "hour.wav");
    const uint32_t bytes = 8000u * 3600 * 2;
    write_lying_wav(path, 8000, bytes, 160000); /* ten seconds of tone, then nothing */
    assert_int_equal(truncate(path, 44 + (off_t)bytes), 0);
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    double start = ace_clock();
    audio_source *source = open_source(path, 600);
    print_message("  examined in %.2f s\n", ace_clock() - start);
    const audio_source_info *info = audio_source_describe(source);
    assert_true(info->truncated);
    assert_true(info->claimed == 3600);
    assert_int_equal(info->frames, 600 * 48000);
    assert_false(info->silent);
    size_t got, used = mallinfo2().uordblks + mallinfo2().hblkhd - before;
    static float block[48000 * 2];
    ace_error error = {0};
    for (int second = 0; second < 600; second++) {
        assert_ok(audio_source_read(source, block, 48000, &got, &error), error);
        assert_int_equal(got, 48000);
    }
    size_t end = mallinfo2().uordblks + mallinfo2().hblkhd - before;
    print_message("  %zu bytes\n", used);
    assert_true(used < 500000);
    assert_true(end <= used + 4096);
    audio_source_close(source);
}

/* ---- refusals ---------------------------------------------------------------------------------------------------- */

static void what_is_not_audio_is_refused(void **state)
{
    char path[512];
    ace_error error = {0};
    path_in(path, *state, "bad.wav");
    assert_fails(audio_source_open(path, 60, NULL, &error), error, ACE_ERROR_IO, "bad.wav");
    write_tones(path, SF_FORMAT_WAV | SF_FORMAT_PCM_16, 48000, 2, 0, 0);
    assert_fails(audio_source_open(path, 60, NULL, &error), error, ACE_ERROR_FORMAT, "holds no audio");
    write_bytes(path, "", 0);
    assert_fails(audio_source_open(path, 60, NULL, &error), error, ACE_ERROR_FORMAT, "bad.wav");
    write_bytes(path, "this is not music, and long enough to be read as a header of some kind", 70);
    assert_fails(audio_source_open(path, 60, NULL, &error), error, ACE_ERROR_FORMAT, "bad.wav");
    assert_fails(audio_source_open(*state, 60, NULL, &error), error, ACE_ERROR_IO, "regular file");
}

static void numbers_that_are_none_are_refused_before_anything_is_computed(void **state)
{
    char path[512];
    ace_error error = {0};
    path_in(path, *state, "nan.wav");
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int k = 0; k < 3; k++) {
        float *frames = calloc(2 * 100000, sizeof *frames);
        frames[2 * 96000 + 1] = bad[k];
        write_frames(path, frames, 100000);
        assert_fails(audio_source_open(path, 60, NULL, &error), error, ACE_ERROR_FORMAT, "second 2.000");
        free(frames);
    }
}

static void silence_is_what_the_official_program_calls_silence(void **state)
{
    char path[512];
    path_in(path, *state, "quiet.wav");
    static const struct {
        double gain;
        bool silent;
    } levels[] = {{0, true}, {0.9e-6, true}, {1.1e-6, false}, {0.5, false}};
    for (int k = 0; k < 4; k++) {
        write_tones(path, SF_FORMAT_WAV | SF_FORMAT_FLOAT, 48000, 2, 48000, levels[k].gain);
        audio_source *source = open_source(path, 60);
        assert_int_equal(audio_source_describe(source)->silent, levels[k].silent);
        audio_source_close(source);
    }
    /* one click in the last sample of one channel */
    float *frames = calloc(2 * 50000, sizeof *frames);
    frames[2 * 50000 - 1] = -2e-6f;
    write_frames(path, frames, 50000);
    free(frames);
    audio_source *source = open_source(path, 60);
    assert_false(audio_source_describe(source)->silent);
    audio_source_close(source);
    source = open_source(path, 1); /* the click lies beyond */
    assert_true(audio_source_describe(source)->silent);
    audio_source_close(source);
}

static void a_file_that_changes_is_noticed(void **state)
{
    char path[512];
    ace_error error = {0};
    path_in(path, *state, "changing.wav");
    write_tones(path, SF_FORMAT_WAV | SF_FORMAT_PCM_16, 44100, 2, 100000, 0.5);
    audio_source *source = open_source(path, 60);
    assert_int_equal(truncate(path, 44 + 50000 * 4), 0);
    float *frames = malloc(200000 * 2 * sizeof *frames);
    size_t got;
    assert_fails(audio_source_read(source, frames, 200000, &got, &error), error, ACE_ERROR_FORMAT, "was changed");
    audio_source_close(source);
    source = open_source(path, 60);
    unlink(path);
    assert_fails(audio_source_rewind(source, &error), error, ACE_ERROR_IO, "changing.wav");
    assert_fails(audio_source_rewind(source, &error), error, ACE_ERROR_IO, "changing.wav");
    audio_source_close(source);
    free(frames);
}

static void a_stop_ends_the_examination(void **state)
{
    char path[512];
    ace_error error = {0};
    path_in(path, *state, "in.wav");
    write_tones(path, SF_FORMAT_WAV | SF_FORMAT_PCM_16, 48000, 2, 100000, 0.5);
    atomic_bool stop = true;
    assert_fails(audio_source_open(path, 60, &stop, &error), error, ACE_CANCELLED, "stopped");
    atomic_store(&stop, false);
    audio_source *source = audio_source_open(path, 60, &stop, &error);
    if (!source) fail_msg("%s", error.message);
    atomic_store(&stop, true);
    float frames[200];
    size_t got;
    assert_fails(audio_source_read(source, frames, 100, &got, &error), error, ACE_CANCELLED, "stopped");
    audio_source_close(source);
    audio_source_close(NULL);
}

static void refused_memory_is_an_error(void **state)
{
    char path[512];
    path_in(path, *state, "in.wav");
    write_tones(path, SF_FORMAT_WAV | SF_FORMAT_PCM_16, 44100, 2, 10000, 0.5);
    audio_source *source = NULL;
    long n = 0;
    while (!source) {
        ace_error error = {0};
        ace_fault_arm(++n);
        source = audio_source_open(path, 60, NULL, &error);
        ace_fault_arm(0);
        if (!source) assert_int_equal(error.status, ACE_ERROR_MEMORY);
    }
    assert_true(n > 10); /* two readers, two resamplers, the source and its path */
    audio_source_close(source);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_decoded_resampled_and_clamped),
        cmocka_unit_test(every_format_holds_as_much_as_was_found),
        cmocka_unit_test(a_limit_cuts_and_says_so),
        cmocka_unit_test(a_header_that_lies_is_not_believed),
        cmocka_unit_test(a_file_cut_short_is_heard_as_far_as_it_goes),
        cmocka_unit_test(an_hour_takes_no_more_memory_than_a_second),
        cmocka_unit_test(what_is_not_audio_is_refused),
        cmocka_unit_test(numbers_that_are_none_are_refused_before_anything_is_computed),
        cmocka_unit_test(silence_is_what_the_official_program_calls_silence),
        cmocka_unit_test(a_file_that_changes_is_noticed),
        cmocka_unit_test(a_stop_ends_the_examination),
        cmocka_unit_test(refused_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
