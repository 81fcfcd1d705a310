/* The diffusion transformer against the official one, 2B and XL layouts; the other code families are the same to the
 * bit (tools/reference/make_model_goldens.py checks that). */
#include "model/model_fixture.h"

#include "model/dit.h"

enum { ENC_ROWS = 63, SHORT = 37, LONG = 150, TIMESTEPS = 3, MAX_ITEMS = 3 };

static const float timesteps[TIMESTEPS] = {1.0f, 5.0f / 7.0f, 0.3f};

/* The items of a run: which condition each has, and which noise. */
typedef struct item_plan {
    int64_t enc_rows; /* of noise(ENC_SEED); 0: the null condition; < 0: that many copies of its row */
    uint32_t x_seed;
} item_plan;

typedef struct dit_run {
    bench bench;
    dit models[2]; /* on the device, on the meter */
    int64_t hidden, encoder_hidden, latent, given;
    int stages;

    int64_t frames, step;
    int count;
    item_plan plans[MAX_ITEMS];
    float *velocity[MAX_ITEMS];
    float *stage_values; /* [stages][tokens of the first item][hidden]; NULL: no tap */
} dit_run;

static dit_run open_run(const char *variant, ace_dtype precision, int threads)
{
    dit_run run = {.bench = open_bench(variant, precision, threads), .frames = SHORT, .step = 1, .count = 1};
    const dit_config *config = &run.bench.checkpoint->dit;
    const ace_part *part = run.bench.checkpoint->parts[ACE_PART_DIT];
    dit_load(&run.models[0], run.bench.dev, part, config, NULL);
    dit_load(&run.models[1], run.bench.meter, part, config, NULL);
    assert_device_ok(run.bench.dev);
    assert_device_ok(run.bench.meter);
    assert_int_equal(ace_device_get_stats(run.bench.dev).weight_bytes,
                     ace_device_get_stats(run.bench.meter).weight_bytes);
    run.hidden = config->dit.hidden;
    run.encoder_hidden = config->encoder.hidden;
    run.latent = config->latent_channels;
    run.given = config->in_channels - config->latent_channels;
    run.stages = config->dit.layers + 1;
    run.plans[0] = (item_plan){ENC_ROWS, X_SEED};
    for (int i = 0; i < MAX_ITEMS; i++) run.velocity[i] = new_floats(LONG * run.latent);
    return run;
}

static void close_run(dit_run *run)
{
    for (int i = 0; i < MAX_ITEMS; i++) free(run->velocity[i]);
    dit_free(&run->models[0]);
    dit_free(&run->models[1]);
    close_bench(&run->bench);
}

static float *condition_rows(const dit_run *run, int64_t rows)
{
    ace_error error = {0};
    if (rows > 0) return noise(ENC_SEED, rows * run->encoder_hidden);
    float *values = new_floats(-rows * run->encoder_hidden);
    const ace_tensor *null = part_find(run->bench.checkpoint->parts[ACE_PART_DIT], "null_condition_emb");
    for (int64_t i = 0; i < -rows; i++)
        if (!tensor_read(null, 0, run->encoder_hidden, values + i * run->encoder_hidden, &error))
            fail_msg("%s", error.message);
    return values;
}

static dit_condition new_condition(const dit_run *run, ace_device *dev, const dit *model, int64_t rows)
{
    if (rows == 0) return dit_null_condition_new(model);
    float *values = condition_rows(run, rows);
    ace_mat enc = uploaded(dev, values, rows > 0 ? rows : -rows, run->encoder_hidden);
    free(values);
    return dit_condition_new(model, enc);
}

static void keep_stage(void *context, ace_device *dev, int stage, ace_mat x)
{
    dit_run *run = context;
    int64_t tokens = (run->frames + 1) / 2;
    assert_true(stage >= 0 && stage < run->stages);
    assert_int_equal(x.rows, tokens * run->count);
    ace_download(dev, run->stage_values + stage * tokens * run->hidden, ace_rows(x, 0, tokens));
}

