/*
 * Standing orders by what a message says: its job, its sender's domain. Played with the whole
 * product in the simulated world and decided by counts of the receivers.
 *
 *   order_scenarios        every scenario, with its figures; 1 when one fails
 */
#include "core/base/log.h"
#include "tests/sim/product/quiet.h"
#include "tests/sim/product/stage.h"

#include <stdio.h>

#define SHARDS  4
#define DOMAINS 8

#define BAD_FIELDS  "X-Job: bulk\r\nFrom: News <news@bulk.test>\r\n"
#define GOOD_FIELDS "X-Job: mail\r\nFrom: Bank <bank@mail.test>\r\n"

struct figures {
    uint64_t taken, refused; /* of bulk.test */
    uint64_t others;
};

static struct figures figures_of(const struct stage *stage)
{
    struct figures figures = {0};

    for (unsigned i = 0; i < DOMAINS; i++) {
        figures.taken += stage->receivers[i].marked_taken;
        figures.refused += stage->receivers[i].marked_refused;
        figures.others += stage->receivers[i].taken - stage->receivers[i].marked_taken;
    }
    return figures;
}

static void refuse(struct stage *stage, const char *refusal)
{
    for (unsigned i = 0; i < DOMAINS; i++)
        stage->receivers[i].refusal = refusal;
}

static void raise(struct stage *stage, const char *name, const char *global)
{
    const struct stage_options options = {
        .shard_count = SHARDS,
        .global = global,
        .source = " process-x-job yes\n",
        .domain = " retry-after 1m\n backoff-retry-after 10m\n",
    };

    stage_raise(stage, name, &options);
    for (unsigned i = 0; i < DOMAINS; i++) {
        stage_add_receiver(stage, i, KIND_SERVES, 20);
        stage->receivers[i].marked = "From: News <news@bulk.test>";
    }
    refuse(stage, "451 4.7.28 Gmail has detected an unusual rate of mail with your DKIM domain");
}

static void inject_both(struct stage *stage)
{
    stage_inject(stage, 0, 0, DOMAINS);
    stage_inject(stage, 1, 0, DOMAINS);
    stage->injecting[0].fields = BAD_FIELDS;
    stage->injecting[1].fields = GOOD_FIELDS;
}

/*
 * A refusal of one sender's mail, or job's, stops that mail at all queues of the provider over all
 * shards, also over a restart, and nothing else. After the stop one message probes, and its refusal
 * stops again for twice as long; when it is taken the rest follows.
 */
static bool mail_is_stopped(const char *name, const char *line)
{
    static struct stage stage;
    struct figures begun, stopped, probed, done;
    char global[256];

    snprintf(global, sizeof(global), "<provider p>\n mx .test\n %s\n</provider>\n", line);
    raise(&stage, name, global);
    inject_both(&stage);
    stage_run(&stage, 50, 4, 4);
    begun = figures_of(&stage);
    stage_check(&stage, begun.refused > 0 && begun.refused <= 24, "it is stopped at once");
    stage_run(&stage, 50, 4, 4);
    stage_restart(&stage);
    inject_both(&stage);
    stage_run(&stage, 100, 4, 4);
    stage_run(&stage, 4500, 0, 0);
    stopped = figures_of(&stage);
    stage_check(&stage, stopped.refused == begun.refused && stopped.taken == 0,
                "nothing of it goes out while it is stopped");
    stage_check(&stage, stopped.others >= 780, "other mail goes");
    stage_run(&stage, 3000, 0, 0);
    probed = figures_of(&stage);
    stage_check(&stage, probed.refused == begun.refused + 1, "one message probes");
    refuse(&stage, NULL);
    stage_run(&stage, 18000, 0, 0);
    done = figures_of(&stage);
    stage_check(&stage, done.refused == probed.refused, "it is not refused any more");
    stage_check(&stage, done.taken >= 780, "all of it goes then");
    printf("    %llu refused at first, %llu and %llu taken\n", (unsigned long long)begun.refused,
           (unsigned long long)done.taken, (unsigned long long)done.others);
    return stage_strike(&stage);
}

static void inject_slowly(struct stage *stage)
{
    inject_both(stage);
    for (unsigned i = 0; i < 30; i++) {
        stage_run(stage, 1, 1, 1);
        stage_run(stage, 4, 0, 0);
    }
}

/* Ten refusals, wherever they came, are ten: seen by four shards, two or three each. */
static bool a_trigger_counts_over_shards(const char *name, const char *scope, const char *trigger)
{
    static struct stage stage;
    struct figures begun, later;
    char global[256];

    snprintf(global, sizeof(global),
             "<provider p>\n mx .test\n reply /4.7.28/ stop=10m scope=%s trigger=%s\n"
             "</provider>\n",
             scope, trigger);
    raise(&stage, name, global);
    inject_slowly(&stage);
    begun = figures_of(&stage);
    stage_check(&stage, begun.refused == 10, "the tenth stops it");
    stage_run(&stage, 4500, 0, 0);
    later = figures_of(&stage);
    stage_check(&stage, later.refused == 10, "for its time");
    printf("    %llu refused at first, %llu later\n", (unsigned long long)begun.refused,
           (unsigned long long)later.refused);
    return stage_strike(&stage);
}

