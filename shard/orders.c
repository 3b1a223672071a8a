/*
 * Standing orders: this shard's copy of all, and the book of those that it owns.
 *
 * Whatever changes an order here goes through orders_obey() and end(); what the owner must know of
 * is gathered in the order and sent with one parcel at a time, and so is what everybody must know.
 */
#include "core/base/log.h"
#include "core/conf/provider.h"
#include "shard/orders_int.h"
#include "shard/planted.h"

#include <inttypes.h>
#include <stdio.h>

#define QUEUES_PER_TURN 1024
#define LOOK_COST       16            /* of one whose settings change */
#define LOOKS_AT        16            /* source addresses of one, for the cost of a queue */
#define UNUSED_NS       1000000000ull /* a connection that was lent and not opened goes back */
#define LOG_WAIT_NS     1000000000ull
#define QUIET_US        (86400 * 1000000ull) /* a probe that met no refusal for so long is over */

static void on_order_timer(struct io_timer *timer);

static const char *const kind_texts[] = {
#define KIND_TEXT(name, text) text,
    ORDER_KIND_TABLE(KIND_TEXT)
#undef KIND_TEXT
};

const char *order_kind_text(enum order_kind kind)
{
    return kind_texts[kind];
}

void orders_init(struct shard *shard)
{
    slab_init(&shard->orders.slab, sizeof(struct order), ORDER_COUNT_MAX);
    table_init(&shard->orders.table);
}

void orders_fini(struct shard *shard)
{
    for (uint32_t i = 0; i < shard->orders.slab.count_grown; i++)
        if (slab_is_live(&shard->orders.slab, i))
            io_timer_stop(shard->io, &((struct order *)slab_at(&shard->orders.slab, i))->timer);
    table_fini(&shard->orders.table);
    slab_fini(&shard->orders.slab);
}

/* ---- The table ------------------------------------------------------------------------------- */

uint64_t orders_hash_of(const struct order_key *key)
{
    return hash_combine(hash_combine(hash_bytes(key->who.data, key->who.len), key->kind),
                        ipaddr_hash(key->source));
}

static bool order_matches(uint32_t value, const void *key, void *context)
{
    const struct order *order = slab_at(&((const struct shard *)context)->orders.slab, value);
    const struct order_key *wanted = key;

    return order->facts.kind == wanted->kind &&
           ipaddr_equal(&order->facts.source, wanted->source) &&
           slice_equal(slice_str(order->facts.who), wanted->who);
}

struct order *orders_find(const struct shard *shard, const struct order_key *key)
{
    uint32_t index = table_find(&shard->orders.table, orders_hash_of(key), order_matches, key,
                                (struct shard *)(uintptr_t)shard);

    return index == TABLE_NONE ? NULL : slab_at(&shard->orders.slab, index);
}

struct order_key orders_key_of(const struct order_facts *facts)
{
    return (struct order_key){(enum order_kind)facts->kind, &facts->source, slice_str(facts->who)};
}

/* The order, made if need be, not in force then; NULL when there is no room. */
struct order *orders_obtain(struct shard *shard, const struct order_facts *facts)
{
    struct order_key key = orders_key_of(facts);
    struct order *order = orders_find(shard, &key);
    uint32_t index;

    if (order)
        return order;
    order = slab_alloc(&shard->orders.slab, &index);
    if (!order || !table_insert(&shard->orders.table, orders_hash_of(&key), index)) {
        if (order)
            slab_free(&shard->orders.slab, index);
        shard->orders.forgotten++;
        log_error("no room for another standing order: %s of %s", order_kind_text(key.kind),
                  facts->who);
        return NULL;
    }
    order->facts = *facts;
    order->shard = shard;
    order->hash = orders_hash_of(&key);
    order->index = index;
    order->is_over = true;
    io_timer_init(&order->timer, on_order_timer);
    list_init(&order->lanes);
    list_init(&order->wants);
    list_init(&order->want.link);
    return order;
}

static uint16_t owner_of(const struct shard *shard, const struct order *order)
{
    return (uint16_t)(order->hash % shard->count);
}

