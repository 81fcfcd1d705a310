/* Detection on machines made of files and of driver libraries that are good, broken or absurd. */
#include "vram/detect_parts.h"
#include "vram/fake_machine.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define LIBRARY(name) FAKE_LIBRARIES "/" name ".so"

static detect_machine found;

static const detect_device *run(const detect_places *places, int index)
{
    detect_run(places, &found);
    assert_true(index < found.count);
    return &found.devices[index];
}

/* ---- the host ---- */

static void the_cpu_is_always_there(void **state)
{
    (void)state;
    detect_places places = fake_machine();
    const detect_device *cpu = run(&places, 0);
    assert_int_equal(found.count, 1);
    assert_ptr_equal(cpu, detect_cpu(&found));
    assert_string_equal(cpu->name, "Fake CPU 3000");
    assert_true(cpu->total_known && cpu->total == 32 * GIB);
    assert_true(cpu->free_known && cpu->free == 20 * GIB); /* what is swapped or could be never counts */
    assert_false(cpu->limited);
    assert_true(cpu->threads >= 1);
    /* nothing at all to read */
    places.sys = places.proc = places.dev = "/nonexistent";
    cpu = run(&places, 0);
    assert_int_equal(found.count, 1);
    assert_string_equal(cpu->name, "CPU");
    assert_false(cpu->total_known);
    /* nonsense */
    places = fake_machine();
    fake_file("proc/meminfo", "MemTotal: -5 kB\nMemAvailable: 99999999999999999999 kB\n");
    assert_false(run(&places, 0)->total_known);
    fake_file("proc/meminfo", "MemTotal: 1024 kB\nMemAvailable: 2048 kB\n");
    cpu = run(&places, 0);
    assert_true(cpu->total_known && cpu->total == MIB);
    assert_false(cpu->free_known);
}

static void cgroups_version_2_limit_the_memory(void **state)
{
    (void)state;
    detect_places places = fake_machine();
    fake_file("proc/self/cgroup", "0::/user.slice/song.scope\n");
    fake_file("sys/fs/cgroup/user.slice/memory.max", "8589934592\n"); /* 8 GiB, 3 used, 1 of them cache */
    fake_file("sys/fs/cgroup/user.slice/memory.current", "3221225472\n");
    fake_file("sys/fs/cgroup/user.slice/memory.stat", "anon 1\ninactive_file 1073741824\nactive_file 5\n");
    fake_file("sys/fs/cgroup/user.slice/song.scope/memory.max", "max\n");
    fake_file("sys/fs/cgroup/user.slice/song.scope/memory.current", "1073741824\n");
    const detect_device *cpu = run(&places, 0);
    assert_true(cpu->limited);
    assert_true(cpu->total == 8 * GIB);
    assert_true(cpu->free == 6 * GIB);
    fake_file("sys/fs/cgroup/user.slice/song.scope/memory.high", "2147483648\n"); /* the narrower group counts */
    cpu = run(&places, 0);
    assert_true(cpu->total == 2 * GIB && cpu->free == 1 * GIB);
    fake_file("sys/fs/cgroup/user.slice/song.scope/memory.current", "9999999999999\n");
    assert_true(run(&places, 0)->free == 0);
    /* in a container: the name lies outside of what is mounted, the mount point itself is the group */
    places = fake_machine();
    fake_file("proc/self/cgroup", "0::/../../../elsewhere\n");
    fake_file("sys/fs/cgroup/memory.max", "4294967296\n");
    fake_file("sys/fs/cgroup/memory.current", "1073741824\n");
    cpu = run(&places, 0);
    assert_true(cpu->total == 4 * GIB && cpu->free == 3 * GIB);
}

