/*
 * Half a million recipients wait for a site that is down for six hours, which pass in seconds.
 *
 *   outage_scenario [RECIPIENTS]     figures, and 1 when one is out of its bounds
 *
 * Four shards, four virtual MTAs with a limit each and one for all, a hundred domains at one site.
 * The site takes mail, then is silent for three hours and refuses connections for three more; in
 * the first minutes of that everything is queued. Then it is back. What is judged: how often it is
 * knocked at while it is down (by 400 queues from four sources), that connections come back one by
 * one and double, that no limit is exceeded by one, and that all is delivered once, soon.
 */
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/planted.h"
#include "net/dns.h"
#include "net/dns_answer.h"
#include "shard/shard_int.h"
#include "tests/sim/product/product.h"
#include "tests/sim/product/quiet.h"
#include "tests/sim/sim_peer.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SECOND_NS       1000000000ull
#define MINUTE_S        60u
#define HOUR_S          3600u
#define RCPTS           500000u
#define RCPTS_A_MESSAGE 10u
#define DOMAINS         100u
#define SHARDS          4u
#define SOURCES         4u
#define VMTA_MAX        20u
#define ALL_MAX         60u
#define SESSIONS        32u
#define LATENCY_NS      (20 * 1000000ull)

/*
 * The bounds. While it is down one queue of each source tries it for all, once in retry-after,
 * which is 10 minutes less a tenth by lot. Back, a lane begins with one connection: one for each
 * virtual MTA, on the shard that owns the queue's site. The end comes when the last queue has woken
 * up, after a retry-after and its tenth, and what it holds has gone.
 */
#define ATTEMPTS_MAX(minutes) (SOURCES * ((minutes) / 9 + 1))
#define ATTEMPTS_A_MINUTE_MAX SOURCES
#define FIRST_STEP_MAX        SOURCES
#define DRAINED_WITHIN_S      (20 * MINUTE_S)

struct stage {
    struct sim_world *world;
    struct product product;
    struct conf *conf;
    struct sim_peer *site;
    struct sim_peer *injector;
    uint32_t messages_wanted; /* to be injected in all */
    uint32_t messages_sent;
    uint32_t messages_taken;
    uint64_t delivered; /* recipients that the site has taken */
    uint32_t peak;      /* connections at once */
    uint32_t peaks[SOURCES];
    uint64_t back_ns;    /* the first connection after the outage; 0 = not yet */
    uint32_t first_step; /* connections begun before the first of them could bring another */
    bool is_back;
    unsigned failures;
};

static void check(struct stage *stage, bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "NOT TRUE: %s\n", what);
    stage->failures++;
}

/* ---- The site -------------------------------------------------------------------------------- */

struct visit {
    uint32_t rcpts;
    bool in_data;
};

static void note_peak(struct stage *stage)
{
    uint32_t all = 0;

    for (uint8_t i = 0; i < SOURCES; i++) {
        const struct ipaddr source = {IPADDR_V4, {10, 9, 0, (uint8_t)(i + 1)}};
        uint32_t count = sim_connection_count_from(stage->world, &source);

        if (count > stage->peaks[i])
            stage->peaks[i] = count;
        all += count;
    }
    if (all > stage->peak)
        stage->peak = all;
}

static void site_on_open(struct sim_peer_conn *conn)
{
    struct stage *stage = sim_peer_context(sim_peer_of(conn));
    uint64_t now_ns = sim_now_ns(stage->world);

    note_peak(stage);
    if (stage->is_back && stage->back_ns == 0)
        stage->back_ns = now_ns;
    /* The greeting of the first one has not come back yet. */
    if (stage->back_ns && now_ns < stage->back_ns + LATENCY_NS)
        stage->first_step++;
    sim_peer_set_data(conn, sim_peer_alloc(sim_peer_of(conn), sizeof(struct visit)));
    sim_peer_printf(conn, "220 site.test ESMTP\r\n");
}

