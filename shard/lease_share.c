#include "core/base/mem.h"
#include "shard/lease_int.h"
#include "shard/planted.h"

/* Slots asked for beyond those that somebody waits for: a quarter of those in use, and no more. */
#define ASK_AHEAD_MAX 8
/* Idle connections looked at to find one that is to make room. */
#define MEMORY_TRIES  1000

static void own_speak(struct shard *shard, struct lease_owned *owned);

/* ---- Making ---------------------------------------------------------------------------------- */

static const struct meter_key key_of_all = {.limit_id = LEASE_OF_ALL};
static const struct meter_key key_of_sessions = {.limit_id = LEASE_OF_SESSIONS};

static uint64_t bound_of(const struct conf *conf, const struct meter_key *key)
{
    switch (key->limit_id) {
    case LEASE_OF_ALL:
        return conf_global(conf)->total_max_smtp_out;
    case LEASE_OF_SESSIONS:
        return conf_global(conf)->total_max_smtp_in;
    default:
        return meters_connections(conf, key);
    }
}

uint64_t lease_bound(const struct shard *shard, const struct meter_key *key)
{
    uint64_t slots = bound_of(shard->conf, key);

    return slots == CONF_UNLIMITED ? LEASE_NO_BOUND : slots;
}

/* Those of all connections and of sessions are there from the start to the end. */
static bool is_lasting(const struct meter *meter)
{
    return meter->key.limit_id == LEASE_OF_ALL || meter->key.limit_id == LEASE_OF_SESSIONS;
}

static void share_begin(const struct shard *shard, struct lease_share *share, struct meter *meter)
{
    uint64_t slots = lease_bound(shard, &meter->key);

    share->meter = meter;
    share->owner = meter->owner;
    share->is_prompt = meter->key.limit_id == LEASE_OF_SESSIONS;
    list_init(&share->spare_link);
    list_init(&share->wait_link);
    for (unsigned i = 0; i < QUOTA_KINDS; i++) {
        for (uint8_t rank = 0; rank < TURNS_RANKS; rank++)
            list_init(&share->waiting[i][rank]);
        list_init(&share->express[i]);
        list_init(&share->idle[i]);
    }
    share->ask.key = meter->key;
    share->give.key = meter->key;
    if (share->is_prompt)
        share->held = pot_part(slots, shard->count, shard->number);
    /* Alone, a shard has all there is. */
    if (shard->count == 1) {
        share->held = (uint32_t)slots;
        share->is_short = true;
    }
    meter->share = share;
}

struct lease_share *lease_share_obtain(struct shard *shard, const struct meter_key *key)
{
    struct meter *meter = meters_obtain(shard, key);
    struct lease_share *share;
    uint32_t index;

    if (!meter)
        return NULL;
    if (meter->share) {
        meter->share->refs++;
        meters_release(shard, meter);
        return meter->share;
    }
    share = slab_alloc(&shard->leases.shares, &index);
    if (!share) {
        meters_release(shard, meter);
        return NULL;
    }
    share->index = index;
    share->refs = 1;
    share_begin(shard, share, meter);
    return share;
}

static struct lease_owned *owned_create(const struct shard *shard, struct meter *meter)
{
    struct lease_owned *owned = mem_alloc(sizeof(*owned));
    uint64_t slots = lease_bound(shard, &meter->key);

    owned->meter = meter;
    list_init(&owned->close_link);
    if (meter->key.limit_id == LEASE_OF_SESSIONS)
        pot_init_prompt(&owned->pot, slots, shard->count);
    else
        pot_init(&owned->pot, slots, shard->count);
    owned->asked = mem_alloc(shard->count * sizeof(*owned->asked));
    owned->notices = mem_alloc(shard->count * sizeof(*owned->notices));
    for (uint16_t i = 0; i < shard->count; i++)
        owned->notices[i].key = meter->key;
    meter->owned = owned;
    return owned;
}

static void owned_destroy(struct lease_owned *owned)
{
    owned->meter->owned = NULL;
    list_remove(&owned->close_link);
    pot_fini(&owned->pot);
    mem_free(owned->asked);
    mem_free(owned->notices);
    mem_free(owned);
}

