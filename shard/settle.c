#include "shard/settle.h"

#include "core/base/err.h"
#include "queue/terms.h"
#include "shard/policy/category.h"
#include "shard/shard_int.h"

static struct slice category_of_outcome(struct shard *shard, const struct queued *queued,
                                        const struct connection *connection,
                                        const struct verdict *verdict, const struct fate *fate)
{
    const struct queue *queue = slab_at(&shard->queues, queued->queue);
    struct category_facts facts = {
        .verdict = verdict, .settings = &queue->settings, .host = SLICE_EMPTY};

    if (fate->category[0] != '\0')
        return slice_str(fate->category);
    if (connection && connection->host != NAME_NONE)
        facts.host = names_text(&shard->names, connection->host);
    return slice_str(category_of(&facts, shard->category_scratch));
}

static bool is_attempt(const struct settle_facts *facts)
{
    return facts->connection || facts->is_carried;
}

/* The configuration wants no row of the kind for the queue. */
static bool is_unwanted(const struct queue *queue, const struct outcome *outcome)
{
    uint32_t kind = outcome->kind == OUTCOME_DELIVERED ? CONF_ACCT_DELIVERED
                    : outcome->kind == OUTCOME_BOUNCED ? CONF_ACCT_BOUNCED
                                                       : CONF_ACCT_TRANSIENT;

    return (queue->settings.unwanted_records & kind) != 0;
}

static void fill_tls(const struct connection *connection, struct outcome *outcome)
{
    const struct tls *tls = smtpc_tls(connection->smtpc);

    if (!tls)
        return;
    outcome->tls_protocol = slice_str(tls_protocol(tls));
    outcome->tls_cipher = slice_str(tls_cipher(tls));
}

static void fill_outcome(struct shard *shard, const struct queued *queued,
                         const struct settle_facts *facts, const struct verdict *verdict,
                         const struct fate *fate, struct outcome *outcome)
{
    *outcome = (struct outcome){
        .kind = fate->kind == FATE_DELIVERED ? OUTCOME_DELIVERED
                : fate->kind == FATE_BOUNCED ? OUTCOME_BOUNCED
                                             : OUTCOME_TRANSIENT,
        .flags = facts->flags,
        .attempts = queued->cold.attempts,
        .rcpt_ordinal = queued->ordinal,
        .message_id = facts->message_id,
        .logged_us = io_wall_us(shard->io),
        .queued_us = queued_accepted_us(queued),
        .rcpt = facts->address,
        .orcpt = facts->orcpt,
        .diag = verdict_text(verdict),
        .bounce_category = category_of_outcome(shard, queued, facts->connection, verdict, fate),
    };
    if (verdict->flags & VERDICT_IN_DOUBT)
        outcome->flags |= OUTCOME_IN_DOUBT;
    if (is_unwanted(slab_at(&shard->queues, queued->queue), outcome))
        outcome->flags |= OUTCOME_NO_ACCOUNTING;
    if (outcome->kind == OUTCOME_TRANSIENT)
        outcome->due_us = outcome->logged_us + fate->delay_ms * 1000;
    if (facts->connection) {
        outcome->source_ip = facts->connection->lane->source;
        outcome->destination_ip = facts->connection->target_at.ip;
        if (facts->connection->host != NAME_NONE)
            outcome->dsn_mta = names_text(&shard->names, facts->connection->host);
        outcome->esmtp = smtpc_extension_text(facts->connection->smtpc);
        fill_tls(facts->connection, outcome);
    }
    if (facts->message) {
        const struct envelope *envelope = &facts->message->envelope;

        outcome->queued_us = envelope->accepted_us;
        outcome->orig = envelope->sender;
        outcome->vmta = envelope->vmta;
        outcome->pool = envelope->pool;
        outcome->job_id = envelope->job_id;
        outcome->envelope_id = envelope->envelope_id;
        outcome->source_type = envelope->source_type;
        outcome->headers = envelope->headers;
        outcome->user = envelope->user;
        if (fate->kind == FATE_DELIVERED)
            outcome->size_bytes = envelope_content_bytes(envelope);
    }
}

/* "helo (ip)" of the client that gave us the message. */
static void put_source_mta(struct text *text, const struct message *message)
{
    char ip[IPADDR_TEXT_MAX];

    if (!message)
        return;
    ipaddr_format(&message->envelope.client_ip, ip);
    text_put(text, message->envelope.client_helo);
    text_put_literal(text, " (");
    text_put_str(text, ip);
    text_put_char(text, ')');
}

static void count_outcome(struct shard *shard, const struct outcome *outcome)
{
    struct report_status *totals = &shard->totals;

    if (outcome->flags & OUTCOME_IN_DOUBT)
        totals->in_doubt++;
    if (outcome->kind == OUTCOME_DELIVERED) {
        totals->delivered++;
    } else if (outcome->kind == OUTCOME_TRANSIENT) {
        totals->deferred++;
    } else if (outcome->flags & OUTCOME_BY_OPERATOR) {
        totals->deleted++;
    } else {
        totals->bounced++;
    }
}

