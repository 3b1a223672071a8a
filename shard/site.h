/*
 * site: destinations, and the connections to them.
 *
 * A site is an MX set or a route, a lane a site seen from one of our source addresses, a connection
 * one of a lane's. Queues stand in line at a lane (lane.c) and are served by its connections in
 * turn (site.c); target.c says to which address the next one goes, growth.c when there is to be one
 * more. All of it belongs to the shard's thread and lives in its slabs; a site lives while queues
 * and lanes refer to it. Nothing here decides what becomes of a recipient: shard/policy does.
 * Times are nanoseconds of the shard's clock.
 */
#pragma once

#include "core/base/list.h"
#include "core/io/io.h"
#include "net/mx.h"
#include "net/smtpc.h"
#include "shard/lease.h"
#include "shard/policy/closes.h"
#include "shard/policy/demand.h"
#include "shard/policy/outage.h"

struct delivery;
struct queue;
struct shard;

struct site_target {
    struct ipaddr_port at;
    uint16_t preference;
    uint16_t host;
    uint64_t dead_until_ns;
};

/* One destination: an MX set or a route, with its addresses. */
struct site {
    struct list link;
    struct list lanes;
    uint64_t set_hash;
    uint64_t site_hash; /* places it, see place.h */
    uint64_t provider;  /* whose the hosts are (core/conf/provider.h); never NONE in use */
    uint64_t tenant;    /* site_hash where the provider keeps its customers apart, else 0 */
    uint32_t refs;      /* queues and lanes */
    uint32_t index;
    uint64_t avoid_ipv6_until_ns; /* refused us there by policy: IPv4 if there is a way */
    uint64_t parked_until_ns;     /* the latest of its lanes' */
    bool has_family[2];           /* of its targets: IPv4, IPv6; VMTAs that go there have sources */
    uint16_t target_count;
    uint16_t host_count;
    struct site_target *targets; /* with the names, one block of the heap, made at resolution */
    char (*host_names)[DNS_NAME_MAX + 1];
    uint64_t tlsa_hash;    /* as struct mx_answer has it */
    uint64_t sts_hash;     /* likewise */
    uint8_t sts;           /* enum sts_mode */
    uint16_t sts_text_len; /* of the policy, in the same block */
    const uint8_t *sts_text;
    struct mx_tlsa *tlsas; /* of the hosts, in the same block; places in tlsa_data */
    const uint8_t *tlsa_data;
    uint32_t clean_count; /* messages answered in step, up to what `auto` asks for */
    bool is_out_of_step;  /* nothing is sent ahead any more */
    bool tells_apart;     /* its replies show what they answer: it may get chunks */
    bool refuses_chunks; /* offers CHUNKING and does not know BDAT, or broke the protocol over it */
    bool is_failing;     /* the newest connection to be made was not */
    bool limits_known;   /* limits.c's, as the next two */
    uint32_t limits_version;
    uint64_t limits_mask;
    struct outage outage; /* of sources that reached none of its targets */
    struct closes closes; /* connections that its hosts ended */
};

/* Connections of one site from one source address. */
struct lane {
    struct list site_link;
    struct list serve_link;         /* in shard.lanes_to_serve */
    struct list order_link;         /* waits for a connection of a probe, see orders.h */
    struct list waiting;            /* queues */
    struct list express;            /* those of them that have mail of a light flow (flows.h) */
    struct list ranks[TURNS_RANKS]; /* all of them, by queue-priority */
    struct turns turns;
    struct list idle; /* connections */
    struct list busy;
    struct site *site;
    struct ipaddr source;
    /* What its connections count on: they serve only queues that draw on the very same meters. */
    uint64_t meters_hash;     /* scope_list_hash, 0 = none; of the login and of TLS, see lane.c */
    uint64_t tls_key;         /* tls_out_key of its queues */
    uint64_t hosts_mask;      /* limits_of_hosts, when the lane was made */
    uint64_t provider;        /* likewise the site's */
    struct lease_claim claim; /* on slots for the next connection */
    struct list purse_link;   /* waiting for a token of a rate of connections */
    uint64_t called_ns;       /* it was told of a token whose time is to come … */
    uint64_t called_until_ns; /* … and past then; it may have slots for it before. 0 = it was not */
    uint64_t purse_since_ns; /* has done so, in line or not, since its last one; 0 = it has not */
    struct shard *shard;
    uint64_t parked_until_ns; /* the source could not be bound, or is refused with none standing */
    /* The destination greeted the source with a refusal: no new connection before. */
    uint64_t refused_until_ns;
    uint32_t refusal_count; /* since it was last welcome */
    /* Where it was refused for good: asked last. */
    struct ipaddr_port avoided;
    uint64_t avoided_until_ns;
    uint32_t index;
    uint32_t open_count; /* connecting, idle, busy */
    uint32_t connecting_count;
    struct demand demand;          /* how many connections would pay */
    struct io_timer connect_timer; /* a queue in line may open one, or an idle one may end */
    uint64_t token_asked_ns;       /* an idle connection waits for a token since; 0 = never */
    uint32_t awaited_queue;    /* … and for this queue, its index and one; 0 = for nobody … */
    uint64_t awaited_until_ns; /* … until then */
    bool has_awaited;          /* in vain, since a message began here */
    struct list watch_link;    /* of shard.growth */
    uint64_t watched_since_ns;
    uint32_t stuck_count; /* of open_count, at the last look while queues waited */
    uint32_t target_turn;
    uint32_t unanswered_count; /* addresses that died since a connection stood or a rest began */
    uint8_t standing;          /* enum quota_kind: what is known of it when slots are short */
    bool was_express;          /* the turn before this one */
    /* Its claim has slots and waits for a token, or for a probe's connection; 0 = it does not. */
    uint64_t kept_since_ns;
};

