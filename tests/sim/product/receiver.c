/*
 * Receivers: SMTP servers that count what they take and misbehave: at given rates, and as the model
 * says that was drawn for each (remote_int.h).
 */
#include "core/base/list.h"
#include "core/base/mem.h"
#include "core/base/must.h"
#include "core/io/io.h"
#include "tests/sim/product/remote_int.h"
#include "tests/sim/product/signed.h"
#include "tests/sim/product/watch.h"

#include <stdio.h>
#include <string.h>

#define HELD_BYTES  512
#define FLOOD_LINES 2000
#define SEEN_MAX    64

struct receiver_rcpt {
    uint32_t number;
    uint32_t ordinal;
};

struct receiver_event {
    struct receiver_rcpt rcpt;
    struct ledger_time time;
    bool is_deferral;
};

/* One connection to a receiver. */
struct receiving {
    struct receiver_rcpt rcpts[16];
    uint32_t rcpt_count;
    bool in_mail;
    bool in_data;
    bool is_chunk;       /* it comes by BDAT */
    bool was_chunk;      /* the message before did: nothing is sent behind one unseen */
    uint64_t chunk_left; /* octets */
    bool in_content;     /* behind our own Received field, in the sender's lines */
    bool is_damaged;
    struct signed_mail mail;
    uint32_t number; /* of the message arriving */
    uint32_t line;
    /* The last message taken, until the client does what it does only when it has read our reply:
     * commands of its next message may be on their way before. */
    struct receiver_rcpt taken[16];
    /* Likewise: who was offered since, and who of them was answered 4xx. */
    struct receiver_event events[SEEN_MAX];
    uint32_t event_count;
    uint64_t opened_ns;
    uint32_t taken_count;
    /* What the model is asked with, and what it said to the line in work. */
    struct sim_peer_conn *conn;
    struct remote *remote;
    uint32_t receiver; /* which one was called */
    struct ipaddr_port client;
    struct ipaddr_port called;
    uint64_t messages;
    uint64_t commands;
    char sender[64];
    struct rule_verdict verdict;
    struct io_timer delay;
    struct io_timer slow; /* the end of a pause in reading */
    bool drops_after;
    uint32_t pauses; /* reasons not to read */
    /* What the client has waited for us, while connecting or in the message under way. */
    struct list owing_link; /* it waits now */
    bool is_behind; /* a reply was kept back: to the end it may wait for the one it counts on */
    uint64_t owed_since_ns;
    uint64_t owed_ns;
    char held[HELD_BYTES]; /* the line that waits for its time, once the greeting is out */
    uint32_t held_len;
    bool mail_failed; /* what the client has sent behind its MAIL may still come */
    bool content_asked;
    bool is_greeted;
    bool is_deaf;
};

/* Whether the client has read our last replies is not known. */
static void doubt_replies(const struct remote *remote, const struct receiving *r)
{
    for (uint32_t i = 0; r && i < r->taken_count; i++)
        ledger_doubt(remote->ledger, r->taken[i].number, r->taken[i].ordinal);
}

static void replies_were_seen(struct remote *remote, struct receiving *r)
{
    r->taken_count = 0;
    for (uint32_t i = 0; i < r->event_count; i++) {
        const struct receiver_event *event = &r->events[i];

        (event->is_deferral ? ledger_deferred : ledger_offered)(remote->ledger, event->rcpt.number,
                                                                event->rcpt.ordinal, event->time);
    }
    r->event_count = 0;
}

static void note(struct receiving *r, const struct receiver_rcpt *rcpt, struct ledger_time time,
                 bool is_deferral)
{
    must(r->event_count < SEEN_MAX);
    r->events[r->event_count++] = (struct receiver_event){*rcpt, time, is_deferral};
}

/* ---- What we make clients wait for ----------------------------------------------------------- */

static void begin_owing(struct receiving *r)
{
    if (!list_empty(&r->owing_link))
        return;
    r->owed_since_ns = sim_now_ns(r->remote->world);
    list_push_back(&r->remote->owing, &r->owing_link);
}