static void cgroups_version_1_limit_the_memory(void **state)
{
    (void)state;
    detect_places places = fake_machine();
    fake_file("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/a/b\n3:memorylike:/c\n0::/\n");
    fake_file("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n"); /* none */
    fake_file("sys/fs/cgroup/memory/a/b/memory.usage_in_bytes", "1\n");
    fake_file("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "2147483648\n");
    fake_file("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "1073741824\n");
    fake_file("sys/fs/cgroup/memory/a/memory.stat", "inactive_file 7\ntotal_inactive_file 536870912\n");
    const detect_device *cpu = run(&places, 0);
    assert_true(cpu->limited && cpu->total == 2 * GIB);
    assert_true(cpu->free == GIB + GIB / 2);
    /* in a container the group's own directory is not there, the mount point tells the limit */
    fake_file("proc/self/cgroup", "4:memory:/docker/0123\n");
    fake_file("sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824\n");
    fake_file("sys/fs/cgroup/memory/memory.usage_in_bytes", "0\n");
    cpu = run(&places, 0);
    assert_true(cpu->total == GIB && cpu->free == GIB);
}

/* ---- NVIDIA ---- */

static void nvidia_cards_with_memory_and_users(void **state)
{
    (void)state;
    detect_places places = fake_machine();
    places.nvml = LIBRARY("nvml-good");
    fake_file("proc/4711/comm", "Xorg\n");
    fake_file("proc/4712/comm", "python3\n");
    fake_card("0000:65:00.0", "0x10de\n", "0x2504\n", "../../nvidia"); /* the bus shows it, too: listed once */
    const detect_device *card = run(&places, 0);
    assert_int_equal(found.count, 3);
    assert_string_equal(card->id, "cuda:0");
    assert_string_equal(card->name, "NVIDIA Fake 12G");
    assert_string_equal(card->pci, "0000:65:00.0");
    assert_string_equal(card->driver, "550.54.14");
    assert_string_equal(card->uuid, "GPU-10000000-0000");
    assert_int_equal(card->capability[0], 8);
    assert_int_equal(card->capability[1], 6);
    assert_true(card->total_known && card->total == 12200 * MIB);
    assert_true(card->free_known && card->free == 8 * GIB);
    assert_int_equal(card->problem, DETECT_FINE);
    /* once each, the largest first; an amount that the driver does not know is no amount */
    assert_int_equal(card->user_count, 3);
    assert_string_equal(card->users[0].name, "python3");
    assert_true(card->users[0].bytes == 3000 * MIB);
    assert_string_equal(card->users[1].name, "Xorg");
    assert_true(card->users[1].bytes == 320 * MIB);
    assert_int_equal(card->users[2].pid, 4713);
    assert_string_equal(card->users[2].name, "");
    assert_true(card->users[2].bytes == 0);
    card = &found.devices[1];
    assert_string_equal(card->id, "cuda:1");
    assert_true(card->total == 24564 * MIB);
    assert_int_equal(found.devices[2].kind, DETECT_CPU);
}

static void cards_can_be_hidden_and_reordered(void **state)
{
    (void)state;
    static const struct {
        const char *visible;
        int numbers[2]; /* of the 12 GB and of the 24 GB card */
    } rows[] = {{"1", {-1, 0}},
                {"1,0", {1, 0}},
                {"0, 1", {0, 1}},
                {"0", {0, -1}},
                {"", {-1, -1}},
                {"-1", {-1, -1}},
                {"0,0,1", {0, -1}},
                {"1,9,0", {-1, 0}},
                {"GPU-2", {-1, 0}},
                {"NoDevFiles", {-1, -1}},
                {"GPU-10000000-0000,1", {0, 1}},
                {"1,GPU-7,0", {-1, 0}}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        detect_places places = fake_machine();
        places.nvml = LIBRARY("nvml-good");
        fake_environment("CUDA_VISIBLE_DEVICES", rows[i].visible, NULL);
        run(&places, 0);
        assert_int_equal(found.count, 3);
        for (int k = 0; k < 2; k++) {
            const detect_device *card = &found.devices[k];
            if (card->number != rows[i].numbers[k]) fail_msg("'%s': card %d is %d", rows[i].visible, k, card->number);
            assert_int_equal(card->problem, card->number < 0 ? DETECT_HIDDEN : DETECT_FINE);
            if (card->number < 0) assert_string_equal(card->detail, rows[i].visible);
        }
    }
}

static void the_driver_is_asked_where_there_is_no_management_library(void **state)
{
    (void)state;
    detect_places places = fake_machine();
    places.cuda = LIBRARY("cuda-good");
    fake_environment("CUDA_VISIBLE_DEVICES", "3", NULL); /* the driver has read it; what it shows is visible */
    const detect_device *card = run(&places, 0);
    assert_int_equal(found.count, 2);
    assert_string_equal(card->id, "cuda:0");
    assert_string_equal(card->name, "Fake Jetson");
    assert_true(card->total_known && card->total == 6 * GIB);
    assert_false(card->free_known);
    assert_int_equal(card->capability[1], 7);
    places.cuda = LIBRARY("cuda-integrated"); /* D-6: three quarters of the computer's memory, never its swap */
    card = run(&places, 0);
    assert_true(card->shared && card->total == 24 * GIB && card->free == 20 * GIB);
    places.cuda = LIBRARY("cuda-fails");
    run(&places, 0);
    assert_int_equal(found.count, 1);
    assert_int_equal(found.driver_problem, DETECT_INIT_FAILED);
    assert_string_equal(found.driver_detail, "cuInit: CUDA 999");
}

static void an_absurd_library_does_no_harm(void **state)
{
    (void)state;
    detect_places places = fake_machine();
    places.nvml = LIBRARY("nvml-absurd");
    run(&places, 0);
    assert_int_equal(found.count, DETECT_DEVICES);
    assert_true(found.truncated);
    assert_int_equal(found.devices[DETECT_DEVICES - 1].kind, DETECT_CPU);
    for (int i = 0; i < DETECT_DEVICES - 1; i++) {
        const detect_device *card = &found.devices[i];
        assert_true(card->problem == DETECT_IMPLAUSIBLE || card->problem == DETECT_LOST);
        assert_int_equal(card->number, -1);
        assert_false(card->total_known);
        assert_true(ace_utf8_valid(card->name, strlen(card->name), NULL));
        assert_true(strlen(card->uuid) < sizeof card->uuid);
        assert_string_equal(card->pci, "");
        assert_true(card->user_count <= DETECT_USERS);
    }
}

/* ---- why not ---- */

static void a_card_that_cannot_be_used_is_diagnosed(void **state)
{
    (void)state;
    static const struct {
        const char *driver; /* what holds the card, NULL: nothing */
        bool module, device_file;
        const char *nvml, *cuda;
        detect_problem problem;
        const char *detail;
    } rows[] = {
        {NULL, false, false, NULL, NULL, DETECT_NO_MODULE, ""},
        {"x/nouveau", false, false, NULL, NULL, DETECT_OTHER_DRIVER, "nouveau"},
        {"x/vfio-pci", true, true, LIBRARY("nvml-no-cards"), NULL, DETECT_OTHER_DRIVER, "vfio-pci"},
        {"x/nvidia", true, true, NULL, NULL, DETECT_NO_LIBRARY, "libnvidia-ml.so"},
        {"x/nvidia", true, true, LIBRARY("nvml-no-symbols"), NULL, DETECT_BAD_LIBRARY, "nvmlInit_v2"},
        {"x/nvidia", true, true, LIBRARY("nvml-not-loaded"), NULL, DETECT_INIT_FAILED, "Driver Not Loaded (NVML 9)"},
        {"x/nvidia", true, true, LIBRARY("nvml-mismatch"), NULL, DETECT_MISMATCH, "version mismatch"},
        {"x/nvidia", true, true, LIBRARY("nvml-no-permission"), NULL, DETECT_NO_PERMISSION, "NVML 4"},
        {"x/nvidia", true, false, LIBRARY("nvml-not-loaded"), NULL, DETECT_NO_DEVICE_FILE, "nvidiactl"},
        {"x/nvidia", true, true, LIBRARY("nvml-no-cards"), NULL, DETECT_NOT_LISTED, ""},
        {"x/nvidia", true, true, NULL, LIBRARY("cuda-fails"), DETECT_INIT_FAILED, "CUDA 999"},
        {NULL, true, true, LIBRARY("nvml-no-cards"), NULL, DETECT_NOT_LISTED, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        detect_places places = fake_machine();
        fake_card("0000:01:00.0", "0x10de\n", "0x2504\n", rows[i].driver);
        if (rows[i].module) fake_file("proc/driver/nvidia/version", "NVRM version\n");
        if (rows[i].device_file) fake_file("dev/nvidiactl", "");
        if (rows[i].nvml) places.nvml = rows[i].nvml;
        if (rows[i].cuda) places.cuda = rows[i].cuda;
        const detect_device *card = run(&places, 0);
        assert_int_equal(found.count, 2);
        if (card->problem != rows[i].problem || !strstr(card->detail, rows[i].detail))
            fail_msg("row %zu: problem %d, '%s'", i, (int)card->problem, card->detail);
        assert_string_equal(card->name, "NVIDIA 10de:2504");
        assert_int_equal(card->number, -1);
        assert_int_equal(found.driver_problem, DETECT_FINE);
    }
}

static void a_device_file_without_permission_is_named(void **state)
{
    (void)state;
    detect_places places = fake_machine();
    fake_card("0000:01:00.0", "0x10de\n", "0x2504\n", "x/nvidia");
    fake_file("dev/nvidiactl", "");
    char path[128];
    snprintf(path, sizeof path, "%s/nvidiactl", fake_dev);
    assert_int_equal(chmod(path, 0), 0);
    assert_int_equal(chmod(place, 0755), 0);
    uid_t self = getuid();
    if (self == 0 && setresuid(65534, 65534, 0) != 0) skip(); /* root may open everything */
    found = (detect_machine){0};
    detect_bus(&places, &found, DETECT_FINE, "");
    if (self == 0) assert_int_equal(setresuid(0, 0, 0), 0);
    const detect_device *card = &found.devices[0];
    assert_int_equal(card->problem, DETECT_NO_PERMISSION);
    assert_string_equal(found.devices[0].detail, path);
}

static void the_model_is_named_where_the_kernel_knows_it(void **state)
{
    (void)state;
    detect_places places = fake_machine();
    fake_card("0000:01:00.0", "0x10de\n", "0x2504\n", "x/nvidia");
    fake_file("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t\t NVIDIA GeForce RTX 3060\nIRQ: 5\n");
    assert_string_equal(run(&places, 0)->name, "NVIDIA GeForce RTX 3060");
}

static void a_card_split_into_instances_is_not_taken_whole(void **state)
{
    (void)state;
    detect_places places = fake_machine();
    places.nvml = LIBRARY("nvml-mig");
    assert_int_equal(run(&places, 0)->problem, DETECT_SPLIT);
    assert_int_equal(found.devices[0].number, -1);
}

static void a_library_without_a_card_says_why(void **state)
{
    (void)state;
    detect_places places = fake_machine();
    places.nvml = LIBRARY("nvml-not-loaded");
    run(&places, 0);
    assert_int_equal(found.count, 1);
    assert_int_equal(found.driver_problem, DETECT_INIT_FAILED);
    places.nvml = LIBRARY("nvml-no-cards"); /* works, and there is none: nothing to say */
    run(&places, 0);
    assert_int_equal(found.driver_problem, DETECT_FINE);
    places.nvml = "/nonexistent"; /* the usual machine without NVIDIA */
    run(&places, 0);
    assert_int_equal(found.driver_problem, DETECT_FINE);
}

/* ---- AMD and Intel ---- */

static void amd_and_intel_cards_are_shown_with_their_memory(void **state)
{
    (void)state;
    detect_places places = fake_machine();
    fake_card("0000:03:00.0", "0x1002\n", "0x744c\n", "x/amdgpu");
    fake_file("sys/bus/pci/devices/0000:03:00.0/mem_info_vram_total", "25753026560\n");
    fake_file("sys/bus/pci/devices/0000:03:00.0/mem_info_vram_used", "1073741824\n");
    fake_card("0000:04:00.0", "0x8086\n", "0x56a0\n", "x/i915");
    fake_file("sys/bus/pci/devices/0000:04:00.0/drm/card1/lmem_total_bytes", "17179869184\n");
    fake_file("sys/bus/pci/devices/0000:04:00.0/drm/card1/lmem_avail_bytes", "8589934592\n");
    fake_card("0000:05:00.0", "0x8086\n", "0xe20b\n", "x/xe");
    fake_file("sys/bus/pci/devices/0000:05:00.0/tile0/physical_vram_size_bytes", "0x2f0000000\n");
    fake_card("0000:00:02.0", "0x8086\n", "0x9a49\n", "x/i915");
    fake_card("0000:06:00.0", "0x1234\n", "0x1111\n", NULL);           /* a virtual display: no maker of GPUs */
    fake_file("sys/bus/pci/devices/0000:07:00.0/class", "0x040300\n"); /* sound */
    fake_file("sys/bus/pci/devices/0000:07:00.0/vendor", "0x10de\n");
    const detect_device *amd = run(&places, 0);
    assert_int_equal(found.count, 5);
    assert_string_equal(amd->id, "amd:0");
    assert_string_equal(amd->name, "AMD 1002:744c");
    assert_string_equal(amd->driver, "amdgpu");
    assert_true(amd->total == UINT64_C(25753026560) && amd->free == UINT64_C(25753026560) - GIB);
    assert_int_equal(amd->problem, DETECT_REPORT_ONLY);
    const detect_device *inside = &found.devices[1], *arc = &found.devices[2], *xe = &found.devices[3];
    assert_true(inside->shared && !inside->total_known);
    assert_string_equal(arc->id, "intel:1");
    assert_true(arc->total == 16 * GIB && arc->free == 8 * GIB);
    assert_true(xe->total == UINT64_C(0x2f0000000) && !xe->free_known);
    /* nonsense from a driver */
    fake_file("sys/bus/pci/devices/0000:03:00.0/mem_info_vram_total", "0\n");
    assert_int_equal(run(&places, 0)->problem, DETECT_IMPLAUSIBLE);
    fake_file("sys/bus/pci/devices/0000:03:00.0/mem_info_vram_total", "lots\n");
    assert_false(run(&places, 0)->total_known);
    fake_file("sys/bus/pci/devices/0000:03:00.0/mem_info_vram_total", "1024\n");
    fake_file("sys/bus/pci/devices/0000:03:00.0/mem_info_vram_used", "2048\n");
    assert_true(run(&places, 0)->total_known && !found.devices[0].free_known);
}

static void users_of_amd_and_intel_cards_are_named(void **state)
{
    (void)state;
    detect_places places = fake_machine();
    fake_card("0000:03:00.0", "0x1002\n", "0x744c\n", "x/amdgpu");
    fake_card("0000:04:00.0", "0x8086\n", "0xe20b\n", "x/xe");
    fake_file("proc/100/comm", "blender\n");
    fake_file("proc/100/fd/other", "");
    static const char amd[] = "pos:\t0\ndrm-driver:\tamdgpu\ndrm-pdev:\t0000:03:00.0\ndrm-client-id:\t%d\n"
                              "drm-memory-vram:\t%d KiB\n";
    char text[512], path[64];
    static const int clients[][2] = {{7, 1024}, {7, 1024}, {8, 2048}}; /* the second is the first, opened again */
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "proc/100/fdinfo/%d", i);
        snprintf(text, sizeof text, amd, clients[i][0], clients[i][1]);
        fake_file(path, text);
        snprintf(path, sizeof path, "proc/100/fd/%d", i);
        fake_link(path, "/dev/dri/renderD128");
    }
    fake_file("proc/200/comm", "game\n");
    fake_file("proc/200/fdinfo/5", "drm-pdev:\t0000:04:00.0\ndrm-client-id:\t7\ndrm-total-vram0:\t9999 KiB\n"
                                   "drm-resident-vram0:\t512 KiB\n");
    fake_file("proc/200/fd/x", "");
    fake_link("proc/200/fd/5", "/dev/dri/card1");
    fake_file("proc/200/fdinfo/6", "drm-pdev:\t0000:03:00.0\ndrm-memory-vram:\t9 KiB\n"); /* no card's file */
    fake_link("proc/200/fd/6", "/dev/null");
    fake_file("proc/300/fdinfo/1", "drm-pdev:\tnonsense\ndrm-memory-vram:\tlots\n");
    fake_file("proc/300/fd/x", "");
    fake_link("proc/300/fd/1", "/dev/dri/card0");
    const detect_device *card = run(&places, 0);
    assert_int_equal(card->user_count, 1);
    assert_string_equal(card->users[0].name, "blender");
    assert_int_equal(card->users[0].pid, 100);
    assert_true(card->users[0].bytes == 3 * MIB);
    card = &found.devices[1];
    assert_int_equal(card->user_count, 1);
    assert_string_equal(card->users[0].name, "game");
    assert_true(card->users[0].bytes == MIB / 2);
}

static void bus_addresses_in_every_spelling(void **state)
{
    (void)state;
    static const char *const rows[][2] = {{"00000000:65:00.0", "0000:65:00.0"},
                                          {"0000:B1:00.1", "0000:b1:00.1"},
                                          {"00000001:0A:1F.7", "0001:0a:1f.7"},
                                          {"", ""},
                                          {"65:00.0", ""},
                                          {"zzzz:00:00.0", ""},
                                          {"ffffffffffffffff", ""}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char pci[20];
        detect_pci_name(rows[i][0], pci);
        assert_string_equal(pci, rows[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cpu_is_always_there),
        cmocka_unit_test(cgroups_version_2_limit_the_memory),
        cmocka_unit_test(cgroups_version_1_limit_the_memory),
        cmocka_unit_test(nvidia_cards_with_memory_and_users),
        cmocka_unit_test(cards_can_be_hidden_and_reordered),
        cmocka_unit_test(the_driver_is_asked_where_there_is_no_management_library),
        cmocka_unit_test(an_absurd_library_does_no_harm),
        cmocka_unit_test(a_card_that_cannot_be_used_is_diagnosed),
        cmocka_unit_test(a_device_file_without_permission_is_named),
        cmocka_unit_test(the_model_is_named_where_the_kernel_knows_it),
        cmocka_unit_test(a_card_split_into_instances_is_not_taken_whole),
        cmocka_unit_test(a_library_without_a_card_says_why),
        cmocka_unit_test(amd_and_intel_cards_are_shown_with_their_memory),
        cmocka_unit_test(users_of_amd_and_intel_cards_are_named),
        cmocka_unit_test(bus_addresses_in_every_spelling),
    };
    return cmocka_run_group_tests(tests, make_place, remove_place);
}
