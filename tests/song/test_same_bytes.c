/* The promise: same request, same bytes, whatever the threads, the VAE window and the batch; and the plan is exact. */
#include "song/song_fixture.h"

enum { MAX_ITEMS = 3 };

typedef struct songs {
    int count;
    int64_t frames[MAX_ITEMS];
    float *samples[MAX_ITEMS];
    size_t planned, measured;
} songs;

static bool collect(void *user, const ace_audio *audio, ace_error *error)
{
    songs *s = user;
    (void)error;
    if (audio->first == 0) s->samples[audio->item] = malloc((size_t)audio->total * 2 * sizeof(float));
    assert_non_null(s->samples[audio->item]);
    assert_int_equal(s->frames[audio->item], audio->first); /* in order, without gaps */
    memcpy(s->samples[audio->item] + 2 * audio->first, audio->samples, (size_t)audio->count * 2 * sizeof(float));
    s->frames[audio->item] = audio->first + audio->count;
    return true;
}

static songs generate(ace_engine *engine, const ace_request *request)
{
    songs s = {0};
    ace_error error = {0};
    ace_result result;
    ace_callbacks callbacks = {.user = &s, .audio = collect};
    if (!ace_generate(engine, request, &callbacks, &result, &error)) fail_msg("%s", error.message);
    s.count = result.count;
    for (int i = 0; i < s.count; i++) assert_int_equal(s.frames[i], result.songs[i].frames);
    s.planned = result.planned_peak;
    s.measured = result.measured_peak;
    ace_result_free(&result);
    return s;
}

static void free_songs(songs *s)
{
    for (int i = 0; i < s->count; i++) free(s->samples[i]);
}

static void assert_same_song(const songs *a, int i, const songs *b, int j)
{
    assert_int_equal(a->frames[i], b->frames[j]);
    assert_memory_equal(a->samples[i], b->samples[j], (size_t)a->frames[i] * 2 * sizeof(float));
}

static const char *const precisions[] = {"f32", "bf16"};

static void threads_and_windows_do_not_matter(void **state)
{
    (void)state;
    static const int windows[] = {5, 64, 250, 1000}; /* the VAE's own tests go down to 1 */
    ace_request *request = make_request("caption", "bright synth pop", "lyrics", "[Verse]\nla la la", "duration",
                                        "10.3", "seed", "7", "inference_steps", "3", NULL);
    for (int p = 0; p < 2; p++) {
        ace_engine *engine = open_engine("turbo", precisions[p], 1, 0);
        songs first = generate(engine, request);
        assert_int_equal(first.frames[0], 257 * 1920); /* 10.3 s down to whole frames */
        songs again = generate(engine, request);
        assert_same_song(&first, 0, &again, 0);
        free_songs(&again);
        ace_engine_close(engine);
        for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
            engine = open_engine("turbo", precisions[p], 1 + (int)i % 3, windows[i]);
            songs other = generate(engine, request);
            assert_same_song(&first, 0, &other, 0);
            assert_int_equal(other.planned, other.measured);
            free_songs(&other);
            ace_engine_close(engine);
        }
        free_songs(&first);
    }
    ace_request_free(request);
}

static void an_item_of_a_batch_is_the_song_alone(void **state)
{
    (void)state;
    static const char *const variants[] = {"turbo", "base", "xl-turbo"};
    for (size_t v = 0; v < sizeof variants / sizeof *variants; v++) {
        for (int p = 0; p < 2; p++) {
            if (SANITIZED && (v + (size_t)p) % 2 == 0) continue; /* every variant, each in one precision */
            ace_engine *engine = open_engine(variants[v], precisions[p], 1 + p, 0);
            ace_request *batch = make_request("caption", "slow piano", "duration", "10", "seed", "41", "batch_size",
                                              "3", "inference_steps", "4", NULL);
            songs all = generate(engine, batch);
            assert_int_equal(all.count, 3);
            assert_int_equal(all.planned, all.measured);
            for (int i = 0; i < 3; i++) {
                char seed[16];
                snprintf(seed, sizeof seed, "%d", 41 + i);
                ace_request *alone =
                    make_request("caption", "slow piano", "duration", "10", "seed", seed, "inference_steps", "4", NULL);
                songs one = generate(engine, alone);
                assert_same_song(&all, i, &one, 0);
                free_songs(&one);
                ace_request_free(alone);
            }
            /* and different seeds are different songs */
            assert_memory_not_equal(all.samples[0], all.samples[1], (size_t)all.frames[0] * 2 * sizeof(float));
            free_songs(&all);
            ace_request_free(batch);
            ace_engine_close(engine);
        }
    }
}

