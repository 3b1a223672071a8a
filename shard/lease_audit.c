#include "shard/lease_int.h"

bool lease_session_audit(const struct shard *shard, uint32_t session_count)
{
    const struct lease_share *share = shard->leases.sessions;

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

static bool draws_on(const struct lease_draws *draws, const struct lease_share *share,
                     uint16_t among)
{
    for (uint8_t i = 0; i < draws->count; i++)
        if (draws->shares[i] == share)
            return (among & 1u << i) != 0;
    return false;
}

static uint32_t count_used(const struct shard *shard, const struct lease_share *share)
{
    uint32_t sum = 0;

    for (uint32_t i = 0; i < shard->connections.count_grown; i++)
        if (slab_is_live(&shard->connections, i)) {
            const struct connection *connection = slab_at(&shard->connections, i);

            sum += draws_on(connection->slots.claim->draws, share, UINT16_MAX);
        }
    for (uint32_t i = 0; i < shard->lanes.count_grown; i++)
        if (slab_is_live(&shard->lanes, i)) {
            const struct lane *lane = slab_at(&shard->lanes, i);

            sum += draws_on(lane->claim.draws, share, lane->claim.has);
        }
    for (uint32_t i = 0; i < shard->mail_slots.claims.count_grown; i++)
        if (slab_is_live(&shard->mail_slots.claims, i)) {
            const struct mail_claim *mail = slab_at(&shard->mail_slots.claims, i);

            sum += draws_on(mail->claim.draws, share, mail->claim.has);
        }
    return sum;
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

static const char *audit_share(const struct shard *shard, const struct lease_share *share,
                               bool recount)
{
    if (share->used > share->held ||
        (recount && !share->is_prompt && share->used != count_used(shard, share)))
        return "slots are used that are not held";
    if (!share->is_prompt && (!kinds_add_up(share) || (recount && !levels_add_up(share))))
        return "the kinds of slots do not add up";
    return NULL;
}

/* Shards may be of two minds: some have taken a new snapshot, some have not yet. */
static const char *audit_meter(struct shard *const *shards, uint16_t count,
                               const struct meter *meter, uint32_t recount)
{
    const struct meter_key *key = &meter->key;
    const struct shard *owner = shards[meter->owner];
    const struct meter *at_owner = meters_find(owner, key);
    const struct lease_owned *owned = at_owner ? at_owner->owned : NULL;

    if (owned && (!pot_is_sound(&owned->pot) || owned->pot.limit != lease_bound(owner, key)))
        return "leases + free is not the limit";
    for (uint16_t i = 0; i < count; i++) {
        const struct meter *here = meters_find(shards[i], key);
        const struct lease_share *share = here ? here->share : NULL;
        uint32_t leased = owned ? owned->pot.shards[i].leased : 0;
        uint32_t has = !share ? 0 : owned ? accounted(share, &owned->notices[i]) : share->held;
        const char *text = share ? audit_share(shards[i], share, recount == i) : NULL;

        if (count > 1 && has != leased)
            return "a shard has not what was leased to it";
        if (count == 1 && share && share->held - share->recalled != lease_bound(owner, key))
            return "a shard alone does not have the limit";
        if (text)
            return text;
    }
    return NULL;
}

/* Each meter once: with the first shard that knows it. */
static bool is_known_before(struct shard *const *shards, uint16_t number,
                            const struct meter_key *key)
{
    for (uint16_t i = 0; i < number; i++)
        if (meters_find(shards[i], key))
            return true;
    return false;
}

const char *lease_audit(struct shard *const *shards, uint16_t count, uint32_t recount)
{
    for (uint16_t i = 0; i < count; i++)
        list_for_each (link, &shards[i]->meters.all) {
            const struct meter *meter = meters_of_link(link);
            const char *text;

            if (is_known_before(shards, i, &meter->key))
                continue;
            text = audit_meter(shards, count, meter, recount);
            if (text)
                return text;
        }
    return NULL;
}
