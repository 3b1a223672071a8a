/*
 * stage: the whole product in the simulated world with one virtual MTA, two injecting connections
 * and plain receivers, each of a domain of its own, for scenes that are decided by counts.
 *
 * Owner: the scene. A stage lives from stage_raise() to stage_strike(); what does not hold is told
 * to stage_check(), which counts it.
 */
#pragma once

#include "tests/sim/product/product.h"

#define MS_NS               1000000ull
#define SECOND_NS           1000000000ull
#define STAGE_RECEIVERS_MAX 100
#define STAGE_SOURCES_MAX   8

struct message;

enum receiver_kind {
    KIND_SERVES,
    KIND_SILENT, /* takes the connection and never says a word */
    KIND_DEAD,   /* nobody listens */
    KIND_GONE,   /* packets are lost */
};

/* A receiver of its own domain d<number>.test. */
struct receiver {
    struct stage *stage;
    struct sim_peer *peer; /* NULL = nobody listens */
    enum receiver_kind kind;
    uint32_t reply_ms; /* each reply's own */
    uint32_t hanging;  /* so many connections, the first ones, say nothing after two messages */
    uint32_t greeted;  /* so many connections, the first ones, get a greeting; 0 = all */
    uint32_t opened;   /* connections so far */
    uint32_t ready;    /* of which EHLO was answered */
    uint32_t open;
    uint32_t open_max;
    uint32_t excess;        /* connections beyond what a doubling allows */
    uint64_t taken;         /* messages */
    const char *marked;     /* a line of messages that are counted apart, NULL = none are … */
    const char *refusal;    /* … and answered so; NULL = they are taken */
    uint8_t refused_source; /* only from there: the last octet of its address; 0 = from anywhere */
    uint32_t opened_by[STAGE_SOURCES_MAX]; /* connections, by the same */
    uint64_t marked_taken;
    uint64_t marked_refused;
};

/* One injecting connection; sends what is wanted to domains [first, first + count) in turn. */
struct injecting {
    struct stage *stage;
    uint32_t first, count;
    uint32_t wanted;
    uint32_t sent;
    uint32_t greetings; /* 220, and the reply to EHLO */
    uint32_t replies_left;
    bool is_greeted;
    bool is_busy;
    bool is_put_off;    /* by a 4xx: it sends no more */
    const char *sender; /* the domain that it sends from, after stage_inject; NULL = sender.test */
    const char *fields; /* of each message's header, after stage_inject; NULL = none */
    struct sim_peer_conn *conn;
};

struct stage_options {
    uint16_t shard_count;
    uint64_t latency_ns;      /* of each way; 0 = 5 ms */
    uint64_t disk_ns;         /* of each step of the disk's; 0 = drawn, less than a millisecond */
    uint32_t turn_ns;         /* of each turn of a shard; 0 = drawn, a few microseconds */
    const char *global;       /* lines of the configuration; NULL = none */
    const char *source;       /* of the source that injectors are */
    const char *vmta;         /* of the virtual MTA */
    const char *domain;       /* of <domain *> */
    bool tells_senders;       /* of failures */
    uint32_t queue_count_max; /* of a shard; 0 = more than enough */
};

struct stage {
    const char *name;
    struct sim_world *world;
    struct product product;
    struct conf *conf;
    struct receiver receivers[STAGE_RECEIVERS_MAX];
    struct sim_peer *injector;
    struct injecting injecting[2];
    unsigned failures;
};

void stage_check(struct stage *stage, bool holds, const char *what);
void stage_raise(struct stage *stage, const char *name, const struct stage_options *options);
/* Another configuration takes the place of the first, shortly; the number of shards stays. */
void stage_reload(struct stage *stage, const struct stage_options *options);
void stage_add_receiver(struct stage *stage, unsigned number, enum receiver_kind kind,
                        uint32_t reply_ms);
/* Opens injecting connection `which`, for the domains [first, first + count). */
void stage_inject(struct stage *stage, unsigned which, uint32_t first, uint32_t count);
/* For so many tenths of a second, with so many messages more in each on either connection. */
void stage_run(struct stage *stage, unsigned tenths, uint32_t first_more, uint32_t second_more);
/* Messages that receivers [first, first + count) have. */
uint64_t stage_taken(const struct stage *stage, unsigned first, unsigned count);
/* Recipients of a receiver's domain that were tried, over all its queues. */
uint64_t stage_tried(const struct stage *stage, unsigned number);
/* Messages that shards read back from the log, since they last came up. */
uint64_t stage_cold_reads(const struct stage *stage);
/* The daemon crashes and comes up again; what injects must be opened anew. */
void stage_restart(struct stage *stage);
/* Ends it and prints its name and the verdict: true = everything held. */
bool stage_strike(struct stage *stage);
/* Whether the message is of that job. */
bool stage_is_of_job(const struct message *message, const char *job);
/* Connections that are at such a message, as its envelope says. */
uint32_t stage_at_mail(const struct stage *stage,
                       bool (*is_such)(const struct message *message, const char *name),
                       const char *name);
