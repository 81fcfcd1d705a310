/* Loading: weight norm on the right axis and in every spelling, and a named error for whatever is wrong. */
#include "model/vae_fixture.h"

/* Loads one direction of a golden in which `name` finds `replacement`; the error it ends with. */
static ace_error load_changed(const golden *g, bool decodes, const char *name, const ace_tensor *replacement,
                              bool on_meter)
{
    ace_error error = {0};
    ace_part part = open_golden(g);
    part.changed = name;
    part.replacement = replacement;
    ace_device *cpu = open_dev(ACE_F32, 1), *meter = open_meter(cpu), *dev = on_meter ? meter : cpu;
    if (decodes)
        vae_decoder_free(vae_decoder_load(dev, &part, &g->config, &error));
    else
        vae_encoder_free(vae_encoder_load(dev, &part, &g->config, &error));
    assert_int_equal(ace_device_ok(dev, NULL), error.status == ACE_OK);
    assert_int_equal(ace_device_get_stats(dev).weight_bytes, 0);
    ace_device_close(meter);
    ace_device_close(cpu);
    close_golden(&part);
    return error;
}

static bool is_golden(const char *name)
{
    return strncmp(name, "decode.", 7) == 0 || strncmp(name, "encode.", 7) == 0;
}

/* "decoder.block.0.conv_t1" of "decoder.block.0.conv_t1.parametrizations.weight.original0": what an error must name. */
static size_t module_length(const char *name)
{
    const char *end = strstr(name, ".parametrizations");
    return end ? (size_t)(end - name) : (size_t)(strrchr(name, '.') - name);
}

static void assert_names(const ace_error *error, ace_status status, const char *tensor)
{
    char module[128];
    snprintf(module, sizeof module, "%.*s", (int)module_length(tensor), tensor);
    if (error->status != status || !strstr(error->message, module))
        fail_msg("%s: status %d, \"%s\"", tensor, (int)error->status, error->message);
}

/* Runs `check` for every weight of every golden. */
static void for_every_tensor(void (*check)(const golden *g, bool decodes, const ace_tensor *tensor))
{
    for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++) {
        ace_part part = open_golden(&goldens[i]);
        for (size_t t = 0; t < tensors_count(part.tensors); t++) {
            const ace_tensor *tensor = tensors_at(part.tensors, t);
            if (!is_golden(tensor->name)) check(&goldens[i], strncmp(tensor->name, "decoder", 7) == 0, tensor);
        }
        close_golden(&part);
    }
}

static void check_missing(const golden *g, bool decodes, const ace_tensor *tensor)
{
    for (int on_meter = 0; on_meter < 2; on_meter++) {
        ace_error error = load_changed(g, decodes, tensor->name, NULL, on_meter);
        assert_names(&error, ACE_ERROR_MODEL, tensor->name);
    }
}

static void a_missing_tensor_is_named(void **state)
{
    (void)state;
    for_every_tensor(check_missing);
}

/* Another shape: one element less in the last dimension that has more than one, and, for kernels, two axes swapped. */
static void check_misshapen(const golden *g, bool decodes, const ace_tensor *tensor)
{
    ace_tensor wrong = *tensor;
    int d = wrong.rank - 1;
    while (d > 0 && wrong.shape[d] == 1) d--;
    wrong.count = wrong.count / wrong.shape[d] * (wrong.shape[d] - 1);
    wrong.shape[d]--;
    ace_error error = load_changed(g, decodes, tensor->name, &wrong, true);
    assert_names(&error, ACE_ERROR_MODEL, tensor->name);
    if (tensor->rank != 3 || tensor->shape[1] == tensor->shape[2] || tensor->shape[0] == 1 || tensor->shape[2] == 1)
        return;
    wrong = *tensor;
    wrong.shape[1] = tensor->shape[2];
    wrong.shape[2] = tensor->shape[1];
    error = load_changed(g, decodes, tensor->name, &wrong, true);
    assert_names(&error, ACE_ERROR_MODEL, tensor->name);
}

static void a_misshapen_tensor_is_named(void **state)
{
    (void)state;
    for_every_tensor(check_misshapen);
}

/* A float32 copy of a tensor with one element changed. `values` is to be freed. */
static ace_tensor altered(const ace_tensor *tensor, int64_t first, int64_t count, float value, float **values)
{
    ace_error error = {0};
    *values = malloc((size_t)tensor->count * sizeof **values);
    assert_non_null(*values);
    assert_true(tensor_read(tensor, 0, tensor->count, *values, &error));
    for (int64_t i = 0; i < count; i++) (*values)[first + i] = value;
    ace_tensor copy = *tensor;
    copy.dtype = ACE_F32;
    copy.data = (const uint8_t *)*values;
    copy.bytes = (size_t)tensor->count * sizeof **values;
    return copy;
}

static void check_nan(const golden *g, bool decodes, const ace_tensor *tensor)
{
    float *values;
    ace_tensor bad = altered(tensor, tensor->count - 1, 1, NAN, &values);
    ace_error error = load_changed(g, decodes, tensor->name, &bad, false);
    assert_names(&error, ACE_ERROR_FORMAT, tensor->name);
    free(values);
}

static void a_value_that_is_not_finite_is_named(void **state)
{
    (void)state;
    for_every_tensor(check_nan);
}