bool orders_is_owner(const struct shard *shard, const struct order *order)
{
    return owner_of(shard, order) == shard->number;
}

/* Nothing of it is under way any more, and it is over: it goes. */
void orders_free_if_over(struct shard *shard, struct order *order)
{
    if (!order->is_over || order->tell_is_out || order->want_is_out || order->news_is_out ||
        order->has_news || order->must_tell || order->granted > 0 || order->to_return > 0 ||
        order->lent > 0 || order->is_loosening)
        return;
    must(list_empty(&order->wants) && order->used == 0 && order->ends_open == 0);
    io_timer_stop(shard->io, &order->timer);
    while (list_pop_front(&order->lanes))
        ;
    table_remove(&shard->orders.table, order->hash, order->index);
    slab_free(&shard->orders.slab, order->index);
}

/* ---- What holds ------------------------------------------------------------------------------ */

bool orders_is_in_force(const struct shard *shard, const struct order *order)
{
    return order && !order->is_over &&
           (order->facts.kind != ORDER_SOURCE_OFF || order->facts.until_us == 0 ||
            order->facts.until_ns > io_now_ns(shard->io));
}

static struct order *disabled(const struct shard *shard, const struct queue *queue,
                              const struct ipaddr *source)
{
    char name[REPORT_NAME_MAX];
    struct order_key key = {.kind = ORDER_SOURCE_OFF, .source = source};
    struct order *order;

    if (shard->orders.counts[ORDER_SOURCE_OFF] == 0)
        return NULL;
    queues_name(shard, queue, name, sizeof(name));
    key.who = slice_str(name);
    order = orders_find(shard, &key);
    return orders_is_in_force(shard, order) ? order : NULL;
}

void orders_name_number(uint64_t provider, char *room, size_t room_bytes)
{
    const char *name = conf_provider_name(provider);

    if (name)
        snprintf(room, room_bytes, "%s", name);
    else
        snprintf(room, room_bytes, "site-%016" PRIx64, provider);
}

void orders_name_provider(const struct site *site, char *room, size_t room_bytes)
{
    orders_name_number(site->provider, room, room_bytes);
}

struct order *orders_stop_of(const struct shard *shard, const struct site *site,
                             const struct ipaddr *source)
{
    struct order_key key = {.kind = ORDER_STOP, .source = source};
    char name[REPORT_NAME_MAX];
    struct order *order;

    if (shard->orders.counts[ORDER_STOP] == 0)
        return NULL;
    orders_name_provider(site, name, sizeof(name));
    key.who = slice_str(name);
    order = orders_find(shard, &key);
    return orders_is_in_force(shard, order) ? order : NULL;
}

bool orders_forbid(const struct shard *shard, const struct queue *queue,
                   const struct ipaddr *source)
{
    if (planted("shard/disabled-source-is-used"))
        return false;
    return disabled(shard, queue, source) != NULL;
}

uint64_t orders_stopped_until_ns(const struct shard *shard, const struct site *site,
                                 const struct ipaddr *source)
{
    const struct order *order = orders_stop_of(shard, site, source);

    return order && order->facts.until_ns > io_now_ns(shard->io) ? order->facts.until_ns : 0;
}

const struct order *orders_holding(const struct shard *shard, const struct queue *queue,
                                   uint64_t *ret_until_ns)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);
    const struct order *first = NULL;

    *ret_until_ns = UINT64_MAX;
    if (!queue->site)
        return NULL;
    for (uint32_t i = 0; vmta && i < vmta->address_count; i++) {
        const struct ipaddr *source = &vmta->addresses[i].ip;
        const struct order *order = disabled(shard, queue, source);
        uint64_t until_ns;

        if (!order && orders_stopped_until_ns(shard, queue->site, source) > 0)
            order = orders_stop_of(shard, queue->site, source);
        if (!order || !queue->site->has_family[source->family == IPADDR_V6])
            continue;
        until_ns = order->facts.until_us ? order->facts.until_ns : UINT64_MAX;
        if (!first || until_ns < *ret_until_ns)
            first = order;
        if (until_ns < *ret_until_ns)
            *ret_until_ns = until_ns;
    }
    return first;
}

