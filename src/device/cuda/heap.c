#include "device/cuda/heap.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

typedef struct block {
    size_t at, bytes;
    void *owner;
} block;

struct heap {
    heap_memory memory;
    size_t range, page;
    block *blocks; /* by address */
    size_t count, capacity;
    bool *has_memory; /* of each page */
    size_t top;       /* pages from here on have none */
    size_t used, committed;
    ace_error loss; /* why contents are lost */
};

heap *heap_open(size_t bytes, size_t page, const heap_memory *memory, ace_error *error)
{
    static const char what[] = "the book of the GPU's memory";
    heap *h = ace_calloc(1, sizeof *h, what, error);
    if (!h) return NULL;
    h->memory = *memory;
    h->range = bytes;
    h->page = page;
    h->has_memory = ace_calloc(bytes / page, sizeof *h->has_memory, what, error);
    if (h->has_memory) return h;
    heap_close(h);
    return NULL;
}

size_t heap_used(const heap *h)
{
    return h->used;
}

size_t heap_committed(const heap *h)
{
    return h->committed;
}

bool heap_ok(const heap *h, ace_error *error)
{
    if (h->loss.status == ACE_OK) return true;
    return ace_fail(error, ACE_ERROR_DEVICE,
                    "weights were lost while they were moved in the GPU's memory (%s): restart the program",
                    h->loss.message);
}

