/* The lines that stand in front of a message's own header. */
#include "shard/inject_int.h"

static void put_client(struct text *line, const struct intake_message *intake)
{
    char ip[IPADDR_TEXT_MAX];

    ipaddr_format(&intake->client_ip, ip);
    text_put_literal(line, "from ");
    text_put(line, intake->helo);
    text_put_literal(line, " (");
    if (intake->client_ip.family == IPADDR_V6)
        text_put_literal(line, "IPv6:");
    text_put_str(line, ip);
    text_put_literal(line, ")\r\n\tby ");
    text_put_str(line, conf_global(intake->shard->conf)->host_name);
    text_put_literal(line, " with ");
    text_put_str(line, intake->flags & ENVELOPE_SMTPUTF8 ? "UTF8SMTP"
                       : intake->is_esmtp                ? "ESMTP"
                                                         : "SMTP");
    /* RFC 3848, which has no word for TLS without EHLO. */
    if (intake->is_secured && intake->is_esmtp)
        text_put_char(line, 'S');
    if (intake->user)
        text_put_char(line, 'A');
}

/* The message's id, with what tells machines apart that count alike. */
static void put_id(struct text *line, const struct intake_message *intake, const char *before,
                   const char *name)
{
    const char *host_id = conf_global(intake->shard->conf)->host_id;

    text_put_str(line, before);
    text_put_str(line, name);
    if (host_id) {
        text_put_char(line, '.');
        text_put_str(line, host_id);
    }
}

/* RFC 5321 4.4: trace line with the id that the reply and the log name. */
static void put_received(struct text *line, const struct intake_message *intake, const char *name)
{
    text_put_literal(line, "Received: ");
    if (intake->source.hide_message_source) {
        text_put_literal(line, "by ");
        text_put_str(line, conf_global(intake->shard->conf)->host_name);
    } else {
        put_client(line, intake);
    }
    put_id(line, intake, " id ", name);
    text_put_str(line, intake->source.hide_message_source ? "; " : ";\r\n\t");
    text_put_date(line, intake->wall_us);
    text_put_literal(line, "\r\n");
}

static void put_message_id(struct text *line, const struct intake_message *intake, const char *name)
{
    put_id(line, intake, "Message-ID: <", name);
    text_put_char(line, '@');
    text_put_str(line, conf_global(intake->shard->conf)->host_name);
    text_put_literal(line, ">\r\n");
}

int inject_prefix_put(struct intake_message *intake, struct slice piece)
{
    int result = piece.len > 0 ? inject_chunks_write(intake, piece.data, piece.len) : 0;

    if (result >= 0)
        intake->message->envelope.prefix_bytes += (uint32_t)piece.len;
    return result;
}

/* What a place in braces at the front of text stands for; false when it is none of ours. */
static bool place_value(const struct intake_message *intake, struct slice text,
                        struct slice *ret_value, size_t *ret_used)
{
    const struct envelope *envelope = &intake->message->envelope;
    const struct {
        struct slice name;
        struct slice value;
    } places[] = {
        {SLICE_LITERAL("{job}"), envelope->job_id},
        {SLICE_LITERAL("{vmta}"), envelope->vmta},
        {SLICE_LITERAL("{pool}"), envelope->pool},
    };

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        if (!slice_starts_nocase(text, places[i].name))
            continue;
        *ret_value = places[i].value;
        *ret_used = places[i].name.len;
        return true;
    }
    return false;
}

static int write_feedback_id(struct intake_message *intake)
{
    const char *template = inject_source(intake)->feedback_id;
    struct slice rest = template ? slice_str(template) : SLICE_EMPTY;
    int result = rest.len > 0 ? inject_prefix_put(intake, SLICE_LITERAL("Feedback-ID: ")) : 0;

    while (rest.len > 0 && result >= 0) {
        struct slice piece;
        size_t used;

        if (!place_value(intake, rest, &piece, &used)) {
            used = 1 + slice_find(slice_after(rest, 1), '{');
            piece = slice_of(rest.data, used);
        }
        result = inject_prefix_put(intake, piece);
        rest = slice_after(rest, used);
    }
    return template && result >= 0 ? inject_prefix_put(intake, SLICE_LITERAL("\r\n")) : result;
}

/* Names in the configuration may be as long as its lines are. */
static int write_vmta(struct intake_message *intake)
{
    const struct slice pieces[] = {
        SLICE_LITERAL("X-Virtual-MTA: "),
        slice_str(conf_vmta_name(intake->shard->conf, intake->vmta_id)),
        SLICE_LITERAL("\r\n"),
    };

    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        int result = inject_prefix_put(intake, pieces[i]);

        if (result < 0)
            return result;
    }
    return 0;
}

/* What files of the configuration add: the source's, then the virtual MTA's. */
static int write_included(struct intake_message *intake)
{
    const struct conf_vmta *vmta = conf_vmta(intake->shard->conf, intake->vmta_id);
    int result = 0;

    if (intake->source.include_headers_from)
        result = inject_prefix_put(intake, inject_source(intake)->included);
    if (result >= 0 && vmta)
        result = inject_prefix_put(intake, vmta->included);
    return result;
}

int inject_prefix_write(struct intake_message *intake)
{
    char room[CHECK_FIELD_MAX], name[14];
    struct text line = text_in(room, sizeof(room));
    struct slice results = inject_check_field(intake, room);
    int result = inject_prefix_put(intake, results);

    intake->results_bytes = (uint32_t)results.len;
    inject_format_id(intake->id, name);
    if (intake->source.add_received_header)
        put_received(&line, intake, name);
    if (intake->additions & INTAKE_ADD_MESSAGE_ID)
        put_message_id(&line, intake, name);
    if (intake->additions & INTAKE_ADD_DATE) {
        text_put_literal(&line, "Date: ");
        text_put_date(&line, intake->wall_us);
        text_put_literal(&line, "\r\n");
    }
    must(!line.is_cut);
    if (result >= 0)
        result = inject_prefix_put(intake, text_slice(&line));
    if (result >= 0 && (intake->additions & INTAKE_ADD_FEEDBACK_ID))
        result = write_feedback_id(intake);
    if (result >= 0 && (intake->additions & INTAKE_ADD_VMTA))
        result = write_vmta(intake);
    if (result >= 0)
        result = write_included(intake);
    return result < 0 ? result : 0;
}
