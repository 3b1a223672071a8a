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
    ok &= what_waits_follows_a_reload();
    ok &= mail_is_kept_from_bouncing();
    ok &= a_queue_that_rests_holds_nothing();
    ok &= messages_expire_with_their_slots();
    ok &= others_in_a_strand_go_on();
    ok &= good_ones_go_beside_those_that_are_gone();
    return ok ? 0 : 1;
}
