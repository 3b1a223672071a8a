/*
 * Thirty days of warm-ups side by side, with restarts and the end of summer time.
 *
 *   warmup_scenario [SEED]     figures, and 1 when one is out of its bounds
 *
 * Mail comes every half an hour on one or two shards. A life ends by SIGKILL or by a power
 * cut, every now and then, also in the middle of what is said to the disk. Two streams of mail go
 * their ways, and each is judged by the day of the receiver's place.
 *
 * A cold virtual MTA beside a warm one, with more mail than the ramp allows: no domain ever gets
 * more by the cold one than its day allows, the day of 25 hours too; most of it is used; and all
 * the rest comes by the warm one.
 *
 * Four schedules of our own: of one address at the provider that has both domains, of a sender's
 * domain beside another one in the same queues, and both once more with a pool for what the day has
 * no room for. On every fifth day the receiver defers one recipient in eight, on every seventh it
 * turns one away because of our address. It never sees more than the day's cap, nor anybody outside
 * the hours; no step up follows a bad day; there are never more steps than good days; and it gets
 * on. The other sender's mail waits for nobody. The pool keeps to its own rate, and with it all of
 * the mail gets out that came by the day before.
 */
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/planted.h"
#include "core/conf/cold.h"
#include "net/dns.h"
#include "net/dns_answer.h"
#include "shard/planted.h"
#include "shard/shard_int.h"
#include "tests/sim/product/product.h"
#include "tests/sim/sim_peer.h"

#include <stdio.h>
#include <stdlib.h>

#define SECOND_NS     1000000000ull
#define DAYS          30
#define DAYS_SHORT    3 /* with planted bugs */
#define DOMAINS       2
#define BATCH_S       1800
#define ZONE          "Europe/Berlin"
#define AUTUMN_S      1792101660ull /* 2026-10-15 22:01 UTC, which is the 16th there */
#define RAMP          "10/d,20/d,40/d,40/d,60/d,70/d,80/d"
#define STEPS         "20,24,29,35,42,50,60,70"
#define FROM_S        (8 * 3600)
#define UNTIL_S       (20 * 3600)
#define ON_ITS_WAY_S  1 /* what was handed out before then may be named a round trip later */
#define HOW           " schedule " STEPS "\n send-hours 8:00-20:00\n"
#define STEP_MOST     70
#define BACKLOG       60 /* recipients that wait, more or less; no mail comes meanwhile */
#define SPARE_RATE    10 /* recipients a minute, by the pool for the rest */
#define JITTER_NS     50000000
#define OLD_LATE_MOST 4
#define STEP_LEAST    5  /* after thirty days, with all the bad ones */
#define USED_LEAST    80 /* percent of a cap, over all days and domains */

static const char *planted_bugs[2]; /* NULL = none */

bool planted_active(const char *name)
{
    for (size_t i = 0; i < 2; i++)
        if (planted_bugs[i] != NULL && strcmp(planted_bugs[i], name) == 0)
            return true;
    return false;
}

static void drop_log(void *context, enum log_level level, const char *text)
{
}

static const struct ipaddr client = {IPADDR_V4, {127, 0, 0, 1}};

/* Mail of one kind on its way in. */
enum mail_kind {
    MAIL_ADDRESS,      /* under a <warm-up> of its address, and so on; these have a struct own */
    MAIL_SENDER,       /* of its sender's domain */
    MAIL_ADDRESS_OVER, /* with a pool for the rest */
    MAIL_SENDER_OVER,
    OWNS,
    MAIL_OLD_SENDER = OWNS, /* in the queues of MAIL_SENDER */
    MAIL_COLD,              /* beside a warm one */
    MAILS,
};

static const struct {
    const char *vmta;
    const char *from;
    const char *section; /* of the configuration */
} kinds[MAILS] = {
    [MAIL_ADDRESS] = {"fresh", "a.test", "new-address/"},
    [MAIL_SENDER] = {"plain", "new.test", "new-sender/"},
    [MAIL_ADDRESS_OVER] = {"brisk", "a.test", "brisk-address/"},
    [MAIL_SENDER_OVER] = {"plain", "brisk.test", "brisk-sender/"},
    [MAIL_OLD_SENDER] = {"plain", "old.test", ""},
    [MAIL_COLD] = {"warm", "a.test", ""},
};

