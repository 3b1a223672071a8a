/*
 * go_on() runs terms of the innermost record until one needs an answer; every answer ends in
 * matched(), unmatched() or fail(), and those in go_on() again or in the result. A record that is
 * included stands on top of the one that includes it, in one room for their texts; a redirect takes
 * the place of its record.
 */
#include "net/spf.h"

#include "core/base/err.h"
#include "core/base/must.h"
#include "core/base/text.h"

static void go_on(struct spf_check *check);
static void end_record(struct spf_check *check, enum spf_result result);

/* ---- Small things ---------------------------------------------------------------------------- */

static struct spf_frame *top(struct spf_check *check)
{
    return &check->frames[check->depth - 1];
}

static struct slice domain_of(const struct spf_check *check, const struct spf_frame *frame)
{
    return slice_of(check->text + frame->start, frame->domain_bytes);
}

static void note(struct spf_check *check, struct slice term, const char *what)
{
    char domain[DNS_NAME_MAX + 1];
    struct text room = text_in(domain, sizeof(domain));

    if (!check->note)
        return;
    if (check->depth > 0)
        text_put(&room, domain_of(check, top(check)));
    text_end(&room);
    check->note(check->context, domain, term, what);
}

static void finish(struct spf_check *check, enum spf_result result)
{
    check->answer.result = result;
    check->depth = 0;
    check->on_done(check->context, &check->answer);
}

static void fail(struct spf_check *check, enum spf_result result, const char *why)
{
    note(check, check->term.text, why);
    check->answer.why = why;
    finish(check, result);
}

static bool is_failure(const struct dns_query *answer)
{
    return answer->status == DNS_FAILURE || answer->status == DNS_TIMEOUT;
}

/* What the term that is looked at belongs to, for whoever reads the result. */
static void keep_mechanism(struct spf_check *check, struct slice text)
{
    struct text room = text_in(check->answer.mechanism, sizeof(check->answer.mechanism));

    if (check->depth > 1)
        return;
    text_put(&room, text);
    text_end(&room);
}

static struct slice address_name(const struct spf_check *check, struct slice domain)
{
    struct slice best = SLICE_LITERAL("unknown");
    unsigned rank = 0;

    for (unsigned i = 0; i < check->names.name_count; i++) {
        struct slice name = slice_str(check->names.names[i]);
        bool is_below = name.len > domain.len && name.data[name.len - domain.len - 1] == '.' &&
                        slice_equal_nocase(slice_after(name, name.len - domain.len), domain);
        unsigned here = slice_equal_nocase(name, domain) ? 3 : is_below ? 2 : 1;

        if (check->names.is_confirmed[i] && here > rank) {
            best = name;
            rank = here;
        }
    }
    return best;
}

/* ---- Questions ------------------------------------------------------------------------------- */

static void ask(struct spf_check *check, struct slice name, enum dns_type type,
                void (*on_answer)(struct dns_lookup *, const struct dns_query *))
{
    check->lookup.on_answer = on_answer;
    dns_ask(check->dns, &check->lookup, name, type);
}

/* One term more that needs the DNS: false when there were too many. */
static bool count_lookup(struct spf_check *check)
{
    if (check->lookup_count++ < SPF_LOOKUP_COUNT_MAX)
        return true;
    fail(check, SPF_PERMERROR, "more than 10 terms need look-ups");
    return false;
}

/* The term's question had this answer: false when the check is over because of it. */
static bool count_void(struct spf_check *check, const struct dns_query *answer)
{
    if (is_failure(answer)) {
        fail(check, SPF_TEMPERROR, "the name servers did not answer");
        return false;
    }
    if (answer->status == DNS_OK || check->void_count++ < SPF_VOID_COUNT_MAX)
        return true;
    fail(check, SPF_PERMERROR, "more than 2 look-ups found nothing");
    return false;
}

/* The domain that the term is about, into check->target. False when no name can be made of it. */
static bool find_target(struct spf_check *check)
{
    struct slice domain = domain_of(check, top(check));
    const char *identity = check->identity;
    struct spf_macros macros = {
        .ip = check->ip,
        .local = slice_of(identity, check->local_bytes),
        .sender_domain = slice_of(identity + check->local_bytes, check->domain_bytes),
        .helo = slice_of(identity + check->local_bytes + check->domain_bytes, check->helo_bytes),
        .domain = domain,
        .name = address_name(check, domain),
    };

    check->answer.is_of_sender |= spf_wants_sender(check->term.domain);
    if (check->term.domain.len > 0)
        return spf_expand(check->term.domain, &macros, check->target) > 0;
    memcpy(check->target, domain.data, domain.len);
    check->target[domain.len] = '\0';
    return true;
}

