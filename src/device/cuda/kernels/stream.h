/* stream.h - what a stream of the plug-in is: for runtime.cu, which makes it, and for the launchers of kernels/, which
 * queue work in it. The emulation has a stream of its own; kernels see neither. */
#ifndef ACE_DEVICE_CUDA_KERNELS_STREAM_H
#define ACE_DEVICE_CUDA_KERNELS_STREAM_H

#include "device/cuda/gpu.h"

#include <cuda_runtime_api.h>

struct gpu_stream {
    gpu_context *context; /* whose device is the calling thread's current one while a launcher runs */
    cudaStream_t stream;
    int device;          /* the runtime's number */
    int capability[2];   /* {8, 6} */
    int multiprocessors; /* on which blocks run */
    size_t shared_bytes; /* of memory that one block may share, with opting in */
    size_t cache_bytes;  /* of the second-level cache */
};

#endif
