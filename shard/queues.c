/*
 * Queues owned here: deferred recipients, pause, rest, expiry, local verdicts.
 *
 * A recipient is in exactly one of three places: its queue's ready list (ready.c), the heap of due
 * times, or a delivery. Due times live in memory on the monotonic clock, so a jump of the wall
 * clock neither releases nor holds anything; the log keeps wall clock times. An entry of the heap
 * counts only while its recipient is deferred until that very tick: changing one's mind never
 * searches a heap, and of two entries that say the same the second finds the recipient gone.
 */
#include "core/base/err.h"
#include "core/conf/rollup.h"
#include "shard/place.h"
#include "shard/planted.h"
#include "shard/probe.h"
#include "shard/rollup.h"
#include "shard/shard_int.h"
#include "shard/signing.h"
#include "shard/timely.h"

#include <stdio.h>

#define DUE_PER_TURN        1024
#define LOCAL_WORK_PER_TURN 16
#define LOG_WAIT_MS         1000
#define VMTA_WAIT_MS        60000
/* Due times are kept in ticks of the monotonic clock, rounded up: 32 bits are 13 years. */
#define DUE_TICK_NS         100000000ull

static void on_due_timer(struct io_timer *timer)
{
    /* The work is done by the turn that the timer brought about. */
    (void)timer;
}

static void on_wake(struct io_timer *timer)
{
    struct queue *queue = container_of(timer, struct queue, wake_timer);

    queue->rest_until_ns = 0;
    queues_reconsider(queue->shard, queue);
}

void queues_init(struct shard *shard)
{
    slab_init(&shard->queued, sizeof(struct queued), shard->limits.rcpt_count_max);
    expiries_init(&shard->expiries, shard->limits.rcpt_count_max);
    must(shard->limits.queue_count_max <= QUEUES_MAX);
    slab_init(&shard->queues, sizeof(struct queue), shard->limits.queue_count_max);
    slab_init(&shard->strands, sizeof(struct ready_strand), shard->limits.queue_count_max);
    slab_init(&shard->outcomes, sizeof(struct outcome_parcel), 32768);
    memo_init(shard);
    table_init(&shard->queue_table);
    heap_init(&shard->due);
    list_init(&shard->local_work);
    list_init(&shard->idle_queues);
    io_timer_init(&shard->due_timer, on_due_timer);
}

void queues_fini(struct shard *shard)
{
    firsts_fini(shard);
    heap_fini(&shard->due);
    table_fini(&shard->queue_table);
    slab_fini(&shard->named_records);
    slab_fini(&shard->outcomes);
    slab_fini(&shard->strands);
    slab_fini(&shard->queues);
    expiries_fini(&shard->expiries);
    slab_fini(&shard->queued);
}

/* ---- Queues ---------------------------------------------------------------------------------- */

struct queue_key {
    struct slice domain;
    uint32_t vmta_id;
};

static bool queue_matches(uint32_t value, const void *key, void *context)
{
    const struct shard *shard = context;
    const struct queue *queue = slab_at(&shard->queues, value);
    const struct queue_key *wanted = key;

    return queue->vmta_id == wanted->vmta_id &&
           slice_equal(names_text(&shard->names, queue->name), wanted->domain);
}

static uint64_t queue_hash(const struct queue_key *key)
{
    return hash_combine(hash_bytes(key->domain.data, key->domain.len), key->vmta_id);
}

struct queue *queues_find(struct shard *shard, struct slice domain, uint32_t vmta_id)
{
    struct queue_key key = {domain, vmta_id};
    uint32_t index = table_find(&shard->queue_table, queue_hash(&key), queue_matches, &key, shard);

    return index == TABLE_NONE ? NULL : slab_at(&shard->queues, index);
}

/* What came to a former roll-up queue is no other queue's name: its mail goes to its domains'. */
bool queues_hand_on(const struct shard *shard, const struct queue *queue)
{
    struct slice domain = names_text(&shard->names, queue->name);
    struct conf_way way;

    if (queue->rolled_up != NULL || queue->backs_off ||
        (queue->is_rollup && !conf_is_rollup(shard->conf, domain)))
        return true;
    conf_way(shard->conf, domain, queue->vmta_id, 0, &way);
    return way.is_elsewhere;
}

