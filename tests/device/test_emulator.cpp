/* The GPU emulator itself: words of a warp against their definitions, written down here once more, and what it must
 * find wrong. */
#include "device/cuda/emulation/emulated_gpu.h"
#include "device/cuda/kernels/language.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern "C" {
#include <cmocka.h>
}

enum { WARP = 32 };

/* ---- an open GPU --------------------------------------------------------------------------------------------------
 */

static const size_t MEMORY = (size_t)8 << 20;

struct opened {
    const gpu *g;
    gpu_context *context;
    gpu_properties properties;
    gpu_stream *stream;
    char *memory;
};

static opened open_gpu(gpu_emulated_settings settings)
{
    opened o = {};
    gpu_emulated_set(&settings);
    o.g = gpu_emulated();
    assert_int_equal(o.g->open(0, &o.context, &o.properties), 0);
    assert_int_equal(o.g->stream_open(o.context, &o.stream), 0);
    void *address;
    assert_int_equal(o.g->reserve(o.context, 2 * MEMORY, &address), 0);
    o.memory = (char *)address;
    assert_int_equal(o.g->commit(o.context, o.memory, MEMORY), 0);
    return o;
}

static void close_gpu(opened *o)
{
    o->g->stream_close(o->stream);
    o->g->decommit(o->context, o->memory, MEMORY);
    o->g->unreserve(o->context, o->memory, 2 * MEMORY);
    o->g->close(o->context);
    gpu_emulated_settings normal = gpu_emulated_defaults();
    gpu_emulated_set(&normal);
}

static uint64_t random_state = 1;

static uint32_t random_bits()
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 32);
}

/* ---- fragments: what each lane's registers hold, element by element as the PTX manual lists them
 * ------------------------ */

struct fragments {
    uint32_t *a, *b;
    uint32_t *d; /* float or int32_t */
    int kind;    /* 0: bf16, 1: f16, 2: s8 */
};

GPU_KERNEL(WARP) void multiply_kernel(fragments f)
{
    int lane = (int)threadIdx.x;
    uint32_t a[4], b[2];
    float d[4];
    int32_t sums[4];
    for (int i = 0; i < 4; i++) {
        a[i] = f.a[4 * lane + i];
        d[i] = gpu_float_of(f.d[4 * lane + i]);
        sums[i] = (int32_t)f.d[4 * lane + i];
    }
    for (int i = 0; i < 2; i++) b[i] = f.b[2 * lane + i];
    if (f.kind == 0) gpu_mma_bf16(d, a, b);
    if (f.kind == 1) gpu_mma_f16(d, a, b);
    if (f.kind == 2) gpu_mma_s8(sums, a, b);
    for (int i = 0; i < 4; i++) f.d[4 * lane + i] = f.kind == 2 ? (uint32_t)sums[i] : gpu_bits_of(d[i]);
}

static void put(uint32_t *registers, int element, int bits, uint32_t value)
{
    int per = 32 / bits;
    uint32_t mask = bits == 16 ? 0xffffu : 0xffu;
    int shift = element % per * bits;
    registers[element / per] = (registers[element / per] & ~(mask << shift)) | (value & mask) << shift;
}

/* Rows, columns of element i of lane `lane` as in "Matrix Fragments for mma.m16n8k16 / k8 / k32"; those of k8 twice,
 * for columns 0 .. 7 and 8 .. 15. */
static void place_a(int kind, int lane, int i, int *row, int *col)
{
    int group = lane >> 2, in_group = lane % 4;
    if (kind == 0) {
        *row = (i < 2 || (i >= 4 && i < 6)) ? group : group + 8;
        *col = i < 4 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8;
    } else if (kind == 1) {
        *row = i % 4 < 2 ? group : group + 8;
        *col = in_group * 2 + (i & 1) + i / 4 * 8;
    } else {
        *row = (i < 4 || (i >= 8 && i < 12)) ? group : group + 8;
        *col = i < 8 ? in_group * 4 + (i & 3) : in_group * 4 + (i & 3) + 16;
    }
}

