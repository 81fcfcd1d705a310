/* Songs of quantised models: what they need, what they say of themselves, and when they are the same. */
#include "song_fixture.h"

#include "device/device.h"
#include "song/arrange.h"
#include "song/engine.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct heard {
    float *samples;
    int64_t count; /* of floats */
} heard;

static bool keep(void *user, const ace_audio *audio, ace_error *error)
{
    heard *h = user;
    (void)error;
    if (!h->samples) h->samples = calloc((size_t)(2 * audio->total), sizeof *h->samples);
    memcpy(h->samples + 2 * audio->first, audio->samples, (size_t)(2 * audio->count) * sizeof *h->samples);
    h->count += 2 * audio->count;
    return true;
}

static heard make(ace_engine *engine)
{
    heard h = {0};
    ace_error error = {0};
    ace_result result;
    ace_request *request = make_request("caption", "a song", "duration", "10", "seed", "7", "thinking", "false", NULL);
    if (!ace_generate(engine, request, &(ace_callbacks){.user = &h, .audio = keep}, &result, &error))
        fail_msg("%s", error.message);
    assert_int_equal(result.planned_peak, result.measured_peak);
    ace_result_free(&result);
    ace_request_free(request);
    return h;
}

static double cosine(const heard *a, const heard *b)
{
    double ab = 0, aa = 0, bb = 0;
    assert_int_equal(a->count, b->count);
    for (int64_t i = 0; i < a->count; i++) {
        ab += (double)a->samples[i] * b->samples[i];
        aa += (double)a->samples[i] * a->samples[i];
        bb += (double)b->samples[i] * b->samples[i];
    }
    return ab / sqrt(aa * bb);
}

/* Plans a song; the stage of diffusion's weights are all that is loaded then. */
static ace_memory_plan plan(ace_engine *engine)
{
    ace_error error = {0};
    ace_memory_plan plan;
    ace_request *request = make_request("duration", "10", "seed", "7", "thinking", "false", NULL);
    if (!ace_plan_memory(engine, request, &plan, &error)) fail_msg("%s", error.message);
    ace_request_free(request);
    return plan;
}

/* ---- forms ------------------------------------------------------------------------------------------------------- */

static void each_form_is_another_song_that_needs_less(void **state)
{
    (void)state;
    static const char *const forms[] = {"none", "int8", "int4"};
    size_t weights = SIZE_MAX;
    heard songs[3];
    for (int f = 0; f < 3; f++) {
        ace_engine *engine = open_quantized("turbo", "bf16", forms[f], false);
        size_t now = plan(engine).stages[ACE_STAGE_DIFFUSION].weight_bytes;
        assert_string_equal(ace_engine_get_info(engine).quantization, forms[f]);
        assert_true(now < weights);
        weights = now;
        songs[f] = make(engine);
        if (f > 0) {
            assert_true(cosine(&songs[f], &songs[0]) < 1 - 1e-7);
            assert_true(cosine(&songs[f], &songs[0]) > 0.9);
        }
        ace_engine_close(engine);
    }
    for (int f = 0; f < 3; f++) free(songs[f].samples);
}

/* Blocks that are kept have the values of weights that are made from them, and are multiplied in the same order. */
static void kept_blocks_make_the_song_of_their_values(void **state)
{
    (void)state;
    static const char *const precisions[] = {"f32", "bf16"};
    for (int p = 0; p < 2; p++) {
        ace_engine *plain = open_quantized("xl-turbo-blocks", precisions[p], "none", false);
        ace_engine *kept = open_quantized("xl-turbo-blocks", precisions[p], "keep", false);
        assert_string_equal(ace_engine_get_info(kept).quantization, "keep");
        assert_true(plan(kept).peak < plan(plain).peak);
        heard a = make(plain), b = make(kept);
        assert_int_equal(a.count, b.count);
        assert_memory_equal(a.samples, b.samples, (size_t)a.count * sizeof *a.samples);
        free(a.samples);
        free(b.samples);
        ace_engine_close(plain);
        ace_engine_close(kept);
    }
}

