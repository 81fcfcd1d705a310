/* Each format against files that its official writer made and values that the official reader computed
 * (tools/reference/make_format_goldens.py). */
#include "base/file.h"
#include "formats/tensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DATA(name) TEST_DATA "/formats/" name

static ace_tensors *open_good(const char *path)
{
    ace_error error = {0};
    ace_tensors *tensors = tensors_open(path, &error);
    if (!tensors) print_error("%s\n", error.message);
    assert_non_null(tensors);
    return tensors;
}

/* Every tensor that can be read, in the order of names, must give the bits of the .f32 file; in one piece and in
 * pieces; and as bfloat16 the nearest even of the same. */
static void check_values(const char *path, const char *golden)
{
    ace_error error = {0};
    size_t size = 0;
    char *raw = ace_read_file(golden, 1 << 20, &size, &error);
    assert_non_null(raw);
    ace_tensors *tensors = open_good(path);
    size_t at = 0;
    for (size_t i = 0; i < tensors_count(tensors); i++) {
        const ace_tensor *tensor = tensors_at(tensors, i);
        assert_ptr_equal(tensors_find(tensors, tensor->name), tensor);
        if (tensor->dtype == ACE_UNSUPPORTED) continue;
        size_t count = (size_t)tensor->count;
        float *values = calloc(count + 1, sizeof *values), *expected = calloc(count + 1, sizeof *expected);
        uint16_t *rounded = calloc(count + 1, sizeof *rounded);
        assert_true(at + 4 * count <= size);
        memcpy(expected, raw + at, 4 * count);
        at += 4 * count;
        if (!tensor_read(tensor, 0, tensor->count, values, &error)) fail_msg("%s", error.message);
        if (memcmp(values, expected, 4 * count) != 0) fail_msg("%s: wrong values", tensor->name);
        if (!tensor_read_bf16(tensor, 0, tensor->count, rounded, &error)) fail_msg("%s", error.message);
        for (size_t k = 0; k < count; k++) assert_int_equal(rounded[k], ace_f32_to_bf16(expected[k]));
        int64_t block = ace_dtype_block(tensor->dtype);
        memset(values, 0, 4 * count);
        for (int64_t first = tensor->count - block; first >= 0; first -= block)
            assert_true(tensor_read(tensor, first, block, values + first, &error));
        assert_memory_equal(values, expected, 4 * count);
        free(values);
        free(expected);
        free(rounded);
    }
    assert_int_equal(at, size);
    tensors_close(tensors);
    free(raw);
}

static void safetensors_gives_the_values_of_torch(void **state)
{
    (void)state;
    check_values(DATA("plain.safetensors"), DATA("plain.safetensors.f32"));
    ace_tensors *tensors = open_good(DATA("plain.safetensors"));
    assert_int_equal(tensors_count(tensors), 15);
    const ace_tensor *f32 = tensors_find(tensors, "f32"), *scalar = tensors_find(tensors, "scalar");
    assert_int_equal(f32->rank, 3);
    assert_int_equal(f32->shape[0], 3);
    assert_int_equal(f32->shape[1], 5);
    assert_int_equal(f32->shape[2], 2);
    assert_int_equal(scalar->rank, 0);
    assert_int_equal(scalar->count, 1);
    assert_int_equal(tensors_find(tensors, "empty")->count, 0);
    assert_int_equal(tensors_find(tensors, "名前")->count, 2);
    assert_null(tensors_find(tensors, "f3"));
    assert_null(tensors_at(tensors, 15));
    assert_string_equal(tensors_metadata(tensors, "title"), "plain – every type");
    assert_null(tensors_metadata(tensors, "titles"));
    tensors_close(tensors);
}

static void shards_are_one_set(void **state)
{
    (void)state;
    check_values(DATA("shards/model.safetensors.index.json"), DATA("shards.f32"));
    ace_tensors *tensors = open_good(DATA("shards/model.safetensors.index.json"));
    assert_int_equal(tensors_count(tensors), 4);
    assert_non_null(strstr(tensors_find(tensors, "norm.weight")->path, "model-00002-of-00002.safetensors"));
    assert_string_equal(tensors_metadata(tensors, "format"), "pt");
    tensors_close(tensors);
}

