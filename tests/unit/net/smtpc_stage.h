/*
 * smtpc_stage: the SMTP client against a scripted receiver, in the simulator.
 *
 * A scene is a receiver's script, what the client is asked to send, and what it must report. One
 * run plays one connection in a world of its own, with virtual time, and checks besides: every
 * recipient is told exactly once, the calls come in the order of the contract, the script was
 * played to its end, and no memory or descriptor is left behind.
 */
#pragma once

#include "net/smtpc.h"
#include "tests/sim/sim.h"

#include "tests/unit/core_base/unit.h"

enum step_kind {
    STEP_END, /* of the script: nothing more is said or expected */
    STEP_SEND,
    STEP_EXPECT, /* exactly this line */
    STEP_BODY,   /* lines up to the dot; text: what they must be, NULL = anything */
    STEP_FLOOD,  /* sends text n times */
    STEP_WAIT,   /* n milliseconds */
    STEP_CLOSE,
    STEP_RESET,
    STEP_HALF_CLOSE,
    STEP_PAUSE, /* reads nothing any more */
    STEP_PROBE, /* n milliseconds in which nothing may arrive */
};

struct step {
    enum step_kind kind;
    const char *text;
    uint64_t n;
};

#define SEND(bytes)                                                                                \
    {                                                                                              \
        .kind = STEP_SEND, .text = (bytes)                                                         \
    }
#define EXPECT(line)                                                                               \
    {                                                                                              \
        .kind = STEP_EXPECT, .text = (line)                                                        \
    }
#define BODY                                                                                       \
    {                                                                                              \
        .kind = STEP_BODY                                                                          \
    }
#define BODY_IS(bytes)                                                                             \
    {                                                                                              \
        .kind = STEP_BODY, .text = (bytes)                                                         \
    }
#define FLOOD(bytes, count)                                                                        \
    {                                                                                              \
        .kind = STEP_FLOOD, .text = (bytes), .n = (count)                                          \
    }
#define WAIT_MS(ms)                                                                                \
    {                                                                                              \
        .kind = STEP_WAIT, .n = (ms)                                                               \
    }
#define PROBE_MS(ms)                                                                               \
    {                                                                                              \
        .kind = STEP_PROBE, .n = (ms)                                                              \
    }
#define CLOSE                                                                                      \
    {                                                                                              \
        .kind = STEP_CLOSE                                                                         \
    }
#define RESET                                                                                      \
    {                                                                                              \
        .kind = STEP_RESET                                                                         \
    }
#define HALF_CLOSE                                                                                 \
    {                                                                                              \
        .kind = STEP_HALF_CLOSE                                                                    \
    }
#define PAUSE                                                                                      \
    {                                                                                              \
        .kind = STEP_PAUSE                                                                         \
    }
#define END                                                                                        \
    {                                                                                              \
        .kind = STEP_END                                                                           \
    }

/* The openings that most scripts begin with. */
#define HELLO        SEND("220 mx.example ESMTP\r\n"), EXPECT("EHLO out.example")
#define OFFER(lines) SEND("250-mx.example at your service\r\n" lines)
#define PIPELINED    HELLO, OFFER("250-PIPELINING\r\n250 8BITMIME\r\n")
#define PLAIN        HELLO, OFFER("250 8BITMIME\r\n")
#define MAIL_0       EXPECT("MAIL FROM:<sender@out.example>")
#define RCPT_0       EXPECT("RCPT TO:<r0@example.org>")
#define RCPT_1       EXPECT("RCPT TO:<r1@example.org>")
#define RCPT_2       EXPECT("RCPT TO:<r2@example.org>")
#define DATA         EXPECT("DATA")
#define BYE          EXPECT("QUIT"), SEND("221 bye\r\n"), CLOSE

#define SCENE_RCPT_MAX        100
#define SCENE_TRANSACTION_MAX 8

/* What must be reported; class alone is always checked, the rest where it is not ANY. */
#define ANY -1
struct expected_verdict {
    int class;
    int code;
    int stage;
    int scope;
    int flags;
};

struct scene {
    const char *name;
    struct step steps[64];      /* ends with END */
    uint32_t rcpt_count;        /* 0 = 1 */
    uint32_t transaction_count; /* 0 = 1; one after the other, as far as the connection lasts */
    struct smtpc_transaction transaction; /* sender, content and rcpts are filled in when empty */
    void (*tune)(struct smtpc_options *options);
    /* Of the first transaction, one by one; the last row stands for the rest. */
    struct expected_verdict rcpts[4];
    struct expected_verdict closed;
    unsigned ready_count; /* 0 or 1 */
    unsigned done_count;  /* transactions that ended */
    unsigned continued;   /* of which the connection could go on */
    uint64_t seconds_min; /* from the first step to the end; 0 = any */
    uint64_t seconds_max;
    bool is_cut_sensitive; /* the outcome hangs on what arrives together: not run with faults */
    bool quits_never;      /* the owner leaves the idle connection alone */
    bool aborts_in_rcpt;   /* the owner aborts from inside on_rcpt */
};

/* Everything that one run showed. */
struct play {
    const struct scene *scene;
    struct verdict verdicts[SCENE_TRANSACTION_MAX][SCENE_RCPT_MAX];
    uint8_t told[SCENE_TRANSACTION_MAX][SCENE_RCPT_MAX];
    struct verdict closed;
    unsigned ready_count;
    unsigned done_count;
    unsigned continued;
    unsigned closed_count;
    unsigned extensions;
    uint64_t size_limit;
    char extension_text[128];
    uint32_t transaction_count; /* smtpc_transaction_count at the end */
    uint64_t lasted_ns;
    unsigned steps_played;
    bool script_ended;
    char trouble[256];   /* the script's complaint */
    uint64_t body_bytes; /* of all bodies of the script */
    uint64_t body_hash;  /* of the bytes, by stage_hash */
};

/* A running hash of bytes. */
#define STAGE_HASH_START 14695981039346656037u
uint64_t stage_hash(uint64_t hash, struct slice bytes);

/* Plays a scene once; faults: segments and reads are cut and delayed as TCP may do. */
void stage_play(const struct scene *scene, uint64_t seed, bool with_faults, struct play *ret_play);
/* Plays it and asserts what the scene says. */
void stage_check(const struct scene *scene, uint64_t seed, bool with_faults);
/* All scenes: once as they are, then with many seeds and faults. */
void stage_check_all(const struct scene *scenes, size_t count);
