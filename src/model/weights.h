/* weights.h - tensors of a part become weights of a device. A model's loader is one straight list of these calls: the
 * first failure (missing, misshapen, not finite, out of memory) sticks in the device and names the tensor. */
#ifndef ACE_MODEL_WEIGHTS_H
#define ACE_MODEL_WEIGHTS_H

#include "device/device.h"
#include "model/checkpoint.h"

/* What happens to the file's pages. */
typedef enum weights_use {
    WEIGHTS_KEPT,    /* read once: nothing */
    WEIGHTS_PASSING, /* read again and again: the pages are given back after each reading */
    WEIGHTS_AHEAD    /* will be read soon: the pages are asked for, no weight is made and all calls return NULL */
} weights_use;

/* How the layers of a model are stored. A NULL pointer to it, as all zero: loaded once, in the device's precision. */
typedef struct layer_storage {
    bool streamed; /* a layer is loaded when it is needed, and freed: slower, with the memory of one layer, the same
                      result. The part must outlive the model. */
    int resident;  /* of streamed layers as many stay all the same, spread evenly; only encoder stacks look at it */
    ace_weight_form form; /* of the layers' Linears: see ace_weight_set. Shows in the result. */
} layer_storage;

/* The weights of one model: loaded, counted and freed together. */
typedef struct ace_weight_set {
    weights_use use; /* may be set after weights_begin() */
    /* Asked for by the Linears that follow, stacked and gated ones too; may be set at any time. One that cannot have
     * the form is plain: INT4 where `in` is not a multiple of 32; BLOCKS where the file has no GGUF blocks, or parts of
     * a stack have blocks of different types. */
    ace_weight_form form;
    ace_device *dev;
    const ace_part *part;
    ace_weight **weights;
    size_t count, capacity;
    size_t next; /* the one to be made, or to be filled again */
} ace_weight_set;

void weights_begin(ace_weight_set *set, ace_device *dev, const ace_part *part);
void weights_free(ace_weight_set *set); /* safe on a half-loaded set and twice */

/* The next calls fill the set's weights again, in their memory, with those of another layer. A weight that differs from
 * its predecessor in more than its values takes its place. */
void weights_again(ace_weight_set *set);

/* Names are official names with printf-like arguments expanded by the caller into `name`. Shapes must be exact. */

/* A Linear [out, in]. */
ace_weight *weights_linear(ace_weight_set *set, int64_t out, int64_t in, const char *name);

/* Up to WEIGHTS_MAX_STACK Linears [out, in] of the same input as one product: q, k, v. */
enum { WEIGHTS_MAX_STACK = 4 };

typedef struct ace_linear_part {
    const char *name;
    int64_t out;
} ace_linear_part;
ace_weight *weights_linear_stack(ace_weight_set *set, int64_t in, const ace_linear_part *parts, int count);

/* gate_proj and up_proj, each [intermediate, hidden], as one GATED weight. */
ace_weight *weights_gated(ace_weight_set *set, int64_t intermediate, int64_t hidden, const char *gate, const char *up);

/* A 1-D tensor, or any tensor of n elements flattened ([1, C, 1], [1, 6, H], ...). */
ace_weight *weights_vector(ace_weight_set *set, int64_t n, const char *name);

/* A table of rows [rows, cols]; a tensor of higher rank ([1, 5, cols], ...) is flattened. rows = 0: as many as the file
 * has (ace_weight_n() tells). Kept as BF16 when the file has BF16. */
ace_weight *weights_table(ace_weight_set *set, int64_t rows, int64_t cols, const char *name);

/* Any weight from float32 values computed on the host (fused convolutions, repacked patches), canonical order. */
ace_weight *weights_from_host(ace_weight_set *set, const ace_weight_desc *desc, const float *values);

/* Any weight whose rows `reader` makes when the device asks for them, so that no whole copy lives on the host (weight
 * norm fused row by row). The reader is not called on the meter. */
ace_weight *weights_from_reader(ace_weight_set *set, const ace_weight_desc *desc, ace_row_reader reader, void *context);

/* A tensor of exactly this shape; NULL with the device's failure set otherwise. */
const ace_tensor *weights_tensor(ace_weight_set *set, const char *name, int rank, const int64_t *shape);

#endif
