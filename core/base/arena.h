/*
 * arena: memory that is given out in pieces and freed all at once.
 *
 * For what is built once and then only read: configuration snapshots, start-up tables. Blocks come
 * from mem_alloc (fatal when short: arenas are filled at boot or reload, not in a turn). One
 * thread while filling; any thread may read afterwards.
 */
#pragma once

#include "core/base/slice.h"

struct arena {
    struct arena_block *blocks;
    size_t used_bytes;
};

void arena_init(struct arena *arena);
void arena_fini(struct arena *arena);
/* Zeroed, aligned to 16. */
void *arena_alloc(struct arena *arena, size_t bytes);
/* NUL-terminated copy; the slice's length does not count the NUL. */
struct slice arena_copy(struct arena *arena, struct slice s);
char *arena_strdup(struct arena *arena, const char *text);
