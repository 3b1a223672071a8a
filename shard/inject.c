/*
 * The intake table of a shard: what an SMTP session calls to hand over a message.
 *
 * Order of a message's memory: recipients are gathered in a first buffer of their own; when the
 * body begins, the envelope is encoded into the payload's first buffer with them, the Received
 * field follows as header prefix, then the body as it arrives. At the end the envelope is encoded
 * again in place with the final counts: all its numbers have fixed width, so its size stands.
 */
#include "core/base/err.h"
#include "core/base/log.h"
#include "core/base/regex.h"
#include "shard/inject_int.h"

void inject_reply(struct intake_reply *reply, uint16_t code, uint8_t subject, uint8_t detail,
                  const char *text)
{
    struct text room = text_in(reply->text, sizeof(reply->text));

    reply->code = code;
    reply->enhanced[0] = (uint8_t)(code / 100);
    reply->enhanced[1] = subject;
    reply->enhanced[2] = detail;
    text_put_str(&room, text);
    text_end(&room);
}

void inject_format_id(uint64_t id, char *room)
{
    static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

    for (int i = 12; i >= 0; i--) {
        room[i] = digits[id & 31];
        id >>= 5;
    }
    room[13] = '\0';
}

/* RFC 5321 4.2.3 and RFC 3463 3.4: space is a matter of its own, everything else is ours. */
static void reply_no_spool(struct intake_reply *reply, int error)
{
    if (error == E_LOW_SPACE)
        inject_reply(reply, 452, 3, 1, "too little disk space, try again later");
    else
        inject_reply(reply, 451, 3, 0, "the disk takes no mail at present, try again later");
}

/* Over all shards. */
static bool is_queue_full(const struct shard *shard)
{
    uint64_t max = conf_global(shard->conf)->spool_rcpts_max, sum = 0;

    for (uint16_t i = 0; max > 0 && i < shard->count; i++)
        sum += atomic_load_explicit(&shard->wiring.loads[i].rcpt_count, memory_order_relaxed);
    return max > 0 && sum >= max;
}

/* Looked at once a second at most. */
static bool is_memory_short(struct shard *shard)
{
    uint32_t percent_max = conf_global(shard->conf)->memory_percent_max;
    uint64_t now_ns = io_now_ns(shard->io);

    if (percent_max >= 100)
        return false;
    if (shard->memory_seen_ns == 0 || now_ns - shard->memory_seen_ns >= 1000000000) {
        shard->memory_seen_ns = now_ns;
        /* A system that does not say does not stop the mail. */
        if (io_memory_used(shard->io, &shard->memory_percent) < 0)
            shard->memory_percent = 0;
    }
    return shard->memory_percent > percent_max;
}

/* Why new mail cannot be taken now; false when it can. */
static bool under_pressure(const struct shard *shard, struct intake_reply *reply)
{
    struct spool_trouble trouble;

    spool_trouble_read(shard->wiring.spool, &trouble);
    if (shard->stopping)
        inject_reply(reply, 421, 3, 2, "the system is shutting down");
    else if (trouble.health == SPOOL_POISONED || spool_health_is_short(trouble.health))
        reply_no_spool(reply, trouble.error);
    else if (shard->pool.bytes_used + (shard->pool.bytes_max >> 4) > shard->pool.bytes_max)
        inject_reply(reply, 452, 3, 1, "too little memory, try again later");
    else if (is_queue_full(shard))
        inject_reply(reply, 452, 3, 1, "too many recipients are queued, try again later");
    else
        return false;
    return true;
}

static int intake_admit(void *taker, const struct ipaddr_port *peer,
                        const struct ipaddr_port *local, const char *listener_source,
                        const struct conf_source **ret_source, uint64_t *ret_pass,
                        struct intake_reply *ret_reply)
{
    struct shard *shard = taker;
    const struct conf_source *source = conf_source(shard->conf, &peer->ip, listener_source);
    struct guest guest;

    if (shard->stopping) {
        inject_reply(ret_reply, 421, 3, 2, "the system is shutting down");
        return E_CLOSED;
    }
    if (!source->smtp_service) {
        inject_reply(ret_reply, 554, 7, 1, "no SMTP service for this address");
        return E_REFUSED;
    }
    if (!door_enter(shard, source, &guest)) {
        inject_reply(ret_reply, 421, 3, 2, "too many sessions, try again later");
        return E_FULL;
    }
    *ret_source = source;
    *ret_pass = (uint64_t)guest.group_id << 1 | guest.is_reserved;
    return 0;
}

