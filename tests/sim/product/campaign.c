/*
 * A campaign in virtual time, with the whole product: many recipients at many domains from eight
 * addresses, and what a receiver or an impatient customer would count.
 *
 *   campaign bulk [RECIPIENTS [DOMAINS]]          a campaign alone, receivers that throttle
 *   campaign beside [RECIPIENTS [DOMAINS]]        20 messages a second of another job beside it
 *   campaign hosted [RECIPIENTS [DOMAINS]]        the same, all domains at one provider
 *   campaign rated [RECIPIENTS [DOMAINS]]         the same, and a rate of each virtual MTA
 *   campaign crowded [RECIPIENTS [DOMAINS]]       the same, and few connections of each
 *
 * Prints figures, and ends with 1 when one is out of its bounds.
 */
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/planted.h"
#include "shard/shard_int.h"
#include "tests/sim/product/campaign_world.h"
#include "tests/sim/product/product.h"
#include "tests/sim/product/quiet.h"
#include "tests/sim/sim_peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECOND_NS       1000000000ull
#define SHARDS          2u
#define RCPTS_MAX       100u
#define BULK_SESSIONS   32u
#define EXTRA_SESSIONS  8u
#define EXTRA_A_SECOND  20u
#define EXTRA_SECONDS   120u
#define WAIT_P95_MAX_MS 5000u
#define WAIT_P99_MAX_MS 2000u

/* A job that hands in numbered recipients, so many a message. */
struct job {
    const char *name;
    uint32_t next, wanted; /* recipients [next, wanted) are to be sent */
    uint32_t rcpts_a_message;
    uint64_t refused;
};

struct stage {
    struct sim_world *world;
    struct campaign_world *campaign;
    struct product product;
    struct conf *conf;
    struct sim_peer *injector;
    struct job bulk, extra;
    unsigned failures;
};

static void check(struct stage *stage, bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "NOT TRUE: %s\n", what);
    stage->failures++;
}

/* ---- Injectors ------------------------------------------------------------------------------- */

enum step {
    STEP_HELLO,
    STEP_IDLE,
    STEP_ENVELOPE,
    STEP_DOT,
};

struct session {
    struct stage *stage;
    struct job *job;
    struct sim_peer_conn *conn;
    enum step step;
    uint32_t first, count; /* recipients of the message under way */
};

static void send_next(struct session *session)
{
    struct job *job = session->job;
    uint32_t left = job->wanted - job->next;
    char address[64];

    session->step = STEP_IDLE;
    if (left == 0)
        return;
    session->first = job->next;
    session->count = left < job->rcpts_a_message ? left : job->rcpts_a_message;
    job->next += session->count;
    session->step = STEP_ENVELOPE;
    sim_peer_printf(session->conn, "MAIL FROM:<%s@sender.test>\r\n", job->name);
    for (uint32_t i = 0; i < session->count; i++) {
        campaign_address(session->stage->campaign, session->first + i, address);
        sim_peer_printf(session->conn, "RCPT TO:<%s>\r\n", address);
    }
    sim_peer_printf(session->conn, "DATA\r\n");
}

static void on_line(struct sim_peer_conn *conn, struct slice line)
{
    struct session *session = sim_peer_data(conn);
    uint8_t class = line.len > 3 ? line.data[0] : 0;

    /* Told to go when it has had nothing to send for long. */
    if (session->step == STEP_IDLE)
        return;
    if (class != '2' && class != '3')
        session->job->refused++;
    if (line.len > 3 && line.data[3] == '-')
        return;
    if (session->step == STEP_HELLO && slice_starts_nocase(line, SLICE_LITERAL("220"))) {
        sim_peer_printf(conn, "EHLO injector.test\r\n");
    } else if (session->step == STEP_HELLO) {
        send_next(session);
    } else if (session->step == STEP_ENVELOPE && class == '3') {
        session->step = STEP_DOT;
        sim_peer_printf(conn, "X-Job: %s\r\nSubject: news\r\n\r\nHello.\r\n.\r\n",
                        session->job->name);
    } else if (session->step == STEP_DOT && class == '2') {
        for (uint32_t i = 0; i < session->count; i++)
            campaign_note_accepted(session->stage->campaign, session->first + i);
        send_next(session);
    }
}

