/* The attention kernels of the CUDA device, on the emulated GPU: against double precision, for every mask, type and
 * generation; and bit by bit against themselves, where only the way to the result differs. */
#include "device_test.h"

#include "device/cuda/emulation/emulated_gpu.h"

/* ---- a GPU, and matrices in memory that ends where they do ---------------------------------------------------- */

typedef struct bench {
    const gpu *gpu;
    gpu_context *context;
    gpu_stream *stream;
    int capability;
} bench;

static bench open_bench(int capability, gpu_emulated_order order)
{
    gpu_emulated_settings settings = gpu_emulated_defaults();
    settings.capability[0] = capability / 10;
    settings.capability[1] = capability % 10;
    settings.order = order;
    settings.seed = 42;
    gpu_emulated_set(&settings);
    bench b = {.gpu = gpu_emulated(), .capability = capability};
    gpu_properties properties;
    assert_int_equal(b.gpu->open(0, &b.context, &properties), 0);
    assert_int_equal(b.gpu->stream_open(b.context, &b.stream), 0);
    return b;
}

static void close_bench(bench *b)
{
    b->gpu->stream_close(b->stream);
    b->gpu->close(b->context);
}

/* `whole` is a block of its own that begins `left` elements before the matrix, and is canary around it. */
typedef struct operand {
    gpu_mat mat;
    float *host; /* the values as stored, packed */
    void *whole;
    int64_t count, left;
} operand;

static void put(void *to, int64_t i, gpu_type type, float v)
{
    if (type == GPU_BF16)
        ((uint16_t *)to)[i] = ace_f32_to_bf16(v);
    else
        ((float *)to)[i] = v;
}

static float get(const void *from, int64_t i, gpu_type type)
{
    return type == GPU_BF16 ? ace_bf16_to_f32(((const uint16_t *)from)[i]) : ((const float *)from)[i];
}

static float rounded(float v, gpu_type type)
{
    return as_stored(v, type == GPU_BF16 ? ACE_BF16 : ACE_F32);
}

static void store(operand *x)
{
    for (int64_t i = 0; i < x->count; i++) put(x->whole, i, x->mat.type, CANARY);
    for (int64_t i = 0; i < x->mat.rows; i++)
        for (int64_t j = 0; j < x->mat.cols; j++)
            put(x->whole, x->left + i * x->mat.stride + j, x->mat.type, x->host[i * x->mat.cols + j]);
}

/* unit: the matrix begins, and its rows follow, at multiples of so many elements; 0: packed */
static operand make(random_state *r, gpu_type type, int64_t rows, int64_t cols, float range, int unit)
{
    operand x = {.mat = {.rows = rows, .cols = cols, .stride = cols, .type = type}};
    if (unit > 0) {
        x.left = random_int(r, 0, 3) * unit;
        x.mat.stride = (cols + random_int(r, 0, 9) + unit - 1) / unit * unit;
    }
    x.count = x.left + (rows > 0 ? (rows - 1) * x.mat.stride + cols : 0);
    x.whole = must(malloc((size_t)x.count * (type == GPU_BF16 ? 2 : 4) + 1));
    x.host = must(malloc((size_t)(rows * cols + 1) * sizeof *x.host));
    for (int64_t i = 0; i < rows * cols; i++) x.host[i] = rounded(random_float(r, -range, range), type);
    x.mat.data = (char *)x.whole + x.left * (type == GPU_BF16 ? 2 : 4);
    store(&x);
    return x;
}

static void fetch_back(operand *x)
{
    for (int64_t i = 0; i < x->count; i++) {
        int64_t row = (i - x->left) / x->mat.stride, col = (i - x->left) % x->mat.stride;
        float v = get(x->whole, i, x->mat.type);
        if (i >= x->left && col < x->mat.cols)
            x->host[row * x->mat.cols + col] = v;
        else if (v != rounded(CANARY, x->mat.type))
            fail_msg("written outside the matrix: row %lld, column %lld", (long long)row, (long long)col);
    }
}

