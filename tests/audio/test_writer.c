/* Written files: exact lengths and samples, the same bytes every time, and nothing left behind. Samples are read back
 * with libsndfile itself, not with the room's own reader. */
#include "audio/audio_level.h"
#include "audio/audio_spool.h"
#include "audio_support.h"

#include <sndfile.h>

static const char *song_path(char buffer[512], const char *directory, audio_format format)
{
    snprintf(buffer, 512, "%s/song-%s%s", directory, audio_format_name(format), audio_format_extension(format));
    return buffer;
}

static audio_writer_options options_for(audio_format format)
{
    return (audio_writer_options){.format = format, .rate = AUDIO_SAMPLE_RATE};
}

/* The whole file, counted to its end; free(). */
static float *decode(const char *path, sf_count_t *frames)
{
    SF_INFO info = {0};
    SNDFILE *file = sf_open(path, SFM_READ, &info);
    if (!file) fail_msg("%s: %s", path, sf_strerror(NULL));
    assert_int_equal(info.channels, 2);
    assert_int_equal(info.samplerate, 48000);
    float *samples = malloc((size_t)(info.frames + 4800) * 2 * sizeof *samples);
    *frames = sf_readf_float(file, samples, info.frames + 4800);
    assert_int_equal(*frames, info.frames);
    sf_close(file);
    return samples;
}

static double correlation(const float *a, const float *b, size_t n)
{
    double ab = 0.0, aa = 0.0, bb = 0.0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}

static void test_lengths_and_samples(void **state)
{
    char path[512];
    static const size_t lengths[] = {1, 2, 119, 1919, 1920, 4097, 48000, 480000};
    for (int f = 0; f < AUDIO_FORMAT_COUNT; f++) {
        for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
            size_t n = lengths[k];
            float *signal = make_signal(n);
            ace_error error = {0};
            audio_writer_options options = options_for(f);
            assert_ok(write_song(song_path(path, *state, f), &options, signal, n, 0, &error), error);
            sf_count_t frames;
            float *back = decode(path, &frames);
            assert_int_equal(frames, n);
            int bits = audio_format_bits(f);
            double full = bits ? (double)(1 << (bits - 1)) : 1.0;
            for (size_t i = 0; i < 2 * n && (bits || f == AUDIO_WAV32); i++) {
                double want = bits ? nearbyint(signal[i] * full) / full : signal[i];
                if (back[i] != want) fail_msg("%s, sample %zu: %.9g instead of %.9g", path, i, (double)back[i], want);
            }
            if ((f == AUDIO_MP3 || f == AUDIO_OPUS) && n >= 48000) {
                double here = correlation(signal, back, 2 * n);
                if (here < 0.995) fail_msg("%s: correlation %.4f", path, here);
                /* No other alignment is better: the codec's delay is compensated to the sample. */
                for (size_t lag = 1; lag <= 3; lag++) {
                    assert_true(correlation(signal, back + 2 * lag, 2 * (n - lag)) < here);
                    assert_true(correlation(signal + 2 * lag, back, 2 * (n - lag)) < here);
                }
            }
            free(back);
            free(signal);
            unlink(path);
        }
    }
}

static void test_integers_round_and_clip(void **state)
{
    char path[512];
    static const struct {
        float x;
        int sample16, sample24;
    } cases[] = {
        {0.0f, 0, 0},
        {-0.0f, 0, 0},
        {0.5f, 16384, 4194304},
        {-0.5f, -16384, -4194304},
        {1.0f, 32767, 8388607},
        {-1.0f, -32768, -8388608},
        {1.0001f, 32767, 8388607},
        {-7.0f, -32768, -8388608},
        {3e38f, 32767, 8388607},
        {-3e38f, -32768, -8388608},
        {0.99999f, 32767, 8388524}, /* 32767.67 clips; 8388524.1 */
        {0.5f / 32768, 0, 128},     /* ties go to even */
        {1.5f / 32768, 2, 384},
        {-2.5f / 32768, -2, -640},
        {2.6f / 32768, 3, 666}, /* 665.6 */
        {0.5f / 8388608, 0, 0},
        {-1.5f / 8388608, 0, -2},
        {1e-38f, 0, 0},
    };
    enum { CASES = sizeof cases / sizeof *cases };
    float frames[2 * CASES];
    for (int i = 0; i < CASES; i++) {
        frames[2 * i] = cases[i].x;
        frames[2 * i + 1] = cases[CASES - 1 - i].x;
    }
    for (int f = 0; f < AUDIO_FORMAT_COUNT; f++) {
        int bits = audio_format_bits(f);
        if (!bits) continue;
        ace_error error = {0};
        audio_writer_options options = options_for(f);
        assert_ok(write_song(song_path(path, *state, f), &options, frames, CASES, 0, &error), error);
        SF_INFO info = {0};
        SNDFILE *file = sf_open(path, SFM_READ, &info);
        int back[2 * CASES];
        assert_int_equal(sf_readf_int(file, back, CASES), CASES);
        sf_close(file);
        for (int i = 0; i < CASES; i++) {
            int left = bits == 16 ? cases[i].sample16 : cases[i].sample24;
            int right = bits == 16 ? cases[CASES - 1 - i].sample16 : cases[CASES - 1 - i].sample24;
            assert_int_equal(back[2 * i] >> (32 - bits), left);
            assert_int_equal(back[2 * i + 1] >> (32 - bits), right);
            assert_int_equal(back[2 * i] & ((1 << (32 - bits)) - 1), 0);
        }
        unlink(path);
    }
}

