/*
 * report: what shards tell control, and the orders control gives them.
 *
 * A request is one parcel that control sends to each shard in turn; the shard carries it out within
 * its turn, appends rows or adds to the counters, and sends it back. Rows grow in blocks from the
 * heap: requests come from operators, not from the steady path. Names are copied, so nothing points
 * into a shard. Times: wall clock microseconds, 0 = none.
 */
#pragma once

#include "core/base/slice.h"
#include "core/io/io.h"
#include "core/io/mailbox.h"
#include "core/obs/ip_figures.h"
#include "queue/envelope.h"
#include "queue/spool.h"
#include "shard/events.h"

#define REPORT_NAME_MAX 320 /* domain/vmta with NUL */

enum report_kind {
    REPORT_STATUS = 0x300, /* adds to `status` */
    REPORT_QUEUES,         /* a queue_row per queue that matches */
    REPORT_EXPLAIN,        /* an explain_row per queue that matches */
    REPORT_LIST,           /* a rcpt_row per recipient that matches, up to row_count_max */
    REPORT_PAUSE,          /* orders on all queues that match; `affected` counts queues */
    REPORT_RESUME,
    REPORT_SCHEDULE,    /* what waits is due now; `affected` counts recipients */
    REPORT_DELETE,      /* final outcomes for what matches; `affected` counts recipients */
    REPORT_IPS,         /* a struct ip_figures per source address; none where BPF counts them */
    REPORT_MODE_NORMAL, /* orders like REPORT_PAUSE */
    REPORT_MODE_BACKOFF,
    REPORT_ORDERS,  /* an order_row per standing order */
    REPORT_WARMUP,  /* a warm_row per book of a warm-up */
    REPORT_TLS,     /* what was counted of TLS has been handed over (tls_report.h) */
    REPORT_DISABLE, /* of a source address for a queue */
    REPORT_ENABLE,
    /* A standing hold of refusals: key as vmta_pattern/domain_pattern; `affected` counts holds. */
    REPORT_BREAKER_RELEASE,
    REPORT_BREAKER_BOUNCE,
    REPORT_BREAKER_RECLASSIFY,
    REPORT_STOP, /* orderly end of the shard; answered when it has stopped */
};

/*
 * Counters since the start, summed over shards. One table: name of the field, its key in JSON.
 * delivered_messages, delivered_bytes: once per transaction, whatever its recipients; queued_bytes:
 * once per recipient, as the rows of queues have it. queues_moved, rcpts_moved: to another shard;
 * moves_refused: which had no room for the queue. rcpts_handed_on: to another queue, by the
 * configuration. allocations: made on the shards' threads since their first turn; stands still
 * while work is steady.
 */
#define STATUS_COUNTERS(X)                                                                         \
    X(accepted_messages)                                                                           \
    X(accepted_rcpts)                                                                              \
    X(accepted_bytes)                                                                              \
    X(refused_messages)                                                                            \
    X(duplicate_messages)                                                                          \
    X(dkim_signatures)                                                                             \
    X(dkim_signatures_helped)                                                                      \
    X(dkim_signatures_again)                                                                       \
    X(dkim_keys_missing)                                                                           \
    X(delivered)                                                                                   \
    X(bounced)                                                                                     \
    X(deferred)                                                                                    \
    X(in_doubt)                                                                                    \
    X(deleted)                                                                                     \
    X(queues_moved)                                                                                \
    X(rcpts_moved)                                                                                 \
    X(rcpts_handed_on)                                                                             \
    X(moves_refused)                                                                               \
    X(sent_ahead)                                                                                  \
    X(sent_chunked)                                                                                \
    X(returned)                                                                                    \
    X(delivered_messages)                                                                          \
    X(delivered_bytes)                                                                             \
    X(connects)                                                                                    \
    X(connect_failures)                                                                            \
    X(cold_reads)                                                                                  \
    X(sessions_moved)                                                                              \
    X(tls_handshakes)                                                                              \
    X(tls_resumed)                                                                                 \
    X(tls_failures)                                                                                \
    X(tls_steps_put_off)                                                                           \
    X(turns)                                                                                       \
    X(system_calls)                                                                                \
    X(completions)                                                                                 \
    X(sleeps)                                                                                      \
    X(allocations)

/*
 * Gauges, summed too. queued_rcpts: accepted and not final yet, counted at home, which never moves:
 * none is left out on its way to a queue or with a queue to another shard; it ends when its outcome
 * has come home. placed_rcpts: those in queues; what queued_rcpts has more of is on its way. Each
 * shard answers in a turn of its own, so who moves between the answers may be placed twice or
 * nowhere, and who ends between them be neither queued nor delivered. waiting_rcpts: those in
 * queues that wait for their next attempt.
 */
