/* The resampler against torchaudio's (tools/reference/make_listening_goldens.py), and what holds for any resampler. */
#include "audio/audio_resample.h"

#include "audio_support.h"

#include "base/clock.h"
#include "base/memory.h"

#include <malloc.h>

/* The interleaved stereo input of the goldens: values in [-1, 1) from an integer hash; free(). */
static float *noise(int64_t frames)
{
    float *values = malloc((size_t)frames * 2 * sizeof *values);
    assert_non_null(values);
    for (int64_t i = 0; i < frames * 2; i++) {
        uint32_t h = (uint32_t)i + 0x9E3779B9u;
        h = (h ^ (h >> 16)) * 0x85EBCA6Bu;
        h = (h ^ (h >> 16)) * 0xC2B2AE35u;
        h ^= h >> 16;
        values[i] = (float)((double)(h >> 8) / (1 << 23) - 1);
    }
    return values;
}

static int64_t length(int64_t frames, int64_t from, int64_t to)
{
    return (frames * to + from - 1) / from;
}

/* Numbers from 1 to 2^k for growing k, the same every time. */
static size_t block_size(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return 1 + (size_t)(*state >> 33) % ((size_t)1 << (*state >> 60));
}

/* All output, in blocks of `in` and `out` frames, or of random sizes where these are 0; free(). */
static float *resample(int from, int to, const float *frames, int64_t n, size_t in, size_t out, int64_t *count)
{
    ace_error error = {0};
    audio_resampler *r = audio_resampler_new(from, to, &error);
    if (!r) fail_msg("%s", error.message);
    size_t capacity = (size_t)length(n, from, to) + 10, put = 0, got = 0;
    float *result = malloc(capacity * 2 * sizeof *result);
    assert_non_null(result);
    uint64_t state = 1;
    for (bool ended = false;;) {
        size_t want = out ? out : block_size(&state);
        if (want > capacity - got) want = capacity - got;
        size_t taken = audio_resampler_take(r, result + 2 * got, want);
        got += taken;
        if (taken == want && want > 0) continue;
        if (ended) break;
        size_t give = in ? in : block_size(&state);
        if (give > (size_t)n - put) give = (size_t)n - put;
        if (give == 0) {
            audio_resampler_end(r);
            ended = true;
        }
        size_t accepted = audio_resampler_put(r, frames + 2 * put, give);
        assert_true(accepted <= give);
        assert_true(give == 0 || accepted > 0); /* all output was taken, so there is room */
        put += accepted;
    }
    audio_resampler_free(r);
    *count = (int64_t)got;
    return result;
}

/* ---- the reference ----------------------------------------------------------------------------------------------- */

static const struct golden {
    int from, to;
    int64_t frames;
} goldens[] = {
    {44100, 48000, 1201},  {22050, 48000, 601},  {8000, 48000, 333},   {96000, 48000, 2003}, {32000, 48000, 877},
    {11025, 48000, 401},   {47999, 48000, 1303}, {48000, 44100, 1500}, {48000, 48000, 97},   {768000, 48000, 9001},
    {192000, 48000, 4001}, {1000, 48000, 31},    {1021, 1000, 3001},   {44100, 48000, 1},    {44100, 48000, 3},
    {96000, 48000, 2},     {48000, 1000, 3001},
};
enum { GOLDENS = sizeof goldens / sizeof *goldens };

static void output_is_torchaudios(void **state)
{
    (void)state;
    for (int i = 0; i < GOLDENS; i++) {
        const struct golden *g = &goldens[i];
        char path[512];
        size_t size;
        ace_error error = {0};
        snprintf(path, sizeof path, "%s/audio/resample/%d-%d-%d.f32", TEST_DATA, g->from, g->to, (int)g->frames);
        float *theirs = (float *)(void *)ace_read_file(path, 1 << 20, &size, &error);
        if (!theirs) fail_msg("%s", error.message);
        float *input = noise(g->frames);
        int64_t count;
        float *ours = resample(g->from, g->to, input, g->frames, 4096, 4096, &count);
        assert_int_equal(count, length(g->frames, g->from, g->to));
        assert_int_equal(size, (size_t)count * 2 * sizeof *theirs);
        double worst = 0;
        for (int64_t k = 0; k < count * 2; k++) worst = fmax(worst, fabs((double)ours[k] - theirs[k]));
        print_message("  %6d -> %5d: %.1e\n", g->from, g->to, worst);
        if (!(worst <= 1e-6)) fail_msg("%d to %d differs by %.2e", g->from, g->to, worst);
        free(theirs);
        free(input);
        free(ours);
    }
}

/* ---- what holds for any ------------------------------------------------------------------------------------------ */

static void blocks_do_not_change_a_byte(void **state)
{
    (void)state;
    static const int rates[][2] = {{44100, 48000}, {48000, 44100}, {768000, 1000}, {1000, 48000}, {47999, 48000}};
    for (int i = 0; i < 5; i++) {
        enum { FRAMES = 20011 };
        float *input = noise(FRAMES);
        int64_t whole, other;
        float *expected = resample(rates[i][0], rates[i][1], input, FRAMES, FRAMES, FRAMES, &whole);
        static const size_t sizes[][2] = {{1, 1}, {0, 0}, {7, 4096}, {4096, 3}};
        for (int k = 0; k < 4; k++) {
            float *ours = resample(rates[i][0], rates[i][1], input, FRAMES, sizes[k][0], sizes[k][1], &other);
            assert_int_equal(whole, other);
            assert_memory_equal(ours, expected, (size_t)whole * 2 * sizeof *ours);
            free(ours);
        }
        free(expected);
        free(input);
    }
}

