/*
 * message: the bytes of a message in memory, hot after acceptance or read back from the log.
 *
 * A message has exactly the payload of its log record: envelope, header prefix, body, spread over a
 * few buffers (4 KB, 16 KB, 64 KB, 256 KB from slabs, larger ones from the heap). The first buffer
 * holds the whole envelope. One that is kept in chunks in the log is the same in memory while it is
 * hot; read back, it has its commit record in its first buffer and one chunk at a time in its
 * second. Belongs to the shard whose pool it came from;
 * other shards read it while they hold a claim (home.c counts them), never write.
 * The pool's bytes are bounded: above its soft mark new messages do not stay hot after their
 * append, at the hard mark no buffer is given.
 */
#pragma once

#include "core/base/slab.h"
#include "net/intake.h"
#include "queue/envelope.h"
#include "queue/spool.h"

#define MESSAGE_BUFFER_CLASSES 4
#define MESSAGE_IOV_MAX        16

struct shard;
struct message_pool;

struct message_buffer {
    uint8_t *data;
    uint32_t used;
    uint32_t size;
    uint32_t index; /* in its class's slab */
    uint8_t class;  /* MESSAGE_BUFFER_CLASSES = from the heap */
};

struct message {
    struct log_request append; /* first: the spool's answers lead back here */
    struct message_pool *pool;
    struct intake_message *intake; /* until the append is answered */
    struct envelope envelope;      /* views into the first buffer once encoded */
    struct message_buffer buffers[MESSAGE_IOV_MAX];
    uint32_t buffer_count;
    uint32_t bytes;          /* of the payload so far */
    uint32_t index;          /* in the pool's slab */
    uint32_t home;           /* home message index once registered */
    uint32_t kilobytes;      /* of its record, rounded up, once registered; at most what fits */
    uint32_t payload_offset; /* in the first buffer: a record's header when it was read back, or
                                what recipients left */
    bool has_overdrawn;      /* it is the one that the pool has made an exception for */
    bool is_partial;         /* in chunks, and not all of them are in memory any more */
    struct iovec payload[MESSAGE_IOV_MAX];
};

struct message_pool {
    struct slab messages;
    struct slab buffers[MESSAGE_BUFFER_CLASSES];
    uint64_t bytes_used;
    uint64_t bytes_soft; /* above: do not keep hot */
    uint64_t bytes_max;  /* no more buffers */
    bool is_overdrawn;   /* but for one message, see message_buffer_need */
};

void message_pool_init(struct message_pool *pool, uint64_t bytes_max, uint32_t message_count_max);
void message_pool_fini(struct message_pool *pool);
static inline bool message_pool_is_tight(const struct message_pool *pool)
{
    return pool->bytes_used > pool->bytes_soft;
}

/* NULL when the pool has no room. */
struct message *message_alloc(struct message_pool *pool);
/* All buffers and the message itself; only on the pool's shard. NULL is fine. */
void message_free(struct message *message);

/* A first or further buffer with room for at least min_bytes in one piece. 0 or E_FULL. */
int message_buffer_add(struct message *message, uint32_t min_bytes);
/*
 * The same for a message that is queued and read back. What waits must be able to go, however small
 * the pool has become (by another number of shards, say): one message at a time gets a buffer above
 * bytes_max.
 */
int message_buffer_need(struct message *message, uint32_t min_bytes);
/* The same for what must be kept whatever else is in memory: bytes_max does not count. The caller
 * bounds how many there are. */
int message_buffer_owe(struct message *message, uint32_t min_bytes);
/* Frees `count` buffers from `first` on; the others move up. Not for a message that is hot. */
void message_buffers_drop(struct message *message, uint32_t first, uint32_t count);
static inline void message_buffer_drop_first(struct message *message)
{
    message_buffers_drop(message, 0, 1);
}
/* A buffer outside of any message, with room for min_bytes. 0 or E_FULL. */
int message_pool_take(struct message_pool *pool, uint32_t min_bytes,
                      struct message_buffer *ret_buffer);
/* The same as message_buffer_owe does it. */
int message_pool_owe(struct message_pool *pool, uint32_t min_bytes,
                     struct message_buffer *ret_buffer);
void message_pool_give(struct message_pool *pool, struct message_buffer *buffer);
/* Appends to the payload, adding buffers as needed. 0, E_FULL, or E_TOO_LONG when the buffers'
 * number is exhausted. */
int message_append(struct message *message, const void *data, size_t len);
/* Fills payload[] from the buffers; returns the count. */
uint32_t message_payload(struct message *message);
/*
 * Content (prefix and body) as an iovec array with room for MESSAGE_IOV_MAX; the envelope must be
 * decoded. Returns the count. Any shard with a claim.
 */
uint32_t message_content(const struct message *message, struct iovec *iov);
/* Copies payload octets from an offset on, up to room_bytes; returns how many. */
size_t message_copy(const struct message *message, size_t offset, uint8_t *room, size_t room_bytes);
/* The other way round: over what is there. Not for a message that is durable. */
void message_overwrite(struct message *message, size_t offset, const void *data, size_t len);
