/* Addresses of an envelope that the source's settings complete or add. */
#include "core/base/err.h"
#include "shard/inject_int.h"

bool inject_qualify(const struct intake_message *intake, const struct address *address, char *room,
                    struct address *ret_address)
{
    const char *suffix = conf_global(intake->shard->conf)->domain_suffix;
    struct text text = text_in(room, ADDRESS_PATH_MAX);

    if (!suffix || !intake->source.auto_qualify_domain || address->domain.len == 0 ||
        address->literal.family != IPADDR_NONE ||
        slice_find(address->domain, '.') < address->domain.len)
        return false;
    text_put(&text, address->text);
    text_put_char(&text, '.');
    text_put_str(&text, suffix);
    return !text.is_cut &&
           address_parse(text_slice(&text), ADDRESS_ALLOW_UTF8 | ADDRESS_ALLOW_LONG_LOCAL,
                         ret_address) == 0;
}

static const struct intake_params nothing_asked = {0};

int inject_put_rcpt(struct intake_message *intake, const struct address *rcpt,
                    const struct intake_params *params)
{
    struct envelope_rcpt entry = {
        .address = rcpt->text, .orcpt = params->orcpt, .notify = params->notify};
    struct message_buffer *buffer;
    struct wire_writer w;

    entry.host = address_host(rcpt);
    if (slice_equal(entry.host, rcpt->domain))
        entry.host = SLICE_EMPTY;
    if (inject_rcpt_room(intake, rcpt->text.len + entry.orcpt.len + entry.host.len + 8) < 0 ||
        !home_reserve(intake->shard, 1))
        return E_FULL;
    intake->reserved++;
    buffer = &intake->message->buffers[0];
    wire_writer_init(&w, buffer->data + buffer->used, buffer->size - buffer->used);
    envelope_put_rcpt(&w, &entry);
    must(!w.failed);
    buffer->used += (uint32_t)wire_written(&w);
    intake->rcpt_count++;
    intake->flags |= entry.notify != 0 ? ENVELOPE_NOTIFY : 0;
    return 0;
}

int inject_put_aliased(struct intake_message *intake, const struct address *rcpt,
                       const struct intake_params *params)
{
    const struct slice *targets;
    uint32_t count = conf_alias(intake->shard->conf, rcpt->text, &targets);
    uint32_t used = intake->message->buffers[0].used;
    uint32_t rcpts_before = intake->rcpt_count, reserved_before = intake->reserved;
    char room[sizeof("rfc822;") + ADDRESS_PATH_MAX];
    struct text original = text_in(room, sizeof(room));
    struct intake_params of_target = *params;
    int result = 0;

    if (count == 0)
        return inject_put_rcpt(intake, rcpt, params);
    if (rcpts_before + count > ENVELOPE_RCPT_COUNT_MAX)
        return E_FULL;
    /* RFC 3461 4.2: whom the mail was for. */
    text_put_literal(&original, "rfc822;");
    text_put(&original, rcpt->text);
    if (params->orcpt.len == 0)
        of_target.orcpt = text_slice(&original);
    for (uint32_t i = 0; i < count && result == 0; i++) {
        struct address target;

        if (address_parse(targets[i], ADDRESS_ALLOW_UTF8, &target) == 0 &&
            !(intake->source.has_lists && inject_lists_suppress(intake, &target)))
            result = inject_put_rcpt(intake, &target, &of_target);
    }
    if (result == 0 && intake->rcpt_count > rcpts_before)
        return 0;
    intake->message->buffers[0].used = used;
    intake->rcpt_count = rcpts_before;
    home_unreserve(intake->shard, intake->reserved - reserved_before);
    intake->reserved = reserved_before;
    return E_FULL;
}

struct slice inject_first_rcpt(const struct intake_message *intake)
{
    const struct message_buffer *rcpts = &intake->message->buffers[0];
    struct envelope_rcpt rcpt;
    struct wire_reader r;

    wire_reader_init(&r, rcpts->data, rcpts->used);
    return envelope_rcpt_next(&r, &rcpt) ? rcpt.address : SLICE_EMPTY;
}

static size_t last_at(struct slice address)
{
    size_t at = address.len;

    while (at > 0 && address.data[at - 1] != '@')
        at--;
    return at > 0 ? at - 1 : address.len;
}

struct slice inject_verp(const struct intake_message *intake, char *room)
{
    struct text text = text_in(room, ADDRESS_PATH_MAX);
    struct slice sender = intake->sender;
    struct slice rcpt = inject_first_rcpt(intake);
    size_t sender_at = last_at(sender);
    size_t rcpt_at = last_at(rcpt);
    struct address made;

    if (sender_at == sender.len || rcpt_at == rcpt.len)
        return sender;
    text_put(&text, slice_of(sender.data, sender_at));
    text_put_char(&text, '-');
    text_put(&text, slice_of(rcpt.data, rcpt_at));
    text_put_char(&text, '=');
    text_put(&text, slice_after(rcpt, rcpt_at + 1));
    text_put(&text, slice_after(sender, sender_at));
    /* Quotes would need to be undone and made anew, and brackets of a literal cannot stand there.
     */
    return !text.is_cut && address_parse(text_slice(&text),
                                         ADDRESS_ALLOW_UTF8 | ADDRESS_ALLOW_LONG_LOCAL, &made) == 0
               ? text_slice(&text)
               : sender;
}

void inject_rewrite(struct intake_message *intake, char *by_source, char *by_vmta,
                    size_t room_bytes)
{
    const struct conf_vmta *vmta = conf_vmta(intake->shard->conf, intake->vmta_id);
    const struct conf_source *source =
        intake->source.rewrites ? inject_source(intake) : &intake->source;

    if (source->rewrites)
        intake->sender = conf_rewrite(source->rewrites, intake->sender, by_source, room_bytes);
    if (vmta && vmta->rewrites)
        intake->sender = conf_rewrite(vmta->rewrites, intake->sender, by_vmta, room_bytes);
}

int inject_put_bcc(struct intake_message *intake)
{
    const char *bcc = inject_source(intake)->bcc;
    struct address address;

    if (!bcc || intake->rcpt_count == ENVELOPE_RCPT_COUNT_MAX ||
        address_parse(slice_str(bcc), ADDRESS_ALLOW_UTF8, &address) < 0)
        return 0;
    return inject_put_rcpt(intake, &address, &nothing_asked);
}
