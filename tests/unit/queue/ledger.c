#include "tests/unit/queue/ledger.h"

#include "core/base/err.h"
#include "core/base/must.h"
#include "core/base/rng.h"
#include "queue/envelope.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void ledger_init(struct ledger *ledger)
{
    memset(ledger, 0, sizeof(*ledger));
    list_init(&ledger->live);
    ledger->step_first = 1;
    ledger->step_next = 1;
}

void ledger_fini(struct ledger *ledger)
{
    for (uint64_t i = 0; i < ledger->message_count; i++) {
        free(ledger->messages[i]->chunks);
        free(ledger->messages[i]);
    }
    free(ledger->messages);
    free(ledger->steps);
    free(ledger->fates);
}

void ledger_fail(struct ledger *ledger, const char *format, ...)
{
    va_list args;

    if (ledger_has_failed(ledger))
        return;
    va_start(args, format);
    vsnprintf(ledger->failure, sizeof(ledger->failure), format, args);
    va_end(args);
}

/* ---- Messages ------------------------------------------------------------------------------ */

struct ledger_message *ledger_message_new(struct ledger *ledger, uint32_t rcpt_count,
                                          uint32_t body_bytes)
{
    struct ledger_message *message = calloc(1, sizeof(*message));

    must(message != NULL && rcpt_count > 0 && rcpt_count <= LEDGER_RCPTS);
    if (ledger->message_count == ledger->message_room) {
        ledger->message_room = ledger->message_room == 0 ? 256 : ledger->message_room * 2;
        ledger->messages =
            realloc(ledger->messages, ledger->message_room * sizeof(*ledger->messages));
        must(ledger->messages != NULL);
    }
    ledger->messages[ledger->message_count++] = message;
    message->id = ledger->message_count;
    message->rcpt_count = rcpt_count;
    message->body_bytes = body_bytes;
    list_init(&message->link);
    return message;
}

static void keep(struct ledger *ledger, struct ledger_message *message,
                 enum ledger_standing standing)
{
    message->standing = standing;
    list_push_back(&ledger->live, &message->link);
    ledger->live_count++;
}

static void drop(struct ledger *ledger, struct ledger_message *message)
{
    must(!list_empty(&message->link));
    list_remove(&message->link);
    ledger->live_count--;
}

void ledger_message_answered(struct ledger *ledger, struct ledger_message *message, int status,
                             const struct log_place *place)
{
    must(message->standing == LEDGER_SENT);
    if (status == 0) {
        keep(ledger, message, LEDGER_KEPT);
        message->place = *place;
    } else if (status == E_POISONED) {
        message->standing = LEDGER_UNKNOWN;
    } else {
        message->standing = LEDGER_REFUSED;
    }
}

uint64_t ledger_due(const struct ledger_message *message, uint32_t rcpt, uint16_t attempts)
{
    return attempts == 0 ? 0 : message->id * 1000000 + rcpt * 10000 + attempts;
}

uint8_t ledger_priority(const struct ledger_message *message)
{
    return (uint8_t)(message->id % 3 == 0 ? message->id % 101 : ENVELOPE_PRIORITY_NORMAL);
}

size_t ledger_payload(const struct ledger_message *message, uint8_t *room, size_t room_bytes)
{
    uint8_t rcpts[LEDGER_RCPTS * 64];
    char text[64];
    struct wire_writer w;
    struct envelope envelope = {.message_id = message->id,
                                .accepted_us = message->id * 7,
                                .flags = envelope_priority_flags(ledger_priority(message)),
                                .body_bytes = message->body_bytes,
                                .rcpt_count = message->rcpt_count,
                                .sender = SLICE_LITERAL("from@sender.example"),
                                .vmta = SLICE_LITERAL("vmta-one")};
    struct rng rng;

    wire_writer_init(&w, rcpts, sizeof(rcpts));
    for (uint32_t i = 0; i < message->rcpt_count; i++) {
        struct envelope_rcpt rcpt = {.orcpt = SLICE_EMPTY};

        snprintf(text, sizeof(text), "u%u@D%llu.example", i,
                 (unsigned long long)(message->id + i / 2) % 10);
        rcpt.address = slice_str(text);
        envelope_put_rcpt(&w, &rcpt);
    }
    must(!w.failed);
    envelope.rcpts = slice_of(rcpts, wire_written(&w));
    wire_writer_init(&w, room, room_bytes);
    envelope_encode(&envelope, &w);
    rng_init(&rng, message->id);
    for (uint32_t i = 0; i < message->body_bytes; i++)
        wire_put_u8(&w, i % 64 == 0 ? (uint8_t)rng_u64(&rng) : (uint8_t)i);
    must(!w.failed);
    return wire_written(&w);
}

