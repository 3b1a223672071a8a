/*
 * control_int: the inside of control, shared by control*.c and by nobody else.
 *
 *   control.c           creation, wiring, the socket and its connections, the end
 *   control_gather.c    one question to all shards, their answers in one
 *   control_lookup.c    addresses that are only in the log
 *   control_verbs.c     what each verb asks and answers
 *   control_rows.c      the trees of queues, domains, VMTAs and recipients
 *   control_status.c    the tree of show status
 *   control_render.c    the tree as JSON, as dom lines, as text
 *   control_samples.c   traffic per minute and hour
 *   control_ips.c       figures per source address
 *   control_sts.c       policies of MTA-STS
 *   control_accounts.c  the accounting files
 *   control_reload.c    the configuration read anew, or one of before
 *   control_history.c   which configurations there were, and what changed
 *   control_keys.c      DKIM keys and their records in the DNS
 *   control_domain.c    what receivers see of mail from a domain
 *   control_settings.c  what holds for a queue, and by which line
 *   control_tls_report.c  reports about TLS
 *   verbs.c             command lines
 */
#pragma once

#include "core/base/hash.h"
#include "core/base/list.h"
#include "shard/account.h"
#include "shard/carrier.h"
#include "shard/control.h"
#include "shard/history.h"
#include "shard/overrides.h"
#include "shard/reload.h"
#include "shard/report.h"
#include "shard/sts_ask.h"
#include "shard/sts_book.h"
#include "shard/sts_fetch.h"
#include "shard/tls_books.h"
#include "shard/tls_post.h"
#include "shard/tls_report.h"
#include "shard/tls_report_mail.h"
#include "shard/verbs.h"

#include <jansson.h>

#define CONTROL_CLIENTS_MAX 16
#define CONTROL_SHOWN_MAX   1000u /* rows of an answer to one who did not say --maxitems */
#define CONTROL_PATH_MAX    4352  /* a folder of the configuration and a name in it */

/* ---- Text that grows ------------------------------------------------------------------------ */

struct text_buffer {
    char *data;
    size_t used;
    size_t capacity;
    bool failed; /* memory was short; what is there is not complete */
};

void text_add(struct text_buffer *buffer, const char *data, size_t len);
__attribute__((format(printf, 2, 3))) void text_format(struct text_buffer *buffer,
                                                       const char *format, ...);
void text_free(struct text_buffer *buffer);

/* ---- Samples -------------------------------------------------------------------------------- */

struct traffic {
    uint64_t out_rcp;
    uint64_t out_msg;
    uint64_t out_bytes;
    uint64_t in_rcp;
    uint64_t in_msg;
    uint64_t in_bytes;
};

#define SAMPLES_SPAN 60

struct samples {
    struct traffic seconds[SAMPLES_SPAN + 1]; /* ring: totals, one a second */
    struct traffic minutes[SAMPLES_SPAN + 1]; /* ring: totals, one a minute */
    uint64_t second_count;                    /* samples taken */
    struct traffic top_minute;
    struct traffic top_hour;
    uint64_t top_sessions_in;
    uint64_t top_connections_out;
};

/* One second has gone by; the first sample is the start. */
void samples_add(struct samples *samples, const struct report_status *status);
/* What has passed since a minute (an hour) before the last sample; now: the totals of this moment.
 */
struct traffic samples_last_minute(const struct samples *samples, const struct traffic *now);
struct traffic samples_last_hour(const struct samples *samples, const struct traffic *now);
struct traffic samples_traffic_of(const struct report_status *status);

/* ---- Gathering ------------------------------------------------------------------------------ */

struct gather;

struct gather_part {
    struct report report; /* first: parcels lead back here */
    struct gather *gather;
};

/* One question to every shard. Lives until all have answered, also when nobody waits any more. */
struct gather {
    struct control *control;
    void (*done)(struct gather *gather); /* NULL once nobody waits */
    void *context;
    struct io_timer timer;
    bool timed_out;
    uint16_t waiting; /* shards that have not answered */
    /* The answers in one: */
    int32_t result;
    uint64_t affected;
    struct report_status status;
    struct gather_part *parts; /* [shard_count]; rows stay there */
};

/*
 * The question is copied for each shard. done comes when all have answered, or with timed_out set
 * after timeout_ms; it must call gather_leave in the end.
 */
struct gather *gather_start(struct control *control, const struct report *question,
                            uint32_t timeout_ms, void (*done)(struct gather *gather),
                            void *context);
/* Nobody waits any more; freed when the last parcel is home. */
void gather_leave(struct gather *gather);
void gather_on_report(struct control *control, struct report *report);

