/*
 * How rates are spent, by counts, in the simulated world: one that many shards share, several that
 * meet at one queue, tokens of connections beside connections, a rate for each source address. All
 * of it is used, never more, and no queue starves.
 *
 *   rate_scenarios         every scenario, with its figures; 1 when one fails
 */
#include "tests/sim/product/quiet.h"
#include "tests/sim/product/stage.h"

#include <stdio.h>

/* Of so many hours, in how many a message came; never two within one. */
static unsigned hours_used(struct stage *stage, unsigned receivers, unsigned hours)
{
    uint64_t first = stage_taken(stage, 0, receivers), seen = first, last_minute = 0;

    for (uint64_t minute = 1; minute <= hours * 60; minute++) {
        uint64_t now;

        sim_run_for(stage->world, 60000 * MS_NS);
        now = stage_taken(stage, 0, receivers);
        if (now == seen)
            continue;
        stage_check(stage, now == seen + 1, "one at a time");
        stage_check(stage, seen == first || minute >= last_minute + 60,
                    "an hour after the one before");
        last_minute = minute;
        seen = now;
    }
    return (unsigned)(seen - first);
}

/* One message an hour in all for receivers whose queues are spread over 16 shards: of what may go
 * at least 95 % goes, whoever counts it. */
static bool one_an_hour_is_shared_by_many_shards(void)
{
    static const struct {
        const char *name;
        const char *global;
        const char *vmta;
    } rows[] = {
        {"1/h for 16 shards, by a virtual MTA", NULL, " max-smtp-msg-rate 1/h\n"},
        {"1/h for 16 shards, by a block", "<limit one>\n max-msg-rate 1/h\n</limit>\n", NULL},
        {"1/h for 16 shards, by three limits",
         "<limit one>\n max-msg-rate 1/h\n</limit>\n"
         "<limit two>\n scope source-ip\n max-msg-rate 1/h\n</limit>\n",
         " max-smtp-msg-rate 1/h\n"},
    };
    enum { SHARDS = 16, RECEIVERS = 24, HOURS = 30 };
    bool ok = true;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        static struct stage stage;
        unsigned used;

        stage_raise(&stage, rows[i].name,
                    &(struct stage_options){
                        .shard_count = SHARDS, .global = rows[i].global, .vmta = rows[i].vmta});
        for (unsigned j = 0; j < RECEIVERS; j++)
            stage_add_receiver(&stage, j, KIND_SERVES, 20);
        stage_inject(&stage, 0, 0, RECEIVERS);
        stage_run(&stage, 100, 4, 0);
        used = hours_used(&stage, RECEIVERS, HOURS);
        stage_check(&stage, used * 100 >= HOURS * 95, "used to 95 %");
        printf("    %u of %u hours used\n", used, HOURS);
        ok &= stage_strike(&stage);
    }
    return ok;
}

/* Messages a second that many queues on many shards get out of several scarce rates; the one that
 * bounds them is used to 95 %, and none of them starves. */
