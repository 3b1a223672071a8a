/*
 * Command lines: cutting them out of the input, the verb table, the ESMTP parameters.
 */
#include "core/base/err.h"
#include "core/base/must.h"
#include "core/mail/dsn_request.h"
#include "net/smtpd_int.h"

#include <stdio.h>

/* ---- Parameters of MAIL and RCPT ------------------------------------------------------------- */

/* What they say, and room for the text that params points to. */
struct param_room {
    struct intake_params params;
    uint8_t text[DSN_REQUEST_ORCPT_MAX]; /* undefined until filled */
};
_Static_assert(DSN_REQUEST_ENVID_MAX <= DSN_REQUEST_ORCPT_MAX, "one room does for either");

typedef enum smtpd_reply_id param_fn(const struct smtpd_session *session, struct slice value,
                                     struct param_room *room);

static enum smtpd_reply_id param_size(const struct smtpd_session *session, struct slice value,
                                      struct param_room *room)
{
    if (value.len > 20 || slice_to_u64(value, UINT64_MAX, &room->params.size_bytes) < 0)
        return SMTPD_BAD_PARAM;
    return room->params.size_bytes > session->source.max_message_bytes ? SMTPD_TOO_BIG
                                                                       : SMTPD_NO_REPLY;
}

static enum smtpd_reply_id param_body(const struct smtpd_session *session, struct slice value,
                                      struct param_room *room)
{
    room->params.body_8bitmime = slice_equal_nocase(value, SLICE_LITERAL("8BITMIME"));
    if (room->params.body_8bitmime || slice_equal_nocase(value, SLICE_LITERAL("7BIT")))
        return SMTPD_NO_REPLY;
    return value.len == 0 ? SMTPD_BAD_PARAM : SMTPD_UNKNOWN_PARAM;
}

static enum smtpd_reply_id param_smtputf8(const struct smtpd_session *session, struct slice value,
                                          struct param_room *room)
{
    if (!session->source.allow_smtputf8)
        return SMTPD_UNKNOWN_PARAM;
    room->params.smtputf8 = true;
    return value.data == NULL ? SMTPD_NO_REPLY : SMTPD_BAD_PARAM;
}

static enum smtpd_reply_id param_ret(const struct smtpd_session *session, struct slice value,
                                     struct param_room *room)
{
    (void)session;
    if (slice_equal_nocase(value, SLICE_LITERAL("FULL")))
        room->params.ret = INTAKE_RETURN_FULL;
    else if (slice_equal_nocase(value, SLICE_LITERAL("HDRS")))
        room->params.ret = INTAKE_RETURN_HEADERS;
    else
        return SMTPD_BAD_PARAM;
    return SMTPD_NO_REPLY;
}

static enum smtpd_reply_id param_envid(const struct smtpd_session *session, struct slice value,
                                       struct param_room *room)
{
    (void)session;
    return dsn_request_envid(value, room->text, &room->params.envelope_id) ? SMTPD_NO_REPLY
                                                                           : SMTPD_BAD_PARAM;
}

/* RFC 4954 section 5: who first handed the mail in, as the client tells it. Nothing here depends on
 * it, but clients that are offered AUTH may say it. */
static enum smtpd_reply_id param_auth(const struct smtpd_session *session, struct slice value,
                                      struct param_room *room)
{
    (void)room;
    if (session->client.user == NULL && !smtpd_takes_auth(session))
        return SMTPD_UNKNOWN_PARAM;
    return value.len > 0 ? SMTPD_NO_REPLY : SMTPD_BAD_PARAM;
}

static enum smtpd_reply_id param_notify(const struct smtpd_session *session, struct slice value,
                                        struct param_room *room)
{
    (void)session;
    return dsn_request_notify(value, &room->params.notify) ? SMTPD_NO_REPLY : SMTPD_BAD_PARAM;
}

