/*
 * ledger: what the outside world knows: what was answered, accepted, refused, and when.
 *
 * Lives outside of every simulated process, so no crash touches it. Injectors and receivers write
 * it, ledger_check reads it at the end. Loss, doubles without an excuse, early retries and changed
 * contents are violations; each is printed with its message.
 */
#pragma once

#include "core/base/rng.h"
#include "core/base/slice.h"

#include <stdbool.h>
#include <stdint.h>

#define LEDGER_RCPTS_MAX   4
#define LEDGER_CRASHES_MAX 64

/*
 * When something happened: now, and on a connection opened when. Bytes of a dead life may still
 * arrive after its end; what happens on such a connection no life will ever know.
 */
struct ledger_time {
    uint64_t now_ns;
    uint64_t opened_ns;
};

struct ledger_rcpt {
    uint32_t accepted_count;
    struct ledger_time accepted; /* the last time */
    struct ledger_time offered;  /* the last time */
    struct ledger_time deferred; /* a 4xx for this recipient, the last time; 0 = never */
    bool reply_in_doubt;         /* the last acceptance's reply may not have been seen */
    bool is_refused;             /* a 5xx was answered */
    bool is_noticed;             /* its sender was told that it failed */
    uint64_t notice;             /* by which message, a hash */
};

struct ledger_message {
    uint64_t answered_ns; /* the 250; 0 = not answered */
    uint16_t domain;
    uint8_t rcpt_count;
    bool is_refused; /* the answer to its content was no: nobody may ever see it */
    struct ledger_rcpt rcpts[LEDGER_RCPTS_MAX];
};

struct ledger_crash {
    uint64_t from_ns; /* the log took no outcomes from here on */
    uint64_t at_ns;
};

struct ledger {
    struct ledger_message *messages;
    uint32_t count;
    uint32_t next;   /* the first number that was never given out */
    uint32_t *again; /* numbers to be given out again */
    uint32_t again_count;
    uint32_t answered;
    uint32_t domain_count;
    uint64_t retry_min_ns;    /* no attempt sooner than this after a 4xx */
    uint64_t crash_window_ns; /* outcomes younger than this may be lost by a crash */
    struct ledger_crash crashes[LEDGER_CRASHES_MAX];
    uint32_t crash_count;
    uint32_t violations;
    uint32_t doubles_excused;
    uint64_t notices_given_up; /* by the product, for want of space: so many may be missing */
    uint32_t notices;          /* recipients whose failure was told */
    uint32_t notices_doubled;
    bool is_quiet; /* count violations without printing: a planted bug is on */
};

void ledger_init(struct ledger *ledger, uint32_t count, uint32_t domain_count, struct rng *rng);
/* Domain 0 gets half of what goes to others too. */
void ledger_heat(struct ledger *ledger, struct rng *rng);
void ledger_fini(struct ledger *ledger);
/* A life ended. Its log took no outcomes from from_ns on, UINT64_MAX = it did to the end. */
void ledger_crash(struct ledger *ledger, uint64_t now_ns, uint64_t from_ns);

/* The number of the next message to inject; not after ledger_all_sent. */
uint32_t ledger_take_next(struct ledger *ledger);
/* Nothing of it was taken: somebody shall send it again. */
void ledger_give_back(struct ledger *ledger, uint32_t number);
bool ledger_all_sent(const struct ledger *ledger);

uint32_t ledger_line_count(uint32_t number);
/* Content lines (without line ends) of message `number`: false after the last. */
bool ledger_line(uint32_t number, uint32_t line, char *room, size_t room_bytes);

/* A recipient "u7.1@d3.test" by number and ordinal; false when it is none of ours. */
bool ledger_parse_rcpt(struct slice text, uint32_t *ret_number, uint32_t *ret_ordinal);

/*
 * A receiver was offered a recipient, and answered it 4xx: an attempt sooner than allowed is a
 * violation. Told when the client has read the replies for certain, so not always in order: what
 * is still on its way on a connection that the client has given up proves nothing.
 */
void ledger_offered(struct ledger *ledger, uint32_t number, uint32_t ordinal,
                    struct ledger_time time);
void ledger_deferred(struct ledger *ledger, uint32_t number, uint32_t ordinal,
                     struct ledger_time time);
void ledger_refused(struct ledger *ledger, uint32_t number, uint32_t ordinal);
void ledger_accepted(struct ledger *ledger, uint32_t number, uint32_t ordinal,
                     struct ledger_time time);
/* The connection ended right after the reply to an acceptance. */
void ledger_doubt(struct ledger *ledger, uint32_t number, uint32_t ordinal);
/* The sender got a notice that the recipient has failed; notice: which message it was. Another one
 * for the same recipient is a violation unless there was a crash since the message was taken. */
void ledger_noticed(struct ledger *ledger, uint32_t number, uint32_t ordinal, uint64_t notice);
void ledger_violation(struct ledger *ledger, uint32_t number, const char *text);

/* Every answered recipient was accepted or refused. */
bool ledger_is_complete(const struct ledger *ledger);
/* What is missing counts as lost; returns the number of violations in all. */
uint32_t ledger_check(struct ledger *ledger);
