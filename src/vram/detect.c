#include "vram/detect.h"

#include "base/text.h"
#include "vram/detect_parts.h"
#include "vram/sysfile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *environment(const char *name)
{
    return getenv(name);
}

detect_places detect_system_places(void)
{
    return (detect_places){"/sys", "/proc", "/dev", "libnvidia-ml.so.1", "libcuda.so.1", environment};
}

detect_device *detect_add(detect_machine *machine, detect_kind kind)
{
    if (machine->count >= DETECT_DEVICES - 1) {
        machine->truncated = true;
        return NULL;
    }
    detect_device *device = &machine->devices[machine->count++];
    *device = (detect_device){.kind = kind, .number = -1};
    return device;
}

void detect_clean(char *text)
{
    size_t bad = 0, n = 0;
    /* a name that was cut in the middle of a character loses that character */
    if (!ace_utf8_valid(text, strlen(text), &bad)) text[bad] = '\0';
    for (char *p = text; *p; p++)
        if ((unsigned char)*p >= 0x20 && *p != 0x7f) text[n++] = *p;
    while (n && text[n - 1] == ' ') n--;
    text[n] = '\0';
}

void detect_pci_name(const char *bus_id, char pci[20])
{
    unsigned domain, bus, device, function;
    pci[0] = '\0';
    if (sscanf(bus_id, "%8x:%4x:%4x.%2x", &domain, &bus, &device, &function) == 4)
        snprintf(pci, 20, "%04x:%02x:%02x.%x", domain & 0xffffu, bus & 0xffu, device & 0xffu, function & 0xfu);
}

void detect_add_user(const detect_places *places, detect_device *device, int pid, uint64_t bytes, bool separate)
{
    detect_user user = {.pid = pid, .bytes = bytes};
    int at = 0;
    while (at < device->user_count && device->users[at].pid != pid) at++;
    if (at < device->user_count) {
        uint64_t before = device->users[at].bytes;
        user = device->users[at];
        user.bytes = separate ? before + bytes : before > bytes ? before : bytes;
    } else if (device->user_count < DETECT_USERS) {
        sysfile_text(user.name, sizeof user.name, "%s/%d/comm", places->proc, pid);
        detect_clean(user.name);
        device->user_count++;
    } else {
        device->more_users = true;
        return;
    }
    for (; at > 0 && device->users[at - 1].bytes < user.bytes; at--) device->users[at] = device->users[at - 1];
    device->users[at] = user;
}

/* ---- which cards the user lets programs see ---- */

/* The card that one item of CUDA_VISIBLE_DEVICES means: its number, or the beginning of its UUID. */
static detect_device *meant(detect_machine *machine, const char *item)
{
    char *end;
    long wanted = strtol(item, &end, 10), number = 0;
    bool is_number = end != item && *end == '\0';
    for (int i = 0; i < machine->count; i++) {
        detect_device *d = &machine->devices[i];
        if (d->kind != DETECT_NVIDIA || d->problem != DETECT_FINE) continue;
        if (is_number ? number++ == wanted : strncmp(item, "GPU-", 4) == 0 && strncmp(d->uuid, item, strlen(item)) == 0)
            return d;
    }
    return NULL;
}

/* As NVIDIA's driver reads it: the visible cards are numbered in the order of the list, which ends at the first item
 * that means no card or repeats one. */
static void apply_visible(detect_machine *machine, const char *list)
{
    char items[512], *rest = NULL;
    int number = 0;
    for (int i = 0; i < machine->count; i++) /* shown by the driver itself, which has read the list */
        if (machine->devices[i].kind == DETECT_NVIDIA && machine->devices[i].number >= 0) return;
    snprintf(items, sizeof items, "%s", list);
    for (char *item = strtok_r(items, ", \t", &rest); item; item = strtok_r(NULL, ", \t", &rest)) {
        detect_device *device = meant(machine, item);
        if (!device || device->number >= 0) break;
        device->number = number++;
    }
    for (int i = 0; i < machine->count; i++) {
        detect_device *d = &machine->devices[i];
        if (d->kind != DETECT_NVIDIA || d->problem != DETECT_FINE || d->number >= 0) continue;
        d->problem = DETECT_HIDDEN;
        snprintf(d->detail, sizeof d->detail, "%.150s", list);
        detect_clean(d->detail);
    }
}

/* Cards without memory of their own: three quarters of the computer's, as the official program counts on such machines.
 * What is swapped never counts. */
static void share_memory(detect_machine *machine)
{
    const detect_device *cpu = detect_cpu(machine);
    for (int i = 0; i < machine->count - 1; i++) {
        detect_device *d = &machine->devices[i];
        if (d->kind != DETECT_NVIDIA || !d->shared || !cpu->total_known) continue;
        d->total = cpu->total / 4 * 3;
        d->total_known = true;
        d->free_known = cpu->free_known;
        d->free = cpu->free < d->total ? cpu->free : d->total;
    }
}

/* Numbers the cards and names them: cuda:0, cuda:1, amd:0. */
static void number_cards(const detect_places *places, detect_machine *machine)
{
    static const char *const prefixes[] = {"cpu", "cuda", "amd", "intel"};
    const char *visible = places->variable("CUDA_VISIBLE_DEVICES");
    int next[4] = {0};
    if (visible) apply_visible(machine, visible);
    for (int i = 0; i < machine->count; i++) {
        detect_device *d = &machine->devices[i];
        bool counts = d->kind == DETECT_NVIDIA ? d->problem == DETECT_FINE : true;
        if (counts && d->number < 0) d->number = next[d->kind]++;
        if (d->number >= 0) snprintf(d->id, sizeof d->id, "%s:%d", prefixes[d->kind], d->number);
    }
}

static int by_bus(const void *a, const void *b)
{
    const detect_device *x = a, *y = b;
    if (x->kind != y->kind) return (int)x->kind - (int)y->kind;
    return strcmp(x->pci, y->pci);
}

void detect_run(const detect_places *places, detect_machine *machine)
{
    detect_problem problem = DETECT_FINE;
    char detail[200] = "";
    *machine = (detect_machine){0};
    detect_nvidia(places, machine, &problem, detail);
    detect_bus(places, machine, problem, detail);
    detect_drm_users(places, machine);
    /* the numbers of the driver follow the bus, too (CUDA_DEVICE_ORDER=PCI_BUS_ID), and so do nvidia-smi's */
    qsort(machine->devices, (size_t)machine->count, sizeof *machine->devices, by_bus);
    number_cards(places, machine);
    detect_host(places, machine);
    share_memory(machine);
}

const detect_device *detect_cpu(const detect_machine *machine)
{
    return &machine->devices[machine->count - 1];
}
