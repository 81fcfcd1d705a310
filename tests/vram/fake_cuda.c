/* A driver as on a machine without a management library. FAKE_INIT is what cuInit returns, FAKE_INTEGRATED whether the
 * card shares the computer's memory. */
#include <stddef.h>
#include <stdio.h>

#pragma GCC visibility push(default)

#ifndef FAKE_INIT
#define FAKE_INIT 0
#endif
#ifndef FAKE_INTEGRATED
#define FAKE_INTEGRATED 0
#endif

int cuInit(unsigned flags);
int cuDeviceGetCount(int *count);
int cuDeviceGet(int *device, int index);
int cuDeviceGetName(char *name, int size, int device);
int cuDeviceTotalMem_v2(size_t *bytes, int device);
int cuDeviceGetAttribute(int *value, int attribute, int device);

int cuInit(unsigned flags)
{
    (void)flags;
    return FAKE_INIT;
}

int cuDeviceGetCount(int *count)
{
    *count = 1;
    return 0;
}

int cuDeviceGet(int *device, int index)
{
    *device = index + 7;
    return 0;
}

int cuDeviceGetName(char *name, int size, int device)
{
    return snprintf(name, (size_t)size, "Fake Jetson") > 0 && device == 7 ? 0 : 101;
}

int cuDeviceTotalMem_v2(size_t *bytes, int device)
{
    *bytes = (size_t)6 << 30;
    return device == 7 ? 0 : 101;
}

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
    *value = attribute == 18 ? FAKE_INTEGRATED : attribute == 75 ? 8 : attribute == 76 ? 7 : -1;
    return device == 7 ? 0 : 101;
}

#pragma GCC visibility pop
