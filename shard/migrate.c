/*
 * Queues that go to another shard, and their recipients, which follow.
 *
 * A queue has a base, the shard that its name leads to, and an owner. The base makes it and looks
 * its destination up; where that is served by another shard, the base sends the queue there: what
 * it is (struct migration), with the answer. A queue that is away is a guest at its owner; the base
 * keeps note of who that is (struct away). The owner looks the destination up again when the answer
 * expires. When that leads elsewhere, or nobody needs the queue any more, it goes back to its base,
 * which sends it on or frees it. So only the base says who owns a queue, and a shard that neither
 * has it nor is its base refers to the base.
 *
 *   HERE ─► MOVING ─► GONE ─► freed once it is empty, or HERE again when the queue comes back
 *             └─► HERE, when the other shard has no room for it: it is served here for a minute
 *
 * MOVING: nothing new is sent. The state leaves when what the log was told of it is durable: else
 * an older record might overtake one that the next owner writes. Recipients are taken all the same,
 * so that nobody is referred to a shard that has not got the queue yet. GONE: recipients go, ready
 * and deferred ones alike, to their homes, and from there to the owner; home remembers him.
 * Deliveries under way end where they are, and what they leave behind follows. Outcomes go home as
 * always: neither claims nor the log know where a recipient is.
 *
 * A recipient that was handed to the wrong shard comes home in the same parcel, with the number of
 * a better one. The base orders pauses, and its mailbox keeps them behind the queue they are about.
 *
 * A queue whose mail the configuration gives to another one (conf_way) keeps none: its recipients
 * go home by the same way, wherever the queue is, and home knows which queue they go to. So does
 * one with backoff-reroute-to-virtual-mta while it is in backoff mode; only the queue knows of its
 * mode, so each recipient comes there first, and home is told to send it one step further.
 *
 * Nothing of it is on disk: after a restart every queue is at its base.
 */
#include "core/base/err.h"
#include "shard/place.h"
#include "shard/planted.h"
#include "shard/shard_int.h"

#define MIGRATIONS_MAX     256
#define FOLLOW_PER_TURN    512
#define STEPS_PER_TURN     4096
#define FOLLOW_BACKLOG_MAX 1024
#define NO_ROOM_WAIT_MS    1000
#define STAY_MS            60000

void migrate_init(struct shard *shard)
{
    slab_init(&shard->aways, sizeof(struct away), shard->limits.queue_count_max);
    table_init(&shard->away_table);
    slab_init(&shard->migrations, sizeof(struct migration), MIGRATIONS_MAX);
    slab_init(&shard->pause_orders, sizeof(struct pause_order), shard->limits.queue_count_max);
    list_init(&shard->leaving);
}

void migrate_fini(struct shard *shard)
{
    slab_fini(&shard->pause_orders);
    slab_fini(&shard->migrations);
    table_fini(&shard->away_table);
    slab_fini(&shard->aways);
}

/* ---- Who has what ---------------------------------------------------------------------------- */

struct away_key {
    struct slice domain;
    uint32_t vmta_id;
};

static bool away_matches(uint32_t value, const void *key, void *context)
{
    const struct shard *shard = context;
    const struct away *away = slab_at(&shard->aways, value);
    const struct away_key *wanted = key;

    return away->vmta_id == wanted->vmta_id &&
           slice_equal(names_text(&shard->names, away->name), wanted->domain);
}

static uint64_t away_hash(const struct away_key *key)
{
    return hash_combine(hash_bytes(key->domain.data, key->domain.len), key->vmta_id);
}

static uint32_t away_find(const struct shard *shard, const struct away_key *key)
{
    return table_find(&shard->away_table, away_hash(key), away_matches, key, (void *)shard);
}

/* False when memory is short. */
static bool away_put(struct shard *shard, const struct queue *queue, uint16_t owner)
{
    struct away_key key = {names_text(&shard->names, queue->name), queue->vmta_id};
    struct away *away;
    uint32_t index;

    must(away_find(shard, &key) == TABLE_NONE);
    away = slab_alloc(&shard->aways, &index);
    if (!away)
        return false;
    if (!table_insert(&shard->away_table, away_hash(&key), index)) {
        slab_free(&shard->aways, index);
        return false;
    }
    names_ref(&shard->names, queue->name);
    *away = (struct away){queue->name, queue->vmta_id, owner, queue->paused};
    return true;
}

