/* What streaming promises: the same bytes for every window and number of threads, exactly the context of the receptive
 * field, exactly the planned memory, and clean endings. */
#include "model/vae_fixture.h"

#include "device/backend.h"

/* ---- the same bytes ------------------------------------------------------------------------------------------ */

/* `frames` latent frames; the encoder's signal has an odd tail. */
static int64_t input_length(const codec *c, int64_t frames)
{
    return c->decodes ? frames : frames * vae_hop(&c->config) + vae_hop(&c->config) / 2 + 1;
}

static void check_windows(const golden *g, bool decodes, ace_dtype precision, int64_t frames, const int64_t *windows,
                          int count)
{
    ace_part part = open_golden(g);
    codec c = open_codec(g, &part, decodes, precision, 1);
    int64_t length = input_length(&c, frames);
    float *input = noise(3, length * input_cols(&c));
    float *whole = run_codec(&c, input, length, frames);
    for (int i = 0; i < count; i++) {
        float *output = run_codec(&c, input, length, windows[i]);
        assert_same_bytes(&c, output, whole, length);
        free(output);
    }
    free(whole);
    free(input);
    close_codec(&c);
    close_golden(&part);
}

static void every_window_gives_the_same_bytes(void **state)
{
    (void)state;
    enum { MOST = 41 };
    int64_t all[MOST];
    for (int i = 0; i < MOST; i++) all[i] = i + 1;
    for (int decodes = 0; decodes < 2; decodes++) {
        for (int bf16 = 0; bf16 < 2; bf16++) {
            check_windows(&goldens[1], decodes, bf16 ? ACE_BF16 : ACE_F32, 37, all, 38);
            check_windows(&goldens[2], decodes, bf16 ? ACE_BF16 : ACE_F32, 40, all, 41);
        }
        check_windows(&goldens[0], decodes, ACE_F32, 12, all, 12);
        check_windows(&goldens[0], decodes, ACE_BF16, 23, (const int64_t[]){1, 7, 10, 22, 0}, 5);
    }
}

static void threads_do_not_matter(void **state)
{
    (void)state;
    for (int decodes = 0; decodes < 2; decodes++)
        for (int bf16 = 0; bf16 < 2; bf16++) {
            ace_part part = open_golden(&goldens[0]);
            ace_dtype precision = bf16 ? ACE_BF16 : ACE_F32;
            codec one = open_codec(&goldens[0], &part, decodes, precision, 1);
            codec two = open_codec(&goldens[0], &part, decodes, precision, 2);
            int64_t length = input_length(&one, 11);
            float *input = noise(4, length * input_cols(&one));
            float *a = run_codec(&one, input, length, 4), *b = run_codec(&two, input, length, 4);
            assert_same_bytes(&one, a, b, length);
            free(a);
            free(b);
            free(input);
            close_codec(&one);
            close_codec(&two);
            close_golden(&part);
        }
}

/* Caches so small that a window of the decoder falls into pieces of 512 samples, the shortest there are. */
static void pieces_do_not_matter(void **state)
{
    (void)state;
    for (int g = 0; g < 2; g++)
        for (int bf16 = 0; bf16 < 2; bf16++) {
            ace_part part = open_golden(&goldens[g]);
            codec whole = open_codec(&goldens[g], &part, true, bf16 ? ACE_BF16 : ACE_F32, 1);
            codec pieces = open_codec(&goldens[g], &part, true, bf16 ? ACE_BF16 : ACE_F32, 2);
            pieces.dev->near_bytes = pieces.meter->near_bytes = 1;
            assert_true(whole.dev->near_bytes > 1 << 20);
            int64_t frames = g == 0 ? 13 : 100;
            float *input = noise(6, frames * input_cols(&whole));
            float *a = run_codec(&whole, input, frames, 0), *b = run_codec(&pieces, input, frames, g == 0 ? 5 : 37);
            assert_same_bytes(&whole, a, b, frames);
            free(a);
            free(b);
            free(input);
            close_codec(&whole);
            close_codec(&pieces);
            close_golden(&part);
        }
}

/* ---- the receptive field ------------------------------------------------------------------------------------- */

/* Rows that differ between two outputs: [*first, *end). */
static void differing_rows(const float *a, const float *b, int64_t rows, int64_t cols, int64_t *first, int64_t *end)
{
    *first = rows;
    *end = 0;
    for (int64_t i = 0; i < rows; i++) {
        if (memcmp(a + i * cols, b + i * cols, (size_t)cols * sizeof *a) == 0) continue;
        if (*first == rows) *first = i;
        *end = i + 1;
    }
}

