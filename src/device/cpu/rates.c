/* rates.c - plain loops that keep the multipliers, or the way to memory, as busy as they can be. */
#include "device/rates.h"

#include "base/memory.h"
#include "base/pool.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { CHAINS = 16, PEAK_LOOPS = 4000000, RUNS = 5, HUGE_PAGE = 2 << 20 };
static const size_t READ_BYTES = (size_t)512 << 20;

double rates_clock(bool alone)
{
    struct timespec time;
    clock_gettime(alone ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* ---- multiplying --------------------------------------------------------------------------------------------- */

typedef double (*peak_loop)(void); /* returns flops done */

/* The compiler must compute what is kept. */
static void keep(float sum)
{
    volatile float kept = sum;
    (void)kept;
}

#if defined(__x86_64__)
/* Products of tiles, four sums at a time. Whoever opened a device for AMX has the system's permission. */
__attribute__((target("amx-tile,amx-bf16"))) static double peak_amx(void)
{
    /* the operand of LDTILECFG: palette 1, eight tiles of 16 rows of 64 bytes */
    static const uint8_t config[64] = {1,         [16] = 64, [18] = 64, [20] = 64, [22] = 64, [24] = 64,
                                       [26] = 64, [28] = 64, [30] = 64, [48] = 16, 16,        16,
                                       16,        16,        16,        16,        16};
    _tile_loadconfig(config);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
    for (int k = 0; k < PEAK_LOOPS / 4; k++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
    return 2.0 * 16 * 16 * 32 * PEAK_LOOPS;
}

__attribute__((target("avx512f"))) static double peak_avx512(void)
{
    __m512 sums[CHAINS], a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(1e-3f);
    for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_set1_ps((float)i);
    for (int k = 0; k < PEAK_LOOPS; k++)
#pragma GCC unroll 16
        for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_fmadd_ps(sums[i], a, b);
    for (int i = 0; i < CHAINS; i++) keep(_mm512_reduce_add_ps(sums[i]));
    return 2.0 * 16 * CHAINS * PEAK_LOOPS;
}

__attribute__((target("avx2,fma"))) static double peak_avx2(void)
{
    __m256 sums[12], a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(1e-3f);
    for (int i = 0; i < 12; i++) sums[i] = _mm256_set1_ps((float)i);
    for (int k = 0; k < PEAK_LOOPS; k++)
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++) sums[i] = _mm256_fmadd_ps(sums[i], a, b);
    for (int i = 0; i < 12; i++) keep(_mm256_cvtss_f32(sums[i]));
    return 2.0 * 8 * 12 * PEAK_LOOPS;
}
#endif

static double peak_generic(void)
{
    typedef float four __attribute__((vector_size(16)));
    four sums[8];
    for (int i = 0; i < 8; i++) sums[i] = (four){(float)i, 1, 2, 3};
    for (int k = 0; k < PEAK_LOOPS; k++)
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) sums[i] = sums[i] * 0.999f + 1e-3f;
    for (int i = 0; i < 8; i++) keep(sums[i][0]);
    return 2.0 * 4 * 8 * PEAK_LOOPS;
}

static peak_loop peak_of(const char *device)
{
#if defined(__x86_64__)
    if (strstr(device, "AMX, bf16")) return peak_amx;
    if (strstr(device, "AMX") || strstr(device, "AVX-512")) return peak_avx512;
    if (strstr(device, "AVX2")) return peak_avx2;
#endif
    (void)device;
    return peak_generic;
}

static void peak_task(void *context, int64_t index, int worker)
{
    (void)index, (void)worker;
    (*(peak_loop *)context)();
}

double rates_multiply(const char *device, int threads)
{
    ace_error error = {0};
    peak_loop loop = peak_of(device);
    ace_pool *pool = ace_pool_open(threads, &error);
    if (!pool) return 0;
    double flops = loop(), best = 0;
    for (int i = 0; i < RUNS; i++) {
        double start = rates_clock(threads == 1);
        ace_pool_run(pool, ace_pool_threads(pool), peak_task, &loop, NULL);
        best = fmax(best, flops * ace_pool_threads(pool) / (rates_clock(threads == 1) - start) * 1e-9);
    }
    ace_pool_close(pool);
    return best;
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

typedef struct reading {
    const char *memory;
    size_t share; /* bytes of a thread */
} reading;

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static uint64_t read_avx512(const char *memory, size_t bytes)
{
    __m512i sums[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    for (size_t i = 0; i + 256 <= bytes; i += 256)
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) sums[j] = _mm512_xor_si512(sums[j], _mm512_loadu_si512(memory + i + 64 * j));
    return (uint64_t)_mm512_reduce_add_epi64(
        _mm512_xor_si512(_mm512_xor_si512(sums[0], sums[1]), _mm512_xor_si512(sums[2], sums[3])));
}
#endif

static uint64_t read_generic(const char *memory, size_t bytes)
{
    typedef uint64_t pair __attribute__((vector_size(16)));
    pair sums[4] = {{0}};
    for (size_t i = 0; i + 64 <= bytes; i += 64)
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) sums[j] ^= *(const pair *)(memory + i + 16 * j);
    pair all = sums[0] ^ sums[1] ^ sums[2] ^ sums[3];
    return all[0] ^ all[1];
}

static void read_task(void *context, int64_t index, int worker)
{
    const reading *r = context;
    const char *memory = r->memory + (size_t)index * r->share;
    volatile uint64_t kept;
    (void)worker;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) {
        kept = read_avx512(memory, r->share);
        return;
    }
#endif
    kept = read_generic(memory, r->share);
    (void)kept;
}

double rates_read(int threads)
{
    ace_error error = {0};
    ace_pool *pool = ace_pool_open(threads, &error);
    char *memory = ace_alloc_aligned(READ_BYTES, HUGE_PAGE, "a block to read", &error);
    double best = 0;
    if (pool && memory) {
        madvise(memory, READ_BYTES, MADV_HUGEPAGE);
        memset(memory, 1, READ_BYTES);
        int count = ace_pool_threads(pool);
        reading r = {.memory = memory, .share = READ_BYTES / (size_t)count / 256 * 256};
        for (int i = 0; i < RUNS; i++) {
            double start = rates_clock(threads == 1);
            ace_pool_run(pool, count, read_task, &r, NULL);
            best = fmax(best, (double)r.share * count / (rates_clock(threads == 1) - start) * 1e-9);
        }
    }
    free(memory);
    if (pool) ace_pool_close(pool);
    return best;
}