static void away_drop(struct shard *shard, const struct away_key *key)
{
    uint32_t index = away_find(shard, key);
    uint32_t name;

    if (index == TABLE_NONE)
        return;
    name = ((struct away *)slab_at(&shard->aways, index))->name;
    table_remove(&shard->away_table, away_hash(key), index);
    slab_free(&shard->aways, index);
    names_put(&shard->names, name);
}

uint16_t migrate_place(const struct shard *shard, struct queue *queue, uint64_t site_hash)
{
    if (queue->stays_until_ns > io_now_ns(shard->io))
        return shard->number;
    queue->stays_until_ns = 0;
    return place_site(shard->place, site_hash, queue->vmta_id);
}

uint16_t migrate_owner_of(const struct shard *shard, struct slice domain, uint32_t vmta_id)
{
    uint16_t base = place_base(shard->place, domain, vmta_id);
    struct away_key key = {domain, vmta_id};
    uint32_t index;

    if (base != shard->number || shard->aways.count_used == 0)
        return base;
    index = away_find(shard, &key);
    return index == TABLE_NONE ? base : ((struct away *)slab_at(&shard->aways, index))->owner;
}

/* ---- Leaving --------------------------------------------------------------------------------- */

bool migrate_has_room(const struct shard *shard)
{
    return shard->migrations.count_used + RESOLVE_JOBS <= MIGRATIONS_MAX;
}

/* As much of it as there is. */
static void copy_answer(struct mx_answer *to, const struct mx_answer *from)
{
    to->verdict = (struct verdict){.class = from->verdict.class};
    to->valid_until_ns = from->valid_until_ns;
    to->set_hash = from->set_hash;
    to->site_hash = from->site_hash;
    to->tlsa_hash = from->tlsa_hash;
    to->sts = from->sts;
    to->sts_hash = from->sts_hash;
    to->sts_bytes = from->sts_bytes;
    memcpy(to->sts_text, from->sts_text, from->sts_bytes);
    to->host_count = from->host_count;
    to->target_count = from->target_count;
    memcpy(to->host_names, from->host_names, from->host_count * sizeof(from->host_names[0]));
    memcpy(to->targets, from->targets, from->target_count * sizeof(from->targets[0]));
    memcpy(to->tlsas, from->tlsas, from->host_count * sizeof(from->tlsas[0]));
    to->tlsa_room.used = from->tlsa_room.used;
    memcpy(to->tlsa_room.data, from->tlsa_room.data, from->tlsa_room.used);
}

/* Sends the queue's state off, unless the log has yet to answer for a part of it. */
static void post(struct shard *shard, struct queue *queue)
{
    struct migration *migration = queue->migration;
    struct slice domain = names_text(&shard->names, queue->name);

    if (queue->records_open > 0)
        return;
    queue->migration = NULL;
    migration->paused = queue->paused;
    migration->rest_is_logged = queue->rest_is_logged;
    migration->rest_failures = queue->rest_failures;
    migration->rest_until_ns = queue->rest_until_ns;
    migration->rest_until_us = queue->rest_until_us;
    migration->doubt_ends_ns = queue->doubt_ends_ns;
    migration->doubt_ends_us = queue->doubt_ends_us;
    rates_pack_queue(shard, queue, &migration->rates);
    migration->last_error_us = queue->last_error_us;
    migration->mode = queue->mode;
    modes_stop(shard, queue);
    shard->mode_counts.moved += queue->mode.is_backoff;
    migration->domain_len = (uint8_t)domain.len;
    memcpy(migration->domain, domain.data, domain.len);
    memcpy(migration->last_error, queue->last_error, sizeof(migration->last_error));
    migration->parcel = (struct parcel){.kind = SHARD_MIGRATE, .from = shard->number};
    shard_post(shard, queue->goes_to, &migration->parcel);
}

void migrate_on_record(struct shard *shard, struct queue *queue)
{
    if (queue->migration)
        post(shard, queue);
    else
        queues_release(shard, queue);
}

