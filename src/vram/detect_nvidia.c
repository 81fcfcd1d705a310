/* NVIDIA's cards, through the management library (NVML), which tells free memory and who uses it without starting a
 * context; where it is missing, through the driver. Both are loaded at run time by their published, versioned C
 * interface, so this program neither needs nor contains anything of theirs. */
#include "vram/detect_parts.h"
#include "vram/sysfile.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

enum { CARDS_MAX = 64 };
static const uint64_t implausible = UINT64_C(1) << 50;

/* ---- loading ---- */

typedef struct symbol {
    const char *name;
    void *target; /* where the function pointer goes */
    bool optional;
} symbol;

/* Opens a library and finds its functions. NULL with the problem. */
static void *load(const char *name, const symbol *symbols, int count, detect_problem *problem, char detail[200])
{
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *why = dlerror();
        *problem = DETECT_NO_LIBRARY;
        snprintf(detail, 200, "%s", why ? why : name);
        return NULL;
    }
    for (int i = 0; i < count; i++) {
        void *function = dlsym(library, symbols[i].name);
        if (!function && !symbols[i].optional) {
            *problem = DETECT_BAD_LIBRARY;
            snprintf(detail, 200, "%s: %s", name, symbols[i].name);
            dlclose(library);
            return NULL;
        }
        memcpy(symbols[i].target, &function, sizeof function); /* POSIX: a function's address fits in void * */
    }
    return library;
}

/* A total and a free amount that can be true; else the card is marked. */
static void take_memory(detect_device *d, uint64_t total, bool free_known, uint64_t free)
{
    if (total == 0 || total >= implausible || (free_known && free > total)) {
        d->problem = DETECT_IMPLAUSIBLE;
        snprintf(d->detail, sizeof d->detail, "%llu bytes, %llu free", (unsigned long long)total,
                 (unsigned long long)free);
        return;
    }
    d->total = total;
    d->free = free;
    d->total_known = true;
    d->free_known = free_known;
}

/* ---- NVML ---- */

enum {
    NVML_SUCCESS = 0,
    NVML_NOT_SUPPORTED = 3,
    NVML_NO_PERMISSION = 4,
    NVML_INSUFFICIENT_SIZE = 7,
    NVML_MISMATCH = 18
};

typedef struct nvml_memory {
    unsigned long long total, free, used;
} nvml_memory;