static void drop(operand *x)
{
    free(x->host);
    free(x->whole);
}

typedef struct shape {
    int heads, kv_heads, head_dim;
    float scale;
    gpu_mask mask;
    int64_t radius, queries, keys;
} shape;

typedef struct set {
    operand q, k, v, o;
} set;

static set make_set(random_state *r, const shape *s, gpu_type type, float range, int unit)
{
    int64_t width = (int64_t)s->heads * s->head_dim, kv_width = (int64_t)s->kv_heads * s->head_dim;
    return (set){.q = make(r, type, s->queries, width, range, unit),
                 .k = make(r, type, s->keys, kv_width, range, unit),
                 .v = make(r, type, s->keys, kv_width, 1, unit),
                 .o = make(r, type, s->queries, width, 0, unit)};
}

static void drop_set(set *x)
{
    drop(&x->q);
    drop(&x->k);
    drop(&x->v);
    drop(&x->o);
}

static gpu_mat rows_of(gpu_mat m, int64_t first, int64_t count)
{
    m.data = (char *)m.data + first * m.stride * (m.type == GPU_BF16 ? 2 : 4);
    m.rows = count;
    return m;
}

static void attend(const bench *b, const shape *s, gpu_mat o, gpu_mat q, gpu_mat k, gpu_mat v, bool with_room)
{
    gpu_attention a = {.o = o,
                       .q = q,
                       .k = k,
                       .v = v,
                       .heads = s->heads,
                       .kv_heads = s->kv_heads,
                       .head_dim = s->head_dim,
                       .scale = s->scale,
                       .mask = s->mask,
                       .radius = s->radius};
    size_t room = b->gpu->attention_room(&a);
    if (with_room && room > 0) {
        a.room = must(malloc(room));
        memset(a.room, 0xff, room); /* NaN */
    }
    int error = b->gpu->attention(b->stream, &a);
    if (!error) error = b->gpu->stream_wait(b->stream);
    if (error) fail_msg("%s", b->gpu->message(error));
    free(a.room);
}

static void attend_all(const bench *b, const shape *s, set *x, bool with_room)
{
    attend(b, s, x->o.mat, x->q.mat, x->k.mat, x->v.mat, with_room);
    fetch_back(&x->o);
}

/* ---- double precision ------------------------------------------------------------------------------------------ */

static bool sees(const shape *s, int64_t i, int64_t j)
{
    if (s->mask == GPU_MASK_BAND) return llabs(i - j) <= s->radius;
    return s->mask == GPU_MASK_FULL || j <= i + (s->keys - s->queries);
}

/* What a query of a head should get. */
typedef struct expected {
    double out[256], size[256], spread[256]; /* per dimension: sum of w v, of w |v|, of w |v - out|; w: weights */
    double score, products;                  /* largest |score|, and sum of |products| that made a score */
} expected;

static void reference(const set *x, const shape *s, int64_t i, int head, expected *e)
{
    int64_t d = s->head_dim, kv = head / (s->heads / s->kv_heads), width = s->kv_heads * d;
    double *weight = must(malloc((size_t)s->keys * sizeof *weight)), highest = -INFINITY, total = 0;
    memset(e, 0, sizeof *e);
    for (int64_t j = 0; j < s->keys; j++) {
        weight[j] = -INFINITY;
        if (!sees(s, i, j)) continue;
        double sum = 0, products = 0;
        for (int64_t c = 0; c < d; c++) {
            double p = (double)x->q.host[(i * s->heads + head) * d + c] * x->k.host[j * width + kv * d + c];
            sum += p;
            products += fabs(p);
        }
        weight[j] = sum * s->scale;
        highest = fmax(highest, weight[j]);
        e->score = fmax(e->score, fabs(weight[j]));
        e->products = fmax(e->products, products * s->scale);
    }
    for (int64_t j = 0; j < s->keys; j++) {
        weight[j] = weight[j] == -INFINITY ? 0 : exp(weight[j] - highest);
        total += weight[j];
    }
    for (int pass = 0; pass < 2; pass++)
        for (int64_t j = 0; j < s->keys && total > 0; j++)
            for (int64_t c = 0; c < d && weight[j] > 0; c++) {
                double v = x->v.host[j * width + kv * d + c], w = weight[j] / total;
                if (pass) {
                    e->spread[c] += w * fabs(v - e->out[c]);
                } else {
                    e->out[c] += w * v;
                    e->size[c] += w * fabs(v);
                }
            }
    free(weight);
}