static void forward(void *context, ace_device *dev, int which)
{
    dit_run *run = context;
    const dit *model = &run->models[which];
    ace_mark mark = ace_scratch_mark(dev);
    dit_condition conditions[MAX_ITEMS];
    dit_item items[MAX_ITEMS];
    float *given = noise(CONTEXT_SEED, run->frames * run->given), *x[MAX_ITEMS] = {0};

    dit_schedule schedule = dit_schedule_new(model, which ? NULL : timesteps, TIMESTEPS);
    dit_context shared = dit_context_new(model, which ? NULL : given, run->frames);
    for (int i = 0; i < run->count; i++) {
        conditions[i] = new_condition(run, dev, model, run->plans[i].enc_rows);
        x[i] = noise(run->plans[i].x_seed, run->frames * run->latent);
        items[i] = (dit_item){&shared, &conditions[i], which ? NULL : x[i], which ? NULL : run->velocity[i]};
    }
    dit_tap tap = {keep_stage, run};
    dit_velocity(model, &schedule, run->step, items, run->count, run->stage_values ? &tap : NULL);
    for (int i = 0; i < run->count; i++) free(x[i]);
    free(given);
    ace_scratch_release(dev, mark);
}

/* ---- against the reference ----------------------------------------------------------------------------------- */

static void check_velocities(const char *variant, ace_dtype precision)
{
    dit_run run = open_run(variant, precision, 1);
    int64_t count = SHORT * run.latent;
    float *expected = golden(&run.bench, "dit.short", TIMESTEPS * count);
    for (run.step = 0; run.step < TIMESTEPS; run.step++) {
        run_planned(&run.bench, forward, &run);
        assert_close(&run.bench, "velocity, T = 37", run.velocity[0], expected + run.step * count, count);
    }
    free(expected);
    run.frames = LONG;
    run.step = 2;
    run_planned(&run.bench, forward, &run);
    assert_golden(&run.bench, "dit.long", run.velocity[0], LONG * run.latent);
    close_run(&run);
}

static void velocities_are_the_references_in_f32(void **state)
{
    (void)state;
    for (int v = 0; v < VARIANTS; v++) check_velocities(variants[v], ACE_F32);
}

static void velocities_are_near_the_references_in_bf16(void **state)
{
    (void)state;
    for (int v = 0; v < VARIANTS; v++) check_velocities(variants[v], ACE_BF16);
}

static void check_stages(const char *variant, ace_dtype precision)
{
    dit_run run = open_run(variant, precision, 1);
    int64_t count = (SHORT + 1) / 2 * run.hidden;
    float *expected = golden(&run.bench, "dit.stages", run.stages * count);
    run.stage_values = new_floats(run.stages * count);
    run_planned(&run.bench, forward, &run);
    for (int i = 0; i < run.stages; i++) {
        char what[32];
        snprintf(what, sizeof what, i ? "after layer %d" : "after proj_in", i - 1);
        assert_close(&run.bench, what, run.stage_values + i * count, expected + i * count, count);
    }
    free(run.stage_values);
    free(expected);
    close_run(&run);
}

static void every_layer_is_the_references_in_f32(void **state)
{
    (void)state;
    for (int v = 0; v < VARIANTS; v++) check_stages(variants[v], ACE_F32);
}

static void every_layer_is_near_the_references_in_bf16(void **state)
{
    (void)state;
    for (int v = 0; v < VARIANTS; v++) check_stages(variants[v], ACE_BF16);
}

/* The reference repeats the null embedding; here it is one row. */
static void one_null_row_is_as_good_as_many(void **state)
{
    (void)state;
    for (int v = 0; v < VARIANTS; v++) {
        dit_run run = open_run(variants[v], ACE_F32, 1);
        int64_t count = SHORT * run.latent;
        run.count = 2;
        run.plans[0] = (item_plan){0, X_SEED};
        run.plans[1] = (item_plan){-512, X_SEED};
        run_planned(&run.bench, forward, &run);
        assert_golden(&run.bench, "dit.null", run.velocity[0], count);
        assert_close(&run.bench, "1 row against 512", run.velocity[0], run.velocity[1], count);
        close_run(&run);
    }
}

/* ---- the same bytes ------------------------------------------------------------------------------------------ */

