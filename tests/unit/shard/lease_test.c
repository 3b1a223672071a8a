/*
 * Limits that several shards share, with shards that are nothing but leases: their parcels arrive
 * in any order that mailboxes allow, connections and sessions come and go at random, and after
 * every step leases + free = limit. A limit is reached, never passed, and a session is refused only
 * when no shard had a slot to spare.
 */
#include "core/base/mem.h"
#include "shard/planted.h"
#include "shard/shard_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SHARDS_MAX    4
#define LANES         3
#define CONNECTIONS   24
#define WAITING_MAX   64
#define PARCELS_MAX   64
#define HISTORIES     300
#define STEPS         1500
#define NOT_IDLE      UINT64_MAX
#define TICK_NS       10000000ull
#define NODE_OF(leaf) container_of(leaf, struct node, shard)

/* Meters: of the limited virtual MTA; of two addresses; of two providers from each of them; of all
 * that a block without scopes counts. */
#define METERS                   8
#define METER_VMTA               0
#define METER_OF(ip)             (1 + (ip))
#define METER_PAIR(ip, provider) (3 + 2 * (ip) + (provider))
#define METER_BLOCK              7

struct mailbox {
    struct parcel *parcels[PARCELS_MAX];
    uint32_t first;
    uint32_t count;
    uint16_t to;
};

struct fake_lane {
    struct lease_claim claim;
    uint32_t meters; /* bits */
    uint32_t open_count;
    bool wants; /* it has mail that waits */
};

struct fake_connection {
    struct lease_slots slots;
    struct fake_lane *lane;
    bool is_open;
    bool is_idle;
    bool must_close;
};

struct node {
    struct shard shard;
    struct mailbox boxes[SHARDS_MAX];
    struct fake_lane lanes[LANES];
    struct fake_connection connections[CONNECTIONS];
    uint64_t arrived[WAITING_MAX]; /* sessions that wait: the step of their arrival */
    uint32_t waiting;
    uint32_t sessions;
    uint64_t idle_since; /* step since which a session's slot has lain idle here all the time */
};

static struct stage {
    struct node *nodes[SHARDS_MAX];
    struct shard *shards[SHARDS_MAX];
    uint16_t count;
    struct conf *conf;
    struct rng rng;
    uint64_t now_ns;
    uint64_t step;
    uint32_t limit_all, limit_vmta, limit_in;
    uint32_t limit_ip, limit_pair, limit_block;
    bool is_composed; /* lanes draw on any of the meters */
    uint64_t refused;
    bool has_ranks;    /* what is known of lanes and connections changes */
    const char *wrong; /* what an audit or the refusal of a session found */
} stage;

static const char *planted_on;

bool planted_active(const char *name)
{
    return planted_on && strcmp(planted_on, name) == 0;
}

/* ---- The loop that is not there -------------------------------------------------------------- */

void shard_post(struct shard *shard, uint16_t to, struct parcel *parcel)
{
    struct mailbox *box = &NODE_OF(shard)->boxes[to];

    must(box->count < PARCELS_MAX);
    box->parcels[(box->first + box->count++) % PARCELS_MAX] = parcel;
}

void io_timer_init(struct io_timer *timer, void (*on_fire)(struct io_timer *timer))
{
    timer->on_fire = on_fire;
    timer->node.at_tick = 0;
}

void io_timer_arm(struct io *io, struct io_timer *timer, uint64_t at_ns)
{
    timer->node.at_tick = at_ns / WHEEL_TICK_NS + 1;
}

void io_timer_stop(struct io *io, struct io_timer *timer)
{
    timer->node.at_tick = 0;
}

uint64_t io_now_ns(const struct io *io)
{
    return stage.now_ns;
}

static void pass_time(void)
{
    stage.now_ns += TICK_NS;
    for (uint16_t i = 0; i < stage.count; i++) {
        struct io_timer *timer = &stage.shards[i]->leases.timer;

        if (timer->node.at_tick == 0 || timer->node.at_tick * WHEEL_TICK_NS > stage.now_ns)
            continue;
        timer->node.at_tick = 0;
        timer->on_fire(timer);
    }
}

