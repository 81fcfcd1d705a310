/* Guidance, wavelet correction, repainting and solver steps, each against the official function (solver steps of
 * acestep.cpp: against float64). */
#include "diffusion/dcw.h"
#include "diffusion/guidance.h"
#include "diffusion/latent.h"
#include "diffusion/repaint.h"
#include "diffusion/solver.h"
#include "diffusion/velocity.h"
#include "goldens.h"

static const double LIMIT = 1e-5; /* relative, per function */

static void apg(void **state)
{
    size_t i;
    json_t *c;
    float *momentum = NULL;
    json_array_foreach(golden_part(state, "apg"), i, c)
    {
        const char *name = json_text(c, "tensor");
        size_t count;
        float *cond = golden_tensor(state, &count, "%s_cond", name);
        float *uncond = golden_tensor(state, NULL, "%s_uncond", name);
        float *out = golden_tensor(state, NULL, "%s_out", name);
        if (json_is_true(json_object_get(c, "first"))) {
            free(momentum);
            momentum = calloc(count, sizeof *momentum);
        }
        guidance_apg(cond, uncond, momentum, (float)json_number(c, "scale"), count / LATENT_CHANNELS);
        assert_close(name, cond, out, count, LIMIT);
        free(cond);
        free(uncond);
        free(out);
    }
    free(momentum);
    assert_int_equal(i, 9);
}

static void adg(void **state)
{
    size_t i;
    json_t *c;
    json_array_foreach(golden_part(state, "adg"), i, c)
    {
        const char *name = json_text(c, "tensor");
        size_t count;
        float *x = golden_tensor(state, &count, "%s_x", name);
        float *cond = golden_tensor(state, NULL, "%s_cond", name);
        float *uncond = golden_tensor(state, NULL, "%s_uncond", name);
        float *out = golden_tensor(state, NULL, "%s_out", name);
        guidance_adg(cond, uncond, x, (float)json_number(c, "t"), (float)json_number(c, "scale"),
                     count / LATENT_CHANNELS);
        assert_close(name, cond, out, count, LIMIT);
        free(x);
        free(cond);
        free(uncond);
        free(out);
    }
    assert_int_equal(i, 5);
}

/* dit.md 19.8: equal velocities leave APG, and scale 1 leaves plain guidance, at the conditional one. */
static void guidance_identities(void **state)
{
    size_t count;
    float *cond = golden_tensor(state, &count, "apg_3_cond");
    float *uncond = golden_tensor(state, NULL, "apg_3_uncond");
    float *v = malloc(count * sizeof *v), *same = malloc(count * sizeof *v);
    float *momentum = calloc(count, sizeof *momentum);
    memcpy(v, cond, count * sizeof *v);
    memcpy(same, cond, count * sizeof *v);
    guidance_apg(v, same, momentum, 7, count / LATENT_CHANNELS);
    assert_memory_equal(v, cond, count * sizeof *v);
    guidance_cfg(v, uncond, 1, count / LATENT_CHANNELS);
    assert_close("cfg at 1", v, cond, count, 1e-6);
    guidance_cfg(v, uncond, 3, count / LATENT_CHANNELS);
    for (size_t i = 0; i < count; i++) same[i] = uncond[i] + 3 * (cond[i] - uncond[i]);
    assert_close("cfg at 3", v, same, count, 1e-6);

    /* a frame whose unconditional clean latent vanishes has no angle: it stays at the conditional velocity */
    float x[LATENT_CHANNELS], zero[LATENT_CHANNELS] = {0}, frame[LATENT_CHANNELS];
    for (int c = 0; c < LATENT_CHANNELS; c++) x[c] = 0, frame[c] = 1;
    guidance_adg(frame, zero, x, 0.5f, 7, 1);
    for (int c = 0; c < LATENT_CHANNELS; c++) assert_true(frame[c] == 1);
    free(cond);
    free(uncond);
    free(v);
    free(same);
    free(momentum);
}

static void dcw(void **state)
{
    size_t i;
    json_t *c;
    json_array_foreach(golden_part(state, "dcw"), i, c)
    {
        dcw_options options = {
            .enabled = true, .scaler = json_number(c, "scaler"), .high_scaler = json_number(c, "high_scaler")};
        assert_true(dcw_mode_from_name(json_text(c, "mode"), &options.mode));
        assert_true(dcw_wavelet_from_name(json_text(c, "wavelet"), &options.wavelet));
        const size_t frames = (size_t)json_whole(c, "frames");
        float *x = golden_tensor(state, NULL, "dcw_%zu_x", frames);
        float *y = golden_tensor(state, NULL, "dcw_%zu_y", frames);
        float *out = golden_tensor(state, NULL, "%s", json_text(c, "tensor"));
        float *scratch = malloc(dcw_floats(&options, frames) * sizeof *scratch + 1); /* exact, for the sanitizer */
        dcw_apply(&options, (float)json_number(c, "t"), x, y, frames, scratch);
        assert_close(json_text(c, "tensor"), x, out, frames * LATENT_CHANNELS, LIMIT);
        free(x);
        free(y);
        free(out);
        free(scratch);
    }
    assert_int_equal(i, 76);
}

