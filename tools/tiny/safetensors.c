/* safetensors.c - writing safetensors files: an 8-byte header length, a JSON header, the data. */
#include "tiny.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>

bool tiny_write_text(const char *directory, const char *name, ace_text *text, ace_error *error)
{
    ace_new_file file;
    size_t length = text->length;
    char *bytes = ace_text_take(text, error);
    char *path = ace_path_join(directory, name, error);
    bool ok = bytes != NULL && path != NULL && ace_new_file_begin(&file, path, true, error);
    if (ok) {
        ok = ace_write_all(file.fd, bytes, length, path, error) && ace_new_file_commit(&file, error);
        ace_new_file_abandon(&file);
    }
    free(path);
    free(bytes);
    return ok;
}

static size_t tensor_bytes(const tiny_tensor *tensor, ace_dtype dtype)
{
    size_t bytes = dtype == ACE_F32 ? 4 : 2;
    for (int d = 0; d < tensor->rank; d++) bytes *= (size_t)tensor->shape[d];
    return bytes;
}

/* The header of the tensors [first, end), padded with spaces to a multiple of 8 as the format asks. */
static void write_header(ace_text *header, const tiny_model *model, size_t first, size_t end, const char *prefix,
                         ace_dtype dtype)
{
    size_t offset = 0;
    ace_text_add(header, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = first; i < end; i++) {
        const tiny_tensor *tensor = &model->tensors[i];
        size_t bytes = tensor_bytes(tensor, dtype);
        ace_text_format(header, ",\"%s%s\":{\"dtype\":\"%s\",\"shape\":[", prefix, tensor->name, ace_dtype_name(dtype));
        for (int d = 0; d < tensor->rank; d++) {
            ace_text_format(header, d > 0 ? ",%lld" : "%lld", (long long)tensor->shape[d]);
        }
        ace_text_format(header, "],\"data_offsets\":[%zu,%zu]}", offset, offset + bytes);
        offset += bytes;
    }
    ace_text_add(header, "}");
    while (!header->failed && header->length % 8 != 0) ace_text_add(header, " ");
}

static bool write_range(const char *path, const tiny_model *model, size_t first, size_t end, const char *prefix,
                        ace_dtype dtype, ace_error *error)
{
    ace_text header = {0};
    ace_new_file file;
    write_header(&header, model, first, end, prefix, dtype);
    size_t length = header.length;
    char *json = ace_text_take(&header, error);
    if (json == NULL || !ace_new_file_begin(&file, path, true, error)) {
        free(json);
        return false;
    }
    uint8_t size[8];
    for (int b = 0; b < 8; b++) size[b] = (uint8_t)((uint64_t)length >> (8 * b));
    bool ok =
        ace_write_all(file.fd, size, sizeof size, path, error) && ace_write_all(file.fd, json, length, path, error);
    for (size_t i = first; ok && i < end; i++) {
        size_t bytes;
        uint8_t *values = tiny_values(&model->tensors[i], dtype, &bytes, error);
        ok = values != NULL && ace_write_all(file.fd, values, bytes, path, error);
        free(values);
    }
    ok = ok && ace_new_file_commit(&file, error);
    ace_new_file_abandon(&file);
    free(json);
    return ok;
}

bool tiny_write_safetensors(const char *directory, const char *name, const tiny_model *model, const char *prefix,
                            ace_dtype dtype, ace_error *error)
{
    if (model->failed) return ace_fail(error, ACE_ERROR_MEMORY, "no memory for the tensor list of %s", name);
    char *path = ace_path_join(directory, name, error);
    bool ok = path != NULL && write_range(path, model, 0, model->count, prefix, dtype, error);
    free(path);
    return ok;
}

/* The end of the shard that begins at `first`: the first tensor behind the shard's share of the bytes. */
static size_t shard_end(const tiny_model *model, size_t first, size_t share, ace_dtype dtype)
{
    size_t bytes = 0, end = first;
    while (end < model->count && bytes < share) bytes += tensor_bytes(&model->tensors[end++], dtype);
    return end;
}

bool tiny_write_shards(const char *directory, const tiny_model *model, int shards, ace_dtype dtype, ace_error *error)
{
    if (model->failed) return ace_fail(error, ACE_ERROR_MEMORY, "no memory for the tensor list of %s", directory);
    size_t total = 0, first = 0;
    for (size_t i = 0; i < model->count; i++) total += tensor_bytes(&model->tensors[i], dtype);

    ace_text index = {0};
    ace_text_format(&index, "{\n  \"metadata\": {\n    \"total_size\": %zu\n  },\n  \"weight_map\": {", total);
    bool ok = true;
    for (int shard = 1; ok && shard <= shards; shard++) {
        size_t end = shard == shards ? model->count : shard_end(model, first, total / (size_t)shards, dtype);
        char name[64];
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", shard, shards);
        for (size_t i = first; i < end; i++) {
            ace_text_format(&index, "%s\n    \"%s\": \"%s\"", i > 0 ? "," : "", model->tensors[i].name, name);
        }
        char *path = ace_path_join(directory, name, error);
        ok = path != NULL && write_range(path, model, first, end, "", dtype, error);
        free(path);
        first = end;
    }
    ace_text_add(&index, "\n  }\n}\n");
    ok = ok && tiny_write_text(directory, "model.safetensors.index.json", &index, error);
    ace_text_free(&index);
    return ok;
}