static void the_length_is_rounded_up(void **state)
{
    (void)state;
    static const int rates[] = {1000, 8000, 11025, 22050, 32000, 44100, 47999, 48000, 48001, 96000, 192000, 768000};
    float *input = noise(1000);
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
        for (int64_t n = 0; n < 1000; n = n * 2 + 1) {
            int64_t count;
            free(resample(rates[i], 48000, input, n, 0, 0, &count));
            assert_int_equal(count, length(n, rates[i], 48000));
        }
    free(input);
}

static void equal_rates_change_nothing(void **state)
{
    (void)state;
    static const int rates[] = {1000, 44100, 48000, 768000};
    float *input = noise(9999);
    for (int i = 0; i < 4; i++) {
        int64_t count;
        float *ours = resample(rates[i], rates[i], input, 9999, 0, 0, &count);
        assert_int_equal(count, 9999);
        assert_memory_equal(ours, input, 9999 * 2 * sizeof *ours);
        free(ours);
    }
    free(input);
}

/* A tone keeps its frequency, level and place in time; one above the lower Nyquist frequency vanishes. Six zero
 * crossings make a wide transition, so the tones keep away from it. */
static void tones_are_kept_and_aliases_are_not(void **state)
{
    (void)state;
    static const struct {
        int from, to;
        double hertz, level;
    } tones[] = {{44100, 48000, 1000, 1},  {8000, 48000, 440, 1},     {96000, 48000, 5000, 1},
                 {22050, 48000, 3000, 1},  {192000, 48000, 40000, 0}, {96000, 48000, 30000, 0},
                 {48000, 44100, 10000, 1}, {44100, 48000, 12000, 1}};
    enum { FRAMES = 40000, EDGE = 400 };
    float *input = malloc(FRAMES * 2 * sizeof *input);
    assert_non_null(input);
    for (size_t k = 0; k < sizeof tones / sizeof *tones; k++) {
        for (int i = 0; i < FRAMES; i++) {
            double turn = 2 * M_PI * tones[k].hertz * i / tones[k].from;
            input[2 * i] = (float)(0.5 * sin(turn));
            input[2 * i + 1] = (float)(0.5 * cos(turn));
        }
        int64_t count;
        float *ours = resample(tones[k].from, tones[k].to, input, FRAMES, 0, 0, &count);
        double worst = 0;
        for (int64_t i = EDGE; i < count - EDGE; i++) {
            double turn = 2 * M_PI * tones[k].hertz * (double)i / tones[k].to;
            worst = fmax(worst, fabs(ours[2 * i] - tones[k].level * 0.5 * sin(turn)));
            worst = fmax(worst, fabs(ours[2 * i + 1] - tones[k].level * 0.5 * cos(turn)));
        }
        if (!(worst < 0.005))
            fail_msg("%d to %d, %g Hz: off by %.4f", tones[k].from, tones[k].to, tones[k].hertz, worst);
        free(ours);
    }
    free(input);
}

/* torchaudio's table for 767999 to 48000 would take 150 GB. */
static void rates_without_a_divisor_take_little(void **state)
{
    (void)state;
    static const int rates[][2] = {{767999, 48000}, {47999, 48000}, {48000, 767999}, {767999, 1000}, {1001, 767999}};
    for (int i = 0; i < 5; i++) {
        ace_error error = {0};
        size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
        double start = ace_clock();
        audio_resampler *r = audio_resampler_new(rates[i][0], rates[i][1], &error);
        if (!r) fail_msg("%s", error.message);
        size_t used = mallinfo2().uordblks + mallinfo2().hblkhd - before;
        print_message("  %d -> %d: %.1f MB, %.2f s\n", rates[i][0], rates[i][1], (double)used / 1e6,
                      ace_clock() - start);
        assert_true(used < 55000000);
        audio_resampler_free(r);
    }
}

static void absurd_rates_are_refused(void **state)
{
    (void)state;
    static const int rates[][2] = {{0, 48000},      {-44100, 48000}, {999, 48000},      {48000, 999},
                                   {768001, 48000}, {44100, 0},      {44100, INT32_MAX}};
    for (int i = 0; i < 7; i++) {
        ace_error error = {0};
        assert_fails(audio_resampler_new(rates[i][0], rates[i][1], &error), error, ACE_ERROR_USAGE, "1000 to 768000");
    }
}

static void refused_memory_is_an_error(void **state)
{
    (void)state;
    audio_resampler *r = NULL;
    long n = 0;
    while (!r) {
        ace_error error = {0};
        ace_fault_arm(++n);
        r = audio_resampler_new(44100, 48000, &error);
        ace_fault_arm(0);
        if (!r) assert_int_equal(error.status, ACE_ERROR_MEMORY);
    }
    assert_int_equal(n, 5); /* four allocations failed before */
    audio_resampler_free(r);
    audio_resampler_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_is_torchaudios),
        cmocka_unit_test(blocks_do_not_change_a_byte),
        cmocka_unit_test(the_length_is_rounded_up),
        cmocka_unit_test(equal_rates_change_nothing),
        cmocka_unit_test(tones_are_kept_and_aliases_are_not),
        cmocka_unit_test(rates_without_a_divisor_take_little),
        cmocka_unit_test(absurd_rates_are_refused),
        cmocka_unit_test(refused_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