static enum smtpd_reply_id param_orcpt(const struct smtpd_session *session, struct slice value,
                                       struct param_room *room)
{
    (void)session;
    return dsn_request_orcpt(value, room->text, &room->params.orcpt) ? SMTPD_NO_REPLY
                                                                     : SMTPD_BAD_PARAM;
}

static const struct param {
    struct slice name;
    param_fn *take;
} mail_params[] =
    {
        {SLICE_LITERAL("SIZE"), param_size},         {SLICE_LITERAL("BODY"), param_body},
        {SLICE_LITERAL("SMTPUTF8"), param_smtputf8}, {SLICE_LITERAL("RET"), param_ret},
        {SLICE_LITERAL("ENVID"), param_envid},       {SLICE_LITERAL("AUTH"), param_auth},
},
  rcpt_params[] = {
      {SLICE_LITERAL("NOTIFY"), param_notify},
      {SLICE_LITERAL("ORCPT"), param_orcpt},
};
#define MAIL_PARAM_COUNT (sizeof(mail_params) / sizeof(mail_params[0]))
#define RCPT_PARAM_COUNT (sizeof(rcpt_params) / sizeof(rcpt_params[0]))

static bool is_keyword(struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.data[i];
        uint8_t letter = c | 0x20;
        bool inner = i > 0 && c == '-';

        if ((letter < 'a' || letter > 'z') && (c < '0' || c > '9') && !inner)
            return false;
    }
    return name.len > 0;
}

/* esmtp-value: no '=', no blank; controls were refused with the line. */
static bool is_value(struct slice value)
{
    return value.len > 0 && slice_find(value, '=') == value.len;
}

/* Splits one word "keyword[=value]". value.data is NULL when there is no '='. */
static bool split_param(struct slice word, struct slice *ret_name, struct slice *ret_value)
{
    size_t equals = slice_find(word, '=');

    *ret_name = slice_of(word.data, equals);
    *ret_value = (struct slice){0};
    if (equals < word.len)
        *ret_value = slice_after(word, equals + 1);
    return is_keyword(*ret_name) && (ret_value->data == NULL || is_value(*ret_value));
}

/*
 * Parameters behind a path: each begins with a blank. The first fault decides the reply.
 */
static enum smtpd_reply_id parse_params(const struct smtpd_session *session, struct slice text,
                                        const struct param *table, size_t count,
                                        struct param_room *room)
{
    uint32_t seen = 0;

    while (text.len > 0) {
        struct slice name;
        struct slice value;
        size_t word;
        size_t i;
        enum smtpd_reply_id fault;

        if (text.data[0] != ' ')
            return SMTPD_BAD_ARGUMENT;
        text = slice_after(text, 1);
        word = slice_find(text, ' ');
        if (word == 0)
            continue;
        if (!split_param(slice_of(text.data, word), &name, &value))
            return SMTPD_BAD_PARAM;
        text = slice_after(text, word);
        for (i = 0; i < count && !slice_equal_nocase(name, table[i].name); i++)
            ;
        if (i == count)
            return SMTPD_UNKNOWN_PARAM;
        if ((seen & (1u << i)) != 0)
            return SMTPD_BAD_PARAM;
        seen |= 1u << i;
        fault = table[i].take(session, value, room);
        if (fault != SMTPD_NO_REPLY)
            return fault;
    }
    return SMTPD_NO_REPLY;
}

/* ---- Handlers -------------------------------------------------------------------------------- */

static void refuse_step(struct smtpd_session *session, enum smtpd_reply_id id)
{
    smtpd_reset(session);
    smtpd_fail(session, id);
}

/* Names of hosts as clients give them: enough for any domain or literal, nothing that could mean
 * something in a header. */
static bool is_host_name(struct slice name)
{
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.data[i];
        uint8_t letter = c | 0x20;

        if ((letter < 'a' || letter > 'z') && (c < '0' || c > '9') &&
            memchr(".-_:[]", c, 6) == NULL)
            return false;
    }
    return name.len > 0 && name.len <= ADDRESS_DOMAIN_MAX;
}

