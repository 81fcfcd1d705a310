/* safetensors: u64 length of the header, the header as JSON, the data.
 *
 *   {"name": {"dtype": "BF16", "shape": [..], "data_offsets": [begin, end]}, ..., "__metadata__": {"key": "value"}}
 *
 * Offsets count from the end of the header. As in the reference reader the tensors must cover the data without gap or
 * overlap, so that a file cut short, or one with a hidden part, is noticed when it is opened. */
#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "formats/json.h"
#include "formats/tensors_build.h"

#include <stdlib.h>
#include <string.h>

enum { HEADER_LIMIT = 100000000, HEADER_DEPTH = 8 };

static const struct {
    const char *name;
    ace_dtype dtype;
    size_t bytes; /* of an element; 0 when it is smaller than a byte */
} dtypes[] = {
    {"F32", ACE_F32, 4},
    {"F16", ACE_F16, 2},
    {"BF16", ACE_BF16, 2},
    {"F64", ACE_F64, 8},
    {"I8", ACE_I8, 1},
    {"U8", ACE_U8, 1},
    {"I16", ACE_I16, 2},
    {"I32", ACE_I32, 4},
    {"I64", ACE_I64, 8},
    {"BOOL", ACE_BOOL, 1},
    {"U16", ACE_UNSUPPORTED, 2},
    {"U32", ACE_UNSUPPORTED, 4},
    {"U64", ACE_UNSUPPORTED, 8},
    {"C64", ACE_UNSUPPORTED, 8},
    {"F8_E4M3", ACE_UNSUPPORTED, 1},
    {"F8_E5M2", ACE_UNSUPPORTED, 1},
    {"F8_E8M0", ACE_UNSUPPORTED, 1},
};

/* The bytes that one tensor takes, for the check that all of them together are the data. */
typedef struct extent {
    size_t begin, end;
    const char *name;
} extent;

static int extent_order(const void *a, const void *b)
{
    const extent *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* An array of exactly `count` non-negative integers (count -1: any number up to `max`). Returns the number, -1 on
 * failure. */
static int read_integers(const json_t *array, int count, int max, int64_t *values)
{
    size_t n = json_array_size(array);
    if (!json_is_array(array) || n > (size_t)max || (count >= 0 && n != (size_t)count)) return -1;
    for (size_t i = 0; i < n; i++) {
        const json_t *value = json_array_get(array, i);
        if (!json_is_integer(value) || json_integer_value(value) < 0) return -1;
        values[i] = json_integer_value(value);
    }
    return (int)n;
}

/* Finds the dtype of a name and the bytes that `tensor` must have; false when they do not fit [begin, end). */
static bool check_size(ace_tensor *tensor, const char *dtype, size_t bytes)
{
    tensor->dtype = ACE_UNSUPPORTED;
    size_t element = 0;
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(dtypes[i].name, dtype) != 0) continue;
        tensor->dtype = dtypes[i].dtype;
        element = dtypes[i].bytes;
    }
    size_t measured;
    if (!tensors_measure(tensor, &measured)) return false;
    if (element == 0) return true;
    return ace_mul_size((size_t)tensor->count, element, &measured) && measured == bytes;
}

static bool add_tensor(ace_tensors *tensors, const tensors_file *file, size_t data_start, const char *name,
                       const json_t *entry, extent *range, ace_error *error)
{
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    int64_t offsets[2];
    ace_tensor tensor = {.path = file->path};
    tensor.rank = read_integers(json_object_get(entry, "shape"), -1, TENSOR_MAX_RANK, tensor.shape);
    if (!dtype || tensor.rank < 0 || read_integers(json_object_get(entry, "data_offsets"), 2, 2, offsets) < 0)
        return tensors_damaged(error, file->path,
                               "the header entry of tensor \"%s\" lacks a dtype, a shape of at most %d dimensions or "
                               "two offsets",
                               name, TENSOR_MAX_RANK);
    size_t begin = (size_t)offsets[0], end = (size_t)offsets[1], room = file->size - data_start;
    if (begin > end || end > room)
        return tensors_damaged(error, file->path,
                               "tensor \"%s\" is said to lie at bytes %zu to %zu of the data, which has %zu", name,
                               begin, end, room);
    if (!check_size(&tensor, dtype, end - begin))
        return tensors_damaged(error, file->path, "tensor \"%s\" takes %zu bytes, which does not fit its shape and %s",
                               name, end - begin, dtype);
    tensor.bytes = end - begin;
    tensor.offset = data_start + begin;
    tensor.data = file->data + tensor.offset;
    *range = (extent){begin, end, name};
    return tensors_add(tensors, &tensor, name, strlen(name), dtype, error);
}

static bool add_metadata(ace_tensors *tensors, const tensors_file *file, const json_t *metadata, ace_error *error)
{
    const char *key;
    json_t *text;
    if (!json_is_object(metadata)) return tensors_damaged(error, file->path, "\"__metadata__\" is not an object");
    json_object_foreach((json_t *)(uintptr_t)metadata, key, text)
    {
        if (!json_is_string(text))
            return tensors_damaged(error, file->path, "the metadata \"%s\" is not a string", key);
        tensors_value value = {.kind = TENSORS_STRING};
        value.key = ace_strdup(key, error);
        value.string = value.key ? ace_strdup(json_string_value(text), error) : NULL;
        if (!value.string) {
            free(value.key);
            return false;
        }
        if (!tensors_add_value(tensors, value, error)) return false;
    }
    return true;
}

/* The extents must follow each other from the first byte of the data to the last. */
static bool check_cover(const tensors_file *file, extent *ranges, size_t count, size_t room, ace_error *error)
{
    size_t covered = 0;
    if (count) qsort(ranges, count, sizeof *ranges, extent_order);
    for (size_t i = 0; i < count; i++) {
        if (ranges[i].begin != covered)
            return tensors_damaged(error, file->path,
                                   "tensor \"%s\" begins at byte %zu of the data, not at %zu where "
                                   "the one before it ends",
                                   ranges[i].name, ranges[i].begin, covered);
        covered = ranges[i].end;
    }
    if (covered != room)
        return tensors_damaged(error, file->path, "the tensors end at byte %zu of the data, which has %zu", covered,
                               room);
    return true;
}

bool safetensors_parse(ace_tensors *tensors, const tensors_file *file, ace_error *error)
{
    uint64_t header = file->size >= 8 ? bytes_le64(file->data) : 0;
    if (header < 2 || header > HEADER_LIMIT || header > file->size - 8)
        return tensors_damaged(error, file->path,
                               "its header is said to have %llu bytes, but the file has %zu (limit %d)",
                               (unsigned long long)header, file->size, HEADER_LIMIT);
    size_t data_start = 8 + (size_t)header;
    json_t *root = json_parse((const char *)file->data + 8, (size_t)header, HEADER_DEPTH, file->path, error);
    if (!root) return false;
    extent *ranges = ace_calloc(json_object_size(root), sizeof *ranges, "a header", error);
    bool ok = ranges != NULL;
    if (ok && !json_is_object(root)) ok = tensors_damaged(error, file->path, "its header is not a JSON object");
    size_t count = 0;
    const char *name;
    json_t *entry;
    json_object_foreach(root, name, entry)
    {
        if (!ok) break;
        if (strcmp(name, "__metadata__") == 0)
            ok = add_metadata(tensors, file, entry, error);
        else
            ok = add_tensor(tensors, file, data_start, name, entry, &ranges[count++], error);
    }
    ok = ok && check_cover(file, ranges, count, file->size - data_start, error);
    free(ranges);
    json_decref(root);
    return ok;
}
