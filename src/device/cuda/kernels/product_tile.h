/* product_tile.h - the kernel of all products: a block makes a tile of the result.
 *
 * Segments of x and w come into a ring of stages in shared memory by asynchronous copies, STAGES - 1 steps ahead of the
 * arithmetic; a step is SEGMENTS segments of k. A linear layer is a convolution of one tap: for each segment the rows
 * of x are found anew, and what lies outside x or beyond its channels is zero. Rows of x that do not start at addresses
 * divisible by 16, and the chunk in which the channels end, are loaded value by value.
 *
 * Weights in 4 bits and blocks come as they are, in units of whole blocks, and are expanded one step ahead of the
 * arithmetic into one of two buffers, so that one barrier a step is enough.
 *
 * Many rows: 2 * ROWS * COLS multiply-adds for each (ROWS + COLS) values read, enough for 128 x 128 sums to keep the
 * matrix units busy out of the second-level cache. Few rows: the time is that of reading w once, at the memory's full
 * rate if the copies in flight (STAGES - 1 steps of some KB in each block, some blocks in each multiprocessor) cover
 * its latency. */
#ifndef ACE_DEVICE_CUDA_KERNELS_PRODUCT_TILE_H
#define ACE_DEVICE_CUDA_KERNELS_PRODUCT_TILE_H

#include "device/cuda/kernels/product_expand.h"
#include "device/cuda/kernels/product_math.h"

/* ---- x ----------------------------------------------------------------------------------------------------------- */

/* `count` values (none when it is not positive) and zeros after them. */
template <int ELEMENT> GPU_DEVICE uint4 load_chunk_slowly(const char *from, int count)
{
    const int PER_WORD = 4 / ELEMENT;
    uint32_t words[4];
#pragma unroll
    for (int w = 0; w < 4; w++) {
        words[w] = 0;
#pragma unroll
        for (int i = 0; i < PER_WORD; i++) {
            int at = w * PER_WORD + i;
            if (at >= count) continue;
            uint32_t value = ELEMENT == 4   ? load_as<uint32_t>(from + at * ELEMENT)
                             : ELEMENT == 2 ? load_as<uint16_t>(from + at * ELEMENT)
                                            : load_as<uint8_t>(from + at * ELEMENT);
            words[w] |= value << 8 * ELEMENT * i;
        }
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
}

/* What a thread loads of x: the same chunk of every (THREADS / 8)th row, one segment after the other. Either load(), or
 * fetch() and put(), which come before and after other work. */
template <class M> struct x_loader {
    typedef typename M::type type;
    static constexpr int STEP = M::THREADS / CHUNKS, COUNT = M::ROWS / STEP;
    static_assert(M::ROWS % STEP == 0 && STEP % 8 == 0, "whole rows of chunks, in which the place stays the same");

    int place, channel; /* the latter: of this thread's first value */
    int row, left;      /* of x, and of the result from this thread's first one on */
    const char *from;
    float power[type::HALF ? COUNT : 1]; /* of each row */

    __device__ __forceinline__ x_loader(const product_task &t, int first_out)
    {
        int r = (int)threadIdx.x / CHUNKS, chunk = (int)threadIdx.x % CHUNKS;
        place = place_of(r, chunk);
        channel = chunk * (CHUNK / M::ELEMENT);
        left = t.rows - first_out - r;
        row = t.first + (first_out + r) * t.stride;
        from = t.x + row * t.x_pitch + chunk * CHUNK;
        if constexpr (type::HALF)
#pragma unroll
            for (int i = 0; i < COUNT; i++)
                power[i] = power_of_two(i * STEP < left ? t.x_exponents[first_out + r + i * STEP] : 0);
    }

    /* Whether the i-th of the rows of x is there and its row of the result is, too. */
    __device__ __forceinline__ bool inside(const product_task &t, int i) const
    {
        return (unsigned)(row + i * STEP * t.stride) < (unsigned)t.x_rows && i * STEP < left;
    }

    __device__ __forceinline__ void fetch(const product_task &t, uint4 held[COUNT])
    {
        int values = t.channels - channel;
        bool whole = t.x_aligned && values >= CHUNK / M::ELEMENT;
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            held[i] = whole && inside(t, i)
                          ? load_as<uint4>(from + i * t.x_step)
                          : load_chunk_slowly<M::ELEMENT>(from + i * t.x_step, !whole && inside(t, i) ? values : 0);
        advance(t);
    }

    __device__ __forceinline__ void put(char *segment, const uint4 held[COUNT]) const
    {
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            uint4 chunk = held[i];
            if constexpr (type::HALF) chunk = half_of_bf16(chunk, power[i]);
            store_as(segment + place + i * STEP * SEGMENT, chunk);
        }
    }

    __device__ __forceinline__ void load(const product_task &t, char *segment)
    {
        if constexpr (type::HALF) {
            uint4 held[COUNT];
            fetch(t, held);
            put(segment, held);
            return;
        }
        int values = t.channels - channel;
        if (t.x_aligned && values >= CHUNK / M::ELEMENT) {
#pragma unroll
            for (int i = 0; i < COUNT; i++) {
                gpu_copy16_async(segment + place + i * STEP * SEGMENT, from + i * t.x_step, inside(t, i));
            }
        } else {
#pragma unroll 1
            for (int i = 0; i < COUNT; i++)
                store_as(segment + place + i * STEP * SEGMENT,
                         load_chunk_slowly<M::ELEMENT>(from + i * t.x_step, inside(t, i) ? values : 0));
        }
        advance(t);
    }

    /* To the next segment. */
    __device__ __forceinline__ void advance(const product_task &t)
    {
        channel += SEGMENT / M::ELEMENT;
        from += SEGMENT;
        if (M::ELEMENT == 1 || channel < t.padded) return; /* bytes have one tap, which may end within a segment */
        /* the next tap */
        int segments = (t.padded + SEGMENT / M::ELEMENT - 1) / (SEGMENT / M::ELEMENT);
        channel -= segments * (SEGMENT / M::ELEMENT);
        row += t.dilation;
        from += t.dilation * t.x_pitch - (int64_t)segments * SEGMENT;
    }
};

