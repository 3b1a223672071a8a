/*
 * How connections are spent, by counts, in the simulated world: receivers that are dead or slow
 * beside healthy ones, the way back after an outage, idle connections and their memory.
 *   delivery_scenarios     every scenario, with its figures; 1 when one fails
 */
#include "core/base/planted.h"
#include "shard/shard_int.h"
#include "tests/sim/product/quiet.h"
#include "tests/sim/product/stage.h"

#include <stdio.h>

static void raise_stage(struct stage *stage, const char *name, const char *global, const char *vmta,
                        const char *domain)
{
    stage_raise(stage, name,
                &(struct stage_options){
                    .shard_count = 1, .global = global, .vmta = vmta, .domain = domain});
}

/* ---- Scenarios ------------------------------------------------------------------------------- */

#define GOOD_COUNT 10
#define BAD_COUNT  50

static void add_bad_receivers(struct stage *stage)
{
    for (unsigned i = GOOD_COUNT; i < GOOD_COUNT + BAD_COUNT; i++)
        switch (i % 5) {
        case 0:
            stage_add_receiver(stage, i, KIND_SILENT, 0);
            break;
        case 1:
            stage_add_receiver(stage, i, KIND_DEAD, 0);
            break;
        case 2:
            stage_add_receiver(stage, i, KIND_GONE, 0);
            break;
        default:
            stage_add_receiver(stage, i, KIND_SERVES, 20000);
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
        stage_add_receiver(&stage, i, KIND_SERVES, 50);
    stage_inject(&stage, 0, 0, GOOD_COUNT);
    if (has_bad) {
        add_bad_receivers(&stage);
        stage_inject(&stage, 1, GOOD_COUNT, BAD_COUNT);
    }
    stage_run(&stage, 200, 0, has_bad ? 4 : 0);
    stage_run(&stage, 1000, 4, has_bad ? 4 : 0);
    count = stage_taken(&stage, 0, GOOD_COUNT);
    stage_check(&stage, stage.injecting[0].sent == 4000, "all was injected");
    for (unsigned i = GOOD_COUNT; i < GOOD_COUNT + BAD_COUNT; i++)
        stage_check(&stage, !stage.receivers[i].peer || stage.receivers[i].opened > 0,
                    "a bad one has its turn too");
    printf("    %llu of %u taken, %u connections in the end\n", (unsigned long long)count,
           stage.injecting[0].sent, site_open_connections(stage.product.shards[0]));
    return stage_strike(&stage) ? count : 0;
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

        stage_raise(&stage, rows[i].name,
                    &(struct stage_options){.shard_count = rows[i].shard_count,
                                            .global = rows[i].global,
                                            .vmta = rows[i].vmta,
                                            .domain = " retry-after 10m\n max-smtp-out 20\n"});
        for (unsigned j = 0; j < GOOD_COUNT + BAD_COUNT; j++)
            stage_add_receiver(&stage, j, KIND_SERVES, j < GOOD_COUNT ? 50 : 20000);
        stage_inject(&stage, 0, 0, GOOD_COUNT);
        stage_inject(&stage, 1, GOOD_COUNT, BAD_COUNT);
        stage_run(&stage, TENTHS, 0, 2);
        for (unsigned j = 0; j < TENTHS; j++) {
            stage_run(&stage, 1, 0, 0);
            for (uint16_t k = 0; k < rows[i].shard_count; k++)
                open += site_open_connections(stage.product.shards[k]);
        }
        stage_check(&stage, open * 100 >= TENTHS * LIMIT * 95, "slow ones use 95 % of the limit");
        stage_run(&stage, 1000, 4, 2);
        count = stage_taken(&stage, 0, GOOD_COUNT);
        stage_check(&stage, stage.injecting[0].sent == 4000, "all was injected");
        stage_check(&stage, count >= 3900, "healthy ones have nearly all of theirs");
        printf("    %.1f of %d connections were slow ones', then %llu of 4000 taken beside them\n",
               (double)open / TENTHS, LIMIT, (unsigned long long)count);
        ok &= stage_strike(&stage);
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
    stage_inject(&stage, 0, 0, 1);
    stage_run(&stage, 100, 4, 0);
    stage_run(&stage, 3000, 0, 0);
    stage_check(&stage, product_queued(&stage.product) == MESSAGES, "everything waits");
    stage_check(&stage, stage.product.shards[0]->totals.connect_failures <= 10,
                "a dead receiver is asked once in a while");
    stage_add_receiver(&stage, 0, KIND_SERVES, 300);
    stage_run(&stage, 1200, 0, 0);
    stage_check(&stage, receiver->excess == 0, "there are never more than doubling allows");
    stage_check(&stage, receiver->open_max == 64, "in the end there are as many as may be");
    stage_check(&stage, receiver->taken == MESSAGES, "everything arrives");
    printf("    %u connections, at most %u at once, %u of them too early\n", receiver->opened,
           receiver->open_max, receiver->excess);
    return stage_strike(&stage);
}

/* The first four connections hang until they time out, after some messages were taken quickly:
 * the rest goes by others. Two messages may be on the way on each that hangs. */
static bool hung_connections_hold_nobody_up(void)
{
    enum { MESSAGES = 400, HANGING = 4 };

    static struct stage stage;
    struct receiver *receiver = &stage.receivers[0];

    raise_stage(&stage, "connections that hang", "", "", " max-smtp-out 20\n");
    stage_add_receiver(&stage, 0, KIND_SERVES, 0);
    receiver->hanging = HANGING;
    stage_inject(&stage, 0, 0, 1);
    stage_run(&stage, 100, 4, 0);
    stage_run(&stage, 100, 0, 0);
    stage_check(&stage, receiver->taken >= MESSAGES - 2 * HANGING,
                "all but those that hang arrive");
    stage_check(&stage, receiver->open_max <= 4 * HANGING, "a few connections more do");
    printf("    %llu of %u taken, at most %u connections at once\n",
           (unsigned long long)receiver->taken, MESSAGES, receiver->open_max);
    return stage_strike(&stage);
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
    stage_add_receiver(&stage, 0, KIND_SERVES, 50);
    receiver->greeted = 1;
    stage_inject(&stage, 0, 0, 1);
    stage_run(&stage, 100, 4, 0);
    stage_run(&stage, 900, 0, 0);
    stage_check(&stage, receiver->opened > 1 && receiver->ready == 1, "more connections are tried");
    stage_check(&stage, receiver->taken == MESSAGES, "everything arrives by the first");
    stage_check(&stage, shard->totals.sent_ahead >= MESSAGES * 9 / 10,
                "nearly all of it goes ahead");
    printf("    %u sent ahead of %u\n", (unsigned)shard->totals.sent_ahead, MESSAGES);
    return stage_strike(&stage);
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
        stage_add_receiver(&stage, i, KIND_SERVES, 100);
    stage_inject(&stage, 0, 0, RECEIVERS);
    stage_run(&stage, 300, 4, 0);
    for (unsigned i = 0; i < RECEIVERS; i++) {
        stage_check(&stage, stage.receivers[i].open >= LIMIT / RECEIVERS - 1, "each has its part");
        opened += stage.receivers[i].opened;
    }
    stage_check(&stage, opened <= 2 * LIMIT, "connections last");
    stage_run(&stage, 300, 0, 0);
    stage_check(&stage, stage_taken(&stage, 0, RECEIVERS) == MESSAGES, "everything arrives");
    printf("    %u connections opened for %u\n", opened, LIMIT);
    return stage_strike(&stage);
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

        stage_raise(&stage, rows[i].name,
                    &(struct stage_options){
                        .shard_count = SHARDS, .global = rows[i].global, .vmta = rows[i].vmta});
        for (unsigned j = 0; j < RECEIVERS; j++)
            stage_add_receiver(&stage, j, KIND_SERVES, 20);
        stage_inject(&stage, 0, 0, RECEIVERS);
        stage_run(&stage, 100, 10, 0);
        for (unsigned j = 0; j < LOOKS; j++) {
            uint32_t open = 0;

            sim_run_for(stage.world, 5 * MS_NS);
            for (uint16_t k = 0; k < SHARDS; k++)
                open += site_open_connections(stage.product.shards[k]);
            used += open > 0;
            shared += open > 1;
        }
        stage_check(&stage, shared == 0, "never more than one");
        stage_check(&stage, used * 100ull >= LOOKS * 95ull, "used to 95 %");
        for (unsigned j = 0; j < RECEIVERS; j++)
            stage_check(&stage, stage.receivers[j].taken > 0, "each has its turn");
        printf("    used %.1f %% of the time\n", used * 100.0 / LOOKS);
        ok &= stage_strike(&stage);
    }
    return ok;
}

