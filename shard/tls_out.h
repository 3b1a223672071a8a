/*
 * tls_out: TLS with receivers.
 *
 * The one place that decides how a connection of a queue to an MX host is secured (tls_out_way):
 * whether at all, whether the mail may go without, and how the peer's chain is judged, which is
 * what the terms of its context say (contexts.h), or the TLSA records that came with the host's
 * addresses (net/dane.h). And what is remembered of hosts where it failed:
 * where TLS may be left out the next connections do without for a while; where it may not, queues
 * with these terms pass the host by, and nobody else does. Hosts are known by their addresses.
 * Belongs to the shard's thread; what is remembered is bounded, and forgotten with the process.
 */
#pragma once

#include "core/mail/verdict.h"
#include "net/smtpc.h"
#include "shard/contexts.h"
#include "shard/policy/tlsrpt.h"

struct connection;
struct lane;
struct message;
struct queue;
struct shard;
struct site;
struct site_target;

#define TLS_OUT_SETS 256
#define TLS_OUT_WAYS 4

struct tls_out_mark {
    uint64_t key;
    uint64_t until_ns;
};

struct tls_out {
    struct tls_out_mark marks[TLS_OUT_SETS][TLS_OUT_WAYS];
    uint64_t shut_until_ns; /* no host is shut to anybody after that */
};

struct tls_out_way {
    uint8_t level; /* enum smtpc_tls_level */
    struct context_terms terms;
    const char *name;  /* the server's, of the site */
    struct slice tlsa; /* of the site: one of these must name the chain; empty = the terms judge */
    /* What the receiver published and the level follows from, for reports (tls_report.h). */
    uint8_t policy; /* enum tlsrpt_type */
    struct slice
        policy_text; /* of STS: its lines, valid as long as the site; of TLSA: the records */
};

/* How the queue's mail is secured at that host of the site; NONE: as its settings alone have it. */
void tls_out_way(const struct queue *queue, const struct site *site, uint32_t host,
                 struct tls_out_way *ret_way);
/* Whether the TLSA records of hosts count for a queue with these settings, where TLS is spoken. */
bool tls_out_heeds_tlsa(const struct conf_queue *settings);
/* The same of MTA-STS policies. */
bool tls_out_heeds_sts(const struct conf_queue *settings);
/* What of the settings makes connections differ: queues share some only where it is equal. 0: the
 * defaults, or no TLS is ever spoken. */
uint64_t tls_out_key(const struct queue *queue);
/* The level of the lane's next connection to that address, for the queue. */
uint8_t tls_out_level(struct shard *shard, const struct lane *lane, const struct queue *queue,
                      const struct site_target *target);
/* The connection's host in its site, whose addresses may have changed since; NONE when it left. */
uint32_t tls_out_host(const struct connection *connection);
/* As smtpc_events.open_tls; context: the connection. */
int tls_out_open(struct smtpc *smtpc, void *context, const struct tls_events *events,
                 struct tls **ret_tls);
/* Whether the connection is secured as the message itself asks for (terms.tls), which asks for no
 * less than the queue does; else a transient verdict about the message. */
bool tls_out_carries(const struct connection *connection, const struct message *message,
                     struct verdict *ret_verdict);
/* The connection ended because TLS could not be begun. */
void tls_out_on_failed(struct shard *shard, const struct connection *connection,
                       const struct verdict *verdict);
/* Whether TLS, which must be, has failed there for queues with that key. */
bool tls_out_is_shut(const struct shard *shard, const struct ipaddr_port *at, uint64_t key);
/* A rest begins: when it is over every address of the lane's is tried again. */
void tls_out_forget(struct shard *shard, const struct lane *lane);
