/*
 * named: the named states in force, so that each checkpoint can write them again. One thread.
 *
 * Keys and values are kept in one block each; a new value that fits reuses the block, so that a
 * counter that is updated for ever allocates once.
 */
#pragma once

#include "core/base/hash.h"
#include "queue/spool.h"

struct named_entry {
    uint8_t *bytes; /* key, then value; NULL = free entry */
    uint16_t key_len;
    uint16_t value_len;
    uint32_t room; /* of bytes; in a free entry: the next free one + 1 */
};

struct named_table {
    struct table index;
    struct named_entry *entries;
    uint32_t count;
    uint32_t capacity;
    uint32_t free_head; /* index + 1; 0 = none */
};

void named_init(struct named_table *table);
void named_fini(struct named_table *table);
/* An empty value removes. 0, or -ENOMEM with nothing changed. */
int named_set(struct named_table *table, const struct log_named *named);
/* The entry at or after *index that is in force; false at the end. */
bool named_at(const struct named_table *table, uint32_t *index, struct log_named *ret_named);