/* A score's error e changes its weight by a factor of about 1 + e; in float32 it is half a place for each of head_dim
 * additions at most, and for the few roundings of the exponent, which is 1.44 times the score. Weights rounded to bf16
 * are off by half a place, 2^-8 of the smallest mantissa. As weights are divided by their own sum, only their
 * differences matter: the output is off by E / (1 - E) sum w |v - out|, where E bounds the error of a weight. Adding
 * up rounds once a key, and thrice a block. */
static double tolerance_of(const shape *s, const expected *e, int64_t c, bool rounded_weights)
{
    double each = 0x1p-24 * (s->head_dim * e->products + 6 * e->score + 12) + (rounded_weights ? 0x1p-8 : 0);
    return each / (1 - each) * e->spread[c] + 0x1p-24 * (20 + (double)s->keys) * e->size[c];
}

static void compare(const bench *b, const set *x, const shape *s, int64_t step)
{
    bool rounded_weights = x->q.mat.type == GPU_BF16 && b->capability >= 80;
    ace_dtype out = x->o.mat.type == GPU_BF16 ? ACE_BF16 : ACE_F32;
    expected e;
    for (int64_t i = 0; i < s->queries; i += step)
        for (int head = 0; head < s->heads; head++) {
            reference(x, s, i, head, &e);
            for (int64_t c = 0; c < s->head_dim; c++) {
                int64_t col = head * s->head_dim + c;
                check_close("o", i, col, x->o.host[i * s->heads * s->head_dim + col], e.out[c],
                            tolerance_of(s, &e, c, rounded_weights) + storing(e.out[c], out));
            }
        }
}

/* ---- tests ----------------------------------------------------------------------------------------------------- */

static const struct {
    int capability;
    gpu_type type;
} kinds[] = {{75, GPU_F32}, {75, GPU_BF16}, {80, GPU_BF16}, {90, GPU_F32}, {120, GPU_BF16}};
enum { KINDS = sizeof kinds / sizeof *kinds };

static void shapes_agree_with_double_precision(void **state)
{
    (void)state;
    static const int heads[][2] = {{1, 1}, {2, 2}, {4, 2}, {4, 1}, {6, 2}, {7, 1}, {12, 1}, {32, 1}};
    static const int dims[] = {1, 6, 16, 30, 64, 72, 128, 130, 256};
    random_state r = {1};
    for (int kind = 0; kind < KINDS; kind++) {
        bench b = open_bench(kinds[kind].capability, (gpu_emulated_order)(kind % 3));
        for (int i = 0; i < 54; i++) {
            const int *h = heads[random_int(&r, 0, 7)];
            shape s = {h[0], h[1], dims[i % 9], 1, (gpu_mask)(i / 9 % 3), random_int(&r, 0, 90), 0, 0};
            s.scale = 1 / sqrtf((float)s.head_dim);
            s.queries = random_int(&r, 1, i % 5 ? 8 : 80);
            s.keys = random_int(&r, 1, 200);
            int unit = i % 4 == 0 ? 1 : i % 4 == 1 ? 8 : 0;
            set x = make_set(&r, &s, kinds[kind].type, i % 6 ? 2 : 10, unit);
            attend_all(&b, &s, &x, i % 2);
            compare(&b, &x, &s, 1);
            drop_set(&x);
        }
        close_bench(&b);
    }
}

