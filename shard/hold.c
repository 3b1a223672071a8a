#include "shard/hold.h"

#include "core/base/log.h"
#include "core/base/planted.h"
#include "core/base/wire.h"
#include "core/conf/provider.h"
#include "shard/provider.h"
#include "shard/shard_int.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define GOOD_TOLD   32u                  /* deliveries that are told at once */
#define PASSING_US  (86400 * 1000000ull) /* how long `breaker bounce` holds */
#define SITE_PREFIX "site-"              /* of a provider that is a site's own, see orders.h */
#define PROVIDER    "provider/"
#define SENDER      "sender/"

void holds_init(struct shard *shard)
{
    slab_init(&shard->holds.slab, sizeof(struct hold), HOLD_COUNT_MAX);
    table_init(&shard->holds.table);
    list_init(&shard->holds.by_age);
}

void holds_fini(struct shard *shard)
{
    table_fini(&shard->holds.table);
    slab_fini(&shard->holds.slab);
}

/* ---- Keys ------------------------------------------------------------------------------------ */

static uint64_t hash_of_sender(struct slice domain)
{
    return hash_combine(hash_bytes_nocase(domain.data, domain.len), 2);
}

static uint64_t hash_of_provider(uint64_t provider)
{
    const char *name = conf_provider_name(provider);

    return hash_combine(name ? hash_bytes(name, strlen(name)) : provider, 1);
}

/* Of a name as holds have it; 0: it is none. */
static uint64_t hash_of_name(const char *name)
{
    struct slice text = slice_str(name), sender = SLICE_LITERAL(SENDER);
    size_t skip = strlen(PROVIDER);

    if (slice_starts_nocase(text, sender))
        return hash_of_sender(slice_after(text, sender.len));
    if (strncmp(name, PROVIDER, skip) != 0)
        return 0;
    name += skip;
    if (strncmp(name, SITE_PREFIX, strlen(SITE_PREFIX)) == 0)
        return hash_combine(strtoull(name + strlen(SITE_PREFIX), NULL, 16), 1);
    return hash_combine(hash_bytes(name, strlen(name)), 1);
}

static struct slice domain_of(struct slice sender)
{
    size_t at = sender.len;

    while (at > 0 && sender.data[at - 1] != '@')
        at--;
    return at > 0 ? slice_after(sender, at) : SLICE_EMPTY;
}

/* ---- The table ------------------------------------------------------------------------------- */

static bool is_of(uint32_t value, const void *key, void *context)
{
    const struct hold *hold = slab_at(context, value);

    return hold->hash == *(const uint64_t *)key;
}

static struct hold *find(struct shard *shard, uint64_t hash)
{
    uint32_t index = table_find(&shard->holds.table, hash, is_of, &hash, &shard->holds.slab);

    return index == TABLE_NONE ? NULL : slab_at(&shard->holds.slab, index);
}

/* The oldest that nothing depends on gives way. False when there is none. */
static bool forget_one(struct shard *shard)
{
    struct list *link = shard->holds.by_age.next;

    for (; link != &shard->holds.by_age; link = link->next) {
        struct hold *hold = container_of(link, struct hold, link);

        if (hold->tell_is_out || hold->facts.state != BREAKER_CLOSED ||
            hold->book.state != BREAKER_CLOSED)
            continue;
        list_remove(&hold->link);
        table_remove(&shard->holds.table, hold->hash, hold->index);
        slab_free(&shard->holds.slab, hold->index);
        return true;
    }
    return false;
}

/* Made if need be; NULL when there is no room. */
static struct hold *obtain(struct shard *shard, uint64_t hash, const char *name)
{
    struct hold *hold = find(shard, hash);
    uint32_t index;

