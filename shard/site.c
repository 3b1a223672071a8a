/*
 * Destinations and the connections to them.
 *
 * A site is an MX set or a route. Connections belong to a lane, the site seen from one of our
 * addresses (lane.c), and serve any queue of that site, one transaction at a time. Who is next is
 * said in serve.c.
 */
#include "core/base/err.h"
#include "core/base/mem.h"
#include "shard/planted.h"
#include "shard/probe.h"
#include "shard/serve.h"
#include "shard/shard_int.h"
#include "shard/standing.h"

#include <errno.h>
#include <stdio.h>

#define QUIT_TIMEOUT_MS 5000
/* A receiver that closes later after a message does so for the silence. */
#define SILENT_CLOSE_MS 1000

static const struct smtpc_events client_events;

static void end_to_make_room(struct lease_slots *slots);

void site_init(struct shard *shard)
{
    slab_init(&shard->sites, sizeof(struct site), shard->limits.queue_count_max);
    slab_init(&shard->lanes, sizeof(struct lane), shard->limits.queue_count_max);
    slab_init(&shard->connections, sizeof(struct connection), shard->limits.connection_count_max);
    list_init(&shard->site_list);
    table_init(&shard->site_table);
    list_init(&shard->lanes_to_serve);
    growth_init(shard);
    standing_init(shard);
    lease_init(shard, lane_on_claim_ready, end_to_make_room);
    mail_slots_init(shard);
    rates_init(shard);
    resolve_init(shard);
}

void site_fini(struct shard *shard)
{
    growth_fini(shard);
    standing_fini(shard);
    mail_slots_fini(shard);
    resolve_fini(shard);
    list_for_each (link, &shard->site_list)
        mem_free(container_of(link, struct site, link)->targets);
    slab_fini(&shard->connections);
    slab_fini(&shard->lanes);
    table_fini(&shard->site_table);
    slab_fini(&shard->sites);
}

/* ---- Sites ----------------------------------------------------------------------------------- */

void site_release(struct shard *shard, struct site *site)
{
    must(site->refs > 0);
    if (--site->refs > 0)
        return;
    must(list_empty(&site->lanes));
    table_remove(&shard->site_table, hash_u64(site->set_hash), site->index);
    list_remove(&site->link);
    mem_free(site->targets);
    slab_free(&shard->sites, site->index);
}

/* Copies an answer's targets and names into one block of the heap; false when memory is short. */
static bool site_set_targets(struct shard *shard, struct site *site, const struct mx_answer *answer)
{
    size_t targets_bytes = answer->target_count * sizeof(struct site_target);
    size_t names_bytes = answer->host_count * sizeof(answer->host_names[0]);
    size_t tlsas_bytes = answer->host_count * sizeof(answer->tlsas[0]);
    uint16_t tlsa_used = answer->tlsa_hash != 0 ? answer->tlsa_room.used : 0;
    struct site_target *block =
        mem_try_alloc(targets_bytes + tlsas_bytes + names_bytes + tlsa_used + answer->sts_bytes);
    uint8_t *at = (uint8_t *)block + targets_bytes;

    if (!block)
        return false;
    for (uint32_t i = 0; i < answer->target_count; i++) {
        block[i] = (struct site_target){.at = answer->targets[i].at,
                                        .preference = answer->targets[i].preference,
                                        .host = answer->targets[i].host};
        probe_carry_over(site, &block[i]);
    }
    site->tlsas = memcpy(at, answer->tlsas, tlsas_bytes);
    at += tlsas_bytes;
    site->host_names = memcpy(at, answer->host_names, names_bytes);
    at += names_bytes;
    site->tlsa_data = memcpy(at, answer->tlsa_room.data, tlsa_used);
    at += tlsa_used;
    site->sts_text = memcpy(at, answer->sts_text, answer->sts_bytes);
    site->sts_text_len = answer->sts_bytes;
    site->tlsa_hash = answer->tlsa_hash;
    site->sts_hash = answer->sts_hash;
    site->sts = answer->sts;
    site->has_family[0] = false;
    site->has_family[1] = false;
    for (uint32_t i = 0; i < answer->target_count; i++)
        site->has_family[answer->targets[i].at.ip.family == IPADDR_V6] = true;
    mem_free(site->targets);
    site->targets = block;
    site->target_count = answer->target_count;
    site->host_count = answer->host_count;
    limits_forget_hosts(site);
    (void)shard;
    return true;
}

