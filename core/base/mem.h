/*
 * mem: the only door to the heap, counted per thread.
 *
 * Every allocation of ringpost goes through here, so that a test can assert that a steady turn
 * makes none. Failure of mem_alloc at boot is fatal with a message (an installation too small to
 * start); what may grow while running asks mem_try_alloc and copes with NULL. Memory is zeroed, but
 * for what mem_try_grow adds.
 * Blocks may be freed on another thread than the one that allocated them.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

void *mem_alloc(size_t bytes);                           /* never NULL */
void *mem_try_alloc(size_t bytes);                       /* NULL when the system has none */
void *mem_alloc_aligned(size_t bytes, size_t alignment); /* never NULL; free with mem_free */
char *mem_strdup(const char *text);
/*
 * The block with more room, its content kept and what is new undefined: pages that are never
 * written take no memory. NULL when the system has none; the block is as it was then. NULL is a
 * block of no size.
 */
void *mem_try_grow(void *block, size_t bytes);
void mem_free(void *block); /* NULL is fine */
/* The first len octets of the text with a NUL behind them. */
static inline char *mem_strndup(const void *text, size_t len)
{
    char *copy = mem_alloc(len + 1);

    if (len > 0)
        memcpy(copy, text, len);
    return copy;
}
/* A larger block that begins with the same bytes and is zeroed behind them; never NULL. The old one
 * is freed; NULL is a block of no size. */
static inline void *mem_alloc_larger(void *block, size_t bytes_before, size_t bytes)
{
    void *larger = mem_alloc(bytes);

    if (bytes_before > 0)
        memcpy(larger, block, bytes_before);
    mem_free(block);
    return larger;
}
/*
 * The content of the block is of no use any more: its whole pages go back to the system, and are
 * zeroed or as they were when they are read again. It stays allocated.
 */
void mem_drop(void *block, size_t bytes);
/* What is free goes back to the system now, after something large ended that will not come again.
 * Takes milliseconds: not for a turn. */
void mem_give_back(void);

/* Allocations made by the calling thread since its start. */
uint64_t mem_alloc_count(void);