static bool is_from(const struct message *message, const char *sender)
{
    return slice_equal(message->envelope.sender, slice_str(sender));
}

enum { MAIL_SHARDS = 16, MAIL_RECEIVERS = 24, MAIL_LOOKS = 16000 };

/* What became of a job that has a limit of its own, and of one beside it that has none. */
struct beside {
    uint32_t used, shared; /* connections of the one, summed over looks; looks with too many */
    uint64_t tight, wide;  /* messages taken */
    uint64_t sent;         /* of the other, in the first seconds … */
    uint64_t prompt;       /* … and taken in these */
    uint64_t reads;        /* from the log, of either */
    bool has_all;          /* each receiver has some of both */
};

static void count_beside(const struct stage *stage, struct beside *beside)
{
    beside->tight = 0;
    beside->wide = 0;
    beside->has_all = true;
    for (unsigned i = 0; i < MAIL_RECEIVERS; i++) {
        const struct receiver *receiver = &stage->receivers[i];

        beside->tight += receiver->marked_taken;
        beside->wide += receiver->taken - receiver->marked_taken;
        beside->has_all &= receiver->marked_taken > 0 && receiver->taken > receiver->marked_taken;
    }
}

static void add_mail_receivers(struct stage *stage)
{
    for (unsigned i = 0; i < MAIL_RECEIVERS; i++) {
        stage_add_receiver(stage, i, KIND_SERVES, 20);
        stage->receivers[i].marked = "From: <a@tight.test>";
    }
}

