/* Receivers: SMTP servers that count what they take and misbehave at given rates. */
#include "tests/sim/product/remote_int.h"

#include <stdio.h>
#include <stdlib.h>

struct receiver_rcpt {
    uint32_t number;
    uint32_t ordinal;
};

/* One connection to a receiver. */
struct receiving {
    struct receiver_rcpt rcpts[16];
    uint32_t rcpt_count;
    bool in_mail;
    bool in_data;
    bool in_content; /* behind our own Received field, in the sender's lines */
    bool is_damaged;
    uint32_t number; /* of the message arriving */
    uint32_t line;
    /* The last message taken, until the client says something further. */
    struct receiver_rcpt taken[16];
    uint64_t opened_ns;
    uint32_t taken_count;
};

/* We end the connection: on_end does not come. */
static void hang_up(struct sim_peer_conn *conn, bool at_once)
{
    free(sim_peer_data(conn));
    sim_peer_set_data(conn, NULL);
    if (at_once)
        sim_peer_drop(conn);
    else
        sim_peer_close(conn);
}

static bool play(struct remote *remote, uint32_t rate, uint32_t *hits)
{
    if (rate == 0 || !rng_one_in(sim_rng(remote->world), rate))
        return false;
    (*hits)++;
    return true;
}

#define PLAY(remote, name) play(remote, (remote)->rates.name, &(remote)->hits.name)

static void on_open(struct sim_peer_conn *conn)
{
    struct remote *remote = sim_peer_context(sim_peer_of(conn));

    struct receiving *r = calloc(1, sizeof(*r));

    r->opened_ns = sim_now_ns(remote->world);
    sim_peer_set_data(conn, r);
    if (PLAY(remote, greeting_drop))
        hang_up(conn, true);
    else if (PLAY(remote, greeting_5xx)) {
        sim_peer_printf(conn, "554 5.7.1 not today\r\n");
        hang_up(conn, false);
    } else
        sim_peer_printf(conn, "220 receiver.test ESMTP\r\n");
}

static void forget_transaction(struct receiving *r)
{
    r->in_mail = false;
    r->in_data = false;
    r->rcpt_count = 0;
}

static void on_rcpt(struct sim_peer_conn *conn, struct remote *remote, struct receiving *r,
                    struct slice line)
{
    struct ledger_time time = {sim_now_ns(remote->world), r->opened_ns};
    struct receiver_rcpt rcpt;

    if (!r->in_mail || line.len < 10 ||
        !ledger_parse_rcpt(slice_of(line.data + 9, line.len - 10), &rcpt.number, &rcpt.ordinal)) {
        ledger_violation(remote->ledger, 0, "a RCPT that makes no sense");
        sim_peer_printf(conn, "503 5.5.1 no\r\n");
        return;
    }
    ledger_offered(remote->ledger, rcpt.number, rcpt.ordinal, time);
    if (PLAY(remote, rcpt_4xx)) {
        ledger_deferred(remote->ledger, rcpt.number, rcpt.ordinal, time);
        sim_peer_printf(conn, "450 4.2.1 later\r\n");
    } else if (PLAY(remote, rcpt_5xx)) {
        ledger_refused(remote->ledger, rcpt.number, rcpt.ordinal);
        sim_peer_printf(conn, "550 5.1.1 no such user\r\n");
    } else if (r->rcpt_count > 0 && PLAY(remote, rcpt_too_many)) {
        sim_peer_printf(conn, "452 4.5.3 too many recipients\r\n");
    } else if (r->rcpt_count == 16) {
        sim_peer_printf(conn, "452 4.5.3 too many recipients\r\n");
    } else {
        r->rcpts[r->rcpt_count++] = rcpt;
        sim_peer_printf(conn, "250 2.1.5 ok\r\n");
    }
}

static void on_data(struct sim_peer_conn *conn, struct remote *remote, struct receiving *r)
{
    struct ledger_time time = {sim_now_ns(remote->world), r->opened_ns};

    if (r->rcpt_count == 0) {
        sim_peer_printf(conn, "554 5.5.1 no valid recipients\r\n");
        return;
    }
    if (PLAY(remote, data_4xx)) {
        for (uint32_t i = 0; i < r->rcpt_count; i++)
            ledger_deferred(remote->ledger, r->rcpts[i].number, r->rcpts[i].ordinal, time);
        sim_peer_printf(conn, "451 4.3.0 not now\r\n");
        forget_transaction(r);
        return;
    }
    r->in_data = true;
    r->in_content = false;
    r->is_damaged = false;
    r->line = 0;
    sim_peer_printf(conn, "354 go on\r\n");
}

static void take(struct sim_peer_conn *conn, struct remote *remote, struct receiving *r, bool reply)
{
    struct ledger_time time = {sim_now_ns(remote->world), r->opened_ns};
    char expected[256];

    remote->transactions++;
    if (r->is_damaged || !r->in_content ||
        ledger_line(r->number, r->line, expected, sizeof(expected)))
        ledger_violation(remote->ledger, r->number, "content is not what was sent");
    for (uint32_t i = 0; i < r->rcpt_count; i++) {
        if (r->rcpts[i].number != r->number)
            ledger_violation(remote->ledger, r->number, "content of another message");
        ledger_accepted(remote->ledger, r->rcpts[i].number, r->rcpts[i].ordinal, time);
        if (!reply)
            ledger_doubt(remote->ledger, r->rcpts[i].number, r->rcpts[i].ordinal);
    }
    memcpy(r->taken, r->rcpts, sizeof(r->taken));
    r->taken_count = r->rcpt_count;
    if (reply)
        sim_peer_printf(conn, "250 2.0.0 taken\r\n");
}