static bool scarce_rates_meet(void)
{
    static const struct {
        const char *name;
        uint16_t shard_count;
        const char *global;
        const char *vmta;
        unsigned step_ms; /* between two messages, by the tightest of them */
        unsigned seconds;
    } rows[] = {
        {"1/s beside 20/s, 3 shards", 3, "<limit a>\n max-msg-rate 20/s\n</limit>\n",
         " max-smtp-msg-rate 1/s\n", 1010, 60},
        {"5/s beside 7/s and 1/s of each", 4,
         "<limit a>\n max-msg-rate 7/s\n</limit>\n"
         "<limit b>\n scope domain\n max-msg-rate 1/s\n</limit>\n",
         " max-smtp-msg-rate 5/s\n", 202, 60},
        {"10/s beside 1/s of each", 4,
         "<limit a>\n max-msg-rate 10/s\n</limit>\n"
         "<limit b>\n scope domain\n max-msg-rate 1/s\n</limit>\n",
         "", 101, 60},
        {"1/s beside 1/s, 3 shards", 3, "<limit a>\n max-msg-rate 1/s\n</limit>\n",
         " max-smtp-msg-rate 1/s\n", 1010, 60},
        {"1/s beside 1/s and 1/s, 4 shards", 4,
         "<limit a>\n max-msg-rate 1/s\n</limit>\n"
         "<limit b>\n scope source-ip\n max-msg-rate 1/s\n</limit>\n",
         " max-smtp-msg-rate 1/s\n", 1010, 60},
        {"20/min of each beside 20/s", 4,
         "<limit a>\n max-msg-rate 20/s\n</limit>\n"
         "<limit b>\n scope domain\n max-msg-rate 20/min\n</limit>\n",
         "", 125, 60},
        {"5/min over 3 shards", 3, "<limit a>\n max-msg-rate 5/min\n</limit>\n", "", 12002, 1200},
    };
    enum { RECEIVERS = 24 };
    bool ok = true;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        static struct stage stage;
        uint64_t first, taken, least = UINT64_MAX, before[RECEIVERS];
        unsigned may = rows[i].seconds * 1000 / rows[i].step_ms;

        stage_raise(&stage, rows[i].name,
                    &(struct stage_options){.shard_count = rows[i].shard_count,
                                            .global = rows[i].global,
                                            .vmta = rows[i].vmta});
        for (unsigned j = 0; j < RECEIVERS; j++)
            stage_add_receiver(&stage, j, KIND_SERVES, 20);
        stage_inject(&stage, 0, 0, RECEIVERS);
        stage_run(&stage, 200, 6, 0);
        first = stage_taken(&stage, 0, RECEIVERS);
        for (unsigned j = 0; j < RECEIVERS; j++)
            before[j] = stage.receivers[j].taken;
        stage_run(&stage, rows[i].seconds * 10, 0, 0);
        taken = stage_taken(&stage, 0, RECEIVERS) - first;
        for (unsigned j = 0; j < RECEIVERS; j++)
            if (stage.receivers[j].taken - before[j] < least)
                least = stage.receivers[j].taken - before[j];
        stage_check(&stage, taken * 100 >= (uint64_t)may * 95, "used to 95 %");
        stage_check(&stage, least * RECEIVERS * 3 >= may, "a third of its part for each");
        printf("    %llu of %u went, %llu of one queue at least\n", (unsigned long long)taken, may,
               (unsigned long long)least);
        ok &= stage_strike(&stage);
    }
    return ok;
}

/* Receivers on several shards that share connections, each of which takes a token of a rate that
 * they share too: who has its turn for a connection gets its token with it, whichever is the
 * scarcer of the two, and none of them starves. */
