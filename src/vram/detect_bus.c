/* The kernel's view: what is plugged in, which driver holds it, and what AMD's and Intel's drivers say of the memory.
 */
#include "base/file.h"
#include "vram/detect_parts.h"
#include "vram/sysfile.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { VENDOR_NVIDIA = 0x10de, VENDOR_AMD = 0x1002, VENDOR_INTEL = 0x8086, CLASS_DISPLAY = 0x03 };

/* Amounts above this are a driver's nonsense. */
static const uint64_t implausible = UINT64_C(1) << 50;

static bool is_listed(const detect_machine *machine, const char *pci)
{
    for (int i = 0; i < machine->count; i++) {
        const detect_device *d = &machine->devices[i];
        /* a card without a known address may be any of them: better not listed twice */
        if (d->kind == DETECT_NVIDIA && (d->pci[0] == '\0' || strcmp(d->pci, pci) == 0)) return true;
    }
    return false;
}

/* Why the driver did not show an NVIDIA card that is on the bus. */
static void diagnose_nvidia(const detect_places *places, detect_device *d, detect_problem library, const char *detail)
{
    char path[256];
    bool held = d->driver[0] != '\0', module = sysfile_exists("%s/driver/nvidia/version", places->proc);
    snprintf(d->detail, sizeof d->detail, "%s", detail);
    if (held && strcmp(d->driver, "nvidia") != 0) {
        d->problem = DETECT_OTHER_DRIVER;
        snprintf(d->detail, sizeof d->detail, "%s", d->driver);
        return;
    }
    if (!held && !module) {
        d->problem = DETECT_NO_MODULE;
        return;
    }
    d->problem = library;
    if (library == DETECT_NO_LIBRARY || library == DETECT_BAD_LIBRARY || library == DETECT_MISMATCH) return;
    if (library == DETECT_FINE) d->problem = DETECT_NOT_LISTED;
    snprintf(path, sizeof path, "%s/nvidiactl", places->dev);
    bool exists = access(path, F_OK) == 0;
    if (exists && access(path, R_OK | W_OK) == 0) return;
    d->problem = exists ? DETECT_NO_PERMISSION : DETECT_NO_DEVICE_FILE;
    snprintf(d->detail, sizeof d->detail, "%.190s", path);
}

static void name_nvidia(const detect_places *places, detect_device *d)
{
    char info[2048];
    if (!sysfile_text(info, sizeof info, "%s/driver/nvidia/gpus/%s/information", places->proc, d->pci)) return;
    char *model = strstr(info, "Model:");
    if (!model) return;
    model += 6 + strspn(model + 6, " \t");
    model[strcspn(model, "\n")] = '\0';
    if (*model) snprintf(d->name, sizeof d->name, "%s", model);
}

/* Dedicated memory of AMD's and Intel's cards. `used` of `total` bytes, when the driver tells both. */
static void take_memory(detect_device *d, uint64_t total, bool free_known, uint64_t free)
{
    if (total == 0 || total >= implausible || (free_known && free > total)) {
        d->problem = DETECT_IMPLAUSIBLE;
        snprintf(d->detail, sizeof d->detail, "%llu bytes of memory", (unsigned long long)total);
        return;
    }
    d->total = total;
    d->total_known = true;
    d->free = free;
    d->free_known = free_known;
}

static void read_amd(const char *directory, detect_device *d)
{
    uint64_t total, used;
    char product[96];
    if (sysfile_text(product, sizeof product, "%s/product_name", directory) && product[0])
        snprintf(d->name, sizeof d->name, "%s", product);
    if (!sysfile_number(&total, "%s/mem_info_vram_total", directory)) return;
    bool known = sysfile_number(&used, "%s/mem_info_vram_used", directory) && used <= total;
    take_memory(d, total, known, known ? total - used : 0);
}

/* i915 tells local memory beside the card's node, xe in the folder of the first tile. A GPU inside the processor tells
 * neither: it uses the computer's memory. */
