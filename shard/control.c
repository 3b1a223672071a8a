/*
 * A connection's way; every state but FREE and CLOSING ends by a timer at the latest:
 *
 *   FREE -> READING -> WAITING -> SENDING -> CLOSING -> FREE
 *
 * A verb that asks no shard is answered at once, still by way of WAITING; the end of the stream, an
 * error or the timer leads from READING and SENDING to CLOSING.
 */
#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "shard/control_int.h"

#include <errno.h>

#define READ_TIMEOUT_NS    10000000000ull
#define SEND_TIMEOUT_NS    30000000000ull
#define ACCEPT_RETRY_NS    1000000000ull
#define SAMPLE_INTERVAL_NS 1000000000ull
#define SAMPLE_TIMEOUT_MS  10000u
#define ACCOUNTS_POLL_NS   50000000ull
#define END_POLL_NS        10000000ull
#define END_GRACE_NS       1000000000ull
#define STOP_MARGIN_MS     30000u
/* Beyond that, where transfers are not broken off: what bounds one of them (smtpc.h), doubled. */
#define TRANSFER_MS        3600000u

/* ---- Connections ----------------------------------------------------------------------------- */

static void client_close(struct control_client *client)
{
    struct control *control = client->control;

    if (client->state == CLIENT_FREE || client->state == CLIENT_CLOSING)
        return;
    client->state = CLIENT_CLOSING;
    io_timer_stop(control->io, &client->timer);
    if (client->gather != NULL)
        gather_leave(client->gather);
    client->gather = NULL;
    if (client->lookup != NULL)
        lookup_leave(client->lookup);
    client->lookup = NULL;
    control_reload_leave(client);
    control_keys_leave(client);
    control_domain_leave(client);
    io_close(control->io, &client->close, client->fd);
}

static void on_client_closed(struct io_op *op, int32_t result)
{
    struct control_client *client = container_of(op, struct control_client, close);

    text_free(&client->answer);
    client->fd = -1;
    client->state = CLIENT_FREE;
}

static void on_client_sent(struct io_op *op, int32_t result)
{
    client_close(container_of(op, struct control_client, send));
}

static void on_client_timer(struct io_timer *timer)
{
    client_close(container_of(timer, struct control_client, timer));
}

static void client_send(struct control_client *client)
{
    struct control *control = client->control;

    if (client->answer.failed) {
        text_free(&client->answer);
        text_format(&client->answer, "error the answer does not fit into memory\n");
    }
    must(client->state == CLIENT_WAITING);
    client->state = CLIENT_SENDING;
    client->iov = (struct iovec){client->answer.data, client->answer.used};
    io_timer_arm(control->io, &client->timer, io_now_ns(control->io) + SEND_TIMEOUT_NS);
    io_send(control->io, &client->send, client->fd, &client->iov, 1);
}

void control_client_answer(struct control_client *client, const struct control_answer *answer)
{
    const char *message = answer->message != NULL ? answer->message : "";
    struct text_buffer *out = &client->answer;

    text_format(out, "ok\n");
    switch (client->request.format) {
    case FORMAT_JSON:
        render_json(answer->data, "success", message, out);
        break;
    case FORMAT_DOM:
        render_dom(answer->data, out);
        break;
    case FORMAT_TEXT:
        if (answer->text != NULL)
            answer->text(answer->data, out);
        if (*message != '\0')
            text_format(out, "%s\n", message);
        break;
    }
    client_send(client);
}

void control_client_refuse_with(struct control_client *client, const char *text,
                                const struct control_answer *answer)
{
    struct text_buffer *out = &client->answer;

    text_format(out, "error %s\n", text);
    if (client->request.format == FORMAT_JSON)
        render_json(answer->data, "error", text, out);
    else if (client->request.format == FORMAT_DOM)
        render_dom(answer->data, out);
    else if (answer->text != NULL)
        answer->text(answer->data, out);
    if (client->request.format == FORMAT_TEXT && answer->message != NULL)
        text_format(out, "%s\n", answer->message);
    client_send(client);
}

void control_client_refuse(struct control_client *client, const char *text)
{
    text_format(&client->answer, "error %s\n", text);
    if (client->request.format == FORMAT_JSON)
        render_json(NULL, "error", text, &client->answer);
    client_send(client);
}

