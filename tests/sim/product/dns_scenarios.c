/*
 * Bad hours of the DNS, played with the whole product in the simulated world, hours in seconds.
 *
 *   dns_scenarios          every scenario, with its figures; 1 when one fails
 */
#include "core/base/log.h"
#include "core/base/planted.h"
#include "net/dns.h"
#include "net/dns_answer.h"
#include "shard/shard_int.h"
#include "tests/sim/product/product.h"
#include "tests/sim/product/quiet.h"
#include "tests/sim/product/remote_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SECOND_NS    1000000000ull
#define MINUTE_NS    (60 * SECOND_NS)
#define HOUR_NS      (60 * MINUTE_NS)
#define MESSAGES_MAX 20000
#define SHARDS       2

/* Receivers stand at 10.0.0.1 and 2001:db8::1, port 25. */
static const struct ipaddr receiver_ipv4 = {IPADDR_V4, {10, 0, 0, 1}};
static const struct ipaddr receiver_ipv6 = {IPADDR_V6, {0x20, 1, 0xd, 0xb8, [15] = 1}};

enum mood {
    MOOD_GOOD,
    MOOD_SILENT,
    MOOD_DENYING, /* NXDOMAIN for everything */
    MOOD_FAILING, /* SERVFAIL for everything */
};

struct stage {
    const char *name;
    struct sim_world *world;
    struct ledger ledger;
    struct remote remote; /* its injector only */
    struct product product;
    struct conf *conf;
    struct sim_peer *receivers[2]; /* IPv4, IPv6 */
    struct rng rng;
    enum mood mood;
    uint32_t gone_from;  /* domains from this number on do not exist */
    uint64_t questions;  /* for MX */
    uint32_t dead_hosts; /* so many MX hosts instead, at which nobody listens */
    bool ipv6_is_worse;  /* hosts with IPv6 have their own name, with a worse preference */
    bool ipv6_is_better;
    bool ipv6_refuses;       /* by policy, at MAIL */
    uint64_t taken[2];       /* recipients, by family */
    uint64_t mails[2];       /* MAIL commands */
    uint64_t bounced_before; /* in former lives */
    unsigned failures;
};

static void check(struct stage *stage, bool holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "%s: NOT TRUE: %s\n", stage->name, what);
    stage->failures++;
}

/* ---- The DNS ----------------------------------------------------------------------------------
 */

static void put_mx(struct dns_query *query, uint8_t preference, const char *host)
{
    uint8_t record[64] = {0, preference};

    memcpy(record + 2, host, strlen(host));
    dns_answer_put(query, slice_of(record, 2 + strlen(host)));
}

static void answer_mx(const struct stage *stage, struct dns_query *query)
{
    for (uint32_t i = 0; i < stage->dead_hosts; i++) {
        char host[24];

        snprintf(host, sizeof(host), "dead%u.test", i);
        put_mx(query, (uint8_t)i, host);
    }
    if (stage->dead_hosts > 0)
        return;
    if (stage->ipv6_is_worse || stage->ipv6_is_better) {
        put_mx(query, 10, stage->ipv6_is_better ? "six.test" : "four.test");
        put_mx(query, 20, stage->ipv6_is_better ? "four.test" : "six.test");
    } else {
        put_mx(query, 10, "both.test");
    }
}

static void answer_address(struct dns_query *query)
{
    bool is_ipv6 = query->type == DNS_AAAA;
    uint8_t dead[4] = {10, 0, 1};
    unsigned number;

    if (strcmp(query->name, is_ipv6 ? "four.test" : "six.test") == 0)
        return;
    if (sscanf(query->name, "dead%u.test", &number) == 1) {
        dead[3] = (uint8_t)number;
        dns_answer_put(query, slice_of(dead, sizeof(dead)));
        return;
    }
    dns_answer_put(query,
                   is_ipv6 ? slice_of(receiver_ipv6.bytes, 16) : slice_of(receiver_ipv4.bytes, 4));
}

static enum names_say on_question(void *context, struct dns_query *query)
{
    struct stage *stage = context;
    unsigned number = 0;
    bool is_domain = sscanf(query->name, "d%u.test", &number) == 1;