/* is_cold: the mail is there before a restart, so that whose it is must be read. */
static bool play_beside(const char *name, const char *limit, uint32_t bound, bool is_cold,
                        struct beside *beside)
{
    static struct stage stage;

    *beside = (struct beside){0};
    stage_raise(&stage, name,
                &(struct stage_options){.shard_count = MAIL_SHARDS,
                                        .global = limit,
                                        .source = " process-x-job yes\n",
                                        .domain = " max-smtp-out 2\n retry-after 20s\n"});
    stage_inject(&stage, 0, 0, MAIL_RECEIVERS);
    stage_inject(&stage, 1, 0, MAIL_RECEIVERS);
    stage.injecting[0].fields = "X-Job: tight\r\nFrom: <a@tight.test>\r\n";
    stage.injecting[1].fields = "X-Job: wide\r\nFrom: <a@wide.test>\r\n";
    if (!is_cold)
        add_mail_receivers(&stage);
    stage_run(&stage, 200, 20, 40);
    beside->sent = stage.injecting[1].sent;
    count_beside(&stage, beside);
    beside->prompt = beside->wide;
    if (is_cold) {
        stage_restart(&stage);
        add_mail_receivers(&stage);
        stage_run(&stage, 250, 0, 0);
    }
    for (unsigned i = 0; i < MAIL_LOOKS; i++) {
        uint32_t open;

        sim_run_for(stage.world, 5 * MS_NS);
        open = stage_at_mail(&stage, stage_is_of_job, "tight");
        beside->used += open < bound ? open : bound;
        beside->shared += open > bound;
    }
    count_beside(&stage, beside);
    beside->reads = stage_cold_reads(&stage);
    stage_check(&stage, beside->shared == 0, "never more than it may have");
    stage_check(&stage, beside->used * 100ull >= MAIL_LOOKS * 95ull * bound, "used to 95 %");
    stage_check(&stage, beside->has_all, "each queue has its turn");
    if (is_cold)
        stage_check(&stage, beside->reads * 100 <= (beside->tight + beside->wide) * 105,
                    "what waits is not read again and again");
    else
        stage_check(&stage, beside->prompt * 100 >= beside->sent * 95, "others go at once");
    /* The last one may not have been accepted. */
    stage_check(&stage, beside->wide + 1 >= beside->sent, "and all of them");
    printf("    used %.1f %% of the time; %llu messages of the job, %llu of the other's %llu in "
           "%d s; %llu read\n",
           beside->used * 100.0 / MAIL_LOOKS / bound, (unsigned long long)beside->tight,
           (unsigned long long)beside->prompt, (unsigned long long)beside->sent, 20,
           (unsigned long long)beside->reads);
    return stage_strike(&stage);
}

