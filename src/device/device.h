/* device.h - the one door to compute and memory.
 *
 * Model code is plain C that calls the operations below; a device implements them. Model code never touches memory
 * that a device owns, and never allocates inside an operation. The meter device (device/meter) implements the same door
 * but allocates and computes nothing: running the model on it gives the exact plan.
 *
 * Matrices. All activations are row-major matrices: one row per token, frame or sample, channels contiguous.
 *
 * Precision. A device is opened for F32 or BF16. `ace_device_act(dev)` is the type of the activations that feed matrix
 * products; residual streams, norms, softmax, scalars and sums are F32 in both. In BF16 the weights of products are
 * rounded to bf16 once and products accumulate in F32. With AMX and AVX512-BF16,
 * subnormal values in such products count as zero, with AMX also those that are rounded to bf16.
 *
 * Determinism. An output element is always summed in the same order: it does not depend on the number of threads, on
 * the other rows, on the batch or on where a window starts. Same device, same bytes.
 *
 * Errors are sticky. Operations return nothing. The first failure (out of memory, misuse, the caller's cancel flag) is
 * kept in the device, everything after it does nothing, and ace_device_ok() reports it. So model code reads like its
 * diagram and checks once per stage. Misuse (shapes that do not fit) is ACE_ERROR_INTERNAL. */
#ifndef ACE_DEVICE_DEVICE_H
#define ACE_DEVICE_DEVICE_H

#include "base/dtype.h"
#include "base/pool.h"

#include <acestep.h>

typedef struct ace_device ace_device;

/* ---- opening ----------------------------------------------------------------------------------------------- */

typedef enum ace_isa {
    ACE_ISA_AUTO,
    ACE_ISA_GENERIC,
    ACE_ISA_AVX2,
    ACE_ISA_AVX2_VNNI, /* AVX2 with its product of bytes */
    ACE_ISA_AVX512,
    ACE_ISA_AVX512_VNNI, /* AVX-512 with its product of bytes */
    ACE_ISA_AVX512_BF16, /* that with its bfloat16 product, too */
    ACE_ISA_AMX          /* AVX-512, and products of bfloat16 and of bytes on the matrix unit */
} ace_isa;

typedef struct ace_cpu_options {
    ace_dtype precision; /* ACE_F32 or ACE_BF16 */
    int threads;         /* 0: all CPUs this process may use */
    /* AUTO: the best this CPU has; the variable ACESTEP_ISA=generic|avx2|avx2vnni|avx512|
     * avx512vnni|avx512bf16|amx wins over AUTO */
    ace_isa isa;
    const atomic_bool *stop; /* may be NULL; when it becomes true the device stops within a fraction of a second */
} ace_cpu_options;

ace_device *ace_cpu_open(const ace_cpu_options *options, ace_error *error);

/* A device that counts what `like` would use: same weight layouts, same alignment. `like` must stay open. */
ace_device *ace_meter_open(const ace_device *like, ace_error *error);

void ace_device_close(ace_device *dev);

/* "cpu (AVX-512, bf16, 2 threads)" */
const char *ace_device_name(const ace_device *dev);
bool ace_device_is_meter(const ace_device *dev);
ace_dtype ace_device_act(const ace_device *dev);

/* Bytes in the caches near the cores, more or less: operations one after the other on no more than this do not wait for
 * memory. */
size_t ace_device_near_bytes(const ace_device *dev);

/* True where products of ACE_FORM_INT8 take a fraction of the time of plain ones, and plain ones take long: on a CPU
 * with products of bytes and nothing of the kind for bf16. */
bool ace_device_prefers_int8(const ace_device *dev);

/* True while nothing has failed; otherwise false, with the first failure copied to *error. */
bool ace_device_ok(const ace_device *dev, ace_error *error);

/* Forgets the failure, so that the device can serve the next request. All scratch must have been released. */
void ace_device_clear(ace_device *dev);

/* Makes `error` the device's failure, if it has none yet. */
void ace_device_fail(ace_device *dev, const ace_error *error);

/* ---- counts ------------------------------------------------------------------------------------------------ */

