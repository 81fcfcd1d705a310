/* The spool: what comes back is what went in, the peak, the exact rank, and what it refuses. */
#include "audio/audio_spool.h"

#include "audio_support.h"

static void test_frames_come_back(void **state)
{
    char path[512];
    enum { FRAMES = 10007 };
    float *signal = make_signal(FRAMES), *back = malloc(FRAMES * 2 * sizeof *back);
    audio_spool spool;
    ace_error error = {0};
    assert_ok(audio_spool_open(&spool, path_in(path, *state, "song.wav"), &error), error);
    assert_int_equal(count_files(*state), 0); /* nameless */
    for (size_t at = 0, n = 1; at < FRAMES; at += n, n = n * 3 % 1021) {
        if (n > FRAMES - at) n = FRAMES - at;
        assert_ok(audio_spool_append(&spool, signal + 2 * at, n, &error), error);
    }
    assert_int_equal(spool.frames, FRAMES);
    for (size_t at = 0, n = 7; at < FRAMES; at += n) {
        if (n > FRAMES - at) n = FRAMES - at;
        assert_ok(audio_spool_read(&spool, (int64_t)at, back + 2 * at, n, &error), error);
    }
    assert_memory_equal(signal, back, FRAMES * 2 * sizeof *back);
    float peak = 0;
    for (size_t i = 0; i < FRAMES * 2; i++) peak = fmaxf(peak, fabsf(signal[i]));
    assert_true(spool.peak == peak);
    assert_fails(audio_spool_read(&spool, FRAMES - 1, back, 2, &error), error, ACE_ERROR_INTERNAL, "10007");
    assert_fails(audio_spool_read(&spool, -1, back, 1, &error), error, ACE_ERROR_INTERNAL, "-1");
    assert_ok(audio_spool_read(&spool, FRAMES, back, 0, &error), error);
    audio_spool_close(&spool);
    audio_spool_close(&spool);
    free(signal);
    free(back);
}

static void test_refuses_what_is_no_number(void **state)
{
    char path[512];
    const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 4; i++) {
        float *signal = make_signal(96000);
        audio_spool spool;
        ace_error error = {0};
        assert_ok(audio_spool_open(&spool, path_in(path, *state, "song.wav"), &error), error);
        assert_ok(audio_spool_append(&spool, signal, 48000, &error), error);
        float peak = spool.peak;
        signal[2 * (48000 + 24000) + i % 2] = bad[i];
        assert_fails(audio_spool_append(&spool, signal + 96000, 48000, &error), error, ACE_ERROR_NUMERIC,
                     "second 1.500");
        assert_int_equal(spool.frames, 48000);
        assert_true(spool.peak == peak);
        audio_spool_close(&spool);
        free(signal);
    }
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void test_rank_is_exact(void **state)
{
    char path[512];
    enum { FRAMES = 5000 };
    float *signal = make_signal(FRAMES), *sorted = malloc(FRAMES * 2 * sizeof *sorted);
    signal[17] = 0.0f;
    signal[18] = -0.0f;
    signal[19] = 1e-40f; /* subnormal */
    signal[20] = -7.5f;
    for (int i = 0; i < FRAMES * 2; i++) sorted[i] = fabsf(signal[i]);
    qsort(sorted, FRAMES * 2, sizeof *sorted, by_value);
    audio_spool spool;
    ace_error error = {0};
    assert_ok(audio_spool_open(&spool, path_in(path, *state, "song.wav"), &error), error);
    assert_ok(audio_spool_append(&spool, signal, FRAMES, &error), error);
    for (int64_t rank = 0; rank < FRAMES * 2; rank += rank < 10 || rank > FRAMES * 2 - 10 ? 1 : 373) {
        float magnitude;
        assert_ok(audio_spool_rank(&spool, rank, &magnitude, &error), error);
        assert_true(magnitude == sorted[rank]);
    }
    float magnitude;
    assert_fails(audio_spool_rank(&spool, FRAMES * 2, &magnitude, &error), error, ACE_ERROR_INTERNAL, "10000");
    audio_spool_close(&spool);
    free(signal);
    free(sorted);
}

static void test_missing_directory(void **state)
{
    char path[512];
    audio_spool spool;
    ace_error error = {0};
    assert_fails(audio_spool_open(&spool, path_in(path, *state, "none/song.wav"), &error), error, ACE_ERROR_IO, "none");
    audio_spool_close(&spool);
    audio_spool zero = {0};
    audio_spool_close(&zero);
    assert_true(fcntl(STDIN_FILENO, F_GETFD) != -1); /* a zeroed spool does not own descriptor 0 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_come_back),
        cmocka_unit_test(test_refuses_what_is_no_number),
        cmocka_unit_test(test_rank_is_exact),
        cmocka_unit_test(test_missing_directory),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