static void place_b(int kind, int lane, int i, int *row, int *col)
{
    int group = lane >> 2, in_group = lane % 4;
    *col = group;
    if (kind == 2)
        *row = i < 4 ? in_group * 4 + (i & 3) : in_group * 4 + (i & 3) + 16;
    else
        *row = i < 2 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8;
}

static void fragments_lie_as_in_the_manual(void **)
{
    static const int depth[] = {16, 16, 32}, a_values[] = {8, 8, 16}, b_values[] = {4, 4, 8};
    opened o = open_gpu(gpu_emulated_defaults());
    fragments f = {(uint32_t *)o.memory, (uint32_t *)o.memory + 4 * WARP, (uint32_t *)o.memory + 8 * WARP, 0};
    for (int round = 0; round < 30; round++) {
        f.kind = round % 3;
        int k_count = depth[f.kind];
        int a[16][32], b[32][8], c[16][8];
        for (auto &row : a)
            for (int &v : row) v = (int)(random_bits() % 255) - 127;
        for (auto &row : b)
            for (int &v : row) v = (int)(random_bits() % 255) - 127;
        for (auto &row : c)
            for (int &v : row) v = (int)(random_bits() % 2001) - 1000;
        memset(o.memory, 0, 12 * WARP * 4);
        for (int lane = 0; lane < WARP; lane++) {
            int row, col, bits = f.kind == 2 ? 8 : 16;
            for (int i = 0; i < a_values[f.kind]; i++) {
                place_a(f.kind, lane, i, &row, &col);
                float v = (float)a[row][col];
                put(f.a + 4 * lane, i, bits,
                    f.kind == 0   ? gpu_float_to_bf16(v)
                    : f.kind == 1 ? gpu_float_to_half(v)
                                  : (uint32_t)a[row][col]);
            }
            for (int i = 0; i < b_values[f.kind]; i++) {
                place_b(f.kind, lane, i, &row, &col);
                float v = (float)b[row][col];
                put(f.b + 2 * lane, i, bits,
                    f.kind == 0   ? gpu_float_to_bf16(v)
                    : f.kind == 1 ? gpu_float_to_half(v)
                                  : (uint32_t)b[row][col]);
            }
            for (int i = 0; i < 4; i++) {
                int v = c[(lane >> 2) + (i < 2 ? 0 : 8)][lane % 4 * 2 + (i & 1)];
                f.d[4 * lane + i] = f.kind == 2 ? (uint32_t)v : gpu_bits_of((float)v);
            }
        }
        assert_int_equal(gpu_launch(multiply_kernel, dim3(1), WARP, 0, o.stream, f), 0);
        for (int lane = 0; lane < WARP; lane++)
            for (int i = 0; i < 4; i++) {
                int row = (lane >> 2) + (i < 2 ? 0 : 8), col = lane % 4 * 2 + (i & 1), want = c[row][col];
                for (int k = 0; k < k_count; k++) want += a[row][k] * b[k][col];
                uint32_t got = f.d[4 * lane + i];
                /* every sum is an integer below 2^24: exact in float32, too */
                assert_int_equal(f.kind == 2 ? (int)got : (int)gpu_float_of(got), want);
            }
    }
    close_gpu(&o);
}

struct matrices {
    const uint16_t *values; /* [4][8][8] */
    uint32_t *straight, *transposed;
};

GPU_KERNEL(WARP) void load_kernel(matrices m)
{
    GPU_SHARED(uint16_t, all, 4 * 64 + 8);
    int lane = (int)threadIdx.x;
    for (int i = lane; i < 4 * 64; i += WARP) all[(i + 8) / 8 * 8 + i % 8] = m.values[i];
    __syncthreads();
    uint32_t r[4];
    const uint16_t *row = all + 8 + 8 * lane;
    gpu_load_matrix_x4(r, row);
    for (int i = 0; i < 4; i++) m.straight[4 * lane + i] = r[i];
    gpu_load_matrix_x4_transposed(r, row);
    for (int i = 0; i < 4; i++) m.transposed[4 * lane + i] = r[i];
}

