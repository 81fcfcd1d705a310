/* What the sampler accepts, adapts and refuses; what it asks of the model; and that it never passes noise for music. */
#include "base/dtype.h"
#include "diffusion/sampler.h"
#include "goldens.h"

enum { C = LATENT_CHANNELS, FRAMES = 5, MAX_CALLS = 64 };

typedef struct warnings {
    int count;
    char text[8][256];
} warnings;

static void collect(void *context, const char *sentence)
{
    warnings *w = context;
    assert_true(w->count < 8);
    snprintf(w->text[w->count++], sizeof w->text[0], "%s", sentence);
}

static bool warned(const warnings *w, const char *part)
{
    for (int i = 0; i < w->count; i++)
        if (strstr(w->text[i], part)) return true;
    return false;
}

static void presets_pass_silently(void **state)
{
    (void)state;
    for (int is_turbo = 0; is_turbo < 2; is_turbo++) {
        sampler_options o = sampler_defaults(is_turbo), before = o;
        warnings w = {0};
        assert_true(sampler_validate(&o, collect, &w, NULL));
        assert_int_equal(w.count, 0);
        assert_int_equal(o.steps, before.steps);
        assert_int_equal(o.steps, is_turbo ? 8 : 50);
        assert_true(o.guidance_scale == (is_turbo ? 1 : 7) && o.shift == (is_turbo ? 3 : 1));
        assert_true(o.dcw.enabled && o.dcw.mode == DCW_DOUBLE && o.dcw.scaler == 0.05 && o.dcw.high_scaler == 0.02);
        assert_true(sampler_validate(&o, NULL, NULL, NULL));
    }
}

static void turbo_is_adapted(void **state)
{
    (void)state;
    sampler_options o = sampler_defaults(true);
    o.guidance_scale = 7;
    o.guidance = GUIDANCE_ADG;
    o.steps = 12;
    o.shift = 1;
    warnings w = {0};
    assert_true(sampler_validate(&o, collect, &w, NULL));
    assert_int_equal(o.steps, 8);
    assert_true(o.guidance_scale == 1);
    assert_int_equal(w.count, 3);
    assert_true(warned(&w, "guidance 7 is ignored") && warned(&w, "12 steps become 8") && warned(&w, "shift 1"));
    o = sampler_defaults(true);
    o.turbo_step_limit = 20;
    o.steps = 12;
    w = (warnings){0};
    assert_true(sampler_validate(&o, collect, &w, NULL));
    assert_int_equal(o.steps, 12);
    assert_int_equal(w.count, 1);
    assert_true(warned(&w, "12 steps"));
    o = sampler_defaults(true);
    o.timesteps = (const double[]){0.97, 0.5};
    o.timestep_count = 2;
    w = (warnings){0};
    assert_true(sampler_validate(&o, collect, &w, NULL));
    assert_int_equal(w.count, 2);
    assert_true(warned(&w, "timestep 0.97 becomes 0.954545") && warned(&w, "start at 0.954545"));
}

static void base_warns(void **state)
{
    (void)state;
    sampler_options o = sampler_defaults(false);
    o.guidance_scale = 1;
    o.steps = 30;
    o.shift = 3;
    warnings w = {0};
    assert_true(sampler_validate(&o, collect, &w, NULL));
    assert_int_equal(w.count, 3);
    assert_int_equal(o.steps, 30);
    o = sampler_defaults(false);
    o.timesteps = (const double[]){1, 0.5, 0.1};
    o.timestep_count = 3;
    w = (warnings){0};
    assert_true(sampler_validate(&o, collect, &w, NULL));
    assert_true(w.count == 1 && warned(&w, "end at 0.1"));
}

/* Validates the preset with one change, which must be refused with a sentence that says `part`. */
#define REFUSED(turbo, change, part)                                                           \
    do {                                                                                       \
        sampler_options o = sampler_defaults(turbo);                                           \
        change;                                                                                \
        ace_error e = {0};                                                                     \
        assert_false(sampler_validate(&o, NULL, NULL, &e));                                    \
        assert_int_equal(e.status, ACE_ERROR_USAGE);                                           \
        if (!strstr(e.message, part)) fail_msg("\"%s\" does not say \"%s\"", e.message, part); \
    } while (0)