static void site_on_line(struct sim_peer_conn *conn, struct slice line)
{
    struct stage *stage = sim_peer_context(sim_peer_of(conn));
    struct visit *visit = sim_peer_data(conn);

    if (visit->in_data) {
        if (line.len != 1 || line.data[0] != '.')
            return;
        stage->delivered += visit->rcpts;
        *visit = (struct visit){0};
        sim_peer_printf(conn, "250 2.0.0 taken\r\n");
    } else if (slice_starts_nocase(line, SLICE_LITERAL("EHLO"))) {
        sim_peer_printf(conn, "250-site.test\r\n250 PIPELINING\r\n");
    } else if (slice_starts_nocase(line, SLICE_LITERAL("RCPT"))) {
        visit->rcpts++;
        sim_peer_printf(conn, "250 2.1.5 ok\r\n");
    } else if (slice_starts_nocase(line, SLICE_LITERAL("DATA"))) {
        visit->in_data = true;
        sim_peer_printf(conn, "354 go on\r\n");
    } else if (slice_starts_nocase(line, SLICE_LITERAL("QUIT"))) {
        sim_peer_printf(conn, "221 2.0.0 bye\r\n");
        mem_free(visit);
        sim_peer_set_data(conn, NULL);
        sim_peer_close(conn);
    } else {
        visit->rcpts = 0;
        sim_peer_printf(conn, "250 2.0.0 ok\r\n");
    }
}

static void site_on_end(struct sim_peer_conn *conn, int32_t reason)
{
    (void)reason;
    mem_free(sim_peer_data(conn));
    sim_peer_set_data(conn, NULL);
}

static const struct sim_peer_handlers site_handlers = {
    .on_open = site_on_open,
    .on_line = site_on_line,
    .on_end = site_on_end,
};

/* ---- Injectors ------------------------------------------------------------------------------- */

enum step {
    STEP_HELLO,
    STEP_ENVELOPE,
    STEP_DOT,
};

static void set_step(struct sim_peer_conn *conn, enum step step)
{
    *(enum step *)sim_peer_data(conn) = step;
}

static void inject_on_open(struct sim_peer_conn *conn)
{
    sim_peer_set_data(conn, sim_peer_alloc(sim_peer_of(conn), sizeof(enum step)));
    sim_peer_printf(conn, "EHLO injector.test\r\n");
}

static void send_message(struct sim_peer_conn *conn, struct stage *stage)
{
    uint32_t number = stage->messages_sent++;

    sim_peer_printf(conn, "MAIL FROM:<s@sender.test>\r\n");
    for (uint32_t i = 0; i < RCPTS_A_MESSAGE; i++)
        sim_peer_printf(conn, "RCPT TO:<u%u.%u@d%u.test>\r\n", number, i, number % DOMAINS);
    sim_peer_printf(conn, "DATA\r\n");
    set_step(conn, STEP_ENVELOPE);
}

static void send_next(struct sim_peer_conn *conn, struct stage *stage)
{
    if (stage->messages_sent < stage->messages_wanted) {
        send_message(conn, stage);
        return;
    }
    mem_free(sim_peer_data(conn));
    sim_peer_set_data(conn, NULL);
    sim_peer_close(conn);
}

static void inject_on_line(struct sim_peer_conn *conn, struct slice line)
{
    struct stage *stage = sim_peer_context(sim_peer_of(conn));
    uint8_t class = line.len > 0 ? line.data[0] : 0;

    check(stage, class == '2' || class == '3', "everything is taken");
    if (line.len > 3 && line.data[3] == '-')
        return;
    switch (*(enum step *)sim_peer_data(conn)) {
    case STEP_HELLO:
        if (slice_starts_nocase(line, SLICE_LITERAL("250")))
            send_next(conn, stage);
        break;
    case STEP_ENVELOPE:
        if (class != '3')
            break;
        set_step(conn, STEP_DOT);
        sim_peer_printf(conn, "Subject: news\r\n\r\nHello.\r\n.\r\n");
        break;
    case STEP_DOT:
        stage->messages_taken += class == '2';
        send_next(conn, stage);
        break;
    }
}

static const struct sim_peer_handlers injector_handlers = {
    .on_open = inject_on_open,
    .on_line = inject_on_line,
    .on_end = site_on_end,
};

static void inject(struct stage *stage, uint32_t messages)
{
    const struct ipaddr source = {IPADDR_V4, {127, 0, 0, 1}};
    const struct ipaddr_port to = {source, 2525};

    stage->messages_wanted += messages;
    for (uint32_t i = 0; i < SESSIONS && i < messages; i++)
        sim_peer_connect(stage->injector, &source, &to);
}

/* ---- The stage ------------------------------------------------------------------------------- */

static enum names_say on_question(void *context, struct dns_query *query)
{
    const uint8_t mx[] = "\0\12site.test", address[4] = {10, 0, 0, 1};

