/*
 * Thirty days of a cold virtual MTA beside a warm one, with restarts and the end of summer time.
 *
 *   warmup_scenario [SEED]     figures, and 1 when one is out of its bounds
 *
 * Mail comes every half an hour, more than the ramp allows, on four shards, which are two or one in
 * some lives. A life ends by SIGKILL or by a power cut, every now and then, also in the middle of
 * what is said to the disk. What is judged, by the day of the receiver's place: that no domain ever
 * got more by the cold virtual MTA than its day allows, the day of 25 hours too; that most of it
 * was used; and that all the rest came by the warm one.
 *
 * Then thirty days of a <warm-up> of one address at one provider that has both domains, with the
 * same restarts: mail waits when the day has no room for it. On every fifth day the receiver defers
 * one recipient in eight, on every seventh it turns one away because of our address. Judged are
 * that the receiver never saw more than the day's cap, nor anybody outside the hours; that no step
 * up follows a bad day; that there are never more steps than good days; and that it gets on.
 */
#include "core/base/log.h"
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

#define SECOND_NS  1000000000ull
#define DAYS       30
#define DAYS_SHORT 8 /* with a planted bug */
#define DOMAINS    2
#define BATCH_S    1800
#define ZONE       "Europe/Berlin"
#define AUTUMN_S   1792101660ull /* 2026-10-15 22:01 UTC, which is the 16th there */
#define RAMP       "40/d,80/d,150/d,150/d,300/d,450/d,700/d"
#define STEPS      "20,24,29,35,42,50,60,72,86,104,125"
#define FROM_S     (8 * 3600)
#define UNTIL_S    (20 * 3600)
#define BACKLOG    150 /* recipients that wait, more or less; no mail comes meanwhile */
#define STEP_LEAST 5   /* after thirty days, with all the bad ones */
#define USED_LEAST 80  /* percent of a cap, over all days and domains */

static const char *planted_bug; /* NULL = none */

bool planted_active(const char *name)
{
    return planted_bug != NULL && strcmp(planted_bug, name) == 0;
}

static void drop_log(void *context, enum log_level level, const char *text)
{
}

static const struct ipaddr client = {IPADDR_V4, {127, 0, 0, 1}};

struct stage {
    struct sim_world *world;
    struct rng rng;
    struct product product;
    struct conf *conf;
    struct sim_peer *injector;
    int32_t first_day;                /* of mail */
    uint32_t cold[DAYS + 2][DOMAINS]; /* recipients, by day since then */
    uint32_t warm[DAYS + 2];
    uint64_t caps[CONF_COLD_DAYS_MAX];
    uint32_t cap_count;
    uint32_t wanted;
    uint32_t sent;
    uint32_t taken;
    uint32_t lives;
    int32_t days;             /* that are played */
    uint32_t over;            /* days of a domain above their cap */
    bool is_own;              /* the schedule is a <warm-up> */
    uint32_t tried[DAYS + 2]; /* recipients, of both domains */
    uint32_t done;            /* recipients that are delivered */
    uint32_t at_night;        /* recipients outside the hours */
    uint32_t step;            /* of yesterday */
    uint32_t wrong_steps;     /* up after a bad day */
    uint32_t good_days;
    unsigned failures;
};

