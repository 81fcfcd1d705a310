/* Choosing a column of each row of logits: guidance, temperature, top-k, top-p and the draw (device.h, ace_sample;
 * lm.md 5.1 and 5.7).
 *
 * Nothing is sorted and no candidate is stored: each pass computes guided values and weights again from the logits.
 *
 *   best      the largest value of each chunk of a row, which the weights exp((value - largest) / temperature) need
 *   count     what each digit has: a value's bits, made to ascend with it, are a key of four digits of 8 bits. The cut
 *             of top-k and that of top-p are found digit by digit, from the highest digit on: the first at which the
 *             number (the weight) of what is not behind it reaches k (p of all). A pass for each digit.
 *   sum       the weight that is left in each chunk
 *   draw      the chunk, then the column, in which the sum of the weights exceeds `uniform` of all
 *
 * A weight is a whole number, of 2^-62: sums of such numbers do not depend on the order in which blocks and threads
 * come, atomic additions included. What is lost, less than 2^-62 a candidate, is below 2^-43 of the sum. Three sums of
 * digits of 21 bits make a sum of weights; those of a chunk fit 32 bits. Between digits and chunks sums are continued
 * in double, in one order. */
#include "device/cuda/kernels/language.h"
#include "device/cuda/kernels/table.h"

namespace
{

enum {
    THREADS = 256,
    DIGITS = 256, /* of a key: one for each thread */
    LEVELS = 4,   /* digits of a key */
    PARTS = 3,    /* of a weight */
    PART_BITS = 21,
    CHUNK = 1024, /* columns of a block, and of longer rows a multiple of it */
    MOST_CHUNKS = 256,
    UNIT_BITS = 62 /* a weight is a multiple of 2^-62 */
};

/* The two cuts. */
enum { BY_COUNT, BY_WEIGHT, CUTS };

const uint32_t NOT_FINITE = 0xffffffffu; /* no finite value has this key */

/* What is known of a cut: the digits that were found, and what is before all keys that begin with them. */
struct key_cut {
    double target, before;
    uint32_t digits;
};

/* The largest value of a chunk, its first column, and how many columns have it. */
struct chunk_best {
    uint32_t key, column, equals;
};

/* Of one row, in device memory. */
struct row_work {
    uint64_t bins[CUTS][LEVELS][PARTS][DIGITS];
    key_cut cuts[CUTS][LEVELS];
    chunk_best best[MOST_CHUNKS];
    double mass[MOST_CHUNKS];   /* of what is ahead of the cut */
    uint32_t ties[MOST_CHUNKS]; /* columns whose value is that of the cut */
};

static_assert(sizeof(row_work) <= GPU_SAMPLE_ROOM, "what the room of a row was said to be");
static_assert((int64_t)MOST_CHUNKS * 2 * CHUNK == GPU_SAMPLE_COLUMNS, "sums of the parts of a chunk fit 32 bits");

struct sample_args {
    gpu_sampling s;
    int chunk, chunks;
    int cut, level; /* of a pass that counts */
};

/* ---- a candidate ------------------------------------------------------------------------------------------------- */

/* The rows of this block. */
struct candidates {
    const float *values, *unconditional;
    float guidance;
};

GPU_DEVICE candidates candidates_of(const sample_args *a, int row)
{
    const float *u = (const float *)a->s.unconditional.data;
    return {(const float *)a->s.values.data + row * a->s.values.stride,
            u ? u + row * a->s.unconditional.stride : nullptr, a->s.guidance};
}

GPU_DEVICE float value_at(const candidates *c, int64_t column)
{
    float v = c->values[column];
    if (!c->unconditional) return v;
    float u = c->unconditional[column];
    return u + c->guidance * (v - u);
}

/* Ascends with the value; the same for both zeros. */
GPU_DEVICE uint32_t key_of(float value)
{
    uint32_t bits = gpu_bits_of(value + 0.0f);
    if ((bits & 0x7f800000u) == 0x7f800000u) return NOT_FINITE;
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

GPU_DEVICE float value_of(uint32_t key)
{
    return gpu_float_of(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

/* exp((value - best) / temperature), in units of 2^-62. */
GPU_DEVICE uint64_t weight_of(float value, float best, float temperature)
{
    double x = ((double)value - (double)best) / (double)temperature;
    if (x < -44.0) return 0;
    return (uint64_t)(gpu_exp_double(x) * (double)((uint64_t)1 << UNIT_BITS));
}

/* ---- threads of a block together -----------------------------------------------------------------------------------
 */

enum { RUN = 16, RUNS = THREADS / RUN };

/* Sums over the threads of a block, in ascending order of them. */
struct running_sums {
    double through[THREADS + RUNS]; /* of a run of threads; one left out after each run, for the banks of the memory */
    double before[RUNS + 1];        /* a run; the last one: all */
    uint32_t first, last;
};

GPU_DEVICE int place(int thread)
{
    return thread + thread / RUN;
}

/* Afterwards sums->before[RUNS] is the sum of all. */
GPU_DEVICE void sum_up(running_sums *sums, double mine)
{
    int t = (int)threadIdx.x;
    __syncthreads(); /* nobody needs the last sums any more */
    sums->through[place(t)] = mine;
    __syncthreads();
    if (t % RUN == 0)
        for (int i = 1; i < RUN; i++) sums->through[place(t) + i] += sums->through[place(t) + i - 1];
    __syncthreads();
    if (t == 0) {
        double sum = 0;
        for (int r = 0; r < RUNS; r++) {
            sums->before[r] = sum;
            sum += sums->through[place(r * RUN + RUN - 1)];
        }
        sums->before[RUNS] = sum;
        sums->first = THREADS;
        sums->last = 0;
    }
    __syncthreads();
}

/* The sum of the threads before this one. */
GPU_DEVICE double sum_before(const running_sums *sums, int thread)
{
    double run = sums->before[thread / RUN];
    return thread % RUN ? run + sums->through[place(thread - 1)] : run;
}

GPU_DEVICE double sum_through(const running_sums *sums, int thread)
{
    return sums->before[thread / RUN] + sums->through[place(thread)];
}

/* After sum_up() of the same: the first thread that has something and with which base + the sum reaches the target; the
 * last one that has something when rounding leaves none. */
GPU_DEVICE int reach(running_sums *sums, double mine, double base, double target)
{
    int t = (int)threadIdx.x;
    if (mine > 0) {
        if (base + sum_through(sums, t) >= target) gpu_atomic_min(&sums->first, (uint32_t)t);
        gpu_atomic_max(&sums->last, (uint32_t)t);
    }
    __syncthreads();
    return (int)(sums->first < THREADS ? sums->first : sums->last);
}

/* The largest value of the row, from those of its chunks. */
GPU_DEVICE uint32_t best_key(const sample_args *a, const row_work *work, uint32_t *shared)
{
    int t = (int)threadIdx.x;
    if (t == 0) *shared = 0;
    __syncthreads();
    if (t < a->chunks) gpu_atomic_max(shared, work->best[t].key);
    __syncthreads();
    return *shared;
}

/* ---- cuts ----------------------------------------------------------------------------------------------------------
 */

GPU_DEVICE double weight_in(const uint64_t parts[PARTS][DIGITS], int digit)
{
    double sum = (double)parts[PARTS - 1][digit];
    for (int p = PARTS - 2; p >= 0; p--) sum = sum * (1 << PART_BITS) + (double)parts[p][digit];
    return sum;
}

/* One more digit of a cut, from what was counted in the last pass. Every block of the row comes to the same; its first
 * one writes it down. */
GPU_DEVICE key_cut narrow(const sample_args *a, row_work *work, int cut, int level, running_sums *sums)
{
    key_cut c = {(double)a->s.top_k, 0, 0};
    if (level > 0) c = work->cuts[cut][level - 1];
    int t = (int)threadIdx.x;
    double mine = weight_in(work->bins[cut][level], DIGITS - 1 - t); /* from the largest digit on */
    sum_up(sums, mine);
    if (cut == BY_WEIGHT && level == 0) c.target = (double)a->s.top_p * sums->before[RUNS];
    int at = reach(sums, mine, c.before, c.target);
    c.before += sum_before(sums, at);
    c.digits = c.digits << 8 | (uint32_t)(DIGITS - 1 - at);
    if (blockIdx.x == 0 && t == 0) work->cuts[cut][level] = c;
    return c;
}

/* ---- passes --------------------------------------------------------------------------------------------------------
 */

GPU_KERNEL(THREADS) void best_kernel(sample_args a)
{
    GPU_SHARED(chunk_best, best, 1);
    int t = (int)threadIdx.x, row = (int)blockIdx.y;
    row_work *work = (row_work *)a.s.room + row;
    candidates from = candidates_of(&a, row);
    int64_t first = (int64_t)blockIdx.x * a.chunk, end = gpu_min(first + a.chunk, a.s.values.cols);
    if (blockIdx.x == 0) /* for the passes that count */
        for (int i = t; i < CUTS * LEVELS * PARTS * DIGITS; i += THREADS) (&work->bins[0][0][0][0])[i] = 0;
    if (t == 0) best[0] = {0, NOT_FINITE, 0};
    __syncthreads();
    chunk_best mine = {0, 0, 0};
    for (int64_t i = first + t; i < end; i += THREADS) {
        uint32_t key = key_of(value_at(&from, i));
        if (key > mine.key) mine = {key, (uint32_t)i, 0};
        mine.equals += key == mine.key;
    }
    gpu_atomic_max(&best[0].key, mine.key);
    __syncthreads();
    if (mine.equals > 0 && mine.key == best[0].key) {
        gpu_atomic_min(&best[0].column, mine.column);
        gpu_atomic_add(&best[0].equals, mine.equals);
    }
    __syncthreads();
    if (t == 0) work->best[blockIdx.x] = best[0];
}

GPU_DEVICE void choose(const sample_args *a, int row, int64_t column, bool tied)
{
    float *choice = (float *)a->s.choices.data + row * a->s.choices.stride;
    choice[0] = (float)column;
    choice[1] = tied ? 1.0f : 0.0f;
}

/* Without temperature: the best of the chunks. */
GPU_KERNEL(THREADS) void greedy_kernel(sample_args a)
{
    GPU_SHARED(chunk_best, best, 1);
    int t = (int)threadIdx.x, row = (int)blockIdx.x;
    const row_work *work = (const row_work *)a.s.room + row;
    uint32_t key = best_key(&a, work, &best[0].key);
    if (t == 0) {
        best[0].column = NOT_FINITE;
        best[0].equals = 0;
    }
    __syncthreads();
    if (t < a.chunks && work->best[t].key == key) {
        gpu_atomic_min(&best[0].column, work->best[t].column);
        gpu_atomic_add(&best[0].equals, work->best[t].equals);
    }
    __syncthreads();
    if (t > 0) return;
    if (key == NOT_FINITE)
        choose(&a, row, -1, false);
    else
        choose(&a, row, best[0].column, best[0].equals > 1);
}

/* Adds a weight to the three sums of its parts, which lie `apart` from each other. */
GPU_DEVICE void add_parts(uint32_t *sums, int apart, uint64_t weight)
{
    for (int p = 0; p < PARTS; p++) gpu_atomic_add(&sums[p * apart], (uint32_t)(weight >> p * PART_BITS) & 0x1fffffu);
}

/* Counts the next digit of the keys that begin as the cut does: candidates for top-k, weight for top-p. */
GPU_KERNEL(THREADS) void count_kernel(sample_args a)
{
    GPU_SHARED(uint32_t, bins, PARTS * DIGITS);
    GPU_SHARED(running_sums, sums, 1);
    GPU_SHARED(uint32_t, shared_best, 1);
    int t = (int)threadIdx.x, row = (int)blockIdx.y;
    row_work *work = (row_work *)a.s.room + row;
    uint32_t best = best_key(&a, work, shared_best), least = 0, digits = 0;
    if (best == NOT_FINITE) return; /* all threads */
    if (a.level > 0) digits = narrow(&a, work, a.cut, a.level - 1, sums).digits;
    if (a.cut == BY_WEIGHT && a.s.top_k > 0) /* of what top-k has left */
        least = a.level == 0 ? narrow(&a, work, BY_COUNT, LEVELS - 1, sums).digits
                             : work->cuts[BY_COUNT][LEVELS - 1].digits;
    for (int i = t; i < PARTS * DIGITS; i += THREADS) bins[i] = 0;
    __syncthreads();

    candidates from = candidates_of(&a, row);
    int64_t first = (int64_t)blockIdx.x * a.chunk, end = gpu_min(first + a.chunk, a.s.values.cols);
    int below = 8 * (LEVELS - 1 - a.level); /* bits of the digits to come */
    for (int64_t i = first + t; i < end; i += THREADS) {
        float value = value_at(&from, i);
        uint32_t key = key_of(value);
        if (key < least || (uint64_t)key >> (below + 8) != digits) continue;
        uint32_t *bin = &bins[key >> below & (DIGITS - 1)];
        if (a.cut == BY_COUNT)
            gpu_atomic_add(bin, 1u);
        else
            add_parts(bin, DIGITS, weight_of(value, value_of(best), a.s.temperature));
    }
    __syncthreads();
    for (int p = 0; p < PARTS; p++)
        if (bins[p * DIGITS + t] > 0) gpu_atomic_add(&work->bins[a.cut][a.level][p][t], (uint64_t)bins[p * DIGITS + t]);
}

/* The cut that the draw keeps to: the last of those that are asked for. Of nothing: below all keys. */
GPU_DEVICE int last_cut(const sample_args *a)
{
    return a->s.top_p < 1 ? BY_WEIGHT : a->s.top_k > 0 ? BY_COUNT : CUTS;
}

GPU_KERNEL(THREADS) void sum_kernel(sample_args a)
{
    GPU_SHARED(uint32_t, parts, PARTS);
    GPU_SHARED(uint32_t, ties, 1);
    GPU_SHARED(running_sums, sums, 1);
    GPU_SHARED(uint32_t, shared_best, 1);
    int t = (int)threadIdx.x, row = (int)blockIdx.y;
    row_work *work = (row_work *)a.s.room + row;
    uint32_t best = best_key(&a, work, shared_best), cut_key = 0;
    if (best == NOT_FINITE) return; /* all threads */
    if (last_cut(&a) < CUTS) cut_key = narrow(&a, work, last_cut(&a), LEVELS - 1, sums).digits;
    if (t < PARTS) parts[t] = 0;
    if (t == 0) ties[0] = 0;
    __syncthreads();

    candidates from = candidates_of(&a, row);
    int64_t first = (int64_t)blockIdx.x * a.chunk, end = gpu_min(first + a.chunk, a.s.values.cols);
    uint32_t mine[PARTS] = {0, 0, 0}, equal = 0;
    for (int64_t i = first + t; i < end; i += THREADS) {
        float value = value_at(&from, i);
        uint32_t key = key_of(value);
        equal += key == cut_key;
        if (key <= cut_key) continue;
        uint64_t weight = weight_of(value, value_of(best), a.s.temperature);
        for (int p = 0; p < PARTS; p++) mine[p] += (uint32_t)(weight >> p * PART_BITS) & 0x1fffffu;
    }
    for (int p = 0; p < PARTS; p++)
        if (mine[p] > 0) gpu_atomic_add(&parts[p], mine[p]);
    if (equal > 0) gpu_atomic_add(&ties[0], equal);
    __syncthreads();
    if (t > 0) return;
    double sum = 0;
    for (int p = PARTS - 1; p >= 0; p--) sum = sum * (1 << PART_BITS) + (double)parts[p];
    work->mass[blockIdx.x] = sum;
    work->ties[blockIdx.x] = ties[0];
}

/* How many of the columns that have the cut's value are kept, the first ones: those that have less than the target
 * before them. Top-k keeps all. */
GPU_DEVICE double kept_ties(const key_cut *cut, int which, double weight)
{
    if (which != BY_WEIGHT || !(weight > 0)) return (double)GPU_SAMPLE_COLUMNS;
    double kept = ceil((cut->target - cut->before) / weight);
    if (cut->before + (kept - 1) * weight >= cut->target) kept--; /* the quotient was rounded */
    if (cut->before + kept * weight < cut->target) kept++;
    return gpu_max(kept, 1.0);
}

/* How many of `ties` are kept where `before` come before them. */
GPU_DEVICE double kept_here(double kept, double before, double ties)
{
    return gpu_min(gpu_max(kept - before, 0.0), ties);
}

/* The sums of the weights in the order of the columns. Thread t has chunk t first; then, of the chunk in which the draw
 * falls, columns that follow each other. */
GPU_KERNEL(THREADS) void draw_kernel(sample_args a)
{
    GPU_SHARED(running_sums, sums, 1);
    GPU_SHARED(double, ties_ahead, 1);
    GPU_SHARED(uint32_t, shared_best, 1);
    int t = (int)threadIdx.x, row = (int)blockIdx.x, which = last_cut(&a);
    const row_work *work = (const row_work *)a.s.room + row;
    uint32_t best = best_key(&a, work, shared_best);
    if (best == NOT_FINITE) {
        if (t == 0) choose(&a, row, -1, false);
        return; /* all threads */
    }
    float largest = value_of(best), temperature = a.s.temperature;
    key_cut cut = {0, 0, 0};
    if (which < CUTS) cut = work->cuts[which][LEVELS - 1];
    double tie = which < CUTS ? (double)weight_of(value_of(cut.digits), largest, temperature) : 0;
    double kept = kept_ties(&cut, which, tie);

    double ties = t < a.chunks ? work->ties[t] : 0;
    sum_up(sums, ties);
    double ahead = sum_before(sums, t);
    double mine = t < a.chunks ? work->mass[t] + kept_here(kept, ahead, ties) * tie : 0;
    sum_up(sums, mine);
    /* more than uniform times all: at least the next double */
    double target = gpu_double_of(gpu_bits_of(a.s.uniform[row] * sums->before[RUNS]) + 1);
    int chunk = reach(sums, mine, 0, target);
    double base = sum_before(sums, chunk);
    if (t == chunk) ties_ahead[0] = ahead;

    candidates from = candidates_of(&a, row);
    int64_t each = a.chunk / THREADS, start = (int64_t)chunk * a.chunk;
    int64_t first = gpu_min(start + t * each, a.s.values.cols), end = gpu_min(first + each, a.s.values.cols);
    ties = 0;
    for (int64_t i = first; i < end; i++) ties += key_of(value_at(&from, i)) == cut.digits;
    sum_up(sums, ties);
    double left = kept - ties_ahead[0] - sum_before(sums, t); /* ties that are kept from here on */
    double weights[2 * CHUNK / THREADS];
    mine = 0;
    for (int i = 0; i < 2 * CHUNK / THREADS; i++) {
        weights[i] = 0;
        if (first + i >= end) continue;
        float value = value_at(&from, first + i);
        uint32_t key = key_of(value);
        if (key < cut.digits || (key == cut.digits && left-- < 1)) continue;
        weights[i] = (double)weight_of(value, largest, temperature);
        mine += weights[i];
    }
    sum_up(sums, mine);
    if (t != reach(sums, mine, base, target)) return;
    int64_t chosen = -1;
    double sum = base + sum_before(sums, t);
    for (int i = 0; i < 2 * CHUNK / THREADS && sum < target; i++) {
        if (weights[i] == 0) continue;
        chosen = first + i;
        sum += weights[i];
    }
    choose(&a, row, chosen, false);
}

} // namespace

int gpu_kernel_sample(gpu_stream *s, const gpu_sampling *sampling)
{
    int64_t rows = sampling->values.rows, cols = sampling->values.cols;
    if (rows < 1 || cols < 1) return 0;
    int64_t chunk = (cols + MOST_CHUNKS - 1) / MOST_CHUNKS <= CHUNK ? CHUNK : 2 * CHUNK;
    sample_args a = {*sampling, (int)chunk, (int)((cols + chunk - 1) / chunk), 0, 0};
    dim3 passes((unsigned)a.chunks, (unsigned)rows), one((unsigned)rows);
    int error = gpu_launch(best_kernel, passes, THREADS, 0, s, a);
    if (!error && sampling->temperature <= 0) return gpu_launch(greedy_kernel, one, THREADS, 0, s, a);
    for (a.cut = 0; a.cut < CUTS; a.cut++) {
        bool wanted = a.cut == BY_COUNT ? sampling->top_k > 0 : sampling->top_p < 1;
        for (a.level = 0; wanted && a.level < LEVELS && !error; a.level++)
            error = gpu_launch(count_kernel, passes, THREADS, 0, s, a);
    }
    if (!error) error = gpu_launch(sum_kernel, passes, THREADS, 0, s, a);
    return error ? error : gpu_launch(draw_kernel, one, THREADS, 0, s, a);
}