typedef struct ace_device_stats {
    size_t weight_bytes;  /* packed weights alive now */
    size_t scratch_bytes; /* scratch in use now */
    size_t scratch_peak;  /* highest since the last ace_device_reset_peak() */
    size_t scratch_held;  /* memory behind the scratch: the most that was in use since the last ace_scratch_trim() */
    size_t total_peak;    /* highest of weights + scratch_held + fixed workspace since ace_device_reset_peak() */
    size_t workspace;     /* fixed per-thread workspace, allocated at opening */
    size_t host_bytes;    /* scratch of the host in use now; 0 where the device's memory is the host's */
    size_t host_peak;     /* highest since opening or the last ace_scratch_reserve() */
    double flops;         /* 2 x multiply-adds of products, attention and convolutions, since opening */
    double bytes_moved;   /* weights and activations read and written by operations, once each */
    double bytes_loaded;  /* weights made, since opening */
} ace_device_stats;

ace_device_stats ace_device_get_stats(const ace_device *dev);
void ace_device_reset_peak(ace_device *dev);

/* On the meter: counts work that was counted before once more, instead of the same operations on the same sizes at the
 * same height of the stack, which would not raise the peak. Elsewhere nothing. */
void ace_meter_repeat(ace_device *dev, double flops, double bytes_moved);

/* The same of weights that were made and freed meanwhile. */
void ace_meter_repeat_loading(ace_device *dev, double bytes_loaded);

/* From now on the device refuses, as ACE_ERROR_MEMORY, what would take weights + scratch_held + workspace beyond
 * `bytes`; 0: no limit. */
void ace_device_set_limit(ace_device *dev, size_t bytes);

/* ---- scratch: a stack ---------------------------------------------------------------------------------------- */

typedef struct ace_mat {
    void *data; /* device memory: not for the host to touch */
    ace_dtype dtype;
    int64_t rows, cols, stride; /* stride in elements, >= cols */
} ace_mat;

/* Makes room for exactly `bytes` of scratch, and `host` bytes of host memory for ace_scratch_host(), both known from a
 * run on the meter (scratch_peak, host_peak). Must be called with no scratch in use; replaces the previous reservation.
 * Exceeding the reservation is a sticky ACE_ERROR_INTERNAL. Where the device's memory is the host's, there is one stack
 * for both, `host` is not looked at, and the meter counts all in scratch_peak. */
bool ace_scratch_reserve(ace_device *dev, size_t bytes, size_t host, ace_error *error);

/* Gives the memory above the top of the stack back, until it is needed again: between stages. */
void ace_scratch_trim(ace_device *dev);

/* The tops of both stacks; all zero: their bottoms. */
typedef struct ace_mark {
    size_t device, host;
} ace_mark;

/* A mark and everything above it back. */
ace_mark ace_scratch_mark(const ace_device *dev);
void ace_scratch_release(ace_device *dev, ace_mark mark);

/* An uninitialised matrix on top of the stack, rows packed (stride = cols), start aligned to 64 bytes. */
ace_mat ace_scratch(ace_device *dev, ace_dtype dtype, int64_t rows, int64_t cols);

/* Host memory that lives like scratch (latents, noise, spool blocks): floats that the host may touch, and only it. On
 * the meter it is NULL: host code must skip its arithmetic then. */
float *ace_scratch_host(ace_device *dev, int64_t count);

/* Views, without copying. */
ace_mat ace_rows(ace_mat m, int64_t first, int64_t count);
ace_mat ace_cols(ace_mat m, int64_t first, int64_t count);
/* The same packed memory as rows x cols of another width; m.stride must equal m.cols and the sizes must agree. */
ace_mat ace_reshape(ace_mat m, int64_t rows, int64_t cols);

/* Host to device and back, converting from and to float32; the host side is packed rows x cols. */
void ace_upload(ace_device *dev, ace_mat y, const float *host);
void ace_download(ace_device *dev, float *host, ace_mat x);

/* ---- weights ------------------------------------------------------------------------------------------------- */

