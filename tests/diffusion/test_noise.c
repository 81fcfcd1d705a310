/* The generators against their known answers, torch and an independent float64 implementation. */
#include "base/philox.h"
#include "diffusion/mt19937.h"
#include "diffusion/noise.h"
#include "goldens.h"

static void words_of(const json_t *object, const char *key, uint32_t *words)
{
    json_t *array = json_object_get(object, key);
    for (size_t i = 0; i < json_array_size(array); i++)
        words[i] = (uint32_t)json_integer_value(json_array_get(array, i));
}

static void philox_known_answers(void **state)
{
    size_t i;
    json_t *c, *all = json_object_get(golden_part(state, "noise"), "philox");
    assert_int_equal(json_array_size(all), 3);
    json_array_foreach(all, i, c)
    {
        uint32_t counter[4], key[2], expected[4], random[4];
        words_of(c, "counter", counter);
        words_of(c, "key", key);
        words_of(c, "random", expected);
        philox4x32_10(counter, key, random);
        assert_memory_equal(random, expected, sizeof random);
    }
}

/* The C++ standard states the 10000th output for the default seed 5489. */
static void mt19937_known_answer(void **state)
{
    (void)state;
    mt19937 mt;
    mt19937_seed(&mt, 5489);
    uint32_t word = 0;
    for (int i = 0; i < 10000; i++) word = mt19937_next(&mt);
    assert_int_equal(word, 4123659995u);
}

static uint64_t fnv1a(uint64_t hash, const uint32_t *words, size_t count)
{
    for (size_t i = 0; i < count; i++) hash = (hash ^ words[i]) * 0x100000001B3u;
    return hash;
}

/* Every length from 1 to 20000 frames: a hash over the hashes of the lengths, as torch's bits give it. */
static void torch_cpu_every_length(void **state)
{
    json_t *noise = golden_part(state, "noise"), *c;
    const size_t frames = (size_t)json_whole(noise, "torch_cpu_frames");
    assert_int_equal(frames, 20000);
    float *values = malloc(frames * 64 * sizeof *values);
    uint32_t *bits = malloc(frames * 64 * sizeof *bits);
    size_t i;
    json_array_foreach(json_object_get(noise, "torch_cpu"), i, c)
    {
        noise_torch_cpu(json_u64(c, "seed"), values, frames * 64);
        memcpy(bits, values, frames * 64 * sizeof *bits);
        uint64_t running = 0xCBF29CE484222325u, rolled = running;
        for (size_t f = 0; f < frames; f++) {
            running = fnv1a(running, bits + f * 64, 64);
            rolled = fnv1a(rolled, (uint32_t[]){(uint32_t)running, (uint32_t)(running >> 32)}, 2);
        }
        char hex[17];
        snprintf(hex, sizeof hex, "%016llx", (unsigned long long)rolled);
        assert_string_equal(hex, json_text(c, "hash"));
        for (size_t k = 0; k < 4; k++)
            assert_true(values[k] == (float)json_number_value(json_array_get(json_object_get(c, "first"), k)));
    }
    assert_int_equal(i, 8);
    free(values);
    free(bits);
}

/* A shorter noise is the beginning of a longer one, so that the hash above speaks for every length. */
static void a_length_is_a_beginning(void **state)
{
    (void)state;
    enum { FRAMES = 700 };
    static float whole[FRAMES * 64], part[FRAMES * 64];
    for (int kind = NOISE_TORCH_CUDA; kind <= NOISE_ACE; kind++) {
        noise_fill((noise_kind)kind, 99, 0, whole, FRAMES * 64);
        for (size_t frames = 1; frames <= FRAMES; frames += 1 + frames / 8) {
            part[frames * 64] = 123;
            noise_fill((noise_kind)kind, 99, 0, part, frames * 64);
            assert_memory_equal(part, whole, frames * 64 * sizeof *part);
            if (frames < FRAMES) assert_true(part[frames * 64] == 123);
        }
    }
}

static void published_cuda_values(void **state)
{
    size_t i, k;
    json_t *c, *v;
    json_array_foreach(json_object_get(golden_part(state, "noise"), "published_cuda"), i, c)
    {
        float values[10];
        noise_torch_cuda((uint64_t)json_whole(c, "seed"), 0, values, 10);
        json_array_foreach(json_object_get(c, "values"), k, v)
            assert_true(fabs(values[k] - json_number_value(v)) < 6e-5);
        assert_int_equal(k, 10);
    }
    assert_int_equal(i, 2);
}

/* Both mappings, against float64: the values are float32 roundings of it, one unit apart at most. */
static void cuda_mappings(void **state)
{
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(golden_part(state, "noise"), "cuda"), i, c)
    {
        size_t count;
        float *expected = golden_tensor(state, &count, "%s", json_text(c, "tensor"));
        float *values = malloc(count * sizeof *values);
        noise_torch_cuda(json_u64(c, "seed"), (uint64_t)json_whole(c, "threads"), values, count);
        for (size_t k = 0; k < count; k++) assert_true(fabsf(values[k] - expected[k]) <= fabsf(expected[k]) * 1.2e-7f);
        free(expected);
        free(values);
    }
    assert_int_equal(i, 6);
}

static void our_own(void **state)
{
    size_t i;
    json_t *c;
    json_array_foreach(json_object_get(golden_part(state, "noise"), "ace"), i, c)
    {
        size_t count;
        float *expected = golden_tensor(state, &count, "%s", json_text(c, "tensor"));
        float *values = malloc(count * sizeof *values);
        noise_ace(json_u64(c, "seed"), json_u64(c, "stream"), values, count);
        for (size_t k = 0; k < count; k++) assert_true(fabsf(values[k] - expected[k]) <= fabsf(expected[k]) * 1.2e-7f);
        free(expected);
        free(values);
    }
    assert_int_equal(i, 3);
}

static void names(void **state)
{
    (void)state;
    for (int kind = NOISE_TORCH_CUDA; kind <= NOISE_ACE; kind++) {
        noise_kind back;
        assert_true(noise_kind_from_name(noise_kind_name((noise_kind)kind), &back));
        assert_int_equal(back, kind);
    }
    noise_kind untouched = NOISE_ACE;
    assert_false(noise_kind_from_name("cuda ", &untouched));
    assert_int_equal(untouched, NOISE_ACE);
    assert_null(noise_kind_name((noise_kind)3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_known_answers),
        cmocka_unit_test(mt19937_known_answer),
        cmocka_unit_test(torch_cpu_every_length),
        cmocka_unit_test(a_length_is_a_beginning),
        cmocka_unit_test(published_cuda_values),
        cmocka_unit_test(cuda_mappings),
        cmocka_unit_test(our_own),
        cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, goldens_open, goldens_close);
}
