#include "net/dmarc.h"

#include "core/base/must.h"

#include <stdio.h>

/* ---- The record (RFC 9989 4.7) --------------------------------------------------------------- */

const char *dmarc_policy_name(enum dmarc_policy policy)
{
    static const char *const names[] = {"none", "quarantine", "reject"};

    return names[policy];
}

/* The next "name = value" of a list between semicolons; false at its end. A part without '=' has an
 * empty name. */
static bool next_tag(struct slice *rest, struct slice *ret_name, struct slice *ret_value)
{
    struct slice part;
    size_t end, equals;

    if (rest->len == 0)
        return false;
    end = slice_find(*rest, ';');
    part = slice_trim(slice_of(rest->data, end));
    *rest = slice_after(*rest, end < rest->len ? end + 1 : end);
    equals = slice_find(part, '=');
    *ret_name = SLICE_EMPTY;
    *ret_value = SLICE_EMPTY;
    if (equals < part.len) {
        *ret_name = slice_trim(slice_of(part.data, equals));
        *ret_value = slice_trim(slice_after(part, equals + 1));
    }
    return true;
}

static bool is_word(struct slice value, const char *word)
{
    return slice_equal_nocase(value, slice_str(word));
}

static bool read_policy(struct slice value, enum dmarc_policy *ret_policy)
{
    for (int policy = DMARC_NO_ACTION; policy <= DMARC_REJECT; policy++) {
        if (is_word(value, dmarc_policy_name((enum dmarc_policy)policy))) {
            *ret_policy = (enum dmarc_policy)policy;
            return true;
        }
    }
    return false;
}

struct tags {
    bool has_policy;
    bool has_sub_policy;
    bool is_bad; /* p= or sp= says what is no policy */
};

static void take_tag(struct slice name, struct slice value, struct dmarc_record *record,
                     struct tags *tags)
{
    if (is_word(name, "p")) {
        tags->has_policy = read_policy(value, &record->policy);
        tags->is_bad |= !tags->has_policy;
    } else if (is_word(name, "sp")) {
        tags->has_sub_policy = read_policy(value, &record->sub_policy);
        tags->is_bad |= !tags->has_sub_policy;
    } else if (is_word(name, "adkim")) {
        record->is_strict_dkim = is_word(value, "s");
    } else if (is_word(name, "aspf")) {
        record->is_strict_spf = is_word(value, "s");
    } else if (is_word(name, "t")) {
        record->is_testing = is_word(value, "y");
    } else if (is_word(name, "rua")) {
        record->has_reports = value.len > 0;
    } else if (is_word(name, "psd")) {
        record->psd = is_word(value, "y")   ? DMARC_PSD_YES
                      : is_word(value, "n") ? DMARC_PSD_NO
                                            : DMARC_PSD_UNKNOWN;
    }
}

bool dmarc_parse(struct slice text, struct dmarc_record *ret_record)
{
    struct slice rest = text, name, value;
    struct tags tags = {0};

    *ret_record = (struct dmarc_record){0};
    if (!next_tag(&rest, &name, &value) || !slice_equal(name, SLICE_LITERAL("v")) ||
        !slice_equal(value, SLICE_LITERAL("DMARC1")))
        return false;
    while (next_tag(&rest, &name, &value))
        take_tag(name, value, ret_record, &tags);
    /* 4.7: without a policy that can be read the record asks for reports, or for nothing. */
    if (!tags.has_policy || tags.is_bad) {
        if (!ret_record->has_reports)
            return false;
        ret_record->policy = DMARC_NO_ACTION;
        ret_record->sub_policy = DMARC_NO_ACTION;
    } else if (!tags.has_sub_policy) {
        ret_record->sub_policy = ret_record->policy;
    }
    return true;
}

/* ---- The walk (RFC 9989 4.10) ---------------------------------------------------------------- */

static uint32_t label_count(const char *name)
{
    uint32_t count = 1;

    for (; *name != '\0'; name++)
        count += *name == '.';
    return count;
}

static const char *parent_of(const char *name)
{
    const char *dot = strchr(name, '.');

    return dot != NULL ? dot + 1 : NULL;
}

