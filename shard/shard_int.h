/*
 * shard_int: the inside of a shard, shared by the files of this room and by nobody else.
 *
 *   shard.c    creation, wiring, the turn, dispatch of parcels
 *   door.c     which shard an injector's connection goes to
 *   tls_out.c  TLS with receivers: how, and what is remembered of hosts
 *   contexts.c TLS: the engine, and contexts of the current snapshot
 *   adopt.c    a new snapshot of the configuration takes the place of the old one
 *   inject.c   the intake table: from an SMTP session to an append
 *   inject_chunks.c  messages that are larger than a chunk, written while they arrive
 *   home.c     live messages at home here: registration, handoff, outcomes, checkpoints
 *   routes.c   where their recipients go, and who has that queue
 *   compact.c  live messages moved out of nearly empty segments
 *   queues.c   queues owned here: deferred recipients, pause, rest, expiry
 *   ready.c    their recipients that may go, in fair turns between flows.c
 *   memo.c     what of them the log keeps over restarts
 *   cold.c     the share of mail that warms up another virtual MTA
 *   warm.c     what warm-ups let out to a provider from an address
 *   modes.c    backoff mode of queues: entered, left, logged
 *   replies.c  what replies lead to by the queue's list of patterns
 *   orders.c   standing orders: sources that queues and providers are kept from
 *   hold.c     refusals for good that are kept back; outlook.c: the word of the resolver
 *   triggers.c how often a reply line was hit; hits.c: over all shards
 *   migrate.c  queues that go to another shard, and their recipients
 *   resolve.c  from a queue to its site: resolution; precache.c: ahead of its mail
 *   site.c     destinations, and the connections to them: opened, used, ended
 *   serve.c    which queue in line gets one next
 *   lane.c     a site seen from a source address: by which lane a queue goes, its line
 *   growth.c   when a lane gets one connection more
 *   target.c   which address the next connection goes to
 *   lease.c    limits on connections that cut across shards
 *   limits.c   which of them a queue draws on (meters.c)
 *   mail_slots.c  those that count by job, sender's domain and user
 *   purse.c    tokens of rates across shards (purse_audit.c)
 *   rates.c    limits on how often and how much, as a queue meets them
 *   deliver.c  one transaction: load, send, results
 *   settle.c   what becomes of one recipient then
 *   feed.c     content in chunks, read while it is sent; heading.c: its header; carry.c: to files
 *   note.c     notes to operators, gathered
 *   notice.c   mail that the shard writes itself: failure notices, copies
 *   doubt.c    by which way a message went that may have been taken, or was greylisted
 *   spf_out.c  whether its sender's SPF record lets a message leave
 *   ahead.c    the message that follows the one under way, in the same flight
 *   tidy.c     memory that nobody needs any more goes back to the system
 *   reports.c  answers to control
 *   explain.c  one of them: what holds a queue back
 *
 * Indices are 32-bit slab indices of this shard unless a field says whose they are.
 */
#pragma once

#include "core/base/hash.h"
#include "core/base/heap.h"
#include "core/base/must.h"
#include "core/base/text.h"
#include "net/dns.h"
#include "net/mx.h"
#include "net/smtpc.h"
#include "net/smtpd.h"
#include "shard/adopt.h"
#include "shard/ahead.h"
#include "shard/carry.h"
#include "shard/cold.h"
#include "shard/compact.h"
#include "shard/contexts.h"
#include "shard/deliver.h"
#include "shard/door.h"
#include "shard/doubt.h"
#include "shard/events.h"
#include "shard/expiry.h"
#include "shard/explain.h"
#include "shard/firsts.h"
#include "shard/flows.h"
#include "shard/gate.h"
#include "shard/growth.h"
#include "shard/heading.h"
#include "shard/hits.h"
#include "shard/hold.h"
#include "shard/home.h"
#include "shard/inject.h"
#include "shard/ips.h"
#include "shard/lease.h"
#include "shard/limits.h"
#include "shard/login.h"
#include "shard/mail_slots.h"
#include "shard/memo.h"
#include "shard/message.h"
#include "shard/migrate.h"
#include "shard/modes.h"
#include "shard/names.h"
#include "shard/note.h"
#include "shard/notice.h"
#include "shard/orders.h"
#include "shard/outlook.h"
#include "shard/policy/domain_fate.h"
#include "shard/policy/fate.h"
#include "shard/policy/waits.h"
#include "shard/precache.h"
#include "shard/queues.h"
#include "shard/rates.h"
#include "shard/ready.h"
#include "shard/replies.h"
#include "shard/report.h"
#include "shard/reports.h"
#include "shard/resign.h"
#include "shard/resolve.h"
#include "shard/routes.h"
#include "shard/shard.h"
#include "shard/signing.h"
#include "shard/site.h"
#include "shard/spf_out.h"
#include "shard/tidy.h"
#include "shard/tls_out.h"
#include "shard/tls_report.h"
#include "shard/triggers.h"
#include "shard/warm.h"

