/* cuda.c - opening the CUDA device, and its memory.
 *
 * Addresses are reserved once, memory is put behind them when it is needed: behind weights by the heap, behind scratch
 * as its stack grows. So the GPU's memory follows the plan: it is never more than weights + scratch held + workspace,
 * the latter being what the driver took, the transit, recorded steps, and what whole pages take beyond the bytes used
 * in them: less than one page for the scratch and HEAP_MOST_WASTE for the weights. */
#include "device/cuda/cuda.h"

#include "base/error.h"
#include "base/memory.h"
#include "device/cpu/cpu.h"
#include "device/cuda/state.h"

#include <stdio.h>
#include <stdlib.h>

enum { MOST_THREADS = 16 /* that pack weights: more than the bus can follow */ };

/* ---- memory -------------------------------------------------------------------------------------------------- */

/* Puts memory behind whole pages. */
static bool commit(ace_device *dev, char *at, size_t bytes, const char *what, ace_error *error)
{
    static const double mib = 1048576.0;
    cuda_backend *c = cuda_of(dev);
    size_t available = 0, total = 0;
    int failed = c->gpu->commit(c->context, at, bytes);
    if (!failed) return true;
    const char *reason = c->gpu->message(failed);
    if (c->gpu->memory(c->context, &available, &total) != 0) return cuda_fail(c, failed, what, error);
    return ace_fail(error, ACE_ERROR_MEMORY,
                    "%s: %.1f MiB more of the memory of GPU %d (%s) cannot be had, of which %.1f of %.1f MiB are free "
                    "(%s): close other programs that use the GPU, or allow less memory, so that more is streamed",
                    what, (double)bytes / mib, c->device, c->properties.name, (double)available / mib,
                    (double)total / mib, reason);
}

/* What was put off may use the memory, and is queued before: the GPU waits for it. A GPU that refuses once may have
 * refused to wait only; should it be gone, nobody misses the memory. */
static void decommit(ace_device *dev, char *at, size_t bytes)
{
    const cuda_backend *c = cuda_of(dev);
    cuda_flush(dev);
    if (c->gpu->decommit(c->context, at, bytes) != 0) c->gpu->decommit(c->context, at, bytes);
}

static bool commit_weights(void *context, size_t at, size_t bytes, ace_error *error)
{
    ace_device *dev = context;
    return commit(dev, cuda_of(dev)->weights + at, bytes, "weights", error);
}

static void decommit_weights(void *context, size_t at, size_t bytes)
{
    ace_device *dev = context;
    decommit(dev, cuda_of(dev)->weights + at, bytes);
}

/* By way of the transit: the ranges may overlap. */
static bool copy_weights(void *context, size_t to, size_t from, size_t bytes, ace_error *error)
{
    ace_device *dev = context;
    cuda_backend *c = cuda_of(dev);
    gpu_mat m[3];
    char *const places[] = {c->weights + from, c->transit, c->weights + to};
    for (int i = 0; i < 3; i++)
        m[i] = (gpu_mat){places[i], 1, (int64_t)(bytes / sizeof(float)), (int64_t)(bytes / sizeof(float)), GPU_F32};
    if (!cuda_begin(dev)) return ace_device_ok(dev, error);
    int failed = c->gpu->copy(c->compute, m[1], m[0]);
    if (!failed) failed = c->gpu->copy(c->compute, m[2], m[1]);
    c->freed = ++c->queued; /* what is loaded into the place that was left has to wait */
    return !failed || cuda_fail(c, failed, "while weights were moved", error);
}

static void moved_weight(void *context, void *owner, size_t at)
{
    ace_weight *w = owner;
    w->data = cuda_of(context)->weights + at;
}

static void *cuda_alloc(ace_device *dev, size_t bytes, const char *what, ace_error *error)
{
    cuda_backend *c = cuda_of(dev);
    size_t at;
    return heap_alloc(c->heap, bytes, what, &at, error) ? c->weights + at : NULL;
}

static void cuda_free(ace_device *dev, void *data)
{
    cuda_backend *c = cuda_of(dev);
    c->freed = c->queued; /* until then somebody may still read it */
    heap_free(c->heap, (size_t)((char *)data - c->weights));
}