static uint64_t owed_now_ns(const struct receiving *r)
{
    bool is_owing = !list_empty(&r->owing_link);

    return r->owed_ns + (is_owing ? sim_now_ns(r->remote->world) - r->owed_since_ns : 0);
}

static void end_owing(struct receiving *r)
{
    r->owed_ns = owed_now_ns(r);
    list_remove(&r->owing_link);
    if (r->remote->owed_max_ns < r->owed_ns)
        r->remote->owed_max_ns = r->owed_ns;
}

uint64_t remote_owed_ns(const struct remote *remote)
{
    uint64_t most_ns = remote->owed_max_ns;

    list_for_each (link, &remote->owing) {
        uint64_t owed_ns = owed_now_ns(container_of(link, struct receiving, owing_link));

        most_ns = owed_ns > most_ns ? owed_ns : most_ns;
    }
    return most_ns;
}

static void go_deaf(struct receiving *r)
{
    r->is_deaf = true;
    begin_owing(r);
}

/* ---- Connections ----------------------------------------------------------------------------- */

static void forget(struct sim_peer_conn *conn)
{
    struct receiving *r = sim_peer_data(conn);

    if (r) {
        end_owing(r);
        doubt_replies(r->remote, r);
        r->remote->open_counts[r->receiver][r->client.ip.bytes[3]]--;
        io_timer_stop(sim_peer_io(sim_peer_of(conn)), &r->delay);
        io_timer_stop(sim_peer_io(sim_peer_of(conn)), &r->slow);
    }
    mem_free(r);
    sim_peer_set_data(conn, NULL);
}

