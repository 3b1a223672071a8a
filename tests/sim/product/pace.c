#include "tests/sim/product/pace.h"

#include "shard/shard_int.h"

#include <stdio.h>

/* ---- Virtual MTAs ---------------------------------------------------------------------------- */

/* The shards' common distance between tokens, 0 when there is no bound, or they differ for now. */
static uint64_t common_limit_ns(struct shard *const *shards, uint16_t count, uint32_t id)
{
    uint64_t limit_ns = 0;

    for (uint16_t i = 0; i < count; i++) {
        const struct rates *rates = &shards[i]->rates;
        const struct purse *purse = id < rates->vmta_count ? rates->purses[id] : NULL;

        if (!purse || (i > 0 && purse->limit_ns != limit_ns))
            return 0;
        limit_ns = purse->limit_ns;
    }
    return limit_ns;
}

static uint64_t total_of(const struct shard *shard, uint32_t id)
{
    const struct rates *rates = &shard->rates;

    return id < rates->vmta_count && rates->purses[id] ? rates->purses[id]->taken : 0;
}

/* One use more. False when it comes too early. */
static bool note(struct pace_row *row, const struct conf_rate *rate, uint64_t now_ns)
{
    uint64_t *before_ns = &row->times_ns[row->count % rate->count];
    bool is_early = row->count >= rate->count && now_ns - *before_ns < rate->interval_ms * 1000000;

    row->count++;
    *before_ns = now_ns;
    return !is_early;
}

/* Under another rate everything begins anew. False when there is none. */
static bool row_follow(struct pace_row *row, const struct conf_rate *rate, uint64_t limit_ns)
{
    if (limit_ns != row->limit_ns)
        row->count = 0;
    row->limit_ns = limit_ns;
    must(limit_ns == 0 || (rate && rate->count <= PACE_COUNT_MAX));
    return limit_ns != 0;
}

/* What shards have let through since the last look. */
static const char *look_vmta(struct pace_vmta *seen, const struct conf_rate *rate,
                             struct shard *const *shards, uint16_t count, uint32_t id)
{
    const char *text = NULL;

    for (uint16_t i = 0; i < count; i++) {
        uint64_t total = total_of(shards[i], id);

        for (; seen->totals[i] < total; seen->totals[i]++)
            if (rate && !note(&seen->row, rate, io_now_ns(shards[i]->io)))
                text = "a virtual MTA's rate was exceeded";
    }
    return text;
}

/* ---- Queues ---------------------------------------------------------------------------------- */

/* NULL: it is not watched. */
static struct pace_queue *seen_of(struct pace *pace, const struct shard *shard,
                                  const struct queue *queue)
{
    struct slice domain = names_text(&shard->names, queue->name);
    unsigned number = PACE_DOMAINS_MAX;
    char room[32];

    snprintf(room, sizeof(room), "%.*s", (int)domain.len, (const char *)domain.data);
    if (sscanf(room, "d%u.test", &number) != 1 || number >= PACE_DOMAINS_MAX ||
        queue->vmta_id >= PACE_VMTAS_MAX)
        return NULL;
    return &pace->queues[number][queue->vmta_id];
}

/* Recipients of the shard's queues that were let through in its last turn. */
static const char *look_messages(struct pace *pace, const struct shard *shard)
{
    struct pace_shard *before = &pace->shards[shard->number];
    const char *text = NULL;

    if (before->taken == shard->rates.taken)
        return NULL;
    before->taken = shard->rates.taken;
    for (uint32_t i = 0; i < shard->queues.count_grown && i < PACE_QUEUES_MAX; i++) {
        const struct queue *queue;
        struct pace_queue *seen;
        uint64_t tried;

        if (!slab_is_live(&shard->queues, i))
            continue;
        queue = slab_at(&shard->queues, i);
        tried = before->queues[i].generation == shard->queues.generations[i]
                    ? before->queues[i].tried
                    : 0;
        before->queues[i].generation = shard->queues.generations[i];
        before->queues[i].tried = queue->tried_count;
        seen = tried < queue->tried_count ? seen_of(pace, shard, queue) : NULL;
        if (!seen ||
            !row_follow(&seen->messages, &queue->settings.max_msg_rate, queue->msg_rate.step_ns))
            continue;
        for (; tried < queue->tried_count; tried++)
            if (!note(&seen->messages, &queue->settings.max_msg_rate, io_now_ns(shard->io)))
                text = "a queue's rate of messages was exceeded";
    }
    return text;
}

/* Connections that the shard opened in its last turn. */
static const char *look_connects(struct pace *pace, const struct shard *shard)
{
    struct pace_shard *before = &pace->shards[shard->number];
    const char *text = NULL;

    if (before->connects == shard->totals.connects)
        return NULL;
    before->connects = shard->totals.connects;
    for (uint32_t i = 0; i < shard->connections.count_grown; i++) {
        const struct connection *connection;
        const struct queue *queue;
        struct pace_queue *seen;

        if (!slab_is_live(&shard->connections, i))
            continue;
        connection = slab_at(&shard->connections, i);
        queue = connection->queue;
        if (!queue || connection->opened_ns != io_now_ns(shard->io))
            continue;
        seen = seen_of(pace, shard, queue);
        if (seen &&
            row_follow(&seen->connects, &queue->settings.max_connect_rate,
                       queue->connect_rate.step_ns) &&
            !note(&seen->connects, &queue->settings.max_connect_rate, io_now_ns(shard->io)))
            text = "a queue's rate of connections was exceeded";
    }
    return text;
}

/* ---- All ------------------------------------------------------------------------------------- */

static void begin_life(struct pace *pace, uint64_t life)
{
    if (pace->life == life)
        return;
    for (uint32_t id = 0; id < PACE_VMTAS_MAX; id++)
        memset(pace->vmtas[id].totals, 0, sizeof(pace->vmtas[id].totals));
    memset(pace->shards, 0, sizeof(pace->shards));
    pace->life = life;
}

const char *pace_look(struct pace *pace, uint64_t life, struct shard *const *shards, uint16_t count)
{
    const char *text = NULL;

    begin_life(pace, life);
    for (uint32_t id = 0; id < PACE_VMTAS_MAX && !text; id++) {
        const struct conf_vmta *vmta = conf_vmta(shards[0]->conf, id);
        const struct conf_rate *rate = vmta ? &vmta->max_smtp_msg_rate : NULL;
        uint64_t limit_ns = common_limit_ns(shards, count, id);
        struct pace_vmta *seen = &pace->vmtas[id];
        bool is_bound = row_follow(&seen->row, rate, limit_ns);

        text = look_vmta(seen, is_bound ? rate : NULL, shards, count, id);
    }
    for (uint16_t i = 0; i < count && !text; i++)
        text = look_messages(pace, shards[i]);
    for (uint16_t i = 0; i < count && !text; i++)
        text = look_connects(pace, shards[i]);
    return text;
}