/* ---- A new snapshot -------------------------------------------------------------------------- */

/* A share that stays, with its book at the owner. Nothing can be done without it, so a moment in
 * which memory is short is waited for. */
static struct lease_share *lasting(struct shard *shard, const struct meter_key *key)
{
    struct lease_share *share = NULL;

    for (unsigned i = 0; i < MEMORY_TRIES && !share; i++)
        share = lease_share_obtain(shard, key);
    must(share);
    if (shard->count > 1 && share->owner == shard->number) {
        must(meters_obtain(shard, key) == share->meter);
        owned_create(shard, share->meter);
    }
    return share;
}

static void set_limit(struct shard *shard, struct meter *meter)
{
    uint64_t slots = lease_bound(shard, &meter->key);
    struct lease_share *share = meter->share;

    if (planted("shard/limit-not-adopted"))
        return;
    if (meter->owned) {
        pot_set_limit(&meter->owned->pot, slots);
        own_speak(shard, meter->owned);
    } else if (shard->count == 1 && share) {
        /* Alone, it owes what it holds beyond the limit to nobody, and lets go of it likewise. */
        share->recalled = slots < share->held ? share->held - (uint32_t)slots : 0;
        if (slots > share->held)
            share->held = (uint32_t)slots;
        lease_settle(shard, share);
    }
}

void lease_adopt(struct shard *shard)
{
    struct leases *leases = &shard->leases;

    list_for_each (link, &shard->meters.all)
        set_limit(shard, meters_of_link(link));
    if (!leases->sessions && bound_of(shard->conf, &key_of_sessions) != CONF_UNLIMITED)
        leases->sessions = lasting(shard, &key_of_sessions);
}

void lease_init(struct shard *shard, void (*ready)(struct lease_claim *claim),
                void (*make_room)(struct lease_slots *slots))
{
    struct leases *leases = &shard->leases;

    leases->shard = shard;
    leases->ready = ready;
    leases->make_room = make_room;
    io_timer_init(&leases->timer, lease_on_timer);
    list_init(&leases->spare);
    list_init(&leases->waited_for);
    list_init(&leases->closing);
    slab_init(&leases->shares, sizeof(struct lease_share), shard->meters.slab.count_max);
    /* Of lanes, and of mail (mail_slots.h). */
    slab_init(&leases->draws, sizeof(struct lease_draws), 2 * shard->limits.queue_count_max);
    slab_init(&leases->wides, sizeof(struct lease_wide), shard->limits.connection_count_max);
    leases->all = lasting(shard, &key_of_all);
    leases->none = (struct lease_draws){.count = 1, .shares = {leases->all}};
    if (bound_of(shard->conf, &key_of_sessions) != CONF_UNLIMITED)
        leases->sessions = lasting(shard, &key_of_sessions);
}

void lease_fini(struct shard *shard)
{
    struct leases *leases = &shard->leases;

    io_timer_stop(shard->io, &leases->timer);
    list_for_each (link, &shard->meters.all)
        if (meters_of_link(link)->owned)
            owned_destroy(meters_of_link(link)->owned);
    slab_fini(&leases->wides);
    slab_fini(&leases->draws);
    slab_fini(&leases->shares);
}

static void send_to(struct shard *shard, uint16_t to, struct lease_parcel *parcel, uint16_t kind)
{
    parcel->parcel.kind = kind;
    parcel->parcel.from = shard->number;
    if (to == shard->number)
        lease_on_parcel(shard, &parcel->parcel);
    else
        shard_post(shard, to, &parcel->parcel);
}

/* ---- The owner ------------------------------------------------------------------------------- */

static struct lease_owned *owned_at(const struct shard *shard, const struct meter_key *key)
{
    struct meter *meter = meters_find(shard, key);

    must(meter && meter->owned);
    return meter->owned;
}

