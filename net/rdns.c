#include "net/rdns.h"

#include <stdio.h>

size_t rdns_labels(const struct ipaddr *ip, bool is_reversed, char room[RDNS_QUESTION_MAX])
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *b = ip->bytes;
    size_t used = 0;

    if (ip->family == IPADDR_V4 && is_reversed)
        return (size_t)snprintf(room, RDNS_QUESTION_MAX, "%u.%u.%u.%u", b[3], b[2], b[1], b[0]);
    if (ip->family == IPADDR_V4)
        return (size_t)snprintf(room, RDNS_QUESTION_MAX, "%u.%u.%u.%u", b[0], b[1], b[2], b[3]);
    for (unsigned i = 0; i < 32; i++) {
        unsigned at = is_reversed ? 31 - i : i;

        room[used++] = digits[at % 2 == 0 ? b[at / 2] >> 4 : b[at / 2] & 15];
        room[used++] = '.';
    }
    room[--used] = '\0';
    return used;
}

const char *rdns_name(const struct rdns *rdns)
{
    for (unsigned i = 0; i < rdns->name_count; i++) {
        if (rdns->is_confirmed[i])
            return rdns->names[i];
    }
    return "";
}

static void finish(struct rdns *rdns, enum rdns_result result)
{
    rdns->result = (uint8_t)result;
    rdns->on_done(rdns->context, rdns);
}

static void ask_next(struct rdns *rdns);

static void on_address(struct dns_lookup *lookup, const struct dns_query *answer)
{
    struct rdns *rdns = container_of(lookup, struct rdns, lookup);
    uint16_t cursor = 0;
    struct slice rdata;

    rdns->has_failed |= answer->status == DNS_FAILURE || answer->status == DNS_TIMEOUT;
    while (dns_record_next(answer, &cursor, &rdata)) {
        if (memcmp(rdata.data, rdns->ip.bytes, rdata.len) == 0)
            rdns->is_confirmed[rdns->at] = true;
    }
    rdns->at++;
    ask_next(rdns);
}

static void ask_next(struct rdns *rdns)
{
    if (rdns->at < rdns->name_count) {
        rdns->lookup.on_answer = on_address;
        dns_ask(rdns->dns, &rdns->lookup, slice_str(rdns->names[rdns->at]),
                rdns->ip.family == IPADDR_V6 ? DNS_AAAA : DNS_A);
        return;
    }
    finish(rdns, rdns_name(rdns)[0] != '\0' ? RDNS_PASS
                 : rdns->has_failed         ? RDNS_TEMPERROR
                                            : RDNS_FAIL);
}

static void on_names(struct dns_lookup *lookup, const struct dns_query *answer)
{
    struct rdns *rdns = container_of(lookup, struct rdns, lookup);
    uint16_t cursor = 0;
    struct slice name;

    if (answer->status == DNS_FAILURE || answer->status == DNS_TIMEOUT) {
        finish(rdns, RDNS_TEMPERROR);
        return;
    }
    while (rdns->name_count < RDNS_NAMES_MAX && dns_record_next(answer, &cursor, &name)) {
        memcpy(rdns->names[rdns->name_count], name.data, name.len);
        rdns->names[rdns->name_count++][name.len] = '\0';
    }
    if (rdns->name_count == 0)
        finish(rdns, RDNS_PERMERROR);
    else
        ask_next(rdns);
}

void rdns_start(struct rdns *rdns, struct dns *dns, const struct ipaddr *ip,
                void (*on_done)(void *context, struct rdns *rdns), void *context)
{
    char question[RDNS_QUESTION_MAX];
    size_t len = rdns_labels(ip, true, question);

    rdns->dns = dns;
    rdns->on_done = on_done;
    rdns->context = context;
    rdns->ip = *ip;
    rdns->name_count = 0;
    rdns->at = 0;
    rdns->has_failed = false;
    memset(rdns->is_confirmed, 0, sizeof(rdns->is_confirmed));
    snprintf(question + len, sizeof(question) - len, "%s",
             ip->family == IPADDR_V6 ? ".ip6.arpa" : ".in-addr.arpa");
    rdns->lookup.on_answer = on_names;
    dns_ask(dns, &rdns->lookup, slice_str(question), DNS_PTR);
}

void rdns_stop(struct rdns *rdns)
{
    if (rdns->dns != NULL)
        dns_forget(rdns->dns, &rdns->lookup);
}
