/*
 * An entry is one (name, type): first a question with its waiters, then an answer that is kept for
 * its time to live. Its name and records stand in one block of the smallest size that holds them,
 * because most answers are far smaller than the largest one.
 *
 *   QUEUED → ASKED → CACHED        QUEUED: more questions are in flight than allowed
 *      ↑________________|          expired, and asked for again
 *
 * Answers are handed out in the actor's turn only, so never from inside dns_ask.
 */
#include "net/dns.h"

#include "core/base/err.h"
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "core/base/slab.h"
#include "net/dns_answer.h"
#include "net/dns_outlook.h"

#define SECOND_NS        1000000000ull
#define TTL_MIN_S        30
#define TTL_MAX_S        3600
#define TTL_FAILURE_S    5 /* RFC 9520 3.2: at least 1 s, 5 s recommended to begin with */
#define ENTRIES_PER_TURN 64

enum entry_state {
    ENTRY_QUEUED,
    ENTRY_ASKED,
    ENTRY_CACHED,
};

#define BLOCK_CLASSES 3
static const uint32_t block_bytes[BLOCK_CLASSES] = {128, 512, DNS_NAME_MAX + 1 + DNS_DATA_MAX};

struct dns_entry {
    struct list link;    /* QUEUED: queued; CACHED: ready while somebody waits, else idle */
    struct list waiters; /* struct dns_lookup */
    uint64_t hash;
    uint64_t valid_until_ns;
    uint8_t *block; /* name, then records */
    uint32_t block_index;
    uint32_t index;
    uint32_t doubts; /* those of the module when the answer came */
    uint16_t type;
    uint16_t record_count;
    uint16_t data_bytes;
    uint8_t name_bytes;
    uint8_t block_class;
    uint8_t state; /* enum entry_state */
    uint8_t status;
    bool is_secure;
};

struct dns {
    struct io *io;
    struct mailbox *questions;
    uint16_t actor_number;
    struct io_actor actor;
    struct slab entries;
    struct slab blocks[BLOCK_CLASSES];
    struct slab queries;
    struct table table;
    struct list queued;
    struct list ready;
    struct list idle;         /* nobody waits; the one used longest ago first */
    struct list no_names;     /* lookups whose name cannot be in DNS */
    struct list overruns;     /* lookups that found no room */
    struct dns_query scratch; /* what lookups are shown */
    struct dns_witnesses witnesses;
    uint32_t doubts; /* how often kept denials were doubted */
};

/* ---- Entries ------------------------------------------------------------------------------- */

struct dns_key {
    struct slice name;
    uint16_t type;
};

static struct slice name_of(const struct dns_entry *entry)
{
    return slice_of(entry->block, entry->name_bytes);
}

static bool matches(uint32_t value, const void *key, void *context)
{
    const struct dns_key *wanted = key;
    const struct dns *dns = context;
    const struct dns_entry *entry = slab_at(&dns->entries, value);

    return entry->type == wanted->type && slice_equal(name_of(entry), wanted->name);
}

static uint64_t hash_of(const struct dns_key *key)
{
    return hash_combine(hash_bytes(key->name.data, key->name.len), key->type);
}

/* The smallest block for so many bytes, or a larger one if that size is used up. */
static uint8_t *take_block(struct dns *dns, size_t bytes, uint8_t *ret_class, uint32_t *ret_index)
{
    for (uint8_t class = 0; class < BLOCK_CLASSES; class ++) {
        uint8_t *block =
            block_bytes[class] >= bytes ? slab_alloc(&dns->blocks[class], ret_index) : NULL;

        *ret_class = class;
        if (block != NULL)
            return block;
    }
    return NULL;
}

static void free_entry(struct dns *dns, struct dns_entry *entry)
{
    must(list_empty(&entry->waiters));
    list_remove(&entry->link);
    table_remove(&dns->table, entry->hash, entry->index);
    slab_free(&dns->blocks[entry->block_class], entry->block_index);
    slab_free(&dns->entries, entry->index);
}

static bool evict_one(struct dns *dns)
{
    struct list *oldest = dns->idle.next;

    if (list_empty(&dns->idle))
        return false;
    free_entry(dns, container_of(oldest, struct dns_entry, link));
    return true;
}