/* Grants and notices that the book has for others now. */
static void own_speak(struct shard *shard, struct lease_owned *owned)
{
    uint32_t count;
    uint16_t to;

    while (pot_next_grant(&owned->pot, &to, &count)) {
        struct lease_parcel *ask = owned->asked[to];

        must(ask);
        owned->asked[to] = NULL;
        ask->count = count;
        send_to(shard, to, ask, LEASE_GRANT);
    }
    for (to = 0; to < shard->count; to++) {
        struct lease_parcel *notice = &owned->notices[to];
        uint16_t kind = LEASE_NOTICE;

        if (notice->is_away)
            continue;
        if (!pot_next_notice(&owned->pot, to, &count)) {
            if (!pot_next_poll(&owned->pot, to))
                continue;
            kind = LEASE_POLL;
            count = 0;
        }
        notice->is_away = true;
        notice->count = count;
        send_to(shard, to, notice, kind);
    }
}

/* A book that says nothing any more ends a while later, from the timer: whoever speaks of it now
 * may be in the middle of it. */
static void own_close_later(struct shard *shard, struct lease_owned *owned)
{
    if (is_lasting(owned->meter) || !pot_is_unused(&owned->pot))
        return;
    if (list_empty(&owned->close_link))
        list_push_back(&shard->leases.closing, &owned->close_link);
    lease_look_later(shard, NULL);
}

static void own_close(struct shard *shard, struct lease_owned *owned)
{
    struct meter *meter = owned->meter;
    bool is_away = false;

    for (uint16_t i = 0; i < shard->count; i++)
        is_away |= owned->notices[i].is_away;
    if (is_away || !pot_is_unused(&owned->pot))
        return;
    owned_destroy(owned);
    meters_release(shard, meter);
}

/* False when there is no memory for a book. */
static bool own_open(struct shard *shard, const struct meter_key *key)
{
    struct meter *meter = meters_obtain(shard, key);

    if (!meter)
        return false;
    if (meter->owned)
        meters_release(shard, meter);
    else
        owned_create(shard, meter);
    return true;
}

static void own_on_ask(struct shard *shard, struct lease_parcel *ask)
{
    struct lease_owned *owned;

    if (!own_open(shard, &ask->key)) {
        ask->next = shard->leases.put_off;
        shard->leases.put_off = ask;
        lease_look_later(shard, NULL);
        return;
    }
    owned = owned_at(shard, &ask->key);
    must(!owned->asked[ask->parcel.from]);
    owned->asked[ask->parcel.from] = ask;
    pot_ask(&owned->pot, ask->parcel.from, ask->count);
    ask->count = 0;
    own_speak(shard, owned);
}

static void own_on_give(struct shard *shard, struct lease_parcel *give)
{
    struct lease_owned *owned = owned_at(shard, &give->key);
    uint16_t from = give->parcel.from;

    pot_give(&owned->pot, from, give->count);
    give->count = 0;
    send_to(shard, from, give, LEASE_GIVE_RETURN);
    own_speak(shard, owned);
    own_close_later(shard, owned);
}

static void own_on_notice_return(struct shard *shard, struct lease_parcel *notice)
{
    struct lease_owned *owned = owned_at(shard, &notice->key);

    notice->is_away = false;
    own_speak(shard, owned);
    own_close_later(shard, owned);
}

static void own_on_poll_return(struct shard *shard, struct lease_parcel *poll)
{
    struct lease_owned *owned = owned_at(shard, &poll->key);

    poll->is_away = false;
    pot_on_polled(&owned->pot, poll->parcel.from, poll->count);
    own_speak(shard, owned);
}

/* ---- A share --------------------------------------------------------------------------------- */

bool lease_admits(const struct lease_share *share, enum quota_kind kind)
{
    return lease_available(share) > 0 && quota_admits(&share->quota, lease_kept(share), kind);
}

uint32_t lease_pressure(const struct lease_share *share, enum quota_kind kind, uint8_t level)
{
    struct quota quota = share->quota;

    for (unsigned i = 0; i < QUOTA_KINDS && share->waiting_count > 0; i++) {
        quota.waiting[i] = share->waiting_at[i][0];
        for (uint8_t at = 1; at + 2 <= level; at++)
            quota.waiting[i] += share->waiting_at[i][at];
    }
    return quota_pressure(&quota, lease_kept(share), kind, share->is_short);
}

void lease_look_later(struct shard *shard, struct lease_share *share)
{
    if (share && list_empty(&share->spare_link))
        list_push_back(&shard->leases.spare, &share->spare_link);
    if (!io_timer_is_armed(&shard->leases.timer))
        io_timer_arm(shard->io, &shard->leases.timer,
                     io_now_ns(shard->io) + LEASE_HOLD_MS * 1000000ull);
}

