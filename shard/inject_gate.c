/*
 * A message that is complete passes the gate (gate.h) before it is appended, where its source has
 * settings about it; what it claimed there is settled when its answer is known. While a question is
 * out the intake waits for its answer, whatever becomes of the client.
 */
#include "core/base/err.h"
#include "core/base/log.h"
#include "shard/inject_int.h"

static void step(struct intake_message *intake);

/* ---- Asking ---------------------------------------------------------------------------------- */

static void on_answer(struct intake_message *intake);

static void pass_answer(struct gate_ask *ask)
{
    if (ask->on_answer)
        ask->on_answer(ask);
    else
        on_answer(ask->context);
}

void inject_gate_dispatch(struct shard *shard, struct gate_ask *ask, uint64_t hash)
{
    uint16_t owner = (uint16_t)(hash_u64(hash) % shard->count);

    ask->asker = shard->number;
    if (owner == shard->number) {
        gate_decide(&shard->gate, ask, io_now_ns(shard->io) / 1000000);
        pass_answer(ask);
        return;
    }
    shard->append_count++;
    ask->parcel = (struct parcel){.kind = SHARD_GATE_ASK, .from = shard->number};
    shard_post(shard, owner, &ask->parcel);
}

static void dispatch(struct intake_message *intake, uint64_t hash)
{
    intake->gate.ask.context = intake;
    inject_gate_dispatch(intake->shard, &intake->gate.ask, hash);
}

void inject_on_gate_parcel(struct shard *shard, struct gate_ask *ask)
{
    if (ask->parcel.kind == SHARD_GATE_ASK) {
        gate_decide(&shard->gate, ask, io_now_ns(shard->io) / 1000000);
        ask->parcel.kind = SHARD_GATE_ANSWER;
        shard_post(shard, ask->asker, &ask->parcel);
        return;
    }
    must(shard->append_count > 0);
    shard->append_count--;
    pass_answer(ask);
}

/* ---- Claims ---------------------------------------------------------------------------------- */

void inject_gate_note(struct intake_message *intake, struct slice job_id, struct slice message_id)
{
    struct gate_key key = {intake->source.dedup_key, intake->source.dedup_key};

    /* Who happens on another's Message-ID must not make his mail a repetition. */
    if (intake->user)
        key = gate_key_of(key, slice_str(intake->user));
    intake->gate.base = gate_key_of(gate_key_of(key, job_id), message_id);
    intake->gate.has_base = true;
}

/* The keys of the recipients: 0 or E_FULL. */
static int fill_keys(struct intake_message *intake)
{
    struct intake_gate *gate = &intake->gate;
    const struct envelope *envelope = &intake->message->envelope;
    struct envelope_rcpt rcpt;
    struct wire_reader r;
    uint32_t count = 0;

    if (message_pool_take(&intake->shard->pool,
                          envelope->rcpt_count * (uint32_t)sizeof(struct gate_key),
                          &gate->keys) < 0)
        return E_FULL;
    gate->ask.keys = (struct gate_key *)(void *)gate->keys.data;
    wire_reader_init(&r, envelope->rcpts.data, envelope->rcpts.len);
    while (envelope_rcpt_next(&r, &rcpt))
        gate->ask.keys[count++] = gate_key_of(gate->base, rcpt.address);
    must(count == envelope->rcpt_count);
    gate->ask.key_count = count;
    return 0;
}

static bool is_known(const struct gate_key *key)
{
    return key->a == 0 && key->b == 0;
}

/* The recipients that are not known yet, encoded in room. How many. */
static uint32_t keep_unknown(const struct intake_message *intake, uint8_t *room, size_t room_bytes,
                             struct slice *ret_rcpts)
{
    const struct envelope *envelope = &intake->message->envelope;
    struct envelope_rcpt rcpt;
    struct wire_writer w;
    struct wire_reader r;
    uint32_t at = 0, count = 0;

    wire_writer_init(&w, room, room_bytes);
    wire_reader_init(&r, envelope->rcpts.data, envelope->rcpts.len);
    while (envelope_rcpt_next(&r, &rcpt)) {
        if (is_known(&intake->gate.ask.keys[at++]))
            continue;
        envelope_put_rcpt(&w, &rcpt);
        count++;
    }
    must(!w.failed);
    *ret_rcpts = slice_of(room, wire_written(&w));
    return count;
}

/* Takes the known recipients out of the envelope. It becomes shorter and moves up to the content,
 * which stays where it is. 0 or E_FULL. */
