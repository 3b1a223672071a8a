/*
 * hits: of reply lines that ask for more than one hit, over all shards.
 *
 * What counts by queue is counted where the queue is. Everything else is counted by one owner,
 * which follows from the hash of line and value (triggers.h): each hit is a parcel to it and back.
 * So a line fires with the hit that completes its number, whichever shards saw the others, and what
 * it asks for is done by the shard that saw that hit, with what was noted of it, when the answer
 * comes: the connection may be gone by then. Attempts of lines that ask for a share are told
 * HITS_ATTEMPTS at a time, and with each hit.
 *
 * Belongs to the shard's thread. Beyond HITS_OPEN_MAX that are not answered hits count by shard, as
 * they do for a queue. On one shard no parcel travels.
 */
#pragma once

#include "core/base/ipaddr.h"
#include "core/base/slab.h"
#include "core/conf/reply_rule.h"
#include "core/io/mailbox.h"
#include "shard/names.h"
#include "shard/orders.h"

#define HITS_OPEN_MAX 1024u
#define HITS_ATTEMPTS 16u

struct shard;

/* What is needed to do what the line asks for. */
struct hit_facts {
    unsigned actions;    /* of enum conf_reply_action: a stop, backoff mode, its end */
    uint64_t backoff_ms; /* CONF_UNLIMITED = for ever */
    uint64_t stop_ms;
    struct order_facts order; /* source, who and reason of each; the kind of a stop */
    bool of_all_sources;      /* it is of all sources of the virtual MTA … */
    bool of_netblock;         /* … or of all of ours in the block of the source */
    uint64_t opened_ns;       /* the connection */
    uint64_t began_ns;        /* what it was at */
    uint32_t vmta_id;         /* of the queue */
    uint8_t domain_len;
    uint8_t domain[NAMES_BYTES_MAX];
};

/* Shard to owner and back. */
struct hit_parcel {
    struct parcel parcel;
    uint32_t index;
    uint64_t rule_id;
    struct conf_reply_trigger trigger;
    uint64_t value;
    uint32_t attempts;
    bool is_hit;
    bool fires; /* the answer */
    struct hit_facts facts;
};

/* Attempts that the owner has not heard of. */
struct hits_due {
    uint64_t rule_id;
    struct conf_reply_trigger trigger;
    uint64_t value;
    uint32_t count;
};

#define HITS_DUE_COUNT 256u

struct hits {
    struct slab slab;
    struct hits_due due[HITS_DUE_COUNT]; /* by hash; who has to make room is told at once */
};

/* Notes what is needed to do later what the line asks for. */
typedef void hits_fill_fn(const void *context, const struct conf_reply_rule *rule,
                          struct hit_facts *ret_facts);

void hits_init(struct shard *shard);
void hits_fini(struct shard *shard);
/* An attempt was made for that value of the line's scope; ahead of the hit that it may be. */
void hits_attempt(struct shard *shard, const struct conf_reply_rule *rule, uint64_t value);
/* The line was hit. True when what it says is to be done now. Else replies_on_fired is called when
 * the owner says so. */
bool hits_count(struct shard *shard, const struct conf_reply_rule *rule, uint64_t value,
                hits_fill_fn *fill, const void *context);
void hits_on_parcel(struct shard *shard, struct parcel *parcel);