static void every_way_of_sampling_is_planned_exactly(void **state)
{
    (void)state;
    static const char *const ways[][6] = {
        {"solver", "heun"},
        {"solver", "sde"},
        {"solver", "dpm3m"},
        {"solver", "stork4"},
        {"dcw_wavelet", "db4", "dcw_mode", "high"},
        {"velocity_norm_threshold", "2", "velocity_ema_factor", "0.2"},
        {"guidance", "adg", "cfg_interval_start", "0.3"},
        {"guidance", "cfg", "guidance_scale", "3", "shift", "3"},
        {"timesteps", "1,0.75,0.5,0.25,0"},
        {"audio_codes", "1,2,3,63999,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30"},
        {"audio_codes", "<|audio_code_17|><|audio_code_4711|>", "audio_cover_strength", "0.5"},
        {"cover_noise_strength", "0.3", "noise", "torch-cpu"},
        {"noise", "ace", "latent_rescale", "0.9"},
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        ace_engine *engine = open_engine("sft", precisions[i % 2], 1 + (int)i % 2, 0);
        ace_error error = {0};
        ace_request *request =
            make_request("caption", "a way of sampling", "duration", "10", "seed", "3", "inference_steps", "4", NULL);
        for (int k = 0; k < 6 && ways[i][k]; k += 2)
            if (!ace_request_set(request, ways[i][k], ways[i][k + 1], &error)) fail_msg("%s", error.message);
        songs s = generate(engine, request);
        assert_int_equal(s.planned, s.measured);
        if (!SANITIZED) {
            songs again = generate(engine, request);
            assert_same_song(&s, 0, &again, 0);
            free_songs(&again);
        }
        free_songs(&s);
        ace_request_free(request);
        ace_engine_close(engine);
    }
}

/* Each option must reach the sound: the song differs from the one without it. */
static void options_reach_the_sound(void **state)
{
    (void)state;
    static const char *const options[][2] = {
        {"caption", "heavy metal"},
        {"lyrics", "[Verse]\nother words"},
        {"instrumental", "true"},
        {"vocal_language", "ko"},
        {"bpm", "77"},
        {"keyscale", "F# minor"},
        {"timesignature", "3"},
        {"shift", "2"},
        {"solver", "heun"},
        {"guidance_scale", "3"},
        {"guidance", "adg"},
        {"cfg_interval_end", "0.6"},
        {"dcw_enabled", "false"},
        {"dcw_mode", "low"},
        {"dcw_scaler", "0.2"},
        {"dcw_wavelet", "sym8"},
        {"noise", "torch-cpu"},
        {"velocity_ema_factor", "0.3"},
        {"latent_shift", "0.1"},
        {"audio_codes", "5,6,7"},
        {"inference_steps", "5"},
        {"velocity_norm_threshold", "0.1"},
        {"seed", "4"},
        {"cover_noise_strength", "0.4"},
    };
    ace_engine *engine = open_engine("base", "f32", 1, 0);
    ace_request *plain = make_request("caption", "plain", "duration", "10", "seed", "3", "inference_steps", "4", NULL);
    songs reference = generate(engine, plain);
    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        ace_request *request =
            make_request("caption", "plain", "duration", "10", "seed", "3", "inference_steps", "4", NULL);
        ace_error error = {0};
        assert_true(ace_request_set(request, options[i][0], options[i][1], &error));
        songs s = generate(engine, request);
        bool same = s.frames[0] == reference.frames[0] &&
                    memcmp(s.samples[0], reference.samples[0], (size_t)s.frames[0] * 2 * sizeof(float)) == 0;
        if (same) fail_msg("%s=%s changed nothing", options[i][0], options[i][1]);
        free_songs(&s);
        ace_request_free(request);
    }
    free_songs(&reference);
    ace_request_free(plain);
    ace_engine_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_and_windows_do_not_matter),
        cmocka_unit_test(an_item_of_a_batch_is_the_song_alone),
        cmocka_unit_test(every_way_of_sampling_is_planned_exactly),
        cmocka_unit_test(options_reach_the_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
