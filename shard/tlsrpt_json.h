/*
 * tlsrpt_json: a domain's report about TLS as RFC 8460 4.4 writes it, in JSON and by gzip.
 *
 * A function of its arguments, on control's thread; what it returns is the caller's to free. Octets
 * that are no ASCII text become '?'.
 */
#pragma once

#include "shard/policy/tlsrpt_book.h"

struct tlsrpt_report {
    const char *organization;
    const char *contact;
    const char *id;
    int64_t from_s; /* wall clock; the span ends just before until_s */
    int64_t until_s;
    const struct tlsrpt_domain *domain;
    bool has_details; /* of failures; the sums stand there without them too */
};

/* NUL-terminated; freed with mem_free. NULL when memory is short. */
char *tlsrpt_json(const struct tlsrpt_report *report);
/* Freed with mem_free. NULL when memory is short. */
uint8_t *tlsrpt_gzip(struct slice octets, size_t *ret_bytes);