/* A job may have so many connections in all, for receivers whose queues are spread over 16 shards:
 * looked at each 5 ms it has them nearly always, and never more, while mail of another job in the
 * very same queues goes at once. */
static bool a_job_has_connections_of_its_own(void)
{
#define JOB_LIMIT(scope, job, count)                                                               \
    "<limit j>\n scope " scope "\n job " job "\n max-smtp-out " count "\n</limit>\n"
    static const struct {
        const char *name;
        const char *limit;
        uint32_t bound;
        bool is_cold;
    } rows[] = {
        {"1 of a job, 16 shards", JOB_LIMIT("job", "tight", "1"), 1, false},
        {"3 of a job, 16 shards", JOB_LIMIT("job", "tight", "3"), 3, false},
        {"1 of a job that must be read", JOB_LIMIT("job", "tight", "1"), 1, true},
        {"1 of a job for a provider",
         "<provider p>\n mx .test\n</provider>\n" JOB_LIMIT("job,provider", "t*", "1"), 1, false},
    };
    bool ok = true;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct beside beside;

        ok &= play_beside(rows[i].name, rows[i].limit, rows[i].bound, rows[i].is_cold, &beside);
    }
    return ok;
#undef JOB_LIMIT
}

/* Two senders' domains have a connection each, for mail of one job: one does not wait for the
 * other's.
 */
static bool senders_of_a_job_have_connections_of_their_own(void)
{
    static const char *const senders[] = {"a@one.test", "a@two.test"};
    static struct stage stage;
    uint32_t used[2] = {0}, shared = 0;

    stage_raise(&stage, "1 of each sender's domain",
                &(struct stage_options){
                    .shard_count = MAIL_SHARDS,
                    .global = "<limit s>\n scope sender-domain\n max-smtp-out 1\n</limit>\n",
                    .source = " process-x-job yes\n"});
    for (unsigned i = 0; i < 2; i++) {
        stage_inject(&stage, i, 0, MAIL_RECEIVERS);
        stage.injecting[i].fields = "X-Job: news\r\n";
        stage.injecting[i].sender = senders[i] + 2;
    }
    add_mail_receivers(&stage);
    stage_run(&stage, 300, 20, 20);
    for (unsigned i = 0; i < MAIL_LOOKS; i++) {
        sim_run_for(stage.world, 5 * MS_NS);
        for (unsigned j = 0; j < 2; j++) {
            uint32_t open = stage_at_mail(&stage, is_from, senders[j]);

            used[j] += open > 0;
            shared += open > 1;
        }
    }
    stage_check(&stage, shared == 0, "never more than one of each");
    for (unsigned i = 0; i < 2; i++)
        stage_check(&stage, used[i] * 100ull >= MAIL_LOOKS * 95ull, "each is used to 95 %");
    printf("    used %.1f and %.1f %% of the time\n", used[0] * 100.0 / MAIL_LOOKS,
           used[1] * 100.0 / MAIL_LOOKS);
    return stage_strike(&stage);
}

/*
 * Two connections in all for 24 receivers, another job has more for them than these can take, and
 * of the job with a limit one may be under way. Neither starves: who has the slot of the job waits
 * for a connection as everybody does, and whoever is there with a connection and finds no slot
 * leaves it to others.
 */
