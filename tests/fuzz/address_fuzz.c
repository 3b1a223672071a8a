/*
 * The address parser: what it accepts must survive a second parse unchanged, routing must follow
 * from the text by a rule so simple that it cannot be wrong, and nothing outside of the input may
 * be read. The first octet chooses the flags.
 */
#include "core/base/must.h"
#include "core/mail/address.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* The '@' that ends the local part: the first one outside of quotes. */
static size_t split_of(struct slice text)
{
    bool quoted = false;

    for (size_t i = 0; i < text.len; i++) {
        if (quoted && text.data[i] == '\\')
            i++;
        else if (text.data[i] == '"')
            quoted = !quoted;
        else if (text.data[i] == '@' && !quoted)
            return i;
    }
    return text.len;
}

static void check(const struct address *address, unsigned flags)
{
    struct slice host = address_host(address);
    struct address again;

    must(address->text.len <= ADDRESS_PATH_MAX - 2);
    if (address->text.len == 0 || address->is_local_only)
        return;
    must(address->local.len == split_of(address->text));
    must(address->domain.len <= ADDRESS_DOMAIN_MAX);
    must(address->local.len <= ADDRESS_LOCAL_MAX || (flags & ADDRESS_ALLOW_LONG_LOCAL) != 0);
    must(host.len > 0 && host.data[host.len] == 0 && slice_find(host, 0) == host.len);
    for (size_t i = 0; i < host.len; i++)
        must(host.data[i] > ' ' && host.data[i] < 0x7f && host.data[i] != '@' &&
             (host.data[i] < 'A' || host.data[i] > 'Z'));
    if (!address->is_utf8 && address->literal.family == IPADDR_NONE)
        must(slice_equal_nocase(host, address->domain));
    must(address_parse(address->text, flags, &again) == 0);
    must(slice_equal(again.text, address->text) && slice_equal(address_host(&again), host));
    /* The routing form is its own routing form. */
    if (address->literal.family != IPADDR_V6) {
        char room[ADDRESS_HOST_MAX + 1];

        must(address_domain_parse(host, 0, room) == (int)host.len);
        must(memcmp(room, host.data, host.len) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct address address;
    struct slice text;
    size_t used = 0;
    unsigned flags;

    if (len == 0)
        return 0;
    flags = data[0] & 15;
    text = slice_of(data + 1, len - 1);
    if (address_parse(text, flags, &address) == 0) {
        must(address.is_local_only || address.text.len == text.len);
        check(&address, flags);
    }
    if (address_parse_path(text, flags, &address, &used) == 0) {
        must(used >= 2 && used <= text.len && used <= ADDRESS_PATH_MAX);
        must(text.data[0] == '<' && text.data[used - 1] == '>');
        check(&address, flags);
    }
    return 0;
}
