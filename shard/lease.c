#include "shard/lease_int.h"
#include "shard/planted.h"

/* ---- Claims ---------------------------------------------------------------------------------- */

static void draws_free(struct shard *shard, struct lease_draws *draws)
{
    if (draws == &shard->leases.none)
        return;
    for (uint8_t i = 0; i < draws->count; i++)
        if (draws->shares[i] != shard->leases.all)
            lease_share_release(shard, draws->shares[i]);
    slab_free(&shard->leases.draws, draws->index);
}

static struct lease_draws *draws_create(struct shard *shard, const struct scope_list *meters,
                                        bool is_of_mail)
{
    struct lease_draws *draws;
    uint32_t index;

    if (meters->count == 0)
        return &shard->leases.none;
    draws = slab_alloc(&shard->leases.draws, &index);
    if (!draws)
        return NULL;
    draws->index = index;
    for (uint32_t i = 0; i < meters->count; i++) {
        struct lease_share *share = lease_share_obtain(shard, &meters->keys[i]);

        draws->shares[draws->count++] = share ? share : shard->leases.all;
        if (!share) {
            draws_free(shard, draws);
            return NULL;
        }
    }
    if (!is_of_mail)
        draws->shares[draws->count++] = shard->leases.all;
    return draws;
}

bool lease_claim_init(struct shard *shard, struct lease_claim *claim,
                      const struct scope_list *meters)
{
    *claim = (struct lease_claim){.kind = QUOTA_NEW, .rank = TURNS_NORMAL};
    list_init(&claim->link);
    claim->draws = draws_create(shard, meters, false);
    return claim->draws != NULL;
}

bool lease_claim_init_of_mail(struct shard *shard, struct lease_claim *claim,
                              const struct scope_list *meters)
{
    must(meters->count > 0);
    *claim = (struct lease_claim){.kind = QUOTA_PROVED, .rank = TURNS_NORMAL, .is_of_mail = true};
    list_init(&claim->link);
    claim->draws = draws_create(shard, meters, true);
    return claim->draws != NULL;
}

bool lease_claim_is_wanted(const struct lease_claim *claim)
{
    for (uint8_t i = 0; i < claim->draws->count; i++)
        if (claim->draws->shares[i]->waiting_count + claim->draws->shares[i]->recalled > 0)
            return true;
    return false;
}

void lease_claim_fini(struct shard *shard, struct lease_claim *claim)
{
    lease_claim_cancel(shard, claim);
    draws_free(shard, claim->draws);
    claim->draws = NULL;
}

uint32_t lease_used(const struct shard *shard, const struct meter_key *key)
{
    const struct meter *meter = meters_find(shard, key);

    return meter && meter->share ? meter->share->used : 0;
}

const struct lease_share *lease_waits_for(const struct lease_claim *claim)
{
    return lease_claim_is_in_line(claim) ? claim->draws->shares[claim->waits_for] : NULL;
}

bool lease_draws_on(const struct lease_claim *claim, const struct lease_share *share)
{
    for (uint8_t i = 0; i < claim->draws->count; i++)
        if (claim->draws->shares[i] == share)
            return true;
    return false;
}

static bool has(const struct lease_claim *claim, uint8_t at)
{
    return (claim->has & 1u << at) != 0;
}

/* All that a claim or connection of these draws on is brought together. */
static void settle_all(struct shard *shard, const struct lease_draws *draws)
{
    for (uint8_t i = 0; i < draws->count; i++)
        lease_settle(shard, draws->shares[i]);
}

static void stand_in_line(struct shard *shard, struct lease_claim *claim, uint8_t at)
{
    struct lease_share *share = claim->draws->shares[at];

    claim->waits_for = at;
    lease_line_join(shard, share, claim);
    lease_settle(shard, share);
}

bool lease_claim_try(struct shard *shard, struct lease_claim *claim)
{
    for (uint8_t i = 0; i < claim->draws->count; i++) {
        struct lease_share *share = claim->draws->shares[i];

        if (has(claim, i))
            continue;
        if (!list_empty(&claim->link))
            return false;
        if (lease_admits(share, claim->kind) && !lease_line_has_next(share)) {
            lease_take(share, claim, i);
            quota_note(&share->quota, io_now_ns(shard->io));
            continue;
        }
        stand_in_line(shard, claim, i);
        if (!has(claim, i))
            return false;
    }
    return true;
}

