#include "formats/tensors.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"
#include "formats/shards.h"
#include "formats/tensors_build.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

struct ace_tensors {
    tensors_file *files;
    size_t file_count;
    ace_tensor *tensors; /* sorted by name once the set is complete; name and type_name are owned */
    size_t count, capacity;
    tensors_value *values; /* sorted by key once the set is complete */
    size_t value_count, value_capacity;
};

/* ---- building ------------------------------------------------------------------------------------------------ */

bool tensors_damaged(ace_error *error, const char *path, const char *format, ...)
{
    char what[512];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return ace_fail(error, ACE_ERROR_FORMAT, "'%s' is damaged: %s; download it again", path, what);
}

bool tensors_measure(ace_tensor *tensor, size_t *bytes)
{
    int64_t count = 1;
    for (int i = 0; i < tensor->rank; i++)
        if (tensor->shape[i] < 0 || __builtin_mul_overflow(count, tensor->shape[i], &count)) return false;
    int64_t block = ace_dtype_block(tensor->dtype), row = tensor->rank ? tensor->shape[tensor->rank - 1] : 1;
    if (row % block != 0) return false;
    tensor->count = count;
    return ace_mul_size((size_t)(count / block), ace_dtype_block_bytes(tensor->dtype), bytes);
}

char *tensors_copy_string(const uint8_t *bytes, size_t n, const char *what, const char *path, ace_error *error)
{
    if (memchr(bytes, 0, n) || !ace_utf8_valid((const char *)bytes, n, NULL)) {
        tensors_damaged(error, path, "%s is not valid UTF-8 text", what);
        return NULL;
    }
    char *copy = ace_calloc(n + 1, 1, what, error);
    if (copy) memcpy(copy, bytes, n);
    return copy;
}

/* Room for one more element in a growing array; NULL, and the array as before, when there is none. */
static void *grow(void *array, size_t count, size_t *capacity, size_t size, const char *what, ace_error *error)
{
    if (count < *capacity) return array;
    size_t wanted = *capacity ? *capacity * 2 : 16;
    void *grown = ace_realloc(array, wanted, size, what, error);
    if (grown) *capacity = wanted;
    return grown;
}

bool tensors_add(ace_tensors *tensors, const ace_tensor *tensor, const char *name, size_t name_length,
                 const char *type_name, ace_error *error)
{
    ace_tensor *grown = grow(tensors->tensors, tensors->count, &tensors->capacity, sizeof *grown, "tensors", error);
    if (!grown) return false;
    tensors->tensors = grown;
    ace_tensor *added = &grown[tensors->count];
    *added = *tensor;
    char *copy = ace_calloc(name_length + 1, 1, "a tensor name", error);
    char *type = copy ? ace_strdup(type_name, error) : NULL;
    if (!type) {
        free(copy);
        return false;
    }
    memcpy(copy, name, name_length);
    added->name = copy;
    added->type_name = type;
    tensors->count++;
    return true;
}

static void free_value(tensors_value *value)
{
    free(value->key);
    free(value->string);
    free(value->offsets);
}

bool tensors_add_value(ace_tensors *tensors, tensors_value value, ace_error *error)
{
    if (tensors->file_count > 1) {
        free_value(&value);
        return true;
    }
    tensors_value *grown =
        grow(tensors->values, tensors->value_count, &tensors->value_capacity, sizeof *grown, "metadata", error);
    if (!grown) {
        free_value(&value);
        return false;
    }
    tensors->values = grown;
    grown[tensors->value_count++] = value;
    return true;
}

static int tensor_order(const void *a, const void *b)
{
    return strcmp(((const ace_tensor *)a)->name, ((const ace_tensor *)b)->name);
}

static int value_order(const void *a, const void *b)
{
    return strcmp(((const tensors_value *)a)->key, ((const tensors_value *)b)->key);
}