/* Room for the way, and the base's note of it. NULL when there is none. */
static struct migration *prepare(struct shard *shard, struct queue *queue)
{
    uint32_t index;
    struct migration *migration = slab_alloc_unset(&shard->migrations, &index);

    if (!migration)
        return NULL;
    if (!queue->is_guest && !away_put(shard, queue, queue->goes_to)) {
        slab_free(&shard->migrations, index);
        return NULL;
    }
    migration->index = index;
    migration->queue = queue->index;
    migration->vmta_id = queue->vmta_id;
    migration->from = shard->number;
    migration->is_refused = false;
    migration->has_answer = false;
    return migration;
}

static void forget_site(struct shard *shard, struct queue *queue)
{
    if (queue->site)
        site_release(shard, queue->site);
    queue->site = NULL;
    queue->site_until_ns = 0;
}

/* It waits for no connection and no token any more, and will ask for the way. */
static void leave_lines(struct shard *shard, struct queue *queue)
{
    if (!list_empty(&queue->lane_link))
        lane_leave(queue);
    mail_slots_forget(queue);
    rates_forget_queue(shard, queue);
    forget_site(shard, queue);
}

void migrate_queue(struct shard *shard, struct queue *queue, uint16_t owner,
                   const struct mx_answer *answer)
{
    struct migration *migration;

    must(queue->stay == QUEUE_HERE && !queue->resolving);
    list_remove(&queue->idle_link);
    leave_lines(shard, queue);
    /* What must be done here first asks for the resolution again. */
    if (queue->local != LOCAL_NONE || shard->stopping) {
        queues_reconsider(shard, queue);
        return;
    }
    queue->goes_to = owner;
    if (queue->is_guest)
        queue->goes_to =
            place_base(shard->place, names_text(&shard->names, queue->name), queue->vmta_id);
    migration = prepare(shard, queue);
    if (!migration) {
        queues_wait(shard, queue, NO_ROOM_WAIT_MS, WAIT_MEMORY);
        return;
    }
    if (answer && !queue->is_guest) {
        migration->has_answer = true;
        migration->version = shard->version;
        copy_answer(&migration->answer, answer);
    }
    io_timer_stop(shard->io, &queue->wake_timer);
    queue->stay = QUEUE_MOVING;
    queue->migration = migration;
    queues_set_reason(shard, queue, WAIT_MOVE);
    post(shard, queue);
}

/* The other shard has it: what is left here follows. */
static void on_taken(struct shard *shard, struct queue *queue)
{
    if (!queue_is_left(queue))
        shard->left_deferred += queue->deferred_count;
    queue->stay = QUEUE_GONE;
    queue->paused = false;
    queue->mode = (struct queue_mode){0};
    modes_apply(shard, queue);
    queue->rest_is_logged = false;
    queue->rest_failures = 0;
    queue->rest_until_ns = 0;
    queue->rest_until_us = 0;
    queue->doubt_ends_ns = 0;
    queue->doubt_ends_us = 0;
    shard->totals.queues_moved++;
    queues_reconsider(shard, queue);
}

/* Two shards that are full of queues for each other would wait for ever: the queue is served here,
 * and asks again in a while. */
static void on_refused(struct shard *shard, struct queue *queue)
{
    struct away_key key = {names_text(&shard->names, queue->name), queue->vmta_id};

    queue->stay = QUEUE_HERE;
    if (!queue->is_guest)
        away_drop(shard, &key);
    queue->stays_until_ns = io_now_ns(shard->io) + STAY_MS * 1000000ull;
    shard->totals.moves_refused++;
    modes_resume(shard, queue, &queue->mode);
    if (queue->rest_until_ns > io_now_ns(shard->io))
        queues_wake_at(shard, queue, queue->rest_until_ns);
    queues_reconsider(shard, queue);
}

static void on_migrated(struct shard *shard, struct migration *migration)
{
    struct queue *queue = slab_at(&shard->queues, migration->queue);
    bool is_refused = migration->is_refused;

    must(queue->stay == QUEUE_MOVING && !queue->migration);
    slab_free(&shard->migrations, migration->index);
    if (is_refused)
        on_refused(shard, queue);
    else
        on_taken(shard, queue);
    resolve_next(shard);
}

