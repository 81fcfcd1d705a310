/* emulator.h - the words of kernels/language.h on the CPU: a block's threads are fibers, which take turns where they
 * wait for each other.
 *
 * What a GPU leaves open is used against the kernel: shared memory starts as NaN, what gpu_copy16_async() brings is NaN
 * until it is waited for, and the threads may run in any order (emulator_set_order). Barriers and collectives that not
 * all reach, that not all reach in the same line, or that the emulated GPU does not have, are errors that name the
 * kernel, as are copies and loads that are not aligned or do not go to shared memory. */
#ifndef ACE_DEVICE_CUDA_EMULATION_EMULATOR_H
#define ACE_DEVICE_CUDA_EMULATION_EMULATOR_H

#include "device/cuda/gpu.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

/* ---- CUDA's types and variables ------------------------------------------------------------------------------- */

struct uint3 {
    unsigned x, y, z;
};

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned vx = 1, unsigned vy = 1, unsigned vz = 1) : x(vx), y(vy), z(vz) {}
};

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

static inline float2 make_float2(float x, float y)
{
    return {x, y};
}
static inline float4 make_float4(float x, float y, float z, float w)
{
    return {x, y, z, w};
}
static inline int2 make_int2(int x, int y)
{
    return {x, y};
}
static inline int4 make_int4(int x, int y, int z, int w)
{
    return {x, y, z, w};
}
static inline uint2 make_uint2(unsigned x, unsigned y)
{
    return {x, y};
}
static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w)
{
    return {x, y, z, w};
}

/* Where the running thread is. */
struct emulator_place {
    uint3 thread, block;
    dim3 block_size, grid;
};
extern emulator_place emulator_here;

#define threadIdx emulator_here.thread
#define blockIdx emulator_here.block
#define blockDim emulator_here.block_size
#define gridDim emulator_here.grid

#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __align__(n) alignas(n)

template <typename T> static inline T __ldg(const T *p)
{
    return *p;
}

/* ---- launching ------------------------------------------------------------------------------------------------ */

