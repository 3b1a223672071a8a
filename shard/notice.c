#include "shard/notice.h"

#include "core/base/err.h"
#include "core/base/log.h"
#include "core/mail/dsn.h"
#include "core/mail/dsn_request.h"
#include "shard/notice_sign.h"
#include "shard/planted.h"
#include "shard/settle.h"
#include "shard/shard_int.h"

#define RETRY_NS          1000000000ull
/* So long notices wait for space. A spool that is full of mail which fails would wait for ever. */
#define SPACE_WAIT_NS     60000000000ull
/* Recipients that one notice speaks of. */
#define RCPTS_MAX         64u
/* Of the original that is brought back whole; of a larger one, its header. */
#define CONTENT_BYTES_MAX 49152u

static void on_timer(struct io_timer *timer);
static void write_put_off(struct shard *shard);

void notice_init(struct shard *shard)
{
    slab_init(&shard->notices.slab, sizeof(struct notice), NOTICES_MAX);
    list_init(&shard->notices.waiting);
    list_init(&shard->notices.unwritten);
    io_timer_init(&shard->notices.timer, on_timer);
}

void notice_fini(struct shard *shard)
{
    const struct slab *slab = &shard->notices.slab;

    io_timer_stop(shard->io, &shard->notices.timer);
    for (uint32_t i = 0; i < slab->count_grown; i++)
        if (slab_is_live(slab, i))
            message_free(((struct notice *)slab_at(slab, i))->message);
    slab_fini(&shard->notices.slab);
}

bool notice_is_full(const struct shard *shard)
{
    return shard->notices.slab.count_used >= NOTICES_OPEN_MAX ||
           !list_empty(&shard->notices.unwritten);
}

static uint32_t count_links(const struct list *head)
{
    uint32_t count = 0;

    list_for_each (link, head)
        count++;
    return count;
}

uint32_t notice_held_count(const struct shard *shard)
{
    uint32_t count = count_links(&shard->notices.unwritten);

    list_for_each (link, &shard->notices.waiting)
        count += count_links(&container_of(link, struct notice, link)->held);
    return count;
}

/* ---- Appending ------------------------------------------------------------------------------- */

static void release(struct shard *shard, struct list *held)
{
    while (!list_empty(held)) {
        struct list *link = list_pop_front(held);

        settle_send_home(shard, container_of(link, struct outcome_parcel, request.link));
    }
}

static void arm(struct shard *shard)
{
    if (!io_timer_is_armed(&shard->notices.timer))
        io_timer_arm(shard->io, &shard->notices.timer, io_now_ns(shard->io) + RETRY_NS);
}

static void wait(struct shard *shard, struct notice *notice)
{
    list_push_back(&shard->notices.waiting, &notice->link);
    arm(shard);
}

static void post(struct shard *shard, struct notice *notice)
{
    struct message *message = notice->message;

    if (!home_reserve(shard, 1)) {
        wait(shard, notice);
        return;
    }
    message->append = (struct log_request){
        .parcel = {.kind = SPOOL_APPEND_MESSAGE, .from = shard->wiring.spool_client},
        .payload = message->payload,
        .payload_count = message_payload(message),
        .payload_bytes = message->bytes,
        .message_id = message->envelope.message_id,
    };
    message->home = notice->index;
    list_init(&message->append.link);
    shard->append_count++;
    mailbox_post(shard->wiring.to_spool, &message->append.parcel);
}

/* A stopped shard's spool may be gone. */
static void on_timer(struct io_timer *timer)
{
    struct shard *shard = container_of(timer, struct shard, notices.timer);
    struct list again;

    if (shard->is_stopped)
        return;
    list_init(&again);
    while (!list_empty(&shard->notices.waiting))
        list_push_back(&again, list_pop_front(&shard->notices.waiting));
    while (!list_empty(&again))
        post(shard, container_of(list_pop_front(&again), struct notice, link));
    write_put_off(shard);
}