/* ---- Arriving -------------------------------------------------------------------------------- */

static void install(struct shard *shard, struct queue *queue, const struct migration *migration,
                    bool paused)
{
    /* It may have been here before, and not have been reached since. */
    adopt_ahead(shard, queue);
    queue->paused = paused;
    modes_resume(shard, queue, &migration->mode);
    queue->rest_is_logged = migration->rest_is_logged;
    queue->rest_failures = migration->rest_failures;
    queue->rest_until_ns = migration->rest_until_ns;
    queue->rest_until_us = migration->rest_until_us;
    queue->doubt_ends_ns = migration->doubt_ends_ns;
    queue->doubt_ends_us = migration->doubt_ends_us;
    rates_resume_queue(queue, &migration->rates);
    queue->last_error_us = migration->last_error_us;
    memcpy(queue->last_error, migration->last_error, sizeof(queue->last_error));
    if (queue->rest_until_ns > io_now_ns(shard->io)) {
        queues_set_reason(shard, queue, WAIT_REST);
        queue->rests_by_dns = queue->doubt_ends_ns > 0;
        queues_wake_at(shard, queue, queue->rest_until_ns);
    }
    /* An answer that was asked for under another configuration may be another's. */
    if (migration->has_answer && migration->version == shard->version)
        resolve_set_site(shard, queue, &migration->answer);
    else
        queues_reconsider(shard, queue);
}

/* Nothing but its name came back to its base: there is no need to make the queue. */
static bool is_bare(const struct shard *shard, const struct migration *migration, bool paused)
{
    return !paused && !migration->mode.is_backoff && !migration->rest_is_logged &&
           !migration->has_answer && migration->rest_until_ns <= io_now_ns(shard->io) &&
           !rates_past_is_owed(&migration->rates, io_now_ns(shard->io));
}

static void on_migrate(struct shard *shard, struct migration *migration)
{
    struct away_key key = {slice_of(migration->domain, migration->domain_len), migration->vmta_id};
    uint32_t index = away_find(shard, &key);
    bool paused = migration->paused;
    struct queue *queue;

    /* Of a queue that comes back the base knows best. */
    if (index != TABLE_NONE)
        paused = ((struct away *)slab_at(&shard->aways, index))->paused;
    if (index != TABLE_NONE && is_bare(shard, migration, paused)) {
        away_drop(shard, &key);
    } else {
        queue = queues_obtain(shard, key.domain, key.vmta_id);
        migration->is_refused = !queue;
        if (queue) {
            away_drop(shard, &key);
            install(shard, queue, migration, paused);
        }
    }
    migration->parcel.kind = SHARD_MIGRATED;
    shard_post(shard, migration->from, &migration->parcel);
}

/* ---- Recipients ------------------------------------------------------------------------------ */

void migrate_reconsider(struct shard *shard, struct queue *queue)
{
    list_remove(&queue->leave_link);
    mail_slots_forget(queue);
    if (queue->local != LOCAL_NONE) {
        if (list_empty(&queue->local_link))
            list_push_back(&shard->local_work, &queue->local_link);
        return;
    }
    if (queue_is_left(queue) && queue->ready_count > 0)
        list_push_back(&shard->leaving, &queue->leave_link);
    queues_release(shard, queue);
}

void migrate_revive(struct shard *shard, struct queue *queue)
{
    list_remove(&queue->leave_link);
    list_remove(&queue->idle_link);
    queue->stay = QUEUE_HERE;
    if (!queue_is_left(queue))
        shard->left_deferred -= queue->deferred_count;
}

void migrate_hand_on(struct shard *shard, struct queue *queue, bool hands_on)
{
    bool was_left = queue_is_left(queue);

    if (queue->hands_on == hands_on)
        return;
    queue->hands_on = hands_on;
    if (queue_is_left(queue) && !was_left)
        shard->left_deferred += queue->deferred_count;
    else if (!queue_is_left(queue) && was_left)
        shard->left_deferred -= queue->deferred_count;
    if (!queue_is_left(queue))
        list_remove(&queue->leave_link);
    if (!hands_on || queue->stay != QUEUE_HERE)
        return;
    leave_lines(shard, queue);
    queues_set_reason(shard, queue, WAIT_HANDED_ON);
}

