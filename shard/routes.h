/*
 * routes: where recipients of (domain, virtual MTA, flow, priority) go, and who has that queue.
 *
 * The configuration leads mail from the queue of its domain to others: by queue-to, by the MX hosts
 * that the domain shares with others (its base finds that out), by a warm-up's overflow or cold
 * virtual MTA, by backoff mode. A route remembers the way and the shard that owns the queue at its
 * end; it is interned while recipients use it, and kept a while longer, because bulk mail comes
 * back to the same domains. What it remembers follows the snapshot in force and may be old: who is
 * handed a recipient knows better, and says so (routes_note_owner, routes_roll_up).
 *
 * Belongs to the shard's thread; routes and their table are the shard's. Nothing here waits or
 * writes; the only failure is memory.
 */
#pragma once

#include "core/base/list.h"
#include "core/base/text.h"
#include "core/conf/conf.h"

struct home_rcpt;
struct shard;

struct route {
    struct list idle_link; /* in shard.idle_routes while refs is 0 */
    uint64_t idle_since_ns;
    uint32_t name; /* in shard.names */
    uint32_t vmta_id;
    uint32_t flow; /* envelope_flow */
    uint32_t refs;
    uint32_t way_version;  /* of the configuration that says the way */
    uint8_t priority;      /* envelope_priority */
    bool has_cold;         /* some of its recipients go to a cold virtual MTA */
    const char *rolled_up; /* the queue of its MX hosts, as its base has said; or NULL */
    uint64_t rolled_until_ns;
    struct conf_way way; /* the queue that its recipients go to: its own, or another's */
    uint16_t owner;      /* of that, as far as is known here; who gets a recipient knows better */
};

/* One reference more on the route of (domain, VMTA, flow, priority), by its index in shard.routes;
 * NONE when memory is short. */
uint32_t routes_get(struct shard *shard, struct slice domain, uint32_t vmta_id, uint32_t flow,
                    uint8_t priority);
/* One reference less. */
void routes_put(struct shard *shard, uint32_t index);

/* The queue that a message's recipient goes to (*ret_way, whose domain is valid until the snapshot
 * or the route goes), and who has it, as far as is known. Of pools each message has its own, whose
 * owner is not remembered. May decide that the recipient is a cold virtual MTA's (rcpt.is_cold). */
uint16_t routes_way(struct shard *shard, struct route *route, uint64_t message_id,
                    struct home_rcpt *rcpt, struct conf_way *ret_way);
/* The recipient's queue turned out to be `owner`'s. */
void routes_note_owner(struct route *route, const struct home_rcpt *rcpt, uint16_t owner);
/* The base of the domain has found out where its MX hosts' mail goes: the queue `name`, of the
 * snapshot's memory. By a newer configuration than that of this shard it may be a queue that is not
 * known here: then nothing changes, and the base is asked again. */
void routes_roll_up(struct shard *shard, struct route *route, const char *name);

/* Frees routes that nobody has used for a while; called each turn. */
void routes_turn(struct shard *shard);
