#include "tests/sim/product/renewal.h"

#include "core/base/must.h"
#include "core/base/text.h"
#include "tests/sim/product/signed.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define VMTAS     3
#define SECOND_NS 1000000000ull

static void report(void *context, enum conf_severity severity, const char *file, unsigned line,
                   const char *text)
{
    (void)context;
    if (severity == CONF_ERROR)
        fprintf(stderr, "%s:%u: %s\n", file, line, text);
}

/* Few connections for a whole virtual MTA, so that shards have to share them. */
static const char *draw_vmta_limit(struct rng *rng)
{
    static const char *const limits[] = {"", "", " max-smtp-out 1\n", " max-smtp-out 2\n",
                                         " max-smtp-out 5\n"};

    return limits[rng_below(rng, sizeof(limits) / sizeof(limits[0]))];
}

/* A rate that all shards draw on, from one that is hardly felt to one that is. */
static const char *draw_vmta_rate(struct renewal *renewal)
{
    static const char *const rates[] = {"",
                                        "",
                                        " max-smtp-msg-rate 20/s\n",
                                        " max-smtp-msg-rate 5/s\n",
                                        " max-smtp-msg-rate 60/30s\n",
                                        " max-smtp-msg-rate 1/s\n",
                                        " max-smtp-msg-rate 40/min burst=10\n",
                                        " max-smtp-data-volume-rate 400k/min\n",
                                        " max-smtp-msg-rate 5/s\n"
                                        " max-smtp-data-volume-rate 4m/15min\n"};

    if (!renewal->has_rates)
        return "";
    return rates[rng_below(&renewal->rates_rng, sizeof(rates) / sizeof(rates[0]))];
}

/* Some queues have none, one that is met in a rush, or one that is met often. */
static const char *draw_queue_rate(struct renewal *renewal, const char *loose, const char *tight)
{
    if (!renewal->has_rates || !rng_one_in(&renewal->rates_rng, 3))
        return "";
    return rng_one_in(&renewal->rates_rng, 2) ? tight : loose;
}

__attribute__((format(printf, 2, 3))) static void put(struct text *text, const char *format, ...)
{
    char room[2048];
    va_list arguments;
    int len;

    va_start(arguments, format);
    len = vsnprintf(room, sizeof(room), format, arguments);
    va_end(arguments);
    must(len >= 0 && (size_t)len < sizeof(room));
    text_put_str(text, room);
}

/* Half of the histories that have rates go into backoff mode, by replies of receivers, and leave it
 * by others, by a delivery or after a while; the mode's limits are never looser. In half of those
 * it is the mode of a whole provider, for one of our addresses or for several. */
static const char *draw_replies(struct renewal *renewal, bool is_list)
{
    if (!renewal->has_modes)
        return "";
    if (is_list && renewal->has_wide_modes)
        return "<smtp-pattern-list l>\n"
               " reply /^451/ mode=backoff,backoff-to-normal-after=3m scope=source-ip\n"
               " reply /^421/ mode=backoff,backoff-to-normal-after=9m trigger=2/5m scope=netblock\n"
               " reply /^450 4.7/ mode=backoff trigger=2/5m scope=provider\n"
               " reply /^450 4.2/ mode=backoff,backoff-to-normal-after=2m scope=job\n"
               " reply /^452/ mode=backoff scope=sender-domain\n"
               " reply /^250 .*ok/ mode=normal scope=source-ip\n"
               " reply /^45/ stop=3m trigger=3/5m scope=source-ip\n"
               " reply /^4.[1-3]/ disable-source-ip trigger=2/5m\n</smtp-pattern-list>\n";
    if (is_list)
        return "<smtp-pattern-list l>\n reply /^421/ mode=backoff,backoff-to-normal-after=7m\n"
               " reply /^45/ mode=backoff\n reply /^250 .*ok/ mode=normal\n"
               " reply /^42/ defer-queue\n reply /^4.[1-3]/ disable-source-ip\n"
               " reply /^45/ stop=3m trigger=2/5m scope=source-ip\n"
               " reply /^45/ stop=2m trigger=2/2m scope=job\n"
               " reply /^44/ stop=4m scope=sender-domain\n</smtp-pattern-list>\n";
    return rng_one_in(&renewal->rates_rng, 2)
               ? " smtp-pattern-list l\n backoff-max-smtp-out 1\n backoff-max-msg-rate 10/20s\n"
                 " backoff-max-connect-rate 4/20s\n backoff-to-normal-after 11m\n"
                 " reenable-source-ip-after 9m\n backoff-upon-all-sources-disabled yes\n"
               : " smtp-pattern-list l\n backoff-max-smtp-out 1\n backoff-retry-after 10m,20m,40m\n"
                 " backoff-to-normal-after 5m\n backoff-to-normal-after-delivery yes\n"
                 " reenable-source-ip-after 13m\n";
}

