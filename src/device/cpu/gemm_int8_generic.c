/* gemm_int8_generic.c - the product of bytes for any CPU. */
#include "device/cpu/kernels.h"

#include <string.h>

static void multiply(int32_t *c, const void *rows, int64_t distance, int count, int64_t slabs, const int8_t *b,
                     bool accumulate, const char *soon)
{
    (void)soon;
    for (int r = 0; r < count; r++, c += CPU_NR) {
        if (!accumulate) memset(c, 0, CPU_NR * sizeof *c);
        for (int64_t s = 0; s < slabs; s++) {
            const uint8_t *a = (const uint8_t *)rows + s * distance + r * CPU_SLAB;
            for (int k = 0; k < CPU_SLAB; k += 4) {
                const int8_t *quads = b + s * CPU_SLAB_BYTES + k * CPU_NR;
                for (int j = 0; j < CPU_NR; j++)
                    for (int i = 0; i < 4; i++) c[j] += a[k + i] * quads[4 * j + i];
            }
        }
    }
}

const cpu_int8 cpu_int8_generic = {.rows = 4, .multiply = multiply};
