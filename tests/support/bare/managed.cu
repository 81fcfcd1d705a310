/* Memory that host and GPU both see, for tests that hand kernels what they allocated: tools/gpu-check compiles them
 * with malloc and free replaced by these. */
#include <cuda_runtime_api.h>

#include <stddef.h>

extern "C" void *bare_managed_alloc(size_t bytes)
{
    void *memory = NULL;
    return cudaMallocManaged(&memory, bytes ? bytes : 1, cudaMemAttachGlobal) == cudaSuccess ? memory : NULL;
}

extern "C" void bare_managed_free(void *memory)
{
    (void)cudaDeviceSynchronize(); /* as freeing it would let a kernel that still runs fail */
    (void)cudaFree(memory);
}
