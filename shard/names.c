#include "shard/names.h"

#include "core/base/must.h"

/* Object sizes of the byte slabs; the last one holds every name there can be. */
static const uint32_t class_bytes[3] = {32, 64, 256};

struct name_entry {
    uint64_t hash;
    uint8_t *bytes;
    uint32_t refs;
    uint32_t bytes_index;
    uint8_t len;
    uint8_t class;
};

void names_init(struct names *names, uint32_t count_max)
{
    slab_init(&names->entries, sizeof(struct name_entry), count_max);
    for (int i = 0; i < 3; i++)
        slab_init(&names->bytes[i], class_bytes[i], count_max);
    table_init(&names->table);
}

void names_fini(struct names *names)
{
    table_fini(&names->table);
    for (int i = 0; i < 3; i++)
        slab_fini(&names->bytes[i]);
    slab_fini(&names->entries);
}

static bool name_matches(uint32_t id, const void *key, void *context)
{
    const struct name_entry *entry = slab_at(&((struct names *)context)->entries, id);

    return slice_equal(slice_of(entry->bytes, entry->len), *(const struct slice *)key);
}

static uint32_t name_create(struct names *names, struct slice name, uint64_t hash)
{
    uint8_t class = name.len <= class_bytes[0] ? 0 : name.len <= class_bytes[1] ? 1 : 2;
    uint32_t id, bytes_index;
    struct name_entry *entry = slab_alloc(&names->entries, &id);
    uint8_t *bytes;

    if (!entry)
        return NAME_NONE;
    bytes = slab_alloc(&names->bytes[class], &bytes_index);
    if (!bytes || !table_insert(&names->table, hash, id)) {
        if (bytes)
            slab_free(&names->bytes[class], bytes_index);
        slab_free(&names->entries, id);
        return NAME_NONE;
    }
    memcpy(bytes, name.data, name.len);
    entry->hash = hash;
    entry->bytes = bytes;
    entry->bytes_index = bytes_index;
    entry->len = (uint8_t)name.len;
    entry->class = class;
    entry->refs = 1;
    return id;
}

uint32_t names_get(struct names *names, struct slice name)
{
    uint64_t hash;
    uint32_t id;

    if (name.len > NAMES_BYTES_MAX)
        return NAME_NONE;
    hash = hash_bytes(name.data, name.len);
    id = table_find(&names->table, hash, name_matches, &name, names);
    if (id == TABLE_NONE)
        return name_create(names, name, hash);
    names_ref(names, id);
    return id;
}

void names_ref(struct names *names, uint32_t id)
{
    struct name_entry *entry = slab_at(&names->entries, id);

    must(entry->refs > 0);
    entry->refs++;
}

void names_put(struct names *names, uint32_t id)
{
    struct name_entry *entry = slab_at(&names->entries, id);

    must(entry->refs > 0);
    if (--entry->refs > 0)
        return;
    table_remove(&names->table, entry->hash, id);
    slab_free(&names->bytes[entry->class], entry->bytes_index);
    slab_free(&names->entries, id);
}

struct slice names_text(const struct names *names, uint32_t id)
{
    const struct name_entry *entry = slab_at(&names->entries, id);

    return slice_of(entry->bytes, entry->len);
}