static void matrices_are_loaded_as_in_the_manual(void **)
{
    opened o = open_gpu(gpu_emulated_defaults());
    uint16_t *values = (uint16_t *)o.memory;
    matrices m = {values, (uint32_t *)(values + 256), (uint32_t *)(values + 512)};
    for (int i = 0; i < 256; i++) values[i] = (uint16_t)random_bits();
    assert_int_equal(gpu_launch(load_kernel, dim3(1), WARP, 0, o.stream, m), 0);
    for (int lane = 0; lane < WARP; lane++)
        for (int i = 0; i < 4; i++) {
            const uint16_t *one = values + 64 * i;
            int row = lane / 4, col = lane % 4 * 2;
            assert_int_equal(m.straight[4 * lane + i], one[8 * row + col] | (uint32_t)one[8 * row + col + 1] << 16);
            assert_int_equal(m.transposed[4 * lane + i], one[8 * col + row] | (uint32_t)one[8 * (col + 1) + row] << 16);
        }
    close_gpu(&o);
}

/* ---- threads that wait
 * ------------------------------------------------------------------------------------------------- */

struct reverse_args {
    int *y;
    const int *x;
    int n; /* a multiple of 128 */
};

/* Turns every 128 round, through shared memory and shuffles. */
GPU_KERNEL(128) void reverse_kernel(reverse_args a)
{
    GPU_DYNAMIC_SHARED(int, tile);
    int t = (int)threadIdx.x;
    tile[t] = a.x[(int)blockIdx.x * 128 + t];
    __syncthreads();
    int v = tile[(127 - t) / 32 * 32 + t % 32]; /* warps in reverse order */
    __syncthreads();
    a.y[(int)blockIdx.x * 128 + t] = gpu_shuffle(v, 31 - t % 32) + gpu_shuffle_xor(t, 5) - (t ^ 5);
}

static void barriers_and_shuffles_work_in_every_order(void **)
{
    enum { N = 128 * 7 };
    gpu_emulated_settings settings = gpu_emulated_defaults();
    for (int order = GPU_EMULATED_FORWARD; order <= GPU_EMULATED_SHUFFLED; order++) {
        settings.order = (gpu_emulated_order)order;
        settings.seed = 5;
        opened o = open_gpu(settings);
        int *x = (int *)o.memory, *y = x + N;
        for (int i = 0; i < N; i++) x[i] = i;
        assert_int_equal(gpu_launch(reverse_kernel, dim3(N / 128), 128, 512, o.stream, {y, x, N}), 0);
        for (int i = 0; i < N; i++) assert_int_equal(y[i], i / 128 * 128 + 127 - i % 128);
        close_gpu(&o);
    }
}

struct wrong_args {
    int what;
    float *y;
    const float *x;
};

enum {
    EXITED,
    TWO_BARRIERS,
    HALF_A_WARP,
    TWO_COLLECTIVES,
    UNALIGNED_COPY,
    COPY_TO_GLOBAL,
    TOO_MUCH_SHARED,
    BAD_LANE,
    WRONGS
};

template <int THREADS> GPU_KERNEL(THREADS) void wrong_kernel(wrong_args a)
{
    GPU_SHARED(float, tile, 64);
    int t = (int)threadIdx.x;
    switch (a.what) {
    case EXITED:
        if (t == 5) return;
        __syncthreads();
        break;
    case TWO_BARRIERS:
        if (t < 32)
            __syncthreads();
        else
            __syncthreads();
        break;
    case HALF_A_WARP:
        if (t < 16) a.y[t] = gpu_shuffle_xor(1.0f, 1);
        break;
    case TWO_COLLECTIVES:
        if (t % 2)
            __syncwarp();
        else
            a.y[t] = gpu_shuffle_xor(1.0f, 1);
        break;
    case UNALIGNED_COPY:
        gpu_copy16_async(tile, a.x + 1, true);
        break;
    case COPY_TO_GLOBAL:
        gpu_copy16_async(a.y, a.x, true);
        break;
    case TOO_MUCH_SHARED: {
        GPU_SHARED(float, huge, 13000);
        huge[t] = 1;
        break;
    }
    case BAD_LANE:
        a.y[t] = gpu_shuffle(1.0f, 32);
        break;
    }
}