typedef enum ace_weight_kind {
    ACE_WEIGHT_PRODUCT, /* N x K matrix of a linear layer or convolution, packed for the matrix kernel */
    ACE_WEIGHT_GATED,   /* 2F x K: rows 0..F-1 gate, F..2F-1 up; packed so that silu(gate)*up is an epilogue */
    ACE_WEIGHT_VECTOR,  /* N x 1 F32: bias, norm, modulation, snake parameter */
    ACE_WEIGHT_TABLE    /* N x K embedding rows, kept as F32 or BF16 */
} ace_weight_kind;

/* Delivers rows [first, first + count) of the canonical matrix, K values each, to `rows`: float32 when dtype is
 * ACE_F32, bfloat16 when it is ACE_BF16. Returns false with an error (unreadable, NaN, ...). May be called from several
 * threads at once and in any order. */
typedef bool (*ace_row_reader)(void *context, int64_t first, int64_t count, ace_dtype dtype, void *rows,
                               ace_error *error);

/* How the values of PRODUCT and GATED weights of linear layers (taps = 1) are kept, and so how their products are
 * computed. Only PLAIN is exact. The result of a row never depends on the other rows, as everywhere. */
typedef enum ace_weight_form {
    ACE_FORM_PLAIN, /* in the device's precision */
    /* int8 with a scale for each output channel, max |w| / 127: round(w * (127 / max |w|)), ties to even. A row of x is
     * rounded to int8 in the same way, with its own scale; sums of int8 products are exact integers (k <= 65536). Rows
     * with max below 2^-100 count as zeros. A row of x with infinity or NaN gives NaN in every column. */
    ACE_FORM_INT8,
    /* 4 bits, values -8 .. 7; 32 neighbours along k share a scale of five significant bits, so that scale * value,
     * which is what is multiplied, is exact in bf16; k is a multiple of 32. The scale takes the greatest value of the
     * group to about -8: of one below to two above the nearest to that, the one with the least squared error. */
    ACE_FORM_INT4,
    /* The file's own GGUF blocks (desc.blocks; k is a multiple of the block), multiplied as their values rounded to the
     * device's precision. The reader delivers whole rows of blocks in that dtype; scales that are not finite are
     * refused. */
    ACE_FORM_BLOCKS
} ace_weight_form;

typedef struct ace_weight_desc {
    ace_weight_kind kind;
    const char *name; /* for messages; borrowed during the call */
    int64_t n, k;     /* for convolutions k = taps * channels in, tap-major: [tap][channel] */
    int taps;         /* 1 for linear layers */
    bool keep_bf16;   /* TABLE: keep rows as BF16 (when the file has BF16); PRODUCT ignores it */
    ace_weight_form form;
    ace_dtype blocks; /* with ACE_FORM_BLOCKS: ACE_Q8_0, ACE_Q4_K, ACE_Q5_K or ACE_Q6_K */
} ace_weight_desc;

typedef struct ace_weight ace_weight;

/* Reads, packs and stores a weight in device memory. NULL with the device's failure set. The meter does not call the
 * reader. Loading is the only moment at which a device allocates besides ace_scratch_reserve(). */
ace_weight *ace_weight_new(ace_device *dev, const ace_weight_desc *desc, ace_row_reader reader, void *context);
void ace_weight_free(ace_device *dev, ace_weight *weight); /* NULL is allowed */

/* Puts other values into a weight that was made with this description (but for its name), in the same memory: the slot
 * of a streamed layer. False when the description is another one, or with the device's failure; the weight may then
 * only be freed. */
bool ace_weight_refill(ace_device *dev, ace_weight *weight, const ace_weight_desc *desc, ace_row_reader reader,
                       void *context);
int64_t ace_weight_n(const ace_weight *weight);
int64_t ace_weight_k(const ace_weight *weight);

/* ---- operations ---------------------------------------------------------------------------------------------- */

/* What happens to each element p = (x . W^T) of a product before it is stored, in this order; all NULL/zero = nothing:
 *   p += bias[n];   p = silu(p) if silu;   p *= gate[n];   p += residual[m][n];
 *   y[m][n] = p (y.data may be NULL: not stored);
 *   act[m][n] = p + sin(alpha[n] p)^2 * inv_beta[n] if snake is given (see ace_snake). */
typedef struct ace_snake_weights {
    const ace_weight *alpha;    /* VECTOR of N: a = exp(log alpha) */
    const ace_weight *inv_beta; /* VECTOR of N: 1 / (exp(log beta) + 1e-9) */
} ace_snake_weights;