static void give_back(struct shard *shard, struct lease_share *share, uint32_t count)
{
    if (count == 0 || share->give.is_away)
        return;
    if (!planted("shard/lease-given-back-twice"))
        share->held -= count;
    share->recalled -= count < share->recalled ? count : share->recalled;
    if (shard->count == 1)
        return;
    share->give.count = count;
    share->give.is_away = true;
    send_to(shard, share->owner, &share->give, LEASE_GIVE);
}

/*
 * Nobody here can draw on it any more: what it holds goes back, and when nothing is under way it
 * ends. From the timer alone: whoever calls it back or grants something may be in the middle of it.
 */
static void share_close(struct shard *shard, struct lease_share *share)
{
    struct meter *meter = share->meter;

    must(share->used == 0 && share->waiting_count == 0);
    if (planted("shard/share-ends-with-its-slots"))
        share->held = 0;
    if (shard->count > 1 && share->held > 0)
        give_back(shard, share, share->held);
    if (share->ask.is_away || share->give.is_away || (shard->count > 1 && share->held > 0)) {
        lease_look_later(shard, share);
        return;
    }
    list_remove(&share->spare_link);
    meter->share = NULL;
    slab_free(&shard->leases.shares, share->index);
    meters_release(shard, meter);
}

void lease_share_release(struct shard *shard, struct lease_share *share)
{
    must(share->refs > 0);
    if (--share->refs == 0)
        lease_look_later(shard, share);
}

void lease_take(struct lease_share *share, struct lease_claim *claim, uint8_t at)
{
    must(share->used < share->held && (claim->has & 1u << at) == 0);
    share->used++;
    share->quota.used[claim->kind]++;
    claim->has |= (uint16_t)(1u << at);
    if (lease_spare(share) == 0)
        share->is_spare = false;
}

void lease_ask(struct shard *shard, struct lease_share *share)
{
    uint32_t ahead = share->used / 4;

    if (share->ask.is_away || shard->count == 1)
        return;
    share->ask.is_away = true;
    share->asked = share->waiting_count;
    share->ask.count = share->waiting_count + (ahead < ASK_AHEAD_MAX ? ahead : ASK_AHEAD_MAX);
    send_to(shard, share->owner, &share->ask, LEASE_ASK);
}

static struct lease_slots *slots_of(const struct shard *shard, struct list *link,
                                    const struct lease_share *share)
{
    return share == shard->leases.all ? container_of(link, struct lease_slots, idle_link)
                                      : container_of(link, struct lease_idle, link)->slots;
}

void lease_mark_closing(struct lease_slots *slots)
{
    const struct lease_draws *draws = slots->claim->draws;

    slots->is_closing = true;
    lease_slots_busy(slots);
    for (uint8_t i = 0; i < draws->count; i++)
        draws->shares[i]->quota.closing[slots->kind]++;
}

void lease_share_make_room(struct shard *shard, struct lease_share *share)
{
    for (unsigned kind = QUOTA_KINDS; kind-- > 0;)
        while (!list_empty(&share->idle[kind]) &&
               lease_pressure(share, kind, LEASE_LEVELS - 1) > 0) {
            struct lease_slots *slots = slots_of(shard, share->idle[kind].prev, share);

            lease_mark_closing(slots);
            shard->leases.make_room(slots);
        }
}

/* ---- The line of a share --------------------------------------------------------------------- */

/* Four for each doubling, so that a lane that has a half more than another is two levels above. */
uint8_t lease_level(uint32_t open_count)
{
    unsigned doublings;

    if (open_count < 8)
        return (uint8_t)open_count;
    doublings = 31 - (unsigned)__builtin_clz(open_count);
    return (uint8_t)(4 * (doublings - 1) + ((open_count >> (doublings - 2)) & 3));
}
_Static_assert(LEASE_LEVELS > 4 * 30 + 3, "levels of every count");