/* ---- Steps in the outcome stream ------------------------------------------------------------ */

static void fate_new(struct ledger *ledger, uint64_t number, bool is_outcome)
{
    if (number >= ledger->fate_room) {
        uint64_t room = ledger->fate_room == 0 ? 1024 : ledger->fate_room * 2;

        ledger->fates = realloc(ledger->fates, room);
        must(ledger->fates != NULL);
        ledger->fate_room = room;
    }
    ledger->fates[number] = is_outcome ? LEDGER_FATE_OUTCOME : 0;
}

static struct ledger_step *step_new(struct ledger *ledger, bool is_outcome)
{
    struct ledger_step *step;

    if (ledger->step_next - ledger->step_first >= ledger->step_room) {
        uint64_t room = ledger->step_room == 0 ? 256 : ledger->step_room * 2;
        struct ledger_step *larger = calloc(room, sizeof(*larger));

        must(larger != NULL);
        for (uint64_t n = ledger->step_first; n < ledger->step_next; n++)
            larger[n % room] = ledger->steps[n % ledger->step_room];
        free(ledger->steps);
        ledger->steps = larger;
        ledger->step_room = room;
    }
    step = &ledger->steps[ledger->step_next % ledger->step_room];
    memset(step, 0, sizeof(*step));
    step->number = ledger->step_next++;
    fate_new(ledger, step->number, is_outcome);
    return step;
}

uint64_t ledger_outcome(struct ledger *ledger, struct ledger_message *message, uint32_t rcpt,
                        bool is_final, bool is_done)
{
    struct ledger_step *step = step_new(ledger, true);

    must(ledger_is_live(message) && !message->rcpts[rcpt].is_final);
    message->rcpts[rcpt].attempts++;
    message->rcpts[rcpt].is_final = is_final;
    message->rcpts[rcpt].is_final_told |= is_final;
    if (message->rcpts[rcpt].attempts > message->rcpts[rcpt].attempts_told)
        message->rcpts[rcpt].attempts_told = message->rcpts[rcpt].attempts;
    message->is_done = is_done;
    if (is_done)
        drop(ledger, message);
    step->message = message;
    step->which = rcpt;
    step->what = message->rcpts[rcpt].attempts;
    step->is_final = is_final;
    step->is_done = is_done;
    return step->number;
}

uint64_t ledger_named(struct ledger *ledger, uint32_t key)
{
    struct ledger_step *step = step_new(ledger, false);

    step->which = key;
    step->what = ++ledger->named[key].version;
    return step->number;
}

static void step_sure(struct ledger *ledger, const struct ledger_step *step)
{
    ledger->fates[step->number] |= LEDGER_FATE_SURE;
    if (step->message == NULL) {
        ledger->named[step->which].version_sure = step->what;
        return;
    }
    step->message->rcpts[step->which].attempts_sure = (uint16_t)step->what;
    step->message->rcpts[step->which].is_final_sure |= step->is_final;
    if (step->is_done)
        step->message->standing = LEDGER_DONE;
}

void ledger_sure(struct ledger *ledger, uint64_t step)
{
    for (; ledger->step_first <= step; ledger->step_first++)
        step_sure(ledger, &ledger->steps[ledger->step_first % ledger->step_room]);
}

