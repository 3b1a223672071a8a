#include "shard/gate.h"

#include "core/base/must.h"

struct gate_entry {
    struct list link; /* in gate.order */
    struct gate_key key;
    uint64_t message_id;
    uint64_t until_ms : 63;
    uint64_t is_pending : 1;
};
_Static_assert(sizeof(struct gate_entry) == 48, "memory of a remembered recipient");

/* What is counted in parts of an interval; the part number n lies in [n * span / GATE_SPANS, …). */
struct gate_count {
    struct list link; /* in gate_counts.order */
    uint64_t limit_key;
    uint64_t part;    /* the newest one */
    uint64_t over_ms; /* from then on there is nothing in it that counts */
    uint32_t index;
    bool is_refusing;
    uint32_t parts[GATE_SPANS + 1]; /* by the part's number, modulo */
};

static void counts_init(struct gate_counts *counts)
{
    slab_init(&counts->slab, sizeof(struct gate_count), GATE_COUNTS_MAX);
    table_init(&counts->by_limit);
    list_init(&counts->order);
}

static void counts_fini(struct gate_counts *counts)
{
    table_fini(&counts->by_limit);
    slab_fini(&counts->slab);
}

void gate_init(struct gate *gate)
{
    slab_init(&gate->entries, sizeof(struct gate_entry), GATE_ENTRIES_MAX);
    table_init(&gate->by_key);
    list_init(&gate->order);
    counts_init(&gate->rcpts);
    counts_init(&gate->logins);
}

void gate_fini(struct gate *gate)
{
    counts_fini(&gate->logins);
    counts_fini(&gate->rcpts);
    table_fini(&gate->by_key);
    slab_fini(&gate->entries);
}

/* Two hashes that have nothing to do with each other: a message that another's recipient passes for
 * would be lost. */
struct gate_key gate_key_of(struct gate_key base, struct slice text)
{
    struct gate_key key = {.a = hash_combine(base.a, hash_bytes(text.data, text.len))};
    uint64_t b = base.b ^ 0xcbf29ce484222325ull; /* FNV-1a */

    for (size_t i = 0; i < text.len; i++)
        b = (b ^ text.data[i]) * 0x100000001b3ull;
    key.b = hash_u64(b ^ text.len);
    return key;
}

/* ---- Recipients ------------------------------------------------------------------------------ */

static bool match_entry(uint32_t value, const void *key, void *context)
{
    const struct gate_entry *entry = slab_at(context, value);
    const struct gate_key *wanted = key;

    return entry->key.a == wanted->a && entry->key.b == wanted->b;
}

static uint32_t find_entry(struct gate *gate, const struct gate_key *key)
{
    return table_find(&gate->by_key, key->a, match_entry, key, &gate->entries);
}

static void forget(struct gate *gate, uint32_t index)
{
    struct gate_entry *entry = slab_at(&gate->entries, index);

    table_remove(&gate->by_key, entry->key.a, index);
    list_remove(&entry->link);
    slab_free(&gate->entries, index);
}

static bool is_over(const struct gate_entry *entry, uint64_t now_ms)
{
    return !entry->is_pending && entry->until_ms <= now_ms;
}

/* The oldest ones go when they are over, or when there is no room for a new one. False when even
 * then there is none. */
static bool make_room(struct gate *gate, uint64_t now_ms)
{
    for (int i = 0; i < 4 && !list_empty(&gate->order); i++) {
        struct gate_entry *oldest = container_of(gate->order.next, struct gate_entry, link);
        bool is_full = gate->entries.count_used == gate->entries.count_max;

        if (!is_over(oldest, now_ms) && (!is_full || oldest->is_pending))
            break;
        forget(gate, find_entry(gate, &oldest->key));
    }
    return gate->entries.count_used < gate->entries.count_max;
}

static bool claim_one(struct gate *gate, const struct gate_ask *ask, const struct gate_key *key,
                      uint64_t now_ms)
{
    struct gate_entry *entry;
    uint32_t index;

    if (!make_room(gate, now_ms))
        return false;
    entry = slab_alloc(&gate->entries, &index);
    if (!entry)
        return false;
    *entry = (struct gate_entry){.key = *key, .message_id = ask->message_id, .is_pending = 1};
    list_init(&entry->link);
    if (!table_insert(&gate->by_key, key->a, index)) {
        slab_free(&gate->entries, index);
        return false;
    }
    list_push_back(&gate->order, &entry->link);
    return true;
}

static void settle(struct gate *gate, const struct gate_ask *ask, bool is_accepted, uint64_t now_ms)
{
    for (uint32_t i = 0; i < ask->key_count; i++) {
        uint32_t index = find_entry(gate, &ask->keys[i]);
        struct gate_entry *entry = index == TABLE_NONE ? NULL : slab_at(&gate->entries, index);

        /* What this message did not claim is another one's. */
        if (!entry || !entry->is_pending || entry->message_id != ask->message_id)
            continue;
        if (is_accepted) {
            entry->is_pending = 0;
            entry->until_ms = (now_ms + ask->span_ms) & (UINT64_MAX >> 1);
        } else {
            forget(gate, index);
        }
    }
}

/* What is known of a key. */
enum known {
    KNOWN_NOT,
    KNOWN_OWN, /* the message names the recipient twice */
    KNOWN_PENDING,
    KNOWN_TWIN,
};

