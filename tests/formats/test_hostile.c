/* Damaged and hostile files of every format: an error with a message, or the same values as before the damage; never a
 * crash, a leak or a read beyond the bytes (the sanitizer build watches the latter two). */
#include "base/file.h"
#include "base/memory.h"
#include "base/text.h"
#include "formats/tensors_build.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define DATA(name) TEST_DATA "/formats/" name

static const char *const files[] = {DATA("plain.safetensors"), DATA("f8.safetensors"), DATA("latent.pt"),
                                    DATA("types.gguf")};
enum { FILES = 4, ZIP = 2 };

static uint8_t *load(const char *path, size_t *size)
{
    ace_error error = {0};
    uint8_t *bytes = (uint8_t *)ace_read_file(path, 1 << 20, size, &error);
    assert_non_null(bytes);
    return bytes;
}

/* Reads everything that can be read and sums it up: names, shapes and the bits of all values. */
static uint64_t digest(const ace_tensors *tensors)
{
    uint64_t sum = 1469598103934665603u;
    for (size_t i = 0; i < tensors_count(tensors); i++) {
        const ace_tensor *tensor = tensors_at(tensors, i);
        if (tensor->dtype == ACE_UNSUPPORTED) { /* its count is a claim that no byte in the file stands for */
            float value;
            assert_false(tensor_read(tensor, 0, tensor->count, &value, NULL));
            continue;
        }
        float *values = calloc((size_t)tensor->count + 1, sizeof *values);
        uint16_t *rounded = calloc((size_t)tensor->count + 1, sizeof *rounded);
        assert_true(values && rounded);
        for (const char *c = tensor->name; *c; c++) sum = (sum ^ (uint8_t)*c) * 1099511628211u;
        for (int k = 0; k < tensor->rank; k++) sum = (sum ^ (uint64_t)tensor->shape[k]) * 1099511628211u;
        ace_error error = {0};
        if (tensor_read(tensor, 0, tensor->count, values, &error)) {
            for (int64_t k = 0; k < tensor->count; k++) {
                uint32_t bits;
                memcpy(&bits, &values[k], 4);
                assert_true(isfinite(values[k]));
                sum = (sum ^ bits) * 1099511628211u;
            }
        } else {
            assert_true(error.status != ACE_OK && error.message[0]);
            sum = 0;
        }
        tensor_read_bf16(tensor, 0, tensor->count, rounded, NULL);
        free(values);
        free(rounded);
    }
    return sum;
}

/* Opens n bytes in a block of exactly that size; 0 when they are refused. */
static uint64_t try_open(const uint8_t *bytes, size_t n)
{
    uint8_t *exact = malloc(n ? n : 1);
    memcpy(exact, bytes, n);
    ace_error error = {0};
    ace_tensors *tensors = tensors_open_memory("damaged", exact, n, &error);
    uint64_t sum = tensors ? digest(tensors) : 0;
    if (!tensors) assert_true(error.status == ACE_ERROR_FORMAT && strstr(error.message, "damaged"));
    tensors_close(tensors);
    free(exact);
    return sum;
}

