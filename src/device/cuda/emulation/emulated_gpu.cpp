/* The functions of gpu.h over host memory.
 *
 * A stream is a list of work in order. Normally work is done when it is queued. A test may ask for delay: then it is
 * done when something waits for it, and only as much as that needs, so that work of other streams, and copies into
 * memory that the host reads too early, come late, as they may on a GPU.
 *
 * One lock holds everything: the emulator runs one kernel at a time. */
#include "device/cuda/emulation/emulated_gpu.h"

#include "device/cuda/kernels/language.h"
#include "device/cuda/kernels/table.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <sys/mman.h>
#include <vector>

struct work;

struct gpu_context {
    gpu_properties properties;
    std::vector<gpu_stream *> streams;
};

struct gpu_stream {
    gpu_context *context;
    std::deque<work> queue;
    std::vector<work> *recording; /* NULL: not between graph_begin and graph_end */
};

/* Records are counted: a wait is for the one that was the last when it was queued. */
struct gpu_event {
    gpu_context *context;
    gpu_stream *stream; /* of the last record */
    uint64_t queued, passed;
};

namespace
{

enum kind { KERNEL, COPY, ZERO, RECORD, WAIT, GRAPH };

} // namespace

struct work {
    kind what;
    /* KERNEL */
    emulator_launch launch;
    std::shared_ptr<std::vector<char>> args;
    /* COPY, ZERO; `kept` is what was copied when the call was made */
    void *to;
    const void *from;
    size_t bytes;
    std::shared_ptr<std::vector<char>> kept;
    /* RECORD, WAIT */
    gpu_event *event;
    uint64_t number;
    /* GRAPH */
    std::shared_ptr<std::vector<work>> graph;
};

namespace
{

/* A graph takes memory of the device, too. */
constexpr size_t graph_bytes_of_kernel = 16 << 10;

struct gpu_graph {
    std::shared_ptr<std::vector<work>> list;
    size_t bytes;
};

struct reservation {
    size_t bytes;
    std::vector<bool> pages; /* committed */
};

struct state {
    std::recursive_mutex lock;
    gpu_emulated_settings settings = gpu_emulated_defaults();
    gpu_emulated_counts counts = {};
    size_t page_bytes = 0; /* of the contexts that are open */
    std::map<char *, reservation> reservations;
    std::map<char *, size_t> host_memory;
    long calls = 0, fail_at = 0;
    int fail_with = 0;
    bool broken = false; /* a kernel failed */
    char message[600] = "";
};

state &emulated()
{
    static state only;
    return only;
}

/* Holds the lock, counts the call, and says whether it may go on: after a failed kernel only what gives back may. */
struct call {
    std::lock_guard<std::recursive_mutex> hold;
    int error;