#define STATUS_GAUGES(X)                                                                           \
    X(queued_messages)                                                                             \
    X(queued_rcpts)                                                                                \
    X(placed_rcpts)                                                                                \
    X(waiting_rcpts)                                                                               \
    X(sessions_in)                                                                                 \
    X(connections_out)                                                                             \
    X(tls_connections)                                                                             \
    X(tls_sessions_kept)                                                                           \
    X(queues)                                                                                      \
    X(queued_bytes)                                                                                \
    X(hot_bytes)

struct report_status {
#define STATUS_FIELD(name) uint64_t name;
    STATUS_COUNTERS(STATUS_FIELD) STATUS_GAUGES(STATUS_FIELD)
#undef STATUS_FIELD
};

/* Why a queue does not send right now: exactly one at a time. name, text for people. */
#define WAIT_REASONS(X)                                                                            \
    X(WAIT_NOTHING, "nothing is waiting")                                                          \
    X(WAIT_CONNECTION, "all connections are busy")                                                 \
    X(WAIT_CONNECTING, "a connection is being opened")                                             \
    X(WAIT_OWN_LIMIT, "its limit of connections is reached")                                       \
    X(WAIT_LIMIT, "a limit of connections that it shares with others is reached")                  \
    X(WAIT_RATE, "its message rate is reached")                                                    \
    X(WAIT_VMTA_RATE, "the message rate of the virtual MTA is reached")                            \
    X(WAIT_CONNECT_RATE, "its rate of connections is reached")                                     \
    X(WAIT_VOLUME, "its rate of data volume is reached")                                           \
    X(WAIT_LIMIT_RATE, "the rate of a limit that it shares with others is reached")                \
    X(WAIT_VMTA_VOLUME, "the rate of data volume of the virtual MTA is reached")                   \
    X(WAIT_DNS, "the destination is being looked up")                                              \
    X(WAIT_MOVE, "on its way to the shard that serves the destination")                            \
    X(WAIT_HANDED_ON, "its mail goes to another queue")                                            \
    X(WAIT_RETRY, "recipients wait for their next attempt")                                        \
    X(WAIT_REST, "the destination could not be reached; resting")                                  \
    X(WAIT_RESOLVER, "the resolver fails for domains known to exist; its word is not taken")       \
    X(WAIT_PAUSED, "paused by an operator")                                                        \
    X(WAIT_SOURCE, "no source address can be used")                                                \
    X(WAIT_MEMORY, "no memory to load messages")                                                   \
    X(WAIT_DISK, "outcomes cannot be written to the log")                                          \
    X(WAIT_ORDER, "standing orders keep it from its source addresses")                             \
    X(WAIT_MAIL_ORDER, "standing orders hold the mail of a job or of a sender's domain")           \
    X(WAIT_WARMUP, "its warm-up lets no more out for now")                                         \
    X(WAIT_HELD, "refusals for good are held, there are too many to be true")                      \
    X(WAIT_VMTA, "the virtual MTA is not in the configuration any more")                           \
    X(WAIT_STOPPING, "the daemon is stopping")

enum wait_reason {
#define WAIT_ENUM(name, text) name,
    WAIT_REASONS(WAIT_ENUM)
#undef WAIT_ENUM
        WAIT_REASON_COUNT,
};

/* Of a queue, by itself or by a standing order. */
struct report_mode {
    bool is_backoff;
    uint64_t since_us;
    uint64_t until_us; /* 0 = it does not end by time */
    char reason[448];  /* the line and the reply, or who ordered it */
};

struct queue_row {
    char name[REPORT_NAME_MAX]; /* domain/vmta */
    uint64_t rcpts;
    uint64_t bytes;
    uint32_t connections;
    bool paused;
    uint8_t reason;    /* enum wait_reason */
    bool is_remainder; /* recipients that are about to follow the queue to another shard */
    uint16_t shard;
    uint64_t reason_since_us;
    uint64_t next_attempt_us;
    char last_error[256];
    uint64_t last_error_us;
    struct report_mode mode;
};

struct explain_event {
    uint64_t at_us;
    uint32_t times;
    uint8_t kind; /* enum event_kind */
    char text[EVENT_TEXT_MAX];
};