/* Around the blocks of 64 keys, and the tiles of 16, 64 and 128 rows. */
static void edges_of_blocks_and_tiles(void **state)
{
    (void)state;
    static const int64_t lengths[] = {1, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 193};
    enum { LENGTHS = sizeof lengths / sizeof *lengths };
    random_state r = {2};
    for (int kind = 0; kind < KINDS; kind++) {
        bench b = open_bench(kinds[kind].capability, GPU_EMULATED_SHUFFLED);
        for (int i = 0; i < LENGTHS; i++)
            for (int mask = GPU_MASK_FULL; mask <= GPU_MASK_CAUSAL; mask++) {
                shape s = {2, 1, 16, 0.25f, (gpu_mask)mask, lengths[(i + 4) % LENGTHS], lengths[i], lengths[i]};
                set x = make_set(&r, &s, kinds[kind].type, 2, 0);
                attend_all(&b, &s, &x, true);
                compare(&b, &x, &s, 3);
                drop_set(&x);
            }
        close_bench(&b);
    }
}

/* The first rows of `x`, or the last: with the bits that they have among all. */
static void compare_rows(const bench *b, random_state *r, const shape *s, const set *x, const float *whole,
                         int64_t most)
{
    shape part = *s;
    part.queries = random_int(r, 1, most < s->queries ? most : s->queries);
    int64_t first = random_int(r, 0, s->queries - part.queries), width = (int64_t)s->heads * s->head_dim;
    if (s->mask == GPU_MASK_BAND) {
        first = 0;
        part.keys = part.queries + s->radius < s->keys ? part.queries + s->radius : s->keys;
    } else if (s->mask == GPU_MASK_CAUSAL) {
        part.keys = first + part.queries;
    }
    operand o = make(r, x->o.mat.type, part.queries, width, 0, (int)random_int(r, 0, 2));
    attend(b, &part, o.mat, rows_of(x->q.mat, first, part.queries), rows_of(x->k.mat, 0, part.keys),
           rows_of(x->v.mat, 0, part.keys), random_int(r, 0, 3) > 0);
    fetch_back(&o);
    check_same("rows alone", whole + first * width, o.host, part.queries * width);
    drop(&o);
}

/* With scores that jump far, and with products that underflow to -0, too. */
static void rows_do_not_see_each_other(void **state)
{
    (void)state;
    static const struct {
        int heads, kv_heads, head_dim;
        float range, values;
    } cases[] = {{4, 2, 64, 2, 1}, {4, 4, 24, 8, 1}, {8, 1, 128, 8, 0x1p-133f}, {6, 2, 130, 2, 1}};
    random_state r = {3};
    for (int kind = 0; kind < KINDS; kind++) {
        bench b = open_bench(kinds[kind].capability, GPU_EMULATED_FORWARD);
        for (int i = 0; i < 12; i++) {
            int c = i % 4;
            shape s = {cases[c].heads, cases[c].kv_heads, cases[c].head_dim, 0.2f, (gpu_mask)(i / 4), 70, 200, 200};
            set x = make_set(&r, &s, kinds[kind].type, cases[c].range, 8 * (i % 2));
            for (int64_t j = 0; j < s.keys * x.v.mat.cols; j++) x.v.host[j] *= cases[c].values;
            store(&x.v);
            attend_all(&b, &s, &x, false);
            if (cases[c].values == 1) compare(&b, &x, &s, 37);
            for (int part = 0; part < 6; part++) compare_rows(&b, &r, &s, &x, x.o.host, part < 4 ? 4 : 200);
            drop_set(&x);
        }
        close_bench(&b);
    }
}

