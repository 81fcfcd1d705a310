/* state.h - the state of the CUDA device, shared by its files.
 *
 * The host queues work in two streams and does not wait for it. In `compute` are all operations and transfers of
 * matrices, in `copy` the loading of weights. What orders the two:
 *   - memory of a weight is written by `copy` only after the last operation that used what was there before has passed;
 *   - the next operation after a weight was loaded starts only after it has arrived.
 * Both are waits of one stream for an event of the other; the host reads and packs the next weight meanwhile. */
#ifndef ACE_DEVICE_CUDA_STATE_H
#define ACE_DEVICE_CUDA_STATE_H

#include "device/backend.h"
#include "device/cpu/quantised.h"
#include "device/cuda/gpu.h"
#include "device/cuda/heap.h"
#include "device/cuda/record.h"

/* Host memory that copies run from on their own, in turns: while one slot is copied the next one is filled. */
typedef struct cuda_slot {
    char *data;
    gpu_event *passed; /* after the copies of what was in it */
    bool pending;      /* those may still be running */
} cuda_slot;

enum { CUDA_SLOTS = 2 };

typedef struct cuda_staging {
    gpu_stream *stream; /* that copies from it */
    size_t bytes;       /* of a slot */
    cuda_slot slots[CUDA_SLOTS];
    int current;
    size_t filled; /* of the current slot */
} cuda_staging;

/* Marks in the stream of operations: `at` operations have passed when the event has. */
typedef struct cuda_mark {
    gpu_event *event;
    uint64_t at;
} cuda_mark;

enum { CUDA_MARKS = 16 };

/* Bytes of device memory that operations have in turns: matrices pass through it that are converted on their way to and
 * from the host, weights that are moved, and partial results of attention. */
enum { CUDA_TRANSIT = 4 << 20 };

typedef struct cuda_backend {
    const gpu *gpu;
    gpu_context *context;
    gpu_properties properties;
    int device;
    gpu_stream *compute, *copy;

    /* packing */
    ace_pool *pool;
    const cpu_quantised *quantised; /* packs on the host */
    char *rows;                     /* one workspace for each thread of the pool */
    size_t rows_bytes;              /* of one of them */

    /* memory: ranges of addresses, of which only a part has memory behind it */
    size_t range; /* bytes of the weights' and of the scratch's range each */
    char *weights, *scratch, *transit;
    heap *heap;
    size_t scratch_committed;

    /* transfers */
    cuda_staging loading, uploading, downloading;
    gpu_event *loaded;
    bool arriving; /* weights were queued in `copy` that no operation has waited for */

    cuda_slot sends[ACE_SENDS]; /* choices on their way */

    /* how far the host is ahead */
    cuda_mark marks[CUDA_MARKS];
    int next_mark;              /* the oldest one */
    uint64_t queued, passed;    /* operations; those known to have passed */
    double flops, bytes;        /* the device's counts at the last mark */
    uint64_t marked;            /* operations at the last mark */
    uint64_t freed, loose_used; /* operations when a weight was freed, or last used in a way that names no weight */

    cuda_recorder recorder;
} cuda_backend;

static inline cuda_backend *cuda_of(const ace_device *dev)
{
    return dev->backend;
}

static inline size_t cuda_up(size_t n, size_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

/* ---- queue.c ------------------------------------------------------------------------------------------------- */

/* Makes a GPU's error the device's failure; true when there was none. */
bool cuda_check(ace_device *dev, int error, const char *doing);
/* The same as an error. */
bool cuda_fail(const cuda_backend *c, int gpu_error, const char *doing, ace_error *error);

bool cuda_queue_open(cuda_backend *c, ace_error *error);
void cuda_queue_close(cuda_backend *c);

/* Due before an operation is queued: what was put off comes first. True when it may be queued. */
bool cuda_begin(ace_device *dev);
/* Due after it: counts it, and waits where the host is too far ahead. */
void cuda_queued(ace_device *dev, int error, const char *operation);

/* The same for operations that are queued together and counted already: that weights have arrived, and the waiting. */
bool cuda_ready(ace_device *dev);
void cuda_paced(ace_device *dev);

/* Waits for an event, or until the device is stopped. */
bool cuda_wait(ace_device *dev, gpu_event *event);

/* Has the loading of weights wait until so many operations have passed. */
bool cuda_copy_after(ace_device *dev, uint64_t operations);

/* `bytes` of a slot, at most its size, aligned to 64; NULL with the device's failure. */
char *cuda_stage(ace_device *dev, cuda_staging *s, size_t bytes);

void cuda_upload(ace_device *dev, ace_mat y, const float *host);
void cuda_download(ace_device *dev, float *host, ace_mat x);
void cuda_send_choices(ace_device *dev, int place, ace_mat choices);
void cuda_receive_choices(ace_device *dev, int place, float *host, int64_t rows);

/* ---- weights.c ----------------------------------------------------------------------------------------------- */

size_t cuda_weight_bytes(const ace_device *dev, const ace_weight_desc *desc);
bool cuda_weight_pack(ace_device *dev, ace_weight *weight, ace_row_reader reader, void *context, ace_error *error);

/* A PRODUCT or GATED weight as kernels see it. */
gpu_weight cuda_weight_of(const ace_device *dev, const ace_weight_desc *desc, const void *data);

/* ---- operations.c -------------------------------------------------------------------------------------------- */

size_t cuda_product_scratch(const ace_device *dev, const ace_weight_desc *desc, int64_t rows);
gpu_mat cuda_mat_of(ace_mat m);

void cuda_conv1d(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w, const ace_conv *conv,
                 const ace_epilogue *epilogue, void *room);
void cuda_linear_silu_mul(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w, void *room);
void cuda_attention(ace_device *dev, ace_mat o, ace_mat q, ace_mat k, ace_mat v, const ace_attention_shape *shape);
void cuda_attention_growing(ace_device *dev, ace_mat o, ace_mat q, ace_mat k, ace_mat v,
                            const ace_attention_shape *shape, ace_number keys);
void cuda_snake(ace_device *dev, ace_mat y, ace_mat x, const ace_snake_weights *snake);
void cuda_rms_norm(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w, float eps, ace_mat scale, ace_mat shift);
void cuda_head_norm_rope(ace_device *dev, ace_mat x, int head_dim, const ace_weight *w, float eps, ace_mat rope,
                         int64_t first_position);
void cuda_embed(ace_device *dev, ace_mat y, const ace_weight *table, const int32_t *ids, int64_t count);
void cuda_logits(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *table, int64_t first, const int32_t *ids);
void cuda_sample(ace_device *dev, ace_mat choices, ace_mat values, ace_mat unconditional, const ace_sampling *sampling,
                 const double *uniform);
void cuda_embed_choices(ace_device *dev, ace_mat y, const ace_weight *table, int64_t first, ace_mat choices);
void cuda_copy(ace_device *dev, ace_mat y, ace_mat x);
void cuda_append(ace_device *dev, ace_mat y, ace_mat x, ace_number first);
void cuda_add(ace_device *dev, ace_mat y, ace_mat a, ace_mat b);
void cuda_silu(ace_device *dev, ace_mat y, ace_mat x);

#endif