bool orders_disable_all(const struct shard *shard, const struct queue *queue)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);

    for (uint32_t i = 0; vmta && i < vmta->address_count; i++)
        if (!disabled(shard, queue, &vmta->addresses[i].ip))
            return false;
    return vmta != NULL;
}

/* ---- Parcels --------------------------------------------------------------------------------- */

static void hear(struct shard *shard, struct order *order, const struct order_tell *tell);

/* The owner hears what happened here; more of it goes when this has come home. */
void orders_tell_owner(struct shard *shard, struct order *order)
{
    struct order_tell *tell = &order->tell;

    if (order->tell_is_out || !(order->must_tell || order->must_end || order->to_return ||
                                order->to_credit || order->missed_news))
        return;
    tell->facts = order->facts;
    tell->index = order->index;
    tell->tightens = order->must_tell;
    tell->returned = order->to_return;
    tell->delivered = order->to_credit;
    tell->ends = order->must_end;
    tell->asks = order->missed_news;
    tell->is_gone = false;
    order->missed_news = false;
    order->must_end = false;
    order->must_tell = false;
    order->to_return = 0;
    order->to_credit = 0;
    if (orders_is_owner(shard, order)) {
        hear(shard, order, tell);
        return;
    }
    order->tell_is_out = true;
    tell->parcel.kind = SHARD_ORDER_TELL;
    tell->parcel.from = shard->number;
    shard_post(shard, owner_of(shard, order), &tell->parcel);
}

static void send_news(struct shard *shard, struct order *order)
{
    struct order_news *news = &order->news;

    if (order->news_is_out || !order->has_news)
        return;
    order->has_news = false;
    if (shard->count == 1 || planted("shard/order-not-told"))
        return;
    news->facts = order->facts;
    news->is_over = order->is_over;
    news->index = order->index;
    news->owner = shard->number;
    order->news_is_out = true;
    news->parcel.kind = SHARD_ORDER_NEWS;
    news->parcel.from = shard->number;
    shard_post(shard, (uint16_t)((shard->number + 1) % shard->count), &news->parcel);
}

void orders_ask(struct shard *shard, struct order *order)
{
    struct order_want *want = &order->want;

    if (order->want_is_out || order->is_over)
        return;
    order->want_is_out = true;
    want->hash = order->hash;
    want->index = order->index;
    want->kind = order->facts.kind;
    want->source = order->facts.source;
    want->is_granted = false;
    memcpy(want->who, order->facts.who, sizeof(want->who));
    want->parcel.kind = SHARD_ORDER_WANT;
    want->parcel.from = shard->number;
    if (orders_is_owner(shard, order)) {
        list_push_back(&order->wants, &want->link);
        io_timer_arm(shard->io, &order->timer, io_now_ns(shard->io));
    } else {
        shard_post(shard, owner_of(shard, order), &want->parcel);
    }
}

static void give_back_unused(struct order *order)
{
    order->to_return += order->granted - order->used;
    order->granted = order->used;
}

/* ---- In force, and over ---------------------------------------------------------------------- */

/* Round from where the last walk is: orders that come one upon the other keep it from no queue. */
static void walk_queues(struct shard *shard)
{
    shard->orders.walk_left = shard->orders.walk_count = shard->queues.count_grown;
}

static bool is_lane_of(const struct order *order, const struct lane *lane)
{
    char name[REPORT_NAME_MAX];

    if (!ipaddr_equal(&lane->source, &order->facts.source))
        return false;
    orders_name_provider(lane->site, name, sizeof(name));
    return strcmp(name, order->facts.who) == 0;
}

/* Nothing new leaves from the source to the provider; connections end with their message. */
static void halt(struct shard *shard, struct order *order)
{
    for (uint32_t i = 0; i < shard->lanes.count_grown; i++) {
        struct lane *lane = slab_is_live(&shard->lanes, i) ? slab_at(&shard->lanes, i) : NULL;

        if (!lane || !is_lane_of(order, lane))
            continue;
        site_end_connections(shard, lane);
        if (order->facts.until_ns > io_now_ns(shard->io))
            lane_park(shard, lane, order->facts.until_ns);
    }
    give_back_unused(order);
}

