/* The book of the GPU's memory: blocks, pages and what moves, on a memory that checks every call and keeps contents. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/memory.h"
#include "device/cuda/heap.h"

#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096, PAGES = 512, RANGE = PAGE * PAGES, BLOCKS = 300 };

/* A weight as the test sees it. */
typedef struct owner {
    bool alive;
    size_t at, bytes;
    uint8_t value; /* of all its bytes */
} owner;

typedef struct world {
    heap *h;
    uint8_t *bytes;
    bool committed[PAGES];
    size_t committed_bytes, most_pages;
    long moves, refuse_after; /* commits until one is refused; 0: none is */
    owner owners[BLOCKS];
} world;

/* How much more than the blocks may have memory while a call lasts: `used` is asked before and after it. */
static void check_during(world *w)
{
    size_t used = w->h ? heap_used(w->h) : 0;
    size_t over = w->committed_bytes > used ? w->committed_bytes - used : 0;
    if (over > w->most_pages * PAGE) fail_msg("%zu bytes more than the blocks'", over);
}

static bool commit(void *context, size_t at, size_t bytes, ace_error *error)
{
    world *w = context;
    assert_true(at % PAGE == 0 && bytes % PAGE == 0 && bytes > 0 && at + bytes <= RANGE);
    if (w->refuse_after > 0 && --w->refuse_after == 0) return ace_fail(error, ACE_ERROR_MEMORY, "refused");
    for (size_t p = at / PAGE; p < (at + bytes) / PAGE; p++) {
        assert_false(w->committed[p]);
        w->committed[p] = true;
    }
    memset(w->bytes + at, 0xee, bytes);
    w->committed_bytes += bytes;
    return true;
}

static void decommit(void *context, size_t at, size_t bytes)
{
    world *w = context;
    assert_true(at % PAGE == 0 && bytes % PAGE == 0 && bytes > 0 && at + bytes <= RANGE);
    for (size_t p = at / PAGE; p < (at + bytes) / PAGE; p++) {
        assert_true(w->committed[p]);
        w->committed[p] = false;
    }
    memset(w->bytes + at, 0xdd, bytes);
    w->committed_bytes -= bytes;
}

static void assert_memory(const world *w, size_t at, size_t bytes)
{
    for (size_t p = at / PAGE; p * PAGE < at + bytes; p++) assert_true(w->committed[p]);
}

static bool copy(void *context, size_t to, size_t from, size_t bytes, ace_error *error)
{
    world *w = context;
    (void)error;
    assert_true(to < from && bytes > 0 && bytes <= 2 * PAGE);
    assert_memory(w, to, bytes);
    assert_memory(w, from, bytes);
    check_during(w);
    memmove(w->bytes + to, w->bytes + from, bytes);
    w->moves++;
    return true;
}

static void moved(void *context, void *who, size_t at)
{
    (void)context;
    ((owner *)who)->at = at;
}

static void open_world(world *w)
{
    ace_error error = {0};
    *w = (world){.bytes = malloc(RANGE), .most_pages = HEAP_MOST_WASTE};
    assert_non_null(w->bytes);
    w->h = heap_open(RANGE, PAGE, &(heap_memory){w, commit, decommit, copy, 2 * PAGE, moved}, &error);
    assert_non_null(w->h);
}

static void close_world(world *w)
{
    heap_close(w->h);
    assert_int_equal(w->committed_bytes, 0);
    free(w->bytes);
}

/* Blocks do not overlap, have their bytes and memory behind them; nothing else has, but for what is allowed. */
static void check(const world *w)
{
    size_t used = 0;
    for (int i = 0; i < BLOCKS; i++) {
        const owner *o = &w->owners[i];
        if (!o->alive) continue;
        size_t padded = (o->bytes + HEAP_ALIGN - 1) / HEAP_ALIGN * HEAP_ALIGN;
        used += padded;
        assert_int_equal(o->at % HEAP_ALIGN, 0);
        assert_true(o->at + padded <= RANGE);
        assert_memory(w, o->at, o->bytes);
        for (size_t b = 0; b < o->bytes; b++)
            if (w->bytes[o->at + b] != o->value) fail_msg("block %d has lost its byte %zu", i, b);
    }
    assert_int_equal(heap_used(w->h), used);
    assert_int_equal(heap_committed(w->h), w->committed_bytes);
    assert_true(w->committed_bytes <= used + HEAP_WASTE * PAGE);
    if (used == 0) assert_int_equal(w->committed_bytes, 0);
}

static bool take(world *w, int index, size_t bytes)
{
    ace_error error = {0};
    owner *o = &w->owners[index];
    if (!heap_alloc(w->h, bytes, "a block", &o->at, &error)) {
        assert_int_equal(error.status, ACE_ERROR_MEMORY);
        return false;
    }
    *o = (owner){true, o->at, bytes, (uint8_t)(index * 7 + bytes)};
    heap_own(w->h, o->at, o);
    assert_true(bytes <= RANGE);
    memset(w->bytes + o->at, o->value, bytes);
    return true;
}

static void give(world *w, int index)
{
    heap_free(w->h, w->owners[index].at);
    w->owners[index].alive = false;
}