void lease_claim_cancel(struct shard *shard, struct lease_claim *claim)
{
    if (lease_claim_is_in_line(claim))
        lease_line_leave(shard, claim->draws->shares[claim->waits_for], claim);
    for (uint8_t i = 0; claim->has != 0; i++) {
        struct lease_share *share = claim->draws->shares[i];

        if (!has(claim, i))
            continue;
        claim->has &= (uint16_t) ~(1u << i);
        share->used--;
        share->quota.used[claim->kind]--;
        lease_settle(shard, share);
    }
}

void lease_claim_rank(struct shard *shard, struct lease_claim *claim, enum quota_kind kind)
{
    struct lease_share *waits_for =
        list_empty(&claim->link) ? NULL : claim->draws->shares[claim->waits_for];
    uint8_t before = claim->kind;

    if (kind == before)
        return;
    if (waits_for)
        lease_line_leave(shard, waits_for, claim);
    claim->kind = kind;
    for (uint8_t i = 0; i < claim->draws->count; i++)
        if (has(claim, i)) {
            claim->draws->shares[i]->quota.used[before]--;
            claim->draws->shares[i]->quota.used[kind]++;
        }
    if (waits_for)
        lease_line_join(shard, waits_for, claim);
    settle_all(shard, claim->draws);
}

void lease_claim_hurry(struct shard *shard, struct lease_claim *claim, bool is_express,
                       uint8_t rank)
{
    bool is_in_line = lease_claim_is_in_line(claim);
    struct lease_share *share = is_in_line ? claim->draws->shares[claim->waits_for] : NULL;

    if (claim->is_express == is_express && claim->rank == rank)
        return;
    if (is_in_line)
        lease_line_leave(shard, share, claim);
    claim->is_express = is_express;
    claim->rank = rank;
    if (is_in_line)
        lease_line_join(shard, share, claim);
}

void lease_claim_count(struct lease_claim *claim, uint32_t open_count)
{
    uint8_t level = lease_level(open_count);

    if (lease_claim_is_in_line(claim)) {
        struct lease_share *share = claim->draws->shares[claim->waits_for];
        uint32_t *waiting_at = share->waiting_at[claim->kind];

        waiting_at[claim->level]--;
        waiting_at[level]++;
    }
    claim->level = level;
}

bool lease_slots_init(struct shard *shard, const struct lease_claim *claim,
                      struct lease_slots *slots)
{
    uint32_t index;

    *slots = (struct lease_slots){.claim = claim};
    list_init(&slots->idle_link);
    if (claim->draws->count == 1)
        return true;
    slots->wide = slab_alloc(&shard->leases.wides, &index);
    if (!slots->wide)
        return false;
    slots->wide->index = index;
    for (unsigned i = 0; i < SCOPE_METERS_MAX; i++) {
        list_init(&slots->wide->idle[i].link);
        slots->wide->idle[i].slots = slots;
    }
    return true;
}

void lease_slots_fini(struct shard *shard, struct lease_slots *slots)
{
    if (slots->wide)
        slab_free(&shard->leases.wides, slots->wide->index);
    slots->wide = NULL;
}

void lease_claim_use(struct lease_claim *claim, struct lease_slots *slots)
{
    const struct lease_draws *draws = claim->draws;

    must(claim->has == (1u << draws->count) - 1 && slots->claim == claim);
    slots->kind = slots->first_kind = claim->kind;
    for (uint8_t i = 0; i < draws->count; i++)
        if (quota_is_lent(&draws->shares[i]->quota, lease_kept(draws->shares[i]), QUOTA_SLOW))
            slots->first_kind = QUOTA_NEW;
    claim->has = 0;
}

bool lease_is_at_limit(const struct lease_claim *claim)
{
    for (uint8_t i = 0; i < claim->draws->count; i++) {
        const struct lease_share *share = claim->draws->shares[i];

        if (!has(claim, i) && !lease_admits(share, claim->kind) &&
            (share->is_short || share->recalled > 0))
            return true;
    }
    return false;
}