struct queue *queues_obtain(struct shard *shard, struct slice domain, uint32_t vmta_id)
{
    struct queue *queue = queues_find(shard, domain, vmta_id);
    struct queue_key key = {domain, vmta_id};
    uint32_t index, name;

    if (queue && queue->stay == QUEUE_GONE)
        migrate_revive(shard, queue);
    if (queue)
        return queue;
    name = names_get(&shard->names, domain);
    if (name == NAME_NONE)
        return NULL;
    queue = slab_alloc(&shard->queues, &index);
    if (!queue || !table_insert(&shard->queue_table, queue_hash(&key), index)) {
        if (queue)
            slab_free(&shard->queues, index);
        names_put(&shard->names, name);
        return NULL;
    }
    queue->index = index;
    queue->name = name;
    queue->vmta_id = vmta_id;
    ready_init(&queue->ready);
    queue->reason_since_us = io_wall_us(shard->io);
    waits_init(&queue->waits, io_now_ns(shard->io));
    events_init_queue(queue);
    list_init(&queue->idle_link);
    list_init(&queue->lane_link);
    list_init(&queue->express_link);
    list_init(&queue->rank_link);
    list_init(&queue->resolve_link);
    list_init(&queue->local_link);
    list_init(&queue->leave_link);
    list_init(&queue->mail_claims);
    io_timer_init(&queue->wake_timer, on_wake);
    queue->shard = shard;
    queue->has_vmta = conf_vmta(shard->conf, vmta_id) != NULL;
    conf_queue(shard->conf, domain, vmta_id, &queue->settings);
    queue->sign_rules = signing_rules(shard->conf, &queue->settings.signing, vmta_id);
    queue->is_guest = place_base(shard->place, domain, vmta_id) != shard->number;
    queue->is_rollup = conf_is_rollup(shard->conf, domain);
    queue->hands_on = queues_hand_on(shard, queue);
    modes_init_queue(queue);
    rates_init_queue(shard, queue);
    return queue;
}

/* A guest's pause, mode and rest are kept by its base. */
static bool is_kept(const struct shard *shard, const struct queue *queue)
{
    return queue->ready_count + queue->deferred_count + queue->sending_count > 0 ||
           queue->connection_count > 0 || queue->resolving || queue->local != LOCAL_NONE ||
           queue->records_open > 0 || queue->stay == QUEUE_MOVING ||
           (!queue->is_guest && (queue->paused || queue->mode.is_backoff ||
                                 queue->rest_until_ns > io_now_ns(shard->io)));
}

/* The rest is over: the log need not bring it back after a restart. is_last: the queue ends. */
static void forget_rest(struct shard *shard, struct queue *queue, bool is_last)
{
    queue->rest_until_ns = 0;
    queue->rest_until_us = 0;
    queue->rest_failures = 0;
    queue->doubt_ends_ns = 0;
    queue->doubt_ends_us = 0;
    if (queue->rest_is_logged)
        memo_rest(shard, queue, is_last);
}

static void queue_free(struct shard *shard, struct queue *queue)
{
    struct queue_key key = {names_text(&shard->names, queue->name), queue->vmta_id};

    must(queue->queued_kilobytes == 0);
    forget_rest(shard, queue, true);
    io_timer_stop(shard->io, &queue->wake_timer);
    modes_stop(shard, queue);
    events_forget(shard, queue);
    mail_slots_forget(queue);
    rates_forget_queue(shard, queue);
    rates_fini_queue(queue);
    list_remove(&queue->idle_link);
    lane_step_out(queue);
    if (queue->site)
        site_release(shard, queue->site);
    table_remove(&shard->queue_table, queue_hash(&key), queue->index);
    names_put(&shard->names, queue->name);
    slab_free(&shard->queues, queue->index);
}

