/*
 * What queues want in the log of their connections: log-connections, log-commands, log-data,
 * log-tls, log-transfer-failures; and log-resolution.
 *
 * Connections serve several queues, so the one that a connection was opened for decides. Each line
 * names both ends, so that the lines of many connections can be told apart; octets that are no
 * printable text are escaped by the log.
 */
#include "core/base/log.h"
#include "shard/shard_int.h"

/* Of a line of what is said; the log's own lines end at LOG_LINE_MAX. */
#define TALK_OCTETS_MAX 800
#define TALK_NAME_MAX   (2 * IPADDR_TEXT_MAX + 16)

enum talk_about {
    TALK_CONNECTIONS = 1,
    TALK_FAILURES = 2,
    TALK_TLS = 4,
};

void talk_options(const struct conf_queue *settings, struct smtpc_options *options)
{
    options->note_commands = settings->log_commands;
    options->note_data = settings->log_data;
}

static void put_name(const struct connection *connection, char room[TALK_NAME_MAX])
{
    char source[IPADDR_TEXT_MAX], target[IPADDR_TEXT_MAX];

    ipaddr_format(&connection->lane->source, source);
    ipaddr_format(&connection->target_at.ip, target);
    snprintf(room, TALK_NAME_MAX, "%s>%s:%u", source, target, connection->target_at.port);
}

static void say(const struct connection *connection, const char *what, struct slice text)
{
    int len = text.len < TALK_OCTETS_MAX ? (int)text.len : TALK_OCTETS_MAX;
    char name[TALK_NAME_MAX];

    put_name(connection, name);
    log_info("smtp-out %s %s%.*s", name, what, len, (const char *)text.data);
}

void talk_opened(struct shard *shard, struct connection *connection)
{
    const struct conf_queue *settings = &connection->queue->settings;
    char room[REPORT_NAME_MAX + DNS_NAME_MAX + 16];
    struct text text = text_in(room, sizeof(room));

    connection->talks = (uint8_t)((settings->log_connections ? TALK_CONNECTIONS : 0) |
                                  (settings->log_transfer_failures ? TALK_FAILURES : 0) |
                                  (settings->log_tls ? TALK_TLS : 0));
    if (!settings->log_connections)
        return;
    queues_put_name(shard, connection->queue, &text);
    if (connection->host != NAME_NONE) {
        text_put_literal(&text, " at ");
        text_put(&text, names_text(&shard->names, connection->host));
    }
    say(connection, "opening for ", text_slice(&text));
}

static void tell_tls(const struct connection *connection)
{
    const struct tls *tls = smtpc_tls(connection->smtpc);
    char room[128];
    struct text text = text_in(room, sizeof(room));

    if (tls) {
        text_put_str(&text, tls_protocol(tls));
        text_put_char(&text, ' ');
        text_put_str(&text, tls_cipher(tls));
        text_put_str(&text, tls_is_resumed(tls) ? ", resumed" : "");
    } else if (smtpc_extensions(connection->smtpc) & SMTPC_STARTTLS) {
        text_put_literal(&text, "none, though it is offered");
    } else {
        text_put_literal(&text, "none is offered");
    }
    say(connection, "TLS: ", text_slice(&text));
}

void talk_ready(const struct connection *connection)
{
    if (connection->talks & TALK_TLS)
        tell_tls(connection);
    if (connection->talks & TALK_CONNECTIONS)
        say(connection, "ready: ", smtpc_extension_text(connection->smtpc));
}

/* A reply is an answer; only where none came was the transfer a failure. */
static bool is_lost_in_message(const struct verdict *verdict)
{
    return verdict->class != VERDICT_SUCCESS && (verdict->flags & VERDICT_FROM_REPLY) == 0 &&
           (verdict->stage == VERDICT_AT_DATA || verdict->stage == VERDICT_AT_BODY ||
            verdict->stage == VERDICT_AT_DOT);
}

void talk_closed(const struct connection *connection, const struct verdict *verdict)
{
    if ((connection->talks & TALK_TLS) && verdict->stage == VERDICT_AT_TLS)
        say(connection, "TLS: ", verdict_text(verdict));
    if (connection->talks & TALK_CONNECTIONS)
        say(connection, "closed: ", verdict_text(verdict));
    else if ((connection->talks & TALK_FAILURES) && is_lost_in_message(verdict))
        say(connection, "transfer failed: ", verdict_text(verdict));
}

void talk_note(struct smtpc *smtpc, void *context, enum smtpc_note kind, struct slice text)
{
    static const char *const marks[] = {
        [SMTPC_NOTE_COMMAND] = "> ",
        [SMTPC_NOTE_REPLY] = "< ",
        [SMTPC_NOTE_DATA] = ">> ",
    };

    while (text.len > 0) {
        size_t lf = slice_find(text, '\n');
        struct slice line = slice_of(text.data, lf);

        if (line.len > 0 && line.data[line.len - 1] == '\r')
            line.len--;
        say(context, marks[kind], line);
        text = slice_after(text, lf < text.len ? lf + 1 : lf);
    }
}

static void put_targets(struct text *text, const struct mx_answer *answer)
{
    for (uint16_t i = 0; i < answer->target_count; i++) {
        char ip[IPADDR_TEXT_MAX];

        ipaddr_format(&answer->targets[i].at.ip, ip);
        text_put_str(text, i > 0 ? ", " : "");
        text_put_str(text, answer->host_names[answer->targets[i].host]);
        text_put_char(text, ' ');
        text_put_str(text, ip);
        if (answer->tlsas[answer->targets[i].host].bytes > 0)
            text_put_literal(text, " (TLSA)");
    }
}

void talk_resolved(struct shard *shard, const struct queue *queue, const struct mx_answer *answer)
{
    char name_room[REPORT_NAME_MAX], room[TALK_OCTETS_MAX];
    struct text name = text_in(name_room, sizeof(name_room));
    struct text text = text_in(room, sizeof(room));

    if (!queue->settings.log_resolution)
        return;
    queues_put_name(shard, queue, &name);
    if (answer->verdict.class == VERDICT_SUCCESS) {
        put_targets(&text, answer);
        text_put_str(&text, answer->sts == STS_NONE      ? ""
                            : answer->sts == STS_ENFORCE ? " (MTA-STS)"
                                                         : " (MTA-STS on trial)");
    } else {
        text_put(&text, verdict_text(&answer->verdict));
    }
    log_info("resolution %.*s: %.*s", (int)name.len, name.data, (int)text.len, text.data);
}
