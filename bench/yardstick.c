#include "yardstick.h"

#include <stdlib.h>
#include <string.h>

#if defined(BENCH_ONEDNN)
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>

enum { MEMORIES = 4 };

void yardstick_limit(ace_isa isa)
{
    static const dnnl_cpu_isa_t most[] = {
        [ACE_ISA_AVX2] = dnnl_cpu_isa_avx2,
        [ACE_ISA_AVX2_VNNI] = dnnl_cpu_isa_avx2_vnni,
        [ACE_ISA_AVX512] = dnnl_cpu_isa_avx512_core,
        [ACE_ISA_AVX512_VNNI] = dnnl_cpu_isa_avx512_core_vnni,
        [ACE_ISA_AVX512_BF16] = dnnl_cpu_isa_avx512_core_bf16,
    };
    if (isa >= ACE_ISA_AVX2 && isa <= ACE_ISA_AVX512_BF16) dnnl_set_max_cpu_isa(most[isa]);
}

struct yardstick {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_desc_t description;
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t arguments[MEMORIES];
    int count;
};

static yardstick *yardstick_new(int threads)
{
    yardstick *y = calloc(1, sizeof *y);
    if (!y) return NULL;
    omp_set_num_threads(threads > 0 ? threads : omp_get_num_procs());
    if (dnnl_engine_create(&y->engine, dnnl_cpu, 0) == dnnl_success &&
        dnnl_stream_create(&y->stream, y->engine, dnnl_stream_default_flags) == dnnl_success)
        return y;
    yardstick_free(y);
    return NULL;
}

void yardstick_free(yardstick *y)
{
    if (!y) return;
    for (int i = 0; i < y->count; i++) dnnl_memory_destroy(y->arguments[i].memory);
    if (y->primitive) dnnl_primitive_destroy(y->primitive);
    if (y->description) dnnl_primitive_desc_destroy(y->description);
    if (y->stream) dnnl_stream_destroy(y->stream);
    if (y->engine) dnnl_engine_destroy(y->engine);
    free(y);
}

static dnnl_memory_desc_t describe(int rank, int64_t a, int64_t b, int64_t c, dnnl_data_type_t type,
                                   dnnl_format_tag_t tag)
{
    dnnl_dims_t dims = {a, b, c};
    dnnl_memory_desc_t d;
    if (dnnl_memory_desc_init_by_tag(&d, rank, dims, type, tag) != dnnl_success) memset(&d, 0, sizeof d);
    return d;
}

/* Memory of that description, filled with small numbers. */
static void add_argument(yardstick *y, int argument, const dnnl_memory_desc_t *d)
{
    void *data = NULL;
    dnnl_memory_t memory;
    if (dnnl_memory_create(&memory, d, y->engine, DNNL_MEMORY_ALLOCATE) != dnnl_success) return;
    y->arguments[y->count++] = (dnnl_exec_arg_t){argument, memory};
    dnnl_memory_get_data_handle(memory, &data);
    size_t bytes = dnnl_memory_desc_get_size(d);
    for (size_t i = 0; d->data_type == dnnl_f32 && i < bytes / 4; i++)
        ((float *)data)[i] = (float)(i * 2654435761u >> 24) * 0x1p-9f;
    for (size_t i = 0; d->data_type == dnnl_bf16 && i < bytes / 2; i++)
        ((uint16_t *)data)[i] = (uint16_t)(0x3c00 + (i * 2654435761u >> 24)); /* bf16 0.0078 to 0.5 */
    for (size_t i = 0; (d->data_type == dnnl_s8 || d->data_type == dnnl_u8) && i < bytes; i++)
        ((uint8_t *)data)[i] = (uint8_t)(i * 2654435761u >> 24);
}

/* Takes the operation's description `operation`, and memory for the arguments. */
static yardstick *finish(yardstick *y, const void *operation, dnnl_primitive_attr_t attributes,
                         const dnnl_memory_desc_t *x, const dnnl_memory_desc_t *bias, const dnnl_memory_desc_t *result)
{
    if (dnnl_primitive_desc_create(&y->description, operation, attributes, y->engine, NULL) != dnnl_success ||
        dnnl_primitive_create(&y->primitive, y->description) != dnnl_success) {
        yardstick_free(y);
        return NULL;
    }
    add_argument(y, DNNL_ARG_SRC, x);
    add_argument(y, DNNL_ARG_WEIGHTS, dnnl_primitive_desc_query_md(y->description, dnnl_query_weights_md, 0));
    add_argument(y, DNNL_ARG_DST, result);
    if (bias) add_argument(y, DNNL_ARG_BIAS, bias);
    return y;
}

