/*
 * How connections are spent, played with the whole product in the simulated world and decided by
 * counts: receivers that are dead or slow beside healthy ones, the way back after an outage, idle
 * connections and the memory they take.
 *
 *   delivery_scenarios     every scenario, with its figures; 1 when one fails
 */
#include "core/base/log.h"
#include "core/base/planted.h"
#include "net/dns_answer.h"
#include "shard/shard_int.h"
#include "tests/sim/product/product.h"
#include "tests/sim/product/quiet.h"
#include "tests/sim/sim_peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS_NS         1000000ull
#define SECOND_NS     1000000000ull
#define RECEIVERS_MAX 100
#define LINE_BYTES    256

enum kind {
    KIND_SERVES,
    KIND_SILENT, /* takes the connection and never says a word */
    KIND_DEAD,   /* nobody listens */
    KIND_GONE,   /* packets are lost */
};

/* A receiver of its own domain d<number>.test. */
struct receiver {
    struct stage *stage;
    struct sim_peer *peer; /* NULL = nobody listens */
    enum kind kind;
    uint32_t reply_ms; /* each reply's own */
    uint32_t hanging;  /* so many connections, the first ones, say nothing after two messages */
    uint32_t greeted;  /* so many connections, the first ones, get a greeting; 0 = all */
    uint32_t opened;   /* connections so far */
    uint32_t ready;    /* of which EHLO was answered */
    uint32_t open;
    uint32_t open_max;
    uint32_t excess; /* connections beyond what a doubling allows */
    uint64_t taken;  /* messages */
};

/* One injecting connection; sends what is wanted to domains [first, first + count) in turn. */
struct injecting {
    struct stage *stage;
    uint32_t first, count;
    uint32_t wanted;
    uint32_t sent;
    uint32_t greetings; /* 220, and the reply to EHLO */
    uint32_t replies_left;
    bool is_greeted;
    bool is_busy;
    struct sim_peer_conn *conn;
};

struct stage {
    const char *name;
    struct sim_world *world;
    struct product product;
    struct conf *conf;
    struct receiver receivers[RECEIVERS_MAX];
    struct sim_peer *injector;
    struct injecting injecting[2];
    unsigned failures;
};

static void check(struct stage *stage, bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "%s: NOT TRUE: %s\n", stage->name, what);
    stage->failures++;
}

/* ---- Names ----------------------------------------------------------------------------------- */

static struct ipaddr_port address_of(unsigned number)
{
    return (struct ipaddr_port){{IPADDR_V4, {10, 1, (uint8_t)number, 1}}, 25};
}

static enum names_say on_question(void *context, struct dns_query *query)
{
    unsigned number = 0;

    (void)context;
    query->status = DNS_NO_DATA;
    if (query->type == DNS_A && sscanf(query->name, "d%u.test", &number) == 1) {
        struct ipaddr_port at = address_of(number);

        dns_answer_put(query, slice_of(at.ip.bytes, 4));
        query->status = DNS_OK;
    }
    return NAMES_ANSWERED;
}

/* ---- Receivers ------------------------------------------------------------------------------- */

struct talk {
    struct receiver *receiver;
    struct sim_peer_conn *conn;
    struct io_timer timer;
    bool is_greeted;
    bool in_data;
    uint32_t number; /* of the receiver's connections */
    uint32_t taken;
    char line[LINE_BYTES]; /* waits for its time */
};

static void hang_up(struct talk *talk)
{
    io_timer_stop(sim_peer_io(sim_peer_of(talk->conn)), &talk->timer);
    talk->receiver->open--;
    sim_peer_set_data(talk->conn, NULL);
    free(talk);
}