/* What of a connection stands in the figures of its source address already. */
struct ips_place {
    uint32_t row; /* in shard.ips, NONE = not counted */
    uint32_t retransmits;
    uint64_t bytes_sent;
    uint64_t bytes_received;
    uint64_t looked_at_ns;
    bool is_established; /* counted as such */
};

struct connection {
    struct list link; /* lane.idle or lane.busy */
    struct smtpc *smtpc;
    struct lane *lane;
    struct queue *queue; /* being served or opened for */
    struct delivery *delivery;
    struct delivery *ahead; /* follows it in the same flight, or NULL */
    struct shard *shard;
    struct io_timer idle_timer;
    uint32_t index;
    struct ipaddr_port target_at;
    uint32_t error_count;
    uint32_t served;
    uint32_t order;       /* the standing order that lent it, + 1; 0 = none did */
    uint32_t vmta_id;     /* of the queue it serves, or served last */
    uint32_t queue_index; /* likewise its place, which another queue may have by now */
    uint64_t idle_ms;
    uint64_t opened_ns;
    struct lease_slots slots;
    uint64_t busy_since_ns; /* opened, or got its present transaction, or ended the one before */
    struct ips_place ips;
    bool is_ready;
    bool has_proxy;
    bool ahead_counts;  /* ahead is another queue's, and counts among its connections */
    bool was_ahead;     /* something was sent ahead here */
    uint8_t talks;      /* enum talk_about, see talk.c */
    uint8_t tls_level;  /* enum smtpc_tls_level */
    bool tls_is_judged; /* so is the certificate that it was begun with */
    bool is_leaving;    /* the configuration has no use for it: it ends with its message */
    bool has_delivered; /* a message, as far as the order was told */
    bool goes_on;       /* is not bound by site.closes */
    bool came_back;     /* a message was given back that the receiver had not begun */
    bool is_closed;     /* the client is gone; kept while a message is being read for it */
    /* enum tlsrpt_result: what a policy that is only being tried out has against TLS that was begun
     * all the same; 0 = nothing. */
    uint32_t host; /* of target_at, in shard.names; NAME_NONE = there was no room for it */
};
_Static_assert(sizeof(struct connection) <= 320, "memory of an idle connection");

/* talk.c: what queues want in the log. */
void talk_options(const struct conf_queue *settings, struct smtpc_options *options);
void talk_opened(struct shard *shard, struct connection *connection);
void talk_ready(const struct connection *connection);
void talk_closed(const struct connection *connection, const struct verdict *verdict);
void talk_note(struct smtpc *smtpc, void *context, enum smtpc_note kind, struct slice text);
void talk_resolved(struct shard *shard, const struct queue *queue, const struct mx_answer *answer);

/* site.c */
void site_init(struct shard *shard);
void site_fini(struct shard *shard);
/* The site of an answer with one reference more; NULL when memory is short. */
struct site *site_obtain(struct shard *shard, const struct mx_answer *answer);
void site_release(struct shard *shard, struct site *site);
/* A new snapshot: connections that serve what they may not serve any more end, idle ones at once.
 */
void site_adopt(struct shard *shard);
/* The TLSA records of a host, empty when it has none, and the name that its certificate is for. */
struct slice site_tlsa(const struct site *site, uint32_t host, const char **ret_name);
enum lane_opened {
    LANE_OPENED,
    LANE_NO_TARGET, /* every address rests */
    LANE_NO_ROOM,   /* connections, descriptors or memory are out */
    LANE_PARKED,    /* the source cannot be used */
    LANE_NO_LOG,    /* outcomes cannot be recorded: nothing may be sent */
};

/* Opens a connection for the queue, which is in the lane's line. */
enum lane_opened site_open(struct shard *shard, struct lane *lane, struct queue *queue);
/* A transaction ended and the connection can go on. */
void site_connection_idle(struct shard *shard, struct connection *connection);
/* Whether a connection that has served so many messages would soon be closed without a word. */
bool site_closes_soon(const struct connection *connection, uint32_t served);
/* False when the connection is ending or gone. */
bool site_connection_is_usable(const struct connection *connection);
/* A delivery waits for a token, with its connection, but not for ever. */
void site_hold_for_token(struct shard *shard, struct connection *connection);
/* A delivery gave its connection back without a transaction. */
void site_connection_lost(struct shard *shard, struct connection *connection);
/* The lane's connections end with their messages, idle ones at once. */
void site_end_connections(struct shard *shard, struct lane *lane);
/* Idle connections end in order; busy ones when their message is done. */
void site_stop(struct shard *shard);
/* Every connection ends now, but for those that send a message of a queue with
 * `allow-cancel-during-transfer no`: they end with it. Returns how many messages were broken off.
 */
