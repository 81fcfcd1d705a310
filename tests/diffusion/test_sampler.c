/* Whole runs against the official loops: every solver, guidance, correction and mask, with an analytic velocity. */
#include "diffusion/sampler.h"
#include "goldens.h"

enum { C = LATENT_CHANNELS };

/* The Velocity of make_diffusion_goldens.py. */
typedef struct analytic {
    float *a, *bias, *slope;
    const flow_schedule *schedule;
    int calls, uncond_calls;
} analytic;

static void analytic_item(const analytic *m, const float *x, double t, int kind, float *v, int64_t frames)
{
    for (int64_t f = 0; f < frames; f++) {
        for (int o = 0; o < C; o++) {
            double sum = m->bias[kind * C + o] + t * m->slope[o];
            for (int i = 0; i < C; i++) sum += (double)x[f * C + i] * m->a[o * C + i];
            double before = f > 0 ? x[(f - 1) * C + o] : 0;
            v[f * C + o] = (float)((tanh(sum) + 0.2 * before) * 1.1);
        }
    }
}

static bool analytic_velocity(void *context, const sampler_call *call, ace_error *error)
{
    (void)error;
    analytic *m = context;
    assert_true(call->t == m->schedule->t[call->t_index]);
    m->calls++;
    m->uncond_calls += call->uncond;
    if (!call->x) return true;
    assert_true(call->uncond == (call->v_uncond != NULL));
    const int64_t item = call->frames * C;
    for (int64_t b = 0; b < call->batch; b++) {
        int kind = call->non_cover ? 2 : 0;
        analytic_item(m, call->x + b * item, call->t, kind, call->v_cond + b * item, call->frames);
        if (call->uncond)
            analytic_item(m, call->x + b * item, call->t, kind + 1, call->v_uncond + b * item, call->frames);
    }
    return true;
}

static void number_option(const json_t *options, const char *key, double *value)
{
    json_t *v = json_object_get(options, key);
    if (v) *value = json_number_value(v);
}

static void whole_option(const json_t *options, const char *key, int *value)
{
    json_t *v = json_object_get(options, key);
    if (v) *value = (int)json_integer_value(v);
}

/* The options of a case on top of its checkpoint's preset. */
static sampler_options case_options(const json_t *c, double *timesteps)
{
    const json_t *given = json_object_get(c, "options");
    sampler_options o = sampler_defaults(strcmp(json_text(c, "variant"), "turbo") == 0);
    o.turbo_step_limit = SCHEDULE_TURBO_MAX_STEPS;
    o.noise = NOISE_TORCH_CPU;
    const char *name;
    json_t *value;
    size_t understood = 0;
    json_object_foreach((json_t *)given, name, value)
    {
        const char *text = json_string_value(value);
        if (strcmp(name, "solver") == 0)
            understood += solver_from_name(text, &o.solver);
        else if (strcmp(name, "guidance") == 0)
            understood += guidance_from_name(text, &o.guidance);
        else if (strcmp(name, "dcw_mode") == 0)
            understood += dcw_mode_from_name(text, &o.dcw.mode);
        else if (strcmp(name, "dcw_wavelet") == 0)
            understood += dcw_wavelet_from_name(text, &o.dcw.wavelet);
        else if (strcmp(name, "repaint_mode") == 0)
            understood += repaint_mode_from_name(text, &o.repaint_mode);
        else
            understood++;
    }
    assert_int_equal(understood, json_object_size(given));
    whole_option(given, "steps", &o.steps);
    whole_option(given, "stork_substeps", &o.stork_substeps);
    number_option(given, "shift", &o.shift);
    number_option(given, "guidance_scale", &o.guidance_scale);
    number_option(given, "cfg_interval_start", &o.cfg_interval_start);
    number_option(given, "cfg_interval_end", &o.cfg_interval_end);
    number_option(given, "velocity_norm_threshold", &o.velocity_norm_threshold);
    number_option(given, "velocity_ema_factor", &o.velocity_ema_factor);
    number_option(given, "dcw_scaler", &o.dcw.scaler);
    number_option(given, "dcw_high_scaler", &o.dcw.high_scaler);
    number_option(given, "cover_strength", &o.cover_strength);
    number_option(given, "cover_noise_strength", &o.cover_noise_strength);
    number_option(given, "repaint_strength", &o.repaint_strength);
    if (json_is_false(json_object_get(given, "dcw_enabled"))) o.dcw.enabled = false;
    json_t *list = json_object_get(given, "timesteps");
    if (list) {
        o.timesteps = timesteps;
        o.timestep_count = json_array_size(list);
        for (size_t i = 0; i < o.timestep_count; i++) timesteps[i] = json_number_value(json_array_get(list, i));
    }
    return o;
}