/* We end the connection: on_end does not come. */
static void hang_up(struct sim_peer_conn *conn, bool at_once)
{
    forget(conn);
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

static void read_no_more(struct receiving *r)
{
    r->pauses++;
    begin_owing(r);
    sim_peer_pause(r->conn);
}

static void read_on(struct receiving *r)
{
    if (--r->pauses > 0)
        return;
    if (!r->is_deaf && !r->is_behind)
        end_owing(r);
    sim_peer_resume(r->conn);
}

static void on_slow_over(struct io_timer *timer)
{
    struct receiving *r = container_of(timer, struct receiving, slow);

    if (r->drops_after)
        hang_up(r->conn, true);
    else
        read_on(r);
}

/* What comes now stays unread for up to two minutes, mostly far less. */
static void read_slowly(struct sim_peer_conn *conn, struct remote *remote, struct receiving *r,
                        bool drops_after)
{
    struct rng *rng = sim_rng(remote->world);
    uint64_t most_ms = rng_one_in(rng, 10) ? 120000 : 3000;

    r->drops_after = drops_after;
    read_no_more(r);
    io_timer_arm(sim_peer_io(sim_peer_of(conn)), &r->slow,
                 sim_now_ns(remote->world) + rng_between(rng, 1, most_ms) * 1000000);
}

#define PLAY(remote, name) play(remote, (remote)->rates.name, &(remote)->hits.name)

static void forget_transaction(struct receiving *r)
{
    r->in_mail = false;
    r->in_data = false;
    r->rcpt_count = 0;
}

/* ---- The model ------------------------------------------------------------------------------- */

/* What the model says to a stage goes to r->verdict. */
static void ask(struct receiving *r, enum rule_stage stage, struct slice rcpt)
{
    struct remote *remote = r->remote;
    struct rules *rules = remote->rules[r->receiver];
    struct rule_event event = {
        .stage = stage,
        .rcpt = rcpt,
        .sender = slice_str(r->sender),
        .client = &r->client.ip,
        .called = &r->called.ip,
        .client_connections = remote->open_counts[r->receiver][r->client.ip.bytes[3]],
        .all_connections = sim_peer_open_count(sim_peer_of(r->conn)),
        .connection_messages = r->messages,
        .connection_commands = r->commands,
        .transaction_rcpts = r->rcpt_count,
        .age_ns = sim_now_ns(remote->world) - remote->start_ns,
    };

    r->verdict = (struct rule_verdict){.action = RULE_BEHAVE, .cut = RULE_UNCUT};
    if (rules_speak_of(rules, stage))
        rules_ask(rules, &event, sim_rng(remote->world), &r->verdict);
}

/* The usual reply or the model's. The connection may be over afterwards, and `r` gone. */
static void reply(struct receiving *r, const char *usual)
{
    const struct rule_verdict *verdict = &r->verdict;
    struct sim_peer_conn *conn = r->conn;
    struct slice text = slice_str(usual);
    bool ends = verdict->ends;

    if (verdict->action != RULE_BEHAVE)
        text = slice_of(verdict->reply, verdict->reply_len);
    if (verdict->cut < text.len) {
        sim_peer_send(conn, text.data, verdict->cut);
    } else {
        sim_peer_send(conn, text.data, text.len);
        sim_peer_send(conn, "\r\n", 2);
    }
    ends |= slice_starts_nocase(text, SLICE_LITERAL("421"));
    if (ends)
        hang_up(conn, false);
}

/* What the client may have been told about a recipient: not by a reply that was cut. */
static bool is_told(const struct receiving *r, char class)
{
    return rule_verdict_class(&r->verdict, "2") == class && r->verdict.cut == RULE_UNCUT;
}

/* True: the model did something that is no reply, and the line is done with. */
static bool misbehave(struct receiving *r, enum rule_stage stage)
{
    struct sim_peer_conn *conn = r->conn;

    if (r->verdict.action == RULE_BEHAVE || r->verdict.action == RULE_REPLY)
        return false;
    if (stage == RULE_DOT)
        forget_transaction(r);
    r->mail_failed |= stage == RULE_MAIL;
    switch (r->verdict.action) {
    case RULE_SAY:
        /* No reply, or half of one: the client may wait for the rest until it gives up. */
        reply(r, "");
        if (sim_peer_data(conn)) {
            r->is_behind = true;
            begin_owing(r);
        }
        break;
    case RULE_DROP:
    case RULE_RESET:
        hang_up(conn, r->verdict.action == RULE_RESET);
        break;
    case RULE_FLOOD:
        for (int i = 0; i < FLOOD_LINES; i++)
            sim_peer_printf(conn, "250-and so on, and so on, and so on, and so on\r\n");
        go_deaf(r);
        break;
    default:
        go_deaf(r);
        break;
    }
    return true;
}

/* True: the answer waits for its time, and the client's next line with it. */
static bool is_held(struct receiving *r, struct slice line)
{
    if (r->verdict.delay_ms == 0 || line.len > sizeof(r->held))
        return false;
    memcpy(r->held, line.data, line.len);
    r->held_len = (uint32_t)line.len;
    read_no_more(r);
    io_timer_arm(sim_peer_io(sim_peer_of(r->conn)), &r->delay,
                 sim_now_ns(r->remote->world) + r->verdict.delay_ms * 1000000);
    return true;
}

/* ---- Stages ---------------------------------------------------------------------------------- */

static void greet(struct receiving *r)
{
    struct remote *remote = r->remote;
    struct sim_peer_conn *conn = r->conn;

    r->is_greeted = true;
    if (PLAY(remote, greeting_drop))
        hang_up(conn, true);
    else if (PLAY(remote, greeting_5xx)) {
        sim_peer_printf(conn, "554 5.7.1 not today\r\n");
        hang_up(conn, false);
    } else if (!misbehave(r, RULE_CONNECT))
        reply(r, "220 receiver.test ESMTP");
}

static void handle_line(struct receiving *r, struct slice line);

static void on_delay_over(struct io_timer *timer)
{
    struct receiving *r = container_of(timer, struct receiving, delay);
    struct sim_peer_conn *conn = r->conn;

    if (!r->is_greeted)
        greet(r);
    else
        handle_line(r, slice_of(r->held, r->held_len));
    /* It may have been hung up. */
    if (sim_peer_data(conn))
        read_on(r);
}

static void on_open(struct sim_peer_conn *conn)
{
    struct remote *remote = sim_peer_context(sim_peer_of(conn));
    struct io *io = sim_peer_io(sim_peer_of(conn));
    struct receiving *r = sim_peer_alloc(sim_peer_of(conn), sizeof(*r));

    r->conn = conn;
    r->remote = remote;
    r->opened_ns = sim_now_ns(remote->world);
    list_init(&r->owing_link);
    /* They fail on a connection that is over already: its end comes soon. */
    io_peer_address(io, sim_peer_fd(conn), &r->client);
    io_local_address(io, sim_peer_fd(conn), &r->called);
    while (remote->receivers[r->receiver] != sim_peer_of(conn))
        r->receiver++;
    remote->open_counts[r->receiver][r->client.ip.bytes[3]]++;
    io_timer_init(&r->delay, on_delay_over);
    io_timer_init(&r->slow, on_slow_over);
    sim_peer_set_data(conn, r);
    if (remote->watch)
        watch_connections(remote->watch);
    ask(r, RULE_CONNECT, SLICE_EMPTY);
    if (!is_held(r, SLICE_EMPTY))
        greet(r);
}

static void on_rcpt(struct sim_peer_conn *conn, struct remote *remote, struct receiving *r,
                    struct slice line)
{
    struct ledger_time time = {sim_now_ns(remote->world), r->opened_ns};
    struct receiver_rcpt rcpt;

    if (r->mail_failed && !r->in_mail) {
        sim_peer_printf(conn, "503 5.5.1 no\r\n");
        return;
    }
    if (!r->in_mail || line.len < 10 ||
        !ledger_parse_rcpt(slice_of(line.data + 9, line.len - 10), &rcpt.number, &rcpt.ordinal)) {
        ledger_violation(remote->ledger, 0, "a RCPT that makes no sense");
        sim_peer_printf(conn, "503 5.5.1 no\r\n");
        return;
    }
    remote->rcpts_seen += r->opened_ns >= remote->rcpts_since_ns;
    note(r, &rcpt, time, false);
    if (PLAY(remote, rcpt_4xx)) {
        note(r, &rcpt, time, true);
        sim_peer_printf(conn, "450 4.2.1 later\r\n");
    } else if (PLAY(remote, rcpt_5xx)) {
        ledger_refused(remote->ledger, rcpt.number, rcpt.ordinal);
        sim_peer_printf(conn, "550 5.1.1 no such user\r\n");
    } else if (r->rcpt_count > 0 && PLAY(remote, rcpt_too_many)) {
        sim_peer_printf(conn, "452 4.5.3 too many recipients\r\n");
    } else if (r->rcpt_count == 16) {
        sim_peer_printf(conn, "452 4.5.3 too many recipients\r\n");
    } else {
        if (is_told(r, '4'))
            note(r, &rcpt, time, true);
        else if (is_told(r, '5'))
            ledger_refused(remote->ledger, rcpt.number, rcpt.ordinal);
        else if (rule_verdict_class(&r->verdict, "2") == '2')
            r->rcpts[r->rcpt_count++] = rcpt;
        reply(r, "250 2.1.5 ok");
    }
}

/* A reply to the whole message that is not a 250. */
static void settle_refusal(struct remote *remote, struct receiving *r)
{
    struct ledger_time time = {sim_now_ns(remote->world), r->opened_ns};

    for (uint32_t i = 0; i < r->rcpt_count; i++) {
        if (is_told(r, '4'))
            note(r, &r->rcpts[i], time, true);
        else if (is_told(r, '5'))
            ledger_refused(remote->ledger, r->rcpts[i].number, r->rcpts[i].ordinal);
    }
    forget_transaction(r);
}

static void start_content(struct receiving *r)
{
    r->in_data = true;
    r->is_chunk = false;
    r->was_chunk = false;
    r->in_content = false;
    r->content_asked = false;
    r->is_damaged = false;
    memset(&r->mail, 0, sizeof(r->mail));
    r->line = 0;
}

static void maybe_read_slowly(struct sim_peer_conn *conn, struct remote *remote,
                              struct receiving *r)
{
    if (PLAY(remote, slow_reader))
        read_slowly(conn, remote, r, false);
    else if (PLAY(remote, slow_drop))
        read_slowly(conn, remote, r, true);
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
            note(r, &r->rcpts[i], time, true);
        sim_peer_printf(conn, "451 4.3.0 not now\r\n");
        forget_transaction(r);
        return;
    }
    /* The model's reply is another one than 354. */
    if (r->verdict.action == RULE_REPLY) {
        settle_refusal(remote, r);
        reply(r, "");
        return;
    }
    start_content(r);
    reply(r, "354 go on");
    if (sim_peer_data(conn) == r)
        maybe_read_slowly(conn, remote, r);
}