static void torch_zip_gives_its_storage(void **state)
{
    (void)state;
    check_values(DATA("latent.pt"), DATA("latent.pt.f32"));
    ace_tensors *tensors = open_good(DATA("latent.pt"));
    const ace_tensor *latent = tensors_find(tensors, "data");
    assert_int_equal(latent->rank, 3);
    assert_int_equal(latent->shape[0], 1);
    assert_int_equal(latent->shape[1], 64);
    assert_int_equal(latent->shape[2], 6);
    tensors_close(tensors);
    /* what is no float32 tensor, or not stored in the order of its elements */
    static const char *const refused[] = {DATA("two.pt"), DATA("half.pt"), DATA("view.pt"), DATA("slice.pt")};
    for (int i = 0; i < 4; i++) {
        ace_error error = {0};
        assert_null(tensors_open(refused[i], &error));
        assert_int_equal(error.status, ACE_ERROR_FORMAT);
    }
}

static void gguf_gives_the_values_of_its_reference(void **state)
{
    (void)state;
    check_values(DATA("types.gguf"), DATA("types.gguf.f32"));
    ace_tensors *tensors = open_good(DATA("types.gguf"));
    const ace_tensor *f32 = tensors_find(tensors, "f32"), *q6 = tensors_find(tensors, "q6_k");
    assert_int_equal(f32->rank, 3);
    assert_int_equal(f32->shape[0], 3);
    assert_int_equal(f32->shape[1], 2);
    assert_int_equal(f32->shape[2], 4);
    assert_int_equal(q6->shape[0], 3);
    assert_int_equal(q6->shape[1], 512);
    assert_int_equal(q6->dtype, ACE_Q6_K);
    tensors_close(tensors);
}

static void gguf_metadata_of_every_type(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        double value;
    } numbers[] = {{"u8", 250},          {"i8", -100},  {"u16", 65000},      {"i16", -30000}, {"u32", 4000000000},
                   {"i32", -2000000000}, {"f32", 0.1f}, {"yes", 1},          {"no", 0},       {"u64", 0x1p53},
                   {"i64", -0x1p53},     {"f64", 0.1},  {"general.none", 7}, {"text", 7},     {"levels", 7}};
    static const double levels[] = {8, 8, 8, 5, 5, 5};
    static const char *const tokens[] = {"a", "", "Ġthe", "语言"};
    ace_tensors *tensors = open_good(DATA("types.gguf"));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        double value = 7;
        assert_int_equal(tensors_metadata_number(tensors, numbers[i].key, &value), i < 12);
        assert_true(value == numbers[i].value);
    }
    assert_string_equal(tensors_metadata(tensors, "text"), "Grüße, 世界");
    assert_string_equal(tensors_metadata(tensors, "general.architecture"), "acestep-test");
    assert_null(tensors_metadata(tensors, "u8"));
    assert_int_equal(tensors_metadata_array_count(tensors, "levels"), 6);
    double value = 0;
    for (size_t i = 0; i < 6; i++) {
        assert_true(tensors_metadata_array_number(tensors, "levels", i, &value));
        assert_true(value == levels[i]);
    }
    assert_false(tensors_metadata_array_number(tensors, "levels", 6, &value));
    assert_true(tensors_metadata_array_number(tensors, "scores", 1, &value));
    assert_true(value == -0.25);
    assert_true(tensors_metadata_array_number(tensors, "flags", 0, &value));
    assert_true(value == 1);
    size_t length = 9;
    assert_int_equal(tensors_metadata_array_count(tensors, "tokens"), 4);
    for (size_t i = 0; i < 4; i++) {
        const char *token = tensors_metadata_array_string(tensors, "tokens", i, &length);
        assert_int_equal(length, strlen(tokens[i]));
        assert_memory_equal(token, tokens[i], length);
    }
    assert_null(tensors_metadata_array_string(tensors, "tokens", 4, &length));
    assert_null(tensors_metadata_array_string(tensors, "levels", 0, &length));
    assert_int_equal(tensors_metadata_array_count(tensors, "text"), 0);
    tensors_close(tensors);
}