/* Sorts for look-up and refuses names that occur twice, in one file or in two. */
static bool finish(ace_tensors *tensors, ace_error *error)
{
    if (tensors->count) qsort(tensors->tensors, tensors->count, sizeof *tensors->tensors, tensor_order);
    if (tensors->value_count) qsort(tensors->values, tensors->value_count, sizeof *tensors->values, value_order);
    for (size_t i = 1; i < tensors->count; i++)
        if (tensor_order(&tensors->tensors[i - 1], &tensors->tensors[i]) == 0)
            return tensors_damaged(error, tensors->tensors[i].path, "tensor \"%s\" occurs twice",
                                   tensors->tensors[i].name);
    for (size_t i = 1; i < tensors->value_count; i++)
        if (value_order(&tensors->values[i - 1], &tensors->values[i]) == 0)
            return tensors_damaged(error, tensors->files[0].path, "metadata \"%s\" occurs twice",
                                   tensors->values[i].key);
    return true;
}

/* Recognises a file by its first bytes and adds its content. */
static bool parse(ace_tensors *tensors, const tensors_file *file, ace_error *error)
{
    const uint8_t *data = file->data;
    size_t size = file->size;
    if (size >= 4 && memcmp(data, "GGUF", 4) == 0) return gguf_parse(tensors, file, error);
    if (size >= 4 && memcmp(data, "PK\3\4", 4) == 0) return torch_zip_parse(tensors, file, error);
    static const char lfs[] = "version https://git-lfs";
    if (size >= sizeof lfs && memcmp(data, lfs, sizeof lfs - 1) == 0)
        return ace_fail(error, ACE_ERROR_FORMAT,
                        "'%s' is a Git LFS pointer, not the file itself: run 'git lfs pull' or download the file",
                        file->path);
    if (size >= 9 && data[8] == '{') return safetensors_parse(tensors, file, error);
    if (size == 0) return tensors_damaged(error, file->path, "it is empty");
    return ace_fail(error, ACE_ERROR_FORMAT,
                    "'%s' is neither safetensors, GGUF nor a torch zip file: check that it is the right file and "
                    "completely downloaded",
                    file->path);
}

/* Opens one more file and adds its content. */
static bool add_file(ace_tensors *tensors, const char *path, const tensors_file *borrowed, ace_error *error)
{
    tensors_file *grown = ace_realloc(tensors->files, tensors->file_count + 1, sizeof *grown, "a list of files", error);
    if (!grown) return false;
    tensors->files = grown;
    tensors_file *file = &grown[tensors->file_count];
    *file = borrowed ? *borrowed : (tensors_file){0};
    file->path = ace_strdup(path, error);
    if (!file->path) return false;
    tensors->file_count++;
    if (!borrowed) {
        if (!ace_map_open(&file->map, path, error)) return false;
        file->data = file->map.data;
        file->size = file->map.size;
    }
    return parse(tensors, file, error);
}

static ace_tensors *close_on_failure(ace_tensors *tensors, bool ok)
{
    if (ok) return tensors;
    tensors_close(tensors);
    return NULL;
}

/* Every tensor that the index promises must be there, in the shard it names. */
static bool check_index(const ace_tensors *tensors, const shard_index *index, const char *path, ace_error *error)
{
    for (size_t i = 0; i < index->count; i++) {
        const shard_entry *entry = &index->entries[i];
        const ace_tensor *tensor = tensors_find(tensors, entry->tensor);
        if (!tensor || strcmp(tensor->path, index->shards[entry->shard]) != 0)
            return ace_fail(error, ACE_ERROR_FORMAT,
                            "'%s' promises tensor \"%s\" in '%s', but it is not there: download the checkpoint again",
                            path, entry->tensor, index->shards[entry->shard]);
    }
    return true;
}

static ace_tensors *open_shards(const char *path, ace_error *error)
{
    shard_index index;
    if (!shard_index_read(&index, path, error)) return NULL;
    ace_tensors *tensors = ace_calloc(1, sizeof *tensors, "a set of tensors", error);
    bool ok = tensors != NULL;
    for (size_t i = 0; ok && i < index.shard_count; i++) ok = add_file(tensors, index.shards[i], NULL, error);
    ok = ok && finish(tensors, error) && check_index(tensors, &index, path, error);
    shard_index_free(&index);
    return close_on_failure(tensors, ok);
}

