#include "core/base/hash.h"

#include "core/base/mem.h"
#include "core/base/must.h"

#include <endian.h>

/* Fractions of pi, e, the square root of 2 and the golden ratio: plain odd bit patterns. */
#define MIX_A 0x243f6a8885a308d3ull
#define MIX_B 0xb7e151628aed2a6bull
#define MIX_C 0x6a09e667f3bcc909ull
#define MIX_D 0x9e3779b97f4a7c15ull

static inline uint64_t multiply_fold(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Eight letters at once: a byte of the mask has its top bit set where 'A' <= byte <= 'Z'. */
static inline uint64_t fold_case(uint64_t word)
{
    const uint64_t ones = 0x0101010101010101ull;
    uint64_t low = word & (ones * 0x7f);
    uint64_t above_z = low + ones * (0x7f - 'Z');
    uint64_t from_a = low + ones * (0x80 - 'A');
    uint64_t upper = (from_a ^ above_z) & ~word & (ones * 0x80);

    return word | (upper >> 2);
}

static inline uint64_t load8(const uint8_t *at, bool nocase)
{
    uint64_t word;

    memcpy(&word, at, sizeof(word));
    word = le64toh(word);
    return nocase ? fold_case(word) : word;
}

/* 1 to 7 bytes, each of which lands in the word. */
static inline uint64_t load_short(const uint8_t *at, size_t len, bool nocase)
{
    uint64_t word;

    if (len >= 4) {
        uint32_t first;
        uint32_t last;

        memcpy(&first, at, sizeof(first));
        memcpy(&last, at + len - 4, sizeof(last));
        word = (uint64_t)le32toh(first) << 32 | le32toh(last);
    } else {
        word = (uint64_t)at[0] << 16 | (uint64_t)at[len / 2] << 8 | at[len - 1];
    }
    return nocase ? fold_case(word) : word;
}

static inline __attribute__((always_inline)) uint64_t hash_any(const void *data, size_t len,
                                                               bool nocase)
{
    const uint8_t *at = data;
    uint64_t hash = multiply_fold(len ^ MIX_A, MIX_B);
    uint64_t a = 0;
    uint64_t b = 0;
    size_t left = len;

    while (left >= 16) {
        hash = multiply_fold(load8(at, nocase) ^ MIX_C, load8(at + 8, nocase) ^ hash);
        at += 16;
        left -= 16;
    }
    if (left >= 8) {
        /* Two words that may overlap cover 8 to 15 bytes. */
        a = load8(at, nocase);
        b = load8(at + left - 8, nocase);
    } else if (left > 0) {
        a = load_short(at, left, nocase);
    }
    return multiply_fold(multiply_fold(a ^ MIX_D, b ^ hash) ^ MIX_A, hash ^ MIX_B);
}

uint64_t hash_bytes(const void *data, size_t len)
{
    return hash_any(data, len, false);
}

uint64_t hash_bytes_nocase(const void *data, size_t len)
{
    return hash_any(data, len, true);
}

/* A bijection, so different values never collide (the finalizer of splitmix64). */
uint64_t hash_u64(uint64_t value)
{
    value += MIX_D;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ull;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebull;
    return value ^ (value >> 31);
}

uint64_t hash_combine(uint64_t a, uint64_t b)
{
    return hash_u64(hash_u64(a) + b);
}

/*
 * The table probes slot by slot. Taking an entry out leaves a tombstone, unless the next slot is
 * empty; thus a walk with table_next survives removals.
 */
struct table_slot {
    uint32_t hash;
    uint32_t value;
};

#define SLOT_EMPTY         TABLE_NONE
#define SLOT_TOMBSTONE     (TABLE_NONE - 1)
#define TABLE_CAPACITY_MIN 16u
#define TABLE_CAPACITY_MAX (1u << 31)

static uint32_t hash_short(uint64_t hash)
{
    return (uint32_t)(hash ^ (hash >> 32));
}

void table_init(struct table *table)
{
    *table = (struct table){0};
}

void table_fini(struct table *table)
{
    mem_free(table->slots);
    table_init(table);
}

uint32_t table_find(const struct table *table, uint64_t hash, table_match_fn *match,
                    const void *key, void *context)
{
    uint32_t mask = table->capacity - 1;
    uint32_t wanted = hash_short(hash);

    if (table->count == 0)
        return TABLE_NONE;
    for (uint32_t at = wanted & mask;; at = (at + 1) & mask) {
        const struct table_slot *slot = &table->slots[at];

        if (slot->value == SLOT_EMPTY)
            return TABLE_NONE;
        if (slot->hash == wanted && slot->value != SLOT_TOMBSTONE &&
            match(slot->value, key, context))
            return slot->value;
    }
}

/* Into the first slot of its way that holds nothing; there always is an empty one. */
static void put(struct table *table, struct table_slot entry)
{
    uint32_t mask = table->capacity - 1;
    uint32_t at = entry.hash & mask;

    while (table->slots[at].value < SLOT_TOMBSTONE)
        at = (at + 1) & mask;
    if (table->slots[at].value == SLOT_TOMBSTONE)
        table->tombstones--;
    table->slots[at] = entry;
}

static bool table_grow(struct table *table)
{
    struct table bigger = {.count = table->count};

    if (table->capacity == TABLE_CAPACITY_MAX)
        return false;
    bigger.capacity = table->capacity != 0 ? table->capacity * 2 : TABLE_CAPACITY_MIN;
    bigger.slots = mem_try_alloc((size_t)bigger.capacity * sizeof(*bigger.slots));
    if (bigger.slots == NULL)
        return false;
    for (uint32_t i = 0; i < bigger.capacity; i++)
        bigger.slots[i].value = SLOT_EMPTY;
    for (uint32_t i = 0; i < table->capacity; i++) {
        if (table->slots[i].value < SLOT_TOMBSTONE)
            put(&bigger, table->slots[i]);
    }
    mem_free(table->slots);
    *table = bigger;
    return true;
}

/*
 * Rids the table of tombstones in place, so that steady coming and going never allocates. The
 * walk starts behind an empty slot, which no entry's way crosses; each entry is taken out and put
 * back at the first gap of its way, at or before where it was.
 */
static void table_purge(struct table *table)
{
    uint32_t mask = table->capacity - 1;
    uint32_t start = 0;

    while (table->slots[start].value != SLOT_EMPTY)
        start++;
    for (uint32_t i = 1; i < table->capacity; i++) {
        struct table_slot *slot = &table->slots[(start + i) & mask];
        struct table_slot entry = *slot;

        slot->value = SLOT_EMPTY;
        if (entry.value < SLOT_TOMBSTONE)
            put(table, entry);
    }
    table->tombstones = 0;
}

/* Whether one more entry leaves the table at most three quarters full, tombstones counted. */
static bool has_room(const struct table *table)
{
    uint64_t occupied = (uint64_t)table->count + table->tombstones + 1;

    return occupied * 4 <= (uint64_t)table->capacity * 3;
}

bool table_insert(struct table *table, uint64_t hash, uint32_t value)
{
    must(value < SLOT_TOMBSTONE);
    if (!has_room(table)) {
        /* Half full of live entries: growing pays. Else the tombstones are what is in the way. */
        bool crowded = table->count >= table->capacity / 2;

        if ((!crowded || !table_grow(table)) && table->tombstones > 0)
            table_purge(table);
        if (!has_room(table))
            return false;
    }
    put(table, (struct table_slot){.hash = hash_short(hash), .value = value});
    table->count++;
    return true;
}

void table_remove(struct table *table, uint64_t hash, uint32_t value)
{
    uint32_t mask = table->capacity - 1;
    uint32_t wanted = hash_short(hash);
    uint32_t at = wanted & mask;

    must(table->count > 0);
    while (table->slots[at].hash != wanted || table->slots[at].value != value) {
        must(table->slots[at].value != SLOT_EMPTY);
        at = (at + 1) & mask;
    }
    table->count--;
    if (table->slots[(at + 1) & mask].value != SLOT_EMPTY) {
        table->slots[at].value = SLOT_TOMBSTONE;
        table->tombstones++;
        return;
    }
    table->slots[at].value = SLOT_EMPTY;
    /* No way leads past an empty slot, so the tombstones right before it have lost their use. */
    for (at = (at - 1) & mask; table->slots[at].value == SLOT_TOMBSTONE; at = (at - 1) & mask) {
        table->slots[at].value = SLOT_EMPTY;
        table->tombstones--;
    }
}

uint32_t table_next(const struct table *table, uint32_t *cursor)
{
    while (*cursor < table->capacity) {
        uint32_t value = table->slots[(*cursor)++].value;

        if (value < SLOT_TOMBSTONE)
            return value;
    }
    return TABLE_NONE;
}
