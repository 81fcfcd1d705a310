/* runtime.cu - struct gpu over CUDA: devices, memory, streams, events and graphs. The kernels' launchers are in
 * kernels/.
 *
 * The runtime is linked statically and finds the driver itself at run time, so that this library loads everywhere and
 * says what is missing. Memory comes from the driver's virtual memory management, whose functions the runtime hands
 * out: an address range is reserved once and filled with pages as the plan says, so that nothing ever moves. Error
 * numbers are the runtime's, which since CUDA 10.1 are the driver's, too; from FIRST_OWN on they are our own. */
#include "device/cuda/kernels/language.h"
#include "device/cuda/kernels/table.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_OWN = 1000000, NO_DRIVER = FIRST_OWN, OLD_DRIVER, OLD_DEVICE, NO_PAGES, NO_HOST_MEMORY };

enum { DEVICES = 64 };

/* The driver's functions that the runtime has no counterpart of. */
struct driver {
    CUresult (*address_reserve)(CUdeviceptr *, size_t, size_t, CUdeviceptr, unsigned long long);
    CUresult (*address_free)(CUdeviceptr, size_t);
    CUresult (*create)(CUmemGenericAllocationHandle *, size_t, const CUmemAllocationProp *, unsigned long long);
    CUresult (*release)(CUmemGenericAllocationHandle);
    CUresult (*map)(CUdeviceptr, size_t, size_t, CUmemGenericAllocationHandle, unsigned long long);
    CUresult (*unmap)(CUdeviceptr, size_t);
    CUresult (*set_access)(CUdeviceptr, size_t, const CUmemAccessDesc *, size_t);
    CUresult (*granularity)(size_t *, const CUmemAllocationProp *, CUmemAllocationGranularity_flags);
    CUresult (*attribute)(int *, CUdevice_attribute, CUdevice);
};

struct gpu_context {
    int device; /* the runtime's number */
    gpu_properties properties;
    struct driver driver;
    CUmemAllocationProp page; /* what a page of memory is */
};

struct gpu_stream {
    gpu_context *context;
    cudaStream_t stream;
};

struct gpu_event {
    gpu_context *context;
    cudaEvent_t event;
};

/* ---- errors -------------------------------------------------------------------------------------------------- */

static const char *message(int error)
{
    switch (error) {
    case NO_DRIVER:
        return "NVIDIA's driver is not installed, or not in this container: install it (on Ubuntu: sudo "
               "ubuntu-drivers install), start containers with --gpus all";
    case OLD_DRIVER:
    case cudaErrorInsufficientDriver:
        return "NVIDIA's driver is older than the CUDA version that this plug-in was built with: update the driver, or "
               "build the plug-in with an older toolkit";
    case OLD_DEVICE:
        return "the GPU is too old: compute capability 7.5 is the least (GeForce 16 and RTX 20, Quadro RTX, T4)";
    case NO_PAGES:
        return "this GPU or its driver has no virtual memory management (some virtual GPUs do not): use --device cpu";
    case NO_HOST_MEMORY:
        return "not enough memory of the computer: close other programs";
    case cudaErrorMemoryAllocation:
        return "not enough free memory on the GPU: another program may have taken it (nvidia-smi shows them)";
    case cudaErrorNoDevice:
        return "the driver shows no GPU: CUDA_VISIBLE_DEVICES may hide it, or the container was started without --gpus";
    case cudaErrorInvalidDevice:
        return "there is no GPU of that number: `acestep gpu` lists them";
    case cudaErrorDevicesUnavailable:
        return "the GPU is in use exclusively by another program (nvidia-smi -c 0 lets several use it), or it is "
               "divided (MIG) and no instance was made or chosen";
    case cudaErrorECCUncorrectable:
        return "the GPU's memory had an uncorrectable error (ECC): reset or restart the machine; if it comes again, "
               "the card is failing (nvidia-smi -q -d ECC)";
    case cudaErrorSystemNotReady:
        return "the machine's GPUs are not ready: start nvidia-fabricmanager, or wait for it";
    case cudaErrorSystemDriverMismatch:
        return "parts of NVIDIA's driver are of different versions: restart the machine after an update";
    case cudaErrorCompatNotSupportedOnDevice:
        return "CUDA's forward compatibility package does not support this GPU: remove it from the library path";
    case cudaErrorNoKernelImageForDevice:
        return "this plug-in was built without code for this GPU: build it with its architecture (docs/cuda.md)";
    case cudaErrorUnsupportedPtxVersion:
        return "NVIDIA's driver is too old to translate this plug-in's code for this GPU: update the driver";
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorIllegalInstruction:
        return "a computation on the GPU broke off (illegal address or instruction): this is a bug, please report it";
    case cudaErrorLaunchTimeout:
        return "the display driver stopped a computation that took too long: use a GPU without a monitor";
    case cudaErrorUnknown:
    case cudaErrorOperatingSystem:
    case cudaErrorInitializationError:
        return "NVIDIA's driver cannot start: its kernel module nvidia_uvm may be missing (sudo modprobe nvidia_uvm), "
               "or the machine was suspended (restart)";
    default:
        return cudaGetErrorString((cudaError_t)error);
    }
}

