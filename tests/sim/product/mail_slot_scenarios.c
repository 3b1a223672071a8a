/*
 * Limits of connections by job, sender's domain and user, in company: several of them for one
 * message, receivers that are dead, limits that change, mail of others in the same strand. Played
 * with the whole product in the simulated world and decided by counts.
 *
 *   mail_slot_scenarios     every scenario, with its figures; 1 when one fails
 */
#include "shard/shard_int.h"
#include "tests/sim/product/quiet.h"
#include "tests/sim/product/stage.h"

#include <stdio.h>

/* Claims of all shards. */
static uint32_t claims(const struct stage *stage)
{
    uint32_t count = 0;

    for (uint16_t i = 0; i < stage->product.setup.shard_count; i++)
        count += stage->product.shards[i]->mail_slots.claims.count_used;
    return count;
}

static void send_as(struct stage *stage, const char *job, uint32_t first, uint32_t count,
                    uint32_t messages)
{
    static char fields[64];
    struct injecting *injecting = &stage->injecting[0];

    snprintf(fields, sizeof(fields), "X-Job: %s\r\nFrom: <a@%s.test>\r\n", job, job);
    injecting->fields = fields;
    injecting->first = first;
    injecting->count = count;
    stage_run(stage, 1, messages, 0);
    while (injecting->sent < injecting->wanted || injecting->is_busy)
        stage_run(stage, 1, 0, 0);
}

/* ---- Several limits, of which one counts by source too --------------------------------------- */

static bool play_both(const char *name, const char *limits)
{
    static struct stage stage;

    stage_raise(&stage, name,
                &(struct stage_options){.shard_count = 4,
                                        .global = limits,
                                        .source = " process-x-job yes\n",
                                        .vmta = " smtp-source-host 10.9.0.2 v2.test\n",
                                        .domain = " max-smtp-out 2\n"});
    for (unsigned i = 0; i < 8; i++)
        stage_add_receiver(&stage, i, KIND_SERVES, 20);
    stage_inject(&stage, 0, 0, 8);
    stage.injecting[0].fields = "X-Job: tight\r\n";
    stage_run(&stage, 50, 8, 0);
    stage_run(&stage, 600, 0, 0);
    printf("    %llu of %u taken\n", (unsigned long long)stage_taken(&stage, 0, 8),
           stage.injecting[0].sent);
    stage_check(&stage, stage_taken(&stage, 0, 8) == stage.injecting[0].sent, "all goes");
    stage_check(&stage, claims(&stage) == 0, "nothing is held when nothing waits");
    return stage_strike(&stage);
}

/* Which of a message's meters are known before a source is does not depend on their order. */
static bool limits_by_job_and_by_source_meet(void)
{
#define BY_JOB    "scope job\n max-smtp-out 1\n</limit>\n"
#define BY_SOURCE "scope job,source-ip\n max-smtp-out 1\n</limit>\n"
    bool ok =
        play_both("by job, and by job and source", "<limit a>\n " BY_JOB "<limit b>\n " BY_SOURCE);

    return play_both("by job and source, and by job",
                     "<limit a>\n " BY_SOURCE "<limit b>\n " BY_JOB) &&
           ok;
#undef BY_JOB
#undef BY_SOURCE
}

/* ---- In company of other limits -------------------------------------------------------------- */

struct company {
    const char *name;
    const char *global;
    const char *vmta;
    const char *domain;
    uint32_t bound;   /* connections that the job may have at once, over all */
    uint32_t seconds; /* in which all goes */
};