    stage->questions += query->type == DNS_MX;
    if (stage->mood == MOOD_SILENT)
        return NAMES_SILENT;
    if (stage->mood == MOOD_FAILING) {
        query->status = DNS_FAILURE;
    } else if (stage->mood == MOOD_DENYING || (is_domain && number >= stage->gone_from)) {
        query->status = DNS_NO_NAME;
    } else {
        if (query->type == DNS_MX && is_domain)
            answer_mx(stage, query);
        else if (!is_domain && query->type != DNS_MX)
            answer_address(query);
        query->status = query->record_count > 0 ? DNS_OK : DNS_NO_DATA;
    }
    return NAMES_ANSWERED;
}

/* ---- Receivers ------------------------------------------------------------------------------- */

static void on_open(struct sim_peer_conn *conn)
{
    sim_peer_printf(conn, "220 receiver.test ESMTP\r\n");
}

static unsigned family_of(const struct stage *stage, struct sim_peer_conn *conn)
{
    return sim_peer_of(conn) == stage->receivers[1];
}

/* In the data sim_peer_data is not NULL. */
static void on_line(struct sim_peer_conn *conn, struct slice line)
{
    struct stage *stage = sim_peer_context(sim_peer_of(conn));
    unsigned family = family_of(stage, conn);

    if (sim_peer_data(conn)) {
        if (line.len != 1 || line.data[0] != '.')
            return;
        sim_peer_set_data(conn, NULL);
        stage->taken[family]++;
        sim_peer_printf(conn, "250 2.0.0 taken\r\n");
    } else if (slice_starts_nocase(line, SLICE_LITERAL("MAIL"))) {
        stage->mails[family]++;
        if (family == 1 && stage->ipv6_refuses)
            sim_peer_printf(conn, "550 5.7.1 does not meet IPv6 sending guidelines\r\n");
        else
            sim_peer_printf(conn, "250 2.1.0 ok\r\n");
    } else if (slice_equal_nocase(line, SLICE_LITERAL("DATA"))) {
        sim_peer_set_data(conn, stage);
        sim_peer_printf(conn, "354 go on\r\n");
    } else if (slice_equal_nocase(line, SLICE_LITERAL("QUIT"))) {
        sim_peer_printf(conn, "221 2.0.0 bye\r\n");
        sim_peer_close(conn);
    } else {
        sim_peer_printf(conn, "250 ok\r\n");
    }
}

static const struct sim_peer_handlers receiver = {.on_open = on_open, .on_line = on_line};

/* ---- The stage ------------------------------------------------------------------------------- */

static void report(void *context, enum conf_severity severity, const char *file, unsigned line,
                   const char *text)
{
    (void)context;
    if (severity == CONF_ERROR)
        fprintf(stderr, "%s:%u: %s\n", file, line, text);
}

static void start_life(struct stage *stage)
{
    struct product_setup setup = {
        .shard_count = SHARDS,
        .conf = stage->conf,
        .segment_bytes = 1 << 20,
        .checkpoint_bytes = 1 << 20,
        .segment_count_max = 512,
    };

    if (product_start(&stage->product, &setup) < 0)
        abort();
}

static void raise_stage(struct stage *stage, const char *name, uint32_t domain_count,
                        const char *more)
{
    const struct ipaddr_port at[2] = {{receiver_ipv4, 25}, {receiver_ipv6, 25}};
    struct sim_options options = {.latency_max_ns = 5000000, .faults = sim_faults_none()};
    char config[2048];

    *stage = (struct stage){.name = name, .gone_from = UINT32_MAX};
    snprintf(config, sizeof(config),
             "host-name mta.test\nsmtp-listener 127.0.0.1:2525\n<spool /spool>\n</spool>\n"
             "<source 127.0.0.1>\n always-allow-relaying yes\n suppress-local-dsn yes\n "
             "default-virtual-mta v\n</source>\n"
             "<virtual-mta v>\n smtp-source-host 10.9.0.1 v.test\n%s</virtual-mta>\n",
             more);
    if (conf_load_text("sim", config, NULL, report, NULL, &stage->conf) < 0)
        abort();
    rng_init(&stage->rng, 1);
    stage->world = sim_world_create(1, &options);
    ledger_init(&stage->ledger, MESSAGES_MAX, domain_count, &stage->rng);
    for (uint32_t i = 0; i < MESSAGES_MAX; i++)
        stage->ledger.messages[i].rcpt_count = 1;
    stage->ledger.count = 0;
    for (unsigned i = 0; i < 2; i++)
        stage->receivers[i] = sim_peer_listen(stage->world, &at[i], &receiver, stage);
    stage->remote = (struct remote){
        .world = stage->world,
        .ledger = &stage->ledger,
        .injector = sim_peer_create(stage->world, &injector_handlers, &stage->remote),
        .product = {{IPADDR_V4, {127, 0, 0, 1}}, 2525},
        .session_count = 1,
        .inject = true,
    };
    stage->product.world = stage->world;
    stage->product.zone.script = on_question;
    stage->product.zone.script_context = stage;
    start_life(stage);
}