/* Whether the spool has refused notices for want of space for so long that they are given up. */
static bool is_without_space(struct shard *shard, int status)
{
    uint64_t now_ns = io_now_ns(shard->io);

    if (status != E_LOW_SPACE)
        return false;
    /* What waits is tried again each second: a refusal after a pause is another shortage. */
    if (now_ns - shard->notices.full_at_ns > SPACE_WAIT_NS)
        shard->notices.full_since_ns = now_ns;
    shard->notices.full_at_ns = now_ns;
    return now_ns - shard->notices.full_since_ns >= SPACE_WAIT_NS;
}

/* What the notice would have told stands in the accounting. */
static void give_up(struct shard *shard, struct notice *notice)
{
    if (!shard->notices.are_given_up)
        log_error("no space for notices: senders are not told of failures until there is some");
    shard->notices.are_given_up = true;
    shard->notices.given_up++;
    release(shard, &notice->held);
    message_free(notice->message);
    slab_free(&shard->notices.slab, notice->index);
}

void notice_on_appended(struct shard *shard, struct message *message)
{
    struct notice *notice = slab_at(&shard->notices.slab, message->home);

    must(notice->message == message && shard->append_count > 0);
    shard->append_count--;
    home_unreserve(shard, 1);
    if (message->append.status < 0) {
        if (is_without_space(shard, message->append.status))
            give_up(shard, notice);
        else
            wait(shard, notice);
        return;
    }
    shard->notices.full_at_ns = 0;
    shard->notices.are_given_up = false;
    shard->notices.written++;
    shard->totals.accepted_messages++;
    shard->totals.accepted_rcpts += message->envelope.rcpt_count;
    shard->totals.accepted_bytes += envelope_content_bytes(&message->envelope);
    home_register(shard, message);
    release(shard, &notice->held);
    slab_free(&shard->notices.slab, notice->index);
}

/* ---- Composing ------------------------------------------------------------------------------- */

static struct slice way_out(const struct shard *shard, struct slice vmta)
{
    if (conf_vmta_named(shard->conf, vmta))
        return vmta;
    return slice_str(conf_vmta_name(shard->conf, CONF_VMTA_DEFAULT));
}

/* Content that was written behind the envelope and the room for signatures closes up. */
static void take_content(struct shard *shard, struct notice *notice, struct slice content,
                         const struct dsn_facts *facts)
{
    struct message *message = notice->message;
    struct message_buffer *buffer = &message->buffers[0];
    struct envelope *envelope = &message->envelope;
    bool has_room = content.data > buffer->data + buffer->used;
    struct wire_writer w;

    envelope->body_bytes = (uint32_t)content.len;
    envelope->stuffed_dots = facts->stuffed_dots;
    envelope->flags |= facts->is_8bit ? ENVELOPE_8BIT : 0;
    envelope->prefix_bytes = has_room ? notice_sign_begin(shard, notice, content) : 0;
    wire_writer_init(&w, buffer->data, buffer->used);
    envelope_encode_counts(envelope, &w);
    buffer->used += envelope->prefix_bytes;
    if (has_room)
        memmove(buffer->data + buffer->used, content.data, content.len);
    buffer->used += (uint32_t)content.len;
    message->bytes = buffer->used;
}

static void fill_envelope(struct shard *shard, const struct notice_mail *mail,
                          struct envelope *envelope)
{
    *envelope = (struct envelope){
        .message_id = shard->next_id++,
        .accepted_us = io_wall_us(shard->io),
        .flags = ENVELOPE_LOCAL | ENVELOPE_NO_DSN,
        .rcpt_count = mail->rcpt_count,
        .client_ip = {.family = IPADDR_V4, .bytes = {127, 0, 0, 1}},
        .local_ip = {.family = IPADDR_V4, .bytes = {127, 0, 0, 1}},
        .sender = mail->sender,
        .vmta = way_out(shard, mail->vmta),
        .source_type = SLICE_LITERAL("local"),
        .client_helo = slice_str(conf_global(shard->conf)->host_name),
        .rcpts = mail->rcpts,
    };
}