static void intake_secure(void *taker, const struct ipaddr_port *local, struct intake_tls *ret_tls)
{
    struct shard *shard = taker;
    const struct conf_tls_in *tls = conf_tls_in(shard->conf, local);
    const struct context_terms terms = {
        .is_server = true,
        .certificate = tls->certificate,
        .authorities = tls->authorities,
        .ciphers = tls->ciphers,
        .versions = conf_tls_versions(tls),
        .asks = conf_asks_certificates(shard->conf),
        .verifies = tls->authorities != NULL,
    };

    ret_tls->is_immediate = tls->is_immediate;
    ret_tls->context = tls->certificate ? contexts_get(shard, &terms) : NULL;
}

static const struct conf_source *intake_settings(void *taker, const struct ipaddr_port *peer,
                                                 const char *listener_source)
{
    const struct shard *shard = taker;

    return conf_source(shard->conf, &peer->ip, listener_source);
}

static void intake_leave(void *taker, uint64_t pass)
{
    door_leave(taker, (struct guest){.group_id = (uint32_t)(pass >> 1), .is_reserved = pass & 1});
}

/*
 * A session keeps the settings that it came in with, but not what a reload has taken from its
 * client since: the login, the service, the right to relay, how much it may inject. False with the
 * reply when there is nothing left.
 */
static bool is_still_welcome(const struct shard *shard, const struct intake_client *client,
                             struct conf_source *source, struct intake_reply *reply)
{
    const struct conf *conf = shard->conf;
    const struct conf_source *now = conf_source(conf, &client->peer.ip, client->listener_source);
    const struct conf_smtp_user *user =
        client->user ? conf_smtp_user(conf, slice_str(client->user)) : NULL;

    if ((client->type.len == 0 && !now->smtp_service) ||
        (client->user && (!user || conf_login_key(conf, user) != source->login_key))) {
        inject_reply(reply, 421, 7, 0, "what this client may do has changed, connect again");
        return false;
    }
    source->always_allow_relaying &= now->always_allow_relaying;
    source->require_auth |= now->require_auth;
    source->max_rcpt_in_rate = now->max_rcpt_in_rate;
    source->rcpt_in_key = now->rcpt_in_key;
    if (user)
        login_bound(user, source);
    /* Lists, and what is said of headers, are looked up in the newest configuration. */
    source->has_lists |= now->has_lists;
    source->needs_header |= now->needs_header;
    return true;
}

const struct conf_source *inject_source(const struct intake_message *intake)
{
    return conf_source(intake->shard->conf, &intake->client_ip, intake->listener_source);
}

static void take_turn(struct intake_message *intake, const struct conf_pool *pool)
{
    struct shard *shard = intake->shard;
    uint32_t *turn = &shard->pool_turns[pool->id % shard->pool_turn_count];

    intake->pool_id = pool->id;
    intake->vmta_id = pool->vmta_ids[(*turn)++ % pool->vmta_count];
}

/* The session's settings; where a reload has taken away the way out that they name, those that the
 * source has now. */
static const struct conf_source *source_with_way(const struct intake_message *intake)
{
    const struct conf *conf = intake->shard->conf;
    const struct conf_source *source = &intake->source;
    bool has_pool = source->default_pool == CONF_NONE || conf_pool(conf, source->default_pool);
    bool has_vmta =
        source->default_virtual_mta == CONF_NONE || conf_vmta(conf, source->default_virtual_mta);

    return has_pool && has_vmta ? source : inject_source(intake);
}

void inject_choose_default(struct intake_message *intake)
{
    const struct conf *conf = intake->shard->conf;
    const struct conf_source *source = source_with_way(intake);
    const struct conf_pool *pool =
        source->default_pool == CONF_NONE ? NULL : conf_pool(conf, source->default_pool);
    const struct conf_vmta *vmta =
        source->default_by_local_ip ? conf_vmta_of_address(conf, &intake->local_ip) : NULL;

    intake->pool_id = CONF_NONE;
    if (pool && pool->vmta_count > 0)
        take_turn(intake, pool);
    else if (source->default_virtual_mta != CONF_NONE)
        intake->vmta_id = source->default_virtual_mta;
    else
        intake->vmta_id = vmta ? vmta->id : conf_vmta_at(conf, 0)->id;
}

