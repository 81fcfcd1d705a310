/* The condition encoder against the official one: lyrics, timbre (2B and XL), text, packing. */
#include "model/model_fixture.h"

#include "model/condition_encoder.h"

enum { TEXT_TOKENS = 21, LYRIC_TOKENS = 40, REFERENCES = 2, REFERENCE_FRAMES = 750 };
enum { ENC_ROWS = LYRIC_TOKENS + REFERENCES + TEXT_TOKENS };

typedef struct condition_run {
    bench bench;
    condition_encoder encoders[2]; /* on the device, on the meter */
    int64_t hidden, text_hidden, channels;
    ace_dtype enc_dtype;
    float *text, *lyric, *references[REFERENCES], *silence;
    float *enc, *silence_timbre;
} condition_run;

static void forward(void *context, ace_device *dev, int which)
{
    condition_run *run = context;
    const condition_encoder *encoder = &run->encoders[which];
    ace_mark mark = ace_scratch_mark(dev);
    ace_mat enc = ace_scratch(dev, run->enc_dtype, ENC_ROWS, run->hidden);
    ace_mat timbre = ace_scratch(dev, ACE_F32, REFERENCES, run->hidden);
    for (int i = 0; i < REFERENCES; i++)
        condition_encoder_timbre(encoder, ace_rows(timbre, i, 1), run->references[i], REFERENCE_FRAMES);
    ace_mat lyric = uploaded(dev, run->lyric, LYRIC_TOKENS, run->text_hidden);
    ace_mat text = uploaded(dev, run->text, TEXT_TOKENS, run->text_hidden);
    condition_encoder_forward(encoder, enc, lyric, timbre, text);
    ace_download(dev, run->enc, enc);
    ace_scratch_release(dev, mark);

    ace_mat silence = ace_scratch(dev, ACE_F32, 1, run->hidden);
    condition_encoder_timbre(encoder, silence, run->silence, run->bench.checkpoint->dit.timbre_frames);
    ace_download(dev, run->silence_timbre, silence);
    ace_scratch_release(dev, mark);
}

static condition_run open_run(const char *variant, ace_dtype precision, int threads)
{
    ace_error error = {0};
    condition_run run = {.bench = open_bench(variant, precision, threads), .enc_dtype = ACE_F32};
    const ace_checkpoint *checkpoint = run.bench.checkpoint;
    const dit_config *config = &checkpoint->dit;
    condition_encoder_load(&run.encoders[0], run.bench.dev, checkpoint->parts[ACE_PART_DIT], config);
    condition_encoder_load(&run.encoders[1], run.bench.meter, checkpoint->parts[ACE_PART_DIT], config);
    assert_device_ok(run.bench.dev);
    assert_device_ok(run.bench.meter);
    assert_int_equal(ace_device_get_stats(run.bench.dev).weight_bytes,
                     ace_device_get_stats(run.bench.meter).weight_bytes);
    run.hidden = config->encoder.hidden;
    run.text_hidden = config->text_hidden;
    run.channels = config->latent_channels;
    run.text = noise(TEXT_SEED, TEXT_TOKENS * run.text_hidden);
    run.lyric = noise(LYRIC_SEED, LYRIC_TOKENS * run.text_hidden);
    run.references[0] = noise(TIMBRE_SEED_A, REFERENCE_FRAMES * run.channels);
    run.references[1] = noise(TIMBRE_SEED_B, REFERENCE_FRAMES * run.channels);
    run.silence = new_floats(config->timbre_frames * run.channels);
    if (!checkpoint_silence(checkpoint, 0, config->timbre_frames, run.silence, &error)) fail_msg("%s", error.message);
    run.enc = new_floats(ENC_ROWS * run.hidden);
    run.silence_timbre = new_floats(run.hidden);
    return run;
}

static void close_run(condition_run *run)
{
    free(run->text);
    free(run->lyric);
    for (int i = 0; i < REFERENCES; i++) free(run->references[i]);
    free(run->silence);
    free(run->enc);
    free(run->silence_timbre);
    condition_encoder_free(&run->encoders[0]);
    condition_encoder_free(&run->encoders[1]);
    close_bench(&run->bench);
}

/* Each part of the sequence by itself, so that a large one cannot hide an error in a small one. */
static void check_parts(const char *variant, ace_dtype precision)
{
    condition_run run = open_run(variant, precision, 1);
    run_planned(&run.bench, forward, &run);
    float *expected = golden(&run.bench, "condition.enc", ENC_ROWS * run.hidden);
    int64_t timbre = LYRIC_TOKENS * run.hidden, text = timbre + REFERENCES * run.hidden;
    assert_close(&run.bench, "lyric", run.enc, expected, timbre);
    assert_close(&run.bench, "timbre", run.enc + timbre, expected + timbre, REFERENCES * run.hidden);
    assert_close(&run.bench, "text", run.enc + text, expected + text, TEXT_TOKENS * run.hidden);
    assert_golden(&run.bench, "condition.silence", run.silence_timbre, run.hidden);
    free(expected);
    close_run(&run);
}

static void every_part_is_the_references_in_f32(void **state)
{
    (void)state;
    for (int v = 0; v < VARIANTS; v++) check_parts(variants[v], ACE_F32);
}

static void every_part_is_near_the_references_in_bf16(void **state)
{
    (void)state;
    for (int v = 0; v < VARIANTS; v++) check_parts(variants[v], ACE_BF16);
}

static void the_sequence_may_be_packed_in_the_act_dtype(void **state)
{
    (void)state;
    condition_run run = open_run("turbo", ACE_BF16, 1);
    run.enc_dtype = ACE_BF16;
    run_planned(&run.bench, forward, &run);
    assert_golden(&run.bench, "condition.enc", run.enc, ENC_ROWS * run.hidden);
    close_run(&run);
}

static void threads_do_not_change_a_byte(void **state)
{
    (void)state;
    for (int p = 0; p < 2; p++) {
        condition_run one = open_run("xl-turbo", p ? ACE_BF16 : ACE_F32, 1);
        condition_run two = open_run("xl-turbo", p ? ACE_BF16 : ACE_F32, 2);
        run_planned(&one.bench, forward, &one);
        run_planned(&two.bench, forward, &two);
        assert_same_bytes(one.enc, two.enc, ENC_ROWS * one.hidden);
        assert_same_bytes(one.silence_timbre, two.silence_timbre, one.hidden);
        close_run(&one);
        close_run(&two);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_part_is_the_references_in_f32),
        cmocka_unit_test(every_part_is_near_the_references_in_bf16),
        cmocka_unit_test(the_sequence_may_be_packed_in_the_act_dtype),
        cmocka_unit_test(threads_do_not_change_a_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
