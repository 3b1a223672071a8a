/*
 * limit: limits that compose, as a snapshot has them: `<limit>` blocks, and the lines of PowerMTA's
 * language that count by address (source-ip-max-*, mx-connection-limit, ip-connection-limit).
 *
 * A limit counts once for each combination of the values of its scopes (policy/scope.h makes the
 * keys), and holds for the mail that it fits; a queue is bound by every limit that fits it. Ids are
 * never reused within a process and stay the same over snapshots for one name. All of it is
 * read-only and lives as long as the snapshot; any thread.
 */
#pragma once

#include "core/conf/conf.h"

/* What a limit counts by; the value of a bit ranks it, see policy/scope.h. */
enum conf_limit_scope {
    CONF_SCOPE_VMTA = 1 << 0,
    CONF_SCOPE_POOL = 1 << 1, /* the last one that the virtual MTA is in */
    CONF_SCOPE_SOURCE_IP = 1 << 2,
    CONF_SCOPE_PROVIDER = 1 << 3,
    CONF_SCOPE_TENANT = 1 << 4, /* a customer's hosts, where the provider keeps them apart */
    CONF_SCOPE_DOMAIN = 1 << 5, /* of the queue */
    CONF_SCOPE_JOB = 1 << 6,
    CONF_SCOPE_SENDER_DOMAIN = 1 << 7,
    CONF_SCOPE_USER = 1 << 8,
    CONF_SCOPES = 9,
};
/* Known when a message is looked at, not when its queue is. */
#define CONF_SCOPES_OF_MESSAGE (CONF_SCOPE_JOB | CONF_SCOPE_SENDER_DOMAIN | CONF_SCOPE_USER)

enum conf_quantity {
    CONF_OF_CONNECTIONS,
    CONF_OF_RECIPIENTS, /* tried, in a span of time */
    CONF_OF_CONNECTS,   /* in a span of time */
    CONF_OF_OCTETS,     /* likewise */
    CONF_QUANTITIES,
};

#define CONF_LIMIT_BLOCKS_MAX  64u
/* Rates that may apply to one queue's messages, or to its connections: of blocks, and those that
 * its virtual MTA, its source-ip-max-* lines and its provider can have. More are refused. */
#define CONF_LIMIT_RATES_MAX   16u
#define CONF_LIMIT_RATES_OTHER 5u
/* Blocks that may count the connections of one queue by what a message says. More are refused. */
#define CONF_LIMIT_MAIL_MAX    8u

struct directive;
/* What a source-ip-max-* line counts, under whichever of its names. */
enum conf_quantity limit_quantity_of(const struct directive *row);

struct pattern;
struct conf_names {
    const char *const *items;
    uint32_t count;
};

struct conf_limit {
    uint32_t id;
    uint32_t scopes;
    const char *section;   /* tag of the block, for messages; NULL for a line */
    const char *name;      /* of the block; of a line all of it but the number */
    uint64_t max_smtp_out; /* CONF_UNLIMITED = no bound; likewise the counts of the rates */
    struct conf_rate max_msg_rate;
    struct conf_rate max_connect_rate;
    struct conf_rate max_data_volume_rate; /* octets */

    /* What it fits; a list that is not given fits everything. For the functions below. */
    const char *domain_text;
    const char *vmta_text;
    const char *pool_text;
    const char *job_text;
    const char *user_text;
    const struct pattern *domains; /* of the queue, or (mx-connection-limit) of the host */
    uint32_t domain_count;
    const uint32_t *vmta_ids;
    uint32_t vmta_count;
    const uint32_t *pool_vmta_ids; /* members of its pools */
    uint32_t pool_vmta_count;
    struct conf_names jobs; /* `*` at the end stands for anything */
    struct conf_names users;
    struct cidr block; /* of source addresses, or (ip-connection-limit) of receivers */
    struct conf_limit *next;
    const char *file;
    uint32_t line;
};

/* By position; at most CONF_LIMIT_BLOCKS_MAX. */
uint32_t conf_limit_block_count(const struct conf *conf);
const struct conf_limit *conf_limit_block_at(const struct conf *conf, uint32_t position);
/* mx-connection-limit and ip-connection-limit, which depend on the host that is connected to; as
 * many at most. */
uint32_t conf_limit_host_count(const struct conf *conf);
const struct conf_limit *conf_limit_host_at(const struct conf *conf, uint32_t position);
/* Any of them; NULL when the snapshot has none of that id. */
const struct conf_limit *conf_limit(const struct conf *conf, uint32_t id);
const char *conf_limit_name(const struct conf *conf, uint32_t id);

/* Whether a block fits a queue (domain in lower case), as far as that is known without a message.
 */
bool conf_limit_fits(const struct conf_limit *limit, struct slice domain, uint32_t vmta_id);
/* And a message of it. */
bool conf_limit_fits_message(const struct conf_limit *limit, struct slice job, struct slice user);
/* Whether it is a `<limit>`, not a line. */
bool conf_limit_is_block(const struct conf_limit *limit);
/* Whether the count depends on messages. */
bool conf_limit_is_of_message(const struct conf_limit *limit);
/* And it bounds the connections that may be at such messages. */
static inline bool conf_limit_counts_by_mail(const struct conf_limit *limit)
{
    return limit->max_smtp_out != CONF_UNLIMITED && conf_limit_is_of_message(limit);
}
/* Whether a limit of conf_limit_host_at counts connections to that host (lower case). */
bool conf_limit_fits_host(const struct conf_limit *limit, struct slice host,
                          const struct ipaddr *ip);
/* Of a queue's source-ip-max-* lines the one with the smallest block that holds the source; NULL
 * when there is none. */
const struct conf_limit *conf_limit_of_source(const struct conf_queue *queue,
                                              enum conf_quantity quantity,
                                              const struct ipaddr *source);
/* Bit n: the block at position n fits the queue. */
uint64_t conf_limit_mask(const struct conf *conf, struct slice domain, uint32_t vmta_id);
/* The same of all queues to a domain, and of all queues of a virtual MTA. */
uint64_t conf_limit_mask_of_domain(const struct conf *conf, struct slice domain);
uint64_t conf_limit_mask_of_vmta(const struct conf *conf, uint32_t vmta_id);
