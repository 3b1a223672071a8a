/*
 * resign: DKIM signatures made again when a message leaves, where those it was accepted with do not
 * hold for the queue that it leaves by.
 *
 * That is so when the queue wants another signature than there is (its virtual MTA, its settings or
 * the key in force are others), when one that it wants has run out (x=), or when the queue takes
 * out a field that is signed. Then our own signatures, which are in the message's prefix, give way
 * to new ones in a copy of the header (heading.h); what lies in the log stays. The body is not read
 * for that where an older signature of ours has its hash; else it is hashed piece by piece. What a
 * queue does not want is left where it is, and so is mail that brought its own key, or came when
 * nothing was signed.
 *
 * Whether the signatures hold is known by the rules that they were made by (queue/signatures.h), in
 * a comparison. Where the rules differ, or something has run out, the header is looked at. Without
 * a key it is put off or goes as it is (dkim-missing-key), and never bounces for that.
 *
 *   NOT_LOOKED -> [READING ->] [HASHING ->] MAKING -> DONE
 *   NOT_LOOKED -> [READING ->] DONE, as it is;   MAKING -> FAILED
 *   DONE -> NOT_LOOKED: a reload changed what the queue wants before the message left
 *
 * Belongs to the shard's thread. A delivery whose message is looked at keeps its connection, as one
 * whose message is read back does.
 */
#pragma once

#include "core/base/list.h"

#include <stdbool.h>
#include <stdint.h>

struct delivery;
struct message;
struct queue;
struct shard;
struct signing;
struct verdict;

#define RESIGN_KEY_WAIT_S 300u /* until a message without a key is looked at again */

enum resign_state {
    RESIGN_NOT_LOOKED,
    RESIGN_READING, /* in chunks, to the end of the header */
    RESIGN_HASHING, /* the body */
    RESIGN_MAKING,
    RESIGN_DONE, /* it may leave: as it is, or with heading.is_signed */
    RESIGN_FAILED,
    RESIGN_STATE_COUNT,
};

/* Of a delivery; starts as zeros. */
struct resign {
    struct list link; /* HASHING, in memory: in shard.resigns_due */
    struct signing *signing;
    const char *why; /* FAILED; constant */
    uint64_t rules;  /* of the queue, when it was found out what it wants */
    uint32_t hashed; /* octets of the content, header and all, up to which it is done */
    uint8_t state;   /* enum resign_state */
};

enum resign_answer {
    RESIGN_GOES,
    RESIGN_WAITS, /* deliver_on_signed follows, from another turn or from a read */
    RESIGN_STAYS, /* the verdict says why */
    RESIGN_NO_ROOM,
};

/* Whether its signatures hold for the queue: a comparison. */
bool resign_holds(struct shard *shard, const struct queue *queue, const struct message *message);
/* The delivery's message is about to leave: in memory, or its commit record is. */
enum resign_answer resign_ask(struct shard *shard, struct delivery *delivery,
                              struct verdict *ret_verdict);
/* It was found that its signatures hold, and a reload has changed the queue's rules since. */
bool resign_is_stale(const struct delivery *delivery);
/* The delivery looks at what is read for it. */
bool resign_is_reading(const struct delivery *delivery);
/* The next octets of its content, read for it; is_last: there are no more. True when it wants more;
 * else the delivery may be gone. */
bool resign_feed(struct delivery *delivery, const uint8_t *data, uint32_t octets, bool is_last);
/* The delivery ends: nothing may be under way but reading, which has failed. */
void resign_end(struct delivery *delivery);
/* Hashes bodies in memory, so much as a turn may. */
void resign_turn(struct shard *shard);
bool resign_is_busy(const struct shard *shard);