/* The planner's layers in every form: it writes, within the memory that was planned for its products, too. */
static void planners_write_in_every_form(void **state)
{
    (void)state;
    static const char *const forms[] = {"none", "keep", "int8", "int4"};
    size_t weights[4];
    for (int f = 0; f < 4; f++) {
        ace_error error = {0};
        ace_result result;
        ace_memory_plan promised;
        ace_engine *engine = open_quantized("xl-turbo-blocks", "bf16", forms[f], true);
        ace_request *request = make_request("caption", "a song", "duration", "10", "seed", "7", "batch_size", "2",
                                            "inference_steps", "1", "lm_cfg_scale", "2", NULL);
        assert_string_equal(ace_engine_get_info(engine).lm_quantization, forms[f]);
        if (!ace_plan_memory(engine, request, &promised, &error)) fail_msg("%s", error.message);
        assert_true(promised.planner);
        weights[f] = promised.planner_weights;
        if (!ace_generate(engine, request, NULL, &result, &error)) fail_msg("%s: %s", forms[f], error.message);
        assert_true(result.planned && result.count == 2);
        assert_int_equal(result.planned_peak, result.measured_peak);
        assert_true(result.stages[ACE_STAGE_PLAN].peak_bytes <= promised.planner_peak);
        ace_result_free(&result);
        ace_request_free(request);
        ace_engine_close(engine);
    }
    for (int f = 1; f < 4; f++) assert_true(weights[f] < weights[0]);
}

/* ---- what is said ------------------------------------------------------------------------------------------------ */

typedef struct told {
    int count;
    char last[1024];
} told;

static void listen(void *user, const char *sentence)
{
    told *t = user;
    if (!strstr(sentence, "quantization")) return; /* what else there is to say of a tiny model */
    t->count++;
    snprintf(t->last, sizeof t->last, "%s", sentence);
}

static void nothing_to_keep_is_told(void **state)
{
    (void)state;
    static const char *const options[] = {"--quantization keep", "--lm-quantization keep"};
    for (int lm = 0; lm < 2; lm++) {
        told t = {0};
        ace_error error = {0};
        ace_engine *engine = ace_engine_open(&(ace_engine_options){.model = TINY_CHECKPOINTS "/turbo-planner",
                                                                   .quantization = lm ? NULL : "keep",
                                                                   .lm_quantization = lm ? "keep" : NULL,
                                                                   .warning = listen,
                                                                   .user = &t},
                                             &error);
        if (!engine) fail_msg("%s", error.message);
        assert_int_equal(t.count, 1);
        assert_non_null(strstr(t.last, options[lm]));
        assert_string_equal(ace_engine_get_info(engine).quantization, "none");
        assert_string_equal(ace_engine_get_info(engine).lm_quantization, "none");
        ace_engine_close(engine);
    }
}

static void an_unknown_form_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"int2", "", "INT8", "q4_k"};
    for (size_t i = 0; i < 2 * sizeof bad / sizeof *bad; i++) {
        ace_error error = {0};
        ace_engine_options options = {.model = TINY_CHECKPOINTS "/turbo"};
        *(i % 2 ? &options.lm_quantization : &options.quantization) = bad[i / 2];
        assert_null(ace_engine_open(&options, &error));
        assert_int_equal(error.status, ACE_ERROR_USAGE);
        assert_non_null(strstr(error.message, i % 2 ? "--lm-quantization" : "--quantization"));
        assert_non_null(strstr(error.message, "none, int8, int4 or keep"));
    }
}

/* The least memory in which a song fits. */
static size_t least_of(const char *form)
{
    ace_memory_plan unread, now = {0};
    ace_error error = {0};
    ace_engine *engine = open_quantized("xl-turbo-blocks", "bf16", form, false);
    ace_request *request = make_request("duration", "10", "seed", "7", "thinking", "false", NULL);
    engine->limit = plan(engine).peak;
    while (ace_plan_memory(engine, request, &unread, &error)) {
        now = unread;
        engine->limit = now.peak - 1;
    }
    assert_int_equal(error.status, ACE_ERROR_MEMORY);
    ace_request_free(request);
    ace_engine_close(engine);
    return now.peak;
}