/* The runtime keeps the last error of a thread, and would report it to the next launch that asks. */
static int failed(cudaError_t error)
{
    if (error != cudaSuccess) (void)cudaGetLastError();
    return (int)error;
}

/* ---- devices ------------------------------------------------------------------------------------------------- */

static int check_driver(void)
{
    int driver = 0;
    cudaError_t error = cudaDriverGetVersion(&driver);
    if (error != cudaSuccess || driver == 0) return NO_DRIVER;
    return driver / 1000 < CUDART_VERSION / 1000 ? OLD_DRIVER : 0; /* within a major version all work together */
}

static int count(int *devices)
{
    *devices = 0;
    int error = check_driver();
    return error ? error : failed(cudaGetDeviceCount(devices));
}

/* The runtime's number of our device number `device`. The runtime begins with the fastest card; we count along the bus,
 * as nvidia-smi does. Where a person chose and ordered the cards (CUDA_VISIBLE_DEVICES), that order holds. */
static int numbered(int device, int *number)
{
    int devices = 0, order[DEVICES];
    char places[DEVICES][20];
    int error = count(&devices);
    if (error) return error;
    if (devices > DEVICES) devices = DEVICES;
    if (device < 0 || device >= devices) return cudaErrorInvalidDevice;
    *number = device;
    if (getenv("CUDA_VISIBLE_DEVICES")) return 0;
    for (int i = 0; i < devices; i++) {
        error = failed(cudaDeviceGetPCIBusId(places[i], (int)sizeof places[i], i));
        if (error) return error;
        int at = i;
        for (; at > 0 && strcmp(places[order[at - 1]], places[i]) > 0; at--) order[at] = order[at - 1];
        order[at] = i;
    }
    *number = order[device];
    return 0;
}

/* Makes the context's device the calling thread's. */
static int use(const gpu_context *c)
{
    return failed(cudaSetDevice(c->device));
}

static int find_function(const char *name, void *target)
{
    void *function = NULL;
    cudaDriverEntryPointQueryResult found;
#if CUDART_VERSION >= 12050
    cudaError_t error = cudaGetDriverEntryPointByVersion(name, &function, 11000, cudaEnableDefault, &found);
#else
    cudaError_t error = cudaGetDriverEntryPoint(name, &function, cudaEnableDefault, &found);
#endif
    if (error != cudaSuccess) return failed(error);
    if (found != cudaDriverEntryPointSuccess || !function) return NO_PAGES;
    memcpy(target, &function, sizeof function);
    return 0;
}

