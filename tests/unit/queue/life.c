#include "tests/unit/queue/life.h"

#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "tests/unit/queue/large.h"

#include <stdio.h>
#include <stdlib.h>

#define SCRATCH_BYTES (256u * 1024)
#define WAKE_NS       1000000ull

/* A request in flight, from the C library's heap. */
struct sent {
    struct log_request request; /* first */
    struct list link;
    struct iovec iov[2];
    struct ledger_message *message;
    uint64_t step;
    uint8_t bytes[];
};

/* ---- Sending -------------------------------------------------------------------------------- */

static void post(struct life *life, enum spool_parcel_kind kind, const void *payload, size_t len,
                 uint16_t flags, struct ledger_message *message, uint64_t step)
{
    struct sent *sent = calloc(1, sizeof(*sent) + len);
    size_t half = len / 3;

    must(sent != NULL && len > 0);
    memcpy(sent->bytes, payload, len);
    sent->iov[0] = (struct iovec){sent->bytes, half};
    sent->iov[1] = (struct iovec){sent->bytes + half, len - half};
    sent->message = message;
    sent->step = step;
    sent->request.parcel.kind = (uint16_t)kind;
    sent->request.parcel.from = life->client;
    sent->request.payload = sent->iov;
    sent->request.payload_count = 2;
    sent->request.payload_bytes = (uint32_t)len;
    sent->request.flags = flags;
    if (message != NULL) {
        sent->request.message_id = message->id;
        sent->request.place = message->place;
    }
    list_push_back(&life->requests, &sent->link);
    life->request_count++;
    mailbox_post(life->to_spool, &sent->request.parcel);
}

void life_send_message(struct life *life, uint32_t rcpt_count, uint32_t body_bytes)
{
    struct ledger_message *message = ledger_message_new(life->ledger, rcpt_count, body_bytes);
    size_t len = ledger_payload(message, life->scratch, SCRATCH_BYTES);

    post(life, SPOOL_APPEND_MESSAGE, life->scratch, len, 0, message, 0);
}

void life_send_outcome(struct life *life, struct ledger_message *message, bool is_final,
                       bool wants_sync)
{
    struct outcome outcome = {.kind = is_final ? OUTCOME_DELIVERED : OUTCOME_TRANSIENT,
                              .message_id = message->id,
                              .rcpt = SLICE_LITERAL("u@d.example"),
                              .diag = SLICE_LITERAL("250 2.0.0 ok, taken with pleasure")};
    uint16_t flags = wants_sync ? LOG_WANTS_SYNC : 0;
    uint32_t left = 0;
    uint64_t step;
    int len;

    for (uint32_t i = message->rcpt_count; i-- > 0;) {
        if (message->rcpts[i].is_final)
            continue;
        outcome.rcpt_ordinal = i;
        left++;
    }
    must(left > 0);
    if (is_final && left == 1)
        flags |= LOG_MESSAGE_DONE;
    step = ledger_outcome(life->ledger, message, outcome.rcpt_ordinal, is_final,
                          (flags & LOG_MESSAGE_DONE) != 0);
    outcome.attempts = message->rcpts[outcome.rcpt_ordinal].attempts;
    outcome.due_us = is_final ? 0 : ledger_due(message, outcome.rcpt_ordinal, outcome.attempts);
    outcome.logged_us = step;
    len = outcome_encode(&outcome, life->scratch, SCRATCH_BYTES);
    must(len > 0);
    post(life, SPOOL_APPEND_OUTCOME, life->scratch, (size_t)len, flags, message, step);
}

void life_send_named(struct life *life, uint32_t key, bool wants_sync)
{
    uint64_t step = ledger_named(life->ledger, key);
    uint64_t version = life->ledger->named[key].version;
    char name = (char)('a' + key);
    struct log_named named = {.key = slice_of(&name, 1), .value = slice_of(&version, 8)};
    int len;

    if (version % 5 == 0)
        named.value = SLICE_EMPTY;
    len = log_named_encode(&named, life->scratch, SCRATCH_BYTES);
    must(len > 0);
    post(life, SPOOL_APPEND_NAMED, life->scratch, (size_t)len, wants_sync ? LOG_WANTS_SYNC : 0,
         NULL, step);
}

