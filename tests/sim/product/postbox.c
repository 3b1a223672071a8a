/* The senders' own host: takes every notice and tells the ledger whose failure it is about. */
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "tests/sim/product/remote_int.h"
#include "tests/sim/product/signed.h"

#define NOTICE_RCPTS_MAX 64

/* One connection. */
struct posting {
    bool in_data;
    uint64_t notice; /* hash of its Message-ID */
    struct signed_mail mail;
    uint32_t rcpt_count;
    struct {
        uint32_t number;
        uint32_t ordinal;
    } rcpts[NOTICE_RCPTS_MAX];
};

static void take_line(struct remote *remote, struct posting *p, struct slice line)
{
    static const struct slice id = SLICE_LITERAL("Message-ID: ");
    static const struct slice rcpt = SLICE_LITERAL("Final-Recipient: rfc822; ");

    if (remote->is_signed)
        signed_mail_put(&p->mail,
                        line.len > 0 && line.data[0] == '.' ? slice_after(line, 1) : line);
    if (slice_starts_nocase(line, id))
        p->notice = hash_bytes(line.data, line.len);
    if (!slice_starts_nocase(line, rcpt))
        return;
    if (p->rcpt_count == NOTICE_RCPTS_MAX ||
        !ledger_parse_rcpt(slice_after(line, rcpt.len), &p->rcpts[p->rcpt_count].number,
                           &p->rcpts[p->rcpt_count].ordinal))
        ledger_violation(remote->ledger, 0, "a notice of nobody");
    else
        p->rcpt_count++;
}

/* It is told of even when our reply gets lost: then the same notice comes again. */
static void end_data(struct remote *remote, struct posting *p, struct sim_peer_conn *conn)
{
    if (p->rcpt_count == 0)
        ledger_violation(remote->ledger, 0, "a notice without recipients");
    /* One for which there was no memory goes unsigned. */
    if (signed_mail_says_so(&p->mail) && !signed_mail_is_good(&p->mail))
        ledger_violation(remote->ledger, 0, "a notice whose signature is wrong");
    for (uint32_t i = 0; i < p->rcpt_count; i++)
        ledger_noticed(remote->ledger, p->rcpts[i].number, p->rcpts[i].ordinal, p->notice);
    *p = (struct posting){0};
    sim_peer_printf(conn, "250 2.0.0 thank you\r\n");
}

static void on_command(struct sim_peer_conn *conn, struct remote *remote, struct posting *p,
                       struct slice line)
{
    if (slice_starts_nocase(line, SLICE_LITERAL("MAIL")) &&
        !slice_starts_nocase(line, SLICE_LITERAL("MAIL FROM:<>")))
        ledger_violation(remote->ledger, 0, "a notice with a sender");
    if (slice_equal_nocase(line, SLICE_LITERAL("DATA"))) {
        p->in_data = true;
        sim_peer_printf(conn, "354 go on\r\n");
    } else if (slice_equal_nocase(line, SLICE_LITERAL("QUIT"))) {
        sim_peer_printf(conn, "221 2.0.0 bye\r\n");
        mem_free(p);
        sim_peer_set_data(conn, NULL);
        sim_peer_close(conn);
    } else {
        sim_peer_printf(conn, "250 2.0.0 fine\r\n");
    }
}

static void on_open(struct sim_peer_conn *conn)
{
    sim_peer_set_data(conn, sim_peer_alloc(sim_peer_of(conn), sizeof(struct posting)));
    sim_peer_printf(conn, "220 postbox.test\r\n");
}

static void on_line(struct sim_peer_conn *conn, struct slice line)
{
    struct remote *remote = sim_peer_context(sim_peer_of(conn));
    struct posting *p = sim_peer_data(conn);

    if (!p)
        return;
    if (!p->in_data)
        on_command(conn, remote, p, line);
    else if (line.len == 1 && line.data[0] == '.')
        end_data(remote, p, conn);
    else
        take_line(remote, p, line);
}

static void on_end(struct sim_peer_conn *conn, int32_t reason)
{
    (void)reason;
    mem_free(sim_peer_data(conn));
    sim_peer_set_data(conn, NULL);
}

const struct sim_peer_handlers postbox_handlers = {
    .on_open = on_open,
    .on_line = on_line,
    .on_end = on_end,
};
