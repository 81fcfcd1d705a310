/* GGUF version 2 and 3, little-endian:
 *
 *   "GGUF"; u32 version; u64 tensors; u64 keys
 *   keys:    string key; u32 type; value           (string: u64 bytes, then UTF-8; array: u32 type, u64 count,
 * elements) tensors: string name; u32 rank; u64 dims[rank], fastest first; u32 type; u64 offset padding to
 * general.alignment (32); data, each tensor at its offset from here
 *
 * Counts and lengths are checked against the bytes that are left before anything is allocated for them. */
#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "formats/tensors_build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPES
};

enum { MIN_TENSOR_BYTES = 8 + 4 + 4 + 8, DEFAULT_ALIGNMENT = 32 };

/* Tensor types by ggml's number; those without a dtype are known by name only. */
static const struct {
    const char *name;
    ace_dtype dtype;
} types[] = {
    [0] = {"F32", ACE_F32},           [1] = {"F16", ACE_F16},          [2] = {"Q4_0", ACE_UNSUPPORTED},
    [3] = {"Q4_1", ACE_UNSUPPORTED},  [6] = {"Q5_0", ACE_UNSUPPORTED}, [7] = {"Q5_1", ACE_UNSUPPORTED},
    [8] = {"Q8_0", ACE_Q8_0},         [9] = {"Q8_1", ACE_UNSUPPORTED}, [10] = {"Q2_K", ACE_UNSUPPORTED},
    [11] = {"Q3_K", ACE_UNSUPPORTED}, [12] = {"Q4_K", ACE_Q4_K},       [13] = {"Q5_K", ACE_Q5_K},
    [14] = {"Q6_K", ACE_Q6_K},        [24] = {"I8", ACE_I8},           [25] = {"I16", ACE_I16},
    [26] = {"I32", ACE_I32},          [27] = {"I64", ACE_I64},         [28] = {"F64", ACE_F64},
    [30] = {"BF16", ACE_BF16},
};

/* ---- a reading position that cannot leave the file -----------------------------------------------------------------
 */

typedef struct cursor {
    const tensors_file *file;
    size_t at;
} cursor;

static size_t left(const cursor *c)
{
    return c->file->size - c->at;
}

static const uint8_t *take(cursor *c, size_t n, ace_error *error)
{
    if (n > left(c)) {
        tensors_damaged(error, c->file->path, "it ends at byte %zu in the middle of its header", c->file->size);
        return NULL;
    }
    const uint8_t *p = c->file->data + c->at;
    c->at += n;
    return p;
}

static bool take_u32(cursor *c, uint32_t *value, ace_error *error)
{
    const uint8_t *p = take(c, 4, error);
    if (p) *value = bytes_le32(p);
    return p != NULL;
}

static bool take_u64(cursor *c, uint64_t *value, ace_error *error)
{
    const uint8_t *p = take(c, 8, error);
    if (p) *value = bytes_le64(p);
    return p != NULL;
}

static const uint8_t *take_string(cursor *c, size_t *length, ace_error *error)
{
    uint64_t n;
    if (!take_u64(c, &n, error)) return NULL;
    *length = n > left(c) ? SIZE_MAX : (size_t)n;
    return take(c, *length, error);
}

/* ---- metadata --------------------------------------------------------------------------------------------------- */

