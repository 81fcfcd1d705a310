/* Rows of half for GPUs before capability 8.0, against the definition in double precision: every bfloat16 with every
 * exponent, and what exponents leave of rows, of 4 bits and of blocks. */
#include "block_test.h"
#include "device/cuda/half.h"

/* To nearest even, as IEEE 754 says: 11 significant bits, in units of 2^-24 at least. */
static double rounded(double v)
{
    int e = v == 0 || ilogb(v) < -14 ? -14 : ilogb(v);
    double r = ldexp(nearbyint(ldexp(v, 10 - e)), e - 10);
    return fabs(r) >= 65536 ? copysign(INFINITY, v) : r;
}

static void every_value(void **state)
{
    uint16_t all[1 << 16], half[1 << 16];
    (void)state;
    for (int i = 0; i < 1 << 16; i++) all[i] = (uint16_t)i;
    for (int exponent = -113; exponent <= 126; exponent += exponent < 120 ? 7 : 1) {
        half_row(half, all, 1 << 16, exponent);
        for (int i = 0; i < 1 << 16; i++) {
            float value = ace_bf16_to_f32(all[i]), got = ace_f16_to_f32(half[i]);
            double scaled = ldexp(value, exponent);
            if (isfinite(value) && fabs(scaled) >= 65536) continue; /* which its row's exponent excludes */
            if (isnan(value) ? !isnan(got) : got != rounded(scaled) || signbit(got) != signbit(value))
                fail_msg("%g times 2^%d is %g", (double)value, exponent, (double)got);
        }
    }
}

/* The greatest comes to lie in [2^15, 2^16), or the exponent is the largest that there is. */
static void check_exponent(double greatest, int32_t exponent, double slack)
{
    double scaled = ldexp(greatest, exponent);
    if (exponent < -113 || exponent > 126 || scaled >= 65536 || (exponent < 126 && scaled * slack < 32768))
        fail_msg("%g has exponent %d", greatest, (int)exponent);
}

static void rows_of_bf16(void **state)
{
    uint16_t row[77];
    (void)state;
    for (int i = 0; i < 0x7f80; i++) {
        for (int k = 0; k < 77; k++) row[k] = (uint16_t)(k * i / 77 | (k & 1 ? 0x8000 : 0));
        row[i % 77] = (uint16_t)(i | (i & 1 ? 0x8000 : 0));
        check_exponent(ace_bf16_to_f32((uint16_t)i), half_exponent(row, 77), 1);
    }
    row[5] = 0xff80;
    assert_int_equal(half_exponent(row, 77), -113);
    row[5] = 0x7fc0;
    assert_int_equal(half_exponent(row, 77), -113);
}

static void rows_of_int4(void **state)
{
    (void)state;
    for (int exponent = -130; exponent <= 120; exponent++) {
        uint16_t scales[3] = {0, ace_f32_to_bf16(ldexpf(-1.5f, exponent)), ace_f32_to_bf16(ldexpf(1.25f, exponent))};
        check_exponent(ldexp(12, exponent), half_exponent_of_int4(scales, 3), 1);
    }
}

/* Values as they are multiplied, after their rounding to bfloat16. Those of a block need not reach the greatest. */
static void rows_of_blocks(void **state)
{
    static const ace_dtype types[] = {ACE_Q8_0, ACE_Q4_K, ACE_Q5_K, ACE_Q6_K};
    enum { BLOCKS = 3 };
    random_state r = {11};
    uint8_t row[BLOCKS * 256];
    (void)state;
    for (int round = 0; round < 4000; round++) {
        ace_dtype type = types[round % 4];
        int values = ace_dtype_block(type);
        double greatest = 0;
        random_blocks(&r, type, row, BLOCKS);
        for (int i = 0; i < BLOCKS * values; i++) {
            float v = block_value(type, row + (size_t)(i / values) * ace_dtype_block_bytes(type), i % values);
            greatest = fmax(greatest, fabs((double)ace_bf16_to_f32(ace_f32_to_bf16(v))));
        }
        check_exponent(greatest, half_exponent_of_blocks(type, row, BLOCKS), 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_value), cmocka_unit_test(rows_of_bf16),
                                       cmocka_unit_test(rows_of_int4), cmocka_unit_test(rows_of_blocks)};
    return cmocka_run_group_tests_name("device/half", tests, NULL, NULL);
}
