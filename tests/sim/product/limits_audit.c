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
    struct slice job;
    struct slice sender_domain;
    struct slice user;
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
           (!(scopes & CONF_SCOPE_DOMAIN) || slice_equal(a->domain, b->domain)) &&
           (!(scopes & CONF_SCOPE_JOB) || slice_equal_nocase(a->job, b->job)) &&
           (!(scopes & CONF_SCOPE_SENDER_DOMAIN) ||
            slice_equal_nocase(a->sender_domain, b->sender_domain)) &&
           (!(scopes & CONF_SCOPE_USER) || slice_equal_nocase(a->user, b->user));
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

struct counting {
    struct tally tallies[COUNT_MAX];
    uint32_t tally_count;
    uint32_t most; /* that any combination of the block's scopes has */
};

static void count_one(struct counting *counting, const struct tally *tally, uint32_t scopes)
{
    uint32_t at = 0;

    while (at < counting->tally_count && !is_same(&counting->tallies[at], tally, scopes))
        at++;
    if (at == COUNT_MAX)
        return;
    if (at == counting->tally_count)
        counting->tallies[counting->tally_count++] = *tally;
    if (++counting->tallies[at].count > counting->most)
        counting->most = counting->tallies[at].count;
}

static struct tally tally_of(const struct shard *shard, const struct queue *queue,
                             const struct connection *connection)
{
    const struct conf_vmta *vmta = conf_vmta(shard->conf, queue->vmta_id);

    return (struct tally){.vmta_id = queue->vmta_id,
                          .pool_id = vmta ? vmta->pool_id : CONF_NONE,
                          .source = connection->lane->source,
                          .provider = connection->lane->provider,
                          .domain = names_text(&shard->names, queue->name)};
}

static struct slice behind_at(struct slice address)
{
    size_t at = address.len;

    while (at > 0 && address.data[at - 1] != '@')
        at--;
    return at > 0 ? slice_after(address, at) : SLICE_EMPTY;
}

/* What the message makes of the connection that it is at; false when the limit does not count it.
 */
static bool tally_message(const struct shard *shard, const struct conf_limit *limit,
                          const struct connection *connection, const struct delivery *delivery,
                          struct tally *ret_tally)
{
    const struct queue *queue = slab_at(&shard->queues, delivery->queue);
    const struct envelope *envelope = &delivery->message->envelope;

    if (!conf_limit_fits(limit, names_text(&shard->names, queue->name), queue->vmta_id) ||
        !conf_limit_fits_message(limit, envelope->job_id, envelope->user) ||
        ((limit->scopes & CONF_SCOPE_USER) != 0 && envelope->user.len == 0))
        return false;
    *ret_tally = tally_of(shard, queue, connection);
    ret_tally->job = envelope->job_id;
    ret_tally->sender_domain = behind_at(envelope->sender);
    ret_tally->user = envelope->user;
    return true;
}

/* A connection is at the message under way, and at the one that follows it in the same flight. */
static void count_mail(struct counting *counting, const struct shard *shard,
                       const struct conf_limit *limit, const struct connection *connection)
{
    struct tally first, second;
    bool is_first, is_second;

    if (connection->is_closed || !connection->delivery || !connection->delivery->message ||
        smtpc_is_idle(connection->smtpc))
        return;
    /* One that is being read back says nothing yet, and is at none, though its connection is not
     * idle either when it is lost meanwhile. */
    if (connection->delivery->message->bytes == 0)
        return;
    /* One that waits for its slot is at none, though its connection may be about to end. */
    if (((const struct queue *)slab_at(&shard->queues, connection->delivery->queue))->parked ==
        connection->delivery)
        return;
    is_first = tally_message(shard, limit, connection, connection->delivery, &first);
    is_second =
        connection->ahead && tally_message(shard, limit, connection, connection->ahead, &second);
    if (is_first)
        count_one(counting, &first, limit->scopes);
    if (is_second && !(is_first && is_same(&first, &second, limit->scopes)))
        count_one(counting, &second, limit->scopes);
}

static uint32_t most_of(struct shard *const *shards, uint16_t count, const struct conf_limit *limit,
                        enum limit_kind kind, uint64_t since_ns)
{
    static struct counting counting;

    counting.tally_count = 0;
    counting.most = 0;
    for (uint16_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < shards[i]->connections.count_grown; j++) {
            const struct shard *shard = shards[i];
            const struct connection *connection =
                slab_is_live(&shard->connections, j) ? slab_at(&shard->connections, j) : NULL;
            struct tally tally;

            if (!connection || !connection->queue || connection->opened_ns <= since_ns)
                continue;
            if (kind == BY_BLOCK && conf_limit_is_of_message(limit)) {
                count_mail(&counting, shard, limit, connection);
                continue;
            }
            if (!counts(shard, limit, kind, connection))
                continue;
            tally = tally_of(shard, connection->queue, connection);
            count_one(&counting, &tally, limit->scopes);
        }
    return counting.most;
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
    if (kind == BY_BLOCK && conf_limit_is_of_message(limit))
        audit->at_bound_by_mail += most == limit->max_smtp_out;
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
    bool is_settled = audit->version == shards[0]->version;
    const char *text = NULL;

    for (uint16_t i = 0; i < count; i++)
        is_settled &= shards[i]->conf == conf && !shards[i]->conf_before;
    if (!is_settled) {
        audit->version = shards[0]->version;
        audit->since_ns = now_ns;
        return NULL;
    }
    for (uint32_t i = 0; i < conf_limit_block_count(conf) && !text; i++)
        text = look_at(audit, shards, count, conf_limit_block_at(conf, i), BY_BLOCK);
    for (uint32_t i = 0; i < conf_limit_host_count(conf) && !text; i++)
        text = look_at(audit, shards, count, conf_limit_host_at(conf, i), BY_HOST);
    return text ? text : look_at_sources(audit, shards, count);
}