static bool play_company(const struct company *row)
{
    static struct stage stage;
    uint32_t most = 0, held = 0, used = 0, looks = 0;

    stage_raise(&stage, row->name,
                &(struct stage_options){.shard_count = 8,
                                        .global = row->global,
                                        .source = " process-x-job yes\n",
                                        .vmta = row->vmta,
                                        .domain = row->domain});
    for (unsigned i = 0; i < 12; i++)
        stage_add_receiver(&stage, i, KIND_SERVES, 20);
    stage_inject(&stage, 0, 0, 12);
    stage_inject(&stage, 1, 0, 12);
    stage.injecting[0].fields = "X-Job: tight\r\n";
    stage.injecting[1].fields = "X-Job: wide\r\n";
    stage_run(&stage, 20, 24, 24);
    for (unsigned i = 0; i < row->seconds * 100; i++) {
        uint32_t open = stage_at_mail(&stage, stage_is_of_job, "tight");

        sim_run_for(stage.world, 10 * MS_NS);
        most = open > most ? open : most;
        if (!product_is_empty(&stage.product)) {
            looks++;
            used += open;
            held += claims(&stage);
        }
    }
    printf("    %llu of %u taken; %u of the job at once, %.2f on average of %.1f s, %.1f claims\n",
           (unsigned long long)stage_taken(&stage, 0, 12),
           stage.injecting[0].sent + stage.injecting[1].sent, most, used * 1.0 / (looks + 1),
           looks / 100.0, held * 1.0 / (looks + 1));
    stage_check(&stage, most <= row->bound, "never more than it may have");
    stage_check(&stage,
                stage_taken(&stage, 0, 12) == stage.injecting[0].sent + stage.injecting[1].sent,
                "all goes in time");
    stage_check(&stage, claims(&stage) == 0, "nothing is held when nothing waits");
    return stage_strike(&stage);
}

#define LIMIT(name, lines) "<limit " name ">\n" lines "</limit>\n"
#define SECOND_SOURCE      " smtp-source-host 10.9.0.2 v2.test\n"

static bool several_limits_meet(void)
{
    static const struct company rows[] = {
        {"2 of a job", LIMIT("a", " scope job\n job tight\n max-smtp-out 2\n"), NULL,
         " max-smtp-out 4\n", 2, 120},
        {"2 of a job for a provider, 1 of a sender's domain by source",
         "<provider p>\n mx .test\n</provider>\n" LIMIT("a",
                                                        " scope job,provider\n max-smtp-out 2\n")
             LIMIT("b", " scope sender-domain,source-ip\n max-smtp-out 1\n"),
         SECOND_SOURCE, " max-smtp-out 4\n", 2, 200},
        {"2 of a job, 1 of a job for a domain, 10/s of a job",
         LIMIT("a", " scope job\n max-smtp-out 2\n")
             LIMIT("b", " scope job,domain\n max-smtp-out 1\n")
                 LIMIT("c", " scope job\n max-msg-rate 10/s\n"),
         SECOND_SOURCE, " max-smtp-out 4\n queue-priority 80\n", 2, 200},
        {"2 of a job, 3 of a virtual MTA, 30/s of a source",
         LIMIT("a", " scope job\n job tight\n max-smtp-out 2\n")
             LIMIT("c", " scope source-ip\n max-msg-rate 30/s\n"),
         SECOND_SOURCE " max-smtp-out 3\n", " max-smtp-out 4\n", 2, 300},
        {"1 of a job by source, 1 of all by source",
         LIMIT("a", " scope job,source-ip\n max-smtp-out 1\n"), SECOND_SOURCE,
         " max-smtp-out 4\n source-ip-max-smtp-out 0/0 1\n", 2, 300},
        {"2 of a job, a rate of connections",
         LIMIT("a", " scope job\n max-smtp-out 2\n")
             LIMIT("c", " scope job\n max-data-volume-rate 100k/s\n"),
         NULL, " max-smtp-out 4\n max-connect-rate 20/min\n max-msg-rate 30/s\n", 2, 300},
    };
    bool ok = true;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        ok &= play_company(&rows[i]);
    return ok;
}

/* A sender's domain that is being warmed up has no more for today: what waits for tomorrow keeps no
 * slot of its job from the mail of other senders. */