/* old: the place of a copy that is dead with this, or NULL. */
static void send_state(struct life *life, struct ledger_message *message,
                       const struct log_place *old)
{
    uint8_t rcpts[512];
    char text[64];
    struct wire_writer w;
    struct log_message_state state = {.message_id = message->id,
                                      .accepted_us = message->id * 7,
                                      .place = message->place,
                                      .vmta = SLICE_LITERAL("vmta-one"),
                                      .rcpt_count = message->rcpt_count,
                                      .priority = ledger_priority(message)};
    int len;

    wire_writer_init(&w, rcpts, sizeof(rcpts));
    for (uint32_t i = 0; i < message->rcpt_count; i++) {
        struct log_state_rcpt rcpt = {.is_final = message->rcpts[i].is_final,
                                      .attempts = message->rcpts[i].attempts};

        rcpt.due_us = ledger_due(message, i, rcpt.attempts);
        snprintf(text, sizeof(text), "d%llu.example",
                 (unsigned long long)(message->id + i / 2) % 10);
        rcpt.domain = i % 2 == 1 ? SLICE_EMPTY : slice_str(text);
        log_state_rcpt_put(&w, &rcpt);
    }
    must(!w.failed);
    state.rcpts = slice_of(rcpts, wire_written(&w));
    len = log_message_state_encode(&state, life->scratch, SCRATCH_BYTES);
    must(len > 0);
    post(life, SPOOL_APPEND_STATE, life->scratch, (size_t)len, old != NULL ? LOG_MESSAGE_DONE : 0,
         message, 0);
    if (old != NULL)
        container_of(life->requests.prev, struct sent, link)->request.place = *old;
}

void life_send_moved(struct life *life, struct ledger_message *message, const struct log_place *old)
{
    send_state(life, message, old);
}

void life_move_message(struct life *life, struct ledger_message *message)
{
    size_t len = ledger_payload(message, life->scratch, SCRATCH_BYTES);

    must(ledger_is_live(message) && !message->is_moving);
    message->is_moving = true;
    post(life, SPOOL_APPEND_MESSAGE, life->scratch, len, LOG_IS_COPY, message, 0);
}

/* ---- Answers -------------------------------------------------------------------------------- */

/* The new copy counts from now on; a refused one changes nothing. */
static void on_moved(struct life *life, struct ledger_message *message,
                     const struct log_request *request)
{
    struct log_place old = message->place;

    message->is_moving = false;
    if (request->status < 0)
        return;
    message->place = request->place;
    send_state(life, message, &old);
}

static void on_answer(struct life *life, struct sent *sent)
{
    const struct log_request *request = &sent->request;

    if (request->parcel.kind == SPOOL_APPEND_MESSAGE && sent->message->is_moving)
        on_moved(life, sent->message, request);
    else if (request->parcel.kind == SPOOL_APPEND_MESSAGE)
        ledger_message_answered(life->ledger, sent->message, request->status, &request->place);
    else if (request->status == 0 && (request->flags & LOG_WANTS_SYNC) != 0)
        ledger_sure(life->ledger, sent->step);
    else if (request->status < 0 && request->status != E_POISONED && request->status != E_CLOSED)
        ledger_fail(life->ledger, "an outcome was answered %d", request->status);
    list_remove(&sent->link);
    life->request_count--;
    free(sent);
}

static void on_parcel(void *context, struct parcel *parcel)
{
    struct life *life = context;

    switch (parcel->kind) {
    case SPOOL_CHECKPOINT_BEGIN:
        must(life->checkpoint == NULL);
        life->checkpoint = container_of(parcel, struct spool_notice, parcel);
        life->checkpoint_at = 0;
        life->checkpoints_seen++;
        break;
    case SPOOL_APPEND_CHUNK:
    case SPOOL_APPEND_COMMIT:
    case SPOOL_DROP_CHUNKS:
        large_on_answer(life, container_of(parcel, struct log_request, parcel));
        break;
    case SPOOL_CURSOR_AT:
        life->cursor_notice_out = false;
        break;
    case SPOOL_EVACUATE:
        must(life->evacuation == NULL);
        life->evacuation = container_of(parcel, struct spool_notice, parcel);
        life->evacuations_seen++;
        break;
    default:
        on_answer(life, container_of(parcel, struct sent, request.parcel));
        break;
    }
}

