#include "shard/lease.h"

#include "core/base/mem.h"
#include "shard/planted.h"
#include "shard/shard_int.h"

#define LIMIT_ALL     0
#define LIMIT_SESSION 1
#define LIMIT_VMTA(i) (2 + (i))

/* Slots asked for beyond those that somebody waits for: a quarter of those in use, and no more. */
#define ASK_AHEAD_MAX 8
/* What was limited once keeps its book, and lanes of its own. */
#define NO_BOUND      INT32_MAX

static void on_timer(struct io_timer *timer);
static void settle(struct shard *shard, struct lease_share *share);
static void own_speak(struct shard *shard, uint32_t limit);

/* ---- Making ---------------------------------------------------------------------------------- */

static uint64_t limit_of(const struct conf *conf, uint32_t limit)
{
    const struct conf_vmta *vmta;

    if (limit == LIMIT_ALL)
        return conf_global(conf)->total_max_smtp_out;
    if (limit == LIMIT_SESSION)
        return conf_global(conf)->total_max_smtp_in;
    vmta = conf_vmta(conf, limit - LIMIT_VMTA(0));
    return vmta ? vmta->max_smtp_out : CONF_UNLIMITED;
}

/* Who asks wants an answer, see policy/pot.h. */
static bool is_prompt(const struct lease_share *share)
{
    return share->limit == LIMIT_SESSION;
}

static struct lease_share *share_create(const struct shard *shard, uint32_t limit, uint64_t slots)
{
    struct lease_share *share = mem_alloc(sizeof(*share));

    share->limit = limit;
    share->owner = (uint16_t)(limit % shard->count);
    for (unsigned i = 0; i < QUOTA_KINDS; i++) {
        list_init(&share->waiting[i]);
        list_init(&share->idle[i]);
    }
    share->ask.limit = limit;
    share->give.limit = limit;
    if (is_prompt(share))
        share->held = pot_part(slots, shard->count, shard->number);
    /* Alone, a shard has all there is. */
    if (shard->count == 1) {
        share->held = (uint32_t)slots;
        share->is_short = true;
    }
    return share;
}

static struct lease_owned *owned_create(const struct shard *shard, uint32_t limit, uint64_t slots)
{
    struct lease_owned *owned = mem_alloc(sizeof(*owned));

    if (limit == LIMIT_SESSION)
        pot_init_prompt(&owned->pot, slots, shard->count);
    else
        pot_init(&owned->pot, slots, shard->count);
    owned->asked = mem_alloc(shard->count * sizeof(*owned->asked));
    owned->notices = mem_alloc(shard->count * sizeof(*owned->notices));
    for (uint16_t i = 0; i < shard->count; i++)
        owned->notices[i].limit = limit;
    return owned;
}

/* ---- A new snapshot -------------------------------------------------------------------------- */

/* Room for the virtual MTAs of the snapshot. */
static void grow(struct leases *leases, const struct conf *conf)
{
    uint32_t count = LIMIT_VMTA(conf_vmta_id_end(conf));
    size_t before = leases->limit_count * sizeof(void *), after = count * sizeof(void *);

    if (count <= leases->limit_count)
        return;
    leases->shares = mem_alloc_larger(leases->shares, before, after);
    leases->owned = mem_alloc_larger(leases->owned, before, after);
    leases->limit_count = count;
}

static void set_limit(struct shard *shard, uint32_t limit, uint64_t slots)
{
    struct lease_share *share = shard->leases.shares[limit];
    struct lease_owned *owned = shard->leases.owned[limit];

    if (planted("shard/limit-not-adopted"))
        return;
    if (owned) {
        pot_set_limit(&owned->pot, slots);
        own_speak(shard, limit);
    } else if (shard->count == 1) {
        /* Alone, it owes what it holds beyond the limit to nobody, and lets go of it likewise. */
        share->recalled = slots < share->held ? share->held - (uint32_t)slots : 0;
        if (slots > share->held)
            share->held = (uint32_t)slots;
        settle(shard, share);
    }
}

