/*
 * orders: standing orders, what the replies of receivers and operators left behind.
 *
 * An order keeps mail away from a source address: a queue does not use it any more (SOURCE_OFF), or
 * nothing goes from it to a provider (STOP); or from a provider what a job (JOB_STOP) or a sender's
 * domain (SENDER_STOP, see author.h) sends. After its time a stop is a probe: one connection in
 * all from that source to that provider, or one message of that job or domain, over all shards.
 * When all that are allowed stand and one of them delivers its first message, one more is allowed;
 * a refusal is a new stop, twice as long unless something was delivered meanwhile. SOURCE_OFF ends
 * after its time or by an operator, stops with a hundred connections or messages at a time, a day
 * without a refusal, or by an operator.
 *
 * BACKOFF keeps nothing away: every queue of that provider whose virtual MTA has that address is in
 * backoff mode, whatever its own mode is (modes.h). It ends after its time, with a delivery from
 * there, by a reply, or by an operator. A queue is looked at when its settings are derived, and in
 * a walk over all of them when such an order begins or ends.
 *
 * Every shard holds all orders. The shard that sees a reply obeys at once and tells the order's
 * owner, which follows from the hash of its key; the owner logs it as a named state
 * ("order/KIND/IP/WHO") and tells all shards. What is loosened is logged first. So a crash may
 * bring an order back, and ends none but one that a reply began after the last commit of outcomes;
 * an operator's is durable when the verb is answered. The owner lends the connections of a probe:
 * what the shards hold never exceeds what is allowed, but for connections that stood before the
 * stop and end with their message.
 *
 * All of a shard's copy belongs to its thread. Without orders nothing here costs more than a
 * comparison. Times: _ns of the shard's clock, which is that of all shards; _us wall clock. There
 * are at most ORDER_COUNT_MAX; beyond that a reply leads to nothing, and the log says so.
 */
#pragma once

#include "core/base/hash.h"
#include "core/base/ipaddr.h"
#include "core/base/list.h"
#include "core/base/slab.h"
#include "core/io/io.h"
#include "core/io/mailbox.h"
#include "shard/report.h"

struct connection;
struct lane;
struct message;
struct queue;
struct shard;
struct site;

#define ORDER_LOG_KEY    "order/"
#define ORDER_REASON_MAX 240
#define ORDER_COUNT_MAX  65536u
/* A probe that has got so far is over: what else is configured holds from then on. */
#define ORDER_PROBE_FULL 100u

/* name, word */
#define ORDER_KIND_TABLE(X)                                                                        \
    X(ORDER_SOURCE_OFF, "source-off")   /* who: a queue */                                         \
    X(ORDER_STOP, "stop")               /* who: a provider */                                      \
    X(ORDER_BACKOFF, "backoff")         /* likewise */                                             \
    X(ORDER_SENDER_STOP, "sender-stop") /* who: a provider / a domain; no source */                \
    X(ORDER_JOB_STOP, "job-stop")       /* who: a provider / a job; likewise */

enum order_kind {
#define ORDER_KIND_ENUM(name, ...) name,
    ORDER_KIND_TABLE(ORDER_KIND_ENUM)
#undef ORDER_KIND_ENUM
        ORDER_KIND_COUNT,
};

/* The last ones in the table. */
#define ORDER_MAIL_KINDS 2u

static inline bool order_is_of_mail(unsigned kind)
{
    return kind >= ORDER_KIND_COUNT - ORDER_MAIL_KINDS;
}

/* Whether it is a probe after its time, and ends only then. */
static inline bool order_is_probed(unsigned kind)
{
    return kind == ORDER_STOP || order_is_of_mail(kind);
}

struct order_facts {
    uint8_t kind;  /* enum order_kind */
    uint8_t stops; /* STOP: how many in a row */
    struct ipaddr source;
    uint64_t since_us;
    uint64_t since_ns;
    uint64_t until_us; /* 0 = it does not end by time */
    uint64_t until_ns; /* STOP: then it is a probe */
    uint64_t asked_ms; /* STOP: as the line says it, before it was doubled */
    char who[REPORT_NAME_MAX];
    char reason[ORDER_REASON_MAX]; /* the line, if any, and the reply, or who ordered it */
};