/* The queue, if it is here, leaves the line of that source. */
static void leave_source(struct shard *shard, const struct order *order)
{
    struct slice who = slice_str(order->facts.who);
    size_t slash = slice_find(who, '/');
    uint32_t vmta_id = conf_vmta_id(shard->conf, slice_after(who, slash + 1));
    struct queue *queue = queues_find(shard, slice_of(who.data, slash), vmta_id);

    if (!queue || list_empty(&queue->lane_link) ||
        !ipaddr_equal(&queue->lane->source, &order->facts.source))
        return;
    lane_leave(queue);
    queues_reconsider(shard, queue);
}

static void arm(struct shard *shard, struct order *order)
{
    io_timer_stop(shard->io, &order->timer);
    if (order->facts.until_us)
        io_timer_arm(shard->io, &order->timer, order->facts.until_ns);
}

/* Those facts count here from now on. */
void orders_obey(struct shard *shard, struct order *order, const struct order_facts *facts)
{
    if (order->is_over)
        shard->orders.counts[facts->kind]++;
    order->is_over = false;
    order->is_loosening = false;
    order->must_end = order->is_ending = false;
    order->allowed = 0;
    order->has_delivered = false;
    if (facts != &order->facts)
        order->facts = *facts;
    order->to_credit = 0;
    arm(shard, order);
    order->next_ns = 0;
    if (facts->kind == ORDER_STOP)
        halt(shard, order);
    else if (facts->kind == ORDER_SOURCE_OFF)
        leave_source(shard, order);
    else if (facts->kind == ORDER_BACKOFF)
        walk_queues(shard);
    else
        give_back_unused(order);
}

static void release_lanes(struct order *order)
{
    struct list *link;

    while ((link = list_pop_front(&order->lanes)))
        lane_serve_later(container_of(link, struct lane, order_link));
}

static void end(struct shard *shard, struct order *order)
{
    if (order->is_over)
        return;
    order->is_over = true;
    order->is_loosening = false;
    order->must_end = order->is_ending = false;
    shard->orders.counts[order->facts.kind]--;
    io_timer_stop(shard->io, &order->timer);
    for (uint32_t i = 0; i < shard->lanes.count_grown && order->facts.kind == ORDER_STOP; i++) {
        struct lane *lane = slab_is_live(&shard->lanes, i) ? slab_at(&shard->lanes, i) : NULL;

        if (lane && is_lane_of(order, lane) && lane->parked_until_ns == order->facts.until_ns)
            lane->parked_until_ns = 0;
    }
    give_back_unused(order);
    release_lanes(order);
    walk_queues(shard);
}

/* ---- The owner ------------------------------------------------------------------------------- */

/* Nothing is left of it to undo. */
static void finish(struct shard *shard, struct order *order)
{
    note_order(shard, &order->facts, false);
    end(shard, order);
    order->is_logged = false;
    shard->orders.ended++;
    order->has_news = true;
    io_timer_arm(shard->io, &order->timer, io_now_ns(shard->io));
    send_news(shard, order);
}

/* Ends it once the log has that; by the timer again when the log has no room. What is not in the
 * log, as where the name is too long for it, just ends. */
void orders_loosen(struct shard *shard, struct order *order, struct report *report)
{
    if (order->is_over || order->is_loosening)
        return;
    if (orders_persist(shard, order, true, report))
        order->is_loosening = true;
    else if (!order->is_logged)
        finish(shard, order);
    else
        io_timer_arm(shard->io, &order->timer, io_now_ns(shard->io) + LOG_WAIT_NS);
}