void lease_line_join(struct shard *shard, struct lease_share *share, struct lease_claim *claim)
{
    struct list *line = claim->is_express ? &share->express[claim->kind]
                                          : &share->waiting[claim->kind][claim->rank];

    claim->ticket = share->next_ticket++;
    if (planted("shard/last-comes-first"))
        list_push_front(line, &claim->link);
    else
        list_push_back(line, &claim->link);
    share->quota.waiting[claim->kind]++;
    share->waiting_at[claim->kind][claim->level]++;
    if (share->waiting_count++ == 0)
        list_push_back(&shard->leases.waited_for, &share->wait_link);
    shard->leases.claims_waiting++;
}

void lease_line_leave(struct shard *shard, struct lease_share *share, struct lease_claim *claim)
{
    list_remove(&claim->link);
    share->quota.waiting[claim->kind]--;
    share->waiting_at[claim->kind][claim->level]--;
    if (--share->waiting_count == 0)
        list_remove(&share->wait_link);
    shard->leases.claims_waiting--;
}

/* Who came first: a claim, or NULL, or the first of a line. */
static struct lease_claim *earlier(struct lease_claim *claim, const struct list *line)
{
    struct lease_claim *first;

    if (list_empty(line))
        return claim;
    first = container_of(line->next, struct lease_claim, link);
    return claim && claim->ticket < first->ticket ? claim : first;
}

/* Of the claims that are in no hurry and may have a slot, the first of the rank whose turn it is.
 */
static struct lease_claim *next_by_rank(const struct lease_share *share)
{
    struct lease_claim *firsts[TURNS_RANKS] = {NULL};
    uint32_t mask = 0;

    for (uint8_t kind = 0; kind < QUOTA_KINDS; kind++)
        for (uint8_t rank = 0; rank < TURNS_RANKS; rank++) {
            if (list_empty(&share->waiting[kind][rank]) || !lease_admits(share, kind))
                continue;
            firsts[rank] = earlier(firsts[rank], &share->waiting[kind][rank]);
            mask |= 1u << rank;
        }
    return mask == 0 ? NULL : firsts[turns_next(&share->turns, mask)];
}

/* The first in line of those that may have a slot, one in a hurry every other time; NULL when there
 * is none. */
static struct lease_claim *line_next(const struct lease_share *share)
{
    struct lease_claim *express = NULL, *next = next_by_rank(share);

    for (uint8_t kind = 0; kind < QUOTA_KINDS; kind++)
        if (!list_empty(&share->express[kind]) && lease_admits(share, kind))
            express = earlier(express, &share->express[kind]);
    return express && (!next || !share->was_express) ? express : next;
}

bool lease_line_has_next(const struct lease_share *share)
{
    return line_next(share) != NULL;
}

/* One of the sessions that wait tries again: there is a slot now, or none anywhere. */
static void answer_session(struct shard *shard, struct lease_share *share)
{
    share->waiting_count--;
    share->asked -= share->asked > 0;
    shard->leases.session_answered(shard);
}

/* Whatever it sends may come back at
 * once, when the owner is this very shard, so each step looks at everything anew. */
void lease_settle(struct shard *shard, struct lease_share *share)
{
    quota_note(&share->quota, io_now_ns(shard->io));
    give_back(shard, share,
              lease_spare(share) < share->recalled ? lease_spare(share) : share->recalled);
    while (lease_available(share) > 0 && share->waiting_count > 0) {
        struct lease_claim *claim;

        if (share->is_prompt) {
            answer_session(shard, share);
            continue;
        }
        claim = line_next(share);
        if (!claim)
            break;
        share->was_express = claim->is_express;
        if (!claim->is_express)
            turns_served(&share->turns, claim->rank);
        lease_line_leave(shard, share, claim);
        lease_take(share, claim, claim->waits_for);
        if (claim->is_of_mail)
            shard->leases.mail_ready(claim);
        else
            shard->leases.ready(claim);
    }
    if (share->waiting_count > 0)
        lease_ask(shard, share);
    lease_share_make_room(shard, share);
    if (lease_available(share) > 0 && shard->count > 1 && !share->is_prompt)
        lease_look_later(shard, share);
}

/* A share lives while a question or a return of its own is away. */
static struct lease_share *share_at(const struct shard *shard, const struct lease_parcel *parcel)
{
    struct meter *meter = meters_find(shard, &parcel->key);

