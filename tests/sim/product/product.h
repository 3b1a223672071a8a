/*
 * product: one life of the whole product in the simulated world, wired as the daemon wires it.
 *
 * Shards, spool and names on loops of one process; everything a life owns goes with it at a crash.
 */
#pragma once

#include "shard/assembly.h"
#include "shard/report.h"
#include "shard/shard.h"
#include "tests/sim/product/limits_audit.h"
#include "tests/sim/product/names.h"
#include "tests/sim/product/pace.h"

#define PRODUCT_SHARDS_MAX 16

/* What lives meet besides the branches of the spool's recovery. Name, what it is. */
#define PRODUCT_EVENTS(X)                                                                          \
    X(starts_refused, "the spool does not open: a start is tried again")                           \
    X(starts_cut_short, "a crash in the middle of the start")                                      \
    X(shards_1, "lives that came up with so many shards")                                          \
    X(shards_2_to_4, "")                                                                           \
    X(shards_5_to_15, "")                                                                          \
    X(shards_16, "")                                                                               \
    X(shards_changed, "another number of shards than in the life before")                          \
    X(messages_recovered, "")                                                                      \
    X(retries_recovered, "recipients that keep their time of the next attempt")                    \
    X(rests_recovered, "queues that go on resting after a restart")                                \
    X(modes_entered, "queues that went into backoff mode")                                         \
    X(modes_left, "and out of it")                                                                 \
    X(modes_recovered, "queues that are still in backoff mode after a restart")                    \
    X(modes_moved, "to another shard in backoff mode")                                             \
    X(orders_begun, "standing orders, and tighter ones")                                           \
    X(orders_ended, "")                                                                            \
    X(orders_recovered, "that a restart brought back")                                             \
    X(queues_held_back, "that went into backoff mode by an order")                                 \
    X(queues_moved, "to another shard")                                                            \
    X(rcpts_moved, "with them")                                                                    \
    X(rcpts_handed_on, "to another queue, where they waited in one that hands its mail on")        \
    X(limits_reached, "looks at which a limit that composes was reached")                          \
    X(mail_limits_reached, "the same of one that counts by mail")                                  \
    X(mail_waits, "flows of queues that stood in line for a limit of their mail")                  \
    X(token_waits, "messages read back that waited for a token with their connection")             \
    X(cold_reads, "messages read back from the log")                                               \
    X(signed_again, "signatures made when mail left")                                              \
    X(sessions_moved, "injectors' connections, to a shard with fewer")                             \
    X(notices_given_up, "for want of space")                                                       \
    X(chunks_written, "of messages larger than one")                                               \
    X(chunks_dropped, "messages given up after some of their chunks were durable")                 \
    X(chunks_fed, "read while their message was sent")                                             \
    X(chunks_moved, "out of a segment that was evacuated")                                         \
    X(checkpoints, "completed")                                                                    \
    X(segments_evacuated, "their stragglers were asked to move")                                   \
    X(segments_recycled, "")                                                                       \
    X(commits_failed, "")                                                                          \
    X(voids_written, "")                                                                           \
    X(devices_2, "lives that came up with so many directories of the spool")                       \
    X(devices_3, "")                                                                               \
    X(devices_failed_alone, "lives that took mail while one directory could not")                  \
    X(space_low, "lives that refused mail for want of space")                                      \
    X(logs_stalled, "the log found no space for outcomes, or the disk refused them")               \
    X(reloads, "every shard has taken a new configuration, and the old one is freed")              \
    X(reloads_cut_short, "a crash in the middle of a reload")

struct product_events {
#define PRODUCT_EVENT_FIELD(name, text) uint64_t name;
    PRODUCT_EVENTS(PRODUCT_EVENT_FIELD)
#undef PRODUCT_EVENT_FIELD
};

/* What differs from life to life; drawn by the test. Counts and limits of 0 mean ample ones. */
struct product_setup {
    uint16_t shard_count;
    uint16_t backlog;           /* of each listening socket */
    struct shard_limits limits; /* of each shard */
    bool committer_alone;
    struct conf *conf; /* loaded outside of any life: its names outlive them; or NULL: */
    /* Each life loads it for itself. It has been loaded outside before, for the names' sake. */
    const char *config;
    uint64_t segment_bytes;
    uint32_t checkpoint_bytes;
    uint32_t segment_count_max;
    uint32_t device_count; /* directories of the spool: product_directory of 0 and so on; 0 = one */
    uint64_t crash_after;  /* ends before this disk call of the life; 0 = not */
    bool crash_is_power_cut;
    void (*on_crash)(void *context); /* such an end has come; not from product_crash */
    void *crash_context;
};

struct product {
    struct sim_world *world;
    struct sim_process *process; /* NULL = no life */
    struct shard *shards[PRODUCT_SHARDS_MAX];
    struct io *loops[PRODUCT_SHARDS_MAX];
    struct io *committer_loop;
    struct io *names_loop;
    struct assembly *assembly;
    struct conf *conf; /* while the life comes up */
    /* Stands in for control. */
    struct io *control_loop;
    struct reload reload;
    struct io_timer reload_timer;
    struct conf *reload_next;
    uint16_t reload_told; /* shards that have been */
    uint32_t snapshots;   /* that this life may leave over from others, and its own */
    const char *reload_fault;
    struct report questions[PRODUCT_SHARDS_MAX]; /* for their status */
    uint16_t asked_count;                        /* 0 = no question is out */
    uint16_t answered_count;
    struct names_zone zone;
    struct spool_report report;
    struct product_setup setup;
    uint32_t stopped_count;
    uint32_t audit_count;
    struct pace pace;
    struct limits_audit limits;
    bool spool_closed;
    uint64_t given_up; /* notices of the life given_up_life */
    uint64_t given_up_life;
    uint16_t shards_before; /* of the last life that came up; 0 = none yet */
    /* Summed over lives. */
    uint64_t lives;
    struct product_events events;
    struct spool_report branches; /* the counters of SPOOL_RECOVERY_BRANCHES */
};

#define PRODUCT_DEVICES_MAX 3u
/* A literal. */
const char *product_directory(uint32_t index);
/* Starts a life: 0, or the spool's refusal (the life is over then). */
int product_start(struct product *product, const struct product_setup *setup);
/* The life ends now; what its spool and shards counted is added up first. */
void product_crash(struct product *product, bool power_cut);
/* The life takes another configuration, in a moment. False when it is not up, or at it already. */
bool product_reload(struct product *product, const char *config);
/* Orders the shards to stop; product_is_stopped says when the spool is closed too. */
void product_stop(struct product *product);
bool product_is_stopped(const struct product *product);
/* Ends a stopped life in order: every structure is taken apart. */
void product_end(struct product *product);
/* True when nothing is queued or under way in any shard: every pool is back at zero. */
bool product_is_empty(const struct product *product);
uint64_t product_queued(const struct product *product);
/* Asks the shards for their status as control does, all at once. True when each has answered in a
 * turn of its own; the next call asks anew. */
bool product_status(struct product *product, struct report_status *ret_status);
/* Recipients that rates have let through in this life. */
uint64_t product_rcpts_let_through(const struct product *product);
/* Sums the limits that shards share (shard/lease.h): NULL, or what is wrong. */
const char *product_audit(struct product *product);
/* What every shard and queue is doing, to standard error. */
void product_print(const struct product *product);