static void put_vmtas(struct text *text, struct renewal *renewal, bool is_whole)
{
    struct rng *rng = renewal->rng;
    /* One of them may be missing, or none. */
    uint64_t missing = is_whole ? VMTAS : rng_below(rng, 2 * VMTAS);

    renewal->missing = missing;

    for (unsigned i = 0; i < VMTAS; i++)
        if (i != missing)
            put(text,
                "<virtual-mta v%u>\n smtp-source-host 10.9.0.%u v%u%s.test\n%s%s%s</virtual-mta>\n",
                i + 1, i + 1, i + 1, rng_one_in(rng, 4) ? "b" : "",
                i == 2 && rng_one_in(rng, 2) ? " smtp-source-host 10.9.0.4 v4.test\n" : "",
                draw_vmta_limit(rng), draw_vmta_rate(renewal));
    put(text, "<virtual-mta-pool pool>\n");
    for (unsigned i = 0; i < VMTAS; i++)
        if (i != missing)
            put(text, " virtual-mta v%u\n", i + 1);
    put(text, "</virtual-mta-pool>\n");
}

/* Each block is there in one configuration of three, so that reloads add, change and remove it; the
 * scopes of some change too. */
static void put_limits(struct text *text, struct renewal *renewal)
{
    static const char *const scopes[] = {"provider",    "provider,source-ip", "domain",
                                         "pool",        "source-ip",          "queue",
                                         "pool,domain", "vmta,provider",      NULL};
    struct rng *rng = &renewal->limits_rng;

    if (!renewal->has_limits)
        return;
    for (unsigned i = 0; i < 5; i++) {
        const char *scope = scopes[rng_one_in(rng, 3) ? rng_below(rng, 9) : 2 * i];

        if (!rng_one_in(rng, 3))
            continue;
        put(text, "<limit l%u>\n%s%s%s max-smtp-out %u\n%s</limit>\n", i, scope ? " scope " : "",
            scope ? scope : "", scope ? "\n" : "", (unsigned)rng_between(rng, 1, 4),
            rng_one_in(rng, 3) ? " domain d0.test,d1.test,d2.test\n" : "");
    }
    if (rng_one_in(rng, 4))
        put(text, "ip-connection-limit 10.0.0.0/%u %u\n", (unsigned)rng_between(rng, 16, 24),
            (unsigned)rng_between(rng, 1, 4));
    if (rng_one_in(rng, 4))
        put(text, "mx-connection-limit *.test %u\n", (unsigned)rng_between(rng, 1, 4));
    if (rng_one_in(rng, 4))
        put(text, "<domain *>\n source-ip-max-smtp-out 10.9.0.0/24 %u\n</domain>\n",
            (unsigned)rng_between(rng, 1, 4));
}

/* Connections by what messages say, beside those by what queues are; in half of the histories that
 * have limits. Jobs are in some histories only: without them all mail is of the same one. */
static void put_mail_limits(struct text *text, struct renewal *renewal)
{
    static const char *const scopes[] = {"job",       "sender-domain", "job,provider",
                                         "job,queue", "job,source-ip", "job,sender-domain",
                                         "pool,job",  "user"};
    struct rng *rng = &renewal->mail_rng;

    if (!renewal->has_mail_limits)
        return;
    for (unsigned i = 0; i < 3; i++)
        if (rng_one_in(rng, 2))
            put(text, "<limit m%u>\n scope %s\n max-smtp-out %u\n%s</limit>\n", i,
                scopes[rng_below(rng, 8)], (unsigned)rng_between(rng, 1, 3),
                rng_one_in(rng, 4) ? " domain d0.test,d1.test,d2.test\n" : "");
}

