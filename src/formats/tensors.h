/* tensors.h - a set of named tensors from the files of one checkpoint part, whatever their format.
 *
 * Nothing is copied: a tensor's data point into the mapped file, at any alignment. Every offset, size and shape has
 * been checked against the file before a set is handed out; the values themselves have not (see tensor_read).
 *
 * A tensor of a type that this program does not compute with (F8, Q4_0, ...) does not make the file unreadable: it is
 * listed with dtype ACE_UNSUPPORTED and its type_name, and reading it is the error.
 *
 * A set never changes after it was opened: any number of threads may find and read at once. */
#ifndef ACE_FORMATS_TENSORS_H
#define ACE_FORMATS_TENSORS_H

#include "base/dtype.h"
#include "base/file.h"

#include <acestep.h>

#include <stdatomic.h>

enum { TENSOR_MAX_RANK = 8 };

typedef struct ace_tensor {
    const char *name;
    ace_dtype dtype;
    const char *type_name;          /* the type as the file calls it, for messages */
    int rank;                       /* 0 for a scalar */
    int64_t shape[TENSOR_MAX_RANK]; /* row-major, last index fastest (PyTorch order) */
    int64_t count;                  /* elements */
    const uint8_t *data;            /* into the mapped file; NULL when synthetic */
    size_t bytes;
    const char *path; /* the file, for messages */
    size_t offset;    /* of the data in that file, bytes */
    uint64_t seed;    /* synthetic only: see tensors_new_synthetic */
    float scale, center;
} ace_tensor;

typedef struct ace_tensors ace_tensors;

/* Opens one file by what its first bytes are: safetensors, GGUF, or a torch zip with one float32 tensor (which
 * gets the name "data"); or a "*.safetensors.index.json" with its shards. */
ace_tensors *tensors_open(const char *path, ace_error *error);
void tensors_close(ace_tensors *tensors);

/* NULL when there is none of that name. */
const ace_tensor *tensors_find(const ace_tensors *tensors, const char *name);

size_t tensors_count(const ace_tensors *tensors);
const ace_tensor *tensors_at(const ace_tensors *tensors, size_t index); /* sorted by name */

/* The value of a metadata string: safetensors "__metadata__" (of the first shard) or GGUF key; NULL when absent or not
 * a string. */
const char *tensors_metadata(const ace_tensors *tensors, const char *key);

/* GGUF metadata of other types. Each returns false when the key is absent or of another type. Booleans are 0 or 1. */
bool tensors_metadata_number(const ace_tensors *tensors, const char *key, double *value);

/* GGUF arrays (tokenizer.ggml.tokens, .merges, acestep.fsq_input_levels): the number of elements, 0 when absent; a
 * string element, not NUL-terminated, its bytes in `*length`, unchecked UTF-8, NULL beyond the end or when the array
 * holds no strings; and a number element. */
size_t tensors_metadata_array_count(const ace_tensors *tensors, const char *key);
const char *tensors_metadata_array_string(const ace_tensors *tensors, const char *key, size_t i, size_t *length);
bool tensors_metadata_array_number(const ace_tensors *tensors, const char *key, size_t i, double *value);

/* XXH3-128 over the content of all files, in the order of their names without directories: identifies the weights.
 * Hex, 32 digits. Of a synthetic set: over the descriptions of its tensors. Gigabytes may have to come from a disk:
 * when *stop (NULL: never) becomes true it gives up and returns false. */
bool tensors_hash(const ace_tensors *tensors, char hex[33], const atomic_bool *stop);

/* A set without files whose tensors are made of random numbers when they are read: real dimensions without a download,
 * for benchmarks. */
ace_tensors *tensors_new_synthetic(ace_error *error);

/* Adds a tensor of normal-like values with the given standard deviation and mean; the values depend only on name,
 * seed and index. */
bool tensors_add_synthetic(ace_tensors *tensors, const char *name, ace_dtype dtype, int rank, const int64_t *shape,
                           float scale, float center, uint64_t seed, ace_error *error);

/* Reads `count` elements from `first` (both multiples of the dtype's block) as float32, exactly (block formats: as
 * their definition in ggml computes them in float32). NaN or infinity is an error naming file, tensor and index. */
bool tensor_read(const ace_tensor *tensor, int64_t first, int64_t count, float *values, ace_error *error);

/* The same rounded to bfloat16, nearest even; a copy when the tensor is BF16 already. A finite value too large for
 * bfloat16 is an error as well. */
bool tensor_read_bf16(const ace_tensor *tensor, int64_t first, int64_t count, uint16_t *values, ace_error *error);

/* The blocks themselves of a tensor of blocks, whose dtype must be `blocks`: checked like values, and copied. */
bool tensor_read_blocks(const ace_tensor *tensor, int64_t first, int64_t count, ace_dtype blocks, void *copy,
                        ace_error *error);

/* Hints about a tensor's pages of the mapped file: they will be read soon; they need not stay in memory. */
void tensor_will_need(const ace_tensor *tensor);
void tensor_not_needed(const ace_tensor *tensor);

#endif