/* Changes one input row strongly (the outermost taps of the field weigh little) and finds what follows. */
static void perturb(const codec *c, int64_t length, int64_t row, int64_t *first, int64_t *end)
{
    float *input = noise(5, length * input_cols(c));
    float *before = run_codec(c, input, length, 5);
    for (int64_t i = 0; i < input_cols(c); i++) input[row * input_cols(c) + i] = 1e6f;
    float *after = run_codec(c, input, length, 5);
    differing_rows(before, after, output_rows(c, length), output_cols(c), first, end);
    free(before);
    free(after);
    free(input);
}

static void a_latent_frame_is_heard_nine_frames_around_it_and_no_further(void **state)
{
    (void)state;
    ace_part part = open_golden(&goldens[0]);
    codec c = open_codec(&goldens[0], &part, true, ACE_F32, 1);
    int64_t first, end;
    perturb(&c, 25, 12, &first, &end);
    print_message("frame 12 of 25 changes samples %lld to %lld\n", (long long)first, (long long)end - 1);
    assert_true(first >= 1920 * 3 && first < 1920 * 4);
    assert_true(end > 1920 * 21 && end <= 1920 * 22);
    perturb(&c, 25, 0, &first, &end);
    assert_int_equal(first, 0);
    assert_true(end > 1920 * 9 && end <= 1920 * 10);
    perturb(&c, 25, 24, &first, &end);
    assert_true(first >= 1920 * 15 && first < 1920 * 16);
    assert_int_equal(end, 1920 * 25);
    close_codec(&c);
    close_golden(&part);
}

static void a_sample_reaches_the_latents_within_12165_samples(void **state)
{
    (void)state;
    ace_part part = open_golden(&goldens[0]);
    codec c = open_codec(&goldens[0], &part, false, ACE_F32, 1);
    /* Frame f depends on samples 1920 f - 12165 .. 1920 f + 1919 + 12165 (vae-audio.md 8). */
    const int64_t field = 12165, frame = 12, rows[] = {1920 * frame + 700, 1920 * frame - 1, 1920 * frame};
    for (int i = 0; i < 3; i++) {
        int64_t first, end;
        perturb(&c, 1920 * 25, rows[i], &first, &end);
        print_message("sample %lld changes frames %lld to %lld\n", (long long)rows[i], (long long)first,
                      (long long)end - 1);
        int64_t earliest = (rows[i] - 1919 - field + 1919) / 1920, latest = (rows[i] + field) / 1920;
        assert_true(first >= earliest && end - 1 <= latest);
        assert_true(first <= earliest + 1 && end - 1 >= latest - 1);
    }
    close_codec(&c);
    close_golden(&part);
}

/* ---- memory -------------------------------------------------------------------------------------------------- */

static void memory_depends_on_the_window_not_on_the_length(void **state)
{
    (void)state;
    for (int decodes = 0; decodes < 2; decodes++) {
        ace_part part = open_golden(&goldens[0]);
        codec c = open_codec(&goldens[0], &part, decodes, ACE_F32, 1);
        int64_t frame = decodes ? 1 : vae_hop(&c.config);
        size_t previous = 0;
        for (int64_t window = 1; window <= 64; window *= 2) {
            size_t planned = planned_scratch(&c, frame * (3 * window + 20), window); /* one window inside */
            assert_int_equal(planned_scratch(&c, frame * (5 * window + 201), window), planned);
            assert_int_equal(planned_scratch(&c, frame * 15000, window), planned);
            assert_true(planned_scratch(&c, frame * window, window) <= planned);
            assert_true(planned > previous && planned < 2 * previous + ((size_t)4 << 20));
            previous = planned;
        }
        close_codec(&c);
        close_golden(&part);
    }
}

/* The real dimensions: what vae.h says of the windows it chooses. The three buffers of the highest rate that does not
 * run in pieces are nearly all: of the encoder the audio's, of the decoder that of 6,000 rows a second. */
static void default_windows_keep_their_promise(void **state)
{
    (void)state;
    static const vae_config real = {2, 64, 128, 5, {1, 2, 4, 8, 16}, {2, 4, 4, 6, 10}, 48000};
    static const int64_t frames[2][2] = {{67, 101}, {123, 192}}; /* decoder, encoder; F32, BF16 */
    for (int encodes = 0; encodes < 2; encodes++)
        for (int bf16 = 0; bf16 < 2; bf16++) {
            ace_dtype act = bf16 ? ACE_BF16 : ACE_F32;
            int64_t window = encodes ? vae_encode_window(&real, act) : vae_decode_window(&real, act);
            assert_int_equal(window, frames[encodes][bf16]);
            vae_span core = {1000, 1000 + window};
            vae_window w = encodes ? vae_window_encode(&real, 1920 * 9000, core) : vae_window_decode(&real, 9000, core);
            vae_span rows = encodes ? w.entry : w.blocks[2].units[0];
            double channels = encodes ? 128 : 256, budget = (encodes ? 384 : 48) * 1048576.0;
            double bytes = (double)vae_span_length(rows) * channels * (4 + 2 * (double)ace_dtype_block_bytes(act));
            assert_true(bytes <= budget && bytes > 0.96 * budget);
        }
}

