/*
 * The transaction whose commands leave in the flight that ends the message before.
 *
 * What may go wrong: a receiver that answers once too often, or throws away what lies behind the
 * dot, shifts all replies that follow. 354 answers nothing but DATA, so it proves step; without it
 * the reply to RSET, sent alone, must be a 2xx with nothing behind it. Until then no recipient is
 * reported, however clear its reply looks.
 */
#include "net/smtpc_int.h"

bool smtpc_send_ahead(struct smtpc *conn, const struct smtpc_transaction *transaction)
{
    must(conn->is_ending && conn->ahead.rcpt_count == 0);
    must(transaction->rcpt_count >= 1 && transaction->rcpt_count <= SMTPC_RCPT_COUNT_MAX);
    if (smtpc_check_transaction(conn, transaction) != SMTPC_REFUSE_NOTHING)
        return false;
    conn->ahead = *transaction;
    return true;
}

bool smtpc_write_ahead(struct smtpc *conn)
{
    struct smtpc_flight *flight = conn->flight;

    if (conn->events->on_ending == NULL || conn->open_count == 0 || conn->send_failed ||
        (conn->extensions & SMTPC_PIPELINING) == 0 || conn->options.ignore_pipelining)
        return false;
    conn->is_ending = true;
    conn->events->on_ending(conn, conn->context);
    conn->is_ending = false;
    must(conn->state == SMTPC_BODY);
    if (conn->ahead.rcpt_count == 0)
        return false;
    flight->next_rcpt = 0;
    flight->next_command = SMTPC_MAIL;
    flight->dot_is_followed = true;
    smtpc_write_commands(conn);
    return true;
}

void smtpc_go_ahead(struct smtpc *conn)
{
    struct smtpc_flight *flight = conn->flight;

    conn->transaction = conn->ahead;
    conn->ahead.rcpt_count = 0;
    conn->open_count = conn->transaction.rcpt_count;
    memset(conn->reported, 0, sizeof(conn->reported));
    conn->is_tentative = true;
    conn->all_held = false;
    flight->dot = SMTPC_DOT_HELD;
    flight->dot_is_followed = false;
    flight->had_reply = false;
    flight->refusal_bytes = 0;
    flight->accepted_count = 0;
    flight->rcpts_are_told = true;
    flight->content_at = 0;
    flight->content_offset = 0;
    conn->events->on_transaction_done(conn, conn->context, false);
    if (conn->state == SMTPC_CLOSING)
        return;
    smtpc_start_deadline(conn);
    smtpc_proceed(conn);
}

/* ---- Step ---------------------------------------------------------------------------------- */

void smtpc_hold(struct smtpc *conn, uint8_t rcpt, const struct verdict *verdict)
{
    struct slab *slab = &conn->engine->held;
    struct smtpc_held *held;
    uint32_t slot;

    if (conn->all_held)
        return;
    held = slab_alloc(slab, &slot);
    if (held == NULL) {
        smtpc_fail(conn, SMTPC_NO_MEMORY, NULL);
        return;
    }
    conn->all_held = rcpt == SMTPC_HELD_OPEN;
    held->next = SMTPC_NO_HELD;
    held->rcpt = rcpt;
    held->verdict = *verdict;
    if (conn->held_first == SMTPC_NO_HELD)
        conn->held_first = slot;
    else
        ((struct smtpc_held *)slab_at(slab, conn->held_last))->next = slot;
    conn->held_last = slot;
}

void smtpc_confirm(struct smtpc *conn)
{
    struct slab *slab = &conn->engine->held;

    conn->is_tentative = false;
    while (conn->held_first != SMTPC_NO_HELD) {
        uint32_t slot = conn->held_first;
        struct smtpc_held *held = slab_at(slab, slot);

        conn->held_first = held->next;
        if (held->rcpt == SMTPC_HELD_OPEN)
            smtpc_report_open(conn, &held->verdict);
        else
            smtpc_report(conn, held->rcpt, &held->verdict);
        slab_free(slab, slot);
    }
    conn->all_held = false;
}

void smtpc_drop_held(struct smtpc *conn)
{
    struct slab *slab = &conn->engine->held;

    while (conn->held_first != SMTPC_NO_HELD) {
        uint32_t slot = conn->held_first;

        conn->held_first = ((struct smtpc_held *)slab_at(slab, slot))->next;
        slab_free(slab, slot);
    }
}

bool smtpc_is_untouched(const struct smtpc *conn)
{
    if (conn->is_sent_away)
        return true;
    if (conn->refusal != SMTPC_REFUSE_NOTHING || conn->flight == NULL || conn->flight->had_reply)
        return false;
    /* A chunk may have been read to its end before anything was answered. */
    return conn->is_tentative ||
           (conn->has_taken && conn->cause == SMTPC_LOST && !smtpc_dot_has_left(conn));
}
