/*
 * gate: what must be asked in one place before a message is taken, whichever shard it came in on:
 * whether its recipients have had it already (dedup-window), and whether its source may inject so
 * many (max-rcpt-in-rate). Failed logins are counted here too (login.h).
 *
 * Who is asked follows from a hash, so nothing about it is agreed. A question is a parcel that its
 * asker lends and that comes back as the answer; where asker and asked are one shard no parcel
 * travels. A recipient that is claimed is pending until gate_settle says whether the message was
 * accepted: who asks meanwhile is told to come again, and a message that was not accepted leaves
 * nothing behind, so its repetition is taken.
 *
 * Memory: at most GATE_ENTRIES_MAX recipients are remembered on each shard, 48 bytes each and their
 * place in a table; the oldest is forgotten for a new one. Recipients are counted in GATE_SPANS
 * parts of the interval, rounded so that no interval ever holds more than the limit. Of counts
 * there are GATE_COUNTS_MAX for recipients and as many for logins; one goes when its interval is
 * over, and the one that was used longest ago for a new one. All of it begins anew with the
 * process. Belongs to the shard's thread.
 */
#pragma once

#include "core/base/hash.h"
#include "core/base/list.h"
#include "core/base/slab.h"
#include "core/io/mailbox.h"

#define GATE_ENTRIES_MAX 1048576u
#define GATE_COUNTS_MAX  65536u
#define GATE_SPANS       60u

struct shard;

struct gate_key {
    uint64_t a;
    uint64_t b;
};

enum gate_kind {
    GATE_CLAIM,  /* of the keys: which are known? The others become pending */
    GATE_SETTLE, /* what this message claimed is known from now on, or is nothing */
    GATE_COUNT,  /* recipients more, if they may be; failed logins likewise */
    GATE_LOOK,   /* could so many more be counted? */
};

enum gate_answer {
    GATE_YES,  /* CLAIM: none was known. COUNT: they were counted */
    GATE_SOME, /* some were known: their keys are zero now */
    GATE_ALL,  /* all were known: twin_id is the message that they have had */
    GATE_BUSY, /* somebody else has one of them pending, or there is no room: nothing is claimed */
    GATE_NO,   /* too many in the interval */
    GATE_NO_FIRST, /* the same, for the first time since one was let through */
};

struct gate_ask {
    struct parcel parcel;
    void *context; /* the asker's */
    /* Who gets the answer; NULL = the message that is the context. */
    void (*on_answer)(struct gate_ask *ask);
    struct gate_key *keys;
    uint32_t key_count;
    uint32_t rcpt_count;
    uint64_t message_id;
    uint64_t twin_id;
    uint64_t span_ms; /* the window, or the interval */
    uint64_t limit;   /* of recipients in the interval */
    uint64_t limit_key;
    uint16_t asker;
    uint8_t kind;   /* enum gate_kind */
    uint8_t answer; /* enum gate_answer */
    bool is_accepted;
    bool is_login; /* what is counted: strangers' failures take no place of what users inject */
};

struct gate_counts {
    struct slab slab;
    struct table by_limit;
    struct list order; /* as they were used */
};

struct gate {
    struct slab entries;
    struct table by_key;
    struct list order; /* of entries, as they were claimed */
    struct gate_counts rcpts;
    struct gate_counts logins;
};

void gate_init(struct gate *gate);
void gate_fini(struct gate *gate);
/* The whole of it in place: fills in the answer. now_ms: monotonic. */
void gate_decide(struct gate *gate, struct gate_ask *ask, uint64_t now_ms);
/* One key of a text: of a source, then of each part of what makes a message the same. */
struct gate_key gate_key_of(struct gate_key base, struct slice text);