#define NONE UINT32_MAX

/* Resolutions that run at once. */
#define RESOLVE_JOBS 64u

/* How long a queue or a route that nobody needs is kept: a sender comes back to most of its domains
 * within minutes, and what a queue is made of (settings, hosts) costs a tenth of a delivery. Where
 * there are many, those without work make room sooner. */
#define IDLE_KEEP_NS      (600 * 1000000000ull)
#define IDLE_KEEP_MANY_NS (30 * 1000000000ull)

enum shard_parcel_kind {
    SHARD_HANDOFF = 0x400, /* struct handoff: home to owner */
    SHARD_HANDOFF_RETURN,  /* the same, empty, on its way to its lender */
    SHARD_HANDOFF_BACK,    /* the same with its recipient, to home: the queue is elsewhere */
    SHARD_MIGRATE,         /* struct migration: a queue on its way to its next owner */
    SHARD_MIGRATED,        /* the same on its way back, taken or refused */
    SHARD_PAUSE,           /* struct pause_order: base to owner */
    SHARD_PAUSED,          /* the same on its way back */
    SHARD_MODE,            /* struct mode_order: base to owner */
    SHARD_MODE_SET,        /* the same on its way back */
    SHARD_ORDER_TELL,      /* struct order_tell: shard to owner */
    SHARD_ORDER_TOLD,      /* the same on its way back */
    SHARD_ORDER_WANT,      /* struct order_want: shard to owner */
    SHARD_ORDER_GRANT,     /* the same on its way back, answered */
    SHARD_ORDER_NEWS,      /* struct order_news: owner past all shards */
    SHARD_HIT_TELL,        /* struct hit_parcel: shard to owner */
    SHARD_HIT_TOLD,        /* the same on its way back */
    SHARD_HOLD_TELL,       /* struct hold_tell: shard to owner */
    SHARD_HOLD_TOLD,       /* the same on its way back */
    SHARD_COLD_ASK,        /* struct cold_ask: shard to owner */
    SHARD_COLD_ANSWER,     /* the same on its way back */
    SHARD_WARM_ASK,        /* struct warm_ask: shard to owner */
    SHARD_WARM_ANSWER,     /* the same on its way back */
    SHARD_OUTCOME,         /* struct outcome_parcel: owner to home */
    SHARD_LIST,            /* struct report: rows on their way past all homes, for places */
    SHARD_LOCATE,          /* struct locate: owner to home: where does the message lie? */
    SHARD_LOCATED,         /* the same on its way home, answered */
    SHARD_ARRIVAL,         /* struct arrival: a connection on its way to a shard with less to do */
    SHARD_ARRIVAL_RETURN,  /* the same on its way home */
    SHARD_GATE_ASK,        /* struct gate_ask: asker to who is asked */
    SHARD_GATE_ANSWER,     /* the same on its way home */
};

/* ---- Home ---------------------------------------------------------------------------------- */

/*
 * A recipient on its way to its owner: from home, or from a shard that owned the queue before, by
 * way of home. Allocated by its lender, returned there.
 */