static bool strike(struct stage *stage)
{
    printf("%-36s %s\n", stage->name, stage->failures ? "FAILED" : "ok");
    product_crash(&stage->product, false);
    sim_world_destroy(stage->world);
    conf_unref(stage->conf);
    ledger_fini(&stage->ledger);
    return stage->failures == 0;
}

static uint64_t bounced(const struct stage *stage)
{
    uint64_t count = stage->bounced_before;

    for (uint16_t i = 0; i < SHARDS; i++)
        count += stage->product.shards[i]->totals.bounced;
    return count;
}

static void restart(struct stage *stage)
{
    stage->bounced_before = bounced(stage);
    product_crash(&stage->product, false);
    sim_run_for(stage->world, SECOND_NS);
    start_life(stage);
}

static uint64_t taken(const struct stage *stage)
{
    return stage->taken[0] + stage->taken[1];
}

/* So many messages a second for so many seconds. */
static void run(struct stage *stage, uint32_t seconds, uint32_t messages_per_s)
{
    for (uint32_t i = 0; i < seconds; i++) {
        stage->ledger.count += messages_per_s;
        if (stage->ledger.count > MESSAGES_MAX)
            abort();
        remote_tend(&stage->remote);
        sim_run_for(stage->world, SECOND_NS);
    }
}

/* ---- Scenarios ------------------------------------------------------------------------------- */

/* A shard has found out that the resolver fails, and holds queues for that. */
static bool is_found_out(const struct stage *stage)
{
    for (uint16_t i = 0; i < SHARDS; i++) {
        const struct shard *shard = stage->product.shards[i];

        for (uint32_t j = 0; j < shard->queues.count_grown; j++)
            if (slab_is_live(&shard->queues, j) && outlook_holds(shard, slab_at(&shard->queues, j)))
                return true;
    }
    return false;
}

/* A quarter of an hour with a resolver that is dead, fails or lies: nothing is returned, and a
 * minute after its return everything goes at the full rate again, what had waited included. */
static bool resolver_away_for_15_minutes(enum mood mood, const char *name, uint32_t domain_count)
{
    enum { RATE = 5 };
    static struct stage stage;
    uint64_t before, waiting, taken_before;

    raise_stage(&stage, name, domain_count, "");
    run(&stage, 600, RATE);
    before = taken(&stage);
    run(&stage, 60, RATE);
    check(&stage, taken(&stage) - before >= 60 * RATE - RATE, "the rate is full before");
    stage.mood = mood;
    run(&stage, 900, RATE);
    waiting = product_queued(&stage.product);
    check(&stage, waiting >= 500, "much waits in the end");
    check(&stage, is_found_out(&stage), "explain and the list of breakers name the resolver");
    check(&stage, bounced(&stage) == 0, "nothing is returned");
    stage.mood = MOOD_GOOD;
    run(&stage, 60, RATE);
    check(&stage, !is_found_out(&stage), "the breaker is closed again");
    check(&stage, product_queued(&stage.product) <= 2 * RATE, "a minute later nothing waits");
    taken_before = taken(&stage);
    run(&stage, 60, RATE);
    check(&stage, taken(&stage) - taken_before >= 60 * RATE - RATE, "the rate is full again");
    check(&stage, bounced(&stage) == 0, "nothing was returned");
    check(&stage, taken(&stage) + 2 * RATE >= stage.ledger.answered, "nothing was lost");
    printf("  %llu recipients waited, %llu of %u taken in the end, %llu returned\n",
           (unsigned long long)waiting, (unsigned long long)taken(&stage), stage.ledger.answered,
           (unsigned long long)bounced(&stage));
    return strike(&stage);
}

