/* tensors_build.h - how the parser of a format fills a set of tensors. For this room, its tests and fuzzers. */
#ifndef ACE_FORMATS_TENSORS_BUILD_H
#define ACE_FORMATS_TENSORS_BUILD_H

#include "formats/tensors.h"

/* One file of a set: path for messages, and its bytes, which outlive the set. */
typedef struct tensors_file {
    char *path;
    const uint8_t *data;
    size_t size;
    ace_map map; /* empty when the bytes belong to somebody else */
} tensors_file;

typedef enum tensors_value_kind {
    TENSORS_STRING,
    TENSORS_NUMBER,
    TENSORS_STRING_ARRAY,
    TENSORS_NUMBER_ARRAY
} tensors_value_kind;

/* A metadata value. */
typedef struct tensors_value {
    tensors_value_kind kind;
    char *key;
    char *string;          /* STRING */
    double number;         /* NUMBER */
    size_t count;          /* arrays */
    const uint8_t *base;   /* arrays: the first element in the file */
    size_t *offsets;       /* STRING_ARRAY: from base to the u64 length of each element */
    uint32_t element_type; /* NUMBER_ARRAY: GGUF type */
} tensors_value;

/* The file formats. Each adds all tensors and metadata of one file whose bytes are hostile. */
bool safetensors_parse(ace_tensors *tensors, const tensors_file *file, ace_error *error);
bool gguf_parse(ace_tensors *tensors, const tensors_file *file, ace_error *error);
bool torch_zip_parse(ace_tensors *tensors, const tensors_file *file, ace_error *error);

/* A number of a GGUF scalar type at p. */
double gguf_number(uint32_t type, const uint8_t *p);
size_t gguf_number_bytes(uint32_t type);

/* Computes tensor->count from rank and shape, and returns in *bytes what that many elements of the dtype occupy. False
 * on a negative dimension, overflow, or a row that is no whole number of blocks. */
bool tensors_measure(ace_tensor *tensor, size_t *bytes);

/* Adds a tensor; copies name and type_name (name_length bytes, which must not hold a NUL). */
bool tensors_add(ace_tensors *tensors, const ace_tensor *tensor, const char *name, size_t name_length,
                 const char *type_name, ace_error *error);

/* Adds a value and takes over its key, string and offsets, also on failure. Only the first file's metadata are kept. */
bool tensors_add_value(ace_tensors *tensors, tensors_value value, ace_error *error);

/* A copy of n bytes as a string; error when they hold a NUL or are not UTF-8 (`what` and `path` are for its message).
 */
char *tensors_copy_string(const uint8_t *bytes, size_t n, const char *what, const char *path, ace_error *error);

/* tensors_open() on bytes that belong to the caller and outlive the set; `path` is for messages. */
ace_tensors *tensors_open_memory(const char *path, const uint8_t *data, size_t size, ace_error *error);

/* "'path' is damaged: <what>; download it again" as ACE_ERROR_FORMAT. Returns false. */
bool tensors_damaged(ace_error *error, const char *path, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* ---- values -------------------------------------------------------------------------------------------------- */

/* `count` elements (whole blocks) of a dtype as float32. F64 is rounded, integers are converted. */
void dequantize(ace_dtype dtype, const uint8_t *data, int64_t count, float *values);

/* Elements [first, first + count) of a synthetic tensor. */
void synthetic_values(const ace_tensor *tensor, int64_t first, int64_t count, float *values);

#endif