static uint32_t next(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Small ones, and some of many pages. */
static size_t some_bytes(uint32_t *state)
{
    return next(state) % 8 == 0 ? 1 + next(state) % (20 * PAGE) : 1 + next(state) % 3000;
}

static void test_random(void **unused)
{
    (void)unused;
    long moves = 0, refused = 0;
    for (uint32_t seed = 1; seed <= 20; seed++) {
        world w;
        uint32_t state = seed;
        open_world(&w);
        for (int step = 0; step < 1500; step++) {
            int i = (int)(next(&state) % BLOCKS);
            if (w.owners[i].alive)
                give(&w, i);
            else if (!take(&w, i, some_bytes(&state)))
                refused++;
            if (step % 10 == 0) check(&w);
        }
        check(&w);
        for (int i = 0; i < BLOCKS; i++)
            if (w.owners[i].alive) give(&w, i);
        check(&w);
        moves += w.moves;
        close_world(&w);
    }
    print_message("%ld pieces moved, %ld blocks refused\n", moves, refused);
    assert_true(moves > 0);
}

/* What would be scattered over all pages is moved together. */
static void test_scattered(void **unused)
{
    (void)unused;
    world w;
    open_world(&w);
    for (int i = 0; i < BLOCKS; i++) assert_true(take(&w, i, 1024));
    size_t full = w.committed_bytes;
    assert_int_equal(full, BLOCKS * 1024 / PAGE * PAGE);
    assert_int_equal(w.moves, 0);
    for (int i = 0; i < BLOCKS; i++) {
        if (i % 8 != 0) give(&w, i);
        check(&w);
    }
    assert_true(w.moves > 0);
    assert_true(w.committed_bytes < full / 4);
    close_world(&w);
}

/* A block that was there first keeps its place, and what was freed behind it is used again. */
static void test_first_fit(void **unused)
{
    (void)unused;
    world w;
    open_world(&w);
    for (int i = 0; i < 4; i++) assert_true(take(&w, i, 2 * PAGE));
    give(&w, 1);
    assert_true(take(&w, 5, PAGE));
    assert_int_equal(w.owners[5].at, 2 * PAGE);
    assert_true(take(&w, 6, 3 * PAGE));
    assert_int_equal(w.owners[6].at, 8 * PAGE);
    assert_true(take(&w, 7, PAGE));
    assert_int_equal(w.owners[7].at, 3 * PAGE);
    check(&w);
    assert_int_equal(w.moves, 0);
    close_world(&w);
}

/* The range is full: refused; free in pieces only: moved together. */
static void test_exhausted(void **unused)
{
    (void)unused;
    world w;
    open_world(&w);
    for (int i = 0; i < 8; i++) assert_true(take(&w, i, RANGE / 8));
    assert_false(take(&w, 9, 1));
    assert_false(take(&w, 9, (size_t)-1));
    check(&w);
    for (int i = 0; i < 8; i += 2) give(&w, i);
    assert_int_equal(w.moves, 0);
    assert_true(take(&w, 9, RANGE / 2));
    assert_true(w.moves > 0);
    check(&w);
    close_world(&w);
}

/* Memory is refused at every commit in turn: what there was stays, or is known to be lost. */
static void test_refused(void **unused)
{
    (void)unused;
    int failures = 0, losses = 0;
    enum { LAST = 399 };
    for (long at = 1; at <= LAST; at++) {
        world w;
        uint32_t state = 5;
        open_world(&w);
        w.refuse_after = at;
        w.most_pages = HEAP_MOST_WASTE;
        bool lost = false;
        for (int step = 0; step < 600 && !lost; step++) {
            int i = (int)(next(&state) % BLOCKS);
            if (w.owners[i].alive) {
                give(&w, i);
            } else {
                ace_error error = {0};
                size_t place;
                if (heap_alloc(w.h, some_bytes(&state), "a block", &place, &error))
                    heap_free(w.h, place);
                else
                    failures++;
                if (heap_ok(w.h, NULL)) take(&w, i, 1 + next(&state) % 6000);
            }
            lost = !heap_ok(w.h, NULL);
            /* before its refusal every run is the beginning of the last one */
            if (at == LAST && !lost && w.refuse_after > 0) check(&w);
        }
        losses += lost;
        if (lost) {
            size_t place;
            ace_error error = {0};
            assert_false(heap_alloc(w.h, 1, "a block", &place, &error));
            assert_int_equal(error.status, ACE_ERROR_DEVICE);
            assert_non_null(strstr(error.message, "refused"));
        }
        for (int i = 0; i < BLOCKS; i++)
            if (w.owners[i].alive) give(&w, i);
        assert_int_equal(heap_used(w.h), 0);
        assert_int_equal(w.committed_bytes, 0);
        assert_true(heap_ok(w.h, NULL));
        close_world(&w);
    }
    print_message("%d refusals, %d losses\n", failures, losses);
    assert_true(failures > 0 && losses > 0);
}

/* The host's memory is refused. */
static void test_faults(void **unused)
{
    (void)unused;
    bool done = false;
    for (long n = 1; !done; n++) {
        world w = {.bytes = malloc(RANGE)};
        ace_error error = {0};
        ace_fault_arm(n);
        w.h = heap_open(RANGE, PAGE, &(heap_memory){&w, commit, decommit, copy, 2 * PAGE, moved}, &error);
        int got = 0;
        while (w.h && got < BLOCKS && heap_alloc(w.h, 100, "a block", &w.owners[got].at, &error)) got++;
        done = got == BLOCKS;
        assert_int_equal(error.status, done ? ACE_OK : ACE_ERROR_MEMORY);
        ace_fault_arm(0);
        for (int i = 0; i < got; i++) heap_free(w.h, w.owners[i].at);
        heap_close(w.h);
        assert_int_equal(w.committed_bytes, 0);
        free(w.bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random),    cmocka_unit_test(test_scattered), cmocka_unit_test(test_first_fit),
        cmocka_unit_test(test_exhausted), cmocka_unit_test(test_refused),   cmocka_unit_test(test_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