bool inject_choose_named(struct intake_message *intake, struct slice name)
{
    const struct conf *conf = intake->shard->conf;
    const struct conf_vmta *vmta = conf_vmta_named(conf, name);
    const struct conf_pool *pool = vmta ? NULL : conf_pool_named(conf, name);

    intake->pool_id = CONF_NONE;
    if (vmta)
        intake->vmta_id = vmta->id;
    else if (pool && pool->vmta_count > 0)
        take_turn(intake, pool);
    else
        return false;
    return true;
}

/* Copies a text into the intake's own room and moves on. */
static struct slice keep_text(struct intake_message *intake, size_t *at, struct slice text)
{
    size_t room = sizeof(intake->text) - *at;
    size_t len = text.len < room ? text.len : room;
    char *copy = intake->text + *at;

    if (len > 0)
        memcpy(copy, text.data, len);
    *at += len;
    return slice_of(copy, len);
}

void inject_free(struct intake_message *intake)
{
    struct shard *shard = intake->shard;

    inject_chunks_release(intake);
    inject_check_release(intake);
    inject_verify_release(intake);
    inject_hold_release(intake);
    inject_sign_release(intake);
    inject_gate_release(intake);
    home_unreserve(shard, intake->reserved);
    message_free(intake->message);
    slab_free(&shard->intakes, intake->index);
}

void inject_end(struct intake_message *intake)
{
    if (inject_is_chunked(intake))
        inject_chunks_end(intake);
    else
        inject_free(intake);
}

static int intake_begin(void *taker, const struct intake_client *client,
                        const struct address *sender, const struct intake_params *params,
                        struct intake_message **ret_message, struct intake_reply *ret_reply)
{
    struct shard *shard = taker;
    struct intake_message *intake;
    struct address qualified;
    char room[ADDRESS_PATH_MAX];
    size_t at = 0;
    struct conf_source source = *client->source;
    uint32_t index;

    if (under_pressure(shard, ret_reply))
        return E_FULL;
    if (!is_still_welcome(shard, client, &source, ret_reply))
        return E_REFUSED;
    if (is_memory_short(shard)) {
        inject_reply(ret_reply, 452, 3, 2, "too much of the machine's memory is in use, try later");
        return E_FULL;
    }
    intake = slab_alloc(&shard->intakes, &index);
    if (!intake) {
        inject_reply(ret_reply, 452, 3, 1, "too many messages, try again later");
        return E_FULL;
    }
    intake->index = index;
    intake->shard = shard;
    intake->message = message_alloc(&shard->pool);
    if (!intake->message || message_buffer_add(intake->message, 1) < 0) {
        message_free(intake->message);
        slab_free(&shard->intakes, index);
        inject_reply(ret_reply, 452, 3, 1, "too little memory, try again later");
        return E_FULL;
    }
    intake->source = source;
    if (inject_qualify(intake, sender, room, &qualified))
        sender = &qualified;
    intake->sender = keep_text(intake, &at, sender->text);
    intake->helo = keep_text(intake, &at, client->helo);
    intake->envelope_id = keep_text(intake, &at, params->envelope_id);
    intake->client_ip = client->peer.ip;
    intake->local_ip = client->local.ip;
    intake->flags = (params->smtputf8 ? ENVELOPE_SMTPUTF8 : 0) |
                    (params->body_8bitmime ? ENVELOPE_BODY_8BITMIME : 0) |
                    (params->ret != INTAKE_RETURN_UNSAID ? ENVELOPE_RETURN_SAID : 0) |
                    (params->ret == INTAKE_RETURN_FULL ? ENVELOPE_RETURN_FULL : 0);
    intake->priority = ENVELOPE_PRIORITY_NORMAL;
    intake->listener_source = client->listener_source;
    intake->type = client->type.len > 0 ? client->type : SLICE_LITERAL("smtp");
    intake->is_esmtp = client->esmtp;
    intake->is_secured = client->is_secured;
    intake->user = client->user;
    intake->verifies = intake->source.check_dkim && client->type.len == 0;
    if (!inject_check_begin(intake, client, sender)) {
        inject_free(intake);
        inject_reply(ret_reply, 452, 3, 1, "too many messages are being checked, try again later");
        return E_FULL;
    }
    *ret_message = intake;
    return 0;
}

/* The recipients' buffer is the message's first one until the body starts; it moves to a larger
 * class when it is full. */
