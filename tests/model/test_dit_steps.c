/* The steps of a diffusion in a row, as a song has them: a device that records what comes again gives the same bytes as
 * one that does not, and does record it. On the CPU, where nothing is recorded, both are the same. */
#include "model/model_fixture.h"

#include "model/dit.h"

#include <string.h>

enum { STEPS = 5, ITEMS = 2, SHORT = 37, LONG = 70, MOST = LONG, ENC_ROWS = 20, SONGS = 3 };

static const float timesteps[STEPS] = {1.0f, 0.9f, 5.0f / 7.0f, 0.5f, 0.3f};

/* Latents after every step of every song: x becomes x - v / 8 of the conditional half. */
typedef struct trace {
    float *latents; /* [SONGS][STEPS][MOST * latent] */
    int64_t count;
} trace;

static long commands(void)
{
#ifdef TEST_ON_GPU
    return gpu_emulated_count().commands;
#else
    return 0;
#endif
}

/* A song of so many frames, two halves a step. `again`: its steps have come before. */
static void sing(bench *b, const dit *model, int64_t frames, float *latents, bool records, bool again)
{
    const dit_config *config = &model->config;
    ace_device *dev = b->dev;
    int64_t latent = config->latent_channels, count = frames * latent, given = config->in_channels - latent;
    float *x = noise(X_SEED, count), *context = noise(CONTEXT_SEED, frames * given);
    float *enc = noise(ENC_SEED, ENC_ROWS * config->encoder.hidden), *v[ITEMS];
    dit_schedule schedule = dit_schedule_new(model, timesteps, STEPS);
    dit_context shared = dit_context_new(model, context, frames);
    dit_condition conditions[ITEMS] = {dit_condition_new(model, uploaded(dev, enc, ENC_ROWS, config->encoder.hidden)),
                                       dit_null_condition_new(model)};
    dit_item items[ITEMS];
    for (int i = 0; i < ITEMS; i++) {
        v[i] = new_floats(count);
        items[i] = (dit_item){&shared, &conditions[i], x, v[i]};
    }
    for (int step = 0; step < STEPS; step++) {
        long queued = commands(), graphs = test_recorded_steps(dev);
        dit_velocity(model, &schedule, step, items, ITEMS, NULL);
        assert_device_ok(dev);
        queued = commands() - queued;
        graphs = test_recorded_steps(dev) - graphs;
#ifdef TEST_ON_GPU
        bool expected = records && (again || step > 0);
        bool whole = !model->storage.streamed; /* else in pieces, between which weights arrive */
        assert_true(expected ? graphs == 1 || (!whole && graphs > 1) : graphs == 0);
        /* but for the graph: transfers, the copy of the timestep's row, and what stands between two uploads */
        assert_true(!expected ? queued > 30 : queued < 12 || !whole);
#else
        (void)records;
        (void)again;
        assert_true(queued == 0 && graphs == 0);
#endif
        for (int64_t i = 0; i < count; i++) x[i] -= (v[0][i] + v[1][i]) * 0.0625f;
        memcpy(latents + step * MOST * latent, x, (size_t)count * sizeof *x);
    }
    for (int i = 0; i < ITEMS; i++) free(v[i]);
    free(enc);
    free(context);
    free(x);
    ace_scratch_release(dev, (ace_mark){0});
}

/* Songs of two lengths, one after the other on one device. */
static trace sing_all(const char *variant, ace_dtype precision, const char *graphs, const layer_storage *storage)
{
    ace_error error = {0};
    setenv("ACESTEP_CUDA_GRAPHS", graphs, 1);
    bench b = open_bench(variant, precision, 1);
    unsetenv("ACESTEP_CUDA_GRAPHS");
    dit model;
    dit_load(&model, b.dev, b.checkpoint->parts[ACE_PART_DIT], &b.checkpoint->dit, storage);
    assert_device_ok(b.dev);
    assert_true(ace_scratch_reserve(b.dev, 16 << 20, 16 << 20, &error));
    int64_t latent = model.config.latent_channels, song = STEPS * MOST * latent;
    trace t = {new_floats(SONGS * song), SONGS * song};
    bool records = strcmp(graphs, "0") != 0;
    sing(&b, &model, SHORT, t.latents, records, false);
    sing(&b, &model, LONG, t.latents + song, records, false);
    sing(&b, &model, SHORT, t.latents + 2 * song, records, true);
    dit_free(&model);
    close_bench(&b);
    return t;
}

static void check(const char *variant, ace_dtype precision, const layer_storage *storage)
{
    trace plain = sing_all(variant, precision, "0", storage), recording = sing_all(variant, precision, "1", storage);
    assert_same_bytes(recording.latents, plain.latents, plain.count);
    for (int64_t i = 0; i < plain.count / SONGS; i++)
        assert_true(plain.latents[i] == plain.latents[2 * plain.count / SONGS + i]);
    free(plain.latents);
    free(recording.latents);
}

static void recorded_steps_are_the_same_in_bf16(void **state)
{
    (void)state;
    for (int v = 0; v < VARIANTS; v++) check(variants[v], ACE_BF16, NULL);
}

static void recorded_steps_are_the_same_in_f32(void **state)
{
    (void)state;
    check("turbo", ACE_F32, NULL);
}

static void recorded_steps_are_the_same_in_int8(void **state)
{
    (void)state;
    check("turbo", ACE_BF16, &(layer_storage){.form = ACE_FORM_INT8});
}

static void recorded_steps_are_the_same_of_streamed_layers(void **state)
{
    (void)state;
    check("turbo", ACE_BF16, &(layer_storage){.streamed = true});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_steps_are_the_same_in_bf16),
        cmocka_unit_test(recorded_steps_are_the_same_in_f32),
        cmocka_unit_test(recorded_steps_are_the_same_in_int8),
        cmocka_unit_test(recorded_steps_are_the_same_of_streamed_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
