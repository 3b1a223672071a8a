#include "tests/sim/product/watch.h"

#include "shard/shard_int.h"

#include <stdio.h>

#define LOOK_EVERY   16 /* steps */
#define VMTA_IDS_MAX 16
/* More than a history lasts: the product of long lines is kept from running over. */
#define TURNS_MAX    (1u << 20)

/* ---- The peak -------------------------------------------------------------------------------- */

/* Whether the life has the configuration that it was last seen with, on all shards. */
static bool is_unchanged(const struct watch *watch)
{
    const struct product *product = watch->product;

    return product->process && product->assembly && product->events.reloads == watch->reloads &&
           !product->reload_next && !reload_is_under_way(&product->reload);
}

void watch_life(struct watch *watch)
{
    watch->conf = watch->product->shards[0]->conf;
    watch->reloads = watch->product->events.reloads;
    watch->keeps_conf = watch->life != watch->product->lives;
    watch->life = watch->product->lives;
}

static uint32_t count_from(const struct watch *watch, const struct conf_vmta *vmta)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < vmta->address_count; i++)
        count += sim_connection_count_from(watch->world, &vmta->addresses[i].ip);
    return count;
}

static void judge_count(struct watch *watch, uint64_t count, uint64_t max, uint64_t *reached)
{
    *reached += count == max;
    if (count > max && !watch->is_over_said)
        ledger_violation(watch->ledger, 0, "more connections than the limit");
    watch->is_over_said |= count > max;
}

void watch_connections(struct watch *watch)
{
    uint32_t all = 0;

    if (!watch->keeps_conf || !is_unchanged(watch)) {
        watch->keeps_conf = false;
        return;
    }
    for (uint32_t i = 0; i < conf_vmta_count(watch->conf); i++) {
        const struct conf_vmta *vmta = conf_vmta_at(watch->conf, i);

        judge_count(watch, count_from(watch, vmta), vmta->max_smtp_out, &watch->reached_by_vmta);
    }
    for (uint8_t i = 1; i <= WATCH_SOURCES; i++)
        all += sim_connection_count_from(watch->world, &(struct ipaddr){IPADDR_V4, {10, 9, 0, i}});
    judge_count(watch, all, conf_global(watch->conf)->total_max_smtp_out, &watch->reached_by_all);
}

/* ---- The turn -------------------------------------------------------------------------------- */

/* Nothing but a connection is missing, and the receiver is up. */
static bool waits(const struct shard *shard, const struct queue *queue, uint64_t now_ns)
{
    return queue->connection_count == 0 && queue->sending_count == 0 &&
           queues_can_send(shard, queue) && !queue->site->is_failing &&
           (queue->reason == WAIT_CONNECTION || queue->reason == WAIT_LIMIT) &&
           !(queue->lane && !list_empty(&queue->lane_link) &&
             queue->lane->refused_until_ns > now_ns);
}

/* What stands in line at one moment. */
struct lines {
    const struct conf *conf;
    uint32_t lanes[VMTA_IDS_MAX]; /* with queues in line, by virtual MTA */
    uint64_t longest;             /* turns at the meter where most come before the end of one */
};

static uint64_t slots_of(const struct lines *lines, uint32_t vmta_id)
{
    const struct conf_vmta *vmta = conf_vmta(lines->conf, vmta_id);

    return vmta ? vmta->max_smtp_out : CONF_UNLIMITED;
}

/* What claims of a kind may have of so many slots, whoever else wants some. */
static uint64_t slots_for(uint64_t slots, enum quota_kind kind)
{
    const struct quota unknown = {0};

    return slots < UINT32_MAX ? quota_slots(&unknown, (uint32_t)slots, kind) : slots;
}

static uint32_t queues_in_line(const struct lane *lane)
{
    uint32_t count = 0;

    list_for_each (link, &lane->waiting)
        count++;
    return count;
}

/* A claim collects a slot of each meter, and those before it in each line have lines of their own
 * to stand in: as many turns as in the longest of them, for each. */
static uint64_t turns_of_meters(const struct lines *lines, const struct queue *queue)
{
    uint64_t turns = 1;

    for (uint8_t i = 1; i < queue->lane->claim.draws->count && turns < TURNS_MAX; i++)
        turns *= lines->longest;
    return turns;
}

/* The number of turns that may come before the end of the queue's own. */
static uint32_t turns_before(const struct lines *lines, const struct queue *queue)
{
    bool is_in_line = !list_empty(&queue->lane_link);
    enum quota_kind kind = is_in_line ? queue->lane->claim.kind : QUOTA_NEW;
    uint64_t claims = 0, first, second;

    for (uint32_t i = 0; i < VMTA_IDS_MAX; i++)
        if (lines->lanes[i] > 0)
            claims += lines->lanes[i] < slots_of(lines, i) ? lines->lanes[i] : slots_of(lines, i);
    first = lines->lanes[queue->vmta_id] / slots_for(slots_of(lines, queue->vmta_id), kind) + 1;
    second = claims / slots_for(conf_global(lines->conf)->total_max_smtp_out, kind) + 2;
    if (is_in_line && first < turns_of_meters(lines, queue))
        first = turns_of_meters(lines, queue);
    /* Who is in a hurry goes ahead every other time, in either line. */
    first *= second * (is_in_line ? queues_in_line(queue->lane) : 1);
    return (uint32_t)(first < TURNS_MAX ? first : TURNS_MAX);
}