static void answer_line(struct talk *talk)
{
    struct slice line = slice_str(talk->line);
    struct sim_peer_conn *conn = talk->conn;

    if (!talk->is_greeted) {
        talk->is_greeted = true;
        sim_peer_printf(conn, "220 receiver.test\r\n");
    } else if (talk->in_data) {
        if (!slice_equal(line, SLICE_LITERAL(".")))
            return;
        talk->in_data = false;
        talk->receiver->taken++;
        talk->taken++;
        sim_peer_printf(conn, "250 2.0.0 taken\r\n");
    } else if (slice_starts_nocase(line, SLICE_LITERAL("EHLO"))) {
        talk->receiver->ready++;
        sim_peer_printf(conn, "250-receiver.test\r\n250 PIPELINING\r\n");
    } else if (slice_equal_nocase(line, SLICE_LITERAL("DATA"))) {
        talk->in_data = true;
        sim_peer_printf(conn, "354 go on\r\n");
    } else if (slice_equal_nocase(line, SLICE_LITERAL("QUIT"))) {
        sim_peer_printf(conn, "221 2.0.0 bye\r\n");
        hang_up(talk);
        sim_peer_close(conn);
    } else {
        sim_peer_printf(conn, "250 2.1.0 ok\r\n");
    }
}

static void on_time(struct io_timer *timer)
{
    struct talk *talk = container_of(timer, struct talk, timer);
    struct sim_peer_conn *conn = talk->conn;

    answer_line(talk);
    if (sim_peer_data(conn))
        sim_peer_resume(conn);
}

/* Content takes no time: the reply to the dot does. */
static void take_line(struct talk *talk, struct slice line)
{
    size_t len = line.len < LINE_BYTES - 1 ? line.len : LINE_BYTES - 1;
    bool is_content = talk->in_data && !slice_equal(line, SLICE_LITERAL("."));

    memcpy(talk->line, line.data, len);
    talk->line[len] = '\0';
    if (talk->receiver->reply_ms == 0 || is_content) {
        answer_line(talk);
        return;
    }
    sim_peer_pause(talk->conn);
    io_timer_arm(sim_peer_io(sim_peer_of(talk->conn)), &talk->timer,
                 sim_now_ns(talk->receiver->stage->world) + talk->receiver->reply_ms * MS_NS);
}

static void on_open(struct sim_peer_conn *conn)
{
    struct receiver *receiver = sim_peer_context(sim_peer_of(conn));
    struct talk *talk = calloc(1, sizeof(*talk));

    receiver->opened++;
    receiver->excess += receiver->opened > 2 * receiver->ready + 1;
    if (++receiver->open > receiver->open_max)
        receiver->open_max = receiver->open;
    talk->receiver = receiver;
    talk->number = receiver->opened;
    talk->conn = conn;
    io_timer_init(&talk->timer, on_time);
    sim_peer_set_data(conn, talk);
    if (receiver->kind == KIND_SERVES &&
        (receiver->greeted == 0 || talk->number <= receiver->greeted))
        take_line(talk, SLICE_EMPTY);
}

static void on_line(struct sim_peer_conn *conn, struct slice line)
{
    struct talk *talk = sim_peer_data(conn);

    if (!talk || (talk->number <= talk->receiver->hanging && talk->taken >= 2))
        return;
    if (talk->receiver->kind == KIND_SERVES)
        take_line(talk, line);
}

static void on_end(struct sim_peer_conn *conn, int32_t reason)
{
    (void)reason;
    if (sim_peer_data(conn))
        hang_up(sim_peer_data(conn));
}

static const struct sim_peer_handlers receiver_handlers = {on_open, on_line, NULL, on_end};

static void add_receiver(struct stage *stage, unsigned number, enum kind kind, uint32_t reply_ms)
{
    struct receiver *receiver = &stage->receivers[number];
    struct ipaddr_port at = address_of(number);
    struct cidr block = {.ip = at.ip, .prefix_bits = 32};

    *receiver = (struct receiver){.stage = stage, .kind = kind, .reply_ms = reply_ms};
    if (kind == KIND_GONE)
        sim_route(stage->world, &block, SIM_ROUTE_DROP);
    else if (kind != KIND_DEAD)
        receiver->peer = sim_peer_listen(stage->world, &at, &receiver_handlers, receiver);
}

