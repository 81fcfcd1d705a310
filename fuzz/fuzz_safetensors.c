/* A safetensors file from hostile bytes: opened, looked up, and every tensor read. */
#include "fuzz_tensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_tensors(data, size, safetensors_parse);
    return 0;
}
