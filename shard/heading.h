/*
 * heading: the header of a message as its queue delivers it. What lies in the log and in memory is
 * never altered, as other recipients and other shards have it too: the header is copied, edited,
 * and leaves in the place of the octets that it stands for.
 *
 * Of a message that is read in chunks while it is sent, the chunks belong to the delivery and are
 * edited where they are; a header that goes on behind the first chunk is gathered. The copy is of
 * the size of the header or a little more, one for each delivery under way. Belongs to the shard's
 * thread.
 */
#pragma once

#include "shard/message.h"

#include <stdbool.h>
#include <stdint.h>

struct delivery;
struct queue;
struct shard;

/* Of a header in chunks; as what a source holds back. */
#define HEADING_BYTES_MAX 262144u

struct heading {
    struct message_buffer octets; /* the edited beginning of the content; size 0 = there is none */
    uint32_t replaced;            /* octets of the stored content that it stands for */
    bool is_over;                 /* in chunks: the end of the header has been passed */
    bool is_signed;   /* complete, edited and with signatures of its own: see resign.h */
    uint32_t skipped; /* in chunks, of `replaced`: octets that were left out by now */
};

/* Whether its messages leave with another header than they are stored with. */
bool heading_is_edited(const struct queue *queue);
/* Whether the queue takes fields of that name out. */
bool heading_is_removed(const struct queue *queue, struct slice name);
/* For a message that is in memory as a whole: its beginning as it is stored, with the whole header.
 * 0, or E_FULL. */
int heading_copy(struct delivery *delivery);
/* That is given up again. */
void heading_reset(struct delivery *delivery);
/* A buffer of at least that size with the octets of the one before, which may have none. 0, or
 * E_FULL. */
int heading_room(struct shard *shard, struct message_buffer *buffer, uint32_t bytes);
/* A header that is complete stands for so many octets of the content; the buffer is taken over. */
void heading_replace(struct delivery *delivery, const struct message_buffer *octets,
                     uint32_t replaced);
/* There is one to leave in the place of the one that is stored, or in front of a body without. */
bool heading_is_there(const struct delivery *delivery);
/* Octets that it has more than what it stands for. */
uint32_t heading_growth(const struct delivery *delivery);
/* For a message that is in memory as a whole. 0, or E_FULL. */
int heading_make(const struct queue *queue, struct delivery *delivery);
void heading_free(struct delivery *delivery);
/* As message_content, with room for one part more. */
uint32_t heading_content(const struct delivery *delivery, struct iovec *iov);
/*
 * For a message in chunks: the next octets of its content, which may be edited; is_last: there are
 * no more. *ret_part is what may leave now. 0; E_FULL, or E_TOO_LONG when the header is larger than
 * HEADING_BYTES_MAX.
 */
int heading_feed(const struct queue *queue, struct delivery *delivery, uint8_t *data,
                 uint32_t octets, bool is_last, struct iovec *ret_part);
/* The same where it is signed: fills up to two parts, and returns how many. */
int heading_feed_signed(struct delivery *delivery, uint8_t *data, uint32_t octets,
                        struct iovec ret_parts[2]);