/* ---- w as it is multiplied --------------------------------------------------------------------------------------- */

template <class M, int SEGMENTS, int STAGES> struct w_plain {
    static constexpr int STEP = M::THREADS / CHUNKS, COUNT = M::COLS / STEP;
    static constexpr int STAGE_BYTES = SEGMENTS * M::COLS * SEGMENT, BYTES = STAGES * STAGE_BYTES;
    static constexpr bool EXPANDED = false;
    static_assert(M::COLS % STEP == 0 && STEP % 8 == 0, "whole rows of chunks, in which the place stays the same");

    int place, left, bytes; /* rows from this thread's first one on; INT8: of the row from this thread's chunk on */
    const char *from;

    __device__ __forceinline__ w_plain(const product_task &t, int first)
    {
        int r = (int)threadIdx.x / CHUNKS, chunk = (int)threadIdx.x % CHUNKS;
        place = place_of(r, chunk);
        left = t.w_rows - first - r;
        from = t.w + (first + r) * t.w_pitch + chunk * CHUNK;
        bytes = (int)t.w_pitch - chunk * CHUNK;
    }

    /* The next segments, which are `count` of the step. */
    __device__ __forceinline__ void load(const product_task &t, char *ring, int step, int count)
    {
        char *stage = ring + step % STAGES * STAGE_BYTES;
#pragma unroll
        for (int s = 0; s < SEGMENTS; s++) {
            if (s >= count) break;
#pragma unroll
            for (int i = 0; i < COUNT; i++) {
                /* a row of bytes may end in the middle of a segment */
                bool inside = i * STEP < left && (M::ELEMENT > 1 || bytes > 0);
                gpu_copy16_async(stage + s * M::COLS * SEGMENT + place + i * STEP * SEGMENT, from + i * t.w_step,
                                 inside);
            }
            from += SEGMENT;
            bytes -= SEGMENT;
        }
    }

    __device__ __forceinline__ const char *segments(const char *ring, int step) const
    {
        return ring + step % STAGES * STAGE_BYTES;
    }
};

/* The same in two steps: see x_loader. */
template <class M> struct w_held {
    static constexpr int STEP = M::THREADS / CHUNKS, COUNT = M::COLS / STEP;
    static_assert(M::COLS % STEP == 0 && STEP % 8 == 0, "whole rows of chunks, in which the place stays the same");

    int place, left, bytes;
    const char *from;

    __device__ __forceinline__ w_held(const product_task &t, int first)
    {
        int r = (int)threadIdx.x / CHUNKS, chunk = (int)threadIdx.x % CHUNKS;
        place = place_of(r, chunk);
        left = t.w_rows - first - r;
        from = t.w + (first + r) * t.w_pitch + chunk * CHUNK;
        bytes = (int)t.w_pitch - chunk * CHUNK;
    }

    __device__ __forceinline__ void fetch(const product_task &t, uint4 held[COUNT])
    {
#pragma unroll
        for (int i = 0; i < COUNT; i++)
            held[i] = i * STEP < left && (M::ELEMENT > 1 || bytes > 0) ? load_as<uint4>(from + i * t.w_step)
                                                                       : make_uint4(0, 0, 0, 0);
        from += SEGMENT;
        bytes -= SEGMENT;
    }

    __device__ __forceinline__ void put(char *segment, const uint4 held[COUNT]) const
    {
#pragma unroll
        for (int i = 0; i < COUNT; i++) store_as(segment + place + i * STEP * SEGMENT, held[i]);
    }
};