static bool what_waits_for_its_warm_up_holds_nothing(void)
{
    static struct stage stage;

    stage_raise(&stage, "1 of a job, of an address that is cold",
                &(struct stage_options){
                    .shard_count = 4,
                    .global = LIMIT(
                        "j", " scope job\n max-smtp-out 1\n") "<warm-up w>\n schedule 20,40,80\n "
                                                              "virtual-mta v\n</warm-up>\n",
                    .source = " process-x-job yes\n",
                    .domain = " max-smtp-out 4\n"});
    for (unsigned i = 0; i < 8; i++)
        stage_add_receiver(&stage, i, KIND_SERVES, 20);
    stage_inject(&stage, 0, 0, 8);
    stage.injecting[0].fields = "X-Job: tight\r\n";
    stage_run(&stage, 20, 40, 0);
    stage_run(&stage, 1200, 0, 0);
    printf("    %llu of %u taken, %u claims\n", (unsigned long long)stage_taken(&stage, 0, 8),
           stage.injecting[0].sent, claims(&stage));
    stage_check(&stage, stage_taken(&stage, 0, 8) > 0, "the day's part goes");
    stage_check(&stage, stage_taken(&stage, 0, 8) < stage.injecting[0].sent, "and no more");
    stage_check(&stage, claims(&stage) == 0, "nothing is held by what waits");
    sim_run_for(stage.world, 5 * 86400 * SECOND_NS);
    stage_check(&stage, stage_taken(&stage, 0, 8) == stage.injecting[0].sent, "all goes in days");
    return stage_strike(&stage);
}

/* So many jobs that flows share strands, each with one connection, for twelve receivers. */
static bool each_of_many_jobs_has_one(unsigned jobs, bool is_cold)
{
    static struct stage stage;
    static char name[48];
    uint32_t most[80] = {0}, used[80] = {0}, all = 0, looks = 0, least = UINT32_MAX;
    uint64_t reads = 0;

    snprintf(name, sizeof(name), "1 of each of %u jobs%s", jobs, is_cold ? ", read" : "");
    stage_raise(&stage, name,
                &(struct stage_options){.shard_count = 4,
                                        .global = LIMIT("j", " scope job\n max-smtp-out 1\n"),
                                        .source = " process-x-job yes\n",
                                        .domain = " max-smtp-out 8\n retry-after 10s\n"});
    for (unsigned i = 0; i < 12 && !is_cold; i++)
        stage_add_receiver(&stage, i, KIND_SERVES, 100);
    stage_inject(&stage, 0, 0, 12);
    for (unsigned round = 0; round < 4; round++)
        for (unsigned i = 0; i < jobs; i++) {
            char job[16];

            snprintf(job, sizeof(job), "job%u", i);
            send_as(&stage, job, 0, 12, 24);
        }
    if (is_cold) {
        stage_restart(&stage);
        for (unsigned i = 0; i < 12; i++)
            stage_add_receiver(&stage, i, KIND_SERVES, 100);
        stage_run(&stage, 150, 0, 0);
    }
    for (unsigned k = 0; k < 1000; k++) {
        sim_run_for(stage.world, 20 * MS_NS);
        for (unsigned i = 0; i < jobs; i++) {
            char job[16];
            uint32_t open;

            snprintf(job, sizeof(job), "job%u", i);
            open = stage_at_mail(&stage, stage_is_of_job, job);
            most[i] = open > most[i] ? open : most[i];
            used[i] += open;
            all += open;
        }
        looks++;
    }
    for (unsigned i = 0; i < jobs; i++) {
        least = used[i] < least ? used[i] : least;
        stage_check(&stage, most[i] <= 1, "never more than it may have");
    }
    for (uint16_t i = 0; i < stage.product.setup.shard_count; i++)
        reads += stage.product.shards[i]->totals.cold_reads;
    stage_check(&stage, stage_taken(&stage, 0, 12) >= 1000, "slots are used");
    printf("    %u sent, %llu taken; %.1f at once, least %.2f; %llu reads\n",
           stage.injecting[0].sent, (unsigned long long)stage_taken(&stage, 0, 12),
           all * 1.0 / looks, least * 1.0 / looks, (unsigned long long)reads);
    return stage_strike(&stage);
}

/* One receiver takes eight seconds for each reply, its greeting included: longer than a slot is
 * held for a connection that is being opened. */