/* A parcel for the recipient's way home; NULL when there is none now, or no room on the way. */
static struct handoff *lend(struct shard *shard, const struct queue *queue,
                            const struct queued *queued)
{
    uint16_t owner = queue->stay == QUEUE_GONE ? queue->goes_to : OWNER_UNKNOWN;
    uint16_t to = queued->home == shard->number ? owner : queued->home;
    struct handoff *handoff;
    uint32_t index;

    if (to != OWNER_UNKNOWN && mailbox_backlog(shard->wiring.to_shards[to]) > FOLLOW_BACKLOG_MAX)
        return NULL;
    handoff = slab_alloc(&shard->handoffs, &index);
    if (!handoff)
        return NULL;
    *handoff = (struct handoff){
        .parcel = {.kind = SHARD_HANDOFF_BACK, .from = shard->number},
        .message_id = queued->is_hot ? queued->hot->envelope.message_id : queued->cold.id_check,
        .hot = queued_hot(queued),
        .home_message = queued->home_message,
        .home_rcpt = queued->home_rcpt,
        .index = index,
        .home = queued->home,
        .lender = shard->number,
        .owner = owner,
        .rolled_up = owner == OWNER_UNKNOWN ? queue->rolled_up : NULL,
        .backs_off = owner == OWNER_UNKNOWN && queue->backs_off && !queue->rolled_up,
    };
    return handoff;
}

/* The recipient, in none of its queue's lists any more, is on its way. */
static void send_off(struct shard *shard, uint32_t queued_index, struct handoff *handoff)
{
    bool is_lost = planted("shard/recipient-lost-on-the-way");

    handoff->in_doubt = doubt_way_of(shard, queued_index);
    handoff->first_s = firsts_at(shard, queued_index);
    queues_drop(shard, queued_index);
    if (handoff->owner == OWNER_UNKNOWN)
        shard->totals.rcpts_handed_on++;
    else
        shard->totals.rcpts_moved++;
    if (is_lost)
        home_on_handoff_return(shard, handoff);
    else if (handoff->home == shard->number)
        home_on_handoff_back(shard, handoff);
    else
        shard_post(shard, handoff->home, &handoff->parcel);
}

/* What operators end here goes nowhere. */
static bool may_let_over(const struct queue *queue)
{
    return queue->over_count > 0 && queue->local == LOCAL_NONE;
}

/* Of a queue that is left all of them; else those that go over. False when there is no room for
 * more now. */
static bool send_ready(struct shard *shard, struct queue *queue, uint32_t *budget)
{
    for (; queue->ready_count > 0 && (queue_is_left(queue) || may_let_over(queue)); (*budget)--) {
        uint32_t index = ready_peek(queue);
        struct handoff *handoff;

        /* What waits for a limit of its own stays. */
        if (index == NONE)
            break;
        handoff = *budget > 0 ? lend(shard, queue, slab_at(&shard->queued, index)) : NULL;
        if (!handoff)
            return false;
        handoff->goes_over = !queue_is_left(queue);
        ready_pop(shard, queue, index);
        queue->sending_count--;
        if (handoff->goes_over)
            queue->over_count--;
        send_off(shard, index, handoff);
    }
    queue->over_count = 0;
    return true;
}

void migrate_let_over(struct shard *shard, struct queue *queue, uint32_t count)
{
    queue->over_count = count;
    if (list_empty(&queue->leave_link))
        list_push_back(&shard->leaving, &queue->leave_link);
}

bool migrate_send_home(struct shard *shard, uint32_t queued_index, bool goes_over)
{
    const struct queued *queued = slab_at(&shard->queued, queued_index);
    struct handoff *handoff = lend(shard, slab_at(&shard->queues, queued->queue), queued);

    if (!handoff)
        return false;
    handoff->goes_over = goes_over;
    handoff->is_cooling = !goes_over;
    if (goes_over) {
        handoff->owner = OWNER_UNKNOWN;
        handoff->backs_off = false;
    }
    send_off(shard, queued_index, handoff);
    return true;
}