struct handoff {
    struct parcel parcel;
    uint64_t message_id;
    uint64_t due_us;
    struct message *hot; /* a claim on it, or NULL */
    struct slice domain; /* bytes of home's names, valid until it is taken */
    uint32_t vmta_id;
    uint32_t flow; /* envelope_flow; home says it */
    uint32_t accepted_s;
    uint8_t priority;   /* envelope_priority, likewise */
    uint32_t expires_s; /* by the message's own terms; 0 = they do not say */
    uint32_t home_message;
    uint32_t home_rcpt;
    uint32_t ordinal;
    uint32_t index;    /* in the lender's slab */
    uint32_t due_tick; /* where it comes from a queue: when it is due there; 0 = due_us says it */
    uint16_t attempts;
    uint16_t home;
    uint16_t lender;
    uint16_t owner;        /* BACK: who has the queue now, or OWNER_UNKNOWN: it hands its mail on */
    uint16_t kilobytes;    /* of the message's record, rounded up; at most what fits */
    uint32_t first_s;      /* of the first attempt, wall clock; 0 = not known */
    const char *rolled_up; /* BACK, owner unknown: the queue of its MX hosts, or NULL */
    bool goes_over;        /* likewise: its warm-up has no room for it */
    bool backs_off;        /* likewise: the queue is in backoff mode */
    bool is_cooling;       /* likewise: its claim on the message ends at home */
    struct doubt_way in_doubt;
};

#define OWNER_UNKNOWN UINT16_MAX

/* Which message it is and where it lies, asked by the owner of one of its recipients. Part of its
 * delivery. */
struct locate {
    struct parcel parcel;
    uint32_t home_message;
    uint16_t asker;
    uint8_t id_check;       /* as in struct queued */
    uint64_t message_id;    /* the answer */
    struct log_place place; /* likewise */
};

/* An outcome on its way: owner → home → spool → owner. Allocated by the owner. */
struct outcome_parcel {
    struct log_request request; /* first */
    struct iovec iov;
    uint64_t due_us;
    uint32_t home_message;
    uint32_t home_rcpt;
    uint32_t index; /* in the owner's slab */
    uint16_t attempts;
    uint16_t home;
    bool is_final;
    bool returns_claim; /* the owner no longer needs the hot message */
    uint8_t notice;     /* enum notice_want: it goes home when that is durable */
    uint8_t bytes[OUTCOME_BYTES_MAX];
};

/* ---- Owner --------------------------------------------------------------------------------- */

/* What is kept of a recipient whose message is not in memory; of one whose is, the message says it
 * and no attempt was made. */
struct queued_cold {
    uint32_t due_s; /* while deferred: when, wall clock seconds */
    uint16_t attempts;
    uint8_t size_code; /* of the message's record, see queues.c */
    uint8_t id_check;  /* lowest octet of the message's id, which only home knows whole */
};

/* One queued recipient at its owner. There are millions: 32 bytes. */
struct queued {
    union {
        struct message *hot;     /* is_hot: a claim, until the first outcome */
        struct queued_cold cold; /* not is_hot */
    };
    union {
        uint32_t next;     /* READY: in the list */
        uint32_t due_tick; /* DEFERRED: key of the heap's entry that counts */
    };
    uint32_t queue : 29;
    uint32_t rank : 3;     /* of its priority: turns_rank */
    uint32_t home_message; /* index at home */
    uint32_t home_rcpt;    /* index at home */
    uint32_t accepted_s;   /* wall clock seconds, rounded up */
    uint16_t ordinal : 15;
    uint16_t has_expiry : 1; /* its message's own, in shard.expiries */
    uint16_t home : 8;
    uint16_t state : 2; /* enum queued_state */
    uint16_t is_hot : 1;
    uint16_t flow : 5; /* its slot, see flows.h */
};
_Static_assert(sizeof(struct queued) == 32, "memory of a queued recipient");
_Static_assert(SHARD_COUNT_MAX <= 1 << 8, "a shard's number has 8 bits");
_Static_assert(FLOW_SLOTS <= 1 << 5, "a flow's slot has 5 bits");
_Static_assert(TURNS_RANKS <= 1 << 3, "a rank has 3 bits");
#define QUEUES_MAX (1u << 29)

static inline uint64_t queued_accepted_us(const struct queued *queued)
{
    return (uint64_t)queued->accepted_s * 1000000;
}

/* The claimed message, or NULL. */
static inline struct message *queued_hot(const struct queued *queued)
{
    return queued->is_hot ? queued->hot : NULL;
}