    if (hold)
        return hold;
    if (shard->holds.slab.count_used == HOLD_COUNT_MAX && !forget_one(shard))
        return NULL;
    hold = slab_alloc(&shard->holds.slab, &index);
    if (!hold || !table_insert(&shard->holds.table, hash, index)) {
        if (hold)
            slab_free(&shard->holds.slab, index);
        return NULL;
    }
    hold->hash = hash;
    hold->index = index;
    list_init(&hold->link);
    list_push_back(&shard->holds.by_age, &hold->link);
    snprintf(hold->name, sizeof(hold->name), "%s", name);
    breaker_begin(&hold->book, io_now_ns(shard->io));
    return hold;
}

static uint16_t owner_of(const struct shard *shard, const struct hold *hold)
{
    return (uint16_t)(hold->hash % shard->count);
}

static bool is_owner(const struct shard *shard, const struct hold *hold)
{
    return owner_of(shard, hold) == shard->number;
}

/* ---- The owner ------------------------------------------------------------------------------- */

/* report: the operator's, who is answered when the log has it; or NULL. */
static void memorize(struct shard *shard, const struct hold *hold, struct report *report)
{
    char key[sizeof(HOLD_LOG_KEY) + HOLD_NAME_MAX];
    uint8_t value[32 + HOLD_REASON_MAX];
    size_t len = strlen(hold->facts.reason);
    struct wire_writer w;

    snprintf(key, sizeof(key), HOLD_LOG_KEY "%s", hold->name);
    wire_writer_init(&w, value, sizeof(value));
    if (hold->facts.state != BREAKER_CLOSED) {
        wire_put_u16(&w, hold->facts.state);
        wire_put_u16(&w, hold->facts.code);
        for (int i = 0; i < 3; i++)
            wire_put_u16(&w, hold->facts.enhanced[i]);
        wire_put_u64(&w, hold->facts.since_us);
        wire_put_u64(&w, hold->facts.until_us);
        memcpy(value + wire_written(&w), hold->facts.reason, len);
    } else {
        len = 0;
    }
    /* Without room in the log the state ends with the process, and is found anew after it. */
    queues_persist_order(shard, slice_str(key), slice_of(value, wire_written(&w) + len), NONE,
                         report);
}

/* The book's state is a new one. last: the refusal that did it, or NULL; report: the verb, or NULL.
 */
static void enter(struct shard *shard, struct hold *hold, const struct hold_facts *last,
                  struct report *report)
{
    struct hold_facts *facts = &hold->facts;

    facts->state = (uint8_t)hold->book.state;
    facts->since_us = io_wall_us(shard->io);
    facts->until_us = facts->state == BREAKER_PASSING ? facts->since_us + PASSING_US : 0;
    if (last) {
        facts->code = last->code;
        memcpy(facts->enhanced, last->enhanced, sizeof(facts->enhanced));
        snprintf(facts->reason, sizeof(facts->reason), "%s", last->reason);
    }
    if (facts->state == BREAKER_OPEN) {
        shard->holds.opened++;
        hold->held_count = 0;
        log_warn("breaker of %s opens: far more refusals than usual (%u.%u %%), they are held: %s",
                 hold->name, breaker_baseline(&hold->book) / 10, breaker_baseline(&hold->book) % 10,
                 facts->reason);
    } else if (facts->state == BREAKER_CLOSED) {
        log_warn("breaker of %s closes: refusals are believed again, %" PRIu64 " were held",
                 hold->name, hold->held_count);
    }
    memorize(shard, hold, report);
}

static void take(struct shard *shard, struct hold *hold, const struct hold_tell *tell)
{
    hold->held_count += tell->held;
    if (breaker_count(&hold->book, tell->hard, tell->good, io_now_ns(shard->io)))
        enter(shard, hold, tell->hard > 0 ? &tell->facts : NULL, NULL);
}

/* ---- Telling it ------------------------------------------------------------------------------ */

static bool must_tell(const struct hold *hold)
{
    return hold->hard + hold->held > 0 || hold->good >= GOOD_TOLD ||
           (hold->good > 0 && hold->facts.state != BREAKER_CLOSED);
}