static void *cuda_scratch_reserve(ace_device *dev, size_t bytes, const char *what, ace_error *error)
{
    cuda_backend *c = cuda_of(dev);
    if (bytes <= c->range) return c->scratch;
    ace_fail(error, ACE_ERROR_MEMORY, "%s is %.1f GiB, more than GPU %d (%s) has: ask for a shorter song", what,
             (double)bytes / 1073741824.0, c->device, c->properties.name);
    return NULL;
}

static bool cuda_scratch_grow(ace_device *dev, size_t bytes, ace_error *error)
{
    cuda_backend *c = cuda_of(dev);
    size_t end = cuda_up(bytes, c->properties.page_bytes), now = c->scratch_committed;
    if (end <= now) return true;
    if (!commit(dev, c->scratch + now, end - now, "the working memory", error)) return false;
    c->scratch_committed = end;
    return true;
}

static void shrink_scratch(ace_device *dev, size_t bytes)
{
    cuda_backend *c = cuda_of(dev);
    size_t end = cuda_up(bytes, c->properties.page_bytes);
    if (end < c->scratch_committed) decommit(dev, c->scratch + end, c->scratch_committed - end);
    if (end < c->scratch_committed) c->scratch_committed = end;
}

static void cuda_scratch_discard(ace_device *dev, void *data, size_t bytes)
{
    (void)bytes; /* all above it */
    shrink_scratch(dev, (size_t)((char *)data - cuda_of(dev)->scratch));
}

static void cuda_scratch_free(ace_device *dev, void *data)
{
    (void)data;
    shrink_scratch(dev, 0);
}

/* ---- opening ------------------------------------------------------------------------------------------------- */

static bool open_memory(ace_device *dev, ace_error *error)
{
    cuda_backend *c = cuda_of(dev);
    size_t available = 0, total = 0, page = c->properties.page_bytes, transit = cuda_up(CUDA_TRANSIT, page);
    void *ranges[3] = {0};
    int failed = c->gpu->memory(c->context, &available, &total);
    c->range = cuda_up(total, page);
    const size_t bytes[3] = {c->range, c->range, transit};
    for (int i = 0; i < 3 && !failed; i++) failed = c->gpu->reserve(c->context, bytes[i], &ranges[i]);
    c->weights = ranges[0];
    c->scratch = ranges[1];
    c->transit = ranges[2];
    if (failed) return cuda_fail(c, failed, "while addresses were reserved", error);
    if (!commit(dev, c->transit, transit, "the transit of matrices", error)) {
        c->gpu->unreserve(c->context, c->transit, transit);
        c->transit = NULL;
        return false;
    }
    size_t recorded = c->recorder.on ? (size_t)CUDA_RECORDED * CUDA_RECORDED_BYTES : 0;
    const heap_memory memory = {.context = dev,
                                .commit = commit_weights,
                                .decommit = decommit_weights,
                                .copy = copy_weights,
                                .piece = CUDA_TRANSIT,
                                .moved = moved_weight};
    c->heap = heap_open(c->range, page, &memory, error);
    dev->stats.workspace = c->properties.context_bytes + transit + (HEAP_MOST_WASTE + 1) * page + recorded;
    dev->stats.total_peak = dev->stats.workspace;
    return c->heap != NULL;
}

static void unreserve(cuda_backend *c, char *range, size_t bytes)
{
    if (range && c->gpu->unreserve(c->context, range, bytes) != 0) c->gpu->unreserve(c->context, range, bytes);
}

static void close_memory(ace_device *dev)
{
    cuda_backend *c = cuda_of(dev);
    size_t transit = cuda_up(CUDA_TRANSIT, c->properties.page_bytes);
    heap_close(c->heap);
    if (c->transit) decommit(dev, c->transit, transit);
    unreserve(c, c->transit, transit);
    unreserve(c, c->scratch, c->range);
    unreserve(c, c->weights, c->range);
}

static void cuda_close(ace_device *dev)
{
    cuda_backend *c = cuda_of(dev);
    if (!c) return;
    if (c->context) {
        close_memory(dev);
        cuda_record_close(c);
        cuda_queue_close(c);
        c->gpu->close(c->context);
    }
    ace_pool_close(c->pool);
    free(c->rows);
    free(c);
}

