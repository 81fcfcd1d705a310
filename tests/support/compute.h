/* compute.h - the device of a test: the CPU, or, where the test is built once more with TEST_ON_GPU, an emulated GPU of
 * that compute capability (75 for 7.5), on which nothing happens before it is waited for. */
#ifndef TESTS_SUPPORT_COMPUTE_H
#define TESTS_SUPPORT_COMPUTE_H

#include "device/device.h"

#ifdef TEST_ON_GPU
#include "device/cuda/cuda.h"
#include "device/cuda/emulation/emulated_gpu.h"
#endif

/* NULL with an error, as ace_cpu_open(); a GPU has neither threads nor instruction sets to choose. */
static inline ace_device *open_compute(const ace_cpu_options *options, ace_error *error)
{
#ifdef TEST_ON_GPU
    gpu_emulated_settings settings = gpu_emulated_defaults();
    settings.delayed = 1;
    settings.capability[0] = TEST_ON_GPU / 10;
    settings.capability[1] = TEST_ON_GPU % 10;
    gpu_emulated_set(&settings);
    return ace_cuda_open(
        &(ace_cuda_options){.precision = options->precision, .stop = options->stop, .gpu = gpu_emulated()}, error);
#else
    return ace_cpu_open(options, error);
#endif
}

/* Steps that the device has run from a recording; a CPU records none. */
static inline long test_recorded_steps(const ace_device *dev)
{
#ifdef TEST_ON_GPU
    return ace_cuda_recorded_steps(dev);
#else
    (void)dev;
    return 0;
#endif
}

#endif