static bool take_helo(struct smtpd_session *session, struct slice name, bool esmtp)
{
    if (!is_host_name(name)) {
        smtpd_fail(session, SMTPD_BAD_ARGUMENT);
        return false;
    }
    memcpy(session->helo, name.data, name.len);
    session->client.helo = slice_of(session->helo, name.len);
    session->client.esmtp = esmtp;
    session->greeted_by_client = true;
    smtpd_reset(session);
    return true;
}

static void on_helo(struct smtpd_session *session, struct slice arguments)
{
    char line[300];
    int len;

    if (!take_helo(session, arguments, false))
        return;
    len = snprintf(line, sizeof(line), "250 %.255s\r\n", session->server->options.host_name);
    smtpd_put(session, line, (size_t)len);
}

static void on_ehlo(struct smtpd_session *session, struct slice arguments)
{
    char size[32] = "";
    char lines[SMTPD_REPLY_ROOM];
    struct slice offer = smtpd_auth_offer(session);
    int len;

    if (!take_helo(session, arguments, true))
        return;
    if (session->source.max_message_bytes != CONF_UNLIMITED)
        snprintf(size, sizeof(size), " %llu",
                 (unsigned long long)session->source.max_message_bytes);
    len = snprintf(
        lines, sizeof(lines),
        "250-%.255s\r\n250-PIPELINING\r\n250-SIZE%s\r\n250-8BITMIME\r\n250-DSN\r\n%s%s%s%s%.*s%s"
        "250 ENHANCEDSTATUSCODES\r\n",
        session->server->options.host_name, size,
        session->source.allow_smtputf8 ? "250-SMTPUTF8\r\n" : "",
        session->source.allow_chunking ? "250-CHUNKING\r\n" : "",
        smtpd_offers_starttls(session) ? "250-STARTTLS\r\n" : "", offer.len > 0 ? "250-AUTH" : "",
        (int)offer.len, (const char *)offer.data, offer.len > 0 ? "\r\n" : "");
    smtpd_put(session, lines, (size_t)len);
}

/* Skips "FROM:" or "TO:" and the blanks that some clients put behind it. */
static bool skip_keyword(struct slice *arguments, struct slice keyword)
{
    if (!slice_starts_nocase(*arguments, keyword))
        return false;
    *arguments = slice_after(*arguments, keyword.len);
    while (arguments->len > 0 && arguments->data[0] == ' ')
        *arguments = slice_after(*arguments, 1);
    return true;
}

static void on_mail(struct smtpd_session *session, struct slice arguments)
{
    unsigned flags = ADDRESS_ALLOW_NULL | ADDRESS_ALLOW_LONG_LOCAL;
    struct param_room room;
    struct intake_reply reply = {0};
    struct address sender;
    size_t used = 0;
    enum smtpd_reply_id fault;
    int rc = E_SYNTAX;

    room.params = (struct intake_params){0};
    if (session->source.allow_smtputf8)
        flags |= ADDRESS_ALLOW_UTF8;
    if (skip_keyword(&arguments, SLICE_LITERAL("FROM:")))
        rc = address_parse_path(arguments, flags, &sender, &used);
    if (rc < 0) {
        smtpd_fail(session, rc == E_REFUSED ? SMTPD_NOT_ASCII : SMTPD_BAD_SENDER);
        return;
    }
    fault =
        parse_params(session, slice_after(arguments, used), mail_params, MAIL_PARAM_COUNT, &room);
    if (fault == SMTPD_NO_REPLY && sender.is_utf8 && !room.params.smtputf8)
        fault = SMTPD_NOT_ASCII;
    if (fault != SMTPD_NO_REPLY) {
        smtpd_fail(session, fault);
        return;
    }
    rc = session->server->intake->begin(session->server->taker, &session->client, &sender,
                                        &room.params, &session->message, &reply);
    if (rc < 0) {
        session->message = NULL;
        smtpd_pass_on(session, &reply);
        return;
    }
    session->smtputf8 = room.params.smtputf8;
    smtpd_enter(session, SMTPD_MAIL);
    smtpd_reply(session, SMTPD_SENDER_OK);
}