/* ---- Injecting ------------------------------------------------------------------------------- */

static void inject_more(struct injecting *injecting)
{
    uint32_t domain;

    if (!injecting->is_greeted || injecting->is_busy || injecting->sent == injecting->wanted)
        return;
    domain = injecting->first + injecting->sent++ % injecting->count;
    injecting->is_busy = true;
    injecting->replies_left = 4;
    sim_peer_printf(injecting->conn,
                    "MAIL FROM:<a@sender.test>\r\nRCPT TO:<u@d%u.test>\r\nDATA\r\n", domain);
}

static void on_injector_line(struct sim_peer_conn *conn, struct slice line)
{
    struct injecting *injecting = sim_peer_data(conn);

    /* Told to go when it has had nothing to send for long. */
    if (!injecting->is_busy && slice_starts_nocase(line, SLICE_LITERAL("421")))
        return;
    must(line.len > 3 && (line.data[0] == '2' || line.data[0] == '3'));
    if (line.data[3] == '-')
        return;
    if (!injecting->is_greeted && ++injecting->greetings == 1) {
        sim_peer_printf(conn, "EHLO injector.test\r\n");
    } else if (!injecting->is_greeted) {
        injecting->is_greeted = true;
    } else if (line.data[0] == '3') {
        injecting->replies_left--;
        sim_peer_printf(conn, "Subject: test\r\n\r\nHello\r\n.\r\n");
    } else if (--injecting->replies_left == 0) {
        injecting->is_busy = false;
    }
    inject_more(injecting);
}

static void on_injector_end(struct sim_peer_conn *conn, int32_t reason)
{
    struct injecting *injecting = sim_peer_data(conn);

    (void)reason;
    injecting->conn = NULL;
}

static const struct sim_peer_handlers injector_handlers = {NULL, on_injector_line, NULL,
                                                           on_injector_end};

/* ---- The stage ------------------------------------------------------------------------------- */

static void report(void *context, enum conf_severity severity, const char *file, unsigned line,
                   const char *text)
{
    (void)context;
    if (severity == CONF_ERROR)
        fprintf(stderr, "%s:%u: %s\n", file, line, text);
}

/* global, vmta, domain: lines of the configuration. */
static void raise_shards(struct stage *stage, const char *name, uint16_t shard_count,
                         const char *global, const char *vmta, const char *domain)
{
    struct sim_options options = {.latency_min_ns = 5 * MS_NS, .latency_max_ns = 5 * MS_NS};
    struct product_setup setup = {
        .shard_count = shard_count,
        .segment_bytes = 1 << 20,
        .checkpoint_bytes = 1 << 20,
        .segment_count_max = 512,
        .limits = {.connection_count_max = 4096},
    };
    char config[2048];

    *stage = (struct stage){.name = name};
    snprintf(config, sizeof(config),
             "host-name mta.test\nsmtp-listener 127.0.0.1:2525\n%s<spool /spool>\n</spool>\n"
             "<source 127.0.0.1>\n always-allow-relaying yes\n default-virtual-mta v\n</source>\n"
             "<virtual-mta v>\n smtp-source-host 10.9.0.1 v.test\n%s</virtual-mta>\n"
             "<domain *>\n%s</domain>\n",
             global, vmta, domain);
    if (conf_load_text("sim", config, NULL, report, NULL, &stage->conf) < 0)
        abort();
    stage->world = sim_world_create(1, &options);
    stage->product.world = stage->world;
    stage->product.zone.script = on_question;
    stage->product.zone.script_context = stage;
    setup.conf = stage->conf;
    must(product_start(&stage->product, &setup) == 0);
    stage->injector = sim_peer_create(stage->world, &injector_handlers, stage);
}