int inject_rcpt_room(struct intake_message *intake, size_t bytes)
{
    struct message *message = intake->message;
    struct message_buffer *buffer = &message->buffers[0];

    if (buffer->size - buffer->used >= bytes)
        return 0;
    if (message_buffer_add(message, buffer->size * 4) < 0)
        return E_FULL;
    memcpy(message->buffers[1].data, buffer->data, buffer->used);
    message->buffers[1].used = buffer->used;
    message_buffer_drop_first(message);
    return 0;
}

/* Whether the client may send to the address at all: 0, or negative with the reply. */
static int may_relay(const struct intake_message *intake, struct slice rcpt,
                     struct intake_reply *ret_reply)
{
    const struct slice *targets;

    bool may_send = !intake->source.require_auth || intake->user;

    if (intake->source.always_allow_relaying && may_send)
        return 0;
    if (inject_lists_relay(intake, rcpt) || conf_alias(intake->shard->conf, rcpt, &targets) > 0)
        return 0;
    if (!may_send)
        /* RFC 4954 section 6. To take the mail all the same would make an open relay. */
        inject_reply(ret_reply, 530, 7, 0, "authentication required");
    else if (conf_global(intake->shard->conf)->relay_debug)
        inject_reply(ret_reply, 450, 7, 1, "relaying denied, for now (relay-debug)");
    else
        inject_reply(ret_reply, 550, 7, 1, "relaying denied");
    return E_REFUSED;
}

/* The recipient goes into the sender's address, so there is one. 0, or negative with the reply. */
static int judge_verp(const struct intake_message *intake, struct slice rcpt,
                      struct intake_reply *ret_reply)
{
    const struct slice *targets;

    if (!intake->source.verp_default || intake->sender.len == 0)
        return 0;
    if (conf_alias(intake->shard->conf, rcpt, &targets) > 1) {
        inject_reply(ret_reply, 550, 3, 5,
                     "an alias of several addresses cannot have verp-default");
        return E_REFUSED;
    }
    if (intake->rcpt_count > 0) {
        inject_reply(ret_reply, 452, 5, 3,
                     "one recipient a message, send this one in a transaction of its own");
        return E_REFUSED;
    }
    return 0;
}

static int intake_add_rcpt(struct intake_message *intake, const struct intake_client *client,
                           const struct address *rcpt, const struct intake_params *params,
                           struct intake_reply *ret_reply)
{
    struct address qualified;
    char room[ADDRESS_PATH_MAX];
    int result;

    /* First of all: everything below is about where the mail would go. */
    if (inject_qualify(intake, rcpt, room, &qualified))
        rcpt = &qualified;
    result = may_relay(intake, rcpt->text, ret_reply);
    if (result == 0)
        result = judge_verp(intake, rcpt->text, ret_reply);
    if (result == 0 && intake->source.has_lists)
        result = inject_lists_rcpt(intake, rcpt, ret_reply);
    if (result < 0)
        return result;
    if (rcpt->is_local_only) {
        inject_reply(ret_reply, 550, 1, 1, "no local mailboxes here, give a domain");
        return E_REFUSED;
    }
    if (intake->rcpt_count >= intake->source.max_rcpt_per_message ||
        intake->rcpt_count >= ENVELOPE_RCPT_COUNT_MAX) {
        inject_reply(ret_reply, 452, 5, 3, "too many recipients");
        return E_FULL;
    }
    if (inject_put_aliased(intake, rcpt, params) < 0) {
        inject_reply(ret_reply, 452, 3, 1, "the queue is full, try again later");
        return E_FULL;
    }
    (void)client;
    return 0;
}

static uint32_t notice_flags(const struct intake_message *intake)
{
    const struct conf_source *source = &intake->source;
    bool is_full =
        (intake->flags & ENVELOPE_RETURN_SAID) == 0 && source->dsn_return_default == CONF_DSN_FULL;

    return (source->suppress_local_dsn ? ENVELOPE_NO_DSN : 0u) |
           (is_full ? ENVELOPE_RETURN_FULL : 0u);
}