/* ---- Records --------------------------------------------------------------------------------- */

/* The one SPF record of an answer: 1, 0 when there is none, or E_EXISTS for several. */
static int find_record(const struct dns_query *answer, struct slice *ret_terms)
{
    uint16_t cursor = 0;
    struct slice rdata, terms;
    int count = 0;

    while (dns_record_next(answer, &cursor, &rdata)) {
        if (!spf_is_record(rdata, &terms))
            continue;
        *ret_terms = terms;
        count++;
    }
    return count > 1 ? E_EXISTS : count;
}

static void on_record(struct dns_lookup *lookup, const struct dns_query *answer)
{
    struct spf_check *check = container_of(lookup, struct spf_check, lookup);
    struct spf_frame *frame = top(check);
    struct spf_term redirect;
    struct slice terms = SLICE_EMPTY;
    int count;

    if (is_failure(answer)) {
        fail(check, SPF_TEMPERROR, "the name servers did not answer");
        return;
    }
    count = find_record(answer, &terms);
    if (count == 0) {
        note(check, SLICE_EMPTY, "has no SPF record");
        end_record(check, SPF_NONE);
    } else if (count < 0) {
        fail(check, SPF_PERMERROR, "there is more than one SPF record");
    } else if (terms.len > (size_t)(SPF_TEXT_BYTES - check->text_bytes)) {
        fail(check, SPF_PERMERROR, "the records are too long");
    } else {
        frame->terms = check->text_bytes;
        frame->terms_bytes = (uint16_t)terms.len;
        memcpy(check->text + frame->terms, terms.data, terms.len);
        check->text_bytes = (uint16_t)(check->text_bytes + terms.len);
        note(check, slice_of(check->text + frame->terms, terms.len), "has the record");
        if (spf_terms_check(slice_of(check->text + frame->terms, terms.len), &redirect) < 0)
            fail(check, SPF_PERMERROR, "the record is not well-formed");
        else
            go_on(check);
    }
}

/* Goes into the record of check->target, on top of what is open. */
static void open_record(struct spf_check *check, bool is_redirected)
{
    size_t len = strlen(check->target);
    struct spf_frame *frame;

    if (check->depth == SPF_DEPTH_MAX || len > (size_t)(SPF_TEXT_BYTES - check->text_bytes)) {
        fail(check, SPF_PERMERROR, "the records are too long");
        return;
    }
    frame = &check->frames[check->depth++];
    *frame = (struct spf_frame){
        .start = check->text_bytes,
        .domain_bytes = (uint16_t)len,
        .is_redirected = is_redirected,
    };
    memcpy(check->text + frame->start, check->target, len);
    /* Where it stood may be this record's place. */
    check->term.text = SLICE_EMPTY;
    check->text_bytes = (uint16_t)(check->text_bytes + len);
    ask(check, slice_str(check->target), DNS_TXT, on_record);
}

static void close_record(struct spf_check *check)
{
    check->text_bytes = top(check)->start;
    check->depth--;
}

/* ---- What a term comes to -------------------------------------------------------------------- */

static void matched(struct spf_check *check)
{
    note(check, check->term.text, "matches");
    keep_mechanism(check, check->term.text);
    end_record(check, check->term.qualifier);
}

static void unmatched(struct spf_check *check)
{
    note(check, check->term.text, "does not match");
    go_on(check);
}

/* The innermost record has this result. */
static void end_record(struct spf_check *check, enum spf_result result)
{
    while (check->depth > 1) {
        bool is_redirected = top(check)->is_redirected;

        if (result == SPF_NONE) {
            check->term.text = domain_of(check, top(check));
            fail(check, SPF_PERMERROR,
                 is_redirected ? "redirect leads to a domain without a record"
                               : "include of a domain without a record");
            return;
        }
        close_record(check);
        if (result != SPF_PASS) {
            go_on(check);
            return;
        }
        result = top(check)->qualifier;
    }
    if (result == SPF_NONE && check->frames[0].is_redirected)
        fail(check, SPF_PERMERROR, "redirect leads to a domain without a record");
    else
        finish(check, result);
}