/* Looks for deferred ones through the heap, round and round while there are any. */
static void send_deferred(struct shard *shard, uint32_t *budget)
{
    for (uint32_t steps = STEPS_PER_TURN; shard->left_deferred > 0 && steps > 0; steps--) {
        const struct queued *queued;
        struct handoff *handoff;
        struct queue *queue;
        struct heap_entry entry;

        if (shard->left_cursor >= shard->due.count)
            shard->left_cursor = 0;
        entry = shard->due.entries[shard->left_cursor];
        queued = queues_deferred_at(shard, &entry);
        queue = queued ? slab_at(&shard->queues, queued->queue) : NULL;
        if (queue && queue_is_left(queue)) {
            handoff = *budget > 0 ? lend(shard, queue, queued) : NULL;
            if (!handoff)
                return;
            handoff->due_us = (uint64_t)queued->cold.due_s * 1000000;
            handoff->due_tick = entry.key;
            queue_count_deferred(shard, queue, -1);
            send_off(shard, entry.value, handoff);
            queues_release(shard, queue);
            (*budget)--;
        }
        shard->left_cursor++;
    }
}

void migrate_turn(struct shard *shard)
{
    uint32_t budget = FOLLOW_PER_TURN;

    send_deferred(shard, &budget);
    while (!list_empty(&shard->leaving)) {
        struct queue *queue = container_of(shard->leaving.next, struct queue, leave_link);

        if (!send_ready(shard, queue, &budget))
            return;
        list_remove(&queue->leave_link);
        queues_release(shard, queue);
    }
}

bool migrate_is_busy(const struct shard *shard)
{
    return shard->left_deferred > 0 || !list_empty(&shard->leaving);
}

/* ---- Pauses ---------------------------------------------------------------------------------- */

void migrate_order_pause(struct shard *shard, struct away *away, bool paused, struct report *report)
{
    struct slice domain = names_text(&shard->names, away->name);
    struct queue *queue = queues_find(shard, domain, away->vmta_id);
    struct pause_order *order;
    uint32_t index;

    order = slab_alloc(&shard->pause_orders, &index);
    if (!order) {
        report->result = E_FULL;
        return;
    }
    names_ref(&shard->names, away->name);
    *order = (struct pause_order){
        .parcel = {.kind = SHARD_PAUSE, .from = shard->number},
        .report = report,
        .domain = domain,
        .name = away->name,
        .vmta_id = away->vmta_id,
        .index = index,
        .base = shard->number,
        .paused = paused,
    };
    away->paused = paused;
    /* It may be refused there, or not be on its way yet. */
    if (queue && queue->stay == QUEUE_MOVING)
        queue->paused = paused;
    report->pending++;
    report->affected++;
    queues_persist_pause(shard, domain, away->vmta_id, paused, report);
    shard_post(shard, away->owner, &order->parcel);
}

static void on_pause(struct shard *shard, struct pause_order *order)
{
    struct queue *queue = queues_find(shard, order->domain, order->vmta_id);

    /* One that is on its way may be refused there, and is here again. */
    if (queue && queue->stay != QUEUE_GONE)
        queue->paused = order->paused;
    if (queue && queue->stay == QUEUE_HERE)
        queues_reconsider(shard, queue);
    order->parcel.kind = SHARD_PAUSED;
    shard_post(shard, order->base, &order->parcel);
}

static void on_paused(struct shard *shard, struct pause_order *order)
{
    struct report *report = order->report;

    names_put(&shard->names, order->name);
    slab_free(&shard->pause_orders, order->index);
    reports_on_persisted(shard, report);
}

void migrate_on_parcel(struct shard *shard, struct parcel *parcel)
{
    switch (parcel->kind) {
    case SHARD_MIGRATE:
        on_migrate(shard, container_of(parcel, struct migration, parcel));
        break;
    case SHARD_MIGRATED:
        on_migrated(shard, container_of(parcel, struct migration, parcel));
        break;
    case SHARD_PAUSE:
        on_pause(shard, container_of(parcel, struct pause_order, parcel));
        break;
    case SHARD_PAUSED:
        on_paused(shard, container_of(parcel, struct pause_order, parcel));
        break;
    default:
        must(false);
    }
}