/* The encoded record of a recipient that is cold by now; room was reserved. */
static struct outcome_parcel *make_outcome(struct shard *shard, uint32_t queued_index,
                                           const struct settle_facts *facts,
                                           const struct verdict *verdict, const struct fate *fate)
{
    const struct queued *queued = slab_at(&shard->queued, queued_index);
    const struct queue *queue = slab_at(&shard->queues, queued->queue);
    char queue_room[REPORT_NAME_MAX], status_room[16], source_room[320];
    struct text queue_name = text_in(queue_room, sizeof(queue_room));
    struct text status = text_in(status_room, sizeof(status_room));
    struct text source_mta = text_in(source_room, sizeof(source_room));
    struct outcome outcome;
    struct outcome_parcel *parcel;
    uint32_t index;
    int bytes;

    parcel = slab_alloc_unset(&shard->outcomes, &index);
    must(parcel && shard->outcomes_reserved > 0);
    shard->outcomes_reserved--;
    fill_outcome(shard, queued, facts, verdict, fate, &outcome);
    queues_put_name(shard, queue, &queue_name);
    category_put_status(&status, verdict, &queue->settings);
    put_source_mta(&source_mta, facts->message);
    outcome.status = text_slice(&status);
    outcome.queue = text_slice(&queue_name);
    outcome.source_mta = text_slice(&source_mta);
    outcome.first_attempt_us = firsts_note(
        shard, queued_index, is_attempt(facts) && outcome.attempts == 1 ? outcome.logged_us : 0);
    bytes = outcome_encode(&outcome, parcel->bytes, sizeof(parcel->bytes));
    must(bytes > 0);
    count_outcome(shard, &outcome);
    parcel->index = index;
    parcel->iov = (struct iovec){parcel->bytes, (size_t)bytes};
    parcel->due_us = outcome.due_us;
    parcel->attempts = outcome.attempts;
    parcel->is_final = outcome_is_final(&outcome);
    parcel->notice = (uint8_t)notice_wanted(&queue->settings, &outcome, facts);
    parcel->home_message = queued->home_message;
    parcel->home_rcpt = queued->home_rcpt;
    parcel->home = queued->home;
    parcel->request = (struct log_request){
        .parcel = {.kind = SHARD_OUTCOME, .from = shard->wiring.spool_client},
        .payload = &parcel->iov,
        .payload_count = 1,
        .payload_bytes = (uint32_t)bytes,
        .message_id = facts->message_id,
    };
    list_init(&parcel->request.link);
    return parcel;
}

uint64_t settle_age_ms(const struct shard *shard, const struct queued *queued)
{
    uint64_t now_us = io_wall_us(shard->io);

    return now_us > queued_accepted_us(queued) ? (now_us - queued_accepted_us(queued)) / 1000 : 0;
}

void settle_send_home(struct shard *shard, struct outcome_parcel *parcel)
{
    if (parcel->home == shard->number)
        home_on_outcome(shard, parcel);
    else
        shard_post(shard, parcel->home, &parcel->request.parcel);
}

/* What track-recipient-events remembers. */
static void note_event(struct shard *shard, struct queue *queue, const struct settle_facts *facts,
                       const struct verdict *verdict, const struct fate *fate)
{
    char room[EVENT_TEXT_MAX];
    struct text text = text_in(room, sizeof(room));

    if (!queue->settings.track_recipient_events)
        return;
    text_put(&text, facts->address);
    text_put_literal(&text, ": ");
    text_put(&text, verdict_text(verdict));
    text_end(&text);
    events_note(shard, queue,
                fate->kind == FATE_DELIVERED ? EVENT_DELIVERED
                : fate->kind == FATE_BOUNCED ? EVENT_BOUNCED
                                             : EVENT_DEFERRED,
                room);
}

struct outcome_parcel *settle_rcpt(struct shard *shard, uint32_t queued_index,
                                   const struct settle_facts *facts, const struct verdict *verdict,
                                   const struct fate *fate)
{
    struct queued *queued = slab_at(&shard->queued, queued_index);
    struct queue *queue = slab_at(&shard->queues, queued->queue);
    struct outcome_parcel *parcel;
    bool was_hot = queued->is_hot;

    must(queued->state == QUEUED_SENDING && queue->sending_count > 0);
    queue->sending_count--;
    if (fate->kind == FATE_RETRY_AT_ONCE) {
        shard->outcomes_reserved--;
        ready_push(shard, queue, queued_index, true);
        return NULL;
    }
    queues_cool(queued);
    if (is_attempt(facts) && queued->cold.attempts < UINT16_MAX)
        queued->cold.attempts++;
    note_event(shard, queue, facts, verdict, fate);
    parcel = make_outcome(shard, queued_index, facts, verdict, fate);
    parcel->returns_claim = was_hot;
    if (parcel->is_final)
        queues_drop(shard, queued_index);
    else
        queues_defer(shard, queued_index, parcel->due_us);
    /* A verdict of ours quotes the last error; it is none itself. */
    if (fate->kind != FATE_DELIVERED && is_attempt(facts))
        queues_note_error(shard, queue, verdict);
    return parcel;
}
