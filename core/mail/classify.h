/*
 * classify: what a receiver's reply means: PowerMTA's bounce category, and whether the address is
 * dead.
 *
 * The rules are a text (classify.rules, built in), read once by classify_rules_new or
 * classify_shipped and never altered: any thread may classify with them, each with a scratch of its
 * own. They are tried in order and the first whose conditions all hold decides; the last one has
 * none, so there is always an answer. docs/classify.md describes the file.
 *
 * The category says what the receiver complained of. The class is apart from it, since many 5xx
 * say nothing about the address: a 4xx is always transient, and a 5xx what its rule says. The
 * reaction is what the rule advises for other mail (shard/policy/react.h).
 *
 * Pure: no I/O, no clock. Classifying allocates nothing (regex.h says when its scratch grows) and
 * takes a few microseconds; the text is cut to CLASSIFY_TEXT_MAX octets.
 */
#pragma once

#include "core/base/regex.h"
#include "core/mail/verdict.h"

#define CLASSIFY_TEXT_MAX 1024
#define CLASSIFY_WHY_MAX  256

/* PowerMTA's bounce categories and its word for what is no bounce; other is last. */
#define CLASSIFY_CATEGORY_TABLE(X)                                                                 \
    X("bad-configuration")                                                                         \
    X("bad-connection")                                                                            \
    X("bad-domain")                                                                                \
    X("bad-mailbox")                                                                               \
    X("content-related")                                                                           \
    X("inactive-mailbox")                                                                          \
    X("invalid-sender")                                                                            \
    X("message-expired")                                                                           \
    X("no-answer-from-host")                                                                       \
    X("policy-related")                                                                            \
    X("protocol-errors")                                                                           \
    X("quota-issues")                                                                              \
    X("relaying-issues")                                                                           \
    X("routing-errors")                                                                            \
    X("spam-related")                                                                              \
    X("virus-related")                                                                             \
    X("success")                                                                                   \
    X("other")

/* name, word, what it means */
#define CLASSIFY_CLASS_TABLE(X)                                                                    \
    X(CLASSIFY_NO_BOUNCE, "-", "the reply is no refusal")                                          \
    X(CLASSIFY_HARD, "hard", "the address is dead")                                                \
    X(CLASSIFY_SOFT, "soft", "this message is final, the address lives")                           \
    X(CLASSIFY_TRANSIENT, "transient", "worth another try")

/* name, word. What should happen to other mail. */
#define CLASSIFY_REACTION_TABLE(X)                                                                 \
    X(CLASSIFY_NO_REACTION, "-")                                                                   \
    X(CLASSIFY_SLOW, "slow")                                                                       \
    X(CLASSIFY_HOLD, "hold")

/* name, word. Which other mail. */
#define CLASSIFY_SCOPE_TABLE(X)                                                                    \
    X(CLASSIFY_QUEUE, "queue")                                                                     \
    X(CLASSIFY_PROVIDER, "provider")                                                               \
    X(CLASSIFY_SOURCE_IP, "source-ip")                                                             \
    X(CLASSIFY_SENDER_DOMAIN, "sender-domain")                                                     \
    X(CLASSIFY_JOB, "job")

#define CLASSIFY_ENUM(name, ...) name,
enum classify_class { CLASSIFY_CLASS_TABLE(CLASSIFY_ENUM) };
enum classify_reaction { CLASSIFY_REACTION_TABLE(CLASSIFY_ENUM) };
enum classify_scope { CLASSIFY_SCOPE_TABLE(CLASSIFY_ENUM) };
#undef CLASSIFY_ENUM

#define CLASSIFY_STAGE_UNKNOWN (-1)

struct classify_reply {
    struct slice text;    /* codes included or not; several lines joined in any way */
    uint16_t code;        /* 0 = the one that text begins with, if any */
    uint16_t enhanced[3]; /* 0.0.0 = the one in text, if any; it also wins over x.0.0 */
    struct slice host;    /* MX host name, or a provider's domain; may be empty */
    int stage;            /* enum verdict_stage, or CLASSIFY_STAGE_UNKNOWN */
};

/* Strings live as long as the rules. */
struct classify_answer {
    const char *category;
    enum classify_class class;
    enum classify_reaction reaction;
    enum classify_scope scope; /* of the reaction */
    const char *rule;          /* its id */
    const char *file;
    unsigned line;
    bool gave_up; /* a pattern met its bounds on the way and was taken for no match */
};

struct classify_rules;

/*
 * Reads rules; file is their name in answers and must live as long as they do. 0, or E_SYNTAX with
 * the line and a sentence (CLASSIFY_WHY_MAX bytes).
 */
int classify_rules_new(const char *file, struct slice text, struct classify_rules **ret_rules,
                       unsigned *ret_line, char *why);
void classify_rules_free(struct classify_rules *rules); /* NULL is fine */

/* The rules that are built in, and their text. Read at the first call, kept for ever. */
const struct classify_rules *classify_shipped(void);
struct slice classify_shipped_text(void);

/* The code and enhanced status that a reply has, from its fields and text. Code 0, class 0: none.
 */
void classify_codes(const struct classify_reply *reply, uint16_t *ret_code, uint16_t ret_status[3]);

void classify(const struct classify_rules *rules, const struct classify_reply *reply,
              struct regex_scratch *scratch, struct classify_answer *ret_answer);

/* The receiver takes the same sender and recipient later, from the same address (RFC 6647). */
bool classify_is_greylisting(const struct classify_answer *answer);

const char *classify_class_text(enum classify_class class);
const char *classify_reaction_text(enum classify_reaction reaction);
const char *classify_scope_text(enum classify_scope scope);