static void what_a_gpu_would_hang_on_is_an_error(void **)
{
    static const char *const says[WRONGS] = {"__syncthreads in line",      "while others wait at that in line",
                                             "waits at gpu_shuffle",       "while others of its warp are at",
                                             "not divisible by 16",        "outside the block's shared memory",
                                             "shared memory are too much", "from lane 32"};
    for (int what = 0; what < WRONGS; what++) {
        opened o = open_gpu(gpu_emulated_defaults());
        wrong_args a = {what, (float *)o.memory, (const float *)o.memory + 1024};
        assert_int_equal(gpu_launch(wrong_kernel<64>, dim3(3), 64, 0, o.stream, a), GPU_EMULATED_KERNEL);
        const char *message = o.g->message(GPU_EMULATED_KERNEL);
        if (!strstr(message, says[what]) || !strstr(message, "kernel wrong_kernel<64>, block 0,0,0"))
            fail_msg("message: %s", message);
        /* as on a GPU, nothing works from then on */
        assert_int_equal(o.g->stream_wait(o.stream), GPU_EMULATED_KERNEL);
        close_gpu(&o);
    }
    /* and the next context is a good one */
    opened o = open_gpu(gpu_emulated_defaults());
    int *x = (int *)o.memory;
    for (int i = 0; i < 128; i++) x[i] = i;
    assert_int_equal(gpu_launch(reverse_kernel, dim3(1), 128, 512, o.stream, {x + 128, x, 128}), 0);
    assert_int_equal(x[128], 127);
    close_gpu(&o);
}

static void what_the_capability_lacks_is_an_error(void **)
{
    gpu_emulated_settings settings = gpu_emulated_defaults();
    settings.capability[0] = 7;
    settings.capability[1] = 5;
    opened o = open_gpu(settings);
    assert_int_equal(gpu_stream_capability(o.stream), 75);
    memset(o.memory, 0, 4096);
    fragments f = {(uint32_t *)o.memory, (uint32_t *)o.memory + 4 * WARP, (uint32_t *)o.memory + 8 * WARP, 1};
    assert_int_equal(gpu_launch(multiply_kernel, dim3(1), WARP, 0, o.stream, f), 0); /* half it has */
    f.kind = 0;
    assert_int_equal(gpu_launch(multiply_kernel, dim3(1), WARP, 0, o.stream, f), GPU_EMULATED_KERNEL);
    assert_non_null(strstr(o.g->message(GPU_EMULATED_KERNEL), "needs capability 8.0"));
    close_gpu(&o);

    o = open_gpu(settings);
    int error = gpu_launch(reverse_kernel, dim3(1), 128, (size_t)65 << 10, o.stream, {nullptr, nullptr, 0});
    assert_int_equal(error, GPU_EMULATED_KERNEL);
    close_gpu(&o);
}

/* ---- asynchronous copies
 * ------------------------------------------------------------------------------------------------ */

struct stages_args {
    float *y;
    const float *x;
    int waits;
};

GPU_KERNEL(WARP) void stages_kernel(stages_args a)
{
    GPU_SHARED(float, tile, 3 * 4 * WARP);
    int t = (int)threadIdx.x;
    for (int stage = 0; stage < 3; stage++) {
        gpu_copy16_async(tile + (stage * WARP + t) * 4, a.x + (stage * WARP + t) * 4, t != 7);
        gpu_copy_commit();
    }
    if (a.waits == 1) gpu_copy_wait<2>();
    if (a.waits == 2) gpu_copy_wait<1>();
    if (a.waits == 3) gpu_copy_wait<0>();
    for (int stage = 0; stage < 3; stage++) a.y[stage * WARP + t] = tile[(stage * WARP + t) * 4];
}

