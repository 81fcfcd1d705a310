/* The search for races in shared memory: kernels that lack a barrier are found, and those that have it are not. This
 * file is compiled as the kernels are, with the compiler's calls for each access. */
#include "device/cuda/emulation/emulated_gpu.h"
#include "device/cuda/kernels/language.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

extern "C" {
#include <cmocka.h>
}

enum {
    FINE,
    FINE_IN_A_WARP,
    FINE_COPY,
    FINE_ATOMIC,
    NO_BARRIER_BEFORE_READING,
    NO_BARRIER_BEFORE_WRITING,
    BOTH_WRITE,
    SHUFFLE_IS_NO_BARRIER,
    WARP_BARRIER_IS_TOO_LITTLE,
    COPY_WITHOUT_BARRIER,
    COPY_INTO_WHAT_IS_READ,
    LOAD_WITHOUT_BARRIER,
    ATOMIC_AND_READ,
    ATOMIC_AND_WRITE,
    CASES
};

struct race_args {
    int what;
    uint32_t *y;
    const uint32_t *x;
};

GPU_KERNEL(64) void race_kernel(race_args a)
{
    GPU_SHARED(uint32_t, tile, 64 * 4);
    int t = (int)threadIdx.x;
    uint32_t v = 0, r[4];
    switch (a.what) {
    case FINE:
        tile[t] = (uint32_t)t;
        __syncthreads();
        v = tile[63 - t];
        __syncthreads();
        tile[t] = v;
        break;
    case FINE_IN_A_WARP:
        tile[t] = (uint32_t)t;
        __syncwarp();
        v = tile[t ^ 1];
        break;
    case FINE_COPY:
        gpu_copy16_async(tile + 4 * t, a.x + 4 * t, true);
        gpu_copy_commit();
        gpu_copy_wait<0>();
        v = tile[4 * t];
        __syncthreads();
        gpu_load_matrix_x4(r, tile + 4 * (63 - t));
        v += r[0];
        break;
    case FINE_ATOMIC:
        if (t == 0) tile[0] = 0;
        __syncthreads();
        gpu_atomic_add(&tile[0], 1u);
        gpu_atomic_max(&tile[0], 0u);
        __syncthreads();
        v = tile[0];
        break;
    case NO_BARRIER_BEFORE_READING:
        tile[t] = (uint32_t)t;
        v = tile[63 - t];
        break;
    case NO_BARRIER_BEFORE_WRITING:
        tile[t] = (uint32_t)t;
        __syncthreads();
        v = tile[0];
        tile[t] = v;
        break;
    case BOTH_WRITE:
        ((uint16_t *)tile)[t / 2] = 7;
        break;
    case SHUFFLE_IS_NO_BARRIER:
        tile[t] = (uint32_t)t;
        v = (uint32_t)gpu_shuffle(t, 0);
        v += tile[t ^ 1];
        break;
    case WARP_BARRIER_IS_TOO_LITTLE:
        tile[t] = (uint32_t)t;
        __syncwarp();
        v = tile[t ^ 32];
        break;
    case COPY_WITHOUT_BARRIER:
        gpu_copy16_async(tile + 4 * t, a.x + 4 * t, true);
        gpu_copy_commit();
        gpu_copy_wait<0>();
        v = tile[4 * (63 - t)];
        break;
    case COPY_INTO_WHAT_IS_READ:
        tile[t] = (uint32_t)t;
        __syncthreads();
        v = tile[63 - t];
        gpu_copy16_async(tile + 4 * (t % 16), a.x, true);
        break;
    case LOAD_WITHOUT_BARRIER:
        for (int i = 0; i < 4; i++) tile[4 * t + i] = (uint32_t)t;
        gpu_load_matrix_x4(r, tile + 4 * (63 - t));
        v = r[0];
        break;
    case ATOMIC_AND_READ:
        if (t == 0) tile[0] = 0;
        __syncthreads();
        gpu_atomic_add(&tile[0], 1u);
        v = tile[0];
        break;
    case ATOMIC_AND_WRITE:
        gpu_atomic_min(&tile[t / 2], 5u);
        tile[t] = 5;
        break;
    }
    a.y[t] = v;
}

static void races_are_found(void **)
{
    for (int order = GPU_EMULATED_FORWARD; order <= GPU_EMULATED_SHUFFLED; order++)
        for (int what = 0; what < CASES; what++) {
            gpu_emulated_settings settings = gpu_emulated_defaults();
            settings.order = (gpu_emulated_order)order;
            settings.seed = 3;
            gpu_emulated_set(&settings);
            const gpu *g = gpu_emulated();
            gpu_context *context;
            gpu_properties properties;
            gpu_stream *stream;
            void *memory;
            size_t bytes = settings.page_bytes;
            assert_int_equal(g->open(0, &context, &properties), 0);
            assert_int_equal(g->stream_open(context, &stream), 0);
            assert_int_equal(g->reserve(context, bytes, &memory), 0);
            assert_int_equal(g->commit(context, memory, bytes), 0);
            race_args a = {what, (uint32_t *)memory, (const uint32_t *)memory + 4096};
            int error = gpu_launch(race_kernel, dim3(2), 64, 0, stream, a);
            if (what <= FINE_ATOMIC && error) fail_msg("case %d: %s", what, g->message(error));
            if (what > FINE_ATOMIC) {
                if (error != GPU_EMULATED_KERNEL) fail_msg("case %d was not found", what);
                assert_non_null(strstr(g->message(error), "with no barrier between them"));
            }
            g->stream_close(stream);
            g->decommit(context, memory, bytes);
            g->unreserve(context, memory, bytes);
            g->close(context);
        }
}

int main()
{
    const CMUnitTest tests[] = {cmocka_unit_test(races_are_found)};
    return cmocka_run_group_tests_name("device/races", tests, NULL, NULL);
}
