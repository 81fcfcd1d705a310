/* A torch zip file from hostile bytes: opened, and its storage read. */
#include "fuzz_tensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_tensors(data, size, torch_zip_parse);
    return 0;
}