static void test_float_is_not_clipped(void **state)
{
    char path[512];
    float frames[] = {1.5f, -2.0f, 1e-40f, 3e38f};
    ace_error error = {0};
    audio_writer_options options = options_for(AUDIO_WAV32);
    assert_ok(write_song(song_path(path, *state, AUDIO_WAV32), &options, frames, 2, 0, &error), error);
    sf_count_t n;
    float *back = decode(path, &n);
    assert_memory_equal(back, frames, sizeof frames);
    free(back);
    unlink(path);
}

static void test_lossy_clip_does_not_wrap(void **state)
{
    char path[512];
    for (int f = AUDIO_MP3; f <= AUDIO_OPUS; f++) {
        size_t n = 48000;
        float *loud = make_signal(n), *clipped = make_signal(n);
        for (size_t i = 0; i < 2 * n; i++) {
            loud[i] *= 100.0f;
            clipped[i] = fminf(fmaxf(loud[i], -1.0f), 1.0f);
        }
        ace_error error = {0};
        audio_writer_options options = options_for(f);
        assert_ok(write_song(song_path(path, *state, f), &options, loud, n, 0, &error), error);
        sf_count_t frames;
        float *back = decode(path, &frames);
        assert_true(correlation(clipped, back, 2 * n) > 0.98);
        free(back);
        free(loud);
        free(clipped);
        unlink(path);
    }
}

/* From windows to file as a song goes: spool, plan, apply, write. */
static void test_peak_rule(void **state)
{
    char path[512];
    for (int f = AUDIO_WAV16; f <= AUDIO_FLAC16; f++) {
        enum { FRAMES = 50000 };
        float *signal = make_signal(FRAMES), block[2 * 1024];
        for (int i = 0; i < 2 * FRAMES; i++) signal[i] *= 1.7f;
        ace_error error = {0};
        audio_spool spool;
        assert_ok(audio_spool_open(&spool, song_path(path, *state, f), &error), error);
        assert_ok(audio_spool_append(&spool, signal, FRAMES, &error), error);
        audio_level level;
        audio_level_options defaults = audio_level_defaults();
        assert_ok(audio_level_plan(&level, &defaults, spool.peak, spool.frames, 48000, &error), error);
        audio_writer_options options = options_for(f);
        audio_writer *writer = audio_writer_open(path, &options, &error);
        for (int64_t at = 0; at < FRAMES; at += 1024) {
            size_t n = (size_t)(FRAMES - at < 1024 ? FRAMES - at : 1024);
            assert_ok(audio_spool_read(&spool, at, block, n, &error), error);
            audio_level_apply(&level, at, block, n);
            assert_ok(audio_writer_write(writer, block, n, &error), error);
        }
        assert_ok(audio_writer_finish(writer, &error), error);
        audio_spool_close(&spool);
        sf_count_t n;
        float *back = decode(path, &n), peak = 0.0f;
        for (int i = 0; i < 2 * FRAMES; i++) peak = fmaxf(peak, fabsf(back[i]));
        double half_step = audio_format_bits(f) ? 0.5 / (1 << (audio_format_bits(f) - 1)) : 0.0;
        assert_true(fabs((double)peak - 0.891251) <= 1e-6 + half_step);
        free(back);
        free(signal);
        unlink(path);
    }
}

