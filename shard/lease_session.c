#include "shard/lease_int.h"

bool lease_session_take(struct shard *shard)
{
    struct lease_share *share = shard->leases.sessions;

    if (!share)
        return true;
    if (lease_available(share) == 0)
        return false;
    share->used++;
    return true;
}

void lease_session_release(struct shard *shard)
{
    struct lease_share *share = shard->leases.sessions;

    if (!share)
        return;
    must(share->used > 0);
    share->used--;
    lease_settle(shard, share);
}

bool lease_session_has_place(const struct shard *shard)
{
    const struct lease_share *share = shard->leases.sessions;

    return !share || lease_available(share) > 0;
}

bool lease_session_must_wait(const struct shard *shard)
{
    const struct lease_share *share = shard->leases.sessions;

    return share && shard->count > 1 && lease_available(share) == 0;
}

void lease_session_wait(struct shard *shard)
{
    struct lease_share *share = shard->leases.sessions;

    must(lease_session_must_wait(shard));
    share->waiting_count++;
    lease_ask(shard, share);
}
