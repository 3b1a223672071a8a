/*
 * rules: how the sink misbehaves, by script.
 *
 * One rule a line, "#" begins a comment:
 *
 *     STAGE [CONDITION …] [delay=MS] [ACTION]
 *
 * STAGE: connect, ehlo, mail, rcpt, data, dot, quit.
 * CONDITION (all must hold):
 *     to=GLOB          the recipient, at stage rcpt
 *     from=CIDR        the client's address
 *     at=CIDR          the address that was called
 *     percent=P        by chance
 *     every=N          each N-th event that met the conditions before it
 *     first=N          the first N such events only
 *     connections=N    the client's address has more than N connections open
 *     messages=N       at least N messages were taken on this connection
 *     after=S until=S  seconds since the sink began
 * ACTION:
 *     REPLY            e.g. 451 4.7.1 Try again later
 *     drop             the connection is closed without a word
 *     reset            the same with a TCP reset
 *     hang             no answer ever comes
 *
 * Rules are asked in order. Delays add up until the first rule with an action, which decides; no
 * such rule: the sink behaves. Counters belong to one worker.
 */
#pragma once

#include "core/base/ipaddr.h"
#include "core/base/rng.h"

enum rule_stage {
    RULE_CONNECT,
    RULE_EHLO,
    RULE_MAIL,
    RULE_RCPT,
    RULE_DATA,
    RULE_DOT,
    RULE_QUIT,
    RULE_STAGES,
};

enum rule_action {
    RULE_BEHAVE,
    RULE_REPLY,
    RULE_DROP,
    RULE_RESET,
    RULE_HANG,
};

struct rule_event {
    enum rule_stage stage;
    struct slice rcpt;
    const struct ipaddr *client;
    const struct ipaddr *called;
    uint64_t client_connections;
    uint64_t connection_messages;
    uint64_t age_ns; /* of the sink */
};

struct rule_verdict {
    enum rule_action action;
    const char *reply; /* without CR LF; of the rules' lifetime */
    uint64_t delay_ms;
};

struct rules;

struct rules *rules_create(void);
void rules_destroy(struct rules *rules);
/* One line; empty ones and comments are fine. 0, or E_SYNTAX. */
int rules_add(struct rules *rules, const char *line);
/* A whole file; *ret_line is the line of a syntax error. */
int rules_load(struct rules *rules, const char *path, unsigned *ret_line);
/* Whether any rule speaks of the stage: the usual answer is no, and costs nothing. */
bool rules_speak_of(const struct rules *rules, enum rule_stage stage);
void rules_ask(struct rules *rules, const struct rule_event *event, struct rng *rng,
               struct rule_verdict *ret_verdict);