static void test_same_bytes(void **state)
{
    char path[512];
    size_t n = 100000, size[2];
    float *signal = make_signal(n);
    char *bytes[AUDIO_FORMAT_COUNT];
    size_t sizes[AUDIO_FORMAT_COUNT];
    ace_error error = {0};
    const size_t blocks[] = {0, 1920, 7777};
    for (int pass = 0; pass < 3; pass++) {
        if (pass == 1) sleep(2); /* a time stamp of seconds would show */
        for (int f = 0; f < AUDIO_FORMAT_COUNT; f++) {
            audio_writer_options options = options_for(f);
            options.tags =
                (audio_tags){.title = "Rain", .artist = "nobody", .software = "acestep 0", .comment = "{\"seed\": 7}"};
            assert_ok(write_song(song_path(path, *state, f), &options, signal, n, blocks[pass], &error), error);
            char *now = ace_read_file(path, 1 << 26, size, &error);
            assert_non_null(now);
            unlink(path);
            if (pass == 0) {
                bytes[f] = now;
                sizes[f] = size[0];
                continue;
            }
            if (size[0] != sizes[f] || memcmp(now, bytes[f], size[0]) != 0)
                fail_msg("%s: other bytes in blocks of %zu", audio_format_name(f), blocks[pass]);
            free(now);
        }
    }
    for (int f = 0; f < AUDIO_FORMAT_COUNT; f++) free(bytes[f]);
    free(signal);
}

