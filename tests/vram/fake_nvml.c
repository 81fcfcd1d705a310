/* A management library that tells what its variant says: built several times with another FAKE_... definition. */
#include <stdio.h>
#include <string.h>

#pragma GCC visibility push(default)

typedef struct memory {
    unsigned long long total, free, used;
} memory;

typedef struct pci {
    char legacy_id[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
} pci;

typedef struct process {
    unsigned pid;
    unsigned long long bytes;
    unsigned gpu_instance, compute_instance;
} process;

int nvmlShutdown(void);
const char *nvmlErrorString(int code);
int nvmlDeviceGetCount_v2(unsigned *count);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device);
int nvmlDeviceGetName(void *device, char *name, unsigned size);

int nvmlShutdown(void)
{
    return 0;
}

const char *nvmlErrorString(int code)
{
    return code == 18 ? "Driver/library version mismatch" : code == 15 ? "GPU is lost" : "Driver Not Loaded";
}

#ifndef FAKE_INIT
#define FAKE_INIT 0
#endif

#ifndef FAKE_NO_SYMBOLS
int nvmlInit_v2(void);
int nvmlInit_v2(void)
{
    return FAKE_INIT;
}
#endif

#ifdef FAKE_ABSURD
/* ten to the ninth cards, names without an end, more free than there is, processes beyond the list */
int nvmlDeviceGetCount_v2(unsigned *count)
{
    *count = 1000000000u;
    return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device)
{
    *device = (void *)(size_t)index;
    return index % 3 == 2 ? 15 : 0;
}

int nvmlDeviceGetName(void *device, char *name, unsigned size)
{
    (void)device;
    memset(name, '\xff', size);
    return 0;
}

int nvmlDeviceGetMemoryInfo(void *device, memory *m);
int nvmlDeviceGetMemoryInfo(void *device, memory *m)
{
    static const memory wrong[] = {{0, 0, 0}, {1ull << 33, 1ull << 34, 0}, {~0ull, ~0ull, 0}};
    *m = wrong[(size_t)device % 3];
    return 0;
}

int nvmlDeviceGetPciInfo_v3(void *device, pci *p);
int nvmlDeviceGetPciInfo_v3(void *device, pci *p)
{
    (void)device;
    memset(p, 'f', sizeof *p);
    return 0;
}

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned size);
int nvmlDeviceGetUUID(void *device, char *uuid, unsigned size)
{
    (void)device;
    memset(uuid, 'G', size);
    return 0;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process *list);
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process *list)
{
    (void)device;
    for (unsigned i = 0; i < *count; i++) list[i] = (process){~0u - i, ~0ull, 0, 0};
    *count = ~0u;
    return 0;
}

#else
/* A 12 GB card whose driver keeps a little for itself, and a roomier 24 GB card; FAKE_CARDS of them. */
#ifndef FAKE_CARDS
#define FAKE_CARDS 2
#endif

int nvmlDeviceGetCount_v2(unsigned *count)
{
    *count = FAKE_CARDS;
    return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device)
{
    *device = (void *)(size_t)(index + 1);
    return 0;
}

static int index_of(void *device)
{
    return (int)(size_t)device - 1;
}

int nvmlDeviceGetName(void *device, char *name, unsigned size)
{
    static const char *const names[] = {"NVIDIA Fake 12G", "NVIDIA Fake 24G"};
    snprintf(name, size, "%s", names[index_of(device)]);
    return 0;
}

int nvmlDeviceGetMemoryInfo(void *device, memory *m);
int nvmlDeviceGetMemoryInfo(void *device, memory *m)
{
    static const memory cards[] = {{12200ull << 20, 8192ull << 20, 4008ull << 20},
                                   {24564ull << 20, 20480ull << 20, 4084ull << 20}};
    *m = cards[index_of(device)];
    return 0;
}

int nvmlSystemGetDriverVersion(char *version, unsigned size);
int nvmlSystemGetDriverVersion(char *version, unsigned size)
{
    snprintf(version, size, "550.54.14");
    return 0;
}

int nvmlDeviceGetPciInfo_v3(void *device, pci *p);
int nvmlDeviceGetPciInfo_v3(void *device, pci *p)
{
    memset(p, 0, sizeof *p);
    snprintf(p->bus_id, sizeof p->bus_id, "00000000:%02X:00.0", index_of(device) ? 0xB1 : 0x65);
    return 0;
}

int nvmlDeviceGetUUID(void *device, char *uuid, unsigned size);
int nvmlDeviceGetUUID(void *device, char *uuid, unsigned size)
{
    snprintf(uuid, size, "GPU-%d0000000-0000", index_of(device) + 1);
    return 0;
}

int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor);
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor)
{
    *major = 8;
    *minor = index_of(device) ? 9 : 6;
    return 0;
}

#ifdef FAKE_MIG
int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending);
int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending)
{
    (void)device;
    *current = *pending = 1;
    return 0;
}
#endif

int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process *list);
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, process *list)
{
    (void)device;
    list[0] = (process){4711, 300ull << 20, 0, 0};
    list[1] = (process){4712, 3000ull << 20, 0, 0};
    *count = 2;
    return 0;
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned *count, process *list);
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned *count, process *list)
{
    (void)device;
    list[0] = (process){4711, 320ull << 20, 0, 0};
    list[1] = (process){4713, ~0ull, 0, 0};
    *count = 2;
    return 0;
}
#endif

#pragma GCC visibility pop