/* ---- w in 4 bits and blocks -------------------------------------------------------------------------------------- */

template <class M, gpu_form FORM, int SEGMENTS, int STAGES> struct w_expanded {
    static constexpr bool EXPANDED = true;
    static constexpr int VALUES = SEGMENTS * SEGMENT / M::ELEMENT; /* of a row in a step */
    static constexpr int UNIT = VALUES > block_values(FORM) ? VALUES : block_values(FORM);
    static constexpr int UNIT_STEPS = UNIT / VALUES, UNIT_BYTES = UNIT / block_values(FORM) * block_bytes(FORM);
    static constexpr int SLOTS = UNIT_STEPS == 1 ? STAGES : 2;
    /* a unit that does not start at an address divisible by 16 takes what is before and after it along */
    static constexpr int PITCH = UNIT_BYTES % CHUNK == 0 ? UNIT_BYTES : (UNIT_BYTES + 14 + CHUNK - 1) / CHUNK * CHUNK;
    static constexpr int SLOT_BYTES = M::COLS * PITCH, BUFFER_BYTES = SEGMENTS * M::COLS * SEGMENT;
    static constexpr int BYTES = 2 * BUFFER_BYTES + SLOTS * SLOT_BYTES;
    static constexpr int PARTS = M::COLS * VALUES / 16 / M::THREADS; /* of 16 values, that a thread expands */
    static_assert(STAGES >= 3 && (UNIT_STEPS == 1 || STAGES - 2 <= UNIT_STEPS), "no unit is overwritten too early");
    static_assert(M::COLS * VALUES / 16 % M::THREADS == 0, "all threads have the same to do");

    int first, rows; /* of w that there are from the first on */
    const char *from;
    float scales[PARTS]; /* INT4: of what is expanded next */
    float power[PARTS];  /* of the row, where it becomes half */

    __device__ __forceinline__ w_expanded(const product_task &t, int first_row)
    {
        first = first_row;
        rows = t.w_rows - first;
        from = t.w + first * t.w_pitch;
#pragma unroll
        for (int p = 0; p < PARTS; p++) {
            power[p] = 1;
            if constexpr (M::type::HALF)
                if (row_of(p) < rows) power[p] = power_of_two(t.w_exponents[first + row_of(p)]);
        }
        fetch_scales(t, 0);
    }

    static __device__ __forceinline__ int row_of(int part)
    {
        return ((int)threadIdx.x + part * M::THREADS) % M::COLS;
    }

    static __device__ __forceinline__ int first_value(int part)
    {
        return ((int)threadIdx.x + part * M::THREADS) / M::COLS * 16;
    }

    __device__ __forceinline__ void fetch_scales(const product_task &t, int step)
    {
#pragma unroll
        for (int p = 0; p < PARTS; p++) {
            scales[p] = 0;
            if constexpr (FORM == GPU_INT4) {
                int k = step * VALUES + first_value(p);
                if (row_of(p) < rows && k < t.padded) {
                    int64_t at = ((int64_t)(first + row_of(p)) * t.padded + k) / 32;
                    scales[p] = gpu_bf16_to_float(((const uint16_t *)t.scales)[at]);
                }
            }
        }
    }

    __device__ __forceinline__ void load(const product_task &t, char *memory, int step, int)
    {
        if (step % UNIT_STEPS != 0) return;
        char *slot = memory + 2 * BUFFER_BYTES + step / UNIT_STEPS % SLOTS * SLOT_BYTES;
        const int ACROSS = PITCH / CHUNK;
        int64_t start = (int64_t)(step / UNIT_STEPS) * UNIT_BYTES, end = gpu_min(start + UNIT_BYTES, t.w_pitch);
        start -= start % CHUNK;
#pragma unroll 1
        for (int i = (int)threadIdx.x; i < M::COLS * ACROSS; i += M::THREADS) {
            int r = i / ACROSS;
            int64_t at = start + i % ACROSS * CHUNK;
            bool inside = r < rows && at < end;
            gpu_copy16_async(slot + i * CHUNK, from + r * t.w_pitch + at, inside);
        }
    }

    /* Into the buffer of this step. */
    __device__ __forceinline__ void expand_step(const product_task &t, char *memory, int step)
    {
        int unit = step / UNIT_STEPS;
        const char *slot = memory + 2 * BUFFER_BYTES + unit % SLOTS * SLOT_BYTES;
        if (UNIT_BYTES % CHUNK != 0) slot += (int)((int64_t)unit * UNIT_BYTES % CHUNK);
        char *buffer = memory + step % 2 * BUFFER_BYTES;
#pragma unroll
        for (int p = 0; p < PARTS; p++) {
            float v[16];
            int r = row_of(p), k = first_value(p);
            if (step * VALUES + k < t.channels) {
                expand<FORM>(v, slot + r * PITCH, step % UNIT_STEPS * VALUES + k, scales[p]);
            } else {
#pragma unroll
                for (int i = 0; i < 16; i++) v[i] = 0;
            }
            const int PER_SEGMENT = SEGMENT / M::ELEMENT;
            store_expanded<typename M::type>(buffer + k / PER_SEGMENT * M::COLS * SEGMENT, r, k % PER_SEGMENT, v,
                                             power[p]);
        }
        fetch_scales(t, step + 1);
    }

    __device__ __forceinline__ const char *segments(const char *memory, int step) const
    {
        return memory + step % 2 * BUFFER_BYTES;
    }
};