/* BDAT n LAST: the octets stand behind it, whoever is to get them. */
static void on_bdat(struct sim_peer_conn *conn, struct remote *remote, struct receiving *r,
                    struct slice line)
{
    struct slice argument = slice_after(line, 5);
    struct slice count = slice_of(argument.data, slice_find(argument, ' '));

    if (slice_to_u64(count, UINT32_MAX, &r->chunk_left) < 0 || r->chunk_left < 2 ||
        !slice_equal_nocase(slice_after(argument, count.len), SLICE_LITERAL(" LAST"))) {
        ledger_violation(remote->ledger, 0, "a BDAT that makes no sense");
        hang_up(conn, true);
        return;
    }
    if (PLAY(remote, bdat_unknown)) {
        sim_peer_printf(conn, "500 5.5.1 what is that?\r\n");
        go_deaf(r);
        return;
    }
    start_content(r);
    r->is_chunk = true;
    r->was_chunk = true;
    r->content_asked = true;
    maybe_read_slowly(conn, remote, r);
}

static void take(struct remote *remote, struct receiving *r, bool is_answered)
{
    struct ledger_time time = {sim_now_ns(remote->world), r->opened_ns};
    char expected[256];

    remote->transactions++;
    if (r->is_damaged || !r->in_content ||
        ledger_line(r->number, r->line, expected, sizeof(expected)))
        ledger_violation(remote->ledger, r->number, "content is not what was sent");
    if (remote->is_signed && !signed_mail_is_good(&r->mail))
        ledger_violation(remote->ledger, r->number, "its signature is missing or wrong");
    for (uint32_t i = 0; i < r->rcpt_count; i++) {
        if (r->rcpts[i].number != r->number)
            ledger_violation(remote->ledger, r->number, "content of another message");
        ledger_accepted(remote->ledger, r->rcpts[i].number, r->rcpts[i].ordinal, time);
        if (!is_answered)
            ledger_doubt(remote->ledger, r->rcpts[i].number, r->rcpts[i].ordinal);
    }
    memcpy(r->taken, r->rcpts, sizeof(r->taken));
    r->taken_count = r->rcpt_count;
    r->messages++;
}

