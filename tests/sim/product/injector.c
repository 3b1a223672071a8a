/* Injectors: sessions that send numbered messages and note what is answered 250. */
#include "core/base/mem.h"
#include "tests/sim/product/remote_int.h"

#include <stdio.h>

enum injecting_state {
    INJECT_GREETING,
    INJECT_EHLO,
    INJECT_ENVELOPE, /* replies to MAIL, RCPTs, DATA outstanding */
    INJECT_DOT,
};

struct injecting {
    enum injecting_state state;
    uint32_t number;
    uint32_t replies_wanted;
    bool is_refused;   /* some command of the flight */
    bool is_under_way; /* the message, from MAIL to its answer */
};

/* We end the connection: on_end does not come. */
static void hang_up(struct sim_peer_conn *conn, bool at_once)
{
    mem_free(sim_peer_data(conn));
    sim_peer_set_data(conn, NULL);
    if (at_once)
        sim_peer_drop(conn);
    else
        sim_peer_close(conn);
}

static void send_envelope(struct sim_peer_conn *conn, struct remote *remote, struct injecting *s)
{
    struct ledger *ledger = remote->ledger;
    struct ledger_message *message;

    if (!remote->inject || ledger_all_sent(ledger) ||
        sim_now_ns(remote->world) < remote->rest_until_ns) {
        sim_peer_printf(conn, "QUIT\r\n");
        hang_up(conn, false);
        return;
    }
    s->number = ledger_take_next(ledger);
    s->is_under_way = true;
    message = &ledger->messages[s->number];
    sim_peer_printf(conn, "MAIL FROM:<s%u@sender.test>\r\n", s->number);
    for (uint32_t i = 0; i < message->rcpt_count; i++)
        sim_peer_printf(conn, "RCPT TO:<u%u.%u@d%u.test>\r\n", s->number, i,
                        (message->domain + i / 2) % ledger->domain_count);
    sim_peer_printf(conn, "DATA\r\n");
    s->state = INJECT_ENVELOPE;
    s->replies_wanted = message->rcpt_count + 2u;
    s->is_refused = false;
}

/* A long one is cut short now and then: its client goes away in the middle of it. */
static void send_content(struct sim_peer_conn *conn, struct remote *remote, struct injecting *s)
{
    struct rng *rng = sim_rng(remote->world);
    uint32_t count = ledger_line_count(s->number);
    uint32_t end = UINT32_MAX;
    char line[256];

    if (remote->clients_leave && count > 100 && rng_one_in(rng, 8))
        end = (uint32_t)rng_below(rng, count);
    for (uint32_t i = 0; i < end && ledger_line(s->number, i, line, sizeof(line)); i++) {
        sim_peer_printf(conn, "%s%s\r\n", line[0] == '.' ? "." : "", line);
        if (i == 0 && remote->has_jobs)
            sim_peer_printf(conn, "x-JOB: %c\r\n\tjob\r\n", 'a' + s->number % 3);
    }
    if (end < count) {
        remote->ledger->messages[s->number].is_refused = true;
        remote->answers.cut_short++;
        hang_up(conn, rng_one_in(rng, 2));
        return;
    }
    sim_peer_printf(conn, ".\r\n");
    s->state = INJECT_DOT;
}

static void on_open(struct sim_peer_conn *conn)
{
    sim_peer_set_data(conn, sim_peer_alloc(sim_peer_of(conn), sizeof(struct injecting)));
}

/* No new connections for a while. */
static void rest(struct remote *remote, uint64_t most_ms)
{
    uint64_t wait_ms = rng_between(sim_rng(remote->world), 1, most_ms);

    remote->rest_until_ns = sim_now_ns(remote->world) + wait_ms * 1000000;
    io_timer_arm(sim_peer_io(remote->injector), &remote->rest, remote->rest_until_ns);
}

/* Refused before it was sent: nothing of it can be in the queue. It comes again. */
static void put_off(struct remote *remote, struct injecting *s)
{
    s->is_under_way = false;
    ledger_give_back(remote->ledger, s->number);
    remote->answers.put_off++;
    rest(remote, 20000);
}

static void on_dot_answer(struct remote *remote, struct injecting *s, bool is_good)
{
    s->is_under_way = false;
    if (is_good) {
        remote->ledger->messages[s->number].answered_ns = sim_now_ns(remote->world);
        remote->ledger->answered++;
        remote->answers.answered_250++;
    } else {
        remote->ledger->messages[s->number].is_refused = true;
        remote->answers.refused_after_dot++;
    }
}

static void on_envelope_answered(struct sim_peer_conn *conn, struct remote *remote,
                                 struct injecting *s, bool goes_on)
{
    if (goes_on && !s->is_refused) {
        send_content(conn, remote, s);
        return;
    }
    put_off(remote, s);
    /* Some recipients were refused, but the content is waited for: the connection is given up. */
    if (goes_on)
        hang_up(conn, true);
    else
        send_envelope(conn, remote, s);
}

static bool says(struct slice line, const char *text)
{
    return memmem(line.data, line.len, text, strlen(text)) != NULL;
}

/* Why the product stops taking mail. */
static void note_refusal(struct remote_answers *answers, struct slice line)
{
    answers->told_memory += says(line, "memory");
    answers->told_full += says(line, "queue is full") || says(line, "too many messages");
    answers->told_space += says(line, "disk space");
}

static void on_line(struct sim_peer_conn *conn, struct slice line)
{
    struct remote *remote = sim_peer_context(sim_peer_of(conn));
    struct injecting *s = sim_peer_data(conn);
    bool is_good = line.len > 3 && (line.data[0] == '2' || line.data[0] == '3');

    if (!s || (line.len > 3 && line.data[3] == '-'))
        return;
    if (!is_good)
        note_refusal(&remote->answers, line);
    switch (s->state) {
    case INJECT_GREETING:
        if (!is_good) {
            remote->answers.turned_away++;
            rest(remote, 20000);
            hang_up(conn, false);
            return;
        }
        sim_peer_printf(conn, "EHLO injector.test\r\n");
        s->state = INJECT_EHLO;
        return;
    case INJECT_EHLO:
        send_envelope(conn, remote, s);
        return;
    case INJECT_ENVELOPE:
        s->is_refused |= !is_good;
        if (--s->replies_wanted > 0)
            return;
        on_envelope_answered(conn, remote, s, line.data[0] == '3');
        return;
    case INJECT_DOT:
        on_dot_answer(remote, s, is_good);
        send_envelope(conn, remote, s);
        return;
    }
}

static void on_end(struct sim_peer_conn *conn, int32_t reason)
{
    struct remote *remote = sim_peer_context(sim_peer_of(conn));
    struct injecting *s = sim_peer_data(conn);

    (void)reason;
    if (s && s->is_under_way) {
        remote->answers.unanswered++;
        rest(remote, 2000);
    }
    mem_free(s);
    sim_peer_set_data(conn, NULL);
}

const struct sim_peer_handlers injector_handlers = {
    .on_open = on_open,
    .on_line = on_line,
    .on_end = on_end,
};