/* ---- Slots of connections -------------------------------------------------------------------- */

bool lease_slots_idle(struct shard *shard, struct lease_slots *slots)
{
    const struct lease_draws *draws = slots->claim->draws;

    if (!list_empty(&slots->idle_link))
        return false;
    for (uint8_t i = 0; i < draws->count; i++)
        list_push_front(&draws->shares[i]->idle[slots->kind],
                        i + 1 < draws->count ? &slots->wide->idle[i].link : &slots->idle_link);
    return true;
}

void lease_make_room(struct shard *shard, const struct lease_claim *claim)
{
    for (uint8_t i = 0; i < claim->draws->count; i++)
        lease_share_make_room(shard, claim->draws->shares[i]);
}

void lease_slots_busy(struct lease_slots *slots)
{
    list_remove(&slots->idle_link);
    for (uint8_t i = 0; slots->wide && i < SCOPE_METERS_MAX; i++)
        list_remove(&slots->wide->idle[i].link);
}

bool lease_slots_must_end(struct lease_slots *slots, uint64_t age_ns, uint32_t open_count)
{
    const struct lease_draws *draws = slots->claim->draws;

    if (slots->is_closing || age_ns < LEASE_TURN_MS * 1000000ull ||
        planted("shard/turn-never-ends"))
        return slots->is_closing;
    for (uint8_t i = 0; i < draws->count && !slots->is_closing; i++)
        if (lease_pressure(draws->shares[i], slots->kind, lease_level(open_count)) > 0)
            lease_mark_closing(slots);
    return slots->is_closing;
}

void lease_slots_rank(struct shard *shard, struct lease_slots *slots, enum quota_kind kind)
{
    const struct lease_draws *draws = slots->claim->draws;
    uint8_t before = slots->kind;

    must(list_empty(&slots->idle_link));
    if (kind == before)
        return;
    slots->kind = kind;
    for (uint8_t i = 0; i < draws->count; i++) {
        struct quota *quota = &draws->shares[i]->quota;

        quota->used[before]--;
        quota->used[kind]++;
        quota->closing[before] -= slots->is_closing;
        quota->closing[kind] += slots->is_closing;
    }
    settle_all(shard, draws);
}

bool lease_slots_must_yield(struct lease_slots *slots)
{
    const struct lease_draws *draws = slots->claim->draws;

    if (slots->is_closing || slots->first_kind == QUOTA_SLOW || slots->kind != QUOTA_SLOW)
        return false;
    for (uint8_t i = 0; i < draws->count && !slots->is_closing; i++) {
        const struct lease_share *share = draws->shares[i];

        if (share->is_short && quota_is_overdrawn(&share->quota, lease_kept(share)))
            lease_mark_closing(slots);
    }
    return slots->is_closing;
}

void lease_slots_release(struct shard *shard, struct lease_slots *slots)
{
    const struct lease_draws *draws = slots->claim->draws;

    lease_slots_busy(slots);
    for (uint8_t i = 0; i < draws->count; i++) {
        struct lease_share *share = draws->shares[i];

        must(share->quota.used[slots->kind] > 0 &&
             share->quota.closing[slots->kind] >= slots->is_closing);
        share->used--;
        share->quota.used[slots->kind]--;
        share->quota.closing[slots->kind] -= slots->is_closing;
    }
    lease_slots_fini(shard, slots);
    settle_all(shard, draws);
}

/* ---- Time ------------------------------------------------------------------------------------ */

void lease_look(struct shard *shard)
{
    struct leases *leases = &shard->leases;
    uint64_t now_ns = io_now_ns(shard->io);

    if (now_ns < leases->look_again_ns)
        return;
    leases->look_again_ns = now_ns + LEASE_TURN_MS * 1000000ull;
    list_for_each (link, &leases->waited_for) {
        struct lease_share *share = container_of(link, struct lease_share, wait_link);

        if (!share->is_prompt)
            lease_settle(shard, share);
    }
}
