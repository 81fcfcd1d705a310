/* queue.c - work that is queued for the GPU: errors, how far the host may be ahead, and transfers. */
#include "device/cuda/state.h"

#include "base/clock.h"
#include "base/error.h"

#include <string.h>
#include <time.h>

enum {
    LOADING_SLOT = 8 << 20, /* bytes: enough for the bus to be busy while the next slot is filled */
    SLOT_ALIGN = 64
};

/* ---- errors -------------------------------------------------------------------------------------------------- */

bool cuda_fail(const cuda_backend *c, int gpu_error, const char *doing, ace_error *error)
{
    return ace_fail(error, ACE_ERROR_DEVICE, "GPU %d (%s), %s: %s", c->device, c->properties.name, doing,
                    c->gpu->message(gpu_error));
}

bool cuda_check(ace_device *dev, int error, const char *doing)
{
    return error == 0 || cuda_fail(cuda_of(dev), error, doing, &dev->failure);
}

/* ---- opening ------------------------------------------------------------------------------------------------- */

static int open_slots(cuda_backend *c, cuda_slot *slots, int count, size_t bytes)
{
    for (int i = 0; i < count; i++) {
        void *data = NULL;
        int error = c->gpu->event_open(c->context, &slots[i].passed);
        if (!error) error = c->gpu->host_alloc(c->context, bytes, &data);
        slots[i].data = data;
        if (error) return error;
    }
    return 0;
}

static int open_staging(cuda_backend *c, cuda_staging *s, gpu_stream *stream, size_t bytes)
{
    s->stream = stream;
    s->bytes = bytes;
    return open_slots(c, s->slots, CUDA_SLOTS, bytes);
}

static int open_events(cuda_backend *c)
{
    int error = c->gpu->event_open(c->context, &c->loaded);
    for (int i = 0; i < CUDA_MARKS && !error; i++) error = c->gpu->event_open(c->context, &c->marks[i].event);
    return error;
}

bool cuda_queue_open(cuda_backend *c, ace_error *error)
{
    int failed = c->gpu->stream_open(c->context, &c->compute);
    if (!failed) failed = c->gpu->stream_open(c->context, &c->copy);
    if (!failed) failed = open_events(c);
    if (!failed) failed = open_staging(c, &c->loading, c->copy, LOADING_SLOT);
    if (!failed) failed = open_staging(c, &c->uploading, c->compute, CUDA_TRANSIT);
    if (!failed) failed = open_staging(c, &c->downloading, c->compute, CUDA_TRANSIT);
    if (!failed) failed = open_slots(c, c->sends, ACE_SENDS, 2 * ACE_SEND_ROWS * sizeof(float));
    return !failed || cuda_fail(c, failed, "while streams were opened", error);
}

static void close_event(cuda_backend *c, gpu_event *event)
{
    if (event) c->gpu->event_close(event);
}

static void close_slots(cuda_backend *c, const cuda_slot *slots, int count)
{
    for (int i = 0; i < count; i++) {
        close_event(c, slots[i].passed);
        if (slots[i].data) c->gpu->host_free(c->context, slots[i].data);
    }
}

void cuda_queue_close(cuda_backend *c)
{
    if (c->copy) c->gpu->stream_wait(c->copy);
    if (c->compute) c->gpu->stream_wait(c->compute);
    close_slots(c, c->loading.slots, CUDA_SLOTS);
    close_slots(c, c->uploading.slots, CUDA_SLOTS);
    close_slots(c, c->downloading.slots, CUDA_SLOTS);
    close_slots(c, c->sends, ACE_SENDS);
    for (int i = 0; i < CUDA_MARKS; i++) close_event(c, c->marks[i].event);
    close_event(c, c->loaded);
    if (c->copy) c->gpu->stream_close(c->copy);
    if (c->compute) c->gpu->stream_close(c->compute);
}

/* ---- waiting ------------------------------------------------------------------------------------------------- */

static bool stopped(ace_device *dev)
{
    return dev->stop && atomic_load_explicit(dev->stop, memory_order_relaxed) &&
           !ace_fail(&dev->failure, ACE_CANCELLED, "stopped");
}

