/*
 * remote: the world around the product: injectors that send mail, receivers that take or refuse it.
 *
 * Both are programs of their own (sim_peer) and write the ledger. Their behaviour is drawn from the
 * world's test generator at each step: at rates that the test may change while it runs, and by the
 * model (bench/models.h) that was drawn for each receiver.
 */
#pragma once

#include "bench/models.h"
#include "core/base/list.h"
#include "core/io/io.h"
#include "tests/sim/product/ledger.h"
#include "tests/sim/sim_peer.h"

#define REMOTE_RECEIVERS_MAX 8

struct watch;

/* How injectors' messages end. Name, what it is. */
#define REMOTE_ANSWERS(X)                                                                          \
    X(answered_250, "taken")                                                                       \
    X(turned_away, "no session: there are as many as may be")                                      \
    X(put_off, "refused for the time being before it was sent; sent again later")                  \
    X(cut_short, "the client went away in the middle of it: nobody may ever see it")               \
    X(refused_after_dot, "sent and not taken: nobody may ever see it")                             \
    X(unanswered, "the connection broke: it may have been taken or not")                           \
    X(told_memory, "replies that say that memory is short")                                        \
    X(told_full, "... that the queue, or the number of messages, has no room for more")            \
    X(told_space, "... that the disk is full")

struct remote_answers {
#define REMOTE_ANSWER_FIELD(name, text) uint64_t name;
    REMOTE_ANSWERS(REMOTE_ANSWER_FIELD)
#undef REMOTE_ANSWER_FIELD
};

/* "About once in so many chances", 0 = never. Name, what it is. */
#define REMOTE_FAULTS(X)                                                                           \
    X(rcpt_4xx, "a recipient is deferred")                                                         \
    X(rcpt_5xx, "a recipient is refused")                                                          \
    X(rcpt_too_many, "452 4.5.3 from the second recipient on")                                     \
    X(mail_421, "421 instead of a reply to MAIL, then the end")                                    \
    X(bdat_unknown, "500 to BDAT, which was offered")                                              \
    X(data_4xx, "DATA is deferred")                                                                \
    X(dot_4xx, "the message is deferred")                                                          \
    X(dot_5xx, "the message is refused")                                                           \
    X(dot_drop_taken, "taken, but the connection breaks before the reply")                         \
    X(dot_drop_lost, "not taken, and the connection breaks before the reply")                      \
    X(command_drop, "the connection breaks at a command")                                          \
    X(greeting_drop, "the connection breaks before the greeting")                                  \
    X(greeting_5xx, "554 instead of a greeting")                                                   \
    X(garbage, "a line that is no reply")                                                          \
    X(slow_reader, "the message is not read for a while")                                          \
    X(slow_drop, "... and then the connection breaks")

struct remote_faults {
#define REMOTE_FIELD(name, text) uint32_t name;
    REMOTE_FAULTS(REMOTE_FIELD)
#undef REMOTE_FIELD
};

#define REMOTE_MODELS_MAX 16

/* How many receivers played each model of bench/models.h, and how often its rules had a word. */
struct remote_models {
    uint64_t drawn[REMOTE_MODELS_MAX];
    uint64_t played[REMOTE_MODELS_MAX];
};

struct remote {
    struct sim_world *world;
    struct ledger *ledger;
    struct remote_faults rates;
    struct remote_faults hits; /* how often each was played */
    struct remote_answers answers;
    uint64_t rest_until_ns; /* an injector was put off: no new connections before */
    struct io_timer rest;   /* lets the world go on until then */
    uint64_t transactions;
    uint64_t rcpts_seen; /* by receivers, whatever they answered, on connections opened since: */
    uint64_t rcpts_since_ns;
    struct sim_peer *receivers[REMOTE_RECEIVERS_MAX];
    uint32_t receiver_count;
    const struct model *models[REMOTE_RECEIVERS_MAX];
    struct rules *rules[REMOTE_RECEIVERS_MAX];
    /* Connections that each has open now, by the last octet of the client's address. */
    uint32_t open_counts[REMOTE_RECEIVERS_MAX][256];
    uint64_t start_ns;
    uint64_t pace_ms;    /* every receiver takes so long for a message, at least */
    struct watch *watch; /* told of each connection; NULL = nobody */
    struct list owing;   /* receivers' connections that make their clients wait */
    uint64_t owed_max_ns;
    struct sim_peer *postbox; /* of the senders, see postbox.c */
    struct sim_peer *injector;
    struct ipaddr_port product; /* where injectors connect */
    uint32_t session_count;     /* injectors' connections wanted */
    bool inject;                /* open sessions and send */
    bool has_jobs;              /* messages have an X-Job field, which must not arrive */
    bool is_signed;             /* every message must have a signature, and it is verified */
    bool clients_leave;         /* some go away in the middle of a long message */
};

/* Receivers at 10.0.<n>.1 port 25; every other one, about, has a model. */
void remote_start(struct remote *remote, struct sim_world *world, struct ledger *ledger,
                  uint32_t receiver_count);
/* Before the world is destroyed; what models did is added to *models. */
void remote_end(struct remote *remote, struct remote_models *models);
/* Brings the number of injecting sessions up to what is wanted; call between steps. */
void remote_tend(struct remote *remote);
/* The longest that receivers made a client wait, summed over its connecting or over one message;
 * owed_max_ns may be set back. */
uint64_t remote_owed_ns(const struct remote *remote);
struct remote_faults remote_faults_some(struct rng *rng);