/* Why the recipient in arguments cannot be taken, or SMTPD_NO_REPLY and *ret_rcpt. */
static enum smtpd_reply_id parse_rcpt(struct smtpd_session *session, struct slice arguments,
                                      struct address *ret_rcpt, struct param_room *room)
{
    unsigned flags = ADDRESS_ALLOW_POSTMASTER | ADDRESS_ALLOW_LONG_LOCAL |
                     (session->smtputf8 ? ADDRESS_ALLOW_UTF8 : 0);
    size_t used = 0;
    int rc = E_SYNTAX;

    if (skip_keyword(&arguments, SLICE_LITERAL("TO:")))
        rc = address_parse_path(arguments, flags, ret_rcpt, &used);
    if (rc < 0)
        return rc == E_REFUSED ? SMTPD_NOT_ASCII : SMTPD_BAD_RCPT;
    if (ret_rcpt->is_local_only) {
        if (!session->server->has_postmaster)
            return SMTPD_BAD_RCPT;
        *ret_rcpt = session->server->postmaster;
    }
    return parse_params(session, slice_after(arguments, used), rcpt_params, RCPT_PARAM_COUNT, room);
}

/* What can be noted of an address that is none, for the record of its bounce; false when that
 * cannot be. */
static bool keep_broken(struct slice arguments, struct address *ret_rcpt)
{
    static const struct slice nowhere = SLICE_LITERAL(CONF_DOMAIN_INVALID);
    size_t end;

    if (!skip_keyword(&arguments, SLICE_LITERAL("TO:")) || arguments.len == 0 ||
        arguments.data[0] != '<')
        return false;
    arguments = slice_after(arguments, 1);
    end = slice_find(arguments, '>');
    if (end == 0 || end == arguments.len || end > ADDRESS_PATH_MAX - 2)
        return false;
    for (size_t i = 0; i < end; i++)
        if (arguments.data[i] < ' ' || arguments.data[i] > '~')
            return false;
    *ret_rcpt = (struct address){.text = slice_of(arguments.data, end)};
    memcpy(ret_rcpt->host, nowhere.data, nowhere.len);
    ret_rcpt->host_bytes = (uint8_t)nowhere.len;
    return true;
}

static void too_many_rcpts(struct smtpd_session *session)
{
    if (session->source.too_many_rcpts_fails_message) {
        session->refusal = SMTPD_RCPTS_FAIL;
        smtpd_reply(session, SMTPD_RCPTS_FAIL);
        return;
    }
    smtpd_reply(session, SMTPD_TOO_MANY_RCPTS);
    if (session->source.disconnect_on_transient_error)
        smtpd_leave(session, true);
}

static void on_rcpt(struct smtpd_session *session, struct slice arguments)
{
    struct param_room room;
    struct intake_reply reply = {0};
    struct address rcpt;
    enum smtpd_reply_id fault;

    room.params = (struct intake_params){.smtputf8 = session->smtputf8};
    fault = parse_rcpt(session, arguments, &rcpt, &room);
    if (fault != SMTPD_NO_REPLY &&
        !(fault == SMTPD_BAD_RCPT && session->source.accept_invalid_rcpts &&
          keep_broken(arguments, &rcpt))) {
        smtpd_fail(session, fault);
        return;
    }
    if (session->rcpt_count >= session->source.max_rcpt_per_message) {
        too_many_rcpts(session);
        return;
    }
    if (session->server->intake->add_rcpt(session->message, &session->client, &rcpt, &room.params,
                                          &reply) < 0) {
        smtpd_pass_on(session, &reply);
        return;
    }
    session->rcpt_count++;
    smtpd_enter(session, SMTPD_RCPT);
    smtpd_reply(session, SMTPD_RCPT_OK);
}

static void on_data_verb(struct smtpd_session *session, struct slice arguments)
{
    if (arguments.len > 0)
        refuse_step(session, SMTPD_BAD_ARGUMENT);
    else
        smtpd_start_data(session);
}

