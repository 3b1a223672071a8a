/*
 * floor_int: the inside of the bare relay: the log (floor.c), who sends to us (floor_in.c), and
 * where it goes (floor_out.c).
 */
#pragma once

#include "bench/floor.h"
#include "bench/smtp.h"
#include "core/io/io.h"

#define FLOOR_CLASSES 16 /* of message memory: 4 KB, 8 KB, … */

/* Envelope lines with DATA, then the content as it came, stuffed and with its final dot. */
struct floor_message {
    struct list link;
    struct floor_in *from;
    uint32_t envelope_bytes;
    uint32_t rcpts;
    uint32_t used;
    uint32_t room;
    uint8_t memory_class;
    uint8_t bytes[];
};

struct floor {
    const struct floor_options *options;
    struct floor_shared *shared;
    struct io *io;
    struct io_actor actor;
    int error;

    struct list spare[FLOOR_CLASSES]; /* message memory to use again */

    /* The log. */
    int log_fd;
    uint8_t *batch;
    uint64_t log_offset;
    uint64_t undelivered_bytes;
    struct io_op write;
    struct list waiting;    /* complete, not yet written */
    struct list committing; /* in the write that is in flight */

    /* Inbound. */
    int listen_fd;
    struct io_accept accept;
    struct list talkative; /* struct floor_in with replies to send */

    /* Outbound. */
    struct list ready; /* committed messages */
    struct list idle;  /* struct floor_out without work */
    struct list eager; /* struct floor_out with a flight to send */
    struct floor_out *outs;
};

void floor_fail(struct floor *floor, const char *what, int code);

struct floor_message *floor_message_new(struct floor *floor);
/* Appends; the message may move. */
struct floor_message *floor_message_add(struct floor *floor, struct floor_message *message,
                                        const void *bytes, size_t len);
void floor_message_free(struct floor *floor, struct floor_message *message);

/* floor_in.c */
int floor_in_listen(struct floor *floor);
void floor_in_accepted(struct floor_in *in);
void floor_in_flush_all(struct floor *floor);

/* floor_out.c */
void floor_out_connect_all(struct floor *floor);
/* Hands ready messages to connections and sends what there is. */
void floor_out_flush_all(struct floor *floor);