/* From a name with many labels to one with DMARC_QUESTIONS_MAX - 1, from then on label by label. */
static const char *next_name(const char *name)
{
    const char *next = parent_of(name);

    while (next != NULL && label_count(next) >= DMARC_QUESTIONS_MAX)
        next = parent_of(next);
    return next;
}

/* The one name below that `above`, on the way to the walk's domain. */
static const char *name_below(const struct dmarc_walk *walk, const char *above)
{
    const char *below = above - 1; /* the dot */

    must(above > walk->domain);
    while (below > walk->domain && below[-1] != '.')
        below--;
    return below;
}

/* The one record of the answer that counts; false when there is none, or are several. */
static bool find_record(const struct dns_query *answer, struct dmarc_record *ret_record)
{
    struct dmarc_record record;
    uint16_t cursor = 0;
    struct slice text;
    unsigned count = 0;

    while (dns_record_next(answer, &cursor, &text)) {
        if (!dmarc_parse(text, &record))
            continue;
        *ret_record = record;
        count++;
    }
    return count == 1;
}

static void note_record(struct dmarc_walk *walk, const struct dmarc_record *record)
{
    bool is_own = walk->at == walk->domain;

    /* 4.10.1: the domain's own, else the organization's; 4.10.2: that is the highest that has one,
     * unless a psd= says which. A public suffix' own record counts where nobody else has any. */
    if (record->psd == DMARC_PSD_YES && !is_own) {
        walk->organization = name_below(walk, walk->at);
        walk->is_above_known = true;
    } else {
        walk->organization = walk->at;
        walk->is_above_known = record->psd != DMARC_PSD_UNKNOWN;
    }
    if (walk->is_own || (record->psd == DMARC_PSD_YES && walk->found == DMARC_FOUND))
        return;
    walk->found = DMARC_FOUND;
    walk->record = *record;
    walk->record_domain = walk->at;
    walk->is_own = is_own;
}

static void ask(struct dmarc_walk *walk);

static void on_answer(struct dns_lookup *lookup, const struct dns_query *answer)
{
    struct dmarc_walk *walk = container_of(lookup, struct dmarc_walk, lookup);
    struct dmarc_record record;

    if (answer->status == DNS_FAILURE || answer->status == DNS_TIMEOUT) {
        walk->found = DMARC_TEMPERROR;
        walk->on_done(walk->context, walk);
        return;
    }
    if (find_record(answer, &record))
        note_record(walk, &record);
    walk->at = walk->is_above_known ? NULL : next_name(walk->at);
    if (walk->at == NULL)
        walk->on_done(walk->context, walk);
    else
        ask(walk);
}

static void ask(struct dmarc_walk *walk)
{
    char name[DNS_NAME_MAX + 16];

    /* One that is too long for the DNS is answered like one that is not there. */
    snprintf(name, sizeof(name), "_dmarc.%s", walk->at);
    walk->lookup.on_answer = on_answer;
    dns_ask(walk->dns, &walk->lookup, slice_str(name), DNS_TXT);
}

void dmarc_start(struct dmarc_walk *walk, struct dns *dns, struct slice domain,
                 void (*on_done)(void *context, struct dmarc_walk *walk), void *context)
{
    must(domain.len > 0 && domain.len <= DNS_NAME_MAX);
    *walk = (struct dmarc_walk){.dns = dns, .on_done = on_done, .context = context};
    memcpy(walk->domain, domain.data, domain.len);
    walk->organization = walk->domain;
    walk->record_domain = walk->domain;
    walk->at = walk->domain;
    ask(walk);
}

void dmarc_stop(struct dmarc_walk *walk)
{
    if (walk->dns != NULL)
        dns_forget(walk->dns, &walk->lookup);
}

enum dmarc_policy dmarc_policy_of(const struct dmarc_walk *walk)
{
    return walk->is_own ? walk->record.policy : walk->record.sub_policy;
}

bool dmarc_is_aligned(const struct dmarc_walk *from, const struct dmarc_walk *other, bool is_strict)
{
    return is_strict ? strcmp(from->domain, other->domain) == 0
                     : strcmp(from->organization, other->organization) == 0;
}
