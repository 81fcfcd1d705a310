/* record.h - steps that come again, recorded once as graphs of the GPU.
 *
 * Between ace_repeat_begin() and _end() operations of kernels are not queued but put into a list, as the arguments of
 * their kernels. When something else is to be queued, when the list is long, and at the end, the list is carried out:
 * when the same list was carried out before, byte for byte, from a graph, so that the host gives one command for all of
 * it. A list that comes for the first time is queued plainly, and remembered; when it comes again its graph is made.
 * Lists of long operations are queued plainly always: the GPU is busy with one while the host queues the next.
 *
 * So nothing stale can run: a weight or a matrix at another address, or of another shape, is another list. What a list
 * does depends on its bytes alone. */
#ifndef ACE_DEVICE_CUDA_RECORD_H
#define ACE_DEVICE_CUDA_RECORD_H

#include "device/backend.h"
#include "device/cuda/gpu.h"

typedef enum cuda_kind {
    CUDA_PRODUCT = 1,
    CUDA_ATTENTION,
    CUDA_NORM,
    CUDA_HEAD_NORM,
    CUDA_SNAKE,
    CUDA_COPY,
    CUDA_APPEND,
    CUDA_ADD,
    CUDA_SILU
} cuda_kind;

/* Operands of operations that have no structure of their own in gpu.h. */
typedef struct cuda_rows {
    gpu_mat y, x, b;
    const float *alpha, *inv_beta, *first;
} cuda_rows;

/* An operation that may be recorded. Fill it member by member, not with structures: bytes between the members would
 * come along, which differ though nothing does. */
typedef struct cuda_operation {
    cuda_kind kind;
    union {
        gpu_product product;
        gpu_attention attention;
        gpu_norm norm;
        gpu_head_norm head_norm;
        cuda_rows rows;
    } of;
} cuda_operation;

enum {
    CUDA_LIST = 1024,     /* operations of a list, at most */
    CUDA_RECORDINGS = 32, /* lists that are remembered, at most */
    CUDA_RECORDED = 1024, /* their operations */
    /* Bytes of device memory that an operation in a graph takes. The documentation of CUDA tells none; drivers have
     * been seen to take this much for a kernel. Unverified. */
    CUDA_RECORDED_BYTES = 64 << 10
};

/* A list that was carried out. */
typedef struct cuda_recording {
    cuda_operation *list;
    int count;
    void *graph;   /* NULL: came once */
    uint64_t used; /* when it came the last time */
} cuda_recording;

typedef struct cuda_recorder {
    bool on;              /* off: nothing is recorded, since a person wishes so, or since a graph could not be made */
    bool open;            /* between begin and end */
    cuda_operation *list; /* [CUDA_LIST] */
    int count;            /* put off */
    double flops, bytes;  /* the device's counts where the list began */
    cuda_recording recordings[CUDA_RECORDINGS];
    uint64_t now; /* lists so far */
    long launched;
} cuda_recorder;

struct cuda_backend;

bool cuda_record_open(struct cuda_backend *c, ace_error *error);
void cuda_record_close(struct cuda_backend *c);

/* Between the two, operations are put off. After the second nothing is. */
void cuda_repeat_begin(ace_device *dev);
void cuda_repeat_end(ace_device *dev);

/* Where the next operation's arguments go, all zero but for the kind. */
cuda_operation *cuda_operation_new(ace_device *dev, cuda_kind kind);
/* Queues it, or puts it off. */
void cuda_operate(ace_device *dev);

/* Queues what was put off; a device that has failed forgets it. */
void cuda_flush(ace_device *dev);

#endif