/* Rates that many queues share, by anything that they can count by, several at a time. */
static void put_limit_rates(struct text *text, struct renewal *renewal)
{
    static const char *const scopes[] = {
        "provider", "provider,source-ip", "domain",     "pool",    "source-ip", "vmta,provider",
        "job",      "sender-domain",      "job,domain", "pool,job"};
    static const char *const rates[] = {"max-msg-rate 20/s",
                                        "max-msg-rate 40/min",
                                        "max-msg-rate 30/min burst=10",
                                        "max-connect-rate 20/min",
                                        "max-connect-rate 2/s",
                                        "max-data-volume-rate 600k/min",
                                        "max-msg-rate 5/s\n max-connect-rate 60/min burst=20",
                                        "max-msg-rate 2/s\n max-data-volume-rate 2m/min"};
    struct rng *rng = &renewal->rates_rng;

    if (!renewal->has_rates || !renewal->has_limits)
        return;
    for (unsigned i = 0; i < 4; i++)
        if (rng_one_in(rng, 2))
            put(text, "<limit r%u>\n scope %s\n %s\n</limit>\n", i, scopes[rng_below(rng, 10)],
                rates[rng_below(rng, 8)]);
    /* Whose hosts they are does not change: a stop that was imposed on a provider is his alone. */
    put(text, "<provider p>\n mx .test\n%s</provider>\n",
        rng_one_in(rng, 2)   ? ""
        : rng_one_in(rng, 2) ? " max-msg-rate 40/min\n"
                             : " max-msg-rate 2/s\n max-connect-rate 60/min\n");
    if (rng_one_in(rng, 4))
        put(text, "<domain *>\n source-ip-max-msg-rate 10.9.0.0/24 50/min\n"
                  " source-ip-max-connect-rate 10.9.0.0/25 20/min burst=5\n</domain>\n");
}

/* Domains whose mail goes by the queue of another one, or by another virtual MTA. Names lead to
 * higher numbers only, and queue-to ends where rerouting begins, so there is no circle. */
static void put_ways(struct text *text, struct renewal *renewal)
{
    static const char *const targets[] = {"v1", "v2", "v3", "pool"};
    struct rng *rng = &renewal->ways_rng;

    if (!renewal->has_ways)
        return;
    for (unsigned i = 1; i < 8; i++) {
        if (rng_one_in(rng, 3))
            put(text, "<domain d%u.test>\n queue-to D%u.test\n</domain>\n", i,
                (unsigned)rng_between(rng, i + 1, 11));
    }
    if (rng_one_in(rng, 2))
        put(text, "<domain d%u.test>\n reroute-to-virtual-mta %s\n</domain>\n",
            (unsigned)rng_between(rng, 8, 11), targets[rng_below(rng, 4)]);
    /* All of the mail at one blow. */
    if (rng_one_in(rng, 5))
        put(text, "<domain *>\n reroute-to-virtual-mta %s\n</domain>\n",
            targets[rng_below(rng, 4)]);
}

/* In backoff mode the mail goes by one of the virtual MTAs. Not together with other ways, by which
 * it might come back. */
static void put_backoff_ways(struct text *text, struct renewal *renewal)
{
    struct rng *rng = &renewal->ways_rng;

    if (!renewal->has_modes || renewal->has_ways || rng_one_in(rng, 3))
        return;
    put(text, "<domain *>\n backoff-reroute-to-virtual-mta v%u\n</domain>\n",
        renewal->missing == 0 ? 2 : 1);
}

/* Keys and forms change while mail waits, and what is signed is taken out of it: it is signed again
 * then. Without a key it waits, and none is taken. */
static const char *draw_key(struct renewal *renewal, bool is_whole)
{
    static const char *const keys[] = {
        "domain-key s,sender.test,/key\n",
        "domain-key t,sender.test,/key\n",
        "domain-key s,sender.test,/key\ndomain-key t,sender.test,/key\n",
        "domain-key s,nobody.test,/key\n",
    };

    return renewal->is_signed ? keys[rng_below(&renewal->signing_rng, is_whole ? 3 : 4)] : "";
}

static const char *draw_signing(struct renewal *renewal)
{
    static const char *const ways[] = {
        SIGNED_DOMAIN,
        SIGNED_DOMAIN " dkim-body-canon simple\n",
        SIGNED_DOMAIN " dkim-expire-after 15m\n",
        SIGNED_DOMAIN " remove-header X-Nobody\n dkim-add-timestamp yes\n",
        SIGNED_DOMAIN " remove-header Received\n",
    };

    return renewal->is_signed ? ways[rng_below(&renewal->signing_rng, 5)] : "";
}

