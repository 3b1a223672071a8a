/*
 * spf_out: check-spf-outbound: whether the SPF record of a message's sender lets it leave by the
 * source address that it is about to leave by.
 *
 * Asked for each message of such a queue just before it is sent, and answered from memory
 * (spf_known.h): one evaluation serves all mail of a domain from an address, or of one sender where
 * the record's macros speak of the local part. Of mail from nobody the name in HELO is looked at
 * (RFC 7208 2.4). What is not known yet is being found out, and the message waits in its queue: a
 * second, then as long as it has taken so far. After SPF_OUT_TIMEOUT_MS it is a temporary error.
 *
 * The result of SPF is a value; the verdict that it makes is policy's to judge like any other. A
 * source address that the system chooses is not known before it is used, and cannot be checked:
 * such mail goes. All of it belongs to the shard's thread.
 */
#pragma once

#include "shard/spf_known.h"

#define SPF_OUT_TIMEOUT_MS 20000u /* RFC 7208 4.6.4: at least 20 seconds */
#define SPF_OUT_OPEN_MAX   256u   /* evaluations at once, of 15 KB each */
#define SPF_OUT_KNOWN_MAX  8192u  /* results, of 200 octets each */

struct lane;
struct message;
struct queue;
struct shard;
struct verdict;

enum spf_out_answer {
    SPF_OUT_GOES,
    SPF_OUT_WAITS, /* it is not known yet */
    SPF_OUT_STAYS, /* the verdict says why */
};

struct spf_out {
    struct spf_known known;
    struct slab checks;
    struct list open;
};

void spf_out_init(struct shard *shard);
void spf_out_fini(struct shard *shard);
/* What is open ends without an answer, and nothing is asked from now on when the shard stops. */
void spf_out_stop(struct shard *shard);
/* *ret_due_us: when to ask again, if it waits. *ret_verdict: if it stays. */
enum spf_out_answer spf_out_ask(struct shard *shard, const struct lane *lane,
                                const struct queue *queue, const struct message *message,
                                struct verdict *ret_verdict, uint64_t *ret_due_us);
/* The same for a message that need not go now. */
bool spf_out_goes(struct shard *shard, const struct lane *lane, const struct queue *queue,
                  const struct message *message);
