/* What happens when things go wrong in the middle: an error with a cause, no file, no leak, and an engine that works
 * on. */
#include "base/file.h"
#include "base/memory.h"
#include "formats/tensors.h"
#include "song/song_fixture.h"
#include "support/place.h"

#include <fcntl.h>
#include <unistd.h>

static void song_path(char path[128])
{
    snprintf(path, 128, "%s/song.wav", place);
}

static void clean(void)
{
    char path[128];
    song_path(path);
    unlink(path);
    strcat(path, ".json");
    unlink(path);
}

/* Opens the tiny checkpoint, makes a song and writes it. */
static bool whole_journey(ace_error *error)
{
    char model[1024], path[128];
    snprintf(model, sizeof model, "%s/turbo", TINY_CHECKPOINTS);
    song_path(path);
    ace_engine_options options = {.model = model, .threads = 2};
    ace_engine *engine = ace_engine_open(&options, error);
    ace_request *request = engine ? ace_request_new(error) : NULL;
    ace_result result = {0};
    ace_output output = {.path = path};
    bool ok = request && ace_request_set(request, "duration", "10", error) &&
              ace_request_set(request, "seed", "1", error) && ace_request_set(request, "inference_steps", "1", error) &&
              ace_request_set(request, "audio_codes", "1,2,3", error) &&
              ace_generate_files(engine, request, &output, NULL, &result, error);
    ace_result_free(&result);
    ace_request_free(request);
    ace_engine_close(engine);
    return ok;
}

/* The bytes of the song that was written; the caller frees. */
static char *read_song(size_t *size)
{
    char path[128];
    song_path(path);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *size = (size_t)ftell(file);
    rewind(file);
    char *bytes = malloc(*size);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

/* While the machine is looked at a refusal only means that less is known of it: then the song must be the same. */
static void must_be_harmless(const char *song, size_t size, long n, long calls)
{
    size_t again_size;
    if (files_in_place() != 2) fail_msg("fault %ld of %ld went unnoticed and a file is missing", n, calls);
    char *again = read_song(&again_size);
    if (again_size != size || memcmp(again, song, size) != 0)
        fail_msg("fault %ld of %ld went unnoticed and changed the song", n, calls);
    free(again);
    clean();
}

static void every_refusal_of_the_system_is_an_error_without_a_file(void **state)
{
    (void)state;
    enum { TRIES = 60 };
    ace_error error = {0};
    ace_fault_arm(0);
    if (!whole_journey(&error)) fail_msg("%s", error.message);
    long calls = ace_fault_arm(0);
    assert_int_equal(files_in_place(), 2);
    size_t size;
    char *song = read_song(&size);
    int noticed = 0;
    clean();
    assert_true(calls > TRIES);
    for (int i = 0; i < TRIES; i++) {
        /* the first calls one by one, then spread over the rest, the last one included */
        long n = i < TRIES / 3 ? i + 1 : calls - (calls - TRIES / 3) * (TRIES - 1 - i) / (TRIES - TRIES / 3);
        error = (ace_error){0};
        ace_fault_arm(n);
        bool ok = whole_journey(&error);
        ace_fault_arm(0);
        if (ok) {
            must_be_harmless(song, size, n, calls);
            continue;
        }
        noticed++;
        assert_int_not_equal(error.status, ACE_OK);
        assert_true(error.message[0] != '\0');
        if (files_in_place() != 0) fail_msg("fault %ld of %ld left a file: %s", n, calls, error.message);
    }
    assert_true(noticed > TRIES / 2);
    free(song);
}

/* ---- stopping ---- */

typedef struct stopper {
    ace_engine *engine;
    ace_stage stage;
    bool stopped;
} stopper;

static void stop_at_stage(void *user, const ace_progress *progress)
{
    stopper *s = user;
    if (progress->stage == s->stage && progress->done * 2 >= progress->total) {
        ace_engine_stop(s->engine);
        s->stopped = true;
    }
}

static void a_stop_at_any_stage_leaves_nothing_and_the_engine_works_on(void **state)
{
    (void)state;
    static const ace_stage stages[] = {ACE_STAGE_LOAD, ACE_STAGE_CONDITION, ACE_STAGE_DIFFUSION, ACE_STAGE_DECODE};
    char path[128];
    song_path(path);
    ace_engine *engine = open_engine("turbo", "bf16", 2, 10);
    ace_request *request = make_request("caption", "stop", "duration", "20", "seed", "1", NULL);
    ace_output output = {.path = path};
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        stopper s = {.engine = engine, .stage = stages[i]};
        ace_callbacks callbacks = {.user = &s, .progress = stop_at_stage};
        ace_error error = {0};
        ace_result result;
        bool ok = ace_generate_files(engine, request, &output, &callbacks, &result, &error);
        if (ok) fail_msg("a stop during %s was not noticed", ace_stage_name(stages[i]));
        assert_true(s.stopped);
        assert_int_equal(error.status, ACE_CANCELLED);
        assert_int_equal(files_in_place(), 0);
        ace_result_free(&result);
    }
    ace_error error = {0};
    ace_result result;
    if (!ace_generate_files(engine, request, &output, NULL, &result, &error)) fail_msg("%s", error.message);
    assert_int_equal(files_in_place(), 2);
    assert_int_equal(result.planned_peak, result.measured_peak);
    ace_result_free(&result);
    clean();
    ace_request_free(request);
    ace_engine_close(engine);
}

