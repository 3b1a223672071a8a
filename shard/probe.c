#include "shard/probe.h"

uint64_t probe_due_ns(const struct shard *shard, const struct queue *queue)
{
    uint64_t first_ns = io_now_ns(shard->io) + queue->settings.retry_ms[0] * 1000000;

    return queue->rest_until_ns < first_ns ? queue->rest_until_ns : first_ns;
}

/* When the first of the queue's sources may try; 0 when one may now, or there is none at all. */
static uint64_t held_until_ns(const struct shard *shard, const struct queue *queue)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);
    const struct site *site = queue->site;
    uint64_t now_ns = io_now_ns(shard->io), first_ns = 0;

    if (site->outage.latest_ns <= now_ns)
        return 0;
    for (uint32_t i = 0; vmta && i < vmta->address_count; i++) {
        const struct ipaddr *source = &vmta->addresses[i].ip;
        uint64_t until_ns = outage_until_ns(&site->outage, source);

        if (!site->has_family[source->family == IPADDR_V6])
            continue;
        if (until_ns <= now_ns)
            return 0;
        if (first_ns == 0 || until_ns < first_ns)
            first_ns = until_ns;
    }
    return first_ns;
}

bool probe_holds(struct shard *shard, struct queue *queue)
{
    const uint8_t enhanced[3] = {4, 4, 1};
    uint64_t until_ns = held_until_ns(shard, queue), spread_ms = queue->settings.retry_ms[0] / 10;
    struct verdict verdict;

    if (until_ns == 0)
        return false;
    verdict_set_local(&verdict, VERDICT_HOST, VERDICT_TRANSIENT, VERDICT_AT_CONNECT, 451, enhanced,
                      "no address of the destination answers, as another queue has found");
    queues_rest_for(shard, queue, &verdict,
                    (until_ns - io_now_ns(shard->io)) / 1000000 + 1 +
                        rng_between(io_rng(shard->io), 0, spread_ms));
    return true;
}

void probe_carry_over(struct site *site, struct site_target *target)
{
    for (uint32_t i = 0; i < site->target_count; i++)
        if (ipaddr_equal(&site->targets[i].at.ip, &target->at.ip) &&
            site->targets[i].at.port == target->at.port) {
            target->dead_until_ns = site->targets[i].dead_until_ns;
            return;
        }
    site->outage = (struct outage){0};
}

void probe_forget(struct queue *queue)
{
    if (queue->site)
        queue->site->outage = (struct outage){0};
}