static void on_end(struct sim_peer_conn *conn, int32_t reason)
{
    (void)reason;
    mem_free(sim_peer_data(conn));
    sim_peer_set_data(conn, NULL);
}

static const struct sim_peer_handlers injector_handlers = {NULL, on_line, NULL, on_end};

static void open_sessions(struct stage *stage, struct job *job, uint32_t count,
                          struct session **ret_sessions)
{
    const struct ipaddr source = {IPADDR_V4, {127, 0, 0, 1}};
    const struct ipaddr_port to = {source, 2525};

    for (uint32_t i = 0; i < count; i++) {
        struct session *session = sim_peer_alloc(stage->injector, sizeof(*session));

        session->stage = stage;
        session->job = job;
        session->conn = sim_peer_connect(stage->injector, &source, &to);
        sim_peer_set_data(session->conn, session);
        ret_sessions[i] = session;
    }
}

/* ---- The stage ------------------------------------------------------------------------------- */

static void report(void *context, enum conf_severity severity, const char *file, unsigned line,
                   const char *text)
{
    (void)context;
    if (severity == CONF_ERROR)
        fprintf(stderr, "%s:%u: %s\n", file, line, text);
}

static void configure(struct stage *stage, const char *vmta, const char *domain)
{
    char config[8192];
    char *at = config;
    char *end = config + sizeof(config);

    at += snprintf(at, (size_t)(end - at),
                   "host-name mta.test\nsmtp-listener 127.0.0.1:2525\nhot-set-size 64m\n"
                   "provider-pack on\n"
                   "total-max-smtp-out 2000\n<spool /spool>\n</spool>\n"
                   "<source 127.0.0.1>\n always-allow-relaying yes\n suppress-local-dsn yes\n "
                   "default-virtual-mta pool\n"
                   " process-x-job yes\n max-message-size 10m\n</source>\n"
                   "<domain *>\n%s</domain>\n",
                   domain);
    for (unsigned i = 1; i <= CAMPAIGN_SOURCES; i++)
        at +=
            snprintf(at, (size_t)(end - at),
                     "<virtual-mta v%u>\n smtp-source-host 10.9.0.%u v%u.test\n%s</virtual-mta>\n",
                     i, i, i, vmta);
    at += snprintf(at, (size_t)(end - at), "<virtual-mta-pool pool>\n");
    for (unsigned i = 1; i <= CAMPAIGN_SOURCES; i++)
        at += snprintf(at, (size_t)(end - at), " virtual-mta v%u\n", i);
    at += snprintf(at, (size_t)(end - at), "</virtual-mta-pool>\n");
    if (at >= end || conf_load_text("campaign", config, NULL, report, NULL, &stage->conf) < 0)
        abort();
}

static enum names_say on_question(void *context, struct dns_query *query)
{
    return (enum names_say)campaign_on_question(context, query);
}

static void raise_stage(struct stage *stage, const struct campaign_setup *setup, const char *vmta,
                        const char *domain)
{
    struct sim_options options = {
        .latency_min_ns = 10 * 1000000ull,
        .latency_max_ns = 60 * 1000000ull,
        .segment_bytes_min = 1400,
        .window_min_bytes = 65536,
        .faults = sim_faults_none(),
    };
    struct product_setup product = {
        .shard_count = SHARDS,
        .segment_bytes = 16 << 20,
        .checkpoint_bytes = 1u << 30,
        .segment_count_max = 4096,
        .limits = {.message_count_max = setup->rcpt_room,
                   .rcpt_count_max = setup->rcpt_room,
                   .queue_count_max = 1 << 20,
                   .connection_count_max = 4096},
    };

    *stage = (struct stage){0};
    configure(stage, vmta, domain);
    product.conf = stage->conf;
    stage->world = sim_world_create(1, &options);
    stage->campaign = campaign_world_create(stage->world, setup);
    stage->injector = sim_peer_create(stage->world, &injector_handlers, stage);
    stage->product.world = stage->world;
    stage->product.zone.script = on_question;
    stage->product.zone.script_context = stage->campaign;
    if (product_start(&stage->product, &product) < 0)
        abort();
}

