/* meanwhile.h - what a core does while its matrix unit multiplies: after every step it asks for memory that is read
 * before long, and works a little on something else. */
#ifndef ACE_DEVICE_CPU_MEANWHILE_H
#define ACE_DEVICE_CPU_MEANWHILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CPU_LINE = 64, CPU_PAGE = 4096 }; /* bytes */

/* Memory to ask for: `lines` lines at a time, the first of them at `from` and each `apart` bytes after the one before;
 * the next time `advance` bytes on. `times` times in `steps` steps, evenly. All zero: none. */
typedef struct cpu_requests {
    const char *from;
    ptrdiff_t apart, advance;
    int64_t lines, times, steps, credit;
} cpu_requests;

/* `bytes` from `from` on, within so many steps: a line of each of their pages, then the next line of each, and so on.
 * In a page of which the processor has seen a few lines it goes on by itself, so that most lines are on their way
 * before they are asked for. One after the other they would all have to wait, each in one of the few places that what
 * is loaded from the second-level cache comes through, too. */
static inline cpu_requests cpu_ask_for_pages(const void *from, int64_t bytes, int64_t steps)
{
    return (cpu_requests){.from = from,
                          .apart = CPU_PAGE,
                          .advance = CPU_LINE,
                          .lines = (bytes + CPU_PAGE - 1) / CPU_PAGE,
                          .times = CPU_PAGE / CPU_LINE,
                          .steps = steps};
}

/* Pieces of work, of which `count` shall be done in `steps` steps, evenly. All zero: none. */
typedef struct cpu_pieces {
    void (*finish)(void *context, int64_t piece);
    void *context;
    int64_t count, steps, done, credit;
} cpu_pieces;

typedef struct cpu_meanwhile {
    cpu_requests soon; /* into the second-level cache */
    cpu_pieces work;
} cpu_meanwhile;

/* After a step. */
static inline void cpu_do_meanwhile(cpu_meanwhile *m)
{
    cpu_requests *r = &m->soon;
    for (r->credit += r->times; r->lines > 0 && r->credit >= r->steps; r->credit -= r->steps, r->from += r->advance)
        for (int64_t line = 0; line < r->lines; line++) __builtin_prefetch(r->from + line * r->apart, 0, 2);
    cpu_pieces *w = &m->work;
    for (w->credit += w->count; w->done < w->count && w->credit >= w->steps; w->credit -= w->steps)
        w->finish(w->context, w->done++);
}

/* What is left of the pieces, at once. */
static inline void cpu_finish_pieces(cpu_pieces *w)
{
    while (w->done < w->count) w->finish(w->context, w->done++);
}

#endif