void orders_on_logged(struct shard *shard, uint32_t index, int32_t status)
{
    struct order *order = slab_at(&shard->orders.slab, index);

    must(order->ends_open > 0);
    order->ends_open--;
    /* It has begun anew since; and if it ended again, that end is the one that counts. */
    if (!order->is_loosening || order->ends_open > 0)
        return;
    order->is_loosening = false;
    if (status == 0)
        finish(shard, order);
    else
        io_timer_arm(shard->io, &order->timer, io_now_ns(shard->io) + LOG_WAIT_NS);
}

static bool is_tighter(const struct order *order, const struct order_facts *facts)
{
    if (order->is_over || order->is_loosening)
        return true;
    if (order_is_probed(order->facts.kind))
        return facts->until_ns > order->facts.until_ns;
    return order->facts.until_us != 0 &&
           (facts->until_us == 0 || facts->until_us > order->facts.until_us);
}

/* It is new or tighter, and has effect here already. */
void orders_announce(struct shard *shard, struct order *order, struct report *report)
{
    bool is_logged = orders_persist(shard, order, false, report);

    order->is_logged |= is_logged;
    if (!is_logged)
        log_error("a standing order is not in the log: a restart forgets it");
    note_order(shard, &order->facts, true);
    order->allowed = 0;
    order->has_news = true;
    shard->orders.begun++;
    send_news(shard, order);
}

static void answer_want(struct shard *shard, struct order_want *want, bool is_granted);

/* Lends what the probe allows to those that want a connection. */
static void lend(struct shard *shard, struct order *order)
{
    uint64_t now_ns = io_now_ns(shard->io);
    struct list *link;

    if (!order->is_over && order->facts.until_ns > now_ns)
        return;
    if (order->allowed == 0)
        order->allowed = 1;
    while ((order->is_over || order->lent < order->allowed) &&
           (link = list_pop_front(&order->wants))) {
        order->lent += !order->is_over;
        answer_want(shard, container_of(link, struct order_want, link), !order->is_over);
    }
    if (!order->is_over && (order->allowed > ORDER_PROBE_FULL ||
                            io_wall_us(shard->io) > order->facts.until_us + QUIET_US))
        orders_loosen(shard, order, NULL);
}

static void hear(struct shard *shard, struct order *order, const struct order_tell *tell)
{
    /* What nobody uses is not added to: else it were used all at once one day. */
    bool is_used_up = order->lent >= order->allowed;

    must(order->lent >= tell->returned);
    order->lent -= planted("shard/probe-lends-too-much") ? order->lent : tell->returned;
    if (tell->tightens) {
        if (&order->tell == tell) {
            orders_announce(shard, order, NULL);
        } else if (is_tighter(order, &tell->facts)) {
            orders_obey(shard, order, &tell->facts);
            orders_announce(shard, order, NULL);
            orders_tell_owner(shard, order);
        } else {
            order->has_news = true;
            send_news(shard, order);
        }
    } else if (!order->is_over && tell->facts.since_us == order->facts.since_us &&
               order->facts.until_ns <= io_now_ns(shard->io) && is_used_up) {
        order->allowed += tell->delivered > 0;
    }
    if (tell->ends && tell->facts.since_us == order->facts.since_us)
        orders_loosen(shard, order, NULL);
    if (order_is_probed(order->facts.kind))
        lend(shard, order);
}

/* ---- Here ------------------------------------------------------------------------------------ */

static void on_granted(struct shard *shard, struct order *order, bool is_granted)
{
    order->want_is_out = false;
    order->granted += is_granted;
    if (is_granted && (order->is_over || order->facts.until_ns > io_now_ns(shard->io)))
        give_back_unused(order);
    release_lanes(order);
    if (order->granted > order->used)
        io_timer_arm(shard->io, &order->timer, io_now_ns(shard->io) + UNUSED_NS);
    orders_tell_owner(shard, order);
}

static void answer_want(struct shard *shard, struct order_want *want, bool is_granted)
{
    want->is_granted = is_granted;
    if (want->parcel.from == shard->number) {
        struct order *order = container_of(want, struct order, want);

        /* What it does not use it gives back by its timer: lend() goes on. */
        order->want_is_out = false;
        order->granted += is_granted;
        release_lanes(order);
        io_timer_arm(shard->io, &order->timer, io_now_ns(shard->io) + UNUSED_NS);
        return;
    }
    want->parcel.kind = SHARD_ORDER_GRANT;
    shard_post(shard, want->parcel.from, &want->parcel);
}