static void on_dot(struct sim_peer_conn *conn, struct remote *remote, struct receiving *r)
{
    struct ledger_time time = {sim_now_ns(remote->world), r->opened_ns};

    if (PLAY(remote, dot_4xx)) {
        for (uint32_t i = 0; i < r->rcpt_count; i++)
            note(r, &r->rcpts[i], time, true);
        sim_peer_printf(conn, "450 4.7.1 later\r\n");
    } else if (PLAY(remote, dot_5xx)) {
        for (uint32_t i = 0; i < r->rcpt_count; i++)
            ledger_refused(remote->ledger, r->rcpts[i].number, r->rcpts[i].ordinal);
        sim_peer_printf(conn, "554 5.6.0 refused\r\n");
    } else if (PLAY(remote, dot_drop_taken)) {
        take(remote, r, false);
        hang_up(conn, true);
        return;
    } else if (PLAY(remote, dot_drop_lost)) {
        hang_up(conn, true);
        return;
    } else {
        if (rule_verdict_class(&r->verdict, "2") == '2')
            take(remote, r, true);
        else
            settle_refusal(remote, r);
        forget_transaction(r);
        reply(r, "250 2.0.0 taken");
        return;
    }
    forget_transaction(r);
}

/* A line of the content, as it was before dots were stuffed. */
static void take_content(struct receiving *r, struct slice line)
{
    char expected[256];

    if (r->remote->is_signed)
        signed_mail_put(&r->mail, line);
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

static void on_content(struct sim_peer_conn *conn, struct remote *remote, struct receiving *r,
                       struct slice line)
{
    /* A chunk comes before its envelope was answered. */
    if (!r->is_chunk)
        replies_were_seen(remote, r);
    if (line.len == 1 && line.data[0] == '.') {
        on_dot(conn, remote, r);
        return;
    }
    if (line.len > 0 && line.data[0] == '.')
        line = slice_after(line, 1);
    take_content(r, line);
}

/* A line of a chunk. True: it was the last, and the message is complete. */
static bool take_chunk_line(struct receiving *r, struct slice line)
{
    if (line.len + 2 > r->chunk_left) {
        ledger_violation(r->remote->ledger, r->number, "a chunk that does not end with a line");
        r->chunk_left = line.len + 2;
    }
    r->chunk_left -= line.len + 2;
    take_content(r, line);
    if (r->chunk_left > 0)
        return false;
    if (r->rcpt_count > 0)
        return true;
    sim_peer_printf(r->conn, "503 5.5.1 no recipients\r\n");
    forget_transaction(r);
    return false;
}

static void on_ehlo(struct receiving *r)
{
    static const struct {
        uint32_t offer;
        const char *line;
    } lines[] = {
        {RULE_OFFER(PIPELINING), "250-PIPELINING\r\n"},
        {RULE_OFFER(CHUNKING), "250-CHUNKING\r\n"},
        {RULE_OFFER(8BITMIME), "250-8BITMIME\r\n"},
        {RULE_OFFER(ENHANCED), "250-ENHANCEDSTATUSCODES\r\n"},
    };
    uint32_t usual = r->receiver % 2 == 0 ? UINT32_MAX : UINT32_MAX & ~RULE_OFFER(CHUNKING);
    uint32_t offers = rules_offers(r->remote->rules[r->receiver], usual);
    char text[256] = "250-receiver.test\r\n";

    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        if (offers & lines[i].offer)
            strcat(text, lines[i].line);
    strcat(text, "250 SIZE 1000000");
    reply(r, text);
}

static void on_mail(struct receiving *r, struct slice line)
{
    if (r->was_chunk)
        replies_were_seen(r->remote, r);
    if (PLAY(r->remote, mail_421)) {
        sim_peer_printf(r->conn, "421 4.3.2 going down\r\n");
        hang_up(r->conn, false);
        return;
    }
    forget_transaction(r);
    r->in_mail = rule_verdict_class(&r->verdict, "2") == '2';
    r->mail_failed = !r->in_mail;
    reply(r, "250 2.1.0 ok");
}

static void on_command(struct sim_peer_conn *conn, struct remote *remote, struct receiving *r,
                       struct slice line)
{
    if (slice_starts_nocase(line, SLICE_LITERAL("EHLO"))) {
        on_ehlo(r);
    } else if (slice_starts_nocase(line, SLICE_LITERAL("HELO"))) {
        reply(r, "250 receiver.test");
    } else if (slice_starts_nocase(line, SLICE_LITERAL("MAIL"))) {
        on_mail(r, line);
    } else if (slice_starts_nocase(line, SLICE_LITERAL("RCPT TO:"))) {
        on_rcpt(conn, remote, r, line);
    } else if (slice_equal_nocase(line, SLICE_LITERAL("DATA"))) {
        on_data(conn, remote, r);
    } else if (slice_starts_nocase(line, SLICE_LITERAL("BDAT "))) {
        on_bdat(conn, remote, r, line);
    } else if (slice_equal_nocase(line, SLICE_LITERAL("RSET"))) {
        forget_transaction(r);
        replies_were_seen(remote, r);
        reply(r, "250 2.0.0 ok");
    } else if (slice_equal_nocase(line, SLICE_LITERAL("QUIT"))) {
        replies_were_seen(remote, r);
        reply(r, "221 2.0.0 bye");
        if (sim_peer_data(conn))
            hang_up(conn, false);
    } else {
        ledger_violation(remote->ledger, 0, "a command that makes no sense");
        sim_peer_printf(conn, "500 5.5.2 what?\r\n");
    }
}

/* The stage of a line, RULE_STAGE_COUNT when the model is not asked. */
static enum rule_stage stage_of(const struct receiving *r, struct slice line)
{
    static const struct {
        const char *verb;
        enum rule_stage stage;
    } verbs[] = {{"EHLO", RULE_EHLO}, {"HELO", RULE_EHLO}, {"MAIL", RULE_MAIL}, {"RCPT", RULE_RCPT},
                 {"DATA", RULE_DATA}, {"RSET", RULE_RSET}, {"QUIT", RULE_QUIT}};

    if (r->in_data && line.len == 1 && line.data[0] == '.')
        return RULE_DOT;
    if (r->in_data)
        return r->content_asked ? RULE_STAGE_COUNT : RULE_CONTENT;
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (!slice_starts_nocase(line, slice_str(verbs[i].verb)))
            continue;
        /* What comes out of order is answered with 503. */
        if ((verbs[i].stage == RULE_RCPT && !r->in_mail) ||
            (verbs[i].stage == RULE_DATA && r->rcpt_count == 0))
            break;
        return verbs[i].stage;
    }
    return RULE_STAGE_COUNT;
}

