/* cpu.h - the state of the CPU device, shared by its files. */
#ifndef ACE_DEVICE_CPU_CPU_H
#define ACE_DEVICE_CPU_CPU_H

#include "device/backend.h"
#include "device/cpu/kernels.h"

enum { CPU_WORKSPACE = 5 << 19 }; /* bytes per thread: tiles of products and attention, rows on their way to packing */

typedef struct cpu_backend {
    ace_pool *pool;
    int threads;
    const cpu_kernels *kernels;
    char *workspace; /* threads x CPU_WORKSPACE, in huge pages */
} cpu_backend;

static inline cpu_backend *cpu_of(const ace_device *dev)
{
    return dev->backend;
}

static inline void *cpu_workspace(const cpu_backend *cpu, int worker)
{
    return cpu->workspace + (size_t)worker * CPU_WORKSPACE;
}

static inline int64_t cpu_divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static inline int64_t cpu_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t cpu_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* The number of groups that panels are put in, so that blocks of rows times groups of panels make `wanted` tasks or
 * more, of which no thread gets many more than another. */
static inline int64_t cpu_groups(const cpu_backend *cpu, int64_t blocks, int64_t panels, int64_t wanted)
{
    int64_t groups = cpu_divide_up(wanted, blocks), threads = cpu->threads;
    while (groups < panels && 8 * cpu_divide_up(blocks * groups, threads) * threads > 9 * blocks * groups) groups++;
    return cpu_min(groups, panels);
}

/* True when the caller wants no more work done: long tasks ask now and then. */
static inline bool cpu_stopped(const ace_device *dev)
{
    return dev->stop && atomic_load_explicit(dev->stop, memory_order_relaxed);
}

/* Runs the tasks on the pool. When the caller's flag cut the loop short, that is the device's failure: what the loop
 * should have written is incomplete. */
void cpu_run(ace_device *dev, int64_t count, void (*task)(void *context, int64_t index, int worker), void *context);

/* Calls rows(context, first, count) for blocks of rows that cover [0, rows), each row costing about `bytes`. */
void cpu_run_rows(ace_device *dev, int64_t rows, size_t bytes,
                  void (*task)(void *context, int64_t first, int64_t count), void *context);

/* isa.c: the kernels for `isa`, or for ACESTEP_ISA, or the best ones of this CPU. NULL with an error that lists what is
 * supported. */
const cpu_kernels *cpu_kernels_choose(ace_isa isa, ace_error *error);

/* weights.c */
size_t cpu_weight_bytes(const ace_device *dev, const ace_weight_desc *desc);
bool cpu_weight_pack(ace_device *dev, ace_weight *weight, ace_row_reader reader, void *context, ace_error *error);

/* What a thread that packs knows. */
typedef struct cpu_packing cpu_packing;
/* Rows of the canonical matrix; false when packing has failed. */
bool cpu_packing_read(cpu_packing *p, int64_t first, int64_t count, ace_dtype dtype, void *rows);
bool cpu_packing_fail(cpu_packing *p, const ace_error *error);

/* quantise.c: bytes of a panel of a weight whose form is not PLAIN, and making panel number `panel` of it. False when
 * packing has failed. */
size_t cpu_quantised_panel_bytes(const ace_weight_desc *desc);
int64_t cpu_quantised_most_k(const ace_weight_desc *desc); /* of a weight that this program can make */
/* Whether no block of a row of BLOCKS has an infinite scale or one that is no number. */
bool cpu_scales_are_finite(const ace_weight_desc *desc, const uint8_t *row);
bool cpu_quantise_panel(cpu_packing *p, const cpu_backend *cpu, const ace_weight_desc *desc, int64_t panel, void *data,
                        int worker);

/* Bytes of one panel of a packed PRODUCT or GATED weight, and columns of the product in it. */
size_t cpu_panel_bytes(const cpu_backend *cpu, ace_dtype dtype, int64_t k, int taps);
static inline int64_t cpu_panel_cols(ace_weight_kind kind)
{
    return kind == ACE_WEIGHT_GATED ? CPU_NR / 2 : CPU_NR;
}

/* A product of the rows of x with w, linear layers being convolutions of one tap.
 * product_tiles.c does those that the matrix unit can, gemm.c the others. */
typedef struct cpu_product {
    ace_mat x;
    const ace_weight *w;
    ace_conv conv;
    int64_t rows; /* of the result */
    cpu_epilogue epilogue;
} cpu_product;

void cpu_multiply_tiles(ace_device *dev, const cpu_product *product);

/* product_few_rows.c: the same bits, faster, for those that it has a way for. */
bool cpu_has_few_rows(const ace_device *dev, const cpu_product *product);
void cpu_multiply_few_rows(ace_device *dev, const cpu_product *product);

/* product_int8.c, with a matrix unit product_int8_tiles.c: the product with a weight in the form INT8. `room`:
 * cpu_int8_scratch() bytes. */
void cpu_multiply_int8(ace_device *dev, const cpu_product *product, void *room);
size_t cpu_int8_scratch(const ace_device *dev, const ace_weight_desc *desc, int64_t rows);

/* product_expanded.c: the same with a weight in 4 bits or blocks, where products of bf16 have a matrix unit. */
static inline bool cpu_expands_to_tiles(const ace_device *dev)
{
    return cpu_of(dev)->kernels->tiles && dev->act == ACE_BF16;
}
void cpu_multiply_expanded(ace_device *dev, const cpu_product *product, void *room);
size_t cpu_expanded_scratch(const ace_device *dev, const ace_weight_desc *desc, int64_t rows);

size_t cpu_product_scratch(const ace_device *dev, const ace_weight_desc *desc, int64_t rows);

/* The operations, as in backend.h. */
void cpu_conv1d(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w, const ace_conv *conv,
                const ace_epilogue *epilogue, void *room);
void cpu_linear_silu_mul(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w, void *room);
void cpu_attention(ace_device *dev, ace_mat o, ace_mat q, ace_mat k, ace_mat v, const ace_attention_shape *shape);
void cpu_upload(ace_device *dev, ace_mat y, const float *host);
void cpu_download(ace_device *dev, float *host, ace_mat x);
void cpu_snake(ace_device *dev, ace_mat y, ace_mat x, const ace_snake_weights *snake);
void cpu_rms_norm(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *w, float eps, ace_mat scale, ace_mat shift);
void cpu_head_norm_rope(ace_device *dev, ace_mat x, int head_dim, const ace_weight *w, float eps, ace_mat rope,
                        int64_t first_position);
void cpu_embed(ace_device *dev, ace_mat y, const ace_weight *table, const int32_t *ids, int64_t count);
void cpu_logits(ace_device *dev, ace_mat y, ace_mat x, const ace_weight *table, int64_t first, const int32_t *ids);
void cpu_copy(ace_device *dev, ace_mat y, ace_mat x);
void cpu_add(ace_device *dev, ace_mat y, ace_mat a, ace_mat b);
void cpu_silu(ace_device *dev, ace_mat y, ace_mat x);

#endif