/* Tall tiles are for work that fills the GPU. */
static void tall_tiles(void **state)
{
    (void)state;
    random_state r = {4};
    bench b = open_bench(90, GPU_EMULATED_REVERSE);
    gpu_properties properties;
    gpu_context *context;
    assert_int_equal(b.gpu->open(0, &context, &properties), 0);
    b.gpu->close(context);
    for (int dim = 64; dim <= 128; dim += 64)
        for (int mask = GPU_MASK_FULL; mask <= GPU_MASK_CAUSAL; mask++) {
            shape s = {2, 2, dim, 0.1f, (gpu_mask)mask, 20, 150, 150};
            s.heads = s.kv_heads = properties.multiprocessors;
            set x = make_set(&r, &s, GPU_BF16, 2, 8);
            attend_all(&b, &s, &x, true);
            compare(&b, &x, &s, s.queries / 3);
            for (int part = 0; part < 3; part++) compare_rows(&b, &r, &s, &x, x.o.host, 4);
            drop_set(&x);
        }
    close_bench(&b);
}

/* The context of a planner that has written long. */
static void thousands_of_keys(void **state)
{
    (void)state;
    random_state r = {5};
    for (int kind = 0; kind < KINDS; kind++) {
        bench b = open_bench(kinds[kind].capability, GPU_EMULATED_FORWARD);
        shape s = {4, 2, 128, 0.1f, GPU_MASK_CAUSAL, 0, 10, 4500};
        set x = make_set(&r, &s, kinds[kind].type, 2, 0);
        attend_all(&b, &s, &x, false);
        compare(&b, &x, &s, 3);
        float last[4 * 128];
        operand o = make(&r, kinds[kind].type, 1, 4 * 128, 0, 0);
        attend(&b, &s, o.mat, rows_of(x.q.mat, 9, 1), x.k.mat, x.v.mat, true);
        fetch_back(&o);
        memcpy(last, o.host, sizeof last);
        check_same("the last query alone", x.o.host + 9 * 4 * 128, last, 4 * 128);
        drop(&o);
        drop_set(&x);
        close_bench(&b);
    }
}

/* The way that operands are read makes no difference. */
static void addresses_change_nothing(void **state)
{
    (void)state;
    for (int kind = 0; kind < KINDS; kind++) {
        bench b = open_bench(kinds[kind].capability, GPU_EMULATED_FORWARD);
        random_state r = {6};
        shape s = {4, 2, 64, 0.2f, GPU_MASK_CAUSAL, 0, 70, 140};
        set x = make_set(&r, &s, kinds[kind].type, 2, 8), y = make_set(&r, &s, kinds[kind].type, 2, 1);
        operand *from[] = {&x.q, &x.k, &x.v}, *to[] = {&y.q, &y.k, &y.v};
        for (int i = 0; i < 3; i++) {
            memcpy(to[i]->host, from[i]->host, (size_t)(to[i]->mat.rows * to[i]->mat.cols) * sizeof(float));
            store(to[i]);
        }
        attend_all(&b, &s, &x, true);
        attend_all(&b, &s, &y, true);
        check_same("odd addresses", x.o.host, y.o.host, s.queries * s.heads * s.head_dim);
        drop_set(&x);
        drop_set(&y);
        close_bench(&b);
    }
}

/* A query that no key reaches gets zeros, and a NaN among the keys is not hidden, nor seen by others. */
static void unreached_and_nan(void **state)
{
    (void)state;
    random_state r = {7};
    for (int kind = 0; kind < KINDS; kind++)
        for (int room = 0; room < 2; room++) {
            bench b = open_bench(kinds[kind].capability, GPU_EMULATED_FORWARD);
            shape s = {1, 1, 16, 0.25f, GPU_MASK_BAND, 3, 16, 70};
            s.keys = room ? 70 : 5;
            if (room) s.radius = 60;
            set x = make_set(&r, &s, kinds[kind].type, 1, 0);
            attend_all(&b, &s, &x, room);
            for (int i = 0; i < 16; i++)
                for (int c = 0; c < 16; c++) assert_int_equal(x.o.host[i * 16 + c] == 0, !room && i > 7);
            for (int whole = 0; whole < 2; whole++) {
                int64_t bad = room ? 66 : 2;
                for (int c = whole ? 0 : 5; c < (whole ? 16 : 6); c++) x.k.host[bad * 16 + c] = NAN;
                store(&x.k);
                attend_all(&b, &s, &x, room);
                for (int i = 0; i < 16; i++) assert_int_equal(isnan(x.o.host[i * 16]), llabs(i - bad) <= s.radius);
            }
            drop_set(&x);
            close_bench(&b);
        }
}