static void client_run(struct control_client *client)
{
    struct slice line = slice_of(client->line, client->line_len);

    if (line.len > 0 && line.data[line.len - 1] == '\r')
        line.len--;
    client->state = CLIENT_WAITING;
    io_timer_stop(client->control->io, &client->timer);
    control_verb_run(client->control, client, line);
}

/* What follows the first line is dropped; nothing is read any more once it is complete. */
static size_t on_client_data(struct io_recv *recv, const uint8_t *data, size_t len)
{
    struct control_client *client = container_of(recv, struct control_client, recv);
    size_t line_end = slice_find(slice_of(data, len), '\n');

    if (client->state != CLIENT_READING)
        return len;
    if (client->line_len + line_end > VERB_LINE_MAX) {
        client->state = CLIENT_WAITING;
        io_recv_pause(client->control->io, recv);
        control_client_refuse(client, "the command line is too long");
        return len;
    }
    memcpy(client->line + client->line_len, data, line_end);
    client->line_len += (uint32_t)line_end;
    if (line_end == len)
        return len;
    io_recv_pause(client->control->io, recv);
    client_run(client);
    return len;
}

static void on_client_end(struct io_recv *recv, int32_t reason)
{
    client_close(container_of(recv, struct control_client, recv));
}

static void client_start(struct control *control, struct control_client *client, int fd,
                         uint32_t uid)
{
    client->state = CLIENT_READING;
    client->fd = fd;
    client->uid = uid;
    client->line_len = 0;
    client->request = (struct verb_request){0};
    client->gather = NULL;
    client->lookup = NULL;
    client->key_check = NULL;
    client->domain = NULL;
    memset(&client->recv, 0, sizeof(client->recv));
    client->recv.on_data = on_client_data;
    client->recv.on_end = on_client_end;
    io_timer_arm(control->io, &client->timer, io_now_ns(control->io) + READ_TIMEOUT_NS);
    io_recv_start(control->io, &client->recv, fd);
}

static void client_init(struct control *control, struct control_client *client)
{
    client->control = control;
    client->fd = -1;
    io_op_init(&client->send, on_client_sent);
    io_op_init(&client->close, on_client_closed);
    io_timer_init(&client->timer, on_client_timer);
}

/* ---- The socket ------------------------------------------------------------------------------ */

static struct control_client *free_client(struct control *control)
{
    for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        if (control->clients[i].state == CLIENT_FREE)
            return &control->clients[i];
    }
    return NULL;
}

static bool may_connect(struct control *control, int fd, uint32_t *ret_uid)
{
    uint32_t uid = HISTORY_NO_UID;
    int result = io_peer_uid(control->io, fd, &uid);

    *ret_uid = uid;
    if (result >= 0 && (uid == 0 || uid == control->user_id))
        return true;
    if (result < 0)
        log_warn("control: a peer without a user: %s", err_text(result));
    else
        log_warn("control: user %u is refused", uid);
    return false;
}

static void on_accept(struct io_accept *accept, int32_t fd)
{
    struct control *control = container_of(accept, struct control, accept);
    struct control_client *client;
    uint32_t uid;

    if (fd == -ECANCELED)
        return;
    if (fd < 0) {
        log_warn("control: accepting: %s", err_text(fd));
        io_timer_arm(control->io, &control->accept_timer, io_now_ns(control->io) + ACCEPT_RETRY_NS);
        return;
    }
    client = control->phase < CONTROL_ENDING && may_connect(control, fd, &uid)
                 ? free_client(control)
                 : NULL;
    if (client == NULL)
        io_close_now(control->io, fd);
    else
        client_start(control, client, fd, uid);
}

static void on_accept_timer(struct io_timer *timer)
{
    struct control *control = container_of(timer, struct control, accept_timer);

    if (control->listen_fd >= 0)
        io_accept_start(control->io, &control->accept, control->listen_fd);
}

int control_listen(struct control *control, uint32_t user_id)
{
    const char *path = conf_global(control->conf)->control_socket;
    int result;

    if (path == NULL)
        return 0;
    result = io_listen_unix(control->io, path, &control->listen_fd);
    if (result < 0) {
        log_error("control socket %s: %s", path, err_text(result));
        control->listen_fd = -1;
        return result;
    }
    control->socket_path = mem_strdup(path);
    control->user_id = user_id;
    control->accept.on_accept = on_accept;
    io_accept_start(control->io, &control->accept, control->listen_fd);
    return 0;
}

static void on_listen_closed(struct io_op *op, int32_t result)
{
    struct control *control = container_of(op, struct control, listen_close);

    control->listen_fd = -1;
}

