/* block: address blocks beyond what core/base knows. Pure functions. */
#pragma once

#include "core/base/ipaddr.h"

/* The block of so many prefix bits that holds ip; bits behind the prefix are zero. */
struct cidr cidr_of(const struct ipaddr *ip, uint8_t prefix_bits);
