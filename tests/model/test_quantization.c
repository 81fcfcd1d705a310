/* A diffusion transformer whose layers are quantised, against the official one in float32; which weights that concerns;
 * and that it is the same however the layers are stored. */
#include "model/model_fixture.h"

#include "model/dit.h"

enum { ENC_ROWS = 63, FRAMES = 37, TIMESTEPS = 3 };

static const float timesteps[TIMESTEPS] = {1.0f, 5.0f / 7.0f, 0.3f};

typedef struct form_run {
    bench bench;
    dit models[2]; /* on the device, on the meter */
    int64_t encoder_hidden, latent, given, step;
    float *velocity; /* [FRAMES][latent] */
} form_run;

static void load(form_run *run, const layer_storage *storage)
{
    const ace_part *part = run->bench.checkpoint->parts[ACE_PART_DIT];
    dit_load(&run->models[0], run->bench.dev, part, &run->bench.checkpoint->dit, storage);
    dit_load(&run->models[1], run->bench.meter, part, &run->bench.checkpoint->dit, storage);
    assert_device_ok(run->bench.dev);
    assert_device_ok(run->bench.meter);
    assert_int_equal(ace_device_get_stats(run->bench.dev).weight_bytes,
                     ace_device_get_stats(run->bench.meter).weight_bytes);
}

static form_run open_run(const char *variant, ace_dtype precision, int threads, const layer_storage *storage)
{
    form_run run = {.bench = open_bench(variant, precision, threads)};
    const dit_config *config = &run.bench.checkpoint->dit;
    load(&run, storage);
    run.encoder_hidden = config->encoder.hidden;
    run.latent = config->latent_channels;
    run.given = config->in_channels - config->latent_channels;
    run.velocity = new_floats(FRAMES * run.latent);
    return run;
}

static void close_run(form_run *run)
{
    free(run->velocity);
    dit_free(&run->models[0]);
    dit_free(&run->models[1]);
    close_bench(&run->bench);
}

static void forward(void *context, ace_device *dev, int which)
{
    form_run *run = context;
    const dit *model = &run->models[which];
    ace_mark mark = ace_scratch_mark(dev);
    float *given = noise(CONTEXT_SEED, FRAMES * run->given), *x = noise(X_SEED, FRAMES * run->latent);
    float *rows = noise(ENC_SEED, ENC_ROWS * run->encoder_hidden);
    dit_schedule schedule = dit_schedule_new(model, which ? NULL : timesteps, TIMESTEPS);
    dit_condition condition = dit_condition_new(model, uploaded(dev, rows, ENC_ROWS, run->encoder_hidden));
    dit_context shared = dit_context_new(model, which ? NULL : given, FRAMES);
    dit_item item = {&shared, &condition, which ? NULL : x, which ? NULL : run->velocity};
    dit_velocity(model, &schedule, run->step, &item, 1, NULL);
    free(rows);
    free(x);
    free(given);
    ace_scratch_release(dev, mark);
}

/* ---- against the reference --------------------------------------------------------------------------------------- */

/* The least cosine of a velocity. In theory: rounding to steps of s is an error of deviation s / sqrt(12), where a step
 * of INT8 is max / 127 of a row, of weights and of x, and of INT4 max / 7 of 32 weights. Of bell-shaped numbers max is
 * about sqrt(2 ln 32) = 2.6 deviations among 32 and 3.5 at most here, and of x, whose tails are heavier behind the
 * MLP's gate, up to 10 or so. So a product is wrong by a part e of itself, e^2 = (3.5^2 + 5^2) / 127^2 / 12 = 2e-4 or
 * 2.6^2 / 7^2 / 12 = 0.012. A layer adds three branches of two products or more, each branch here a quarter of what it
 * is added to in power, and the error of the sum is that of its parts: cosine 1 - e^2 / 2 * 2 * 3/4, or 1 - 1.5e-4 and
 * 1 - 9e-3. */
static double least_cosine(ace_weight_form form)
{
    return form == ACE_FORM_INT8 ? 0.999 : 0.99;
}

static double cosine(const float *a, const float *b, int64_t count)
{
    double ab = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < count; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return ab / sqrt(aa * bb);
}

static void velocities_are_as_near_as_they_must_be(void **state)
{
    (void)state;
    static const ace_weight_form forms[] = {ACE_FORM_INT8, ACE_FORM_INT4};
    for (int v = 0; v < VARIANTS; v++)
        for (int f = 0; f < 2; f++)
            for (int p = 0; p < 2; p++) {
                layer_storage storage = {.form = forms[f]};
                form_run run = open_run(variants[v], p ? ACE_BF16 : ACE_F32, 1, &storage);
                int64_t count = FRAMES * run.latent;
                double least = least_cosine(forms[f]);
                float *expected = golden(&run.bench, "dit.short", TIMESTEPS * count);
                for (run.step = 0; run.step < TIMESTEPS; run.step++) {
                    run_planned(&run.bench, forward, &run);
                    double c = cosine(run.velocity, expected + run.step * count, count);
                    print_message("%-9s %-5s %s: cosine 1 - %.1e, at most 1 - %.0e\n", variants[v], p ? "bf16" : "f32",
                                  forms[f] == ACE_FORM_INT8 ? "int8" : "int4", 1 - c, 1 - least);
                    if (!(c >= least)) fail_msg("%s: too far from the reference", variants[v]);
                    /* and it is quantised: nothing in float32 is that far away */
                    if (!(c < 1 - 1e-6)) fail_msg("%s: as near as weights that are not quantised", variants[v]);
                }
                free(expected);
                close_run(&run);
            }
}

