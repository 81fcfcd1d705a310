/* gemm_int8_amx.c - the product of bytes on AMX: 32 x 32 sums in four of the eight tile registers, two more each for A
 * and B, a slab of 64 values of k a step. TDPBUSD adds four products of an unsigned and a signed byte in 32 bits. The
 * loads are shared out over the caches as gemm_amx.c explains: A passes by, B comes from the first level. */
#include "device/cpu/kernels.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

enum { HALF = CPU_TILE / 2, C_BYTES = CPU_NR * (int)sizeof(int32_t), B_BYTES = 2 * CPU_TILE_LINE };

/* The flags are constants wherever this is inlined: whether the second half of the rows is wanted. */
INLINE void halves(int32_t *c, const char *a, int64_t distance, int64_t slabs, const int8_t *b, bool accumulate,
                   bool low, cpu_meanwhile *meanwhile)
{
    int32_t *c_low = c + HALF * CPU_NR;
    if (accumulate) {
        _tile_loadd(0, c, C_BYTES);
        _tile_loadd(1, c + HALF, C_BYTES);
        if (low) _tile_loadd(2, c_low, C_BYTES);
        if (low) _tile_loadd(3, c_low + HALF, C_BYTES);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        if (low) _tile_zero(2);
        if (low) _tile_zero(3);
    }
    for (int64_t s = 0; s < slabs; s++, a += distance, b += CPU_SLAB_BYTES) {
        _tile_loadd(6, b, B_BYTES);
        _tile_stream_loadd(4, a, CPU_TILE_LINE);
        _tile_loadd(7, b + CPU_TILE_LINE, B_BYTES);
        if (low) _tile_stream_loadd(5, a + HALF * CPU_TILE_LINE, CPU_TILE_LINE);
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 4, 7);
        if (low) _tile_dpbusd(2, 5, 6);
        if (low) _tile_dpbusd(3, 5, 7);
        cpu_do_meanwhile(meanwhile);
    }
    _tile_stored(0, c, C_BYTES);
    _tile_stored(1, c + HALF, C_BYTES);
    if (low) _tile_stored(2, c_low, C_BYTES);
    if (low) _tile_stored(3, c_low + HALF, C_BYTES);
}

static void multiply(int32_t *c, const char *a, int64_t distance, int64_t rows, int64_t slabs, const int8_t *b,
                     bool accumulate, cpu_meanwhile *meanwhile)
{
    if (rows > HALF)
        halves(c, a, distance, slabs, b, accumulate, true, meanwhile);
    else
        halves(c, a, distance, slabs, b, accumulate, false, meanwhile);
}

const cpu_int8_tiles cpu_int8_tiles_amx = {.multiply = multiply};
