/* The emulator's scheduler: which of a block's threads runs, and what they wait for.
 *
 * A fiber runs one thread after the other. Only where a thread must wait does it keep its fiber, and another takes
 * over; so a kernel in which nobody waits needs one fiber and no switch. Threads that can run stand in a queue; when it
 * is empty although some wait, they wait for something that will never come. */
#include "device/cuda/emulation/fiber.h"
#include "device/cuda/emulation/races.h"
#include "device/cuda/kernels/language.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <vector>

emulator_place emulator_here;

namespace
{

enum { MAX_THREADS = 1024, WARP = 32, MAX_WARPS = MAX_THREADS / WARP };

/* Kernels were compiled with -fsanitize=thread. */
#ifdef EMULATOR_RACES
const bool RACES = true;
#else
const bool RACES = false;
#endif

/* What threads do together. */
enum act { NOTHING, BARRIER, SYNC_WARP, SHUFFLE, LOAD_MATRIX, LOAD_TRANSPOSED, MMA_BF16, MMA_F16, MMA_S8 };

const char *const act_names[] = {"nothing",      "__syncthreads",      "__syncwarp",
                                 "gpu_shuffle",  "gpu_load_matrix_x4", "gpu_load_matrix_x4_transposed",
                                 "gpu_mma_bf16", "gpu_mma_f16",        "gpu_mma_s8"};

/* An operand of a collective; each uses what it needs. */
struct operands {
    void *d;
    const void *a, *b;
    uint32_t bits;
    int from;
};

struct copy {
    char *to;
    const char *from;
    bool wanted;
    int group;
};

struct lane {
    fiber *runs; /* NULL: has not begun */
    act waits;   /* for this, in this line */
    int line;
    bool done;
    operands with;
    uint32_t result;
    int group; /* of the copies to come */
    std::vector<copy> copies;
};

struct warp {
    int arrived;
    unsigned barriers;
    act at;
    int line;
};

struct shared_array {
    const void *place;
    char *data;
    size_t bytes;
    std::vector<race_byte> accesses; /* of each byte, where the build looks for races */
};

/* The launch that is running. */
struct state {
    const emulator_launch *launch;
    int capability;
    fiber *caller;
    lane lanes[MAX_THREADS];
    warp warps[MAX_WARPS];
    int threads, done, at_barrier, barrier_line;
    unsigned barriers;
    int current;
    /* of threads; a ring, in which each is at most once */
    int queue[MAX_THREADS], head, queued;
    std::vector<fiber *> idle, all;
    std::vector<shared_array> arrays; /* static; the first is the dynamic one */
    bool failed;
    char message[512];
    emulator_order order;
    uint64_t random;