/* Of what is tried at the provider half is refused: a line that waits for two fifths acts when ten
 * were tried, one that waits for nine tenths never does. */
static bool a_share_is_of_all_attempts(const char *name, const char *trigger, bool fires)
{
    static struct stage stage;
    struct figures begun, later;
    char global[256];

    snprintf(global, sizeof(global),
             "<provider p>\n mx .test\n reply /4.7.28/ stop=10m scope=provider trigger=%s\n"
             "</provider>\n",
             trigger);
    raise(&stage, name, global);
    inject_slowly(&stage);
    begun = figures_of(&stage);
    stage_run(&stage, 300, 0, 0);
    later = figures_of(&stage);
    printf("    %llu refused at first, %llu later\n", (unsigned long long)begun.refused,
           (unsigned long long)later.refused);
    stage_check(&stage, fires ? begun.refused >= 4 && begun.refused <= 20 : begun.refused == 30,
                fires ? "it is stopped" : "it goes on");
    stage_check(&stage, later.refused == begun.refused, "for its time");
    return stage_strike(&stage);
}

static uint32_t opened_by(const struct stage *stage, unsigned source)
{
    uint32_t count = 0;

    for (unsigned i = 0; i < DOMAINS; i++)
        count += stage->receivers[i].opened_by[source];
    return count;
}

/* A refusal of one address stops it, and by netblock those of its /24; another goes on. Says how
 * many connections its neighbour had. */
static bool an_address_is_stopped(const char *name, const char *scope, uint32_t *ret_neighbour)
{
    static struct stage stage;
    char global[256];
    const struct stage_options options = {
        .shard_count = SHARDS,
        .global = global,
        .vmta = " smtp-source-host 10.9.0.2 v2.test\n smtp-source-host 10.9.1.3 v3.test\n",
        .domain = " retry-after 1m\n max-msg-per-connection 2\n",
    };
    uint32_t refused, others;

    snprintf(global, sizeof(global),
             "<provider p>\n mx .test\n reply /4.7.28/ stop=10m scope=%s\n</provider>\n", scope);
    stage_raise(&stage, name, &options);
    for (unsigned i = 0; i < DOMAINS; i++) {
        stage_add_receiver(&stage, i, KIND_SERVES, 20);
        stage.receivers[i].marked = "Subject: test";
        stage.receivers[i].refused_source = 1;
    }
    refuse(&stage, "451 4.7.28 an unusual rate of mail from your netblock");
    stage_inject(&stage, 0, 0, DOMAINS);
    stage_run(&stage, 50, 4, 0);
    refused = opened_by(&stage, 1);
    others = opened_by(&stage, 3);
    *ret_neighbour = opened_by(&stage, 2);
    stage_run(&stage, 600, 4, 0);
    *ret_neighbour = opened_by(&stage, 2) - *ret_neighbour;
    stage_check(&stage, refused > 0 && opened_by(&stage, 1) == refused, "who is refused rests");
    stage_check(&stage, opened_by(&stage, 3) > others + 100, "another goes on");
    stage_check(&stage, stage_taken(&stage, 0, DOMAINS) >= 2580, "for all of the mail");
    return stage_strike(&stage);
}

static bool a_netblock_is_stopped(void)
{
    uint32_t alone, together;
    bool ok = an_address_is_stopped("an address is stopped", "source-ip", &alone);

    ok &= an_address_is_stopped("a netblock is stopped", "netblock", &together);
    printf("    its neighbour opened %u connections, and %u\n", alone, together);
    return ok && alone > 100 && together == 0;
}

int main(void)
{
    bool ok = true;

    quiet_log();
    ok &= mail_is_stopped("a sender's domain is stopped",
                          "reply /4.7.28/ stop=10m scope=sender-domain");
    ok &= mail_is_stopped("a job is stopped", "reply /4.7.28/ stop=10m scope=job");
    ok &= mail_is_stopped("a job backs off", "reply /4.7.28/ mode=backoff scope=job");
    ok &= a_trigger_counts_over_shards("a job's refusals are counted", "job", "10/10m");
    ok &= a_trigger_counts_over_shards("a provider's refusals are counted", "provider", "10/10m");
    ok &= a_trigger_counts_over_shards("a job's share is counted", "job", "90%");
    ok &= a_share_is_of_all_attempts("two fifths are refused", "40%", true);
    ok &= a_share_is_of_all_attempts("nine tenths are not refused", "90%", false);
    ok &= a_netblock_is_stopped();
    return ok ? 0 : 1;
}