static void impossible_options_are_refused(void **state)
{
    (void)state;
    REFUSED(true, o.steps = 0, "0 steps");
    REFUSED(false, o.steps = 201, "201 steps");
    REFUSED(false, o.shift = NAN, "shift");
    REFUSED(true, o.shift = 0, "shift");
    REFUSED(false, o.guidance_scale = NAN, "guidance_scale");
    REFUSED(true, o.guidance_scale = INFINITY, "guidance_scale");
    REFUSED(false, o.guidance_scale = -1, "guidance_scale");
    REFUSED(false, o.cfg_interval_start = 1.1, "cfg_interval_start");
    REFUSED(false, o.cfg_interval_end = -0.1, "cfg_interval_end");
    REFUSED(false, (o.cfg_interval_start = 0.8, o.cfg_interval_end = 0.2), "lies above");
    REFUSED(true, o.velocity_norm_threshold = -1, "velocity_norm_threshold");
    REFUSED(true, o.velocity_ema_factor = 1, "velocity_ema_factor");
    REFUSED(true, o.dcw.scaler = NAN, "dcw_scaler");
    REFUSED(true, o.dcw.high_scaler = 1e9, "dcw_high_scaler");
    REFUSED(true, o.cover_strength = 1.01, "audio_cover_strength");
    REFUSED(true, o.cover_noise_strength = -0.01, "cover_noise_strength");
    REFUSED(true, o.repaint_strength = 2, "repaint_strength");
    REFUSED(true, o.latent_rescale = 0, "latent_rescale");
    REFUSED(true, o.latent_shift = NAN, "latent_shift");
    REFUSED(true, o.stork_substeps = 7, "stork_substeps");
    REFUSED(true, o.turbo_step_limit = 21, "limit of turbo steps");
    REFUSED(true, o.solver = (solver_kind)9, "solver");
    REFUSED(true, o.guidance = (guidance_kind)9, "guidance");
    REFUSED(true, o.dcw.mode = (dcw_mode)9, "DCW mode");
    REFUSED(true, o.dcw.wavelet = (dcw_wavelet)9, "wavelet");
    REFUSED(true, o.noise = (noise_kind)9, "noise");
    REFUSED(true, o.sde_noise = NOISE_TORCH_CPU, "SDE");
    REFUSED(true, o.repaint_mode = (repaint_mode)9, "repaint mode");
    REFUSED(true, (o.timesteps = (const double[]){0}, o.timestep_count = 1), "no value above 0");
    REFUSED(false, (o.timesteps = (const double[]){1, 2}, o.timestep_count = 2), "timestep 2 is 2");
}

/* A model that records what it is asked, and misbehaves at a given call. */
typedef struct recorder {
    sampler_call calls[MAX_CALLS];
    int count;
    int bad_call;    /* -1: none */
    bool bad_uncond; /* where the bad value goes */
    float bad_value;
    bool fail;
    float velocity; /* of every element: x * velocity */
    int progress[MAX_CALLS], progress_count, cancel_at;
} recorder;

static const recorder RECORDER = {.bad_call = -1, .velocity = 0.5f, .cancel_at = -1};

static bool record(void *context, const sampler_call *call, ace_error *error)
{
    recorder *r = context;
    assert_true(r->count < MAX_CALLS);
    r->calls[r->count] = *call;
    const bool bad = r->count++ == r->bad_call;
    if (bad && r->fail) return ace_fail(error, ACE_ERROR_DEVICE, "the device is gone");
    if (!call->x) return true;
    const int64_t count = call->batch * call->frames * C;
    for (int64_t i = 0; i < count; i++) call->v_cond[i] = call->x[i] * r->velocity;
    for (int64_t i = 0; call->uncond && i < count; i++) call->v_uncond[i] = call->x[i] * 0.9f * r->velocity;
    /* item 1, frame 2, channel 7 */
    if (bad) (r->bad_uncond ? call->v_uncond : call->v_cond)[(FRAMES + 2) * C + 7] = r->bad_value;
    return true;
}

