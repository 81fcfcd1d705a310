/* Whole songs against the official program: the same requests, the same tiny checkpoints, in float32
 * (tools/reference/make_song_goldens.py). */
#include "song/song_fixture.h"

#include "formats/tensors.h"
#include "song/engine.h"

#include <jansson.h>
#include <math.h>

/* Relative errors in float32. The promise is 1e-4; these are ten times what is measured, so that a small slip shows. */
static const double LATENT_TOLERANCE = 2e-5, AUDIO_TOLERANCE = 5e-5;
/* With weights and activations in bfloat16: a cosine of 0.9995. */
static const double BF16_TOLERANCE = 3.16e-2;
enum { FRAME_STEP = 3, EXCERPTS = 3, EXCERPT = 240, CHANNELS = 64, STEREO = 2 };

/* ||a - b|| / ||b|| as it grows. */
typedef struct distance {
    double difference, norm;
} distance;

static void compare(distance *d, double ours, double theirs)
{
    d->difference += (ours - theirs) * (ours - theirs);
    d->norm += theirs * theirs;
}

static double relative(const distance *d)
{
    return sqrt(d->difference / d->norm);
}

/* The values of golden "<case>.<what>", which must have this shape; caller frees. */
static float *golden(const ace_tensors *goldens, const char *name, const char *what, int rank, const int64_t *shape)
{
    char full[96];
    ace_error error = {0};
    snprintf(full, sizeof full, "%s.%s", name, what);
    const ace_tensor *tensor = tensors_find(goldens, full);
    assert_non_null(tensor);
    assert_int_equal(tensor->rank, rank);
    for (int i = 0; i < rank; i++) assert_int_equal(tensor->shape[i], shape[i]);
    float *values = malloc((size_t)tensor->count * sizeof *values);
    assert_non_null(values);
    if (!tensor_read(tensor, 0, tensor->count, values, &error)) fail_msg("%s", error.message);
    return values;
}

/* ---- what we make of a request --------------------------------------------------------------------------------- */

typedef struct songs {
    int64_t frames, latent_count;
    float *latents; /* [batch][frames][64] */
    float *audio[JOB_MAX_BATCH];
} songs;

static void keep_latents(void *user, const float *latents)
{
    songs *s = user;
    s->latents = malloc((size_t)s->latent_count * sizeof *latents);
    assert_non_null(s->latents);
    memcpy(s->latents, latents, (size_t)s->latent_count * sizeof *latents);
}

static bool keep_audio(void *user, const ace_audio *audio, ace_error *error)
{
    songs *s = user;
    (void)error;
    float **samples = &s->audio[audio->item];
    if (*samples == NULL) *samples = calloc((size_t)(audio->total * STEREO), sizeof **samples);
    assert_non_null(*samples);
    memcpy(*samples + audio->first * STEREO, audio->samples, (size_t)(audio->count * STEREO) * sizeof **samples);
    return true;
}

static void generate(ace_engine *engine, const ace_request *request, songs *s)
{
    ace_error error = {0};
    ace_result result;
    /* engine_generate hands one `user` to all of these */
    ace_callbacks callbacks = {.user = s, .audio = keep_audio};
    if (!engine_generate(engine, request, &callbacks, keep_latents, &result, &error)) fail_msg("%s", error.message);
    ace_result_free(&result);
}

static void free_songs(songs *s)
{
    free(s->latents);
    for (int i = 0; i < JOB_MAX_BATCH; i++) free(s->audio[i]);
}

/* ---- the comparison -------------------------------------------------------------------------------------------- */

static void assert_ids(const char *name, const job_tokens *ours, const json_t *theirs)
{
    if ((size_t)ours->count != json_array_size(theirs))
        fail_msg("%s: %lld tokens, not %zu", name, (long long)ours->count, json_array_size(theirs));
    for (int64_t i = 0; i < ours->count; i++)
        assert_int_equal(ours->ids[i], json_integer_value(json_array_get(theirs, (size_t)i)));
}

static double latent_error(const songs *s, const ace_tensors *goldens, const char *name, int64_t batch)
{
    int64_t rows = (s->frames + FRAME_STEP - 1) / FRAME_STEP;
    float *theirs = golden(goldens, name, "latents", 3, (int64_t[]){batch, rows, CHANNELS});
    distance d = {0};
    for (int64_t b = 0; b < batch; b++)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < CHANNELS; c++)
                compare(&d, s->latents[(b * s->frames + r * FRAME_STEP) * CHANNELS + c],
                        theirs[(b * rows + r) * CHANNELS + c]);
    free(theirs);
    return relative(&d);
}

static double audio_error(const songs *s, const ace_tensors *goldens, const char *name, int64_t batch, int64_t total)
{
    float *theirs = golden(goldens, name, "audio", 4, (int64_t[]){batch, EXCERPTS, EXCERPT, STEREO});
    const int64_t starts[EXCERPTS] = {0, (total - EXCERPT) / 2, total - EXCERPT};
    const float *next = theirs;
    distance d = {0};
    for (int64_t b = 0; b < batch; b++)
        for (int e = 0; e < EXCERPTS; e++)
            for (int64_t i = 0; i < EXCERPT * STEREO; i++) compare(&d, s->audio[b][starts[e] * STEREO + i], *next++);
    free(theirs);
    return relative(&d);
}

