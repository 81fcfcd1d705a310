/* gemm_amx.c - the tile kernel on AMX: 32 x 32 sums in four of the eight tile registers, two more each for A and B.
 *
 * Per step of 32 values of k four tiles are loaded and four products computed. A product keeps the unit busy for 16
 * cycles and a load takes 8 from the first-level cache, so that the unit is the limit as long as half of the lines come
 * from there.
 *
 * TDPBF16PS sums the 16 even and the 16 odd products of an element one after the other, adds the two, and adds that to
 * the element, every time rounding to nearest; subnormal inputs and results become zero (Intel's Architecture
 * Instruction Set Extensions, TDPBF16PS). */
#include "device/cpu/kernels.h"

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

enum { AWAKE_STEPS = 8 }; /* between stores of a tile, see store_now_and_then() */
enum { HALF = CPU_TILE / 2, C_BYTES = CPU_TILE * (int)sizeof(float), B_BYTES = 2 * CPU_TILE_LINE };

/* The operand of LDTILECFG. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

#define EIGHT(x) x, x, x, x, x, x, x, x

/* Constant: what the compiler knows of the intrinsic is that it reads the first bytes, and it would not write the rest
 * of a local variable. */
static const tile_config all_full = {.palette = 1, .row_bytes = {EIGHT(CPU_TILE_LINE)}, .rows = {EIGHT(HALF)}};

static void begin(void)
{
    _tile_loadconfig(&all_full);
}

static void begin_few(int rows)
{
    tile_config config = all_full;
    uint8_t few = (uint8_t)rows;
    config.rows[0] = config.rows[1] = config.rows[4] = few;
    __asm__ volatile("" : : "m"(config)); /* all of it is read, see above */
    _tile_loadconfig(&config);
}

static void end(void)
{
    _tile_release();
}

/* TILELOADDT1 leaves the first-level cache to the other operand. */
#define LOAD(tile, from, distance, streamed)          \
    do                                                \
        if (streamed)                                 \
            _tile_stream_loadd(tile, from, distance); \
        else                                          \
            _tile_loadd(tile, from, distance);        \
    while (0)

/* After about 2,000 cycles without one, the next TILESTORED waits for some 700 more, as if the unit that stores tiles
 * had fallen asleep. Products of a few rows, which wait for memory, therefore store a tile now and then: an operand, to
 * where their sums will be written. Those of many rows are done sooner, and there it costs more than it gives. */
INLINE void store_now_and_then(int64_t step, float *c)
{
    if (step % AWAKE_STEPS == AWAKE_STEPS - 1) _tile_stored(6, c, C_BYTES);
}

/* Tiles 0 1 / 2 3 are the sums, 4 and 5 the upper and lower rows of A, 6 and 7 the left and right columns of B. The
 * flags are constants wherever this is inlined: whether the second half of the rows and columns is wanted, and whether
 * it is A that streams, or else B. */
INLINE void multiply_halves(float *c, const char *a, const int32_t *lines, int64_t steps, const char *b,
                            bool accumulate, bool low, bool right, bool a_streams, cpu_meanwhile *meanwhile)
{
    float *c_low = c + HALF * CPU_TILE;
    if (accumulate) {
        _tile_loadd(0, c, C_BYTES);
        if (right) _tile_loadd(1, c + HALF, C_BYTES);
        if (low) _tile_loadd(2, c_low, C_BYTES);
        if (low && right) _tile_loadd(3, c_low + HALF, C_BYTES);
    } else {
        _tile_zero(0);
        if (right) _tile_zero(1);
        if (low) _tile_zero(2);
        if (low && right) _tile_zero(3);
    }
    for (int64_t step = 0; step < steps; step++, b += CPU_TILE_STEP_BYTES) {
        const char *rows = a + (int64_t)lines[step] * CPU_TILE_LINE;
        LOAD(6, b, B_BYTES, !a_streams);
        LOAD(4, rows, CPU_TILE_LINE, a_streams);
        if (right) LOAD(7, b + CPU_TILE_LINE, B_BYTES, !a_streams);
        if (low) LOAD(5, rows + HALF * CPU_TILE_LINE, CPU_TILE_LINE, a_streams);
        _tile_dpbf16ps(0, 4, 6);
        if (right) _tile_dpbf16ps(1, 4, 7);
        if (low) _tile_dpbf16ps(2, 5, 6);
        if (low && right) _tile_dpbf16ps(3, 5, 7);
        if (!low) store_now_and_then(step, c);
        cpu_do_meanwhile(meanwhile);
    }
    _tile_stored(0, c, C_BYTES);
    if (right) _tile_stored(1, c + HALF, C_BYTES);
    if (low) _tile_stored(2, c_low, C_BYTES);
    if (low && right) _tile_stored(3, c_low + HALF, C_BYTES);
}

INLINE void multiply(float *c, const char *a, const int32_t *lines, int64_t steps, const char *b, bool accumulate,
                     int64_t rows, int64_t cols, bool a_streams, cpu_meanwhile *meanwhile)
{
    if (rows > HALF && cols > HALF)
        multiply_halves(c, a, lines, steps, b, accumulate, true, true, a_streams, meanwhile);
    else if (rows > HALF)
        multiply_halves(c, a, lines, steps, b, accumulate, true, false, a_streams, meanwhile);
    else if (cols > HALF)
        multiply_halves(c, a, lines, steps, b, accumulate, false, true, a_streams, meanwhile);
    else
        multiply_halves(c, a, lines, steps, b, accumulate, false, false, a_streams, meanwhile);
}

static void stream_a(float *c, const char *a, const int32_t *lines, int64_t steps, const char *b, bool accumulate,
                     int64_t rows, int64_t cols, cpu_meanwhile *meanwhile)
{
    multiply(c, a, lines, steps, b, accumulate, rows, cols, true, meanwhile);
}

static void stream_b(float *c, const char *a, const int32_t *lines, int64_t steps, const char *b, bool accumulate,
                     int64_t rows, int64_t cols, cpu_meanwhile *meanwhile)
{
    multiply(c, a, lines, steps, b, accumulate, rows, cols, false, meanwhile);
}

const cpu_tiles cpu_tiles_amx = {.begin = begin,
                                 .begin_few = begin_few,
                                 .end = end,
                                 .stream_a = stream_a,
                                 .stream_b = stream_b,
                                 .few_rows = cpu_few_rows_amx};
