/*
 * warm: what `<warm-up>` sections let out to a provider from one of our addresses in a day.
 *
 * Who counts is the owner of the book (policy/warmup.h) of (section, provider, source address),
 * which follows from the hash of its key. Shards ask it for attempts: a block is a 64th of the
 * day's cap, and the book is in the log ("warm-up/SECTION/PROVIDER/ADDRESS") before the block is
 * given away, so the cap is never exceeded, over all shards and over crashes. An attempt is a
 * recipient whose MAIL leaves; retries count. What came of them goes back to the book with the next
 * question, or by itself when the block is used up.
 *
 * Where nothing is left of today, or of the hour (send-hours), the queue goes by another of its
 * addresses that has some, else it waits with a reason of its own. All of it belongs to the shard's
 * thread; where no section is configured it costs a comparison.
 */
#pragma once

#include "core/base/hash.h"
#include "core/base/ipaddr.h"
#include "core/base/list.h"
#include "core/base/slab.h"
#include "core/io/mailbox.h"
#include "shard/policy/warmup.h"

struct connection;
struct conf_warmup;
struct lane;
struct queue;
struct report;
struct shard;
struct site;
struct verdict;

#define WARM_LOG_KEY "warm-up/"

/* What came of attempts that the book has not heard of. */
struct warm_news {
    int32_t day;
    uint64_t used;
    uint64_t deferred;
    uint64_t blocked;
};

/* Shard to owner and back. */
struct warm_ask {
    struct parcel parcel;
    struct list link;
    struct slice key; /* bytes of the asking shard's names */
    uint32_t share;   /* of the asking shard */
    bool wants;       /* attempts, not only to report */
    struct warm_news news;
    /* The answer. */
    int32_t day;
    uint64_t count;  /* attempts that were granted … */
    int64_t until_s; /* … until then; wall clock, seconds */
    int64_t again_s; /* likewise; no question before that */
};

/* What this shard may still send of a day. */
struct warm_share {
    uint64_t section; /* hash of its name */
    uint64_t provider;
    struct ipaddr source;
    uint32_t key; /* in shard.names */
    uint32_t index;
    int32_t day;
    uint64_t block; /* as it was granted */
    uint64_t left;
    int64_t until_s;
    int64_t again_s;
    bool is_asking;
    struct warm_news news;
    struct warm_ask ask;
};

/* At the owner. */
struct warm_book {
    uint32_t key;
    uint32_t index;
    struct warmup_book book;
    uint64_t granted; /* to the question in front, given when the log has it */
    bool is_writing;
    struct list asks;
};

struct warm {
    struct slab shares;
    struct table share_table;
    struct slab books;
    struct table book_table;
};

/* What attempts were taken of; all 0: of nothing. */
struct warm_receipt {
    uint32_t share; /* its index + 1 */
    int32_t day;
};

void warm_init(struct shard *shard);
void warm_fini(struct shard *shard);

/* True when there is something left for a recipient of the queue by that lane. Else the queue
 * waits, out of every line of a lane. */
bool warm_admit(struct shard *shard, struct lane *lane, struct queue *queue);
/* How many recipients may be tried by it now; UINT32_MAX where no section counts them. */
uint32_t warm_allowed(struct shard *shard, const struct lane *lane, const struct queue *queue);
/* The lesser of that and `allowed`. */
uint32_t warm_bound(struct shard *shard, const struct lane *lane, const struct queue *queue,
                    uint32_t allowed);
/* Takes so many, at most warm_allowed: their MAIL leaves now. */
void warm_take(struct shard *shard, const struct lane *lane, const struct queue *queue,
               uint32_t count, struct warm_receipt *ret_receipt);
/* What came of one of them. */
void warm_note(struct shard *shard, const struct warm_receipt *receipt,
               const struct connection *connection, const struct verdict *verdict);
/* So many of them were taken back unanswered; the receiver may have counted them. */
void warm_pass(struct shard *shard, const struct warm_receipt *receipt, uint32_t count);
/* It is known that the address has nothing left for the queue now. */
bool warm_is_spent(const struct shard *shard, const struct queue *queue,
                   const struct ipaddr *source);
/* The queue waits for the first of its addresses that has something again. False when none of them
 * is spent. */
bool warm_wait(struct shard *shard, struct queue *queue);
/* The section that its mail is under, or NULL. */
const struct conf_warmup *warm_section(const struct shard *shard, const struct queue *queue);

void warm_on_parcel(struct shard *shard, struct parcel *parcel);
/* The log has the book, or could not take it. */
void warm_on_logged(struct shard *shard, uint32_t book, int32_t status);
/* The log's last word, after a restart; key: SECTION/PROVIDER/ADDRESS. */
void warm_recover(struct shard *shard, struct slice key, struct slice value);
/* A warm_row for each book that this shard owns. */
void warm_report(struct shard *shard, struct report *report);