/* ---- Looking up ----------------------------------------------------------------------------- */

struct lookup;

/*
 * Reads addresses that the first row_count_max rows of a gather of REPORT_LIST lack. done comes
 * when all have been looked for, or after a bound of time, and must call lookup_leave in the end.
 * From then on the lookup owns the gather. NULL when there is nothing to read: the gather stays the
 * caller's.
 */
struct lookup *lookup_start(struct gather *gather, uint32_t row_count_max,
                            void (*done)(struct lookup *lookup), void *context);
/* Nobody waits any more; freed, and the gather left, when the last read is back. */
void lookup_leave(struct lookup *lookup);
struct gather *lookup_gather(const struct lookup *lookup);
void *lookup_context(const struct lookup *lookup);

/* ---- Verbs ---------------------------------------------------------------------------------- */

struct control_client;

/* What a verb answers: a tree, and how it looks as text. */
struct control_answer {
    json_t *data;                                              /* NULL = {} */
    char *message;                                             /* of the heap, or NULL */
    void (*text)(const json_t *data, struct text_buffer *out); /* NULL = the message alone */
};

/* Carries the line out; the answer goes to control_client_answer, at once or later. */
void control_verb_run(struct control *control, struct control_client *client, struct slice line);
void control_client_answer(struct control_client *client, const struct control_answer *answer);
void control_client_refuse(struct control_client *client, const char *text);
/* With more than a sentence: the answer's data, and its text behind the first line. */
void control_client_refuse_with(struct control_client *client, const char *text,
                                const struct control_answer *answer);
void control_answer_free(struct control_answer *answer);

/* control_status.c */
json_t *control_status_tree(struct control *control, const struct report_status *status);
void control_status_text(const json_t *data, struct text_buffer *out);
json_t *control_string(const char *text); /* escaped where it is not clean UTF-8 */
json_t *control_time(uint64_t wall_us);   /* null for 0 */

/* control_rows.c */
json_t *control_queues_tree(struct control *control, const struct verb_request *request,
                            const struct gather *gather);
json_t *control_rcpts_tree(const struct gather *gather, uint32_t count_max);
/* Standing orders, from REPORT_ORDERS. */
json_t *control_orders_tree(const struct gather *gather, uint32_t count_max);
void control_orders_text(const json_t *data, struct text_buffer *out);
/* Books of warm-ups, from REPORT_WARMUP. */
json_t *control_warmup_tree(const struct gather *gather, uint32_t count_max);
void control_warmup_text(const json_t *data, struct text_buffer *out);
/* Its mode, with the reason, since when and until when. */
void control_put_mode(json_t *object, const struct report_mode *mode);
void control_rows_text(const json_t *data, struct text_buffer *out);

/* control_explain.c */
json_t *control_explain_tree(const struct verb_request *request, const struct gather *gather);
void control_explain_text(const json_t *data, struct text_buffer *out);

/* control_settings.c: answers or refuses at once. */
#define CONTROL_QUEUE_MAX (VERB_DOMAIN_MAX + VERB_VMTA_MAX)
/* DOMAIN/VMTA of the queue at its end. */
void control_way_name(const struct conf *conf, const struct conf_way *way,
                      char room[CONTROL_QUEUE_MAX]);
void control_settings_verb(struct control *control, struct control_client *client);
void control_overrides_verb(struct control *control, struct control_client *client);

/* control_sts.c */
struct control_sts {
    struct control *control;
    struct sts_book book;
    struct sts_fetch *fetch;
    struct list questions; /* of shards, which wait for fetches; oldest first */
    struct io_timer timer; /* the oldest has waited enough */
    uint64_t store_ns;     /* when changes of the book are written next */
    uint64_t sweep_ns;     /* when it is looked for what is to be fetched anew */
    bool is_loaded;
    bool is_unwritten; /* the newest attempt failed, and the log has it */
};

/* program: the helper's path, or NULL. */
void control_sts_init(struct control *control, const char *program);
void control_sts_fini(struct control *control);
/* A struct sts_question of a shard. */
void control_sts_take(struct control *control, struct parcel *parcel);
/* Each second. */
void control_sts_tick(struct control *control);
/* True when no helper is left. */
bool control_sts_stop(struct control *control);
void control_sts_verb(struct control *control, struct control_client *client);

/* control_ips.c */
struct control_ips {
    struct ip_source source;  /* read NULL = the shards count */
    struct control_ip *items; /* [count] */
    struct ip_figures *fresh; /* [IP_FIGURES_COUNT_MAX]: room to read into */
    struct table by_address;  /* index in items */
    uint32_t count;
    uint32_t capacity;
    bool is_told; /* that reading fails */
};