static void on_rset(struct smtpd_session *session, struct slice arguments)
{
    if (arguments.len > 0) {
        smtpd_fail(session, SMTPD_BAD_ARGUMENT);
        return;
    }
    smtpd_reset(session);
    smtpd_reply(session, SMTPD_OK);
}

static void on_noop(struct smtpd_session *session, struct slice arguments)
{
    smtpd_reply(session, SMTPD_OK);
}

static void on_vrfy(struct smtpd_session *session, struct slice arguments)
{
    if (arguments.len == 0)
        smtpd_fail(session, SMTPD_BAD_ARGUMENT);
    else
        smtpd_reply(session, SMTPD_NO_VERIFY);
}

static void on_help(struct smtpd_session *session, struct slice arguments)
{
    smtpd_reply(session, SMTPD_HELP);
}

static void on_quit(struct smtpd_session *session, struct slice arguments)
{
    smtpd_reply(session, SMTPD_BYE);
    smtpd_leave(session, false);
}

static void on_known(struct smtpd_session *session, struct slice arguments)
{
    smtpd_fail(session, SMTPD_NOT_OFFERED);
}

/* ---- The verb table -------------------------------------------------------------------------- */

#define IN(name) (1u << SMTPD_##name)
#define ANYWHERE (IN(START) | IN(READY) | IN(MAIL) | IN(RCPT) | IN(CHUNKED))

/* Where a verb is out of order the transaction is reset. BDAT judges for itself, since its octets
 * follow in any case. */
static const struct verb {
    char name[5];
    uint32_t states;
    void (*run)(struct smtpd_session *session, struct slice arguments);
} verbs[] = {
    {"RCPT", IN(MAIL) | IN(RCPT), on_rcpt},
    {"MAIL", IN(READY), on_mail},
    {"DATA", IN(RCPT), on_data_verb},
    {"BDAT", ANYWHERE, smtpd_start_chunk},
    {"RSET", ANYWHERE, on_rset},
    {"EHLO", ANYWHERE, on_ehlo},
    {"HELO", ANYWHERE, on_helo},
    {"QUIT", ANYWHERE, on_quit},
    {"NOOP", ANYWHERE, on_noop},
    {"VRFY", ANYWHERE, on_vrfy},
    {"HELP", ANYWHERE, on_help},
    {"EXPN", ANYWHERE, on_known},
    {"AUTH", ANYWHERE, smtpd_on_auth},
    {"ETRN", ANYWHERE, on_known},
    {"TURN", ANYWHERE, on_known},
};

#undef IN
#undef ANYWHERE

/* Verbs of other protocols that browsers can be made to send (A35). */
static const struct slice foreign_verbs[] = {
    SLICE_LITERAL("GET"),   SLICE_LITERAL("POST"),    SLICE_LITERAL("PUT"),
    SLICE_LITERAL("HEAD"),  SLICE_LITERAL("CONNECT"), SLICE_LITERAL("OPTIONS"),
    SLICE_LITERAL("PATCH"), SLICE_LITERAL("DELETE"),  SLICE_LITERAL("TRACE"),
};