static bool connections_meet_their_tokens(void)
{
#define CONNECTS(rate) "<limit r>\n max-connect-rate " rate "\n</limit>\n"
    static const struct {
        const char *name;
        const char *global;
        const char *vmta;
        const char *domain;
        unsigned seconds;
        unsigned needed; /* to be opened: 3 in 4 seconds of each connection, 95 % of tokens */
    } rows[] = {
        {"1 connection beside 1/s", CONNECTS("1/s"), " max-smtp-out 1\n", NULL, 180, 135},
        {"1 connection beside 2/s", CONNECTS("2/s"), " max-smtp-out 1\n", NULL, 180, 135},
        {"2 connections beside 2/s", CONNECTS("2/s"), " max-smtp-out 2\n", NULL, 180, 270},
        {"2 connections beside 20/min", CONNECTS("20/min"), " max-smtp-out 2\n", NULL, 600, 190},
        {"4 connections beside 1/s", CONNECTS("1/s"), " max-smtp-out 4\n", NULL, 180, 169},
        {"2/s, connections enough", CONNECTS("2/s"), "", " max-msg-per-connection 1\n", 180, 338},
    };
    enum { RECEIVERS = 12 };
    bool ok = true;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        static struct stage stage;
        uint64_t opened = 0, least = UINT64_MAX, before[RECEIVERS];

        stage_raise(&stage, rows[i].name,
                    &(struct stage_options){.shard_count = 4,
                                            .global = rows[i].global,
                                            .vmta = rows[i].vmta,
                                            .domain = rows[i].domain});
        for (unsigned j = 0; j < RECEIVERS; j++)
            stage_add_receiver(&stage, j, KIND_SERVES, 50);
        stage_inject(&stage, 0, 0, RECEIVERS);
        stage_run(&stage, 200, 30, 0);
        for (unsigned j = 0; j < RECEIVERS; j++)
            before[j] = stage.receivers[j].opened;
        stage_run(&stage, rows[i].seconds * 10, 10, 0);
        for (unsigned j = 0; j < RECEIVERS; j++) {
            uint64_t count = stage.receivers[j].opened - before[j];

            opened += count;
            least = count < least ? count : least;
        }
        stage_check(&stage, opened >= rows[i].needed, "what may be opened is");
        stage_check(&stage, least * RECEIVERS * 3 >= opened, "a third of its part for each");
        printf("    %llu opened, %llu to one at least\n", (unsigned long long)opened,
               (unsigned long long)least);
        ok &= stage_strike(&stage);
    }
    return ok;
#undef CONNECTS
}

/*
 * Three queues of a receiver that share its one connection, and rates whose tokens are good for
 * less time than a message takes: who has its turn for the connection has the tokens with it. Else
 * one of the three had none at all: it went for its token and stood behind the others then, or its
 * tokens were another shard's to give, and the others had theirs at hand, or it was sent on to
 * where a token was due before, and no connection was idle.
 */
static bool a_slow_connection_is_shared_by_all(void)
{
#define EACH(rate) "<limit a>\n scope domain\n max-msg-rate " rate "\n</limit>\n"
    static const struct {
        const char *name;
        const char *global;
        const char *vmta;
        uint32_t reply_ms;
        uint16_t shard_count;
    } rows[] = {
        {"a slow connection beside 20/s", "", " max-smtp-out 1\n max-smtp-msg-rate 20/s\n", 190, 1},
        {"a slow connection beside two rates", "<limit a>\n max-msg-rate 20/s\n</limit>\n",
         " max-smtp-out 1\n max-smtp-msg-rate 7/s\n", 190, 1},
        {"a connection beside 20/s", "", " max-smtp-out 1\n max-smtp-msg-rate 20/s\n", 33, 1},
        {"a slow one beside 3/s of each", EACH("3/s"), " max-smtp-out 1\n max-smtp-msg-rate 7/s\n",
         190, 2},
        {"a slow one beside 1/s of each", EACH("1/s"), " max-smtp-out 1\n max-smtp-msg-rate 20/s\n",
         190, 2},
        {"two slow ones beside 3/s of each", EACH("3/s"),
         " max-smtp-out 2\n max-smtp-msg-rate 7/s\n", 190, 2},
        {"two sources beside 2/s of each",
         "<limit a>\n scope source-ip,domain\n max-msg-rate 2/s\n</limit>\n",
         " smtp-source-host 10.9.0.2 v2.test\n max-smtp-out 2\n max-smtp-msg-rate 7/s\n", 40, 1},
    };
    enum { QUEUES = 3, TENTHS = 2000 };
    bool ok = true;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        static struct stage stage;
        uint64_t all = 0, least = UINT64_MAX, tried[QUEUES];

        stage_raise(&stage, rows[i].name,
                    &(struct stage_options){.shard_count = rows[i].shard_count,
                                            .global = rows[i].global,
                                            .vmta = rows[i].vmta,
                                            .domain = " smtp-hosts [10.1.0.1]:25\n"});
        for (unsigned j = 0; j < QUEUES; j++)
            stage_add_receiver(&stage, j, KIND_SERVES, rows[i].reply_ms);
        /* A fourth one has a few messages at first. */
        stage_add_receiver(&stage, QUEUES, KIND_SERVES, rows[i].reply_ms);
        stage_inject(&stage, 0, 0, QUEUES);
        stage_inject(&stage, 1, QUEUES, 1);
        stage_run(&stage, 1, 0, 9);
        stage_run(&stage, 100, 8 * QUEUES, 0);
        stage_run(&stage, 400, 0, 0);
        for (unsigned j = 0; j < QUEUES; j++)
            tried[j] = stage_tried(&stage, j);
        stage_run(&stage, TENTHS, 0, 0);
        for (unsigned j = 0; j < QUEUES; j++) {
            uint64_t count = stage_tried(&stage, j) - tried[j];

            all += count;
            least = count < least ? count : least;
        }
        stage_check(&stage, least * QUEUES * 10 >= all * 7, "about equal parts");
        printf("    %llu tried, %llu of one queue at least\n", (unsigned long long)all,
               (unsigned long long)least);
        ok &= stage_strike(&stage);
    }
    return ok;