static int strike(struct stage *stage, const char *name)
{
    printf("%s: %s\n", name, stage->failures ? "FAILED" : "ok");
    product_crash(&stage->product, false);
    sim_world_destroy(stage->world);
    campaign_world_destroy(stage->campaign);
    conf_unref(stage->conf);
    return stage->failures > 0;
}

static struct report_status totals(const struct stage *stage)
{
    struct report_status sum = {0};

    for (uint32_t i = 0; i < SHARDS; i++) {
        const struct report_status *one = &stage->product.shards[i]->totals;

        sum.delivered += one->delivered;
        sum.bounced += one->bounced;
        sum.deferred += one->deferred;
        sum.connects += one->connects;
    }
    return sum;
}

static void print_kind(const struct stage *stage, enum campaign_kind kind, const char *name,
                       bool is_extra)
{
    const struct campaign_kind_figures *figures = campaign_figures(stage->campaign, kind, is_extra);

    if (figures->rcpts == 0)
        return;
    printf("  %-14s %8llu accepted %8llu delivered %7llu unknown %4llu twice  wait p50 %llu p95 "
           "%llu p99 %llu ms\n",
           name, (unsigned long long)figures->rcpts, (unsigned long long)figures->delivered,
           (unsigned long long)figures->unknown, (unsigned long long)figures->doubles,
           (unsigned long long)campaign_percentile_ms(&figures->waits, 50),
           (unsigned long long)campaign_percentile_ms(&figures->waits, 95),
           (unsigned long long)campaign_percentile_ms(&figures->waits, 99));
}