static const ace_backend_ops cuda_ops = {
    .close = cuda_close,
    .weight_bytes = cuda_weight_bytes,
    .weight_pack = cuda_weight_pack,
    .product_scratch = cuda_product_scratch,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .scratch_reserve = cuda_scratch_reserve,
    .scratch_grow = cuda_scratch_grow,
    .scratch_discard = cuda_scratch_discard,
    .scratch_free = cuda_scratch_free,
    .upload = cuda_upload,
    .download = cuda_download,
    .conv1d = cuda_conv1d,
    .linear_silu_mul = cuda_linear_silu_mul,
    .snake = cuda_snake,
    .rms_norm = cuda_rms_norm,
    .head_norm_rope = cuda_head_norm_rope,
    .attention = cuda_attention,
    .embed = cuda_embed,
    .logits = cuda_logits,
    .sample = cuda_sample,
    .embed_choices = cuda_embed_choices,
    .send_choices = cuda_send_choices,
    .receive_choices = cuda_receive_choices,
    .copy = cuda_copy,
    .add = cuda_add,
    .silu = cuda_silu,
    .append = cuda_append,
    .attention_growing = cuda_attention_growing,
    .repeat_begin = cuda_repeat_begin,
    .repeat_end = cuda_repeat_end,
};

static bool open_gpu(cuda_backend *c, const ace_cuda_options *options, ace_error *error)
{
    int devices = 0, failed = c->gpu->count(&devices);
    if (failed) return ace_fail(error, ACE_ERROR_DEVICE, "no GPU can be used: %s", c->gpu->message(failed));
    if (c->device < 0 || c->device >= devices)
        return ace_fail(error, ACE_ERROR_USAGE, "there is no GPU %d: this machine has %d, counted from 0", c->device,
                        devices);
    failed = c->gpu->open(options->device, &c->context, &c->properties);
    return !failed ||
           ace_fail(error, ACE_ERROR_DEVICE, "GPU %d cannot be used: %s", c->device, c->gpu->message(failed));
}

static bool open_pool(cuda_backend *c, ace_error *error)
{
    int threads = ace_cpu_count();
    const cpu_kernels *kernels = cpu_kernels_choose(ACE_ISA_AUTO, error);
    if (!kernels) return false;
    c->quantised = kernels->quantised;
    c->pool = ace_pool_open(threads < MOST_THREADS ? threads : MOST_THREADS, error);
    return c->pool != NULL;
}

static bool open_backend(ace_device *dev, const ace_cuda_options *options, ace_error *error)
{
    cuda_backend *c = ace_calloc(1, sizeof *c, "the CUDA device", error);
    dev->backend = c;
    if (!c) return false;
    c->gpu = options->gpu;
    c->device = options->device;
    if (c->gpu->abi != GPU_ABI)
        return ace_fail(error, ACE_ERROR_DEVICE,
                        "the GPU plug-in is of version %d and the program of %d: install both from the same build",
                        c->gpu->abi, GPU_ABI);
    if (!open_gpu(c, options, error) || !cuda_queue_open(c, error) || !cuda_record_open(c, error) ||
        !open_memory(dev, error) || !open_pool(c, error))
        return false;
    dev->near_bytes = c->properties.cache_bytes;
    snprintf(dev->name, sizeof dev->name, "cuda:%d %.70s (%s)", c->device, c->properties.name,
             dev->act == ACE_BF16 ? "bf16" : "f32");
    return true;
}

ace_device *ace_cuda_open(const ace_cuda_options *options, ace_error *error)
{
    if (options->precision != ACE_F32 && options->precision != ACE_BF16) {
        ace_fail(error, ACE_ERROR_USAGE, "a GPU computes in F32 or BF16, not in %s",
                 ace_dtype_name(options->precision));
        return NULL;
    }
    ace_device *dev = ace_calloc(1, sizeof *dev, "the CUDA device", error);
    if (!dev) return NULL;
    dev->ops = &cuda_ops;
    dev->apart = dev->samples = true;
    dev->act = options->precision;
    dev->stop = options->stop;
    if (open_backend(dev, options, error)) return dev;
    ace_device_close(dev);
    return NULL;
}
