/*
 * A provider that answers 5.1.1 for live users for half an hour, a hundred times a second.
 *
 *   breaker_scenario     figures, and 1 when one is out of its bounds
 *
 * Four shards, forty domains whose MX hosts are one provider's, four senders. Two minutes of good
 * mail with two invalid addresses in a hundred, then half an hour in which everybody is refused,
 * then good mail again. What is judged: that at most 300 recipients were returned who live, that
 * all of them have their mail in the end, once, and that each invalid one was returned.
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
#include <string.h>

#define SECOND_NS    1000000000ull
#define SHARDS       4u
#define DOMAINS      40u
#define SENDERS      4u
#define RATE         100u /* messages a second */
#define STORM_S      1800u
#define INVALID_EACH 50u /* one in so many */
#define MESSAGES     (RATE * (120u + STORM_S + 300u))
#define HARD_MAX     300u

struct stage {
    struct sim_world *world;
    struct product product;
    struct conf *conf;
    struct sim_peer *injector;
    uint32_t wanted;
    uint32_t sent;
    uint32_t accepted;
    uint8_t taken[MESSAGES]; /* by the site */
    bool is_storm;
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
    uint32_t number; /* of the recipient */
    bool in_data;
};

static bool is_invalid(uint32_t number)
{
    return number % INVALID_EACH == 7;
}

static void site_on_open(struct sim_peer_conn *conn)
{
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
        visit->in_data = false;
        stage->taken[visit->number]++;
        sim_peer_printf(conn, "250 2.0.0 taken\r\n");
    } else if (slice_starts_nocase(line, SLICE_LITERAL("RCPT"))) {
        visit->number = (uint32_t)strtoul((const char *)line.data + strlen("RCPT TO:<u"), NULL, 10);
        if (stage->is_storm || is_invalid(visit->number))
            sim_peer_printf(conn, "550 5.1.1 The email account does not exist\r\n");
        else
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
        sim_peer_printf(conn, "250 2.0.0 ok\r\n");
    }
}

static void site_on_end(struct sim_peer_conn *conn, int32_t reason)
{
    mem_free(sim_peer_data(conn));
    sim_peer_set_data(conn, NULL);
}

static const struct sim_peer_handlers site_handlers = {
    .on_open = site_on_open,
    .on_line = site_on_line,
    .on_end = site_on_end,
};

/* ---- The injector ---------------------------------------------------------------------------- */

static void inject_next(struct sim_peer_conn *conn, struct stage *stage)
{
    uint32_t number = stage->sent;

    if (number == stage->wanted) {
        sim_peer_close(conn);
        return;
    }
    stage->sent++;
    sim_peer_printf(conn, "MAIL FROM:<s@s%u.test>\r\nRCPT TO:<u%u@d%u.test>\r\nDATA\r\n",
                    number / DOMAINS % SENDERS, number, number % DOMAINS);
}

static void inject_on_open(struct sim_peer_conn *conn)
{
    sim_peer_printf(conn, "EHLO injector.test\r\n");
}

static void inject_on_line(struct sim_peer_conn *conn, struct slice line)
{
    struct stage *stage = sim_peer_context(sim_peer_of(conn));

    if (line.len > 3 && line.data[3] == '-')
        return;
    if (slice_starts_nocase(line, SLICE_LITERAL("354"))) {
        sim_peer_set_data(conn, stage);
        sim_peer_printf(conn, "Subject: news\r\n\r\nHello.\r\n.\r\n");
    } else if (sim_peer_data(conn)) {
        stage->accepted += line.data[0] == '2';
        sim_peer_set_data(conn, NULL);
        inject_next(conn, stage);
    } else if (slice_starts_nocase(line, SLICE_LITERAL("250")) &&
               !slice_starts_nocase(line, SLICE_LITERAL("250 2."))) {
        inject_next(conn, stage);
    }
}

static const struct sim_peer_handlers injector_handlers = {
    .on_open = inject_on_open,
    .on_line = inject_on_line,
};

/* ---- The stage ------------------------------------------------------------------------------- */

static enum names_say on_question(void *context, struct dns_query *query)
{
    uint8_t mx[32] = {0, 10};
    const uint8_t address[4] = {10, 0, 0, 1};
    unsigned number;

    if (query->type == DNS_MX && sscanf(query->name, "d%u.test", &number) == 1) {
        int len = snprintf((char *)mx + 2, sizeof(mx) - 2, "mx%u.big.test", number);

        dns_answer_put(query, slice_of(mx, 2 + (size_t)len));
    } else if (query->type == DNS_A) {
        dns_answer_put(query, slice_of(address, sizeof(address)));
    }
    query->status = query->record_count > 0 ? DNS_OK : DNS_NO_DATA;
    return NAMES_ANSWERED;
}

