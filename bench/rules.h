/*
 * rules: the language in which receivers are described, and the engine that decides by it.
 *
 * The sink plays such descriptions over real sockets, the simulator's receivers play the same ones
 * in virtual time. The engine does no I/O and reads no clock: an event comes with its time, a
 * verdict goes out. One line each, "#" begins a comment:
 *
 *     STAGE [CONDITION …] [MODIFIER …] [ACTION]
 *     lag MS           every reply leaves MS milliseconds after its command came, those of one
 *                      flight together: a long way, where delay= is a busy server
 *     offer [WORD …]   what EHLO offers: pipelining, chunking, 8bitmime, enhancedstatuscodes,
 *                      size, starttls; without this line the player's usual
 *
 * STAGE: connect, ehlo, starttls, mail, rcpt, data, content (the first octets after 354 or BDAT),
 *     dot (the end of the message), rset, quit; any = each of them but content.
 * CONDITION (all must hold):
 *     to=GLOB          the recipient, at stage rcpt
 *     sender=GLOB      the address in MAIL, from stage mail on
 *     from=CIDR        the client's address
 *     at=CIDR          the address that was called
 *     percent=P        by chance
 *     every=N          each N-th event that met the conditions before it
 *     first=N          the first N such events only
 *     connections=N    the client's address has more than N connections open
 *     total=N          all clients together have more than N connections open
 *     messages=N       at least N messages were taken on this connection
 *     commands=N       at least N commands came on this connection, this one included
 *     recipients=N     at least N recipients were taken in this transaction
 *     after=S until=S  seconds since the receiver began
 *     period=S         these seconds begin anew every S seconds
 *     rate=N/S         more than N such events within S seconds (a bucket of N that refills evenly)
 *     per=WHOM         whom rate= counts for: client (the default), domain or rcpt (at stage rcpt),
 *                      sender, all
 *     penalty=S        once the rate was exceeded, every such event for S seconds
 *     grey=S           client, sender and recipient were first seen together less than S seconds
 *                      ago, at stage rcpt
 * MODIFIER:
 *     delay=MS         the reply comes later, and the client's next command waits with it
 *     delay=LOW-HIGH   the same, by chance between the two
 *     cut=N            only N octets of the reply leave, then the connection is closed; a message
 *                      that this reply takes is taken
 * ACTION:
 *     REPLY            e.g. 451 4.7.1 Try again later; "\n" in it begins a further line
 *     say TEXT         this instead of a reply: nothing is taken by it; \r \n \\ and \xNN are known
 *     close [REPLY]    the usual reply or this one, then the connection is closed without a word
 *     drop             the connection is closed without a word
 *     reset            the same with a TCP reset
 *     hang             no answer ever comes
 *     flood            a reply that goes on for a megabyte, and then no answer
 *
 * Rules are asked in order. Delays add up until the first rule with an action or cut=, which
 * decides; no such rule: the receiver behaves. At stage content only delay=, drop, reset and hang
 * make sense. Counters belong to one `struct rules`; one thread. What a receiver remembers of its
 * clients is bounded: beyond a million keys the oldest are forgotten.
 */
#pragma once

#include "core/base/ipaddr.h"
#include "core/base/rng.h"

#define RULE_REPLY_MAX 700 /* octets of the longest reply, CR LF not counted */
#define RULE_UNCUT     UINT32_MAX

/* Name in the language, what the stage is. */
#define RULE_STAGES(X)                                                                             \
    X(CONNECT, connect)                                                                            \
    X(EHLO, ehlo)                                                                                  \
    X(STARTTLS, starttls)                                                                          \
    X(MAIL, mail)                                                                                  \
    X(RCPT, rcpt)                                                                                  \
    X(DATA, data)                                                                                  \
    X(CONTENT, content)                                                                            \
    X(DOT, dot)                                                                                    \
    X(RSET, rset)                                                                                  \
    X(QUIT, quit)

enum rule_stage {
#define RULE_STAGE_ENUM(name, word) RULE_##name,
    RULE_STAGES(RULE_STAGE_ENUM)
#undef RULE_STAGE_ENUM
        RULE_STAGE_COUNT,
};

enum rule_action {
    RULE_BEHAVE,
    RULE_REPLY,
    RULE_SAY,
    RULE_DROP,
    RULE_RESET,
    RULE_HANG,
    RULE_FLOOD,
};

#define RULE_OFFERS(X)                                                                             \
    X(PIPELINING, pipelining)                                                                      \
    X(CHUNKING, chunking)                                                                          \
    X(8BITMIME, 8bitmime)                                                                          \
    X(ENHANCED, enhancedstatuscodes)                                                               \
    X(SIZE, size)                                                                                  \
    X(STARTTLS, starttls)

enum rule_offer_bit {
#define RULE_OFFER_BIT(name, word) RULE_OFFER_BIT_##name,
    RULE_OFFERS(RULE_OFFER_BIT)
#undef RULE_OFFER_BIT
        RULE_OFFER_COUNT,
};

#define RULE_OFFER(name) (1u << RULE_OFFER_BIT_##name)

struct rule_event {
    enum rule_stage stage;
    struct slice rcpt;
    struct slice sender; /* may be empty unless rules_want_sender */
    const struct ipaddr *client;
    const struct ipaddr *called;
    uint64_t client_connections;
    uint64_t all_connections;
    uint64_t connection_messages;
    uint64_t connection_commands;
    uint64_t transaction_rcpts;
    uint64_t age_ns; /* of the receiver; never goes back */
};

struct rule_verdict {
    enum rule_action action;
    const char *reply; /* RULE_REPLY, RULE_SAY: without the last CR LF; of the rules' lifetime */
    size_t reply_len;
    uint64_t delay_ms;
    uint32_t cut; /* RULE_UNCUT, or so many octets of the reply leave before the end */
    bool ends;    /* after the reply the connection is closed */
};

struct rules;

struct rules *rules_create(void);
void rules_destroy(struct rules *rules);
/*
 * Seconds in rules that are added from now on pass so many times faster: descriptions with the
 * times of life, played in a short test. 1 at first, at least 1.
 */
void rules_set_pace(struct rules *rules, double pace);
/* One line; empty ones and comments are fine. 0, or E_SYNTAX, E_UNKNOWN, E_RANGE, E_TOO_LONG. */
int rules_add(struct rules *rules, const char *line);
/* Several lines; *ret_line is the line of an error. */
int rules_add_text(struct rules *rules, const char *text, unsigned *ret_line);
/* A whole file, likewise; also -errno. */
int rules_load(struct rules *rules, const char *path, unsigned *ret_line);

/* Whether any rule speaks of the stage: the usual answer is no, and costs nothing. */
bool rules_speak_of(const struct rules *rules, enum rule_stage stage);
/* Whether any rule asks for the address in MAIL. */
bool rules_want_sender(const struct rules *rules);
uint64_t rules_lag_ms(const struct rules *rules);
/* RULE_OFFER bits; `usual` when no line says. */
uint32_t rules_offers(const struct rules *rules, uint32_t usual);
void rules_ask(struct rules *rules, const struct rule_event *event, struct rng *rng,
               struct rule_verdict *ret_verdict);

/*
 * The first digit of the reply that the client is meant to get, '\0' when the verdict says that
 * there is none: what counts for the receiver's own state, cut or not.
 */
char rule_verdict_class(const struct rule_verdict *verdict, const char *usual_reply);

/* How many rules there are, and how often the one at `index`, counted from 0, decided or delayed.
 */
uint32_t rules_count(const struct rules *rules);
uint64_t rules_played(const struct rules *rules, uint32_t index);