#undef EACH
}

enum { RATED_SOURCES = 3, RATED_SHARDS = 2 };

/* One queue of a virtual MTA of three addresses, with mail for longer than the scene. is_cold: it
 * is there before a restart, so that all of it must be read back. disk_ns: as a stage's. */
static void play_sources(struct stage *stage, const char *name, const char *domain, bool is_cold,
                         uint64_t disk_ns)
{
    char settings[200];

    snprintf(settings, sizeof(settings), "%s retry-after 20s\n", domain);
    stage_raise(stage, name,
                &(struct stage_options){.shard_count = RATED_SHARDS,
                                        .disk_ns = disk_ns,
                                        .vmta = " smtp-source-host 10.9.0.2 v2.test\n"
                                                " smtp-source-host 10.9.0.3 v3.test\n",
                                        .domain = settings});
    stage_inject(stage, 0, 0, 1);
    if (!is_cold)
        stage_add_receiver(stage, 0, KIND_SERVES, 20);
    stage_run(stage, 1000, 20, 0);
    if (!is_cold)
        return;
    stage_restart(stage);
    stage_add_receiver(stage, 0, KIND_SERVES, 20);
    stage_run(stage, 400, 0, 0);
}

/* Of what three sources with a rate each may do together 95 % is done, by one connection each, and
 * what waits is read about once: from a disk that takes longer than a token is good for, too. */
static bool each_source_of_a_queue_is_used(void)
{
    static const struct {
        const char *name;
        const char *domain;
        unsigned step_ms; /* between two messages of one source */
        unsigned seconds;
        bool is_cold;
        uint64_t disk_ns;
    } rows[] = {
        {"5/s by each of 3 sources", " source-ip-max-msg-rate 0/0 5/s\n", 202, 40, false, 0},
        {"1/s by each of 3 sources", " source-ip-max-msg-rate 0/0 1/s\n", 1010, 100, false, 0},
        {"20/min by each of 3 sources", " source-ip-max-msg-rate 0/0 20/min\n", 3000, 300, false,
         0},
        {"5/s of mail that must be read", " source-ip-max-msg-rate 0/0 5/s\n", 202, 40, true, 0},
        {"1/s of mail that must be read", " source-ip-max-msg-rate 0/0 1/s\n", 1010, 100, true, 0},
        {"20/min of mail that must be read", " source-ip-max-msg-rate 0/0 20/min\n", 3000, 300,
         true, 0},
        {"1/s of mail on a slow disk", " source-ip-max-msg-rate 0/0 1/s\n", 1010, 100, true,
         12 * MS_NS},
    };
    bool ok = true;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        static struct stage stage;
        unsigned may = rows[i].seconds * 1000 / rows[i].step_ms * RATED_SOURCES;
        uint64_t first, taken, reads;

        play_sources(&stage, rows[i].name, rows[i].domain, rows[i].is_cold, rows[i].disk_ns);
        first = stage_taken(&stage, 0, 1);
        reads = stage_cold_reads(&stage);
        stage_run(&stage, rows[i].seconds * 10, 0, 0);
        taken = stage_taken(&stage, 0, 1) - first;
        reads = stage_cold_reads(&stage) - reads;
        stage_check(&stage, taken * 100 >= (uint64_t)may * 95, "used to 95 %");
        stage_check(&stage, taken <= may + RATED_SOURCES, "and no more");
        stage_check(&stage, reads <= taken * 105 / 100 + RATED_SOURCES, "read about once");
        for (unsigned source = 1; source <= RATED_SOURCES; source++)
            stage_check(&stage, rows[i].disk_ns > 0 || stage.receivers[0].opened_by[source] == 1,
                        "a connection each");
        printf("    %llu of %u went, %llu read\n", (unsigned long long)taken, may,
               (unsigned long long)reads);
        ok &= stage_strike(&stage);
    }
    return ok;
}

