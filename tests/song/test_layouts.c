/* A checkpoint is the same checkpoint in acestep.cpp's GGUF files, and with a planner that is not asked: same tokens,
 * same preset, same bytes of audio. */
#include "song/song_fixture.h"

typedef struct song {
    float *samples;
    int64_t frames;
} song;

static bool keep(void *user, const ace_audio *audio, ace_error *error)
{
    song *s = user;
    (void)error;
    if (s->samples == NULL) s->samples = calloc((size_t)audio->total * 2, sizeof *s->samples);
    assert_non_null(s->samples);
    memcpy(s->samples + 2 * audio->first, audio->samples, (size_t)audio->count * 2 * sizeof *s->samples);
    s->frames = audio->first + audio->count;
    return true;
}

/* Every part speaks: added tokens, several scripts, codes, and for base the preset with guidance. */
static song make_song(const char *checkpoint, const char *precision)
{
    ace_engine *engine = open_engine(checkpoint, precision, 1, 0);
    ace_request *request = make_request("caption", "soft piano <think> <|endoftext|> piano", "lyrics",
                                        "[Verse]\nla la, 夜の歌, über\n", "audio_codes", "1,63999,4711,17,9000",
                                        "audio_cover_strength", "0.6", "seed", "5", "use_cot_metas", "false", NULL);
    song s = {0};
    ace_error error = {0};
    ace_result result;
    ace_callbacks callbacks = {.user = &s, .audio = keep};
    if (!ace_generate(engine, request, &callbacks, &result, &error)) fail_msg("%s: %s", checkpoint, error.message);
    assert_int_equal(s.frames, result.songs[0].frames);
    ace_result_free(&result);
    ace_request_free(request);
    ace_engine_close(engine);
    return s;
}

static void gguf_makes_the_same_song(void **state)
{
    static const char *const checkpoints[][2] = {{"turbo", "turbo-gguf"}, {"base", "base-gguf"}};
    static const char *const precisions[] = {"f32", "bf16"};
    (void)state;
    for (int c = 0; c < 2; c++) {
        for (int p = 0; p < 2; p++) {
            song official = make_song(checkpoints[c][0], precisions[p]);
            song gguf = make_song(checkpoints[c][1], precisions[p]);
            assert_int_equal(official.frames, gguf.frames);
            assert_memory_equal(official.samples, gguf.samples, (size_t)official.frames * 2 * sizeof *official.samples);
            free(official.samples);
            free(gguf.samples);
        }
    }
}

static void a_planner_that_is_not_asked_changes_nothing(void **state)
{
    static const char *const checkpoints[] = {"turbo-planner", "turbo-planner-gguf"};
    (void)state;
    song plain = make_song("turbo", "bf16");
    for (int c = 0; c < 2; c++) {
        song with = make_song(checkpoints[c], "bf16");
        assert_int_equal(with.frames, plain.frames);
        assert_memory_equal(with.samples, plain.samples, (size_t)plain.frames * 2 * sizeof *plain.samples);
        free(with.samples);
    }
    free(plain.samples);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(gguf_makes_the_same_song),
                                       cmocka_unit_test(a_planner_that_is_not_asked_changes_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