struct mail {
    struct stage *stage;
    enum mail_kind kind;
    struct sim_peer *injector;
    uint32_t wanted; /* messages, to one recipient of each domain */
    uint32_t sent;
    uint32_t taken;
    uint32_t done;     /* recipients that are delivered, anyhow */
    uint32_t by_spare; /* of them, by the pool for the rest */
};

/* What the receiver saw of a schedule of our own. */
struct own {
    uint32_t tried[DAYS + 2]; /* recipients, of both domains */
    uint32_t at_night;        /* recipients outside the hours */
    uint32_t step;            /* of yesterday */
    uint32_t wrong_steps;     /* up after a bad day */
    uint32_t good_days;
    uint32_t over; /* days above their cap */
};

struct stage {
    struct sim_world *world;
    struct rng rng;
    struct product product;
    struct conf *conf;
    struct mail mails[MAILS];
    int32_t first_day;                /* of mail */
    uint32_t cold[DAYS + 2][DOMAINS]; /* recipients, by day since then */
    uint32_t warm[DAYS + 2];
    uint64_t caps[CONF_COLD_DAYS_MAX];
    uint32_t cap_count;
    uint64_t cold_total;
    uint64_t cap_total;
    uint32_t over; /* days of a domain above their cap */
    uint32_t lives;
    struct own owns[OWNS];
    uint64_t steps[CONF_COLD_DAYS_MAX];
    uint32_t step_count;
    struct {
        uint64_t at_ns[SPARE_RATE]; /* when the last ones came by the pool for the rest */
        uint32_t count;             /* in this life */
    } spare[DOMAINS];
    uint32_t spare_hasty; /* of them, ahead of its rate */
    bool is_quiet;        /* it is played with planted bugs */
    unsigned failures;
};

static void check(struct stage *stage, bool holds, const char *what)
{
    if (holds || stage->is_quiet)
        return;
    fprintf(stderr, "NOT TRUE: %s\n", what);
    stage->failures++;
}

static int64_t wall_s(const struct stage *stage)
{
    return (int64_t)(sim_wall_us(stage->world) / 1000000);
}

static int32_t today(const struct stage *stage)
{
    return zone_day(conf_zone(stage->conf), wall_s(stage), NULL) - stage->first_day;
}

/* ---- A <warm-up> ----------------------------------------------------------------------------- */

static bool is_deferring(int32_t day)
{
    return day % 5 == 3;
}

static bool is_blocking(int32_t day)
{
    return day % 7 == 6;
}

/* What the receiver says to RCPT by what is being warmed up; it counts. */
static const char *own_reply(struct stage *stage, enum mail_kind kind)
{
    struct own *own = &stage->owns[kind];
    int32_t day = today(stage);
    uint32_t second, nth;

    if (day < 0 || day >= DAYS + 2)
        return "250 2.1.5 ok";
    zone_day(conf_zone(stage->conf), wall_s(stage), &second);
    own->at_night += second < FROM_S || second >= UNTIL_S + ON_ITS_WAY_S;
    nth = own->tried[day]++;
    if (is_deferring(day) && nth % 8 == 0)
        return "451 4.3.0 busy, try again later";
    if (is_blocking(day) && nth == 5)
        return "550 5.7.1 Service unavailable; client host [10.9.0.3] blocked using "
               "zen.spamhaus.org";
    stage->mails[kind].done++;
    return "250 2.1.5 ok";
}

/* The pool for the rest keeps to its rate in each domain, seen from here. */
static void count_spare(struct stage *stage, enum mail_kind kind, uint32_t domain)
{
    uint32_t nth = stage->spare[domain].count++;
    uint64_t *then_ns = &stage->spare[domain].at_ns[nth % SPARE_RATE];
    uint64_t now_ns = sim_now_ns(stage->world);

    stage->spare_hasty += nth >= SPARE_RATE && now_ns - *then_ns < 60 * SECOND_NS - JITTER_NS;
    *then_ns = now_ns;
    stage->mails[kind].done++;
    stage->mails[kind].by_spare++;
}

/* The step that the product is on today. */
static uint32_t step_of(const struct stage *stage, enum mail_kind kind)
{
    const struct product *product = &stage->product;
    struct slice section = slice_str(kinds[kind].section);

    for (uint16_t i = 0; i < product->setup.shard_count; i++) {
        struct shard *shard = product->shards[i];

        for (uint32_t k = 0; k < shard->warm.books.count_grown; k++) {
            const struct warm_book *book =
                slab_is_live(&shard->warm.books, k) ? slab_at(&shard->warm.books, k) : NULL;

            if (book && book->book.is_begun && book->book.day - stage->first_day == today(stage) &&
                slice_starts_nocase(names_text(&shard->names, book->key), section))
                return book->book.step;
        }
    }
    return UINT32_MAX;
}