/* What stands between the angle brackets. */
static struct slice path_of(struct slice line)
{
    struct slice path = slice_after(line, slice_find(line, '<'));

    path = slice_after(path, path.len > 0);
    path.len = slice_find(path, '>');
    return path;
}

static void keep_sender(struct receiving *r, struct slice path)
{
    size_t len = path.len < sizeof(r->sender) ? path.len : sizeof(r->sender) - 1;

    memcpy(r->sender, path.data, len);
    r->sender[len] = '\0';
}

/* With the model's word to it in r->verdict. */
static void handle_line(struct receiving *r, struct slice line)
{
    struct remote *remote = r->remote;
    struct sim_peer_conn *conn = r->conn;

    if (misbehave(r, stage_of(r, line)))
        return;
    if (r->in_data) {
        r->content_asked = true;
        on_content(conn, remote, r, line);
        return;
    }
    if (PLAY(remote, command_drop))
        hang_up(conn, true);
    else if (PLAY(remote, garbage)) {
        sim_peer_printf(conn, "2x0 \x01 garbage\r\n");
        hang_up(conn, false);
    } else
        on_command(conn, remote, r, line);
}

static void on_line(struct sim_peer_conn *conn, struct slice line)
{
    struct receiving *r = sim_peer_data(conn);
    enum rule_stage stage;

    if (!r || r->is_deaf)
        return;
    if (r->pauses == 0 && !r->is_behind)
        end_owing(r);
    if (r->in_data && r->is_chunk && r->chunk_left > 0) {
        if (!take_chunk_line(r, line))
            return;
        /* From here on as if a dot had come. */
        line = SLICE_LITERAL(".");
    }
    stage = stage_of(r, line);
    r->commands += !r->in_data;
    if (stage == RULE_MAIL) {
        keep_sender(r, path_of(line));
        r->owed_ns = 0;
    }
    r->verdict = (struct rule_verdict){.action = RULE_BEHAVE, .cut = RULE_UNCUT};
    if (stage != RULE_STAGE_COUNT)
        ask(r, stage, stage == RULE_RCPT ? path_of(line) : SLICE_EMPTY);
    if (stage == RULE_DOT && r->verdict.delay_ms < r->remote->pace_ms)
        r->verdict.delay_ms = r->remote->pace_ms;
    if (!is_held(r, line))
        handle_line(r, line);
}

static void on_end(struct sim_peer_conn *conn, int32_t reason)
{
    (void)reason;
    forget(conn);
}

const struct sim_peer_handlers receiver_handlers = {
    .on_open = on_open,
    .on_line = on_line,
    .on_end = on_end,
};