/* Shard to owner and back: what happened since the last one. */
struct order_tell {
    struct parcel parcel;
    struct order_facts facts;
    uint32_t index;     /* of the sender's order */
    uint32_t returned;  /* connections */
    uint32_t delivered; /* connections of the probe that began at facts.since_ns */
    bool tightens;
    bool ends;    /* those facts, by a delivery or a reply */
    bool asks;    /* what counts: news came that was not heeded */
    bool is_gone; /* the answer: the owner has no such order */
};

/* Shard to owner, which keeps it until there is a connection for it. */
struct order_want {
    struct parcel parcel;
    struct list link;
    uint64_t hash;
    uint32_t index;
    uint8_t kind;
    struct ipaddr source;
    char who[REPORT_NAME_MAX];
    bool is_granted;
};

/* Owner to all shards, one after the other, and back. */
struct order_news {
    struct parcel parcel;
    struct order_facts facts;
    uint32_t index; /* of the owner's order */
    uint16_t owner;
    bool is_over;
};

struct order {
    struct order_facts facts;
    struct shard *shard;
    uint64_t hash;
    uint32_t index;
    bool is_over; /* not in force; kept while something of it is under way */
    struct io_timer timer;
    struct order_tell tell;
    bool tell_is_out;
    bool must_tell;   /* that it is tighter here */
    bool must_end;    /* by a delivery or a reply here: its owner is to hear that … */
    bool is_ending;   /* … or has been told */
    bool missed_news; /* they came while the owner was about to hear of what is tighter here */
    uint32_t to_return;
    uint32_t to_credit;
    struct order_want want;
    bool want_is_out;
    uint32_t granted;   /* connections lent to this shard */
    uint32_t used;      /* of them, that stand */
    bool has_delivered; /* a connection of the probe, here */
    uint64_t next_ns;   /* of mail: when the last one that was put off here is due; 0 = none was */
    struct list lanes;
    /* At its owner. */
    struct order_news news;
    bool news_is_out;
    bool has_news;
    bool is_logged;     /* the log knows of it */
    bool is_loosening;  /* the log was told of its end and has not answered */
    uint32_t ends_open; /* records of its end that the log has not answered, of former ones too */
    uint32_t allowed;   /* connections of the probe; 0 = none yet */
    uint32_t lent;
    struct list wants;
};

struct orders {
    struct slab slab;
    struct table table;
    uint32_t counts[ORDER_KIND_COUNT]; /* in force */
    uint32_t walk_cursor;              /* the next queue to look at … */
    uint32_t walk_left;                /* … and how many until all were since the last change */
    uint32_t walk_count;               /* places for queues when that was reckoned */
    uint64_t begun;
    uint64_t ended;
    uint64_t recovered;
    uint64_t forgotten; /* for want of memory */
    uint64_t held_back; /* times that a queue went into backoff mode by one */
};

/* Of a queue: what its settings were derived with. */
struct order_hold {
    uint64_t provider; /* while it is held: that of its site, or of the last one that it had */
    bool is_held;      /* in backoff mode by an order */
};

/* Its word, in the log and on its key. */
const char *order_kind_text(enum order_kind kind);
void orders_init(struct shard *shard);
void orders_fini(struct shard *shard);
/* Queues that an order held look again; called each turn. */
void orders_turn(struct shard *shard);
bool orders_is_busy(const struct shard *shard);

/* The name of the provider in orders; of a site that is its own, one that follows from its hash. */
void orders_name_provider(const struct site *site, char *room, size_t room_bytes);

/* ---- What holds ---- */

/* Whether an order keeps the queue's mail from that source. */
bool orders_forbid(const struct shard *shard, const struct queue *queue,
                   const struct ipaddr *source);
/* Until when nothing may be sent from the source to the site's provider; 0: it may. */
uint64_t orders_stopped_until_ns(const struct shard *shard, const struct site *site,
                                 const struct ipaddr *source);
/* The order that keeps the queue from a source of its own and ends first, NULL: there is none.
 * Valid within the turn. *ret_until_ns: when it ends, UINT64_MAX = nobody knows. */
const struct order *orders_holding(const struct shard *shard, const struct queue *queue,
                                   uint64_t *ret_until_ns);