static bool a_job_with_a_limit_waits_for_connections_too(void)
{
    static struct stage stage;
    uint32_t open = 0, shared = 0;
    struct beside beside;

    stage_raise(&stage, "1 of a job, 2 of all",
                &(struct stage_options){
                    .shard_count = MAIL_SHARDS,
                    .global = "total-max-smtp-out 2\n"
                              "<limit j>\n scope job\n job tight\n max-smtp-out 1\n</limit>\n",
                    .source = " process-x-job yes\n"});
    stage_inject(&stage, 0, 0, MAIL_RECEIVERS);
    stage_inject(&stage, 1, 0, MAIL_RECEIVERS);
    stage.injecting[0].fields = "X-Job: tight\r\nFrom: <a@tight.test>\r\n";
    stage.injecting[1].fields = "X-Job: wide\r\nFrom: <a@wide.test>\r\n";
    add_mail_receivers(&stage);
    stage_run(&stage, 600, 20, 40);
    for (unsigned i = 0; i < MAIL_LOOKS; i++) {
        sim_run_for(stage.world, 5 * MS_NS);
        for (uint16_t j = 0; j < MAIL_SHARDS; j++)
            open += site_open_connections(stage.product.shards[j]);
        shared += stage_at_mail(&stage, stage_is_of_job, "tight") > 1;
    }
    count_beside(&stage, &beside);
    stage_check(&stage, open * 100ull >= MAIL_LOOKS * 95ull * 2, "connections are used to 95 %");
    stage_check(&stage, shared == 0, "never more than it may have");
    stage_check(&stage, beside.has_all, "each queue has its turn with both");
    stage_check(&stage, beside.tight * 4 >= beside.wide, "the job has a fair part");
    printf("    %llu of the job, %llu of the other\n", (unsigned long long)beside.tight,
           (unsigned long long)beside.wide);
    return stage_strike(&stage);
}

/*
 * Queues of four ranks, all of which have more than can go, at what they stand in line for: a
 * connection of their receiver's, one of few that all receivers share, and the token of a rate.
 * Each step of rank is worth several times the turns, and the last one has some.
 */
static bool ranks_have_turns_by_weight(void)
{
#define RANKS                                                                                      \
    "<domain d0.test>\n queue-priority 80\n</domain>\n"                                            \
    "<domain d1.test>\n queue-priority 70\n</domain>\n"                                            \
    "<domain d3.test>\n queue-priority 20\n</domain>\n"
    static const struct {
        const char *name;
        const char *vmta;
        const char *domain;
    } rows[] = {
        {"ranks at a rate", " max-smtp-msg-rate 4/s\n", ""},
        {"ranks at few connections", " max-smtp-out 1\n", " connection-idle-timeout 0\n"},
        {"ranks at a receiver", " max-smtp-out 1\n", " smtp-hosts [10.1.0.1]:25\n"},
    };
    enum { QUEUES = 4, TENTHS = 2000 };
    bool ok = true;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        static struct stage stage;
        uint64_t tried[QUEUES];

        raise_stage(&stage, rows[i].name, RANKS, rows[i].vmta, rows[i].domain);
        for (unsigned j = 0; j < QUEUES; j++)
            stage_add_receiver(&stage, j, KIND_SERVES, 50);
        stage_inject(&stage, 0, 0, QUEUES);
        stage_run(&stage, 100, 4 * QUEUES, 0);
        for (unsigned j = 0; j < QUEUES; j++)
            tried[j] = stage_tried(&stage, j);
        stage_run(&stage, TENTHS, 4 * QUEUES, 0);
        for (unsigned j = 0; j < QUEUES; j++)
            tried[j] = stage_tried(&stage, j) - tried[j];
        for (unsigned j = 1; j < QUEUES; j++)
            stage_check(&stage, tried[j - 1] >= 2 * tried[j], "more turns by rank");
        stage_check(&stage, tried[QUEUES - 1] > 0, "the last one has its turn");
        printf("    %llu, %llu, %llu and %llu tried\n", (unsigned long long)tried[0],
               (unsigned long long)tried[1], (unsigned long long)tried[2],
               (unsigned long long)tried[3]);
        ok &= stage_strike(&stage);
    }
    return ok;
#undef RANKS
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
        stage_add_receiver(&stage, 0, KIND_SERVES, 0);
        stage_inject(&stage, 0, 0, 1);
        for (unsigned j = 0; j < 10; j++) {
            stage_run(&stage, 1, 1, 0);
            stage_run(&stage, 29, 0, 0);
        }
        stage_run(&stage, 12000, 0, 0);
        stage_check(&stage, stage.receivers[0].taken == 10, "everything arrives");
        stage_check(&stage, stage.receivers[0].opened == rows[i].opened, "connections opened");
        stage_check(&stage, stage.receivers[0].open == rows[i].open, "connections still open");
        ok &= stage_strike(&stage);
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
    stage_add_receiver(&stage, 0, KIND_SERVES, 1000);
    stage_inject(&stage, 0, 0, 1);
    stage_run(&stage, 300, 4, 0);
    stage_run(&stage, 600, 0, 0);
    stage_check(&stage, site_open_connections(shard) == CONNECTIONS, "all connections stand");
    stage_check(&stage, product_is_empty(&stage.product), "none has anything to do");
    bytes = used_bytes(&shard->connections) + used_bytes(&shard->deliveries) +
            used_bytes(&shard->wides) + used_bytes(&shard->outcomes) +
            smtpc_engine_used_bytes(shard->smtpc);
    stage_check(&stage, bytes <= CONNECTIONS * BYTES_MAX, "at most 2 KB each");
    printf("    %llu bytes each\n", (unsigned long long)bytes / CONNECTIONS);
    return stage_strike(&stage);
}