static inline uint16_t queued_attempts(const struct queued *queued)
{
    return queued->is_hot ? 0 : queued->cold.attempts;
}

enum queued_state {
    QUEUED_READY,    /* in its queue's ready list */
    QUEUED_DEFERRED, /* in the heap */
    QUEUED_SENDING,  /* in a delivery */
};

/* domain/vmta. Lives while it has recipients, is paused or rests, and a while longer: bulk mail
 * comes back to the same domains. */
struct queue {
    struct list idle_link; /* in shard.idle_queues while nothing keeps it */
    uint64_t idle_since_ns;
    uint8_t rank; /* in the lines that it stands in; it takes that of its settings as it joins */
    struct list rank_link;      /* among those of its rank at `lane`, … */
    uint64_t lane_since_ns;     /* … by how long it waits */
    struct list lane_link;      /* waiting at `lane` for a connection */
    struct list express_link;   /* likewise, and goes ahead every other time */
    struct list resolve_link;   /* waiting for a resolution */
    struct list local_link;     /* in shard.local_work */
    struct io_timer wake_timer; /* looks at the queue again at rest_until_ns */
    struct shard *shard;
    struct delivery *parked;     /* read back, waits for that token with its connection; or NULL */
    struct list purse_rank_link; /* among those of its rank there */
    uint64_t purse_since_ns;     /* it waits for tokens since then; 0 = it does not */
    struct list purse_link;      /* waiting for a token, in the line of … */
    struct list purse_express_link; /* likewise, of those in a hurry */
    uint8_t purse_rank;             /* of the rank's line that it stands in there */
    bool is_away;                   /* only keeps its place there */
    struct purse *purse;            /* … this one */
    struct ipaddr purse_source;     /* for mail from there; family IPADDR_NONE = from anywhere */
    struct purse_turn turns[PURSE_TURNS_MAX]; /* what it was woken for */
    struct conf_queue settings;
    struct rate msg_rate;       /* recipients tried */
    uint64_t tried_count;       /* recipients let through here, whether there is a bound or not */
    struct rate connect_rate;   /* connections opened */
    struct volume *volume;      /* octets delivered; NULL = no bound */
    uint64_t tried_octets;      /* likewise, and not given back */
    uint64_t octets_short;      /* of a message that found too few; else 0 */
    struct queue_mode mode;     /* what `settings` follows from */
    struct order_hold hold;     /* likewise */
    struct io_timer mode_timer; /* backoff mode ends */
    uint64_t deferred_until_ns; /* by a reply: a connection that comes up meanwhile ends no rest */
    struct lane *lane;
    struct site *site;      /* one reference */
    uint64_t site_until_ns; /* resolve again after this */
    uint64_t rest_until_ns; /* monotonic; 0 = not resting */
    uint64_t rest_until_us; /* the same as wall clock, survives restarts */
    uint64_t last_error_us;
    uint64_t reason_since_us;
    struct waits waits;        /* for what it has waited lately */
    uint64_t sign_rules;       /* see signing_rules */
    uint64_t queued_kilobytes; /* of its recipients' messages, once per recipient */
    uint32_t index;
    uint32_t name; /* domain, in shard.names */
    uint32_t vmta_id;
    uint32_t limits_version; /* of the snapshot that limits_mask is for, if it is known */
    uint64_t limits_mask;    /* <limit> blocks that fit the queue */
    bool limits_known;
    bool has_vmta; /* the configuration has it */
    struct ready ready;
    struct list mail_claims; /* mail_slots.c's, but for those in use */
    uint32_t ready_count;
    uint32_t deferred_count;
    uint32_t sending_count;
    uint32_t held_back_count;  /* times that a message had its turn and was put off, all in all */
    uint32_t connection_count; /* serving it now */
    uint32_t address_turn;     /* round robin over the VMTA's addresses */
    uint64_t doubt_ends_ns;    /* DNS spoke against the domain: again after this is final; 0 = no */
    uint64_t doubt_ends_us;    /* the same as wall clock, survives restarts */
    uint16_t rest_failures;
    bool rest_is_logged;   /* a restart would bring the rest back */
    bool rests_by_dns;     /* the last rest began with the DNS's word, see outlook.h */
    bool is_guest;         /* another shard is the base */
    bool hands_on;         /* its mail is given to another queue */
    bool backs_off;        /* ... as long as it is in backoff mode */
    bool has_held;         /* a refusal of its mail was held here (hold.h); for explain */
    bool is_rollup;        /* domains roll up to it */
    const char *rolled_up; /* to that of its MX hosts (rollup.h), or NULL */
    uint64_t rolled_until_ns;
    uint8_t stay;                /* enum queue_stay */
    uint16_t goes_to;            /* MOVING, GONE: the next owner */
    uint64_t stays_until_ns;     /* its owner had no room: served here so long; 0 = not */
    uint16_t records_open;       /* named states at the log, unanswered */
    struct migration *migration; /* MOVING, until it can be posted */
    struct list leave_link;      /* leaving, with ready recipients: in shard.leaving */
    uint32_t over_count;         /* ready ones that its warm-up has no room for: likewise */
    uint8_t reason;              /* enum wait_reason */
    bool paused;
    bool resolving;
    uint8_t local;             /* enum local_work */
    uint16_t local_code;       /* LOCAL_FAIL: the verdict's */
    uint8_t local_enhanced[3]; /* likewise */
    uint32_t local_left;       /* recipients it still concerns */
    char last_error[200];
    struct event_series_of_queue series[EVENT_SERIES_COUNT]; /* what happened to it lately */
};