void ledger_crashed(struct ledger *ledger)
{
    ledger->step_first = ledger->step_next;
    for (uint64_t i = 0; i < ledger->message_count; i++) {
        struct ledger_message *message = ledger->messages[i];

        message->is_moving = false;
        if (message->standing == LEDGER_SENT)
            message->standing = message->is_uncommitted ? LEDGER_REFUSED : LEDGER_UNKNOWN;
    }
}

void ledger_closed(struct ledger *ledger)
{
    ledger_sure(ledger, ledger->step_next - 1);
    ledger_crashed(ledger);
}

/* ---- Judgement ------------------------------------------------------------------------------ */

void ledger_recovery_begin(struct ledger *ledger)
{
    for (uint64_t i = 0; i < ledger->message_count; i++)
        ledger->messages[i]->is_seen = false;
    memset(ledger->named_seen, 0, sizeof(ledger->named_seen));
    ledger->damage_count = 0;
}

static void judge_rcpt(struct ledger *ledger, struct ledger_message *message, uint32_t i,
                       const struct log_state_rcpt *found)
{
    struct ledger_rcpt *rcpt = &message->rcpts[i];
    unsigned long long id = message->id;

    if (rcpt->is_final_sure && !found->is_final)
        ledger_fail(ledger, "message %llu recipient %u came back after a durable final", id, i);
    if (found->is_final && !rcpt->is_final_told)
        ledger_fail(ledger, "message %llu recipient %u is final, nobody said so", id, i);
    if (!found->is_final &&
        (found->attempts < rcpt->attempts_sure || found->attempts > rcpt->attempts_told))
        ledger_fail(ledger, "message %llu recipient %u: %u attempts, told %u, sure %u", id, i,
                    found->attempts, rcpt->attempts_told, rcpt->attempts_sure);
    if (!found->is_final && found->due_us != ledger_due(message, i, found->attempts))
        ledger_fail(ledger, "message %llu recipient %u: wrong due time", id, i);
    /* What this recovery brought back holds from now on. */
    rcpt->is_final = found->is_final;
    if (!found->is_final)
        rcpt->attempts = found->attempts;
    if (ledger->doubts_recovery)
        return;
    rcpt->is_final_told = rcpt->is_final;
    rcpt->is_final_sure = rcpt->is_final;
    rcpt->attempts_told = rcpt->attempts;
    rcpt->attempts_sure = rcpt->attempts;
}

void ledger_recovered_message(struct ledger *ledger, const struct log_message_state *state)
{
    struct ledger_message *message;
    struct log_state_rcpt rcpt;
    struct wire_reader r;
    uint32_t count = 0;

    ledger->checked++;
    if (state->message_id == 0 || state->message_id > ledger->message_count) {
        ledger_fail(ledger, "message %llu was never sent", (unsigned long long)state->message_id);
        return;
    }
    message = ledger->messages[state->message_id - 1];
    if (message->is_seen)
        ledger_fail(ledger, "message %llu told twice", (unsigned long long)message->id);
    message->is_seen = true;
    if (message->standing == LEDGER_REFUSED)
        ledger_fail(ledger, "message %llu was refused and is there",
                    (unsigned long long)message->id);
    if (message->standing == LEDGER_DONE)
        ledger_fail(ledger, "message %llu was done and came back", (unsigned long long)message->id);
    if (state->accepted_us != message->id * 7 || state->rcpt_count != message->rcpt_count ||
        state->priority != ledger_priority(message) ||
        !slice_equal(state->vmta, SLICE_LITERAL("vmta-one")))
        ledger_fail(ledger, "message %llu is not as it was", (unsigned long long)message->id);
    message->place = state->place;
    message->chunk_count = 0;
    wire_reader_init(&r, state->rcpts.data, state->rcpts.len);
    while (log_state_rcpt_next(&r, &rcpt) && count < message->rcpt_count)
        judge_rcpt(ledger, message, count++, &rcpt);
    if (count != message->rcpt_count)
        ledger_fail(ledger, "message %llu lacks recipients", (unsigned long long)message->id);
    message->is_done = false;
    if (!list_empty(&message->link))
        return;
    keep(ledger, message,
         message->standing != LEDGER_KEPT && ledger->doubts_messages ? LEDGER_FOUND : LEDGER_KEPT);
}

