#include "net/dns_outlook.h"

#include "core/base/must.h"

static bool has_name(const struct dns_witness *witness, struct slice name)
{
    return witness->name[0] != '\0' && slice_equal(slice_str(witness->name), name);
}

static struct dns_witness *find(struct dns_witnesses *witnesses, struct slice name)
{
    for (unsigned i = 0; i < DNS_WITNESS_COUNT; i++)
        if (has_name(&witnesses->places[i], name))
            return &witnesses->places[i];
    return NULL;
}

/* A place for a new witness: a free one, or that of one bad for so long that it died. */
static struct dns_witness *vacant(struct dns_witnesses *witnesses, uint64_t now_ns)
{
    for (unsigned i = 0; i < DNS_WITNESS_COUNT; i++) {
        struct dns_witness *witness = &witnesses->places[i];

        if (witness->name[0] == '\0' ||
            (!witness->is_good && now_ns - witness->good_ns >= DNS_WITNESS_BAD_NS))
            return witness;
    }
    return NULL;
}

void dns_witnesses_note(struct dns_witnesses *witnesses, struct slice name, enum dns_status status,
                        uint64_t now_ns)
{
    struct dns_witness *witness = find(witnesses, name);
    bool is_good = status == DNS_OK;

    must(name.len <= DNS_NAME_MAX);
    if (witness == NULL && is_good)
        witness = vacant(witnesses, now_ns);
    if (witness == NULL)
        return;
    memcpy(witness->name, name.data, name.len);
    witness->name[name.len] = '\0';
    witness->is_good = is_good;
    witness->answered_ns = now_ns;
    if (is_good)
        witness->good_ns = now_ns;
}

enum dns_outlook dns_witnesses_judge(const struct dns_witnesses *witnesses, struct slice except,
                                     uint64_t now_ns)
{
    unsigned answered = 0, good = 0;

    for (unsigned i = 0; i < DNS_WITNESS_COUNT; i++) {
        const struct dns_witness *witness = &witnesses->places[i];

        if (witness->name[0] == '\0' || has_name(witness, except) ||
            now_ns - witness->answered_ns > DNS_WITNESS_COUNTS_NS)
            continue;
        answered++;
        good += witness->is_good;
    }
    if (answered == 0)
        return DNS_OUTLOOK_UNKNOWN;
    return 2 * good > answered ? DNS_OUTLOOK_GOOD : DNS_OUTLOOK_BAD;
}

bool dns_witness_is_stale(const struct dns_witness *witness, uint64_t now_ns)
{
    return witness->name[0] != '\0' && now_ns - witness->answered_ns >= DNS_WITNESS_FRESH_NS;
}
