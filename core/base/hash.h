/*
 * hash: seedless 64-bit hashing of bytes (wyhash-like mixing) and an index table over it.
 *
 * hash_bytes is stable across runs and machines: shard placement depends on it only within one
 * life, but tests and traces want the same answer twice. The table maps a hash to 32-bit values
 * that name objects elsewhere (slab indices); equality is the caller's, by callback. Open
 * addressing, grows by doubling (mem_try_alloc), one thread.
 */
#pragma once

#include "core/base/slice.h"

uint64_t hash_bytes(const void *data, size_t len);
uint64_t hash_bytes_nocase(const void *data, size_t len); /* ASCII letters folded */
uint64_t hash_u64(uint64_t value);
uint64_t hash_combine(uint64_t a, uint64_t b);

struct table {
    struct table_slot *slots;
    uint32_t count;
    uint32_t capacity; /* power of two, 0 before the first insert */
    uint32_t tombstones;
};

#define TABLE_NONE UINT32_MAX

/* True when the object that value names has the key the caller looks for. */
typedef bool table_match_fn(uint32_t value, const void *key, void *context);

void table_init(struct table *table);
void table_fini(struct table *table);
/* The value, or TABLE_NONE. */
uint32_t table_find(const struct table *table, uint64_t hash, table_match_fn *match,
                    const void *key, void *context);
/* The key must not be in the table yet; value < TABLE_NONE - 1. False when memory is short. */
bool table_insert(struct table *table, uint64_t hash, uint32_t value);
/* Removes the entry with exactly this hash and value; must() when absent. */
void table_remove(struct table *table, uint64_t hash, uint32_t value);
/*
 * Walks all values: pass *cursor = 0 first; TABLE_NONE at the end. No inserts meanwhile; removing
 * is fine.
 */
uint32_t table_next(const struct table *table, uint32_t *cursor);