    explicit call(bool gives_back = false) : hold(emulated().lock), error(0)
    {
        state &s = emulated();
        if (++s.calls == s.fail_at) error = s.fail_with;
        if (s.broken && !gives_back) error = GPU_EMULATED_KERNEL;
    }
};

int misuse(const char *what)
{
    snprintf(emulated().message, sizeof emulated().message, "%s", what);
    return GPU_EMULATED_MISUSE;
}

/* ---- doing the work --------------------------------------------------------------------------------------------- */

int drain(gpu_stream *s, size_t keep);

int run_kernel(const gpu_stream *stream, const work &w)
{
    state &s = emulated();
    const int *capability = stream->context->properties.capability;
    emulator_launch launch = w.launch;
    launch.args = w.args->data();
    s.counts.launches++;
    if (emulator_run(&launch, capability[0] * 10 + capability[1], s.message, sizeof s.message)) return 0;
    s.broken = true;
    return GPU_EMULATED_KERNEL;
}

/* Work of other streams that comes before the event is done first. */
int pass_event(gpu_event *event, uint64_t number)
{
    while (event->passed < number) {
        gpu_stream *s = event->stream;
        if (!s || s->queue.empty()) return misuse("waited for an event whose stream is gone");
        int error = drain(s, s->queue.size() - 1);
        if (error) return error;
    }
    return 0;
}

int perform(gpu_stream *s, const work &w)
{
    switch (w.what) {
    case KERNEL:
        return run_kernel(s, w);
    case COPY:
        memcpy(w.to, w.kept ? w.kept->data() : w.from, w.bytes);
        return 0;
    case ZERO:
        memset(w.to, 0, w.bytes);
        return 0;
    case RECORD:
        w.event->passed = w.number;
        return 0;
    case WAIT:
        return pass_event(w.event, w.number);
    case GRAPH:
        for (const work &part : *w.graph) {
            int error = perform(s, part);
            if (error) return error;
        }
        return 0;
    }
    return 0;
}

/* Does what stands first until `keep` are left. */
int drain(gpu_stream *s, size_t keep)
{
    while (s->queue.size() > keep) {
        work first = s->queue.front();
        s->queue.pop_front();
        int error = perform(s, first);
        if (error) return error;
    }
    return 0;
}

int enqueue(gpu_stream *s, const work &w)
{
    if (s->recording) {
        if (w.what == RECORD || w.what == WAIT || w.what == GRAPH)
            return misuse("events and graphs cannot be kept in a graph");
        s->recording->push_back(w);
        return 0;
    }
    if (w.what != RECORD && w.what != WAIT) emulated().counts.commands++;
    s->queue.push_back(w);
    return emulated().settings.delayed ? 0 : drain(s, 0);
}

int drain_all(const gpu_context *c)
{
    for (gpu_stream *s : c->streams) {
        int error = drain(s, 0);
        if (error) return error;
    }
    return 0;
}

/* ---- devices ------------------------------------------------------------------------------------------------------
 */

const char *message(int error)
{
    state &s = emulated();
    std::lock_guard<std::recursive_mutex> hold(s.lock);
    switch (error) {
    case 0:
        return "no error";
    case GPU_EMULATED_NO_MEMORY:
        return "out of memory (emulated)";
    case GPU_EMULATED_MISUSE:
    case GPU_EMULATED_KERNEL:
        return s.message;
    case GPU_EMULATED_INJECTED:
        return "a failure that a test asked for";
    case GPU_EMULATED_NO_DEVICE:
        return "no such device (emulated)";
    default:
        return "unknown error (emulated)";
    }
}

int count(int *devices)
{
    call made;
    if (!made.error) *devices = emulated().settings.devices;
    return made.error;
}

int open(int device, gpu_context **context, gpu_properties *properties)
{
    call made;
    if (made.error) return made.error;
    const gpu_emulated_settings &set = emulated().settings;
    if (device < 0 || device >= set.devices) return GPU_EMULATED_NO_DEVICE;
    gpu_properties p = {};
    snprintf(p.name, sizeof p.name, "emulated GPU");
    snprintf(p.driver, sizeof p.driver, "none");
    p.capability[0] = set.capability[0];
    p.capability[1] = set.capability[1];
    p.multiprocessors = 4;
    p.shared_bytes = emulator_shared_limit(set.capability[0] * 10 + set.capability[1]);
    p.cache_bytes = 4 << 20;
    p.page_bytes = set.page_bytes;
    p.context_bytes = set.context_bytes;
    emulator_set_order(static_cast<emulator_order>(set.order), set.seed);
    emulated().page_bytes = set.page_bytes;
    *context = new gpu_context{p, {}};
    *properties = p;
    emulated().counts.contexts++;
    return 0;
}

void close(gpu_context *context)
{
    std::lock_guard<std::recursive_mutex> hold(emulated().lock);
    delete context;
    if (--emulated().counts.contexts == 0) emulated().broken = false;
}

/* ---- memory -------------------------------------------------------------------------------------------------------
 */

int reserve(gpu_context *c, size_t bytes, void **address)
{
    call made;
    if (made.error) return made.error;
    size_t page = c->properties.page_bytes;
    if (!bytes || bytes % page != 0) return misuse("reserve: not a multiple of the page");
    void *p = mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return GPU_EMULATED_NO_MEMORY;
    emulated().reservations[static_cast<char *>(p)] = {bytes, std::vector<bool>(bytes / page)};
    emulated().counts.reserved += bytes;
    *address = p;
    return 0;
}

int unreserve(gpu_context *, void *address, size_t bytes)
{
    call made(true);
    if (made.error) return made.error;
    auto at = emulated().reservations.find(static_cast<char *>(address));
    if (at == emulated().reservations.end() || at->second.bytes != bytes)
        return misuse("unreserve: not what reserve() gave");
    for (bool page : at->second.pages)
        if (page) return misuse("unreserve: memory is still committed");
    munmap(address, bytes);
    emulated().reservations.erase(at);
    emulated().counts.reserved -= bytes;
    return 0;
}

/* The pages [first, end) of a reservation that hold these bytes; NULL when they are no whole pages of one. */
reservation *pages_of(const gpu_context *c, void *address, size_t bytes, size_t *first, size_t *end)
{
    auto at = emulated().reservations.upper_bound(static_cast<char *>(address));
    if (at == emulated().reservations.begin()) return nullptr;
    --at;
    size_t offset = static_cast<size_t>(static_cast<char *>(address) - at->first), page = c->properties.page_bytes;
    if (offset % page != 0 || bytes % page != 0 || offset > at->second.bytes || bytes > at->second.bytes - offset)
        return nullptr;
    *first = offset / page;
    *end = (offset + bytes) / page;
    return &at->second;
}

/* Takes so much of the memory, or does not. */
bool take_memory(size_t bytes)
{
    state &s = emulated();
    size_t gone = s.settings.context_bytes + s.counts.committed;
    if (gone > s.settings.total_bytes || bytes > s.settings.total_bytes - gone) return false;
    s.counts.committed += bytes;
    if (s.counts.committed > s.counts.committed_peak) s.counts.committed_peak = s.counts.committed;
    return true;
}

int commit(gpu_context *c, void *address, size_t bytes)
{
    call made;
    if (made.error) return made.error;
    size_t first, end;
    reservation *r = pages_of(c, address, bytes, &first, &end);
    if (!r) return misuse("commit: not whole pages of a reservation");
    for (size_t i = first; i < end; i++)
        if (r->pages[i]) return misuse("commit: committed already");
    if (!take_memory(bytes)) return GPU_EMULATED_NO_MEMORY;
    if (mprotect(address, bytes, PROT_READ | PROT_WRITE) != 0) {
        emulated().counts.committed -= bytes;
        return GPU_EMULATED_NO_MEMORY;
    }
    memset(address, 0xff, bytes); /* NaN */
    for (size_t i = first; i < end; i++) r->pages[i] = true;
    return 0;
}

int decommit(gpu_context *c, void *address, size_t bytes)
{
    call made(true);
    if (made.error) return made.error;
    int error = emulated().broken ? 0 : drain_all(c);
    if (error) return error;
    size_t first, end;
    reservation *r = pages_of(c, address, bytes, &first, &end);
    if (!r) return misuse("decommit: not whole pages of a reservation");
    for (size_t i = first; i < end; i++)
        if (!r->pages[i]) return misuse("decommit: was not committed");
    madvise(address, bytes, MADV_DONTNEED);
    mprotect(address, bytes, PROT_NONE);
    for (size_t i = first; i < end; i++) r->pages[i] = false;
    emulated().counts.committed -= bytes;
    return 0;
}

int memory(gpu_context *, size_t *free, size_t *total)
{
    call made;
    if (made.error) return made.error;
    const state &s = emulated();
    size_t gone = s.settings.context_bytes + s.counts.committed;
    *total = s.settings.total_bytes;
    *free = gone < *total ? *total - gone : 0;
    return 0;
}

int host_alloc(gpu_context *, size_t bytes, void **address)
{
    call made;
    if (made.error) return made.error;
    void *p = malloc(bytes ? bytes : 1);
    if (!p) return GPU_EMULATED_NO_MEMORY;
    emulated().host_memory[static_cast<char *>(p)] = bytes;
    emulated().counts.host_bytes += bytes;
    *address = p;
    return 0;
}

void host_free(gpu_context *c, void *address)
{
    std::lock_guard<std::recursive_mutex> hold(emulated().lock);
    auto at = emulated().host_memory.find(static_cast<char *>(address));
    if (at == emulated().host_memory.end()) return;
    if (!emulated().broken) drain_all(c); /* as the runtime does */
    emulated().counts.host_bytes -= at->second;
    emulated().host_memory.erase(at);
    ::free(address);
}

/* ---- streams and events -------------------------------------------------------------------------------------------
 */

int stream_open(gpu_context *c, gpu_stream **stream)
{
    call made;
    if (made.error) return made.error;
    *stream = new gpu_stream{c, {}, nullptr};
    c->streams.push_back(*stream);
    emulated().counts.streams++;
    return 0;
}

void stream_close(gpu_stream *stream)
{
    std::lock_guard<std::recursive_mutex> hold(emulated().lock);
    if (!emulated().broken) drain(stream, 0);
    std::vector<gpu_stream *> &all = stream->context->streams;
    for (size_t i = 0; i < all.size(); i++)
        if (all[i] == stream) {
            all.erase(all.begin() + static_cast<std::ptrdiff_t>(i));
            break;
        }
    delete stream->recording;
    delete stream;
    emulated().counts.streams--;
}

int stream_wait(gpu_stream *stream)
{
    call made;
    if (made.error) return made.error;
    if (stream->recording) return misuse("stream_wait: the stream is recording a graph");
    return drain(stream, 0);
}

int event_open(gpu_context *c, gpu_event **event)
{
    call made;
    if (made.error) return made.error;
    *event = new gpu_event{c, nullptr, 0, 0};
    emulated().counts.events++;
    return 0;
}

void event_close(gpu_event *event)
{
    std::lock_guard<std::recursive_mutex> hold(emulated().lock);
    if (!emulated().broken) drain_all(event->context);
    delete event;
    emulated().counts.events--;
}

work event_work(kind what, gpu_event *event)
{
    work w = {};
    w.what = what;
    w.event = event;
    w.number = event->queued;
    return w;
}

int event_record(gpu_event *event, gpu_stream *stream)
{
    call made;
    if (made.error) return made.error;
    /* an older record in another stream can no longer be waited for: it has to pass before this one */
    if (event->stream && event->stream != stream) {
        int error = pass_event(event, event->queued);
        if (error) return error;
    }
    event->stream = stream;
    event->queued++;
    return enqueue(stream, event_work(RECORD, event));
}

int event_wait(gpu_event *event)
{
    call made;
    return made.error ? made.error : pass_event(event, event->queued);
}

int stream_wait_event(gpu_stream *stream, gpu_event *event)
{
    call made;
    return made.error ? made.error : enqueue(stream, event_work(WAIT, event));
}

int event_passed(gpu_event *event)
{
    call made;
    if (made.error) return -1;
    /* who asks often enough is told that it has passed: each question does one piece of the work */
    if (event->passed < event->queued && event->stream && !event->stream->queue.empty() &&
        drain(event->stream, event->stream->queue.size() - 1) != 0)
        return -1;
    return event->passed >= event->queued;
}

bool is_host_memory(const void *p)
{
    const char *at = static_cast<const char *>(p);
    for (const auto &block : emulated().host_memory)
        if (at >= block.first && at < block.first + block.second) return true;
    return false;
}

int copy_in(gpu_stream *s, void *device, const void *host, size_t bytes)
{
    call made;
    if (made.error) return made.error;
    work w = {};
    w.what = COPY;
    w.to = device;
    w.from = host;
    w.bytes = bytes;
    if (!is_host_memory(host)) {
        const char *first = static_cast<const char *>(host);
        w.kept = std::make_shared<std::vector<char>>(first, first + bytes);
    }
    return enqueue(s, w);
}

int copy_out(gpu_stream *s, void *host, const void *device, size_t bytes)
{
    call made;
    if (made.error) return made.error;
    work w = {};
    w.what = COPY;
    w.to = host;
    w.from = device;
    w.bytes = bytes;
    return enqueue(s, w);
}

int zero(gpu_stream *s, void *device, size_t bytes)
{
    call made;
    if (made.error) return made.error;
    work w = {};
    w.what = ZERO;
    w.to = device;
    w.bytes = bytes;
    return enqueue(s, w);
}

/* ---- graphs -------------------------------------------------------------------------------------------------------
 */

int graph_begin(gpu_stream *s)
{
    call made;
    if (made.error) return made.error;
    if (s->recording) return misuse("graph_begin: the stream is recording already");
    s->recording = new std::vector<work>;
    return 0;
}

/* As in the runtime, recording is over in every case. */
int graph_end(gpu_stream *s, void **graph)
{
    call made;
    *graph = nullptr;
    std::unique_ptr<std::vector<work>> list(s->recording);
    s->recording = nullptr;
    if (made.error) return made.error;
    if (!list) return misuse("graph_end: the stream is not recording");
    size_t bytes = list->size() * graph_bytes_of_kernel;
    if (!take_memory(bytes)) return GPU_EMULATED_NO_MEMORY;
    *graph = new gpu_graph{std::make_shared<std::vector<work>>(*list), bytes};
    emulated().counts.graphs++;
    return 0;
}

int graph_launch(gpu_stream *s, void *graph)
{
    call made;
    if (made.error) return made.error;
    work w = {};
    w.what = GRAPH;
    w.graph = static_cast<gpu_graph *>(graph)->list;
    emulated().counts.graph_launches++;
    return enqueue(s, w);
}

void graph_free(gpu_context *, void *graph)
{
    std::lock_guard<std::recursive_mutex> hold(emulated().lock);
    if (!graph) return;
    emulated().counts.committed -= static_cast<gpu_graph *>(graph)->bytes;
    delete static_cast<gpu_graph *>(graph);
    emulated().counts.graphs--;
}

gpu all_functions()
{
    gpu g = {};
    g.abi = GPU_ABI;
    g.message = message;
    g.count = count;
    g.open = open;
    g.close = close;
    g.reserve = reserve;
    g.unreserve = unreserve;
    g.commit = commit;
    g.decommit = decommit;
    g.memory = memory;
    g.host_alloc = host_alloc;
    g.host_free = host_free;
    g.stream_open = stream_open;
    g.stream_close = stream_close;
    g.stream_wait = stream_wait;
    g.event_open = event_open;
    g.event_close = event_close;
    g.event_record = event_record;
    g.event_wait = event_wait;
    g.stream_wait_event = stream_wait_event;
    g.event_passed = event_passed;
    g.copy_in = copy_in;
    g.copy_out = copy_out;
    g.zero = zero;
    g.graph_begin = graph_begin;
    g.graph_end = graph_end;
    g.graph_launch = graph_launch;
    g.graph_free = graph_free;
    g.product_room = gpu_kernel_product_room;
    g.product = gpu_kernel_product;
    g.attention_room = gpu_kernel_attention_room;
    g.attention = gpu_kernel_attention;
    g.rms_norm = gpu_kernel_rms_norm;
    g.head_norm_rope = gpu_kernel_head_norm_rope;
    g.snake = gpu_kernel_snake;
    g.embed = gpu_kernel_embed;
    g.logits = gpu_kernel_logits;
    g.sample = gpu_kernel_sample;
    g.embed_choices = gpu_kernel_embed_choices;
    g.copy = gpu_kernel_copy;
    g.append = gpu_kernel_append;
    g.add = gpu_kernel_add;
    g.silu = gpu_kernel_silu;
    return g;
}

} // namespace