static void tell_owner(struct shard *shard, struct hold *hold)
{
    struct hold_tell *tell = &hold->tell;

    if (hold->tell_is_out || !must_tell(hold))
        return;
    tell->hard = hold->hard;
    tell->good = hold->good;
    tell->held = hold->held;
    tell->facts = hold->last;
    hold->hard = 0;
    hold->good = 0;
    hold->held = 0;
    if (is_owner(shard, hold)) {
        take(shard, hold, tell);
        return;
    }
    tell->parcel.kind = SHARD_HOLD_TELL;
    tell->parcel.from = shard->number;
    tell->index = hold->index;
    tell->hash = hold->hash;
    memcpy(tell->name, hold->name, sizeof(tell->name));
    hold->tell_is_out = true;
    shard_post(shard, owner_of(shard, hold), &tell->parcel);
}

void hold_on_parcel(struct shard *shard, struct parcel *parcel)
{
    struct hold_tell *tell = container_of(parcel, struct hold_tell, parcel);
    struct hold *hold;

    if (parcel->kind == SHARD_HOLD_TELL) {
        hold = obtain(shard, tell->hash, tell->name);
        if (hold) {
            take(shard, hold, tell);
            tell->facts = hold->facts;
        } else {
            tell->facts = (struct hold_facts){.state = BREAKER_CLOSED};
        }
        parcel->kind = SHARD_HOLD_TOLD;
        shard_post(shard, parcel->from, parcel);
        return;
    }
    must(parcel->kind == SHARD_HOLD_TOLD);
    hold = container_of(tell, struct hold, tell);
    hold->tell_is_out = false;
    hold->facts = tell->facts;
    tell_owner(shard, hold);
}

/* ---- Verdicts -------------------------------------------------------------------------------- */

static void note(struct hold *hold, const struct verdict *verdict)
{
    struct slice text = verdict_text(verdict);

    hold->last.code = verdict->code;
    memcpy(hold->last.enhanced, verdict->enhanced, sizeof(hold->last.enhanced));
    snprintf(hold->last.reason, sizeof(hold->last.reason), "%.*s", (int)text.len,
             (const char *)text.data);
}

/* Few enough that the owner may hear of them after the fact. */
static bool may_run_ahead(const struct shard *shard, const struct hold *hold)
{
    uint32_t untold = hold->hard + (hold->tell_is_out ? hold->tell.hard : 0);
    uint32_t share = HOLD_UNTOLD_MAX / shard->count;

    return untold <= (share > HOLD_UNTOLD_LEAST ? share : HOLD_UNTOLD_LEAST);
}

static bool is_reclassified(const struct hold *hold, const struct verdict *verdict)
{
    return verdict->code == hold->facts.code &&
           memcmp(verdict->enhanced, hold->facts.enhanced, sizeof(verdict->enhanced)) == 0;
}

/* A refusal for good: counted; whether it is believed. */
static bool believes(struct shard *shard, struct hold *hold, const struct verdict *verdict,
                     uint32_t attempts)
{
    bool is_open = hold->facts.state == BREAKER_OPEN;
    bool is_believed = !is_open;

    if (!is_open || attempts == 0) {
        hold->hard++;
        note(hold, verdict);
    }
    if (hold->facts.state == BREAKER_CLOSED)
        is_believed = is_owner(shard, hold) || may_run_ahead(shard, hold);
    else if (hold->facts.state == BREAKER_RECLASSIFIED)
        is_believed = !is_reclassified(hold, verdict);
    hold->held += !is_believed;
    return is_believed;
}

/* What a verdict says of one key; whether a bounce is believed. hold: NULL = nothing is known. */
static bool count(struct shard *shard, struct hold *hold, const struct verdict *verdict,
                  bool is_good, uint32_t attempts)
{
    bool is_believed = true;

    if (!hold)
        return true;
    list_remove(&hold->link);
    list_push_back(&shard->holds.by_age, &hold->link);
    if (is_good)
        hold->good++;
    else
        is_believed = believes(shard, hold, verdict, attempts);
    tell_owner(shard, hold);
    return is_believed;
}

/* Known from its first refusal on; deliveries on other shards than that of the refusals count from
 * the first verdict on. */
