/* A plug-in that is wrong in one way, as the definitions say. */
#include "device/cuda/gpu.h"

#include <string.h>

#ifndef FAKE_ABI
#define FAKE_ABI GPU_ABI
#endif
#ifndef FAKE_DEVICES
#define FAKE_DEVICES 1
#endif

#ifdef FAKE_UNRESOLVED
int acestep_nobody_has_this(void);
#endif

static void nothing(void) {}

static const char *message(int error)
{
#ifdef FAKE_SPEECHLESS
    (void)error;
    return NULL;
#else
    return error == 35 ? "the driver is older than CUDA 13" : "something else";
#endif
}

static int count(int *devices)
{
    *devices = FAKE_DEVICES;
#ifdef FAKE_UNRESOLVED
    return acestep_nobody_has_this();
#elif defined(FAKE_ERROR)
    return FAKE_ERROR;
#else
    return 0;
#endif
}

static int open_device(int device, gpu_context **context, gpu_properties *properties)
{
    (void)device;
    *context = NULL;
    memset(properties, 'x', sizeof *properties); /* texts without an end */
    return 35;
}

#ifdef FAKE_NAMELESS
#define acestep_gpu acestep_something_else
const gpu *acestep_gpu(void);
#endif

__attribute__((visibility("default"))) const gpu *acestep_gpu(void)
{
    static gpu functions;
    void (*filler)(void) = nothing;
    for (size_t i = offsetof(gpu, message); i < sizeof functions; i += sizeof filler)
        memcpy((char *)&functions + i, &filler, sizeof filler);
    functions.abi = FAKE_ABI;
    functions.message = message;
    functions.count = count;
    functions.open = open_device;
#ifdef FAKE_HOLE
    functions.silu = NULL;
#endif
#ifdef FAKE_NOTHING
    return NULL;
#else
    return &functions;
#endif
}