/* A new entry with the name in place; NULL when every entry is waited for, or memory is short. */
static struct dns_entry *create_entry(struct dns *dns, const struct dns_key *key, uint64_t hash)
{
    uint32_t index = 0;
    struct dns_entry *entry = slab_alloc(&dns->entries, &index);

    if (entry == NULL && evict_one(dns))
        entry = slab_alloc(&dns->entries, &index);
    if (entry == NULL)
        return NULL;
    entry->block = take_block(dns, key->name.len, &entry->block_class, &entry->block_index);
    if (entry->block == NULL) {
        slab_free(&dns->entries, index);
        return NULL;
    }
    if (!table_insert(&dns->table, hash, index)) {
        slab_free(&dns->blocks[entry->block_class], entry->block_index);
        slab_free(&dns->entries, index);
        return NULL;
    }
    memcpy(entry->block, key->name.data, key->name.len);
    entry->name_bytes = (uint8_t)key->name.len;
    entry->type = key->type;
    entry->hash = hash;
    entry->index = index;
    list_init(&entry->link);
    list_init(&entry->waiters);
    return entry;
}

/* Puts the records of an answer behind the name, into another block if need be. */
static bool store_records(struct dns *dns, struct dns_entry *entry, const struct dns_query *answer)
{
    size_t bytes = (size_t)entry->name_bytes + answer->data_bytes;

    if (bytes > block_bytes[entry->block_class]) {
        uint8_t class = 0;
        uint32_t index = 0;
        uint8_t *block = take_block(dns, bytes, &class, &index);

        if (block == NULL)
            return false;
        memcpy(block, entry->block, entry->name_bytes);
        slab_free(&dns->blocks[entry->block_class], entry->block_index);
        entry->block = block;
        entry->block_class = class;
        entry->block_index = index;
    }
    memcpy(entry->block + entry->name_bytes, answer->data, answer->data_bytes);
    entry->data_bytes = answer->data_bytes;
    entry->record_count = answer->record_count;
    return true;
}

/* ---- Questions and answers ----------------------------------------------------------------- */

/* False when as many questions are in flight as may be. */
static bool ask_resolver(struct dns *dns, struct dns_entry *entry)
{
    uint32_t index = 0;
    struct dns_query *query = slab_alloc(&dns->queries, &index);

    if (query == NULL)
        return false;
    memcpy(query->name, entry->block, entry->name_bytes);
    query->name[entry->name_bytes] = '\0';
    query->type = entry->type;
    query->slot = index;
    query->asker = entry->index;
    query->parcel.kind = DNS_QUESTION;
    query->parcel.from = dns->actor_number;
    entry->state = ENTRY_ASKED;
    list_remove(&entry->link);
    mailbox_post(dns->questions, &query->parcel);
    return true;
}

static void ask_queued(struct dns *dns)
{
    while (!list_empty(&dns->queued)) {
        struct dns_entry *entry = container_of(dns->queued.next, struct dns_entry, link);

        if (!ask_resolver(dns, entry))
            break;
    }
}

static void enqueue(struct dns *dns, struct dns_entry *entry)
{
    entry->state = ENTRY_QUEUED;
    list_remove(&entry->link);
    list_push_back(&dns->queued, &entry->link);
    ask_queued(dns);
}

static uint64_t kept_for_s(const struct dns_query *answer)
{
    if (answer->status == DNS_FAILURE || answer->status == DNS_TIMEOUT)
        return TTL_FAILURE_S;
    if (answer->ttl_s < TTL_MIN_S)
        return TTL_MIN_S;
    if (answer->status != DNS_OK && answer->ttl_s > DNS_DENIAL_KEPT_MAX_S)
        return DNS_DENIAL_KEPT_MAX_S;
    return answer->ttl_s > TTL_MAX_S ? TTL_MAX_S : answer->ttl_s;
}

