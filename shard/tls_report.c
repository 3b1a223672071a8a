#include "shard/tls_report.h"

#include "core/base/mem.h"
#include "net/dane.h"
#include "net/tls.h"
#include "shard/shard_int.h"
#include "shard/tls_report_mail.h"

#define DAY_US 86400000000ull

void tls_report_init(struct shard *shard)
{
    shard->tls_report.batches = mem_alloc(2 * sizeof(struct tls_report_batch));
    tls_report_mail_init(shard);
}

void tls_report_fini(struct shard *shard)
{
    mem_free(shard->tls_report.batches);
}

/* ---- Batches --------------------------------------------------------------------------------- */

static int32_t today(const struct shard *shard)
{
    return (int32_t)(io_wall_us(shard->io) / DAY_US);
}

void tls_report_hand_over(struct shard *shard, bool is_last)
{
    struct tls_report *report = &shard->tls_report;
    struct tls_report_batch *batch = &report->batches[report->filling];

    if (batch->is_away || (batch->counts.record_count == 0 && report->lost == 0) ||
        !shard->wiring.to_control)
        return;
    batch->is_away = true;
    batch->is_last = is_last;
    batch->lost = report->lost;
    batch->parcel = (struct parcel){.kind = TLS_REPORT_COUNTS, .from = shard->number};
    report->lost = 0;
    report->filling ^= 1;
    mailbox_post(shard->wiring.to_control, &batch->parcel);
}

void tls_report_on_home(struct shard *shard, struct parcel *parcel)
{
    struct tls_report_batch *batch = container_of(parcel, struct tls_report_batch, parcel);

    (void)shard;
    tlsrpt_batch_init(&batch->counts, 0);
    batch->is_away = false;
}

static bool add(struct shard *shard, const struct tlsrpt_count *count)
{
    struct tls_report_batch *batch = &shard->tls_report.batches[shard->tls_report.filling];

    if (batch->is_away)
        return false;
    if (batch->counts.record_count == 0)
        batch->counts.day = today(shard);
    return batch->counts.day == today(shard) && tlsrpt_batch_add(&batch->counts, count);
}

static void put(struct shard *shard, const struct tlsrpt_count *count)
{
    if (add(shard, count))
        return;
    tls_report_hand_over(shard, false);
    if (!add(shard, count))
        shard->tls_report.lost++;
}

/* ---- What is counted ------------------------------------------------------------------------- */

/* A receiver's own domain, and not by the way of the reports: they would report on themselves. */
static bool is_counted(const struct shard *shard, const struct queue *queue)
{
    const struct conf_global *global = conf_global(shard->conf);

    if (!global->tls_report_from || queue->settings.route_count > 0)
        return false;
    return !global->tls_report_vmta ||
           queue->vmta_id != conf_vmta_id(shard->conf, slice_str(global->tls_report_vmta));
}

/* A record as a zone file has it (RFC 6698 2.2); what does not fit is left out. */
static void put_tlsa(struct slice rdata, struct text *text)
{
    size_t len_before = text->len;

    if (rdata.len < 3)
        return;
    if (text->len > 0)
        text_put_char(text, '\n');
    for (int i = 0; i < 3; i++) {
        text_put_u64(text, rdata.data[i], 0);
        text_put_char(text, ' ');
    }
    for (size_t i = 3; i < rdata.len; i++) {
        text_put_char(text, "0123456789abcdef"[rdata.data[i] >> 4]);
        text_put_char(text, "0123456789abcdef"[rdata.data[i] & 15]);
    }
    if (text->is_cut) {
        text->len = len_before;
        text->is_cut = false;
    }
}

static struct slice policy_of(const struct tls_out_way *way, char *room, size_t room_bytes)
{
    struct text text = text_in(room, room_bytes);
    uint16_t cursor = 0;
    struct slice rdata;

    if (way->policy != TLSRPT_TLSA)
        return way->policy_text;
    while (dns_records_next(way->policy_text, &cursor, &rdata))
        put_tlsa(rdata, &text);
    return text_slice(&text);
}

static bool is_any(const struct ipaddr *ip)
{
    for (size_t i = 0; i < sizeof(ip->bytes); i++)
        if (ip->bytes[i] != 0)
            return false;
    return true;
}

