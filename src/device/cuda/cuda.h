/* cuda.h - opening the CUDA device: device.h over the functions of gpu.h. */
#ifndef ACE_DEVICE_CUDA_CUDA_H
#define ACE_DEVICE_CUDA_CUDA_H

#include "device/device.h"

struct gpu;

typedef struct ace_cuda_options {
    ace_dtype precision;     /* ACE_F32 or ACE_BF16 */
    int device;              /* number of the GPU */
    const atomic_bool *stop; /* may be NULL; when it becomes true the device stops within a fraction of a second */
    const struct gpu *gpu;   /* the functions: of the plug-in, or emulated in tests; borrowed until the device closes */
} ace_cuda_options;

/* Opens a GPU. One thread at a time may use the device. NULL with an error that says what to do. */
ace_device *ace_cuda_open(const ace_cuda_options *options, ace_error *error);

/* Steps between ace_repeat_begin() and _end(), or parts of them, that ran as a recorded graph since opening. Where the
 * variable ACESTEP_CUDA_GRAPHS is 0 none does. */
long ace_cuda_recorded_steps(const ace_device *dev);

#endif
