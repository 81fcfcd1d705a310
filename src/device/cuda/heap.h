/* heap.h - where weights lie in a range of addresses that memory is put behind page by page.
 *
 * First fit, lowest address first. A page has memory while a block covers some of it, and only then. What freed blocks
 * leave between others is given back but for the rest of pages that their neighbours still need; when such rests add up
 * to more than HEAP_WASTE pages, the blocks are moved together. So when a call returns
 *
 *     heap_committed() <= heap_used() + HEAP_WASTE pages,   and during a call no more than HEAP_MOST_WASTE pages,
 *
 * whatever was allocated and freed in whatever order. */
#ifndef ACE_DEVICE_CUDA_HEAP_H
#define ACE_DEVICE_CUDA_HEAP_H

#include <acestep.h>

enum {
    HEAP_ALIGN = 256,
    HEAP_WASTE = 8,
    /* with the two that a new block begins, or the two and a half that are there twice while blocks are moved */
    HEAP_MOST_WASTE = HEAP_WASTE + 5
};

/* The memory behind the range; addresses count from its start. */
typedef struct heap_memory {
    void *context;
    /* Puts memory behind whole pages, or takes it away. */
    bool (*commit)(void *context, size_t at, size_t bytes, ace_error *error);
    void (*decommit)(void *context, size_t at, size_t bytes);
    /* Copies at most `piece` bytes to a lower address; the two ranges may overlap. */
    bool (*copy)(void *context, size_t to, size_t from, size_t bytes, ace_error *error);
    size_t piece; /* at most two pages */
    /* A block of this owner lies elsewhere now. */
    void (*moved)(void *context, void *owner, size_t at);
} heap_memory;

typedef struct heap heap;

/* A range of `bytes`, a multiple of `page`. */
heap *heap_open(size_t bytes, size_t page, const heap_memory *memory, ace_error *error);
void heap_close(heap *h); /* takes the memory of what is still allocated away, too; NULL is allowed */

/* A block, aligned to HEAP_ALIGN, that takes its bytes rounded up to that. False when the memory or the range is
 * exhausted; nothing has changed then. */
bool heap_alloc(heap *h, size_t bytes, const char *what, size_t *at, ace_error *error);
void heap_own(heap *h, size_t at, void *owner); /* who is told when the block moves; NULL: nobody */
void heap_free(heap *h, size_t at);

size_t heap_used(const heap *h);      /* bytes of all blocks */
size_t heap_committed(const heap *h); /* bytes with memory behind them */

/* False with the cause when memory that was given back a moment before could not be had again while blocks were moved:
 * their contents are lost, and nothing can be allocated, until the last block has been freed. */
bool heap_ok(const heap *h, ace_error *error);

#endif