void queues_release(struct shard *shard, struct queue *queue)
{
    if (is_kept(shard, queue))
        return;
    list_remove(&queue->idle_link);
    queue->idle_since_ns = io_now_ns(shard->io);
    if (queue->stay == QUEUE_HERE) {
        list_push_back(&shard->idle_queues, &queue->idle_link);
        return;
    }
    /* Nobody comes back to it: it goes with the next turn. */
    queue->idle_since_ns = 0;
    list_push_front(&shard->idle_queues, &queue->idle_link);
}

uint64_t queues_keep_ns(const struct shard *shard)
{
    uint32_t many = shard->limits.queue_count_max / 8 / shard->count;

    return shard->queues.count_used > many ? IDLE_KEEP_MANY_NS : IDLE_KEEP_NS;
}

/* Frees what has been idle long enough, guests by way of their base; what came to life again leaves
 * the list. */
static void free_idle(struct shard *shard, uint64_t now_ns)
{
    while (!list_empty(&shard->idle_queues)) {
        struct queue *queue = container_of(shard->idle_queues.next, struct queue, idle_link);

        if (is_kept(shard, queue))
            list_remove(&queue->idle_link);
        else if (queue->idle_since_ns + queues_keep_ns(shard) > now_ns ||
                 (queue->is_guest && !migrate_has_room(shard)))
            return;
        else if (queue->stay == QUEUE_HERE && rates_is_owed(queue, now_ns))
            queues_release(shard, queue);
        else if (queue->is_guest && queue->stay == QUEUE_HERE)
            migrate_queue(shard, queue, shard->number, NULL);
        else
            queue_free(shard, queue);
    }
}

void queues_put_name_of(const struct shard *shard, struct slice domain, uint32_t vmta_id,
                        struct text *text)
{
    text_put(text, domain);
    text_put_char(text, '/');
    text_put_str(text, conf_vmta_name(shard->conf, vmta_id));
}

void queues_put_name(const struct shard *shard, const struct queue *queue, struct text *text)
{
    queues_put_name_of(shard, names_text(&shard->names, queue->name), queue->vmta_id, text);
}

void queues_name(const struct shard *shard, const struct queue *queue, char *room,
                 size_t room_bytes)
{
    struct text text = text_in(room, room_bytes);

    queues_put_name(shard, queue, &text);
    text_end(&text);
}

void queues_set_reason(struct shard *shard, struct queue *queue, enum wait_reason reason)
{
    if (queue->reason == reason)
        return;
    waits_note(&queue->waits, queue->reason, io_now_ns(shard->io));
    queue->reason = (uint8_t)reason;
    queue->reason_since_us = io_wall_us(shard->io);
}

void queues_note_error(struct shard *shard, struct queue *queue, const struct verdict *verdict)
{
    struct slice text = verdict_text(verdict);

    snprintf(queue->last_error, sizeof(queue->last_error), "%.*s", (int)text.len,
             (const char *)text.data);
    queue->last_error_us = io_wall_us(shard->io);
    events_note(shard, queue, EVENT_ERROR, queue->last_error);
}

/* ---- Recipients ------------------------------------------------------------------------------ */

uint64_t queues_monotonic_of(const struct shard *shard, uint64_t wall_us)
{
    uint64_t now_us = io_wall_us(shard->io);

    return io_now_ns(shard->io) + (wall_us > now_us ? (wall_us - now_us) * 1000 : 0);
}

static uint32_t tick_of(uint64_t at_ns)
{
    uint64_t tick = (at_ns + DUE_TICK_NS - 1) / DUE_TICK_NS;

    return tick < UINT32_MAX ? (uint32_t)tick : UINT32_MAX;
}

const struct queued *queues_deferred_at(const struct shard *shard, const struct heap_entry *entry)
{
    const struct queued *queued;

    if (!slab_is_live(&shard->queued, entry->value))
        return NULL;
    queued = slab_at(&shard->queued, entry->value);
    return queued->state == QUEUED_DEFERRED && queued->due_tick == entry->key ? queued : NULL;
}

/* Each recipient has room in the heap since it was taken (queues_take); what else stands there is
 * entries that count no more. They go when memory for them is short. */
