/* What the meter counts without looking at every element, against counting every element. */
#include "device/device.h"
#include "device_test.h"

static double brute(const ace_attention_shape *s, int64_t queries, int64_t keys)
{
    double pairs = 0;
    for (int64_t i = 0; i < queries; i++)
        for (int64_t j = 0; j < keys; j++) {
            bool seen = s->mask == ACE_MASK_FULL || (s->mask == ACE_MASK_BAND && llabs(i - j) <= s->radius) ||
                        (s->mask == ACE_MASK_CAUSAL && j <= i + keys - queries);
            pairs += seen;
        }
    return 4.0 * s->heads * s->head_dim * pairs;
}

static void pairs_of_an_attention_are_counted_exactly(void **state)
{
    (void)state;
    ace_error error = {0};
    ace_device *cpu = ace_cpu_open(&(ace_cpu_options){.precision = ACE_F32, .threads = 1}, &error);
    ace_device *meter = cpu ? ace_meter_open(cpu, &error) : NULL;
    if (!meter) fail_msg("%s", error.message);
    static const int64_t lengths[] = {1, 2, 3, 7, 64, 129, 200}, radii[] = {0, 1, 5, 63, 128, 199, 200, 1000};
    enum { LENGTHS = sizeof lengths / sizeof *lengths, RADII = sizeof radii / sizeof *radii, WIDTH = 32 };
    for (int q = 0; q < LENGTHS; q++)
        for (int k = 0; k < LENGTHS; k++)
            for (int mask = ACE_MASK_FULL; mask <= ACE_MASK_CAUSAL; mask++)
                for (int r = 0; r < (mask == ACE_MASK_BAND ? RADII : 1); r++) {
                    ace_attention_shape shape = {.heads = 2,
                                                 .kv_heads = 1,
                                                 .head_dim = WIDTH,
                                                 .scale = 1,
                                                 .mask = (ace_attention_mask)mask,
                                                 .radius = radii[r]};
                    if (mask == ACE_MASK_CAUSAL && lengths[k] < lengths[q]) continue;
                    ace_mark mark = ace_scratch_mark(meter);
                    ace_mat o = ace_scratch(meter, ACE_F32, lengths[q], 2 * WIDTH),
                            query = ace_scratch(meter, ACE_F32, lengths[q], 2 * WIDTH),
                            keys = ace_scratch(meter, ACE_F32, lengths[k], WIDTH);
                    double before = ace_device_get_stats(meter).flops;
                    ace_attention(meter, o, query, keys, keys, &shape);
                    if (!ace_device_ok(meter, &error)) fail_msg("%s", error.message);
                    double counted = ace_device_get_stats(meter).flops - before;
                    if (counted != brute(&shape, lengths[q], lengths[k]))
                        fail_msg("mask %d, radius %lld, %lld queries, %lld keys: %.0f", mask, (long long)radii[r],
                                 (long long)lengths[q], (long long)lengths[k], counted);
                    ace_scratch_release(meter, mark);
                }
    ace_device_close(meter);
    ace_device_close(cpu);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(pairs_of_an_attention_are_counted_exactly)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