void control_ips_init(struct control *control, const struct ip_source *source);
void control_ips_fini(struct control *control);
/* Reads the source, if there is one; each second, and before an answer. */
void control_ips_sample(struct control *control);
json_t *control_ips_tree(struct control *control, const struct gather *gather, uint32_t count_max);
void control_ips_text(const json_t *data, struct text_buffer *out);

/* control_health.c */
struct control_health { /* as the log knows it */
    enum spool_health health;
    int error;
    uint32_t healthy_looks; /* in a row */
    uint64_t failed_commits;
    uint64_t failures_at_ns;
};

const char *control_health_name(enum spool_health health);
/* False when there is nothing to say. */
bool control_health_say(const struct control *control, char *room, size_t room_bytes);
/* health, and when that is not "healthy" reason and since. */
void control_health_put(const struct control *control, json_t *spool);
/* Each directory of the spool, and how many they are. */
void control_directories_put(const struct control *control, json_t *spool);
/* Those that take no mail though they should. */
void control_directories_warn(const struct control *control, json_t *warnings);
/* Tells the log of changes; each second. */
void control_health_watch(struct control *control);

/* control_render.c */
struct text_column {
    const char *key;
    const char *heading;
    bool is_right; /* numbers */
};
/* One line per element of the array, below two lines of headings. */
void render_table(const json_t *array, const struct text_column *columns, size_t column_count,
                  struct text_buffer *out);
void render_json(const json_t *data, const char *status, const char *message,
                 struct text_buffer *out);
void render_dom(const json_t *data, struct text_buffer *out);

/* ---- Accounting ----------------------------------------------------------------------------- */

struct control_account {
    struct control *control;
    struct account *account;
    struct spool_notice notice;
    bool notice_is_out;
    struct log_place told;
    uint64_t settle_at_ns;
    uint64_t retry_at_ns;
};

int accounts_open(struct control *control);
void accounts_close(struct control *control);
/* True when there is more to do at once. */
bool accounts_turn(struct control *control);
void accounts_on_notice(struct control *control, struct spool_notice *notice);
/* Takes what is durable now, within a bound, and settles: before the end. */
void accounts_finish(struct control *control);
/* Lets the programs go; true when none is there any more. */
bool accounts_stop(struct control *control, bool is_late);

/* control_log.c: now and then; a new log file after midnight. */
void control_log_look(struct control *control);

/* ---- Keys ----------------------------------------------------------------------------------- */

struct dns;
struct key_check;

struct control_keys {
    struct dns *dns;        /* NULL = there is no resolver, and nothing is looked up */
    struct slab facts;      /* struct key_fact, of keys of the running configuration */
    struct table by_id;     /* index in facts */
    struct key_check *look; /* under way in the background, or NULL */
    uint64_t look_at_ns;    /* again; 0 = nothing is open */
    uint32_t waiting;       /* keys instead of which another one signs */
    bool is_noted;          /* something was found out since it was weighed last */
    bool is_due;            /* a key waits no more, which takes effect with a new snapshot */
    uint64_t retry_ns;      /* is_due: the running texts could not be applied; 0 = not tried yet */
};

void control_keys_wire(struct control *control);
void control_keys_fini(struct control *control);
/* Each second. */
void control_keys_tick(struct control *control);
/* Before `next` is shared, and is what runs. */
void control_keys_hold(struct control *control, struct conf *next);
/* Another snapshot runs. */
void control_keys_adopt(struct control *control);
void control_check_verb(struct control *control, struct control_client *client);
/* The client does not wait any more. */
void control_keys_leave(struct control_client *client);

/* ---- Domains of senders ---------------------------------------------------------------------- */

struct control_domain;

void control_domain_verb(struct control *control, struct control_client *client);
/* The client does not wait any more. */
void control_domain_leave(struct control_client *client);

/* ---- Reloading ------------------------------------------------------------------------------ */

struct control_reload {
    struct reload reload;
    char *path;               /* NULL = none */
    struct conf_files *files; /* what is in force was made of; NULL = not known */
    struct history history;
    struct history_entry in_force; /* number 0: it is not in the history */
    struct history_entry wish;     /* what led to it */
    struct overrides overrides;    /* in force with it */
    uint64_t overrides_retry_ns;
    struct control_client *client; /* waits for the end of the one under way, or NULL */
    json_t *data;                  /* its answer */
    struct io_timer timer;         /* it waits no longer */
    bool again;                    /* a signal came while one was under way */
    uint64_t done;
    uint64_t refused;
};