static void push_due(struct shard *shard, struct heap_entry entry)
{
    struct heap *due = &shard->due;
    uint32_t count = due->count;
    bool is_pushed = heap_push(due, entry);

    if (is_pushed)
        return;
    due->count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct heap_entry kept = due->entries[i];

        if (queues_deferred_at(shard, &kept))
            heap_push(due, kept);
    }
    is_pushed = heap_push(due, entry);
    must(is_pushed);
}

static void defer_until(struct shard *shard, uint32_t queued_index, uint64_t due_us,
                        uint32_t due_tick)
{
    struct queued *queued = slab_at(&shard->queued, queued_index);
    struct queue *queue = slab_at(&shard->queues, queued->queue);
    struct heap_entry entry = {.key = due_tick, .value = queued_index};

    if (planted("shard/no-delay-before-retry"))
        entry.key = tick_of(io_now_ns(shard->io));

    must(!queued->is_hot);
    queued->cold.due_s = (uint32_t)((due_us + 999999) / 1000000);
    queued->due_tick = entry.key;
    push_due(shard, entry);
    queued->state = QUEUED_DEFERRED;
    queue_count_deferred(shard, queue, 1);
}

void queues_defer(struct shard *shard, uint32_t queued_index, uint64_t due_us)
{
    defer_until(shard, queued_index, due_us, tick_of(queues_monotonic_of(shard, due_us)));
}

/* A size in one byte: kilobytes as they are up to 31, above with four bits behind the first one,
 * rounded up. */
static uint8_t size_code_of(uint32_t kilobytes)
{
    uint32_t shift = 0;

    while ((kilobytes + (1u << shift) - 1) >> shift > 31)
        shift++;
    if (shift == 0)
        return (uint8_t)kilobytes;
    return (uint8_t)((shift + 1) << 4 | (((kilobytes + (1u << shift) - 1) >> shift) - 16));
}

static uint64_t size_kilobytes(uint8_t code)
{
    return code < 32 ? code : (16ull + (code & 15)) << ((code >> 4) - 1);
}

static uint8_t size_code(const struct queued *queued)
{
    return queued->is_hot ? size_code_of(queued->hot->kilobytes) : queued->cold.size_code;
}

uint64_t queues_next_octets(const struct queue *queue)
{
    uint32_t index = ready_peek(queue);

    if (index == NONE)
        return 0;
    return size_kilobytes(size_code(slab_at(&queue->shard->queued, index))) * 1024;
}

void queues_cool(struct queued *queued)
{
    struct queued_cold cold = {.size_code = size_code(queued)};

    if (!queued->is_hot)
        return;
    cold.id_check = (uint8_t)queued->hot->envelope.message_id;
    queued->cold = cold;
    queued->is_hot = false;
}

static void fill_queued(struct queued *queued, const struct handoff *handoff)
{
    queued->accepted_s = handoff->accepted_s;
    queued->home_message = handoff->home_message;
    queued->home_rcpt = handoff->home_rcpt;
    queued->ordinal = handoff->ordinal & 0x7fff;
    queued->has_expiry = handoff->expires_s > 0;
    queued->home = handoff->home & ((1 << 8) - 1);
    queued->is_hot = handoff->hot != NULL;
    if (handoff->hot) {
        must(handoff->attempts == 0);
        queued->hot = handoff->hot;
        return;
    }
    queued->cold = (struct queued_cold){
        .attempts = handoff->attempts,
        .size_code = size_code_of(handoff->kilobytes),
        .id_check = (uint8_t)handoff->message_id,
    };
}

enum take queues_take(struct shard *shard, const struct handoff *handoff, uint16_t *ret_owner)
{
    struct queue *queue = queues_find(shard, handoff->domain, handoff->vmta_id);
    struct queued *queued;
    uint32_t index;