/* ---- other ways in and out ----------------------------------------------------------------------------------- */

typedef struct reader {
    collector out; /* first: the context is shared */
    const float *input;
    int64_t cols, length, reads;
    int64_t stop_after; /* progress calls; 0: never */
    bool refuse_read, refuse_write, say_why;
} reader;

static bool read_rows(void *context, int64_t first, int64_t count, float *rows, ace_error *error)
{
    reader *r = context;
    assert_true(first >= 0 && count > 0 && count <= r->length - first);
    if (r->refuse_read) return ace_fail(error, ACE_ERROR_IO, "the spool is gone");
    memcpy(rows, r->input + first * r->cols, (size_t)(count * r->cols) * sizeof *rows);
    r->reads++;
    return true;
}

static bool write_rows(void *context, int64_t first, int64_t count, const float *rows, ace_error *error)
{
    reader *r = context;
    if (r->refuse_write) return r->say_why ? ace_fail(error, ACE_ERROR_IO, "the disk is full") : false;
    return collect(&r->out, first, count, rows, error);
}

static bool progress(void *context, int64_t done, int64_t total)
{
    reader *r = context;
    assert_true(done > r->out.done && done <= total);
    r->out.done = done;
    return !r->stop_after || --r->stop_after > 0;
}

/* One run through the callbacks; the status it ends with. */
static ace_status run_reader(const codec *c, reader *r, int64_t window)
{
    ace_error error = {0};
    vae_stream stream = {.window = window, .read = read_rows, .write = write_rows, .progress = progress, .context = r};
    bool ok = run_stream(c, false, r->length, &stream, &error);
    assert_int_equal(ok, error.status == ACE_OK);
    assert_int_equal(ace_device_get_stats(c->dev).scratch_bytes, 0);
    return error.status;
}

static void callbacks_give_the_same_and_can_stop(void **state)
{
    (void)state;
    for (int decodes = 0; decodes < 2; decodes++) {
        ace_part part = open_golden(&goldens[1]);
        codec c = open_codec(&goldens[1], &part, decodes, ACE_F32, 1);
        int64_t length = input_length(&c, 20), total = output_rows(&c, length);
        float *input = noise(6, length * input_cols(&c));
        float *expected = run_codec(&c, input, length, 6);
        float *output = malloc((size_t)(total * output_cols(&c)) * sizeof *output);
        assert_non_null(output);
        const reader fresh = {.out = {.rows = output, .cols = output_cols(&c), .total = total},
                              .input = input,
                              .cols = input_cols(&c),
                              .length = length};

        reader r = fresh;
        assert_int_equal(run_reader(&c, &r, 6), ACE_OK);
        assert_same_bytes(&c, output, expected, length);
        assert_int_equal(r.reads, 4);
        assert_int_equal(r.out.windows, 4);
        assert_int_equal(r.out.done, 20);

        r = fresh;
        r.stop_after = 2;
        assert_int_equal(run_reader(&c, &r, 6), ACE_CANCELLED);
        assert_int_equal(r.out.windows, 2);

        r = fresh;
        r.refuse_write = true;
        assert_int_equal(run_reader(&c, &r, 6), ACE_CANCELLED);
        r.say_why = true;
        assert_int_equal(run_reader(&c, &r, 6), ACE_ERROR_IO);
        r = fresh;
        r.refuse_read = true;
        assert_int_equal(run_reader(&c, &r, 6), ACE_ERROR_IO);
        assert_int_equal(r.out.windows, 0);
        assert_true(ace_device_ok(c.dev, NULL));

        free(output);
        free(expected);
        free(input);
        close_codec(&c);
        close_golden(&part);
    }
}

static void the_encoder_can_leave_out_the_scales(void **state)
{
    (void)state;
    ace_part part = open_golden(&goldens[1]);
    codec c = open_codec(&goldens[1], &part, false, ACE_F32, 1);
    int64_t length = input_length(&c, 9), cols = c.config.latent_channels;
    float *input = noise(7, length * input_cols(&c));
    float *both = run_codec(&c, input, length, 9), *means = malloc((size_t)(9 * cols) * sizeof *means);
    assert_non_null(means);
    collector k = {.rows = means, .cols = cols, .total = 9};
    ace_error error = {0};
    vae_stream stream = {.window = 4, .rows = input, .write = collect, .context = &k};
    assert_true(vae_encode(c.encoder, length, VAE_MEAN, &stream, &error));
    assert_int_equal(k.count, 9);
    for (int64_t f = 0; f < 9; f++)
        assert_memory_equal(means + f * cols, both + f * 2 * cols, (size_t)cols * sizeof *means);
    free(means);
    free(both);
    free(input);
    close_codec(&c);
    close_golden(&part);
}