static enum known look_up(struct gate *gate, struct gate_ask *ask, const struct gate_key *key,
                          uint64_t now_ms)
{
    uint32_t index = find_entry(gate, key);
    const struct gate_entry *entry = index == TABLE_NONE ? NULL : slab_at(&gate->entries, index);

    if (!entry)
        return KNOWN_NOT;
    if (entry->message_id == ask->message_id)
        return KNOWN_OWN;
    if (entry->is_pending)
        return KNOWN_PENDING;
    if (is_over(entry, now_ms)) {
        forget(gate, index);
        return KNOWN_NOT;
    }
    ask->twin_id = entry->message_id;
    return KNOWN_TWIN;
}

static enum gate_answer claim(struct gate *gate, struct gate_ask *ask, uint64_t now_ms)
{
    uint32_t twins = 0;

    for (uint32_t i = 0; i < ask->key_count; i++) {
        enum known known = look_up(gate, ask, &ask->keys[i], now_ms);

        if (known == KNOWN_TWIN) {
            ask->keys[i] = (struct gate_key){0, 0};
            twins++;
        } else if (known == KNOWN_PENDING ||
                   (known == KNOWN_NOT && !claim_one(gate, ask, &ask->keys[i], now_ms))) {
            settle(gate, ask, false, now_ms);
            return GATE_BUSY;
        }
    }
    if (twins == 0)
        return GATE_YES;
    return twins == ask->key_count ? GATE_ALL : GATE_SOME;
}

/* ---- Counts ---------------------------------------------------------------------------------- */

static bool match_count(uint32_t value, const void *key, void *context)
{
    const struct gate_count *count = slab_at(context, value);

    return count->limit_key == *(const uint64_t *)key;
}

static struct gate_count *find_count(const struct gate_counts *counts, uint64_t limit_key)
{
    uint32_t index = table_find(&counts->by_limit, limit_key, match_count, &limit_key,
                                (void *)(uintptr_t)&counts->slab);

    return index == TABLE_NONE ? NULL : slab_at(&counts->slab, index);
}

static void forget_count(struct gate_counts *counts, struct gate_count *count)
{
    table_remove(&counts->by_limit, count->limit_key, count->index);
    list_remove(&count->link);
    slab_free(&counts->slab, count->index);
}

/* Clients come and go, and each leaves a count behind: those go that are over, and the one that was
 * used longest ago when there is no room for a new one. */
static void forget_counts(struct gate_counts *counts, uint64_t now_ms)
{
    for (int i = 0; i < 4 && !list_empty(&counts->order); i++) {
        struct gate_count *oldest = container_of(counts->order.next, struct gate_count, link);

        if (oldest->over_ms > now_ms && counts->slab.count_used < counts->slab.count_max)
            break;
        forget_count(counts, oldest);
    }
}

/* NULL when there is no memory. */
static struct gate_count *add_count(struct gate_counts *counts, uint64_t limit_key, uint64_t now_ms)
{
    struct gate_count *count;
    uint32_t index;

    forget_counts(counts, now_ms);
    count = slab_alloc(&counts->slab, &index);
    if (!count)
        return NULL;
    count->limit_key = limit_key;
    count->index = index;
    list_init(&count->link);
    if (table_insert(&counts->by_limit, limit_key, index))
        return count;
    slab_free(&counts->slab, index);
    return NULL;
}

/* Parts that have begun since are empty. All parts together cover the interval and up to one part
 * more, so whatever interval one looks at is among them. */
static uint64_t count_until(struct gate_count *count, uint64_t part)
{
    uint64_t sum = 0;

    if (part > count->part + GATE_SPANS)
        memset(count->parts, 0, sizeof(count->parts));
    else
        for (uint64_t i = count->part + 1; i <= part; i++)
            count->parts[i % (GATE_SPANS + 1)] = 0;
    if (part > count->part)
        count->part = part;
    for (uint32_t i = 0; i <= GATE_SPANS; i++)
        sum += count->parts[i];
    return sum;
}

static enum gate_answer count_in(struct gate_counts *counts, const struct gate_ask *ask,
                                 uint64_t now_ms)
{
    struct gate_count *count = find_count(counts, ask->limit_key);
    uint64_t part_ms = (ask->span_ms + GATE_SPANS - 1) / GATE_SPANS, sum;
    bool was_refusing;

    part_ms = part_ms > 0 ? part_ms : 1;
    /* Who only asks is not remembered for it. */
    if (!count && ask->kind == GATE_LOOK)
        return ask->rcpt_count > ask->limit ? GATE_NO : GATE_YES;
    if (!count)
        count = add_count(counts, ask->limit_key, now_ms);
    if (!count)
        return GATE_NO;
    sum = count_until(count, now_ms / part_ms);
    was_refusing = count->is_refusing;
    count->is_refusing = sum + ask->rcpt_count > ask->limit;
    list_remove(&count->link);
    list_push_back(&counts->order, &count->link);
    if (!count->is_refusing && ask->kind == GATE_COUNT) {
        count->parts[count->part % (GATE_SPANS + 1)] += ask->rcpt_count;
        count->over_ms = now_ms + (GATE_SPANS + 1) * part_ms;
    }
    if (count->is_refusing)
        return was_refusing ? GATE_NO : GATE_NO_FIRST;
    return GATE_YES;
}

void gate_decide(struct gate *gate, struct gate_ask *ask, uint64_t now_ms)
{
    switch ((enum gate_kind)ask->kind) {
    case GATE_CLAIM:
        ask->answer = claim(gate, ask, now_ms);
        break;
    case GATE_SETTLE:
        settle(gate, ask, ask->is_accepted, now_ms);
        ask->answer = GATE_YES;
        break;
    case GATE_COUNT:
    case GATE_LOOK:
        ask->answer = count_in(ask->is_login ? &gate->logins : &gate->rcpts, ask, now_ms);
        break;
    }
}
