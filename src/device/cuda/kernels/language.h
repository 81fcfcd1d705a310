/* language.h - the words in which kernels are written. nvcc gives them their real meaning; with any other C++ compiler
 * the same kernel runs on the CPU, in emulation/emulator.h, whose fragments lie exactly as the PTX manual says.
 *
 * Kernels are C-like C++17: no library, no exceptions, templates for compile-time shapes and types only. A kernel takes
 * one plain structure by value:
 *
 *     struct scale_args { float *y; const float *x; int64_t n; float factor; };
 *
 *     GPU_KERNEL(256) void scale(scale_args a)
 *     {
 *         int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x;
 *         if (i < a.n) a.y[i] = a.factor * a.x[i];
 *     }
 *
 *     int error = gpu_launch(scale, dim3(blocks), 256, 0, stream, args);
 *
 * Collective words (gpu_shuffle, gpu_mma, gpu_load_matrix, __syncwarp) need all 32 lanes of the warp, __syncthreads all
 * threads of the block: nobody may have returned before.
 *
 * nvcc must be called with -fmad=false: where a fused multiply-add is wanted, the kernel says gpu_fma. */
#ifndef ACE_DEVICE_CUDA_KERNELS_LANGUAGE_H
#define ACE_DEVICE_CUDA_KERNELS_LANGUAGE_H

#include "device/cuda/gpu.h"

#ifdef __CUDACC__

#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stddef.h>
#include <stdint.h>

/* Threads of a block, and, where the kernel is to leave room for so many, blocks of a multiprocessor. */
#define GPU_KERNEL(...) __global__ __launch_bounds__(__VA_ARGS__)
#define GPU_DEVICE static __device__ __forceinline__
#define GPU_DEVICE_APART static __device__ __noinline__
#define GPU_SHARED(type, name, count) __shared__ type name[count]
/* All kernels of a file must ask for the same type: take char. */
#define GPU_DYNAMIC_SHARED(type, name) extern __shared__ __align__(16) type name[]

#ifdef __CUDA_ARCH__
#define GPU_ARCH __CUDA_ARCH__
#else
#define GPU_ARCH 900 /* the host's pass, which compiles no kernel */
#endif

/* Of runtime.cu: the stream as the runtime knows it. */
cudaStream_t gpu_stream_native(gpu_stream *stream);

/* Queues a kernel; the error number of the runtime. */
template <typename A>
int gpu_launch(void (*kernel)(A), dim3 grid, int threads, size_t shared_bytes, gpu_stream *stream,
               const decltype(A()) &args)
{
    static_assert(sizeof(A) <= 4096, "what a kernel may be given");
    if (shared_bytes > (48 << 10)) {
        cudaError_t error =
            cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes);
        if (error != cudaSuccess) return (int)error;
    }
    kernel<<<grid, (unsigned)threads, shared_bytes, gpu_stream_native(stream)>>>(args);
    return (int)cudaGetLastError();
}

GPU_DEVICE float gpu_float_of(uint32_t bits)
{
    return __uint_as_float(bits);
}

GPU_DEVICE uint32_t gpu_bits_of(float value)
{
    return __float_as_uint(value);
}

GPU_DEVICE double gpu_double_of(uint64_t bits)
{
    return __longlong_as_double((long long)bits);
}

GPU_DEVICE uint64_t gpu_bits_of(double value)
{
    return (uint64_t)__double_as_longlong(value);
}

/* Additions, maxima and minima that no other thread comes in between, in shared or device memory. Whole numbers only:
 * of floats the result would depend on who comes first. */
GPU_DEVICE void gpu_atomic_add(uint32_t *to, uint32_t value)
{
    atomicAdd(to, value);
}

GPU_DEVICE void gpu_atomic_add(uint64_t *to, uint64_t value)
{
    atomicAdd((unsigned long long *)to, (unsigned long long)value);
}

GPU_DEVICE void gpu_atomic_max(uint32_t *to, uint32_t value)
{
    atomicMax(to, value);
}