bool cuda_wait(ace_device *dev, gpu_event *event)
{
    static const double impatience = 2e-4; /* seconds until others may have the processor: a nap takes a while to end */
    const struct timespec nap = {.tv_nsec = 20000};
    const cuda_backend *c = cuda_of(dev);
    double start = ace_clock();
    for (;;) {
        int passed = c->gpu->event_passed(event);
        if (passed > 0) return true;
        /* the wait, which does not take long any more, tells what went wrong */
        if (passed < 0) return cuda_check(dev, c->gpu->event_wait(event), "while it was waited for");
        if (stopped(dev)) return false;
        if (ace_clock() - start > impatience) nanosleep(&nap, NULL);
    }
}

/* ---- how far the host is ahead ------------------------------------------------------------------------------- */

/* Marks the end of what is queued; waits until the oldest mark has passed, whose place is taken. */
static bool mark(ace_device *dev)
{
    cuda_backend *c = cuda_of(dev);
    cuda_mark *m = &c->marks[c->next_mark];
    if (m->at > c->passed) {
        if (!cuda_wait(dev, m->event)) return false;
        c->passed = m->at;
    }
    if (!cuda_check(dev, c->gpu->event_record(m->event, c->compute), "while work was queued")) return false;
    m->at = c->marked = c->queued;
    c->next_mark = (c->next_mark + 1) % CUDA_MARKS;
    c->flops = dev->stats.flops;
    c->bytes = dev->stats.bytes_moved;
    return true;
}

bool cuda_ready(ace_device *dev)
{
    cuda_backend *c = cuda_of(dev);
    if (!heap_ok(c->heap, &dev->failure)) return false;
    if (!c->arriving) return true;
    if (!cuda_check(dev, c->gpu->event_record(c->loaded, c->copy), "while weights were loaded") ||
        !cuda_check(dev, c->gpu->stream_wait_event(c->compute, c->loaded), "while weights were loaded"))
        return false;
    c->arriving = false;
    return true;
}

bool cuda_begin(ace_device *dev)
{
    cuda_flush(dev);
    return dev->failure.status == ACE_OK && cuda_ready(dev);
}

void cuda_paced(ace_device *dev)
{
    /* Between two marks: some milliseconds of a small GPU, and on a fast one enough for the host to be ahead. */
    static const double most_flops = 4e10, most_bytes = 4e8;
    enum { MOST_OPERATIONS = 32 };
    const cuda_backend *c = cuda_of(dev);
    if (c->queued - c->marked >= MOST_OPERATIONS || dev->stats.flops - c->flops > most_flops ||
        dev->stats.bytes_moved - c->bytes > most_bytes)
        mark(dev);
}

void cuda_queued(ace_device *dev, int error, const char *operation)
{
    cuda_of(dev)->queued++;
    if (cuda_check(dev, error, operation)) cuda_paced(dev);
}

bool cuda_copy_after(ace_device *dev, uint64_t operations)
{
    cuda_backend *c = cuda_of(dev);
    cuda_flush(dev);
    if (dev->failure.status != ACE_OK) return false;
    if (operations <= c->passed) return true;
    if (operations > c->marked && !mark(dev)) return false;
    for (int i = 0; i < CUDA_MARKS; i++) {
        cuda_mark *m = &c->marks[(c->next_mark + i) % CUDA_MARKS]; /* from the oldest one on */
        if (m->at < operations) continue;
        return cuda_check(dev, c->gpu->stream_wait_event(c->copy, m->event), "while weights were loaded");
    }
    return true;
}

/* ---- staging ------------------------------------------------------------------------------------------------- */

char *cuda_stage(ace_device *dev, cuda_staging *s, size_t bytes)
{
    const cuda_backend *c = cuda_of(dev);
    if (s->filled + bytes > s->bytes) {
        if (!cuda_check(dev, c->gpu->event_record(s->slots[s->current].passed, s->stream), "while data was copied"))
            return NULL;
        s->slots[s->current].pending = true;
        s->current = (s->current + 1) % CUDA_SLOTS;
        s->filled = 0;
    }
    cuda_slot *slot = &s->slots[s->current];
    if (slot->pending && !cuda_wait(dev, slot->passed)) {
        s->filled = s->bytes; /* what is copied from it must not be written over */
        return NULL;
    }
    slot->pending = false;
    char *data = slot->data + s->filled;
    s->filled = cuda_up(s->filled + bytes, SLOT_ALIGN);
    return data;
}

/* ---- transfers ----------------------------------------------------------------------------------------------- */