ace_tensors *tensors_open(const char *path, ace_error *error)
{
    static const char suffix[] = ".index.json";
    size_t n = strlen(path);
    if (n >= sizeof suffix && strcmp(path + n - (sizeof suffix - 1), suffix) == 0) return open_shards(path, error);
    ace_tensors *tensors = ace_calloc(1, sizeof *tensors, "a set of tensors", error);
    return close_on_failure(tensors, tensors && add_file(tensors, path, NULL, error) && finish(tensors, error));
}

ace_tensors *tensors_open_memory(const char *path, const uint8_t *data, size_t size, ace_error *error)
{
    tensors_file file = {.data = data, .size = size};
    ace_tensors *tensors = ace_calloc(1, sizeof *tensors, "a set of tensors", error);
    return close_on_failure(tensors, tensors && add_file(tensors, path, &file, error) && finish(tensors, error));
}

void tensors_close(ace_tensors *tensors)
{
    if (!tensors) return;
    for (size_t i = 0; i < tensors->count; i++) {
        free((char *)(uintptr_t)tensors->tensors[i].name);
        free((char *)(uintptr_t)tensors->tensors[i].type_name);
    }
    for (size_t i = 0; i < tensors->value_count; i++) free_value(&tensors->values[i]);
    for (size_t i = 0; i < tensors->file_count; i++) {
        ace_map_close(&tensors->files[i].map);
        free(tensors->files[i].path);
    }
    free(tensors->tensors);
    free(tensors->values);
    free(tensors->files);
    free(tensors);
}

/* ---- synthetic ----------------------------------------------------------------------------------------------- */

ace_tensors *tensors_new_synthetic(ace_error *error)
{
    return ace_calloc(1, sizeof(ace_tensors), "a set of tensors", error);
}

bool tensors_add_synthetic(ace_tensors *tensors, const char *name, ace_dtype dtype, int rank, const int64_t *shape,
                           float scale, float center, uint64_t seed, ace_error *error)
{
    ace_tensor tensor = {
        .dtype = dtype, .rank = rank, .path = "synthetic", .seed = seed, .scale = scale, .center = center};
    if (rank < 0 || rank > TENSOR_MAX_RANK || (dtype != ACE_F32 && dtype != ACE_BF16 && dtype != ACE_F16))
        return ace_fail(error, ACE_ERROR_INTERNAL, "synthetic tensor \"%s\": bad rank or dtype", name);
    for (int i = 0; i < rank; i++) tensor.shape[i] = shape[i];
    if (!tensors_measure(&tensor, &tensor.bytes))
        return ace_fail(error, ACE_ERROR_INTERNAL, "synthetic tensor \"%s\": bad shape", name);
    if (!tensors_add(tensors, &tensor, name, strlen(name), ace_dtype_name(dtype), error)) return false;
    /* kept sorted by insertion, so that the set is complete after every call */
    ace_tensor added = tensors->tensors[tensors->count - 1];
    size_t at = tensors->count - 1;
    while (at > 0 && strcmp(tensors->tensors[at - 1].name, name) > 0) at--;
    memmove(&tensors->tensors[at + 1], &tensors->tensors[at], (tensors->count - 1 - at) * sizeof added);
    tensors->tensors[at] = added;
    if (at > 0 && strcmp(tensors->tensors[at - 1].name, name) == 0)
        return ace_fail(error, ACE_ERROR_INTERNAL, "synthetic tensor \"%s\" occurs twice", name);
    return true;
}

/* ---- looking up ---------------------------------------------------------------------------------------------- */

const ace_tensor *tensors_find(const ace_tensors *tensors, const char *name)
{
    ace_tensor key = {.name = name};
    return tensors->count ? bsearch(&key, tensors->tensors, tensors->count, sizeof key, tensor_order) : NULL;
}

size_t tensors_count(const ace_tensors *tensors)
{
    return tensors->count;
}

const ace_tensor *tensors_at(const ace_tensors *tensors, size_t index)
{
    return index < tensors->count ? &tensors->tensors[index] : NULL;
}