bool notice_send(struct shard *shard, const struct notice_mail *mail,
                 void (*write)(void *context, struct slice id, struct text *text,
                               struct dsn_facts *ret_facts),
                 void *context, struct list *held)
{
    struct message *message = message_alloc(&shard->pool);
    uint32_t sign_room = mail->is_signed && conf_signs(shard->conf) ? NOTICE_SIGN_ROOM : 0;
    uint8_t signatures[NOTICE_SIGN_RESERVE];
    struct envelope envelope;
    struct message_buffer *buffer;
    struct dsn_facts facts = {0};
    struct notice *notice;
    struct wire_writer w;
    struct text text;
    char id[14];
    uint32_t index;

    fill_envelope(shard, mail, &envelope);
    if (sign_room > 0)
        envelope.signatures = notice_sign_reserve(mail->rcpt_count, signatures);
    notice = message ? slab_alloc(&shard->notices.slab, &index) : NULL;
    if (!notice ||
        message_buffer_owe(message, (uint32_t)(envelope_bytes_max(&envelope) + sign_room +
                                               mail->content_bytes_max + 1)) < 0) {
        if (notice)
            slab_free(&shard->notices.slab, index);
        message_free(message);
        return false;
    }
    buffer = &message->buffers[0];
    wire_writer_init(&w, buffer->data, buffer->size);
    envelope_encode(&envelope, &w);
    must(!w.failed);
    buffer->used = (uint32_t)wire_written(&w);
    must(envelope_decode(slice_of(buffer->data, buffer->used), &message->envelope) == 0);
    inject_format_id(envelope.message_id, id);
    text = text_in((char *)buffer->data + buffer->used + sign_room,
                   buffer->size - buffer->used - sign_room);
    write(context, slice_str(id), &text, &facts);
    must(!text.is_cut);
    notice->message = message;
    notice->index = index;
    take_content(shard, notice, text_slice(&text), &facts);
    if (mail->must_be_signed && !notice->signing) {
        slab_free(&shard->notices.slab, index);
        message_free(message);
        return false;
    }
    list_init(&notice->link);
    list_init(&notice->held);
    while (held && !list_empty(held))
        list_push_back(&notice->held, list_pop_front(held));
    if (planted("shard/outcome-before-notice"))
        release(shard, &notice->held);
    if (notice->signing)
        notice_sign_make(notice, post);
    else
        post(shard, notice);
    return true;
}

static bool put_rcpt(const struct address *address, struct wire_writer *w)
{
    struct envelope_rcpt rcpt = {
        .address = address->text, .orcpt = SLICE_EMPTY, .host = address_host(address)};

    envelope_put_rcpt(w, &rcpt);
    return !w->failed;
}

bool notice_put_rcpt(struct slice text, struct wire_writer *w)
{
    struct address address;

    return address_parse(text, ADDRESS_ALLOW_UTF8, &address) == 0 && !address.is_local_only &&
           put_rcpt(&address, w);
}

/* ---- Reports --------------------------------------------------------------------------------- */

struct report_mail {
    struct dsn dsn;
    struct dsn_rcpt rcpts[RCPTS_MAX];
    struct iovec content[MESSAGE_IOV_MAX];
};

static void write_report(void *context, struct slice id, struct text *text,
                         struct dsn_facts *ret_facts)
{
    struct report_mail *report = context;

    report->dsn.id = id;
    dsn_write(&report->dsn, text, ret_facts);
}

static void read_outcome(const struct list *link, struct outcome *outcome)
{
    const struct outcome_parcel *parcel =
        container_of(link, const struct outcome_parcel, request.link);
    int result = outcome_decode(slice_of(parcel->iov.iov_base, parcel->iov.iov_len), outcome);

    must(result == 0);
}