static void copies_arrive_when_they_are_waited_for(void **)
{
    for (int waits = 0; waits <= 3; waits++) {
        opened o = open_gpu(gpu_emulated_defaults());
        float *x = (float *)o.memory, *y = x + 1024;
        for (int i = 0; i < 384; i++) x[i] = (float)i;
        assert_int_equal(gpu_launch(stages_kernel, dim3(1), WARP, 0, o.stream, {y, x, waits}), 0);
        for (int i = 0; i < 3 * WARP; i++) {
            if (i / WARP >= waits)
                assert_true(isnan(y[i]));
            else
                assert_true(y[i] == (i % WARP == 7 ? 0.0f : (float)(4 * i)));
        }
        close_gpu(&o);
    }
}

GPU_KERNEL(WARP) void unwritten_kernel(stages_args a)
{
    GPU_SHARED(float, tile, WARP);
    if (blockIdx.x == 0) tile[threadIdx.x] = 1; /* not seen by the next block */
    a.y[blockIdx.x * WARP + threadIdx.x] = tile[threadIdx.x];
}

static void shared_memory_that_nobody_wrote_is_nan(void **)
{
    opened o = open_gpu(gpu_emulated_defaults());
    float *y = (float *)o.memory;
    assert_int_equal(gpu_launch(unwritten_kernel, dim3(2), WARP, 0, o.stream, {y, nullptr, 0}), 0);
    for (int i = 0; i < WARP; i++) assert_true(y[i] == 1 && isnan(y[WARP + i]));
    close_gpu(&o);
}

/* ---- numbers
 * ------------------------------------------------------------------------------------------------------------- */

static void halves_convert(void **)
{
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        uint16_t h = (uint16_t)bits;
        float f = gpu_half_to_float(h);
        int exponent = (int)(bits >> 10 & 31), fraction = (int)(bits & 1023);
        double want = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
        if (bits & 0x8000) want = -want;
        if (exponent == 31)
            assert_true(fraction ? isnan(f) : isinf(f) && (f < 0) == (bits >> 15 == 1));
        else
            assert_true(f == (float)want && signbit(f) == signbit(want));
        if (!isnan(f)) assert_int_equal(gpu_float_to_half(f), h);
        /* between two neighbours the nearer one, in the middle the even one */
        if (exponent < 30 && !(bits & 0x8000)) {
            float next = gpu_half_to_float((uint16_t)(h + 1)), middle = f + (next - f) / 2;
            assert_int_equal(gpu_float_to_half(middle), h & 1 ? h + 1 : h);
            assert_int_equal(gpu_float_to_half(nextafterf(middle, 0)), h);
            assert_int_equal(gpu_float_to_half(nextafterf(middle, 1e9f)), h + 1);
        }
    }
}

static double units(double got, double want)
{
    return want == 0 ? fabs(got) * 0x1p149 : fabs(got - want) / ldexp(1, ilogb(want) - 23);
}

static void functions_are_accurate(void **)
{
    double worst_exp = 0, worst_exp2 = 0;
    for (int i = 0; i <= 2000000; i++) {
        float x = -87.0f + 175.0f * (float)i / 2000000, z = -126.0f + 253.9f * (float)i / 2000000;
        worst_exp = fmax(worst_exp, units(gpu_exp(x), exp((double)x)));
        worst_exp2 = fmax(worst_exp2, units(gpu_exp2(z), exp2((double)z)));
    }
    print_message("exp: at most %.2f units in the last place, exp2: %.2f\n", worst_exp, worst_exp2);
    assert_true(worst_exp < 2 && worst_exp2 < 2);
    assert_true(gpu_exp(0) == 1 && gpu_exp2(0) == 1 && gpu_exp2(-3) == 0.125f);
    assert_true(gpu_exp(-INFINITY) == 0 && gpu_exp(INFINITY) == INFINITY && isnan(gpu_exp(NAN)));
    assert_true(gpu_exp2(-INFINITY) == 0 && gpu_exp2(INFINITY) == INFINITY && isnan(gpu_exp2(NAN)));
    assert_true(gpu_exp(89) == INFINITY && gpu_exp2(128) == INFINITY && gpu_exp(-1e30f) == 0 && gpu_exp2(-1e30f) == 0);
    assert_true(isnan(gpu_sin_squared(NAN)) && isnan(gpu_sin_squared(INFINITY)));
    double huge = sin((double)1e20f);
    assert_true(units(gpu_sin_squared(1e20f), huge * huge) < 5);
}

