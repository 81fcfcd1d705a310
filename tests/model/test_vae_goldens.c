/* Both directions against diffusers' AutoencoderOobleck. */
#include "model/vae_fixture.h"

typedef struct agreement {
    double error; /* max |a - b| / max |b| */
    double cosine;
} agreement;

/* Rows 0, step, 2 step, ... of `rows` against the golden tensor. */
static agreement compare(const float *rows, int64_t count, int64_t cols, int64_t step, const ace_tensor *golden_rows)
{
    ace_error error = {0};
    int64_t kept = (count + step - 1) / step;
    assert_int_equal(golden_rows->count, kept * cols);
    float *expected = malloc((size_t)golden_rows->count * sizeof *expected);
    assert_non_null(expected);
    if (!tensor_read(golden_rows, 0, golden_rows->count, expected, &error)) fail_msg("%s", error.message);
    double worst = 0, largest = 0, ab = 0, aa = 0, bb = 0;
    for (int64_t i = 0; i < kept; i++)
        for (int64_t c = 0; c < cols; c++) {
            double a = rows[i * step * cols + c], b = expected[i * cols + c];
            worst = fmax(worst, fabs(a - b));
            largest = fmax(largest, fabs(b));
            ab += a * b;
            aa += a * a;
            bb += b * b;
        }
    free(expected);
    assert_true(largest > 0.01);
    return (agreement){worst / largest, ab / sqrt(aa * bb)};
}

/* Every golden of one direction whose name is "<prefix><length>". */
static void check_direction(const golden *g, bool decodes, ace_dtype precision)
{
    const char *prefix = decodes ? "decode." : "encode.";
    ace_part part = open_golden(g);
    codec c = open_codec(g, &part, decodes, precision, 1);
    int found = 0;
    double worst_error = 0, worst_cosine = 1;
    for (size_t i = 0; i < tensors_count(part.tensors); i++) {
        const ace_tensor *expected = tensors_at(part.tensors, i);
        if (strncmp(expected->name, prefix, strlen(prefix)) != 0) continue;
        int64_t length = atoll(expected->name + strlen(prefix));
        float *input = noise(decodes ? DECODE_SEED : ENCODE_SEED, length * input_cols(&c));
        float *output = run_codec(&c, input, length, 16);
        agreement a = compare(output, output_rows(&c, length), output_cols(&c), decodes ? DECIMATION : 1, expected);
        worst_error = fmax(worst_error, a.error);
        worst_cosine = fmin(worst_cosine, a.cosine);
        if (precision == ACE_F32 ? a.error > 1e-5 : a.cosine < 0.9995)
            fail_msg("%s, %s: relative error %.2g, cosine %.6f", g->name, expected->name, a.error, a.cosine);
        free(output);
        free(input);
        found++;
    }
    assert_true(found >= 6);
    print_message("%s %s*: %d goldens, relative error %.2g, cosine 1 - %.2g\n", g->name, prefix, found, worst_error,
                  1 - worst_cosine);
    close_codec(&c);
    close_golden(&part);
}

static void decoder_is_the_reference_in_f32(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++) check_direction(&goldens[i], true, ACE_F32);
}

static void encoder_is_the_reference_in_f32(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++) check_direction(&goldens[i], false, ACE_F32);
}

static void decoder_is_near_the_reference_in_bf16(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++) check_direction(&goldens[i], true, ACE_BF16);
}

static void encoder_is_near_the_reference_in_bf16(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++) check_direction(&goldens[i], false, ACE_BF16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoder_is_the_reference_in_f32),
        cmocka_unit_test(encoder_is_the_reference_in_f32),
        cmocka_unit_test(decoder_is_near_the_reference_in_bf16),
        cmocka_unit_test(encoder_is_near_the_reference_in_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