/* A slice of v that is zero has no direction; an exponential may overflow though its argument is finite. */
static void check_degenerate(const golden *g, bool decodes, const ace_tensor *tensor)
{
    size_t length = strlen(tensor->name);
    bool snake = strstr(tensor->name, ".snake") && strcmp(tensor->name + length - 5, "alpha") == 0;
    bool v = strcmp(tensor->name + length - 8, "weight_v") == 0 || strcmp(tensor->name + length - 9, "original1") == 0;
    if (!snake && !v) return;
    float *values;
    int64_t slice = v ? tensor->count / tensor->shape[0] : 1;
    ace_tensor bad = altered(tensor, tensor->count - slice, slice, v ? 0 : 89, &values);
    ace_error error = load_changed(g, decodes, tensor->name, &bad, false);
    assert_names(&error, ACE_ERROR_MODEL, tensor->name);
    free(values);
}

static void a_degenerate_value_is_named(void **state)
{
    (void)state;
    for_every_tensor(check_degenerate);
}

/* ---- weight norm --------------------------------------------------------------------------------------------- */

/* Doubling the gains of all slices doubles the weight; scaling v does not change it. Checked through the sound: g of
 * the last convolution scales the output, its v does not. */
static void the_norm_does_not_depend_on_the_length_of_v(void **state)
{
    (void)state;
    const golden *g = &goldens[1];
    static const char *const names[] = {"decoder.conv2.parametrizations.weight.original0",
                                        "decoder.conv2.parametrizations.weight.original1",
                                        "decoder.block.1.conv_t1.parametrizations.weight.original1"};
    ace_part part = open_golden(g);
    codec c = open_codec(g, &part, true, ACE_F32, 1);
    float *input = noise(11, 9 * input_cols(&c)), *expected = run_codec(&c, input, 9, 9);
    for (int i = 0; i < 3; i++) {
        float *values, factor = i == 0 ? 4.0f : 0x1p60f; /* exact; the square of v needs float64 */
        ace_tensor scaled = altered(tensors_find(part.tensors, names[i]), 0, 0, 0, &values);
        for (int64_t k = 0; k < scaled.count; k++) values[k] *= factor;
        ace_part changed = part;
        changed.changed = names[i];
        changed.replacement = &scaled;
        codec other = open_codec(g, &changed, true, ACE_F32, 1);
        float *output = run_codec(&other, input, 9, 9);
        for (int64_t k = 0; k < output_rows(&c, 9); k++) assert_true(output[k] == expected[k] * (i == 0 ? 4.0f : 1.0f));
        free(output);
        free(values);
        close_codec(&other);
    }
    free(expected);
    free(input);
    close_codec(&c);
    close_golden(&part);
}

/* ---- config and memory --------------------------------------------------------------------------------------- */

static void an_impossible_config_is_refused(void **state)
{
    (void)state;
    ace_part part = open_golden(&goldens[0]);
    ace_device *dev = open_dev(ACE_F32, 1);
    const vae_config good = goldens[0].config;
    vae_config bad[12];
    for (int i = 0; i < 12; i++) bad[i] = good;
    bad[0].blocks = 0;
    bad[1].blocks = CONFIG_MAX_VAE_BLOCKS + 1;
    bad[2].strides[1] = 3;
    bad[3].strides[1] = 0;
    bad[4].strides[1] = -2;
    bad[5].strides[1] = 1 << 30;
    bad[6].multiples[4] = 0;
    bad[7].multiples[4] = 1 << 30;
    bad[8].hidden = 0;
    bad[9].latent_channels = -64;
    bad[10].audio_channels = 1 << 30;
    for (int i = 0; i < 5; i++) bad[11].strides[i] = 1024;
    for (int i = 0; i < 12; i++) {
        ace_error error = {0};
        assert_null(vae_decoder_load(dev, &part, &bad[i], &error));
        assert_int_equal(error.status, ACE_ERROR_MODEL);
        error = (ace_error){0};
        assert_null(vae_encoder_load(dev, &part, &bad[i], &error));
        assert_int_equal(error.status, ACE_ERROR_MODEL);
        assert_true(ace_device_ok(dev, NULL));
    }
    ace_device_close(dev);
    close_golden(&part);
}

/* Refuses each allocation in turn: an error every time, and nothing is lost. */
static void refused_memory_is_an_error(void **state)
{
    (void)state;
    for (int decodes = 0; decodes < 2; decodes++) {
        ace_part part = open_golden(&goldens[2]);
        ace_device *dev = open_dev(ACE_F32, 1);
        bool loaded = false;
        long n = 1;
        for (; !loaded && n < 10000; n++) {
            ace_error error = {0};
            vae_decoder *decoder = NULL;
            vae_encoder *encoder = NULL;
            ace_fault_arm(n);
            if (decodes)
                decoder = vae_decoder_load(dev, &part, &goldens[2].config, &error);
            else
                encoder = vae_encoder_load(dev, &part, &goldens[2].config, &error);
            ace_fault_arm(0);
            loaded = decoder || encoder;
            assert_int_equal(error.status, loaded ? ACE_OK : ACE_ERROR_MEMORY);
            vae_decoder_free(decoder);
            vae_encoder_free(encoder);
            assert_int_equal(ace_device_get_stats(dev).weight_bytes, 0);
            ace_device_clear(dev);
        }
        assert_true(loaded && n > 20);
        ace_device_close(dev);
        close_golden(&part);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_tensor_is_named),
        cmocka_unit_test(a_misshapen_tensor_is_named),
        cmocka_unit_test(a_value_that_is_not_finite_is_named),
        cmocka_unit_test(a_degenerate_value_is_named),
        cmocka_unit_test(the_norm_does_not_depend_on_the_length_of_v),
        cmocka_unit_test(an_impossible_config_is_refused),
        cmocka_unit_test(refused_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