static bool who_greets_late_has_its_turns(void)
{
    static struct stage stage;
    uint64_t late, others;

    stage_raise(&stage, "1 of a job, for one that greets late",
                &(struct stage_options){.shard_count = 4,
                                        .global = LIMIT("j", " scope job\n max-smtp-out 1\n"),
                                        .source = " process-x-job yes\n",
                                        .domain = " max-smtp-out 2\n"});
    for (unsigned i = 0; i < 8; i++)
        stage_add_receiver(&stage, i, KIND_SERVES, i == 0 ? 8000 : 20);
    stage_inject(&stage, 0, 0, 8);
    stage.injecting[0].fields = "X-Job: tight\r\n";
    stage_run(&stage, 200, 160, 0);
    stage_run(&stage, 100, 0, 0);
    late = stage_taken(&stage, 0, 1);
    others = stage_taken(&stage, 1, 7);
    stage_run(&stage, 3000, 0, 0);
    late = stage_taken(&stage, 0, 1) - late;
    others = stage_taken(&stage, 1, 7) - others;
    printf("    %llu taken by it in 300 s, %llu by seven others\n", (unsigned long long)late,
           (unsigned long long)others);
    stage_check(&stage, late > 0, "it has turns");
    return stage_strike(&stage);
}

/* ---- Limits that change ---------------------------------------------------------------------- */

#define NO_MAIL(of) "<limit j>\n scope job\n" of " max-smtp-out 0\n</limit>\n"

/* What waits for a limit that counts it no more waits for nothing. */
static bool play_change(const char *name, const char *before, const char *after)
{
    static struct stage stage;
    struct stage_options options = {.shard_count = 2,
                                    .global = before,
                                    .source = " process-x-job yes\n",
                                    .domain = " max-smtp-out 2\n"};

    stage_raise(&stage, name, &options);
    for (unsigned i = 0; i < 4; i++)
        stage_add_receiver(&stage, i, KIND_SERVES, 20);
    stage_inject(&stage, 0, 0, 4);
    stage.injecting[0].fields = "X-Job: tight\r\n";
    stage_run(&stage, 20, 4, 0);
    stage_check(&stage, stage_taken(&stage, 0, 4) == 0, "nothing goes");
    options.global = after;
    stage_reload(&stage, &options);
    stage_run(&stage, 600, 0, 0);
    printf("    %llu of %u taken\n", (unsigned long long)stage_taken(&stage, 0, 4),
           stage.injecting[0].sent);
    stage_check(&stage, stage_taken(&stage, 0, 4) == stage.injecting[0].sent, "all goes");
    stage_check(&stage, claims(&stage) == 0, "nothing is held when nothing waits");
    return stage_strike(&stage);
}

static bool what_waits_follows_a_reload(void)
{
    bool ok = play_change("a limit by job goes", NO_MAIL(""), NULL);

    ok &= play_change("a limit by job is raised", NO_MAIL(""),
                      "<limit j>\n scope job\n max-smtp-out 1\n</limit>\n");
    ok &= play_change("a limit by job is for other jobs now", NO_MAIL(""), NO_MAIL(" job other\n"));
    ok &= play_change("a limit by job is for other domains now", NO_MAIL(""),
                      NO_MAIL(" domain other.test\n"));
    ok &= play_change("a limit by job counts by source too", NO_MAIL(""),
                      "<limit j>\n scope job,source-ip\n max-smtp-out 1\n</limit>\n");
    return ok;
}

static bool is_expiring(void *context)
{
    const struct stage *stage = context;
    const struct slab *queues = &stage->product.shards[0]->queues;

    for (uint32_t i = 0; i < queues->count_grown; i++) {
        const struct queue *queue = slab_is_live(queues, i) ? slab_at(queues, i) : NULL;

        if (queue && queue->local == LOCAL_EXPIRED && queue->ready.apart_count > 0)
            return true;
    }
    return false;
}

/* An operator who sees mail bounce raises bounce-after while recipients are set apart for that, and
 * stops the job. What is apart is first in its queue, and no slot is to be had. */