static void add_rcpt(struct report_mail *report, const struct outcome *outcome)
{
    report->rcpts[report->dsn.rcpt_count++] = (struct dsn_rcpt){
        .address = outcome->rcpt,
        .orcpt = outcome->orcpt,
        .status = outcome->status,
        .diagnostic = outcome->diag,
        .remote_mta = outcome->dsn_mta,
        .remote_ip = outcome->destination_ip,
        .last_attempt_us = outcome->dsn_mta.len > 0 ? outcome->logged_us : 0,
    };
}

static struct slice template(const char *text)
{
    return text ? slice_str(text) : SLICE_EMPTY;
}

static void fill_report(struct shard *shard, const struct outcome *first,
                        const struct conf_queue *settings, struct report_mail *report)
{
    const struct conf_global *global = conf_global(shard->conf);
    bool is_failure = first->kind == OUTCOME_BOUNCED;
    const char *from =
        is_failure && global->dsn_failed_from ? global->dsn_failed_from : global->custom_dsn_from;

    report->dsn = (struct dsn){
        .action = is_failure                         ? DSN_FAILED
                  : first->kind == OUTCOME_DELIVERED ? DSN_RELAYED
                                                     : DSN_DELAYED,
        .is_plain_text = settings->dsn_plain_text,
        .host = slice_str(global->host_name),
        .now_us = io_wall_us(shard->io),
        .arrival_us = first->queued_us,
        .sender = first->orig,
        .envelope_id = first->envelope_id,
        .from = template(from),
        .subject = is_failure ? template(global->dsn_failed_subject) : SLICE_EMPTY,
        .body = is_failure ? global->dsn_failed_body : SLICE_EMPTY,
        .rcpts = report->rcpts,
    };
}

/* What comes back of the original; of one that was read back in chunks nothing is at hand. */
static void add_content(const struct delivery *delivery, struct report_mail *report)
{
    const struct message *message = delivery->message;
    const struct envelope *envelope = &message->envelope;
    uint64_t octets = envelope_content_bytes(envelope) + envelope->stuffed_dots;

    if (delivery->feed || delivery->place.large > 0 || message->is_partial)
        return;
    /* RFC 3461 4.3: RET is about failures alone. */
    report->dsn.returns_content = report->dsn.action == DSN_FAILED &&
                                  (envelope->flags & ENVELOPE_RETURN_FULL) != 0 &&
                                  octets <= CONTENT_BYTES_MAX;
    report->dsn.content_is_8bit = (envelope->flags & ENVELOPE_8BIT) != 0;
    report->dsn.content = report->content;
    report->dsn.content_count = message_content(message, report->content);
}

/* No memory: the outcomes wait, and what they say themselves will be told later. */
static void put_off(struct shard *shard, struct list *group)
{
    while (!list_empty(group))
        list_push_back(&shard->notices.unwritten, list_pop_front(group));
    arm(shard);
}

/* Writes one notice of the outcomes in group, all of a kind; delivered and failed ones wait for it.
 * delivery: NULL = it is gone. */