static void report(void *context, enum conf_severity severity, const char *file, unsigned line,
                   const char *text)
{
    if (severity == CONF_ERROR)
        fprintf(stderr, "%s:%u: %s\n", file, line, text);
}

static void raise_stage(struct stage *stage)
{
    static const char config[] =
        "host-name mta.test\nsmtp-listener 127.0.0.1:2525\n<spool /spool>\n</spool>\n"
        "<provider big>\n mx .big.test\n</provider>\n"
        "<source 127.0.0.1>\n always-allow-relaying yes\n suppress-local-dsn yes\n "
        "default-virtual-mta v\n</source>\n"
        "<virtual-mta v>\n smtp-source-host 10.9.0.1 v.test\n</virtual-mta>\n"
        "<domain *>\n max-smtp-out 10\n retry-after 10m\n</domain>\n";
    const struct ipaddr_port at = {{IPADDR_V4, {10, 0, 0, 1}}, 25};
    struct sim_options options = {.latency_max_ns = 5000000, .faults = sim_faults_none()};
    struct product_setup setup = {
        .shard_count = SHARDS,
        .segment_bytes = 4 << 20,
        .checkpoint_bytes = 64 << 20,
        .limits = {.message_count_max = MESSAGES, .rcpt_count_max = MESSAGES}};

    if (conf_load_text("sim", config, NULL, report, NULL, &stage->conf) < 0)
        abort();
    setup.conf = stage->conf;
    stage->world = sim_world_create(1, &options);
    sim_peer_listen(stage->world, &at, &site_handlers, stage);
    stage->injector = sim_peer_create(stage->world, &injector_handlers, stage);
    stage->product.world = stage->world;
    stage->product.zone.script = on_question;
    if (product_start(&stage->product, &setup) < 0)
        abort();
}

static void run(struct stage *stage, uint32_t seconds, uint32_t rate)
{
    const struct ipaddr source = {IPADDR_V4, {127, 0, 0, 1}};
    const struct ipaddr_port to = {source, 2525};

    for (uint32_t i = 0; i < seconds; i++) {
        stage->wanted += rate;
        for (uint32_t k = 0; k < 4 && rate > 0; k++)
            sim_peer_connect(stage->injector, &source, &to);
        sim_run_for(stage->world, SECOND_NS);
    }
}

static uint64_t bounced(const struct stage *stage)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < SHARDS; i++)
        count += stage->product.shards[i]->totals.bounced;
    return count;
}

static uint64_t opened(const struct stage *stage)
{
    uint64_t count = 0;

    for (uint32_t i = 0; i < SHARDS; i++)
        count += stage->product.shards[i]->holds.opened;
    return count;
}

static void judge(struct stage *stage)
{
    uint32_t lost = 0, twice = 0, invalid = 0;

    for (uint32_t i = 0; i < stage->sent; i++) {
        lost += !is_invalid(i) && stage->taken[i] == 0;
        twice += stage->taken[i] > 1;
        invalid += is_invalid(i);
    }
    printf("%u sent, %llu returned, %u of them live, %u invalid, %llu queued, breakers opened %llu "
           "times\n",
           stage->sent, (unsigned long long)bounced(stage), lost, invalid,
           (unsigned long long)product_queued(&stage->product), (unsigned long long)opened(stage));
    check(stage, stage->accepted == stage->sent && stage->sent == MESSAGES, "all was accepted");
    check(stage, lost <= HARD_MAX, "at most 300 were returned who live");
    check(stage, lost > 0, "some were, before it was known");
    check(stage, twice == 0, "nobody has it twice");
    check(stage, bounced(stage) == lost + invalid, "each invalid one was returned");
    check(stage, product_queued(&stage->product) == 0, "nothing waits in the end");
}

int main(void)
{
    static struct stage stage;
    uint64_t before;

    setvbuf(stdout, NULL, _IOLBF, 0);
    quiet_log();
    raise_stage(&stage);
    run(&stage, 120, RATE);
    check(&stage, opened(&stage) == 0, "nothing is held before");
    before = bounced(&stage);
    stage.is_storm = true;
    run(&stage, STORM_S, RATE);
    printf("storm: %llu returned, %llu queued\n", (unsigned long long)(bounced(&stage) - before),
           (unsigned long long)product_queued(&stage.product));
    check(&stage, bounced(&stage) - before <= HARD_MAX, "at most 300 hard records");
    stage.is_storm = false;
    run(&stage, 300, RATE);
    run(&stage, 3 * 3600, 0);
    judge(&stage);
    printf("false 5.1.1 for half an hour: %s\n", stage.failures ? "FAILED" : "ok");
    product_crash(&stage.product, false);
    sim_world_destroy(stage.world);
    conf_unref(stage.conf);
    return stage.failures ? 1 : 0;
}