static struct hold *hold_of_provider(struct shard *shard, const struct site *site, bool is_good)
{
    uint64_t hash = hash_of_provider(site->provider);
    struct hold *hold = find(shard, hash);
    char name[HOLD_NAME_MAX] = PROVIDER;

    if (hold || (is_good && (shard->count == 1 || conf_provider_is_site(site->provider))))
        return hold;
    orders_name_provider(site, name + strlen(PROVIDER), sizeof(name) - strlen(PROVIDER));
    return obtain(shard, hash, name);
}

static struct hold *hold_of_sender(struct shard *shard, struct slice domain, bool is_good)
{
    uint64_t hash = hash_of_sender(domain);
    struct hold *hold = find(shard, hash);
    char name[HOLD_NAME_MAX];

    if (hold || (is_good && shard->count == 1))
        return hold;
    snprintf(name, sizeof(name), SENDER "%.*s", (int)domain.len, (const char *)domain.data);
    return obtain(shard, hash, name);
}

/* A receiver's word on a recipient, which ends it. */
static bool is_refusal(const struct verdict *verdict, const struct fate *fate)
{
    return fate->kind == FATE_BOUNCED && verdict->class == VERDICT_PERMANENT &&
           (verdict->flags & VERDICT_FROM_REPLY) != 0 && fate->category[0] == '\0';
}

void hold_judge(struct shard *shard, const struct delivery *delivery, const struct queued *queued,
                const struct verdict *verdict, uint64_t age_ms, struct fate *fate)
{
    struct queue *queue = slab_at(&shard->queues, queued->queue);
    struct slice sender = delivery->message ? delivery->message->envelope.sender : SLICE_EMPTY;
    bool is_good = fate->kind == FATE_DELIVERED, is_believed;
    uint32_t attempts = queued_attempts(queued);

    if (!is_good && !is_refusal(verdict, fate))
        return;
    sender = domain_of(sender);
    is_believed = count(shard, hold_of_provider(shard, delivery->connection->lane->site, is_good),
                        verdict, is_good, attempts);
    if (sender.len > 0)
        is_believed &=
            count(shard, hold_of_sender(shard, sender, is_good), verdict, is_good, attempts);
    if (is_believed || planted("shard/every-refusal-is-believed"))
        return;
    shard->holds.held++;
    queue->has_held = true;
    *fate = fate_of_held(&queue->settings, attempts, age_ms, io_rng(shard->io));
}

/* ---- Operators, restarts --------------------------------------------------------------------- */

/* What is held is not known one by one: all that waits there is tried now, and what waits since a
 * restart for its first attempt after it, of which nobody knows yet where it goes. */
static void try_now(struct shard *shard, uint64_t hash, bool is_sender)
{
    for (uint32_t i = 0; i < shard->queues.count_grown; i++) {
        struct queue *queue = slab_is_live(&shard->queues, i) ? slab_at(&shard->queues, i) : NULL;

        if (queue &&
            (is_sender || queue->site == NULL || hash_of_provider(queue->site->provider) == hash))
            queues_schedule(shard, queue);
    }
}

void hold_on_verb(struct shard *shard, struct report *report)
{
    static const enum breaker_state states[] = {BREAKER_CLOSED, BREAKER_PASSING,
                                                BREAKER_RECLASSIFIED};
    enum breaker_state state = states[report->parcel.kind - REPORT_BREAKER_RELEASE];
    uint64_t now_ns = io_now_ns(shard->io);
    char name[HOLD_NAME_MAX];
    struct hold *hold;

    snprintf(name, sizeof(name), "%.10s/%.255s", report->vmta_pattern, report->domain_pattern);
    hold = find(shard, hash_of_name(name));
    if (!hold || hold->facts.state == BREAKER_CLOSED)
        return;
    if (is_owner(shard, hold)) {
        breaker_set(&hold->book, state, now_ns + PASSING_US * 1000, now_ns);
        enter(shard, hold, NULL, report);
        report->affected++;
    } else {
        /* The owner says the same with its next answer. */
        hold->facts.state = (uint8_t)state;
    }
    if (state != BREAKER_RECLASSIFIED)
        try_now(shard, hold->hash, strncmp(name, SENDER, strlen(SENDER)) == 0);
}