/* Recipients that end by a verdict of ours, without a connection. */
enum local_work {
    LOCAL_NONE,
    LOCAL_FAIL,    /* the destination refuses for ever: DNS */
    LOCAL_EXPIRED, /* at the head, older than bounce-after */
    LOCAL_DELETE,  /* by an operator */
    LOCAL_DISCARD, /* by the configuration, as fast as the rates allow */
    LOCAL_CARRY,   /* to a file, likewise; see carry.h */
};

/* Room for as many recipients as a transaction can have; most have one. */
struct delivery_wide {
    uint32_t rcpts[SMTPC_RCPT_COUNT_MAX];
    struct slice addresses[SMTPC_RCPT_COUNT_MAX];
    struct slice orcpts[SMTPC_RCPT_COUNT_MAX];
    uint8_t notifies[SMTPC_RCPT_COUNT_MAX];
};

#define DELIVERY_FEW 1

/* One transaction under way. */
struct delivery {
    struct connection *connection;
    struct message *message; /* hot at home, or read back here */
    bool is_loaded;          /* read back: freed here */
    bool is_counted;         /* among the messages delivered */
    bool is_located_twice;   /* where it lay, it was not; asked again */
    struct locate locate;
    struct io_op read_op;
    uint32_t index;
    uint32_t count;
    uint32_t open;       /* recipients without a verdict yet */
    uint32_t queue;      /* local work: whose recipients, connection NULL */
    uint8_t local;       /* enum local_work, as it was at the start */
    uint16_t local_code; /* likewise, see struct queue */
    uint8_t local_enhanced[3];
    struct log_place place;      /* where the message is being read */
    struct outcome_parcel *last; /* kept back until the client is done with the message */
    struct list held;            /* outcomes that wait for a notice */
    struct shard *shard;
    struct feed *feed; /* of a message in chunks that was read back */
    struct heading heading;
    struct resign resign;
    struct carry *carry; /* LOCAL_CARRY, once it is on its way */
    struct smtpc_transaction transaction;
    /* In the arrays of few, or in `wide` once there are more. */
    uint32_t *rcpts; /* queued indices */
    struct slice *addresses;
    struct slice *orcpts;
    uint8_t *notifies; /* enum dsn_notify */
    struct delivery_wide *wide;
    uint32_t wide_index;
    struct rates_reading reading;
    struct rates_receipt receipt;
    struct warm_receipt warm;
    struct mail_claim *mail; /* slots of its job's, sender's domain's or user's, or NULL */
    bool shares_mail;        /* goes ahead on those of the one before */
    bool awaits_slot;        /* parked until such a slot has come */
    uint32_t orders[ORDER_MAIL_KINDS]; /* whose probes it is a part of: index + 1 */
    /* From here on undefined until filled. */
    struct iovec content[MESSAGE_IOV_MAX + 1]; /* a header of its own before it */
    struct smtpc_dsn_request dsn;
    uint32_t few_rcpts[DELIVERY_FEW];
    struct slice few_addresses[DELIVERY_FEW];
    struct slice few_orcpts[DELIVERY_FEW];
    uint8_t few_notifies[DELIVERY_FEW];
    char local_error[200]; /* the queue's last error at the start */
};