static void check_case(ace_engine *engine, const json_t *golden_case, const ace_tensors *goldens,
                       double latent_tolerance, double audio_tolerance)
{
    ace_error error = {0};
    const char *name = json_string_value(json_object_get(golden_case, "name"));
    char *json = json_dumps(json_object_get(golden_case, "request"), 0);
    ace_request *request = ace_request_new(&error);
    assert_non_null(json);
    assert_non_null(request);
    if (!ace_request_set_json(request, json, strlen(json), &error)) fail_msg("%s: %s", name, error.message);

    song_job job;
    if (!song_job_prepare(&job, request, NULL, 0, engine->checkpoint, engine->tokenizer, &(job_warnings){0}, &error))
        fail_msg("%s: %s", name, error.message);
    assert_ids(name, &job.caption, json_object_get(golden_case, "caption_ids"));
    assert_ids(name, &job.lyrics, json_object_get(golden_case, "lyric_ids"));
    int64_t frames = json_integer_value(json_object_get(golden_case, "frames"));
    if (job.frames != frames)
        fail_msg("%s: %lld latent frames, not %lld", name, (long long)job.frames, (long long)frames);

    songs s = {.frames = frames, .latent_count = job.batch * frames * CHANNELS};
    generate(engine, request, &s);
    double latents = latent_error(&s, goldens, name, job.batch);
    double audio = audio_error(&s, goldens, name, job.batch, frames * vae_hop(&engine->checkpoint->vae));
    print_message("  %-12s latents %.1e audio %.1e\n", name, latents, audio);
    if (!(latents <= latent_tolerance)) fail_msg("%s: the latents differ by %.2e", name, latents);
    if (!(audio <= audio_tolerance)) fail_msg("%s: the audio differs by %.2e", name, audio);

    free_songs(&s);
    song_job_free(&job);
    ace_request_free(request);
    free(json);
}

static void compare_songs(const char *variant, const char *precision, double latent_tolerance, double audio_tolerance)
{
    char path[1024];
    ace_error error = {0};
    json_error_t where;
    snprintf(path, sizeof path, "%s/song/%s.json", TEST_DATA, variant);
    json_t *cases = json_load_file(path, 0, &where);
    if (!cases) fail_msg("%s: %s", path, where.text);
    snprintf(path, sizeof path, "%s/song/%s.safetensors", TEST_DATA, variant);
    ace_tensors *goldens = tensors_open(path, &error);
    if (!goldens) fail_msg("%s", error.message);

    ace_engine *engine = open_engine(variant, precision, strcmp(precision, "bf16") == 0 ? 2 : 1, 0);
    assert_true(json_array_size(cases) > 0);
    for (size_t i = 0; i < json_array_size(cases); i++)
        check_case(engine, json_array_get(cases, i), goldens, latent_tolerance, audio_tolerance);
    ace_engine_close(engine);
    tensors_close(goldens);
    json_decref(cases);
}

static void float32_songs_are_the_official_ones(void **state)
{
    compare_songs(*state, "f32", LATENT_TOLERANCE, AUDIO_TOLERANCE);
}

static void bfloat16_songs_are_close_to_them(void **state)
{
    compare_songs(*state, "bf16", BF16_TOLERANCE, BF16_TOLERANCE);
}

/* The noise of the first case is what a seed means in PyTorch on a CPU, bit for bit. */
static void seeds_mean_what_they_mean_in_pytorch(void **state)
{
    enum { FRAMES = 250, ROWS = (FRAMES + FRAME_STEP - 1) / FRAME_STEP, SEED = 7 };
    (void)state;
    ace_error error = {0};
    ace_tensors *goldens = tensors_open(TEST_DATA "/song/turbo.safetensors", &error);
    if (!goldens) fail_msg("%s", error.message);
    float *theirs = golden(goldens, "preset", "noise", 2, (int64_t[]){ROWS, CHANNELS});
    float *ours = malloc((size_t)FRAMES * CHANNELS * sizeof *ours);
    assert_non_null(ours);
    noise_torch_cpu(SEED, ours, (size_t)FRAMES * CHANNELS);
    for (int r = 0; r < ROWS; r++)
        assert_memory_equal(ours + (size_t)r * FRAME_STEP * CHANNELS, theirs + (size_t)r * CHANNELS,
                            CHANNELS * sizeof *ours);
    free(ours);
    free(theirs);
    tensors_close(goldens);
}

int main(void)
{
    static char turbo[] = "turbo", base[] = "base", xl_base[] = "xl-base";
#if !SANITIZED
    static char sft[] = "sft", xl_turbo[] = "xl-turbo", xl_sft[] = "xl-sft";
#endif
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seeds_mean_what_they_mean_in_pytorch),
        cmocka_unit_test_prestate(float32_songs_are_the_official_ones, turbo),
        cmocka_unit_test_prestate(float32_songs_are_the_official_ones, base),
        cmocka_unit_test_prestate(bfloat16_songs_are_close_to_them, xl_base),
#if !SANITIZED /* which are for memory, and these differ in numbers only */
        cmocka_unit_test_prestate(float32_songs_are_the_official_ones, sft),
        cmocka_unit_test_prestate(float32_songs_are_the_official_ones, xl_turbo),
        cmocka_unit_test_prestate(float32_songs_are_the_official_ones, xl_base),
        cmocka_unit_test_prestate(float32_songs_are_the_official_ones, xl_sft),
        cmocka_unit_test_prestate(bfloat16_songs_are_close_to_them, turbo),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