/* What does not fit is told what would. */
static void a_refusal_advises_the_finest_form_that_fits(void **state)
{
    (void)state;
    static const char *const forms[] = {"none", "int8", "int4"};
    size_t least[3];
    for (int f = 0; f < 3; f++) least[f] = least_of(forms[f]);
    /* layers are streamed by then: of a tiny model those in 4 bits may save less than their products take */
    size_t both = least[1] < least[2] ? least[1] : least[2];
    assert_true(both < least[0]);
    const struct {
        const char *form, *advice; /* NULL: none */
        size_t limit;
    } cases[] = {{"none", "--quantization int8 it fits", least[0] - 1},
                 {"none", "--quantization int8 it fits", least[1]},
                 {"none", least[2] < least[1] ? "--quantization int4 it fits" : NULL, least[1] - 1},
                 {"int8", least[2] < least[1] ? "--quantization int4 it fits" : NULL, least[1] - 1},
                 {"none", NULL, both - 1},
                 {"int4", NULL, least[2] - 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ace_error error = {0};
        ace_memory_plan unread;
        ace_engine *engine = open_quantized("xl-turbo-blocks", "bf16", cases[i].form, false);
        ace_request *request = make_request("duration", "10", "seed", "7", "thinking", "false", NULL);
        engine->limit = cases[i].limit;
        assert_false(ace_plan_memory(engine, request, &unread, &error));
        assert_int_equal(error.status, ACE_ERROR_MEMORY);
        if (cases[i].advice ? !strstr(error.message, cases[i].advice) : !!strstr(error.message, "quantization"))
            fail_msg("case %zu: %s", i, error.message);
        ace_request_free(request);
        ace_engine_close(engine);
    }
}

/* How a planner of real size, on the meter, fits into `limit` bytes with its layers in a form. */
static planner_fit fit_planner(const char *form, size_t limit)
{
    ace_error error = {0};
    planner_fit fit;
    planning_wish wish;
    ace_engine *engine =
        ace_engine_open(&(ace_engine_options){.synthetic = "2b+0.6B", .lm_quantization = form, .threads = 2}, &error);
    if (!engine) fail_msg("%s", error.message);
    ace_request *request =
        make_request("duration", "10", "seed", "7", "bpm", "96", "keyscale", "F# minor", "timesignature", "4", NULL);
    if (!arrange_wishes(engine, request, true, &wish, &error) ||
        !arrange_planner(engine, request, &wish, limit, &fit, &error))
        fail_msg("%s", error.message);
    ace_request_free(request);
    ace_engine_close(engine);
    return fit;
}

static void a_refused_planner_is_advised_too(void **state)
{
    (void)state;
    size_t least[3] = {fit_planner("none", 1).own, fit_planner("int8", 1).own, fit_planner("int4", 1).own};
    /* layers are streamed by then: those in 4 bits may save less than their products take */
    size_t both = least[1] < least[2] ? least[1] : least[2];
    const char *last = least[2] < least[1] ? "--lm-quantization int4 it fits" : NULL;
    assert_true(both < least[0]);
    const struct {
        const char *form, *advice; /* NULL: none */
        size_t limit;
    } cases[] = {{"none", "--lm-quantization int8 it fits", least[0] - 1},
                 {"none", "--lm-quantization int8 it fits", least[1]},
                 {"none", last, least[1] - 1},
                 {"int8", last, least[1] - 1},
                 {"none", NULL, both - 1},
                 {"int4", NULL, least[2] - 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        planner_fit fit = fit_planner(cases[i].form, cases[i].limit);
        assert_int_equal(fit.refusal.status, ACE_ERROR_MEMORY);
        if (cases[i].advice ? !strstr(fit.refusal.message, cases[i].advice)
                            : !!strstr(fit.refusal.message, "quantization"))
            fail_msg("case %zu: %s", i, fit.refusal.message);
    }
    assert_int_equal(fit_planner("int8", least[0] - 1).refusal.status, ACE_OK);
}

/* ---- what a song says of itself -----------------------------------------------------------------------------------
 */

static void write_song(ace_engine *engine, const ace_request *request, const char *path, told *t)
{
    ace_error error = {0};
    ace_result result;
    ace_callbacks callbacks = {.user = t, .warning = listen};
    *t = (told){0};
    if (!ace_generate_files(engine, request, &(ace_output){.path = path, .replace = true}, &callbacks, &result, &error))
        fail_msg("%s", error.message);
    ace_result_free(&result);
}

/* A song made again in another form is told to be another one; in the same one, and in kept blocks, it is not. */
static void a_song_says_how_its_model_was_stored(void **state)
{
    (void)state;
    char directory[] = "/tmp/acestep-test-XXXXXX", path[64], again[64], sidecar[80];
    ace_error error = {0};
    told t;
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/song.wav", directory);
    snprintf(again, sizeof again, "%s/again.wav", directory);
    static const struct {
        const char *first, *second, *warning;
    } cases[] = {{"int8", "int8", NULL},
                 {"int8", "none", "made with --quantization int8: with none"},
                 {"none", "int4", "made with --quantization none: with int4"},
                 {"none", "keep", NULL},
                 {"keep", "none", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ace_engine *engine = open_quantized("xl-turbo-blocks", "bf16", cases[i].first, false);
        ace_request *request = make_request("caption", "x", "duration", "10", "seed", "1", "inference_steps", "1",
                                            "thinking", "false", NULL);
        write_song(engine, request, path, &t);
        assert_int_equal(t.count, 0);
        ace_request_free(request);
        ace_engine_close(engine);

        engine = open_quantized("xl-turbo-blocks", "bf16", cases[i].second, false);
        request = ace_request_new(&error);
        if (!ace_request_load(request, path, &error)) fail_msg("%s", error.message);
        write_song(engine, request, again, &t);
        assert_int_equal(t.count, cases[i].warning ? 1 : 0);
        if (cases[i].warning && !strstr(t.last, cases[i].warning)) fail_msg("%s", t.last);
        ace_request_free(request);
        ace_engine_close(engine);
    }
    const char *const files[] = {path, again};
    for (int i = 0; i < 2; i++) {
        snprintf(sidecar, sizeof sidecar, "%s.json", files[i]);
        unlink(sidecar);
        unlink(files[i]);
    }
    rmdir(directory);
}

/* ---- the measurement ----------------------------------------------------------------------------------------------
 */

typedef struct measured {
    int count;
    ace_quantization_effect effects[8];
} measured;

static void collect(void *user, const ace_quantization_effect *effect)
{
    measured *m = user;
    assert_true(m->count < 8);
    m->effects[m->count++] = *effect;
}

static void measured_on(const char *precision, const char *const *forms, int count)
{
    ace_error error = {0};
    measured m = {0}, streamed = {0};
    ace_engine *engine = open_quantized("xl-turbo-blocks", precision, "none", false);
    if (!ace_measure_quantization(engine, 2, collect, &m, &error)) fail_msg("%s", error.message);
    assert_int_equal(m.count, count);
    for (int i = 0; i < count; i++) {
        const ace_quantization_effect *e = &m.effects[i];
        assert_string_equal(e->quantization, forms[i]);
        assert_string_equal(e->precision, i ? precision : "f32");
        for (int s = 0; s < ACE_QUANTIZATION_STEPS; s++) {
            double least = strcmp(e->quantization, "int4") == 0 ? 0.99 : 0.999;
            assert_true(e->cosine[s] >= least && e->cosine[s] <= 1 + 1e-12);
            if (e->quantization[0] == 'i') assert_true(e->cosine[s] < 1 - 1e-6);
        }
        assert_true(e->song_cosine > 0.99 && e->song_cosine <= 1 + 1e-12);
        assert_true(e->peak_bytes > e->weight_bytes);
    }
    /* layers that come and go make no difference */
    engine->limit = m.effects[1].peak_bytes - 1;
    if (!ace_measure_quantization(engine, 2, collect, &streamed, &error)) fail_msg("%s", error.message);
    for (int i = 0; i < count; i++) {
        assert_memory_equal(streamed.effects[i].cosine, m.effects[i].cosine, sizeof m.effects[i].cosine);
        assert_int_equal(streamed.effects[i].weight_bytes, m.effects[i].weight_bytes);
    }
    ace_engine_close(engine);
}

static void the_measurement_covers_every_form(void **state)
{
    (void)state;
    measured_on("f32", (const char *[]){"none", "keep", "int8", "int4"}, 4);
    measured_on("bf16", (const char *[]){"none", "none", "keep", "int8", "int4"}, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_form_is_another_song_that_needs_less),
        cmocka_unit_test(kept_blocks_make_the_song_of_their_values),
        cmocka_unit_test(planners_write_in_every_form),
        cmocka_unit_test(nothing_to_keep_is_told),
        cmocka_unit_test(an_unknown_form_is_refused),
        cmocka_unit_test(a_refusal_advises_the_finest_form_that_fits),
        cmocka_unit_test(a_refused_planner_is_advised_too),
        cmocka_unit_test(a_song_says_how_its_model_was_stored),
        cmocka_unit_test(the_measurement_covers_every_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
