/* acestep-cuda-emulated.so: the plug-in made of the emulated GPU, so that the program as it is runs on "a GPU" where
 * there is none. ACESTEP_EMULATED_MIB is its memory, ACESTEP_EMULATED_CAPABILITY its compute capability (75, 80, 90).
 */
#include "device/cuda/emulation/emulated_gpu.h"

#include <stdlib.h>

__attribute__((visibility("default"))) const gpu *acestep_gpu(void)
{
    const char *mib = getenv("ACESTEP_EMULATED_MIB"), *capability = getenv("ACESTEP_EMULATED_CAPABILITY");
    gpu_emulated_settings settings = gpu_emulated_defaults();
    if (mib) settings.total_bytes = (size_t)strtoul(mib, NULL, 10) << 20;
    if (capability) {
        settings.capability[0] = atoi(capability) / 10;
        settings.capability[1] = atoi(capability) % 10;
    }
    if (mib || capability) gpu_emulated_set(&settings);
    return gpu_emulated();
}
