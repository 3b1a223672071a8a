#include "queue/named.h"

#include "core/base/mem.h"
#include "core/base/must.h"

#include <errno.h>

void named_init(struct named_table *table)
{
    memset(table, 0, sizeof(*table));
    table_init(&table->index);
}

void named_fini(struct named_table *table)
{
    for (uint32_t i = 0; i < table->count; i++)
        mem_free(table->entries[i].bytes);
    mem_free(table->entries);
    table_fini(&table->index);
}

static bool key_matches(uint32_t value, const void *key, void *context)
{
    const struct named_table *table = context;
    const struct named_entry *entry = &table->entries[value];

    return slice_equal(slice_of(entry->bytes, entry->key_len), *(const struct slice *)key);
}

static void entry_free(struct named_table *table, uint32_t at)
{
    struct named_entry *entry = &table->entries[at];

    mem_free(entry->bytes);
    memset(entry, 0, sizeof(*entry));
    entry->room = table->free_head;
    table->free_head = at + 1;
}

static void entry_remove(struct named_table *table, uint32_t at, uint64_t hash)
{
    must(table->entries[at].bytes != NULL);
    table_remove(&table->index, hash, at);
    entry_free(table, at);
}

/* An unused entry, growing the array when there is none. */
static int entry_new(struct named_table *table, uint32_t *ret_at)
{
    struct named_entry *entries;
    uint32_t capacity = table->capacity == 0 ? 64 : table->capacity * 2;

    if (table->free_head != 0) {
        *ret_at = table->free_head - 1;
        table->free_head = table->entries[*ret_at].room;
        table->entries[*ret_at].room = 0;
        return 0;
    }
    if (table->count == table->capacity) {
        entries = mem_try_alloc(capacity * sizeof(*entries));
        if (entries == NULL)
            return -ENOMEM;
        if (table->count > 0)
            memcpy(entries, table->entries, table->count * sizeof(*entries));
        mem_free(table->entries);
        table->entries = entries;
        table->capacity = capacity;
    }
    *ret_at = table->count++;
    return 0;
}

static int value_replace(struct named_entry *entry, const struct log_named *named)
{
    uint32_t need = (uint32_t)(named->key.len + named->value.len);

    if (entry->bytes == NULL || need > entry->room) {
        uint8_t *bytes = mem_try_alloc(need + 16);

        if (bytes == NULL)
            return -ENOMEM;
        memcpy(bytes, named->key.data, named->key.len);
        mem_free(entry->bytes);
        entry->bytes = bytes;
        entry->room = need + 16;
        entry->key_len = (uint16_t)named->key.len;
    }
    memcpy(entry->bytes + entry->key_len, named->value.data, named->value.len);
    entry->value_len = (uint16_t)named->value.len;
    return 0;
}

int named_set(struct named_table *table, const struct log_named *named)
{
    uint64_t hash = hash_bytes(named->key.data, named->key.len);
    uint32_t at = table_find(&table->index, hash, key_matches, &named->key, table);
    int result;

    must(named->key.len > 0);
    if (at != TABLE_NONE && named->value.len == 0) {
        entry_remove(table, at, hash);
        return 0;
    }
    if (at != TABLE_NONE)
        return value_replace(&table->entries[at], named);
    if (named->value.len == 0)
        return 0;
    result = entry_new(table, &at);
    if (result < 0)
        return result;
    result = value_replace(&table->entries[at], named);
    if (result == 0 && !table_insert(&table->index, hash, at))
        result = -ENOMEM;
    if (result < 0)
        entry_free(table, at);
    return result;
}

bool named_at(const struct named_table *table, uint32_t *index, struct log_named *ret_named)
{
    for (; *index < table->count; (*index)++) {
        const struct named_entry *entry = &table->entries[*index];

        if (entry->bytes == NULL)
            continue;
        ret_named->key = slice_of(entry->bytes, entry->key_len);
        ret_named->value = slice_of(entry->bytes + entry->key_len, entry->value_len);
        return true;
    }
    return false;
}