static void types_without_arithmetic_are_named_when_read(void **state)
{
    (void)state;
    static const struct {
        const char *path, *tensor, *type;
    } cases[] = {{DATA("f8.safetensors"), "f8", "F8_E4M3"}, {DATA("types.gguf"), "q4_0", "Q4_0"}};
    for (size_t i = 0; i < 2; i++) {
        ace_error error = {0};
        float values[64];
        ace_tensors *tensors = open_good(cases[i].path);
        const ace_tensor *tensor = tensors_find(tensors, cases[i].tensor);
        assert_int_equal(tensor->dtype, ACE_UNSUPPORTED);
        assert_false(tensor_read(tensor, 0, tensor->count, values, &error));
        assert_int_equal(error.status, ACE_ERROR_MODEL);
        assert_non_null(strstr(error.message, cases[i].type));
        assert_non_null(strstr(error.message, cases[i].tensor));
        tensors_close(tensors);
    }
}

static void hash_tells_files_apart(void **state)
{
    (void)state;
    char a[33], b[33], c[33];
    ace_tensors *one = open_good(DATA("plain.safetensors")), *two = open_good(DATA("types.gguf"));
    assert_true(tensors_hash(one, a, NULL));
    assert_true(tensors_hash(two, b, NULL));
    tensors_close(one);
    one = open_good(DATA("plain.safetensors"));
    assert_true(tensors_hash(one, c, NULL));
    assert_int_equal(strlen(a), 32);
    assert_string_equal(a, c);
    assert_string_not_equal(a, b);
    tensors_close(one);
    tensors_close(two);
}

static void synthetic_values_depend_on_name_seed_and_index(void **state)
{
    (void)state;
    enum { N = 20000 };
    ace_error error = {0};
    ace_tensors *set = tensors_new_synthetic(&error);
    int64_t shape[2] = {N / 4, 4};
    assert_true(tensors_add_synthetic(set, "w", ACE_F32, 2, shape, 0.5f, 2.0f, 1, &error));
    assert_true(tensors_add_synthetic(set, "b", ACE_BF16, 2, shape, 0.5f, 2.0f, 1, &error));
    assert_true(tensors_add_synthetic(set, "x", ACE_F32, 2, shape, 0.5f, 2.0f, 2, &error));
    assert_string_equal(tensors_at(set, 0)->name, "b");
    assert_false(tensors_add_synthetic(set, "x", ACE_F32, 2, shape, 0.5f, 2.0f, 2, &error));
    error = (ace_error){0};
    float *w = calloc(N, sizeof *w), *x = calloc(N, sizeof *x), part[16];
    const ace_tensor *tensor = tensors_find(set, "w");
    assert_null(tensor->data);
    assert_true(tensor_read(tensor, 0, N, w, &error));
    assert_true(tensor_read(tensors_find(set, "x"), 0, N, x, &error));
    assert_true(tensor_read(tensor, 12345, 16, part, &error));
    assert_memory_equal(part, w + 12345, sizeof part);
    assert_memory_not_equal(w, x, sizeof part);
    double sum = 0, squares = 0, products = 0;
    for (int i = 0; i < N; i++) {
        sum += (double)w[i];
        squares += ((double)w[i] - 2) * ((double)w[i] - 2);
        products += ((double)w[i] - 2) * ((double)x[i] - 2);
    }
    assert_true(fabs(sum / N - 2) < 0.02);
    assert_true(fabs(sqrt(squares / N) - 0.5) < 0.01);
    assert_true(fabs(products / N) < 0.01);
    free(w);
    free(x);
    tensors_close(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(safetensors_gives_the_values_of_torch),
        cmocka_unit_test(shards_are_one_set),
        cmocka_unit_test(torch_zip_gives_its_storage),
        cmocka_unit_test(gguf_gives_the_values_of_its_reference),
        cmocka_unit_test(gguf_metadata_of_every_type),
        cmocka_unit_test(types_without_arithmetic_are_named_when_read),
        cmocka_unit_test(hash_tells_files_apart),
        cmocka_unit_test(synthetic_values_depend_on_name_seed_and_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