struct slice site_tlsa(const struct site *site, uint32_t host, const char **ret_name)
{
    const struct mx_tlsa *tlsa = &site->tlsas[host];

    *ret_name = site->host_names[host];
    if (tlsa->bytes == 0)
        return SLICE_EMPTY;
    *ret_name = (const char *)site->tlsa_data + tlsa->base;
    return slice_of(site->tlsa_data + tlsa->records, tlsa->bytes);
}

static bool site_matches(uint32_t value, const void *key, void *context)
{
    const struct site *site = slab_at(&((struct shard *)context)->sites, value);

    return site->set_hash == *(const uint64_t *)key;
}

struct site *site_obtain(struct shard *shard, const struct mx_answer *answer)
{
    uint64_t hash = hash_u64(answer->set_hash);
    uint32_t index = table_find(&shard->site_table, hash, site_matches, &answer->set_hash, shard);
    struct site *site = index == TABLE_NONE ? NULL : slab_at(&shard->sites, index);

    if (!site) {
        site = slab_alloc(&shard->sites, &index);
        if (!site)
            return NULL;
        if (!table_insert(&shard->site_table, hash, index)) {
            slab_free(&shard->sites, index);
            return NULL;
        }
        site->index = index;
        site->set_hash = answer->set_hash;
        list_init(&site->lanes);
        list_push_front(&shard->site_list, &site->link);
    }
    site->refs++;
    if (!site_set_targets(shard, site, answer)) {
        site_release(shard, site);
        return NULL;
    }
    return site;
}

/* ---- Connections ----------------------------------------------------------------------------- */

static void on_idle_timeout(struct io_timer *timer)
{
    struct connection *connection = container_of(timer, struct connection, idle_timer);

    if (connection->delivery)
        deliver_unpark(connection->shard, connection->delivery);
    else
        smtpc_quit(connection->smtpc);
}

static void connection_free(struct shard *shard, struct connection *connection)
{
    struct lane *lane = connection->lane;

    io_timer_stop(shard->io, &connection->idle_timer);
    list_remove(&connection->link);
    lease_slots_release(shard, &connection->slots);
    orders_on_closed(shard, connection);
    if (connection->host != NAME_NONE)
        names_put(&shard->names, connection->host);
    slab_free(&shard->connections, connection->index);
    must(lane->open_count > 0);
    lane->open_count--;
    standing_recount(lane);
    lane_serve_later(lane);
}

/* How the lane's source connects: the name it gives itself, which lives as long as the process, and
 * the proxy it lives on. */
static void fill_source(const struct lane *lane, uint32_t vmta_id,
                        struct smtpc_options *ret_options, struct smtpc_via *via)
{
    const struct conf_source_address *address = lane_address(lane, vmta_id);

    ret_options->helo = address ? address->helo : conf_global(lane->shard->conf)->host_name;
    if (!address || !address->proxy)
        return;
    *via =
        (struct smtpc_via){address->proxy->local, address->proxy->server, address->proxy->version};
    ret_options->via = via;
}

static void fill_options(const struct lane *lane, const struct queue *queue,
                         const struct site_target *target, struct smtpc_via *via,
                         struct smtpc_login *login, struct smtpc_options *ret_options)
{
    const struct conf_queue *settings = &queue->settings;

    *ret_options = (struct smtpc_options){
        .source = lane->source,
        .target = target->at,
        .connect_timeout_ms = settings->connect_timeout_ms,
        .greeting_timeout_ms = settings->greeting_timeout_ms,
        .command_timeout_ms = settings->command_timeout_ms,
        .data_timeout_ms = settings->data_timeout_ms,
        .data_send_timeout_ms = settings->data_send_timeout_ms,
        .data_termination_timeout_ms = settings->data_termination_timeout_ms,
        .quit_timeout_ms = QUIT_TIMEOUT_MS,
        .keep_tcp_info = lane->shard->counts_ips,
        .ignore_pipelining = settings->ignore_pipelining,
        .ignore_chunking = settings->ignore_chunking,
        .ignore_8bitmime = settings->ignore_8bitmime,
        .replace_421 = settings->replace_421,
        .tls = tls_out_level(lane->shard, lane, queue, target),
    };
    fill_source(lane, queue->vmta_id, ret_options, via);
    talk_options(settings, ret_options);
    if (!settings->auth_username)
        return;
    login->user = slice_str(settings->auth_username);
    login->password = slice_str(settings->auth_password ? settings->auth_password : "");
    login->may_show_password = settings->use_unencrypted_plain_auth;
    ret_options->login = login;
}