static void fill_envelope(struct intake_message *intake, struct slice rcpts)
{
    struct shard *shard = intake->shard;
    const struct conf_pool *pool =
        intake->pool_id == CONF_NONE ? NULL : conf_pool(shard->conf, intake->pool_id);
    intake->message->envelope = (struct envelope){
        .message_id = intake->id,
        .accepted_us = intake->wall_us,
        .flags = intake->flags | notice_flags(intake) | envelope_priority_flags(intake->priority),
        .rcpt_count = intake->rcpt_count,
        .client_ip = intake->client_ip,
        .local_ip = intake->local_ip,
        .sender = intake->sender,
        .vmta = slice_str(conf_vmta_name(shard->conf, intake->vmta_id)),
        .pool = pool ? slice_str(pool->name) : SLICE_EMPTY,
        .job_id = intake->job_id,
        .envelope_id = intake->envelope_id,
        .terms = intake->terms,
        .source_type = intake->type,
        .client_helo = intake->helo,
        .rcpts = rcpts,
        .headers = intake->headers,
        .user = intake->user ? slice_str(intake->user) : SLICE_EMPTY,
        .signatures = intake->signatures,
    };
}

int inject_begin_content(struct intake_message *intake)
{
    struct message *message = intake->message;
    struct message_buffer *rcpts = &message->buffers[0];
    struct message_buffer *first;
    struct wire_writer w;
    char by_source[ADDRESS_PATH_MAX - 2], by_vmta[ADDRESS_PATH_MAX - 2], verp[ADDRESS_PATH_MAX];

    inject_rewrite(intake, by_source, by_vmta, sizeof(by_vmta));
    if (intake->source.verp_default)
        intake->sender = inject_verp(intake, verp);
    if (intake->source.bcc && inject_put_bcc(intake) < 0)
        return E_FULL;
    fill_envelope(intake, slice_of(rcpts->data, rcpts->used));
    if (message_buffer_add(message, (uint32_t)envelope_bytes_max(&message->envelope)) < 0)
        return E_FULL;
    first = &message->buffers[1];
    wire_writer_init(&w, first->data, first->size);
    envelope_encode(&message->envelope, &w);
    must(!w.failed);
    first->used = (uint32_t)wire_written(&w);
    message_buffer_drop_first(message);
    message->bytes = first->used;
    must(envelope_decode(slice_of(message->buffers[0].data, message->buffers[0].used),
                         &message->envelope) == 0);
    intake->sender = message->envelope.sender;
    intake->chunks.octets_max = intake->shard->chunk_octets;
    return inject_prefix_write(intake);
}

static int intake_start_body(struct intake_message *intake, const struct intake_client *client,
                             intake_resume_fn *resume, void *asker, uint64_t cookie,
                             struct intake_reply *ret_reply)
{
    struct shard *shard = intake->shard;
    uint32_t noted_count;

    intake->wall_us = io_wall_us(shard->io);
    intake->id = shard->next_id++;
    intake->failure = 0;
    intake->asker = asker;
    intake->cookie = cookie;
    intake->chunks.resume = resume;
    conf_noted_headers(shard->conf, &noted_count);
    intake->hold.is_on = intake->source.needs_header || noted_count > 0 || conf_signs(shard->conf);
    intake->is_header_done = intake->hold.is_on;
    (void)client;
    if (intake->hold.is_on)
        return 0;
    if (!intake->source.has_lists || !inject_lists_choose(intake, NULL, NULL))
        inject_choose_default(intake);
    intake->additions = intake->source.add_x_virtual_mta_header ? INTAKE_ADD_VMTA : 0;
    intake->failure = inject_begin_content(intake);
    /* Nothing was encoded, so there is nothing that could take octets. */
    if (intake->message->envelope.encoded_bytes == 0) {
        inject_reply(ret_reply, 452, 3, 1, "too little memory, try again later");
        return E_FULL;
    }
    return 0;
}

int inject_body_write(struct intake_message *intake, const uint8_t *data, size_t len)
{
    inject_sign_body(intake, data, len);
    inject_verify_body(intake, data, len);
    return inject_chunks_write(intake, data, len);
}

static int intake_write(struct intake_message *intake, const uint8_t *data, size_t len)
{
    int result;

    if (intake->failure < 0)
        return intake->failure;
    if (intake->message->bytes + len > MESSAGE_BYTES_MAX)
        result = E_TOO_LONG;
    else if (intake->hold.is_on)
        result = inject_hold_write(intake, data, len);
    else
        result = inject_body_write(intake, data, len);
    if (result < 0)
        intake->failure = result;
    return result;
}

