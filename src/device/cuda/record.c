#include "device/cuda/record.h"

#include "base/memory.h"
#include "device/cuda/cuda.h"
#include "device/cuda/state.h"

#include <stdlib.h>
#include <string.h>

enum { FEW = 4 /* operations that are not worth a graph */ };

/* Floating-point operations of an operation, on the average of a list, that take a fast GPU longer (20 microseconds of
 * 500 teraflops) than it takes the host to queue it. */
static const double long_flops = 1e10;

/* ---- opening ------------------------------------------------------------------------------------------------- */

bool cuda_record_open(cuda_backend *c, ace_error *error)
{
    const char *wish = getenv("ACESTEP_CUDA_GRAPHS");
    c->recorder.on = !wish || strcmp(wish, "0") != 0;
    c->recorder.list = ace_calloc(CUDA_LIST, sizeof *c->recorder.list, "the list of operations", error);
    return c->recorder.list != NULL;
}

static void forget(cuda_backend *c, cuda_recording *r)
{
    if (r->graph) c->gpu->graph_free(c->context, r->graph);
    free(r->list);
    *r = (cuda_recording){0};
}

void cuda_record_close(cuda_backend *c)
{
    for (int i = 0; i < CUDA_RECORDINGS; i++) forget(c, &c->recorder.recordings[i]);
    free(c->recorder.list);
}

/* ---- one operation ------------------------------------------------------------------------------------------- */

static int launch(const cuda_backend *c, const cuda_operation *o)
{
    const cuda_rows *r = &o->of.rows;
    switch (o->kind) {
    case CUDA_PRODUCT:
        return c->gpu->product(c->compute, &o->of.product);
    case CUDA_ATTENTION:
        return c->gpu->attention(c->compute, &o->of.attention);
    case CUDA_NORM:
        return c->gpu->rms_norm(c->compute, &o->of.norm);
    case CUDA_HEAD_NORM:
        return c->gpu->head_norm_rope(c->compute, &o->of.head_norm);
    case CUDA_SNAKE:
        return c->gpu->snake(c->compute, r->y, r->x, r->alpha, r->inv_beta);
    case CUDA_COPY:
        return c->gpu->copy(c->compute, r->y, r->x);
    case CUDA_APPEND:
        return c->gpu->append(c->compute, r->y, r->x, r->first);
    case CUDA_ADD:
        return c->gpu->add(c->compute, r->y, r->x, r->b);
    case CUDA_SILU:
        return c->gpu->silu(c->compute, r->y, r->x);
    }
    return 0;
}

static const char *doing(const cuda_operation *o)
{
    static const char *const names[] = {[CUDA_PRODUCT] = "in a product", [CUDA_ATTENTION] = "in attention",
                                        [CUDA_NORM] = "in a norm",       [CUDA_HEAD_NORM] = "in a norm of heads",
                                        [CUDA_SNAKE] = "in a snake",     [CUDA_COPY] = "in a copy",
                                        [CUDA_APPEND] = "in a copy",     [CUDA_ADD] = "in a sum",
                                        [CUDA_SILU] = "in a silu"};
    return names[o->kind];
}

/* True when the list is as long as it may get. A device that is stopped comes to an end within a fraction of a second:
 * what is queued as one is some milliseconds of work, on a small GPU some tens. */
static bool is_long(const ace_device *dev)
{
    static const double most_flops = 2e11, most_bytes = 8e9;
    const cuda_recorder *r = &cuda_of(dev)->recorder;
    return r->count == CUDA_LIST || dev->stats.flops - r->flops > most_flops ||
           dev->stats.bytes_moved - r->bytes > most_bytes;
}

cuda_operation *cuda_operation_new(ace_device *dev, cuda_kind kind)
{
    cuda_recorder *r = &cuda_of(dev)->recorder;
    cuda_operation *o = &r->list[r->count];
    memset(o, 0, sizeof *o);
    o->kind = kind;
    return o;
}

void cuda_operate(ace_device *dev)
{
    cuda_backend *c = cuda_of(dev);
    cuda_recorder *r = &c->recorder;
    const cuda_operation *o = &r->list[r->count];
    if (r->open) {
        c->queued++; /* its place in the order of operations; no event is recorded before it is there */
        r->count++;
        if (is_long(dev)) cuda_flush(dev);
    } else if (cuda_begin(dev)) {
        cuda_queued(dev, launch(c, o), doing(o));
    }
}