static void read_seeds(const json_t *c, uint64_t *seeds)
{
    json_t *list = json_object_get(c, "seeds");
    for (size_t i = 0; i < json_array_size(list); i++)
        seeds[i] = strtoull(json_string_value(json_array_get(list, i)), NULL, 10);
}

static uint8_t *read_mask(const json_t *c, int batch, int64_t frames)
{
    json_t *rows = json_object_get(c, "mask");
    if (!json_is_array(rows)) return NULL;
    uint8_t *mask = malloc((size_t)(batch * frames));
    for (int b = 0; b < batch; b++)
        for (int64_t f = 0; f < frames; f++)
            mask[b * frames + f] =
                (uint8_t)json_integer_value(json_array_get(json_array_get(rows, (size_t)b), (size_t)f));
    return mask;
}

/* Items first .. first + batch - 1 of the case into latents; the work memory is exactly what was asked for. */
static void run_case(void **state, const json_t *c, int first, int batch, float *latents)
{
    double timesteps[32];
    sampler_options options = case_options(c, timesteps);
    ace_error error = {0};
    if (!sampler_validate(&options, NULL, NULL, &error)) fail_msg("%s: %s", json_text(c, "name"), error.message);
    flow_schedule schedule;
    assert_true(sampler_schedule(&options, &schedule, &error));

    const int64_t frames = json_whole(c, "frames");
    const size_t item = (size_t)frames * C;
    uint64_t seeds[8];
    read_seeds(c, seeds);
    uint8_t *mask = read_mask(c, first + batch, frames);
    float *source =
        options.cover_noise_strength > 0 ? golden_tensor(state, NULL, "source_%s", json_text(c, "shape")) : NULL;
    float *clean = mask ? golden_tensor(state, NULL, "clean_%s", json_text(c, "shape")) : NULL;
    sampler_input input = {.batch = batch,
                           .frames = frames,
                           .seeds = seeds + first,
                           .source = source ? source + (size_t)first * item : NULL,
                           .repaint_clean = clean ? clean + (size_t)first * item : NULL,
                           .repaint_mask = mask ? mask + (size_t)first * (size_t)frames : NULL};
    analytic model = {golden_tensor(state, NULL, "velocity_a"),
                      golden_tensor(state, NULL, "velocity_bias"),
                      golden_tensor(state, NULL, "velocity_slope"),
                      &schedule,
                      0,
                      0};
    size_t floats;
    assert_true(sampler_floats(&options, batch, frames, &floats, &error));
    float *work = malloc(floats * sizeof *work);
    for (size_t i = 0; i < floats; i++) work[i] = NAN; /* nothing may be read before it is written */
    if (!sampler_run(&options, &input, &(sampler_model){&model, analytic_velocity, NULL}, work, latents, &error))
        fail_msg("%s: %s", json_text(c, "name"), error.message);
    sampler_cost cost = sampler_model_calls(&options, &schedule);
    assert_int_equal(cost.calls, model.calls);
    assert_int_equal(cost.uncond_calls, model.uncond_calls);
    free(work);
    free(mask);
    free(source);
    free(clean);
    free(model.a);
    free(model.bias);
    free(model.slope);
}

static void loops(void **state)
{
    double worst = 0;
    size_t i;
    json_t *c;
    json_array_foreach(golden_part(state, "loops"), i, c)
    {
        size_t count;
        float *expected = golden_tensor(state, &count, "out_%s", json_text(c, "name"));
        float *latents = malloc(count * sizeof *latents);
        run_case(state, c, 0, (int)json_array_size(json_object_get(c, "seeds")), latents);
        double error = relative_error(latents, expected, count);
        if (error > worst) worst = error;
        if (error > 2e-5) print_message("%s: %.3g\n", json_text(c, "name"), error);
        assert_close(json_text(c, "name"), latents, expected, count, 1e-4);
        free(expected);
        free(latents);
    }
    assert_int_equal(i, 95);
    print_message("%zu loops, largest relative error %.3g\n", i, worst);
}

/* Item i of a batch has the bytes that it has alone. */
static void an_item_does_not_know_its_batch(void **state)
{
    size_t i;
    json_t *c;
    json_array_foreach(golden_part(state, "loops"), i, c)
    {
        const int batch = (int)json_array_size(json_object_get(c, "seeds"));
        const size_t item = (size_t)json_whole(c, "frames") * C;
        float *together = malloc((size_t)batch * item * sizeof *together), *alone = malloc(item * sizeof *alone);
        run_case(state, c, 0, batch, together);
        for (int b = 0; b < batch; b++) {
            run_case(state, c, b, 1, alone);
            assert_memory_equal(alone, together + (size_t)b * item, item * sizeof *alone);
        }
        free(together);
        free(alone);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loops),
        cmocka_unit_test(an_item_does_not_know_its_batch),
    };
    return cmocka_run_group_tests(tests, goldens_open, goldens_close);
}