static int find_functions(struct driver *d)
{
    const struct {
        const char *name;
        void *target;
    } functions[] = {
        {"cuMemAddressReserve", &d->address_reserve},
        {"cuMemAddressFree", &d->address_free},
        {"cuMemCreate", &d->create},
        {"cuMemRelease", &d->release},
        {"cuMemMap", &d->map},
        {"cuMemUnmap", &d->unmap},
        {"cuMemSetAccess", &d->set_access},
        {"cuMemGetAllocationGranularity", &d->granularity},
        {"cuDeviceGetAttribute", &d->attribute},
    };
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        int error = find_function(functions[i].name, functions[i].target);
        if (error) return error;
    }
    return 0;
}

/* Bytes in use on the device before it has a context of ours, which only the management library tells: all of them,
 * other programs' too. 0: unknown. */
static size_t used_bytes(int device)
{
    struct memory {
        unsigned long long total, free, used;
    } memory = {0, 0, 0};
    char place[20];
    void *handle = NULL;
    size_t used = 0;
    if (cudaDeviceGetPCIBusId(place, (int)sizeof place, device) != cudaSuccess) return 0;
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return 0;
    int (*init)(void), (*shutdown)(void), (*find)(const char *, void **), (*ask)(void *, struct memory *);
    const struct {
        const char *name;
        void *target;
    } functions[] = {{"nvmlInit_v2", &init},
                     {"nvmlShutdown", &shutdown},
                     {"nvmlDeviceGetHandleByPciBusId_v2", &find},
                     {"nvmlDeviceGetMemoryInfo", &ask}};
    bool all = true;
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *function = dlsym(library, functions[i].name);
        memcpy(functions[i].target, &function, sizeof function);
        all = all && function;
    }
    if (all && init() == 0) {
        if (find(place, &handle) == 0 && ask(handle, &memory) == 0) used = (size_t)memory.used;
        shutdown();
    }
    dlclose(library);
    return used;
}

/* ACESTEP_CUDA_CAPABILITY=75: the kernels of an older GPU are chosen, to test them on a newer one. */
static void pretend(int capability[2])
{
    const char *text = getenv("ACESTEP_CUDA_CAPABILITY");
    int wanted = text ? atoi(text) : 0;
    if (wanted < 75 || wanted >= capability[0] * 10 + capability[1]) return;
    capability[0] = wanted / 10;
    capability[1] = wanted % 10;
}

static int describe(gpu_context *c)
{
    gpu_properties *p = &c->properties;
    cudaDeviceProp device;
    int driver = 0, error = failed(cudaGetDeviceProperties(&device, c->device));
    if (error) return error;
    (void)cudaDriverGetVersion(&driver);
    snprintf(p->name, sizeof p->name, "%.95s", device.name);
    snprintf(p->driver, sizeof p->driver, "CUDA %d.%d", driver / 1000, driver % 1000 / 10);
    p->capability[0] = device.major;
    p->capability[1] = device.minor;
    p->multiprocessors = device.multiProcessorCount;
    p->shared_bytes = device.sharedMemPerBlockOptin;
    p->cache_bytes = (size_t)device.l2CacheSize;
    if (device.major * 10 + device.minor < 75) return OLD_DEVICE;
    pretend(p->capability);
    return 0;
}

