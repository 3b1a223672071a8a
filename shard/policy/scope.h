/*
 * scope: which meter a limit counts on, and in which order meters are drawn on.
 *
 * A meter is one count of one limit (core/conf/limit.h): the limit and the values of its scopes,
 * kept as a hash of 64 bits. Two that share one by chance would share the bound, which is too
 * strict and never too loose. The same facts make the same key on every shard.
 *
 * Keys have one order, the same everywhere: those that count less come first (user, sender-domain,
 * job, domain, tenant, provider, source-ip, pool, virtual MTA; the bound of all connections is
 * behind them), and among equals the limit and the values decide. Pure; any thread.
 */
#pragma once

#include "core/conf/limit.h"

/* Limits of one quantity that a connection, or a message, draws on. */
#define SCOPE_METERS_MAX 8

/* In place of a limit's id: what a <virtual-mta> says of itself. */
#define SCOPE_OF_VMTA UINT32_MAX

struct meter_key {
    uint32_t limit_id;
    uint32_t scopes;
    uint64_t values;
};

/* What a message counts by: scope_value of each. */
struct scope_mail {
    uint64_t job;
    uint64_t sender_domain;
    uint64_t user;
};

/* Facts that no scope of the limits in question needs may be missing. */
struct scope_facts {
    uint32_t vmta_id;
    uint32_t pool_id;
    uint64_t provider;
    uint64_t tenant;
    const struct ipaddr *source;
    struct slice domain;
    struct scope_mail mail;
};

struct scope_list {
    struct meter_key keys[SCOPE_METERS_MAX];
    uint32_t count;
};

/* What keys have in place of a name, of whatever case. */
uint64_t scope_value(struct slice name);
struct meter_key scope_key(const struct conf_limit *limit, const struct scope_facts *facts);
/* Of what a virtual MTA says of itself. */
struct meter_key scope_key_of_vmta(uint32_t vmta_id);
/* In order, none twice. False when there is no room for one more. */
bool scope_add(struct scope_list *list, const struct meter_key *key);
bool scope_key_equal(const struct meter_key *a, const struct meter_key *b);
/* The order of lists, the same everywhere. */
bool scope_key_is_before(const struct meter_key *a, const struct meter_key *b);
uint64_t scope_key_hash(const struct meter_key *key);
/* 0 for an empty list; what differs has different ones, but for a chance of one in 2^64. */
uint64_t scope_list_hash(const struct scope_list *list);
