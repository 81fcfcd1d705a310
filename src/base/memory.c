#include "base/memory.h"

#include "base/error.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Test instrumentation, and the only mutable state of the library that no object owns. */
static atomic_long fault_at, fault_count;

long ace_fault_arm(long n)
{
    long counted = atomic_exchange(&fault_count, 0);
    atomic_store(&fault_at, n);
    return counted;
}

bool ace_fault_hit(void)
{
    long call = atomic_fetch_add(&fault_count, 1) + 1;
    return call == atomic_load(&fault_at);
}

void *ace_realloc(void *block, size_t count, size_t size, const char *what, ace_error *error)
{
    size_t bytes = SIZE_MAX;
    void *grown = NULL;
    if (ace_mul_size(count, size, &bytes) && !ace_fault_hit()) grown = realloc(block, bytes ? bytes : 1);
    if (!grown) ace_fail_memory(error, what, bytes);
    return grown;
}

void *ace_calloc(size_t count, size_t size, const char *what, ace_error *error)
{
    void *block = ace_fault_hit() ? NULL : calloc(count ? count : 1, size ? size : 1);
    size_t bytes = SIZE_MAX;
    ace_mul_size(count, size, &bytes);
    if (!block) ace_fail_memory(error, what, bytes);
    return block;
}

char *ace_strdup(const char *text, ace_error *error)
{
    size_t bytes = strlen(text) + 1;
    char *copy = ace_calloc(bytes, 1, "a string", error);
    if (copy) memcpy(copy, text, bytes);
    return copy;
}

void *ace_alloc_aligned(size_t bytes, size_t alignment, const char *what, ace_error *error)
{
    void *block = NULL;
    if (ace_fault_hit() || posix_memalign(&block, alignment, bytes ? bytes : 1) != 0) {
        ace_fail_memory(error, what, bytes);
        return NULL;
    }
    return block;
}