static const tensors_value *find_value(const ace_tensors *tensors, const char *key, tensors_value_kind kind)
{
    tensors_value wanted = {.key = (char *)(uintptr_t)key};
    const tensors_value *value =
        tensors->value_count ? bsearch(&wanted, tensors->values, tensors->value_count, sizeof wanted, value_order)
                             : NULL;
    return value && value->kind == kind ? value : NULL;
}

const char *tensors_metadata(const ace_tensors *tensors, const char *key)
{
    const tensors_value *value = find_value(tensors, key, TENSORS_STRING);
    return value ? value->string : NULL;
}

bool tensors_metadata_number(const ace_tensors *tensors, const char *key, double *value)
{
    const tensors_value *found = find_value(tensors, key, TENSORS_NUMBER);
    if (found) *value = found->number;
    return found != NULL;
}

size_t tensors_metadata_array_count(const ace_tensors *tensors, const char *key)
{
    const tensors_value *value = find_value(tensors, key, TENSORS_STRING_ARRAY);
    if (!value) value = find_value(tensors, key, TENSORS_NUMBER_ARRAY);
    return value ? value->count : 0;
}

const char *tensors_metadata_array_string(const ace_tensors *tensors, const char *key, size_t i, size_t *length)
{
    const tensors_value *value = find_value(tensors, key, TENSORS_STRING_ARRAY);
    if (!value || i >= value->count) return NULL;
    const uint8_t *element = value->base + value->offsets[i];
    *length = (size_t)bytes_le64(element);
    return (const char *)element + 8;
}

bool tensors_metadata_array_number(const ace_tensors *tensors, const char *key, size_t i, double *value)
{
    const tensors_value *found = find_value(tensors, key, TENSORS_NUMBER_ARRAY);
    if (!found || i >= found->count) return false;
    *value = gguf_number(found->element_type, found->base + i * gguf_number_bytes(found->element_type));
    return true;
}

/* ---- identity ------------------------------------------------------------------------------------------------ */

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The next file in the order of names after `previous` (NULL: the first), NULL at the end. */
static const tensors_file *next_file(const ace_tensors *tensors, const tensors_file *previous)
{
    const tensors_file *next = NULL;
    for (size_t i = 0; i < tensors->file_count; i++) {
        const tensors_file *file = &tensors->files[i];
        if (previous && strcmp(file_name(file->path), file_name(previous->path)) <= 0) continue;
        if (!next || strcmp(file_name(file->path), file_name(next->path)) < 0) next = file;
    }
    return next;
}

/* Adds a file's bytes to the hash, looking at *stop often enough to end within a fraction of a second. */
static bool hash_file(XXH3_state_t *state, const tensors_file *file, const atomic_bool *stop)
{
    enum { PIECE = 8 << 20 };
    for (size_t at = 0; at < file->size; at += PIECE) {
        if (stop && atomic_load(stop)) return false;
        size_t n = file->size - at < PIECE ? file->size - at : PIECE;
        XXH3_128bits_update(state, file->data + at, n);
    }
    return true;
}

bool tensors_hash(const ace_tensors *tensors, char hex[33], const atomic_bool *stop)
{
    XXH3_state_t state;
    XXH3_128bits_reset(&state);
    for (const tensors_file *file = next_file(tensors, NULL); file; file = next_file(tensors, file))
        if (!hash_file(&state, file, stop)) return false;
    for (size_t i = 0; i < tensors->count; i++) {
        const ace_tensor *tensor = &tensors->tensors[i];
        if (tensor->data) continue;
        XXH3_128bits_update(&state, tensor->name, strlen(tensor->name) + 1);
        XXH3_128bits_update(&state, tensor->shape, sizeof tensor->shape);
        XXH3_128bits_update(&state, &tensor->seed, sizeof tensor->seed);
        XXH3_128bits_update(&state, &tensor->scale, sizeof tensor->scale);
        XXH3_128bits_update(&state, &tensor->center, sizeof tensor->center);
    }
    XXH128_canonical_t digest;
    XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(&state));
    for (size_t i = 0; i < sizeof digest.digest; i++) snprintf(hex + 2 * i, 3, "%02x", digest.digest[i]);
    return true;
}