    (void)context;
    if (query->type == DNS_MX)
        dns_answer_put(query, slice_of(mx, sizeof(mx) - 1));
    else if (query->type == DNS_A)
        dns_answer_put(query, slice_of(address, sizeof(address)));
    query->status = query->record_count > 0 ? DNS_OK : DNS_NO_DATA;
    return NAMES_ANSWERED;
}

static void report(void *context, enum conf_severity severity, const char *file, unsigned line,
                   const char *text)
{
    (void)context;
    if (severity == CONF_ERROR)
        fprintf(stderr, "%s:%u: %s\n", file, line, text);
}

static void configure(struct stage *stage)
{
    char config[4096];
    char *at = config;
    char *end = config + sizeof(config);

    at += snprintf(at, (size_t)(end - at),
                   "host-name mta.test\nsmtp-listener 127.0.0.1:2525\nhot-set-size 16m\n"
                   "total-max-smtp-out %u\n<spool /spool>\n</spool>\n"
                   "<source 127.0.0.1>\n always-allow-relaying yes\n suppress-local-dsn yes\n "
                   "default-virtual-mta pool\n"
                   "</source>\n<domain *>\n max-smtp-out %u\n retry-after 10m\n"
                   " bounce-after 2d\n</domain>\n",
                   ALL_MAX, VMTA_MAX);
    for (unsigned i = 1; i <= SOURCES; i++)
        at += snprintf(at, (size_t)(end - at),
                       "<virtual-mta v%u>\n smtp-source-host 10.9.0.%u v%u.test\n"
                       " max-smtp-out %u\n</virtual-mta>\n",
                       i, i, i, VMTA_MAX);
    at += snprintf(at, (size_t)(end - at), "<virtual-mta-pool pool>\n");
    for (unsigned i = 1; i <= SOURCES; i++)
        at += snprintf(at, (size_t)(end - at), " virtual-mta v%u\n", i);
    at += snprintf(at, (size_t)(end - at), "</virtual-mta-pool>\n");
    if (at >= end || conf_load_text("outage", config, NULL, report, NULL, &stage->conf) < 0)
        abort();
}

static void raise_stage(struct stage *stage, uint32_t rcpts)
{
    const struct ipaddr_port at = {{IPADDR_V4, {10, 0, 0, 1}}, 25};
    struct sim_options options = {
        .latency_min_ns = LATENCY_NS,
        .latency_max_ns = LATENCY_NS,
        .segment_bytes_min = 1400,
        .window_min_bytes = 65536,
        .faults = sim_faults_none(),
    };
    struct product_setup setup = {
        .shard_count = SHARDS,
        .segment_bytes = 4 << 20,
        .checkpoint_bytes = 256 << 20,
        .limits = {.message_count_max = rcpts, .rcpt_count_max = rcpts},
    };

    *stage = (struct stage){0};
    configure(stage);
    setup.conf = stage->conf;
    stage->world = sim_world_create(1, &options);
    stage->site = sim_peer_listen(stage->world, &at, &site_handlers, stage);
    stage->injector = sim_peer_create(stage->world, &injector_handlers, stage);
    stage->product.world = stage->world;
    stage->product.zone.script = on_question;
    if (product_start(&stage->product, &setup) < 0)
        abort();
}

static uint64_t attempts(const struct stage *stage)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < SHARDS; i++)
        count += stage->product.shards[i]->totals.connects;
    return count;
}

static uint64_t bounced(const struct stage *stage)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < SHARDS; i++)
        count += stage->product.shards[i]->totals.bounced;
    return count;
}

static void set_road(struct stage *stage, enum sim_route route)
{
    const struct cidr to = {{IPADDR_V4, {10, 0, 0, 1}}, 32};

    sim_route(stage->world, &to, route);
}

static uint64_t rss_kb(void)
{
    uint64_t size, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    if (file && fscanf(file, "%lu %lu", &size, &resident) != 2)
        resident = 0;
    if (file)
        fclose(file);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE) / 1024;
}

/* ---- What happens ---------------------------------------------------------------------------- */

/* So many minutes; the most attempts in one of them. */
static uint64_t wait_minutes(struct stage *stage, uint32_t minutes)
{
    uint64_t most = 0;

    for (uint32_t i = 0; i < minutes; i++) {
        uint64_t before = attempts(stage);

        sim_run_for(stage->world, MINUTE_S * SECOND_NS);
        if (attempts(stage) - before > most)
            most = attempts(stage) - before;
    }
    return most;
}

