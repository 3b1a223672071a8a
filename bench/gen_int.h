/*
 * gen_int: the inside of the generator, shared by its schedule (gen.c) and its sessions.
 */
#pragma once

#include "bench/gen.h"
#include "bench/message.h"
#include "core/io/io.h"

#define GEN_VARIANTS 8 /* bodies of each size */

/* A message in work. Every session has two: one whose answer is awaited, one being opened. */
struct gen_message {
    uint64_t number;
    uint64_t from_ns; /* its latency counts from here */
    bool in_use;
    bool refused;  /* MAIL, a RCPT or DATA met a 5xx */
    bool deferred; /* the same with a 4xx */
    bool mail_failed;
    uint32_t rcpts_ok;
    uint8_t *rcpt_states; /* [rcpts] enum ledger_given, as far as known */
    char *head;           /* [MESSAGE_HEAD_MAX] */
};

/* Waits for its turn again. */
struct gen_retry {
    uint64_t number;
    uint64_t due_ns;
    uint64_t from_ns;
};

struct gen {
    const struct gen_options *options;
    struct gen_shared *shared;
    struct ledger *ledger;
    struct io *io;
    struct message_options message;
    struct message_body bodies[GEN_SIZES_MAX][GEN_VARIANTS];
    uint32_t weight_sum;
    struct gen_session *sessions;
    struct list idle;      /* sessions that could take a message */
    struct list unflushed; /* sessions with a flight to send this turn */
    struct gen_retry *retries;
    uint32_t retry_count;
    uint64_t next_number; /* from first_number on */
    uint64_t start_ns;
    uint64_t interval_ps; /* open loop: between two messages, picoseconds */
    uint64_t last_progress_ns;
    uint32_t open_sessions;
    uint32_t busy_sessions;
    bool started;
    bool draining; /* no new messages */
    bool quitting;
    int error;
    struct io_actor actor;
    struct ledger_file file;
};

/*
 *   CONNECTING --> GREETING --> EHLO --> READY <--> (messages in work) --> QUITTING
 *   any --lost--> WAITING --> CONNECTING, when the run survives that
 */
enum gen_state {
    GEN_CLOSED,
    GEN_CONNECTING,
    GEN_GREETING,
    GEN_EHLO,
    GEN_READY,
    GEN_QUITTING,
    GEN_WAITING,
};

/* The replies of one connection come in the order of these fields. */
struct gen_awaited {
    bool dot;
    bool rset;
    bool mail;
    uint32_t rcpt_next;
    uint32_t rcpt_end; /* recipients sent */
    bool data;
};

struct gen_session {
    struct gen *gen;
    uint32_t index;
    int fd;
    enum gen_state state;
    bool pipelining; /* offered by the server and wanted by us */
    bool size_offered;
    bool sending;
    bool closing;
    bool greeted;    /* EHLO was sent */
    bool told_to_go; /* 421 */
    bool needs_rset;
    bool is_busy; /* counted in gen->busy_sessions */
    uint32_t on_connection;

    struct gen_message messages[2];
    struct gen_message *ending;  /* dot sent, answer awaited */
    struct gen_message *opening; /* envelope sent or about to be */
    struct gen_awaited awaited;
    uint32_t lockstep_next; /* which command of the envelope comes next */
    bool body_wanted;       /* 354 came: the body goes with the next flight */

    struct io_recv recv;
    struct io_op send;
    struct io_op connect;
    struct io_op close;
    struct io_timer timer;
    struct list link; /* in gen->idle or gen->unflushed */
    struct iovec iov[4];
    char *commands;
    uint32_t commands_room;
    struct smtp_lines lines;
};

/* gen.c: the schedule. */

/* The next message to send now; false when none is due. */
bool gen_take_number(struct gen *gen, uint64_t *ret_number, uint64_t *ret_from_ns);
/* To be sent again from due_ns on; its latency still counts from from_ns (0 = from the dot). */
void gen_put_back(struct gen *gen, uint64_t number, uint64_t due_ns, uint64_t from_ns);
const struct message_body *gen_body_of(const struct gen *gen, uint64_t number);
void gen_fail(struct gen *gen, const char *what, int code);

/* gen_session.c */

void gen_session_init(struct gen *gen, struct gen_session *session, uint32_t index);
void gen_session_connect(struct gen_session *session);
/* Sends the next flight, if there is one; a session with nothing to do goes to gen->idle. */
void gen_session_flush(struct gen_session *session);
void gen_session_quit(struct gen_session *session);
