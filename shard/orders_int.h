/*
 * orders_int: what the files of orders share, and nobody else sees.
 *
 *   orders.c        this shard's copy of all orders, the book of those that it owns, their parcels
 *   orders_state.c  what begins and ends them, and their place in the log
 *   orders_mail.c   those that hold the mail of a job or of a sender's domain
 *   orders_backoff.c those that have queues in backoff mode
 *
 * Whoever alters an order goes through orders_obey, orders_announce and orders_loosen.
 */
#pragma once

#include "shard/orders.h"
#include "shard/shard_int.h"

struct order_key {
    enum order_kind kind;
    const struct ipaddr *source;
    struct slice who;
};

uint64_t orders_hash_of(const struct order_key *key);
struct order_key orders_key_of(const struct order_facts *facts);
/* NULL when this shard has none. */
struct order *orders_find(const struct shard *shard, const struct order_key *key);
/* The order, made if need be, not in force then; NULL when there is no room. */
struct order *orders_obtain(struct shard *shard, const struct order_facts *facts);
/* Nothing of it is under way any more, and it is over: it goes. */
void orders_free_if_over(struct shard *shard, struct order *order);
bool orders_is_owner(const struct shard *shard, const struct order *order);
/* order: NULL = there is none. */
bool orders_is_in_force(const struct shard *shard, const struct order *order);
/* The stop of a source at the site's provider that is in force, or NULL. */
struct order *orders_stop_of(const struct shard *shard, const struct site *site,
                             const struct ipaddr *source);
/* Those facts count here from now on. */
void orders_obey(struct shard *shard, struct order *order, const struct order_facts *facts);
/* By its owner: it is new or tighter, and has effect here already. report: waits for the log. */
void orders_announce(struct shard *shard, struct order *order, struct report *report);
/* Here at once, and its owner hears of it. False when there is no room for one more. */
bool orders_put_in_force(struct shard *shard, const struct order_facts *facts);
void orders_set_times(struct shard *shard, struct order_facts *facts, uint64_t for_ms);
/* The name of that provider in orders. */
void orders_name_number(uint64_t provider, char *room, size_t room_bytes);
/* By its owner: ends it once the log has that. */
void orders_loosen(struct shard *shard, struct order *order, struct report *report);
/* The owner hears what happened here. */
void orders_tell_owner(struct shard *shard, struct order *order);
/* One connection, or message, of a probe is wanted. */
void orders_ask(struct shard *shard, struct order *order);
/* False when the log has no room for it now. */
bool orders_persist(struct shard *shard, struct order *order, bool is_end, struct report *report);