    ~state()
    {
        for (fiber *f : all) fiber_free(f);
    }
};

state now;

/* ---- failing -------------------------------------------------------------------------------------------------- */

/* Stops the kernel. Returns only when no thread of it is running. */
__attribute__((format(printf, 1, 2))) void fail(const char *format, ...)
{
    int name = 0;
    for (int deep = 0; now.launch->call[name] && (deep || now.launch->call[name] != ','); name++)
        deep += (now.launch->call[name] == '<') - (now.launch->call[name] == '>');
    int used =
        snprintf(now.message, sizeof now.message, "kernel %.*s, block %u,%u,%u, thread %d: ", name, now.launch->call,
                 emulator_here.block.x, emulator_here.block.y, emulator_here.block.z, now.current);
    va_list list;
    va_start(list, format);
    vsnprintf(now.message + used, sizeof now.message - static_cast<size_t>(used), format, list);
    va_end(list);
    now.failed = true;
    if (now.current >= 0) fiber_switch(now.lanes[now.current].runs, now.caller);
}

/* ---- the queue -------------------------------------------------------------------------------------------------- */

void make_ready(int thread)
{
    now.queue[(now.head + now.queued++) % MAX_THREADS] = thread;
}

uint64_t random_bits()
{
    uint64_t z = now.random += 0x9e3779b97f4a7c15u; /* SplitMix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Puts numbers 0 .. count - 1 into the order that the test has asked for. */
void arrange(int64_t *numbers, int64_t count)
{
    for (int64_t i = 0; i < count; i++) numbers[i] = now.order == EMULATOR_REVERSE ? count - 1 - i : i;
    if (now.order != EMULATOR_SHUFFLED) return;
    for (int64_t i = count - 1; i > 0; i--) {
        int64_t j = static_cast<int64_t>(random_bits() % static_cast<uint64_t>(i + 1));
        int64_t swap = numbers[i];
        numbers[i] = numbers[j];
        numbers[j] = swap;
    }
}

void make_all_ready(int first, int count)
{
    int64_t numbers[MAX_THREADS];
    arrange(numbers, count);
    for (int i = 0; i < count; i++) make_ready(first + static_cast<int>(numbers[i]));
}

void fiber_main();

fiber *idle_fiber()
{
    if (now.idle.empty()) {
        now.all.push_back(fiber_new(fiber_main));
        return now.all.back();
    }
    fiber *f = now.idle.back();
    now.idle.pop_back();
    return f;
}

/* The next thread that can run is the running one from now on; -1 when there is none. */
int take_next()
{
    if (now.queued == 0) return now.current = -1;
    now.current = now.queue[now.head];
    now.head = (now.head + 1) % MAX_THREADS;
    now.queued--;
    emulator_here.thread.x = static_cast<unsigned>(now.current);
    return now.current;
}

/* `own` cannot go on: another does. Returns when `own` runs again. */
void give_way(fiber *own)
{
    int next = take_next();
    if (next < 0) {
        fiber_switch(own, now.caller);
        return;
    }
    lane *l = &now.lanes[next];
    if (!l->runs) l->runs = idle_fiber();
    if (l->runs != own) fiber_switch(own, l->runs);
}

void complete_copies(lane *l, int groups)
{
    size_t kept = 0;
    for (const copy &c : l->copies) {
        if (c.group >= groups) {
            l->copies[kept++] = c;
            continue;
        }
        if (RACES) emulator_accessed(c.to, 16, RACE_WRITE);
        if (c.wanted)
            memcpy(c.to, c.from, 16);
        else
            memset(c.to, 0, 16);
    }
    l->copies.resize(kept);
}

/* What every fiber does: threads, from begin to end. It is entered, and resumed, as the fiber of the thread that is to
 * begin. */
void fiber_main()
{
    fiber_entered();
    for (;;) {
        lane *l = &now.lanes[now.current];
        fiber *own = l->runs;
        now.launch->body(now.launch->kernel, now.launch->args);
        complete_copies(l, l->group + 1);
        l->runs = nullptr;
        l->done = true;
        now.done++;
        /* the next one, on this fiber if it has none */
        int next = take_next();
        if (next >= 0 && !now.lanes[next].runs) {
            now.lanes[next].runs = own;
            continue;
        }
        now.idle.push_back(own);
        fiber_switch(own, next < 0 ? now.caller : now.lanes[next].runs);
    }
}

/* ---- waiting ---------------------------------------------------------------------------------------------------- */

/* The running thread waits until it is made ready. */
void wait_for(act what, int line)
{
    lane *l = &now.lanes[now.current];
    l->waits = what;
    l->line = line;
    give_way(l->runs);
    l->waits = NOTHING;
}

void barrier(int line)
{
    if (now.at_barrier == 0) now.barrier_line = line;
    if (line != now.barrier_line)
        fail("waits at __syncthreads in line %d while others wait at that in line %d", line, now.barrier_line);
    if (++now.at_barrier == now.threads) {
        now.at_barrier = 0;
        now.barriers++;
        make_all_ready(0, now.threads);
    }
    wait_for(BARRIER, line);
}

void perform(act what, lane *lanes);

/* All lanes of the running thread's warp do this together. */
void together(act what, int line, const operands &with)
{
    int first = now.current / WARP * WARP;
    warp *w = &now.warps[now.current / WARP];
    if (first + WARP > now.threads) fail("%s in line %d in a warp of less than 32 threads", act_names[what], line);
    if (w->arrived == 0) w->at = what, w->line = line;
    if (what != w->at || line != w->line)
        fail("is at %s in line %d while others of its warp are at %s in line %d", act_names[what], line,
             act_names[w->at], w->line);
    now.lanes[now.current].with = with;
    if (++w->arrived == WARP) {
        w->arrived = 0;
        w->barriers += what == SYNC_WARP;
        perform(what, &now.lanes[first]);
        make_all_ready(first, WARP);
    }
    wait_for(what, line);
}

/* Nobody can run, and not all are done. */
void report_divergence()
{
    for (int i = 0; i < now.threads; i++)
        if (!now.lanes[i].done) {
            lane *l = &now.lanes[i];
            now.current = -1;
            fail("thread %d waits at %s in line %d for ever; %d of %d threads have ended, %d wait at __syncthreads", i,
                 act_names[l->waits], l->line, now.done, now.threads, now.at_barrier);
            return;
        }
}

/* ---- collectives ------------------------------------------------------------------------------------------------ */

/* r[i] of lane 4 j + t: of matrix i row j, values 2 t and 2 t + 1; transposed: rows 2 t and 2 t + 1, column j. */
void load_matrices(lane *lanes, bool transposed)
{
    uint16_t m[4][8][8];
    for (int i = 0; i < WARP; i++) memcpy(m[i / 8][i % 8], lanes[i].with.a, 16);
    for (int i = 0; i < WARP; i++) {
        uint32_t *r = static_cast<uint32_t *>(lanes[i].with.d);
        int j = i / 4, t = i % 4;
        for (int k = 0; k < 4; k++) {
            uint32_t low = transposed ? m[k][2 * t][j] : m[k][j][2 * t];
            uint32_t high = transposed ? m[k][2 * t + 1][j] : m[k][j][2 * t + 1];
            r[k] = high << 16 | low;
        }
    }
}

float one_nan(float v)
{
    return emulator_one_nan(v);
}

int32_t one_nan(int32_t v)
{
    return v;
}

/* d[16][8] += a[16][K] b[K][8], in ascending k; the columns of b side by side for the compiler's vectors. */
template <int K, typename T> void multiply(lane *lanes, const T (&a)[16][K], const T (&b)[K][8])
{
    for (int row = 0; row < 16; row++) {
        T sum[8];
        for (int col = 0; col < 8; col++)
            sum[col] = static_cast<const T *>(lanes[row % 8 * 4 + col / 2].with.d)[row / 8 * 2 + col % 2];
        for (int k = 0; k < K; k++)
            for (int col = 0; col < 8; col++) sum[col] += a[row][k] * b[k][col];
        for (int col = 0; col < 8; col++)
            static_cast<T *>(lanes[row % 8 * 4 + col / 2].with.d)[row / 8 * 2 + col % 2] = one_nan(sum[col]);
    }
}

float bf16_of(uint32_t pair, int half)
{
    return gpu_float_of(half ? pair & 0xffff0000u : pair << 16);
}

float half_of(uint32_t pair, int half)
{
    uint32_t bits = half ? pair >> 16 : pair, magnitude = (bits & 0x7fffu) << 13;
    float value = gpu_float_of(magnitude) * 0x1p112f; /* exact, of subnormal halves, too */
    bool finite = (bits & 0x7c00u) != 0x7c00u;
    return gpu_float_of((finite ? gpu_bits_of(value) : magnitude | 0x7f800000u) | (bits & 0x8000u) << 16);
}

/* m16n8k16, and m16n8k8 twice: register i of a holds row g + 8 (i % 2), columns 2 t + 8 (i / 2) and the next; of b rows
 * 2 t + 8 i and the next, column g. */
template <float VALUE(uint32_t, int)> void multiply_16(lane *lanes)
{
    const int K = 16;
    float a[16][K], b[K][8];
    for (int i = 0; i < WARP; i++) {
        const uint32_t *from_a = static_cast<const uint32_t *>(lanes[i].with.a);
        const uint32_t *from_b = static_cast<const uint32_t *>(lanes[i].with.b);
        int g = i / 4, t = i % 4;
        for (int r = 0; r < K / 4; r++)
            for (int half = 0; half < 2; half++)
                a[g + 8 * (r % 2)][2 * t + 8 * (r / 2) + half] = VALUE(from_a[r], half);
        for (int r = 0; r < K / 8; r++)
            for (int half = 0; half < 2; half++) b[2 * t + 8 * r + half][g] = VALUE(from_b[r], half);
    }
    multiply<K, float>(lanes, a, b);
}

/* m16n8k32 */
void multiply_s8(lane *lanes)
{
    int32_t a[16][32], b[32][8];
    for (int i = 0; i < WARP; i++) {
        const uint32_t *from_a = static_cast<const uint32_t *>(lanes[i].with.a);
        const uint32_t *from_b = static_cast<const uint32_t *>(lanes[i].with.b);
        int g = i / 4, t = i % 4;
        for (int byte = 0; byte < 4; byte++) {
            for (int r = 0; r < 4; r++)
                a[g + 8 * (r % 2)][4 * t + 16 * (r / 2) + byte] = static_cast<int8_t>(from_a[r] >> 8 * byte);
            for (int r = 0; r < 2; r++) b[4 * t + 16 * r + byte][g] = static_cast<int8_t>(from_b[r] >> 8 * byte);
        }
    }
    multiply<32, int32_t>(lanes, a, b);
}

void shuffle(lane *lanes)
{
    for (int i = 0; i < WARP; i++) lanes[i].result = lanes[lanes[i].with.from].with.bits;
}

void perform(act what, lane *lanes)
{
    switch (what) {
    case SHUFFLE:
        shuffle(lanes);
        break;
    case LOAD_MATRIX:
    case LOAD_TRANSPOSED:
        load_matrices(lanes, what == LOAD_TRANSPOSED);
        break;
    case MMA_BF16:
        multiply_16<bf16_of>(lanes);
        break;
    case MMA_F16:
        multiply_16<half_of>(lanes);
        break;
    case MMA_S8:
        multiply_s8(lanes);
        break;
    case NOTHING:
    case BARRIER:
    case SYNC_WARP:
        break;
    }
}

/* ---- shared memory ------------------------------------------------------------------------------------------------
 */

bool is_shared(const void *address)
{
    const char *p = static_cast<const char *>(address);
    for (const shared_array &s : now.arrays)
        if (p >= s.data && p + 16 <= s.data + s.bytes) return true;
    return false;
}

void check_shared(const char *what, const void *address)
{
    if (reinterpret_cast<uintptr_t>(address) % 16 != 0) fail("%s at an address that is not divisible by 16", what);
    if (!is_shared(address)) fail("%s outside the block's shared memory", what);
}

/* The array in which an address is. */
shared_array *array_of(const void *address)
{
    const char *p = static_cast<const char *>(address);
    for (shared_array &s : now.arrays)
        if (p >= s.data && p < s.data + s.bytes) return &s;
    return nullptr;
}

void drop_arrays()
{
    for (const shared_array &s : now.arrays) free(s.data);
    now.arrays.clear();
}

char *add_array(const void *place, size_t bytes, size_t alignment)
{
    void *data = nullptr;
    if (posix_memalign(&data, alignment < 16 ? 16 : alignment, bytes) != 0) abort();
    memset(data, 0xff, bytes);
    now.arrays.push_back({place, static_cast<char *>(data), bytes, std::vector<race_byte>(RACES ? bytes : 0)});
    return static_cast<char *>(data);
}

/* ---- blocks -------------------------------------------------------------------------------------------------------
 */

void run_block()
{
    now.done = now.at_barrier = now.head = now.queued = 0;
    now.barriers++; /* blocks share nothing */
    for (warp &w : now.warps) w.arrived = 0;
    for (int i = 0; i < now.threads; i++) {
        lane *l = &now.lanes[i];
        l->runs = nullptr;
        l->waits = NOTHING;
        l->done = false;
        l->group = 0;
        l->copies.clear();
    }
    for (const shared_array &s : now.arrays) memset(s.data, 0xff, s.bytes);
    make_all_ready(0, now.threads);
    int first = take_next();
    now.lanes[first].runs = idle_fiber();
    fiber_switch(now.caller, now.lanes[first].runs);
    if (!now.failed && now.done < now.threads) report_divergence();
}

} // namespace

/* ---- what kernels call ----------------------------------------------------------------------------------------------
 */

void *emulator_dynamic_shared()
{
    return now.arrays[0].data;
}

void *emulator_static_shared(const void *place, size_t bytes, size_t alignment)
{
    size_t total = bytes;
    for (size_t i = 1; i < now.arrays.size(); i++) {
        if (now.arrays[i].place == place) return now.arrays[i].data;
        total += now.arrays[i].bytes;
    }
    if (total > EMULATOR_STATIC_SHARED || total + now.launch->shared_bytes > emulator_shared_limit(now.capability))
        fail("%zu bytes of static and %zu of dynamic shared memory are too much", total, now.launch->shared_bytes);
    return add_array(place, bytes, alignment);
}

void __syncthreads(int line)
{
    barrier(line);
}

void __syncwarp(int line)
{
    together(SYNC_WARP, line, {});
}

uint32_t emulator_shuffle(uint32_t bits, int from_lane, bool exclusive_or, int line)
{
    operands with = {};
    with.bits = bits;
    with.from = (exclusive_or ? now.current ^ from_lane : from_lane) % WARP;
    if (from_lane < 0 || from_lane >= WARP) fail("gpu_shuffle in line %d from lane %d", line, from_lane);
    int self = now.current;
    together(SHUFFLE, line, with);
    return now.lanes[self].result;
}

void gpu_copy16_async(void *shared, const void *global, bool wanted)
{
    lane *l = &now.lanes[now.current];
    check_shared("gpu_copy16_async", shared);
    if (wanted && reinterpret_cast<uintptr_t>(global) % 16 != 0)
        fail("gpu_copy16_async from an address that is not divisible by 16");
    copy c = {static_cast<char *>(shared), static_cast<const char *>(global), wanted, l->group};
    l->copies.push_back(c);
    if (RACES) emulator_accessed(shared, 16, RACE_WRITE);
    memset(shared, 0xff, 16);
    if (now.capability < 80) complete_copies(l, l->group + 1);
}

/* The address of an atomic operation. */
template <typename T> static T *atomic(T *to)
{
    if (reinterpret_cast<uintptr_t>(to) % sizeof *to) fail("an atomic operation on an address that is not aligned");
    if (RACES) emulator_accessed(to, sizeof *to, RACE_ATOMIC);
    return to;
}

void gpu_atomic_add(uint32_t *to, uint32_t value)
{
    *atomic(to) += value;
}

void gpu_atomic_add(uint64_t *to, uint64_t value)
{
    *atomic(to) += value;
}

void gpu_atomic_max(uint32_t *to, uint32_t value)
{
    uint32_t *at = atomic(to);
    if (value > *at) *at = value;
}

void gpu_atomic_min(uint32_t *to, uint32_t value)
{
    uint32_t *at = atomic(to);
    if (value < *at) *at = value;
}

void gpu_copy_commit()
{
    now.lanes[now.current].group++;
}

void emulator_copy_wait(int pending)
{
    lane *l = &now.lanes[now.current];
    complete_copies(l, l->group - pending);
}

static void load(act what, uint32_t r[4], const void *shared_row, int line)
{
    check_shared(act_names[what], shared_row);
    if (RACES) emulator_accessed(shared_row, 16, RACE_READ);
    operands with = {};
    with.d = r;
    with.a = shared_row;
    together(what, line, with);
}

void gpu_load_matrix_x4(uint32_t r[4], const void *shared_row, int line)
{
    load(LOAD_MATRIX, r, shared_row, line);
}

void gpu_load_matrix_x4_transposed(uint32_t r[4], const void *shared_row, int line)
{
    load(LOAD_TRANSPOSED, r, shared_row, line);
}

static void mma(act what, int least, void *d, const void *a, const void *b, int line)
{
    if (now.capability < least)
        fail("%s in line %d needs capability %d.%d, and this GPU has %d.%d", act_names[what], line, least / 10,
             least % 10, now.capability / 10, now.capability % 10);
    operands with = {};
    with.d = d;
    with.a = a;
    with.b = b;
    together(what, line, with);
}

void gpu_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2], int line)
{
    mma(MMA_BF16, 80, d, a, b, line);
}

