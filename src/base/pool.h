/* pool.h - a fixed set of threads that share out the tasks of one loop. */
#ifndef ACE_BASE_POOL_H
#define ACE_BASE_POOL_H

#include <acestep.h>

#include <stdatomic.h>

typedef struct ace_pool ace_pool;

/* `threads` workers, the calling thread among them (so 1 starts none); 0 means the CPUs this process may use. */
ace_pool *ace_pool_open(int threads, ace_error *error);
void ace_pool_close(ace_pool *pool);
int ace_pool_threads(const ace_pool *pool);

/* CPUs that the affinity mask and the cgroup quota leave to this process, at least 1. */
int ace_cpu_count(void);

/* Calls task(context, index, worker) once for every index in [0, count), on all workers, and returns when all are
 * done. worker is in [0, threads). Which worker gets which index is not determined, so results must not depend on it.
 * When *stop becomes true (NULL: never) the indices that have not started are skipped. Not reentrant. */
void ace_pool_run(ace_pool *pool, int64_t count, void (*task)(void *context, int64_t index, int worker), void *context,
                  const atomic_bool *stop);

#endif
