/*
 * mem: the only door to the heap, counted per thread.
 *
 * Every allocation of ringpost goes through here, so that a test can assert that a steady turn
 * makes none. Failure of mem_alloc at boot is fatal with a message (an installation too small to
 * start); what may grow while running asks mem_try_alloc and copes with NULL. Memory is zeroed.
 * Blocks may be freed on another thread than the one that allocated them.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

void *mem_alloc(size_t bytes);                           /* never NULL */
void *mem_try_alloc(size_t bytes);                       /* NULL when the system has none */
void *mem_alloc_aligned(size_t bytes, size_t alignment); /* never NULL; free with mem_free */
char *mem_strdup(const char *text);
void mem_free(void *block); /* NULL is fine */

/* Allocations made by the calling thread since its start. */
uint64_t mem_alloc_count(void);
