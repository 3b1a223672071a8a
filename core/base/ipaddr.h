/*
 * ipaddr: IPv4 and IPv6 addresses, with ports and CIDR blocks, as plain values.
 *
 * Bytes are in network order. A v4-mapped IPv6 address is turned into IPv4 when parsed, so that no
 * rule about 127/8 can be passed by writing ::ffff:127.0.0.1. Compare with the functions below.
 */
#pragma once

#include "core/base/slice.h"
#include "core/base/wire.h"

struct sockaddr;

enum ipaddr_family {
    IPADDR_NONE = 0,
    IPADDR_V4 = 4,
    IPADDR_V6 = 6,
};

struct ipaddr {
    uint8_t family; /* enum ipaddr_family */
    uint8_t bytes[16];
};

struct ipaddr_port {
    struct ipaddr ip;
    uint16_t port;
};

struct cidr {
    struct ipaddr ip;
    uint8_t prefix_bits;
};

#define IPADDR_TEXT_MAX 48 /* with NUL, without port */

/* "192.0.2.1", "2001:db8::1"; E_SYNTAX otherwise. */
int ipaddr_parse(struct slice text, struct ipaddr *ret_ip);
/* "192.0.2.0/24", "192.0.2.0/255.255.255.0", a bare address, or PowerMTA's short forms "10/8" and
 * "0/0". E_SYNTAX, E_RANGE or E_HOLES otherwise. */
int cidr_parse(struct slice text, struct cidr *ret_cidr);
/* What is wrong with a text for which cidr_parse gave that code, to be read behind the text. */
const char *cidr_why(int code);
/* NUL-terminated into room of IPADDR_TEXT_MAX bytes; returns its length. */
size_t ipaddr_format(const struct ipaddr *ip, char *room);
bool ipaddr_equal(const struct ipaddr *a, const struct ipaddr *b);
bool cidr_contains(const struct cidr *block, const struct ipaddr *ip);
bool ipaddr_is_loopback(const struct ipaddr *ip);
/* Unspecified (0.0.0.0/8, ::), multicast, broadcast, reserved: never a destination. */
bool ipaddr_is_never_unicast(const struct ipaddr *ip);
/* RFC 1918, RFC 6598, link-local, unique local. */
bool ipaddr_is_private(const struct ipaddr *ip);
uint64_t ipaddr_hash(const struct ipaddr *ip);
/* What a limit per address counts by: an IPv4 address itself, the /64 of an IPv6 address (one host
 * has all of it, RFC 4291 2.5.1), the IPv4 address of a mapped one. */
struct ipaddr ipaddr_limit_key(const struct ipaddr *ip);
/* room: a struct sockaddr_storage. Returns the length to pass to the system. */
unsigned ipaddr_to_sockaddr(const struct ipaddr_port *at, struct sockaddr *room);
int ipaddr_from_sockaddr(const struct sockaddr *from, struct ipaddr_port *ret_at);
/* On disk: u8 family, then 0, 4 or 16 bytes. An unknown family sets r->failed. */
void ipaddr_put(struct wire_writer *w, const struct ipaddr *ip);
void ipaddr_get(struct wire_reader *r, struct ipaddr *ret_ip);
