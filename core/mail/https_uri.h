/*
 * https_uri: an address of the Web that a stranger names for something to be sent to (RFC 9110
 * 4.2.2), as narrow as such addresses are: "https://HOST[:PORT][/PATH][?QUERY]".
 *
 * What another program makes of it must be what is read here, so that nothing is let through that
 * could be read in two ways: the host is a name of several labels, the last of which begins with a
 * letter, so that no way of writing an address of IP is one; no user, no fragment, no octet that
 * RFC 3986 does not have, no "!", ";" or "," (RFC 8460 3 wants them encoded). Pure.
 */
#pragma once

#include "core/base/slice.h"

#define HTTPS_URI_MAX  1000u
#define HTTPS_HOST_MAX 253u

struct https_uri {
    struct slice host;
    uint16_t port;
};

/* False for what is none. The host lies in the octets of `text`. */
bool https_uri_parse(struct slice text, struct https_uri *ret_uri);