/* ---- memory, streams, graphs
 * -------------------------------------------------------------------------------------------- */

static void memory_is_counted_and_limited(void **)
{
    gpu_emulated_settings settings = gpu_emulated_defaults();
    settings.total_bytes = (size_t)64 << 20;
    settings.context_bytes = (size_t)20 << 20;
    settings.page_bytes = 4096;
    opened o = open_gpu(settings);
    size_t free_bytes, total;
    assert_int_equal(o.g->memory(o.context, &free_bytes, &total), 0);
    assert_true(total == settings.total_bytes && free_bytes == total - settings.context_bytes - MEMORY);
    assert_true(isnan(((float *)o.memory)[77]));
    assert_int_equal(o.g->commit(o.context, o.memory, 4096), GPU_EMULATED_MISUSE); /* twice */
    assert_int_equal(o.g->commit(o.context, o.memory + MEMORY, 4000), GPU_EMULATED_MISUSE);
    assert_int_equal(o.g->commit(o.context, o.memory + 2 * MEMORY, 4096), GPU_EMULATED_MISUSE);
    void *more;
    assert_int_equal(o.g->reserve(o.context, (size_t)1 << 30, &more), 0);
    assert_int_equal(o.g->commit(o.context, more, free_bytes + 4096), GPU_EMULATED_NO_MEMORY);
    assert_int_equal(o.g->commit(o.context, more, free_bytes), 0);
    assert_true(gpu_emulated_count().committed == free_bytes + MEMORY);
    assert_int_equal(o.g->unreserve(o.context, more, (size_t)1 << 30), GPU_EMULATED_MISUSE); /* still committed */
    assert_int_equal(o.g->decommit(o.context, more, free_bytes), 0);
    assert_int_equal(o.g->unreserve(o.context, more, (size_t)1 << 30), 0);
    assert_true(gpu_emulated_count().committed == MEMORY && gpu_emulated_count().committed_peak >= free_bytes + MEMORY);
    close_gpu(&o);
    gpu_emulated_counts end = gpu_emulated_count();
    assert_true(end.committed == 0 && end.reserved == 0 && end.contexts == 0 && end.streams == 0);
}

struct add_args {
    float *y;
    const float *x;
};

GPU_KERNEL(1) void add_kernel(add_args a)
{
    *a.y += *a.x;
}

static void delayed_work_is_done_when_it_is_waited_for(void **)
{
    gpu_emulated_settings settings = gpu_emulated_defaults();
    settings.delayed = 1;
    opened o = open_gpu(settings);
    gpu_stream *other;
    gpu_event *event;
    assert_int_equal(o.g->stream_open(o.context, &other), 0);
    assert_int_equal(o.g->event_open(o.context, &event), 0);
    void *address;
    assert_int_equal(o.g->host_alloc(o.context, 64, &address), 0);
    float *pinned = (float *)address, pageable = 3, result = -1;
    float *x = (float *)o.memory, *y = x + 16;

    *pinned = 5;
    assert_int_equal(o.g->zero(o.stream, y, 4), 0);
    assert_int_equal(o.g->copy_in(o.stream, x, pinned, 4), 0);
    *pinned = 7; /* too early: the copy is to come */
    assert_int_equal(gpu_launch(add_kernel, dim3(1), 1, 0, o.stream, {y, x}), 0);
    assert_int_equal(o.g->copy_in(o.stream, x, &pageable, 4), 0);
    pageable = 100; /* was copied */
    assert_int_equal(o.g->event_record(event, o.stream), 0);
    assert_int_equal(gpu_launch(add_kernel, dim3(1), 1, 0, o.stream, {y, x}), 0);
    assert_int_equal(o.g->copy_out(o.stream, &result, y, 4), 0);
    assert_true(isnan(*y) && result == -1); /* nothing has happened */

    /* another stream's wait does what is before the event, no more */
    assert_int_equal(o.g->stream_wait_event(other, event), 0);
    assert_true(isnan(*y));
    assert_int_equal(o.g->stream_wait(other), 0);
    assert_true(*y == 7 && result == -1);
    assert_int_equal(o.g->event_wait(event), 0);
    assert_int_equal(o.g->event_passed(event), 1);
    assert_int_equal(o.g->stream_wait(o.stream), 0);
    assert_true(*y == 10 && result == 10);

    o.g->host_free(o.context, pinned);
    o.g->event_close(event);
    o.g->stream_close(other);
    close_gpu(&o);
    assert_true(gpu_emulated_count().events == 0 && gpu_emulated_count().host_bytes == 0);
}