static void raise_stage(struct stage *stage, const char *name, const char *global, const char *vmta,
                        const char *domain)
{
    raise_shards(stage, name, 1, global, vmta, domain);
}

static void start_injecting(struct stage *stage, unsigned which, uint32_t first, uint32_t count)
{
    const struct ipaddr here = {IPADDR_V4, {127, 0, 0, 1}};
    const struct ipaddr_port product = {here, 2525};
    struct injecting *injecting = &stage->injecting[which];

    *injecting = (struct injecting){.stage = stage, .first = first, .count = count};
    injecting->conn = sim_peer_connect(stage->injector, &here, &product);
    sim_peer_set_data(injecting->conn, injecting);
}

static bool strike(struct stage *stage)
{
    printf("%-36s %s\n", stage->name, stage->failures ? "FAILED" : "ok");
    product_crash(&stage->product, false);
    sim_world_destroy(stage->world);
    conf_unref(stage->conf);
    return stage->failures == 0;
}

static uint64_t taken(const struct stage *stage, unsigned first, unsigned count)
{
    uint64_t sum = 0;

    for (unsigned i = first; i < first + count; i++)
        sum += stage->receivers[i].taken;
    return sum;
}

/* For so many tenths of a second, with so many messages more in each. */
static void run(struct stage *stage, unsigned tenths, uint32_t first_more, uint32_t second_more)
{
    for (unsigned i = 0; i < tenths; i++) {
        stage->injecting[0].wanted += first_more;
        stage->injecting[1].wanted += second_more;
        for (unsigned j = 0; j < 2; j++)
            if (stage->injecting[j].conn)
                inject_more(&stage->injecting[j]);
        sim_run_for(stage->world, 100 * MS_NS);
    }
}

/* ---- Scenarios ------------------------------------------------------------------------------- */

#define GOOD_COUNT 10
#define BAD_COUNT  50

static void add_bad_receivers(struct stage *stage)
{
    for (unsigned i = GOOD_COUNT; i < GOOD_COUNT + BAD_COUNT; i++)
        switch (i % 5) {
        case 0:
            add_receiver(stage, i, KIND_SILENT, 0);
            break;
        case 1:
            add_receiver(stage, i, KIND_DEAD, 0);
            break;
        case 2:
            add_receiver(stage, i, KIND_GONE, 0);
            break;
        default:
            add_receiver(stage, i, KIND_SERVES, 20000);
        }
}

/* Messages that ten healthy receivers took within 100 s, with or without fifty bad ones, for which
 * mail comes 20 s sooner than for them. */
static uint64_t taken_beside(bool has_bad, const char *global, const char *vmta)
{
    static struct stage stage;
    uint64_t count;

    raise_stage(&stage, has_bad ? "  beside 50 dead and slow ones" : "  healthy receivers alone",
                global, vmta, " retry-after 10m\n max-smtp-out 20\n");
    for (unsigned i = 0; i < GOOD_COUNT; i++)
        add_receiver(&stage, i, KIND_SERVES, 50);
    start_injecting(&stage, 0, 0, GOOD_COUNT);
    if (has_bad) {
        add_bad_receivers(&stage);
        start_injecting(&stage, 1, GOOD_COUNT, BAD_COUNT);
    }
    run(&stage, 200, 0, has_bad ? 4 : 0);
    run(&stage, 1000, 4, has_bad ? 4 : 0);
    count = taken(&stage, 0, GOOD_COUNT);
    check(&stage, stage.injecting[0].sent == 4000, "all was injected");
    for (unsigned i = GOOD_COUNT; i < GOOD_COUNT + BAD_COUNT; i++)
        check(&stage, !stage.receivers[i].peer || stage.receivers[i].opened > 0,
              "a bad one has its turn too");
    printf("    %llu of %u taken, %u connections in the end\n", (unsigned long long)count,
           stage.injecting[0].sent, site_open_connections(stage.product.shards[0]));
    return strike(&stage) ? count : 0;
}