static void follow_redirect(struct spf_check *check)
{
    if (!find_target(check)) {
        fail(check, SPF_PERMERROR, "redirect leads to no domain");
        return;
    }
    note(check, check->term.text, "leads on");
    close_record(check);
    open_record(check, true);
}

static void ask_names(struct spf_check *check);

static bool wants_names(const struct spf_check *check)
{
    return !check->has_names && (check->term.kind == SPF_PTR || spf_wants_name(check->term.domain));
}

/* All terms are behind us. */
static void end_terms(struct spf_check *check)
{
    struct spf_frame *frame = top(check);
    struct slice terms = slice_of(check->text + frame->terms, frame->terms_bytes);

    spf_terms_check(terms, &check->term);
    if (check->term.kind != SPF_REDIRECT) {
        keep_mechanism(check, SLICE_LITERAL("default"));
        end_record(check, SPF_NEUTRAL);
        return;
    }
    if (!count_lookup(check))
        return;
    if (wants_names(check))
        ask_names(check);
    else
        follow_redirect(check);
}

/* ---- Addresses ------------------------------------------------------------------------------- */

static bool is_ours(const struct spf_check *check, const struct dns_query *answer)
{
    bool is_ipv6 = check->ip.family == IPADDR_V6;
    uint8_t bits = is_ipv6 ? check->term.bits6 : check->term.bits4;
    struct cidr block = {.ip.family = check->ip.family, .prefix_bits = bits};
    uint16_t cursor = 0;
    struct slice rdata;

    while (dns_record_next(answer, &cursor, &rdata)) {
        memcpy(block.ip.bytes, rdata.data, rdata.len);
        if (cidr_contains(&block, &check->ip))
            return true;
    }
    return false;
}

static enum dns_type address_type(const struct spf_check *check)
{
    return check->ip.family == IPADDR_V6 ? DNS_AAAA : DNS_A;
}

static void on_address(struct dns_lookup *lookup, const struct dns_query *answer)
{
    struct spf_check *check = container_of(lookup, struct spf_check, lookup);

    if (!count_void(check, answer))
        return;
    if (is_ours(check, answer))
        matched(check);
    else
        unmatched(check);
}

/* 5.7: an address of IPv4, whoever asks. */
static void on_exists(struct dns_lookup *lookup, const struct dns_query *answer)
{
    struct spf_check *check = container_of(lookup, struct spf_check, lookup);

    if (!count_void(check, answer))
        return;
    if (answer->status == DNS_OK)
        matched(check);
    else
        unmatched(check);
}

static void on_mx_address(struct dns_lookup *lookup, const struct dns_query *answer)
{
    struct spf_check *check = container_of(lookup, struct spf_check, lookup);

    if (is_failure(answer))
        fail(check, SPF_TEMPERROR, "the name servers did not answer");
    else if (is_ours(check, answer))
        matched(check);
    else if (++check->mx_at == check->mx_count)
        unmatched(check);
    else
        ask(check, slice_str(check->mx[check->mx_at]), address_type(check), on_mx_address);
}

static void on_mx(struct dns_lookup *lookup, const struct dns_query *answer)
{
    struct spf_check *check = container_of(lookup, struct spf_check, lookup);
    uint16_t cursor = 0;
    struct slice rdata;

    if (!count_void(check, answer))
        return;
    check->mx_count = 0;
    check->mx_at = 0;
    while (dns_record_next(answer, &cursor, &rdata)) {
        struct slice exchange = slice_after(rdata, 2);

        if (exchange.len == 0)
            continue;
        if (check->mx_count == SPF_MX_COUNT_MAX) {
            fail(check, SPF_PERMERROR, "a domain of an mx term has more than 10 MX hosts");
            return;
        }
        memcpy(check->mx[check->mx_count], exchange.data, exchange.len);
        check->mx[check->mx_count++][exchange.len] = '\0';
    }
    if (check->mx_count == 0)
        unmatched(check);
    else
        ask(check, slice_str(check->mx[0]), address_type(check), on_mx_address);
}

/* 5.5: a confirmed name is the target, or below it. */
static void match_names(struct spf_check *check)
{
    struct slice target = slice_str(check->target);

    for (unsigned i = 0; i < check->names.name_count; i++) {
        struct slice name = slice_str(check->names.names[i]);
        size_t more = name.len >= target.len ? name.len - target.len : 0;

        if (check->names.is_confirmed[i] && name.len >= target.len &&
            (more == 0 || name.data[more - 1] == '.') &&
            slice_equal_nocase(slice_after(name, more), target)) {
            matched(check);
            return;
        }
    }
    unmatched(check);
}

