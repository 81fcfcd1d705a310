/* product_math.h - how the sums of a tile are made from segments in shared memory.
 *
 * Two ways: with matrix instructions, where a warp owns MT x NT fragments of 16 x 8 sums, and with ordinary ones, where
 * a thread owns TM x TN sums. In both every sum is one chain in ascending k, so that the same bytes come out whatever
 * the shape of the tile. Both offer
 *     ROWS, COLS, THREADS   of the tile
 *     ELEMENT               bytes of a value of x and w
 *     type                  of values: below
 *     multiply(a, b)        adds the product of a segment of x [ROWS][128 bytes] and one of w [COLS][128 bytes]
 *     store<P>(sums, p)     part p of P, all columns of as many rows, to words [ROWS / P][COLS + SUMS_PAD] */
#ifndef ACE_DEVICE_CUDA_KERNELS_PRODUCT_MATH_H
#define ACE_DEVICE_CUDA_KERNELS_PRODUCT_MATH_H

#include "device/cuda/kernels/product_epilogue.h"

/* ---- types ------------------------------------------------------------------------------------------------------ */

/* What a word of 32 bits along k holds, how it is added to a sum, and how sums are scaled. HALF: what comes from memory
 * as bfloat16 is half where it is multiplied. */
struct of_f32 {
    typedef float sum;
    typedef unscaled scales;
    static constexpr int ELEMENT = 4;
    static constexpr bool HALF = false;
    static __device__ __forceinline__ void add(float &d, uint32_t a, uint32_t b)
    {
        d = gpu_fma(gpu_float_of(a), gpu_float_of(b), d);
    }
};

struct of_bf16 {
    typedef float sum;
    typedef unscaled scales;
    static constexpr int ELEMENT = 2;
    static constexpr bool HALF = false;
    /* 16 x 8 sums over 32 bytes of k */
    static __device__ __forceinline__ void add_matrix(float d[4], const uint32_t a[4], const uint32_t b[2])
    {
        gpu_mma_bf16(d, a, b);
    }
};

struct of_half {
    typedef float sum;
    typedef by_exponents scales;
    static constexpr int ELEMENT = 2;
    static constexpr bool HALF = true;
    static __device__ __forceinline__ void add_matrix(float d[4], const uint32_t a[4], const uint32_t b[2])
    {
        gpu_mma_f16(d, a, b);
    }
};

struct of_s8 {
    typedef int32_t sum;
    typedef by_factors scales;
    static constexpr int ELEMENT = 1;
    static constexpr bool HALF = false;
    static __device__ __forceinline__ void add_matrix(int32_t d[4], const uint32_t a[4], const uint32_t b[2])
    {
        gpu_mma_s8(d, a, b);
    }
};

GPU_DEVICE void store_pair(char *at, float a, float b)
{
    store_as(at, make_float2(a, b));
}

GPU_DEVICE void store_pair(char *at, int32_t a, int32_t b)
{
    store_as(at, make_int2(a, b));
}

/* ---- with matrix instructions ------------------------------------------------------------------------------------ */