/* ---- bad input ----------------------------------------------------------------------------------------------- */

static void values_that_are_not_finite_are_errors(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int decodes = 0; decodes < 2; decodes++) {
        ace_part part = open_golden(&goldens[1]);
        codec c = open_codec(&goldens[1], &part, decodes, ACE_F32, 1);
        int64_t length = input_length(&c, 20), total = output_rows(&c, length);
        float *input = noise(8, length * input_cols(&c));
        float *output = run_codec(&c, input, length, 6);
        for (int i = 0; i < 3; i++) {
            ace_error error = {0};
            collector k = {.rows = output, .cols = output_cols(&c), .total = total};
            vae_stream stream = {.window = 6, .rows = input, .write = collect, .context = &k};
            float *value = &input[(length - 2) * input_cols(&c)], kept = *value;
            *value = bad[i];
            assert_false(run_stream(&c, false, length, &stream, &error));
            *value = kept;
            assert_int_equal(error.status, ACE_ERROR_NUMERIC);
            char where[32];
            snprintf(where, sizeof where, " %lld ", (long long)length - 2);
            assert_non_null(strstr(error.message, where));
        }
        /* Finite going in, not coming out: float32 overflows on the way. */
        ace_error error = {0};
        collector k = {.rows = output, .cols = output_cols(&c), .total = total};
        vae_stream stream = {.window = 6, .rows = input, .write = collect, .context = &k};
        for (int64_t i = 0; i < length * input_cols(&c); i++) input[i] = i % 2 ? 3e38f : -3e38f;
        assert_false(run_stream(&c, false, length, &stream, &error));
        assert_int_equal(error.status, ACE_ERROR_NUMERIC);
        assert_int_equal(k.count, 0);
        free(output);
        free(input);
        close_codec(&c);
        close_golden(&part);
    }
}

static void impossible_lengths_are_errors(void **state)
{
    (void)state;
    static const int64_t lengths[] = {0, -1, INT64_MIN, INT64_MAX};
    for (int decodes = 0; decodes < 2; decodes++) {
        ace_part part = open_golden(&goldens[1]);
        codec c = open_codec(&goldens[1], &part, decodes, ACE_F32, 1);
        for (int i = 0; i < 4; i++) {
            ace_error error = {0};
            assert_false(run_stream(&c, true, lengths[i], &(vae_stream){.window = 1}, &error));
            assert_int_equal(error.status, ACE_ERROR_USAGE);
        }
        ace_error error = {0};
        assert_false(run_stream(&c, true, 1, &(vae_stream){.window = -1}, &error));
        assert_int_equal(error.status, ACE_ERROR_USAGE);
        assert_true(run_stream(&c, true, 100, &(vae_stream){.window = INT64_MAX}, &(ace_error){0}));
        close_codec(&c);
        close_golden(&part);
    }
}

static void too_little_scratch_is_an_error(void **state)
{
    (void)state;
    ace_part part = open_golden(&goldens[1]);
    codec c = open_codec(&goldens[1], &part, true, ACE_F32, 1);
    float *input = noise(9, 8 * input_cols(&c));
    ace_error error = {0};
    assert_true(ace_scratch_reserve(c.dev, planned_scratch(&c, 8, 8) - 64, 1 << 20, &error));
    vae_stream stream = {.window = 8, .rows = input, .write = collect};
    assert_false(run_stream(&c, false, 8, &stream, &error));
    assert_int_equal(error.status, ACE_ERROR_INTERNAL);
    assert_int_equal(ace_device_get_stats(c.dev).scratch_bytes, 0);
    free(input);
    close_codec(&c);
    close_golden(&part);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_window_gives_the_same_bytes),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(pieces_do_not_matter),
        cmocka_unit_test(a_latent_frame_is_heard_nine_frames_around_it_and_no_further),
        cmocka_unit_test(a_sample_reaches_the_latents_within_12165_samples),
        cmocka_unit_test(memory_depends_on_the_window_not_on_the_length),
        cmocka_unit_test(default_windows_keep_their_promise),
        cmocka_unit_test(callbacks_give_the_same_and_can_stop),
        cmocka_unit_test(the_encoder_can_leave_out_the_scales),
        cmocka_unit_test(values_that_are_not_finite_are_errors),
        cmocka_unit_test(impossible_lengths_are_errors),
        cmocka_unit_test(too_little_scratch_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
