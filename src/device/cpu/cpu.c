/* cpu.c - opening the CPU device, its memory, and sharing loops out over its threads. */
#include "device/cpu/cpu.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { PAGE = 4096, HUGE_PAGE = 2 << 20, NEAR_BYTES = 2 << 20 };

void cpu_run(ace_device *dev, int64_t count, void (*task)(void *, int64_t, int), void *context)
{
    ace_pool_run(cpu_of(dev)->pool, count, task, context, dev->stop);
    if (cpu_stopped(dev)) ace_fail(&dev->failure, ACE_CANCELLED, "stopped");
}

typedef struct row_loop {
    int64_t rows, block;
    void (*task)(void *context, int64_t first, int64_t count);
    void *context;
} row_loop;

static void row_task(void *context, int64_t index, int worker)
{
    const row_loop *loop = context;
    int64_t first = index * loop->block;
    (void)worker;
    loop->task(loop->context, first, cpu_min(loop->block, loop->rows - first));
}

void cpu_run_rows(ace_device *dev, int64_t rows, size_t bytes, void (*task)(void *, int64_t, int64_t), void *context)
{
    enum { TASK_BYTES = 128 << 10 }; /* much more than it costs to hand out a task, much less than a stop may take */
    row_loop loop = {rows, cpu_max(1, TASK_BYTES / (int64_t)(bytes + 1)), task, context};
    cpu_run(dev, cpu_divide_up(rows, loop.block), row_task, &loop);
}

/* In huge pages if the system has some: only a hint, without them there is more address translation. */
static void *huge_alloc(size_t bytes, const char *what, ace_error *error)
{
    void *data = ace_alloc_aligned(bytes, HUGE_PAGE, what, error);
    if (data) madvise(data, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
    return data;
}

static void *cpu_alloc(ace_device *dev, size_t bytes, const char *what, ace_error *error)
{
    (void)dev;
    if (bytes >= 2 * (size_t)HUGE_PAGE) return huge_alloc(bytes, what, error);
    return ace_alloc_aligned(bytes, ACE_SCRATCH_ALIGN, what, error);
}

static void cpu_scratch_discard(ace_device *dev, void *data, size_t bytes)
{
    (void)dev;
    uintptr_t first = ((uintptr_t)data + PAGE - 1) / PAGE * PAGE, end = ((uintptr_t)data + bytes) / PAGE * PAGE;
    /* Only a hint, too. */
    if (first < end) madvise((void *)first, end - first, MADV_DONTNEED);
}

static void cpu_free(ace_device *dev, void *data)
{
    (void)dev;
    free(data);
}

static void cpu_close(ace_device *dev)
{
    cpu_backend *cpu = cpu_of(dev);
    if (!cpu) return;
    ace_pool_close(cpu->pool);
    free(cpu->workspace);
    free(cpu);
}

static const ace_backend_ops cpu_ops = {
    .close = cpu_close,
    .weight_bytes = cpu_weight_bytes,
    .weight_pack = cpu_weight_pack,
    .product_scratch = cpu_product_scratch,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .scratch_reserve = cpu_alloc,
    .scratch_discard = cpu_scratch_discard,
    .scratch_free = cpu_free,
    .upload = cpu_upload,
    .download = cpu_download,
    .conv1d = cpu_conv1d,
    .linear_silu_mul = cpu_linear_silu_mul,
    .snake = cpu_snake,
    .rms_norm = cpu_rms_norm,
    .head_norm_rope = cpu_head_norm_rope,
    .attention = cpu_attention,
    .embed = cpu_embed,
    .logits = cpu_logits,
    .copy = cpu_copy,
    .add = cpu_add,
    .silu = cpu_silu,
};

static bool open_backend(ace_device *dev, const ace_cpu_options *options, ace_error *error)
{
    cpu_backend *cpu = ace_calloc(1, sizeof *cpu, "the CPU device", error);
    dev->backend = cpu;
    if (!cpu) return false;
    cpu->kernels = cpu_kernels_choose(options->isa, error);
    if (!cpu->kernels) return false;
    cpu->pool = ace_pool_open(options->threads, error);
    if (!cpu->pool) return false;
    cpu->threads = ace_pool_threads(cpu->pool);
    size_t workspace = ((size_t)cpu->threads * CPU_WORKSPACE + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    cpu->workspace = huge_alloc(workspace, "the workspace of the threads", error);
    if (!cpu->workspace) return false;
    dev->near_bytes = (size_t)cpu->threads * NEAR_BYTES;
    dev->prefers_int8 = cpu->kernels->isa == ACE_ISA_AVX2_VNNI || cpu->kernels->isa == ACE_ISA_AVX512_VNNI;
    dev->stats.workspace = workspace;
    dev->stats.total_peak = workspace;
    snprintf(dev->name, sizeof dev->name, "cpu (%s, %s, %d thread%s)", cpu->kernels->label,
             dev->act == ACE_BF16 ? "bf16" : "f32", cpu->threads, cpu->threads == 1 ? "" : "s");
    return true;
}

ace_device *ace_cpu_open(const ace_cpu_options *options, ace_error *error)
{
    if (options->precision != ACE_F32 && options->precision != ACE_BF16) {
        ace_fail(error, ACE_ERROR_USAGE, "the CPU computes in F32 or BF16, not in %s",
                 ace_dtype_name(options->precision));
        return NULL;
    }
    if (options->threads < 0 || options->threads > 1024) {
        ace_fail(error, ACE_ERROR_USAGE, "%d threads: ask for 1 to 1024, or 0 for all CPUs", options->threads);
        return NULL;
    }
    ace_device *dev = ace_calloc(1, sizeof *dev, "the CPU device", error);
    if (!dev) return NULL;
    dev->ops = &cpu_ops;
    dev->act = options->precision;
    dev->stop = options->stop;
    if (!open_backend(dev, options, error)) {
        ace_device_close(dev);
        return NULL;
    }
    return dev;
}
