/*
 * What sources want in the log of their sessions: log-connections, log-commands, log-data.
 *
 * Each line names the client, so that the lines of many sessions can be told apart. Octets that are
 * no printable text are escaped by the log.
 */
#include "core/base/log.h"
#include "shard/inject_int.h"

/* Of a line of the client's; the log's own lines end at LOG_LINE_MAX. */
#define NOTE_OCTETS_MAX 800

static void say(const char *client, const char *what, struct slice text)
{
    int len = text.len < NOTE_OCTETS_MAX ? (int)text.len : NOTE_OCTETS_MAX;

    log_info("smtp-in %s %s%.*s", client, what, len, (const char *)text.data);
}

static void say_lines(const char *client, const char *what, struct slice text)
{
    while (text.len > 0) {
        size_t lf = slice_find(text, '\n');
        struct slice line = slice_of(text.data, lf);

        if (line.len > 0 && line.data[line.len - 1] == '\r')
            line.len--;
        say(client, what, line);
        text = slice_after(text, lf < text.len ? lf + 1 : lf);
    }
}

void inject_note(void *taker, const struct intake_client *client, enum intake_note kind,
                 struct slice text)
{
    static const char *const titles[] = {
        [INTAKE_NOTE_CONNECTED] = "connected",
        [INTAKE_NOTE_GONE] = "gone",
        [INTAKE_NOTE_COMMAND] = "> ",
        [INTAKE_NOTE_REPLY] = "< ",
        [INTAKE_NOTE_DATA] = ">> ",
        [INTAKE_NOTE_SECURED] = "secured by ",
        [INTAKE_NOTE_NO_TLS] = "TLS failed: ",
    };
    char name[IPADDR_TEXT_MAX + 8];
    size_t len;

    (void)taker;
    ipaddr_format(&client->peer.ip, name);
    len = strlen(name);
    snprintf(name + len, sizeof(name) - len, ":%u", client->peer.port);
    if (text.len == 0)
        say(name, titles[kind], text);
    else
        say_lines(name, titles[kind], text);
}