static void check(struct stage *stage, bool holds, const char *what)
{
    if (holds || planted_bug != NULL)
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

/* ---- A <warm-up> ------------------------------------------------------------------------------
 */

static bool is_deferring(int32_t day)
{
    return day % 5 == 3;
}

static bool is_blocking(int32_t day)
{
    return day % 7 == 6;
}

/* What the receiver says to RCPT; it counts. */
static const char *rcpt_reply(struct stage *stage)
{
    int32_t day = today(stage);
    uint32_t second, nth;

    if (day < 0 || day >= DAYS + 2)
        return "250 2.1.5 ok";
    zone_day(conf_zone(stage->conf), wall_s(stage), &second);
    stage->at_night += second < FROM_S || second >= UNTIL_S;
    nth = stage->tried[day]++;
    if (is_deferring(day) && nth % 8 == 0)
        return "451 4.3.0 busy, try again later";
    if (is_blocking(day) && nth == 5)
        return "550 5.7.1 Service unavailable; client host [10.9.0.2] blocked using "
               "zen.spamhaus.org";
    stage->done++;
    return "250 2.1.5 ok";
}

/* The step that the product is on today. */
static uint32_t step_of(const struct stage *stage)
{
    const struct product *product = &stage->product;

    for (uint16_t i = 0; i < product->setup.shard_count; i++) {
        struct shard *shard = product->shards[i];

        for (uint32_t k = 0; k < shard->warm.books.count_grown; k++) {
            const struct warm_book *book =
                slab_is_live(&shard->warm.books, k) ? slab_at(&shard->warm.books, k) : NULL;

            if (book && book->book.is_begun && book->book.day - stage->first_day == today(stage))
                return book->book.step;
        }
    }
    return UINT32_MAX;
}

/* At the end of a day. */
static void judge_own_day(struct stage *stage)
{
    int32_t day = today(stage);
    uint32_t step = step_of(stage);
    bool was_bad = day > 0 && (is_deferring(day - 1) || is_blocking(day - 1));

    check(stage, step < stage->cap_count, "the day has a step");
    if (step >= stage->cap_count)
        return;
    stage->over += stage->tried[day] > stage->caps[step];
    stage->wrong_steps += step > stage->step && (was_bad || step > stage->good_days);
    stage->good_days += !is_deferring(day) && !is_blocking(day);
    stage->step = step;
    if (planted_bug != NULL)
        return;
    printf("day %2d: step %2u, cap %3llu, tried %3u%s\n", day, step,
           (unsigned long long)stage->caps[step], stage->tried[day],
           is_deferring(day)  ? ", one in eight deferred"
           : is_blocking(day) ? ", one block"
                              : "");
}

/* ---- The site -------------------------------------------------------------------------------- */

struct visit {
    bool is_cold; /* by the name that it gave */
    bool in_data;
    uint32_t rcpts[DOMAINS];
};

static void site_on_open(struct sim_peer_conn *conn)
{
    sim_peer_set_data(conn, calloc(1, sizeof(struct visit)));
    sim_peer_printf(conn, "220 site.test ESMTP\r\n");
}

static void count(struct stage *stage, struct visit *visit)
{
    int32_t day = today(stage);

    for (uint32_t i = 0; i < DOMAINS && day >= 0 && day < DAYS + 2; i++) {
        if (visit->is_cold)
            stage->cold[day][i] += visit->rcpts[i];
        else
            stage->warm[day] += visit->rcpts[i];
        visit->rcpts[i] = 0;
    }
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
        sim_peer_printf(conn, "250 site.test\r\n");
    } else if (slice_starts_nocase(line, SLICE_LITERAL("RCPT"))) {
        struct stage *stage = sim_peer_context(sim_peer_of(conn));
        size_t at = slice_find(line, '@');

        if (stage->is_own) {
            sim_peer_printf(conn, "%s\r\n", rcpt_reply(stage));
            return;
        }
        visit->rcpts[line.data[at + 2] - '0']++;
        /* An attempt counts, whatever becomes of it. */
        count(stage, visit);
        sim_peer_printf(conn, "250 2.1.5 ok\r\n");
    } else if (slice_starts_nocase(line, SLICE_LITERAL("DATA"))) {
        visit->in_data = true;
        sim_peer_printf(conn, "354 go on\r\n");
    } else if (slice_starts_nocase(line, SLICE_LITERAL("QUIT"))) {
        sim_peer_printf(conn, "221 2.0.0 bye\r\n");
        free(visit);
        sim_peer_set_data(conn, NULL);
        sim_peer_close(conn);
    } else {
        sim_peer_printf(conn, "250 2.0.0 ok\r\n");
    }
}

static void site_on_end(struct sim_peer_conn *conn, int32_t reason)
{
    free(sim_peer_data(conn));
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
    sim_peer_set_data(conn, calloc(1, sizeof(uint32_t)));
    sim_peer_printf(conn, "EHLO injector.test\r\n");
}