/* At the end of a day. */
static void judge_own_day(struct stage *stage, enum mail_kind kind)
{
    struct own *own = &stage->owns[kind];
    int32_t day = today(stage);
    uint32_t step = step_of(stage, kind);
    bool was_bad = day > 0 && (is_deferring(day - 1) || is_blocking(day - 1));

    check(stage, step < stage->step_count, "the day has a step");
    if (step >= stage->step_count)
        return;
    own->over += own->tried[day] > stage->steps[step];
    own->wrong_steps += step > own->step && (was_bad || step > own->good_days);
    own->good_days += !is_deferring(day) && !is_blocking(day);
    own->step = step;
    if (stage->is_quiet)
        return;
    printf("day %2d: %s step %2u, cap %3llu, tried %3u%s\n", day, kinds[kind].section, step,
           (unsigned long long)stage->steps[step], own->tried[day],
           is_deferring(day)  ? ", one in eight deferred"
           : is_blocking(day) ? ", one block"
                              : "");
}

/* ---- The site -------------------------------------------------------------------------------- */

struct visit {
    bool is_cold; /* by the name that it gave */
    bool is_warm;
    bool is_spare;
    bool in_data;
};

static void site_on_open(struct sim_peer_conn *conn)
{
    sim_peer_set_data(conn, sim_peer_alloc(sim_peer_of(conn), sizeof(struct visit)));
    sim_peer_printf(conn, "220 site.test ESMTP\r\n");
}

/* An attempt counts, whatever becomes of it. The address says what kind of mail it is. */
static const char *on_rcpt(struct stage *stage, const struct visit *visit, struct slice line)
{
    uint32_t domain = line.data[slice_find(line, '@') + 2] - '0';
    enum mail_kind kind = (enum mail_kind)(line.data[slice_find(line, '<') + 1] - 'a');
    int32_t day = today(stage);

    if (visit->is_spare) {
        count_spare(stage, kind, domain);
    } else if (visit->is_cold && day >= 0 && day < DAYS + 2) {
        stage->cold[day][domain]++;
    } else if (visit->is_warm && day >= 0 && day < DAYS + 2) {
        stage->warm[day]++;
    } else if (kind < OWNS) {
        return own_reply(stage, kind);
    } else {
        stage->mails[kind].done++;
    }
    return "250 2.1.5 ok";
}