static bool mail_is_kept_from_bouncing(void)
{
    static struct stage stage;
    struct stage_options options = {.shard_count = 1,
                                    .global = "<limit j>\n scope job\n max-smtp-out 1\n</limit>\n",
                                    .source = " process-x-job yes\n"
                                              " allow-message-settings expiry\n",
                                    .domain = " bounce-after 1m\n retry-after 10s\n"};

    stage_raise(&stage, "a job is stopped while its mail expires", &options);
    stage_add_receiver(&stage, 0, KIND_DEAD, 0);
    stage_inject(&stage, 0, 0, 1);
    stage_inject(&stage, 1, 0, 1);
    stage.injecting[0].fields = "X-Job: tight\r\n";
    stage.injecting[1].fields = "X-Job: tight\r\nX-Ringpost-Set: expiry=10h\r\n";
    stage_run(&stage, 10, 100, 1);
    stage_check(&stage, sim_run_until(stage.world, is_expiring, &stage, 200 * SECOND_NS, 200000000),
                "mail expires");
    options.global = NO_MAIL("");
    options.domain = " bounce-after 1d\n retry-after 10s\n";
    stage_reload(&stage, &options);
    sim_run_for(stage.world, 300 * SECOND_NS);
    stage_check(&stage, !is_expiring(&stage), "no more");
    stage_check(&stage, !product_is_empty(&stage.product), "some is kept");
    return stage_strike(&stage);
}

/* ---- Mail that does not leave after all -------------------------------------------------------
 */

/* Each holds its slot while it is read, and has expired when it could leave. */
static bool messages_expire_with_their_slots(void)
{
    static struct stage stage;

    stage_raise(&stage, "messages that have expired when read",
                &(struct stage_options){.shard_count = 2,
                                        .global = "<limit j>\n scope job\n max-smtp-out 1\n"
                                                  "</limit>\n",
                                        .source = " process-x-job yes\n"
                                                  " allow-message-settings expiry\n"});
    for (unsigned i = 0; i < 2; i++)
        stage_add_receiver(&stage, i, KIND_SERVES, 400);
    stage_inject(&stage, 0, 0, 2);
    stage.injecting[0].fields = "X-Job: tight\r\nX-Ringpost-Set: expiry=4s\r\n";
    stage_run(&stage, 10, 4, 0);
    stage_run(&stage, 300, 0, 0);
    printf("    %llu of %u taken\n", (unsigned long long)stage_taken(&stage, 0, 2),
           stage.injecting[0].sent);
    stage_check(&stage, stage_taken(&stage, 0, 2) > 0, "some go");
    stage_check(&stage, product_is_empty(&stage.product), "all mail has come to its end");
    stage_check(&stage, claims(&stage) == 0, "nothing is held when nothing waits");
    return stage_strike(&stage);
}

/* ---- Flows that share a strand --------------------------------------------------------------- */

/* All flows that a shard tells apart are taken: mail of another job shares one with that of a job
 * that has a limit. Once the one message of this is gone the others go on. */
static bool others_in_a_strand_go_on(void)
{
    static struct stage stage;
    uint64_t taken, of_job = 0;

    stage_raise(&stage, "mail behind a job's in its strand",
                &(struct stage_options){.shard_count = 1,
                                        .global = "<limit j>\n scope job\n job tight\n "
                                                  "max-smtp-out 1\n</limit>\n",
                                        .source = " process-x-job yes\n",
                                        .domain = " max-smtp-out 1\n retry-after 1h\n"});
    for (unsigned i = 0; i < 6; i++) {
        stage_add_receiver(&stage, i, KIND_SERVES, i == 0 ? 50 : 400);
        stage.receivers[i].marked = "From: <a@tight.test>";
    }
    stage_add_receiver(&stage, 9, KIND_DEAD, 0);
    stage_inject(&stage, 0, 9, 1);
    for (unsigned i = 0; i < 32; i++) {
        char job[16];

        snprintf(job, sizeof(job), "job%u", i);
        send_as(&stage, job, 9, 1, i < 31 ? 300 : 1);
    }
    send_as(&stage, "tight", 0, 6, 6);
    send_as(&stage, "wide", 0, 1, 280);
    send_as(&stage, "tight", 1, 5, 250);
    for (unsigned i = 0; i < 600 && stage.receivers[0].marked_taken == 0; i++)
        stage_run(&stage, 1, 0, 0);
    stage_check(&stage, stage.receivers[0].marked_taken == 1, "the job's message goes");
    taken = stage.receivers[0].taken;
    stage_run(&stage, 200, 0, 0);
    taken = stage.receivers[0].taken - taken;
    for (unsigned i = 0; i < 6; i++)
        of_job += stage.receivers[i].marked_taken;
    printf("    %llu taken in 20 s, %llu of the job\n", (unsigned long long)taken,
           (unsigned long long)of_job);
    stage_check(&stage, taken >= 90, "others go on");
    return stage_strike(&stage);
}