uint32_t site_abort(struct shard *shard);
uint32_t site_open_connections(const struct shard *shard);

/* lane.c */
/* How long a source address that cannot be used is left alone. */
#define LANE_SOURCE_PARK_MS 60000
/* Puts the queue in line at a lane of one of its VMTA's addresses. */
void lane_enqueue(struct shard *shard, struct queue *queue);
/*
 * The queue in line whose turn it is; NULL when none is. *ret_is_express: it goes ahead for the
 * sake of a light flow, and keeps its place in the line for the others.
 */
struct queue *lane_next(const struct lane *lane, bool *ret_is_express);
/* The highest rank of those in line; the normal one when there are none. */
uint8_t lane_rank(const struct lane *lane);
/* The queue's turn is over: it stays in line, at its place or behind the others, while it has
 * something to send. */
void lane_turn_over(struct shard *shard, struct queue *queue, bool is_express);
/* An idle connection waits for the queue, which has gone for a token: it had one before, and no
 * connection then. A moment, once for each message that begins here: another shard's answer takes
 * no longer, and who has it at hand would be quicker each time. */
void lane_await(struct lane *lane, const struct queue *queue, uint64_t now_ns);
bool lane_awaits(struct lane *lane, uint64_t now_ns);
/* The queue has as many connections as it may: it gets in line again, or may go ahead again, when
 * one of them has done its work. */
void lane_hold(struct shard *shard, struct queue *queue, bool is_express);
/* Something became ready in a queue that may stand in line: whether it goes ahead. */
void lane_note_ready(struct queue *queue);
/* Out of the line, and nothing else. */
void lane_step_out(struct queue *queue);
/* Whether the snapshot lets the queue's mail go by that lane: its virtual MTA has the source, and
 * it draws on the lane's meters. */
bool lane_serves(struct shard *shard, const struct lane *lane, struct queue *queue);
/* The lane's source address, if the virtual MTA still has it; else NULL. */
const struct conf_source_address *lane_address(const struct lane *lane, uint32_t vmta_id);
/* Whether the queue has a source that its mail can leave from now, as far as is known. */
bool lane_has_way(struct shard *shard, const struct queue *queue);
/* The queue leaves the line where it stands. */
void lane_leave(struct queue *queue);
/* The lane is looked at in this turn or the next. */
void lane_serve_later(struct lane *lane);
/* The same for the lane of a claim that has waited for a slot. */
void lane_on_claim_ready(struct lease_claim *claim);
/* Whether the queue, in line at the lane, was sent to another for its first recipient's sake. */
bool lane_sent_on(struct shard *shard, struct lane *lane, struct queue *queue);
/* The queue's lane of its virtual MTA's address number `turn`; NULL when it has no connection, may
 * not be used now, or the queue's first recipient wants another. */
struct lane *lane_beside(struct shard *shard, struct queue *queue, uint32_t turn);
/* The queue stands in that line, and in no other. */
void lane_change(struct shard *shard, struct queue *queue, struct lane *lane);
/* The destination cannot be reached from this source: queues in line that have another way go by
 * that, the others rest. When it may be tried for the first of those (probe.h); 0: there are none.
 */
uint64_t lane_rest_waiting(struct shard *shard, struct lane *lane, const struct verdict *verdict);
/* The source is not used for the site until then; its line goes by others where it can. */
void lane_park(struct shard *shard, struct lane *lane, uint64_t until_ns);
/* Mail that came by this connection is to come by IPv4 from now on, if it came by IPv6 and can:
 * false otherwise. */
bool lane_leave_ipv6(struct shard *shard, const struct connection *connection,
                     const struct queue *queue);
/* The lane goes when nothing stands or waits there. */
void lane_release(struct shard *shard, struct lane *lane);

/* target.c */
/* Whether a connection with those terms of TLS (tls_out_key) may be tried there. */
bool target_is_alive(const struct shard *shard, const struct site_target *target, uint64_t tls_key,
                     uint64_t now_ns);
/* The index of the address for the lane's next connection; NONE when none is alive. */
uint32_t target_pick(struct lane *lane, uint64_t now_ns);
/* The connection's address could not be reached: so is every one of the site's when that makes as
 * many in a row as its queue tries before it rests. */
void target_mark_dead(struct shard *shard, const struct connection *connection);
/* A reply asks for the next host: this one is left alone for a while, and the connection ends with
 * its message. True when there is another. */
bool target_pass_by(struct shard *shard, struct connection *connection);
/* The receiver answers, and does not want the connection's source now. */
void target_on_refused(struct shard *shard, const struct connection *connection,
                       const struct verdict *verdict);
