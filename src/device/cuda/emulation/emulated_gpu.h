/* emulated_gpu.h - a GPU made of host memory and the emulator, for tests: all of gpu.h, and what a test may do to it.
 */
#ifndef ACE_DEVICE_CUDA_EMULATION_EMULATED_GPU_H
#define ACE_DEVICE_CUDA_EMULATION_EMULATED_GPU_H

#include "device/cuda/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The functions. There is one such GPU in the process; it may be opened several times. */
const gpu *gpu_emulated(void);

/* Error numbers that message() explains; a failed kernel's message says which and why. */
enum {
    GPU_EMULATED_NO_MEMORY = 2,
    GPU_EMULATED_MISUSE,   /* an argument, or a call that is not allowed now */
    GPU_EMULATED_KERNEL,   /* a kernel did what it must not; stays until the context is closed, as on a GPU */
    GPU_EMULATED_INJECTED, /* by gpu_emulated_fail_at() */
    GPU_EMULATED_NO_DEVICE
};

typedef enum gpu_emulated_order {
    GPU_EMULATED_FORWARD,
    GPU_EMULATED_REVERSE,
    GPU_EMULATED_SHUFFLED
} gpu_emulated_order;

/* What the emulated GPU is; taken up at the next open(), but for `delayed` and `order`, which act at once. */
typedef struct gpu_emulated_settings {
    int devices;              /* that count() finds */
    int capability[2];        /* {9, 0} */
    size_t total_bytes;       /* of its memory */
    size_t context_bytes;     /* of that, gone once it is open */
    size_t page_bytes;        /* a power of two of at least 4096 */
    int delayed;              /* nothing runs before something waits for it, and then nothing else does */
    gpu_emulated_order order; /* of a block's threads, and of blocks */
    uint64_t seed;            /* for the shuffled order */
} gpu_emulated_settings;

gpu_emulated_settings gpu_emulated_defaults(void);
void gpu_emulated_set(const gpu_emulated_settings *settings);

/* The n-th call from now (n >= 1) that can fail does so with this error number, and does nothing; 0: none. Returns the
 * number of such calls since the last time. */
long gpu_emulated_fail_at(long n, int error);

typedef struct gpu_emulated_counts {
    size_t committed, committed_peak;      /* bytes of device memory, graphs among them */
    size_t reserved;                       /* bytes of addresses */
    size_t host_bytes;                     /* of host_alloc() */
    int contexts, streams, events, graphs; /* open now */
    long launches;                         /* kernels that ran */
    long graph_launches;
    long commands; /* kernels, copies and graphs that the host queued, but for what was kept in a graph */
} gpu_emulated_counts;

gpu_emulated_counts gpu_emulated_count(void);

/* The peak begins anew from what is committed now. */
void gpu_emulated_reset_peak(void);

#ifdef __cplusplus
}
#endif

#endif