void lease_adopt(struct shard *shard)
{
    struct leases *leases = &shard->leases;

    grow(leases, shard->conf);
    for (uint32_t i = 0; i < leases->limit_count; i++) {
        uint64_t slots = limit_of(shard->conf, i);

        if (leases->shares[i]) {
            set_limit(shard, i, slots == CONF_UNLIMITED ? NO_BOUND : slots);
            continue;
        }
        if (slots == CONF_UNLIMITED)
            continue;
        leases->shares[i] = share_create(shard, i, slots);
        if (shard->count > 1 && leases->shares[i]->owner == shard->number)
            leases->owned[i] = owned_create(shard, i, slots);
    }
}

void lease_init(struct shard *shard, void (*ready)(struct lease_claim *claim),
                void (*make_room)(struct lease_slots *slots))
{
    struct leases *leases = &shard->leases;

    leases->shard = shard;
    leases->ready = ready;
    leases->make_room = make_room;
    io_timer_init(&leases->timer, on_timer);
    lease_adopt(shard);
}

void lease_fini(struct shard *shard)
{
    struct leases *leases = &shard->leases;

    io_timer_stop(shard->io, &leases->timer);
    for (uint32_t i = 0; i < leases->limit_count; i++) {
        if (leases->owned[i]) {
            pot_fini(&leases->owned[i]->pot);
            mem_free(leases->owned[i]->asked);
            mem_free(leases->owned[i]->notices);
        }
        mem_free(leases->owned[i]);
        mem_free(leases->shares[i]);
    }
    mem_free(leases->owned);
    mem_free(leases->shares);
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

/* Grants and notices that the book has for others now. */
static void own_speak(struct shard *shard, uint32_t limit)
{
    struct lease_owned *owned = shard->leases.owned[limit];
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

static void own_on_ask(struct shard *shard, struct lease_parcel *ask)
{
    struct lease_owned *owned = shard->leases.owned[ask->limit];

    must(owned && !owned->asked[ask->parcel.from]);
    owned->asked[ask->parcel.from] = ask;
    pot_ask(&owned->pot, ask->parcel.from, ask->count);
    ask->count = 0;
    own_speak(shard, ask->limit);
}

static void own_on_give(struct shard *shard, struct lease_parcel *give)
{
    uint16_t from = give->parcel.from;
    uint32_t limit = give->limit;

    pot_give(&shard->leases.owned[limit]->pot, from, give->count);
    give->count = 0;
    send_to(shard, from, give, LEASE_GIVE_RETURN);
    own_speak(shard, limit);
}

static void own_on_notice_return(struct shard *shard, struct lease_parcel *notice)
{
    notice->is_away = false;
    own_speak(shard, notice->limit);
}

static void own_on_poll_return(struct shard *shard, struct lease_parcel *poll)
{
    poll->is_away = false;
    pot_on_polled(&shard->leases.owned[poll->limit]->pot, poll->parcel.from, poll->count);
    own_speak(shard, poll->limit);
}

/* ---- A share --------------------------------------------------------------------------------- */

static uint32_t spare(const struct lease_share *share)
{
    return share->held - share->used;
}

/* Spare slots that nobody has called back. */
static uint32_t available(const struct lease_share *share)
{
    return spare(share) > share->recalled ? spare(share) - share->recalled : 0;
}

/* Slots that are to stay. */
static uint32_t kept(const struct lease_share *share)
{
    return share->held - share->recalled;
}

/* Whether a claim of this kind may have a slot. */
static bool admits(const struct lease_share *share, enum quota_kind kind)
{
    return available(share) > 0 && quota_admits(&share->quota, kept(share), kind);
}

/* Slots that connections of this kind should make free. */
static uint32_t pressure(const struct lease_share *share, enum quota_kind kind)
{
    return quota_pressure(&share->quota, kept(share), kind, share->is_short);
}

static void look_later(struct shard *shard)
{
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

static void take(struct lease_share *share, struct lease_claim *claim, uint8_t limit_kind)
{
    must(share->used < share->held && !claim->has[limit_kind]);
    share->used++;
    share->quota.used[claim->kind]++;
    claim->has[limit_kind] = true;
    if (spare(share) == 0)
        share->is_spare = false;
}

static void ask(struct shard *shard, struct lease_share *share)
{
    uint32_t ahead = share->used / 4;

    if (share->ask.is_away || shard->count == 1)
        return;
    share->ask.is_away = true;
    share->asked = share->waiting_count;
    share->ask.count = share->waiting_count + (ahead < ASK_AHEAD_MAX ? ahead : ASK_AHEAD_MAX);
    send_to(shard, share->owner, &share->ask, LEASE_ASK);
}

static struct lease_slots *slots_of(struct list *link, const struct lease_share *share)
{
    return share->limit == LIMIT_ALL
               ? container_of(link, struct lease_slots, idle_links[LEASE_OF_ALL])
               : container_of(link, struct lease_slots, idle_links[LEASE_OF_VMTA]);
}

static void mark_closing(struct lease_slots *slots)
{
    slots->is_closing = true;
    lease_slots_busy(slots);
    for (uint8_t i = 0; i < LEASE_KINDS; i++)
        if (slots->shares[i])
            slots->shares[i]->quota.closing[slots->kind]++;
}

static void make_room(struct shard *shard, struct lease_share *share)
{
    for (unsigned kind = QUOTA_KINDS; kind-- > 0;)
        while (!list_empty(&share->idle[kind]) && pressure(share, kind) > 0) {
            struct lease_slots *slots = slots_of(share->idle[kind].prev, share);

            mark_closing(slots);
            shard->leases.make_room(slots);
        }
}

/* ---- The line of a share --------------------------------------------------------------------- */

/* Four for each doubling, so that a lane that has a half more than another is two levels above. */
static uint8_t level_of(uint32_t open_count)
{
    unsigned doublings;

    if (open_count < 8)
        return (uint8_t)open_count;
    doublings = 31 - (unsigned)__builtin_clz(open_count);
    return (uint8_t)(4 * (doublings - 1) + ((open_count >> (doublings - 2)) & 3));
}
_Static_assert(LEASE_LEVELS > 4 * 30 + 3, "levels of every count");

static void line_join(struct shard *shard, struct lease_share *share, struct lease_claim *claim)
{
    struct list *line = &share->waiting[claim->kind];

    claim->ticket = share->next_ticket++;
    if (planted("shard/last-comes-first"))
        list_push_front(line, &claim->link);
    else
        list_push_back(line, &claim->link);
    share->quota.waiting[claim->kind]++;
    share->waiting_at[claim->kind][claim->level]++;
    share->waiting_count++;
    shard->leases.claims_waiting++;
}

static void line_leave(struct shard *shard, struct lease_share *share, struct lease_claim *claim)
{
    list_remove(&claim->link);
    share->quota.waiting[claim->kind]--;
    share->waiting_at[claim->kind][claim->level]--;
    share->waiting_count--;
    shard->leases.claims_waiting--;
}

/* The first in line of those that may have a slot; NULL when there is none. */
static struct lease_claim *line_next(const struct lease_share *share)
{
    struct lease_claim *next = NULL;

    for (unsigned kind = 0; kind < QUOTA_KINDS; kind++) {
        struct lease_claim *first;

        if (list_empty(&share->waiting[kind]) || !admits(share, kind))
            continue;
        first = container_of(share->waiting[kind].next, struct lease_claim, link);
        if (!next || first->ticket < next->ticket)
            next = first;
    }
    return next;
}

/* One of the sessions that wait tries again: there is a slot now, or none anywhere. */
static void answer_session(struct shard *shard, struct lease_share *share)
{
    share->waiting_count--;
    share->asked -= share->asked > 0;
    shard->leases.session_answered(shard);
}

/* Brings what is held, waited for and called back together. Whatever it sends may come back at
 * once, when the owner is this very shard, so each step looks at everything anew. */
static void settle(struct shard *shard, struct lease_share *share)
{
    quota_note(&share->quota, io_now_ns(shard->io));
    give_back(shard, share, spare(share) < share->recalled ? spare(share) : share->recalled);
    while (available(share) > 0 && share->waiting_count > 0) {
        struct lease_claim *claim;

        if (is_prompt(share)) {
            answer_session(shard, share);
            continue;
        }
        claim = line_next(share);
        if (!claim)
            break;
        line_leave(shard, share, claim);
        take(share, claim, claim->waits_for);
        shard->leases.ready(claim);
    }
    if (share->waiting_count > 0)
        ask(shard, share);
    make_room(shard, share);
    if (available(share) > 0 && shard->count > 1 && !is_prompt(share))
        look_later(shard);
}

static void on_notice(struct shard *shard, struct lease_parcel *notice)
{
    struct lease_share *share = shard->leases.shares[notice->limit];

    share->recalled += notice->count;
    if (share->recalled > share->held)
        share->recalled = share->held;
    if (notice->count == 0)
        share->is_short = true;
    send_to(shard, notice->parcel.from, notice, LEASE_NOTICE_RETURN);
    settle(shard, share);
}

static void on_grant(struct shard *shard, struct lease_parcel *grant)
{
    struct lease_share *share = shard->leases.shares[grant->limit];
    bool is_none = grant->count == 0;

    share->held += grant->count;
    grant->count = 0;
    grant->is_away = false;
    share->is_short = false;
    /* Who came after the question was asked is asked for anew. */
    while (is_none && share->asked > 0)
        answer_session(shard, share);
    settle(shard, share);
}

/* Half of what lies idle, rounded up, goes to where somebody stands at the door. */
static void on_poll(struct shard *shard, struct lease_parcel *poll)
{
    struct lease_share *share = shard->leases.shares[poll->limit];

    poll->count = planted("shard/poll-brings-nothing") ? 0 : (available(share) + 1) / 2;
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
        lease->is_away = false;
        settle(shard, shard->leases.shares[lease->limit]);
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

/* ---- Claims ---------------------------------------------------------------------------------- */

bool lease_limits_vmta(const struct shard *shard, uint32_t vmta_id)
{
    const struct leases *leases = &shard->leases;

    return LIMIT_VMTA(vmta_id) < leases->limit_count && leases->shares[LIMIT_VMTA(vmta_id)];
}

uint32_t lease_used_by_vmta(const struct shard *shard, uint32_t vmta_id)
{
    return lease_limits_vmta(shard, vmta_id) ? shard->leases.shares[LIMIT_VMTA(vmta_id)]->used : 0;
}

void lease_claim_init(struct shard *shard, struct lease_claim *claim, uint32_t vmta_id)
{
    *claim = (struct lease_claim){.kind = QUOTA_NEW};
    list_init(&claim->link);
    if (lease_limits_vmta(shard, vmta_id))
        claim->shares[LEASE_OF_VMTA] = shard->leases.shares[LIMIT_VMTA(vmta_id)];
    claim->shares[LEASE_OF_ALL] = shard->leases.shares[LIMIT_ALL];
    must(claim->shares[LEASE_OF_ALL]);
}

static void stand_in_line(struct shard *shard, struct lease_claim *claim, uint8_t kind)
{
    struct lease_share *share = claim->shares[kind];

    claim->waits_for = kind;
    line_join(shard, share, claim);
    settle(shard, share);
}

bool lease_claim_try(struct shard *shard, struct lease_claim *claim)
{
    for (uint8_t i = 0; i < LEASE_KINDS; i++) {
        struct lease_share *share = claim->shares[i];

        if (!share || claim->has[i])
            continue;
        if (!list_empty(&claim->link))
            return false;
        if (admits(share, claim->kind) && !line_next(share)) {
            take(share, claim, i);
            quota_note(&share->quota, io_now_ns(shard->io));
            continue;
        }
        stand_in_line(shard, claim, i);
        if (!claim->has[i])
            return false;
    }
    return true;
}

void lease_claim_cancel(struct shard *shard, struct lease_claim *claim)
{
    if (!list_empty(&claim->link))
        line_leave(shard, claim->shares[claim->waits_for], claim);
    for (uint8_t i = 0; i < LEASE_KINDS; i++) {
        if (!claim->has[i])
            continue;
        claim->has[i] = false;
        claim->shares[i]->used--;
        claim->shares[i]->quota.used[claim->kind]--;
        settle(shard, claim->shares[i]);
    }
}

void lease_claim_rank(struct shard *shard, struct lease_claim *claim, enum quota_kind kind)
{
    struct lease_share *waits_for =
        list_empty(&claim->link) ? NULL : claim->shares[claim->waits_for];
    uint8_t before = claim->kind;

    if (kind == before)
        return;
    if (waits_for)
        line_leave(shard, waits_for, claim);
    claim->kind = kind;
    for (uint8_t i = 0; i < LEASE_KINDS; i++)
        if (claim->has[i]) {
            claim->shares[i]->quota.used[before]--;
            claim->shares[i]->quota.used[kind]++;
        }
    if (waits_for)
        line_join(shard, waits_for, claim);
    for (uint8_t i = 0; i < LEASE_KINDS; i++)
        if (claim->shares[i])
            settle(shard, claim->shares[i]);
}

void lease_claim_count(struct lease_claim *claim, uint32_t open_count)
{
    uint8_t level = level_of(open_count);

    if (lease_claim_is_in_line(claim)) {
        uint32_t *waiting_at = claim->shares[claim->waits_for]->waiting_at[claim->kind];

        waiting_at[claim->level]--;
        waiting_at[level]++;
    }
    claim->level = level;
}

static bool is_held(const struct lease_claim *claim)
{
    for (uint8_t i = 0; i < LEASE_KINDS; i++)
        if (claim->shares[i] && !claim->has[i])
            return false;
    return true;
}

void lease_claim_use(struct lease_claim *claim, struct lease_slots *slots)
{
    must(is_held(claim));
    slots->is_closing = false;
    slots->kind = slots->first_kind = claim->kind;
    for (uint8_t i = 0; i < LEASE_KINDS; i++) {
        const struct lease_share *share = claim->shares[i];

        if (share && quota_is_lent(&share->quota, kept(share), QUOTA_SLOW))
            slots->first_kind = QUOTA_NEW;
        list_init(&slots->idle_links[i]);
        slots->shares[i] = claim->shares[i];
        claim->has[i] = false;
    }
}

bool lease_is_at_limit(const struct lease_claim *claim)
{
    for (uint8_t i = 0; i < LEASE_KINDS; i++) {
        const struct lease_share *share = claim->shares[i];

        if (share && !claim->has[i] && !admits(share, claim->kind) &&
            (share->is_short || share->recalled > 0))
            return true;
    }
    return false;
}

/* ---- Slots of connections -------------------------------------------------------------------- */

bool lease_slots_idle(struct lease_slots *slots)
{
    if (!list_empty(&slots->idle_links[LEASE_OF_ALL]))
        return false;
    for (uint8_t i = 0; i < LEASE_KINDS; i++)
        if (slots->shares[i])
            list_push_front(&slots->shares[i]->idle[slots->kind], &slots->idle_links[i]);
    return true;
}

void lease_make_room(struct shard *shard, const struct lease_claim *claim)
{
    for (uint8_t i = 0; i < LEASE_KINDS; i++)
        if (claim->shares[i])
            make_room(shard, claim->shares[i]);
}

void lease_slots_busy(struct lease_slots *slots)
{
    for (uint8_t i = 0; i < LEASE_KINDS; i++)
        list_remove(&slots->idle_links[i]);
}

/* The same as pressure, for one of so many connections: of those that wait count who has none, and
 * who has clearly fewer. */
static uint32_t pressure_on(const struct lease_share *share, enum quota_kind kind,
                            uint32_t open_count)
{
    struct quota quota = share->quota;
    uint8_t level = level_of(open_count);

    for (unsigned i = 0; i < QUOTA_KINDS && share->waiting_count > 0; i++) {
        quota.waiting[i] = share->waiting_at[i][0];
        for (uint8_t at = 1; at + 2 <= level; at++)
            quota.waiting[i] += share->waiting_at[i][at];
    }
    return quota_pressure(&quota, kept(share), kind, share->is_short);
}

bool lease_slots_must_end(struct lease_slots *slots, uint64_t age_ns, uint32_t open_count)
{
    if (slots->is_closing || age_ns < LEASE_TURN_MS * 1000000ull ||
        planted("shard/turn-never-ends"))
        return slots->is_closing;
    for (uint8_t i = 0; i < LEASE_KINDS && !slots->is_closing; i++)
        if (slots->shares[i] && pressure_on(slots->shares[i], slots->kind, open_count) > 0)
            mark_closing(slots);
    return slots->is_closing;
}

void lease_slots_rank(struct shard *shard, struct lease_slots *slots, enum quota_kind kind)
{
    uint8_t before = slots->kind;

    must(list_empty(&slots->idle_links[LEASE_OF_ALL]));
    if (kind == before)
        return;
    slots->kind = kind;
    for (uint8_t i = 0; i < LEASE_KINDS; i++) {
        struct quota *quota = slots->shares[i] ? &slots->shares[i]->quota : NULL;

        if (!quota)
            continue;
        quota->used[before]--;
        quota->used[kind]++;
        quota->closing[before] -= slots->is_closing;
        quota->closing[kind] += slots->is_closing;
    }
    for (uint8_t i = 0; i < LEASE_KINDS; i++)
        if (slots->shares[i])
            settle(shard, slots->shares[i]);
}

bool lease_slots_must_yield(struct lease_slots *slots)
{
    if (slots->is_closing || slots->first_kind == QUOTA_SLOW || slots->kind != QUOTA_SLOW)
        return false;
    for (uint8_t i = 0; i < LEASE_KINDS && !slots->is_closing; i++) {
        const struct lease_share *share = slots->shares[i];

        if (share && share->is_short && quota_is_overdrawn(&share->quota, kept(share)))
            mark_closing(slots);
    }
    return slots->is_closing;
}

void lease_slots_release(struct shard *shard, struct lease_slots *slots)
{
    lease_slots_busy(slots);
    for (uint8_t i = 0; i < LEASE_KINDS; i++) {
        struct lease_share *share = slots->shares[i];

        if (!share)
            continue;
        must(share->quota.used[slots->kind] > 0 &&
             share->quota.closing[slots->kind] >= slots->is_closing);
        share->used--;
        share->quota.used[slots->kind]--;
        share->quota.closing[slots->kind] -= slots->is_closing;
    }
    for (uint8_t i = 0; i < LEASE_KINDS; i++)
        if (slots->shares[i])
            settle(shard, slots->shares[i]);
}

/* ---- Sessions -------------------------------------------------------------------------------- */

bool lease_session_take(struct shard *shard)
{
    struct lease_share *share = shard->leases.shares[LIMIT_SESSION];

    if (!share)
        return true;
    if (available(share) == 0)
        return false;
    share->used++;
    return true;
}

void lease_session_release(struct shard *shard)
{
    struct lease_share *share = shard->leases.shares[LIMIT_SESSION];

    if (!share)
        return;
    must(share->used > 0);
    share->used--;
    settle(shard, share);
}

bool lease_session_must_wait(const struct shard *shard)
{
    const struct lease_share *share = shard->leases.shares[LIMIT_SESSION];

    return share && shard->count > 1 && available(share) == 0;
}

void lease_session_wait(struct shard *shard)
{
    struct lease_share *share = shard->leases.shares[LIMIT_SESSION];

    must(lease_session_must_wait(shard));
    share->waiting_count++;
    ask(shard, share);
}

/* ---- Time ------------------------------------------------------------------------------------ */

static bool tend_spare(struct shard *shard)
{
    bool look_again = false;

    for (uint32_t i = 0; i < shard->leases.limit_count; i++) {
        struct lease_share *share = shard->leases.shares[i];

        if (!share || spare(share) == 0 || is_prompt(share))
            continue;
        /* What is kept free of those that wait here is not free for other shards' either. */
        if (share->is_spare && share->waiting_count == 0)
            give_back(shard, share, spare(share));
        share->is_spare = spare(share) > 0;
        look_again |= share->is_spare;
    }
    return look_again;
}

void lease_look(struct shard *shard)
{
    struct leases *leases = &shard->leases;
    uint64_t now_ns = io_now_ns(shard->io);

    if (now_ns < leases->look_again_ns)
        return;
    leases->look_again_ns = now_ns + LEASE_TURN_MS * 1000000ull;
    for (uint32_t i = 0; i < leases->limit_count; i++) {
        struct lease_share *share = leases->shares[i];

        if (share && !is_prompt(share) && share->waiting_count > 0)
            settle(shard, share);
    }
}

static void on_timer(struct io_timer *timer)
{
    struct leases *leases = container_of(timer, struct leases, timer);
    struct shard *shard = leases->shard;

    if (shard->count > 1 && tend_spare(shard))
        look_later(shard);
}

/* ---- The audit ------------------------------------------------------------------------------- */

bool lease_session_audit(const struct shard *shard, uint32_t session_count)
{
    const struct lease_share *share = shard->leases.shares[LIMIT_SESSION];

    return !share || share->used == session_count;
}

/* Slots that a share, or a parcel on the way between it and the owner, has. */
static uint32_t accounted(const struct lease_share *share, const struct lease_parcel *notice)
{
    uint32_t sum = share->held;

    if (notice->is_away && notice->parcel.kind == LEASE_POLL_RETURN)
        sum += notice->count;

    if (share->give.is_away)
        sum += share->give.count;
    if (share->ask.is_away && share->ask.parcel.kind == LEASE_GRANT)
        sum += share->ask.count;
    return sum;
}

static uint32_t count_used(const struct shard *shard, const struct lease_share *share)
{
    uint8_t kind = share->limit == LIMIT_ALL ? LEASE_OF_ALL : LEASE_OF_VMTA;
    uint32_t sum = 0;

    for (uint32_t i = 0; i < shard->connections.count_grown; i++)
        if (slab_is_live(&shard->connections, i))
            sum +=
                ((const struct connection *)slab_at(&shard->connections, i))->slots.shares[kind] ==
                share;
    for (uint32_t i = 0; i < shard->lanes.count_grown; i++)
        if (slab_is_live(&shard->lanes, i)) {
            const struct lane *lane = slab_at(&shard->lanes, i);

            sum += lane->claim.shares[kind] == share && lane->claim.has[kind];
        }
    return sum;
}

static const struct lease_share *share_at(const struct shard *shard, uint32_t limit)
{
    return limit < shard->leases.limit_count ? shard->leases.shares[limit] : NULL;
}

/* The levels of those that wait add up to their number. */
static bool levels_add_up(const struct lease_share *share)
{
    for (unsigned i = 0; i < QUOTA_KINDS; i++) {
        uint32_t waiting = 0;

        for (unsigned level = 0; level < LEASE_LEVELS; level++)
            waiting += share->waiting_at[i][level];
        if (waiting != share->quota.waiting[i])
            return false;
    }
    return true;
}

/* Of a share that claims and connections draw on: the kinds add up. */
static bool kinds_add_up(const struct lease_share *share)
{
    uint32_t used = 0, waiting = 0;

    for (unsigned i = 0; i < QUOTA_KINDS; i++) {
        used += share->quota.used[i];
        waiting += share->quota.waiting[i];
    }
    return used == share->used && waiting == share->waiting_count;
}

/* Of the snapshot that the book follows. */
static uint64_t limit_now(const struct shard *shard, uint32_t limit)
{
    uint64_t slots = limit_of(shard->conf, limit);

    return slots == CONF_UNLIMITED ? NO_BOUND : slots;
}

/* Shards may be of two minds: some have taken a new snapshot, some have not yet. */
static const char *audit_limit(struct shard *const *shards, uint16_t count, uint32_t limit,
                               uint32_t recount)
{
    const struct shard *owner = shards[limit % count];
    const struct lease_owned *owned =
        limit < owner->leases.limit_count ? owner->leases.owned[limit] : NULL;

    if (owned && (!pot_is_sound(&owned->pot) || owned->pot.limit != limit_now(owner, limit)))
        return "leases + free is not the limit";
    for (uint16_t i = 0; i < count; i++) {
        const struct lease_share *share = share_at(shards[i], limit);
        uint32_t leased = owned ? owned->pot.shards[i].leased : 0;
        uint32_t has = !share ? 0 : owned ? accounted(share, &owned->notices[i]) : share->held;

        if (count > 1 && has != leased)
            return "a shard has not what was leased to it";
        if (!share)
            continue;
        if (count == 1 && share->held - share->recalled != limit_now(owner, limit))
            return "a shard alone does not have the limit";
        if (share->used > share->held ||
            (recount == i && !is_prompt(share) && share->used != count_used(shards[i], share)))
            return "slots are used that are not held";
        if (!is_prompt(share) && (!kinds_add_up(share) || (recount == i && !levels_add_up(share))))
            return "the kinds of slots do not add up";
    }
    return NULL;
}

const char *lease_audit(struct shard *const *shards, uint16_t count, uint32_t recount)
{
    uint32_t limit_count = 0;

    for (uint16_t i = 0; i < count; i++)
        if (shards[i]->leases.limit_count > limit_count)
            limit_count = shards[i]->leases.limit_count;
    for (uint32_t i = 0; i < limit_count; i++) {
        const char *text = audit_limit(shards, count, i, recount);

        if (text)
            return text;
    }
    return NULL;
}