/* A resolver that denies everything for three hours: the witnesses find it out. */
static bool a29_resolver_that_denies_everything(void)
{
    static struct stage stage;

    raise_stage(&stage, "a29 NXDOMAIN for everything, 3 hours", 100, "");
    run(&stage, 60, 5);
    check(&stage, taken(&stage) >= 290, "all is well before");
    stage.mood = MOOD_DENYING;
    run(&stage, 3 * 3600, 1);
    check(&stage, bounced(&stage) == 0, "nothing is returned");
    stage.mood = MOOD_GOOD;
    run(&stage, 5 * 3600, 0);
    check(&stage, bounced(&stage) == 0, "nothing was returned");
    check(&stage, taken(&stage) == stage.ledger.answered, "everything arrives");
    printf("  %u answered, %llu taken, %llu returned\n", stage.ledger.answered,
           (unsigned long long)taken(&stage), (unsigned long long)bounced(&stage));
    return strike(&stage);
}

/* Messages of the ledger so far to domains that do not exist. */
static uint32_t to_gone_domains(const struct stage *stage)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < stage->ledger.count; i++)
        count += stage->ledger.messages[i].domain >= stage->gone_from;
    return count;
}

/* Two answers, half an hour apart, even when the mailing is over by then. */
static bool domains_that_do_not_exist(void)
{
    static struct stage stage;
    uint32_t gone;

    raise_stage(&stage, "domains that do not exist", 40, "");
    stage.gone_from = 30;
    run(&stage, 60, 5);
    gone = to_gone_domains(&stage);
    check(&stage, gone >= 20, "some do not exist");
    run(&stage, 30 * 60, 0);
    check(&stage, bounced(&stage) == 0, "nothing is returned within half an hour");
    run(&stage, 90 * 60, 0);
    check(&stage, bounced(&stage) == gone, "all of it is after two hours");
    check(&stage, taken(&stage) == stage.ledger.answered - gone, "the others have their mail");
    printf("  %u to such domains, %llu returned\n", gone, (unsigned long long)bounced(&stage));
    return strike(&stage);
}

/* The first answer counts over a restart, but never alone, and nobody is judged without witnesses.
 */
static bool restart_between_the_answers(void)
{
    static struct stage stage;
    uint32_t gone;

    raise_stage(&stage, "a restart between the two answers", 40, "");
    stage.gone_from = 30;
    run(&stage, 60, 5);
    gone = to_gone_domains(&stage);
    run(&stage, 15 * 60, 0);
    restart(&stage);
    run(&stage, 14 * 60, 1);
    check(&stage, bounced(&stage) == 0, "nothing is returned within half an hour");
    /* Mail to domains that were first asked about after the restart is not due yet. */
    run(&stage, 45 * 60, 0);
    check(&stage, bounced(&stage) >= gone, "what waited is returned with the fourth answer");
    run(&stage, 3600, 0);
    check(&stage, bounced(&stage) == to_gone_domains(&stage), "in the end all of it");
    printf("  %llu returned\n", (unsigned long long)bounced(&stage));
    return strike(&stage);
}

static bool without_witnesses_nothing_is_final(void)
{
    static struct stage stage;
    uint32_t gone;

    raise_stage(&stage, "no witnesses after a restart", 40, "");
    stage.gone_from = 30;
    run(&stage, 60, 5);
    gone = to_gone_domains(&stage);
    run(&stage, 15 * 60, 0);
    restart(&stage);
    run(&stage, 6 * 3600, 0);
    check(&stage, bounced(&stage) == 0, "nothing is returned while nobody can tell");
    /* Some for each shard: each has witnesses of its own. */
    for (uint32_t i = 0; i < 30; i++)
        stage.ledger.messages[stage.ledger.count + i].domain = (uint16_t)i;
    run(&stage, 1, 30);
    run(&stage, 10 * 60, 0);
    check(&stage, bounced(&stage) == gone, "it is once somebody can");
    printf("  %llu returned\n", (unsigned long long)bounced(&stage));
    return strike(&stage);
}

#define IPV6_SOURCE " smtp-source-host 2001:db8:9::1 v.test\n"
#define IPV6_FIRST  " <domain *>\n smtp-ip-preference ipv6\n </domain>\n"