typedef struct ace_epilogue {
    const ace_weight *bias; /* VECTOR of N */
    bool silu;
    ace_mat gate;     /* F32 row of N, data NULL: none */
    ace_mat residual; /* F32 M x N, data NULL: none; may be the same memory as y */
    const ace_snake_weights *snake;
    ace_mat act; /* where the snake output goes; M x N, any of F32/act dtype; used iff snake */
} ace_epilogue;

/* y[M][N] = epilogue(x[M][K] . W[N][K]^T). x: act dtype. y: F32 or act dtype. epilogue may be NULL. */
void ace_linear(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w, const ace_epilogue *epilogue);

/* y[M][F] = silu(x . gate^T) * (x . up^T). w: GATED. x, y: act dtype. silu(z) = z / (1 + exp(-z)) */
void ace_linear_silu_mul(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w);

/* 1-D convolution over rows (channels-last), taps and channels summed tap-major:
 *   p[m][n] = sum_{tap, c} W[n][tap][c] * x[(m + out_first) * stride + tap * dilation - padding - x_first][c]
 * where x holds the input positions [x_first, x_first + x.rows) and positions outside count as zero: at the true ends
 * of the signal that is the layer's own padding, anywhere else the caller must supply every position that is read.
 * m + out_first is the absolute output position of row m. Linear layers are the case taps = stride = 1.
 *
 * A transposed convolution of kernel 2s, stride s, padding s/2 is the case taps = 2, dilation = 1, padding = 1, with
 * N = s * channels out, row [phase * channels + o] of W = { w[:, o, phase + s] for tap 0, w[:, o, phase] for tap 1 }:
 * output row m, read as s rows of channels, is the positions m*s - s/2 .. m*s - s/2 + s - 1. */
typedef struct ace_conv {
    int64_t x_first, out_first;
    int stride, dilation, padding;
} ace_conv;

void ace_conv1d(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w, const ace_conv *conv,
                const ace_epilogue *epilogue);

/* y = x + sin(alpha x)^2 * inv_beta, per column. x: F32. y: F32 or act dtype. (vae-audio.md section 4) */
void ace_snake(ace_device *dev, ace_mat y, ace_mat x, const ace_snake_weights *snake);

/* y = w * x / sqrt(mean(x^2) + eps) [ * (1 + scale) + shift ]. x: F32. y: F32 or act dtype. scale, shift: F32 rows or
 * data NULL. (dit.md 2.2, 5.5) */
void ace_rms_norm(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w, float eps, ace_mat scale, ace_mat shift);

/* In place on x[L][heads * head_dim], F32 or act dtype: RMSNorm over each head with w[head_dim], then, if rope.data is
 * not NULL, rotation of row l by rope row first_position + l (half-split pairs). rope: F32 [positions][head_dim],
 * cosines of the head_dim/2 angles, then sines. (dit.md 2.3, 2.4) */
void ace_head_norm_rope(ace_device *dev, ace_mat x, int head_dim, const ace_weight *w, float eps, ace_mat rope,
                        int64_t first_position);

typedef enum ace_attention_mask {
    ACE_MASK_FULL,
    ACE_MASK_BAND,  /* |i - j| <= radius */
    ACE_MASK_CAUSAL /* j <= i + (keys - queries) */
} ace_attention_mask;

/* o[Lq][heads * D] = softmax(q k^T * scale + mask) v per head; query head h reads key head h / (heads / kv_heads).
 * q [Lq][heads*D], k, v [Lk][kv_heads*D], o: act dtype. Sums are F32. Scores are never stored whole. (dit.md 2.4) */
typedef struct ace_attention_shape {
    int heads, kv_heads, head_dim;
    float scale;
    ace_attention_mask mask;
    int64_t radius;
} ace_attention_shape;

void ace_attention(ace_device *dev, ace_mat o, ace_mat q, ace_mat k, ace_mat v, const ace_attention_shape *shape);

/* y[i] = table[ids[i]]. ids: host memory, each in [0, N). y: F32 or act dtype. */
void ace_embed(ace_device *dev, ace_mat y, const ace_weight *table, const int32_t *ids, int64_t count);