/* ---- The shard ----------------------------------------------------------------------------- */

struct pickup;

struct shard {
    struct io_actor actor; /* first */
    struct io *io;
    struct conf *conf;
    struct place *place; /* of conf */
    struct contexts contexts;
    struct tls_out tls_out;

    /* adopt.c */
    uint32_t version;         /* of conf */
    struct conf *conf_before; /* while queues hold settings of it */
    uint32_t adopt_cursor;    /* queues below it hold those of conf */
    struct parcel *reload_order;
    uint16_t number;
    uint16_t count;
    struct shard_wiring wiring;
    struct shard_limits limits;
    uint64_t next_id;      /* message ids: life, counter, see inject.c */
    uint32_t chunk_octets; /* larger content goes to the log in pieces of so much */
    struct {
        uint64_t written;
        uint64_t dropped; /* messages */
        uint64_t fed;
        uint64_t moved;
    } chunk_counts;
    struct report_status totals;
    uint64_t allocations_before; /* of this thread, up to the first turn */
    bool has_turned;
    bool stopping;
    bool is_stopped;
    bool smtpd_stopped;
    struct io_timer stop_timer;
    struct tidy tidy;
    struct firsts firsts;
    void (*stopped)(void *context);
    void *stopped_context;
    struct report *stop_report;

    struct names names;
    struct message_pool pool;
    struct smtpd *smtpd;
    uint32_t *pool_turns; /* round robin per pool position */
    uint32_t pool_turn_count;

    struct door door;
    struct slab intakes;  /* inject.c */
    struct slab signings; /* signing.c */
    struct list signings_due;
    struct list resigns_due; /* deliveries whose bodies are being hashed, by resign.link */
    struct slab checks;
    struct list checks_open;
    struct slab verifies; /* inject_verify.c */
    struct list verifies_open;
    struct verify_room *verify_room; /* NULL until something is verified */
    struct sign_room *sign_room;     /* NULL until something is signed, as the next one */
    struct signer *signer;
    struct sign_service *sign_service; /* of shard_options */
    uint64_t key_alert_ns;             /* when a missing key was told last */
    struct pickup *pickup;
    uint64_t memory_seen_ns; /* when the machine's memory was looked at last */
    uint32_t memory_percent;

    struct gate gate;
    struct login_desk logins;

    /* home.c */
    struct slab home_messages;
    struct expiries home_expiries; /* by home_message */
    struct slab home_rcpts;
    struct slab routes;
    struct table route_table;
    struct list idle_routes; /* oldest first */
    struct slab handoffs;
    struct list unregistered; /* durable messages that wait for memory, by append.link */
    uint32_t rcpts_open;      /* not final yet, of registered and of unregistered ones */
    uint32_t rcpts_reserved;  /* promised to messages that are being appended */
    uint32_t handoff_head;    /* messages with recipients to hand out */
    uint32_t handoff_tail;
    bool handoff_rests; /* until handoff_timer: this shard's queues have no room */
    struct io_timer handoff_timer;
    uint32_t append_count;           /* messages at the spool, unanswered */
    struct spool_notice *checkpoint; /* being answered */
    uint32_t checkpoint_cursor;
    uint32_t checkpoint_sent; /* states, so far */
    uint64_t checkpoint_began_ns;
    uint64_t checkpoint_began_bytes;  /* of the log */
    struct io_timer checkpoint_timer; /* goes on after a rest */
    bool checkpoint_rests;
    struct slab state_records;

    /* compact.c */
    struct slab moves;
    struct list moves_done;          /* durable copies whose state is not posted yet */
    struct spool_notice *evacuation; /* being answered */
    uint32_t evacuation_cursor;

