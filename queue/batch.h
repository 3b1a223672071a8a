/*
 * batch: records that will be made durable together, as they will stand on the disk.
 *
 * Filled by copying, each record summed up while its bytes are warm. A record larger than the
 * buffer makes a batch of its own: its payload stays with its owner, is summed up in steps and then
 * passes through the buffer piece by piece. One loop; the owner (seglog) decides where it goes.
 */
#pragma once

#include "queue/segpool.h"

#define BATCH_DONE_MAX 8192u

/* In log_request.flags beside those of spool.h: answer when durable, but nobody is in a hurry. */
#define LOG_WANTS_DURABLE 0x8000u
/* Message, commit: a recovery writes it again, see RECORD_RELOGGED. */
#define LOG_IS_RELOGGED   0x4000u

struct batch {
    uint8_t *buffer;
    uint32_t used; /* batch header included; 0 = empty */
    uint32_t records;
    uint32_t outcomes; /* of these, outcomes of deliveries */
    bool is_urgent;    /* somebody waits for it */
    bool is_closed;    /* takes no more */
    bool is_adrift;    /* must find a new place before it is written */
    uint32_t done_count;
    uint16_t *done_slots; /* segments of which a message is done once this is durable */
    uint32_t *done_bytes; /* ... and its record's size */
    uint32_t done_chunks; /* what the book knows of these messages' chunks, or CHUNKBOOK_NONE */
    uint32_t chunk_count; /* chunks among the records */
    uint64_t first;       /* sequences, of both streams in between */
    uint64_t last;
    uint64_t since_ns;   /* when its first record came */
    struct list waiting; /* requests to be answered when it is durable */
    struct segment *segment;
    uint32_t offset;

    struct log_request *large; /* its only record, or NULL; used is then its whole size */
    uint32_t large_done;       /* payload bytes summed up, then bytes of the batch written */
    uint32_t large_crc;
    uint8_t large_head[SEGFMT_BATCH_BYTES + SEGFMT_RECORD_BYTES];
};

void batch_init(struct batch *batch, uint32_t buffer_bytes);
void batch_fini(struct batch *batch);
/* Empty again; nobody may be waiting. */
void batch_reset(struct batch *batch);

void batch_begin(struct batch *batch, struct segment *segment, uint32_t offset);
/* Copies the record to the end; the room was checked. place.offset of the request becomes its
 * distance from the batch's start. */
void batch_put(struct batch *batch, struct log_request *request, uint64_t sequence);
/* Writes header and padding; returns the bytes to be written. */
uint32_t batch_finish(struct batch *batch, enum segfmt_stream stream, uint64_t life);
/* Gives a batch that was not written, or void, another place and new sequences. */
void batch_move(struct batch *batch, struct segment *segment, uint32_t offset,
                uint64_t *sequence_next);

void batch_begin_large(struct batch *batch, struct log_request *request, struct segment *segment,
                       uint32_t offset, uint64_t sequence);
/* Sums up at most `budget` more bytes; true when done. */
bool batch_sum(struct batch *batch, uint32_t budget);
/* The header in front, once summed up. */
void batch_finish_large(struct batch *batch, enum segfmt_stream stream, uint64_t life);
/* Puts the next piece into the buffer; returns its bytes, a multiple of 4096; 0 = all written. */
uint32_t batch_piece(struct batch *batch, uint32_t buffer_bytes);

/* The type its kind of request is recorded as. */
enum record_type batch_record_type(const struct log_request *request);
/* Goes into the message stream, and its answer says where it lies. */
static inline bool batch_request_is_mail(const struct log_request *request)
{
    return request->parcel.kind == SPOOL_APPEND_MESSAGE ||
           request->parcel.kind == SPOOL_APPEND_CHUNK ||
           request->parcel.kind == SPOOL_APPEND_COMMIT;
}
/* Answered when durable, not when copied. */
static inline bool batch_request_waits(const struct log_request *request)
{
    return batch_request_is_mail(request) ||
           (request->flags & (LOG_WANTS_SYNC | LOG_WANTS_DURABLE)) != 0;
}