static void every_truncation_is_an_error(void **state)
{
    (void)state;
    for (int f = 0; f < FILES; f++) {
        size_t size;
        uint8_t *bytes = load(files[f], &size);
        uint64_t whole = try_open(bytes, size);
        for (size_t n = 0; n < size; n++) {
            uint64_t sum = try_open(bytes, n);
            /* a GGUF file may end in padding, which nobody misses */
            bool padding = strstr(files[f], ".gguf") && n + 32 > size && sum == whole;
            if (sum && !padding) fail_msg("%s cut to %zu of %zu bytes was opened", files[f], n, size);
        }
        free(bytes);
    }
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* One to four bits are flipped. Only the zip file has a checksum: there what is opened must be what it was. */
static void flipped_bits_never_crash(void **state)
{
    (void)state;
    enum { ROUNDS = 6000 };
    uint64_t random = 7;
    for (int f = 0; f < FILES; f++) {
        size_t size;
        uint8_t *bytes = load(files[f], &size), *damaged = malloc(size);
        uint64_t whole = try_open(bytes, size);
        for (int round = 0; round < ROUNDS; round++) {
            memcpy(damaged, bytes, size);
            for (uint64_t k = next_random(&random) % 4 + 1; k > 0; k--)
                damaged[next_random(&random) % size] ^= (uint8_t)(1 << next_random(&random) % 8);
            ace_error error = {0};
            ace_tensors *tensors = tensors_open_memory("damaged", damaged, size, &error);
            uint64_t sum = tensors ? digest(tensors) : 0;
            if (!tensors) assert_true(error.status != ACE_OK && error.message[0]);
            if (tensors && f == ZIP) assert_true(sum == whole);
            tensors_close(tensors);
        }
        free(damaged);
        free(bytes);
    }
}

/* ---- hand-made headers ------------------------------------------------------------------------------------------- */

/* A safetensors file of this header and `data` zero bytes. */
static ace_tensors *open_header(const char *header, size_t data, ace_error *error)
{
    static uint8_t bytes[4096];
    uint64_t n = strlen(header);
    assert_true(8 + n + data <= sizeof bytes);
    memset(bytes, 0, sizeof bytes);
    memcpy(bytes, &n, 8);
    memcpy(bytes + 8, header, n);
    *error = (ace_error){0};
    return tensors_open_memory("file", bytes, 8 + n + data, error);
}

static void hostile_safetensors_headers(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data;
        const char *message; /* NULL: fine */
    } cases[] = {
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, NULL},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}   ", 8, NULL},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[0,3],\"data_offsets\":[0,0]}}", 0, NULL},
        {"{\"a\":{\"dtype\":\"F6_E2M3\",\"shape\":[4],\"data_offsets\":[0,3]}}", 3, NULL},
        {"{}", 0, NULL},
        {"{}", 1, "end at byte 0"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9, "end at byte 8"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, "has 7"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, "8 to 0"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "does not fit"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8, "lacks"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, "lacks"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 8, "lacks"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,2],\"data_offsets\":[0,8]}}", 8, "lacks"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, "lacks"},
        {"{\"a\":{\"dtype\":7,\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "lacks"},
        {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "lacks"},
        {"{\"a\":[]}", 8, "lacks"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,0]}}", 0, "does not fit"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387905],\"data_offsets\":[0,4]}}", 4, "does not fit"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,8]}}", 8, "not valid JSON"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
         3, "begins at byte 1"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}",
         2, "begins at byte 0"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[3,4]}}",
         4, "begins at byte 3"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}",
         2, "duplicate"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "not a string"},
        {"{\"__metadata__\":[]}", 0, "not an object"},
        {"{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "not valid JSON"},
        {"{\"\xff\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "not valid JSON"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[[[[[[[[1]]]]]]]],\"data_offsets\":[0,1]}}", 1, "nested"},
        {"{\"a\":", 0, "not valid JSON"},
        {"{} {}", 0, "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ace_error error;
        ace_tensors *tensors = open_header(cases[i].header, cases[i].data, &error);
        if (!cases[i].message != !!tensors) fail_msg("%s: %s", cases[i].header, error.message);
        if (cases[i].message && !strstr(error.message, cases[i].message))
            fail_msg("%s: %s", cases[i].header, error.message);
        if (cases[i].message) assert_int_equal(error.status, ACE_ERROR_FORMAT);
        tensors_close(tensors);
    }
}

/* ---- hand-made GGUF ---------------------------------------------------------------------------------------------- */

typedef struct bytes {
    uint8_t data[4096];
    size_t n;
} bytes;

static void put(bytes *b, const void *p, size_t n)
{
    memcpy(b->data + b->n, p, n);
    b->n += n;
}