/*
 * The fifty would take whatever number of connections there is: silent ones and slow ones hold
 * theirs for minutes. A quarter of a limit is kept for receivers that are known to be good, so with
 * 48 slots twelve, and the ten need one each: a message takes about 220 of the 250 ms between two.
 * What the bad ones may cost is the time until each good one is known to be good: with all slots
 * taken by new receivers that are silent, these must be found out first.
 */
static bool slow_ones_slow_nobody_else(void)
{
    static const struct {
        const char *name;
        const char *global;
        const char *vmta;
        uint32_t percent;
    } rows[] = {
        {"bad receivers, limit 2000", "total-max-smtp-out 2000\n", "", 95},
        {"bad receivers, limit 100", "total-max-smtp-out 100\n", "", 90},
        {"bad receivers, limit 48", "total-max-smtp-out 48\n", "", 90},
        {"bad receivers, limit 48 of a VMTA", "total-max-smtp-out 2000\n", " max-smtp-out 48\n",
         90},
    };
    bool ok = true;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t alone = taken_beside(false, rows[i].global, rows[i].vmta);
        uint64_t beside = taken_beside(true, rows[i].global, rows[i].vmta);
        bool holds = alone >= 3900 && beside * 100 >= alone * rows[i].percent;

        printf("%-36s %s\n", rows[i].name, holds ? "ok" : "FAILED");
        ok &= holds;
    }
    return ok;
}

/*
 * Fifty slow receivers, whose mail is there for minutes before anybody else's: nobody better wants
 * the slots of the limit, so they have them. Then the ten healthy ones come, for which nothing was
 * kept: the slots come back as connections of slow ones are done with their message or, in the
 * middle of opening, are given up.
 */
static bool slow_ones_have_what_nobody_else_wants(void)
{
    enum { LIMIT = 48, TENTHS = 1200 };

    static const struct {
        const char *name;
        uint16_t shard_count;
        const char *global;
        const char *vmta;
    } rows[] = {
        {"slow ones alone, limit 48", 1, "total-max-smtp-out 48\n", ""},
        {"slow ones alone, limit 48 of a VMTA", 1, "", " max-smtp-out 48\n"},
        {"slow ones alone, limit 48, 3 shards", 3, "total-max-smtp-out 48\n", ""},
    };
    bool ok = true;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        static struct stage stage;
        uint64_t open = 0, count;

        raise_shards(&stage, rows[i].name, rows[i].shard_count, rows[i].global, rows[i].vmta,
                     " retry-after 10m\n max-smtp-out 20\n");
        for (unsigned j = 0; j < GOOD_COUNT + BAD_COUNT; j++)
            add_receiver(&stage, j, KIND_SERVES, j < GOOD_COUNT ? 50 : 20000);
        start_injecting(&stage, 0, 0, GOOD_COUNT);
        start_injecting(&stage, 1, GOOD_COUNT, BAD_COUNT);
        run(&stage, TENTHS, 0, 2);
        for (unsigned j = 0; j < TENTHS; j++) {
            run(&stage, 1, 0, 0);
            for (uint16_t k = 0; k < rows[i].shard_count; k++)
                open += site_open_connections(stage.product.shards[k]);
        }
        check(&stage, open * 100 >= TENTHS * LIMIT * 95, "slow ones use 95 % of the limit");
        run(&stage, 1000, 4, 2);
        count = taken(&stage, 0, GOOD_COUNT);
        check(&stage, stage.injecting[0].sent == 4000, "all was injected");
        check(&stage, count >= 3900, "healthy ones have nearly all of theirs");
        printf("    %.1f of %d connections were slow ones', then %llu of 4000 taken beside them\n",
               (double)open / TENTHS, LIMIT, (unsigned long long)count);
        ok &= strike(&stage);
    }
    return ok;
}

/* Everything that the receiver missed waits when it comes back. Connections: one, and with each
 * that comes up one more may be opening beside, so their number doubles with each round trip. */
