/*
 * shard: one core's share of everything: sessions, messages at home here, queues owned here.
 *
 * A shard is an actor on one loop; it shares nothing mutable with other shards and meets them, the
 * spool, the resolver and control only through mailboxes. N shards exist from the start and each
 * message may touch three of them:
 *
 *   ingress = home: takes the message, appends it to the log, answers 250, counts its recipients,
 *                   writes every outcome record about it (so that all records of a message come
 *                   from one place in order), answers checkpoints, frees its bytes;
 *   owner:          holds the queue domain/vmta, schedules, connects, delivers, decides retries.
 *
 * After a restart home is a hash of the message id; nothing on disk names a shard. place.h says who
 * owns a queue.
 *
 * A new snapshot of the configuration comes by reload.h and is taken between two parcels.
 *
 * Threads exist only in cmd/: a shard is created, wired and run by whoever owns its loop.
 */
#pragma once

#include "core/base/siphash.h"
#include "core/conf/conf.h"
#include "core/io/io.h"
#include "core/io/mailbox.h"
#include "queue/spool.h"
#include "shard/reload.h"

#include <stdalign.h>
#include <stdatomic.h>

#define SHARD_COUNT_MAX 256

struct guests;
struct shard;
struct sign_service;

struct shard_limits {
    uint32_t message_count_max;    /* live messages at home here, hot or cold */
    uint32_t rcpt_count_max;       /* queued recipients, at home and owned */
    uint32_t session_count_max;    /* injection sessions */
    uint32_t connection_count_max; /* deliveries */
    uint32_t queue_count_max;
    uint32_t dns_in_flight_max;
};

struct shard_options {
    uint16_t number; /* 0 … count-1 */
    uint16_t count;
    struct conf *conf; /* the shard takes a reference of its own */
    uint64_t segment_bytes;
    struct sign_service *signing; /* that has a helper for this shard, or NULL */
    bool counts_ips;              /* figures per source address by TCP_INFO, for REPORT_IPS */
    struct shard_limits limits;   /* zeros = defaults */
};

/*
 * How much a shard has to do, for those who choose between shards: a hint and no more, read and
 * changed without order (relaxed), upon which nothing depends that must hold. Who sends a
 * connection to a shard counts it there at once, before its parcel arrives: otherwise several would
 * fill the emptiest one together.
 */
struct shard_load {
    alignas(128) _Atomic uint32_t session_count; /* injectors' sessions, there or on their way */
    _Atomic uint32_t rcpt_count; /* queued, by home; kept while spool-max-recipients is set */
};

/* The mailboxes of one shard; all created before the loops run, owned by whoever wires. */
struct shard_wiring {
    struct spool *spool;   /* for its health, and to know where its files lie */
    uint64_t life;         /* spool_report.life: message ids start from it */
    uint16_t spool_client; /* this shard's number there */
    struct mailbox *to_spool;
    struct mailbox *from_spool;
    struct mailbox *to_resolver;
    struct mailbox *from_resolver;
    struct mailbox *to_control;
    struct mailbox *from_control;
    struct mailbox *to_carrier; /* NULL = there is none; so the next one */
    struct mailbox *from_carrier;
    struct mailbox *const *to_shards;    /* [count]; own entry NULL */
    struct mailbox *const *from_shards;  /* [count]; own entry NULL */
    struct shard_load *loads;            /* [count] */
    struct guests *guests;               /* of all shards */
    uint8_t site_key[SIPHASH_KEY_BYTES]; /* as mx_rules has it; the same everywhere */
    /* The newest snapshot; what shard_create was given, until it changes. */
    struct published *published;
};

struct shard *shard_create(struct io *io, const struct shard_options *options);
void shard_destroy(struct shard *shard);
/* Once, before the loop runs. */
void shard_wire(struct shard *shard, const struct shard_wiring *wiring);

/*
 * Recovery, before the loops run: the caller gives each live message to its home (shard_home_of)
 * and each named state to every shard. 0, or E_FULL.
 */
uint16_t shard_home_of(uint64_t message_id, uint16_t shard_count);
int shard_recover_message(struct shard *shard, const struct log_message_state *state);
void shard_recover_named(struct shard *shard, const struct log_named *named);

/* Starts taking mail on a listening socket of this shard's loop. */
int shard_listen(struct shard *shard, int listen_fd, const char *source_name);
/*
 * Orderly end: no new mail, deliveries under way end (at most grace_ms), then done. What is queued
 * stays in the log.
 */
void shard_stop(struct shard *shard, uint32_t grace_ms, void (*done)(void *context), void *context);
