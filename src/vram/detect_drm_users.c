/* Who uses AMD's and Intel's cards. The kernel tells it per open file (Documentation/gpu/drm-usage-stats.rst): a
 * program that opened a card has a file in /proc/PID/fdinfo with the card's address, the client's number and its
 * memory. What this user may not read is not seen. */
#include "base/file.h"
#include "vram/detect_parts.h"
#include "vram/sysfile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Memory of the card itself that a client holds, in the words of amdgpu, xe and i915; newer words first. */
static uint64_t client_bytes(const char *info)
{
    static const char *const keys[] = {
        "drm-resident-vram:", "drm-resident-vram0:", "drm-resident-local0:", "drm-total-vram:",
        "drm-total-vram0:",   "drm-total-local0:",   "drm-memory-vram:"};
    uint64_t kib = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (sysfile_find(info, keys[i], &kib) && kib < UINT64_C(1) << 40) return kib * 1024;
    return 0;
}

/* The card that an fdinfo file speaks of; NULL for none of the list. */
static detect_device *card_of(detect_machine *machine, const char *info)
{
    const char *line = strstr(info, "drm-pdev:");
    char pci[20];
    if (!line) return NULL;
    line += strlen("drm-pdev:");
    detect_pci_name(line + strspn(line, " \t"), pci);
    for (int i = 0; i < machine->count; i++) {
        detect_device *d = &machine->devices[i];
        bool told_here = d->kind == DETECT_AMD || d->kind == DETECT_INTEL;
        if (told_here && pci[0] && strcmp(d->pci, pci) == 0) return d;
    }
    return NULL;
}

/* A client may be open several times: it counts once. */
typedef struct clients {
    int count;
    struct {
        const detect_device *card;
        uint64_t number;
    } seen[64];
} clients;

static bool seen_before(clients *c, const detect_device *card, const char *info)
{
    uint64_t number = 0;
    if (!sysfile_find(info, "drm-client-id:", &number)) return false;
    for (int i = 0; i < c->count; i++)
        if (c->seen[i].card == card && c->seen[i].number == number) return true;
    if (c->count < 64) {
        c->seen[c->count].card = card;
        c->seen[c->count++].number = number;
    }
    return false;
}

static void read_program(const detect_places *places, detect_machine *machine, const char *pid)
{
    char directory[320], target[64], info[4096];
    ace_names files;
    clients known = {0};
    snprintf(directory, sizeof directory, "%.200s/%.20s/fd", places->proc, pid);
    if (!ace_list_directory(directory, &files, NULL)) return;
    for (size_t i = 0; i < files.count; i++) {
        char path[400];
        snprintf(path, sizeof path, "%s/%.20s", directory, files.names[i]);
        ssize_t n = readlink(path, target, sizeof target - 1);
        target[n > 0 ? n : 0] = '\0';
        if (strncmp(target, "/dev/dri/", 9) != 0 ||
            !sysfile_text(info, sizeof info, "%s/%.20s/fdinfo/%.20s", places->proc, pid, files.names[i]))
            continue;
        detect_device *card = card_of(machine, info);
        uint64_t bytes = card && !seen_before(&known, card, info) ? client_bytes(info) : 0;
        if (bytes > 0) detect_add_user(places, card, atoi(pid), bytes, true);
    }
    ace_names_free(&files);
}

void detect_drm_users(const detect_places *places, detect_machine *machine)
{
    ace_names programs;
    bool any = false;
    for (int i = 0; i < machine->count; i++)
        any = any || machine->devices[i].kind == DETECT_AMD || machine->devices[i].kind == DETECT_INTEL;
    if (!any || !ace_list_directory(places->proc, &programs, NULL)) return;
    for (size_t i = 0; i < programs.count; i++)
        if (programs.names[i][0] >= '1' && programs.names[i][0] <= '9')
            read_program(places, machine, programs.names[i]);
    ace_names_free(&programs);
}