static void put32(bytes *b, uint32_t v)
{
    put(b, &v, 4);
}

static void put64(bytes *b, uint64_t v)
{
    put(b, &v, 8);
}

static void put_string(bytes *b, const char *text)
{
    put64(b, strlen(text));
    put(b, text, strlen(text));
}

static void put_header(bytes *b, uint32_t version, uint64_t tensors, uint64_t keys)
{
    b->n = 0;
    put(b, "GGUF", 4);
    put32(b, version);
    put64(b, tensors);
    put64(b, keys);
}

static void put_tensor(bytes *b, const char *name, uint64_t size, uint32_t type, uint64_t offset)
{
    put_string(b, name);
    put32(b, 1);
    put64(b, size);
    put32(b, type);
    put64(b, offset);
}

static void put_data(bytes *b, size_t n)
{
    while (b->n % 32) put(b, "", 1);
    memset(b->data + b->n, 0, n);
    b->n += n;
}

/* `message` NULL: must open. */
static void expect(const bytes *b, const char *message)
{
    uint8_t *exact = malloc(b->n);
    memcpy(exact, b->data, b->n);
    ace_error error = {0};
    ace_tensors *tensors = tensors_open_memory("file.gguf", exact, b->n, &error);
    if (!message && !tensors) fail_msg("%s", error.message);
    if (message && tensors) fail_msg("opened instead of \"%s\"", message);
    if (message && !strstr(error.message, message)) fail_msg("\"%s\" instead of \"%s\"", error.message, message);
    if (message) assert_int_equal(error.status, ACE_ERROR_FORMAT);
    tensors_close(tensors);
    free(exact);
}

static void hostile_gguf_tensors(void **state)
{
    (void)state;
    static const struct {
        uint64_t size[2], offset[2];
        uint32_t type;
        size_t data;
        const char *message;
    } cases[] = {
        {{8, 8}, {0, 32}, 0, 64, NULL},
        {{8, 8}, {32, 0}, 0, 64, NULL},
        {{8, 8}, {0, 32}, 0, 63, "does not fit"},
        {{9, 8}, {0, 32}, 0, 64, "overlap"},
        {{8, 8}, {0, 0}, 0, 64, "overlap"},
        {{8, 8}, {0, 16}, 0, 64, "does not fit"},
        {{8, 8}, {0, UINT64_MAX - 31}, 0, 64, "does not fit"},
        {{8, UINT64_MAX}, {0, 32}, 0, 64, "dimension"},
        {{8, INT64_MAX}, {0, 32}, 0, 64, "shape"},
        {{8, (uint64_t)1 << 61}, {0, 32}, 0, 64, "does not fit"},
        {{32, 32}, {0, 64}, 8, 98, NULL},
        {{32, 31}, {0, 64}, 8, 98, "shape"},
        {{32, 32}, {0, 64}, 99, 98, NULL}, /* of unknown type: an error only when it is read */
        {{32, 32}, {0, 128}, 99, 98, "does not fit"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bytes b;
        put_header(&b, 3, 2, 0);
        put_tensor(&b, "a", cases[i].size[0], cases[i].type, cases[i].offset[0]);
        put_tensor(&b, "b", cases[i].size[1], cases[i].type, cases[i].offset[1]);
        put_data(&b, cases[i].data);
        expect(&b, cases[i].message);
    }
    bytes b;
    put_header(&b, 3, 2, 0);
    put_tensor(&b, "a", 8, 0, 0);
    put_tensor(&b, "a", 8, 0, 32);
    put_data(&b, 64);
    expect(&b, "occurs twice");
    put_header(&b, 3, 1, 0);
    put_string(&b, "a");
    put32(&b, 9);
    put_data(&b, 256);
    expect(&b, "9 dimensions");
    put_header(&b, 3, 1, 0);
    put_tensor(&b, "\xc3(", 8, 0, 0);
    put_data(&b, 32);
    expect(&b, "UTF-8");
}

static void hostile_gguf_headers(void **state)
{
    (void)state;
    bytes b;
    put_header(&b, 3, 0, 0);
    expect(&b, NULL);
    static const uint32_t versions[] = {0, 1, 4, 0x03000000};
    for (int i = 0; i < 4; i++) {
        put_header(&b, versions[i], 0, 0);
        expect(&b, "version");
    }
    put_header(&b, 3, UINT64_MAX, 0);
    expect(&b, "more than it has room for");
    put_header(&b, 3, 0, UINT64_MAX);
    expect(&b, "in the middle");
    put_header(&b, 3, 0, 1);
    put64(&b, UINT64_MAX);
    expect(&b, "in the middle");
    static const uint32_t alignments[] = {0, 3, 65535, 1 << 17, UINT32_MAX};
    for (int i = 0; i < 5; i++) {
        put_header(&b, 3, 0, 1);
        put_string(&b, "general.alignment");
        put32(&b, 4);
        put32(&b, alignments[i]);
        expect(&b, "power of two");
    }
    put_header(&b, 3, 0, 1);
    put_string(&b, "k");
    put32(&b, 13);
    put64(&b, 0);
    expect(&b, "does not exist");
    static const struct {
        uint32_t type;
        uint64_t count;
        const char *message;
    } arrays[] = {
        {4, 2, NULL},        {4, 0, NULL},        {4, 3, "more than"},  {4, UINT64_MAX, "more than"}, {8, 1, NULL},
        {8, 2, "more than"}, {9, 1, "not exist"}, {77, 1, "not exist"}, {10, 1ull << 61, "more than"}};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        put_header(&b, 3, 0, 1);
        put_string(&b, "k");
        put32(&b, 9);
        put32(&b, arrays[i].type);
        put64(&b, arrays[i].count);
        put64(&b, 0);
        expect(&b, arrays[i].message);
    }
    put_header(&b, 3, 0, 2);
    for (int i = 0; i < 2; i++) {
        put_string(&b, "k");
        put32(&b, 0);
        put(&b, "", 1);
    }
    expect(&b, "occurs twice");
}

