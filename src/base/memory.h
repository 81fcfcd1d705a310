/* memory.h - host memory, and the counted points at which a test may make the system fail. */
#ifndef ACE_BASE_MEMORY_H
#define ACE_BASE_MEMORY_H

#include <acestep.h>

/* *product = a * b; false (and *product untouched) on overflow. */
static inline bool ace_mul_size(size_t a, size_t b, size_t *product)
{
    size_t p;
    if (__builtin_mul_overflow(a, b, &p)) return false;
    *product = p;
    return true;
}

/* `count` zeroed elements of `size` bytes. NULL with an error naming `what` when there is no memory or the size
 * overflows. A count of zero gives a valid pointer. Release with free(). */
void *ace_calloc(size_t count, size_t size, const char *what, ace_error *error);

/* realloc() with the same checks; on failure the old block is untouched and NULL is returned. */
void *ace_realloc(void *block, size_t count, size_t size, const char *what, ace_error *error);

/* A copy of `text`; NULL with an error when there is no memory. */
char *ace_strdup(const char *text, ace_error *error);

/* Uninitialised memory aligned to `alignment` (a power of two >= sizeof(void *)). Release with free(). */
void *ace_alloc_aligned(size_t bytes, size_t alignment, const char *what, ace_error *error);

/* Fault injection for tests: the n-th call from now (n >= 1) to a memory or file function of this room fails as if
 * the system had refused it; 0 turns it off. Returns the number of calls counted since the last arming. The program
 * itself never arms it. */
long ace_fault_arm(long n);

/* True when the armed fault fires at this call. Used by this room only. */
bool ace_fault_hit(void);

#endif
