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
#include "net/tls.h"
#include "tests/sim/sim.h"

#include "tests/unit/core_base/unit.h"

enum step_kind {
    STEP_END, /* of the script: nothing more is said or expected */
    STEP_SEND,
    STEP_EXPECT,    /* exactly this line */
    STEP_BODY,      /* lines up to the dot; text: what they must be, NULL = anything */
    STEP_SLOW_BODY, /* the same, with a pause of n milliseconds after each piece */
    STEP_FLOOD,     /* sends text n times */
    STEP_WAIT,      /* n milliseconds */
    STEP_CLOSE,
    STEP_RESET,
    STEP_HALF_CLOSE,
    STEP_PAUSE, /* reads nothing any more */
    STEP_PROBE, /* n milliseconds in which nothing may arrive */
    STEP_TLS,   /* from here on the receiver speaks TLS */
    STEP_DEAF,  /* from here on what arrives is thrown away */
};

struct step {
    enum step_kind kind;
    const char *text;
    uint64_t n;
};

#define STEP(kind, text, n)                                                                        \
    {                                                                                              \
        kind, text, n                                                                              \
    }
#define SEND(bytes)         STEP(STEP_SEND, bytes, 0)
#define EXPECT(line)        STEP(STEP_EXPECT, line, 0)
#define BODY                STEP(STEP_BODY, NULL, 0)
#define BODY_IS(bytes)      STEP(STEP_BODY, bytes, 0)
#define SLOW_BODY(ms)       STEP(STEP_SLOW_BODY, NULL, ms)
#define FLOOD(bytes, count) STEP(STEP_FLOOD, bytes, count)
#define WAIT_MS(ms)         STEP(STEP_WAIT, NULL, ms)
#define PROBE_MS(ms)        STEP(STEP_PROBE, NULL, ms)
#define DEAF                STEP(STEP_DEAF, NULL, 0)
#define START_TLS           STEP(STEP_TLS, NULL, 0)
#define CLOSE               STEP(STEP_CLOSE, NULL, 0)
#define RESET               STEP(STEP_RESET, NULL, 0)
#define HALF_CLOSE          STEP(STEP_HALF_CLOSE, NULL, 0)
#define PAUSE               STEP(STEP_PAUSE, NULL, 0)
#define END                 STEP(STEP_END, NULL, 0)

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
#define OK           SEND("250 2.0.0 ok\r\n")
#define GO           SEND("354 go\r\n")
#define MESSAGE      BODY_IS("Subject: hi\r\n\r\n..hello\r\n") /* the stage's own */
#define BYE          EXPECT("QUIT"), SEND("221 bye\r\n"), CLOSE

#define SCENE_RCPT_MAX        100
#define SCENE_TRANSACTION_MAX 8
#define SCENE_PIECE_MAX       6

/* What must be reported; class alone is always checked, the rest where it is not ANY. */
#define ANY -1
struct expected_verdict {
    int class;
    int code;
    int stage;
    int scope;
    int flags;
};

#define TOLD(class, code, stage, scope, flags)                                                     \
    {                                                                                              \
        class, code, stage, scope, flags                                                           \
    }
#define SAID(class, code, stage, scope) TOLD(class, code, stage, scope, VERDICT_FROM_REPLY)

#define LOST(stage, flags) TOLD(VERDICT_TRANSIENT, 421, stage, VERDICT_SESSION, flags)

#define BROKEN(stage, flags) TOLD(VERDICT_TRANSIENT, 421, stage, ANY, VERDICT_PROTOCOL | (flags))

#define TAKEN    SAID(VERDICT_SUCCESS, 250, VERDICT_AT_DOT, VERDICT_MESSAGE)
#define IN_ORDER TOLD(VERDICT_SUCCESS, 221, VERDICT_AT_IDLE, VERDICT_SESSION, 0)
#define FLIGHT_0 MAIL_0, RCPT_0, DATA
/* One message went out, and QUIT after it. */
#define FINISHED .closed = IN_ORDER, .ready_count = 1, .done_count = 1, .continued = 1

struct scene {
    const char *name;
    struct step steps[64];      /* ends with END */
    uint32_t rcpt_count;        /* 0 = 1 */
    uint32_t transaction_count; /* 0 = 1; one after the other, as far as the connection lasts */
    /* Sender, content and rcpts are filled in when empty: content with a stuffed dot, or
     * without when it may go as a chunk. */
    struct smtpc_transaction transaction;
    /* The content piece by piece, handed over when on_content asks for it: the first with the
     * transaction unless it is empty. What has left is spoilt. content_bytes is their sum. */
    const char *pieces[SCENE_PIECE_MAX];
    uint32_t piece_times;  /* each of them so many times over; 0 = 1 */
    uint64_t piece_ms;     /* until the next one is there; 0 = from inside on_content */
    unsigned piece_aborts; /* instead of handing over this one the owner aborts; 0 = none */
    void (*tune)(struct smtpc_options *options);
    void (*weather)(struct sim_world *world); /* before the client opens its connection */
    /* Contexts of the receiver, for START_TLS, and of the client. */
    const struct tls_settings *tls_server;
    const struct tls_settings *tls_client;
    /* Of the first transaction, one by one; the last row stands for the rest. */
    struct expected_verdict rcpts[4];
    struct expected_verdict second[4]; /* of the second; code 0 = not checked */
    struct expected_verdict closed;
    unsigned ready_count;  /* 0 or 1 */
    unsigned done_count;   /* transactions that ended */
    unsigned continued;    /* of which the connection could go on */
    unsigned returned;     /* transactions that came back */
    unsigned pieces_given; /* by smtpc_continue */
    uint64_t seconds_min;  /* from the first step to the end; 0 = any */
    uint64_t seconds_max;
    bool is_cut_sensitive; /* the outcome hangs on what arrives together: not run with faults */
    bool quits_never;      /* the owner leaves the idle connection alone */
    bool aborts_in_rcpt;   /* the owner aborts from inside on_rcpt */
    bool sends_ahead;      /* each transaction but the first is handed over when one ends */
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
    unsigned returned;
    unsigned pieces_given; /* by smtpc_continue */
    unsigned closed_count;
    unsigned extensions;
    uint64_t size_limit;
    char extension_text[128];
    uint32_t transaction_count; /* smtpc_transaction_count at the end */
    uint64_t lasted_ns;
    unsigned steps_played;
    bool script_ended;
    char tls_protocol[16]; /* at the end, "" = none was secured */
    bool was_distrusted;
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