/* ---- what kernels and tests see
 * --------------------------------------------------------------------------------------- */

int emulated_gpu_queue(gpu_stream *stream, const emulator_launch *launch)
{
    call made;
    if (made.error) return made.error;
    const char *args = static_cast<const char *>(launch->args);
    work w = {};
    w.what = KERNEL;
    w.launch = *launch;
    w.args = std::make_shared<std::vector<char>>(args, args + launch->args_bytes);
    return enqueue(stream, w);
}

const gpu_properties *gpu_stream_properties(const gpu_stream *stream)
{
    return &stream->context->properties;
}

const gpu *gpu_emulated(void)
{
    static const gpu functions = all_functions();
    return &functions;
}

gpu_emulated_settings gpu_emulated_defaults(void)
{
    gpu_emulated_settings s = {};
    s.devices = 1;
    s.capability[0] = 9;
    s.total_bytes = static_cast<size_t>(24) << 30;
    s.context_bytes = static_cast<size_t>(300) << 20;
    s.page_bytes = 2 << 20;
    return s;
}

void gpu_emulated_set(const gpu_emulated_settings *settings)
{
    std::lock_guard<std::recursive_mutex> hold(emulated().lock);
    emulated().settings = *settings;
    emulator_set_order(static_cast<emulator_order>(settings->order), settings->seed);
}

long gpu_emulated_fail_at(long n, int error)
{
    std::lock_guard<std::recursive_mutex> hold(emulated().lock);
    state &s = emulated();
    long calls = s.calls;
    s.calls = 0;
    s.fail_at = n;
    s.fail_with = error;
    return calls;
}

gpu_emulated_counts gpu_emulated_count(void)
{
    std::lock_guard<std::recursive_mutex> hold(emulated().lock);
    return emulated().counts;
}

void gpu_emulated_reset_peak(void)
{
    std::lock_guard<std::recursive_mutex> hold(emulated().lock);
    emulated().counts.committed_peak = emulated().counts.committed;
}
