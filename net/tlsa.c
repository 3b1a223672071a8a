/*
 *   CNAME of the host → CNAME of what that says → … → TLSA of the last name → TLSA of the host
 *
 * The addresses' security covers the whole chain of aliases, so the last name counts only where
 * they are secure. Where they are not, the first alias may still stand in a signed zone: the host's
 * own name counts then (RFC 7672 2.2.2).
 */
#include "net/tlsa.h"

#include <stdio.h>

#define ALIAS_COUNT_MAX 8

static void finish(struct tlsa_search *search, enum tlsa_status status)
{
    search->status = (uint8_t)status;
    search->on_done(search);
}

static bool is_failure(const struct dns_query *answer)
{
    return answer->status == DNS_FAILURE || answer->status == DNS_TIMEOUT;
}

static struct tlsa_search *note(struct dns_lookup *lookup, const struct dns_query *answer)
{
    struct tlsa_search *search = container_of(lookup, struct tlsa_search, lookup);

    if (answer->ttl_s < search->ttl_s)
        search->ttl_s = answer->ttl_s;
    return search;
}

static void ask_records(struct tlsa_search *search);

static void on_records(struct dns_lookup *lookup, const struct dns_query *answer)
{
    struct tlsa_search *search = note(lookup, answer);

    if (is_failure(answer)) {
        finish(search, TLSA_FAILED);
    } else if (answer->status == DNS_OK && answer->is_secure) {
        search->records = slice_of(answer->data, answer->data_bytes);
        finish(search, TLSA_FOUND);
    } else if (strcmp(search->base, search->host) != 0) {
        memcpy(search->base, search->host, sizeof(search->base));
        ask_records(search);
    } else {
        finish(search, TLSA_NONE);
    }
}

static void ask_records(struct tlsa_search *search)
{
    char name[DNS_NAME_MAX + sizeof("_65535._tcp.")];
    int len = snprintf(name, sizeof(name), "_%u._tcp.%s", search->port, search->base);

    search->lookup.on_answer = on_records;
    dns_ask(search->dns, &search->lookup, slice_of(name, (size_t)len), DNS_TLSA);
}

static void on_alias(struct dns_lookup *lookup, const struct dns_query *answer)
{
    struct tlsa_search *search = note(lookup, answer);
    struct slice target;
    uint16_t cursor = 0;

    if (is_failure(answer)) {
        finish(search, TLSA_FAILED);
    } else if (answer->status == DNS_OK && answer->is_secure &&
               search->alias_count < ALIAS_COUNT_MAX && dns_record_next(answer, &cursor, &target)) {
        memcpy(search->base, target.data, target.len);
        search->base[target.len] = '\0';
        search->alias_count++;
        dns_ask(search->dns, &search->lookup, target, DNS_CNAME);
    } else if (search->is_secure) {
        ask_records(search);
    } else if (search->alias_count > 0) {
        memcpy(search->base, search->host, sizeof(search->base));
        ask_records(search);
    } else {
        finish(search, TLSA_NONE);
    }
}

void tlsa_search_start(struct tlsa_search *search, struct dns *dns, const char *host, uint16_t port,
                       bool is_secure, void (*on_done)(struct tlsa_search *search))
{
    search->dns = dns;
    search->on_done = on_done;
    search->port = port;
    search->is_secure = is_secure;
    search->alias_count = 0;
    search->ttl_s = UINT32_MAX;
    search->records = SLICE_EMPTY;
    snprintf(search->host, sizeof(search->host), "%s", host);
    memcpy(search->base, search->host, sizeof(search->base));
    search->lookup.on_answer = on_alias;
    dns_ask(dns, &search->lookup, slice_str(search->host), DNS_CNAME);
}

void tlsa_search_stop(struct tlsa_search *search)
{
    dns_forget(search->dns, &search->lookup);
}