static bool after_an_outage_connections_double(void)
{
    enum { MESSAGES = 400 };

    static struct stage stage;
    struct receiver *receiver = &stage.receivers[0];

    raise_stage(&stage, "after an outage", "total-max-smtp-out 2000\n", "",
                " retry-after 1m\n max-smtp-out 64\n");
    receiver->stage = &stage;
    start_injecting(&stage, 0, 0, 1);
    run(&stage, 100, 4, 0);
    run(&stage, 3000, 0, 0);
    check(&stage, product_queued(&stage.product) == MESSAGES, "everything waits");
    check(&stage, stage.product.shards[0]->totals.connect_failures <= 10,
          "a dead receiver is asked once in a while");
    add_receiver(&stage, 0, KIND_SERVES, 300);
    run(&stage, 1200, 0, 0);
    check(&stage, receiver->excess == 0, "there are never more than doubling allows");
    check(&stage, receiver->open_max == 64, "in the end there are as many as may be");
    check(&stage, receiver->taken == MESSAGES, "everything arrives");
    printf("    %u connections, at most %u at once, %u of them too early\n", receiver->opened,
           receiver->open_max, receiver->excess);
    return strike(&stage);
}

/* The first four connections hang until they time out, after some messages were taken quickly:
 * the rest goes by others. Two messages may be on the way on each that hangs. */
static bool hung_connections_hold_nobody_up(void)
{
    enum { MESSAGES = 400, HANGING = 4 };

    static struct stage stage;
    struct receiver *receiver = &stage.receivers[0];

    raise_stage(&stage, "connections that hang", "", "", " max-smtp-out 20\n");
    add_receiver(&stage, 0, KIND_SERVES, 0);
    receiver->hanging = HANGING;
    start_injecting(&stage, 0, 0, 1);
    run(&stage, 100, 4, 0);
    run(&stage, 100, 0, 0);
    check(&stage, receiver->taken >= MESSAGES - 2 * HANGING, "all but those that hang arrive");
    check(&stage, receiver->open_max <= 4 * HANGING, "a few connections more do");
    printf("    %llu of %u taken, at most %u connections at once\n",
           (unsigned long long)receiver->taken, MESSAGES, receiver->open_max);
    return strike(&stage);
}

/* Connections beyond the first never get a greeting; the first works on, and sends ahead what waits
 * beyond what those might take. */
static bool messages_go_ahead_while_a_connection_comes_up(void)
{
    enum { MESSAGES = 400 };

    static struct stage stage;
    struct receiver *receiver = &stage.receivers[0];
    const struct shard *shard;

    raise_stage(&stage, "ahead while one comes up", "", "",
                " max-smtp-out 20\n pipeline-across-messages yes\n");
    shard = stage.product.shards[0];
    add_receiver(&stage, 0, KIND_SERVES, 50);
    receiver->greeted = 1;
    start_injecting(&stage, 0, 0, 1);
    run(&stage, 100, 4, 0);
    run(&stage, 900, 0, 0);
    check(&stage, receiver->opened > 1 && receiver->ready == 1, "more connections are tried");
    check(&stage, receiver->taken == MESSAGES, "everything arrives by the first");
    check(&stage, shard->totals.sent_ahead >= MESSAGES * 9 / 10, "nearly all of it goes ahead");
    printf("    %u sent ahead of %u\n", (unsigned)shard->totals.sent_ahead, MESSAGES);
    return strike(&stage);
}

/* More mail for each of four receivers than the connections can take: they are shared out once, and
 * are not closed and opened again only for others that have as many. */
