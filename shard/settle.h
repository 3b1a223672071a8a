/*
 * settle: what becomes of one recipient when its transaction has ended: its record for the outcome
 * log, and where it goes in its queue.
 *
 * Room for the outcome was reserved before the delivery began (shard->outcomes_reserved), so it
 * never fails. Decides nothing: the fate is given. Belongs to the shard's thread; times in
 * milliseconds.
 */
#pragma once

#include "core/base/slice.h"

#include <stdint.h>

struct connection;
struct fate;
struct message;
struct outcome_parcel;
struct queued;
struct shard;
struct verdict;

struct settle_facts {
    uint64_t message_id;
    const struct message *message;       /* NULL: could not be read */
    const struct connection *connection; /* NULL: none was involved */
    struct slice address;
    struct slice orcpt;
    uint8_t flags;         /* enum outcome_flags */
    uint8_t notify;        /* enum dsn_notify */
    bool dsn_is_passed_on; /* the receiver sees to what the sender asked for */
    bool is_carried;       /* an attempt without a connection */
};

/*
 * Disposes of one recipient in the state SENDING: gone when final, deferred, or ready again when
 * only the transaction was too large. The outcome (NULL in the last case) is for the caller to
 * send, since the claim on the message goes with it.
 */
struct outcome_parcel *settle_rcpt(struct shard *shard, uint32_t queued_index,
                                   const struct settle_facts *facts, const struct verdict *verdict,
                                   const struct fate *fate);
/* To the shard that counts the message's recipients. */
void settle_send_home(struct shard *shard, struct outcome_parcel *parcel);
/* Since it was accepted; a wall clock that was set back makes nothing older. */
uint64_t settle_age_ms(const struct shard *shard, const struct queued *queued);
