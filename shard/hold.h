/*
 * hold: refusals for good that are kept back, by provider and by the sender's domain.
 *
 * Gmail answered 5.1.1 for live users for hours in December 2020. policy/breaker.h says when a
 * share is too high to be true; here it is counted, and what is held stays queued by its retry
 * schedule. A 5xx to a recipient that would bounce and every delivery count for two keys,
 * "provider/NAME" and "sender/DOMAIN". A key is counted by its owner, which follows from the hash
 * of its name; a shard tells it of every refusal at once, of deliveries by the dozen, and hears the
 * state with the answer. A shard that has refusals which its owner has not heard of holds what
 * comes on top of a few, so that a burst on many shards passes no more than one shard would. While
 * the breaker is open a refusal of a later attempt says nothing new and is not counted.
 *
 * All of a shard's copy belongs to its thread. At most HOLD_COUNT_MAX keys are known to a shard;
 * the one that was counted longest ago is forgotten, unless it is in force here. State, reason and
 * since when are a named state of the log ("hold/KEY"); counts begin anew with a restart.
 */
#pragma once

#include "core/base/hash.h"
#include "core/base/list.h"
#include "core/base/slab.h"
#include "core/io/mailbox.h"
#include "shard/policy/breaker.h"
#include "shard/policy/fate.h"

struct delivery;
struct queue;
struct queued;
struct report;
struct shard;

#define HOLD_LOG_KEY      "hold/"
#define HOLD_COUNT_MAX    4096u
#define HOLD_NAME_MAX     280 /* "provider/" and a domain, with NUL */
#define HOLD_REASON_MAX   200
/* Refusals that the shards may let pass, together, before the owner has heard of them; of one shard
 * HOLD_UNTOLD_LEAST at least. */
#define HOLD_UNTOLD_MAX   120u
#define HOLD_UNTOLD_LEAST 8u

/* What the owner says of a key. */
struct hold_facts {
    uint8_t state; /* enum breaker_state */
    uint8_t enhanced[3];
    uint16_t code; /* RECLASSIFIED: which refusals; else of the one that opened it */
    uint64_t since_us;
    uint64_t until_us; /* PASSING */
    char reason[HOLD_REASON_MAX];
};

/* Shard to owner and back: what happened since the last one. */
struct hold_tell {
    struct parcel parcel;
    uint32_t index; /* of the sender's */
    uint64_t hash;
    uint32_t hard;
    uint32_t good;
    uint32_t held;
    char name[HOLD_NAME_MAX];
    struct hold_facts facts; /* there: the last refusal; back: what holds */
};

struct hold {
    struct list link;
    uint64_t hash;
    uint32_t index;
    char name[HOLD_NAME_MAX];
    struct hold_facts facts; /* as the owner said it last */
    struct hold_facts last;  /* code and text of the last refusal that counts */
    uint32_t hard;           /* not told yet */
    uint32_t good;
    uint32_t held;
    bool tell_is_out;
    struct hold_tell tell;
    /* At its owner. */
    struct breaker_book book;
    uint64_t held_count; /* verdicts, since it opened */
};

struct holds {
    struct slab slab;
    struct table table;
    struct list by_age; /* counted longest ago first */
    uint64_t opened;
    uint64_t held; /* verdicts that bounced nobody */
};

void holds_init(struct shard *shard);
void holds_fini(struct shard *shard);

/* The verdict's fate is known but for this: counts it, and holds a bounce if need be. age_ms: of
 * the recipient since acceptance. */
void hold_judge(struct shard *shard, const struct delivery *delivery, const struct queued *queued,
                const struct verdict *verdict, uint64_t age_ms, struct fate *fate);

/* `breaker release|bounce|reclassify`: at the owner, and what all shards know of it. */
void hold_on_verb(struct shard *shard, struct report *report);
void hold_report(const struct shard *shard, struct report *report);
/* What is held of the queue's mail, and why: by its provider, else by senders that this shard knows
 * of, whose recipients the queue may have. Empty when nothing is, or nothing has been here: after a
 * restart and a move the next attempt tells. */
void hold_explain(const struct shard *shard, const struct queue *queue, char *room,
                  size_t room_bytes);
/* The log's last word, after a restart. */
void hold_recover(struct shard *shard, struct slice name, struct slice value);
void hold_on_parcel(struct shard *shard, struct parcel *parcel);