static void complain(struct watch *watch, const struct shard *shard, const struct queue *queue,
                     const struct watch_wait *wait)
{
    char name[REPORT_NAME_MAX];

    if (!watch->is_said && !watch->ledger->is_quiet) {
        queues_name(shard, queue, name, sizeof(name));
        fprintf(stderr, "%s waits since %llu s, %u turns, receivers owe %llu ms: %s\n", name,
                (unsigned long long)((sim_now_ns(watch->world) - wait->since_ns) / 1000000000),
                wait->turns, (unsigned long long)remote_owed_ns(watch->remote) / 1000000,
                wait_reason_text(queue->reason));
    }
    if (!watch->is_said)
        ledger_violation(watch->ledger, 0, "a queue starves");
    watch->is_said = true;
}

static void judge(struct watch *watch, const struct shard *shard, const struct queue *queue,
                  const struct lines *lines, struct watch_wait *wait)
{
    uint64_t now_ns = sim_now_ns(watch->world), turn_ns, percent;
    uint32_t turns;

    if (!waits(shard, queue, now_ns)) {
        wait->since_ns = 0;
        return;
    }
    /* Who had its turn with a message that may not go waits anew. */
    if (wait->since_ns == 0 || wait->generation != shard->queues.generations[queue->index] ||
        wait->held_back_count != queue->held_back_count)
        *wait = (struct watch_wait){now_ns, shard->queues.generations[queue->index], 0,
                                    queue->held_back_count};
    turns = turns_before(lines, queue);
    if (wait->turns < turns)
        wait->turns = turns;
    turn_ns = LEASE_TURN_MS * 1000000ull + 3 * (WATCH_SPAN_NS + remote_owed_ns(watch->remote));
    percent = (now_ns - wait->since_ns) * 100 / (wait->turns * turn_ns + WATCH_SLACK_NS);
    if (percent > watch->worst_percent)
        watch->worst_percent = (uint32_t)percent;
    if (percent > 100)
        complain(watch, shard, queue, wait);
}

void watch_begin(struct watch *watch)
{
    memset(watch->waits, 0, sizeof(watch->waits));
    watch->remote->owed_max_ns = 0;
}

static void count_lanes(const struct shard *shard, struct lines *lines)
{
    for (uint32_t i = 0; i < shard->lanes.count_grown; i++) {
        const struct lane *lane;
        uint32_t vmta_id;

        if (!slab_is_live(&shard->lanes, i))
            continue;
        lane = slab_at(&shard->lanes, i);
        if (list_empty(&lane->waiting))
            continue;
        vmta_id = container_of(lane->waiting.next, struct queue, lane_link)->vmta_id;
        must(vmta_id < VMTA_IDS_MAX);
        lines->lanes[vmta_id]++;
    }
}

/* Claims of all shards that draw on the meter and have queues in line. */
static uint32_t lanes_on(const struct product *product, const struct meter_key *key)
{
    uint32_t count = 0;

    for (uint16_t i = 0; i < product->setup.shard_count; i++) {
        const struct shard *shard = product->shards[i];
        const struct meter *meter = meters_find(shard, key);

        for (uint32_t j = 0; meter && meter->share && j < shard->lanes.count_grown; j++)
            if (slab_is_live(&shard->lanes, j)) {
                const struct lane *lane = slab_at(&shard->lanes, j);

                count += !list_empty(&lane->waiting) && lease_draws_on(&lane->claim, meter->share);
            }
    }
    return count;
}

static void find_longest(const struct product *product, struct lines *lines)
{
    lines->longest = 1;
    for (uint16_t i = 0; i < product->setup.shard_count; i++)
        list_for_each (link, &product->shards[i]->meters.all) {
            const struct meter_key *key = &meters_of_link(link)->key;
            uint64_t bound = meters_connections(lines->conf, key), turns;

            if (key->limit_id == LEASE_OF_ALL || key->limit_id == LEASE_OF_SESSIONS ||
                bound == CONF_UNLIMITED)
                continue;
            turns = lanes_on(product, key) / slots_for(bound, QUOTA_SLOW) + 1;
            if (turns > lines->longest)
                lines->longest = turns;
        }
}

static void judge_queues(struct watch *watch, const struct shard *shard, const struct lines *lines)
{
    for (uint32_t i = 0; i < shard->queues.count_grown && i < WATCH_QUEUES_MAX; i++) {
        struct watch_wait *wait = &watch->waits[shard->number][i];

        if (slab_is_live(&shard->queues, i))
            judge(watch, shard, slab_at(&shard->queues, i), lines, wait);
        else
            wait->since_ns = 0;
    }
}

void watch_turns(struct watch *watch)
{
    const struct product *product = watch->product;
    struct lines lines = {.conf = watch->conf};

    if (++watch->looks % LOOK_EVERY != 0 || !product->process)
        return;
    /* Another configuration: whoever waits begins anew, under it. */
    if (!is_unchanged(watch)) {
        watch_begin(watch);
        watch_life(watch);
        return;
    }
    for (uint16_t i = 0; i < product->setup.shard_count; i++)
        count_lanes(product->shards[i], &lines);
    find_longest(product, &lines);
    for (uint16_t i = 0; i < product->setup.shard_count; i++)
        judge_queues(watch, product->shards[i], &lines);
}