/* A few states a wake, so that other records come in between. */
static void emit_states(struct life *life)
{
    uint64_t budget = 1 + rng_below(&life->rng, 6);

    if (life->checkpoint == NULL)
        return;
    for (; life->checkpoint_at < life->ledger->message_count && budget > 0; life->checkpoint_at++) {
        struct ledger_message *message = life->ledger->messages[life->checkpoint_at];

        if (!ledger_is_live(message))
            continue;
        send_state(life, message, NULL);
        budget--;
    }
    if (budget == 0)
        return;
    life->checkpoint->parcel.kind = SPOOL_CHECKPOINT_DONE;
    life->checkpoint->parcel.from = life->client;
    mailbox_post(life->to_spool, &life->checkpoint->parcel);
    life->checkpoint = NULL;
}

/* What cannot be read stays where it is. */
static void move(struct life *life, struct ledger_message *message,
                 const struct spool_notice *evacuation)
{
    if (message->place.large == 0)
        life_move_message(life, message);
    else if (message->chunk_count > 0)
        large_move(life, message, evacuation);
}

/* A few messages a wake; what is refused stays where it is. */
static void move_out(struct life *life)
{
    uint64_t budget = 1 + rng_below(&life->rng, 4);
    bool any_moving = false;

    if (life->evacuation == NULL)
        return;
    for (; life->evacuation_at < life->ledger->message_count && budget > 0; life->evacuation_at++) {
        struct ledger_message *message = life->ledger->messages[life->evacuation_at];

        if (!ledger_is_live(message) || message->is_moving ||
            !large_is_asked_for(message, life->evacuation))
            continue;
        move(life, message, life->evacuation);
        budget--;
    }
    for (uint64_t i = 0; i < life->ledger->message_count; i++)
        any_moving |= life->ledger->messages[i]->is_moving;
    if (budget == 0 || any_moving)
        return;
    life->evacuation->parcel.kind = SPOOL_EVACUATE_DONE;
    life->evacuation->parcel.from = life->client;
    mailbox_post(life->to_spool, &life->evacuation->parcel);
    life->evacuation = NULL;
    life->evacuation_at = 0;
}

void life_read_cursor(struct life *life)
{
    struct ledger *ledger = life->ledger;
    struct log_place after;
    struct slice payload;
    int result;

    if (life->cursor == NULL)
        return;
    while ((result = spool_cursor_next(life->cursor, &payload, &after)) == 1) {
        struct outcome outcome;

        if (outcome_decode(payload, &outcome) < 0)
            ledger_fail(ledger, "the cursor gave no outcome");
        else
            ledger_cursor_read(ledger, outcome.logged_us);
        ledger->cursor_at = after;
    }
    if (result < 0)
        ledger_fail(ledger, "the cursor failed: %d", result);
    if (life->cursor_notice_out || !rng_one_in(&life->rng, 4))
        return;
    life->cursor_notice_out = true;
    life->cursor_notice.parcel.kind = SPOOL_CURSOR_AT;
    life->cursor_notice.parcel.from = life->client;
    life->cursor_notice.number = 7;
    life->cursor_notice.place = ledger->cursor_at;
    mailbox_post(life->to_spool, &life->cursor_notice.parcel);
}

/* ---- The client's day ----------------------------------------------------------------------- */

static struct ledger_message *pick_live(struct life *life)
{
    uint64_t at = rng_below(&life->rng, life->ledger->live_count);
    struct list *node = life->ledger->live.next;

    while (at-- > 0)
        node = node->next;
    return container_of(node, struct ledger_message, link);
}

/* Some are tried for ever, as real mail is. */
static bool is_straggler(struct life *life, const struct ledger_message *message)
{
    return message->id % 16 == 0 && !rng_one_in(&life->rng, 30);
}