/* Scores of many thousands, and values near the greatest. */
static void extremes(void **state)
{
    (void)state;
    random_state r = {8};
    for (int kind = 0; kind < KINDS; kind++) {
        bench b = open_bench(kinds[kind].capability, GPU_EMULATED_FORWARD);
        shape s = {2, 1, 32, 1, GPU_MASK_FULL, 0, 40, 150};
        set x = make_set(&r, &s, kinds[kind].type, 60, 0);
        attend_all(&b, &s, &x, true);
        compare(&b, &x, &s, 1);
        drop_set(&x);
        close_bench(&b);
    }
}

static void misuse_is_refused(void **state)
{
    (void)state;
    random_state r = {9};
    bench b = open_bench(90, GPU_EMULATED_FORWARD);
    shape s = {2, 1, 16, 0.25f, GPU_MASK_FULL, 0, 3, 3};
    set x = make_set(&r, &s, GPU_BF16, 1, 0);
    gpu_attention good = {x.o.mat, x.q.mat, x.k.mat, x.v.mat, 2, 1, 16, 0.25f, GPU_MASK_FULL, 0, NULL, NULL};
    gpu_attention bad[8];
    assert_int_equal(b.gpu->attention(b.stream, &good), 0);
    for (int i = 0; i < 8; i++) bad[i] = good;
    bad[0].heads = 3;
    bad[1].head_dim = 15;
    bad[2].scale = 0;
    bad[3].scale = NAN;
    bad[4].k.type = GPU_F32;
    bad[5].v.rows = 2;
    bad[6].kv_heads = 0;
    bad[7].keys = &(float){2}; /* without a room */
    for (int i = 0; i < 8; i++) assert_int_not_equal(b.gpu->attention(b.stream, &bad[i]), 0);
    assert_int_equal(b.gpu->stream_wait(b.stream), 0);
    drop_set(&x);
    close_bench(&b);
}

/* Every kernel in small, where every access to shared memory is looked at. */
static void no_thread_races(void **state)
{
    static const int dims[] = {64, 128, 200};
    (void)state;
    random_state r = {10};
    for (int kind = 0; kind < 4; kind++) {
        bench b = open_bench(kinds[kind].capability, GPU_EMULATED_SHUFFLED);
        for (int i = 0; i < 9; i++) {
            shape s = {2, 1, dims[i / 3], 0.1f, (gpu_mask)(i % 3), 50, 0, 150};
            s.queries = i % 2 ? 70 : 6; /* those of few rows share out the keys */
            set x = make_set(&r, &s, kinds[kind].type, 2, i % 4 ? 8 : 1);
            attend_all(&b, &s, &x, true);
            compare(&b, &x, &s, 7);
            drop_set(&x);
        }
        close_bench(&b);
    }
}

#ifdef TEST_RACES
enum { RACES = 1 };
#else
enum { RACES = 0 };
#endif

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes_agree_with_double_precision),
        cmocka_unit_test(edges_of_blocks_and_tiles),
        cmocka_unit_test(rows_do_not_see_each_other),
        cmocka_unit_test(tall_tiles),
        cmocka_unit_test(thousands_of_keys),
        cmocka_unit_test(addresses_change_nothing),
        cmocka_unit_test(unreached_and_nan),
        cmocka_unit_test(extremes),
        cmocka_unit_test(misuse_is_refused),
    };
    static const struct CMUnitTest races[] = {cmocka_unit_test(no_thread_races), cmocka_unit_test(tall_tiles)};
    return RACES ? cmocka_run_group_tests_name("device/cuda_attention, races", races, NULL, NULL)
                 : cmocka_run_group_tests_name("device/cuda_attention", tests, NULL, NULL);
}