static const char *state_text(const struct hold *hold)
{
    switch (hold->book.state) {
    case BREAKER_PASSING:
        return "hold, off";
    case BREAKER_RECLASSIFIED:
        return "transient";
    default:
        return "hold";
    }
}

void hold_report(const struct shard *shard, struct report *report)
{
    for (uint32_t i = 0; i < shard->holds.slab.count_grown; i++) {
        const struct hold *hold =
            slab_is_live(&shard->holds.slab, i) ? slab_at(&shard->holds.slab, i) : NULL;
        struct order_row *row;

        if (!hold || !is_owner(shard, hold) || hold->book.state == BREAKER_CLOSED)
            continue;
        row = report_row_add(report, sizeof(*row));
        if (!row)
            return;
        row->kind = state_text(hold);
        row->held = hold->held_count;
        row->since_us = hold->facts.since_us;
        row->until_us = hold->facts.until_us;
        snprintf(row->who, sizeof(row->who), "%s", hold->name);
        snprintf(row->reason, sizeof(row->reason), "%s", hold->facts.reason);
    }
}

static bool is_holding(const struct hold *hold)
{
    return hold->facts.state == BREAKER_OPEN || hold->facts.state == BREAKER_RECLASSIFIED;
}

void hold_explain(const struct shard *shard, const struct queue *queue, char *room,
                  size_t room_bytes)
{
    uint64_t hash = queue->site ? hash_of_provider(queue->site->provider) : 0;
    const struct hold *found = NULL;

    room[0] = '\0';
    if (!queue->has_held)
        return;
    for (uint32_t i = 0; i < shard->holds.slab.count_grown; i++) {
        const struct hold *hold =
            slab_is_live(&shard->holds.slab, i) ? slab_at(&shard->holds.slab, i) : NULL;

        if (!hold || !is_holding(hold))
            continue;
        if (hold->hash == hash)
            found = hold;
        else if (!found && strncmp(hold->name, SENDER, strlen(SENDER)) == 0)
            found = hold;
    }
    if (!found)
        return;
    if (found->hash == hash)
        snprintf(room, room_bytes, "breaker %s: %s", found->name, found->facts.reason);
    else
        snprintf(room, room_bytes, "breaker %s, as far as its mail is of it: %s", found->name,
                 found->facts.reason);
}

void hold_recover(struct shard *shard, struct slice name, struct slice value)
{
    struct hold_facts facts = {0};
    uint64_t hash, now_ns = io_now_ns(shard->io), now_us = io_wall_us(shard->io), until_ns = now_ns;
    char text[HOLD_NAME_MAX];
    struct slice reason;
    struct wire_reader r;
    struct hold *hold;

    if (value.len < 26 || name.len >= sizeof(text))
        return;
    snprintf(text, sizeof(text), "%.*s", (int)name.len, (const char *)name.data);
    hash = hash_of_name(text);
    wire_reader_init(&r, value.data, value.len);
    facts.state = (uint8_t)wire_get_u16(&r);
    facts.code = wire_get_u16(&r);
    for (int i = 0; i < 3; i++)
        facts.enhanced[i] = (uint8_t)wire_get_u16(&r);
    facts.since_us = wire_get_u64(&r);
    facts.until_us = wire_get_u64(&r);
    reason = slice_after(value, 26);
    snprintf(facts.reason, sizeof(facts.reason), "%.*s", (int)reason.len,
             (const char *)reason.data);
    if (hash == 0 || facts.state > BREAKER_RECLASSIFIED)
        return;
    hold = obtain(shard, hash, text);
    if (!hold)
        return;
    if (facts.until_us > now_us)
        until_ns += (facts.until_us - now_us) * 1000;
    hold->facts = facts;
    if (is_owner(shard, hold))
        breaker_set(&hold->book, (enum breaker_state)facts.state, until_ns, now_ns);
}