/* What holds a queue back now, and did within the last minutes. */
struct explain_row {
    char name[REPORT_NAME_MAX];
    uint64_t ready, waiting, sending; /* recipients: due, due later, in a transaction */
    uint32_t connections;
    uint64_t connections_max; /* of the queue; UINT64_MAX = no bound, also of the next two */
    uint64_t vmta_connections_max;
    uint64_t all_connections_max;
    uint32_t vmta_connections; /* of the shard that owns the queue */
    uint32_t all_connections;  /* likewise */
    struct explain_rate {
        uint64_t count; /* UINT64_MAX = no bound */
        uint64_t interval_ms;
    } msg_rate, connect_rate, vmta_rate, volume_rate, vmta_volume_rate;
    uint32_t lane_connections; /* from the source address that the queue stands in line for */
    uint32_t lane_connecting;
    uint32_t rcpt_ms; /* what a recipient takes there as a rule; 0 = not known */
    uint8_t reason;   /* enum wait_reason */
    bool is_remainder;
    uint64_t reason_since_us;
    uint64_t again_us; /* when it is looked at again; 0 = not by the clock */
    uint64_t now_us;
    float shares[WAIT_REASON_COUNT]; /* of the time in which something waited; sum 1 or 0 */
    /* The limit that the queue, or some of its mail, stands in line for, and what its shard has of
     * it. */
    char limit[400];
    uint64_t limit_max;
    uint32_t limit_used;
    uint32_t limit_rcpts; /* of those that are due, that wait for a limit by what their mail says */
    uint32_t limit_top_count;                  /* of those, of the queue that has most … */
    char limit_top[REPORT_NAME_MAX];           /* … and its name; "" = none */
    uint32_t event_counts[EVENT_SERIES_COUNT]; /* the oldest first */
    struct explain_event events[EVENT_SERIES_COUNT][EVENTS_SHOWN]; /* of the last ones */
    struct report_mode mode;
    char order[640]; /* WAIT_ORDER, WAIT_WARMUP: what holds it, and why */
    char last_error[256];
    uint64_t last_error_us;
};

/* A standing order. */
struct order_row {
    const char *kind; /* lives as long as the program */
    struct ipaddr source;
    bool is_probe; /* its time is over: so many connections are allowed, and lent */
    uint32_t allowed;
    uint32_t lent;
    uint64_t held; /* verdicts, of a hold */
    uint64_t since_us;
    uint64_t until_us; /* 0 = it does not end by time */
    char who[REPORT_NAME_MAX];
    char reason[256];
};

/* A provider and a source address that is being warmed up for it, today. */
struct warm_row {
    char name[REPORT_NAME_MAX]; /* section/provider/address */
    uint32_t step;              /* the first one is 1 */
    uint32_t step_count;
    uint64_t cap; /* recipients, like the others */
    uint64_t granted;
    uint64_t used;
    uint64_t deferred;
    uint64_t blocked;
    char outlook[128];
};

struct rcpt_row {
    uint64_t message_id; /* 0 from the owner of a recipient whose message is not in memory */
    char queue[REPORT_NAME_MAX];
    char rcpt[REPORT_NAME_MAX];   /* empty from the shard when the message is not in memory */
    char sender[REPORT_NAME_MAX]; /* likewise */
    struct log_place place;       /* of the message's record; bytes 0 = not known */
    uint32_t home_message;        /* at its home, which knows the place and the id */
    uint16_t home;
    uint8_t id_check; /* lowest octet of the id */
    uint32_t ordinal; /* in its envelope */
    uint16_t attempts;
    uint8_t priority; /* likewise as rcpt and sender */
    uint64_t accepted_us;
    uint64_t due_us;
};

struct report {
    struct parcel parcel; /* kind: enum report_kind */
    /* question */
    char domain_pattern[256]; /* "*", or a domain */
    char vmta_pattern[64];    /* "*", or a name */
    uint32_t row_count_max;   /* 0 = no bound */
    uint32_t grace_ms;        /* REPORT_STOP */
    uint64_t older_than_us;   /* REPORT_DELETE: accepted before this; 0 = any */
    uint64_t for_ms;          /* REPORT_DISABLE; CONF_UNLIMITED = without end */
    struct ipaddr source;     /* REPORT_DISABLE, REPORT_ENABLE */
    /* answer */
    int32_t result; /* 0, or the first failure */
    uint64_t affected;
    struct report_status status;
    void *rows; /* of queue_row, explain_row, rcpt_row or ip_figures; freed by control with mem_free
                 */
    uint32_t row_count;
    uint32_t row_capacity;
    /* shard's, while it works on it */
    uint32_t pending;
    uint16_t shards_passed; /* REPORT_LIST: on its way past the homes of its messages */
};

/* Room for one more row of row_bytes, zeroed; NULL when memory is short or the bound is reached. */
void *report_row_add(struct report *report, size_t row_bytes);
/*
 * Copies sender and recipients into rows of one message, in any order of ordinals; one walk over
 * the envelope. Leaves them as they are when memory is short.
 */
void rcpt_rows_fill(struct rcpt_row *rows, uint32_t count, const struct envelope *envelope);
const char *wait_reason_text(enum wait_reason reason);