/* ---- which weights, and what they take --------------------------------------------------------------------------- */

/* Bytes of a Linear's weight on the device. */
static size_t bytes_of(const bench *b, ace_weight_kind kind, int64_t n, int64_t k, ace_weight_form form)
{
    size_t before = ace_device_get_stats(b->meter).weight_bytes;
    ace_weight_desc desc = {.kind = kind, .name = "a Linear", .n = n, .k = k, .taps = 1, .form = form};
    ace_weight *w = ace_weight_new(b->meter, &desc, NULL, NULL);
    assert_device_ok(b->meter);
    size_t bytes = ace_device_get_stats(b->meter).weight_bytes - before;
    ace_weight_free(b->meter, w);
    return bytes;
}

/* What the seven weights of all layers take. INT4 needs groups of 32: with 80 channels some cannot have it. */
static size_t layers_bytes(const bench *b, ace_weight_form form)
{
    const transformer_config *s = &b->checkpoint->dit.dit;
    int64_t h = s->hidden, f = s->intermediate, q = transformer_q_width(s), kv = transformer_kv_width(s);
    const struct {
        ace_weight_kind kind;
        int64_t n, k;
    } linears[] = {{ACE_WEIGHT_PRODUCT, q + 2 * kv, h}, {ACE_WEIGHT_PRODUCT, h, q}, {ACE_WEIGHT_PRODUCT, q, h},
                   {ACE_WEIGHT_PRODUCT, 2 * kv, h},     {ACE_WEIGHT_PRODUCT, h, q}, {ACE_WEIGHT_GATED, 2 * f, h},
                   {ACE_WEIGHT_PRODUCT, h, f}};
    size_t bytes = 0;
    for (size_t i = 0; i < sizeof linears / sizeof *linears; i++) {
        bool plain = form == ACE_FORM_INT4 && linears[i].k % 32 != 0;
        bytes += bytes_of(b, linears[i].kind, linears[i].n, linears[i].k, plain ? ACE_FORM_PLAIN : form);
    }
    return bytes * (size_t)s->layers;
}

/* Exactly the attention and MLP Linears of the layers change, nothing else. */
static void only_the_layers_linears_are_quantised(void **state)
{
    (void)state;
    static const ace_weight_form forms[] = {ACE_FORM_INT8, ACE_FORM_INT4};
    for (int v = 0; v < VARIANTS; v++) {
        form_run plain = open_run(variants[v], ACE_BF16, 1, NULL);
        size_t whole = ace_device_get_stats(plain.bench.dev).weight_bytes;
        size_t rest = whole - layers_bytes(&plain.bench, ACE_FORM_PLAIN);
        close_run(&plain);
        for (int f = 0; f < 2; f++) {
            form_run run = open_run(variants[v], ACE_BF16, 1, &(layer_storage){.form = forms[f]});
            size_t bytes = ace_device_get_stats(run.bench.dev).weight_bytes;
            assert_int_equal(bytes, rest + layers_bytes(&run.bench, forms[f]));
            assert_true(bytes < whole);
            close_run(&run);
        }
    }
}

/* ---- the same bytes ---------------------------------------------------------------------------------------------- */

static void threads_and_streaming_do_not_change_a_byte(void **state)
{
    (void)state;
    static const ace_weight_form forms[] = {ACE_FORM_INT8, ACE_FORM_INT4};
    for (int f = 0; f < 2; f++)
        for (int p = 0; p < 2; p++) {
            ace_dtype precision = p ? ACE_BF16 : ACE_F32;
            form_run one = open_run("turbo", precision, 1, &(layer_storage){.form = forms[f]});
            form_run two = open_run("turbo", precision, 2, &(layer_storage){.form = forms[f], .streamed = true});
            run_planned(&one.bench, forward, &one);
            run_planned(&two.bench, forward, &two);
            assert_same_bytes(one.velocity, two.velocity, FRAMES * one.latent);
            assert_true(ace_device_get_stats(two.bench.dev).weight_bytes <
                        ace_device_get_stats(one.bench.dev).weight_bytes);
            close_run(&one);
            close_run(&two);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(velocities_are_as_near_as_they_must_be),
        cmocka_unit_test(only_the_layers_linears_are_quantised),
        cmocka_unit_test(threads_and_streaming_do_not_change_a_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