static bool note_progress(void *context, int step, int steps)
{
    recorder *r = context;
    assert_true(step <= steps && r->progress_count < MAX_CALLS);
    r->progress[r->progress_count++] = step;
    return step != r->cancel_at;
}

/* Two items of five frames; the latents in `latents`. */
static bool run_two(const sampler_options *o, recorder *r, float *latents, ace_error *error)
{
    const uint64_t seeds[2] = {4, 5};
    const sampler_input input = {.batch = 2, .frames = FRAMES, .seeds = seeds};
    const sampler_model model = {r, record, note_progress};
    size_t floats;
    assert_true(sampler_floats(o, 2, FRAMES, &floats, error));
    float *work = malloc(floats * sizeof *work);
    bool ok = sampler_run(o, &input, &model, work, latents, error);
    free(work);
    return ok;
}

static sampler_options small(bool is_turbo, solver_kind solver)
{
    sampler_options o = sampler_defaults(is_turbo);
    o.steps = 4;
    o.solver = solver;
    return o;
}

/* A dry run makes the same calls as a real one, without memory. */
static void dry_run(void **state)
{
    (void)state;
    for (int is_turbo = 0; is_turbo < 2; is_turbo++) {
        for (int solver = SOLVER_EULER; solver <= SOLVER_STORK4; solver++) {
            sampler_options o = small(is_turbo, (solver_kind)solver);
            o.cover_strength = 0.5;
            o.cfg_interval_start = 0.2;
            o.cfg_interval_end = 0.9;
            float latents[2 * FRAMES * C];
            recorder real = RECORDER, dry = RECORDER;
            assert_true(run_two(&o, &real, latents, NULL));
            const sampler_input shape = {.batch = 2, .frames = FRAMES};
            assert_true(sampler_run(&o, &shape, &(sampler_model){&dry, record, NULL}, NULL, NULL, NULL));
            assert_int_equal(dry.count, real.count);
            for (int i = 0; i < dry.count; i++) {
                const sampler_call *d = &dry.calls[i], *w = &real.calls[i];
                assert_null(d->x);
                assert_null(d->v_cond);
                assert_null(d->v_uncond);
                assert_non_null(w->x);
                assert_true(d->step == w->step && d->corrector == w->corrector && d->t == w->t &&
                            d->t_index == w->t_index && d->non_cover == w->non_cover && d->uncond == w->uncond &&
                            d->new_condition == w->new_condition && d->batch == 2 && d->frames == FRAMES);
            }
        }
    }
}

/* Heun: 2n evaluations, 2n - 1 on turbo; guidance only inside the interval; the condition switches once. */
static void calls(void **state)
{
    (void)state;
    float latents[2 * FRAMES * C];
    recorder r = RECORDER;
    sampler_options o = small(true, SOLVER_HEUN);
    assert_true(run_two(&o, &r, latents, NULL));
    assert_int_equal(r.count, 7);
    for (int i = 0; i < 7; i++) assert_true(r.calls[i].corrector == (i % 2 == 1) && !r.calls[i].uncond);

    r = RECORDER;
    o = small(false, SOLVER_HEUN); /* t = 1, .75, .5, .25, 0 */
    o.cfg_interval_start = 0.25;
    o.cfg_interval_end = 0.75;
    o.cover_strength = 0.74; /* int(2.96) = 2 */
    assert_true(run_two(&o, &r, latents, NULL));
    assert_int_equal(r.count, 8);
    for (int i = 0; i < 8; i++) {
        const sampler_call *c = &r.calls[i];
        assert_true(c->uncond == (c->t >= 0.25f && c->t <= 0.75f));
        assert_true(c->non_cover == (i >= 4) && c->new_condition == (i == 0 || i == 4));
        assert_int_equal(c->t_index, i / 2 + i % 2);
        assert_true(c->step == i / 2 && c->steps == 4);
    }
    assert_int_equal(r.progress_count, 5);
    for (int i = 0; i < 5; i++) assert_int_equal(r.progress[i], i);

    r = RECORDER;
    o.cover_strength = 0;
    assert_true(run_two(&o, &r, latents, NULL));
    for (int i = 0; i < 8; i++) assert_true(r.calls[i].non_cover && r.calls[i].new_condition == (i == 0));
}