/* Delivers one parcel of a random mailbox; false when all are empty. */
static bool deliver(void)
{
    uint32_t first = (uint32_t)rng_below(&stage.rng, SHARDS_MAX * SHARDS_MAX);

    for (uint32_t i = 0; i < SHARDS_MAX * SHARDS_MAX; i++) {
        uint32_t at = (first + i) % (SHARDS_MAX * SHARDS_MAX);
        struct mailbox *box;

        if (at / SHARDS_MAX >= stage.count)
            continue;
        box = &stage.nodes[at / SHARDS_MAX]->boxes[at % SHARDS_MAX];
        if (box->count == 0)
            continue;
        box->count--;
        lease_on_parcel(stage.shards[box->to], box->parcels[box->first++ % PARCELS_MAX]);
        box->first %= PARCELS_MAX;
        return true;
    }
    return false;
}

/* ---- Who draws on the limits ----------------------------------------------------------------- */

static void on_ready(struct lease_claim *claim)
{
    (void)claim;
}

static void on_make_room(struct lease_slots *slots)
{
    container_of(slots, struct fake_connection, slots)->must_close = true;
}

static uint32_t slots_free(const struct shard *shard)
{
    const struct lease_share *share = shard->leases.sessions;

    return share->held > share->used + share->recalled ? share->held - share->used - share->recalled
                                                       : 0;
}

static void on_session_answered(struct shard *shard)
{
    struct node *node = NODE_OF(shard);
    uint64_t arrived = node->arrived[0];

    must(node->waiting > 0);
    node->waiting--;
    memmove(node->arrived, node->arrived + 1, node->waiting * sizeof(node->arrived[0]));
    if (lease_session_take(shard)) {
        node->sessions++;
        return;
    }
    stage.refused++;
    for (uint16_t i = 0; i < stage.count; i++)
        if (stage.nodes[i]->idle_since <= arrived)
            stage.wrong = "a session is refused while a slot lies idle";
}

static void session_comes(struct node *node)
{
    if (!lease_session_must_wait(&node->shard)) {
        if (lease_session_take(&node->shard))
            node->sessions++;
        else
            stage.refused++;
        return;
    }
    if (node->waiting == WAITING_MAX)
        return;
    node->arrived[node->waiting++] = stage.step;
    lease_session_wait(&node->shard);
}

static void session_goes(struct node *node)
{
    if (node->sessions == 0)
        return;
    node->sessions--;
    lease_session_release(&node->shard);
}

static void close_connection(struct node *node, struct fake_connection *connection)
{
    connection->is_open = connection->is_idle = connection->must_close = false;
    lease_slots_release(&node->shard, &connection->slots);
    lease_claim_count(&connection->lane->claim, --connection->lane->open_count);
}

static void lane_begin(struct node *node, struct fake_lane *lane, bool is_limited)
{
    struct ipaddr sources[2] = {{IPADDR_V4, {127, 0, 0, 1}}, {IPADDR_V4, {127, 0, 0, 2}}};
    uint32_t ip = (uint32_t)rng_below(&stage.rng, 2), provider = (uint32_t)rng_below(&stage.rng, 2);
    const struct scope_facts facts = {.source = &sources[ip], .provider = provider};
    struct scope_list list = {.count = 0};

    lane->meters = is_limited ? 1u << METER_VMTA : 0;
    if (stage.is_composed)
        lane->meters = (uint32_t)rng_below(&stage.rng, 1u << METERS) &
                       (1u << METER_VMTA | 1u << METER_OF(ip) | 1u << METER_PAIR(ip, provider) |
                        1u << METER_BLOCK);
    for (uint32_t i = 0; i < METERS; i++) {
        uint32_t block = i == METER_BLOCK ? 2 : i >= METER_PAIR(0, 0) ? 1 : 0;
        struct meter_key key = scope_key(conf_limit_block_at(stage.conf, block), &facts);

        if (i == METER_VMTA)
            key = scope_key_of_vmta(conf_vmta_named(stage.conf, SLICE_LITERAL("limited"))->id);
        if ((lane->meters & 1u << i) != 0)
            must(scope_add(&list, &key));
    }
    must(lease_claim_init(&node->shard, &lane->claim, &list));
}

