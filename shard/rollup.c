#include "shard/rollup.h"

#include "core/conf/rollup.h"
#include "shard/shard_int.h"

/* The queue that all hosts of the best preference roll up to, or NULL. */
static const char *queue_of(const struct shard *shard, const struct mx_answer *answer)
{
    const char *common = NULL;

    for (uint32_t i = 0; i < answer->target_count; i++) {
        const struct mx_target *target = &answer->targets[i];
        const char *name;

        if (target->preference != answer->targets[0].preference)
            break;
        name = conf_rollup_of_host(shard->conf, slice_str(answer->host_names[target->host]));
        if (name == NULL || (i > 0 && name != common))
            return NULL;
        common = name;
    }
    return common;
}

bool rollup_take(struct shard *shard, struct queue *queue, const struct mx_answer *answer)
{
    uint64_t least_ns = io_now_ns(shard->io) + ROLLUP_KEPT_MS * 1000000ull;
    const char *name;

    /* Mail of a domain with a policy of its own goes by the domain's own terms. */
    if (!conf_has_rollups(shard->conf) || queue->settings.route_count > 0 ||
        queue->settings.disable_mx_rollup || answer->sts != STS_NONE)
        return false;
    name = queue_of(shard, answer);
    if (name == NULL || slice_equal(slice_str(name), names_text(&shard->names, queue->name)))
        return false;
    queue->rolled_up = name;
    queue->rolled_until_ns = answer->valid_until_ns > least_ns ? answer->valid_until_ns : least_ns;
    migrate_hand_on(shard, queue, true);
    queues_reconsider(shard, queue);
    return true;
}

void rollup_end(struct shard *shard, struct queue *queue)
{
    if (queue->rolled_up == NULL)
        return;
    queue->rolled_up = NULL;
    queue->site_until_ns = 0;
    migrate_hand_on(shard, queue, queues_hand_on(shard, queue));
}

bool rollup_is_over(const struct shard *shard, const struct queue *queue)
{
    return queue->rolled_up != NULL && queue->rolled_until_ns <= io_now_ns(shard->io);
}