static bool connections_last_where_all_want_more(void)
{
    enum { RECEIVERS = 4, LIMIT = 12, MESSAGES = 1200 };

    static struct stage stage;
    uint32_t opened = 0;

    raise_stage(&stage, "connections at the limit", "total-max-smtp-out 12\n", "", "");
    for (unsigned i = 0; i < RECEIVERS; i++)
        add_receiver(&stage, i, KIND_SERVES, 100);
    start_injecting(&stage, 0, 0, RECEIVERS);
    run(&stage, 300, 4, 0);
    for (unsigned i = 0; i < RECEIVERS; i++) {
        check(&stage, stage.receivers[i].open >= LIMIT / RECEIVERS - 1, "each has its part");
        opened += stage.receivers[i].opened;
    }
    check(&stage, opened <= 2 * LIMIT, "connections last");
    run(&stage, 300, 0, 0);
    check(&stage, taken(&stage, 0, RECEIVERS) == MESSAGES, "everything arrives");
    printf("    %u connections opened for %u\n", opened, LIMIT);
    return strike(&stage);
}

/* One connection in all for receivers whose queues are spread over 16 shards, each of which always
 * has mail: looked at each 5 ms, there is one, and never a second. */
static bool one_connection_is_shared_by_many_shards(void)
{
    static const struct {
        const char *name;
        const char *global;
        const char *vmta;
    } rows[] = {
        {"one for 16 shards, by a block", "<limit one>\n max-smtp-out 1\n</limit>\n", ""},
        {"one for 16 shards, by a virtual MTA", "", " max-smtp-out 1\n"},
        {"one for 16 shards, by three limits",
         "<limit one>\n scope source-ip\n max-smtp-out 1\n</limit>\n"
         "<limit two>\n max-smtp-out 1\n</limit>\n",
         " max-smtp-out 1\n"},
    };
    enum { SHARDS = 16, RECEIVERS = 24, LOOKS = 16000 };
    bool ok = true;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        static struct stage stage;
        uint32_t used = 0, shared = 0;

        raise_shards(&stage, rows[i].name, SHARDS, rows[i].global, rows[i].vmta, "");
        for (unsigned j = 0; j < RECEIVERS; j++)
            add_receiver(&stage, j, KIND_SERVES, 20);
        start_injecting(&stage, 0, 0, RECEIVERS);
        run(&stage, 100, 10, 0);
        for (unsigned j = 0; j < LOOKS; j++) {
            uint32_t open = 0;

            sim_run_for(stage.world, 5 * MS_NS);
            for (uint16_t k = 0; k < SHARDS; k++)
                open += site_open_connections(stage.product.shards[k]);
            used += open > 0;
            shared += open > 1;
        }
        check(&stage, shared == 0, "never more than one");
        check(&stage, used * 100ull >= LOOKS * 95ull, "used to 95 %");
        for (unsigned j = 0; j < RECEIVERS; j++)
            check(&stage, stage.receivers[j].taken > 0, "each has its turn");
        printf("    used %.1f %% of the time\n", used * 100.0 / LOOKS);
        ok &= strike(&stage);
    }
    return ok;
}

/* One message an hour in all for receivers whose queues are spread over 16 shards. Over two days of
 * looks at each minute: never two within an hour, and of what may go at least 95 % goes. */
static bool one_an_hour_is_shared_by_many_shards(void)
{
    enum { SHARDS = 16, RECEIVERS = 24, HOURS = 48 };

    static struct stage stage;
    uint64_t seen, first, last_minute = 0;

    raise_shards(&stage, "1/h for 16 shards", SHARDS, "", " max-smtp-msg-rate 1/h\n", "");
    for (unsigned i = 0; i < RECEIVERS; i++)
        add_receiver(&stage, i, KIND_SERVES, 20);
    start_injecting(&stage, 0, 0, RECEIVERS);
    run(&stage, 100, 4, 0);
    first = seen = taken(&stage, 0, RECEIVERS);
    for (uint64_t minute = 1; minute <= HOURS * 60; minute++) {
        uint64_t now;

        sim_run_for(stage.world, 60000 * MS_NS);
        now = taken(&stage, 0, RECEIVERS);
        if (now == seen)
            continue;
        check(&stage, now == seen + 1, "one at a time");
        check(&stage, seen == first || minute >= last_minute + 60, "an hour after the one before");
        last_minute = minute;
        seen = now;
    }
    check(&stage, (seen - first) * 100 >= HOURS * 95, "used to 95 %");
    printf("    %u of %u hours used\n", (unsigned)(seen - first), HOURS);
    return strike(&stage);
}

