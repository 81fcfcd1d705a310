/* The real GPU in the emulated one's place, for tools/gpu-check: the same tests then run on it. What only an emulated
 * GPU can do (delays, orders, faults, counting) is left undone; a smaller compute capability can be pretended. */
#include "device/cuda/emulation/emulated_gpu.h"

#include <stdio.h>
#include <stdlib.h>

const gpu *gpu_emulated(void)
{
    return acestep_gpu();
}

gpu_emulated_settings gpu_emulated_defaults(void)
{
    return (gpu_emulated_settings){.devices = 1, .capability = {9, 0}};
}

void gpu_emulated_set(const gpu_emulated_settings *settings)
{
    char capability[16];
    snprintf(capability, sizeof capability, "%d", settings->capability[0] * 10 + settings->capability[1]);
    setenv("ACESTEP_CUDA_CAPABILITY", capability, 1);
}

long gpu_emulated_fail_at(long n, int error)
{
    (void)n, (void)error;
    return 0;
}

gpu_emulated_counts gpu_emulated_count(void)
{
    return (gpu_emulated_counts){0};
}

void gpu_emulated_reset_peak(void) {}