static int drop_known(struct intake_message *intake)
{
    struct message *message = intake->message;
    struct envelope shorter = message->envelope;
    size_t bytes = message->envelope.encoded_bytes;
    uint8_t *room = home_scratch(intake->shard, 2 * bytes);
    uint8_t *front = message->buffers[0].data + message->payload_offset;
    uint32_t gone;
    struct wire_writer w;

    if (!room)
        return E_FULL;
    shorter.rcpt_count = keep_unknown(intake, room, bytes, &shorter.rcpts);
    wire_writer_init(&w, room + bytes, bytes);
    envelope_encode(&shorter, &w);
    must(!w.failed && wire_written(&w) <= bytes);
    gone = (uint32_t)(bytes - wire_written(&w));
    memcpy(front + gone, room + bytes, bytes - gone);
    must(envelope_decode(slice_of(front + gone, bytes - gone), &message->envelope) == 0);
    message->payload_offset += gone;
    message->bytes -= gone;
    intake->rcpt_count = shorter.rcpt_count;
    home_unreserve(intake->shard, intake->reserved - shorter.rcpt_count);
    intake->reserved = shorter.rcpt_count;
    return 0;
}

/* ---- Answers --------------------------------------------------------------------------------- */

static void refuse(struct intake_message *intake, uint16_t code, uint8_t subject, uint8_t detail,
                   const char *text)
{
    struct intake_reply reply;

    inject_reply(&reply, code, subject, detail, text);
    inject_answer(intake, &reply);
}

static void on_claimed(struct intake_message *intake)
{
    const struct gate_ask *ask = &intake->gate.ask;
    struct intake_reply reply;

    if (ask->answer == GATE_ALL) {
        intake->shard->totals.duplicate_messages++;
        inject_reply(&reply, 250, 0, 0, "ok, it was accepted before, id=");
        inject_format_id(ask->twin_id, reply.text + strlen(reply.text));
        inject_answer(intake, &reply);
        return;
    }
    if (ask->answer == GATE_BUSY) {
        refuse(intake, 451, 3, 0, "the same message is being accepted, try again later");
        return;
    }
    intake->gate.has_claim = true;
    if (ask->answer == GATE_SOME && drop_known(intake) < 0)
        refuse(intake, 452, 3, 1, "too little memory, try again later");
    else
        step(intake);
}

static void on_counted(struct intake_message *intake)
{
    const struct gate_ask *ask = &intake->gate.ask;
    char client[IPADDR_TEXT_MAX];

    if (ask->answer == GATE_YES) {
        step(intake);
        return;
    }
    ipaddr_format(&intake->client_ip, client);
    if (ask->answer == GATE_NO_FIRST)
        log_warn("%s, sender <%.*s>: more recipients than max-rcpt-in-rate of its source allows",
                 client, (int)intake->message->envelope.sender.len,
                 (const char *)intake->message->envelope.sender.data);
    if (ask->rcpt_count > ask->limit)
        refuse(intake, 550, 7, 1, "more recipients than this source may ever send to at once");
    else
        refuse(intake, 452, 7, 1, "this source has sent to too many recipients, try again later");
}

static void on_answer(struct intake_message *intake)
{
    switch ((enum gate_kind)intake->gate.ask.kind) {
    case GATE_CLAIM:
        on_claimed(intake);
        break;
    case GATE_COUNT:
        on_counted(intake);
        break;
    case GATE_SETTLE:
        inject_end(intake);
        break;
    case GATE_LOOK:
        must(false);
    }
}

/* ---- Steps ----------------------------------------------------------------------------------- */

static void ask_claim(struct intake_message *intake)
{
    struct gate_ask *ask = &intake->gate.ask;

    if (fill_keys(intake) < 0) {
        refuse(intake, 452, 3, 1, "too little memory, try again later");
        return;
    }
    ask->kind = GATE_CLAIM;
    ask->message_id = intake->id;
    ask->span_ms = intake->source.dedup_window_ms;
    dispatch(intake, intake->gate.base.a);
}

static void ask_count(struct intake_message *intake)
{
    const struct conf_rate *rate = &intake->source.max_rcpt_in_rate;
    struct gate_ask *ask = &intake->gate.ask;

    intake->gate.is_counted = true;
    ask->kind = GATE_COUNT;
    ask->limit = rate->count;
    ask->span_ms = rate->interval_ms;
    ask->limit_key = hash_combine(intake->source.rcpt_in_key, rate->interval_ms);
    ask->rcpt_count = intake->rcpt_count;
    dispatch(intake, ask->limit_key);
}

static void step(struct intake_message *intake)
{
    struct intake_gate *gate = &intake->gate;

    if (gate->has_base && !gate->has_claim)
        ask_claim(intake);
    else if (intake->source.max_rcpt_in_rate.count != CONF_UNLIMITED && !gate->is_counted)
        ask_count(intake);
    else
        inject_append(intake);
}

void inject_gate_pass(struct intake_message *intake)
{
    step(intake);
}

bool inject_gate_settle(struct intake_message *intake, bool is_accepted)
{
    struct gate_ask *ask = &intake->gate.ask;

    if (!intake->gate.has_claim)
        return false;
    intake->gate.has_claim = false;
    ask->kind = GATE_SETTLE;
    ask->span_ms = intake->source.dedup_window_ms;
    ask->is_accepted = is_accepted;
    dispatch(intake, intake->gate.base.a);
    return true;
}

void inject_gate_release(struct intake_message *intake)
{
    if (intake->gate.keys.size > 0)
        message_pool_give(&intake->shard->pool, &intake->gate.keys);
    intake->gate.keys.size = 0;
}
