/*
 * The message that follows the one under way, in the flight that ends it.
 *
 * At most one, chosen when the dot of the one before is about to leave, by the same line of queues
 * that idle connections serve. Whether a receiver bears it is remembered at its site while the site
 * lives: one that breaks the protocol after something was sent ahead is spoken to in lock-step
 * from then on, unless its operator said `yes`.
 */
#include "shard/shard_int.h"

/* What `auto` asks of a receiver that was not configured as a route. */
#define CLEAN_MESSAGES 20

static bool may_pipeline(const struct connection *connection, const struct queue *queue)
{
    const struct site *site = connection->lane->site;
    const struct conf_queue *settings = &queue->settings;

    switch (settings->pipeline_across_messages) {
    case CONF_PIPELINE_YES:
        return true;
    case CONF_PIPELINE_AUTO:
        return !site->is_out_of_step &&
               (settings->route_count > 0 || site->clean_count >= CLEAN_MESSAGES);
    case CONF_PIPELINE_NO:
        break;
    }
    return false;
}

/* Both ways need one round trip a message. A chunk ends what could follow in its flight, and costs
 * more turns of ours: it is for where nothing may be sent ahead, or not yet. */
bool ahead_may_chunk(const struct connection *connection, const struct queue *queue)
{
    const struct site *site = connection->lane->site;

    return site->tells_apart && !site->refuses_chunks && !may_pipeline(connection, queue);
}

/* The message under way is not yet counted. */
static bool is_nearly_spent(struct shard *shard, struct connection *connection)
{
    const struct conf_queue *settings = &connection->queue->settings;

    return connection->is_leaving || connection->served + 1 >= settings->max_msg_per_connection ||
           connection->error_count >= settings->max_errors_per_connection ||
           site_closes_soon(connection, connection->served + 1) ||
           demand_is_surplus(&connection->lane->demand, connection->lane->open_count) ||
           lease_slots_must_end(&connection->slots, io_now_ns(shard->io) - connection->opened_ns,
                                connection->lane->open_count);
}

/* Whether more waits at the lane than the connections that come up are about to take. */
static bool is_more_than_taken(const struct lane *lane)
{
    uint32_t ready_count = 0;

    list_for_each (link, &lane->waiting) {
        ready_count += ready_open_count(container_of(link, struct queue, lane_link));
        if (ready_count > lane->connecting_count)
            return true;
    }
    return false;
}

/* Who is next: the head of the line, or else the queue being served, which stands in no line while
 * it has as many connections as it may. NULL when there is nothing, or connections that are idle or
 * come up are about to take it. */
static struct queue *pick(struct shard *shard, const struct connection *connection,
                          bool *ret_is_express)
{
    struct lane *lane = connection->lane;
    struct queue *own = connection->queue;
    struct queue *head;

    *ret_is_express = false;
    if (!list_empty(&lane->idle))
        return NULL;
    if (list_empty(&lane->waiting)) {
        bool is_here = own->site == lane->site && list_empty(&own->lane_link) &&
                       !orders_forbid(shard, own, &lane->source);

        return is_here && queues_can_send(shard, own) ? own : NULL;
    }
    head = lane_next(lane, ret_is_express);
    if (!is_more_than_taken(lane) || !queues_can_send(shard, head) ||
        orders_forbid(shard, head, &lane->source) ||
        (head != own && head->connection_count >= head->settings.max_smtp_out))
        return NULL;
    return head;
}

void ahead_start(struct shard *shard, struct connection *connection)
{
    struct queue *queue;
    bool was_in_line, is_express;

    if (is_nearly_spent(shard, connection))
        return;
    queue = pick(shard, connection, &is_express);
    if (!queue || !may_pipeline(connection, queue) || !doubt_fits(shard, queue, connection))
        return;
    was_in_line = !list_empty(&queue->lane_link);
    if (!deliver_start_ahead(shard, connection, queue))
        return;
    shard->totals.sent_ahead++;
    connection->was_ahead = true;
    connection->ahead_counts = queue != connection->queue;
    if (connection->ahead_counts)
        queue->connection_count++;
    if (was_in_line)
        lane_turn_over(shard, queue, is_express);
}

void ahead_take_over(struct shard *shard, struct connection *connection)
{
    struct queue *before = connection->queue;

    connection->served++;
    connection->delivery = connection->ahead;
    connection->ahead = NULL;
    connection->queue = slab_at(&shard->queues, connection->delivery->queue);
    connection->vmta_id = connection->queue->vmta_id;
    connection->queue_index = connection->queue->index;
    if (!connection->ahead_counts)
        return;
    connection->ahead_counts = false;
    must(before->connection_count > 0);
    before->connection_count--;
    queues_reconsider(shard, before);
}

void ahead_return(struct shard *shard, struct connection *connection, const struct verdict *verdict)
{
    struct queue *queue;
    struct react react;

    shard->totals.returned++;
    if (connection->ahead) {
        queue = deliver_return(shard, connection->ahead);
        connection->ahead = NULL;
        if (connection->ahead_counts)
            queue->connection_count--;
        connection->ahead_counts = false;
    } else {
        queue = deliver_return(shard, connection->delivery);
        connection->delivery = NULL;
        connection->queue = NULL;
        must(queue->connection_count > 0);
        queue->connection_count--;
    }
    /* No attempt, but what the receiver said is worth showing. */
    if ((verdict->flags & VERDICT_FROM_REPLY) != 0)
        queues_note_error(shard, queue, verdict);
    react = replies_heed(shard, connection, queue, NULL, verdict);
    if (react.actions & CONF_REPLY_SKIP_MX)
        target_pass_by(shard, connection);
    replies_act(shard, queue, &react, verdict);
    queues_reconsider(shard, queue);
}

void ahead_note_clean(struct connection *connection)
{
    struct site *site = connection->lane->site;

    if (site->clean_count < CLEAN_MESSAGES)
        site->clean_count++;
    site->tells_apart |= smtpc_tells_apart(connection->smtpc);
}

void ahead_note_closed(struct connection *connection, const struct verdict *verdict)
{
    struct site *site = connection->lane->site;

    if ((verdict->flags & VERDICT_PROTOCOL) == 0)
        return;
    if (connection->was_ahead)
        site->is_out_of_step = true;
    site->refuses_chunks |= (smtpc_extensions(connection->smtpc) & SMTPC_CHUNKING) != 0;
}