GPU_DEVICE void gpu_atomic_min(uint32_t *to, uint32_t value)
{
    atomicMin(to, value);
}

/* a * b + c, rounded once */
GPU_DEVICE float gpu_fma(float a, float b, float c)
{
    return __fmaf_rn(a, b, c);
}

/* Two as half in a register of a fragment, rounded to nearest even; NaN becomes 0x7fff. */
GPU_DEVICE uint32_t gpu_pack_half(float low, float high)
{
    return (uint32_t)__half_as_ushort(__float2half_rn(high)) << 16 | __half_as_ushort(__float2half_rn(low));
}

GPU_DEVICE float gpu_half_to_float(uint16_t bits)
{
    return __half2float(__ushort_as_half(bits));
}

GPU_DEVICE uint16_t gpu_float_to_half(float value)
{
    return __half_as_ushort(__float2half_rn(value));
}

/* 2^x, to 2 units in the last place, by the special function unit, where what would be subnormal is 0; not what the
 * emulator gives, bit by bit. */
GPU_DEVICE float gpu_exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
    return y;
}

GPU_DEVICE float gpu_shuffle_xor(float v, int mask)
{
    return __shfl_xor_sync(0xffffffffu, v, mask);
}

GPU_DEVICE int gpu_shuffle_xor(int v, int mask)
{
    return __shfl_xor_sync(0xffffffffu, v, mask);
}

GPU_DEVICE float gpu_shuffle(float v, int lane)
{
    return __shfl_sync(0xffffffffu, v, lane);
}

GPU_DEVICE int gpu_shuffle(int v, int lane)
{
    return __shfl_sync(0xffffffffu, v, lane);
}

GPU_DEVICE uint32_t gpu_shared_address(const void *shared)
{
    return (uint32_t)__cvta_generic_to_shared(shared);
}

/* 16 bytes from global to shared memory, both aligned to 16; zeros when !wanted, and then nothing is read. They are
 * there after gpu_copy_wait() for this thread, and after a barrier that follows it for the others. */
GPU_DEVICE void gpu_copy16_async(void *shared, const void *global, bool wanted)
{
#if GPU_ARCH >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(gpu_shared_address(shared)), "l"(global),
                 "r"(wanted ? 16 : 0)
                 : "memory");
#else
    *(uint4 *)shared = wanted ? *(const uint4 *)global : make_uint4(0, 0, 0, 0);
#endif
}

/* Ends a group of copies. */
GPU_DEVICE void gpu_copy_commit()
{
#if GPU_ARCH >= 800
    asm volatile("cp.async.commit_group;\n" ::: "memory");
#endif
}

/* Waits for all groups of this thread but the last N. */
template <int N> GPU_DEVICE void gpu_copy_wait()
{
#if GPU_ARCH >= 800
    asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
#endif
}

/* ldmatrix: four 8 x 8 matrices of 16-bit values. Lane 8 i + j gives the address of row j of matrix i in shared memory,
 * 16 bytes, aligned to 16. r[i] of lane 4 j + t holds columns 2 t and 2 t + 1 of row j of matrix i. */
GPU_DEVICE void gpu_load_matrix_x4(uint32_t r[4], const void *shared_row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(gpu_shared_address(shared_row))
                 : "memory");
}

/* The same, but r[i] of lane 4 j + t holds rows 2 t and 2 t + 1 of column j. */
GPU_DEVICE void gpu_load_matrix_x4_transposed(uint32_t r[4], const void *shared_row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(gpu_shared_address(shared_row))
                 : "memory");
}

/* d[16][8] += a[16][16] b[16][8], bfloat16; mma.m16n8k16. With g = lane / 4, t = lane % 4, low half first:
 *   a[0] = A[g][2t..]  a[1] = A[g+8][2t..]  a[2] = A[g][2t+8..]  a[3] = A[g+8][2t+8..]
 *   b[0] = B[2t..][g]  b[1] = B[2t+8..][g]
 *   d[0], d[1] = D[g][2t..]  d[2], d[3] = D[g+8][2t..]
 * Needs capability 8.0. */
