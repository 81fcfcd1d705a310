#include "base/pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { TASKS = 1000 };

typedef struct counts {
    atomic_int runs[TASKS];
    atomic_bool stop;
    int64_t stop_at;
    int threads;
    atomic_int bad_worker;
} counts;

static void count_task(void *context, int64_t index, int worker)
{
    counts *c = context;
    atomic_fetch_add(&c->runs[index], 1);
    if (worker < 0 || worker >= c->threads) atomic_store(&c->bad_worker, 1);
    if (c->stop_at && index >= c->stop_at) atomic_store(&c->stop, true);
}

static void every_task_runs_once(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 5; threads++) {
        ace_error error = {0};
        ace_pool *pool = ace_pool_open(threads, &error);
        assert_non_null(pool);
        assert_int_equal(ace_pool_threads(pool), threads);
        for (int repeat = 0; repeat < 300; repeat++) {
            counts *c = calloc(1, sizeof *c);
            c->threads = threads;
            int64_t tasks = repeat % 7 == 0 ? TASKS : repeat % 7;
            ace_pool_run(pool, tasks, count_task, c, NULL);
            for (int64_t i = 0; i < TASKS; i++) assert_int_equal(atomic_load(&c->runs[i]), i < tasks ? 1 : 0);
            assert_int_equal(atomic_load(&c->bad_worker), 0);
            free(c);
        }
        ace_pool_close(pool);
    }
}

static void a_stop_skips_what_has_not_started(void **state)
{
    (void)state;
    ace_error error = {0};
    ace_pool *pool = ace_pool_open(2, &error);
    counts *c = calloc(1, sizeof *c);
    c->threads = 2;
    c->stop_at = 10;
    ace_pool_run(pool, TASKS, count_task, c, &c->stop);
    int ran = 0;
    for (int i = 0; i < TASKS; i++) ran += atomic_load(&c->runs[i]);
    assert_in_range(ran, 10, 20);
    ace_pool_close(pool);
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_task_runs_once),
        cmocka_unit_test(a_stop_skips_what_has_not_started),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