static void inject_on_line(struct sim_peer_conn *conn, struct slice line)
{
    struct stage *stage = sim_peer_context(sim_peer_of(conn));
    uint32_t *step = sim_peer_data(conn);

    if (line.len > 3 && line.data[3] == '-')
        return;
    if (*step == 0 && line.data[0] == '2' && !slice_starts_nocase(line, SLICE_LITERAL("220"))) {
        *step = 1;
        sim_peer_printf(conn, "MAIL FROM:<s@sender.test>\r\n");
        for (uint32_t i = 0; i < DOMAINS; i++)
            sim_peer_printf(conn, "RCPT TO:<u%u@d%u.test>\r\n", stage->sent, i);
        sim_peer_printf(conn, "DATA\r\n");
        stage->sent++;
    } else if (*step == 1 && line.data[0] == '3') {
        *step = 2;
        sim_peer_printf(conn, "Subject: news\r\n\r\nHello.\r\n.\r\n");
    } else if (*step == 2 && line.data[0] == '2') {
        stage->taken++;
        if (stage->sent < stage->wanted) {
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

static const char config[] = "host-name mta.test\nsmtp-listener 127.0.0.1:2525\n"
                             "warm-up-time-zone " ZONE "\n<spool /spool>\n</spool>\n"
                             "<source 127.0.0.1>\n always-allow-relaying yes\n"
                             " default-virtual-mta warm\n</source>\n"
                             "<domain *>\n retry-after 1m\n</domain>\n"
                             "<virtual-mta warm>\n smtp-source-host 10.9.0.1 warm.test\n"
                             " cold-virtual-mta cold\n"
                             " <domain *>\n max-cold-virtual-mta-msg " RAMP "\n </domain>\n"
                             "</virtual-mta>\n"
                             "<virtual-mta cold>\n smtp-source-host 10.9.0.2 cold.test\n"
                             "</virtual-mta>\n";

static const char own_config[] =
    "host-name mta.test\nsmtp-listener 127.0.0.1:2525\n"
    "warm-up-time-zone " ZONE "\n<spool /spool>\n</spool>\n"
    "<source 127.0.0.1>\n always-allow-relaying yes\n default-virtual-mta cold\n</source>\n"
    "<domain *>\n retry-after 10m\n bounce-after 90d\n</domain>\n"
    "<virtual-mta cold>\n smtp-source-host 10.9.0.2 cold.test\n</virtual-mta>\n"
    "<warm-up new-address>\n schedule " STEPS "\n send-hours 8:00-20:00\n"
    " virtual-mta cold\n</warm-up>\n";

static void start_life(struct stage *stage)
{
    struct product_setup setup = {
        .shard_count = (uint16_t)(1u << rng_below(&stage->rng, 3)),
        .segment_bytes = 1 << 20,
        .conf = stage->conf,
    };

    stage->product.zone.script = on_question;
    stage->lives++;
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
    if (conf_load_text("warmup", stage->is_own ? own_config : config, NULL, report, NULL,
                       &stage->conf) < 0 ||
        conf_cold_ramp(slice_str(stage->is_own ? STEPS : RAMP), stage->caps, &stage->cap_count) < 0)
        abort();
    stage->world = sim_world_create(seed, &options);
    sim_peer_listen(stage->world, &at, &site_handlers, stage);
    stage->injector = sim_peer_create(stage->world, &injector_handlers, stage);
    stage->product.world = stage->world;
}

static uint64_t cap_of(const struct stage *stage, int32_t day)
{
    uint32_t last = stage->cap_count - 1;

    return stage->caps[(uint32_t)day < last ? (uint32_t)day : last];
}

/* ---- What happens ---------------------------------------------------------------------------- */

/* Mail for half an hour; with it a life may end, at any moment of it. */
static void half_an_hour(struct stage *stage, uint32_t messages)
{
    const struct ipaddr_port to = {client, 2525};
    bool ends = rng_one_in(&stage->rng, 40);

    stage->wanted = stage->sent + messages;
    for (uint32_t i = 0; i < 4 && messages > 0; i++)
        sim_peer_connect(stage->injector, &client, &to);
    if (ends) {
        sim_run_for(stage->world, rng_below(&stage->rng, 2 * SECOND_NS));
        product_crash(&stage->product, rng_one_in(&stage->rng, 2));
        sim_run_for(stage->world, SECOND_NS);
        start_life(stage);
    }
    sim_run_for(stage->world, (BATCH_S - (ends ? 3 : 0)) * SECOND_NS);
}

static void judge_day(struct stage *stage, int32_t day, uint64_t *cold, uint64_t *caps)
{
    uint64_t cap = cap_of(stage, day);

    for (uint32_t i = 0; i < DOMAINS; i++) {
        stage->over += stage->cold[day][i] > cap;
        *cold += stage->cold[day][i];
        *caps += cap;
    }
    if (planted_bug != NULL)
        return;
    printf("day %2d: cap %3llu, by the cold one %3u %3u, by the warm one %4u\n", day,
           (unsigned long long)cap, stage->cold[day][0], stage->cold[day][1], stage->warm[day]);
}

static void thirty_days(struct stage *stage)
{
    uint64_t cold = 0, caps = 0;
    int32_t day = 0;

    while (day < stage->days) {
        uint32_t second;

        zone_day(conf_zone(stage->conf), wall_s(stage), &second);
        /* What is granted before midnight should not come after it. */
        if (second < 86400 - BATCH_S)
            half_an_hour(stage, (uint32_t)cap_of(stage, day) / 30 + 1);
        else
            sim_run_for(stage->world, (86400 - second) * SECOND_NS + SECOND_NS);
        if (today(stage) > day)
            judge_day(stage, day++, &cold, &caps);
    }
    if (planted_bug != NULL)
        return;
    printf("%u lives, %u messages taken; %llu of %llu by the cold one\n", stage->lives,
           stage->taken, (unsigned long long)cold, (unsigned long long)caps);
    check(stage, stage->over == 0, "no day is above its cap");
    check(stage, cold * 100 >= caps * USED_LEAST, "the caps are used");
    check(stage, stage->lives >= 15, "there were restarts");
    check(stage, stage->warm[DAYS - 1] > 0, "the rest goes by the warm one");
}

static void thirty_days_of_our_own(struct stage *stage)
{
    uint32_t tried = 0;
    int32_t day = 0;

    while (day < stage->days) {
        uint32_t second;

        half_an_hour(stage, stage->taken * DOMAINS < stage->done + BACKLOG ? 15 : 0);
        zone_day(conf_zone(stage->conf), wall_s(stage), &second);
        if (second < 86400 - 2 * BATCH_S || today(stage) != day)
            continue;
        judge_own_day(stage);
        tried += stage->tried[day++];
    }
    if (planted_bug != NULL)
        return;
    printf("%u lives, %u recipients taken, %u tried, %u outside the hours, step %u at last\n",
           stage->lives, stage->taken * DOMAINS, tried, stage->at_night, stage->step);
    check(stage, stage->over == 0, "no day is above its cap");
    check(stage, stage->at_night == 0, "all is sent within the hours");
    check(stage, stage->wrong_steps == 0, "a step up follows good days alone");
    check(stage, stage->step >= STEP_LEAST, "it gets on");
    check(stage, stage->lives >= 15, "there were restarts");
}

static void play(struct stage *stage, uint64_t seed, int32_t days)
{
    stage->days = days;
    raise_stage(stage, seed);
    stage->first_day = zone_day(conf_zone(stage->conf), wall_s(stage), NULL);
    start_life(stage);
    if (stage->is_own)
        thirty_days_of_our_own(stage);
    else
        thirty_days(stage);
    product_crash(&stage->product, false);
    sim_world_destroy(stage->world);
    conf_unref(stage->conf);
}

/* Each bug must show; the number of those that did not. */
static unsigned play_bugs(struct stage *stage, const char *const *names, size_t count, bool is_own)
{
    unsigned failures = 0;

    for (size_t i = 0; i < count; i++) {
        planted_bug = names[i];
        *stage = (struct stage){.is_own = is_own};
        play(stage, 1, is_own ? DAYS_SHORT / 2 : DAYS_SHORT);
        printf("%s: %u days above their cap\n", planted_bug, stage->over);
        failures += stage->over == 0;
    }
    planted_bug = NULL;
    return failures;
}

int main(int argc, char **argv)
{
#define PLANTED_NAME(name) name,
    static const char *const cold_bugs[] = {SHARD_PLANTED_WARMUPS(PLANTED_NAME)};
    static const char *const own_bugs[] = {SHARD_PLANTED_WARM(PLANTED_NAME)};
#undef PLANTED_NAME
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    static struct stage stage;
    unsigned failures;

    setvbuf(stdout, NULL, _IOLBF, 0);
    log_set_sink(drop_log, NULL);
    play(&stage, seed, DAYS);
    failures = stage.failures;
    stage = (struct stage){.is_own = true};
    play(&stage, seed, DAYS);
    failures += stage.failures;
    failures += play_bugs(&stage, cold_bugs, sizeof(cold_bugs) / sizeof(cold_bugs[0]), false);
    failures += play_bugs(&stage, own_bugs, sizeof(own_bugs) / sizeof(own_bugs[0]), true);
    printf("thirty days of a warm-up: %s\n", failures ? "FAILED" : "ok");
    return failures ? 1 : 0;
}