static void graphs_repeat_what_was_queued(void **)
{
    for (int delayed = 0; delayed < 2; delayed++) {
        gpu_emulated_settings settings = gpu_emulated_defaults();
        settings.delayed = delayed;
        opened o = open_gpu(settings);
        float *x = (float *)o.memory, *y = x + 16;
        *x = 2;
        *y = 1;
        void *graph = nullptr;
        long before = gpu_emulated_count().launches;
        assert_int_equal(o.g->graph_begin(o.stream), 0);
        assert_int_equal(gpu_launch(add_kernel, dim3(1), 1, 0, o.stream, {y, x}), 0);
        assert_int_equal(gpu_launch(add_kernel, dim3(1), 1, 0, o.stream, {x, y}), 0);
        assert_int_equal(o.g->stream_wait(o.stream), GPU_EMULATED_MISUSE); /* not while recording */
        assert_int_equal(o.g->graph_end(o.stream, &graph), 0);
        assert_int_equal(o.g->stream_wait(o.stream), 0);
        assert_true(*y == 1 && *x == 2 && gpu_emulated_count().launches == before);
        for (int i = 0; i < 3; i++) assert_int_equal(o.g->graph_launch(o.stream, graph), 0);
        assert_int_equal(o.g->stream_wait(o.stream), 0);
        /* 1 2, 3 5, 8 13, 21 34 */
        assert_true(*y == 21 && *x == 34 && gpu_emulated_count().launches == before + 6);
        o.g->graph_free(o.context, graph);
        close_gpu(&o);
        assert_int_equal(gpu_emulated_count().graphs, 0);
    }
}

static void the_nth_call_fails(void **)
{
    opened o = open_gpu(gpu_emulated_defaults());
    float *x = (float *)o.memory;
    *x = 1;
    gpu_emulated_fail_at(3, GPU_EMULATED_INJECTED);
    assert_int_equal(o.g->zero(o.stream, x + 8, 4), 0);
    assert_int_equal(gpu_launch(add_kernel, dim3(1), 1, 0, o.stream, {x, x}), 0);
    assert_int_equal(gpu_launch(add_kernel, dim3(1), 1, 0, o.stream, {x, x}), GPU_EMULATED_INJECTED);
    assert_int_equal(gpu_launch(add_kernel, dim3(1), 1, 0, o.stream, {x, x}), 0);
    assert_true(*x == 4);
    assert_int_equal(gpu_emulated_fail_at(0, 0), 4);
    close_gpu(&o);
}

int main()
{
    const CMUnitTest tests[] = {
        cmocka_unit_test(fragments_lie_as_in_the_manual),
        cmocka_unit_test(matrices_are_loaded_as_in_the_manual),
        cmocka_unit_test(barriers_and_shuffles_work_in_every_order),
        cmocka_unit_test(what_a_gpu_would_hang_on_is_an_error),
        cmocka_unit_test(what_the_capability_lacks_is_an_error),
        cmocka_unit_test(copies_arrive_when_they_are_waited_for),
        cmocka_unit_test(shared_memory_that_nobody_wrote_is_nan),
        cmocka_unit_test(halves_convert),
        cmocka_unit_test(functions_are_accurate),
        cmocka_unit_test(memory_is_counted_and_limited),
        cmocka_unit_test(delayed_work_is_done_when_it_is_waited_for),
        cmocka_unit_test(graphs_repeat_what_was_queued),
        cmocka_unit_test(the_nth_call_fails),
    };
    return cmocka_run_group_tests_name("device/emulator", tests, NULL, NULL);
}