template <class M, gpu_form FORM, int SEGMENTS, int STAGES> struct weights_of {
    typedef w_expanded<M, FORM, SEGMENTS, STAGES> type;
};
template <class M, int SEGMENTS, int STAGES> struct weights_of<M, GPU_PLAIN_F32, SEGMENTS, STAGES> {
    typedef w_plain<M, SEGMENTS, STAGES> type;
};
template <class M, int SEGMENTS, int STAGES> struct weights_of<M, GPU_PLAIN_BF16, SEGMENTS, STAGES> {
    typedef w_plain<M, SEGMENTS, STAGES> type;
};
template <class M, int SEGMENTS, int STAGES> struct weights_of<M, GPU_INT8, SEGMENTS, STAGES> {
    typedef w_plain<M, SEGMENTS, STAGES> type;
};

/* ---- the kernel -------------------------------------------------------------------------------------------------- */

/* How a kernel does it, for make_tile(). */
template <class MATH, gpu_form FORM, int SEGMENTS_, int STAGES_> struct product_shape {
    typedef MATH math;
    static constexpr bool HELD = false;
    typedef typename weights_of<MATH, FORM, SEGMENTS_, STAGES_>::type weights;
    static constexpr int SEGMENTS = SEGMENTS_, STAGES = STAGES_, THREADS = MATH::THREADS;
    /* of a multiprocessor, so that one calculates while the other waits: where the registers suffice */
    static constexpr int BLOCKS = THREADS == 256 && MATH::ROWS * MATH::COLS / THREADS <= 64 ? 2 : 1;
    static constexpr int X_BYTES = SEGMENTS * MATH::ROWS * SEGMENT;
    static constexpr int PIPELINE_BYTES = STAGES * X_BYTES + weights::BYTES;
    static constexpr int PARTS = 1; /* in which sums are stored */
    static constexpr int SUMS_BYTES = MATH::ROWS * (MATH::COLS + SUMS_PAD) * 4;
    static constexpr int SHARED_BYTES = PIPELINE_BYTES > SUMS_BYTES ? PIPELINE_BYTES : SUMS_BYTES;
};

/* For weights as they are multiplied, where there are no asynchronous copies: the next segments are fetched into
 * registers before those that are there are multiplied, and put into the other of two stages after. The sums leave in
 * PARTS, since those GPUs have little shared memory. */
template <class MATH, int BLOCKS_, int PARTS_> struct held_shape {
    typedef MATH math;
    static constexpr bool HELD = true;
    static constexpr int STAGES = 2, BLOCKS = BLOCKS_, PARTS = PARTS_, THREADS = MATH::THREADS;
    static constexpr int X_BYTES = MATH::ROWS * SEGMENT, STAGE_BYTES = X_BYTES + MATH::COLS * SEGMENT;
    static constexpr int SUMS_BYTES = MATH::ROWS / PARTS * (MATH::COLS + SUMS_PAD) * 4;
    static constexpr int SHARED_BYTES = STAGES * STAGE_BYTES > SUMS_BYTES ? STAGES *STAGE_BYTES : SUMS_BYTES;
};