/* dit.md 19.9: x = y stays x; with both strengths 1 every wavelet must reconstruct x + (x - y). */
static void dcw_identities(void **state)
{
    float *y = golden_tensor(state, NULL, "dcw_13_y");
    float scratch[256], x[13 * LATENT_CHANNELS], expected[13 * LATENT_CHANNELS];
    for (int w = 0; w < DCW_WAVELETS; w++) {
        dcw_options options = {true, DCW_DOUBLE, (dcw_wavelet)w, 2, 2};
        memcpy(x, y, sizeof x);
        dcw_apply(&options, 0.5f, x, y, 13, scratch);
        assert_close(dcw_wavelet_name(options.wavelet), x, y, 13 * LATENT_CHANNELS, 1e-7);
        for (int i = 0; i < 13 * LATENT_CHANNELS; i++) {
            x[i] = y[i] + (float)(i % 7) - 3;
            expected[i] = 2 * x[i] - y[i];
        }
        dcw_apply(&options, 0.5f, x, y, 13, scratch);
        assert_close(dcw_wavelet_name(options.wavelet), x, expected, 13 * LATENT_CHANNELS, 1e-6);
    }
    assert_false(dcw_active(&(dcw_options){true, DCW_LOW, DCW_HAAR, 0, 0.3}));
    assert_false(dcw_active(&(dcw_options){false, DCW_LOW, DCW_HAAR, 0.1, 0.3}));
    assert_true(dcw_active(&(dcw_options){true, DCW_DOUBLE, DCW_HAAR, 0, 0.3}));
    free(y);
}

static void repaint(void **state)
{
    enum { FRAMES = 23 };
    float *x = golden_tensor(state, NULL, "repaint_x");
    float *clean = golden_tensor(state, NULL, "repaint_clean");
    float *noise = golden_tensor(state, NULL, "repaint_noise");
    float got[FRAMES * LATENT_CHANNELS];
    size_t i, k;
    json_t *c, *crossfade;
    json_array_foreach(golden_part(state, "repaint"), i, c)
    {
        uint8_t mask[FRAMES];
        for (size_t f = 0; f < FRAMES; f++)
            mask[f] = (uint8_t)json_integer_value(json_array_get(json_object_get(c, "mask"), f));
        memcpy(got, x, sizeof got);
        repaint_inject(got, clean, noise, mask, (float)json_number(c, "t"), FRAMES);
        float *expected = golden_tensor(state, NULL, "%s", json_text(c, "inject"));
        assert_close(json_text(c, "inject"), got, expected, FRAMES * LATENT_CHANNELS, LIMIT);
        free(expected);
        json_array_foreach(json_object_get(c, "crossfades"), k, crossfade)
        {
            int frames = (int)json_integer_value(crossfade);
            memcpy(got, x, sizeof got);
            repaint_blend(got, clean, mask, frames, FRAMES);
            expected = golden_tensor(state, NULL, "blend_%zu_%d", i, frames);
            assert_close("blend", got, expected, FRAMES * LATENT_CHANNELS, LIMIT);
            free(expected);
        }
        assert_int_equal(k, 3);
        memcpy(got, x, sizeof got);
        repaint_blend(got, clean, mask, 0, FRAMES);
        assert_memory_equal(got, x, sizeof got);
    }
    assert_int_equal(i, 7);
    free(x);
    free(clean);
    free(noise);
}

/* The table of dit.md 14.3; halves round to even. */
static void repaint_plans(void **state)
{
    (void)state;
    repaint_plan p = repaint_plan_for(REPAINT_AGGRESSIVE, 0.2);
    assert_true(p.injection_ratio == 0 && p.crossfade_frames == 0 && !p.splice);
    p = repaint_plan_for(REPAINT_CONSERVATIVE, 0.2);
    assert_true(p.injection_ratio == 1 && p.crossfade_frames == 25 && p.crossfade_seconds == 0.05 && p.splice);
    p = repaint_plan_for(REPAINT_BALANCED, 0.5);
    assert_true(p.injection_ratio == 0.5 && p.crossfade_frames == 12 && p.crossfade_seconds == 0.025 && p.splice);
    p = repaint_plan_for(REPAINT_BALANCED, 0.3);
    assert_int_equal(p.crossfade_frames, 18); /* 17.5 */
    p = repaint_plan_for(REPAINT_BALANCED, 7);
    assert_true(p.injection_ratio == 0 && p.crossfade_frames == 0 && p.splice);
    assert_int_equal(repaint_cutoff(0.5, 5), 2);
    assert_int_equal(repaint_cutoff(0.5, 7), 4);
    assert_int_equal(repaint_cutoff(1, 8), 8);
}