static void assert_numeric(recorder r, const sampler_options *o, const char *part)
{
    float latents[2 * FRAMES * C];
    ace_error e = {0};
    assert_false(run_two(o, &r, latents, &e));
    assert_int_equal(e.status, ACE_ERROR_NUMERIC);
    if (!strstr(e.message, part)) fail_msg("\"%s\" does not say \"%s\"", e.message, part);
}

static void nothing_unusable_comes_out(void **state)
{
    (void)state;
    sampler_options turbo = small(true, SOLVER_EULER), base = small(false, SOLVER_EULER);
    recorder r = RECORDER;
    r.bad_call = 2;
    r.bad_value = NAN;
    assert_numeric(r, &turbo, "step 3 of 4: the model's velocity is not a number at item 1, frame 2, channel 7");
    r.bad_value = -INFINITY;
    assert_numeric(r, &turbo, "step 3 of 4: the model's velocity is infinite at item 1, frame 2, channel 7");
    r.bad_uncond = true;
    assert_numeric(r, &base, "step 3 of 4: the model's unconditional velocity is infinite at item 1");
    r = RECORDER;
    r.velocity = 3e38f;
    turbo.dcw.enabled = false;
    assert_numeric(r, &turbo, "step 1 of 4: the ");
    /* one Euler step with v = x from t = 1 leaves nothing at all */
    r = RECORDER;
    r.velocity = 1;
    turbo.steps = 1;
    assert_numeric(r, &turbo, "item 0 is zero everywhere");
}

static void stops_when_told(void **state)
{
    (void)state;
    float latents[2 * FRAMES * C];
    ace_error e = {0};
    sampler_options o = small(true, SOLVER_EULER);
    recorder r = RECORDER;
    r.cancel_at = 2;
    assert_false(run_two(&o, &r, latents, &e));
    assert_int_equal(e.status, ACE_CANCELLED);
    assert_int_equal(r.count, 2);
    r = RECORDER;
    r.bad_call = 1;
    r.fail = true;
    e = (ace_error){0};
    assert_false(run_two(&o, &r, latents, &e));
    assert_int_equal(e.status, ACE_ERROR_DEVICE);
    assert_string_equal(e.message, "the device is gone");
    assert_int_equal(r.count, 2);
}