static void on_dot(struct sim_peer_conn *conn, struct remote *remote, struct receiving *r)
{
    struct ledger_time time = {sim_now_ns(remote->world), r->opened_ns};

    if (PLAY(remote, dot_4xx)) {
        for (uint32_t i = 0; i < r->rcpt_count; i++)
            ledger_deferred(remote->ledger, r->rcpts[i].number, r->rcpts[i].ordinal, time);
        sim_peer_printf(conn, "450 4.7.1 later\r\n");
    } else if (PLAY(remote, dot_5xx)) {
        for (uint32_t i = 0; i < r->rcpt_count; i++)
            ledger_refused(remote->ledger, r->rcpts[i].number, r->rcpts[i].ordinal);
        sim_peer_printf(conn, "554 5.6.0 refused\r\n");
    } else if (PLAY(remote, dot_drop_taken)) {
        take(conn, remote, r, false);
        hang_up(conn, true);
        return;
    } else if (PLAY(remote, dot_drop_lost)) {
        hang_up(conn, true);
        return;
    } else {
        take(conn, remote, r, true);
    }
    forget_transaction(r);
}

static void on_content(struct sim_peer_conn *conn, struct remote *remote, struct receiving *r,
                       struct slice line)
{
    char expected[256];

    if (line.len == 1 && line.data[0] == '.') {
        on_dot(conn, remote, r);
        return;
    }
    if (line.len > 0 && line.data[0] == '.')
        line = slice_after(line, 1);
    if (!r->in_content) {
        const char name[] = "X-Sim-Number: ";
        uint64_t number;

        if (line.len <= sizeof(name) - 1 || memcmp(line.data, name, sizeof(name) - 1) != 0)
            return;
        if (slice_to_u64(slice_after(line, sizeof(name) - 1), UINT32_MAX, &number) < 0)
            return;
        r->number = (uint32_t)number;
        r->in_content = true;
    }
    if (!ledger_line(r->number, r->line++, expected, sizeof(expected)) ||
        !slice_equal(line, slice_str(expected)))
        r->is_damaged = true;
}

static void on_command(struct sim_peer_conn *conn, struct remote *remote, struct receiving *r,
                       struct slice line)
{
    if (slice_starts_nocase(line, SLICE_LITERAL("EHLO"))) {
        sim_peer_printf(conn, "250-receiver.test\r\n250-PIPELINING\r\n250-SIZE 1000000\r\n"
                              "250 8BITMIME\r\n");
    } else if (slice_starts_nocase(line, SLICE_LITERAL("MAIL"))) {
        if (PLAY(remote, mail_421)) {
            sim_peer_printf(conn, "421 4.3.2 going down\r\n");
            hang_up(conn, false);
            return;
        }
        forget_transaction(r);
        r->in_mail = true;
        sim_peer_printf(conn, "250 2.1.0 ok\r\n");
    } else if (slice_starts_nocase(line, SLICE_LITERAL("RCPT TO:"))) {
        on_rcpt(conn, remote, r, line);
    } else if (slice_equal_nocase(line, SLICE_LITERAL("DATA"))) {
        on_data(conn, remote, r);
    } else if (slice_equal_nocase(line, SLICE_LITERAL("RSET"))) {
        forget_transaction(r);
        sim_peer_printf(conn, "250 2.0.0 ok\r\n");
    } else if (slice_equal_nocase(line, SLICE_LITERAL("QUIT"))) {
        sim_peer_printf(conn, "221 2.0.0 bye\r\n");
        hang_up(conn, false);
    } else {
        ledger_violation(remote->ledger, 0, "a command that makes no sense");
        sim_peer_printf(conn, "500 5.5.2 what?\r\n");
    }
}

static void on_line(struct sim_peer_conn *conn, struct slice line)
{
    struct remote *remote = sim_peer_context(sim_peer_of(conn));
    struct receiving *r = sim_peer_data(conn);

    if (!r)
        return;
    if (r->in_data) {
        on_content(conn, remote, r, line);
        return;
    }
    /* The client goes on: it has seen our last reply. */
    r->taken_count = 0;
    if (PLAY(remote, command_drop))
        hang_up(conn, true);
    else if (PLAY(remote, garbage)) {
        sim_peer_printf(conn, "2x0 \x01 garbage\r\n");
        hang_up(conn, false);
    } else
        on_command(conn, remote, r, line);
}

static void on_end(struct sim_peer_conn *conn, int32_t reason)
{
    struct remote *remote = sim_peer_context(sim_peer_of(conn));
    struct receiving *r = sim_peer_data(conn);

    (void)reason;
    for (uint32_t i = 0; r && i < r->taken_count; i++)
        ledger_doubt(remote->ledger, r->taken[i].number, r->taken[i].ordinal);
    free(r);
    sim_peer_set_data(conn, NULL);
}

const struct sim_peer_handlers receiver_handlers = {
    .on_open = on_open,
    .on_line = on_line,
    .on_end = on_end,
};