static bool refuse_audio(void *user, const ace_audio *audio, ace_error *error)
{
    (void)user;
    (void)audio;
    error->status = ACE_ERROR_IO;
    snprintf(error->message, sizeof error->message, "the listener left");
    return false;
}

static void a_listener_may_end_the_song(void **state)
{
    (void)state;
    ace_engine *engine = open_engine("turbo", "f32", 1, 0);
    ace_request *request = make_request("duration", "10", NULL);
    ace_callbacks callbacks = {.audio = refuse_audio};
    ace_error error = {0};
    ace_result result;
    assert_false(ace_generate(engine, request, &callbacks, &result, &error));
    assert_string_equal(error.message, "the listener left");
    ace_result_free(&result);
    ace_request_free(request);
    ace_engine_close(engine);
}

/* ---- numbers that are none ---- */

static void overwrite(const ace_tensor *tensor, float value)
{
    int fd = open(tensor->path, O_WRONLY);
    assert_true(fd >= 0);
    for (int64_t i = 0; i < tensor->count; i++) {
        uint16_t half = ace_f32_to_bf16(value);
        const void *bytes = tensor->dtype == ACE_F32 ? (const void *)&value : &half;
        size_t size = tensor->dtype == ACE_F32 ? 4 : 2;
        assert_int_equal(pwrite(fd, bytes, size, (off_t)(tensor->offset + (size_t)i * size)), size);
    }
    close(fd);
}

static void exploding_weights_are_an_error_and_never_a_song(void **state)
{
    (void)state;
    static const struct {
        const char *file, *tensor, *words;
    } cases[] = {
        {"acestep-v15-turbo/model.safetensors", "decoder.proj_out.1.weight", "step"},
        {"acestep-v15-turbo/model.safetensors", "encoder.lyric_encoder.norm.weight", "step"},
        {"vae/diffusion_pytorch_model.safetensors", "decoder.block.0.conv_t1.bias", "VAE"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char command[1200], path[256], song[128];
        ace_error error = {0};
        snprintf(command, sizeof command, "cp -r '%s/turbo' '%s/model'", TINY_CHECKPOINTS, place);
        assert_int_equal(system(command), 0);
        snprintf(path, sizeof path, "%s/model/%s", place, cases[i].file);
        ace_tensors *tensors = tensors_open(path, &error);
        assert_non_null(tensors);
        const ace_tensor *tensor = tensors_find(tensors, cases[i].tensor);
        assert_non_null(tensor);
        overwrite(tensor, 3e38f);
        tensors_close(tensors);

        snprintf(path, sizeof path, "%s/model", place);
        ace_engine_options options = {.model = path, .precision = "f32", .threads = 2};
        ace_engine *engine = ace_engine_open(&options, &error);
        if (!engine) fail_msg("%s", error.message);
        ace_request *request = make_request("caption", "x", "lyrics", "y", "duration", "10", "seed", "1", NULL);
        song_path(song);
        ace_result result;
        ace_output output = {.path = song};
        if (ace_generate_files(engine, request, &output, NULL, &result, &error))
            fail_msg("%s gave a song", cases[i].tensor);
        if (error.status != ACE_ERROR_NUMERIC) fail_msg("%s: %s", cases[i].tensor, error.message);
        if (!strstr(error.message, cases[i].words)) fail_msg("no '%s' in: %s", cases[i].words, error.message);
        ace_result_free(&result);
        ace_request_free(request);
        ace_engine_close(engine);
        snprintf(command, sizeof command, "rm -r '%s/model'", place);
        assert_int_equal(system(command), 0);
        assert_int_equal(files_in_place(), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_refusal_of_the_system_is_an_error_without_a_file),
        cmocka_unit_test(a_stop_at_any_stage_leaves_nothing_and_the_engine_works_on),
        cmocka_unit_test(a_listener_may_end_the_song),
        cmocka_unit_test(exploding_weights_are_an_error_and_never_a_song),
    };
    return cmocka_run_group_tests(tests, make_place, remove_place);
}
