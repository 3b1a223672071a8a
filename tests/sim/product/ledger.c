#include "tests/sim/product/ledger.h"

#include <stdio.h>
#include <stdlib.h>

void ledger_init(struct ledger *ledger, uint32_t count, uint32_t domain_count, struct rng *rng)
{
    *ledger = (struct ledger){.count = count, .domain_count = domain_count};
    ledger->messages = calloc(count, sizeof(struct ledger_message));
    ledger->again = calloc(count, sizeof(*ledger->again));
    for (uint32_t i = 0; i < count; i++) {
        ledger->messages[i].domain = (uint16_t)rng_below(rng, domain_count);
        ledger->messages[i].rcpt_count =
            rng_one_in(rng, 4) ? (uint8_t)rng_between(rng, 2, LEDGER_RCPTS_MAX) : 1;
    }
}

void ledger_heat(struct ledger *ledger, struct rng *rng)
{
    for (uint32_t i = 0; i < ledger->count; i++)
        if (rng_one_in(rng, 2))
            ledger->messages[i].domain = 0;
}

void ledger_fini(struct ledger *ledger)
{
    free(ledger->messages);
    free(ledger->again);
}

uint32_t ledger_take_next(struct ledger *ledger)
{
    return ledger->again_count > 0 ? ledger->again[--ledger->again_count] : ledger->next++;
}

void ledger_give_back(struct ledger *ledger, uint32_t number)
{
    ledger->again[ledger->again_count++] = number;
}

bool ledger_all_sent(const struct ledger *ledger)
{
    return ledger->next == ledger->count && ledger->again_count == 0;
}

void ledger_crash(struct ledger *ledger, uint64_t now_ns, uint64_t from_ns)
{
    if (ledger->crash_count < LEDGER_CRASHES_MAX)
        ledger->crashes[ledger->crash_count++] =
            (struct ledger_crash){from_ns < now_ns ? from_ns : now_ns, now_ns};
}

/* Some are several chunks, and some more than a small segment holds. */
uint32_t ledger_line_count(uint32_t number)
{
    return 4 + number % 7 + (number % 97 == 0 ? 400 : 0) + (number % 61 == 7 ? 2500 : 0);
}

bool ledger_line(uint32_t number, uint32_t line, char *room, size_t room_bytes)
{
    if (line >= ledger_line_count(number))
        return false;
    if (line == 0)
        snprintf(room, room_bytes, "X-Sim-Number: %u", number);
    else if (line == 1)
        snprintf(room, room_bytes, "Subject: message %u", number);
    else if (line == 2)
        room[0] = '\0';
    else
        snprintf(room, room_bytes, "%s line %u of message %u, %u",
                 number % 2 || line % 3 ? "some" : ".dotted", line, number,
                 number * 2654435761u + line);
    return true;
}

bool ledger_parse_rcpt(struct slice text, uint32_t *ret_number, uint32_t *ret_ordinal)
{
    char copy[64];
    int end = 0;

    if (text.len >= sizeof(copy))
        return false;
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    return sscanf(copy, "u%u.%u@%n", ret_number, ret_ordinal, &end) == 2 && end > 0;
}

void ledger_violation(struct ledger *ledger, uint32_t number, const char *text)
{
    ledger->violations++;
    if (!ledger->is_quiet)
        fprintf(stderr, "VIOLATION: message %u: %s\n", number, text);
}

/* A crash so soon after the event that its outcome record may not have been durable, or before it
 * while its connection stood. */
static bool crash_excuses(const struct ledger *ledger, struct ledger_time event)
{
    for (uint32_t i = 0; i < ledger->crash_count; i++)
        if (ledger->crashes[i].at_ns >= event.opened_ns &&
            ledger->crashes[i].from_ns <= event.now_ns + ledger->crash_window_ns)
            return true;
    return false;
}

static struct ledger_rcpt *rcpt_at(struct ledger *ledger, uint32_t number, uint32_t ordinal)
{
    if (number >= ledger->count || ordinal >= ledger->messages[number].rcpt_count) {
        ledger_violation(ledger, number, "a recipient nobody sent to");
        return &ledger->messages[0].rcpts[0];
    }
    return &ledger->messages[number].rcpts[ordinal];
}