/* ---- Terms ----------------------------------------------------------------------------------- */

static void evaluate(struct spf_check *check)
{
    struct slice target;

    if (!find_target(check)) {
        if (check->term.kind == SPF_INCLUDE)
            fail(check, SPF_PERMERROR, "include of no domain");
        else
            unmatched(check);
        return;
    }
    target = slice_str(check->target);
    switch (check->term.kind) {
    case SPF_INCLUDE:
        top(check)->qualifier = (uint8_t)check->term.qualifier;
        keep_mechanism(check, check->term.text);
        open_record(check, false);
        break;
    case SPF_A:
        ask(check, target, address_type(check), on_address);
        break;
    case SPF_MX:
        ask(check, target, DNS_MX, on_mx);
        break;
    case SPF_PTR:
        match_names(check);
        break;
    default:
        must(check->term.kind == SPF_EXISTS);
        ask(check, target, DNS_A, on_exists);
    }
}

static void on_names(void *context, struct rdns *names)
{
    struct spf_check *check = context;

    check->has_names = true;
    /* 5.5: where the names cannot be found out, the term does not match. */
    if (names->name_count == 0 && check->void_count++ >= SPF_VOID_COUNT_MAX)
        fail(check, SPF_PERMERROR, "more than 2 look-ups found nothing");
    else if (check->term.kind == SPF_REDIRECT)
        follow_redirect(check);
    else
        evaluate(check);
}

static void ask_names(struct spf_check *check)
{
    rdns_start(&check->names, check->dns, &check->ip, on_names, check);
}

/* True when an answer is waited for, or the check is over. */
static bool run_term(struct spf_check *check)
{
    switch (check->term.kind) {
    case SPF_REDIRECT:
    case SPF_EXP:
    case SPF_OTHER:
        return false;
    case SPF_ALL:
        matched(check);
        return true;
    case SPF_IP4:
    case SPF_IP6:
        if (!cidr_contains(&check->term.block, &check->ip)) {
            note(check, check->term.text, "does not match");
            return false;
        }
        matched(check);
        return true;
    default:
        if (!count_lookup(check))
            return true;
        if (wants_names(check))
            ask_names(check);
        else
            evaluate(check);
        return true;
    }
}

static void go_on(struct spf_check *check)
{
    struct spf_frame *frame = top(check);
    const char *terms = check->text + frame->terms;

    for (;;) {
        struct slice rest = slice_of(terms + frame->at, (size_t)(frame->terms_bytes - frame->at));
        int more = spf_term_next(&rest, &check->term);

        must(more >= 0);
        frame->at = (uint16_t)(frame->terms_bytes - rest.len);
        if (more == 0) {
            end_terms(check);
            return;
        }
        if (run_term(check))
            return;
    }
}

/* ---- Beginning and end ----------------------------------------------------------------------- */

static uint16_t keep(struct spf_check *check, size_t *at, struct slice text)
{
    size_t room = sizeof(check->identity) - *at;
    size_t len = text.len < room ? text.len : room;

    if (len > 0)
        memcpy(check->identity + *at, text.data, len);
    *at += len;
    return (uint16_t)len;
}

void spf_start(struct spf_check *check, struct dns *dns, const struct spf_question *question,
               void (*on_done)(void *context, const struct spf_answer *answer), void *context)
{
    size_t at = 0;
    struct slice domain = question->domain;

    check->dns = dns;
    check->on_done = on_done;
    check->context = context;
    check->ip = question->ip;
    check->has_names = false;
    check->names.name_count = 0;
    check->lookup_count = 0;
    check->void_count = 0;
    check->depth = 0;
    check->text_bytes = 0;
    check->term = (struct spf_term){.text = SLICE_EMPTY};
    check->answer = (struct spf_answer){.why = ""};
    check->local_bytes = keep(check, &at, question->local);
    check->domain_bytes = keep(check, &at, question->domain);
    check->helo_bytes = keep(check, &at, question->helo);
    /* Longer than any name: it does not exist. */
    if (domain.len > DNS_NAME_MAX)
        domain.len = DNS_NAME_MAX;
    memcpy(check->target, domain.data, domain.len);
    check->target[domain.len] = '\0';
    open_record(check, false);
}

void spf_stop(struct spf_check *check)
{
    rdns_stop(&check->names);
    if (check->dns)
        dns_forget(check->dns, &check->lookup);
}
