/* Free memory on the host is what could be used without swapping: MemAvailable, cut by every cgroup above this process,
 * whose own cache counts as free because the kernel gives it back first. */
#include "base/pool.h"
#include "vram/detect_parts.h"
#include "vram/sysfile.h"

#include <stdio.h>
#include <string.h>

typedef struct host_memory {
    uint64_t total, free;
} host_memory;

/* Takes one limit into account: `used` of `limit` bytes are taken, of which `cache` can be given back. */
static void apply(host_memory *memory, uint64_t limit, uint64_t used, uint64_t cache)
{
    uint64_t taken = used > cache ? used - cache : 0, left = limit > taken ? limit - taken : 0;
    if (limit < memory->total) memory->total = limit;
    if (left < memory->free) memory->free = left;
}

typedef struct cgroup_files {
    const char *limits[2], *usage, *cache;
} cgroup_files;

static const cgroup_files version1 = {{"memory.limit_in_bytes", NULL}, "memory.usage_in_bytes", "total_inactive_file"};
static const cgroup_files version2 = {{"memory.max", "memory.high"}, "memory.current", "inactive_file"};

static void apply_group(const char *directory, const cgroup_files *files, host_memory *memory)
{
    enum { STAT = 8192 };
    char stat[STAT];
    for (int i = 0; i < 2 && files->limits[i]; i++) {
        uint64_t limit, used = 0, cache = 0;
        /* "max" is no number: no limit; version 1 writes 2^63 rounded down to a page */
        if (!sysfile_number(&limit, "%s/%s", directory, files->limits[i]) || limit >= UINT64_C(1) << 62) continue;
        sysfile_number(&used, "%s/%s", directory, files->usage);
        if (sysfile_text(stat, STAT, "%s/memory.stat", directory)) sysfile_find(stat, files->cache, &cache);
        apply(memory, limit, used, cache);
    }
}

/* The group and all groups above it up to the mount point. In a container the name that the kernel tells may lie
 * outside of what is mounted; the parts that are there still count. */
static void apply_groups(const char *mount, const char *group, const cgroup_files *files, host_memory *memory)
{
    char directory[768];
    int n = snprintf(directory, sizeof directory, "%s%s", mount, strstr(group, "..") ? "" : group);
    if (n < 0 || n >= (int)sizeof directory) snprintf(directory, sizeof directory, "%s", mount);
    size_t end = strlen(mount);
    while (strlen(directory) >= end) {
        apply_group(directory, files, memory);
        char *slash = strrchr(directory, '/');
        if (!slash || strlen(directory) == end) break;
        *slash = '\0';
    }
}

/* True when `controllers` ("memory", "cpu,cpuacct") names memory. */
static bool has_memory(const char *controllers, size_t n)
{
    for (const char *p = controllers; p < controllers + n;) {
        const char *comma = memchr(p, ',', (size_t)(controllers + n - p));
        size_t length = comma ? (size_t)(comma - p) : (size_t)(controllers + n - p);
        if (length == 6 && memcmp(p, "memory", 6) == 0) return true;
        p += length + 1;
    }
    return false;
}

/* Lines of /proc/self/cgroup: "4:memory:/a/b" (version 1), "0::/a/b" (version 2). */
static void apply_cgroups(const detect_places *places, host_memory *memory)
{
    char lines[4096], mount[512], *rest = NULL;
    if (!sysfile_text(lines, sizeof lines, "%s/self/cgroup", places->proc)) return;
    for (char *line = strtok_r(lines, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        const char *first = strchr(line, ':'), *second = first ? strchr(first + 1, ':') : NULL;
        if (!second) continue;
        const char *group = strcmp(second + 1, "/") == 0 ? "" : second + 1;
        if (has_memory(first + 1, (size_t)(second - first - 1))) {
            snprintf(mount, sizeof mount, "%s/fs/cgroup/memory", places->sys);
            apply_groups(mount, group, &version1, memory);
        } else if (second == first + 1) {
            snprintf(mount, sizeof mount, "%s/fs/cgroup", places->sys);
            apply_groups(mount, group, &version2, memory);
            snprintf(mount, sizeof mount, "%s/fs/cgroup/unified", places->sys);
            apply_groups(mount, group, &version2, memory);
        }
    }
}

/* "model name : ..." of the first processor. */
static void cpu_name(const detect_places *places, char *name, size_t size)
{
    char info[4096];
    snprintf(name, size, "CPU");
    if (!sysfile_text(info, sizeof info, "%s/cpuinfo", places->proc)) return;
    char *line = strstr(info, "model name"), *value = line ? strchr(line, ':') : NULL;
    if (!value) return;
    value += 1 + strspn(value + 1, " \t");
    value[strcspn(value, "\n")] = '\0';
    if (*value) snprintf(name, size, "%s", value);
    detect_clean(name);
}

void detect_host(const detect_places *places, detect_machine *machine)
{
    char info[8192];
    uint64_t total = 0, available = 0;
    detect_device *cpu = &machine->devices[machine->count++];
    *cpu = (detect_device){.kind = DETECT_CPU, .id = "cpu", .threads = ace_cpu_count()};
    cpu_name(places, cpu->name, sizeof cpu->name);
    if (!sysfile_text(info, sizeof info, "%s/meminfo", places->proc)) return;
    cpu->total_known = sysfile_find(info, "MemTotal:", &total) && total > 0 && total < UINT64_C(1) << 43;
    cpu->free_known = cpu->total_known && sysfile_find(info, "MemAvailable:", &available) && available <= total;
    if (!cpu->total_known) return;
    host_memory memory = {total * 1024, available * 1024};
    apply_cgroups(places, &memory);
    cpu->limited = memory.total < total * 1024;
    cpu->total = memory.total;
    cpu->free = memory.free;
}
