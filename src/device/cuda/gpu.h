/* gpu.h - all that the CUDA device asks of a GPU. Implemented twice: by the plug-in libacestep-cuda.so (runtime.cu and
 * kernels/, compiled by nvcc), and by emulation/ (the same kernels, compiled by a C++ compiler, on the CPU), for tests.
 *
 * Plain C without any CUDA header, so that the program is built and its logic is tested where there is no CUDA. Every
 * function is a member of struct gpu; those that can fail return 0 or an error number that message() explains. Work is
 * queued in streams, in order, and an address of device memory is never touched by the host.
 *
 * Matrices are row-major; strides are counted in elements. Products sum over k in ascending order in one accumulator
 * for each element, in float32, whatever the number of rows: so a row's bytes never depend on the others. */
#ifndef ACE_DEVICE_CUDA_GPU_H
#define ACE_DEVICE_CUDA_GPU_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    GPU_ABI = 5,                  /* raised with every change of this file: a plug-in of another number is refused */
    GPU_IDS = 512,                /* numbers that embed() and logits() take in one call */
    GPU_K_TILE = 64,              /* channels of a tap of a weight are filled up with zeros to a multiple of this */
    GPU_SAMPLE_ROWS = 16,         /* rows that sample() takes in one call */
    GPU_SAMPLE_COLUMNS = 1 << 19, /* of one of them */
    GPU_SAMPLE_ROOM = 56 << 10    /* bytes of room for one of them */
};

typedef struct gpu_context gpu_context; /* one device, opened */
typedef struct gpu_stream gpu_stream;
typedef struct gpu_event gpu_event;

typedef struct gpu_properties {
    char name[96];
    char driver[32];   /* version of the driver */
    int capability[2]; /* {8, 6} */
    int multiprocessors;
    size_t shared_bytes;  /* of memory that one block may share */
    size_t cache_bytes;   /* of the second-level cache */
    size_t page_bytes;    /* commit() and decommit() work in multiples of this */
    size_t context_bytes; /* of device memory that were gone once the context stood */
} gpu_properties;

/* ---- operands of kernels ------------------------------------------------------------------------------------- */

typedef enum gpu_type { GPU_F32, GPU_BF16 } gpu_type;

typedef struct gpu_mat {
    void *data; /* NULL: absent */
    int64_t rows, cols, stride;
    gpu_type type;
} gpu_mat;

typedef enum gpu_form {
    GPU_PLAIN_F32,  /* float */
    GPU_PLAIN_BF16, /* bfloat16 */
    GPU_PLAIN_F16,  /* half, with an exponent for each row of W: bfloat16 of GPUs before capability 8.0 */
    GPU_INT8,       /* int8_t, with a float scale for each row of W */
    GPU_INT4,       /* 32 values in 16 bytes (value 2i in the low half of byte i, each 8 higher), with a bfloat16
                       scale for each 32 */
    GPU_Q8_0,       /* blocks of a GGUF file, as they are there, each row of W from an address divisible by 16 on */
    GPU_Q4_K,
    GPU_Q5_K,
    GPU_Q6_K
} gpu_form;

/* W[n][taps][channels], in rows of `row_bytes` (divisible by 16); in the forms that are not blocks the channels of each
 * tap are filled up with zeros to `padded`, a multiple of GPU_K_TILE. Of a gated weight (n = 2F) rows stand in turns of
 * eight: 8 of gate, the 8 of up of the same features, and so on; F is filled up to a multiple of 8 with zero rows. */
typedef struct gpu_weight {
    const void *data;
    const void *scales; /* INT8: float[rows]; INT4: bfloat16[rows][padded / 32]; else NULL */
    /* [rows]; due where x is BF16 on a GPU before capability 8.0, but for INT8. Row n is multiplied as half, times
     * 2^exponents[n], as which PLAIN_F16 is stored; its greatest value must then be less than 2^16. In [-113, 126]. */
    const int32_t *exponents;
    size_t row_bytes;
    int64_t n, channels, padded;
    int taps;
    int gated;
    gpu_form form;
} gpu_weight;

/* y[m][n] = epilogue(sum over tap, c of W[n][tap][c] * x[(m + out_first) * stride + tap * dilation - padding -
 * x_first][c]), rows outside x counting as zero; the epilogue is that of device.h, in its order; of a gated weight
 * y[m][f] = silu(gate) * up and nothing else. */
typedef struct gpu_product {
    gpu_mat y; /* data NULL: not stored */
    gpu_mat x; /* type of the weight: F32 with PLAIN_F32, else BF16 or F32 as the device is */
    gpu_weight w;
    int64_t rows; /* of the result */
    int64_t x_first, out_first;
    int stride, dilation, padding;
    const float *bias; /* [n] or NULL, as the following */
    int silu;
    const float *gate;
    gpu_mat residual; /* F32 */
    const float *alpha, *inv_beta;
    gpu_mat act; /* where the snake output goes */
    void *room;  /* product_room() bytes */
} gpu_product;

typedef enum gpu_mask { GPU_MASK_FULL, GPU_MASK_BAND, GPU_MASK_CAUSAL } gpu_mask;

typedef struct gpu_attention {
    gpu_mat o, q, k, v;
    int heads, kv_heads, head_dim;
    float scale;
    gpu_mask mask;
    int64_t radius;
    void *room; /* attention_room() bytes, or NULL: the same bytes, but a few queries of many keys take long */
    /* Device memory with the number of keys, or NULL: all rows of k and v are keys. Only with a room of more than 0
     * bytes; the result is that of so many rows. */
    const float *keys;
} gpu_attention;