/* Whether every source of the queue is disabled for it. */
bool orders_disable_all(const struct shard *shard, const struct queue *queue);
/* Whether the lane may open a connection now; else it is served again when it may. */
bool orders_admit(struct shard *shard, struct lane *lane);
/* The lane was not admitted, and an answer is on its way: the owner of a probe is asked. */
bool orders_is_asking(struct shard *shard, struct lane *lane);
/* One was opened after orders_admit. */
void orders_on_open(struct shard *shard, struct connection *connection);
void orders_on_closed(struct shard *shard, struct connection *connection);
void orders_on_delivered(struct shard *shard, struct connection *connection);

/* ---- Jobs and sender's domains ---- */

/* The message is in memory. Whether no order is in force on such mail to the site's provider. */
bool orders_mail_is_free(const struct shard *shard, const struct site *site,
                         const struct message *message);
/* 0: the message may go now. Else until when it is to be put off: wall clock, microseconds. */
uint64_t orders_mail_put_off(struct shard *shard, const struct site *site,
                             const struct message *message);
/* It goes, after orders_mail_put_off in the same turn: what it takes of probes. */
void orders_mail_take(struct shard *shard, const struct site *site, const struct message *message,
                      uint32_t ret_orders[ORDER_MAIL_KINDS]);
/* It was delivered in a transaction that began then. */
void orders_mail_delivered(struct shard *shard, const uint32_t orders[ORDER_MAIL_KINDS],
                           uint64_t began_ns);
/* It is not under way any more. */
void orders_mail_end(struct shard *shard, uint32_t orders[ORDER_MAIL_KINDS]);
/* What may hold some of the queue's mail; empty when nothing does. */
void orders_mail_explain(const struct shard *shard, const struct queue *queue, char *room,
                         size_t room_bytes);

/* ---- Backoff mode ---- */

/* Of the orders that have the queue in backoff mode the one that ends last, or NULL. Valid within
 * the turn. */
const struct order *orders_backoff_of(const struct shard *shard, const struct queue *queue);
/* The queue's settings are derived anew: whether an order has it in backoff mode from now on. */
bool orders_hold_back(struct shard *shard, struct queue *queue);
/* If orders say otherwise than its settings they are derived anew. Whether they were. */
bool orders_look_at(struct shard *shard, struct queue *queue);
/* A message of the queue's was delivered. */
void orders_on_progress(struct shard *shard, struct queue *queue,
                        const struct connection *connection);
/* Why the queue is in backoff mode, by itself or by an order: whichever lasts longer. */
void orders_report_mode(const struct shard *shard, const struct queue *queue,
                        struct report_mode *ret_mode);

/* ---- What makes and ends them ---- */

/* for_ms: CONF_UNLIMITED = until an operator says so. True when it is new. */
bool orders_disable_source(struct shard *shard, struct queue *queue, const struct ipaddr *source,
                           uint64_t for_ms, const char *reason);
/* Whose mail the message is for orders by jobs (without a job its sender's domain's) or by sender's
 * domains: facts->kind and who. False when it has nothing to be known by. */
bool orders_name_mail(const struct site *site, const struct message *message, bool by_job,
                      struct order_facts *facts);
/* A reply to what began then asks for a stop: a new one, or a longer one. wanted: kind, source, who
 * and reason. True when it began one: what was under way when the last one began says nothing new.
 */
bool orders_stop(struct shard *shard, const struct order_facts *wanted, uint64_t began_ns,
                 uint64_t for_ms);
/* Backoff mode at a provider, unless it is in force. wanted: likewise; for_ms: CONF_UNLIMITED = for
 * ever. */
void orders_back_off(struct shard *shard, const struct order_facts *wanted, uint64_t for_ms);
/* What began then says that the order of that kind, source and who, if there is one, may end. */
void orders_let_end(struct shard *shard, const struct order_facts *wanted, uint64_t began_ns);

/* ---- Operators, restarts, reports ---- */

/* `disable source`: the shard that owns the order carries it out. */
void orders_on_disable(struct shard *shard, struct report *report);
/* `enable source`, `enable sender-domain`, `enable job`: each shard ends those of its own that
 * match. */
void orders_on_enable(struct shard *shard, struct report *report);
void orders_report(const struct shard *shard, struct report *report);
/* The log's last word, after a restart; value empty: nothing. */
void orders_recover(struct shard *shard, struct slice name, struct slice value);
/* The log's answer to the record of an order's end. */
void orders_on_logged(struct shard *shard, uint32_t index, int32_t status);
void orders_on_parcel(struct shard *shard, struct parcel *parcel);