/* One with nothing left ends, and another takes its place. */
static void lane_changes(struct node *node, struct fake_lane *lane)
{
    if (lane->open_count > 0)
        return;
    lease_claim_fini(&node->shard, &lane->claim);
    lane_begin(node, lane, false);
}

static void lane_acts(struct node *node, struct fake_lane *lane)
{
    struct fake_connection *connection = NULL;

    for (int i = 0; i < CONNECTIONS && !connection; i++)
        if (!node->connections[i].is_open)
            connection = &node->connections[i];
    if (!connection || !lane->wants) {
        lease_claim_cancel(&node->shard, &lane->claim);
        return;
    }
    if (!lease_claim_try(&node->shard, &lane->claim))
        return;
    must(lease_slots_init(&node->shard, &lane->claim, &connection->slots));
    lease_claim_use(&lane->claim, &connection->slots);
    connection->is_open = true;
    connection->lane = lane;
    lease_claim_count(&lane->claim, ++lane->open_count);
}

static void connection_acts(struct node *node, struct fake_connection *connection)
{
    uint64_t age_ns = rng_below(&stage.rng, 2 * LEASE_TURN_MS) * 1000000;

    if (!connection->is_open)
        return;
    if (connection->must_close || rng_one_in(&stage.rng, 10)) {
        close_connection(node, connection);
    } else if (connection->is_idle) {
        lease_slots_busy(&connection->slots);
        connection->is_idle = false;
    } else if (lease_slots_must_end(&connection->slots, age_ns, connection->lane->open_count)) {
        close_connection(node, connection);
    } else if (stage.has_ranks && rng_one_in(&stage.rng, 4)) {
        lease_slots_rank(&node->shard, &connection->slots, rng_below(&stage.rng, QUOTA_KINDS));
        if (lease_slots_must_yield(&connection->slots))
            close_connection(node, connection);
    } else if (rng_one_in(&stage.rng, 2)) {
        connection->is_idle = lease_slots_idle(&node->shard, &connection->slots);
        lease_make_room(&node->shard, &connection->lane->claim);
    }
}

static void step(void)
{
    struct node *node = stage.nodes[rng_below(&stage.rng, stage.count)];
    uint64_t lot = rng_below(&stage.rng, 12);

    stage.step++;
    if (lot < 4)
        deliver();
    else if (lot < 6)
        session_comes(node);
    else if (lot < 7)
        session_goes(node);
    else if (lot < 9)
        lane_acts(node, &node->lanes[rng_below(&stage.rng, LANES)]);
    else if (lot < 11)
        connection_acts(node, &node->connections[rng_below(&stage.rng, CONNECTIONS)]);
    else if (rng_one_in(&stage.rng, 3))
        lease_claim_rank(&node->shard, &node->lanes[rng_below(&stage.rng, LANES)].claim,
                         rng_below(&stage.rng, QUOTA_KINDS));
    else if (rng_one_in(&stage.rng, 4))
        node->lanes[rng_below(&stage.rng, LANES)].wants = rng_one_in(&stage.rng, 2);
    else if (stage.is_composed && rng_one_in(&stage.rng, 4))
        lane_changes(node, &node->lanes[rng_below(&stage.rng, LANES)]);
    else
        pass_time();
}

/* ---- What must hold -------------------------------------------------------------------------- */

static uint32_t count_sessions(void)
{
    uint32_t sum = 0;

    for (uint16_t i = 0; i < stage.count; i++)
        sum += stage.nodes[i]->sessions;
    return sum;
}

/* Of those that draw on a meter; METERS: of all. */
static uint32_t count_on(uint32_t meter)
{
    uint32_t sum = 0;

    for (uint16_t i = 0; i < stage.count; i++)
        for (int j = 0; j < CONNECTIONS; j++) {
            const struct fake_connection *connection = &stage.nodes[i]->connections[j];

            sum += connection->is_open &&
                   (meter == METERS || (connection->lane->meters & 1u << meter) != 0);
        }
    return sum;
}

static uint32_t count_connections(bool of_vmta)
{
    return count_on(of_vmta ? METER_VMTA : METERS);
}

static uint32_t bound_of(uint32_t meter)
{
    if (meter == METERS)
        return stage.limit_all;
    if (meter == METER_VMTA)
        return stage.limit_vmta;
    return meter == METER_BLOCK       ? stage.limit_block
           : meter < METER_PAIR(0, 0) ? stage.limit_ip
                                      : stage.limit_pair;
}