/* ---- Receivers that are dead ----------------------------------------------------------------- */

/* A queue that rests holds nothing, though nobody else may want it. */
static bool a_queue_that_rests_holds_nothing(void)
{
    static struct stage stage;

    stage_raise(&stage, "queues that rest",
                &(struct stage_options){.shard_count = 1,
                                        .global = "<limit j>\n scope job\n max-smtp-out 50\n"
                                                  "</limit>\n",
                                        .source = " process-x-job yes\n",
                                        .domain = " retry-after 1h\n"});
    for (unsigned i = 0; i < 10; i++)
        stage_add_receiver(&stage, i, KIND_DEAD, 0);
    stage_inject(&stage, 0, 0, 10);
    stage.injecting[0].fields = "X-Job: tight\r\n";
    stage_run(&stage, 10, 10, 0);
    stage_run(&stage, 600, 0, 0);
    printf("    %u claims while all queues rest\n", claims(&stage));
    stage_check(&stage, claims(&stage) == 0, "nothing is held");
    return stage_strike(&stage);
}

/* Twelve receivers of sixteen never answer: their queues hold the job's slots while connections are
 * opened for them, once and not again and again. */
static bool good_ones_go_beside_those_that_are_gone(void)
{
    static struct stage stage;
    uint64_t count = 0;

    stage_raise(&stage, "2 of a job, for many that are gone",
                &(struct stage_options){.shard_count = 4,
                                        .global = "<limit j>\n scope job\n max-smtp-out 2\n"
                                                  "</limit>\n",
                                        .source = " process-x-job yes\n",
                                        .domain = " retry-after 10m\n max-smtp-out 2\n"});
    for (unsigned i = 0; i < 16; i++)
        stage_add_receiver(&stage, i, i % 4 == 0 ? KIND_SERVES : KIND_GONE, 20);
    stage_inject(&stage, 0, 0, 16);
    stage.injecting[0].fields = "X-Job: tight\r\n";
    stage_run(&stage, 100, 160, 0);
    stage_run(&stage, 900, 0, 0);
    for (unsigned i = 0; i < 16; i += 4)
        count += stage_taken(&stage, i, 1);
    printf("    %llu of %u taken by the good ones\n", (unsigned long long)count,
           stage.injecting[0].sent / 4);
    stage_check(&stage, count * 4 * 100 >= stage.injecting[0].sent * 95ull, "good ones are served");
    return stage_strike(&stage);
}

int main(void)
{
    bool ok = true;

    quiet_log();
    ok &= limits_by_job_and_by_source_meet();
    ok &= several_limits_meet();
    ok &= what_waits_for_its_warm_up_holds_nothing();
    ok &= each_of_many_jobs_has_one(16, true);
    ok &= each_of_many_jobs_has_one(64, false);
    ok &= each_of_many_jobs_has_one(64, true);
    ok &= who_greets_late_has_its_turns();
    ok &= what_waits_follows_a_reload();
    ok &= mail_is_kept_from_bouncing();
    ok &= a_queue_that_rests_holds_nothing();
    ok &= messages_expire_with_their_slots();
    ok &= others_in_a_strand_go_on();
    ok &= good_ones_go_beside_those_that_are_gone();
    return ok ? 0 : 1;
}