/* No socket: either nothing is free now, or this source address cannot be used at all. */
static enum lane_opened on_socket_refused(struct shard *shard, struct lane *lane,
                                          struct queue *queue, int error)
{
    const uint8_t enhanced[3] = {4, 4, 5};
    struct verdict verdict;

    if (error == E_FULL || error == -EMFILE || error == -ENFILE || error == -ENOBUFS ||
        error == -ENOMEM)
        return LANE_NO_ROOM;
    verdict_set_local(&verdict, VERDICT_SOURCE_IP, VERDICT_TRANSIENT, VERDICT_AT_BIND, 451,
                      enhanced, "source address cannot be used: %s", err_text(error));
    queues_note_error(shard, queue, &verdict);
    lane_park(shard, lane, io_now_ns(shard->io) + LANE_SOURCE_PARK_MS * 1000000ull);
    return LANE_PARKED;
}

/* The address for a connection of the queue's; NONE when none is alive. */
static uint32_t pick_target(struct shard *shard, struct lane *lane, const struct queue *queue)
{
    uint32_t target_index = doubt_target(shard, queue);

    if (target_index == NONE)
        return target_pick(lane, io_now_ns(shard->io));
    doubt_find(shard, ready_peek(queue))->way.open_count++;
    return target_index;
}

enum lane_opened site_open(struct shard *shard, struct lane *lane, struct queue *queue)
{
    uint32_t target_index = pick_target(shard, lane, queue), index;
    const struct site_target *target;
    struct connection *connection;
    struct smtpc_options options;
    struct smtpc_login login;
    struct smtpc_via via;
    int result;

    if (target_index == NONE)
        return LANE_NO_TARGET;
    connection = slab_alloc(&shard->connections, &index);
    if (!connection)
        return LANE_NO_ROOM;
    if (!lease_slots_init(shard, &lane->claim, &connection->slots)) {
        slab_free(&shard->connections, index);
        return LANE_NO_ROOM;
    }
    target = &lane->site->targets[target_index];
    fill_options(lane, queue, target, &via, &login, &options);
    connection->has_proxy = options.via != NULL;
    connection->tls_level = options.tls;
    result = smtpc_open(shard->smtpc, &options, &client_events, connection, &connection->smtpc);
    if (result < 0) {
        lease_slots_fini(shard, &connection->slots);
        slab_free(&shard->connections, index);
        return on_socket_refused(shard, lane, queue, result);
    }
    connection->index = index;
    connection->shard = shard;
    connection->lane = lane;
    connection->queue = queue;
    connection->vmta_id = queue->vmta_id;
    connection->queue_index = queue->index;
    connection->idle_ms = queue->settings.connection_idle_ms;
    if (rates_are_shared(shard, queue, &lane->source) && connection->idle_ms < TOKEN_WAIT_MS)
        connection->idle_ms = TOKEN_WAIT_MS;
    connection->target_at = target->at;
    connection->goes_on = closes_on_open(&lane->site->closes);
    connection->opened_ns = io_now_ns(shard->io);
    connection->busy_since_ns = connection->opened_ns;
    lease_claim_use(&lane->claim, &connection->slots);
    orders_on_open(shard, connection);
    rates_take_connection(shard, queue, &lane->source);
    purse_leave_lane(lane);
    connection->host = names_get(&shard->names, slice_str(lane->site->host_names[target->host]));
    io_timer_init(&connection->idle_timer, on_idle_timeout);
    list_push_back(&lane->busy, &connection->link);
    queue->connection_count++;
    lane->open_count++;
    lane->connecting_count++;
    shard->totals.connects++;
    ips_on_open(shard, connection);
    talk_opened(shard, connection);
    return LANE_OPENED;
}