void ledger_recovered_named(struct ledger *ledger, const struct log_named *named)
{
    uint32_t key = named->key.len == 1 ? (uint32_t)(named->key.data[0] - 'a') : LEDGER_KEYS;
    struct ledger_named *fact = &ledger->named[key < LEDGER_KEYS ? key : 0];
    uint64_t version = 0;

    if (key >= LEDGER_KEYS || named->value.len != sizeof(version)) {
        ledger_fail(ledger, "an unknown named state");
        return;
    }
    memcpy(&version, named->value.data, sizeof(version));
    if (version < fact->version_sure || version > fact->version || version % 5 == 0)
        ledger_fail(ledger, "named state %u: version %llu, told %llu, sure %llu", key,
                    (unsigned long long)version, (unsigned long long)fact->version,
                    (unsigned long long)fact->version_sure);
    fact->version = version;
    if (!ledger->doubts_recovery)
        fact->version_sure = version;
    ledger->named_seen[key] = true;
}

/* Outcomes that a recovery did not show may have been there all the same. */
static bool may_be_done(const struct ledger *ledger, const struct ledger_message *message)
{
    if (message->is_done || !ledger->doubts_recovery)
        return message->is_done;
    for (uint32_t i = 0; i < message->rcpt_count; i++) {
        if (!message->rcpts[i].is_final_told)
            return false;
    }
    return true;
}

void ledger_recovery_end(struct ledger *ledger)
{
    for (uint64_t i = 0; i < ledger->message_count; i++) {
        struct ledger_message *message = ledger->messages[i];

        if (message->is_seen)
            continue;
        if (message->standing == LEDGER_KEPT && !may_be_done(ledger, message) &&
            !ledger->expects_damage)
            ledger_fail(ledger, "message %llu is lost, was at %u:%u in slot %u",
                        (unsigned long long)message->id, message->place.serial,
                        message->place.offset, message->place.slot);
        if (!list_empty(&message->link))
            drop(ledger, message);
        /* What one recovery did not show, no later one may. */
        if (message->standing == LEDGER_KEPT)
            message->standing = ledger->doubts_recovery ? LEDGER_FOUND : LEDGER_DONE;
        else if (message->standing == LEDGER_UNKNOWN || message->standing == LEDGER_FOUND)
            message->standing = LEDGER_REFUSED;
    }
    for (uint32_t key = 0; key < LEDGER_KEYS; key++) {
        struct ledger_named *fact = &ledger->named[key];
        uint64_t newest_empty = fact->version - fact->version % 5;

        if (ledger->named_seen[key])
            continue;
        /* Versions divisible by five are empty, 0 is "never set". */
        if (newest_empty < fact->version_sure && !ledger->expects_damage)
            ledger_fail(ledger, "named state %u is lost", key);
        fact->version = newest_empty;
        if (!ledger->doubts_recovery)
            fact->version_sure = newest_empty;
    }
    if (ledger->damage_count > 0 && !ledger->expects_damage)
        ledger_fail(ledger, "damage was reported where there is none");
}

static void check_skipped(struct ledger *ledger, uint64_t upto)
{
    for (uint64_t n = ledger->cursor_read + 1; n < upto; n++) {
        if (ledger->fates[n] == (LEDGER_FATE_OUTCOME | LEDGER_FATE_SURE))
            ledger_fail(ledger, "the cursor never read outcome %llu", (unsigned long long)n);
    }
}

void ledger_cursor_read(struct ledger *ledger, uint64_t number)
{
    if (number <= ledger->cursor_read || number >= ledger->step_next) {
        ledger_fail(ledger, "the cursor read outcome %llu after %llu", (unsigned long long)number,
                    (unsigned long long)ledger->cursor_read);
        return;
    }
    if (!ledger->expects_damage)
        check_skipped(ledger, number);
    ledger->cursor_read = number;
}

void ledger_cursor_end(struct ledger *ledger)
{
    check_skipped(ledger, ledger->step_next);
}
