/* backend.h - what a device implements. Only src/device/ includes this.
 *
 * device.c checks shapes, counts, and keeps the sticky failure; a backend gets only calls that are well formed, with at
 * least one row, and may assume everything device.h promises. */
#ifndef ACE_DEVICE_BACKEND_H
#define ACE_DEVICE_BACKEND_H

#include "device/device.h"

typedef struct ace_backend_ops {
    void (*close)(ace_device *dev);

    /* Bytes of the stored form of a weight: pure, also used by the meter. */
    size_t (*weight_bytes)(const ace_device *dev, const ace_weight_desc *desc);
    /* Fills weight->data (allocated by device.c through alloc) from the reader. */
    bool (*weight_pack)(ace_device *dev, ace_weight *weight, ace_row_reader reader, void *context, ace_error *error);

    /* Bytes of scratch that a product of so many rows with such a weight takes while it runs: pure, also used by the
     * meter. */
    size_t (*product_scratch)(const ace_device *dev, const ace_weight_desc *desc, int64_t rows);

    /* Memory of a weight. */
    void *(*alloc)(ace_device *dev, size_t bytes, const char *what, ace_error *error);
    void (*free)(ace_device *dev, void *data);

    /* Memory of the scratch, of which there is one at a time. grow() is called before more than ever since the
     * reservation or the last discard() is used, `bytes` from its start; NULL where that takes nothing. What discard()
     * gets may be given back to the system until then. */
    void *(*scratch_reserve)(ace_device *dev, size_t bytes, const char *what, ace_error *error);
    bool (*scratch_grow)(ace_device *dev, size_t bytes, ace_error *error);
    void (*scratch_discard)(ace_device *dev, void *data, size_t bytes);
    void (*scratch_free)(ace_device *dev, void *data);

    void (*upload)(ace_device *dev, ace_mat y, const float *host);
    void (*download)(ace_device *dev, float *host, ace_mat x);
    /* linear is conv1d with one tap; room: product_scratch() bytes */
    void (*conv1d)(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w, const ace_conv *conv,
                   const ace_epilogue *epilogue, void *room);
    void (*linear_silu_mul)(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w, void *room);
    void (*snake)(ace_device *dev, ace_mat y, ace_mat x, const ace_snake_weights *snake);
    void (*rms_norm)(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w, float eps, ace_mat scale,
                     ace_mat shift);
    void (*head_norm_rope)(ace_device *dev, ace_mat x, int head_dim, const ace_weight *w, float eps, ace_mat rope,
                           int64_t first_position);
    void (*attention)(ace_device *dev, ace_mat o, ace_mat q, ace_mat k, ace_mat v, const ace_attention_shape *shape);
    void (*embed)(ace_device *dev, ace_mat y, const ace_weight *table, const int32_t *ids, int64_t count);
    void (*logits)(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *table, int64_t first, const int32_t *ids);
    /* these four are NULL where the device does not sample */
    void (*sample)(ace_device *dev, ace_mat choices, ace_mat values, ace_mat unconditional,
                   const ace_sampling *sampling, const double *uniform);
    void (*embed_choices)(ace_device *dev, ace_mat y, const ace_weight *table, int64_t first, ace_mat choices);
    void (*send_choices)(ace_device *dev, int place, ace_mat choices);
    void (*receive_choices)(ace_device *dev, int place, float *host, int64_t rows);
    void (*copy)(ace_device *dev, ace_mat y, ace_mat x);
    void (*add)(ace_device *dev, ace_mat y, ace_mat a, ace_mat b);
    void (*silu)(ace_device *dev, ace_mat y, ace_mat x);

    /* All NULL, or none. The end is told of a device that has failed meanwhile, too. The operations with numbers are
     * called between the two only, y, k and v as the caller gave them. */
    void (*repeat_begin)(ace_device *dev);
    void (*repeat_end)(ace_device *dev);
    void (*append)(ace_device *dev, ace_mat y, ace_mat x, ace_number first);
    void (*attention_growing)(ace_device *dev, ace_mat o, ace_mat q, ace_mat k, ace_mat v,
                              const ace_attention_shape *shape, ace_number keys);
} ace_backend_ops;

struct ace_weight {
    ace_weight_desc desc; /* name is not kept */
    ace_dtype dtype;      /* of the stored values */
    size_t bytes;
    void *data;    /* device memory; NULL on the meter */
    uint64_t used; /* for the backend: when it was last used */
};

struct ace_device {
    const ace_backend_ops *ops;
    char name[96];
    bool meter;
    bool apart;     /* its memory is not the host's */
    bool samples;   /* it has ace_sample() */
    bool repeating; /* between ace_repeat_begin() and ace_repeat_end() */
    ace_dtype act;
    bool prefers_int8;
    size_t near_bytes;
    const atomic_bool *stop;
    ace_error failure;
    ace_device_stats stats;
    char *scratch;        /* the reservation; NULL on the meter */
    size_t scratch_limit; /* bytes reserved; SIZE_MAX on the meter */
    char *host;           /* the second stack, of a device that is apart; NULL on the meter */
    size_t host_limit;
    size_t limit;  /* of all memory; 0: none */
    void *backend; /* the backend's own state */
};

enum { ACE_SCRATCH_ALIGN = 64 };

static inline size_t ace_mat_element(ace_mat m)
{
    return ace_dtype_block_bytes(m.dtype);
}

static inline void *ace_mat_row(ace_mat m, int64_t row)
{
    return (char *)m.data + (size_t)(row * m.stride) * ace_mat_element(m);
}

/* The dtype in which a backend of activation type `act` stores a weight. */
ace_dtype ace_weight_stored_dtype(const ace_device *dev, const ace_weight_desc *desc);

#endif