/* Mostly a few small chunks; now and then more than a segment holds, or chunks larger than the
 * batch buffer. */
static void send_chunked(struct life *life)
{
    struct rng *rng = &life->rng;
    uint64_t octets = rng_between(rng, 300, rng_one_in(rng, 8) ? 20000 : 4000);
    uint64_t chunks = rng_between(rng, 2, rng_one_in(rng, 8) ? 30 : 6);

    if (octets * (chunks + 1) > 100000)
        chunks = 100000 / octets - 1;
    large_send(life, (uint32_t)rng_between(rng, 1, LEDGER_RCPTS),
               (uint32_t)(octets * chunks + rng_below(rng, octets)), (uint32_t)octets,
               rng_one_in(rng, 6));
}

static void act(struct life *life)
{
    struct rng *rng = &life->rng;
    bool is_full = life->ledger->live_count >= life->options.live_max;
    uint64_t dice = rng_below(rng, 100);

    if (dice < 45 && !is_full && life->options.chunked_one_in > 0 &&
        rng_one_in(rng, life->options.chunked_one_in)) {
        send_chunked(life);
    } else if (dice < 45 && !is_full) {
        uint64_t bytes = rng_between(rng, 10, 3000);

        if (life->options.large_one_in > 0 && rng_one_in(rng, life->options.large_one_in))
            bytes = rng_between(rng, 15000, 55000);
        life_send_message(life, (uint32_t)rng_between(rng, 1, LEDGER_RCPTS), (uint32_t)bytes);
    } else if (dice < 95 && life->ledger->live_count > 0) {
        struct ledger_message *message = pick_live(life);

        if (message->is_moving)
            return;
        if (rng_one_in(rng, 12))
            move(life, message, NULL);
        else
            life_send_outcome(life, message, rng_below(rng, 10) < 7 && !is_straggler(life, message),
                              rng_one_in(rng, 8));
    } else if (dice >= 95) {
        life_send_named(life, (uint32_t)rng_below(rng, LEDGER_KEYS), rng_one_in(rng, 2));
    }
}

static void on_wake(struct io_timer *timer)
{
    struct life *life = container_of(timer, struct life, timer);
    uint64_t actions = rng_below(&life->rng, life->options.burst_max + 1);

    if (!life->is_quiet && spool_health(life->spool) != SPOOL_POISONED) {
        for (uint64_t i = 0; i < actions; i++)
            act(life);
    }
    emit_states(life);
    move_out(life);
    if (rng_one_in(&life->rng, 3))
        life_read_cursor(life);
    if (!life->is_closed)
        io_timer_arm(life->client_io, timer, io_now_ns(life->client_io) + WAKE_NS);
}

/* ---- Recovery ------------------------------------------------------------------------------- */

/* What was recovered must be readable, octet for octet. */
static void read_back(struct life *life, struct spool_reader *reader,
                      const struct ledger_message *message)
{
    const struct log_place *place = &message->place;
    uint8_t *found = life->scratch;
    uint8_t *wanted = life->scratch + SCRATCH_BYTES / 2;
    int fd = spool_reader_fd(reader, place);
    struct iovec iov[2] = {{found, 40}, {found + 40, place->bytes - 40}};
    int64_t got = -1;
    size_t len;

    must(place->bytes <= SCRATCH_BYTES / 2);
    if (fd >= 0)
        got = io_file_read_now(life->spool_io, fd, found, place->bytes, place->offset);
    if (got != place->bytes)
        ledger_fail(life->ledger, "message %llu cannot be read", (unsigned long long)message->id);
    else if (spool_reader_check(place, message->id, iov, 2) < 0)
        ledger_fail(life->ledger, "message %llu does not check at %u:%u, %u bytes in slot %u",
                    (unsigned long long)message->id, place->serial, place->offset, place->bytes,
                    place->slot);
    len = ledger_payload(message, wanted, SCRATCH_BYTES / 2);
    if (len + LOG_RECORD_HEADER_BYTES != place->bytes ||
        memcmp(found + LOG_RECORD_HEADER_BYTES, wanted, len) != 0)
        ledger_fail(life->ledger, "message %llu has other bytes", (unsigned long long)message->id);
}