static void go_down(struct stage *stage, uint32_t rcpts)
{
    uint64_t before_kb = rss_kb();
    uint32_t minutes = 0;

    set_road(stage, SIM_ROUTE_DROP);
    inject(stage, rcpts / RCPTS_A_MESSAGE);
    wait_minutes(stage, 1);
    while (stage->messages_taken < stage->messages_wanted && ++minutes < 60)
        wait_minutes(stage, 1);
    printf("%u recipients queued within %u minutes, %llu MB resident more than before\n",
           stage->messages_taken * RCPTS_A_MESSAGE, minutes + 1,
           (unsigned long long)(rss_kb() - before_kb) / 1024);
    check(stage, stage->messages_taken == stage->messages_wanted, "all is queued");
}

static void outage(struct stage *stage, uint32_t minutes, enum sim_route route, const char *what)
{
    uint64_t before = attempts(stage), most;

    set_road(stage, route);
    most = wait_minutes(stage, minutes);
    printf("%-24s %3u minutes: %llu connection attempts, at most %llu in one minute\n", what,
           minutes, (unsigned long long)(attempts(stage) - before), (unsigned long long)most);
    check(stage, most <= ATTEMPTS_A_MINUTE_MAX, "no storm of attempts");
    check(stage, attempts(stage) - before <= ATTEMPTS_MAX(minutes),
          "one attempt of each source in retry-after");
    check(stage, attempts(stage) > before, "it is tried at all");
}

static void come_back(struct stage *stage)
{
    uint64_t before = attempts(stage), delivered, most = 0, start_ns = sim_now_ns(stage->world);
    uint64_t wanted = (uint64_t)stage->messages_wanted * RCPTS_A_MESSAGE;
    uint32_t second = 0;

    stage->is_back = true;
    stage->peak = 0;
    set_road(stage, SIM_ROUTE_OPEN);
    for (; stage->delivered < wanted && second < DRAINED_WITHIN_S; second++) {
        delivered = stage->delivered;
        sim_run_for(stage->world, SECOND_NS);
        if (stage->delivered - delivered > most)
            most = stage->delivered - delivered;
        if (stage->back_ns && (sim_now_ns(stage->world) - stage->back_ns) / SECOND_NS < 5)
            printf("  second %u: %llu recipients delivered, %u connections at most\n", second,
                   (unsigned long long)(stage->delivered - delivered), stage->peak);
    }
    printf("first connection after %llu s, %u with it; all delivered after %u s, at most %llu in a "
           "second\n",
           (unsigned long long)((stage->back_ns - start_ns) / SECOND_NS), stage->first_step, second,
           (unsigned long long)most);
    printf("%llu connections in all, at most %u at once (limit %u), by virtual MTA %u %u %u %u "
           "(limit %u)\n",
           (unsigned long long)(attempts(stage) - before), stage->peak, ALL_MAX, stage->peaks[0],
           stage->peaks[1], stage->peaks[2], stage->peaks[3], VMTA_MAX);
    check(stage, stage->delivered == wanted, "all is delivered in time");
    check(stage, stage->first_step <= FIRST_STEP_MAX, "a lane begins with one connection");
    check(stage, stage->peak <= ALL_MAX, "the limit of all connections holds");
    for (unsigned i = 0; i < SOURCES; i++)
        check(stage, stage->peaks[i] <= VMTA_MAX, "the limit of a virtual MTA holds");
    sim_run_for(stage->world, HOUR_S * SECOND_NS);
    check(stage, stage->delivered == wanted, "everything once");
    check(stage, bounced(stage) == 0, "nothing is returned");
    check(stage, product_is_empty(&stage->product), "nothing is left");
}

int main(int argc, char **argv)
{
    static struct stage stage;
    uint32_t rcpts = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 0) : RCPTS;

    setvbuf(stdout, NULL, _IOLBF, 0);
    quiet_log();
    raise_stage(&stage, rcpts);
    /* The site is known, and warm. */
    inject(&stage, 10 * DOMAINS);
    sim_run_for(stage.world, 5 * MINUTE_S * SECOND_NS);
    check(&stage, stage.delivered == 10 * DOMAINS * RCPTS_A_MESSAGE, "all is well before");
    go_down(&stage, rcpts);
    outage(&stage, 180, SIM_ROUTE_DROP, "silent");
    outage(&stage, 180, SIM_ROUTE_REFUSE, "refuses connections");
    come_back(&stage);
    printf("outage of six hours: %s\n", stage.failures ? "FAILED" : "ok");
    product_crash(&stage.product, false);
    sim_world_destroy(stage.world);
    conf_unref(stage.conf);
    return stage.failures ? 1 : 0;
}
