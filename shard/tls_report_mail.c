#include "shard/tls_report_mail.h"

#include "core/mail/dsn.h"
#include "shard/shard_int.h"

#define TO_BYTES_MAX (TLSRPT_MAIL_TO_MAX * (ADDRESS_PATH_MAX + 2))

static void go_home(struct tls_report_order *order, enum tls_report_fate fate)
{
    struct shard *shard = order->shard;

    list_remove(&order->link);
    order->fate = (uint8_t)fate;
    mailbox_post(shard->wiring.to_control, &order->parcel);
}

void tls_report_mail_init(struct shard *shard)
{
    list_init(&shard->tls_report.orders);
}

void tls_report_mail_stop(struct shard *shard)
{
    while (!list_empty(&shard->tls_report.orders)) {
        struct tls_report_order *order =
            container_of(shard->tls_report.orders.next, struct tls_report_order, link);

        dns_forget(shard->dns, &order->lookup);
        go_home(order, TLS_REPORT_LATER);
    }
}

/* ---- The mail -------------------------------------------------------------------------------- */

static void write_mail(void *context, struct slice id, struct text *text,
                       struct dsn_facts *ret_facts)
{
    struct tlsrpt_mail *mail = context;

    mail->id = id;
    tlsrpt_mail_write(mail, text);
    *ret_facts = (struct dsn_facts){0};
}

/* Where the record wants it: mail addresses, encoded for the log and as a header field has them,
 * and the order's URIs. */
struct targets {
    struct wire_writer rcpts;
    struct text to;
    uint32_t rcpt_count;
};

static void take_address(struct targets *targets, struct slice address)
{
    if (targets->rcpt_count == TLSRPT_MAIL_TO_MAX || !notice_put_rcpt(address, &targets->rcpts))
        return;
    if (targets->rcpt_count++ > 0)
        text_put_literal(&targets->to, ", ");
    text_put(&targets->to, address);
}

static void take_uri(struct tls_report_order *order, struct slice uri)
{
    if (order->uri_count == TLSRPT_POST_TO_MAX)
        return;
    for (uint32_t i = 0; i < order->uri_count; i++)
        if (slice_equal(slice_str(order->uris[i]), uri))
            return;
    memcpy(order->uris[order->uri_count], uri.data, uri.len);
    order->uris[order->uri_count++][uri.len] = '\0';
}

static void take_targets(struct tls_report_order *order, struct slice rua, struct targets *targets)
{
    char room[ADDRESS_PATH_MAX];
    enum tlsrpt_scheme scheme;
    struct slice target;

    while (tlsrpt_rua_next(&rua, room, sizeof(room), &scheme, &target)) {
        if (scheme == TLSRPT_MAILTO && !order->is_mailed)
            take_address(targets, target);
        else if (scheme == TLSRPT_HTTPS)
            take_uri(order, target);
    }
}

static enum tls_report_fate send_mail(struct shard *shard, const struct tls_report_order *order,
                                      const struct targets *targets, struct slice rcpts)
{
    const struct conf_global *global = conf_global(shard->conf);
    struct notice_mail notice = {.sender = SLICE_EMPTY, .is_signed = true, .must_be_signed = true};
    struct tlsrpt_mail mail = {
        .from = slice_str(global->tls_report_from),
        .to = text_slice(&targets->to),
        .domain = slice_str(order->domain),
        .report_id = slice_str(order->report_id),
        .host = slice_str(global->host_name),
        .now_us = io_wall_us(shard->io),
        .from_s = order->from_s,
        .until_s = order->until_s,
        .content = slice_of(order->content, order->content_bytes),
    };

    mail.organization = slice_str(global->tls_report_organization ? global->tls_report_organization
                                                                  : global->tls_report_from);
    notice.rcpt_count = targets->rcpt_count;
    notice.rcpts = rcpts;
    notice.vmta = global->tls_report_vmta ? slice_str(global->tls_report_vmta) : SLICE_EMPTY;
    notice.content_bytes_max = tlsrpt_mail_bytes_max(&mail);
    return notice_send(shard, &notice, write_mail, &mail, NULL) ? TLS_REPORT_SENT
                                                                : TLS_REPORT_NOT_SIGNED;
}

static enum tls_report_fate carry_out(struct shard *shard, struct tls_report_order *order,
                                      struct slice rua)
{
    uint8_t rcpts[TLSRPT_MAIL_TO_MAX * (ADDRESS_PATH_MAX + ADDRESS_HOST_MAX + 16)];
    char to_room[TO_BYTES_MAX];
    struct targets targets = {.to = text_in(to_room, sizeof(to_room))};

    /* A reload may have ended it. */
    if (!conf_global(shard->conf)->tls_report_from)
        return TLS_REPORT_NOT_WANTED;
    wire_writer_init(&targets.rcpts, rcpts, sizeof(rcpts));
    take_targets(order, rua, &targets);
    if (targets.rcpt_count > 0)
        return send_mail(shard, order, &targets, slice_of(rcpts, wire_written(&targets.rcpts)));
    return order->uri_count > 0 || order->is_mailed ? TLS_REPORT_NO_MAIL : TLS_REPORT_NO_ADDRESS;
}

/* ---- The record ------------------------------------------------------------------------------ */

static void on_answer(struct dns_lookup *lookup, const struct dns_query *answer)
{
    struct tls_report_order *order = container_of(lookup, struct tls_report_order, lookup);
    struct slice texts[DNS_RECORD_COUNT_MAX], rua;
    uint32_t count = 0;
    uint16_t cursor = 0;

    if (answer->status == DNS_FAILURE || answer->status == DNS_TIMEOUT) {
        go_home(order, TLS_REPORT_LATER);
        return;
    }
    while (count < DNS_RECORD_COUNT_MAX && dns_record_next(answer, &cursor, &texts[count]))
        count++;
    if (answer->status != DNS_OK || !tlsrpt_record_find(texts, count, &rua))
        go_home(order, TLS_REPORT_NOT_WANTED);
    else
        go_home(order, carry_out(order->shard, order, rua));
}

void tls_report_mail_on_order(struct shard *shard, struct parcel *parcel)
{
    struct tls_report_order *order = container_of(parcel, struct tls_report_order, parcel);
    char room[sizeof("_smtp._tls.") + DNS_NAME_MAX];
    struct text name = text_in(room, sizeof(room));

    order->shard = shard;
    list_init(&order->link);
    list_push_back(&shard->tls_report.orders, &order->link);
    if (shard->stopping) {
        go_home(order, TLS_REPORT_LATER);
        return;
    }
    text_put_literal(&name, "_smtp._tls.");
    text_put_str(&name, order->domain);
    order->lookup = (struct dns_lookup){.on_answer = on_answer};
    list_init(&order->lookup.link);
    dns_ask(shard->dns, &order->lookup, text_slice(&name), DNS_TXT);
}
