/*
 * proxy_header: what a connection says to a proxy before anything else (the PROXY protocol of
 * HAProxy, versions 1 and 2): which address it is to come from and where it is to go. Pure; any
 * thread.
 */
#pragma once

#include "core/base/ipaddr.h"

#include <stddef.h>

/* 107 octets of version 1, section 2.1 of its specification; version 2 takes 52 at most. */
#define PROXY_HEADER_BYTES_MAX 108

/* source and target are of one family; the port of the source is left to the proxy (0). Writes into
 * room[PROXY_HEADER_BYTES_MAX] and returns the length. version: 1 or 2. */
size_t proxy_header_write(unsigned version, const struct ipaddr *source,
                          const struct ipaddr_port *target, uint8_t *room);