static void site_on_line(struct sim_peer_conn *conn, struct slice line)
{
    struct visit *visit = sim_peer_data(conn);

    if (visit->in_data) {
        if (line.len != 1 || line.data[0] != '.')
            return;
        visit->in_data = false;
        sim_peer_printf(conn, "250 2.0.0 taken\r\n");
    } else if (slice_starts_nocase(line, SLICE_LITERAL("EHLO"))) {
        visit->is_cold = slice_starts_nocase(line, SLICE_LITERAL("EHLO cold"));
        visit->is_warm = slice_starts_nocase(line, SLICE_LITERAL("EHLO warm"));
        visit->is_spare = slice_starts_nocase(line, SLICE_LITERAL("EHLO spare"));
        sim_peer_printf(conn, "250 site.test\r\n");
    } else if (slice_starts_nocase(line, SLICE_LITERAL("RCPT"))) {
        sim_peer_printf(conn, "%s\r\n", on_rcpt(sim_peer_context(sim_peer_of(conn)), visit, line));
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

/* ---- Injectors ------------------------------------------------------------------------------- */

/* One message each, to one recipient of each domain, as far as the life lasts. */
static void inject_on_open(struct sim_peer_conn *conn)
{
    sim_peer_set_data(conn, sim_peer_alloc(sim_peer_of(conn), sizeof(uint32_t)));
    sim_peer_printf(conn, "EHLO injector.test\r\n");
}

static void inject_on_line(struct sim_peer_conn *conn, struct slice line)
{
    struct mail *mail = sim_peer_context(sim_peer_of(conn));
    uint32_t *step = sim_peer_data(conn);

    if (line.len > 3 && line.data[3] == '-')
        return;
    if (*step == 0 && line.data[0] == '2' && !slice_starts_nocase(line, SLICE_LITERAL("220"))) {
        *step = 1;
        sim_peer_printf(conn, "MAIL FROM:<s@sender.test>\r\n");
        for (uint32_t i = 0; i < DOMAINS; i++)
            sim_peer_printf(conn, "RCPT TO:<%c%u@d%u.test>\r\n", 'a' + (char)mail->kind, mail->sent,
                            i);
        sim_peer_printf(conn, "DATA\r\n");
        mail->sent++;
    } else if (*step == 1 && line.data[0] == '3') {
        *step = 2;
        sim_peer_printf(conn, "X-Virtual-MTA: %s\r\nFrom: News <a@%s>\r\n\r\nHello.\r\n.\r\n",
                        kinds[mail->kind].vmta, kinds[mail->kind].from);
    } else if (*step == 2 && line.data[0] == '2') {
        mail->taken++;
        if (mail->sent < mail->wanted) {
            *step = 0;
            sim_peer_printf(conn, "RSET\r\n");
            return;
        }
        site_on_end(conn, 0);
        sim_peer_close(conn);
    }
}

static const struct sim_peer_handlers injector_handlers = {
    .on_open = inject_on_open,
    .on_line = inject_on_line,
    .on_end = site_on_end,
};

/* ---- The stage ------------------------------------------------------------------------------- */

static enum names_say on_question(void *context, struct dns_query *query)
{
    const uint8_t mx[] = "\0\12site.test", address[4] = {10, 0, 0, 1};

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
    if (severity == CONF_ERROR)
        fprintf(stderr, "%s:%u: %s\n", file, line, text);
}

static const char config[] =
    "host-name mta.test\nsmtp-listener 127.0.0.1:2525\n"
    "warm-up-time-zone " ZONE "\n<spool /spool>\n</spool>\n"
    "<source 127.0.0.1>\n always-allow-relaying yes\n suppress-local-dsn yes\n"
    " process-x-virtual-mta yes\n</source>\n"
    "<domain *>\n retry-after 10m\n bounce-after 90d\n</domain>\n"
    "<virtual-mta warm>\n smtp-source-host 10.9.0.1 warm.test\n cold-virtual-mta cold\n"
    " <domain *>\n max-cold-virtual-mta-msg " RAMP "\n </domain>\n</virtual-mta>\n"
    "<virtual-mta cold>\n smtp-source-host 10.9.0.2 cold.test\n</virtual-mta>\n"
    "<virtual-mta fresh>\n smtp-source-host 10.9.0.3 fresh.test\n</virtual-mta>\n"
    "<virtual-mta plain>\n smtp-source-host 10.9.0.4 plain.test\n</virtual-mta>\n"
    "<virtual-mta brisk>\n smtp-source-host 10.9.0.5 brisk.test\n</virtual-mta>\n"
    "<virtual-mta one>\n smtp-source-host 10.9.0.6 spare.test\n</virtual-mta>\n"
    "<virtual-mta-pool spare>\n virtual-mta one\n"
    " <domain *>\n max-msg-rate 10/m burst=10\n </domain>\n</virtual-mta-pool>\n"
    "<warm-up new-address>\n" HOW " virtual-mta fresh\n</warm-up>\n"
    "<warm-up new-sender>\n" HOW " virtual-mta plain\n scope sender-domain\n"
    " sender-domain new.test\n</warm-up>\n"
    "<warm-up brisk-address>\n" HOW " virtual-mta brisk\n overflow spare\n</warm-up>\n"
    "<warm-up brisk-sender>\n" HOW " virtual-mta plain\n scope provider,sender-domain\n"
    " sender-domain brisk.test\n overflow spare\n</warm-up>\n";

static void start_life(struct stage *stage)
{
    struct product_setup setup = {
        .shard_count = (uint16_t)(1 + rng_below(&stage->rng, 2)),
        .segment_bytes = 1 << 20,
        .segment_count_max = 48,
        .conf = stage->conf,
    };

    stage->product.zone.script = on_question;
    stage->lives++;
    memset(stage->spare, 0, sizeof(stage->spare));
    if (product_start(&stage->product, &setup) < 0)
        abort();
}

static void raise_stage(struct stage *stage, uint64_t seed)
{
    const struct ipaddr_port at = {{IPADDR_V4, {10, 0, 0, 1}}, 25};
    struct sim_options options = {
        .latency_min_ns = 5000000,
        .latency_max_ns = 20000000,
        .segment_bytes_min = 1400,
        .window_min_bytes = 65536,
        .faults = sim_faults_none(),
        /* Ten days before the day of 25 hours, a minute past midnight. */
        .start_wall_us = AUTUMN_S * 1000000,
    };

    rng_init(&stage->rng, seed);
    if (conf_load_text("warmup", config, NULL, report, NULL, &stage->conf) < 0 ||
        conf_cold_ramp(slice_str(RAMP), stage->caps, &stage->cap_count) < 0 ||
        conf_cold_ramp(slice_str(STEPS), stage->steps, &stage->step_count) < 0)
        abort();
    stage->world = sim_world_create(seed, &options);
    sim_peer_listen(stage->world, &at, &site_handlers, stage);
    for (uint32_t i = 0; i < MAILS; i++) {
        struct mail *mail = &stage->mails[i];

        mail->stage = stage;
        mail->kind = (enum mail_kind)i;
        mail->injector = sim_peer_create(stage->world, &injector_handlers, mail);
    }
    stage->product.world = stage->world;
}

static uint64_t cap_of(const struct stage *stage, int32_t day)
{
    uint32_t last = stage->cap_count - 1;

    return stage->caps[(uint32_t)day < last ? (uint32_t)day : last];
}

/* ---- What happens ---------------------------------------------------------------------------- */

static void send_mail(struct stage *stage, enum mail_kind kind, uint32_t messages)
{
    const struct ipaddr_port to = {client, 2525};
    struct mail *mail = &stage->mails[kind];

    mail->wanted = mail->sent + messages;
    for (uint32_t i = 0; i < 2 && i < messages; i++)
        sim_peer_connect(mail->injector, &client, &to);
}

/* Mail for half an hour; with it a life may end, at any moment of it. */
static void half_an_hour(struct stage *stage, int32_t day)
{
    bool ends = rng_one_in(&stage->rng, 40);

    send_mail(stage, MAIL_COLD, (uint32_t)cap_of(stage, day) / 30 + 1);
    send_mail(stage, MAIL_OLD_SENDER, 1);
    for (enum mail_kind kind = MAIL_ADDRESS; kind < OWNS; kind++) {
        const struct mail *mail = &stage->mails[kind];
        bool is_over = kind == MAIL_ADDRESS_OVER || kind == MAIL_SENDER_OVER;

        /* Where all gets out there is more each day than any cap. */
        send_mail(stage, kind, is_over ? 1 : mail->taken * DOMAINS < mail->done + BACKLOG ? 8 : 0);
    }
    if (ends) {
        sim_run_for(stage->world, rng_below(&stage->rng, 2 * SECOND_NS));
        product_crash(&stage->product, rng_one_in(&stage->rng, 2));
        sim_run_for(stage->world, SECOND_NS);
        start_life(stage);
    }
    sim_run_for(stage->world, (BATCH_S - (ends ? 3 : 0)) * SECOND_NS);
}

static void judge_day(struct stage *stage, int32_t day)
{
    uint64_t cap = cap_of(stage, day);

    for (uint32_t i = 0; i < DOMAINS; i++) {
        stage->over += stage->cold[day][i] > cap;
        stage->cold_total += stage->cold[day][i];
        stage->cap_total += cap;
    }
    if (stage->is_quiet)
        return;
    printf("day %2d: cap %3llu, by the cold one %3u %3u, by the warm one %4u\n", day,
           (unsigned long long)cap, stage->cold[day][0], stage->cold[day][1], stage->warm[day]);
}

static void play_days(struct stage *stage, int32_t days)
{
    for (int32_t day = 0; day < days;) {
        uint32_t second;

        zone_day(conf_zone(stage->conf), wall_s(stage), &second);
        /* What is granted before midnight should not come after it. */
        if (second < 86400 - BATCH_S) {
            half_an_hour(stage, day);
            continue;
        }
        for (enum mail_kind kind = MAIL_ADDRESS; kind < OWNS; kind++)
            judge_own_day(stage, kind);
        sim_run_for(stage->world, (86400 - second) * SECOND_NS + SECOND_NS);
        judge_day(stage, day++);
    }
}

static void judge_own(struct stage *stage, enum mail_kind kind)
{
    const struct own *own = &stage->owns[kind];
    const struct mail *mail = &stage->mails[kind];
    uint32_t tried = 0;

    for (int32_t day = 0; day < DAYS; day++)
        tried += own->tried[day];
    printf("%s %u recipients taken, %u tried, %u outside the hours, %u by the pool for the rest, "
           "step %u at last\n",
           kinds[kind].section, mail->taken * DOMAINS, tried, own->at_night, mail->by_spare,
           own->step);
    check(stage, own->over == 0, "no day of our own schedule is above its cap");
    check(stage, own->at_night == 0, "all is sent within the hours");
    check(stage, own->wrong_steps == 0, "a step up follows good days alone");
    check(stage, own->step >= STEP_LEAST, "it gets on");
    if (kind == MAIL_ADDRESS || kind == MAIL_SENDER) {
        check(stage, mail->by_spare == 0, "it waits");
        return;
    }
    check(stage, mail->by_spare > 0, "the rest goes by the pool");
    check(stage, mail->taken * DOMAINS <= mail->done + STEP_MOST, "no more waits than a day's cap");
}

static void judge_all(struct stage *stage)
{
    const struct mail *old = &stage->mails[MAIL_OLD_SENDER];

    printf("%u lives; %u messages taken, %llu of %llu recipients by the cold one\n", stage->lives,
           stage->mails[MAIL_COLD].taken, (unsigned long long)stage->cold_total,
           (unsigned long long)stage->cap_total);
    check(stage, stage->lives >= 15, "there were restarts");
    check(stage, stage->over == 0, "no day is above its cap");
    check(stage, stage->cold_total * 100 >= stage->cap_total * USED_LEAST, "the caps are used");
    check(stage, stage->warm[DAYS - 1] > 0, "the rest goes by the warm one");
    for (enum mail_kind kind = MAIL_ADDRESS; kind < OWNS; kind++)
        judge_own(stage, kind);
    printf("%u of the old sender's %u recipients are out; %u came ahead of the pool's rate\n",
           old->done, old->taken * DOMAINS, stage->spare_hasty);
    check(stage, old->taken * DOMAINS <= old->done + OLD_LATE_MOST, "who is not counted goes on");
    check(stage, stage->spare_hasty == 0, "the pool keeps to its rate");
}

static void play(struct stage *stage, uint64_t seed, int32_t days)
{
    raise_stage(stage, seed);
    stage->first_day = zone_day(conf_zone(stage->conf), wall_s(stage), NULL);
    start_life(stage);
    play_days(stage, days);
    if (!stage->is_quiet)
        judge_all(stage);
    product_crash(&stage->product, false);
    sim_world_destroy(stage->world);
    conf_unref(stage->conf);
}

/* Each bug must show; the number of those that did not. One of each kind at a time. */
static unsigned play_bugs(struct stage *stage)
{
#define PLANTED_NAME(name) name,
    static const char *const cold_bugs[] = {SHARD_PLANTED_WARMUPS(PLANTED_NAME)};
    static const char *const own_bugs[] = {SHARD_PLANTED_WARM(PLANTED_NAME)};
#undef PLANTED_NAME
    unsigned failures = 0;

    _Static_assert(sizeof(cold_bugs) == sizeof(own_bugs), "they are played in pairs");
    for (size_t i = 0; i < sizeof(cold_bugs) / sizeof(cold_bugs[0]); i++) {
        planted_bugs[0] = cold_bugs[i];
        planted_bugs[1] = own_bugs[i];
        *stage = (struct stage){.is_quiet = true};
        play(stage, 1, DAYS_SHORT);
        printf("%s, %s: %u and %u days above their cap\n", cold_bugs[i], own_bugs[i], stage->over,
               stage->owns[MAIL_ADDRESS].over);
        failures += (stage->over == 0);
        for (enum mail_kind kind = MAIL_ADDRESS; kind < OWNS; kind++)
            failures += stage->owns[kind].over == 0;
    }
    return failures;
}

int main(int argc, char **argv)
{
    static struct stage stage;
    unsigned failures;

    setvbuf(stdout, NULL, _IOLBF, 0);
    log_set_sink(drop_log, NULL);
    play(&stage, argc > 1 ? strtoull(argv[1], NULL, 0) : 1, DAYS);
    failures = stage.failures + play_bugs(&stage);
    printf("thirty days of a warm-up: %s\n", failures ? "FAILED" : "ok");
    return failures ? 1 : 0;
}