/* Mail of two priorities in one queue with a rate: each has its turns, the lower one some, and a
 * restart that has all of it read back changes nothing. */
static bool priorities_have_turns(void)
{
    static const struct {
        const char *name;
        const char *fields;
        unsigned part; /* of the marked in thousand */
    } rows[] = {
        {"priority 70 beside 50", "x-ringpost-set: priority=70\r\nX-Mark: 1\r\n", 800},
        {"priority 10 beside 50", "x-ringpost-set: priority=10\r\nX-Mark: 1\r\n", 59},
        {"priority 50 beside 50", "x-ringpost-set: priority=50\r\nX-Mark: 1\r\n", 500},
    };
    enum { MESSAGES = 1600, TENTHS = 600 };
    bool ok = true;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        static struct stage stage;
        const struct receiver *receiver = &stage.receivers[0];

        stage_raise(&stage, rows[i].name,
                    &(struct stage_options){.shard_count = 2,
                                            .source = " allow-message-settings priority\n",
                                            .domain = " max-msg-rate 10/s\n max-smtp-out 2\n"});
        stage_add_receiver(&stage, 0, KIND_SERVES, 20);
        stage.receivers[0].marked = "X-Mark: 1";
        for (unsigned which = 0; which < 2; which++)
            stage_inject(&stage, which, 0, 1);
        stage.injecting[1].fields = rows[i].fields;
        stage_run(&stage, 10, MESSAGES / 10, MESSAGES / 10);
        for (unsigned life = 0; life < 2; life++) {
            uint64_t all, marked;

            stage_run(&stage, 100, 0, 0);
            all = receiver->taken;
            marked = receiver->marked_taken;
            stage_run(&stage, TENTHS, 0, 0);
            all = receiver->taken - all;
            marked = receiver->marked_taken - marked;
            printf("    %llu taken, %llu of them marked\n", (unsigned long long)all,
                   (unsigned long long)marked);
            stage_check(&stage, all >= TENTHS * 95 / 100, "the rate is used");
            stage_check(&stage,
                        marked * 1000 >= all * (rows[i].part - 20) &&
                            marked * 1000 <= all * (rows[i].part + 20),
                        "turns by rank");
            if (life == 0)
                stage_restart(&stage);
        }
        ok &= stage_strike(&stage);
    }
    return ok;
}

int main(void)
{
    bool ok = true;

    quiet_log();
    ok &= one_an_hour_is_shared_by_many_shards();
    ok &= scarce_rates_meet();
    ok &= connections_meet_their_tokens();
    ok &= priorities_have_turns();
    ok &= a_slow_connection_is_shared_by_all();
    ok &= each_source_of_a_queue_is_used();
    return ok ? 0 : 1;
}