static void inputs_are_checked(void **state)
{
    (void)state;
    float latents[FRAMES * C], noise[FRAMES * C] = {1}, work[8 * FRAMES * C];
    const uint64_t seed = 1;
    uint8_t mask[FRAMES] = {0};
    recorder r = RECORDER;
    const sampler_model model = {&r, record, NULL};
    sampler_options o = small(true, SOLVER_EULER), sde = small(true, SOLVER_SDE), cover = o;
    cover.cover_noise_strength = 0.5;
    const struct {
        const sampler_options *options;
        sampler_input input;
        ace_status status;
    } cases[] = {
        {&o, {.batch = 1, .frames = FRAMES}, ACE_ERROR_INTERNAL},
        {&sde, {.batch = 1, .frames = FRAMES, .noise = noise}, ACE_ERROR_INTERNAL},
        {&cover, {.batch = 1, .frames = FRAMES, .seeds = &seed}, ACE_ERROR_INTERNAL},
        {&o, {.batch = 1, .frames = FRAMES, .seeds = &seed, .repaint_mask = mask}, ACE_ERROR_INTERNAL},
        {&o, {.batch = 1, .frames = FRAMES, .seeds = &seed, .repaint_clean = noise}, ACE_ERROR_INTERNAL},
        {&o, {.batch = 0, .frames = FRAMES, .seeds = &seed}, ACE_ERROR_USAGE},
        {&o, {.batch = 65, .frames = FRAMES, .seeds = &seed}, ACE_ERROR_USAGE},
        {&o, {.batch = 1, .frames = 0, .seeds = &seed}, ACE_ERROR_USAGE},
        {&o, {.batch = 1, .frames = INT64_MAX, .seeds = &seed}, ACE_ERROR_USAGE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ace_error e = {0};
        assert_false(sampler_run(cases[i].options, &cases[i].input, &model, work, latents, &e));
        assert_int_equal(e.status, cases[i].status);
        assert_int_equal(r.count, 0);
    }
    ace_error e = {0};
    noise[3] = NAN;
    assert_false(
        sampler_run(&o, &(sampler_input){.batch = 1, .frames = FRAMES, .noise = noise}, &model, work, latents, &e));
    assert_int_equal(e.status, ACE_ERROR_NUMERIC);
    size_t floats;
    assert_false(sampler_floats(&o, 1, INT64_MAX, &floats, &e));
    assert_false(sampler_floats(&o, -1, 5, &floats, &e));
}

/* Noise that the caller gives is what the seeds would draw; rescale and shift come last. */
static void noise_and_rescaling(void **state)
{
    (void)state;
    enum { ALL = 2 * FRAMES * C };
    float plain[ALL], given[ALL], scaled[ALL], noise[ALL], work[16 * ALL];
    sampler_options o = small(true, SOLVER_EULER);
    recorder r = RECORDER;
    assert_true(run_two(&o, &r, plain, NULL));
    for (size_t b = 0; b < 2; b++) noise_torch_cuda(4 + b, 0, noise + b * ALL / 2, ALL / 2);
    r = RECORDER;
    const sampler_input input = {.batch = 2, .frames = FRAMES, .noise = noise};
    assert_true(sampler_run(&o, &input, &(sampler_model){&r, record, NULL}, work, given, NULL));
    assert_memory_equal(given, plain, sizeof plain);

    o.latent_rescale = 2;
    o.latent_shift = 0.25;
    r = RECORDER;
    assert_true(run_two(&o, &r, scaled, NULL));
    for (int i = 0; i < ALL; i++) assert_true(scaled[i] == plain[i] * 2 + 0.25f);
}

/* One SDE step by hand, for both kinds of its noise. */
static void sde_noise_kinds(void **state)
{
    (void)state;
    enum { ITEM = FRAMES * C };
    for (int peer = 0; peer < 2; peer++) {
        sampler_options o = small(true, SOLVER_SDE);
        o.steps = 2;
        o.shift = 1; /* t = 1, .5 */
        o.dcw.enabled = false;
        o.sde_noise = peer ? NOISE_TORCH_CUDA : NOISE_ACE;
        float latents[2 * ITEM], first[ITEM], fresh[ITEM];
        recorder r = RECORDER;
        assert_true(run_two(&o, &r, latents, NULL));
        noise_torch_cuda(5, 0, first, ITEM);
        if (peer)
            noise_torch_cuda(5 + 0 + 1, 0, fresh, ITEM);
        else
            noise_ace(5, 1, fresh, ITEM);
        for (int i = 0; i < ITEM; i++) {
            if (peer) fresh[i] = ace_bf16_to_f32(ace_f32_to_bf16(fresh[i]));
            float clean = first[i] - first[i] * 0.5f * 1.0f;
            float x = 0.5f * fresh[i] + 0.5f * clean;
            assert_true(fabsf(latents[ITEM + i] - (x - x * 0.5f * 0.5f)) < 1e-6f);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets_pass_silently),
        cmocka_unit_test(turbo_is_adapted),
        cmocka_unit_test(base_warns),
        cmocka_unit_test(impossible_options_are_refused),
        cmocka_unit_test(dry_run),
        cmocka_unit_test(calls),
        cmocka_unit_test(nothing_unusable_comes_out),
        cmocka_unit_test(stops_when_told),
        cmocka_unit_test(inputs_are_checked),
        cmocka_unit_test(noise_and_rescaling),
        cmocka_unit_test(sde_noise_kinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