static void stop_listening(struct control *control)
{
    if (control->listen_fd < 0)
        return;
    io_timer_stop(control->io, &control->accept_timer);
    io_file_unlink(control->io, control->socket_path);
    io_close(control->io, &control->listen_close, control->listen_fd);
}

/* ---- The end --------------------------------------------------------------------------------- */

static bool has_clients(const struct control *control)
{
    for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        if (control->clients[i].state != CLIENT_FREE)
            return true;
    }
    return false;
}

/* Answers under way get a moment; who has not asked yet, none. */
static void close_clients(struct control *control, bool all)
{
    for (int i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        if (all || control->clients[i].state == CLIENT_READING)
            client_close(&control->clients[i]);
    }
}

static void on_end_timer(struct io_timer *timer)
{
    struct control *control = container_of(timer, struct control, end_timer);
    uint64_t now_ns = io_now_ns(control->io);
    bool is_late = now_ns >= control->end_at_ns;

    close_clients(control, is_late);
    if (control->listen_fd >= 0 || has_clients(control) ||
        (control->gather_count > 0 && !is_late) || control->lookup_reads > 0 ||
        !accounts_stop(control, is_late) || !control_sts_stop(control)) {
        io_timer_arm(control->io, timer, now_ns + END_POLL_NS);
        return;
    }
    accounts_finish(control);
    io_timer_stop(control->io, &control->accounts_timer);
    control->phase = CONTROL_STOPPED;
    if (control->stopped != NULL)
        control->stopped(control->stopped_context);
}

static void on_shards_stopped(struct gather *gather)
{
    struct control *control = gather->control;

    if (gather->timed_out)
        log_error("control: %u shards did not stop in time", gather->waiting);
    gather_leave(gather);
    control_tls_report_stop(control);
    control->phase = CONTROL_ENDING;
    control->end_at_ns = io_now_ns(control->io) + END_GRACE_NS;
    stop_listening(control);
    io_timer_arm(control->io, &control->end_timer, io_now_ns(control->io));
}

static void stop_carrier(struct control *control, uint32_t grace_ms)
{
    if (!control->wiring.to_carrier)
        return;
    control->carrier_order = (struct carrier_order){{.kind = CARRIER_STOP}, grace_ms};
    mailbox_post(control->wiring.to_carrier, &control->carrier_order.parcel);
}

void control_shutdown(struct control *control, uint32_t grace_ms)
{
    const struct report question = {
        .parcel = {.kind = REPORT_STOP},
        .grace_ms = grace_ms,
    };
    uint32_t timeout_ms;

    if (control->phase != CONTROL_RUNNING)
        return;
    control->phase = CONTROL_STOPPING;
    io_timer_stop(control->io, &control->sample_timer);
    timeout_ms = grace_ms + STOP_MARGIN_MS;
    if (conf_keeps_transfers(control->conf) && timeout_ms < UINT32_MAX - TRANSFER_MS)
        timeout_ms += TRANSFER_MS;
    stop_carrier(control, grace_ms);
    gather_start(control, &question, timeout_ms, on_shards_stopped, NULL);
}

void control_on_stopped(struct control *control, void (*stopped)(void *context), void *context)
{
    control->stopped = stopped;
    control->stopped_context = context;
}

/* ---- Samples and accounting ------------------------------------------------------------------ */

static void on_sampled(struct gather *gather)
{
    if (!gather->timed_out && gather->result >= 0)
        samples_add(&gather->control->samples, &gather->status);
    gather->control->is_sampling = false;
    gather_leave(gather);
}

static void on_sample_timer(struct io_timer *timer)
{
    struct control *control = container_of(timer, struct control, sample_timer);
    const struct report question = {.parcel = {.kind = REPORT_STATUS}};

    io_timer_arm(control->io, timer, io_now_ns(control->io) + SAMPLE_INTERVAL_NS);
    control_ips_sample(control);
    control_health_watch(control);
    control_overrides_tick(control);
    control_keys_tick(control);
    control_sts_tick(control);
    control_tls_report_tick(control);
    if (control->is_sampling)
        return;
    control->is_sampling = true;
    gather_start(control, &question, SAMPLE_TIMEOUT_MS, on_sampled, NULL);
}

/* The log has no bell: a look now and then is what accounting lags behind at most. The work itself
 * is done in the turn. */
