/*
 * cold: the share of a virtual MTA's mail that goes to one that is being warmed up beside it.
 *
 * A virtual MTA with `cold-virtual-mta` gives the first recipients of each domain and day to that
 * one, as many as max-cold-virtual-mta-msg says for the day of the ramp. Who counts is the owner of
 * the book (policy/warmup.h) of (domain, virtual MTA), which follows from their hash. Shards ask it
 * for recipients that they may send so: a block is a 64th of the day's, and the book is in the log
 * ("cold/DOMAIN/VMTA") before the block is given away. So the count is never exceeded, over all
 * shards and over crashes, which cost what was left of a block. While a shard asks, recipients go
 * the warm way: nobody waits.
 *
 * A recipient is counted once, when it is first handed out; its retries stay with the cold one
 * until a restart, after which it is a new one to the count. The day is that of warm-up-time-zone.
 * All of it belongs to the shard's thread; where nothing is configured it costs a comparison.
 */
#pragma once

#include "core/base/hash.h"
#include "core/base/list.h"
#include "core/base/slab.h"
#include "core/io/mailbox.h"
#include "shard/policy/warmup.h"

struct route;
struct shard;

#define COLD_LOG_KEY "cold/"

/* Shard to owner and back. */
struct cold_ask {
    struct parcel parcel;
    struct list link;
    struct slice domain; /* bytes of the asking shard's names */
    uint32_t vmta_id;
    uint32_t share;  /* of the asking shard */
    int32_t day;     /* of the answer */
    uint64_t count;  /* recipients that were granted */
    int64_t again_s; /* wall clock; no question before that */
};

/* What this shard may still send of a day. */
struct cold_share {
    struct shard *shard;
    uint32_t name; /* in shard.names */
    uint32_t vmta_id;
    int32_t day;
    uint64_t left;
    int64_t again_s;
    bool is_asking;
    struct cold_ask ask;
};

/* At the owner. */
struct cold_book {
    uint32_t name;
    uint32_t vmta_id;
    uint32_t index;
    struct warmup_book book;
    uint64_t granted; /* to the question in front, given when the log has it */
    bool is_writing;
    struct list asks;
};

struct cold {
    struct slab shares;
    struct table share_table;
    struct slab books;
    struct table book_table;
    uint64_t taken; /* recipients that went the cold way, from here */
};

void cold_init(struct shard *shard);
void cold_fini(struct shard *shard);
/* Whether mail of that queue may have to go to a cold virtual MTA. */
bool cold_is_configured(const struct shard *shard, struct slice domain, uint32_t vmta_id);
/* One recipient more may go the cold way now; it does then. */
bool cold_take(struct shard *shard, const struct route *route);
/* The cold virtual MTA of a message, or vmta_id itself when there is none any more. */
uint32_t cold_vmta(const struct shard *shard, uint32_t vmta_id, uint64_t message_id);
void cold_on_parcel(struct shard *shard, struct parcel *parcel);
/* The log has the book, or could not take it. */
void cold_on_logged(struct shard *shard, uint32_t book, int32_t status);
/* The log's last word, after a restart; name: DOMAIN/VMTA. */
void cold_recover(struct shard *shard, struct slice name, struct slice value);