static void read_large_back(struct life *life, const struct ledger_message *message)
{
    struct log_message_state state = {.message_id = message->id, .place = message->place};
    const char *text = large_read_back(life, &state);

    if (text != NULL)
        ledger_fail(life->ledger, "message %llu %s", (unsigned long long)message->id, text);
}

static void read_all_back(struct life *life)
{
    struct spool_reader *reader = spool_reader_create(life->spool_io, life->spool);

    for (uint64_t i = 0; i < life->ledger->message_count; i++) {
        const struct ledger_message *message = life->ledger->messages[i];

        if (!message->is_seen ||
            (message->standing != LEDGER_KEPT && message->standing != LEDGER_FOUND) ||
            life->ledger->expects_damage || ledger_has_failed(life->ledger))
            continue;
        if (message->place.large > 0)
            read_large_back(life, message);
        else
            read_back(life, reader, message);
    }
    spool_reader_destroy(reader);
}

static void on_message(void *context, const struct log_message_state *state)
{
    struct life *life = context;

    ledger_recovered_message(life->ledger, state);
}

static void on_named(void *context, const struct log_named *named)
{
    struct life *life = context;

    ledger_recovered_named(life->ledger, named);
}

static void on_damage(void *context, const char *file, uint64_t offset, const char *text)
{
    struct life *life = context;

    life->ledger->damage_count++;
    if (!life->ledger->expects_damage)
        ledger_fail(life->ledger, "damage in %s at %llu: %s", file, (unsigned long long)offset,
                    text);
}

static void on_refusal(void *context, const char *path, const char *text)
{
    struct life *life = context;

    snprintf(life->refusal, sizeof(life->refusal), "%s: %s", path, text);
}

int life_open(struct life *life, const struct life_options *options, struct ledger *ledger,
              struct io *spool_io, struct io *client_io, uint64_t seed)
{
    struct spool_recovery recovery = {life, on_message, on_named, on_damage, on_refusal};
    int result;

    memset(life, 0, sizeof(*life));
    life->options = *options;
    life->ledger = ledger;
    life->spool_io = spool_io;
    life->client_io = client_io;
    life->scratch = calloc(1, SCRATCH_BYTES);
    must(life->scratch != NULL);
    rng_init(&life->rng, seed);
    list_init(&life->requests);
    list_init(&life->makings);
    list_init(&life->chunks);
    ledger_recovery_begin(ledger);
    result = spool_open(spool_io, &options->spool, &recovery, &life->spool, &life->report);
    if (result < 0)
        return result;
    read_all_back(life);
    ledger_recovery_end(ledger);
    life->to_spool = mailbox_create(64, client_io, spool_io);
    life->from_spool = mailbox_create(64, spool_io, client_io);
    mailbox_listen(life->from_spool, on_parcel, life);
    life->client =
        spool_client_add(life->spool, life->to_spool, life->from_spool, !options->no_checkpoints);
    if (!options->no_cursor)
        life->cursor = spool_cursor_create(life->spool, client_io, 7, &ledger->cursor_at);
    io_timer_init(&life->timer, on_wake);
    io_timer_arm(client_io, &life->timer, io_now_ns(client_io) + WAKE_NS);
    life->is_open = true;
    return 0;
}

static void on_closed(void *context)
{
    struct life *life = context;

    life->is_closed = true;
}

void life_close(struct life *life)
{
    spool_close(life->spool, on_closed, life);
}

void life_forget(struct life *life)
{
    struct list *node;

    while ((node = list_pop_front(&life->requests)) != NULL)
        free(container_of(node, struct sent, link));
    large_forget(life);
    free(life->scratch);
    life->scratch = NULL;
}

void life_destroy(struct life *life)
{
    must(life->is_closed);
    io_timer_stop(life->client_io, &life->timer);
    spool_cursor_destroy(life->cursor);
    spool_destroy(life->spool);
    mailbox_destroy(life->to_spool);
    mailbox_destroy(life->from_spool);
    life_forget(life);
}