/* ---- what is remembered -------------------------------------------------------------------------------------- */

static cuda_recording *find(cuda_recorder *r, int count)
{
    for (int i = 0; i < CUDA_RECORDINGS; i++) {
        cuda_recording *known = &r->recordings[i];
        if (known->count == count && memcmp(known->list, r->list, (size_t)count * sizeof *r->list) == 0) return known;
    }
    return NULL;
}

/* A place for so many operations; what has not come for longest makes room. */
static cuda_recording *make_room(cuda_backend *c, int count)
{
    for (;;) {
        cuda_recording *place = NULL, *oldest = NULL;
        int sum = count;
        for (int i = 0; i < CUDA_RECORDINGS; i++) {
            cuda_recording *r = &c->recorder.recordings[i];
            sum += r->count;
            if (!r->list)
                place = r;
            else if (!oldest || r->used < oldest->used)
                oldest = r;
        }
        if (place && sum <= CUDA_RECORDED) return place;
        forget(c, oldest);
    }
}

/* Where host memory is short, the list is queued plainly the next time, too. */
static void remember(cuda_backend *c, int count)
{
    ace_error unused = {0};
    cuda_recording *place = make_room(c, count);
    place->list = ace_calloc((size_t)count, sizeof *place->list, "recorded operations", &unused);
    if (!place->list) return;
    memcpy(place->list, c->recorder.list, (size_t)count * sizeof *place->list);
    place->count = count;
    place->used = c->recorder.now;
}

/* Makes the graph of a recording. Nothing of it is carried out, so that whatever fails here leaves the list to be
 * queued plainly, which tells an error that is the GPU's. Graphs are not tried again then. */
static bool make_graph(cuda_backend *c, cuda_recording *r)
{
    void *graph = NULL;
    int failed = c->gpu->graph_begin(c->compute);
    if (!failed) {
        for (int i = 0; i < r->count && !failed; i++) failed = launch(c, &r->list[i]);
        int end = c->gpu->graph_end(c->compute, &graph);
        if (!failed) failed = end;
    }
    if (failed && graph) c->gpu->graph_free(c->context, graph);
    if (failed) c->recorder.on = false;
    r->graph = failed ? NULL : graph;
    return !failed;
}

/* ---- lists --------------------------------------------------------------------------------------------------- */

static bool queue_plainly(ace_device *dev, int count)
{
    const cuda_backend *c = cuda_of(dev);
    const cuda_operation *o = c->recorder.list;
    for (int i = 0; i < count; i++, o++)
        if (!cuda_check(dev, launch(c, o), doing(o))) return false;
    return true;
}

/* `flops`: of the whole list. */
static bool queue_list(ace_device *dev, int count, double flops)
{
    cuda_backend *c = cuda_of(dev);
    cuda_recorder *r = &c->recorder;
    if (!r->on || count < FEW || flops > long_flops * count) return queue_plainly(dev, count);
    cuda_recording *known = find(r, count);
    if (!known) remember(c, count);
    if (!known || (!known->graph && !make_graph(c, known))) return queue_plainly(dev, count);
    known->used = r->now;
    r->launched++;
    return cuda_check(dev, c->gpu->graph_launch(c->compute, known->graph), "in a recorded step");
}

static void begin_list(ace_device *dev)
{
    cuda_recorder *r = &cuda_of(dev)->recorder;
    r->count = 0;
    r->now++;
    r->flops = dev->stats.flops;
    r->bytes = dev->stats.bytes_moved;
}

void cuda_flush(ace_device *dev)
{
    cuda_recorder *r = &cuda_of(dev)->recorder;
    int count = r->count;
    double flops = dev->stats.flops - r->flops;
    if (count == 0) return;
    begin_list(dev);
    if (dev->failure.status == ACE_OK && cuda_ready(dev) && queue_list(dev, count, flops)) cuda_paced(dev);
}

void cuda_repeat_begin(ace_device *dev)
{
    begin_list(dev);
    cuda_of(dev)->recorder.open = true;
}

void cuda_repeat_end(ace_device *dev)
{
    cuda_flush(dev);
    cuda_of(dev)->recorder.open = false;
}

long ace_cuda_recorded_steps(const ace_device *dev)
{
    return cuda_of(dev)->recorder.launched;
}
