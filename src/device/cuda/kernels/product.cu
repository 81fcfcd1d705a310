/* product.cu - which kernel makes a product, and how it is told. The result does not depend on the choice. */
#include "device/cuda/kernels/product.h"

#include "device/cuda/kernels/product_task.h"
#include "device/cuda/kernels/table.h"

enum {
    MISUSE = 1,     /* cudaErrorInvalidValue */
    BF16_SINCE = 80 /* capability from which on there are matrix instructions of bfloat16, and asynchronous copies */
};

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static int is_blocks(gpu_form form)
{
    return form == GPU_Q8_0 || form == GPU_Q4_K || form == GPU_Q5_K || form == GPU_Q6_K;
}

static product_mat mat_of(gpu_mat m)
{
    size_t bytes = m.type == GPU_BF16 ? 2 : 4;
    return {m.data, m.stride, m.type == GPU_BF16, (uintptr_t)m.data % (4 * bytes) == 0 && m.stride % 4 == 0};
}

static product_task describe(const gpu_product *p)
{
    const gpu_weight *w = &p->w;
    product_task t = product_task();
    int64_t element = w->form == GPU_INT8 ? 1 : p->x.type == GPU_BF16 ? 2 : 4;
    t.x = (const char *)p->x.data;
    t.x_rows = (int)p->x.rows;
    t.x_pitch = p->x.stride * element;
    t.first = (int)(p->out_first * p->stride - p->padding - p->x_first);
    t.rows = (int)p->rows;
    t.stride = p->stride;
    t.dilation = p->dilation;
    t.taps = w->taps;
    t.channels = (int)w->channels;
    t.padded = (int)(is_blocks(w->form) ? divide_up(w->channels, GPU_K_TILE) * GPU_K_TILE : w->padded);
    t.x_aligned = (uintptr_t)t.x % CHUNK == 0 && t.x_pitch % CHUNK == 0;
    t.w = (const char *)w->data;
    t.w_rows = (int)(w->gated ? divide_up(w->n / 2, 8) * 16 : w->n);
    t.w_pitch = (int64_t)w->row_bytes;
    t.scales = w->scales;
    t.w_exponents = w->exponents;
    t.segments = (int)divide_up((int64_t)t.taps * t.padded * element, SEGMENT);
    t.cols = (int)(w->gated ? w->n / 2 : w->n);
    t.gated = w->gated;
    t.silu = p->silu;
    t.y = mat_of(p->y);
    t.residual = mat_of(p->residual);
    t.act = mat_of(p->act);
    t.bias = p->bias;
    t.gate = p->gate;
    t.alpha = p->alpha;
    t.inv_beta = p->inv_beta;
    return t;
}

/* Whether all numbers of rows, of tiles, too, fit 31 bits: kernels count with those. (Ten minutes of stereo at 48 kHz
 * have 25.) */
static bool fits(const gpu_product *p)
{
    const int64_t most = INT32_MAX / 2;
    int64_t first = p->out_first * p->stride - p->padding - p->x_first;
    int64_t reach = p->rows * p->stride + (int64_t)p->w.taps * p->dilation;
    return p->x.rows <= most && p->rows <= most && p->w.n <= most && reach <= most && first <= most && first >= -most &&
           p->w.taps * p->w.padded <= most / 4;
}

static bool is_half(const gpu_weight *w, gpu_type x, int capability)
{
    return capability < BF16_SINCE && x == GPU_BF16 && w->form != GPU_INT8;
}

static product_family family_of(const gpu_product *p, int capability)
{
    if (p->w.form == GPU_INT8) return capability >= BF16_SINCE ? product_int8() : product_int8_held();
    if (p->x.type == GPU_F32) return product_f32(p->w.form);
    return is_half(&p->w, p->x.type, capability) ? product_half(p->w.form) : product_bf16(p->w.form);
}

/* What x must become before it is multiplied. */
static int prepare(gpu_stream *stream, const gpu_product *p, int capability, product_task *t)
{
    if (p->w.form == GPU_INT8) return product_int8_quantise(stream, p, t);
    if (!is_half(&p->w, p->x.type, capability)) return 0;
    return p->w.exponents ? product_half_scale(stream, p, t) : (int)MISUSE;
}

/* What part of its arithmetic is of use, times how full the last round of blocks leaves the multiprocessors. */
static double promise(const product_kernel *k, const product_task *t, int multiprocessors)
{
    double tiles = (double)divide_up(t->rows, k->rows) * (double)divide_up(t->w_rows, k->cols);
    double useful = (double)t->rows * (double)t->w_rows / (tiles * k->rows * k->cols);
    double rounds = (double)divide_up((int64_t)tiles, multiprocessors);
    return k->speed * useful * tiles / (rounds * multiprocessors);
}

static const product_kernel *choose(product_family family, const product_task *t, const gpu_properties *device)
{
    const product_kernel *best = NULL;
    for (int i = 0; i < family.count; i++) {
        const product_kernel *k = &family.kernels[i];
        if (k->shared_bytes > device->shared_bytes) continue;
        if (!best || promise(k, t, device->multiprocessors) > promise(best, t, device->multiprocessors)) best = k;
    }
    return best;
}

extern "C" int gpu_kernel_product_with(gpu_stream *stream, const gpu_product *p, int kernel)
{
    if (p->rows <= 0 || p->w.n <= 0) return 0;
    if (!fits(p)) return MISUSE;
    const gpu_properties *device = gpu_stream_properties(stream);
    product_task t = describe(p);
    int capability = gpu_stream_capability(stream);
    product_family family = family_of(p, capability);
    if (kernel >= family.count) return MISUSE;
    const product_kernel *k = kernel < 0 ? choose(family, &t, device) : &family.kernels[kernel];
    if (!k || k->shared_bytes > device->shared_bytes) return MISUSE;
    int error = prepare(stream, p, capability, &t);
    if (error) return error;
    t.x_step = k->threads / CHUNKS * t.stride * t.x_pitch;
    t.w_step = k->threads / CHUNKS * t.w_pitch;
    t.row_tiles = (unsigned)divide_up(t.rows, k->rows);
    t.col_tiles = (unsigned)divide_up(t.w_rows, k->cols);
    return gpu_launch(k->kernel, dim3(t.row_tiles * t.col_tiles), k->threads, k->shared_bytes, stream, t);
}

extern "C" int gpu_kernel_product(gpu_stream *s, const gpu_product *p)
{
    return gpu_kernel_product_with(s, p, -1);
}

extern "C" size_t gpu_kernel_product_room(const gpu_weight *w, gpu_type x, const int *capability, int64_t rows)
{
    if (w->form == GPU_INT8) return product_int8_room(w, rows);
    return is_half(w, x, capability[0] * 10 + capability[1]) ? product_half_room(rows) : 0;
}