static void on_ready(struct smtpc *smtpc, void *context)
{
    struct connection *connection = context;
    struct shard *shard = connection->shard;
    struct lane *lane = connection->lane;
    struct queue *queue = connection->queue;

    must(lane->connecting_count > 0 && queue->connection_count > 0);
    ips_on_progress(shard, connection);
    connection->is_ready = true;
    talk_ready(connection);
    tls_report_ready(shard, connection);
    lane->site->is_failing = false;
    outage_end(&lane->site->outage, &lane->source);
    lane->refused_until_ns = 0;
    lane->refusal_count = 0;
    lane->unanswered_count = 0;
    lane->connecting_count--;
    demand_on_connected(&lane->demand, io_now_ns(shard->io) - connection->busy_since_ns);
    connection->busy_since_ns = io_now_ns(shard->io);
    queue->connection_count--;
    connection->queue = NULL;
    queues_note_success(shard, queue);
    site_connection_idle(shard, connection);
    queues_reconsider(shard, queue);
}

void site_connection_idle(struct shard *shard, struct connection *connection)
{
    struct lane *lane = connection->lane;

    must(!connection->queue && !connection->delivery);
    list_remove(&connection->link);
    if (shard->stopping || connection->is_leaving) {
        list_push_back(&lane->busy, &connection->link);
        smtpc_quit(connection->smtpc);
        return;
    }
    list_push_front(&lane->idle, &connection->link);
    io_timer_arm(shard->io, &connection->idle_timer,
                 io_now_ns(shard->io) + connection->idle_ms * 1000000ull);
    lane_serve_later(lane);
}

bool site_closes_soon(const struct connection *connection, uint32_t served)
{
    return !connection->goes_on && closes_is_due(&connection->lane->site->closes, served);
}

/* The connection is gone: whether its receiver ended it behind a message without a word. What was
 * idle for a while had nothing to do with a count of messages. */
static bool is_silent_close(const struct connection *connection, const struct verdict *verdict)
{
    const unsigned other =
        VERDICT_FROM_REPLY | VERDICT_PROTOCOL | VERDICT_TIMED_OUT | VERDICT_IN_DOUBT;
    uint64_t quiet_ns = io_now_ns(connection->shard->io) - connection->busy_since_ns;

    if (connection->served == 0 || (verdict->flags & other) != 0)
        return false;
    return connection->came_back ||
           (io_timer_is_armed(&connection->idle_timer) && quiet_ns < SILENT_CLOSE_MS * 1000000ull);
}

/* Others wait for what it holds, and it had its turn. */
static bool is_turn_over(const struct shard *shard, struct connection *connection)
{
    return lease_slots_must_end(&connection->slots, io_now_ns(shard->io) - connection->opened_ns,
                                connection->lane->open_count);
}

static void connection_done(struct shard *shard, struct connection *connection, bool may_continue)
{
    struct queue *queue = connection->queue;
    const struct conf_queue *settings = &queue->settings;
    bool is_spent = ++connection->served >= settings->max_msg_per_connection ||
                    connection->is_leaving ||
                    connection->error_count >= settings->max_errors_per_connection ||
                    site_closes_soon(connection, connection->served) ||
                    growth_is_surplus(connection->lane) || is_turn_over(shard, connection);

    connection->idle_ms = settings->connection_idle_ms;
    must(queue->connection_count > 0);
    queue->connection_count--;
    connection->queue = NULL;
    if (may_continue && is_spent)
        smtpc_quit(connection->smtpc);
    else if (may_continue)
        site_connection_idle(shard, connection);
    queues_reconsider(shard, queue);
}

/* No address is left that the lane could try. */
static void lane_on_unreached(struct shard *shard, struct lane *lane, const struct verdict *verdict)
{
    uint64_t due_ns = lane_rest_waiting(shard, lane, verdict);

    /* What fails for its TLS is out of reach for those alone who need that. */
    if (verdict->stage != VERDICT_AT_TLS)
        outage_note(&lane->site->outage, &lane->source, due_ns);
}