size_t gguf_number_bytes(uint32_t type)
{
    static const uint8_t bytes[GGUF_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    return type < GGUF_TYPES ? bytes[type] : 0;
}

double gguf_number(uint32_t type, const uint8_t *p)
{
    float single;
    double number;
    switch (type) {
    case GGUF_U8:
        return p[0];
    case GGUF_I8:
        return (int8_t)p[0];
    case GGUF_U16:
        return bytes_le16(p);
    case GGUF_I16:
        return (int16_t)bytes_le16(p);
    case GGUF_U32:
        return bytes_le32(p);
    case GGUF_I32:
        return (int32_t)bytes_le32(p);
    case GGUF_F32:
        memcpy(&single, p, sizeof single);
        return (double)single;
    case GGUF_U64:
        return (double)bytes_le64(p);
    case GGUF_I64:
        return (double)(int64_t)bytes_le64(p);
    case GGUF_F64:
        memcpy(&number, p, sizeof number);
        return number;
    default:
        return p[0] != 0;
    }
}

static bool read_array(cursor *c, tensors_value *value, ace_error *error)
{
    uint32_t type;
    uint64_t count;
    if (!take_u32(c, &type, error) || !take_u64(c, &count, error)) return false;
    size_t smallest = type == GGUF_STRING ? 8 : gguf_number_bytes(type);
    if (smallest == 0)
        return tensors_damaged(error, c->file->path, "metadata \"%s\" is an array of type %u, which does not exist",
                               value->key, type);
    if (count > left(c) / smallest)
        return tensors_damaged(error, c->file->path,
                               "metadata \"%s\" is said to have %llu elements, more than the file has room for",
                               value->key, (unsigned long long)count);
    value->count = (size_t)count;
    value->base = c->file->data + c->at;
    value->element_type = type;
    value->kind = TENSORS_NUMBER_ARRAY;
    if (type != GGUF_STRING) return take(c, value->count * smallest, error) != NULL;
    value->kind = TENSORS_STRING_ARRAY;
    value->offsets = ace_calloc(value->count, sizeof *value->offsets, "metadata", error);
    if (!value->offsets) return false;
    size_t start = c->at, length;
    for (size_t i = 0; i < value->count; i++) {
        value->offsets[i] = c->at - start;
        if (!take_string(c, &length, error)) return false;
    }
    return true;
}

static bool read_value(cursor *c, tensors_value *value, ace_error *error)
{
    uint32_t type;
    if (!take_u32(c, &type, error)) return false;
    if (type == GGUF_ARRAY) return read_array(c, value, error);
    if (type == GGUF_STRING) {
        size_t length;
        const uint8_t *text = take_string(c, &length, error);
        value->kind = TENSORS_STRING;
        value->string = text ? tensors_copy_string(text, length, "a metadata text", c->file->path, error) : NULL;
        return value->string != NULL;
    }
    size_t bytes = gguf_number_bytes(type);
    if (bytes == 0)
        return tensors_damaged(error, c->file->path, "metadata \"%s\" is of type %u, which does not exist", value->key,
                               type);
    const uint8_t *number = take(c, bytes, error);
    value->kind = TENSORS_NUMBER;
    if (number) value->number = gguf_number(type, number);
    return number != NULL;
}

static bool read_metadata(cursor *c, ace_tensors *tensors, uint64_t *alignment, ace_error *error)
{
    size_t length;
    const uint8_t *key = take_string(c, &length, error);
    if (!key) return false;
    tensors_value value = {.key = tensors_copy_string(key, length, "a metadata key", c->file->path, error)};
    if (!value.key || !read_value(c, &value, error)) {
        free(value.key);
        free(value.offsets);
        return false;
    }
    if (strcmp(value.key, "general.alignment") == 0) {
        bool valid = value.kind == TENSORS_NUMBER && value.number >= 1 && value.number <= 65536;
        *alignment = valid ? (uint64_t)value.number : 0;
    }
    return tensors_add_value(tensors, value, error);
}

/* ---- tensors ---------------------------------------------------------------------------------------------------- */

typedef struct extent {
    uint64_t begin, end;
} extent;

static int extent_order(const void *a, const void *b)
{
    const extent *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* The header entry of one tensor; tensor->offset counts from the start of the data until place_tensors(). */
typedef struct header_entry {
    ace_tensor tensor;
    char *name;
    char type_name[16];
} header_entry;

static bool read_shape(cursor *c, ace_tensor *tensor, const char *name, ace_error *error)
{
    uint32_t rank;
    if (!take_u32(c, &rank, error)) return false;
    if (rank > TENSOR_MAX_RANK)
        return tensors_damaged(error, c->file->path, "tensor \"%s\" has %u dimensions (limit %d)", name, rank,
                               TENSOR_MAX_RANK);
    tensor->rank = (int)rank;
    for (int i = tensor->rank - 1; i >= 0; i--) {
        uint64_t size;
        if (!take_u64(c, &size, error)) return false;
        if (size > INT64_MAX)
            return tensors_damaged(error, c->file->path, "tensor \"%s\" has a dimension of %llu", name,
                                   (unsigned long long)size);
        tensor->shape[i] = (int64_t)size;
    }
    return true;
}

static bool read_tensor(cursor *c, header_entry *entry, ace_error *error)
{
    size_t length;
    uint32_t type;
    uint64_t offset;
    ace_tensor *tensor = &entry->tensor;
    const uint8_t *name = take_string(c, &length, error);
    if (!name) return false;
    entry->name = tensors_copy_string(name, length, "a tensor name", c->file->path, error);
    if (!entry->name || !read_shape(c, tensor, entry->name, error) || !take_u32(c, &type, error) ||
        !take_u64(c, &offset, error))
        return false;
    bool known = type < sizeof types / sizeof *types && types[type].name;
    tensor->dtype = known ? types[type].dtype : ACE_UNSUPPORTED;
    if (known)
        snprintf(entry->type_name, sizeof entry->type_name, "%s", types[type].name);
    else
        snprintf(entry->type_name, sizeof entry->type_name, "type %u", type);
    tensor->path = c->file->path;
    tensor->offset = offset > c->file->size ? SIZE_MAX : (size_t)offset;
    if (!tensors_measure(tensor, &tensor->bytes))
        return tensors_damaged(error, c->file->path, "the shape of tensor \"%s\" is impossible for type %s",
                               entry->name, entry->type_name);
    return true;
}

/* Checks where the tensors lie, and adds them. */
static bool place_tensors(ace_tensors *tensors, const tensors_file *file, header_entry *entries, size_t count,
                          size_t start, size_t alignment, ace_error *error)
{
    extent *ranges = ace_calloc(count, sizeof *ranges, "a header", error);
    bool ok = ranges != NULL;
    size_t room = file->size - start;
    for (size_t i = 0; ok && i < count; i++) {
        ace_tensor *tensor = &entries[i].tensor;
        if (tensor->offset > room || tensor->bytes > room - tensor->offset || tensor->offset % alignment != 0)
            ok = tensors_damaged(error, file->path, "tensor \"%s\" (%zu bytes) does not fit at its place in the file",
                                 entries[i].name, tensor->bytes);
        ranges[i] = (extent){tensor->offset, tensor->offset + tensor->bytes};
        tensor->offset += start;
        tensor->data = file->data + (ok ? tensor->offset : 0);
        ok = ok && tensors_add(tensors, tensor, entries[i].name, strlen(entries[i].name), entries[i].type_name, error);
    }
    if (ok && count) qsort(ranges, count, sizeof *ranges, extent_order);
    for (size_t i = 1; ok && i < count; i++)
        if (ranges[i].begin < ranges[i - 1].end) ok = tensors_damaged(error, file->path, "two of its tensors overlap");
    free(ranges);
    return ok;
}

bool gguf_parse(ace_tensors *tensors, const tensors_file *file, ace_error *error)
{
    cursor c = {file, 4};
    uint32_t version;
    uint64_t count, keys, alignment = DEFAULT_ALIGNMENT;
    if (!take_u32(&c, &version, error) || !take_u64(&c, &count, error) || !take_u64(&c, &keys, error)) return false;
    if (version != 2 && version != 3)
        return ace_fail(error, ACE_ERROR_FORMAT,
                        "'%s' is GGUF version %u, but only 2 and 3 (little-endian) are read: convert it again",
                        file->path, version);
    for (uint64_t i = 0; i < keys; i++)
        if (!read_metadata(&c, tensors, &alignment, error)) return false;
    if (alignment == 0 || (alignment & (alignment - 1)) != 0)
        return tensors_damaged(error, file->path, "general.alignment is not a power of two up to 65536");
    if (count > left(&c) / MIN_TENSOR_BYTES)
        return tensors_damaged(error, file->path, "it is said to hold %llu tensors, more than it has room for",
                               (unsigned long long)count);
    header_entry *entries = ace_calloc((size_t)count, sizeof *entries, "a header", error);
    bool ok = entries != NULL;
    for (uint64_t i = 0; ok && i < count; i++) ok = read_tensor(&c, &entries[i], error);
    if (ok) {
        size_t padding = (size_t)(-(uint64_t)c.at & (alignment - 1));
        ok = take(&c, count ? padding : 0, error) &&
             place_tensors(tensors, file, entries, (size_t)count, c.at, (size_t)alignment, error);
    }
    for (uint64_t i = 0; entries && i < count; i++) free(entries[i].name);
    free(entries);
    return ok;
}
