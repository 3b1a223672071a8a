#include "tests/sim/product/limits_audit.h"

#include "core/conf/limit.h"
#include "shard/shard_int.h"

#define COUNT_MAX 256

/* Connections that a block counts as one, by what they are at. */
struct tally {
    uint32_t vmta_id;
    uint32_t pool_id;
    struct ipaddr source;
    uint64_t provider;
    struct slice domain;
    uint32_t count;
};

enum limit_kind {
    BY_BLOCK,
    BY_HOST,
    BY_SOURCE,
};

static bool is_same(const struct tally *a, const struct tally *b, uint32_t scopes)
{
    return (!(scopes & CONF_SCOPE_VMTA) || a->vmta_id == b->vmta_id) &&
           (!(scopes & CONF_SCOPE_POOL) || a->pool_id == b->pool_id) &&
           (!(scopes & CONF_SCOPE_SOURCE_IP) || ipaddr_equal(&a->source, &b->source)) &&
           (!(scopes & CONF_SCOPE_PROVIDER) || a->provider == b->provider) &&
           (!(scopes & CONF_SCOPE_DOMAIN) || slice_equal(a->domain, b->domain));
}

/* Whether the limit counts the connection, by what its own kind looks at. */
static bool counts(const struct shard *shard, const struct conf_limit *limit, enum limit_kind kind,
                   const struct connection *connection)
{
    const struct queue *queue = connection->queue;

    switch (kind) {
    case BY_BLOCK:
        return conf_limit_fits(limit, names_text(&shard->names, queue->name), queue->vmta_id);
    case BY_HOST:
        return connection->host != NAME_NONE &&
               conf_limit_fits_host(limit, names_text(&shard->names, connection->host),
                                    &connection->target_at.ip);
    case BY_SOURCE:
        return conf_limit_of_source(&queue->settings, CONF_OF_CONNECTIONS,
                                    &connection->lane->source) == limit;
    }
    return false;
}

/* The most that any combination of the block's scopes has. */
static uint32_t most_of(struct shard *const *shards, uint16_t count, const struct conf_limit *limit,
                        enum limit_kind kind, uint64_t since_ns)
{
    static struct tally tallies[COUNT_MAX];
    uint32_t tally_count = 0, most = 0;

    for (uint16_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < shards[i]->connections.count_grown; j++) {
            const struct shard *shard = shards[i];
            const struct connection *connection =
                slab_is_live(&shard->connections, j) ? slab_at(&shard->connections, j) : NULL;
            const struct queue *queue = connection ? connection->queue : NULL;
            struct tally tally;
            uint32_t at = 0;

            if (!queue || connection->opened_ns <= since_ns ||
                !counts(shard, limit, kind, connection))
                continue;
            tally = (struct tally){.vmta_id = queue->vmta_id,
                                   .source = connection->lane->source,
                                   .provider = connection->lane->provider,
                                   .domain = names_text(&shard->names, queue->name)};
            tally.pool_id = conf_vmta(shard->conf, queue->vmta_id)
                                ? conf_vmta(shard->conf, queue->vmta_id)->pool_id
                                : CONF_NONE;
            while (at < tally_count && !is_same(&tallies[at], &tally, limit->scopes))
                at++;
            if (at == COUNT_MAX)
                continue;
            if (at == tally_count)
                tallies[tally_count++] = tally;
            if (++tallies[at].count > most)
                most = tallies[at].count;
        }
    return most;
}

/* A bound that was lowered is met as slots come back: what a claim had collected before, while it
 * stood in line for another limit, becomes a connection yet. */
static bool is_in_debt(struct shard *const *shards, uint16_t count, const struct conf_limit *limit)
{
    for (uint16_t i = 0; i < count; i++)
        list_for_each (link, &shards[i]->meters.all) {
            const struct meter *meter = meters_of_link(link);

            if (meter->key.limit_id != limit->id)
                continue;
            if ((meter->owned && meter->owned->pot.free < 0) ||
                (count == 1 && meter->share && meter->share->recalled > 0))
                return true;
        }
    return false;
}

static const char *look_at(struct limits_audit *audit, struct shard *const *shards, uint16_t count,
                           const struct conf_limit *limit, enum limit_kind kind)
{
    uint32_t most = most_of(shards, count, limit, kind, audit->since_ns);

    audit->at_bound += most == limit->max_smtp_out;
    if (most <= limit->max_smtp_out || is_in_debt(shards, count, limit))
        return NULL;
    return "more connections than a limit that composes allows";
}

/* The lines of one keyword in the seeds stand in one block, which every queue has. */
static const char *look_at_sources(struct limits_audit *audit, struct shard *const *shards,
                                   uint16_t count)
{
    struct conf_queue settings;
    const char *text = NULL;

    conf_queue(shards[0]->conf, slice_str("d0.test"), CONF_VMTA_DEFAULT, &settings);
    for (uint32_t i = 0; i < settings.source_limits[CONF_OF_CONNECTIONS].count && !text; i++)
        text = look_at(audit, shards, count, settings.source_limits[CONF_OF_CONNECTIONS].items[i],
                       BY_SOURCE);
    return text;
}

const char *limits_look(struct limits_audit *audit, struct shard *const *shards, uint16_t count,
                        uint64_t now_ns)
{
    const struct conf *conf = shards[0]->conf;
    bool is_settled = audit->conf == conf;
    const char *text = NULL;

    for (uint16_t i = 0; i < count; i++)
        is_settled &= shards[i]->conf == conf && !shards[i]->conf_before;
    if (!is_settled) {
        audit->conf = conf;
        audit->since_ns = now_ns;
        return NULL;
    }
    for (uint32_t i = 0; i < conf_limit_block_count(conf) && !text; i++)
        text = look_at(audit, shards, count, conf_limit_block_at(conf, i), BY_BLOCK);
    for (uint32_t i = 0; i < conf_limit_host_count(conf) && !text; i++)
        text = look_at(audit, shards, count, conf_limit_host_at(conf, i), BY_HOST);
    return text ? text : look_at_sources(audit, shards, count);
}