void gpu_mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2], int line)
{
    mma(MMA_F16, 75, d, a, b, line);
}

void gpu_mma_s8(int32_t d[4], const uint32_t a[4], const uint32_t b[2], int line)
{
    mma(MMA_S8, 75, d, a, b, line);
}

float gpu_half_to_float(uint16_t bits)
{
    uint32_t sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31u, fraction = bits & 1023u;
    if (exponent == 31) return gpu_float_of(sign | 0x7f800000u | fraction << 13);
    if (exponent) return gpu_float_of(sign | (exponent + 112) << 23 | fraction << 13);
    float value = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -value : value;
}

uint16_t gpu_float_to_half(float value)
{
    uint32_t bits = gpu_bits_of(value), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) return 0x7fff; /* as the hardware has it */
    if (size >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);
    if (size < 0x38800000u) { /* subnormal: units of 2^-24; the sum rounds to them, ties to even */
        float units = gpu_float_of(size) * 0x1p24f + 0x1p23f;
        return static_cast<uint16_t>(sign | (gpu_bits_of(units) & 0xfffu));
    }
    size += 0xfffu + (size >> 13 & 1u);
    return static_cast<uint16_t>(sign | (size - 0x38000000u) >> 13);
}

/* Races are looked for in shared memory only. */
void emulator_accessed(const void *address, size_t bytes, race_kind kind)
{
    static const char *const does[] = {"reads", "writes", "changes"};
    shared_array *s = now.current < 0 ? nullptr : array_of(address);
    if (!s || s->accesses.empty()) return;
    size_t at = static_cast<size_t>(static_cast<const char *>(address) - s->data);
    unsigned warp_barriers = now.warps[now.current / WARP].barriers;
    for (size_t i = at; i < at + bytes && i < s->bytes; i++) {
        int other = races_note(&s->accesses[i], now.current, now.barriers, warp_barriers, kind);
        if (other >= 0)
            fail("%s byte %zu of shared memory that thread %d uses with no barrier between them", does[kind], i, other);
    }
}