static void check_retry(struct ledger *ledger, uint32_t number, struct ledger_time deferred,
                        struct ledger_time offered)
{
    if (deferred.now_ns && offered.now_ns > deferred.now_ns &&
        offered.now_ns - deferred.now_ns < ledger->retry_min_ns &&
        !crash_excuses(ledger, deferred) && !crash_excuses(ledger, offered))
        ledger_violation(ledger, number, "tried again too early after a 4xx");
}

void ledger_offered(struct ledger *ledger, uint32_t number, uint32_t ordinal,
                    struct ledger_time time)
{
    struct ledger_rcpt *rcpt = rcpt_at(ledger, number, ordinal);

    check_retry(ledger, number, rcpt->deferred, time);
    if (rcpt->offered.now_ns < time.now_ns)
        rcpt->offered = time;
}

void ledger_deferred(struct ledger *ledger, uint32_t number, uint32_t ordinal,
                     struct ledger_time time)
{
    struct ledger_rcpt *rcpt = rcpt_at(ledger, number, ordinal);

    check_retry(ledger, number, time, rcpt->offered);
    if (rcpt->deferred.now_ns < time.now_ns)
        rcpt->deferred = time;
}

void ledger_refused(struct ledger *ledger, uint32_t number, uint32_t ordinal)
{
    rcpt_at(ledger, number, ordinal)->is_refused = true;
}

void ledger_accepted(struct ledger *ledger, uint32_t number, uint32_t ordinal,
                     struct ledger_time time)
{
    struct ledger_rcpt *rcpt = rcpt_at(ledger, number, ordinal);

    if (ledger->messages[number].is_refused)
        ledger_violation(ledger, number, "delivered though its sender was told no");
    if (rcpt->accepted_count > 0) {
        if (!rcpt->reply_in_doubt && !crash_excuses(ledger, rcpt->accepted) &&
            !crash_excuses(ledger, time))
            ledger_violation(ledger, number, "delivered twice");
        else
            ledger->doubles_excused++;
    }
    rcpt->accepted_count++;
    rcpt->accepted = time;
    rcpt->reply_in_doubt = false;
}

void ledger_doubt(struct ledger *ledger, uint32_t number, uint32_t ordinal)
{
    rcpt_at(ledger, number, ordinal)->reply_in_doubt = true;
}

void ledger_noticed(struct ledger *ledger, uint32_t number, uint32_t ordinal, uint64_t notice)
{
    struct ledger_rcpt *rcpt = rcpt_at(ledger, number, ordinal);
    bool is_excused = false;

    for (uint32_t i = 0; i < ledger->crash_count; i++)
        is_excused |= ledger->crashes[i].at_ns >= ledger->messages[number].answered_ns;
    if (rcpt->is_noticed && rcpt->notice != notice && !is_excused)
        ledger_violation(ledger, number, "two notices of one failure");
    ledger->notices_doubled += rcpt->is_noticed && rcpt->notice != notice;
    ledger->notices += !rcpt->is_noticed;
    rcpt->is_noticed = true;
    rcpt->notice = notice;
}

static bool lacks_notice(const struct ledger_message *message)
{
    for (uint32_t i = 0; i < message->rcpt_count; i++)
        if (message->rcpts[i].accepted_count == 0 && !message->rcpts[i].is_noticed)
            return true;
    return false;
}

static bool message_is_complete(const struct ledger_message *message)
{
    for (uint32_t i = 0; i < message->rcpt_count; i++)
        if (message->rcpts[i].accepted_count == 0 && !message->rcpts[i].is_refused)
            return false;
    return true;
}

bool ledger_is_complete(const struct ledger *ledger)
{
    for (uint32_t i = 0; i < ledger->count; i++)
        if (ledger->messages[i].answered_ns && !message_is_complete(&ledger->messages[i]))
            return false;
    return true;
}

uint32_t ledger_check(struct ledger *ledger)
{
    uint64_t given_up = 0;

    for (uint32_t i = 0; i < ledger->count; i++)
        if (ledger->messages[i].answered_ns && !message_is_complete(&ledger->messages[i]))
            ledger_violation(ledger, i, "LOST: answered 250, neither delivered nor refused");
        else if (ledger->messages[i].answered_ns && lacks_notice(&ledger->messages[i]) &&
                 given_up++ >= ledger->notices_given_up)
            ledger_violation(ledger, i, "refused, and its sender was never told");
    return ledger->violations;
}