#define GPU_ARCH 900
#define GPU_KERNEL(...)
#define GPU_DEVICE static inline
#define GPU_DEVICE_APART static inline
#define GPU_SHARED(type, name, count)                       \
    static const char name##_place = 0;                     \
    type(&name)[count] = *reinterpret_cast<type(*)[count]>( \
        emulator_static_shared(&name##_place, sizeof(type) * (count), alignof(type)))
#define GPU_DYNAMIC_SHARED(type, name) type *const name = static_cast<type *>(emulator_dynamic_shared())

/* Shared memory of the running block. `place` tells its arrays apart. */
void *emulator_static_shared(const void *place, size_t bytes, size_t alignment);
void *emulator_dynamic_shared();

/* A kernel with its arguments; what a stream keeps of it copies `args`. */
struct emulator_launch {
    const char *call; /* the text of the call, which starts with the kernel's name */
    void (*body)(void (*kernel)(), const void *args);
    void (*kernel)();
    dim3 grid;
    int threads;
    size_t shared_bytes;
    const void *args;
    size_t args_bytes;
};

/* Of emulated_gpu.cpp: puts it into the stream; an error number. */
int emulated_gpu_queue(gpu_stream *stream, const emulator_launch *launch);

template <typename A> void emulator_body(void (*kernel)(), const void *args)
{
    reinterpret_cast<void (*)(A)>(kernel)(*static_cast<const A *>(args));
}

template <typename A>
int emulator_queue(const char *call, void (*kernel)(A), dim3 grid, int threads, size_t shared_bytes, gpu_stream *stream,
                   const decltype(A()) &args)
{
    static_assert(sizeof(A) <= 4096, "what a kernel may be given");
    static_assert(__is_trivially_copyable(A), "arguments are copied byte by byte");
    emulator_launch launch = {
        call, emulator_body<A>, reinterpret_cast<void (*)()>(kernel), grid, threads, shared_bytes, &args, sizeof args};
    return emulated_gpu_queue(stream, &launch);
}

#define gpu_launch(...) emulator_queue(#__VA_ARGS__, __VA_ARGS__)

/* ---- running: for emulated_gpu.cpp and tests -------------------------------------------------------------------- */

typedef enum emulator_order { EMULATOR_FORWARD, EMULATOR_REVERSE, EMULATOR_SHUFFLED } emulator_order;

/* The order in which blocks run, and threads between barriers. */
void emulator_set_order(emulator_order order, uint64_t seed);

/* Runs a kernel on a GPU of this capability (75, 80, ...). False with a sentence in `message` when the kernel did what
 * it must not; it was stopped there. One call at a time in the process. */
bool emulator_run(const emulator_launch *launch, int capability, char *message, size_t message_bytes);

/* Bytes that a block may share: with static arrays only, and at all. */
enum { EMULATOR_STATIC_SHARED = 48 << 10 };
size_t emulator_shared_limit(int capability);

/* ---- words of threads together ---------------------------------------------------------------------------------- */

/* The line of the caller, for messages and to see whether all are at the same place. */
#define EMULATOR_LINE int line = __builtin_LINE()

void __syncthreads(EMULATOR_LINE);
void __syncwarp(EMULATOR_LINE);

uint32_t emulator_shuffle(uint32_t bits, int from_lane, bool exclusive_or, int line);

static inline float gpu_float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t gpu_bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline double gpu_double_of(uint64_t bits)
{
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

static inline uint64_t gpu_bits_of(double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Nobody comes in between, since one thread runs at a time. */
void gpu_atomic_add(uint32_t *to, uint32_t value);
void gpu_atomic_add(uint64_t *to, uint64_t value);
void gpu_atomic_max(uint32_t *to, uint32_t value);
void gpu_atomic_min(uint32_t *to, uint32_t value);

static inline float gpu_shuffle_xor(float v, int mask, EMULATOR_LINE)
{
    return gpu_float_of(emulator_shuffle(gpu_bits_of(v), mask, true, line));
}

static inline int gpu_shuffle_xor(int v, int mask, EMULATOR_LINE)
{
    return static_cast<int>(emulator_shuffle(static_cast<uint32_t>(v), mask, true, line));
}

static inline float gpu_shuffle(float v, int lane, EMULATOR_LINE)
{
    return gpu_float_of(emulator_shuffle(gpu_bits_of(v), lane, false, line));
}

static inline int gpu_shuffle(int v, int lane, EMULATOR_LINE)
{
    return static_cast<int>(emulator_shuffle(static_cast<uint32_t>(v), lane, false, line));
}

void gpu_copy16_async(void *shared, const void *global, bool wanted);
void gpu_copy_commit();
void emulator_copy_wait(int pending);

template <int N> static inline void gpu_copy_wait()
{
    emulator_copy_wait(N);
}

void gpu_load_matrix_x4(uint32_t r[4], const void *shared_row, EMULATOR_LINE);
void gpu_load_matrix_x4_transposed(uint32_t r[4], const void *shared_row, EMULATOR_LINE);
void gpu_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2], EMULATOR_LINE);
void gpu_mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2], EMULATOR_LINE);
void gpu_mma_s8(int32_t d[4], const uint32_t a[4], const uint32_t b[2], EMULATOR_LINE);

/* ---- words of one thread ---------------------------------------------------------------------------------------- */

/* A GPU has one NaN as a result, where a CPU keeps that of an operand, whichever the compiler takes first: here the one
 * that this CPU makes of operands that are none. */
static inline float emulator_one_nan(float v)
{
#ifdef __x86_64__
    return v == v ? v : gpu_float_of(0xffc00000u);
#else
    return v == v ? v : gpu_float_of(0x7fc00000u);
#endif
}

static inline float gpu_fma(float a, float b, float c)
{
    return emulator_one_nan(fmaf(a, b, c));
}

static inline float gpu_exp2_fast(float x)
{
    return exp2f(x);
}

/* IEEE half to single, exact, and back, to nearest even; NaN stays NaN. */
float gpu_half_to_float(uint16_t bits);
uint16_t gpu_float_to_half(float value);

static inline uint16_t gpu_float_to_bf16(float value);

/* NaN as in gpu_float_to_bf16: on a GPU, whose one result that is NaN is 0x7fffffff, both give 0x7fff. */
static inline uint32_t gpu_pack_bf16(float low, float high)
{
    return static_cast<uint32_t>(gpu_float_to_bf16(high)) << 16 | gpu_float_to_bf16(low);
}

static inline uint32_t gpu_pack_half(float low, float high)
{
    return static_cast<uint32_t>(gpu_float_to_half(high)) << 16 | gpu_float_to_half(low);
}

#endif
