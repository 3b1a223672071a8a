/*
 * lease_int: what the files of lease share, and nobody else sees.
 *
 *   lease.c          claims, and the slots of connections
 *   lease_share.c    shares and books, their lines, their parcels
 *   lease_session.c  injectors' sessions
 *   lease_audit.c    what must hold, for the simulator
 */
#pragma once

#include "shard/lease.h"
#include "shard/shard_int.h"

/* What was limited once, or is no more, keeps its book while somebody draws on it. */
#define LEASE_NO_BOUND INT32_MAX

/* With one reference more; NULL when memory is short. */
struct lease_share *lease_share_obtain(struct shard *shard, const struct meter_key *key);
void lease_share_release(struct shard *shard, struct lease_share *share);

/* Slots that lie idle, whether wanted back or not. */
static inline uint32_t lease_spare(const struct lease_share *share)
{
    return share->held - share->used;
}

/* Spare slots that nobody has called back. */
static inline uint32_t lease_available(const struct lease_share *share)
{
    return lease_spare(share) > share->recalled ? lease_spare(share) - share->recalled : 0;
}

/* Slots that are to stay. */
static inline uint32_t lease_kept(const struct lease_share *share)
{
    return share->held - share->recalled;
}

/* Whether a claim of this kind may have a slot. */
bool lease_admits(const struct lease_share *share, enum quota_kind kind);
/* Slots that connections of this kind should make free, for one of so many (a level): of those that
 * wait count who has none, and who has clearly fewer. */
uint32_t lease_pressure(const struct lease_share *share, enum quota_kind kind, uint8_t level);
uint8_t lease_level(uint32_t open_count);
/* The claim takes a slot of shares[at]. */
void lease_take(struct lease_share *share, struct lease_claim *claim, uint8_t at);
/* Idle connections end where others are short of slots. */
void lease_share_make_room(struct shard *shard, struct lease_share *share);
void lease_mark_closing(struct lease_slots *slots);
void lease_line_join(struct shard *shard, struct lease_share *share, struct lease_claim *claim);
void lease_line_leave(struct shard *shard, struct lease_share *share, struct lease_claim *claim);
/* Somebody who may have a slot of the share waits for it. */
bool lease_line_has_next(const struct lease_share *share);
/* Brings what is held, waited for and called back together. */
void lease_settle(struct shard *shard, struct lease_share *share);
/* Asks the owner for what is waited for, unless a question is away. */
void lease_ask(struct shard *shard, struct lease_share *share);
/* Looks at the share's spare slots after LEASE_HOLD_MS. */
void lease_look_later(struct shard *shard, struct lease_share *share);
void lease_on_timer(struct io_timer *timer);
