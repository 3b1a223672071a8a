/*
 * react: what a receiver's reply leads to by the queue's <smtp-pattern-list>.
 *
 * Every line of the list whose pattern matches the reply counts, in their order. Of actions that
 * contradict each other (backoff and normal mode, the next MX and the end of the queue, two
 * different times of one thing) those of the first line that matches count. What different lines
 * leave standing of the queue, of our addresses, of the sender's domain and of the job are
 * different things; provider, source-ip and netblock are one, as their addresses are the same.
 * bounce-rcpt is for a 4xx to RCPT alone. What is not the receiver's own reply leads to nothing.
 * Pure functions of their arguments.
 */
#pragma once

#include "core/base/regex.h"
#include "core/conf/conf.h"
#include "core/mail/verdict.h"

/* Scopes of which one line leaves something standing, whatever the others do. */
enum react_group {
    REACT_OF_QUEUE,
    REACT_OF_ADDRESSES,
    REACT_OF_SENDER_DOMAIN,
    REACT_OF_JOB,
    REACT_GROUPS,
};

/* The lines that it comes from, or NULL. */
struct react_lines {
    const struct conf_reply_rule *mode;   /* BACKOFF or NORMAL */
    const struct conf_reply_rule *source; /* DISABLE_SOURCE */
    const struct conf_reply_rule *stop;
};

struct react {
    unsigned actions; /* enum conf_reply_action */
    struct react_lines lines[REACT_GROUPS];
    const struct conf_reply_rule *rule; /* the first one that matches, or NULL */
};

enum react_group react_group_of(const struct conf_reply_rule *rule);

/* Whether a line that matches has been hit often enough for what it leaves standing. */
typedef bool react_fires_fn(void *context, const struct conf_reply_rule *rule);

/* list: NULL = none. scratch: of the calling thread. fires: asked once for each line that matches;
 * NULL = each of them fires. */
struct react react_to(const struct conf_reply_list *list, const struct verdict *verdict,
                      struct regex_scratch *scratch, react_fires_fn *fires, void *context);
/* What one more rule says, which matches the reply. */
void react_add(struct react *react, const struct conf_reply_rule *rule,
               const struct verdict *verdict, react_fires_fn *fires, void *context);
/* Whether the receiver only wants to see the same source, sender and recipient again later, as the
 * classifier reads its reply: says nothing about other mail. host: the MX host, may be empty. */
bool react_is_greylisting(const struct verdict *verdict, struct slice host,
                          struct regex_scratch *scratch);
/* Whether lines matched, and none of them says what becomes of the recipient or of our address:
 * they only slow the queue. */
bool react_only_slows(const struct react *react);
/*
 * What a refusal leads to that no rule speaks of: one that is aimed at our address or at the sender
 * bounces nobody. NULL for nothing. host: the MX host, may be empty.
 */
const struct conf_reply_rule *react_unasked(const struct verdict *verdict, struct slice host,
                                            struct regex_scratch *scratch);