    must(meter && meter->share);
    return meter->share;
}

static void on_notice(struct shard *shard, struct lease_parcel *notice)
{
    const struct meter *meter = meters_find(shard, &notice->key);
    struct lease_share *share = meter ? meter->share : NULL;

    /* What was called back of a share that has ended has come back already. */
    if (share) {
        share->recalled += notice->count;
        if (share->recalled > share->held)
            share->recalled = share->held;
        if (notice->count == 0)
            share->is_short = true;
    }
    send_to(shard, notice->parcel.from, notice, LEASE_NOTICE_RETURN);
    if (share)
        lease_settle(shard, share);
}

static void on_grant(struct shard *shard, struct lease_parcel *grant)
{
    struct lease_share *share = share_at(shard, grant);
    bool is_none = grant->count == 0;

    share->held += grant->count;
    grant->count = 0;
    grant->is_away = false;
    share->is_short = false;
    /* Who came after the question was asked is asked for anew. */
    while (is_none && share->asked > 0)
        answer_session(shard, share);
    lease_settle(shard, share);
}

static void on_give_return(struct shard *shard, struct lease_parcel *give)
{
    struct lease_share *share = share_at(shard, give);

    give->is_away = false;
    lease_settle(shard, share);
}

/* Half of what lies idle, rounded up, goes to where somebody stands at the door. */
static void on_poll(struct shard *shard, struct lease_parcel *poll)
{
    struct lease_share *share = share_at(shard, poll);

    poll->count = planted("shard/poll-brings-nothing") ? 0 : (lease_available(share) + 1) / 2;
    if (!planted("shard/poll-keeps-its-slots"))
        share->held -= poll->count;
    send_to(shard, share->owner, poll, LEASE_POLL_RETURN);
}

void lease_on_parcel(struct shard *shard, struct parcel *parcel)
{
    struct lease_parcel *lease = container_of(parcel, struct lease_parcel, parcel);

    switch (parcel->kind) {
    case LEASE_ASK:
        own_on_ask(shard, lease);
        break;
    case LEASE_GRANT:
        on_grant(shard, lease);
        break;
    case LEASE_GIVE:
        own_on_give(shard, lease);
        break;
    case LEASE_GIVE_RETURN:
        on_give_return(shard, lease);
        break;
    case LEASE_NOTICE:
        on_notice(shard, lease);
        break;
    case LEASE_NOTICE_RETURN:
        own_on_notice_return(shard, lease);
        break;
    case LEASE_POLL:
        on_poll(shard, lease);
        break;
    case LEASE_POLL_RETURN:
        own_on_poll_return(shard, lease);
        break;
    default:
        must(false);
    }
}

/* ---- Time ------------------------------------------------------------------------------------ */

static void tend_spare(struct shard *shard)
{
    struct list batch, *link;

    list_init(&batch);
    while ((link = list_pop_front(&shard->leases.spare)))
        list_push_back(&batch, link);
    while ((link = list_pop_front(&batch))) {
        struct lease_share *share = container_of(link, struct lease_share, spare_link);

        if (share->refs == 0) {
            share_close(shard, share);
            continue;
        }
        if (lease_spare(share) == 0 || shard->count == 1)
            continue;
        /* What is kept free of those that wait here is not free for other shards' either. */
        if (share->is_spare && share->waiting_count == 0)
            give_back(shard, share, lease_spare(share));
        share->is_spare = lease_spare(share) > 0;
        if (share->is_spare)
            lease_look_later(shard, share);
    }
}

static void tend_put_off(struct shard *shard)
{
    struct lease_parcel *ask = shard->leases.put_off;

    shard->leases.put_off = NULL;
    while (ask) {
        struct lease_parcel *next = ask->next;

        own_on_ask(shard, ask);
        ask = next;
    }
}

void lease_on_timer(struct io_timer *timer)
{
    struct shard *shard = container_of(timer, struct leases, timer)->shard;
    struct list *link;

    while ((link = list_pop_front(&shard->leases.closing)))
        own_close(shard, container_of(link, struct lease_owned, close_link));
    tend_put_off(shard);
    tend_spare(shard);
}