    if (!queue || queue->stay == QUEUE_GONE) {
        uint16_t owner = migrate_owner_of(shard, handoff->domain, handoff->vmta_id);

        if (owner != shard->number) {
            *ret_owner = owner;
            return TAKE_ELSEWHERE;
        }
        queue = queues_obtain(shard, handoff->domain, handoff->vmta_id);
    }
    if (!queue)
        return TAKE_NO_ROOM;
    queued = slab_alloc(&shard->queued, &index);
    /* Its due time, if it is ever deferred, must find room: to forget it were an early retry. */
    if (queued &&
        (!heap_reserve(&shard->due, shard->queued.count_used) ||
         (handoff->expires_s > 0 && !expiries_put(&shard->expiries, index, handoff->expires_s)))) {
        slab_free(&shard->queued, index);
        queued = NULL;
    }
    if (!queued) {
        queues_release(shard, queue);
        return TAKE_NO_ROOM;
    }
    fill_queued(queued, handoff);
    queued->flow = flows_take(&shard->flows, handoff->flow) & (FLOW_SLOTS - 1);
    queued->rank = turns_rank(handoff->priority) & 7;
    queued->queue = queue->index & (QUEUES_MAX - 1);
    queue->queued_kilobytes += size_kilobytes(size_code(queued));
    doubt_resume(shard, index, &handoff->in_doubt);
    firsts_put(shard, index, handoff->first_s);
    /* A jump of the wall clock while it waited elsewhere neither releases nor holds it. */
    if (handoff->due_tick)
        defer_until(shard, index, handoff->due_us, handoff->due_tick);
    else if (handoff->due_us > io_wall_us(shard->io))
        queues_defer(shard, index, handoff->due_us);
    else
        ready_push(shard, queue, index, false);
    /* Mail that is younger than the rest ends it where the configuration says so. */
    if (queue->settings.retry_upon_new_mail && queue->reason == WAIT_REST &&
        queued_accepted_us(queued) > queue->reason_since_us) {
        queue->rest_until_ns = 0;
        probe_forget(queue);
    }
    queues_reconsider(shard, queue);
    return TAKE_DONE;
}

void queues_drop(struct shard *shard, uint32_t queued_index)
{
    const struct queued *queued = slab_at(&shard->queued, queued_index);
    struct queue *queue = slab_at(&shard->queues, queued->queue);

    must(queue->queued_kilobytes >= size_kilobytes(size_code(queued)));
    queue->queued_kilobytes -= size_kilobytes(size_code(queued));
    doubt_forget(shard, queued_index);
    flows_release(&shard->flows, queued->flow);
    if (queued->has_expiry)
        expiries_drop(&shard->expiries, queued_index);
    slab_free(&shard->queued, queued_index);
}

/* ---- What a queue does next ------------------------------------------------------------------ */

/* Reasons that came with a time: they stand until it has passed. */
static bool is_put_off(uint8_t reason)
{
    return reason == WAIT_RATE || reason == WAIT_VOLUME || reason == WAIT_SOURCE ||
           reason == WAIT_MEMORY || reason == WAIT_DISK || reason == WAIT_VMTA ||
           reason == WAIT_ORDER || reason == WAIT_RESOLVER || reason == WAIT_WARMUP;
}

bool queues_can_send(const struct shard *shard, const struct queue *queue)
{
    uint64_t now_ns = io_now_ns(shard->io);

    return ready_open_count(queue) > 0 && queue->local == LOCAL_NONE && !queue->paused &&
           queue->has_vmta && !queue->hands_on && !shard->stopping &&
           !conf_delivery_is_local(queue->settings.delivery) && !shard_holds_deliveries(shard) &&
           queue->rest_until_ns <= now_ns && queue->site && queue->site_until_ns > now_ns;
}

/* Its recipients were taken although their addresses are broken. */
static bool is_nowhere(const struct shard *shard, const struct queue *queue)
{
    return slice_equal(names_text(&shard->names, queue->name), SLICE_LITERAL(CONF_DOMAIN_INVALID));
}

static void fail_nowhere(struct shard *shard, struct queue *queue)
{
    static const uint8_t enhanced[3] = {5, 1, 3};
    struct verdict verdict;

    verdict_set_local(&verdict, VERDICT_DOMAIN, VERDICT_PERMANENT, VERDICT_AT_LOCAL, 553, enhanced,
                      "the address of the recipient is broken");
    queues_fail_all(shard, queue, &verdict, 0);
}