static void on_answer(void *context, struct parcel *parcel)
{
    struct dns *dns = context;
    struct dns_query *query = container_of(parcel, struct dns_query, parcel);
    struct dns_entry *entry = slab_at(&dns->entries, query->asker);

    must(parcel->kind == DNS_ANSWER && entry->state == ENTRY_ASKED);
    must(query->type == entry->type);
    dns_answer_check(query);
    if (entry->type == DNS_MX)
        dns_witnesses_note(&dns->witnesses, name_of(entry), query->status, io_now_ns(dns->io));
    if (!store_records(dns, entry, query)) {
        query->status = DNS_FAILURE;
        entry->data_bytes = 0;
        entry->record_count = 0;
    }
    entry->status = query->status;
    entry->is_secure = query->is_secure;
    entry->doubts = dns->doubts;
    entry->valid_until_ns = io_now_ns(dns->io) + kept_for_s(query) * SECOND_NS;
    entry->state = ENTRY_CACHED;
    list_push_back(list_empty(&entry->waiters) ? &dns->idle : &dns->ready, &entry->link);
    slab_free(&dns->queries, query->slot);
    ask_queued(dns);
}

/* ---- Handing out --------------------------------------------------------------------------- */

static void show(struct dns *dns, const struct dns_entry *entry)
{
    struct dns_query *answer = &dns->scratch;
    uint64_t now_ns = io_now_ns(dns->io);
    uint64_t left_ns = entry->valid_until_ns > now_ns ? entry->valid_until_ns - now_ns : 0;

    memcpy(answer->name, entry->block, entry->name_bytes);
    answer->name[entry->name_bytes] = '\0';
    answer->type = entry->type;
    answer->status = entry->status;
    answer->is_secure = entry->is_secure;
    answer->ttl_s = (uint32_t)(left_ns / SECOND_NS);
    answer->record_count = entry->record_count;
    answer->data_bytes = entry->data_bytes;
    memcpy(answer->data, entry->block + entry->name_bytes, entry->data_bytes);
}

static void show_none(struct dns *dns, enum dns_status status)
{
    struct dns_query *answer = &dns->scratch;

    answer->name[0] = '\0';
    answer->type = 0;
    answer->status = status;
    answer->is_secure = false;
    answer->ttl_s = TTL_FAILURE_S;
    answer->record_count = 0;
    answer->data_bytes = 0;
}

/* Waiters may ask and forget while they are told; those who ask again wait for the next time. */
static void tell_all(struct dns *dns, struct list *waiters)
{
    struct list told;
    struct list *link;

    list_init(&told);
    while ((link = list_pop_front(waiters)) != NULL)
        list_push_back(&told, link);
    while ((link = list_pop_front(&told)) != NULL) {
        struct dns_lookup *lookup = container_of(link, struct dns_lookup, link);

        lookup->on_answer(lookup, &dns->scratch);
    }
}

static void tell_entry(struct dns *dns, struct dns_entry *entry)
{
    show(dns, entry);
    /* Idle before the first is told: whatever they do then, the entry is in its right place. */
    list_remove(&entry->link);
    list_push_back(&dns->idle, &entry->link);
    tell_all(dns, &entry->waiters);
}

static void on_turn(struct io_actor *actor)
{
    struct dns *dns = container_of(actor, struct dns, actor);

    for (unsigned i = 0; i < ENTRIES_PER_TURN && !list_empty(&dns->ready); i++)
        tell_entry(dns, container_of(dns->ready.next, struct dns_entry, link));
    if (!list_empty(&dns->no_names)) {
        show_none(dns, DNS_NO_NAME);
        tell_all(dns, &dns->no_names);
    }
    if (!list_empty(&dns->overruns)) {
        show_none(dns, DNS_FAILURE);
        tell_all(dns, &dns->overruns);
    }
}

static bool is_busy(struct io_actor *actor)
{
    const struct dns *dns = container_of(actor, struct dns, actor);

    return !list_empty(&dns->ready) || !list_empty(&dns->no_names) || !list_empty(&dns->overruns);
}

/* What a cached entry says may still be told. */
static bool is_valid(const struct dns *dns, const struct dns_entry *entry)
{
    return io_now_ns(dns->io) < entry->valid_until_ns &&
           (entry->status == DNS_OK || entry->doubts == dns->doubts);
}

