/*
 * core/base/mem.h for the simulator: every block belongs to the life that allocated it.
 *
 * Linked instead of core/base/mem.c. Each block carries its size and hangs in the list of its tag,
 * so that a crash can free a whole life at once. Freed bytes are overwritten, at least the first
 * ones: what reads them afterwards shall not find what it hopes for.
 */
#include "core/base/mem.h"

#include "core/base/must.h"
#include "tests/sim/sim_int.h"

#include <stdio.h>
#include <string.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
/* A life that is cut off leaves slabs whose free objects are poisoned. */
#define UNPOISON(at, bytes) __asan_unpoison_memory_region(at, bytes)
#else
#define UNPOISON(at, bytes) ((void)(at), (void)(bytes))
#endif

/* Read by jemalloc: pages once taken are kept. A history takes and frees the same few blocks for
 * every life, and to give them back and fault them in again took three quarters of some tests'
 * time. */
extern const char *malloc_conf;
const char *malloc_conf = "dirty_decay_ms:-1,muzzy_decay_ms:-1";

#define POISON_BYTES_MAX 4096
#define BLOCK_ALIGNMENT  16
#define HEADER_LIVE      0x6c697665u
#define HEADER_DEAD      0x64656164u

/* Directly in front of each block. */
struct header {
    struct list link;
    struct sim_mem_tag *tag;
    void *start; /* what the C library knows the block by */
    size_t bytes;
    uint32_t mark;
    uint32_t spare;
};

static _Thread_local uint64_t alloc_count;
static struct sim_mem_tag nobody = {.blocks = {&nobody.blocks, &nobody.blocks}};
static struct sim_mem_tag *current = &nobody;
static bool (*failure)(void *context);
static void *failure_context;

static _Noreturn void mem_short(size_t bytes)
{
    dprintf(2, "out of memory: %zu bytes are not to be had\n", bytes);
    abort();
}

void sim_mem_tag_init(struct sim_mem_tag *tag)
{
    list_init(&tag->blocks);
    tag->block_count = 0;
    tag->byte_count = 0;
}

struct sim_mem_tag *sim_mem_switch(struct sim_mem_tag *tag)
{
    struct sim_mem_tag *before = current;

    current = tag != NULL ? tag : &nobody;
    return before;
}

void sim_mem_set_failure(bool (*fails)(void *context), void *context)
{
    failure = fails;
    failure_context = context;
}

static void *adopt(void *start, size_t lead, size_t bytes)
{
    uint8_t *block = (uint8_t *)start + lead;
    struct header *header = (struct header *)(block - sizeof(*header));

    header->tag = current;
    header->start = start;
    header->bytes = bytes;
    header->mark = HEADER_LIVE;
    list_push_back(&current->blocks, &header->link);
    current->block_count++;
    current->byte_count += bytes;
    return block;
}

/*
 * Zeroed by hand: the C library's calloc takes fresh pages for a large block and gives them back,
 * and a history takes and frees the same few blocks for every life.
 */
static void *alloc(size_t bytes, size_t alignment)
{
    size_t lead = (sizeof(struct header) + alignment - 1) & ~(alignment - 1);
    size_t whole = lead + (bytes > 0 ? bytes : 1);
    void *start = NULL;

    alloc_count++;
    if (posix_memalign(&start, alignment, whole) != 0)
        return NULL;
    memset(start, 0, whole);
    return adopt(start, lead, bytes);
}

void *mem_try_alloc(size_t bytes)
{
    if (failure != NULL && current != &nobody && failure(failure_context))
        return NULL;
    return alloc(bytes, BLOCK_ALIGNMENT);
}

void *mem_alloc(size_t bytes)
{
    void *block = alloc(bytes, BLOCK_ALIGNMENT);

    if (block == NULL)
        mem_short(bytes);
    return block;
}

void *mem_alloc_aligned(size_t bytes, size_t alignment)
{
    void *block;

    must(alignment != 0 && (alignment & (alignment - 1)) == 0);
    block = alloc(bytes, alignment < BLOCK_ALIGNMENT ? BLOCK_ALIGNMENT : alignment);
    if (block == NULL)
        mem_short(bytes);
    return block;
}

char *mem_strdup(const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = mem_alloc(bytes);

    memcpy(copy, text, bytes);
    return copy;
}

static void release(struct header *header)
{
    uint8_t *block = (uint8_t *)(header + 1);

    must(header->mark == HEADER_LIVE);
    list_remove(&header->link);
    header->tag->block_count--;
    header->tag->byte_count -= header->bytes;
    header->mark = HEADER_DEAD;
    UNPOISON(block, header->bytes);
    memset(block, 0xdd, header->bytes < POISON_BYTES_MAX ? header->bytes : POISON_BYTES_MAX);
    free(header->start);
}

void mem_free(void *block)
{
    if (block != NULL)
        release((struct header *)block - 1);
}

/* What is new is marked, so that whoever reads it before writing goes astray in the same way in
 * every run. */
void *mem_try_grow(void *block, size_t bytes)
{
    size_t before = block ? ((struct header *)block - 1)->bytes : 0;
    uint8_t *grown = mem_try_alloc(bytes);

    must(bytes >= before);
    if (grown == NULL)
        return NULL;
    if (before > 0)
        memcpy(grown, block, before);
    memset(grown + before, 0xdd, bytes - before);
    mem_free(block);
    return grown;
}

/* Who still reads what was dropped goes astray in the same way in every run. */
void mem_drop(void *block, size_t bytes)
{
    memset(block, 0xdd, bytes);
}

void mem_give_back(void)
{
}

void sim_mem_free_all(struct sim_mem_tag *tag)
{
    while (!list_empty(&tag->blocks))
        release(container_of(tag->blocks.next, struct header, link));
    must(tag->block_count == 0 && tag->byte_count == 0);
}

uint64_t mem_alloc_count(void)
{
    return alloc_count;
}

void *sim_alloc(size_t bytes)
{
    void *block = calloc(1, bytes > 0 ? bytes : 1);

    if (block == NULL)
        mem_short(bytes);
    return block;
}

void *sim_realloc(void *block, size_t bytes)
{
    block = realloc(block, bytes);
    if (block == NULL)
        mem_short(bytes);
    return block;
}

char *sim_strdup(const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = sim_alloc(bytes);

    memcpy(copy, text, bytes);
    return copy;
}