static int prepare_memory(gpu_context *c)
{
    int error = find_functions(&c->driver), managed = 0;
    if (error) return error;
    c->page = CUmemAllocationProp();
    c->page.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    c->page.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    c->page.location.id = c->device;
    error = (int)c->driver.attribute(&managed, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, c->device);
    if (error || !managed) return error ? error : NO_PAGES;
    return (int)c->driver.granularity(&c->properties.page_bytes, &c->page, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
}

static int start(gpu_context *c, int device)
{
    int error = numbered(device, &c->device);
    if (!error) error = describe(c); /* before the context stands: a GPU that is too old is not touched */
    if (error) return error;
    size_t before = used_bytes(c->device), after;
    error = use(c);
    if (!error) error = failed(cudaFree(NULL)); /* makes the context, should setting the device not have done it */
    if (!error) error = prepare_memory(c);
    if (error) return error;
    after = used_bytes(c->device);
    c->properties.context_bytes = before && after > before ? after - before : 0;
    return 0;
}

static int open_device(int device, gpu_context **context, gpu_properties *properties)
{
    *context = NULL;
    gpu_context *c = (gpu_context *)calloc(1, sizeof *c);
    if (!c) return NO_HOST_MEMORY;
    int error = start(c, device);
    if (error) {
        free(c);
        return error;
    }
    *context = c;
    *properties = c->properties;
    return 0;
}

/* The device's context is the process's and may be somebody else's, too: it stays until the end. */
static void close_device(gpu_context *c)
{
    free(c);
}

/* ---- memory -------------------------------------------------------------------------------------------------- */

static int reserve(gpu_context *c, size_t bytes, void **address)
{
    CUdeviceptr at = 0;
    int error = use(c);
    if (!error) error = (int)c->driver.address_reserve(&at, bytes, 0, 0, 0);
    *address = error ? NULL : (void *)at;
    return error;
}

static int unreserve(gpu_context *c, void *address, size_t bytes)
{
    int error = use(c);
    return error ? error : (int)c->driver.address_free((CUdeviceptr)address, bytes);
}

/* Takes the pages of a range away; goes on after an error, and returns the first. */
static int unmap(gpu_context *c, CUdeviceptr address, size_t bytes)
{
    int first = 0;
    for (size_t done = 0; done < bytes; done += c->properties.page_bytes) {
        int error = (int)c->driver.unmap(address + done, c->properties.page_bytes);
        if (error && !first) first = error;
    }
    return first;
}

/* One page at `address`. Its memory is the mapping's from then on, and goes with it. */
static int map_page(gpu_context *c, CUdeviceptr address)
{
    CUmemGenericAllocationHandle handle;
    size_t bytes = c->properties.page_bytes;
    int error = (int)c->driver.create(&handle, bytes, &c->page, 0);
    if (error) return error;
    error = (int)c->driver.map(address, bytes, 0, handle, 0);
    (void)c->driver.release(handle);
    return error;
}

static int commit(gpu_context *c, void *address, size_t bytes)
{
    CUmemAccessDesc access = CUmemAccessDesc();
    access.location = c->page.location;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    size_t done = 0;
    int error = use(c);
    for (; !error && done < bytes; done += error ? 0 : c->properties.page_bytes)
        error = map_page(c, (CUdeviceptr)address + done);
    if (!error) error = (int)c->driver.set_access((CUdeviceptr)address, bytes, &access, 1);
    if (error) (void)unmap(c, (CUdeviceptr)address, done);
    return error;
}

static int decommit(gpu_context *c, void *address, size_t bytes)
{
    int error = use(c);
    if (!error) error = failed(cudaDeviceSynchronize());
    int unmapped = unmap(c, (CUdeviceptr)address, bytes); /* in any case, or the memory would be lost */
    return error ? error : unmapped;
}

static int memory(gpu_context *c, size_t *free, size_t *total)
{
    int error = use(c);
    return error ? error : failed(cudaMemGetInfo(free, total));
}

static int host_alloc(gpu_context *c, size_t bytes, void **address)
{
    *address = NULL;
    int error = use(c);
    if (!error) error = failed(cudaHostAlloc(address, bytes, cudaHostAllocPortable));
    return error == cudaErrorMemoryAllocation ? NO_HOST_MEMORY : error;
}

static void host_free(gpu_context *c, void *address)
{
    if (use(c) == 0) (void)failed(cudaFreeHost(address));
}

/* ---- streams and events -------------------------------------------------------------------------------------- */

static int stream_open(gpu_context *c, gpu_stream **stream)
{
    *stream = NULL;
    gpu_stream *s = (gpu_stream *)calloc(1, sizeof *s);
    if (!s) return NO_HOST_MEMORY;
    s->context = c;
    int error = use(c);
    if (!error) error = failed(cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking));
    if (error)
        free(s);
    else
        *stream = s;
    return error;
}