static void read_intel(const char *directory, detect_device *d)
{
    ace_names nodes;
    char drm[512];
    uint64_t total, free;
    snprintf(drm, sizeof drm, "%.500s/drm", directory);
    bool found = false;
    if (ace_list_directory(drm, &nodes, NULL)) {
        for (size_t i = 0; i < nodes.count && !found; i++) {
            found = strncmp(nodes.names[i], "card", 4) == 0 &&
                    sysfile_number(&total, "%s/%s/lmem_total_bytes", drm, nodes.names[i]);
            if (!found) continue;
            bool known = sysfile_number(&free, "%s/%s/lmem_avail_bytes", drm, nodes.names[i]);
            take_memory(d, total, known, known ? free : 0);
        }
        ace_names_free(&nodes);
    }
    if (found) return;
    if (sysfile_number(&total, "%s/tile0/physical_vram_size_bytes", directory))
        take_memory(d, total, false, 0);
    else
        d->shared = true;
}

static void read_card(const detect_places *places, detect_machine *machine, const char *directory, const char *pci,
                      detect_kind kind, detect_problem nvidia, const char *nvidia_detail)
{
    static const char *const makers[] = {"", "NVIDIA", "AMD", "Intel"};
    uint64_t vendor = 0, model = 0;
    detect_device *d = detect_add(machine, kind);
    if (!d) return;
    sysfile_number(&vendor, "%s/vendor", directory);
    sysfile_number(&model, "%s/device", directory);
    snprintf(d->pci, sizeof d->pci, "%.19s", pci);
    snprintf(d->name, sizeof d->name, "%s %04x:%04x", makers[kind], (unsigned)vendor & 0xffffu,
             (unsigned)model & 0xffffu);
    sysfile_link(d->driver, sizeof d->driver, "%s/driver", directory);
    if (kind == DETECT_NVIDIA) {
        name_nvidia(places, d);
        diagnose_nvidia(places, d, nvidia, nvidia_detail);
    } else {
        d->problem = DETECT_REPORT_ONLY;
        if (kind == DETECT_AMD)
            read_amd(directory, d);
        else
            read_intel(directory, d);
    }
    detect_clean(d->name);
    detect_clean(d->detail);
}

void detect_bus(const detect_places *places, detect_machine *machine, detect_problem nvidia, const char *nvidia_detail)
{
    char bus[256], directory[512];
    ace_names cards;
    bool seen = false;
    snprintf(bus, sizeof bus, "%.200s/bus/pci/devices", places->sys);
    if (ace_list_directory(bus, &cards, NULL)) {
        for (size_t i = 0; i < cards.count; i++) {
            uint64_t vendor, class;
            snprintf(directory, sizeof directory, "%s/%.200s", bus, cards.names[i]);
            if (!sysfile_number(&class, "%s/class", directory) || class >> 16 != CLASS_DISPLAY ||
                !sysfile_number(&vendor, "%s/vendor", directory))
                continue;
            detect_kind kind = vendor == VENDOR_NVIDIA  ? DETECT_NVIDIA
                               : vendor == VENDOR_AMD   ? DETECT_AMD
                               : vendor == VENDOR_INTEL ? DETECT_INTEL
                                                        : DETECT_CPU;
            char pci[20];
            detect_pci_name(cards.names[i], pci);
            seen = seen || kind == DETECT_NVIDIA;
            if (kind == DETECT_CPU || (kind == DETECT_NVIDIA && is_listed(machine, pci))) continue;
            read_card(places, machine, directory, pci, kind, nvidia, nvidia_detail);
        }
        ace_names_free(&cards);
    }
    if (seen || nvidia == DETECT_NO_LIBRARY) return;
    machine->driver_problem = nvidia;
    snprintf(machine->driver_detail, sizeof machine->driver_detail, "%s", nvidia_detail);
}