void control_reload_init(struct control *control, const char *path);
void control_reload_wire(struct control *control);
void control_reload_fini(struct control *control);
void control_reload_verb(struct control *control, struct control_client *client);
void control_override_verb(struct control *control, struct control_client *client);
/* Takes away what has ended; each second. */
void control_overrides_tick(struct control *control);
void control_rollback_verb(struct control *control, struct control_client *client);
/* The client waits no more. */
void control_reload_leave(struct control_client *client);
/* The running texts once more, where what they mean has changed. None may be under way. False when
 * they cannot be applied now, which the log says: a file that they name is gone, say. */
bool control_reload_again(struct control *control);
/* For show status. */
json_t *control_reload_tree(const struct control *control);

/* control_history.c: config history, diff and show; answer or refuse at once. */
void control_history_verb(struct control *control, struct control_client *client);

/* ---- Reports about TLS ------------------------------------------------------------------------
 */

#define CONTROL_TLS_ORDERS 8u /* lookups at once */

struct control_tls_order {
    struct tls_report_order order;
    bool is_away;
};

struct control_tls_report {
    struct tls_books books;
    struct control_tls_order orders[CONTROL_TLS_ORDERS];
    uint64_t ask_at_ns;
    uint64_t store_at_ns;
    bool is_asking;
    uint64_t fates[TLS_REPORT_FATE_COUNT];
    struct tls_posts posts;
    uint64_t posted;   /* taken by all https addresses of their domains */
    uint64_t given_up; /* not taken by one of them */
};

void control_tls_report_init(struct control *control);
void control_tls_report_fini(struct control *control);
/* Counts, or an order that comes home; false when the parcel is neither. */
bool control_tls_report_take(struct control *control, struct parcel *parcel);
/* Each second. */
void control_tls_report_tick(struct control *control);
/* All shards have stopped: what was counted is kept. */
void control_tls_report_stop(struct control *control);
void control_answer_tls_report(struct control *control, const struct verb_request *request,
                               const struct gather *gather, struct control_answer *answer);
void control_answer_tls_report_send(struct control *control, const struct verb_request *request,
                                    const struct gather *gather, struct control_answer *answer);

/* ---- Control -------------------------------------------------------------------------------- */

enum client_state {
    CLIENT_FREE,
    CLIENT_READING,
    CLIENT_WAITING, /* for shards */
    CLIENT_SENDING,
    CLIENT_CLOSING,
};

struct control_client {
    struct control *control;
    enum client_state state;
    int fd;
    uint32_t uid; /* of the process at the other end */
    struct io_recv recv;
    struct io_op send;
    struct io_op close;
    struct io_timer timer;
    struct gather *gather;
    struct lookup *lookup;
    struct key_check *key_check;   /* that it waits for */
    struct control_domain *domain; /* likewise */
    struct verb_request request;
    struct text_buffer answer;
    struct iovec iov;
    uint32_t line_len;
    char line[VERB_LINE_MAX + 1];
};

enum control_phase {
    CONTROL_RUNNING,
    CONTROL_STOPPING, /* shards have been told */
    CONTROL_ENDING,   /* shards have stopped; connections close */
    CONTROL_STOPPED,
};

struct control {
    struct io_actor actor; /* first */
    struct io *io;
    struct conf *conf;
    const char *version;
    uint32_t user_id;
    uint16_t shard_count;
    struct control_wiring wiring;
    uint64_t started_us;

    int listen_fd; /* -1 = none */
    char *socket_path;
    struct io_accept accept;
    struct io_op listen_close;
    struct io_timer accept_timer;
    struct control_client clients[CONTROL_CLIENTS_MAX];

    struct samples samples;
    struct control_health health;
    const struct sign_service *signing;
    struct control_ips ips;
    struct control_sts sts;
    struct io_timer sample_timer;
    bool is_sampling;
    struct control_reload reload;
    struct control_keys keys;
    struct control_tls_report tls_report;
    uint32_t gather_count;       /* not yet freed */
    struct spool_reader *reader; /* for lookups */
    uint32_t lookup_reads;       /* in flight */

    struct control_account *accounts;
    uint32_t account_count;
    struct carrier_order carrier_order; /* its end */
    bool is_busy;                       /* the accounting */
    struct io_timer accounts_timer;
    uint64_t log_day; /* days since 1970: the log file is of that day; 0 = not looked yet */
    uint32_t log_failures;

    enum control_phase phase;
    struct io_timer end_timer;
    uint64_t end_at_ns; /* connections that are still open then are closed */
    void (*stopped)(void *context);
    void *stopped_context;
};
