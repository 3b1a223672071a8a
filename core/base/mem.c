/* The plain malloc family is called here; jemalloc takes over its symbols when it is linked. */
#include "core/base/mem.h"

#include "core/base/must.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static _Thread_local uint64_t alloc_count;

static _Noreturn void mem_short(size_t bytes)
{
    dprintf(2, "out of memory: %zu bytes are not to be had\n", bytes);
    abort();
}

void *mem_try_alloc(size_t bytes)
{
    alloc_count++;
    /* calloc(0) may answer NULL, which would read as a shortage. */
    return calloc(1, bytes > 0 ? bytes : 1);
}

void *mem_alloc(size_t bytes)
{
    void *block = mem_try_alloc(bytes);

    if (block == NULL)
        mem_short(bytes);
    return block;
}

void *mem_alloc_aligned(size_t bytes, size_t alignment)
{
    void *block = NULL;

    must(alignment != 0 && (alignment & (alignment - 1)) == 0);
    if (alignment < sizeof(void *))
        alignment = sizeof(void *);
    if (bytes == 0)
        bytes = 1;
    alloc_count++;
    if (posix_memalign(&block, alignment, bytes) != 0)
        mem_short(bytes);
    memset(block, 0, bytes);
    return block;
}

char *mem_strdup(const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = mem_alloc(bytes);

    memcpy(copy, text, bytes);
    return copy;
}

void *mem_try_grow(void *block, size_t bytes)
{
    must(bytes > 0);
    alloc_count++;
    return realloc(block, bytes);
}

void mem_free(void *block)
{
    free(block);
}

void mem_drop(void *block, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = ((uintptr_t)block + page - 1) & ~(page - 1);
    uintptr_t end = ((uintptr_t)block + bytes) & ~(page - 1);

    /* A refusal costs memory and nothing else. */
    if (first < end)
        madvise((void *)first, end - first, MADV_DONTNEED);
}

/* jemalloc's own door, where it is linked. */
extern int mallctl(const char *name, void *old, size_t *old_bytes, void *set, size_t set_bytes)
    __attribute__((weak));

/* Stands for every arena; MALLCTL_ARENAS_ALL in jemalloc's header. */
#define PURGE_ALL "arena.4096.purge"

void mem_give_back(void)
{
    if (mallctl)
        mallctl(PURGE_ALL, NULL, NULL, NULL, 0);
}

uint64_t mem_alloc_count(void)
{
    return alloc_count;
}