/* ---- running --------------------------------------------------------------------------------------------------------
 */

void emulator_set_order(emulator_order order, uint64_t seed)
{
    now.order = order;
    now.random = seed;
}

size_t emulator_shared_limit(int capability)
{
    switch (capability) {
    case 75:
        return 64 << 10;
    case 80:
    case 87:
        return 163 << 10;
    case 90:
    case 100:
        return 227 << 10;
    default:
        return 99 << 10; /* 8.6, 8.9, 12.0 */
    }
}

static void run_all_blocks(const dim3 grid)
{
    int64_t count = static_cast<int64_t>(grid.x) * grid.y * grid.z;
    std::vector<int64_t> order(static_cast<size_t>(count));
    arrange(order.data(), count);
    for (int64_t i = 0; i < count && !now.failed; i++) {
        unsigned index = static_cast<unsigned>(order[static_cast<size_t>(i)]);
        emulator_here.block = {index % grid.x, index / grid.x % grid.y, index / grid.x / grid.y};
        run_block();
    }
}

bool emulator_run(const emulator_launch *launch, int capability, char *message, size_t message_bytes)
{
    now.launch = launch;
    now.capability = capability;
    now.failed = false;
    now.current = -1;
    now.threads = launch->threads;
    emulator_here = {{0, 0, 0}, {0, 0, 0}, dim3(static_cast<unsigned>(launch->threads)), launch->grid};
    const dim3 grid = launch->grid;
    if (launch->threads < 1 || launch->threads > MAX_THREADS || !grid.x || !grid.y || !grid.z || grid.y > 65535 ||
        grid.z > 65535 || grid.x > INT32_MAX)
        fail("a grid of %u x %u x %u blocks of %d threads", grid.x, grid.y, grid.z, launch->threads);
    else if (launch->shared_bytes > emulator_shared_limit(capability))
        fail("%zu bytes of shared memory, and this GPU has %zu", launch->shared_bytes,
             emulator_shared_limit(capability));
    if (!now.failed) {
        now.caller = fiber_of_thread();
        add_array(nullptr, launch->shared_bytes, 16);
        run_all_blocks(grid);
        drop_arrays();
    }
    if (!now.failed) return true;
    /* fibers that were left in the middle of a thread begin anew */
    now.idle = now.all;
    for (fiber *f : now.all) fiber_restart(f);
    snprintf(message, message_bytes, "%s", now.message);
    return false;
}