static void audit(void)
{
    const char *text = lease_audit(stage.shards, stage.count, stage.count);

    if (text)
        stage.wrong = text;
    for (uint32_t i = 0; i <= METERS; i++)
        if (count_on(i) > bound_of(i))
            stage.wrong = "a limit is passed";
    if (count_sessions() > stage.limit_in)
        stage.wrong = "the limit of sessions is passed";
    for (uint16_t i = 0; i < stage.count; i++) {
        struct node *node = stage.nodes[i];

        if (!lease_session_audit(&node->shard, node->sessions))
            stage.wrong = "slots are not those of the sessions";
        if (slots_free(&node->shard) == 0)
            node->idle_since = NOT_IDLE;
        else if (node->idle_since == NOT_IDLE)
            node->idle_since = stage.step;
    }
}

/* Until nothing moves any more. */
static void settle_down(void)
{
    for (int i = 0; i < 200; i++) {
        while (deliver())
            audit();
        pass_time();
        for (uint16_t j = 0; j < stage.count; j++) {
            for (int k = 0; k < CONNECTIONS; k++)
                if (stage.nodes[j]->connections[k].must_close)
                    close_connection(stage.nodes[j], &stage.nodes[j]->connections[k]);
            for (int k = 0; k < LANES; k++)
                lane_acts(stage.nodes[j], &stage.nodes[j]->lanes[k]);
        }
        audit();
    }
}

/* ---- A stage --------------------------------------------------------------------------------- */

static struct conf *load(void)
{
    struct conf_load_options options = {.syntax_only = true};
    struct conf *conf = NULL;
    char text[1024];

    snprintf(text, sizeof(text),
             "host-name mta.test\ntotal-max-smtp-out %u\ntotal-max-smtp-in %u\n"
             "<spool /spool>\n</spool>\n"
             "<virtual-mta limited>\n smtp-source-host 127.0.0.1 a.test\n max-smtp-out %u\n"
             "</virtual-mta>\n"
             "<virtual-mta free>\n smtp-source-host 127.0.0.2 b.test\n</virtual-mta>\n"
             "<limit ip>\nscope source-ip\nmax-smtp-out %u\n</limit>\n"
             "<limit pair>\nscope provider,source-ip\nmax-smtp-out %u\n</limit>\n"
             "<limit block>\nmax-smtp-out %u\n</limit>\n",
             stage.limit_all, stage.limit_in, stage.limit_vmta, stage.limit_ip, stage.limit_pair,
             stage.limit_block);
    assert_int_equal(conf_load_text("test", text, &options, NULL, NULL, &conf), 0);
    return conf;
}

static void raise_node(uint16_t number)
{
    struct node *node = mem_alloc(sizeof(*node));

    stage.nodes[number] = node;
    stage.shards[number] = &node->shard;
    node->idle_since = NOT_IDLE;
    node->shard.number = number;
    node->shard.count = stage.count;
    node->shard.conf = stage.conf;
    for (uint16_t i = 0; i < stage.count; i++) {
        node->boxes[i].to = i;
    }
    node->shard.limits.queue_count_max = 64;
    node->shard.limits.connection_count_max = CONNECTIONS;
    meters_init(&node->shard);
    lease_init(&node->shard, on_ready, on_make_room);
    node->shard.leases.session_answered = on_session_answered;
    for (int i = 0; i < LANES; i++)
        lane_begin(node, &node->lanes[i], i < 2);
}

/* limit_all: 0 = by lot, as the others. */
static void raise_with(uint64_t seed, uint16_t shards, uint32_t limit_all, bool is_composed)
{
    memset(&stage, 0, sizeof(stage));
    stage.is_composed = is_composed;
    rng_init(&stage.rng, seed);
    stage.count = shards;
    stage.limit_all = limit_all ? limit_all : (uint32_t)rng_between(&stage.rng, 1, 20);
    stage.limit_vmta = limit_all ? limit_all : (uint32_t)rng_between(&stage.rng, 1, 12);
    stage.limit_in = (uint32_t)rng_between(&stage.rng, 1, 20);
    stage.limit_ip = (uint32_t)rng_between(&stage.rng, 1, 8);
    stage.limit_pair = (uint32_t)rng_between(&stage.rng, 1, 4);
    stage.limit_block = (uint32_t)rng_between(&stage.rng, 1, 8);
    stage.conf = load();
    for (uint16_t i = 0; i < shards; i++)
        raise_node(i);
}