/* A part of a matrix on its way, packed, in float32, from row and column on. */
typedef struct passage {
    ace_mat part;
    int64_t row, col;
    size_t bytes;
} passage;

/* The next part that fits into the transit; false after the last one. Zero-initialise. */
static bool next_part(ace_mat whole, passage *p)
{
    int64_t room = (int64_t)(CUDA_TRANSIT / sizeof(float)), cols, rows;
    if (p->bytes > 0) {
        p->col += p->part.cols;
        if (p->col == whole.cols) {
            p->col = 0;
            p->row += p->part.rows;
        }
    }
    if (p->row == whole.rows) return false;
    cols = whole.cols - p->col < room ? whole.cols - p->col : room;
    rows = whole.cols > room ? 1 : room / whole.cols;
    if (rows > whole.rows - p->row) rows = whole.rows - p->row;
    p->part = ace_rows(ace_cols(whole, p->col, cols), p->row, rows);
    p->bytes = (size_t)(rows * cols) * sizeof(float);
    return true;
}

static ace_mat transit_of(const cuda_backend *c, const passage *p)
{
    return (ace_mat){c->transit, ACE_F32, p->part.rows, p->part.cols, p->part.cols};
}

/* Packed float32 needs no kernel. */
static bool is_plain(ace_mat m)
{
    return m.dtype == ACE_F32 && (m.stride == m.cols || m.rows == 1);
}

void cuda_upload(ace_device *dev, ace_mat y, const float *host)
{
    static const char doing[] = "while a matrix was copied to it";
    cuda_backend *c = cuda_of(dev);
    for (passage p = {0}; dev->failure.status == ACE_OK && next_part(y, &p);) {
        char *data = cuda_begin(dev) ? cuda_stage(dev, &c->uploading, p.bytes) : NULL;
        if (!data) return;
        memcpy(data, host + p.row * y.cols + p.col, p.bytes); /* a part has whole rows, or is of one */
        ace_mat to = is_plain(p.part) ? p.part : transit_of(c, &p);
        int error = c->gpu->copy_in(c->compute, to.data, data, p.bytes);
        if (!error && to.data == c->transit) error = c->gpu->copy(c->compute, cuda_mat_of(p.part), cuda_mat_of(to));
        cuda_queued(dev, error, doing);
    }
}

void cuda_download(ace_device *dev, float *host, ace_mat x)
{
    static const char doing[] = "while a matrix was copied from it";
    cuda_backend *c = cuda_of(dev);
    cuda_staging *s = &c->downloading;
    for (passage p = {0}; dev->failure.status == ACE_OK && next_part(x, &p);) {
        char *data = cuda_begin(dev) ? cuda_stage(dev, s, p.bytes) : NULL;
        if (!data) return;
        ace_mat from = is_plain(p.part) ? p.part : transit_of(c, &p);
        int error = 0;
        if (from.data == c->transit) error = c->gpu->copy(c->compute, cuda_mat_of(from), cuda_mat_of(p.part));
        if (!error) error = c->gpu->copy_out(c->compute, data, from.data, p.bytes);
        if (!error) error = c->gpu->event_record(s->slots[s->current].passed, c->compute);
        s->slots[s->current].pending = true;
        cuda_queued(dev, error, doing);
        if (dev->failure.status != ACE_OK || !cuda_wait(dev, s->slots[s->current].passed)) return;
        s->slots[s->current].pending = false;
        s->filled = 0;
        memcpy(host + p.row * x.cols + p.col, data, p.bytes);
    }
}

/* A place whose choices nobody has received may be sent to again: the copies follow each other. */
void cuda_send_choices(ace_device *dev, int place, ace_mat choices)
{
    cuda_backend *c = cuda_of(dev);
    cuda_slot *slot = &c->sends[place];
    if (!cuda_begin(dev)) return;
    int error = c->gpu->copy_out(c->compute, slot->data, choices.data, (size_t)choices.rows * 2 * sizeof(float));
    if (!error) error = c->gpu->event_record(slot->passed, c->compute);
    cuda_queued(dev, error, "while choices were copied from it");
}

void cuda_receive_choices(ace_device *dev, int place, float *host, int64_t rows)
{
    const cuda_slot *slot = &cuda_of(dev)->sends[place];
    if (cuda_wait(dev, slot->passed)) memcpy(host, slot->data, (size_t)rows * 2 * sizeof(float));
}
