/*
 * doubt: by which way a recipient went whose message may have been taken, or was greylisted.
 *
 * A message that is lost after its final dot is tried again the same way first, so that a receiver
 * that has it can tell; one that was greylisted comes from the same source again. At most
 * DOUBT_COUNT_MAX of a shard are remembered, none over a restart. Belongs to the shard's thread.
 */
#pragma once

#include "core/base/ipaddr.h"
#include "core/base/list.h"

struct connection;
struct queue;
struct shard;
struct verdict;

/* By which way a recipient went whose message was lost after the final dot, or was greylisted. */
struct doubt_way {
    struct ipaddr source;      /* IPADDR_NONE = neither */
    struct ipaddr_port target; /* likewise when it was greylisted: any */
    uint32_t open_count;       /* connections that were opened for its sake */
};

/* What is remembered of a recipient that is in doubt, or greylisted. */
struct doubt {
    struct list link; /* in shard.doubt_list */
    uint32_t index;
    uint32_t queued; /* the recipient */
    struct doubt_way way;
};

/* 72 octets each while they are used. */
#define DOUBT_COUNT_MAX 131072

void doubt_init(struct shard *shard);
void doubt_fini(struct shard *shard);
/* What the connection's receiver said of the recipient, or that it was lost: is remembered, or
 * takes the place of what was. */
void doubt_note(struct shard *shard, uint32_t queued_index, const struct connection *connection,
                const struct verdict *verdict);
/* Whether it may go in a transaction that the other one leads. */
bool doubt_goes_with(const struct shard *shard, uint32_t queued_index, uint32_t first_index);
/* The recipient goes to another shard with what is remembered of it, or came from one. */
struct doubt_way doubt_way_of(const struct shard *shard, uint32_t queued_index);
void doubt_resume(struct shard *shard, uint32_t queued_index, const struct doubt_way *way);
/* Another outcome came, or it is gone. Fine when nothing is remembered. */
void doubt_forget(struct shard *shard, uint32_t queued_index);
/* What is remembered of a recipient (NONE: of nobody), or NULL. */
struct doubt *doubt_find(const struct shard *shard, uint32_t queued_index);
/* The index of the site's address to which the queue's first ready recipient is to go first; NONE
 * when that is all the same, or cannot be had. */
uint32_t doubt_target(const struct shard *shard, const struct queue *queue);
/* The source that it is to come from first; NULL when that is all the same. */
const struct ipaddr *doubt_source(const struct shard *shard, const struct queue *queue);
/* Whether that recipient may go by this connection. */
bool doubt_fits(const struct shard *shard, const struct queue *queue,
                const struct connection *connection);