static void send_report(struct shard *shard, const struct delivery *delivery, struct list *group)
{
    uint8_t rcpt_room[ADDRESS_PATH_MAX + ADDRESS_HOST_MAX + 16];
    struct conf_queue settings;
    struct address address;
    struct outcome outcome;
    struct report_mail report;
    struct notice_mail mail;
    struct wire_writer w;

    read_outcome(group->next, &outcome);
    wire_writer_init(&w, rcpt_room, sizeof(rcpt_room));
    if (planted("shard/failure-without-notice") ||
        address_parse(outcome.orig, ADDRESS_ALLOW_UTF8 | ADDRESS_ALLOW_LONG_LOCAL, &address) < 0 ||
        !put_rcpt(&address, &w)) {
        release(shard, group);
        return;
    }
    conf_queue(shard->conf, address_host(&address), conf_vmta_id(shard->conf, outcome.vmta),
               &settings);
    if (!settings.deliver_local_dsn) {
        release(shard, group);
        return;
    }
    fill_report(shard, &outcome, &settings, &report);
    if (delivery)
        add_content(delivery, &report);
    mail = (struct notice_mail){
        .sender = SLICE_EMPTY,
        .rcpts = slice_of(rcpt_room, wire_written(&w)),
        .rcpt_count = 1,
        .vmta = outcome.vmta,
        .is_signed = true,
    };
    list_for_each (link, group) {
        read_outcome(link, &outcome);
        add_rcpt(&report, &outcome);
    }
    mail.content_bytes_max = dsn_bytes_max(&report.dsn);
    if (report.dsn.action == DSN_DELAYED) {
        if (!notice_send(shard, &mail, write_report, &report, NULL))
            shard->notices.lost++;
        release(shard, group);
    } else if (!notice_send(shard, &mail, write_report, &report, group)) {
        put_off(shard, group);
    }
}

static void write_put_off(struct shard *shard)
{
    struct list all, one;

    list_init(&all);
    while (!list_empty(&shard->notices.unwritten))
        list_push_back(&all, list_pop_front(&shard->notices.unwritten));
    while (!list_empty(&all)) {
        list_init(&one);
        list_push_back(&one, list_pop_front(&all));
        send_report(shard, NULL, &one);
    }
}

/* ---- Copies ---------------------------------------------------------------------------------- */

struct copy {
    const struct message *message;
    struct iovec content[MESSAGE_IOV_MAX];
    uint32_t content_count;
};

static void write_copy(void *context, struct slice id, struct text *text,
                       struct dsn_facts *ret_facts)
{
    const struct copy *copy = context;
    const struct envelope *envelope = &copy->message->envelope;

    (void)id;
    for (uint32_t i = 0; i < copy->content_count; i++)
        text_put(text, slice_of(copy->content[i].iov_base, copy->content[i].iov_len));
    *ret_facts = (struct dsn_facts){.stuffed_dots = envelope->stuffed_dots,
                                    .is_8bit = (envelope->flags & ENVELOPE_8BIT) != 0};
}

/* One copy, whatever number of recipients the receiver took the message for. */
static void send_copy(struct shard *shard, const struct delivery *delivery, struct list *group)
{
    const struct queue *queue = slab_at(&shard->queues, delivery->queue);
    const struct envelope *envelope = &delivery->message->envelope;
    const char *bcc = queue->settings.bcc_upon_delivery;
    uint8_t rcpt_room[ADDRESS_PATH_MAX + ADDRESS_HOST_MAX + 16];
    struct copy copy = {.message = delivery->message};
    struct notice_mail mail;
    struct wire_writer w;
    uint64_t bytes = envelope_content_bytes(envelope) + envelope->stuffed_dots;

    wire_writer_init(&w, rcpt_room, sizeof(rcpt_room));
    if (!bcc || bytes > CONTENT_BYTES_MAX || delivery->feed || delivery->place.large > 0 ||
        delivery->message->is_partial || !notice_put_rcpt(slice_str(bcc), &w)) {
        if (bcc)
            log_warn("no copy of a message for %s: it is larger than 48 KB", bcc);
        release(shard, group);
        return;
    }
    copy.content_count = message_content(delivery->message, copy.content);
    mail = (struct notice_mail){
        .sender = SLICE_EMPTY,
        .rcpts = slice_of(rcpt_room, wire_written(&w)),
        .rcpt_count = 1,
        .vmta = envelope->vmta,
        .content_bytes_max = bytes,
    };
    if (!notice_send(shard, &mail, write_copy, &copy, group)) {
        shard->notices.lost++;
        log_error("no memory for a copy of a message for %s", bcc);
        release(shard, group);
    }
}

/* ---- Deliveries ------------------------------------------------------------------------------ */