static void test_bit_rates(void **state)
{
    char path[512];
    size_t n = 240000, size;
    float *noise = malloc(n * 2 * sizeof *noise);
    uint32_t random = 1;
    for (size_t i = 0; i < 2 * n; i++) noise[i] = (float)((int32_t)(random = random * 1664525u + 1013904223u)) * 3e-10f;
    static const struct {
        audio_format format;
        int kbps;
        double tolerance; /* Opus varies its rate */
    } cases[] = {{AUDIO_MP3, 0, 0.01},   {AUDIO_MP3, 128, 0.01}, {AUDIO_MP3, 192, 0.01}, {AUDIO_MP3, 256, 0.01},
                 {AUDIO_MP3, 320, 0.01}, {AUDIO_OPUS, 64, 0.2},  {AUDIO_OPUS, 0, 0.2},   {AUDIO_OPUS, 256, 0.2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ace_error error = {0};
        audio_writer_options options = options_for(cases[i].format);
        options.mp3_kbps = options.opus_kbps = cases[i].kbps;
        if (cases[i].format == AUDIO_OPUS) options.mp3_kbps = 0;
        assert_ok(write_song(song_path(path, *state, cases[i].format), &options, noise, n, 0, &error), error);
        char *bytes = ace_read_file(path, 1 << 26, &size, &error);
        double want = (cases[i].kbps ? cases[i].kbps : 128) * 125.0 * 5.0;
        if (fabs((double)size - want) > cases[i].tolerance * want + 1500)
            fail_msg("%s at %d kbit/s: %zu bytes instead of about %.0f", path, cases[i].kbps, size, want);
        if (cases[i].format == AUDIO_MP3) {
            /* Every frame has the same bit rate: MPEG-1 layer III's table, ISO 11172-3. */
            static const int table[16] = {0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0};
            int frames = 0;
            for (size_t at = 0; at + 4 <= size; frames++) {
                const uint8_t *p = (const uint8_t *)bytes + at;
                assert_true(p[0] == 0xff && (p[1] & 0xfe) == 0xfa);
                int kbps = table[p[2] >> 4];
                if (frames > 0)
                    assert_int_equal(kbps, cases[i].kbps ? cases[i].kbps : 128); /* the first is LAME's info */
                at += (size_t)(144 * kbps * 1000 / 48000 + (p[2] >> 1 & 1));
            }
            assert_in_range(frames, 209, 213); /* 240000 / 1152 = 208.3, and the info and delay frames */
        }
        free(bytes);
        unlink(path);
    }
    ace_error error = {0};
    const int wrong[] = {1, 64, 127, 129, 321, -128};
    for (int i = 0; i < 6; i++) {
        audio_writer_options options = {.format = AUDIO_MP3, .rate = 48000, .mp3_kbps = wrong[i]};
        assert_fails(audio_writer_open(path, &options, &error) != NULL, error, ACE_ERROR_USAGE, "128, 192, 256 or 320");
    }
    audio_writer_options opus = {.format = AUDIO_OPUS, .rate = 48000, .opus_kbps = 511};
    assert_fails(audio_writer_open(path, &opus, &error) != NULL, error, ACE_ERROR_USAGE, "12 to 510");
    audio_writer_options rate = {.format = AUDIO_OPUS, .rate = 44100};
    assert_fails(audio_writer_open(path, &rate, &error) != NULL, error, ACE_ERROR_USAGE, "44100");
    assert_int_equal(count_files(*state), 0);
    free(noise);
}

static void test_existing_file(void **state)
{
    char path[512];
    float frames[200] = {0.25f};
    for (int f = 0; f < AUDIO_FORMAT_COUNT; f++) {
        ace_error error = {0};
        FILE *old = fopen(song_path(path, *state, f), "w");
        fputs("precious", old);
        fclose(old);
        audio_writer_options options = options_for(f);
        assert_fails(audio_writer_open(path, &options, &error) != NULL, error, ACE_ERROR_IO, "--force");
        /* With replace the old file stays whole until the new one is complete, and when that one is abandoned. */
        options.replace = true;
        for (int finish = 0; finish < 2; finish++) {
            audio_writer *writer = audio_writer_open(path, &options, &error);
            assert_non_null(writer);
            assert_ok(audio_writer_write(writer, frames, 100, &error), error);
            size_t size;
            char *bytes = ace_read_file(path, 100, &size, &error);
            assert_string_equal(bytes, "precious");
            free(bytes);
            if (finish)
                assert_ok(audio_writer_finish(writer, &error), error);
            else
                audio_writer_abandon(writer);
            assert_int_equal(count_files(*state), 1);
        }
        sf_count_t n;
        free(decode(path, &n));
        assert_int_equal(n, 100);
        /* A file that appears while ours is written is not overwritten either. */
        unlink(path);
        options.replace = false;
        audio_writer *writer = audio_writer_open(path, &options, &error);
        assert_ok(audio_writer_write(writer, frames, 100, &error), error);
        old = fopen(path, "w");
        fclose(old);
        assert_fails(audio_writer_finish(writer, &error), error, ACE_ERROR_IO, "exists already");
        assert_int_equal(count_files(*state), 1);
        unlink(path);
    }
}

static void test_nothing_left_behind(void **state)
{
    char path[512];
    float *signal = make_signal(20000);
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int f = 0; f < AUDIO_FORMAT_COUNT; f++) {
        ace_error error = {0};
        audio_writer_options options = options_for(f);
        song_path(path, *state, f);
        audio_writer *writer = audio_writer_open(path, &options, &error);
        assert_ok(audio_writer_write(writer, signal, 20000, &error), error);
        audio_writer_abandon(writer);
        assert_int_equal(count_files(*state), 0);

        assert_fails(write_song(path, &options, signal, 0, 0, &error), error, ACE_ERROR_NUMERIC, "no audio");
        assert_int_equal(count_files(*state), 0);

        for (int i = 0; i < 3; i++) {
            float frame[2] = {0.0f, bad[i]};
            writer = audio_writer_open(path, &options, &error);
            assert_ok(audio_writer_write(writer, signal, 12000, &error), error);
            assert_fails(audio_writer_write(writer, frame, 1, &error), error, ACE_ERROR_NUMERIC, "second 0.250");
            /* A caller that does not look gets no file either. */
            assert_fails(audio_writer_write(writer, signal, 10, &error), error, ACE_ERROR_NUMERIC, "second 0.250");
            assert_fails(audio_writer_finish(writer, &error), error, ACE_ERROR_NUMERIC, "second 0.250");
            assert_int_equal(count_files(*state), 0);
        }
        assert_fails(write_song("/nonexistent/directory/a.wav", &options, signal, 1, 0, &error), error, ACE_ERROR_IO,
                     "/nonexistent/directory");
        assert_fails(write_song(*state, &options, signal, 1, 0, &error), error, ACE_ERROR_IO, (char *)*state);
    }
    audio_writer_abandon(NULL);
    free(signal);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths_and_samples),
        cmocka_unit_test(test_integers_round_and_clip),
        cmocka_unit_test(test_float_is_not_clipped),
        cmocka_unit_test(test_lossy_clip_does_not_wrap),
        cmocka_unit_test(test_peak_rule),
        cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_bit_rates),
        cmocka_unit_test(test_existing_file),
        cmocka_unit_test(test_nothing_left_behind),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
