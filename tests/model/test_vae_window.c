/* The intervals against the tables of vae-audio.md section 8, which were found with gradients, not with this code. */
#include "model/vae_fixture.h"

static const vae_config official = {2, 64, 128, 5, {1, 2, 4, 8, 16}, {2, 4, 4, 6, 10}, 48000};

/* Rows of a level per latent frame, for level 0 (audio) to 5. */
static const int64_t rates[] = {1920, 960, 240, 60, 10, 1};

static void assert_extra(vae_span span, vae_span core, int64_t rate, int64_t extra)
{
    assert_int_equal(span.first, core.first * rate - extra);
    assert_int_equal(span.end, core.end * rate + extra);
}

static void decoder_intervals_are_those_of_the_receptive_field(void **state)
{
    (void)state;
    static const int64_t conv_t_output[] = {49, 54, 55, 61, 42}, conv_t_input[] = {6, 10, 15, 16, 22};
    vae_span cores[] = {{100, 101}, {100, 107}, {77, 333}};
    for (int k = 0; k < 3; k++) {
        vae_span core = cores[k];
        vae_window w = vae_window_decode(&official, 1000, core);
        assert_extra(w.output, core, 1920, 0);
        assert_extra(w.blocks[4].units[3], core, 1920, 3);
        for (int i = 0; i < 5; i++) {
            assert_extra(w.blocks[i].units[0], core, rates[4 - i], conv_t_output[i]);
            /* a row of the transposed convolution reads the input of its own number and the one before */
            assert_extra((vae_span){w.blocks[i].resampled.first - 1, w.blocks[i].resampled.end}, core, rates[5 - i],
                         conv_t_input[i]);
        }
        assert_extra(w.entry, core, 1, 6);
        assert_extra(w.input, core, 1, 9);
    }
}

static void encoder_intervals_are_those_of_the_receptive_field(void **state)
{
    (void)state;
    static const int64_t strided_input[] = {12123, 6022, 1466, 327, 15}, block_input[] = {12162, 6061, 1505, 366, 54};
    vae_span cores[] = {{100, 101}, {100, 107}, {77, 333}};
    for (int k = 0; k < 3; k++) {
        vae_span core = cores[k];
        vae_window w = vae_window_encode(&official, 1920 * 1000, core);
        assert_extra(w.output, core, 1, 0);
        assert_extra(w.blocks[4].resampled, core, 1, 1);
        for (int i = 0; i < 5; i++) {
            assert_extra(w.blocks[i].units[3], core, rates[i], strided_input[i]);
            assert_extra(w.blocks[i].units[0], core, rates[i], block_input[i]);
        }
        assert_extra(w.entry, core, 1920, 12162);
        assert_extra(w.input, core, 1920, 12165);
    }
}

static void assert_whole(vae_span span, int64_t length)
{
    assert_int_equal(span.first, 0);
    assert_int_equal(span.end, length);
}

static void intervals_end_where_the_signal_ends(void **state)
{
    (void)state;
    for (int64_t frames = 1; frames < 40; frames++) {
        vae_window d = vae_window_decode(&official, frames, (vae_span){0, frames});
        vae_window e = vae_window_encode(&official, 1920 * frames, (vae_span){0, frames});
        assert_whole(d.input, frames);
        assert_whole(d.entry, frames);
        assert_whole(e.input, 1920 * frames);
        assert_whole(e.entry, 1920 * frames);
        for (int i = 0; i < 5; i++)
            for (int j = 0; j <= VAE_UNITS; j++) {
                assert_whole(d.blocks[i].units[j], frames * rates[4 - i]);
                assert_whole(e.blocks[i].units[j], frames * rates[i]);
            }
    }
    /* A tail of less than a hop is read, but makes no frame; at each level only whole strides count. */
    vae_window tail = vae_window_encode(&official, 1920 * 3 + 1919, (vae_span){0, 3});
    assert_whole(tail.input, 1920 * 3 + 1919);
    assert_whole(tail.blocks[1].units[0], (1920 * 3 + 1919) / 2);
    assert_whole(tail.blocks[4].units[0], 39);
    assert_whole(tail.output, 3);
    /* A signal of less than a hop is followed by zeros, which are computed with, but not read. */
    vae_window brief = vae_window_encode(&official, 7, (vae_span){0, 1});
    assert_whole(brief.input, 7);
    assert_whole(brief.entry, 1920);
}

static void lengths_follow_from_the_config(void **state)
{
    (void)state;
    assert_int_equal(vae_hop(&official), 1920);
    assert_int_equal(vae_frames(&official, 0), 0);
    assert_int_equal(vae_frames(&official, 1), 1);
    assert_int_equal(vae_frames(&official, 1919), 1);
    assert_int_equal(vae_frames(&official, 1920), 1);
    assert_int_equal(vae_frames(&official, 3839), 1);
    assert_int_equal(vae_frames(&official, 3840), 2);
    assert_int_equal(vae_frames(&official, 48000 * 240), 6000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoder_intervals_are_those_of_the_receptive_field),
        cmocka_unit_test(encoder_intervals_are_those_of_the_receptive_field),
        cmocka_unit_test(intervals_end_where_the_signal_ends),
        cmocka_unit_test(lengths_follow_from_the_config),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
