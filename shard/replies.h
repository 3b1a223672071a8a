/*
 * replies: what replies ask for, by a queue's <smtp-pattern-list>, else by what is known of the
 * provider (policy/provider_rule.h), else unasked (policy/react.h); carried out where they came.
 *
 * policy/react.h says what a reply leads to, this does it: the mode of the queue at once (modes.h),
 * the fate of the recipient, the host that is passed by, the queue that rests or ends. Of a queue
 * that has left for another shard nothing but the recipient's fate follows: the next refusal comes
 * there. All of it belongs to the shard's thread.
 */
#pragma once

#include "shard/policy/fate.h"
#include "shard/policy/react.h"

struct connection;
struct hit_facts;
struct message;
struct queue;
struct shard;

/* The connection's MX host, empty when it is not known; valid while the connection lives. */
struct slice replies_host(const struct shard *shard, const struct connection *connection);
/* What the reply leads to; the mode of the queue follows at once, and so do standing orders.
 * message: that it was to, NULL for none. */
struct react replies_heed(struct shard *shard, struct connection *connection, struct queue *queue,
                          const struct message *message, const struct verdict *verdict);
/* The owner of its trigger says that a hit of this shard's completed it. */
void replies_on_fired(struct shard *shard, const struct hit_facts *facts);
/* The fate of the recipient that the reply was for; its attempts before this one, and its age. */
void replies_bend_fate(struct shard *shard, struct connection *connection,
                       const struct queue *queue, const struct react *react,
                       const struct verdict *verdict, uint32_t attempts, uint64_t age_ms,
                       struct fate *fate);
/* What follows for the queue; the recipient that the reply was for is settled. */
void replies_act(struct shard *shard, struct queue *queue, const struct react *react,
                 const struct verdict *verdict);