void inject_answer(struct intake_message *intake, const struct intake_reply *reply)
{
    if (reply->code / 100 != 2)
        intake->shard->totals.refused_messages++;
    intake->answer(intake->asker, intake->cookie, reply);
    if (!inject_gate_settle(intake, reply->code == 250))
        inject_end(intake);
}

/* Header octets looked at for loops; a header beyond them is not a loop but an oddity. */
#define LOOP_SCAN_BYTES 65536

static uint64_t count_received(struct slice octets, enum header_end *ret_end)
{
    struct header_walk walk;
    struct header_field field;
    uint64_t count = 0;

    header_walk_init(&walk, octets, false);
    while (header_walk_next(&walk, &field))
        count += slice_equal_nocase(field.name, SLICE_LITERAL("Received"));
    *ret_end = walk.end;
    return count;
}

/* RFC 5321 6.3: a message that has come through too many hosts is in a loop (A30). */
bool inject_is_looping(struct intake_message *intake)
{
    const struct message *message = intake->message;
    const struct message_buffer *first = &message->buffers[0];
    size_t skip = message->envelope.encoded_bytes + message->envelope.prefix_bytes;
    enum header_end end = HEADER_GOES_ON;
    uint64_t hops = 0;
    uint8_t *copy;
    size_t used;

    if (skip < first->used)
        hops = count_received(slice_of(first->data + skip, first->used - skip), &end);
    if (end != HEADER_GOES_ON || message->buffer_count == 1)
        return hops > intake->source.max_message_hops;
    /* The header runs over several buffers: rare enough to be put together for the walk. */
    copy = home_scratch(intake->shard, LOOP_SCAN_BYTES);
    if (!copy)
        return false;
    used = message_copy(message, skip, copy, LOOP_SCAN_BYTES);
    return count_received(slice_of(copy, used), &end) > intake->source.max_message_hops;
}

static void finish_envelope(struct intake_message *intake, const struct intake_body_facts *facts)
{
    struct message *message = intake->message;
    struct envelope *envelope = &message->envelope;
    struct wire_writer w;

    envelope->stuffed_dots = facts->stuffed_dots;
    envelope->body_bytes = message->bytes - envelope->encoded_bytes - envelope->prefix_bytes;
    envelope->flags |= facts->has_8bit ? ENVELOPE_8BIT : 0;
    wire_writer_init(&w, message->buffers[0].data, envelope->encoded_bytes);
    envelope_encode_counts(envelope, &w);
    must(!w.failed);
}

/* Why the message is not taken, once all of it is here; false when it is. */
static bool is_refused(struct intake_message *intake, struct intake_reply *reply)
{
    if (intake->failure == E_REFUSED)
        inject_reply(reply, intake->refusal.code, intake->refusal.subject, intake->refusal.detail,
                     intake->refusal.text);
    else if (intake->failure == E_TOO_LONG)
        inject_reply(reply, 552, 3, 4, "message is larger than this system takes");
    else if (intake->failure == E_FULL)
        inject_reply(reply, 452, 3, 1, "too little memory, try again later");
    else if (intake->failure == E_LOW_SPACE)
        reply_no_spool(reply, E_LOW_SPACE);
    else if (intake->failure < 0)
        inject_reply(reply, 451, 3, 0, "could not be stored, try again later");
    else if (intake->is_looping)
        inject_reply(reply, 554, 4, 6, "too many hops, this message loops");
    else
        return under_pressure(intake->shard, reply);
    return true;
}

static void fill_append(struct intake_message *intake)
{
    struct message *message = intake->message;

    message->append = (struct log_request){
        .parcel = {.kind = SPOOL_APPEND_MESSAGE, .from = intake->shard->wiring.spool_client},
        .payload = message->payload,
        .payload_count = message_payload(message),
        .payload_bytes = message->bytes,
        .message_id = message->envelope.message_id,
    };
}

void inject_append(struct intake_message *intake)
{
    struct shard *shard = intake->shard;

    if (inject_is_chunked(intake))
        inject_chunks_commit(intake);
    else
        fill_append(intake);
    intake->message->intake = intake;
    list_init(&intake->message->append.link);
    shard->append_count++;
    mailbox_post(shard->wiring.to_spool, &intake->message->append.parcel);
}

void inject_finish_chunked(struct intake_message *intake)
{
    struct intake_reply reply;

    if (is_refused(intake, &reply)) {
        inject_answer(intake, &reply);
        return;
    }
    inject_gate_pass(intake);
}