/* The configuration has no such virtual MTA any more: its mail waits until it is back, or until it
 * is too old. */
static void wait_for_vmta(struct shard *shard, struct queue *queue)
{
    static const uint8_t enhanced[3] = {5, 3, 5};
    struct verdict verdict;

    if (strcmp(conf_vmta_name(shard->conf, queue->vmta_id), CONF_VMTA_INVALID) == 0) {
        verdict_set_local(&verdict, VERDICT_DOMAIN, VERDICT_PERMANENT, VERDICT_AT_LOCAL, 554,
                          enhanced, "there is no virtual MTA as the message names it");
        queues_fail_all(shard, queue, &verdict, 0);
        return;
    }
    snprintf(queue->last_error, sizeof(queue->last_error), "451 4.3.5 no virtual MTA %s",
             conf_vmta_name(shard->conf, queue->vmta_id));
    queue->last_error_us = io_wall_us(shard->io);
    queues_wait(shard, queue, VMTA_WAIT_MS, WAIT_VMTA);
    timely_set_expired_apart(shard, queue);
    if (!timely_head_is_expired(shard, queue))
        return;
    queue->local = LOCAL_EXPIRED;
    queue->local_left = queue->ready_count;
    list_push_back(&shard->local_work, &queue->local_link);
}

bool queues_ends_here(const struct shard *shard, const struct queue *queue)
{
    return conf_delivery_is_local(queue->settings.delivery) && queue->stay == QUEUE_HERE &&
           !queue->hands_on && queue->has_vmta && !queue->paused && !shard->stopping &&
           queue->rest_until_ns <= io_now_ns(shard->io) && !shard_holds_deliveries(shard);
}

/* Its recipients end here, or are carried away, as fast as the queue's rates allow. */
static void end_here(struct shard *shard, struct queue *queue)
{
    mail_slots_forget(queue);
    if (!list_empty(&queue->lane_link))
        lane_leave(queue);
    if (shard_holds_deliveries(shard)) {
        queues_wait(shard, queue, LOG_WAIT_MS, WAIT_DISK);
        return;
    }
    if (!rates_admit(shard, queue) || !rates_get_token(shard, queue, NULL))
        return;
    if (queue->settings.delivery != CONF_DELIVERY_DISCARD &&
        queue->sending_count >= queue->settings.max_smtp_out) {
        queues_set_reason(shard, queue, WAIT_OWN_LIMIT);
        return;
    }
    queue->local = queue->settings.delivery == CONF_DELIVERY_DISCARD ? LOCAL_DISCARD : LOCAL_CARRY;
    queue->local_left = queue->ready_count;
    if (list_empty(&queue->local_link))
        list_push_back(&shard->local_work, &queue->local_link);
}

void queues_reconsider(struct shard *shard, struct queue *queue)
{
    enum wait_reason reason = WAIT_NOTHING;

    if (rollup_is_over(shard, queue))
        rollup_end(shard, queue);
    if (queue->stay != QUEUE_HERE || queue->hands_on) {
        migrate_reconsider(shard, queue);
        return;
    }
    if (queue->ready_count == 0)
        reason = queue->deferred_count > 0 ? WAIT_RETRY : WAIT_NOTHING;
    else if (queue->local != LOCAL_NONE)
        reason = WAIT_MEMORY;
    else if (queue->paused)
        reason = WAIT_PAUSED;
    else if (shard->stopping)
        reason = WAIT_STOPPING;
    else if (queue->rest_until_ns > io_now_ns(shard->io))
        reason = is_put_off(queue->reason) ? queue->reason : WAIT_REST;
    else if (!queue->has_vmta) {
        wait_for_vmta(shard, queue);
        return;
    } else if (is_nowhere(shard, queue)) {
        fail_nowhere(shard, queue);
        return;
    } else if (conf_delivery_is_local(queue->settings.delivery)) {
        end_here(shard, queue);
        return;
    } else if (!queue->site || queue->site_until_ns <= io_now_ns(shard->io))
        reason = WAIT_DNS;
    else {
        /* Each says itself what it waits for. What is delivered while the log takes no outcome
         * could not be recorded and would be delivered again. */
        if (shard_holds_deliveries(shard))
            queues_wait(shard, queue, LOG_WAIT_MS, WAIT_DISK);
        else if (!list_empty(&queue->lane_link)) {
            if (mail_slots_admit(shard, queue, NULL))
                lane_note_ready(queue);
        } else if (rates_admit(shard, queue) && mail_slots_admit(shard, queue, NULL)) {
            lane_enqueue(shard, queue);
        }
        return;
    }
    /* While it looks up its destination it keeps its places. */
    if (reason != WAIT_DNS)
        mail_slots_forget(queue);
    lane_step_out(queue);
    queues_set_reason(shard, queue, reason);
    if (reason == WAIT_DNS && !queue->resolving)
        resolve_queue(shard, queue);
    if (queue->local != LOCAL_NONE && list_empty(&queue->local_link))
        list_push_back(&shard->local_work, &queue->local_link);
    if (reason == WAIT_NOTHING)
        queues_release(shard, queue);
}