/* A connection that never became ready: the next address, or rest when there is none. */
static void on_open_failed(struct shard *shard, struct connection *connection,
                           const struct verdict *verdict)
{
    struct lane *lane = connection->lane;
    struct queue *queue = connection->queue;
    struct react react;

    must(lane->connecting_count > 0 && queue->connection_count > 0);
    lane->connecting_count--;
    demand_on_connect_failed(&lane->demand);
    queue->connection_count--;
    if (standing_has_yielded(connection)) {
        connection->queue = NULL;
        queues_reconsider(shard, queue);
        return;
    }
    /* A login that is refused, or TLS that fails, says nothing of the site: others may want none.
     */
    lane->site->is_failing |= verdict->stage != VERDICT_AT_AUTH && verdict->stage != VERDICT_AT_TLS;
    standing_set(lane, QUOTA_SLOW);
    shard->totals.connect_failures++;
    queues_note_error(shard, queue, verdict);
    tls_report_failed(shard, connection, verdict);
    react = replies_heed(shard, connection, queue, NULL, verdict);
    switch (fate_of_session(verdict, &queue->settings)) {
    case FATE_NEXT_TARGET:
        target_mark_dead(shard, connection);
        break;
    case FATE_REFUSED:
        if (react.actions & CONF_REPLY_SKIP_MX)
            target_pass_by(shard, connection);
        else
            target_on_refused(shard, connection, verdict);
        break;
    case FATE_NO_TLS:
        tls_out_on_failed(shard, connection, verdict);
        break;
    case FATE_REST_SOURCE:
    case FATE_CLOSE_ONLY:
        break;
    }
    connection->queue = NULL;
    replies_act(shard, queue, &react, verdict);
    if (connection->has_proxy && verdict->scope == VERDICT_SOURCE_IP &&
        verdict->stage == VERDICT_AT_CONNECT)
        lane_park(shard, lane, io_now_ns(shard->io) + LANE_SOURCE_PARK_MS * 1000000ull);
    queues_reconsider(shard, queue);
    /* Connections that stand prove that the site lives, whatever this attempt met. */
    if (target_pick(lane, io_now_ns(shard->io)) == NONE && list_empty(&lane->idle) &&
        lane->open_count == 1)
        lane_on_unreached(shard, lane, verdict);
}

static void on_rcpt(struct smtpc *smtpc, void *context, uint32_t index,
                    const struct verdict *verdict)
{
    struct connection *connection = context;

    if (verdict->class != VERDICT_SUCCESS)
        connection->error_count++;
    connection->lane->site->refuses_chunks |= smtpc_refuses_chunks(smtpc);
    deliver_on_rcpt(connection->shard, connection->delivery, index, verdict);
}

static void on_transaction_done(struct smtpc *smtpc, void *context, bool may_continue)
{
    struct connection *connection = context;
    uint64_t now_ns = io_now_ns(connection->shard->io);

    demand_on_served(&connection->lane->demand, connection->busy_since_ns, now_ns,
                     connection->delivery->count);
    standing_on_served(connection, now_ns);
    connection->busy_since_ns = now_ns;
    deliver_on_done(connection->shard, connection->delivery);
    connection->delivery = NULL;
    if (may_continue)
        closes_on_served(&connection->lane->site->closes, connection->served + 1);
    ips_on_progress(connection->shard, connection);
    if (may_continue || connection->ahead)
        ahead_note_clean(connection);
    if (connection->ahead)
        ahead_take_over(connection->shard, connection);
    else
        connection_done(connection->shard, connection, may_continue);
}

static void on_closed(struct smtpc *smtpc, void *context, const struct verdict *verdict)
{
    struct connection *connection = context;
    struct shard *shard = connection->shard;

    connection->lane->site->refuses_chunks |= smtpc_refuses_chunks(smtpc);
    if (is_silent_close(connection, verdict))
        closes_note(&connection->lane->site->closes, connection->served);
    ips_on_closed(shard, connection);
    talk_closed(connection, verdict);
    connection->is_closed = true;
    ahead_note_closed(connection, verdict);
    /* A message is being read for it, or waits for a token: see site_connection_lost. */
    if (connection->delivery) {
        deliver_unpark(shard, connection->delivery);
        return;
    }
    if (!connection->is_ready)
        on_open_failed(shard, connection, verdict);
    connection_free(shard, connection);
}

bool site_connection_is_usable(const struct connection *connection)
{
    return !connection->is_closed && smtpc_is_idle(connection->smtpc);
}