static void finish_content(struct intake_message *intake)
{
    if (intake->hold.is_on && intake->failure == 0)
        intake->failure = inject_hold_finish(intake);
    if (intake->message->envelope.encoded_bytes > 0)
        finish_envelope(intake, &intake->facts);
    if (!inject_verify_wait(intake))
        inject_on_verified(intake);
}

void inject_on_verified(struct intake_message *intake)
{
    if (!inject_sign_wait(intake))
        inject_finish_signed(intake);
}

static void intake_finish(struct intake_message *intake, const struct intake_body_facts *facts,
                          intake_answer_fn *answer, void *asker, uint64_t cookie)
{
    intake->answer = answer;
    intake->asker = asker;
    intake->cookie = cookie;
    intake->facts = *facts;
    if (intake->failure == 0 && inject_check_is_open(intake)) {
        intake->is_finishing = true;
        intake->shard->append_count++;
        return;
    }
    finish_content(intake);
}

void inject_on_checked(struct intake_message *intake)
{
    int result;

    if (intake->is_finishing) {
        must(intake->shard->append_count > 0);
        intake->shard->append_count--;
        finish_content(intake);
        return;
    }
    if (!intake->hold.is_ready)
        return;
    result = intake->failure < 0 ? intake->failure : inject_hold_let_go(intake);
    if (result < 0)
        intake->failure = result;
    /* A chunk that is on its way resumes it when it is written. */
    if (result != INTAKE_PAUSE)
        intake->chunks.resume(intake->asker, intake->cookie);
}

void inject_finish_signed(struct intake_message *intake)
{
    struct intake_reply reply;

    if (inject_is_chunked(intake)) {
        inject_chunks_finish(intake);
        return;
    }
    if (!intake->is_header_done)
        intake->is_looping = inject_is_looping(intake);
    if (is_refused(intake, &reply)) {
        inject_answer(intake, &reply);
        return;
    }
    inject_gate_pass(intake);
}

static void intake_abort(struct intake_message *intake)
{
    inject_end(intake);
}

void inject_on_appended(struct shard *shard, struct message *message)
{
    struct intake_message *intake = message->intake;
    struct intake_reply reply = {0};

    must(intake && shard->append_count > 0);
    shard->append_count--;
    message->intake = NULL;
    if (message->append.status < 0 && !planted("shard/void-answered-250")) {
        /* Of a poisoned one nobody knows, so nothing is said. */
        if (message->append.status == E_LOW_SPACE)
            reply_no_spool(&reply, E_LOW_SPACE);
        else if (message->append.status != E_POISONED)
            inject_reply(&reply, 451, 3, 0, "could not be stored, try again later");
        inject_answer(intake, &reply);
        return;
    }
    inject_reply(&reply, 250, 0, 0, "ok id=");
    inject_format_id(message->envelope.message_id, reply.text + strlen(reply.text));
    shard->totals.accepted_messages++;
    shard->totals.accepted_rcpts += intake->rcpt_count;
    shard->totals.accepted_bytes += envelope_content_bytes(&message->envelope);
    inject_chunks_release(intake);
    /* The promise that home_reserve made is kept by the registration. */
    home_unreserve(shard, intake->reserved);
    intake->reserved = 0;
    intake->message = NULL;
    home_register(shard, message);
    inject_answer(intake, &reply);
}

const struct intake_ops inject_intake = {
    .note = inject_note,
    .arrive = door_arrive,
    .admit = intake_admit,
    .secure = intake_secure,
    .settings = intake_settings,
    .login = login_ask,
    .leave = intake_leave,
    .begin = intake_begin,
    .add_rcpt = intake_add_rcpt,
    .start_body = intake_start_body,
    .write = intake_write,
    .finish = intake_finish,
    .abort = intake_abort,
};

void inject_init(struct shard *shard)
{
    gate_init(&shard->gate);
    inject_check_init(shard);
    inject_verify_init(shard);
    signing_init(shard);
    login_init(shard);
    slab_init(&shard->intakes, sizeof(struct intake_message), shard->limits.session_count_max * 2);
}

void inject_fini(struct shard *shard)
{
    regex_scratch_free(shard->patterns_scratch);
    signing_fini(shard);
    inject_check_fini(shard);
    inject_verify_fini(shard);
    slab_fini(&shard->intakes);
    login_fini(shard);
    gate_fini(&shard->gate);
}