void queues_wake_at(struct shard *shard, struct queue *queue, uint64_t at_ns)
{
    queue->rest_until_ns = at_ns;
    io_timer_arm(shard->io, &queue->wake_timer, at_ns);
}

void queues_wait_until(struct shard *shard, struct queue *queue, uint64_t at_ns,
                       enum wait_reason reason)
{
    uint64_t now_ns = io_now_ns(shard->io);

    lane_step_out(queue);
    if (at_ns <= queue->rest_until_ns)
        return;
    queues_set_reason(shard, queue, reason);
    queue->rest_until_us = io_wall_us(shard->io) + (at_ns > now_ns ? (at_ns - now_ns) / 1000 : 0);
    queues_wake_at(shard, queue, at_ns);
}

void queues_wait(struct shard *shard, struct queue *queue, uint64_t delay_ms,
                 enum wait_reason reason)
{
    queues_wait_until(shard, queue, io_now_ns(shard->io) + delay_ms * 1000000, reason);
}

void queues_rest(struct shard *shard, struct queue *queue, const struct verdict *verdict)
{
    uint64_t delay_ms =
        fate_retry_delay_ms(&queue->settings, queue->rest_failures, io_rng(shard->io));

    if (queue->rest_failures < UINT16_MAX)
        queue->rest_failures++;
    queues_rest_for(shard, queue, verdict, delay_ms);
}

void queues_rest_for(struct shard *shard, struct queue *queue, const struct verdict *verdict,
                     uint64_t delay_ms)
{
    queues_note_error(shard, queue, verdict);
    queues_wait(shard, queue, delay_ms, WAIT_REST);
    memo_rest(shard, queue, false);
    queues_expire(shard, queue);
}

void queues_expire(struct shard *shard, struct queue *queue)
{
    timely_set_expired_apart(shard, queue);
    if (!timely_head_is_expired(shard, queue))
        return;
    queue->local = LOCAL_EXPIRED;
    queue->local_left = queue->ready_count;
    queues_reconsider(shard, queue);
}

void queues_end_doubt(struct shard *shard, struct queue *queue)
{
    if (queue->doubt_ends_ns == 0)
        return;
    queue->doubt_ends_ns = 0;
    queue->doubt_ends_us = 0;
    memo_rest(shard, queue, false);
}

void queues_note_success(struct shard *shard, struct queue *queue)
{
    /* What becomes of a queue that leaves is its next owner's business. */
    if (queue->stay == QUEUE_HERE && queue->deferred_until_ns <= io_now_ns(shard->io))
        forget_rest(shard, queue, false);
}

uint32_t queues_fail_all(struct shard *shard, struct queue *queue, const struct verdict *verdict,
                         uint64_t older_than_us)
{
    uint32_t count = 0;

    queues_note_error(shard, queue, verdict);
    if (queue->stay == QUEUE_HERE || older_than_us)
        count = ready_set_apart(shard, queue, older_than_us);
    if (count == 0)
        return 0;
    queue->local = LOCAL_FAIL;
    queue->local_code = verdict->code;
    memcpy(queue->local_enhanced, verdict->enhanced, sizeof(queue->local_enhanced));
    queue->local_left = count;
    queues_reconsider(shard, queue);
    return count;
}