/* Nobody listens until the disk is full of mail that is given up then: its notices find no space,
 * and only its own end makes some. With space again, senders are told as ever. */
static bool a_full_disk_comes_free(void)
{
    static struct stage stage;
    const struct notices *notices;
    uint64_t written;

    stage_raise(&stage, "a disk full of mail that fails",
                &(struct stage_options){.shard_count = 1,
                                        .latency_ns = MS_NS / 10,
                                        .domain = " bounce-after 30m\n retry-after 1m\n",
                                        .tells_senders = true});
    notices = &stage.product.shards[0]->notices;
    stage_add_receiver(&stage, 0, KIND_DEAD, 0);
    stage_inject(&stage, 0, 0, 1);
    sim_disk_limit(stage.world, 16 << 20);
    stage_run(&stage, 600, 100, 0);
    stage_check(&stage, stage.injecting[0].is_put_off, "the disk is full");
    sim_run_for(stage.world, 7200 * SECOND_NS);
    stage_check(&stage, notices->given_up > 0, "notices are given up");
    stage_check(&stage, product_is_empty(&stage.product), "all mail has come to its end");
    written = notices->written;
    stage_inject(&stage, 1, 0, 1);
    stage_run(&stage, 50, 0, 2);
    sim_run_for(stage.world, 3600 * SECOND_NS);
    stage_check(&stage, notices->written == written + 100, "senders are told again");
    printf("    %llu given up\n", (unsigned long long)notices->given_up);
    return stage_strike(&stage);
}

/* Queues that wait for their receivers keep their places, and mail for others waits for one. That
 * takes a look now and then, not every turn that a core can make. */
static bool without_room_for_a_queue_a_shard_sleeps(void)
{
    static struct stage stage;
    struct io_stats before, after;

    stage_raise(&stage, "more domains than a shard has queues",
                &(struct stage_options){.shard_count = 1,
                                        .domain = " retry-after 5m\n bounce-after 20m\n",
                                        .queue_count_max = 8});
    for (unsigned i = 0; i < 16; i++)
        stage_add_receiver(&stage, i, i < 12 ? KIND_DEAD : KIND_SERVES, 0);
    stage_inject(&stage, 0, 0, 16);
    stage_run(&stage, 1, 16, 0);
    stage_run(&stage, 49, 0, 0);
    io_stats_read(stage.product.shards[0]->io, &before);
    sim_run_for(stage.world, 60 * SECOND_NS);
    io_stats_read(stage.product.shards[0]->io, &after);
    stage_check(&stage, stage.product.shards[0]->handoff_head != NONE, "mail waits for a queue");
    stage_check(&stage, after.turns - before.turns < 60 * 250, "the shard sleeps meanwhile");
    sim_run_for(stage.world, 7200 * SECOND_NS);
    stage_check(&stage, stage_taken(&stage, 12, 4) == 4, "all that has a receiver is taken");
    stage_check(&stage, product_is_empty(&stage.product), "all mail has come to its end");
    printf("    %llu turns in a minute\n", (unsigned long long)(after.turns - before.turns));
    return stage_strike(&stage);
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
    ok &= a_job_has_connections_of_its_own();
    ok &= senders_of_a_job_have_connections_of_their_own();
    ok &= a_job_with_a_limit_waits_for_connections_too();
    ok &= ranks_have_turns_by_weight();
    ok &= idle_connections_stay_as_long_as_wished();
    ok &= memory_of_an_idle_connection();
    ok &= a_full_disk_comes_free();
    ok &= without_room_for_a_queue_a_shard_sleeps();
    return ok ? 0 : 1;
}
