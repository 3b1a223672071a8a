/*
 * dns_answer: the content of a DNS answer: names, and records in the form of struct dns_query.
 *
 * What comes from DNS is hostile (A28): every name and every record passes through here, once where
 * an answer is made (the resolver, a scripted one) and once more where it is taken in. Pure, no
 * allocation, any thread.
 */
#pragma once

#include "net/dns.h"

/*
 * Lower case, no trailing dot, NUL-terminated into room of DNS_NAME_MAX + 1 bytes. The length, or
 * E_TOO_LONG, or E_SYNTAX: empty, an empty label or one above 63 bytes, or a byte other than a
 * letter, a digit, '-' or '_'.
 */
int dns_name_normalise(struct slice name, char *room);

/* Appends a record in the form of struct dns_query. False when there is no room or it is wrong. */
bool dns_answer_put(struct dns_query *answer, struct slice rdata);
/* The same from the rdata of a message, uncompressed, of the type that was asked for. */
bool dns_answer_put_wire(struct dns_query *answer, struct slice rdata);
/*
 * Leaves out records that are wrong. An answer that says DNS_OK without one good record becomes
 * DNS_FAILURE, one that says anything else has no records.
 */
void dns_answer_check(struct dns_query *answer);

/* A record of type MX: its preference, and its exchange as in struct dns_query ("" = null MX). */
uint16_t dns_mx_preference(struct slice rdata);
struct slice dns_mx_exchange(struct slice rdata);