static void print_kinds(const struct stage *stage, bool is_extra)
{
#define PRINT_KIND(name, text, rcpts, domains, few)                                                \
    print_kind(stage, CAMPAIGN_##name, text, is_extra);
    CAMPAIGN_KINDS(PRINT_KIND)
#undef PRINT_KIND
}

/* Recipients of the kinds that can be delivered, accepted and neither delivered nor unknown. */
static uint64_t still_open(const struct stage *stage)
{
    uint64_t count = 0;

    for (uint32_t kind = 0; kind < CAMPAIGN_KIND_COUNT; kind++) {
        const struct campaign_kind_figures *figures =
            campaign_figures(stage->campaign, kind, false);

        if (kind != CAMPAIGN_DEAD && kind != CAMPAIGN_NXDOMAIN)
            count += figures->rcpts - figures->delivered - figures->unknown;
    }
    return count;
}

/* Recipients that may bounce so far: unknown ones, and those whose domain does not exist. */
static uint64_t may_bounce(const struct stage *stage)
{
    uint64_t count = campaign_figures(stage->campaign, CAMPAIGN_NXDOMAIN, false)->rcpts;

    for (uint32_t kind = 0; kind < CAMPAIGN_KIND_COUNT; kind++)
        count += campaign_figures(stage->campaign, kind, false)->unknown;
    return count;
}

/* ---- Scenes ---------------------------------------------------------------------------------- */

static void print_minute(const struct stage *stage, uint32_t minute)
{
    struct report_status sum = totals(stage);

    printf("minute %4u: sent %u, delivered %llu, bounced %llu, deferred %llu, connects %llu, open "
           "%llu\n",
           minute, stage->bulk.next, (unsigned long long)sum.delivered,
           (unsigned long long)sum.bounced, (unsigned long long)sum.deferred,
           (unsigned long long)sum.connects, (unsigned long long)still_open(stage));
    fflush(stdout);
}

static void check_throttles(struct stage *stage)
{
    const enum campaign_kind rows[] = {CAMPAIGN_GMAIL, CAMPAIGN_YAHOO};
    uint64_t inside = 0, stops = 0;

    for (size_t i = 0; i < 2; i++)
        for (unsigned source = 0; source < CAMPAIGN_SOURCES; source++) {
            const struct campaign_throttle *throttle =
                campaign_throttle(stage->campaign, rows[i], source);

            inside += throttle ? throttle->inside : 0;
            stops += throttle ? throttle->stops : 0;
        }
    printf("  %llu stops imposed, %llu transactions begun inside them\n", (unsigned long long)stops,
           (unsigned long long)inside);
    check(stage, inside == 0, "nothing is sent inside a stop");
}

static int bulk(uint32_t rcpts, uint32_t domains)
{
    static struct stage stage;
    const struct campaign_setup setup = {.rcpt_count = rcpts,
                                         .rcpt_room = rcpts,
                                         .domain_count = domains,
                                         .unknown_rate = 50,
                                         .throttle_rcpts = 1000};
    struct session *sessions[BULK_SESSIONS];
    const struct campaign_kind_figures *plain;
    struct report_status sum;
    uint32_t minute = 0;

    raise_stage(&stage, &setup, "", " max-smtp-out 20\n retry-after 10m\n bounce-after 4d\n");
    stage.bulk = (struct job){.name = "news", .wanted = rcpts, .rcpts_a_message = 1};
    open_sessions(&stage, &stage.bulk, BULK_SESSIONS, sessions);
    for (; minute < 24 * 60 && (stage.bulk.next < rcpts || still_open(&stage) > 0); minute++) {
        sim_run_for(stage.world, 60 * SECOND_NS);
        print_minute(&stage, minute + 1);
    }
    print_kinds(&stage, false);
    sum = totals(&stage);
    plain = campaign_figures(stage.campaign, CAMPAIGN_PLAIN, false);
    check(&stage, stage.bulk.refused == 0 && still_open(&stage) == 0, "all is delivered");
    check(&stage, sum.bounced <= may_bounce(&stage), "no valid recipient bounces");
    for (uint32_t kind = 0; kind < CAMPAIGN_KIND_COUNT; kind++)
        check(&stage, campaign_figures(stage.campaign, kind, false)->doubles == 0,
              "one attempt per unknown recipient, one delivery per other");
    check(&stage, campaign_percentile_ms(&plain->waits, 95) <= WAIT_P95_MAX_MS,
          "domains that nobody throttles wait 5 s at most, 95 of 100");
    check_throttles(&stage);
    return strike(&stage, "campaign");
}

/* Of another job, at the steady rate, into queues that hold the campaign. */
static void send_extra(struct stage *stage, struct session **sessions)
{
    for (uint32_t tenth = 0; tenth < EXTRA_SECONDS * 10; tenth++) {
        stage->extra.wanted += EXTRA_A_SECOND / 10;
        for (uint32_t i = 0; i < EXTRA_SESSIONS; i++)
            if (sessions[i]->step == STEP_IDLE)
                send_next(sessions[i]);
        sim_run_for(stage->world, SECOND_NS / 10);
        if (tenth % 600 == 599)
            print_minute(stage, tenth / 600 + 1);
    }
    sim_run_for(stage->world, 5 * SECOND_NS);
}

static uint64_t percentile_of_extra_ms(const struct stage *stage, unsigned percent)
{
    static struct campaign_waits all;

    memset(&all, 0, sizeof(all));
    for (uint32_t kind = 0; kind < CAMPAIGN_KIND_COUNT; kind++) {
        const struct campaign_waits *waits = &campaign_figures(stage->campaign, kind, true)->waits;

        /* A greylisting receiver and a late banner are not our waits. */
        if (kind == CAMPAIGN_GREY || kind == CAMPAIGN_LATE)
            continue;
        all.count += waits->count;
        for (uint32_t i = 0; i < CAMPAIGN_WAITS; i++)
            all.at[i] += waits->at[i];
    }
    return campaign_percentile_ms(&all, percent);
}

struct beside {
    const char *name;
    bool is_hosted;
    const char *vmta; /* settings of each */
};

static const struct beside besides[] = {
    {"beside", false, ""},
    /* Eight connections, one of each address, for thousands of queues. */
    {"hosted", true, " max-smtp-out 1\n"},
    /* What waits for a token is every queue. */
    {"rated", false, " max-smtp-msg-rate 20/s\n"},
    /* What waits for a connection is every site. */
    {"crowded", false, " max-smtp-out 12\n"},
};

static int beside(const struct beside *how, uint32_t rcpts, uint32_t domains)
{
    static struct stage stage;
    const struct campaign_setup setup = {.rcpt_count = rcpts,
                                         .rcpt_room = rcpts + EXTRA_A_SECOND * EXTRA_SECONDS,
                                         .domain_count = domains,
                                         .is_hosted = how->is_hosted};
    struct session *bulk_sessions[BULK_SESSIONS], *extra_sessions[EXTRA_SESSIONS];
    uint64_t missing = 0, p99_ms;

    raise_stage(&stage, &setup, how->vmta,
                " max-smtp-out 20\n max-msg-rate 10/s\n retry-after 10m\n");
    stage.bulk = (struct job){.name = "news", .wanted = rcpts, .rcpts_a_message = RCPTS_MAX};
    stage.extra = (struct job){.name = "reset", .next = rcpts, .wanted = rcpts};
    stage.extra.rcpts_a_message = 1;
    open_sessions(&stage, &stage.bulk, BULK_SESSIONS, bulk_sessions);
    open_sessions(&stage, &stage.extra, EXTRA_SESSIONS, extra_sessions);
    for (uint32_t minute = 1; stage.bulk.next < rcpts && minute < 120; minute++) {
        sim_run_for(stage.world, 60 * SECOND_NS);
        print_minute(&stage, minute);
    }
    printf("all handed in\n");
    send_extra(&stage, extra_sessions);
    print_kinds(&stage, true);
    for (uint32_t kind = 0; kind < CAMPAIGN_DEAD; kind++) {
        const struct campaign_kind_figures *figures = campaign_figures(stage.campaign, kind, true);

        if (kind != CAMPAIGN_GREY && kind != CAMPAIGN_LATE)
            missing += figures->rcpts - figures->delivered;
    }
    p99_ms = percentile_of_extra_ms(&stage, 99);
    printf("  beside %llu that wait: p99 %llu ms, %llu not delivered\n",
           (unsigned long long)still_open(&stage), (unsigned long long)p99_ms,
           (unsigned long long)missing);
    check(&stage, stage.extra.next == setup.rcpt_room, "all of the other job is handed in");
    check(&stage, still_open(&stage) > rcpts / 10, "the campaign still waits");
    check(&stage, missing == 0 && p99_ms <= WAIT_P99_MAX_MS, "the other job does not wait for it");
    return strike(&stage, how->name);
}

int main(int argc, char **argv)
{
    uint32_t rcpts = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 20000;
    uint32_t domains = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : rcpts / 25;

    quiet_log();
    if (argc > 1 && strcmp(argv[1], "bulk") == 0)
        return bulk(rcpts, domains);
    for (size_t i = 0; argc > 1 && i < sizeof(besides) / sizeof(besides[0]); i++)
        if (strcmp(argv[1], besides[i].name) == 0)
            return beside(&besides[i], rcpts, domains);
    fprintf(stderr, "usage: campaign bulk|beside|hosted|rated|crowded [RECIPIENTS [DOMAINS]]\n");
    return 2;
}