/* ---- values that are no numbers --------------------------------------------------------------------------------- */

static void values_that_are_not_finite_are_refused(void **state)
{
    (void)state;
    enum { N = 5000, AT = 4321 };
    static const struct {
        ace_dtype dtype;
        uint64_t bits;
        bool bf16_only;
        const char *message;
    } cases[] = {
        {ACE_F32, 0x7fc00000, false, "NaN or infinite"},   {ACE_F32, 0xff800000, false, "NaN or infinite"},
        {ACE_F32, 0x7f7fffff, true, "too large"},          {ACE_F16, 0x7c00, false, "NaN or infinite"},
        {ACE_F16, 0xfc01, false, "NaN or infinite"},       {ACE_BF16, 0x7f80, false, "NaN or infinite"},
        {ACE_BF16, 0xffff, false, "NaN or infinite"},      {ACE_F64, 0x7ff8000000000000, false, "NaN or infinite"},
        {ACE_F64, 0x7fe0000000000000, false, "too large"},
    };
    float *values = malloc(N * sizeof *values);
    uint16_t *rounded = malloc(N * sizeof *rounded);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t element = ace_dtype_block_bytes(cases[i].dtype);
        uint8_t *data = calloc(N, element);
        memcpy(data + AT * element, &cases[i].bits, element);
        ace_tensor tensor = {.name = "some.weight",
                             .dtype = cases[i].dtype,
                             .type_name = "T",
                             .rank = 1,
                             .shape = {N},
                             .count = N,
                             .data = data,
                             .bytes = N * element,
                             .path = "a/file"};
        ace_error error = {0};
        assert_int_equal(tensor_read(&tensor, 0, N, values, &error), cases[i].bf16_only);
        if (cases[i].bf16_only) assert_false(tensor_read_bf16(&tensor, 0, N, rounded, &error));
        for (int k = 0; k < 2; k++) {
            if (!strstr(error.message, "a/file") || !strstr(error.message, "some.weight") ||
                !strstr(error.message, "element 4321") || !strstr(error.message, cases[i].message))
                fail_msg("case %zu: %s", i, error.message);
            assert_int_equal(error.status, ACE_ERROR_FORMAT);
            error = (ace_error){0};
            assert_false(tensor_read_bf16(&tensor, 0, N, rounded, &error));
        }
        assert_true(tensor_read(&tensor, 0, AT, values, &error) || cases[i].bf16_only);
        assert_true(tensor_read_bf16(&tensor, AT + 1, N - AT - 1, rounded, NULL));
        free(data);
    }
    uint8_t block[34] = {0x00, 0x7c, 1}; /* Q8_0 whose scale is infinite */
    ace_tensor q8 = {.name = "q",
                     .dtype = ACE_Q8_0,
                     .type_name = "Q8_0",
                     .rank = 1,
                     .shape = {32},
                     .count = 32,
                     .data = block,
                     .bytes = 34,
                     .path = "f"};
    assert_false(tensor_read(&q8, 0, 32, values, NULL));
    assert_false(tensor_read_bf16(&q8, 0, 32, rounded, NULL));
    ace_error error = {0};
    assert_false(tensor_read(&q8, 16, 16, values, &error));
    assert_int_equal(error.status, ACE_ERROR_INTERNAL);
    assert_false(tensor_read(&q8, 0, 64, values, NULL));
    free(values);
    free(rounded);
}