/* Each row: 100 messages, who takes them. */
static bool ipv6_and_ipv4(void)
{
    static const struct {
        const char *name;
        const char *sources;
        bool is_worse;
        bool is_better;
        bool refuses;
        bool ipv4_is_dead;
        bool ipv6_is_dead;
        unsigned taker;     /* 0 = IPv4, 1 = IPv6 */
        uint32_t mails_max; /* at the other */
    } rows[] = {
        {"IPv4 first", IPV6_SOURCE, 0, 0, 0, 0, 0, 0, 0},
        {"IPv6 first when told so", IPV6_SOURCE IPV6_FIRST, 0, 0, 0, 0, 0, 1, 0},
        {"only IPv4 without a source for IPv6", IPV6_FIRST, 0, 0, 0, 0, 0, 0, 0},
        {"the better host decides: IPv6", IPV6_SOURCE, 0, 1, 0, 0, 0, 1, 0},
        {"the better host decides: IPv4", IPV6_SOURCE IPV6_FIRST, 1, 0, 0, 0, 0, 0, 0},
        {"IPv4 is dead", IPV6_SOURCE, 0, 0, 0, 1, 0, 1, 0},
        {"IPv6 is dead", IPV6_SOURCE IPV6_FIRST, 0, 0, 0, 0, 1, 0, 0},
        {"IPv6 refuses by policy", IPV6_SOURCE IPV6_FIRST, 0, 0, 1, 0, 0, 0, 100},
        {"the better host refuses IPv6", IPV6_SOURCE, 0, 1, 1, 0, 0, 0, 100},
    };
    static struct stage stage;
    bool all_good = true;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cidr ipv4 = {receiver_ipv4, 32}, ipv6 = {receiver_ipv6, 128};
        unsigned other = !rows[i].taker;
        uint64_t refused;

        raise_stage(&stage, rows[i].name, 10, rows[i].sources);
        stage.ipv6_is_worse = rows[i].is_worse;
        stage.ipv6_is_better = rows[i].is_better;
        stage.ipv6_refuses = rows[i].refuses;
        sim_route(stage.world, &ipv4, rows[i].ipv4_is_dead ? SIM_ROUTE_REFUSE : SIM_ROUTE_OPEN);
        sim_route(stage.world, &ipv6, rows[i].ipv6_is_dead ? SIM_ROUTE_REFUSE : SIM_ROUTE_OPEN);
        run(&stage, 10, 10);
        /* Shorter than any rest of a queue, and than what a site is remembered for. */
        run(&stage, 15, 0);
        check(&stage, stage.taken[rows[i].taker] == 100, "all is taken by the right one");
        check(&stage, bounced(&stage) == 0, "nothing is returned");
        check(&stage, stage.mails[other] <= rows[i].mails_max, "nothing went the other way");
        refused = stage.mails[other];
        run(&stage, 10, 10);
        run(&stage, 15, 0);
        check(&stage, stage.taken[rows[i].taker] == 200, "and the next 100");
        check(&stage, stage.mails[other] == refused, "what is known to refuse is not tried again");
        all_good &= strike(&stage);
    }
    return all_good;
}

/* Of eight dead hosts as many are tried before the queue rests as mx-connection-attempts says, and
 * as many again when the rest is over. */
static bool dead_hosts_are_tried_so_often(uint32_t attempts)
{
    static struct stage stage;
    struct cidr dead = {{IPADDR_V4, {10, 0, 1}}, 24};
    uint64_t connects = 0;
    char more[100], name[40];

    snprintf(more, sizeof(more),
             " <domain *>\n mx-connection-attempts %u\n retry-after 10m\n </domain>\n", attempts);
    snprintf(name, sizeof(name), "mx-connection-attempts %u", attempts);
    raise_stage(&stage, name, 1, more);
    stage.dead_hosts = 8;
    sim_route(stage.world, &dead, SIM_ROUTE_REFUSE);
    run(&stage, 1, 1);
    for (uint32_t round = 1; round <= 2; round++) {
        run(&stage, round == 1 ? 10 : 12 * 60, 0);
        connects = stage.product.shards[0]->totals.connects;
        connects += stage.product.shards[1]->totals.connects;
        check(&stage, connects == round * (attempts < 8 ? attempts : 8), "so many are tried");
    }
    printf("  %llu connects in two rounds\n", (unsigned long long)connects);
    return strike(&stage);
}

/* Eight of ten domains are looked up at the start and again and again, by each shard. When the
 * resolver falls silent then, the first mail to them goes, that to the others waits. */