void site_connection_lost(struct shard *shard, struct connection *connection)
{
    struct queue *queue = connection->queue;

    must(!connection->delivery && queue->connection_count > 0);
    queue->connection_count--;
    connection->queue = NULL;
    if (connection->is_closed)
        connection_free(shard, connection);
    /* A queue can have any number of messages that may not go now. */
    else if (smtpc_is_idle(connection->smtpc) && is_turn_over(shard, connection))
        smtpc_quit(connection->smtpc);
    else if (smtpc_is_idle(connection->smtpc))
        site_connection_idle(shard, connection);
    queues_reconsider(shard, queue);
}

void site_hold_for_token(struct shard *shard, struct connection *connection)
{
    io_timer_arm(shard->io, &connection->idle_timer, io_now_ns(shard->io) + PARKED_MS * 1000000ull);
}

static void on_returned(struct smtpc *smtpc, void *context, const struct verdict *verdict)
{
    struct connection *connection = context;

    connection->came_back = true;
    ahead_return(connection->shard, connection, verdict);
}

static void on_content(struct smtpc *smtpc, void *context)
{
    deliver_on_content(context);
}

static void on_ending(struct smtpc *smtpc, void *context)
{
    struct connection *connection = context;

    ahead_start(connection->shard, connection);
}

static const struct smtpc_events client_events = {
    .on_ready = on_ready,
    .on_rcpt = on_rcpt,
    .on_transaction_done = on_transaction_done,
    .on_closed = on_closed,
    .on_returned = on_returned,
    .on_ending = on_ending,
    .on_content = on_content,
    .open_tls = tls_out_open,
    .on_note = talk_note,
};

/* ---- Ends ------------------------------------------------------------------------------------ */

uint32_t site_open_connections(const struct shard *shard)
{
    return smtpc_engine_open_count(shard->smtpc);
}

static void end_idle(struct shard *shard, struct connection *connection)
{
    io_timer_stop(shard->io, &connection->idle_timer);
    list_remove(&connection->link);
    list_push_back(&connection->lane->busy, &connection->link);
    smtpc_quit(connection->smtpc);
}

static void end_to_make_room(struct lease_slots *slots)
{
    struct connection *connection = container_of(slots, struct connection, slots);

    end_idle(connection->shard, connection);
}

/* Whether what the connection serves, or served last, may still go by it. What is not known any
 * more has no claim to it. */
static bool may_stay(struct shard *shard, const struct connection *connection)
{
    struct queue *queue = slab_is_live(&shard->queues, connection->queue_index)
                              ? slab_at(&shard->queues, connection->queue_index)
                              : NULL;

    return queue && queue->site == connection->lane->site &&
           lane_serves(shard, connection->lane, queue);
}

void site_adopt(struct shard *shard)
{
    for (uint32_t i = 0; i < shard->connections.count_grown; i++) {
        struct connection *connection;

        if (!slab_is_live(&shard->connections, i))
            continue;
        connection = slab_at(&shard->connections, i);
        if (may_stay(shard, connection))
            continue;
        connection->is_leaving = true;
        if (io_timer_is_armed(&connection->idle_timer))
            end_idle(shard, connection);
    }
}

void site_end_connections(struct shard *shard, struct lane *lane)
{
    list_for_each (link, &lane->busy)
        container_of(link, struct connection, link)->is_leaving = true;
    while (!list_empty(&lane->idle))
        end_idle(shard, container_of(lane->idle.next, struct connection, link));
}

void site_stop(struct shard *shard)
{
    list_for_each (site_node, &shard->site_list) {
        struct site *site = container_of(site_node, struct site, link);

        list_for_each (lane_node, &site->lanes) {
            struct lane *lane = container_of(lane_node, struct lane, site_link);

            list_for_each (node, &lane->idle)
                end_idle(shard, container_of(node, struct connection, link));
        }
    }
}

static bool is_to_end(const struct connection *connection)
{
    return connection->delivery && !smtpc_is_idle(connection->smtpc) &&
           !connection->queue->settings.allow_cancel_during_transfer;
}

uint32_t site_abort(struct shard *shard)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < shard->connections.count_grown; i++) {
        const struct connection *connection;

        if (!slab_is_live(&shard->connections, i))
            continue;
        connection = slab_at(&shard->connections, i);
        if (is_to_end(connection))
            continue;
        count += connection->delivery != NULL;
        smtpc_abort(connection->smtpc);
    }
    return count;
}