/*
 * Whether the time for a notice of delay comes before the next attempt: a multiple of the interval
 * since the message was accepted. So each interval has one notice, and nothing must be remembered.
 */
static bool is_told_of_delay(const struct conf_queue *settings, const struct outcome *outcome)
{
    uint64_t every_us = settings->notify_of_delay_ms * 1000, accepted_us = outcome->queued_us;

    if (settings->notify_of_delay_ms == 0 || settings->notify_of_delay_ms == CONF_UNLIMITED ||
        outcome->logged_us < accepted_us)
        return false;
    return (outcome->due_us - accepted_us) / every_us >
           (outcome->logged_us - accepted_us) / every_us;
}

enum notice_want notice_wanted(const struct conf_queue *settings, const struct outcome *outcome,
                               const struct settle_facts *facts)
{
    uint32_t flags = facts->message ? facts->message->envelope.flags : ENVELOPE_LOCAL;
    uint8_t notify = facts->notify;

    if ((outcome->flags & (OUTCOME_BY_OPERATOR | OUTCOME_DISCARDED)) || (flags & ENVELOPE_LOCAL))
        return NOTICE_NONE;
    if (outcome->kind == OUTCOME_DELIVERED && settings->bcc_upon_delivery)
        return NOTICE_COPY;
    if ((flags & ENVELOPE_NO_DSN) || facts->message->envelope.sender.len == 0)
        return NOTICE_NONE;
    switch (outcome->kind) {
    case OUTCOME_DELIVERED:
        return (notify & DSN_NOTIFY_SUCCESS) && !facts->dsn_is_passed_on ? NOTICE_OF_RELAY
                                                                         : NOTICE_NONE;
    case OUTCOME_TRANSIENT:
        return (notify & DSN_NOTIFY_DELAY) && is_told_of_delay(settings, outcome) ? NOTICE_OF_DELAY
                                                                                  : NOTICE_NONE;
    default:
        return notify == 0 || (notify & DSN_NOTIFY_FAILURE) ? NOTICE_OF_FAILURE : NOTICE_NONE;
    }
}

void notice_pass(struct shard *shard, struct delivery *delivery, struct outcome_parcel *parcel)
{
    struct list delayed;

    if (parcel->notice == NOTICE_NONE) {
        settle_send_home(shard, parcel);
    } else if (parcel->notice == NOTICE_OF_DELAY) {
        list_init(&delayed);
        list_push_back(&delayed, &parcel->request.link);
        send_report(shard, delivery, &delayed);
    } else {
        list_push_back(&delivery->held, &parcel->request.link);
    }
}

/* A report of those in the group, and the group is empty. */
static void end_group(struct shard *shard, struct delivery *delivery, struct list *group,
                      uint32_t *count)
{
    if (!list_empty(group))
        send_report(shard, delivery, group);
    *count = 0;
}

void notice_end(struct shard *shard, struct delivery *delivery)
{
    struct list groups[NOTICE_COPY + 1];
    uint32_t counts[NOTICE_COPY + 1] = {0};

    if (list_empty(&delivery->held))
        return;
    for (uint32_t i = 0; i <= NOTICE_COPY; i++)
        list_init(&groups[i]);
    while (!list_empty(&delivery->held)) {
        struct list *link = list_pop_front(&delivery->held);
        uint8_t want = container_of(link, struct outcome_parcel, request.link)->notice;

        list_push_back(&groups[want], link);
        if (want != NOTICE_COPY && ++counts[want] == RCPTS_MAX)
            end_group(shard, delivery, &groups[want], &counts[want]);
    }
    end_group(shard, delivery, &groups[NOTICE_OF_FAILURE], &counts[NOTICE_OF_FAILURE]);
    end_group(shard, delivery, &groups[NOTICE_OF_RELAY], &counts[NOTICE_OF_RELAY]);
    if (!list_empty(&groups[NOTICE_COPY]))
        send_copy(shard, delivery, &groups[NOTICE_COPY]);
}