static bool precached_domains(void)
{
    static struct stage stage;
    char path[] = "/tmp/ringpost-precached-XXXXXX", more[200];
    int fd = mkstemp(path);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");

    if (file == NULL)
        abort();
    for (unsigned i = 0; i < 10; i++)
        fprintf(file, "%sd%u.test\n", i == 3 ? "# not this: " : "", i);
    fclose(file);
    /* The virtual MTA of the stage ends, and an empty one takes its end. */
    snprintf(more, sizeof(more),
             "</virtual-mta>\n<dns>\n precached-domains-file %s\n precached-max-domains 8\n"
             " precached-domains-refresh-interval 1h\n</dns>\n<virtual-mta other>\n",
             path);
    raise_stage(&stage, "precached domains", 10, more);
    unlink(path);
    for (uint32_t i = 0; i < 10; i++)
        stage.ledger.messages[i].domain = (uint16_t)i;
    sim_run_for(stage.world, SECOND_NS);
    check(&stage, stage.questions == 8 * SHARDS, "each shard has asked for them");
    stage.mood = MOOD_SILENT;
    run(&stage, 1, 10);
    run(&stage, 10, 0);
    check(&stage, taken(&stage) == 8, "mail to them goes, that to the others waits");
    stage.mood = MOOD_GOOD;
    run(&stage, 120 * 60, 0);
    check(&stage, taken(&stage) == 10, "the others have theirs later");
    check(&stage, stage.questions >= 2 * 8 * SHARDS, "they are looked up again");
    printf("  %llu questions in two hours\n", (unsigned long long)stage.questions);
    return strike(&stage);
}

/* A resolver that is dead while injectors are checked: each message waits and is answered in time,
 * none is lost or refused, and all is well again with the resolver. */
static bool checks_meet_a_dead_resolver(void)
{
    enum { RATE = 5, SILENCE_S = 600, BOUND_S = 21 };
    static struct stage stage;
    uint32_t pause_s = 0, longest_s = 0;

    raise_stage(&stage, "a dead resolver while injectors are checked", 20,
                "</virtual-mta>\n<source 127.0.0.1>\n check-spf-inbound yes\n "
                "check-iprev-inbound yes\n check-mfrom-inbound yes\n check-dkim-inbound yes\n"
                "</source>\n<virtual-mta w>\n smtp-source-host 10.9.0.2 w.test\n");
    run(&stage, 60, RATE);
    check(&stage, stage.ledger.answered + RATE >= 60 * RATE, "the rate is full before");
    stage.mood = MOOD_SILENT;
    for (uint32_t i = 0; i < SILENCE_S; i++) {
        uint32_t answered = stage.ledger.answered;

        run(&stage, 1, RATE);
        pause_s = stage.ledger.answered == answered ? pause_s + 1 : 0;
        longest_s = pause_s > longest_s ? pause_s : longest_s;
    }
    check(&stage, longest_s >= 5, "messages wait for the answers");
    check(&stage, longest_s <= BOUND_S, "but no longer than the bound");
    stage.mood = MOOD_GOOD;
    run(&stage, 1200, 0);
    check(&stage, stage.ledger.answered == stage.ledger.count, "in the end all are accepted");
    check(&stage, taken(&stage) == stage.ledger.answered, "and delivered");
    check(&stage, bounced(&stage) == 0, "nothing was returned");
    printf("  %u messages, the longest wait was %u s\n", stage.ledger.answered, longest_s);
    return strike(&stage);
}

int main(void)
{
    bool all_good = true;

    quiet_log();
    all_good &= resolver_away_for_15_minutes(MOOD_SILENT, "resolver silent for 15 min", 300);
    all_good &= resolver_away_for_15_minutes(MOOD_FAILING, "SERVFAIL for 15 min", 300);
    all_good &= resolver_away_for_15_minutes(MOOD_DENYING, "NXDOMAIN for everything, 15 min", 300);
    /* So few that only the breaker asks again in time. */
    all_good &= resolver_away_for_15_minutes(MOOD_DENYING, "NXDOMAIN for 12 domains, 15 min", 12);
    all_good &= a29_resolver_that_denies_everything();
    all_good &= domains_that_do_not_exist();
    all_good &= restart_between_the_answers();
    all_good &= without_witnesses_nothing_is_final();
    all_good &= checks_meet_a_dead_resolver();
    all_good &= ipv6_and_ipv4();
    all_good &= precached_domains();
    all_good &= dead_hosts_are_tried_so_often(3);
    all_good &= dead_hosts_are_tried_so_often(10);
    return all_good ? 0 : 1;
}