GPU_DEVICE void gpu_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
#if GPU_ARCH >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    __trap();
#endif
}

/* The same of half, as every capability from 7.5 on has it: mma.m16n8k8 for columns 0 .. 7 of a, with
 *   a[0] = A[g][2t..]  a[1] = A[g+8][2t..]  b[0] = B[2t..][g],
 * and then for columns 8 .. 15, so that the fragments lie as above. */
GPU_DEVICE void gpu_mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
#pragma unroll
    for (int half = 0; half < 2; half++)
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, "
                     "%3};\n"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
}

/* d[16][8] += a[16][32] b[32][8], int8 with exact int32 sums; mma.m16n8k32, lowest byte first:
 *   a[0] = A[g][4t..]  a[1] = A[g+8][4t..]  a[2] = A[g][4t+16..]  a[3] = A[g+8][4t+16..]
 *   b[0] = B[4t..][g]  b[1] = B[4t+16..][g]; d as above. Before capability 8.0 each register of a is multiplied by
 * itself: of mma.m8n8k16 it is A[g][4t..], b is B[4t..][g], and d D[g][2t..]. */
GPU_DEVICE void gpu_mma_s8(int32_t d[4], const uint32_t a[4], const uint32_t b[2])
{
#if GPU_ARCH >= 800
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, "
                 "%1, %2, %3};\n"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#pragma unroll
    for (int i = 0; i < 4; i++)
        asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, {%0, %1};\n"
                     : "+r"(d[i % 2 * 2]), "+r"(d[i % 2 * 2 + 1])
                     : "r"(a[i]), "r"(b[i / 2]));
#endif
}

GPU_DEVICE uint16_t gpu_float_to_bf16(float value);

/* Two as bfloat16 in a register of a fragment, rounded to nearest even; NaN becomes 0x7fff, as the hardware has it. */
GPU_DEVICE uint32_t gpu_pack_bf16(float low, float high)
{
#if GPU_ARCH >= 800
    uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#else
    return (uint32_t)gpu_float_to_bf16(high) << 16 | gpu_float_to_bf16(low);
#endif
}

#else

#include "device/cuda/emulation/emulator.h"

#endif

/* Of runtime.cu or emulated_gpu.cpp: what the stream's device can do, for the choice of a kernel. */
const gpu_properties *gpu_stream_properties(const gpu_stream *stream);

/* 75, 80, 86, ... */
static inline int gpu_stream_capability(const gpu_stream *stream)
{
    const gpu_properties *p = gpu_stream_properties(stream);
    return p->capability[0] * 10 + p->capability[1];
}

GPU_DEVICE float gpu_sqrt(float x)
{
    return sqrtf(x);
}

/* 1 / sqrt(x), each step rounded to nearest */
GPU_DEVICE float gpu_rsqrt(float x)
{
    return 1.0f / sqrtf(x);
}

GPU_DEVICE float gpu_sin(float x)
{
    return sinf(x);
}

template <typename T> GPU_DEVICE T gpu_min(T a, T b)
{
    return b < a ? b : a;
}

template <typename T> GPU_DEVICE T gpu_max(T a, T b)
{
    return a < b ? b : a;
}

GPU_DEVICE float gpu_bf16_to_float(uint16_t bits)
{
    return gpu_float_of((uint32_t)bits << 16);
}

/* The two of a pair in a register. */
GPU_DEVICE float gpu_bf16_low(uint32_t pair)
{
    return gpu_float_of(pair << 16);
}

GPU_DEVICE float gpu_bf16_high(uint32_t pair)
{
    return gpu_float_of(pair & 0xffff0000u);
}

/* Rounds to nearest even; NaN stays NaN, with the upper bits that it had. */
GPU_DEVICE uint16_t gpu_float_to_bf16(float value)
{
    uint32_t bits = gpu_bits_of(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

#include "device/cuda/kernels/functions.h"

#endif
