/*
 * sink: an SMTP receiver that takes everything fast, counts it exactly, and misbehaves on request.
 *
 * A worker is one process with one loop; several workers share their addresses by SO_REUSEPORT.
 * All figures and the ledger live in shared memory, so that the parent of the workers reads them
 * while they run. Behaviour other than acceptance comes from rules and models (rules.h, models.h);
 * what rules count and remember, each worker counts for itself.
 */
#pragma once

#include "bench/ledger.h"
#include "core/base/ipaddr.h"

#define SINK_ADDRESSES_MAX 256
#define SINK_PEERS_MAX     512

struct sink_options {
    struct ipaddr_port addresses[SINK_ADDRESSES_MAX];
    uint32_t address_count;
    const char *host_name;
    const char *model;      /* models.h; asked before the rules; NULL = none */
    double pace;            /* of the seconds in model and rules; 0 = 1 */
    const char *rules_file; /* NULL = none */
    const char *const *rules;
    uint32_t rule_count;
    const char *ledger_path; /* NULL = in memory only */
    bool ledger_sync;        /* durable before the reply leaves */
    const char *times_path; /* when and where each recipient was asked for; one worker; NULL = no */
    bool check_body;        /* sum the bodies and compare */
    bool chunking;
    uint64_t size_max;
    uint64_t sessions_max;
    /* Faults planted to prove that the ledger catches them; 0 = none. Each N-th recipient is
     * answered with 250 but not entered, or entered twice. */
    uint64_t lose_every;
    uint64_t double_every;
};

#define SINK_COUNTERS(X)                                                                           \
    X(connections)                                                                                 \
    X(open)                                                                                        \
    X(open_max)                                                                                    \
    X(messages)    /* answered with 250 */                                                         \
    X(recipients)  /* of them */                                                                   \
    X(bytes)       /* of them, unstuffed */                                                        \
    X(refused_4xx) /* replies */                                                                   \
    X(refused_5xx)                                                                                 \
    X(dropped)        /* connections ended by a rule */                                            \
    X(foreign)        /* messages or recipients without an id of ours */                           \
    X(other_run)      /* messages of a run that the ledger is not for */                           \
    X(mixed_up)       /* recipients that belong to another message */                              \
    X(damaged)        /* bodies that differ from what was sent */                                  \
    X(longest_gap_us) /* between two messages, over all workers */                                 \
    X(system_calls)

struct sink_counters {
#define SINK_FIELD(name) uint64_t name;
    SINK_COUNTERS(SINK_FIELD)
#undef SINK_FIELD
};

struct sink_peer {
    struct ipaddr ip;
    bool in_use;
    uint64_t connections;
    uint64_t open;
    uint64_t open_max;
    uint64_t messages;
    uint64_t recipients;
};

struct sink_shared {
    uint32_t stop;  /* set by the parent: the workers end */
    uint32_t ready; /* workers that listen */
    int32_t error;  /* why a worker could not start */
    uint32_t peer_lock;
    uint64_t last_arrival_ns; /* monotonic clock */
    uint64_t age_from_ns;     /* the rules' seconds count from here; 0 = from a worker's start */
    struct sink_counters counters;
    struct sink_peer peers[SINK_PEERS_MAX];
};

/* In shared memory; NULL when memory is short. */
struct sink_shared *sink_shared_create(void);
void sink_shared_destroy(struct sink_shared *shared);

/* Checks rules without running: 0, or negative after the reason was printed. */
int sink_check(const struct sink_options *options);
/* One worker, until shared->stop is set or a signal asks for the end. 0 or negative. */
int sink_work(const struct sink_options *options, struct sink_shared *shared,
              struct ledger *ledger);