/* What launchers ask of a stream, as language.h declares it. */
cudaStream_t gpu_stream_native(gpu_stream *stream)
{
    return stream->stream;
}

const gpu_properties *gpu_stream_properties(const gpu_stream *stream)
{
    return &stream->context->properties;
}

static void stream_close(gpu_stream *s)
{
    if (use(s->context) == 0) (void)failed(cudaStreamDestroy(s->stream));
    free(s);
}

static int stream_wait(gpu_stream *s)
{
    int error = use(s->context);
    return error ? error : failed(cudaStreamSynchronize(s->stream));
}

static int event_open(gpu_context *c, gpu_event **event)
{
    *event = NULL;
    gpu_event *e = (gpu_event *)calloc(1, sizeof *e);
    if (!e) return NO_HOST_MEMORY;
    e->context = c;
    int error = use(c);
    if (!error) error = failed(cudaEventCreateWithFlags(&e->event, cudaEventDisableTiming));
    if (error)
        free(e);
    else
        *event = e;
    return error;
}

static void event_close(gpu_event *e)
{
    if (use(e->context) == 0) (void)failed(cudaEventDestroy(e->event));
    free(e);
}

static int event_record(gpu_event *e, gpu_stream *s)
{
    int error = use(s->context);
    return error ? error : failed(cudaEventRecord(e->event, s->stream));
}

static int event_wait(gpu_event *e)
{
    int error = use(e->context);
    return error ? error : failed(cudaEventSynchronize(e->event));
}

static int stream_wait_event(gpu_stream *s, gpu_event *e)
{
    int error = use(s->context);
    return error ? error : failed(cudaStreamWaitEvent(s->stream, e->event, 0));
}

static int event_passed(gpu_event *e)
{
    if (use(e->context) != 0) return -1;
    int error = failed(cudaEventQuery(e->event));
    return error == cudaSuccess ? 1 : error == cudaErrorNotReady ? 0 : -1;
}

static int copy_in(gpu_stream *s, void *device, const void *host, size_t bytes)
{
    int error = use(s->context);
    return error ? error : failed(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, s->stream));
}

static int copy_out(gpu_stream *s, void *host, const void *device, size_t bytes)
{
    int error = use(s->context);
    return error ? error : failed(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, s->stream));
}

static int zero(gpu_stream *s, void *device, size_t bytes)
{
    int error = use(s->context);
    return error ? error : failed(cudaMemsetAsync(device, 0, bytes, s->stream));
}

/* ---- graphs --------------------------------------------------------------------------------------------------
 *
 * What is called while a stream is captured is allowed there: launches, whose arguments are copied, and
 * cudaFuncSetAttribute(). The mode concerns the calling thread alone; others may allocate meanwhile. Kernels are loaded
 * by their first launch, which may wait for the device: whoever captures has launched the same before. */

static int graph_begin(gpu_stream *s)
{
    int error = use(s->context);
    return error ? error : failed(cudaStreamBeginCapture(s->stream, cudaStreamCaptureModeThreadLocal));
}

static int graph_end(gpu_stream *s, void **graph)
{
    *graph = NULL;
    cudaGraph_t kept = NULL;
    cudaGraphExec_t ready = NULL;
    int error = failed(cudaStreamEndCapture(s->stream, &kept)); /* ends it also where the capture had failed */
#if CUDART_VERSION >= 12000
    if (!error) error = failed(cudaGraphInstantiate(&ready, kept, 0));
#else
    if (!error) error = failed(cudaGraphInstantiate(&ready, kept, NULL, NULL, 0));
#endif
    if (kept) (void)failed(cudaGraphDestroy(kept));
    *graph = ready;
    return error;
}

