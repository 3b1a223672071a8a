#include "tests/sim/product/pace.h"

#include "shard/shard_int.h"

#include <stdio.h>

/* ---- What shards share ----------------------------------------------------------------------- */

/* The shards' common distance between tokens, 0 when there is no bound, or they differ for now.
 * Who has no purse has let nothing through. */
static uint64_t common_limit_ns(struct shard *const *shards, uint16_t count,
                                const struct pace_meter *seen)
{
    uint64_t limit_ns = 0;

    for (uint16_t i = 0; i < count; i++) {
        const struct purse *purse = purse_find(shards[i], &seen->key, seen->quantity);

        if (!purse)
            continue;
        if (purse->limit_ns == 0 || (limit_ns != 0 && purse->limit_ns != limit_ns))
            return 0;
        limit_ns = purse->limit_ns;
    }
    return limit_ns;
}

static uint64_t total_of(const struct shard *shard, const struct pace_meter *seen)
{
    const struct purse *purse = purse_find(shard, &seen->key, seen->quantity);

    return purse ? purse->taken : 0;
}

static const struct conf_rate *rate_of(const struct conf *conf, const struct pace_meter *seen)
{
    const struct conf_vmta *vmta = conf_vmta(conf, (uint32_t)seen->key.values);
    const struct conf_limit *limit;

    if (seen->key.limit_id == SCOPE_OF_VMTA)
        return !vmta                            ? NULL
               : seen->quantity == PURSE_OCTETS ? &vmta->max_smtp_data_volume_rate
                                                : &vmta->max_smtp_msg_rate;
    limit = conf_limit(conf, seen->key.limit_id);
    if (!limit)
        return NULL;
    return seen->quantity == PURSE_OCTETS     ? &limit->max_data_volume_rate
           : seen->quantity == PURSE_CONNECTS ? &limit->max_connect_rate
                                              : &limit->max_msg_rate;
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

/* Shards that have taken the newest snapshot go by its bound; else nothing is said for now. */
static uint64_t rate_if_common(const struct conf_rate *rate, uint64_t limit_ns)
{
    return rate && rate->count != CONF_UNLIMITED &&
                   rate_step_ns(rate->count, rate->interval_ms) == limit_ns
               ? limit_ns
               : 0;
}

/* What shards have let through since the last look. */
static const char *look_meter(struct pace_meter *seen, struct shard *const *shards, uint16_t count)
{
    const struct conf_rate *rate = rate_of(shards[0]->conf, seen);
    uint64_t limit_ns = rate_if_common(rate, common_limit_ns(shards, count, seen));
    bool is_volume = seen->quantity == PURSE_OCTETS;
    bool is_bound =
        is_volume ? volume_follow(&seen->volume, limit_ns) : row_follow(&seen->row, rate, limit_ns);
    const char *text = NULL;

    for (uint16_t i = 0; i < count; i++) {
        uint64_t before = seen->totals[i], total = total_of(shards[i], seen);
        uint64_t now_ns = io_now_ns(shards[i]->io);

        seen->totals[i] = total;
        if (!is_bound)
            continue;
        if (is_volume && total < before)
            volume_return(&seen->volume, before - total);
        if (is_volume && total > before &&
            !volume_note(&seen->volume, rate, total - before, now_ns))
            text = "a shared rate of data volume was exceeded";
        for (; !is_volume && before < total; before++)
            if (!note(&seen->row, rate, now_ns))
                text = seen->key.limit_id == SCOPE_OF_VMTA ? "a virtual MTA's rate was exceeded"
                                                           : "the rate of a limit was exceeded";
    }
    return text;
}

static void find_meters(struct pace *pace, const struct shard *shard)
{
    const struct slab *purses = &shard->purses.purses;

    for (uint32_t i = 0; i < purses->count_grown; i++) {
        const struct purse *purse = slab_is_live(purses, i) ? slab_at(purses, i) : NULL;
        uint32_t at = 0;

        while (purse && at < pace->meter_count &&
               (pace->meters[at].quantity != purse->quantity ||
                !scope_key_equal(&pace->meters[at].key, &purse->key)))
            at++;
        if (!purse || at < pace->meter_count || pace->meter_count == PACE_METERS_MAX)
            continue;
        pace->meters[pace->meter_count].key = purse->key;
        pace->meters[pace->meter_count++].quantity = purse->quantity;
    }
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

    if (seen->volume.version != queue->shard->version)
        volume_follow(&seen->volume, 0);
    seen->volume.version = queue->shard->version;

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
    for (uint32_t i = 0; i < pace->meter_count; i++) {
        memset(pace->meters[i].totals, 0, sizeof(pace->meters[i].totals));
        /* A new life knows nothing of the octets of the one before but a debt. */
        pace->meters[i].volume.limit_ns = 0;
    }
    for (uint32_t domain = 0; domain < PACE_DOMAINS_MAX; domain++)
        for (uint32_t id = 0; id < PACE_VMTAS_MAX; id++)
            pace->queues[domain][id].volume.limit_ns = 0;
    memset(pace->shards, 0, sizeof(pace->shards));
    pace->life = life;
}

const char *pace_look(struct pace *pace, uint64_t life, struct shard *const *shards, uint16_t count)
{
    const char *text = NULL;
    uint64_t take_count = 0;

    begin_life(pace, life);
    for (uint16_t i = 0; i < count; i++)
        take_count += shards[i]->purses.take_count;
    for (uint16_t i = 0; i < count && take_count != pace->take_count; i++)
        find_meters(pace, shards[i]);
    for (uint32_t i = 0; i < pace->meter_count && !text && take_count != pace->take_count; i++)
        text = look_meter(&pace->meters[i], shards, count);
    pace->take_count = take_count;
    for (uint16_t i = 0; i < count && !text; i++)
        text = look_messages(pace, shards[i]);
    for (uint16_t i = 0; i < count && !text; i++)
        text = look_connects(pace, shards[i]);
    return text;
}