void renewal_init(struct renewal *renewal, struct rng *rng, uint64_t seed)
{
    renewal->rng = rng;
    rng_init(&renewal->rates_rng, ~seed);
    renewal->has_rates = rng_one_in(&renewal->rates_rng, 2);
    renewal->has_modes = renewal->has_rates && rng_one_in(&renewal->rates_rng, 2);
    renewal->has_wide_modes = renewal->has_modes && seed % 2 == 0;
    renewal->has_jobs = rng_one_in(&renewal->rates_rng, 3);
    rng_init(&renewal->limits_rng, ~seed ^ 0x6c696d69);
    renewal->has_limits = rng_one_in(&renewal->limits_rng, 2);
    rng_init(&renewal->mail_rng, ~seed ^ 0x6d61696c);
    renewal->has_mail_limits = rng_one_in(&renewal->mail_rng, 3);
    renewal->is_signed = seed % 3 == 0;
    rng_init(&renewal->signing_rng, ~seed ^ 0x7369676e);
    rng_init(&renewal->ways_rng, ~seed ^ 0x77617973);
    renewal->has_ways = rng_one_in(&renewal->ways_rng, 3);
    renewal_draw(renewal, false);
}

void renewal_draw(struct renewal *renewal, bool is_whole)
{
    struct rng *rng = renewal->rng;
    struct text text = text_in(renewal->text, sizeof(renewal->text));
    struct conf *conf;

    put(&text,
        "host-name mta.test\n%ssmtp-listener 127.0.0.1:2525\n"
        "smtp-source-host 10.9.0.5 mta.test\nhot-set-size %llu\n"
        "total-max-smtp-out %llu\ntotal-max-smtp-in %llu\n"
        "<spool /spool>\n</spool>\n"
        "<source 127.0.0.1>\n always-allow-relaying yes\n "
        "default-virtual-mta pool\n%s</source>\n",
        draw_key(renewal, is_whole), (1ull << 20) << (2 * rng_below(rng, 4)),
        rng_one_in(rng, 2) ? (unsigned long long)rng_between(rng, 1, 8) : 1200,
        rng_one_in(rng, 4) ? (unsigned long long)rng_between(rng, 1, 12) : 100,
        renewal->has_jobs ? " process-x-job yes\n" : "");
    put_vmtas(&text, renewal, is_whole);
    put(&text, "<domain sender.test>\n smtp-hosts [10.0.200.1]:25\n</domain>\n");
    put(&text,
        "<domain *>\n max-smtp-out %llu\n retry-after 10m,20m,40m\n"
        " pipeline-across-messages %s\n%s%s%s%s</domain>\n%s",
        (unsigned long long)rng_between(rng, 1, 20),
        rng_one_in(rng, 3)   ? "auto"
        : rng_one_in(rng, 3) ? "no"
                             : "yes",
        draw_queue_rate(renewal, " max-msg-rate 10/s\n", " max-msg-rate 50/20s\n"),
        draw_queue_rate(renewal, " max-connect-rate 30/min\n", " max-connect-rate 4/20s\n"),
        draw_signing(renewal), draw_replies(renewal, false), draw_replies(renewal, true));
    if (rng_one_in(rng, 2))
        put(&text, "<domain d0.test>\n smtp-hosts [10.0.%u.1]:25;[10.0.1.1]:25\n</domain>\n",
            rng_one_in(rng, 3) ? 2 : 0);
    if (renewal->has_rates)
        put(&text, "<domain d3.test>\n%s</domain>\n<domain d4.test>\n%s%s</domain>\n",
            draw_queue_rate(renewal, " max-data-volume-rate 600k/min\n",
                            " max-data-volume-rate 60k/10sec\n"),
            draw_queue_rate(renewal, " max-msg-rate 10/s burst=4\n",
                            " max-msg-rate 30/2min burst=30\n"),
            draw_queue_rate(renewal, " max-connect-rate 20/min burst=5\n",
                            " max-data-volume-rate 10m/h\n"));
    put_ways(&text, renewal);
    put_backoff_ways(&text, renewal);
    put_limits(&text, renewal);
    put_limit_rates(&text, renewal);
    put_mail_limits(&text, renewal);
    text_end(&text);
    must(!text.is_cut);
    if (conf_load_text("sim", renewal->text, &signed_load_options, report, NULL, &conf) < 0)
        abort();
    conf_unref(conf);
}

void renewal_begin(struct renewal *renewal, struct sim_world *world)
{
    uint64_t within_ns = rng_one_in(renewal->rng, 2) ? 30 * SECOND_NS : 1000 * SECOND_NS;

    renewal->next_ns = sim_now_ns(world) + rng_between(renewal->rng, 1, within_ns);
}

void renewal_tend(struct renewal *renewal, struct product *product, bool is_whole)
{
    if (sim_now_ns(product->world) < renewal->next_ns || !product->process || !product->assembly)
        return;
    renewal_begin(renewal, product->world);
    renewal_draw(renewal, is_whole);
    product_reload(product, renewal->text);
}