/* The types of x, of the weights and of the result. */
static const dnnl_data_type_t types[][3] = {
    [YARDSTICK_F32] = {dnnl_f32, dnnl_f32, dnnl_f32}, [YARDSTICK_BF16] = {dnnl_bf16, dnnl_bf16, dnnl_bf16},
    [YARDSTICK_INT8] = {dnnl_s8, dnnl_s8, dnnl_s32},  [YARDSTICK_INT8_ROUNDED] = {dnnl_s8, dnnl_s8, dnnl_bf16},
    [YARDSTICK_U8] = {dnnl_u8, dnnl_s8, dnnl_s32},    [YARDSTICK_U8_ROUNDED] = {dnnl_u8, dnnl_s8, dnnl_bf16},
};

/* A scale for each column of the result. */
static void set_scales(dnnl_primitive_attr_t attributes, int64_t n)
{
    float *scales = malloc((size_t)n * sizeof *scales);
    for (int64_t i = 0; scales && i < n; i++) scales[i] = 0.001f;
    if (scales) dnnl_primitive_attr_set_output_scales(attributes, n, 1 << 1, scales);
    free(scales);
}

yardstick *yardstick_linear(yardstick_kind kind, int64_t m, int64_t k, int64_t n, int threads)
{
    yardstick *y = yardstick_new(threads);
    if (!y) return NULL;
    dnnl_memory_desc_t x = describe(2, m, k, 0, types[kind][0], dnnl_ab);
    dnnl_memory_desc_t w = describe(2, n, k, 0, types[kind][1], dnnl_format_tag_any);
    dnnl_memory_desc_t result = describe(2, m, n, 0, types[kind][2], dnnl_ab);
    dnnl_inner_product_desc_t operation;
    dnnl_primitive_attr_t attributes = NULL;
    if (dnnl_inner_product_forward_desc_init(&operation, dnnl_forward_inference, &x, &w, NULL, &result) !=
            dnnl_success ||
        dnnl_primitive_attr_create(&attributes) != dnnl_success) {
        yardstick_free(y);
        return NULL;
    }
    if (kind == YARDSTICK_INT8_ROUNDED || kind == YARDSTICK_U8_ROUNDED) set_scales(attributes, n);
    y = finish(y, &operation, attributes, &x, NULL, &result);
    dnnl_primitive_attr_destroy(attributes);
    return y;
}

const char *yardstick_implementation(const yardstick *y)
{
    const char *name = "";
    dnnl_primitive_desc_query(y->description, dnnl_query_impl_info_str, 0, &name);
    return name;
}

yardstick *yardstick_conv(int64_t rows, int64_t channels, int dilation, int threads)
{
    yardstick *y = yardstick_new(threads);
    if (!y) return NULL;
    dnnl_memory_desc_t x = describe(3, 1, channels, rows, dnnl_bf16, dnnl_nwc);
    dnnl_memory_desc_t w = describe(3, channels, channels, 7, dnnl_bf16, dnnl_format_tag_any);
    dnnl_memory_desc_t bias = describe(1, channels, 0, 0, dnnl_f32, dnnl_a);
    dnnl_dims_t stride = {1}, between = {dilation - 1}, padding = {3 * dilation};
    dnnl_convolution_desc_t operation;
    if (dnnl_dilated_convolution_forward_desc_init(&operation, dnnl_forward_inference, dnnl_convolution_direct, &x, &w,
                                                   &bias, &x, stride, between, padding, padding) == dnnl_success)
        return finish(y, &operation, NULL, &x, &bias, &x);
    yardstick_free(y);
    return NULL;
}

void yardstick_run(yardstick *y)
{
    dnnl_primitive_execute(y->primitive, y->stream, y->count, y->arguments);
    dnnl_stream_wait(y->stream);
}

#else

void yardstick_limit(ace_isa isa)
{
    (void)isa;
}

yardstick *yardstick_linear(yardstick_kind kind, int64_t m, int64_t k, int64_t n, int threads)
{
    (void)kind, (void)m, (void)k, (void)n, (void)threads;
    return NULL;
}

const char *yardstick_implementation(const yardstick *y)
{
    (void)y;
    return "";
}

yardstick *yardstick_conv(int64_t rows, int64_t channels, int dilation, int threads)
{
    (void)rows, (void)channels, (void)dilation, (void)threads;
    return NULL;
}

void yardstick_run(yardstick *y)
{
    (void)y;
}

void yardstick_free(yardstick *y)
{
    (void)y;
}
#endif
