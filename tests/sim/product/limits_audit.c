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

static bool is_same(const struct tally *a, const struct tally *b, uint32_t scopes)
{
    return (!(scopes & CONF_SCOPE_VMTA) || a->vmta_id == b->vmta_id) &&
           (!(scopes & CONF_SCOPE_POOL) || a->pool_id == b->pool_id) &&
           (!(scopes & CONF_SCOPE_SOURCE_IP) || ipaddr_equal(&a->source, &b->source)) &&
           (!(scopes & CONF_SCOPE_PROVIDER) || a->provider == b->provider) &&
           (!(scopes & CONF_SCOPE_DOMAIN) || slice_equal(a->domain, b->domain));
}

/* The most that any combination of the block's scopes has. */
static uint32_t most_of(struct shard *const *shards, uint16_t count, const struct conf_limit *limit,
                        uint64_t since_ns)
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

            if (!queue || connection->opened_ns <= since_ns)
                continue;
            tally = (struct tally){.vmta_id = queue->vmta_id,
                                   .source = connection->lane->source,
                                   .provider = connection->lane->provider,
                                   .domain = names_text(&shard->names, queue->name)};
            if (!conf_limit_fits(limit, tally.domain, queue->vmta_id))
                continue;
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

const char *limits_look(struct limits_audit *audit, struct shard *const *shards, uint16_t count,
                        uint64_t now_ns)
{
    const struct conf *conf = shards[0]->conf;
    bool is_at_bound = false, is_settled = audit->conf == conf;

    for (uint16_t i = 0; i < count; i++)
        is_settled &= shards[i]->conf == conf && !shards[i]->conf_before;
    if (!is_settled) {
        audit->conf = conf;
        audit->since_ns = now_ns;
        return NULL;
    }
    for (uint32_t i = 0; i < conf_limit_block_count(conf); i++) {
        const struct conf_limit *limit = conf_limit_block_at(conf, i);
        uint32_t most = most_of(shards, count, limit, audit->since_ns);

        if (most > limit->max_smtp_out)
            return "more connections than a <limit> allows";
        is_at_bound |= most == limit->max_smtp_out;
    }
    audit->at_bound += is_at_bound;
    return NULL;
}
