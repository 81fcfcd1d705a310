#include "base/pool.h"

#include "base/error.h"
#include "base/memory.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

/* Workers spin this often before they sleep: the gaps between the operations of a step are shorter than a wake-up. */
enum { SPINS = 4000 };

typedef struct loop {
    void (*task)(void *context, int64_t index, int worker);
    void *context;
    const atomic_bool *stop;
    int64_t count;
    atomic_int_fast64_t next;
} loop;

struct ace_pool {
    int threads, started;
    pthread_t *handles;
    struct worker *workers;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    atomic_uint generation; /* rises when a loop is posted */
    atomic_int busy;        /* workers still inside the current loop */
    atomic_bool closing;
    loop loop;
};

struct worker {
    ace_pool *pool;
    int index;
};

int ace_cpu_count(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    FILE *quota = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (quota) {
        double limit, period;
        if (fscanf(quota, "%lf %lf", &limit, &period) == 2 && period > 0 && limit / period < count)
            count = (int)(limit / period + 0.5);
        fclose(quota);
    }
    return count < 1 ? 1 : count;
}

static void drain(loop *l, int worker)
{
    while (!(l->stop && atomic_load_explicit(l->stop, memory_order_relaxed))) {
        int64_t index = atomic_fetch_add_explicit(&l->next, 1, memory_order_relaxed);
        if (index >= l->count) break;
        l->task(l->context, index, worker);
    }
}

static void *worker_main(void *argument)
{
    struct worker *self = argument;
    ace_pool *pool = self->pool;
    unsigned seen = 0;
    for (;;) {
        for (int i = 0; i < SPINS && atomic_load(&pool->generation) == seen && !atomic_load(&pool->closing); i++)
            __builtin_ia32_pause();
        pthread_mutex_lock(&pool->lock);
        while (atomic_load(&pool->generation) == seen && !atomic_load(&pool->closing))
            pthread_cond_wait(&pool->work, &pool->lock);
        seen = atomic_load(&pool->generation);
        pthread_mutex_unlock(&pool->lock);
        if (atomic_load(&pool->closing)) return NULL;
        drain(&pool->loop, self->index);
        if (atomic_fetch_sub(&pool->busy, 1) == 1) {
            pthread_mutex_lock(&pool->lock);
            pthread_cond_signal(&pool->done);
            pthread_mutex_unlock(&pool->lock);
        }
    }
}

ace_pool *ace_pool_open(int threads, ace_error *error)
{
    if (threads <= 0) threads = ace_cpu_count();
    ace_pool *pool = ace_calloc(1, sizeof *pool, "a thread pool", error);
    if (!pool) return NULL;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);
    pool->threads = threads;
    pool->handles = ace_calloc((size_t)threads, sizeof *pool->handles, "thread handles", error);
    pool->workers = ace_calloc((size_t)threads, sizeof *pool->workers, "thread handles", error);
    if (!pool->handles || !pool->workers) {
        ace_pool_close(pool);
        return NULL;
    }
    /* Signals go to the threads of the program, never to a worker. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    bool ok = true;
    for (int i = 1; i < threads && ok; i++) {
        pool->workers[i] = (struct worker){pool, i};
        ok = pthread_create(&pool->handles[i], NULL, worker_main, &pool->workers[i]) == 0;
        if (ok) pool->started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!ok) {
        ace_fail(error, ACE_ERROR_MEMORY, "cannot start %d threads: ask for fewer with --threads", threads);
        ace_pool_close(pool);
        return NULL;
    }
    return pool;
}

void ace_pool_close(ace_pool *pool)
{
    if (!pool) return;
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->closing, true);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 1; i <= pool->started; i++) pthread_join(pool->handles[i], NULL);
    pthread_cond_destroy(&pool->work);
    pthread_cond_destroy(&pool->done);
    pthread_mutex_destroy(&pool->lock);
    free(pool->handles);
    free(pool->workers);
    free(pool);
}

int ace_pool_threads(const ace_pool *pool)
{
    return pool->threads;
}

void ace_pool_run(ace_pool *pool, int64_t count, void (*task)(void *, int64_t, int), void *context,
                  const atomic_bool *stop)
{
    loop *l = &pool->loop;
    l->task = task;
    l->context = context;
    l->stop = stop;
    l->count = count;
    atomic_store(&l->next, 0);
    if (pool->threads == 1 || count <= 1) {
        drain(l, 0);
        return;
    }
    atomic_store(&pool->busy, pool->threads - 1);
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->generation, 1);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    drain(l, 0);
    for (int i = 0; i < SPINS && atomic_load(&pool->busy) > 0; i++) __builtin_ia32_pause();
    pthread_mutex_lock(&pool->lock);
    while (atomic_load(&pool->busy) > 0) pthread_cond_wait(&pool->done, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}