static size_t up(size_t n, size_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

/* ---- pages --------------------------------------------------------------------------------------------------- */

/* The first page from `page` on, before `end`, whose state is `state`; `end` when there is none. */
static size_t next_page(const heap *h, size_t page, size_t end, bool state)
{
    while (page < end && h->has_memory[page] != state) page++;
    return page;
}

/* Takes memory away from the pages wholly within [first, end). */
static void take_away(heap *h, size_t first, size_t end)
{
    size_t last = end / h->page < h->top ? end / h->page : h->top;
    for (size_t page = next_page(h, up(first, h->page) / h->page, last, true); page < last;) {
        size_t stop = next_page(h, page, last, false);
        h->memory.decommit(h->memory.context, page * h->page, (stop - page) * h->page);
        memset(h->has_memory + page, 0, stop - page);
        h->committed -= (stop - page) * h->page;
        page = next_page(h, stop, last, true);
    }
    while (h->top > 0 && !h->has_memory[h->top - 1]) h->top--;
}

/* Sees to memory behind all of [first, end). */
static bool cover(heap *h, size_t first, size_t end, ace_error *error)
{
    size_t last = up(end, h->page) / h->page;
    for (size_t page = next_page(h, first / h->page, last, false); page < last;) {
        size_t stop = next_page(h, page, last, true);
        if (!h->memory.commit(h->memory.context, page * h->page, (stop - page) * h->page, error)) return false;
        memset(h->has_memory + page, 1, stop - page);
        if (stop > h->top) h->top = stop;
        h->committed += (stop - page) * h->page;
        page = next_page(h, stop, last, false);
    }
    return true;
}

/* ---- blocks -------------------------------------------------------------------------------------------------- */

static size_t end_of(const heap *h, size_t count)
{
    return count ? h->blocks[count - 1].at + h->blocks[count - 1].bytes : 0;
}

/* Where the block behind the first `count` ones begins. */
static size_t start_of(const heap *h, size_t count)
{
    return count < h->count ? h->blocks[count].at : h->range;
}

/* The first place between blocks for so many bytes: behind the first *count ones. */
static bool find_place(const heap *h, size_t bytes, size_t *count)
{
    for (*count = 0; *count <= h->count; ++*count)
        if (start_of(h, *count) - end_of(h, *count) >= bytes) return true;
    return false;
}

static size_t find_block(const heap *h, size_t at)
{
    size_t low = 0, high = h->count;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (h->blocks[middle].at <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* ---- moving together ----------------------------------------------------------------------------------------- */

/* Moves one block down to `to`, piece by piece: memory that has been left is given back before more is taken. A failure
 * before the first piece leaves all as it was. */
static bool move_block(heap *h, size_t index, size_t to, ace_error *error)
{
    block *b = &h->blocks[index];
    ace_error cause = {0};
    for (size_t done = 0; done < b->bytes;) {
        size_t left = b->bytes - done, piece = left < h->memory.piece ? left : h->memory.piece;
        bool covered = cover(h, to + done, to + done + piece, &cause);
        if (!covered || !h->memory.copy(h->memory.context, to + done, b->at + done, piece, &cause)) {
            if (!covered) take_away(h, to + done, b->at + done);
            if (covered || done > 0) h->loss = cause;
            return ace_fail(error, cause.status, "%s", cause.message);
        }
        done += piece;
        take_away(h, to + done, done < b->bytes ? b->at + done : start_of(h, index + 1));
    }
    b->at = to;
    if (b->owner) h->memory.moved(h->memory.context, b->owner, to);
    return true;
}

static bool move_together(heap *h, ace_error *error)
{
    for (size_t i = 0; i < h->count; i++) {
        size_t to = end_of(h, i);
        if (h->blocks[i].at != to && !move_block(h, i, to, error)) return false;
    }
    return true;
}

static bool is_wasteful(const heap *h)
{
    return h->committed > h->used + HEAP_WASTE * h->page;
}

/* ---- allocating ---------------------------------------------------------------------------------------------- */

static bool make_room(heap *h, ace_error *error)
{
    if (h->count < h->capacity) return true;
    size_t capacity = h->capacity ? 2 * h->capacity : 64;
    block *grown = ace_realloc(h->blocks, capacity, sizeof *grown, "the book of the GPU's memory", error);
    if (!grown) return false;
    h->blocks = grown;
    h->capacity = capacity;
    return true;
}

static bool exhausted(const char *what, size_t bytes, ace_error *error)
{
    return ace_fail(error, ACE_ERROR_MEMORY, "%s: no %zu bytes of the GPU's addresses are left for it", what, bytes);
}

bool heap_alloc(heap *h, size_t bytes, const char *what, size_t *at, ace_error *error)
{
    size_t padded = up(bytes, HEAP_ALIGN), index;
    if (!heap_ok(h, error)) return false;
    if (padded < bytes || padded > h->range - h->used) return exhausted(what, bytes, error);
    if (!make_room(h, error)) return false;
    if (!find_place(h, padded, &index) && (!move_together(h, error) || !find_place(h, padded, &index)))
        return exhausted(what, bytes, error);
    size_t start = end_of(h, index), next = start_of(h, index);
    if (!cover(h, start, start + padded, error)) {
        take_away(h, start, next);
        return false;
    }
    memmove(h->blocks + index + 1, h->blocks + index, (h->count - index) * sizeof *h->blocks);
    h->blocks[index] = (block){start, padded, NULL};
    h->count++;
    h->used += padded;
    if (is_wasteful(h) && !move_together(h, error)) {
        heap_free(h, h->blocks[index].at);
        return false;
    }
    *at = h->blocks[index].at;
    return true;
}

void heap_own(heap *h, size_t at, void *owner)
{
    h->blocks[find_block(h, at)].owner = owner;
}

void heap_free(heap *h, size_t at)
{
    size_t index = find_block(h, at);
    h->used -= h->blocks[index].bytes;
    h->count--;
    memmove(h->blocks + index, h->blocks + index + 1, (h->count - index) * sizeof *h->blocks);
    take_away(h, end_of(h, index), start_of(h, index));
    if (h->count == 0) h->loss = (ace_error){0};
    if (heap_ok(h, NULL) && is_wasteful(h)) move_together(h, NULL); /* what is lost, heap_ok() tells */
}

void heap_close(heap *h)
{
    if (!h) return;
    h->count = 0;
    if (h->has_memory) take_away(h, 0, h->range);
    free(h->has_memory);
    free(h->blocks);
    free(h);
}