/* All 65536 half numbers against their definition. */
static void every_half_is_exact(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        uint16_t half = (uint16_t)bits;
        int exponent = (int)(bits >> 10 & 31);
        float fraction = (float)(bits & 1023), value;
        dequantize(ACE_F16, (const uint8_t *)&half, 1, &value);
        float magnitude = exponent == 0    ? ldexpf(fraction, -24)
                          : exponent == 31 ? (fraction ? NAN : INFINITY)
                                           : ldexpf(1024 + fraction, exponent - 25);
        float expected = copysignf(magnitude, bits & 0x8000 ? -1.0f : 1.0f);
        assert_true(isnan(expected) ? isnan(value) : memcmp(&value, &expected, 4) == 0);
    }
}

/* ---- files ------------------------------------------------------------------------------------------------------ */

static void write_text(const char *directory, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    fclose(file);
}

static void copy_file(const char *from, const char *directory, const char *name)
{
    char path[512];
    size_t size;
    uint8_t *data = load(from, &size);
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    fclose(file);
    free(data);
}

static void hostile_indexes(void **state)
{
    (void)state;
    static const struct {
        const char *index, *message;
    } cases[] = {
        {"{\"weight_map\":{\"f32\":\"one.safetensors\"}}", NULL},
        {"{\"weight_map\":{\"nope\":\"one.safetensors\"}}", "promises tensor \"nope\""},
        {"{\"weight_map\":{\"f32\":\"two.safetensors\",\"i8\":\"one.safetensors\"}}", "occurs twice"},
        {"{\"weight_map\":{\"f32\":\"three.safetensors\"}}", "cannot open"},
        {"{\"weight_map\":{\"f32\":\"../one.safetensors\"}}", "plain name"},
        {"{\"weight_map\":{\"f32\":\"/etc/passwd\"}}", "plain name"},
        {"{\"weight_map\":{\"f32\":\"..\"}}", "plain name"},
        {"{\"weight_map\":{\"f32\":\"\"}}", "plain name"},
        {"{\"weight_map\":{\"f32\":\"sub\\\\one.safetensors\"}}", "plain name"},
        {"{\"weight_map\":{\"f32\":3}}", "plain name"},
        {"{\"weight_map\":{}}", "weight_map"},
        {"{\"weight_map\":[]}", "must be an object"},
        {"{}", "weight_map"},
        {"[]", "weight_map"},
        {"", "not valid JSON"},
        {"{\"weight_map\":{\"f32\":\"model.safetensors.index.json\"}}", "neither"},
    };
    char directory[] = "/tmp/acestep-test-XXXXXX", path[512];
    assert_non_null(mkdtemp(directory));
    copy_file(files[0], directory, "one.safetensors");
    copy_file(files[0], directory, "two.safetensors");
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", directory);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_text(directory, "model.safetensors.index.json", cases[i].index);
        ace_error error = {0};
        ace_tensors *tensors = tensors_open(path, &error);
        if (!cases[i].message != !!tensors) fail_msg("%s: %s", cases[i].index, error.message);
        if (cases[i].message && !strstr(error.message, cases[i].message))
            fail_msg("%s: %s", cases[i].index, error.message);
        tensors_close(tensors);
    }
    static const char *const names[] = {"one.safetensors", "two.safetensors", "model.safetensors.index.json"};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        unlink(path);
    }
    rmdir(directory);
}

