#include "tests/sim/product/pace.h"

#include "shard/shard_int.h"

#include <stdio.h>

/* ---- Virtual MTAs ---------------------------------------------------------------------------- */

/* The shards' common distance between tokens, 0 when there is no bound, or they differ for now. */
static uint64_t common_limit_ns(struct shard *const *shards, uint16_t count, uint32_t id,
                                enum purse_quantity quantity)
{
    uint64_t limit_ns = 0;

    for (uint16_t i = 0; i < count; i++) {
        const struct rates *rates = &shards[i]->rates;
        const struct purse *purse = id < rates->vmta_count ? rates->purses[quantity][id] : NULL;

        if (!purse || (i > 0 && purse->limit_ns != limit_ns))
            return 0;
        limit_ns = purse->limit_ns;
    }
    return limit_ns;
}

static uint64_t total_of(const struct shard *shard, uint32_t id, enum purse_quantity quantity)
{
    const struct rates *rates = &shard->rates;

    return id < rates->vmta_count && rates->purses[quantity][id]
               ? rates->purses[quantity][id]->taken
               : 0;
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

/* Octets came back: of what was used last, since no more is known of them here. */
static void volume_return(struct pace_volume *volume, uint64_t octets)
{
    for (uint32_t i = volume->count; i > 0 && octets > 0; i--) {
        uint64_t *used = &volume->uses[(volume->first + i - 1) % PACE_USES_MAX].octets;
        uint64_t taken = octets < *used ? octets : *used;

        *used -= taken;
        volume->sum -= taken;
        octets -= taken;
    }
}

/* So many octets more. False when there are too many in the span that ends now. */
static bool volume_note(struct pace_volume *volume, const struct conf_rate *rate, uint64_t octets,
                        uint64_t now_ns)
{
    uint64_t before;

    while (volume->count > 0 &&
           (volume->count == PACE_USES_MAX ||
            now_ns - volume->uses[volume->first].at_ns >= rate->interval_ms * 1000000)) {
        volume->sum -= volume->uses[volume->first].octets;
        volume->first = (volume->first + 1) % PACE_USES_MAX;
        volume->count--;
    }
    before = volume->sum;
    volume->uses[(volume->first + volume->count) % PACE_USES_MAX].at_ns = now_ns;
    volume->uses[(volume->first + volume->count++) % PACE_USES_MAX].octets = octets;
    volume->sum += octets;
    /* A message that is larger than all that is allowed goes alone. */
    return volume->sum <= rate->count || before == 0;
}

/* Under another rate everything begins anew. False when there is none. */
static bool volume_follow(struct pace_volume *volume, uint64_t limit_ns)
{
    if (limit_ns != volume->limit_ns) {
        volume->count = 0;
        volume->sum = 0;
    }
    volume->limit_ns = limit_ns;
    return limit_ns != 0;
}

static const char *look_vmta_volume(struct pace_vmta *seen, const struct conf_vmta *vmta,
                                    struct shard *const *shards, uint16_t count, uint32_t id)
{
    bool is_bound =
        volume_follow(&seen->volume, common_limit_ns(shards, count, id, PURSE_OCTETS)) && vmta;
    const char *text = NULL;

    for (uint16_t i = 0; i < count; i++) {
        uint64_t before = seen->octets[i], now = total_of(shards[i], id, PURSE_OCTETS);

        seen->octets[i] = now;
        if (is_bound && now < before)
            volume_return(&seen->volume, before - now);
        if (is_bound && now > before &&
            !volume_note(&seen->volume, &vmta->max_smtp_data_volume_rate, now - before,
                         io_now_ns(shards[i]->io)))
            text = "a virtual MTA's rate of data volume was exceeded";
    }
    return text;
}

/* What shards have let through since the last look. */
static const char *look_vmta(struct pace_vmta *seen, const struct conf_rate *rate,
                             struct shard *const *shards, uint16_t count, uint32_t id)
{
    const char *text = NULL;

    for (uint16_t i = 0; i < count; i++) {
        uint64_t total = total_of(shards[i], id, PURSE_RCPTS);

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

static bool look_volume(struct pace_queue *seen, const struct queue *queue, uint64_t before,
                        uint64_t now_ns)
{
    const struct conf_rate *rate = &queue->settings.max_data_volume_rate;

    if (!volume_follow(&seen->volume,
                       queue->volume ? rate_step_ns(rate->count, rate->interval_ms) : 0))
        return true;
    if (queue->tried_octets < before)
        volume_return(&seen->volume, before - queue->tried_octets);
    return queue->tried_octets <= before ||
           volume_note(&seen->volume, rate, queue->tried_octets - before, now_ns);
}

/* Recipients of the shard's queues that were let through in its last turn. */
static const char *look_messages(struct pace *pace, const struct shard *shard)
{
    struct pace_shard *before = &pace->shards[shard->number];
    const char *text = NULL;

    if (before->taken == shard->rates.taken && before->returned == shard->rates.returned)
        return NULL;
    before->taken = shard->rates.taken;
    before->returned = shard->rates.returned;
    for (uint32_t i = 0; i < shard->queues.count_grown && i < PACE_QUEUES_MAX; i++) {
        const struct queue *queue;
        struct pace_queue *seen;
        uint64_t tried, octets;

        if (!slab_is_live(&shard->queues, i))
            continue;
        queue = slab_at(&shard->queues, i);
        tried = before->queues[i].generation == shard->queues.generations[i]
                    ? before->queues[i].tried
                    : 0;
        octets = before->queues[i].generation == shard->queues.generations[i]
                     ? before->queues[i].octets
                     : 0;
        before->queues[i].generation = shard->queues.generations[i];
        before->queues[i].tried = queue->tried_count;
        before->queues[i].octets = queue->tried_octets;
        seen = seen_of(pace, shard, queue);
        if (seen && !look_volume(seen, queue, octets, io_now_ns(shard->io)))
            text = "a queue's rate of data volume was exceeded";
        if (!seen || tried == queue->tried_count ||
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
    for (uint32_t id = 0; id < PACE_VMTAS_MAX; id++) {
        memset(pace->vmtas[id].totals, 0, sizeof(pace->vmtas[id].totals));
        memset(pace->vmtas[id].octets, 0, sizeof(pace->vmtas[id].octets));
        /* A new life knows nothing of the octets of the one before but a debt. */
        pace->vmtas[id].volume.limit_ns = 0;
        for (uint32_t domain = 0; domain < PACE_DOMAINS_MAX; domain++)
            pace->queues[domain][id].volume.limit_ns = 0;
    }
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
        uint64_t limit_ns = common_limit_ns(shards, count, id, PURSE_RCPTS);
        struct pace_vmta *seen = &pace->vmtas[id];
        bool is_bound = row_follow(&seen->row, rate, limit_ns);

        text = look_vmta(seen, is_bound ? rate : NULL, shards, count, id);
        if (!text)
            text = look_vmta_volume(seen, vmta, shards, count, id);
    }
    for (uint16_t i = 0; i < count && !text; i++)
        text = look_messages(pace, shards[i]);
    for (uint16_t i = 0; i < count && !text; i++)
        text = look_connects(pace, shards[i]);
    return text;
}
