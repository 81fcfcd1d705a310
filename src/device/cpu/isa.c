/* isa.c - which instruction set to use. */
#include "base/error.h"
#include "device/cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

/* Best last. */
static const cpu_kernels *const all[] = {
    &cpu_kernels_generic,
#if defined(__x86_64__)
    &cpu_kernels_avx2,        &cpu_kernels_avx2_vnni,   &cpu_kernels_avx512,
    &cpu_kernels_avx512_vnni, &cpu_kernels_avx512_bf16, &cpu_kernels_amx,
#endif
};
enum { SETS = sizeof all / sizeof *all };

#if defined(__x86_64__)
/* The matrix unit is there, the system saves its registers, and lets this process use them. The permission holds for
 * all threads of the process; asking again is harmless. */
static bool amx_allowed(void)
{
#if defined(__linux__)
    enum { OSXSAVE = 1 << 27, AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24, AMX_INT8 = 1 << 25, TILE_STATE = 3 << 17 };
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 }; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & OSXSAVE)) return false;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & AMX_BF16) || !(d & AMX_TILE) || !(d & AMX_INT8)) return false;
    __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (a & TILE_STATE) == TILE_STATE && syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
    return false;
#endif
}
#endif

#if defined(__x86_64__)
static bool avx_vnni(void)
{
    enum { AVX_VNNI = 1 << 4 };
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & AVX_VNNI);
}
#endif

static bool runs_here(ace_isa isa)
{
    switch (isa) {
    case ACE_ISA_GENERIC:
        return true;
#if defined(__x86_64__)
    case ACE_ISA_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case ACE_ISA_AVX2_VNNI:
        return runs_here(ACE_ISA_AVX2) && avx_vnni();
    case ACE_ISA_AVX512:
        return runs_here(ACE_ISA_AVX2) && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    case ACE_ISA_AVX512_VNNI:
        return runs_here(ACE_ISA_AVX512) && __builtin_cpu_supports("avx512vnni");
    case ACE_ISA_AVX512_BF16:
        return runs_here(ACE_ISA_AVX512_VNNI) && __builtin_cpu_supports("avx512bf16");
    case ACE_ISA_AMX:
        return runs_here(ACE_ISA_AVX512_BF16) && amx_allowed();
#endif
    default:
        return false;
    }
}

/* AUTO takes the last set that runs and pays. Intel's cores do a bf16 product of 512 bits
 * at half the rate of the float32 one (their fast bf16 is AMX), so there the expansion to float32 of plain AVX-512 is
 * the better code. */
static bool pays_here(ace_isa isa)
{
#if defined(__x86_64__)
    if (isa == ACE_ISA_AVX512_BF16) return !__builtin_cpu_is("intel");
#endif
    return isa != ACE_ISA_AUTO;
}

/* "generic, avx2": what this CPU can run. */
static void list_supported(char *list, size_t size)
{
    list[0] = '\0';
    for (int i = 0; i < SETS; i++) {
        size_t used = strlen(list);
        if (runs_here(all[i]->isa)) snprintf(list + used, size - used, "%s%s", used ? ", " : "", all[i]->key);
    }
}

const cpu_kernels *cpu_kernels_choose(ace_isa isa, ace_error *error)
{
    char supported[96];
    list_supported(supported, sizeof supported);
    const cpu_kernels *chosen = NULL;
    const char *wanted = isa == ACE_ISA_AUTO ? getenv("ACESTEP_ISA") : NULL;
    if (wanted && *wanted && strcmp(wanted, "auto") != 0) {
        for (int i = 0; i < SETS; i++)
            if (strcmp(all[i]->key, wanted) == 0) chosen = all[i];
        if (!chosen) {
            ace_fail(error, ACE_ERROR_USAGE, "ACESTEP_ISA=%.40s is not an instruction set; this CPU supports %s",
                     wanted, supported);
            return NULL;
        }
    } else {
        for (int i = 0; i < SETS; i++)
            if (isa == ACE_ISA_AUTO ? runs_here(all[i]->isa) && pays_here(all[i]->isa) : all[i]->isa == isa)
                chosen = all[i];
    }
    if (!chosen || !runs_here(chosen->isa)) {
        ace_fail(error, ACE_ERROR_DEVICE, "this CPU cannot run %s code; it supports %s",
                 chosen ? chosen->key : "that kind of", supported);
        return NULL;
    }
    return chosen;
}