static bool is_letter(uint8_t c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

static bool is_foreign(struct slice word)
{
    for (size_t i = 0; i < sizeof(foreign_verbs) / sizeof(foreign_verbs[0]); i++) {
        if (slice_equal_nocase(word, foreign_verbs[i]))
            return true;
    }
    return false;
}

static void run_verb(struct smtpd_session *session, const struct verb *verb, struct slice arguments)
{
    if ((verb->states & (1u << session->state)) != 0)
        verb->run(session, arguments);
    else if (session->state == SMTPD_MAIL && verb->run == on_data_verb)
        refuse_step(session, SMTPD_NO_RCPT);
    else
        refuse_step(session, SMTPD_BAD_ORDER);
}

/* Four letters as a number, their case folded. */
static uint32_t fold_word(const void *letters)
{
    uint32_t word;

    memcpy(&word, letters, sizeof(word));
    return word | 0x20202020;
}

/* Controls have no place in a command, DEL and NUL included. */
static bool has_control(struct slice line)
{
    bool found = false;

    for (size_t i = 0; i < line.len; i++)
        found |= line.data[i] < ' ' || line.data[i] == 0x7f;
    return found;
}

/* The line without the secret that AUTH may bring along. */
static struct slice fit_to_log(struct slice line, struct slice word, struct slice arguments)
{
    if (!slice_equal_nocase(word, SLICE_LITERAL("AUTH")))
        return line;
    return slice_of(line.data, (size_t)(arguments.data - line.data) + slice_find(arguments, ' '));
}

/* line: with its LF. */
static void run_line(struct smtpd_session *session, struct slice line)
{
    struct slice word;
    struct slice arguments;
    uint32_t folded = 0;

    smtpd_touch(session);
    line.len--;
    if (session->state == SMTPD_AUTH) {
        smtpd_auth_line(session, slice_of(line.data, line.len - (line.len > 0 &&
                                                                 line.data[line.len - 1] == '\r')));
        return;
    }
    if (line.len > 0 && line.data[line.len - 1] == '\r') {
        line.len--;
    } else {
        smtpd_fail(session, SMTPD_BAD_LINE);
        return;
    }
    if (has_control(line)) {
        smtpd_fail(session, SMTPD_BAD_LINE);
        return;
    }
    word = slice_of(line.data, slice_find(line, ' '));
    arguments = slice_trim(slice_after(line, word.len));
    if (session->source.log_commands)
        smtpd_note(session, INTAKE_NOTE_COMMAND, fit_to_log(line, word, arguments));
    if (word.len == 4) {
        folded = fold_word(word.data);
        for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
            if (folded == fold_word(verbs[i].name)) {
                run_verb(session, &verbs[i], arguments);
                return;
            }
        }
    }
    if (is_foreign(word)) {
        session->server->stats.refused_commands++;
        smtpd_close(session);
    } else if (slice_equal_nocase(word, SLICE_LITERAL("STARTTLS"))) {
        smtpd_on_starttls(session, arguments);
    } else {
        smtpd_fail(session, SMTPD_UNKNOWN);
    }
}

/* ---- Lines ----------------------------------------------------------------------------------- */

/* Keeps octets of a line that is not complete in this span, or has been begun in an earlier one. */
static bool keep(struct smtpd_session *session, const uint8_t *data, size_t len)
{
    if (session->line == NULL) {
        session->line = smtpd_buffer(session, &session->line_index);
        session->line_filled = 0;
    }
    if (session->line == NULL) {
        smtpd_close(session);
        return false;
    }
    if (session->line_filled + len > SMTPD_BUFFER_BYTES) {
        session->server->stats.refused_commands++;
        smtpd_reply(session, SMTPD_LINE_TOO_LONG);
        smtpd_leave(session, true);
        return false;
    }
    memcpy(session->line + session->line_filled, data, len);
    session->line_filled += (uint32_t)len;
    return true;
}

size_t smtpd_command_input(struct smtpd_session *session, const uint8_t *data, size_t len)
{
    const uint8_t *lf = memchr(data, '\n', len);
    size_t used = lf != NULL ? (size_t)(lf - data) + 1 : len;
    bool in_place = lf != NULL && session->line == NULL && used <= SMTPD_BUFFER_BYTES;

    /* What talks first without a letter is another protocol, such as TLS (A35). */
    if (session->state == SMTPD_START && session->line == NULL && !is_letter(data[0])) {
        session->server->stats.refused_commands++;
        smtpd_close(session);
        return len;
    }
    if (in_place) {
        run_line(session, slice_of(data, used));
        return used;
    }
    if (!keep(session, data, used))
        return len;
    if (lf == NULL)
        return used;
    run_line(session, slice_of(session->line, session->line_filled));
    slab_free(&session->server->buffers, session->line_index);
    session->line = NULL;
    return used;
}