static void solver_steps(void **state)
{
    size_t i;
    json_t *c;
    json_array_foreach(golden_part(state, "steps"), i, c)
    {
        size_t count;
        float *x = golden_tensor(state, &count, "step_%zu_x", i), *v = golden_tensor(state, NULL, "step_%zu_v", i);
        float *v1 = golden_tensor(state, NULL, "step_%zu_v1", i), *v2 = golden_tensor(state, NULL, "step_%zu_v2", i);
        float *y = golden_tensor(state, NULL, "step_%zu_y", i), *scratch = malloc(count * sizeof *scratch);
        const float t = (float)json_number(c, "t"), t_next = (float)json_number(c, "t_next");
        solver_past past = {.count = json_whole(c, "count"), .v = {v1, v2}};
        for (int k = 0; k < past.count; k++)
            past.dt[k] = (float)json_number_value(json_array_get(json_object_get(c, "dts"), (size_t)k));
        if (strcmp(json_text(c, "solver"), "dpm3m") == 0)
            solver_dpm3m(x, v, &past, t - t_next, count);
        else
            solver_stork4(x, v, &past, t, t_next, json_whole(c, "substeps"), scratch, count);
        assert_close(json_text(c, "solver"), x, y, count, LIMIT);
        float *all[] = {x, v, v1, v2, y, scratch};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) free(all[k]);
    }
    assert_int_equal(i, 12);
}

/* Sub-steps that overflow end in Euler's step: the extrapolated velocity pushes x beyond the largest float, the
 * velocity itself does not. */
static void stork4_falls_back(void **state)
{
    (void)state;
    float v = 1e36f, x = 3.3e38f, scratch, v1 = 5e36f, expected = x - v * (0.95f - 0.05f);
    solver_past past = {.count = 1, .v = {&v1}, .dt = {0.05f}};
    solver_stork4(&x, &v, &past, 0.95f, 0.05f, 10, &scratch, 1);
    assert_true(x == expected);
}

static void velocity_filters(void **state)
{
    (void)state;
    float v[2] = {3, 4}, x[2] = {0, 2};
    velocity_clamp(v, x, 1.0f, 2); /* |v| 5 to 1 * |x| = 2 */
    assert_true(fabs(v[0] - 1.2) < 1e-6 && fabs(v[1] - 1.6) < 1e-6);
    velocity_clamp(v, x, 1.5f, 2);
    assert_true(fabs(v[0] - 1.2) < 1e-6 && fabs(v[1] - 1.6) < 1e-6);
    velocity_smooth(v, x, 0.25f, 2);
    assert_true(fabs(v[0] - 0.9) < 1e-6 && fabs(v[1] - 1.7) < 1e-6);
    float zero[2] = {0, 0};
    velocity_clamp(zero, x, 0.5f, 2);
    assert_true(zero[0] == 0 && zero[1] == 0);
}

static void names(void **state)
{
    (void)state;
    solver_kind solver;
    guidance_kind guidance;
    dcw_wavelet wavelet;
    repaint_mode mode;
    dcw_mode band;
    for (int i = SOLVER_EULER; i <= SOLVER_STORK4; i++)
        assert_true(solver_from_name(solver_name((solver_kind)i), &solver) && solver == (solver_kind)i);
    for (int i = GUIDANCE_APG; i <= GUIDANCE_ADG; i++)
        assert_true(guidance_from_name(guidance_name((guidance_kind)i), &guidance) && guidance == (guidance_kind)i);
    for (int i = 0; i < DCW_WAVELETS; i++)
        assert_true(dcw_wavelet_from_name(dcw_wavelet_name((dcw_wavelet)i), &wavelet) && wavelet == (dcw_wavelet)i);
    for (int i = REPAINT_BALANCED; i <= REPAINT_AGGRESSIVE; i++)
        assert_true(repaint_mode_from_name(repaint_mode_name((repaint_mode)i), &mode) && mode == (repaint_mode)i);
    for (int i = DCW_LOW; i <= DCW_PIX; i++)
        assert_true(dcw_mode_from_name(dcw_mode_name((dcw_mode)i), &band) && band == (dcw_mode)i);
    assert_true(dcw_wavelet_from_name("db1", &wavelet) && wavelet == DCW_HAAR);
    assert_false(solver_from_name("dpm++", &solver));
    assert_false(guidance_from_name("", &guidance));
    assert_false(dcw_wavelet_from_name("db3", &wavelet));
    assert_false(repaint_mode_from_name("Balanced", &mode));
    assert_false(dcw_mode_from_name("mid", &band));
    assert_null(solver_name((solver_kind)5));
    assert_null(dcw_wavelet_name(DCW_WAVELETS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(apg),
        cmocka_unit_test(adg),
        cmocka_unit_test(guidance_identities),
        cmocka_unit_test(dcw),
        cmocka_unit_test(dcw_identities),
        cmocka_unit_test(repaint),
        cmocka_unit_test(repaint_plans),
        cmocka_unit_test(solver_steps),
        cmocka_unit_test(stork4_falls_back),
        cmocka_unit_test(velocity_filters),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, goldens_open, goldens_close);
}
