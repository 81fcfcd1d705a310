/* fuzz_tensors.h - what the fuzzers of the tensor formats do with a file once it is open. */
#ifndef FUZZ_FUZZ_TENSORS_H
#define FUZZ_FUZZ_TENSORS_H

#include "formats/tensors_build.h"

#include <stdlib.h>
#include <string.h>

/* Reads a tensor's first and last few elements as float32 and bfloat16. A file cannot promise more than it has, so
 * reading stays inside `size` bytes; the sanitizers watch. */
static inline void fuzz_read(const ace_tensor *tensor)
{
    enum { MOST = 256, FEW = 8 };
    float values[MOST];
    uint16_t rounded[MOST];
    int64_t most = ace_dtype_block(tensor->dtype) == 1 ? FEW : ace_dtype_block(tensor->dtype);
    int64_t count = tensor->count < most ? tensor->count : most;
    tensor_read(tensor, 0, count, values, NULL);
    tensor_read_bf16(tensor, tensor->count - count, count, rounded, NULL);
}

static inline void fuzz_metadata(const ace_tensors *tensors)
{
    static const char *const keys[] = {"general.architecture", "text", "levels", "tokens", "u8", "format", "title"};
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        double number = 0;
        size_t length = 0, sum = 0, count = tensors_metadata_array_count(tensors, keys[k]);
        const char *text = tensors_metadata(tensors, keys[k]);
        if (text) sum += strlen(text);
        tensors_metadata_number(tensors, keys[k], &number);
        for (size_t i = 0; i < count && i < 64; i++) {
            const char *element = tensors_metadata_array_string(tensors, keys[k], i, &length);
            for (size_t c = 0; element && c < length; c++) sum += (unsigned char)element[c];
            tensors_metadata_array_number(tensors, keys[k], i, &number);
        }
        if (sum == SIZE_MAX) abort();
    }
}

/* Opens the bytes; the parser is named so that a seed of another format is not followed there. An error must have a
 * message, and an open set must be sorted. */
static inline void fuzz_tensors(const uint8_t *data, size_t size,
                                bool (*parser)(ace_tensors *, const tensors_file *, ace_error *))
{
    ace_error error = {0};
    bool zip = size >= 4 && memcmp(data, "PK\3\4", 4) == 0, gguf = size >= 4 && memcmp(data, "GGUF", 4) == 0;
    if (zip != (parser == torch_zip_parse) || gguf != (parser == gguf_parse)) return;
    ace_tensors *tensors = tensors_open_memory("fuzz", data, size, &error);
    if (!tensors) {
        if (error.status == ACE_OK || !error.message[0]) abort();
        return;
    }
    char hex[33];
    for (size_t i = 0; i < tensors_count(tensors); i++) {
        const ace_tensor *tensor = tensors_at(tensors, i);
        if (tensors_find(tensors, tensor->name) != tensor) abort();
        if (tensor->data < data || tensor->bytes > size - (size_t)(tensor->data - data)) abort();
        fuzz_read(tensor);
    }
    fuzz_metadata(tensors);
    tensors_hash(tensors, hex, NULL);
    tensors_close(tensors);
}

#endif