void dns_ask(struct dns *dns, struct dns_lookup *lookup, struct slice name, enum dns_type type)
{
    char room[DNS_NAME_MAX + 1];
    int len = dns_name_normalise(name, room);
    struct dns_key key = {.type = (uint16_t)type};
    struct dns_entry *entry;
    uint32_t index;
    uint64_t hash;

    list_init(&lookup->link);
    if (len < 0) {
        list_push_back(&dns->no_names, &lookup->link);
        return;
    }
    key.name = slice_of(room, (size_t)len);
    hash = hash_of(&key);
    index = table_find(&dns->table, hash, matches, &key, dns);
    entry = index != TABLE_NONE ? slab_at(&dns->entries, index) : create_entry(dns, &key, hash);
    if (entry == NULL) {
        list_push_back(&dns->overruns, &lookup->link);
        return;
    }
    if (index == TABLE_NONE) {
        enqueue(dns, entry);
    } else if (entry->state == ENTRY_CACHED && list_empty(&entry->waiters)) {
        if (!is_valid(dns, entry)) {
            enqueue(dns, entry);
        } else {
            list_remove(&entry->link);
            list_push_back(&dns->ready, &entry->link);
        }
    }
    list_push_back(&entry->waiters, &lookup->link);
}

void dns_forget(struct dns *dns, struct dns_lookup *lookup)
{
    /* A lookup that never asked has no neighbours at all. */
    if (lookup->link.next != NULL)
        list_remove(&lookup->link);
}

/* Asks a witness again, though its last answer may still be kept. */
static void ask_witness(struct dns *dns, const struct dns_witness *witness)
{
    struct dns_key key = {.name = slice_str(witness->name), .type = DNS_MX};
    uint64_t hash = hash_of(&key);
    uint32_t index = table_find(&dns->table, hash, matches, &key, dns);
    struct dns_entry *entry =
        index != TABLE_NONE ? slab_at(&dns->entries, index) : create_entry(dns, &key, hash);

    if (entry == NULL)
        return;
    if (index == TABLE_NONE || (entry->state == ENTRY_CACHED && list_empty(&entry->waiters)))
        enqueue(dns, entry);
}

enum dns_outlook dns_outlook(struct dns *dns, struct slice domain)
{
    uint64_t now_ns = io_now_ns(dns->io);
    enum dns_outlook outlook = dns_witnesses_judge(&dns->witnesses, domain, now_ns);

    for (unsigned i = 0; i < DNS_WITNESS_COUNT; i++)
        if (dns_witness_is_stale(&dns->witnesses.places[i], now_ns))
            ask_witness(dns, &dns->witnesses.places[i]);
    return outlook;
}

void dns_ask_witnesses(struct dns *dns)
{
    for (unsigned i = 0; i < DNS_WITNESS_COUNT; i++)
        if (dns->witnesses.places[i].name[0] != '\0')
            ask_witness(dns, &dns->witnesses.places[i]);
}

void dns_doubt_denials(struct dns *dns)
{
    dns->doubts++;
}

struct dns *dns_create(struct io *io, struct mailbox *questions, struct mailbox *answers,
                       uint16_t actor, uint32_t cache_count_max, uint32_t in_flight_max)
{
    struct dns *dns = mem_alloc(sizeof(*dns));

    dns->io = io;
    dns->questions = questions;
    dns->actor_number = actor;
    slab_init(&dns->entries, sizeof(struct dns_entry), cache_count_max);
    for (unsigned class = 0; class < BLOCK_CLASSES; class ++)
        slab_init(&dns->blocks[class], block_bytes[class], cache_count_max);
    slab_init(&dns->queries, sizeof(struct dns_query), in_flight_max);
    table_init(&dns->table);
    list_init(&dns->queued);
    list_init(&dns->ready);
    list_init(&dns->idle);
    list_init(&dns->no_names);
    list_init(&dns->overruns);
    dns->actor.turn = on_turn;
    dns->actor.is_busy = is_busy;
    io_attach(io, &dns->actor);
    mailbox_listen(answers, on_answer, dns);
    return dns;
}

void dns_destroy(struct dns *dns)
{
    if (dns == NULL)
        return;
    list_remove(&dns->actor.link);
    table_fini(&dns->table);
    slab_fini(&dns->queries);
    for (unsigned class = 0; class < BLOCK_CLASSES; class ++)
        slab_fini(&dns->blocks[class]);
    slab_fini(&dns->entries);
    mem_free(dns);
}
