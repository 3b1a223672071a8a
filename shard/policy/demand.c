#include "shard/policy/demand.h"

#include <string.h>

#define MS_NS 1000000ull

/* Transactions of a round; the fastest of this one and the one before says whether it is slow. */
#define ROUND_COUNT     8
/* A span of a trial must hold so many recipients for each connection, or its rate says little. */
#define SPAN_RCPTS_EACH 8

void demand_init(struct demand *demand)
{
    *demand = (struct demand){
        .fastest_ns = UINT64_MAX,
        .fastest_before_ns = UINT64_MAX,
        .window = DEMAND_START,
        .allowed = DEMAND_START,
        .proven = DEMAND_START,
    };
}

static uint64_t fastest(const struct demand *demand)
{
    return demand->fastest_ns < demand->fastest_before_ns ? demand->fastest_ns
                                                          : demand->fastest_before_ns;
}

static bool is_slow(const struct demand *demand)
{
    uint64_t ns = fastest(demand);

    return ns != UINT64_MAX && ns >= DEMAND_SLOW_MS * MS_NS;
}

static void note_time(struct demand *demand, uint64_t ns)
{
    if (ns < demand->fastest_ns)
        demand->fastest_ns = ns;
    if (++demand->round_count < ROUND_COUNT)
        return;
    demand->fastest_before_ns = demand->fastest_ns;
    demand->fastest_ns = UINT64_MAX;
    demand->round_count = 0;
}

void demand_on_connected(struct demand *demand, uint64_t setup_ns)
{
    /* Three round trips at least (RFC 5321 3.1: greeting and EHLO come after TCP's own): the best
     * guess of what a message will take until the first one has been sent. */
    if (demand->rcpt_ns == 0) {
        demand->rcpt_ns = setup_ns > 0 ? setup_ns : 1;
        note_time(demand, demand->rcpt_ns);
    }
    if (demand->window < DEMAND_MAX)
        demand->window++;
}

void demand_on_connect_failed(struct demand *demand)
{
    demand->window = 1;
    demand->on_credit = 0;
}

void demand_on_silence(struct demand *demand)
{
    /* Where setting up took long already, that is known without it. */
    if (demand->has_served || is_slow(demand) || demand->on_credit >= DEMAND_SILENT_MAX)
        return;
    demand->on_credit = demand->on_credit > 0 ? 2 * demand->on_credit : 2 * DEMAND_START;
}

void demand_on_served(struct demand *demand, uint64_t begun_ns, uint64_t now_ns,
                      uint32_t rcpt_count)
{
    uint64_t busy_ns = now_ns - begun_ns;
    uint64_t each = busy_ns / (rcpt_count > 0 ? rcpt_count : 1);

    if (!demand->has_served) {
        /* The guess has done its duty. */
        demand->has_served = true;
        demand->rcpt_ns = each;
        demand->fastest_ns = UINT64_MAX;
        demand->round_count = 0;
        demand->silent_until_ns = demand->on_credit > 0 ? now_ns : 0;
    }
    /* Those that were begun in the silence say nothing but that it was. */
    if (begun_ns >= demand->silent_until_ns) {
        demand->on_credit = 0;
        note_time(demand, busy_ns);
    }
    demand->rcpt_ns = demand->rcpt_ns - demand->rcpt_ns / 8 + each / 8;
    if (demand->rcpt_ns == 0)
        demand->rcpt_ns = 1;
    demand->span_rcpts += rcpt_count;
}

void demand_on_idle(struct demand *demand)
{
    demand->span_start_ns = 0;
}

static void span_start(struct demand *demand, uint64_t now_ns)
{
    demand->span_start_ns = now_ns > 0 ? now_ns : 1;
    demand->span_rcpts = 0;
}

static void trial_start(struct demand *demand, uint32_t rate)
{
    demand->proven = demand->allowed;
    demand->proven_rate = rate;
    if (demand->allowed < DEMAND_MAX)
        demand->allowed *= 2;
}

/* A span is over, measured with `allowed` connections that all had work. */
static void judge(struct demand *demand, uint64_t now_ns, uint32_t rate)
{
    /* Doubled: paid when at least half of the addition works. */
    bool has_paid = (uint64_t)rate * 2 >= (uint64_t)demand->proven_rate * 3;

    if (demand->allowed > demand->proven && !has_paid) {
        demand->allowed = demand->proven;
        demand->hold_until_ns = now_ns + DEMAND_HOLD_MS * MS_NS;
    } else if (now_ns >= demand->hold_until_ns) {
        trial_start(demand, rate);
    }
}

/* All that is allowed is open and has work. */
static void measure(struct demand *demand, uint64_t now_ns)
{
    uint64_t span_ns = now_ns - demand->span_start_ns;

    if (demand->span_start_ns == 0) {
        span_start(demand, now_ns);
        return;
    }
    if (span_ns < DEMAND_TRIAL_MS * MS_NS || demand->span_rcpts < SPAN_RCPTS_EACH * demand->allowed)
        return;
    judge(demand, now_ns, (uint32_t)((uint64_t)demand->span_rcpts * 1000000000ull / span_ns));
    span_start(demand, now_ns);
}

uint32_t demand_backlog_needed(struct demand *demand, uint64_t now_ns, uint32_t open_count,
                               uint32_t connecting_count)
{
    uint64_t needed;

    if (open_count == 0)
        return 1;
    if (connecting_count >= demand->window)
        return UINT32_MAX;
    if (demand->rcpt_ns == 0)
        /* Nothing is known yet: a second one, should much be waiting. */
        return open_count < DEMAND_START ? DEMAND_START * 2 : UINT32_MAX;
    if (demand->on_credit > 0)
        return open_count < demand->on_credit ? connecting_count + 1 : UINT32_MAX;
    if (!is_slow(demand)) {
        if (now_ns < demand->look_again_ns)
            return UINT32_MAX;
        /* Nobody has looked for so long: this process stood still, and the rate with it. */
        if (now_ns - demand->look_again_ns > DEMAND_SLOW_MS * MS_NS)
            demand->span_start_ns = 0;
        demand->look_again_ns = now_ns + DEMAND_LOOK_MS * MS_NS;
    }
    /* What the open ones clear in time; those that are opening have somebody waiting each. */
    needed = open_count * (DEMAND_CLEAR_MS * MS_NS) / demand->rcpt_ns;
    if (needed <= connecting_count)
        needed = connecting_count + 1ull;
    return needed < UINT32_MAX ? (uint32_t)needed : UINT32_MAX;
}

bool demand_may_open(struct demand *demand, uint64_t now_ns, uint32_t open_count,
                     uint32_t connecting_count)
{
    if (open_count < DEMAND_START || open_count < demand->on_credit)
        return true;
    if (is_slow(demand)) {
        demand->span_start_ns = 0;
        if (demand->allowed <= open_count)
            demand->allowed = demand->proven = open_count + 1;
        return true;
    }
    if (open_count >= demand->allowed && connecting_count == 0)
        measure(demand, now_ns);
    return open_count < demand->allowed;
}

bool demand_is_surplus(const struct demand *demand, uint32_t open_count)
{
    return open_count > demand->allowed && demand->on_credit == 0 && !is_slow(demand);
}