    uint8_t *scratch;
    size_t scratch_bytes;
    struct regex_scratch *category_scratch; /* of bounce categories */
    struct regex_scratch *patterns_scratch; /* of the lists of sources; NULL until needed */
    struct parcel *handoffs_waiting;        /* from other shards, no room for them yet */
    struct parcel *handoffs_waiting_last;

    /* queues.c */
    struct slab queued;
    struct expiries expiries; /* by queued */
    struct slab queues;
    struct slab strands; /* ready.c */
    struct flows flows;
    struct table queue_table;
    struct list idle_queues; /* oldest first */
    struct heap due;         /* deferred recipients: key monotonic ns, value queued index */
    struct io_timer due_timer;
    struct list local_work; /* queues whose recipients get a local verdict */
    uint32_t outcomes_reserved;
    struct slab outcomes;
    struct slab named_records;

    /* migrate.c */
    struct slab aways;
    struct table away_table;
    struct slab migrations;
    struct slab pause_orders;
    struct slab mode_orders; /* modes.c */
    struct {
        uint64_t entered;
        uint64_t left;
        uint64_t moved;
    } mode_counts;
    struct orders orders;
    struct holds holds;
    struct outlook outlook;
    struct events events;
    struct precache precache;
    struct cold cold;
    struct warm warm;
    struct triggers triggers;
    struct hits hits;
    struct list leaving;    /* queues that recipients leave, with ready ones */
    uint64_t left_deferred; /* deferred recipients of such queues */
    uint32_t left_cursor;   /* in `due`, where they are looked for */

    struct meters meters;
    struct leases leases;
    struct mail_slots mail_slots;
    struct rates rates;
    struct purses purses;

    /* site.c */
    struct smtpc_engine *smtpc;
    struct dns *dns;
    struct slab sites;
    struct list site_list;
    struct table site_table;
    struct slab lanes;
    struct slab connections;
    struct list resolve_waiting;
    struct resolve_job *resolve_jobs;
    uint32_t resolve_job_free;
    uint32_t resolve_asks; /* of them, those that wait for word of a policy */
    struct own_addresses *own_addresses;
    struct list lanes_to_serve;
    struct growth growth;
    struct slab ips; /* ips.c: struct ip_figures */
    struct table ips_table;
    bool counts_ips;
    bool is_starved; /* no memory for a delivery: the next event tries again, not the next turn */

    /* doubt.c */
    struct slab doubts;
    struct table doubt_table;
    struct list doubt_list; /* oldest first */
    struct spf_out spf_out;

    /* deliver.c */
    struct slab deliveries;
    struct slab wides;
    struct slab feeds, carries;
    struct spool_reader *reader;

    struct notices notices;
    struct notes notes;
    struct tls_report tls_report;
};

/* What would be delivered now could not be recorded, or not be told to its sender. */
static inline bool shard_holds_deliveries(const struct shard *shard)
{
    return spool_health_holds_deliveries(spool_health(shard->wiring.spool)) ||
           notice_is_full(shard);
}

/* Its recipients go elsewhere: after the queue itself, or to another one. */
static inline bool queue_is_left(const struct queue *queue)
{
    return queue->stay == QUEUE_GONE || queue->hands_on;
}

/* So many more or fewer recipients of the queue are deferred. */
static inline void queue_count_deferred(struct shard *shard, struct queue *queue, int32_t change)
{
    queue->deferred_count += (uint32_t)change;
    if (queue_is_left(queue))
        shard->left_deferred += (uint64_t)(int64_t)change;
}

/* adopt.c: queues are left that hold old settings. */
static inline bool adopt_is_busy(const struct shard *shard)
{
    return shard->conf_before != NULL;
}

/* compact.c: no message is on its way to another segment. */
static inline bool compact_is_idle(const struct shard *shard)
{
    return shard->moves.count_used == 0;
}

/* shard.c */
/* A recipient comes from its home: taken now, in order when there is room, or sent back. */
void shard_take_handoff(struct shard *shard, struct handoff *handoff);

/* A parcel to another shard, with the version of the configuration that it follows from. */
void shard_post(struct shard *shard, uint16_t to, struct parcel *parcel);