/* y[m][i] = x[m] . table[ids[i]] for `count` rows of an embedding table, which is a language model's head where input
 * and output share it. ids: host memory, each in [0, N); NULL: the rows [first, first + count). x, y: F32. */
void ace_logits(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *table, int64_t first, const int32_t *ids,
                int64_t count);

/* How ace_sample() chooses. */
typedef struct ace_sampling {
    float guidance;    /* value = unconditional + guidance * (value - unconditional), where there are such rows */
    float temperature; /* 0: the largest value, the first of equals */
    int top_k;         /* 0: off */
    float top_p;       /* in (0, 1]; 1: off */
} ace_sampling;

enum { ACE_SAMPLE_COLUMNS = 1 << 19 }; /* of a row that ace_sample() takes */

/* Whether the device has ace_sample() and what goes with it; where it has not, the host chooses (lm/lm_sampling.h). */
bool ace_device_samples(const ace_device *dev);

/* One column of each row of `values`, by the rules of lm.md 5.1, steps 2 and 5 to 8, with one uniform number in (0, 1)
 * for each row (host). values, unconditional: F32 of the same shape; unconditional may be absent (data and rows 0).
 * choices: F32 [rows][2]: the column, -1 where a value is not finite; and, with temperature 0, 1 if another column has
 * the same value, else 0. What is chosen is what lm_sample() chooses, unless `uniform` lies within 1e-12 of where that
 * changes: the weights are summed in another order. */
void ace_sample(ace_device *dev, ace_mat choices, ace_mat values, ace_mat unconditional, const ace_sampling *sampling,
                const double *uniform);

/* y[m] = table[first + c], c being the column that row m % choices.rows of `choices` names; every column that may be
 * named has its row in the table. Where nothing was chosen, any row of it. y: F32 or act dtype, a multiple of
 * choices.rows. */
void ace_embed_choices(ace_device *dev, ace_mat y, const ace_weight *table, int64_t first, ace_mat choices);

/* Choices on their way to the host while more work is queued: send() has them copied behind what is queued so far, and
 * receive() waits for that. There are ACE_SENDS places; a place takes the next choices when its last ones were
 * received. choices: at most ACE_SEND_ROWS rows, packed. host: two values for each row. */
enum { ACE_SENDS = 4, ACE_SEND_ROWS = 32 };
void ace_send_choices(ace_device *dev, int place, ace_mat choices);
void ace_receive_choices(ace_device *dev, int place, float *host, int64_t rows);

/* y = x, converting; shapes agree. */
void ace_copy(ace_device *dev, ace_mat y, ace_mat x);

/* y = x + row, row broadcast over all rows (a VECTOR of cols). x, y: F32; may be the same memory. */
void ace_add_vector(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *row);

/* y = a + b, F32, same shapes; b may have one row, which is then used for every row of a. */
void ace_add(ace_device *dev, ace_mat y, ace_mat a, ace_mat b);

/* y = silu(x). x: F32; y: F32 or act dtype. */
void ace_silu(ace_device *dev, ace_mat y, ace_mat x);

/* ---- steps that come again ----------------------------------------------------------------------------------- */

/* Says that the operations between the two calls are likely to come again, in the same order, on the same matrices and
 * weights: the steps of a diffusion. A device may then do them together, and at the latest when something needs what
 * they make; what comes out is the same. Everything may be called between them but another begin. */
void ace_repeat_begin(ace_device *dev);
void ace_repeat_end(ace_device *dev);

/* A whole number, at most 2^24, that changes from step to step while all else stays: how many keys there are. The host
 * knows it; where steps are to be the same, it also lies in device memory, put there before the step. */
typedef struct ace_number {
    int64_t value;
    ace_mat at; /* F32, one element; rows 0: nowhere */
} ace_number;

/* Rows [first, first + x.rows) of y = x, converting. */
void ace_append(ace_device *dev, ace_mat y, ace_mat x, ace_number first);

/* ace_attention() with the first `keys` rows of k and v. */
void ace_attention_growing(ace_device *dev, ace_mat o, ace_mat q, ace_mat k, ace_mat v,
                           const ace_attention_shape *shape, ace_number keys);

#endif