typedef struct nvml_pci {
    char legacy_id[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
} nvml_pci;

typedef struct nvml_process {
    unsigned pid;
    unsigned long long bytes;
    unsigned gpu_instance, compute_instance;
} nvml_process;

typedef struct nvml {
    int (*init)(void);
    int (*shutdown)(void);
    const char *(*error_text)(int code);
    int (*count)(unsigned *count);
    int (*handle)(unsigned index, void **device);
    int (*name)(void *device, char *name, unsigned size);
    int (*memory)(void *device, nvml_memory *memory);
    /* optional */
    int (*version)(char *version, unsigned size);
    int (*pci)(void *device, nvml_pci *pci);
    int (*uuid)(void *device, char *uuid, unsigned size);
    int (*capability)(void *device, int *major, int *minor);
    int (*mig)(void *device, unsigned *current, unsigned *pending);
    int (*compute)(void *device, unsigned *count, nvml_process *processes);
    int (*graphics)(void *device, unsigned *count, nvml_process *processes);
} nvml;

static void *nvml_load(const char *name, nvml *n, detect_problem *problem, char detail[200])
{
    const symbol symbols[] = {
        {"nvmlInit_v2", &n->init, false},
        {"nvmlShutdown", &n->shutdown, false},
        {"nvmlErrorString", &n->error_text, false},
        {"nvmlDeviceGetCount_v2", &n->count, false},
        {"nvmlDeviceGetHandleByIndex_v2", &n->handle, false},
        {"nvmlDeviceGetName", &n->name, false},
        {"nvmlDeviceGetMemoryInfo", &n->memory, false},
        {"nvmlSystemGetDriverVersion", &n->version, true},
        {"nvmlDeviceGetPciInfo_v3", &n->pci, true},
        {"nvmlDeviceGetUUID", &n->uuid, true},
        {"nvmlDeviceGetCudaComputeCapability", &n->capability, true},
        {"nvmlDeviceGetMigMode", &n->mig, true},
        {"nvmlDeviceGetComputeRunningProcesses_v3", &n->compute, true},
        {"nvmlDeviceGetGraphicsRunningProcesses_v3", &n->graphics, true},
    };
    return load(name, symbols, sizeof symbols / sizeof *symbols, problem, detail);
}

static void nvml_said(const nvml *n, int code, char detail[200])
{
    const char *text = n->error_text(code);
    snprintf(detail, 200, "%.150s (NVML %d)", text ? text : "", code);
    detect_clean(detail);
}

static void add_users(const detect_places *places, detect_device *d, void *device,
                      int (*list)(void *device, unsigned *count, nvml_process *processes))
{
    enum { PROCESSES = 64 };
    nvml_process processes[PROCESSES] = {0};
    unsigned count = PROCESSES;
    int code = list ? list(device, &count, processes) : NVML_NOT_SUPPORTED;
    if (code == NVML_INSUFFICIENT_SIZE) d->more_users = true;
    if (code != NVML_SUCCESS) return;
    for (unsigned i = 0; i < count && i < PROCESSES; i++) {
        /* NVML writes all ones for an amount that it does not know; who computes and draws is told twice */
        uint64_t bytes = processes[i].bytes < implausible ? processes[i].bytes : 0;
        detect_add_user(places, d, (int)processes[i].pid, bytes, false);
    }
}

/* A driver's text in a buffer that is never left without an end. */
static void nvml_text(char *text, size_t size, int code)
{
    text[code == NVML_SUCCESS ? size - 1 : 0] = '\0';
    detect_clean(text);
}

static void nvml_card(const detect_places *places, const nvml *n, unsigned index, detect_device *d)
{
    void *device = NULL;
    nvml_memory memory = {0};
    nvml_pci pci = {0};
    unsigned mig = 0, pending = 0;
    snprintf(d->name, sizeof d->name, "NVIDIA %u", index);
    int code = n->handle(index, &device);
    if (code == NVML_SUCCESS) {
        nvml_text(d->name, sizeof d->name, n->name(device, d->name, sizeof d->name));
        if (n->version) nvml_text(d->driver, sizeof d->driver, n->version(d->driver, sizeof d->driver));
        if (n->uuid) nvml_text(d->uuid, sizeof d->uuid, n->uuid(device, d->uuid, sizeof d->uuid));
        if (n->pci && n->pci(device, &pci) == NVML_SUCCESS) {
            pci.bus_id[sizeof pci.bus_id - 1] = '\0';
            detect_pci_name(pci.bus_id, d->pci);
        }
        if (n->capability && n->capability(device, &d->capability[0], &d->capability[1]) != NVML_SUCCESS)
            d->capability[0] = d->capability[1] = 0;
        code = n->memory(device, &memory);
    }
    if (code == NVML_NOT_SUPPORTED) {
        d->shared = true;
    } else if (code != NVML_SUCCESS) {
        d->problem = code == NVML_NO_PERMISSION ? DETECT_NO_PERMISSION : DETECT_LOST;
        nvml_said(n, code, d->detail);
        return;
    } else {
        take_memory(d, memory.total, true, memory.free);
    }
    if (n->mig && n->mig(device, &mig, &pending) == NVML_SUCCESS && mig == 1) d->problem = DETECT_SPLIT;
    add_users(places, d, device, n->compute);
    add_users(places, d, device, n->graphics);
}

/* True when the library was there, whatever it then did. */
static bool from_nvml(const detect_places *places, detect_machine *machine, detect_problem *problem, char detail[200])
{
    nvml n;
    void *library = nvml_load(places->nvml, &n, problem, detail);
    if (!library) return *problem == DETECT_BAD_LIBRARY;
    unsigned count = 0;
    int code = n.init();
    if (code == NVML_SUCCESS) {
        code = n.count(&count);
        for (unsigned i = 0; code == NVML_SUCCESS && i < count && i < CARDS_MAX; i++) {
            detect_device *d = detect_add(machine, DETECT_NVIDIA);
            if (!d) break;
            nvml_card(places, &n, i, d);
        }
        if (code == NVML_SUCCESS && count > CARDS_MAX) machine->truncated = true;
        n.shutdown();
    }
    if (code != NVML_SUCCESS) {
        *problem = code == NVML_MISMATCH        ? DETECT_MISMATCH
                   : code == NVML_NO_PERMISSION ? DETECT_NO_PERMISSION
                                                : DETECT_INIT_FAILED;
        nvml_said(&n, code, detail);
    }
    dlclose(library);
    return true;
}

/* ---- the driver ---- */

enum { CUDA_SUCCESS = 0, CUDA_INTEGRATED = 18, CUDA_MAJOR = 75, CUDA_MINOR = 76 };

typedef struct cuda {
    int (*init)(unsigned flags);
    int (*count)(int *count);
    int (*get)(int *device, int index);
    int (*name)(char *name, int size, int device);
    int (*total)(size_t *bytes, int device);
    int (*attribute)(int *value, int attribute, int device);
    int (*pci)(char *bus_id, int size, int device);
} cuda;

static void cuda_card(const cuda *c, int index, detect_device *d)
{
    int device = 0, integrated = 0;
    size_t total = 0;
    char bus_id[32] = "";
    d->number = index; /* the driver has applied CUDA_VISIBLE_DEVICES itself */
    snprintf(d->name, sizeof d->name, "NVIDIA %d", index);
    int code = c->get(&device, index);
    if (code == CUDA_SUCCESS) {
        nvml_text(d->name, sizeof d->name, c->name(d->name, sizeof d->name, device));
        code = c->total(&total, device);
    }
    if (code != CUDA_SUCCESS) {
        d->problem = DETECT_LOST;
        d->number = -1;
        snprintf(d->detail, sizeof d->detail, "CUDA %d", code);
        return;
    }
    if (c->pci && c->pci(bus_id, sizeof bus_id, device) == CUDA_SUCCESS) {
        bus_id[sizeof bus_id - 1] = '\0';
        detect_pci_name(bus_id, d->pci);
    }
    if (c->attribute(&integrated, CUDA_INTEGRATED, device) == CUDA_SUCCESS) d->shared = integrated == 1;
    if (c->attribute(&d->capability[0], CUDA_MAJOR, device) != CUDA_SUCCESS ||
        c->attribute(&d->capability[1], CUDA_MINOR, device) != CUDA_SUCCESS)
        d->capability[0] = d->capability[1] = 0;
    if (!d->shared) take_memory(d, total, false, 0);
    if (d->problem != DETECT_FINE) d->number = -1;
}

/* The problem of the management library stays unless the driver shows cards. */
static void from_cuda(const detect_places *places, detect_machine *machine, detect_problem *problem, char detail[200])
{
    cuda c;
    char reason[200] = "";
    detect_problem trouble = DETECT_FINE;
    const symbol symbols[] = {
        {"cuInit", &c.init, false},
        {"cuDeviceGetCount", &c.count, false},
        {"cuDeviceGet", &c.get, false},
        {"cuDeviceGetName", &c.name, false},
        {"cuDeviceTotalMem_v2", &c.total, false},
        {"cuDeviceGetAttribute", &c.attribute, false},
        {"cuDeviceGetPCIBusId", &c.pci, true},
    };
    void *library = load(places->cuda, symbols, sizeof symbols / sizeof *symbols, &trouble, reason);
    if (!library) return;
    int count = 0, code = c.init(0);
    if (code == CUDA_SUCCESS) code = c.count(&count);
    if (code == CUDA_SUCCESS) {
        *problem = DETECT_FINE;
        detail[0] = '\0';
        if (count > CARDS_MAX) machine->truncated = true;
        for (int i = 0; i < count && i < CARDS_MAX; i++) {
            detect_device *d = detect_add(machine, DETECT_NVIDIA);
            if (!d) break;
            cuda_card(&c, i, d);
        }
    } else {
        *problem = DETECT_INIT_FAILED;
        snprintf(detail, 200, "cuInit: CUDA %d", code);
    }
    /* not closed: once started, the driver may have threads in its code */
}

void detect_nvidia(const detect_places *places, detect_machine *machine, detect_problem *problem, char detail[200])
{
    *problem = DETECT_FINE;
    detail[0] = '\0';
    if (!from_nvml(places, machine, problem, detail)) from_cuda(places, machine, problem, detail);
}