static void on_order_timer(struct io_timer *timer)
{
    struct order *order = container_of(timer, struct order, timer);
    struct shard *shard = order->shard;

    if (order->granted > order->used) {
        give_back_unused(order);
        if (!list_empty(&order->lanes))
            orders_ask(shard, order);
    }
    release_lanes(order);
    if (!order_is_probed(order->facts.kind) && !order->is_over) {
        if (order->facts.kind == ORDER_SOURCE_OFF)
            walk_queues(shard);
        if (orders_is_owner(shard, order))
            orders_loosen(shard, order, NULL);
        return;
    }
    if (orders_is_owner(shard, order))
        lend(shard, order);
    orders_tell_owner(shard, order);
    orders_free_if_over(shard, order);
}

bool orders_admit(struct shard *shard, struct lane *lane)
{
    struct order *order = orders_stop_of(shard, lane->site, &lane->source);

    if (!order || (order->facts.until_ns <= io_now_ns(shard->io) && order->used < order->granted))
        return true;
    if (list_empty(&lane->order_link))
        list_push_back(&order->lanes, &lane->order_link);
    if (order->facts.until_ns <= io_now_ns(shard->io))
        orders_ask(shard, order);
    return false;
}

bool orders_is_asking(struct shard *shard, struct lane *lane)
{
    const struct order *order = orders_stop_of(shard, lane->site, &lane->source);

    return order && order->want_is_out;
}

void orders_on_open(struct shard *shard, struct connection *connection)
{
    struct order *order = orders_stop_of(shard, connection->lane->site, &connection->lane->source);

    if (!order)
        return;
    must(order->used < order->granted);
    order->used++;
    connection->order = order->index + 1;
}

void orders_on_closed(struct shard *shard, struct connection *connection)
{
    struct order *order;

    if (connection->order == 0)
        return;
    order = slab_at(&shard->orders.slab, connection->order - 1);
    must(order->used > 0 && order->granted >= order->used);
    order->used--;
    order->granted--;
    order->to_return++;
    connection->order = 0;
    orders_tell_owner(shard, order);
    orders_free_if_over(shard, order);
}

void orders_on_delivered(struct shard *shard, struct connection *connection)
{
    struct order *order;

    if (connection->order == 0 || connection->has_delivered)
        return;
    connection->has_delivered = true;
    order = slab_at(&shard->orders.slab, connection->order - 1);
    if (order->is_over || connection->opened_ns < order->facts.since_ns)
        return;
    order->to_credit++;
    order->has_delivered = true;
    orders_tell_owner(shard, order);
}

/* ---- Parcels of others ----------------------------------------------------------------------- */

static void on_tell(struct shard *shard, struct order_tell *tell)
{
    struct order_key key = orders_key_of(&tell->facts);
    struct order *order =
        tell->tightens ? orders_obtain(shard, &tell->facts) : orders_find(shard, &key);

    tell->is_gone = !order;
    if (order) {
        hear(shard, order, tell);
        order->has_news |= tell->asks;
        send_news(shard, order);
        orders_free_if_over(shard, order);
    }
    tell->parcel.kind = SHARD_ORDER_TOLD;
    shard_post(shard, tell->parcel.from, &tell->parcel);
}

static void on_want(struct shard *shard, struct order_want *want)
{
    struct order_key key = {(enum order_kind)want->kind, &want->source, slice_str(want->who)};
    struct order *order = orders_find(shard, &key);

    if (!order || order->is_over) {
        answer_want(shard, want, false);
        return;
    }
    list_push_back(&order->wants, &want->link);
    lend(shard, order);
}

/* They speak of one that was before, and left its owner before what is newer here came there. */
static bool is_past(const struct order *order, const struct order_news *news)
{
    return news->facts.since_us != order->facts.since_us &&
           news->facts.since_ns < order->facts.since_ns;
}

