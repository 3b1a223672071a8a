/*
 * control_fixture: control on its own loop in the simulator, with shards and a spool that are the
 * test's, and operators that connect to its socket.
 *
 * The daemon is one process: control's loop, one loop per shard, the spool's loop. Shards answer
 * from what the test has put into them; the spool's log is an array of outcomes.
 */
#pragma once

#include "shard/control.h"
#include "shard/report.h"
#include "shard/tls_report.h"
#include "tests/sim/sim.h"
#include "tests/unit/core_base/unit.h"
#include "tests/unit/net/fake_dns.h"

#define FAKE_SHARDS     3
#define FAKE_QUEUES_MAX 4000
#define FAKE_RCPTS_MAX  100
#define KEPT_MAX        64
#define SOCKET_PATH     "/run/control.sock"
#define LOG_PATH        "/spool/log" /* what the spool's reader reads */
#define OPERATOR_UID    1000u
#define ANSWER_MAX      (4u << 20)

struct fixture;

struct fake_shard {
    struct fixture *fixture;
    uint16_t number;
    struct io *io;
    struct mailbox *from_control;
    struct mailbox *to_control;
    bool is_silent; /* keeps what it is asked */
    struct report *kept[KEPT_MAX];
    uint32_t kept_count;
    int32_t result;
    uint64_t affected;
    struct report_status status;
    struct queue_row *queues;
    uint32_t queue_count;
    struct rcpt_row rcpts[FAKE_RCPTS_MAX];
    uint32_t rcpt_count;
    struct ip_figures ips[4];
    uint32_t ip_count;
    uint32_t reload_stamp;         /* of the last order to take a new snapshot */
    struct parcel *reload_order;   /* kept by a silent shard */
    struct report last;            /* the last question but REPORT_STATUS */
    uint32_t asked;                /* questions but REPORT_STATUS */
    uint32_t samples;              /* REPORT_STATUS */
    struct tls_report_batch batch; /* what the test has it hand over */
    uint32_t batches_home;
    uint8_t fate;           /* of orders to send a report about TLS */
    const char *uris[4];    /* that such an order comes home with, up to NULL */
    uint32_t mailed_before; /* orders that were for https alone */
    bool is_hosted_apart;   /* instead, with an address of the domain's own */
    bool keeps_orders;      /* until answer_kept */
    struct tls_report_order *kept_orders[KEPT_MAX];
    uint32_t kept_order_count;
    uint32_t orders;
    char ordered[256]; /* the domain of the last one */
    size_t ordered_bytes;
};

/* The spool's double. */
struct spool {
    struct io *io;
    struct mailbox *requests;
    struct mailbox *answers;
    enum spool_health health;
    struct spool_trouble trouble; /* but for its health */
    struct spool_stats stats;
    struct spool_device_stats devices[2];
    uint32_t device_count;
    uint32_t outcome_count;
    uint32_t notices;
    struct log_place told;
};

struct fixture {
    struct sim_world *world;
    struct sim_process *daemon;
    struct sim_process *operators;
    struct io *control_io;
    struct io *operator_io;
    struct conf *conf;
    struct published published;
    struct control *control;
    struct spool spool;
    struct fake_shard shards[FAKE_SHARDS];
    struct mailbox *to_shards[FAKE_SHARDS];
    struct mailbox *from_shards[FAKE_SHARDS];
    uint32_t stopped;
    struct fake_dns dns; /* of fixture_records */
};

/* One connection of an operator. */
struct operator_conn {
    struct fixture *fixture;
    struct io_recv recv;
    struct io_op send;
    struct io_op close;
    struct iovec iov;
    int fd;
    bool is_closed;
    bool ended;
    int32_t reason;
    size_t len;
    char *answer; /* NUL-terminated */
    char *sending;
};

/* Given to control by the next fixture_open; NULL = none. */
extern const struct ip_source *fixture_ip_source;
/* Likewise: what a reload reads. */
extern const char *fixture_config_path;
/* Likewise: what the resolver knows. */
extern const struct fake_record *fixture_records;

/* seed also chooses the order of everything; with_accounting: one file, /acct/acct.csv. */
void fixture_open(struct fixture *f, uint64_t seed, bool with_accounting);
void fixture_close(struct fixture *f);
/* What a test with a configuration of its own begins with: it is in the file at path, which the
 * fixture reloads; what it names has been named outside of any life, so it outlives them all. */
void fixture_open_with_file(struct fixture *f, const char *path, const char *text);
/* The file holds this now. */
void fixture_write_file(const char *text, const char *more);
/* Control keeps configurations, the first of them this text. */
void fixture_keep_history(struct fixture *f, const char *text);
/* For main: runs the tests with an empty file at path, a template as mkstemp wants it, which they
 * fill. What main returns. */
int fixture_run_with_file(const struct CMUnitTest *tests, size_t count, char *path);
/* A moment later the fixture is closed, and no snapshot is left. */
void fixture_close_clean(struct fixture *f);
/* NULL is in no text. */
void assert_in(const char *text, const char *part);
/* An operator's connection, or NULL when it is refused at once. */
struct operator_conn *operator_open(struct fixture *f, uint32_t uid);
void operator_send(struct operator_conn *conn, const void *bytes, size_t len);
void operator_drop(struct operator_conn *conn);
/* Until the other side has closed; false when that takes longer than the time. */
bool operator_wait(struct operator_conn *conn, uint64_t seconds);
void operator_free(struct operator_conn *conn);
/* A whole conversation; the answer is valid until the next one. */
const char *ask(struct fixture *f, const char *line);
struct queue_row *add_queue(struct fake_shard *shard, const char *name, uint64_t rcpts,
                            uint32_t connections);
/*
 * A record in the log at place->offset, of place->bytes, all of it serial, envelope (rcpt_count
 * recipients r0@ID.example …, from s@ID.example) and zeros.
 */
void add_record(struct fixture *f, const struct log_place *place, uint64_t message_id,
                uint32_t rcpt_count);
/* Lets a shard answer everything it kept. */
void answer_kept(struct fake_shard *shard);
