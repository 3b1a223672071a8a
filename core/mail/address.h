/*
 * address: mail addresses of an envelope, as RFC 5321 and RFC 6531 write them.
 *
 * One strict parse decides both routing and the wire (A17): `text` is what goes out between the
 * angle brackets, unchanged, and `host` is where it goes; nothing ever looks for another '@' in
 * `text`. Comments, blanks and obsolete forms belong to headers and are refused. A source route is
 * checked and dropped (RFC 5321 appendix C), so that it reaches neither routing nor the wire.
 * Linear time, no recursion. Any thread; allocates only for a domain with non-ASCII letters
 * (inside libidn2).
 */
#pragma once

#include "core/base/ipaddr.h"
#include "core/base/slice.h"

/* RFC 5321 4.5.3.1, in octets; a path counts its angle brackets. */
#define ADDRESS_LOCAL_MAX  64
#define ADDRESS_DOMAIN_MAX 255
#define ADDRESS_PATH_MAX   256
/* What DNS can carry of a domain in text form (RFC 1035), and thus what can be routed. */
#define ADDRESS_HOST_MAX   253

struct address {
    struct slice text;     /* local@domain as written; empty = the null reverse path */
    struct slice local;    /* part of text, quotes included */
    struct slice domain;   /* part of text, brackets of a literal included */
    struct ipaddr literal; /* IPADDR_NONE unless the domain is an address literal */
    bool is_utf8;          /* text has octets above 127: goes only to SMTPUTF8 receivers */
    bool is_local_only;    /* "postmaster" alone, RFC 5321 4.5.1: no domain, no host */
    uint8_t host_bytes;
    /* The domain for routing: lower-case A-label, or "[192.0.2.1]", "[2001:db8::1]" in the one
     * form of ipaddr_format. NUL-terminated. */
    char host[ADDRESS_HOST_MAX + 1];
};

enum address_flags {
    ADDRESS_ALLOW_UTF8 = 1,       /* the client said SMTPUTF8 */
    ADDRESS_ALLOW_NULL = 2,       /* "<>" */
    ADDRESS_ALLOW_POSTMASTER = 4, /* "<postmaster>" */
    /* A local part without quotes as long as a path may be: senders with a recipient in them (VERP)
     * are longer than RFC 5321 asks everybody to take, and are taken nearly everywhere. */
    ADDRESS_ALLOW_LONG_LOCAL = 8,
};

/*
 * The whole of text is a mailbox, without brackets. 0; E_SYNTAX; E_TOO_LONG; E_REFUSED for octets
 * above 127 that flags do not allow. The slices of *ret_address point into text.
 */
int address_parse(struct slice text, unsigned flags, struct address *ret_address);

/*
 * A path in angle brackets at the front of text, optionally with a source route. *ret_used is its
 * length with both brackets. Errors as above.
 */
int address_parse_path(struct slice text, unsigned flags, struct address *ret_address,
                       size_t *ret_used);

static inline struct slice address_host(const struct address *address)
{
    return (struct slice){(const uint8_t *)address->host, address->host_bytes};
}

/* A domain name or an address literal on its own, as EHLO and routing tables have it; ret_host has
 * room for ADDRESS_HOST_MAX + 1. Returns the length of the routing form, or an error as above. */
int address_domain_parse(struct slice text, unsigned flags, char *ret_host);
