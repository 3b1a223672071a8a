/*
 * notice: mail that the shard writes itself: failure notices (DSNs) to senders, copies of what was
 * delivered, and notes to operators (note.h).
 *
 * A failure notice is durable before its recipient's outcome is given to the log: the outcome is
 * held here until the notice's append has been answered. So a failure is never without its notice,
 * and a crash between the two repeats the attempt and the notice: at most one double each crash.
 * Recipients of one transaction that fail share a notice. One that the spool does not take waits
 * and is tried again each second, and so is one that finds no memory, then without the original;
 * while many wait, no delivery is started. When the spool has had no space for notices for a
 * minute, they are given up until it has: each outcome holds space that only its end sets free. A
 * stop leaves what waits undone: the log knows no outcome, and the attempt is made again after the
 * start.
 *
 * Nothing is written for the null sender, for mail that was written here, or for what an operator
 * deleted. All of it belongs to the shard's thread; mail that nobody wants a notice of costs a
 * comparison.
 */
#pragma once

#include "core/base/list.h"
#include "core/base/slab.h"
#include "core/io/io.h"
#include "core/obs/outcome.h"

struct conf_queue;
struct settle_facts;
struct dsn_facts;
struct delivery;
struct message;
struct outcome_parcel;
struct shard;
struct signing;
struct text;
struct wire_writer;

/* What an outcome waits for. */
enum notice_want {
    NOTICE_NONE,
    NOTICE_OF_FAILURE,
    NOTICE_OF_RELAY, /* delivered where nobody else can tell the sender */
    NOTICE_COPY,     /* bcc-upon-delivery; goes before a notice of relay */
    NOTICE_OF_DELAY, /* the outcome does not wait: it is not promised */
};

/* Mail in the making. Slab object. */
struct notice {
    struct list link; /* in notices.waiting, while it cannot be appended */
    struct list held; /* outcomes, by request.link */
    struct message *message;
    struct signing *signing; /* while its signatures are being made */
    void (*then)(struct shard *, struct notice *);
    uint32_t index;
};

struct notices {
    struct slab slab;
    struct list waiting;
    struct list unwritten;  /* outcomes whose notice found no memory, by request.link */
    struct io_timer timer;  /* what waits is tried again */
    uint64_t written;       /* durable */
    uint64_t lost;          /* copies for which there was no memory */
    uint64_t given_up;      /* for which there was no space for a minute */
    uint64_t full_since_ns; /* the first refusal for want of space of those in a row */
    bool are_given_up;      /* and the log says so */
    uint64_t full_at_ns;    /* the last one; 0 = a notice was written since */
};

/* More than this many notices that are not durable yet: no further delivery is started. */
#define NOTICES_OPEN_MAX 1024u
#define NOTICES_MAX      65536u

void notice_init(struct shard *shard);
void notice_fini(struct shard *shard);
/* What the outcome of a recipient asks for. */
enum notice_want notice_wanted(const struct conf_queue *settings, const struct outcome *outcome,
                               const struct settle_facts *facts);
/* The outcome goes home now, or is held by the delivery until notice_end. */
void notice_pass(struct shard *shard, struct delivery *delivery, struct outcome_parcel *parcel);
/* All recipients of the delivery are settled: writes what their outcomes ask for. The delivery's
 * message is still there; it need not be afterwards. */
void notice_end(struct shard *shard, struct delivery *delivery);
/* The spool's answer to a message that no intake waits for. */
void notice_on_appended(struct shard *shard, struct message *message);
/* True when deliveries should not be started. */
bool notice_is_full(const struct shard *shard);
/* Outcomes of notices that wait: at a stop nothing waits for them. */
uint32_t notice_held_count(const struct shard *shard);
/*
 * A message of this shard's own to these recipients (encoded as in struct envelope) by the virtual
 * MTA of that name, or by {default}. write() puts the content. False when there is no memory.
 */
struct notice_mail {
    struct slice sender;
    struct slice rcpts;
    uint32_t rcpt_count;
    struct slice vmta;
    size_t content_bytes_max;
    bool is_signed; /* as other mail to these recipients; not for a copy, which is signed already */
    bool must_be_signed; /* else nothing is sent, and the answer is false */
};
bool notice_send(struct shard *shard, const struct notice_mail *mail,
                 void (*write)(void *context, struct slice id, struct text *text,
                               struct dsn_facts *ret_facts),
                 void *context, struct list *held);
/* Appends a recipient to notice_mail.rcpts; false when the text is no address. */
bool notice_put_rcpt(struct slice text, struct wire_writer *w);