template <class T, int WARPS_M, int WARPS_N, int MT, int NT> struct matrix_math {
    typedef T type;
    static constexpr int ROWS = WARPS_M * MT * 16, COLS = WARPS_N * NT * 8, THREADS = WARPS_M * WARPS_N * 32;
    static constexpr int ELEMENT = T::ELEMENT;

    typename T::sum d[MT][NT][4];
    int lane, row, col; /* of the warp's part */

    __device__ __forceinline__ matrix_math()
    {
        int warp = (int)threadIdx.x / 32;
        lane = (int)threadIdx.x % 32;
        row = warp / WARPS_N * MT * 16;
        col = warp % WARPS_N * NT * 8;
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
            for (int j = 0; j < NT; j++)
#pragma unroll
                for (int e = 0; e < 4; e++) d[i][j][e] = 0;
    }

    /* Fragments of w are loaded for 64 bytes of k at once: lane 8 i + j asks for row j of the column's eight, chunk i.
     * Those of x for 32: lanes 0 .. 15 ask for the rows' first chunk, the others for the second. */
    __device__ __forceinline__ void multiply(const char *a, const char *b)
    {
        int swizzle = lane & 7;
        const char *a_row = a + (row + (lane & 15)) * SEGMENT, *b_row = b + (col + swizzle) * SEGMENT;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            uint32_t w[NT][4];
#pragma unroll
            for (int j = 0; j < NT; j++)
                gpu_load_matrix_x4(w[j], b_row + j * 8 * SEGMENT + ((4 * half + (lane >> 3)) ^ swizzle) * CHUNK);
#pragma unroll
            for (int quarter = 0; quarter < 2; quarter++) {
                uint32_t x[MT][4];
#pragma unroll
                for (int i = 0; i < MT; i++)
                    gpu_load_matrix_x4(x[i], a_row + i * 16 * SEGMENT +
                                                 ((4 * half + 2 * quarter + (lane >> 4)) ^ swizzle) * CHUNK);
#pragma unroll
                for (int i = 0; i < MT; i++)
#pragma unroll
                    for (int j = 0; j < NT; j++) T::add_matrix(d[i][j], x[i], &w[j][2 * quarter]);
            }
        }
    }

    template <int PARTS> __device__ __forceinline__ void store(char *sums, int part) const
    {
        const int PART_ROWS = ROWS / PARTS;
        static_assert(PART_ROWS % 16 == 0 && ROWS % PARTS == 0, "whole fragments");
        int first = row - part * PART_ROWS; /* of the warp's rows, counted within the part */
        char *to = sums + ((first + lane / 4) * (COLS + SUMS_PAD) + col + lane % 4 * 2) * 4;
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
            for (int j = 0; j < NT; j++) {
                if (PARTS > 1 && (unsigned)(first + i * 16) >= (unsigned)PART_ROWS) continue;
                char *at = to + (i * 16 * (COLS + SUMS_PAD) + j * 8) * 4;
                store_pair(at, d[i][j][0], d[i][j][1]);
                store_pair(at + 8 * (COLS + SUMS_PAD) * 4, d[i][j][2], d[i][j][3]);
            }
    }
};

/* ---- with ordinary instructions ---------------------------------------------------------------------------------- */

/* Thread (ty, tx) owns rows ty, ty + TY, ... and columns tx, tx + TX, ... */
template <class T, int TY, int TX, int TM, int TN> struct plain_math {
    typedef T type;
    static constexpr int ROWS = TY * TM, COLS = TX * TN, THREADS = TY * TX;
    static constexpr int ELEMENT = T::ELEMENT;

    typename T::sum d[TM][TN];
    int row, col;

    __device__ __forceinline__ plain_math()
    {
        row = (int)threadIdx.x / TX;
        col = (int)threadIdx.x % TX;
#pragma unroll
        for (int i = 0; i < TM; i++)
#pragma unroll
            for (int j = 0; j < TN; j++) d[i][j] = 0;
    }

    __device__ __forceinline__ void multiply(const char *a, const char *b)
    {
#pragma unroll 2
        for (int c = 0; c < CHUNKS; c++) {
            uint4 x[TM], w[TN];
#pragma unroll
            for (int i = 0; i < TM; i++) x[i] = load_as<uint4>(a + place_of(row + TY * i, c));
#pragma unroll
            for (int j = 0; j < TN; j++) w[j] = load_as<uint4>(b + place_of(col + TX * j, c));
#pragma unroll
            for (int i = 0; i < TM; i++)
#pragma unroll
                for (int j = 0; j < TN; j++) {
                    T::add(d[i][j], x[i].x, w[j].x);
                    T::add(d[i][j], x[i].y, w[j].y);
                    T::add(d[i][j], x[i].z, w[j].z);
                    T::add(d[i][j], x[i].w, w[j].w);
                }
        }
    }

    template <int PARTS> __device__ __forceinline__ void store(char *sums, int) const
    {
        static_assert(PARTS == 1, "rows of a thread are spread over the tile");
#pragma unroll
        for (int i = 0; i < TM; i++)
#pragma unroll
            for (int j = 0; j < TN; j++)
                store_as(sums + ((row + TY * i) * (COLS + SUMS_PAD) + col + TX * j) * 4, d[i][j]);
    }
};

#endif