static int graph_launch(gpu_stream *s, void *graph)
{
    int error = use(s->context);
    return error ? error : failed(cudaGraphLaunch((cudaGraphExec_t)graph, s->stream));
}

static void graph_free(gpu_context *c, void *graph)
{
    if (use(c) == 0) (void)failed(cudaGraphExecDestroy((cudaGraphExec_t)graph));
}

/* ---- kernels: any thread may queue them ---------------------------------------------------------------------- */

static int product(gpu_stream *s, const gpu_product *p)
{
    int error = use(s->context);
    return error ? error : gpu_kernel_product(s, p);
}

static int attention(gpu_stream *s, const gpu_attention *a)
{
    int error = use(s->context);
    return error ? error : gpu_kernel_attention(s, a);
}

static int rms_norm(gpu_stream *s, const gpu_norm *n)
{
    int error = use(s->context);
    return error ? error : gpu_kernel_rms_norm(s, n);
}

static int head_norm_rope(gpu_stream *s, const gpu_head_norm *n)
{
    int error = use(s->context);
    return error ? error : gpu_kernel_head_norm_rope(s, n);
}

static int snake(gpu_stream *s, gpu_mat y, gpu_mat x, const float *alpha, const float *inv_beta)
{
    int error = use(s->context);
    return error ? error : gpu_kernel_snake(s, y, x, alpha, inv_beta);
}

static int embed(gpu_stream *s, const gpu_embedding *e)
{
    int error = use(s->context);
    return error ? error : gpu_kernel_embed(s, e);
}

static int logits(gpu_stream *s, const gpu_embedding *e)
{
    int error = use(s->context);
    return error ? error : gpu_kernel_logits(s, e);
}

static int sample(gpu_stream *s, const gpu_sampling *sampling)
{
    int error = use(s->context);
    return error ? error : gpu_kernel_sample(s, sampling);
}

static int embed_choices(gpu_stream *s, gpu_mat y, gpu_mat table, int64_t first, gpu_mat choices)
{
    int error = use(s->context);
    return error ? error : gpu_kernel_embed_choices(s, y, table, first, choices);
}

static int copy(gpu_stream *s, gpu_mat y, gpu_mat x)
{
    int error = use(s->context);
    return error ? error : gpu_kernel_copy(s, y, x);
}

static int append(gpu_stream *s, gpu_mat y, gpu_mat x, const float *first)
{
    int error = use(s->context);
    return error ? error : gpu_kernel_append(s, y, x, first);
}

static int add(gpu_stream *s, gpu_mat y, gpu_mat a, gpu_mat b)
{
    int error = use(s->context);
    return error ? error : gpu_kernel_add(s, y, a, b);
}

static int silu(gpu_stream *s, gpu_mat y, gpu_mat x)
{
    int error = use(s->context);
    return error ? error : gpu_kernel_silu(s, y, x);
}

/* ---- the table, in the order of gpu.h ------------------------------------------------------------------------ */

extern "C" __attribute__((visibility("default"))) const gpu *acestep_gpu(void)
{
    static const gpu functions = {GPU_ABI,
                                  message,
                                  count,
                                  open_device,
                                  close_device,
                                  reserve,
                                  unreserve,
                                  commit,
                                  decommit,
                                  memory,
                                  host_alloc,
                                  host_free,
                                  stream_open,
                                  stream_close,
                                  stream_wait,
                                  event_open,
                                  event_close,
                                  event_record,
                                  event_wait,
                                  stream_wait_event,
                                  event_passed,
                                  copy_in,
                                  copy_out,
                                  zero,
                                  graph_begin,
                                  graph_end,
                                  graph_launch,
                                  graph_free,
                                  gpu_kernel_product_room,
                                  product,
                                  gpu_kernel_attention_room,
                                  attention,
                                  rms_norm,
                                  head_norm_rope,
                                  snake,
                                  embed,
                                  logits,
                                  sample,
                                  embed_choices,
                                  copy,
                                  append,
                                  add,
                                  silu};
    return &functions;
}
