/*
 * smtpd_stage: the SMTP server in the simulator, a taker that records, and scripted clients.
 *
 * The stage checks besides: no session, message, descriptor or memory of the server is left when it
 * closes.
 */
#pragma once

#include "net/smtpd.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_peer.h"
#include "tests/unit/core_base/unit.h"
#include "tests/unit/net/fake_intake.h"

#define MS(n) ((uint64_t)(n)*1000000)
#define S(n)  ((uint64_t)(n)*1000000000)

#define STAGE_HOST "mx.example"

struct stage {
    struct sim_world *world;
    struct sim_process *process;
    struct io *io;
    struct smtpd *server;
    struct fake_intake fake;
    struct sim_peer *peer; /* the program of all clients */
    struct ipaddr_port at;
    struct io_timer answer_timer;
    struct io_timer resume_timer;
    struct io_timer stop_timer;
    int listen_fd;
    uint16_t answer_code;
    bool stopped;
    bool resumed;
};

struct client {
    struct stage *stage;
    struct sim_peer_conn *conn; /* NULL when it has ended */
    int32_t reason;
    uint32_t pieces; /* how many times octets arrived */
    size_t out_bytes;
    size_t read; /* of out, by client_read */
    char out[1 << 16];
};

/* options: NULL = 50 sessions and the defaults. */
void stage_open(struct stage *stage, uint64_t seed, const struct smtpd_options *options);
/* The same, but clients' octets arrive in small pieces at odd times. */
void stage_crumble(struct stage *stage);
void stage_close(struct stage *stage);
/* All of these happen in the server's next turn, where the clock is right. */
void stage_stop_server(struct stage *stage);
void stage_resume(struct stage *stage); /* by fake_resume */
void stage_answer(struct stage *stage, uint16_t code);

void client_connect(struct stage *stage, struct client *client);
/* Connects, waits for the greeting, says EHLO, waits for the answer and forgets both. */
void client_greet(struct stage *stage, struct client *client);
void client_send(struct client *client, const char *text);
void client_send_bytes(struct client *client, const void *bytes, size_t len);
/* Waits for `count` more whole replies, at most an hour of virtual time, and checks their codes:
 * "250 250 354". A "." at the end says that the server then closes. */
void client_expect(struct client *client, const char *codes);
/* Waits until the server has closed. */
void client_expect_end(struct client *client);
/* Nothing more comes within so long. */
void client_expect_silence(struct client *client, uint64_t ns);
void client_drop(struct client *client);

/* One connection: greeting, everything in one go, all codes until the end. Returns "220 250 …", in
 * memory of its own that the next call overwrites. */
const char *stage_converse(struct stage *stage, const void *bytes, size_t len);
/* Fails the test when the codes differ. */
void stage_expect(struct stage *stage, const char *text, const char *codes);