typedef struct gpu_norm {
    gpu_mat y, x;
    const float *w; /* [cols] */
    float eps;
    const float *scale, *shift; /* [cols] or NULL */
} gpu_norm;

typedef struct gpu_head_norm {
    gpu_mat x;
    int head_dim;
    const float *w; /* [head_dim] */
    float eps;
    gpu_mat rope; /* F32 [positions][head_dim]: cosines, then sines; data NULL: no rotation */
    int64_t first_position;
} gpu_head_norm;

typedef struct gpu_embedding {
    gpu_mat y; /* embed: count x cols; logits: x.rows x count */
    gpu_mat x; /* logits only: F32 */
    gpu_mat table;
    int64_t first; /* logits without ids: rows from here on */
    int count;     /* of ids; at most GPU_IDS where there are ids */
    int has_ids;
    int32_t ids[GPU_IDS];
} gpu_embedding;

/* ace_sample() of device.h, for up to GPU_SAMPLE_ROWS rows. */
typedef struct gpu_sampling {
    gpu_mat choices;       /* F32 rows x 2 */
    gpu_mat values;        /* F32 */
    gpu_mat unconditional; /* F32, or absent */
    float guidance, temperature, top_p;
    int top_k;
    double uniform[GPU_SAMPLE_ROWS];
    void *room; /* GPU_SAMPLE_ROOM bytes for each row */
} gpu_sampling;

/* ---- the functions ------------------------------------------------------------------------------------------- */

typedef struct gpu {
    int abi;
    const char *(*message)(int error);

    /* Devices. open() makes the device's context current where it is needed; any thread may then use it. */
    int (*count)(int *devices);
    int (*open)(int device, gpu_context **context, gpu_properties *properties);
    void (*close)(gpu_context *context);

    /* Memory: addresses are reserved first, then filled with memory, page by page. */
    int (*reserve)(gpu_context *c, size_t bytes, void **address);
    int (*unreserve)(gpu_context *c, void *address, size_t bytes);
    int (*commit)(gpu_context *c, void *address, size_t bytes);
    int (*decommit)(gpu_context *c, void *address, size_t bytes); /* waits for the work that was queued */
    int (*memory)(gpu_context *c, size_t *free, size_t *total);
    int (*host_alloc)(gpu_context *c, size_t bytes, void **address); /* host memory that copies run from on their own */
    void (*host_free)(gpu_context *c, void *address);

    /* Streams and events. Stream memory of copies from host_alloc() must stay until the copy is done. */
    int (*stream_open)(gpu_context *c, gpu_stream **stream);
    void (*stream_close)(gpu_stream *stream);
    int (*stream_wait)(gpu_stream *stream); /* until all that was queued is done */
    int (*event_open)(gpu_context *c, gpu_event **event);
    void (*event_close)(gpu_event *event);
    int (*event_record)(gpu_event *event, gpu_stream *stream);
    int (*event_wait)(gpu_event *event);                            /* the host waits */
    int (*stream_wait_event)(gpu_stream *stream, gpu_event *event); /* the stream waits */
    /* 1 when the event has passed, 0 when not; -1: failed. */
    int (*event_passed)(gpu_event *event);
    int (*copy_in)(gpu_stream *s, void *device, const void *host, size_t bytes);
    int (*copy_out)(gpu_stream *s, void *host, const void *device, size_t bytes);
    int (*zero)(gpu_stream *s, void *device, size_t bytes);

    /* Graphs: kernels that are queued in a stream between begin and end are not carried out but kept, with their
     * arguments, and run by launch(). After end() the stream is as before, and *graph NULL where that failed. free()
     * of a graph that runs takes place when it has. */
    int (*graph_begin)(gpu_stream *s);
    int (*graph_end)(gpu_stream *s, void **graph);
    int (*graph_launch)(gpu_stream *s, void *graph);
    void (*graph_free)(gpu_context *c, void *graph);

    /* Kernels, with the meaning of the operations of device.h. */
    size_t (*product_room)(const gpu_weight *w, gpu_type x, const int capability[2], int64_t rows); /* pure */
    int (*product)(gpu_stream *s, const gpu_product *p);
    size_t (*attention_room)(const gpu_attention *a); /* pure: of the shapes alone; 0 but for a few queries */
    int (*attention)(gpu_stream *s, const gpu_attention *a);
    int (*rms_norm)(gpu_stream *s, const gpu_norm *n);
    int (*head_norm_rope)(gpu_stream *s, const gpu_head_norm *n);
    int (*snake)(gpu_stream *s, gpu_mat y, gpu_mat x, const float *alpha, const float *inv_beta);
    int (*embed)(gpu_stream *s, const gpu_embedding *e);
    int (*logits)(gpu_stream *s, const gpu_embedding *e);
    int (*sample)(gpu_stream *s, const gpu_sampling *sampling);
    /* y[m] = table[first + choices[m % choices.rows][0]], kept within the table */
    int (*embed_choices)(gpu_stream *s, gpu_mat y, gpu_mat table, int64_t first, gpu_mat choices);
    int (*copy)(gpu_stream *s, gpu_mat y, gpu_mat x);
    /* The same, to the rows of y from number *first (device memory) on; x has the columns of y, and no more rows. */
    int (*append)(gpu_stream *s, gpu_mat y, gpu_mat x, const float *first);
    int (*add)(gpu_stream *s, gpu_mat y, gpu_mat a, gpu_mat b); /* b may have one row */
    int (*silu)(gpu_stream *s, gpu_mat y, gpu_mat x);
} gpu;

/* What the plug-in exports. */
const gpu *acestep_gpu(void);

#ifdef __cplusplus
}
#endif

#endif