/* A message every three seconds, ten in all: how many connections that takes. */
static bool idle_connections_stay_as_long_as_wished(void)
{
    static const struct {
        const char *name;
        const char *timeout;
        uint32_t opened;
        uint32_t open; /* 20 minutes after the last message */
    } rows[] = {
        {"idle for 0 s", " connection-idle-timeout 0\n", 10, 0},
        {"idle for 2 s", " connection-idle-timeout 2s\n", 10, 0},
        {"idle for 5 s, the default", "", 1, 0},
        {"idle for 19 min", " connection-idle-timeout 19m\n", 1, 0},
        {"idle for an hour", " connection-idle-timeout 1h\n", 1, 1},
    };
    bool ok = true;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        static struct stage stage;

        raise_stage(&stage, rows[i].name, "", "", rows[i].timeout);
        add_receiver(&stage, 0, KIND_SERVES, 0);
        start_injecting(&stage, 0, 0, 1);
        for (unsigned j = 0; j < 10; j++) {
            run(&stage, 1, 1, 0);
            run(&stage, 29, 0, 0);
        }
        run(&stage, 12000, 0, 0);
        check(&stage, stage.receivers[0].taken == 10, "everything arrives");
        check(&stage, stage.receivers[0].opened == rows[i].opened, "connections opened");
        check(&stage, stage.receivers[0].open == rows[i].open, "connections still open");
        ok &= strike(&stage);
    }
    return ok;
}

static uint64_t used_bytes(const struct slab *slab)
{
    return (uint64_t)slab->count_used * (slab->object_bytes + sizeof(slab->generations[0]));
}

/* Everything of ours that lives because a connection stands idle. */
static bool memory_of_an_idle_connection(void)
{
    enum { CONNECTIONS = 64, BYTES_MAX = 2048 };

    static struct stage stage;
    const struct shard *shard;
    uint64_t bytes;

    raise_stage(&stage, "idle connections", "total-max-smtp-out 2000\n", "",
                " max-smtp-out 64\n connection-idle-timeout 1h\n");
    shard = stage.product.shards[0];
    add_receiver(&stage, 0, KIND_SERVES, 1000);
    start_injecting(&stage, 0, 0, 1);
    run(&stage, 300, 4, 0);
    run(&stage, 600, 0, 0);
    check(&stage, site_open_connections(shard) == CONNECTIONS, "all connections stand");
    check(&stage, product_is_empty(&stage.product), "none has anything to do");
    bytes = used_bytes(&shard->connections) + used_bytes(&shard->deliveries) +
            used_bytes(&shard->wides) + used_bytes(&shard->outcomes) +
            smtpc_engine_used_bytes(shard->smtpc);
    check(&stage, bytes <= CONNECTIONS * BYTES_MAX, "at most 2 KB each");
    printf("    %llu bytes each\n", (unsigned long long)bytes / CONNECTIONS);
    return strike(&stage);
}

int main(void)
{
    bool ok = true;

    quiet_log();
    ok &= slow_ones_slow_nobody_else();
    ok &= slow_ones_have_what_nobody_else_wants();
    ok &= after_an_outage_connections_double();
    ok &= hung_connections_hold_nobody_up();
    ok &= messages_go_ahead_while_a_connection_comes_up();
    ok &= connections_last_where_all_want_more();
    ok &= one_connection_is_shared_by_many_shards();
    ok &= one_an_hour_is_shared_by_many_shards();
    ok &= idle_connections_stay_as_long_as_wished();
    ok &= memory_of_an_idle_connection();
    return ok ? 0 : 1;
}
