/* What a source requires of headers, as large receivers do of bulk senders. */
#include "core/base/log.h"
#include "shard/author.h"
#include "shard/inject_int.h"

static bool contains_nocase(struct slice text, struct slice part)
{
    for (size_t at = 0; at + part.len <= text.len; at++) {
        if (slice_equal_nocase(slice_of(text.data + at, part.len), part))
            return true;
    }
    return false;
}

/* RFC 8058 3.1. */
static bool has_one_click(const struct inject_fields *fields)
{
    return contains_nocase(fields->unsubscribe, SLICE_LITERAL("<https:")) &&
           contains_nocase(fields->unsubscribe_post, SLICE_LITERAL("list-unsubscribe=one-click"));
}

/* RFC 5322 3.6.4, as far as receivers look: "<left@right>" without blanks. */
static bool has_message_id(const struct inject_fields *fields)
{
    struct slice id = fields->message_id;
    size_t at;

    if (fields->message_id_count != 1 || id.len < 5 || id.data[0] != '<' ||
        id.data[id.len - 1] != '>')
        return false;
    id = slice_of(id.data + 1, id.len - 2);
    at = slice_find(id, '@');
    for (size_t i = 0; i < id.len; i++) {
        if (id.data[i] <= ' ' || id.data[i] == '<' || id.data[i] == '>')
            return false;
    }
    return at > 0 && at + 1 < id.len;
}

/* What stands behind the last '@' of an address, whether or not that is in angle brackets. */
static struct slice domain_of(struct slice address)
{
    size_t at = address.len;

    while (at > 0 && address.data[at - 1] != '@')
        at--;
    return at > 0 ? slice_after(address, at) : SLICE_EMPTY;
}

/* Equal, or one lies below the other; a top-level domain alone is above nobody. */
static bool is_aligned(struct slice a, struct slice b)
{
    struct slice longer = a.len > b.len ? a : b;
    struct slice shorter = a.len > b.len ? b : a;
    size_t more = longer.len - shorter.len;

    if (shorter.len == 0 || !slice_equal_nocase(slice_after(longer, more), shorter))
        return false;
    return more == 0 || (longer.data[more - 1] == '.' && slice_find(shorter, '.') < shorter.len);
}

/* A message from nobody has nothing to be aligned with. */
static bool is_from_aligned(const struct intake_message *intake, const struct inject_fields *fields)
{
    struct slice from = author_of_from(fields->from);

    if (fields->from_count != 1 || from.len == 0)
        return false;
    return intake->sender.len == 0 || is_aligned(from, domain_of(intake->sender));
}

/* Whether what is lacking is a reason to refuse. */
static bool is_fatal(const struct intake_message *intake, uint32_t require, const char *text)
{
    char id[14], client[IPADDR_TEXT_MAX];

    if (require == CONF_REQUIRE_WARN) {
        inject_format_id(intake->id, id);
        ipaddr_format(&intake->client_ip, client);
        log_warn("message %s of %s: %s", id, client, text);
    }
    return require == CONF_REQUIRE_REJECT;
}

const char *inject_require(const struct intake_message *intake, const struct conf_source *source,
                           const struct inject_fields *fields)
{
    static const char *const no_unsubscribe =
        "one-click unsubscription is missing (List-Unsubscribe and List-Unsubscribe-Post, RFC "
        "8058)";
    static const char *const no_alignment =
        "From has not one address in the domain of the envelope sender";
    static const char *const no_id = "there is not exactly one well-formed Message-ID";

    if (source->require_list_unsubscribe && !has_one_click(fields) &&
        is_fatal(intake, source->require_list_unsubscribe, no_unsubscribe))
        return no_unsubscribe;
    if (source->require_from_alignment && !is_from_aligned(intake, fields) &&
        is_fatal(intake, source->require_from_alignment, no_alignment))
        return no_alignment;
    if (source->require_message_id && !has_message_id(fields) &&
        is_fatal(intake, source->require_message_id, no_id))
        return no_id;
    return NULL;
}