static void raise(uint64_t seed, uint16_t shards)
{
    raise_with(seed, shards, 0, false);
}

static void fall(void)
{
    for (uint16_t i = 0; i < stage.count; i++) {
        lease_fini(stage.shards[i]);
        meters_fini(stage.shards[i]);
        mem_free(stage.nodes[i]);
    }
    conf_unref(stage.conf);
}

/* ---- Tests ----------------------------------------------------------------------------------- */

/* One history up to the first thing that is wrong; NULL when nothing is. */
static const char *wander(uint64_t seed)
{
    const char *wrong;

    raise_with(seed, (uint16_t)(1 + seed % SHARDS_MAX), 0, seed / SHARDS_MAX % 2);
    stage.has_ranks = true;
    for (int i = 0; i < STEPS && !stage.wrong; i++) {
        step();
        audit();
    }
    wrong = stage.wrong;
    fall();
    return wrong;
}

static void whatever_happens_leases_and_free_are_the_limit(void **state)
{
    uint64_t refused = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= HISTORIES; seed++) {
        const char *wrong = wander(seed);

        if (wrong)
            fail_msg("seed %llu: %s", (unsigned long long)seed, wrong);
        refused += stage.refused;
    }
    assert_true(refused > HISTORIES);
}

/* Bugs on purpose: the checks above see each of them. */
static void planted_bugs_are_seen(void **state)
{
    static const char *const bugs[] = {
#define PLANTED_NAME(name) name,
        SHARD_PLANTED_REFUSALS(PLANTED_NAME)
#undef PLANTED_NAME
            "shard/lease-given-back-twice",
        "shard/poll-keeps-its-slots",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bugs) / sizeof(bugs[0]); i++) {
        const char *wrong = NULL;

        planted_on = bugs[i];
        for (uint64_t seed = 1; seed <= HISTORIES && !wrong; seed++)
            wrong = wander(seed);
        planted_on = NULL;
        if (!wrong)
            fail_msg("%s was not seen", bugs[i]);
    }
}

/* Sessions at random shards, none of which ends: as many as the limit says get in, on each number
 * of shards, and every one that waits is answered. */
static void sessions_come_up_to_the_limit(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        uint32_t waiting = 0;

        raise(seed, (uint16_t)(1 + seed % SHARDS_MAX));
        for (uint32_t i = 0; i < stage.limit_in + 10; i++) {
            session_comes(stage.nodes[rng_below(&stage.rng, stage.count)]);
            audit();
            for (uint64_t j = rng_below(&stage.rng, 3); j > 0; j--)
                deliver();
        }
        settle_down();
        for (uint16_t i = 0; i < stage.count; i++)
            waiting += stage.nodes[i]->waiting;
        assert_int_equal(waiting, 0);
        assert_int_equal(count_sessions(), stage.limit_in);
        assert_int_equal(stage.refused, 10);
        assert_null(stage.wrong);
        /* One goes, and there is room for one, wherever it comes. */
        for (uint16_t i = 0; i < stage.count; i++)
            if (stage.nodes[i]->sessions > 0) {
                session_goes(stage.nodes[i]);
                break;
            }
        session_comes(stage.nodes[stage.count - 1]);
        settle_down();
        assert_int_equal(count_sessions(), stage.limit_in);
        assert_int_equal(stage.refused, 10);
        fall();
    }
}

/* While there is a slot at hand nobody is asked, and no parcel travels. */
static void a_slot_at_hand_costs_no_parcel(void **state)
{
    (void)state;
    for (uint16_t shards = 2; shards <= SHARDS_MAX; shards++) {
        raise(7, shards);
        for (uint16_t i = 0; i < shards; i++)
            for (uint32_t j = pot_part(stage.limit_in, shards, i); j > 0; j--)
                session_comes(stage.nodes[i]);
        assert_false(deliver());
        assert_int_equal(count_sessions(), stage.limit_in);
        fall();
    }
}