static void count_connection(struct shard *shard, const struct connection *connection,
                             const struct tls_out_way *way, enum tlsrpt_result result,
                             const char *reason)
{
    const struct lane *lane = connection->lane;
    char room[TLSRPT_POLICY_MAX];
    struct tlsrpt_count count = {
        .type = way->policy,
        .result = (uint8_t)result,
        .domain = names_text(&shard->names, connection->queue->name),
        .policy = policy_of(way, room, sizeof(room)),
        .host = connection->host != NAME_NONE ? names_text(&shard->names, connection->host)
                                              : SLICE_EMPTY,
        .reason = slice_str(reason),
        .count = 1,
    };

    if (!is_any(&lane->source))
        count.source = lane->source;
    put(shard, &count);
}

static void find_way(const struct connection *connection, struct tls_out_way *ret_way)
{
    tls_out_way(connection->queue, connection->lane->site, tls_out_host(connection), ret_way);
}

static enum tlsrpt_result result_of(const struct tls *tls)
{
    static const enum tlsrpt_result results[] = {
        [TLS_FAULT_NONE] = TLSRPT_FAILURE,  [TLS_FAULT_NAME] = TLSRPT_HOST_MISMATCH,
        [TLS_FAULT_DATE] = TLSRPT_EXPIRED,  [TLS_FAULT_CHAIN] = TLSRPT_NOT_TRUSTED,
        [TLS_FAULT_OTHER] = TLSRPT_FAILURE,
    };

    return strcmp(tls_failure(tls), DANE_WRONG_NAME) == 0 ? TLSRPT_HOST_MISMATCH
                                                          : results[tls_fault(tls)];
}

void tls_report_ready(struct shard *shard, const struct connection *connection)
{
    const struct tls *tls = smtpc_tls(connection->smtpc);
    struct tls_out_way way;

    if (connection->tls_level == SMTPC_TLS_NEVER || !is_counted(shard, connection->queue))
        return;
    find_way(connection, &way);
    if (!tls || !tls_is_secured(tls))
        count_connection(shard, connection, &way, TLSRPT_NO_STARTTLS, "");
    else if (way.policy == TLSRPT_STS && tls_fault(tls) != TLS_FAULT_NONE)
        count_connection(shard, connection, &way, result_of(tls), tls_failure(tls));
    /* TLS it is, but the records are good for nothing, which their owner cannot know. */
    else if (way.policy == TLSRPT_TLSA && way.tlsa.len == 0)
        count_connection(shard, connection, &way, TLSRPT_TLSA_INVALID, "no usable record");
    else
        count_connection(shard, connection, &way, TLSRPT_SUCCESS, "");
}

void tls_report_failed(struct shard *shard, const struct connection *connection,
                       const struct verdict *verdict)
{
    const struct tls *tls = smtpc_tls(connection->smtpc);
    bool is_reply = (verdict->flags & VERDICT_FROM_REPLY) != 0;
    bool is_offered = (smtpc_extensions(connection->smtpc) & SMTPC_STARTTLS) != 0;
    bool is_violation = !tls && (verdict->flags & VERDICT_PROTOCOL) != 0;
    const char *reason;
    struct tls_out_way way;

    if (verdict->stage != VERDICT_AT_TLS || !is_counted(shard, connection->queue))
        return;
    /* 421 says that the host is busy, and nothing of TLS; and want of memory is our own trouble. */
    if (is_reply ? verdict->code == 421 : !tls && is_offered && !is_violation)
        return;
    find_way(connection, &way);
    /* Such as text in the clear behind the answer to STARTTLS: somebody stands between, perhaps. */
    if (is_violation) {
        count_connection(shard, connection, &way, TLSRPT_FAILURE, "protocol violation");
        return;
    }
    if (!tls) {
        count_connection(shard, connection, &way, TLSRPT_NO_STARTTLS, "");
        return;
    }
    reason = tls_failure(tls);
    if (reason[0] == '\0')
        reason = verdict->flags & VERDICT_TIMED_OUT ? "no answer in time" : "connection lost";
    count_connection(shard, connection, &way, result_of(tls), reason);
}

void tls_report_trouble(struct shard *shard, struct slice domain, enum tlsrpt_type type,
                        struct slice policy, enum tlsrpt_result result, struct slice host,
                        const char *reason)
{
    struct tlsrpt_count count = {
        .type = (uint8_t)type,
        .result = (uint8_t)result,
        .domain = domain,
        .policy = policy,
        .host = host,
        .reason = slice_str(reason),
        .count = 1,
    };

    if (conf_global(shard->conf)->tls_report_from)
        put(shard, &count);
}

void tls_report_left_out(struct shard *shard, const struct queue *queue, struct slice host)
{
    if (is_counted(shard, queue))
        tls_report_trouble(shard, names_text(&shard->names, queue->name), TLSRPT_TLSA, SLICE_EMPTY,
                           TLSRPT_DNSSEC_INVALID, host, "");
}
