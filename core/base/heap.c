#include "core/base/heap.h"

#include "core/base/mem.h"
#include "core/base/must.h"

#include <stddef.h>

#define HEAP_ARITY          4u
#define HEAP_CAPACITY_FIRST 64u

void heap_init(struct heap *heap)
{
    heap->entries = NULL;
    heap->count = 0;
    heap->capacity = 0;
}

void heap_fini(struct heap *heap)
{
    mem_free(heap->entries);
    heap_init(heap);
}

static bool heap_grow(struct heap *heap)
{
    uint32_t capacity = heap->capacity != 0 ? heap->capacity * 2 : HEAP_CAPACITY_FIRST;
    struct heap_entry *entries;

    /* The index arithmetic below stays within 32 bits up to here. */
    if (capacity > UINT32_MAX / HEAP_ARITY)
        return false;
    entries = mem_try_grow(heap->entries, (size_t)capacity * sizeof(*entries));
    if (entries == NULL)
        return false;
    heap->entries = entries;
    heap->capacity = capacity;
    return true;
}

bool heap_reserve(struct heap *heap, uint32_t count)
{
    while (heap->capacity < count)
        if (!heap_grow(heap))
            return false;
    return true;
}

bool heap_push(struct heap *heap, struct heap_entry entry)
{
    uint32_t at;

    if (heap->count == heap->capacity && !heap_grow(heap))
        return false;
    at = heap->count++;
    while (at > 0) {
        uint32_t parent = (at - 1) / HEAP_ARITY;

        if (heap->entries[parent].key <= entry.key)
            break;
        heap->entries[at] = heap->entries[parent];
        at = parent;
    }
    heap->entries[at] = entry;
    return true;
}

static uint32_t least_child(const struct heap *heap, uint32_t first)
{
    uint32_t end = first + HEAP_ARITY < heap->count ? first + HEAP_ARITY : heap->count;
    uint32_t least = first;

    for (uint32_t i = first + 1; i < end; i++) {
        if (heap->entries[i].key < heap->entries[least].key)
            least = i;
    }
    return least;
}

bool heap_pop(struct heap *heap, struct heap_entry *ret_entry)
{
    struct heap_entry last;
    uint32_t at = 0;

    if (heap->count == 0)
        return false;
    *ret_entry = heap->entries[0];
    last = heap->entries[--heap->count];
    while (HEAP_ARITY * at + 1 < heap->count) {
        uint32_t child = least_child(heap, HEAP_ARITY * at + 1);

        if (last.key <= heap->entries[child].key)
            break;
        heap->entries[at] = heap->entries[child];
        at = child;
    }
    heap->entries[at] = last;
    return true;
}

const struct heap_entry *heap_top(const struct heap *heap)
{
    return heap->count > 0 ? &heap->entries[0] : NULL;
}