static void files_that_are_something_else(void **state)
{
    (void)state;
    static const struct {
        const char *content, *message;
    } cases[] = {
        {"", "empty"},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "Git LFS pointer"},
        {"<!DOCTYPE html><html>", "neither"},
        {"PK\003\004", "end of the zip"},
        {"GGUF", "in the middle"},
        {"12345678{", "header is said"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ace_error error = {0};
        assert_null(tensors_open_memory("f", (const uint8_t *)cases[i].content, strlen(cases[i].content), &error));
        assert_int_equal(error.status, ACE_ERROR_FORMAT);
        if (!strstr(error.message, cases[i].message)) fail_msg("%s", error.message);
    }
    ace_error error = {0};
    assert_null(tensors_open("/nonexistent/model.safetensors", &error));
    assert_int_equal(error.status, ACE_ERROR_IO);
}

/* Every call to memory and files fails once; each time there is an error, nothing leaks, and in the end it opens. */
static void every_refusal_of_the_system_is_survived(void **state)
{
    (void)state;
    static const char *const paths[] = {DATA("plain.safetensors"), DATA("types.gguf"), DATA("latent.pt"),
                                        DATA("shards/model.safetensors.index.json")};
    for (int f = 0; f < 4; f++) {
        ace_tensors *tensors = NULL;
        for (long n = 1; !tensors; n++) {
            ace_error error = {0};
            ace_fault_arm(n);
            tensors = tensors_open(paths[f], &error);
            ace_fault_arm(0);
            if (!tensors && error.status != ACE_ERROR_MEMORY && error.status != ACE_ERROR_IO)
                fail_msg("%s, call %ld: %s", paths[f], n, error.message);
            assert_true(n < 10000);
        }
        tensors_close(tensors);
    }
    ace_tensors *set = NULL;
    for (long n = 1; !set; n++) {
        ace_error error = {0};
        ace_fault_arm(n);
        set = tensors_new_synthetic(&error);
        bool ok = set && tensors_add_synthetic(set, "a", ACE_F32, 1, (const int64_t[]){4}, 1, 0, 1, &error);
        ace_fault_arm(0);
        assert_true(ok || error.status == ACE_ERROR_MEMORY);
        if (!ok) {
            tensors_close(set);
            set = NULL;
        }
    }
    tensors_close(set);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_truncation_is_an_error),  cmocka_unit_test(flipped_bits_never_crash),
        cmocka_unit_test(hostile_safetensors_headers),   cmocka_unit_test(hostile_gguf_tensors),
        cmocka_unit_test(hostile_gguf_headers),          cmocka_unit_test(values_that_are_not_finite_are_refused),
        cmocka_unit_test(every_half_is_exact),           cmocka_unit_test(hostile_indexes),
        cmocka_unit_test(files_that_are_something_else), cmocka_unit_test(every_refusal_of_the_system_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
