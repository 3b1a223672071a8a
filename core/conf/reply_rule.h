/*
 * reply_rule: what one line `reply /REGEX/ ACTION[,ACTION] [trigger=...] [scope=...]` asks for.
 *
 * Such lines stand in <smtp-pattern-list> and in <provider>. This is their parsed form, which the
 * snapshot owns and nobody alters; any thread may read it. What is done with it is a matter of
 * shard/policy. PowerMTA's own lines have neither trigger nor scope: they act on the first hit and
 * on that queue alone. Times are milliseconds.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct regex;

/* Bits: what a reply of the receiver's leads to. */
enum conf_reply_action {
    CONF_REPLY_BACKOFF = 1,
    CONF_REPLY_NORMAL = 2,
    CONF_REPLY_SKIP_MX = 4,
    CONF_REPLY_BOUNCE_QUEUE = 8,
    CONF_REPLY_BOUNCE_RCPT = 16,
    CONF_REPLY_DISABLE_SOURCE = 32,
    CONF_REPLY_DEFER_QUEUE = 64,
    CONF_REPLY_STOP = 128,       /* ours: no new connection for stop_ms, then one that probes */
    CONF_REPLY_DEFER_RCPT = 256, /* ours: a 5xx that is tried again, as if it were a 4xx */
};

/* Those that leave something standing, which a trigger may delay and a scope widen. */
#define CONF_REPLY_STANDING                                                                        \
    (CONF_REPLY_BACKOFF | CONF_REPLY_NORMAL | CONF_REPLY_DISABLE_SOURCE | CONF_REPLY_STOP)

/* Whose state it is. All but the queue's are of a provider: provider x source address, ... */
enum conf_reply_scope {
    CONF_REPLY_OF_QUEUE,
    CONF_REPLY_OF_PROVIDER,
    CONF_REPLY_OF_SOURCE_IP,
    CONF_REPLY_OF_SENDER_DOMAIN,
    CONF_REPLY_OF_JOB,
    CONF_REPLY_OF_NETBLOCK, /* our addresses of one IPv4 /24 or IPv6 /64 */
    CONF_REPLY_SCOPES,
};

/*
 * How many hits of one rule and one value of its scope it takes. count >= 1, percent 0: so many
 * within interval_ms (0 with count 1: the first one). percent 1..100: that share of the attempts
 * of the last interval_ms, of which there must be at least count.
 */
struct conf_reply_trigger {
    uint32_t count;
    uint32_t percent;
    uint64_t interval_ms;
};

/* A share says nothing of its span: */
#define CONF_REPLY_SHARE_MS    600000u
/* and is looked at from so many attempts on. */
#define CONF_REPLY_SHARE_COUNT 10u
/* `stop` alone, and the most that a trigger counts. */
#define CONF_REPLY_STOP_MS     600000u
#define CONF_REPLY_TRIGGER_MAX 1000u

/* The rule says nothing of a time: that of the queue's settings counts. */
#define CONF_REPLY_NO_TIME (UINT64_MAX - 1)

struct conf_reply_rule {
    /* The same for the same line of the same list or provider, in every snapshot and process; of
     * equal lines each has its own, by its place among them. */
    uint64_t id;
    const struct regex *regex;
    unsigned actions;     /* enum conf_reply_action */
    uint64_t backoff_ms;  /* CONF_UNLIMITED = for ever, CONF_REPLY_NO_TIME */
    uint64_t disabled_ms; /* of the source address; likewise */
    uint64_t stop_ms;
    enum conf_reply_scope scope;
    struct conf_reply_trigger trigger;
    const char *text; /* the line, without outer blanks and comment */
    const char *file; /* where it stands */
    unsigned line;
};

struct conf_reply_list {
    const char *name; /* of the list or provider */
    const struct conf_reply_rule *rules;
    uint32_t rule_count;
};