/* On each shard the lane wants more than there is. */
static void all_want(int lane, enum quota_kind kind)
{
    for (uint16_t i = 0; i < stage.count; i++) {
        lease_claim_rank(stage.shards[i], &stage.nodes[i]->lanes[lane].claim, kind);
        stage.nodes[i]->lanes[lane].wants = true;
    }
}

/* Lanes of a limited virtual MTA, known to be good. */
static void connections_reach_the_limit(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        uint32_t reachable;

        raise(seed, (uint16_t)(1 + seed % SHARDS_MAX));
        all_want(0, QUOTA_PROVED);
        all_want(1, QUOTA_PROVED);
        settle_down();
        reachable = stage.limit_all < stage.limit_vmta ? stage.limit_all : stage.limit_vmta;
        assert_int_equal(count_connections(true), reachable);
        assert_null(stage.wrong);
        fall();
    }
}

/* Connections end their messages, and those that must close do. */
static void finish_messages(void)
{
    for (int i = 0; i < 20; i++) {
        for (uint16_t j = 0; j < stage.count; j++)
            for (int k = 0; k < CONNECTIONS; k++)
                connection_acts(stage.nodes[j], &stage.nodes[j]->connections[k]);
        settle_down();
    }
}

/* The shards hear of it one after the other, with parcels in between. */
static void change_limits(uint32_t all, uint32_t of_vmta)
{
    struct conf *before = stage.conf;
    uint32_t reachable = all < of_vmta ? all : of_vmta;
    uint32_t all_before = stage.limit_all, vmta_before = stage.limit_vmta;

    stage.limit_all = all;
    stage.limit_vmta = of_vmta;
    stage.conf = load();
    /* Until enough has come back, there is more than the new limit, never more than the old one. */
    stage.limit_all = all > all_before ? all : all_before;
    stage.limit_vmta = of_vmta > vmta_before ? of_vmta : vmta_before;
    for (uint16_t i = 0; i < stage.count; i++) {
        stage.shards[i]->conf = stage.conf;
        lease_adopt(stage.shards[i]);
        for (uint64_t j = rng_below(&stage.rng, 4); j > 0; j--)
            deliver();
        audit();
    }
    settle_down();
    finish_messages();
    stage.limit_all = all;
    stage.limit_vmta = of_vmta;
    audit();
    assert_null(stage.wrong);
    assert_int_equal(count_connections(true), reachable);
    conf_unref(before);
}

static void changed_limits_are_reached_and_kept(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        raise(seed, (uint16_t)(1 + seed % SHARDS_MAX));
        all_want(0, QUOTA_PROVED);
        all_want(1, QUOTA_PROVED);
        settle_down();
        for (int i = 0; i < 6; i++)
            change_limits((uint32_t)rng_between(&stage.rng, 1, 20),
                          (uint32_t)rng_between(&stage.rng, 1, 12));
        fall();
    }
}

static uint32_t count_open(const struct node *node, enum quota_kind kind)
{
    uint32_t sum = 0;

    for (int i = 0; i < CONNECTIONS; i++)
        sum += node->connections[i].is_open && node->connections[i].slots.kind == kind;
    return sum;
}

/* Connections that never end, of lanes that come one after the other: the bad ones first. */
static void slots_are_kept_free_of_the_bad(void **state)
{
    (void)state;
    for (uint32_t limit = 1; limit <= 12; limit++) {
        struct node *node;

        raise_with(limit, 1, limit, false);
        node = stage.nodes[0];
        all_want(0, QUOTA_SLOW);
        settle_down();
        assert_int_equal(count_open(node, QUOTA_SLOW), limit - limit / 2);
        all_want(1, QUOTA_NEW);
        settle_down();
        assert_int_equal(count_open(node, QUOTA_NEW), limit / 2 - limit / 4);
        all_want(2, QUOTA_PROVED);
        settle_down();
        assert_int_equal(count_open(node, QUOTA_PROVED), limit / 4);
        assert_null(stage.wrong);
        fall();
    }
}