template <class S> struct product_pipeline {
    typedef typename S::math math;
    const product_task &t;
    char *x_ring, *w_memory;
    int steps;
    x_loader<math> x;
    typename S::weights w;

    __device__ __forceinline__ product_pipeline(const product_task &task, char *shared, int row, int col)
        : t(task), x_ring(shared), w_memory(shared + S::STAGES * S::X_BYTES),
          steps((task.segments + S::SEGMENTS - 1) / S::SEGMENTS), x(task, row), w(task, col)
    {
    }

    __device__ __forceinline__ int segments_of(int step) const
    {
        return gpu_min(S::SEGMENTS, t.segments - step * S::SEGMENTS);
    }

    /* A group of copies, which is empty after the last step. */
    __device__ __forceinline__ void load(int step)
    {
        if (step < steps) {
            char *stage = x_ring + step % S::STAGES * S::X_BYTES;
            int count = segments_of(step);
#pragma unroll
            for (int s = 0; s < S::SEGMENTS; s++)
                if (s < count) x.load(t, stage + s * math::ROWS * SEGMENT);
            w.load(t, w_memory, step, count);
        }
        gpu_copy_commit();
    }

    /* Nothing is added for segments that are not there, whatever the shape: not even zero. */
    __device__ __forceinline__ void multiply(math &sums, int step)
    {
        const char *a = x_ring + step % S::STAGES * S::X_BYTES, *b = w.segments(w_memory, step);
        int count = segments_of(step);
#pragma unroll
        for (int s = 0; s < S::SEGMENTS; s++)
            if (s < count) sums.multiply(a + s * math::ROWS * SEGMENT, b + s * math::COLS * SEGMENT);
    }

    __device__ __forceinline__ void run(math &sums)
    {
        for (int s = 0; s < S::STAGES - 1; s++) load(s);
        if constexpr (S::weights::EXPANDED) {
            gpu_copy_wait<S::STAGES - 2>();
            __syncthreads();
            w.expand_step(t, w_memory, 0);
        }
#pragma unroll 1
        for (int step = 0; step < steps; step++) {
            gpu_copy_wait<S::STAGES - (S::weights::EXPANDED ? 3 : 2)>();
            __syncthreads(); /* what was copied or expanded is there, and what is overwritten now was used */
            load(step + S::STAGES - 1);
            if constexpr (S::weights::EXPANDED)
                if (step + 1 < steps) w.expand_step(t, w_memory, step + 1);
            multiply(sums, step);
        }
        gpu_copy_wait<0>();
        __syncthreads();
    }
};

template <class S> struct held_pipeline {
    typedef typename S::math math;
    const product_task &t;
    char *shared;
    x_loader<math> x;
    w_held<math> w;
    uint4 held_x[x_loader<math>::COUNT], held_w[w_held<math>::COUNT];

    __device__ __forceinline__ held_pipeline(const product_task &task, char *memory, int row, int col)
        : t(task), shared(memory), x(task, row), w(task, col)
    {
    }

    __device__ __forceinline__ void fetch()
    {
        x.fetch(t, held_x);
        w.fetch(t, held_w);
    }

    __device__ __forceinline__ void run(math &sums)
    {
        fetch();
#pragma unroll 1
        for (int step = 0; step < t.segments; step++) {
            char *stage = shared + step % S::STAGES * S::STAGE_BYTES;
            x.put(stage, held_x);
            w.put(stage + S::X_BYTES, held_w);
            __syncthreads(); /* these are there, and those before were used */
            if (step + 1 < t.segments) fetch();
            sums.multiply(stage, stage + S::X_BYTES);
        }
        __syncthreads();
    }
};

template <class S> GPU_DEVICE void add_up(typename S::math &sums, const product_task &t, char *shared, int row, int col)
{
    if constexpr (S::HELD) {
        held_pipeline<S> pipeline(t, shared, row, col);
        pipeline.run(sums);
    } else {
        product_pipeline<S> pipeline(t, shared, row, col);
        pipeline.run(sums);
    }
}

template <class S> GPU_DEVICE void make_tile(const product_task &t, char *shared)
{
    typedef typename S::math math;
    unsigned row_tile, col_tile;
    tile_of_block(t, &row_tile, &col_tile);
    int row = (int)row_tile * math::ROWS, col = (int)col_tile * math::COLS;
    math sums;
    add_up<S>(sums, t, shared, row, col);
    const int ROWS = math::ROWS / S::PARTS;
#pragma unroll 1
    for (int part = 0; part < S::PARTS; part++, row += ROWS) {
        if (part > 0) __syncthreads(); /* the part before was read */
        sums.template store<S::PARTS>(shared, part);
        __syncthreads();
        if (t.gated)
            finish_gated<ROWS, math::COLS, S::THREADS, typename math::type::scales>(t, shared, row, col);
        else
            finish_plain<ROWS, math::COLS, S::THREADS, typename math::type::scales>(t, shared, row, col);
    }
}

#endif