/* Conditional, unconditional and another song in one call, against each alone. */
static void check_batch(const char *variant, ace_dtype precision)
{
    static const item_plan plans[MAX_ITEMS] = {{ENC_ROWS, X_SEED}, {0, X_SEED}, {17, 99}};
    dit_run run = open_run(variant, precision, 1);
    int64_t count = SHORT * run.latent;
    run.count = MAX_ITEMS;
    memcpy(run.plans, plans, sizeof plans);
    run_planned(&run.bench, forward, &run);
    float *together[MAX_ITEMS];
    for (int i = 0; i < MAX_ITEMS; i++) {
        together[i] = new_floats(count);
        memcpy(together[i], run.velocity[i], (size_t)count * sizeof(float));
    }
    run.count = 1;
    for (int i = 0; i < MAX_ITEMS; i++) {
        run.plans[0] = plans[i];
        run_planned(&run.bench, forward, &run);
        assert_same_bytes(run.velocity[0], together[i], count);
        free(together[i]);
    }
    close_run(&run);
}

static void an_item_does_not_depend_on_the_others(void **state)
{
    (void)state;
    for (int v = 0; v < VARIANTS; v++) {
        check_batch(variants[v], ACE_F32);
        check_batch(variants[v], ACE_BF16);
    }
}

static void threads_do_not_change_a_byte(void **state)
{
    (void)state;
    for (int p = 0; p < 2; p++) {
        dit_run one = open_run("xl-turbo", p ? ACE_BF16 : ACE_F32, 1);
        dit_run two = open_run("xl-turbo", p ? ACE_BF16 : ACE_F32, 2);
        one.frames = two.frames = LONG;
        run_planned(&one.bench, forward, &one);
        run_planned(&two.bench, forward, &two);
        assert_same_bytes(one.velocity[0], two.velocity[0], LONG * one.latent);
        close_run(&one);
        close_run(&two);
    }
}

/* A context keeps nothing of the step before: two steps in a row give what the second gives alone. */
static void steps_do_not_leave_traces(void **state)
{
    (void)state;
    ace_error error = {0};
    dit_run run = open_run("turbo", ACE_F32, 1);
    const dit *model = &run.models[0];
    ace_device *dev = run.bench.dev;
    int64_t count = SHORT * run.latent;
    float *given = noise(CONTEXT_SEED, SHORT * run.given), *x = noise(X_SEED, count), *other = noise(99, count);
    assert_true(ace_scratch_reserve(dev, 8 << 20, 8 << 20, &error));
    dit_schedule schedule = dit_schedule_new(model, timesteps, TIMESTEPS);
    dit_context context = dit_context_new(model, given, SHORT);
    dit_condition condition = new_condition(&run, dev, model, ENC_ROWS);
    dit_velocity(model, &schedule, 0, &(dit_item){&context, &condition, other, run.velocity[1]}, 1, NULL);
    dit_velocity(model, &schedule, 1, &(dit_item){&context, &condition, x, run.velocity[1]}, 1, NULL);
    assert_device_ok(dev);
    ace_scratch_release(dev, (ace_mark){0});
    run_planned(&run.bench, forward, &run);
    assert_same_bytes(run.velocity[0], run.velocity[1], count);
    free(given);
    free(x);
    free(other);
    close_run(&run);
}

/* ---- misuse -------------------------------------------------------------------------------------------------- */

static void a_step_outside_the_schedule_is_an_error(void **state)
{
    (void)state;
    ace_error error = {0};
    dit_run run = open_run("turbo", ACE_F32, 1);
    assert_true(ace_scratch_reserve(run.bench.dev, 8 << 20, 8 << 20, &error));
    for (run.step = -1; run.step <= TIMESTEPS; run.step += TIMESTEPS + 1) {
        forward(&run, run.bench.dev, 0);
        assert_device_failed(run.bench.dev, ACE_ERROR_INTERNAL, "step outside the schedule");
    }
    close_run(&run);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(velocities_are_the_references_in_f32),
        cmocka_unit_test(velocities_are_near_the_references_in_bf16),
        cmocka_unit_test(every_layer_is_the_references_in_f32),
        cmocka_unit_test(every_layer_is_near_the_references_in_bf16),
        cmocka_unit_test(one_null_row_is_as_good_as_many),
        cmocka_unit_test(an_item_does_not_depend_on_the_others),
        cmocka_unit_test(threads_do_not_change_a_byte),
        cmocka_unit_test(steps_do_not_leave_traces),
        cmocka_unit_test(a_step_outside_the_schedule_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