static void on_accounts_timer(struct io_timer *timer)
{
    struct control *control = container_of(timer, struct control, accounts_timer);

    io_timer_arm(control->io, timer, io_now_ns(control->io) + ACCOUNTS_POLL_NS);
    control_log_look(control);
}

static void control_turn(struct io_actor *actor)
{
    struct control *control = container_of(actor, struct control, actor);

    if (control->phase != CONTROL_STOPPED)
        control->is_busy = accounts_turn(control);
}

static bool control_is_busy(struct io_actor *actor)
{
    return container_of(actor, struct control, actor)->is_busy;
}

int control_start_accounting(struct control *control)
{
    int result = accounts_open(control);

    if (result >= 0 && control->account_count > 0)
        io_timer_arm(control->io, &control->accounts_timer, io_now_ns(control->io));
    return result;
}

/* ---- Creation -------------------------------------------------------------------------------- */

static void on_shard_parcel(void *context, struct parcel *parcel)
{
    struct control *control = context;

    if (parcel->kind == RELOAD_ORDER)
        reload_on_parcel(&control->reload.reload, parcel);
    else if (parcel->kind == STS_ASK)
        control_sts_take(control, parcel);
    else if (!control_tls_report_take(control, parcel))
        gather_on_report(control, container_of(parcel, struct report, parcel));
}

static void on_spool_parcel(void *context, struct parcel *parcel)
{
    accounts_on_notice(context, container_of(parcel, struct spool_notice, parcel));
}

struct control *control_create(struct io *io, const struct control_options *options)
{
    struct control *control = mem_alloc(sizeof(*control));

    must(options->shard_count > 0);
    /* Every allocation passes through one door; keys are our own words, so any seed will do. */
    json_set_alloc_funcs(mem_try_alloc, mem_free);
    json_object_seed(1);
    control->io = io;
    control->conf = conf_ref(options->conf);
    control->version = options->version;
    control->shard_count = options->shard_count;
    control->started_us = io_wall_us(io);
    control->listen_fd = -1;
    control->signing = options->signing;
    control_ips_init(control, options->ip_source);
    control_sts_init(control, options->sts_program);
    control_reload_init(control, options->config_path);
    control_tls_report_init(control);
    for (int i = 0; i < CONTROL_CLIENTS_MAX; i++)
        client_init(control, &control->clients[i]);
    io_op_init(&control->listen_close, on_listen_closed);
    io_timer_init(&control->accept_timer, on_accept_timer);
    io_timer_init(&control->sample_timer, on_sample_timer);
    io_timer_init(&control->accounts_timer, on_accounts_timer);
    io_timer_init(&control->end_timer, on_end_timer);
    control->actor.turn = control_turn;
    control->actor.is_busy = control_is_busy;
    io_attach(io, &control->actor);
    return control;
}

static void *copy_of(const void *data, size_t bytes)
{
    void *copy = mem_alloc(bytes);

    if (bytes > 0)
        memcpy(copy, data, bytes);
    return copy;
}

void control_wire(struct control *control, const struct control_wiring *wiring)
{
    size_t boxes_bytes = control->shard_count * sizeof(wiring->to_shards[0]);

    control->wiring = *wiring;
    control->reader = spool_reader_create(control->io, wiring->spool);
    control->wiring.to_shards = copy_of(wiring->to_shards, boxes_bytes);
    control->wiring.from_shards = copy_of(wiring->from_shards, boxes_bytes);
    control->wiring.loops = copy_of(wiring->loops, wiring->loop_count * sizeof(wiring->loops[0]));
    control_reload_wire(control);
    control_keys_wire(control);
    for (uint16_t i = 0; i < control->shard_count; i++)
        mailbox_listen(control->wiring.from_shards[i], on_shard_parcel, control);
    mailbox_listen(control->wiring.from_spool, on_spool_parcel, control);
    io_timer_arm(control->io, &control->sample_timer, io_now_ns(control->io));
}

void control_destroy(struct control *control)
{
    if (control == NULL)
        return;
    accounts_close(control);
    control_keys_fini(control);
    control_reload_fini(control);
    control_tls_report_fini(control);
    control_ips_fini(control);
    control_sts_fini(control);
    spool_reader_destroy(control->reader);
    mem_free((void *)(uintptr_t)control->wiring.to_shards);
    mem_free((void *)(uintptr_t)control->wiring.from_shards);
    mem_free((void *)(uintptr_t)control->wiring.loops);
    mem_free(control->socket_path);
    conf_unref(control->conf);
    mem_free(control);
}
