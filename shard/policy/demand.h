/*
 * demand: how many connections a lane (one destination seen from one source address) should have.
 *
 * A connection costs both ends more than a message does, so one more is asked for only while it
 * pays. Two things decide:
 *
 *   - what waits: as many connections as would clear the backlog within DEMAND_CLEAR_MS at the pace
 *     that one connection has shown. A receiver that takes its time for each message thus gets a
 *     connection for each message that waits, one that answers at once keeps few busy;
 *   - what the last growth brought: where a connection serves fast, the limit is likelier a
 *     processor (ours or theirs) than the way between, and more connections share what there is.
 *     There the number is doubled on trial, and only stays when the rate has grown by half of the
 *     addition at least; else it falls back, and is tried again after DEMAND_HOLD_MS.
 *
 * A receiver is slow, and never on trial, while even the fastest of its recent transactions took
 * DEMAND_SLOW_MS: one long pause of our own machine does not make it so.
 *
 * Until the first answer nothing is known of a receiver that greets at once and takes its time over
 * each message. There DEMAND_SLOW_MS of silence double the number, up to DEMAND_SILENT_MAX, on
 * credit: what was opened so proves nothing, and goes again when the first message that is begun
 * after that answer is quick.
 *
 * Growth is never steeper than a doubling with each round of connections: for each that comes up
 * one more may be opening beside (the window). One that fails brings it back to one, so that a
 * receiver that was away is not met by everything at once.
 *
 * A value of its owner: one thread, no I/O, pure functions of the arguments. Times in nanoseconds
 * of one monotonic clock.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define DEMAND_CLEAR_MS   100
#define DEMAND_SLOW_MS    50
#define DEMAND_LOOK_MS    5
#define DEMAND_TRIAL_MS   200
#define DEMAND_HOLD_MS    5000
#define DEMAND_START      2
#define DEMAND_SILENT_MAX 32
#define DEMAND_MAX        65536

struct demand {
    uint64_t rcpt_ns;    /* mean time of a connection for a recipient; 0 = nothing served yet */
    uint64_t fastest_ns; /* of the transactions of this round; UINT64_MAX = none */
    uint64_t fastest_before_ns; /* of the round before */
    uint64_t span_start_ns;     /* rate is measured since; 0 = not */
    uint64_t hold_until_ns;
    uint64_t look_again_ns;
    uint64_t silent_until_ns; /* the first answer came after a silence; 0 = it did not */
    uint32_t span_rcpts;
    uint32_t round_count; /* transactions of this round */
    uint32_t window;      /* connections that may be opening at once */
    uint32_t allowed;     /* connections of a fast receiver: proven, or on trial */
    uint32_t proven;
    uint32_t proven_rate; /* recipients a second with so many */
    uint32_t on_credit; /* connections that silence speaks for; 0 = there was none, or it is over */
    bool has_served;
};

void demand_init(struct demand *demand);
/* A connection came up after setup_ns, or failed to. */
void demand_on_connected(struct demand *demand, uint64_t setup_ns);
void demand_on_connect_failed(struct demand *demand);
/* A transaction of rcpt_count recipients kept its connection busy from begun_ns until now. */
void demand_on_served(struct demand *demand, uint64_t begun_ns, uint64_t now_ns,
                      uint32_t rcpt_count);
/* Nothing was answered yet, and a transaction has waited DEMAND_SLOW_MS, or so much longer than at
 * the call before. */
void demand_on_silence(struct demand *demand);
/* A connection found nothing to do: what is measured now is not what connections could do. */
void demand_on_idle(struct demand *demand);
/*
 * Recipients waiting that would ask for one connection more than open_count; UINT32_MAX when
 * nothing would, or not yet: a fast receiver's backlog is worth a look only every DEMAND_LOOK_MS.
 * The caller need not count further. Called when no connection is idle.
 */
uint32_t demand_backlog_needed(struct demand *demand, uint64_t now_ns, uint32_t open_count,
                               uint32_t connecting_count);
/* So many do wait: whether one connection more than open_count may be opened. Moves trials on. */
bool demand_may_open(struct demand *demand, uint64_t now_ns, uint32_t open_count,
                     uint32_t connecting_count);
/* Connections beyond a failed trial: one that has just served may go. */
bool demand_is_surplus(const struct demand *demand, uint32_t open_count);