static void heed_news(struct shard *shard, const struct order_news *news)
{
    struct order_key key = orders_key_of(&news->facts);
    struct order *order =
        news->is_over ? orders_find(shard, &key) : orders_obtain(shard, &news->facts);
    /* The owner is about to hear of what is tighter here. */
    bool is_ahead = order && !order->is_over &&
                    (order->must_tell || (order->tell_is_out && order->tell.tightens));

    if (!order)
        return;
    if (is_ahead)
        order->missed_news = true;
    if (news->is_over && !is_ahead && !is_past(order, news))
        end(shard, order);
    else if (!news->is_over && (order->is_over || (news->facts.since_us != order->facts.since_us &&
                                                   (!is_ahead || is_tighter(order, &news->facts)))))
        orders_obey(shard, order, &news->facts);
    orders_tell_owner(shard, order);
    orders_free_if_over(shard, order);
}

static void on_news(struct shard *shard, struct order_news *news)
{
    if (news->owner == shard->number) {
        struct order *order = container_of(news, struct order, news);

        order->news_is_out = false;
        send_news(shard, order);
        orders_free_if_over(shard, order);
        return;
    }
    heed_news(shard, news);
    shard_post(shard, (uint16_t)((shard->number + 1) % shard->count), &news->parcel);
}

void orders_on_parcel(struct shard *shard, struct parcel *parcel)
{
    struct order *order;

    switch (parcel->kind) {
    case SHARD_ORDER_TELL:
        on_tell(shard, container_of(parcel, struct order_tell, parcel));
        break;
    case SHARD_ORDER_TOLD:
        order = container_of(container_of(parcel, struct order_tell, parcel), struct order, tell);
        order->tell_is_out = false;
        /* It is over, or there was no room for it. News may have come meanwhile that begin it
         * anew. */
        if (order->tell.is_gone && !order->must_tell &&
            order->facts.since_us == order->tell.facts.since_us)
            end(shard, order);
        orders_tell_owner(shard, order);
        orders_free_if_over(shard, order);
        break;
    case SHARD_ORDER_WANT:
        on_want(shard, container_of(parcel, struct order_want, parcel));
        break;
    case SHARD_ORDER_GRANT:
        order = container_of(container_of(parcel, struct order_want, parcel), struct order, want);
        on_granted(shard, order, order->want.is_granted);
        orders_free_if_over(shard, order);
        break;
    default:
        must(parcel->kind == SHARD_ORDER_NEWS);
        on_news(shard, container_of(parcel, struct order_news, parcel));
    }
}

/* ---- The turn -------------------------------------------------------------------------------- */

bool orders_is_busy(const struct shard *shard)
{
    return shard->orders.walk_left > 0;
}

/* One queue of the walk; what that costs, in queues that have nothing to do with it. */
static uint32_t look_at(struct shard *shard, struct queue *queue)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);

    if (queue->reason == WAIT_ORDER) {
        queue->rest_until_ns = 0;
        queues_reconsider(shard, queue);
    }
    return 1 + (orders_look_at(shard, queue) ? LOOK_COST : 0) +
           (shard->orders.counts[ORDER_BACKOFF] > 0 && vmta ? vmta->address_count / LOOKS_AT : 0);
}

void orders_turn(struct shard *shard)
{
    struct orders *orders = &shard->orders;

    /* There are more places since, and those that come last in the round are to be reached too. */
    if (orders->walk_left > 0)
        orders->walk_left += shard->queues.count_grown - orders->walk_count;
    orders->walk_count = shard->queues.count_grown;
    for (uint32_t cost = 0; orders->walk_left > 0 && cost < QUEUES_PER_TURN; orders->walk_left--) {
        uint32_t at = orders->walk_cursor < shard->queues.count_grown ? orders->walk_cursor : 0;

        orders->walk_cursor = at + 1;
        cost += slab_is_live(&shard->queues, at) ? look_at(shard, slab_at(&shard->queues, at)) : 1;
    }
}