/* What was new and turns out to be slow ends where it is one too many and another waits. */
static void who_turns_out_slow_makes_room(void **state)
{
    struct node *node;
    uint32_t ended = 0;

    (void)state;
    raise_with(1, 1, 8, false);
    node = stage.nodes[0];
    all_want(0, QUOTA_NEW);
    all_want(1, QUOTA_NEW);
    settle_down();
    assert_int_equal(count_open(node, QUOTA_NEW), 6);
    for (int i = 0; i < CONNECTIONS; i++)
        if (node->connections[i].is_open)
            lease_slots_rank(&node->shard, &node->connections[i].slots, QUOTA_SLOW);
    for (int i = 0; i < CONNECTIONS; i++)
        if (node->connections[i].is_open && lease_slots_must_yield(&node->connections[i].slots)) {
            close_connection(node, &node->connections[i]);
            ended++;
        }
    assert_int_equal(ended, 2);
    /* Those that waited are met with patience, as they are known to be slow. */
    all_want(0, QUOTA_SLOW);
    all_want(1, QUOTA_SLOW);
    settle_down();
    for (int i = 0; i < CONNECTIONS; i++)
        assert_false(node->connections[i].is_open &&
                     lease_slots_must_yield(&node->connections[i].slots));
    assert_null(stage.wrong);
    fall();
}

/* Each connection that is old enough ends its message; how many of them made room. */
static uint32_t end_turns(struct node *node)
{
    uint32_t ended = 0;

    for (int i = 0; i < CONNECTIONS; i++) {
        struct fake_connection *connection = &node->connections[i];

        if (!connection->is_open ||
            !lease_slots_must_end(&connection->slots, LEASE_TURN_MS * 1000000ull,
                                  connection->lane->open_count))
            continue;
        close_connection(node, connection);
        settle_down();
        ended++;
    }
    return ended;
}

/* Lanes that come later end with about as many connections as the first; then nobody gives way to
 * somebody who has as many, but one to each that has none. */
static void lanes_end_with_equal_parts(void **state)
{
    (void)state;
    for (uint32_t limit = 3; limit <= 20; limit++) {
        struct node *node;

        raise_with(limit, 1, limit, false);
        node = stage.nodes[0];
        all_want(0, QUOTA_PROVED);
        settle_down();
        assert_int_equal(node->lanes[0].open_count, limit);
        all_want(1, QUOTA_PROVED);
        all_want(2, QUOTA_PROVED);
        settle_down();
        for (int i = 0; i < 5; i++)
            end_turns(node);
        assert_int_equal(end_turns(node), 0);
        for (int i = 0; i < LANES; i++) {
            assert_in_range(node->lanes[i].open_count, limit * 2 / 9, limit / 2 + 1);
            assert_true(lease_claim_is_in_line(&node->lanes[i].claim));
        }
        assert_null(stage.wrong);
        fall();
    }
}

/* With fewer slots than lanes they go round. */
static void turns_go_round_where_there_are_too_few(void **state)
{
    uint32_t served[LANES] = {0};

    (void)state;
    raise_with(1, 1, 2, false);
    for (int i = 0; i < LANES; i++)
        all_want(i, QUOTA_PROVED);
    settle_down();
    for (int turn = 0; turn < 3 * LANES; turn++) {
        for (int i = 0; i < LANES; i++)
            served[i] += stage.nodes[0]->lanes[i].open_count;
        assert_true(end_turns(stage.nodes[0]) > 0);
    }
    for (int i = 0; i < LANES; i++)
        assert_true(served[i] >= LANES);
    assert_null(stage.wrong);
    fall();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whatever_happens_leases_and_free_are_the_limit),
        cmocka_unit_test(planted_bugs_are_seen),
        cmocka_unit_test(sessions_come_up_to_the_limit),
        cmocka_unit_test(a_slot_at_hand_costs_no_parcel),
        cmocka_unit_test(connections_reach_the_limit),
        cmocka_unit_test(changed_limits_are_reached_and_kept),
        cmocka_unit_test(slots_are_kept_free_of_the_bad),
        cmocka_unit_test(who_turns_out_slow_makes_room),
        cmocka_unit_test(lanes_end_with_equal_parts),
        cmocka_unit_test(turns_go_round_where_there_are_too_few),
    };

    return cmocka_run_group_tests_name("shard lease", tests, NULL, NULL);
}
