/*
 * warm: what `<warm-up>` sections let out in a day: to a provider from one of our addresses, or
 * of a sender's domain (author.h), or of a combination.
 *
 * Who counts is the owner of the book (policy/warmup.h) of (section, what its scope says), which
 * follows from the hash of its key. Shards ask it for attempts: a block is a 64th of the
 * day's cap, and the book is in the log ("warm-up/SECTION/PROVIDER/ADDRESS/DOMAIN", with those of
 * them that count) before the block is
 * given away, so the cap is never exceeded, over all shards and over crashes. An attempt is a
 * recipient whose MAIL leaves; retries count. What came of them goes back to the book with the next
 * question, or by itself when the block is used up.
 *
 * Where nothing is left of today, or of the hour (send-hours), the queue goes by another of its
 * addresses that has some, else it waits with a reason of its own. A message whose sender has
 * nothing left is put off, and those behind it go on. With `overflow POOL` what waits beyond what
 * is left of the day goes home, and from there by the pool (migrate_send_home). All of it belongs
 * to the shard's thread; where no section is configured it costs a comparison.
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
struct message;
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

/* The book's day as the owner said it last. */
struct warm_facts {
    uint64_t cap; /* 0 = not known */
    uint64_t granted;
    uint64_t rest;    /* that may be granted yet before the day's hours end */
    uint64_t pace_us; /* from one recipient to the next where they are spread; 0 = they are not */
    uint32_t step;
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
    struct warm_facts facts;
    uint64_t count;  /* attempts that were granted … */
    int64_t until_s; /* … until then; wall clock, seconds */
    int64_t again_s; /* likewise; no question before that */
};

/* What this shard may still send of a day. */
struct warm_share {
    uint64_t section;  /* hash of its name */
    uint64_t provider; /* 0 = does not count */
    uint64_t sender;   /* hash of a domain; 0 likewise */
    struct ipaddr source;
    uint32_t key; /* in shard.names */
    uint32_t index;
    int32_t day;
    uint64_t block; /* as it was granted */
    uint64_t left;
    int64_t until_s;
    int64_t again_s;
    bool is_asking;
    struct warm_facts facts;
    uint64_t held;        /* recipients put off, each until its turn may come … */
    int64_t held_until_s; /* … but no longer: then they are counted anew */
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

/* What attempts were taken of; all 0: of nothing. One of the queue's section, one of the message's.
 */
struct warm_receipt {
    struct warm_part {
        uint32_t share; /* its index + 1 */
        int32_t day;
    } parts[2];
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
/* The same for the section of the message's sender; where nothing is left it asks for more. */
uint32_t warm_sender_allowed(struct shard *shard, const struct lane *lane,
                             const struct queue *queue, const struct message *message);
/* So many recipients of the message are put off, as there is too little left: until when (wall
 * clock, microseconds). goes_over: they are to go by the overflow instead. */
uint64_t warm_sender_put_off(struct shard *shard, const struct lane *lane,
                             const struct queue *queue, const struct message *message,
                             uint32_t count, bool *ret_goes_over);
/* Takes so many, at most what both allow: their MAIL leaves now. */
void warm_take(struct shard *shard, const struct lane *lane, const struct queue *queue,
               const struct message *message, uint32_t count, struct warm_receipt *ret_receipt);
/* What came of one of them. */
void warm_note(struct shard *shard, const struct warm_receipt *receipt,
               const struct connection *connection, const struct verdict *verdict);
/* So many of them were taken back unanswered; the receiver may have counted them. */
void warm_pass(struct shard *shard, const struct warm_receipt *receipt, uint32_t count);
/* It is known that the address has nothing left for the queue now. */
bool warm_is_spent(const struct shard *shard, const struct queue *queue,
                   const struct ipaddr *source);
/* The queue waits for the first of its addresses that has something again; what the day has no room
 * for leaves it. False when none of them is spent. */
bool warm_wait(struct shard *shard, struct queue *queue);
/* What of the warm-ups holds the queue's mail, with figures; empty when nothing does. */
void warm_explain(const struct shard *shard, const struct queue *queue, char *room,
                  size_t room_bytes);

void warm_on_parcel(struct shard *shard, struct parcel *parcel);
/* The log has the book, or could not take it. */
void warm_on_logged(struct shard *shard, uint32_t book, int32_t status);
/* The log's last word, after a restart; key: SECTION/PROVIDER/ADDRESS. */
void warm_recover(struct shard *shard, struct slice key, struct slice value);
/* A warm_row for each book that this shard owns. */
void warm_report(struct shard *shard, struct report *report);