/* Brings deferred recipients of a queue (accepted before a time, 0 = any) to the ready list. */
static uint32_t bring_deferred(struct shard *shard, struct queue *queue, uint64_t older_than_us)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < shard->queued.count_grown && queue->deferred_count > 0; i++) {
        struct queued *queued;

        if (!slab_is_live(&shard->queued, i))
            continue;
        queued = slab_at(&shard->queued, i);
        if (queued->queue != queue->index || queued->state != QUEUED_DEFERRED ||
            (older_than_us && queued_accepted_us(queued) >= older_than_us))
            continue;
        queue_count_deferred(shard, queue, -1);
        ready_push(shard, queue, i, false);
        count++;
    }
    return count;
}

void queues_bounce(struct shard *shard, struct queue *queue, const struct verdict *verdict)
{
    bring_deferred(shard, queue, 0);
    queues_fail_all(shard, queue, verdict, 0);
}

uint32_t queues_delete(struct shard *shard, struct queue *queue, uint64_t older_than_us)
{
    bring_deferred(shard, queue, older_than_us);
    queue->local_left = ready_set_apart(shard, queue, older_than_us);
    if (queue->local_left == 0)
        return 0;
    queue->local = LOCAL_DELETE;
    queues_reconsider(shard, queue);
    return queue->local_left;
}

uint32_t queues_schedule(struct shard *shard, struct queue *queue)
{
    uint32_t count = bring_deferred(shard, queue, 0);

    queue->rest_until_ns = 0;
    queue->deferred_until_ns = 0;
    probe_forget(queue);
    queues_reconsider(shard, queue);
    return count;
}

/* ---- The turn -------------------------------------------------------------------------------- */

static void release_due(struct shard *shard, uint64_t now_ns, uint32_t *budget)
{
    struct heap_entry entry;

    for (;
         *budget > 0 && heap_top(&shard->due) && heap_top(&shard->due)->key * DUE_TICK_NS <= now_ns;
         (*budget)--) {
        const struct queued *queued;
        struct queue *queue;

        heap_pop(&shard->due, &entry);
        queued = queues_deferred_at(shard, &entry);
        if (!queued)
            continue;
        queue = slab_at(&shard->queues, queued->queue);
        queue_count_deferred(shard, queue, -1);
        ready_push(shard, queue, entry.value, false);
        queues_reconsider(shard, queue);
    }
}

static void do_local_work(struct shard *shard)
{
    for (int i = 0; i < LOCAL_WORK_PER_TURN && !list_empty(&shard->local_work); i++) {
        struct queue *queue =
            container_of(list_pop_front(&shard->local_work), struct queue, local_link);
        bool is_over = queue->local_left == 0 || queue->ready_count == 0 ||
                       (queue->local == LOCAL_EXPIRED && !timely_head_is_expired(shard, queue));

        if (is_over) {
            queue->local = LOCAL_NONE;
            queues_reconsider(shard, queue);
        } else {
            list_push_back(&shard->local_work, &queue->local_link);
            if (!deliver_local(shard, queue))
                break;
        }
    }
}

void queues_turn(struct shard *shard)
{
    uint64_t now_ns = io_now_ns(shard->io), next_ns = UINT64_MAX;
    uint32_t budget = DUE_PER_TURN;

    release_due(shard, now_ns, &budget);
    do_local_work(shard);
    free_idle(shard, now_ns);
    if (!list_empty(&shard->idle_queues))
        next_ns = container_of(shard->idle_queues.next, struct queue, idle_link)->idle_since_ns +
                  queues_keep_ns(shard);
    if (heap_top(&shard->due) && heap_top(&shard->due)->key * DUE_TICK_NS < next_ns)
        next_ns = heap_top(&shard->due)->key * DUE_TICK_NS;
    if (next_ns != UINT64_MAX)
        io_timer_arm(shard->io, &shard->due_timer, next_ns);
}
