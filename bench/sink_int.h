/*
 * sink_int: the inside of the sink, shared by its worker (sink.c) and its sessions.
 */
#pragma once

#include "bench/message.h"
#include "bench/rules.h"
#include "bench/sink.h"
#include "core/base/slab.h"
#include "core/io/io.h"

#include <stdio.h>

/* Replies of one turn; a client that pipelines more than fits waits for the rest. */
#define SINK_OUT_BYTES 1536
/* Longest single reply: the longest rule's. */
#define SINK_REPLY_MAX (RULE_REPLY_MAX + 2)
/* Flights of one connection that wait for their lag; more than these go out with the last. */
#define SINK_LAGS_MAX  8

struct sink_door;

struct sink_worker {
    const struct sink_options *options;
    struct sink_shared *shared;
    struct ledger *ledger;
    struct rules *rules;
    uint64_t lag_ns; /* from a command to its reply, rules.h */
    uint32_t offers;
    struct io *io;
    struct sink_door *doors;
    struct slab sessions;
    struct list talkative; /* sessions with replies to send */
    struct io_actor actor;
    struct io_timer accept_timer;
    struct ledger_file file;
    FILE *times; /* NULL: nobody asked */
    uint64_t start_ns;
    uint64_t recorded; /* recipients, for the planted faults */
    int error;
    char greeting[300];
    char ehlo[600];
};

/*
 *   COMMANDS --DATA--> DATA --dot--> COMMANDS
 *   COMMANDS --BDAT--> CHUNK --all its octets--> COMMANDS
 *   any --hang--> DEAF (reads on, never answers)
 */
enum sink_state {
    SINK_COMMANDS,
    SINK_DATA,
    SINK_CHUNK,
    SINK_DEAF,
};

/* Replies up to `end` in the output leave at due_ns. */
struct sink_lag {
    uint64_t due_ns;
    uint32_t end;
};

struct sink_rcpt {
    uint64_t number;
    uint32_t k;
    bool is_ours;
};

struct sink_session {
    struct sink_worker *worker;
    struct sink_peer *peer;
    struct ipaddr client;
    struct ipaddr called;
    uint32_t index; /* in the slab */
    int fd;
    enum sink_state state;
    uint64_t messages;
    uint64_t commands;

    struct io_recv recv;
    struct io_op send;
    struct io_op close;
    struct io_timer timer;
    struct io_timer lag_timer;
    struct iovec iov;
    struct list talkative_link;
    bool sending;
    bool closing; /* closed as soon as the replies are out */
    bool closed;  /* io_close was called */
    bool delayed; /* a reply waits for the timer, and the client with it */
    bool crowded; /* input waits for room in `out` */
    bool has_mail;
    bool in_chunks; /* a message comes by BDAT */
    bool chunk_last;
    bool content_due;  /* no octet of the content was looked at yet */
    bool ends_message; /* the reply that comes next decides about the message */
    uint64_t chunk_left;
    uint64_t flood_left; /* octets of an endless reply still to come */

    struct rule_verdict delayed_verdict;
    const char *delayed_reply; /* the usual one */
    char *sender;              /* kept when rules may ask for it, else NULL */
    size_t sender_len;

    struct sink_rcpt *rcpts;
    uint32_t rcpt_count;
    uint32_t rcpt_room;

    uint16_t out_used;
    uint8_t out_which;
    uint8_t lag_count;
    struct sink_lag lags[SINK_LAGS_MAX];
    char out[2][SINK_OUT_BYTES];

    struct smtp_data data;
    struct smtp_lines lines;
    struct message_reader reader;
};

/* Any worker's process adds to shared figures. */
static inline void sink_count(uint64_t *counter, uint64_t add)
{
    __atomic_fetch_add(counter, add, __ATOMIC_RELAXED);
}

/* fd, worker and addresses are set, the rest is zero: greets and reads. */
void sink_session_start(struct sink_session *session);
/* Sends what replies there are and whose time has come. */
void sink_session_flush(struct sink_session *session);
/* Its connection is about to be closed: not among the open ones any more. */
void sink_session_over(struct sink_session *session);
/* The session's connection is closed and nothing of it is in flight: sink.c frees it. */
void sink_session_end(struct sink_session *session);
